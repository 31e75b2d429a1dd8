//! The clients of the API server: its address, the agent's identity, and when to connect anew (after a token was rotated, or
//! on a dead connection).

use std::sync::{Arc, Mutex, PoisonError};
use std::task::{Context as Poller, Poll};

use anyhow::Context;
use futures::FutureExt;
use futures::future::BoxFuture;
use http::{Request, Response, StatusCode};
use http_body_util::{BodyExt, Limited};
use kube::Client;
use kube::client::{Body, ClientBuilder};
use tokio::sync::{Notify, OwnedSemaphorePermit, Semaphore};
use tokio::time::timeout;
use tower::timeout::TimeoutLayer;
use tower::util::MapResponseLayer;
use tower::{BoxError, Service};
use tracing::warn;

use super::kubeconfig::{connection, explained, is_token};
use super::timeouts::{ANSWER_WITHIN, CONNECT_WITHIN, HEADERS_WITHIN, PING_WITHIN};
use crate::config::Config;

/// At most so many requests are sent a second time at once. If more are late, the server is slow, not their connections; and
/// each costs the server a request, and the agent the buffers of a connection.
const HEDGES: usize = 16;
/// At most so many bytes of the answer to a ping are read. It is an empty list of some hundred bytes.
const PONG_SIZE: usize = 64 * 1024;

/// Signs of life of the API server.
#[derive(Clone, Debug, Default)]
pub struct Contact {
    good: Arc<Notify>,
    any: Arc<Notify>,
}

impl Contact {
    /// Waits for the next successful answer to a list or a watch.
    pub async fn made(&self) {
        self.good.notified().await;
    }

    /// Waits for the next answer of the server to any request. The answer of a proxy that cannot reach the server does not
    /// count.
    pub async fn answered(&self) {
        self.any.notified().await;
    }

    fn heard(&self, status: StatusCode) {
        if !is_of_a_proxy(status) {
            self.any.notify_one();
        }
    }
}

/// 502, 503, 504: the answer of something in front of a server that does not answer.
fn is_of_a_proxy(status: StatusCode) -> bool {
    matches!(status, StatusCode::BAD_GATEWAY | StatusCode::SERVICE_UNAVAILABLE | StatusCode::GATEWAY_TIMEOUT)
}

/// The address of the API server, and the credentials.
///
/// # Errors
/// If the kubeconfig or the service account cannot be read.
pub fn kube_config(config: &Config) -> anyhow::Result<kube::Config> {
    let kube = match &config.kubeconfig[..] {
        [] => kube::Config::incluster()
            .context("not in a cluster (no service account): give --kubeconfig for a run outside a cluster")?,
        files => connection(files, config.context.as_deref())?,
    };
    Ok(fitted(kube))
}

/// Changes those of kube's defaults that do not fit.
#[must_use]
pub fn fitted(mut kube: kube::Config) -> kube::Config {
    if kube.cluster_url.scheme_str() == Some("http") && kube.root_cert.is_none() {
        // Without TLS there is nothing to trust; but kube would load the system's certificates, and fail if there are none,
        // as in the image.
        kube.root_cert = Some(Vec::new());
    }
    // kube would repeat a 429 many times on its own. When to try again is for the controller to decide.
    kube.default_retry = false;
    kube.connect_timeout = Some(CONNECT_WITHIN);
    kube
}

/// Impersonates the node: `Impersonate-User: system:node:NODE` on every request, without group, extra or uid, which only the
/// legacy verb `impersonate` would allow (measured).
#[must_use]
pub fn as_node(mut kube: kube::Config, node: &str) -> kube::Config {
    let who = &mut kube.auth_info;
    who.impersonate = Some(format!("system:node:{node}"));
    who.impersonate_uid = None;
    who.impersonate_groups = None;
    who.impersonate_user_extra = None;
    kube
}

