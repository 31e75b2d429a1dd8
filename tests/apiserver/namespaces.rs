//! The policy for whole namespaces, as it is shipped: what the server itself makes of pods that are created.

use std::collections::BTreeMap;
use std::sync::Once;

use k8s_openapi::api::core::v1::{Namespace, ServiceAccount};
use libtest_mimic::Completion;
use pre_oom_killer::ground::keys;
use pre_oom_killer::ground::keys::{LABEL, PREFIX};
use serde_json::{Map, Value, json};

#[cfg(feature = "plugin")]
use crate::agent::soon;
use crate::cases::{Case, cases, made};
use crate::rights::{OWN_NS, documents};
use crate::server::{Answer, Who, request};
use crate::world::{Cluster, apply, create, poll};

const POLICY: &str = include_str!("../../daemonset/components/namespaces/policy.yaml");
/// A namespace that shows what the policy knows by now.
const CONTROL: &str = "stamped";

/// For a server that does not have the API.
fn too_old(cluster: &Cluster) -> Option<Completion> {
    let (major, minor) = cluster.server.version;
    ((major, minor) < (1, 36))
        .then(|| Completion::ignored_with(format!("policies that mutate on Kubernetes {major}.{minor}")))
}

/// Puts it in force, for good: it is about no other test's namespaces.
fn install(cluster: &Cluster) {
    static ONCE: Once = Once::new();
    ONCE.call_once(|| {
        documents(POLICY).iter().for_each(|object| apply(&cluster.server, object));
        make(cluster, CONTROL, &json!({LABEL: "enabled"}), &json!({}));
        poll("the policy", || {
            ours(&create_pod(cluster, CONTROL, &made(&["app"], &[])).json()).remove(keys::GUARDED_BY)
        });
    });
}

/// A namespace that is so from its begin: the server asks its store for one that its cache does not have yet.
fn make(cluster: &Cluster, name: &str, labels: &Value, annotations: &Value) {
    let metadata = json!({"name": name, "labels": labels, "annotations": annotations});
    create::<Namespace>(&cluster.server, None, json!({"metadata": metadata}));
    create::<ServiceAccount>(&cluster.server, Some(name), json!({"metadata": {"name": "default"}}));
}

/// A namespace of the server's or of another test is made so, and the policy knows it.
fn make_of(cluster: &Cluster, name: &str, labels: &Value, annotations: &Value) {
    for (path, name) in
        [("/api/v1/namespaces".to_owned(), name), (format!("/api/v1/namespaces/{name}/serviceaccounts"), "default")]
    {
        let object = json!({"metadata": {"name": name}}).to_string();
        let answer = cluster.server.send(&Who::admin(), request("POST", &path, &[], &object));
        assert!([201, 409].contains(&answer.code), "{}", answer.text);
    }
    let threshold = format!("{PREFIX}{}", keys::THRESHOLD);
    for (name, metadata) in [
        (name, json!({"labels": labels, "annotations": annotations})),
        // What comes later on the same watch.
        (CONTROL, json!({"annotations": {threshold: format!("{}", 10 + name.len())}})),
    ] {
        let headers = [("content-type", "application/merge-patch+json")];
        let change = json!({"metadata": metadata}).to_string();
        let path = format!("/api/v1/namespaces/{name}");
        let answer = cluster.server.send(&Who::admin(), request("PATCH", &path, &headers, &change));
        assert_eq!(answer.code, 200, "{}", answer.text);
    }
    poll("the namespace", || {
        let pod = create_pod(cluster, CONTROL, &made(&["app"], &[])).json();
        ours(&pod).remove(keys::THRESHOLD).filter(|threshold| *threshold == format!("{}", 10 + name.len()))
    });
}

fn create_pod(cluster: &Cluster, ns: &str, pod: &Value) -> Answer {
    let mut pod = pod.clone();
    pod["spec"]["automountServiceAccountToken"] = false.into();
    let path = format!("/api/v1/namespaces/{ns}/pods");
    cluster.server.send(&Who::admin(), request("POST", &path, &[], &pod.to_string()))
}

/// All of ours that a pod has.
fn ours(pod: &Value) -> BTreeMap<String, String> {
    let all = pod["metadata"]["annotations"].as_object().into_iter().flatten();
    all.filter_map(|(key, value)| Some((key.strip_prefix(PREFIX)?.to_owned(), value.as_str()?.to_owned()))).collect()
}

/// What a pod has of others.
fn others(pod: &Value) -> Map<String, Value> {
    let mut all = pod["metadata"]["annotations"].as_object().cloned().unwrap_or_default();
    all.retain(|key, _| !key.starts_with(PREFIX));
    all
}

