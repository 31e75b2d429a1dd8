//! Where no incident is known: what is guarded now, and what it did during the last day.

use std::time::Duration;

use jiff::Timestamp;

use super::case::{Case, Inquiry, Of};
use super::curve::Curve;
use super::text::{DAY, DAY_FROM, ago, drawn, heading, section};
use crate::ground::durations::{rough, span};
use crate::ground::units::Bytes;
use crate::plugin::sanitize::printable;
use crate::plugin::terminal::{Look, aligned};
use crate::serve::wire::{GuardView, MemoryView};

/// The parts of an agent's history.
const MINUTES_EACH: Duration = Duration::from_secs(5);
const DAY_EACH: Duration = Duration::from_secs(900);
/// Agents that were restarted are named up to this number.
const MOST_RESTARTED: usize = 3;

/// The guarded container that is nearest to its threshold, and a line for each of the others.
pub(super) fn guarded(of: &Of<GuardView>, others: &[Of<GuardView>], look: &Look) -> String {
    let guard = &of.it;
    let container = (guard.container.as_deref(), guard.owner.as_deref());
    let mut out = heading(&of.node, &guard.namespace, &guard.pod, container, look);
    let since = of.started.map_or_else(String::new, |at| {
        format!(" since the agent was started ({}{})", at.strftime("%Y-%m-%d %H:%M UTC"), ago(at, look))
    });
    out += &look.paragraph("", 0, &format!("No incident is known{since}."));
    out += &look.paragraph("", 0, &format!("Now {}: {}", printable(guard.state.as_str()), printable(&guard.why)));
    if let Some(memory) = &guard.memory {
        out += &past(guard, memory, look);
    }
    if others.is_empty() {
        return out;
    }
    let titles = ["  POD", "CONTAINER", "STATE", "NOW/THRESHOLD/LIMIT"].map(str::to_owned).to_vec();
    let lines: Vec<Vec<String>> = [titles].into_iter().chain(others.iter().map(|of| line(&of.it))).collect();
    out + &section("The others", &aligned(&lines), look)
}

fn line(guard: &GuardView) -> Vec<String> {
    let memory = guard.memory.as_ref();
    let one = |n: Option<u64>| n.map_or_else(|| "-".to_owned(), |n| Bytes(n).to_string());
    let value = memory.map(|m| m.value.unwrap_or(m.usage));
    vec![
        format!("  {}", printable(&guard.pod)),
        printable(guard.container.as_deref().unwrap_or("*")),
        printable(guard.state.as_str()),
        [value, memory.and_then(|m| m.threshold), memory.and_then(|m| m.limit)].map(one).join("/"),
    ]
}

fn past(guard: &GuardView, memory: &MemoryView, look: &Look) -> String {
    let mut out = look.paragraph("", 0, &format!("{}.", numbers(guard, memory)));
    let Some(history) = &memory.history else { return out };
    let end = look.now.strftime("%H:%M:%S").to_string();
    let long = Duration::from_secs(memory.known_seconds) > DAY_FROM;
    let parts = [Some((&history.minutes, MINUTES_EACH)), Some((&history.day, DAY_EACH)).filter(|_| long)];
    for (points, each) in parts.into_iter().flatten() {
        let curve = Curve::of_kib(points, each);
        let curve = Curve { threshold: memory.threshold, limit: memory.limit, end: end.clone(), ..curve };
        out += &drawn(guard.signal.as_deref(), "until now", &curve, look);
    }
    out
}

/// `working-set 120Mi, threshold 153.6Mi, limit 256Mi; +3Mi a minute for 4 h; above its threshold in 11 min if …`.
fn numbers(guard: &GuardView, memory: &MemoryView) -> String {
    let signal = printable(guard.signal.as_deref().unwrap_or("value"));
    let mut text = format!("{signal} {}", Bytes(memory.value.unwrap_or(memory.usage)));
    let limits = [("threshold", memory.threshold), ("limit", memory.limit)];
    text.extend(limits.iter().filter_map(|(name, n)| Some(format!(", {name} {}", Bytes((*n)?)))));
    if let Some(growth) = memory.growth_per_minute.filter(|growth| *growth != 0) {
        let lasts = memory.growing_seconds.map(|s| format!(" for {}", span(Duration::from_secs(s))));
        let sign = if growth > 0 { "+" } else { "-" };
        text += &format!("; {sign}{} a minute{}", Bytes(growth.unsigned_abs()), lasts.unwrap_or_default());
    }
    if let Some(seconds) = memory.above_in_seconds {
        let left = span(Duration::from_secs(seconds));
        text += &format!("; above its threshold in {left} if it keeps growing like this");
    }
    text
}

/// Nobody knows it.
pub(super) fn nothing(case: &Case, inquiry: &Inquiry, look: &Look) -> String {
    let query = &inquiry.query;
    let place = query.namespace.as_ref().map_or_else(String::new, |n| format!(" in namespace {n}"));
    let hint = if query.namespace.is_some() { "; -A searches all namespaces" } else { "" };
    let container = inquiry.container.as_ref().map_or_else(String::new, |name| format!(", container {name}"));
    let text = format!("{}{container}{place}", inquiry.named);
    let text = format!("{}: no agent guards it now, or remembers an incident of it{hint}.", printable(&text));
    let mut out = look.paragraph("", 0, &text);
    let restarted = restarted(case, look);
    if !restarted.is_empty() {
        let some = restarted.iter().take(MOST_RESTARTED);
        let some: Vec<String> = some.map(|(ago, node)| format!("on {} {} ago", printable(node), rough(*ago))).collect();
        let more = if restarted.len() > MOST_RESTARTED { ", and others" } else { "" };
        let text =
            format!("An agent forgets all incidents when it is restarted; one was {}{more}.", some.join(", one "));
        out += &look.paragraph("", 0, &text);
    }
    let place = query.namespace.as_ref().map_or_else(|| "-A".to_owned(), |namespace| format!("-n {namespace}"));
    out + &look.paragraph(
        "",
        0,
        &format!("Events of the last hour: `kubectl get events {} | grep PreOOM`.", printable(&place)),
    )
}

/// The agents that were started within the last day, the last one first.
fn restarted<'a>(case: &'a Case, look: &Look) -> Vec<(Duration, &'a str)> {
    let pages = case.agents.iter().filter_map(|agent| Some((agent.answer.as_ref().ok()?, agent.node.as_str())));
    let ago = pages.filter_map(|(page, node)| {
        let started: Timestamp = page.started.parse().ok()?;
        Some((Duration::try_from(look.now.duration_since(started)).ok()?, node))
    });
    let mut all: Vec<_> = ago.filter(|(ago, _)| *ago < DAY).collect();
    all.sort_unstable();
    all
}
