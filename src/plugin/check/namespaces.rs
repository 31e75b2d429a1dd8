//! Namespaces that are guarded as a whole: what the policy of the chart (`policy-namespaces.yaml`) will stamp on their pods,
//! and what is wrong with what they say.

use std::collections::BTreeMap;

use serde_json::json;

use super::finding::{Assessment, Code, Finding, Place, Severity};
use super::objects::{Object, Template};
use super::tree::Node;
use crate::ground::keys;
use crate::ground::keys::{ENABLED, LABEL, OFF, PREFIX};
use crate::ground::text::nearest;
use crate::pods::Pod;
use crate::pods::guard::{self, NAMESPACE_THRESHOLD};

/// The policy leaves these out by name: the cluster's own, and where the plain manifests put the agent.
const EXCLUDED: [&str; 2] = ["kube-system", "pre-oom-killer"];
/// And the agent's own wherever it is, by a label.
const AGENTS: (&str, &str) = ("app.kubernetes.io/name", "pre-oom-killer");

/// A Namespace of the input.
#[derive(Clone, Copy, Debug)]
pub struct Namespace<'a> {
    /// The object.
    pub object: Object<'a>,
}

impl<'a> Namespace<'a> {
    /// Takes an object for what it is.
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
        EXCLUDED.contains(&self.object.name()) || self.label(AGENTS.0).and_then(Node::text) == Some(AGENTS.1)
    }

    fn is_enabled(&self) -> bool {
        self.label(LABEL).and_then(Node::text) == Some(ENABLED)
    }

    /// Ours, without their prefix.
    fn annotations(&self) -> impl Iterator<Item = (&'a str, &'a Node)> + use<'a> {
        self.metadata("annotations").filter_map(|(key, node)| Some((key.strip_prefix(PREFIX)?, node)))
    }

    fn text(&self, key: &str) -> Option<&'a str> {
        self.annotations().find(|(own, _)| *own == key).and_then(|(_, node)| node.text())
    }

    /// Whether pods of this template, which has no label of ours, are stamped as they are made.
    #[must_use]
    pub fn guards(&self, template: &Template<'_>) -> bool {
        let kind = match template.object.kind {
            // It is there already; or it is bare.
            "Pod" => false,
            "Job" | "CronJob" => self.text(keys::INCLUDE_JOBS) == Some("true"),
            _ => true,
        };
        kind && self.is_enabled() && !self.is_excluded() && template.object.namespace() == Some(self.object.name())
    }

    /// Beside the pod's own annotations (keys without the prefix), what it gets.
    #[must_use]
    pub fn stamp(&self, own: &BTreeMap<String, String>, containers: &[&str]) -> BTreeMap<String, String> {
        let mut stamp = BTreeMap::from([(keys::GUARDED_BY.to_owned(), keys::BY_NAMESPACE.to_owned())]);
        for key in keys::ALL.into_iter().filter(|key| !own.contains_key(*key)) {
            // The namespace's spread is for thresholds that the pod did not choose.
            if key == keys::SPREAD && own.contains_key(keys::THRESHOLD) {
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
        let mut assessment = Assessment::default();
        let mut error = |code: Code, place: Place, message: String| {
            assessment.findings.push(Finding::new(self.object, Severity::Error, code, place, message));
        };
        let label = self.label(LABEL);
        let value = label.and_then(Node::scalar);
        let label_place =
            || ("metadata.labels.pre-oom-killer".to_owned(), label.map_or(self.object.node.line, |n| n.line));
        let annotation = |key: &str, node: &Node| (format!("metadata.annotations[{PREFIX}{key}]"), node.line);
        if self.is_enabled() && self.is_excluded() {
            let text = "this namespace cannot be guarded as a whole: remove the label, and opt in its pods one by one";
            error(Code::NamespaceExcluded, label_place(), text.to_owned());
        } else if value.is_some_and(|value| !self.is_enabled() && !OFF.contains(&value)) {
            let value = value.unwrap_or_default();
            error(
                Code::LabelValue,
                label_place(),
                format!("\"{value}\" does not opt in its pods: write \"{ENABLED}\""),
            );
        } else if let (None, Some((key, node))) = (label, self.annotations().next()) {
            let text = format!("it has no effect without the label: write `{LABEL}: {ENABLED}` under metadata.labels");
            error(Code::NoLabel, annotation(key, node), text);
        }
        for (key, node) in self.annotations() {
            let known = || keys::ALL.into_iter().chain([keys::INCLUDE_JOBS]);
            if !known().any(|own| own == key) {
                let nearest = nearest(key, &known().collect::<Vec<_>>());
                let text =
                    format!("there is no such annotation, and it has no effect: did you mean {PREFIX}{nearest}?");
                error(Code::AnnotationKey, annotation(key, node), text);
            } else if node.text().is_none() {
                error(
                    Code::NotText,
                    annotation(key, node),
                    "the API server takes only text here: write it in quotes".into(),
                );
            } else if key == keys::INCLUDE_JOBS && !["true", "false"].contains(&node.text().unwrap_or_default()) {
                error(Code::ValueInvalid, annotation(key, node), "write \"true\" or \"false\"".into());
            }
        }
        // A pod that takes all of it; which containers there are, only a real one says.
        let mut stamp = self.stamp(&BTreeMap::from([(keys::TARGET.to_owned(), String::new())]), &[]);
        stamp.insert(keys::TARGET.to_owned(), "*".to_owned());
        for problem in problems(&stamp) {
            let place = problem.key().and_then(|key| self.annotations().find(|(own, _)| *own == key));
            if let Some((key, node)) = place {
                error(Code::of(&problem), annotation(key, node), problem.to_string());
            }
        }
        assessment.findings.sort_by_key(|finding| finding.line);
        assessment
    }
}

fn problems(annotations: &BTreeMap<String, String>) -> Vec<guard::Problem> {
    let annotations: serde_json::Map<_, _> =
        annotations.iter().map(|(key, value)| (format!("{PREFIX}{key}"), json!(value))).collect();
    let pod = json!({
        "metadata": {"labels": {LABEL: ENABLED}, "annotations": annotations},
        "spec": {"containers": [{"name": "app"}]},
    });
    let reading = Pod::from_json(&pod.to_string()).ok().as_ref().and_then(guard::read);
    reading.and_then(|reading| reading.guard.err()).unwrap_or_default()
}
