//! What a quiet sampler does not do: allocate, or read what it need not.

use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;
use std::time::Duration;

use pre_oom_killer::cgroup::{Group, Machine, Version};
use pre_oom_killer::guard::{Rule, Signal, Threshold};
use pre_oom_killer::resolve::Groups;
use pre_oom_killer::sampler::{Command, Sampler, Shared, TargetId, Watch};
use pre_oom_killer::units::{Bytes, Percent};
use tokio::sync::mpsc;

const MIB: u64 = 1 << 20;

/// Containers far below, just below, full of cache, and over (told once): all states that last.
#[test]
fn the_steady_state_allocates_nothing_opens_nothing_and_shares_wake_ups() {
    let machine = Machine::new(Bytes(8 << 30), Bytes(0));
    let shared = Arc::new(Shared::default());
    let (sender, mut reports) = mpsc::channel(64);
    let mut sampler = Sampler::new(machine, Arc::clone(&shared), sender);
    let dirs: Vec<_> = (0..40).map(|_| tempfile::tempdir().unwrap()).collect();
    for (i, dir) in dirs.iter().enumerate() {
        let (usage, inactive) = [(20, 0), (59, 0), (100, 60), (80, 0)][i % 4];
        let stat = format!(
            "file_dirty 0\nfile_writeback 0\ninactive_file {}\nactive_file 0\nslab_reclaimable 0\n",
            inactive * MIB
        );
        for (name, text) in [
            ("memory.current", format!("{}\n", usage * MIB)),
            ("memory.max", format!("{}\n", 100 * MIB)),
            ("memory.stat", stat),
            ("memory.events", "oom_kill 0\n".into()),
        ] {
            std::fs::write(dir.path().join(name), text).unwrap();
        }
        let open = || Arc::new(Group::open(dir.path(), Version::V2, machine).unwrap().unwrap());
        let watch = Watch {
            id: TargetId(i as u64),
            groups: Groups { own: open(), pod: Some(open()), stands_for_container: false },
            rule: Rule {
                threshold: Threshold::Percent(Percent::parse("60").unwrap()),
                signal: Signal::WorkingSet,
                sustained_for: Duration::ZERO,
                force_delete: None,
            },
            view: Arc::default(),
        };
        sampler.obey(Command::Watch(Box::new(watch)), Duration::ZERO);
    }
    // Unlinked, the files can still be read by the descriptors that are kept, and by those alone.
    dirs.into_iter().for_each(|dir| dir.close().unwrap());
    let mut now = sampler.sweep(Duration::ZERO);
    while reports.try_recv().is_ok() {}
    let (before, mut sweeps) = (shared.looks.load(Relaxed), 0);
    let counted = allocation_counter::measure(|| {
        while now < Duration::from_secs(10) {
            now = sampler.sweep(now);
            sweeps += 1;
        }
    });
    let looks = shared.looks.load(Relaxed) - before;
    assert!(looks > 10_000, "it did look: {looks}");
    assert_eq!(counted.count_total, 0, "in {looks} looks");
    assert!(reports.try_recv().is_err(), "nothing changed: all could be read, and nothing is told again");
    // Ten containers near their threshold want 200 looks a second each; they share their wake-ups.
    assert!(sweeps < 300 * 10, "{sweeps} wake-ups for {looks} looks in 10 s");
}
