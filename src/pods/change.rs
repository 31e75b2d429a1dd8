//! What the watch reports, in order.

use super::pod::{Pod, PodRef};

/// What the watch says, in order.
#[derive(Debug)]
pub enum PodChange {
    /// A list begins: pods that do not come again before [`PodChange::Listed`] are gone.
    Listing,
    /// A pod is there, or has changed.
    Applied(Box<Pod>),
    /// A pod is gone, or has left the selection (its label was removed).
    Gone(PodRef),
    /// The list is complete.
    Listed,
    /// The server could not be asked; the stream goes on after a back-off.
    Trouble(Trouble),
}

/// Why the pods cannot be listed or watched.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Trouble {
    /// What of it is told once in an outage.
    pub kind: TroubleKind,
    /// In words.
    pub words: String,
}

/// See [`Trouble`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum TroubleKind {
    /// There is no connection, or no answer.
    Unreachable,
    /// This code was answered.
    Answered(u16),
    /// What was answered cannot be read.
    Unreadable,
}

impl Trouble {
    /// There is no answer.
    #[must_use]
    pub fn unreachable(words: String) -> Trouble {
        Trouble { kind: TroubleKind::Unreachable, words }
    }

    /// The answer makes no sense.
    #[must_use]
    pub fn unreadable(words: String) -> Trouble {
        Trouble { kind: TroubleKind::Unreadable, words }
    }
}
