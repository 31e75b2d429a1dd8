//! What is true of a container: `(Rule, history, Sample) → Verdict`, and who is never evicted.
//! Pure: time arrives inside the sample.

use std::collections::BTreeSet;
use std::fmt;
use std::time::Duration;

use crate::cgroup::Stat;
use crate::growth::Trend;
use crate::guard::{Rule, Signal, Threshold};
use crate::pods::{Phase, Pod};
use crate::units::Bytes;

/// A point in time: since the agent's start, monotonic.
pub type Moment = Duration;

/// Why a pod is never evicted, whatever its label says.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, serde::Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Never {
    /// A mirror of a static pod: evicting it does not touch the process (measured).
    Mirror,
    /// Owned by the Node: a static pod.
    Static,
    /// It is going away already.
    Terminating,
    /// Succeeded or Failed.
    Finished,
    /// Bound to another node, or to none.
    NotOurNode,
    /// Its namespace is switched off (`--exclude-namespaces`).
    ExcludedNamespace,
    /// The agent itself.
    Agent,
}

impl fmt::Display for Never {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Never::Mirror => "it mirrors a static pod, which an eviction would not end",
            Never::Static => "it is a static pod, owned by its node",
            Never::Terminating => "it is terminating already",
            Never::Finished => "it has finished",
            Never::NotOurNode => "it is not on this agent's node",
            Never::ExcludedNamespace => "its namespace is excluded (--exclude-namespaces)",
            Never::Agent => "it is this agent itself",
        })
    }
}

/// Who is asking.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Me {
    /// The node's name.
    pub node: String,
    /// The agent's own pod uid; none for a run from a desk.
    pub pod_uid: Option<String>,
    /// Namespaces that are switched off.
    pub excluded: BTreeSet<String>,
}

/// The one place that says who is never evicted.
#[must_use]
pub fn never(pod: &Pod, me: &Me) -> Option<Never> {
    let owner_kind = pod.owner.as_ref().map(|o| o.kind.as_str());
    if me.pod_uid.as_deref() == Some(pod.id.uid.0.as_str()) {
        Some(Never::Agent)
    } else if pod.node.as_deref() != Some(me.node.as_str()) {
        Some(Never::NotOurNode)
    } else if me.excluded.contains(&pod.id.namespace) {
        Some(Never::ExcludedNamespace)
    } else if pod.mirror {
        Some(Never::Mirror)
    } else if owner_kind == Some("Node") {
        Some(Never::Static)
    } else if pod.terminating {
        Some(Never::Terminating)
    } else if matches!(pod.phase, Phase::Succeeded | Phase::Failed) {
        Some(Never::Finished)
    } else {
        None
    }
}

/// One group's memory at one moment.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Level {
    /// All that is charged; where it was read on both sides of stat, the lesser of the two.
    pub usage: Bytes,
    /// The greater of the two.
    pub most_usage: Bytes,
    /// The limit in effect, if there is one.
    pub limit: Option<Bytes>,
    /// The cache in it, where it was read at this moment.
    pub stat: Option<Stat>,
    /// What swap would still take.
    pub swap_left: Bytes,
}

impl Level {
    /// What is left before the kernel kills: limit − (usage − clean cache) + swap left. Without
    /// stat it is limit − usage, a lower bound. `None` without a limit.
    #[must_use]
    pub fn room(&self) -> Option<Bytes> {
        let room = self.limit?.less(self.held());
        Some(room.plus(self.swap_left))
    }

    /// Usage less clean cache: what an OOM kill is about.
    #[must_use]
    pub fn held(&self) -> Bytes {
        self.usage.less(self.stat.map_or(Bytes(0), Stat::clean_cache))
    }

    /// The signal's value; `None` where stat is needed and was not read.
    #[must_use]
    pub fn value(&self, signal: Signal) -> Option<Bytes> {
        Some(match signal {
            Signal::Usage => self.usage,
            Signal::WorkingSet => self.usage.less(self.stat?.inactive_file),
            Signal::Unreclaimable => {
                let stat = self.stat?;
                (self.usage.less(stat.inactive_file)).less(stat.active_file).less(stat.slab_reclaimable)
            }
        })
    }
}

