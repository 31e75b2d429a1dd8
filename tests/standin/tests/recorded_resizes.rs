//! The stand-in's answers to resizes against those of a real server (Kubernetes 1.36.3, `api-answers/resize-*`).
//!
//! `resize-cases.json` is made from the recordings (`STANDIN_BLESS=1 cargo test -p standin --test recorded_resizes`). Of a
//! refusal it holds what `recorded.rs` compares. Of a 200 it holds what the resize is about of the pod before, worked out
//! backwards from its status, and of the pod in the answer. `fixtures/api-answers/resizes.json` has the refusals
//! whole, for the agent's own tests. `watched_resizes.rs` compares the watches.
#![allow(clippy::unwrap_used, reason = "a test may panic")]

mod common;

use common::recordings::{load, perform, recordings};
use serde_json::{Map, Value, json};
use standin::compare::summary;
use standin::{Fault, PodBuilder, Standin, answers, pod};

const CASES: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/resize-cases.json");

/// The refusals as the agent's tests read them.
const REFUSALS: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../../fixtures/api-answers/resizes.json");

const NOT_COVERED: &[(&str, &str)] = &[
    ("resize-200-jsonpatch", "no JSON patches: the agent sends strategic merges"),
    ("resize-422-jsonpatch-limit-test", "no JSON patches"),
    ("resize-422-jsonpatch-test", "no JSON patches"),
    ("resize-200-apply-force", "no server-side apply: the agent sends strategic merges"),
    ("resize-409-apply", "no server-side apply"),
    ("resize-422-apply-uid", "no server-side apply"),
    ("resize-201-create-container-never", "not a resize: pods are created unchecked"),
    ("resize-201-create-onfailure-restart", "not a resize: pods are created unchecked"),
    ("resize-422-create-init-restart", "not a resize: pods are created unchecked"),
    ("resize-422-create-never-restart", "not a resize: pods are created unchecked"),
    ("resize-201-policy", "not a resize: the policy that the recordings were made with"),
    ("resize-pod-lowered-error", "not a resize: the pod afterwards"),
];

/// The request of the recording is a resize that the stand-in understands.
fn is_covered(name: &str) -> bool {
    name.starts_with("resize-") && !NOT_COVERED.iter().any(|(other, _)| *other == name)
}

fn is_staged(name: &str) -> bool {
    ["vap", "webhook", "quota", "limitrange"].iter().any(|part| name.contains(part)) && answers::find(name).is_some()
}

/// What of the answer is held: the pod in short, or the summary of a refusal.
fn held(code: u16, header: &dyn Fn(&str) -> Option<String>, body: &Value) -> Value {
    match code {
        200 => json!({"code": code, "warning": header("warning"), "pod": in_short(body)}),
        _ => summary(code, header, body),
    }
}

/// What of a pod resizes are about.
fn in_short(pod: &Value) -> Value {
    let mut pod = pod.clone();
    let keep = |value: &mut Value, keys: &[&str]| {
        if let Some(fields) = value.as_object_mut() {
            fields.retain(|key, _| keys.contains(&key.as_str()));
        }
    };
    keep(
        &mut pod["metadata"],
        &["name", "namespace", "uid", "generation", "labels", "annotations", "deletionTimestamp"],
    );
    let lists = ["containers", "initContainers", "ephemeralContainers"];
    keep(&mut pod["spec"], &[&lists[..], &["nodeName", "activeDeadlineSeconds", "resources"]].concat());
    for list in
        lists.map(|list| pod["spec"].get_mut(list).and_then(Value::as_array_mut).cloned().map(|all| (list, all)))
    {
        let Some((list, mut containers)) = list else { continue };
        let keys = ["name", "image", "resources", "resizePolicy", "restartPolicy"];
        containers.iter_mut().for_each(|container| keep(container, &keys));
        pod["spec"][list] = containers.into();
    }
    keep(&mut pod["status"], &["phase", "qosClass", "observedGeneration", "resources", "allocatedResources"]);
    pod
}

