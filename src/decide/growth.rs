//! How fast a container grows: over the last quarter of a second, and over the last minute. Pure.
//!
//! Both measure usage minus clean cache, the memory that leads to an OOM kill. The kernel's figures never come from
//! quite the same moment: usage and `memory.stat` are two files, and the thread that reads them may have to wait in
//! between. Each sample is therefore kept as an interval that surely contains the true value. Urgent decisions rest on
//! the lower end of what the intervals allow ([`Trend::at_least`]).

use std::num::{NonZeroU32, NonZeroU64};
use std::time::Duration;

use crate::ground::clock::Moment;
use crate::ground::memory::{Sample, Stat};
use crate::ground::units::Bytes;

/// How many samples the fast growth goes back. At 5 ms per sample this is 75 ms.
const SAMPLES: usize = 16;
/// The fast growth covers at most this time, or as many samples as it needs if they are farther apart.
const WINDOW: Duration = Duration::from_millis(250);
/// A burst shows within so many samples before the last.
const BURST: [usize; 2] = [4, 8];
/// How much may be missing in the kernel's figures on a machine of 16 busy CPUs; see [`UNSETTLED`]. A burst has to be beyond that.
const BURST_UNSETTLED: i128 = 2 * (4 << 20) - 2 * UNSETTLED as i128;
/// A lower bound of the fast growth also rests on samples that lie so far apart: over half a second, what may be missing in the
/// kernel's figures makes 14 MiB a second.
const COARSE_EACH: Duration = Duration::from_millis(60);
const COARSE: usize = 8;
const COARSE_WINDOW: Duration = Duration::from_millis(500);
/// The slow growth covers a minute, with points this far apart …
const MINUTE_EACH: Duration = Duration::from_secs(5);
const MINUTE_POINTS: usize = 13;
/// … and the growth of the last four seconds uses these: a leak of some MiB a second can fill a small container in less
/// than a minute.
const SECONDS_EACH: Duration = Duration::from_millis(500);
const SECONDS_POINTS: usize = 9;
/// With fewer points there is no slope. With four, a single step cannot make more than two thirds of the slopes.
const FEWEST_POINTS: usize = 4;
/// How much of a group's charge may still be missing from its `memory.stat` or from its usage: the kernel keeps up to
/// 64 pages per CPU aside, in either. We saw 384 KiB on the machine of the measurements (two CPUs); this is what four
/// busy CPUs can cause.
const UNSETTLED: u64 = 1 << 20;

/// A moment in half of its size: in nanoseconds and one more, so that an option of it is no larger.
#[derive(Clone, Copy, Debug)]
struct Nanos(NonZeroU64);

impl From<Moment> for Nanos {
    fn from(at: Moment) -> Nanos {
        Nanos(NonZeroU64::MIN.saturating_add(u64::try_from(at.as_nanos()).unwrap_or(u64::MAX)))
    }
}

impl From<Nanos> for Moment {
    fn from(at: Nanos) -> Moment {
        Moment::from_nanos(at.0.get() - 1)
    }
}

#[derive(Clone, Copy, Debug)]
struct Observed {
    /// Before the first file was read.
    from: Moment,
    /// After the last one.
    until: Moment,
    usage: Bytes,
    /// The most that was charged during the sample.
    most_usage: Bytes,
    /// Clean cache; `None` where stat was not read.
    clean: Option<Bytes>,
}

impl Observed {
    /// A lower bound of usage minus clean cache.
    fn least(&self) -> i128 {
        self.clean.map_or(0, |clean| i128::from(self.usage.0) - i128::from(clean.0) - i128::from(UNSETTLED))
    }

    /// An upper bound of it. An unknown cache counts as none.
    fn most(&self) -> i128 {
        let clean = self.clean.unwrap_or_default();
        i128::from(self.most_usage.0) - i128::from(clean.0) + i128::from(UNSETTLED)
    }
}

