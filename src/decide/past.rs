//! What a container did: the last five minutes each second, and the last day as the peak of each five minutes. For people:
//! forecasts, and what is shown afterwards. Pure, and of a fixed size.

use std::time::Duration;

use crate::ground::clock::Moment;
use crate::ground::units::Bytes;

/// The five minutes, in seconds.
const SECONDS: usize = 300;
/// The day, in blocks of five minutes.
const BLOCKS: usize = 288;
/// A block of the day.
pub const BLOCK: Duration = Duration::from_secs(SECONDS as u64);
/// The least unit, as a power of two: a page of 4 KiB.
const LEAST_UNIT: u8 = 12;
/// The most that 16 bits hold, besides *unknown*.
const MOST: u64 = u16::MAX as u64 - 1;
/// A slope rests on at most so many points, all pairs of which are compared …
const MOST_POINTS: usize = 24;
/// … and on at least so many.
const FEWEST_POINTS: usize = 5;
/// Growth over less than this is not slow growth.
const LEAST_SPAN: Duration = Duration::from_secs(90);
/// Growth goes on for as long as it differs from the last one by at most so many tenths.
const SAME: i64 = 3;

/// What was seen in a second, or the most that was seen in a block, in units; 0: unknown, else one more than the number.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
struct Seen {
    usage: u16,
    /// The signal, where it was known.
    value: u16,
}

impl Seen {
    fn halve(&mut self) {
        for n in [&mut self.usage, &mut self.value] {
            *n = if *n == 0 { 0 } else { (*n - 1) / 2 + 1 };
        }
    }

    fn raise(&mut self, other: Seen) {
        self.usage = self.usage.max(other.usage);
        self.value = self.value.max(other.value);
    }
}

/// A ring of the last `N` points in time, each `each` long; the newest is that of number `last`.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Ring<const N: usize> {
    seen: [Seen; N],
    last: u32,
}

impl<const N: usize> Ring<N> {
    const fn new() -> Self {
        Ring { seen: [Seen { usage: 0, value: 0 }; N], last: 0 }
    }

    fn raise(&mut self, number: u32, seen: Seen) {
        let skipped = number.saturating_sub(self.last).min(u32::try_from(N).unwrap_or(u32::MAX));
        for n in 0..skipped {
            self.seen[(number - n) as usize % N] = Seen::default();
        }
        self.last = self.last.max(number);
        self.seen[number as usize % N].raise(seen);
    }

    /// The oldest first, with how many points ago.
    fn all(&self) -> impl Iterator<Item = (u32, Seen)> + '_ {
        let n = u32::try_from(N).unwrap_or(u32::MAX).min(self.last + 1);
        (0..n).rev().map(|ago| (ago, self.seen[(self.last - ago) as usize % N]))
    }
}

/// What a container did since it is watched, at most a day.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Past {
    began: Moment,
    /// The unit of what is kept, as a power of two. It doubles when something does not fit.
    unit: u8,
    seconds: Ring<SECONDS>,
    day: Ring<BLOCKS>,
    /// The last known signal.
    last: Option<(Moment, Bytes)>,
    /// The fastest rise of the signal between two known ones, in bytes a second, and the block it was in.
    fastest: (u64, u32),
}

/// How a signal grew over minutes to hours.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SlowGrowth {
    /// In bytes a minute; negative: it shrank.
    pub a_minute: i64,
    /// For how long it has been growing like this.
    pub lasted: Duration,
}

/// What was the most in equal parts of time, the oldest first; `None`: not known.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Curve {
    /// One part of it.
    pub each: Duration,
    pub usage: Vec<Option<Bytes>>,
    pub value: Vec<Option<Bytes>>,
}

impl Past {
    #[must_use]
    pub const fn new(began: Moment) -> Past {
        Past { began, unit: LEAST_UNIT, seconds: Ring::new(), day: Ring::new(), last: None, fastest: (0, 0) }
    }

    /// How long it has been watched.
    #[must_use]
    pub fn age(&self, now: Moment) -> Duration {
        now.saturating_sub(self.began)
    }

