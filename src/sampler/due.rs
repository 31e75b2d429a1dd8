//! When a target is sampled next.

use std::time::Duration;

use crate::decide::schedule::{LONGEST_INTERVAL, SHORTEST_INTERVAL};
use crate::ground::clock::Moment;

/// The interval of a container that was reported as above its threshold. Its eviction may be deferred; three samples
/// show that no time is left for that. While its usage rises, it is sampled as often as any container near a kill.
pub(super) const REPORTED_INTERVAL: Duration = Duration::from_millis(10);
/// A container that is sampled more often than this may be evicted in a moment, and so may one that would cross its
/// threshold within [`SOON`] at its growth. A connection should be open by then.
pub(super) const CLOSE: Duration = Duration::from_millis(30);
/// See [`CLOSE`].
pub(super) const SOON: Duration = Duration::from_secs(2);
/// The interval of a container with a file that cannot be read.
pub(super) const UNREADABLE_INTERVAL: Duration = LONGEST_INTERVAL;
/// A sample may come early by this part of its interval, to share a wake-up. A wake-up costs as much as ten samples
/// (measured). A half causes two wake-ups where a quarter causes five.
const EARLY_PART: u32 = 2;
/// After this time nothing is learned from an end any more; what was asked for may have been refused.
pub(super) const FOLLOWED_FOR: Duration = Duration::from_secs(120);

/// When a target is sampled next.
#[derive(Clone, Copy, Debug)]
pub(super) struct Due {
    pub(super) at: Moment,
    /// From this moment on it may share another target's wake-up.
    pub(super) early: Moment,
}

impl Due {
    pub(super) fn within(now: Moment, interval: Duration) -> Due {
        let at = now + interval;
        Due { at, early: at - interval / EARLY_PART }
    }
}

/// How soon an end is noticed that is awaited for so long: within a sixteenth of that time.
pub(super) fn follow_interval(waited: Duration) -> Duration {
    (waited / 16).clamp(SHORTEST_INTERVAL, LONGEST_INTERVAL)
}
