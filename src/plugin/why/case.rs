//! What the agents know of the pod or the workload that the user names.

use std::collections::BTreeSet;

use jiff::Timestamp;
use kube::Client;

use super::advice::may_be_raised;
use crate::plugin::agents::ask::{AgentAnswer, GUARDS, GUARDS_WITH_HISTORY, INCIDENTS, Page, ask_each};
use crate::plugin::agents::find::find;
use crate::plugin::agents::named::{Named, workload_of};
use crate::plugin::agents::query::Query;
use crate::serve::incident::{IncidentView, IncidentsPage};
use crate::serve::wire::{GuardView, GuardsPage};

/// Something that an agent told.
#[derive(Clone, Debug)]
pub struct Of<T> {
    /// The agent's node.
    pub node: String,
    /// When the agent started. It knows nothing of before.
    pub started: Option<Timestamp>,
    pub it: T,
}

/// All that is known.
#[derive(Clone, Debug)]
pub struct Case {
    /// The latest first.
    pub incidents: Vec<Of<IncidentView>>,
    /// What is guarded now, the nearest to its threshold first. Asked only where no incident is known.
    pub guards: Vec<Of<GuardView>>,
    /// The workload of the latest incident lists the remedy `raise` now. Asked only where that may be advised.
    pub raises: bool,
    pub agents: Vec<AgentAnswer<IncidentsPage>>,
    /// Pods with the agents' label that were not asked; with the reason.
    pub not_asked: Vec<String>,
}

/// What is asked for.
#[derive(Clone, Debug)]
pub struct Inquiry {
    pub named: Named,
    pub container: Option<String>,
    pub query: Query,
}

impl Case {
    /// At least one agent has answered.
    #[must_use]
    pub fn answered(&self) -> bool {
        self.agents.iter().any(|agent| agent.answer.is_ok())
    }

    /// Anything is known of what the user names.
    #[must_use]
    pub fn is_known(&self) -> bool {
        !self.incidents.is_empty() || !self.guards.is_empty()
    }
}

/// Asks the agents.
///
/// # Errors
/// When the agents cannot be found.
pub async fn inquire(client: &Client, inquiry: &Inquiry) -> anyhow::Result<Case> {
    let timeout = inquiry.query.timeout;
    let mut found = find(client, &inquiry.query).await?;
    let agents = ask_each::<IncidentsPage>(client, &found, INCIDENTS, timeout).await;
    let incidents = incidents(&agents, inquiry);
    let (mut guards, mut raises) = (Vec::new(), false);
    found.keep_answering(&agents);
    match incidents.first() {
        None => guards = guards_of(&ask_each(client, &found, GUARDS_WITH_HISTORY, timeout).await, inquiry),
        Some(latest) if may_be_raised(&latest.it) => {
            let now = ask_each::<GuardsPage>(client, &found, GUARDS, timeout).await;
            let mut all = answers(&now).flat_map(|(_, page)| &page.guards);
            raises = all.any(|guard| is_like(guard, &latest.it) && guard.remedies.iter().any(|name| name == "raise"));
        }
        Some(_) => {}
    }
    Ok(Case { incidents, guards, raises, agents, not_asked: found.not_asked })
}

/// A pod of the same workload, and its same container.
fn is_like(guard: &GuardView, incident: &IncidentView) -> bool {
    guard.namespace == incident.namespace
        && guard.container == incident.container
        && workload_of(guard.owner.as_deref(), &guard.pod) == workload_of(incident.owner.as_deref(), &incident.pod)
}

fn incidents(agents: &[AgentAnswer<IncidentsPage>], inquiry: &Inquiry) -> Vec<Of<IncidentView>> {
    let of_all = answers(agents).flat_map(|(agent, page)| {
        let of =
            |it: &IncidentView| Of { node: agent.node.clone(), started: page.started.parse().ok(), it: it.clone() };
        page.incidents.iter().map(of)
    });
    let here = of_all.filter(|one| inquiry.wants(&one.it.namespace, one.it.container.as_deref())).collect();
    let mut all = inquiry.named.select(here, |one| (&one.it.pod, one.it.owner.as_deref()));
    // In RFC 3339, in the same zone and with the same decimals: the order of the texts is that of the times.
    all.sort_by(|a, b| b.it.at.cmp(&a.it.at));
    // In a rollout, two agents of a node may tell the same.
    let mut seen = BTreeSet::new();
    all.retain(|one| seen.insert((one.it.uid.clone(), one.it.container.clone(), one.it.at.clone())));
    all
}

fn guards_of(agents: &[AgentAnswer<GuardsPage>], inquiry: &Inquiry) -> Vec<Of<GuardView>> {
    let of_all = answers(agents).flat_map(|(agent, page)| {
        let of = |it: &GuardView| Of { node: agent.node.clone(), started: page.started.parse().ok(), it: it.clone() };
        page.guards.iter().map(of)
    });
    let here = of_all.filter(|one| inquiry.wants(&one.it.namespace, one.it.container.as_deref())).collect();
    let mut all = inquiry.named.select(here, |one| (&one.it.pod, one.it.owner.as_deref()));
    let mut seen = BTreeSet::new();
    all.retain(|one| seen.insert((one.it.uid.clone(), one.it.container.clone())));
    all.sort_by(|a, b| nearness(&b.it).total_cmp(&nearness(&a.it)));
    all
}

fn answers<P: Page>(agents: &[AgentAnswer<P>]) -> impl Iterator<Item = (&AgentAnswer<P>, &P)> {
    agents.iter().filter_map(|agent| Some((agent, agent.answer.as_ref().ok()?)))
}

/// The value's share of the threshold.
#[allow(clippy::cast_precision_loss, reason = "a share for sorting")]
fn nearness(guard: &GuardView) -> f64 {
    let Some(memory) = &guard.memory else { return -1.0 };
    let value = memory.value.unwrap_or(memory.usage) as f64;
    memory.threshold.map_or(0.0, |threshold| value / threshold.max(1) as f64)
}

impl Inquiry {
    fn wants(&self, namespace: &str, container: Option<&str>) -> bool {
        self.query.namespace.as_deref().is_none_or(|wanted| wanted == namespace)
            && self.container.as_deref().is_none_or(|wanted| Some(wanted) == container)
    }
}
