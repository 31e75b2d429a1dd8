//! The check of one template while it goes on: where its fields are, and what was found.

use super::finding::{Assessment, Code, Finding, Place, Severity};
use super::limit_range::DefaultLimit;
use super::namespaces::Namespace;
use super::objects::{Object, Template};
use super::tree::Node;
use crate::ground::keys::PREFIX;

/// A template and what was found so far.
pub(super) struct TemplateCheck<'a> {
    pub(super) template: &'a Template<'a>,
    /// The namespace whose label guards it.
    pub(super) namespace: Option<Namespace<'a>>,
    /// The limit of its containers that have none.
    pub(super) default: Option<DefaultLimit<'a>>,
    pub(super) assessment: Assessment,
}

impl<'a> TemplateCheck<'a> {
    pub(super) fn add(&mut self, severity: Severity, code: Code, place: Place, message: impl Into<String>) {
        self.add_to(self.template.object, severity, code, place, message);
    }

    /// Of an object that need not be the template's own.
    pub(super) fn add_to(
        &mut self,
        object: Object<'_>,
        severity: Severity,
        code: Code,
        place: Place,
        message: impl Into<String>,
    ) {
        self.assessment.findings.push(Finding::new(object, severity, code, place, message));
    }

    pub(super) fn error(&mut self, code: Code, place: Place, message: impl Into<String>) {
        self.add(Severity::Error, code, place, message);
    }

    pub(super) fn warn(&mut self, code: Code, place: Place, message: impl Into<String>) {
        self.add(Severity::Warning, code, place, message);
    }

    /// Of an annotation: the template's own, or the namespace's in its place.
    pub(super) fn add_to_annotation(&mut self, severity: Severity, code: Code, key: &str, message: impl Into<String>) {
        match self.of_namespace(key) {
            Some((namespace, place)) => self.add_to(namespace.object, severity, code, place, message),
            None => self.add(severity, code, self.annotation(key), message),
        }
    }

    /// Where the namespace says what the template does not.
    pub(super) fn of_namespace(&self, key: &str) -> Option<(Namespace<'a>, Place)> {
        let own = self.metadata("annotations").any(|(own, _)| own.strip_prefix(PREFIX) == Some(key));
        let namespace = self.namespace.filter(|_| !own)?;
        Some((namespace, namespace.place(key)?))
    }

    /// A field of the template, and the line of the deepest part of it that is there.
    pub(super) fn place(&self, path: &[&str]) -> Place {
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

    pub(super) fn annotation(&self, key: &str) -> Place {
        let full = format!("{PREFIX}{key}");
        let (field, line) = self.place(&["metadata", "annotations", &full]);
        (field.replace(&format!(".{full}"), &format!("[{full}]")), line)
    }

    pub(super) fn metadata(&self, key: &str) -> impl Iterator<Item = (&'a str, &'a Node)> + use<'a> {
        self.template.node.at(&["metadata", key]).into_iter().flat_map(Node::entries)
    }
}
