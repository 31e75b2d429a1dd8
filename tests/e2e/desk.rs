//! The real binary on a tree of regular files: exact numbers, bad input, a server in trouble.

use std::io::{ErrorKind, Write as _};
use std::net::TcpStream;
use std::process::Command;
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};
use std::time::{Duration, Instant};

use nix::sys::signal::Signal;
use serde_json::{Value, json};
use standin::{Fault, Pdb, PodBuilder, Request, Standin, pod};

use crate::agent::{self, Agent, NODE, binary, soon};
use crate::world::{MIB, NS, PREFIX, World, container_id};

const LIMIT: u64 = 100 * MIB;
const THRESHOLD: u64 = 60 * MIB;
/// A probe is given as long by default of Kubernetes (`timeoutSeconds: 1`), and once more for a busy machine.
const PROBE_WITHIN: Duration = Duration::from_secs(2);
/// Much longer than the longest time between two looks.
const A_WHILE: Duration = Duration::from_millis(2500);

pub fn at_the_threshold_nothing_one_byte_above_one_eviction() {
    let world = World::simulated();
    let place = world.guarded("web", LIMIT);
    place.group.simulate(THRESHOLD, 0);
    let agent = world.agent(&[]);
    agent.wait_until("read", |a| (a.guard("web", "app")["memory"]["value"] == THRESHOLD).then_some(()));
    assert_eq!(world.evictions_after(A_WHILE), 0);
    // The pod stays for long after the eviction: one is enough. (No group, no process to wait for.)
    world.server.attach(NS, "web", Vec::new());
    world.server.set_removal_delay(Duration::from_secs(600));
    place.group.simulate(THRESHOLD + 1, 0);
    world.wait_evictions(1);
    assert_eq!(world.evictions_after(A_WHILE), 1);
    assert_eq!(agent.wait_told("PreOOMEvicted")["value"], THRESHOLD + 1);
    // And not for restraint alone: nothing more is meant.
    assert_eq!(agent.guard("web", "app")["state"], "evicted");
    assert!(world.events("PreOOMEvictionHeld").is_empty());
}

/// Inactive file cache is not working set.
pub fn the_signal_is_the_working_set_unless_told_otherwise() {
    let world = World::simulated();
    let cached = world.guarded("cached", LIMIT);
    cached.group.simulate(LIMIT, LIMIT - THRESHOLD);
    let by_usage = world.place("by-usage", Some(LIMIT), |p| {
        p.annotation(&format!("{PREFIX}memory-usage-threshold"), "60")
            .annotation(&format!("{PREFIX}memory-signal"), "usage")
    });
    by_usage.group.simulate(LIMIT, LIMIT - THRESHOLD);
    let _agent = world.agent(&[]);
    let evictions = world.wait_evictions(1);
    assert!(evictions[0].path.contains("/by-usage/"));
    assert_eq!(world.evictions_after(A_WHILE), 1);
}

/// Each of these was evicted at once, or on every tick, by the ancestor. Told once, never evicted.
pub fn the_ancestors_traps_are_told_once_and_never_evicted() {
    let world = World::simulated();
    let threshold = format!("{PREFIX}memory-usage-threshold");
    let target = format!("{PREFIX}target-container-name");
    let mut names = Vec::new();
    for (i, value) in ["0", "-1", "100", "150", "60m", "1Ki", "abc", ""].into_iter().enumerate() {
        let name = format!("bad-{i}");
        let place = world.place(&name, Some(LIMIT), |p| p.annotation(&threshold, value));
        place.group.simulate(LIMIT, 0);
        names.push(name);
    }
    for (name, limit, annotations) in [
        ("no-threshold", Some(LIMIT), vec![(&target, "app")]),
        ("no-such-container", Some(LIMIT), vec![(&threshold, "60"), (&target, "ap")]),
        ("no-limit", None, vec![(&threshold, "60")]),
    ] {
        let place = world.place(name, limit, |p| annotations.iter().fold(p, |p, (k, v)| p.annotation(k, v)));
        place.group.simulate(LIMIT, 0);
        names.push(name.into());
    }
    let place = world.place("two-containers", Some(LIMIT), |p| p.annotation(&threshold, "60").container("side", None));
    place.group.simulate(LIMIT, 0);
    names.push("two-containers".into());

    // One good pod among them is guarded all the same.
    let good = world.guarded("good", LIMIT);
    let agent = world.agent(&[]);
    agent.wait_state("no-limit", "app", "no-limit");
    good.group.simulate(THRESHOLD + 1, 0);
    let evictions = world.wait_evictions(1);
    assert!(evictions[0].path.contains("/good/"));

    let told = world.wait_events("PreOOMInvalidGuard", names.len());
    for name in &names {
        let about = |e: &&Value| e["regarding"]["name"] == name.as_str();
        assert_eq!(told.iter().filter(about).count(), 1, "{name} once");
        let state = agent.guard(name, if name == "no-limit" { "app" } else { "" })["state"].clone();
        assert!(state == "invalid" || state == "no-limit", "{name}: {state}");
    }
    // An edit that changes nothing of the guard, and a new watch, are no reason to tell it again.
    world.server.edit_pod(NS, "bad-0", |p| p["metadata"]["labels"]["x"] = json!("y"));
    world.server.end_watches();
    assert_eq!(world.evictions_after(A_WHILE), 1);
    assert_eq!(world.events("PreOOMInvalidGuard").len(), names.len());
    assert_eq!(agent.metric("pre_oom_killer_invalid_guards"), 11.0);
}

