//! PATCH …/pods/NAME/resize beyond the recordings: what is stored, who may, and what another answers later.
#![allow(clippy::unwrap_used, reason = "a test may panic")]

mod common;

use common::Answer;
use serde_json::{Value, json};
use standin::{Standin, pod};

const PATH: &str = "/api/v1/namespaces/demo/pods/web/resize";
const STRATEGIC: &str = "application/strategic-merge-patch+json";

fn limit(container: &str, memory: &str) -> Value {
    json!({"spec": {"containers": [{"name": container, "resources": {"limits": {"memory": memory}}}]}})
}

fn resize(standin: &Standin, query: &str, patch: &Value) -> Answer {
    common::request(standin, "PATCH", &format!("{PATH}{query}"), STRATEGIC, patch)
}

fn spec_limit(pod: &Value) -> &Value {
    &pod["spec"]["containers"][0]["resources"]["limits"]["memory"]
}

/// A stand-in with a pod `web`, whose container `hog` has a limit of 256Mi.
fn with_web() -> Standin {
    let standin = Standin::start();
    standin.put_pod(pod("demo", "web").uid("u-1").container("hog", "256Mi").build());
    standin
}

#[test]
fn a_change_is_stored_and_not_done() {
    let standin = with_web();
    let before = standin.pod("demo", "web").unwrap();
    let answer = resize(&standin, "?fieldManager=agent", &limit("hog", "384Mi"));
    let after = standin.pod("demo", "web").unwrap();
    assert_eq!((answer.code, answer.json()), (200, after.clone()));
    assert_eq!((spec_limit(&after), &after["metadata"]["generation"]), (&json!("384Mi"), &json!(2)));
    assert_eq!(after["status"], before["status"]);
    assert!(resize(&standin, "", &limit("hog", "402653184")).json() == after, "the same value, written otherwise");
}

#[test]
fn a_dry_run_shows_and_does_not_store() {
    let standin = with_web();
    let before = standin.pod("demo", "web").unwrap();
    let shown = resize(&standin, "?dryRun=All", &limit("hog", "384Mi")).json();
    assert_eq!((spec_limit(&shown), &shown["metadata"]["generation"]), (&json!("384Mi"), &json!(2)));
    assert_eq!(standin.pod("demo", "web").unwrap(), before);
}

#[test]
fn whoever_changed_the_limit_owns_it() {
    let standin = Standin::start();
    let entry = |manager: &str| {
        let fields = json!({"f:spec": {"f:containers": {"k:{\"name\":\"hog\"}": {"f:resources": {"f:limits": {"f:memory": {}}}}}}});
        json!({"manager": manager, "operation": "Update", "apiVersion": "v1", "fieldsType": "FieldsV1", "fieldsV1": fields, "subresource": "resize"})
    };
    standin.put_pod(pod("demo", "web").container("hog", "256Mi").managed_field(entry("vpa")).build());
    resize(&standin, "?fieldManager=agent", &limit("hog", "384Mi"));
    let pod = standin.pod("demo", "web").unwrap();
    let of = |manager: &str| {
        let entries = pod["metadata"]["managedFields"].as_array().unwrap();
        let mut entry = entries.iter().find(|entry| entry["manager"] == manager).unwrap().clone();
        assert!(entry.as_object_mut().unwrap().remove("time").is_none_or(|time| time.is_string()));
        entry
    };
    assert_eq!(of("agent"), entry("agent"));
    let limits = "/fieldsV1/f:spec/f:containers/k:{\"name\":\"hog\"}/f:resources/f:limits";
    assert_eq!(of("vpa").pointer(limits), Some(&json!({})));
    let headers =
        [("authorization", &*common::bearer(&standin)), ("content-type", STRATEGIC), ("user-agent", "curl/8")];
    common::send(&standin, "PATCH", PATH, &headers, &limit("hog", "400Mi").to_string()).unwrap();
    let pod = standin.pod("demo", "web").unwrap();
    assert_eq!(pod["metadata"]["managedFields"].as_array().unwrap().last().unwrap()["manager"], "curl");
}

