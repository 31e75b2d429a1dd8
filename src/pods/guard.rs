//! A pod's label and annotations → its [`Guard`], or the list of what is wrong. Pure.
//!
//! Invalid means never: a guard with one problem is told and not acted upon.

use crate::ground::keys;
use crate::ground::keys::ENABLED;
use crate::ground::keys::PREFIX;
use crate::ground::memory::Sample;
use crate::ground::memory::Signal;
use crate::ground::text::near;
use crate::ground::text::nearest;
use std::fmt;
use std::str::FromStr;
use std::time::Duration;

use thiserror::Error;

use crate::ground::text::shortened;
use crate::ground::units::{Bytes, Percent, PercentError, QuantityError, parse_quantity};
use crate::pods::{ContainerKind, Pod, PodUid};

/// The threshold of pods that their namespace's label guards, where neither says another one (the chart's default).
pub const NAMESPACE_THRESHOLD: &str = "80";
/// The longest `sustained-for`.
pub const MAX_SUSTAINED: Duration = Duration::from_secs(600);
/// The largest `threshold-spread`, in percentage points of the limit.
pub const MAX_SPREAD: &str = "20";
/// The smallest threshold that is a quantity: less is surely a slip of the unit.
pub const MIN_QUANTITY: Bytes = Bytes::MIB;
/// The shortest `eviction-grace-period`, in seconds. With 0 the API server would take the pod away at once, while its
/// containers may still run: a force deletion.
pub const MIN_GRACE: u32 = 1;
/// The longest `eviction-grace-period`: a day, in seconds.
pub const MAX_GRACE: u32 = 86_400;

/// So many containers are named in a message.
const MOST_NAMES: usize = 12;
/// So many unknown keys are told of one pod.
const MOST_UNKNOWN: usize = 8;

/// What a pod asks for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Guard {
    /// Names of the guarded containers.
    pub containers: Vec<String>,
    /// The pod's own group is guarded too (`*`).
    pub pod_group: bool,
    /// The threshold as it is written; the rule's may be lower, by a part of the spread.
    pub threshold: Threshold,
    /// By at most so many percentage points each pod's threshold is lower than what is written.
    pub spread: Option<Percent>,
    /// When to act.
    pub rule: Rule,
    /// Grace period of the eviction in seconds; none: the pod's own.
    pub eviction_grace: Option<u32>,
    /// Try only.
    pub dry_run: DryRun,
}

/// The part of a guard that looks at memory.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Rule {
    /// Above what.
    pub threshold: Threshold,
    /// Measured how.
    pub signal: Signal,
    /// For how long without a dip.
    pub sustained_for: Duration,
    /// Past this share of the limit, a pod whose eviction a disruption budget blocks may be deleted.
    pub force_delete: Option<Percent>,
}

impl Rule {
    /// The threshold in bytes; `None` for a percentage of no limit.
    #[must_use]
    pub fn threshold_of(&self, sample: &Sample) -> Option<Bytes> {
        match self.threshold {
            Threshold::Quantity(bytes) => Some(bytes),
            Threshold::Percent(percent) => sample.base().map(|base| percent.of(base)),
        }
    }

    /// Whether a sample is past `force-delete-threshold`.
    #[must_use]
    pub fn is_critical(&self, sample: &Sample) -> bool {
        let past = self.force_delete.and_then(|percent| Some(percent.of(sample.base()?)));
        past.is_some_and(|past| sample.own.held() > past)
    }
}

/// Above what a container is over.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Threshold {
    /// A share of the limit.
    Percent(Percent),
    /// So many bytes, with or without a limit.
    Quantity(Bytes),
}

impl fmt::Display for Threshold {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Threshold::Percent(p) => p.fmt(f),
            Threshold::Quantity(b) => b.fmt(f),
        }
    }
}

/// How much of an eviction is only tried. The greater of two is the more careful.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, serde::Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum DryRun {
    /// Evict.
    #[default]
    Off,
    /// Ask the server to try it (`?dryRun=All`).
    Server,
    /// Send nothing.
    Client,
}

impl DryRun {
    /// As metrics and the log have it.
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

