//! Disruption budgets, as the eviction subresource looks at them.

use crate::answers;
use crate::reply::Reply;
use crate::state::{Inner, State};
use serde_json::{Value, json};
use std::collections::BTreeMap;

/// A PodDisruptionBudget with what its controller knows of it.
#[derive(Clone, Debug, Default)]
pub struct Pdb {
    /// Namespace of the budget and of its pods.
    pub namespace: String,
    /// Name of the budget.
    pub name: String,
    /// Labels that select the pods; empty selects all of the namespace.
    pub match_labels: BTreeMap<String, String>,
    /// `minAvailable` as a number of pods.
    pub min_available: Option<u32>,
    /// `maxUnavailable` as a number of pods; counted from the pods that match.
    pub max_unavailable: Option<u32>,
    /// `status.currentHealthy`; each eviction granted takes one off.
    pub healthy: u32,
    /// Whether the disruption controller has seen the budget. If not: 429 with Retry-After 10.
    pub observed: bool,
    /// Whether the controller cannot compute it (bare pods under `maxUnavailable`): 429 always.
    pub sync_failed: bool,
}

impl Pdb {
    /// A budget that allows nothing: one pod is healthy, one must be.
    pub fn blocking(namespace: &str, name: &str, labels: &[(&str, &str)]) -> Pdb {
        let match_labels = labels.iter().map(|(key, value)| ((*key).to_owned(), (*value).to_owned())).collect();
        Pdb {
            namespace: namespace.to_owned(),
            name: name.to_owned(),
            match_labels,
            min_available: Some(1),
            healthy: 1,
            observed: true,
            ..Pdb::default()
        }
    }

    fn selects(&self, namespace: &str, pod: &Value) -> bool {
        let labels = &pod["metadata"]["labels"];
        self.namespace == namespace && self.match_labels.iter().all(|(key, value)| labels[key] == value.as_str())
    }
}

/// The budgets of a namespace, or of all, on one page.
pub(crate) fn list(inner: &Inner, namespace: &str) -> Reply {
    let items: Vec<Value> = inner.read(|state| {
        let here = state.budgets.values().filter(|budget| namespace.is_empty() || budget.namespace == namespace);
        here.map(|budget| {
            let mut spec = json!({"selector": {"matchLabels": budget.match_labels}});
            let amounts = [("minAvailable", budget.min_available), ("maxUnavailable", budget.max_unavailable)];
            amounts.iter().filter_map(|(key, n)| Some((*key, (*n)?))).for_each(|(key, n)| spec[key] = n.into());
            json!({"metadata": {"name": budget.name, "namespace": budget.namespace}, "spec": spec})
        })
        .collect()
    });
    let version = "policy/v1";
    Reply::json(200, json!({"kind": "PodDisruptionBudgetList", "apiVersion": version, "metadata": {}, "items": items}))
}

/// Asks the budgets of `pod` for one disruption and, unless it is a `dry_run`, takes it.
pub(crate) fn ask(state: &mut State, namespace: &str, pod: &Value, dry_run: bool) -> Result<(), Reply> {
    let mut matching = state.budgets.iter().filter(|(_, budget)| budget.selects(namespace, pod));
    let Some((key, budget)) = matching.next().map(|(key, budget)| (key.clone(), budget.clone())) else {
        return Ok(());
    };
    if matching.next().is_some() {
        return Err(answers::TWO_BUDGETS.reply(&[]));
    }
    let expected = state.pods.iter().filter(|((ns, _), pod)| budget.selects(ns, pod)).count();
    let expected = u32::try_from(expected).unwrap_or(u32::MAX);
    let desired = budget.min_available.unwrap_or_else(|| expected.saturating_sub(budget.max_unavailable.unwrap_or(0)));
    let (desired_text, healthy) = (desired.to_string(), budget.healthy.to_string());
    let vars = [("budget", budget.name.as_str()), ("desired", &desired_text), ("healthy", &healthy)];
    if !budget.observed {
        return Err(answers::BUDGET_UNOBSERVED.reply(&vars));
    }
    if budget.sync_failed {
        return Err(answers::BUDGET_SYNC_FAILED.reply(&vars));
    }
    if budget.healthy <= desired {
        return Err(answers::BUDGET_BLOCKS.reply(&vars));
    }
    if let Some(budget) = state.budgets.get_mut(&key).filter(|_| !dry_run) {
        budget.healthy -= 1;
    }
    Ok(())
}
