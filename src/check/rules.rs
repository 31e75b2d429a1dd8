//! What will happen to the pods of a template, and what is wrong or risky about it.

use std::fmt::Write;

use serde_json::json;

use super::objects::{Budget, Template};
use super::tree::{Node, UNRENDERED};
use crate::guard::{self, DryRun, ENABLED, Guard, LABEL, PREFIX, Problem, Threshold, Warning, keys, near};
use crate::pods::Pod;
use crate::policy::{LONGEST_LOOK, fastest_saved};
use crate::sampler::EVICTION_TAKES;
use crate::units::{Bytes, parse_memory};

/// What one template comes to.
#[derive(Debug, Default)]
pub struct Judgement {
    /// One for each guarded container, and for the pod's own group where it is guarded too.
    pub targets: Vec<Outcome>,
    /// What is wrong or risky.
    pub findings: Vec<Finding>,
}

/// What will happen to one target.
#[derive(Clone, Debug, PartialEq, Eq, serde::Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Outcome {
    /// None: the pod's own group.
    pub container: Option<String>,
    /// In words, without the container's name.
    pub text: String,
    /// The signal that is compared.
    pub signal: &'static str,
    /// The threshold in bytes; null: a percentage of no limit.
    pub threshold: Option<Bytes>,
    /// The limit that it is below; null: none is written.
    pub limit: Option<Bytes>,
    /// The fastest growth, in bytes a second, that is still caught; null: no limit, or never evicted.
    pub fastest_growth: Option<u64>,
    /// The threshold cannot be crossed: see the findings.
    pub never: bool,
}

/// How bad it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, serde::Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Level {
    /// It does not do what was meant.
    Error,
    /// It may not.
    Warning,
}

/// Something that is wrong or risky.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Finding {
    /// How bad.
    pub level: Level,
    /// Names the kind of finding, for programs.
    pub code: &'static str,
    /// The file, which for a disruption budget may be another one than the template's.
    pub file: String,
    /// The field, as a path in the object.
    pub field: String,
    /// The field's line, or that of what it is missing in.
    pub line: u64,
    /// What is wrong, and what to write instead.
    pub message: String,
}

/// Values of the label that say in so many words that there is no guard.
const OFF: [&str; 5] = ["", "disabled", "false", "no", "off"];

/// Judges a template, in the company of the input's disruption budgets.
#[must_use]
pub fn judge(template: &Template<'_>, budgets: &[Budget<'_>]) -> Judgement {
    let mut judge = Judge { template, said: Judgement::default() };
    if judge.opted_in() {
        judge.guard(budgets);
    }
    judge.said.findings.sort_by_key(|f| (f.level, f.line));
    judge.said
}

struct Judge<'a> {
    template: &'a Template<'a>,
    said: Judgement,
}

impl<'a> Judge<'a> {
    fn find(&mut self, level: Level, code: &'static str, (field, line): (String, u64), message: impl Into<String>) {
        let file = self.template.object.file.to_owned();
        self.said.findings.push(Finding { level, code, file, field, line, message: message.into() });
    }

    fn error(&mut self, code: &'static str, place: (String, u64), message: impl Into<String>) {
        self.find(Level::Error, code, place, message);
    }

    fn warn(&mut self, code: &'static str, place: (String, u64), message: impl Into<String>) {
        self.find(Level::Warning, code, place, message);
    }

    /// A field of the template, and the line of the deepest part of it that is there.
    fn place(&self, path: &[&str]) -> (String, u64) {
        let mut node = self.template.node;
        for key in path {
            match node.get(key) {
                Some(next) => node = next,
                None => break,
            }
        }
        let line = if path.is_empty() { self.template.line() } else { node.line };
        (self.template.field(&path.join(".")), line)
    }

    fn annotation(&self, key: &str) -> (String, u64) {
        let full = format!("{PREFIX}{key}");
        let (field, line) = self.place(&["metadata", "annotations", &full]);
        (field.replace(&format!(".{full}"), &format!("[{full}]")), line)
    }

