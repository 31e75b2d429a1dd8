//! The list and the watch themselves. kube's own watcher holds a whole page of a list, and each object as a tree of
//! values: some dozen large pods would be more than the agent may use.

use crate::ground::keys;
use crate::ground::text::chain;
use crate::ground::text::shortened;
use std::collections::VecDeque;
use std::io::ErrorKind;
use std::time::Duration;

use futures::{Stream, stream};
use http::StatusCode;
use http_body_util::{BodyExt, Limited};
use kube::Client;
use kube::api::{ListParams, Request, WatchParams};
use kube::client::Body;
use kube::runtime::utils::Backoff;
use kube::runtime::watcher::DefaultBackoff;
use serde::Deserialize;
use serde_json::value::RawValue;
use tokio::time::{Instant, sleep, timeout};

use super::change::{PodChange, Trouble, TroubleKind};
use super::framing::{LARGEST, Lines, List, Text};
use super::pod::Pod;
use super::raw::{RawPod, head_only};
use crate::ground::units::Bytes;

/// Bounds one watch request, so that one that hangs unnoticed ends (facts: at most 200 s).
const WATCH_TIMEOUT: Duration = Duration::from_secs(190);
/// The server ends the watch by itself; when it has not by then, it is gone.
const WATCH_MARGIN: Duration = Duration::from_secs(5);
/// Watches that end at once are not begun anew at once.
const SHORT_WATCH: Duration = Duration::from_secs(1);
/// Lists are asked for in pages, for the server's sake. Servers that answer from their cache may send everything at once.
const PAGE: u32 = 100;
/// A list that sends nothing for so long has stopped in its middle.
const PAGE_WITHIN: Duration = Duration::from_secs(30);
/// So much of the words of a refusal is read.
const REFUSAL: usize = 64 * 1024;

/// Lists and watches the pods of `node` that carry the opt-in label. Never ends; every error is
/// followed by another try, with jittered exponential back-off (0.8 s to 30 s).
pub fn watch(client: Client, node: &str) -> impl Stream<Item = PodChange> + use<> {
    // Both: the field is indexed in the server's watch cache, a label is not.
    let fields = format!("spec.nodeName={node}");
    let labels = format!("{}={}", keys::LABEL, keys::ENABLED);
    let seconds = u32::try_from(WATCH_TIMEOUT.as_secs()).unwrap_or(u32::MAX);
    let feed = Feed {
        client,
        list: ListParams::default().fields(&fields).labels(&labels).limit(PAGE),
        watch: WatchParams::default().fields(&fields).labels(&labels).timeout(seconds),
        stage: Stage::Begin,
        ready: VecDeque::new(),
        back_off: DefaultBackoff::default(),
        pause: None,
    };
    stream::unfold(feed, async |mut feed| Some((feed.next().await, feed)))
}

struct Feed {
    client: Client,
    list: ListParams,
    watch: WatchParams,
    stage: Stage,
    /// To be passed on: what came in with one piece of a body.
    ready: VecDeque<PodChange>,
    back_off: DefaultBackoff,
    pause: Option<Duration>,
}

enum Stage {
    /// A list is to be begun.
    Begin,
    /// A page is to be asked for.
    Page { token: Option<String> },
    /// A page comes in.
    Listing { body: Body, list: List },
    /// A watch is to be begun.
    Listed { version: String },
    /// It goes on.
    Watching { version: String, body: Body, lines: Lines, until: Instant, since: Instant },
}

/// A line of a watch.
#[derive(Deserialize)]
struct Line<'a> {
    r#type: String,
    #[serde(borrow)]
    object: &'a RawValue,
}

/// What a server says when it refuses.
#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct Status {
    message: Option<String>,
    code: Option<u16>,
}

/// A bookmark: no pod.
#[derive(Deserialize)]
struct Bookmark {
    metadata: super::framing::ListMeta,
}

impl Feed {
    async fn next(&mut self) -> PodChange {
        loop {
            if let Some(change) = self.ready.pop_front() {
                return change;
            }
            if let Some(pause) = self.pause.take() {
                sleep(pause).await;
            }
            if let Err(trouble) = self.step().await {
                self.pause = self.back_off.next();
                self.ready.push_back(PodChange::Trouble(trouble));
            }
        }
    }

