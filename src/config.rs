//! The configuration of `run`: the validated flags and variables of [`cli`](crate::cli). Plain data.

use std::collections::BTreeSet;
use std::net::SocketAddr;
use std::path::PathBuf;

use crate::access::confinement::Confinement;
use crate::decide::ladder::Allowed;
use crate::decide::restraint::Limits;
use crate::pods::guard::DryRun;

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Config {
    /// The name of the agent's node.
    pub node: String,
    /// None: the agent runs in the cluster.
    pub kubeconfig: Vec<PathBuf>,
    /// `None`: the kubeconfig's current context.
    pub context: Option<String>,
    /// The host's `/sys/fs/cgroup`.
    pub cgroup_root: PathBuf,
    pub listen: SocketAddr,
    /// For all pods; a pod's own annotation may be stricter.
    pub dry_run: DryRun,
    pub confinement: Confinement,
    /// Namespaces whose pods are never evicted.
    pub excluded: BTreeSet<String>,
    pub limits: Limits,
    pub remedies: Allowed,
    /// Samples are spared while the node allocates too little memory for a container to grow.
    pub by_allocations: bool,
    pub log_format: LogFormat,
    /// A filter in tracing's syntax.
    pub log: String,
    /// The uid of the agent's own pod.
    pub pod_uid: Option<String>,
    pub pod_name: Option<String>,
    pub pod_namespace: Option<String>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum LogFormat {
    /// Text on a terminal, JSON elsewhere.
    Auto,
    Text,
    /// One object per line.
    Json,
}
