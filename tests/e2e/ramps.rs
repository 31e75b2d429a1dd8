//! Real memory, a real kernel: what is saved, what is spared, and what changes in the middle.

use std::os::unix::process::ExitStatusExt;
use std::time::{Duration, Instant};

use serde_json::json;
use standin::cgroups::Group;
use standin::hog::Hog;

use standin::Pdb;

use crate::agent::{Agent, soon};
use crate::scratch::Scratch;
use crate::slow::SlowFiles;
use crate::world::{MIB, NS, PREFIX, World, container_id};

const LIMIT: u64 = 64 * MIB;
/// From the threshold of 60 % to the limit in 1.6 s.
const RATE: u64 = 16 * MIB;
const SIGTERM: i32 = 15;
const SIGKILL: i32 = 9;

fn wait_usage(group: &Group, usage: u64) {
    let begin = Instant::now();
    while group.usage() < Some(usage) {
        assert!(begin.elapsed() < soon(), "it fills");
        std::thread::sleep(Duration::from_millis(2));
    }
}

fn signal_of(hog: &mut Hog) -> Option<i32> {
    hog.wait(soon()).expect("the hog ends").signal()
}

pub fn a_ramp_is_evicted_before_the_kill_and_its_twin_is_killed() {
    let world = World::real();
    let guarded = world.guarded("guarded", LIMIT);
    let twin = world
        .place("twin", Some(LIMIT), |p| p.unlabelled().annotation(&format!("{PREFIX}memory-usage-threshold"), "60"));
    let agent = world.agent(&[]);
    agent.wait_state("guarded", "app", "watching");
    let (mut hog, mut twin_hog) = (guarded.hog(), twin.hog());
    hog.ramp(2 * LIMIT, RATE);
    twin_hog.ramp(2 * LIMIT, RATE);
    assert_eq!(signal_of(&mut hog), Some(SIGTERM), "the guarded one ends in order");
    assert_eq!(signal_of(&mut twin_hog), Some(SIGKILL), "the other does not");
    assert_eq!(guarded.group.oom_kills(), 0);
    assert!(twin.group.oom_kills() + twin.pod_group.oom_kills() > 0, "the kernel killed it");
    let evictions = world.evictions();
    assert_eq!(evictions.len(), 1);
    assert!(evictions[0].path.contains("/pods/guarded/"));

    // What people see of it.
    let events = world.wait_events("PreOOMEvicted", 2);
    let mut kinds: Vec<_> = events.iter().map(|e| e["regarding"]["kind"].as_str().unwrap_or_default()).collect();
    kinds.sort_unstable();
    assert_eq!(kinds, ["Pod", "ReplicaSet"]);
    for event in &events {
        let note = event["note"].as_str().unwrap_or_default();
        for word in ["container app", "working-set", "threshold of 38.4Mi", "usage", "limit 64Mi", "growing"] {
            assert!(note.contains(word), "{word} in {note}");
        }
        assert_eq!(event["metadata"]["namespace"], NS);
    }
    let line = agent.wait_told("PreOOMEvicted");
    assert_eq!((&line["namespace"], &line["pod"], &line["container"]), (&json!(NS), &json!("guarded"), &json!("app")));
    assert_eq!(line["limit"], LIMIT);
    assert_eq!(line["signal"], "working-set");
    assert!(line["value"].as_u64() > line["threshold"].as_u64());
    assert_eq!(agent.metric("pre_oom_killer_evictions_total"), 1.0);
    assert!(agent.metric("pre_oom_killer_verdicts_total") >= 1.0);
    assert_eq!(agent.metric("pre_oom_killer_eviction_seconds_count"), 1.0);
}

