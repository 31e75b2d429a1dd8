//! Which threshold a container needs, from what is known of it. Pure; docs/recommend.md has the formula.
//!
//! A threshold *t* has to be above what the container needs, and far enough below the limit for an eviction:
//!
//! ```text
//! p × 1.1 < t ≤ limit − max(r × (E + 0.1 s), limit × 6 %)
//! ```

use std::fmt;
use std::time::Duration;

use crate::decide::ladder::{Latencies, fastest_in_time};
use crate::ground::units::{Bytes, Percent};
use crate::pods::guard::Remedy;

/// Nothing is said of a container that no agent has watched for so long.
pub const LEAST_KNOWN: Duration = Duration::from_secs(3600);
/// The peak may be higher tomorrow: it counts so many hundredths.
const PEAK: u64 = 110;
/// From the threshold to the request. (Measured: nine of ten verdicts within 10 ms, one in a hundred 52, and the request within 8.)
const NOTICED: Duration = Duration::from_millis(100);
/// Where a kill was faster than the agent, so many hundredths of the headroom that it had then are needed.
const MISSED: u64 = 150;
/// With less than a twentieth of the limit left, a kill can come at once ([`Sample::is_tight`]): so many hundredths of the
/// limit are left above a threshold.
///
/// [`Sample::is_tight`]: crate::ground::memory::Sample::is_tight
const LEAST_LEFT: u64 = 6;
/// A limit that is too small is not recommended to be used up further than this.
const HIGHEST: u8 = 90;
const GIB: u64 = 1 << 30;

/// What is known of one container of a workload, over all its pods.
#[derive(Clone, Debug)]
pub struct Known {
    /// For how long at least one of its pods was watched.
    pub lasts: Duration,
    /// *p*: what it needs at most.
    pub peak: Bytes,
    /// The threshold has to be above this, too.
    pub besides: Bytes,
    /// *r*: the fastest that it grew, in bytes a second.
    pub growth: u64,
    /// *E* is what nine of ten evictions take.
    pub latencies: Latencies,
    /// The lowest of its pods.
    pub limit: Option<Bytes>,
    pub threshold: Present,
    /// The most headroom with which a kill was faster than the agent.
    pub missed: Option<Bytes>,
}

/// The present threshold; of pods that differ (`threshold-spread`) the lowest and the highest.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Present {
    Percent(Percent, Percent),
    Quantity(Bytes, Bytes),
}

/// A threshold as it is written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Written {
    Percent(u8),
    Quantity(Bytes),
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// Less than [`LEAST_KNOWN`] is known; in so long it may be asked again.
    TooEarly(Duration),
    /// The present threshold is right.
    Fits,
    Threshold(Written),
    /// No threshold fits below the present limit, or there is none: this limit, and then this threshold.
    Limit(Bytes, Written),
}

/// What asks for most headroom.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Because {
    Growth,
    /// A kill was faster than the agent.
    Missed,
    /// A part of the limit is always left.
    Limit,
}

/// What is recommended, and what it rests on.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Reckoned {
    pub verdict: Verdict,
    /// The threshold has to be above this …
    pub above: Bytes,
    /// … and so far below the limit, the present or the recommended one …
    pub headroom: Bytes,
    /// … for this reason.
    pub because: Because,
    /// The remedies that are in time where the recommendation is followed.
    pub in_time: Vec<Remedy>,
}

impl Known {
    /// The lowest present threshold, in bytes.
    #[must_use]
    pub fn lowest(&self) -> Option<Bytes> {
        match self.threshold {
            Present::Percent(low, _) => self.limit.map(|limit| low.of(limit)),
            Present::Quantity(low, _) => Some(low),
        }
    }
}

