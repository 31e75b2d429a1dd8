//! What was read of a group's memory, and what it says.

use std::time::Duration;

use super::clock::Moment;
use super::units::Bytes;

/// What is compared with the threshold.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, serde::Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Signal {
    /// Usage less inactive file cache, as kubelet and metrics-server have it.
    #[default]
    WorkingSet,
    Usage,
    /// Usage less all file cache and reclaimable slab.
    Unreclaimable,
}

impl Signal {
    /// As the annotation writes it.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Signal::WorkingSet => "working-set",
            Signal::Usage => "usage",
            Signal::Unreclaimable => "unreclaimable",
        }
    }
}

/// The fields of `memory.stat` that are used, in bytes; on v1 the `total_` ones.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Stat {
    pub inactive_file: Bytes,
    pub active_file: Bytes,
    /// `file_dirty`, on v1 `total_dirty`.
    pub dirty: Bytes,
    /// `file_writeback`, on v1 `total_writeback`.
    pub writeback: Bytes,
    /// `slab_reclaimable`; v1 has no such field: 0.
    pub slab_reclaimable: Bytes,
}

impl Stat {
    /// What the kernel takes back without writing anything, before it kills.
    #[must_use]
    pub fn clean_cache(self) -> Bytes {
        (self.inactive_file.plus(self.active_file)).less(self.dirty).less(self.writeback).plus(self.slab_reclaimable)
    }

    /// All of it `n` times.
    #[must_use]
    pub fn times(self, n: u64) -> Stat {
        Stat {
            inactive_file: self.inactive_file.times(n),
            active_file: self.active_file.times(n),
            dirty: self.dirty.times(n),
            writeback: self.writeback.times(n),
            slab_reclaimable: self.slab_reclaimable.times(n),
        }
    }
}

/// One group's memory at one moment.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Level {
    /// All that is charged; where it was read on both sides of stat, the lesser of the two.
    pub usage: Bytes,
    /// The greater of the two.
    pub most_usage: Bytes,
    /// The limit in effect, if there is one.
    pub limit: Option<Bytes>,
    /// The cache in it, where it was read at this moment.
    pub stat: Option<Stat>,
    /// What swap would still take.
    pub swap_left: Bytes,
}

impl Level {
    /// What is left before the kernel kills: limit − (usage − clean cache) + swap left. Without
    /// stat it is limit − usage, a lower bound. `None` without a limit.
    #[must_use]
    pub fn margin(&self) -> Option<Bytes> {
        let margin = self.limit?.less(self.net_usage());
        Some(margin.plus(self.swap_left))
    }

    /// Usage less clean cache: what an OOM kill is about.
    #[must_use]
    pub fn net_usage(&self) -> Bytes {
        self.usage.less(self.stat.map_or(Bytes(0), Stat::clean_cache))
    }

    /// The signal's value; `None` where stat is needed and was not read.
    #[must_use]
    pub fn value(&self, signal: Signal) -> Option<Bytes> {
        Some(match signal {
            Signal::Usage => self.usage,
            Signal::WorkingSet => self.usage.less(self.stat?.inactive_file),
            Signal::Unreclaimable => {
                let stat = self.stat?;
                (self.usage.less(stat.inactive_file)).less(stat.active_file).less(stat.slab_reclaimable)
            }
        })
    }
}

/// What was read of a guarded container.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Sample {
    /// When: just before it was read.
    pub at: Moment,
    /// When all of it had been read.
    pub until: Moment,
    pub own: Level,
    /// The pod's group, where there is one above.
    pub pod: Option<Level>,
}

impl Sample {
    /// The base of a percentage: the container's own limit, else the pod's. The levels above are
    /// the node's concern and never a base.
    #[must_use]
    pub fn base(&self) -> Option<Bytes> {
        self.own.limit.or(self.pod.and_then(|p| p.limit))
    }

    /// Less than a twentieth of its limit is left at one of the levels: whatever growth seems to be, a kill can come at once.
    #[must_use]
    pub fn is_tight(&self) -> bool {
        let is_tight = |level: &Level| {
            let least = level.limit.map(|limit| Bytes(limit.0 / TIGHT_PART));
            level.stat.is_some() && level.margin().zip(least).is_some_and(|(margin, least)| margin < least)
        };
        !self.is_torn() && (is_tight(&self.own) || self.pod.as_ref().is_some_and(is_tight))
    }

    /// Its reads, which take some 30 µs, lie so far apart that they need not fit together.
    #[must_use]
    pub fn is_torn(&self) -> bool {
        self.until.saturating_sub(self.at) > TORN
    }

    /// The smallest room over both levels; `None` where neither has a limit.
    #[must_use]
    pub fn margin(&self) -> Option<Bytes> {
        let pod = self.pod.and_then(|p| p.margin());
        [self.own.margin(), pod].into_iter().flatten().min()
    }
}

/// A thread that had to wait for longer than this between the reads of a sample may have read of two states of the memory:
/// cache that was there for the one and not for the other looks like a leak.
pub const TORN: Duration = Duration::from_millis(2);

/// Less than this part of the limit is the deadline, whatever growth seems to be.
const TIGHT_PART: u64 = 20;