/// A container whose `memory.stat` takes a second has to have it read again and again to know whether it is above its
/// threshold.
pub fn a_ramp_is_evicted_beside_a_stat_that_takes_a_second() {
    let world = World::real();
    let (slow, leaky) = (world.guarded("slow", LIMIT), world.guarded("leaky", LIMIT));
    // Above the threshold by usage, below it by its working set. v1's names and v2's.
    let half = LIMIT * 4 / 10;
    let stat = format!("inactive_file {half}\nactive_file 0\ntotal_inactive_file {half}\ntotal_active_file 0\n");
    let files = SlowFiles::mount(&stat, vec![Duration::from_secs(1)]);
    files.covers(0, &slow.group.dir().join("memory.stat"));
    let (mut slow_hog, mut hog) = (slow.hog(), leaky.hog());
    slow_hog.hold(LIMIT * 8 / 10, 0);
    let agent = world.agent(&[]);
    agent.wait_until("its stat is slow", |a| {
        a.guard("slow", "app")["why"].as_str()?.contains("its memory.stat takes").then_some(())
    });
    agent.wait_state("leaky", "app", "watching");
    hog.ramp(2 * LIMIT, RATE);
    assert_eq!(signal_of(&mut hog), Some(SIGTERM), "it ends in order");
    assert_eq!(leaky.group.oom_kills(), 0);
    let evictions = world.evictions();
    assert!(evictions.len() == 1 && evictions[0].path.contains("/pods/leaky/"), "{evictions:?}");
}

pub fn the_precondition_and_nothing_else_goes_over_the_wire() {
    let world = World::real();
    let place = world.guarded("web", LIMIT);
    let agent = world.agent(&[]);
    agent.wait_state("web", "app", "watching");
    let mut hog = place.hog();
    hog.ramp(2 * LIMIT, RATE);
    let evictions = world.wait_evictions(1);
    let eviction = &evictions[0];
    assert_eq!(eviction.path, format!("/api/v1/namespaces/{NS}/pods/web/eviction"));
    assert_eq!(eviction.query, "");
    assert_eq!(eviction.header("content-type"), Some("application/json"));
    assert_eq!(
        eviction.body,
        json!({
            "apiVersion": "policy/v1", "kind": "Eviction", "metadata": {"name": "web", "namespace": NS},
            "deleteOptions": {"preconditions": {"uid": place.uid}}
        })
    );
    assert_eq!(signal_of(&mut hog), Some(SIGTERM));
}

/// Usage stands at the limit through page cache while the working set stays at 40 %.
pub fn page_cache_at_the_limit_is_neither_over_nor_near() {
    let world = World::real();
    let place = world.guarded("reader", LIMIT);
    let agent = world.agent(&[]);
    let mut hog = place.hog();
    hog.hold(LIMIT * 4 / 10, 0);
    let file = Scratch::cold(3 * LIMIT); // what was written a moment ago would be active cache
    place.fill_with_cache(&mut hog, &file.0, LIMIT);

    let memory = |agent: &Agent| agent.guard("reader", "app")["memory"].clone();
    agent.wait_until("the cache is known", |a| {
        let m = memory(a);
        (m["usage"].as_u64()? > LIMIT * 9 / 10 && m["value"].as_u64()? < LIMIT * 6 / 10).then_some(())
    });
    let (samples, begin) = (agent.metric("pre_oom_killer_samples_total"), Instant::now());
    while begin.elapsed() < Duration::from_secs(5) {
        let guard = agent.guard("reader", "app");
        assert_eq!(guard["state"], "watching", "{guard}");
        let m = &guard["memory"];
        assert!(m["room"].as_u64() > Some(LIMIT / 3), "not near: {m}");
        hog.read(&file.0);
    }
    let a_second = (agent.metric("pre_oom_killer_samples_total") - samples) / begin.elapsed().as_secs_f64();
    assert!(a_second < 60.0, "{a_second} looks a second; at 5 ms it would be 200");
    assert!(world.evictions().is_empty());
    assert!(hog.ended().is_none());
}

/// tmpfs counts; below the threshold it is left alone, above it is not.
pub fn a_tmpfs_innocent_below_its_threshold_lives() {
    let world = World::real();
    let place = world.guarded("shm", LIMIT);
    let agent = world.agent(&[]);
    let mut hog = place.hog();
    let file = Scratch::in_memory();
    hog.write(&file.0, LIMIT / 2);
    agent.wait_until("it is seen", |a| {
        (a.guard("shm", "app")["memory"]["value"].as_u64()? > LIMIT * 45 / 100).then_some(())
    });
    assert_eq!(world.evictions_after(Duration::from_secs(2)), 0);
    assert!(hog.ended().is_none());
    hog.ramp(2 * LIMIT, RATE);
    world.wait_evictions(1);
}

