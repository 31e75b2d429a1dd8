//! The whole agent under exactly the rules that are shipped, and whether it finds out what confines it: the stand-in
//! refuses what the manifests do not grant, and knows what was granted and never used.

use std::io::{Read as _, Write as _};
use std::net::TcpStream;
use std::time::{Duration, Instant};

use serde_json::{Value, json};
use standin::{Fault, Grant, Pdb, Request, Standin, pod};

use crate::agent::{Agent, NODE, soon};
use crate::world::{MIB, NS, PREFIX, Place, World};

const LIMIT: u64 = 100 * MIB;
const THRESHOLD: u64 = 60 * MIB;
/// The namespace and the name of the agent's own pod.
pub const OWN_NS: &str = "pre-oom-killer";
pub const OWN: &str = "agent-x7k2p";
/// No pod has it.
const NOBODY: &str = "00000000-0000-0000-0000-000000000000";
/// What an agent does with all its rights takes a second or two.
const IN_VAIN: Duration = Duration::from_secs(10);
/// Longer than the longest time between two looks.
const A_WHILE: Duration = Duration::from_secs(3);

/// What is granted beside the rules of a mode.
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Beside {
    Nothing,
    ForceDelete,
    Remedies,
}

/// The rules of a mode, as they are shipped. The leg `deploy` compares those in `manifests/` with the chart's.
pub fn manifests(mode: &str, beside: Beside) -> String {
    let (rules, more) = match mode {
        "policy" => (include_str!("../../daemonset/install.yaml"), include_str!("manifests/policy-force-delete.yaml")),
        "impersonation" => {
            (include_str!("manifests/impersonation.yaml"), include_str!("manifests/impersonation-force-delete.yaml"))
        }
        other => panic!("no rules for {other}"),
    };
    let beside = match beside {
        Beside::Nothing => "",
        Beside::ForceDelete => more,
        Beside::Remedies => concat!("---\n", include_str!("../../daemonset/components/remedies/rbac.yaml")),
    };
    format!("{rules}\n{beside}")
}

/// A server with the rules of the mode in force, and the agent's own pod.
pub fn world(mode: &str, beside: Beside) -> World {
    let world = World::simulated();
    let accounts = world.server.grant(&manifests(mode, beside));
    world.server.identify(&accounts[0], Some(NODE));
    world.server.set_policy(mode == "policy");
    world.server.set_resize_policy(beside == Beside::Remedies);
    world.server.put_pod(pod(OWN_NS, OWN).unlabelled().label("app", "agent").build());
    world
}

/// The flags of an agent that knows its own pod.
pub fn flags(mode: &str) -> [&str; 6] {
    ["--confinement", mode, "--pod-namespace", OWN_NS, "--pod-name", OWN]
}

pub fn launch(world: &World, mode: &str) -> Agent {
    Agent::launch(&world.server, world.tree.root(), &flags(mode))
}

/// One that may use each remedy.
pub fn launch_with_remedies(world: &World, mode: &str) -> Agent {
    let flags = [&flags(mode)[..], &["--remedies", "raise,restart"]].concat();
    Agent::launch(&world.server, world.tree.root(), &flags)
}

/// A pod at 10 % that is guarded at 60 %, and what else is annotated.
fn guarded(world: &World, name: &str, annotations: &[(&str, &str)]) -> Place {
    let place = world.place(name, Some(LIMIT), |p| {
        let p = p.annotation(&format!("{PREFIX}memory-usage-threshold"), "60").label("app", name);
        annotations.iter().fold(p, |p, (key, value)| p.annotation(&format!("{PREFIX}{key}"), value))
    });
    place.group.simulate(10 * MIB, 0);
    place
}

fn poll(deadline: Instant, mut what: impl FnMut() -> bool) -> bool {
    loop {
        if what() {
            return true;
        }
        if Instant::now() >= deadline {
            return false;
        }
        std::thread::sleep(Duration::from_millis(20));
    }
}

fn answered(requests: &[Request], code: u16) -> bool {
    requests.iter().any(|r| r.answer.is_some_and(|a| a.0 == code))
}

