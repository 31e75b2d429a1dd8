//! What people are told: one log line, and an Event on the pod and on its owner.
//!
//! Events are written by a task of their own from a bounded queue: one that cannot be written
//! never delays an eviction.

pub mod log;
pub mod metrics;
mod pace;
pub mod recent;

use std::collections::VecDeque;
use std::fmt::Write as _;
use std::time::Duration;

use jiff::Timestamp;
use k8s_openapi::api::core::v1::ObjectReference;
use kube::Client;
use kube::runtime::events::{Event, EventType, Recorder, Reporter};
use tokio::sync::mpsc::{Receiver, Sender, channel};
use tracing::{info, warn};

use crate::act::evict::{Act, Answer};
use crate::decide::eligibility::Never;
use crate::decide::judge::Evidence;
use crate::decide::restraint::Why;
use crate::ground::text::chain;
use crate::ground::units::Bytes;
use crate::pods::guard::{DryRun, Problem, Warning};
use crate::pods::{Owner, PodRef};
use crate::report::metrics::{Metrics, NOT_SENT};
use crate::sampler::LastSample;

pub use self::pace::Pace;

/// The API server's bound for the note of an Event, in bytes (measured: 422 above it).
const NOTE_BYTES: usize = 1024;
/// So many notices of each line wait for a slow server; more are logged and counted, not written.
const QUEUE: usize = 256;
/// So many Events are remembered, to count up those that are equal.
const RECORDERS: usize = 64;
/// What is added where nobody wrote the guard into the pod's own manifest: where to look for it.
const BY_NAMESPACE: &str = " (guarded by its namespace's label)";
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
    /// Its namespace's label has opted it in.
    pub by_namespace: bool,
    /// What.
    pub subject: Subject,
}

/// What is told.
#[derive(Clone, Debug)]
pub enum Subject {
    /// The request was accepted, or would have been sent.
    Evicted {
        /// Why.
        evidence: Evidence,
        /// Evicted, or deleted past a disruption budget.
        act: Act,
        /// Whether it was only tried.
        mode: DryRun,
        /// The grace that went along, in seconds.
        grace: Option<u32>,
        /// From the request to the answer.
        took: Duration,
    },
    /// The server did not do it.
    NotEvicted {
        /// Why it was asked.
        evidence: Evidence,
        /// What was asked.
        act: Act,
        /// What it said.
        answer: Answer,
        /// Whether it was only tried.
        mode: DryRun,
    },
    /// Over, but restraint says to wait.
    Held {
        /// Why it would be evicted.
        evidence: Evidence,
        /// Until when.
        until: Timestamp,
        /// Why it is not.
        why: Why,
    },
    /// Evicted, but still there and growing after its grace.
    Slow {
        /// How long ago it was accepted.
        since: Duration,
        /// Bytes a second.
        growth: i64,
    },
    /// The kernel killed a guarded container.
    Missed {
        /// Why it was not evicted before.
        reason: MissReason,
        /// The last look at it, and how long ago that was.
        look: Option<Box<(LastSample, Duration)>>,
        /// How many kills the kernel has counted of it.
        count: u64,
        /// The container has ended by it; else only some of its processes have.
        whole: bool,
    },
    /// It has opted in, but is never evicted.
    Never(Never),
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

/// Why a container was killed and not evicted.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum MissReason {
    /// It was not seen above its threshold, or not for long enough.
    TooFast,
    /// It had to be over for longer (`sustained-for`).
    Sustaining,
    /// A disruption budget did not allow it.
    Blocked,
    /// Restraint held it.
    Held,
    /// The server refused, or did not answer.
    Refused,
    /// It was being ended already.
    Terminating,
    /// It was only to be tried.
    DryRun,
    /// Its guard was invalid.
    InvalidGuard,
    /// The node ran out of memory, not the container.
    NodeWide,
    /// What else is in the pod filled the pod's limit.
    PodLimit,
    /// A limit that was set inside the container was hit.
    InnerLimit,
}

impl MissReason {
    /// All of them.
    pub const ALL: [MissReason; 11] = [
        MissReason::TooFast,
        MissReason::Sustaining,
        MissReason::Blocked,
        MissReason::Held,
        MissReason::Refused,
        MissReason::Terminating,
        MissReason::DryRun,
        MissReason::InvalidGuard,
        MissReason::NodeWide,
        MissReason::PodLimit,
        MissReason::InnerLimit,
    ];

