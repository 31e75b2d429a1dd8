//! Pods shaped like real ones.
//!
//! The base is `pod.json`: the recorded pod-deployment.json of Kubernetes 1.36.2, unchanged.

use crate::clock::{rfc3339, seconds_now};
use crate::container::{Container, Kind, Lives, Qos};
use serde_json::{Value, json};
use std::time::Duration;

/// Builds a pod; see [`pod`].
#[derive(Clone, Debug)]
pub struct PodBuilder {
    namespace: String,
    name: String,
    uid: Option<String>,
    node: String,
    labels: Vec<(String, String)>,
    annotations: Vec<(String, String)>,
    owner: Option<(String, String)>,
    phase: String,
    restart_policy: String,
    grace: Option<i64>,
    age: Duration,
    config_hash: Option<String>,
    pod_limit: Option<String>,
    qos: Qos,
    host_network: bool,
    pod_ip: Option<String>,
    managed_fields: Vec<Value>,
    containers: Vec<Container>,
}

/// A pod of a ReplicaSet, Running for hours on `node-host`, with the opt-in label `pre-oom-killer: enabled`
/// and, unless [`container`](PodBuilder::container) is used, one container `hog` with a limit of 128Mi.
/// Its uid is filled in by [`put_pod`](crate::Standin::put_pod) unless set.
pub fn pod(namespace: &str, name: &str) -> PodBuilder {
    PodBuilder {
        namespace: namespace.to_owned(),
        name: name.to_owned(),
        uid: None,
        node: "node-host".into(),
        labels: vec![("pre-oom-killer".into(), "enabled".into())],
        annotations: Vec::new(),
        owner: Some(("ReplicaSet".into(), format!("{name}-rs"))),
        phase: "Running".into(),
        restart_policy: "Always".into(),
        grace: Some(30),
        age: Duration::from_secs(5 * 3600),
        config_hash: None,
        pod_limit: None,
        qos: Qos::Burstable,
        host_network: false,
        pod_ip: None,
        managed_fields: Vec::new(),
        containers: Vec::new(),
    }
}

impl PodBuilder {
    /// `metadata.uid`.
    pub fn uid(mut self, uid: &str) -> Self {
        self.uid = Some(uid.to_owned());
        self
    }

    /// `spec.nodeName`; empty = not scheduled.
    pub fn node(mut self, node: &str) -> Self {
        self.node = node.to_owned();
        self
    }

    /// Without the opt-in label.
    pub fn unlabelled(mut self) -> Self {
        self.labels.retain(|(key, _)| key != "pre-oom-killer");
        self
    }

    /// Sets a label.
    pub fn label(mut self, key: &str, value: &str) -> Self {
        self.labels.push((key.to_owned(), value.to_owned()));
        self
    }

    /// Sets an annotation.
    pub fn annotation(mut self, key: &str, value: &str) -> Self {
        self.annotations.push((key.to_owned(), value.to_owned()));
        self
    }

    /// The controller that owns the pod (`StatefulSet`, `db`).
    pub fn owner(mut self, kind: &str, name: &str) -> Self {
        self.owner = Some((kind.to_owned(), name.to_owned()));
        self
    }

    /// No owner.
    pub fn bare(mut self) -> Self {
        self.owner = None;
        self
    }

    /// `status.phase`. Succeeded and Failed terminate the containers; Pending leaves them without an ID.
    pub fn phase(mut self, phase: &str) -> Self {
        self.phase = phase.to_owned();
        self
    }

    /// `spec.restartPolicy`.
    pub fn restart_policy(mut self, policy: &str) -> Self {
        self.restart_policy = policy.to_owned();
        self
    }

    /// `spec.terminationGracePeriodSeconds`; `None` leaves it out.
    pub fn grace(mut self, seconds: impl Into<Option<i64>>) -> Self {
        self.grace = seconds.into();
        self
    }

    /// How long ago the pod was created and its containers started (default 5 hours).
    pub fn age(mut self, age: Duration) -> Self {
        self.age = age;
        self
    }

    /// A static pod's mirror: annotations with this config hash (which names the cgroup), owned by its Node.
    pub fn mirror(mut self, config_hash: &str) -> Self {
        self.config_hash = Some(config_hash.to_owned());
        self.owner = Some(("Node".into(), self.node.clone()));
        self
    }

    /// A memory limit of the pod itself (`spec.resources`).
    pub fn pod_limit(mut self, memory: &str) -> Self {
        self.pod_limit = Some(memory.to_owned());
        self
    }