    /// `client` or `server`.
    fn from_str(text: &str) -> Result<Self, ()> {
        match text {
            "client" => Ok(DryRun::Client),
            "server" => Ok(DryRun::Server),
            _ => Err(()),
        }
    }
}

/// Why a guard is invalid. Each text names the key and says what to write instead.
#[derive(Clone, Debug, Error, PartialEq, Eq)]
pub enum Problem {
    /// No threshold at all.
    #[error("annotation {PREFIX}{key} is missing: write a percentage of the limit such as \"60\", or a quantity such as \"512Mi\"", key = keys::THRESHOLD)]
    MissingThreshold,
    /// A percentage that is none.
    #[error("{key} \"{value}\" is {why}: write a percentage of the limit between 0 and 100 such as \"60\", or a quantity such as \"512Mi\"", key = keys::THRESHOLD)]
    BadPercent {
        /// What was written.
        value: String,
        /// What is wrong.
        why: PercentError,
    },
    /// A quantity that is none.
    #[error("{key} \"{value}\" is invalid ({why}): write a quantity such as \"512Mi\", or a percentage of the limit such as \"60\"", key = keys::THRESHOLD)]
    BadQuantity {
        /// What was written.
        value: String,
        /// What is wrong.
        why: QuantityError,
    },
    /// A quantity below [`MIN_QUANTITY`].
    #[error("{key} \"{value}\" is below {MIN_QUANTITY}: is the unit right?", key = keys::THRESHOLD)]
    TinyQuantity {
        /// What was written.
        value: String,
    },
    /// A target that is empty or twice there.
    #[error("{key} \"{value}\" is invalid: write one container name, several separated by commas, or \"*\"", key = keys::TARGET)]
    BadTarget {
        /// What was written.
        value: String,
    },
    /// A target that the pod does not have.
    #[error("{key} names \"{name}\", but the pod has no such container (it has: {has}){}", did_you_mean(nearest.as_deref()), key = keys::TARGET)]
    NoSuchContainer {
        /// What was written.
        name: String,
        /// What there is.
        has: String,
        /// The one that was probably meant.
        nearest: Option<String>,
    },
    /// A plain init container.
    #[error("{key} names \"{name}\", an init container that ends before the pod runs; only one with restartPolicy Always can be guarded", key = keys::TARGET)]
    InitContainer {
        /// What was written.
        name: String,
    },
    /// No target, and several to choose from.
    #[error("the pod has {count} containers and no annotation {PREFIX}{key}: name the one to guard (it has: {has})", key = keys::TARGET)]
    Ambiguous {
        /// How many there are.
        count: usize,
        /// Their names.
        has: String,
    },
    /// A spread that would lower the threshold to nothing.
    #[error("{key} \"{value}\" is not below the threshold of {threshold}: write fewer percentage points", key = keys::SPREAD)]
    SpreadTooWide {
        /// What was written.
        value: String,
        /// The threshold as it is written.
        threshold: Threshold,
    },
    /// A spread of something that is no percentage.
    #[error("{key} \"{value}\" is given in percentage points of the limit, but the threshold is a quantity: write the threshold as a percentage such as \"60\", or leave the spread out", key = keys::SPREAD)]
    SpreadOfQuantity {
        /// What was written.
        value: String,
    },
    /// Any other key with a value it does not take.
    #[error("{key} \"{value}\" is invalid: write {expected}")]
    BadValue {
        /// The key.
        key: &'static str,
        /// What was written.
        value: String,
        /// What can be written.
        expected: &'static str,
    },
    /// The object could not be read.
    #[error("the pod cannot be read: {0}")]
    Unreadable(String),
}

impl Problem {
    /// The annotation that it is about, as one of [`keys`]; none: the whole pod.
    #[must_use]
    pub fn key(&self) -> Option<&'static str> {
        match self {
            Problem::MissingThreshold
            | Problem::BadPercent { .. }
            | Problem::BadQuantity { .. }
            | Problem::TinyQuantity { .. } => Some(keys::THRESHOLD),
            Problem::BadTarget { .. }
            | Problem::NoSuchContainer { .. }
            | Problem::InitContainer { .. }
            | Problem::Ambiguous { .. } => Some(keys::TARGET),
            Problem::SpreadTooWide { .. } | Problem::SpreadOfQuantity { .. } => Some(keys::SPREAD),
            Problem::BadValue { key, .. } => Some(key),
            Problem::Unreadable(_) => None,
        }
    }
}

