//! Whether a template has opted in, and all the ways of nearly doing so.

use super::finding::Code;
use super::template_check::TemplateCheck;
use super::tree::{Node, UNRENDERED};
use super::unknown_kind::stray_in;
use crate::ground::keys;
use crate::ground::keys::{ENABLED, LABEL, OFF, PREFIX};
use crate::ground::text::near;

/// What opts in to preoomkiller-controller; where the domains of its and its forks' keys begin; its threshold.
const OLD_LABEL: &str = "preoomkiller-enabled";
const OLD_DOMAIN: &str = "preoomkiller.";
const OLD_THRESHOLD: &str = "/memory-threshold";

impl<'a> TemplateCheck<'a> {
    /// Whether the template has no containers: then the rest of it is elsewhere.
    pub(super) fn is_patch(&mut self) -> bool {
        if self.template.node.at(&["spec", "containers"]).is_some_and(|list| !list.items().is_empty()) {
            return false;
        }
        if ["labels", "annotations"].iter().any(|list| self.metadata(list).any(|(key, _)| key.contains(LABEL))) {
            let place = (self.template.field("spec.containers"), self.template.line());
            let text =
                "it has no containers, so it looks like a patch: check the output of `kubectl kustomize` instead";
            self.warn(Code::Patch, place, text);
        }
        true
    }

    /// Whether the template has opted in; reports all near misses.
    pub(super) fn opted_in(&mut self) -> bool {
        self.misplaced();
        let label = self.metadata("labels").find(|(key, _)| *key == LABEL).map(|(_, node)| node);
        if let Some(node) = label {
            return self.enabled(node);
        }
        if self.namespace.is_some() {
            return true;
        }
        self.without_label();
        false
    }

    /// The label is there: does it opt in?
    fn enabled(&mut self, node: &Node) -> bool {
        let place = self.place(&["metadata", "labels", LABEL]);
        let value = node.scalar().unwrap_or_default();
        if value == ENABLED && node.text().is_some() {
            return true;
        }
        if value.contains("{{") {
            self.error(Code::Unrendered, place, UNRENDERED);
        } else if !OFF.contains(&value) {
            let text = format!("\"{value}\" does not opt in, so nothing is guarded: write \"{ENABLED}\"");
            self.error(Code::LabelValue, place, text);
        }
        false
    }

    /// The label is not there: was it meant to be?
    fn without_label(&mut self) {
        if let Some((key, _)) = self.metadata("labels").find(|(key, _)| is_near_label(key)) {
            let (_, line) = self.place(&["metadata", "labels", key]);
            let field = self.template.field(&format!("metadata.labels.{key}"));
            let text = format!(
                "there is no label {key}, so nothing is guarded: did you mean {LABEL}? Write `{LABEL}: {ENABLED}`"
            );
            self.error(Code::LabelKey, (field, line), text);
            return;
        }
        let on_owner = self.template.above().find_map(|(shown, metadata)| {
            let mut labels = metadata.get("labels").into_iter().flat_map(Node::entries);
            let found = labels.find(|(key, node)| *key == LABEL && node.scalar() == Some(ENABLED));
            found.map(|(_, node)| (format!("{shown}.labels.{LABEL}"), node.line))
        });
        let here = self.template.field("metadata.labels");
        if let Some(place) = on_owner {
            let kind = self.template.object.kind;
            let text = format!(
                "the label is on the {kind}, not on its pods, so nothing is guarded: write it under {here}, too"
            );
            self.error(Code::LabelOnOwner, place, text);
        } else if let Some((key, node)) = self.metadata("annotations").find(|(key, _)| key.starts_with(PREFIX)) {
            let field = self.template.field(&format!("metadata.annotations[{key}]"));
            let text = format!("it has no effect without the label: write `{LABEL}: {ENABLED}` under {here}");
            self.error(Code::NoLabel, (field, node.line), text);
        }
    }

    /// Keys in the wrong place, or nearly right.
    fn misplaced(&mut self) {
        let known = |key: &str| key.strip_prefix(PREFIX).is_some_and(|name| near(name, keys::ALL).is_some());
        for (key, node) in self.metadata("labels").filter(|(key, _)| known(key)) {
            let field = self.template.field(&format!("metadata.labels[{key}]"));
            let here = self.template.field("metadata.annotations");
            self.error(
                Code::KeyPlace,
                (field, node.line),
                format!("it is an annotation, not a label: write it under {here}"),
            );
        }
        for (key, node) in self.metadata("annotations") {
            let field = self.template.field(&format!("metadata.annotations[{key}]"));
            if key == LABEL {
                let here = self.template.field("metadata.labels");
                let text = format!("it is a label, not an annotation: write `{LABEL}: {ENABLED}` under {here}");
                self.error(Code::KeyPlace, (field, node.line), text);
            } else if let Some(meant) = is_near_annotation(key) {
                let text = format!("there is no such annotation, and it has no effect: did you mean {PREFIX}{meant}?");
                self.error(Code::AnnotationKey, (field, node.line), text);
            }
        }
        if let Some(place) = stray_in(self.template.object.node) {
            let list = if place.0.ends_with(&format!("[{LABEL}]")) { "labels" } else { "annotations" };
            let here = self.template.field(&format!("metadata.{list}"));
            let text = format!("the API server knows no such field, and it has no effect: write it under {here}");
            self.error(Code::KeyPlace, place, text);
        }
        self.on_owner();
        self.of_the_controller();
    }

