//! Finds the agents' pods and asks each, through the API server's pod proxy, what it sees.

use std::collections::BTreeSet;
use std::time::Duration;

use anyhow::{Context, anyhow};
use futures::{StreamExt, stream};
use http::Request;
use http_body_util::{BodyExt, Limited};
use jiff::Timestamp;
use k8s_openapi::api::core::v1::Pod;
use k8s_openapi::api::events::v1::Event;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ListMeta;
use kube::api::ListParams;
use kube::client::Body;
use kube::{Api, Client};

use super::spaces::{Unguarded, unguarded};
use crate::ground::text::{chain, shortened};
use crate::serve::wire::{GuardsPage, RecentView};

/// All agents carry it (the chart's and the manifests' label).
pub const AGENTS: &str = "app.kubernetes.io/name=pre-oom-killer";
/// The namespace that the manifests put them in.
pub const AGENTS_NAMESPACE: &str = "pre-oom-killer";
/// Their port, where the pod does not name one `http`.
const PORT: i32 = 8080;
/// Agents asked side by side: a thousand nodes take seconds, and the API server has others to serve.
pub(super) const AT_ONCE: usize = 16;
/// The largest answer of an agent: some 600 bytes a container, and a node has hundreds.
const LARGEST_ANSWER: usize = 16 << 20;
/// Lists are asked for in pages.
pub(super) const PAGE: u32 = 500;
/// So many Events are looked at for the last eviction; they live for an hour.
const MOST_EVENTS: usize = 5000;
/// Reasons of the Events that tell of a pod that was ended.
const ENDED: [&str; 2] = ["PreOOMEvicted", "PreOOMForceDeleted"];

/// What is asked for.
#[derive(Clone, Debug, Default)]
pub struct Query {
    /// Pods of this namespace; none: of all.
    pub namespace: Option<String>,
    /// Pods of this node; none: of all.
    pub node: Option<String>,
    /// Pods with these labels.
    pub selector: Option<String>,
    /// Where the agents are; none: in the one namespace that has some, or in [`AGENTS_NAMESPACE`].
    pub agents_namespace: Option<String>,
    /// For each agent.
    pub timeout: Duration,
}

/// What was answered.
#[derive(Clone, Debug)]
pub struct Survey {
    /// All agents, by node.
    pub agents: Vec<Agent>,
    /// Pods that bear the agents' label, which anybody may give to a pod, and are not believed; with why.
    pub not_asked: Vec<String>,
    /// Uids of the pods that a label selector leaves; none: all.
    pub selected: Option<BTreeSet<String>>,
    /// What Events tell of evictions, or why they tell nothing.
    pub ended: Result<Vec<Ended>, String>,
    /// What is not guarded although its namespace is, or why that is not known.
    pub unguarded: Result<Vec<Unguarded>, String>,
}

impl Survey {
    /// At least one agent says what it sees.
    #[must_use]
    pub fn answered(&self) -> bool {
        self.pages().next().is_some()
    }

    /// What the agents see.
    pub fn pages(&self) -> impl Iterator<Item = (&Agent, &GuardsPage)> {
        self.agents.iter().filter_map(|agent| Some((agent, agent.answer.as_ref().ok()?)))
    }

    /// All evictions that are known: Events live for an hour, an agent remembers its last ones until it is restarted.
    #[must_use]
    pub fn evictions(&self) -> Vec<Ended> {
        let remembered = self.pages().flat_map(|(_, page)| &page.recent).filter_map(remembered);
        self.ended.iter().flatten().cloned().chain(remembered).collect()
    }
}

/// One agent, and its answer or why there is none.
#[derive(Clone, Debug)]
pub struct Agent {
    /// Of its pod.
    pub namespace: String,
    /// Of its pod.
    pub name: String,
    /// The node it is on.
    pub node: String,
    /// It is being ended: in a rollout, another one on its node sees the same.
    pub going: bool,
    /// What it sees.
    pub answer: Result<GuardsPage, String>,
}

/// An eviction, as an Event or an agent tells it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Ended {
    /// Of the object that it is told of.
    pub namespace: String,
    /// The pod or its owner as `Kind/name`; a Deployment instead of its ReplicaSet.
    pub of: String,
    /// When, the last time.
    pub at: Timestamp,
    /// What is said of it.
    pub note: String,
}

/// An eviction that an agent remembers.
fn remembered(recent: &RecentView) -> Option<Ended> {
    let of = || recent.owner.clone().unwrap_or_else(|| format!("Pod/{}", recent.pod));
    ENDED.contains(&&*recent.reason).then_some(())?;
    Some(Ended {
        namespace: recent.namespace.clone(),
        of: of(),
        at: recent.at.parse().ok()?,
        note: recent.words.clone(),
    })
}

