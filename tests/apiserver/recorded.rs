//! Each recorded answer that needs no kubelet (`tests/standin/tests/cases.json`), once more, from this server.

use libtest_mimic::Completion;
use pre_oom_killer::act::answer::answer_to;
use pre_oom_killer::act::order::Act;
use serde_json::{Map, Value, json};
use standin::compare::summary;

use crate::rights;
use crate::server::{Answer, Who, request};
use crate::webhook::{self, Webhook};
use crate::world::{Cluster, NODE, OTHER, World, allows, apply, blocks, delete, poll};

/// Requests and answers; `tests/standin/tests/recorded.rs` makes the file.
const CASES: &str = include_str!("../standin/tests/cases.json");

const EXCUSED: &[(&str, &str)] = &[
    (
        "pods-list-bad-continue",
        "its message quotes a byte as Go's JSON package does, and 1.26 and 1.27 do it differently",
    ),
    ("evict-terminating-shorter-grace", "needs a pod that was deleted longer ago than its grace period"),
    ("pods-list-node-limit2", "needs more than two pods on the node: watches.rs pages"),
    ("list-410-continue", "see watches.rs: it needs a version of this server's own"),
    ("list-410-exact", "see watches.rs: it needs a version of this server's own"),
];

/// The uid of no pod of this server.
const NOBODY: &str = "00000000-0000-0000-0000-000000000000";

fn cases() -> Map<String, Value> {
    serde_json::from_str(CASES).expect("the file is JSON")
}

/// Those that [`replay`] can bring about; `denials.rs` has others.
pub fn names() -> Vec<String> {
    let excused = |name: &str| EXCUSED.iter().any(|(other, _)| *other == name);
    cases().into_iter().map(|(name, _)| name).filter(|name| !excused(name) && !webhook::denials(name)).collect()
}

/// The recorded denials of webhooks.
pub fn denials() -> Vec<String> {
    cases().into_iter().map(|(name, _)| name).filter(|name| webhook::denials(name)).collect()
}

pub fn every_recorded_answer_is_tried_or_excused(_: &Cluster) {
    let cases = cases();
    for (name, why) in EXCUSED {
        assert!(cases.contains_key(*name), "{name} is excused ({why}) and not recorded");
    }
    assert_eq!(names().len() + EXCUSED.len(), cases.keys().filter(|name| !webhook::denials(name)).count());
}

/// Holds an answer against the recorded one of this name. `renamed`: what has another name here than there.
pub fn compare(name: &str, answer: &Answer, renamed: &[(&str, &str)]) {
    let expected = &cases()[name]["expected"];
    let mut text = answer.text.clone();
    for (here, there) in renamed {
        text = text.replace(here, there);
    }
    let body = serde_json::from_str(&text).unwrap_or_else(|_| text.as_str().into());
    let got = summary(answer.code, &|header| answer.header(header), &body);
    assert!(got == *expected, "{name}\n  recorded {expected}\n  now      {got}");
}

/// What is in force as long as it is there.
trait Held {}

impl<T> Held for T {}

/// One recorded request, and what of it has to be put in its place.
struct Replay {
    who: Who,
    request: Value,
    /// Here and there.
    renamed: Vec<(String, String)>,
}

/// The namespace in the path of a recorded request.
fn namespace(request: &Value) -> &str {
    let path = request["path"].as_str().unwrap();
    path.split_once("/namespaces/").map_or("", |(_, rest)| rest.split(['/', '?']).next().unwrap_or(""))
}

