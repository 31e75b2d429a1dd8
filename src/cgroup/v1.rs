//! The memory controller of cgroup v1.

use std::path::Path;

use super::error::Malformed;
use super::parse::{Files, Limit, number, or_none, required};
use crate::ground::memory::{Breakdown, Stat};
use crate::ground::units::Bytes;

pub(super) const FILES: Files = Files {
    usage: "memory.usage_in_bytes",
    limit: "memory.limit_in_bytes",
    stat: "memory.stat",
    kills: "memory.oom_control",
    failed_charges: "memory.failcnt",
    peak: "memory.max_usage_in_bytes",
};

/// v1 writes "no limit" as `PAGE_COUNTER_MAX`: the largest `long`, rounded down to a page. This is the value for pages
/// of 64 KiB, the largest that a machine has; with 4 KiB it is 9223372036854771712.
const NO_LIMIT: u64 = 0x7fff_ffff_ffff_0000;

/// Whether the kernel counts the charges that hit the limit. Where the limit of memory and swap together is no higher, which is
/// how the kubelet sets both, that one is hit first, and neither file counts (measured, on a 6.18 kernel).
pub(super) fn counts_failures(dir: &Path) -> bool {
    let read = |name: &str| std::fs::read(dir.join(name)).ok().and_then(|text| number(&text).ok());
    let (both, limit) = (read("memory.memsw.limit_in_bytes"), read(FILES.limit));
    both.zip(limit).is_none_or(|(both, limit)| both > limit || limit >= NO_LIMIT)
}

/// Charges move with the processes that move into this group. Nobody sets this for containers, and the kernel is about to drop it.
pub(super) fn takes_charges(dir: &Path) -> bool {
    std::fs::read(dir.join("memory.move_charge_at_immigrate")).is_ok_and(|text| text.trim_ascii() != b"0")
}

pub(super) fn limit(text: &[u8]) -> Result<Limit, Malformed> {
    Ok(match number(text)? {
        n if n >= NO_LIMIT => Limit::Max,
        n => Limit::Bytes(Bytes(n)),
    })
}

/// The `total_` fields include the groups below, as usage does.
pub(super) fn stat(text: &[u8]) -> Result<Stat, Malformed> {
    Ok(Stat {
        inactive_file: required(text, "total_inactive_file")?,
        active_file: or_none(text, "total_active_file"),
        // Absent from kernels 3.10 to 4.1.
        dirty: or_none(text, "total_dirty"),
        writeback: or_none(text, "total_writeback"),
        slab_reclaimable: Bytes(0),
        shmem: or_none(text, "total_shmem"),
    })
}

pub(super) fn breakdown(text: &[u8]) -> Breakdown {
    Breakdown {
        anonymous: or_none(text, "total_rss"),
        active_file: or_none(text, "total_active_file"),
        inactive_file: or_none(text, "total_inactive_file"),
        shmem: or_none(text, "total_shmem"),
        ..Breakdown::default()
    }
}
