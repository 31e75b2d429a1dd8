//! What is reported about a pod: the vocabulary of the log, Events, metrics and `/api/guards`.

use std::sync::Arc;
use std::time::Duration;

use jiff::Timestamp;

use super::story::Story;
use crate::act::answer::Answer;
use crate::act::order::Act;
use crate::act::warn::Warned;
use crate::decide::eligibility::Never;
use crate::decide::judge::Evidence;
use crate::decide::ladder::Reasons;
use crate::decide::restraint::Reason;
use crate::decide::throttle::Throttled;
use crate::ground::units::Bytes;
use crate::pods::guard::{DryRun, Problem, Remedy, Warning};
use crate::pods::{Owner, PodRef};
use crate::sampler::LastSample;

/// Something to report about a pod.
#[derive(Clone, Debug)]
pub struct Notice {
    pub pod: PodRef,
    pub owner: Option<Owner>,
    /// The container; `None`: the pod as a whole, or its own group.
    pub container: Option<String>,
    /// The label of its namespace has opted it in.
    pub by_namespace: bool,
    pub subject: Subject,
    /// What is known of the container's past, where the notice is about an eviction.
    pub story: Option<Arc<Story>>,
}

#[derive(Clone, Debug)]
pub enum Subject {
    /// The request was accepted, or would have been sent. A raise or a restart only as a dry run.
    Evicted {
        evidence: Evidence,
        /// Evicted, or deleted past a disruption budget.
        act: Act,
        /// Whether it was a dry run.
        mode: DryRun,
        /// The grace period in the request, in seconds.
        grace: Option<u32>,
        /// From the request to the answer.
        took: Duration,
        /// The remedies of the pod's list that were passed over, and why.
        passed: Reasons,
        /// The kernel's OOM killer was first: it was counted before the answer came.
        too_late: bool,
    },
    /// The kernel has a container's raised limit.
    Raised {
        evidence: Evidence,
        from: Bytes,
        to: Bytes,
        /// From the request to the kernel.
        took: Duration,
    },
    /// A container was restarted in place: its process has ended.
    Restarted {
        evidence: Evidence,
        /// From the request to the end.
        took: Duration,
    },
    /// A remedy had no effect in time, so the next one began.
    GaveUp {
        evidence: Evidence,
        remedy: Remedy,
        /// Since its request.
        after: Duration,
        /// The disruption budgets were asked, and nothing else was sent.
        asked: bool,
    },
    /// A container was warned, and what came of it.
    Warned {
        evidence: Evidence,
        answer: Warned,
        /// By how much its signal fell afterwards, in bytes.
        relieved: i64,
    },
    /// A container cannot be warned.
    NotWarned(String),
    /// None of the remedies is possible.
    NoRemedy { evidence: Evidence, reasons: Reasons },
    /// The server did not carry out the request.
    NotEvicted {
        evidence: Evidence,
        act: Act,
        answer: Answer,
        /// Whether it was a dry run.
        mode: DryRun,
        /// Whether it only asked the disruption budgets, before a restart.
        asked: bool,
    },
    /// Above its threshold, but restraint defers the eviction.
    Deferred {
        /// Why it would be evicted.
        evidence: Evidence,
        until: Timestamp,
        reason: Reason,
    },
    /// Evicted, but still running and growing after its grace period.
    Slow {
        /// How long ago the eviction was accepted.
        since: Duration,
        /// Bytes a second.
        growth: i64,
    },
    /// The kernel killed a guarded container.
    Missed {
        /// Why it was not evicted before.
        reason: MissReason,
        /// The last sample, and how long before the kill it was taken.
        last_sample: Option<Box<(LastSample, Duration)>>,
        /// How many kills in it the kernel has counted.
        count: u64,
        /// The kill ended the container; otherwise it ended only some of its processes.
        whole: bool,
    },
    /// It has opted in, but is never evicted.
    Never(Never),
    /// The guard does not parse; the pod is not guarded.
    InvalidGuard(Vec<Problem>),
    /// The guard is valid, but part of it has no effect.
    GuardWarning(Warning),
    /// The threshold is a percentage, and there is no limit.
    NoLimit,
    /// The threshold is a quantity that is not below the limit.
    BeyondLimit,
    /// The kernel slows the container down at `memory.high`, below its threshold.
    Throttled(Throttled),
    /// The container's group was not found.
    Unresolved(String),
    /// The container's group cannot be read.
    Unreadable(String),
}

/// Why a container was killed instead of evicted.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum MissReason {
    /// It was not seen above its threshold in time.
    TooFast,
    /// It was not above its threshold for long enough yet (`sustained-for`).
    Sustaining,
    /// A disruption budget did not allow it.
    Blocked,
    Deferred,
    /// None of its remedies was possible.
    NoRemedy,
    /// The server refused, or did not answer.
    Refused,
    /// It was already terminating.
    Terminating,
    /// Its evictions were dry runs.
    DryRun,
    InvalidGuard,
    /// The node ran out of memory, not the container.
    NodeWide,
    /// Other things in the pod filled the pod's limit.
    PodLimit,
    /// A limit that was set inside the container was hit.
    InnerLimit,
}

