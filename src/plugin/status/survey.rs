//! All that `status` shows, from the agents and from the API server.

use std::collections::BTreeSet;

use anyhow::{Context, anyhow};
use k8s_openapi::api::core::v1::Pod;
use kube::Client;
use kube::api::ListParams;

use super::evictions::{PastEviction, evictions};
use super::unguarded::{UnguardedWorkload, unguarded};
use crate::plugin::agents::ask::{AgentAnswer, GUARDS, ask_each};
use crate::plugin::agents::find::find;
use crate::plugin::agents::lists::{api_in, list_metadata};
use crate::plugin::agents::query::Query;
use crate::serve::wire::GuardsPage;

#[derive(Clone, Debug)]
pub struct Survey {
    pub agents: Vec<AgentAnswer>,
    /// Pods with the agents' label, which anybody can put on a pod, that were not asked; with the reason.
    pub not_asked: Vec<String>,
    /// Uids of the pods that match the label selector; none: all.
    pub selected: Option<BTreeSet<String>>,
    /// The evictions that Events report, or why they are not known.
    pub evictions: Result<Vec<PastEviction>, String>,
    /// What is not guarded although its namespace is, or why that is not known.
    pub unguarded: Result<Vec<UnguardedWorkload>, String>,
}

impl Survey {
    /// At least one agent has answered.
    #[must_use]
    pub fn answered(&self) -> bool {
        self.pages().next().is_some()
    }

    /// The answers of the agents.
    pub fn pages(&self) -> impl Iterator<Item = (&AgentAnswer, &GuardsPage)> {
        self.agents.iter().filter_map(|agent| Some((agent, agent.answer.as_ref().ok()?)))
    }

    /// All evictions that are known: Events live for an hour, and an agent remembers its last ones until it is restarted.
    #[must_use]
    pub fn all_evictions(&self) -> Vec<PastEviction> {
        let notices = self.pages().flat_map(|(_, page)| &page.recent);
        let remembered = notices.filter_map(PastEviction::from_agent);
        self.evictions.iter().flatten().cloned().chain(remembered).collect()
    }
}

/// Asks the agents and the API server.
///
/// # Errors
/// When the agents cannot be found, or the pods cannot be selected.
pub async fn survey(client: &Client, query: &Query) -> anyhow::Result<Survey> {
    let (survey, evictions, unguarded) =
        futures::join!(survey_agents(client, query), evictions(client, query), unguarded(client, query));
    let survey = survey?;
    // The policy for namespaces leaves out the agents' own.
    let is_theirs = |one: &UnguardedWorkload| survey.agents.iter().any(|agent| agent.namespace == one.namespace);
    let unguarded = unguarded.map(|all| all.into_iter().filter(|one| !is_theirs(one)).collect());
    Ok(Survey { evictions, unguarded, ..survey })
}

/// The same without Events, which are expensive for the API server to find among all others, and without what is not
/// guarded.
///
/// # Errors
/// As [`survey`].
pub async fn survey_agents(client: &Client, query: &Query) -> anyhow::Result<Survey> {
    let (agents, selected) = futures::join!(agents(client, query), selected(client, query));
    let (agents, not_asked) = agents?;
    Ok(Survey { agents, not_asked, selected: selected?, evictions: Ok(Vec::new()), unguarded: Ok(Vec::new()) })
}

async fn agents(client: &Client, query: &Query) -> anyhow::Result<(Vec<AgentAnswer>, Vec<String>)> {
    let found = find(client, query).await?;
    Ok((ask_each(client, &found, GUARDS, query.timeout).await, found.not_asked))
}

async fn selected(client: &Client, query: &Query) -> anyhow::Result<Option<BTreeSet<String>>> {
    let Some(selector) = &query.selector else { return Ok(None) };
    let pods = api_in::<Pod>(client, query.namespace.as_deref());
    let found = list_metadata(usize::MAX, &pods, ListParams::default().labels(selector), query.timeout).await;
    let found =
        found.map_err(|why| anyhow!("{why}")).with_context(|| format!("cannot list pods with -l {selector}"))?;
    Ok(Some(found.into_iter().filter_map(|pod| pod.metadata.uid).collect()))
}
