//! The state of a container: `(Rule, History, Sample) → Verdict`. Pure: time arrives inside the sample.

use std::time::Duration;

use super::growth::Trend;
use super::schedule::time_left;
use crate::ground::clock::Moment;
use crate::ground::memory::{Sample, Signal};
use crate::ground::units::Bytes;
use crate::pods::guard::Rule;

/// What a verdict is based on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Evidence {
    /// When it was read.
    pub at: Moment,
    pub signal: Signal,
    pub value: Bytes,
    pub usage: Bytes,
    /// The limit that a percentage refers to.
    pub limit: Option<Bytes>,
    pub threshold: Bytes,
    /// Growth of non-reclaimable memory over the last quarter of a second, in bytes a second; `None` before the second
    /// sample.
    pub growth: Option<i64>,
    /// The same over the last minute; `None` in the first seconds.
    pub slow_growth: Option<i64>,
    /// The greatest of the lower bounds of growth, in bytes a second, never below 0. Urgent decisions rest on it.
    pub growth_at_least: i64,
    /// A lower bound of growth that has gone on for 20 to 40 ms only: it counts where there is no time to wait for more.
    pub burst_at_least: i64,
    /// How fast usage rose in each of the last two intervals between samples, in bytes a second: the lesser of the two.
    /// A ramp that has just begun shows here first.
    pub rise: Option<i64>,
    /// The margin to a kill.
    pub margin: Option<Bytes>,
    /// See [`Sample::is_tight`].
    pub tight: bool,
    /// `sustained-for` was waived, because the container would not have lived that long.
    pub waived: bool,
    /// Also above `force-delete-threshold`, by usage minus clean cache.
    pub critical: bool,
}

/// The state of a container now.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// The threshold is a percentage, and neither the container nor its pod has a limit.
    NoLimit,
    /// At or below the threshold.
    Below,
    /// The threshold is a quantity that is not below the limit, so the container can never be above it.
    BeyondLimit,
    /// Above its threshold, but not yet for `sustained-for`.
    Sustaining {
        /// When that time is over.
        until: Moment,
    },
    Above(Evidence),
}

impl Evidence {
    /// How long an eviction can still wait without coming too late. `latency` is what nine of ten evictions take, from
    /// the request to the end of the group. Zero: it cannot wait. `None`: nothing indicates that the container will be
    /// killed.
    #[must_use]
    pub fn deadline(&self, latency: Duration) -> Option<Duration> {
        if self.tight {
            return Some(Duration::ZERO);
        }
        let left = |growth, margin| {
            let left = time_left(self.margin, Some(growth))?;
            Some(left.saturating_sub(latency).saturating_sub(margin))
        };
        let burst = left(self.burst_at_least, BURST_MARGIN).filter(Duration::is_zero);
        [left(self.growth_at_least, DEADLINE_MARGIN), burst].into_iter().flatten().min()
    }
}

/// How long before the last apparently sufficient moment an eviction is sent. Growth may rise, and an answer may be
/// late (a stall of 1.4 s was seen in one of twenty, on a disk that was busy).
pub const DEADLINE_MARGIN: Duration = Duration::from_millis(500);

/// The same for growth that has just begun: until more is known of it, and an eviction is on its way.
const BURST_MARGIN: Duration = Duration::from_millis(35);

/// What we remember of a container: how its memory changed, and since when it is above its threshold. It has a fixed
/// size.
#[derive(Clone, Debug, Default)]
pub struct History {
    trend: Trend,
    above_since: Option<Moment>,
}

impl History {
    /// Adds a sample, then judges it. `latency`: see [`Evidence::deadline`].
    pub fn observe(&mut self, rule: &Rule, sample: &Sample, latency: Duration) -> Verdict {
        self.trend.remember(sample);
        let Some(threshold) = rule.threshold_of(sample) else {
            self.above_since = None;
            return Verdict::NoLimit;
        };
        // A signal that was not read counts as not above, and restarts `sustained-for`: stat is read whenever usage is above.
        let Some(value) = sample.own.value(rule.signal).filter(|value| *value > threshold) else {
            self.above_since = None;
            let beyond = sample.base().is_some_and(|base| base <= threshold);
            return if beyond { Verdict::BeyondLimit } else { Verdict::Below };
        };
        let since = *self.above_since.get_or_insert(sample.at);
        let until = since + rule.sustained_for;
        let evidence = Evidence { waived: sample.at < until, ..self.evidence(rule, sample, value, threshold) };
        if evidence.waived && evidence.deadline(latency) != Some(Duration::ZERO) {
            return Verdict::Sustaining { until };
        }
        Verdict::Above(evidence)
    }