    /// One word, as metrics have it.
    #[must_use]
    pub fn label(self) -> &'static str {
        match self {
            MissReason::TooFast => "too-fast",
            MissReason::Sustaining => "sustaining",
            MissReason::Blocked => "blocked",
            MissReason::Held => "held",
            MissReason::Refused => "refused",
            MissReason::Terminating => "terminating",
            MissReason::DryRun => "dry-run",
            MissReason::InvalidGuard => "invalid-guard",
            MissReason::NodeWide => "node-wide",
            MissReason::PodLimit => "pod-limit",
            MissReason::InnerLimit => "inner-limit",
        }
    }

    /// The same in words, as Events have it.
    #[must_use]
    pub fn words(self) -> &'static str {
        match self {
            MissReason::TooFast => "it filled faster than it could be evicted",
            MissReason::Sustaining => "it was over, but not yet for as long as sustained-for says",
            MissReason::Blocked => "a disruption budget did not allow its eviction",
            MissReason::Held => "its eviction was held",
            MissReason::Refused => "the API server had not accepted its eviction",
            MissReason::Terminating => "it was being ended already",
            MissReason::DryRun => "its eviction was a dry run",
            MissReason::InvalidGuard => "its guard was invalid",
            MissReason::NodeWide => "the node ran out of memory, no limit of its own was hit",
            MissReason::PodLimit => {
                "the pod's limit was hit, which other containers or tmpfs fill, too; target-container-name \"*\" guards it"
            }
            MissReason::InnerLimit => "a limit that was set inside the container was hit, not the container's own",
        }
    }
}

impl Subject {
    /// The whole of it in words.
    #[must_use]
    pub fn words(&self) -> String {
        match self {
            Subject::Evicted { evidence, act, mode, grace, .. } => {
                let done = match (act, mode) {
                    (Act::Evict, DryRun::Off) => "Evicted before the kernel's OOM killer",
                    (Act::Delete, DryRun::Off) => {
                        "Deleted past its disruption budget, as force-delete-threshold allows, before the kernel's OOM killer"
                    }
                    (_, DryRun::Server) => "Would have been evicted (the server tried it as a dry run)",
                    (_, DryRun::Client) => "Would have been evicted (dry run: nothing was sent)",
                };
                let grace = grace.map_or(String::new(), |s| format!(", grace {s} s"));
                format!("{done}{grace}: {}", evidence_words(evidence))
            }
            Subject::NotEvicted { evidence, act, answer, .. } => {
                format!("{}: {}", answer_words(*act, answer), evidence_words(evidence))
            }
            Subject::Held { evidence, until, why } => {
                let until = until.strftime("%H:%M:%S UTC");
                format!("Eviction held until {until}: {why}; {}", evidence_words(evidence))
            }
            Subject::Slow { since, growth } => format!(
                "Still there, and growing {}, {} s after its eviction was accepted: its grace is over, and it is not evicted again",
                rate(*growth),
                since.as_secs()
            ),
            Subject::Missed { reason, look, count, whole } => {
                let mut last = match look {
                    Some(last) => format!(
                        "last read {} before: usage {}, limit {}, growing {}",
                        short(last.1),
                        last.0.sample.own.usage,
                        last.0.sample.base().map_or("none".into(), |l| l.to_string()),
                        last.0.growth.map_or("at an unknown rate".into(), rate),
                    ),
                    None => "never read".into(),
                };
                if *reason == MissReason::PodLimit
                    && let Some(pod) = look.as_ref().and_then(|look| look.0.sample.pod)
                {
                    let limit = pod.limit.map_or("none".into(), |l| l.to_string());
                    // Writing to a String cannot fail.
                    let _ = write!(last, "; the pod: usage {}, limit {limit}", pod.usage);
                }
                let killed = match (whole, count) {
                    (true, _) => "The container was OOM-killed by the kernel and not evicted before".into(),
                    (false, 1) => {
                        "One of its processes was OOM-killed by the kernel, and it was not evicted before".to_owned()
                    }
                    (false, n) => {
                        format!("{n} of its processes were OOM-killed by the kernel, and it was not evicted before")
                    }
                };
                format!("{killed}: {} ({last})", reason.words())
            }
            Subject::Never(never) => format!("Not guarded: {never}"),
            Subject::InvalidGuard(problems) => {
                let words: Vec<String> = problems.iter().map(ToString::to_string).collect();
                format!("Not guarded: {}", words.join("; "))
            }
            Subject::GuardWarning(warning) => warning.to_string(),
            Subject::NoLimit => "Not guarded: the threshold is a percentage, and neither the container nor its pod has a memory limit: set a limit, or write a quantity such as \"512Mi\"".into(),
            Subject::BeyondLimit => "Not guarded: the threshold is not below the memory limit, so it can never be crossed: write a smaller one".into(),
            Subject::Unresolved(why) | Subject::Unreadable(why) => format!("Not guarded: {why}"),
        }
    }

