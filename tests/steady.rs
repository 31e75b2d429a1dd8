//! What a quiet sampler does not do: allocate, or read what it need not.

#![allow(clippy::unwrap_used, reason = "a test")]

use std::io::Write;
use std::os::unix::fs::FileExt;
use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;
use std::time::Duration;

use pre_oom_killer::cgroup::resolve::Groups;
use pre_oom_killer::cgroup::{Alarms, Allocations, Group, Machine, StatReader, Version};
use pre_oom_killer::ground::memory::Signal;
use pre_oom_killer::ground::units::Percent;
use pre_oom_killer::pods::guard::{Rule, Threshold};
use pre_oom_killer::sampler::{AllocationClock, Command, Counters, Report, Sampler, TargetId, Watch};
use tokio::sync::mpsc;

const MIB: u64 = 1 << 20;

/// A sampler, with the counts that it keeps.
struct Rig {
    sampler: Sampler,
    shared: Arc<Counters>,
    reports: mpsc::Receiver<Report>,
    next_id: u64,
    /// Sets what the node has allocated by then.
    allocates: Option<Box<dyn Fn(Duration)>>,
    /// The groups are kept for the kernel's alarms.
    kept: Option<Vec<tempfile::TempDir>>,
}

impl Rig {
    fn new() -> Rig {
        let shared = Arc::new(Counters::default());
        let (sender, reports) = mpsc::channel(512);
        let sampler = Sampler::new(StatReader::default(), Arc::clone(&shared), sender);
        Rig { sampler, shared, reports, next_id: 0, allocates: None, kept: None }
    }

    /// Watches a group of files, which it answers: unlinked, they can still be read by the descriptors that are
    /// kept, and by those alone.
    fn watch(&mut self, limit: u64, usage: u64, inactive: u64, threshold: &str) {
        let dir = tempfile::tempdir().unwrap();
        let stat =
            format!("file_dirty 0\nfile_writeback 0\ninactive_file {inactive}\nactive_file 0\nslab_reclaimable 0\n");
        for (name, text) in [
            ("memory.current", format!("{usage}\n")),
            ("memory.max", format!("{limit}\n")),
            ("memory.stat", stat),
            ("memory.events", "max 0\noom_kill 0\n".into()),
        ] {
            std::fs::write(dir.path().join(name), text).unwrap();
        }
        let open = || Arc::new(Group::open(dir.path(), Version::V2, &Machine::without_swap()).unwrap().unwrap());
        let watch = Watch {
            id: TargetId(self.next_id),
            groups: Groups { own: open(), pod: Some(open()), stands_for_container: false },
            rule: Rule {
                threshold: Threshold::Percent(Percent::parse(threshold).unwrap()),
                signal: Signal::WorkingSet,
                sustained_for: Duration::ZERO,
                force_delete: None,
                warn: None,
            },
            shown: Arc::default(),
            latency: Arc::default(),
        };
        self.next_id += 1;
        self.sampler.obey(Command::Watch(Box::new(watch)), Duration::ZERO);
        match &mut self.kept {
            Some(kept) => kept.push(dir),
            None => dir.close().unwrap(),
        }
    }

    /// Ten seconds in virtual time, after a first second: what was done in each, and allocations in all.
    fn ten_seconds(&mut self) -> (Counts, u64) {
        let mut now = Duration::ZERO;
        while now < Duration::from_secs(1) {
            self.allocates.iter().for_each(|set| set(now));
            now = self.sampler.sweep(&|| now);
        }
        while self.reports.try_recv().is_ok() {}
        let before = self.counts();
        let (mut sweeps, end) = (0, now + Duration::from_secs(10));
        let allocated = allocation_counter::measure(|| {
            while now < end {
                self.allocates.iter().for_each(|set| set(now));
                now = self.sampler.sweep(&|| now);
                sweeps += 1;
            }
        });
        assert!(self.reports.try_recv().is_err(), "nothing changed: all could be read, and nothing is told again");
        let after = self.counts();
        let a_second = |i: usize| (after[i] - before[i]) / 10;
        let counts = Counts { wakeups: sweeps / 10, samples: a_second(0), stats: a_second(1), limits: a_second(2) };
        (counts, allocated.count_total)
    }

