//! What the agents know of each container of a workload, over all its pods.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use super::reckon::{Known, Present};
use crate::decide::ladder::{EVICT, Latencies, RAISE, RESTART, Spread};
use crate::ground::units::{Bytes, Percent};
use crate::plugin::agents::missed::{is_missed, miss_reason};
use crate::plugin::agents::named::short;
use crate::report::notice::MissReason;
use crate::serve::incident::{CurveView, IncidentView};
use crate::serve::wire::{GuardView, LatencyView, MemoryView};

/// No remedy takes longer than the longest grace period that a guard may ask for.
const LONGEST: Duration = Duration::from_secs(86_400);

/// A container of a workload.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Name {
    pub namespace: String,
    /// The owner as `Kind/name`; a bare pod as `Pod/name`.
    pub workload: String,
    /// None: the pods' own groups.
    pub container: Option<String>,
}

impl Name {
    /// `deploy/web`, as it may be named.
    #[must_use]
    pub fn short(&self) -> String {
        short(&self.workload)
    }
}

/// What is known of it.
#[derive(Clone, Debug, Default)]
pub struct Workload {
    /// The uids of its guarded pods.
    pub pods: BTreeSet<String>,
    pub lasts: Duration,
    /// The most of the signal.
    pub peak: Option<u64>,
    /// The most of the usage, where the signal is not known.
    pub usage_peak: Option<u64>,
    /// What it held before each of its leaks.
    pub before_leaks: Option<u64>,
    /// The fastest that it grew, in bytes a second.
    pub growth: u64,
    /// The slowest of its pods.
    pub latency: LatencyView,
    /// The lowest of its pods.
    pub limit: Option<u64>,
    /// The lowest and the highest of its pods: as written, and in bytes.
    pub thresholds: Option<[(String, Option<u64>); 2]>,
    /// The remedies that its pods list.
    pub remedies: Vec<String>,
    /// The kills that were not prevented: why, and with which headroom.
    pub missed: Vec<(Option<MissReason>, Option<u64>)>,
    /// The incidents that were no kills.
    pub acted: usize,
    /// Why nothing is known, in the words of an agent.
    pub unknown: Option<String>,
}

/// The workload of a pod.
#[must_use]
pub fn workload_of(owner: Option<&str>, pod: &str) -> String {
    owner.map_or_else(|| format!("Pod/{pod}"), str::to_owned)
}

/// Puts together what is guarded, and what happened to it.
#[must_use]
pub fn workloads<'a>(
    guards: impl Iterator<Item = &'a GuardView>,
    incidents: impl Iterator<Item = &'a IncidentView>,
) -> BTreeMap<Name, Workload> {
    let mut all = BTreeMap::<Name, Workload>::new();
    let mut seen = BTreeSet::new();
    // In a rollout, two agents of a node report the same.
    for guard in guards.filter(|guard| seen.insert((guard.uid.clone(), guard.container.clone()))) {
        let workload = workload_of(guard.owner.as_deref(), &guard.pod);
        let name = Name { namespace: guard.namespace.clone(), workload, container: guard.container.clone() };
        all.entry(name).or_default().add(guard);
    }
    for incident in incidents {
        let workload = workload_of(incident.owner.as_deref(), &incident.pod);
        let name = Name { namespace: incident.namespace.clone(), workload, container: incident.container.clone() };
        if let Some(workload) = all.get_mut(&name) {
            workload.happened(incident);
        }
    }
    all
}

impl Workload {
    fn add(&mut self, guard: &GuardView) {
        self.pods.insert(guard.uid.clone());
        let Some(memory) = &guard.memory else {
            self.unknown = Some(format!("{}: {}", guard.state.as_str(), guard.why));
            return;
        };
        self.lasts = self.lasts.max(Duration::from_secs(memory.known_seconds));
        self.peak = self.peak.max(memory.peak);
        self.usage_peak = self.usage_peak.max(memory.usage_peak).max(Some(memory.usage));
        self.grew(growth(memory));
        self.takes(guard.latency.unwrap_or_else(assumed));
        self.limit = [self.limit, memory.limit].into_iter().flatten().min();
        if let Some(text) = &guard.threshold {
            self.threshold(text, memory.threshold);
        }
        self.remedies = guard.remedies.iter().map(ToString::to_string).collect();
    }

    /// What was seen counts more than what is assumed.
    fn takes(&mut self, latency: LatencyView) {
        let before = self.latency;
        let evict = match (before.evictions, latency.evictions) {
            (0, 1..) => latency.evict,
            (1.., 0) => before.evict,
            _ => before.evict.max(latency.evict),
        };
        self.latency = LatencyView {
            raise: before.raise.max(latency.raise),
            restart: before.restart.max(latency.restart),
            evict,
            evictions: before.evictions.max(latency.evictions),
        };
    }