/// Mirror, static, terminating and finished pods, other nodes' and the agent's own.
pub fn who_is_never_evicted() {
    let world = World::simulated();
    let threshold = format!("{PREFIX}memory-usage-threshold");
    let hash = "6779c7548f22a9852a5b7cba00ac2dc4";
    let over = |name: &str, change: &dyn Fn(standin::PodBuilder) -> standin::PodBuilder| {
        let place = world.place(name, Some(LIMIT), |p| change(p.annotation(&threshold, "60")));
        place.group.simulate(LIMIT, 0);
        place
    };
    over("mirror", &|p| p.mirror(hash));
    over("static", &|p| p.owner("Node", NODE));
    over("succeeded", &|p| p.phase("Succeeded"));
    over("failed", &|p| p.phase("Failed"));
    over("elsewhere", &|p| p.node("node-other"));
    let own = over("agent", &|p| p);
    world.server.set_removal_delay(Duration::from_secs(600));
    over("terminating", &|p| p);
    world.server.edit_pod(NS, "terminating", |p| p["metadata"]["deletionTimestamp"] = json!("2030-01-01T00:00:00Z"));

    let agent = world.agent(&["--pod-uid", &own.uid]);
    for (name, why) in [
        ("mirror", "mirror"),
        ("static", "static"),
        ("succeeded", "finished"),
        ("failed", "finished"),
        ("agent", "agent"),
        ("terminating", "terminating"),
    ] {
        assert_eq!(agent.wait_state(name, "app", "never")["never"], why);
    }
    let told = world.wait_events("PreOOMNotGuarded", 2);
    assert!(told.iter().all(|e| e["note"].as_str().is_some_and(|n| n.contains("static pod"))), "{told:?}");
    assert!(agent.guard("elsewhere", "app").is_null());
    assert_eq!(world.evictions_after(A_WHILE), 0);
    // Not blind: the same pod without its reason is evicted.
    over("ordinary", &|p| p);
    world.wait_evictions(1);
}

/// A pod that cannot be read, an odd container id, a broken file: told, never evicted, nobody else affected.
pub fn one_bad_pod_never_stops_the_others() {
    let world = World::simulated();
    for (name, path, value) in [
        ("bad-statuses", "/status/containerStatuses", json!("none")),
        ("bad-spec", "/spec/containers", json!(7)),
        ("bad-annotations", "/metadata/annotations", json!(["x"])),
        ("bad-id", "/status/containerStatuses/0/containerID", json!("containerd://../../etc")),
        ("bad-owner", "/metadata/ownerReferences", json!([{"kind": 7}])),
    ] {
        let place = world.guarded(name, LIMIT);
        place.group.simulate(LIMIT, 0);
        world.server.edit_pod(NS, name, |p| *p.pointer_mut(path).expect("it is there") = value);
    }
    let broken = world.guarded("broken-file", LIMIT);
    broken.group.simulate(LIMIT, 0);
    std::fs::write(broken.group.dir().join("memory.stat"), "inactive_file many\n").expect("a regular file");
    let agent = world.agent(&[]);
    let good = world.guarded("good", LIMIT);
    good.group.simulate(THRESHOLD + 1, 0);
    let evictions = world.wait_evictions(1);
    assert!(evictions[0].path.contains("/good/"));
    assert_eq!(world.evictions_after(A_WHILE), 1);
    for name in ["bad-statuses", "bad-spec", "bad-annotations", "bad-owner"] {
        assert_eq!(agent.guard(name, "")["state"], "invalid", "{name}");
    }
    assert_eq!(agent.guard("bad-id", "app")["state"], "invalid");
    let events = world.wait_events("PreOOMNotGuarded", 2);
    let event = events.iter().find(|e| e["regarding"]["name"] == "broken-file").expect("told");
    assert!(event["note"].as_str().is_some_and(|n| n.contains("memory.stat: has no line `inactive_file`")), "{event}");
    // Mended, it is guarded.
    broken.group.simulate(LIMIT, 0);
    world.wait_evictions(2);
}

pub fn a_disruption_budget_blocks_and_is_told() {
    let world = World::simulated();
    let place = world.place("web", Some(LIMIT), |p| {
        p.annotation(&format!("{PREFIX}memory-usage-threshold"), "60").label("app", "web")
    });
    world.server.put_pdb(Pdb::blocking(NS, "web-pdb", &[("app", "web")]));
    let agent = world.agent(&[]);
    place.group.simulate(THRESHOLD + 1, 0);
    world.wait_evictions(2);
    let events = world.wait_events("PreOOMEvictionBlocked", 2);
    assert!(events[0]["note"].as_str().is_some_and(|n| n.contains("PodDisruptionBudget web-pdb")), "{events:?}");
    agent.wait_state("web", "app", "blocked");
    assert_eq!(agent.metric("pre_oom_killer_blocked_pods"), 1.0);
    // No more over: nothing more is sent.
    place.group.simulate(MIB, 0);
    agent.wait_state("web", "app", "watching");
    let before = world.evictions().len();
    assert_eq!(world.evictions_after(A_WHILE), before);
    // Over again, and the budget allows it now.
    world.server.remove_pdb(NS, "web-pdb");
    place.group.simulate(THRESHOLD + 1, 0);
    world.wait_events("PreOOMEvicted", 1);
    assert_eq!(world.events("PreOOMEvictionBlocked").len(), 2, "the block was told once");
}

/// What the further annotations ask for goes over the wire.
pub fn grace_and_dry_run_by_annotation_go_along() {
    let world = World::simulated();
    let with = |name: &str, key: &str, value: &str| {
        let place = world.place(name, Some(LIMIT), |p| {
            p.annotation(&format!("{PREFIX}memory-usage-threshold"), "60").annotation(&format!("{PREFIX}{key}"), value)
        });
        place.group.simulate(THRESHOLD + 1, 0);
    };
    let agent = world.agent(&[]);
    with("forced", "eviction-grace-period", "0");
    agent.wait_state("forced", "", "invalid");
    with("grace", "eviction-grace-period", "7");
    assert_eq!(world.wait_evictions(1)[0].body["deleteOptions"]["gracePeriodSeconds"], 7);
    with("server", "dry-run", "server");
    assert_eq!(world.wait_evictions(2)[1].query_value("dryRun").as_deref(), Some("All"));
    with("client", "dry-run", "client");
    world.wait_events("PreOOMEvictionDryRun", 4);
    assert_eq!(world.evictions_after(A_WHILE), 2);
    assert!(world.evictions().iter().all(|e| !e.path.contains("/forced/")), "0 would be a force deletion");
}

