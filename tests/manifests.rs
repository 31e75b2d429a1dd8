//! The manifests name what the program has: flags, variables, metrics.

#![allow(clippy::unwrap_used, clippy::expect_used, reason = "a test")]

use pre_oom_killer::sampler::Counters;
use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;
use std::time::Duration;

use clap::{CommandFactory, Parser};
use pre_oom_killer::access::confinement::{Confinement, ConfinementState};
use pre_oom_killer::act::answer::Answer;
use pre_oom_killer::act::order::Act;
use pre_oom_killer::cli::{Cli, Command};
use pre_oom_killer::config::Config;
use pre_oom_killer::decide::ladder::Allowed;
use pre_oom_killer::pods::guard::DryRun;
use pre_oom_killer::report::metrics::Counts;
use pre_oom_killer::report::metrics::Metrics;
use serde_json::Value as Json;

fn file(path: &str) -> String {
    std::fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join("daemonset").join(path)).unwrap()
}

/// What the program makes of the DaemonSet's arguments and these variables.
fn config(variables: &[&Json]) -> Config {
    let docs: Vec<Json> = serde_saphyr::from_multiple(&file("install.yaml")).unwrap();
    let agent = docs.iter().find(|d| d["kind"] == "DaemonSet").unwrap();
    let container = &agent["spec"]["template"]["spec"]["containers"][0];
    let mut words = vec!["pre-oom-killer".to_owned(), "run".to_owned()];
    words.extend(container["args"].as_array().unwrap().iter().map(|w| w.as_str().unwrap().to_owned()));
    let cli = Cli::command();
    let run = cli.find_subcommand("run").unwrap();
    for variable in container["env"].as_array().unwrap().iter().chain(variables.iter().copied()) {
        let name = variable["name"].as_str().unwrap();
        let flag = run.get_arguments().find(|a| a.get_env().is_some_and(|e| e == name));
        let flag = flag.unwrap_or_else(|| panic!("the program reads no variable {name}")).get_long().unwrap();
        words.push(format!("--{flag}={}", variable["value"].as_str().unwrap_or("from-the-downward-api")));
    }
    #[cfg_attr(not(feature = "plugin"), allow(irrefutable_let_patterns, reason = "then it is the only command"))]
    let Command::Run(args) = Cli::try_parse_from(words).unwrap().command else { panic!("another command") };
    args.validate().unwrap()
}

#[test]
fn the_programs_flags_and_variables_are_those_of_the_daemonset() {
    let config = config(&[]);
    assert_eq!(config.cgroup_root, Path::new("/host/sys/fs/cgroup"));
    assert_eq!(config.listen.port(), 8080);
    assert_eq!(config.limits, pre_oom_killer::decide::restraint::Limits::default());
    assert_eq!(config.remedies, Allowed::default());
    assert!(config.pod_uid.is_some() && config.pod_name.is_some());
}

#[test]
fn and_those_of_the_component_for_remedies() {
    let component: Json = serde_saphyr::from_str(&file("components/remedies/kustomization.yaml")).unwrap();
    let patch: Json = serde_saphyr::from_str(component["patches"][0]["patch"].as_str().unwrap()).unwrap();
    let variables = &patch["spec"]["template"]["spec"]["containers"][0]["env"];
    let variables: Vec<_> = variables.as_array().unwrap().iter().collect();
    assert_eq!(variables.len(), 3);
    // The bounds are the program's own defaults, too.
    assert_eq!(config(&variables).remedies, Allowed { raise: true, restart: true, ..Allowed::default() });
}

/// Name → labels, and all values of labels, as `/metrics` has them.
fn exported() -> (BTreeMap<String, BTreeSet<String>>, BTreeSet<String>) {
    let metrics = Metrics::new();
    // These have no series before the first of them.
    metrics.answered(Act::Evict, Some(&Answer::Accepted), DryRun::Server);
    metrics.answered(Act::Delete, Some(&Answer::Accepted), DryRun::Off);
    let counts = Counts::default();
    let page = |state| {
        metrics.confinement(Confinement::Policy, state);
        metrics.page(counts, Duration::ZERO, &Counters::default())
    };
    let page = [ConfinementState::Holds, ConfinementState::DoesNotHold, ConfinementState::Unclear].map(page).concat();
    let (mut names, mut values) = (BTreeMap::<_, BTreeSet<_>>::new(), BTreeSet::new());
    values.insert(Confinement::None.as_str().to_owned());
    for line in page.lines().filter(|l| !l.starts_with('#')) {
        let series = line.rsplit_once(' ').unwrap().0;
        let (name, labels) = series.split_once('{').unwrap_or((series, ""));
        let known = names.entry(name.to_owned()).or_default();
        for label in labels.trim_end_matches('}').split(',').filter(|l| !l.is_empty()) {
            let (label, value) = label.split_once('=').unwrap();
            known.insert(label.to_owned());
            values.insert(value.trim_matches('"').to_owned());
        }
    }
    (names, values)
}