/// The pod before a resize that was stored: what the status still says. `None` for refusals.
fn before(name: &str, file: &Value) -> Option<Value> {
    if file["status"] != 200 {
        return None;
    }
    let (mut pod, patch) = (file["body"].clone(), &file["request"]["body"]["spec"]);
    for (list, statuses) in [("containers", "containerStatuses"), ("initContainers", "initContainerStatuses")] {
        for change in patch[list].as_array().into_iter().flatten() {
            let status = pod["status"][statuses].as_array().into_iter().flatten();
            let mut resources =
                status.filter(|status| status["name"] == change["name"]).map(|status| &status["resources"]);
            let resources = resources.rfind(|resources| resources.is_object()).cloned();
            let all = pod["spec"][list].as_array_mut().unwrap();
            let container = all.iter_mut().find(|container| container["name"] == change["name"]).unwrap();
            container["resources"] = resources.unwrap_or_else(|| unseen(name));
        }
    }
    match name {
        "resize-200-plr-added" => drop(pod["spec"].as_object_mut().unwrap().remove("resources")),
        _ if patch["resources"].is_object() => pod["spec"]["resources"] = pod["status"]["resources"].clone(),
        _ => {}
    }
    if pod["spec"] != file["body"]["spec"] {
        pod["metadata"]["generation"] = (pod["metadata"]["generation"].as_i64().unwrap() - 1).into();
    }
    Some(in_short(&pod))
}

/// The resources before of pods whose status has none.
fn unseen(name: &str) -> Value {
    match name {
        "resize-200-unscheduled" => json!({"limits": {"memory": "256Mi"}, "requests": {"memory": "64Mi"}}),
        "resize-200-succeeded" => json!({"limits": {"memory": "64Mi"}, "requests": {"memory": "32Mi"}}),
        other => panic!("{other}: what were the resources?"),
    }
}

fn cases_of(recorded: &[(String, Value)]) -> Value {
    let cases = recorded.iter().filter(|(name, _)| is_covered(name)).map(|(name, file)| {
        let header = |name: &str| file["headers"][name].as_str().map(str::to_owned);
        let expected = held(u16::try_from(file["status"].as_u64().unwrap()).unwrap(), &header, &file["body"]);
        let case = json!({"request": file["request"], "before": before(name, file), "expected": expected});
        (name.clone(), case)
    });
    Value::Object(cases.collect())
}

fn cases() -> Map<String, Value> {
    serde_json::from_slice(&std::fs::read(CASES).unwrap()).unwrap()
}

fn lines(of: impl Iterator<Item = (String, Value)>) -> String {
    let lines: Vec<String> = of.map(|(name, value)| format!("{}: {value}", json!(name))).collect();
    format!("{{\n{}\n}}\n", lines.join(",\n"))
}

#[test]
fn the_cases_are_those_of_the_recordings() {
    let Some(dir) = recordings() else { return };
    let recorded = load(&dir);
    for (name, _) in NOT_COVERED {
        assert!(recorded.iter().any(|(other, _)| other == name), "{name} is excused and does not exist");
    }
    let made = cases_of(&recorded);
    if std::env::var_os("STANDIN_BLESS").is_some() {
        std::fs::write(CASES, lines(made.as_object().unwrap().clone().into_iter())).unwrap();
    }
    assert!(Value::Object(cases()) == made, "STANDIN_BLESS=1 writes tests/resize-cases.json anew");
}

#[test]
fn the_agents_refusals_are_those_of_the_recordings() {
    let Some(dir) = recordings() else { return };
    let about = "Answers to PATCH …/pods/NAME/resize that are no 200, by the name of the recording: HTTP status, Retry-After, body. \
                 Recorded on Kubernetes 1.36.3 (OpenShift's fork, its own admission off). \
                 Made by `STANDIN_BLESS=1 cargo test -p standin --test recorded_resizes`.";
    let recorded = load(&dir);
    let refusals = recorded.iter().filter(|(name, file)| {
        name.starts_with("resize-") && file["status"] != 200 && file["request"]["method"] == "PATCH"
    });
    let answers = refusals.map(|(name, file)| {
        let (status, body) = (&file["status"], &file["body"]);
        (name.clone(), json!({"status": status, "retryAfter": file["headers"]["retry-after"], "body": body}))
    });
    let made = lines([("about".to_owned(), json!(about))].into_iter().chain(answers));
    if std::env::var_os("STANDIN_BLESS").is_some() {
        std::fs::write(REFUSALS, &made).unwrap();
    }
    let kept = std::fs::read_to_string(REFUSALS).unwrap_or_default();
    assert!(kept == made, "STANDIN_BLESS=1 writes fixtures/api-answers/resizes.json anew");
}

/// The pod that a refused resize was about.
fn refused(name: &str) -> PodBuilder {
    let web = |name| pod("facts", name).bare().container("hog", "256Mi").request("64Mi").resize_policy("NotRequired");
    match name {
        "be" => pod("facts", "be").bare().qos("BestEffort").container("hog", None),
        "gua" => pod("facts", "gua").bare().qos("Guaranteed").container("hog", "128Mi"),
        "inits" => web("inits").sidecar("prep", "64Mi").sidecar("side", "64Mi"),
        "mirror" => web("mirror").mirror("6779c7548f22a9852a5b7cba00ac2dc4"),
        "optout" => web("optout").unlabelled(),
        "other" => web("other").node("node-other"),
        "plr" => {
            let bare = pod("facts", "plr").bare().pod_limit("256Mi");
            bare.container("hog", None).container("side", "64Mi").request("64Mi")
        }
        "web" => web("web"),
        other => panic!("no pod {other}"),
    }
}

