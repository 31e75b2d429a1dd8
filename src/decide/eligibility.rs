//! Which pods are never evicted.

use std::collections::BTreeSet;
use std::fmt;

use crate::pods::{Phase, Pod};

/// Why a pod is never evicted, whatever its label says.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Never {
    /// A mirror of a static pod: evicting it does not touch the process (measured).
    Mirror,
    /// Owned by the Node: a static pod.
    Static,
    /// It is already terminating.
    Terminating,
    Finished,
    /// Bound to another node, or to none.
    NotOurNode,
    /// Its namespace is excluded (`--exclude-namespaces`).
    ExcludedNamespace,
    Agent,
}

impl Never {
    /// The word that `/api/guards` uses.
    #[must_use]
    pub fn label(self) -> &'static str {
        match self {
            Never::Mirror => "mirror",
            Never::Static => "static",
            Never::Terminating => "terminating",
            Never::Finished => "finished",
            Never::NotOurNode => "not-our-node",
            Never::ExcludedNamespace => "excluded-namespace",
            Never::Agent => "agent",
        }
    }
}

impl fmt::Display for Never {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Never::Mirror => "it mirrors a static pod, which an eviction would not end",
            Never::Static => "it is a static pod, owned by its node",
            Never::Terminating => "it is terminating already",
            Never::Finished => "it has finished",
            Never::NotOurNode => "it is not on this agent's node",
            Never::ExcludedNamespace => "its namespace is excluded (--exclude-namespaces)",
            Never::Agent => "it is this agent itself",
        })
    }
}

/// The pods that this agent is responsible for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Scope {
    pub node: String,
    /// The agent's own pod uid; `None` if the agent runs outside a pod.
    pub pod_uid: Option<String>,
    /// Namespaces that are excluded.
    pub excluded: BTreeSet<String>,
}

/// The only place that decides which pods are never evicted.
#[must_use]
pub fn never(pod: &Pod, scope: &Scope) -> Option<Never> {
    let owner_kind = pod.owner.as_ref().map(|o| o.kind.as_str());
    if scope.pod_uid.as_deref() == Some(pod.id.uid.0.as_str()) {
        Some(Never::Agent)
    } else if pod.node.as_deref() != Some(scope.node.as_str()) {
        Some(Never::NotOurNode)
    } else if scope.excluded.contains(&pod.id.namespace) {
        Some(Never::ExcludedNamespace)
    } else if pod.mirror {
        Some(Never::Mirror)
    } else if owner_kind == Some("Node") {
        Some(Never::Static)
    } else if pod.terminating {
        Some(Never::Terminating)
    } else if matches!(pod.phase, Phase::Succeeded | Phase::Failed) {
        Some(Never::Finished)
    } else {
        None
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn never_is_one_answer_for_each_reason() {
        let scope = Scope { node: "n".into(), pod_uid: Some("agent".into()), excluded: ["off".to_owned()].into() };
        let pod = || {
            Pod::from_json(
                r#"{"metadata": {"name": "p", "uid": "u"}, "spec": {"nodeName": "n"}, "status": {"phase": "Running"}}"#,
            )
            .unwrap()
        };
        assert_eq!(never(&pod(), &scope), None);
        let with = |change: fn(&mut Pod)| {
            let mut pod = pod();
            change(&mut pod);
            never(&pod, &scope)
        };
        assert_eq!(with(|p| p.mirror = true), Some(Never::Mirror));
        assert_eq!(with(|p| p.terminating = true), Some(Never::Terminating));
        assert_eq!(with(|p| p.phase = Phase::Succeeded), Some(Never::Finished));
        assert_eq!(with(|p| p.phase = Phase::Failed), Some(Never::Finished));
        assert_eq!(with(|p| p.node = Some("m".into())), Some(Never::NotOurNode));
        assert_eq!(with(|p| p.node = None), Some(Never::NotOurNode));
        assert_eq!(with(|p| p.id.namespace = "off".into()), Some(Never::ExcludedNamespace));
        assert_eq!(with(|p| p.id.uid.0 = "agent".into()), Some(Never::Agent));
        assert_eq!(
            with(|p| {
                p.owner = Some(crate::pods::Owner {
                    api_version: "v1".into(),
                    kind: "Node".into(),
                    name: "n".into(),
                    uid: "x".into(),
                    template_hash: None,
                });
            }),
            Some(Never::Static)
        );
        assert_eq!(Never::Agent.to_string(), "it is this agent itself");
    }
}
