//! A container's memory as a function of time, and the numbers the invariants compare: whole-number
//! arithmetic of its own, not the shipped one.

use std::collections::VecDeque;
use std::time::Duration;

use pre_oom_killer::ground::clock::Moment;
use pre_oom_killer::ground::memory::Level;
use pre_oom_killer::ground::memory::Stat;
use pre_oom_killer::ground::units::Bytes;

use crate::pod::{Ask, MIB, Signal, Threshold};

#[derive(Clone, Debug)]
pub struct Memory {
    pub at: Moment,
    pub usage: u64,
    /// Bytes a second.
    pub rate: i64,
    /// Where a ramp stops.
    pub top: u64,
    pub limit: Option<u64>,
    pub inactive: u64,
    pub active: u64,
    pub dirty: u64,
    pub slab: u64,
    /// Counts changes, so that a kill foreseen before one is known to be void.
    pub change: u32,
    /// When it was changed last.
    pub changed_at: Moment,
    /// The rates before this one, each with the moment of its end, and by how much what is held jumped then.
    pub before: VecDeque<(Moment, i64, u64)>,
}

impl Memory {
    pub fn new(at: Moment, usage: u64, limit: Option<u64>) -> Memory {
        let (inactive, active, dirty, slab) = (0, 0, 0, 0);
        let (changed_at, before) = (at, VecDeque::new());
        Memory {
            at,
            usage,
            rate: 0,
            top: u64::MAX,
            limit,
            inactive,
            active,
            dirty,
            slab,
            change: 0,
            changed_at,
            before,
        }
    }

    /// What it would use if nothing limited it.
    fn wanted(&self, now: Moment) -> u64 {
        let grown = i128::from(self.rate) * (now - self.at).as_nanos() as i128 / 1_000_000_000;
        // What is given back is not the cache.
        let least = (self.inactive + self.active + self.slab).max(MIB);
        let top = self.top.max(self.usage);
        (i128::from(self.usage) + grown).min(i128::from(top)).max(i128::from(least)) as u64
    }

    pub fn usage(&self, now: Moment) -> u64 {
        self.wanted(now).min(self.limit.unwrap_or(u64::MAX))
    }

    /// At its limit the kernel takes clean cache back: what is left of (inactive, active, slab).
    fn cache(&self, now: Moment) -> (u64, u64, u64) {
        let mut missing = self.wanted(now).saturating_sub(self.limit.unwrap_or(u64::MAX));
        let mut take = |from: u64, most: u64| {
            let taken = missing.min(most).min(from);
            missing -= taken;
            from - taken
        };
        let clean = (self.inactive + self.active).saturating_sub(self.dirty);
        let inactive = take(self.inactive, clean);
        let active = take(self.active, clean - (self.inactive - inactive));
        (inactive, active, take(self.slab, u64::MAX))
    }

    /// Takes in what became of it until now.
    pub fn settle(&mut self, now: Moment) {
        let usage = self.usage(now);
        (self.inactive, self.active, self.slab) = self.cache(now);
        (self.at, self.usage) = (now, usage);
    }

    /// From now on it is this much, and grows so.
    pub fn set(&mut self, now: Moment, usage: u64, rate: i64, top: u64) {
        (self.at, self.usage, self.rate, self.top) = (now, usage, rate, top);
        self.usage = self.usage.min(self.limit.unwrap_or(u64::MAX));
    }

    /// Notes a change that was made just now to a memory which held so much before it.
    pub fn changed(&mut self, now: Moment, rate: i64, held: u64) {
        self.before.push_back((now, rate, self.held(now).saturating_sub(held)));
        while self.before.len() > 64 {
            self.before.pop_front();
        }
        (self.changed_at, self.change) = (now, self.change + 1);
    }

    /// Usage that the kernel cannot take back.
    pub fn held(&self, now: Moment) -> u64 {
        let (inactive, active, slab) = self.cache(now);
        self.usage(now).saturating_sub((inactive + active).saturating_sub(self.dirty) + slab)
    }

    /// When the kernel will kill, if this goes on.
    pub fn killed_at(&self, now: Moment) -> Option<Moment> {
        let left = self.limit?.saturating_sub(self.held(now));
        let reaches = self.usage(now) + left <= self.top;
        (self.rate > 0 && reaches && left > 0)
            .then(|| now + Duration::from_nanos((u128::from(left) * 1_000_000_000 / self.rate as u128) as u64 + 1))
    }

    pub fn level(&self, now: Moment) -> Level {
        let (usage, (inactive, active, slab)) = (self.usage(now), self.cache(now));
        Level {
            usage: Bytes(usage),
            most_usage: Bytes(usage),
            limit: self.limit.map(Bytes),
            stat: Some(Stat {
                inactive_file: Bytes(inactive),
                active_file: Bytes(active),
                dirty: Bytes(self.dirty),
                writeback: Bytes(0),
                slab_reclaimable: Bytes(slab),
                shmem: Bytes(0),
            }),
            swap_left: Bytes(0),
        }
    }
}

/// Is this above what the guard says? With `None` where that cannot be said for want of a limit.
pub fn is_over(own: &Level, base: Option<Bytes>, ask: &Ask) -> Option<bool> {
    let value = value(own, ask.signal);
    Some(match ask.threshold {
        Threshold::Percent(percent) => value * 100 > u128::from(percent) * u128::from(base?.0),
        Threshold::Quantity(mib) => value > u128::from(mib * MIB),
        Threshold::Missing | Threshold::Bad(_) => return None,
    })
}

pub fn is_past_force(own: &Level, base: Option<Bytes>, ask: &Ask) -> bool {
    let (Some(force), Some(base)) = (ask.force, base) else { return false };
    let stat = own.stat.unwrap_or_default();
    let clean = (stat.inactive_file.0 + stat.active_file.0).saturating_sub(stat.dirty.0) + stat.slab_reclaimable.0;
    u128::from(own.usage.0.saturating_sub(clean)) * 100 > u128::from(force) * u128::from(base.0)
}

fn value(own: &Level, signal: Signal) -> u128 {
    let stat = own.stat.unwrap_or_default();
    u128::from(match signal {
        Signal::Usage => own.usage.0,
        Signal::WorkingSet => own.usage.0.saturating_sub(stat.inactive_file.0),
        Signal::Unreclaimable => {
            own.usage.0.saturating_sub(stat.inactive_file.0 + stat.active_file.0 + stat.slab_reclaimable.0)
        }
    })
}