/// Every case that the expressions are tried with: the server does the same.
pub fn pods_are_stamped_as_they_are_created(cluster: &Cluster) -> Completion {
    if let Some(ignored) = too_old(cluster) {
        return ignored;
    }
    install(cluster);
    let mut wrong = Vec::new();
    for (number, Case { what, namespace, pod, stamp }) in cases(OWN_NS, "80").into_iter().enumerate() {
        let ns = match &namespace.name {
            Some(name) => {
                make_of(cluster, name, &namespace.labels, &namespace.annotations);
                name.clone()
            }
            None => {
                let name = format!("stamped-{number}");
                make(cluster, &name, &namespace.labels, &namespace.annotations);
                name
            }
        };
        let answer = create_pod(cluster, &ns, &pod);
        assert_eq!(answer.code, 201, "{what}: {}", answer.text);
        let seen = answer.json();
        let (mut expected, mut labels) = (ours(&pod), pod["metadata"]["labels"].clone());
        if let Some(stamp) = stamp {
            expected.extend(stamp);
            expected.insert(keys::GUARDED_BY.into(), keys::BY_NAMESPACE.into());
            labels[LABEL] = "enabled".into();
        }
        let as_it_was = others(&seen) == others(&pod) && seen["metadata"]["labels"] == labels;
        if ours(&seen) != expected || !as_it_was {
            wrong.push(format!("{what}: {}, expected {labels} and {expected:?}", seen["metadata"]));
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
    Completion::Completed
}

/// What cannot be evaluated keeps no pod from being made. That it is in force shows where it may.
pub fn a_policy_that_fails_stops_no_pod(cluster: &Cluster) -> Completion {
    if let Some(ignored) = too_old(cluster) {
        return ignored;
    }
    let ns = "stamped-by-a-broken-one";
    make(cluster, ns, &json!({"broken": "yes"}), &json!({}));
    let broken = |failure_policy: Option<&str>| {
        let [mut policy, mut binding] = <[Value; 2]>::try_from(documents(POLICY)).expect("a policy and its binding");
        policy["metadata"]["name"] = "broken".into();
        binding["metadata"]["name"] = "broken".into();
        binding["spec"]["policyName"] = "broken".into();
        let spec = &mut policy["spec"];
        spec["matchConstraints"]["namespaceSelector"] = json!({"matchLabels": {"broken": "yes"}});
        let stamp = spec["variables"].as_array_mut().and_then(|all| all.last_mut()).expect("variables");
        assert_eq!(stamp["name"], "stamp");
        stamp["expression"] = "{'a': object.metadata.labels['no-such-label']}".into();
        if let Some(failure_policy) = failure_policy {
            spec["failurePolicy"] = failure_policy.into();
        }
        [policy, binding].iter().for_each(|object| apply(&cluster.server, object));
    };
    let answer = || create_pod(cluster, ns, &made(&["app"], &[]));
    broken(Some("Fail"));
    let refused = poll("it is in force", || Some(answer()).filter(|answer| answer.code != 201));
    assert!(refused.text.contains("no such key"), "{}", refused.text);
    broken(None);
    let made = poll("as it is shipped", || Some(answer()).filter(|answer| answer.code == 201)).json();
    assert!(ours(&made).is_empty() && made["metadata"]["labels"] == json!({"app": "web"}), "{}", made["metadata"]);
    Completion::Completed
}

/// Where a label comes after the pods, `status` names what they belong to, by selectors that the server takes; with the rights
/// of `status-reader.yaml` that is all it asks for.
#[cfg(feature = "plugin")]
pub fn pods_made_before_the_label_are_named(cluster: &Cluster) -> Completion {
    use pre_oom_killer::plugin::agents::query::Query;
    use pre_oom_killer::plugin::status::unguarded::unguarded;

    if let Some(ignored) = too_old(cluster) {
        return ignored;
    }
    install(cluster);
    let (ns, enabled) = ("stamped-late", json!({LABEL: "enabled"}));
    make(cluster, ns, &json!({}), &json!({}));
    let mut early = made(&["app"], &[]);
    early["metadata"]["ownerReferences"][0]["name"] = "web-58f6dff65f".into();
    early["metadata"]["labels"]["pod-template-hash"] = "58f6dff65f".into();
    for pod in [&early, &made(&["app"], &[])] {
        assert_eq!(create_pod(cluster, ns, pod).code, 201);
    }
    make_of(cluster, ns, &enabled, &json!({}));
    assert_eq!(create_pod(cluster, ns, &early).code, 201, "one that is stamped");
    let query = Query { namespace: Some(ns.into()), timeout: soon(), ..Query::default() };
    let found = cluster.server.as_(&Who::admin(), |client| async move { unguarded(&client, &query).await });
    let found: Vec<_> =
        found.expect("an answer").into_iter().map(|one| (one.owner, one.pods, one.mend.unwrap_or_default())).collect();
    assert_eq!(found.len(), 2, "{found:?}");
    let restart = format!("kubectl -n {ns} rollout restart deployment/web");
    assert_eq!(found[0], ("Deployment/web".into(), 1, restart));
    assert!(found[1].0 == "ReplicaSet/web" && found[1].2.starts_with(&format!("kubectl -n {ns} delete pod web-")));
    // Nobody's rights: told, not guessed.
    let query = Query { namespace: Some(ns.into()), timeout: soon(), ..Query::default() };
    let refused = cluster.server.as_(&cluster.nobody, |client| async move { unguarded(&client, &query).await });
    let why = refused.expect_err("no right");
    assert!(why.starts_with("403") && why.ends_with("you need permission to list namespaces"), "{why}");
    Completion::Completed
}

/// `status` is not in it.
#[cfg(not(feature = "plugin"))]
pub fn pods_made_before_the_label_are_named(_: &Cluster) -> Completion {
    Completion::ignored_with("built without the feature desk")
}
