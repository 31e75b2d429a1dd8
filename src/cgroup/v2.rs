//! The memory controller of cgroup v2.

use super::{Files, Limit, Malformed, Stat, field, number, required};
use crate::units::Bytes;

pub(super) const FILES: Files = Files {
    usage: "memory.current",
    limit: "memory.max",
    stat: "memory.stat",
    kills: "memory.events",
    failed_charges: "memory.events",
};

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
        active_file: required(text, "active_file")?,
        dirty: required(text, "file_dirty")?,
        writeback: required(text, "file_writeback")?,
        // Absent before kernel 5.10's per-byte accounting in some builds: then nothing is known
        // to be reclaimable.
        slab_reclaimable: Bytes(field(text, b"slab_reclaimable").unwrap_or(0)),
    })
}
