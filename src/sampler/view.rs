//! The last sample of a target and its past, kept for readers.

use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use crate::decide::judge::Verdict;
use crate::decide::past::{BLOCK, Past, SlowGrowth};
use crate::ground::clock::Moment;
use crate::ground::memory::{Breakdown, Sample};
use crate::ground::units::Bytes;

/// One of the breakdowns is an hour old.
const HOUR: Duration = Duration::from_secs(3600);

/// The slow growth is worked out again after this time: it rests on minutes, and takes some 50 µs.
const SLOW_EACH: Duration = Duration::from_secs(10);

/// What is shown of a target to people.
#[derive(Debug, Default)]
pub struct Shown(Mutex<Kept>);

#[derive(Debug, Default)]
struct Kept {
    last: Option<LastSample>,
    past: Option<Past>,
    breakdowns: Breakdowns,
    /// The slow growth, and when it was worked out.
    slow_growth: Option<(Moment, Option<SlowGrowth>)>,
}

/// The last sample.
#[derive(Clone, Copy, Debug)]
pub struct LastSample {
    /// The sample. `stat` is set only if it was read now, or if nothing has changed since it was last read.
    pub sample: Sample,
    /// The last known value of the signal, at most usage.
    pub value: Option<Bytes>,
    pub threshold: Option<Bytes>,
    /// The margin to a kill.
    pub margin: Option<Bytes>,
    /// Over the last quarter of a second, in bytes per second.
    pub growth: Option<i64>,
    /// Over the last minute.
    pub slow_growth: Option<i64>,
    pub verdict: Verdict,
    /// When it is sampled next.
    pub next: Moment,
    /// v2's `memory.high`.
    pub high: Option<Bytes>,
    /// The kernel slows it down there, below its threshold.
    pub throttled: bool,
    /// The kernel's count of kills in this group.
    pub oom_kills: Option<u64>,
}

/// What a container's memory consisted of at some moments.
#[derive(Clone, Copy, Debug, Default)]
pub struct Breakdowns {
    /// When it was first read, some hour ago, and some minutes ago.
    first: Option<(Moment, Breakdown)>,
    hour: Option<(Moment, Breakdown)>,
    minutes: Option<(Moment, Breakdown)>,
    /// When it was last read, or could not be.
    read_at: Option<Moment>,
    /// When it was last found above its threshold.
    pub above: Option<(Moment, Breakdown)>,
}

impl Breakdowns {
    fn keep(&mut self, at: Moment, read: Option<Breakdown>) {
        self.read_at = Some(at);
        let Some(read) = read else { return };
        let is_older = |kept: Option<(Moment, Breakdown)>| kept.is_none_or(|(then, _)| at >= then + HOUR);
        if is_older(self.hour) {
            self.hour = self.minutes;
        }
        self.minutes = Some((at, read));
        self.first = self.first.or(self.minutes);
    }

    /// The last one that is at least so old, else the oldest.
    #[must_use]
    pub fn before(&self, at: Moment) -> Option<(Moment, Breakdown)> {
        [self.minutes, self.hour].into_iter().flatten().find(|(then, _)| *then <= at).or(self.first)
    }
}

/// What is known of a target's past.
#[derive(Clone, Debug)]
pub struct Known {
    pub last: LastSample,
    pub past: Past,
    pub breakdowns: Breakdowns,
}

impl Shown {
    fn lock(&self) -> MutexGuard<'_, Kept> {
        // A reader that panicked left whole values: they are only ever replaced.
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The last sample; `None` before the first.
    #[must_use]
    pub fn last(&self) -> Option<LastSample> {
        self.lock().last
    }

    /// Everything that is kept; `None` before the first sample.
    #[must_use]
    pub fn known(&self) -> Option<Known> {
        let kept = self.lock();
        Some(Known { last: kept.last?, past: kept.past.clone()?, breakdowns: kept.breakdowns })
    }

    /// The growth over minutes to hours of what is known, at most ten seconds old.
    #[must_use]
    pub fn slow_growth(&self, known: &Known) -> Option<SlowGrowth> {
        let now = known.last.sample.at;
        if let Some((then, growth)) = self.lock().slow_growth
            && now < then + SLOW_EACH
        {
            return growth;
        }
        let growth = known.past.slow_growth();
        self.lock().slow_growth = Some((now, growth));
        growth
    }

    /// Stores a sample with this growth in bytes per second, for tests of readers.
    #[cfg(test)]
    pub fn show(&self, sample: Sample, growth: i64) {
        let last = LastSample {
            sample,
            value: Some(sample.own.usage),
            threshold: None,
            margin: sample.margin(),
            growth: Some(growth),
            slow_growth: None,
            verdict: Verdict::Below,
            next: sample.at,
            high: None,
            throttled: false,
            oom_kills: None,
        };
        self.set(last, last.value);
    }

    /// Stores a verdict, for tests of readers.
    #[cfg(test)]
    pub fn show_above(&self, evidence: crate::decide::judge::Evidence) {
        if let Some(last) = &mut self.lock().last {
            last.verdict = Verdict::Above(evidence);
        }
    }

    /// Records that the sample at this moment equals the one before.
    pub(super) fn unchanged(&self, at: Moment, next: Moment) {
        let Kept { last: Some(last), past, .. } = &mut *self.lock() else { return };
        last.sample.at = at;
        last.next = next;
        if let Some(past) = past {
            past.remember(at, last.sample.own.usage, last.value);
        }
    }

    /// `value`: the signal, if it was read with the sample.
    pub(super) fn set(&self, last: LastSample, value: Option<Bytes>) {
        let mut kept = self.lock();
        let past = kept.past.get_or_insert_with(|| Past::new(last.sample.at));
        past.remember(last.sample.at, last.sample.own.usage, value);
        kept.last = Some(last);
    }

    /// Whether it is time to keep another breakdown.
    pub(super) fn wants_breakdown(&self, now: Moment) -> bool {
        self.lock().breakdowns.read_at.is_none_or(|then| now >= then + BLOCK)
    }

    pub(super) fn keep_breakdown(&self, at: Moment, breakdown: Option<Breakdown>) {
        self.lock().breakdowns.keep(at, breakdown);
    }

    pub(super) fn found_above(&self, at: Moment, breakdown: Option<Breakdown>) {
        self.lock().breakdowns.above = breakdown.map(|breakdown| (at, breakdown));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_breakdown_before_a_rise_is_the_last_one_that_is_old_enough() {
        let mut kept = Breakdowns::default();
        let minute = |n: u64| Duration::from_secs(60 * n);
        let of = |n: u64| Breakdown { anonymous: Bytes(n), ..Breakdown::default() };
        assert_eq!(kept.before(minute(0)), None);
        (0..=30).for_each(|n| kept.keep(minute(5 * n), Some(of(5 * n))));
        let before = |n: u64| kept.before(minute(n)).unwrap().1.anonymous.0;
        assert_eq!((before(150), before(149)), (150, 110), "the one of an hour was kept an hour after the last");
        assert_eq!((before(109), before(0)), (0, 0));
    }
}