pub fn replay(cluster: &Cluster, name: &str) -> Completion {
    let mode = ["impersonate", "noderestriction", "node-authorizer"].iter().any(|part| name.contains(part));
    if mode && let Some(ignored) = rights::too_old(cluster, "impersonation") {
        return ignored;
    }
    let world = cluster.world();
    let case = cases()[name]["request"].clone();
    let (there, here) = (namespace(&case).to_owned(), world.ns.clone());
    let mut replay = Replay { who: who(cluster, &case), request: case, renamed: Vec::new() };
    if !there.is_empty() && there != "no-such-ns" {
        // `default` in a body is meant to be another one than the path's.
        replace(&mut replay.request, &there, &here);
        replay.renamed.push((here, there));
    }
    // What holds the mode's manifests in force, or answers as a webhook, until the answer is there.
    let _held = prepare(&world, name, &mut replay);
    let answer = match name {
        "evict-403-impersonate-gate-off" => {
            let without = world.server.beside(&["--feature-gates=ConstrainedImpersonation=false"]);
            without.send(&replay.who, replay.http())
        }
        _ => send(&world, &replay),
    };
    let renamed: Vec<_> = replay.renamed.iter().map(|(here, there)| (here.as_str(), there.as_str())).collect();
    compare(name, &answer, &renamed);
    means(name, &answer);
    Completion::Completed
}

fn who(cluster: &Cluster, request: &Value) -> Who {
    match request["actor"].as_str().unwrap() {
        "anonymous" => Who::Anonymous,
        "bad token" => Who::Token("wrong".into()),
        "admin (system:masters)" => Who::admin(),
        actor if actor.ends_with(":nobody") => cluster.nobody.clone(),
        actor if actor.ends_with(":throttled") => cluster.throttled.clone(),
        _ => cluster.agent.clone(),
    }
}

/// Replaces the namespace in the path, and wherever it is a whole value in the body.
fn replace(value: &mut Value, there: &str, here: &str) {
    match value {
        Value::String(text) if text == there => *text = here.to_owned(),
        Value::String(text) => {
            *text = text.replace(&format!("/namespaces/{there}/"), &format!("/namespaces/{here}/"));
        }
        Value::Array(items) => items.iter_mut().for_each(|item| replace(item, there, here)),
        Value::Object(fields) => fields.values_mut().for_each(|value| replace(value, there, here)),
        _ => {}
    }
}

fn send(world: &World<'_>, replay: &Replay) -> Answer {
    world.server.send(&replay.who, replay.http())
}

impl Replay {
    fn http(&self) -> http::Request<Vec<u8>> {
        let recorded = &self.request;
        let mut headers: Vec<(&str, &str)> = Vec::new();
        headers.extend(recorded["content-type"].as_str().map(|media| ("content-type", media)));
        for (name, value) in recorded["headers"].as_object().into_iter().flatten() {
            headers.push((name, value.as_str().unwrap()));
        }
        let body = match &recorded["body"] {
            Value::Null => String::new(),
            Value::String(text) => text.clone(),
            body => body.to_string(),
        };
        request(recorded["method"].as_str().unwrap(), recorded["path"].as_str().unwrap(), &headers, &body)
    }

    /// The name of the pod that the request is about.
    fn pod(&self) -> &str {
        let path = self.request["path"].as_str().unwrap();
        path.split_once("/pods/").map_or("", |(_, rest)| rest.split(['/', '?']).next().unwrap_or(""))
    }

    /// Names the pod as it is here.
    fn set_uid(&mut self, uid: &str) {
        if let Some(given) = self.request.pointer_mut("/body/deleteOptions/preconditions/uid") {
            *given = uid.into();
        }
    }
}

