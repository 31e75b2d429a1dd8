//! Namespaces that are guarded as a whole: which annotations the chart's policy (`policy-namespaces.yaml`) will write to their
//! pods, and what is wrong with their own.

use std::collections::BTreeMap;

use serde_json::json;

use super::finding::{Assessment, Code, Finding, Place, Severity};
use super::objects::{Object, Template};
use super::tree::Node;
use crate::ground::keys::{self, ENABLED, LABEL, OFF, PREFIX};
use crate::ground::text::nearest;
use crate::pods::Pod;
use crate::pods::guard::{self, NAMESPACE_THRESHOLD, Reading, Warning};

/// The policy leaves out these namespaces by name: the cluster's own, and the one where the plain manifests put the agent.
const EXCLUDED: [&str; 2] = [keys::SYSTEM, "pre-oom-killer"];

/// A Namespace of the input.
#[derive(Clone, Copy, Debug)]
pub struct Namespace<'a> {
    pub object: Object<'a>,
}

impl<'a> Namespace<'a> {
    /// The object as a Namespace, if it is one.
    #[must_use]
    pub fn of(object: Object<'a>) -> Option<Namespace<'a>> {
        (object.kind == "Namespace" && object.is_of("")).then_some(Namespace { object })
    }

    fn metadata(&self, list: &str) -> impl Iterator<Item = (&'a str, &'a Node)> + use<'a> {
        self.object.node.at(&["metadata", list]).into_iter().flat_map(Node::entries)
    }