/// `a,b`, `unreclaimable`, another namespace, no owner.
pub fn guards_of_every_kind() {
    let world = World::simulated();
    let agent = world.agent(&[]);
    let (one, two) = (crate::world::uid(), container_id());
    let both = world.place("both", Some(LIMIT), |p| {
        p.annotation(&format!("{PREFIX}memory-usage-threshold"), "60")
            .annotation(&format!("{PREFIX}target-container-name"), "app,side")
            .container("side", "100Mi")
            .container_id(&two)
    });
    let side = world.tree.container(&both.uid, &two);
    side.set_limit(Some(LIMIT));
    agent.wait_state("both", "side", "watching");
    side.simulate(THRESHOLD + 1, 0);
    world.wait_evictions(1);
    assert_eq!(agent.wait_told("PreOOMEvicted")["container"], "side");

    let id = container_id();
    let group = world.tree.container(&one, &id);
    world.tree.pod(&one).set_limit(Some(LIMIT));
    group.set_limit(Some(LIMIT));
    let bare = pod("elsewhere", "bare").uid(&one).bare().container("app", "100Mi").container_id(&id);
    let bare = bare.annotation(&format!("{PREFIX}memory-usage-threshold"), "50Mi");
    let bare = bare.annotation(&format!("{PREFIX}memory-signal"), "unreclaimable");
    world.server.put_pod(bare.build());
    agent.wait_state("bare", "app", "watching");
    group.simulate(80 * MIB, 40 * MIB);
    assert_eq!(world.evictions_after(Duration::from_millis(1500)), 1, "40Mi cannot be reclaimed");
    group.simulate(80 * MIB, 20 * MIB);
    assert!(world.wait_evictions(2)[1].path.contains("/namespaces/elsewhere/pods/bare/"));
    let told = world.server.wait_for(soon(), |s| {
        let events = s.events();
        Some(events.iter().filter(|e| e["metadata"]["namespace"] == "elsewhere").count()).filter(|n| *n > 0)
    });
    assert_eq!(told, Some(1), "nobody owns it: one Event");
}

pub fn sustained_for_waits_for_that_long() {
    let world = World::simulated();
    let place = world.place("web", Some(LIMIT), |p| {
        p.annotation(&format!("{PREFIX}memory-usage-threshold"), "60")
            .annotation(&format!("{PREFIX}sustained-for"), "4s")
    });
    place.group.simulate(THRESHOLD + 1, 0);
    let agent = world.agent(&[]);
    agent.wait_state("web", "app", "sustaining");
    assert_eq!(world.evictions_after(Duration::from_secs(2)), 0);
    world.wait_evictions(1);
}

/// Two pods of one owner: each is told on it with its own numbers, the second after its back-off.
pub fn the_second_pod_of_an_owner_is_held_then_evicted() {
    let world = World::simulated();
    let owned = |name: &str| {
        world.place(name, Some(LIMIT), |p| {
            p.annotation(&format!("{PREFIX}memory-usage-threshold"), "60").owner("StatefulSet", "db")
        })
    };
    let (first, second) = (owned("db-0"), owned("db-1"));
    let agent = world.agent(&[]);
    first.group.simulate(THRESHOLD + 1, 0);
    world.wait_evictions(1);
    second.group.simulate(THRESHOLD + 2 * MIB, 0);
    agent.wait_state("db-1", "app", "held");
    let held = world.wait_events("PreOOMEvictionHeld", 2);
    assert!(
        held[0]["note"].as_str().is_some_and(|n| n.contains("Held until") && n.contains("of this owner")),
        "{held:?}"
    );
    assert_eq!(world.evictions().len(), 1);
    world.wait_evictions(2);
    let events = world.wait_events("PreOOMEvicted", 4);
    let on_owner = events.iter().filter(|e| e["regarding"]["kind"] == "StatefulSet");
    let notes: Vec<_> = on_owner.map(|e| e["note"].as_str().unwrap_or_default().to_owned()).collect();
    assert_eq!(notes.len(), 2, "{notes:?}");
    assert!(notes.iter().any(|n| n.contains("pod db-0")) && notes.iter().any(|n| n.contains("pod db-1")), "{notes:?}");
}

/// Deleted with the precondition, only as its annotation says.
pub fn a_blocked_pod_past_its_force_delete_threshold_is_deleted() {
    let world = World::simulated();
    let place = world.place("web", Some(LIMIT), |p| {
        p.annotation(&format!("{PREFIX}memory-usage-threshold"), "60")
            .annotation(&format!("{PREFIX}force-delete-threshold"), "90")
            .annotation(&format!("{PREFIX}eviction-grace-period"), "3")
            .label("app", "web")
    });
    world.server.put_pdb(Pdb::blocking(NS, "web-pdb", &[("app", "web")]));
    let agent = world.agent(&[]);
    place.group.simulate(80 * MIB, 0);
    world.wait_events("PreOOMEvictionBlocked", 2);
    assert!(world.server.requests_to("DELETE", "/pods/").is_empty());
    // The usage of cache does not count.
    place.group.simulate(95 * MIB, 10 * MIB);
    std::thread::sleep(A_WHILE);
    assert!(world.server.requests_to("DELETE", "/pods/").is_empty());
    place.group.simulate(95 * MIB, 4 * MIB);
    world.wait_events("PreOOMForceDeleted", 2);
    let deletions = world.server.requests_to("DELETE", "/pods/web");
    assert_eq!(deletions.len(), 1);
    assert_eq!(deletions[0].body["preconditions"]["uid"], place.uid.as_str());
    assert_eq!(deletions[0].body["gracePeriodSeconds"], 3);
    assert_eq!(agent.metric("pre_oom_killer_deletions_total"), 1.0);
}

/// The server is asked what it would say to the deletion, and the pod stays.
pub fn a_dry_run_of_the_server_deletes_nothing() {
    let world = World::simulated();
    let place = world.place("web", Some(LIMIT), |p| {
        p.annotation(&format!("{PREFIX}memory-usage-threshold"), "60")
            .annotation(&format!("{PREFIX}force-delete-threshold"), "90")
            .label("app", "web")
    });
    world.server.put_pdb(Pdb::blocking(NS, "web-pdb", &[("app", "web")]));
    let before = world.server.pod(NS, "web");
    let agent = world.agent(&["--dry-run", "server"]);
    place.group.simulate(95 * MIB, 0);
    let answered = |a: &Agent| a.metric_so_far("pre_oom_killer_deletions_total").1.filter(|n| *n >= 1.0);
    agent.wait_until("a deletion is answered", answered);
    let deletions = world.server.requests_to("DELETE", "/pods/web");
    assert_eq!(deletions[0].body["dryRun"], serde_json::json!(["All"]));
    assert_eq!(world.server.pod(NS, "web"), before, "it is as it was");
}

pub fn excluded_namespaces_are_left_alone() {
    let world = World::simulated();
    let place = world.guarded("web", LIMIT);
    place.group.simulate(LIMIT, 0);
    let agent = world.agent(&["--exclude-namespaces", NS]);
    agent.wait_state("web", "app", "never");
    assert_eq!(world.evictions_after(A_WHILE), 0);
}