    fn metadata(&self, key: &str) -> impl Iterator<Item = (&'a str, &'a Node)> + use<'a> {
        self.template.node.at(&["metadata", key]).into_iter().flat_map(Node::entries)
    }

    /// Whether the template has the label; tells of all near misses.
    fn opted_in(&mut self) -> bool {
        self.misplaced();
        let ours = |key: &str| key.starts_with(PREFIX);
        let annotated = self.metadata("annotations").find(|(key, _)| ours(key));
        let label = self.metadata("labels").find(|(key, _)| *key == LABEL).map(|(_, node)| node);
        if let Some(node) = label {
            let place = self.place(&["metadata", "labels", LABEL]);
            let value = node.scalar().unwrap_or_default();
            if value == ENABLED && node.text().is_some() {
                return true;
            }
            if value.contains("{{") {
                self.error("unrendered", place, UNRENDERED);
            } else if !OFF.contains(&value) {
                let text = format!("\"{value}\" does not opt in, so nothing is guarded: write \"{ENABLED}\"");
                self.error("label-value", place, text);
            }
            return false;
        }
        let typo = self.metadata("labels").find(|(key, _)| is_near_label(key));
        if let Some((key, _)) = typo {
            let (_, line) = self.place(&["metadata", "labels", key]);
            let field = self.template.field(&format!("metadata.labels.{key}"));
            let text = format!(
                "there is no label {key}, so nothing is guarded: did you mean {LABEL}? Write `{LABEL}: {ENABLED}`"
            );
            self.error("label-key", (field, line), text);
            return false;
        }
        let of = |node: &'a Node, list: &str| node.get(list).into_iter().flat_map(Node::entries);
        let on_owner = self.template.above().find_map(|(shown, metadata)| {
            let found = of(metadata, "labels").find(|(key, node)| *key == LABEL && node.scalar() == Some(ENABLED));
            found.map(|(_, node)| (format!("{shown}.labels.{LABEL}"), node.line))
        });
        if let Some(place) = on_owner {
            let here = self.template.field("metadata.labels");
            let kind = self.template.object.kind;
            let text = format!(
                "the label is on the {kind}, not on its pods, so nothing is guarded: write it under {here}, too"
            );
            self.error("label-on-owner", place, text);
        } else if let Some((key, node)) = annotated {
            let field = self.template.field(&format!("metadata.annotations[{key}]"));
            let here = self.template.field("metadata.labels");
            let text = format!("without the label it has no effect: write `{LABEL}: {ENABLED}` under {here}");
            self.error("no-label", (field, node.line), text);
        }
        false
    }

    /// Keys in the wrong place, or nearly right.
    fn misplaced(&mut self) {
        for (key, node) in self.metadata("labels").filter(|(key, _)| key.starts_with(PREFIX)) {
            let field = self.template.field(&format!("metadata.labels[{key}]"));
            let here = self.template.field("metadata.annotations");
            self.error(
                "key-place",
                (field, node.line),
                format!("it is an annotation, not a label: write it under {here}"),
            );
        }
        for (key, node) in self.metadata("annotations") {
            let field = self.template.field(&format!("metadata.annotations[{key}]"));
            if key == LABEL {
                let here = self.template.field("metadata.labels");
                let text = format!("it is a label, not an annotation: write `{LABEL}: {ENABLED}` under {here}");
                self.error("key-place", (field, node.line), text);
            } else if let Some(meant) = is_near_annotation(key) {
                let text = format!("there is no such annotation, and it has no effect: did you mean {PREFIX}{meant}?");
                self.error("annotation-key", (field, node.line), text);
            }
        }
        let has_own = self.metadata("annotations").any(|(key, _)| key.starts_with(PREFIX));
        let above: Vec<_> = self.template.above().collect();
        for (shown, metadata) in above {
            let keys = metadata.get("annotations").into_iter().flat_map(Node::entries);
            let strays: Vec<_> = keys.filter(|(key, _)| key.starts_with(PREFIX) && !has_own).collect();
            for (key, node) in strays {
                let (kind, here) = (self.template.object.kind, self.template.field("metadata.annotations"));
                let text = format!("it is on the {kind}, not on its pods, and has no effect: write it under {here}");
                self.error("annotation-on-owner", (format!("{shown}.annotations[{key}]"), node.line), text);
            }
        }
    }

    /// The template has opted in: what is its guard worth?
    fn guard(&mut self, budgets: &[Budget<'_>]) {
        if !self.texts_are_texts() {
            return;
        }
        let Some(reading) = as_pod(self.template).as_ref().and_then(guard::read) else { return };
        for warning in reading.warnings {
            let Warning::UnknownKey { key, nearest } = warning;
            let place = self.annotation(&key);
            let text = format!("there is no such annotation, and it has no effect: did you mean {PREFIX}{nearest}?");
            self.error("annotation-key", place, text);
        }
        let guard = match reading.guard {
            Ok(guard) => guard,
            Err(problems) => {
                for problem in problems {
                    // A key that is nearly right, or in the wrong place, was told already.
                    let told = self
                        .said
                        .findings
                        .iter()
                        .any(|f| f.message.contains(keys::THRESHOLD) || f.field.contains(keys::THRESHOLD));
                    if problem == Problem::MissingThreshold && told {
                        continue;
                    }
                    let place = problem.key().map_or_else(|| self.place(&["spec"]), |key| self.annotation(key));
                    let text = problem.to_string();
                    self.error(code(&problem), place, text);
                }
                return;
            }
        };
        for name in guard.containers.clone() {
            self.target(&guard, Some(&name));
        }
        if guard.pod_group {
            self.target(&guard, None);
        }
        if self.template.node.at(&["metadata", "annotations", &format!("{PREFIX}{}", keys::TARGET)]).is_none() {
            let name = &guard.containers[0];
            let text = format!(
                "without it, a sidecar that is injected into the pod makes the guard invalid: write \"{name}\""
            );
            self.warn("no-target", self.annotation(keys::TARGET), text);
        }
        if self.said.targets.iter().any(|target| !target.never) {
            self.company(budgets);
        }
    }

    /// The API server takes nothing but text for a label or an annotation.
    fn texts_are_texts(&mut self) -> bool {
        let before = self.said.findings.len();
        for (key, node) in self.metadata("annotations").filter(|(key, _)| key.starts_with(PREFIX)) {
            let place = (self.template.field(&format!("metadata.annotations[{key}]")), node.line);
            match (node.text(), node.scalar()) {
                (Some(text), _) if text.contains("{{") => self.error("unrendered", place, UNRENDERED),
                (Some(_), _) => {}
                (None, Some(plain)) => {
                    self.error(
                        "not-text",
                        place,
                        format!("the API server takes only text here: write \"{plain}\", in quotes"),
                    );
                }
                (None, None) => {
                    self.error("not-text", place, "the API server takes only text here: write a value in quotes")
                }
            }
        }
        self.said.findings.len() == before
    }

    fn target(&mut self, guard: &Guard, name: Option<&str>) {
        let memory = Memory::of(self.template, name);
        let shown = name.map_or_else(|| "the pod's own cgroup".to_owned(), |n| format!("container \"{n}\""));
        let readable = memory.limit.is_ok();
        let limit = match memory.limit {
            Ok(limit) => limit,
            Err((text, index)) => {
                let place = self.container_field(name, index, "limits");
                let text = format!("\"{text}\" is no amount of memory: write a quantity such as \"512Mi\"");
                // To a percentage it is as good as none.
                let percent = matches!(guard.rule.threshold, Threshold::Percent(_));
                self.find(if percent { Level::Error } else { Level::Warning }, "limit-unreadable", place, text);
                None
            }
        };
        if let Some(tiny) = limit.filter(|l| *l < guard::MIN_QUANTITY) {
            let place = self.container_field(name, memory.index, "limits");
            self.warn(
                "limit-tiny",
                place,
                format!("it is {tiny} in bytes, less than 1Mi: is the unit right? Write a quantity such as \"512Mi\""),
            );
        }
        let threshold = match guard.rule.threshold {
            Threshold::Percent(percent) => limit.map(|limit| percent.of(limit)),
            Threshold::Quantity(bytes) => Some(bytes),
        };
        let signal = guard.rule.signal.as_str();
        let mut outcome = Outcome {
            container: name.map(str::to_owned),
            text: String::new(),
            signal,
            threshold,
            limit,
            fastest_growth: None,
            never: false,
        };
        match (threshold, limit) {
            (None, _) => {
                outcome.never = true;
                outcome.text = format!("never evicted: {} of no limit", guard.rule.threshold);
                if name.is_some() && readable {
                    let place = self.container_field(name, memory.index, "limits");
                    let text = format!(
                        "{shown} has no memory limit to take {} of, so it is never evicted: write resources.limits.memory, \
                         or a threshold such as \"512Mi\"",
                        guard.rule.threshold
                    );
                    self.error("no-limit", place, text);
                }
            }
            (Some(threshold), Some(limit)) if threshold >= limit => {
                outcome.never = true;
                outcome.text = format!("never evicted: {threshold} is not below its limit of {limit}");
                let text = format!(
                    "{threshold} is not below the limit of {shown} ({limit}), so it could never act: write less"
                );
                self.error("beyond-limit", self.annotation(keys::THRESHOLD), text);
            }
            (Some(threshold), limit) => {
                let rate = limit.map(|limit| fastest_saved(limit.less(threshold), EVICTION_TAKES));
                outcome.fastest_growth = rate;
                outcome.text = words(guard, threshold, limit, rate);
                if let (Some(limit), Some(rate)) = (limit, rate) {
                    self.headroom(&shown, threshold, limit, rate);
                } else if readable {
                    let place = self.container_field(name, memory.index, "limits");
                    let text = format!(
                        "{shown} has no memory limit: nothing but the node's memory bounds it; write resources.limits.memory"
                    );
                    self.warn("no-limit", place, text);
                }
                if let (Some(request), Some(limit)) = (memory.request, limit)
                    && threshold < request
                    && request < limit
                {
                    let text = format!(
                        "{threshold} is below what {shown} requests ({request}): it may be evicted while it uses no more than that; \
                         write more, or request less"
                    );
                    self.warn("below-request", self.annotation(keys::THRESHOLD), text);
                }
            }
        }
        self.said.targets.push(outcome);
    }

    /// A container that fills its limit within the longest time between two looks is to be caught, whatever its size.
    fn headroom(&mut self, shown: &str, threshold: Bytes, limit: Bytes, rate: u64) {
        let within_a_look = u128::from(limit.0) * 1_000_000_000 / LONGEST_LOOK.as_nanos();
        let fastest_there_is = fastest_saved(Bytes(u64::MAX), EVICTION_TAKES);
        if rate < fastest_there_is && u128::from(rate) < within_a_look {
            let text = format!(
                "{shown} has {} from {threshold} to its limit of {limit}: only growth below {}/s can be caught (an eviction takes \
                 about {} ms); write less",
                limit.less(threshold),
                Bytes(rate),
                EVICTION_TAKES.as_millis()
            );
            self.warn("near-limit", self.annotation(keys::THRESHOLD), text);
        }
    }

    fn container_field(&self, name: Option<&str>, index: Option<(&'static str, usize)>, list: &str) -> (String, u64) {
        let Some((kind, index)) = index.filter(|_| name.is_some()) else {
            return self.place(&["spec", "resources", list, "memory"]);
        };
        let line = self.template.node.at(&["spec", kind]).and_then(|l| l.items().get(index)).map_or(0, |container| {
            let resources = container.get("resources");
            let memory = container.at(&["resources", list, "memory"]);
            memory.or(resources).unwrap_or(container).line
        });
        (self.template.field(&format!("spec.{kind}[{index}].resources.{list}.memory")), line)
    }

    /// What an eviction means for the others: budgets, replicas, the owner.
    fn company(&mut self, budgets: &[Budget<'_>]) {
        let object = self.template.object;
        let ours: Vec<_> = budgets.iter().filter(|b| b.selects(self.template)).collect();
        for budget in &ours {
            if let Some((field, why)) = budget.never_allows(self.template) {
                let name = budget.object.name();
                let line = budget.object.node.at(&["spec", field]).map_or(budget.object.node.line, |n| n.line);
                let place = (format!("spec.{field} of PodDisruptionBudget/{name}"), line);
                let text = format!("it can never allow an eviction of {}/{}: {why}", object.kind, object.name());
                self.warn("pdb-blocks", place, text);
                if let Some(last) = self.said.findings.last_mut() {
                    budget.object.file.clone_into(&mut last.file);
                }
            }
        }
        if ours.len() > 1 {
            let names: Vec<_> = ours.iter().map(|b| b.object.name()).collect();
            let text = format!(
                "several budgets select its pods ({}), and then every eviction fails: leave one",
                names.join(", ")
            );
            self.warn("pdb-several", self.place(&["metadata", "labels"]), text);
        }
        let replicas =
            (self.template.object.node.at(&["spec", "replicas"]).or(object.node.get("spec"))).map_or(0, |n| n.line);
        let replicas_place = || ("spec.replicas".to_owned(), replicas);
        match self.template.replicas() {
            Some(1) if ours.is_empty() && !self.template.surges() => {
                let text =
                    "an eviction leaves none until the next pod is ready: write 2 or more, with a PodDisruptionBudget";
                self.warn("one-replica", replicas_place(), text);
            }
            Some(2..) if ours.is_empty() => {
                let text = "no PodDisruptionBudget in the input selects its pods, so all of them could be evicted at once: \
                            write one, with maxUnavailable 1";
                self.warn("no-pdb", replicas_place(), text);
            }
            _ => {}
        }
        match object.kind {
            "Pod" if object.node.at(&["metadata", "ownerReferences"]).is_none_or(|o| o.items().is_empty()) => {
                let text = "nobody starts a bare pod again once it is evicted: write a Deployment, StatefulSet or Job";
                self.warn(
                    "bare-pod",
                    ("kind".into(), object.node.get("kind").map_or(object.node.line, |n| n.line)),
                    text,
                );
            }
            "Job" | "CronJob" if self.never_restarts() && !self.forgives_disruption() => {
                let text = "each eviction counts as a failure against backoffLimit: write OnFailure, or a podFailurePolicy \
                            that ignores the condition DisruptionTarget";
                self.warn("job-never-restarts", self.place(&["spec", "restartPolicy"]), text);
            }
            _ => {}
        }
    }

    fn never_restarts(&self) -> bool {
        self.template.node.at(&["spec", "restartPolicy"]).and_then(Node::scalar) == Some("Never")
    }

    fn forgives_disruption(&self) -> bool {
        let spec: &[&str] =
            if self.template.object.kind == "Job" { &["spec"] } else { &["spec", "jobTemplate", "spec"] };
        let rules = self.template.object.node.at(spec).and_then(|s| s.at(&["podFailurePolicy", "rules"]));
        rules.map_or(&[][..], Node::items).iter().any(|rule| {
            let conditions = rule.get("onPodConditions").map_or(&[][..], Node::items);
            rule.get("action").and_then(Node::scalar) == Some("Ignore")
                && conditions.iter().any(|c| c.get("type").and_then(Node::scalar) == Some("DisruptionTarget"))
        })
    }
}

/// "evicted above 60 % of 256Mi = 153.6Mi of working set, …".
fn words(guard: &Guard, threshold: Bytes, limit: Option<Bytes>, rate: Option<u64>) -> String {
    let signal = guard.rule.signal.as_str().replace('-', " ");
    let verb = match guard.dry_run {
        DryRun::Off => "evicted",
        DryRun::Server | DryRun::Client => "only a dry run of an eviction",
    };
    let mut text = match (guard.rule.threshold, limit) {
        (Threshold::Percent(percent), Some(limit)) => {
            format!("{verb} above {percent} of {limit} = {threshold} of {signal}")
        }
        (_, Some(limit)) => format!("{verb} above {threshold} of {signal}, of {limit}"),
        (_, None) => format!("{verb} above {threshold} of {signal}, of no limit"),
    };
    // Writing to a String cannot fail.
    if !guard.rule.sustained_for.is_zero() {
        let _ = write!(text, " for {}", seconds(guard.rule.sustained_for));
    }
    if let Some(percent) = guard.rule.force_delete {
        let _ = write!(text, "; past {percent} deleted if a budget blocks that");
    }
    if let Some(rate) = rate {
        let _ = write!(text, "; in time up to {}/s", Bytes(rate));
    }
    text
}

fn seconds(duration: std::time::Duration) -> String {
    match duration.subsec_millis() {
        0 => format!("{} s", duration.as_secs()),
        _ => format!("{:.1} s", duration.as_secs_f64()),
    }
}

fn code(problem: &Problem) -> &'static str {
    match problem {
        Problem::MissingThreshold => "no-threshold",
        Problem::BadPercent { .. } | Problem::BadQuantity { .. } | Problem::TinyQuantity { .. } => "threshold-invalid",
        Problem::BadTarget { .. } => "target-invalid",
        Problem::NoSuchContainer { .. } | Problem::InitContainer { .. } => "target-unknown",
        Problem::Ambiguous { .. } => "target-missing",
        Problem::BadValue { .. } => "value-invalid",
        Problem::Unreadable(_) => "unreadable",
    }
}

/// A label's key that was meant to be ours.
fn is_near_label(key: &str) -> bool {
    let own = key.split_once('/').is_none_or(|(domain, _)| PREFIX.starts_with(domain) || domain == LABEL);
    let name = key.rsplit('/').next().unwrap_or_default().to_ascii_lowercase().replace(['_', '.'], "-");
    own && near(&name, [LABEL]).is_some()
}

/// The name of an annotation whose key was meant to be one of ours, though its prefix is not ours.
fn is_near_annotation(key: &str) -> Option<&str> {
    if key.starts_with(PREFIX) {
        return None; // the guard itself tells of these
    }
    let (domain, name) = key.rsplit_once('/').unwrap_or(("", key));
    let meant = near(name, keys::ALL)?;
    let own_prefix = PREFIX.trim_end_matches('/');
    let distinct = [keys::TARGET, keys::THRESHOLD].contains(&name);
    let ours = near(domain, [own_prefix, LABEL]).is_some() || domain.contains(LABEL) || (domain.is_empty() && distinct);
    ours.then_some(meant)
}

/// The part of the template that a guard is read from, as a pod.
fn as_pod(template: &Template<'_>) -> Option<Pod> {
    let texts = template.node.at(&["metadata", "annotations"]).into_iter().flat_map(Node::entries);
    let annotations: serde_json::Map<_, _> = texts
        .filter(|(key, _)| key.starts_with(PREFIX))
        .filter_map(|(key, node)| Some((key.to_owned(), node.text()?.into())))
        .collect();
    let containers = |list: &str| -> Vec<_> {
        let items = template.node.at(&["spec", list]).map_or(&[][..], Node::items);
        let texts = items.iter().map(|c| {
            let text = |key| c.get(key).and_then(Node::scalar);
            json!({"name": text("name").unwrap_or_default(), "restartPolicy": text("restartPolicy")})
        });
        texts.collect()
    };
    let pod = json!({
        "metadata": {"labels": {LABEL: ENABLED}, "annotations": annotations},
        "spec": {"containers": containers("containers"), "initContainers": containers("initContainers")},
    });
    Pod::from_json(&pod.to_string()).ok()
}

/// What a target may use, as the template has it.
struct Memory<'a> {
    /// Or a text that is no amount, and whose.
    limit: Result<Option<Bytes>, (&'a str, Option<(&'static str, usize)>)>,
    request: Option<Bytes>,
    index: Option<(&'static str, usize)>,
}

