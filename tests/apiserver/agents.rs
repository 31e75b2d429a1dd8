//! The whole agent on this server. The test plays the kubelet: it writes a pod's status, and its memory into the files of
//! a simulated tree of cgroups, and removes the pod when it has been evicted.

use libtest_mimic::Completion;
use serde_json::{Value, json};
use standin::cgroups::{Group, Tree};

use crate::agent::{Agent, binary};
use crate::denials::preconditions;
use crate::rights::{self, OWN_NS};
use crate::server::{Server, Who};
use crate::webhook::{self, Says, Webhook};
use crate::world::{Cluster, World, allows, blocks, poll};

/// The prefix of all annotations.
const PREFIX: &str = "pre-oom-killer.v1alpha1.k8s.io/";
const MIB: u64 = 1 << 20;
const LIMIT: u64 = 100 * MIB;
/// Above a threshold of 60 %.
const OVER: u64 = 70 * MIB;
const NOBODY: &str = "00000000-0000-0000-0000-000000000000";

/// An agent on the world's node with this token; where `own` is given, as the container of this pod of the agent's
/// namespace.
pub fn launch(
    world: &World<'_>,
    server: &Server,
    who: &Who,
    own: Option<&str>,
    confinement: &str,
    tree: &Tree,
) -> Agent {
    launch_with(world, server, who, own, &["--confinement", confinement], tree)
}

/// The same with these flags.
pub fn launch_with(
    world: &World<'_>,
    server: &Server,
    who: &Who,
    own: Option<&str>,
    flags: &[&str],
    tree: &Tree,
) -> Agent {
    let dir = tempfile::tempdir().expect("a temporary directory");
    let kubeconfig = dir.path().join("kubeconfig");
    std::fs::write(&kubeconfig, server.kubeconfig(who)).expect("a file there");
    let mut command = std::process::Command::new(binary());
    command
        .args(["run", "--node-name", &world.node, "--listen", "127.0.0.1:0", "--log-format", "json", "--kubeconfig"])
        .arg(&kubeconfig)
        .arg("--cgroup-root")
        .arg(tree.root())
        .args(flags)
        .env_remove("RUST_LOG");
    if let Some(own) = own {
        command.args(["--pod-namespace", OWN_NS, "--pod-name", own]);
    }
    Agent::run(command, Some(dir))
}

/// Waits until the agent knows that it is confined; what it says of it.
pub fn wait_until_it_holds(agent: &Agent, mode: &str) -> Value {
    wait_confinement(agent, mode, "holds")
}

/// Waits until the agent says this of its confinement.
pub fn wait_confinement(agent: &Agent, mode: &str, state: &str) -> Value {
    let line = agent.wait_until(state, |a| {
        a.lines().into_iter().rfind(|line| line["message"] == "confinement" && line["state"] == state)
    });
    assert_eq!(line["mode"], mode, "{line}");
    line
}

/// A pod with a container that has run for an hour, and its groups.
struct Place {
    uid: String,
    group: Group,
}

impl Place {
    fn fill(&self, usage: u64) {
        self.group.simulate(usage, 0);
    }
}

/// Makes one that is guarded at 60 %, at a tenth of its limit.
fn guarded(world: &World<'_>, tree: &Tree, name: &str, annotations: &[(&str, &str)]) -> Place {
    let id = format!("{:064x}", fastrand::u128(..));
    let uid = world.pod(name, |pod| {
        pod["metadata"]["annotations"] = json!({format!("{PREFIX}memory-usage-threshold"): "60"});
        for (key, value) in annotations {
            pod["metadata"]["annotations"][format!("{PREFIX}{key}")] = (*value).into();
        }
        pod["status"] = json!({
            "phase": "Running",
            "conditions": [{"type": "Ready", "status": "True"}],
            "containerStatuses": [{
                "name": "app", "image": "example.com/app", "imageID": "", "ready": true, "restartCount": 0, "started": true,
                "containerID": format!("containerd://{id}"),
                "state": {"running": {"startedAt": "2026-01-01T00:00:00Z"}},
            }],
        });
    });
    let place = Place { group: tree.container(&uid, &id), uid };
    tree.pod(&place.uid).set_limit(Some(LIMIT));
    place.group.set_limit(Some(LIMIT));
    place.fill(10 * MIB);
    place
}

fn is_ending(world: &World<'_>, name: &str) -> bool {
    world.get(name).is_some_and(|pod| pod["metadata"]["deletionTimestamp"].is_string())
}

