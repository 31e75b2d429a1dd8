//! The opted-in pods of this node, as the API server tells them: list, then watch.
//!
//! Only what is used is kept. A pod that the server (or an older or newer one) describes in a way
//! we cannot read is passed on with what is wrong with it; it never hides the others.

use std::collections::BTreeMap;
use std::fmt;
use std::time::Duration;

use futures::{Stream, StreamExt, stream};
use jiff::Timestamp;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use kube::runtime::{WatchStreamExt, watcher};
use kube::{Api, Client};
use serde::de::DeserializeOwned;
use serde::{Deserialize, Deserializer};
use tokio::time::timeout;

use crate::guard;

/// Bounds one watch request, so that one that hangs unnoticed ends (facts: at most 200 s).
const WATCH_TIMEOUT: Duration = Duration::from_secs(190);

/// Lists are asked for in pages. Servers that answer from their cache may send everything at once.
const PAGE: u32 = 100;
/// A page whose headers came may still stop in its middle; kube has a bound for watches alone.
const PAGE_WITHIN: Duration = Duration::from_secs(30);

/// Where a pod is found, and which of its namesakes it is.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct PodRef {
    /// `metadata.namespace`.
    pub namespace: String,
    /// `metadata.name`.
    pub name: String,
    /// `metadata.uid`.
    pub uid: PodUid,
}

impl fmt::Display for PodRef {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.namespace, self.name)
    }
}

/// `metadata.uid` of a pod. Its shape is not relied upon.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct PodUid(pub String);

/// The runtime's id of a container, without the runtime's name: 64 lower-case hex digits.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct ContainerId(String);

impl ContainerId {
    /// How many hex digits containerd, CRI-O and docker use.
    pub const LENGTH: usize = 64;

    /// Reads `containerd://<id>` as a container status has it.
    ///
    /// # Errors
    /// With a sentence that quotes what was found instead.
    pub fn from_status(text: &str) -> Result<ContainerId, String> {
        let id = text.split_once("://").map_or("", |(_, id)| id);
        let hex = id.bytes().all(|b| matches!(b, b'0'..=b'9' | b'a'..=b'f'));
        if id.len() == Self::LENGTH && hex {
            return Ok(ContainerId(id.to_owned()));
        }
        Err(format!("containerID `{}` is not `<runtime>://<64 hex digits>`", shortened(text)))
    }

    /// The 64 digits.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

/// Which list of the pod's spec a container is in.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// `spec.containers`.
    Main,
    /// `spec.initContainers` with `restartPolicy: Always`: a native sidecar.
    Sidecar,
    /// `spec.initContainers` otherwise: ends before the pod runs.
    Init,
    /// `spec.ephemeralContainers`.
    Ephemeral,
}

/// A container of a pod: the spec's name and what its status says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Container {
    /// Its name, unique in the pod.
    pub name: String,
    /// Where it is listed.
    pub kind: Kind,
    /// Absent while it waits; an error names an id of an unknown shape.
    pub id: Option<Result<ContainerId, String>>,
    /// `state.running` is set: only then is there a group to be found.
    pub running: bool,
    /// `state.running.startedAt`.
    pub started_at: Option<Timestamp>,
    /// Its instances that the kernel ended for lack of memory, as `state` and `lastState` tell.
    pub oom_killed: Vec<ContainerId>,
}

/// The controlling owner (`ownerReferences` with `controller: true`).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Owner {
    /// For example `apps/v1`.
    pub api_version: String,
    /// For example `ReplicaSet`.
    pub kind: String,
    /// Its name.
    pub name: String,
    /// Its uid.
    pub uid: String,
    /// `pod-template-hash` of the pod: where a ReplicaSet's name ends with it, what stands before
    /// is the Deployment's name.
    pub template_hash: Option<String>,
}

impl Owner {
    /// `Deployment/web`: whom people know.
    #[must_use]
    pub fn workload(&self) -> String {
        match self.deployment() {
            Some(deployment) => format!("Deployment/{deployment}"),
            None => format!("{}/{}", self.kind, self.name),
        }
    }

    /// The Deployment behind a ReplicaSet, where the names allow to tell.
    #[must_use]
    pub fn deployment(&self) -> Option<&str> {
        if self.kind != "ReplicaSet" || !self.api_version.starts_with("apps/") {
            return None;
        }
        let hash = self.template_hash.as_deref()?;
        self.name.strip_suffix(hash)?.strip_suffix('-')
    }
}

/// `status.phase`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize)]
pub enum Phase {
    /// Accepted, not all containers were started.
    Pending,
    /// At least one container runs or restarts.
    Running,
    /// All ended well.
    Succeeded,
    /// All ended, one badly.
    Failed,
    /// Anything else.
    #[default]
    #[serde(other)]
    Unknown,
}

