//! The stand-in against the recorded answers of a real server (Kubernetes 1.36.2, `api-answers/`; the denials of
//! webhooks are of a 1.36.3).
//!
//! `cases.json` is made from the recordings (`STANDIN_BLESS=1 cargo test --test recorded`): each request,
//! and of its answer what must agree: code, headers, reason, message, causes, the shape of the body. So a
//! clone without the recordings tests the same. Where they are (`API_ANSWERS`, or a directory
//! `shared/api-answers` somewhere above), the cases must be up to date, no file may be in no list, and pods
//! and watches are compared too. The answers to evictions are kept whole, in `fixtures/api-answers/evictions.json`, for
//! the agent's own tests; that file is made and held in the same way.
#![allow(clippy::unwrap_used, reason = "a test may panic")]

mod common;

use common::recordings::{load, perform, recordings};
use serde_json::{Map, Value, json};
use standin::compare::{shape, summary};
use standin::{Fault, Pdb, Standin, answers, pod};
use std::collections::BTreeSet;
use std::time::Duration;

const CASES: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/cases.json");

/// The answers to evictions as the agent's tests read them.
const EVICTIONS: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../../fixtures/api-answers/evictions.json");

/// Request and answer, by the start of the name.
const ANSWERED: &[&str] = &[
    "evict-",
    "event-",
    "list-",
    "pods-",
    "readyz",
    "version",
    "pod-404",
    "pod-after-evict-completed",
    "watch-403",
    "watch-429-apf",
    "watch-bad-rv",
    "watch-initial-events-bad",
];
/// Streams; see [`watches`].
const WATCHED: &[&str] = &[
    "watch-410",
    "watch-bookmark",
    "watch-future-rv",
    "watch-initial-events",
    "watch-initial-events-rv0",
    "watch-initial-events-unsupported",
    "watch-label-removed-added",
    "watch-no-rv",
    "watch-oomkilled",
    "watch-pod-life",
];
/// Pods: served as they are (all), and built alike (those that the builder can make).
const PODS: &str = "pod-";
const NOT_COVERED: &[(&str, &str)] = &[
    ("lease-403", "no Leases: the agent holds none"),
    ("lease-422", "no Leases"),
    ("lease-create-201", "no Leases"),
    ("lease-create-409", "no Leases"),
    ("lease-get-200", "no Leases"),
    ("lease-get-404", "no Leases"),
    ("lease-renewtime-seconds", "no Leases"),
    ("lease-update-200", "no Leases"),
    ("lease-update-409", "no Leases"),
    ("lease-update-no-rv", "no Leases"),
    ("node", "no Nodes: the agent gets none"),
    ("pdb-guarded", "budgets are put by a method, not served"),
    ("pdb-syncfailed", "budgets are put by a method, not served"),
    ("resize-*", "recorded_resizes.rs"),
    ("watch-resize-*", "watched_resizes.rs"),
    ("pod-resize-403-capacity", "recorded_resizes.rs has resize-403-capacity"),
    ("pod-resize-patch", "recorded_resizes.rs has resize-200"),
];

#[derive(PartialEq)]
enum Kind {
    Answered,
    Watched,
    Pod,
    NotCovered,
    Unknown,
}

fn kind(name: &str) -> Kind {
    if NOT_COVERED.iter().any(|(other, _)| is_named(name, other)) {
        Kind::NotCovered
    } else if WATCHED.contains(&name) {
        Kind::Watched
    } else if ANSWERED.iter().any(|start| name.starts_with(start)) {
        Kind::Answered
    } else if name.starts_with(PODS) {
        Kind::Pod
    } else {
        Kind::Unknown
    }
}

/// `other` is a name, or the beginning of several and a `*`.
fn is_named(name: &str, other: &str) -> bool {
    other.strip_suffix('*').map_or(name == other, |start| name.starts_with(start))
}

