//! Lists and watches the pods of this node.
//!
//! kube's own watcher holds a whole page of a list in memory, with each object as a tree of values: a few dozen large pods
//! would exceed the agent's memory limit.

use crate::ground::keys;
use crate::ground::text::chain;
use crate::ground::text::shortened;
use std::collections::VecDeque;
use std::io::ErrorKind;
use std::time::Duration;

use futures::{Stream, stream};
use http::header::CONNECTION;
use http::{HeaderValue, StatusCode};
use http_body_util::{BodyExt, Limited};
use kube::Client;
use kube::api::{ListParams, Request, WatchParams};
use kube::client::Body;
use kube::runtime::utils::Backoff;
use kube::runtime::watcher::DefaultBackoff;
use serde::Deserialize;
use serde_json::value::RawValue;
use tokio::time::{Instant, sleep, timeout};

use super::change::{FailureKind, PodChange, WatchFailure};
use super::framing::{LARGEST_OBJECT, LineSplitter, ListSplitter, ObjectText};
use super::pod::Pod;
use super::raw::{RawPod, head_only};
use crate::ground::units::Bytes;

/// The server is asked to end a watch after this time.
const WATCH_TIMEOUT: Duration = Duration::from_secs(190);
/// If a watch has not ended this long after that, the client ends it: the server is gone.
const WATCH_MARGIN: Duration = Duration::from_secs(5);
/// A watch that ended sooner than this begins anew only after such a pause.
const SHORT_WATCH: Duration = Duration::from_secs(1);
/// Pods for each page of a list, which spares the server. A server that answers from its cache may send all at once.
const PAGE: u32 = 100;
/// A list is given up if the server sends nothing for so long.
const PAGE_WITHIN: Duration = Duration::from_secs(30);
/// At most so many bytes of an error response are read.
const REFUSAL: usize = 64 * 1024;

/// Lists and watches the pods of `node` that carry the opt-in label. Never ends: after an error it tries again, with
/// jittered exponential back-off (0.8 s to 30 s).
pub fn watch(client: Client, node: &str) -> impl Stream<Item = PodChange> + use<> {
    // Both selectors: the server's watch cache has an index of this field, but not of a label.
    let fields = format!("spec.nodeName={node}");
    let labels = format!("{}={}", keys::LABEL, keys::ENABLED);
    let seconds = u32::try_from(WATCH_TIMEOUT.as_secs()).unwrap_or(u32::MAX);
    let watcher = Watcher {
        client,
        list: ListParams::default().fields(&fields).labels(&labels).limit(PAGE),
        watch: WatchParams::default().fields(&fields).labels(&labels).timeout(seconds),
        stage: Stage::Begin,
        ready: VecDeque::new(),
        back_off: DefaultBackoff::default(),
        pause: None,
    };
    stream::unfold(watcher, async |mut watcher| Some((watcher.next().await, watcher)))
}

struct Watcher {
    client: Client,
    list: ListParams,
    watch: WatchParams,
    stage: Stage,
    /// The changes that came in with one piece of a body and have not been handed out yet.
    ready: VecDeque<PodChange>,
    back_off: DefaultBackoff,
    pause: Option<Duration>,
}

enum Stage {
    Begin,
    /// Next, request a page of the list.
    Page {
        token: Option<String>,
    },
    /// A page is coming in.
    Listing {
        body: Body,
        list: ListSplitter,
    },
    Listed {
        version: String,
    },
    /// The watch is coming in.
    Watching {
        version: String,
        body: Body,
        lines: LineSplitter,
        until: Instant,
        since: Instant,
    },
}

#[derive(Deserialize)]
struct WatchEvent<'a> {
    r#type: String,
    #[serde(borrow)]
    object: &'a RawValue,
}

/// A `Status` of the API server, with which it refuses a request or ends a watch.
#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct Refusal {
    message: Option<String>,
    code: Option<u16>,
}

/// The object of a `BOOKMARK` event: a resource version, and no pod.
#[derive(Deserialize)]
struct Bookmark {
    metadata: super::framing::ListMeta,
}

impl Watcher {
    async fn next(&mut self) -> PodChange {
        loop {
            if let Some(change) = self.ready.pop_front() {
                return change;
            }
            if let Some(pause) = self.pause.take() {
                sleep(pause).await;
            }
            if let Err(failure) = self.step().await {
                self.pause = self.back_off.next();
                self.ready.push_back(PodChange::Failed(failure));
            }
        }
    }

