//! Bytes, percentages, and quantities and durations in Kubernetes' notation: exact integers, never floats.

use std::fmt;
use std::time::Duration;

use thiserror::Error;

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, serde::Serialize)]
#[serde(transparent)]
pub struct Bytes(pub u64);

impl Bytes {
    pub const MIB: Bytes = Bytes(1 << 20);

    /// `self − other`, never below zero.
    #[must_use]
    pub fn less(self, other: Bytes) -> Bytes {
        Bytes(self.0.saturating_sub(other.0))
    }

    /// `self + other`, never above `u64::MAX`.
    #[must_use]
    pub fn plus(self, other: Bytes) -> Bytes {
        Bytes(self.0.saturating_add(other.0))
    }

    /// `self × n`, never above `u64::MAX`.
    #[must_use]
    pub fn times(self, n: u64) -> Bytes {
        Bytes(self.0.saturating_mul(n))
    }

    /// How long it takes to come together, or lasts, at a rate in bytes a second. A rate of 0 counts as 1.
    #[must_use]
    pub fn lasts_at(self, rate: u64) -> Duration {
        let nanos = u128::from(self.0) * NANOS / u128::from(rate.max(1));
        Duration::from_nanos(u64::try_from(nanos).unwrap_or(u64::MAX))
    }

    /// The rate, in bytes a second, at which it comes together within this time.
    #[must_use]
    pub fn within(self, time: Duration) -> u64 {
        u64::try_from(u128::from(self.0) * NANOS / time.as_nanos().max(1)).unwrap_or(u64::MAX)
    }

    /// What comes together within this time at a rate in bytes a second.
    #[must_use]
    pub fn at_rate(rate: u64, time: Duration) -> Bytes {
        Bytes(u64::try_from(u128::from(rate) * time.as_nanos() / NANOS).unwrap_or(u64::MAX))
    }
}

const NANOS: u128 = 1_000_000_000;

/// Formats with a binary unit and at most one decimal. From Gi on there are three, because a tenth of 1Gi is 102Mi:
/// `153.6Mi`, `1.602Gi`, `1Gi`, `512`.
impl fmt::Display for Bytes {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        const UNITS: [(&str, u32); 5] = [("Pi", 50), ("Ti", 40), ("Gi", 30), ("Mi", 20), ("Ki", 10)];
        let Some((unit, shift)) = UNITS.into_iter().find(|(_, s)| self.0 >> s > 0) else {
            return write!(f, "{}", self.0);
        };
        let (one, places): (u128, usize) = if shift < 30 { (10, 1) } else { (1_000, 3) };
        let rounded = (u128::from(self.0) * one + (1 << (shift - 1))) >> shift;
        let decimals = format!("{:0places$}", rounded % one);
        match decimals.trim_end_matches('0') {
            "" => write!(f, "{}{unit}", rounded / one),
            decimals => write!(f, "{}.{decimals}{unit}", rounded / one),
        }
    }
}

/// A percentage strictly between 0 and 100, exact to a millionth of a percent.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Percent(u32);

#[derive(Clone, Debug, Error, PartialEq, Eq)]
pub enum PercentError {
    /// Not digits with at most one decimal point.
    #[error("not a number")]
    NotANumber,
    #[error("more than six decimals")]
    TooFine,
    #[error("not between 0 and 100 (both excluded)")]
    OutOfRange,
}

impl Percent {
    const ONE: u32 = 1_000_000;
    pub const HUNDREDTH: Percent = Percent(Percent::ONE);
    pub const TEN: Percent = Percent(10 * Percent::ONE);

    /// Reads `60`, `60.5`, `60%`: plain decimal notation, no sign, no exponent.
    ///
    /// # Errors
    /// When the text is not such a number or is not strictly between 0 and 100.
    pub fn parse(text: &str) -> Result<Percent, PercentError> {
        let text = text.strip_suffix('%').unwrap_or(text);
        let decimal = Decimal::parse(text).ok_or(PercentError::NotANumber)?;
        if decimal.scale > 6 {
            return Err(PercentError::TooFine);
        }
        let millionths = decimal
            .digits
            .checked_mul(10u128.pow(6 - decimal.scale))
            .and_then(|m| u32::try_from(m).ok())
            .ok_or(PercentError::OutOfRange)?;
        if millionths == 0 || millionths >= 100 * Self::ONE {
            return Err(PercentError::OutOfRange);
        }
        Ok(Percent(millionths))
    }

