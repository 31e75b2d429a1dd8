//! What a container's memory consisted of, before its rise and at the moment.

use std::time::Duration;

use crate::ground::durations::span;
use crate::ground::units::Bytes;
use crate::plugin::sanitize::printable;
use crate::serve::incident::{BreakdownView, IncidentView};

/// The table, what grew most first; empty if nothing is known.
pub(super) fn grew(incident: &IncidentView) -> String {
    let Some(memory) = &incident.memory else { return String::new() };
    let (now, before) = (rows(memory), incident.memory_before.as_ref().map(rows));
    let mut all: Vec<(&str, u64, Option<u64>)> =
        now.iter().enumerate().map(|(n, (name, now))| (*name, *now, before.as_ref().map(|b| b[n].1))).collect();
    all.retain(|(_, now, before)| *now > 0 || before.is_some_and(|before| before > 0));
    if all.is_empty() {
        return String::new();
    }
    let grew = |(_, now, before): &(&str, u64, Option<u64>)| i128::from(*now) - i128::from(before.unwrap_or(0));
    all.sort_by_key(|row| std::cmp::Reverse(grew(row)));
    let ago = incident.before_seconds.map(|s| format!("{} before", span(Duration::from_secs(s))));
    let titles = match before.is_some() {
        true => vec!["", ago.as_deref().unwrap_or("before"), "then", "difference"],
        false => vec!["", "then"],
    };
    let line = |row: &(&'static str, u64, Option<u64>)| {
        let sizes = row.2.map(|before| Bytes(before).to_string()).into_iter().chain([Bytes(row.1).to_string()]);
        let sizes = sizes.chain(row.2.map(|_| difference(grew(row))));
        [row.0.to_owned()].into_iter().chain(sizes).collect::<Vec<_>>()
    };
    let lines: Vec<Vec<String>> =
        [titles.into_iter().map(str::to_owned).collect()].into_iter().chain(all.iter().map(line)).collect();
    let width = |column: usize| lines.iter().map(|line| line[column].len()).max().unwrap_or(0);
    let widths: Vec<usize> = (0..lines[0].len()).map(width).collect();
    let right = |line: &Vec<String>| {
        let sizes = line.iter().zip(&widths).skip(1).map(|(cell, width)| format!("  {cell:>width$}"));
        format!("  {:<width$}{}\n", line[0], sizes.collect::<String>(), width = widths[0])
    };
    lines.iter().map(right).collect()
}

/// What else the pod held, in a sentence.
pub(super) fn others(incident: &IncidentView) -> Option<String> {
    let one = |name: &str, usage: u64| format!("{} {}", printable(name), Bytes(usage));
    let mut all: Vec<String> = incident.others.iter().map(|other| one(&other.container, other.usage)).collect();
    all.extend(incident.rest_of_pod.filter(|rest| *rest > 0).map(|rest| one("the rest of the pod", rest)));
    (!all.is_empty()).then(|| format!("Others in the pod: {}.", all.join(", ")))
}

fn rows(of: &BreakdownView) -> [(&'static str, u64); 7] {
    [
        ("anonymous (heap, stacks)", of.anonymous),
        ("active file cache", of.active_file),
        ("inactive file cache", of.inactive_file),
        ("tmpfs, shared memory", of.shmem),
        ("slab", of.slab),
        ("kernel (page tables etc.)", of.kernel),
        ("sockets", of.sockets),
    ]
}

fn difference(grew: i128) -> String {
    let size = Bytes(u64::try_from(grew.unsigned_abs()).unwrap_or(u64::MAX));
    match grew {
        0 => "0".into(),
        1.. => format!("+{size}"),
        _ => format!("-{size}"),
    }
}
