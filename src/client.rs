//! The clients of the API server: where it is, as whom it is asked, and how a token that was
//! rotated is read anew.

use std::sync::{Arc, Mutex, PoisonError};
use std::task::{Context as Poller, Poll};
use std::time::Duration;

use anyhow::Context;
use futures::FutureExt;
use futures::future::BoxFuture;
use http::{Request, Response, StatusCode};
use kube::Client;
use kube::client::{Body, ClientBuilder};
use kube::config::{KubeConfigOptions, Kubeconfig};
use tokio::sync::Notify;
use tower::timeout::TimeoutLayer;
use tower::util::MapResponseLayer;
use tower::{BoxError, Service};
use tracing::warn;

use crate::cli::Config;
use crate::evict::ANSWER_WITHIN;

/// A watch whose response headers never come would hang for ever.
const HEADERS_WITHIN: Duration = Duration::from_secs(10);

/// Told by every good answer to a list or watch. kube's watcher itself is silent when a watch that
/// failed goes on.
#[derive(Clone, Debug, Default)]
pub struct Contact(Arc<Notify>);

impl Contact {
    /// Waits for the next good answer.
    pub async fn made(&self) {
        self.0.notified().await;
    }
}

/// Where the API server is, and what proves who asks.
///
/// # Errors
/// When the kubeconfig or the service account cannot be read.
pub async fn kube_config(config: &Config) -> anyhow::Result<kube::Config> {
    let kube = match &config.kubeconfig {
        Some(file) => {
            let options = KubeConfigOptions { context: config.context.clone(), ..KubeConfigOptions::default() };
            let shown = file.display();
            let kubeconfig = Kubeconfig::read_from(file).with_context(|| format!("kubeconfig {shown}"))?;
            kube::Config::from_custom_kubeconfig(kubeconfig, &options)
                .await
                .with_context(|| format!("kubeconfig {shown}"))?
        }
        None => kube::Config::incluster()
            .context("not in a cluster (no service account): give --kubeconfig for a run from a desk")?,
    };
    Ok(fitted(kube))
}

/// What of kube's own ways does not fit us.
#[must_use]
pub fn fitted(mut kube: kube::Config) -> kube::Config {
    if kube.cluster_url.scheme_str() == Some("http") && kube.root_cert.is_none() {
        // Nothing is to be trusted without TLS; kube would ask for the system's certificates, and
        // fail where there are none, as in the image.
        kube.root_cert = Some(Vec::new());
    }
    // kube repeats a 429 many times on its own; when to try again is ours to say.
    kube.default_retry = false;
    kube
}

/// Asks as the node: `Impersonate-User: system:node:NODE` on every request, and no group, extra or
/// uid, which only the legacy verb `impersonate` would allow (measured).
#[must_use]
pub fn as_node(mut kube: kube::Config, node: &str) -> kube::Config {
    let who = &mut kube.auth_info;
    who.impersonate = Some(format!("system:node:{node}"));
    who.impersonate_uid = None;
    who.impersonate_groups = None;
    who.impersonate_user_extra = None;
    kube
}

/// For the list and the watch.
///
/// # Errors
/// When a certificate, a key or a token cannot be read.
pub fn reading(kube: kube::Config, contact: &Contact) -> anyhow::Result<Client> {
    let contact = contact.clone();
    let told = MapResponseLayer::new(move |response: Response<_>| {
        if response.status().is_success() {
            contact.0.notify_one();
        }
        response
    });
    Ok(renewing(kube)?.with_layer(&TimeoutLayer::new(HEADERS_WITHIN)).with_layer(&told).build())
}

/// With a pool of its own: an eviction never waits behind a list, and takes as long as it takes.
///
/// # Errors
/// When a certificate, a key or a token cannot be read.
pub fn writing(kube: kube::Config) -> anyhow::Result<Client> {
    Ok(renewing(kube)?.with_layer(&TimeoutLayer::new(ANSWER_WITHIN)).build())
}

/// Opens a connection, or keeps one open: a question about this node's pods that has an empty answer.
/// It takes no right beyond those that are used anyway.
pub async fn keep_open(client: &Client, node: &str) {
    let question = format!(
        "/api/v1/pods?fieldSelector=spec.nodeName%3D{node}%2Cmetadata.name%3Dkeeps-a-connection-open&resourceVersion=0"
    );
    if let Ok(request) = Request::get(question).body(Vec::new()) {
        // Whatever the answer: the connection is there, or the eviction will open its own.
        let _ = client.request_text(request).await;
    }
}

fn renewing(kube: kube::Config) -> anyhow::Result<ClientBuilder<Renewing>> {
    let namespace = kube.default_namespace.clone();
    let current = Arc::new(Mutex::new(fresh(&kube)?));
    Ok(ClientBuilder::new(Renewing { kube, current }, namespace))
}

fn fresh(kube: &kube::Config) -> anyhow::Result<Client> {
    Ok(ClientBuilder::try_from(kube.clone()).context("cannot make an API client")?.build())
}

/// A token file is read when kube's client is made, and about once a minute. A 401 says that it
/// was rotated meanwhile: whoever asks next asks through a new client.
#[derive(Clone)]
struct Renewing {
    kube: kube::Config,
    current: Arc<Mutex<Client>>,
}

impl Renewing {
    fn client(&self) -> Client {
        self.current.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    fn renew(&self) {
        match fresh(&self.kube) {
            Ok(client) => *self.current.lock().unwrap_or_else(PoisonError::into_inner) = client,
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
            let response = own.client().send(request).await?;
            if response.status() == StatusCode::UNAUTHORIZED {
                own.renew();
            }
            Ok(response)
        }
        .boxed()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

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
}
