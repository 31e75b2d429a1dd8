//! What the agent keeps of a pod.

use std::collections::BTreeMap;
use std::fmt;
use std::net::IpAddr;

use jiff::Timestamp;
use serde::Deserialize;

use crate::ground::text::shortened;
use crate::ground::units::Bytes;

/// Names one pod. The uid distinguishes it from earlier and later pods of the same name.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct PodRef {
    pub namespace: String,
    pub name: String,
    pub uid: PodUid,
}

impl fmt::Display for PodRef {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.namespace, self.name)
    }
}

/// `metadata.uid` of a pod. No code relies on its format.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct PodUid(pub String);

/// The runtime's id of a container, without the runtime's name: 64 lower-case hex digits, two a byte.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct ContainerId([u8; ContainerId::LENGTH / 2]);

impl ContainerId {
    /// The number of hex digits that containerd, CRI-O and docker use.
    pub const LENGTH: usize = 64;

    /// Reads `containerd://<id>`, the form of `containerID` in a container status.
    ///
    /// # Errors
    /// With a sentence that quotes what was found instead.
    pub fn from_status(text: &str) -> Result<ContainerId, String> {
        let id = text.split_once("://").and_then(|(_, id)| ContainerId::parse(id));
        id.ok_or_else(|| format!("containerID `{}` is not `<runtime>://<64 hex digits>`", shortened(text)))
    }

    /// Reads the digits alone.
    #[must_use]
    pub fn parse(digits: &str) -> Option<ContainerId> {
        let digit = |b: u8| match b {
            b'0'..=b'9' => Some(b - b'0'),
            b'a'..=b'f' => Some(b - b'a' + 10),
            _ => None,
        };
        let (pairs, []) = digits.as_bytes().as_chunks::<2>() else { return None };
        let mut bytes = [0; Self::LENGTH / 2];
        if pairs.len() != bytes.len() {
            return None;
        }
        for (byte, [high, low]) in bytes.iter_mut().zip(pairs) {
            *byte = digit(*high)? << 4 | digit(*low)?;
        }
        Some(ContainerId(bytes))
    }
}

impl fmt::Display for ContainerId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.iter().try_for_each(|byte| write!(f, "{byte:02x}"))
    }
}

/// Which list of the pod's spec a container is in.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ContainerKind {
    Main,
    /// `spec.initContainers` with `restartPolicy: Always`: a native sidecar.
    Sidecar,
    /// `spec.initContainers` otherwise: ends before the pod runs.
    Init,
    Ephemeral,
}

/// A container of a pod: the spec's name and what its status says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Container {
    pub name: String,
    pub kind: ContainerKind,
    /// `None` while the container waits to start; an error quotes an id in an unknown format.
    pub id: Option<Result<ContainerId, String>>,
    /// `state.running` is set. Only then does the container have a cgroup.
    pub running: bool,
    pub started_at: Option<Timestamp>,
    /// The instances of this container that were OOM-killed, according to `state` and `lastState`.
    pub oom_killed: Vec<ContainerId>,
    /// Start and end of those instances.
    pub oom_lives: Vec<(Timestamp, Timestamp)>,
    pub restarts: u32,
    pub memory: Resources,
}

/// What the spec says about a container's memory.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Resources {
    /// `resources.limits.memory`; `None` if it is absent, 0, or not an amount.
    pub limit: Option<Bytes>,
    /// `resources.requests.memory`.
    pub request: Option<Bytes>,
    /// The `resizePolicy` for memory is `RestartContainer`: any change restarts the container.
    pub restarts: bool,
    /// The container's own `restartPolicy` is `Never`.
    pub never_restarted: bool,
}

/// The controlling owner (`ownerReferences` with `controller: true`).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Owner {
    /// For example `apps/v1`.
    pub api_version: String,
    pub kind: String,
    pub name: String,
    pub uid: String,
    /// The pod's label `pod-template-hash`. Where a ReplicaSet's name ends with it, the part before it is the
    /// Deployment's name.
    pub template_hash: Option<String>,
}

impl Owner {
    /// `Deployment/web`: the object that people know and edit.
    #[must_use]
    pub fn workload(&self) -> String {
        match self.deployment() {
            Some(deployment) => format!("Deployment/{deployment}"),
            None => format!("{}/{}", self.kind, self.name),
        }
    }

    /// The Deployment behind a ReplicaSet, if the names reveal it.
    #[must_use]
    pub fn deployment(&self) -> Option<&str> {
        if self.kind != "ReplicaSet" || !self.api_version.starts_with("apps/") {
            return None;
        }
        let hash = self.template_hash.as_deref()?;
        self.name.strip_suffix(hash)?.strip_suffix('-')
    }
}

/// Whether the pod was resized after its creation, according to `metadata.managedFields`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub enum Resized {
    #[default]
    Never,
    /// Only by others.
    ByOthers,
    /// By an agent of this program, too.
    ByUs,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize)]
pub enum Phase {
    Pending,
    Running,
    Succeeded,
    Failed,
    #[default]
    #[serde(other)]
    Unknown,
}

/// What is kept of a pod.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Pod {
    pub id: PodRef,
    pub node: Option<String>,
    /// The value of the opt-in label.
    pub label: Option<String>,
    /// The annotations that begin with [`PREFIX`](crate::ground::keys::PREFIX); the keys here are without it.
    pub annotations: BTreeMap<String, String>,
    /// The pod has the annotation `kubernetes.io/config.mirror`.
    pub mirror: bool,
    /// `spec.runtimeClassName` is set: the runtime may be Kata or gVisor.
    pub runtime_class: bool,
    pub owner: Option<Owner>,
    /// `metadata.creationTimestamp`, in whole seconds.
    pub created: Option<Timestamp>,
    pub ready: bool,
    pub terminating: bool,
    pub phase: Phase,
    /// `spec.terminationGracePeriodSeconds`, in seconds.
    pub grace: Option<u32>,
    /// `spec.restartPolicy` is `Never`.
    pub never_restarted: bool,
    /// `spec.resources.limits.memory`: the limit of the pod as a whole.
    pub limit: Option<Bytes>,
    /// `status.qosClass` is `Guaranteed`: each container's request equals its limit, and stays so.
    pub guaranteed: bool,
    /// `metadata.generation`: it counts the changes of the spec.
    pub generation: i64,
    pub resized: Resized,
    /// The condition `PodResizeInProgress`, without an error: the kubelet is carrying a resize out.
    pub resizing: bool,
    /// The reason of the condition `PodResizePending`: `Deferred` or `Infeasible`.
    pub resize_pending: Option<String>,
    /// `status.podIP`.
    pub ip: Option<IpAddr>,
    /// `spec.hostNetwork`: its address is its node's.
    pub host_network: bool,
    /// `status.hostIP` and `status.hostIPs`: the addresses of its node.
    pub host_ips: Vec<IpAddr>,
    /// All containers, in the order of the spec.
    pub containers: Vec<Container>,
    /// The parts of the object that could not be read, each with the reason. Such a pod is never evicted.
    pub unreadable: Vec<String>,
}
