//! What the list and the watch of the pods report.

use super::pod::{Pod, PodRef};

/// The changes come in this order: `Listing`, `Applied` for each pod, `Listed`, and then whatever the watch brings.
#[derive(Debug)]
pub enum PodChange {
    /// A list begins. Pods that it does not bring before [`PodChange::Listed`] are gone.
    Listing,
    /// A pod exists, or has changed.
    Applied(Box<Pod>),
    /// A pod is gone, or no longer matches (its label was removed).
    Gone(PodRef),
    Listed,
    /// A request failed. The stream goes on after a back-off.
    Failed(WatchFailure),
}

/// Why the pods cannot be listed or watched.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct WatchFailure {
    /// Each kind is logged once in an outage.
    pub kind: FailureKind,
    pub words: String,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum FailureKind {
    /// There is no connection, or no response.
    Unreachable,
    /// The server answered with this HTTP status.
    Answered(u16),
    /// The response cannot be read.
    Unreadable,
}

impl WatchFailure {
    #[must_use]
    pub fn unreachable(words: String) -> WatchFailure {
        WatchFailure { kind: FailureKind::Unreachable, words }
    }

    #[must_use]
    pub fn unreadable(words: String) -> WatchFailure {
        WatchFailure { kind: FailureKind::Unreadable, words }
    }
}
