//! What can be wrong with a pod's annotations, in words that name the key and say what to write instead.

use thiserror::Error;

use super::rule::{MIN_QUANTITY, Threshold};
use crate::ground::keys::{self, PREFIX};
use crate::ground::units::{Bytes, Percent, PercentError, QuantityError};

/// Why a guard is invalid.
#[derive(Clone, Debug, Error, PartialEq, Eq)]
pub enum Problem {
    #[error("annotation {PREFIX}{key} is missing: write a percentage of the limit such as \"60\", or a quantity such as \"512Mi\"", key = keys::THRESHOLD)]
    MissingThreshold,
    #[error("{key} \"{value}\" is {why}: write a percentage of the limit between 0 and 100 such as \"60\", or a quantity such as \"512Mi\"", key = keys::THRESHOLD)]
    BadPercent { value: String, why: PercentError },
    #[error("{key} \"{value}\" is invalid ({why}): write a quantity such as \"512Mi\", or a percentage of the limit such as \"60\"", key = keys::THRESHOLD)]
    BadQuantity { value: String, why: QuantityError },
    #[error("{key} \"{value}\" is below {MIN_QUANTITY}: is the unit right?", key = keys::THRESHOLD)]
    TinyQuantity { value: String },
    /// A target that is empty, or named twice.
    #[error("{key} \"{value}\" is invalid: write one container name, several separated by commas, or \"*\"", key = keys::TARGET)]
    BadTarget { value: String },
    #[error("{key} names \"{name}\", but the pod has no such container (it has: {has}){}", did_you_mean(nearest.as_deref()), key = keys::TARGET)]
    NoSuchContainer {
        name: String,
        has: String,
        /// The container that was probably meant.
        nearest: Option<String>,
    },
    #[error("{key} names \"{name}\", an init container that ends before the pod runs; only one with restartPolicy Always can be guarded", key = keys::TARGET)]
    InitContainer { name: String },
    /// No target, and several containers to choose from.
    #[error("the pod has {count} containers and no annotation {PREFIX}{key}: name the one to guard (it has: {has})", key = keys::TARGET)]
    Ambiguous { count: usize, has: String },
    /// A spread that could lower the threshold to 0.
    #[error("{key} \"{value}\" is not below the threshold of {threshold}: write fewer percentage points", key = keys::SPREAD)]
    SpreadTooWide { value: String, threshold: Threshold },
    #[error("{key} \"{value}\" is given in percentage points of the limit, but the threshold is a quantity: write the threshold as a percentage such as \"60\", or leave the spread out", key = keys::SPREAD)]
    SpreadOfQuantity { value: String },
    #[error("{} has raise, and annotation {PREFIX}{key} is missing: write the most that the limit may be raised to, such as \"1Gi\"", keys::REMEDIES, key = keys::RAISE_LIMIT_TO)]
    RaiseWithoutBound,
    #[error("{key} \"{value}\" is invalid ({why}): write a quantity such as \"1Gi\" (a percentage has no base, because a raise changes the limit)", key = keys::RAISE_LIMIT_TO)]
    BadBound { value: String, why: QuantityError },
    #[error("{key} \"{value}\" is not above the limit of container \"{container}\" ({limit}): write more", key = keys::RAISE_LIMIT_TO)]
    BoundTooLow { value: String, container: String, limit: Bytes },
    /// A raise would leave it above its threshold.
    #[error(
        "{} has raise, but the threshold is a quantity ({threshold}), which a raise does not move: write the threshold as a percentage such as \"60\"",
        keys::REMEDIES
    )]
    RaiseOfQuantity { threshold: Bytes },
    #[error("{key} is given, but {} does not have evict, so the pod is never deleted: add evict, or leave {key} out", keys::REMEDIES, key = keys::FORCE_DELETE)]
    ForceDeleteWithoutEvict,
    #[error("{key} is given without {missing}: write both, or neither")]
    WarnAlone { key: &'static str, missing: &'static str },
    #[error("{key} \"{value}\" is not below the threshold of {threshold}: write less", key = keys::WARN_THRESHOLD)]
    WarnTooHigh { value: String, threshold: Threshold },
    /// Any other annotation with a value that it does not accept.
    #[error("{key} \"{value}\" is invalid: write {expected}")]
    BadValue { key: &'static str, value: String, expected: &'static str },
    #[error("the pod cannot be read: {0}")]
    Unreadable(String),
}

impl Problem {
    /// The annotation that it is about, as one of [`keys`]; `None`: the whole pod.
    #[must_use]
    pub fn key(&self) -> Option<&'static str> {
        match self {
            Problem::MissingThreshold
            | Problem::BadPercent { .. }
            | Problem::BadQuantity { .. }
            | Problem::TinyQuantity { .. } => Some(keys::THRESHOLD),
            Problem::BadTarget { .. }
            | Problem::NoSuchContainer { .. }
            | Problem::InitContainer { .. }
            | Problem::Ambiguous { .. } => Some(keys::TARGET),
            Problem::SpreadTooWide { .. } | Problem::SpreadOfQuantity { .. } => Some(keys::SPREAD),
            Problem::RaiseWithoutBound | Problem::BadBound { .. } | Problem::BoundTooLow { .. } => {
                Some(keys::RAISE_LIMIT_TO)
            }
            Problem::RaiseOfQuantity { .. } => Some(keys::REMEDIES),
            Problem::ForceDeleteWithoutEvict => Some(keys::FORCE_DELETE),
            Problem::WarnTooHigh { .. } => Some(keys::WARN_THRESHOLD),
            Problem::WarnAlone { key, .. } | Problem::BadValue { key, .. } => Some(key),
            Problem::Unreadable(_) => None,
        }
    }
}

fn did_you_mean(nearest: Option<&str>) -> String {
    nearest.map_or_else(String::new, |n| format!(": did you mean \"{n}\"?"))
}

/// Something is wrong, but the pod is guarded all the same.
#[derive(Clone, Debug, Error, PartialEq, Eq)]
pub enum Warning {
    /// An annotation under [`PREFIX`] that this program does not know.
    #[error("annotation {PREFIX}{key} is unknown and ignored: did you mean {nearest}?")]
    UnknownKey {
        key: String,
        /// The most similar of [`keys::ALL`].
        nearest: &'static str,
    },
    /// Probably meant as a fraction of one.
    #[error("{key} \"{value}\" is taken as {percent}, less than 1 %: did you mean {meant}?")]
    Fraction { key: &'static str, value: String, percent: Percent, meant: Percent },
    #[error("annotation {PREFIX}{key} has no effect: {} does not have raise", keys::REMEDIES)]
    WithoutRaise { key: &'static str },
}
