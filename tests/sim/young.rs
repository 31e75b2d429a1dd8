//! A Deployment whose pods die young, over many nodes. Nothing counts it across nodes: what bounds it is each node's own
//! restraint, and the kubelet's crash-loop back-off where that leaves a container to the kernel.

use std::cmp::Reverse;
use std::collections::BinaryHeap;
use std::time::Duration;

use fastrand::Rng;
use jiff::SignedDuration;
use pre_oom_killer::decide::restraint::{Candidate, Limits, OwnerKey, Restraint};
use pre_oom_killer::ground::clock::Moment;

const NODES: usize = 50;
const HOUR: Duration = Duration::from_secs(3600);
/// A container is at its deadline at this age …
const DEADLINE: Duration = Duration::from_secs(19);
/// … and killed at this one.
const DIES: Duration = Duration::from_secs(20);
/// An evicted pod ends and is replaced within this time.
const REPLACED: Duration = Duration::from_secs(2);
/// The kubelet restarts a container at once, then after 10 s, doubling to 5 min.
const CRASH_LOOP: [u64; 7] = [1, 10, 20, 40, 80, 160, 300];

/// How a node decides whether to evict.
trait Node {
    fn new() -> Self;
    /// A container that started then is at its deadline now: is it evicted?
    fn evicts(&mut self, now: Moment, started: Moment) -> bool;
    fn killed(&mut self, now: Moment, started: Moment);
}

fn owner() -> OwnerKey {
    OwnerKey { namespace: "n".into(), kind: "Deployment".into(), name: "d".into() }
}

fn signed(moment: Moment) -> SignedDuration {
    SignedDuration::try_from(moment).unwrap()
}

impl Node for Restraint {
    fn new() -> Restraint {
        Restraint::new(Limits::default())
    }

    fn evicts(&mut self, now: Moment, started: Moment) -> bool {
        let (owner, age) = (owner(), Some(now - started));
        let deadline = Some(Duration::ZERO);
        let candidate = Candidate { owner: &owner, age, deadline, replaced: false, others: false };
        let is_evicted = self.reserve(now, &candidate, &mut None).is_ok();
        if is_evicted {
            self.ended(&owner, signed(started), signed(now));
        }
        is_evicted
    }

    fn killed(&mut self, now: Moment, started: Moment) {
        self.ended(&owner(), signed(started), signed(now));
    }
}

/// The rules of before: a container whose end was near was evicted however young it was, if its owner's back-off on this
/// node (10 s, doubling to 5 min, forgotten after ten quiet minutes) allowed it. (The node's budget never came to bear here.)
struct Before(Vec<Moment>);

impl Node for Before {
    fn new() -> Before {
        Before(Vec::new())
    }

    fn evicts(&mut self, now: Moment, _: Moment) -> bool {
        let quiet = Duration::from_secs(600);
        let chained = self.0.windows(2).rev().take_while(|pair| pair[1] < pair[0] + quiet).count() as u32;
        let wait = Duration::from_secs((10u64 << chained.min(5)).min(300));
        let is_evicted = self.0.last().is_none_or(|last| *last + quiet <= now || *last + wait <= now);
        if is_evicted {
            if self.0.last().is_some_and(|last| *last + quiet <= now) {
                self.0.clear();
            }
            self.0.push(now);
        }
        is_evicted
    }

    fn killed(&mut self, _: Moment, _: Moment) {}
}

/// How many evictions there are in the first hour and in the second.
fn evictions<N: Node>(replicas: usize) -> (usize, usize) {
    let mut rng = Rng::with_seed(1);
    let mut nodes: Vec<N> = (0..NODES).map(|_| N::new()).collect();
    // When a container starts, of which replica, on which node, and how often it was restarted there.
    let mut starts = BinaryHeap::new();
    for replica in 0..replicas {
        starts.push(Reverse((rng.u64(0..20_000), replica, rng.usize(0..NODES), 0)));
    }
    // Containers that start later also come to their deadline later: the order of starts is that of all that happens.
    let mut hours = [0, 0];
    while let Some(Reverse((millis, replica, node, restarts))) = starts.pop() {
        let started = Duration::from_millis(millis);
        let now = started + DEADLINE;
        if now >= 2 * HOUR {
            break;
        }
        let next = if nodes[node].evicts(now, started) {
            hours[usize::from(now >= HOUR)] += 1;
            (now + REPLACED, replica, rng.usize(0..NODES), 0)
        } else {
            let killed = started + DIES;
            nodes[node].killed(killed, started);
            let wait = Duration::from_secs(CRASH_LOOP[restarts.min(CRASH_LOOP.len() - 1)]);
            (killed + wait, replica, node, restarts + 1)
        };
        starts.push(Reverse((next.0.as_millis() as u64, next.1, next.2, next.3)));
    }
    (hours[0], hours[1])
}

#[test]
fn pods_that_die_young_are_not_evicted_more_often_than_before() {
    println!("replicas  evictions in the first and the second hour, before -> now");
    for replicas in [1, 5, 10, 25, 50, 100, 200] {
        let (before, now) = (evictions::<Before>(replicas), evictions::<Restraint>(replicas));
        println!("{replicas:>8}  {:>5} -> {:<5} {:>5} -> {:<5}", before.0, now.0, before.1, now.1);
        // Where a pod meets each node less than once in ten minutes, no node sees a loop, then as now.
        assert!(now.0 <= before.0 && now.1 <= before.1, "{replicas} replicas: {before:?} before, {now:?} now");
        // Nor can there be more than one in each 21 s of a pod's life.
        let most = replicas * (HOUR.as_secs() / (DEADLINE + REPLACED).as_secs() + 1) as usize;
        assert!(now.0 <= most);
    }
    // Ten replicas meet a node each two minutes: its third generation is left to the kernel, and stays so.
    let (first, second) = evictions::<Restraint>(10);
    assert!(first < 10 * NODES && second < first / 4, "{first} in the first hour, {second} in the second");
}
