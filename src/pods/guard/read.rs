//! Reads all annotations of a pod, and collects all that is wrong with them.

use super::problem::{Problem, Warning};
use super::remedies;
use super::rule::{DryRun, Guard, Raise, Remedy, Rule, Threshold, WarnUrl, lowest, spread_out};
use super::value;
use crate::ground::keys;
use crate::ground::text::{near, nearest, shortened};
use crate::ground::units::Percent;
use crate::pods::pod::{ContainerKind, Pod};

/// At most so many containers are named in a message.
const MOST_NAMES: usize = 12;
/// What the annotation `remedies` accepts.
const REMEDIES: &str = "\"raise\", \"restart\" and \"evict\" in the order in which they shall be tried, each at most once, such as \"raise,evict\"";
/// The annotations that are a percentage of the limit.
const PERCENTAGES: [&str; 4] = [keys::THRESHOLD, keys::WARN_THRESHOLD, keys::FORCE_DELETE, keys::RAISE_BY];
/// At most so many unknown annotations of a pod are reported.
const MOST_UNKNOWN: usize = 8;

/// What a pod's label and annotations say.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Reading {
    /// The guard, or all that is wrong with it.
    pub guard: Result<Guard, Vec<Problem>>,
    pub warnings: Vec<Warning>,
}

/// The namespace's label has opted the pod in, not the pod's author.
#[must_use]
pub fn by_namespace(pod: &Pod) -> bool {
    pod.annotations.get(keys::GUARDED_BY).is_some_and(|by| by == keys::BY_NAMESPACE)
}

/// Reads a pod's guard; `None` if the pod's label does not opt in.
#[must_use]
pub fn read(pod: &Pod) -> Option<Reading> {
    // The watch brings only pods with the label, so one whose labels cannot be read has opted in, too.
    if !pod.unreadable.is_empty() {
        let problems = pod.unreadable.iter().map(|u| Problem::Unreadable(shortened(u)));
        return Some(Reading { guard: Err(problems.collect()), warnings: Vec::new() });
    }
    if pod.label.as_deref() != Some(keys::ENABLED) {
        return None;
    }
    Some(Reading { guard: read_guard(pod), warnings: doubtful(pod) })
}

/// Reads every annotation, also after one that is invalid.
fn read_guard(pod: &Pod) -> Result<Guard, Vec<Problem>> {
    let mut all = Annotations { pod, problems: Vec::new() };
    let targets = all.checked(targets(pod, all.text(keys::TARGET)));
    let threshold = all.checked(value::threshold(all.text(keys::THRESHOLD)));
    let spread = all.checked(value::spread(all.text(keys::SPREAD), threshold)).flatten();
    let signal = all.optional(keys::SIGNAL, "\"working-set\", \"usage\" or \"unreclaimable\"", value::signal);
    let sustained_for =
        all.optional(keys::SUSTAINED, "a duration from \"0s\" to \"10m\" such as \"30s\"", value::sustained_for);
    let eviction_grace = all.optional(keys::GRACE, "whole seconds from \"1\" to \"86400\"", value::eviction_grace);
    let dry_run = all.optional(keys::DRY_RUN, "\"client\" or \"server\"", |text| text.parse().ok());
    let force_delete =
        all.optional(keys::FORCE_DELETE, "a percentage of the limit between 0 and 100 such as \"95\"", |text| {
            Percent::parse(text).ok()
        });
    let mut remedies =
        all.optional(keys::REMEDIES, REMEDIES, remedies::remedies).unwrap_or_else(|| vec![Remedy::Evict]);
    let raise = all.raise(&mut remedies, targets.as_ref(), threshold);
    if force_delete.is_some() && !remedies.contains(&Remedy::Evict) {
        all.problems.push(Problem::ForceDeleteWithoutEvict);
    }
    let (warn, warn_url) = all.warn(targets.as_ref(), threshold, spread);
    let (Some((containers, pod_group)), Some(threshold), []) = (targets, threshold, &all.problems[..]) else {
        return Err(all.problems);
    };
    Ok(Guard {
        containers,
        pod_group,
        threshold,
        spread,
        rule: Rule {
            threshold: spread_out(threshold, spread, &pod.id.uid),
            signal: signal.unwrap_or_default(),
            sustained_for: sustained_for.unwrap_or_default(),
            force_delete,
            warn,
        },
        eviction_grace,
        dry_run: dry_run.unwrap_or(DryRun::Off),
        remedies,
        raise,
        warn_url,
    })
}

