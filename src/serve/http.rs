//! The agent's own pages: `/` for people, `/metrics`, `/healthz`, `/readyz`, `/api/guards`,
//! `/api/incidents`.
//!
//! A thread of its own serves them, so that a flood of requests to the port delays no eviction. Connections do not
//! delay each other either: a new connection never waits for a place. If all places are taken, the connection that has
//! waited longest without sending its request is closed. A probe sends its request at once, so it is answered.

use std::convert::Infallible;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::path::{Path, PathBuf};
use std::sync::atomic::Ordering::Relaxed;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use anyhow::Context;
use http::header::{self, HeaderValue};
use http::uri::Authority;
use http::{Method, Request, Response, StatusCode};
use http_body_util::Full;
use hyper::body::{Bytes, Incoming};
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::{TokioIo, TokioTimer};
use jiff::Timestamp;
use serde::Serialize;
use tokio::net::{TcpListener, TcpSocket};
use tokio::sync::{mpsc, oneshot, watch};
use tracing::error;

use super::incident::IncidentsPage;
use super::past;
use super::slots::Slots;
use super::wire::{GuardView, GuardsPage, RecentView};
use crate::cgroup;
use crate::decide::schedule::LONGEST_INTERVAL;
use crate::ground::clock::{Clock, Moment};
use crate::pods::guard::DryRun;
use crate::report::incidents::Incident;
use crate::report::metrics::Counts;
use crate::report::metrics::Metrics;
use crate::sampler::{Counters, Shown};

/// The timeout of a client that does not send its request.
const HEADERS_WITHIN: Duration = Duration::from_secs(3);
/// The timeout of a client that does not read its answer. Every connection serves one request.
const CONNECTION_WITHIN: Duration = Duration::from_secs(30);
/// The buffer of a request: only its head is read. This is hyper's minimum.
const REQUEST_BUFFER: usize = 8 * 1024;
/// The kernel's buffers of a connection. Without a limit the kernel would grow them to megabytes, which count as the
/// agent's memory.
const RECEIVE_BUFFER: u32 = 8 * 1024;
/// See [`RECEIVE_BUFFER`].
const SEND_BUFFER: u32 = 64 * 1024;
/// The sampling thread iterates at least once a second. On a node that is short of CPU it may be late.
const TURNS_WITHIN: Duration = LONGEST_INTERVAL.saturating_mul(30);

/// The page for people. It takes everything that it shows from `/api/guards`.
const PAGE: &str = include_str!("page.html");
/// The page may use its own style and script (by hash), requests to its own address, and its own icon, but nothing
/// else, and it cannot turn a string into markup. (A test compares the hashes with the page, and writes them.)
const POLICY: &str = "default-src 'none'; \
    style-src 'sha256-fWXZu4Lbt6RXWT+MrmT5CkJgkJ/WQt95WNfafaIcLJc='; \
    script-src 'sha256-yKvhhgYvSe4tE+7ou/vUKqAhjokMq+ydaQlAoMiUNYc='; \
    connect-src 'self'; img-src data:; base-uri 'none'; form-action 'none'; frame-ancestors 'none'; \
    require-trusted-types-for 'script'; trusted-types 'none'";

/// What the pages need from the rest of the agent.
#[derive(Clone, Debug)]
pub struct Pages {
    pub state: watch::Receiver<AgentState>,
    /// Asks the loop for views, which costs it some time.
    pub ask: mpsc::Sender<Question>,
    pub metrics: Metrics,
    pub counters: Arc<Counters>,
    pub clock: Clock,
    /// The memory controller's top directory.
    pub cgroup_root: PathBuf,
    pub node: String,
    pub dry_run: DryRun,
    /// When the agent started.
    pub started: Timestamp,
}

/// What the loop publishes whenever it changes. `/readyz` and `/metrics` need nothing else, so they do not ask the
/// loop.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct AgentState {
    /// The first list of pods is complete.
    pub listed: bool,
    /// A pod of this node has opted in.
    pub opted_in: bool,
    /// Set while the pods can be neither listed nor watched.
    pub unheard: Option<Unheard>,
    pub counts: Counts,
}

/// The pods can be neither listed nor watched.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Unheard {
    pub since: Moment,
    /// The last error.
    pub error: String,
}

impl AgentState {
    /// How old the list of pods is; 0 while all is well.
    fn list_age(&self, now: Moment) -> Duration {
        self.unheard.as_ref().map_or(Duration::ZERO, |unheard| now.saturating_sub(unheard.since))
    }
}