/// The lines about the confinement.
pub fn confinement(agent: &Agent) -> Vec<Value> {
    agent.lines().into_iter().filter(|l| l["message"] == "confinement").collect()
}

/// Waits for such a line with this state; the metric says the same.
pub fn wait_confinement(agent: &Agent, mode: &str, state: &str) -> Value {
    let line = agent.wait_until(state, |a| confinement(a).into_iter().rfind(|l| l["state"] == state));
    assert_eq!(line["mode"], mode, "{line}");
    let page = agent.get("/metrics").1;
    let series: Vec<&str> = page.lines().filter(|l| l.starts_with("pre_oom_killer_confinement{")).collect();
    assert_eq!(series, [format!("pre_oom_killer_confinement{{mode=\"{mode}\",state=\"{state}\"}} 1")]);
    line
}

/// What was sent about the agent's own pod, or under its name.
pub fn probes(server: &Standin) -> Vec<Request> {
    server.requests().into_iter().filter(|r| r.path.contains(OWN)).collect()
}

/// Each probe is a dry run, whatever else it is: an eviction of nobody's uid, or a resize that changes nothing.
pub fn probes_are_harmless(server: &Standin) {
    for probe in probes(server) {
        if probe.method == "PATCH" {
            assert!(probe.path.ends_with(&format!("/namespaces/{OWN_NS}/pods/{OWN}/resize")), "{probe:?}");
            assert_eq!(probe.query_value("dryRun").as_deref(), Some("All"), "{probe:?}");
            assert_eq!(probe.body, json!({"spec": {}}), "{probe:?}");
            continue;
        }
        assert!(probe.method == "POST" && probe.path.ends_with("/eviction"), "{probe:?}");
        assert_eq!(probe.query_value("dryRun").as_deref(), Some("All"), "{probe:?}");
        assert_eq!(probe.body["deleteOptions"], json!({"preconditions": {"uid": NOBODY}}), "{probe:?}");
    }
}

/// In mode impersonation everything but the questions about the own rights, and resizes, is sent as the node, with no other
/// header of that kind; elsewhere nothing is.
pub fn everything_is_sent_as(server: &Standin, mode: &str) {
    for request in server.requests() {
        let acting: Vec<_> = request.headers.iter().filter(|(name, _)| name.starts_with("impersonate-")).collect();
        let own = mode != "impersonation"
            || request.path.ends_with("/selfsubjectaccessreviews")
            || request.path.ends_with("/resize")
            || request.path == "/version";
        let node = ("impersonate-user".to_owned(), format!("system:node:{NODE}"));
        assert_eq!(acting, if own { vec![] } else { vec![&node] }, "{} {}", request.method, request.path);
    }
}

// --- exactly the rights that are granted -----------------------------------------------------------------------------

/// What an agent that has its rights brings about; what of it did not come about.
struct Life {
    undone: Vec<&'static str>,
    missing: Vec<String>,
    unused: Vec<String>,
}

