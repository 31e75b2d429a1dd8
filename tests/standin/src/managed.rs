//! `managedFields`: who changed a pod's resources last.

use crate::clock::{rfc3339, seconds_now};
use crate::quantity;
use crate::resize_rules::{LISTS, items};
use crate::route::Call;
use serde_json::{Value, json};

impl Call {
    /// Who the server thinks has sent it: the `fieldManager` of the query, else the user agent's first part.
    pub(crate) fn field_manager(&self) -> &str {
        let agent = self.user_agent.split('/').next().unwrap_or("");
        [self.query("fieldManager"), agent].into_iter().find(|name| !name.is_empty()).unwrap_or("unknown")
    }
}

/// The path of a quantity in `fieldsV1`.
type Field = [String; 6];

/// Makes `manager` the owner of what the resize changed; others own it no longer (pod-resize-error.json).
pub(crate) fn note_resize(pod: &mut Value, old: &Value, manager: &str) {
    let fields = changed(&old["spec"], &pod["spec"]);
    let metadata = &mut pod["metadata"];
    if !metadata["managedFields"].is_array() {
        metadata["managedFields"] = json!([]);
    }
    let Some(entries) = metadata["managedFields"].as_array_mut() else {
        return;
    };
    let own = |entry: &Value| {
        entry["manager"] == manager && entry["operation"] == "Update" && entry["subresource"] == "resize"
    };
    for entry in entries.iter_mut().filter(|entry| !own(entry)) {
        fields.iter().for_each(|field| disown(&mut entry["fieldsV1"], field));
    }
    if !entries.iter().any(own) {
        entries.push(json!({
            "manager": manager, "operation": "Update", "apiVersion": "v1", "time": null, "fieldsType": "FieldsV1",
            "fieldsV1": {}, "subresource": "resize",
        }));
    }
    for entry in entries.iter_mut().filter(|entry| own(entry)) {
        entry["time"] = rfc3339(seconds_now()).into();
        for field in &fields {
            field.iter().fold(&mut entry["fieldsV1"], |at, key| {
                if at[key].is_null() {
                    at[key] = json!({});
                }
                &mut at[key]
            });
        }
    }
}

fn disown(fields: &mut Value, [parents @ .., leaf]: &Field) {
    let parent = parents.iter().try_fold(fields, |at, key| at.get_mut(key));
    if let Some(parent) = parent.and_then(Value::as_object_mut) {
        parent.remove(leaf);
    }
}

/// The containers' quantities that are new or other than they were.
fn changed(old: &Value, new: &Value) -> Vec<Field> {
    let mut fields = Vec::new();
    for list in LISTS {
        for (old, new) in items(old, list).iter().zip(items(new, list)) {
            for kind in ["limits", "requests"] {
                let after = new["resources"][kind].as_object().into_iter().flatten();
                let other = after.filter(|(name, value)| !quantity::same(&old["resources"][kind][*name], value));
                fields.extend(other.map(|(name, _)| {
                    let key = format!("k:{}", json!({"name": new["name"]}));
                    let kind = format!("f:{kind}");
                    ["f:spec".into(), format!("f:{list}"), key, "f:resources".into(), kind, format!("f:{name}")]
                }));
            }
        }
    }
    fields
}
