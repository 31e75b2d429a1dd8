//! The agent's own pages: `/` for people, `/metrics`, `/healthz`, `/readyz`, `/api/guards`.

use std::convert::Infallible;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;
use std::time::Duration;

use anyhow::Context;
use http::header::HeaderValue;
use http::uri::Authority;
use http::{Method, Request, Response, StatusCode, header};
use http_body_util::Full;
use hyper::body::{Bytes, Incoming};
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::{TokioIo, TokioTimer};
use jiff::Timestamp;
use tokio::net::{TcpListener, TcpSocket};
use tokio::sync::{Semaphore, mpsc, oneshot};

use crate::controller::Counts;
use crate::controller::view::GuardView;
use crate::guard::DryRun;
use crate::metrics::Metrics;
use crate::policy::LONGEST_LOOK;
use crate::recent::RecentView;
use crate::sampler::{Clock, Shared};

/// Scrapers, probes and a few people; more wait.
const CONNECTIONS: usize = 64;
/// A client that sends no request is not waited for longer.
const HEADERS_WITHIN: Duration = Duration::from_secs(3);
/// Nor one that does not read its answer. Every connection serves one request.
const CONNECTION_WITHIN: Duration = Duration::from_secs(30);
/// The sampling thread turns at least once a second; on a node short of CPU it may be late.
const TURNS_WITHIN: Duration = LONGEST_LOOK.saturating_mul(30);

/// The page for people. All it shows it takes from `/api/guards`.
const PAGE: &str = include_str!("page.html");
/// Its own style and script by their hashes, its own address to ask, its own icon; nothing else, and no way to make
/// markup of a string. (The hashes are compared with the page by a test, which writes them.)
const POLICY: &str = "default-src 'none'; \
    style-src 'sha256-A6cn9KQtuO2fPVC1GYSytJ/RUkU2zBZpWjLsUO0FlHs='; \
    script-src 'sha256-j2hJB5ruvrb1PCSm1+zQfHqZG1hTYAvFMLonQ16Et6Y='; \
    connect-src 'self'; img-src data:; base-uri 'none'; form-action 'none'; frame-ancestors 'none'; \
    require-trusted-types-for 'script'; trusted-types 'none'";

/// What the pages need to know of the rest.
#[derive(Clone, Debug)]
pub struct Pages {
    /// Answers about the pods.
    pub ask: mpsc::Sender<oneshot::Sender<State>>,
    /// The registry.
    pub metrics: Metrics,
    /// The sampler's counts.
    pub shared: Arc<Shared>,
    /// The one clock.
    pub clock: Clock,
    /// The memory controller's top directory.
    pub cgroup_root: PathBuf,
    /// The node's name.
    pub node: String,
    /// For all pods.
    pub dry_run: DryRun,
    /// When the agent started.
    pub started: Timestamp,
}

/// What the controller answers.
#[derive(Debug)]
pub struct State {
    /// The first list of pods is done.
    pub listed: bool,
    /// Since when nothing was heard of the pods; 0 while all is well.
    pub list_age: Duration,
    /// For `/metrics`.
    pub counts: Counts,
    /// For `/api/guards`.
    pub guards: Vec<GuardView>,
    /// What was last told, the newest first.
    pub recent: Vec<RecentView>,
}

/// Listens on `address`. The unspecified IPv6 address takes IPv4 too; where the machine has no
/// IPv6, IPv4 alone is listened on.
///
/// # Errors
/// When the address is taken or not this machine's.
pub fn listen(address: SocketAddr) -> anyhow::Result<TcpListener> {
    let bind = |address: SocketAddr| -> std::io::Result<TcpListener> {
        let socket = if address.is_ipv6() { TcpSocket::new_v6()? } else { TcpSocket::new_v4()? };
        socket.set_reuseaddr(true)?;
        if address.ip().is_unspecified() && address.is_ipv6() {
            nix::sys::socket::setsockopt(&socket, nix::sys::socket::sockopt::Ipv6V6Only, &false)?;
        }
        socket.bind(address)?;
        socket.listen(128)
    };
    let any_v6 = address.is_ipv6() && address.ip().is_unspecified();
    bind(address)
        .or_else(|error| {
            let without_ipv6 = [nix::libc::EAFNOSUPPORT, nix::libc::EADDRNOTAVAIL];
            if any_v6 && error.raw_os_error().is_some_and(|e| without_ipv6.contains(&e)) {
                return bind(SocketAddr::from(([0, 0, 0, 0], address.port())));
            }
            Err(error)
        })
        .with_context(|| format!("cannot listen on {address} (--listen)"))
}