/// What to write for a container.
#[must_use]
pub fn reckon(known: &Known) -> Reckoned {
    let above = Bytes(known.peak.times(PEAK).0 / 100).max(known.besides);
    let evict = known.latencies.of(Remedy::Evict);
    let missed = known.missed.map_or(0, |headroom| headroom.times(MISSED).0 / 100);
    let growth = Bytes::at_rate(known.growth, evict.saturating_add(NOTICED));
    let needed = growth.max(Bytes(missed));
    let verdict = match LEAST_KNOWN.checked_sub(known.lasts).filter(|left| !left.is_zero()) {
        Some(left) => Verdict::TooEarly(left),
        None => verdict(known, above, needed),
    };
    let limit = if let Verdict::Limit(limit, _) = verdict { Some(limit) } else { known.limit };
    let headroom = limit.map_or(needed, |limit| needed.max(least_left(limit)));
    let because = match () {
        () if growth == headroom => Because::Growth,
        () if needed == headroom => Because::Missed,
        () => Because::Limit,
    };
    let in_time = left(known, verdict).map_or_else(Vec::new, |left| in_time(known, left, headroom));
    Reckoned { verdict, above, headroom, because, in_time }
}

fn least_left(limit: Bytes) -> Bytes {
    parts(limit, LEAST_LEFT, 100)
}

/// So many parts of it, rounded up.
fn parts(bytes: Bytes, times: u64, of: u64) -> Bytes {
    let all = (u128::from(bytes.0) * u128::from(times)).div_ceil(u128::from(of));
    Bytes(u64::try_from(all).unwrap_or(u64::MAX))
}

fn verdict(known: &Known, above: Bytes, headroom: Bytes) -> Verdict {
    match (known.limit, known.threshold) {
        (None, Present::Percent(..)) => enough(known, above, headroom),
        // Without a limit, no kill is near.
        (limit, Present::Quantity(low, high)) => {
            let most = limit.map_or(Bytes(u64::MAX), |limit| limit.less(headroom.max(least_left(limit))));
            let lowest = Bytes((above.0 / Bytes::MIB.0 + 1).saturating_mul(Bytes::MIB.0));
            let highest = Bytes(most.0 / Bytes::MIB.0 * Bytes::MIB.0);
            match () {
                () if above < low && high <= most => Verdict::Fits,
                () if lowest <= highest => Verdict::Threshold(Written::Quantity(high.clamp(lowest, highest))),
                () => enough(known, above, headroom),
            }
        }
        (Some(limit), Present::Percent(low, high)) => {
            let most = limit.less(headroom.max(least_left(limit)));
            if above < low.of(limit) && high.of(limit) <= most {
                return Verdict::Fits;
            }
            let fit = |n: &u8| {
                lower(*n, spread(known)).is_some_and(|low| share(low, limit) > above) && share(*n, limit) <= most
            };
            // The nearest to the present one.
            let nearest = (1..=99).filter(fit).min_by_key(|n| n.abs_diff(whole(high)));
            nearest.map_or_else(|| enough(known, above, headroom), |n| Verdict::Threshold(Written::Percent(n)))
        }
    }
}

/// The lowest limit with which a threshold fits, in whole MiB.
fn enough(known: &Known, above: Bytes, headroom: Bytes) -> Verdict {
    let up = |bytes: u128| Bytes(u64::try_from(bytes.div_ceil(1 << 20) << 20).unwrap_or(u64::MAX));
    if let Present::Quantity(..) = known.threshold {
        let threshold = Bytes((above.0 / Bytes::MIB.0 + 1).saturating_mul(Bytes::MIB.0));
        let limit = threshold.plus(headroom).max(parts(threshold, 100, 100 - LEAST_LEFT));
        return Verdict::Limit(up(u128::from(limit.0)), Written::Quantity(threshold));
    }
    let limit = |n: u8| {
        let low = lower(n, spread(known))?;
        let for_peak = u128::from(above.0) * 100 / u128::from(low) + 1;
        let for_headroom = (u128::from(headroom.0) * 100).div_ceil(100 - u128::from(n));
        Some((up(for_peak.max(for_headroom)), n))
    };
    let (limit, n) = (1..=HIGHEST).filter_map(limit).min().unwrap_or((Bytes(u64::MAX), HIGHEST));
    Verdict::Limit(limit, Written::Percent(n))
}

/// What is left between the threshold and the limit where the verdict is followed.
fn left(known: &Known, verdict: Verdict) -> Option<Bytes> {
    let (limit, threshold) = match verdict {
        Verdict::TooEarly(_) => return None,
        Verdict::Limit(limit, written) => (limit, written.of(limit)),
        Verdict::Threshold(written) => (known.limit?, written.of(known.limit?)),
        Verdict::Fits => (
            known.limit?,
            match known.threshold {
                Present::Percent(_, high) => high.of(known.limit?),
                Present::Quantity(_, high) => high,
            },
        ),
    };
    Some(limit.less(threshold))
}

