//! What the sampler shares besides its reports.

use std::sync::atomic::{AtomicU64, AtomicUsize};

use tokio::sync::Notify;

/// Counts for `/metrics` and `/healthz`, and one notification.
#[derive(Debug, Default)]
pub struct Counters {
    pub samples: AtomicU64,
    /// Samples that were not taken, because the node had allocated too little memory.
    pub spared: AtomicU64,
    pub stat_reads: AtomicU64,
    /// Samples that read the limit, and sometimes also the pod's limit and the kernel's counts of kills.
    pub limit_reads: AtomicU64,
    /// Samples that were due at once because of the kernel's alarm.
    pub alarms: AtomicU64,
    /// Times the thread woke up.
    pub wakeups: AtomicU64,
    /// Notified when an eviction may come soon.
    pub eviction_near: Notify,
    /// How many containers that was about, when it was last notified.
    pub near: AtomicUsize,
    /// Milliseconds from the start to the thread's last iteration.
    pub turned_at: AtomicU64,
}
