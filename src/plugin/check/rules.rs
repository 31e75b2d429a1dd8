//! What will happen to the pods of a template, and what is wrong or risky about it.
//!
//! Whether it has opted in: `opt_in`; what becomes of each container: `target`; what an eviction means for the others:
//! `company`.

use std::collections::BTreeMap;

use serde_json::json;

use super::company::Company;
use super::namespaces::Space;
use super::objects::{Object, Template};
use super::tree::{Node, UNRENDERED};
use crate::ground::keys;
use crate::ground::keys::{ENABLED, LABEL, PREFIX};
use crate::ground::units::Bytes;
use crate::pods::Pod;
use crate::pods::guard::{self, Problem, Warning};

/// What one template comes to.
#[derive(Debug, Default)]
pub struct Judgement {
    /// Its namespace's label has opted it in.
    pub by_namespace: bool,
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
    /// Which document of it, from 1.
    pub document: usize,
    /// The field, as a path in the object.
    pub field: String,
    /// The field's line, or that of what it is missing in.
    pub line: u64,
    /// What is wrong, and what to write instead.
    pub message: String,
}

/// Judges a template, in the company of what else is in the input.
#[must_use]
pub fn judge(template: &Template<'_>, company: &Company<'_>) -> Judgement {
    // An object twice: kubectl applies the last.
    let space = company.spaces.iter().rev().find(|space| space.guards(template)).copied();
    let space = space.filter(|_| template.node.at(&["metadata", "labels", LABEL]).is_none());
    let mut judge = Judge { template, space, said: Judgement::default() };
    if !judge.is_patch() && judge.opted_in() {
        judge.guard(company);
    }
    judge.said.findings.sort_by_key(|f| (f.level, f.line));
    judge.said
}

pub(super) struct Judge<'a> {
    pub(super) template: &'a Template<'a>,
    /// The namespace whose label guards it.
    pub(super) space: Option<Space<'a>>,
    pub(super) said: Judgement,
}

impl<'a> Judge<'a> {
    pub(super) fn find(&mut self, level: Level, code: &'static str, place: (String, u64), message: impl Into<String>) {
        self.find_in(self.template.object, level, code, place, message);
    }

    /// Of an object that need not be the template's own.
    pub(super) fn find_in(
        &mut self,
        Object { file, document, .. }: Object<'_>,
        level: Level,
        code: &'static str,
        (field, line): (String, u64),
        message: impl Into<String>,
    ) {
        let message = message.into();
        self.said.findings.push(Finding { level, code, file: file.to_owned(), document, field, line, message });
    }

    pub(super) fn error(&mut self, code: &'static str, place: (String, u64), message: impl Into<String>) {
        self.find(Level::Error, code, place, message);
    }

    pub(super) fn warn(&mut self, code: &'static str, place: (String, u64), message: impl Into<String>) {
        self.find(Level::Warning, code, place, message);
    }

    /// A field of the template, and the line of the deepest part of it that is there.
    pub(super) fn place(&self, path: &[&str]) -> (String, u64) {
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

    pub(super) fn annotation(&self, key: &str) -> (String, u64) {
        let full = format!("{PREFIX}{key}");
        let (field, line) = self.place(&["metadata", "annotations", &full]);
        (field.replace(&format!(".{full}"), &format!("[{full}]")), line)
    }

    /// Of an annotation: the template's own, or the namespace's in its place.
    pub(super) fn of_annotation(&mut self, level: Level, code: &'static str, key: &str, message: impl Into<String>) {
        match self.of_space(key) {
            Some((space, place)) => self.find_in(space.object, level, code, place, message),
            None => self.find(level, code, self.annotation(key), message),
        }
    }

    /// Where the namespace says what the template does not.
    fn of_space(&self, key: &str) -> Option<(Space<'a>, (String, u64))> {
        let own = self.metadata("annotations").any(|(own, _)| own.strip_prefix(PREFIX) == Some(key));
        let space = self.space.filter(|_| !own)?;
        Some((space, space.place(key)?))
    }

    pub(super) fn metadata(&self, key: &str) -> impl Iterator<Item = (&'a str, &'a Node)> + use<'a> {
        self.template.node.at(&["metadata", key]).into_iter().flat_map(Node::entries)
    }