/// A kill that the pod's status tells of, with the reason that it was not prevented.
pub fn a_missed_oom_kill_is_told() {
    let world = World::simulated();
    let place = world.place("web", Some(LIMIT), |p| {
        p.annotation(&format!("{PREFIX}memory-usage-threshold"), "60").label("app", "web")
    });
    world.server.put_pdb(Pdb::blocking(NS, "web-pdb", &[("app", "web")]));
    let agent = world.agent(&[]);
    place.group.simulate(80 * MIB, 0);
    agent.wait_state("web", "app", "blocked");
    let next = container_id();
    world.server.edit_pod(NS, "web", |p| {
        let status = &mut p["status"]["containerStatuses"][0];
        status["lastState"] = json!({"terminated": {
            "reason": "OOMKilled", "exitCode": 137, "containerID": format!("containerd://{}", place.id)
        }});
        status["containerID"] = json!(format!("containerd://{next}"));
    });
    let event = world.wait_events("PreOOMMissed", 2).remove(0);
    let note = event["note"].as_str().unwrap_or_default();
    assert!(note.contains("a disruption budget did not allow its eviction") && note.contains("usage 80Mi"), "{note}");
    let (_, page) = agent.get("/metrics");
    assert!(page.contains("pre_oom_killer_missed_total{reason=\"blocked\"} 1"), "{page}");
}

/// Each passing trouble is retried under the same precondition.
pub fn passing_trouble_is_retried() {
    let world = World::simulated();
    let place = world.guarded("web", LIMIT);
    for fault in [
        Fault::on("POST", "/eviction").recorded("evict-500-webhook-unreachable"),
        Fault::on("POST", "/eviction").recorded("evict-401"),
        Fault::on("POST", "/eviction").recorded("evict-429-apf"),
        Fault::on("POST", "/eviction").reset(),
    ] {
        world.server.fault(fault);
    }
    let agent = world.agent(&[]);
    place.group.simulate(THRESHOLD + 1, 0);
    world.wait_events("PreOOMEvicted", 1);
    let evictions = world.evictions();
    assert_eq!(evictions.len(), 5);
    for eviction in evictions {
        assert_eq!(eviction.body["deleteOptions"]["preconditions"]["uid"], place.uid.as_str());
    }
    assert_eq!(agent.metric("pre_oom_killer_evictions_total"), 5.0);
}

/// Cut, ended, hung, expired watches; and a server that is away while a container crosses.
pub fn the_watch_is_begun_anew_and_guarding_goes_on() {
    let world = World::simulated();
    let agent = world.agent(&[]);
    let appears = |name: &str| {
        let place = world.guarded(name, LIMIT);
        place.group.simulate(MIB, 0);
        agent.wait_state(name, "app", "watching");
        place
    };
    let first = appears("first");
    world.server.end_watches();
    appears("after-end");
    world.server.cut_watches();
    appears("after-cut");
    world.server.expire_watches();
    appears("after-expired");
    world.server.go_away();
    agent.wait_until("it notices", |a| (a.metric("pre_oom_killer_watch_restarts_total") >= 1.0).then_some(()));
    assert_eq!(agent.get("/readyz").0, 200, "an outage does not make it unready");
    first.group.simulate(THRESHOLD + 1, 0);
    agent.wait_state("first", "app", "unknown");
    agent.wait_until("it says so", |a| a.get("/readyz").1.contains("the list of pods is").then_some(()));
    agent.wait_until("its age is told", |a| (a.metric("pre_oom_killer_pod_list_age_seconds") >= 1.0).then_some(()));
    world.server.come_back();
    let evictions = world.wait_evictions(1);
    assert!(evictions[0].path.contains("/first/"));
    appears("after-outage");
    assert_eq!(world.evictions().len(), 1);
}

/// As in a pod: over TLS, with a service account's token and authority.
pub fn it_runs_in_a_cluster() {
    let world = World { server: Standin::start_tls(), tree: standin::cgroups::Tree::simulated() };
    let place = world.guarded("web", LIMIT);
    place.group.simulate(THRESHOLD + 1, 0);
    let agent = Agent::in_cluster(&world.server, world.tree.root());
    let evictions = world.wait_evictions(1);
    assert_eq!(evictions[0].header("authorization"), Some("Bearer"));
    assert_eq!(evictions[0].answer.map(|(code, _)| code), Some(201));
    agent.wait_told("PreOOMEvicted");
}

/// No handshake stands between a verdict and its eviction; and nobody asks while nothing is near.
pub fn an_eviction_finds_its_connection_open() {
    finds_its_connection_open(
        |p| p,
        |world| Agent::in_cluster(&world.server, world.tree.root()),
        |r| r.query.contains("keeps-a-connection-open"),
        |world| drop(world.wait_evictions(1)),
    );
}

/// The same for a raise: the agent's own account sends it, where evictions are those of its node.
pub fn a_raise_finds_its_connection_open() {
    finds_its_connection_open(
        |p| {
            let p = p.age(Duration::from_secs(7200)).annotation(&format!("{PREFIX}remedies"), "raise");
            p.annotation(&format!("{PREFIX}raise-limit-to"), "1Gi")
        },
        |world| world.agent(&["--remedies", "raise", "--confinement", "impersonation"]),
        |r| (r.method.as_str(), r.path.as_str()) == ("GET", "/version"),
        |world| {
            let raises = |s: &Standin| !s.requests_to("PATCH", "/resize").is_empty();
            world.server.wait_for(soon(), |s| raises(s).then_some(())).expect("a raise");
        },
    );
}

/// Two containers are near, and cross their thresholds while the server is slow: each eviction has a connection.
pub fn two_evictions_find_two_connections_open() {
    let world = World { server: Standin::start_tls(), tree: standin::cgroups::Tree::simulated() };
    let places = ["first", "second"].map(|name| world.guarded(name, LIMIT));
    places.iter().for_each(|place| place.group.simulate(LIMIT / 10, 0));
    let agent = Agent::in_cluster(&world.server, world.tree.root());
    let pings = || world.server.requests().iter().filter(|r| r.query.contains("keeps-a-connection-open")).count();
    for (place, (name, least)) in places.iter().zip([("first", 1), ("second", 3)]) {
        agent.wait_state(name, "app", "watching");
        place.group.simulate(THRESHOLD - 1, 0);
        world.server.wait_for(soon(), |_| (pings() >= least).then_some(())).expect("a ping for each container");
        std::thread::sleep(Duration::from_millis(1500));
    }
    let handshakes = world.server.handshakes();
    world.server.fault(Fault::on("POST", "/eviction").always().delay(Duration::from_millis(300)));
    places.iter().for_each(|place| place.group.simulate(THRESHOLD + 1, 0));
    world.wait_evictions(2);
    assert_eq!(world.server.handshakes(), handshakes);
}