/// A client for the list and the watch.
///
/// # Errors
/// When a certificate, a key or a token cannot be read.
pub fn reading(kube: kube::Config, contact: &Contact) -> anyhow::Result<Client> {
    let heard = contact.clone();
    let heard = MapResponseLayer::new(move |response: Response<_>| {
        if response.status().is_success() {
            heard.good.notify_one();
        }
        response
    });
    let (builder, _) = renewing(kube, contact)?;
    Ok(builder.with_layer(&TimeoutLayer::new(HEADERS_WITHIN)).with_layer(&heard).build())
}

/// A client for evictions. It has connections of its own, so that no eviction waits behind a list.
///
/// # Errors
/// When a certificate, a key or a token cannot be read.
pub fn writing(kube: kube::Config, contact: &Contact) -> anyhow::Result<RenewableClient> {
    let (builder, pool) = renewing(kube, contact)?;
    Ok(RenewableClient { client: with_answer_timeout(builder), pool, hedges: Arc::new(Semaphore::new(HEDGES)) })
}

fn with_answer_timeout(builder: ClientBuilder<Renewing>) -> Client {
    builder.with_layer(&TimeoutLayer::new(ANSWER_WITHIN)).build()
}

/// A client that can abandon its connections and make new ones.
#[derive(Clone)]
pub struct RenewableClient {
    client: Client,
    pool: Renewing,
    hedges: Arc<Semaphore>,
}

impl RenewableClient {
    /// It stays valid when its connections are abandoned.
    #[must_use]
    pub fn client(&self) -> &Client {
        &self.client
    }

    /// Abandons the connections that existed when this was called, because one of them may have died silently. Requests that
    /// were sent go on; later ones use new connections.
    ///
    /// Call it before a request is sent, and await the future if nobody answers. Requests that are late at the same time
    /// share the new connections.
    fn renewal(&self) -> impl Future<Output = ()> + Send + use<> {
        let (pool, before) = (self.pool.clone(), self.pool.now().0);
        async move {
            // Blocking: it reads files, and may run the command of a kubeconfig.
            let made = tokio::task::spawn_blocking(move || pool.renew(before));
            if let Err(error) = made.await {
                warn!(%error, "cannot make an API client");
            }
        }
    }

    /// Another client, with a connection of its own, for a request that is late. Call it before the request is sent, and await
    /// the future if it is late. The future waits until fewer than `HEDGES` others are in use; `None`: no client can be made.
    pub fn another(&self) -> impl Future<Output = Option<Spare>> + Send + use<> {
        let (line, renewal) = (self.clone(), self.renewal().boxed());
        async move {
            let permit = Arc::clone(&line.hedges).acquire_owned().await.ok()?;
            let made = tokio::task::spawn_blocking(move || renewing(line.pool.kube, &line.pool.contact)).await;
            match made.map_err(anyhow::Error::from).flatten() {
                Ok((builder, _)) => Some(Spare { client: with_answer_timeout(builder), renewal, _permit: permit }),
                Err(error) => {
                    warn!("{error:#}");
                    None
                }
            }
        }
    }

    /// Opens a connection, keeps one open, or finds it dead, with a LIST of this node's pods that matches nothing. It needs no
    /// permission beyond those for the watch. Returns whether the server answered.
    ///
    /// `renew`: if there is no answer, abandon the connection and try once more.
    pub async fn ping(&self, node: &str, renew: bool) -> bool {
        let question = format!(
            "/api/v1/pods?fieldSelector=spec.nodeName%3D{node}%2Cmetadata.name%3Dkeeps-a-connection-open&resourceVersion=0"
        );
        self.ask(&question, renew).await
    }

    /// The same for an account that may not list pods: it asks for the server's version, as anybody may.
    pub async fn ping_by_version(&self, renew: bool) -> bool {
        self.ask("/version", renew).await
    }

    async fn ask(&self, question: &str, renew: bool) -> bool {
        let renewal = self.renewal();
        match timeout(PING_WITHIN, self.ask_once(question)).await {
            Ok(answered) => answered,
            Err(_) if renew => {
                renewal.await;
                timeout(PING_WITHIN, self.ask_once(question)).await.unwrap_or(false)
            }
            Err(_) => false,
        }
    }

