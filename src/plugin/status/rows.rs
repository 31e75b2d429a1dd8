//! A survey as rows, the container nearest to its threshold first; and the text of each cell.

use std::collections::BTreeSet;
use std::time::Duration;

use jiff::Timestamp;
use serde::Serialize;

use super::evictions::PastEviction;
use super::survey::Survey;
use crate::decide::schedule::time_left;
use crate::ground::durations::rough;
use crate::ground::units::Bytes;
use crate::plugin::agents::query::Query;
use crate::plugin::sanitize::printable;
use crate::serve::wire::{GuardState, GuardView, Word};

/// One guarded container of the cluster; sizes in bytes.
#[derive(Clone, Debug, Default, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Row {
    pub namespace: String,
    pub pod: String,
    pub uid: String,
    /// None: the pod's own group, or the whole pod.
    pub container: Option<String>,
    /// The node that it runs on.
    pub node: String,
    pub owner: Option<String>,
    /// The signal that is compared with the threshold.
    pub signal: Option<Word>,
    /// The threshold in the annotation's notation.
    pub threshold_text: Option<String>,
    /// The signal's value; where it was not read, usage, which is no less.
    pub value: Option<u64>,
    pub usage: Option<u64>,
    /// Above it, the pod is evicted.
    pub threshold: Option<u64>,
    /// At it, the kernel kills.
    pub limit: Option<u64>,
    /// What is left before a kill.
    pub room: Option<u64>,
    /// Bytes a second, over the last quarter of a second.
    pub growth: Option<i64>,
    /// The same over the last minute.
    pub slow_growth: Option<i64>,
    /// Over the last minutes or hours, in bytes a minute.
    pub growth_per_minute: Option<i64>,
    /// The most of the signal within the last day.
    pub peak: Option<u64>,
    /// Milliseconds until it is at its threshold if it goes on growing like this; 0: it is there, or above.
    pub to_threshold_ms: Option<u64>,
    /// How long ago it was read, in milliseconds.
    pub age_ms: Option<u64>,
    /// `namespace` where its namespace's label has opted it in; none: the pod's own.
    pub guarded_by: Option<Word>,
    /// As the agent has it.
    pub state: GuardState,
    pub why: String,
    /// When it, or another pod of its owner, was last evicted.
    pub last_eviction: Option<String>,
    /// What the Event or the agent says about that.
    pub last_eviction_note: Option<String>,
    #[serde(skip)]
    last_eviction_at: Option<Timestamp>,
}

/// The rows that the query asks for, the nearest first.
#[must_use]
pub fn rows(survey: &Survey, query: &Query) -> Vec<Row> {
    let evictions = survey.all_evictions();
    let mut seen = BTreeSet::new();
    let mut rows: Vec<Row> = (survey.pages())
        .flat_map(|(agent, page)| page.guards.iter().map(move |guarded| (agent, guarded)))
        .filter(|(agent, _)| query.node.as_ref().is_none_or(|node| *node == agent.node))
        .filter(|(_, g)| query.namespace.as_ref().is_none_or(|namespace| *namespace == g.namespace))
        .filter(|(_, g)| survey.selected.as_ref().is_none_or(|uids| uids.contains(&g.uid)))
        // In a rollout, two agents of a node report the same.
        .filter(|(_, g)| seen.insert((&g.uid, &g.container)))
        .map(|(agent, guarded)| row(&agent.node, guarded, &evictions))
        .collect();
    sort(&mut rows, SortBy::Nearness);
    rows
}

/// What rows are sorted by.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum SortBy {
    /// The value's share of the threshold, the greatest first; those without one last.
    #[default]
    Nearness,
    /// The fastest first.
    Growth,
    Name,
    Node,
    State,
}

impl SortBy {
    /// The next one, for the key that goes through them.
    #[must_use]
    pub fn next(self) -> SortBy {
        match self {
            SortBy::Nearness => SortBy::Growth,
            SortBy::Growth => SortBy::Name,
            SortBy::Name => SortBy::Node,
            SortBy::Node => SortBy::State,
            SortBy::State => SortBy::Nearness,
        }
    }

    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            SortBy::Nearness => "nearness",
            SortBy::Growth => "growth",
            SortBy::Name => "name",
            SortBy::Node => "node",
            SortBy::State => "state",
        }
    }
}

