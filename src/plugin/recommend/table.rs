//! Recommendations for people: a table, and below it what to write.

use std::time::Duration;

use unicode_width::UnicodeWidthStr;

use super::advice::advice;
use super::budgets::Covered;
use super::findings::{Findings, Recommendation, Wanted};
use super::reckon::{Known, Verdict, quantity};
use crate::ground::durations::{rough as age, took};
use crate::ground::units::Bytes;
use crate::plugin::agents::told::{not_asked, silent};
use crate::plugin::sanitize::printable;
use crate::plugin::terminal::{Look, aligned, middle};
use crate::pods::guard::Remedy;

/// A column of the table.
#[derive(Clone, Copy)]
struct Column {
    title: &'static str,
    /// On a narrow terminal, the column with the greatest number is left out first; 0: never.
    left_out: u8,
    /// Where no more can be left out, it is cut to this.
    narrowest: usize,
    cell: fn(&Recommendation) -> String,
}

const fn column(title: &'static str, left_out: u8, narrowest: usize, cell: fn(&Recommendation) -> String) -> Column {
    Column { title, left_out, narrowest, cell }
}

/// What only a wide table has is left out first.
const WIDE: u8 = 3;
/// Workloads whose evictions were never seen are named up to this number.
const MOST_ASSUMED: usize = 5;
/// What is left out sooner than a name is cut.
const WHOLE: u8 = 2;

const COLUMNS: [Column; 14] = [
    column("NAMESPACE", 0, 8, |of| printable(&of.name.namespace)),
    column("WORKLOAD", 0, 16, |of| printable(&of.name.short())),
    column("CONTAINER", 0, 6, container),
    column("PODS", 6, 0, |of| at_least(of.workload.pods.len(), of.incomplete.pods)),
    column("KNOWN", 0, 0, |of| if of.workload.lasts.is_zero() { "-".into() } else { age(of.workload.lasts) }),
    column("PEAK", 2, 0, peak),
    column("GROWTH", 4, 0, |of| format!("{}/s", Bytes(of.workload.growth))),
    column("EVICTION", 5, 0, eviction),
    column("LIMIT", 3, 0, |of| or_dash(of.workload.limit)),
    column("NOW", 0, 0, now),
    column("RECOMMENDED", 0, 0, recommended),
    column("IN TIME", 1, 0, in_time),
    column("MISSED", 8, 0, |of| at_least(of.workload.missed.len(), of.incomplete.incidents)),
    column("BUDGET", 7, 0, budget),
];

/// The table, what to write, and what is missing in it. `wide`: with all columns.
#[must_use]
pub fn text(findings: &Findings, wanted: &Wanted, wide: bool, look: &Look) -> String {
    let mut out = if findings.all.is_empty() { nothing(findings, wanted) } else { table(findings, wanted, wide, look) };
    let everywhere = wanted.query.namespace.is_none();
    let sentences: String = findings.all.iter().map(|of| sentences(of, everywhere, look)).collect();
    if !sentences.is_empty() {
        out += &format!("\n{sentences}");
    }
    let notes = assumed(findings).into_iter().chain(unknown(findings));
    let notes = notes.chain(silent(&findings.agents, &wanted.query)).chain(not_asked(&findings.not_asked));
    let notes: String = notes.map(|line| look.paragraph("", 0, &line)).collect();
    if !notes.is_empty() && !out.is_empty() {
        out.push('\n');
    }
    out + &notes
}

fn nothing(findings: &Findings, wanted: &Wanted) -> String {
    if !findings.answered() {
        return String::new();
    }
    let named = wanted.named.as_ref().map_or_else(String::new, |named| format!(" of {named}"));
    let place = wanted.query.namespace.as_ref().map_or_else(String::new, |n| format!(" in namespace {n}"));
    let hint = if wanted.query.namespace.is_some() { "; -A shows those of all namespaces" } else { "" };
    format!("No guarded containers{}{hint}.\n", printable(&format!("{named}{place}")))
}

