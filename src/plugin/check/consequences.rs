//! What an eviction means for the others: disruption budgets, the other replicas, the owner.

use super::budget::Budget;
use super::finding::{Code, Place, Severity};
use super::objects::Object;
use super::scale::{Replicas, Source};
use super::surroundings::Surroundings;
use super::template_check::TemplateCheck;
use super::tree::Node;

impl<'a> TemplateCheck<'a> {
    /// Looks for all of them.
    pub(super) fn consequences(&mut self, surroundings: &Surroundings<'a>) {
        let template = self.template;
        let budgets: Vec<_> = surroundings.budgets.iter().filter(|b| b.selects(template)).collect();
        self.several_budgets(&budgets);
        let replicas = Replicas::of(template, &surroundings.autoscalers);
        // An object that a controller made is checked with its owner; and with no pods there are no evictions.
        if !template.object.is_controlled() && replicas.is_none_or(|r| r.most > 0) {
            self.blocking(surroundings, &budgets, replicas.as_ref());
            if let Some(replicas) = replicas.filter(|_| budgets.is_empty()) {
                self.without_budget(&replicas);
            }
        }
        match template.object.kind {
            "Pod" => self.bare_pod(),
            "Job" | "CronJob" => self.job(),
            _ => {}
        }
    }

    fn several_budgets(&mut self, budgets: &[&Budget<'_>]) {
        if budgets.len() > 1 {
            let names: Vec<_> = budgets.iter().map(|b| b.object.name()).collect();
            let text = format!(
                "several PodDisruptionBudgets select its pods ({}), so the API server refuses every eviction: keep only one",
                names.join(", ")
            );
            self.warn(Code::PdbSeveral, self.place(&["metadata", "labels"]), text);
        }
    }

    fn blocking(&mut self, surroundings: &Surroundings<'a>, budgets: &[&Budget<'_>], replicas: Option<&Replicas<'_>>) {
        let object = self.template.object;
        for budget in budgets {
            let alone = surroundings.selects_alone(budget, self.template);
            if let Some((field, why)) = budget.never_allows(self.template, replicas, alone) {
                let text = format!("it can never allow an eviction of {}/{}: {why}", object.kind, object.name());
                self.add_to(budget.object, Severity::Warning, Code::PdbBlocks, spec_field(budget.object, field), text);
            }
        }
    }

    fn without_budget(&mut self, replicas: &Replicas<'_>) {
        let (object, place) = match replicas.from {
            Source::Written | Source::Assumed => {
                let node = self.template.object.node;
                let line = node.at(&["spec", "replicas"]).or(node.get("spec")).map_or(0, |n| n.line);
                (self.template.object, ("spec.replicas".to_owned(), line))
            }
            Source::Autoscaler(by) => (by.object, spec_field(by.object, by.least_field())),
        };
        if replicas.least > 1 {
            let text = "no PodDisruptionBudget in the input selects its pods, so all of them could be evicted at once: \
                        add one with maxUnavailable 1";
            self.add_to(object, Severity::Warning, Code::NoPdb, place, text);
            return;
        }
        let assumed = match replicas.from {
            Source::Written => "",
            Source::Assumed => "replicas is not set, so it is 1, and ",
            Source::Autoscaler(_) => "it may be scaled down to 1, and then ",
        };
        let surge = if self.template.surges() { " (maxSurge is for rollouts, and does not help here)" } else { "" };
        let text = format!(
            "{assumed}an eviction leaves no pod until the next one is ready{surge}: set 2 or more, with a PodDisruptionBudget"
        );
        self.add_to(object, Severity::Warning, Code::OneReplica, place, text);
    }

    fn bare_pod(&mut self) {
        let object = self.template.object;
        if !object.is_controlled() {
            let text = "nothing starts a bare pod again after an eviction: use a Deployment, StatefulSet or Job";
            let line = object.node.get("kind").map_or(object.node.line, |n| n.line);
            self.warn(Code::BarePod, ("kind".into(), line), text);
        }
    }

    /// The Job controller counts a pod that is deleted before it succeeds as failed, whatever its `restartPolicy`.
    fn job(&mut self) {
        let rules = self.failure_rules();
        if rules.first().is_some_and(ignores_disruption) {
            return;
        }
        let written = self.template.node.at(&["spec", "restartPolicy"]).and_then(Node::scalar);
        let remedy = if rules.iter().any(ignores_disruption) {
            "put the rule that ignores the condition DisruptionTarget first in podFailurePolicy (one before it may take the exit \
             code of SIGTERM, 143)"
        } else if written == Some("Never") {
            "write a podFailurePolicy whose first rule ignores the condition DisruptionTarget"
        } else {
            "write Never, with a podFailurePolicy whose first rule ignores the condition DisruptionTarget"
        };
        let text = format!("each eviction counts as a failure against backoffLimit: {remedy}, or raise backoffLimit");
        self.warn(Code::JobFailure, self.place(&["spec", "restartPolicy"]), text);
    }

    fn failure_rules(&self) -> &'a [Node] {
        let spec: &[&str] =
            if self.template.object.kind == "Job" { &["spec"] } else { &["spec", "jobTemplate", "spec"] };
        let rules = self.template.object.node.at(spec).and_then(|s| s.at(&["podFailurePolicy", "rules"]));
        rules.map_or(&[][..], Node::items)
    }
}

/// A rule of a podFailurePolicy after which an evicted pod does not count.
fn ignores_disruption(rule: &Node) -> bool {
    let conditions = rule.get("onPodConditions").map_or(&[][..], Node::items);
    rule.get("action").and_then(Node::scalar) == Some("Ignore")
        && conditions.iter().any(|condition| {
            condition.get("type").and_then(Node::scalar) == Some("DisruptionTarget")
                && condition.get("status").and_then(Node::scalar).is_none_or(|status| status == "True")
        })
}

/// A field of another object's spec, and its line.
fn spec_field(object: Object<'_>, field: &str) -> Place {
    let line = object.node.at(&["spec", field]).map_or(object.node.line, |n| n.line);
    (format!("spec.{field} of {}/{}", object.kind, object.name()), line)
}