/// Evicts, tries, deletes past a budget, tells it and tells it again, all under these rules less one.
fn live(mode: &str, beside: Beside, less: Option<&Grant>) -> Life {
    let world = world(mode, beside);
    let server = &world.server;
    if let Some(grant) = less {
        server.revoke(grant);
    }
    let (web, dry) = (guarded(&world, "web", &[]), guarded(&world, "dry", &[("dry-run", "server")]));
    let blocked = guarded(&world, "blocked", &[("force-delete-threshold", "90")]);
    server.put_pdb(Pdb::blocking(NS, "budget", &[("app", "blocked")]));
    world.place("odd", Some(LIMIT), |p| p.annotation(&format!("{PREFIX}memory-usage-threshold"), "lots"));
    let label = |value: &str| server.edit_pod(NS, "odd", |p| p["metadata"]["labels"]["pre-oom-killer"] = json!(value));

    let agent = if beside == Beside::Remedies { launch_with_remedies(&world, mode) } else { launch(&world, mode) };
    let deadline = Instant::now() + if less.is_some() { IN_VAIN } else { soon() };
    let mut undone = Vec::new();
    let mut step = |name, done: bool| undone.extend(Some(name).filter(|_| !done));
    step("list", poll(deadline, || agent.get("/readyz").0 == 200));
    // Lists are over; only the watch can tell of this one.
    let watches = poll(deadline, || server.watches() > 0);
    let later = guarded(&world, "later", &[]);
    [&web, &dry, &later].iter().for_each(|place| place.group.simulate(THRESHOLD + 1, 0));
    blocked.group.simulate(95 * MIB, 0);
    let eviction = |name: &str| server.requests_to("POST", &format!("/{name}/eviction"));
    step("watch", watches && poll(deadline, || answered(&eviction("later"), 201)));
    step("evict", poll(deadline, || answered(&eviction("web"), 201)));
    step("dry run", poll(deadline, || answered(&eviction("dry"), 201)));
    if beside == Beside::ForceDelete {
        step("delete", poll(deadline, || answered(&server.requests_to("DELETE", "/pods/blocked"), 200)));
    }
    step("event", poll(deadline, || world.events("PreOOMEvicted").len() >= 2));
    // The same once more is counted up: it opts out, and in again.
    let told = || world.events("PreOOMInvalidGuard");
    let known = || agent.guard("odd", "")["state"] == "invalid";
    let once = poll(deadline, || !told().is_empty() && known());
    label("off");
    let forgotten = poll(deadline, || !known());
    label("enabled");
    let twice = poll(deadline, || told().iter().any(|e| e["series"]["count"] == 2));
    step("patch", once && forgotten && twice);
    if beside == Beside::Remedies {
        let holds = || confinement(&agent).last().is_some_and(|line| line["state"] == "holds");
        step("resize", poll(deadline, holds));
    }

    let missing = |l: &Value| l["missing"].as_str().map(str::to_owned);
    poll(deadline.min(Instant::now() + A_WHILE), || !confinement(&agent).is_empty());
    let life = Life {
        undone,
        missing: agent.lines().iter().filter(|l| l["level"] == "ERROR").filter_map(missing).collect(),
        unused: server.unused_grants().iter().map(Grant::to_string).collect(),
    };
    everything_is_sent_as(server, mode);
    probes_are_harmless(server);
    life
}

/// With all of them it lives and uses each; with one too few it does not, and that one is named.
fn lives_by_exactly_its_rights(mode: &str, beside: Beside) {
    let life = live(mode, beside, None);
    assert_eq!((life.undone, life.missing), (vec![], vec![]));
    assert_eq!(life.unused, Vec::<String>::new(), "granted and never used");
    let server = Standin::start();
    server.grant(&manifests(mode, beside));
    let grants = server.grants();
    assert!(grants.len() >= 5, "{grants:?}");
    std::thread::scope(|scope| {
        for grant in &grants {
            scope.spawn(move || {
                let Life { undone, missing, .. } = live(mode, beside, Some(grant));
                let step = match (grant.verb.rsplit(':').next().unwrap_or_default(), grant.resource.as_str()) {
                    ("create", "pods/eviction") => "evict",
                    ("create", "events") => "event",
                    ("patch", "pods/resize") => "resize",
                    ("associated-node", "nodes") => "list",
                    (verb, _) => verb,
                };
                assert!(undone.contains(&step), "without {grant}: {undone:?}");
                let optional = step == "delete";
                assert_eq!(missing.len(), usize::from(!optional), "without {grant}: {missing:?}");
                let name = format!("{} {}", grant.verb, grant.resource.split('/').next().unwrap_or_default());
                assert!(optional || missing[0].contains(&name) && !missing[0].contains(','), "{grant}: {missing:?}");
            });
        }
    });
}

pub fn the_rules_of_the_policy_mode_are_exactly_what_is_used() {
    lives_by_exactly_its_rights("policy", Beside::Nothing);
}

pub fn the_rules_of_the_policy_mode_with_force_delete_are_exactly_what_is_used() {
    lives_by_exactly_its_rights("policy", Beside::ForceDelete);
}

pub fn the_rules_of_the_impersonation_mode_are_exactly_what_is_used() {
    lives_by_exactly_its_rights("impersonation", Beside::Nothing);
}

