//! Which incidents ended in a kill, and why that was not prevented.

use crate::report::notice::MissReason;
use crate::serve::incident::IncidentView;

/// The reason of a step and of an Event that says so.
const MISSED: &str = "PreOOMMissed";

/// Whether the kernel killed the container, or a process of it.
#[must_use]
pub fn is_missed(incident: &IncidentView) -> bool {
    incident.steps.iter().any(|step| step.reason == MISSED)
}

/// Why that was not prevented; none: it was no kill, or for a reason that this version does not know.
#[must_use]
pub fn miss_reason(incident: &IncidentView) -> Option<MissReason> {
    let step = incident.steps.iter().rfind(|step| step.reason == MISSED)?;
    // The labels are those of the first step.
    let first = incident.steps.first().is_some_and(|first| first.reason == MISSED);
    let cause = incident.facts.cause.as_deref().filter(|_| first);
    let is_it = |reason: &MissReason| match cause {
        Some(cause) => reason.label() == cause,
        None => step.words.contains(reason.words()),
    };
    MissReason::ALL.into_iter().find(is_it)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::serve::incident::StepView;
    use crate::serve::wire::Facts;

    #[test]
    fn the_reason_is_that_of_the_kill_not_of_what_came_before_it() {
        let step = |reason: &'static str, words: &str| StepView {
            reason: reason.into(),
            words: words.into(),
            ..StepView::default()
        };
        let killed = "The container was OOM-killed by the kernel and not evicted before: it filled faster than it could be evicted (never read)";
        let facts = |cause: &'static str| Facts { cause: Some(cause.into()), ..Facts::default() };
        let of = |facts: Facts, steps: Vec<StepView>| IncidentView { facts, steps, ..IncidentView::default() };
        let at_once = of(facts("sustaining"), vec![step(MISSED, killed)]);
        assert_eq!((is_missed(&at_once), miss_reason(&at_once)), (true, Some(MissReason::Sustaining)));
        let held = of(facts("held"), vec![step("PreOOMEvictionHeld", "Eviction held"), step(MISSED, killed)]);
        assert_eq!(miss_reason(&held), Some(MissReason::TooFast));
        let evicted = of(facts("held"), vec![step("PreOOMEvicted", "Evicted")]);
        assert_eq!((is_missed(&evicted), miss_reason(&evicted)), (false, None));
        assert_eq!(miss_reason(&of(facts("new"), vec![step(MISSED, "another version")])), None);
    }
}
