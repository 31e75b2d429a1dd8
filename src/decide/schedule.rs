//! When to sample a container next, and how much time it has left. Pure.

use std::time::Duration;

use super::allocation::Allowance;
use crate::ground::memory::{Level, Sample};
use crate::ground::units::Bytes;
use crate::pods::guard::Rule;

/// The shortest time between two samples of a container.
pub const SHORTEST_INTERVAL: Duration = Duration::from_millis(5);
/// The shortest interval while usage rises so fast that it crosses the threshold before the next sample.
const SHORTEST_WHILE_RISING: Duration = Duration::from_millis(1);
pub const LONGEST_INTERVAL: Duration = Duration::from_secs(1);
/// The fastest growth that we expect, in bytes a second (measured: 1–4 GiB/s a core).
const FASTEST_GROWTH: u64 = 4 << 30;
/// Without a limit, nothing shows how near a kill is. The observed growth then decides, multiplied by this factor in
/// case growth rises between two samples.
pub const GROWTH_MAY_RISE: u32 = 4;

/// What the time of the next sample depends on, besides the last sample.
#[derive(Clone, Copy, Debug)]
pub struct Schedule<'a> {
    pub rule: &'a Rule,
    /// Fast growth, in bytes a second.
    pub growth: Option<i64>,
    /// From the request of an eviction to its effect.
    pub latency: Duration,
}

impl Schedule<'_> {
    /// When to sample again: before the fastest ramp that could still be saved would bring the container to the point
    /// where it cannot be saved. Faster ramps are lost whatever the interval.
    ///
    /// A ramp of rate r can be saved if the headroom (limit − threshold) lasts longer than an eviction (E) and one
    /// interval: r < (limit − threshold) ÷ (E + 5 ms). At that rate the margin is used up after margin ÷ r, and the
    /// eviction must begin E before that.
    #[must_use]
    pub fn next(&self, sample: &Sample) -> Duration {
        let due = match (self.rule.threshold_of(sample), sample.base(), sample.margin()) {
            (None, ..) => LONGEST_INTERVAL,
            (Some(threshold), Some(base), Some(margin)) => {
                let headroom = base.less(threshold);
                if headroom == Bytes(0) {
                    return LONGEST_INTERVAL; // it can never act
                }
                let rate = fastest_saved(headroom, self.latency);
                margin.lasts_at(rate).saturating_sub(self.latency)
            }
            (Some(threshold), ..) => {
                let growth = self.growth.and_then(|g| u64::try_from(g).ok()).unwrap_or(0);
                let missing = threshold.less(sample.own.usage);
                missing.lasts_at(growth.saturating_mul(u64::from(GROWTH_MAY_RISE)))
            }
        };
        due.clamp(SHORTEST_INTERVAL, LONGEST_INTERVAL)
    }

    /// By how much usage may grow before the next sample, whatever time that takes. `None`: the next sample goes by time. Only
    /// usage is bounded by what the node allocates: cache becomes active, dirty or locked without an allocation, and others fill
    /// swap. So both count as nothing here, and usage has to be below the threshold.
    #[must_use]
    pub fn allowance(&self, sample: &Sample) -> Option<Allowance> {
        let bare = |level: Level| Level { usage: level.most_usage, stat: None, swap_left: Bytes(0), ..level };
        let bare = Sample { own: bare(sample.own), pod: sample.pod.map(bare), ..*sample };
        let threshold = self.rule.threshold_of(sample)?;
        let usage = bare.own.usage;
        let rate = fastest_saved(sample.base()?.less(threshold), self.latency);
        if usage >= threshold || rate == 0 {
            return None;
        }
        let warn = self.rule.warn_threshold_of(sample).filter(|warn| usage < *warn);
        Allowance::new(bare.margin()?, warn.unwrap_or(threshold).less(usage), rate, self.latency)
    }
}

/// How long `margin` lasts at `growth`; `None` without growth or without a limit.
#[must_use]
pub fn time_left(margin: Option<Bytes>, growth: Option<i64>) -> Option<Duration> {
    let growth = u64::try_from(growth?).ok().filter(|g| *g > 0)?;
    Some(margin?.lasts_at(growth))
}

/// When a container that is `missing` bytes below its threshold crosses it, if it goes on rising at `rise`; `None` if
/// the next sample is `due` by then anyway. A sample at that moment detects a fast ramp some milliseconds earlier than
/// the schedule requires, and costs nothing while nothing rises.
#[must_use]
pub fn crossing(missing: Bytes, rise: Option<u64>, due: Duration) -> Option<Duration> {
    let after = missing.lasts_at(rise?).max(SHORTEST_WHILE_RISING);
    (missing > Bytes(0) && after < due).then_some(after)
}

