//! Numbers and fields in the files of a memory cgroup.

use super::error::Malformed;
use crate::ground::units::Bytes;

/// Names of a version's files.
pub(super) struct Files {
    pub(super) usage: &'static str,
    pub(super) limit: &'static str,
    pub(super) stat: &'static str,
    pub(super) kills: &'static str,
    /// The file that has the count of charges that hit the limit.
    pub(super) failed_charges: &'static str,
    /// The most that usage ever was.
    pub(super) peak: &'static str,
}

/// A limit, as the kernel writes it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Limit {
    /// No limit.
    Max,
    Bytes(Bytes),
}

impl Limit {
    /// In bytes; `None` if there is no limit. A limit above the machine's memory still counts: memory can be added to a
    /// machine, and the size that the machine reports may not be the real one.
    #[must_use]
    pub fn bytes(self) -> Option<Bytes> {
        match self {
            Limit::Bytes(limit) => Some(limit),
            Limit::Max => None,
        }
    }
}

/// Decimal digits and at most one newline after them.
pub(super) fn number(text: &[u8]) -> Result<u64, Malformed> {
    let digits = text.strip_suffix(b"\n").unwrap_or(text);
    if digits.is_empty() {
        return Err(Malformed::Empty);
    }
    digits.iter().try_fold(0u64, |n, d| match d {
        b'0'..=b'9' => {
            (n.checked_mul(10)).and_then(|n| n.checked_add(u64::from(d - b'0'))).ok_or(Malformed::NotANumber)
        }
        _ => Err(Malformed::NotANumber),
    })
}

/// The number of the line `<key> <number>`.
pub(super) fn field(text: &[u8], key: &[u8]) -> Option<u64> {
    text.split(|b| *b == b'\n').find_map(|line| {
        let value = line.strip_prefix(key)?.strip_prefix(b" ")?;
        number(value).ok()
    })
}

/// `field`, where the line is required.
pub(super) fn required(text: &[u8], key: &'static str) -> Result<Bytes, Malformed> {
    field(text, key.as_bytes()).map(Bytes).ok_or(Malformed::MissingField(key))
}

/// `field`, or 0 without the line: it only refines the margin to a kill, and not every kernel has it.
pub(super) fn or_none(text: &[u8], key: &'static str) -> Bytes {
    Bytes(field(text, key.as_bytes()).unwrap_or(0))
}

/// Enough for a number and its newline; anything longer is not a number of bytes.
pub(super) const NUMBER_BUFFER: usize = 64;
