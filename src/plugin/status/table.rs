//! Rows and agents as text and JSON.

use std::fmt::Write;

use jiff::Timestamp;
use serde_json::{Value, json};
use unicode_width::UnicodeWidthStr;

use super::ask::{Agent, Query, Survey};
use super::rows::{Row, bar, rough, rows};
use super::spaces::Unguarded;
use crate::ground::units::Bytes;
use crate::plugin::sanitize::printable;

/// The JSON's form; a number larger by one says that something that was there has changed.
pub const JSON_VERSION: u32 = 1;
/// Pods that only look like agents are named up to this number: whoever can make one can make many.
const MOST_NOT_ASKED: usize = 5;
/// Workloads that are not guarded yet are named up to this number.
const MOST_UNGUARDED: usize = 20;
/// Columns of the bar.
const BAR: usize = 16;

/// The table, and below it the agents that do not answer.
#[must_use]
pub fn text(survey: &Survey, query: &Query, wide: bool, now: Timestamp) -> String {
    let rows = rows(survey, query);
    let mut out = String::new();
    if rows.is_empty() && !survey.answered() {
        // That is told below.
    } else if rows.is_empty() {
        let place = query.namespace.as_ref().map_or_else(String::new, |n| format!(" in namespace {}", printable(n)));
        let hint = if query.namespace.is_some() { "; -A shows those of all namespaces" } else { "" };
        // Writing to a String cannot fail, here and below.
        let _ = writeln!(out, "No guarded containers{place}{hint}.");
    } else {
        out += &aligned(&lines(&rows, wide, now));
    }
    for silent in silent(survey, query) {
        let _ = writeln!(out, "{silent}");
    }
    for other in survey.not_asked.iter().take(MOST_NOT_ASKED) {
        let _ = writeln!(out, "Not asked, although it has the agents' label: {}.", printable(other));
    }
    if let Some(more) = survey.not_asked.len().checked_sub(MOST_NOT_ASKED).filter(|more| *more > 0) {
        let _ = writeln!(out, "Nor are {more} more pods with that label.");
    }
    match &survey.unguarded {
        Ok(all) => {
            for Unguarded { namespace, owner, pods, mend } in all.iter().take(MOST_UNGUARDED) {
                let [namespace, owner] = [namespace, owner].map(|text| printable(text));
                let pods = if *pods == 1 { "1 pod".to_owned() } else { format!("{pods} pods") };
                let mend =
                    mend.as_ref().map_or_else(|| "its next ones will be".to_owned(), |command| printable(command));
                let _ = writeln!(
                    out,
                    "Made before the label of namespace {namespace}, and not guarded: {pods} of {owner}; {mend}"
                );
            }
            if let Some(more) = all.len().checked_sub(MOST_UNGUARDED).filter(|more| *more > 0) {
                let _ = writeln!(out, "Nor are pods of {more} more workloads; -o json has them all.");
            }
        }
        Err(why) => {
            let _ = writeln!(out, "What is not guarded in namespaces with the label is not known: {}.", printable(why));
        }
    }
    if let Err(why) = &survey.ended {
        let _ = writeln!(out, "Of evictions, only what the agents remember is known: {}.", printable(why));
    }
    out
}

