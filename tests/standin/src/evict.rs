//! The eviction subresource, its checks in the order of the real server.

use crate::admission;
use crate::answers;
use crate::clock::{rfc3339, seconds_now};
use crate::deletion::{self, Options, is_terminating, phase};
use crate::pdb;
use crate::reply::Reply;
use crate::route::{Call, JSON};
use crate::state::{Inner, Key};
use crate::who::Who;
use serde_json::{Value, json};
use std::sync::Arc;
use std::time::Duration;

/// Between the two writes of an eviction (watch-pod-life.json).
const BETWEEN_WRITES: Duration = Duration::from_millis(4);

pub(crate) async fn evict(inner: &Arc<Inner>, call: &Call, who: &Who) -> Result<Reply, Reply> {
    let dry_run_query = call.dry_run("CreateOptions")?;
    let body = call.object("Eviction", "policy", JSON)?;
    let unknown = unknown_fields(&body);
    if call.query("fieldValidation") == "Strict" && !unknown.is_empty() {
        let error = unknown.join(", ");
        return Err(call.reply(&answers::STRICT_DECODING, &[("kind", "Eviction"), ("error", &error)]));
    }
    let about = &call.about;
    let metadata = &body["metadata"];
    if metadata["namespace"].as_str().is_some_and(|given| !given.is_empty() && given != about.namespace) {
        return Err(call.reply(&answers::NAMESPACE_MISMATCH, &[]));
    }
    call.namespace_lives(inner)?;
    admission::node_restriction(inner, call, who, "evict")?;
    if metadata["name"] != about.name.as_str() {
        return Err(call.reply(&answers::NAME_MISMATCH, &[]));
    }
    let mut options = Options::parse(call, &body["deleteOptions"])?;
    options.dry_run |= dry_run_query;
    admission::own_node_policy(inner, call, who, &options)?;

    let key: Key = (about.namespace.clone(), about.name.clone());
    if let Some(uid) = decide(inner, call, &key, &options)? {
        tokio::time::sleep(BETWEEN_WRITES).await;
        deletion::start(inner, &key, &uid, &options, call.at);
    }
    let delay = inner.read(|state| state.answer_delay);
    if !delay.is_zero() {
        tokio::time::sleep(delay).await;
    }
    let reply = call.reply(&answers::EVICTED, &[]);
    Ok(match call.query("fieldValidation") {
        "Ignore" => reply,
        _ => unknown.iter().fold(reply, |reply, field| reply.header("warning", &format!("299 - {field:?}"))),
    })
}

/// Refuses, or makes the first write and answers the uid of the pod to delete; `None` upon a dry run.
fn decide(inner: &Inner, call: &Call, key: &Key, options: &Options) -> Result<Option<Value>, Reply> {
    inner.update(|state| {
        let Some(pod) = state.pods.get(key).cloned() else {
            return Err(call.reply(&answers::NOT_FOUND, &[]));
        };
        // Pods whose going disrupts nothing: no budget is asked (`canIgnorePDB` of the real server).
        let disrupts = !is_terminating(&pod) && !matches!(phase(&pod), "Succeeded" | "Failed" | "Pending");
        if disrupts {
            pdb::ask(state, &key.0, &pod, true)?;
        }
        options.check(call, &pod)?;
        if options.dry_run {
            return Ok(None);
        }
        if disrupts {
            pdb::ask(state, &key.0, &pod, false)?;
        }
        state.modify(key, add_condition);
        Ok(Some(pod["metadata"]["uid"].clone()))
    })
}

/// The condition as recorded (pod-evicted-terminating.json); one that is there already stays.
fn add_condition(pod: &mut Value) {
    let Some(status) = pod.as_object_mut().map(|pod| pod.entry("status").or_insert_with(|| json!({}))) else {
        return;
    };
    let conditions = status.as_object_mut().map(|status| status.entry("conditions").or_insert_with(|| json!([])));
    let Some(conditions) = conditions.and_then(Value::as_array_mut) else {
        return;
    };
    if conditions.iter().all(|condition| condition["type"] != "DisruptionTarget") {
        conditions.push(json!({
            "type": "DisruptionTarget", "status": "True", "lastProbeTime": null,
            "lastTransitionTime": rfc3339(seconds_now()),
            "reason": "EvictionByEvictionAPI", "message": "Eviction API: evicting",
        }));
    }
}

/// Fields that the server drops, with a warning or (Strict) with a refusal: `delete_options` is one.
fn unknown_fields(body: &Value) -> Vec<String> {
    let known = [
        ("", &["apiVersion", "kind", "metadata", "deleteOptions"][..]),
        (
            "deleteOptions",
            &[
                "apiVersion",
                "kind",
                "gracePeriodSeconds",
                "preconditions",
                "orphanDependents",
                "propagationPolicy",
                "dryRun",
                "ignoreStoreReadErrorWithClusterBreakingPotential",
            ],
        ),
        ("deleteOptions.preconditions", &["uid", "resourceVersion"]),
    ];
    let mut unknown = Vec::new();
    for (path, known) in known {
        let object = path.split('.').filter(|part| !part.is_empty()).fold(body, |value, part| &value[part]);
        let dot = if path.is_empty() { "" } else { "." };
        let keys = object.as_object().into_iter().flat_map(|fields| fields.keys());
        unknown.extend(
            keys.filter(|key| !known.contains(&key.as_str())).map(|key| format!("unknown field \"{path}{dot}{key}\"")),
        );
    }
    unknown
}