fn did_you_mean(nearest: Option<&str>) -> String {
    nearest.map_or_else(String::new, |n| format!(": did you mean \"{n}\"?"))
}

/// Something that does not stop the guard.
#[derive(Clone, Debug, Error, PartialEq, Eq)]
pub enum Warning {
    /// A key under [`PREFIX`] that does not exist.
    #[error("annotation {PREFIX}{key} is unknown and ignored: did you mean {nearest}?")]
    UnknownKey {
        /// What was written.
        key: String,
        /// The nearest of [`keys::ALL`].
        nearest: &'static str,
    },
}

/// What a pod's label and annotations say.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Reading {
    /// The guard, or all that is wrong with it.
    pub guard: Result<Guard, Vec<Problem>>,
    /// What else is to be told.
    pub warnings: Vec<Warning>,
}

/// The namespace's label has opted the pod in, not the pod's author.
#[must_use]
pub fn by_namespace(pod: &Pod) -> bool {
    pod.annotations.get(keys::GUARDED_BY).is_some_and(|by| by == keys::BY_NAMESPACE)
}

/// Reads a pod's guard; `None` where the label does not opt in.
#[must_use]
pub fn read(pod: &Pod) -> Option<Reading> {
    // Only labelled pods are watched: one whose labels cannot be read has opted in all the same.
    if pod.label.as_deref() != Some(ENABLED) && pod.unreadable.is_empty() {
        return None;
    }
    if !pod.unreadable.is_empty() {
        let problems = pod.unreadable.iter().map(|u| Problem::Unreadable(shortened(u)));
        return Some(Reading { guard: Err(problems.collect()), warnings: Vec::new() });
    }
    let mut problems = Vec::new();
    let mut take = |result: Result<(), Problem>| problems.extend(result.err());

    let value = |key: &str| pod.annotations.get(key).map(String::as_str);
    let mut containers = Vec::new();
    let mut pod_group = false;
    take(targets(pod, value(keys::TARGET)).map(|(names, all)| {
        containers = names;
        pod_group = all;
    }));
    let mut threshold = None;
    take(read_threshold(value(keys::THRESHOLD)).map(|t| threshold = Some(t)));
    let mut spread = None;
    take(read_spread(value(keys::SPREAD), threshold).map(|s| spread = s));
    let mut signal = Signal::default();
    take(optional(keys::SIGNAL, value(keys::SIGNAL), "\"working-set\", \"usage\" or \"unreclaimable\"", |text| {
        signal = [Signal::WorkingSet, Signal::Usage, Signal::Unreclaimable].into_iter().find(|s| s.as_str() == text)?;
        Some(())
    }));
    let mut sustained_for = Duration::ZERO;
    take(optional(
        keys::SUSTAINED,
        value(keys::SUSTAINED),
        "a duration from \"0s\" to \"10m\" such as \"30s\"",
        |text| {
            sustained_for = duration(text).filter(|d| *d <= MAX_SUSTAINED)?;
            Some(())
        },
    ));
    let mut eviction_grace = None;
    take(optional(keys::GRACE, value(keys::GRACE), "whole seconds from \"1\" to \"86400\"", |text| {
        let digits = text.bytes().all(|b| b.is_ascii_digit());
        let seconds = text.parse().ok().filter(|s| digits && (MIN_GRACE..=MAX_GRACE).contains(s))?;
        eviction_grace = Some(seconds);
        Some(())
    }));
    let mut dry_run = DryRun::Off;
    take(optional(keys::DRY_RUN, value(keys::DRY_RUN), "\"client\" or \"server\"", |text| {
        dry_run = text.parse().ok()?;
        Some(())
    }));
    let mut force_delete = None;
    take(optional(
        keys::FORCE_DELETE,
        value(keys::FORCE_DELETE),
        "a percentage of the limit between 0 and 100 such as \"95\"",
        |text| {
            force_delete = Some(Percent::parse(text).ok()?);
            Some(())
        },
    ));

    let guard = match threshold {
        Some(threshold) if problems.is_empty() => Ok(Guard {
            containers,
            pod_group,
            threshold,
            spread,
            rule: Rule { threshold: spread_out(threshold, spread, &pod.id.uid), signal, sustained_for, force_delete },
            eviction_grace,
            dry_run,
        }),
        _ => Err(problems),
    };
    let unknown = pod.annotations.keys().filter(|k| !keys::ALL.contains(&k.as_str()) && *k != keys::GUARDED_BY);
    let warnings = unknown
        .take(MOST_UNKNOWN)
        .map(|key| Warning::UnknownKey { key: shortened(key), nearest: nearest(key, &keys::ALL) })
        .collect();
    Some(Reading { guard, warnings })
}

