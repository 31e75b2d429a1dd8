//! The format of `/api/incidents`: what the agent keeps of the last verdicts, misses and kills. The agent writes it; `why`
//! and `recommend` read it, as leniently as that of `/api/guards`.

use serde::{Deserialize, Serialize};

use super::wire::{Facts, Word};

#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct IncidentsPage {
    /// The node that the agent guards.
    pub node: String,
    pub version: String,
    /// When the agent started, in RFC 3339. It knows nothing of before.
    pub started: String,
    /// The newest first.
    pub incidents: Vec<IncidentView>,
}

/// One container above its threshold, or killed: what led there, and what was done. Sizes in bytes.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct IncidentView {
    /// When it began, in RFC 3339 with milliseconds.
    pub at: String,
    pub namespace: String,
    pub pod: String,
    pub uid: String,
    /// The controlling owner as `Kind/name`; a Deployment instead of its ReplicaSet.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub owner: Option<String>,
    /// The container; none: the pod's own group.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub container: Option<String>,
    /// `leak`, `spike`, `cache`, `tmpfs`, `siblings` or `node`; none: too little is known.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub class: Option<Word>,
    /// Why it is of this class.
    pub why: String,
    /// For how long the agent had watched the container, in seconds, at most a day.
    pub known_seconds: u64,
    /// Its growth over minutes to hours, in bytes a minute.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub growth_per_minute: Option<i64>,
    /// For how long it grew like this.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub growing_seconds: Option<u64>,
    /// The five minutes before, each second.
    pub minutes: CurveView,
    /// The day before, each five minutes.
    pub day: CurveView,
    /// What its memory consisted of.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub memory: Option<BreakdownView>,
    /// How long before that was. A verdict reads it anew.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub memory_seconds: Option<u64>,
    /// The same before its rise began.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub memory_before: Option<BreakdownView>,
    /// How long before that was.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub before_seconds: Option<u64>,
    /// What the other guarded containers of the pod held.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub others: Vec<OtherView>,
    /// What else the pod held: containers that are not guarded, the sandbox, tmpfs.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub rest_of_pod: Option<u64>,
    /// The labels and numbers of its first notice.
    #[serde(flatten)]
    pub facts: Facts,
    /// What was done and what came of it, the first first.
    pub steps: Vec<StepView>,
}

/// The most in equal parts of time, the oldest first; null: not known. Sizes in KiB.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct CurveView {
    pub each_seconds: u64,
    pub usage: Vec<Option<u64>>,
    /// The signal.
    pub value: Vec<Option<u64>>,
}

/// What a container's memory consists of; in bytes. On v1, the kernel names no `slab`, `kernel` and `sockets`.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct BreakdownView {
    pub anonymous: u64,
    pub active_file: u64,
    pub inactive_file: u64,
    /// tmpfs and shared memory.
    pub shmem: u64,
    pub slab: u64,
    /// Kernel stacks, page tables, per-CPU memory.
    pub kernel: u64,
    pub sockets: u64,
}

#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct OtherView {
    pub container: String,
    pub usage: u64,
}

/// One notice of an incident.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct StepView {
    /// When, in RFC 3339 with milliseconds.
    pub at: String,
    pub reason: Word,
    /// The complete text, as in the Event.
    pub words: String,
    /// The server's answer: the metrics' label `answer`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub answer: Option<Word>,
    /// Why it is deferred, or why it was missed: the metrics' label `reason`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub cause: Option<Word>,
    /// From the request to the answer, or to the effect in the kernel, in milliseconds.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub took_ms: Option<f64>,
}
