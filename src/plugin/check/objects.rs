//! Documents → Kubernetes objects, and the pod templates in them.

use super::input::Document;
use super::tree::Node;

const DEEPEST_LIST: usize = 4;

#[derive(Clone, Copy, Debug)]
pub struct Object<'a> {
    /// The file as it was named.
    pub file: &'a str,
    pub document: usize,
    pub kind: &'a str,
    pub node: &'a Node,
}

/// All objects, those in lists too.
#[must_use]
pub fn objects(documents: &[Document]) -> Vec<Object<'_>> {
    let mut all = Vec::new();
    for document in documents.iter().filter(|document| document.root.get("kind").is_some()) {
        unfold(document, &document.root, None, DEEPEST_LIST, &mut all);
    }
    all
}

/// Items of a typed list (`DeploymentList`) may leave their kind out.
fn unfold<'a>(document: &'a Document, node: &'a Node, of: Option<&'a str>, deeper: usize, all: &mut Vec<Object<'a>>) {
    let Some(kind) = node.get("kind").and_then(Node::text).or(of) else { return };
    match (kind.strip_suffix("List"), node.get("items")) {
        (Some(item), Some(items)) if deeper > 0 => {
            let of = Some(item).filter(|k| !k.is_empty());
            items.items().iter().for_each(|item| unfold(document, item, of, deeper - 1, all));
        }
        _ => all.push(Object { file: &document.file, document: document.number, kind, node }),
    }
}

impl<'a> Object<'a> {
    /// `metadata.name`; empty where there is none.
    #[must_use]
    pub fn name(&self) -> &'a str {
        let named = |key| self.node.at(&["metadata", key]).and_then(Node::scalar);
        named("name").or_else(|| named("generateName")).unwrap_or_default()
    }

    /// `metadata.namespace`, where it is written.
    #[must_use]
    pub fn namespace(&self) -> Option<&'a str> {
        self.node.at(&["metadata", "namespace"]).and_then(Node::scalar)
    }

    /// Whether both are in one namespace, as far as that is written: `helm template -n` leaves it out.
    #[must_use]
    pub fn may_share_namespace(&self, other: Object<'_>) -> bool {
        self.namespace().zip(other.namespace()).is_none_or(|(own, others)| own == others)
    }

    /// A controller made it and manages it: a ReplicaSet of a Deployment, a Pod of a ReplicaSet.
    #[must_use]
    pub fn is_controlled(&self) -> bool {
        let owners = self.node.at(&["metadata", "ownerReferences"]).map_or(&[][..], Node::items);
        owners.iter().any(|owner| owner.get("controller").and_then(Node::scalar) == Some("true"))
    }

    pub(super) fn is_of(&self, group: &str) -> bool {
        let version = self.node.get("apiVersion").and_then(Node::scalar).unwrap_or_default();
        version.is_empty() || version.split_once('/').map_or("", |(g, _)| g) == group
    }

    /// The pod template in it.
    #[must_use]
    pub fn template(self) -> Option<Template<'a>> {
        let (group, path): (&str, &[&str]) = match self.kind {
            "Pod" => ("", &[]),
            "ReplicationController" => ("", &["spec", "template"]),
            "Deployment" | "StatefulSet" | "DaemonSet" | "ReplicaSet" => ("apps", &["spec", "template"]),
            "Job" => ("batch", &["spec", "template"]),
            "CronJob" => ("batch", &["spec", "jobTemplate", "spec", "template"]),
            _ => return None,
        };
        let node = self.node.at(path).filter(|_| self.is_of(group))?;
        Some(Template { object: self, path: path.join("."), node })
    }
}

/// The template that pods are made from, or a single pod.
#[derive(Clone, Debug)]
pub struct Template<'a> {
    /// The object that it is in.
    pub object: Object<'a>,
    /// Where in the object; empty for a pod.
    pub path: String,
    pub node: &'a Node,
}

impl<'a> Template<'a> {
    /// A field of the template as a path in the object.
    #[must_use]
    pub fn field(&self, field: &str) -> String {
        if self.path.is_empty() { field.to_owned() } else { format!("{}.{field}", self.path) }
    }

    /// The metadata above the template's own: of the object, and of a CronJob's jobs.
    pub fn above(&self) -> impl Iterator<Item = (&'static str, &'a Node)> {
        let places: &[(&str, &[&str])] = match self.object.kind {
            "Pod" => &[],
            "CronJob" => {
                &[("metadata", &["metadata"]), ("spec.jobTemplate.metadata", &["spec", "jobTemplate", "metadata"])]
            }
            _ => &[("metadata", &["metadata"])],
        };
        places.iter().filter_map(|(shown, path)| Some((*shown, self.object.node.at(path)?)))
    }

    /// Where the template's own metadata is, or would be.
    #[must_use]
    pub fn line(&self) -> u64 {
        self.node.get("metadata").unwrap_or(self.node).line
    }

    /// A Deployment that, in a rollout, starts a new pod before it ends an old one.
    #[must_use]
    pub fn surges(&self) -> bool {
        let strategy = |path: &[&str]| self.object.node.at(&["spec", "strategy"]).and_then(|s| s.at(path));
        let surge = strategy(&["rollingUpdate", "maxSurge"]).and_then(Node::scalar);
        self.object.kind == "Deployment"
            && strategy(&["type"]).and_then(Node::scalar) != Some("Recreate")
            && !surge.is_some_and(|s| s.trim_end_matches('%').parse() == Ok(0))
    }
}

#[cfg(test)]
mod tests {
    use super::super::input::Input;
    use super::*;

    #[test]
    fn one_namespace_is_enough_to_share_it() {
        for (workload, budget, shared) in
            [("", "", true), ("a", "", true), ("", "a", true), ("a", "a", true), ("a", "b", false)]
        {
            let namespaced = |namespace: &str| match namespace {
                "" => "{name: x}".to_owned(),
                namespace => format!("{{name: x, namespace: {namespace}}}"),
            };
            let mut input = Input::default();
            for namespace in [workload, budget] {
                input.take_text("f", &format!("{{kind: X, metadata: {}}}", namespaced(namespace)), true);
            }
            let all = objects(&input.documents);
            assert_eq!(all[0].may_share_namespace(all[1]), shared, "{workload} {budget}");
        }
    }
}