/// The lists that a container can be guarded in.
const LISTS: [&str; 2] = ["containers", "initContainers"];

impl<'a> Memory<'a> {
    fn of(template: &'a Template<'a>, name: Option<&str>) -> Memory<'a> {
        let spec = template.node.get("spec");
        let amount = |node: &'a Node, list: &str| node.at(&["resources", list, "memory"]).and_then(Node::scalar);
        let read = |text: &'a str, index| parse_memory(text).map(Some).map_err(|_| (text, index));
        let pods = spec.and_then(|s| amount(s, "limits"));
        let all = LISTS.into_iter().flat_map(|list| {
            let items = spec.and_then(|s| s.get(list)).map_or(&[][..], Node::items);
            items.iter().enumerate().map(move |(index, node)| ((list, index), node))
        });
        let Some(name) = name else {
            let sum = || group_limit(all.clone().map(|((list, _), node)| (list, node)), amount);
            return Memory {
                limit: pods.map_or_else(|| Ok(sum()), |text| read(text, None)),
                request: None,
                index: None,
            };
        };
        let found = all.clone().find(|(_, node)| node.get("name").and_then(Node::scalar) == Some(name));
        let index = found.map(|(index, _)| index);
        let own = found.and_then(|(_, node)| amount(node, "limits"));
        let limit = match own.or(pods) {
            Some(text) => read(text, index.filter(|_| own.is_some())),
            None => Ok(None),
        };
        let request = found.and_then(|(_, node)| amount(node, "requests")).and_then(|text| parse_memory(text).ok());
        Memory { limit, request, index }
    }
}

/// The limit that the kubelet gives the pod's own cgroup: what its containers may use together, if all have a limit.
fn group_limit<'a>(
    all: impl Iterator<Item = (&'static str, &'a Node)>,
    amount: impl Fn(&'a Node, &str) -> Option<&'a str>,
) -> Option<Bytes> {
    let (mut together, mut alone) = (Bytes(0), Bytes(0));
    for (list, node) in all {
        let limit = parse_memory(amount(node, "limits")?).ok()?;
        let sidecar = node.get("restartPolicy").and_then(Node::scalar) == Some("Always");
        if list == "containers" || sidecar { together = together.plus(limit) } else { alone = alone.max(limit) }
    }
    Some(together.max(alone))
}
