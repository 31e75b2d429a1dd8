//! A thousand guarded pods on one node that all cross at once, with the shipped sampler on files.

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use jiff::SignedDuration;
use nix::sys::resource::{Resource, getrlimit, setrlimit};
use pre_oom_killer::act::answer::Answer;
use pre_oom_killer::cgroup::resolve::Groups;
use pre_oom_killer::cgroup::{Group, Machine, StatReader, Version};
use pre_oom_killer::controller::{Controller, Effect, Settings};
use pre_oom_killer::decide::eligibility::Scope;
use pre_oom_killer::decide::restraint::Limits;
use pre_oom_killer::ground::clock::Moment;
use pre_oom_killer::pods::guard::DryRun;
use pre_oom_killer::pods::{self, PodChange, PodRef};
use pre_oom_killer::report::notice::Subject;
use pre_oom_killer::sampler::{Report, Sampler, read_all};
use tokio::sync::mpsc;

use crate::ladder::{EVICT, Resized, Resizing};
use crate::network::Network;
use crate::pod::{Ask, Container, Dry, Label, MIB, NODE, Owner, Pod, Signal, Targets, Threshold, wall};

const PODS: u32 = 1000;
/// So large that what two of them grow by within a second differs by more than a page.
const LIMIT: u64 = 6400 * MIB;
/// As the agent's.
const REPORTS: usize = 1024;

fn pod(n: u32) -> Pod {
    let hour = Duration::from_secs(3600);
    Pod {
        key: ("ns0", n),
        uid: format!("u{n}"),
        node: NODE,
        label: Label::Enabled,
        ask: Ask {
            threshold: Threshold::Percent(62),
            signal: Signal::WorkingSet,
            sustained: 0,
            grace: None,
            dry: Dry::Off,
            force: None,
            targets: Targets::Unsaid,
            ladder: EVICT,
            warn: None,
        },
        mirror: false,
        owner: Owner::None,
        terminating: false,
        phase: "Running",
        grace: None,
        containers: vec![Container {
            name: "a",
            id: Some(n.into()),
            running: true,
            started: Duration::ZERO,
            older: hour,
            stamp: wall() - SignedDuration::try_from(hour).unwrap(),
            killed: None,
            limit: Some(LIMIT),
            request: None,
        }],
        resizing: Resizing::PLAIN,
        generation: 1,
        resized: Resized::Never,
        made: Duration::ZERO,
        created: wall() - SignedDuration::try_from(hour).unwrap(),
        ready: true,
        network: Network { address: None, host: false },
    }
}

/// In how many seconds its room is used up: a mixed order, each once.
fn lasts(n: u32) -> u64 {
    200 + u64::from(n * 619 % PODS)
}

/// At 62 % at first, and full after `lasts`.
fn write_usage(dir: &Path, seconds: u64) {
    for n in 0..PODS {
        let usage = LIMIT / 100 * 62 + LIMIT / 100 * 38 * seconds / lasts(n);
        std::fs::write(dir.join(format!("{n}/memory.current")), format!("{usage}\n")).unwrap();
    }
}

struct Node {
    controller: Controller,
    sampler: Sampler,
    reports: mpsc::Receiver<Report>,
    groups: BTreeMap<String, Groups>,
    /// Who was asked for, and when.
    posted: Vec<(Duration, u64, PodRef)>,
    unanswered: Vec<(u64, PodRef)>,
    held: usize,
    most_in_flight: usize,
}

impl Node {
    fn act(&mut self, now: Moment) {
        loop {
            let stats = StatReader::default();
            self.controller.decide(now, &mut |_, groups| read_all(groups, &stats, &|| now), &mut || None);
            let effects = self.controller.effects();
            if effects.is_empty() {
                break;
            }
            for effect in effects {
                match effect {
                    Effect::Resolve(id, want) => {
                        let groups = self.groups[&want.pod.0].clone();
                        self.controller.resolved(now, id, Ok(groups));
                    }
                    Effect::Sampler(command) => self.sampler.obey(command, now),
                    Effect::Post(number, order) => {
                        let n: u32 = order.pod.uid.0[1..].parse().unwrap();
                        self.posted.push((now, lasts(n), order.pod.clone()));
                        self.unanswered.push((number, order.pod));
                    }
                    Effect::Warn(..) => panic!("nobody wants to be warned"),
                    Effect::Notify(notice) => {
                        self.held += usize::from(matches!(notice.subject, Subject::Deferred { .. }));
                    }
                }
            }
        }
        self.most_in_flight = self.most_in_flight.max(self.controller.sizes().in_flight);
    }