    /// Goes one step further. After an error it is begun again with the stage that is set then.
    async fn step(&mut self) -> Result<(), Trouble> {
        match std::mem::replace(&mut self.stage, Stage::Begin) {
            Stage::Begin => {
                self.ready.push_back(PodChange::Listing);
                self.stage = Stage::Page { token: None };
                Ok(())
            }
            Stage::Page { token } => {
                let list = ListParams { continue_token: token, ..self.list.clone() };
                let request = Request::new("/api/v1/pods").list(&list).map_err(|e| Trouble::unreachable(chain(&e)))?;
                let body = self.ask(request, "the list of pods").await?;
                self.stage = Stage::Listing { body, list: List::default() };
                Ok(())
            }
            Stage::Listing { body, list } => self.list_on(body, list).await,
            Stage::Listed { version } => {
                let request = Request::new("/api/v1/pods").watch(&self.watch, &version);
                let request = request.map_err(|e| Trouble::unreachable(chain(&e)))?;
                self.stage = Stage::Listed { version: version.clone() };
                let body = self.ask(request, "the watch of pods").await.inspect_err(|trouble| {
                    if trouble.kind == TroubleKind::Answered(410) {
                        self.stage = Stage::Begin;
                    }
                })?;
                let since = Instant::now();
                let until = since + WATCH_TIMEOUT + WATCH_MARGIN;
                self.stage = Stage::Watching { version, body, lines: Lines::default(), until, since };
                Ok(())
            }
            Stage::Watching { version, body, lines, until, since } => {
                self.watch_on(version, body, lines, until, since).await
            }
        }
    }

    /// Sends a request; the body of a good answer, or what is wrong with it.
    async fn ask(&self, request: http::Request<Vec<u8>>, what: &str) -> Result<Body, Trouble> {
        let answer = self.client.send(request.map(Body::from)).await;
        let answer = answer.map_err(|error| Trouble::unreachable(format!("{what}: {}", chain(&error))))?;
        let code = answer.status();
        if code.is_success() {
            return Ok(answer.into_body());
        }
        let words = Limited::new(answer.into_body(), REFUSAL).collect().await;
        let words = words.map(http_body_util::Collected::to_bytes).unwrap_or_default();
        let status: Status = serde_json::from_slice(&words).unwrap_or_default();
        let message = status.message.unwrap_or_else(|| shortened(String::from_utf8_lossy(&words).trim()));
        Err(answered(code.as_u16(), what, &message))
    }