/// Brings about the situation of a recording.
fn prepare(standin: &Standin, name: &str, case: &Value) {
    let mut parts = case["request"]["path"].as_str().unwrap().split(['/', '?']).skip(4);
    let (namespace, pod_name) = (parts.next().unwrap(), parts.nth(1).unwrap());
    standin.put_namespace("facts");
    if case["before"].is_object() {
        standin.put_pod(case["before"].clone());
        if let Some(version) = case["request"]["body"]["metadata"]["resourceVersion"].as_str() {
            // The recorded version is the current one there.
            while standin.resource_version() < version.parse().unwrap() {
                standin.edit_pod(namespace, pod_name, |pod| pod["metadata"]["annotations"] = json!({"at": "x"}));
                standin.put_pod(case["before"].clone());
            }
        }
    } else if !name.starts_with("resize-404") && pod_name != "nosuch" {
        let builder =
            if name.contains("ephemeral-under") { refused("web").ephemeral("dbg") } else { refused(pod_name) };
        standin.put_pod(builder.build());
        if pod_name == "web" {
            // That one requested no cpu.
            standin.edit_pod(namespace, pod_name, |pod| {
                let requests = pod["spec"]["containers"][0]["resources"]["requests"].as_object_mut();
                requests.unwrap().remove("cpu");
            });
        }
    }
    if pod_name == "plr" {
        standin.edit_pod("facts", "plr", |pod| pod["spec"]["resources"]["requests"]["memory"] = "64Mi".into());
    }
    match name {
        "resize-403-rbac" | "resize-403-rbac-nosuchpod" => standin.deny("patch", "pods/resize"),
        "resize-403-rbac-get" => standin.deny("get", "pods/resize"),
        "resize-403-capacity" => standin.set_allocatable("node-host", 25_224_085_504),
        "resize-403-capacity-before-vap" => {
            standin.set_policy(true);
            standin.set_allocatable("node-other", 0);
        }
        "resize-422-uid-before-vap" | "resize-422-below-request-before-vap" | "resize-404-vap" | "resize-200-vap" => {
            standin.set_policy(true);
        }
        "resize-404-ns-terminating-nopod" | "resize-200-ns-terminating" => standin.terminate_namespace(namespace),
        // What only others' admission brings about is answered from the table.
        _ if is_staged(name) => standin.fault(Fault::on("PATCH", "/resize").recorded(name)),
        _ => {}
    }
}

#[test]
fn resizes_are_answered_as_recorded() {
    let mut wrong = Vec::new();
    for (name, case) in cases() {
        let standin = Standin::start();
        prepare(&standin, &name, &case);
        let answer = perform(&standin, &case["request"], case["request"]["path"].as_str().unwrap()).finish();
        let got = held(answer.code, &|name| answer.header(name).map(str::to_owned), &answer.json());
        if got != case["expected"] {
            wrong.push(format!("{name}\n  recorded {}\n  stand-in {got}", case["expected"]));
        }
    }
    assert!(wrong.is_empty(), "{} differ:\n{}", wrong.len(), wrong.join("\n"));
}

/// Each entry of the table, as a fault, gives the recorded answer.
#[test]
fn the_table_answers_as_recorded() {
    let cases = cases();
    let mut wrong = Vec::new();
    for fact in answers::ALL.iter().filter(|fact| fact.recorded.starts_with("resize-")) {
        let (standin, case) = (Standin::start(), &cases[fact.recorded]);
        standin.fault(Fault::on("PATCH", "/resize").recorded(fact.recorded));
        let answer = perform(&standin, &case["request"], case["request"]["path"].as_str().unwrap()).finish();
        let got = held(answer.code, &|name| answer.header(name).map(str::to_owned), &answer.json());
        // The words of these are put in by whoever uses them.
        let worded = ["resize-400-not-json", "resize-403-capacity"].contains(&fact.recorded);
        if got != case["expected"] && !(worded && got["code"] == case["expected"]["code"]) {
            wrong.push(format!("{}\n  recorded {}\n  stand-in {got}", fact.recorded, case["expected"]));
        }
    }
    assert!(wrong.is_empty(), "{} differ:\n{}", wrong.len(), wrong.join("\n"));
}
