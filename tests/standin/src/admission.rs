//! What admission makes of an eviction, a deletion or a resize: the plugin NodeRestriction, and the project's
//! own policies, evaluated here as their expressions are on a real server.

use crate::answers::{self, Fact};
use crate::deletion::Options;
use crate::quantity;
use crate::reply::Reply;
use crate::resize_rules::{LISTS, items};
use crate::route::Call;
use crate::state::{Inner, State};
use crate::who::Who;
use serde_json::Value;
use std::sync::Arc;

const LABEL: &str = "pre-oom-killer";

fn named<'a>(state: &'a State, call: &Call) -> Option<&'a Arc<Value>> {
    state.pods.get(&(call.about.namespace.clone(), call.about.name.clone()))
}

/// Nodes end the pods that are theirs, and no others.
pub(crate) fn node_restriction(inner: &Inner, call: &Call, who: &Who, deed: &str) -> Result<(), Reply> {
    let Some(node) = &who.acts_as else {
        return Ok(());
    };
    inner.read(|state| {
        if !state.node_restriction {
            return Ok(());
        }
        match named(state, call) {
            None => Err(call.reply(&answers::NODE_RESTRICTION_NOT_FOUND, &[])),
            Some(pod) if pod["spec"]["nodeName"] != node.as_str() => {
                Err(call.reply(&answers::NODE_RESTRICTION, &[("node", node), ("deed", deed)]))
            }
            Some(_) => Ok(()),
        }
    })
}

/// The policy on evictions. Every pod of the namespace is a parameter; all but the named one pass.
pub(crate) fn own_node_policy(inner: &Inner, call: &Call, who: &Who, options: &Options) -> Result<(), Reply> {
    inner.read(|state| {
        if !state.policy {
            return Ok(());
        }
        // The parameters come before the conditions that say whose requests the policy is about: so for everybody.
        let namespace = &call.about.namespace;
        if !state.pods.keys().any(|(other, _)| other == namespace) {
            return Err(call.reply(&answers::POLICY_NO_PARAMS, &[]));
        }
        if who.user != state.account {
            return Ok(());
        }
        let node = who.bound_to.as_deref().unwrap_or("");
        let name = &call.about.name;
        let reason = match named(state, call) {
            _ if node.is_empty() => "the token is not bound to a node".to_owned(),
            None => return Ok(()),
            Some(pod) if pod["spec"]["nodeName"] != node => format!("pod {name} is not on node {node}"),
            Some(pod) if options.uid.as_deref() != pod["metadata"]["uid"].as_str() => {
                "deleteOptions.preconditions.uid has to be the uid of the pod".to_owned()
            }
            Some(pod) if pod["metadata"]["labels"][LABEL] != "enabled" => format!("pod {name} has not opted in"),
            Some(_) => return Ok(()),
        };
        Err(refuse(call, &answers::POLICY_OWN_NODE, &reason))
    })
}

/// The policy on deletions, which see the pod itself.
pub(crate) fn own_node_delete_policy(inner: &Inner, call: &Call, who: &Who, pod: &Value) -> Result<(), Reply> {
    inner.read(|state| {
        if !state.policy || who.user != state.account {
            return Ok(());
        }
        let own = who.bound_to.as_deref().is_some_and(|node| pod["spec"]["nodeName"] == node);
        let reason = match own {
            false => "this pod is not on the agent's node",
            true if pod["metadata"]["labels"][LABEL] != "enabled" => "this pod has not opted in",
            true => return Ok(()),
        };
        Err(refuse(call, &answers::POLICY_OWN_NODE_DELETE, reason))
    })
}

/// The policy on resizes, which see the pod before and after: the agent raises memory limits, and nothing else. It is asked
/// last, and of a patch that changes nothing too (resize-403-vap-noop.json).
pub(crate) fn own_node_resize_policy(
    state: &State,
    call: &Call,
    who: &Who,
    old: &Value,
    new: &Value,
) -> Result<(), Reply> {
    if !state.resize_policy.unwrap_or(state.policy) || who.user != state.account {
        return Ok(());
    }
    let own = who.bound_to.as_deref().is_some_and(|node| old["spec"]["nodeName"] == node);
    let reason = match own {
        false => "this pod is not on the agent's node",
        true if old["metadata"]["labels"][LABEL] != "enabled" => "this pod has not opted in",
        true if !changes_only_memory(&old["spec"], &new["spec"]) => "only memory may be changed",
        true if !only_raises(&old["spec"], &new["spec"]) => "memory limits may only be raised",
        true => return Ok(()),
    };
    Err(refuse(call, &answers::POLICY_OWN_NODE_RESIZE, reason))
}

/// The `resources` before and after: of the pod, and of each container that can be resized.
fn resources<'a>(old: &'a Value, new: &'a Value) -> impl Iterator<Item = (&'a Value, &'a Value)> {
    let containers = LISTS.iter().flat_map(|list| items(old, list).iter().zip(items(new, list)));
    containers.chain([(old, new)]).map(|(old, new)| (&old["resources"], &new["resources"]))
}

fn changes_only_memory(old: &Value, new: &Value) -> bool {
    let same = |old: &Value, new: &Value, kind: &str| quantity::same(&old[kind]["cpu"], &new[kind]["cpu"]);
    resources(old, new).all(|(old, new)| same(old, new, "limits") && same(old, new, "requests"))
}

fn only_raises(old: &Value, new: &Value) -> bool {
    let limit = |of: &Value| quantity::bytes_of(&of["limits"]["memory"]);
    // A limit where there was none is no raise.
    resources(old, new).all(|(old, new)| limit(new).is_none() || (limit(old).is_some() && limit(old) <= limit(new)))
}

fn refuse(call: &Call, fact: &Fact, reason: &str) -> Reply {
    call.reply(fact, &[("reason", reason)])
}