/// `asks`: the request that opens the connection. `wait`: for the remedy.
fn finds_its_connection_open(
    change: impl FnOnce(PodBuilder) -> PodBuilder,
    start: impl FnOnce(&World) -> Agent,
    asks: impl Fn(&Request) -> bool,
    wait: impl FnOnce(&World),
) {
    let world = World { server: Standin::start_tls(), tree: standin::cgroups::Tree::simulated() };
    let place = world.place("web", Some(LIMIT), |p| {
        let p = p.annotation(&format!("{PREFIX}memory-usage-threshold"), "60");
        change(p.annotation(&format!("{PREFIX}a-mistake"), ""))
    });
    place.group.simulate(LIMIT / 10, 0);
    let agent = start(&world);
    agent.wait_state("web", "app", "watching");
    world.wait_events("PreOOMGuardWarning", 1); // so that Events have their connection, too
    std::thread::sleep(Duration::from_secs(1));
    let asked = || world.server.requests().iter().filter(|r| asks(r)).count();
    assert_eq!(asked(), 0, "nothing is near");
    place.group.simulate(THRESHOLD - 1, 0);
    world.server.wait_for(soon(), |_| (asked() == 1).then_some(())).expect("a question that opens the connection");
    std::thread::sleep(Duration::from_secs(1));
    let handshakes = world.server.handshakes();
    place.group.simulate(THRESHOLD + 1, 0);
    wait(&world);
    assert_eq!((world.server.handshakes(), asked()), (handshakes, 1));
}

/// Answers that are none: told, tried again, and nothing is taken from them.
pub fn answers_that_cannot_be_read_are_asked_for_again() {
    let world = World::simulated();
    let place = world.guarded("web", LIMIT);
    place.group.simulate(THRESHOLD + 1, 0);
    let json = [("content-type", "application/json")];
    world.server.fault(Fault::on("GET", "/api/v1/pods").answer(200, &json, "{\"kind\":\"PodList\",\"items\":[{"));
    world.server.fault(Fault::on("GET", "/api/v1/pods").answer(200, &json, "<html>busy</html>"));
    world.server.fault(Fault::on("GET", "/api/v1/pods").cut_after(300));
    world.server.fault(Fault::on("POST", "/eviction").answer(
        200,
        &json,
        json!({"kind": "Status", "code": 500, "message": "odd"}),
    ));
    world.server.fault(Fault::on("POST", "/eviction").answer(599, &json, "\u{0}\u{1}"));
    let agent = world.agent(&[]);
    assert!(agent.metric("pre_oom_killer_watch_restarts_total") >= 3.0);
    world.wait_events("PreOOMEvicted", 1);
    assert_eq!(world.evictions().len(), 3, "two odd answers were no success");
}

/// A server that is away at the start is waited for.
pub fn it_starts_without_a_server() {
    let world = World::simulated();
    let place = world.guarded("web", LIMIT);
    place.group.simulate(THRESHOLD + 1, 0);
    world.server.go_away();
    let agent = Agent::launch(&world.server, world.tree.root(), &[]);
    std::thread::sleep(Duration::from_secs(2));
    assert_eq!(agent.get("/healthz").0, 200);
    let (code, text) = agent.get("/readyz");
    assert!(code == 503 && text.starts_with("the pods of this node are not listed yet: the list of pods: "), "{text}");
    world.server.come_back();
    world.wait_evictions(1);
    assert_eq!(agent.get("/readyz").0, 200);
}

pub fn sigterm_during_an_eviction_does_not_lose_the_answer() {
    let world = World::simulated();
    let place = world.guarded("web", LIMIT);
    world.server.fault(Fault::on("POST", "/eviction").delay(Duration::from_millis(700)).after_handling());
    let agent = world.agent(&[]);
    place.group.simulate(THRESHOLD + 1, 0);
    agent.wait_state("web", "app", "evicting");
    agent.signal(Signal::SIGTERM);
    let status = agent.wait(Duration::from_secs(30)).expect("it ends within its bound");
    assert!(status.success(), "{status}");
    assert_eq!(agent.told("PreOOMEvicted").len(), 1, "the answer was waited for");
    assert_eq!(world.events("PreOOMEvicted").len(), 2, "and told");
    assert_eq!(world.evictions().len(), 1);
}

pub fn it_stops_on_either_signal_and_at_once_on_a_second() {
    for signal in [Signal::SIGTERM, Signal::SIGINT] {
        let world = World::simulated();
        let agent = world.agent(&[]);
        agent.signal(signal);
        assert!(agent.wait(soon()).expect("it ends").success(), "{signal}");

        let place = world.guarded("web", LIMIT);
        world.server.fault(Fault::on("POST", "/eviction").hang_before_headers());
        let agent = world.agent(&[]);
        place.group.simulate(THRESHOLD + 1, 0);
        agent.wait_state("web", "app", "evicting");
        agent.signal(signal);
        agent.wait_until("it says that it waits", |a| {
            a.lines().iter().any(|l| l["message"].as_str().is_some_and(|m| m.starts_with("stopping"))).then_some(())
        });
        assert!(agent.wait(Duration::from_millis(500)).is_none(), "the answer is waited for");
        agent.signal(signal);
        let status = agent.wait(Duration::from_secs(5)).expect("at once");
        assert!(!status.success());
    }
}

pub fn bad_configuration_is_told_all_at_once() {
    let output = Command::new(binary())
        .args(["run", "--listen", "eighty", "--dry-run", "maybe", "--nodename", "x"])
        .env_clear()
        .output()
        .expect("it runs");
    assert_eq!(output.status.code(), Some(64));
    let text = String::from_utf8_lossy(&output.stderr).into_owned();
    for flag in ["--node-name", "--listen \"eighty\"", "--dry-run \"maybe\"", "`--nodename`"] {
        assert!(text.contains(flag), "{flag} in {text}");
    }
    assert_eq!(text.lines().count(), 4, "{text}");
    let output = Command::new(binary()).args(["run", "--node-name", "n"]).env_clear().output().expect("it runs");
    assert_eq!(output.status.code(), Some(1));
    let text = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(text.contains("--kubeconfig"), "{text}");
    // The environment stands in for flags.
    let output = Command::new(binary())
        .arg("run")
        .env_clear()
        .envs([("NODE_NAME", "n"), ("PRE_OOM_KILLER_DRY_RUN", "perhaps")])
        .output()
        .expect("it runs");
    let text = String::from_utf8_lossy(&output.stderr).into_owned();
    assert_eq!(text.lines().count(), 1, "{text}");
    assert!(text.contains("--dry-run \"perhaps\""), "{text}");
}

