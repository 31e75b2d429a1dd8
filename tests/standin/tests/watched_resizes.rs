//! The stand-in's watches of resizes against those of a real server and kubelet (Kubernetes 1.36.3), where the recordings
//! are: `api-answers/watch-resize-*`.
#![allow(clippy::unwrap_used, reason = "a test may panic")]

mod common;

use common::recordings::{load, recordings};
use serde_json::{Value, json};
use standin::cgroups::Tree;
use standin::compare::normal;
use standin::{Fate, Resizes, Standin};
use std::time::Duration;

/// Watches of a resize. The others have probes, preStop hooks and crash loops in them.
const WATCHED: &[&str] = &[
    "watch-resize-deferred",
    "watch-resize-lowered-below-usage",
    "watch-resize-raise",
    "watch-resize-restart",
    "watch-resize-restart-killed",
];

/// How the kubelet is told to do them.
fn how(name: &str, fate: Fate) -> Resizes {
    let all = Resizes { fate, ..Resizes::default() };
    let ms = Duration::from_millis;
    match name {
        // Nothing runs here that could ignore SIGTERM.
        "watch-resize-restart-killed" => Resizes { exit_code: 137, ..all },
        "watch-resize-lowered-below-usage" => Resizes { error: ms(100), ..all },
        // Long enough for the test to change its mind after a PATCH.
        "watch-resize-deferred" => Resizes { after: ms(200), ..all },
        _ => all,
    }
}

fn conditions(pod: &Value) -> impl Iterator<Item = &Value> {
    let kinds = ["PodResizePending", "PodResizeInProgress", "Ready"];
    let all = pod["status"]["conditions"].as_array().unwrap().iter();
    all.filter(move |one| kinds.iter().any(|kind| one["type"] == *kind))
}

/// What of a line must agree. (`status.resources.requests` of the pod is not in it: it lags behind, watch-resize-deferred.)
fn signature(line: &Value) -> Value {
    let pod = &line["object"];
    let (metadata, status) = (&pod["metadata"], &pod["status"]);
    let conditions = conditions(pod).map(|one| {
        let message = normal(one["message"].as_str().unwrap_or(""));
        json!([one["type"], one["status"], one["reason"], message, one["observedGeneration"]])
    });
    let containers = status["containerStatuses"].as_array().unwrap().iter().map(|one| {
        let last = &one["lastState"]["terminated"];
        let last = json!([last["exitCode"], last["reason"], last["containerID"]]);
        let state = one["state"].as_object().unwrap().keys().next();
        json!([
            one["name"],
            state,
            one["ready"],
            one["restartCount"],
            one["resources"],
            one["allocatedResources"],
            last
        ])
    });
    let spec = pod["spec"]["containers"].as_array().unwrap().iter().map(|one| one["resources"].clone());
    json!({
        "type": line["type"], "generation": metadata["generation"], "observed": status["observedGeneration"],
        "spec": spec.collect::<Value>(), "conditions": conditions.collect::<Vec<_>>(),
        "containers": containers.collect::<Vec<_>>(), "limits": status["resources"]["limits"],
        "allocated": status["allocatedResources"],
    })
}

/// The pod as it was before the first PATCH: what the status still says.
fn before_watch(first: &Value) -> Value {
    let mut pod = first.clone();
    for index in 0..pod["spec"]["containers"].as_array().unwrap().len() {
        let resources = pod["status"]["containerStatuses"][index]["resources"].clone();
        pod["spec"]["containers"][index]["resources"] = resources;
    }
    pod["metadata"]["generation"] = pod["status"]["observedGeneration"].clone();
    pod
}

/// Groups for the pod's containers, with the usage of watch-resize-lowered-below-usage.
fn place(standin: &Standin, tree: &Tree, pod: &Value) {
    let text = |value: &Value| value.as_str().unwrap().to_owned();
    let uid = text(&pod["metadata"]["uid"]);
    let dirs = pod["status"]["containerStatuses"].as_array().unwrap().iter().map(|status| {
        let group = tree.container(&uid, text(&status["containerID"]).rsplit('/').next().unwrap());
        for group in [&tree.pod(&uid), &group] {
            group.set_limit(Some(384 << 20));
            group.simulate(105_549_824, 0);
        }
        group.dir().to_owned()
    });
    standin.attach(&text(&pod["metadata"]["namespace"]), &text(&pod["metadata"]["name"]), dirs.collect());
}

/// Sends the PATCH after which a line was recorded.
fn patch_to(standin: &Standin, recorded: &Value) {
    let containers = recorded["spec"]["containers"].as_array().unwrap().iter();
    let containers = containers.map(|one| json!({"name": one["name"], "resources": one["resources"]}));
    let patch = json!({"spec": {"containers": containers.collect::<Vec<_>>()}});
    let text = |key: &str| recorded["metadata"][key].as_str().unwrap();
    let path = format!("/api/v1/namespaces/{}/pods/{}/resize", text("namespace"), text("name"));
    let answer = common::request(standin, "PATCH", &path, "application/strategic-merge-patch+json", &patch);
    assert_eq!(answer.code, 200, "{}", answer.text);
}

/// Has the stand-in do what led to the recorded lines, and holds its own against them.
fn watched_as_recorded(name: &str, recorded: &[Value]) {
    let (standin, tree) = (Standin::start(), Tree::simulated());
    let pod = before_watch(&recorded[0]["object"]);
    place(&standin, &tree, &pod);
    standin.put_pod(pod);
    let mut watch = common::watch(&standin, &format!("resourceVersion={}", standin.resource_version()));
    let mut generation = Value::Null;
    for (index, line) in recorded.iter().enumerate() {
        let object = &line["object"];
        let is = |one: &Value, kind: &str| one["type"] == kind && one["observedGeneration"] == *generation_of(object);
        if object["metadata"]["generation"] != generation {
            generation = object["metadata"]["generation"].clone();
            let same = recorded.iter().map(|line| &line["object"]).filter(|pod| *generation_of(pod) == generation);
            let pends = same.flat_map(conditions).any(|one| is(one, "PodResizePending"));
            if pends {
                standin.resizes(how(name, Fate::Deferred(None)));
            }
            patch_to(&standin, object);
            if !pends {
                standin.resizes(how(name, Fate::Done));
            }
        } else if conditions(object).any(|one| is(one, "PodResizeInProgress")) {
            standin.resizes(how(name, Fate::Done));
        }
        assert_eq!(signature(&watch.line()), signature(line), "{name}, line {index}");
    }
}

fn generation_of(pod: &Value) -> &Value {
    &pod["metadata"]["generation"]
}

#[test]
fn resizes_are_watched_as_recorded() {
    let Some(dir) = recordings() else { return };
    std::thread::scope(|scope| {
        for (name, file) in load(&dir).into_iter().filter(|(name, _)| WATCHED.contains(&name.as_str())) {
            let lines: Vec<Value> =
                file["lines"].as_array().unwrap().iter().map(|line| line["event"].clone()).collect();
            scope.spawn(move || watched_as_recorded(&name, &lines));
        }
    });
}
