//! Containers in good health, on real memory, guarded at 80 %: whatever they look like, nothing is sent for them. At
//! the end of each test the same guard evicts one that leaks, so that the test is not blind.

use std::os::unix::process::ExitStatusExt;
use std::time::{Duration, Instant};

use serde_json::Value;
use standin::hog::Hog;
use standin::{Pdb, Request};

use crate::agent::{Agent, soon};
use crate::scratch::Scratch;
use crate::world::{MIB, NS, PREFIX, Place, World};

const LIMIT: u64 = 64 * MIB;
/// From 40 % to the limit in 6 s.
const RATE: u64 = 6 * MIB;
/// How long each is watched at what it does, at least.
const A_WHILE: Duration = Duration::from_secs(5);
const SIGTERM: i32 = 15;

/// A pod guarded at 80 % by `signal`, of its own owner, with further annotations and a label of its name.
fn guarded(world: &World, signal: &str, more: &[(&str, &str)]) -> Place {
    world.place(signal, Some(LIMIT), |p| {
        let p = p
            .annotation(&format!("{PREFIX}memory-usage-threshold"), "80")
            .annotation(&format!("{PREFIX}memory-signal"), signal.split('.').next().unwrap_or(signal))
            .owner("StatefulSet", &format!("owner-of-{signal}"))
            .label("app", signal);
        more.iter().fold(p, |p, (key, value)| p.annotation(&format!("{PREFIX}{key}"), value))
    })
}

/// What was sent for any pod: evictions and deletions.
fn sent(world: &World) -> Vec<Request> {
    let all = world.server.requests();
    all.into_iter().filter(|r| r.method == "DELETE" || r.path.contains("/eviction")).collect()
}

fn all_watched(agent: &Agent, names: &[&str]) {
    for name in names {
        let guard = agent.guard(name, "app");
        assert_eq!(guard["state"], "watching", "{guard}");
    }
}

/// It was none of the test's fault: the same guard sees a leak.
fn a_leak_is_evicted(world: &World, place: &Place, hog: &mut Hog) {
    let before = sent(world).len();
    hog.ramp(2 * LIMIT, RATE);
    let evictions = world.wait_evictions(before + 1);
    let last = evictions.last().expect("one more");
    assert_eq!(last.body["deleteOptions"]["preconditions"]["uid"], place.uid.as_str());
    assert_eq!(hog.wait(soon()).expect("it ends").signal(), Some(SIGTERM));
}

/// Usage stands at the limit; both signals that should spare it do, and it is not looked at as if it were near its end.
pub fn a_reader_of_three_times_its_limit_is_neither_over_nor_near() {
    let world = World::real();
    let names = ["working-set", "unreclaimable"];
    let places = names.map(|n| guarded(&world, n, &[("force-delete-threshold", "90")]));
    let files = names.map(|_| Scratch::cold(3 * LIMIT)); // what was written a moment ago would be active cache
    let agent = world.agent(&[]);
    let mut hogs = places.each_ref().map(Place::hog);
    hogs.iter_mut().for_each(|hog| hog.hold(LIMIT * 3 / 10, 0));
    for ((name, place), (hog, file)) in names.iter().zip(&places).zip(hogs.iter_mut().zip(&files)) {
        place.fill_with_cache(hog, &file.0, LIMIT);
        agent.wait_until("that is seen", |a| {
            (a.guard(name, "app")["memory"]["usage"].as_u64()? > LIMIT * 9 / 10).then_some(())
        });
    }
    let (looks, begin) = (agent.metric("pre_oom_killer_samples_total"), Instant::now());
    while begin.elapsed() < A_WHILE {
        for (hog, file) in hogs.iter_mut().zip(&files) {
            hog.read(&file.0);
            all_watched(&agent, &names);
        }
        for name in names {
            let memory = &agent.guard(name, "app")["memory"];
            assert!(memory["room"].as_u64() > Some(LIMIT / 3), "not near: {memory}");
        }
    }
    let a_second = (agent.metric("pre_oom_killer_samples_total") - looks) / begin.elapsed().as_secs_f64();
    assert!(a_second < 60.0, "{a_second} looks a second at two; at 5 ms it would be 400");
    assert!(sent(&world).is_empty());
    for (place, hog) in places.iter().zip(&mut hogs) {
        a_leak_is_evicted(&world, place, hog);
    }
}

