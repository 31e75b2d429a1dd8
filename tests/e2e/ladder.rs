//! The ladder: raise, restart or evict, whichever is the gentlest that is still in time, with the settings as they are. The
//! stand-in's kubelet carries resizes out in the real groups, at the times that were measured on a real node.

use std::os::unix::process::ExitStatusExt;
use std::time::Duration;

use standin::hog::Hog;
use standin::{Fate, Fault, Pdb, PodBuilder, Resizes};

use crate::agent::{Agent, soon};
use crate::world::{MIB, NS, PREFIX, Place, World};

const SIGTERM: i32 = 15;
const BOTH: [&str; 2] = ["--remedies", "raise,restart"];
/// An old container, as most are: none is held for its youth.
const HOURS: Duration = Duration::from_secs(7200);
/// Slow enough for any remedy, in an emulated machine too: half a minute from the threshold to the limit.
const SLOW: u64 = MIB;

/// A pod that lists these remedies, guarded at 60 %.
fn listing(
    world: &World,
    name: &str,
    limit: u64,
    remedies: &str,
    change: impl FnOnce(PodBuilder) -> PodBuilder,
) -> Place {
    world.place(name, Some(limit), |p| {
        let p = p.age(HOURS).annotation(&format!("{PREFIX}memory-usage-threshold"), "60");
        change(p.annotation(&format!("{PREFIX}remedies"), remedies))
    })
}

fn up_to(bound: &'static str) -> impl FnOnce(PodBuilder) -> PodBuilder {
    move |p| p.annotation(&format!("{PREFIX}raise-limit-to"), bound)
}

fn restarts(p: PodBuilder) -> PodBuilder {
    p.resize_policy("RestartContainer")
}

/// An agent that may use both, watching `web`.
fn watching(world: &World, flags: &[&str]) -> Agent {
    let agent = world.agent(&[&BOTH, flags].concat());
    agent.wait_state("web", "app", "watching");
    agent
}

/// The resizes that went over the wire, as limits in bytes or as they were written.
fn resizes(world: &World) -> Vec<String> {
    let sent = world.server.requests_to("PATCH", "/resize").into_iter().map(|r| {
        let patch = r.body;
        assert!(patch["metadata"]["uid"].is_string(), "{patch}");
        patch["spec"]["containers"][0]["resources"]["limits"]["memory"].as_str().expect("a limit").to_owned()
    });
    sent.collect()
}

/// Ends only if it is killed or evicted.
fn leaking(place: &Place, from: u64, to: u64, rate: u64) -> Hog {
    let mut hog = place.hog();
    hog.hold(from, 0);
    hog.ramp(to, rate);
    hog
}

/// A leak far beyond the limit it began with: each time it crosses its threshold, the limit goes up in the kernel.
pub fn raised_in_time_lives_on() {
    let world = World::real();
    world.server.resizes(Resizes::default());
    let place = listing(&world, "web", 64 * MIB, "raise,evict", up_to("256Mi"));
    let agent = watching(&world, &[]);
    let mut hog = leaking(&place, 30 * MIB, 100 * MIB, 8 * MIB);
    world.wait_events("PreOOMRaised", 3);
    assert!(hog.ended().is_none(), "it lives: {:?}", hog.ended());
    world.server.wait_for(soon(), |_| (place.group.usage() > Some(99 * MIB)).then_some(())).expect("it fills up");
    std::thread::sleep(Duration::from_secs(1));
    assert!(hog.ended().is_none() && world.evictions().is_empty());
    let limits = resizes(&world);
    assert!(limits.len() >= 3 && limits[0] == "80Mi", "{limits:?}");
    let raised = &agent.told("PreOOMRaised")[0];
    assert_eq!((&raised["raised_to"], raised["took_ms"].is_f64()), (&(80 * MIB).into(), true), "{raised}");
    // And an agent that knows nothing of the raises goes on from there.
    drop(agent);
    let _agent = watching(&world, &[]);
    assert!(hog.ended().is_none() && world.evictions().is_empty());
}

/// The server stores the raise, and the kubelet puts it off: the eviction comes in time all the same.
pub fn deferred_raise_is_evicted_in_time() {
    let deferred = Resizes { fate: Fate::Deferred(None), ..Resizes::default() };
    for kubelet in [deferred, Resizes { after: Duration::from_secs(3600), ..Resizes::default() }] {
        let world = World::real();
        world.server.resizes(kubelet);
        let place = listing(&world, "web", 64 * MIB, "raise,evict", up_to("256Mi"));
        let _agent = watching(&world, &[]);
        let mut hog = leaking(&place, 30 * MIB, 128 * MIB, 4 * MIB);
        let end = hog.wait(soon()).expect("it ends");
        assert_eq!(end.signal(), Some(SIGTERM), "evicted, not killed: {:?}", world.server.events());
        assert_eq!((resizes(&world), world.evictions().len()), (vec!["80Mi".to_owned()], 1));
        world.wait_events("PreOOMRemedyFailed", 1);
    }
}

/// A slow kubelet is waited for as long as there is time.
pub fn slow_raise_is_waited_for() {
    let world = World::real();
    world.server.resizes(Resizes { after: Duration::from_secs(2), ..Resizes::default() });
    let place = listing(&world, "web", 64 * MIB, "raise,evict", up_to("256Mi"));
    let _agent = watching(&world, &[]);
    let mut hog = leaking(&place, 36 * MIB, 42 * MIB, SLOW);
    world.wait_events("PreOOMRaised", 1);
    assert!(hog.ended().is_none() && world.evictions().is_empty());
}

