//! What to write for a container of a workload, and why, in sentences.

use std::collections::BTreeMap;
use std::time::Duration;

use super::budgets::{Covered, advised};
use super::findings::Recommendation;
use super::reckon::{Because, Known, Reckoned, Verdict, quantity};
use crate::ground::durations::{span, took};
use crate::ground::keys;
use crate::ground::units::Bytes;
use crate::pods::guard::Remedy;

/// The sentences, for a program that the user calls by this name. Others' texts in them are not sanitized yet.
#[must_use]
pub(super) fn advice(of: &Recommendation, program: &str) -> Vec<String> {
    let mut all = Vec::new();
    match &of.reckoned {
        Some((known, reckoned)) => {
            all.extend(by_verdict(of, known, reckoned));
            all.extend(instead(known, reckoned));
            all.extend(leaks(of, reckoned, program));
            all.extend(too_late(of, known, reckoned));
        }
        None => {
            all.push(format!("Not known: {}.", of.workload.unknown.as_deref().unwrap_or("its memory was never read")))
        }
    }
    all.extend(missed(of, program));
    if of.budget == Covered::Missing {
        let (pods, least) = (of.workload.pods.len(), if of.incomplete.pods { "at least " } else { "" });
        let budget = advised(&of.name.workload, pods);
        all.push(format!(
            "It has {least}{pods} pods and no PodDisruptionBudget, so all of them could be evicted at once: add one with {budget}."
        ));
    }
    all
}

fn by_verdict(of: &Recommendation, known: &Known, reckoned: &Reckoned) -> Option<String> {
    let threshold = keys::THRESHOLD;
    Some(match reckoned.verdict {
        Verdict::Fits => return None,
        Verdict::TooEarly(left) => format!(
            "Known for {}, and an hour is needed: ask again in {}.",
            span(known.lasts),
            span(up_to_a_minute(left))
        ),
        Verdict::Threshold(written) if is_below(known, reckoned) => format!(
            "Write {threshold}: \"{written}\". {}, so the present one would evict it in normal operation.",
            needs(of, known)
        ),
        Verdict::Threshold(written) => format!(
            "Write {threshold}: \"{written}\". An eviction needs {} below the limit: {}.",
            reckoned.headroom,
            why_headroom(known, reckoned)
        ),
        Verdict::Limit(limit, written) => {
            let small = match known.limit {
                Some(present) => format!("Its limit of {present} is too small by {}", quantity(limit.less(present))),
                None => "It has no limit, so its percentage has no meaning".into(),
            };
            format!(
                "{small}: write resources.limits.memory: {}, with {threshold}: \"{written}\". {}, and an eviction needs {} below the limit: {}.",
                quantity(limit),
                needs(of, known),
                reckoned.headroom,
                why_headroom(known, reckoned)
            )
        }
    })
}

fn needs(of: &Recommendation, known: &Known) -> String {
    match of.workload.before_leaks {
        _ if known.besides >= known.peak => format!("One of its pods held {}", known.besides),
        Some(before) if before >= known.peak.0 => format!("It held {} before it leaked", known.peak),
        _ if of.workload.peak.is_none() => format!("Its peak is at most {} (its usage)", known.peak),
        _ => format!("Its peak is {}", known.peak),
    }
}

/// The present threshold is not above what the container needs.
fn is_below(known: &Known, reckoned: &Reckoned) -> bool {
    known.lowest().is_some_and(|lowest| lowest <= reckoned.above)
}

fn why_headroom(known: &Known, reckoned: &Reckoned) -> String {
    match reckoned.because {
        Because::Growth => {
            let evict = known.latencies.of(Remedy::Evict);
            format!("it grew up to {}/s, and an eviction takes {}", Bytes(known.growth), took(evict))
        }
        Because::Missed => format!("a kill was faster than the agent with {}", known.missed.unwrap_or_default()),
        Because::Limit => "with less than a twentieth of the limit left, a kill can come at once".into(),
    }
}

fn up_to_a_minute(left: Duration) -> Duration {
    Duration::from_secs(left.as_secs().div_ceil(60).max(2) * 60)
}

/// What else helps where the limit would have to be much larger.
fn instead(known: &Known, reckoned: &Reckoned) -> Option<String> {
    let Verdict::Limit(limit, _) = reckoned.verdict else { return None };
    (limit >= known.limit?.times(2)).then(|| {
        let shutdown = known.latencies.of(Remedy::Evict) > Duration::from_secs(2);
        let shutdown = if shutdown { ", or shorten its shutdown (eviction-grace-period)" } else { "" };
        format!("If that is too much: let its limit be raised when it has to be (remedies: \"raise,evict\", with raise-limit-to){shutdown}.")
    })
}

fn leaks(of: &Recommendation, reckoned: &Reckoned, program: &str) -> Option<String> {
    let before = of.workload.before_leaks.filter(|_| !matches!(reckoned.verdict, Verdict::TooEarly(_)))?;
    Some(format!(
        "It leaks, and no threshold mends that (`{program} why {} -n {}`). What it held before the leak counts, {}, not where the leak was stopped. If it grew with its load, it is no leak, and it needs a threshold above what the load needs.",
        of.name.short(),
        of.name.namespace,
        Bytes(before)
    ))
}

/// Remedies that the pods list, and that would come too late.
fn too_late(of: &Recommendation, known: &Known, reckoned: &Reckoned) -> Option<String> {
    if matches!(reckoned.verdict, Verdict::TooEarly(_)) {
        return None;
    }
    let in_time = |name: &str| reckoned.in_time.iter().any(|remedy| remedy.as_str() == name);
    let late: Vec<&str> =
        of.workload.remedies.iter().map(String::as_str).filter(|name| *name != "evict" && !in_time(name)).collect();
    let growth = Bytes(known.growth);
    (!late.is_empty() && known.limit.is_some()).then(|| {
        format!("Its annotation {} lists {}, which is not in time at {growth}/s.", keys::REMEDIES, late.join(" and "))
    })
}

/// The kills that were not prevented, by their reasons.
fn missed(of: &Recommendation, program: &str) -> Option<String> {
    let missed = &of.workload.missed;
    let mut reasons = BTreeMap::<&str, usize>::new();
    for (reason, _) in missed {
        *reasons.entry(reason.map_or("unknown reason", |reason| reason.label())).or_default() += 1;
    }
    let reasons: Vec<String> = reasons
        .iter()
        .map(|(reason, n)| if missed.len() > 1 { format!("{n} {reason}") } else { (*reason).to_owned() })
        .collect();
    let (were, see) = match missed.len() {
        0 => return None,
        1 => ("1 OOM kill was".to_owned(), "says why"),
        n => (format!("{n} OOM kills were"), "says why of the last one"),
    };
    let why = format!("`{program} why {} -n {}`", of.name.short(), of.name.namespace);
    Some(format!("{were} not prevented ({}): {why} {see}.", reasons.join(", ")))
}
