//! What a resize may change: the validation of the real server, its words and its order.

use crate::quantity;
use crate::reply::Reply;
use serde_json::{Value, json};

/// The containers that can be resized; ephemeral ones cannot.
pub(crate) const LISTS: [&str; 2] = ["containers", "initContainers"];
const KINDS: [&str; 2] = ["limits", "requests"];
/// The resources that a resize may change.
const RESIZABLE: [&str; 2] = ["cpu", "memory"];

/// Reason, message, field.
type Cause = [String; 3];

fn forbidden(field: &str, detail: &str) -> Cause {
    ["FieldValueForbidden".into(), format!("Forbidden: {detail}"), field.into()]
}

fn invalid(field: &str, value: &Value, detail: &str) -> Cause {
    let value = value.as_str().unwrap_or_default();
    ["FieldValueInvalid".into(), format!("Invalid value: {value:?}: {detail}"), field.into()]
}

/// The items of a list of the spec; none if it is absent.
pub(crate) fn items<'a>(spec: &'a Value, list: &str) -> &'a [Value] {
    spec[list].as_array().map_or(&[], Vec::as_slice)
}

/// The sum of the containers' (and native sidecars') memory `limits` or `requests`, in bytes.
pub(crate) fn sum(spec: &Value, kind: &str) -> u64 {
    let sidecars = items(spec, "initContainers").iter().filter(|container| container["restartPolicy"] == "Always");
    let all = items(spec, "containers").iter().chain(sidecars);
    all.filter_map(|container| quantity::bytes_of(&container["resources"][kind]["memory"])).sum()
}

/// Whether two specs have the same resources, however written.
pub(crate) fn same_resources(old: &Value, new: &Value) -> bool {
    let all = LISTS.iter().all(|list| {
        let pairs = items(old, list).iter().zip(items(new, list));
        pairs.into_iter().all(|(old, new)| same(&old["resources"], &new["resources"]))
    });
    all && same(&old["resources"], &new["resources"])
}

/// Whether two `resources` are the same, however written.
pub(crate) fn same(old: &Value, new: &Value) -> bool {
    KINDS.iter().all(|kind| {
        resources(old, kind).chain(resources(new, kind)).all(|name| quantity::same(&old[kind][name], &new[kind][name]))
    })
}

/// The names of the resources that have a limit, or a request.
fn resources<'a>(of: &'a Value, kind: &str) -> impl Iterator<Item = &'a str> {
    of[kind].as_object().into_iter().flatten().map(|(name, _)| name.as_str())
}

/// 422 if something that should be a quantity is none; it comes before all other checks of the patch.
pub(crate) fn quantities(patch: &Value, merged: &Value) -> Result<(), Reply> {
    let spec = &merged["spec"];
    let containers = LISTS.iter().flat_map(|list| items(spec, list)).map(|container| &container["resources"]);
    let mut values = containers.chain([&spec["resources"]]).flat_map(|resources| {
        KINDS.iter().filter_map(|kind| resources[kind].as_object()).flat_map(|map| map.values()).collect::<Vec<_>>()
    });
    if values.all(|value| value.is_number() || value.as_str().is_some_and(|text| quantity::nano(text).is_some())) {
        return Ok(());
    }
    let detail = "quantities must match the regular expression '^([+-]?[0-9.]+)([eEinumkKMGTP]*[-+]?[0-9]*)$'";
    let cause = invalid("patch", &as_go_prints(patch).into(), detail);
    let message = format!(" \"\" is invalid: patch: {}", cause[1]);
    Err(refuse(&message, None, &[cause]))
}

/// A map as Go's `%v` has it: the message of resize-422-quantity.json quotes the patch so.
fn as_go_prints(value: &Value) -> String {
    match value {
        Value::Object(fields) => {
            let mut all: Vec<_> = fields.iter().map(|(key, value)| format!("{key}:{}", as_go_prints(value))).collect();
            all.sort();
            format!("map[{}]", all.join(" "))
        }
        Value::Array(items) => format!("[{}]", items.iter().map(as_go_prints).collect::<Vec<_>>().join(" ")),
        Value::String(text) => text.clone(),
        Value::Null => "<nil>".into(),
        other => other.to_string(),
    }
}