/// Sorts; equal ones by name, so that rows do not dance.
pub fn sort(rows: &mut [Row], by: SortBy) {
    rows.sort_by(|a, b| {
        let by_name = (&a.namespace, &a.pod, &a.container).cmp(&(&b.namespace, &b.pod, &b.container));
        let first = match by {
            SortBy::Nearness => b.nearness().total_cmp(&a.nearness()),
            SortBy::Growth => b.growth.cmp(&a.growth),
            SortBy::Name => by_name,
            SortBy::Node => a.node.cmp(&b.node),
            SortBy::State => a.state.as_str().cmp(b.state.as_str()),
        };
        first.then(by_name)
    });
}

fn row(node: &str, guarded: &GuardView, evictions: &[PastEviction]) -> Row {
    let memory = guarded.memory.as_ref();
    let value = memory.map(|m| m.value.unwrap_or(m.usage));
    let last = evictions.iter().filter(|eviction| concerns(eviction, guarded)).max_by_key(|eviction| eviction.at);
    let mut row = Row {
        namespace: guarded.namespace.clone(),
        pod: guarded.pod.clone(),
        uid: guarded.uid.clone(),
        container: guarded.container.clone(),
        node: node.to_owned(),
        owner: guarded.owner.clone(),
        signal: guarded.signal.clone(),
        threshold_text: guarded.threshold.clone(),
        value,
        usage: memory.map(|m| m.usage),
        threshold: memory.and_then(|m| m.threshold),
        limit: memory.and_then(|m| m.limit),
        room: memory.and_then(|m| m.room),
        growth: memory.and_then(|m| m.growth),
        slow_growth: memory.and_then(|m| m.slow_growth),
        growth_per_minute: memory.and_then(|m| m.growth_per_minute),
        peak: memory.and_then(|m| m.peak),
        to_threshold_ms: None,
        age_ms: memory.map(|m| m.age_ms),
        guarded_by: guarded.guarded_by.clone(),
        state: guarded.state.clone(),
        why: guarded.why.clone(),
        last_eviction: last.map(|e| e.at.to_string()),
        last_eviction_note: last.map(|e| e.note.clone()),
        last_eviction_at: last.map(|e| e.at),
    };
    // An agent of an earlier version does not forecast.
    row.to_threshold_ms = row.to_threshold(memory.and_then(|m| m.above_in_seconds));
    row
}

/// Whether an eviction was of this pod, or of another pod of its owner.
fn concerns(eviction: &PastEviction, guarded: &GuardView) -> bool {
    let of_pod = || eviction.of.strip_prefix("Pod/") == Some(&guarded.pod);
    eviction.namespace == guarded.namespace && (guarded.owner.as_ref() == Some(&eviction.of) || of_pod())
}

impl Row {
    /// The value's share of the threshold; below all others where one is not known.
    #[must_use]
    #[allow(clippy::cast_precision_loss, reason = "a share for people and for sorting")]
    pub fn nearness(&self) -> f64 {
        match (self.value, self.threshold) {
            (Some(value), Some(threshold)) => value as f64 / threshold.max(1) as f64,
            _ => -1.0,
        }
    }

    fn to_threshold(&self, forecast: Option<u64>) -> Option<u64> {
        let left = self.threshold?.checked_sub(self.value?);
        match left {
            None => Some(0),
            Some(_) if forecast.is_some() => forecast.map(|seconds| seconds.saturating_mul(1000)),
            Some(left) => {
                let growth = self.slow_growth.filter(|growth| *growth > 0).or(self.growth);
                let time = time_left(Some(Bytes(left)), growth)?;
                u64::try_from(time.as_millis()).ok()
            }
        }
    }

    /// Whether any of its texts contains this one, in upper or lower case.
    #[must_use]
    pub fn contains(&self, text: &str) -> bool {
        let text = text.to_lowercase();
        let owner = self.owner.as_deref().unwrap_or_default();
        let container = self.container.as_deref().unwrap_or_default();
        let all = [&self.namespace, &self.pod, container, &self.node, owner, self.state.as_str(), &self.why];
        all.iter().any(|t| t.to_lowercase().contains(&text))
    }

    /// Nobody needs to do anything about its state.
    #[must_use]
    pub fn quiet(&self) -> bool {
        matches!(self.state, GuardState::Watching | GuardState::Waiting | GuardState::Resolving)
    }

    #[must_use]
    pub fn full_name(&self) -> String {
        printable(&format!("{}/{}", self.namespace, self.pod))
    }

