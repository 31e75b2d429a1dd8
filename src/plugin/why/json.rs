//! A case for programs: raw numbers, raw names.

use serde::Serialize;
use serde_json::{Value, json};

use super::advice::advice;
use super::case::{Case, Of};
use crate::plugin::agents::told::agents_json;

/// The JSON's form; a number larger by one says that something that was there has changed.
pub const JSON_VERSION: u32 = 1;

/// The latest incident, or all of them; without one, what is guarded now.
#[must_use]
pub fn json(case: &Case, all: bool, program: &str) -> Value {
    let most = if all { usize::MAX } else { 1 };
    let incidents = case.incidents.iter().take(most).enumerate().map(|(n, of)| {
        let mut value = told(of);
        value["advice"] = json!(advice(of, case.raises && n == 0, program));
        value
    });
    json!({
        "version": JSON_VERSION,
        "incidents": incidents.collect::<Vec<_>>(),
        "earlier": case.incidents.len().saturating_sub(most),
        "guards": case.guards.iter().map(told).collect::<Vec<_>>(),
        "agents": agents_json(&case.agents),
        "notAsked": case.not_asked,
    })
}

/// As the agent has it, with the agent's node and start.
fn told<T: Serialize>(of: &Of<T>) -> Value {
    let mut value = serde_json::to_value(&of.it).unwrap_or_default();
    value["node"] = of.node.clone().into();
    value["agentStarted"] = json!(of.started.map(|at| at.to_string()));
    value
}
