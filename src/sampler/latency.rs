//! How long an eviction takes in one namespace: the controller learns it, the sampler reads it.

use std::sync::atomic::AtomicU64;
use std::sync::atomic::Ordering::Relaxed;
use std::time::Duration;

/// What an eviction takes before one was seen: SIGTERM and exit 25–41 ms after the request (measured on an idle cluster),
/// and a network between.
pub const TYPICAL: Duration = Duration::from_millis(60);
/// What nine of ten take before one was seen: a Deployment's pod was gone after 54 to 158 ms (measured).
pub const P90: Duration = Duration::from_millis(160);

/// How long an eviction takes, with its spread. In nanoseconds.
#[derive(Debug)]
pub struct Latency {
    typical: AtomicU64,
    p90: AtomicU64,
}

impl Default for Latency {
    fn default() -> Latency {
        let latency = Latency { typical: AtomicU64::new(0), p90: AtomicU64::new(0) };
        latency.set_typical(TYPICAL);
        latency.set_p90(P90);
        latency
    }
}

impl Latency {
    /// From the request to SIGTERM, and the exit of a process that ends at once: the schedule goes by this.
    #[must_use]
    pub fn typical(&self) -> Duration {
        Duration::from_nanos(self.typical.load(Relaxed))
    }

    /// What nine of ten evictions take, from the request to the end of the container's group: deadlines go by this.
    #[must_use]
    pub fn p90(&self) -> Duration {
        Duration::from_nanos(self.p90.load(Relaxed))
    }

    /// Replaces [`Latency::typical`].
    pub fn set_typical(&self, latency: Duration) {
        self.typical.store(nanos(latency), Relaxed);
    }

    /// Replaces [`Latency::p90`].
    pub fn set_p90(&self, latency: Duration) {
        self.p90.store(nanos(latency), Relaxed);
    }
}

fn nanos(duration: Duration) -> u64 {
    u64::try_from(duration.as_nanos()).unwrap_or(u64::MAX)
}