/// Serves until dropped.
pub async fn serve(listener: TcpListener, pages: Pages) -> Infallible {
    let places = Arc::new(Semaphore::new(CONNECTIONS));
    loop {
        // The semaphore is never closed.
        let place = Arc::clone(&places).acquire_owned().await;
        let Ok((stream, peer)) = listener.accept().await else {
            // Out of descriptors, or the client is gone: neither is helped by haste.
            tokio::time::sleep(Duration::from_millis(100)).await;
            continue;
        };
        let pages = pages.clone();
        tokio::spawn(async move {
            let service = service_fn(|request| {
                let pages = pages.clone();
                async move { Ok::<_, Infallible>(answer(&request, peer.ip(), &pages).await) }
            });
            // A client that hangs up is its own business.
            let served = http1::Builder::new()
                .timer(TokioTimer::new())
                .header_read_timeout(HEADERS_WITHIN)
                .keep_alive(false)
                .serve_connection(TokioIo::new(stream), service);
            let _ = tokio::time::timeout(CONNECTION_WITHIN, served).await;
            drop(place);
        });
    }
}

async fn answer(request: &Request<Incoming>, peer: IpAddr, pages: &Pages) -> Response<Full<Bytes>> {
    const TEXT: &str = "text/plain; charset=utf-8";
    if let Some(host) = request.headers().get(header::HOST).filter(|host| !may_ask(peer, host)) {
        let text = format!("not for {host:?}: through a port-forward, ask localhost or 127.0.0.1\n");
        return page(StatusCode::MISDIRECTED_REQUEST, TEXT, text);
    }
    if request.method() != Method::GET && request.method() != Method::HEAD {
        return page(StatusCode::METHOD_NOT_ALLOWED, TEXT, "only GET\n".into());
    }
    match request.uri().path() {
        "/" => {
            let mut response = page(StatusCode::OK, "text/html; charset=utf-8", PAGE.into());
            let policy = HeaderValue::from_static(POLICY);
            response.headers_mut().insert(header::CONTENT_SECURITY_POLICY, policy);
            response
        }
        "/healthz" => match late(pages) {
            None => page(StatusCode::OK, TEXT, "ok\n".into()),
            Some(late) => {
                let text = format!("the sampling thread last turned {} s ago\n", late.as_secs());
                page(StatusCode::SERVICE_UNAVAILABLE, TEXT, text)
            }
        },
        "/readyz" => {
            let (code, text) = ready(pages).await;
            page(code, TEXT, text)
        }
        "/metrics" => match ask(pages).await {
            Some(state) => page(
                StatusCode::OK,
                "application/openmetrics-text; version=1.0.0; charset=utf-8",
                pages.metrics.page(state.counts, state.list_age, &pages.shared),
            ),
            None => stopping(),
        },
        "/api/guards" => match ask(pages).await {
            Some(state) => {
                let body = serde_json::json!({
                    "node": pages.node,
                    "version": env!("CARGO_PKG_VERSION"),
                    "started": pages.started.strftime("%Y-%m-%dT%H:%M:%SZ").to_string(),
                    "dryRun": pages.dry_run,
                    "listed": state.listed,
                    "listAgeSeconds": state.list_age.as_secs(),
                    "guards": state.guards,
                    "recent": state.recent,
                });
                page(StatusCode::OK, "application/json", format!("{body}\n"))
            }
            None => stopping(),
        },
        _ => page(StatusCode::NOT_FOUND, TEXT, "here are /, /metrics, /healthz, /readyz and /api/guards\n".into()),
    }
}

/// A port-forward ends on the loopback, and a browser there may be on a stranger's page whose name has come to mean
/// 127.0.0.1 (DNS rebinding): that page must not read what is told to a person. Scrapers, probes and the API server's proxy
/// come from elsewhere, and may use any name.
fn may_ask(peer: IpAddr, host: &HeaderValue) -> bool {
    let is_local = |host: &str| {
        let name = host.trim_start_matches('[').trim_end_matches(']');
        name.eq_ignore_ascii_case("localhost") || name.parse::<IpAddr>().is_ok()
    };
    let peer = peer.to_canonical();
    let is_forwarded = peer == IpAddr::V4(Ipv4Addr::LOCALHOST) || peer == IpAddr::V6(Ipv6Addr::LOCALHOST);
    !is_forwarded || Authority::try_from(host.as_bytes()).is_ok_and(|host| is_local(host.host()))
}

async fn ready(pages: &Pages) -> (StatusCode, String) {
    if let Err(error) = std::fs::read_dir(&pages.cgroup_root) {
        let root = pages.cgroup_root.display();
        return (StatusCode::SERVICE_UNAVAILABLE, format!("cgroup root {root}: {error}\n"));
    }
    match ask(pages).await {
        // An outage must not make every agent unready: those pods that are known stay guarded.
        Some(State { listed: true, list_age, .. }) if list_age.is_zero() => (StatusCode::OK, "ok\n".into()),
        Some(State { listed: true, list_age, .. }) => (
            StatusCode::OK,
            format!("ok; the list of pods is {} s old, the API server cannot be reached\n", list_age.as_secs()),
        ),
        Some(_) => (StatusCode::SERVICE_UNAVAILABLE, "the pods of this node are not listed yet\n".into()),
        None => (StatusCode::SERVICE_UNAVAILABLE, "stopping\n".into()),
    }
}