    /// What was found is taken in, what is due is done, and what was asked is answered a little later.
    fn turn(&mut self, now: Moment) {
        self.sampler.sweep(&|| now);
        while let Ok(report) = self.reports.try_recv() {
            self.controller.reported(now, report);
            self.act(now);
        }
        if self.controller.next_tick().is_some_and(|at| at <= now) {
            self.controller.tick(now);
            self.act(now);
        }
        let later = now + Duration::from_millis(20);
        for (number, pod) in std::mem::take(&mut self.unanswered) {
            self.controller.answered(later, number, &Answer::Accepted);
            self.act(later);
            self.controller.pod_changed(later, PodChange::Gone(pod));
            self.act(later);
        }
    }
}

#[test]
fn a_thousand_that_cross_at_once_go_by_the_time_they_have_left_and_within_the_budget() {
    let (_, hard) = getrlimit(Resource::RLIMIT_NOFILE).unwrap();
    setrlimit(Resource::RLIMIT_NOFILE, hard, hard).unwrap();
    let dir = tempfile::tempdir().unwrap();
    let limits = Limits::default();
    let scope = Scope { node: NODE.into(), pod_uid: None, excluded: Default::default() };
    let settings =
        Settings { scope, dry_run: DryRun::Off, limits, remedies: Default::default(), wall: wall(), seed: 1 };
    let (sender, reports) = mpsc::channel(REPORTS);
    let mut node = Node {
        controller: Controller::new(settings),
        sampler: Sampler::new(StatReader::default(), Arc::default(), sender),
        reports,
        groups: BTreeMap::new(),
        posted: Vec::new(),
        unanswered: Vec::new(),
        held: 0,
        most_in_flight: 0,
    };
    for n in 0..PODS {
        let group = dir.path().join(n.to_string());
        std::fs::create_dir(&group).unwrap();
        let stat = "file_dirty 0\nfile_writeback 0\ninactive_file 0\nactive_file 0\nslab_reclaimable 0\n";
        for (name, text) in [
            ("memory.current", "0\n"),
            ("memory.max", &format!("{LIMIT}\n")),
            ("memory.stat", stat),
            ("memory.events", "oom_kill 0\n"),
        ] {
            std::fs::write(group.join(name), text).unwrap();
        }
    }
    write_usage(dir.path(), 0);
    for n in 0..PODS {
        let group =
            Group::open(&dir.path().join(n.to_string()), Version::V2, &Machine::without_swap()).unwrap().unwrap();
        let groups = Groups { own: Arc::new(group), pod: None, stands_for_container: false };
        node.groups.insert(format!("u{n}"), groups);
        let pod = pods::Pod::from_json(&pod(n).json()).unwrap();
        node.controller.pod_changed(Moment::ZERO, PodChange::Applied(Box::new(pod)));
        node.act(Moment::ZERO);
    }
    assert_eq!(node.controller.counts().guarded, PODS as usize);
    node.turn(Moment::ZERO);
    assert!(node.posted.is_empty(), "at the threshold exactly");
    let seconds = 61;
    for second in 1..=seconds {
        write_usage(dir.path(), second);
        node.turn(Duration::from_secs(second));
        let sizes = node.controller.sizes();
        assert!(sizes.pods <= PODS as usize && sizes.ids == sizes.targets && sizes.targets == sizes.pods);
        assert!(sizes.reported <= 4 && sizes.owners <= limits.burst as usize + 600 / 6, "{sizes:?}");
    }
    let order: Vec<u64> = node.posted.iter().map(|(_, lasts, _)| *lasts).collect();
    let wanted: Vec<u64> = (200..).take(order.len()).collect();
    assert_eq!(order, wanted, "those with the least time left first");
    for (i, (at, ..)) in node.posted.iter().enumerate() {
        let later = node.posted.iter().skip(i).map(|(t, ..)| *t);
        for (j, to) in later.enumerate() {
            let most = u64::from(limits.burst) + (to - *at).as_secs() / limits.refill.as_secs();
            assert!((j as u64) < most, "{} from {at:?} to {to:?}", j + 1);
        }
    }
    // The budget is used up, too: ten at once, and one each six seconds.
    assert_eq!(node.posted.len(), 20);
    assert_eq!(node.most_in_flight, limits.burst as usize);
    assert_eq!(node.held, PODS as usize - limits.burst as usize, "each is told once");
    let guards = node.controller.guards(Duration::from_secs(seconds));
    assert!(guards.iter().all(|g| g.state == "held"), "{:?}", guards.iter().find(|g| g.state != "held"));
}