fn table(findings: &Findings, wanted: &Wanted, wide: bool, look: &Look) -> String {
    let mut columns: Vec<(Column, Vec<String>)> = COLUMNS
        .into_iter()
        .filter(|column| column.title != "NAMESPACE" || wanted.query.namespace.is_none())
        .map(|column| (column, findings.all.iter().map(column.cell).collect()))
        .collect();
    match look.paint.width {
        // All of them, on however many lines of the terminal.
        _ if wide => {}
        Some(width) => fit(&mut columns, width.into()),
        None => columns.retain(|(column, _)| column.left_out < WIDE),
    }
    let titles: Vec<String> = columns.iter().map(|(column, _)| column.title.to_owned()).collect();
    let line = |n: usize| columns.iter().map(|(_, cells)| cells[n].clone()).collect::<Vec<_>>();
    aligned(&[titles].into_iter().chain((0..findings.all.len()).map(line)).collect::<Vec<_>>())
}

/// Leaves out columns and cuts names, until the others fit.
fn fit(columns: &mut Vec<(Column, Vec<String>)>, width: usize) {
    let excess = |columns: &[(Column, Vec<String>)], width_of: fn(&(Column, Vec<String>)) -> usize| {
        columns.iter().map(|column| width_of(column) + 2).sum::<usize>().saturating_sub(width + 2)
    };
    for (last, width_of) in [(WHOLE, widest as fn(&_) -> usize), (1, narrowest)] {
        while excess(columns, width_of) > 0 {
            let first = columns.iter().enumerate().max_by_key(|(_, (column, _))| column.left_out);
            match first.map(|(at, (column, _))| (at, column.left_out)) {
                Some((at, left_out)) if left_out >= last => drop(columns.remove(at)),
                _ => break,
            }
        }
    }
    for at in 0..columns.len() {
        let (excess, least) = (excess(columns, widest), narrowest(&columns[at]));
        let width = widest(&columns[at]).saturating_sub(excess).max(least);
        columns[at].1.iter_mut().for_each(|cell| *cell = middle(std::mem::take(cell), width));
    }
}

fn widest((column, cells): &(Column, Vec<String>)) -> usize {
    cells.iter().map(|cell| cell.width()).max().unwrap_or(0).max(column.title.width())
}

fn narrowest(column: &(Column, Vec<String>)) -> usize {
    if column.0.narrowest == 0 {
        widest(column)
    } else {
        widest(column).min(column.0.narrowest.max(column.0.title.width()))
    }
}

/// `*`: the pods' own groups.
fn container(of: &Recommendation) -> String {
    match &of.name.container {
        Some(name) => printable(name),
        None if of.reckoned.is_none() => "-".into(),
        None => "*".into(),
    }
}

/// `3+`: an agent did not answer, and may know of more.
fn at_least(n: usize, incomplete: bool) -> String {
    format!("{n}{}", if incomplete { "+" } else { "" })
}

fn or_dash(bytes: Option<u64>) -> String {
    bytes.map_or_else(|| "-".into(), |bytes| Bytes(bytes).to_string())
}

/// `<=`: the signal was never read, and is no more than the usage.
fn peak(of: &Recommendation) -> String {
    match (of.workload.peak, of.workload.usage_peak) {
        (None, Some(usage)) => format!("<={}", Bytes(usage)),
        (peak, _) => or_dash(peak),
    }
}

/// How long an eviction takes; `?`: it is assumed.
fn eviction(of: &Recommendation) -> String {
    let Some((known, _)) = &of.reckoned else { return "-".into() };
    let time = took(known.latencies.of(Remedy::Evict));
    if of.workload.latency.evictions == 0 { format!("{time}?") } else { time }
}

