//! What to change after an incident: by its class, and by why it ended in a kill. Each is a sentence with what to write.

use super::case::Of;
use crate::ground::units::Bytes;
use crate::plugin::agents::missed::{is_missed, miss_reason};
use crate::plugin::agents::named::{short, workload_of};
use crate::plugin::sanitize::printable;
use crate::report::notice::MissReason;
use crate::serve::incident::{IncidentView, StepView};

/// The sentences, for a program that the user calls by this name. `raises`: its workload lists the remedy `raise` now.
#[must_use]
pub fn advice(of: &Of<IncidentView>, raises: bool, program: &str) -> Vec<String> {
    let incident = &of.it;
    let by_class = by_class(of, raises, program);
    let by_miss = miss_reason(incident).map(|reason| by_miss(reason, of, program));
    let unknown = is_missed(incident) && by_miss.is_none();
    let unknown =
        unknown.then(|| "It was OOM-killed for a reason that this version does not know: upgrade it.".to_owned());
    let mut all: Vec<String> = by_miss.into_iter().chain(unknown).chain(by_class).collect();
    // What a kill's reason and a class advise may be the same.
    all.dedup();
    all
}

/// `kubectl preoom recommend deploy/web -n shop`.
fn recommend(incident: &IncidentView, program: &str) -> String {
    let of = short(&workload_of(incident.owner.as_deref(), &incident.pod));
    format!("`{program} recommend {} -n {}`", printable(&of), printable(&incident.namespace))
}

fn by_class(of: &Of<IncidentView>, raises: bool, program: &str) -> Option<String> {
    let incident = &of.it;
    let signal = incident.facts.signal.as_deref().unwrap_or("working-set");
    Some(match incident.class.as_deref()? {
        "leak" => format!(
            "A leak fills any limit: look for it in what grew. Until then, {} says which threshold leaves enough time.",
            recommend(incident, program)
        ),
        "spike" if was_raised(incident) => format!(
            "The raise was for this spike; a limit that is large enough from the start is better: {} says how large.",
            recommend(incident, program)
        ),
        // What to do is said by the reason of the kill.
        "spike" if miss_reason(incident) == Some(MissReason::TooFast) => return None,
        "spike" if raises || !may_be_raised(incident) => {
            format!("A spike passes: {} says which threshold and which limit leave room for it.", recommend(incident, program))
        }
        "spike" => format!(
            "A spike passes: let its limit be raised first, with the annotations remedies: \"raise,evict\" and raise-limit-to: \"{}\".",
            incident.facts.limit.map_or_else(|| "SIZE".into(), |limit| Bytes(limit.saturating_mul(2)).to_string())
        ),
        "cache" if signal != "unreclaimable" => {
            "Write the annotation memory-signal: \"unreclaimable\", which does not count file cache.".into()
        }
        "cache" => "It is file cache that the kernel could not drop: look for files that are mapped or dirty.".into(),
        "tmpfs" => {
            "Bound what grew: emptyDir: {medium: Memory, sizeLimit: SIZE}, and delete files there that are not needed; a restart in place frees nothing of it.".into()
        }
        "siblings" => {
            "Give the other containers limits of their own (resources.limits.memory), or raise that of the pod (spec.resources.limits.memory).".into()
        }
        "node" => node(of),
        _ => return None,
    })
}

fn node(of: &Of<IncidentView>) -> String {
    format!(
        "No threshold helps: the pods of the node need more than it has, so raise their memory requests to what they use (`kubectl describe node {}`).",
        printable(&of.node)
    )
}

/// A spike of a container, with time for a raise, whose remedies seem not to list one yet.
pub(super) fn may_be_raised(incident: &IncidentView) -> bool {
    let is_raise = |step: &StepView| RAISES.iter().any(|words| step.words.contains(words));
    incident.class.as_deref() == Some("spike")
        && incident.container.is_some()
        && miss_reason(incident) != Some(MissReason::TooFast)
        && !was_raised(incident)
        && !incident.steps.iter().any(is_raise)
}

/// In steps' texts, where the pod's remedies list a raise: it was passed over, was not possible, or failed.
const RAISES: [&str; 4] = ["over: raise (", "OOM killer: raise: ", "Raise of its limit", "The raise "];

fn was_raised(incident: &IncidentView) -> bool {
    incident.steps.iter().any(|step| step.reason == "PreOOMRaised")
}

