//! The memory controller of cgroup v2.

use super::error::Malformed;
use super::parse::{Files, Limit, number, or_none, required};
use crate::ground::memory::{Breakdown, Stat};
use crate::ground::units::Bytes;

pub(super) const FILES: Files = Files {
    usage: "memory.current",
    limit: "memory.max",
    stat: "memory.stat",
    kills: "memory.events",
    failed_charges: "memory.events",
    peak: "memory.peak",
};

pub(super) const OWN_EVENTS: &str = "memory.events.local";
pub(super) const HIGH: &str = "memory.high";
pub(super) const SWAP_CURRENT: &str = "memory.swap.current";
pub(super) const SWAP_MAX: &str = "memory.swap.max";

pub(super) fn limit(text: &[u8]) -> Result<Limit, Malformed> {
    match text {
        b"max\n" | b"max" => Ok(Limit::Max),
        _ => number(text).map(|n| Limit::Bytes(Bytes(n))),
    }
}

pub(super) fn stat(text: &[u8]) -> Result<Stat, Malformed> {
    Ok(Stat {
        inactive_file: required(text, "inactive_file")?,
        active_file: or_none(text, "active_file"),
        dirty: or_none(text, "file_dirty"),
        writeback: or_none(text, "file_writeback"),
        // Absent before kernel 5.10's per-byte accounting in some builds.
        slab_reclaimable: or_none(text, "slab_reclaimable"),
        shmem: or_none(text, "shmem"),
    })
}

pub(super) fn breakdown(text: &[u8]) -> Breakdown {
    let kernel = ["kernel_stack", "pagetables", "sec_pagetables", "percpu"];
    Breakdown {
        anonymous: or_none(text, "anon"),
        active_file: or_none(text, "active_file"),
        inactive_file: or_none(text, "inactive_file"),
        shmem: or_none(text, "shmem"),
        slab: or_none(text, "slab"),
        kernel: kernel.into_iter().map(|key| or_none(text, key)).fold(Bytes(0), Bytes::plus),
        sockets: or_none(text, "sock"),
    }
}