/// What is kept of a pod.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Pod {
    /// Who it is.
    pub id: PodRef,
    /// `spec.nodeName`.
    pub node: Option<String>,
    /// The value of the opt-in label.
    pub label: Option<String>,
    /// The annotations under [`guard::PREFIX`], keys without the prefix.
    pub annotations: BTreeMap<String, String>,
    /// Annotation `kubernetes.io/config.mirror` is there.
    pub mirror: bool,
    /// `spec.runtimeClassName` is set: the runtime may be Kata or gVisor.
    pub runtime_class: bool,
    /// The controlling owner.
    pub owner: Option<Owner>,
    /// `metadata.deletionTimestamp` is set.
    pub terminating: bool,
    /// `status.phase`.
    pub phase: Phase,
    /// `spec.terminationGracePeriodSeconds`.
    pub grace: Option<u32>,
    /// All containers, in the spec's order.
    pub containers: Vec<Container>,
    /// Parts of the object that could not be read, with why. Such a pod is never acted on.
    pub unreadable: Vec<String>,
}

/// What the watch says, in order.
#[derive(Debug)]
pub enum PodChange {
    /// A list begins: pods that do not come again before [`PodChange::Listed`] are gone.
    Listing,
    /// A pod is there, or has changed.
    Applied(Box<Pod>),
    /// A pod is gone, or has left the selection (its label was removed).
    Gone(PodRef),
    /// The list is complete.
    Listed,
    /// The server could not be asked; the stream goes on after a back-off.
    Trouble(String),
}

/// Lists and watches the pods of `node` that carry the opt-in label. Never ends; every error is
/// followed by another try, with jittered exponential back-off (0.8 s to 30 s).
pub fn watch(client: Client, node: &str) -> impl Stream<Item = PodChange> + use<> {
    let config = watcher::Config::default()
        // Both: the field is indexed in the server's watch cache, a label is not.
        .fields(&format!("spec.nodeName={node}"))
        .labels(&format!("{}={}", guard::LABEL, guard::ENABLED))
        .any_semantic()
        .page_size(PAGE)
        .timeout(u32::try_from(WATCH_TIMEOUT.as_secs()).unwrap_or(u32::MAX));
    let begin = move || Box::pin(watcher(Api::<Watched>::all(client.clone()), config.clone()).default_backoff());
    let first = begin();
    stream::unfold((first, begin, false), async |(mut events, begin, listing)| {
        let next = if listing { timeout(PAGE_WITHIN, events.next()).await } else { Ok(events.next().await) };
        let Ok(event) = next else {
            let text = format!("the list of pods stopped in its middle for {} s", PAGE_WITHIN.as_secs());
            return Some((PodChange::Trouble(text), (begin(), begin, false)));
        };
        let change = match event? {
            Ok(watcher::Event::Init) => PodChange::Listing,
            Ok(watcher::Event::InitDone) => PodChange::Listed,
            Ok(watcher::Event::InitApply(w) | watcher::Event::Apply(w)) => PodChange::Applied(Box::new(w.pod)),
            Ok(watcher::Event::Delete(w)) => PodChange::Gone(w.pod.id),
            Err(error) => PodChange::Trouble(chain(&error)),
        };
        let listing = match change {
            PodChange::Listing => true,
            PodChange::Listed | PodChange::Trouble(_) => false,
            PodChange::Applied(_) | PodChange::Gone(_) => listing,
        };
        Some((change, (events, begin, listing)))
    })
}

/// An error and its causes in one line.
#[must_use]
pub fn chain(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(c) = cause {
        let c_text = c.to_string();
        // Many wrappers repeat their source in their own text.
        if !text.contains(&c_text) {
            text.push_str(": ");
            text.push_str(&c_text);
        }
        cause = c.source();
    }
    text
}

/// A [`Pod`] in the form that kube's watcher asks for.
#[derive(Clone, Debug)]
struct Watched {
    pod: Pod,
    /// Only the resource version is filled: the watcher resumes from it.
    meta: ObjectMeta,
}

impl kube::Resource for Watched {
    type DynamicType = ();
    type Scope = k8s_openapi::NamespaceResourceScope;

    fn kind((): &()) -> std::borrow::Cow<'_, str> {
        "Pod".into()
    }
    fn group((): &()) -> std::borrow::Cow<'_, str> {
        "".into()
    }
    fn version((): &()) -> std::borrow::Cow<'_, str> {
        "v1".into()
    }
    fn plural((): &()) -> std::borrow::Cow<'_, str> {
        "pods".into()
    }
    fn meta(&self) -> &ObjectMeta {
        &self.meta
    }
    fn meta_mut(&mut self) -> &mut ObjectMeta {
        &mut self.meta
    }
}