/// Which containers, and whether the pod's own group too.
fn targets(pod: &Pod, value: Option<&str>) -> Result<(Vec<String>, bool), Problem> {
    let names = |kinds: &[ContainerKind]| -> Vec<String> {
        let of_kind = pod.containers.iter().filter(|c| kinds.contains(&c.kind));
        of_kind.map(|c| c.name.clone()).collect()
    };
    let Some(value) = value else {
        let main = names(&[ContainerKind::Main]);
        return match main.len() {
            1 => Ok((main, false)),
            count => Err(Problem::Ambiguous { count, has: listed(&main) }),
        };
    };
    let guardable = names(&[ContainerKind::Main, ContainerKind::Sidecar, ContainerKind::Ephemeral]);
    if value == "*" {
        return Ok((guardable, true));
    }
    let mut chosen: Vec<String> = Vec::new();
    for name in value.split(',').map(str::trim) {
        if name.is_empty() || chosen.iter().any(|c| c == name) {
            return Err(Problem::BadTarget { value: shortened(value) });
        }
        let container = pod.containers.iter().find(|c| c.name == name);
        match container.map(|c| c.kind) {
            None => {
                let nearest = near(name, guardable.iter().map(String::as_str)).map(str::to_owned);
                return Err(Problem::NoSuchContainer { name: shortened(name), has: listed(&guardable), nearest });
            }
            Some(ContainerKind::Init) => {
                return Err(Problem::InitContainer { name: shortened(name) });
            }
            Some(_) => chosen.push(name.to_owned()),
        }
    }
    Ok((chosen, false))
}

/// The first names of a list: a message is kept, so it has a bound.
fn listed(names: &[String]) -> String {
    let first = names.iter().take(MOST_NAMES).map(String::as_str).collect::<Vec<_>>().join(", ");
    match names.len().saturating_sub(MOST_NAMES) {
        0 => first,
        more => format!("{first} and {more} more"),
    }
}

/// A bare number is a percentage; anything with a letter is a quantity.
fn read_threshold(value: Option<&str>) -> Result<Threshold, Problem> {
    let value = value.ok_or(Problem::MissingThreshold)?;
    if !value.bytes().any(|b| b.is_ascii_alphabetic()) {
        return Percent::parse(value)
            .map(Threshold::Percent)
            .map_err(|why| Problem::BadPercent { value: shortened(value), why });
    }
    let bytes = parse_quantity(value).map_err(|why| Problem::BadQuantity { value: shortened(value), why })?;
    if bytes < MIN_QUANTITY {
        return Err(Problem::TinyQuantity { value: shortened(value) });
    }
    Ok(Threshold::Quantity(bytes))
}