    /// Adds a sample; `value`: the signal, if it was read.
    pub fn remember(&mut self, at: Moment, usage: Bytes, value: Option<Bytes>) {
        while usage.max(value.unwrap_or_default()).0 >> self.unit > MOST {
            self.unit += 1;
            self.seconds.seen.iter_mut().chain(&mut self.day.seen).for_each(Seen::halve);
        }
        let units = |bytes: Bytes| u16::try_from((bytes.0 >> self.unit) + 1).unwrap_or(u16::MAX);
        let seen = Seen { usage: units(usage), value: value.map_or(0, units) };
        let second = u32::try_from(self.age(at).as_secs()).unwrap_or(u32::MAX);
        self.seconds.raise(second, seen);
        self.day.raise(second / SECONDS as u32, seen);
        if let Some(value) = value {
            self.rise(at, value, second / SECONDS as u32);
        }
    }

    /// Keeps the fastest rise of a day. What comes within a second counts as of a second.
    fn rise(&mut self, at: Moment, value: Bytes, block: u32) {
        let Some((then, before)) = self.last else {
            self.last = Some((at, value));
            return;
        };
        let passed = at.saturating_sub(then);
        if passed < Duration::from_secs(1) {
            return;
        }
        self.last = Some((at, value));
        let rate = value.less(before).within(passed);
        if rate >= self.fastest.0 || block >= self.fastest.1 + BLOCKS as u32 {
            self.fastest = (rate, block);
        }
    }

    fn bytes(&self, units: u16) -> Option<Bytes> {
        units.checked_sub(1).map(|n| Bytes(u64::from(n) << self.unit))
    }

    /// The most usage, and the most of the signal where it was known, of the day.
    #[must_use]
    pub fn peak(&self) -> (Option<Bytes>, Option<Bytes>) {
        let mut most = Seen::default();
        self.day.seen.iter().for_each(|seen| most.raise(*seen));
        (self.bytes(most.usage), self.bytes(most.value))
    }

    /// The fastest rise of the signal between two known ones within the last day, in bytes a second.
    #[must_use]
    pub fn fastest(&self) -> u64 {
        self.fastest.0
    }

    /// The last five minutes, in parts of so many seconds.
    #[must_use]
    pub fn minutes(&self, seconds: usize) -> Curve {
        self.curve(&self.seconds, seconds, Duration::from_secs(1))
    }

    /// The last day, in parts of so many blocks of five minutes.
    #[must_use]
    pub fn day(&self, blocks: usize) -> Curve {
        self.curve(&self.day, blocks, BLOCK)
    }

    fn curve<const N: usize>(&self, ring: &Ring<N>, together: usize, each: Duration) -> Curve {
        let all: Vec<Seen> = ring.all().map(|(_, seen)| seen).collect();
        // The newest part is always whole.
        let parts: Vec<Seen> = all.rchunks(together.max(1)).rev().map(most_of).collect();
        Curve {
            each: each * u32::try_from(together.max(1)).unwrap_or(u32::MAX),
            usage: parts.iter().map(|seen| self.bytes(seen.usage)).collect(),
            value: parts.iter().map(|seen| self.bytes(seen.value)).collect(),
        }
    }

    /// The growth of the signal over the last minutes; where it stands still in them, over the last hours. One step is no
    /// growth. `None` while too little is known.
    #[must_use]
    pub fn slow_growth(&self) -> Option<SlowGrowth> {
        let minutes = self.slope(&self.seconds, Duration::from_secs(1), SECONDS);
        let hours =
            [6, 12, 24, 48, 96, BLOCKS].map(|n| self.slope(&self.day, BLOCK, n).filter(|it| self.goes_on(*it, n)));
        let all: Vec<SlowGrowth> = [minutes].into_iter().chain(hours).flatten().collect();
        let first = all.iter().find(|growth| growth.a_minute != 0).or(all.first())?;
        let is_same = |growth: &&SlowGrowth| {
            let (is, was) = (first.a_minute, growth.a_minute);
            is.signum() == was.signum() && (is - was).abs() <= is.abs().max(was.abs()) / 10 * SAME
        };
        let lasted = all.iter().filter(is_same).map(|growth| growth.lasted).max().unwrap_or(first.lasted);
        Some(SlowGrowth { lasted, ..*first })
    }

