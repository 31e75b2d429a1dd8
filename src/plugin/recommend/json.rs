//! Recommendations for programs: raw numbers, raw names.

use serde_json::{Value, json};

use super::advice::advice;
use super::budgets::Covered;
use super::findings::{Findings, Recommendation};
use super::reckon::{Verdict, quantity};
use crate::plugin::agents::told::agents_json;

/// The JSON's form; a number larger by one says that something that was there has changed.
pub const JSON_VERSION: u32 = 1;

/// All of them.
#[must_use]
pub fn json(findings: &Findings, program: &str) -> Value {
    json!({
        "version": JSON_VERSION,
        "recommendations": findings.all.iter().map(|of| recommendation(of, program)).collect::<Vec<_>>(),
        "agents": agents_json(&findings.agents),
        "notAsked": findings.not_asked,
        "incidentsUnknown": findings.without_incidents.iter().map(|(node, why)| json!({"node": node, "why": why})).collect::<Vec<_>>(),
        "budgetsUnknown": findings.budgets_unknown,
    })
}

fn recommendation(of: &Recommendation, program: &str) -> Value {
    let (name, workload) = (&of.name, &of.workload);
    let reckoned = of.reckoned.as_ref().map(|(_, reckoned)| reckoned);
    let verdict = reckoned.map(|reckoned| reckoned.verdict);
    let (budget, budgets) = match &of.budget {
        Covered::By(names) => (Some("there"), Some(names)),
        Covered::NotNeeded => (Some("not-needed"), None),
        Covered::Missing => (Some("missing"), None),
        Covered::NotKnown => (None, None),
    };
    json!({
        "namespace": name.namespace,
        "workload": name.workload,
        "container": name.container,
        "pods": workload.pods.len(),
        "podsIncomplete": of.incomplete.pods,
        "knownSeconds": workload.lasts.as_secs(),
        "peak": workload.peak,
        "usagePeak": workload.usage_peak,
        "beforeLeaks": workload.before_leaks,
        "growth": workload.growth,
        "evictMs": workload.latency.evict,
        "evictAssumed": workload.latency.evictions == 0,
        "limit": workload.limit,
        "threshold": workload.thresholds.as_ref().map(|[_, high]| &high.0),
        "thresholdLowest": workload.thresholds.as_ref().map(|[low, _]| &low.0),
        "verdict": verdict.map(word),
        "recommended": verdict.map(recommended),
        "thresholdAbove": reckoned.map(|reckoned| reckoned.above.0),
        "headroom": reckoned.map(|reckoned| reckoned.headroom.0),
        "inTime": reckoned.map(|reckoned| reckoned.in_time.iter().map(|remedy| remedy.as_str()).collect::<Vec<_>>()),
        "missed": workload.missed.iter().map(|(reason, _)| reason.map(|reason| reason.label())).collect::<Vec<_>>(),
        "otherIncidents": workload.acted,
        "budget": budget,
        "budgets": budgets,
        "advice": advice(of, program),
    })
}

fn word(verdict: Verdict) -> &'static str {
    match verdict {
        Verdict::TooEarly(_) => "too-early",
        Verdict::Fits => "fits",
        Verdict::Threshold(_) => "threshold",
        Verdict::Limit(..) => "limit",
    }
}

/// What to write.
fn recommended(verdict: Verdict) -> Value {
    match verdict {
        Verdict::TooEarly(left) => json!({"askAgainInSeconds": left.as_secs()}),
        Verdict::Fits => json!({}),
        Verdict::Threshold(written) => json!({"threshold": written.to_string()}),
        Verdict::Limit(limit, written) => json!({"threshold": written.to_string(), "limit": quantity(limit)}),
    }
}
