//! Notices in labels and numbers, as the log and `/api/guards` have them.

use crate::act::answer::Answer;
use crate::decide::judge::Evidence;
use crate::pods::guard::DryRun;
use crate::report::notice::Subject;
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
    pub room: Option<u64>,
    /// From the request to the answer, in milliseconds.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub took_ms: Option<f64>,
}

/// The label `answer` of a dry run of the client.
pub const NOT_SENT: &str = "not-sent";

impl Subject {
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
            room: e.margin.map(|r| r.0),
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
                    room: look.and_then(|l| l.margin).map(|r| r.0),
                    ..Facts::default()
                }
            }
            _ => Facts::default(),
        }
    }
}