    /// The template has opted in: what is its guard worth?
    fn guard(&mut self, company: &Company<'a>) {
        if !self.texts_are_texts() {
            return;
        }
        self.said.by_namespace = self.space.is_some();
        let Some(reading) = as_pod(self.template, self.space).as_ref().and_then(guard::read) else { return };
        for warning in reading.warnings {
            let Warning::UnknownKey { key, nearest } = warning;
            let place = self.annotation(&key);
            let text = format!("there is no such annotation, and it has no effect: did you mean {PREFIX}{nearest}?");
            self.error("annotation-key", place, text);
        }
        let guard = match reading.guard {
            Ok(guard) => guard,
            Err(problems) => {
                // Told at the namespace, once; but which containers there are, only the pod says.
                let (told, problems): (Vec<_>, Vec<_>) = problems.into_iter().partition(|problem| {
                    problem.key().is_some_and(|key| key != keys::TARGET && self.of_space(key).is_some())
                });
                if let Some((space, _)) = told.first().and_then(|problem| self.of_space(problem.key()?)) {
                    let place = (space.field("metadata.annotations"), space.object.node.line);
                    let text = "the annotations of its namespace are invalid, so it is not guarded: mend them there";
                    self.find_in(space.object, Level::Error, "namespace-invalid", place, text);
                }
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
                    let text = problem.to_string();
                    match problem.key() {
                        Some(key) => self.of_annotation(Level::Error, code(&problem), key, text),
                        None => self.error(code(&problem), self.place(&["spec"]), text),
                    }
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
        let target = format!("{PREFIX}{}", keys::TARGET);
        if self.space.is_none() && self.template.node.at(&["metadata", "annotations", &target]).is_none() {
            let name = &guard.containers[0];
            let text = format!(
                "without it, a sidecar that is injected into the pod makes the guard invalid: write \"{name}\""
            );
            self.warn("no-target", self.annotation(keys::TARGET), text);
        }
        if self.said.targets.iter().any(|target| !target.never) {
            self.company(company);
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
}

pub(super) fn code(problem: &Problem) -> &'static str {
    match problem {
        Problem::MissingThreshold => "no-threshold",
        Problem::BadPercent { .. } | Problem::BadQuantity { .. } | Problem::TinyQuantity { .. } => "threshold-invalid",
        Problem::BadTarget { .. } => "target-invalid",
        Problem::NoSuchContainer { .. } | Problem::InitContainer { .. } => "target-unknown",
        Problem::Ambiguous { .. } => "target-missing",
        Problem::BadValue { .. } => "value-invalid",
        Problem::SpreadTooWide { .. } | Problem::SpreadOfQuantity { .. } => "value-invalid",
        Problem::Unreadable(_) => "unreadable",
    }
}

/// The part of the template that a guard is read from, as a pod.
fn as_pod(template: &Template<'_>, space: Option<Space<'_>>) -> Option<Pod> {
    let texts = template.node.at(&["metadata", "annotations"]).into_iter().flat_map(Node::entries);
    let mut annotations: BTreeMap<String, String> =
        texts.filter_map(|(key, node)| Some((key.strip_prefix(PREFIX)?.to_owned(), node.text()?.to_owned()))).collect();
    if let Some(space) = space {
        let containers = template.node.at(&["spec", "containers"]).map_or(&[][..], Node::items);
        let name = |c: &'_ Node| c.get("name").and_then(Node::scalar).unwrap_or_default().to_owned();
        let names: Vec<_> = containers.iter().map(name).collect();
        let names: Vec<_> = names.iter().map(String::as_str).collect();
        annotations.extend(space.stamp(&annotations, &names));
    }
    let annotations: serde_json::Map<_, _> =
        annotations.into_iter().map(|(key, value)| (format!("{PREFIX}{key}"), value.into())).collect();
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