    async fn ask_once(&self, question: &str) -> bool {
        let Ok(request) = Request::get(question).body(Body::empty()) else { return false };
        let Ok(response) = self.client.send(request).await else { return false };
        let (head, body) = response.into_parts();
        // To its end, or the connection could not be used again.
        let read = Limited::new(body, PONG_SIZE).collect().await.is_ok();
        read && !is_of_a_proxy(head.status)
    }
}

/// A client for one late request; see [`RenewableClient::another`].
pub struct Spare {
    client: Client,
    renewal: BoxFuture<'static, ()>,
    _permit: OwnedSemaphorePermit,
}

impl Spare {
    #[must_use]
    pub fn client(&self) -> &Client {
        &self.client
    }

    /// The server answered the second request and not the first: abandons the first one's connection.
    pub fn was_first(self) {
        tokio::spawn(self.renewal);
    }
}

fn renewing(kube: kube::Config, contact: &Contact) -> anyhow::Result<(ClientBuilder<Renewing>, Renewing)> {
    let namespace = kube.default_namespace.clone();
    let current = Arc::new(Mutex::new((0, fresh(&kube)?)));
    let renewing = Renewing { kube, current, contact: contact.clone() };
    Ok((ClientBuilder::new(renewing.clone(), namespace), renewing))
}

/// A client with connections of its own.
///
/// # Errors
/// When a certificate, a key or a token cannot be read.
pub fn fresh(kube: &kube::Config) -> anyhow::Result<Client> {
    let mut kube = kube.clone();
    let user = &mut kube.auth_info;
    // kube 5.0.0 would send a line's end with the token, and fail. It reads the file again by itself; this client does so
    // only when it is made anew, as after a 401.
    if let (None, Some(file)) = (&user.token, &user.token_file)
        && let Ok(text) = std::fs::read_to_string(file)
        && text.trim() != text
        && is_token(text.trim())
    {
        user.token = Some(text.trim().into());
    }
    let builder = ClientBuilder::try_from(kube.clone()).map_err(|error| explained(&error, &kube))?;
    Ok(builder.build())
}

/// Sends each request with the current client of kube, which it replaces after a 401 and on a dead connection.
///
/// kube 5.0.0 reads a token file when the client is made, and again after 50 s, but not after a 401: without this, a token
/// that was revoked or rotated early would refuse evictions for that long. A token that an exec plugin gave without an
/// expiry, or a client certificate, kube never renews.
#[derive(Clone)]
struct Renewing {
    kube: kube::Config,
    /// The client, and the number of those before it.
    current: Arc<Mutex<(u64, Client)>>,
    contact: Contact,
}

impl Renewing {
    fn now(&self) -> (u64, Client) {
        self.current.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Replaces the client of this number, unless that was done already.
    fn renew(&self, number: u64) {
        if self.now().0 != number {
            return;
        }
        match fresh(&self.kube) {
            Ok(client) => {
                let mut current = self.current.lock().unwrap_or_else(PoisonError::into_inner);
                // Another task may have replaced it meanwhile, by one that is as good.
                if current.0 == number {
                    *current = (number + 1, client);
                }
            }
            Err(error) => warn!("{error:#}"),
        }
    }
}

impl Service<Request<Body>> for Renewing {
    type Response = Response<Body>;
    type Error = BoxError;
    type Future = BoxFuture<'static, Result<Response<Body>, BoxError>>;

