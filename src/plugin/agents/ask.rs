//! Asks the agents, through the API server's pod proxy.

use std::time::Duration;

use futures::{StreamExt, stream};
use http::Request;
use http_body_util::{BodyExt, Limited};
use k8s_openapi::api::core::v1::Pod;
use kube::Client;
use kube::client::Body;
use serde::de::DeserializeOwned;
use serde_json::Value;

use super::find::Found;
use super::lists::AT_ONCE;
use crate::ground::text::{chain, shortened};
use crate::serve::incident::IncidentsPage;
use crate::serve::wire::GuardsPage;

/// Their port, where the pod does not name one `http`.
const PORT: i32 = 8080;
/// The largest answer of an agent: some 600 bytes a container, 2 KiB with its history, and a node has hundreds.
const LARGEST_ANSWER: usize = 16 << 20;

/// What an agent guards.
pub const GUARDS: &str = "api/guards";
/// The same, with what each container did during the last day.
pub const GUARDS_WITH_HISTORY: &str = "api/guards?history=1";
pub const INCIDENTS: &str = "api/incidents";

/// One agent, and its answer or why there is none.
#[derive(Clone, Debug)]
pub struct AgentAnswer<P = GuardsPage> {
    pub namespace: String,
    pub name: String,
    /// The node it is on.
    pub node: String,
    /// Its pod is terminating: in a rollout, another agent on its node guards the same pods.
    pub terminating: bool,
    pub answer: Result<P, String>,
}

/// What an agent answers.
pub trait Page: DeserializeOwned {
    /// The node that the agent says it guards.
    fn node(&self) -> &str;
    fn version(&self) -> &str;
    /// It knows the pods of its node.
    fn listed(&self) -> bool;
}

impl Page for GuardsPage {
    fn node(&self) -> &str {
        &self.node
    }

    fn version(&self) -> &str {
        &self.version
    }

    fn listed(&self) -> bool {
        self.listed
    }
}

impl Page for IncidentsPage {
    fn node(&self) -> &str {
        &self.node
    }

    fn version(&self) -> &str {
        &self.version
    }

    /// What it remembers does not depend on them.
    fn listed(&self) -> bool {
        true
    }
}

/// Asks all agents for the same page, some at once. Sorted by node; of two on a node, the one that stays comes first.
pub async fn ask_each<P: Page>(client: &Client, found: &Found, path: &str, timeout: Duration) -> Vec<AgentAnswer<P>> {
    let asked: Vec<_> = found.agents.iter().map(|pod| ask(client, pod, path, timeout)).collect();
    let mut agents: Vec<AgentAnswer<P>> = stream::iter(asked).buffer_unordered(AT_ONCE).collect().await;
    agents.sort_by_cached_key(|a| (a.node.clone(), a.terminating, a.namespace.clone(), a.name.clone()));
    agents
}

async fn ask<P: Page>(client: &Client, pod: &Pod, path: &str, timeout: Duration) -> AgentAnswer<P> {
    let (metadata, spec) = (&pod.metadata, pod.spec.as_ref());
    let mut ports = spec.iter().flat_map(|s| &s.containers).flat_map(|c| c.ports.iter().flatten());
    let port = ports.find(|p| p.name.as_deref() == Some("http")).map_or(PORT, |p| p.container_port);
    let phase = pod.status.as_ref().and_then(|s| s.phase.as_deref()).unwrap_or_default();
    let (namespace, name) = (metadata.namespace.clone().unwrap_or_default(), metadata.name.clone().unwrap_or_default());
    let node = spec.and_then(|s| s.node_name.clone()).unwrap_or_default();
    let answer = match phase {
        "Running" => {
            let path = format!("/api/v1/namespaces/{namespace}/pods/{name}:{port}/proxy/{path}");
            let answer = tokio::time::timeout(timeout, page(client, path)).await;
            answer.unwrap_or_else(|_| Err(format!("no answer within {timeout:?}")))
        }
        phase => Err(format!("its pod is {phase}, not Running")),
    };
    let answer = answer.and_then(|page: P| match page.node() {
        other if other != node && !other.is_empty() => Err(format!("it answers for node {other}")),
        _ => Ok(page),
    });
    AgentAnswer { namespace, name, node, terminating: metadata.deletion_timestamp.is_some(), answer }
}

async fn page<P: Page>(client: &Client, path: String) -> Result<P, String> {
    let request = Request::get(path).body(Body::empty()).map_err(|error| error.to_string())?;
    let response = client.send(request).await.map_err(|error| chain(&error))?;
    let code = response.status();
    let body = Limited::new(response.into_body(), LARGEST_ANSWER).collect().await;
    let body = body.map_err(|error| format!("its answer ended early: {}", shortened(&error.to_string())))?.to_bytes();
    if code.is_success() {
        return serde_json::from_slice(&body).map_err(|error| format!("its answer cannot be read: {error}"));
    }
    let status = serde_json::from_slice::<Value>(&body).unwrap_or_default();
    let (said, hint) = match (status["message"].as_str(), code.as_u16()) {
        // The agent's own answer, not the API server's.
        (None, 404) => return Err("it is older than this program, and does not know what it is asked".to_owned()),
        (Some(said), 403) => (said.to_owned(), "; you need permission to get pods/proxy there"),
        (Some(said), _) => (said.to_owned(), ""),
        (None, _) => (String::from_utf8_lossy(&body).trim().to_owned(), ""),
    };
    Err(format!("{}: {}{hint}", code.as_u16(), said.chars().take(200).collect::<String>()))
}
