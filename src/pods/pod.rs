//! What the agent keeps of a pod.

use std::collections::BTreeMap;
use std::fmt;

use jiff::Timestamp;
use serde::Deserialize;

use crate::ground::text::shortened;

/// Where a pod is found, and which of its namesakes it is.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash, PartialOrd, Ord)]
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
pub struct ContainerId(pub(super) String);

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
    /// When they started and ended.
    pub oom_lives: Vec<(Timestamp, Timestamp)>,
    /// `restartCount`.
    pub restarts: u32,
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
    /// The annotations under [`PREFIX`](crate::ground::keys::PREFIX), keys without the prefix.
    pub annotations: BTreeMap<String, String>,
    /// Annotation `kubernetes.io/config.mirror` is there.
    pub mirror: bool,
    /// `spec.runtimeClassName` is set: the runtime may be Kata or gVisor.
    pub runtime_class: bool,
    /// The controlling owner.
    pub owner: Option<Owner>,
    /// `metadata.creationTimestamp`, in whole seconds.
    pub created: Option<Timestamp>,
    /// Condition `Ready` is `True`.
    pub ready: bool,
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