/// The same in 24 bytes instead of 64: most of what a container costs the agent is kept like this. Rounded by less than a page.
#[derive(Clone, Copy, Debug)]
struct Packed {
    from: Nanos,
    /// How long it took, in microseconds.
    took: u32,
    /// In pages, as the next ones.
    usage: u32,
    /// By how much the most was more.
    more: u32,
    /// One more than it was.
    clean: Option<NonZeroU32>,
}

/// The page of all kernels that we know of is a multiple of it.
const PAGE: u64 = 4096;

fn pages(bytes: Bytes) -> u32 {
    u32::try_from(bytes.0 / PAGE).unwrap_or(u32::MAX)
}

fn of_pages(pages: u32) -> Bytes {
    Bytes(u64::from(pages) * PAGE)
}

impl From<Observed> for Packed {
    fn from(it: Observed) -> Packed {
        let took = it.until.saturating_sub(it.from).as_nanos().div_ceil(1000);
        Packed {
            from: it.from.into(),
            took: u32::try_from(took).unwrap_or(u32::MAX),
            usage: pages(it.usage),
            more: pages(it.most_usage).saturating_sub(pages(it.usage)),
            clean: it.clean.map(|clean| NonZeroU32::MIN.saturating_add(pages(clean))),
        }
    }
}

impl From<Packed> for Observed {
    fn from(it: Packed) -> Observed {
        let from = Moment::from(it.from);
        Observed {
            from,
            until: from + Duration::from_micros(u64::from(it.took)),
            usage: of_pages(it.usage),
            most_usage: of_pages(it.usage.saturating_add(it.more)),
            clean: it.clean.map(|clean| of_pages(clean.get() - 1)),
        }
    }
}

/// A point of the slow growth.
#[derive(Clone, Copy, Debug)]
struct Point {
    at: Nanos,
    net: Bytes,
}

/// What we remember of a container's memory. It has a fixed size.
#[derive(Clone, Debug, Default)]
pub struct Trend {
    samples: [Option<Packed>; SAMPLES],
    /// Where the next sample is stored.
    next: usize,
    /// Some of them, farther apart.
    coarse: [Option<Packed>; COARSE],
    next_coarse: usize,
    /// The last known usage minus clean cache.
    net: Option<Bytes>,
    seconds: Slope<SECONDS_POINTS>,
    minute: Slope<MINUTE_POINTS>,
}

/// A robust slope over the last points.
#[derive(Clone, Copy, Debug)]
struct Slope<const N: usize> {
    points: [Option<Point>; N],
    next: usize,
    /// As of the last point.
    slope: Option<i64>,
}

impl<const N: usize> Default for Slope<N> {
    fn default() -> Self {
        Slope { points: [None; N], next: 0, slope: None }
    }
}

impl<const N: usize> Slope<N> {
    fn last(&self) -> Option<Point> {
        self.points[(self.next + N - 1) % N]
    }

    /// Adds a point, if the last one is at least `each` ago.
    fn point(&mut self, each: Duration, at: Moment, net: Bytes) {
        if self.last().is_some_and(|last| at < Moment::from(last.at) + each) {
            return;
        }
        self.points[self.next] = Some(Point { at: at.into(), net });
        self.next = (self.next + 1) % N;
        // Points that are much older than this say nothing about the present.
        let window = each * u32::try_from(N).unwrap_or(u32::MAX);
        self.slope = self.of_three_quarters(at, window);
    }