/// The ladder reckons with growth that rises; for an eviction alone, the formula has done so.
fn in_time(known: &Known, left: Bytes, headroom: Bytes) -> Vec<Remedy> {
    let is_in_time = |remedy: &Remedy| match remedy {
        Remedy::Evict => headroom <= left,
        gentler => known.growth <= fastest_in_time(*gentler, &[Remedy::Evict], left, &known.latencies),
    };
    [Remedy::Raise, Remedy::Restart, Remedy::Evict].into_iter().filter(is_in_time).collect()
}

/// By how many percentage points the lowest threshold of its pods is below the highest, rounded up.
fn spread(known: &Known) -> u8 {
    match known.threshold {
        Present::Percent(low, high) if low < high => {
            (1..=99).find(|n| share_of(*n) >= difference(low, high)).unwrap_or(99)
        }
        _ => 0,
    }
}

/// In ten-thousandths of a percent of 2³² bytes: large enough to compare.
const SCALE: Bytes = Bytes(1 << 32);

fn difference(low: Percent, high: Percent) -> u64 {
    high.of(SCALE).less(low.of(SCALE)).0
}

fn share_of(n: u8) -> u64 {
    share(n, SCALE).0
}

/// The lowest threshold of the pods where the annotation has `n`.
fn lower(n: u8, spread: u8) -> Option<u8> {
    n.checked_sub(spread).filter(|low| *low > 0)
}

fn share(n: u8, limit: Bytes) -> Bytes {
    Bytes(u64::try_from(u128::from(limit.0) * u128::from(n) / 100).unwrap_or(u64::MAX))
}

/// A percentage in whole percent, rounded down.
fn whole(percent: Percent) -> u8 {
    (1..=99).rev().find(|n| share_of(*n) <= percent.of(SCALE).0).unwrap_or(1)
}

impl Written {
    /// In bytes.
    #[must_use]
    pub fn of(self, limit: Bytes) -> Bytes {
        match self {
            Written::Percent(n) => share(n, limit),
            Written::Quantity(bytes) => bytes,
        }
    }
}

/// As in the annotation: `72`, `700Mi`.
impl fmt::Display for Written {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Written::Percent(n) => write!(f, "{n}"),
            Written::Quantity(bytes) => f.write_str(&quantity(*bytes)),
        }
    }
}