/// What was read of a guarded container.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Sample {
    /// When: just before it was read.
    pub at: Moment,
    /// When all of it had been read.
    pub until: Moment,
    /// Its own group.
    pub own: Level,
    /// The pod's group, where there is one above.
    pub pod: Option<Level>,
}

impl Sample {
    /// The base of a percentage: the container's own limit, else the pod's. The levels above are
    /// the node's concern and never a base.
    #[must_use]
    pub fn base(&self) -> Option<Bytes> {
        self.own.limit.or(self.pod.and_then(|p| p.limit))
    }

    /// Less than a twentieth of its limit is left at one of the levels: whatever growth seems to be, a kill can come at once.
    #[must_use]
    pub fn is_tight(&self) -> bool {
        let is_tight = |level: &Level| {
            let least = level.limit.map(|limit| Bytes(limit.0 / TIGHT_PART));
            level.stat.is_some() && level.room().zip(least).is_some_and(|(room, least)| room < least)
        };
        !self.is_torn() && (is_tight(&self.own) || self.pod.as_ref().is_some_and(is_tight))
    }

    /// Its reads, which take some 30 µs, lie so far apart that they need not fit together.
    #[must_use]
    pub fn is_torn(&self) -> bool {
        self.until.saturating_sub(self.at) > TORN
    }

    /// The smallest room over both levels; `None` where neither has a limit.
    #[must_use]
    pub fn room(&self) -> Option<Bytes> {
        let pod = self.pod.and_then(|p| p.room());
        [self.own.room(), pod].into_iter().flatten().min()
    }

    /// The threshold in bytes; `None` for a percentage of no limit.
    #[must_use]
    pub fn threshold(&self, rule: &Rule) -> Option<Bytes> {
        match rule.threshold {
            Threshold::Quantity(bytes) => Some(bytes),
            Threshold::Percent(percent) => self.base().map(|base| percent.of(base)),
        }
    }
}

impl Sample {
    /// Past `force-delete-threshold`.
    #[must_use]
    pub fn critical(&self, rule: &Rule) -> bool {
        let past = rule.force_delete.and_then(|percent| Some(percent.of(self.base()?)));
        past.is_some_and(|past| self.own.held() > past)
    }
}

/// What a verdict rests on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Evidence {
    /// When it was read.
    pub at: Moment,
    /// Which signal.
    pub signal: Signal,
    /// Its value.
    pub value: Bytes,
    /// All that is charged.
    pub usage: Bytes,
    /// The limit that a percentage is of.
    pub limit: Option<Bytes>,
    /// The threshold.
    pub threshold: Bytes,
    /// How fast what cannot be reclaimed grew over the last quarter of a second, in bytes a second; `None` before the
    /// second look.
    pub growth: Option<i64>,
    /// The same over the last minute; `None` in the first seconds.
    pub slow_growth: Option<i64>,
    /// A lower bound of both, in bytes a second: what haste rests on.
    pub growth_at_least: i64,
    /// What is left before a kill.
    pub room: Option<Bytes>,
    /// See [`Sample::is_tight`].
    pub tight: bool,
    /// It was to be over for longer, but would not have lived so long.
    pub waived: bool,
    /// Past `force-delete-threshold` too, by usage less clean cache.
    pub critical: bool,
}

/// What is true of a container now.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// A percentage, and neither the container nor its pod has a limit.
    NoLimit,
    /// At or below the threshold.
    Under,
    /// The threshold is a quantity that is not below the limit: it can never be over.
    BeyondLimit,
    /// Above it, but not yet for as long as asked for.
    Sustaining {
        /// When that will be.
        until: Moment,
    },
    /// Above it: act.
    Over(Evidence),
}