    /// The slope that three quarters of all pairs of points agree on. This is a cautious form of the Theil–Sen
    /// estimator, which takes the median.
    fn of_three_quarters(&self, now: Moment, window: Duration) -> Option<i64> {
        let mut points = [Point { at: Moment::ZERO.into(), net: Bytes(0) }; N];
        let mut n = 0;
        // Oldest first.
        let in_order = (0..N).filter_map(|i| self.points[(self.next + i) % N]);
        for point in in_order.filter(|p| now.saturating_sub(p.at.into()) <= window) {
            points[n] = point;
            n += 1;
        }
        if n < FEWEST_POINTS {
            return None;
        }
        if points[1..n].iter().all(|point| point.net == points[0].net) {
            return Some(0); // as most containers most of the time, at a hundredth of the cost
        }
        const { assert!(N <= MINUTE_POINTS) };
        let mut slopes = [0; MINUTE_POINTS * (MINUTE_POINTS - 1) / 2];
        let mut count = 0;
        for (i, later) in points[..n].iter().enumerate() {
            for earlier in &points[..i] {
                let risen = i128::from(later.net.0) - i128::from(earlier.net.0);
                slopes[count] = rate(risen, Moment::from(later.at).checked_sub(earlier.at.into())?)?;
                count += 1;
            }
        }
        let slopes = &mut slopes[..count];
        slopes.sort_unstable();
        let (low, high) = (slopes[count / 4], slopes[count - 1 - count / 4]);
        Some(if low > 0 { low } else { high.min(0) })
    }
}

impl Trend {
    pub fn remember(&mut self, sample: &Sample) {
        let clean = sample.own.stat.filter(|_| !sample.is_torn()).map(Stat::clean_cache);
        let (usage, most_usage) = (sample.own.usage, sample.own.most_usage);
        self.push(Observed { from: sample.at, until: sample.until, usage, most_usage, clean });
        if let Some(clean) = clean {
            self.net = Some(usage.less(clean));
            self.point(sample.at, usage.less(clean));
        }
    }

    /// Records that the sample at this moment equals the one before.
    pub fn unchanged(&mut self, at: Moment) {
        let Some(last) = self.back(0) else { return };
        self.push(Observed { from: at, until: at, clean: None, ..last });
        if let Some(net) = self.net {
            self.point(at, net);
        }
    }

    /// Discards everything: nothing is known about the time since the last sample.
    pub fn interrupted(&mut self) {
        *self = Trend::default();
    }

    fn push(&mut self, look: Observed) {
        self.samples[self.next] = Some(look.into());
        self.next = (self.next + 1) % SAMPLES;
        // A sample without its cache bounds nothing.
        if look.clean.is_some() && self.coarse_back(0).is_none_or(|last| look.from >= last.from + COARSE_EACH) {
            self.coarse[self.next_coarse] = Some(look.into());
            self.next_coarse = (self.next_coarse + 1) % COARSE;
        }
    }

    /// The sample `n` before the last.
    fn back(&self, n: usize) -> Option<Observed> {
        (n < SAMPLES).then(|| self.samples[(self.next + SAMPLES - 1 - n) % SAMPLES])?.map(Observed::from)
    }

    fn point(&mut self, at: Moment, net: Bytes) {
        self.seconds.point(SECONDS_EACH, at, net);
        self.minute.point(MINUTE_EACH, at, net);
    }

    /// The apparent fast growth, over the last samples, in bytes a second. If the cache of the first or the last of
    /// them is unknown, it counts as unchanged.
    #[must_use]
    pub fn fast(&self) -> Option<i64> {
        let last = self.back(0)?;
        let mut first = self.back(1)?;
        for look in (2..SAMPLES).map_while(|n| self.back(n)) {
            if last.from.saturating_sub(look.from) > WINDOW {
                break;
            }
            first = look;
        }
        let cached = match (last.clean, first.clean) {
            (Some(last), Some(first)) => i128::from(last.0) - i128::from(first.0),
            _ => 0,
        };
        rate(i128::from(last.usage.0) - i128::from(first.usage.0) - cached, last.from.checked_sub(first.from)?)
    }

    /// The slow growth over the last minute, in bytes a second: the slope that three quarters of all pairs of points
    /// agree on. One step within the minute is no growth, but a step each second is. `None` with fewer than
    /// `FEWEST_POINTS`.
    #[must_use]
    pub fn slow(&self) -> Option<i64> {
        self.minute.slope
    }

