//! What was last reported about a target, so that each change is reported once.

use std::time::Duration;

use crate::decide::judge::Evidence;

/// What was last reported about a target.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Reported {
    Nothing,
    /// It has to be reported again, whatever its state is now.
    Outdated,
    /// [`What::Above`], or [`What::Worsened`] since.
    Above(Urgency),
    /// [`What::NoLimit`].
    NoLimit,
    /// [`What::BeyondLimit`].
    BeyondLimit,
    /// [`What::Unreadable`].
    Unreadable,
    /// [`What::Gone`].
    Gone,
}

/// How urgent an eviction is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Urgency {
    /// The eviction cannot wait any longer.
    at_deadline: bool,
    /// The container is past `force-delete-threshold`.
    critical: bool,
}

impl Urgency {
    pub(super) const HIGHEST: Urgency = Urgency { at_deadline: true, critical: true };

    pub(super) fn of(evidence: &Evidence, latency: Duration) -> Urgency {
        let at_deadline = evidence.deadline(latency) == Some(Duration::ZERO);
        Urgency { at_deadline, critical: evidence.critical }
    }

    pub(super) fn and(self, other: Urgency) -> Urgency {
        Urgency { at_deadline: self.at_deadline || other.at_deadline, critical: self.critical || other.critical }
    }
}
