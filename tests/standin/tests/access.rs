//! Who may what: rules of manifests, acting as a node, the policies; in the words that a real server (1.36.2) was
//! seen to use.
#![allow(clippy::unwrap_used, reason = "a test may panic")]

mod common;

use common::{AS_OWN_NODE, as_node, evict, eviction, eviction_path, get, post, request};
use serde_json::{Value, json};
use standin::{Pdb, Standin, pod};

const PLAIN: &str = r#"
kind: ServiceAccount
metadata: {name: agent, namespace: ns}
---
kind: ClusterRole
metadata: {name: agent}
rules:
- {apiGroups: [""], resources: [pods], verbs: [list, watch]}
- {apiGroups: [""], resources: [pods/eviction], verbs: [create]}
---
kind: Role
metadata: {name: agent-events, namespace: demo}
rules:
- {apiGroups: [events.k8s.io], resources: [events], verbs: [create]}
---
kind: ClusterRoleBinding
metadata: {name: agent}
roleRef: {kind: ClusterRole, name: agent}
subjects: [{kind: ServiceAccount, name: agent, namespace: ns}, {kind: ServiceAccount, name: other, namespace: ns}]
---
kind: RoleBinding
metadata: {name: agent, namespace: demo}
roleRef: {kind: Role, name: agent-events}
subjects: [{kind: ServiceAccount, name: agent, namespace: ns}]
---
kind: DaemonSet
metadata: {name: agent, namespace: ns}
"#;

fn server(manifests: &str) -> Standin {
    let standin = Standin::start();
    let accounts = standin.grant(manifests);
    standin.identify(&accounts[0], Some("node-host"));
    standin.put_pod(pod("demo", "own").uid("u").build());
    standin.put_pod(pod("demo", "other").uid("u").node("node-other").build());
    standin
}

fn review(verb: &str, group: &str, resource: &str, subresource: &str, namespace: &str) -> Value {
    let attributes =
        json!({"verb": verb, "group": group, "resource": resource, "subresource": subresource, "namespace": namespace});
    json!({"apiVersion": "authorization.k8s.io/v1", "kind": "SelfSubjectAccessReview", "spec": {"resourceAttributes": attributes}})
}

fn may(standin: &Standin, verb: &str, group: &str, resource: &str, subresource: &str, namespace: &str) -> bool {
    let review = review(verb, group, resource, subresource, namespace);
    let answer = post(standin, "/apis/authorization.k8s.io/v1/selfsubjectaccessreviews", &review);
    assert_eq!(answer.code, 201);
    answer.json()["status"]["allowed"] == true
}

fn message(answer: &common::Answer) -> String {
    answer.json()["message"].as_str().unwrap_or_default().to_owned()
}

