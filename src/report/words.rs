//! Notices as text, for Events and the log.

use std::fmt::Write as _;
use std::time::Duration;

use super::notice::{MissReason, Notice, Subject};
use crate::act::answer::Answer;
use crate::act::order::Act;
use crate::act::warn::Warned;
use crate::decide::judge::Evidence;
use crate::decide::ladder::NotPossible;
use crate::decide::throttle::Throttled;
use crate::ground::durations;
use crate::ground::units::Bytes;
use crate::pods::guard::{DryRun, Remedy};
use crate::sampler::LastSample;

/// Added if the guard is not in the pod's own manifest: it says where to find the guard.
const BY_NAMESPACE: &str = " (guarded by its namespace's label)";

/// `asked`: the request only asked the disruption budgets, before a restart.
fn answer_words(act: Act, answer: &Answer, asked: bool) -> String {
    let what = match act {
        Act::Evict => "Eviction",
        Act::Delete => "Deletion",
        Act::Raise => "Raise of its limit",
        Act::Restart => "Restart",
    };
    // It stands until the pod's spec changes.
    if let Some(words) = answer.refusal().filter(|_| matches!(act, Act::Raise | Act::Restart) && !asked) {
        return format!("{what} refused ({words}); not tried again until the pod's spec changes");
    }
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
        // The server's message begins with the webhook's name.
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

/// `The container was OOM-killed by the kernel: … (last read 12 ms before: …)`.
fn missed_words(reason: MissReason, last_sample: Option<&(LastSample, Duration)>, count: u64, whole: bool) -> String {
    let mut last = match last_sample {
        Some(last) => format!(
            "last read {} before: usage {}, limit {}, {}",
            durations::took(last.1),
            last.0.sample.own.usage,
            last.0.sample.base().map_or("none".into(), |l| l.to_string()),
            last.0.growth.map_or("growth not known yet".into(), growing),
        ),
        None => "never read".into(),
    };
    if reason == MissReason::PodLimit
        && let Some(pod) = last_sample.and_then(|last_sample| last_sample.0.sample.pod)
    {
        let limit = pod.limit.map_or("none".into(), |l| l.to_string());
        // Writing to a String cannot fail.
        let _ = write!(last, "; the pod: usage {}, limit {limit}", pod.usage);
    }
    let killed = match (whole, count) {
        (true, _) => "The container was OOM-killed by the kernel".to_owned(),
        (false, 1) => "One of its processes was OOM-killed by the kernel".to_owned(),
        (false, n) => format!("{n} of its processes were OOM-killed by the kernel"),
    };
    format!("{killed}: {} ({last})", reason.words())
}

/// `working-set 154.1Mi is above the threshold of 153.6Mi (usage 160Mi, limit 256Mi, …)`.
#[must_use]
pub fn evidence_words(e: &Evidence) -> String {
    let (value, threshold) = (e.value.to_string(), e.threshold.to_string());
    let just = if value == threshold { "just " } else { "" };
    let mut text = format!(
        "{} {value} is {just}above the threshold of {threshold} (usage {}, limit {}",
        e.signal.as_str(),
        e.usage,
        e.limit.map_or("none".into(), |l| l.to_string()),
    );
    // Writing to a String cannot fail.
    let _ = match e.growth {
        Some(growth) => write!(text, ", {}", growing(growth)),
        None => write!(text, ", growth not known yet"),
    };
    if let Some(slow) = e.slow_growth.filter(|slow| slow.abs() >= LEAST_GROWTH) {
        let _ = write!(text, ", {} over the last minute", growing(slow));
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

/// Less than this, in bytes a second, is no growth worth a word.
const LEAST_GROWTH: i64 = 16 << 10;

/// `growing 12.5Mi/s`, `shrinking 3Mi/s`.
fn growing(growth: i64) -> String {
    let word = if growth < 0 { "shrinking" } else { "growing" };
    format!("{word} {}/s", Bytes(growth.unsigned_abs()))
}

/// A change of the signal below this is no effect of a warning.
const RELIEF: i64 = 1 << 20;

/// `Warned, and it relieved 84Mi within 10 s: …`.
fn warned_words(evidence: &Evidence, answer: &Warned, relieved: i64) -> String {
    let effect = match relieved {
        RELIEF.. => format!("it relieved {} within 10 s", Bytes(relieved.unsigned_abs())),
        _ => "it did not help".to_owned(),
    };
    let done = match answer {
        Warned::Heard => format!("Warned, and {effect}"),
        Warned::Answered(status) => format!("Warned (it answered {status}), and {effect}"),
        Warned::Failed(why) => format!("The warning failed ({why}), and {effect}"),
        Warned::NotSent => "Would have been warned (dry run: nothing was sent)".to_owned(),
    };
    format!("{done}: {}", evidence_words(evidence))
}

/// `; passed over: raise (its limit has reached raise-limit-to)`, after why a pod was evicted.
fn passed_words(reasons: &[(Remedy, NotPossible)]) -> String {
    let words: Vec<String> = reasons.iter().map(|(remedy, why)| format!("{} ({why})", remedy.as_str())).collect();
    if words.is_empty() { String::new() } else { format!("; passed over: {}", words.join(", ")) }
}

/// `raise: its limit has reached raise-limit-to; restart: …`.
fn reasons_words(reasons: &[(Remedy, NotPossible)]) -> String {
    let words: Vec<String> = reasons.iter().map(|(remedy, why)| format!("{}: {why}", remedy.as_str())).collect();
    words.join("; ")
}

/// `12.5Mi/s`, `-3Mi/s`.
fn rate(growth: i64) -> String {
    let sign = if growth < 0 { "-" } else { "" };
    format!("{sign}{}/s", Bytes(growth.unsigned_abs()))
}

/// What is reported of the remedies besides an eviction.
fn remedy_words(subject: &Subject) -> String {
    match subject {
        Subject::Raised { evidence, from, to, took } => format!(
            "Memory limit raised from {from} to {to} within {}, before the kernel's OOM killer: {}",
            durations::took(*took),
            evidence_words(evidence)
        ),
        Subject::Restarted { evidence, took } => format!(
            "Container restarted in place, its process ended within {}, before the kernel's OOM killer: {}",
            durations::took(*took),
            evidence_words(evidence)
        ),
        Subject::GaveUp { evidence, remedy, after, asked } => {
            let what = match asked {
                true => format!(
                    "The {} was not begun: no answer to the question whether disruption budgets allow it",
                    remedy.as_str()
                ),
                false => format!("The {} had no effect", remedy.as_str()),
            };
            format!("{what} within {}; the next remedy begins: {}", durations::took(*after), evidence_words(evidence))
        }
        Subject::Warned { evidence, answer, relieved } => warned_words(evidence, answer, *relieved),
        Subject::NotWarned(why) => format!("Not warned: {why}"),
        Subject::NoRemedy { evidence, reasons } => {
            format!(
                "Nothing can be done before the kernel's OOM killer: {}; {}",
                reasons_words(reasons),
                evidence_words(evidence)
            )
        }
        _ => String::new(),
    }
}

impl Notice {
    /// The complete text, including what kind of growth it was, and where the guard comes from.
    #[must_use]
    pub fn words(&self) -> String {
        let by = if self.by_namespace { BY_NAMESPACE } else { "" };
        let classified = self.story.as_ref().filter(|_| self.subject.has_class()).and_then(|it| it.digest().classified);
        let class = classified.map_or(String::new(), |it| format!("; {}: {it}", it.class.as_str()));
        self.subject.words() + &class + by
    }
}

impl Subject {
    #[must_use]
    pub fn words(&self) -> String {
        match self {
            Subject::Evicted { evidence, act, mode, grace, passed, too_late, .. } => {
                let done = match (act, mode) {
                    (Act::Evict | Act::Delete, DryRun::Off) if *too_late => {
                        "The eviction was accepted, but the kernel's OOM killer was first"
                    }
                    (Act::Evict, DryRun::Off) => "Evicted before the kernel's OOM killer",
                    (Act::Delete, DryRun::Off) => {
                        "Deleted past its disruption budget, as force-delete-threshold allows, before the kernel's OOM killer"
                    }
                    (Act::Evict | Act::Delete, DryRun::Server) => "Would have been evicted (the server tried it as a dry run)",
                    (Act::Evict | Act::Delete, DryRun::Client) => "Would have been evicted (dry run: nothing was sent)",
                    (Act::Raise, DryRun::Client) => "Its limit would have been raised (dry run: nothing was sent)",
                    (Act::Raise, _) => "Its limit would have been raised (the server tried it as a dry run)",
                    (Act::Restart, DryRun::Client) => "Would have been restarted (dry run: nothing was sent)",
                    (Act::Restart, _) => "Would have been restarted (the server tried it as a dry run)",
                };
                let grace = grace.map_or(String::new(), |s| format!(", grace {s} s"));
                let passed = passed_words(passed);
                format!("{done}{grace}: {}{passed}", evidence_words(evidence))
            }
            Subject::Raised { .. } | Subject::Restarted { .. } | Subject::GaveUp { .. } | Subject::Warned { .. } | Subject::NotWarned(_) | Subject::NoRemedy { .. } => remedy_words(self),
            Subject::NotEvicted { evidence, act, answer, asked, .. } => {
                format!("{}: {}", answer_words(*act, answer, *asked), evidence_words(evidence))
            }
            Subject::Deferred { evidence, until, reason } => {
                let until = until.strftime("%H:%M:%S UTC");
                format!("Held until {until}: {reason}; {}", evidence_words(evidence))
            }
            Subject::Slow { since, growth } => format!(
                "Still there, and growing {}, {} s after its eviction was accepted: its grace is over, and it is not evicted again",
                rate(*growth),
                since.as_secs()
            ),
            Subject::Missed { reason, last_sample, count, whole } => missed_words(*reason, last_sample.as_deref(), *count, *whole),
            Subject::Never(never) => format!("Not guarded: {never}"),
            Subject::InvalidGuard(problems) => {
                let words: Vec<String> = problems.iter().map(ToString::to_string).collect();
                format!("Not guarded: {}", words.join("; "))
            }
            Subject::GuardWarning(warning) => warning.to_string(),
            Subject::NoLimit => "Not guarded: the threshold is a percentage, and neither the container nor its pod has a memory limit: set a limit, or write a quantity such as \"512Mi\"".into(),
            Subject::BeyondLimit => "Not guarded: the threshold is not below the memory limit, so it can never be crossed: write a smaller one".into(),
            Subject::Throttled(Throttled { high, threshold, usage }) => format!(
                "The kernel slows it down before it can be evicted: its memory.high of {high} is not above its threshold of {threshold}, and it stays there (usage {usage}). Write a threshold below memory.high, or raise memory.high (with the kubelet's MemoryQoS, by a higher memory request or limit)"
            ),
            Subject::Unresolved(why) | Subject::Unreadable(why) => format!("Not guarded: {why}"),
        }
    }

    /// The key under which a notice is reported once: its text without the numbers that change from try to try.
    #[must_use]
    pub fn once(&self) -> String {
        match self {
            Subject::NotEvicted { act, answer, asked, .. } => answer_words(*act, answer, *asked),
            Subject::Deferred { reason, .. } => format!("held: {reason}"),
            Subject::Slow { .. } => "slow".into(),
            Subject::Throttled(Throttled { high, threshold, .. }) => format!("throttled at {high} below {threshold}"),
            Subject::NoRemedy { reasons, .. } => reasons_words(reasons),
            other => other.words(),
        }
    }
}

impl MissReason {
    /// The text in Events.
    #[must_use]
    pub fn words(self) -> &'static str {
        match self {
            MissReason::TooFast => "it filled faster than anything could be done",
            MissReason::Sustaining => "it was over, but not yet for as long as sustained-for says",
            MissReason::Blocked => "a disruption budget did not allow its eviction or restart",
            MissReason::Deferred => "its eviction or restart was held",
            MissReason::NoRemedy => "none of its remedies was possible",
            MissReason::Refused => "the API server had not accepted the request",
            MissReason::Terminating => "it was being ended, and had not ended yet",
            MissReason::DryRun => "the agent was in a dry run",
            MissReason::InvalidGuard => "its guard was invalid",
            MissReason::NodeWide => "the node ran out of memory, no limit of its own was hit",
            MissReason::PodLimit => {
                "the pod's limit was hit, which other containers or tmpfs fill, too; target-container-name \"*\" guards it"
            }
            MissReason::InnerLimit => "a limit that was set inside the container was hit, not the container's own",
        }
    }
}