    /// What is known of a container at a sample, the last one observed.
    #[must_use]
    pub fn evidence(&self, rule: &Rule, sample: &Sample, value: Bytes, threshold: Bytes) -> Evidence {
        Evidence {
            at: sample.at,
            signal: rule.signal,
            value,
            usage: sample.own.usage,
            limit: sample.base(),
            threshold,
            growth: self.trend.fast(),
            slow_growth: self.trend.slow(),
            growth_at_least: self.trend.at_least(),
            burst_at_least: self.trend.burst_at_least(),
            rise: self.trend.last_rises(),
            margin: sample.margin(),
            tight: sample.is_tight(),
            waived: false,
            critical: rule.is_critical(sample),
        }
    }

    /// Records that the sample at this moment equals the one before.
    pub fn unchanged(&mut self, at: Moment) {
        self.trend.unchanged(at);
    }

    /// The rule has changed, so the time above the threshold starts anew.
    pub fn judged_anew(&mut self) {
        self.above_since = None;
    }

    /// There was a time without samples.
    pub fn interrupted(&mut self) {
        *self = History::default();
    }

    #[must_use]
    pub fn trend(&self) -> &Trend {
        &self.trend
    }
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;
    use crate::decide::schedule::LONGEST_INTERVAL;
    use crate::decide::schedule::SHORTEST_INTERVAL;
    use crate::decide::schedule::Schedule;
    use crate::ground::memory::Level;
    use crate::ground::memory::Stat;
    use crate::ground::memory::TORN;
    use crate::ground::units::Percent;
    use crate::pods::guard::Threshold;
    use proptest::prelude::*;

    pub(crate) const MIB: u64 = 1 << 20;
    pub(crate) const TAKES: Duration = Duration::from_millis(60);

    pub(crate) fn rule(percent: &str) -> Rule {
        Rule {
            threshold: Threshold::Percent(Percent::parse(percent).unwrap()),
            signal: Signal::WorkingSet,
            sustained_for: Duration::ZERO,
            force_delete: None,
            warn: None,
        }
    }

    pub(crate) fn level(usage: u64, limit: Option<u64>, inactive: u64) -> Level {
        Level {
            usage: Bytes(usage),
            most_usage: Bytes(usage),
            limit: limit.map(Bytes),
            stat: Some(Stat { inactive_file: Bytes(inactive), ..Stat::default() }),
            swap_left: Bytes(0),
        }
    }

    pub(crate) fn sample(millis: u64, own: Level) -> Sample {
        Sample { at: Duration::from_millis(millis), until: Duration::from_millis(millis), own, pod: None }
    }

    pub(crate) fn judge(rule: &Rule, sample: &Sample) -> Verdict {
        History::default().observe(rule, sample, TAKES)
    }