    /// The number of parts into which [`Percent::lowered`] divides.
    pub const PARTS: u32 = 10_000;

    /// Lowers it by `part` ten-thousandths of `by`, in whole hundredths of a percent.
    #[must_use]
    pub fn lowered(self, by: Percent, part: u32) -> Percent {
        const HUNDREDTH: u32 = Percent::ONE / 100;
        let lower = u64::from(by.0) * u64::from(part.min(Self::PARTS)) / u64::from(Self::PARTS);
        // A part of a u32 fits in a u32.
        let lower = u32::try_from(lower).unwrap_or(0) / HUNDREDTH * HUNDREDTH;
        Percent(self.0.saturating_sub(lower).max(1))
    }

    /// This share of `whole`, rounded down. A whole number of bytes is strictly above the exact share if and only if it
    /// is strictly above the rounded one.
    #[must_use]
    pub fn of(self, whole: Bytes) -> Bytes {
        let share = u128::from(whole.0) * u128::from(self.0) / u128::from(100 * Self::ONE);
        // A share below 100 % of a u64 fits in a u64.
        Bytes(u64::try_from(share).unwrap_or(u64::MAX))
    }
}

impl Percent {
    /// Of less than 1 %: what it would be if it was meant as a fraction of one (`0.85`: 85 %).
    #[must_use]
    pub fn as_fraction(self) -> Option<Percent> {
        (self < Percent::HUNDREDTH).then(|| Percent(self.0 * 100))
    }

    /// The smallest whole of which `share` is at most this share; the greatest amount if there is none.
    #[must_use]
    pub fn whole_of(self, share: Bytes) -> Bytes {
        let whole = (u128::from(share.0) * u128::from(100 * Self::ONE)).div_ceil(u128::from(self.0));
        Bytes(u64::try_from(whole).unwrap_or(u64::MAX))
    }
}

impl fmt::Display for Percent {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (whole, fraction) = (self.0 / Self::ONE, self.0 % Self::ONE);
        if fraction == 0 {
            return write!(f, "{whole} %");
        }
        let digits = format!("{fraction:06}");
        write!(f, "{whole}.{} %", digits.trim_end_matches('0'))
    }
}

#[derive(Clone, Debug, Error, PartialEq, Eq)]
pub enum QuantityError {
    #[error("not a quantity such as 512Mi or 1.5Gi")]
    Malformed,
    #[error("unknown unit `{0}` (use Ki, Mi, Gi, Ti, or k, M, G, T)")]
    UnknownUnit(String),
    /// More than 2⁶⁴ − 1 bytes.
    #[error("larger than any memory")]
    TooLarge,
}

/// Reads a quantity of bytes with a unit: `512Mi`, `1.5Gi`, `2G`. Rounds fractions of a byte up, as Kubernetes does.
/// Rejects a number without a unit, because here it would be a percentage.
///
/// # Errors
/// See [`QuantityError`].
pub fn parse_quantity(text: &str) -> Result<Bytes, QuantityError> {
    let split = text.find(|c: char| !c.is_ascii_digit() && c != '.').ok_or(QuantityError::Malformed)?;
    let (number, unit) = text.split_at(split);
    let decimal = Decimal::parse(number).ok_or(QuantityError::Malformed)?;
    let factor: u128 = match unit {
        "Ki" => 1 << 10,
        "Mi" => 1 << 20,
        "Gi" => 1 << 30,
        "Ti" => 1 << 40,
        "Pi" => 1 << 50,
        "Ei" => 1 << 60,
        "k" => 10u128.pow(3),
        "M" => 10u128.pow(6),
        "G" => 10u128.pow(9),
        "T" => 10u128.pow(12),
        "P" => 10u128.pow(15),
        "E" => 10u128.pow(18),
        other => return Err(QuantityError::UnknownUnit(other.chars().take(8).collect())),
    };
    decimal.bytes(factor, 0)
}