/// Whether an Event with this reason was written about this pod.
fn told(world: &World<'_>, name: &str, reason: &str) -> bool {
    let path = format!("/apis/events.k8s.io/v1/namespaces/{}/events", world.ns);
    let events = world.server.get(&Who::admin(), &path).json();
    let mut events = events["items"].as_array().cloned().unwrap_or_default().into_iter();
    events.any(|event| event["reason"] == reason && event["regarding"]["name"] == name)
}

/// Until somebody's webhook is asked.
fn wait_until_asked(world: &World<'_>, hook: &Webhook) {
    poll("the webhook is asked", || {
        world.evict(&Who::admin(), "none", NOBODY, "?dryRun=All");
        (hook.asked() > 0).then_some(())
    });
}

/// Under exactly the shipped manifests of a mode, and as the pod of the shipped DaemonSet: it lists, watches, evicts,
/// tries, deletes past a budget, and tells. A webhook that lets all pass sees what was sent, and by whom.
fn lives_under_the_shipped_manifests(cluster: &Cluster, mode: &str) -> Completion {
    if let Some(ignored) = rights::too_old(cluster, mode) {
        return ignored;
    }
    let (world, tree) = (cluster.world_of_an_agent(), Tree::simulated());
    let installed = rights::install(cluster, mode).with_force_delete(mode);
    let hook = Webhook::start(Says::yes());
    let _registered = webhook::register(&world, "sees.example.com", &hook.url(), &hook.authority(), 10);
    wait_until_asked(&world, &hook);
    let own = installed.pod_on(&world.node);
    let who = installed.token_of(&own.0, &own.1);
    let web = guarded(&world, &tree, "web", &[]);
    let dry = guarded(&world, &tree, "dry", &[("dry-run", "server")]);
    let agent = launch(&world, world.server, &who, Some(&own.0), mode, &tree);
    wait_until_it_holds(&agent, mode);
    // Lists are over; only the watch can tell of these.
    let blocked = guarded(&world, &tree, "blocked", &[("force-delete-threshold", "90")]);
    let spared = guarded(&world, &tree, "spared", &[("force-delete-threshold", "90"), ("dry-run", "server")]);
    for name in ["web", "dry", "blocked", "spared"] {
        agent.wait_state(name, "app", "watching");
    }

    let before = ["dry", "spared"].map(|name| world.get(name));
    web.fill(OVER);
    dry.fill(OVER);
    poll("the eviction", || is_ending(&world, "web").then_some(()));
    poll("its Event", || told(&world, "web", "PreOOMEvicted").then_some(()));
    poll("the dry run's Event", || told(&world, "dry", "PreOOMEvictionDryRun").then_some(()));
    world.budget("guard", blocks());
    blocked.fill(95 * MIB);
    spared.fill(95 * MIB);
    poll("the deletion", || is_ending(&world, "blocked").then_some(()));
    poll("its Event", || told(&world, "blocked", "PreOOMForceDeleted").then_some(()));
    agent.wait_until("the deletion that is tried", |a| {
        let page = a.get("/metrics").1;
        let tried = "pre_oom_killer_deletions_total{answer=\"accepted\",dry_run=\"server\"} ";
        page.lines().any(|line| line.starts_with(tried)).then_some(())
    });
    assert_eq!(["dry", "spared"].map(|name| world.get(name)), before, "they are as they were");

    // The agent's own requests: those before it were for pods that do not exist.
    let asked: Vec<Value> = hook.requests().into_iter().filter(|request| request["name"] == "web").collect();
    assert_eq!(asked.len(), 1, "once: {asked:?}");
    assert_eq!(asked[0]["object"]["deleteOptions"], json!({"preconditions": {"uid": web.uid}}));
    let user = if mode == "policy" {
        format!("system:serviceaccount:{OWN_NS}:pre-oom-killer")
    } else {
        format!("system:node:{}", world.node)
    };
    assert_eq!(asked[0]["userInfo"]["username"], user);

    // As a kubelet does; and a namesake is a pod of its own.
    world.remove("web");
    let web = guarded(&world, &tree, "web", &[]);
    agent.wait_until("the namesake", |a| (a.guard("web", "app")["uid"] == web.uid.as_str()).then_some(()));
    agent.wait_state("web", "app", "watching");
    assert!(!is_ending(&world, "web"));
    let errors: Vec<_> = agent.lines().into_iter().filter(|line| line["level"] == "ERROR").collect();
    assert!(errors.is_empty(), "{errors:?}");
    Completion::Completed
}

pub fn it_lives_under_the_manifests_of_the_policy_mode(cluster: &Cluster) -> Completion {
    lives_under_the_shipped_manifests(cluster, "policy")
}

pub fn it_lives_under_the_manifests_of_the_impersonation_mode(cluster: &Cluster) -> Completion {
    lives_under_the_shipped_manifests(cluster, "impersonation")
}

