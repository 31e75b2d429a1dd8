//! Lists and watches as the agent uses them.

use serde_json::{Value, json};
use standin::compare::summary;

use crate::recorded::compare;
use crate::server::Who;
use crate::world::{Cluster, NODE, World, poll};

/// What the agent asks for, of this namespace alone.
fn selection(world: &World<'_>) -> String {
    format!(
        "/api/v1/namespaces/{}/pods?fieldSelector=spec.nodeName%3D{NODE}&labelSelector=pre-oom-killer%3Denabled",
        world.ns
    )
}

/// The lines of a watch from a version on, over `seconds`.
fn watch(world: &World<'_>, from: u64, seconds: u32) -> Vec<Value> {
    world.server.watch(&world.cluster.agent, &watch_path(world, from, seconds))
}

fn watch_path(world: &World<'_>, from: u64, seconds: u32) -> String {
    format!("{}&watch=1&allowWatchBookmarks=true&resourceVersion={from}&timeoutSeconds={seconds}", selection(world))
}

/// A watch from a version that is forgotten: HTTP 200, one ERROR line with code 410, the end. A list of such a version,
/// and the rest of one that was begun too long ago: HTTP 410.
pub fn a_version_that_is_too_old_is_410(cluster: &Cluster) {
    let world = cluster.world();
    let server = world.server;
    for name in ["a", "b", "c"] {
        world.pod(name, |_| {});
    }
    let old = server.resource_version();
    let page = server.get(&Who::admin(), &format!("/api/v1/namespaces/{}/pods?limit=2", world.ns)).json();
    let rest = page["metadata"]["continue"].as_str().expect("there is more").to_owned();
    assert_eq!(page["items"].as_array().map(Vec::len), Some(2));
    world.pod("d", |_| {});
    // What a watch begins with is in the server's own memory, from its start on. So this is what all watches meet when an
    // API server is restarted, or its neighbour behind the same address answers.
    let younger = server.beside(&[]);
    let lines = younger.watch(&cluster.agent, &watch_path(&world, old, 2));
    assert_eq!(lines.len(), 1, "{lines:?}");
    assert_eq!(lines[0]["type"], "ERROR");
    let expected = json!({
        "/code": 410, "/reason": "Expired", "/status": "Failure", "code": 200,
        "shape": ".apiVersion .code .kind .message .metadata .reason .status",
    });
    let mut got = summary(200, &|_| None, &lines[0]["object"]);
    let message = got.as_object_mut().and_then(|got| got.remove("/message")).unwrap_or_default();
    assert!(message.as_str().is_some_and(|text| text.starts_with("too old resource version: ")), "{message}");
    assert_eq!(got, expected);

    // Of what etcd has forgotten the older server still has an image.
    server.compact(server.resource_version());
    let exact = format!("/api/v1/pods?limit=5&resourceVersion={old}&resourceVersionMatch=Exact");
    let gone =
        poll("it is forgotten", || Some(younger.get(&cluster.agent, &exact)).filter(|answer| answer.code != 200));
    compare("list-410-exact", &gone, &[]);
    let rest = format!("/api/v1/namespaces/{}/pods?limit=2&continue={rest}", world.ns);
    let gone = poll("it is forgotten", || Some(younger.get(&Who::admin(), &rest)).filter(|answer| answer.code != 200));
    compare("list-410-continue", &gone, &[]);
}

/// The life of a pod as the agent's watch sees it: the label taken off is DELETED though the pod lives, set again is
/// ADDED; an eviction is two MODIFIED, first the reason, then the time; the kubelet's removal another, and DELETED.
pub fn a_pods_life_is_told_line_by_line(cluster: &Cluster) {
    let world = cluster.world();
    let from = world.server.resource_version();
    let uid = world.pod("web", |_| {});
    for value in ["off", "enabled"] {
        world.edit("web", json!({"metadata": {"labels": {"pre-oom-killer": value}}}));
    }
    assert_eq!(world.evict(&cluster.agent, "web", &uid, "").code, 201);
    world.remove("web");
    let told: Vec<_> = watch(&world, from, 2)
        .iter()
        .filter(|line| line["type"] != "BOOKMARK")
        .map(|line| {
            let pod = &line["object"];
            let conditions = pod["status"]["conditions"].as_array().cloned().unwrap_or_default();
            let target = conditions.iter().find(|condition| condition["type"] == "DisruptionTarget");
            let reason = target.map_or("", |target| target["reason"].as_str().unwrap_or_default()).to_owned();
            let kind = line["type"].as_str().unwrap_or_default().to_owned();
            (kind, reason, pod["metadata"]["deletionTimestamp"].is_string())
        })
        .collect();
    let line = |kind: &str, reason: &str, deleting| (kind.to_owned(), reason.to_owned(), deleting);
    let evicted = "EvictionByEvictionAPI";
    assert_eq!(
        told,
        [
            line("ADDED", "", false),
            line("MODIFIED", "", false), // Running
            line("DELETED", "", false),
            line("ADDED", "", false),
            line("MODIFIED", evicted, false),
            line("MODIFIED", evicted, true),
            line("MODIFIED", evicted, true), // grace 0
            line("DELETED", evicted, true),
        ]
    );
}

/// A list by pages has all pods once; a bookmark has a version and nothing else.
pub fn pages_and_bookmarks(cluster: &Cluster) {
    let world = cluster.world();
    let names: Vec<String> = (0..5).map(|n| format!("pod-{n}")).collect();
    names.iter().for_each(|name| drop(world.pod(name, |_| {})));
    let (mut found, mut rest) = (Vec::new(), String::new());
    loop {
        let path = format!("{}&limit=2&continue={rest}", selection(&world));
        let page = world.server.get(&cluster.agent, &path).json();
        let items = page["items"].as_array().expect("a list");
        assert!(items.len() <= 2, "{page}");
        found.extend(items.iter().map(|pod| pod["metadata"]["name"].as_str().expect("a name").to_owned()));
        match page["metadata"]["continue"].as_str().filter(|rest| !rest.is_empty()) {
            Some(more) => rest = more.to_owned(),
            None => break,
        }
    }
    assert_eq!(found, names);
    // The server sends one shortly before a watch's time is over.
    let lines = watch(&world, world.server.resource_version(), 5);
    let bookmark = lines.iter().find(|line| line["type"] == "BOOKMARK").unwrap_or_else(|| panic!("{lines:?}"));
    let pod = &bookmark["object"];
    assert!(pod["metadata"]["resourceVersion"].is_string() && pod["spec"]["containers"].is_null(), "{pod}");
    assert!(pod["metadata"]["name"].is_null() && pod["metadata"]["uid"].is_null(), "{pod}");
}
