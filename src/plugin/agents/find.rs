//! Finds the agents' pods.

use std::collections::BTreeSet;

use anyhow::anyhow;
use k8s_openapi::api::core::v1::Pod;
use kube::Client;
use kube::api::ListParams;

use super::ask::AgentAnswer;
use super::lists::{api_in, list};
use super::query::Query;

/// The label of all agents, as the chart and the manifests write it.
pub const AGENTS: &str = "app.kubernetes.io/name=pre-oom-killer";
/// The namespace that the manifests put them in.
pub const AGENTS_NAMESPACE: &str = "pre-oom-killer";

/// The pods with the agents' label.
#[derive(Clone, Debug)]
pub struct Found {
    /// Those that are agents.
    pub(super) agents: Vec<Pod>,
    /// The others, each with the reason why it is none.
    pub not_asked: Vec<String>,
}

/// Finds the agents of the nodes that are asked for.
///
/// # Errors
/// When their pods cannot be listed, or nothing says which of several namespaces is theirs.
pub async fn find(client: &Client, query: &Query) -> anyhow::Result<Found> {
    let pods = api_in::<Pod>(client, query.agents_namespace.as_deref());
    // Those of all nodes: which namespace is the agents' must not depend on the node that is asked for.
    let found = list(&pods, ListParams::default().labels(AGENTS), query.timeout).await;
    let found = found.map_err(|why| match query.agents_namespace {
        None if why.starts_with("403") => {
            anyhow!(
                "cannot list the agents' pods in all namespaces: {why}; name their namespace with --agents-namespace"
            )
        }
        _ => anyhow!("cannot list the agents' pods: {why}"),
    })?;
    let (mut agents, not_asked) = real_agents(found, query.agents_namespace.as_deref())?;
    if let Some(node) = &query.node {
        agents.retain(|pod| pod.spec.as_ref().is_some_and(|s| s.node_name.as_ref() == Some(node)));
    }
    Ok(Found { agents, not_asked })
}

/// The pods that are agents; and the other pods, with the reason why they are none. Anybody who may create a pod can give it
/// the agents' label. But an agent is controlled by a DaemonSet, and all agents are in one namespace.
fn real_agents(found: Vec<Pod>, namespace: Option<&str>) -> anyhow::Result<(Vec<Pod>, Vec<String>)> {
    let of_a_daemon_set = |pod: &Pod| {
        let owners = pod.metadata.owner_references.as_deref().unwrap_or_default();
        owners.iter().any(|o| o.controller == Some(true) && o.kind == "DaemonSet" && o.api_version.starts_with("apps/"))
    };
    let of = |pod: &Pod| pod.metadata.namespace.clone().unwrap_or_default();
    let namespaces: BTreeSet<String> = found.iter().filter(|pod| of_a_daemon_set(pod)).map(of).collect();
    let theirs = match (namespace, namespaces.len()) {
        (Some(namespace), _) => namespace.to_owned(),
        (None, 0 | 1) => namespaces.first().cloned().unwrap_or_default(),
        (None, _) if namespaces.contains(AGENTS_NAMESPACE) => AGENTS_NAMESPACE.to_owned(),
        (None, _) => {
            let names = namespaces.into_iter().collect::<Vec<_>>().join(", ");
            return Err(anyhow!(
                "pods with the agents' label ({AGENTS}) are in several namespaces ({names}), and anybody can put that label on a \
                 pod: name the agents' namespace with --agents-namespace"
            ));
        }
    };
    let (mut agents, mut others) = (Vec::new(), Vec::new());
    for pod in found {
        let why = match (of_a_daemon_set(&pod), of(&pod) == theirs) {
            (true, true) => {
                agents.push(pod);
                continue;
            }
            (false, _) => "no DaemonSet controls it".to_owned(),
            (true, false) => format!("the agents are in namespace {theirs}"),
        };
        let name = pod.metadata.name.as_deref().unwrap_or_default();
        others.push(format!("{}/{name}: {why}", of(&pod)));
    }
    others.sort_unstable();
    Ok((agents, others))
}

impl Found {
    /// Whoever did not answer in time is not waited for again.
    pub(in crate::plugin) fn keep_answering<P>(&mut self, asked: &[AgentAnswer<P>]) {
        let answered = |name: &str| asked.iter().any(|agent| agent.name == name && agent.answer.is_ok());
        self.agents.retain(|pod| pod.metadata.name.as_deref().is_some_and(answered));
    }
}