/// Percentage points from 0 to 20, less than the threshold.
fn read_spread(value: Option<&str>, threshold: Option<Threshold>) -> Result<Option<Percent>, Problem> {
    let Some(text) = value else { return Ok(None) };
    let bad = || Problem::BadValue {
        key: keys::SPREAD,
        value: shortened(text),
        expected: "percentage points of the limit from \"0\" to \"20\" such as \"5\"",
    };
    if !text.is_empty() && text.bytes().all(|b| b == b'0') {
        return Ok(None);
    }
    let most = Percent::parse(MAX_SPREAD).map_err(|_| bad())?;
    let spread = Percent::parse(text).ok().filter(|s| *s <= most).ok_or_else(bad)?;
    match threshold {
        Some(Threshold::Quantity(_)) => Err(Problem::SpreadOfQuantity { value: shortened(text) }),
        Some(threshold @ Threshold::Percent(percent)) if spread >= percent => {
            Err(Problem::SpreadTooWide { value: shortened(text), threshold })
        }
        _ => Ok(Some(spread)),
    }
}

/// A pod's own threshold: lower by a part of the spread that its uid decides, so that replicas which grow in step do not
/// reach it in step.
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

/// FNV-1a with 64 bits (<https://datatracker.ietf.org/doc/html/draft-eastlake-fnv>): simple enough for any tool to agree.
fn fnv1a(bytes: &[u8]) -> u64 {
    bytes.iter().fold(0xcbf2_9ce4_8422_2325, |hash, byte| (hash ^ u64::from(*byte)).wrapping_mul(0x0000_0100_0000_01b3))
}

/// A key that may be absent; `set` answers `None` for a value that it does not take.
fn optional(
    key: &'static str,
    value: Option<&str>,
    expected: &'static str,
    set: impl FnOnce(&str) -> Option<()>,
) -> Result<(), Problem> {
    let Some(value) = value else { return Ok(()) };
    set(value).ok_or_else(|| Problem::BadValue { key, value: shortened(value), expected })
}

