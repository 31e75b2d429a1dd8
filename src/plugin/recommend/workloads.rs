//! What the agents know of each container of a workload, over all its pods.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use jiff::{SignedDuration, Timestamp};

use super::reckon::{Known, Present};
use crate::decide::ladder::{EVICT, Latencies, RAISE, RESTART, Spread};
use crate::ground::units::{Bytes, Percent};
use crate::plugin::agents::missed::{is_missed, miss_reason};
use crate::plugin::agents::named::{short, workload_of};
use crate::report::notice::MissReason;
use crate::serve::incident::{CurveView, IncidentView};
use crate::serve::wire::{GuardView, LatencyView, MemoryView};

/// No remedy takes longer than the longest grace period that a guard may ask for.
const LONGEST: Duration = DAY;
const DAY: Duration = Duration::from_secs(86_400);
const A_DAY: SignedDuration = SignedDuration::from_hours(24);
/// A rise is looked for in the last so many seconds, or for as long as it grew.
const MINUTES: u64 = 300;

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
    fn of(namespace: &str, owner: Option<&str>, pod: &str, container: Option<&str>) -> Name {
        let workload = workload_of(owner, pod);
        Name { namespace: namespace.to_owned(), workload, container: container.map(str::to_owned) }
    }

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
    /// For how long at least one of its pods was watched.
    pub lasts: Duration,
    /// The most of the signal, where no leak brought it there.
    pub peak: Option<u64>,
    /// The most of the usage. The signal is no more.
    pub usage_peak: Option<u64>,
    /// What its pods held at most before they leaked.
    pub before_leaks: Option<u64>,
    /// What happened to pods that are gone, or before, took it there; leaks did not.
    happened_peak: Option<u64>,
    /// Of each pod that lives and had no leak: its peak, and its threshold.
    alive: Vec<(u64, Option<u64>)>,
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

/// Puts together what is guarded, and what happened to it.
#[must_use]
pub fn workloads<'a>(
    guards: impl Iterator<Item = &'a GuardView>,
    incidents: impl Iterator<Item = &'a IncidentView>,
    now: Timestamp,
) -> BTreeMap<Name, Workload> {
    let mut seen = BTreeSet::new();
    // The agents' rings go back a day; what they keep of incidents may be older. One whose time cannot be read counts.
    let is_recent = |it: &&IncidentView| it.at.parse::<Timestamp>().map_or(true, |at| now.duration_since(at) <= A_DAY);
    // In a rollout, two agents of a node report the same.
    let incidents: Vec<(Name, &IncidentView)> = incidents
        .filter(is_recent)
        .filter(|it| seen.insert((it.uid.clone(), it.container.clone(), Some(it.at.clone()))))
        .map(|it| (Name::of(&it.namespace, it.owner.as_deref(), &it.pod, it.container.as_deref()), it))
        .collect();
    let leaks = incidents.iter().filter(|(_, it)| is_leak(it));
    let leaks: BTreeSet<(&Name, &str)> = leaks.map(|(name, it)| (name, it.uid.as_str())).collect();
    let mut all = BTreeMap::<Name, Workload>::new();
    let mut watched = BTreeMap::<Name, Vec<(Timestamp, Timestamp)>>::new();
    for guard in guards.filter(|guard| seen.insert((guard.uid.clone(), guard.container.clone(), None))) {
        let name = Name::of(&guard.namespace, guard.owner.as_deref(), &guard.pod, guard.container.as_deref());
        let known = guard.memory.as_ref().map_or(0, |memory| memory.known_seconds);
        watched.entry(name.clone()).or_default().extend(until(now, known));
        let leaked = leaks.contains(&(&name, guard.uid.as_str()));
        all.entry(name).or_default().add(guard, leaked);
    }
    for (name, incident) in &incidents {
        let Some(workload) = all.get_mut(name) else { continue };
        let at = incident.at.parse().ok();
        watched.entry(name.clone()).or_default().extend(at.and_then(|at| until(at, incident.known_seconds)));
        let leaked = leaks.contains(&(name, incident.uid.as_str()));
        let leaks = leaks.iter().any(|(of, _)| *of == name);
        workload.happened(incident, leaked, leaks);
    }
    for (name, workload) in &mut all {
        workload.lasts = watched.remove(name).map_or(Duration::ZERO, together).min(DAY);
    }
    all
}

/// The time of so many seconds until then.
fn until(then: Timestamp, seconds: u64) -> Option<(Timestamp, Timestamp)> {
    let seconds = seconds.min(DAY.as_secs());
    Some((then.checked_sub(Duration::from_secs(seconds)).ok()?, then))
}