    fn threshold(&mut self, text: &str, bytes: Option<u64>) {
        let this = (text.to_owned(), bytes);
        let key = |one: &(String, Option<u64>)| (percent(&one.0), one.1);
        self.thresholds = Some(match self.thresholds.take() {
            None => [this.clone(), this],
            Some([low, high]) => {
                let lowest = if key(&this) < key(&low) { this.clone() } else { low };
                [lowest, if key(&this) > key(&high) { this } else { high }]
            }
        });
    }

    fn grew(&mut self, growth: impl IntoIterator<Item = i64>) {
        let fastest = growth.into_iter().max().and_then(|growth| u64::try_from(growth).ok());
        self.growth = self.growth.max(fastest.unwrap_or(0));
    }

    fn happened(&mut self, incident: &IncidentView) {
        let facts = &incident.facts;
        let slow = [incident.growth_per_minute.map(|growth| growth / 60), facts.growth, facts.slow_growth];
        let curves = [&incident.minutes, &incident.day];
        self.grew(slow.into_iter().flatten().chain(curves.into_iter().filter_map(fastest)));
        if is_missed(incident) {
            let headroom = facts.limit.zip(facts.threshold).map(|(limit, threshold)| limit.saturating_sub(threshold));
            self.missed.push((miss_reason(incident), headroom));
        } else {
            self.acted += 1;
        }
        if incident.class.as_deref() == Some("leak") {
            let points = [&incident.day.value, &incident.minutes.value];
            let least = points.into_iter().find_map(|points| points.iter().flatten().min());
            self.before_leaks = self.before_leaks.max(least.map(|kib| kib.saturating_mul(1024)));
        }
    }

    /// What a threshold can be reckoned from; `None` if nothing is known.
    #[must_use]
    pub fn known(&self) -> Option<Known> {
        let peak = self.before_leaks.or(self.peak).or(self.usage_peak)?;
        let too_fast = self.missed.iter().filter(|(reason, _)| *reason == Some(MissReason::TooFast));
        Some(Known {
            lasts: self.lasts,
            peak: Bytes(peak),
            growth: self.growth,
            latencies: self.latencies(),
            limit: self.limit.map(Bytes),
            threshold: self.present()?,
            missed: too_fast.filter_map(|(_, headroom)| *headroom).max().map(Bytes),
        })
    }

    fn present(&self) -> Option<Present> {
        let [low, high] = self.thresholds.as_ref()?;
        match (percent(&low.0), percent(&high.0)) {
            (Some(low), Some(high)) => Some(Present::Percent(low, high)),
            _ => Some(Present::Quantity(Bytes(low.1?), Bytes(high.1?))),
        }
    }

    fn latencies(&self) -> Latencies {
        let spread = |millis| {
            let takes = Duration::from_millis(millis).min(LONGEST);
            Spread { p50: takes, p90: takes }
        };
        Latencies::new(spread(self.latency.raise), spread(self.latency.restart), spread(self.latency.evict))
    }
}

/// What an agent assumes that has seen no remedy.
fn assumed() -> LatencyView {
    let millis = |spread: Spread| u64::try_from(spread.p90.as_millis()).unwrap_or(u64::MAX);
    LatencyView { raise: millis(RAISE), restart: millis(RESTART), evict: millis(EVICT), evictions: 0 }
}

/// All that is known of a container's growth, in bytes a second.
fn growth(memory: &MemoryView) -> impl Iterator<Item = i64> {
    let fastest = memory.fastest_second.and_then(|growth| i64::try_from(growth).ok());
    let minutes = memory.growth_per_minute.map(|growth| growth / 60);
    [memory.growth, memory.slow_growth, minutes, fastest].into_iter().flatten()
}

/// The fastest rise between two known points, in bytes a second.
fn fastest(curve: &CurveView) -> Option<i64> {
    let known: Vec<(u64, u64)> = (0..).zip(&curve.value).filter_map(|(at, kib)| Some((at, (*kib)?))).collect();
    let rises = known.windows(2).filter_map(|two| {
        let seconds = (two[1].0 - two[0].0).saturating_mul(curve.each_seconds);
        two[1].1.saturating_sub(two[0].1).saturating_mul(1024).checked_div(seconds)
    });
    i64::try_from(rises.max()?).ok()
}

