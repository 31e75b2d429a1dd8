//! What the agent may change by `PATCH pods/resize`, and what nobody may who has its token: the same cases for the policy's
//! expressions alone (`tests/policies/resizes.rs`) and for a real API server (`tests/apiserver/resizes.rs`).

use serde_json::{Value, json};

/// The rules of the policy, in its order.
pub const OWN_NODE: usize = 0;
pub const OPTED_IN: usize = 1;
pub const POD_LEVEL: usize = 2;
pub const ONLY_MEMORY: usize = 3;
pub const REQUEST: usize = 4;
pub const ONLY_UP: usize = 5;
pub const RAISE: usize = 6;
pub const RESTART: usize = 7;

/// Which of the chart's `remedies` are on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Switches {
    pub raise: bool,
    pub restart: bool,
}

pub const BOTH: Switches = Switches { raise: true, restart: true };
pub const ONLY_RAISE: Switches = Switches { raise: true, restart: false };
pub const ONLY_RESTART: Switches = Switches { raise: false, restart: true };

/// A patch of a pod.
#[derive(Clone)]
pub struct Case {
    /// In words.
    pub what: &'static str,
    pub switches: Switches,
    /// The node in the token; `None`: the token is not bound to a pod.
    pub node: Option<&'static str>,
    /// The pod before it; its `spec.nodeName` is `a` or `b`.
    pub pod: Value,
    /// A strategic merge patch.
    pub patch: Value,
    /// By the policy's rules with these indices; none: allowed.
    pub denied_by: Vec<usize>,
    /// The server refuses it (422) before it asks the policy.
    pub invalid: bool,
}

/// An opted-in pod on node `a` with a bound of 512Mi; its container `app` has no resizePolicy, which is NotRequired, and
/// `edit` changes it.
fn pod(edit: impl FnOnce(&mut Value)) -> Value {
    let resources = json!({"requests": {"cpu": "100m", "memory": "128Mi"}, "limits": {"cpu": "1", "memory": "256Mi"}});
    let mut pod = json!({
        "metadata": {
            "labels": {"app": "x", "pre-oom-killer": "enabled"},
            "annotations": {"pre-oom-killer.v1alpha1.k8s.io/raise-limit-to": "512Mi"},
        },
        "spec": {"nodeName": "a", "containers": [{"name": "app", "image": "example.com/app", "resources": resources}]},
    });
    edit(&mut pod);
    pod
}

fn app(pod: &mut Value) -> &mut Value {
    &mut pod["spec"]["containers"][0]
}

fn remove(of: &mut Value, key: &str) {
    of.as_object_mut().expect("an object").remove(key);
}

/// A container is restarted when its memory changes.
fn restarts(container: &mut Value) {
    container["resizePolicy"] = json!([
        {"resourceName": "cpu", "restartPolicy": "NotRequired"},
        {"resourceName": "memory", "restartPolicy": "RestartContainer"},
    ]);
}

/// A container is restarted when its cpu changes.
fn cpu_restarts(pod: &mut Value) {
    restarts(app(pod));
    let policies = app(pod)["resizePolicy"].as_array_mut().expect("a list");
    for (policy, other) in policies.iter_mut().zip(["RestartContainer", "NotRequired"]) {
        policy["restartPolicy"] = other.into();
    }
}

/// A container that is restarted when its memory changes, of a pod without the annotation, which a restart does not need.
fn restarted(pod: &mut Value) {
    restarts(app(pod));
    remove(&mut pod["metadata"], "annotations");
}

fn guaranteed(pod: &mut Value) {
    app(pod)["resources"] =
        json!({"requests": {"cpu": "1", "memory": "256Mi"}, "limits": {"cpu": "1", "memory": "256Mi"}});
}

