//! What people are told: one log line, and an Event on the pod and on its owner.
//!
//! Events are written by a task of their own from a bounded queue: one that cannot be written
//! never delays an eviction.

use std::fmt::Write as _;
use std::time::Duration;

use k8s_openapi::api::core::v1::ObjectReference;
use kube::Client;
use kube::runtime::events::{Event, EventType, Recorder, Reporter};
use tokio::sync::mpsc::Receiver;
use tracing::{info, warn};

use crate::evict::Answer;
use crate::guard::{DryRun, Problem, Warning};
use crate::metrics::Metrics;
use crate::pods::{Owner, PodRef, chain};
use crate::policy::Evidence;
use crate::units::Bytes;

/// The API server's bound for the note of an Event, in bytes (measured: 422 above it).
const NOTE_BYTES: usize = 1024;
/// So many notices wait for a slow server; more are logged and counted, not written as Events.
pub const QUEUE: usize = 256;
/// How long one Event may take.
const EVENT_WITHIN: Duration = Duration::from_secs(5);

/// Something to be told about a pod.
#[derive(Clone, Debug)]
pub struct Notice {
    /// Which pod.
    pub pod: PodRef,
    /// Its controlling owner.
    pub owner: Option<Owner>,
    /// Which container; none: the pod as a whole, or its own group.
    pub container: Option<String>,
    /// What.
    pub subject: Subject,
}

/// What is told.
#[derive(Clone, Debug)]
pub enum Subject {
    /// The eviction was accepted, or would have been sent.
    Evicted {
        /// Why.
        evidence: Evidence,
        /// Whether it was only tried.
        mode: DryRun,
        /// The grace that went along.
        grace: Option<u32>,
        /// From the verdict to the answer.
        took: Duration,
    },
    /// The server did not do it.
    NotEvicted {
        /// Why it was asked.
        evidence: Evidence,
        /// What it said.
        answer: Answer,
        /// Whether it was only tried.
        mode: DryRun,
    },
    /// The guard does not parse; the pod is not guarded.
    InvalidGuard(Vec<Problem>),
    /// The guard holds, but something in it has no effect.
    GuardWarning(Warning),
    /// A percentage of no limit.
    NoLimit,
    /// A quantity not below the limit.
    BeyondLimit,
    /// The container's group was not found.
    Unresolved(String),
    /// The container's group cannot be read.
    Unreadable(String),
}

impl Subject {
    /// The whole of it in words.
    #[must_use]
    pub fn words(&self) -> String {
        match self {
            Subject::Evicted {
                evidence,
                mode,
                grace,
                ..
            } => {
                let done = match mode {
                    DryRun::Off => "Evicted before the kernel's OOM killer",
                    DryRun::Server => "Would have been evicted (the server tried it as a dry run)",
                    DryRun::Client => "Would have been evicted (dry run: nothing was sent)",
                };
                let grace = grace.map_or(String::new(), |s| format!(", grace {s} s"));
                format!("{done}{grace}: {}", evidence_words(evidence))
            }
            Subject::NotEvicted {
                evidence, answer, ..
            } => format!("{}: {}", answer_words(answer), evidence_words(evidence)),
            Subject::InvalidGuard(problems) => {
                let words: Vec<String> = problems.iter().map(ToString::to_string).collect();
                format!("Not guarded: {}", words.join("; "))
            }
            Subject::GuardWarning(warning) => warning.to_string(),
            Subject::NoLimit => "Not guarded: the threshold is a percentage, and neither the container nor its pod has a memory limit: set a limit, or write a quantity such as \"512Mi\"".into(),
            Subject::BeyondLimit => "Not guarded: the threshold is not below the memory limit, so it can never be crossed: write a smaller one".into(),
            Subject::Unresolved(why) => format!("Not guarded: {why}"),
            Subject::Unreadable(why) => format!("Not guarded: {why}"),
        }
    }

    /// What makes two of them the same to tell: without the numbers that change from try to try.
    #[must_use]
    pub fn once(&self) -> String {
        match self {
            Subject::NotEvicted { answer, .. } => answer_words(answer),
            other => other.words(),
        }
    }

