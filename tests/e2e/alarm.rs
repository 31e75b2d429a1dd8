//! The kernel's own alarm, `memory.events`, and `memory.high`: cgroup v2 alone.

use std::os::unix::process::ExitStatusExt;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{Duration, Instant};

use standin::hog::Hog;

use crate::agent::{Agent, binary, soon};
use crate::world::{MIB, NS, PREFIX, Place, World};

const SIGTERM: i32 = 15;
const FLAT_OUT: u64 = 64 * MIB;
/// Far longer than a container that fills flat out takes from its threshold to its kill, on a slow machine, too.
const EVICTION: Duration = Duration::from_secs(2);

fn set_high(place: &Place, high: u64) {
    std::fs::write(place.group.dir().join("memory.high"), high.to_string()).expect("cgroup v2 has it");
}

/// A group below the container's, as a container makes one itself. A limit of 0: none.
fn inner(place: &Place, name: &str, limit: u64) -> PathBuf {
    let dir = place.group.dir().join(name);
    std::fs::write(place.group.dir().join("cgroup.subtree_control"), "+memory").expect("no process is in it");
    std::fs::create_dir(&dir).expect("a group in it");
    if limit > 0 {
        std::fs::write(dir.join("memory.max"), limit.to_string()).expect("a limit");
    }
    dir
}

/// How long it takes until this is so.
fn time_until(mut is_so: impl FnMut() -> bool) -> Duration {
    let begin = Instant::now();
    while !is_so() {
        assert!(begin.elapsed() < soon(), "waited in vain");
        std::thread::sleep(Duration::from_millis(1));
    }
    begin.elapsed()
}

fn usage(agent: &Agent) -> u64 {
    agent.guard("web", "app")["memory"]["usage"].as_u64().unwrap_or(0)
}

/// Far from its limit, the counts of kills are read every 5 s; and the killed workers are too small to be missed.
pub fn a_kill_is_seen_at_once() {
    let world = World::real();
    let place = world.guarded("web", 1024 * MIB);
    let mut most = Hog::start(&inner(&place, "most", 0));
    most.hold(64 * MIB, 0);
    let workers = inner(&place, "workers", 4 * MIB);
    let agent = world.agent(&[]);
    agent.wait_until("it is sampled", |a| (usage(a) > 60 * MIB).then_some(()));
    let mut all = Vec::new();
    for kills in 1..=5 {
        let mut worker = Hog::start(&workers);
        worker.ramp(64 * MIB, 0);
        time_until(|| place.group.oom_kills() >= kills);
        all.push(time_until(|| agent.guard("web", "app")["memory"]["oomKills"].as_u64() >= Some(kills)));
        worker.wait(soon());
    }
    println!("kills seen after {all:?}");
    assert!(all.iter().all(|seen| *seen < Duration::from_secs(1)), "{all:?}");
    assert!(agent.metric("pre_oom_killer_alarms_total") >= 5.0);
}

/// So far from its threshold, it is sampled once a second.
pub fn crossing_memory_high_is_sampled_at_once() {
    let world = World::real();
    let place = world.place("web", Some(16 << 30), |p| p.annotation(&format!("{PREFIX}memory-usage-threshold"), "95"));
    let high = 96 * MIB;
    set_high(&place, high);
    let agent = world.agent(&[]);
    let mut all = Vec::new();
    for _ in 0..6 {
        let mut hog = place.hog();
        hog.hold(high / 2, 0);
        agent.wait_until("it is sampled", |a| (usage(a) > high / 3).then_some(()));
        hog.ramp(2 * high, 0);
        time_until(|| place.group.usage() >= Some(high));
        all.push(time_until(|| usage(&agent) > high * 9 / 10));
        drop(hog);
        agent.wait_until("it is gone", |a| (usage(a) < high / 4).then_some(()));
    }
    println!("crossings seen after {all:?}");
    assert!(all.iter().all(|seen| *seen < Duration::from_millis(250)), "{all:?}");
    assert!(agent.metric("pre_oom_killer_alarms_total") >= 6.0);
    assert!(world.evictions().is_empty());
}

/// An agent whose user may have so many watches. It is in a user namespace of its own, so the machine's quota stays what it is.
fn with_quota(world: &World, cgroup_root: &Path, watches: u32) -> Agent {
    let mut program = Command::new("unshare");
    let script = format!("echo {watches} >/proc/sys/user/max_inotify_watches && exec \"$@\"");
    program.args(["-U", "-r", "sh", "-c", &script, "sh", &binary()]);
    Agent::start_as(&world.server, cgroup_root, &[], program)
}