#[test]
fn what_is_not_granted_is_refused_and_an_access_review_says_so() {
    let standin = server(PLAIN);
    assert_eq!(get(&standin, "/api/v1/pods").code, 200);
    let refused = get(&standin, "/api/v1/namespaces/demo/pods/own");
    assert_eq!(
        (refused.code, message(&refused)),
        (403, r#"pods "own" is forbidden: User "system:serviceaccount:ns:agent" cannot get resource "pods" in API group "" in the namespace "demo""#.into())
    );
    assert_eq!(
        request(&standin, "DELETE", "/api/v1/namespaces/demo/pods/own", "application/json", &json!({})).code,
        403
    );
    let events =
        |group: &str, namespace: &str| post(&standin, &format!("{group}/namespaces/{namespace}/events"), &json!({}));
    assert_eq!(events("/apis/events.k8s.io/v1", "demo").code, 422, "allowed, though not a good one");
    assert_eq!(events("/apis/events.k8s.io/v1", "default").code, 403, "the Role is of one namespace");
    assert_eq!(events("/api/v1", "demo").code, 403, "another group");
    for (verb, group, resource, subresource, namespace, expected) in [
        ("list", "", "pods", "", "", true),
        ("watch", "", "pods", "", "demo", true),
        ("get", "", "pods", "", "", false),
        ("create", "", "pods", "eviction", "", true),
        ("create", "", "pods", "", "", false),
        ("create", "events.k8s.io", "events", "", "demo", true),
        ("create", "events.k8s.io", "events", "", "", false),
        ("create", "", "events", "", "demo", false),
    ] {
        let found = may(&standin, verb, group, resource, subresource, namespace);
        assert_eq!(found, expected, "{verb} {resource}/{subresource}.{group} in {namespace:?}");
    }
    standin.identify("system:serviceaccount:ns:nobody", None);
    assert_eq!(get(&standin, "/api/v1/pods").code, 403, "another account");
}

#[test]
fn what_was_granted_and_never_used_is_known() {
    let standin = server(PLAIN);
    standin.identify("system:serviceaccount:ns:agent", None);
    let unused = || {
        let mine = standin.unused_grants().into_iter().filter(|grant| grant.account.ends_with(":agent"));
        mine.map(|grant| grant.to_string()).collect::<Vec<_>>()
    };
    assert!(may(&standin, "list", "", "pods", "", ""), "to ask is no use");
    assert_eq!(unused().len(), 4);
    get(&standin, "/api/v1/pods");
    evict(&standin, "demo", "nope", json!({}));
    assert_eq!(unused(), ["watch pods (core)", "create events (events.k8s.io) in demo"]);
    let watch = standin.grants().into_iter().find(|grant| grant.verb == "watch" && grant.account.ends_with(":agent"));
    standin.revoke(&watch.unwrap());
    assert_eq!(get(&standin, "/api/v1/pods?watch=1").code, 403);
}

#[test]
#[should_panic(expected = "which is not there")]
fn a_binding_of_no_role_is_a_mistake() {
    Standin::start().grant("kind: ClusterRoleBinding\nmetadata: {name: x}\nroleRef: {kind: ClusterRole, name: gone}\n");
}

#[test]
fn the_own_node_is_acted_as_and_confines() {
    let standin = server(AS_OWN_NODE);
    let options = |uid: &str| json!({"preconditions": {"uid": uid}});
    let act = |node: &str, name: &str| {
        let body = eviction("demo", name, options("u"));
        as_node(&standin, node, "POST", &format!("{}?dryRun=All", eviction_path("demo", name)), &body)
    };
    assert_eq!(evict(&standin, "demo", "own", options("u")).code, 403, "no right of its own");
    assert_eq!(act("node-host", "own").code, 201);
    for (node, name, code, words) in [
        ("node-host", "other", 403, "node node-host can only evict pods with spec.nodeName set to itself"),
        ("node-host", "nope", 404, r#"pod "nope" not found"#),
        ("node-other", "other", 403, "cannot impersonate-on:arbitrary-node:create resource \"pods/eviction\""),
    ] {
        let answer = act(node, name);
        assert!(
            answer.code == code && message(&answer).ends_with(words) || message(&answer).contains(words),
            "{answer:?}"
        );
        assert_eq!(answer.code, code);
    }
    let read = |target: &str| as_node(&standin, "node-host", "GET", target, &Value::Null);
    let list = read("/api/v1/pods?fieldSelector=spec.nodeName%3Dnode-host").json();
    assert_eq!(list["items"].as_array().unwrap().len(), 1);
    for target in ["/api/v1/pods", "/api/v1/pods?fieldSelector=spec.nodeName%3Dnode-other", "/api/v1/pods?watch=1"] {
        let answer = read(target);
        let words = "can only list/watch pods with spec.nodeName field selector";
        assert!(answer.code == 403 && message(&answer).ends_with(words), "{target}: {answer:?}");
    }
    assert_eq!(read("/api/v1/namespaces/demo/pods/own").code, 200);
    assert_eq!(read("/api/v1/namespaces/demo/pods/other").code, 403);
    let delete = |name: &str| {
        as_node(
            &standin,
            "node-host",
            "DELETE",
            &format!("/api/v1/namespaces/demo/pods/{name}?dryRun=All"),
            &Value::Null,
        )
    };
    assert!(message(&delete("own")).contains("cannot impersonate-on:associated-node:delete resource \"pods\""));
    standin.grant(&AS_OWN_NODE.replace("associated-node:get", "associated-node:delete"));
    assert_eq!(delete("own").code, 200);
    assert!(
        message(&delete("other")).ends_with("node node-host can only delete pods with spec.nodeName set to itself")
    );
    let reviews = "/apis/authorization.k8s.io/v1/selfsubjectaccessreviews";
    let review = review("list", "", "pods", "", "");
    assert_eq!(as_node(&standin, "node-host", "POST", reviews, &review).code, 403, "not granted as the node");
    assert!(may(&standin, "impersonate-on:associated-node:create", "", "pods", "eviction", ""));
    assert!(!may(&standin, "create", "", "pods", "eviction", ""));
}

#[test]
fn a_group_an_unbound_token_and_an_older_server_are_refused() {
    let standin = server(AS_OWN_NODE);
    let body = eviction("demo", "own", json!({})).to_string();
    let bearer = common::bearer(&standin);
    let headers = [
        ("authorization", &*bearer),
        ("content-type", "application/json"),
        ("impersonate-user", "system:node:node-host"),
        ("impersonate-group", "system:masters"),
    ];
    let send = |headers: &[(&str, &str)]| {
        let answer = common::send(&standin, "POST", &eviction_path("demo", "own"), headers, &body).unwrap().finish();
        (answer.code, message(&answer))
    };
    let legacy = (
        403,
        r#"users "system:node:node-host" is forbidden: User "system:serviceaccount:pre-oom-killer:confined" cannot impersonate resource "users" in API group "" at the cluster scope"#.to_owned(),
    );
    assert_eq!(send(&headers), legacy);
    standin.set_constrained_impersonation(false);
    assert_eq!(send(&headers[..3]), legacy);
    standin.set_constrained_impersonation(true);
    standin.identify("system:serviceaccount:pre-oom-killer:confined", None);
    assert!(send(&headers[..3]).1.contains("cannot impersonate-on:arbitrary-node:create"));
    standin.identify("system:serviceaccount:pre-oom-killer:confined", Some("node-host"));
    let node = standin.grants().into_iter().find(|grant| grant.verb == "impersonate:associated-node").unwrap();
    standin.revoke(&node);
    assert!(send(&headers[..3]).1.contains("cannot impersonate:associated-node resource \"nodes\""));
}

#[test]
fn without_node_restriction_any_pod_can_be_evicted() {
    let standin = server(AS_OWN_NODE);
    standin.set_node_restriction(false);
    let act = |name: &str| {
        let body = eviction("demo", name, json!({}));
        as_node(&standin, "node-host", "POST", &format!("{}?dryRun=All", eviction_path("demo", name)), &body)
    };
    assert_eq!(act("other").code, 201);
    assert_eq!(message(&act("nope")), r#"pods "nope" not found"#);
}

#[test]
fn the_policies_refuse_in_the_order_of_their_rules() {
    let standin = server(PLAIN);
    standin.set_policy(true);
    standin.put_pod(pod("demo", "unlabelled").uid("u").unlabelled().label("app", "x").build());
    standin.put_pdb(Pdb::blocking("demo", "budget", &[("app", "x")]));
    let try_ = |name: &str, options: Value| {
        post(&standin, &format!("{}?dryRun=All", eviction_path("demo", name)), &eviction("demo", name, options))
    };
    let uid = |uid: &str| json!({"preconditions": {"uid": uid}});
    assert_eq!(try_("own", uid("u")).code, 201);
    let wrong = "deleteOptions.preconditions.uid has to be the uid of the pod";
    for (name, options, words) in [
        ("other", uid("u"), "pod other is not on node node-host"),
        ("other", uid("wrong"), "pod other is not on node node-host"),
        ("own", uid("wrong"), wrong),
        ("own", json!({}), wrong),
        ("unlabelled", uid("wrong"), wrong),
        ("unlabelled", uid("u"), "pod unlabelled has not opted in"),
    ] {
        let answer = try_(name, options);
        let denied = format!(
            "ValidatingAdmissionPolicy 'pre-oom-killer-own-node' with binding 'pre-oom-killer-own-node' denied request: {words}"
        );
        assert_eq!(answer.code, 403);
        assert_eq!(message(&answer), format!("pods \"{name}\" is forbidden: {denied}"));
        assert_eq!(answer.json()["details"]["causes"], json!([{"message": denied}]));
    }
    assert_eq!(try_("nope", uid("u")).code, 404, "no such pod passes the policy");
    let empty = post(&standin, &eviction_path("default", "x"), &eviction("default", "x", uid("u")));
    assert_eq!(empty.code, 422, "a namespace without pods");
    standin.identify("system:serviceaccount:ns:agent", None);
    assert!(message(&try_("own", uid("u"))).ends_with("the token is not bound to a node"));
    standin.identify("system:serviceaccount:ns:other", None);
    standin.set_policy(false);
    assert_eq!(try_("own", uid("u")).code, 201);
}

#[test]
fn the_policy_on_deletions_sees_the_pod_itself() {
    let standin = server(&PLAIN.replace("[list, watch]", "[list, watch, delete]"));
    standin.set_policy(true);
    standin.put_pod(pod("demo", "unlabelled").unlabelled().build());
    let delete = |name: &str| {
        let target = format!("/api/v1/namespaces/demo/pods/{name}?dryRun=All");
        request(&standin, "DELETE", &target, "application/json", &json!({}))
    };
    assert_eq!(delete("own").code, 200);
    assert!(message(&delete("other")).ends_with("denied request: this pod is not on the agent's node"));
    assert!(message(&delete("unlabelled")).ends_with("denied request: this pod has not opted in"));
}
