//! A pod's JSON → [`Pod`].
//!
//! Only the fields that the agent uses are kept. A pod that cannot be read (an older or newer server may write it
//! differently) is passed on with the reason; it never hides the others. So is a pod beyond the bounds: whoever may create
//! pods must not be able to make the agent grow.

use std::collections::BTreeMap;
use std::net::IpAddr;

use jiff::Timestamp;
use serde::Deserialize;
use serde::de::IgnoredAny;
use serde_json::value::RawValue;

use super::bounded::{Capped, Picked, name, nullable, some_name};
use super::pod::{Container, ContainerId, ContainerKind, Owner, Phase, Pod, PodRef, PodUid, Resized, Resources};
use super::resize::{MOST_POLICIES, Managers, RawResizePolicy, RawResources};
use crate::ground::keys::{self, TEMPLATE_HASH};
use crate::ground::text::shortened;

/// At most so many containers of a pod are kept; no real pod has more.
const MOST_CONTAINERS: usize = 100;
/// At most so many owners are read; only the controlling one is kept.
const MOST_OWNERS: usize = 100;

impl Pod {
    /// Reads one pod object, as an API server or a file has it.
    ///
    /// # Errors
    /// Only for text that is not JSON. Parts that cannot be read are in [`Pod::unreadable`].
    pub fn from_json(text: &str) -> Result<Pod, serde_json::Error> {
        serde_json::from_str::<RawPod>(text).map(|raw| raw.into_pod().0)
    }
}

/// A pod of which nothing but its name is known, and why.
pub(super) fn head_only(id: PodRef, why: String) -> Pod {
    Pod {
        id,
        node: None,
        label: None,
        annotations: BTreeMap::new(),
        mirror: false,
        runtime_class: false,
        owner: None,
        created: None,
        ready: false,
        terminating: false,
        phase: Phase::Unknown,
        grace: None,
        never_restarted: false,
        limit: None,
        guaranteed: false,
        generation: 0,
        resized: Resized::Never,
        resizing: false,
        resize_pending: None,
        ip: None,
        host_network: false,
        host_ips: Vec::new(),
        containers: Vec::new(),
        unreadable: vec![why],
    }
}

impl RawPod<'_> {
    /// The pod, and its resource version (empty if there is none).
    pub(super) fn into_pod(self) -> (Pod, String) {
        let mut unreadable = Vec::new();
        let meta: RawMeta<'_> = read_part("metadata", self.metadata, &mut unreadable);
        let labels: Picked = read_part("metadata.labels", meta.labels, &mut unreadable);
        let annotations: Picked = read_part("metadata.annotations", meta.annotations, &mut unreadable);
        let owners: Capped<RawOwner, MOST_OWNERS> =
            read_part("metadata.ownerReferences", meta.owner_references, &mut unreadable);
        let managers: Managers = read_part("metadata.managedFields", meta.managed_fields, &mut unreadable);
        let mut spec: RawSpec = read_part("spec", self.spec, &mut unreadable);
        let status: RawPodStatus = read_part("status", self.status, &mut unreadable);
        let count = spec.containers.0.len() + spec.init_containers.0.len() + spec.ephemeral_containers.0.len();
        if count > MOST_CONTAINERS {
            unreadable.push(format!("spec: {count} containers; at most {MOST_CONTAINERS} are read"));
            spec = RawSpec::default();
        }
        let containers = containers(&spec, &status);
        let pod = Pod {
            id: PodRef { namespace: meta.namespace, name: meta.name, uid: PodUid(meta.uid) },
            node: spec.node_name,
            runtime_class: spec.runtime_class_name.is_some(),
            never_restarted: spec.restart_policy.as_deref() == Some("Never"),
            limit: spec.resources.limits.memory.0,
            guaranteed: status.qos_class.as_deref() == Some("Guaranteed"),
            generation: meta.generation.unwrap_or_default(),
            resized: managers.0,
            resizing: status.conditions.0.iter().any(RawCondition::is_resizing),
            resize_pending: status.conditions.0.iter().find_map(RawCondition::pending),
            ip: status.pod_ip.as_deref().and_then(|ip| ip.parse().ok()),
            host_network: spec.host_network == Some(true),
            host_ips: status.host_ips(),
            grace: spec.termination_grace_period_seconds.and_then(|s| u32::try_from(s).ok()),
            label: labels.0.get(keys::LABEL).cloned(),
            mirror: annotations.0.contains_key(keys::MIRROR),
            annotations: (annotations.0.into_iter())
                .filter_map(|(k, v)| Some((k.strip_prefix(keys::PREFIX)?.to_owned(), v)))
                .collect(),
            owner: controlling(owners.0, labels.0.get(TEMPLATE_HASH)),
            created: meta.creation_timestamp.as_deref().and_then(|t| t.parse().ok()),
            ready: status.conditions.0.iter().any(|c| c.kind == "Ready" && c.status == "True"),
            terminating: meta.deletion_timestamp.is_some(),
            phase: status.phase,
            containers,
            unreadable,
        };
        (pod, meta.resource_version.unwrap_or_default())
    }
}