    /// A list goes on. Its pods are passed on while it comes in.
    async fn list_on(&mut self, mut body: Body, mut list: List) -> Result<(), Trouble> {
        let Ok(frame) = timeout(PAGE_WITHIN, body.frame()).await else {
            let words = format!("the list of pods stopped in its middle for {} s", PAGE_WITHIN.as_secs());
            return Err(Trouble::unreachable(words));
        };
        match frame {
            Some(Ok(frame)) => {
                if let Some(bytes) = frame.data_ref() {
                    let mut trouble = None;
                    list.push(bytes, |item| match pod_of(item) {
                        Ok((pod, _)) => self.ready.push_back(PodChange::Applied(Box::new(pod))),
                        Err(words) => trouble = Some(words),
                    });
                    if let Some(words) = trouble {
                        return Err(Trouble::unreadable(format!("the list of pods: {words}")));
                    }
                }
                self.stage = Stage::Listing { body, list };
                Ok(())
            }
            Some(Err(error)) => Err(Trouble::unreachable(format!("the list of pods broke off: {}", chain(&error)))),
            None => {
                let head = list.end().map_err(|error| Trouble::unreadable(format!("the list of pods: {error}")))?;
                let given = |text: Option<String>| text.filter(|text| !text.is_empty());
                self.stage = match (given(head.metadata.r#continue), given(head.metadata.resource_version)) {
                    (Some(token), _) => Stage::Page { token: Some(token) },
                    (None, Some(version)) => {
                        self.ready.push_back(PodChange::Listed);
                        self.back_off.reset();
                        Stage::Listed { version }
                    }
                    (None, None) => {
                        return Err(Trouble::unreadable("the list of pods has no metadata.resourceVersion".into()));
                    }
                };
                Ok(())
            }
        }
    }

    async fn watch_on(
        &mut self,
        mut version: String,
        mut body: Body,
        mut lines: Lines,
        until: Instant,
        since: Instant,
    ) -> Result<(), Trouble> {
        let frame = tokio::time::timeout_at(until, body.frame()).await;
        match frame {
            Ok(Some(Ok(frame))) => {
                let (mut trouble, mut begin_anew) = (None, false);
                if let Some(bytes) = frame.data_ref() {
                    lines.push(bytes, |line| match self.line(line) {
                        Ok(at) if at.is_empty() => {}
                        Ok(at) => version = at,
                        Err(error) => {
                            begin_anew |= error.kind == TroubleKind::Answered(410);
                            trouble = Some(error);
                        }
                    });
                }
                if !begin_anew {
                    self.stage = Stage::Watching { version, body, lines, until, since };
                }
                trouble.map_or(Ok(()), Err)
            }
            Ok(Some(Err(error))) if !ended_early(&error) => {
                self.stage = Stage::Listed { version };
                Err(Trouble::unreachable(format!("the watch of pods broke off: {}", chain(&error))))
            }
            // At its end, or where a proxy on the way has had enough of it.
            Ok(None | Some(Err(_))) | Err(_) => {
                self.pause = (since.elapsed() < SHORT_WATCH).then_some(SHORT_WATCH);
                self.stage = Stage::Listed { version };
                Ok(())
            }
        }
    }

    /// Takes in a line of a watch: the version from which to go on; empty: as before.
    fn line(&mut self, text: &Text) -> Result<String, Trouble> {
        let unreadable = |error: serde_json::Error| Trouble::unreadable(format!("the watch of pods: {error}"));
        let Some(whole) = text.whole() else {
            let head = text.head();
            let version = head.version.clone();
            let gone = head.kind == "DELETED";
            let pod = too_large(text).map_err(|words| Trouble::unreadable(format!("the watch of pods: {words}")))?;
            let change = if gone { PodChange::Gone(pod.id) } else { PodChange::Applied(Box::new(pod)) };
            self.ready.push_back(change);
            return Ok(version);
        };
        let line = match serde_json::from_slice::<Line>(whole) {
            Ok(line) => line,
            Err(error) => {
                // A failure may come without the frame of an event.
                let status: Status = serde_json::from_slice(whole).unwrap_or_default();
                let told = status.message.zip(status.code);
                return Err(
                    told.map_or_else(|| unreadable(error), |(words, code)| answered(code, "the watch of pods", &words))
                );
            }
        };
        match line.r#type.as_str() {
            "ERROR" => {
                let status: Status = serde_json::from_str(line.object.get()).unwrap_or_default();
                let words = status.message.unwrap_or_default();
                Err(answered(status.code.unwrap_or_default(), "the watch of pods", &words))
            }
            "BOOKMARK" => {
                let bookmark: Bookmark = serde_json::from_str(line.object.get()).map_err(unreadable)?;
                Ok(bookmark.metadata.resource_version.unwrap_or_default())
            }
            kind @ ("ADDED" | "MODIFIED" | "DELETED") => {
                let (pod, version) = read(line.object.get()).map_err(unreadable)?;
                let gone = kind == "DELETED";
                self.ready.push_back(if gone { PodChange::Gone(pod.id) } else { PodChange::Applied(Box::new(pod)) });
                Ok(version)
            }
            other => Err(Trouble::unreadable(format!("the watch of pods: an event of type {:?}", shortened(other)))),
        }
    }
}

fn answered(code: u16, what: &str, message: &str) -> Trouble {
    let reason = StatusCode::from_u16(code).ok().and_then(|code| code.canonical_reason()).unwrap_or_default();
    let message = message.get(..message.floor_char_boundary(300)).unwrap_or_default();
    Trouble { kind: TroubleKind::Answered(code), words: format!("{what}: {code} {reason}: {message}") }
}

fn read(text: &str) -> Result<(Pod, String), serde_json::Error> {
    let raw: RawPod<'_> = serde_json::from_str(text)?;
    Ok(raw.into_pod())
}

/// The pod of an item of a list, and its resource version; an item that is none is an error.
fn pod_of(text: &Text) -> Result<(Pod, String), String> {
    match text.whole() {
        Some(whole) => {
            let text = std::str::from_utf8(whole).map_err(|error| error.to_string())?;
            read(text).map_err(|error| error.to_string())
        }
        None => Ok((too_large(text)?, text.head().version)),
    }
}

/// A pod that is not read: passed on with that, so that it is told and never acted on.
fn too_large(text: &Text) -> Result<Pod, String> {
    let head = text.head();
    if head.id.name.is_empty() {
        return Err(format!("an object of more than {} that does not begin with its name", Bytes(LARGEST as u64)));
    }
    Ok(head_only(head.id, format!("it is larger than {} as JSON: make it smaller", Bytes(LARGEST as u64))))
}

/// A watch that was cut goes on where it was: nothing to be told.
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