/// Brings about the situation of a recording.
#[allow(clippy::too_many_lines, reason = "a table")]
fn prepare<'a>(world: &World<'a>, name: &str, replay: &mut Replay) -> Vec<Box<dyn Held + 'a>> {
    let mut held: Vec<Box<dyn Held + 'a>> = Vec::new();
    let pod = replay.pod().to_owned();
    let exists = !matches!(
        name,
        "evict-404" | "evict-404-namespace" | "evict-403-rbac-nosuchpod" | "evict-403-ns-terminating-nopod"
    );
    let mut uid = None;
    if name.starts_with("evict-") && exists {
        let made = world.pod(&pod, |pod| match name {
            "evict-completed" | "evict-completed-dryrun" => pod["status"]["phase"] = "Succeeded".into(),
            "evict-failed" => pod["status"]["phase"] = "Failed".into(),
            "evict-pending-unscheduled" => {
                pod["spec"].as_object_mut().unwrap().remove("nodeName");
                pod["status"] = json!({"phase": "Pending"});
            }
            "evict-mirror" => {
                let hash = "6779c7548f22a9852a5b7cba00ac2dc4";
                pod["metadata"]["annotations"] = json!({"kubernetes.io/config.mirror": hash});
            }
            "evict-403-vap-own-node" | "evict-403-noderestriction" | "evict-403-impersonate-other-node" => {
                pod["spec"]["nodeName"] = OTHER.into();
            }
            "evict-finalizer-after-exit" => pod["metadata"]["finalizers"] = json!(["example.com/hold"]),
            _ if name.starts_with("evict-terminating") => pod["spec"]["terminationGracePeriodSeconds"] = 3600.into(),
            _ => {}
        });
        if !name.contains("wrong-uid") && name != "evict-409-uid" {
            replay.set_uid(&made);
        }
        uid = Some(made);
    }
    let evict_first = ["evict-201-twice", "evict-terminating", "evict-finalizer"];
    if evict_first.iter().any(|start| name.starts_with(start)) {
        let first = world.evict(&Who::admin(), &pod, uid.as_deref().unwrap(), "");
        assert_eq!(first.code, 201, "{}", first.text);
    }
    match name {
        // Not an empty namespace: there the mode policy, which another test may have installed, answers 422.
        "evict-404" => drop(world.pod("other", |_| {})),
        "evict-429-pdb-unobserved" => world.budget("race", Value::Null),
        "evict-201-pdb-allows" => world.budget("race", allows()),
        "evict-429-pdb-unmanaged" => {
            // What the disruption controller wrote there: of a pod without a controller it knows no scale.
            let mut status = blocks();
            status["desiredHealthy"] = 0.into();
            status["expectedPods"] = 0.into();
            world.budget("bare-pdb", status);
        }
        "evict-500-two-pdbs" | "evict-500-two-pdbs-dryrun" => {
            ["one", "two"].iter().for_each(|name| world.budget(name, blocks()));
        }
        _ if name.starts_with("evict-429-pdb") => world.budget("guarded", blocks()),
        "evict-403-ns-terminating" | "evict-403-ns-terminating-nopod" | "pods-ns-terminating" => {
            if pod.is_empty() {
                world.pod("a", |_| {});
            }
            end_namespace(world);
        }
        // There the account had no right in that namespace.
        "event-core-404-ns" | "event-core-403" | "event-v1-403" => replay.who = world.cluster.nobody.clone(),
        "event-core-409" | "event-v1-409" => drop(send(world, replay)),
        "event-core-patch-200" => {
            let event = json!({
                "apiVersion": "v1", "kind": "Event", "metadata": {"name": "ev-noop.1"}, "count": 1,
                "involvedObject": {"apiVersion": "v1", "kind": "Pod", "name": "ev-noop", "namespace": world.ns, "uid": NOBODY},
                "reason": "PreOOMKill", "message": "evicting: 95% of 128Mi", "type": "Warning",
                "source": {"component": "c", "host": "h"},
            });
            let path = format!("/api/v1/namespaces/{}/events", world.ns);
            assert_eq!(world.server.send(&replay.who, request("POST", &path, &[], &event.to_string())).code, 201);
        }
        _ if name.starts_with("pods-list") => drop(world.pod("a", |_| {})),
        "evict-403-vap-forbidden" => deny(world, replay, &mut held, Some("Forbidden"), "false"),
        "evict-413-vap-toolarge" => deny(world, replay, &mut held, Some("RequestEntityTooLarge"), "false"),
        "evict-422-vap-invalid" => deny(world, replay, &mut held, Some("Invalid"), "false"),
        "evict-422-vap-default" => deny(world, replay, &mut held, None, "false"),
        "evict-vap-cel-error" => deny(world, replay, &mut held, Some("Forbidden"), "object.noSuch.field == 'x'"),
        "evict-403-vap-own-node" => {
            let installed = rights::install(world.cluster, "policy");
            replay.who = installed.agent_on(NODE);
            // It is a moment before a policy is in force: until then a dry run is let through.
            poll("the policy", || {
                let tried = world.evict(&replay.who, &pod, uid.as_deref().unwrap(), "?dryRun=All");
                (tried.code == 403 && tried.text.contains("ValidatingAdmissionPolicy")).then_some(())
            });
            held.push(Box::new(installed));
        }
        "evict-403-noderestriction"
        | "evict-403-impersonate-other-node"
        | "evict-403-impersonate-gate-off"
        | "list-403-node-authorizer" => {
            let installed = rights::install(world.cluster, "impersonation");
            replay.who = installed.agent_on(NODE);
            installed.wait_until_granted(&replay.who);
            held.push(Box::new(installed));
        }
        "evict-500-webhook-unreachable" => {
            let hook = webhook::register(world, "dead.example.com", "https://127.0.0.1:9/x", "", 2);
            held.push(Box::new(hook));
            wait_for_webhook(world, &pod, uid.as_deref().unwrap());
        }
        "evict-500-webhook-timeout" => {
            let hook = Webhook::silent();
            let url = hook.url();
            replay.renamed.push((url.clone(), "https://127.0.0.1:35061/x".into()));
            let registered = webhook::register(world, "slow.example.com", &url, &hook.authority(), 8);
            held.push(Box::new(registered));
            poll("it is asked", || {
                world.evict(&Who::admin(), "no-such-pod", NOBODY, "?dryRun=All");
                (hook.asked() > 0).then_some(())
            });
            held.push(Box::new(hook));
        }
        _ if name.ends_with("429-apf") => throttle(world, &mut held),
        _ => {}
    }
    held
}

