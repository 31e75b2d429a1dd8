//! What will happen to the pods of a template, and what is wrong or risky about it.

use std::collections::BTreeMap;

use serde_json::json;

use super::finding::{Assessment, Code, Finding, Severity};
use super::limit_range::DefaultLimit;
use super::namespaces::Namespace;
use super::objects::Template;
use super::surroundings::Surroundings;
use super::template_check::TemplateCheck;
use super::tree::{Node, UNRENDERED};
use crate::ground::keys;
use crate::ground::keys::{ENABLED, LABEL, PREFIX};
use crate::pods::Pod;
use crate::pods::guard::{self, Guard, Problem, Reading, Remedy, Warning};

/// Checks a template among what surrounds it in the input.
#[must_use]
pub fn assess(template: &Template<'_>, surroundings: &Surroundings<'_>) -> Assessment {
    let decides = template.node.at(&["metadata", "labels", LABEL]).is_some();
    let namespace = surroundings.guarding(template).filter(|_| !decides);
    let default = surroundings.default_limit(template);
    let mut check = TemplateCheck { template, namespace, default, assessment: Assessment::default() };
    if !check.is_patch()
        && check.opted_in()
        && let Some((guard, pod)) = check.guard()
    {
        check.all_targets(&guard, &pod);
        check.target_name(&guard);
        let evicts = guard.remedies.contains(&Remedy::Evict);
        if evicts && check.assessment.targets.iter().any(|target| !target.never) {
            check.consequences(surroundings);
        }
    }
    check.assessment.findings.sort_by_key(|f| (f.severity, f.line));
    check.assessment
}

impl TemplateCheck<'_> {
    /// Reads the guard of a template that has opted in; none: it is invalid.
    fn guard(&mut self) -> Option<(Guard, Pod)> {
        if !self.texts_are_texts() {
            return None;
        }
        self.assessment.by_namespace = self.namespace.is_some();
        let pod = as_pod(self.template, self.namespace, self.default)?;
        let reading = guard::read(&pod)?;
        for warning in reading.warnings {
            match warning {
                Warning::UnknownKey { key, nearest } => {
                    let place = self.annotation(&key);
                    let text =
                        format!("there is no such annotation, and it has no effect: did you mean {PREFIX}{nearest}?");
                    self.error(Code::AnnotationKey, place, text);
                }
                // A namespace's own is reported there, once.
                Warning::Fraction { key, .. } if self.of_namespace(key).is_some() => {}
                Warning::Fraction { key, .. } => {
                    self.error(Code::ThresholdTiny, self.annotation(key), warning.to_string());
                }
                Warning::WithoutRaise { key } => {
                    let text = format!("it has no effect, because {PREFIX}{} does not have raise", keys::REMEDIES);
                    self.add_to_annotation(Severity::Warning, Code::NoEffect, key, text);
                }
            }
        }
        reading.guard.map_err(|problems| self.invalid(problems)).ok().map(|guard| (guard, pod))
    }

    fn invalid(&mut self, problems: Vec<Problem>) {
        // A namespace's own annotations are reported at the namespace, once. But only the pod says which containers there are.
        let of_namespace =
            |problem: &Problem| problem.key().filter(|key| *key != keys::TARGET).and_then(|key| self.of_namespace(key));
        let namespace = problems.iter().find_map(of_namespace).map(|(namespace, _)| namespace);
        let problems: Vec<_> = problems.into_iter().filter(|problem| of_namespace(problem).is_none()).collect();
        if let Some(namespace) = namespace {
            let place = (namespace.field("metadata.annotations"), namespace.object.node.line);
            let text = "the annotations of its namespace are invalid, so it is not guarded: correct them there";
            self.add_to(namespace.object, Severity::Error, Code::NamespaceInvalid, place, text);
        }
        for problem in problems {
            // Such a finding says that the key is there, but misspelt or in the wrong place.
            let mut found = self.assessment.findings.iter();
            let of_threshold = |f: &Finding| f.message.contains(keys::THRESHOLD) || f.field.contains(keys::THRESHOLD);
            let misplaced = found.any(|f| f.code != Code::OldKey && of_threshold(f));
            if problem == Problem::MissingThreshold && misplaced {
                continue;
            }
            let (code, text) = (Code::of(&problem), problem.to_string());
            match problem.key() {
                Some(key) => self.add_to_annotation(Severity::Error, code, key, text),
                None => self.error(code, self.place(&["spec"]), text),
            }
        }
    }

    fn all_targets(&mut self, guard: &Guard, pod: &Pod) {
        for name in &guard.containers {
            self.target(guard, pod, Some(name));
        }
        if guard.pod_group {
            self.target(guard, pod, None);
        }
    }

    /// The one container needs no name, until somebody injects another.
    fn target_name(&mut self, guard: &Guard) {
        let target = format!("{PREFIX}{}", keys::TARGET);
        if self.namespace.is_none() && self.template.node.at(&["metadata", "annotations", &target]).is_none() {
            let name = &guard.containers[0];
            let text = format!(
                "without it, a sidecar that is injected into the pod makes the guard invalid: write \"{name}\""
            );
            self.warn(Code::NoTarget, self.annotation(keys::TARGET), text);
        }
    }

    /// What would be wrong with an annotation if this were its text.
    fn problem_of(&self, key: &str, text: &str) -> Option<String> {
        let mut pod = as_pod(self.template, self.namespace, self.default)?;
        let key = key.strip_prefix(PREFIX)?;
        pod.annotations.insert(key.to_owned(), text.to_owned());
        let Reading { guard, warnings } = guard::read(&pod)?;
        let is_fraction = |warning: &&Warning| matches!(warning, Warning::Fraction { key: of, .. } if *of == key);
        let problems = guard.err().unwrap_or_default();
        let problem = problems.iter().find(|problem| problem.key() == Some(key)).map(Problem::to_string);
        problem.or_else(|| warnings.iter().find(is_fraction).map(Warning::to_string))
    }

    /// The API server takes nothing but text for a label or an annotation.
    fn texts_are_texts(&mut self) -> bool {
        let before = self.assessment.findings.len();
        for (key, node) in self.metadata("annotations").filter(|(key, _)| key.starts_with(PREFIX)) {
            let place = (self.template.field(&format!("metadata.annotations[{key}]")), node.line);
            match (node.text(), node.scalar()) {
                (Some(text), _) if text.contains("{{") => self.error(Code::Unrendered, place, UNRENDERED),
                (Some(_), _) => {}
                (None, Some(plain)) => {
                    let text = match self.problem_of(key, plain) {
                        Some(problem) => format!("the API server takes only text here, in quotes; and {problem}"),
                        None => format!("the API server takes only text here: write \"{plain}\", in quotes"),
                    };
                    self.error(Code::NotText, place, text);
                }
                (None, None) => {
                    self.error(Code::NotText, place, "the API server takes only text here: write a value in quotes")
                }
            }
        }
        self.assessment.findings.len() == before
    }
}