fn lines(rows: &[Row], wide: bool, now: Timestamp) -> Vec<Vec<String>> {
    const WIDE: [&str; 4] = ["ROOM", "READ", "OWNER", "GUARDED BY"];
    let mut head = vec![
        "NAMESPACE",
        "POD",
        "CONTAINER",
        "NODE",
        "SIGNAL",
        "USAGE",
        "",
        "NOW/THRESHOLD/LIMIT",
        "GROWTH",
        "OVER IN",
        "STATE",
        "LAST EVICTION",
    ];
    if wide {
        head.extend(WIDE);
    }
    head.push("WHY");
    let mut lines = vec![head.into_iter().map(str::to_owned).collect()];
    for row in rows {
        let text = |text: Option<&str>| text.map_or_else(|| "-".to_owned(), printable);
        let mut line = vec![
            printable(&row.namespace),
            printable(&row.pod),
            row.container_cell(),
            printable(&row.node),
            text(row.signal.as_deref()),
            bar(row, BAR),
            row.share(),
            row.amounts(),
            row.growth_cell(),
            row.to_threshold_cell(),
            printable(row.state.as_str()),
            row.last_eviction_cell(now),
        ];
        if wide {
            line.push(row.room.map_or_else(|| "-".into(), |r| Bytes(r).to_string()));
            line.push(
                row.age_ms
                    .map_or_else(|| "-".into(), |ms| format!("{} ago", rough(std::time::Duration::from_millis(ms)))),
            );
            line.push(text(row.owner.as_deref()));
            line.push(row.guarded_by.as_deref().map_or_else(|| "pod".to_owned(), printable));
        }
        line.push(if row.quiet() && !wide { String::new() } else { printable(&row.why) });
        lines.push(line);
    }
    lines
}

fn aligned(lines: &[Vec<String>]) -> String {
    let columns = lines.first().map_or(0, Vec::len);
    let width = |column: usize| lines.iter().map(|line| line[column].width()).max().unwrap_or(0);
    let widths: Vec<usize> = (0..columns).map(width).collect();
    let mut out = String::new();
    for line in lines {
        let mut text = String::new();
        for ((cell, width), title) in line.iter().zip(&widths).zip(&lines[0]) {
            // The share belongs to the bar before it.
            let gap = match title.as_str() {
                _ if text.is_empty() => 0,
                "" => 1,
                _ => 2,
            };
            let _ = write!(text, "{:gap$}{cell}{:pad$}", "", "", pad = width - cell.width());
        }
        let _ = writeln!(out, "{}", text.trim_end());
    }
    out
}

/// A line for each agent that does not say what it sees, or one that says that there are none.
#[must_use]
pub fn silent(survey: &Survey, query: &Query) -> Vec<String> {
    if survey.agents.is_empty() {
        let named = |what: &str, name: &Option<String>| {
            name.as_ref().map_or_else(String::new, |n| format!(" {what} {}", printable(n)))
        };
        let (namespace, node) = (named("in namespace", &query.agents_namespace), named("on node", &query.node));
        let label = super::ask::AGENTS;
        return vec![format!(
            "No agents: there is no pod of a DaemonSet with the label {label}{namespace}{node}. Is pre-oom-killer installed in this cluster (README, Install)?"
        )];
    }
    let told = |agent: &Agent| {
        let why = match &agent.answer {
            Ok(page) if page.listed => return None,
            _ if agent.going => "it is being ended",
            Ok(_) => "it does not know the pods of its node yet",
            Err(why) => why,
        };
        let name = format!("{}/{}", agent.namespace, agent.name);
        Some(format!("No answer for node {} from {}: {}", printable(&agent.node), printable(&name), printable(why)))
    };
    survey.agents.iter().filter_map(told).collect()
}

/// The same for programs: raw numbers, raw names.
#[must_use]
pub fn json(survey: &Survey, query: &Query) -> Value {
    let agents: Vec<Value> = (survey.agents.iter())
        .map(|agent| {
            let (page, error) = (agent.answer.as_ref().ok(), agent.answer.as_ref().err());
            json!({
                "namespace": agent.namespace,
                "name": agent.name,
                "node": agent.node,
                "version": page.map(|p| &p.version),
                "listed": page.map(|p| p.listed),
                "error": error,
            })
        })
        .collect();
    json!({
        "version": JSON_VERSION,
        "guards": rows(survey, query),
        "agents": agents,
        "notAsked": survey.not_asked,
        "unguarded": survey.unguarded.as_ref().ok(),
        "unguardedUnknown": survey.unguarded.as_ref().err(),
        "evictionsUnknown": survey.ended.as_ref().err(),
    })
}
