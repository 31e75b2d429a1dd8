//! Notices as labels and numbers, for the log and `/api/guards`.

use super::notice::Subject;
use crate::act::answer::Answer;
use crate::decide::judge::Evidence;
use crate::pods::guard::DryRun;
use crate::sampler::LastSample;
use crate::serve::wire::{Facts, Word};

/// The label `answer` for a dry run in mode `client`.
pub const NOT_SENT: &str = "not-sent";

impl Subject {
    /// Its numbers and labels, for the log and `/api/guards`.
    #[must_use]
    pub fn facts(&self) -> Facts {
        let mode =
            |mode: &DryRun| Some(*mode).filter(|mode| *mode != DryRun::Off).map(|mode| Word::from(mode.as_str()));
        let of = |e: &Evidence| Facts {
            signal: Some(e.signal.as_str().into()),
            value: Some(e.value.0),
            usage: Some(e.usage.0),
            limit: e.limit.map(|l| l.0),
            threshold: Some(e.threshold.0),
            growth: e.growth,
            slow_growth: e.slow_growth,
            room: e.margin.map(|r| r.0),
            ..Facts::default()
        };
        match self {
            Subject::Evicted { evidence, mode: DryRun::Client, .. } => {
                Facts { answer: Some(NOT_SENT.into()), dry_run: mode(&DryRun::Client), ..of(evidence) }
            }
            Subject::Evicted { evidence, mode: m, took, .. } => Facts {
                answer: Some(Answer::Accepted.label().into()),
                dry_run: mode(m),
                took_ms: Some(took.as_secs_f64() * 1000.0),
                ..of(evidence)
            },
            Subject::NotEvicted { evidence, answer, mode: m, .. } => {
                Facts { answer: Some(answer.label().into()), dry_run: mode(m), ..of(evidence) }
            }
            Subject::Raised { evidence, to, took, .. } => {
                Facts { raised_to: Some(to.0), took_ms: Some(took.as_secs_f64() * 1000.0), ..of(evidence) }
            }
            Subject::Restarted { evidence, took } | Subject::GaveUp { evidence, after: took, .. } => {
                Facts { took_ms: Some(took.as_secs_f64() * 1000.0), ..of(evidence) }
            }
            Subject::NoRemedy { evidence, .. } => of(evidence),
            Subject::Warned { evidence, relieved, .. } => Facts { relieved: Some(*relieved), ..of(evidence) },
            Subject::Deferred { evidence, reason, .. } => Facts { cause: Some(reason.label().into()), ..of(evidence) },
            Subject::Slow { growth, .. } => Facts { growth: Some(*growth), ..Facts::default() },
            Subject::Throttled(throttled) => {
                let (usage, threshold) = (Some(throttled.usage.0), Some(throttled.threshold.0));
                Facts { usage, threshold, ..Facts::default() }
            }
            Subject::Missed { reason, last_sample, .. } => Facts {
                cause: Some(reason.label().into()),
                ..last_sample.as_ref().map(|last| of_sample(&last.0)).unwrap_or_default()
            },
            _ => Facts::default(),
        }
    }
}

fn of_sample(last: &LastSample) -> Facts {
    Facts {
        value: last.value.map(|v| v.0),
        usage: Some(last.sample.own.usage.0),
        limit: last.sample.base().map(|l| l.0),
        threshold: last.threshold.map(|t| t.0),
        growth: last.growth,
        room: last.margin.map(|r| r.0),
        ..Facts::default()
    }
}