/// A duration in Go's notation, as `30s` or `1m30s`, as Kubernetes writes them; not negative.
#[must_use]
pub fn duration(text: &str) -> Option<Duration> {
    // jiff reads more than that: words, signs, ISO 8601. (kube's own parser panics on some texts.)
    if text.is_empty() || !text.bytes().all(|b| matches!(b, b'0'..=b'9' | b'.' | b'h' | b'm' | b's')) {
        return None;
    }
    Duration::try_from(text.parse::<jiff::SignedDuration>().ok()?).ok()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ground::keys::LABEL;
    use proptest::prelude::*;
    use serde_json::json;

    /// A pod with a native sidecar, an init container and the given annotations.
    fn pod(containers: &[&str], annotations: &[(&str, &str)]) -> Pod {
        let containers: Vec<_> = containers.iter().map(|c| json!({"name": c})).collect();
        let annotations: serde_json::Map<_, _> =
            annotations.iter().map(|(k, v)| (format!("{PREFIX}{k}"), json!(v))).collect();
        let pod = json!({
            "metadata": {"name": "p", "namespace": "n", "uid": "u", "labels": {LABEL: ENABLED}, "annotations": annotations},
            "spec": {"containers": containers, "initContainers": [{"name": "setup"}, {"name": "mesh", "restartPolicy": "Always"}],
                "ephemeralContainers": [{"name": "debug"}]},
        });
        Pod::from_json(&pod.to_string()).unwrap()
    }

    fn guard(containers: &[&str], annotations: &[(&str, &str)]) -> Result<Guard, Vec<Problem>> {
        read(&pod(containers, annotations)).unwrap().guard
    }

    #[test]
    fn replicas_are_spread_below_the_threshold_by_their_uids() {
        assert_eq!(
            (fnv1a(b""), fnv1a(b"foobar")),
            (0xcbf2_9ce4_8422_2325, 0x8594_4171_f739_67e8),
            "the published values"
        );
        let with = |uid: &str, spread: &str| {
            let mut pod = pod(&["app"], &[(keys::THRESHOLD, "60"), (keys::SPREAD, spread)]);
            pod.id.uid.0 = uid.to_owned();
            read(&pod).unwrap().guard
        };
        let own = |uid: &str, spread: &str| match with(uid, spread).unwrap().rule.threshold {
            Threshold::Percent(percent) => percent,
            Threshold::Quantity(_) => panic!(),
        };
        let percent = |text: &str| Percent::parse(text).unwrap();
        assert_eq!(own("u", "0"), percent("60"));
        assert_eq!(own("59435a07-8d0f-4d3a-a1a5-1a2b3c4d5e6f", "5"), own("59435a07-8d0f-4d3a-a1a5-1a2b3c4d5e6f", "5"));
        let all: Vec<_> = (0..1000).map(|i| own(&format!("59435a07-8d0f-4d3a-a1a5-{i:012}"), "5")).collect();
        assert!(all.iter().all(|p| (percent("55")..=percent("60")).contains(p)));
        // Each fifth of the range has about a fifth of them.
        for fifth in 0..5 {
            let from = percent(&format!("{}", 55 + fifth));
            let to = percent(&format!("{}", 56 + fifth));
            let within = all.iter().filter(|p| (from..to).contains(*p)).count();
            assert!((140..=260).contains(&within), "{within} from {from} to {to}");
        }
        let guard = with("u", "5").unwrap();
        assert_eq!((guard.threshold.to_string(), guard.spread.unwrap().to_string()), ("60 %".into(), "5 %".into()));
        for bad in ["", "-1", "21", "x", "5Mi", "0.0.0"] {
            assert!(matches!(&with("u", bad).unwrap_err()[..], [Problem::BadValue { key: keys::SPREAD, .. }]), "{bad}");
        }
        let wide = pod(&["app"], &[(keys::THRESHOLD, "10"), (keys::SPREAD, "10")]);
        let problems = read(&wide).unwrap().guard.unwrap_err();
        assert!(matches!(&problems[..], [Problem::SpreadTooWide { .. }]), "{problems:?}");
        let of_quantity = pod(&["app"], &[(keys::THRESHOLD, "10Mi"), (keys::SPREAD, "5")]);
        let problems = read(&of_quantity).unwrap().guard.unwrap_err();
        assert!(
            matches!(&problems[..], [Problem::SpreadOfQuantity { .. }]) && problems[0].to_string().contains("quantity")
        );
    }

    #[test]
    fn the_seeds_two_annotations() {
        let guard = guard(&["app", "other"], &[(keys::TARGET, "app"), (keys::THRESHOLD, "60")]).unwrap();
        assert_eq!(guard.containers, ["app"]);
        assert_eq!(
            guard.rule,
            Rule {
                threshold: Threshold::Percent(Percent::parse("60").unwrap()),
                signal: Signal::WorkingSet,
                sustained_for: Duration::ZERO,
                force_delete: None,
            }
        );
        assert_eq!(
            (guard.pod_group, guard.eviction_grace, guard.dry_run, guard.rule.force_delete),
            (false, None, DryRun::Off, None)
        );
    }

    #[test]
    fn only_the_exact_label_value_opts_in() {
        let mut pod = pod(&["app"], &[(keys::THRESHOLD, "60")]);
        assert!(read(&pod).is_some());
        for value in ["Enabled", "true", "enabled ", "disabled", ""] {
            pod.label = Some(value.into());
            assert_eq!(read(&pod), None, "{value}");
        }
        pod.label = None;
        assert_eq!(read(&pod), None);
    }

    #[test]
    fn every_key() {
        let guard = guard(
            &["a", "b"],
            &[
                (keys::TARGET, "a, mesh"),
                (keys::THRESHOLD, "1.5Gi"),
                (keys::SIGNAL, "unreclaimable"),
                (keys::SUSTAINED, "1m30s"),
                (keys::GRACE, "5"),
                (keys::DRY_RUN, "server"),
                (keys::FORCE_DELETE, "95%"),
            ],
        )
        .unwrap();
        assert_eq!(guard.containers, ["a", "mesh"]);
        assert_eq!(guard.rule.threshold, Threshold::Quantity(Bytes(3 << 29)));
        assert_eq!(guard.rule.signal, Signal::Unreclaimable);
        assert_eq!(guard.rule.sustained_for, Duration::from_secs(90));
        assert_eq!(guard.eviction_grace, Some(5));
        assert_eq!(guard.dry_run, DryRun::Server);
        assert_eq!(guard.rule.force_delete, Some(Percent::parse("95").unwrap()));
    }

    #[test]
    fn the_smallest_quantity_is_one_mebibyte() {
        let threshold = guard(&["app"], &[(keys::THRESHOLD, "1Mi")]).unwrap().rule.threshold;
        assert_eq!(threshold, Threshold::Quantity(Bytes(1 << 20)));
        assert_eq!(threshold.to_string(), "1Mi");
        assert_eq!(Threshold::Percent(Percent::parse("60.5").unwrap()).to_string(), "60.5 %");
    }

    #[test]
    fn a_star_is_all_but_plain_init_containers_and_the_pod() {
        let guard = guard(&["a", "b"], &[(keys::TARGET, "*"), (keys::THRESHOLD, "60")]).unwrap();
        assert_eq!(guard.containers, ["a", "b", "mesh", "debug"]);
        assert!(guard.pod_group);
    }

    /// The ancestor evicted at once on most of these.
    #[test]
    fn thresholds_that_are_none_never_make_a_guard() {
        for value in [
            "",
            " ",
            "0",
            "-1",
            "-60",
            "100",
            "100%",
            "101",
            "1e1",
            "60m",
            "60 %",
            "abc",
            "1Ki",
            "0Mi",
            "1023Ki",
            "512",
            "5.5.5",
            "NaN",
            "inf",
            "60,5",
            "0x10",
            "512MiB",
            "512mi",
            "１２",
            "99999999999Ei",
            "٦٠",
        ] {
            let result = guard(&["app"], &[(keys::THRESHOLD, value)]);
            let problems = result.expect_err(value);
            assert_eq!(problems.len(), 1, "{value}");
            assert!(problems[0].to_string().contains(keys::THRESHOLD), "{value}");
        }
        assert_eq!(guard(&["app"], &[]), Err(vec![Problem::MissingThreshold]));
    }

    #[test]
    fn targets_that_are_none() {
        let bad = |target: &str| {
            guard(&["a", "b"], &[(keys::TARGET, target), (keys::THRESHOLD, "60")]).expect_err(target).remove(0)
        };
        for target in ["", ",", "a,", "a,a", " "] {
            assert!(matches!(bad(target), Problem::BadTarget { .. }), "{target}");
        }
        assert_eq!(
            bad("c").to_string(),
            "target-container-name names \"c\", but the pod has no such container (it has: a, b, mesh, debug)"
        );
        assert!(matches!(bad("a,*"), Problem::NoSuchContainer { .. }));
        assert!(matches!(bad("setup"), Problem::InitContainer { .. }));
        assert_eq!(
            guard(&["a", "b"], &[(keys::THRESHOLD, "60")]),
            Err(vec![Problem::Ambiguous { count: 2, has: "a, b".into() }])
        );
    }

    /// 0 would be a force deletion: the pod's name is free while its containers still run.
    #[test]
    fn a_grace_below_a_second_or_beyond_a_day_is_none() {
        let grace = |text| guard(&["app"], &[(keys::THRESHOLD, "60"), (keys::GRACE, text)]).map(|g| g.eviction_grace);
        assert_eq!((grace("1"), grace("86400")), (Ok(Some(1)), Ok(Some(86_400))));
        for text in ["0", "00", "-0", "-1", "+1", "86401", "0.5", ""] {
            let problem = grace(text).expect_err(text).remove(0).to_string();
            assert!(problem.ends_with("write whole seconds from \"1\" to \"86400\""), "{problem}");
        }
    }

    #[test]
    fn all_problems_are_told_at_once() {
        let problems = guard(
            &["a", "b"],
            &[
                (keys::THRESHOLD, "0"),
                (keys::SIGNAL, "rss"),
                (keys::SUSTAINED, "11m"),
                (keys::GRACE, "-1"),
                (keys::DRY_RUN, "true"),
                (keys::FORCE_DELETE, "100"),
            ],
        )
        .unwrap_err();
        assert_eq!(problems.len(), 7, "{problems:?}");
        for value in [
            "-1s",
            "10",
            "1h",
            "abc",
            "",
            "99999999999999999999999h",
            "999999999999999h",
            "1s-5s",
            "+-1s",
            "+1s",
            "PT5S",
            "5s ago",
            "1e1s",
        ] {
            let result = guard(&["a"], &[(keys::THRESHOLD, "60"), (keys::SUSTAINED, value)]);
            assert!(result.is_err(), "{value}");
        }
        for value in ["+5", "86401", "5s", "", "99999999999"] {
            let result = guard(&["a"], &[(keys::THRESHOLD, "60"), (keys::GRACE, value)]);
            assert!(result.is_err(), "{value}");
        }
    }

    #[test]
    fn an_unknown_key_is_a_warning_with_the_nearest_one() {
        let reading =
            read(&pod(&["app"], &[(keys::THRESHOLD, "60"), ("memory-treshold", "70"), ("dryrun", "client")])).unwrap();
        assert!(reading.guard.is_ok());
        let told: Vec<_> = reading.warnings.iter().map(ToString::to_string).collect();
        assert!(told[0].ends_with("dryrun is unknown and ignored: did you mean dry-run?"));
        assert!(told[1].ends_with("did you mean memory-usage-threshold?"), "{told:?}");
    }

    #[test]
    fn the_stamp_of_a_namespace_is_no_unknown_key() {
        for (by, stamped) in [("namespace", true), ("somebody", false)] {
            let pod = pod(&["app"], &[(keys::THRESHOLD, "60"), (keys::GUARDED_BY, by)]);
            let reading = read(&pod).unwrap();
            assert!(reading.guard.is_ok() && reading.warnings.is_empty(), "{reading:?}");
            assert_eq!(by_namespace(&pod), stamped, "{by}");
        }
        // That of a namespace has no meaning on a pod.
        let reading = read(&pod(&["app"], &[(keys::THRESHOLD, "60"), (keys::INCLUDE_JOBS, "true")])).unwrap();
        assert_eq!(reading.warnings.len(), 1);
    }

    #[test]
    fn a_container_is_named_where_its_name_is_near() {
        let told = |name: &str| guard(&["web", "proxy"], &[(keys::TARGET, name), (keys::THRESHOLD, "60")]).unwrap_err();
        assert!(told("prxy")[0].to_string().ends_with("(it has: web, proxy, mesh, debug): did you mean \"proxy\"?"));
        assert!(told("app")[0].to_string().ends_with("(it has: web, proxy, mesh, debug)"));
        assert_eq!(told("app")[0].key(), Some(keys::TARGET));
    }

    #[test]
    fn a_pod_that_cannot_be_read_is_never_guarded() {
        let mut pod = pod(&["app"], &[(keys::THRESHOLD, "60")]);
        pod.unreadable.push("status: invalid type".into());
        assert!(read(&pod).unwrap().guard.is_err());
        pod.label = None;
        assert!(read(&pod).unwrap().guard.is_err());
    }

    proptest! {
        #[test]
        fn any_text_in_any_key_is_survived(key in prop::sample::select(keys::ALL.to_vec()), value in "\\PC{0,40}") {
            let _ = read(&pod(&["app"], &[(keys::THRESHOLD, "60"), (key, &value)]));
        }

        /// What is taken as a threshold says the same number again; nothing else gets through.
        #[test]
        fn a_threshold_is_what_was_written(value in "[0-9.%]{1,6}") {
            if let Ok(guard) = guard(&["app"], &[(keys::THRESHOLD, &value)]) {
                let number: f64 = value.trim_end_matches('%').parse().unwrap();
                let Threshold::Percent(percent) = guard.rule.threshold else { panic!("no percent") };
                prop_assert!(number > 0.0 && number < 100.0);
                let share = percent.of(Bytes(1 << 40)).0 as f64 / (1u64 << 40) as f64 * 100.0;
                prop_assert!((share - number).abs() < 1e-5, "{share} {number}");
            }
        }

        #[test]
        fn any_duration_is_survived(value in "[0-9.hmsuµn+-]{1,16}") {
            if let Some(duration) = duration(&value) {
                prop_assert!(!value.contains(['-', '+']) && duration >= Duration::ZERO);
            }
        }
    }
}