    fn poll_ready(&mut self, _: &mut Poller<'_>) -> Poll<Result<(), BoxError>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, request: Request<Body>) -> Self::Future {
        let own = self.clone();
        async move {
            let (number, client) = own.now();
            let response = client.send(request).await?;
            own.contact.heard(response.status());
            if response.status() == StatusCode::UNAUTHORIZED {
                own.renew(number);
            }
            Ok(response)
        }
        .boxed()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::time::Duration;

    #[test]
    fn a_node_is_asked_as_without_anything_else() {
        let mut kube = kube::Config::new("http://127.0.0.1:1".parse().unwrap());
        kube.auth_info.impersonate = Some("admin".into());
        kube.auth_info.impersonate_uid = Some("0".into());
        kube.auth_info.impersonate_groups = Some(vec!["system:masters".into()]);
        kube.auth_info.impersonate_user_extra = Some([("a".to_owned(), vec!["b".to_owned()])].into());
        let who = as_node(kube, "n1").auth_info;
        assert_eq!(who.impersonate.as_deref(), Some("system:node:n1"));
        assert!(who.impersonate_uid.is_none() && who.impersonate_groups.is_none());
        assert!(who.impersonate_user_extra.is_none());
    }

    use futures::FutureExt;
    use kube::config::{KubeConfigOptions, Kubeconfig};
    use standin::{Fault, Standin, pod};
    use tokio::time::Instant;

    use crate::act::answer::Answer;
    use crate::act::evict::evict;
    use crate::act::order::{Act, Order};
    use crate::act::timeouts::HEDGE_AFTER;
    use crate::pods::{PodRef, PodUid};

    fn on<T>(then: impl Future<Output = T>) -> T {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        runtime.block_on(then)
    }

    async fn line(server: &Standin, contact: &Contact) -> RenewableClient {
        let kubeconfig = Kubeconfig::from_yaml(&server.kubeconfig()).unwrap();
        let kube = kube::Config::from_custom_kubeconfig(kubeconfig, &KubeConfigOptions::default()).await.unwrap();
        writing(fitted(kube), contact).unwrap()
    }

    fn order(server: &Standin) -> Order {
        let uid = server.put_pod(pod("demo", "web").build())["metadata"]["uid"].as_str().unwrap().to_owned();
        let pod = PodRef { namespace: "demo".into(), name: "web".into(), uid: PodUid(uid) };
        Order { pod, act: Act::Evict, grace: None, resize: None, dry_run: false }
    }

    /// A connection that is open and swallows what is sent costs an eviction a second, not thirty.
    #[test]
    fn an_eviction_leaves_a_dead_connection_behind() {
        let server = Standin::start();
        let order = order(&server);
        on(async {
            let line = line(&server, &Contact::default()).await;
            assert!(line.ping("node-host", true).await);
            server.silence_connections();
            let begin = Instant::now();
            assert_eq!(evict(line.client(), line.another(), &order).await, Answer::Accepted);
            let took = begin.elapsed();
            assert!(took >= HEDGE_AFTER && took < Duration::from_secs(2), "{took:?}");
            // From now on the dead one is not used.
            while line.pool.now().0 == 0 {
                tokio::time::sleep(Duration::from_millis(5)).await;
            }
            let begin = Instant::now();
            assert_eq!(evict(line.client(), line.another(), &order).await, Answer::Accepted);
            assert!(begin.elapsed() < HEDGE_AFTER);
        });
        assert_eq!(server.connections(), 3, "the dead one, the spare, and a new one");
    }

    /// If the server is only slow, the request is sent twice at most, with the same precondition, and the connection is kept.
    #[test]
    fn an_eviction_that_is_late_is_asked_for_twice_at_most() {
        let server = Standin::start();
        let order = order(&server);
        let late = Duration::from_millis(2500);
        server.fault(Fault::on("POST", "/eviction").always().delay(late));
        on(async {
            let line = line(&server, &Contact::default()).await;
            let begin = Instant::now();
            let (one, other) =
                (evict(line.client(), line.another(), &order), evict(line.client(), line.another(), &order));
            assert_eq!(futures::future::join(one, other).await, (Answer::Accepted, Answer::Accepted));
            let took = begin.elapsed();
            assert!(took >= late && took < late + HEDGE_AFTER, "the first one's answer: {took:?}");
            tokio::time::sleep(HEDGE_AFTER).await;
            assert_eq!(line.pool.now().0, 0, "the first one was answered");
        });
        let asked = server.requests_to("POST", "/web/eviction");
        assert_eq!(asked.len(), 4);
        let wanted = serde_json::json!({"preconditions": {"uid": order.pod.uid.0}});
        assert!(asked.iter().all(|r| r.body["deleteOptions"] == wanted), "{asked:?}");
    }

    #[test]
    fn a_ping_finds_a_dead_connection_and_leaves_it_behind() {
        let server = Standin::start();
        let order = order(&server);
        on(async {
            let line = line(&server, &Contact::default()).await;
            assert!(line.ping("node-host", true).await);
            assert!(line.ping("node-host", true).await);
            assert_eq!(server.connections(), 1, "it is kept");
            server.silence_connections();
            let begin = Instant::now();
            assert!(!line.ping("node-host", false).await);
            assert!(begin.elapsed() < PING_WITHIN * 2);
            server.silence_connections();
            assert!(line.ping("node-host", true).await, "by another one");
            let begin = Instant::now();
            assert_eq!(evict(line.client(), line.another(), &order).await, Answer::Accepted);
            assert!(begin.elapsed() < HEDGE_AFTER, "which the eviction uses");
            server.go_away();
            assert!(!line.ping("node-host", true).await);
            server.come_back();
            assert!(line.ping("node-host", true).await);
        });
    }

    /// Any answer of the server is a sign of life, also a refusal; that of a proxy without a server is none.
    #[test]
    fn any_answer_of_the_server_is_a_sign_of_life() {
        let server = Standin::start();
        let contact = Contact::default();
        let heard = || contact.answered().now_or_never().is_some();
        on(async {
            let line = line(&server, &contact).await;
            assert!(!heard());
            for code in [200u16, 400, 401, 403, 404, 429, 500] {
                server.fault(Fault::on("GET", "/pods").answer(code, &[], "words"));
                assert!(line.ping("node-host", true).await, "{code}");
                assert!(heard() && !heard(), "{code}");
            }
            assert!(contact.made().now_or_never().is_none(), "that is for the list and the watch");
            for fault in [502u16, 503, 504].map(|code| Fault::on("GET", "/pods").answer(code, &[], "no upstream")) {
                server.fault(fault);
                assert!(!line.ping("node-host", true).await && !heard());
            }
            server.fault(Fault::on("GET", "/pods").reset());
            assert!(!line.ping("node-host", true).await && !heard());
        });
    }

    /// TCP alone is no connection: whoever accepts it may never speak.
    #[test]
    fn a_handshake_that_hangs_is_given_up() {
        let server = Standin::start_tls();
        let mute = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        let text = server.kubeconfig().replace(&server.address().to_string(), &mute.local_addr().unwrap().to_string());
        on(async {
            let kubeconfig = Kubeconfig::from_yaml(&text).unwrap();
            let kube = kube::Config::from_custom_kubeconfig(kubeconfig, &KubeConfigOptions::default()).await.unwrap();
            let line = writing(fitted(kube), &Contact::default()).unwrap();
            let begin = Instant::now();
            let answered = line.client().apiserver_version().await;
            assert!(answered.is_err());
            let took = begin.elapsed();
            assert!(took >= CONNECT_WITHIN && took < CONNECT_WITHIN + Duration::from_secs(1), "{took:?}");
        });
    }

    /// If many requests are late, the server is slow, and not all of them are sent twice.
    #[test]
    fn only_some_are_asked_for_a_second_time_at_once() {
        let server = Standin::start();
        let order = order(&server);
        server.fault(Fault::on("POST", "/eviction").always().hang_before_headers());
        on(async {
            let line = line(&server, &Contact::default()).await;
            let many = (0..HEDGES + 10).map(|_| evict(line.client(), line.another(), &order));
            let _ = timeout(HEDGE_AFTER * 3, futures::future::join_all(many)).await;
        });
        assert_eq!(server.requests_to("POST", "/eviction").len(), HEDGES + 10 + HEDGES);
    }
}
