//! The last sample of a target and its past, kept for readers.

use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use super::breakdowns::Breakdowns;
use crate::decide::judge::Verdict;
use crate::decide::past::{Past, SlowGrowth};
use crate::ground::boxed::put;
use crate::ground::clock::Moment;
use crate::ground::memory::{Breakdown, Sample};
use crate::ground::units::Bytes;

/// The slow growth is worked out again after this time: it rests on minutes, and takes some 50 µs.
const SLOW_EACH: Duration = Duration::from_secs(10);

/// What is shown of a target to people.
#[derive(Debug, Default)]
pub struct Shown(Mutex<Kept>);

#[derive(Debug, Default)]
struct Kept {
    last: Option<LastSample>,
    /// Its verdict; `None`: below the threshold, as nearly all are.
    verdict: Option<Box<Verdict>>,
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
    /// When it is sampled next.
    pub next: Moment,
    /// v2's `memory.high`.
    pub high: Option<Bytes>,
    /// The kernel slows it down there, below its threshold.
    pub throttled: bool,
    /// The kernel's count of kills in this group.
    pub oom_kills: Option<u64>,
}

#[cfg(test)]
impl LastSample {
    /// Of a container that is not above its threshold, and does not grow; for tests of readers.
    #[must_use]
    pub fn below(sample: Sample) -> LastSample {
        LastSample {
            sample,
            value: Some(sample.own.usage),
            threshold: None,
            margin: sample.margin(),
            growth: Some(0),
            slow_growth: None,
            next: sample.at,
            high: None,
            throttled: false,
            oom_kills: None,
        }
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

    /// The verdict on it.
    #[must_use]
    pub fn verdict(&self) -> Option<Verdict> {
        let kept = self.lock();
        kept.last.map(|_| kept.verdict.as_deref().copied().unwrap_or(Verdict::Below))
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
        let last = LastSample { growth: Some(growth), ..LastSample::below(sample) };
        self.set(last, Verdict::Below, last.value);
    }

    /// Stores a verdict, for tests of readers.
    #[cfg(test)]
    pub fn show_above(&self, evidence: crate::decide::judge::Evidence) {
        self.lock().verdict = Some(Box::new(Verdict::Above(evidence)));
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
    pub(super) fn set(&self, last: LastSample, verdict: Verdict, value: Option<Bytes>) {
        let mut kept = self.lock();
        let past = kept.past.get_or_insert_with(|| Past::new(last.sample.at));
        past.remember(last.sample.at, last.sample.own.usage, value);
        kept.last = Some(last);
        put(&mut kept.verdict, Some(verdict).filter(|verdict| *verdict != Verdict::Below));
    }

    pub(super) fn keep_breakdown(&self, at: Moment, breakdown: Breakdown) {
        self.lock().breakdowns.keep(at, breakdown);
    }
}
