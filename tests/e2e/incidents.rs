//! What the agent keeps of the past: what kind of growth brought a container above its threshold, what it did before, and what
//! was done about it.

use std::os::unix::process::ExitStatusExt;
use std::time::Duration;

use serde_json::Value;
use standin::hog::Hog;

use crate::agent::Agent;
use crate::scratch::Scratch;
use crate::world::{MIB, NS, PREFIX, Place, World, container_id, uid};

const LIMIT: u64 = 64 * MIB;
/// An old container, as most are: none is held for its youth.
const HOURS: Duration = Duration::from_secs(7200);

fn guarded(world: &World, name: &str) -> Place {
    world.place(name, Some(LIMIT), |p| p.age(HOURS).annotation(&format!("{PREFIX}memory-usage-threshold"), "60"))
}

fn incidents(agent: &Agent) -> Vec<Value> {
    let (code, body) = agent.get("/api/incidents");
    assert_eq!(code, 200, "{body}");
    let page: Value = serde_json::from_str(&body).expect("JSON");
    assert!(page["node"].is_string() && page["started"].is_string(), "{page}");
    page["incidents"].as_array().expect("a list").clone()
}

fn incident(agent: &Agent, pod: &str) -> Value {
    agent.wait_until(&format!("an incident of {pod}"), |agent| {
        incidents(agent).into_iter().find(|one| one["pod"] == pod)
    })
}

/// Five pods, each with growth of another kind, at the same time. The leak takes two minutes.
pub fn real_ramps_of_each_kind_get_their_class() {
    let world = World::real();
    let [leak, spike, cache, tmpfs, siblings] =
        ["leak", "spike", "cache", "tmpfs", "siblings"].map(|name| guarded(&world, name));
    let other = world.tree.container(&siblings.uid, &container_id());
    let agent = world.agent(&[]);
    for name in ["leak", "spike", "cache", "tmpfs", "siblings"] {
        agent.wait_state(name, "app", "watching");
    }
    let mut leaking = leak.hog();
    leaking.hold(14 * MIB, 0);
    leaking.climb(45 * MIB, MIB / 5, MIB / 2);
    let files = [Scratch::on_disk(), Scratch::in_memory(), Scratch::in_memory()];
    let mut hogs = [spike.hog(), cache.hog(), tmpfs.hog(), siblings.hog(), Hog::start(other.dir())];
    let [spiking, reading, writing, killed, filling] = &mut hogs;
    spiking.hold(20 * MIB, 0);
    reading.hold(LIMIT * 3 / 10, 0);
    reading.write(&files[0].0, LIMIT / 2);
    writing.hold(5 * MIB, 0);
    std::thread::sleep(Duration::from_secs(3));
    spiking.ramp(45 * MIB, 8 * MIB);
    writing.write_if_alive(&files[1].0, 40 * MIB);
    filling.write(&files[2].0, LIMIT * 3 / 4);
    killed.ramp(2 * LIMIT, 32 * MIB);
    while !incidents(&agent).iter().any(|one| one["pod"] == "cache") {
        reading.read_if_alive(&files[0].0); // what is read again and again is active cache
    }
    let spiked = incident(&agent, "spike");
    assert_eq!(spiked["class"], "spike", "{spiked}");
    assert!(spiked["memory"]["anonymous"].as_u64() > spiked["memoryBefore"]["anonymous"].as_u64(), "{spiked}");
    let steps = spiked["steps"].as_array().expect("steps");
    assert_eq!((&steps[0]["reason"], &steps[0]["answer"]), (&"PreOOMEvicted".into(), &"accepted".into()), "{spiked}");
    let values: Vec<u64> =
        spiked["minutes"]["value"].as_array().expect("a curve").iter().filter_map(Value::as_u64).collect();
    assert!(values.first() < values.last() && values.last() >= Some(&(38 << 10)), "{values:?}");
    let words = agent.told("PreOOMEvicted").into_iter().find(|line| line["pod"] == "spike").expect("a line");
    assert!(words["message"].as_str().is_some_and(|m| m.contains("; spike: it grew ")), "{words}");
    assert_eq!(incident(&agent, "cache")["class"], "cache", "{}", incident(&agent, "cache"));
    assert_eq!(incident(&agent, "tmpfs")["class"], "tmpfs", "{}", incident(&agent, "tmpfs"));
    let of_pod = agent.wait_until("the kill", |agent| {
        incidents(agent).into_iter().find(|one| one["pod"] == "siblings" && one["class"] == "siblings")
    });
    assert!(of_pod["restOfPod"].as_u64() > Some(LIMIT / 2), "{of_pod}");
    is_forecast(&agent);
    let leaked = incident(&agent, "leak");
    assert_eq!(leaked["class"], "leak", "{leaked}");
    assert!(leaked["knownSeconds"].as_u64() >= Some(90) && leaked["growthPerMinute"].as_i64() > Some(0), "{leaked}");
    assert_eq!(leaked["namespace"], NS);
}