impl Evidence {
    /// How long an eviction can still wait: after that it comes too late. `eviction_takes` is what nine of ten evictions
    /// take, from the request to the end of the group. Zero: it is too late to wait. `None`: nothing says that it will be
    /// killed.
    #[must_use]
    pub fn deadline(&self, eviction_takes: Duration) -> Option<Duration> {
        if self.tight {
            return Some(Duration::ZERO);
        }
        let left = time_left(self.room, Some(self.growth_at_least))?;
        Some(left.saturating_sub(eviction_takes).saturating_sub(DEADLINE_MARGIN))
    }
}

/// A thread that had to wait for longer than this between the reads of a sample may have read of two states of the memory:
/// cache that was there for the one and not for the other looks like a leak.
pub const TORN: Duration = Duration::from_millis(2);
/// Less than this part of the limit is the deadline, whatever growth seems to be.
const TIGHT_PART: u64 = 20;
/// An eviction is sent so long before the last moment that seems to do: growth may rise, and an answer may be late
/// (a stall of 1.4 s was seen in one of twenty, on a disk that was busy).
pub const DEADLINE_MARGIN: Duration = Duration::from_millis(500);

/// What is remembered of a container: how its memory changed, and since when it is over. Of fixed size.
#[derive(Clone, Debug, Default)]
pub struct History {
    trend: Trend,
    over_since: Option<Moment>,
}

impl History {
    /// Takes a sample in, then judges it. `eviction_takes`: see [`Evidence::deadline`].
    pub fn observe(&mut self, rule: &Rule, sample: &Sample, eviction_takes: Duration) -> Verdict {
        self.trend.remember(sample);
        let Some(threshold) = sample.threshold(rule) else {
            self.over_since = None;
            return Verdict::NoLimit;
        };
        // Every signal is at most usage, so this also answers where stat was not read.
        let value = sample.own.value(rule.signal).unwrap_or(sample.own.usage);
        let known = sample.own.value(rule.signal).is_some();
        if value <= threshold || !known {
            self.over_since = None;
            let beyond = sample.base().is_some_and(|base| base <= threshold);
            return if beyond { Verdict::BeyondLimit } else { Verdict::Under };
        }
        let since = *self.over_since.get_or_insert(sample.at);
        let until = since + rule.sustained_for;
        let evidence = Evidence {
            at: sample.at,
            signal: rule.signal,
            value,
            usage: sample.own.usage,
            limit: sample.base(),
            threshold,
            growth: self.trend.fast(),
            slow_growth: self.trend.slow(),
            growth_at_least: self.trend.at_least(),
            room: sample.room(),
            tight: sample.is_tight(),
            waived: sample.at < until,
            critical: sample.critical(rule),
        };
        if evidence.waived && evidence.deadline(eviction_takes) != Some(Duration::ZERO) {
            return Verdict::Sustaining { until };
        }
        Verdict::Over(evidence)
    }

    /// Takes in that the next look found the usage of the one before.
    pub fn same(&mut self, at: Moment) {
        self.trend.same(at);
    }

    /// The rule is another: nothing is known to have lasted.
    pub fn judged_anew(&mut self) {
        self.over_since = None;
    }

    /// There was a time without a look.
    pub fn interrupted(&mut self) {
        *self = History::default();
    }

    /// How its memory changes.
    #[must_use]
    pub fn trend(&self) -> &Trend {
        &self.trend
    }
}

/// How long `room` lasts at `growth`; `None` where nothing grows or nothing limits.
#[must_use]
pub fn time_left(room: Option<Bytes>, growth: Option<i64>) -> Option<Duration> {
    let growth = u64::try_from(growth?).ok().filter(|g| *g > 0)?;
    Some(filled_after(room?, growth))
}

/// `bytes ÷ rate`, rate in bytes a second, not 0.
fn filled_after(bytes: Bytes, rate: u64) -> Duration {
    let nanos = u128::from(bytes.0) * 1_000_000_000 / u128::from(rate.max(1));
    Duration::from_nanos(u64::try_from(nanos).unwrap_or(u64::MAX))
}