/// Words of an expression: names with what stands around them taken off.
fn words(text: &str) -> impl Iterator<Item = &str> {
    text.split(|c: char| !(c.is_ascii_alphanumeric() || c == '_')).filter(|w| !w.is_empty())
}

fn expressions() -> Vec<String> {
    fn collect(value: &Json, into: &mut Vec<String>) {
        match value {
            Json::Object(map) => {
                for (key, inner) in map {
                    match inner {
                        Json::String(text) if key == "expr" || key == "query" => into.push(text.clone()),
                        _ => collect(inner, into),
                    }
                }
            }
            Json::Array(list) => list.iter().for_each(|inner| collect(inner, into)),
            _ => {}
        }
    }
    let mut all = Vec::new();
    collect(&serde_json::from_str(&file("chart/files/dashboard.json")).unwrap(), &mut all);
    let panels = all.len();
    collect(&serde_saphyr::from_str(&file("chart/files/alerts.yaml")).unwrap(), &mut all);
    assert!(panels > 15 && all.len() > panels + 5, "{panels} of {}", all.len());
    all
}

#[test]
fn the_dashboard_and_the_alerts_ask_for_metrics_that_are_exported() {
    let (names, _) = exported();
    let mut used = BTreeSet::new();
    for expression in expressions() {
        let asked: Vec<_> = words(&expression).filter(|w| w.starts_with("pre_oom_killer_")).collect();
        assert!(!asked.is_empty() || expression.contains("up{") || expression == "prometheus", "{expression}");
        for name in asked {
            assert!(names.contains_key(name), "no metric {name}, in {expression}");
            used.insert(name.to_owned());
        }
    }
    // And what is exported is shown: the dashboard leaves no metric out.
    let sum = |n: &&String| !["_bucket", "_sum", "_count"].iter().any(|end| n.ends_with(end));
    let unused: Vec<_> = names.keys().filter(sum).filter(|n| !used.contains(*n)).collect();
    assert!(unused.is_empty(), "on no panel and in no alert: {unused:?}");
}

#[test]
fn they_group_and_select_by_labels_that_are_exported() {
    let (names, values) = exported();
    // From the scrape, not from the program.
    let scraped = ["job", "node"];
    for expression in expressions() {
        let labels: BTreeSet<_> =
            words(&expression).filter_map(|w| names.get(w)).flatten().map(String::as_str).collect();
        for (part, rest) in expression.match_indices(" by (").map(|(at, by)| (&expression[at + by.len()..], by)) {
            let list = part.split(')').next().unwrap();
            for label in list.split(',').map(str::trim) {
                assert!(scraped.contains(&label) || labels.contains(label), "{rest}{label} in {expression}");
            }
        }
        for matcher in
            expression.split(['{', ',']).filter(|m| m.contains("=\"") || m.contains("~\"") || m.contains("!="))
        {
            let (label, value) = matcher.trim().split_once(['=', '!']).unwrap();
            if scraped.contains(&label) {
                continue;
            }
            assert!(labels.contains(label), "{label} in {expression}");
            let value = value.trim_start_matches(['=', '~', '"']).split('"').next().unwrap();
            for value in value.split('|') {
                assert!(values.contains(value), "{label} is never {value}, in {expression}");
            }
        }
    }
}

/// `check` says it, without a cluster.
#[test]
fn the_charts_threshold_for_namespaces_is_the_one_that_check_takes() {
    let values: Json = serde_saphyr::from_str(&file("chart/values.yaml")).unwrap();
    assert_eq!(values["namespaces"]["threshold"], pre_oom_killer::pods::guard::NAMESPACE_THRESHOLD);
    let policy = file("components/namespaces/policy.yaml");
    assert!(policy.contains(&format!("optional.of('{}')", pre_oom_killer::pods::guard::NAMESPACE_THRESHOLD)));
}