fn by_miss(reason: MissReason, of: &Of<IncidentView>, program: &str) -> String {
    let recommend = recommend(&of.it, program);
    let namespace = printable(&of.it.namespace);
    match reason {
        MissReason::TooFast => format!(
            "It was faster than anything could be done: lower memory-usage-threshold or raise the limit; {recommend} says to what."
        ),
        MissReason::Sustaining => "Shorten the annotation sustained-for, or leave it out.".into(),
        MissReason::Blocked => format!(
            "Let its disruption budget allow an eviction (`kubectl -n {namespace} get pdb`): add a replica; or write force-delete-threshold: \"95\"."
        ),
        MissReason::Deferred => format!(
            "Restraint deferred its eviction, because it or its like were evicted shortly before: {recommend} says which threshold it needs."
        ),
        MissReason::NoRemedy => "Add evict to the annotation remedies: none of those it lists was possible.".into(),
        MissReason::Refused => "Mend what the API server says above: permissions, an admission policy, or a webhook.".into(),
        MissReason::Terminating => format!(
            "It grew during its shutdown: shorten it by eviction-grace-period, or lower memory-usage-threshold; {recommend} says to what."
        ),
        MissReason::DryRun => "Remove the annotation dry-run, or the agents' flag --dry-run.".into(),
        MissReason::InvalidGuard => format!("Correct its annotations: `{program} check -f FILE` says how."),
        MissReason::NodeWide => node(of),
        MissReason::PodLimit => "Write target-container-name: \"*\", which guards the pod's own limit, too, or raise that limit (spec.resources.limits.memory).".into(),
        MissReason::InnerLimit => {
            "A program in the container made a cgroup with a limit of its own: raise or remove that limit.".into()
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::decide::class::Class;
    use crate::serve::wire::Facts;

    fn incident(class: &'static str, cause: Option<&'static str>) -> Of<IncidentView> {
        let step = StepView {
            reason: if cause.is_some() { "PreOOMMissed" } else { "PreOOMEvicted" }.into(),
            cause: cause.map(Into::into),
            ..StepView::default()
        };
        let facts = Facts { limit: Some(256 << 20), ..Facts::default() };
        let it = IncidentView {
            namespace: "shop".into(),
            pod: "web-1".into(),
            owner: Some("Deployment/web".into()),
            container: Some("app".into()),
            class: (!class.is_empty()).then(|| class.into()),
            steps: vec![step],
            facts,
            ..IncidentView::default()
        };
        Of { node: "node-a".into(), started: None, it }
    }

    #[test]
    fn each_class_and_each_reason_has_an_advice() {
        for class in Class::ALL {
            let all = advice(&incident(class.as_str(), None), false, "kubectl preoom");
            assert_eq!(all.len(), 1, "{class:?}");
            assert!(all[0].ends_with('.'), "{all:?}");
        }
        for reason in MissReason::ALL {
            let all = advice(&incident("", Some(reason.label())), false, "kubectl preoom");
            assert_eq!(all.len(), 1, "{reason:?}");
            assert!(all[0].ends_with('.'), "{all:?}");
        }
        assert!(
            advice(&incident("", None), false, "x").is_empty() && advice(&incident("new", None), false, "x").is_empty()
        );
        assert_eq!(advice(&incident("node", Some("node-wide")), false, "x").len(), 1, "the same once");
        assert!(advice(&incident("", Some("new")), false, "x")[0].contains("upgrade"));
    }

    #[test]
    fn commands_can_be_copied() {
        let all = advice(&incident("leak", Some("too-fast")), false, "kubectl preoom");
        assert_eq!(all.len(), 2);
        assert!(all.iter().all(|text| text.contains("`kubectl preoom recommend deploy/web -n shop`")), "{all:?}");
        assert!(advice(&incident("spike", None), false, "x")[0].contains("raise-limit-to: \"512Mi\""));
        assert!(advice(&incident("spike", Some("blocked")), false, "x")[1].contains("raise-limit-to"));
        let mut raised = incident("spike", None);
        raised.it.steps[0].reason = "PreOOMRaised".into();
        assert!(advice(&raised, false, "x")[0].contains("recommend"));
        let mut unreclaimable = incident("cache", None);
        unreclaimable.it.facts.signal = Some("unreclaimable".into());
        assert!(!advice(&unreclaimable, false, "x")[0].contains("memory-signal"));
    }

    /// A raise is advised only where it can help, and is not asked for already.
    #[test]
    fn a_raise_is_not_advised_where_it_cannot_help_or_is_listed_already() {
        let raise = |of: &Of<IncidentView>, raises| {
            let all = advice(of, raises, "x");
            assert!(
                !all.is_empty() && all.iter().any(|text| text.contains("recommend")) != all[0].contains("raise,evict")
            );
            all.iter().any(|text| text.contains("raise,evict"))
        };
        assert!(raise(&incident("spike", None), false));
        assert!(!raise(&incident("spike", None), true), "the workload lists it");
        assert!(!raise(&incident("spike", Some("too-fast")), false));
        let mut group = incident("spike", None);
        group.it.container = None;
        assert!(!raise(&group, false), "only a container can be resized");
        for words in [
            "Evicted before the kernel's OOM killer: x; passed over: raise (its limit has reached raise-limit-to)",
            "Nothing can be done before the kernel's OOM killer: raise: it was tried a moment ago; x",
            "The raise had no effect within 160 ms; later, no time would be left for the next remedy: x",
            "Raise of its limit refused (403: no); not tried again until the pod's spec changes: x",
        ] {
            let mut listed = incident("spike", None);
            listed.it.steps[0].words = words.into();
            assert!(!raise(&listed, false), "{words}");
        }
    }
}
