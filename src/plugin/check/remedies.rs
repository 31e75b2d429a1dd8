//! Which of the remedies are possible for a container, up to which growth each is in time, and what to write for the others.

use super::finding::{Code, Place, Severity};
use super::template_check::TemplateCheck;
use super::tree::Node;
use crate::decide::ladder::{self, Latencies, NotPossible, fastest_in_time};
use crate::decide::step::{self, NodeLimit, NodeMargin, RaiseInputs, restart};
use crate::ground::keys;
use crate::ground::units::Bytes;
use crate::pods::guard::{Guard, Remedy, Threshold};
use crate::pods::{Container, Pod};

/// What is assumed before anything was measured; the agent learns each anew.
fn assumed() -> Latencies {
    Latencies::new(ladder::RAISE, ladder::RESTART, ladder::EVICT)
}

impl TemplateCheck<'_> {
    /// Up to which growth each remedy is in time. `evict`: up to which an eviction is.
    pub(super) fn in_time(
        &mut self,
        guard: &Guard,
        pod: &Pod,
        name: Option<&str>,
        margin: Bytes,
        evict: &str,
    ) -> String {
        match guard.remedies[..] {
            [Remedy::Evict] => format!("; in time up to {evict}"),
            _ => self.remedies(guard, pod, name, margin, evict),
        }
    }

    /// `; in time: raise up to 96Mi/s, evict up to …`, for a list of more than an eviction; and a finding for each remedy that is
    /// left out.
    fn remedies(&mut self, guard: &Guard, pod: &Pod, name: Option<&str>, margin: Bytes, evict: &str) -> String {
        let container = pod.containers.iter().find(|c| Some(c.name.as_str()) == name);
        let (mut possible, mut left_out) = (Vec::new(), Vec::new());
        for remedy in &guard.remedies {
            match is_possible(guard, pod, container, *remedy) {
                Ok(()) => possible.push(*remedy),
                Err(why) => left_out.push((*remedy, why)),
            }
        }
        // The pod's own group is never resized, and nobody made a mistake.
        if let Some(name) = name {
            self.left_out(name, &left_out, possible.is_empty());
        }
        if possible.is_empty() {
            return "; no remedy is possible".to_owned();
        }
        let up_to = possible.iter().enumerate().map(|(i, remedy)| match remedy {
            Remedy::Evict => format!("evict up to {evict}"),
            _ => {
                let rate = fastest_in_time(*remedy, &possible[i + 1..], margin, &assumed());
                format!("{} up to {}/s", remedy.as_str(), Bytes(rate))
            }
        });
        format!("; in time: {}", up_to.collect::<Vec<_>>().join(", "))
    }

    fn left_out(&mut self, name: &str, remedies: &[(Remedy, NotPossible)], all: bool) {
        for (remedy, why) in remedies {
            // A list for several containers may have what suits one of them.
            let severity = if all { Severity::Error } else { Severity::Warning };
            let text = format!("{} is left out: {why}{}", remedy.as_str(), what_to_write(why));
            if is_of_policy(why) {
                self.add(severity, Code::RemedyLeftOut, self.resize_policy(name), text);
            } else {
                self.add_to_annotation(severity, Code::RemedyLeftOut, keys::REMEDIES, text);
            }
        }
    }

    /// Where the container's `resizePolicy` is, or belongs.
    fn resize_policy(&self, name: &str) -> Place {
        let lists = ["containers", "initContainers"].into_iter().flat_map(|list| {
            let items = self.template.node.at(&["spec", list]).map_or(&[][..], Node::items);
            items.iter().enumerate().map(move |(index, node)| (list, index, node))
        });
        let mut found = lists.filter(|(.., node)| node.get("name").and_then(Node::scalar) == Some(name));
        let Some((list, index, node)) = found.next() else { return self.place(&["spec"]) };
        let line = node.get("resizePolicy").unwrap_or(node).line;
        (self.template.field(&format!("spec.{list}[{index}].resizePolicy")), line)
    }
}

/// As the agent decides it, on a node that has memory.
fn is_possible(guard: &Guard, pod: &Pod, container: Option<&Container>, remedy: Remedy) -> Result<(), NotPossible> {
    if remedy == Remedy::Evict {
        return Ok(());
    }
    let container = container.ok_or(NotPossible::PodGroup)?;
    if remedy == Remedy::Restart {
        return restart(pod, container, Bytes(0)).map(drop);
    }
    let (Some(raise), Threshold::Percent(threshold)) = (guard.raise, guard.threshold) else {
        return Err(NotPossible::NoLimit);
    };
    let node = NodeMargin { bytes: Bytes(u64::MAX), limit: NodeLimit::Budget };
    let inputs = RaiseInputs { raise, growth: 0, threshold, value: Bytes(0), kernel: None, node };
    step::raise(pod, container, &inputs, &assumed()).map(drop)
}

fn is_of_policy(why: &NotPossible) -> bool {
    matches!(why, NotPossible::WouldRestart | NotPossible::WouldNotRestart)
}

fn what_to_write(why: &NotPossible) -> &'static str {
    match why {
        NotPossible::WouldRestart => ": write restartPolicy NotRequired there, or restart instead of raise",
        NotPossible::WouldNotRestart => {
            ": write [{resourceName: memory, restartPolicy: RestartContainer}] there, or raise instead of restart"
        }
        NotPossible::NoLimit => ": write resources.limits.memory",
        NotPossible::AtBound => ": write a larger raise-limit-to",
        NotPossible::PodLimit => ": write a larger spec.resources.limits.memory",
        NotPossible::NeverRestarted => ": leave restart out",
        _ => "",
    }
}
