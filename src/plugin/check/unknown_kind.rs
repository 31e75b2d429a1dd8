//! Objects of kinds that `check` does not read, though some `metadata` in them has a key of ours.

use super::finding::{Code, Finding, Place, Severity};
use super::objects::Object;
use super::tree::{Node, Tree};
use crate::ground::keys::{LABEL, PREFIX};

/// Reports an object whose kind `check` does not know, if a `metadata` below its own has a key of ours.
pub(super) fn unknown_kind(object: Object<'_>) -> Option<Finding> {
    // The object's own metadata says nothing about pods: charts write their labels to everything.
    let mut below = object.node.entries().filter(|(key, _)| *key != "metadata");
    let (field, line) = below.find_map(|(key, node)| ours_in(key, node))?;
    let version = object.node.get("apiVersion").and_then(Node::scalar).unwrap_or("no apiVersion");
    let message = format!(
        "check does not read {} ({version}): give it the pods (`kubectl get pods -o yaml`), or the template in a Deployment",
        object.kind
    );
    Some(Finding::new(object, Severity::Warning, Code::KindUnknown, (field, line), message))
}

/// The first key of ours in a `metadata`, `podMetadata` or the like, as a path that begins with `key`.
fn ours_in(key: &str, node: &Node) -> Option<Place> {
    let own = || {
        let lists = ["labels", "annotations"].into_iter().filter_map(|list| Some((list, node.get(list)?)));
        let mut keys = lists.flat_map(|(list, node)| node.entries().map(move |(own, node)| (list, own, node)));
        keys.find(|(_, own, _)| *own == LABEL || own.starts_with(PREFIX))
    };
    if key.ends_with("etadata")
        && let Some((list, own, node)) = own()
    {
        return Some((format!("{key}.{list}[{own}]"), node.line));
    }
    match &node.value {
        Tree::Map(_) => {
            let (path, line) = node.entries().find_map(|(below, node)| ours_in(below, node))?;
            Some((format!("{key}.{path}"), line))
        }
        Tree::List(items) => {
            let mut below = items.iter().enumerate();
            below.find_map(|(index, item)| ours_in(&format!("{key}[{index}]"), item))
        }
        Tree::Null | Tree::Plain(_) | Tree::Text(_) => None,
    }
}
