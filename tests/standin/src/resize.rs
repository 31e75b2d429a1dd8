//! The resize subresource, its checks in the order of the real server (1.36.3).
//!
//! 200 means *stored*, not done: `kubelet_resize.rs` does it, if a test has asked for that. Strategic merge patches and
//! merge patches are understood; a real server takes JSON patches and server-side apply too.

use crate::admission;
use crate::answers;
use crate::kubelet::merge;
use crate::kubelet_resize;
use crate::managed;
use crate::pods::PATCHES;
use crate::quantity;
use crate::reply::Reply;
use crate::resize_rules::{self as rules, LISTS};
use crate::route::Call;
use crate::state::{Inner, Key, State};
use crate::strategic;
use crate::who::Who;
use serde_json::{Value, json};
use std::sync::Arc;

const STRATEGIC: &str = "application/strategic-merge-patch+json";
/// Fields of a container's `resources`; the server drops others with a warning.
const RESOURCES: [&str; 3] = ["limits", "requests", "claims"];

pub(crate) async fn patch(inner: &Arc<Inner>, call: &Call, who: &Who) -> Result<Reply, Reply> {
    let media = call.content_type.split(';').next().unwrap_or("").trim();
    if !PATCHES.contains(&media) {
        return Err(call.reply(&answers::RESIZE_MEDIA_TYPE, &[]));
    }
    let dry_run = call.dry_run("PatchOptions")?;
    let key: Key = (call.about.namespace.clone(), call.about.name.clone());
    let answer = inner.update(|state| {
        let decided = decide(state, call, who, &key, media)?;
        let stored = match decided.changed && !dry_run {
            true => state.write(&key, Some(decided.pod.clone())),
            false => None,
        };
        let reply = Reply::json(200, stored.as_ref().map_or(decided.pod, |pod| Value::clone(pod)));
        Ok((decided.warnings.iter().fold(reply, |reply, text| reply.header("warning", text)), stored))
    });
    let (reply, stored) = answer?;
    if let Some(pod) = stored {
        kubelet_resize::start(inner, key, &pod, call.at);
    }
    let delay = inner.read(|state| state.answer_delay);
    if !delay.is_zero() {
        tokio::time::sleep(delay).await;
    }
    Ok(reply)
}

struct Decided {
    pod: Value,
    changed: bool,
    warnings: Vec<String>,
}

/// Refuses, or answers the pod as it is to be.
fn decide(state: &State, call: &Call, who: &Who, key: &Key, media: &str) -> Result<Decided, Reply> {
    let Some(old) = state.pods.get(key) else {
        return Err(call.reply(&answers::NOT_FOUND, &[]));
    };
    let patch: Value = serde_json::from_slice(&call.body).map_err(|error| {
        let error = if error.is_eof() { "unexpected end of JSON input".to_owned() } else { error.to_string() };
        call.reply(&answers::RESIZE_NOT_JSON, &[("error", &error)])
    })?;
    let merged = match media {
        STRATEGIC => strategic::merged(old, &patch),
        _ => {
            let mut pod = Value::clone(old);
            merge(&mut pod, &patch);
            pod
        }
    };
    rules::quantities(&patch, &merged)?;
    let (given, found) = (&patch["metadata"]["resourceVersion"], &old["metadata"]["resourceVersion"]);
    if given.is_string() && given != found {
        return Err(call.reply(&answers::RESIZE_CONFLICT, &[]));
    }
    let mut pod = only_resources(old, &merged);
    set_defaults(&mut pod["spec"]);
    rules::check(old, &pod, &merged["metadata"]["uid"])?;
    capacity(state, call, &pod)?;
    admission::own_node_resize_policy(state, call, who, old, &pod)?;
    let warnings = unknown_fields(&merged);
    if rules::same_resources(&old["spec"], &pod["spec"]) {
        return Ok(Decided { pod: Value::clone(old), changed: false, warnings });
    }
    let generation = old["metadata"]["generation"].as_i64().unwrap_or(1);
    pod["metadata"]["generation"] = (generation + 1).into();
    managed::note_resize(&mut pod, old, call.field_manager());
    Ok(Decided { pod, changed: true, warnings })
}