/// Reads an amount of memory from a pod's `resources`. It accepts what [`parse_quantity`] accepts, and also a number of
/// bytes without a unit, in plain (`268435456`), exponential (`256e6`) or milli notation (`1024m`), and other
/// spellings that the API server accepts (`+512Mi`, `.5Gi`, `1.Gi`). Annotations do not accept these: there, a number without a
/// unit is a percentage, and `60m` is surely a typo.
///
/// # Errors
/// See [`QuantityError`].
pub fn parse_memory(text: &str) -> Result<Bytes, QuantityError> {
    let text = with_digits(text).ok_or(QuantityError::Malformed)?;
    let text = text.as_str();
    let (number, exponent) = match text.split_once(['e', 'E']) {
        Some((number, exponent)) if !exponent.is_empty() && exponent.bytes().all(|b| b.is_ascii_digit()) => {
            (number, exponent.parse().map_err(|_| QuantityError::TooLarge)?)
        }
        _ => (text, 0),
    };
    let (number, thousandths) = number.strip_suffix('m').map_or((number, 0), |number| (number, 3));
    let Some(decimal) = Decimal::parse(number) else { return parse_quantity(text) };
    decimal.bytes(10u128.checked_pow(exponent).ok_or(QuantityError::TooLarge)?, thousandths)
}

/// Rewrites `+.5Gi` as `0.5Gi` and `1.Gi` as `1.0Gi`; `None` if there is no digit.
fn with_digits(text: &str) -> Option<String> {
    let text = text.strip_prefix('+').unwrap_or(text);
    let number = text.find(|c: char| !c.is_ascii_digit() && c != '.').unwrap_or(text.len());
    let (number, unit) = text.split_at(number);
    match number.split_once('.') {
        Some(("", "")) => None,
        Some(("", fraction)) => Some(format!("0.{fraction}{unit}")),
        Some((whole, "")) => Some(format!("{whole}.0{unit}")),
        _ => Some(text.to_owned()),
    }
}

/// A duration in Go's notation, as Kubernetes writes it (`30s`, `1m30s`); not negative.
#[must_use]
pub fn duration(text: &str) -> Option<Duration> {
    // jiff accepts more than that: words, signs, ISO 8601. (kube's own parser panics on some texts.)
    if text.is_empty() || !text.bytes().all(|b| matches!(b, b'0'..=b'9' | b'.' | b'h' | b'm' | b's')) {
        return None;
    }
    Duration::try_from(text.parse::<jiff::SignedDuration>().ok()?).ok()
}

/// `digits ÷ 10^scale`, read from plain decimal notation.
struct Decimal {
    digits: u128,
    scale: u32,
}

impl Decimal {
    /// Up to 18 digits on each side of the point; `None` for anything else.
    fn parse(text: &str) -> Option<Decimal> {
        let (whole, fraction) = text.split_once('.').unwrap_or((text, ""));
        let all_digits = |s: &str| s.len() <= 18 && s.bytes().all(|b| b.is_ascii_digit());
        let point_without_fraction = text.ends_with('.');
        if whole.is_empty() || point_without_fraction || !all_digits(whole) || !all_digits(fraction) {
            return None;
        }
        let fraction = fraction.trim_end_matches('0');
        let digits = format!("{whole}{fraction}").parse().ok()?;
        let scale = u32::try_from(fraction.len()).ok()?;
        Some(Decimal { digits, scale })
    }

