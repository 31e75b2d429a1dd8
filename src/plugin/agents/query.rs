//! What is asked for, and the flags that say it.

use std::ffi::OsString;
use std::time::Duration;

use clap::Args;
use kube::Client;

use crate::act::client::{fitted, fresh};
use crate::act::kubeconfig::{connection, or_default};
use crate::ground::units::duration;

/// Which pods and agents, and how long to wait for them.
#[derive(Clone, Debug, Default)]
pub struct Query {
    /// Pods of this namespace; none: of all.
    pub namespace: Option<String>,
    /// Pods of this node; none: of all.
    pub node: Option<String>,
    pub selector: Option<String>,
    /// Where the agents are; none: in the one namespace that has some, or in [`AGENTS_NAMESPACE`].
    ///
    /// [`AGENTS_NAMESPACE`]: super::find::AGENTS_NAMESPACE
    pub agents_namespace: Option<String>,
    pub timeout: Duration,
}

/// The flags that all commands have which ask the agents.
#[derive(Clone, Debug, Args)]
pub struct ClusterArgs {
    /// Kubeconfig [default: that of kubectl]
    #[arg(long, env = "KUBECONFIG", hide_env = true, value_name = "FILE")]
    pub kubeconfig: Option<OsString>,
    /// Context of the kubeconfig [default: its current one]
    #[arg(long, value_name = "NAME")]
    pub context: Option<String>,
    /// Pods of this namespace [default: the context's]
    #[arg(short, long, value_name = "NAME", conflicts_with = "all_namespaces")]
    pub namespace: Option<String>,
    /// Pods of all namespaces
    #[arg(short = 'A', long)]
    pub all_namespaces: bool,
    /// Where the agents run [default: the one namespace that has some, else pre-oom-killer]
    #[arg(long, value_name = "NAME")]
    pub agents_namespace: Option<String>,
    /// How long an agent may take to answer
    #[arg(long, value_name = "DURATION", default_value = "5s", value_parser = some_time)]
    pub timeout: Duration,
}

/// A tenth of a second to ten minutes.
pub(in crate::plugin) fn some_time(text: &str) -> Result<Duration, String> {
    let span = duration(text).filter(|d| (Duration::from_millis(100)..=Duration::from_secs(600)).contains(d));
    span.ok_or_else(|| "write a duration such as 5s, from 100ms to 10m".into())
}

impl ClusterArgs {
    /// A client as the user's kubeconfig has it, and what to ask.
    ///
    /// # Errors
    /// When there is no kubeconfig, it cannot be read, or has no such context.
    pub fn connect(&self) -> anyhow::Result<(Client, Query)> {
        let files = or_default(self.kubeconfig.as_deref().unwrap_or_default());
        let config = fitted(connection(&files, self.context.as_deref())?);
        let namespace = match (self.all_namespaces, &self.namespace) {
            (true, _) => None,
            (false, Some(namespace)) => Some(namespace.clone()),
            (false, None) => Some(config.default_namespace.clone()),
        };
        let query = Query {
            namespace,
            agents_namespace: self.agents_namespace.clone(),
            timeout: self.timeout,
            ..Query::default()
        };
        Ok((fresh(&config)?, query))
    }
}