/// What the loop is asked for, and where its answer goes.
#[derive(Debug)]
pub enum Question {
    /// For `/api/guards`.
    Guards(oneshot::Sender<Views>),
    /// For `/api/incidents`.
    Incidents(oneshot::Sender<Vec<Incident>>),
}

/// The loop's answer for `/api/guards`.
#[derive(Debug)]
pub struct Views {
    /// The published state, but from the same moment as the rest.
    pub state: AgentState,
    /// Each guarded container, and each pod whose guard is invalid, with where its past is.
    pub guards: Vec<(GuardView, Option<Arc<Shown>>)>,
    /// The last notices, the newest first.
    pub recent: Vec<RecentView>,
}

/// Listens on `address`. The unspecified IPv6 address also accepts IPv4. On a machine without IPv6 it listens on IPv4
/// alone.
///
/// # Errors
/// When the address is taken, or does not belong to this machine.
pub fn listen(address: SocketAddr) -> anyhow::Result<TcpListener> {
    let bind = |address: SocketAddr| -> std::io::Result<TcpListener> {
        let socket = if address.is_ipv6() { TcpSocket::new_v6()? } else { TcpSocket::new_v4()? };
        socket.set_reuseaddr(true)?;
        socket.set_recv_buffer_size(RECEIVE_BUFFER)?;
        socket.set_send_buffer_size(SEND_BUFFER)?;
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

/// Serves on a thread of its own until the process ends.
///
/// # Errors
/// When the system cannot provide a thread or a descriptor.
pub fn serve(listener: TcpListener, pages: Pages) -> std::io::Result<()> {
    let listener = listener.into_std()?;
    let runtime = tokio::runtime::Builder::new_current_thread().enable_io().enable_time().build()?;
    std::thread::Builder::new().name("http".into()).spawn(move || {
        runtime.block_on(async {
            let Err(error) = accept(listener, pages).await;
            error!(%error, "the pages cannot be served");
        });
    })?;
    Ok(())
}

async fn accept(listener: std::net::TcpListener, pages: Pages) -> Result<Infallible, std::io::Error> {
    let listener = TcpListener::from_std(listener)?;
    let places = Arc::new(Mutex::new(Slots::default()));
    let mut number = 0;
    loop {
        number += 1;
        let (stream, peer) = loop {
            match listener.accept().await {
                Ok(accepted) => break accepted,
                // Either no descriptor is left, or the client is gone. Haste helps in neither case.
                Err(_) => tokio::time::sleep(Duration::from_millis(100)).await,
            }
        };
        let (pages, of_all) = (pages.clone(), Arc::clone(&places));
        let task = tokio::spawn(async move {
            let service = service_fn(|request| {
                lock(&of_all).asks(number);
                let pages = pages.clone();
                async move { Ok::<_, Infallible>(answer(&request, peer.ip(), &pages).await) }
            });
            let served = http1::Builder::new()
                .timer(TokioTimer::new())
                .header_read_timeout(HEADERS_WITHIN)
                .keep_alive(false)
                .max_buf_size(REQUEST_BUFFER)
                .serve_connection(TokioIo::new(stream), service);
            // It does not matter if a client hangs up.
            let _ = tokio::time::timeout(CONNECTION_WITHIN, served).await;
            lock(&of_all).leaves(number);
        });
        lock(&places).takes(number, peer.ip().to_canonical(), task.abort_handle());
        // Connections that have sent a request meanwhile must be read before the next newcomer takes their place.
        tokio::task::yield_now().await;
    }
}

fn lock(places: &Mutex<Slots>) -> MutexGuard<'_, Slots> {
    places.lock().unwrap_or_else(PoisonError::into_inner)
}

// One arm for each path.
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
            let (code, text) = ready(pages);
            page(code, TEXT, text)
        }
        "/metrics" => match published(pages) {
            Some(state) => page(
                StatusCode::OK,
                "application/openmetrics-text; version=1.0.0; charset=utf-8",
                pages.metrics.page(state.counts, state.list_age(pages.clock.now()), &pages.counters),
            ),
            None => stopping(),
        },
        "/api/guards" => match ask(pages, Question::Guards).await {
            Some(Views { state, guards, recent }) => {
                let history = request.uri().query().is_some_and(|query| query.split('&').any(|one| one == "history=1"));
                let guards =
                    guards.into_iter().map(|(view, shown)| with_past(view, shown.as_deref(), history)).collect();
                json(&GuardsPage {
                    node: pages.node.clone(),
                    version: env!("CARGO_PKG_VERSION").into(),
                    started: started(pages),
                    dry_run: pages.dry_run.as_str().into(),
                    listed: state.listed,
                    list_age_seconds: state.list_age(pages.clock.now()).as_secs(),
                    guards,
                    recent,
                })
            }
            None => stopping(),
        },
        "/api/incidents" => match ask(pages, Question::Incidents).await {
            Some(incidents) => json(&IncidentsPage {
                node: pages.node.clone(),
                version: env!("CARGO_PKG_VERSION").into(),
                started: started(pages),
                incidents: incidents.iter().map(Incident::view).collect(),
            }),
            None => stopping(),
        },
        _ => {
            let text = "here are /, /metrics, /healthz, /readyz, /api/guards and /api/incidents\n";
            page(StatusCode::NOT_FOUND, TEXT, text.into())
        }
    }
}