/// Brings about the situation of a recording.
fn prepare(standin: &Standin, name: &str, request: &Value) {
    let path = request["path"].as_str().unwrap();
    let mut parts = path.split(['/', '?']).skip(4);
    let (namespace, _, pod_name) = (parts.next().unwrap_or(""), parts.next(), parts.next().unwrap_or(""));
    let uid = request["body"]["deleteOptions"]["preconditions"]["uid"]
        .as_str()
        .unwrap_or("4d73f41f-8316-474a-974d-693ddfeccc45");
    let mut target = pod(namespace, pod_name).uid(uid).label("app", "guarded");
    let exists = !matches!(
        name,
        "evict-404" | "evict-404-namespace" | "evict-403-rbac-nosuchpod" | "evict-403-ns-terminating-nopod"
    );
    match name {
        "evict-409-uid" | "evict-409-dryrun-wrong-uid" => target = target.uid("22e0892e-d516-480e-a701-e765361a4862"),
        "evict-completed" | "evict-completed-dryrun" => target = target.phase("Succeeded"),
        "evict-failed" => target = target.phase("Failed"),
        "evict-pending-unscheduled" => target = target.phase("Pending").node(""),
        "evict-mirror" => target = target.mirror("6779c7548f22a9852a5b7cba00ac2dc4"),
        _ => {}
    }
    let elsewhere = ["evict-403-vap-own-node", "evict-403-noderestriction", "evict-403-impersonate-other-node"];
    if elsewhere.contains(&name) {
        target = target.node("node-other");
    }
    standin.put_namespace("demo");
    if name.starts_with("evict-") && exists {
        standin.put_pod(target.build());
    }
    let terminating =
        ["evict-201-twice", "evict-terminating", "evict-finalizer"].iter().any(|start| name.starts_with(start));
    if terminating {
        standin.edit_pod(namespace, pod_name, |pod| {
            pod["metadata"]["deletionTimestamp"] = "2026-11-23T19:00:00Z".into();
            pod["metadata"]["deletionGracePeriodSeconds"] = 3600.into();
            pod["metadata"]["finalizers"] = json!(["example.com/hold"]);
        });
    }
    let budget = |name: &str| Pdb::blocking("demo", name, &[("app", "guarded")]);
    match name {
        "evict-403-rbac" | "evict-403-rbac-nosuchpod" => standin.deny("create", "pods/eviction"),
        "evict-get-403" => standin.deny("get", "pods/eviction"),
        "evict-403-ns-terminating" | "evict-403-ns-terminating-nopod" => standin.terminate_namespace("dying"),
        "evict-429-pdb-unobserved" => standin.put_pdb(Pdb { observed: false, ..budget("race") }),
        "evict-429-pdb-unmanaged" => standin.put_pdb(Pdb { sync_failed: true, ..budget("bare-pdb") }),
        "evict-201-pdb-allows" => standin.put_pdb(Pdb { min_available: Some(0), ..budget("race") }),
        "evict-500-two-pdbs" | "evict-500-two-pdbs-dryrun" => {
            ["one", "two"].iter().for_each(|name| standin.put_pdb(budget(name)))
        }
        _ if name.starts_with("evict-429-pdb") => standin.put_pdb(budget("guarded")),
        "event-core-403" | "event-v1-403" | "event-core-404-ns" => standin.deny("create", "events"),
        "event-core-409" | "event-v1-409" => {
            common::post(standin, path, &request["body"]);
        }
        "event-core-patch-200" => {
            let event = json!({"metadata": {"name": "ev-noop.1"}, "involvedObject": {"apiVersion": "v1", "kind": "Pod", "name": "ev-noop", "namespace": "demo", "uid": uid},
                "reason": "PreOOMKill", "message": "evicting: 95% of 128Mi", "type": "Warning", "source": {"component": "c", "host": "h"}, "count": 1});
            assert_eq!(common::post(standin, "/api/v1/namespaces/demo/events", &event).code, 201);
        }
        "pods-list-403" => standin.deny("list", "pods"),
        "watch-403" => standin.deny("watch", "pods"),
        "list-429-apf" | "watch-429-apf" => standin.fault(Fault::on("GET", "/pods").recorded("evict-429-apf")),
        "list-410-continue" | "list-410-exact" => grow_old(standin),
        "pods-ns-terminating" => {
            ["a", "b"].iter().for_each(|name| drop(standin.put_pod(pod("dying", name).build())));
            standin.terminate_namespace("dying");
        }
        _ if name.starts_with("pods-list") => {
            ["a", "b", "c"].iter().for_each(|name| drop(standin.put_pod(pod("demo", name).build())))
        }
        "evict-403-vap-own-node" => standin.set_policy(true),
        "evict-403-noderestriction" | "evict-403-impersonate-other-node" | "list-403-node-authorizer" => {
            let accounts = standin.grant(common::AS_OWN_NODE);
            standin.identify(&accounts[0], Some("node-host"));
        }
        "evict-403-impersonate-gate-off" => standin.set_constrained_impersonation(false),
        // What only others' admission brings about is answered from the table.
        _ if answers::find(name).is_some_and(|fact| is_staged(fact.recorded)) => {
            standin.fault(Fault::on("*", "/pods").recorded(name))
        }
        _ => {}
    }
}