/// Two more containers, of which one has a limit beyond the bound and one has none, and both kinds of init containers.
fn several(pod: &mut Value) {
    let memory = json!({"requests": {"memory": "64Mi"}, "limits": {"memory": "64Mi"}});
    let above = json!({"requests": {"memory": "1Mi"}, "limits": {"memory": "1Gi"}});
    pod["spec"]["containers"].as_array_mut().expect("a list").extend([
        json!({"name": "more", "image": "example.com/more", "resources": above}),
        json!({"name": "bare", "image": "example.com/bare"}),
    ]);
    pod["spec"]["initContainers"] = json!([
        {"name": "setup", "image": "example.com/setup", "resources": memory},
        {"name": "mesh", "image": "example.com/mesh", "resources": memory, "restartPolicy": "Always"},
    ]);
}

fn pod_level(pod: &mut Value) {
    pod["spec"]["resources"] = json!({"requests": {"memory": "1Gi"}, "limits": {"memory": "1Gi"}});
}

/// As many containers as the agent reads of a pod.
fn many(pod: &mut Value) {
    let container = |index| {
        let resources = json!({"requests": {"memory": "128Mi"}, "limits": {"memory": "256Mi"}});
        json!({"name": format!("container-with-a-long-name-{index}"), "image": "example.com/app", "resources": resources})
    };
    pod["spec"]["containers"] = (0..100).map(container).collect();
}

/// A change of the first container's resources.
fn resources(resources: Value) -> Value {
    json!({"spec": {"containers": [{"name": "app", "resources": resources}]}})
}

fn limit(memory: &str) -> Value {
    resources(json!({"limits": {"memory": memory}}))
}

fn both(request: &str, limit: &str) -> Value {
    resources(json!({"requests": {"memory": request}, "limits": {"memory": limit}}))
}

fn init(name: &str, memory: &str) -> Value {
    json!({"spec": {"initContainers": [{"name": name, "resources": {"limits": {"memory": memory}}}]}})
}

fn case(what: &'static str, pod: Value, patch: Value, denied_by: &[usize]) -> Case {
    let denied_by = denied_by.to_vec();
    Case { what, switches: BOTH, node: Some("a"), pod, patch, denied_by, invalid: false }
}

/// All of them.
pub fn cases() -> Vec<Case> {
    [allowed(), whose(), what_may_change(), how_far()].concat()
}

fn allowed() -> Vec<Case> {
    let last = json!({"name": "container-with-a-long-name-99", "resources": {"limits": {"memory": "512Mi"}}});
    vec![
        case("a raise", pod(|_| {}), limit("384Mi"), &[]),
        case("a raise up to the bound", pod(|_| {}), limit("512Mi"), &[]),
        case("a raise up to the bound in another notation", pod(|_| {}), limit("536870912"), &[]),
        case("a raise of a Guaranteed pod", pod(guaranteed), both("384Mi", "384Mi"), &[]),
        case("a raise beside others that stay as they are", pod(several), limit("384Mi"), &[]),
        case("a raise of an init container", pod(several), init("setup", "65Mi"), &[]),
        case("a raise of a native sidecar", pod(several), init("mesh", "65Mi"), &[]),
        case("a raise below the pod's own limit", pod(pod_level), limit("384Mi"), &[]),
        case("a raise of the last of a hundred containers", pod(many), json!({"spec": {"containers": [last]}}), &[]),
        case("a restart", pod(restarted), limit("268435457"), &[]),
        case("a restart by the largest step", pod(restarted), limit("268439552"), &[]),
        case(
            "a restart of a Guaranteed pod",
            pod(|p| {
                guaranteed(p);
                restarted(p);
            }),
            both("268435457", "268435457"),
            &[],
        ),
        case("a raise of what a change of its cpu restarts", pod(cpu_restarts), limit("384Mi"), &[]),
        case("the same limit", pod(|_| {}), limit("256Mi"), &[]),
        case("the same limit in another notation", pod(|_| {}), limit("268435456"), &[]),
        case("nothing", pod(|_| {}), json!({"spec": {}}), &[]),
        Case { switches: ONLY_RAISE, ..case("a raise where nothing else is on", pod(|_| {}), limit("384Mi"), &[]) },
        Case {
            switches: ONLY_RESTART,
            ..case("a restart where nothing else is on", pod(restarted), limit("268435457"), &[])
        },
    ]
}