    /// The Event's reason.
    #[must_use]
    pub fn reason(&self) -> &'static str {
        match self {
            Subject::Evicted { mode, .. } => match mode {
                DryRun::Off => "PreOOMEvicted",
                DryRun::Server | DryRun::Client => "PreOOMEvictionDryRun",
            },
            Subject::NotEvicted { answer, .. } => match answer {
                Answer::Blocked { .. } => "PreOOMEvictionBlocked",
                _ => "PreOOMEvictionFailed",
            },
            Subject::InvalidGuard(_) | Subject::NoLimit | Subject::BeyondLimit => "PreOOMInvalidGuard",
            Subject::GuardWarning(_) => "PreOOMGuardWarning",
            Subject::Unresolved(_) | Subject::Unreadable(_) => "PreOOMNotGuarded",
        }
    }

    /// The answers after which nothing is left to tell the pod: it is no more.
    fn is_news(&self) -> bool {
        let over_anyway = matches!(
            self,
            Subject::NotEvicted { answer: Answer::Gone | Answer::Replaced | Answer::NamespaceTerminating, .. }
        );
        !over_anyway
    }

    fn is_about_an_eviction(&self) -> bool {
        matches!(self, Subject::Evicted { .. } | Subject::NotEvicted { .. })
    }
}

fn answer_words(answer: &Answer) -> String {
    match answer {
        Answer::Accepted => "Evicted".into(),
        Answer::Gone => "Gone before it could be evicted".into(),
        Answer::Replaced => "Replaced by another pod of its name before it could be evicted".into(),
        Answer::NamespaceTerminating => "Its namespace is being terminated".into(),
        Answer::Blocked { budget, message, .. } => match budget {
            Some(budget) => {
                format!("Eviction blocked by PodDisruptionBudget {budget} ({message}); tried again while over")
            }
            None => format!("Eviction blocked ({message}); tried again while over"),
        },
        Answer::Throttled { .. } => "Eviction put off: the API server is throttling; tried again while over".into(),
        Answer::Refused { code, message } => {
            format!("Eviction refused ({code}: {message}); tried again once a minute while over")
        }
        Answer::Unauthorized => "Eviction failed: the API server does not accept this agent's token (401)".into(),
        Answer::Failing { code, message } => {
            format!("Eviction failed ({code}: {message}); tried again while over")
        }
        Answer::Unknown { message } => {
            format!("Eviction without an answer ({message}); tried again while over")
        }
        Answer::Mistake { code, message } => {
            format!("Eviction not understood ({code}: {message}); not tried again: this is a bug of pre-oom-killer")
        }
    }
}

/// `working-set 154.1Mi is above the threshold of 153.6Mi (usage 160Mi, limit 256Mi, …)`.
#[must_use]
pub fn evidence_words(e: &Evidence) -> String {
    let mut text = format!(
        "{} {} is above the threshold of {} (usage {}, limit {}",
        e.signal.as_str(),
        e.value,
        e.threshold,
        e.usage,
        e.limit.map_or("none".into(), |l| l.to_string()),
    );
    // Writing to a String cannot fail.
    let _ = match e.growth {
        Some(growth) => write!(text, ", growing {}", rate(growth)),
        None => write!(text, ", growth not known yet"),
    };
    if let Some(room) = e.room {
        let _ = write!(text, ", {room} left before an OOM kill");
    }
    if e.waived {
        let _ = write!(text, ", sustained-for waived: it would not have lived so long");
    }
    text.push(')');
    text
}

/// `12.5Mi/s`, `-3Mi/s`.
fn rate(growth: i64) -> String {
    let sign = if growth < 0 { "-" } else { "" };
    format!("{sign}{}/s", Bytes(growth.unsigned_abs()))
}

/// Writes the log line of a notice.
pub fn log(notice: &Notice) {
    let subject = &notice.subject;
    let container = notice.container.as_deref().unwrap_or("");
    let (namespace, pod, uid) = (&notice.pod.namespace, &notice.pod.name, &notice.pod.uid.0);
    let (reason, message) = (subject.reason(), subject.words());
    let evidence = match subject {
        Subject::Evicted { evidence, .. } | Subject::NotEvicted { evidence, .. } => Some(evidence),
        _ => None,
    };
    let took = match subject {
        Subject::Evicted { took, mode, .. } if *mode != DryRun::Client => Some(took.as_secs_f64() * 1000.0),
        _ => None,
    };
    macro_rules! line {
        ($level:ident) => {
            $level!(
                reason,
                namespace,
                pod,
                uid,
                container,
                signal = evidence.map(|e| e.signal.as_str()),
                value = evidence.map(|e| e.value.0),
                usage = evidence.map(|e| e.usage.0),
                limit = evidence.and_then(|e| e.limit).map(|l| l.0),
                threshold = evidence.map(|e| e.threshold.0),
                growth = evidence.and_then(|e| e.growth),
                room = evidence.and_then(|e| e.room).map(|r| r.0),
                took_ms = took,
                "{message}"
            )
        };
    }
    match subject {
        Subject::NotEvicted { .. } if subject.is_news() => line!(warn),
        Subject::Evicted { .. } | Subject::NotEvicted { .. } => line!(info),
        _ => line!(warn),
    }
}