fn controlling(owners: Vec<RawOwner>, template_hash: Option<&String>) -> Option<Owner> {
    owners.into_iter().find(|o| o.controller).map(|o| Owner {
        api_version: o.api_version,
        kind: o.kind,
        name: o.name,
        uid: o.uid,
        template_hash: template_hash.cloned(),
    })
}

/// The spec's containers, in its order, each with what the status says of it.
fn containers(spec: &RawSpec, status: &RawPodStatus) -> Vec<Container> {
    let statuses = (status.container_statuses.0.iter())
        .chain(&status.init_container_statuses.0)
        .chain(&status.ephemeral_container_statuses.0);
    let by_name: BTreeMap<&str, &RawStatus> = statuses.map(|s| (s.name.as_str(), s)).collect();
    let init_kind = |c: &RawContainer| match c.restart_policy.as_deref() {
        Some("Always") => ContainerKind::Sidecar,
        _ => ContainerKind::Init,
    };
    (spec.containers.0.iter().map(|c| (c, ContainerKind::Main)))
        .chain(spec.init_containers.0.iter().map(|c| (c, init_kind(c))))
        .chain(spec.ephemeral_containers.0.iter().map(|c| (c, ContainerKind::Ephemeral)))
        .map(|(c, kind)| container(c, kind, by_name.get(c.name.as_str()).copied()))
        .collect()
}

fn container(spec: &RawContainer, kind: ContainerKind, status: Option<&RawStatus>) -> Container {
    let running = status.and_then(|s| s.state.running.as_ref());
    let id = status.and_then(|s| s.container_id.as_deref()).filter(|id| !id.is_empty());
    Container {
        name: spec.name.clone(),
        kind,
        id: id.map(ContainerId::from_status),
        running: running.is_some(),
        started_at: running.and_then(|r| r.started_at.as_deref()).and_then(|t| t.parse().ok()),
        oom_killed: status.map(RawStatus::oom_killed).unwrap_or_default(),
        oom_lives: status.map(RawStatus::oom_lives).unwrap_or_default(),
        restarts: status.map_or(0, |s| s.restart_count),
        memory: Resources {
            limit: spec.resources.limits.memory.0,
            request: spec.resources.requests.memory.0,
            restarts: spec.resize_policy.0.iter().any(RawResizePolicy::restarts),
            never_restarted: spec.restart_policy.as_deref() == Some("Never"),
        },
    }
}

/// Reads a part of an object. If it cannot be read, it is empty, and `unreadable` says why.
fn read_part<'a, T: Deserialize<'a> + Default>(
    name: &str,
    raw: Option<&'a RawValue>,
    unreadable: &mut Vec<String>,
) -> T {
    // Directly: a tree of `serde_json::Value` takes many times the memory of the text.
    match raw.map(|raw| serde_json::from_str::<Option<T>>(raw.get())) {
        None => T::default(),
        Some(Ok(value)) => value.unwrap_or_default(),
        Some(Err(error)) => {
            let text = error.to_string();
            let words = text.split(" at line ").next().unwrap_or_default();
            unreadable.push(shortened(&format!("{name}: {words}")));
            T::default()
        }
    }
}