/// A port-forward ends on the loopback, where a browser may be on a foreign page whose name was changed to resolve to
/// 127.0.0.1 (DNS rebinding). That page must not read what is meant for a person. Scrapers, probes and the API server's
/// proxy come from elsewhere, and may use any name.
fn may_ask(peer: IpAddr, host: &HeaderValue) -> bool {
    let is_local = |host: &str| {
        let name = host.trim_start_matches('[').trim_end_matches(']');
        name.eq_ignore_ascii_case("localhost") || name.parse::<IpAddr>().is_ok()
    };
    let peer = peer.to_canonical();
    let is_forwarded = peer == IpAddr::V4(Ipv4Addr::LOCALHOST) || peer == IpAddr::V6(Ipv6Addr::LOCALHOST);
    !is_forwarded || Authority::try_from(host.as_bytes()).is_ok_and(|host| is_local(host.host()))
}

fn ready(pages: &Pages) -> (StatusCode, String) {
    if let Err(error) = std::fs::read_dir(&pages.cgroup_root) {
        let root = pages.cgroup_root.display();
        return (StatusCode::SERVICE_UNAVAILABLE, format!("cgroup root {root}: {error}\n"));
    }
    match published(pages) {
        // An outage must not make every agent unready: the known pods stay guarded.
        // A node of a wrong name looks like this, too.
        Some(AgentState { listed: true, unheard: None, opted_in: false, .. }) => {
            (StatusCode::OK, format!("ok; no pod on node {} has opted in\n", pages.node))
        }
        Some(AgentState { listed: true, unheard: None, .. }) => (StatusCode::OK, "ok\n".into()),
        Some(AgentState { listed: true, unheard: Some(Unheard { since, error }), .. }) => {
            let age = pages.clock.now().saturating_sub(since).as_secs();
            (StatusCode::OK, format!("ok; the list of pods is {age} s old: {error}\n"))
        }
        Some(AgentState { unheard, .. }) => {
            let why = unheard.map_or(String::new(), |unheard| format!(": {}", unheard.error));
            (StatusCode::SERVICE_UNAVAILABLE, format!("the pods of this node are not listed yet{why}\n"))
        }
        None => (StatusCode::SERVICE_UNAVAILABLE, "stopping\n".into()),
    }
}

/// How late the sampling thread is; `None` if it is not late.
fn late(pages: &Pages) -> Option<Duration> {
    let turned = Duration::from_millis(pages.counters.turned_at.load(Relaxed));
    let late = pages.clock.now().saturating_sub(turned);
    (late > TURNS_WITHIN).then_some(late)
}

/// The state that the loop published last; `None` if the loop has ended.
pub(super) fn published(pages: &Pages) -> Option<AgentState> {
    pages.state.has_changed().ok()?;
    Some(pages.state.borrow().clone())
}

async fn ask<T>(pages: &Pages, question: impl FnOnce(oneshot::Sender<T>) -> Question) -> Option<T> {
    let (sender, receiver) = oneshot::channel();
    pages.ask.send(question(sender)).await.ok()?;
    receiver.await.ok()
}

fn with_past(mut view: GuardView, shown: Option<&Shown>, history: bool) -> GuardView {
    if let (Some(memory), Some((shown, known))) =
        (&mut view.memory, shown.and_then(|shown| Some((shown, shown.known()?))))
    {
        past::add(memory, &known, shown.slow_growth(&known), history);
        memory.kernel_peak =
            view.cgroup.as_ref().filter(|_| history).and_then(|dir| cgroup::peak(Path::new(dir))).map(|peak| peak.0);
    }
    view
}