/// The shortest time between two looks at a container.
pub const SHORTEST_LOOK: Duration = Duration::from_millis(5);
/// The shortest while it rises so fast that it crosses its threshold before the next look.
const SHORTEST_WHILE_RISING: Duration = Duration::from_millis(1);
/// The longest.
pub const LONGEST_LOOK: Duration = Duration::from_secs(1);
/// The fastest filling that is reckoned with, in bytes a second (measured: 1–4 GiB/s a core).
const FASTEST_FILLING: u64 = 4 << 30;
/// Without a limit nothing says how near a kill is; then the growth seen decides, with this factor
/// for growth that rises between two looks.
const GROWTH_MAY_RISE: u64 = 4;

/// When to look again: before the fastest ramp that could still be saved would have taken the
/// container to where it can no longer be saved. Faster ones are lost whenever we look.
///
/// A ramp of rate r can be saved if the headroom (limit − threshold) lasts longer than an
/// eviction (E) and one look: r < (limit − threshold) ÷ (E + 5 ms). At that rate the room is used
/// up after room ÷ r, and the eviction has to begin E before.
#[must_use]
pub fn next_look(
    rule: &Rule,
    sample: &Sample,
    room: Option<Bytes>,
    growth: Option<i64>,
    eviction_takes: Duration,
) -> Duration {
    let due = match (sample.threshold(rule), sample.base(), room) {
        (None, ..) => LONGEST_LOOK,
        (Some(threshold), Some(base), Some(room)) => {
            let headroom = base.less(threshold);
            if headroom == Bytes(0) {
                return LONGEST_LOOK; // it can never act
            }
            let rate = fastest_saved(headroom, eviction_takes);
            filled_after(room, rate).saturating_sub(eviction_takes)
        }
        (Some(threshold), ..) => {
            let growth = growth.and_then(|g| u64::try_from(g).ok()).unwrap_or(0);
            let missing = threshold.less(sample.own.usage);
            filled_after(missing, growth.saturating_mul(GROWTH_MAY_RISE))
        }
    };
    due.clamp(SHORTEST_LOOK, LONGEST_LOOK)
}

/// When a container that lacks so much to its threshold crosses it if it goes on rising like this; `None` where that is not
/// before the next look that is due anyway. A look at that moment finds a fast ramp some milliseconds sooner than the
/// schedule has to, and costs nothing while nothing rises.
#[must_use]
pub fn crossing(missing: Bytes, rise: Option<u64>, due: Duration) -> Option<Duration> {
    let after = filled_after(missing, rise?).max(SHORTEST_WHILE_RISING);
    (missing > Bytes(0) && after < due).then_some(after)
}

