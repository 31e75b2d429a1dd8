//! Rows and agents as text and JSON.

use std::fmt::Write;
use std::time::Duration;

use jiff::Timestamp;
use serde_json::{Value, json};
use unicode_width::UnicodeWidthStr;

use super::agents::{AGENTS, AgentAnswer};
use super::columns::{COLUMNS, text_or_dash};
use super::query::Query;
use super::rows::{Row, rough, rows};
use super::survey::Survey;
use super::unguarded::UnguardedWorkload;
use crate::ground::units::Bytes;
use crate::plugin::sanitize::printable;

/// The JSON's form; a number larger by one says that something that was there has changed.
pub const JSON_VERSION: u32 = 1;
/// Pods that only look like agents are named up to this number: whoever can create one can create many.
const MOST_NOT_ASKED: usize = 5;
/// Workloads that are not guarded yet are named up to this number.
const MOST_UNGUARDED: usize = 20;
/// The columns that only the wide table has.
const WIDE: [&str; 4] = ["ROOM", "READ", "OWNER", "GUARDED BY"];

/// The table, and below it what is missing in it.
#[must_use]
pub fn text(survey: &Survey, query: &Query, wide: bool, now: Timestamp) -> String {
    let rows = rows(survey, query);
    let mut out = String::new();
    if !rows.is_empty() {
        out += &aligned(&lines(&rows, wide, now));
    } else if survey.answered() {
        let place = query.namespace.as_ref().map_or_else(String::new, |n| format!(" in namespace {}", printable(n)));
        let hint = if query.namespace.is_some() { "; -A shows those of all namespaces" } else { "" };
        out += &format!("No guarded containers{place}{hint}.\n");
    }
    for line in silent(survey, query).into_iter().chain(not_asked(survey)).chain(unguarded(survey)) {
        out += &line;
        out.push('\n');
    }
    if let Err(why) = &survey.evictions {
        out += &format!("{}.\n", evictions_unknown(why));
    }
    out
}

/// A line for each agent that does not say what it guards, or one that says that there are no agents.
#[must_use]
pub fn silent(survey: &Survey, query: &Query) -> Vec<String> {
    if survey.agents.is_empty() {
        let named = |what: &str, name: &Option<String>| {
            name.as_ref().map_or_else(String::new, |n| format!(" {what} {}", printable(n)))
        };
        let (namespace, node) = (named("in namespace", &query.agents_namespace), named("on node", &query.node));
        return vec![format!(
            "No agents: no DaemonSet has a pod with the label {AGENTS}{namespace}{node}. Is pre-oom-killer installed in this cluster (README, Install)?"
        )];
    }
    let line = |agent: &AgentAnswer| {
        let why = match &agent.answer {
            Ok(page) if page.listed => return None,
            _ if agent.terminating => "its pod is terminating",
            Ok(_) => "it has not listed the pods of its node yet",
            Err(why) => why,
        };
        let name = format!("{}/{}", agent.namespace, agent.name);
        Some(format!("No answer for node {} from {}: {}", printable(&agent.node), printable(&name), printable(why)))
    };
    survey.agents.iter().filter_map(line).collect()
}

fn not_asked(survey: &Survey) -> Vec<String> {
    let others = survey.not_asked.iter().take(MOST_NOT_ASKED);
    let mut lines: Vec<String> =
        others.map(|other| format!("Not asked, although it has the agents' label: {}.", printable(other))).collect();
    if let Some(more) = survey.not_asked.len().checked_sub(MOST_NOT_ASKED).filter(|more| *more > 0) {
        lines.push(format!("{more} more pods with that label were not asked either."));
    }
    lines
}

fn unguarded(survey: &Survey) -> Vec<String> {
    let all = match &survey.unguarded {
        Ok(all) => all,
        Err(why) => {
            return vec![format!("Not known: which pods of guarded namespaces are not guarded: {}.", printable(why))];
        }
    };
    let line = |one: &UnguardedWorkload| {
        let [namespace, owner] = [&one.namespace, &one.owner].map(|text| printable(text));
        let (pods, were, them) = match one.pods {
            1 => ("1 pod".to_owned(), "was", "it"),
            pods => (format!("{pods} pods"), "were", "them"),
        };
        let mend = match &one.mend {
            Some(command) => format!("to guard {them}: {}", printable(command)),
            None => "its next pods will be".to_owned(),
        };
        format!(
            "Not guarded: {pods} of {owner}, which {were} created before namespace {namespace} got its label; {mend}"
        )
    };
    let mut lines: Vec<String> = all.iter().take(MOST_UNGUARDED).map(line).collect();
    if let Some(more) = all.len().checked_sub(MOST_UNGUARDED).filter(|more| *more > 0) {
        lines.push(format!("{more} more workloads have such pods; -o json lists all."));
    }
    lines
}

/// The note where Events cannot be listed.
pub(super) fn evictions_unknown(why: &str) -> String {
    format!("Events cannot be listed, so LAST EVICTION has only what the agents remember: {}", printable(why))
}

fn lines(rows: &[Row], wide: bool, now: Timestamp) -> Vec<Vec<String>> {
    let extra = if wide { &WIDE[..] } else { &[] };
    let titles = COLUMNS.iter().map(|column| column.title).chain(extra.iter().copied()).chain(["WHY"]);
    let mut lines = vec![titles.map(str::to_owned).collect()];
    lines.extend(rows.iter().map(|row| {
        let mut line: Vec<String> = COLUMNS.iter().map(|column| (column.cell)(row, now, column.widest)).collect();
        if wide {
            line.extend(wide_cells(row));
        }
        line.push(if row.quiet() && !wide { String::new() } else { printable(&row.why) });
        line
    }));
    lines
}

fn wide_cells(row: &Row) -> [String; WIDE.len()] {
    [
        row.room.map_or_else(|| "-".into(), |room| Bytes(room).to_string()),
        row.age_ms.map_or_else(|| "-".into(), |ms| format!("{} ago", rough(Duration::from_millis(ms)))),
        text_or_dash(row.owner.as_deref()),
        row.guarded_by.as_deref().map_or_else(|| "pod".to_owned(), printable),
    ]
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
        "evictionsUnknown": survey.evictions.as_ref().err(),
    })
}