impl<'de> Deserialize<'de> for Watched {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let raw = RawPod::deserialize(deserializer)?;
        let meta =
            ObjectMeta { resource_version: raw.metadata.value.resource_version.clone(), ..ObjectMeta::default() };
        Ok(Watched { pod: Pod::from(raw), meta })
    }
}

impl Pod {
    /// Reads one pod object, as an API server or a file has it.
    ///
    /// # Errors
    /// Only for text that is not JSON; what is wrong inside is in [`Pod::unreadable`].
    pub fn from_json(text: &str) -> Result<Pod, serde_json::Error> {
        serde_json::from_str::<RawPod>(text).map(Pod::from)
    }
}

impl From<RawPod> for Pod {
    fn from(raw: RawPod) -> Pod {
        let mut unreadable = Vec::new();
        let (meta, spec, status) = (raw.metadata.value, raw.spec.value, raw.status.value);
        for (part, error) in [
            ("metadata", raw.metadata.error),
            ("metadata.labels", meta.labels.error),
            ("metadata.annotations", meta.annotations.error),
            ("metadata.ownerReferences", meta.owner_references.error),
            ("spec", raw.spec.error),
            ("status", raw.status.error),
        ] {
            unreadable.extend(error.map(|e| shortened(&format!("{part}: {e}"))));
        }

        let labels = meta.labels.value;
        let template_hash = labels.get("pod-template-hash").cloned();
        let owner = meta.owner_references.value.into_iter().find(|o| o.controller).map(|o| Owner {
            api_version: o.api_version,
            kind: o.kind,
            name: o.name,
            uid: o.uid,
            template_hash,
        });

        let init_kind = |c: &RawContainer| match c.restart_policy.as_deref() {
            Some("Always") => Kind::Sidecar,
            _ => Kind::Init,
        };
        let named = (spec.containers.iter().map(|c| (c, Kind::Main)))
            .chain(spec.init_containers.iter().map(|c| (c, init_kind(c))))
            .chain((spec.ephemeral_containers.iter()).map(|c| (c, Kind::Ephemeral)));
        let statuses = (status.container_statuses.iter())
            .chain(&status.init_container_statuses)
            .chain(&status.ephemeral_container_statuses);
        let by_name: BTreeMap<&str, &RawStatus> = statuses.map(|s| (s.name.as_str(), s)).collect();
        let containers = named
            .map(|(c, kind)| {
                let status = by_name.get(c.name.as_str());
                let running = status.and_then(|s| s.state.running.as_ref());
                Container {
                    name: c.name.clone(),
                    kind,
                    id: status
                        .and_then(|s| s.container_id.as_deref())
                        .filter(|id| !id.is_empty())
                        .map(ContainerId::from_status),
                    running: running.is_some(),
                    oom_killed: status.map(|s| s.oom_killed()).unwrap_or_default(),
                    started_at: running.and_then(|r| r.started_at.as_deref()).and_then(|t| t.parse().ok()),
                }
            })
            .collect();

        let annotations = meta.annotations.value;
        let mirror = annotations.contains_key("kubernetes.io/config.mirror");
        Pod {
            id: PodRef { namespace: meta.namespace, name: meta.name, uid: PodUid(meta.uid) },
            node: spec.node_name,
            runtime_class: spec.runtime_class_name.is_some(),
            grace: spec.termination_grace_period_seconds.and_then(|s| u32::try_from(s).ok()),
            label: labels.get(guard::LABEL).cloned(),
            annotations: annotations
                .into_iter()
                .filter_map(|(k, v)| Some((k.strip_prefix(guard::PREFIX)?.to_owned(), v)))
                .collect(),
            mirror,
            owner,
            terminating: meta.deletion_timestamp.is_some(),
            phase: status.phase,
            containers,
            unreadable,
        }
    }
}

/// At most 80 characters of a text that somebody else wrote.
#[must_use]
pub fn shortened(text: &str) -> String {
    match text.char_indices().nth(80) {
        None => text.to_owned(),
        Some((end, _)) => format!("{}…", &text[..end]),
    }
}

/// A part of an object, or why it could not be read.
#[derive(Debug, Default)]
struct Part<T> {
    value: T,
    error: Option<String>,
}

impl<'de, T: DeserializeOwned + Default> Deserialize<'de> for Part<T> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let value = serde_json::Value::deserialize(deserializer)?;
        if value.is_null() {
            return Ok(Part::default());
        }
        Ok(match T::deserialize(value) {
            Ok(value) => Part { value, error: None },
            Err(error) => Part { value: T::default(), error: Some(error.to_string()) },
        })
    }
}