    /// Does what the stage says, and sets the next one. After an error, the stage that is set by then follows a back-off.
    async fn step(&mut self) -> Result<(), WatchFailure> {
        match std::mem::replace(&mut self.stage, Stage::Begin) {
            Stage::Begin => {
                self.ready.push_back(PodChange::Listing);
                self.stage = Stage::Page { token: None };
                Ok(())
            }
            Stage::Page { token } => {
                let list = ListParams { continue_token: token, ..self.list.clone() };
                let mut request =
                    Request::new("/api/v1/pods").list(&list).map_err(|e| WatchFailure::unreachable(chain(&e)))?;
                // Its connection ends with the page. The watch would keep it, with a buffer that has grown to 0.8 MiB (measured).
                request.headers_mut().insert(CONNECTION, HeaderValue::from_static("close"));
                let body = self.ask(request, "the list of pods").await?;
                self.stage = Stage::Listing { body, list: ListSplitter::default() };
                Ok(())
            }
            Stage::Listing { body, list } => self.list_on(body, list).await,
            Stage::Listed { version } => {
                let request = Request::new("/api/v1/pods").watch(&self.watch, &version);
                let request = request.map_err(|e| WatchFailure::unreachable(chain(&e)))?;
                self.stage = Stage::Listed { version: version.clone() };
                let body = self.ask(request, "the watch of pods").await.inspect_err(|failure| {
                    if failure.kind == FailureKind::Answered(410) {
                        self.stage = Stage::Begin;
                    }
                })?;
                let since = Instant::now();
                let until = since + WATCH_TIMEOUT + WATCH_MARGIN;
                self.stage = Stage::Watching { version, body, lines: LineSplitter::default(), until, since };
                Ok(())
            }
            Stage::Watching { version, body, lines, until, since } => {
                self.watch_on(version, body, lines, until, since).await
            }
        }
    }

    /// Sends a request; returns the body of a successful response.
    async fn ask(&self, request: http::Request<Vec<u8>>, what: &str) -> Result<Body, WatchFailure> {
        let answer = self.client.send(request.map(Body::from)).await;
        let answer = answer.map_err(|error| WatchFailure::unreachable(format!("{what}: {}", chain(&error))))?;
        let code = answer.status();
        if code.is_success() {
            return Ok(answer.into_body());
        }
        let words = Limited::new(answer.into_body(), REFUSAL).collect().await;
        let words = words.map(http_body_util::Collected::to_bytes).unwrap_or_default();
        let status: Refusal = serde_json::from_slice(&words).unwrap_or_default();
        let message = status.message.unwrap_or_else(|| shortened(String::from_utf8_lossy(&words).trim()));
        Err(answered(code.as_u16(), what, &message))
    }

