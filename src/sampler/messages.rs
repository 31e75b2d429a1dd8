//! What the sampler is told, and what it reports.

use std::sync::Arc;
use std::time::Duration;

use super::latency::Latency;
use super::view::{LastSample, Shown};
use crate::cgroup::resolve::Groups;
use crate::cgroup::{Hit, ReadError};
use crate::decide::judge::Evidence;
use crate::decide::schedule::time_left;
use crate::pods::guard::Rule;

/// Names a target between the two sides; never used twice.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct TargetId(pub u64);

/// What the controller asks of the sampler.
#[derive(Debug)]
pub enum Command {
    /// Sample these groups from now on.
    Watch(Box<Watch>),
    /// The guard was edited. Reports carry the number from then on.
    Rule(TargetId, Rule, u32),
    /// What was reported as above its threshold was not acted on: report it again if it still is.
    Rearm(TargetId),
    Forget(TargetId),
}

#[derive(Debug)]
pub struct Watch {
    pub id: TargetId,
    pub groups: Groups,
    /// The guard's part that is about memory.
    pub rule: Rule,
    /// Where the last sample is left for readers.
    pub shown: Arc<Shown>,
    /// How long an eviction in its namespace takes.
    pub latency: Arc<Latency>,
}

/// A change in what is true of a target.
#[derive(Debug)]
pub struct Report {
    pub id: TargetId,
    /// The number of its guard's edit; the first is 0.
    pub edit: u32,
    pub what: What,
}

/// The content of a [`Report`].
#[derive(Debug)]
pub enum What {
    /// It is above its threshold.
    Above {
        evidence: Evidence,
        /// Time since the last sample at which it was not: it has crossed the threshold since then.
        since_last_sample: Option<Duration>,
    },
    /// It was reported as above, and now it is at its deadline, or past `force-delete-threshold`.
    Worsened(Evidence),
    /// It is not above its threshold any more.
    Dipped,
    /// A percentage without a limit.
    NoLimit,
    /// A quantity not below the limit.
    BeyondLimit,
    /// The kernel has killed processes of it for lack of memory.
    Killed {
        /// How many since the last report.
        count: u64,
        /// All of the container's at once (`memory.oom.group`).
        together: bool,
        /// The limit that was hit.
        hit: Hit,
        /// The sample before the kill; the pod's usage is the larger of before and after.
        last: Option<Box<LastSample>>,
    },
    /// A file of its group cannot be read.
    Unreadable(ReadError),
    /// Its group was removed. The target is forgotten.
    Gone,
}

impl What {
    /// How long the report may wait: for what is above its threshold, until the margin is used up.
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
