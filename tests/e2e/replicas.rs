//! Pods of one owner that leak in step, with the settings as they are: whoever is going to be killed is evicted in time,
//! one after the other as far as there is time, and together where there is none.

use std::os::unix::process::ExitStatusExt;
use std::time::Duration;

use standin::hog::Hog;

use crate::agent::soon;
use crate::world::{MIB, PREFIX, Place, World};

const SIGTERM: i32 = 15;
/// One step of those that do not grow smoothly.
const STEP: u64 = MIB;
/// An old container, as most are: none is held for its youth.
const HOURS: Duration = Duration::from_secs(7200);
/// One that was started a while ago: past the minimum age, and young enough to be part of a loop.
const MINUTES: Duration = Duration::from_secs(70);

/// A rate in KiB a second, and a limit that leaves about two seconds or more from its threshold of 60 %.
const RAMPS: [(u64, u64); 4] = [(512, 16), (4 << 10, 24), (16 << 10, 64), (64 << 10, 256)];

/// An emulated machine is too slow for some of these: there they are a quarter as fast, and the smallest and the largest are
/// left out (`E2E_SLOW`, set by leg vm).
fn ramps() -> Vec<(u64, u64)> {
    match std::env::var_os("E2E_SLOW") {
        None => RAMPS.to_vec(),
        Some(_) => RAMPS[1..3].iter().map(|(rate, limit)| (rate / 4, *limit)).collect(),
    }
}

/// So many replicas of one owner.
fn replicas(world: &World, count: usize, limit: u64, age: Duration) -> Vec<Place> {
    let place = |i: usize| {
        let threshold = format!("{PREFIX}memory-usage-threshold");
        world.place(&format!("web-{i}"), Some(limit), |p| {
            p.owner("StatefulSet", "web").age(age).annotation(&threshold, "60")
        })
    };
    (0..count).map(place).collect()
}

/// All of them leak; answers how many the kernel killed.
fn leak(count: usize, kib_a_second: u64, limit_mib: u64, stepped: bool, age: Duration, flags: &[&str]) -> usize {
    let world = World::real();
    let limit = limit_mib * MIB;
    let places = replicas(&world, count, limit, age);
    let agent = world.agent(flags);
    for i in 0..count {
        agent.wait_state(&format!("web-{i}"), "app", "watching");
    }
    let mut hogs: Vec<Hog> = places.iter().map(Place::hog).collect();
    for hog in &mut hogs {
        hog.hold(limit * 45 / 100, 0);
    }
    for hog in &mut hogs {
        if stepped {
            hog.climb(2 * limit, kib_a_second << 10, STEP);
        } else {
            hog.ramp(2 * limit, kib_a_second << 10);
        }
    }
    let within = soon() + Duration::from_secs(limit_mib * 1024 / kib_a_second);
    let ended = hogs.iter_mut().map(|hog| hog.wait(within).expect("the hog ends").signal());
    let killed = ended.filter(|signal| *signal != Some(SIGTERM)).count();
    let order = if stepped { "in steps" } else { "smoothly" };
    println!(
        "{count} replicas, {kib_a_second} KiB/s {order}, limit {limit_mib}Mi, age {} s: {killed} killed",
        age.as_secs()
    );
    killed
}

/// In steps of 1 MiB only where the limit is many of them. Every kind is tried before one of them counts as failed.
fn none_is_killed(count: usize) {
    let mut killed = 0;
    for (rate, limit) in ramps() {
        for stepped in [false, true] {
            if stepped && limit < 24 {
                continue;
            }
            for age in [HOURS, MINUTES] {
                killed += leak(count, rate, limit, stepped, age, &[]);
            }
        }
    }
    assert_eq!(killed, 0, "of {count} replicas, killed in all that was tried (printed above)");
}

pub fn two_that_leak_in_step_are_evicted_in_order() {
    none_is_killed(2);
}

pub fn five_that_leak_in_step_are_evicted_in_order() {
    none_is_killed(5);
}

/// More than the node may evict at once: what cannot wait draws on the rescues.
pub fn twelve_that_leak_in_step_are_evicted_in_order() {
    none_is_killed(12);
}

/// Within the minimum age, too.
pub fn young_ones_go_together_where_there_is_no_time() {
    let (rate, limit) = *ramps().get(1).expect("at least two");
    assert_eq!(leak(5, rate, limit, false, Duration::from_secs(20), &[]), 0);
}