    /// `self × factor ÷ 10^tenths` bytes, rounded up.
    fn bytes(&self, factor: u128, tenths: u32) -> Result<Bytes, QuantityError> {
        let bytes =
            self.digits.checked_mul(factor).and_then(|n| Some(n.div_ceil(10u128.checked_pow(self.scale + tenths)?)));
        bytes.and_then(|n| u64::try_from(n).ok()).map(Bytes).ok_or(QuantityError::TooLarge)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn percentages() {
        for (text, share_of_1000000) in [
            ("60", 600_000),
            ("60%", 600_000),
            ("60.5", 605_000),
            ("060", 600_000),
            ("0.0001", 1),
            ("99.9999", 999_999),
            ("60.123456", 601_234),
        ] {
            assert_eq!(Percent::parse(text).unwrap().of(Bytes(1_000_000)).0, share_of_1000000, "{text}");
        }
        for (text, why) in [
            ("", PercentError::NotANumber),
            ("%", PercentError::NotANumber),
            ("0", PercentError::OutOfRange),
            ("0.0", PercentError::OutOfRange),
            ("100", PercentError::OutOfRange),
            ("100.0", PercentError::OutOfRange),
            ("1000000000000000000", PercentError::NotANumber),
            ("4294967297", PercentError::OutOfRange),
            ("-1", PercentError::NotANumber),
            ("+60", PercentError::NotANumber),
            ("60 %", PercentError::NotANumber),
            ("60%%", PercentError::NotANumber),
            ("6e1", PercentError::NotANumber),
            ("60.", PercentError::NotANumber),
            (".5", PercentError::NotANumber),
            ("6٠", PercentError::NotANumber),
            ("60.0000001", PercentError::TooFine),
        ] {
            assert_eq!(Percent::parse(text), Err(why), "{text}");
        }
    }

    #[test]
    fn quantities() {
        for (text, bytes) in [
            ("512Mi", 512 << 20),
            ("1.5Gi", 1_610_612_736),
            ("1Ki", 1024),
            ("2G", 2_000_000_000),
            ("0.3Ki", 308),
            ("3Ti", 3 << 40),
            ("5Pi", 5 << 50),
            ("15Ei", 15 << 60),
            ("7k", 7_000),
            ("7M", 7_000_000),
            ("7T", 7_000_000_000_000),
            ("7P", 7_000_000_000_000_000),
            ("7E", 7_000_000_000_000_000_000),
        ] {
            assert_eq!(parse_quantity(text), Ok(Bytes(bytes)), "{text}");
        }
        assert_eq!(parse_quantity("16Ei"), Err(QuantityError::TooLarge));
        assert_eq!(parse_quantity("60m"), Err(QuantityError::UnknownUnit("m".into())));
        for text in ["", "512", "Mi", "-1Mi", " 1Mi", "1..5Gi", "1.Gi"] {
            assert_eq!(parse_quantity(text), Err(QuantityError::Malformed), "{text}");
        }
        assert!(parse_quantity("1e3").is_err());
        assert!(parse_quantity("1 Mi").is_err());
    }

    #[test]
    fn memory_of_resources() {
        for (text, bytes) in [
            ("268435456", 268_435_456),
            ("256Mi", 256 << 20),
            ("129e6", 129_000_000),
            ("1.5E3", 1500),
            ("1E", 1_000_000_000_000_000_000),
            ("128974848000m", 128_974_848),
            ("512m", 1),
            ("0", 0),
            (".5Gi", 512 << 20),
            ("1.Gi", 1 << 30),
            ("1.", 1),
            ("+512Mi", 512 << 20),
            ("+.5e3", 500),
        ] {
            assert_eq!(parse_memory(text), Ok(Bytes(bytes)), "{text}");
        }
        for text in [
            "",
            "m",
            "e9",
            "-1",
            "1e-3",
            "1e99",
            "1e99999999999",
            "12 Mi",
            "64MB",
            "∞",
            ".",
            ".Gi",
            "+",
            "++1",
            "1..Gi",
        ] {
            assert!(parse_memory(text).is_err(), "{text}");
        }
    }

    #[test]
    fn shown_for_people() {
        for (bytes, text) in
            [(0, "0"), (1023, "1023"), (1024, "1Ki"), (161_061_273, "153.6Mi"), (1 << 30, "1Gi"), (u64::MAX, "16384Pi")]
        {
            assert_eq!(Bytes(bytes).to_string(), text);
        }
        assert_eq!(Percent::parse("60.50").unwrap().to_string(), "60.5 %");
        assert_eq!(Percent::parse("7%").unwrap().to_string(), "7 %");
    }

    proptest! {
        #[test]
        fn never_panics(text in "\\PC{0,24}") {
            let _ = Percent::parse(&text);
            let _ = parse_quantity(&text);
            let _ = parse_memory(&text);
        }

        #[test]
        fn any_duration_is_survived(value in "[0-9.hmsuµn+-]{1,16}") {
            if let Some(duration) = duration(&value) {
                prop_assert!(!value.contains(['-', '+']) && duration >= Duration::ZERO);
            }
        }

        #[test]
        fn above_the_floor_is_above_the_exact_share(percent in 1u32..100_000_000, limit: u64, signal: u64) {
            let exact = u128::from(signal) * 100_000_000 > u128::from(limit) * u128::from(percent);
            prop_assert_eq!(signal > Percent(percent).of(Bytes(limit)).0, exact);
        }

        #[test]
        fn whole_mebibytes_round_trip(mib in 1u64..1 << 40) {
            prop_assert_eq!(parse_quantity(&format!("{mib}Mi")), Ok(Bytes(mib << 20)));
        }
    }
}
