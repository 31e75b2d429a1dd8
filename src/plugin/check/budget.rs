//! Disruption budgets: which pods they select, and whether they can ever allow an eviction.

use super::objects::{Object, Template};
use super::scale::{Replicas, Source};
use super::tree::Node;

#[derive(Clone, Copy, Debug)]
pub struct Budget<'a> {
    pub object: Object<'a>,
}

impl<'a> Budget<'a> {
    /// The object as a disruption budget, if it is one.
    #[must_use]
    pub fn of(object: Object<'a>) -> Option<Budget<'a>> {
        (object.kind == "PodDisruptionBudget" && object.is_of("policy")).then_some(Budget { object })
    }

    /// Whether it selects this template's pods.
    #[must_use]
    pub fn selects(&self, template: &Template<'_>) -> bool {
        let label =
            |key: &str| template.node.at(&["metadata", "labels"]).and_then(|l| l.get(key)).and_then(Node::scalar);
        let Some(selector) = self.object.node.at(&["spec", "selector"]) else { return false };
        let mut equal = selector.get("matchLabels").into_iter().flat_map(Node::entries);
        let mut others = selector.get("matchExpressions").map_or(&[][..], Node::items).iter();
        self.object.may_share_namespace(template.object)
            && equal.all(|(key, value)| label(key) == Some(value.scalar().unwrap_or_default()))
            && others.all(|test| {
                let key = test.get("key").and_then(Node::scalar).unwrap_or_default();
                let values = test.get("values").map_or(&[][..], Node::items);
                let among = label(key).is_some_and(|v| values.iter().any(|other| other.scalar() == Some(v)));
                match test.get("operator").and_then(Node::scalar) {
                    Some("In") => among,
                    Some("NotIn") => !among,
                    Some("Exists") => label(key).is_some(),
                    Some("DoesNotExist") => label(key).is_none(),
                    _ => false,
                }
            })
    }

    /// Why it can never allow an eviction of one of this template's pods, with the field that says so. `replicas`: how many
    /// there are; none where the kind does not say. `alone`: the budget selects no other pods.
    #[must_use]
    pub fn never_allows(
        &self,
        template: &Template<'_>,
        replicas: Option<&Replicas<'_>>,
        alone: bool,
    ) -> Option<(&'static str, String)> {
        let bound = |key| self.object.node.at(&["spec", key]).and_then(Node::scalar);
        let percent = |text: &str| text.strip_suffix('%').and_then(|p| p.parse::<i64>().ok());
        // For a bare pod it depends on the other pods that the budget selects.
        let unscaled = |field, with| {
            (replicas.is_none() && template.object.kind != "Pod").then(|| (field, unscaled(template, with)))
        };
        if let Some(most) = bound("maxUnavailable") {
            if percent(most).or_else(|| most.parse().ok()) == Some(0) {
                return Some(("maxUnavailable", format!("maxUnavailable {most} allows none: write at least 1")));
            }
            return unscaled("maxUnavailable", "maxUnavailable");
        }
        let least = bound("minAvailable")?;
        let Some(replicas) = replicas else {
            return percent(least).and_then(|_| unscaled("minAvailable", "a percentage"));
        };
        // Percentages are rounded up, as the disruption controller does.
        let needed = match percent(least) {
            Some(percent) => (percent.saturating_mul(replicas.most)).saturating_add(99) / 100,
            None => least.parse().ok()?,
        };
        let all = percent(least).is_some_and(|percent| percent >= 100);
        (needed >= replicas.most && (alone || all)).then(|| {
            let of = counted(replicas);
            ("minAvailable", format!("minAvailable {least} of {of} allows none: write less, or maxUnavailable 1"))
        })
    }
}

/// "3 pods", and where the number is from.
fn counted(replicas: &Replicas<'_>) -> String {
    let count = replicas.most;
    let pods = if count == 1 { "pod" } else { "pods" };
    match replicas.from {
        Source::Written => format!("{count} {pods}"),
        Source::Assumed => format!("{count} {pods} (replicas is not set, so 1)"),
        Source::Autoscaler(by) => {
            format!("at most {count} {pods} ({}/{})", by.object.kind, by.object.name())
        }
    }
}

/// The disruption controller asks the owner's `scale` how many pods there should be.
fn unscaled(template: &Template<'_>, with: &str) -> String {
    format!(
        "with {with} the budget depends on how many pods there should be, which a {} does not say: \
         write minAvailable as a number",
        template.object.kind
    )
}

#[cfg(test)]
mod tests {
    use super::super::input::Input;
    use super::super::objects::objects;
    use super::*;

