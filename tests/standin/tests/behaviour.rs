//! What the stand-in does over time: watches, the two writes, faults, connections.
#![allow(clippy::unwrap_used, reason = "a test may panic")]

mod common;

use common::{Next, evict, eviction_path, get, post, request, watch};
use serde_json::{Value, json};
use standin::{Fault, Pdb, Standin, pod, slack};
use std::time::{Duration, Instant};

/// The longest wait for what has to happen.
fn soon() -> Duration {
    slack(Duration::from_secs(5))
}

fn brief(line: &Value) -> (String, String) {
    let text = |value: &Value| value.as_str().unwrap_or("").to_owned();
    (text(&line["type"]), text(&line["object"]["metadata"]["name"]))
}

#[test]
fn a_selector_turns_changes_into_added_and_deleted() {
    let standin = Standin::start();
    standin.put_pod(pod("demo", "a").build());
    standin.put_pod(pod("demo", "b").unlabelled().build());
    standin.put_pod(pod("demo", "c").node("other").build());
    let from = standin.resource_version();
    let mut lines = watch(
        &standin,
        &format!(
            "resourceVersion={from}&labelSelector=pre-oom-killer%3Denabled&fieldSelector=spec.nodeName%3Dnode-host"
        ),
    );
    standin.edit_pod("demo", "a", |pod| pod["metadata"]["labels"]["pre-oom-killer"] = "off".into());
    let line = lines.line();
    assert_eq!(brief(&line), ("DELETED".into(), "a".into()));
    assert_eq!(line["object"]["metadata"]["labels"]["pre-oom-killer"], "enabled", "the object as it was before");
    assert_eq!(line["object"]["metadata"]["resourceVersion"], (from + 1).to_string(), "with the new version");
    standin.edit_pod("demo", "b", |pod| pod["metadata"]["labels"]["pre-oom-killer"] = "enabled".into());
    assert_eq!(brief(&lines.line()), ("ADDED".into(), "b".into()));
    standin.edit_pod("demo", "c", |pod| pod["metadata"]["annotations"] = json!({"x": "y"}));
    standin.edit_pod("demo", "b", |pod| pod["metadata"]["annotations"] = json!({"x": "y"}));
    assert_eq!(brief(&lines.line()), ("MODIFIED".into(), "b".into()), "c is not seen");
    standin.remove_pod("demo", "b");
    assert_eq!(brief(&lines.line()), ("DELETED".into(), "b".into()));
    let old = standin.pod("demo", "a").unwrap();
    standin.put_pod(pod("demo", "a").uid("another").build());
    assert_ne!(standin.pod("demo", "a").unwrap()["metadata"]["uid"], old["metadata"]["uid"]);
    assert_eq!(brief(&lines.line()), ("ADDED".into(), "a".into()));
    assert_eq!(lines.next(Duration::from_millis(50)), Next::Silence);
}

#[test]
fn a_watch_can_be_ended_cut_hung_expired_and_bookmarked() {
    let standin = Standin::start();
    let opened = || watch(&standin, "allowWatchBookmarks=true");
    let all = |n| standin.wait_for(soon(), |standin| (standin.watches() == n).then_some(())).unwrap();
    let mut ended = opened();
    all(1);
    standin.bookmark();
    assert_eq!(ended.line()["object"]["spec"], json!({"containers": null}));
    standin.end_watches();
    assert_eq!(ended.next(soon()), Next::End);
    all(0);
    let mut cut = opened();
    standin.cut_watches();
    assert_eq!(cut.next(soon()), Next::Torn);
    let mut expired = opened();
    standin.expire_watches();
    assert_eq!(expired.line()["object"]["code"], 410);
    assert_eq!(expired.next(soon()), Next::End);
    let mut hung = watch(&standin, "timeoutSeconds=1");
    standin.hang_watches();
    standin.put_pod(pod("demo", "a").build());
    assert_eq!(hung.next(Duration::from_millis(1500)), Next::Silence, "silent, also beyond its time-out");
    standin.refuse_watches_with(403);
    assert_eq!(opened().code, 403);
    assert_eq!(get(&standin, "/api/v1/pods").code, 200, "lists are served");
    standin.clear_faults();
    assert_eq!(opened().code, 200);
    standin.go_away();
    assert_eq!(hung.next(soon()), Next::Torn);
}

