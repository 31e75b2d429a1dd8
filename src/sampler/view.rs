//! The last sample of a target, kept for readers.

use std::sync::{Mutex, PoisonError};

use crate::decide::judge::Verdict;
use crate::ground::clock::Moment;
use crate::ground::memory::Sample;
use crate::ground::units::Bytes;

/// The last sample of a target, shown to people.
#[derive(Debug, Default)]
pub struct Shown(Mutex<Option<LastSample>>);

/// See [`Shown`].
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
    /// The kernel's count of kills in this group.
    pub oom_kills: Option<u64>,
}

impl Shown {
    /// The last sample; `None` before the first.
    #[must_use]
    pub fn last(&self) -> Option<LastSample> {
        // A reader that panicked left a whole value: it is only ever replaced.
        *self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Stores a sample with this growth in bytes per second, for tests of readers.
    #[cfg(test)]
    pub fn show(&self, sample: Sample, growth: i64) {
        self.set(LastSample {
            sample,
            value: Some(sample.own.usage),
            threshold: None,
            margin: sample.margin(),
            growth: Some(growth),
            slow_growth: None,
            verdict: Verdict::Below,
            next: sample.at,
            oom_kills: None,
        });
    }

    /// Records that the sample at this moment equals the one before.
    pub(super) fn unchanged(&self, at: Moment, next: Moment) {
        if let Some(last) = &mut *self.0.lock().unwrap_or_else(PoisonError::into_inner) {
            last.sample.at = at;
            last.next = next;
        }
    }

    pub(super) fn set(&self, last: LastSample) {
        *self.0.lock().unwrap_or_else(PoisonError::into_inner) = Some(last);
    }
}