/// Ends the namespace: without kube-controller-manager it stays as Terminating.
pub fn end_namespace(world: &World<'_>) {
    let ns = json!({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": world.ns}});
    delete(world.server, &ns);
}

/// Until a webhook that is down is asked.
fn wait_for_webhook(world: &World<'_>, pod: &str, uid: &str) {
    poll("the webhook", || (world.evict(&Who::admin(), pod, uid, "?dryRun=All").code == 500).then_some(()));
}

/// Deleted at the end of the test.
pub struct Applied<'a> {
    pub world: &'a crate::server::Server,
    pub objects: Vec<Value>,
}

impl Drop for Applied<'_> {
    fn drop(&mut self) {
        self.objects.iter().for_each(|object| delete(self.world, object));
    }
}

/// A policy that refuses the evictions of this namespace.
fn deny<'a>(
    world: &World<'a>,
    replay: &mut Replay,
    held: &mut Vec<Box<dyn Held + 'a>>,
    reason: Option<&str>,
    expression: &str,
) {
    let name = format!("deny-{}", world.ns);
    let mut validation = json!({"expression": expression, "message": "evictions are not allowed here"});
    if let Some(reason) = reason {
        validation["reason"] = reason.into();
    }
    let rule =
        json!({"apiGroups": [""], "apiVersions": ["v1"], "operations": ["CREATE"], "resources": ["pods/eviction"]});
    let (api_version, selector) = ("admissionregistration.k8s.io/v1", json!({"kubernetes.io/metadata.name": world.ns}));
    let objects = vec![
        json!({
            "apiVersion": api_version, "kind": "ValidatingAdmissionPolicy", "metadata": {"name": name},
            "spec": {
                "failurePolicy": "Fail", "validations": [validation],
                "matchConstraints": {"resourceRules": [rule], "namespaceSelector": {"matchLabels": selector}},
            },
        }),
        json!({
            "apiVersion": api_version, "kind": "ValidatingAdmissionPolicyBinding", "metadata": {"name": name},
            "spec": {"policyName": name, "validationActions": ["Deny"]},
        }),
    ];
    objects.iter().for_each(|object| apply(world.server, object));
    held.push(Box::new(Applied { world: world.server, objects }));
    replay.renamed.insert(0, (name, "deny".into()));
    let (pod, uid) = (replay.pod().to_owned(), replay.request["body"]["deleteOptions"]["preconditions"]["uid"].clone());
    poll("the policy", || {
        let tried = world.evict(&Who::admin(), &pod, uid.as_str().unwrap(), "?dryRun=All");
        (tried.code != 201).then_some(())
    });
}