#[test]
fn a_short_history_is_too_old_soon() {
    let standin = Standin::start();
    let from = standin.resource_version();
    standin.set_history(2);
    for name in ["a", "b", "c"] {
        standin.put_pod(pod("demo", name).build());
    }
    let mut lines = watch(&standin, &format!("resourceVersion={from}"));
    assert_eq!(lines.line()["object"]["reason"], "Expired");
    assert_eq!(lines.next(soon()), Next::End);
    let mut lines = watch(&standin, &format!("resourceVersion={}", from + 1));
    assert_eq!(brief(&lines.line()).1, "b");
    standin.compact();
    standin.put_pod(pod("demo", "d").build());
    assert_eq!([lines.line(), lines.line()].map(|line| brief(&line).1), ["c", "d"], "an open watch goes on");
}

#[test]
fn pages_are_of_one_version() {
    let standin = Standin::start();
    for name in ["a", "b", "c"] {
        standin.put_pod(pod("demo", name).build());
    }
    let page = get(&standin, "/api/v1/pods?limit=2").json();
    assert_eq!(page["metadata"]["remainingItemCount"], 1);
    standin.remove_pod("demo", "c");
    standin.put_pod(pod("demo", "d").build());
    let token = page["metadata"]["continue"].as_str().unwrap();
    let rest = get(&standin, &format!("/api/v1/pods?limit=2&continue={token}")).json();
    assert_eq!(rest["items"].as_array().unwrap().len(), 1);
    assert_eq!(rest["items"][0]["metadata"]["name"], "c", "as it was at the first page");
    assert_eq!(rest["metadata"]["resourceVersion"], page["metadata"]["resourceVersion"]);
    standin.compact();
    let expired = get(&standin, &format!("/api/v1/pods?limit=2&continue={token}"));
    assert_eq!(expired.code, 410);
    let fresh = expired.json()["metadata"]["continue"].as_str().unwrap().to_owned();
    let rest = get(&standin, &format!("/api/v1/pods?continue={fresh}")).json();
    assert_eq!(rest["items"][0]["metadata"]["name"], "d", "an inconsistent rest");
}

#[test]
fn an_eviction_is_two_writes_then_the_end() {
    let standin = Standin::start();
    let stored = standin.put_pod(pod("demo", "a").grace(7).build());
    let mut lines = watch(&standin, &format!("resourceVersion={}", standin.resource_version()));
    let answer = evict(&standin, "demo", "a", json!({"preconditions": {"uid": stored["metadata"]["uid"]}}));
    assert_eq!(answer.code, 201);
    let metadata = |line: &Value| line["object"]["metadata"].clone();
    let condition = lines.line();
    let last = condition["object"]["status"]["conditions"].as_array().unwrap().last().unwrap().clone();
    assert_eq!((&last["type"], &last["reason"]), (&json!("DisruptionTarget"), &json!("EvictionByEvictionAPI")));
    assert!(metadata(&condition)["deletionTimestamp"].is_null());
    let deletion = metadata(&lines.line());
    assert_eq!(deletion["deletionGracePeriodSeconds"], 7);
    let over = lines.line();
    assert!(over["object"]["status"]["containerStatuses"][0]["state"]["terminated"].is_object());
    assert_eq!(metadata(&over)["deletionGracePeriodSeconds"], 7);
    let zero = metadata(&lines.line());
    assert_eq!(zero["deletionGracePeriodSeconds"], 0);
    assert!(zero["deletionTimestamp"].as_str() < deletion["deletionTimestamp"].as_str(), "it jumps back");
    assert_eq!(brief(&lines.line()).0, "DELETED");
    assert!(standin.pod("demo", "a").is_none());
    assert_eq!(evict(&standin, "demo", "a", json!({})).code, 404);
}