/// By `usage` the same reader is over: it asked for that. But it will not be killed, so it is not hurried
/// (`sustained-for` is not waived), nor deleted past its budget.
pub fn a_reader_guarded_by_usage_is_neither_waived_nor_force_deleted() {
    const SUSTAINED: Duration = Duration::from_secs(12);
    let world = World::real();
    let patient = guarded(&world, "usage.patient", &[("sustained-for", "12s")]);
    let longer = guarded(&world, "usage.longer", &[("sustained-for", "5m")]);
    let leaking = guarded(&world, "usage.leaking", &[("sustained-for", "5s")]);
    let blocked = guarded(&world, "usage.blocked", &[("force-delete-threshold", "90")]);
    world.server.put_pdb(Pdb::blocking(NS, "budget", &[("app", "usage.blocked")]));
    let agent = world.agent(&[]);
    let mut hogs = [patient.hog(), longer.hog(), leaking.hog(), blocked.hog()];
    hogs.iter_mut().for_each(|h| h.hold(LIMIT * 3 / 10, 0));
    let [patient_hog, longer_hog, leaking_hog, blocked_hog] = &mut hogs;
    let file = Scratch::cold(3 * LIMIT);
    std::thread::sleep(Duration::from_secs(2)); // what it holds has settled

    let crossing = Instant::now();
    patient_hog.read(&file.0);
    agent.wait_state("usage.patient", "app", "sustaining");
    let other = Scratch::cold(3 * LIMIT);
    longer_hog.read(&other.0);
    while world.evictions().is_empty() {
        assert!(crossing.elapsed() < soon(), "it is over, as its guard has it");
        patient_hog.read_if_alive(&file.0);
        longer_hog.read(&other.0);
    }
    // What its cache seems to grow for a moment does not count for minutes.
    assert_eq!(agent.guard("usage.longer", "app")["state"], "sustaining");
    let eviction = world.wait_evictions(1).remove(0);
    assert_eq!(eviction.body["deleteOptions"]["preconditions"]["uid"], patient.uid.as_str());
    let waited = eviction.at.saturating_duration_since(crossing);
    assert!(waited >= SUSTAINED, "hurried after {waited:?}");
    let line = agent.wait_told("PreOOMEvicted");
    assert!(line["message"].as_str().is_some_and(|m| !m.contains("waived")), "{line}");
    // A leak under the same guard is hurried.
    let crossing = Instant::now();
    leaking_hog.ramp(2 * LIMIT, RATE * 2);
    assert_eq!(leaking_hog.wait(soon()).expect("it ends").signal(), Some(SIGTERM), "{:?}", crossing.elapsed());
    agent.wait_until("it is told", |a| {
        let waived = |l: &Value| l["message"].as_str().is_some_and(|m| m.contains("waived"));
        a.told("PreOOMEvicted").iter().any(waived).then_some(())
    });

    drop((file, other)); // the emulated machine's disk is small
    let file = Scratch::cold(3 * LIMIT);
    blocked_hog.read(&file.0);
    agent.wait_state("usage.blocked", "app", "blocked");
    let begin = Instant::now();
    while begin.elapsed() < A_WHILE {
        blocked_hog.read(&file.0);
    }
    assert!(world.server.requests_to("DELETE", "/").is_empty());
    // What cannot be reclaimed counts.
    blocked_hog.ramp(2 * LIMIT, RATE);
    assert_eq!(blocked_hog.wait(soon()).expect("it ends").signal(), Some(SIGTERM), "deleted");
    let deletions = world.server.requests_to("DELETE", "/");
    assert_eq!(deletions.len(), 1);
    assert_eq!(deletions[0].body["preconditions"]["uid"], blocked.uid.as_str());
}

/// Dirty pages cannot be dropped at once, but they are no working set, and no leak.
pub fn a_writer_of_dirty_pages_is_spared() {
    let world = World::real();
    let names = ["working-set", "unreclaimable"];
    let places = names.map(|n| guarded(&world, n, &[("sustained-for", "1s"), ("force-delete-threshold", "90")]));
    let files = names.map(|_| Scratch::on_disk());
    let agent = world.agent(&[]);
    let mut hogs = places.each_ref().map(Place::hog);
    hogs.iter_mut().for_each(|h| h.hold(LIMIT * 3 / 10, 0));
    let begin = Instant::now();
    while begin.elapsed() < A_WHILE {
        for (hog, file) in hogs.iter_mut().zip(&files) {
            // 8 MiB are dirty at most, and some are at the end.
            hog.write_dirty(&file.0, 2 * LIMIT, 8 * MIB);
            all_watched(&agent, &names);
        }
    }
    for (name, place) in names.iter().zip(&places) {
        assert!(place.group.usage() > Some(LIMIT * 6 / 10), "its cache fills it");
        agent.wait_until("that is seen", |a| {
            (a.guard(name, "app")["memory"]["usage"].as_u64()? > LIMIT * 6 / 10).then_some(())
        });
    }
    assert!(sent(&world).is_empty());
    for (place, hog) in places.iter().zip(&mut hogs) {
        a_leak_is_evicted(&world, place, hog);
    }
}

