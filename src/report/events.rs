//! Events, on the pod and on its owner. A task of its own writes them from a bounded queue, so that an Event that
//! cannot be written never delays an eviction.

use std::collections::VecDeque;
use std::time::Duration;

use k8s_openapi::api::core::v1::ObjectReference;
use kube::Client;
use kube::runtime::events::{Event, EventType, Recorder, Reporter};
use tokio::sync::mpsc::{Receiver, Sender, channel};
use tracing::warn;

use super::long_name;
use super::metrics::Metrics;
use super::notice::{Notice, Subject};
use crate::ground::text::chain;
use crate::pods::Owner;
use crate::pods::guard::DryRun;

/// The API server's limit for the note of an Event, in bytes (measured: a 422 above it).
pub(super) const NOTE_BYTES: usize = 1024;

/// The most notices of each kind that wait for a slow server. Further ones are logged and counted, but not written.
const QUEUE: usize = 256;

/// The most Events that are remembered, to count up equal ones.
const RECORDERS: usize = 64;

/// The timeout of one Event.
const EVENT_WITHIN: Duration = Duration::from_secs(5);

/// The notices that wait to be written as Events. Those about evictions go first.
#[derive(Debug)]
pub struct Queue {
    evictions: Sender<Notice>,
    others: Sender<Notice>,
}

/// The other end of a [`Queue`].
#[derive(Debug)]
pub struct Queued {
    evictions: Receiver<Notice>,
    others: Receiver<Notice>,
}

/// A queue of bounded length.
#[must_use]
pub fn queue() -> (Queue, Queued) {
    let (evictions, evictions_queued) = channel(QUEUE);
    let (others, others_queued) = channel(QUEUE);
    (Queue { evictions, others }, Queued { evictions: evictions_queued, others: others_queued })
}

impl Queue {
    /// Queues a notice; `false` if the queue is full, and the notice will not be written.
    #[must_use]
    pub fn put(&self, notice: Notice) -> bool {
        let line = if notice.subject.is_about_an_eviction() { &self.evictions } else { &self.others };
        line.try_send(notice).is_ok()
    }
}

impl Queued {
    async fn next(&mut self) -> Option<Notice> {
        tokio::select! {
            biased;
            Some(notice) = self.evictions.recv() => Some(notice),
            Some(notice) = self.others.recv() => Some(notice),
            else => None,
        }
    }
}

/// Writes equal Events (same object, same text) as one with a count. kube's recorder does that too, but treats any two
/// of the same reason as equal. Therefore each text has its own recorder.
struct Recorders {
    client: Client,
    reporter: Reporter,
    last: VecDeque<(String, Recorder)>,
}

impl Recorders {
    async fn publish(&mut self, event: &Event, about: &ObjectReference) -> Result<(), kube::Error> {
        if long_name::is_long(about) {
            return long_name::write(&self.client, &self.reporter, event, about).await;
        }
        let uid = about.uid.as_deref().unwrap_or_default();
        let key = format!("{uid} {} {}", event.reason, event.note.as_deref().unwrap_or_default());
        let known = self.last.iter().position(|(k, _)| *k == key);
        let fresh = Recorder::new(self.client.clone(), self.reporter.clone());
        let recorder = known.map_or_else(|| fresh.clone(), |i| self.last[i].1.clone());
        let written = recorder.publish(event, about).await;
        let recorder = match (&written, known) {
            // The Event to count up has been deleted, so it is written anew.
            (Err(kube::Error::Api(status)), Some(i)) if status.code == 404 => {
                self.last.remove(i);
                fresh.publish(event, about).await?;
                fresh
            }
            (Err(_), _) => return written,
            (Ok(()), Some(_)) => return Ok(()),
            (Ok(()), None) => recorder,
        };
        self.last.push_back((key, recorder));
        if self.last.len() > RECORDERS {
            self.last.pop_front();
        }
        Ok(())
    }
}

/// Writes the Events of the notices until the queue's other end is gone.
pub async fn write_events(client: Client, instance: Option<String>, mut queue: Queued, metrics: Metrics) {
    let mut recorders = Recorders { client, reporter: long_name::reporter(instance), last: VecDeque::new() };
    while let Some(notice) = queue.next().await {
        for (event, about) in events(&notice) {
            let mut written = tokio::time::timeout(EVENT_WITHIN, recorders.publish(&event, &about)).await;
            if let Ok(Err(kube::Error::Api(status))) = &written
                && status.code == 401
            {
                // The token was rotated; the client reads the new one for the next request.
                written = tokio::time::timeout(EVENT_WITHIN, recorders.publish(&event, &about)).await;
            }
            let error = match written {
                Ok(Ok(())) => continue,
                Ok(Err(error)) => chain(&error),
                Err(_) => format!("no answer within {} s", EVENT_WITHIN.as_secs()),
            };
            metrics.events_lost.inc();
            let kind = about.kind.unwrap_or_default();
            warn!(pod = %notice.pod, on = kind, error, "an Event could not be written");
        }
    }
}