/// Writes the Events of the notices until the queue's sender is gone.
pub async fn write_events(client: Client, instance: Option<String>, mut queue: Receiver<Notice>, metrics: Metrics) {
    let reporter = Reporter { controller: "pre-oom-killer".into(), instance };
    let recorder = Recorder::new(client, reporter);
    while let Some(notice) = queue.recv().await {
        for (event, about) in events(&notice) {
            let written = tokio::time::timeout(EVENT_WITHIN, recorder.publish(&event, &about)).await;
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

/// The Events of a notice: on the pod, and where an eviction is told, on its owner.
fn events(notice: &Notice) -> Vec<(Event, ObjectReference)> {
    let subject = &notice.subject;
    if !subject.is_news() {
        return Vec::new();
    }
    let container = notice.container.as_ref();
    let place = container.map_or(String::new(), |c| format!("container {c}: "));
    let event = |note: String| Event {
        type_: match subject {
            Subject::Evicted { mode, .. } if *mode != DryRun::Off => EventType::Normal,
            _ => EventType::Warning,
        },
        reason: subject.reason().into(),
        note: Some(cut(note)),
        action: "Evicting".into(),
        secondary: None,
    };
    let pod = ObjectReference {
        api_version: Some("v1".into()),
        kind: Some("Pod".into()),
        namespace: Some(notice.pod.namespace.clone()),
        name: Some(notice.pod.name.clone()),
        uid: Some(notice.pod.uid.0.clone()),
        field_path: container.map(|c| format!("spec.containers{{{c}}}")),
        ..ObjectReference::default()
    };
    let mut all = vec![(event(format!("{place}{}", subject.words())), pod)];
    if let Some(owner) = &notice.owner
        && subject.is_about_an_eviction()
    {
        let of = owner.deployment().map_or(String::new(), |d| format!(" of Deployment {d}"));
        let note = format!("pod {}{of}: {place}{}", notice.pod.name, subject.words());
        let reference = ObjectReference {
            api_version: Some(owner.api_version.clone()),
            kind: Some(owner.kind.clone()),
            namespace: Some(notice.pod.namespace.clone()),
            name: Some(owner.name.clone()),
            uid: Some(owner.uid.clone()),
            ..ObjectReference::default()
        };
        all.push((event(note), reference));
    }
    all
}

/// At most [`NOTE_BYTES`], cut at a character.
fn cut(mut note: String) -> String {
    const MARK: &str = "…";
    if note.len() > NOTE_BYTES {
        let end = note.floor_char_boundary(NOTE_BYTES - MARK.len());
        note.truncate(end);
        note.push_str(MARK);
    }
    note
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::guard::Signal;
    use crate::pods::PodUid;

    fn evidence() -> Evidence {
        Evidence {
            at: Duration::ZERO,
            signal: Signal::WorkingSet,
            value: Bytes(161_500_000),
            usage: Bytes(160 << 20),
            limit: Some(Bytes(256 << 20)),
            threshold: Bytes(161_061_273),
            growth: Some(13_000_000),
            room: Some(Bytes(96 << 20)),
            waived: false,
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
            subject,
        }
    }

    #[test]
    fn an_eviction_is_told_on_the_pod_and_its_owner_with_its_numbers() {
        let events = events(&notice(Subject::Evicted {
            evidence: evidence(),
            mode: DryRun::Off,
            grace: None,
            took: Duration::from_millis(12),
        }));
        let notes: Vec<_> = events.iter().map(|(e, _)| e.note.clone().unwrap()).collect();
        assert_eq!(
            notes[0],
            "container app: Evicted before the kernel's OOM killer: working-set 154Mi is above the threshold of 153.6Mi (usage 160Mi, limit 256Mi, growing 12.4Mi/s, 96Mi left before an OOM kill)"
        );
        assert_eq!(notes[1], format!("pod web-58f6dff65f-p9cf2 of Deployment web: {}", notes[0]));
        let on: Vec<_> = events.iter().map(|(_, r)| r.kind.clone().unwrap()).collect();
        assert_eq!(on, ["Pod", "ReplicaSet"]);
        assert!(events.iter().all(|(e, _)| e.reason == "PreOOMEvicted"));
    }

    #[test]
    fn what_is_no_news_is_no_event() {
        for answer in [Answer::Gone, Answer::Replaced, Answer::NamespaceTerminating] {
            let subject = Subject::NotEvicted { evidence: evidence(), answer, mode: DryRun::Off };
            assert!(events(&notice(subject)).is_empty());
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
