//! Guards where `check` cannot judge them: in objects of kinds that it does not read, and in a chart's values.

use super::finding::{Code, Finding, Place, Severity};
use super::input::Document;
use super::objects::Object;
use super::tree::{Node, Tree};
use crate::ground::keys::{LABEL, PREFIX};

/// Reports an object whose kind `check` does not know, if something below its metadata has a key of ours.
pub(super) fn unknown_kind(object: Object<'_>) -> Option<Finding> {
    // The object's own metadata says nothing about pods: charts write their labels to everything.
    let mut below = object.node.entries().filter(|(key, _)| *key != "metadata");
    let place = below.find_map(|(key, node)| ours_in(key, node, false))?;
    let version = object.node.get("apiVersion").and_then(Node::scalar).unwrap_or("no apiVersion");
    let message = format!(
        "check does not read {} ({version}): give it the pods (`kubectl get pods -o yaml`), or the template in a Deployment",
        object.kind
    );
    Some(Finding::new(object, Severity::Warning, Code::KindUnknown, place, message))
}

/// The same of a document that is no object, as one without a name.
pub(super) fn values(document: &Document) -> Option<(Object<'_>, Finding)> {
    let Document { file, number, root } = document;
    if root.get("kind").is_some() {
        return None;
    }
    let object = Object { file, document: *number, kind: "no object", node: root };
    let message = "check does not read a chart's values: give it the output of `helm template`";
    Some((object, Finding::new(object, Severity::Warning, Code::KindUnknown, guard_in(root)?, message)))
}

/// The first key of ours, wherever it is.
pub(super) fn guard_in(root: &Node) -> Option<Place> {
    root.entries().find_map(|(key, node)| ours_in(key, node, false))
}

/// The first key of ours in an object of a kind that `check` reads, where neither labels nor annotations are.
pub(super) fn stray_in(root: &Node) -> Option<Place> {
    root.entries().find_map(|(key, node)| ours_in(key, node, true))
}

/// The first key of ours in a mapping, as a path that begins with `key`. Each operator calls the pods' labels and annotations
/// something else: `podLabels`, `driver.annotations`, `podMetadata.labels`. `stray`: not in those of a `metadata`.
fn ours_in(key: &str, node: &Node, stray: bool) -> Option<Place> {
    // A selector guards nothing.
    if key == "matchLabels" || key.to_ascii_lowercase().ends_with("selector") {
        return None;
    }
    let is_at_home = |below: &str| stray && key == "metadata" && ["labels", "annotations"].contains(&below);
    match &node.value {
        Tree::Map(_) => node.entries().filter(|(below, _)| !is_at_home(below)).find_map(|(below, node)| {
            // A dependency of a chart may have the label's name.
            if below.starts_with(PREFIX) || below == LABEL && node.scalar().is_some() {
                return Some((format!("{key}[{below}]"), node.line));
            }
            let (path, line) = ours_in(below, node, stray)?;
            Some((format!("{key}.{path}"), line))
        }),
        Tree::List(items) => {
            let mut below = items.iter().enumerate();
            below.find_map(|(index, item)| ours_in(&format!("{key}[{index}]"), item, stray))
        }
        Tree::Null | Tree::Plain(_) | Tree::Text(_) => None,
    }
}
