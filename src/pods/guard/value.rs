//! Which values each annotation accepts.

use std::time::Duration;

use super::problem::Problem;
use super::rule::{MIN_QUANTITY, Threshold};
use crate::ground::keys;
use crate::ground::memory::Signal;
use crate::ground::text::shortened;
use crate::ground::units::{Percent, duration, parse_quantity};

/// The threshold of pods that their namespace's label guards, if neither names another one. The chart's default is the
/// same.
pub const NAMESPACE_THRESHOLD: &str = "80";
const MAX_SUSTAINED: Duration = Duration::from_secs(600);
/// The largest `threshold-spread`, in percentage points of the limit.
const MAX_SPREAD: &str = "20";
/// The shortest `eviction-grace-period`, in seconds. With 0 the API server would delete the pod at once, while its
/// containers may still run: a force deletion.
const MIN_GRACE: u32 = 1;
/// The longest `eviction-grace-period`: a day, in seconds.
const MAX_GRACE: u32 = 86_400;

/// A bare number is a percentage; anything with a letter is a quantity.
pub(super) fn threshold(text: Option<&str>) -> Result<Threshold, Problem> {
    let text = text.ok_or(Problem::MissingThreshold)?;
    if !text.bytes().any(|b| b.is_ascii_alphabetic()) {
        let percent = Percent::parse(text).map(Threshold::Percent);
        return percent.map_err(|why| Problem::BadPercent { value: shortened(text), why });
    }
    let bytes = parse_quantity(text).map_err(|why| Problem::BadQuantity { value: shortened(text), why })?;
    if bytes < MIN_QUANTITY {
        return Err(Problem::TinyQuantity { value: shortened(text) });
    }
    Ok(Threshold::Quantity(bytes))
}

/// Percentage points from 0 to 20, less than the threshold.
pub(super) fn spread(text: Option<&str>, threshold: Option<Threshold>) -> Result<Option<Percent>, Problem> {
    let Some(text) = text else { return Ok(None) };
    let bad = || Problem::BadValue {
        key: keys::SPREAD,
        value: shortened(text),
        expected: "percentage points of the limit from \"0\" to \"20\" such as \"5\"",
    };
    if !text.is_empty() && text.bytes().all(|b| b == b'0') {
        return Ok(None);
    }
    let most = Percent::parse(MAX_SPREAD).map_err(|_| bad())?;
    let spread = Percent::parse(text).ok().filter(|s| *s <= most).ok_or_else(bad)?;
    match threshold {
        Some(Threshold::Quantity(_)) => Err(Problem::SpreadOfQuantity { value: shortened(text) }),
        Some(threshold @ Threshold::Percent(percent)) if spread >= percent => {
            Err(Problem::SpreadTooWide { value: shortened(text), threshold })
        }
        _ => Ok(Some(spread)),
    }
}

pub(super) fn signal(text: &str) -> Option<Signal> {
    [Signal::WorkingSet, Signal::Usage, Signal::Unreclaimable].into_iter().find(|s| s.as_str() == text)
}

pub(super) fn sustained_for(text: &str) -> Option<Duration> {
    duration(text).filter(|d| *d <= MAX_SUSTAINED)
}

/// Whole seconds.
pub(super) fn eviction_grace(text: &str) -> Option<u32> {
    let digits = text.bytes().all(|b| b.is_ascii_digit());
    text.parse().ok().filter(|s| digits && (MIN_GRACE..=MAX_GRACE).contains(s))
}