    /// What makes two of them the same to tell: without the numbers that change from try to try.
    #[must_use]
    pub fn once(&self) -> String {
        match self {
            Subject::NotEvicted { act, answer, .. } => answer_words(*act, answer),
            Subject::Held { why, .. } => format!("held: {why}"),
            Subject::Slow { .. } => "slow".into(),
            other => other.words(),
        }
    }

    /// The Event's reason.
    #[must_use]
    pub fn reason(&self) -> &'static str {
        match self {
            Subject::Evicted { act, mode, .. } => match (act, mode) {
                (Act::Evict, DryRun::Off) => "PreOOMEvicted",
                (Act::Delete, DryRun::Off) => "PreOOMForceDeleted",
                (_, DryRun::Server | DryRun::Client) => "PreOOMEvictionDryRun",
            },
            Subject::NotEvicted { answer, .. } => match answer {
                Answer::Blocked { .. } => "PreOOMEvictionBlocked",
                _ => "PreOOMEvictionFailed",
            },
            Subject::Held { .. } => "PreOOMEvictionHeld",
            Subject::Slow { .. } => "PreOOMEvictionSlow",
            Subject::Missed { .. } => "PreOOMMissed",
            Subject::InvalidGuard(_) | Subject::NoLimit | Subject::BeyondLimit => "PreOOMInvalidGuard",
            Subject::GuardWarning(_) => "PreOOMGuardWarning",
            Subject::Never(_) | Subject::Unresolved(_) | Subject::Unreadable(_) => "PreOOMNotGuarded",
        }
    }

    /// After some answers nothing is left to tell: the pod is no more.
    pub(crate) fn is_news(&self) -> bool {
        !matches!(
            self,
            Subject::NotEvicted { answer: Answer::Gone | Answer::Replaced | Answer::NamespaceTerminating, .. }
        )
    }

    /// Told on the owner too, and before anything else.
    #[must_use]
    pub fn is_about_an_eviction(&self) -> bool {
        matches!(
            self,
            Subject::Evicted { .. }
                | Subject::NotEvicted { .. }
                | Subject::Held { .. }
                | Subject::Slow { .. }
                | Subject::Missed { .. }
        )
    }

    /// The numbers and labels of it, as log and `/api/guards` have them.
    #[must_use]
    pub fn facts(&self) -> Facts {
        let mode = |mode: &DryRun| Some(*mode).filter(|mode| *mode != DryRun::Off);
        let of = |e: &Evidence| Facts {
            signal: Some(e.signal.as_str()),
            value: Some(e.value.0),
            usage: Some(e.usage.0),
            limit: e.limit.map(|l| l.0),
            threshold: Some(e.threshold.0),
            growth: e.growth,
            slow_growth: e.slow_growth,
            margin: e.margin.map(|r| r.0),
            ..Facts::default()
        };
        match self {
            Subject::Evicted { evidence, mode: DryRun::Client, .. } => {
                Facts { answer: Some(NOT_SENT), dry_run: Some(DryRun::Client), ..of(evidence) }
            }
            Subject::Evicted { evidence, mode: m, took, .. } => Facts {
                answer: Some(Answer::Accepted.label()),
                dry_run: mode(m),
                took_ms: Some(took.as_secs_f64() * 1000.0),
                ..of(evidence)
            },
            Subject::NotEvicted { evidence, answer, mode: m, .. } => {
                Facts { answer: Some(answer.label()), dry_run: mode(m), ..of(evidence) }
            }
            Subject::Held { evidence, why, .. } => Facts { cause: Some(why.label()), ..of(evidence) },
            Subject::Slow { growth, .. } => Facts { growth: Some(*growth), ..Facts::default() },
            Subject::Missed { reason, look, .. } => {
                let look = look.as_ref().map(|look| &look.0);
                Facts {
                    cause: Some(reason.label()),
                    value: look.and_then(|l| l.value).map(|v| v.0),
                    usage: look.map(|l| l.sample.own.usage.0),
                    limit: look.and_then(|l| l.sample.base()).map(|l| l.0),
                    threshold: look.and_then(|l| l.threshold).map(|t| t.0),
                    growth: look.and_then(|l| l.growth),
                    margin: look.and_then(|l| l.margin).map(|r| r.0),
                    ..Facts::default()
                }
            }
            _ => Facts::default(),
        }
    }
}

