//! What a pod is stamped with in a namespace that is guarded as a whole: the same cases for the expressions alone
//! (`tests/policies.rs`) and for a real API server (`tests/apiserver/namespaces.rs`).

use std::collections::BTreeMap;

use pre_oom_killer::ground::keys;
use pre_oom_killer::ground::keys::PREFIX;
use serde_json::{Map, Value, json};

/// A pod that is made in a namespace.
pub struct Case {
    /// In words.
    pub what: String,
    pub namespace: Namespace,
    /// As its controller sends it.
    pub pod: Value,
    /// Our annotations that it gets, without their prefix, beside the stamp itself; None: neither these nor the label.
    pub stamp: Option<BTreeMap<String, String>>,
}

/// What decides of a namespace.
#[derive(Clone)]
pub struct Namespace {
    /// None: any.
    pub name: Option<String>,
    pub labels: Value,
    /// Ours, with their prefix.
    pub annotations: Value,
}

/// An opted-in namespace with annotations of ours.
fn enabled(annotations: &[(&str, &str)]) -> Namespace {
    Namespace { name: None, labels: json!({"pre-oom-killer": "enabled"}), annotations: ours(annotations) }
}

fn ours(annotations: &[(&str, &str)]) -> Value {
    let ours = annotations.iter().map(|(key, value)| (format!("{PREFIX}{key}"), json!(value)));
    ours.collect::<Map<_, _>>().into()
}

/// A pod as a ReplicaSet makes it.
pub fn made(containers: &[&str], annotations: &[(&str, &str)]) -> Value {
    let containers: Vec<_> =
        containers.iter().map(|name| json!({"name": name, "image": "example.com/image"})).collect();
    let mut pod = json!({
        "metadata": {"generateName": "web-", "labels": {"app": "web"}, "ownerReferences": [owner("apps/v1", "ReplicaSet")]},
        "spec": {"containers": containers},
    });
    if !annotations.is_empty() {
        pod["metadata"]["annotations"] = ours(annotations);
    }
    pod
}

fn owner(version: &str, kind: &str) -> Value {
    json!({"apiVersion": version, "kind": kind, "name": "web", "uid": "u", "controller": true})
}

fn map(pairs: &[(&str, &str)]) -> BTreeMap<String, String> {
    pairs.iter().map(|(key, value)| ((*key).to_owned(), (*value).to_owned())).collect()
}

