//! How long a container need not be sampled, because the node has allocated too little memory for it to have grown. Pure.
//!
//! No container can be charged memory that the node has not allocated. So one count for the whole node bounds how much any
//! container can have grown since its last sample. What the kernel charges without an allocation is [`Uncounted`].

use std::time::Duration;

use crate::ground::clock::Moment;
use crate::ground::units::Bytes;

/// The kernel charges so many pages at once for each CPU, and takes the next ones out of that stock.
const CHARGED_AHEAD: u64 = 64;
/// Allocated, and not charged yet: one huge page. Measured: in 7 million samples of containers that filled flat out by other things
/// than dentries and inodes, usage never grew by more than was counted and 2 MiB, the stock included.
const IN_FLIGHT: Bytes = Bytes(2 << 20);
/// Charged without a new page, a second: what others have freed before. Measured, from two CPUs and flat out: dentries 95 MiB/s
/// over a third of a second, inodes 79, all else less. So a container that grows by dentries alone, faster than this, may be
/// seen later, but within a second.
const REUSED: u64 = 64 << 20;
/// With so little of its growth left to the point where it has to be sampled, a container is sampled for its threshold's sake:
/// it may have crossed it, and the sooner that is known, the gentler the remedy.
const THRESHOLD_PART: u64 = 4;
/// A wait shorter than this part of what a sample would gain is not worth a wake-up.
const WORTH_PART: u32 = 4;
/// What is left of an allowance has to last this long. Else a sample renews it: a wake-up costs more than ten samples.
const LEAST_WAIT: Duration = Duration::from_millis(30);

/// What the node had allocated at a moment.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Allocated {
    pub at: Moment,
    pub bytes: Bytes,
}

/// What the kernel can have charged until a moment: what was allocated, and what it charges without an allocation. The difference
/// of two is by how much a container can have grown in between, [`Uncounted::at_once`] aside.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Chargeable(u64);

/// What the kernel may charge without an allocation.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Uncounted {
    at_once: Bytes,
    a_second: u64,
}

impl Uncounted {
    /// On a machine with so many CPUs, and pages of this size.
    #[must_use]
    pub fn on(cpus: u64, page: Bytes) -> Uncounted {
        let at_once = page.times(CHARGED_AHEAD).times(cpus).plus(IN_FLIGHT);
        Uncounted { at_once, a_second: REUSED }
    }

    #[must_use]
    pub fn until(&self, now: Allocated) -> Chargeable {
        Chargeable(now.bytes.plus(Bytes::at_rate(self.a_second, now.at)).0)
    }

    /// When a container that grows by so much may be charged that, if it begins at this moment.
    #[must_use]
    pub fn after(&self, since: Chargeable, growth: Bytes) -> Chargeable {
        Chargeable(since.0.saturating_add(growth.less(self.at_once).0))
    }
}

/// By how much a container may grow before it has to be sampled.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Allowance {
    bytes: Bytes,
    /// The fastest growth that can still be saved, in bytes a second.
    rate: u64,
}

impl Allowance {
    /// `margin`: what usage alone leaves before a kill. `missing`: what it lacks to its threshold. `rate`: the fastest growth that
    /// can be saved. `latency`: of an eviction, which has to begin that long before the end. `None`: it has to be sampled by time.
    #[must_use]
    pub fn new(margin: Bytes, missing: Bytes, rate: u64, latency: Duration) -> Option<Allowance> {
        let most = margin.less(Bytes::at_rate(rate, latency));
        let bytes = most.min(missing.max(Bytes(most.0 / THRESHOLD_PART)));
        (bytes > Bytes(0)).then_some(Allowance { bytes, rate })
    }

    /// Its end, if the container was last sampled after `since`. `interval`: how soon the next sample would be due by time.
    #[must_use]
    pub fn from(&self, since: Chargeable, interval: Duration, uncounted: &Uncounted) -> End {
        let least = LEAST_WAIT.max(interval / WORTH_PART);
        End { at: uncounted.after(since, self.bytes), rate: self.rate, least: Bytes::at_rate(self.rate, least) }
    }
}

/// Where an allowance ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct End {
    at: Chargeable,
    rate: u64,
    /// If less is left, a sample is worth more than a wait.
    least: Bytes,
}