    /// The container, or `*` for the pod's own group.
    #[must_use]
    pub fn container_cell(&self) -> String {
        match (&self.container, self.memory_known()) {
            (Some(container), _) => printable(container),
            (None, true) => "*".into(),
            (None, false) => "-".into(),
        }
    }

    fn memory_known(&self) -> bool {
        self.usage.is_some() || self.signal.is_some()
    }

    /// `150Mi/153.6Mi/256Mi`: value, threshold, limit.
    #[must_use]
    pub fn amounts(&self) -> String {
        let one = |bytes: Option<u64>| bytes.map_or_else(|| "-".to_owned(), |b| Bytes(b).to_string());
        if self.value.is_none() && self.threshold.is_none() {
            return "-".into();
        }
        format!("{}/{}/{}", one(self.value), one(self.threshold), one(self.limit))
    }

    /// The value's share of the threshold in whole percent.
    #[must_use]
    pub fn share(&self) -> String {
        let nearness = self.nearness();
        if nearness < 0.0 { "-".into() } else { format!("{:.0}%", (nearness * 100.0).floor().min(9999.0)) }
    }

    /// `+3.2Mi/s`, `+3Mi/min`.
    #[must_use]
    pub fn growth_cell(&self) -> String {
        let of = |growth: i64, unit: &str| {
            let sign = if growth > 0 { '+' } else { '-' };
            format!("{sign}{}/{unit}", Bytes(growth.unsigned_abs()))
        };
        // If nothing changed in the last quarter of a second, the last minutes say more.
        let minutes = self.growth_per_minute.map(whole_kib);
        match (self.growth, minutes, self.slow_growth) {
            (Some(growth), ..) if growth != 0 => of(growth, "s"),
            (_, Some(growth), _) if growth != 0 => of(growth, "min"),
            (_, None, Some(growth)) if growth != 0 => of(growth, "s"),
            (None, None, None) => "-".into(),
            _ => "0".into(),
        }
    }

    /// `160Mi`.
    #[must_use]
    pub fn peak_cell(&self) -> String {
        self.peak.map_or_else(|| "-".into(), |peak| Bytes(peak).to_string())
    }

    /// `12s`, `over`.
    #[must_use]
    pub fn to_threshold_cell(&self) -> String {
        match self.to_threshold_ms {
            None => "-".into(),
            Some(0) if self.value > self.threshold => "over".into(),
            Some(ms) => rough(Duration::from_millis(ms)),
        }
    }

    /// `3m ago`.
    #[must_use]
    pub fn last_eviction_cell(&self, now: Timestamp) -> String {
        let ago = self.last_eviction_at.map(|at| Duration::try_from(now.duration_since(at)).unwrap_or_default());
        ago.map_or_else(|| "-".into(), |ago| format!("{} ago", rough(ago)))
    }
}

/// `███▌  ┃   ▏`: the value, a mark at the threshold, and one at the limit, which is the bar's end; `…` where none is.
#[must_use]
pub fn bar(row: &Row, width: usize) -> String {
    const EIGHTHS: [char; 8] = [' ', '▏', '▎', '▍', '▌', '▋', '▊', '▉'];
    let (Some(value), true) = (row.value, width > 1) else { return " ".repeat(width) };
    let threshold = row.threshold.unwrap_or(0);
    // Without a limit, the threshold is in the middle.
    let whole = row.limit.unwrap_or_else(|| threshold.saturating_mul(2).max(value)).max(1);
    let cells = width - 1;
    let eighths = |bytes: u64| u128::from(bytes.min(whole)) * cells as u128 * 8 / u128::from(whole);
    let filled = usize::try_from(eighths(value)).unwrap_or(0);
    let mark = usize::try_from(eighths(threshold) / 8).unwrap_or(0).min(cells.saturating_sub(1));
    let cell = |n: usize| match filled.saturating_sub(n * 8) {
        _ if n == mark && row.threshold.is_some() => '┃',
        8.. => '█',
        part => EIGHTHS[part],
    };
    let end = if row.limit.is_some() { '▏' } else { '…' };
    (0..cells).map(cell).chain([end]).collect()
}

/// A rate in whole KiB, or more coarsely as [`Bytes`] writes it.
fn whole_kib(growth: i64) -> i64 {
    growth / 1024 * 1024
}

