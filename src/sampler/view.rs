//! The last look at a target, left for readers.

use std::sync::{Mutex, PoisonError};

use crate::decide::judge::Verdict;
use crate::ground::clock::Moment;
use crate::ground::memory::Sample;
use crate::ground::units::Bytes;

/// The last look at a target, for people.
#[derive(Debug, Default)]
pub struct View(Mutex<Option<LastLook>>);

/// See [`View`].
#[derive(Clone, Copy, Debug)]
pub struct LastLook {
    /// What was read. Stat only where this look read it, or one since which nothing has moved.
    pub sample: Sample,
    /// The last known value of the signal; at most usage.
    pub value: Option<Bytes>,
    /// The threshold in bytes.
    pub threshold: Option<Bytes>,
    /// What is left before a kill.
    pub room: Option<Bytes>,
    /// Over the last quarter of a second, in bytes a second.
    pub growth: Option<i64>,
    /// Over the last minute.
    pub slow_growth: Option<i64>,
    /// What was found.
    pub verdict: Verdict,
    /// When it is looked at next.
    pub next: Moment,
    /// The kernel's count of kills in this group.
    pub oom_kills: Option<u64>,
}

impl View {
    /// The last look; `None` before the first.
    #[must_use]
    pub fn last(&self) -> Option<LastLook> {
        // A reader that panicked left a whole value: it is only ever replaced.
        *self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Leaves a look that grows by so many bytes a second, for tests of readers.
    #[cfg(test)]
    pub fn show(&self, sample: Sample, growth: i64) {
        self.set(LastLook {
            sample,
            value: Some(sample.own.usage),
            threshold: None,
            room: sample.room(),
            growth: Some(growth),
            slow_growth: None,
            verdict: Verdict::Under,
            next: sample.at,
            oom_kills: None,
        });
    }

    /// The look at this moment found what the one before had found.
    pub(super) fn again(&self, at: Moment, next: Moment) {
        if let Some(look) = &mut *self.0.lock().unwrap_or_else(PoisonError::into_inner) {
            look.sample.at = at;
            look.next = next;
        }
    }

    pub(super) fn set(&self, look: LastLook) {
        *self.0.lock().unwrap_or_else(PoisonError::into_inner) = Some(look);
    }
}
