//! Disruption budgets: whether one selects the pods of a workload.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use k8s_openapi::api::core::v1::Pod;
use k8s_openapi::api::policy::v1::PodDisruptionBudget;
use kube::Client;
use kube::api::ListParams;
use kube::core::{Selector, SelectorExt};

use crate::ground::keys::{ENABLED, LABEL};
use crate::plugin::agents::lists::{api_in, list, list_metadata};

/// A budget of a namespace.
#[derive(Clone, Debug)]
pub struct Budget {
    pub namespace: String,
    pub name: String,
    /// None: it selects nothing.
    selector: Option<Selector>,
}

/// The labels of pods by their uids.
pub type Labels = BTreeMap<String, BTreeMap<String, String>>;

/// Whether a workload has a budget.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Covered {
    /// By these.
    By(BTreeSet<String>),
    /// It has one pod, of which a budget would allow no eviction at all; or a DaemonSet runs one on each node.
    NotNeeded,
    Missing,
    NotKnown,
}

/// All budgets.
///
/// # Errors
/// In words, when they cannot be listed.
pub async fn budgets(client: &Client, namespace: Option<&str>, timeout: Duration) -> Result<Vec<Budget>, String> {
    let api = api_in::<PodDisruptionBudget>(client, namespace);
    let found = list(&api, ListParams::default(), timeout).await.map_err(|why| match why.starts_with("403") {
        true => "may not list PodDisruptionBudgets (daemonset/status-reader.yaml has the permission)".to_owned(),
        false => format!("cannot list PodDisruptionBudgets: {why}"),
    })?;
    let budget = |budget: PodDisruptionBudget| Budget {
        namespace: budget.metadata.namespace.unwrap_or_default(),
        name: budget.metadata.name.unwrap_or_default(),
        selector: budget.spec.and_then(|spec| spec.selector).and_then(|selector| selector.try_into().ok()),
    };
    Ok(found.into_iter().map(budget).collect())
}

/// The labels of all guarded pods that match a selector.
///
/// # Errors
/// In words, when they cannot be listed.
pub async fn labels(
    client: &Client,
    namespace: Option<&str>,
    selector: Option<&str>,
    timeout: Duration,
) -> Result<Labels, String> {
    let api = api_in::<Pod>(client, namespace);
    let labels = selector.iter().fold(format!("{LABEL}={ENABLED}"), |all, more| format!("{all},{more}"));
    let found = list_metadata(usize::MAX, &api, ListParams::default().labels(&labels), timeout).await?;
    let of =
        |pod: kube::api::PartialObjectMeta<Pod>| Some((pod.metadata.uid?, pod.metadata.labels.unwrap_or_default()));
    Ok(found.into_iter().filter_map(of).collect())
}

/// Whether one of the budgets selects a pod of these. `workload`: `Deployment/web`.
#[must_use]
pub fn covered(
    pods: &BTreeSet<String>,
    (namespace, workload): (&str, &str),
    labels: &Labels,
    budgets: Option<&[Budget]>,
) -> Covered {
    if pods.len() < 2 || kind(workload) == "DaemonSet" {
        return Covered::NotNeeded;
    }
    let known: Vec<_> = pods.iter().filter_map(|uid| labels.get(uid)).collect();
    let Some(budgets) = budgets.filter(|_| !known.is_empty()) else { return Covered::NotKnown };
    let selects = |budget: &&Budget| {
        let selector = budget.selector.as_ref().filter(|_| budget.namespace == namespace);
        selector.is_some_and(|selector| known.iter().any(|labels| selector.matches(labels)))
    };
    let names: BTreeSet<String> = budgets.iter().filter(selects).map(|budget| budget.name.clone()).collect();
    if names.is_empty() { Covered::Missing } else { Covered::By(names) }
}

/// What to write in a budget for so many pods. The disruption controller knows how many there should be only of kinds with a
/// scale; for the others it takes nothing but a number of pods that must be left.
#[must_use]
pub fn advised(workload: &str, pods: usize) -> String {
    match kind(workload) {
        "Deployment" | "ReplicaSet" | "StatefulSet" | "ReplicationController" => "maxUnavailable: 1".into(),
        _ => format!("minAvailable: {}", pods.saturating_sub(1)),
    }
}

fn kind(workload: &str) -> &str {
    workload.split('/').next().unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;
    use k8s_openapi::apimachinery::pkg::apis::meta::v1::LabelSelector;

    const WEB: (&str, &str) = ("shop", "Deployment/web");

    /// As `check` says of budgets that never allow an eviction.
    #[test]
    fn only_kinds_with_a_scale_are_told_to_bound_what_is_unavailable() {
        for (workload, expected) in [
            ("Deployment/web", "maxUnavailable: 1"),
            ("StatefulSet/db", "maxUnavailable: 1"),
            ("ReplicaSet/web", "maxUnavailable: 1"),
            ("Job/import", "minAvailable: 2"),
            ("Rollout/web", "minAvailable: 2"),
        ] {
            assert_eq!(advised(workload, 3), expected, "{workload}");
        }
    }

    fn budget(namespace: &str, selector: Option<&str>) -> Budget {
        let selector = selector.map(|text| serde_json::from_str::<LabelSelector>(text).unwrap());
        Budget { namespace: namespace.into(), name: "b".into(), selector: selector.and_then(|s| s.try_into().ok()) }
    }

    #[test]
    fn a_budget_is_missing_where_none_selects_a_pod() {
        let uids = |all: &[&str]| all.iter().map(|uid| (*uid).to_owned()).collect::<BTreeSet<_>>();
        let web: BTreeMap<_, _> = [("app".to_owned(), "web".to_owned())].into();
        let labels: Labels = [("a".to_owned(), web.clone()), ("b".to_owned(), web)].into();
        let of = |budgets: &[Budget]| covered(&uids(&["a", "b"]), WEB, &labels, Some(budgets));
        for (selector, covers) in [
            (r#"{"matchLabels": {"app": "web"}}"#, true),
            (r#"{"matchLabels": {"app": "db"}}"#, false),
            (r#"{"matchExpressions": [{"key": "app", "operator": "In", "values": ["db", "web"]}]}"#, true),
            (r#"{"matchExpressions": [{"key": "app", "operator": "DoesNotExist"}]}"#, false),
            // In policy/v1 an empty one selects all.
            ("{}", true),
        ] {
            let covered = of(&[budget("shop", Some(selector))]);
            assert_eq!(covered == Covered::By(uids(&["b"])), covers, "{selector}");
            assert_eq!(covered == Covered::Missing, !covers, "{selector}");
        }
        assert_eq!(of(&[budget("shop", None), budget("other", Some("{}"))]), Covered::Missing);
        assert_eq!(covered(&uids(&["a"]), WEB, &labels, Some(&[])), Covered::NotNeeded);
        assert_eq!(covered(&uids(&["a", "b"]), WEB, &labels, None), Covered::NotKnown);
        assert_eq!(covered(&uids(&["x", "y"]), WEB, &labels, Some(&[])), Covered::NotKnown, "gone since");
        let each_node = covered(&uids(&["a", "b"]), ("shop", "DaemonSet/web"), &labels, Some(&[]));
        assert_eq!(each_node, Covered::NotNeeded);
    }
}