/// Asks everyone.
///
/// # Errors
/// When the agents cannot be found, or the pods not be selected.
pub async fn survey(client: &Client, query: &Query) -> anyhow::Result<Survey> {
    let (agents, ended, unguarded) =
        futures::join!(agents_alone(client, query), ended(client, query), unguarded(client, query));
    let agents = agents?;
    // The policy leaves the agents' own namespace out.
    let is_theirs = |space: &Unguarded| agents.agents.iter().any(|agent| agent.namespace == space.namespace);
    let unguarded = unguarded.map(|all| all.into_iter().filter(|space| !is_theirs(space)).collect());
    Ok(Survey { ended, unguarded, ..agents })
}

/// The same without Events (for the API server, to find them among all others is the dearest part), and without what is
/// not guarded.
///
/// # Errors
/// As [`survey`].
pub async fn agents_alone(client: &Client, query: &Query) -> anyhow::Result<Survey> {
    let (agents, selected) = futures::join!(agents(client, query), selected(client, query));
    let (agents, not_asked) = agents?;
    Ok(Survey { agents, not_asked, selected: selected?, ended: Ok(Vec::new()), unguarded: Ok(Vec::new()) })
}

async fn agents(client: &Client, query: &Query) -> anyhow::Result<(Vec<Agent>, Vec<String>)> {
    let all = pods_in(client, query.agents_namespace.as_deref());
    // Those of all nodes: where the agents are must not depend on what is asked for.
    let mut params = ListParams::default().labels(AGENTS).limit(PAGE);
    let mut found = Vec::new();
    loop {
        let page = within(query.timeout, all.list(&params)).await.map_err(|why| match query.agents_namespace {
            None if why.starts_with("403") => {
                anyhow!("cannot list the agents' pods of all namespaces: {why}; --agents-namespace names theirs")
            }
            _ => anyhow!("cannot list the agents' pods: {why}"),
        })?;
        found.extend(page.items);
        match next_page(params, page.metadata) {
            Some(next) => params = next,
            None => break,
        }
    }
    let (mut believed, not_asked) = believed(found, query.agents_namespace.as_deref())?;
    if let Some(node) = &query.node {
        believed.retain(|pod| pod.spec.as_ref().is_some_and(|s| s.node_name.as_ref() == Some(node)));
    }
    let asked = believed.into_iter().map(|pod| ask(client, pod, query.timeout));
    let mut agents: Vec<Agent> = stream::iter(asked).buffer_unordered(AT_ONCE).collect().await;
    // Of two on a node, the one that stays comes first.
    agents.sort_by(|a, b| (&a.node, a.going, &a.namespace, &a.name).cmp(&(&b.node, b.going, &b.namespace, &b.name)));
    Ok((agents, not_asked))
}