pub fn a_label_removed_in_mid_ramp_ends_the_guard() {
    let world = World::real();
    let place = world.guarded("web", LIMIT);
    let agent = world.agent(&[]);
    let mut hog = place.hog();
    agent.wait_state("web", "app", "watching");
    // While it grows.
    hog.ramp(2 * LIMIT, RATE / 2);
    wait_usage(&place.group, LIMIT / 3);
    world.server.edit_pod(NS, "web", |p| p["metadata"]["labels"]["pre-oom-killer"] = json!("disabled"));
    assert_eq!(signal_of(&mut hog), Some(SIGKILL), "nobody guards it any more");
    assert!(world.evictions().is_empty());
}

pub fn an_annotation_edited_in_mid_ramp_holds_at_once() {
    let world = World::real();
    let place = world.place("web", Some(LIMIT), |p| p.annotation(&format!("{PREFIX}memory-usage-threshold"), "95"));
    let agent = world.agent(&[]);
    let mut hog = place.hog();
    hog.hold(LIMIT * 7 / 10, RATE);
    agent.wait_until("read", |a| (a.guard("web", "app")["memory"]["value"].as_u64()? > LIMIT * 6 / 10).then_some(()));
    assert_eq!(world.evictions_after(Duration::from_millis(500)), 0);
    world.server.edit_pod(NS, "web", |p| {
        p["metadata"]["annotations"][format!("{PREFIX}memory-usage-threshold")] = json!("60");
    });
    world.wait_evictions(1);
    assert_eq!(signal_of(&mut hog), Some(SIGTERM));
}

pub fn a_container_restarted_in_mid_ramp_is_guarded_under_its_new_id() {
    let world = World::real();
    let place = world.guarded("web", LIMIT);
    let agent = world.agent(&[]);
    let mut hog = place.hog();
    hog.hold(LIMIT / 2, RATE);
    agent.wait_state("web", "app", "watching");
    drop(hog);
    place.group.remove();
    let id = container_id();
    let group = world.tree.container(&place.uid, &id);
    group.set_limit(Some(LIMIT));
    world.server.attach(NS, "web", vec![group.dir().to_owned()]);
    let mut hog = Hog::start(group.dir());
    world.server.edit_pod(NS, "web", |p| {
        p["status"]["containerStatuses"][0]["containerID"] = json!(format!("containerd://{id}"));
    });
    agent
        .wait_until("the new group is read", |a| a.guard("web", "app")["cgroup"].as_str()?.contains(&id).then_some(()));
    assert!(world.evictions().is_empty());
    hog.ramp(2 * LIMIT, RATE);
    assert_eq!(signal_of(&mut hog), Some(SIGTERM));
    assert_eq!(world.evictions().len(), 1);
}

/// The kernel says the limit, not the spec.
pub fn a_limit_resized_in_mid_ramp_moves_the_threshold() {
    let world = World::real();
    let place = world.guarded("web", LIMIT);
    let agent = world.agent(&[]);
    let mut hog = place.hog();
    hog.hold(LIMIT / 2, RATE);
    agent.wait_state("web", "app", "watching");
    place.pod_group.set_limit(Some(2 * LIMIT));
    place.group.set_limit(Some(2 * LIMIT));
    // The spec of the pod still says the old limit; a ramp may begin right after the resize.
    hog.hold(LIMIT, RATE);
    assert_eq!(world.evictions_after(Duration::from_millis(500)), 0, "50 % of the new limit");
    place.group.set_limit(Some(LIMIT * 3 / 2));
    world.wait_evictions(1);
    let line = agent.wait_told("PreOOMEvicted");
    assert_eq!(line["limit"], LIMIT * 3 / 2);
}