/// The fastest ramp from the threshold that can still be saved, in bytes a second: the headroom (limit − threshold)
/// lasts for an eviction and one interval. We expect no ramp faster than `FASTEST_GROWTH`.
#[must_use]
pub fn fastest_saved(headroom: Bytes, latency: Duration) -> u64 {
    headroom.within(latency + SHORTEST_INTERVAL).min(FASTEST_GROWTH)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::decide::judge::History;
    use crate::decide::judge::Verdict;
    use crate::decide::judge::tests::{MIB, TAKES, judge, level, rule, sample};
    use crate::pods::guard::Threshold;
    use proptest::prelude::*;

    #[test]
    fn what_does_not_grow_has_no_end() {
        let margin = Some(Bytes(100));
        assert_eq!(time_left(margin, Some(50)), Some(Duration::from_secs(2)));
        for (margin, growth) in [(margin, Some(0)), (margin, Some(-50)), (margin, None), (None, Some(50))] {
            assert_eq!(time_left(margin, growth), None);
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
        Schedule { rule: &rule(percent), growth: None, latency: TAKES }.next(&sample)
    }

    #[test]
    fn near_is_looked_at_often_far_seldom() {
        assert_eq!(look_after("60", 60 * MIB, 100 * MIB), SHORTEST_INTERVAL);
        assert!(look_after("60", 20 * MIB, 100 * MIB) > Duration::from_millis(60));
        assert_eq!(look_after("60", 0, 8 << 30), LONGEST_INTERVAL);
        // A quantity at or above the limit can never act.
        let never = Rule { threshold: Threshold::Quantity(Bytes(100 * MIB)), ..rule("60") };
        let sample = sample(0, level(90 * MIB, Some(100 * MIB), 0));
        assert_eq!(judge(&never, &sample), Verdict::BeyondLimit);
        assert_eq!(Schedule { rule: &never, growth: None, latency: TAKES }.next(&sample), LONGEST_INTERVAL);
    }

    #[test]
    fn only_usage_below_the_threshold_is_bounded_by_allocations() {
        let allowance =
            |rule: &Rule, own: Level| Schedule { rule, growth: None, latency: TAKES }.allowance(&sample(0, own));
        let (rule, limit) = (rule("60"), Some(1000 * MIB));
        let bare = allowance(&rule, level(595 * MIB, limit, 0));
        assert!(bare.is_some());
        assert_eq!(allowance(&rule, level(595 * MIB, limit, 400 * MIB)), bare, "cache is no margin");
        let with_swap = Level { swap_left: Bytes(400 * MIB), ..level(595 * MIB, limit, 0) };
        assert_eq!(allowance(&rule, with_swap), bare, "nor is swap");
        let torn = Level { most_usage: Bytes(598 * MIB), ..level(595 * MIB, limit, 0) };
        assert_eq!(
            allowance(&rule, torn),
            allowance(&rule, level(598 * MIB, limit, 0)),
            "the most that was read counts"
        );
        assert_eq!(allowance(&rule, level(600 * MIB, limit, 400 * MIB)), None, "cache may become something else");
        assert_eq!(allowance(&rule, level(595 * MIB, None, 0)), None);
        let far = level(300 * MIB, limit, 0);
        let warned = Rule { warn: Some(Threshold::Quantity(Bytes(400 * MIB))), ..rule };
        assert_ne!(allowance(&warned, far), allowance(&rule, far), "a warning comes first");
    }

    #[test]
    fn without_a_limit_the_growth_seen_decides() {
        let quantity = Rule { threshold: Threshold::Quantity(Bytes(100 * MIB)), ..rule("60") };
        let sample = sample(0, level(60 * MIB, None, 0));
        let after = |growth| Schedule { rule: &quantity, growth, latency: TAKES }.next(&sample);
        assert_eq!(after(None), LONGEST_INTERVAL);
        assert_eq!(after(Some(-5)), LONGEST_INTERVAL);
        assert_eq!(after(Some(100 << 20)), Duration::from_millis(100));
        assert_eq!(after(Some(1 << 40)), SHORTEST_INTERVAL);
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
            let budget = (TAKES + SHORTEST_INTERVAL).as_secs_f64();
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
                let due = Schedule { rule: &rule, growth: None, latency: TAKES }.next(&sample);
                seconds += due.as_secs_f64();
            }
            let left = (limit as f64 - start as f64) / rate - seconds;
            prop_assert!(left >= TAKES.as_secs_f64() - 1e-6, "{left} s left at {rate} B/s");
        }
    }
}