/// 422 with all that is wrong with the change from `old` to `new`; `uid` is the one that the patch gives.
pub(crate) fn check(old: &Value, new: &Value, uid: &Value) -> Result<(), Reply> {
    let name = old["metadata"]["name"].as_str().unwrap_or("");
    let causes = if old["metadata"]["annotations"]["kubernetes.io/config.mirror"].is_string() {
        // A path without parts is printed so.
        vec![forbidden("[]", "static pods cannot be resized")]
    } else {
        causes(old, new, uid)
    };
    if causes.is_empty() {
        return Ok(());
    }
    let mut texts: Vec<String> = causes.iter().map(|[_, message, field]| format!("{field}: {message}")).collect();
    texts.dedup();
    let text = if texts.len() == 1 { texts.concat() } else { format!("[{}]", texts.join(", ")) };
    Err(refuse(&format!("Pod \"{name}\" is invalid: {text}"), Some(name), &causes))
}

fn causes(old: &Value, new: &Value, uid: &Value) -> Vec<Cause> {
    let mut causes = Vec::new();
    if *uid != old["metadata"]["uid"] {
        // Two validations find it, and both say so (resize-422-uid.json).
        causes.extend([(); 2].map(|()| invalid("metadata.uid", uid, "field is immutable")));
    }
    let (before, after) = (&old["spec"], &new["spec"]);
    containers(after, &mut causes);
    pod_level(after, &mut causes);
    let class = qos(before);
    if class != qos(after) {
        let detail = "Pod QOS Class may not change as a result of resizing";
        causes.push(invalid("spec", &class.into(), detail));
    }
    let names = |spec, list| items(spec, list).iter().map(|container| container["name"].clone()).collect::<Vec<_>>();
    let changed: Vec<_> = LISTS.iter().filter(|list| names(before, list) != names(after, list)).collect();
    if !changed.is_empty() {
        let detail = "containers may not be added or removed on resize";
        causes.extend(changed.iter().map(|list| forbidden(&format!("spec.{list}"), detail)));
        return causes;
    }
    removed(before, after, &mut causes);
    if LISTS.iter().any(|list| items(before, list).iter().zip(items(after, list)).any(|pair| differs(pair.0, pair.1))) {
        causes.push(forbidden("spec", "only cpu and memory resources are mutable"));
    }
    causes
}

/// Each container by itself: complete, of a name of its own, its requests within its limits.
fn containers(spec: &Value, causes: &mut Vec<Cause>) {
    let mut seen: Vec<&Value> = Vec::new();
    for list in ["containers", "initContainers", "ephemeralContainers"] {
        for (index, container) in items(spec, list).iter().enumerate() {
            let field = |rest: &str| format!("spec.{list}[{index}].{rest}");
            if container["image"].is_null() {
                causes.push(["FieldValueRequired".into(), "Required value".into(), field("image")]);
            }
            let name = &container["name"];
            if seen.contains(&name) {
                causes.push(["FieldValueDuplicate".into(), format!("Duplicate value: {name}"), field("name")]);
            }
            seen.push(name);
            let resources = &container["resources"];
            for (resource, limit) in resources["limits"].as_object().into_iter().flatten() {
                let request = &resources["requests"][resource];
                if nano(request) > nano(limit) {
                    let detail =
                        format!("must be less than or equal to {resource} limit of {}", limit.as_str().unwrap_or(""));
                    causes.push(invalid(&field("resources.requests"), request, &detail));
                }
            }
        }
    }
}

fn nano(value: &Value) -> Option<i128> {
    quantity::nano(value.as_str().unwrap_or(""))
}

