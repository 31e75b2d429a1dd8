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
    let cause = incident.steps.iter().rfind(|step| step.reason == MISSED)?.cause.as_deref()?;
    MissReason::ALL.into_iter().find(|reason| reason.label() == cause)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::serve::incident::StepView;

    #[test]
    fn the_reason_is_that_of_the_kill_not_of_what_came_before_it() {
        let step = |reason: &'static str, cause: &'static str| StepView {
            reason: reason.into(),
            cause: Some(cause.into()),
            ..StepView::default()
        };
        let of = |steps: Vec<StepView>| IncidentView { steps, ..IncidentView::default() };
        let held = of(vec![step("PreOOMEvictionHeld", "owner-turn"), step(MISSED, "held")]);
        assert_eq!((is_missed(&held), miss_reason(&held)), (true, Some(MissReason::Deferred)));
        // Several processes, killed one after the other.
        let again = of(vec![step(MISSED, "sustaining"), step("PreOOMEvicted", "x"), step(MISSED, "terminating")]);
        assert_eq!(miss_reason(&again), Some(MissReason::Terminating));
        let evicted = of(vec![step("PreOOMEvictionHeld", "held"), step("PreOOMEvicted", "too-fast")]);
        assert_eq!((is_missed(&evicted), miss_reason(&evicted)), (false, None));
        let newer = of(vec![step(MISSED, "of another version")]);
        assert_eq!((is_missed(&newer), miss_reason(&newer)), (true, None));
        let silent = of(vec![StepView { cause: None, ..step(MISSED, "") }]);
        assert_eq!((is_missed(&silent), miss_reason(&silent)), (true, None));
    }
}