/// Somebody's webhook says no for a while, with whatever code, and then no longer: the pod is evicted then.
pub fn a_denial_that_lifts_is_waited_for(cluster: &Cluster) {
    let (world, tree) = (cluster.world_of_an_agent(), Tree::simulated());
    let agent = launch(&world, world.server, &cluster.agent, None, "none", &tree);
    for (name, status) in [
        ("unexplained", Value::Null),
        ("not-found", json!({"code": 404, "reason": "NotFound", "message": "no such thing"})),
        ("conflict", json!({"code": 409, "reason": "Conflict", "message": "busy"})),
        ("too-many", json!({"code": 429, "message": "wait"})),
        ("forbidden", json!({"code": 403, "message": "change freeze"})),
    ] {
        let place = guarded(&world, &tree, name, &[]);
        let hook = Webhook::start(Says::no(status));
        let registered = webhook::register(&world, "guard.example.com", &hook.url(), &hook.authority(), 10);
        wait_until_asked(&world, &hook);
        agent.wait_state(name, "app", "watching");
        place.fill(OVER);
        let asked = || hook.requests().into_iter().filter(|request| request["name"] == name).collect::<Vec<_>>();
        poll(&format!("{name}: asked again and again"), || (asked().len() >= 2).then_some(()));
        assert!(!is_ending(&world, name), "{name}");
        let words = agent.guard(name, "app").to_string();
        hook.says(Says::yes());
        poll(&format!("{name}: evicted"), || is_ending(&world, name).then_some(()));
        let all = asked();
        assert!(all.iter().all(|request| preconditions(request) == json!({"uid": place.uid})), "{all:?}");
        assert!(words.contains("guard.example.com"), "{name}: the webhook is named: {words}");
        drop(registered);
    }
}

/// A budget blocks, which is told, until it allows.
pub fn a_budget_that_blocks_is_waited_for(cluster: &Cluster) {
    let (world, tree) = (cluster.world_of_an_agent(), Tree::simulated());
    let web = guarded(&world, &tree, "web", &[]);
    world.budget("guard", blocks());
    let agent = launch(&world, world.server, &cluster.agent, None, "none", &tree);
    agent.wait_state("web", "app", "watching");
    web.fill(OVER);
    agent.wait_state("web", "app", "blocked");
    poll("its Event", || told(&world, "web", "PreOOMEvictionBlocked").then_some(()));
    assert!(!is_ending(&world, "web"));
    world.budget_status("guard", allows());
    poll("the eviction", || is_ending(&world, "web").then_some(()));
}

/// The watch of a real server: a label that is taken off ends the guard, and set again begins it.
pub fn the_label_switches_the_guard(cluster: &Cluster) {
    let (world, tree) = (cluster.world_of_an_agent(), Tree::simulated());
    let web = guarded(&world, &tree, "web", &[]);
    let agent = launch(&world, world.server, &cluster.agent, None, "none", &tree);
    agent.wait_state("web", "app", "watching");
    let label = |value: &str| world.edit("web", json!({"metadata": {"labels": {"pre-oom-killer": value}}}));
    label("off");
    agent.wait_until("it is not guarded", |a| a.guard("web", "app").is_null().then_some(()));
    web.fill(OVER);
    std::thread::sleep(std::time::Duration::from_secs(2));
    assert!(!is_ending(&world, "web"));
    label("enabled");
    poll("the eviction", || is_ending(&world, "web").then_some(()));
}

/// The API server goes away and comes back with an empty memory, so that it calls all that the agent knows too old: what
/// came and went meanwhile is known, and guarded.
pub fn a_server_that_was_restarted_is_followed(cluster: &Cluster) {
    let (world, tree) = (cluster.world_of_an_agent(), Tree::simulated());
    let server = cluster.server.beside(&[]);
    let old = guarded(&world, &tree, "old", &[]);
    let agent = launch(&world, &server, &cluster.agent, None, "none", &tree);
    agent.wait_state("old", "app", "watching");
    let port = format!("--secure-port={}", server.port());
    drop(server);
    let new = guarded(&world, &tree, "new", &[]);
    world.edit("old", json!({"metadata": {"labels": {"pre-oom-killer": "off"}}}));
    // Nobody can be asked now.
    old.fill(OVER);
    new.fill(OVER);
    let _server = cluster.server.beside(&[&port]);
    poll("the new one's eviction", || is_ending(&world, "new").then_some(()));
    agent.wait_until("the old one is not guarded", |a| a.guard("old", "app").is_null().then_some(()));
    assert!(!is_ending(&world, "old"), "it opted out while nobody could be asked");
}
