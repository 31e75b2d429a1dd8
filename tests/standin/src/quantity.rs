//! Kubernetes quantities: `384Mi`, `100m`, `1.5Gi`, `1e9`.

use serde_json::Value;

const BINARY: [(&str, u32); 6] = [("Ki", 10), ("Mi", 20), ("Gi", 30), ("Ti", 40), ("Pi", 50), ("Ei", 60)];
/// Suffix, and the power of ten.
const DECIMAL: [(&str, i32); 10] =
    [("n", -9), ("u", -6), ("m", -3), ("", 0), ("k", 3), ("M", 6), ("G", 9), ("T", 12), ("P", 15), ("E", 18)];
/// The finest a quantity can be: billionths.
const FINEST: i32 = 9;

/// The quantity in billionths, rounded up; `None` if it is none, or larger than any memory.
pub(crate) fn nano(text: &str) -> Option<i128> {
    let end = text.find(|c: char| !c.is_ascii_digit() && !"+-.".contains(c)).unwrap_or(text.len());
    let (number, suffix) = text.split_at(end);
    let (sign, number) = match number.strip_prefix('-') {
        Some(rest) => (-1, rest),
        None => (1, number.strip_prefix('+').unwrap_or(number)),
    };
    let (whole, fraction) = number.split_once('.').unwrap_or((number, ""));
    let digits = format!("{whole}{fraction}");
    if digits.is_empty() || digits.len() > 25 || !digits.bytes().all(|byte| byte.is_ascii_digit()) {
        return None;
    }
    let digits: i128 = digits.parse().ok()?;
    let places = i32::try_from(fraction.len()).ok()?;
    let (scaled, power) = match BINARY.iter().find(|(name, _)| *name == suffix) {
        Some((_, shift)) => (digits.checked_mul(1 << shift)?, 0),
        None => (digits, decimal(suffix)?),
    };
    let ten = |power: i32| 10_i128.checked_pow(u32::try_from(power).ok()?);
    let power = power + FINEST - places;
    let nanos = if power >= 0 { scaled.checked_mul(ten(power)?)? } else { div_up(scaled, ten(-power)?) };
    Some(sign * nanos)
}

fn decimal(suffix: &str) -> Option<i32> {
    let exponent = suffix.strip_prefix(['e', 'E']).and_then(|exponent| exponent.parse().ok());
    exponent.or_else(|| DECIMAL.iter().find(|(name, _)| *name == suffix).map(|(_, power)| *power))
}

fn div_up(number: i128, by: i128) -> i128 {
    number.div_euclid(by) + i128::from(number.rem_euclid(by) > 0)
}

/// The quantity in bytes, rounded up; `None` if it is none or negative.
pub(crate) fn bytes(text: &str) -> Option<u64> {
    u64::try_from(div_up(nano(text)?, 10_i128.pow(9))).ok()
}

/// The bytes of a value that is a quantity, as text or as a number.
pub(crate) fn bytes_of(value: &Value) -> Option<u64> {
    value.as_str().map_or_else(|| value.as_u64(), bytes)
}

/// Whether two values are the same quantity, however written (or both none).
pub(crate) fn same(a: &Value, b: &Value) -> bool {
    let number = |value: &Value| value.as_str().map_or_else(|| nano(&value.to_string()), nano);
    a == b || (number(a).is_some() && number(a) == number(b))
}

/// Bytes as the server writes a sum: with the largest binary suffix that divides them.
pub(crate) fn binary(bytes: u64) -> String {
    let fits = BINARY.iter().rev().find(|(_, shift)| bytes > 0 && bytes.trailing_zeros() >= *shift);
    fits.map_or_else(|| bytes.to_string(), |(name, shift)| format!("{}{name}", bytes >> shift))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn quantities_are_read_as_the_server_reads_them() {
        for (text, expected) in [
            ("384Mi", Some(384 << 20)),
            ("1.5Gi", Some(3 << 29)),
            ("268435456", Some(1 << 28)),
            ("1G", Some(1_000_000_000)),
            ("1e3", Some(1000)),
            ("1E", Some(1_000_000_000_000_000_000)),
            ("100m", Some(1)),
            ("0", Some(0)),
            ("512 MB", None),
            ("512MB", None),
            ("-1", None),
            ("", None),
            ("Mi", None),
        ] {
            assert_eq!(bytes(text), expected, "{text}");
        }
        assert!(same(&"1Gi".into(), &"1024Mi".into()) && same(&"1".into(), &1.into()));
        assert!(!same(&"1Gi".into(), &Value::Null) && same(&Value::Null, &Value::Null));
    }

    #[test]
    fn sums_are_written_as_the_server_writes_them() {
        assert_eq!(binary(409_664 << 20), "409664Mi");
        assert_eq!(binary(264 << 20), "264Mi");
        assert_eq!(binary(25_224_085_504), "24632896Ki");
        assert_eq!((binary(0), binary(1025)), ("0".to_owned(), "1025".to_owned()));
    }
}