/// `60 %`, as agents write it.
fn percent(text: &str) -> Option<Percent> {
    Percent::parse(text.strip_suffix('%')?.trim_end()).ok()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::serve::incident::StepView;
    use crate::serve::wire::Facts;

    fn guard(uid: &str, threshold: &str, memory: MemoryView) -> GuardView {
        GuardView {
            namespace: "shop".into(),
            pod: uid.into(),
            uid: uid.into(),
            owner: Some("Deployment/web".into()),
            container: Some("app".into()),
            threshold: Some(threshold.to_owned()),
            memory: Some(memory),
            ..GuardView::default()
        }
    }

    fn incident(class: &'static str, reason: &'static str) -> IncidentView {
        IncidentView {
            namespace: "shop".into(),
            owner: Some("Deployment/web".into()),
            container: Some("app".into()),
            class: Some(class.into()),
            steps: vec![StepView { reason: reason.into(), cause: Some("too-fast".into()), ..StepView::default() }],
            facts: Facts { limit: Some(100), threshold: Some(60), growth: Some(9), ..Facts::default() },
            day: CurveView { value: vec![Some(70), None, Some(62), Some(150)], ..CurveView::default() },
            minutes: CurveView {
                each_seconds: 1,
                value: vec![Some(1), None, Some(9), Some(12)],
                ..CurveView::default()
            },
            ..IncidentView::default()
        }
    }

    fn of(guards: &[GuardView], incidents: &[IncidentView]) -> Workload {
        let all = workloads(guards.iter(), incidents.iter());
        assert_eq!(all.len(), 1);
        all.into_values().next().unwrap()
    }

    #[test]
    fn the_most_of_all_pods_counts_and_the_lowest_limit() {
        let memory = |peak: u64, limit: u64, known: u64| MemoryView {
            peak: Some(peak),
            limit: Some(limit),
            threshold: Some(limit / 2),
            known_seconds: known,
            growth: Some(-5),
            growth_per_minute: Some(peak as i64 * 60),
            ..MemoryView::default()
        };
        let guards = [
            guard("a", "56.5 %", memory(7, 1000, 60)),
            guard("b", "60 %", memory(3, 800, 7200)),
            guard("a", "9 %", memory(99, 1, 1)),
        ];
        let web = of(&guards, &[]);
        assert_eq!(
            (web.pods.len(), web.peak, web.limit, web.growth, web.lasts.as_secs()),
            (2, Some(7), Some(800), 7, 7200),
            "one of a twice"
        );
        let percent = |text| Percent::parse(text).unwrap();
        let known = web.known().unwrap();
        assert_eq!(known.threshold, Present::Percent(percent("56.5"), percent("60")));
        assert_eq!(known.peak, Bytes(7));
        let unread = of(&[guard("a", "60 %", MemoryView { usage: 5, limit: Some(9), ..MemoryView::default() })], &[]);
        assert_eq!(unread.known().unwrap().peak, Bytes(5), "usage, which is no less");
        let mut invalid = guard("a", "", MemoryView::default());
        (invalid.memory, invalid.why) = (None, "write 60".into());
        let invalid = of(&[invalid], &[]);
        assert!(invalid.known().is_none() && invalid.unknown.as_deref() == Some(": write 60"));
    }

    #[test]
    fn an_eviction_that_was_seen_counts_more_than_an_assumed_one() {
        let takes = |evict, evictions| {
            let latency = Some(LatencyView { evict, evictions, ..LatencyView::default() });
            GuardView { latency, ..guard(&format!("{evict}"), "60 %", MemoryView::default()) }
        };
        let evict = |guards: &[GuardView]| (of(guards, &[]).latency.evict, of(guards, &[]).latency.evictions);
        assert_eq!(evict(&[takes(160, 0), takes(40, 2), takes(161, 0)]), (40, 2));
        assert_eq!(evict(&[takes(40, 2), takes(90, 1)]), (90, 2));
        assert_eq!(evict(&[guard("a", "60 %", MemoryView::default())]).1, 0);
        assert_eq!(
            of(&[guard("a", "60 %", MemoryView::default())], &[]).latency.evict,
            160,
            "an agent that says nothing"
        );
    }

    #[test]
    fn incidents_count_for_growth_misses_and_leaks() {
        let guards = [guard("a", "60 %", MemoryView { peak: Some(150), ..MemoryView::default() })];
        let web = of(&guards, &[incident("leak", "PreOOMEvicted"), incident("spike", "PreOOMMissed")]);
        assert_eq!((web.acted, web.missed.clone()), (1, vec![(Some(MissReason::TooFast), Some(40))]));
        assert_eq!(web.growth, 4 * 1024, "8 KiB in two seconds");
        let rare = |value, each_seconds| {
            let minutes = CurveView { each_seconds, value, ..CurveView::default() };
            let incident = IncidentView { minutes, day: CurveView::default(), ..incident("spike", "PreOOMEvicted") };
            of(&guards, &[incident]).growth
        };
        let ten = [Some(100)].into_iter().chain([None; 9]).chain([Some(5_000_100), Some(1)]).collect();
        assert_eq!(rare(ten, 1), 500_000 * 1024, "where the signal was read every ten seconds");
        assert_eq!(rare(vec![Some(0), Some(3000)], 300), 10 * 1024);
        let known = web.known().unwrap();
        assert_eq!((known.peak, known.missed), (Bytes(62 * 1024), Some(Bytes(40))), "what it held before the leak");
        let spike = of(&guards, &[incident("spike", "PreOOMEvicted")]);
        assert_eq!((spike.known().unwrap().peak, spike.known().unwrap().missed), (Bytes(150), None));
        let other = IncidentView { container: None, ..incident("leak", "PreOOMMissed") };
        assert!(of(&guards, &[other]).missed.is_empty());
    }
}