/// The Events of a notice: on the pod, and on its owner if the notice is about an eviction.
fn events(notice: &Notice) -> Vec<(Event, ObjectReference)> {
    let subject = &notice.subject;
    if !subject.is_news() {
        return Vec::new();
    }
    let container = notice.container.as_ref();
    let place = container.map_or(String::new(), |c| format!("container {c}: "));
    let event = |note: String| Event {
        type_: match subject {
            Subject::Raised { .. } | Subject::Warned { .. } => EventType::Normal,
            Subject::Evicted { mode, .. } if *mode != DryRun::Off => EventType::Normal,
            _ => EventType::Warning,
        },
        reason: subject.reason().into(),
        note: Some(cut(note)),
        action: subject.action().into(),
        secondary: None,
    };
    let mut all = vec![(event(format!("{place}{}", notice.words())), pod_of(notice))];
    if let Some(owner) = &notice.owner
        && subject.is_about_an_eviction()
    {
        let reference = owner_of(notice, owner);
        // If the owner is a ReplicaSet, people know its Deployment. The Deployment's uid is unknown.
        let deployment = owner.deployment().map(|name| ObjectReference {
            kind: Some("Deployment".into()),
            name: Some(name.to_owned()),
            uid: None,
            ..reference.clone()
        });
        let of = owner.deployment().map_or(String::new(), |d| format!(" of Deployment {d}"));
        let note = format!("pod {}{of}: {place}{}", notice.pod.name, notice.words());
        all.push((Event { secondary: deployment, ..event(note) }, reference));
    }
    all
}

fn pod_of(notice: &Notice) -> ObjectReference {
    ObjectReference {
        api_version: Some("v1".into()),
        kind: Some("Pod".into()),
        namespace: Some(notice.pod.namespace.clone()),
        name: Some(notice.pod.name.clone()),
        uid: Some(notice.pod.uid.0.clone()),
        field_path: notice.container.as_ref().map(|c| format!("spec.containers{{{c}}}")),
        ..ObjectReference::default()
    }
}

fn owner_of(notice: &Notice, owner: &Owner) -> ObjectReference {
    ObjectReference {
        api_version: Some(owner.api_version.clone()),
        kind: Some(owner.kind.clone()),
        namespace: Some(notice.pod.namespace.clone()),
        name: Some(owner.name.clone()),
        uid: Some(owner.uid.clone()),
        ..ObjectReference::default()
    }
}