    #[test]
    fn over_is_strictly_above() {
        let at = |usage| sample(0, level(usage, Some(100 * MIB), 0));
        assert_eq!(judge(&rule("60"), &at(60 * MIB)), Verdict::Below);
        let Verdict::Above(evidence) = judge(&rule("60"), &at(60 * MIB + 1)) else { panic!("one byte above is over") };
        assert_eq!(evidence.threshold, Bytes(60 * MIB));
        assert_eq!(evidence.value, Bytes(60 * MIB + 1));
        assert_eq!(evidence.margin, Some(Bytes(40 * MIB - 1)));
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
                shmem: Bytes(0),
            }),
            swap_left: Bytes(0),
        };
        assert_eq!(own.value(Signal::Usage), Some(Bytes(100)));
        assert_eq!(own.value(Signal::WorkingSet), Some(Bytes(70)));
        assert_eq!(own.value(Signal::Unreclaimable), Some(Bytes(43)));
        // Clean cache is no nearness: 30 + 20 − 5 − 1 + 7 can be taken back.
        assert_eq!(own.margin(), Some(Bytes(51)));
        let unread = Level { stat: None, ..own };
        assert_eq!(unread.value(Signal::WorkingSet), None);
        assert_eq!(unread.margin(), Some(Bytes(0)));
        let with_swap = Level { swap_left: Bytes(9), ..own };
        assert_eq!(with_swap.margin(), Some(Bytes(60)));
    }

    #[test]
    fn what_was_not_read_is_never_over() {
        let unread = Level { stat: None, ..level(99 * MIB, Some(100 * MIB), 0) };
        assert_eq!(judge(&rule("60"), &sample(0, unread)), Verdict::Below);
    }

    #[test]
    fn the_base_is_the_own_limit_else_the_pods_else_none() {
        let pod = level(70 * MIB, Some(100 * MIB), 0);
        let with_pod = |own| Sample { pod: Some(pod), ..sample(0, own) };
        let own_limit = with_pod(level(50 * MIB, Some(200 * MIB), 0));
        assert_eq!(own_limit.base(), Some(Bytes(200 * MIB)));
        assert_eq!(own_limit.margin(), Some(Bytes(30 * MIB)), "the nearer of both");
        let pods = with_pod(level(61 * MIB, None, 0));
        assert_eq!(pods.base(), Some(Bytes(100 * MIB)));
        assert!(matches!(judge(&rule("60"), &pods), Verdict::Above(_)));
        let none = sample(0, level(61 * MIB, None, 0));
        assert_eq!(judge(&rule("60"), &none), Verdict::NoLimit);
        let quantity = Rule { threshold: Threshold::Quantity(Bytes(60 * MIB)), ..rule("60") };
        let Verdict::Above(evidence) = judge(&quantity, &none) else { panic!("a quantity needs no limit") };
        assert_eq!((evidence.limit, evidence.margin), (None, None));
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
        assert_eq!(at(6, 60 * MIB), Verdict::Below);
        assert_eq!(at(7, 61 * MIB), until(17));
        assert_eq!(at(16, 61 * MIB), until(17));
        assert!(matches!(at(17, 61 * MIB), Verdict::Above(Evidence { waived: false, .. })));

        let mut history = History::default();
        let mut at = |seconds: u64, usage: u64| {
            let sample = sample(seconds * 1000, level(usage, limit, 0));
            history.observe(&rule, &sample, TAKES)
        };
        assert_eq!(at(0, 61 * MIB), until(10));
        assert_eq!(at(1, 95 * MIB), until(10), "a twentieth is left");
        assert!(matches!(at(2, 95 * MIB + 1), Verdict::Above(Evidence { waived: true, .. })));
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
            if let Verdict::Above(evidence) = history.observe(&rule, &sample, TAKES) {
                assert!(evidence.waived);
                waived_at = waived_at.or(Some(evidence));
            }
        }
        let evidence = waived_at.unwrap();
        assert_eq!(evidence.margin, Some(Bytes(50 * MIB - MIB)), "less than a twentieth of its limit is left");
        assert_eq!(evidence.deadline(TAKES), Some(Duration::ZERO));
    }

    #[test]
    fn the_deadline_is_what_is_left_less_an_eviction_and_a_margin() {
        let over = |margin: u64, growth_at_least| {
            let Verdict::Above(evidence) =
                judge(&rule("60"), &sample(0, level(1000 * MIB - margin, Some(1000 * MIB), 0)))
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
                Verdict::Above(evidence) => evidence.critical,
                other => panic!("{other:?}"),
            };
        assert!(evidence(91, 0));
        assert!(!evidence(90, 0));
        assert!(!evidence(100, 10), "cache can be taken back");
    }

    proptest! {
        #[test]
        fn no_input_panics(usage: u64, limit in prop::option::of(any::<u64>()), stat: [u64; 5], at: u32,
            growth in prop::option::of(any::<i64>()), takes in 0u64..100_000_000_000) {
            let own = Level {
                usage: Bytes(usage),
                most_usage: Bytes(usage),
                limit: limit.map(Bytes),
                stat: Some(Stat {
                    inactive_file: Bytes(stat[0]), active_file: Bytes(stat[1]), dirty: Bytes(stat[2]),
                    writeback: Bytes(stat[3]), slab_reclaimable: Bytes(stat[4]), shmem: Bytes(0),
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
            let due = Schedule { rule: &rule("60"), growth, latency: takes }.next(&sample);
            prop_assert!((SHORTEST_INTERVAL..=LONGEST_INTERVAL).contains(&due));
        }
    }
}