/// The old pod with the resources (and resize policies, for the rules to refuse) of the new one: the server drops
/// everything else. Containers that were added stay, for the rules to refuse them.
fn only_resources(old: &Value, merged: &Value) -> Value {
    let mut pod = old.clone();
    for list in LISTS {
        let Some(items) = merged["spec"][list].as_array() else {
            continue;
        };
        let before = rules::items(&old["spec"], list);
        let after: Vec<Value> = items.iter().map(|item| kept(before, item)).collect();
        pod["spec"][list] = after.into();
    }
    copy(&mut pod["spec"], &merged["spec"], "resources");
    pod
}

fn kept(before: &[Value], item: &Value) -> Value {
    let Some(mut container) = before.iter().find(|container| container["name"] == item["name"]).cloned() else {
        return item.clone();
    };
    copy(&mut container, item, "resources");
    copy(&mut container, item, "resizePolicy");
    if let Some(resources) = container.get_mut("resources").and_then(Value::as_object_mut) {
        resources.retain(|key, _| RESOURCES.contains(&key.as_str()));
    }
    container
}

/// Sets a field as it is in `from`: absent, if it is so there.
fn copy(to: &mut Value, from: &Value, key: &str) {
    let Some(fields) = to.as_object_mut() else {
        return;
    };
    match from.get(key) {
        Some(value) => drop(fields.insert(key.to_owned(), value.clone())),
        None => drop(fields.remove(key)),
    }
}

/// What the server fills in: a request that is absent is the limit; the pod's own is the sum of its containers'.
fn set_defaults(spec: &mut Value) {
    for list in LISTS {
        for container in spec.get_mut(list).and_then(Value::as_array_mut).into_iter().flatten() {
            container.get_mut("resources").into_iter().for_each(requests_from_limits);
        }
    }
    let limited = spec["resources"]["limits"]["memory"].is_string();
    if limited && spec["resources"]["requests"]["memory"].is_null() {
        match rules::sum(spec, "requests") {
            0 => requests_from_limits(&mut spec["resources"]),
            sum => spec["resources"]["requests"]["memory"] = quantity::binary(sum).into(),
        }
    }
}

fn requests_from_limits(resources: &mut Value) {
    let limits = resources["limits"].as_object().cloned().unwrap_or_default();
    for (resource, limit) in limits {
        if resources["requests"][&resource].is_null() {
            resources["requests"][&resource] = limit;
        }
    }
    if let Some(fields) = resources.as_object_mut() {
        fields.retain(|_, value| *value != json!({}));
    }
}

/// 403 if the pod requests more than its node could ever give; limits are not looked at (resize-200-limit-beyond-node.json).
fn capacity(state: &State, call: &Call, pod: &Value) -> Result<(), Reply> {
    let node = pod["spec"]["nodeName"].as_str().unwrap_or("");
    let Some(allocatable) = state.resizing.allocatable.get(node).copied() else {
        return Ok(());
    };
    let own = quantity::bytes_of(&pod["spec"]["resources"]["requests"]["memory"]);
    let requested = own.unwrap_or_else(|| rules::sum(&pod["spec"], "requests"));
    if requested <= allocatable {
        return Ok(());
    }
    let vars = [("requested", requested.to_string()), ("allocatable", allocatable.to_string())];
    Err(call.reply(&answers::NODE_CAPACITY, &vars.each_ref().map(|(key, value)| (*key, value.as_str()))))
}

/// Warnings of fields that the server does not know, of `resources` alone.
fn unknown_fields(merged: &Value) -> Vec<String> {
    let mut warnings = Vec::new();
    for list in LISTS {
        for (index, container) in rules::items(&merged["spec"], list).iter().enumerate() {
            let keys = container["resources"].as_object().into_iter().flat_map(|fields| fields.keys());
            let unknown = keys.filter(|key| !RESOURCES.contains(&key.as_str()));
            warnings.extend(
                unknown.map(|key| {
                    format!("299 - {:?}", format!("unknown field \"spec.{list}[{index}].resources.{key}\""))
                }),
            );
        }
    }
    warnings
}
