//! Containers that the kernel slows down at `memory.high` (cgroup v2) before they reach their threshold. Pure.

use std::time::Duration;

use crate::ground::clock::Moment;
use crate::ground::memory::Sample;
use crate::ground::units::Bytes;

/// A container that has been at its `memory.high` for so long stays there. One that only passes it on its way to the threshold is no
/// news.
const STAYS: Duration = Duration::from_secs(5);
/// It is at its `memory.high` if less than this part of it is missing: the kernel takes back what is above, a bit too much at a time.
const NEAR_PART: u64 = 32;

/// A container is slowed down below its threshold.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Throttled {
    /// `memory.high`.
    pub high: Bytes,
    pub threshold: Bytes,
    pub usage: Bytes,
}

/// Since when a container is at its `memory.high`, and whether that was reported.
#[derive(Clone, Copy, Debug, Default)]
pub struct Throttle {
    since: Option<Moment>,
    reported: bool,
}

impl Throttle {
    /// Adds a sample with the cache that is known. Returns whether the container is slowed down below its threshold: what cannot
    /// simply be reclaimed has stood at a `memory.high` that is not above the threshold. (A container that is full of clean cache up
    /// to there loses cache, not time.)
    pub fn observe(&mut self, high: Option<Bytes>, threshold: Option<Bytes>, sample: &Sample) -> Option<Throttled> {
        let throttled =
            high.zip(threshold).map(|(high, threshold)| Throttled { high, threshold, usage: sample.own.usage });
        let throttled = throttled.filter(|Throttled { high, threshold, .. }| {
            let is_at_high = sample.own.net_usage() >= high.less(Bytes(high.0 / NEAR_PART));
            high <= threshold && sample.own.stat.is_some() && is_at_high
        });
        let since = throttled.map(|_| self.since.unwrap_or(sample.at));
        self.since = since;
        throttled.filter(|_| since.is_some_and(|since| sample.at.saturating_sub(since) >= STAYS))
    }

    /// Whether to report it: once.
    pub fn is_news(&mut self) -> bool {
        !std::mem::replace(&mut self.reported, true)
    }

    /// It could not be reported, or its guard was edited.
    pub fn report_again(&mut self) {
        self.reported = false;
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ground::memory::{Level, Stat};

    fn sample(second: u64, usage: u64, cache: Option<u64>) -> Sample {
        let stat = cache.map(|cache| Stat { inactive_file: Bytes(cache << 20), ..Stat::default() });
        let usage = Bytes(usage << 20);
        let own = Level { usage, most_usage: usage, limit: Some(Bytes(100 << 20)), stat, swap_left: Bytes(0) };
        let at = Duration::from_secs(second);
        Sample { at, until: at, own, pod: None }
    }

    #[test]
    fn it_is_throttled_where_what_it_holds_stays_at_a_high_below_its_threshold() {
        let mib = |n: u64| Some(Bytes(n << 20));
        for (high, threshold, usage, cache, expected) in [
            (mib(50), mib(80), 50, Some(0), true),
            (mib(50), mib(80), 49, Some(0), true),
            (mib(50), mib(80), 52, Some(1), true),
            (mib(50), mib(80), 47, Some(0), false),
            (mib(50), mib(50), 50, Some(0), true),
            // It gets to its threshold.
            (mib(50), mib(49), 50, Some(0), false),
            // It loses cache, and no time.
            (mib(50), mib(80), 50, Some(10), false),
            (mib(50), mib(80), 50, None, false),
            (None, mib(80), 50, Some(0), false),
            (mib(50), None, 50, Some(0), false),
        ] {
            let mut throttle = Throttle::default();
            assert_eq!(throttle.observe(high, threshold, &sample(1, usage, cache)), None, "it may be in passing");
            let found = throttle.observe(high, threshold, &sample(6, usage, cache));
            assert_eq!(found.is_some(), expected, "{high:?} {threshold:?} {usage} {cache:?}");
        }
    }

    #[test]
    fn it_begins_anew_when_it_was_below_and_is_reported_once() {
        let (high, threshold) = (Some(Bytes(50 << 20)), Some(Bytes(80 << 20)));
        let mut throttle = Throttle::default();
        let mut at = |second, usage| throttle.observe(high, threshold, &sample(second, usage, Some(0))).is_some();
        assert_eq!(
            [at(0, 50), at(4, 50), at(5, 30), at(6, 50), at(10, 50), at(11, 50), at(12, 50)],
            [false, false, false, false, false, true, true]
        );
        assert!(throttle.is_news() && !throttle.is_news());
        throttle.report_again();
        assert!(throttle.is_news());
    }
}