/// At most [`NOTE_BYTES`], cut at a character.
pub(crate) fn cut(mut note: String) -> String {
    const MARK: &str = "…";
    if note.len() > NOTE_BYTES {
        let end = note.floor_char_boundary(NOTE_BYTES - MARK.len());
        note.truncate(end);
        note.push_str(MARK);
    }
    note
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;
    use crate::act::answer::Answer;
    use crate::act::order::Act;
    use crate::decide::judge::Evidence;
    use crate::ground::memory::Signal;
    use crate::ground::units::Bytes;
    use crate::pods::Owner;
    use crate::pods::PodRef;
    use crate::pods::PodUid;
    use crate::report::events::NOTE_BYTES;

    pub(crate) fn evidence() -> Evidence {
        Evidence {
            at: Duration::ZERO,
            signal: Signal::WorkingSet,
            value: Bytes(161_500_000),
            usage: Bytes(160 << 20),
            limit: Some(Bytes(256 << 20)),
            threshold: Bytes(161_061_273),
            growth: Some(13_000_000),
            slow_growth: None,
            growth_at_least: 13_000_000,
            burst_at_least: 0,
            rise: None,
            margin: Some(Bytes(96 << 20)),
            tight: false,
            waived: false,
            critical: false,
        }
    }

    fn notice(subject: Subject) -> Notice {
        Notice {
            pod: PodRef { namespace: "demo".into(), name: "web-58f6dff65f-p9cf2".into(), uid: PodUid("u".into()) },
            owner: Some(Owner {
                api_version: "apps/v1".into(),
                kind: "ReplicaSet".into(),
                name: "web-58f6dff65f".into(),
                uid: "r".into(),
                template_hash: Some("58f6dff65f".into()),
            }),
            container: Some("app".into()),
            by_namespace: false,
            subject,
            story: None,
        }
    }

    #[test]
    fn an_eviction_is_told_on_the_pod_and_its_owner_with_its_numbers() {
        let events = events(&notice(Subject::Evicted {
            evidence: evidence(),
            act: Act::Evict,
            mode: DryRun::Off,
            grace: None,
            took: Duration::from_millis(12),
            passed: vec![(crate::pods::guard::Remedy::Raise, crate::decide::ladder::NotPossible::AtBound)],
            too_late: false,
        }));
        let notes: Vec<_> = events.iter().map(|(e, _)| e.note.clone().unwrap()).collect();
        assert_eq!(
            notes[0],
            "container app: Evicted before the kernel's OOM killer: working-set 154Mi is above the threshold of 153.6Mi (usage 160Mi, limit 256Mi, growing 12.4Mi/s, 96Mi left before an OOM kill); passed over: raise (its limit has reached raise-limit-to)"
        );
        assert_eq!(notes[1], format!("pod web-58f6dff65f-p9cf2 of Deployment web: {}", notes[0]));
        let on: Vec<_> = events.iter().map(|(_, r)| r.kind.clone().unwrap()).collect();
        assert_eq!(on, ["Pod", "ReplicaSet"]);
        let named = |r: &ObjectReference| (r.kind.clone().unwrap(), r.name.clone().unwrap(), r.uid.clone());
        let related: Vec<_> = events.iter().map(|(e, _)| e.secondary.as_ref().map(named)).collect();
        assert_eq!(related, [None, Some(("Deployment".into(), "web".into(), None))]);
        assert!(events.iter().all(|(e, _)| e.reason == "PreOOMEvicted"));
    }

    #[test]
    fn a_guard_that_the_namespace_has_given_is_told_as_such() {
        let pods = notice(Subject::NoLimit);
        let namespaces = Notice { by_namespace: true, ..pods.clone() };
        let note = |notice: &Notice| events(notice)[0].0.note.clone().unwrap();
        assert_eq!(note(&namespaces), format!("{} (guarded by its namespace's label)", note(&pods)));
    }

    #[test]
    fn what_is_no_news_is_no_event() {
        for answer in [Answer::Gone, Answer::Replaced, Answer::NamespaceTerminating] {
            let subject =
                Subject::NotEvicted { evidence: evidence(), act: Act::Evict, answer, mode: DryRun::Off, asked: false };
            assert!(events(&notice(subject)).is_empty());
        }
    }

    /// The API server takes no Event whose name is longer, nor an instance of more than 128 bytes.
    #[tokio::test]
    async fn the_longest_names_have_events() {
        let server = standin::Standin::start();
        server.put_pod(standin::pod("demo", "web").build());
        let kubeconfig = kube::config::Kubeconfig::from_yaml(&server.kubeconfig()).unwrap();
        let current = kube::config::KubeConfigOptions::default();
        let kube = kube::Config::from_custom_kubeconfig(kubeconfig, &current).await.unwrap();
        let client = Client::try_from(crate::act::client::fitted(kube)).unwrap();
        for length in [236, 237, 240, 253] {
            let mut told = notice(Subject::NoLimit);
            told.pod.name = format!("{}.b{}", "a".repeat(234), "c".repeat(length - 236));
            let (queue, queued) = queue();
            assert!(queue.put(told.clone()) && queue.put(told.clone()));
            drop(queue);
            write_events(client.clone(), Some("n".repeat(253)), queued, Metrics::new()).await;
            let about = |event: &serde_json::Value| event["regarding"]["name"] == told.pod.name.as_str();
            let all: Vec<_> = server.events().into_iter().filter(about).collect();
            assert!(!all.is_empty(), "{length}");
            for event in all {
                let name = event["metadata"]["name"].as_str().unwrap();
                assert!(name.len() <= 253 && !name.contains("..") && !name.contains("-."), "{length}: {name}");
                assert_eq!((&event["reason"], &event["type"]), (&"PreOOMInvalidGuard".into(), &"Warning".into()));
                assert!(event["note"].as_str().unwrap().contains("Not guarded"), "{event}");
                assert_eq!(event["reportingController"], "pre-oom-killer");
                assert!(event["reportingInstance"].as_str().unwrap().len() <= 128, "{event}");
            }
        }
    }

    #[test]
    fn a_note_keeps_the_servers_bound() {
        let long = Subject::Unreadable("é".repeat(2000));
        let events = events(&notice(long));
        let note = events[0].0.note.as_ref().unwrap();
        assert!(note.len() <= NOTE_BYTES && note.ends_with('…'));
        assert_eq!(events.len(), 1, "not the owner's business");
    }
}