pub fn the_rules_of_the_impersonation_mode_with_force_delete_are_exactly_what_is_used() {
    lives_by_exactly_its_rights("impersonation", Beside::ForceDelete);
}

pub fn the_rules_of_the_policy_mode_with_remedies_are_exactly_what_is_used() {
    lives_by_exactly_its_rights("policy", Beside::Remedies);
}

pub fn the_rules_of_the_impersonation_mode_with_remedies_are_exactly_what_is_used() {
    lives_by_exactly_its_rights("impersonation", Beside::Remedies);
}

/// All that is missing is named at once; what only force-delete-threshold needs is no error. Once it is there, that
/// is told.
pub fn all_missing_rights_are_named_in_one_message() {
    let world = world("policy", Beside::Nothing);
    for grant in world.server.grants() {
        if grant.verb != "list" {
            world.server.revoke(&grant);
        }
    }
    let agent = launch(&world, "policy");
    let named = |level: &'static str| {
        move |a: &Agent| a.lines().into_iter().find(|l| l["level"] == level && l["missing"].is_string())
    };
    let line = agent.wait_until("missing", named("ERROR"));
    let all = "watch pods, create pods/eviction, create events.events.k8s.io, patch events.events.k8s.io";
    assert_eq!(line["missing"], all);
    assert!(line["message"].as_str().is_some_and(|m| m.contains("apply the ClusterRole")), "{line}");
    let line = agent.wait_until("optional", named("INFO"));
    assert_eq!(line["missing"], "delete pods");
    assert!(line["message"].as_str().is_some_and(|m| m.contains("force-delete-threshold alone")), "{line}");
    world.server.grant(&manifests("policy", Beside::Nothing));
    agent.wait_until("healed", |a| {
        a.lines().into_iter().find(|l| l["message"].as_str().is_some_and(|m| m.contains("are granted now")))
    });
    let errors = agent.lines().into_iter().filter(|l| l["level"] == "ERROR");
    assert_eq!(errors.count(), 1, "told once");
}

// --- whether the confinement holds -----------------------------------------------------------------------------------

pub fn a_policy_that_holds_is_told_after_one_harmless_question() {
    let world = world("policy", Beside::Nothing);
    let before = world.server.pod(OWN_NS, OWN);
    let agent = launch(&world, "policy");
    let line = wait_confinement(&agent, "policy", "holds");
    assert_eq!(line["level"], "INFO");
    assert!(line["why"].as_str().is_some_and(|w| w.contains("policy pre-oom-killer-own-node refused")), "{line}");
    std::thread::sleep(A_WHILE);
    assert_eq!((probes(&world.server).len(), confinement(&agent).len()), (1, 1), "once");
    assert!(probes(&world.server)[0].path.ends_with(&format!("/namespaces/{OWN_NS}/pods/{OWN}/eviction")));
    assert_eq!(world.server.pod(OWN_NS, OWN), before);
    probes_are_harmless(&world.server);
}

/// No policy: a warning where one was promised, and a mere line where none was. A policy that comes later is found.
pub fn a_policy_that_does_not_hold_is_told() {
    let world = world("policy", Beside::Nothing);
    world.server.set_policy(false);
    let agent = launch(&world, "policy");
    assert_eq!(wait_confinement(&agent, "policy", "does-not-hold")["level"], "WARN");
    let careless = launch(&world, "none");
    assert_eq!(wait_confinement(&careless, "none", "does-not-hold")["level"], "INFO");
    world.server.set_policy(true);
    wait_confinement(&agent, "policy", "holds");
    probes_are_harmless(&world.server);
}