    fn label(&self, key: &str) -> Option<&'a Node> {
        self.metadata("labels").find(|(own, _)| *own == key).map(|(_, node)| node)
    }

    fn is_excluded(&self) -> bool {
        EXCLUDED.contains(&self.object.name())
            || self.label(keys::AGENTS.0).and_then(Node::text) == Some(keys::AGENTS.1)
    }

    fn is_enabled(&self) -> bool {
        self.label(LABEL).and_then(Node::text) == Some(ENABLED)
    }

    fn annotations(&self) -> impl Iterator<Item = (&'a str, &'a Node)> + use<'a> {
        self.metadata("annotations").filter_map(|(key, node)| Some((key.strip_prefix(PREFIX)?, node)))
    }

    fn text(&self, key: &str) -> Option<&'a str> {
        self.annotations().find(|(own, _)| *own == key).and_then(|(_, node)| node.text())
    }

    /// Whether the policy annotates the pods of this template, which has no label of ours, when they are created.
    #[must_use]
    pub fn guards(&self, template: &Template<'_>) -> bool {
        let kind = match template.object.kind {
            // It exists already, or it is bare.
            "Pod" => false,
            "Job" | "CronJob" => self.text(keys::INCLUDE_JOBS) == Some("true"),
            _ => true,
        };
        kind && self.is_enabled() && !self.is_excluded() && template.object.namespace() == Some(self.object.name())
    }

    /// The annotations that a pod gets in addition to its own; keys without the prefix.
    #[must_use]
    pub fn stamp(&self, own: &BTreeMap<String, String>, containers: &[&str]) -> BTreeMap<String, String> {
        let mut stamp = BTreeMap::from([(keys::GUARDED_BY.to_owned(), keys::BY_NAMESPACE.to_owned())]);
        for key in keys::ALL.into_iter().filter(|key| !own.contains_key(*key)) {
            // The namespace's spread and warning are for thresholds that the pod did not choose.
            let fits = match key {
                keys::SPREAD | keys::WARN_THRESHOLD => !own.contains_key(keys::THRESHOLD),
                keys::WARN_URL => !own.contains_key(keys::THRESHOLD) || own.contains_key(keys::WARN_THRESHOLD),
                _ => true,
            };
            if !fits {
                continue;
            }
            let default = match (key, containers) {
                (keys::THRESHOLD, _) => Some(NAMESPACE_THRESHOLD),
                (keys::TARGET, [only]) => Some(*only),
                (keys::TARGET, _) => Some("*"),
                _ => None,
            };
            if let Some(value) = self.text(key).or(default) {
                stamp.insert(key.to_owned(), value.to_owned());
            }
        }
        stamp
    }

    /// Where one of its annotations is.
    #[must_use]
    pub fn place(&self, key: &str) -> Option<Place> {
        let (_, node) = self.annotations().find(|(own, _)| *own == key)?;
        Some((self.field(&format!("metadata.annotations[{PREFIX}{key}]")), node.line))
    }

    /// A field of it, as seen from another object.
    #[must_use]
    pub fn field(&self, field: &str) -> String {
        format!("{field} of Namespace/{}", self.object.name())
    }

    /// What is wrong with it, whatever pods it has.
    #[must_use]
    pub fn assess(&self) -> Assessment {
        let mut findings = Vec::new();
        findings.extend(self.wrong_label());
        findings.extend(self.annotations().filter_map(|(key, node)| self.wrong_annotation(key, node)));
        // A pod that gets all of the namespace's annotations, whatever its containers are.
        let mut stamp = self.stamp(&BTreeMap::from([(keys::TARGET.to_owned(), String::new())]), &[]);
        stamp.insert(keys::TARGET.to_owned(), "*".to_owned());
        let reading = reading_of(&stamp);
        for warning in reading.iter().flat_map(|reading| &reading.warnings) {
            if let Warning::Fraction { key, .. } = warning
                && let Some((key, node)) = self.annotations().find(|(own, _)| own == key)
            {
                findings.push(self.error(Code::ThresholdTiny, annotation(key, node), warning.to_string()));
            }
        }
        for problem in reading.and_then(|reading| reading.guard.err()).unwrap_or_default() {
            let own = problem.key().and_then(|key| self.annotations().find(|(own, _)| *own == key));
            if let Some((key, node)) = own {
                findings.push(self.error(Code::of(&problem), annotation(key, node), problem.to_string()));
            }
        }
        findings.sort_by_key(|finding| finding.line);
        Assessment { findings, ..Assessment::default() }
    }

    fn error(&self, code: Code, place: Place, message: impl Into<String>) -> Finding {
        Finding::new(self.object, Severity::Error, code, place, message)
    }

    fn wrong_label(&self) -> Option<Finding> {
        let label = self.label(LABEL);
        let value = label.and_then(Node::scalar).filter(|value| !self.is_enabled() && !OFF.contains(value));
        let place =
            || ("metadata.labels.pre-oom-killer".to_owned(), label.map_or(self.object.node.line, |node| node.line));
        if self.is_enabled() && self.is_excluded() {
            let text = "this namespace cannot be guarded as a whole: remove the label, and opt in its pods one by one";
            return Some(self.error(Code::NamespaceExcluded, place(), text));
        }
        if let Some(value) = value {
            let text = format!("\"{value}\" does not opt in its pods: write \"{ENABLED}\"");
            return Some(self.error(Code::LabelValue, place(), text));
        }
        let (key, node) = self.annotations().next().filter(|_| label.is_none())?;
        let text = format!("it has no effect without the label: write `{LABEL}: {ENABLED}` under metadata.labels");
        Some(self.error(Code::NoLabel, annotation(key, node), text))
    }

    fn wrong_annotation(&self, key: &str, node: &Node) -> Option<Finding> {
        let known: Vec<_> = keys::ALL.into_iter().chain([keys::INCLUDE_JOBS]).collect();
        let (code, text) = if !known.contains(&key) {
            let nearest = nearest(key, &known);
            let text = format!("there is no such annotation, and it has no effect: did you mean {PREFIX}{nearest}?");
            (Code::AnnotationKey, text)
        } else if node.text().is_none() {
            let plain = node.scalar().unwrap_or_default();
            let text = match self.problem_of(key, plain) {
                Some(problem) => format!("the API server takes only text here, in quotes; and {problem}"),
                None => format!("the API server takes only text here: write \"{plain}\", in quotes"),
            };
            (Code::NotText, text)
        } else if key == keys::INCLUDE_JOBS && !["true", "false"].contains(&node.text().unwrap_or_default()) {
            (Code::ValueInvalid, "write \"true\" or \"false\"".to_owned())
        } else {
            return None;
        };
        Some(self.error(code, annotation(key, node), text))
    }

    /// What would be wrong with an annotation if this were its text.
    fn problem_of(&self, key: &str, text: &str) -> Option<String> {
        let mut stamp = self.stamp(&BTreeMap::new(), &[]);
        stamp.insert(key.to_owned(), text.to_owned());
        let problems = reading_of(&stamp)?.guard.err()?;
        problems.iter().find(|problem| problem.key() == Some(key)).map(guard::Problem::to_string)
    }
}

fn annotation(key: &str, node: &Node) -> Place {
    (format!("metadata.annotations[{PREFIX}{key}]"), node.line)
}

fn reading_of(annotations: &BTreeMap<String, String>) -> Option<Reading> {
    let annotations: serde_json::Map<_, _> =
        annotations.iter().map(|(key, value)| (format!("{PREFIX}{key}"), json!(value))).collect();
    let pod = json!({
        "metadata": {"labels": {LABEL: ENABLED}, "annotations": annotations},
        "spec": {"containers": [{"name": "app"}]},
    });
    Pod::from_json(&pod.to_string()).ok().as_ref().and_then(guard::read)
}