/// What the agent takes an answer for, where the code alone does not say it.
fn means(name: &str, answer: &Answer) {
    if !name.starts_with("evict-") {
        return;
    }
    let code = http::StatusCode::from_u16(answer.code).unwrap();
    let meaning = answer_to(Act::Evict, code, None, answer.text.as_bytes()).label();
    let expected = match (answer.code, name) {
        (201, _) => "accepted",
        (404, _) => "gone",
        (409, _) => "replaced",
        (401, _) => "unauthorized",
        (403, name) if name.contains("ns-terminating") => "namespace-terminating",
        (403 | 413, _) => "refused",
        (422, name) if name.contains("vap") => "refused",
        (429, name) if name.contains("pdb") => "blocked",
        (429, _) => "throttled",
        (500, name) if name.contains("two-pdbs") => "refused",
        (500, _) => "failing",
        // Requests that the agent does not send.
        _ => return,
    };
    assert_eq!(meaning, expected, "{name}: {}", answer.text);
}

/// Only one test at a time takes the seats of [`throttle`].
static SEATS: std::sync::Mutex<()> = std::sync::Mutex::new(());

/// Requests that hold all seats of a priority level until this is dropped.
struct Seats {
    hook: Option<Webhook>,
    waiting: Vec<std::thread::JoinHandle<()>>,
}

impl Drop for Seats {
    fn drop(&mut self) {
        drop(self.hook.take());
        self.waiting.drain(..).for_each(|thread| drop(thread.join()));
    }
}

/// Gives the account `throttled` a priority level with the least number of seats (3), and takes them: by evictions that
/// wait for a webhook.
fn throttle<'a>(world: &World<'a>, held: &mut Vec<Box<dyn Held + 'a>>) {
    let turn = SEATS.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
    let (api_version, name) = ("flowcontrol.apiserver.k8s.io/v1", "throttled");
    let account = json!({"kind": "ServiceAccount", "serviceAccount": {"name": "throttled", "namespace": "accounts"}});
    let rule =
        json!({"verbs": ["*"], "apiGroups": ["*"], "resources": ["*"], "clusterScope": true, "namespaces": ["*"]});
    let objects = vec![
        json!({
            "apiVersion": api_version, "kind": "PriorityLevelConfiguration", "metadata": {"name": name},
            "spec": {"type": "Limited", "limited": {
                "nominalConcurrencyShares": 1, "lendablePercent": 0, "borrowingLimitPercent": 0,
                "limitResponse": {"type": "Reject"},
            }},
        }),
        json!({
            "apiVersion": api_version, "kind": "FlowSchema", "metadata": {"name": name},
            "spec": {
                "priorityLevelConfiguration": {"name": name}, "matchingPrecedence": 10,
                "rules": [{"subjects": [account], "resourceRules": [rule]}],
            },
        }),
    ];
    objects.iter().for_each(|object| apply(world.server, object));
    let applied = Applied { world: world.server, objects };
    let path = "/apis/flowcontrol.apiserver.k8s.io/v1/flowschemas/throttled";
    let schema = world.server.get(&Who::admin(), path).json()["metadata"]["uid"].as_str().unwrap().to_owned();
    let who = &world.cluster.throttled;
    let question = "/api/v1/pods?limit=1";
    poll("the flow schema", || {
        let answer = world.server.get(who, question);
        (answer.header("x-kubernetes-pf-flowschema-uid").as_ref() == Some(&schema)).then_some(())
    });

    let hook = Webhook::silent();
    let registered = webhook::register(world, "seats.example.com", &hook.url(), &hook.authority(), 30);
    let path = format!("/api/v1/namespaces/{}/pods/none/eviction?dryRun=All", world.ns);
    let eviction =
        json!({"apiVersion": "policy/v1", "kind": "Eviction", "metadata": {"name": "none", "namespace": world.ns}});
    let mut seats = Seats { hook: Some(hook), waiting: Vec::new() };
    poll("all seats are taken", || {
        let (sender, request) = (world.server.sender(who), request("POST", &path, &[], &eviction.to_string()));
        seats.waiting.push(std::thread::spawn(move || drop(sender(request))));
        (world.server.get(who, question).code == 429).then_some(())
    });
    held.push(Box::new(registered));
    held.push(Box::new(seats));
    held.push(Box::new(applied));
    held.push(Box::new(turn));
}
