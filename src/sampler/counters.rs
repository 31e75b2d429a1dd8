//! What the sampler shows to others besides its reports.

use std::sync::atomic::AtomicU64;

use tokio::sync::Notify;

/// What the sampler tells the other side besides its reports: counts for `/metrics` and `/healthz`.
#[derive(Debug, Default)]
pub struct Counters {
    pub samples: AtomicU64,
    pub stat_reads: AtomicU64,
    /// Samples that read the limit, and now and then the pod's and the kernel's counts of kills.
    pub limit_reads: AtomicU64,
    /// Times the thread woke up.
    pub wakeups: AtomicU64,
    /// Notified when an eviction may come soon.
    pub eviction_near: Notify,
    /// Milliseconds from the start to the thread's last turn.
    pub turned_at: AtomicU64,
}