#[test]
fn a_dry_run_changes_nothing() {
    let standin = Standin::start();
    standin.put_pod(pod("demo", "a").label("app", "a").build());
    standin.put_pdb(Pdb { healthy: 2, ..Pdb::blocking("demo", "budget", &[("app", "a")]) });
    let before = standin.resource_version();
    for _ in 0..3 {
        assert_eq!(evict(&standin, "demo", "a", json!({"dryRun": ["All"]})).code, 201);
        assert_eq!(
            post(&standin, &(eviction_path("demo", "a") + "?dryRun=All"), &json!({"metadata": {"name": "a"}})).code,
            201
        );
    }
    assert_eq!(
        post(&standin, &(eviction_path("demo", "a") + "?dryRun=Some"), &json!({"metadata": {"name": "a"}})).code,
        422
    );
    assert_eq!(standin.resource_version(), before);
    assert_eq!(evict(&standin, "demo", "a", json!({})).code, 201, "the budget was not used up");
}

#[test]
fn the_budget_comes_before_the_precondition() {
    let standin = Standin::start();
    standin.put_pod(pod("demo", "a").label("app", "a").build());
    standin.put_pdb(Pdb::blocking("demo", "budget", &[("app", "a")]));
    let wrong = json!({"preconditions": {"uid": "wrong"}});
    let answer = evict(&standin, "demo", "a", wrong.clone());
    assert_eq!((answer.code, answer.header("retry-after")), (429, None));
    assert_eq!(
        answer.json()["details"]["causes"][0]["message"],
        "The disruption budget budget needs 1 healthy pods and has 1 currently"
    );
    standin.put_pdb(Pdb { healthy: 2, ..Pdb::blocking("demo", "budget", &[("app", "a")]) });
    assert_eq!(evict(&standin, "demo", "a", wrong).code, 409);
    assert_eq!(evict(&standin, "demo", "a", json!({})).code, 201, "a refused one takes nothing from the budget");
    standin.put_pod(pod("demo", "b").label("app", "a").build());
    assert_eq!(evict(&standin, "demo", "b", json!({})).code, 429, "a granted one does");
    standin.remove_pdb("demo", "budget");
    assert_eq!(evict(&standin, "demo", "b", json!({})).code, 201);
}