/// RBAC's 403, somebody else's policy, a budget: never taken for the confinement.
pub fn an_unclear_answer_is_told_as_unclear() {
    let own = format!("/{OWN}/eviction");
    for (name, words) in [
        ("evict-403-rbac", "403: pods \"agent-x7k2p\" is forbidden: User "),
        ("evict-403-vap-forbidden", "ValidatingAdmissionPolicy 'deny'"),
        ("evict-429-pdb", "429: Cannot evict pod as it would violate the pod's disruption budget."),
    ] {
        let world = world("policy", Beside::Nothing);
        world.server.fault(Fault::on("POST", &own).always().recorded(name));
        let agent = launch(&world, "policy");
        let line = wait_confinement(&agent, "policy", "unclear");
        assert_eq!(line["level"], "WARN");
        assert!(line["why"].as_str().is_some_and(|w| w.contains(words)), "{line}");
        probes_are_harmless(&world.server);
    }
}

/// Trouble that passes is no verdict; that which stays is told as unclear.
pub fn one_answers_trouble_is_no_verdict() {
    let world = world("policy", Beside::Nothing);
    let down = |times| Fault::on("POST", "/eviction").times(times).recorded("evict-500-webhook-unreachable");
    world.server.fault(Fault::on("POST", "/selfsubjectaccessreviews").reset());
    world.server.fault(down(2));
    let agent = launch(&world, "policy");
    wait_confinement(&agent, "policy", "holds");
    assert_eq!(confinement(&agent).len(), 1, "nothing before");
    assert_eq!(probes(&world.server).len(), 3);
    world.server.fault(down(1000));
    let agent = launch(&world, "policy");
    let line = wait_confinement(&agent, "policy", "unclear");
    assert!(line["why"].as_str().is_some_and(|w| w.contains("dead.example.com")), "{line}");
}

/// The guarding does not wait for it: a server that is away is waited for, one that says nothing hinders nobody.
pub fn the_questions_delay_nothing() {
    let world = world("policy", Beside::Nothing);
    let web = guarded(&world, "web", &[]);
    world.server.fault(Fault::on("POST", "/selfsubjectaccessreviews").always().hang_before_headers());
    world.server.go_away();
    let agent = launch(&world, "policy");
    std::thread::sleep(A_WHILE);
    world.server.come_back();
    agent.wait_state("web", "app", "watching");
    web.group.simulate(THRESHOLD + 1, 0);
    let crossed = Instant::now();
    let evictions = world.wait_evictions(1);
    assert!(evictions[0].at - crossed < Duration::from_secs(2) && evictions[0].path.contains("/web/"));
    assert!(confinement(&agent).is_empty() && probes(&world.server).is_empty(), "not asked yet");
    world.server.clear_faults();
    wait_confinement(&agent, "policy", "holds");
}

pub fn acting_as_the_node_holds_or_not_and_is_told() {
    let held = world("impersonation", Beside::Nothing);
    let agent = launch(&held, "impersonation");
    assert_eq!(wait_confinement(&agent, "impersonation", "holds")["level"], "INFO");
    let all = probes(&held.server);
    assert_eq!(all.len(), 1);
    assert!(all[0].path.contains(&format!("/{OWN}.no-such-pod/")), "nobody's name: {}", all[0].path);
    probes_are_harmless(&held.server);
    everything_is_sent_as(&held.server, "impersonation");

    let open = world("impersonation", Beside::Nothing);
    open.server.set_node_restriction(false);
    let agent = launch(&open, "impersonation");
    let line = wait_confinement(&agent, "impersonation", "does-not-hold");
    assert!(line["level"] == "WARN" && line["why"].as_str().is_some_and(|w| w.contains("NodeRestriction")), "{line}");

    // A right of its own is a way around.
    let around = world("impersonation", Beside::Nothing);
    around.server.grant(&manifests("policy", Beside::Nothing));
    let agent = launch(&around, "impersonation");
    let line = wait_confinement(&agent, "impersonation", "does-not-hold");
    assert!(line["why"].as_str().is_some_and(|w| w.contains("may list pods")), "{line}");
    assert!(probes(&around.server).is_empty());

    let old = world("impersonation", Beside::Nothing);
    old.server.set_constrained_impersonation(false);
    let agent = launch(&old, "impersonation");
    let line = wait_confinement(&agent, "impersonation", "unclear");
    assert!(line["why"].as_str().is_some_and(|w| w.contains("cannot impersonate resource")), "{line}");
    assert_eq!(agent.get("/readyz").0, 503);
}

