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
use serde::Deserialize;

use super::spaces::{Unguarded, unguarded};
use crate::ground::text::{chain, shortened};

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
    pub fn pages(&self) -> impl Iterator<Item = (&Agent, &Page)> {
        self.agents.iter().filter_map(|agent| Some((agent, agent.answer.as_ref().ok()?)))
    }

    /// All evictions that are known: Events live for an hour, an agent remembers its last ones until it is restarted.
    #[must_use]
    pub fn evictions(&self) -> Vec<Ended> {
        let remembered = self.pages().flat_map(|(_, page)| &page.recent).filter_map(Recent::ended);
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
    pub answer: Result<Page, String>,
}

/// `/api/guards`. Agents of other versions may know less, or more.
#[derive(Clone, Debug, Default, Deserialize)]
pub struct Page {
    /// The node that it guards.
    #[serde(default)]
    pub node: String,
    /// Its version.
    #[serde(default)]
    pub version: String,
    /// It knows the pods of its node.
    #[serde(default)]
    pub listed: bool,
    /// See [`crate::controller::view::GuardView`].
    #[serde(default)]
    pub guards: Vec<Guarded>,
    /// See [`crate::report::recent::RecentView`].
    #[serde(default)]
    pub recent: Vec<Recent>,
}

/// What an agent told of an eviction, as `/api/guards` has it.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct Recent {
    /// The Event's.
    pub reason: String,
    /// As RFC 3339 has it.
    pub at: String,
    /// `metadata.namespace`.
    pub namespace: String,
    /// `metadata.name`.
    pub pod: String,
    /// As `Kind/name`.
    pub owner: Option<String>,
    /// In words.
    pub words: String,
}

/// One guarded container, as `/api/guards` has it.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct Guarded {
    /// `metadata.namespace`.
    pub namespace: String,
    /// `metadata.name`.
    pub pod: String,
    /// `metadata.uid`.
    pub uid: String,
    /// As `Kind/name`.
    pub owner: Option<String>,
    /// None: the pod's own group, or the whole pod.
    pub container: Option<String>,
    /// In a word.
    pub state: String,
    /// Why.
    pub why: String,
    /// What is compared.
    pub signal: Option<String>,
    /// As the annotation has it.
    pub threshold: Option<String>,
    /// `namespace` where its namespace's label has opted it in; none: the pod's own.
    pub guarded_by: Option<String>,
    /// The last look.
    pub memory: Option<Memory>,
}

/// The last look at a container; sizes in bytes.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct Memory {
    /// All that is charged.
    pub usage: u64,
    /// Of the signal.
    pub value: Option<u64>,
    /// That a percentage is of.
    pub limit: Option<u64>,
    /// In bytes.
    pub threshold: Option<u64>,
    /// What is left before a kill.
    pub room: Option<u64>,
    /// Bytes a second.
    pub growth: Option<i64>,
    /// The same over the last minute.
    #[serde(default)]
    pub slow_growth: Option<i64>,
    /// How long ago it was read, in milliseconds.
    pub age_ms: u64,
}

/// An eviction, as an Event or an agent tells it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Ended {
    /// Of the object that it is told of.
    pub namespace: String,
    /// The object as `Kind/name`.
    pub of: String,
    /// When, the last time.
    pub at: Timestamp,
    /// What is said of it.
    pub note: String,
}

impl Recent {
    fn ended(&self) -> Option<Ended> {
        let of = || self.owner.clone().unwrap_or_else(|| format!("Pod/{}", self.pod));
        ENDED.contains(&self.reason.as_str()).then_some(())?;
        Some(Ended { namespace: self.namespace.clone(), of: of(), at: self.at.parse().ok()?, note: self.words.clone() })
    }
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

async fn page(client: &Client, namespace: &str, name: &str, port: i32, timeout: Duration) -> Result<Page, String> {
    let path = format!("/api/v1/namespaces/{namespace}/pods/{name}:{port}/proxy/api/guards");
    let request = Request::get(path).body(Body::empty()).map_err(|error| error.to_string())?;
    let answered = async {
        let response = client.send(request).await.map_err(|error| chain(&error))?;
        let code = response.status();
        let body = Limited::new(response.into_body(), LARGEST_ANSWER).collect().await;
        let body =
            body.map_err(|error| format!("its answer ended early: {}", shortened(&error.to_string())))?.to_bytes();
        if code.is_success() {
            return serde_json::from_slice::<Page>(&body)
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
    let about = event.regarding?;
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::controller::view::{GuardView, MemoryView};

    /// What is read here is what an agent of this version writes.
    #[test]
    fn the_agents_form_is_read_whole() {
        let view = GuardView {
            namespace: "n".into(),
            pod: "p".into(),
            uid: "u".into(),
            owner: Some("Job/j".into()),
            container: Some("c".into()),
            cgroup: None,
            state: "over",
            why: "w".into(),
            never: None,
            dry_run: None,
            signal: Some("usage"),
            threshold: Some("60 %".into()),
            guarded_by: Some("namespace"),
            memory: Some(MemoryView {
                usage: 1,
                value: Some(2),
                limit: Some(3),
                threshold: Some(4),
                room: Some(5),
                growth: Some(-6),
                slow_growth: Some(-7),
                age_ms: 7,
                next_ms: 8,
                oom_kills: None,
            }),
        };
        let read: Guarded = serde_json::from_value(serde_json::to_value(&view).unwrap()).unwrap();
        let memory = read.memory.unwrap();
        assert_eq!(
            (read.namespace, read.pod, read.uid, read.state, read.why),
            ("n".into(), "p".into(), "u".into(), "over".into(), "w".into())
        );
        assert_eq!((read.owner.as_deref(), read.container.as_deref()), (Some("Job/j"), Some("c")));
        assert_eq!((read.signal.as_deref(), read.threshold.as_deref()), (Some("usage"), Some("60 %")));
        assert_eq!(read.guarded_by.as_deref(), Some("namespace"));
        assert_eq!((memory.usage, memory.value, memory.limit, memory.threshold), (1, Some(2), Some(3), Some(4)));
        assert_eq!((memory.room, memory.growth, memory.age_ms), (Some(5), Some(-6), 7));
    }

    #[test]
    fn an_agent_that_knows_less_or_more_is_read_all_the_same() {
        let page: Page =
            serde_json::from_str(r#"{"listed": true, "new": 1, "guards": [{"pod": "p", "memory": {"x": 1}}]}"#)
                .unwrap();
        assert_eq!((page.guards[0].pod.as_str(), page.guards[0].state.as_str()), ("p", ""));
    }
}