pub fn a_namesake_is_a_pod_of_its_own() {
    let world = World::real();
    let old = world.guarded("db-0", LIMIT);
    let agent = world.agent(&[]);
    let mut hog = old.hog();
    hog.hold(LIMIT / 2, RATE);
    agent.wait_state("db-0", "app", "watching");
    world.server.remove_pod(NS, "db-0");
    let new = world.guarded("db-0", LIMIT);
    let mut new_hog = new.hog();
    agent.wait_until("the new one", |a| (a.guard("db-0", "app")["uid"] == new.uid.as_str()).then_some(()));
    // The old one's process is still there, and over.
    hog.hold(LIMIT * 8 / 10, RATE);
    assert!(old.group.usage() > Some(LIMIT * 7 / 10));
    assert_eq!(world.evictions_after(Duration::from_secs(2)), 0);
    new_hog.ramp(2 * LIMIT, RATE);
    let evictions = world.wait_evictions(1);
    assert_eq!(evictions[0].body["deleteOptions"]["preconditions"]["uid"], new.uid.as_str());
    assert_eq!(signal_of(&mut new_hog), Some(SIGTERM));
}

/// A level above the pod has a limit; it is the node's concern and no base.
pub fn a_limit_of_kubepods_is_no_base() {
    let world = World::real();
    let place = world.place("free", None, |p| p.annotation(&format!("{PREFIX}memory-usage-threshold"), "20"));
    world.tree.kubepods().set_limit(Some(4 * LIMIT));
    let agent = world.agent(&[]);
    let mut hog = place.hog();
    agent.wait_state("free", "app", "no-limit");
    hog.hold(2 * LIMIT, 0);
    assert_eq!(world.evictions_after(Duration::from_secs(2)), 0);
    assert_eq!(agent.guard("free", "app")["state"], "no-limit");
    let events = world.wait_events("PreOOMInvalidGuard", 1);
    assert_eq!(events.len(), 1, "told once");
    assert!(
        events[0]["note"].as_str().is_some_and(|n| n.contains("neither the container nor its pod has a memory limit"))
    );
}

pub fn the_pods_limit_is_the_base_where_the_container_has_none() {
    let world = World::real();
    let place = world.guarded("pooled", LIMIT);
    place.group.set_limit(None);
    let agent = world.agent(&[]);
    agent.wait_state("pooled", "app", "watching");
    let mut hog = place.hog();
    hog.ramp(2 * LIMIT, RATE);
    assert_eq!(signal_of(&mut hog), Some(SIGTERM));
    assert_eq!(agent.wait_told("PreOOMEvicted")["limit"], LIMIT);
}

pub fn a_quantity_guards_without_a_limit() {
    let world = World::real();
    let place = world.place("free", None, |p| p.annotation(&format!("{PREFIX}memory-usage-threshold"), "48Mi"));
    let agent = world.agent(&[]);
    agent.wait_state("free", "app", "watching");
    let mut hog = place.hog();
    hog.ramp(4 * LIMIT, RATE);
    assert_eq!(signal_of(&mut hog), Some(SIGTERM));
    let line = agent.wait_told("PreOOMEvicted");
    assert!(line["limit"].is_null() && line["room"].is_null(), "{line}");
}

/// A container that has just started is held, so that a threshold set too low is no loop of evictions; unless its
/// end is near.
pub fn a_young_container_is_held_unless_its_end_is_near() {
    let world = World::real();
    let young = |name: &str| {
        world.place(name, Some(LIMIT), |p| {
            p.annotation(&format!("{PREFIX}memory-usage-threshold"), "60").age(Duration::from_secs(5))
        })
    };
    let (held, hasty) = (young("held"), young("hasty"));
    let agent = world.agent(&[]);
    agent.wait_state("held", "app", "watching");
    agent.wait_state("hasty", "app", "watching");
    let (mut hog, mut fast) = (held.hog(), hasty.hog());
    hog.hold(LIMIT * 7 / 10, RATE / 2);
    agent.wait_state("held", "app", "held");
    assert!(world.evictions().is_empty());
    fast.ramp(2 * LIMIT, RATE);
    assert_eq!(signal_of(&mut fast), Some(SIGTERM), "less than 4 evictions' time was left");
    assert!(world.evictions().iter().all(|e| e.path.contains("/hasty/")));
    assert!(hog.ended().is_none());
}