/// A pod's annotations, and what was found to be wrong with them.
struct Annotations<'a> {
    pod: &'a Pod,
    problems: Vec<Problem>,
}

impl<'a> Annotations<'a> {
    fn text(&self, key: &str) -> Option<&'a str> {
        self.pod.annotations.get(key).map(String::as_str)
    }

    fn checked<T>(&mut self, result: Result<T, Problem>) -> Option<T> {
        result.map_err(|problem| self.problems.push(problem)).ok()
    }

    /// An annotation that may be absent. `parse` returns `None` for a value that the annotation does not accept;
    /// `expected` says which it does.
    fn optional<T>(&mut self, key: &'static str, expected: &'static str, parse: fn(&str) -> Option<T>) -> Option<T> {
        let text = self.text(key)?;
        let bad = || Problem::BadValue { key, value: shortened(text), expected };
        self.checked(parse(text).ok_or_else(bad))
    }

    /// The bounds of `raise`; none if it is not among the remedies.
    fn raise(
        &mut self,
        remedies: &mut Vec<Remedy>,
        targets: Option<&Targets>,
        threshold: Option<Threshold>,
    ) -> Option<Raise> {
        let by = self.optional(keys::RAISE_BY, "a percentage of the limit between 0 and 100 such as \"25\"", |text| {
            Percent::parse(text).ok()
        });
        if !remedies.contains(&Remedy::Raise) {
            return None;
        }
        let containers = targets.map_or(&[][..], |(containers, _)| containers);
        let raise = remedies::raise(self.pod, containers, threshold, self.text(keys::RAISE_LIMIT_TO), by);
        // A namespace's list also reaches pods that it does not suit, and nobody made a mistake.
        let suits = !matches!(raise, Err(Problem::RaiseOfQuantity { .. } | Problem::BoundTooLow { .. }));
        if by_namespace(self.pod) && !suits && remedies.len() > 1 {
            remedies.retain(|remedy| *remedy != Remedy::Raise);
            return None;
        }
        self.checked(raise)
    }

    /// The threshold of warnings, and where they go.
    fn warn(
        &mut self,
        targets: Option<&Targets>,
        threshold: Option<Threshold>,
        spread: Option<Percent>,
    ) -> (Option<Threshold>, Option<WarnUrl>) {
        let before = self.problems.len();
        let text = self.text(keys::WARN_THRESHOLD);
        let expected = "a percentage of the limit below the threshold such as \"50\", or a quantity such as \"256Mi\"";
        let warn = self.optional(keys::WARN_THRESHOLD, expected, |text| value::threshold(Some(text)).ok());
        let expected = "a port and a path on the pod's own address such as \":8080/low-memory\"";
        let url = self.optional(keys::WARN_URL, expected, remedies::warn_url);
        if self.problems.len() == before {
            let lowest = threshold.map(|threshold| lowest(threshold, spread));
            let containers = targets.map_or(&[][..], |(containers, _)| containers);
            let checked = remedies::warn(self.pod, containers, lowest, warn.zip(text), url.as_ref());
            self.checked(checked);
        }
        (warn, url)
    }
}