/// The bound is the user's; the budget and the reserve are the node's. Beyond them the next remedy is used.
pub fn raise_stays_within_bound_budget_and_reserve() {
    let world = World::real();
    world.server.resizes(Resizes::default());
    let place = listing(&world, "web", 64 * MIB, "raise,evict", up_to("72Mi"));
    let _agent = watching(&world, &[]);
    let mut hog = leaking(&place, 30 * MIB, 128 * MIB, 4 * MIB);
    assert_eq!(hog.wait(soon()).expect("it ends").signal(), Some(SIGTERM));
    assert_eq!(resizes(&world), ["72Mi"], "once, and no further");

    // A reserve of nearly all the memory there is leaves nothing, and so does a budget that is spent.
    for flags in [["--raise-reserve", "99.999999"], ["--raise-budget", "0.000001"]] {
        let world = World::real();
        world.server.resizes(Resizes::default());
        let place = listing(&world, "web", 64 * MIB, "raise,evict", up_to("256Mi"));
        let _agent = watching(&world, &flags);
        let mut hog = leaking(&place, 30 * MIB, 128 * MIB, 4 * MIB);
        assert_eq!(hog.wait(soon()).expect("it ends").signal(), Some(SIGTERM));
        assert_eq!(resizes(&world), [""; 0], "{flags:?}");
    }
}

/// Whoever lists no raise, or has not opted in, keeps the limit.
pub fn nobody_else_is_raised() {
    let world = World::real();
    world.server.resizes(Resizes::default());
    let place = world.guarded("web", 64 * MIB);
    let other = world.place("other", Some(64 * MIB), |p| p);
    let _agent = watching(&world, &[]);
    let mut hogs = [leaking(&place, 30 * MIB, 45 * MIB, 4 * MIB), leaking(&other, 30 * MIB, 45 * MIB, 4 * MIB)];
    assert_eq!(hogs[0].wait(soon()).expect("it ends").signal(), Some(SIGTERM));
    assert_eq!((resizes(&world), hogs[1].ended()), (vec![], None));
}

/// The container alone: its process gets SIGTERM, the pod stays, and the new one is guarded.
pub fn restart_ends_on_sigterm_and_comes_back() {
    let world = World::real();
    world.server.resizes(Resizes::default());
    let place = listing(&world, "web", 64 * MIB, "restart,evict", restarts);
    let agent = watching(&world, &[]);
    let mut hog = leaking(&place, 30 * MIB, 128 * MIB, 4 * MIB);
    assert_eq!(hog.wait(soon()).expect("it ends").signal(), Some(SIGTERM));
    let again = world.server.wait_restarted(NS, "web", soon()).expect("it is started again");
    assert_eq!(resizes(&world), [(64 * MIB + 1).to_string()], "by one byte");
    world.wait_events("PreOOMRestarted", 1);
    let evictions = world.evictions();
    assert!(evictions.iter().all(|r| r.query.contains("dryRun=All")), "only the budgets were asked: {evictions:?}");
    agent.wait_state("web", "app", "watching");
    let guard = agent.guard("web", "app");
    assert!(guard["cgroup"].as_str().is_some_and(|dir| dir.contains(&again.id)), "{guard}");
    let pod = world.server.pod(NS, "web").expect("the pod");
    assert!(pod["metadata"]["deletionTimestamp"].is_null());
}

/// A budget that allows no eviction allows no restart.
pub fn restart_asks_the_budget() {
    let world = World::real();
    world.server.resizes(Resizes::default());
    let place = listing(&world, "web", 64 * MIB, "restart,evict", |p| restarts(p).label("app", "web"));
    world.server.put_pdb(Pdb::blocking(NS, "guarded", &[("app", "web")]));
    let agent = watching(&world, &[]);
    let mut hog = leaking(&place, 30 * MIB, 45 * MIB, 4 * MIB);
    agent.wait_state("web", "app", "blocked");
    std::thread::sleep(Duration::from_secs(2));
    assert!(hog.ended().is_none() && resizes(&world).is_empty());
    world.wait_events("PreOOMEvictionBlocked", 1);
    world.server.remove_pdb(NS, "guarded");
    assert_eq!(hog.wait(soon()).expect("it ends").signal(), Some(SIGTERM));
    world.server.wait_restarted(NS, "web", soon()).expect("restarted when the budget is gone");
}

/// Even if that means that the kernel kills it.
pub fn list_without_evict_never_evicts() {
    let world = World::real();
    let place = listing(&world, "web", 64 * MIB, "raise", up_to("256Mi"));
    world.server.fault(Fault::on("PATCH", "/resize").recorded("resize-403-quota-limits"));
    let agent = watching(&world, &[]);
    let mut hog = leaking(&place, 30 * MIB, 128 * MIB, 8 * MIB);
    agent.wait_state("web", "app", "no-remedy");
    let end = hog.wait(soon()).expect("the kernel ends it");
    assert_ne!(end.signal(), Some(SIGTERM));
    assert!(
        world.server.requests_to("POST", "/eviction").is_empty()
            && world.server.requests_to("DELETE", "/pods").is_empty()
    );
    world.wait_events("PreOOMNoRemedy", 1);
    assert_eq!(resizes(&world).len(), 1, "a refusal stands");
}

/// The agent may not resize: the rest of the list holds.
pub fn what_is_not_allowed_drops_out() {
    let world = World::real();
    world.server.resizes(Resizes::default());
    let place = listing(&world, "web", 64 * MIB, "raise,evict", up_to("256Mi"));
    let agent = world.agent(&[]);
    agent.wait_state("web", "app", "watching");
    let mut hog = leaking(&place, 30 * MIB, 128 * MIB, 4 * MIB);
    assert_eq!(hog.wait(soon()).expect("it ends").signal(), Some(SIGTERM));
    assert_eq!((resizes(&world), world.evictions().len()), (vec![], 1));
}