    fn counts(&self) -> [u64; 3] {
        [&self.shared.samples, &self.shared.stat_reads, &self.shared.limit_reads].map(|c| c.load(Relaxed))
    }
}

#[derive(Debug)]
struct Counts {
    wakeups: u64,
    samples: u64,
    stats: u64,
    limits: u64,
}

/// Containers far below, just below, full of cache, and over (told once): all states that last.
#[test]
fn the_steady_state_allocates_nothing_opens_nothing_and_shares_wake_ups() {
    let mut rig = Rig::new();
    for i in 0..40 {
        let (usage, inactive) = [(20, 0), (59, 0), (100, 60), (80, 0)][i % 4];
        rig.watch(100 * MIB, usage * MIB, inactive * MIB, "60");
    }
    let (counts, allocated) = rig.ten_seconds();
    assert_eq!(allocated, 0, "{counts:?}");
    // Ten containers near their threshold want 200 looks a second each; they share their wake-ups.
    assert!(counts.samples > 1_000 && counts.wakeups < 200, "{counts:?}");
}

/// The same as below, on a node that allocates 16 MiB a second: each is sampled once a second, and the small ones a few times.
#[test]
fn what_cannot_have_grown_is_sampled_once_a_second() {
    let mut rig = Rig::new();
    let mut vmstat = tempfile::NamedTempFile::new().unwrap();
    let allocated = |pages: u64| format!("pgalloc_normal {pages:020}\n");
    vmstat.write_all(allocated(0).as_bytes()).unwrap();
    let allocations = Allocations::of(vmstat.reopen().unwrap(), 4096, 2);
    rig.sampler = rig.sampler.counting(Some(AllocationClock::new(allocations)));
    rig.allocates = Some(Box::new(move |now: Duration| {
        let pages = u64::try_from(now.as_millis()).unwrap() * 16 * MIB / 4096 / 1000;
        vmstat.as_file().write_all_at(allocated(pages).as_bytes(), 0).unwrap();
    }));
    quiet(&mut rig);
    let (counts, _) = rig.ten_seconds();
    assert!((250..600).contains(&counts.samples), "{counts:?}");
    assert!(counts.wakeups <= 40, "{counts:?}");
    assert!((240..=280).contains(&counts.limits), "{counts:?}");
    assert!(counts.stats <= 40, "no verdict depends on the cache, and it is what it was: {counts:?}");
}

/// 250 containers with limits from 128 MiB to 4 GiB, 20 to 55 % used.
fn quiet(rig: &mut Rig) {
    let mut random = fastrand::Rng::with_seed(7);
    for _ in 0..250 {
        let limit = (128.0 * MIB as f64 * 32f64.powf(random.f64())) as u64;
        let usage = (limit as f64 * (0.20 + 0.35 * random.f64())) as u64;
        rig.watch(limit, usage, 0, "70");
    }
}

/// What they cost is a matter of counts. Alarms that do not ring cost nothing.
#[test]
fn a_quiet_node_is_seldom_looked_at() {
    for alarms in [None, Alarms::open(Version::V2)] {
        let mut rig = Rig::new();
        rig.kept = alarms.is_some().then(Vec::new);
        rig.sampler = rig.sampler.listening(alarms);
        quiet(&mut rig);
        assert_quiet(&mut rig);
    }
}

fn assert_quiet(rig: &mut Rig) {
    let (counts, allocated) = rig.ten_seconds();
    assert_eq!(allocated, 0, "{counts:?}");
    assert!((1_000..4_000).contains(&counts.samples), "{counts:?}");
    assert!(counts.wakeups <= 50, "{counts:?}");
    assert!(counts.stats <= 100, "where no answer depends on it, only what people are shown: {counts:?}");
    assert!((200..=280).contains(&counts.limits), "once a second, for a resize: {counts:?}");
}
