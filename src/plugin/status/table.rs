//! Rows and agents as text and JSON.

use std::time::Duration;

use jiff::Timestamp;
use serde_json::{Value, json};

use super::columns::{COLUMNS, text_or_dash};
use super::rows::{Row, rows};
use super::survey::Survey;
use super::unguarded::UnguardedWorkload;
use crate::ground::durations::rough;
use crate::ground::units::Bytes;
use crate::plugin::agents::query::Query;
use crate::plugin::agents::told::{agents_json, not_asked, silent};
use crate::plugin::sanitize::printable;
use crate::plugin::terminal::aligned;

/// The JSON's form; a number larger by one says that something that was there has changed.
pub const JSON_VERSION: u32 = 1;
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
    for line in silent(&survey.agents, query).into_iter().chain(not_asked(&survey.not_asked)).chain(unguarded(survey)) {
        out += &line;
        out.push('\n');
    }
    if let Err(why) = &survey.evictions {
        out += &format!("{}.\n", evictions_unknown(why));
    }
    out
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

/// The same for programs: raw numbers, raw names.
#[must_use]
pub fn json(survey: &Survey, query: &Query) -> Value {
    json!({
        "version": JSON_VERSION,
        "guards": rows(survey, query),
        "agents": agents_json(&survey.agents),
        "notAsked": survey.not_asked,
        "unguarded": survey.unguarded.as_ref().ok(),
        "unguardedUnknown": survey.unguarded.as_ref().err(),
        "evictionsUnknown": survey.evictions.as_ref().err(),
    })
}