#[test]
fn a_wrong_uid_is_told_twice() {
    let mut patch = limit("hog", "384Mi");
    patch["metadata"] = json!({"uid": "u-2"});
    let answer = resize(&with_web(), "", &patch);
    let fields: Vec<_> =
        answer.json()["details"]["causes"].as_array().unwrap().iter().map(|c| c["field"].clone()).collect();
    assert_eq!((answer.code, fields), (422, vec![json!("metadata.uid"); 2]));
    patch["metadata"]["uid"] = "u-1".into();
    assert_eq!(resize(&with_web(), "", &patch).code, 200);
}

#[test]
fn the_policy_lets_the_agent_raise_memory_of_its_own_opted_in_pods_alone() {
    let standin = with_web();
    standin.set_policy(true);
    let refusal = |patch: &Value| {
        let answer = resize(&standin, "?dryRun=All", patch);
        let message = answer.json()["message"].as_str().unwrap_or("").to_owned();
        (answer.code, message.rsplit(": ").next().unwrap().to_owned())
    };
    assert_eq!(refusal(&limit("hog", "384Mi")), (200, String::new()));
    assert_eq!(refusal(&limit("hog", "200Mi")), (403, "memory limits may only be raised".into()));
    let mut cpu = limit("hog", "384Mi");
    cpu["spec"]["containers"][0]["resources"]["limits"]["cpu"] = "1".into();
    assert_eq!(refusal(&cpu), (403, "only memory may be changed".into()));
    standin.put_pod(pod("demo", "web").uid("u-1").container("hog", "256Mi").unlabelled().build());
    assert_eq!(refusal(&limit("hog", "256Mi")), (403, "this pod has not opted in".into()));
    standin.put_pod(pod("demo", "web").uid("u-1").container("hog", "256Mi").node("node-other").build());
    assert_eq!(refusal(&limit("hog", "384Mi")), (403, "this pod is not on the agent's node".into()));
    standin.identify("system:serviceaccount:demo:other", Some("node-host"));
    standin.set_policy(false);
    assert_eq!(refusal(&limit("hog", "200Mi")).0, 200);
}

#[test]
fn a_container_keeps_the_size_that_a_refusal_left() {
    let standin = with_web();
    standin.set_allocatable("node-host", 1 << 30);
    let before = standin.pod("demo", "web").unwrap();
    let mut patch = limit("hog", "2Gi");
    assert_eq!(resize(&standin, "?dryRun=All", &patch).code, 200, "limits are not held against the node");
    patch["spec"]["containers"][0]["resources"]["requests"] = json!({"memory": "2Gi"});
    assert_eq!(resize(&standin, "", &patch).json()["details"]["causes"][0]["reason"], "NodeCapacity");
    standin.deny("patch", "pods/resize");
    assert_eq!(resize(&standin, "", &limit("hog", "384Mi")).code, 403);
    assert_eq!(standin.pod("demo", "web").unwrap(), before);
}

#[test]
fn pods_are_built_with_what_resizes_look_at() {
    let web = pod("demo", "web").host_network().container("hog", "64Mi").request("48Mi");
    let web =
        web.resize_policy("RestartContainer").container_restart_policy("Never").container("small", "16Mi").build();
    let container = |index: usize| &web["spec"]["containers"][index];
    assert_eq!(container(0)["resources"]["requests"]["memory"], "48Mi");
    assert_eq!(container(0)["resizePolicy"], json!([{"resourceName": "memory", "restartPolicy": "RestartContainer"}]));
    assert_eq!(container(0)["restartPolicy"], "Never");
    assert_eq!(container(1)["resources"]["requests"]["memory"], "16Mi", "never above the limit");
    assert_eq!(web["status"]["containerStatuses"][0]["resources"], container(0)["resources"]);
    assert_eq!((&web["spec"]["hostNetwork"], &web["status"]["podIP"]), (&json!(true), &web["status"]["hostIP"]));
    assert_eq!(pod("demo", "web").pod_ip("10.0.0.9").build()["status"]["podIP"], "10.0.0.9");
    for class in ["Guaranteed", "Burstable", "BestEffort"] {
        let standin = Standin::start();
        let built = standin.put_pod(pod("demo", "web").qos(class).container("hog", "256Mi").build());
        assert_eq!(built["status"]["qosClass"], class);
        let code = resize(&standin, "?dryRun=All", &limit("hog", "384Mi")).code;
        assert_eq!(code, if class == "Burstable" { 200 } else { 422 }, "{class}");
    }
}