/// See [`Subject::facts`]. Sizes in bytes.
#[derive(Clone, Copy, Debug, Default, PartialEq, serde::Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Facts {
    /// The server's answer, as the metrics' label has it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub answer: Option<&'static str>,
    /// Why it is held, or why it was missed: the metrics' label `reason`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub cause: Option<&'static str>,
    /// `client` or `server` where it was only tried.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub dry_run: Option<DryRun>,
    /// Which signal was compared.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub signal: Option<&'static str>,
    /// Its value.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub value: Option<u64>,
    /// All that was charged.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub usage: Option<u64>,
    /// The limit.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub limit: Option<u64>,
    /// The threshold.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub threshold: Option<u64>,
    /// Over the last quarter of a second, in bytes a second.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub growth: Option<i64>,
    /// Over the last minute.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub slow_growth: Option<i64>,
    /// What was left before a kill.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub margin: Option<u64>,
    /// From the request to the answer, in milliseconds.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub took_ms: Option<f64>,
}

fn answer_words(act: Act, answer: &Answer) -> String {
    let what = match act {
        Act::Evict => "Eviction",
        Act::Delete => "Deletion",
    };
    const AGAIN: &str = "retrying while the container stays above its threshold";
    match answer {
        Answer::Accepted => format!("{what} accepted"),
        Answer::Gone => "Gone before it could be evicted (404); retrying while the watch still shows it".into(),
        Answer::Replaced => {
            "Replaced by another pod of its name before it could be evicted (409); retrying while the watch still shows it"
                .into()
        }
        Answer::NamespaceTerminating => "Its namespace is being terminated; retrying while the pod is left".into(),
        Answer::Blocked { budget: Some(budget), message, .. } => {
            format!("{what} blocked by PodDisruptionBudget {budget} ({message}); {AGAIN}")
        }
        Answer::Blocked { budget: None, message, .. } => format!("{what} blocked ({message}); {AGAIN}"),
        // The server's words begin with the webhook's name.
        Answer::Denied { code, message, .. } => format!("{what} denied ({code}: {message}); {AGAIN}"),
        Answer::Throttled { message: None, .. } => format!("{what} put off: the API server is throttling; {AGAIN}"),
        Answer::Throttled { message: Some(message), .. } => format!("{what} put off (429: {message}); {AGAIN}"),
        Answer::Refused { code, message } => {
            format!("{what} refused ({code}: {message}); retrying once a minute while the container stays above its threshold")
        }
        Answer::Unauthorized => {
            format!("{what} failed: the API server does not accept this agent's token (401); {AGAIN}")
        }
        Answer::Failing { code, message } => format!("{what} failed ({code}: {message}); {AGAIN}"),
        Answer::Unknown { message } => {
            let request = what.to_lowercase();
            format!("No response to the {request} request ({message}); {AGAIN}")
        }
        Answer::Mistake { code, message } => format!(
            "{what} not understood ({code}: {message}): this is a bug of pre-oom-killer; retrying once a minute while the container stays above its threshold"
        ),
        Answer::Ineffective => format!(
            "The server accepted the {}, but the pod was not marked for deletion (an admission webhook may have turned it into a dry run); {AGAIN}",
            what.to_lowercase()
        ),
    }
}

