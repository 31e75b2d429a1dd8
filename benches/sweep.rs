//! What a pass of the sampler costs beyond the reads it cannot do without, and how that and the
//! cost of a pod's change grow.

#![allow(
    clippy::disallowed_methods,
    clippy::expect_used,
    clippy::unwrap_used,
    reason = "a benchmark is the outside world, and a panic its way to say that it cannot be run"
)]
#![allow(dead_code, reason = "not each benchmark uses all that they share, and the tests the rest")]

mod common;

use std::hint::black_box;
use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;
use std::time::{Duration, Instant};

use jiff::Timestamp;
use nix::sys::resource::{Resource, getrlimit, setrlimit};
use nix::sys::uio::pread;
use pre_oom_killer::cgroup::resolve::Groups;
use pre_oom_killer::cgroup::{Group, Machine, StatReader, Version};
use pre_oom_killer::controller::{Controller, Effect, Settings};
use pre_oom_killer::decide::eligibility::Scope;
use pre_oom_killer::decide::restraint::Limits;
use pre_oom_killer::ground::clock::Moment;
use pre_oom_killer::ground::memory::Signal;
use pre_oom_killer::ground::units::Percent;
use pre_oom_killer::pods::guard::{DryRun, Rule, Threshold};
use pre_oom_killer::pods::{Pod, PodChange};
use pre_oom_killer::sampler::{Command, Counters, Sampler, TargetId, Watch};
use standin::cgroups::{Hierarchy, Tree};
use tokio::sync::mpsc;

use common::{Args, Row, Worse, finish};

const MIB: u64 = 1 << 20;
/// A container with this limit and nothing in it is looked at about each 100 ms.
const LIMIT: u64 = 64 * MIB;
/// So every pass has all of them due.
const STEP: Duration = Duration::from_millis(150);

fn main() {
    let args = Args::parse(&[]);
    let mut rows = Vec::new();
    let tree = common::real_tree();
    let counts: &[usize] = if args.quick { &[10, 100, 500, 1_000] } else { &[10, 100, 500, 1_000, 2_000, 5_000] };
    let most = groups_that_can_be_open(*counts.last().expect("some"));
    let counts: Vec<usize> = counts.iter().map(|n| *n.min(&most)).collect();
    let machine = Machine::open().expect("/proc/meminfo");
    let version = if tree.hierarchy() == Hierarchy::V1 { Version::V1 } else { Version::V2 };
    let groups: Vec<_> = (0..most).map(|i| group(&tree, &machine, version, i)).collect();

    let looks = if args.quick { 300_000 } else { 3_000_000 };
    let each: Vec<_> = counts.iter().map(|&n| (n, costs(&groups[..n], looks))).collect();
    for (n, (ours, bare)) in &each {
        let row = Row::new(format!("growth_sweep_{n}_ns"), *ours, Worse::Higher);
        rows.push(
            row.said(format!("a look, all due at once; a bare read of the same: {bare:.0}")).with("bare_ns", *bare),
        );
        if *n == 500 {
            let words = format!("{n} groups: {ours:.0} ns a look ÷ {bare:.0} ns a read (medians of passes in turn)");
            rows.push(Row::new("sweep_overhead", ours / bare, Worse::Higher).reach(1.25).said(words));
        }
    }
    let (most, (ours, bare)) = each[each.len() - 1];
    let (of, (ours_of, bare_of)) = each[2];
    let (of_most, of_first) = (ours / bare, ours_of / bare_of);
    let words = format!("a look ÷ its read is {of_most:.2} at {most}, {of_first:.2} at {of}: 1 is linear");
    rows.push(Row::new("growth_sweep", of_most / of_first, Worse::Higher).reach(1.5).said(words));

    let changes: Vec<_> = [10, 100, 1_000].map(|n| (n, change_cost(n))).into();
    for (n, cost) in &changes {
        rows.push(Row::new(format!("growth_change_{n}_ns"), *cost, Worse::Higher).said("a pod's status changed"));
    }
    let words = "a change among 1,000 pods ÷ among 10: constant but for the depth of a map and the cache";
    rows.push(Row::new("growth_change", changes[2].1 / changes[0].1, Worse::Higher).reach(2.0).said(words));
    finish("sweep", &args, &rows);
}

/// As many as are wanted, or what the machine allows: five descriptors each.
fn groups_that_can_be_open(wanted: usize) -> usize {
    const EACH: u64 = 5;
    const OTHERS: u64 = 500;
    let files = wanted as u64 * EACH + OTHERS;
    let (_, hard) = getrlimit(Resource::RLIMIT_NOFILE).expect("a limit");
    if hard >= files || setrlimit(Resource::RLIMIT_NOFILE, files, files).is_ok() {
        setrlimit(Resource::RLIMIT_NOFILE, files, hard.max(files)).expect("a limit that is allowed");
        return wanted;
    }
    let most = ((hard - OTHERS) / EACH) as usize;
    eprintln!("{hard} open files are all that is allowed: {most} groups instead of {wanted}");
    setrlimit(Resource::RLIMIT_NOFILE, hard, hard).expect("a limit that is allowed");
    most
}

