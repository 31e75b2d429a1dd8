//! Finds the agents' pods and asks each of them, through the API server's pod proxy, what it guards.

use std::collections::BTreeSet;
use std::time::Duration;

use anyhow::anyhow;
use futures::{StreamExt, stream};
use http::Request;
use http_body_util::{BodyExt, Limited};
use k8s_openapi::api::core::v1::Pod;
use kube::Client;
use kube::api::ListParams;
use kube::client::Body;

use super::lists::{AT_ONCE, api_in, list};
use super::query::Query;
use crate::ground::text::{chain, shortened};
use crate::serve::wire::GuardsPage;

/// The label of all agents, as the chart and the manifests write it.
pub const AGENTS: &str = "app.kubernetes.io/name=pre-oom-killer";
/// The namespace that the manifests put them in.
pub const AGENTS_NAMESPACE: &str = "pre-oom-killer";
/// Their port, where the pod does not name one `http`.
const PORT: i32 = 8080;
/// The largest answer of an agent: some 600 bytes a container, and a node has hundreds.
const LARGEST_ANSWER: usize = 16 << 20;

/// One agent, and its answer or why there is none.
#[derive(Clone, Debug)]
pub struct AgentAnswer {
    pub namespace: String,
    pub name: String,
    /// The node it is on.
    pub node: String,
    /// Its pod is terminating: in a rollout, another agent on its node guards the same pods.
    pub terminating: bool,
    pub answer: Result<GuardsPage, String>,
}

/// Asks all agents. Also names the pods that have the agents' label and were not asked.
pub(super) async fn agents(client: &Client, query: &Query) -> anyhow::Result<(Vec<AgentAnswer>, Vec<String>)> {
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
    let (mut real, not_asked) = real_agents(found, query.agents_namespace.as_deref())?;
    if let Some(node) = &query.node {
        real.retain(|pod| pod.spec.as_ref().is_some_and(|s| s.node_name.as_ref() == Some(node)));
    }
    let asked = real.into_iter().map(|pod| ask(client, pod, query.timeout));
    let mut agents: Vec<AgentAnswer> = stream::iter(asked).buffer_unordered(AT_ONCE).collect().await;
    // Of two on a node, the one that stays comes first.
    let key = |a: &AgentAnswer| (a.node.clone(), a.terminating, a.namespace.clone(), a.name.clone());
    agents.sort_by_cached_key(key);
    Ok((agents, not_asked))
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

async fn ask(client: &Client, pod: Pod, timeout: Duration) -> AgentAnswer {
    let spec = pod.spec.unwrap_or_default();
    let mut ports = spec.containers.iter().flat_map(|c| c.ports.iter().flatten());
    let port = ports.find(|p| p.name.as_deref() == Some("http")).map_or(PORT, |p| p.container_port);
    let phase = pod.status.and_then(|s| s.phase).unwrap_or_default();
    let (namespace, name) = (pod.metadata.namespace.unwrap_or_default(), pod.metadata.name.unwrap_or_default());
    let terminating = pod.metadata.deletion_timestamp.is_some();
    let node = spec.node_name.unwrap_or_default();
    let answer = match phase.as_str() {
        "Running" => {
            let path = format!("/api/v1/namespaces/{namespace}/pods/{name}:{port}/proxy/api/guards");
            let answer = tokio::time::timeout(timeout, page(client, path)).await;
            answer.unwrap_or_else(|_| Err(format!("no answer within {timeout:?}")))
        }
        phase => Err(format!("its pod is {phase}, not Running")),
    };
    let answer = answer.and_then(|page| match page.node.as_str() {
        other if other != node && !other.is_empty() => Err(format!("it answers for node {other}")),
        _ => Ok(page),
    });
    AgentAnswer { namespace, name, node, terminating, answer }
}

async fn page(client: &Client, path: String) -> Result<GuardsPage, String> {
    let request = Request::get(path).body(Body::empty()).map_err(|error| error.to_string())?;
    let response = client.send(request).await.map_err(|error| chain(&error))?;
    let code = response.status();
    let body = Limited::new(response.into_body(), LARGEST_ANSWER).collect().await;
    let body = body.map_err(|error| format!("its answer ended early: {}", shortened(&error.to_string())))?.to_bytes();
    if code.is_success() {
        return serde_json::from_slice(&body).map_err(|error| format!("its answer cannot be read: {error}"));
    }
    let status = serde_json::from_slice::<serde_json::Value>(&body).unwrap_or_default();
    let said =
        status["message"].as_str().map_or_else(|| String::from_utf8_lossy(&body).trim().to_owned(), str::to_owned);
    let hint = if code.as_u16() == 403 { "; you need permission to get pods/proxy there" } else { "" };
    Err(format!("{}: {}{hint}", code.as_u16(), said.chars().take(200).collect::<String>()))
}