    /// Reads the next piece of a list. Its pods are handed out while it comes in.
    async fn list_on(&mut self, mut body: Body, mut list: ListSplitter) -> Result<(), WatchFailure> {
        let Ok(frame) = timeout(PAGE_WITHIN, body.frame()).await else {
            let words = format!("the list of pods stopped in its middle for {} s", PAGE_WITHIN.as_secs());
            return Err(WatchFailure::unreachable(words));
        };
        match frame {
            Some(Ok(frame)) => {
                if let Some(bytes) = frame.data_ref() {
                    let mut failure = None;
                    list.push(bytes, |item| match pod_of(item) {
                        Ok(pod) => self.ready.push_back(PodChange::Applied(Box::new(pod))),
                        Err(words) => failure = Some(words),
                    });
                    if let Some(words) = failure {
                        return Err(WatchFailure::unreadable(format!("the list of pods: {words}")));
                    }
                }
                self.stage = Stage::Listing { body, list };
                Ok(())
            }
            Some(Err(error)) => {
                Err(WatchFailure::unreachable(format!("the list of pods broke off: {}", chain(&error))))
            }
            None => {
                let head =
                    list.end().map_err(|error| WatchFailure::unreadable(format!("the list of pods: {error}")))?;
                let given = |text: Option<String>| text.filter(|text| !text.is_empty());
                self.stage = match (given(head.metadata.r#continue), given(head.metadata.resource_version)) {
                    (Some(token), _) => Stage::Page { token: Some(token) },
                    (None, Some(version)) => {
                        self.ready.push_back(PodChange::Listed);
                        self.back_off.reset();
                        Stage::Listed { version }
                    }
                    (None, None) => {
                        return Err(WatchFailure::unreadable(
                            "the list of pods has no metadata.resourceVersion".into(),
                        ));
                    }
                };
                Ok(())
            }
        }
    }

    /// Reads the next piece of a watch.
    async fn watch_on(
        &mut self,
        mut version: String,
        mut body: Body,
        mut lines: LineSplitter,
        until: Instant,
        since: Instant,
    ) -> Result<(), WatchFailure> {
        let frame = tokio::time::timeout_at(until, body.frame()).await;
        match frame {
            Ok(Some(Ok(frame))) => {
                let (mut failure, mut begin_anew) = (None, false);
                if let Some(bytes) = frame.data_ref() {
                    lines.push(bytes, |line| match self.event(line) {
                        Ok(at) if at.is_empty() => {}
                        Ok(at) => version = at,
                        Err(error) => {
                            begin_anew |= error.kind == FailureKind::Answered(410);
                            failure = Some(error);
                        }
                    });
                }
                if !begin_anew {
                    self.stage = Stage::Watching { version, body, lines, until, since };
                }
                failure.map_or(Ok(()), Err)
            }
            Ok(Some(Err(error))) if !ended_early(&error) => {
                self.stage = Stage::Listed { version };
                Err(WatchFailure::unreachable(format!("the watch of pods broke off: {}", chain(&error))))
            }
            // The end of the watch, or a proxy between us and the server that cut it.
            Ok(None | Some(Err(_))) | Err(_) => {
                self.pause = (since.elapsed() < SHORT_WATCH).then_some(SHORT_WATCH);
                self.stage = Stage::Listed { version };
                Ok(())
            }
        }
    }

    /// Takes in an event of a watch. Returns the resource version from which the watch can go on; empty: no new one.
    fn event(&mut self, text: &ObjectText) -> Result<String, WatchFailure> {
        let unreadable = |why: &dyn std::fmt::Display| WatchFailure::unreadable(format!("the watch of pods: {why}"));
        let Some(whole) = text.whole() else {
            let head = text.head();
            let pod = too_large(text).map_err(|words| unreadable(&words))?;
            self.ready.push_back(change(&head.kind, pod));
            return Ok(head.version);
        };
        let event = match serde_json::from_slice::<WatchEvent>(whole) {
            Ok(event) => event,
            Err(error) => {
                // A server may send a failure without the frame of an event.
                let status: Refusal = serde_json::from_slice(whole).unwrap_or_default();
                return Err(match (status.message, status.code) {
                    (Some(message), Some(code)) => answered(code, "the watch of pods", &message),
                    _ => unreadable(&error),
                });
            }
        };
        let object = event.object.get();
        match event.r#type.as_str() {
            "ERROR" => {
                let status: Refusal = serde_json::from_str(object).unwrap_or_default();
                let message = status.message.unwrap_or_default();
                Err(answered(status.code.unwrap_or_default(), "the watch of pods", &message))
            }
            "BOOKMARK" => {
                let bookmark: Bookmark = serde_json::from_str(object).map_err(|error| unreadable(&error))?;
                Ok(bookmark.metadata.resource_version.unwrap_or_default())
            }
            kind @ ("ADDED" | "MODIFIED" | "DELETED") => {
                let (pod, version) = read(object).map_err(|error| unreadable(&error))?;
                self.ready.push_back(change(kind, pod));
                Ok(version)
            }
            other => Err(unreadable(&format_args!("an event of type {:?}", shortened(other)))),
        }
    }
}

/// What an event of type `kind` says of its pod.
fn change(kind: &str, pod: Pod) -> PodChange {
    if kind == "DELETED" { PodChange::Gone(pod.id) } else { PodChange::Applied(Box::new(pod)) }
}

fn answered(code: u16, what: &str, message: &str) -> WatchFailure {
    let reason = StatusCode::from_u16(code).ok().and_then(|code| code.canonical_reason()).unwrap_or_default();
    let message = message.get(..message.floor_char_boundary(300)).unwrap_or_default();
    WatchFailure { kind: FailureKind::Answered(code), words: format!("{what}: {code} {reason}: {message}") }
}

fn read(text: &str) -> Result<(Pod, String), serde_json::Error> {
    let raw: RawPod<'_> = serde_json::from_str(text)?;
    Ok(raw.into_pod())
}

/// The pod that is a list's item. An item that is no pod is an error.
fn pod_of(text: &ObjectText) -> Result<Pod, String> {
    match text.whole() {
        Some(whole) => {
            let text = std::str::from_utf8(whole).map_err(|error| error.to_string())?;
            read(text).map(|(pod, _)| pod).map_err(|error| error.to_string())
        }
        None => too_large(text),
    }
}

/// Stands for a pod that is too large to be read: it is reported, and never evicted.
fn too_large(text: &ObjectText) -> Result<Pod, String> {
    let head = text.head();
    if head.id.name.is_empty() {
        return Err(format!(
            "an object of more than {} that does not begin with its name",
            Bytes(LARGEST_OBJECT as u64)
        ));
    }
    Ok(head_only(head.id, format!("it is larger than {} as JSON: make it smaller", Bytes(LARGEST_OBJECT as u64))))
}

/// The connection was cut in the middle of a watch. The next watch goes on from there, so this is not reported.
fn ended_early(error: &(dyn std::error::Error + 'static)) -> bool {
    let mut next = Some(error);
    while let Some(error) = next {
        let incomplete = error.downcast_ref::<hyper::Error>().is_some_and(hyper::Error::is_incomplete_message);
        let eof = error.downcast_ref::<std::io::Error>().is_some_and(|e| e.kind() == ErrorKind::UnexpectedEof);
        if incomplete || eof {
            return true;
        }
        next = error.source();
    }
    false
}