    /// Whether growth over the last `n` blocks still goes on in the last quarter of them: at a quarter of its rate at least.
    fn goes_on(&self, growth: SlowGrowth, n: usize) -> bool {
        let known: Vec<_> = self.day.all().filter_map(|(ago, seen)| Some((ago, self.bytes(seen.value)?))).collect();
        let quarter = u32::try_from(n.min(known.len()).div_ceil(4)).unwrap_or(u32::MAX);
        let is = known.last().map(|(_, value)| *value);
        let was = known.iter().rfind(|(ago, _)| *ago >= quarter).map(|(_, value)| *value);
        let Some((is, was)) = is.zip(was) else { return false };
        let minutes = i64::from(quarter) * i64::try_from(BLOCK.as_secs() / 60).unwrap_or(i64::MAX);
        let expected = growth.a_minute.saturating_mul(minutes) / 4;
        let risen = is.0.cast_signed() - was.0.cast_signed();
        expected == 0 || (risen.signum() == expected.signum() && risen.abs() >= expected.abs())
    }

    /// The median of the slopes of all pairs of the last points; 0 unless three quarters of them agree on the direction.
    fn slope<const N: usize>(&self, ring: &Ring<N>, each: Duration, last: usize) -> Option<SlowGrowth> {
        let last = u32::try_from(last).unwrap_or(u32::MAX);
        let known = ring.all().filter(|(ago, _)| *ago < last);
        let known: Vec<(u32, Bytes)> = known.filter_map(|(ago, seen)| Some((ago, self.bytes(seen.value)?))).collect();
        let step = known.len().div_ceil(MOST_POINTS).max(1);
        let mut points: Vec<(u32, Bytes)> = known.iter().rev().step_by(step).copied().collect();
        points.extend(known.first().filter(|oldest| points.last() != Some(oldest)));
        let (newest, oldest) = (points.first()?, points.last()?);
        let lasted = each * (oldest.0 - newest.0);
        if points.len() < FEWEST_POINTS || lasted < LEAST_SPAN {
            return None;
        }
        let mut slopes = Vec::with_capacity(points.len() * points.len() / 2);
        for (i, later) in points.iter().enumerate() {
            for earlier in &points[i + 1..] {
                let minutes = (each * (earlier.0 - later.0)).as_secs_f64() / 60.0;
                slopes.push((later.1.0 as f64 - earlier.1.0 as f64) / minutes);
            }
        }
        slopes.sort_unstable_by(f64::total_cmp);
        let at = |part: usize| slopes[slopes.len() * part / 4];
        let agree = at(1) > 0.0 || at(3) < 0.0;
        Some(SlowGrowth { a_minute: if agree { at(2).round() as i64 } else { 0 }, lasted })
    }

    /// How long ago the signal was last at this value or below, within the last five minutes. Where it is not known, it was at most
    /// the usage.
    #[must_use]
    pub fn last_below(&self, value: Bytes) -> Option<Duration> {
        let most = |seen: Seen| self.bytes(seen.value).or_else(|| self.bytes(seen.usage));
        let known = self.seconds.all().filter_map(|(ago, seen)| Some((ago, most(seen)?)));
        let (ago, _) = known.filter(|(_, seen)| *seen <= value).last()?;
        Some(Duration::from_secs(u64::from(ago)))
    }

    /// The least of the signal that was known within this time: over more than five minutes, of the peaks of each five.
    #[must_use]
    pub fn least(&self, within: Duration) -> Option<Bytes> {
        let least = |seen: u16, least: Option<Bytes>| match (self.bytes(seen), least) {
            (Some(seen), Some(least)) => Some(seen.min(least)),
            (seen, least) => seen.or(least),
        };
        if within <= BLOCK {
            return self.seconds.all().fold(None, |most, (_, seen)| least(seen.value, most));
        }
        let blocks = within.as_secs() / BLOCK.as_secs();
        let recent = self.day.all().filter(|(ago, _)| u64::from(*ago) <= blocks);
        recent.fold(None, |most, (_, seen)| least(seen.value, most))
    }
}