#[derive(Debug, Deserialize)]
struct RawPod {
    // Where even the names in the metadata cannot be read, they are empty.
    #[serde(default)]
    metadata: Part<RawMeta>,
    #[serde(default)]
    spec: Part<RawSpec>,
    #[serde(default)]
    status: Part<RawPodStatus>,
}

/// `null` is an empty value, as in a watch's bookmark (`spec.containers`).
fn nullable<'de, D: Deserializer<'de>, T: Deserialize<'de> + Default>(deserializer: D) -> Result<T, D::Error> {
    Ok(Option::deserialize(deserializer)?.unwrap_or_default())
}

#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
struct RawMeta {
    name: String,
    namespace: String,
    uid: String,
    resource_version: Option<String>,
    deletion_timestamp: Option<String>,
    labels: Part<BTreeMap<String, String>>,
    annotations: Part<BTreeMap<String, String>>,
    owner_references: Part<Vec<RawOwner>>,
}

#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
struct RawOwner {
    api_version: String,
    kind: String,
    name: String,
    uid: String,
    #[serde(default, deserialize_with = "nullable")]
    controller: bool,
}

#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
struct RawSpec {
    node_name: Option<String>,
    runtime_class_name: Option<String>,
    termination_grace_period_seconds: Option<i64>,
    #[serde(deserialize_with = "nullable")]
    containers: Vec<RawContainer>,
    #[serde(deserialize_with = "nullable")]
    init_containers: Vec<RawContainer>,
    #[serde(deserialize_with = "nullable")]
    ephemeral_containers: Vec<RawContainer>,
}

#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
struct RawContainer {
    name: String,
    restart_policy: Option<String>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
struct RawPodStatus {
    #[serde(deserialize_with = "nullable")]
    phase: Phase,
    #[serde(deserialize_with = "nullable")]
    container_statuses: Vec<RawStatus>,
    #[serde(deserialize_with = "nullable")]
    init_container_statuses: Vec<RawStatus>,
    #[serde(deserialize_with = "nullable")]
    ephemeral_container_statuses: Vec<RawStatus>,
}

#[derive(Debug, Deserialize)]
struct RawStatus {
    name: String,
    #[serde(rename = "containerID")]
    container_id: Option<String>,
    #[serde(default, deserialize_with = "nullable")]
    state: RawState,
    #[serde(default, rename = "lastState", deserialize_with = "nullable")]
    last_state: RawState,
}

impl RawStatus {
    fn oom_killed(&self) -> Vec<ContainerId> {
        let ended = [&self.state, &self.last_state].into_iter().filter_map(|s| s.terminated.as_ref());
        let killed = ended.filter(|t| t.reason.as_deref() == Some("OOMKilled"));
        killed.filter_map(|t| ContainerId::from_status(t.container_id.as_deref()?).ok()).collect()
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
}

#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
struct RawRunning {
    started_at: Option<String>,
}

#[cfg(test)]
mod tests {
    use super::*;
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
        assert_eq!(kinds, [("hog", Kind::Main), ("migrate", Kind::Init), ("mesh", Kind::Sidecar)]);
        assert_eq!(pod.containers[0].id, Some(Ok(ContainerId(ID.into()))));
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
    fn oom_kills_are_told_of_the_instance_that_was_killed() {
        let mut pod = deployed();
        let other = ID.replace('5', "6");
        let ended =
            |reason: &str, id: &str| json!({"terminated": {"reason": reason, "containerID": format!("x://{id}")}});
        *pod.pointer_mut("/status/containerStatuses/0/state").unwrap() = ended("OOMKilled", ID);
        pod["status"]["containerStatuses"][0]["lastState"] = ended("OOMKilled", &other);
        let container = read(&pod).containers.remove(0);
        assert_eq!(container.oom_killed, [ContainerId(ID.into()), ContainerId(other.clone())]);
        assert!(!container.running);
        pod["status"]["containerStatuses"][0]["lastState"] = ended("Error", &other);
        assert_eq!(read(&pod).containers[0].oom_killed, [ContainerId(ID.into())]);
    }

    #[test]
    fn nulls_and_absences_are_empty() {
        let pod = read(&json!({"metadata": {"name": "a", "labels": null},
            "spec": {"containers": null}, "status": {}}));
        assert!(pod.containers.is_empty() && pod.unreadable.is_empty());
        assert_eq!(read(&json!({})).phase, Phase::Unknown);
    }

    #[test]
    fn a_bookmark_is_no_pod() {
        let line = r#"{"type":"BOOKMARK","object":{"kind":"Pod","apiVersion":"v1","metadata":{"resourceVersion":"1039"},"spec":{"containers":null},"status":{}}}"#;
        let event: kube::core::WatchEvent<Watched> = serde_json::from_str(line).unwrap();
        assert!(matches!(event, kube::core::WatchEvent::Bookmark(_)));
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