pub fn the_pages() {
    let world = World::simulated();
    let place = world.guarded("web", LIMIT);
    place.group.simulate(40 * MIB, 10 * MIB);
    let agent = world.agent(&["--listen", "0"]);
    agent.wait_until("read twice", |a| a.guard("web", "app")["memory"]["oomKills"].as_u64());
    let guard = agent.guard("web", "app");
    let memory = &guard["memory"];
    assert_eq!(guard["namespace"], NS);
    assert_eq!(guard["signal"], "working-set");
    assert_eq!(guard["threshold"], "60 %");
    assert_eq!(
        (&memory["usage"], &memory["limit"], &memory["threshold"]),
        (&json!(40 * MIB), &json!(LIMIT), &json!(THRESHOLD))
    );
    assert_eq!(memory["value"], 30 * MIB);
    assert_eq!(memory["room"], 70 * MIB, "clean cache is room");
    assert_eq!(memory["oomKills"], 0);
    assert_eq!(agent.get("/nothing").0, 404);
    assert_eq!(agent.get("/healthz"), (200, "ok\n".into()));
    let (_, page) = agent.get("/metrics");
    assert!(page.contains("pre_oom_killer_build_info{version="));
    assert!(page.ends_with("# EOF\n"));
    // On all addresses of both families.
    let line = agent.lines().into_iter().find_map(|l| l["listen"].as_str().map(str::to_owned)).expect("it says");
    let port: u16 = line.rsplit_once(':').expect("a port").1.parse().expect("a number");
    for host in ["127.0.0.1", "::1"] {
        let mut stream = TcpStream::connect((host, port)).unwrap_or_else(|e| panic!("{host}: {e}"));
        stream.write_all(b"GET /healthz HTTP/1.0\r\n\r\n").expect("sent");
    }
}

/// A minute in which 250 connections are open that send nothing, each for 3 s or until the agent closes it, then anew; all
/// from the address of the probes. Every probe is answered, and an eviction goes out.
pub fn idle_connections_starve_nobody() {
    let world = World::simulated();
    let place = world.guarded("web", LIMIT);
    place.group.simulate(THRESHOLD, 0);
    let agent = world.agent(&[]);
    agent.wait_state("web", "app", "watching");
    let (address, over) = (agent.address(), AtomicBool::new(false));
    let (asked, answered) = std::thread::scope(|scope| {
        scope.spawn(|| {
            let mut held: Vec<(TcpStream, Instant)> = Vec::new();
            while !over.load(Relaxed) {
                held.retain(|(stream, since)| {
                    let open = matches!(stream.peek(&mut [0]), Err(e) if e.kind() == ErrorKind::WouldBlock);
                    open && since.elapsed() < Duration::from_secs(3)
                });
                while held.len() < 250
                    && let Ok(stream) = TcpStream::connect_timeout(&address, Duration::from_millis(100))
                {
                    stream.set_nonblocking(true).expect("a socket");
                    held.push((stream, Instant::now()));
                }
                // Thousands of connections a second are a flood enough; the machine has to carry it, too.
                std::thread::sleep(Duration::from_millis(100));
            }
        });
        let (begin, mut asked, mut answered, mut missed) = (Instant::now(), 0, 0, 0);
        while begin.elapsed() < Duration::from_secs(60) {
            for path in ["/healthz", "/readyz"] {
                asked += 1;
                if agent::get_within(address, path, PROBE_WITHIN).is_some_and(|(code, _)| code == 200) {
                    (answered, missed) = (answered + 1, 0);
                } else {
                    missed += 1;
                    assert!(missed < 3, "three probes in a row: the kubelet would act");
                }
            }
            if asked == 20 {
                place.group.simulate(THRESHOLD + 1, 0);
            }
            std::thread::sleep(Duration::from_millis(100));
        }
        over.store(true, Relaxed);
        (asked, answered)
    });
    assert!(asked > 40, "{asked} probes in a minute");
    // One in a hundred may be late where the machine has other things to do.
    assert!(answered * 100 >= asked * 99, "{answered} of {asked} probes were answered");
    assert_eq!(world.wait_evictions(1).len(), 1);
}

/// Nobody reads its stderr any more, and it has a lot to say: an eviction goes out all the same. What is lost is told when
/// somebody reads again.
pub fn a_stalled_stderr_stalls_no_eviction() {
    let world = World::simulated();
    let place = world.guarded("web", LIMIT);
    place.group.simulate(THRESHOLD, 0);
    let agent = world.agent(&["--log", "trace", "--eviction-burst", "1000"]);
    agent.wait_state("web", "app", "watching");
    agent.leave_unread(true);
    // Each Event is some dozen lines: together far more than a pipe takes, and than what the agent keeps.
    for n in 0..150 {
        let tried = world.place(&format!("tried-{n}"), Some(LIMIT), |p| {
            p.annotation(&format!("{PREFIX}memory-usage-threshold"), "60")
                .annotation(&format!("{PREFIX}dry-run"), "client")
        });
        tried.group.simulate(THRESHOLD + 1, 0);
    }
    world.wait_events("PreOOMEvictionDryRun", 200);
    place.group.simulate(THRESHOLD + 1, 0);
    world.wait_evictions(1);
    assert_eq!(agent.get("/healthz").0, 200);
    agent.leave_unread(false);
    agent.wait_until("told what was lost", |a| a.lines().iter().any(|l| l["lost"].as_u64() > Some(0)).then_some(()));
    agent.leave_unread(true);
    agent.signal(Signal::SIGTERM);
    assert!(agent.wait(Duration::from_secs(10)).is_some_and(|status| status.success()), "nor its end");
}