fn most_of(seen: &[Seen]) -> Seen {
    let mut most = Seen::default();
    seen.iter().for_each(|seen| most.raise(*seen));
    most
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const MIB: u64 = 1 << 20;

    fn second(n: u64) -> Moment {
        Duration::from_secs(1000 + n)
    }

    /// A container that holds so much at each second.
    fn past(seconds: u64, value: impl Fn(u64) -> u64) -> Past {
        let mut past = Past::new(second(0));
        (0..=seconds).for_each(|n| past.remember(second(n), Bytes(value(n) + MIB), Some(Bytes(value(n)))));
        past
    }

    #[test]
    fn it_is_no_larger_than_promised() {
        assert!(size_of::<Past>() <= 2457, "{}", size_of::<Past>());
    }

    #[test]
    fn a_slow_leak_is_forecast_within_a_tenth_after_five_minutes() {
        let growth = |past: &Past| past.slow_growth().unwrap().a_minute as f64 / MIB as f64;
        let in_steps = past(300, |n| (100 + n / 2) * MIB);
        assert!((growth(&in_steps) - 30.0).abs() < 3.0, "{}", growth(&in_steps));
        let slower = past(300, |n| 4000 * MIB + n * 3 * MIB / 60);
        assert!((growth(&slower) - 3.0).abs() < 0.3, "{}", growth(&slower));
        let in_whole = past(300, |n| (100 + n / 20) * MIB);
        assert!((growth(&in_whole) - 3.0).abs() < 0.3, "{}", growth(&in_whole));
        // Where it is far from its threshold, the signal is known every ten seconds.
        let mut rarely = Past::new(second(0));
        (0..=300).for_each(|n| {
            let value = Bytes((100 + n / 2) * MIB);
            rarely.remember(second(n), value, (n % 10 == 0).then_some(value));
        });
        assert!((growth(&rarely) - 30.0).abs() < 3.0, "{}", growth(&rarely));
    }

    #[test]
    fn one_step_and_a_sawtooth_are_no_growth() {
        for (name, value) in [
            ("flat", Box::new(|_| 100u64) as Box<dyn Fn(u64) -> u64>),
            ("a step", Box::new(|n| if n < 150 { 100 } else { 200 })),
            ("an early step", Box::new(|n| if n < 60 { 100 } else { 200 })),
            ("a collector", Box::new(|n| 100 + n % 30)),
        ] {
            let past = past(300, |n| value(n) * MIB);
            assert_eq!(past.slow_growth().map(|growth| growth.a_minute), Some(0), "{name}");
        }
        assert_eq!(past(80, |n| n * MIB).slow_growth(), None, "too short");
    }

    #[test]
    fn growth_is_said_with_how_long_it_lasts() {
        let hours = past(4 * 3600, |n| 100 * MIB + n * 3 * MIB / 60);
        let growth = hours.slow_growth().unwrap();
        assert!((2.8..3.2).contains(&(growth.a_minute as f64 / MIB as f64)), "{growth:?}");
        assert!(growth.lasted >= Duration::from_secs(3 * 3600 + 3000), "{growth:?}");
        // In steps of 30 MiB every ten minutes, the last five minutes show none.
        let stairs = past(4 * 3600, |n| (100 + n / 600 * 30) * MIB);
        let growth = stairs.slow_growth().unwrap();
        assert!((2.5..3.5).contains(&(growth.a_minute as f64 / MIB as f64)), "{growth:?}");
        // It began ten minutes ago.
        let late = past(4 * 3600, |n| 100 * MIB + n.saturating_sub(4 * 3600 - 600) * MIB / 2);
        assert!(late.slow_growth().unwrap().lasted <= Duration::from_secs(900), "{:?}", late.slow_growth());
        let half = past(4 * 3600, |n| 100 * MIB + n.saturating_sub(3 * 3600 + 1800) * MIB / 2);
        assert!(half.slow_growth().unwrap().lasted <= Duration::from_secs(2400), "{:?}", half.slow_growth());
    }

    /// What has stopped growing is not said to grow for as long again.
    #[test]
    fn growth_that_has_stopped_is_none() {
        for (grew, flat) in [(14, 10), (5, 3), (1, 1)] {
            let minutes = 60 * grew;
            let past = past((grew + flat) * 3600, |n| 100 * MIB + (n / 60).min(minutes) * MIB);
            assert_eq!(past.slow_growth().map(|growth| growth.a_minute), Some(0), "{grew} h, and then {flat} h");
        }
        let past = past(3600, |n| 100 * MIB + (n / 60).min(40) * MIB);
        assert_eq!(past.slow_growth().map(|growth| growth.a_minute), Some(0), "40 min, and then 20");
    }

    #[test]
    fn the_fastest_rise_is_kept_for_a_day() {
        let past = |seconds| past(seconds, |n| if n < 10 { 10 * MIB } else { 74 * MIB });
        assert_eq!((past(20).fastest(), past(3600).fastest()), (64 * MIB, 64 * MIB));
        assert_eq!(past(86_400 + 600).fastest(), 0);
        let mut rarely = Past::new(second(0));
        for n in 0..=40 {
            rarely.remember(second(n), Bytes(n * MIB), (n % 10 == 0).then_some(Bytes(n * MIB)));
        }
        assert_eq!(rarely.fastest(), MIB, "known each ten seconds");
    }

    #[test]
    fn a_peak_stays_for_a_day_and_no_longer() {
        let past_of = |seconds| past(seconds, |n| if n == 10 { 500 * MIB } else { 100 * MIB });
        let hour = past_of(3600);
        assert_eq!(hour.peak(), (Some(Bytes(501 * MIB)), Some(Bytes(500 * MIB))));
        assert_eq!(hour.day(1).value[0], Some(Bytes(500 * MIB)));
        assert_eq!(past_of(86_400 + 400).peak().1, Some(Bytes(100 * MIB)));
        assert_eq!(hour.age(second(3600)), Duration::from_secs(3600));
    }

    #[test]
    fn curves_end_now_and_have_holes_where_nothing_is_known() {
        let mut past = Past::new(second(0));
        for n in [0, 1, 2, 7, 8, 9] {
            past.remember(second(n), Bytes(n * MIB), (n != 8).then_some(Bytes(n * MIB)));
        }
        let of = |n: u64| Some(Bytes(n * MIB));
        let curve = past.minutes(1);
        assert_eq!(curve.usage, [of(0), of(1), of(2), None, None, None, None, of(7), of(8), of(9)]);
        assert_eq!(curve.value[8], None);
        let curve = past.minutes(5);
        assert_eq!((curve.each, curve.value), (Duration::from_secs(5), vec![of(2), of(9)]));
        assert_eq!(past.fastest(), MIB, "5 MiB in 5 seconds, and 1 in each other");
        assert_eq!(past.last_below(Bytes(5 * MIB)), Some(Duration::from_secs(7)));
        assert_eq!(past.last_below(Bytes(8 * MIB)), Some(Duration::from_secs(1)), "by the usage");
        assert_eq!(past.least(BLOCK), of(0));
        // After a long pause, nothing of before is left in the minutes.
        past.remember(second(5000), Bytes(MIB), None);
        assert_eq!(past.minutes(1).usage.iter().flatten().count(), 1);
        assert_eq!(past.peak().0, of(9));
    }

    proptest! {
        /// What is kept is at most what was there, and less by at most a 16,384th of the most that ever was.
        #[test]
        fn sizes_are_kept_to_a_small_part(values in prop::collection::vec(0u64..1 << 50, 1..200)) {
            let mut past = Past::new(Duration::ZERO);
            let most = *values.iter().max().unwrap();
            for (n, value) in values.iter().enumerate() {
                past.remember(Duration::from_secs(n as u64), Bytes(*value), Some(Bytes(*value)));
            }
            let kept = past.minutes(1).usage;
            for (value, kept) in values.iter().zip(kept) {
                let kept = kept.unwrap().0;
                prop_assert!(kept <= *value && value - kept <= (most >> 14).max(8192), "{value} {kept}");
            }
            prop_assert!(past.peak().0.unwrap().0 <= most);
            let _ = (past.slow_growth(), past.least(BLOCK), past.day(3), past.fastest());
        }
    }
}