impl MissReason {
    pub const ALL: [MissReason; 12] = [
        MissReason::TooFast,
        MissReason::Sustaining,
        MissReason::Blocked,
        MissReason::Deferred,
        MissReason::NoRemedy,
        MissReason::Refused,
        MissReason::Terminating,
        MissReason::DryRun,
        MissReason::InvalidGuard,
        MissReason::NodeWide,
        MissReason::PodLimit,
        MissReason::InnerLimit,
    ];

    /// The word that metrics use.
    #[must_use]
    pub fn label(self) -> &'static str {
        match self {
            MissReason::TooFast => "too-fast",
            MissReason::Sustaining => "sustaining",
            MissReason::Blocked => "blocked",
            MissReason::Deferred => "held",
            MissReason::NoRemedy => "no-remedy",
            MissReason::Refused => "refused",
            MissReason::Terminating => "terminating",
            MissReason::DryRun => "dry-run",
            MissReason::InvalidGuard => "invalid-guard",
            MissReason::NodeWide => "node-wide",
            MissReason::PodLimit => "pod-limit",
            MissReason::InnerLimit => "inner-limit",
        }
    }
}

impl Subject {
    #[must_use]
    pub fn reason(&self) -> &'static str {
        match self {
            Subject::Evicted { act, mode, .. } => match (act, mode) {
                (Act::Evict, DryRun::Off) => "PreOOMEvicted",
                (Act::Delete, DryRun::Off) => "PreOOMForceDeleted",
                (Act::Evict | Act::Delete, DryRun::Server | DryRun::Client) => "PreOOMEvictionDryRun",
                (Act::Raise | Act::Restart, _) => "PreOOMRemedyDryRun",
            },
            Subject::Raised { .. } => "PreOOMRaised",
            Subject::Restarted { .. } => "PreOOMRestarted",
            Subject::GaveUp { .. } | Subject::NotEvicted { act: Act::Raise | Act::Restart, .. } => "PreOOMRemedyFailed",
            Subject::NoRemedy { .. } => "PreOOMNoRemedy",
            Subject::Warned { .. } | Subject::NotWarned(_) => "PreOOMWarned",
            Subject::NotEvicted { answer, .. } => match answer {
                Answer::Blocked { .. } => "PreOOMEvictionBlocked",
                _ => "PreOOMEvictionFailed",
            },
            Subject::Deferred { .. } => "PreOOMEvictionHeld",
            Subject::Slow { .. } => "PreOOMEvictionSlow",
            Subject::Missed { .. } => "PreOOMMissed",
            Subject::InvalidGuard(_) | Subject::NoLimit | Subject::BeyondLimit => "PreOOMInvalidGuard",
            Subject::GuardWarning(_) => "PreOOMGuardWarning",
            Subject::Throttled(_) => "PreOOMThrottled",
            Subject::Never(_) | Subject::Unresolved(_) | Subject::Unreadable(_) => "PreOOMNotGuarded",
        }
    }

    /// What an Event says that the agent does.
    #[must_use]
    pub fn action(&self) -> &'static str {
        match self {
            Subject::Evicted { act, .. } | Subject::NotEvicted { act, .. } => match act {
                Act::Evict | Act::Delete => "Evicting",
                Act::Raise => "Raising",
                Act::Restart => "Restarting",
            },
            Subject::Raised { .. } => "Raising",
            Subject::Restarted { .. } => "Restarting",
            Subject::GaveUp { remedy, .. } => match remedy {
                Remedy::Raise => "Raising",
                Remedy::Restart => "Restarting",
                Remedy::Evict => "Evicting",
            },
            Subject::Warned { .. } | Subject::NotWarned(_) => "Warning",
            Subject::Deferred { .. } | Subject::Slow { .. } => "Evicting",
            _ => "Guarding",
        }
    }

    /// False for answers that say that the pod is going anyway.
    pub(crate) fn is_news(&self) -> bool {
        !matches!(
            self,
            Subject::NotEvicted { answer: Answer::Gone | Answer::Replaced | Answer::NamespaceTerminating, .. }
        )
    }

    /// Its text says what kind of growth it was about.
    #[must_use]
    pub fn has_class(&self) -> bool {
        matches!(
            self,
            Subject::Evicted { .. }
                | Subject::Raised { .. }
                | Subject::Restarted { .. }
                | Subject::NoRemedy { .. }
                | Subject::Deferred { .. }
                | Subject::NotEvicted { .. }
                | Subject::Missed { .. }
        )
    }

    /// Such notices also go to the owner, and go first.
    #[must_use]
    pub fn is_about_an_eviction(&self) -> bool {
        matches!(
            self,
            Subject::Evicted { .. }
                | Subject::NotEvicted { .. }
                | Subject::Raised { .. }
                | Subject::Restarted { .. }
                | Subject::GaveUp { .. }
                | Subject::Warned { .. }
                | Subject::NoRemedy { .. }
                | Subject::Deferred { .. }
                | Subject::Slow { .. }
                | Subject::Missed { .. }
        )
    }
}