/// The present threshold; of pods that differ, the lowest and the highest.
fn now(of: &Recommendation) -> String {
    match &of.workload.thresholds {
        None => "-".into(),
        Some([low, high]) if low.0 == high.0 => printable(&low.0),
        Some([low, high]) => printable(&format!("{}-{}", low.0.trim_end_matches(" %"), high.0)),
    }
}

fn recommended(of: &Recommendation) -> String {
    match of.reckoned.as_ref().map(|(_, reckoned)| reckoned.verdict) {
        None => "-".into(),
        Some(Verdict::Fits) => "fits".into(),
        Some(Verdict::TooEarly(_)) => "too early".into(),
        Some(Verdict::Threshold(written @ super::reckon::Written::Percent(_))) => format!("{written} %"),
        Some(Verdict::Threshold(written)) => written.to_string(),
        Some(Verdict::Limit(limit, _)) => format!("limit {}", quantity(limit)),
    }
}

fn in_time(of: &Recommendation) -> String {
    let Some((Known { limit, .. }, reckoned)) = &of.reckoned else { return "-".into() };
    match (reckoned.verdict, reckoned.in_time.len()) {
        (Verdict::TooEarly(_), _) => "-".into(),
        (Verdict::Fits | Verdict::Threshold(_), 0) if limit.is_none() => "-".into(),
        (_, 0) => "none".into(),
        (_, 3) => "all".into(),
        _ => reckoned.in_time.iter().map(|remedy| remedy.as_str()).collect::<Vec<_>>().join(","),
    }
}

fn budget(of: &Recommendation) -> String {
    match &of.budget {
        Covered::By(names) => printable(&names.iter().map(String::as_str).collect::<Vec<_>>().join(",")),
        Covered::NotNeeded => "-".into(),
        Covered::Missing => "missing".into(),
        Covered::NotKnown => "?".into(),
    }
}

/// What to write, with the name before it.
fn sentences(of: &Recommendation, everywhere: bool, look: &Look) -> String {
    let all = advice(of, look.program);
    if all.is_empty() {
        return String::new();
    }
    let container = of.name.container.as_ref().map_or_else(String::new, |name| format!(", container {name}"));
    let place = if everywhere { format!(" in {}", of.name.namespace) } else { String::new() };
    let name = printable(&format!("{}{place}{container}", of.name.short()));
    let name: String = look.paragraph("", 0, &name).lines().map(|line| look.paint.with("1", line) + "\n").collect();
    name + &all.iter().map(|text| look.paragraph("- ", 2, &printable(text))).collect::<String>()
}

/// What the recommendations rest on that nobody has seen.
fn assumed(findings: &Findings) -> Option<String> {
    let is_assumed = |of: &&Recommendation| {
        let reckoned = of.reckoned.as_ref().is_some_and(|(_, it)| !matches!(it.verdict, Verdict::TooEarly(_)));
        reckoned && of.workload.latency.evictions == 0
    };
    let all: Vec<_> = findings.all.iter().filter(is_assumed).collect();
    let longest = all.iter().map(|of| of.workload.latency.evict).max()?;
    let mut names: Vec<String> = all.iter().take(MOST_ASSUMED).map(|of| printable(&of.name.short())).collect();
    names.extend(all.len().checked_sub(MOST_ASSUMED).filter(|more| *more > 0).map(|more| format!("{more} more")));
    Some(format!(
        "Assumed: an eviction of {} takes {}, because none was seen yet. A longer shutdown needs a lower threshold.",
        names.join(", "),
        took(Duration::from_millis(longest))
    ))
}

fn unknown(findings: &Findings) -> Vec<String> {
    let budgets = findings
        .budgets_unknown
        .iter()
        .map(|why| format!("Not known: which workloads lack a PodDisruptionBudget: {}.", printable(why)));
    let incidents = findings.without_incidents.iter();
    let incidents = incidents
        .map(|(node, why)| format!("Not known: what happened on node {}: {}.", printable(node), printable(why)));
    budgets.chain(incidents).collect()
}