/// Each part is read separately, so that an unreadable one does not hide the others.
#[derive(Debug, Deserialize)]
pub(super) struct RawPod<'a> {
    #[serde(borrow, default)]
    metadata: Option<&'a RawValue>,
    #[serde(borrow, default)]
    spec: Option<&'a RawValue>,
    #[serde(borrow, default)]
    status: Option<&'a RawValue>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
struct RawMeta<'a> {
    #[serde(deserialize_with = "name")]
    name: String,
    #[serde(deserialize_with = "name")]
    namespace: String,
    #[serde(deserialize_with = "name")]
    uid: String,
    #[serde(deserialize_with = "some_name")]
    resource_version: Option<String>,
    #[serde(deserialize_with = "some_name")]
    creation_timestamp: Option<String>,
    generation: Option<i64>,
    deletion_timestamp: Option<IgnoredAny>,
    #[serde(borrow)]
    labels: Option<&'a RawValue>,
    #[serde(borrow)]
    annotations: Option<&'a RawValue>,
    #[serde(borrow)]
    owner_references: Option<&'a RawValue>,
    #[serde(borrow)]
    managed_fields: Option<&'a RawValue>,
}

#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
struct RawOwner {
    #[serde(deserialize_with = "name")]
    api_version: String,
    #[serde(deserialize_with = "name")]
    kind: String,
    #[serde(deserialize_with = "name")]
    name: String,
    #[serde(deserialize_with = "name")]
    uid: String,
    #[serde(default, deserialize_with = "nullable")]
    controller: bool,
}

#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
struct RawSpec {
    #[serde(deserialize_with = "some_name")]
    node_name: Option<String>,
    runtime_class_name: Option<IgnoredAny>,
    termination_grace_period_seconds: Option<i64>,
    restart_policy: Option<String>,
    host_network: Option<bool>,
    #[serde(deserialize_with = "nullable")]
    resources: RawResources,
    #[serde(deserialize_with = "nullable")]
    containers: Capped<RawContainer, MOST_CONTAINERS>,
    #[serde(deserialize_with = "nullable")]
    init_containers: Capped<RawContainer, MOST_CONTAINERS>,
    #[serde(deserialize_with = "nullable")]
    ephemeral_containers: Capped<RawContainer, MOST_CONTAINERS>,
}

