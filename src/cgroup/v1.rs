//! The memory controller of cgroup v1.

use super::{Files, Limit, Malformed, Stat, number, required};
use crate::units::Bytes;

pub(super) const FILES: Files = Files {
    usage: "memory.usage_in_bytes",
    limit: "memory.limit_in_bytes",
    stat: "memory.stat",
    kills: "memory.oom_control",
    failed_charges: "memory.failcnt",
};

/// `PAGE_COUNTER_MAX` in bytes on 64 bit, with pages of 4 KiB: no limit.
const NO_LIMIT: u64 = 9_223_372_036_854_771_712;

pub(super) fn limit(text: &[u8]) -> Result<Limit, Malformed> {
    Ok(match number(text)? {
        // Larger pages round it down further; such a limit is above any machine's memory anyway.
        n if n >= NO_LIMIT => Limit::Max,
        n => Limit::Bytes(Bytes(n)),
    })
}

/// The `total_` fields account for the groups below too, as usage does.
pub(super) fn stat(text: &[u8]) -> Result<Stat, Malformed> {
    Ok(Stat {
        inactive_file: required(text, "total_inactive_file")?,
        active_file: required(text, "total_active_file")?,
        dirty: required(text, "total_dirty")?,
        writeback: required(text, "total_writeback")?,
        slab_reclaimable: Bytes(0),
    })
}
