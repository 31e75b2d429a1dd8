//! What an eviction means for the others: disruption budgets, the other replicas, the owner.

use super::objects::Budget;
use super::rules::Judge;
use super::tree::Node;

impl Judge<'_> {
    /// What an eviction means for the others: budgets, replicas, the owner.
    pub(super) fn company(&mut self, budgets: &[Budget<'_>]) {
        let object = self.template.object;
        let ours: Vec<_> = budgets.iter().filter(|b| b.selects(self.template)).collect();
        for budget in &ours {
            if let Some((field, why)) = budget.never_allows(self.template) {
                let name = budget.object.name();
                let line = budget.object.node.at(&["spec", field]).map_or(budget.object.node.line, |n| n.line);
                let place = (format!("spec.{field} of PodDisruptionBudget/{name}"), line);
                let text = format!("it can never allow an eviction of {}/{}: {why}", object.kind, object.name());
                self.warn("pdb-blocks", place, text);
                if let Some(last) = self.said.findings.last_mut() {
                    budget.object.file.clone_into(&mut last.file);
                }
            }
        }
        if ours.len() > 1 {
            let names: Vec<_> = ours.iter().map(|b| b.object.name()).collect();
            let text = format!(
                "several budgets select its pods ({}), and then every eviction fails: leave one",
                names.join(", ")
            );
            self.warn("pdb-several", self.place(&["metadata", "labels"]), text);
        }
        let replicas =
            (self.template.object.node.at(&["spec", "replicas"]).or(object.node.get("spec"))).map_or(0, |n| n.line);
        let replicas_place = || ("spec.replicas".to_owned(), replicas);
        match self.template.replicas() {
            Some(1) if ours.is_empty() && !self.template.surges() => {
                let text =
                    "an eviction leaves none until the next pod is ready: write 2 or more, with a PodDisruptionBudget";
                self.warn("one-replica", replicas_place(), text);
            }
            Some(2..) if ours.is_empty() => {
                let text = "no PodDisruptionBudget in the input selects its pods, so all of them could be evicted at once: \
                            write one, with maxUnavailable 1";
                self.warn("no-pdb", replicas_place(), text);
            }
            _ => {}
        }
        match object.kind {
            "Pod" if object.node.at(&["metadata", "ownerReferences"]).is_none_or(|o| o.items().is_empty()) => {
                let text = "nobody starts a bare pod again once it is evicted: write a Deployment, StatefulSet or Job";
                self.warn(
                    "bare-pod",
                    ("kind".into(), object.node.get("kind").map_or(object.node.line, |n| n.line)),
                    text,
                );
            }
            "Job" | "CronJob" if self.never_restarts() && !self.forgives_disruption() => {
                let text = "each eviction counts as a failure against backoffLimit: write OnFailure, or a podFailurePolicy \
                            that ignores the condition DisruptionTarget";
                self.warn("job-never-restarts", self.place(&["spec", "restartPolicy"]), text);
            }
            _ => {}
        }
    }

    fn never_restarts(&self) -> bool {
        self.template.node.at(&["spec", "restartPolicy"]).and_then(Node::scalar) == Some("Never")
    }

    fn forgives_disruption(&self) -> bool {
        let spec: &[&str] =
            if self.template.object.kind == "Job" { &["spec"] } else { &["spec", "jobTemplate", "spec"] };
        let rules = self.template.object.node.at(spec).and_then(|s| s.at(&["podFailurePolicy", "rules"]));
        rules.map_or(&[][..], Node::items).iter().any(|rule| {
            let conditions = rule.get("onPodConditions").map_or(&[][..], Node::items);
            rule.get("action").and_then(Node::scalar) == Some("Ignore")
                && conditions.iter().any(|c| c.get("type").and_then(Node::scalar) == Some("DisruptionTarget"))
        })
    }
}