fn started(pages: &Pages) -> String {
    pages.started.strftime("%Y-%m-%dT%H:%M:%SZ").to_string()
}

/// Written field by field: a tree of values would be several times as large as its text.
fn json(body: &impl Serialize) -> Response<Full<Bytes>> {
    match serde_json::to_string(body) {
        Ok(text) => page(StatusCode::OK, "application/json", text + "\n"),
        Err(error) => page(StatusCode::INTERNAL_SERVER_ERROR, "text/plain; charset=utf-8", format!("{error}\n")),
    }
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
    // Some of them contain names and messages from the cluster. These are data, whatever they look like.
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
        assert!(PAGE.len() < 29_000, "{} bytes", PAGE.len());
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

    /// The probe comes from the same address as the flood, and its request a little later than its connection.
    #[test]
    fn idle_connections_keep_no_probe_waiting() {
        use std::io::{Read, Write};
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        let listener = runtime.block_on(async { listen(SocketAddr::from(([127, 0, 0, 1], 0))).unwrap() });
        let address = listener.local_addr().unwrap();
        // Nothing stands behind the channel: the loop is not asked.
        runtime.block_on(async { serve(listener, pages(Duration::ZERO).0).unwrap() });
        let mut idle: Vec<std::net::TcpStream> = Vec::new();
        for round in 0..5 {
            idle.extend((0..250).map(|_| std::net::TcpStream::connect(address).unwrap()));
            let mut probe = std::net::TcpStream::connect(address).unwrap();
            // Less than what one that sends nothing is waited for.
            probe.set_read_timeout(Some(HEADERS_WITHIN / 2)).unwrap();
            std::thread::sleep(Duration::from_millis(20));
            write!(probe, "GET /healthz HTTP/1.1\r\nHost: localhost\r\n\r\n").unwrap();
            let mut text = String::new();
            probe.read_to_string(&mut text).unwrap_or_else(|error| panic!("round {round}: {error}"));
            assert!(text.starts_with("HTTP/1.1 200"), "round {round}: {text}");
        }
    }

    fn pages(runs_for: Duration) -> (Pages, Arc<Counters>, watch::Sender<AgentState>) {
        let counters = Arc::new(Counters::default());
        let (publish, state) = watch::channel(AgentState::default());
        let pages = Pages {
            state,
            ask: mpsc::channel(1).0,
            metrics: Metrics::new(),
            counters: Arc::clone(&counters),
            clock: Clock::started(runs_for),
            cgroup_root: PathBuf::from("/"),
            node: String::new(),
            dry_run: DryRun::Off,
            started: Timestamp::UNIX_EPOCH,
        };
        (pages, counters, publish)
    }

    #[test]
    fn a_list_that_is_old_is_told_and_does_not_make_unready() {
        let (pages, _shared, publish) = pages(Duration::from_secs(100));
        assert_eq!(ready(&pages).0, StatusCode::SERVICE_UNAVAILABLE, "not listed yet");
        publish.send_replace(AgentState { listed: true, ..AgentState::default() });
        let text = format!("ok; no pod on node {} has opted in\n", pages.node);
        assert_eq!(ready(&pages), (StatusCode::OK, text));
        publish.send_replace(AgentState { listed: true, opted_in: true, ..AgentState::default() });
        assert_eq!(ready(&pages), (StatusCode::OK, "ok\n".into()));
        let unheard =
            Some(Unheard { since: Duration::from_secs(40), error: "the watch of pods: 410 Gone: why".into() });
        publish.send_replace(AgentState { listed: true, opted_in: true, unheard, ..AgentState::default() });
        let text = "ok; the list of pods is 60 s old: the watch of pods: 410 Gone: why\n".to_owned();
        assert_eq!(ready(&pages), (StatusCode::OK, text));
        drop(publish);
        assert_eq!(ready(&pages), (StatusCode::SERVICE_UNAVAILABLE, "stopping\n".into()));
    }

    #[test]
    fn a_sampling_thread_that_stands_still_is_told() {
        let (pages, counters, _publish) = pages(Duration::from_secs(100));
        assert!(late(&pages).is_some_and(|late| late >= Duration::from_secs(100)));
        counters.turned_at.store(99_000, Relaxed);
        assert_eq!(late(&pages), None);
        counters.turned_at.store(65_000, Relaxed);
        assert!(late(&pages).is_some());
    }
}