    /// Whether a budget selects and blocks a workload.
    fn verdict(workload: &str, budget: &str) -> (bool, bool) {
        let mut input = Input::default();
        let labels = "{metadata: {labels: {app: web, tier: front}}, spec: {}}";
        let workload = workload.replace("TEMPLATE", labels);
        input.take_text(
            "f",
            &format!("{workload}\n---\n{{kind: PodDisruptionBudget, apiVersion: policy/v1, spec: {budget}}}"),
            true,
        );
        assert_eq!(input.unreadable, []);
        let all = objects(&input.documents);
        let (template, budget) = (all[0].template().unwrap(), Budget::of(all[1]).unwrap());
        let replicas = Replicas::of(&template, &[]);
        (budget.selects(&template), budget.never_allows(&template, replicas.as_ref(), true).is_some())
    }

    #[test]
    fn budgets_select_as_the_server_does() {
        let deployment = "{kind: Deployment, apiVersion: apps/v1, spec: {replicas: 3, template: TEMPLATE}}";
        for (selector, selects) in [
            ("{matchLabels: {app: web}}", true),
            ("{matchLabels: {app: web, tier: back}}", false),
            ("{}", true),
            ("{matchExpressions: [{key: app, operator: In, values: [web, db]}]}", true),
            ("{matchExpressions: [{key: app, operator: NotIn, values: [web]}]}", false),
            ("{matchExpressions: [{key: nope, operator: DoesNotExist}, {key: tier, operator: Exists}]}", true),
            ("null", false),
        ] {
            let found = verdict(deployment, &format!("{{maxUnavailable: 1, selector: {selector}}}"));
            assert_eq!(found, (selects, false), "{selector}");
        }
    }

    #[test]
    fn budgets_that_never_allow_an_eviction() {
        let three = "{kind: Deployment, apiVersion: apps/v1, spec: {replicas: 3, template: TEMPLATE}}";
        let one = "{kind: StatefulSet, apiVersion: apps/v1, spec: {template: TEMPLATE}}";
        let each = "{kind: DaemonSet, apiVersion: apps/v1, spec: {template: TEMPLATE}}";
        let pod = "{kind: Pod, apiVersion: v1, metadata: {labels: {app: web}}, spec: {}}";
        for (workload, budget, never) in [
            (three, "maxUnavailable: 0", true),
            (three, "maxUnavailable: 0%", true),
            (three, "maxUnavailable: 1%", false), // rounded up
            (three, "minAvailable: 2", false),
            (three, "minAvailable: 3", true),
            (three, "minAvailable: 66%", false),
            (three, "minAvailable: 67%", true), // 2.01, rounded up
            (three, "minAvailable: 100%", true),
            (one, "minAvailable: 1", true),
            (one, "minAvailable: 1%", true),
            (one, "minAvailable: 0", false),
            (each, "maxUnavailable: 1", true),
            (each, "minAvailable: 50%", true),
            (each, "minAvailable: 1", false),
            (pod, "maxUnavailable: 1", false),
            (pod, "maxUnavailable: 0", true),
        ] {
            assert_eq!(
                verdict(workload, &format!("{{{budget}, selector: {{}}}}")),
                (true, never),
                "{workload} {budget}"
            );
        }
    }
}
