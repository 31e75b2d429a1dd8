//! The one clock.

use std::time::{Duration, Instant};

use jiff::SignedDuration;

/// A monotonic point in time, counted from the agent's start.
pub type Moment = Duration;

/// For moments from before the agent's start, which are negative.
#[must_use]
pub fn signed(duration: Duration) -> SignedDuration {
    SignedDuration::try_from(duration).unwrap_or(SignedDuration::MAX)
}

/// The only clock. Moments count from its creation.
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

    /// A clock that started `ago` before now.
    #[cfg(test)]
    #[must_use]
    pub fn started(ago: Duration) -> Clock {
        let Clock { start } = Clock::start();
        Clock { start: start - ago }
    }

    #[must_use]
    #[expect(clippy::disallowed_methods, reason = "the one clock")]
    pub fn now(&self) -> Moment {
        Instant::now() - self.start
    }

    /// Converts a moment for tokio's timers.
    #[must_use]
    pub fn instant(&self, at: Moment) -> tokio::time::Instant {
        (self.start + at).into()
    }
}
