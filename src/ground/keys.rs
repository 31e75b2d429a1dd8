//! The label, the annotations, and what of Kubernetes' own is looked for in them.

/// The opt-in label; only the value [`ENABLED`] opts in.
pub const LABEL: &str = "pre-oom-killer";
/// The value of [`LABEL`] that opts in.
pub const ENABLED: &str = "enabled";
/// What all annotations begin with.
pub const PREFIX: &str = "pre-oom-killer.v1alpha1.k8s.io/";
/// Values of [`LABEL`] that say in so many words that there is no guard.
pub const OFF: [&str; 5] = ["", "disabled", "false", "no", "off"];

pub const TARGET: &str = "target-container-name";
pub const THRESHOLD: &str = "memory-usage-threshold";
/// By how much replicas differ.
pub const SPREAD: &str = "threshold-spread";
pub const SIGNAL: &str = "memory-signal";
pub const SUSTAINED: &str = "sustained-for";
/// Seconds given to the eviction.
pub const GRACE: &str = "eviction-grace-period";
/// Try only.
pub const DRY_RUN: &str = "dry-run";
pub const FORCE_DELETE: &str = "force-delete-threshold";
/// All of them that a user writes on a pod.
pub const ALL: [&str; 8] = [TARGET, THRESHOLD, SPREAD, SIGNAL, SUSTAINED, GRACE, DRY_RUN, FORCE_DELETE];
/// Who has opted the pod in, where it was not the pod's author: a stamp, not for users to write.
pub const GUARDED_BY: &str = "guarded-by";
/// The value of [`GUARDED_BY`] that the policy for whole namespaces stamps.
pub const BY_NAMESPACE: &str = "namespace";
/// On a namespace alone: guard Jobs' pods, too.
pub const INCLUDE_JOBS: &str = "include-jobs";

/// Set by the kubelet on the mirror of a static pod.
pub const MIRROR: &str = "kubernetes.io/config.mirror";
