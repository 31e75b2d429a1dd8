//! What an eviction means for the others: disruption budgets, the other replicas, the owner.

use super::namespaces::Space;
use super::objects::{Budget, Object, Template};
use super::rules::{Judge, Level};
use super::scale::{Autoscaler, Replicas, Source};
use super::tree::Node;

/// What else of the input has a say when a pod is evicted.
#[derive(Debug, Default)]
pub struct Company<'a> {
    /// All disruption budgets.
    pub budgets: Vec<Budget<'a>>,
    /// All autoscalers.
    pub autoscalers: Vec<Autoscaler<'a>>,
    /// All namespaces.
    pub spaces: Vec<Space<'a>>,
    /// All pod templates.
    pub templates: Vec<Template<'a>>,
}

impl<'a> Company<'a> {
    /// Finds it among all objects.
    #[must_use]
    pub fn of(objects: &[Object<'a>]) -> Company<'a> {
        Company {
            budgets: objects.iter().filter_map(|o| Budget::of(*o)).collect(),
            autoscalers: objects.iter().filter_map(|o| Autoscaler::of(*o)).collect(),
            spaces: objects.iter().filter_map(|o| Space::of(*o)).collect(),
            templates: objects.iter().filter_map(|o| o.template()).collect(),
        }
    }

    /// A budget counts the pods of all workloads that it selects: whether it selects this one's alone.
    fn is_alone(&self, template: &Template<'_>, budget: &Budget<'_>) -> bool {
        let mut others = self.templates.iter().filter(|other| !std::ptr::eq(other.node, template.node));
        !others.any(|other| !other.object.is_controlled() && budget.selects(other))
    }
}

impl<'a> Judge<'a> {
    /// What an eviction means for the others: budgets, replicas, the owner.
    pub(super) fn company(&mut self, company: &Company<'a>) {
        let template = self.template;
        let budgets: Vec<_> = company.budgets.iter().filter(|b| b.selects(template)).collect();
        self.several_budgets(&budgets);
        let replicas = Replicas::of(template, &company.autoscalers);
        // What a controller made is judged by its owner, and of what is scaled to zero nothing is evicted.
        if !template.object.is_controlled() && replicas.is_none_or(|r| r.most > 0) {
            self.blocking(company, &budgets, replicas.as_ref());
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
                "several budgets select its pods ({}), and then every eviction fails: leave one",
                names.join(", ")
            );
            self.warn("pdb-several", self.place(&["metadata", "labels"]), text);
        }
    }

    fn blocking(&mut self, company: &Company<'a>, budgets: &[&Budget<'_>], replicas: Option<&Replicas<'_>>) {
        let object = self.template.object;
        for budget in budgets {
            let alone = company.is_alone(self.template, budget);
            if let Some((field, why)) = budget.never_allows(self.template, replicas, alone) {
                let text = format!("it can never allow an eviction of {}/{}: {why}", object.kind, object.name());
                self.find_in(budget.object, Level::Warning, "pdb-blocks", spec_field(budget.object, field), text);
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
                        write one, with maxUnavailable 1";
            self.find_in(object, Level::Warning, "no-pdb", place, text);
            return;
        }
        let assumed = match replicas.from {
            Source::Written => "",
            Source::Assumed => "replicas is not written, so 1, and ",
            Source::Autoscaler(_) => "it may be scaled down to 1, and then ",
        };
        let surge = if self.template.surges() { " (its surge is for rollouts, and does not help here)" } else { "" };
        let text = format!(
            "{assumed}an eviction leaves none until the next pod is ready{surge}: write 2 or more, with a PodDisruptionBudget"
        );
        self.find_in(object, Level::Warning, "one-replica", place, text);
    }

    fn bare_pod(&mut self) {
        let object = self.template.object;
        if !object.is_controlled() {
            let text = "nobody starts a bare pod again once it is evicted: write a Deployment, StatefulSet or Job";
            let line = object.node.get("kind").map_or(object.node.line, |n| n.line);
            self.warn("bare-pod", ("kind".into(), line), text);
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
        self.warn("job-failure", self.place(&["spec", "restartPolicy"]), text);
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
fn spec_field(object: Object<'_>, field: &str) -> (String, u64) {
    let line = object.node.at(&["spec", field]).map_or(object.node.line, |n| n.line);
    (format!("spec.{field} of {}/{}", object.kind, object.name()), line)
}
