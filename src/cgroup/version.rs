//! The two versions of the memory controller: the names of their files, and how each is parsed.

use super::error::Malformed;
use super::kills::Kills;
use super::parse::{Files, Limit, field, number};
use super::{v1, v2};
use crate::ground::memory::{Breakdown, Stat};
use crate::ground::units::Bytes;

#[derive(Clone, Copy, Debug, PartialEq, Eq, serde::Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Version {
    V1,
    V2,
}

/// Parsers for the text of the files.
impl Version {
    /// Parses usage, a number of bytes.
    ///
    /// # Errors
    /// When it is anything else.
    pub fn parse_usage(self, text: &[u8]) -> Result<Bytes, Malformed> {
        number(text).map(Bytes)
    }

    /// Parses a limit.
    ///
    /// # Errors
    /// When it is neither a number of bytes nor this version's notation for "no limit".
    pub fn parse_limit(self, text: &[u8]) -> Result<Limit, Malformed> {
        match self {
            Version::V1 => v1::limit(text),
            Version::V2 => v2::limit(text),
        }
    }

    /// Parses `memory.stat`.
    ///
    /// # Errors
    /// When the line of the inactive cache is missing. The other lines only refine the margin to a kill.
    pub fn parse_stat(self, text: &[u8]) -> Result<Stat, Malformed> {
        match self {
            Version::V1 => v1::stat(text),
            Version::V2 => v2::stat(text),
        }
    }

    /// Parses what `memory.stat` says to people. A line that is missing counts as 0.
    #[must_use]
    pub fn parse_breakdown(self, text: &[u8]) -> Breakdown {
        match self {
            Version::V1 => v1::breakdown(text),
            Version::V2 => v2::breakdown(text),
        }
    }

    /// Parses the counts of kills; `None` if the kernel has none.
    #[must_use]
    pub fn parse_kills(self, text: &[u8]) -> Option<Kills> {
        let killed = field(text, b"oom_kill")?;
        let (together, limit_hit) = (field(text, b"oom_group_kill"), field(text, b"oom"));
        Some(Kills { killed, together, limit_hit, hit_below: 0 })
    }

    /// Parses the count of charges that hit the limit; `None` if the kernel has none.
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