/// tmpfs counts in every signal: 60 % of it is 60 %, and no more.
pub fn tmpfs_below_the_threshold_is_spared_by_every_signal() {
    let world = World::real();
    let names = ["working-set", "unreclaimable", "usage"];
    let places = names.map(|n| guarded(&world, n, &[("force-delete-threshold", "90")]));
    let files = names.map(|_| Scratch::in_memory());
    let agent = world.agent(&[]);
    let mut hogs = places.each_ref().map(Place::hog);
    for ((hog, file), name) in hogs.iter_mut().zip(&files).zip(names) {
        hog.write(&file.0, LIMIT * 6 / 10);
        agent.wait_until("it counts", |a| {
            (a.guard(name, "app")["memory"]["usage"].as_u64()? > LIMIT * 58 / 100).then_some(())
        });
    }
    let begin = Instant::now();
    while begin.elapsed() < A_WHILE {
        for (hog, file) in hogs.iter_mut().zip(&files) {
            hog.read(&file.0);
            all_watched(&agent, &names);
        }
        std::thread::sleep(Duration::from_millis(50));
    }
    assert!(sent(&world).is_empty());
    for (place, hog) in places.iter().zip(&mut hogs) {
        a_leak_is_evicted(&world, place, hog);
    }
}

/// Many short-lived children: their pages come and go, and growth swings.
pub fn a_process_that_forks_a_lot_is_spared() {
    let world = World::real();
    let names = ["working-set", "unreclaimable", "usage"];
    let places = names.map(|n| guarded(&world, n, &[("sustained-for", "1s"), ("force-delete-threshold", "90")]));
    let agent = world.agent(&[]);
    let mut hogs = places.each_ref().map(Place::hog);
    hogs.iter_mut().for_each(|h| h.hold(LIMIT * 4 / 10, 0));
    let begin = Instant::now();
    while begin.elapsed() < A_WHILE {
        for hog in &mut hogs {
            hog.fork(50, 4);
            all_watched(&agent, &names);
        }
    }
    assert!(sent(&world).is_empty());
    for (place, hog) in places.iter().zip(&mut hogs) {
        a_leak_is_evicted(&world, place, hog);
    }
}

/// The same container twice: files that are read again and again are active cache, which `working-set` counts.
pub fn unreclaimable_spares_the_active_cache_that_working_set_counts() {
    let world = World::real();
    let (counted, spared) = (guarded(&world, "working-set", &[]), guarded(&world, "unreclaimable", &[]));
    let agent = world.agent(&[]);
    agent.wait_state("working-set", "app", "watching");
    agent.wait_state("unreclaimable", "app", "watching");
    let files = [Scratch::on_disk(), Scratch::on_disk()];
    let mut hogs = [spared.hog(), counted.hog()];
    for (hog, file) in hogs.iter_mut().zip(&files) {
        hog.hold(LIMIT * 3 / 10, 0);
        hog.write(&file.0, LIMIT * 6 / 10);
    }
    let [spared_hog, counted_hog] = &mut hogs;
    (0..4).for_each(|_| spared_hog.read(&files[0].0));
    let begin = Instant::now();
    while begin.elapsed() < A_WHILE {
        spared_hog.read(&files[0].0);
        all_watched(&agent, &["unreclaimable"]);
    }
    assert!(sent(&world).is_empty());
    // The other does the same. It may be gone before it has read for the fourth time.
    let begin = Instant::now();
    while world.evictions().is_empty() && counted_hog.ended().is_none() {
        assert!(begin.elapsed() < soon(), "active cache counts: {}", agent.guard("working-set", "app"));
        counted_hog.read_if_alive(&files[1].0);
    }
    let evictions = world.wait_evictions(1);
    assert_eq!(evictions[0].body["deleteOptions"]["preconditions"]["uid"], counted.uid.as_str());
    assert_eq!(evictions.len(), 1);
    assert_eq!(counted_hog.wait(soon()).expect("it ends").signal(), Some(SIGTERM));
    assert!(spared_hog.ended().is_none());
    a_leak_is_evicted(&world, &spared, spared_hog);
}