/// Whole MiB as they are written, exactly: `640Mi`, `2Gi`.
#[must_use]
pub fn quantity(bytes: Bytes) -> String {
    match bytes.0 {
        n if n >= GIB && n % GIB == 0 => format!("{}Gi", n / GIB),
        n => format!("{}Mi", n / Bytes::MIB.0),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::decide::ladder::{RAISE, RESTART, Spread};
    use proptest::prelude::*;

    const MIB: u64 = 1 << 20;

    fn percent(text: &str) -> Present {
        let percent = Percent::parse(text).unwrap();
        Present::Percent(percent, percent)
    }

    fn evicts_in(millis: u64) -> Latencies {
        let takes = Duration::from_millis(millis);
        Latencies::new(RAISE, RESTART, Spread { p50: takes, p90: takes })
    }

    /// Known for a day, with a limit of 1Gi, a peak of 600Mi and a shutdown of almost 26 s.
    fn known(threshold: &str) -> Known {
        Known {
            lasts: Duration::from_secs(86_400),
            peak: Bytes(600 * MIB),
            besides: Bytes(0),
            growth: 2 * MIB,
            latencies: evicts_in(25_900),
            limit: Some(Bytes(1024 * MIB)),
            threshold: percent(threshold),
            missed: None,
        }
    }

    fn verdict(known: &Known) -> String {
        match reckon(known).verdict {
            Verdict::TooEarly(left) => format!("in {} s", left.as_secs()),
            Verdict::Fits => "fits".into(),
            Verdict::Threshold(threshold) => threshold.to_string(),
            Verdict::Limit(limit, threshold) => format!("limit {}, {threshold}", quantity(limit)),
        }
    }

    #[test]
    fn the_present_threshold_is_kept_where_it_fits_and_else_moved_no_further_than_it_has_to() {
        // Above 660Mi, and not above 94 % of 1024Mi, though 1024 − 2 × 26 = 972Mi: 65 to 94 %.
        for (present, expected) in [
            ("80", "fits"),
            ("60", "65"),
            ("64.4", "65"),
            ("64.5", "fits"),
            ("65", "fits"),
            ("94", "fits"),
            ("94.1", "94"),
            ("95", "94"),
            ("99", "94"),
        ] {
            assert_eq!(verdict(&known(present)), expected, "{present}");
        }
        let reckoned = reckon(&known("80"));
        assert_eq!((reckoned.above, reckoned.headroom), (Bytes(660 * MIB), Bytes(1024 * MIB * 6 / 100 + 1)));
        let slower = Known { growth: 3 * MIB, ..known("80") };
        assert_eq!(reckon(&slower).headroom, Bytes(78 * MIB));
        let quantity = |mib| Known { threshold: Present::Quantity(Bytes(mib * MIB), Bytes(mib * MIB)), ..known("80") };
        for (present, expected) in [(700, "fits"), (660, "661Mi"), (962, "fits"), (963, "962Mi"), (1000, "962Mi")] {
            assert_eq!(verdict(&quantity(present)), expected, "{present}");
        }
        let endless = |mib| Known { limit: None, growth: 1 << 40, ..quantity(mib) };
        assert_eq!((verdict(&endless(700)), verdict(&endless(600))), ("fits".into(), "661Mi".into()));
    }

    #[test]
    fn where_no_threshold_fits_the_limit_does_not_suffice() {
        let fast = |present| Known { growth: 20 * MIB, ..known(present) };
        // 660Mi, and 20 × 26 = 520Mi.
        assert_eq!(verdict(&fast("60")), "limit 1182Mi, 56");
        let Verdict::Limit(limit, threshold) = reckon(&fast("60")).verdict else { panic!() };
        assert_eq!(
            verdict(&Known { limit: Some(limit), threshold: percent(&threshold.to_string()), ..fast("60") }),
            "fits"
        );
        assert_eq!(verdict(&Known { limit: None, ..known("60") }), "limit 734Mi, 90");
        let quantity = Known { threshold: Present::Quantity(Bytes(MIB), Bytes(MIB)), ..fast("60") };
        assert_eq!(verdict(&quantity), "limit 1181Mi, 661Mi");
        assert_eq!(verdict(&Known { growth: u64::MAX, ..known("60") }).split(' ').next(), Some("limit"));
        assert_eq!(quantity_text(2048), "2Gi");
    }

    /// With less than a twentieth left, a kill can come at once, however slowly it seems to grow.
    #[test]
    fn no_threshold_fits_where_the_limit_is_all_but_used_up() {
        let still = |present| Known { growth: 0, latencies: evicts_in(160), ..known(present) };
        for (present, expected) in [("94", "fits"), ("94.5", "94"), ("95", "94"), ("99", "94"), ("99.9", "94")] {
            assert_eq!(verdict(&still(present)), expected, "{present}");
        }
        let spread = Present::Percent(Percent::parse("90").unwrap(), Percent::parse("96").unwrap());
        assert_eq!(verdict(&Known { threshold: spread, ..still("94") }), "94");
        // Above 990Mi, which is more than 94 % of 1024Mi.
        let full = Known { peak: Bytes(900 * MIB), ..still("94") };
        assert_eq!(verdict(&full), "limit 1101Mi, 90");
        let quantity = Present::Quantity(Bytes(1000 * MIB), Bytes(1000 * MIB));
        assert_eq!(verdict(&Known { threshold: quantity, ..full.clone() }), "limit 1055Mi, 991Mi");
        assert_eq!(reckon(&full).headroom, Bytes((1101 * MIB * 6).div_ceil(100)), "of the limit that it needs");
        assert_eq!(verdict(&Known { threshold: quantity, limit: None, ..full }), "fits", "no kill is near");
    }

    fn quantity_text(mib: u64) -> String {
        quantity(Bytes(mib * MIB))
    }

    #[test]
    fn below_an_hour_nothing_is_guessed() {
        let young = |seconds| Known { lasts: Duration::from_secs(seconds), ..known("60") };
        assert_eq!((verdict(&young(3599)), verdict(&young(720))), ("in 1 s".into(), "in 2880 s".into()));
        assert_eq!(verdict(&young(3600)), "65");
        assert!(reckon(&young(720)).in_time.is_empty());
    }

    /// A kill that was faster than the agent says that the headroom was not enough, whatever growth was seen.
    #[test]
    fn a_kill_that_was_too_fast_asks_for_more_headroom() {
        let missed = |mib| Known { missed: Some(Bytes(mib * MIB)), ..known("80") };
        assert_eq!(verdict(&missed(204)), "70", "306Mi below the limit");
        assert_eq!(verdict(&missed(30)), "fits", "it had more since");
        assert_eq!(verdict(&missed(400)), "limit 1270Mi, 52");
    }

    /// Pods whose thresholds are spread: the lowest is above the peak, and the highest in time.
    #[test]
    fn a_spread_counts_at_both_ends() {
        let spread = |low: &str, high: &str| {
            let [low, high] = [low, high].map(|text| Percent::parse(text).unwrap());
            Known { threshold: Present::Percent(low, high), ..known("80") }
        };
        assert_eq!((verdict(&spread("66", "70")), verdict(&spread("61.5", "65"))), ("fits".into(), "69".into()));
        assert_eq!(verdict(&spread("91.5", "96")), "94");
    }

    #[test]
    fn gentler_remedies_need_more_time_than_an_eviction() {
        let names =
            |known: &Known| reckon(known).in_time.iter().map(|remedy| remedy.as_str()).collect::<Vec<_>>().join(",");
        let quick = |growth, threshold| Known { latencies: evicts_in(160), growth, ..known(threshold) };
        assert_eq!(names(&quick(2 * MIB, "80")), "raise,restart,evict");
        // 204Mi: an eviction at up to 784Mi/s; a raise, and the eviction after it, at a quarter of 788Mi/s.
        assert_eq!(names(&quick(160 * MIB, "80")), "raise,evict");
        assert_eq!(names(&known("80")), "evict", "an eviction after it takes another 26 s");
        assert_eq!(names(&Known { growth: 0, ..known("80") }), "raise,restart,evict");
    }

    proptest! {
        /// What is recommended fits when it is followed, and nothing that fits is changed.
        #[test]
        fn whoever_follows_it_is_done(
            peak in 0u64..1 << 42, growth in 0u64..1 << 36, limit in prop::option::of(1u64..1 << 43), evict in 1u64..600_000,
            present in 1u8..99, spread in 0u8..20, missed in prop::option::of(0u64..1 << 40), quantity: bool,
        ) {
            let low = present.saturating_sub(spread).max(1);
            let [low, high] = [low, present].map(|n| Percent::parse(&n.to_string()).unwrap());
            let of = limit.map_or(Bytes(1 << 30), Bytes);
            let threshold = if quantity { Present::Quantity(low.of(of), high.of(of)) } else { Present::Percent(low, high) };
            let known = Known {
                peak: Bytes(peak), growth, latencies: evicts_in(evict), limit: limit.map(Bytes), threshold,
                missed: missed.map(Bytes), ..super::tests::known("60")
            };
            let verdict = reckon(&known).verdict;
            let (limit, written) = match verdict {
                Verdict::TooEarly(_) | Verdict::Fits => return Ok(()),
                Verdict::Threshold(written) => (known.limit, written),
                Verdict::Limit(limit, written) => (Some(limit), written),
            };
            let threshold = match written {
                Written::Percent(n) => {
                    let low = lower(n, super::spread(&known)).unwrap();
                    let [low, high] = [low, n].map(|n| Percent::parse(&n.to_string()).unwrap());
                    Present::Percent(low, high)
                }
                Written::Quantity(bytes) => Present::Quantity(bytes, bytes),
            };
            let followed = reckon(&Known { limit, threshold, ..known.clone() });
            prop_assert_eq!(followed.verdict, Verdict::Fits, "{:?}", verdict);
            if limit.is_some() {
                prop_assert!(followed.in_time.contains(&Remedy::Evict));
            }
        }
    }
}
