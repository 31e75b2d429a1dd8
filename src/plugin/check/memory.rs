//! What a container, or the pod as a whole, may use of memory: limits and requests as the template has them.

use super::objects::Template;
use super::tree::Node;
use crate::ground::units::{Bytes, parse_memory};

/// What a target may use, as the template has it.
pub(super) struct Memory<'a> {
    /// Or a text that is not an amount, and whose it is.
    pub(super) limit: Result<Option<Bytes>, NoAmount<'a>>,
    /// The limit is a LimitRange's.
    pub(super) by_default: bool,
    pub(super) request: Option<Bytes>,
    pub(super) index: Option<Index>,
}

/// Which of its lists a container is in, and where.
pub(super) type Index = (&'static str, usize);

/// A text that is not an amount, and the container that has it; none: the pod.
pub(super) type NoAmount<'a> = (&'a str, Option<Index>);

/// The lists that a container can be guarded in.
const LISTS: [&str; 2] = ["containers", "initContainers"];

impl<'a> Memory<'a> {
    /// `default`: the limit of containers that have none.
    pub(super) fn of(template: &'a Template<'a>, name: Option<&str>, default: Option<&'a str>) -> Memory<'a> {
        let spec = template.node.get("spec");
        let default_of = |node: &Node| default.filter(|_| node.at(&["resources", "limits", "memory"]).is_none());
        let amount = |node: &'a Node, list: &str| {
            let text = node.at(&["resources", list, "memory"]).and_then(Node::scalar);
            text.filter(|text| parse_memory(text) != Ok(Bytes(0))) // 0 is none to the kubelet
        };
        let read = |text: &'a str, index| parse_memory(text).map(Some).map_err(|_| (text, index));
        let pods = spec.and_then(|s| amount(s, "limits"));
        let all = LISTS.into_iter().flat_map(|list| {
            let items = spec.and_then(|s| s.get(list)).map_or(&[][..], Node::items);
            items.iter().enumerate().map(move |(index, node)| ((list, index), node))
        });
        let Some(name) = name else {
            let limit = |node: &'a Node| amount(node, "limits").or_else(|| default_of(node));
            let sum = || group_limit(all.clone().map(|((list, _), node)| (list, node)), limit);
            return Memory {
                limit: pods.map_or_else(|| Ok(sum()), |text| read(text, None)),
                by_default: false,
                request: None,
                index: None,
            };
        };
        let found = all.clone().find(|(_, node)| node.get("name").and_then(Node::scalar) == Some(name));
        let index = found.map(|(index, _)| index);
        let own = found.and_then(|(_, node)| amount(node, "limits"));
        let by_default = if own.or(pods).is_none() { found.and_then(|(_, node)| default_of(node)) } else { None };
        let limit = match own.or(pods).or(by_default) {
            Some(text) => read(text, index.filter(|_| own.is_some())),
            None => Ok(None),
        };
        let request = found.and_then(|(_, node)| amount(node, "requests")).and_then(|text| parse_memory(text).ok());
        Memory { limit, by_default: by_default.is_some(), request, index }
    }
}

/// The limit that the kubelet gives the pod's own cgroup: what its containers may use together, if all have a limit.
fn group_limit<'a>(
    all: impl Iterator<Item = (&'static str, &'a Node)>,
    limit: impl Fn(&'a Node) -> Option<&'a str>,
) -> Option<Bytes> {
    let (mut main, mut sidecars, mut starting) = (Bytes(0), Bytes(0), Bytes(0));
    for (list, node) in all {
        let limit = parse_memory(limit(node)?).ok()?;
        if list == "containers" {
            main = main.plus(limit);
        } else if node.get("restartPolicy").and_then(Node::scalar) == Some("Always") {
            sidecars = sidecars.plus(limit);
        } else {
            // It runs together with the sidecars that are listed before it.
            starting = starting.max(sidecars.plus(limit));
        }
    }
    Some(main.plus(sidecars).max(starting))
}
