//! Watches of pods.

use crate::answers;
use crate::list;
use crate::reply::{Reply, Torn};
use crate::route::Call;
use crate::select::Selector;
use crate::state::{Inner, Tell};
use bytes::Bytes;
use serde_json::{Value, json};
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;
use tokio::sync::{broadcast, mpsc};
use tokio::time::Instant;

/// Without `timeoutSeconds` the real server ends a watch after 30 to 60 minutes.
const TIMEOUT: Duration = Duration::from_secs(1800);
/// A bookmark comes so long before the time-out, and once a minute (watch-bookmark.json; cacher.go).
const BOOKMARK_BEFORE_END: Duration = Duration::from_secs(2);
const BOOKMARK_EVERY: Duration = Duration::from_secs(60);
/// A watch shorter than this gets none (watch-initial-events-rv0.json: 3 s).
const BOOKMARK_SHORTEST: Duration = Duration::from_secs(4);
/// The recorded distance of the two bookmarks before the end.
const BOOKMARK_AGAIN: Duration = Duration::from_millis(1195);
/// Lines that wait for a slow client; the watch itself waits beyond that.
const LINES: usize = 256;

struct Watch {
    inner: Arc<Inner>,
    selector: Selector,
    /// Changes up to here were sent.
    cursor: u64,
    lines: mpsc::Sender<Result<Bytes, Torn>>,
    bookmarks: bool,
    partial: bool,
}

/// Checks the request, then answers 200 and streams.
pub(crate) fn open(inner: &Arc<Inner>, call: &Call) -> Result<Reply, Reply> {
    let selector = list::selector(call)?;
    let asked = list::version(call)?;
    let initial = call.flag("sendInitialEvents");
    if initial && call.query("resourceVersionMatch") != "NotOlderThan" {
        return Err(call.reply(&answers::INITIAL_EVENTS_BAD, &[]));
    }
    let (current, compacted, supported) = inner.read(|state| (state.version, state.compacted, state.initial_events));
    if initial && !supported {
        return Ok(call.reply(&answers::INITIAL_EVENTS_UNSUPPORTED, &[]));
    }
    let from = asked.filter(|version| *version > 0 && !initial);
    if let Some(version) = from.filter(|version| *version < compacted) {
        let vars = [("version", version.to_string()), ("current", compacted.to_string())];
        return Ok(call.reply(&answers::WATCH_TOO_OLD, &vars.each_ref().map(|(key, value)| (*key, value.as_str()))));
    }
    let (lines, out) = mpsc::channel(LINES);
    let (bookmarks, partial) = (call.flag("allowWatchBookmarks"), list::metadata_only(call));
    let watch = Watch { inner: inner.clone(), selector, cursor: from.unwrap_or(current), lines, bookmarks, partial };
    let timeout =
        call.query("timeoutSeconds").parse().ok().filter(|seconds| *seconds > 0).map_or(TIMEOUT, Duration::from_secs);
    let told = inner.tell.subscribe();
    inner.watches.fetch_add(1, Ordering::SeqCst);
    inner.note_change();
    tokio::spawn(async move {
        let inner = watch.inner.clone();
        watch.run(from.is_none(), initial, timeout, told).await;
        inner.watches.fetch_sub(1, Ordering::SeqCst);
        inner.note_change();
    });
    Ok(Reply::stream(out))
}

impl Watch {
    async fn run(
        mut self,
        all_first: bool,
        mark_initial: bool,
        timeout: Duration,
        mut told: broadcast::Receiver<Tell>,
    ) {
        let start = Instant::now();
        let end = start + timeout;
        let mut bookmark_at = start + first_bookmark(timeout);
        let inner = self.inner.clone();
        let mut turn = inner.turn.subscribe();
        if all_first && self.existing(mark_initial).await.is_none() {
            return;
        }
        loop {
            turn.borrow_and_update();
            if self.send_changes().await.is_none() {
                return;
            }
            let lines = self.lines.clone();
            tokio::select! {
                biased;
                () = lines.closed() => return,
                tell = told.recv() => {
                    let goes_on = match tell {
                        Ok(tell) => self.obey(tell, &mut told).await,
                        Err(broadcast::error::RecvError::Lagged(_)) => Some(()),
                        Err(broadcast::error::RecvError::Closed) => None,
                    };
                    if goes_on.is_none() {
                        return;
                    }
                }
                () = tokio::time::sleep_until(end) => return,
                () = tokio::time::sleep_until(bookmark_at), if self.bookmarks && timeout >= BOOKMARK_SHORTEST => {
                    let left = end.saturating_duration_since(Instant::now());
                    let next = if left <= BOOKMARK_BEFORE_END { BOOKMARK_AGAIN } else { first_bookmark(left) };
                    bookmark_at = Instant::now() + next;
                    if self.bookmark(None).await.is_none() {
                        return;
                    }
                }
                changed = turn.changed() => if changed.is_err() { return },
            }
        }
    }

