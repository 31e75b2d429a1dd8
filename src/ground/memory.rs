//! A group's memory as it was sampled, and the values derived from it.

use std::time::Duration;

use super::clock::Moment;
use super::units::Bytes;

/// The value that is compared with the threshold.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, serde::Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Signal {
    /// Usage minus inactive file cache, as kubelet and metrics-server report it.
    #[default]
    WorkingSet,
    Usage,
    /// Usage minus all file cache and reclaimable slab.
    Unreclaimable,
}

impl Signal {
    /// The name that the annotation uses.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Signal::WorkingSet => "working-set",
            Signal::Usage => "usage",
            Signal::Unreclaimable => "unreclaimable",
        }
    }
}

/// The fields of `memory.stat` that we use, in bytes. On v1 these are the `total_` fields.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Stat {
    pub inactive_file: Bytes,
    pub active_file: Bytes,
    /// `file_dirty`, on v1 `total_dirty`.
    pub dirty: Bytes,
    /// `file_writeback`, on v1 `total_writeback`.
    pub writeback: Bytes,
    /// `slab_reclaimable`; 0 on v1, which has no such field.
    pub slab_reclaimable: Bytes,
    /// tmpfs and shared memory; on v1 `total_shmem`.
    pub shmem: Bytes,
}

impl Stat {
    /// Memory that the kernel reclaims without writing anything, before it kills.
    #[must_use]
    pub fn clean_cache(self) -> Bytes {
        (self.inactive_file.plus(self.active_file)).less(self.dirty).less(self.writeback).plus(self.slab_reclaimable)
    }

    /// Multiplies every field by `n`.
    #[must_use]
    pub fn times(self, n: u64) -> Stat {
        Stat {
            inactive_file: self.inactive_file.times(n),
            active_file: self.active_file.times(n),
            dirty: self.dirty.times(n),
            writeback: self.writeback.times(n),
            slab_reclaimable: self.slab_reclaimable.times(n),
            shmem: self.shmem.times(n),
        }
    }
}

/// What a group's memory consists of, for people, in bytes. What is missing to usage is other memory of the kernel; v1 names
/// none of that.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Breakdown {
    pub anonymous: Bytes,
    pub active_file: Bytes,
    pub inactive_file: Bytes,
    /// tmpfs and shared memory.
    pub shmem: Bytes,
    pub slab: Bytes,
    /// Kernel stacks, page tables, and per-CPU memory.
    pub kernel: Bytes,
    pub sockets: Bytes,
}

impl Breakdown {
    /// File cache, without tmpfs.
    #[must_use]
    pub fn file(&self) -> Bytes {
        self.active_file.plus(self.inactive_file)
    }

    /// Multiplies every field by `n`.
    #[must_use]
    pub fn times(self, n: u64) -> Breakdown {
        Breakdown {
            anonymous: self.anonymous.times(n),
            active_file: self.active_file.times(n),
            inactive_file: self.inactive_file.times(n),
            shmem: self.shmem.times(n),
            slab: self.slab.times(n),
            kernel: self.kernel.times(n),
            sockets: self.sockets.times(n),
        }
    }
}

/// One group's memory at one moment.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Level {
    /// All memory that is charged. If usage was read before and after stat, this is the smaller value.
    pub usage: Bytes,
    /// The larger value.
    pub most_usage: Bytes,
    /// The limit in effect, if there is one.
    pub limit: Option<Bytes>,
    /// The cache, if it was read at this moment.
    pub stat: Option<Stat>,
    /// How much more could be moved to swap.
    pub swap_left: Bytes,
}

impl Level {
    /// The margin to a kill: limit − (usage − clean cache) + swap left. Without stat, clean cache counts as 0, and the
    /// result is a lower bound. `None` without a limit.
    #[must_use]
    pub fn margin(&self) -> Option<Bytes> {
        let margin = self.limit?.less(self.net_usage());
        Some(margin.plus(self.swap_left))
    }

    /// Usage minus clean cache: the memory that leads to an OOM kill.
    #[must_use]
    pub fn net_usage(&self) -> Bytes {
        self.usage.less(self.stat.map_or(Bytes(0), Stat::clean_cache))
    }

    /// How much of the signal's value is clean cache; `None` if stat was not read.
    #[must_use]
    pub fn cache_in(&self, signal: Signal) -> Option<Bytes> {
        let cache = self.value(signal)?.less(self.value(Signal::Unreclaimable)?);
        Some(cache.min(self.stat?.clean_cache()))
    }

    /// The signal's value; `None` if it needs stat and stat was not read.
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

/// The machine's memory, as `/proc/meminfo` has it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct NodeMemory {
    pub total: Bytes,
    pub available: Bytes,
}

/// One sample of a guarded container.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Sample {
    /// Just before the first read.
    pub at: Moment,
    /// Just after the last read.
    pub until: Moment,
    pub own: Level,
    /// The level of the pod's group, if there is one above.
    pub pod: Option<Level>,
}

impl Sample {
    /// The base of a percentage: the container's own limit, else the pod's. Limits above the pod are the node's concern
    /// and never a base.
    #[must_use]
    pub fn base(&self) -> Option<Bytes> {
        self.own.limit.or(self.pod.and_then(|p| p.limit))
    }

    /// Whether less than a twentieth of the limit is left at one of the levels. A kill can then come at once, whatever
    /// growth seems to be.
    #[must_use]
    pub fn is_tight(&self) -> bool {
        let is_tight = |level: &Level| {
            let least = level.limit.map(|limit| Bytes(limit.0 / TIGHT_PART));
            level.stat.is_some() && level.margin().zip(least).is_some_and(|(margin, least)| margin < least)
        };
        !self.is_torn() && (is_tight(&self.own) || self.pod.as_ref().is_some_and(is_tight))
    }

    /// Whether the reads, which take some 30 µs, lie so far apart that they may not fit together.
    #[must_use]
    pub fn is_torn(&self) -> bool {
        self.until.saturating_sub(self.at) > TORN
    }

    /// The smaller margin of the two levels; `None` if neither has a limit.
    #[must_use]
    pub fn margin(&self) -> Option<Bytes> {
        let pod = self.pod.and_then(|p| p.margin());
        [self.own.margin(), pod].into_iter().flatten().min()
    }
}

/// If the thread had to wait longer than this between the reads of a sample, they may show two states of the memory.
/// Cache that was present in only one of the two would look like a leak.
pub const TORN: Duration = Duration::from_millis(2);

/// A margin below this part of the limit is the deadline, whatever growth seems to be.
const TIGHT_PART: u64 = 20;

#[cfg(test)]
mod tests {
    use super::*;

    /// Of 80 bytes, 5 are inactive cache.
    #[test]
    fn clean_cache_counts_in_each_signal_but_one() {
        let cache = |signal, active, dirty, slab| {
            let stat = Stat {
                inactive_file: Bytes(5),
                active_file: Bytes(active),
                dirty: Bytes(dirty),
                slab_reclaimable: Bytes(slab),
                ..Stat::default()
            };
            let (usage, swap_left) = (Bytes(80), Bytes(0));
            Level { usage, most_usage: usage, limit: None, stat: Some(stat), swap_left }.cache_in(signal).unwrap().0
        };
        assert_eq!((cache(Signal::WorkingSet, 16, 0, 0), cache(Signal::WorkingSet, 10, 0, 6)), (16, 16));
        assert_eq!(cache(Signal::WorkingSet, 30, 25, 0), 10, "dirty cache is not reclaimed at once");
        assert_eq!((cache(Signal::Usage, 16, 0, 0), cache(Signal::Unreclaimable, 10, 0, 0)), (21, 0));
    }
}
