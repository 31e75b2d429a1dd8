//! Strategic merge patches, as far as resizes need them: the lists of containers are merged by name.

use crate::kubelet::merge;
use serde_json::{Map, Value, json};

/// The lists of a pod's spec whose items are told apart by their names.
const BY_NAME: [&str; 3] = ["containers", "initContainers", "ephemeralContainers"];

/// `pod` with the strategic merge `patch` in it. Items that the pod does not have come first in their list, as in
/// resize-422-unknown-container.json. Directives (`$setElementOrder/containers`, which kubectl sends) are passed over.
pub(crate) fn merged(pod: &Value, patch: &Value) -> Value {
    let mut patch = without_directives(patch);
    let lists: Vec<(&str, Value)> = match patch.get_mut("spec").and_then(Value::as_object_mut) {
        Some(spec) => BY_NAME.iter().filter_map(|key| Some((*key, spec.remove(*key)?))).collect(),
        None => Vec::new(),
    };
    let mut pod = pod.clone();
    merge(&mut pod, &patch);
    for (key, items) in lists {
        let merged = merge_by_name(&pod["spec"][key], &items);
        pod["spec"][key] = merged;
    }
    pod
}

fn merge_by_name(list: &Value, patches: &Value) -> Value {
    let mut old: Vec<Value> = list.as_array().cloned().unwrap_or_default();
    let mut new = Vec::new();
    for patch in patches.as_array().into_iter().flatten() {
        match old.iter_mut().find(|item| item["name"] == patch["name"]) {
            Some(item) => merge(item, patch),
            None => {
                let mut item = json!({});
                merge(&mut item, patch);
                new.push(item);
            }
        }
    }
    new.extend(old);
    new.into()
}

fn without_directives(patch: &Value) -> Value {
    match patch {
        Value::Object(fields) => {
            let kept = fields.iter().filter(|(key, _)| !key.starts_with('$'));
            Value::Object(kept.map(|(key, value)| (key.clone(), without_directives(value))).collect::<Map<_, _>>())
        }
        Value::Array(items) => items.iter().map(without_directives).collect(),
        other => other.clone(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn containers_are_merged_by_name() {
        let pod = json!({"spec": {"containers": [{"name": "a", "image": "x", "resources": {"limits": {"memory": "1Mi"}}}, {"name": "b"}]}});
        let patch = json!({"spec": {
            "$setElementOrder/containers": [{"name": "c"}, {"name": "a"}],
            "containers": [{"name": "a", "resources": {"limits": {"memory": "2Mi"}}}, {"name": "c"}],
        }});
        let expected = json!({"spec": {"containers": [
            {"name": "c"},
            {"name": "a", "image": "x", "resources": {"limits": {"memory": "2Mi"}}},
            {"name": "b"},
        ]}});
        assert_eq!(merged(&pod, &patch), expected);
    }
}