/// Rules of any change.
fn whose() -> Vec<Case> {
    let nowhere = pod(|p| remove(&mut p["spec"], "nodeName"));
    let labels = |labels: Value| pod(|p| p["metadata"]["labels"] = labels);
    let there = || pod(|p| p["spec"]["nodeName"] = json!("b"));
    let of = |node, what, pod, denied_by| Case { node, ..case(what, pod, limit("384Mi"), denied_by) };
    vec![
        of(Some("a"), "another node's pod", there(), &[OWN_NODE]),
        of(Some("b"), "by the other node's agent", there(), &[]),
        of(Some("a"), "a pod without a node", nowhere, &[OWN_NODE]),
        of(None, "an unbound token", pod(|_| {}), &[OWN_NODE]),
        of(Some("a"), "no label", labels(json!({"app": "x"})), &[OPTED_IN]),
        of(Some("a"), "no labels", pod(|p| remove(&mut p["metadata"], "labels")), &[OPTED_IN]),
        of(Some("a"), "switched off", labels(json!({"pre-oom-killer": "disabled"})), &[OPTED_IN]),
        case(
            "a label of the patch's own",
            labels(json!({"pre-oom-killer": "disabled"})),
            json!({"metadata": {"labels": {"pre-oom-killer": "enabled"}}, "spec": limit("384Mi")["spec"]}),
            &[OPTED_IN],
        ),
        // The agent's probe is such a patch of its own pod.
        case("nothing, of a pod without the label", labels(json!({"app": "x"})), json!({"spec": {}}), &[OPTED_IN]),
    ]
}

fn what_may_change() -> Vec<Case> {
    let no_limit = |p: &mut Value| app(p)["resources"] = json!({"requests": {"memory": "128Mi"}});
    let no_cpu = |p: &mut Value| {
        app(p)["resources"] = json!({"requests": {"memory": "128Mi"}, "limits": {"memory": "256Mi"}});
    };
    let equal = |p: &mut Value| {
        app(p)["resources"] = json!({"requests": {"memory": "256Mi"}, "limits": {"memory": "256Mi"}});
    };
    let level = |resources: Value| json!({"spec": {"resources": resources}});
    let gone = resources(json!({"limits": {"memory": null}}));
    let unknown = json!({"spec": {"containers": [{"name": "new", "resources": {"limits": {"memory": "1Mi"}}}]}});
    vec![
        case("the pod's own limit", pod(pod_level), level(json!({"limits": {"memory": "2Gi"}})), &[POD_LEVEL]),
        case("the pod's own limit appears", pod(|_| {}), level(json!({"limits": {"memory": "2Gi"}})), &[POD_LEVEL]),
        Case {
            invalid: true,
            ..case("the pod's own limit disappears", pod(pod_level), level(Value::Null), &[POD_LEVEL])
        },
        case("a cpu limit", pod(|_| {}), resources(json!({"limits": {"cpu": "2"}})), &[ONLY_MEMORY]),
        case("a cpu request", pod(|_| {}), resources(json!({"requests": {"cpu": "50m"}})), &[ONLY_MEMORY]),
        case("a cpu limit appears", pod(no_cpu), resources(json!({"limits": {"cpu": "2"}})), &[ONLY_MEMORY]),
        case("a cpu request appears", pod(no_cpu), resources(json!({"requests": {"cpu": "50m"}})), &[ONLY_MEMORY]),
        case("a memory limit appears", pod(no_limit), limit("384Mi"), &[ONLY_MEMORY]),
        Case { invalid: true, ..case("a memory limit disappears", pod(|_| {}), gone, &[ONLY_MEMORY]) },
        case("a request disappears", pod(|_| {}), resources(json!({"requests": {"cpu": null}})), &[ONLY_MEMORY]),
        case(
            "a memory request appears",
            pod(|p| app(p)["resources"] = json!({"requests": {"cpu": "100m"}})),
            resources(json!({"requests": {"memory": "1Mi"}})),
            &[ONLY_MEMORY],
        ),
        // All that reads the containers cannot be evaluated.
        Case {
            invalid: true,
            ..case("a container appears", pod(|_| {}), unknown, &[ONLY_MEMORY, REQUEST, ONLY_UP, RAISE, RESTART])
        },
        case("a request by itself", pod(|_| {}), resources(json!({"requests": {"memory": "200Mi"}})), &[REQUEST]),
        case("a request goes down", pod(|_| {}), resources(json!({"requests": {"memory": "1Mi"}})), &[REQUEST]),
        case("a request catches up with the limit", pod(|_| {}), both("384Mi", "384Mi"), &[REQUEST]),
        case("a request does not follow all of it", pod(equal), both("300Mi", "384Mi"), &[REQUEST]),
        case("a request that equals the limit stays behind", pod(equal), limit("384Mi"), &[]),
        case(
            "a request that equals the limit in another notation follows",
            pod(|p| {
                equal(p);
                app(p)["resources"]["requests"]["memory"] = json!("268435456");
            }),
            both("384Mi", "402653184"),
            &[],
        ),
    ]
}