#[cfg(test)]
mod tests {
    use super::*;

    fn with(value: u64, threshold: u64, limit: Option<u64>) -> Row {
        let mut row =
            Row { value: Some(value), usage: Some(value), threshold: Some(threshold), limit, ..Row::default() };
        row.to_threshold_ms = row.to_threshold(None);
        row
    }

    #[test]
    fn bars() {
        for (value, limit, bar_) in [
            (0, Some(100), "      ┃   ▏"),
            (50, Some(100), "█████ ┃   ▏"),
            (55, Some(100), "█████▌┃   ▏"),
            (80, Some(100), "██████┃█  ▏"),
            (500, Some(100), "██████┃███▏"),
            (30, None, "██▌  ┃    …"),
        ] {
            assert_eq!(bar(&with(value, 60, limit), 11), bar_, "{value}");
        }
        assert_eq!(bar(&Row::default(), 3), "   ");
        assert_eq!(bar(&with(1, 60, Some(0)), 3).chars().count(), 3);
        assert_eq!(bar(&with(u64::MAX, u64::MAX, Some(u64::MAX)), 20).chars().count(), 20);
    }

    #[test]
    fn times() {
        for (ms, text) in
            [(0, "0ms"), (350, "350ms"), (42_000, "42s"), (300_000, "5m"), (7_200_000, "2h"), (u64::MAX, ">99d")]
        {
            assert_eq!(rough(Duration::from_millis(ms)), text);
        }
        let grows = |growth| Row { growth: Some(growth), ..with(50, 60, Some(100)) }.to_threshold(None);
        assert_eq!((grows(5), grows(0), grows(-5)), (Some(2000), None, None));
        let leaks = Row {
            growth: Some(0),
            growth_per_minute: Some((3 << 20) + 99),
            slow_growth: Some(0),
            ..with(50, 60, Some(100))
        };
        assert_eq!((leaks.to_threshold(Some(7)), leaks.growth_cell()), (Some(7000), "+3Mi/min".into()));
        let still = Row { growth_per_minute: Some(0), slow_growth: Some(5), ..leaks };
        assert_eq!(still.growth_cell(), "0", "one step within the last minute is no growth");
        let slowly = |growth, slow| Row { growth: Some(growth), slow_growth: Some(slow), ..with(50, 60, Some(100)) };
        assert_eq!((slowly(0, 2).to_threshold(None), slowly(0, 2).growth_cell()), (Some(5000), "+2/s".into()));
        assert_eq!((slowly(9, 2).to_threshold(None), slowly(9, 2).growth_cell()), (Some(5000), "+9/s".into()));
        assert_eq!((slowly(5, 0).to_threshold(None), slowly(0, 0).growth_cell()), (Some(2000), "0".into()));
        assert_eq!(with(61, 60, None).to_threshold_cell(), "over");
        assert_eq!(with(60, 60, None).to_threshold_cell(), "-", "over is strictly above");
    }

    #[test]
    fn the_nearest_is_first_and_the_unknown_last() {
        let named = |pod: &str, row: Row| Row { pod: pod.into(), ..row };
        let mut rows = [
            named("c", Row::default()),
            named("b", with(10, 60, None)),
            named("a", with(59, 60, None)),
            named("d", with(70, 60, None)),
        ];
        sort(&mut rows, SortBy::Nearness);
        assert_eq!(rows.map(|r| r.pod), ["d", "a", "b", "c"]);
    }

    #[test]
    fn an_eviction_is_found_by_pod_and_owner() {
        let eviction = |of: &str| PastEviction {
            namespace: "n".into(),
            of: of.into(),
            at: Timestamp::UNIX_EPOCH,
            note: String::new(),
        };
        let of = |owner: &str| GuardView {
            namespace: "n".into(),
            pod: "web-1".into(),
            owner: Some(owner.into()),
            ..GuardView::default()
        };
        let web = of("Deployment/web");
        assert!(concerns(&eviction("Pod/web-1"), &web));
        assert!(!concerns(&eviction("Pod/web-2"), &web));
        assert!(concerns(&eviction("Deployment/web"), &web));
        assert!(!concerns(&eviction("Deployment/web-b"), &web));
        assert!(concerns(&eviction("StatefulSet/db"), &of("StatefulSet/db")));
        assert!(!concerns(&PastEviction { namespace: "other".into(), ..eviction("Pod/web-1") }, &web));
    }
}