    /// Adds a container with a memory limit (`128Mi`), or without one.
    pub fn container<'a>(self, name: &str, limit: impl Into<Option<&'a str>>) -> Self {
        self.add(Kind::Plain, name, limit.into())
    }

    /// Adds a native sidecar: an init container with `restartPolicy: Always`.
    pub fn sidecar<'a>(self, name: &str, limit: impl Into<Option<&'a str>>) -> Self {
        self.add(Kind::Sidecar, name, limit.into())
    }

    /// Adds a running ephemeral container.
    pub fn ephemeral(self, name: &str) -> Self {
        self.add(Kind::Ephemeral, name, None)
    }

    fn add(mut self, kind: Kind, name: &str, limit: Option<&str>) -> Self {
        self.containers.push(Container::new(kind, name, limit));
        self
    }

    /// The memory request of the container added last (default 32Mi, or its limit where that is lower).
    pub fn request(mut self, memory: &str) -> Self {
        if let Some(container) = self.last() {
            container.request = Some(memory.to_owned());
        }
        self
    }

    /// The `resizePolicy` for memory of the container added last: `NotRequired` (what absence means) or `RestartContainer`.
    pub fn resize_policy(mut self, policy: &str) -> Self {
        if let Some(container) = self.last() {
            container.resize_policy = Some(policy.to_owned());
        }
        self
    }

    /// The `restartPolicy` of the container added last itself; [`restart_policy`](Self::restart_policy) is the pod's.
    pub fn container_restart_policy(mut self, policy: &str) -> Self {
        if let Some(container) = self.last() {
            container.restart_policy = Some(policy.to_owned());
        }
        self
    }

    /// The QoS class, and requests and limits of all containers that make it: `Guaranteed`, `Burstable`, `BestEffort`.
    ///
    /// # Panics
    /// If it is none of these.
    pub fn qos(mut self, class: &str) -> Self {
        self.qos = match class {
            "Guaranteed" => Qos::Guaranteed,
            "Burstable" => Qos::Burstable,
            "BestEffort" => Qos::BestEffort,
            other => panic!("no QoS class: {other}"),
        };
        self
    }

    /// `spec.hostNetwork`: the pod's address is the node's.
    pub fn host_network(mut self) -> Self {
        self.host_network = true;
        self
    }

    /// `status.podIP`.
    pub fn pod_ip(mut self, address: &str) -> Self {
        self.pod_ip = Some(address.to_owned());
        self
    }

    /// Adds an entry to `metadata.managedFields`.
    pub fn managed_field(mut self, entry: Value) -> Self {
        self.managed_fields.push(entry);
        self
    }

    /// The ID of the container added last: 64 hex digits (then `containerd://` is put before), or with a scheme.
    pub fn container_id(mut self, id: &str) -> Self {
        let id = if id.contains("://") { id.to_owned() } else { format!("containerd://{id}") };
        if let Some(container) = self.last() {
            container.id = Some(id);
        }
        self
    }

    /// The container added last is still waiting (`ContainerCreating`): it has no ID yet.
    pub fn waiting(mut self) -> Self {
        if let Some(container) = self.last() {
            container.started = false;
        }
        self
    }

    fn last(&mut self) -> Option<&mut Container> {
        if self.containers.is_empty() {
            self.containers.push(Container::hog());
        }
        self.containers.last_mut()
    }

    /// The pod.
    pub fn build(&self) -> Value {
        let mut base: Value = serde_json::from_str(include_str!("pod.json")).unwrap_or_default();
        let created = rfc3339(seconds_now() - i64::try_from(self.age.as_secs()).unwrap_or(0));
        self.metadata(&mut base["metadata"], &created);
        let containers = if self.containers.is_empty() { vec![Container::hog()] } else { self.containers.clone() };
        self.spec(&mut base["spec"], &containers);
        self.status(&mut base["status"], &containers, &created);
        base
    }

    fn metadata(&self, metadata: &mut Value, created: &str) {
        let object = |pairs: &[(String, String)]| {
            Value::Object(pairs.iter().map(|(key, value)| (key.clone(), value.as_str().into())).collect())
        };
        metadata["name"] = self.name.as_str().into();
        metadata["namespace"] = self.namespace.as_str().into();
        metadata["creationTimestamp"] = created.into();
        metadata["labels"] = object(&self.labels);
        let mut annotations = self.annotations.clone();
        if let Some(hash) = &self.config_hash {
            let config = [("hash", hash.as_str()), ("mirror", hash), ("seen", created), ("source", "file")];
            annotations.extend(config.map(|(key, value)| (format!("kubernetes.io/config.{key}"), value.to_owned())));
        }
        let Some(fields) = metadata.as_object_mut() else {
            return;
        };
        for key in ["uid", "resourceVersion", "generateName", "ownerReferences"] {
            fields.remove(key);
        }
        fields.extend(self.uid.as_ref().map(|uid| ("uid".to_owned(), uid.as_str().into())));
        if let Some(entries) = fields.get_mut("managedFields").and_then(Value::as_array_mut) {
            entries.extend(self.managed_fields.iter().cloned());
        }
        if !annotations.is_empty() {
            fields.insert("annotations".into(), object(&annotations));
        }
        if let Some((kind, name)) = &self.owner {
            let version = match kind.as_str() {
                "Node" => "v1",
                "Job" => "batch/v1",
                _ => "apps/v1",
            };
            let mut owner = json!({"apiVersion": version, "kind": kind, "name": name, "uid": "397a2ee0-34c8-40bd-9988-319eea3b31ff", "controller": true});
            if kind != "Node" {
                owner["blockOwnerDeletion"] = true.into();
                fields.insert("generateName".into(), format!("{name}-").into());
            }
            fields.insert("ownerReferences".into(), json!([owner]));
        }
    }

    fn spec(&self, spec: &mut Value, containers: &[Container]) {
        let template = spec["containers"][0].clone();
        let of = |kind: Kind| {
            let some = containers.iter().filter(move |container| container.kind == kind);
            Value::Array(some.map(|container| container.spec(&template, &self.lives())).collect())
        };
        spec["containers"] = of(Kind::Plain);
        spec["restartPolicy"] = self.restart_policy.as_str().into();
        spec["nodeName"] = self.node.as_str().into();
        spec["terminationGracePeriodSeconds"] = self.grace.into();
        let Some(fields) = spec.as_object_mut() else {
            return;
        };
        for (key, value) in [("initContainers", of(Kind::Sidecar)), ("ephemeralContainers", of(Kind::Ephemeral))] {
            if value != json!([]) {
                fields.insert(key.into(), value);
            }
        }
        if let Some(limit) = &self.pod_limit {
            fields.insert("resources".into(), json!({"limits": {"memory": limit}, "requests": {"memory": limit}}));
        }
        if self.host_network {
            fields.insert("hostNetwork".into(), true.into());
        }
        if self.config_hash.is_some() {
            ["volumes", "serviceAccount", "serviceAccountName"].iter().for_each(|key| drop(fields.remove(*key)));
            fields.insert("tolerations".into(), json!([{"operator": "Exists", "effect": "NoExecute"}]));
        }
        fields.retain(|key, value| !(value.is_null() || (key == "nodeName" && self.node.is_empty())));
    }

    fn status(&self, status: &mut Value, containers: &[Container], created: &str) {
        let template = status["containerStatuses"][0].clone();
        status["phase"] = self.phase.as_str().into();
        status["startTime"] = created.into();
        let running = self.phase == "Running";
        for condition in status["conditions"].as_array_mut().into_iter().flatten() {
            condition["lastTransitionTime"] = created.into();
            let scheduling = condition["type"] == "PodScheduled";
            let holds = running || (scheduling && !self.node.is_empty());
            condition["status"] = if holds { "True" } else { "False" }.into();
        }
        let Some(fields) = status.as_object_mut() else {
            return;
        };
        fields.remove("containerStatuses");
        if self.node.is_empty() {
            fields.retain(|key, _| matches!(key.as_str(), "phase" | "conditions" | "qosClass"));
            return;
        }
        let keys = [
            ("containerStatuses", Kind::Plain),
            ("initContainerStatuses", Kind::Sidecar),
            ("ephemeralContainerStatuses", Kind::Ephemeral),
        ];
        for (key, kind) in keys {
            let some = containers.iter().filter(|container| container.kind == kind);
            let all: Vec<Value> = some.map(|container| container.status(&template, &self.lives(), created)).collect();
            if !all.is_empty() {
                fields.insert(key.into(), all.into());
            }
        }
        if containers.iter().all(|container| container.memory.is_none()) || self.qos == Qos::BestEffort {
            fields.remove("allocatedResources");
            fields.insert("resources".into(), json!({}));
        }
        if let Some(limit) = &self.pod_limit {
            fields.insert("resources".into(), json!({"limits": {"memory": limit}, "requests": {"memory": limit}}));
        }
        fields.insert("qosClass".into(), format!("{:?}", self.qos).into());
        let host = fields.get("hostIP").and_then(Value::as_str).map(str::to_owned);
        if let Some(address) = self.pod_ip.clone().or(host.filter(|_| self.host_network)) {
            fields.insert("podIPs".into(), json!([{"ip": address}]));
            fields.insert("podIP".into(), address.into());
        }
    }

    fn lives(&self) -> Lives<'_> {
        let mirror = self.config_hash.is_some();
        Lives { namespace: &self.namespace, pod: &self.name, phase: &self.phase, mirror, qos: self.qos }
    }
}
