//! The commands that the sampler receives, and its reports.

use std::sync::Arc;
use std::time::Duration;

use super::latency::Latency;
use super::view::{LastSample, Shown};
use crate::cgroup::resolve::Groups;
use crate::cgroup::{Hit, ReadError};
use crate::decide::judge::Evidence;
use crate::decide::schedule::time_left;
use crate::decide::throttle::Throttled;
use crate::pods::guard::Rule;

/// Identifies a target on both sides; an id is never reused.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct TargetId(pub u64);

/// A command from the controller to the sampler.
#[derive(Debug)]
pub enum Command {
    /// Sample these groups from now on.
    Watch(Box<Watch>),
    /// The guard was edited. Reports carry this number from then on.
    Rule(TargetId, Rule, u32),
    /// The report that it is above its threshold was not acted on, or its limit has changed. Read everything anew, and report
    /// it again if it still is above.
    Rearm(TargetId),
    /// Its end is awaited: a target's process was asked to end. The time that this takes is measured.
    Follow(TargetId),
    Forget(TargetId),
}

#[derive(Debug)]
pub struct Watch {
    pub id: TargetId,
    pub groups: Groups,
    /// The part of the guard that is about memory.
    pub rule: Rule,
    /// Where the sampler leaves the last sample for readers.
    pub shown: Arc<Shown>,
    /// The latency of evictions in its namespace.
    pub latency: Arc<Latency>,
}

/// A change in a target's state.
#[derive(Debug)]
pub struct Report {
    pub id: TargetId,
    /// The number of edits of the guard it is based on; 0 before the first.
    pub edit: u32,
    pub what: What,
}

#[derive(Debug)]
pub enum What {
    /// It is above its threshold.
    Above {
        evidence: Evidence,
        /// Time since the last sample that was not above the threshold; the crossing happened within it.
        since_last_sample: Option<Duration>,
    },
    /// It was reported as above its threshold. Now it is at its deadline, or past `force-delete-threshold`.
    Worsened(Evidence),
    /// It is above its threshold for warnings. Reported again once it has fallen well below.
    Warned(Evidence),
    /// The kernel slows it down below its threshold. Reported once.
    Throttled(Throttled),
    /// It is no longer above its threshold.
    Dipped,
    /// The threshold is a percentage, and there is no limit.
    NoLimit,
    /// The threshold is a quantity that is not below the limit.
    BeyondLimit,
    /// The kernel has killed processes in it for lack of memory.
    Killed {
        /// How many since the last report.
        count: u64,
        /// All of the container's processes at once (`memory.oom.group`).
        together: bool,
        /// The limit that was hit.
        hit: Hit,
        /// The sample before the kill. Its pod's usage is the larger of before and after.
        last: Option<Box<LastSample>>,
    },
    /// A file of its group cannot be read.
    Unreadable(ReadError),
    /// Its group was removed. The sampler forgets the target.
    Gone,
}

impl What {
    /// How long the report may wait. For a container above its threshold, this is until the margin is used up.
    pub(super) fn time_left(&self) -> Duration {
        match self {
            What::Killed { .. } => Duration::ZERO,
            What::Above { evidence: e, .. } | What::Worsened(e) => {
                time_left(e.margin, e.growth.max(e.slow_growth)).unwrap_or(Duration::from_secs(u64::from(u32::MAX)))
            }
            _ => Duration::MAX,
        }
    }
}