#[test]
fn a_misspelled_precondition_is_lost() {
    let standin = Standin::start();
    standin.put_pod(pod("demo", "a").build());
    let body = json!({"apiVersion": "policy/v1", "kind": "Eviction", "metadata": {"name": "a", "namespace": "demo"}, "delete_options": {"preconditions": {"uid": "wrong"}}});
    let answer = post(&standin, &eviction_path("demo", "a"), &body);
    assert_eq!(answer.code, 201);
    assert_eq!(answer.header("warning"), Some(r#"299 - "unknown field \"delete_options\"""#));
}

#[test]
fn a_termination_under_way_can_only_be_shortened() {
    let standin = Standin::start();
    standin.set_removal_delay(Duration::from_secs(60));
    standin.put_pod(pod("demo", "a").grace(3600).build());
    assert_eq!(evict(&standin, "demo", "a", json!({})).code, 201);
    let first = standin.pod("demo", "a").unwrap();
    for options in [json!({}), json!({"gracePeriodSeconds": 7200})] {
        assert_eq!(evict(&standin, "demo", "a", options).code, 201);
        assert_eq!(standin.pod("demo", "a").unwrap(), first);
    }
    assert_eq!(evict(&standin, "demo", "a", json!({"gracePeriodSeconds": 600})).code, 201);
    assert_eq!(standin.pod("demo", "a").unwrap()["metadata"]["deletionGracePeriodSeconds"], 600);
    standin.edit_pod("demo", "a", |pod| pod["metadata"]["deletionTimestamp"] = "2026-01-01T00:10:00Z".into());
    assert_eq!(evict(&standin, "demo", "a", json!({"gracePeriodSeconds": 60})).code, 201);
    assert_eq!(standin.pod("demo", "a").unwrap()["metadata"]["deletionGracePeriodSeconds"], 1, "the new end is past");
    assert_eq!(evict(&standin, "demo", "a", json!({"gracePeriodSeconds": 0})).code, 201);
    assert!(standin.pod("demo", "a").is_none());
}

#[test]
fn those_that_go_at_once_ask_no_budget() {
    let standin = Standin::start();
    standin.put_pdb(Pdb::blocking("demo", "budget", &[]));
    for (name, pod) in [
        ("done", pod("demo", "done").phase("Succeeded")),
        ("failed", pod("demo", "failed").phase("Failed")),
        ("pending", pod("demo", "pending").phase("Pending").node("")),
    ] {
        standin.put_pod(pod.build());
        assert_eq!(evict(&standin, "demo", name, json!({})).code, 201);
        assert!(standin.pod("demo", name).is_none(), "{name}");
    }
}

#[test]
fn a_mirror_comes_back_with_another_uid() {
    let standin = Standin::start();
    let before = standin.put_pod(pod("demo", "static").mirror("6779c7548f22a9852a5b7cba00ac2dc4").build());
    assert_eq!(
        evict(&standin, "demo", "static", json!({"preconditions": {"uid": before["metadata"]["uid"]}})).code,
        201
    );
    let after = standin.pod("demo", "static").unwrap();
    assert_ne!(after["metadata"]["uid"], before["metadata"]["uid"]);
    assert_eq!(after["metadata"]["annotations"], before["metadata"]["annotations"]);
    assert!(after["metadata"]["deletionTimestamp"].is_null());
    assert!(after["status"]["containerStatuses"].is_null());
}

#[test]
fn a_finalizer_holds_the_object() {
    let standin = Standin::start();
    standin.set_removal_delay(Duration::ZERO);
    let mut held = pod("demo", "a").build();
    held["metadata"]["finalizers"] = json!(["example.com/hold"]);
    standin.put_pod(held);
    evict(&standin, "demo", "a", json!({}));
    let over =
        |standin: &Standin| standin.pod("demo", "a").filter(|pod| pod["metadata"]["deletionGracePeriodSeconds"] == 0);
    standin.wait_for(soon(), over).expect("the process is gone, the object is not");
    assert_eq!(evict(&standin, "demo", "a", json!({})).code, 201);
    let path = "/api/v1/namespaces/demo/pods/a";
    assert_eq!(
        request(&standin, "PATCH", path, "application/merge-patch+json", &json!({"metadata": {"finalizers": null}}))
            .code,
        200
    );
    assert!(standin.pod("demo", "a").is_none());
}

#[test]
fn pods_are_created_patched_and_deleted() {
    let standin = Standin::start();
    standin.put_namespace("demo");
    let made = post(
        &standin,
        "/api/v1/namespaces/demo/pods",
        &json!({"metadata": {"generateName": "x-"}, "spec": {"containers": []}}),
    );
    assert_eq!(made.code, 201);
    let name = made.json()["metadata"]["name"].as_str().unwrap().to_owned();
    assert_eq!(name.len(), 7);
    assert_eq!(
        post(&standin, "/api/v1/namespaces/demo/pods", &json!({"metadata": {"name": name}})).json()["reason"],
        "AlreadyExists"
    );
    assert_eq!(post(&standin, "/api/v1/namespaces/nowhere/pods", &json!({"metadata": {"name": "a"}})).code, 404);
    let path = format!("/api/v1/namespaces/demo/pods/{name}");
    let patch = json!({"metadata": {"labels": {"a": "b"}}, "spec": {"nodeName": "n"}});
    assert_eq!(
        request(&standin, "PATCH", &path, "application/merge-patch+json", &patch).json()["metadata"]["labels"],
        json!({"a": "b"})
    );
    assert_eq!(request(&standin, "PATCH", &path, "application/json-patch+json", &json!([])).code, 415);
    assert_eq!(
        request(&standin, "DELETE", &path, "application/json", &json!({"preconditions": {"uid": "no"}})).code,
        409
    );
    assert_eq!(
        request(&standin, "DELETE", &(path.clone() + "?dryRun=All"), "application/json", &Value::Null).code,
        200
    );
    assert!(standin.pod("demo", &name).unwrap()["metadata"]["deletionTimestamp"].is_null());
    let deleted =
        request(&standin, "DELETE", &(path.clone() + "?gracePeriodSeconds=9"), "application/json", &Value::Null);
    assert_eq!(deleted.json()["metadata"]["deletionGracePeriodSeconds"], 9);
    assert_eq!(request(&standin, "PUT", &path, "application/json", &json!({})).code, 405);
    let gone = |standin: &Standin| standin.pod("demo", &name).is_none().then_some(());
    standin.wait_for(soon(), gone).unwrap();
}

/// As the real server: of a DELETE with a body the query is not read, so a dry run has to be in the body.
#[test]
fn a_deletion_with_a_body_is_a_dry_run_by_its_body_alone() {
    let standin = Standin::start();
    for (query, body, deleted) in [
        ("", json!({"dryRun": ["All"], "gracePeriodSeconds": 9}), false),
        ("?dryRun=All&gracePeriodSeconds=3", json!({"gracePeriodSeconds": 9}), true),
    ] {
        standin.put_pod(pod("demo", "a").build());
        let path = format!("/api/v1/namespaces/demo/pods/a{query}");
        assert_eq!(request(&standin, "DELETE", &path, "application/json", &body).code, 200);
        let grace = standin.pod("demo", "a").unwrap()["metadata"]["deletionGracePeriodSeconds"].as_i64();
        assert_eq!(grace, deleted.then_some(9), "{query} {body}");
    }
}

#[test]
fn a_malformed_pod_is_served_as_it_is() {
    let standin = Standin::start();
    let odd = json!({"metadata": {"name": "odd", "namespace": "demo", "labels": {"pre-oom-killer": "enabled"}}, "spec": 7, "status": []});
    standin.put_pod(odd);
    standin.put_pod(json!({"metadata": null}));
    standin.put_pod(json!("no object"));
    assert_eq!(get(&standin, "/api/v1/pods?labelSelector=pre-oom-killer").json()["items"][0]["spec"], 7);
    assert_eq!(evict(&standin, "demo", "odd", json!({})).code, 201);
}

#[test]
fn tokens_and_rights() {
    let standin = Standin::start();
    standin.set_token("first");
    let with = |token: &str| {
        common::send(&standin, "GET", "/api/v1/pods", &[("authorization", &format!("Bearer {token}"))], "")
            .unwrap()
            .code
    };
    assert_eq!((with("first"), with("second")), (200, 401));
    standin.accept_token("second");
    assert_eq!((with("first"), with("second")), (200, 200));
    standin.set_token("second");
    assert_eq!((with("first"), with("second")), (401, 200));
    let review = || {
        post(
            &standin,
            "/apis/authorization.k8s.io/v1/selfsubjectaccessreviews",
            &json!({"spec": {"resourceAttributes": {"verb": "create", "resource": "pods", "subresource": "eviction"}}}),
        )
    };
    assert_eq!(review().json()["status"]["allowed"], true);
    standin.deny("create", "pods/eviction");
    assert_eq!((review().code, review().json()["status"]["allowed"].clone()), (201, false.into()));
    assert_eq!(evict(&standin, "demo", "nope", json!({})).code, 403, "before existence");
    standin.allow("create", "pods/eviction");
    assert_eq!(evict(&standin, "default", "nope", json!({})).code, 404);
    assert_eq!(
        (get(&standin, "/api/v1/nodes/x").code, get(&standin, "/foo").text),
        (404, "404 page not found\n".into())
    );
}

#[test]
fn faults_come_in_order_and_run_out() {
    let standin = Standin::start();
    standin.put_pod(pod("demo", "a").build());
    standin.fault(Fault::on("POST", "/eviction").times(2).recorded("evict-429-apf"));
    standin.fault(Fault::on("POST", "/eviction").answer(418, &[("retry-after", "3")], json!({"a": 1})));
    standin.fault(Fault::on("POST", "/eviction").reset());
    standin.fault(Fault::on("POST", "/eviction").cut_after(5));
    let codes: Vec<_> = (0..3).map(|_| evict(&standin, "demo", "a", json!({})).code).collect();
    assert_eq!(codes, [429, 429, 418]);
    assert!(standin.pod("demo", "a").unwrap()["metadata"]["deletionTimestamp"].is_null());
    let body = json!({"metadata": {"name": "a"}}).to_string();
    let authorization = common::bearer(&standin);
    let raw =
        || common::send(&standin, "POST", &eviction_path("demo", "a"), &[("authorization", &authorization)], &body);
    assert_eq!(raw().err().unwrap().kind(), std::io::ErrorKind::ConnectionReset);
    assert!(standin.pod("demo", "a").unwrap()["metadata"]["deletionTimestamp"].is_null(), "reset before it happened");
    let cut = raw().unwrap().finish();
    assert_eq!((cut.code, cut.text.len(), cut.torn), (201, 5, true));
    assert!(
        standin.pod("demo", "a").is_none_or(|pod| pod["metadata"]["deletionTimestamp"].is_string()),
        "but it did happen"
    );
    standin.put_pod(pod("demo", "b").build());
    standin.fault(Fault::on("POST", "/b/eviction").after_handling().reset());
    standin.fault(Fault::on("GET", "/readyz").delay(Duration::from_millis(80)));
    let body = json!({"metadata": {"name": "b"}}).to_string();
    assert!(
        common::send(&standin, "POST", &eviction_path("demo", "b"), &[("authorization", &authorization)], &body)
            .is_err()
    );
    assert!(standin.pod("demo", "b").unwrap()["metadata"]["deletionTimestamp"].is_string(), "reset after it happened");
    let start = Instant::now();
    assert_eq!(get(&standin, "/readyz").text, "ok");
    assert!(start.elapsed() >= Duration::from_millis(80));
}

#[test]
fn a_hanging_request_is_logged_without_an_answer() {
    let standin = Standin::start();
    standin.fault(Fault::on("GET", "watch=1").hang_before_headers());
    let client = standin.clone();
    let hung = std::thread::spawn(move || common::send(&client, "GET", "/api/v1/pods?watch=1", &[], "").is_err());
    let seen = standin.wait_for(soon(), |standin| standin.requests_to("GET", "/pods").pop()).unwrap();
    assert_eq!((seen.answer, seen.query_value("watch")), (None, Some("1".into())));
    standin.go_away();
    assert!(hung.join().unwrap());
    assert!(std::net::TcpStream::connect(standin.address()).is_err(), "nobody listens");
    standin.come_back();
    assert_eq!(get(&standin, "/readyz").code, 200);
    let last = standin.requests().pop().unwrap();
    assert_eq!((last.number, last.answer.unwrap().0, last.header("authorization")), (2, 200, Some("Bearer")));
}

#[test]
fn the_answer_comes_after_the_change() {
    let standin = Standin::start();
    standin.put_pod(pod("demo", "a").build());
    standin.answer_delay(Duration::from_millis(300));
    let client = standin.clone();
    let evicting = std::thread::spawn(move || evict(&client, "demo", "a", json!({})).code);
    let changed =
        |standin: &Standin| standin.pod("demo", "a").filter(|pod| pod["metadata"]["deletionTimestamp"].is_string());
    standin.wait_for(soon(), changed).unwrap();
    assert_eq!(standin.requests()[0].answer, None);
    assert_eq!(evicting.join().unwrap(), 201);
    assert!(
        standin.requests()[0].answer.unwrap().1.duration_since(standin.requests()[0].at) >= Duration::from_millis(300)
    );
}

#[test]
fn events_are_one_store_in_two_spellings() {
    let standin = Standin::start();
    let event = json!({"metadata": {"name": "e", "namespace": "default"}, "regarding": {"kind": "Pod", "name": "a", "namespace": "default"},
        "action": "Evicting", "reason": "PreOOMKill", "type": "Warning", "note": "n", "eventTime": "2026-11-23T19:00:35.977416Z",
        "reportingController": "pre-oom-killer", "reportingInstance": "x"});
    assert_eq!(post(&standin, "/apis/events.k8s.io/v1/namespaces/default/events", &event).code, 201);
    assert_eq!(standin.events()[0]["note"], "n");
    let core = get(&standin, "/api/v1/namespaces/default/events?fieldSelector=involvedObject.name%3Da").json();
    assert_eq!((&core["items"][0]["message"], &core["items"][0]["involvedObject"]["name"]), (&json!("n"), &json!("a")));
    let path = "/apis/events.k8s.io/v1/namespaces/default/events/e";
    let series = json!({"series": {"count": 2, "lastObservedTime": "2026-11-23T19:00:36.000000Z"}});
    assert_eq!(request(&standin, "PATCH", path, "application/merge-patch+json", &series).code, 200);
    assert_eq!(standin.events()[0]["series"]["count"], 2);
    let mut bad = event.clone();
    bad["metadata"]["name"] = "f".into();
    for (time, code) in [
        ("2026-11-23T19:00:35.977Z", 400),
        ("2026-11-23T19:00:35.977416123Z", 400),
        ("2026-11-23T19:00:35.977416+01:00", 201),
    ] {
        bad["eventTime"] = time.into();
        assert_eq!(post(&standin, "/apis/events.k8s.io/v1/namespaces/default/events", &bad).code, code, "{time}");
    }
}

#[test]
fn a_watch_starts_where_it_is_told() {
    let standin = Standin::start();
    standin.put_pod(pod("demo", "a").build());
    for query in ["timeoutSeconds=1", "timeoutSeconds=1&resourceVersion=0"] {
        let lines = watch(&standin, query).all_lines(soon());
        assert_eq!(lines.iter().map(brief).collect::<Vec<_>>(), [("ADDED".into(), "a".into())], "{query}");
    }
    assert_eq!(
        watch(&standin, "timeoutSeconds=1&allowWatchBookmarks=1&resourceVersion=99999999").all_lines(soon()),
        [] as [Value; 0]
    );
    let unsupported = watch(&standin, "sendInitialEvents=true&resourceVersionMatch=NotOlderThan").all_lines(soon());
    assert_eq!(unsupported[0]["object"]["code"], 500);
    standin.support_initial_events(true);
    let lines = watch(
        &standin,
        "sendInitialEvents=true&resourceVersionMatch=NotOlderThan&allowWatchBookmarks=1&timeoutSeconds=1",
    )
    .all_lines(soon());
    assert_eq!(lines[1]["object"]["metadata"]["annotations"]["k8s.io/initial-events-end"], "true");
}

#[test]
fn a_bookmark_comes_two_seconds_before_the_end() {
    let standin = Standin::start();
    let start = Instant::now();
    let mut lines = watch(&standin, "timeoutSeconds=4&allowWatchBookmarks=true&resourceVersion=1000");
    assert_eq!(
        lines.line(),
        json!({"type": "BOOKMARK", "object": {"kind": "Pod", "apiVersion": "v1", "metadata": {"resourceVersion": "1000"}, "spec": {"containers": null}, "status": {}}})
    );
    assert!((1950..3000).contains(&start.elapsed().as_millis()));
    assert!(lines.all_lines(soon()).len() <= 1);
    assert!((3950..5500).contains(&start.elapsed().as_millis()), "then the end");
}

#[test]
fn a_pods_port_is_reached_through_the_proxy() {
    let standin = Standin::start();
    standin.put_pod(pod("demo", "a").build());
    let path = "/api/v1/namespaces/demo/pods/a:8080/proxy/api/guards";
    let refused = get(&standin, path);
    assert_eq!((refused.code, &refused.json()["reason"]), (503, &json!("ServiceUnavailable")));
    let other = Standin::start();
    standin.forward("demo", "a", 8080, other.address());
    let version = get(&standin, "/api/v1/namespaces/demo/pods/a:8080/proxy/version");
    assert_eq!((version.code, &version.json()["gitVersion"]), (200, &json!("v1.36.2")));
    assert_eq!(other.requests_to("GET", "/version").len(), 1);
    assert_eq!(get(&standin, path).code, 403, "the answer is passed on as it is");
    assert_eq!(get(&standin, "/api/v1/namespaces/demo/pods/b:8080/proxy/").code, 404);
    standin.deny("get", "pods/proxy");
    assert_eq!(get(&standin, path).json()["reason"], "Forbidden");
}
