//! Which agents did not answer, and which pods were not asked: for people and for programs.

use serde_json::{Value, json};

use super::ask::{AgentAnswer, Page};
use super::find::AGENTS;
use super::query::Query;
use crate::plugin::sanitize::printable;

/// Pods that only look like agents are named up to this number: whoever can create one can create many.
const MOST_NOT_ASKED: usize = 5;

/// A line for each agent that does not answer, or does not know its pods yet; or one that says that there are no agents.
#[must_use]
pub fn silent<P: Page>(agents: &[AgentAnswer<P>], query: &Query) -> Vec<String> {
    if agents.is_empty() {
        let named = |what: &str, name: &Option<String>| {
            name.as_ref().map_or_else(String::new, |n| format!(" {what} {}", printable(n)))
        };
        let (namespace, node) = (named("in namespace", &query.agents_namespace), named("on node", &query.node));
        return vec![format!(
            "No agents: no DaemonSet has a pod with the label {AGENTS}{namespace}{node}. Is pre-oom-killer installed in this cluster (README, Install)?"
        )];
    }
    let line = |agent: &AgentAnswer<P>| {
        let why = match &agent.answer {
            Ok(page) if page.listed() => return None,
            _ if agent.terminating => "its pod is terminating",
            Ok(_) => "it has not listed the pods of its node yet",
            Err(why) => why,
        };
        let name = format!("{}/{}", agent.namespace, agent.name);
        Some(format!("No answer for node {} from {}: {}", printable(&agent.node), printable(&name), printable(why)))
    };
    agents.iter().filter_map(line).collect()
}

/// A line for each pod that has the agents' label and was not asked.
#[must_use]
pub fn not_asked(pods: &[String]) -> Vec<String> {
    let some = pods.iter().take(MOST_NOT_ASKED);
    let mut lines: Vec<String> =
        some.map(|pod| format!("Not asked, although it has the agents' label: {}.", printable(pod))).collect();
    if let Some(more) = pods.len().checked_sub(MOST_NOT_ASKED).filter(|more| *more > 0) {
        lines.push(format!("{more} more pods with that label were not asked either."));
    }
    lines
}

/// Each agent: where it is, and whether it answered.
#[must_use]
pub fn agents_json<P: Page>(agents: &[AgentAnswer<P>]) -> Value {
    let one = |agent: &AgentAnswer<P>| {
        let (page, error) = (agent.answer.as_ref().ok(), agent.answer.as_ref().err());
        json!({
            "namespace": agent.namespace,
            "name": agent.name,
            "node": agent.node,
            "version": page.map(P::version),
            "listed": page.map(P::listed),
            "error": error,
        })
    };
    agents.iter().map(one).collect()
}