/// A kill that no eviction could prevent is told, with what was last read.
pub fn a_kill_in_spite_of_a_guard_is_told() {
    let world = World::real();
    let place = world.place("web", Some(LIMIT), |p| {
        p.annotation(&format!("{PREFIX}memory-usage-threshold"), "60").label("app", "web")
    });
    world.server.put_pdb(Pdb::blocking(NS, "web-pdb", &[("app", "web")]));
    let agent = world.agent(&[]);
    agent.wait_state("web", "app", "watching");
    let mut hog = place.hog();
    hog.hold(LIMIT * 7 / 10, RATE);
    agent.wait_state("web", "app", "blocked");
    hog.ramp(2 * LIMIT, RATE);
    assert_eq!(signal_of(&mut hog), Some(SIGKILL), "the budget did not let it go");
    let line = agent.wait_told("PreOOMMissed");
    assert!(line["message"].as_str().is_some_and(|m| m.contains("a disruption budget did not allow")), "{line}");
    assert_eq!(agent.metric("pre_oom_killer_missed_total"), 1.0);
}

/// Workers that are killed one after the other are as many kills, and the container goes on.
pub fn kills_of_workers_are_counted() {
    const WORKERS: u32 = 5;
    let world = World::real();
    let place = world.guarded("web", LIMIT);
    let agent = world.agent(&["--dry-run", "client"]);
    agent.wait_state("web", "app", "watching");
    let mut main = place.hog();
    for _ in 0..WORKERS {
        let mut worker = place.hog();
        worker.ramp(2 * LIMIT, 0);
        assert_eq!(signal_of(&mut worker), Some(SIGKILL));
    }
    agent.wait_until("all are counted", |a| {
        (a.metric("pre_oom_killer_missed_total") >= f64::from(WORKERS)).then_some(())
    });
    assert_eq!(agent.metric("pre_oom_killer_missed_total"), f64::from(WORKERS));
    assert!(main.ended().is_none());
    let told = agent.told("PreOOMMissed");
    let words = |l: &serde_json::Value| l["message"].as_str().is_some_and(|m| m.contains("of its processes w"));
    assert!(told.iter().all(words), "{told:?}");
}

/// A pod's limit that is filled by others kills a container that is far from its own.
pub fn a_kill_for_the_pods_limit_is_told_as_that() {
    let world = World::real();
    let place = world.guarded("web", LIMIT);
    let other = world.tree.container(&place.uid, &container_id());
    let agent = world.agent(&[]);
    agent.wait_state("web", "app", "watching");
    let mut writer = Hog::start(other.dir());
    let file = Scratch::in_memory();
    writer.write(&file.0, LIMIT * 3 / 4);
    wait_usage(&place.pod_group, LIMIT * 3 / 4);
    let mut hog = place.hog();
    hog.ramp(2 * LIMIT, RATE);
    assert_eq!(signal_of(&mut hog), Some(SIGKILL));
    let line = agent.wait_told("PreOOMMissed");
    assert_eq!(line["cause"], "pod-limit", "{line}");
    assert!(line["message"].as_str().is_some_and(|m| m.contains("; the pod: usage ")), "{line}");
    assert!(writer.ended().is_none() && world.evictions().is_empty());
}

pub fn every_container_and_the_pod_are_guarded_by_a_star() {
    let world = World::real();
    let place = world.place("both", Some(LIMIT), |p| {
        p.annotation(&format!("{PREFIX}memory-usage-threshold"), "60")
            .annotation(&format!("{PREFIX}target-container-name"), "*")
    });
    // Each below its own 60 %, together above the pod's.
    place.group.set_limit(Some(LIMIT));
    let agent = world.agent(&[]);
    agent.wait_state("both", "", "watching");
    agent.wait_state("both", "app", "watching");
    let other = world.tree.container(&place.uid, &container_id());
    let (mut app, mut sibling) = (place.hog(), Hog::start(other.dir()));
    app.hold(LIMIT * 4 / 10, RATE);
    sibling.hold(LIMIT * 4 / 10, RATE);
    world.wait_evictions(1);
    let line = agent.wait_told("PreOOMEvicted");
    assert_eq!(line["container"], "", "the pod's own group");
}