pub fn a_spent_quota_is_told_once_and_polled() {
    let world = World::real();
    let places = ["one", "two", "three"].map(|name| world.guarded(name, 64 * MIB));
    let agent = with_quota(&world, world.tree.root(), 1);
    for name in ["one", "two", "three"] {
        agent.wait_state(name, "app", "watching");
    }
    for place in &places {
        let mut hog = place.hog();
        hog.ramp(128 * MIB, 16 * MIB);
        assert_eq!(hog.wait(soon()).expect("it ends").signal(), Some(SIGTERM), "it is evicted in time all the same");
    }
    let told: Vec<_> = (agent.lines().into_iter())
        .filter(|line| line["message"].as_str().is_some_and(|text| text.contains("the kernel's alarms")))
        .collect();
    let [line] = &told[..] else { panic!("{told:?}") };
    assert!(line["why"].as_str().is_some_and(|why| why.contains("fs.inotify.max_user_watches")), "{line}");
}

/// It is neither evicted nor left as it is without a word.
pub fn what_crawls_below_its_threshold_is_told_as_that() {
    let world = World::real();
    let place = world.place("web", Some(64 * MIB), |p| p.annotation(&format!("{PREFIX}memory-usage-threshold"), "80"));
    set_high(&place, 32 * MIB);
    let agent = world.agent(&[]);
    let mut hog = place.hog();
    hog.ramp(64 * MIB, 0);
    let guard = agent.wait_state("web", "app", "at-memory-high");
    assert_eq!(guard["memory"]["high"], 32 * MIB, "{guard}");
    let note = world.wait_events("PreOOMThrottled", 1)[0]["note"].as_str().unwrap_or_default().to_owned();
    assert!(note.contains("memory.high of 32Mi") && note.contains("threshold of 51.2Mi"), "{note}");
    std::thread::sleep(Duration::from_secs(3));
    assert_eq!(agent.told("PreOOMThrottled").len(), 1, "once");
    assert!(hog.ended().is_none() && world.evictions().is_empty());
    // Without the brake, it is like any other.
    std::fs::write(place.group.dir().join("memory.high"), "max").expect("no brake");
    agent.wait_until("it moves", |a| (a.guard("web", "app")["state"] != "at-memory-high").then_some(()));
}

/// How long a container that is left to its fate takes from 60 % of its limit to its kill.
fn time_left(world: &World) -> Duration {
    let place = world.place("twin", Some(FLAT_OUT), |p| p.unlabelled());
    let mut hog = place.hog();
    hog.ramp(2 * FLAT_OUT, 0);
    time_until(|| place.group.usage() > Some(FLAT_OUT * 60 / 100));
    time_until(|| hog.ended().is_some())
}

/// How many of eight that fill flat out are saved.
fn saved(high: bool, alarms: bool) -> u32 {
    let world = World::real();
    world.server.set_sigterm_delay(EVICTION);
    let agent = if alarms { world.agent(&[]) } else { with_quota(&world, world.tree.root(), 0) };
    let is_saved = |i: u64| {
        let name = format!("ramp-{i}");
        let place = world.guarded(&name, FLAT_OUT);
        if high {
            set_high(&place, FLAT_OUT * 60 / 100);
        }
        let mut hog = place.hog();
        hog.hold(FLAT_OUT * (20 + i * 4) / 100, 0);
        agent.wait_state(&name, "app", "watching");
        hog.ramp(2 * FLAT_OUT, 0);
        let signal = hog.wait(soon()).expect("it ends").signal();
        world.server.remove_pod(NS, &name);
        signal == Some(SIGTERM)
    };
    (0..8).filter(|i| is_saved(*i)).count().try_into().expect("eight at most")
}

/// With a brake at its threshold, a container that fills as fast as it can is still there when the eviction comes.
pub fn memory_high_at_the_threshold_saves_what_fills_flat_out() {
    let mut left = [(); 3].map(|()| time_left(&World::real()));
    left.sort_unstable();
    let [alarm, polled, without] = [(true, true), (true, false), (false, true)].map(|(high, on)| saved(high, on));
    println!(
        "64Mi, flat out, {left:?} from 60 % to the kill, {EVICTION:?} for an eviction: {without} of 8 saved, with memory.high at 60 % {alarm}, the same without alarms {polled}"
    );
    assert!(alarm >= 7 && without <= 1, "{alarm} and {without} of 8");
}