#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
struct RawContainer {
    #[serde(deserialize_with = "name")]
    name: String,
    restart_policy: Option<String>,
    #[serde(default, deserialize_with = "nullable")]
    resources: RawResources,
    #[serde(default, deserialize_with = "nullable")]
    resize_policy: Capped<RawResizePolicy, MOST_POLICIES>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
struct RawPodStatus {
    #[serde(deserialize_with = "nullable")]
    phase: Phase,
    qos_class: Option<String>,
    #[serde(rename = "podIP")]
    pod_ip: Option<String>,
    #[serde(rename = "hostIP")]
    host_ip: Option<String>,
    #[serde(rename = "hostIPs", deserialize_with = "nullable")]
    host_ips: Capped<RawIp, MOST_CONTAINERS>,
    #[serde(deserialize_with = "nullable")]
    conditions: Capped<RawCondition, MOST_CONTAINERS>,
    #[serde(deserialize_with = "nullable")]
    container_statuses: Capped<RawStatus, MOST_CONTAINERS>,
    #[serde(deserialize_with = "nullable")]
    init_container_statuses: Capped<RawStatus, MOST_CONTAINERS>,
    #[serde(deserialize_with = "nullable")]
    ephemeral_container_statuses: Capped<RawStatus, MOST_CONTAINERS>,
}

impl RawPodStatus {
    fn host_ips(&self) -> Vec<IpAddr> {
        let all = self.host_ips.0.iter().filter_map(|host| host.ip.as_deref()).chain(self.host_ip.as_deref());
        let mut ips: Vec<IpAddr> = all.filter_map(|ip| ip.parse().ok()).collect();
        ips.sort_unstable();
        ips.dedup(); // the first one is told twice
        ips.shrink_to_fit();
        ips
    }
}

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct RawIp {
    ip: Option<String>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct RawCondition {
    #[serde(rename = "type")]
    kind: String,
    status: String,
    reason: Option<String>,
}

/// A condition's reason is one word.
const MOST_REASON: usize = 64;

impl RawCondition {
    fn pending(&self) -> Option<String> {
        let is_it = self.kind == "PodResizePending" && self.status == "True";
        is_it.then(|| self.reason.as_deref().unwrap_or("Pending").chars().take(MOST_REASON).collect())
    }

    /// A resize that failed has the reason `Error`.
    fn is_resizing(&self) -> bool {
        self.kind == "PodResizeInProgress" && self.status == "True" && self.reason.as_deref().unwrap_or("").is_empty()
    }
}

#[derive(Debug, Deserialize)]
struct RawStatus {
    #[serde(deserialize_with = "name")]
    name: String,
    #[serde(default, rename = "restartCount", deserialize_with = "nullable")]
    restart_count: u32,
    #[serde(rename = "containerID")]
    container_id: Option<String>,
    #[serde(default, deserialize_with = "nullable")]
    state: RawState,
    #[serde(default, rename = "lastState", deserialize_with = "nullable")]
    last_state: RawState,
}

impl RawStatus {
    fn killed(&self) -> impl Iterator<Item = &RawTerminated> {
        let ended = [&self.state, &self.last_state].into_iter().filter_map(|s| s.terminated.as_ref());
        ended.filter(|t| t.reason.as_deref() == Some("OOMKilled"))
    }

    fn oom_killed(&self) -> Vec<ContainerId> {
        self.killed().filter_map(|t| ContainerId::from_status(t.container_id.as_deref()?).ok()).collect()
    }

    fn oom_lives(&self) -> Vec<(Timestamp, Timestamp)> {
        let at = |text: &Option<String>| text.as_deref().and_then(|t| t.parse().ok());
        self.killed().filter_map(|t| Some((at(&t.started_at)?, at(&t.finished_at)?))).collect()
    }
}

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct RawState {
    running: Option<RawRunning>,
    terminated: Option<RawTerminated>,
}

#[derive(Debug, Deserialize)]
struct RawTerminated {
    reason: Option<String>,
    #[serde(rename = "containerID")]
    container_id: Option<String>,
    #[serde(rename = "startedAt")]
    started_at: Option<String>,
    #[serde(rename = "finishedAt")]
    finished_at: Option<String>,
}

#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
struct RawRunning {
    started_at: Option<String>,
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::pods::bounded::{LONGEST_VALUE, MOST_KEYS};
    use proptest::prelude::*;
    use serde_json::json;

    const ID: &str = "50912613d370dabbf82e7ad771f576efe6335c771634b4dfd8ead4aed3909d41";

    fn read(value: &serde_json::Value) -> Pod {
        Pod::from_json(&value.to_string()).unwrap()
    }

    /// The fields used, as a 1.36 server writes them.
    fn deployed() -> serde_json::Value {
        json!({
            "kind": "Pod", "apiVersion": "v1",
            "metadata": {
                "name": "web-58f6dff65f-p9cf2", "namespace": "demo",
                "uid": "aea56c47-06fc-4784-bd27-9fb88a89f1d8", "resourceVersion": "626",
                "labels": {"app": "web", "pod-template-hash": "58f6dff65f", "pre-oom-killer": "enabled"},
                "annotations": {
                    "kubectl.kubernetes.io/restartedAt": "2026-11-23T18:47:37Z",
                    "pre-oom-killer.v1alpha1.k8s.io/memory-usage-threshold": "60"
                },
                "ownerReferences": [{
                    "apiVersion": "apps/v1", "kind": "ReplicaSet", "name": "web-58f6dff65f",
                    "uid": "397a2ee0-34c8-40bd-9988-319eea3b31ff",
                    "controller": true, "blockOwnerDeletion": true
                }]
            },
            "spec": {
                "nodeName": "node-host",
                "containers": [{"name": "hog", "image": "x", "resources": {"limits": {"memory": "128Mi"}}}],
                "initContainers": [{"name": "migrate"}, {"name": "mesh", "restartPolicy": "Always"}]
            },
            "status": {
                "phase": "Running",
                "containerStatuses": [{
                    "name": "hog", "state": {"running": {"startedAt": "2026-11-23T18:47:40Z"}},
                    "lastState": {}, "ready": true, "restartCount": 0,
                    "containerID": format!("containerd://{ID}")
                }],
                "initContainerStatuses": [{"name": "mesh", "state": {"waiting": {"reason": "PodInitializing"}}}]
            }
        })
    }

    #[test]
    fn what_a_server_says() {
        let pod = read(&deployed());
        assert_eq!(pod.id.to_string(), "demo/web-58f6dff65f-p9cf2");
        assert_eq!(pod.node.as_deref(), Some("node-host"));
        assert_eq!(pod.label.as_deref(), Some("enabled"));
        assert_eq!(pod.annotations, BTreeMap::from([("memory-usage-threshold".into(), "60".into())]));
        assert_eq!(pod.phase, Phase::Running);
        assert!(!pod.terminating && !pod.mirror && pod.unreadable.is_empty());
        let owner = pod.owner.unwrap();
        assert_eq!(owner.deployment(), Some("web"));
        let kinds: Vec<_> = pod.containers.iter().map(|c| (&*c.name, c.kind)).collect();
        assert_eq!(
            kinds,
            [("hog", ContainerKind::Main), ("migrate", ContainerKind::Init), ("mesh", ContainerKind::Sidecar)]
        );
        let id = ContainerId::parse(ID).unwrap();
        assert_eq!((pod.containers[0].id.clone(), id.to_string()), (Some(Ok(id)), ID.to_owned()));
        assert!(pod.containers[0].running && pod.containers[0].started_at.is_some());
        assert_eq!(pod.containers[2].id, None);
    }

    #[test]
    fn the_name_before_the_hash_is_the_deployment_only_for_replica_sets() {
        let mut owner = read(&deployed()).owner.unwrap();
        owner.name = "web-other".into();
        assert_eq!(owner.deployment(), None);
        owner.name = "web-58f6dff65f".into();
        owner.kind = "StatefulSet".into();
        assert_eq!(owner.deployment(), None);
    }

    #[test]
    fn parts_that_cannot_be_read_are_named_and_the_rest_is_kept() {
        for (path, value, part) in [
            ("/status/containerStatuses", json!("none"), "status"),
            ("/status/containerStatuses/0/state/running", json!(7), "status"),
            ("/spec/containers", json!({"a": 1}), "spec"),
            ("/spec/nodeName", json!(["n"]), "spec"),
            ("/metadata/annotations", json!([1]), "metadata.annotations"),
            ("/metadata/labels", json!("none"), "metadata.labels"),
            ("/metadata/ownerReferences", json!([{"kind": 7}]), "metadata.ownerReferences"),
        ] {
            let mut pod = deployed();
            *pod.pointer_mut(path).unwrap() = value;
            let pod = read(&pod);
            assert_eq!(pod.unreadable.len(), 1, "{path}: {:?}", pod.unreadable);
            assert!(pod.unreadable[0].starts_with(&format!("{part}: ")), "{path}");
        }
        let mut pod = deployed();
        *pod.pointer_mut("/status/containerStatuses/0/containerID").unwrap() = json!("cri://42");
        let id = read(&pod).containers[0].id.clone().unwrap();
        assert!(id.unwrap_err().contains("`cri://42`"));
    }

    #[test]
    fn oom_kills_belong_to_the_instance_that_was_killed() {
        let mut pod = deployed();
        let other = ID.replace('5', "6");
        let ended =
            |reason: &str, id: &str| json!({"terminated": {"reason": reason, "containerID": format!("x://{id}")}});
        *pod.pointer_mut("/status/containerStatuses/0/state").unwrap() = ended("OOMKilled", ID);
        pod["status"]["containerStatuses"][0]["lastState"] = ended("OOMKilled", &other);
        let container = read(&pod).containers.remove(0);
        assert_eq!(container.oom_killed, [ContainerId::parse(ID).unwrap(), ContainerId::parse(&other).unwrap()]);
        assert!(!container.running);
        pod["status"]["containerStatuses"][0]["lastState"] = ended("Error", &other);
        assert_eq!(read(&pod).containers[0].oom_killed, [ContainerId::parse(ID).unwrap()]);
    }

    #[test]
    fn nulls_and_absences_are_empty() {
        let pod = read(&json!({"metadata": {"name": "a", "labels": null},
            "spec": {"containers": null}, "status": {}}));
        assert!(pod.containers.is_empty() && pod.unreadable.is_empty());
        assert_eq!(read(&json!({})).phase, Phase::Unknown);
    }

    /// What is beyond the bounds is named, and costs no more than that.
    #[test]
    fn what_is_beyond_the_bounds_is_unreadable() {
        let key = |n: usize| format!("{}k{n}", keys::PREFIX);
        let many_keys: serde_json::Value = (0..=MOST_KEYS).map(|n| (key(n), "x")).collect();
        let containers = |n: usize| json!((0..n).map(|n| json!({"name": format!("c{n}")})).collect::<Vec<_>>());
        for (path, value, words) in [
            ("/metadata/annotations", many_keys, "metadata.annotations: more than 64 keys of pre-oom-killer"),
            (
                "/metadata/annotations",
                json!({key(0): "x".repeat(LONGEST_VALUE + 1)}),
                "metadata.annotations: a value of more than 16384 bytes",
            ),
            ("/spec/containers", containers(5000), "spec: a list of more than 100"),
            ("/spec/containers", containers(99), "spec: 101 containers; at most 100 are read"),
            ("/spec/containers/0/name", json!("x".repeat(254)), "spec: a name of more than 253 bytes"),
            ("/status/containerStatuses", containers(101), "status: a list of more than 100"),
            (
                "/metadata/ownerReferences/0/name",
                json!("x".repeat(254)),
                "metadata.ownerReferences: a name of more than 253 bytes",
            ),
        ] {
            let mut pod = deployed();
            *pod.pointer_mut(path).unwrap() = value;
            let pod = read(&pod);
            assert_eq!(pod.unreadable, [words], "{path}");
            assert_eq!(pod.id.name, "web-58f6dff65f-p9cf2", "{path}");
            assert!(pod.containers.len() <= MOST_CONTAINERS && pod.annotations.len() <= MOST_KEYS);
        }
        // What is not ours may be as it likes.
        let mut pod = deployed();
        pod["metadata"]["annotations"]["other"] = json!("x".repeat(200_000));
        pod["spec"]["containers"] = containers(98);
        assert_eq!((read(&pod).unreadable, read(&pod).containers.len()), (Vec::new(), 100));
    }

    fn any_json() -> impl Strategy<Value = serde_json::Value> {
        let leaf = prop_oneof![
            Just(json!(null)),
            any::<bool>().prop_map(|b| json!(b)),
            any::<i64>().prop_map(|n| json!(n)),
            "\\PC{0,12}".prop_map(|s| json!(s)),
        ];
        leaf.prop_recursive(3, 24, 4, |inner| {
            prop_oneof![
                prop::collection::vec(inner.clone(), 0..4).prop_map(|v| json!(v)),
                prop::collection::btree_map("[a-zA-Z]{1,8}", inner, 0..4).prop_map(|m| json!(m)),
            ]
        })
    }

    proptest! {
        #[test]
        fn any_value_anywhere_is_survived(value in any_json(), at in 0usize..17) {
            const PATHS: [&str; 17] = [
                "", "/metadata", "/metadata/name", "/metadata/uid", "/metadata/labels",
                "/metadata/labels/pre-oom-killer", "/metadata/annotations", "/metadata/ownerReferences",
                "/metadata/ownerReferences/0", "/metadata/ownerReferences/0/controller", "/spec",
                "/spec/containers", "/spec/containers/0/name", "/status", "/status/phase",
                "/status/containerStatuses/0", "/status/containerStatuses/0/containerID",
            ];
            let mut pod = deployed();
            *pod.pointer_mut(PATHS[at]).unwrap() = value;
            // Not an object at the top is an error; anything else is a pod.
            let _ = Pod::from_json(&pod.to_string());
        }

        #[test]
        fn any_text_is_survived(text in "\\PC{0,200}") {
            let _ = Pod::from_json(&text);
            let _ = ContainerId::from_status(&text);
        }
    }
}
