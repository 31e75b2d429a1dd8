//! How long an eviction takes in one namespace. The controller measures it, and the sampler reads it.

use std::sync::atomic::AtomicU64;
use std::sync::atomic::Ordering::Relaxed;
use std::time::Duration;

use crate::decide::ladder::EVICT;

/// The latency of evictions, with its spread. In nanoseconds.
#[derive(Debug)]
pub struct Latency {
    p10: AtomicU64,
    p90: AtomicU64,
}

impl Default for Latency {
    fn default() -> Latency {
        let latency = Latency { p10: AtomicU64::new(0), p90: AtomicU64::new(0) };
        latency.set_p10(EVICT.p50);
        latency.set_p90(EVICT.p90);
        latency
    }
}

impl Latency {
    /// The latency of the quickest one in ten, from the request to SIGTERM, and to the exit of a process that ends at once. The
    /// schedule uses this: a ramp that a quick eviction saves is worth a sample.
    #[must_use]
    pub fn p10(&self) -> Duration {
        Duration::from_nanos(self.p10.load(Relaxed))
    }

    /// The latency of nine in ten evictions, from the request to the end of the container's group. Deadlines use this.
    #[must_use]
    pub fn p90(&self) -> Duration {
        Duration::from_nanos(self.p90.load(Relaxed))
    }

    pub fn set_p10(&self, latency: Duration) {
        self.p10.store(nanos(latency), Relaxed);
    }

    pub fn set_p90(&self, latency: Duration) {
        self.p90.store(nanos(latency), Relaxed);
    }
}

fn nanos(duration: Duration) -> u64 {
    u64::try_from(duration.as_nanos()).unwrap_or(u64::MAX)
}
