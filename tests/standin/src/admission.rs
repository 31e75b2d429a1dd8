//! What admission makes of an eviction or a deletion: the plugin NodeRestriction, and the project's
//! own policies, evaluated here as their expressions are on a real server.

use crate::answers::{self, Fact};
use crate::deletion::Options;
use crate::reply::Reply;
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

fn refuse(call: &Call, fact: &Fact, reason: &str) -> Reply {
    call.reply(fact, &[("reason", reason)])
}
