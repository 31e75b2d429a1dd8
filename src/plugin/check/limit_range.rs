//! LimitRanges: the memory limit that the API server writes to containers without one, when their pods are created.

use super::objects::{Object, Template};
use super::tree::Node;

#[derive(Clone, Copy, Debug)]
pub struct LimitRange<'a> {
    object: Object<'a>,
}

/// The limit of containers that have none.
#[derive(Clone, Copy, Debug)]
pub struct DefaultLimit<'a> {
    pub amount: &'a str,
    /// The name of its LimitRange.
    pub from: &'a str,
}

impl<'a> LimitRange<'a> {
    /// The object as a LimitRange, if it is one.
    #[must_use]
    pub fn of(object: Object<'a>) -> Option<LimitRange<'a>> {
        (object.kind == "LimitRange" && object.is_of("")).then_some(LimitRange { object })
    }

    /// Its default for this template's containers. Where there is none, the API server takes the maximum.
    #[must_use]
    pub fn default_of(&self, template: &Template<'_>) -> Option<DefaultLimit<'a>> {
        let pod = template.object;
        // A pod that a server gave back was created without it.
        let exists = pod.kind == "Pod" && pod.node.at(&["metadata", "uid"]).is_some();
        if exists || !self.object.may_share_namespace(pod) {
            return None;
        }
        let limits = self.object.node.at(&["spec", "limits"]).map_or(&[][..], Node::items);
        let mut of_containers =
            limits.iter().filter(|limit| limit.get("type").and_then(Node::scalar) == Some("Container"));
        let amount = |limit: &'a Node, key| limit.at(&[key, "memory"]).and_then(Node::scalar);
        let amount = of_containers.find_map(|limit| amount(limit, "default").or_else(|| amount(limit, "max")))?;
        Some(DefaultLimit { amount, from: self.object.name() })
    }

    /// Whether both name their namespace, and it is the same.
    #[must_use]
    pub fn is_beside(&self, template: &Template<'_>) -> bool {
        self.object.namespace().is_some() && self.object.namespace() == template.object.namespace()
    }
}
