//! What a container's memory consisted of, before its rise and at the moment.

use std::time::Duration;

use crate::ground::durations::span;
use crate::ground::units::Bytes;
use crate::plugin::sanitize::printable;
use crate::serve::incident::{BreakdownView, IncidentView};

/// A breakdown that is older than this is said to be.
const AT_THAT_MOMENT: u64 = 1;

/// The table, what grew most first; empty if nothing is known.
pub(super) fn grew(incident: &IncidentView) -> String {
    let seconds = |seconds: u64| format!("{} before", span(Duration::from_secs(seconds)));
    let before = incident.memory_before.as_ref().map(rows);
    let ago = incident.before_seconds.map_or_else(|| "before".to_owned(), seconds);
    // After a kill in one jump, nothing is known but what was there before.
    let Some(now) = incident.memory.as_ref().map(rows) else {
        return before.map_or_else(String::new, |before| table(before, None, ["", &ago]));
    };
    let then = incident.memory_seconds.filter(|seconds| *seconds > AT_THAT_MOMENT);
    let then = then.map_or_else(|| "then".to_owned(), seconds);
    table(now, before, [&ago, &then])
}

/// What there was before is left out where that is not known.
fn table(now: Rows, before: Option<Rows>, [ago, then]: [&str; 2]) -> String {
    let mut all: Vec<(&str, u64, Option<u64>)> =
        now.iter().enumerate().map(|(n, (name, now))| (*name, *now, before.as_ref().map(|b| b[n].1))).collect();
    all.retain(|(_, now, before)| *now > 0 || before.is_some_and(|before| before > 0));
    if all.is_empty() {
        return String::new();
    }
    let grew = |(_, now, before): &(&str, u64, Option<u64>)| i128::from(*now) - i128::from(before.unwrap_or(0));
    all.sort_by_key(|row| std::cmp::Reverse(grew(row)));
    let titles = match before.is_some() {
        true => vec!["", ago, then, "difference"],
        false => vec!["", then],
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

/// The parts with their names.
type Rows = [(&'static str, u64); 7];

fn rows(of: &BreakdownView) -> Rows {
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

#[cfg(test)]
mod tests {
    use super::*;

    fn held(mib: u64) -> Option<BreakdownView> {
        Some(BreakdownView { anonymous: mib << 20, ..BreakdownView::default() })
    }

    #[test]
    fn what_is_not_of_that_moment_is_said_to_be_older() {
        let of = |memory, memory_seconds, memory_before| {
            let before_seconds = Some(70);
            grew(&IncidentView { memory, memory_seconds, memory_before, before_seconds, ..IncidentView::default() })
        };
        for (seconds, title) in [(None, "then"), (Some(0), "then"), (Some(1), "then"), (Some(6), "6 s before")] {
            let said = of(held(41), seconds, held(20));
            let titles = said.lines().next().unwrap_or_default().trim();
            let titles: Vec<&str> = titles.split("  ").filter(|title| !title.is_empty()).map(str::trim).collect();
            assert_eq!(titles, ["70 s before", title, "difference"], "{said}");
        }
        let jump = of(None, None, held(20));
        assert_eq!(jump, "                            70 s before\n  anonymous (heap, stacks)         20Mi\n");
        assert_eq!(of(None, None, None), "");
    }
}