    async fn obey(&self, tell: Tell, told: &mut broadcast::Receiver<Tell>) -> Option<()> {
        match tell {
            Tell::Bookmark if !self.bookmarks => Some(()),
            Tell::Bookmark => self.bookmark(None).await,
            Tell::End => None,
            Tell::Cut => {
                let _ = self.lines.send(Err(Torn)).await;
                None
            }
            Tell::Expire => {
                let (old, now) = (self.cursor.to_string(), self.inner.read(|state| state.version).to_string());
                self.send("ERROR", answers::WATCH_TOO_OLD.status(&[("version", &old), ("current", &now)])).await;
                None
            }
            Tell::Hang => loop {
                tokio::select! {
                    () = self.lines.closed() => return None,
                    tell = told.recv() => match tell {
                        Ok(Tell::Cut) => {
                            let _ = self.lines.send(Err(Torn)).await;
                            return None;
                        }
                        Ok(Tell::End) | Err(broadcast::error::RecvError::Closed) => return None,
                        _ => {}
                    },
                }
            },
        }
    }

    /// ADDED for each pod that is there, then (if asked for) the bookmark that ends them.
    async fn existing(&mut self, mark: bool) -> Option<()> {
        let (pods, version) = self.inner.read(|state| (state.pods.clone(), state.version));
        self.cursor = version;
        for ((namespace, _), pod) in &pods {
            if self.selector.matches(namespace, pod) {
                self.send("ADDED", Value::clone(pod)).await?;
            }
        }
        if mark && self.bookmarks {
            self.bookmark(Some(json!({"k8s.io/initial-events-end": "true"}))).await?;
        }
        Some(())
    }

    /// What happened since the cursor. A watch that lags behind the history is told so and ends.
    async fn send_changes(&mut self) -> Option<()> {
        let (changes, lost) = self.inner.read(|state| {
            let first = state.history.partition_point(|change| change.version <= self.cursor);
            let changes: Vec<_> = state.history.range(first..).cloned().collect();
            (changes, (self.cursor < state.trimmed).then_some(state.trimmed))
        });
        if let Some(trimmed) = lost {
            let (old, now) = (self.cursor.to_string(), trimmed.to_string());
            self.send("ERROR", answers::WATCH_TOO_OLD.status(&[("version", &old), ("current", &now)])).await?;
            return None;
        }
        for change in changes {
            self.cursor = change.version;
            if let Some((kind, object)) = change.seen_by(&self.selector) {
                self.send(kind, object).await?;
            }
        }
        Some(())
    }

    async fn bookmark(&self, annotations: Option<Value>) -> Option<()> {
        let version = self.inner.read(|state| state.version);
        if self.cursor > version {
            return Some(()); // a watch from the future is silent (watch-future-rv.json)
        }
        let mut object = json!({
            "kind": "Pod", "apiVersion": "v1", "metadata": {"resourceVersion": version.to_string()},
            "spec": {"containers": null}, "status": {},
        });
        if let Some(annotations) = annotations {
            object["metadata"]["annotations"] = annotations;
        }
        self.send("BOOKMARK", object).await
    }

    /// `None` if the client is gone.
    async fn send(&self, kind: &str, object: Value) -> Option<()> {
        let object = if self.partial && kind != "ERROR" { list::partial_metadata(&object) } else { object };
        let line = format!("{}\n", json!({"type": kind, "object": object}));
        self.lines.send(Ok(line.into())).await.ok()
    }
}

/// How long until the next bookmark, with so much time left.
fn first_bookmark(left: Duration) -> Duration {
    left.saturating_sub(BOOKMARK_BEFORE_END).min(BOOKMARK_EVERY)
}