/// A token that says nothing of a node: the policy holds, and refuses everything; that is a warning.
pub fn a_token_without_a_node_is_told() {
    let world = world("policy", Beside::Nothing);
    let account = world.server.grants()[0].account.clone();
    world.server.identify(&account, None);
    let agent = launch(&world, "policy");
    let line = wait_confinement(&agent, "policy", "holds");
    assert!(
        line["level"] == "WARN" && line["why"].as_str().is_some_and(|w| w.contains("refuses every eviction")),
        "{line}"
    );
}

/// From a desk there is no own pod; a dry run of the client sends nothing but reads.
pub fn it_is_not_asked_from_a_desk_nor_in_a_dry_run_of_the_client() {
    let desk = world("policy", Beside::Nothing);
    let agent = Agent::start(&desk.server, desk.tree.root(), &["--confinement", "policy"]);
    let line = wait_confinement(&agent, "policy", "not-asked");
    assert!(line["why"].as_str().is_some_and(|w| w.contains("POD_NAME")), "{line}");
    std::thread::sleep(A_WHILE);
    assert!(desk.server.requests_to("POST", "/eviction").is_empty());

    let client = world("policy", Beside::Nothing);
    let flags = [&flags("policy")[..], &["--dry-run", "client"]].concat();
    let agent = Agent::start(&client.server, client.tree.root(), &flags);
    wait_confinement(&agent, "policy", "not-asked");
    std::thread::sleep(A_WHILE);
    assert!(client.server.requests().iter().all(|r| r.method == "GET"), "{:?}", client.server.requests());
}

// --- what it is good for ---------------------------------------------------------------------------------------------

/// A request that anybody may send who has the agent's token.
fn with_the_token(server: &Standin, method: &str, target: &str, node: Option<&str>, body: &Value) -> (u16, String) {
    let mut stream = TcpStream::connect(server.address()).expect("it listens");
    let (token, body) = (server.token(), body.to_string());
    let acting = node.map_or(String::new(), |node| format!("Impersonate-User: system:node:{node}\r\n"));
    let head = format!(
        "{method} {target} HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer {token}\r\n{acting}Content-Type: application/json\r\nContent-Length: {}\r\nConnection: close\r\n",
        body.len()
    );
    write!(stream, "{head}\r\n{body}").expect("it reads");
    let mut answer = String::new();
    stream.read_to_string(&mut answer).expect("text");
    let code = answer.split(' ').nth(1).and_then(|code| code.parse().ok()).expect("a code");
    (code, answer)
}

/// With the agent's own token, as it runs: no pod of another node is evicted or deleted, in either mode.
pub fn a_stolen_token_reaches_no_other_node() {
    for mode in ["policy", "impersonation"] {
        let world = world(mode, Beside::ForceDelete);
        let agent = launch(&world, mode);
        wait_confinement(&agent, mode, "holds");
        world.place("there", Some(LIMIT), |p| p.node("node-other"));
        let there = world.server.pod(NS, "there").expect("it is there");
        let uid = &there["metadata"]["uid"];
        let path = format!("/api/v1/namespaces/{NS}/pods/there");
        let options = json!({"preconditions": {"uid": uid}});
        let eviction = json!({"apiVersion": "policy/v1", "kind": "Eviction", "metadata": {"name": "there", "namespace": NS}, "deleteOptions": options});
        let as_whom: &[Option<&str>] = if mode == "policy" { &[None] } else { &[None, Some(NODE), Some("node-other")] };
        for node in as_whom {
            let evicted = with_the_token(&world.server, "POST", &format!("{path}/eviction"), *node, &eviction);
            let deleted = with_the_token(&world.server, "DELETE", &path, *node, &options);
            assert_eq!((evicted.0, deleted.0), (403, 403), "{mode} as {node:?}: {} {}", evicted.1, deleted.1);
        }
        if mode == "impersonation" {
            for node in as_whom {
                let (code, _) = with_the_token(&world.server, "GET", "/api/v1/pods", *node, &Value::Null);
                assert_eq!(code, 403, "nor is it read, as {node:?}");
            }
        }
        assert_eq!(world.server.pod(NS, "there"), Some(there), "{mode}: it is as it was");
    }
}