    /// A lower bound of growth, in bytes a second: the greatest of the lower bounds over the last quarter of a second,
    /// four seconds, and a minute; 0 if none is higher.
    #[must_use]
    pub fn at_least(&self) -> i64 {
        [self.fast_at_least(), self.seconds.slope, self.minute.slope].into_iter().flatten().fold(0, i64::max)
    }

    /// The greater of the bounds over the last 16 samples and over the last half of a second, in each third of which it has to go
    /// on.
    fn fast_at_least(&self) -> Option<i64> {
        let last = self.back(0)?;
        let is_recent = |look: &Observed| last.until.saturating_sub(look.from) <= WINDOW;
        let fine = steady_at_least(last, 0, |i| self.back(i).filter(|look| i <= 2 || is_recent(look)));
        fine.max(self.coarse_at_least(last))
    }

    /// A lower bound of growth that has gone on for 20 to 40 ms only: what it says is too late where there is time to wait for
    /// more. 0 without.
    #[must_use]
    pub fn burst_at_least(&self) -> i64 {
        let Some(last) = self.back(0) else { return 0 };
        let spans = BURST.map(|n| steady_at_least(last, BURST_UNSETTLED, |i| self.back(i).filter(|_| i <= n)));
        spans.into_iter().flatten().fold(0, i64::max)
    }

    fn coarse_at_least(&self, last: Observed) -> Option<i64> {
        let is_recent = |look: &Observed| last.until.saturating_sub(look.from) <= COARSE_WINDOW;
        let points =
            (0..COARSE).map_while(|n| self.coarse_back(n).filter(is_recent)).take_while(|look| look.from < last.from);
        let count = points.clone().count();
        let at = |third: usize| points.clone().nth((count - 1) * third / 3);
        if count < 6 {
            return None;
        }
        let (first, second, oldest) = (at(1)?, at(2)?, at(3)?);
        least_over([(oldest, second), (second, first), (first, last)], 0)
    }

    /// The point `n` before the last of the coarse ones.
    fn coarse_back(&self, n: usize) -> Option<Observed> {
        (n < COARSE).then(|| self.coarse[(self.next_coarse + COARSE - 1 - n) % COARSE])?.map(Observed::from)
    }

    /// How fast usage rose between the last two samples, in bytes a second; `None` if it did not rise. Growth over a
    /// longer time says little about a ramp that has just begun.
    #[must_use]
    pub fn last_rise(&self) -> Option<u64> {
        let (last, before) = (self.back(0)?, self.back(1)?);
        u64::try_from(rise(last, before)?).ok().filter(|rate| *rate > 0)
    }

    /// How fast usage rose in each of the last two intervals, in bytes a second: the lesser of the two.
    #[must_use]
    pub fn last_rises(&self) -> Option<i64> {
        let (last, middle, first) = (self.back(0)?, self.back(1)?, self.back(2)?);
        Some(rise(last, middle)?.min(rise(middle, first)?))
    }
}

/// A lower bound of the growth over what `back` has, the newest first: the minimum over four spans, which are both halves of the
/// time, the whole without its first sample, and the whole without its last. Growth must therefore continue, and a single wrong
/// sample makes no growth. `None` with fewer than three samples. `missing`: what else may be missing in two samples.
fn steady_at_least(last: Observed, missing: i128, back: impl Fn(usize) -> Option<Observed>) -> Option<i64> {
    let mut n = 2;
    let mut first = back(n)?;
    while let Some(look) = back(n + 1) {
        (first, n) = (look, n + 1);
    }
    let half = last.from.checked_sub(first.from)? / 2;
    let middle = (1..n).filter_map(&back).min_by_key(|l| l.from.abs_diff(first.from + half))?;
    least_over([(first, middle), (middle, last), (back(n - 1)?, last), (first, back(1)?)], missing)
}

/// The least that the growth can have been in each of these spans, in bytes a second.
fn least_over<const N: usize>(spans: [(Observed, Observed); N], missing: i128) -> Option<i64> {
    spans.into_iter().try_fold(i64::MAX, |least, (from, to)| {
        let grown = to.least() - from.most() - missing;
        Some(least.min(rate(grown, to.until.checked_sub(from.from)?)?))
    })
}