impl End {
    /// How long after this moment the container has to be sampled; `None`: at once.
    #[must_use]
    pub fn lasts(&self, now: Chargeable) -> Option<Duration> {
        let left = Bytes(self.at.0.saturating_sub(now.0));
        (left >= self.least).then(|| left.lasts_at(self.rate))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::decide::schedule::{SHORTEST_INTERVAL, fastest_saved};
    use proptest::prelude::*;

    const MIB: u64 = 1 << 20;
    const LATENCY: Duration = Duration::from_millis(60);

    fn counted(millis: u64, mib: u64) -> Allocated {
        Allocated { at: Duration::from_millis(millis), bytes: Bytes(mib * MIB) }
    }

    #[test]
    fn a_container_is_spared_until_the_node_has_allocated_what_it_lacks() {
        let two = Uncounted::on(2, Bytes(4096));
        let can_grow = |uncounted: &Uncounted, since, now, by| {
            uncounted.after(uncounted.until(since), Bytes(by)) <= uncounted.until(now)
        };
        for (uncounted, since, now, most) in [
            (&two, counted(0, 0), counted(0, 0), 2 * MIB + MIB / 2),
            (&two, counted(0, 100), counted(500, 130), 64 * MIB + MIB / 2),
            (&Uncounted::on(128, Bytes(4096)), counted(0, 0), counted(1000, 0), (34 + 64) * MIB),
        ] {
            assert!(can_grow(uncounted, since, now, most) && !can_grow(uncounted, since, now, most + 1));
        }
        // 1000 MiB a second for 60 ms are kept back.
        let allowance = Allowance::new(Bytes(160 * MIB), Bytes(60 * MIB), 1000 * MIB, LATENCY).unwrap();
        assert_eq!(allowance.bytes, Bytes(60 * MIB), "it is sampled when it may have crossed its threshold");
        let lasts = |mib| {
            let end = allowance.from(two.until(counted(0, 0)), Duration::from_millis(100), &two);
            end.lasts(two.until(counted(0, mib)))
        };
        assert_eq!(lasts(5), Some(Duration::from_micros(52_500)));
        assert_eq!((lasts(27).is_some(), lasts(28)), (true, None), "what is left lasts 30 ms");
        let near = Allowance::new(Bytes(160 * MIB), Bytes(MIB), 1000 * MIB, LATENCY).unwrap();
        assert_eq!(near.bytes, Bytes(25 * MIB), "but not for the threshold's sake alone");
        assert_eq!(Allowance::new(Bytes(60 * MIB), Bytes(60 * MIB), 1000 * MIB, LATENCY), None);
        assert_eq!(Allowance::new(Bytes(0), Bytes(0), 0, LATENCY), None);
    }

    proptest! {
        /// The promise of the schedule, with a count of allocations: whatever else the node allocates, a ramp that can be saved is
        /// sampled above its threshold while there is time for the eviction.
        #[test]
        fn a_ramp_that_can_be_saved_is_sampled_in_time(
            limit in 16 * MIB..4096 * MIB, percent in 5u64..95, start in 0.0f64..1.0, slowness in 1.01f64..1000.0,
            others in 0u64..4096, reused in 0u64..=64,
        ) {
            let uncounted = Uncounted::on(2, Bytes(4096));
            let threshold = limit * percent / 100;
            let fastest = fastest_saved(Bytes(limit - threshold), LATENCY);
            let rate = fastest as f64 / slowness;
            let start = (threshold as f64 * start) as u64;
            let usage = |at: Moment| (start as f64 + rate * at.as_secs_f64()).min(limit as f64) as u64;
            // What the container reuses is charged to it, and not counted.
            let reused = (reused as f64 * MIB as f64).min(rate);
            let count = |at: Moment| {
                let allocated = (rate - reused + (others * MIB) as f64) * at.as_secs_f64();
                Allocated { at, bytes: Bytes(allocated as u64) }
            };
            let mut now = Moment::ZERO;
            while usage(now) <= threshold {
                let since = count(now);
                let (margin, missing) = (Bytes(limit - usage(now)), Bytes(threshold - usage(now)));
                let due = now + Duration::from_secs(1);
                let Some(allowance) = Allowance::new(margin, missing, fastest, LATENCY) else {
                    now += SHORTEST_INTERVAL;
                    continue;
                };
                now += SHORTEST_INTERVAL;
                let end = allowance.from(uncounted.until(since), SHORTEST_INTERVAL, &uncounted);
                while now < due && let Some(wait) = end.lasts(uncounted.until(count(now))) {
                    now = (now + wait.max(Duration::from_nanos(1))).min(due);
                }
            }
            let left = (limit as f64 - start as f64) / rate - now.as_secs_f64();
            prop_assert!(left >= LATENCY.as_secs_f64() - 1e-6, "{left} s left at {rate} B/s");
        }
    }
}