/// How late the sampling thread is, if it is.
fn late(pages: &Pages) -> Option<Duration> {
    let turned = Duration::from_millis(pages.shared.turned_at.load(Relaxed));
    let late = pages.clock.now().saturating_sub(turned);
    (late > TURNS_WITHIN).then_some(late)
}

async fn ask(pages: &Pages) -> Option<State> {
    let (sender, receiver) = oneshot::channel();
    pages.ask.send(sender).await.ok()?;
    receiver.await.ok()
}

fn stopping() -> Response<Full<Bytes>> {
    page(StatusCode::SERVICE_UNAVAILABLE, "text/plain; charset=utf-8", "stopping\n".into())
}

fn page(code: StatusCode, kind: &'static str, body: String) -> Response<Full<Bytes>> {
    let mut response = Response::new(Full::new(Bytes::from(body)));
    *response.status_mut() = code;
    let kind = HeaderValue::from_static(kind);
    let headers = response.headers_mut();
    headers.insert(header::CONTENT_TYPE, kind);
    // Names and messages from the cluster are in some of them: they are data, whatever they look like.
    headers.insert(header::X_CONTENT_TYPE_OPTIONS, HeaderValue::from_static("nosniff"));
    headers.insert(header::REFERRER_POLICY, HeaderValue::from_static("no-referrer"));
    headers.insert(header::CACHE_CONTROL, HeaderValue::from_static("no-store"));
    headers.insert("cross-origin-resource-policy", HeaderValue::from_static("same-origin"));
    response
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What stands between an element's tags, as the browser hashes it.
    fn inline(element: &str) -> &'static str {
        let [_, rest] = PAGE.splitn(2, &format!("<{element}>")).collect::<Vec<_>>()[..] else { panic!("{element}") };
        rest.split(&format!("</{element}>")).next().unwrap()
    }

    #[test]
    fn the_policy_allows_the_pages_own_style_and_script_alone() {
        use base64::prelude::{BASE64_STANDARD, Engine};
        let lines = ["style", "script"].map(|element| {
            assert_eq!(PAGE.matches(&format!("<{element}")).count(), 1, "one {element}, without attributes");
            let digest = ring::digest::digest(&ring::digest::SHA256, inline(element).as_bytes());
            format!("{element}-src 'sha256-{}';", BASE64_STANDARD.encode(digest))
        });
        assert!(lines.iter().all(|line| POLICY.contains(line)), "POLICY in src/http.rs needs:\n{}", lines.join("\n"));
        assert!(!POLICY.contains("unsafe") && POLICY.starts_with("default-src 'none';"));
    }

    /// Neither markup from strings, nor anything from elsewhere; small enough for every agent.
    #[test]
    fn the_page_is_one_small_file_and_makes_no_markup_of_strings() {
        assert!(PAGE.len() < 25_000, "{} bytes", PAGE.len());
        for word in ["innerHTML", "outerHTML", "insertAdjacentHTML", "document.write", "eval(", "DOMParser", "srcdoc"] {
            assert!(!PAGE.contains(word), "{word}");
        }
        // The name of a format is no address.
        let elsewhere = PAGE
            .match_indices("//")
            .filter(|(at, _)| PAGE[..*at].ends_with(':') && !PAGE[*at..].starts_with("//www.w3.org/2000/svg"));
        assert_eq!(elsewhere.count(), 0);
        for attribute in [" style=", " onclick", " onload", " onerror", "javascript:"] {
            assert!(!PAGE.contains(attribute), "{attribute}");
        }
    }

    #[test]
    fn a_strangers_name_for_the_loopback_is_refused_and_any_name_from_elsewhere_allowed() {
        let may = |peer: &str, host: &'static str| may_ask(peer.parse().unwrap(), &HeaderValue::from_static(host));
        for host in ["localhost:8080", "LOCALHOST", "127.0.0.1:8080", "[::1]:8080", "10.1.2.3:8080"] {
            assert!(may("127.0.0.1", host) && may("::1", host) && may("::ffff:127.0.0.1", host), "{host}");
        }
        for host in
            ["evil.example:8080", "localhost.evil.example", "127.0.0.1.evil.example", "", "a b", "evil@localhost.x"]
        {
            assert!(!may("127.0.0.1", host) && !may("::1", host) && !may("::ffff:127.0.0.1", host), "{host}");
            assert!(may("10.1.2.3", host), "{host}");
        }
    }

    #[test]
    fn a_sampling_thread_that_stands_still_is_told() {
        let shared = Arc::new(Shared::default());
        let pages = Pages {
            ask: mpsc::channel(1).0,
            metrics: Metrics::new(),
            shared: Arc::clone(&shared),
            clock: Clock::started(Duration::from_secs(100)),
            cgroup_root: PathBuf::new(),
            node: String::new(),
            dry_run: DryRun::Off,
            started: Timestamp::UNIX_EPOCH,
        };
        assert!(late(&pages).is_some_and(|late| late >= Duration::from_secs(100)));
        shared.turned_at.store(99_000, Relaxed);
        assert_eq!(late(&pages), None);
        shared.turned_at.store(65_000, Relaxed);
        assert!(late(&pages).is_some());
    }
}