/// How fast usage rose between two samples, in bytes a second.
fn rise(later: Observed, earlier: Observed) -> Option<i64> {
    let risen = i128::from(later.usage.0) - i128::from(earlier.usage.0);
    rate(risen, later.from.checked_sub(earlier.from)?)
}

/// `bytes ÷ time` in bytes a second; `None` if no time has passed.
fn rate(bytes: i128, time: Duration) -> Option<i64> {
    let nanos = i128::try_from(time.as_nanos()).ok().filter(|n| *n > 0)?;
    Some(i64::try_from(bytes * 1_000_000_000 / nanos).unwrap_or(if bytes < 0 { i64::MIN } else { i64::MAX }))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ground::memory::Level;
    use proptest::prelude::*;

    const MIB: u64 = 1 << 20;

    /// A look at `millis` that found so many bytes, `inactive` of them cache.
    fn look(millis: u64, usage: u64, inactive: Option<u64>) -> Sample {
        let at = Duration::from_millis(millis);
        let stat = inactive.map(|bytes| Stat { inactive_file: Bytes(bytes), ..Stat::default() });
        let (usage, limit, swap_left) = (Bytes(usage), None, Bytes(0));
        Sample { at, until: at, own: Level { usage, most_usage: usage, limit, stat, swap_left }, pod: None }
    }

    fn trend(samples: impl IntoIterator<Item = (u64, u64)>) -> Trend {
        let mut trend = Trend::default();
        samples.into_iter().for_each(|(millis, usage)| trend.remember(&look(millis, usage, Some(0))));
        trend
    }

    fn mib(growth: Option<i64>) -> i64 {
        growth.unwrap() / i64::try_from(MIB).unwrap()
    }

    #[test]
    fn growth_is_of_what_cannot_be_reclaimed() {
        let mut trend = Trend::default();
        for (millis, usage, inactive) in [(0, 15, 5), (100, 25, 15), (200, 45, 25)] {
            trend.remember(&look(millis, usage * MIB, Some(inactive * MIB)));
        }
        assert_eq!(mib(trend.fast()), 50, "20 MiB more in 200 ms, beside 10 of cache");
    }

    #[test]
    fn the_fast_one_is_taken_over_the_last_quarter_of_a_second() {
        let trend = trend([(0, 0), (100, 50 * MIB), (200, 51 * MIB), (350, 75 * MIB)]);
        assert_eq!(mib(trend.fast()), 100, "25 MiB in 250 ms");
    }

    #[test]
    fn a_look_that_found_the_same_counts_as_one() {
        let mut trend = trend([(0, 10 * MIB), (100, 20 * MIB), (200, 30 * MIB)]);
        trend.unchanged(Duration::from_millis(300));
        assert_eq!(mib(trend.fast()), 50, "10 MiB in the last 200 ms");
        assert_eq!(trend.last_rise(), None);
    }

    #[test]
    fn two_looks_make_no_haste_and_one_odd_look_of_many_does_not_either() {
        assert_eq!(trend([(0, 0), (100, 90 * MIB)]).at_least(), 0, "a single pair");
        let ramp = |millis: u64| (millis, millis * MIB);
        assert!(trend([0, 5, 10].map(ramp)).at_least() > 500 * i64::try_from(MIB).unwrap(), "three looks do");
        // Nor does a single step, whenever it was.
        for step in 0..20 {
            let stepped = (0..20).map(|i| (i * 10, if i < step { 20 * MIB } else { 60 * MIB }));
            assert_eq!(trend(stepped).at_least(), 0, "before look {step}");
        }
        for odd in 0..8 {
            let flat = (0..8).map(|i| (i * 10, if i == odd { 90 * MIB } else { 20 * MIB }));
            assert_eq!(trend(flat).at_least(), 0, "look {odd} is too high");
            let flat = (0..8).map(|i| (i * 10, if i == odd { 0 } else { 70 * MIB }));
            assert_eq!(trend(flat).at_least(), 0, "look {odd} is too low");
        }
    }

    /// A fast ramp shows as a burst within 20 ms. A slower one needs longer, and is then known to within 20 MiB a second.
    #[test]
    fn the_bound_comes_near_the_growth_soon() {
        let after = |millis: u64, rate: u64| {
            let flat = (0..=20).map(|i| (i * 5, 20 * MIB));
            let ramp = (1..=millis / 5).map(|i| (100 + i * 5, 20 * MIB + rate * MIB * i * 5 / 1000));
            trend(flat.chain(ramp))
        };
        let burst = |millis, rate| after(millis, rate).burst_at_least() / i64::try_from(MIB).unwrap();
        assert_eq!((burst(15, 1400), burst(20, 1400)), (0, 600));
        assert_eq!(
            (burst(40, 256), burst(40, 700)),
            (0, 300),
            "no growth is sure that soon that what is missing explains"
        );
        let sure = |millis, rate| after(millis, rate).at_least() / i64::try_from(MIB).unwrap();
        assert_eq!(sure(20, 1400), 0);
        assert!((44..=64).contains(&sure(600, 64)), "{}", sure(600, 64));
        assert!((12..=32).contains(&sure(600, 32)), "{}", sure(600, 32));
    }

    /// Two large allocations are no growth that goes on.
    #[test]
    fn two_steps_within_half_a_second_are_no_sure_growth() {
        for apart in (100..=400).step_by(20) {
            for late in (0..=200).step_by(20) {
                let first = 1000 - late - apart;
                let usage = |at: u64| 155 + 24 * (u64::from(at >= first) + u64::from(at >= first + apart));
                let trend = trend((0..=200).map(|i| (i * 5, usage(i * 5) * MIB)));
                assert_eq!(trend.fast_at_least().unwrap().max(0), 0, "{apart} ms apart, {late} ms ago");
            }
        }
    }

    /// The reads of one look may lie apart: then it says no more than what holds for all of that time.
    #[test]
    fn a_look_that_lasted_counts_with_all_that_it_may_mean() {
        let at = |from: u64, until: u64, usage: u64, most: u64, clean: u64| {
            let mut sample = look(from, usage * MIB, Some(clean * MIB));
            sample.until = Duration::from_millis(until);
            sample.own.most_usage = Bytes(most * MIB);
            sample
        };
        let growth = |samples: &[Sample]| {
            let mut trend = Trend::default();
            samples.iter().for_each(|s| trend.remember(s));
            trend.at_least()
        };
        // 80 of 90 MiB are cache; it is given up and comes again while the thread waits.
        let quiet = [at(0, 0, 90, 90, 80), at(10, 10, 90, 90, 80)];
        assert_eq!(growth(&[quiet[0], quiet[1], at(20, 80, 10, 90, 0)]), 0);
        // A real ramp, of which the last look lasted: it may have come in all of that time.
        let ramp = |until: u64| growth(&[at(0, 0, 10, 10, 0), at(5, 5, 30, 30, 0), at(10, until, 50, 50, 0)]) >> 20;
        assert_eq!((ramp(10), ramp(12), ramp(13)), (3600, 2571, 0), "in 5 ms, in 7, and torn");
    }

    #[test]
    fn a_file_that_is_read_is_no_growth() {
        let mut trend = Trend::default();
        for (millis, usage, inactive) in [(0, 50, None), (50, 70, Some(20)), (100, 90, Some(40))] {
            trend.remember(&look(millis, usage * MIB, inactive.map(|i| i * MIB)));
        }
        assert_eq!(trend.at_least(), 0);
    }

    /// What the slow growth says of a memory that is looked at each second, in KiB a second.
    fn slow(seconds: u64, usage: impl Fn(u64) -> u64) -> Option<i64> {
        trend((0..=seconds).map(|s| (s * 1000, usage(s)))).slow().map(|slow| slow / 1024)
    }

    #[test]
    fn steps_make_a_slow_growth_and_one_step_none() {
        assert_eq!(slow(70, |s| 20 * MIB + s * MIB / 2), Some(512));
        let stepped = slow(70, |s| 20 * MIB + s / 2 * MIB).unwrap();
        assert!((400..=520).contains(&stepped), "{stepped}");
        for at in 1..70 {
            assert_eq!(
                slow(70, |s| if s >= at { 90 * MIB } else { 20 * MIB }),
                Some(0),
                "one step, {at} s after the start"
            );
        }
        assert_eq!(slow(70, |_| 50 * MIB), Some(0));
        assert_eq!(slow(70, |s| 90 * MIB - s * MIB / 4), Some(-256));
        assert_eq!(slow(14, |s| s * MIB), None, "too young to tell");
        assert_eq!(slow(15, |s| s * MIB), Some(1024));
    }

    /// A leak of some MiB a second is known within seconds, a step and another are not taken for one.
    #[test]
    fn what_leaks_for_some_seconds_grows() {
        let after = |millis: u64, usage: fn(u64) -> u64| {
            trend((0..=millis / 50).map(|i| (i * 50, usage(i * 50)))).at_least() / 1024
        };
        let leak = |ms: u64| 20 * MIB + ms * 4 * MIB / 1000;
        assert_eq!((after(1_400, leak), after(1_500, leak)), (0, 4096));
        let stepped = after(4_000, |ms| 20 * MIB + ms / 250 * MIB);
        assert!((3_000..=4_200).contains(&stepped), "{stepped}");
        for step in 1..40 {
            let usage = (0..=80).map(|i| (i * 50, if i >= 2 * step { 60 * MIB } else { 20 * MIB }));
            let mut trend = trend(usage);
            assert_eq!(trend.seconds.slope, Some(0), "one step");
            (81..=200).for_each(|i| trend.unchanged(Duration::from_millis(i * 50)));
            assert_eq!(trend.at_least(), 0, "and nothing after it");
        }
    }

    /// A heap that fills and is collected comes back to where it was.
    #[test]
    fn a_saw_is_no_growth() {
        for period in [7, 12, 20, 30] {
            assert_eq!(slow(120, |s| 20 * MIB + (s % period) * 2 * MIB).map(|s| s.max(0)), Some(0), "{period} s");
        }
    }

    #[test]
    fn it_goes_on_though_nothing_moves() {
        let mut trend = trend((0..=60).map(|s| (s * 1000, 20 * MIB + s * MIB)));
        assert_eq!(trend.slow(), Some(MIB.cast_signed()));
        (61..=130).for_each(|s| trend.unchanged(Duration::from_secs(s)));
        assert_eq!(trend.slow(), Some(0));
    }

    proptest! {
        /// Whatever the reads of a look are torn by, the bound stays below the growth that there was.
        #[test]
        fn the_bound_is_never_above_the_truth(
            rate in 0u64..2000, start in 0u64..100, gaps in prop::collection::vec((1u64..60, 0u64..40), 3..40),
        ) {
            let (mut trend, mut now) = (Trend::default(), 0);
            let usage = |millis: u64| start * MIB + rate * MIB * millis / 1000;
            for (gap, lasts) in gaps {
                now += gap;
                let mut sample = look(now, usage(now), Some(0));
                sample.own.most_usage = Bytes(usage(now + lasts));
                sample.until = Duration::from_millis(now + lasts);
                trend.remember(&sample);
                now += lasts;
            }
            prop_assert!(trend.at_least() <= i64::try_from(rate * MIB).unwrap() + 1);
        }

        #[test]
        fn no_input_panics(samples in prop::collection::vec((any::<u32>(), any::<u64>(), prop::option::of(any::<u64>())), 0..40)) {
            let mut trend = Trend::default();
            for (millis, usage, inactive) in samples {
                trend.remember(&look(millis.into(), usage, inactive));
                let _ = (trend.fast(), trend.slow(), trend.at_least(), trend.last_rise());
            }
        }
    }
}