/// How long the times last together. What is in several of them counts once.
fn together(mut times: Vec<(Timestamp, Timestamp)>) -> Duration {
    times.sort_unstable();
    let (mut all, mut end) = (Duration::ZERO, Timestamp::MIN);
    for (from, to) in times {
        all += Duration::try_from(to.duration_since(from.max(end))).unwrap_or_default();
        end = end.max(to);
    }
    all
}

fn is_leak(incident: &IncidentView) -> bool {
    incident.class.as_deref() == Some("leak")
}

impl Workload {
    /// `leaked`: an incident of this pod was a leak. Then only what it held before counts.
    fn add(&mut self, guard: &GuardView, leaked: bool) {
        self.pods.insert(guard.uid.clone());
        let Some(memory) = &guard.memory else {
            self.unknown = Some(format!("{}: {}", guard.state.as_str(), guard.why));
            return;
        };
        if let Some(peak) = memory.peak.max(memory.value).filter(|_| !leaked) {
            self.peak = self.peak.max(Some(peak));
            self.alive.push((peak, memory.threshold));
        }
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

    /// `leaked`: this or another incident of this pod was a leak; `leaks`: one of any pod was.
    fn happened(&mut self, incident: &IncidentView, leaked: bool, leaks: bool) {
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
        if is_leak(incident) {
            self.before_leaks = self.before_leaks.max(before_rise(incident));
        // Where others leak, what is not classified may be a leak, too.
        } else if !leaked && (incident.class.is_some() || !leaks) {
            let most = |of: fn(&CurveView) -> &Vec<Option<u64>>| {
                let points = [of(&incident.minutes), of(&incident.day)].into_iter().flatten();
                points.flatten().max().map(|kib| kib.saturating_mul(1024))
            };
            self.happened_peak = self.happened_peak.max(most(|curve| &curve.value)).max(facts.value);
            self.peak = self.peak.max(self.happened_peak);
            self.usage_peak = self.usage_peak.max(most(|curve| &curve.usage)).max(facts.usage);
        }
    }

    /// What it needs, *p*; and what the threshold has to be above besides.
    fn needs(&self) -> Option<(u64, u64)> {
        if self.before_leaks.is_none() {
            return Some((self.peak.or(self.usage_peak)?, 0));
        }
        // A pod that lives may be leaking. So a tenth more is not asked for, and a pod that stayed below its own threshold
        // asks for no change. Otherwise, each leak would raise the threshold a little further.
        let lowest = self.thresholds.as_ref().and_then(|[low, _]| low.1);
        let alive = self.alive.iter().map(|(peak, threshold)| match threshold.zip(lowest) {
            Some((threshold, lowest)) if *peak <= threshold => (*peak).min(lowest.saturating_sub(1)),
            _ => *peak,
        });
        let besides = alive.max().unwrap_or(0);
        Some((self.before_leaks.max(self.happened_peak)?, besides))
    }

    /// What a threshold can be reckoned from; `None` if nothing is known.
    #[must_use]
    pub fn known(&self) -> Option<Known> {
        let (peak, besides) = self.needs()?;
        let too_fast = self.missed.iter().filter(|(reason, _)| *reason == Some(MissReason::TooFast));
        Some(Known {
            lasts: self.lasts,
            peak: Bytes(peak),
            besides: Bytes(besides),
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

/// What a container held at most before the rise that led to this incident.
fn before_rise(incident: &IncidentView) -> Option<u64> {
    let signal = points(incident, |curve| &curve.value);
    let all = if signal.is_empty() { points(incident, |curve| &curve.usage) } else { signal };
    let end = all.last()?.1;
    let growing = incident.growth_per_minute.filter(|growth| *growth > 0).and(incident.growing_seconds);
    let lasted = growing.unwrap_or(0).max(MINUTES);
    let risen = all.iter().enumerate().filter(|(_, (ago, _))| *ago <= lasted);
    let (mut start, mut least) = risen.map(|(at, (_, kib))| (at, *kib)).min_by_key(|(_, kib)| *kib)?;
    // It began where the signal had been higher before by more than half of the rise.
    for (at, (_, kib)) in all[..start].iter().enumerate().rev() {
        if *kib <= least {
            (start, least) = (at, *kib);
        } else if *kib - least > end.saturating_sub(least) / 2 {
            break;
        }
    }
    let before = all[..=start].iter().map(|(_, kib)| *kib).max();
    before.map(|kib| kib.saturating_mul(1024))
}

/// The known points of the day and of the last minutes: how many seconds before, and KiB. The oldest first.
fn points(incident: &IncidentView, of: fn(&CurveView) -> &Vec<Option<u64>>) -> Vec<(u64, u64)> {
    let known = |curve: &CurveView| {
        let ago = (0..).map(|n: u64| n.saturating_mul(curve.each_seconds));
        let points = of(curve).iter().rev().zip(ago).filter_map(|(kib, ago)| Some((ago, (*kib)?)));
        points.collect::<Vec<_>>()
    };
    let minutes = known(&incident.minutes);
    // The last part of the day is in the minutes.
    let day = known(&incident.day).into_iter().filter(|(ago, _)| minutes.is_empty() || *ago > 0);
    let mut all: Vec<(u64, u64)> = minutes.iter().copied().chain(day).collect();
    all.reverse();
    all
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

    const NOON: &str = "2026-11-24T12:00:00Z";

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
            at: reason.into(),
            steps: vec![StepView { reason: reason.into(), cause: Some("too-fast".into()), ..StepView::default() }],
            facts: Facts { limit: Some(100), threshold: Some(60), growth: Some(9), ..Facts::default() },
            day: CurveView {
                each_seconds: 300,
                value: vec![Some(70), None, Some(62), Some(150)],
                ..CurveView::default()
            },
            minutes: CurveView {
                each_seconds: 1,
                value: vec![Some(1), None, Some(9), Some(12)],
                ..CurveView::default()
            },
            ..IncidentView::default()
        }
    }

    fn of(guards: &[GuardView], incidents: &[IncidentView]) -> Workload {
        let all = workloads(guards.iter(), incidents.iter(), NOON.parse().unwrap());
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
        assert_eq!((known.peak, known.missed), (Bytes(70 * 1024), Some(Bytes(40))), "what it held before the leak");
        let spike = of(&guards, &[incident("spike", "PreOOMEvicted")]);
        assert_eq!((spike.known().unwrap().peak, spike.known().unwrap().missed), (Bytes(150 * 1024), None));
        let other = IncidentView { container: None, ..incident("leak", "PreOOMMissed") };
        assert!(of(&guards, &[other]).missed.is_empty());
    }

    const MIB: u64 = 1 << 20;

    /// At 60 % of 1Gi, or at another threshold.
    fn alive(uid: &str, peak: u64, threshold: &str) -> GuardView {
        let percent = percent(threshold).unwrap();
        let limit = 1024 * MIB;
        let threshold_bytes = Some(percent.of(Bytes(limit)).0);
        let memory = MemoryView {
            peak: Some(peak * MIB),
            limit: Some(limit),
            threshold: threshold_bytes,
            known_seconds: 3600,
            ..MemoryView::default()
        };
        guard(uid, threshold, memory)
    }

    /// In MiB: what the day was before, each five minutes.
    fn happened(class: Option<&'static str>, uid: &str, day: &[u64]) -> IncidentView {
        let day = CurveView {
            each_seconds: 300,
            value: day.iter().map(|mib| Some(mib << 10)).collect(),
            ..CurveView::default()
        };
        IncidentView {
            at: "2026-11-24T08:00:00.000Z".into(),
            uid: uid.into(),
            class: class.map(Into::into),
            known_seconds: 3600,
            growth_per_minute: Some(MIB as i64),
            growing_seconds: Some(600),
            day,
            minutes: CurveView::default(),
            facts: Facts::default(),
            steps: Vec::new(),
            ..incident("leak", "")
        }
    }

    fn verdict(guards: &[GuardView], incidents: &[IncidentView]) -> (u64, String) {
        let known = of(guards, incidents).known().unwrap();
        let reckoned = super::super::reckon::reckon(&known);
        (known.peak.0 / MIB, format!("{:?}", reckoned.verdict))
    }

    /// 100Mi at night, 700Mi by day, and evicted each morning at 614Mi.
    #[test]
    fn the_rise_of_each_morning_is_no_reason_to_forget_the_day() {
        let by_day = [&[700; 30][..], &[400, 100], &[100; 40], &[250, 400, 500, 616]].concat();
        let alone = [happened(Some("leak"), "a", &by_day)];
        let wanted = (700, "Threshold(Percent(76))".to_owned());
        assert_eq!(verdict(&[alive("b", 100, "60 %")], &alone), wanted, "its own peak before its rise");
        assert_eq!(verdict(&[alive("a", 620, "60 %")], &alone), wanted, "it lives");
        let at_night = happened(Some("leak"), "a", &by_day[32..]);
        let others = verdict(&[alive("b", 700, "60 %")], std::slice::from_ref(&at_night));
        assert_eq!(others, (100, "Threshold(Percent(69))".into()), "others held more");
        let spike = happened(Some("spike"), "c", &[100, 700]);
        assert_eq!(verdict(&[alive("b", 100, "60 %")], &[at_night, spike]), wanted, "others that are gone, too");
    }

    #[test]
    fn a_leak_does_not_raise_the_threshold_with_each_incident() {
        let leak = |growing, day: &[u64]| IncidentView {
            growing_seconds: growing,
            growth_per_minute: growing.map(|_| 1),
            ..happened(Some("leak"), "a", day)
        };
        let days: Vec<u64> = [62; 20].into_iter().chain((0..112).map(|n| 62 + n * 5)).collect();
        for growing in [None, Some(300), Some(3600), Some(33_600)] {
            let all = [leak(growing, &days)];
            assert_eq!(of(&[alive("b", 1, "60 %")], &all).before_leaks, Some(62 * MIB), "{growing:?}");
            // Another one leaks, and has not reached its threshold yet.
            let others = [alive("b", 610, "60 %"), alive("c", 590, "58 %")];
            assert_eq!(verdict(&others, &all), (62, "Fits".into()), "{growing:?}");
        }
        // Garbage is collected now and then.
        let teeth: Vec<u64> = days.iter().zip(0..).map(|(mib, n)| mib + n % 4 * 10).collect();
        let before = of(&[alive("b", 1, "60 %")], &[leak(Some(33_600), &teeth)]).before_leaks.unwrap();
        assert!(before <= 92 * MIB, "{before}");
        let mut seconds = leak(None, &[60, 600]);
        seconds.minutes = CurveView {
            each_seconds: 1,
            value: (0..300).map(|n| (n % 10 == 0).then_some((60 + n * 2) << 10)).collect(),
            ..CurveView::default()
        };
        assert_eq!(of(&[alive("b", 1, "60 %")], &[seconds]).before_leaks, Some(60 * MIB));
        let mut unread = leak(Some(600), &days);
        unread.day.usage = std::mem::take(&mut unread.day.value);
        assert_eq!(of(&[alive("b", 1, "60 %")], &[unread]).before_leaks, Some(62 * MIB), "the usage is no less");
        let unclassified = happened(None, "d", &[100, 620]);
        let all = [leak(Some(33_600), &days), unclassified.clone()];
        assert_eq!(verdict(&[alive("b", 1, "60 %")], &all), (62, "Fits".into()));
        assert_eq!(verdict(&[alive("b", 1, "60 %")], &[unclassified]).0, 620);
    }

    #[test]
    fn what_happened_to_pods_that_are_gone_counts_for_the_peak() {
        let spike = happened(Some("spike"), "gone", &[100, 600]);
        let web = of(&[alive("b", 100, "60 %")], std::slice::from_ref(&spike));
        assert_eq!((web.peak, web.known().unwrap().peak), (Some(600 * MIB), Bytes(600 * MIB)));
        assert_eq!(verdict(&[alive("b", 100, "60 %")], &[spike]), (600, "Threshold(Percent(65))".into()));
    }

    /// Whatever is evicted more often than hourly is never watched for an hour.
    #[test]
    fn the_times_of_all_pods_count_once() {
        let at = |at: &str, uid: &str, known_seconds| IncidentView {
            at: format!("2026-11-24T{at}.000Z"),
            known_seconds,
            ..happened(Some("spike"), uid, &[1])
        };
        let young = |seconds| {
            let mut young = alive("now", 100, "60 %");
            young.memory.as_mut().unwrap().known_seconds = seconds;
            young
        };
        let lasts = |incidents: &[IncidentView]| of(&[young(600)], incidents).lasts.as_secs();
        assert_eq!(lasts(&[]), 600);
        let often = [at("11:50:00", "a", 1500), at("11:20:00", "b", 1500), at("10:50:00", "c", 1200)];
        assert_eq!(lasts(&often), 600 + 1500 + 1500 + 1200);
        assert!(!verdict(&[young(600)], &often).1.starts_with("TooEarly"));
        assert_eq!(lasts(&[at("11:50:00", "a", 1500), at("11:40:00", "b", 1500)]), 600 + 1500 + 600, "side by side");
        assert_eq!(lasts(&[at("11:59:00", "now", 540)]), 600, "it lives");
        assert_eq!(lasts(&[at("11:00:00", "a", 86_400)]), 86_400, "at most a day");
        let unread = IncidentView { at: "?".into(), ..at("11:00:00", "a", 9) };
        assert_eq!(lasts(&[unread]), 600);
    }

    /// The signal is not read all the time.
    #[test]
    fn the_last_value_counts_where_no_peak_is_known_yet_and_usage_is_an_upper_bound() {
        let memory = |peak, value| MemoryView { peak, value, usage: 9, usage_peak: Some(11), ..MemoryView::default() };
        let peak = |peak, value| of(&[guard("a", "60 %", MemoryView { limit: Some(100), ..memory(peak, value) })], &[]);
        assert_eq!((peak(Some(5), Some(7)).peak, peak(Some(8), None).peak), (Some(7), Some(8)));
        let never = peak(None, None);
        assert_eq!((never.peak, never.usage_peak, never.known().unwrap().peak), (None, Some(11), Bytes(11)));
    }
}