/// Containers' memory within the pod's own.
fn pod_level(spec: &Value, causes: &mut Vec<Cause>) {
    let (limit, request) = (&spec["resources"]["limits"]["memory"], &spec["resources"]["requests"]["memory"]);
    let aggregate = sum(spec, "requests");
    if quantity::bytes_of(request).is_some_and(|request| aggregate > request) {
        let aggregate = quantity::binary(aggregate);
        let detail = format!("must be greater than or equal to aggregate container requests of {aggregate}");
        causes.push(invalid("spec.resources.requests[memory]", request, &detail));
    }
    for (index, container) in items(spec, "containers").iter().enumerate() {
        let own = &container["resources"]["limits"]["memory"];
        if nano(limit).is_some_and(|limit| nano(own) > Some(limit)) {
            let detail = format!("must be less than or equal to pod limits of {}", limit.as_str().unwrap_or(""));
            causes.push(invalid(&format!("spec.resources.containers[{index}][memory].limits"), own, &detail));
        }
    }
}

/// Limits and requests that are no more.
fn removed(before: &Value, after: &Value, causes: &mut Vec<Cause>) {
    for list in LISTS {
        for (index, (old, new)) in items(before, list).iter().zip(items(after, list)).enumerate() {
            for kind in KINDS {
                let gone = |name: &&str| RESIZABLE.contains(name) && new["resources"][kind][*name].is_null();
                if resources(&old["resources"], kind).any(|name| gone(&name)) {
                    let detail = format!("resource {kind} cannot be removed");
                    causes.push(forbidden(&format!("spec.{list}[{index}].resources.{kind}"), &detail));
                }
            }
        }
    }
}

/// Whether two containers differ in anything but cpu and memory.
fn differs(old: &Value, new: &Value) -> bool {
    let fixed = |name: &&str| !RESIZABLE.contains(name);
    let other = KINDS.iter().any(|kind| {
        let names = resources(&old["resources"], kind).chain(resources(&new["resources"], kind));
        names.filter(fixed).any(|name| old["resources"][kind][name] != new["resources"][kind][name])
    });
    other || old["resizePolicy"] != new["resizePolicy"]
}

/// The QoS class that the requests and limits make; of the pod itself, where it has any.
fn qos(spec: &Value) -> &'static str {
    let own = &spec["resources"];
    let all: Vec<&Value> = match own.as_object().is_some_and(|own| !own.is_empty()) {
        true => vec![own],
        false => LISTS.iter().flat_map(|list| items(spec, list)).map(|container| &container["resources"]).collect(),
    };
    let some = |value: &Value| nano(value).is_some_and(|number| number > 0);
    let guaranteed = |of: &&Value| {
        let pair = |name: &str| (&of["limits"][name], &of["requests"][name]);
        RESIZABLE.iter().map(|name| pair(name)).all(|(limit, request)| some(limit) && quantity::same(limit, request))
    };
    let any = |of: &&Value| KINDS.iter().any(|kind| RESIZABLE.iter().any(|name| some(&of[kind][name])));
    if !all.iter().any(any) {
        "BestEffort"
    } else if all.iter().all(guaranteed) {
        "Guaranteed"
    } else {
        "Burstable"
    }
}

/// 422 with these causes. It is about `name`, or about nothing.
fn refuse(message: &str, name: Option<&str>, causes: &[Cause]) -> Reply {
    let causes: Vec<Value> = causes
        .iter()
        .map(|[reason, message, field]| json!({"reason": reason, "message": message, "field": field}))
        .collect();
    let details = match name {
        Some(name) => json!({"name": name, "kind": "Pod", "causes": causes}),
        None => json!({"causes": causes}),
    };
    Reply::json(
        422,
        json!({"kind": "Status", "apiVersion": "v1", "metadata": {}, "status": "Failure", "message": message,
            "reason": "Invalid", "details": details, "code": 422}),
    )
}