/// Killed flat out, long after it was last seen and far below its threshold: there is no verdict, and a class all the same.
pub fn a_kill_without_a_verdict_has_a_class() {
    let world = World::real();
    // They hold their 10 MiB before the agent sees them: it reads the breakdown once.
    let mut jumpers: Vec<(String, Hog)> = (0..5)
        .map(|n| {
            let name = format!("jump-{n}");
            let place = world.place(&name, Some(LIMIT), |p| {
                p.age(HOURS).annotation(&format!("{PREFIX}memory-usage-threshold"), "98")
            });
            let mut hog = place.hog();
            hog.hold(10 * MIB, 0);
            (name, hog)
        })
        .collect();
    let agent = world.agent(&[]);
    for (name, _) in &jumpers {
        agent.wait_state(name, "app", "watching");
    }
    std::thread::sleep(Duration::from_secs(3));
    // A sample may come in the middle of a jump, which takes some 50 ms.
    let mut jumps = jumpers.iter_mut().map(|(name, hog)| {
        hog.ramp(2 * LIMIT, 0);
        incident(&agent, name)
    });
    let unseen = |it: &Value| {
        it["steps"][0]["reason"] == "PreOOMMissed" && it["usage"].as_u64().is_some_and(|usage| usage < 20 * MIB)
    };
    let jumped = jumps.find(unseen).expect("one of which no sample came in time");
    let (held, why) = (jumped["memoryBefore"]["anonymous"].as_u64(), jumped["why"].as_str().unwrap_or_default());
    assert_eq!((&jumped["class"], jumped["memory"].is_null()), (&"spike".into(), true), "{jumped}");
    assert!(held.is_some_and(|held| (9 * MIB..20 * MIB).contains(&held)), "{jumped}");
    assert!(
        jumped["beforeSeconds"].as_u64().is_some_and(|seconds| seconds <= 20) && why.starts_with("it grew 5"),
        "{jumped}"
    );
    let told = agent.told("PreOOMMissed").into_iter().find(|line| line["pod"] == jumped["pod"]).expect("a line");
    assert!(told["message"].as_str().is_some_and(|m| m.contains("; spike: it grew 5")), "{told}");
}

/// A limit above the pods is the node's for us. Something that is not guarded fills it, and the kernel kills the guarded container,
/// which is far below its threshold.
pub fn a_kill_by_a_limit_above_the_pods_is_the_nodes() {
    let world = World::real();
    let place = guarded(&world, "victim");
    let other = world.tree.container(&uid(), &container_id());
    world.tree.kubepods().set_limit(Some(2 * LIMIT));
    let mut hogs = [place.hog(), Hog::start(other.dir())];
    let [victim, filling] = &mut hogs;
    victim.hold(LIMIT / 4, 0);
    std::fs::write(format!("/proc/{}/oom_score_adj", victim.pid()), "1000").expect("its score");
    let agent = world.agent(&[]);
    agent.wait_state("victim", "app", "watching");
    filling.ramp(3 * LIMIT, 32 * MIB);
    assert_eq!(victim.wait(crate::agent::soon()).and_then(|status| status.signal()), Some(9));
    let killed = incident(&agent, "victim");
    assert_eq!((&killed["class"], &killed["steps"][0]["cause"]), (&"node".into(), &"node-wide".into()), "{killed}");
    assert!(killed["memory"]["anonymous"].as_u64() >= Some(LIMIT / 4), "what it held: {killed}");
    assert!(killed["memorySeconds"].as_u64().is_some_and(|seconds| seconds <= 20), "{killed}");
    assert!(world.evictions().is_empty());
}

/// The leak has a growth and a forecast before it is near its threshold, and its curve is there from the first look on.
fn is_forecast(agent: &Agent) {
    std::thread::sleep(Duration::from_secs(40)); // growth over less than a minute and a half is not slow
    let growing = agent.wait_until("slow growth", |agent| {
        Some(agent.guard("leak", "app")["memory"].clone()).filter(|m| m["growthPerMinute"].as_i64() > Some(MIB as i64))
    });
    let a_minute = growing["growthPerMinute"].as_f64().expect("a number") / MIB as f64;
    assert!((10.0..14.0).contains(&a_minute), "12Mi a minute: {growing}");
    let left = growing["threshold"]
        .as_f64()
        .zip(growing["value"].as_f64())
        .map(|(to, at)| (to - at) / MIB as f64 / 12.0 * 60.0);
    let said = growing["aboveInSeconds"].as_f64();
    assert!(left.zip(said).is_some_and(|(left, said)| (said / left - 1.0).abs() < 0.25), "{left:?}: {growing}");
    assert!(growing["kernelPeak"].is_null() && growing["history"].is_null(), "{growing}");
    let (_, page) = agent.get("/api/guards?history=1");
    let page: Value = serde_json::from_str(&page).expect("JSON");
    let leak = page["guards"].as_array().and_then(|all| all.iter().find(|one| one["pod"] == "leak"));
    let memory = &leak.expect("it is guarded")["memory"];
    let curve = memory["history"]["minutes"].as_array().expect("a curve").iter().filter_map(Value::as_u64);
    let curve: Vec<u64> = curve.collect();
    assert!(memory["kernelPeak"].as_u64() >= memory["usage"].as_u64(), "{memory}");
    assert!(curve.len() >= 10 && curve.first() < curve.last(), "{curve:?}");
}