/// The pods that are agents, and of the others which they are and why they are not. Whoever may make a pod may give it the
/// label: an agent is controlled by a DaemonSet, and all agents are in one namespace.
fn believed(found: Vec<Pod>, namespace: Option<&str>) -> anyhow::Result<(Vec<Pod>, Vec<String>)> {
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
                "pods with the agents' label ({AGENTS}) are in several namespaces ({names}), and anybody may give it to a pod: \
                 say by --agents-namespace which is the agents'"
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

async fn ask(client: &Client, pod: Pod, timeout: Duration) -> Agent {
    let spec = pod.spec.unwrap_or_default();
    let ports = spec.containers.iter().flat_map(|c| c.ports.iter().flatten());
    let port = ports.clone().find(|p| p.name.as_deref() == Some("http")).map_or(PORT, |p| p.container_port);
    let phase = pod.status.and_then(|s| s.phase).unwrap_or_default();
    let (namespace, name) = (pod.metadata.namespace.unwrap_or_default(), pod.metadata.name.unwrap_or_default());
    let going = pod.metadata.deletion_timestamp.is_some();
    let node = spec.node_name.unwrap_or_default();
    let answer = match phase.as_str() {
        "Running" => page(client, &namespace, &name, port, timeout).await,
        phase => Err(format!("its pod is {phase}, not Running")),
    };
    let answer = answer.and_then(|page| match page.node.as_str() {
        told if told == node || told.is_empty() => Ok(page),
        told => Err(format!("it speaks for node {told}")),
    });
    Agent { node, going, answer, namespace, name }
}

async fn page(
    client: &Client,
    namespace: &str,
    name: &str,
    port: i32,
    timeout: Duration,
) -> Result<GuardsPage, String> {
    let path = format!("/api/v1/namespaces/{namespace}/pods/{name}:{port}/proxy/api/guards");
    let request = Request::get(path).body(Body::empty()).map_err(|error| error.to_string())?;
    let answered = async {
        let response = client.send(request).await.map_err(|error| chain(&error))?;
        let code = response.status();
        let body = Limited::new(response.into_body(), LARGEST_ANSWER).collect().await;
        let body =
            body.map_err(|error| format!("its answer ended early: {}", shortened(&error.to_string())))?.to_bytes();
        if code.is_success() {
            return serde_json::from_slice::<GuardsPage>(&body)
                .map_err(|error| format!("its answer cannot be read: {error}"));
        }
        let status = serde_json::from_slice::<serde_json::Value>(&body).unwrap_or_default();
        let said =
            status["message"].as_str().map_or_else(|| String::from_utf8_lossy(&body).trim().to_owned(), str::to_owned);
        let hint = if code.as_u16() == 403 { "; you need the right to get pods/proxy there" } else { "" };
        Err(format!("{}: {}{hint}", code.as_u16(), said.chars().take(200).collect::<String>()))
    };
    match tokio::time::timeout(timeout, answered).await {
        Ok(answer) => answer,
        Err(_) => Err(format!("no answer within {timeout:?}")),
    }
}

async fn selected(client: &Client, query: &Query) -> anyhow::Result<Option<BTreeSet<String>>> {
    let Some(selector) = &query.selector else { return Ok(None) };
    let pods = pods_in(client, query.namespace.as_deref());
    let mut params = ListParams::default().labels(selector).limit(PAGE);
    let mut uids = BTreeSet::new();
    loop {
        let page = within(query.timeout, pods.list_metadata(&params)).await;
        let page =
            page.map_err(|why| anyhow!("{why}")).with_context(|| format!("cannot list pods with -l {selector}"))?;
        uids.extend(page.items.into_iter().filter_map(|pod| pod.metadata.uid));
        match next_page(params, page.metadata) {
            Some(next) => params = next,
            None => return Ok(Some(uids)),
        }
    }
}

/// What Events tell of evictions.
///
/// # Errors
/// In words, when they cannot be listed.
pub async fn ended(client: &Client, query: &Query) -> Result<Vec<Ended>, String> {
    let events: Api<Event> = match &query.namespace {
        Some(namespace) => Api::namespaced(client.clone(), namespace),
        None => Api::all(client.clone()),
    };
    let mut all = Vec::new();
    for reason in ENDED {
        let mut params = ListParams::default().fields(&format!("reason={reason}")).limit(PAGE);
        loop {
            let page = within(query.timeout, events.list(&params)).await?;
            all.extend(page.items.into_iter().filter_map(as_ended));
            match next_page(params, page.metadata).filter(|_| all.len() < MOST_EVENTS) {
                Some(next) => params = next,
                None => break,
            }
        }
    }
    Ok(all)
}

/// A dry run is an Event of type Normal, and ended nothing.
fn as_ended(event: Event) -> Option<Ended> {
    // The owner's Event is on a ReplicaSet, and names the Deployment as related.
    let deployment = event.related.filter(|related| related.kind.as_deref() == Some("Deployment"));
    let about = deployment.or(event.regarding)?;
    let at = event.series.map(|s| s.last_observed_time.0).or(event.event_time.map(|t| t.0))?;
    (event.type_.as_deref() == Some("Warning")).then(|| Ended {
        namespace: about.namespace.unwrap_or_default(),
        of: format!("{}/{}", about.kind.unwrap_or_default(), about.name.unwrap_or_default()),
        at,
        note: event.note.unwrap_or_default(),
    })
}

fn pods_in(client: &Client, namespace: Option<&str>) -> Api<Pod> {
    match namespace {
        Some(namespace) => Api::namespaced(client.clone(), namespace),
        None => Api::all(client.clone()),
    }
}

/// How to ask for the next page, if there is one.
pub(super) fn next_page(params: ListParams, page: ListMeta) -> Option<ListParams> {
    page.continue_.filter(|token| !token.is_empty()).map(|token| params.continue_token(&token))
}

pub(super) async fn within<T>(timeout: Duration, what: impl Future<Output = kube::Result<T>>) -> Result<T, String> {
    match tokio::time::timeout(timeout, what).await {
        Ok(result) => result.map_err(|error| match &error {
            // Its own text has the whole answer in it, as code.
            kube::Error::Api(status) => format!("{}: {}", status.code, status.message),
            other => chain(other),
        }),
        Err(_) => Err(format!("the API server gave no answer within {timeout:?}")),
    }
}