    /// Our keys on the owner: each that the template lacks has no effect.
    fn on_owner(&mut self) {
        let above: Vec<_> = self.template.above().collect();
        let lacking = |key: &str| key.starts_with(PREFIX) && self.metadata("annotations").all(|(own, _)| own != key);
        let annotations = |metadata: &'a Node| metadata.get("annotations").into_iter().flat_map(Node::entries);
        let strays: Vec<_> = above
            .into_iter()
            .flat_map(|(shown, metadata)| annotations(metadata).map(move |(key, node)| (shown, key, node)))
            .filter(|(_, key, _)| lacking(key))
            .collect();
        for (shown, key, node) in strays {
            let (kind, here) = (self.template.object.kind, self.template.field("metadata.annotations"));
            let text = format!("it is on the {kind}, not on its pods, and has no effect: move it to {here}");
            self.error(Code::AnnotationOnOwner, (format!("{shown}.annotations[{key}]"), node.line), text);
        }
    }

    /// Keys of preoomkiller-controller and its forks where ours are not.
    fn of_the_controller(&mut self) {
        let threshold = format!("{PREFIX}{}", keys::THRESHOLD);
        for (list, new, write) in [
            ("labels", LABEL, format!("the label `{LABEL}: {ENABLED}`")),
            ("annotations", threshold.as_str(), format!("the annotation {threshold}")),
        ] {
            let theirs: Vec<_> = self.metadata(list).filter(|(key, _)| is_old(key)).collect();
            let lacks = self.metadata(list).all(|(key, _)| key != new);
            for (key, node) in theirs {
                let ours = key == OLD_LABEL || list == "labels" || key.ends_with(OLD_THRESHOLD);
                let advice = match (ours, lacks) {
                    (true, true) => format!(": write {write}, too"),
                    (true, false) => continue,
                    (false, _) => String::new(),
                };
                let field = self.template.field(&format!("metadata.{list}[{key}]"));
                let text = format!("only preoomkiller-controller knows it, and it has no effect here{advice}");
                self.warn(Code::OldKey, (field, node.line), text);
            }
        }
    }
}

/// `preoomkiller-enabled`, or a key below `preoomkiller.alpha.k8s.zapier.com/`, `preoomkiller.beta.k8s.skillcoder.com/` or the
/// domain of another fork.
fn is_old(key: &str) -> bool {
    key == OLD_LABEL || key.split_once('/').is_some_and(|(domain, _)| domain.starts_with(OLD_DOMAIN))
}

/// A label's key that was meant to be ours.
fn is_near_label(key: &str) -> bool {
    let own = key.split_once('/').is_none_or(|(domain, _)| PREFIX.starts_with(domain) || domain == LABEL);
    let name = key.rsplit('/').next().unwrap_or_default().to_ascii_lowercase().replace(['_', '.'], "-");
    let below = key.strip_prefix(LABEL).is_some_and(|rest| rest.starts_with(['/', '.']));
    let ours = key.strip_prefix(PREFIX).is_some_and(|name| near(name, keys::ALL).is_some());
    let enabled = name.strip_prefix(LABEL).is_some_and(|rest| rest.trim_start_matches('-') == ENABLED);
    own && (near(&name, [LABEL]).is_some() || enabled) || below && !ours
}

/// The name of an annotation whose key was meant to be one of ours, though its prefix is not ours.
fn is_near_annotation(key: &str) -> Option<&str> {
    if key.starts_with(PREFIX) {
        return None; // the guard's own warnings report these
    }
    let (domain, name) = key.rsplit_once('/').unwrap_or(("", key));
    let meant = near(name, keys::ALL)?;
    let own_prefix = PREFIX.trim_end_matches('/');
    let distinct = [keys::TARGET, keys::THRESHOLD].contains(&name);
    let ours = near(domain, [own_prefix, LABEL]).is_some() || domain.contains(LABEL) || (domain.is_empty() && distinct);
    ours.then_some(meant)
}
