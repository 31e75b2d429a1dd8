//! The one clock.

use std::time::{Duration, Instant};

/// A point in time: since the agent's start, monotonic.
pub type Moment = Duration;

/// The one clock: moments are counted from its making.
#[derive(Clone, Copy, Debug)]
pub struct Clock {
    start: Instant,
}

impl Clock {
    #[must_use]
    #[expect(clippy::disallowed_methods, reason = "the one clock")]
    pub fn start() -> Clock {
        Clock { start: Instant::now() }
    }

    /// One that was started so long ago.
    #[cfg(test)]
    #[must_use]
    pub fn started(ago: Duration) -> Clock {
        let Clock { start } = Clock::start();
        Clock { start: start - ago }
    }

    /// The time since the start.
    #[must_use]
    #[expect(clippy::disallowed_methods, reason = "the one clock")]
    pub fn now(&self) -> Moment {
        Instant::now() - self.start
    }

    /// A moment as tokio's timers want it.
    #[must_use]
    pub fn instant(&self, at: Moment) -> tokio::time::Instant {
        (self.start + at).into()
    }
}