/// The fastest ramp from the threshold that can still be saved, in bytes a second: the headroom (limit − threshold) lasts
/// for an eviction and one look. None is reckoned to be faster than [`FASTEST_FILLING`].
#[must_use]
pub fn fastest_saved(headroom: Bytes, eviction_takes: Duration) -> u64 {
    let nanos = (eviction_takes + SHORTEST_LOOK).as_nanos();
    let rate = u128::from(headroom.0) * 1_000_000_000 / nanos;
    u64::try_from(rate).map_or(FASTEST_FILLING, |r| r.min(FASTEST_FILLING))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::units::Percent;
    use proptest::prelude::*;

    const MIB: u64 = 1 << 20;
    const TAKES: Duration = Duration::from_millis(60);

    fn rule(percent: &str) -> Rule {
        Rule {
            threshold: Threshold::Percent(Percent::parse(percent).unwrap()),
            signal: Signal::WorkingSet,
            sustained_for: Duration::ZERO,
            force_delete: None,
        }
    }

    fn level(usage: u64, limit: Option<u64>, inactive: u64) -> Level {
        Level {
            usage: Bytes(usage),
            most_usage: Bytes(usage),
            limit: limit.map(Bytes),
            stat: Some(Stat { inactive_file: Bytes(inactive), ..Stat::default() }),
            swap_left: Bytes(0),
        }
    }

    fn sample(millis: u64, own: Level) -> Sample {
        Sample { at: Duration::from_millis(millis), until: Duration::from_millis(millis), own, pod: None }
    }

    fn judge(rule: &Rule, sample: &Sample) -> Verdict {
        History::default().observe(rule, sample, TAKES)
    }

    #[test]
    fn over_is_strictly_above() {
        let at = |usage| sample(0, level(usage, Some(100 * MIB), 0));
        assert_eq!(judge(&rule("60"), &at(60 * MIB)), Verdict::Under);
        let Verdict::Over(evidence) = judge(&rule("60"), &at(60 * MIB + 1)) else { panic!("one byte above is over") };
        assert_eq!(evidence.threshold, Bytes(60 * MIB));
        assert_eq!(evidence.value, Bytes(60 * MIB + 1));
        assert_eq!(evidence.room, Some(Bytes(40 * MIB - 1)));
        assert_eq!(evidence.growth, None);
    }

    #[test]
    fn the_signal_decides_what_counts() {
        let own = Level {
            usage: Bytes(100),
            most_usage: Bytes(100),
            limit: Some(Bytes(100)),
            stat: Some(Stat {
                inactive_file: Bytes(30),
                active_file: Bytes(20),
                dirty: Bytes(5),
                writeback: Bytes(1),
                slab_reclaimable: Bytes(7),
            }),
            swap_left: Bytes(0),
        };
        assert_eq!(own.value(Signal::Usage), Some(Bytes(100)));
        assert_eq!(own.value(Signal::WorkingSet), Some(Bytes(70)));
        assert_eq!(own.value(Signal::Unreclaimable), Some(Bytes(43)));
        // Clean cache is no nearness: 30 + 20 − 5 − 1 + 7 can be taken back.
        assert_eq!(own.room(), Some(Bytes(51)));
        let unread = Level { stat: None, ..own };
        assert_eq!(unread.value(Signal::WorkingSet), None);
        assert_eq!(unread.room(), Some(Bytes(0)));
        let with_swap = Level { swap_left: Bytes(9), ..own };
        assert_eq!(with_swap.room(), Some(Bytes(60)));
    }

    #[test]
    fn what_was_not_read_is_never_over() {
        let unread = Level { stat: None, ..level(99 * MIB, Some(100 * MIB), 0) };
        assert_eq!(judge(&rule("60"), &sample(0, unread)), Verdict::Under);
    }

    #[test]
    fn the_base_is_the_own_limit_else_the_pods_else_none() {
        let pod = level(70 * MIB, Some(100 * MIB), 0);
        let with_pod = |own| Sample { pod: Some(pod), ..sample(0, own) };
        let own_limit = with_pod(level(50 * MIB, Some(200 * MIB), 0));
        assert_eq!(own_limit.base(), Some(Bytes(200 * MIB)));
        assert_eq!(own_limit.room(), Some(Bytes(30 * MIB)), "the nearer of both");
        let pods = with_pod(level(61 * MIB, None, 0));
        assert_eq!(pods.base(), Some(Bytes(100 * MIB)));
        assert!(matches!(judge(&rule("60"), &pods), Verdict::Over(_)));
        let none = sample(0, level(61 * MIB, None, 0));
        assert_eq!(judge(&rule("60"), &none), Verdict::NoLimit);
        let quantity = Rule { threshold: Threshold::Quantity(Bytes(60 * MIB)), ..rule("60") };
        let Verdict::Over(evidence) = judge(&quantity, &none) else { panic!("a quantity needs no limit") };
        assert_eq!((evidence.limit, evidence.room), (None, None));
    }

    #[test]
    fn sustained_for_is_reset_by_a_dip_and_waived_when_the_end_is_near() {
        let rule = Rule { sustained_for: Duration::from_secs(10), ..rule("60") };
        let limit = Some(100 * MIB);
        let mut history = History::default();
        let mut at = |seconds: u64, usage: u64| {
            let sample = sample(seconds * 1000, level(usage, limit, 0));
            history.observe(&rule, &sample, TAKES)
        };
        let until = |seconds| Verdict::Sustaining { until: Duration::from_secs(seconds) };
        assert_eq!(at(0, 61 * MIB), until(10));
        assert_eq!(at(5, 61 * MIB), until(10));
        assert_eq!(at(6, 60 * MIB), Verdict::Under);
        assert_eq!(at(7, 61 * MIB), until(17));
        assert_eq!(at(16, 61 * MIB), until(17));
        assert!(matches!(at(17, 61 * MIB), Verdict::Over(Evidence { waived: false, .. })));

        let mut history = History::default();
        let mut at = |seconds: u64, usage: u64| {
            let sample = sample(seconds * 1000, level(usage, limit, 0));
            history.observe(&rule, &sample, TAKES)
        };
        assert_eq!(at(0, 61 * MIB), until(10));
        assert_eq!(at(1, 95 * MIB), until(10), "a twentieth is left");
        assert!(matches!(at(2, 95 * MIB + 1), Verdict::Over(Evidence { waived: true, .. })));
    }

    #[test]
    fn nothing_lasts_over_an_interruption() {
        let rule = Rule { sustained_for: Duration::from_secs(10), ..rule("60") };
        let mut history = History::default();
        let over = |seconds: u64| sample(seconds * 1000, level(61 * MIB, Some(100 * MIB), 0));
        history.observe(&rule, &over(0), TAKES);
        history.judged_anew();
        let until = Duration::from_secs(20);
        assert_eq!(history.observe(&rule, &over(10), TAKES), Verdict::Sustaining { until });
    }

    /// Noise in the growth is no reason to cut a long window short; an end that is near is.
    #[test]
    fn a_long_window_is_waived_only_at_the_deadline() {
        let rule = Rule { sustained_for: Duration::from_secs(300), ..rule("60") };
        let mut history = History::default();
        let mut waived_at = None;
        for tick in 0..80 {
            // 2 MiB a second from 61 of 1000 MiB on, looked at each half second.
            let sample = sample(tick * 500, level(920 * MIB + tick * MIB, Some(1000 * MIB), 0));
            if let Verdict::Over(evidence) = history.observe(&rule, &sample, TAKES) {
                assert!(evidence.waived);
                waived_at = waived_at.or(Some(evidence));
            }
        }
        let evidence = waived_at.unwrap();
        assert_eq!(evidence.room, Some(Bytes(50 * MIB - MIB)), "less than a twentieth of its limit is left");
        assert_eq!(evidence.deadline(TAKES), Some(Duration::ZERO));
    }

    #[test]
    fn the_deadline_is_what_is_left_less_an_eviction_and_a_margin() {
        let over = |room: u64, growth_at_least| {
            let Verdict::Over(evidence) = judge(&rule("60"), &sample(0, level(1000 * MIB - room, Some(1000 * MIB), 0)))
            else {
                panic!("over")
            };
            Evidence { growth_at_least, ..evidence }.deadline(Duration::from_millis(500))
        };
        let mib = i64::try_from(MIB).unwrap();
        assert_eq!(over(300 * MIB, 100 * mib), Some(Duration::from_secs(2)));
        assert_eq!(over(100 * MIB, 100 * mib), Some(Duration::ZERO));
        assert_eq!(over(300 * MIB, 0), None, "nothing says that it will be killed");
        assert_eq!(over(50 * MIB, 0), None);
        assert_eq!(over(50 * MIB - 1, 0), Some(Duration::ZERO), "but it has next to nothing left");
    }

    /// Nothing that was read in pieces makes it so.
    #[test]
    fn a_torn_sample_is_not_tight() {
        let whole = sample(0, level(99 * MIB, Some(100 * MIB), 0));
        assert!(whole.is_tight());
        assert!(!Sample { until: TORN + Duration::from_nanos(1), ..whole }.is_tight());
        let unread = Level { stat: None, ..whole.own };
        assert!(!Sample { own: unread, ..whole }.is_tight(), "it may be full of cache");
        assert!(Sample { pod: Some(whole.own), own: level(MIB, Some(100 * MIB), 0), ..whole }.is_tight());
    }

    #[test]
    fn critical_is_what_is_held_past_its_own_threshold() {
        let rule = Rule { force_delete: Some(Percent::parse("90").unwrap()), ..rule("60") };
        let evidence =
            |usage, inactive| match judge(&rule, &sample(0, level(usage * MIB, Some(100 * MIB), inactive * MIB))) {
                Verdict::Over(evidence) => evidence.critical,
                other => panic!("{other:?}"),
            };
        assert!(evidence(91, 0));
        assert!(!evidence(90, 0));
        assert!(!evidence(100, 10), "cache can be taken back");
    }

    #[test]
    fn what_does_not_grow_has_no_end() {
        let room = Some(Bytes(100));
        assert_eq!(time_left(room, Some(50)), Some(Duration::from_secs(2)));
        for (room, growth) in [(room, Some(0)), (room, Some(-50)), (room, None), (None, Some(50))] {
            assert_eq!(time_left(room, growth), None);
        }
    }

    #[test]
    fn what_rises_fast_is_looked_at_when_it_crosses() {
        let mut history = History::default();
        let rise = |history: &mut History, millis: u64, usage: u64| {
            history.observe(&rule("60"), &sample(millis, level(usage * MIB, Some(1000 * MIB), 0)), TAKES);
            history.trend().last_rise().map(|rate| rate / MIB)
        };
        assert_eq!(rise(&mut history, 0, 100), None);
        assert_eq!(rise(&mut history, 100, 90), None, "it fell");
        assert_eq!(rise(&mut history, 200, 90), None);
        assert_eq!(rise(&mut history, 205, 100), Some(2000), "the last two looks count, not the quiet before");
        let (ms, rising) = (Duration::from_millis, Some(2000 * MIB));
        assert_eq!(crossing(Bytes(6 * MIB), rising, ms(5)), Some(ms(3)));
        assert_eq!(crossing(Bytes(20 * MIB), rising, ms(5)), None, "later than the look that is due");
        assert_eq!(crossing(Bytes(MIB), rising, ms(5)), Some(ms(1)), "never sooner");
        assert_eq!(crossing(Bytes(0), rising, ms(5)), None, "it is over already");
        assert_eq!(crossing(Bytes(6 * MIB), None, ms(5)), None);
    }

    fn look_after(percent: &str, usage: u64, limit: u64) -> Duration {
        let sample = sample(0, level(usage, Some(limit), 0));
        next_look(&rule(percent), &sample, sample.room(), None, TAKES)
    }

    #[test]
    fn near_is_looked_at_often_far_seldom() {
        assert_eq!(look_after("60", 60 * MIB, 100 * MIB), SHORTEST_LOOK);
        assert!(look_after("60", 20 * MIB, 100 * MIB) > Duration::from_millis(60));
        assert_eq!(look_after("60", 0, 8 << 30), LONGEST_LOOK);
        // A quantity at or above the limit can never act.
        let never = Rule { threshold: Threshold::Quantity(Bytes(100 * MIB)), ..rule("60") };
        let sample = sample(0, level(90 * MIB, Some(100 * MIB), 0));
        assert_eq!(judge(&never, &sample), Verdict::BeyondLimit);
        assert_eq!(next_look(&never, &sample, sample.room(), None, TAKES), LONGEST_LOOK);
    }

    #[test]
    fn without_a_limit_the_growth_seen_decides() {
        let quantity = Rule { threshold: Threshold::Quantity(Bytes(100 * MIB)), ..rule("60") };
        let sample = sample(0, level(60 * MIB, None, 0));
        let after = |growth| next_look(&quantity, &sample, None, growth, TAKES);
        assert_eq!(after(None), LONGEST_LOOK);
        assert_eq!(after(Some(-5)), LONGEST_LOOK);
        assert_eq!(after(Some(100 << 20)), Duration::from_millis(100));
        assert_eq!(after(Some(1 << 40)), SHORTEST_LOOK);
    }

    #[test]
    fn never_is_one_answer_for_each_reason() {
        let me = Me { node: "n".into(), pod_uid: Some("agent".into()), excluded: ["off".to_owned()].into() };
        let pod = || {
            Pod::from_json(
                r#"{"metadata": {"name": "p", "uid": "u"}, "spec": {"nodeName": "n"}, "status": {"phase": "Running"}}"#,
            )
            .unwrap()
        };
        assert_eq!(never(&pod(), &me), None);
        let with = |change: fn(&mut Pod)| {
            let mut pod = pod();
            change(&mut pod);
            never(&pod, &me)
        };
        assert_eq!(with(|p| p.mirror = true), Some(Never::Mirror));
        assert_eq!(with(|p| p.terminating = true), Some(Never::Terminating));
        assert_eq!(with(|p| p.phase = Phase::Succeeded), Some(Never::Finished));
        assert_eq!(with(|p| p.phase = Phase::Failed), Some(Never::Finished));
        assert_eq!(with(|p| p.node = Some("m".into())), Some(Never::NotOurNode));
        assert_eq!(with(|p| p.node = None), Some(Never::NotOurNode));
        assert_eq!(with(|p| p.id.namespace = "off".into()), Some(Never::ExcludedNamespace));
        assert_eq!(with(|p| p.id.uid.0 = "agent".into()), Some(Never::Agent));
        assert_eq!(
            with(|p| {
                p.owner = Some(crate::pods::Owner {
                    api_version: "v1".into(),
                    kind: "Node".into(),
                    name: "n".into(),
                    uid: "x".into(),
                    template_hash: None,
                });
            }),
            Some(Never::Static)
        );
        assert_eq!(Never::Agent.to_string(), "it is this agent itself");
    }

    proptest! {
        /// The promise of the schedule: a ramp that could be saved is seen above its threshold
        /// while there is still time for the eviction.
        #[test]
        fn a_ramp_that_can_be_saved_is_seen_in_time(
            limit in 16 * MIB..4096 * MIB,
            percent in 5u32..95,
            start in 0.0f64..1.0,
            slowness in 1.01f64..1000.0,
        ) {
            let rule = rule(&percent.to_string());
            let threshold = limit * u64::from(percent) / 100;
            let budget = (TAKES + SHORTEST_LOOK).as_secs_f64();
            let fastest = ((limit - threshold) as f64 / budget).min((4u64 << 30) as f64);
            let rate = fastest / slowness;
            // The ramp begins right after a look.
            let start = (threshold as f64 * start) as u64;
            let mut seconds = 0.0;
            let usage = |s: f64| ((start as f64 + rate * s) as u64).min(limit);
            for _ in 0..1_000_000 {
                let sample = sample(0, level(usage(seconds), Some(limit), 0));
                if sample.own.usage > Bytes(threshold) {
                    break;
                }
                let due = next_look(&rule, &sample, sample.room(), None, TAKES);
                seconds += due.as_secs_f64();
            }
            let left = (limit as f64 - start as f64) / rate - seconds;
            prop_assert!(left >= TAKES.as_secs_f64() - 1e-6, "{left} s left at {rate} B/s");
        }

        #[test]
        fn no_input_panics(usage: u64, limit in prop::option::of(any::<u64>()), stat: [u64; 5], at: u32,
            growth in prop::option::of(any::<i64>()), takes in 0u64..100_000_000_000) {
            let own = Level {
                usage: Bytes(usage),
                most_usage: Bytes(usage),
                limit: limit.map(Bytes),
                stat: Some(Stat {
                    inactive_file: Bytes(stat[0]), active_file: Bytes(stat[1]), dirty: Bytes(stat[2]),
                    writeback: Bytes(stat[3]), slab_reclaimable: Bytes(stat[4]),
                }),
                swap_left: Bytes(stat[0]),
            };
            let at = Duration::from_millis(at.into());
            let sample = Sample { at, until: at, own, pod: Some(own) };
            let takes = Duration::from_nanos(takes);
            let mut history = History::default();
            history.observe(&rule("60"), &sample, takes);
            history.observe(&rule("60"), &Sample { at: Duration::ZERO, ..sample }, takes);
            history.observe(&rule("60"), &sample, takes);
            let due = next_look(&rule("60"), &sample, sample.room(), growth, takes);
            prop_assert!((SHORTEST_LOOK..=LONGEST_LOOK).contains(&due));
        }
    }
}