/// Neither root nor a capability is needed to read what it reads.
pub fn it_guards_without_any_rights_on_the_node() {
    let world = World::real();
    let place = world.guarded("web", LIMIT);
    let agent = Agent::unprivileged(&world.server, world.tree.root());
    let status = std::fs::read_to_string(format!("/proc/{}/status", agent.pid())).expect("it runs");
    assert!(status.contains("Uid:\t65532\t65532") && status.contains("CapEff:\t0000000000000000"), "{status}");
    agent.wait_state("web", "app", "watching");
    let mut hog = place.hog();
    hog.ramp(2 * LIMIT, RATE);
    assert_eq!(signal_of(&mut hog), Some(SIGTERM));
}

/// Grows to 70 % so fast that it crosses its threshold once: the kernel may take back up to 256 KiB of usage for each CPU at any
/// moment, and what grows slowly is then below its threshold again.
fn cross_at_once(hog: &mut Hog) {
    hog.hold(LIMIT / 2, RATE);
    hog.hold(LIMIT * 7 / 10, 1 << 30);
}

pub fn dry_run_of_the_client_sends_nothing_but_tells_everything() {
    let world = World::real();
    let place = world.guarded("web", LIMIT);
    let agent = world.agent(&["--dry-run", "client"]);
    agent.wait_state("web", "app", "watching");
    let mut hog = place.hog();
    cross_at_once(&mut hog);
    agent.wait_state("web", "app", "dry-run");
    world.wait_events("PreOOMEvictionDryRun", 2);
    assert_eq!(agent.metric("pre_oom_killer_evictions_total"), 1.0);
    std::thread::sleep(Duration::from_secs(1));
    let sent = world.server.requests();
    assert!(sent.iter().all(|r| !r.path.contains("eviction") && r.method != "DELETE"), "nothing was sent");
    assert_eq!(agent.told("PreOOMEvictionDryRun").len(), 1, "once");
    // Once for each time that it crosses.
    hog.shrink(LIMIT / 2);
    agent.wait_state("web", "app", "watching");
    // Restraint is the same for a dry run: the second time waits, as what grows slowly can. It waits for seconds, so that it is seen.
    hog.ramp(LIMIT * 7 / 10, RATE / 4);
    agent.wait_state("web", "app", "held");
    agent.wait_state("web", "app", "dry-run");
    agent.wait_until("the second is told", |a| (a.told("PreOOMEvictionDryRun").len() > 1).then_some(()));
    std::thread::sleep(Duration::from_secs(1));
    assert_eq!(agent.told("PreOOMEvictionDryRun").len(), 2);
    assert!(hog.ended().is_none());
}

pub fn dry_run_of_the_server_asks_it_and_changes_nothing() {
    let world = World::real();
    let place = world.guarded("web", LIMIT);
    let before = world.server.pod(NS, "web");
    let agent = world.agent(&["--dry-run", "server"]);
    agent.wait_state("web", "app", "watching");
    let mut hog = place.hog();
    cross_at_once(&mut hog);
    let evictions = world.wait_evictions(1);
    assert_eq!(evictions[0].query_value("dryRun").as_deref(), Some("All"));
    assert_eq!(evictions[0].body["deleteOptions"]["preconditions"]["uid"], place.uid.as_str());
    agent.wait_state("web", "app", "dry-run");
    world.wait_events("PreOOMEvictionDryRun", 2);
    assert_eq!(world.evictions_after(Duration::from_secs(1)), 1, "once");
    assert_eq!(world.server.pod(NS, "web"), before, "the pod is as it was");
    assert!(hog.ended().is_none());
}