fn group(tree: &Tree, machine: &Machine, version: Version, i: usize) -> Arc<Group> {
    let group = tree.container("5eeb5eeb-0000-4000-8000-000000000000", &format!("{i:064x}"));
    group.set_limit(Some(LIMIT));
    Arc::new(Group::open(group.dir(), version, machine).expect("it can be read").expect("it is there"))
}

struct Rig {
    sampler: Sampler,
    counters: Arc<Counters>,
    now: Moment,
    _reports: mpsc::Receiver<pre_oom_killer::sampler::Report>,
}

impl Rig {
    fn new(groups: &[Arc<Group>]) -> Rig {
        let counters = Arc::new(Counters::default());
        let (sender, reports) = mpsc::channel(16);
        let mut sampler = Sampler::new(StatReader::default(), Arc::clone(&counters), sender);
        for (i, own) in groups.iter().enumerate() {
            let watch = Watch {
                id: TargetId(i as u64),
                groups: Groups { own: Arc::clone(own), pod: None, stands_for_container: false },
                rule: Rule {
                    threshold: Threshold::Percent(Percent::parse("60").expect("a percentage")),
                    signal: Signal::WorkingSet,
                    sustained_for: Duration::ZERO,
                    force_delete: None,
                    warn: None,
                },
                shown: Arc::default(),
                latency: Arc::default(),
            };
            sampler.obey(Command::Watch(Box::new(watch)), Moment::ZERO);
        }
        let mut rig = Rig { sampler, counters, now: Moment::ZERO, _reports: reports };
        rig.pass();
        rig
    }

    /// One pass over all; answers how long it took.
    fn pass(&mut self) -> Duration {
        self.now += STEP;
        let now = self.now;
        let begin = Instant::now();
        black_box(self.sampler.sweep(&|| now));
        begin.elapsed()
    }
}

/// Nanoseconds a look of the sampler, and a read of a bare loop that does the same reads on the same descriptors: medians
/// over passes in turn, with about so many looks.
fn costs(groups: &[Arc<Group>], looks: usize) -> (f64, f64) {
    let mut rig = Rig::new(groups);
    let (mut ours, mut bare) = (Vec::new(), Vec::new());
    let mut buffer = [0u8; 64];
    for _ in 0..(looks / groups.len()).max(100) {
        let counts = |rig: &Rig| [&rig.counters.samples, &rig.counters.limit_reads].map(|c| c.load(Relaxed));
        let [looks_before, limits_before] = counts(&rig);
        let took = rig.pass();
        let [looks, limits] = counts(&rig);
        assert_eq!(looks - looks_before, groups.len() as u64, "all are due");
        // Passes that read limits, stat or kills read other files, too; these are left out of both sides.
        if limits != limits_before {
            continue;
        }
        ours.push(took);
        let begin = Instant::now();
        for group in groups {
            black_box(pread(group.usage_file(), &mut buffer, 0).expect("it can be read"));
        }
        bare.push(begin.elapsed());
    }
    let median = |mut values: Vec<Duration>| common::percentile(&mut values, 0.5).expect("some").as_nanos() as f64;
    let each = groups.len() as f64;
    (median(ours) / each, median(bare) / each)
}

/// Nanoseconds that a pod's change takes among so many, with the look for what is due next, as the loop does it.
fn change_cost(pods: usize) -> f64 {
    let wall: Timestamp = "2026-01-01T00:00:00Z".parse().expect("a time");
    let scope = Scope { node: "node-host".into(), pod_uid: None, excluded: Default::default() };
    let settings = Settings {
        scope,
        dry_run: DryRun::Off,
        limits: Limits::default(),
        remedies: Default::default(),
        wall,
        seed: 1,
    };
    let mut controller = Controller::new(settings);
    let pod = |i: usize| {
        let pod = standin::pod("demo", &format!("web-{i}"))
            .annotation("pre-oom-killer.v1alpha1.k8s.io/memory-usage-threshold", "60")
            .container("app", "256Mi")
            .build();
        Pod::from_json(&pod.to_string()).expect("a pod")
    };
    let all: Vec<_> = (0..pods).map(pod).collect();
    let change = |controller: &mut Controller, pod: &Pod, now| {
        controller.pod_changed(now, PodChange::Applied(Box::new(pod.clone())));
        let effects: Vec<Effect> = controller.effects();
        black_box((effects, controller.next_tick()));
    };
    for pod in &all {
        change(&mut controller, pod, Moment::ZERO);
    }
    let mut each = Vec::new();
    for round in 0..20_000 {
        let pod = &all[round * 7919 % pods];
        let begin = Instant::now();
        change(&mut controller, pod, Moment::from_secs(1));
        each.push(begin.elapsed());
    }
    common::percentile(&mut each, 0.5).expect("some").as_nanos() as f64
}
