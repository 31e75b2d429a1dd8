//! The opt-in label, our annotations, and the annotations of Kubernetes that we read.

/// The opt-in label; only the value [`ENABLED`] opts in.
pub const LABEL: &str = "pre-oom-killer";
pub const ENABLED: &str = "enabled";
/// The prefix of all annotations.
pub const PREFIX: &str = "pre-oom-killer.v1alpha1.k8s.io/";
/// Values of [`LABEL`] that explicitly opt out.
pub const OFF: [&str; 5] = ["", "disabled", "false", "no", "off"];

pub const TARGET: &str = "target-container-name";
pub const THRESHOLD: &str = "memory-usage-threshold";
/// How far the thresholds of replicas differ.
pub const SPREAD: &str = "threshold-spread";
pub const SIGNAL: &str = "memory-signal";
pub const SUSTAINED: &str = "sustained-for";
/// The grace period of the eviction, in seconds.
pub const GRACE: &str = "eviction-grace-period";
/// Try only.
pub const DRY_RUN: &str = "dry-run";
pub const FORCE_DELETE: &str = "force-delete-threshold";
/// The remedies, in the order in which they are tried.
pub const REMEDIES: &str = "remedies";
/// The most that a limit is raised to.
pub const RAISE_LIMIT_TO: &str = "raise-limit-to";
/// How far one raise goes, as a percentage of the limit.
pub const RAISE_BY: &str = "raise-by";
/// Above it, the container is warned by a request to `WARN_URL`.
pub const WARN_THRESHOLD: &str = "warn-threshold";
pub const WARN_URL: &str = "warn-url";
/// All annotations that a user writes on a pod.
pub const ALL: [&str; 13] = [
    TARGET,
    THRESHOLD,
    SPREAD,
    SIGNAL,
    SUSTAINED,
    GRACE,
    DRY_RUN,
    FORCE_DELETE,
    REMEDIES,
    RAISE_LIMIT_TO,
    RAISE_BY,
    WARN_THRESHOLD,
    WARN_URL,
];
/// Names who opted the pod in, if its author did not. A policy stamps it; users do not write it.
pub const GUARDED_BY: &str = "guarded-by";
/// The value of [`GUARDED_BY`] that the policy for whole namespaces stamps.
pub const BY_NAMESPACE: &str = "namespace";
/// Only on a namespace: guard the pods of Jobs, too.
pub const INCLUDE_JOBS: &str = "include-jobs";

/// The kubelet sets it on the mirror of a static pod.
pub const MIRROR: &str = "kubernetes.io/config.mirror";
/// The label of a Deployment's pods with which the name of their ReplicaSet ends.
pub const TEMPLATE_HASH: &str = "pod-template-hash";
/// The cluster's own namespace: the policy for whole namespaces leaves it out.
pub const SYSTEM: &str = "kube-system";
/// The name under which the API server notes what this program changes (`metadata.managedFields`).
pub const FIELD_MANAGER: &str = "pre-oom-killer";
/// The label, and its value, of the agents' pods and of their namespace: the policy for whole namespaces leaves that out.
pub const AGENTS: (&str, &str) = ("app.kubernetes.io/name", "pre-oom-killer");