/// In the moment of an update there are two agents on a node: both act, and the pod is evicted once.
pub fn two_agents_at_once_are_harmless() {
    for mode in ["policy", "impersonation"] {
        let world = world(mode, Beside::Nothing);
        let web = guarded(&world, "web", &[]);
        world.server.attach(NS, "web", Vec::new());
        world.server.set_removal_delay(Duration::from_secs(600));
        let agents = [launch(&world, mode), launch(&world, mode)];
        for agent in &agents {
            agent.wait_state("web", "app", "watching");
            wait_confinement(agent, mode, "holds");
        }
        let generation = |pod: &Value| pod["metadata"]["generation"].as_i64().unwrap_or(1);
        let before = world.server.pod(NS, "web").expect("it is there");
        world.server.clear_requests();
        web.group.simulate(THRESHOLD + 1, 0);
        world.wait_evictions(1);
        std::thread::sleep(A_WHILE);
        let after = world.server.pod(NS, "web").expect("it is there");
        assert!(after["metadata"]["deletionTimestamp"].is_string());
        assert_eq!(generation(&after), generation(&before) + 1, "deleted once");
        let evictions = world.evictions();
        let told = agents.each_ref().map(|agent| agent.told("PreOOMEvicted").len());
        assert!(told.iter().all(|told| *told <= 1) && told != [0, 0], "one each at most: {told:?}");
        assert_eq!(evictions.len(), told[0] + told[1], "{evictions:?}");
        for eviction in &evictions {
            assert!(eviction.path.contains("/web/") && eviction.answer.is_some_and(|a| a.0 == 201), "{eviction:?}");
            assert_eq!(eviction.body["deleteOptions"], json!({"preconditions": {"uid": web.uid}}));
        }
        let others = world.server.requests().into_iter().filter(|r| !r.path.ends_with("/eviction"));
        assert!(
            others.clone().all(|r| r.path.contains("/events") || r.method == "GET"),
            "{:?}",
            others.collect::<Vec<_>>()
        );
        for agent in &agents {
            assert!(agent.told("PreOOMEvictionFailed").is_empty());
        }
    }
}

/// Behind a silent watch another pod has taken the name: the policy says 403 where the server alone would say 409.
/// Told in its words, asked again only after a minute, and not at all once the watch speaks; the new one is guarded.
pub fn a_namesake_under_the_policy_is_left_alone_and_then_guarded() {
    let world = world("policy", Beside::Nothing);
    let old = guarded(&world, "web", &[]);
    let agent = launch(&world, "policy");
    wait_confinement(&agent, "policy", "holds");
    agent.wait_state("web", "app", "watching");
    assert!(world.server.wait_for(soon(), |s| (s.watches() > 0).then_some(())).is_some(), "it watches");
    world.server.hang_watches();
    let new = guarded(&world, "web", &[]);
    let stored = world.server.pod(NS, "web");
    old.group.simulate(THRESHOLD + 1, 0);
    agent.wait_state("web", "app", "refused");
    let line = agent.wait_told("PreOOMEvictionFailed");
    let words = "denied request: deleteOptions.preconditions.uid has to be the uid of the pod); retrying once a minute";
    assert!(line["message"].as_str().is_some_and(|m| m.contains(words)), "{line}");
    std::thread::sleep(A_WHILE);
    let to_web = || world.server.requests_to("POST", "/web/eviction");
    assert_eq!(to_web().len(), 1);
    assert_eq!(world.server.pod(NS, "web"), stored, "the namesake is as it was");
    world.server.end_watches();
    agent.wait_until("the new one", |a| (a.guard("web", "app")["uid"] == new.uid.as_str()).then_some(()));
    agent.wait_state("web", "app", "watching");
    new.group.simulate(THRESHOLD + 1, 0);
    let evicted = world.server.wait_for(soon(), |_| Some(to_web()).filter(|all| answered(all, 201)));
    assert_eq!(evicted.expect("it is evicted").len(), 2, "and the old one was not asked for again");
}
