//! Asks the agents and the API server, and works out a recommendation for each container of a workload.

use std::collections::BTreeMap;

use anyhow::anyhow;
use jiff::Timestamp;
use kube::Client;

use super::budgets::{Covered, Labels, budgets, covered, labels};
use super::reckon::{Known, Reckoned, reckon};
use super::workloads::{Name, Workload, workloads};
use crate::plugin::agents::ask::{AgentAnswer, GUARDS, INCIDENTS, ask_each};
use crate::plugin::agents::find::find;
use crate::plugin::agents::named::{Named, workload_of};
use crate::plugin::agents::query::Query;
use crate::serve::incident::IncidentsPage;
use crate::serve::wire::{GuardView, GuardsPage};

/// What is asked for.
#[derive(Clone, Debug, Default)]
pub struct Wanted {
    pub named: Option<Named>,
    pub query: Query,
    pub now: Timestamp,
}

/// What is recommended for a container of a workload.
#[derive(Clone, Debug)]
pub struct Recommendation {
    pub name: Name,
    pub workload: Workload,
    /// None: too little is known to reckon with.
    pub reckoned: Option<(Known, Reckoned)>,
    pub budget: Covered,
    pub incomplete: Incomplete,
}

/// What may be missing, because an agent did not say it.
#[derive(Clone, Copy, Debug, Default)]
pub struct Incomplete {
    pub pods: bool,
    pub incidents: bool,
}

/// All of them, and what is missing in them.
#[derive(Clone, Debug)]
pub struct Findings {
    pub all: Vec<Recommendation>,
    pub agents: Vec<AgentAnswer<GuardsPage>>,
    /// Pods with the agents' label that were not asked; with the reason.
    pub not_asked: Vec<String>,
    /// The agents that do not say what happened: their nodes, and why.
    pub without_incidents: Vec<(String, String)>,
    /// Why it is not known which budgets there are.
    pub budgets_unknown: Option<String>,
}

impl Findings {
    /// At least one agent has answered.
    #[must_use]
    pub fn answered(&self) -> bool {
        self.agents.iter().any(|agent| agent.answer.is_ok())
    }
}

/// Asks, and reckons.
///
/// # Errors
/// When the agents cannot be found, or the pods cannot be selected.
pub async fn findings(client: &Client, wanted: &Wanted) -> anyhow::Result<Findings> {
    let Query { namespace, selector, timeout, .. } = &wanted.query;
    let namespace = namespace.as_deref();
    let (asked, budgets, labels) = futures::join!(
        ask(client, &wanted.query),
        budgets(client, namespace, *timeout),
        labels(client, namespace, selector.as_deref(), *timeout),
    );
    let (agents, incidents, not_asked) = asked?;
    let labels = match (labels, selector) {
        (Err(why), Some(selector)) => return Err(anyhow!("cannot list pods with -l {selector}: {why}")),
        (labels, _) => labels.unwrap_or_default(),
    };
    let guards = agents.iter().flat_map(|agent| agent.answer.iter().flat_map(|page| &page.guards));
    let guards = guards.filter(|guard| wanted.is_asked(guard, &labels));
    let happened = incidents.iter().flat_map(|agent| agent.answer.iter().flat_map(|page| &page.incidents));
    let all = workloads(guards, happened, wanted.now);
    let pods = pods_of(&all);
    let pods_missing = agents.iter().any(|agent| agent.answer.as_ref().map_or(true, |page| !page.listed));
    let incidents_missing = pods_missing || incidents.iter().any(|agent| agent.answer.is_err());
    let incomplete = Incomplete { pods: pods_missing, incidents: incidents_missing };
    let recommend = |(name, workload): (Name, Workload)| {
        let reckoned = workload.known().map(|known| (known.clone(), reckon(&known)));
        let pods = &pods[&(name.namespace.clone(), name.workload.clone())];
        let budget = covered(pods, (&name.namespace, &name.workload), &labels, budgets.as_deref().ok());
        Recommendation { name, workload, reckoned, budget, incomplete }
    };
    let all = all.into_iter().map(recommend).collect();
    let unknown = |agent: AgentAnswer<IncidentsPage>| Some((agent.node, agent.answer.err()?));
    Ok(Findings {
        all,
        agents,
        not_asked,
        without_incidents: incidents.into_iter().filter_map(unknown).collect(),
        budgets_unknown: budgets.err(),
    })
}

type Asked = (Vec<AgentAnswer<GuardsPage>>, Vec<AgentAnswer<IncidentsPage>>, Vec<String>);

async fn ask(client: &Client, query: &Query) -> anyhow::Result<Asked> {
    let mut found = find(client, query).await?;
    let agents = ask_each::<GuardsPage>(client, &found, GUARDS, query.timeout).await;
    found.keep_answering(&agents);
    let incidents = ask_each(client, &found, INCIDENTS, query.timeout).await;
    Ok((agents, incidents, found.not_asked))
}

/// The uids of a workload's pods, whichever of their containers are guarded.
fn pods_of(all: &BTreeMap<Name, Workload>) -> BTreeMap<(String, String), std::collections::BTreeSet<String>> {
    let mut pods = BTreeMap::<_, std::collections::BTreeSet<String>>::new();
    for (name, workload) in all {
        let of = pods.entry((name.namespace.clone(), name.workload.clone())).or_default();
        of.extend(workload.pods.iter().cloned());
    }
    pods
}

impl Wanted {
    fn is_asked(&self, guard: &GuardView, labels: &Labels) -> bool {
        let owner = workload_of(guard.owner.as_deref(), &guard.pod);
        self.query.namespace.as_ref().is_none_or(|namespace| *namespace == guard.namespace)
            && (self.query.selector.is_none() || labels.contains_key(&guard.uid))
            && self.named.as_ref().is_none_or(|named| named.is_pod(&guard.pod) || named.is_owner(Some(&owner)))
    }
}