/// All of them, where the agent is in the namespace `own` and `threshold` is the chart's.
pub fn cases(own: &str, threshold: &str) -> Vec<Case> {
    let mut all = Vec::new();
    let mut case = |what: &str, namespace: &Namespace, pod: Value, stamp: Option<BTreeMap<String, String>>| {
        all.push(Case { what: what.to_owned(), namespace: namespace.clone(), pod, stamp });
    };
    let plain = map(&[(keys::THRESHOLD, threshold), (keys::TARGET, "app")]);
    let with = |changes: &[(&str, &str)]| {
        let mut all = plain.clone();
        all.extend(map(changes));
        Some(all)
    };
    let one = || made(&["app"], &[]);
    let edited = |edit: &dyn Fn(&mut Value)| {
        let mut pod = one();
        edit(&mut pod["metadata"]);
        pod
    };
    let remove = |of: &mut Value, key: &str| drop(of.as_object_mut().expect("an object").remove(key));
    case("a pod of a ReplicaSet", &enabled(&[]), one(), with(&[]));

    // Which namespaces.
    let named = |name: &str| Namespace { name: Some(name.to_owned()), ..enabled(&[]) };
    let labelled = |labels: Value| Namespace { labels, ..enabled(&[("sustained-for", "5s")]) };
    for (what, namespace) in [
        ("a namespace without the label", labelled(json!({}))),
        ("a namespace that is disabled", labelled(json!({"pre-oom-killer": "disabled"}))),
        ("a namespace with another value", labelled(json!({"pre-oom-killer": "true"}))),
        ("kube-system", named("kube-system")),
        ("the agent's own namespace", named(own)),
        (
            "the agent's own namespace, moved by an overlay",
            labelled(json!({"pre-oom-killer": "enabled", "app.kubernetes.io/name": "pre-oom-killer"})),
        ),
    ] {
        case(what, &namespace, one(), None);
    }

    // Which pods.
    let job = || edited(&|m| m["ownerReferences"] = json!([owner("batch/v1", "Job")]));
    let mut mirror = edited(&|m| {
        m["ownerReferences"] = json!([owner("v1", "Node")]);
        m["annotations"] = json!({"kubernetes.io/config.mirror": "hash"});
    });
    mirror["spec"]["nodeName"] = "node-host".into();
    for (what, pod) in [
        ("own label", edited(&|m| m["labels"]["pre-oom-killer"] = json!("enabled"))),
        ("left out", edited(&|m| m["labels"]["pre-oom-killer"] = json!("disabled"))),
        ("a bare pod", edited(&|m| remove(m, "ownerReferences"))),
        ("an owner that is no controller", edited(&|m| m["ownerReferences"][0]["controller"] = json!(false))),
        ("an owner that says nothing of it", edited(&|m| remove(&mut m["ownerReferences"][0], "controller"))),
        ("a Job's pod", job()),
        ("a mirror pod", mirror),
    ] {
        case(what, &enabled(&[(keys::SUSTAINED, "5s")]), pod, None);
    }
    for (what, pod) in [
        ("a pod without labels", edited(&|m| remove(m, "labels"))),
        ("a pod with other annotations", edited(&|m| m["annotations"] = json!({"example.com/a": "b"}))),
        ("a pod of a StatefulSet", edited(&|m| m["ownerReferences"] = json!([owner("apps/v1", "StatefulSet")]))),
        ("a pod of a DaemonSet", edited(&|m| m["ownerReferences"] = json!([owner("apps/v1", "DaemonSet")]))),
        ("a pod of somebody's own Job", edited(&|m| m["ownerReferences"] = json!([owner("example.com/v1", "Job")]))),
    ] {
        case(what, &enabled(&[]), pod, with(&[]));
    }
    let mut second = json!([owner("batch/v1", "Job"), owner("apps/v1", "ReplicaSet")]);
    remove(&mut second[0], "controller");
    let second = edited(&|m| m["ownerReferences"] = second.clone());
    case("a pod whose controller is the second owner", &enabled(&[]), second, with(&[]));
    for (said, guarded) in [("true", true), ("false", false), ("True", false), ("", false)] {
        let namespace = enabled(&[(keys::INCLUDE_JOBS, said)]);
        case(&format!("a Job's pod, include-jobs \"{said}\""), &namespace, job(), with(&[]).filter(|_| guarded));
    }

    // Which containers.
    case("several containers", &enabled(&[]), made(&["app", "proxy"], &[]), with(&[(keys::TARGET, "*")]));
    let mut sidecar = one();
    sidecar["spec"]["initContainers"] = json!([
        {"name": "setup", "image": "example.com/image"},
        {"name": "mesh", "image": "example.com/image", "restartPolicy": "Always"},
    ]);
    case("a native sidecar", &enabled(&[]), sidecar, with(&[]));

    // Each key: from the namespace, or the pod's own.
    let values = [
        (keys::TARGET, "*", "app"),
        (keys::THRESHOLD, "70", "60"),
        (keys::SPREAD, "5", "3"),
        (keys::SIGNAL, "usage", "unreclaimable"),
        (keys::SUSTAINED, "5s", "10s"),
        (keys::GRACE, "7", "9"),
        (keys::DRY_RUN, "client", "server"),
        (keys::FORCE_DELETE, "95", "90"),
        (keys::REMEDIES, "raise,evict", "evict"),
        (keys::RAISE_LIMIT_TO, "1Gi", "2Gi"),
        (keys::RAISE_BY, "50", "10"),
        (keys::WARN_THRESHOLD, "50", "40"),
        (keys::WARN_URL, ":8080/shrink", ":9090/"),
    ];
    assert_eq!(values.map(|(key, ..)| key), keys::ALL, "each key");
    // These go together.
    let together = [keys::REMEDIES, keys::RAISE_LIMIT_TO, keys::RAISE_BY, keys::WARN_THRESHOLD, keys::WARN_URL];
    for (key, of_namespace, of_pod) in values.into_iter().filter(|(key, ..)| !together.contains(key)) {
        let namespace = enabled(&[(key, of_namespace)]);
        case(&format!("{key} of the namespace"), &namespace, one(), with(&[(key, of_namespace)]));
        let mut rest = plain.clone();
        rest.remove(key);
        case(&format!("the pod's own {key}"), &namespace, made(&["app"], &[(key, of_pod)]), Some(rest));
    }
    let all_keys = values.map(|(key, of_namespace, _)| (key, of_namespace));
    case("every key of the namespace", &enabled(&all_keys), one(), with(&all_keys));
    case("every key of the pod's own", &enabled(&all_keys), made(&["app"], &all_keys), Some(map(&[])));
    // A spread is of a percentage, and below it: the namespace's is for thresholds that the pod did not choose.
    for threshold in ["512Mi", "4"] {
        let pod = made(&["app"], &[(keys::THRESHOLD, threshold)]);
        let stamp = Some(map(&[(keys::TARGET, "app")]));
        case(&format!("a spread, and the pod's own {threshold}"), &enabled(&[(keys::SPREAD, "5")]), pod, stamp);
    }
    let restart = (keys::REMEDIES, "restart,evict");
    case("remedies of the namespace", &enabled(&[restart]), one(), with(&[restart]));
    case("the pod's own remedies", &enabled(&[restart]), made(&["app"], &[(keys::REMEDIES, "evict")]), with(&[]));
    // A raise with its bound, wherever each of them is.
    let (raise, bound) = ((keys::REMEDIES, "raise,evict"), (keys::RAISE_LIMIT_TO, "1Gi"));
    let (by, own) = ((keys::RAISE_BY, "50"), (keys::RAISE_LIMIT_TO, "2Gi"));
    let raised = enabled(&[raise, bound, by]);
    case("a raise with its bounds", &raised, one(), with(&[raise, bound, by]));
    case("the pod's own bound", &raised, made(&["app"], &[own]), with(&[raise, by]));
    case("the pod's own step", &raised, made(&["app"], &[(keys::RAISE_BY, "10")]), with(&[raise, bound]));
    case("the bound of the pod's own raise", &enabled(&[bound]), made(&["app"], &[raise]), with(&[bound]));
    // A warning is below the threshold, and has both of its keys or none.
    let (warn, url) = ((keys::WARN_THRESHOLD, "50"), (keys::WARN_URL, ":8080/shrink"));
    let warned = enabled(&[warn, url]);
    case("a warning", &warned, one(), with(&[warn, url]));
    case("the pod's own warn-threshold", &warned, made(&["app"], &[(keys::WARN_THRESHOLD, "40")]), with(&[url]));
    case("the pod's own warn-url", &warned, made(&["app"], &[(keys::WARN_URL, ":9090/")]), with(&[warn]));
    let low = (keys::THRESHOLD, "45");
    let target = (keys::TARGET, "app");
    case("a warning, and the pod's own threshold", &warned, made(&["app"], &[low]), Some(map(&[target])));
    let both = made(&["app"], &[low, (keys::WARN_THRESHOLD, "40")]);
    case("the pod's own threshold and warn-threshold", &warned, both, Some(map(&[target, url])));
    let others = [("include-jobs", "true"), ("guarded-by", "somebody"), ("memory-treshold", "60")];
    case("what is no key of a pod", &enabled(&others), one(), with(&[]));
    all
}