/// `350 ms`, `12 s`.
fn short(duration: Duration) -> String {
    match duration.as_millis() {
        millis @ 0..10_000 => format!("{millis} ms"),
        millis => format!("{} s", millis / 1000),
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
    if let Some(slow) = e.slow_growth.filter(|slow| *slow != 0) {
        let _ = write!(text, ", {} over the last minute", rate(slow));
    }
    if let Some(margin) = e.margin {
        let _ = write!(text, ", {margin} left before an OOM kill");
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

impl Notice {
    /// The whole of it in words, with whose guard it is.
    #[must_use]
    pub fn words(&self) -> String {
        let by = if self.by_namespace { BY_NAMESPACE } else { "" };
        self.subject.words() + by
    }
}

/// Writes the log line of a notice.
pub fn log(notice: &Notice) {
    let subject = &notice.subject;
    let container = notice.container.as_deref().unwrap_or("");
    let (namespace, pod, uid) = (&notice.pod.namespace, &notice.pod.name, &notice.pod.uid.0);
    let (reason, message) = (subject.reason(), notice.words());
    let owner = notice.owner.as_ref().map(Owner::workload);
    let facts = subject.facts();
    macro_rules! line {
        ($level:ident) => {
            $level!(
                reason,
                namespace,
                pod,
                uid,
                owner,
                container,
                answer = facts.answer,
                cause = facts.cause,
                dry_run = facts.dry_run.map(DryRun::as_str),
                signal = facts.signal,
                value = facts.value,
                usage = facts.usage,
                limit = facts.limit,
                threshold = facts.threshold,
                growth = facts.growth,
                slow_growth = facts.slow_growth,
                room = facts.margin,
                took_ms = facts.took_ms,
                "{message}"
            )
        };
    }
    match subject {
        Subject::Evicted { .. } => line!(info),
        _ if subject.is_news() => line!(warn),
        _ => line!(info),
    }
}

/// Where notices wait to be written as Events: those about evictions go first.
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
    /// Queues a notice; `false` if there is no room, and it is not written.
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

/// Equal Events (of one object, with one text) are written as one with a count. kube's recorder
/// does that, but takes any two of one reason for equal; so there is one recorder for each text.
struct Recorders {
    client: Client,
    reporter: Reporter,
    last: VecDeque<(String, Recorder)>,
}

impl Recorders {
    async fn publish(&mut self, event: &Event, about: &ObjectReference) -> Result<(), kube::Error> {
        let uid = about.uid.as_deref().unwrap_or_default();
        let key = format!("{uid} {} {}", event.reason, event.note.as_deref().unwrap_or_default());
        let known = self.last.iter().position(|(k, _)| *k == key);
        let fresh = Recorder::new(self.client.clone(), self.reporter.clone());
        let recorder = known.map_or_else(|| fresh.clone(), |i| self.last[i].1.clone());
        let written = recorder.publish(event, about).await;
        let recorder = match (&written, known) {
            // The Event that was to be counted up has been deleted: it is written anew.
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
    let reporter = Reporter { controller: "pre-oom-killer".into(), instance };
    let mut recorders = Recorders { client, reporter, last: VecDeque::new() };
    while let Some(notice) = queue.next().await {
        for (event, about) in events(&notice) {
            let mut written = tokio::time::timeout(EVENT_WITHIN, recorders.publish(&event, &about)).await;
            if let Ok(Err(kube::Error::Api(status))) = &written
                && status.code == 401
            {
                // The token was rotated; the client reads it anew for the next request.
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
        action: if subject.is_about_an_eviction() { "Evicting" } else { "Guarding" }.into(),
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
    let mut all = vec![(event(format!("{place}{}", notice.words())), pod)];
    if let Some(owner) = &notice.owner
        && subject.is_about_an_eviction()
    {
        let of = owner.deployment().map_or(String::new(), |d| format!(" of Deployment {d}"));
        let note = format!("pod {}{of}: {place}{}", notice.pod.name, notice.words());
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
    use crate::ground::memory::Signal;
    use crate::pods::PodUid;

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
    fn a_guard_that_the_namespace_has_given_is_told_as_such() {
        let pods = notice(Subject::NoLimit);
        let namespaces = Notice { by_namespace: true, ..pods.clone() };
        let note = |notice: &Notice| events(notice)[0].0.note.clone().unwrap();
        assert_eq!(note(&namespaces), format!("{} (guarded by its namespace's label)", note(&pods)));
    }

    #[test]
    fn what_is_no_news_is_no_event() {
        for answer in [Answer::Gone, Answer::Replaced, Answer::NamespaceTerminating] {
            let subject = Subject::NotEvicted { evidence: evidence(), act: Act::Evict, answer, mode: DryRun::Off };
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