/// Whoever may edit a pod cannot have the agent write Events without end, nor log lines.
pub fn an_annotation_edited_in_a_loop_writes_few_events() {
    let world = World::simulated();
    let other = world.guarded("other", LIMIT);
    other.group.simulate(THRESHOLD, 0);
    world.guarded("web", LIMIT);
    let agent = world.agent(&[]);
    agent.wait_state("other", "app", "watching");
    for n in 0..300 {
        world.server.edit_pod(NS, "web", |p| {
            p["metadata"]["annotations"][format!("{PREFIX}memory-usage-threshold")] = json!(format!("{n}m"));
        });
    }
    let dropped = || agent.metric("pre_oom_killer_notices_dropped_total");
    agent.wait_until("all edits are seen", |_| (dropped() >= 200.0).then_some(()));
    other.group.simulate(THRESHOLD + 1, 0);
    world.wait_events("PreOOMEvicted", 2);
    let (events, lines) = (world.events("PreOOMInvalidGuard").len(), agent.told("PreOOMInvalidGuard").len());
    assert!((1..=12).contains(&events) && (1..=12).contains(&lines), "{events} Events, {lines} lines");
    assert!(dropped() + lines as f64 <= 301.0, "each is told or counted");
    assert_eq!(agent.metric("pre_oom_killer_events_lost_total"), 0.0);
}

/// Ready only while the cgroups can be read.
pub fn a_cgroup_root_that_is_gone_makes_it_unready() {
    let world = World::simulated();
    let agent = world.agent(&[]);
    let (root, away) = (world.tree.root().to_owned(), world.tree.root().with_extension("away"));
    std::fs::rename(&root, &away).expect("ours");
    let (code, text) = agent.get("/readyz");
    std::fs::rename(&away, &root).expect("ours");
    assert_eq!(code, 503);
    assert!(text.contains(&root.display().to_string()), "{text}");
    assert_eq!(agent.get("/readyz").0, 200);
    let missing = Command::new(binary())
        .args(["run", "--node-name", "n", "--cgroup-root", "/nonexistent"])
        .output()
        .expect("it runs");
    assert_eq!(missing.status.code(), Some(1));
    let text = String::from_utf8_lossy(&missing.stderr).into_owned();
    assert!(text.contains("/nonexistent") && text.contains("--cgroup-root"), "{text}");
}

/// A day in a few seconds: one line an event however often it is looked at and tried, with the fields of the Event
/// and the labels of the metrics; and a filter that holds.
pub fn the_log_says_each_thing_once() {
    let world = World::simulated();
    let threshold = format!("{PREFIX}memory-usage-threshold");
    let over = |name: &str, change: fn(standin::PodBuilder) -> standin::PodBuilder| {
        let place = world.place(name, Some(LIMIT), |p| change(p.annotation(&threshold, "60")));
        place.group.simulate(THRESHOLD + MIB, 0);
        place
    };
    let blocked = over("blocked", |p| p.label("app", "blocked"));
    world.server.put_pdb(Pdb::blocking(NS, "blocked-pdb", &[("app", "blocked")]));
    over("tried", |p| p.annotation(&format!("{PREFIX}dry-run"), "client"));
    over("tried-by-the-server", |p| p.annotation(&format!("{PREFIX}dry-run"), "server"));
    over("young", |p| p.age(Duration::from_secs(1)));
    over("warned", |p| p.annotation(&format!("{PREFIX}memory-usage-treshold"), "60"));
    world.place("invalid", Some(LIMIT), |p| p.annotation(&threshold, "60m"));
    world.place("unlimited", None, |p| p.annotation(&threshold, "60")).group.simulate(MIB, 0);
    let agent = world.agent(&[]);
    for reason in ["PreOOMEvictionBlocked", "PreOOMEvictionDryRun", "PreOOMEvictionHeld", "PreOOMEvicted"] {
        agent.wait_told(reason);
    }
    std::thread::sleep(Duration::from_secs(4)); // hundreds of looks, some tries
    assert!(agent.metric("pre_oom_killer_evictions_total") >= 5.0, "the blocked one was tried again");
    world.server.edit_pod(NS, "blocked", |p| {
        let status = &mut p["status"]["containerStatuses"][0];
        let killed =
            json!({"reason": "OOMKilled", "exitCode": 137, "containerID": format!("containerd://{}", blocked.id)});
        status["lastState"] = json!({"terminated": killed});
        status["containerID"] = json!(format!("containerd://{}", container_id()));
    });
    agent.wait_told("PreOOMMissed");
    let lines = agent.lines();
    let mut told: Vec<String> = Vec::new();
    for line in lines.iter().filter(|l| l["reason"].is_string()) {
        told.push(format!(
            "{} {}",
            line["reason"].as_str().unwrap_or_default(),
            line["pod"].as_str().unwrap_or_default()
        ));
        assert_eq!((&line["namespace"], line["uid"].is_string()), (&json!(NS), true), "{line}");
    }
    told.sort();
    assert_eq!(
        told,
        [
            "PreOOMEvicted warned",
            "PreOOMEvictionBlocked blocked",
            "PreOOMEvictionDryRun tried",
            "PreOOMEvictionDryRun tried-by-the-server",
            "PreOOMEvictionHeld young",
            "PreOOMGuardWarning warned",
            "PreOOMInvalidGuard invalid",
            "PreOOMInvalidGuard unlimited",
            "PreOOMMissed blocked",
        ]
    );
    assert!(lines.len() <= told.len() + 7, "and little else: {lines:#?}");
    let labels = |reason: &str, pod: &str| {
        let line = agent.told(reason).into_iter().find(|l| l["pod"] == pod).unwrap_or_default();
        (line["answer"].clone(), line["cause"].clone(), line["dry_run"].clone(), line["value"].clone())
    };
    let value = json!(THRESHOLD + MIB);
    assert_eq!(labels("PreOOMEvicted", "warned"), (json!("accepted"), Value::Null, Value::Null, value.clone()));
    assert_eq!(labels("PreOOMEvictionBlocked", "blocked"), (json!("blocked"), Value::Null, Value::Null, value.clone()));
    let tried = labels("PreOOMEvictionDryRun", "tried");
    assert_eq!(tried, (json!("not-sent"), Value::Null, json!("client"), value.clone()));
    assert_eq!(labels("PreOOMEvictionDryRun", "tried-by-the-server").2, "server");
    assert_eq!(labels("PreOOMEvictionHeld", "young"), (Value::Null, json!("minimum-age"), Value::Null, value.clone()));
    assert_eq!(labels("PreOOMMissed", "blocked"), (Value::Null, json!("blocked"), Value::Null, value));
    // The Event's note is the line's message, and `/api/guards` has it too.
    let message = agent.wait_told("PreOOMMissed")["message"].as_str().unwrap_or_default().to_owned();
    let notes = world.wait_events("PreOOMMissed", 2);
    let note = format!("container app: {message}");
    assert!(notes.iter().any(|e| e["note"] == note), "{note} in {notes:?}");
    let facts: Value = serde_json::from_str(&agent.get("/api/guards").1).unwrap_or_default();
    let recent = facts["recent"][0].clone();
    assert_eq!(
        (&recent["words"], &recent["cause"], &recent["reason"]),
        (&json!(message), &json!("blocked"), &json!("PreOOMMissed"))
    );
    drop(agent);
    // By module, as documented: only what is said at the start.
    let agent = world.agent(&["--log", "warn,pre_oom_killer::agent=info"]);
    agent.wait_told("PreOOMEvictionHeld");
    agent.wait_state("tried", "app", "dry-run");
    assert!(agent.lines().iter().filter(|l| l["level"] == "INFO").all(|l| l["reason"].is_null()));
}

