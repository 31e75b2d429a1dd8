//! The containers of a built pod: their spec and their status.

use crate::quantity;
use serde_json::{Value, json};
use std::collections::hash_map::DefaultHasher;
use std::hash::{Hash, Hasher};

/// A container and what its status says.
#[derive(Clone, Debug)]
pub(crate) struct Container {
    pub name: String,
    pub kind: Kind,
    pub memory: Option<String>,
    /// The memory request; `None`: the template's, but no more than the limit.
    pub request: Option<String>,
    /// `restartPolicy` of its `resizePolicy` for memory.
    pub resize_policy: Option<String>,
    /// The container's own `restartPolicy`.
    pub restart_policy: Option<String>,
    pub id: Option<String>,
    pub started: bool,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Kind {
    Plain,
    Sidecar,
    Ephemeral,
}

/// How a pod's requests and limits make its QoS class.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Qos {
    Guaranteed,
    Burstable,
    BestEffort,
}

/// What of the pod its containers' specs and statuses depend on.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Lives<'a> {
    pub namespace: &'a str,
    pub pod: &'a str,
    pub phase: &'a str,
    pub mirror: bool,
    pub qos: Qos,
}

impl Container {
    pub(crate) fn new(kind: Kind, name: &str, limit: Option<&str>) -> Container {
        Container {
            name: name.to_owned(),
            kind,
            memory: limit.map(str::to_owned),
            request: None,
            resize_policy: None,
            restart_policy: None,
            id: None,
            started: true,
        }
    }

    pub(crate) fn hog() -> Container {
        Container::new(Kind::Plain, "hog", Some("128Mi"))
    }

    pub(crate) fn spec(&self, template: &Value, pod: &Lives) -> Value {
        let mut container = template.clone();
        container["name"] = self.name.as_str().into();
        container["resources"] = self.resources(&template["resources"], pod.qos);
        if self.kind == Kind::Sidecar {
            container["restartPolicy"] = "Always".into();
        }
        if let Some(policy) = &self.restart_policy {
            container["restartPolicy"] = policy.as_str().into();
        }
        if let Some(policy) = &self.resize_policy {
            container["resizePolicy"] = json!([{"resourceName": "memory", "restartPolicy": policy}]);
        }
        if let Some(fields) = container.as_object_mut().filter(|_| pod.mirror || self.kind == Kind::Ephemeral) {
            fields.remove("volumeMounts");
        }
        container
    }

    /// The container's `resources`; a container without a limit has a request only if it was given one.
    fn resources(&self, template: &Value, qos: Qos) -> Value {
        let cpu = &template["requests"]["cpu"];
        match (qos, &self.memory, &self.request) {
            (Qos::BestEffort, ..) | (_, None, None) => json!({}),
            (Qos::Guaranteed, limit, request) => {
                let both = json!({"cpu": cpu, "memory": limit.as_ref().or(request.as_ref())});
                json!({"limits": both, "requests": both})
            }
            (Qos::Burstable, None, Some(request)) => json!({"requests": {"cpu": cpu, "memory": request}}),
            (Qos::Burstable, Some(limit), request) => {
                let usual = template["requests"]["memory"].as_str().unwrap_or("");
                let usual = if quantity::bytes(usual) > quantity::bytes(limit) { limit } else { usual };
                let request = request.as_deref().unwrap_or(usual);
                json!({"limits": {"memory": limit}, "requests": {"cpu": cpu, "memory": request}})
            }
        }
    }

    pub(crate) fn status(&self, template: &Value, pod: &Lives, created: &str) -> Value {
        let mut status = template.clone();
        status["name"] = self.name.as_str().into();
        let id = self
            .id
            .clone()
            .unwrap_or_else(|| format!("containerd://{}", made_up_id(&[pod.namespace, pod.pod, &self.name])));
        let (exit_code, reason) = if pod.phase == "Succeeded" { (0, "Completed") } else { (1, "Error") };
        let over = matches!(pod.phase, "Succeeded" | "Failed");
        let waiting = !self.started || pod.phase == "Pending";
        status["containerID"] = id.as_str().into();
        status["state"] = match (waiting, over) {
            (true, _) => json!({"waiting": {"reason": "ContainerCreating"}}),
            (_, true) => {
                json!({"terminated": {"exitCode": exit_code, "reason": reason, "startedAt": created, "finishedAt": created, "containerID": id}})
            }
            _ => json!({"running": {"startedAt": created}}),
        };
        status["ready"] = (!waiting && !over).into();
        status["started"] = status["ready"].clone();
        let resources = self.resources(&template["resources"], pod.qos);
        status["allocatedResources"] = resources["requests"].clone();
        status["resources"] = resources;
        let Some(fields) = status.as_object_mut() else {
            return status;
        };
        let mut absent = Vec::new();
        if waiting {
            fields.insert("imageID".into(), "".into());
            absent.extend(["containerID", "allocatedResources", "resources"]);
        } else if fields["allocatedResources"].is_null() {
            absent.push("allocatedResources");
        }
        if self.kind == Kind::Ephemeral {
            absent.extend(["started", "volumeMounts"]);
        }
        if pod.mirror {
            absent.push("volumeMounts");
        }
        absent.iter().for_each(|key| drop(fields.remove(*key)));
        status
    }
}

/// 64 hex digits that depend on the names alone.
fn made_up_id(names: &[&str]) -> String {
    let part = |salt: u8| {
        let mut hasher = DefaultHasher::new();
        (salt, names).hash(&mut hasher);
        format!("{:016x}", hasher.finish())
    };
    (0..4).map(part).collect()
}
