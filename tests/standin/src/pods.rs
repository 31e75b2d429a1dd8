//! Single pods: create, get, patch, delete.

use crate::admission;
use crate::answers;
use crate::deletion::{self, Options};
use crate::kubelet::merge;
use crate::list;
use crate::reply::Reply;
use crate::route::{Call, JSON};
use crate::state::{Inner, Key};
use crate::who::Who;
use serde_json::{Value, json};
use std::sync::Arc;

/// Media types of patches that are understood; a strategic merge is treated as a plain one.
pub(crate) const PATCHES: &[&str] = &["application/merge-patch+json", "application/strategic-merge-patch+json"];

fn key(call: &Call) -> Key {
    (call.about.namespace.clone(), call.about.name.clone())
}

fn find(inner: &Inner, call: &Call) -> Result<Arc<Value>, Reply> {
    inner.read(|state| state.pods.get(&key(call)).cloned()).ok_or_else(|| call.reply(&answers::NOT_FOUND, &[]))
}

pub(crate) fn get(inner: &Inner, call: &Call) -> Result<Reply, Reply> {
    let pod = find(inner, call)?;
    Ok(Reply::json(200, if list::metadata_only(call) { list::partial_metadata(&pod) } else { Value::clone(&pod) }))
}

/// The name of a new object: its own, or `generateName` with five letters.
pub(crate) fn new_name(inner: &Inner, object: &Value) -> String {
    let metadata = &object["metadata"];
    match (metadata["name"].as_str(), metadata["generateName"].as_str()) {
        (Some(name), _) if !name.is_empty() => name.to_owned(),
        (_, prefix) => {
            const LETTERS: &[u8] = b"bcdfghjklmnpqrstvwxz2456789";
            let mut id = inner.update(super::state::State::next_id);
            let mut name = prefix.unwrap_or("").to_owned();
            for _ in 0..5 {
                let index = usize::try_from(id % LETTERS.len() as u64).unwrap_or(0);
                name.push(char::from(LETTERS[index]));
                id /= LETTERS.len() as u64;
            }
            name
        }
    }
}

pub(crate) fn create(inner: &Inner, call: &Call) -> Result<Reply, Reply> {
    let dry_run = call.dry_run("CreateOptions")?;
    let mut pod = call.object("Pod", "core", JSON)?;
    let name = new_name(inner, &pod);
    check_namespace(inner, call, &pod)?;
    let key = (call.about.namespace.clone(), name);
    if inner.read(|state| state.pods.contains_key(&key)) {
        return Err(call.reply(&answers::ALREADY_EXISTS, &[("name", &key.1)]));
    }
    let defaults =
        json!({"kind": "Pod", "apiVersion": "v1", "metadata": {"name": key.1, "namespace": key.0, "generation": 1}});
    merge(&mut pod, &defaults);
    if pod["status"]["phase"].is_null() {
        merge(&mut pod, &json!({"status": {"phase": "Pending"}}));
    }
    inner.update(|state| {
        state.fill_in(&mut pod);
        if dry_run {
            return Ok(Reply::json(201, pod));
        }
        let stored = state.write(&key, Some(pod)).map(|pod| Value::clone(&pod));
        Ok(Reply::json(201, stored.unwrap_or_default()))
    })
}

/// 400 if the object is for another namespace, 404 and 403 as [`Call::namespace_lives`].
pub(crate) fn check_namespace(inner: &Inner, call: &Call, object: &Value) -> Result<(), Reply> {
    let given = object["metadata"]["namespace"].as_str().unwrap_or("");
    if !given.is_empty() && given != call.about.namespace {
        return Err(call.reply(&answers::NAMESPACE_MISMATCH, &[]));
    }
    call.namespace_lives(inner)
}

/// Takes back what a patch must not change: these keys of the metadata are as before.
pub(crate) fn keep(object: &mut Value, before: &Value, keys: &[&str]) {
    if !object["metadata"].is_object() {
        merge(object, &json!({"metadata": {}}));
    }
    if let Some(metadata) = object.get_mut("metadata").and_then(Value::as_object_mut) {
        metadata.extend(keys.iter().filter_map(|key| before.get(*key).map(|value| ((*key).to_owned(), value.clone()))));
    }
}

pub(crate) fn patch(inner: &Inner, call: &Call) -> Result<Reply, Reply> {
    find(inner, call)?;
    let dry_run = call.dry_run("PatchOptions")?;
    let patch = call.object("Pod", "core", PATCHES)?;
    let apply = |pod: &mut Value| {
        let fixed = pod["metadata"].clone();
        merge(pod, &patch);
        keep(pod, &fixed, &["name", "namespace", "uid", "resourceVersion", "creationTimestamp"]);
    };
    if dry_run {
        let mut pod = Value::clone(&*find(inner, call)?);
        apply(&mut pod);
        return Ok(Reply::json(200, pod));
    }
    let patched = inner.update(|state| state.modify(&key(call), apply));
    patched.map(|pod| Reply::json(200, Value::clone(&pod))).ok_or_else(|| call.reply(&answers::NOT_FOUND, &[]))
}

/// Answers the pod as it is after the first write; no budget is asked.
pub(crate) fn delete(inner: &Arc<Inner>, call: &Call, who: &Who) -> Result<Reply, Reply> {
    let body = call.object("DeleteOptions", "meta", JSON)?;
    admission::node_restriction(inner, call, who, "delete")?;
    let pod = find(inner, call)?;
    let mut options = Options::parse(call, &body)?;
    // The query is read where there is no body, and there alone (seen on a real 1.36.2).
    if body.is_null() {
        options = options.with_query(call)?;
    }
    options.check(call, &pod)?;
    admission::own_node_delete_policy(inner, call, who, &pod)?;
    if !options.dry_run {
        deletion::start(inner, &key(call), &pod["metadata"]["uid"], &options, call.at);
    }
    let after = inner.read(|state| state.pods.get(&key(call)).cloned()).unwrap_or(pod);
    Ok(Reply::json(200, Value::clone(&after)))
}