/// For people, a line is a sentence with its fields behind it.
pub fn the_log_can_be_text() {
    let world = World::simulated();
    let place = world.guarded("web", LIMIT);
    place.group.simulate(THRESHOLD + 1, 0);
    let agent = Agent::launch(&world.server, world.tree.root(), &["--log-format", "text"]);
    let line = agent.wait_until("a line", |a| {
        let lines = a.lines().into_iter().filter_map(|l| l.as_str().map(str::to_owned));
        lines.into_iter().find(|l| l.contains("Evicted before"))
    });
    for part in ["INFO", "working-set 60Mi is just above the threshold of 60Mi", "pod=\"web\"", "container=\"app\""] {
        assert!(line.contains(part), "{part} in {line}");
    }
}

/// What docs/install.md promises of its size.
pub fn it_stays_small_with_250_containers() {
    let world = World::simulated();
    for i in 0..250 {
        let place = world.guarded(&format!("web-{i}"), LIMIT);
        place.group.simulate(30 * MIB, MIB);
    }
    let agent = world.agent(&[]);
    agent.wait_until("all are read", |a| (a.metric("pre_oom_killer_guarded_containers") == 250.0).then_some(()));
    std::thread::sleep(Duration::from_secs(2));
    let kib = agent.memory("VmRSS");
    println!("RSS with 250 guarded containers: {kib} KiB");
    assert!(kib <= 16 * 1024, "{kib} KiB");
    // Nothing but the list, the watch and no more; and at the start what it may.
    let asked = world.server.requests().into_iter().filter(|r| !r.path.ends_with("/selfsubjectaccessreviews"));
    let asked: Vec<String> = asked.map(|r| format!("{} {}", r.method, r.path)).collect();
    assert!(asked.len() <= 3 + 2, "{asked:?}");
}

/// No right is told with the server's words; once it is given, that is enough.
/// Many pods of a megabyte, as a tenant may make them: in the list, and each again in the watch. The agent's memory stays
/// far below the 64Mi that it is given; what is too large is told, and the pods beside it are guarded.
pub fn large_pods_cost_little_memory_and_hide_no_other() {
    let world = World::simulated();
    let threshold = format!("{PREFIX}memory-usage-threshold");
    let made = |name: &str, change: &dyn Fn(&mut Value)| {
        let mut pod = pod(NS, name).annotation(&threshold, "60").container("app", Some("100Mi")).build();
        change(&mut pod);
        world.server.put_pod(pod);
    };
    let many_containers = |pod: &mut Value| {
        let containers =
            (0..9000).map(|n| json!({"name": format!("{n:063}"), "image": "an-image-with-a-long-name:1.2.3"}));
        pod["spec"]["containers"] = containers.collect();
    };
    for n in 0..20 {
        made(&format!("many-{n}"), &many_containers);
    }
    let large_environment = |pod: &mut Value| {
        pod["spec"]["containers"][0]["env"] = json!([{"name": "BLOB", "value": "x".repeat(1_000_000)}]);
    };
    made("environment", &large_environment);
    made("too-large", &|pod| {
        pod["spec"]["containers"][0]["env"] = json!([{"name": "BLOB", "value": "x".repeat(4_000_000)}]);
    });
    let web = world.guarded("web", LIMIT);
    web.group.simulate(THRESHOLD, 0);
    let agent = world.agent(&[]);
    agent.wait_state("web", "app", "watching");
    for n in 0..20 {
        world.server.edit_pod(NS, &format!("many-{n}"), |p| p["metadata"]["labels"]["again"] = json!("yes"));
    }
    world.server.edit_pod(NS, "too-large", |p| p["metadata"]["labels"]["again"] = json!("yes"));
    let late = world.guarded("late", LIMIT);
    agent.wait_state("late", "app", "watching");
    let most = agent.memory("VmHWM");
    println!("largest RSS beside 22 large pods: {most} KiB");
    assert!(most <= 40 * 1024, "{most} KiB");
    assert_eq!(agent.guard("environment", "app")["state"], "resolving", "large, but nothing that is kept of it is");
    let why = |name: &str| agent.guard(name, "")["why"].as_str().unwrap_or_default().to_owned();
    assert_eq!(why("many-19"), "the pod cannot be read: spec: a list of more than 100");
    assert_eq!(why("too-large"), "the pod cannot be read: it is larger than 3Mi as JSON: make it smaller");
    web.group.simulate(THRESHOLD + 1, 0);
    late.group.simulate(THRESHOLD + 1, 0);
    world.wait_evictions(2);
}

pub fn no_right_to_list_is_told_and_heals() {
    let server = Standin::start();
    server.deny("list", "pods");
    let tree = standin::cgroups::Tree::simulated();
    let agent = Agent::launch(&server, tree.root(), &[]);
    agent.wait_until("it is told", |a| {
        a.lines().iter().any(|l| l["error"].as_str().is_some_and(|e| e.contains("forbidden"))).then_some(())
    });
    server.put_pod(
        pod(NS, "web")
            .annotation(&format!("{PREFIX}memory-usage-threshold"), "60")
            .container("app", "100Mi")
            .container_id(&container_id())
            .build(),
    );
    server.allow("list", "pods");
    agent.wait_until("ready", |a| (a.get("/readyz").0 == 200).then_some(()));
    agent.wait_state("web", "app", "resolving");
}