/// Annotations under our prefix that do not do what was meant: those that do not exist are probably misspelt.
fn doubtful(pod: &Pod) -> Vec<Warning> {
    let has_raise = || {
        let remedies = pod.annotations.get(keys::REMEDIES);
        remedies.and_then(|text| remedies::remedies(text)).is_some_and(|all| all.contains(&Remedy::Raise))
    };
    let raises = [keys::RAISE_LIMIT_TO, keys::RAISE_BY].into_iter().filter(|key| pod.annotations.contains_key(*key));
    let without_raise = raises.filter(|_| !has_raise() && !by_namespace(pod)).map(|key| Warning::WithoutRaise { key });
    let unknown = pod.annotations.keys().filter(|k| !keys::ALL.contains(&k.as_str()) && *k != keys::GUARDED_BY);
    unknown
        .take(MOST_UNKNOWN)
        .map(|key| Warning::UnknownKey { key: shortened(key), nearest: nearest(key, &keys::ALL) })
        .chain(without_raise)
        .chain(PERCENTAGES.into_iter().filter_map(|key| fraction(pod, key)))
        .collect()
}

/// A percentage below 1 %: valid, but nobody wants it.
fn fraction(pod: &Pod, key: &'static str) -> Option<Warning> {
    let value = pod.annotations.get(key)?;
    let percent = Percent::parse(value).ok()?;
    let meant = percent.as_fraction()?;
    Some(Warning::Fraction { key, value: shortened(value), percent, meant })
}

/// The names of the targets, and whether the pod's own cgroup is one, too.
type Targets = (Vec<String>, bool);

fn targets(pod: &Pod, value: Option<&str>) -> Result<Targets, Problem> {
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

/// The first names of a list. Messages are kept in memory, so they have a bound.
fn listed(names: &[String]) -> String {
    let first = names.iter().take(MOST_NAMES).map(String::as_str).collect::<Vec<_>>().join(", ");
    match names.len().saturating_sub(MOST_NAMES) {
        0 => first,
        more => format!("{first} and {more} more"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ground::keys::{ENABLED, LABEL, PREFIX};
    use crate::ground::memory::Signal;
    use crate::ground::units::Bytes;
    use crate::pods::guard::rule::Threshold;
    use proptest::prelude::*;
    use serde_json::json;
    use std::time::Duration;

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
                warn: None,
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
    fn all_problems_are_reported_at_once() {
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
        let warnings: Vec<_> = reading.warnings.iter().map(ToString::to_string).collect();
        assert!(warnings[0].ends_with("dryrun is unknown and ignored: did you mean dry-run?"));
        assert!(warnings[1].ends_with("did you mean memory-usage-threshold?"), "{warnings:?}");
    }

    #[test]
    fn a_percentage_below_one_is_valid_and_a_warning() {
        let all = [(keys::THRESHOLD, "0.85"), (keys::FORCE_DELETE, "0.95%"), (keys::SPREAD, "0.05")];
        let reading = read(&pod(&["app"], &all)).unwrap();
        assert!(reading.guard.is_ok());
        let warnings: Vec<_> = reading.warnings.iter().map(ToString::to_string).collect();
        assert_eq!(
            warnings,
            [
                "memory-usage-threshold \"0.85\" is taken as 0.85 %, less than 1 %: did you mean 85 %?",
                "force-delete-threshold \"0.95%\" is taken as 0.95 %, less than 1 %: did you mean 95 %?",
            ]
        );
        for text in ["1", "1.5", "60", "512Mi", "0.85x"] {
            assert_eq!(read(&pod(&["app"], &[(keys::THRESHOLD, text)])).unwrap().warnings, [], "{text}");
        }
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
        let problems =
            |name: &str| guard(&["web", "proxy"], &[(keys::TARGET, name), (keys::THRESHOLD, "60")]).unwrap_err();
        assert!(
            problems("prxy")[0].to_string().ends_with("(it has: web, proxy, mesh, debug): did you mean \"proxy\"?")
        );
        assert!(problems("app")[0].to_string().ends_with("(it has: web, proxy, mesh, debug)"));
        assert_eq!(problems("app")[0].key(), Some(keys::TARGET));
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
    }
}