fn is_staged(name: &str) -> bool {
    ["vap", "webhook", "apf"].iter().any(|part| name.contains(part))
}

/// Beyond the versions that the recordings call too old.
fn grow_old(standin: &Standin) {
    while standin.resource_version() < 1105 {
        standin.put_pod(pod("demo", "a").build());
    }
    standin.compact();
}

fn cases_of(recorded: &[(String, Value)]) -> Value {
    let cases = recorded.iter().filter(|(name, _)| kind(name) == Kind::Answered).map(|(name, file)| {
        let header = |name: &str| file["headers"][name].as_str().map(str::to_owned);
        let expected = summary(u16::try_from(file["status"].as_u64().unwrap()).unwrap(), &header, &file["body"]);
        (name.clone(), json!({"request": file["request"], "expected": expected}))
    });
    Value::Object(cases.collect())
}

fn cases() -> Map<String, Value> {
    serde_json::from_slice(&std::fs::read(CASES).unwrap()).unwrap()
}

#[test]
fn the_cases_are_those_of_the_recordings() {
    let Some(dir) = recordings() else { return };
    let recorded = load(&dir);
    assert!(recorded.len() > 100, "{} has few recordings", dir.display());
    let unknown: Vec<_> = recorded.iter().map(|(name, _)| name).filter(|name| kind(name) == Kind::Unknown).collect();
    assert!(unknown.is_empty(), "neither covered nor excused: {unknown:?}");
    for (name, _) in NOT_COVERED {
        assert!(recorded.iter().any(|(other, _)| is_named(other, name)), "{name} is excused and does not exist");
    }
    let made = cases_of(&recorded);
    if std::env::var_os("STANDIN_BLESS").is_some() {
        let lines: Vec<String> =
            made.as_object().unwrap().iter().map(|(name, case)| format!("{}: {case}", json!(name))).collect();
        std::fs::write(CASES, format!("{{\n{}\n}}\n", lines.join(",\n"))).unwrap();
    }
    assert_eq!(Value::Object(cases()), made, "STANDIN_BLESS=1 writes tests/cases.json anew");
}

#[test]
fn the_agents_answers_are_those_of_the_recordings() {
    let Some(dir) = recordings() else { return };
    let mut lines = vec![format!(
        "\"about\": {}",
        json!(
            "Answers to POST …/pods/NAME/eviction as API servers gave them, by the name of the recording: HTTP status, Retry-After, body. \
               Recorded on Kubernetes 1.36.2 (etcd 3.4.23), those with `webhook` in their name on 1.36.3 (OpenShift's fork, its own admission off), \
               but for two that are of the first (`-timeout`, `-unreachable`). Made by `STANDIN_BLESS=1 cargo test -p standin --test recorded`."
        )
    )];
    for (name, file) in load(&dir).iter().filter(|(name, _)| name.starts_with("evict-")) {
        let answer =
            json!({"status": file["status"], "retryAfter": file["headers"]["retry-after"], "body": file["body"]});
        lines.push(format!("{}: {answer}", json!(name)));
    }
    let made = format!("{{\n{}\n}}\n", lines.join(",\n"));
    if std::env::var_os("STANDIN_BLESS").is_some() {
        std::fs::write(EVICTIONS, &made).unwrap();
    }
    let kept = std::fs::read_to_string(EVICTIONS).unwrap_or_default();
    assert!(kept == made, "STANDIN_BLESS=1 writes fixtures/api-answers/evictions.json anew");
}

#[test]
fn requests_are_answered_as_recorded() {
    let mut wrong = Vec::new();
    for (name, case) in cases() {
        let (standin, request) = (Standin::start(), &case["request"]);
        prepare(&standin, &name, request);
        let answer = perform(&standin, request, request["path"].as_str().unwrap()).finish();
        let got = summary(answer.code, &|name| answer.header(name).map(str::to_owned), &answer.json());
        if got != case["expected"] {
            wrong.push(format!("{name}\n  recorded {}\n  stand-in {got}", case["expected"]));
        }
    }
    assert!(wrong.is_empty(), "{} differ:\n{}", wrong.len(), wrong.join("\n"));
}

