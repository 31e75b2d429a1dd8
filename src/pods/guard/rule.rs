//! What a pod's annotations ask for: plain data, and what follows from it.

use std::fmt;
use std::str::FromStr;
use std::time::Duration;

use crate::ground::memory::{Sample, Signal};
use crate::ground::units::{Bytes, Percent};
use crate::pods::pod::PodUid;

/// The smallest threshold that is a quantity. Less is surely a wrong unit.
pub const MIN_QUANTITY: Bytes = Bytes::MIB;

/// What a pod's annotations ask for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Guard {
    /// The names of the guarded containers.
    pub containers: Vec<String>,
    /// The pod's own cgroup is guarded, too (`*`).
    pub pod_group: bool,
    /// The threshold in the annotation. The one in `rule` may be lower, by a part of the spread.
    pub threshold: Threshold,
    /// The most by which a pod's own threshold is lower than the annotation, in percentage points of the limit.
    pub spread: Option<Percent>,
    pub rule: Rule,
    /// Grace period of the eviction, in seconds; `None`: the pod's own.
    pub eviction_grace: Option<u32>,
    pub dry_run: DryRun,
    /// What may be done, in the order in which it is tried. Never empty, each at most once.
    pub remedies: Vec<Remedy>,
    /// Present if `remedies` has [`Remedy::Raise`].
    pub raise: Option<Raise>,
    /// Present if the rule has a threshold for warnings.
    pub warn_url: Option<WarnUrl>,
}

/// How far a memory limit may be raised.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Raise {
    /// The most that it is ever raised to.
    pub to: Bytes,
    /// The least of one raise, as a share of the limit.
    pub by: Percent,
}

/// Where a warning goes, on the pod's own address.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct WarnUrl {
    pub port: u16,
    /// Begins with `/`; may have a query.
    pub path: String,
}

/// When to evict.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Rule {
    pub threshold: Threshold,
    pub signal: Signal,
    /// The signal has to be above the threshold for so long, without a dip.
    pub sustained_for: Duration,
    /// Past this share of the limit, a pod whose eviction a disruption budget blocks may be deleted.
    pub force_delete: Option<Percent>,
    /// Above it, the container is warned.
    pub warn: Option<Threshold>,
}

impl Rule {
    /// The threshold in bytes; `None` for a percentage where there is no limit.
    #[must_use]
    pub fn threshold_of(&self, sample: &Sample) -> Option<Bytes> {
        self.threshold.of(sample.base())
    }

    /// The threshold of warnings in bytes; `None` if there is none, or no limit to take a percentage of.
    #[must_use]
    pub fn warn_threshold_of(&self, sample: &Sample) -> Option<Bytes> {
        self.warn?.of(sample.base())
    }

    /// Whether a sample is above `force-delete-threshold`.
    #[must_use]
    pub fn is_critical(&self, sample: &Sample) -> bool {
        let past = self.force_delete.and_then(|percent| Some(percent.of(sample.base()?)));
        past.is_some_and(|past| sample.own.net_usage() > past)
    }
}

/// What can be done about a container that is about to be killed, the gentlest first.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Remedy {
    /// Raise its memory limit in place: it loses nothing.
    Raise,
    /// Restart it in place: it loses its process; the pod stays.
    Restart,
    /// Evict its pod.
    Evict,
}

impl Remedy {
    pub const ALL: [Remedy; 3] = [Remedy::Raise, Remedy::Restart, Remedy::Evict];

    /// The word in the annotation, in flags and in metrics.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Remedy::Raise => "raise",
            Remedy::Restart => "restart",
            Remedy::Evict => "evict",
        }
    }
}

/// A container is above its threshold if its signal is strictly greater.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Threshold {
    /// A share of the limit.
    Percent(Percent),
    /// So many bytes, whatever the limit.
    Quantity(Bytes),
}

impl Threshold {
    /// In bytes; `None` for a percentage without a limit.
    #[must_use]
    pub fn of(self, limit: Option<Bytes>) -> Option<Bytes> {
        match self {
            Threshold::Quantity(bytes) => Some(bytes),
            Threshold::Percent(percent) => limit.map(|limit| percent.of(limit)),
        }
    }
}

impl fmt::Display for Threshold {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Threshold::Percent(p) => p.fmt(f),
            Threshold::Quantity(b) => b.fmt(f),
        }
    }
}

/// How much of an eviction really happens. The greater of two is the more careful.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub enum DryRun {
    #[default]
    Off,
    /// The request is sent as a dry run (`?dryRun=All`): the server checks it and changes nothing.
    Server,
    Client,
}

impl DryRun {
    /// The word in metrics and in the log.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            DryRun::Off => "off",
            DryRun::Server => "server",
            DryRun::Client => "client",
        }
    }
}

impl FromStr for DryRun {
    type Err = ();

    fn from_str(text: &str) -> Result<Self, ()> {
        match text {
            "client" => Ok(DryRun::Client),
            "server" => Ok(DryRun::Server),
            _ => Err(()),
        }
    }
}

/// A pod's own threshold: lower by a part of the spread. The pod's uid decides which part, so that replicas which grow
/// in step do not reach their thresholds in step.
#[must_use]
pub fn spread_out(threshold: Threshold, spread: Option<Percent>, uid: &PodUid) -> Threshold {
    match (threshold, spread) {
        (Threshold::Percent(percent), Some(spread)) => {
            let part = u32::try_from(fnv1a(uid.0.as_bytes()) % u64::from(Percent::PARTS)).unwrap_or(0);
            Threshold::Percent(percent.lowered(spread, part))
        }
        _ => threshold,
    }
}

/// The lowest threshold that a pod can have with this spread, whatever its uid.
#[must_use]
pub fn lowest(threshold: Threshold, spread: Option<Percent>) -> Threshold {
    match (threshold, spread) {
        (Threshold::Percent(percent), Some(spread)) => Threshold::Percent(percent.lowered(spread, Percent::PARTS)),
        _ => threshold,
    }
}

/// FNV-1a with 64 bits (<https://datatracker.ietf.org/doc/html/draft-eastlake-fnv>): simple enough for any tool to agree.
fn fnv1a(bytes: &[u8]) -> u64 {
    bytes.iter().fold(0xcbf2_9ce4_8422_2325, |hash, byte| (hash ^ u64::from(*byte)).wrapping_mul(0x0000_0100_0000_01b3))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_hash_has_its_published_values() {
        assert_eq!((fnv1a(b""), fnv1a(b"foobar")), (0xcbf2_9ce4_8422_2325, 0x8594_4171_f739_67e8));
    }

    #[test]
    fn thresholds_are_shown_as_people_write_them() {
        assert_eq!(Threshold::Quantity(MIN_QUANTITY).to_string(), "1Mi");
        assert_eq!(Threshold::Percent(Percent::parse("60.5").unwrap()).to_string(), "60.5 %");
    }
}
