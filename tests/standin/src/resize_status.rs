//! What a pod's status says of its resizes: two conditions, and the resources that are in force.

use crate::clock::{rfc3339, seconds_now};
use crate::quantity;
use crate::resize_plan::{Change, Plan};
use crate::resize_rules::{items, sum};
use serde_json::{Map, Value, json};

pub(crate) const PENDING: &str = "PodResizePending";
pub(crate) const IN_PROGRESS: &str = "PodResizeInProgress";

/// The condition of this type, if the kubelet has written it for the pod's present generation.
pub(crate) fn condition<'a>(pod: &'a Value, kind: &str) -> Option<&'a Value> {
    let mut all = pod["status"]["conditions"].as_array().into_iter().flatten();
    all.find(|one| one["type"] == kind && one["observedGeneration"] == pod["metadata"]["generation"])
}

/// The kubelet has seen this generation of the pod.
fn observe(pod: &mut Value, generation: &Value) {
    let Some(status) = pod.get_mut("status").filter(|status| status.is_object()) else {
        return;
    };
    status["observedGeneration"] = generation.clone();
    for condition in status.get_mut("conditions").and_then(Value::as_array_mut).into_iter().flatten() {
        condition["observedGeneration"] = generation.clone();
    }
}

/// Sets one of the two conditions, before all others as the kubelet does, and takes the other one away.
pub(crate) fn set(pod: &mut Value, generation: &Value, kind: &str, why: Option<(&str, &str)>) {
    let now = rfc3339(seconds_now());
    let conditions = pod["status"]["conditions"].as_array().into_iter().flatten();
    let since = conditions.filter(|one| one["type"] == kind).map(|one| one["lastTransitionTime"].clone()).next();
    let mut condition = json!({
        "type": kind, "status": "True", "lastProbeTime": now, "lastTransitionTime": since.unwrap_or(now.as_str().into()),
    });
    if let Some((reason, message)) = why {
        condition["reason"] = reason.into();
        condition["message"] = message.into();
    }
    clear(pod);
    let conditions = &mut pod["status"]["conditions"];
    match conditions.as_array_mut() {
        Some(all) => all.insert(0, condition),
        None => *conditions = json!([condition]),
    }
    observe(pod, generation);
}

/// Whether the pod has one of the two conditions.
pub(crate) fn is_resizing(pod: &Value) -> bool {
    pod["status"]["conditions"].as_array().into_iter().flatten().any(is_ours)
}

/// Takes both conditions away.
pub(crate) fn clear(pod: &mut Value) {
    let status = pod.get_mut("status").and_then(|status| status.get_mut("conditions"));
    if let Some(all) = status.and_then(Value::as_array_mut) {
        all.retain(|one| !is_ours(one));
    }
}

fn is_ours(condition: &Value) -> bool {
    condition["type"] == PENDING || condition["type"] == IN_PROGRESS
}

/// Those that the plan has changed are in force: their resources, the pod's sums, and no condition any more.
pub(crate) fn done(pod: &mut Value, plan: &Plan) {
    observe(pod, &plan.generation);
    clear(pod);
    plan.changes.iter().for_each(|change| in_force(pod, change));
    totals(pod, plan.pod.as_ref().map(|(own, _)| own));
}

/// The resize is under way: the requests are allocated already (watch-resize-deferred.json).
pub(crate) fn begun(pod: &mut Value, plan: &Plan) {
    set(pod, &plan.generation, IN_PROGRESS, None);
    plan.changes.iter().for_each(|change| allocate(pod, change));
    let allocated = allocated(pod);
    if let Some(allocated) = allocated {
        pod["status"]["allocatedResources"]["memory"] = allocated.into();
    }
}

/// The container's status has the new resources.
pub(crate) fn in_force(pod: &mut Value, change: &Change) {
    if let Some(status) = status_of(pod, change) {
        status.insert("resources".into(), change.resources.clone());
    }
    allocate(pod, change);
}

fn allocate(pod: &mut Value, change: &Change) {
    let Some(status) = status_of(pod, change) else {
        return;
    };
    match &change.resources["requests"] {
        Value::Null => drop(status.remove("allocatedResources")),
        requests => drop(status.insert("allocatedResources".into(), requests.clone())),
    }
}

/// The statuses of the containers that run.
fn running(pod: &Value) -> Vec<&Value> {
    let lists = ["containerStatuses", "initContainerStatuses"];
    let all = lists.into_iter().flat_map(|list| items(&pod["status"], list));
    all.filter(|one| one["state"]["running"].is_object()).collect()
}

/// The memory that is allocated to the containers, if to any.
fn allocated(pod: &Value) -> Option<String> {
    let all: Vec<u64> =
        running(pod).into_iter().filter_map(|one| quantity::bytes_of(&one["allocatedResources"]["memory"])).collect();
    (!all.is_empty()).then(|| quantity::binary(all.iter().sum()))
}

/// The status of the container that is changed.
pub(crate) fn status_of<'a>(pod: &'a mut Value, change: &Change) -> Option<&'a mut Map<String, Value>> {
    let all = pod["status"].get_mut(change.statuses)?.as_array_mut()?;
    all.iter_mut().find(|status| status["name"] == change.name.as_str())?.as_object_mut()
}

/// `status.resources` and `status.allocatedResources`: the pod's own, or the sums of what its containers have.
pub(crate) fn totals(pod: &mut Value, own: Option<&Value>) {
    let all = running(pod);
    let limited = all.iter().all(|one| !one["resources"]["limits"]["memory"].is_null());
    let requested = all.iter().any(|one| !one["resources"]["requests"]["memory"].is_null());
    // As a spec, for the sums.
    let statuses = json!({"containers": all});
    let kinds = [("limits", limited), ("requests", requested)].into_iter().filter(|(_, some)| *some);
    let sums: Vec<_> = kinds.map(|(kind, _)| (kind, quantity::binary(sum(&statuses, kind)))).collect();
    let allocated = allocated(pod);
    let Some(status) = pod.get_mut("status").filter(|status| status.is_object()) else {
        return;
    };
    match own {
        Some(own) => {
            for (kind, values) in own.as_object().into_iter().flatten() {
                status["resources"][kind] = values.clone();
            }
        }
        None => sums.into_iter().for_each(|(kind, sum)| status["resources"][kind]["memory"] = sum.into()),
    }
    if let Some(allocated) = allocated {
        status["allocatedResources"]["memory"] = allocated.into();
    }
}