#[test]
fn the_table_agrees_with_the_recordings() {
    let cases = cases();
    for fact in answers::ALL.iter().filter(|fact| !fact.recorded.is_empty() && !WATCHED.contains(&fact.recorded)) {
        if fact.recorded.starts_with("resize-") {
            continue; // recorded_resizes.rs
        }
        if fact.recorded == "watch-504" {
            continue; // seen, not recorded
        }
        let expected = &cases[fact.recorded]["expected"];
        assert_eq!(expected["code"], fact.code, "{}", fact.recorded);
        assert_eq!(expected["/reason"].as_str().unwrap_or(""), fact.reason, "{}", fact.recorded);
        let retry = fact.retry_after.map(|seconds| seconds.to_string());
        assert_eq!(expected["retry-after"].as_str(), retry.as_deref(), "{}", fact.recorded);
        let cause = fact.causes[0].map_or("", |[reason, ..]| reason);
        assert_eq!(expected["/details/causes/0/reason"].as_str().unwrap_or(""), cause, "{}", fact.recorded);
    }
}

#[test]
fn recorded_pods_are_served_as_they_are() {
    let Some(dir) = recordings() else { return };
    for (name, file) in load(&dir).iter().filter(|(name, _)| kind(name) == Kind::Pod) {
        let standin = Standin::start();
        let mut expected = standin.put_pod(file["body"].clone());
        let served = common::get(&standin, file["request"]["path"].as_str().unwrap()).json();
        assert_eq!(served, expected, "{name}");
        expected["metadata"]["resourceVersion"] = file["body"]["metadata"]["resourceVersion"].clone();
        assert_eq!(expected, file["body"], "{name}");
    }
}

#[test]
fn built_pods_have_the_shape_of_recorded_ones() {
    let Some(dir) = recordings() else { return };
    let web =
        pod("demo", "web-1").owner("ReplicaSet", "web").label("app", "web").label("pod-template-hash", "58f6dff65f");
    let hash = "6779c7548f22a9852a5b7cba00ac2dc4";
    for (name, builder, differ) in [
        ("pod-deployment", web, &[][..]),
        ("pod-bare", pod("demo", "bare").bare(), &["cpu", "env"]),
        ("pod-static-mirror", pod("demo", "static").mirror(hash), &["cpu", "observedGeneration", "env"]),
        (
            "pod-native-sidecar",
            pod("demo", "a").bare().container("hog", "128Mi").sidecar("side", "48Mi"),
            &["cpu", "env", ".terminated", ".resources"],
        ),
        (
            "pod-ephemeral",
            pod("demo", "a").bare().container("hog", "128Mi").ephemeral("dbg"),
            &["cpu", "targetContainerName"],
        ),
        (
            "pod-pending-unscheduled",
            pod("demo", "a").bare().phase("Pending").node(""),
            &["cpu", "nodeSelector", "reason", "message"],
        ),
        (
            "pod-job-completed",
            pod("demo", "a").owner("Job", "once").phase("Succeeded"),
            &["cpu", "env", ".labels", "reason"],
        ),
    ] {
        let recorded: Value =
            serde_json::from_slice(&std::fs::read(dir.join(format!("{name}.json"))).unwrap()).unwrap();
        let standin = Standin::start();
        let (mut built, mut expected) = (BTreeSet::new(), BTreeSet::new());
        shape(&standin.put_pod(builder.build()), "", &mut built);
        shape(&recorded["body"], "", &mut expected);
        let odd: Vec<_> = built
            .symmetric_difference(&expected)
            .filter(|path| !differ.iter().any(|part| path.contains(part)))
            .collect();
        assert!(odd.is_empty(), "{name}: {odd:?}");
    }
}

/// What of a line must agree.
fn signature(line: &Value) -> Value {
    let object = &line["object"];
    match line["type"].as_str().unwrap() {
        "ERROR" => summary(200, &|_| None, object),
        "BOOKMARK" => {
            let mut object = object.clone();
            object["metadata"]["resourceVersion"] = "N".into();
            json!({"type": "BOOKMARK", "object": object})
        }
        kind => {
            let metadata = &object["metadata"];
            let conditions = object["status"]["conditions"].as_array().into_iter().flatten();
            let target = conditions.filter(|condition| condition["type"] == "DisruptionTarget").count();
            json!({
                "type": kind, "name": metadata["name"], "labels": metadata["labels"], "annotations": metadata["annotations"],
                "deleting": metadata["deletionTimestamp"].is_string(), "grace": metadata["deletionGracePeriodSeconds"],
                "phase": object["status"]["phase"], "target": target, "containers": object["status"]["containerStatuses"][0]["state"].as_object().map(|state| state.keys().cloned().collect::<Vec<_>>()),
            })
        }
    }
}

