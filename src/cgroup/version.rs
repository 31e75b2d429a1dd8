//! The two versions of the memory controller: what their files are called, and how each is parsed.

use super::error::Malformed;
use super::kills::Kills;
use super::parse::{Files, Limit, field, number};
use super::{v1, v2};
use crate::ground::memory::Stat;
use crate::ground::units::Bytes;

#[derive(Clone, Copy, Debug, PartialEq, Eq, serde::Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Version {
    /// The memory controller of cgroup v1.
    V1,
    V2,
}

/// What the files say, by their text alone.
impl Version {
    /// A number of bytes, as usage has it.
    ///
    /// # Errors
    /// When it is anything else.
    pub fn parse_usage(self, text: &[u8]) -> Result<Bytes, Malformed> {
        number(text).map(Bytes)
    }

    /// A limit.
    ///
    /// # Errors
    /// When it is neither a number of bytes nor this version's way to say that there is none.
    pub fn parse_limit(self, text: &[u8]) -> Result<Limit, Malformed> {
        match self {
            Version::V1 => v1::limit(text),
            Version::V2 => v2::limit(text),
        }
    }

    /// `memory.stat`.
    ///
    /// # Errors
    /// When the line of the inactive cache is missing; the others only refine what is left before a kill.
    pub fn parse_stat(self, text: &[u8]) -> Result<Stat, Malformed> {
        match self {
            Version::V1 => v1::stat(text),
            Version::V2 => v2::stat(text),
        }
    }

    /// The counters of kills; `None` where the kernel has none.
    #[must_use]
    pub fn parse_kills(self, text: &[u8]) -> Option<Kills> {
        let killed = field(text, b"oom_kill")?;
        let (together, limit_hit) = (field(text, b"oom_group_kill"), field(text, b"oom"));
        Some(Kills { killed, together, limit_hit, hit_below: 0 })
    }

    /// The count of charges that hit the limit; `None` where the kernel has none.
    #[must_use]
    pub fn parse_failed_charges(self, text: &[u8]) -> Option<u64> {
        match self {
            Version::V1 => number(text).ok(),
            Version::V2 => field(text, b"max"),
        }
    }

    pub(super) const fn files(self) -> &'static Files {
        match self {
            Version::V1 => &v1::FILES,
            Version::V2 => &v2::FILES,
        }
    }
}