fn how_far() -> Vec<Case> {
    let annotated = |value: &str| {
        let value = json!(value);
        pod(|p| p["metadata"]["annotations"]["pre-oom-killer.v1alpha1.k8s.io/raise-limit-to"] = value)
    };
    let without = || pod(|p| p["metadata"]["annotations"] = json!({"example.com/a": "b"}));
    let bare = || pod(|p| remove(&mut p["metadata"], "annotations"));
    // With the bound, which is none for a restart.
    let restarting = || pod(|p| restarts(app(p)));
    vec![
        case("a limit goes down", pod(|_| {}), limit("200Mi"), &[ONLY_UP]),
        case("a limit goes down by a page, which restarts", pod(restarted), limit("268431360"), &[ONLY_UP]),
        Case {
            switches: ONLY_RAISE,
            ..case("a limit goes down where only a raise is on", pod(|_| {}), limit("200Mi"), &[ONLY_UP])
        },
        Case {
            switches: ONLY_RESTART,
            ..case("a limit goes down where only a restart is on", pod(restarted), limit("268435455"), &[ONLY_UP])
        },
        case("a raise beyond the bound", pod(|_| {}), limit("536870913"), &[RAISE]),
        case("a raise without the annotation", without(), limit("257Mi"), &[RAISE]),
        case("a raise without annotations", bare(), limit("257Mi"), &[RAISE]),
        case(
            "a raise up to a bound of the patch's own",
            bare(),
            json!({"metadata": annotated("1Gi")["metadata"], "spec": limit("257Mi")["spec"]}),
            &[RAISE],
        ),
        case("a raise up to what is no quantity", annotated("lots"), limit("257Mi"), &[RAISE]),
        case("a raise of a native sidecar beyond the bound", pod(several), init("mesh", "513Mi"), &[RAISE]),
        Case { switches: ONLY_RESTART, ..case("a raise where it is off", pod(|_| {}), limit("384Mi"), &[RAISE]) },
        Case {
            switches: ONLY_RESTART,
            ..case("a byte more of what does not restart", pod(|_| {}), limit("268435457"), &[RAISE])
        },
        case("a restart by more than the step", restarting(), limit("268439553"), &[RESTART]),
        case("a raise of what restarts", restarting(), limit("384Mi"), &[RESTART]),
        Case {
            switches: ONLY_RAISE,
            ..case("a restart where it is off", restarting(), limit("268435457"), &[RESTART])
        },
    ]
}