/// The signatures, one of each run of equal ones (the kubelet's status writes differ in nothing else).
fn signatures(lines: &[Value]) -> Vec<Value> {
    let mut all: Vec<Value> = lines.iter().map(signature).collect();
    all.dedup();
    all
}

/// The recorded target with another start and time-out (seconds).
fn retarget(path: &str, version: Option<u64>, timeout: u64) -> String {
    let (head, query) = path.split_once('?').unwrap();
    let pairs = query.split('&').map(|pair| match (pair.split_once('='), version) {
        (Some(("timeoutSeconds", _)), _) => format!("timeoutSeconds={timeout}"),
        (Some(("resourceVersion", _)), Some(version)) => format!("resourceVersion={version}"),
        _ => pair.to_owned(),
    });
    format!("{head}?{}", pairs.collect::<Vec<_>>().join("&"))
}

#[test]
fn watches_stream_as_recorded() {
    let Some(dir) = recordings() else { return };
    std::thread::scope(|scope| {
        for (name, file) in load(&dir).into_iter().filter(|(name, _)| kind(name) == Kind::Watched) {
            scope.spawn(move || streams_as_recorded(&name, &file));
        }
    });
}

fn streams_as_recorded(name: &str, file: &Value) {
    let standin = Standin::start();
    let request = &file["request"];
    let path = request["path"].as_str().unwrap();
    let recorded: Vec<Value> = file["lines"].as_array().unwrap().iter().map(|line| line["event"].clone()).collect();
    let object = |index: usize| recorded[index]["object"].clone();
    let open = |version: Option<u64>, timeout| perform(&standin, request, &retarget(path, version, timeout));
    let now = |standin: &Standin| Some(standin.resource_version());
    let lines = match name {
        "watch-410" => {
            grow_old(&standin);
            open(None, 1).all_lines(WHILE)
        }
        "watch-future-rv" | "watch-initial-events-unsupported" => open(None, 1).all_lines(WHILE),
        "watch-bookmark" => open(now(&standin), 4).all_lines(WHILE),
        "watch-no-rv" | "watch-initial-events-rv0" => {
            standin.support_initial_events(true);
            recorded
                .iter()
                .filter(|line| line["type"] == "ADDED")
                .for_each(|line| drop(standin.put_pod(line["object"].clone())));
            open(None, 1).all_lines(WHILE)
        }
        "watch-initial-events" => {
            standin.support_initial_events(true);
            standin.put_pod(object(0));
            standin.put_pod(object(1));
            let mut watch = open(None, 4);
            let mut lines: Vec<_> = (0..3).map(|_| watch.line()).collect();
            standin.put_pod(object(3));
            standin.put_pod(object(4));
            let deleted = common::request(
                &standin,
                "DELETE",
                "/api/v1/namespaces/default/pods/c?gracePeriodSeconds=0",
                "application/json",
                &Value::Null,
            );
            assert_eq!(deleted.code, 200);
            lines.extend(watch.all_lines(WHILE));
            lines
        }
        "watch-label-removed-added" => {
            standin.put_pod(object(0));
            let mut watch = open(now(&standin), 1);
            for value in ["off", "enabled"] {
                standin.edit_pod("demo", "qos-besteffort", |pod| {
                    pod["metadata"]["labels"]["pre-oom-killer"] = value.into()
                });
            }
            watch.all_lines(WHILE)
        }
        _ => {
            let mut watch = open(now(&standin), 1);
            let evicted = |line: &&Value| signature(line)["target"] != 1;
            recorded.iter().take_while(evicted).for_each(|line| drop(standin.put_pod(line["object"].clone())));
            if name == "watch-pod-life" {
                assert_eq!(common::evict(&standin, "demo", "wlife", json!({})).code, 201);
            }
            watch.all_lines(WHILE)
        }
    };
    assert_eq!(signatures(&lines), signatures(&recorded), "{name}");
}

const WHILE: Duration = Duration::from_secs(6);