/// Limit and request of memory of a container, or of the pod.
fn memory(node: &Node, default: Option<DefaultLimit<'_>>) -> serde_json::Value {
    let amount = |list| node.at(&["resources", list, "memory"]).and_then(Node::scalar);
    let limit = amount("limits").or(default.map(|default| default.amount));
    json!({"limits": {"memory": limit}, "requests": {"memory": amount("requests")}})
}

fn resize_policy(container: &Node) -> Vec<serde_json::Value> {
    let policies = container.get("resizePolicy").map_or(&[][..], Node::items);
    let text = |policy: &Node, key| policy.get(key).and_then(Node::scalar).unwrap_or_default().to_owned();
    let texts = policies.iter().map(
        |policy| json!({"resourceName": text(policy, "resourceName"), "restartPolicy": text(policy, "restartPolicy")}),
    );
    texts.collect()
}

/// The part of the template that a guard is read from, as a pod.
fn as_pod(template: &Template<'_>, namespace: Option<Namespace<'_>>, default: Option<DefaultLimit<'_>>) -> Option<Pod> {
    let texts = template.node.at(&["metadata", "annotations"]).into_iter().flat_map(Node::entries);
    let mut annotations: BTreeMap<String, String> =
        texts.filter_map(|(key, node)| Some((key.strip_prefix(PREFIX)?.to_owned(), node.text()?.to_owned()))).collect();
    if let Some(namespace) = namespace {
        let containers = template.node.at(&["spec", "containers"]).map_or(&[][..], Node::items);
        let name = |c: &'_ Node| c.get("name").and_then(Node::scalar).unwrap_or_default().to_owned();
        let names: Vec<_> = containers.iter().map(name).collect();
        let names: Vec<_> = names.iter().map(String::as_str).collect();
        annotations.extend(namespace.stamp(&annotations, &names));
    }
    let annotations: serde_json::Map<_, _> =
        annotations.into_iter().map(|(key, value)| (format!("{PREFIX}{key}"), value.into())).collect();
    let containers = |list: &str| -> Vec<_> {
        let items = template.node.at(&["spec", list]).map_or(&[][..], Node::items);
        let texts = items.iter().map(|c| {
            let text = |key| c.get(key).and_then(Node::scalar);
            json!({"name": text("name").unwrap_or_default(), "restartPolicy": text("restartPolicy"),
                "resources": memory(c, default), "resizePolicy": resize_policy(c)})
        });
        texts.collect()
    };
    let pod = json!({
        "metadata": {"labels": {LABEL: ENABLED}, "annotations": annotations},
        "spec": {"containers": containers("containers"), "initContainers": containers("initContainers"),
            "restartPolicy": template.node.at(&["spec", "restartPolicy"]).and_then(Node::scalar),
            "resources": template.node.get("spec").map(|spec| memory(spec, None))},
    });
    Pod::from_json(&pod.to_string()).ok()
}
