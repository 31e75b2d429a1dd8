//! The sampling thread: it reads the targets that are due, judges them, and reports changes.
//!
//! It is a thread of its own, so that sampling goes on while TLS, JSON or a slow server keep the async side busy. It
//! waits only for the next due target, for a command, or for an alarm of the kernel. In the steady state it allocates nothing.

mod allocation;
mod bells;
mod breakdowns;
mod counters;
mod due;
mod inbox;
mod kills;
mod latency;
mod messages;
mod reader;
mod reported;
mod target;
mod view;

pub use self::breakdowns::Breakdowns;
pub use self::view::{Known, LastSample, Shown};

use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;
use std::sync::mpsc::TryRecvError;
use std::time::Duration;

use tokio::sync::mpsc::Sender;

use self::allocation::{Budget, Counted};
use self::bells::Bells;
use self::due::Due;
use self::reader::Context;
use crate::cgroup::{Alarms, StatReader};
use crate::decide::schedule::{LONGEST_INTERVAL, SHORTEST_INTERVAL};
use crate::ground::clock::{Clock, Moment};
use crate::ground::units::Bytes;

pub use self::allocation::AllocationClock;
pub use self::counters::Counters;
pub use self::inbox::{Commands, Inbox, inbox};
pub use self::latency::Latency;
pub use self::messages::{Command, Report, TargetId, Watch, What};
pub use self::reader::read_all;
pub use self::reported::{Reported, Urgency};
pub use self::target::Target;

/// Findings are reported after this time even if the sweep has not ended, because some of its reads may be slow.
const REPORT_WITHIN: Duration = Duration::from_millis(1);
/// The shortest time between two notifications that an eviction may come soon.
const EVICTION_NEAR_EACH: Duration = Duration::from_secs(1);

/// What a sweep found about the target at `index`.
#[derive(Debug)]
struct Change {
    time_left: Duration,
    index: usize,
    what: What,
    /// What the target remembers once this is reported; `None` for a kill.
    reported: Option<Reported>,
}

/// What is known in a sweep of what the node has allocated.
#[derive(Clone, Copy, Debug)]
enum Count {
    /// Nothing: it would not be worth a read, or is not trusted.
    Not,
    /// Nothing yet: none of those that may be spared is due. They do not come early.
    Later,
    Now(Counted),
}

#[derive(Debug)]
pub struct Sampler {
    targets: Vec<Target>,
    /// Due times, duplicated in a dense array so that a sweep does not touch every target.
    due: Vec<Due>,
    /// The same of what is known of their growth.
    budgets: Vec<Option<Budget>>,
    bells: Bells,
    /// `None`: samples go by time alone.
    allocations: Option<AllocationClock>,
    stats: StatReader,
    counters: Arc<Counters>,
    reports: Sender<Report>,
    /// Kept between sweeps to reuse its memory.
    found: Vec<Change>,
    /// The end of some target was reported.
    gone: bool,
    /// When the sampler last notified that an eviction may come soon.
    near_notified_at: Option<Moment>,
}

impl Sampler {
    #[must_use]
    pub fn new(stats: StatReader, counters: Arc<Counters>, reports: Sender<Report>) -> Sampler {
        Sampler {
            targets: Vec::new(),
            due: Vec::new(),
            budgets: Vec::new(),
            bells: Bells::default(),
            allocations: None,
            stats,
            counters,
            reports,
            found: Vec::new(),
            gone: false,
            near_notified_at: None,
        }
    }

    /// Spares samples of targets while the node allocates too little memory for them to grow.
    #[must_use]
    pub fn counting(self, allocations: Option<AllocationClock>) -> Sampler {
        Sampler { allocations, ..self }
    }

    /// Samples a target at once when the kernel notifies of its group.
    #[must_use]
    pub fn listening(self, alarms: Option<Alarms>) -> Sampler {
        Sampler { bells: self.bells.with(alarms), ..self }
    }

    /// Runs until the sender of commands is gone.
    pub fn run(mut self, clock: Clock, inbox: &Inbox) {
        let (mut rings, mut deaf_until) = (false, Moment::ZERO);
        loop {
            let now = clock.now();
            let turned = u64::try_from(now.as_millis()).unwrap_or(u64::MAX);
            self.counters.turned_at.store(turned, Relaxed);
            self.counters.wakeups.fetch_add(1, Relaxed);
            let next = self.sweep(&|| clock.now());
            // Use half of a core at most, even if every target is near a kill.
            let done = clock.now();
            let busy = done.saturating_sub(now);
            let rest = next.saturating_sub(done).max(busy);
            if rings {
                // However many alarms ring, they cause no more wake-ups than one target that is near a kill.
                deaf_until = done + busy.max(SHORTEST_INTERVAL);
            }
            let deaf = deaf_until.saturating_sub(done);
            rings = match deaf {
                Duration::ZERO => inbox.wait(rest, self.bells.source()),
                _ => inbox.wait(rest.min(deaf), None),
            };
            let now = clock.now();
            if rings {
                self.alarmed(now);
            }
            // Handle all commands that have arrived meanwhile, before the next sweep.
            loop {
                match inbox.next() {
                    Ok(command) => self.obey(command, now),
                    Err(TryRecvError::Empty) => break,
                    Err(TryRecvError::Disconnected) => return,
                }
            }
        }
    }

    /// Makes the targets due whose alarms have rung.
    fn alarmed(&mut self, now: Moment) {
        let Sampler { bells, targets, due, budgets, counters, .. } = self;
        bells.take(now, |i| {
            targets[i].alarmed(now);
            (due[i], budgets[i]) = (targets[i].next(), None);
            counters.alarms.fetch_add(1, Relaxed);
        });
    }

    pub fn obey(&mut self, command: Command, now: Moment) {
        let position = |id| self.targets.iter().position(|t| t.id() == id);
        match command {
            Command::Watch(watch) => {
                let target = Target::new(*watch, now);
                self.due.push(target.next());
                self.budgets.push(None);
                self.bells.push(now);
                self.targets.push(target);
            }
            Command::Rule(id, rule, edit) => {
                if let Some(i) = position(id) {
                    self.targets[i].edited(rule, edit, now);
                    (self.due[i], self.budgets[i]) = (self.targets[i].next(), None);
                }
            }
            Command::Rearm(id) => {
                if let Some(i) = position(id) {
                    self.targets[i].rearm();
                    self.budgets[i] = None;
                }
            }
            Command::Follow(id) => {
                if let Some(i) = position(id) {
                    self.targets[i].follow(now);
                    (self.due[i], self.budgets[i]) = (self.targets[i].next(), None);
                }
            }
            Command::Forget(id) => {
                if let Some(i) = position(id) {
                    self.forget(i);
                }
            }
        }
    }

    fn forget(&mut self, i: usize) {
        self.targets.swap_remove(i);
        self.due.swap_remove(i);
        self.budgets.swap_remove(i);
        self.bells.swap_remove(i);
    }

    /// Samples all targets that are due, and those that may share this wake-up. Returns when to call it again, at most
    /// [`LONGEST_INTERVAL`] later.
    pub fn sweep(&mut self, clock: &dyn Fn() -> Moment) -> Moment {
        let began = clock();
        let mut next = began + LONGEST_INTERVAL;
        let (mut near, mut samples, mut spared) = (false, 0, 0);
        let counted = self.count(began, clock);
        for i in 0..self.due.len() {
            if self.due[i].early <= began {
                if let Some(due) = self.spare(i, counted) {
                    (self.due[i], spared) = (due, spared + u64::from(matches!(counted, Count::Now(_))));
                    next = next.min(due.at);
                    continue;
                }
                samples += 1;
                // Each sample has its own time, because the one before may have been slow.
                let now = clock();
                near |= self.sample(i, now, clock);
                if !self.found.is_empty() && now.saturating_sub(began) >= REPORT_WITHIN {
                    self.report(now);
                }
            }
            next = next.min(self.due[i].at);
        }
        self.counters.samples.fetch_add(samples, Relaxed);
        if let (Some(clock), Count::Now(_)) = (&mut self.allocations, counted) {
            clock.swept(began);
            self.counters.spared.fetch_add(spared, Relaxed);
        }
        if near && self.near_notified_at.is_none_or(|at| began.saturating_sub(at) >= EVICTION_NEAR_EACH) {
            self.near_notified_at = Some(began);
            let near = self.targets.iter().filter(|target| target.is_near()).count();
            self.counters.near.store(near, Relaxed);
            self.counters.eviction_near.notify_one();
        }
        self.report(began);
        self.forget_the_gone();
        next
    }

    /// Counts what the node has allocated, if one of those that may be spared is due, and enough others may come early.
    fn count(&mut self, began: Moment, clock: &dyn Fn() -> Moment) -> Count {
        let Some(allocations) = &mut self.allocations else { return Count::Not };
        let (mut is_due, mut early) = (false, 0);
        for (due, budget) in self.due.iter().zip(&self.budgets) {
            if due.early <= began && budget.is_some() {
                (is_due, early) = (is_due || due.at <= began, early + 1);
            }
        }
        match allocations.is_worth(early, began) {
            false => Count::Not,
            true if !is_due => Count::Later,
            true => allocations.read(clock).map_or(Count::Not, Count::Now),
        }
    }

    /// When a target is due instead of now, or early; `None`: it is sampled now.
    fn spare(&mut self, index: usize, counted: Count) -> Option<Due> {
        let (allocations, budget) = (self.allocations.as_mut()?, self.budgets[index].as_ref()?);
        match counted {
            Count::Not => None,
            Count::Later => Some(self.due[index]),
            Count::Now(counted) => allocations.spare(budget, counted),
        }
    }

    /// By how much a target that was just sampled may grow until it has to be sampled again.
    fn budget(&self, index: usize, before: Option<Bytes>, now: Moment) -> Option<Budget> {
        let target = &self.targets[index];
        let (usage, limit_read_at) = target.last_read()?;
        let before = self.budgets[index].as_ref().zip(before.map(|before| usage.less(before)));
        let interval = target.due().saturating_sub(now);
        let allocations = self.allocations.as_ref()?;
        allocations.budget(target.allowance()?, interval, limit_read_at, before)
    }

    /// Samples one target. Returns whether its eviction may come soon.
    fn sample(&mut self, index: usize, now: Moment, clock: &dyn Fn() -> Moment) -> bool {
        let target = &mut self.targets[index];
        // Before it is read, so that nothing is missed in between.
        self.bells.listen(index, &target.groups().own, now);
        let before = target.last_read().map(|(usage, _)| usage);
        let context = Context { stats: &self.stats, counters: &self.counters, clock };
        let (killed, change) = target.sample(now, &context);
        self.due[index] = target.next();
        if let Some(what) = killed {
            self.bells.was_right(index);
            self.found.push(Change { time_left: what.time_left(), index, what, reported: None });
        }
        if let Some(evidence) = target.take_warning() {
            let what = What::Warned(evidence);
            self.found.push(Change { time_left: what.time_left(), index, what, reported: None });
        }
        if let Some(throttled) = target.take_throttled() {
            let what = What::Throttled(throttled);
            self.found.push(Change { time_left: what.time_left(), index, what, reported: None });
        }
        if let Some((what, reported)) = change {
            self.found.push(Change { time_left: what.time_left(), index, what, reported: Some(reported) });
        }
        let is_near = target.is_near();
        self.budgets[index] = self.budget(index, before, now);
        is_near
    }

    /// Reports what was found, the finding with the least time left first. A full channel loses nothing: the next
    /// sample finds again what did not fit.
    fn report(&mut self, now: Moment) {
        self.found.sort_unstable_by_key(|found| found.time_left);
        for Change { index, what, reported, .. } in self.found.drain(..) {
            let target = &mut self.targets[index];
            let (is_warning, is_throttled) = (matches!(what, What::Warned(_)), matches!(what, What::Throttled(_)));
            let taken = self.reports.try_send(target.report(what)).is_ok();
            match (taken, reported) {
                (true, Some(reported)) => {
                    self.gone |= reported == Reported::Gone;
                    target.reported(reported);
                }
                (false, Some(Reported::Gone)) => {
                    target.report_end_again(now);
                    self.due[index] = target.next();
                }
                (false, None) if is_warning => target.warn_again(),
                (false, None) if is_throttled => target.report_throttled_again(),
                (false, None) => target.report_kills_again(),
                _ => {}
            }
        }
    }

    fn forget_the_gone(&mut self) {
        if std::mem::take(&mut self.gone) {
            for i in (0..self.targets.len()).rev() {
                if self.targets[i].is_gone() {
                    self.forget(i);
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cgroup::Hit;
    use crate::cgroup::resolve::Groups;
    use crate::cgroup::{Group, Machine, Version};
    use crate::decide::schedule::SHORTEST_INTERVAL;
    use crate::ground::memory::Signal;
    use crate::ground::units::{Bytes, Percent};
    use crate::pods::guard::Rule;
    use crate::pods::guard::Threshold;
    use futures::FutureExt;
    use std::path::Path;
    use tokio::sync::mpsc;

    const MIB: u64 = 1 << 20;

    /// A fixture group with one limit, and a sampler that watches it at 60 %.
    struct Rig {
        dir: tempfile::TempDir,
        sampler: Sampler,
        reports: mpsc::Receiver<Report>,
        view: Arc<Shown>,
        now: Moment,
    }

    fn rule(percent: &str) -> Rule {
        Rule {
            threshold: Threshold::Percent(Percent::parse(percent).unwrap()),
            signal: Signal::WorkingSet,
            sustained_for: Duration::ZERO,
            force_delete: None,
            warn: None,
        }
    }

    fn write(dir: &Path, name: &str, text: &str) {
        std::fs::write(dir.join(name), text).unwrap();
    }

    impl Rig {
        fn new(limit: &str) -> Rig {
            let dir = tempfile::tempdir().unwrap();
            write(dir.path(), "memory.max", limit);
            write(dir.path(), "memory.high", "max\n");
            write(dir.path(), "memory.events", "max 0\noom_kill 0\n");
            let (sender, reports) = mpsc::channel(4);
            let mut rig = Rig {
                dir,
                sampler: Sampler::new(StatReader::default(), Arc::default(), sender),
                reports,
                view: Arc::default(),
                now: Moment::ZERO,
            };
            rig.set(0, 0);
            let group = Group::open(rig.dir.path(), Version::V2, &Machine::without_swap()).unwrap();
            let watch = Watch {
                id: TargetId(1),
                groups: Groups { own: Arc::new(group.unwrap()), pod: None, stands_for_container: false },
                rule: rule("60"),
                shown: Arc::clone(&rig.view),
                latency: Arc::default(),
            };
            rig.sampler.obey(Command::Watch(Box::new(watch)), Moment::ZERO);
            rig
        }

        fn set(&self, usage: u64, inactive: u64) {
            write(self.dir.path(), "memory.current", &format!("{usage}\n"));
            let stat = format!(
                "file_dirty 0\nfile_writeback 0\ninactive_file {inactive}\nactive_file 0\nslab_reclaimable 0\n"
            );
            write(self.dir.path(), "memory.stat", &stat);
        }

        /// Runs until the target is looked at, then says what was told.
        fn turn(&mut self) -> Option<What> {
            let now = self.now;
            let next = self.sampler.sweep(&|| now);
            self.now = next;
            self.reports.try_recv().ok().map(|r| r.what)
        }

        fn interval(&self) -> Duration {
            let look = self.view.last().unwrap();
            look.next - look.sample.at
        }

        fn stat_reads(&self) -> u64 {
            self.sampler.counters.stat_reads.load(Relaxed)
        }
    }

    impl Rig {
        /// With the count of a machine of one CPU with pages of 1 MiB: 66 of them may be charged at once without being counted.
        fn counting(limit: &str) -> Rig {
            let rig = Rig::new(limit);
            rig.allocate(1000);
            let file = std::fs::File::open(rig.dir.path().join("vmstat")).unwrap();
            let clock = AllocationClock::new(crate::cgroup::Allocations::of(file, MIB, 1));
            Rig { sampler: rig.sampler.counting(Some(clock)), ..rig }
        }

        fn allocate(&self, mib: u64) {
            write(self.dir.path(), "vmstat", &format!("pgalloc_normal {mib}\n"));
        }

        /// How often it is sampled within this time, and what is told.
        fn samples(&mut self, millis: u64) -> (u64, Vec<What>) {
            let (before, until) =
                (self.sampler.counters.samples.load(Relaxed), self.now + Duration::from_millis(millis));
            let mut told = Vec::new();
            while self.now < until {
                told.extend(self.turn());
            }
            (self.sampler.counters.samples.load(Relaxed) - before, told)
        }
    }

    impl Rig {
        /// With the kernel's alarms, sampled since a while.
        fn listening() -> Rig {
            let rig = Rig::counting("1073741824\n");
            let sampler = rig.sampler.listening(Alarms::open(Version::V2));
            let mut rig = Rig { sampler, ..rig };
            rig.set(20 * MIB, 0);
            assert_eq!(rig.samples(2_500).1.len(), 0);
            rig
        }

        /// What the kernel notifies of.
        fn count(&self, events: &str) {
            write(self.dir.path(), "memory.events", events);
        }

        /// Lets time pass, each millisecond after something was done in it; how often it is sampled, and what is told.
        fn millis(&mut self, millis: u64, mut each: impl FnMut(&Rig, u64)) -> (u64, Vec<What>) {
            let before = self.sampler.counters.samples.load(Relaxed);
            let mut told = Vec::new();
            for i in 0..millis {
                each(self, i);
                self.now += Duration::from_millis(1);
                let now = self.now;
                self.sampler.alarmed(now);
                self.sampler.sweep(&|| now);
                told.extend(std::iter::from_fn(|| self.reports.try_recv().ok()).map(|r| r.what));
            }
            (self.sampler.counters.samples.load(Relaxed) - before, told)
        }
    }

    #[test]
    fn a_kill_that_the_kernel_notifies_of_is_told_at_once() {
        let mut rig = Rig::listening();
        rig.millis(10, |_, _| {});
        assert_eq!(rig.millis(100, |_, _| {}).0, 0, "far, on a node that allocates nothing");
        rig.count("max 0\noom_kill 3\n");
        let (samples, told) = rig.millis(1, |_, _| {});
        assert!(matches!(told[..], [What::Killed { count: 3, .. }]) && samples == 1, "{told:?}");
        let (samples, told) = rig.millis(900, |_, _| {});
        assert!(told.is_empty() && samples <= 2, "once: {samples}, {told:?}");
    }

    #[test]
    fn alarms_that_ring_all_the_time_cost_no_more_than_the_shortest_interval() {
        let mut rig = Rig::listening();
        let high = |rig: &Rig, i| rig.count(&format!("high {i}\nmax 0\noom_kill 0\n"));
        rig.millis(10, |_, _| {});
        let (samples, told) = rig.millis(15, high);
        assert!((2..=15 / 5 + 1).contains(&samples) && told.is_empty(), "{samples}, {told:?}");
        // What rings for no reason is hardly listened to any more, and sampled as if there were no alarm.
        let (quiet, _) = rig.millis(30_000, |_, _| {});
        rig.millis(1_000, high);
        let (samples, told) = rig.millis(30_000, high);
        let alarms = rig.sampler.counters.alarms.load(Relaxed);
        assert!(samples < quiet + 6 * 16 && alarms <= 8 * 16 && told.is_empty(), "{samples}, {quiet}, {alarms}");
        // A kill is then found by time, and the alarm is heard again once it was calm.
        rig.count("high 9\nmax 0\noom_kill 1\n");
        let (_, told) = rig.millis(5_100, |_, _| {});
        assert!(matches!(told[..], [What::Killed { count: 1, .. }]), "{told:?}");
        rig.millis(60_000, |_, _| {});
        rig.count("high 9\nmax 0\noom_kill 2\n");
        assert!(matches!(rig.millis(1, |_, _| {}).1[..], [What::Killed { count: 1, .. }]));
    }

    /// Its guard is told once that it will hardly do anything; and again when it is edited, or was not heard.
    #[test]
    fn what_crawls_at_its_high_below_its_threshold_is_told_once() {
        let mut rig = Rig::new("1073741824\n");
        rig.set(512 * MIB, 0);
        rig.samples(12_000);
        assert!(!rig.view.last().unwrap().throttled, "it has no memory.high");
        write(rig.dir.path(), "memory.high", "536870912\n");
        let told = rig.samples(30_000).1;
        let [What::Throttled(throttled)] = &told[..] else { panic!("{told:?}") };
        let (high, usage) = (Bytes(512 * MIB), Bytes(512 * MIB));
        assert_eq!((throttled.high, throttled.usage, throttled.threshold.0 / MIB), (high, usage, 614));
        let last = rig.view.last().unwrap();
        assert!(last.throttled && last.high == Some(high));
        // The kernel has another one within a second.
        write(rig.dir.path(), "memory.high", "max\n");
        rig.set(513 * MIB, 0);
        assert_eq!(rig.samples(1_500).1.len(), 0);
        assert_eq!(rig.view.last().map(|last| (last.throttled, last.high)), Some((false, None)));
        // Not heard: the channel is full.
        write(rig.dir.path(), "memory.high", "536870912\n");
        rig.sampler.obey(Command::Rule(TargetId(1), rule("70"), 1), rig.now);
        for _ in 0..4 {
            let other = Report { id: TargetId(9), edit: 0, what: What::NoLimit };
            rig.sampler.reports.try_send(other).unwrap();
        }
        let until = rig.now + Duration::from_secs(20);
        while rig.now < until {
            let now = rig.now;
            rig.now = rig.sampler.sweep(&|| now);
        }
        let told = rig.samples(12_000).1;
        let throttled = told.iter().filter(|what| matches!(what, What::Throttled(_))).count();
        assert_eq!(throttled, 1, "{told:?}");
    }

    /// Forty alarms that ring as fast as it goes wake the thread no more often than one container that is near a kill.
    #[test]
    fn many_alarms_are_taken_together() {
        let rigs: Vec<Rig> = (0..40).map(|_| Rig::new("1073741824\n")).collect();
        let (sender, _reports) = mpsc::channel(4);
        let counters = Arc::<Counters>::default();
        let mut sampler = Sampler::new(StatReader::default(), Arc::clone(&counters), sender);
        sampler = sampler.listening(Alarms::open(Version::V2));
        for (id, rig) in (0..).zip(&rigs) {
            let groups = Groups { pod: None, ..rig.sampler.targets[0].groups().clone() };
            let (rule, shown, latency) = (rule("60"), Arc::default(), Arc::default());
            sampler
                .obey(Command::Watch(Box::new(Watch { id: TargetId(id), groups, rule, shown, latency })), Moment::ZERO);
        }
        let (commands, inbox) = inbox(1).unwrap();
        let clock = Clock::start();
        let thread = std::thread::spawn(move || sampler.run(clock, &inbox));
        while clock.now() < Duration::from_millis(300) {
            rigs.iter().for_each(|rig| rig.count("high 1\noom_kill 0\n"));
        }
        let (alarms, wakeups) = (counters.alarms.load(Relaxed), counters.wakeups.load(Relaxed));
        let millis = u64::try_from(clock.now().as_millis()).unwrap();
        drop(commands);
        thread.join().unwrap();
        assert!(alarms > 100, "{alarms}");
        assert!(wakeups < 2 * millis / 5 + 40, "{wakeups} for {alarms} alarms in {millis} ms");
    }

    #[test]
    fn an_alarm_is_of_all_that_share_a_group_and_ends_with_the_last() {
        let mut rig = Rig::listening();
        let group = Arc::clone(&rig.sampler.targets[0].groups().own);
        let watch = Watch {
            id: TargetId(2),
            groups: Groups { own: group, pod: None, stands_for_container: true },
            rule: rule("60"),
            shown: Arc::default(),
            latency: Arc::default(),
        };
        rig.sampler.obey(Command::Watch(Box::new(watch)), rig.now);
        rig.millis(4, |_, _| {});
        let ring = |rig: &mut Rig, i| {
            rig.count(&format!("high {i}\nmax 0\noom_kill 0\n"));
            rig.millis(5, |_, _| {}).0
        };
        assert_eq!(ring(&mut rig, 1), 2);
        rig.sampler.obey(Command::Forget(TargetId(1)), rig.now);
        assert_eq!(ring(&mut rig, 2), 1);
        rig.sampler.obey(Command::Forget(TargetId(2)), rig.now);
        assert_eq!((ring(&mut rig, 3), rig.sampler.bells.source().is_some()), (0, true));
    }

    #[test]
    fn what_the_node_has_not_allocated_no_container_can_have_grown() {
        let mut rig = Rig::counting("1073741824\n");
        rig.set(100 * MIB, 0);
        rig.samples(2000);
        let (samples, told) = rig.samples(10_000);
        assert!((10..=11).contains(&samples) && told.is_empty(), "once a second, for its limit: {samples} {told:?}");
        // Somebody allocates as much as this container lacks to its threshold.
        rig.allocate(1000 + 520);
        let (samples, told) = rig.samples(120);
        assert!(samples >= 1 && told.is_empty(), "{samples} {told:?}");
        // It is this one now. It is sampled above its threshold while half of the rest is left.
        rig.allocate(1000 + 520 + 600);
        rig.set(700 * MIB, 0);
        let (_, told) = rig.samples(120);
        assert!(matches!(told[..], [What::Above { .. }]), "{told:?}");
        // Near its threshold nothing is spared.
        rig.set(610 * MIB, 0);
        rig.samples(1000);
        let spared = rig.sampler.counters.spared.load(Relaxed);
        rig.samples(1000);
        assert_eq!(rig.sampler.counters.spared.load(Relaxed), spared);
    }

    /// Cache becomes active, dirty or locked without an allocation, and the signal moves: nothing is spared while the threshold is
    /// below usage.
    #[test]
    fn what_holds_cache_is_sampled_by_time() {
        let mut rig = Rig::counting("1073741824\n");
        rig.set(700 * MIB, 100 * MIB);
        rig.samples(2000);
        let spared = rig.sampler.counters.spared.load(Relaxed);
        assert!(rig.samples(1000).0 > 20);
        rig.set(700 * MIB, 0);
        let (_, told) = rig.samples(300);
        assert!(matches!(told[..], [What::Above { .. }]), "{told:?}");
        assert_eq!(rig.sampler.counters.spared.load(Relaxed), spared);
    }

    /// A count that explains less than what a container was charged is not trusted.
    #[test]
    fn a_count_that_is_refuted_spares_nothing() {
        let mut rig = Rig::counting("1073741824\n");
        rig.set(100 * MIB, 0);
        rig.samples(2000);
        rig.set(300 * MIB, 0);
        rig.samples(2000);
        let spared = rig.sampler.counters.spared.load(Relaxed);
        assert!(rig.samples(2000).0 >= 15);
        assert_eq!(rig.sampler.counters.spared.load(Relaxed), spared);
    }

    #[test]
    fn over_is_told_once_until_it_dips() {
        let mut rig = Rig::new("104857600\n");
        assert!(rig.turn().is_none());
        rig.set(60 * MIB, 0);
        assert!(rig.turn().is_none(), "at the threshold exactly");
        rig.set(60 * MIB + 1, 0);
        assert!(matches!(rig.turn(), Some(What::Above { .. })));
        assert!(rig.turn().is_none());
        rig.set(MIB, 0);
        assert!(matches!(rig.turn(), Some(What::Dipped)));
        rig.set(61 * MIB, 0);
        assert!(matches!(rig.turn(), Some(What::Above { .. })));
        rig.sampler.obey(Command::Rearm(TargetId(1)), rig.now);
        assert!(matches!(rig.turn(), Some(What::Above { .. })), "told again when asked to");
    }

    /// Once, until it has fallen by a twentieth below; and nothing of that is lost.
    #[test]
    fn a_warning_is_reported_each_time_the_signal_comes_from_well_below() {
        let mut rig = Rig::new("104857600\n");
        let warn = Rule { warn: Some(Threshold::Percent(Percent::parse("40").unwrap())), ..rule("60") };
        rig.sampler.obey(Command::Rule(TargetId(1), warn, 0), rig.now);
        rig.turn();
        let warned = |what: Option<What>| matches!(what, Some(What::Warned(e)) if e.threshold == Bytes(40 * MIB));
        rig.set(40 * MIB, 0);
        assert!(rig.turn().is_none());
        rig.set(40 * MIB + 1, 0);
        assert!(warned(rig.turn()));
        for usage in [45, 39, 41] {
            rig.set(usage * MIB, 0);
            assert!(rig.turn().is_none(), "{usage}");
        }
        rig.set(38 * MIB, 0);
        assert!(rig.turn().is_none());
        // Cache counts as little as for the other threshold.
        rig.set(70 * MIB, 31 * MIB);
        assert!(rig.turn().is_none());
        let (sender, reports) = mpsc::channel(1);
        sender.try_send(Report { id: TargetId(9), edit: 0, what: What::Dipped }).unwrap();
        (rig.sampler.reports, rig.reports) = (sender, reports);
        rig.set(41 * MIB, 0);
        assert!(matches!(rig.turn(), Some(What::Dipped)), "the one that filled the channel");
        assert!(warned(rig.turn()));
        // Both at once.
        rig.set(10 * MIB, 0);
        rig.turn();
        let (sender, reports) = mpsc::channel(4);
        (rig.sampler.reports, rig.reports) = (sender, reports);
        rig.set(61 * MIB, 0);
        let first = rig.turn();
        let second = rig.reports.try_recv().ok().map(|r| r.what);
        assert!(matches!(first, Some(What::Above { .. }) | Some(What::Warned(_))), "{first:?}");
        assert!(matches!(second, Some(What::Above { .. }) | Some(What::Warned(_))), "{second:?}");
    }

    #[test]
    fn a_full_channel_loses_nothing() {
        let mut rig = Rig::new("104857600\n");
        let (sender, reports) = mpsc::channel(1);
        sender.try_send(Report { id: TargetId(9), edit: 0, what: What::Dipped }).unwrap();
        rig.sampler.reports = sender;
        rig.reports = reports;
        rig.set(61 * MIB, 0);
        let first = rig.turn();
        assert!(matches!(first, Some(What::Dipped)), "the one that filled it");
        assert!(matches!(rig.turn(), Some(What::Above { .. })));
    }

    #[test]
    fn cache_at_the_limit_is_neither_over_nor_near() {
        let mut rig = Rig::new("104857600\n");
        rig.set(100 * MIB, 60 * MIB);
        for _ in 0..20 {
            assert!(rig.turn().is_none());
            assert!(rig.interval() > Duration::from_millis(30), "{:?}", rig.interval());
        }
        let reads = u64::try_from(rig.now.as_millis() / 250).unwrap();
        assert!(rig.stat_reads() <= 2 + reads, "nothing moves: {} reads", rig.stat_reads());
        // Something had to be reclaimed: the very next look reads stat.
        rig.set(100 * MIB, 39 * MIB);
        write(rig.dir.path(), "memory.events", "max 1\noom_kill 0\n");
        assert!(matches!(rig.turn(), Some(What::Above { .. })), "cache was exchanged for memory");
        assert!(rig.turn().is_none() && rig.turn().is_none(), "and it stays over");
    }

    #[test]
    fn cache_that_no_counter_tells_of_is_read_again_soon() {
        let mut rig = Rig::new("104857600\n");
        rig.set(100 * MIB, 60 * MIB);
        while rig.now < Duration::from_millis(600) {
            assert!(rig.turn().is_none());
        }
        // Read twice, it counts as active.
        rig.set(100 * MIB, 39 * MIB);
        let changed = rig.now;
        while rig.turn().is_none() && rig.now < Duration::from_secs(5) {}
        assert!(rig.now - changed <= Duration::from_millis(400), "{:?}", rig.now - changed);
    }

    /// While nothing moves, a look is no more than the read of usage; readers still see when it was.
    #[test]
    fn a_look_at_which_nothing_moved_is_shown_and_keeps_its_interval() {
        let mut rig = Rig::new("104857600\n");
        rig.set(20 * MIB, 0);
        let mut seen = Vec::new();
        while rig.now < Duration::from_millis(2_500) {
            let now = rig.now;
            rig.turn();
            let look = rig.view.last().unwrap();
            assert_eq!(look.sample.at, now);
            seen.push(rig.interval());
        }
        seen.drain(..2);
        assert!(seen.iter().all(|i| *i == seen[0]), "{seen:?}");
        // What moved is seen at the next look, with its growth over the looks before.
        rig.set(22 * MIB, 0);
        rig.turn();
        let growth = |rig: &Rig| rig.view.last().unwrap().growth.unwrap();
        assert!((8 * 1_048_576..=40 * 1_048_576).contains(&growth(&rig)), "{}", growth(&rig));
        let risen = rig.now;
        while rig.now < risen + Duration::from_secs(1) {
            rig.turn();
        }
        assert_eq!(growth(&rig), 0, "what it did before is over");
        rig.set(61 * MIB, 0);
        assert!(matches!(rig.turn(), Some(What::Above { .. })));
    }

    /// A guard that is edited, or an answer that was not acted on, is judged anew although nothing moved.
    #[test]
    fn an_edit_is_judged_although_nothing_moved() {
        let mut rig = Rig::new("104857600\n");
        rig.set(20 * MIB, 0);
        while rig.now < Duration::from_millis(900) {
            assert!(rig.turn().is_none());
        }
        rig.sampler.obey(Command::Rule(TargetId(1), rule("10"), 1), rig.now);
        assert!(matches!(rig.turn(), Some(What::Above { .. })));
    }

    /// Memory can take the place of cache that somebody gave up, below the limit: no counter tells, but usage moves.
    #[test]
    fn a_fall_of_usage_is_no_reason_to_trust_the_cache_last_read() {
        let mut rig = Rig::new("104857600\n");
        rig.set(75 * MIB, 30 * MIB);
        for _ in 0..4 {
            assert!(rig.turn().is_none());
        }
        rig.set(68 * MIB, 5 * MIB);
        assert!(matches!(rig.turn(), Some(What::Above { .. })));
    }

    #[test]
    fn a_fast_rise_is_looked_at_when_it_crosses() {
        let mut rig = Rig::new("104857600\n");
        rig.set(50 * MIB, 0);
        rig.turn();
        rig.turn();
        let before = rig.view.last().unwrap().sample.at;
        rig.set(57 * MIB, 0);
        rig.turn();
        let look = rig.view.last().unwrap();
        // 7 MiB since the look before, 3 more to its threshold.
        let expected = (look.sample.at - before).mul_f64(3.0 / 7.0).max(Duration::from_millis(1));
        let within = look.next - look.sample.at;
        assert!(within <= expected + Duration::from_micros(10), "{within:?}, not {expected:?}");
        assert_eq!(rig.now, look.next, "and no wake-up of another's is taken for it");
    }

    #[test]
    fn kills_in_a_container_that_is_far_are_told_within_five_seconds_and_sooner_where_it_is_near() {
        for (usage, within) in [(20, 5_100), (59, 1_100)] {
            let mut rig = Rig::new("104857600\n");
            rig.set(usage * MIB, 0);
            while rig.now < Duration::from_millis(1_500) {
                assert!(rig.turn().is_none());
            }
            write(rig.dir.path(), "memory.events", "max 0\noom_kill 1\n");
            let (killed, mut told) = (rig.now, None);
            while told.is_none() && rig.now < Duration::from_secs(20) {
                told = rig.turn();
            }
            assert!(matches!(told, Some(What::Killed { .. })), "{told:?}");
            assert!(rig.now - killed <= Duration::from_millis(within), "{usage}: {:?}", rig.now - killed);
        }
    }

    /// Whoever asks to be told again is, although nothing moves; and a dip that found no place is told later.
    #[test]
    fn what_is_to_be_told_is_told_although_nothing_moves() {
        let mut rig = Rig::new("104857600\n");
        rig.set(20 * MIB, 0);
        while rig.now < Duration::from_millis(900) {
            assert!(rig.turn().is_none());
        }
        rig.sampler.obey(Command::Rearm(TargetId(1)), rig.now);
        assert!(matches!(rig.turn(), Some(What::Dipped)));

        rig.set(61 * MIB, 0);
        assert!(matches!(rig.turn(), Some(What::Above { .. })));
        let (sender, reports) = mpsc::channel(1);
        let other = || Report { id: TargetId(9), edit: 0, what: What::NoLimit };
        sender.try_send(other()).unwrap();
        rig.sampler.reports = sender;
        rig.set(20 * MIB, 0);
        let full_until = rig.now + Duration::from_millis(800);
        while rig.now < full_until {
            let now = rig.now;
            rig.now = rig.sampler.sweep(&|| now);
        }
        rig.reports = reports;
        assert!(matches!(rig.reports.try_recv().unwrap().what, What::NoLimit));
        assert!(matches!(rig.turn(), Some(What::Dipped)));
    }

    #[test]
    fn stat_is_read_where_the_answer_depends_on_it() {
        let mut rig = Rig::new("104857600\n");
        rig.set(20 * MIB, 0);
        rig.turn();
        let first = rig.stat_reads();
        while rig.now < Duration::from_millis(900) {
            rig.turn();
        }
        assert_eq!(rig.stat_reads(), first, "far below: usage alone is the answer");
        rig.set(61 * MIB, 10 * MIB);
        rig.turn();
        let before = rig.stat_reads();
        rig.turn();
        rig.turn();
        assert!(rig.stat_reads() > before, "usage above: only stat can tell");
    }

    /// The size of `memory.stat` in the next test: so much more than all other files that bytes read tell how often it was read.
    const LARGE: usize = 10_000;

    /// How many bytes this thread has read.
    fn bytes_read() -> usize {
        let io = std::fs::read_to_string("/proc/thread-self/io").unwrap();
        io.lines().find_map(|line| line.strip_prefix("rchar: ")).unwrap().parse().unwrap()
    }

    /// What people are told of the memory is from reads that are made anyway: far from the threshold, near it, and at a verdict.
    #[test]
    fn no_read_is_made_for_people_alone() {
        let mut rig = Rig::new("104857600\n");
        let (mut reads, mut told) = (0, 0);
        for (until, usage) in [(1_000, 20), (1_060, 59), (1_100, 70)] {
            rig.set(usage * MIB, 0);
            let stat = format!("anon {}\ninactive_file 0\n", usage * MIB);
            write(rig.dir.path(), "memory.stat", &format!("{stat}{:filler$}", "", filler = LARGE - stat.len()));
            while rig.now < Duration::from_secs(until) {
                let before = bytes_read();
                told += usize::from(matches!(rig.turn(), Some(What::Above { .. })));
                reads += (bytes_read() - before) / LARGE;
            }
        }
        assert_eq!((told, reads as u64), (1, rig.stat_reads()));
    }

    /// It is never older than ten seconds and an interval, and at a verdict it is of that very moment.
    #[test]
    fn the_breakdown_is_that_of_the_last_read_or_of_the_verdict() {
        let mut rig = Rig::new("104857600\n");
        let kept = |rig: &Rig| rig.view.known().unwrap().breakdowns.at(rig.now);
        let mut changes = Vec::new();
        for (until, usage) in [(100, 20), (200, 59), (201, 70), (300, 71)] {
            while rig.now < Duration::from_secs(until) {
                rig.set(usage * MIB, 0);
                let anon = format!("anon {}\ninactive_file 0\n", rig.now.as_millis() << 10);
                write(rig.dir.path(), "memory.stat", &anon);
                let now = rig.now;
                let told = rig.turn();
                let (at, breakdown) = kept(&rig).unwrap();
                let age = now - at;
                assert!(age < Duration::from_millis(15_100), "{age:?} at {now:?}");
                assert!(breakdown.anonymous.0 >> 10 >= at.as_millis() as u64, "of that very text");
                match told {
                    Some(What::Above { .. }) => assert!(age < Duration::from_millis(100), "{age:?}"),
                    _ if changes.last() != Some(&at) => changes.push(at),
                    _ => {}
                }
            }
        }
        assert!((20..=32).contains(&changes.len()), "at most once each ten seconds: {changes:?}");
    }

    /// What is there after a kill says nothing of what led to it.
    #[test]
    fn the_breakdown_of_before_a_kill_is_kept() {
        let mut rig = Rig::new("104857600\n");
        let set = |rig: &Rig, mib: u64| {
            rig.set(mib * MIB, 0);
            write(rig.dir.path(), "memory.stat", &format!("anon {}\ninactive_file 0\n", mib * MIB));
        };
        set(&rig, 50);
        rig.samples(11_000);
        rig.now += Duration::from_secs(20); // the next read of stat is due
        set(&rig, 5);
        write(rig.dir.path(), "memory.events", "max 1\noom 1\noom_kill 1\n");
        assert!(matches!(rig.turn(), Some(What::Killed { .. })));
        let known = rig.view.known().unwrap();
        assert_eq!(known.breakdowns.at(rig.now).map(|(_, of)| of.anonymous), Some(Bytes(50 * MIB)));
    }

    #[test]
    fn near_by_memory_is_looked_at_every_5_ms_without_stat_each_time() {
        let mut rig = Rig::new("104857600\n");
        rig.set(59 * MIB, 0);
        rig.turn();
        let before = rig.stat_reads();
        let from = rig.now;
        for _ in 0..100 {
            rig.turn();
            assert!(rig.interval() < Duration::from_millis(8), "{:?}", rig.interval());
        }
        let seconds = (rig.now - from).as_secs_f64();
        let a_second = (rig.stat_reads() - before) as f64 / seconds;
        assert!(a_second < 8.0, "{a_second} stat reads a second");
    }

    #[test]
    fn a_resize_is_followed_within_a_second() {
        let mut rig = Rig::new("104857600\n");
        rig.set(50 * MIB, 0);
        rig.turn();
        write(rig.dir.path(), "memory.max", "83886080\n");
        let changed = rig.now;
        loop {
            let told = rig.turn();
            let waited = rig.now - changed;
            if let Some(What::Above { evidence, .. }) = told {
                assert_eq!(evidence.threshold, Bytes(48 * MIB));
                break;
            }
            assert!(waited < Duration::from_secs(2));
        }
    }

    /// Before the dip that it makes is told, and with what was there before, however little it takes at first.
    #[test]
    fn a_kill_is_told_before_the_dip_that_it_makes() {
        for (before, after) in [(80, 1), (61, 59)] {
            let mut rig = Rig::new("104857600\n");
            rig.set(before * MIB, 0);
            assert!(matches!(rig.turn(), Some(What::Above { .. })));
            rig.turn();
            write(rig.dir.path(), "memory.events", "oom 1\noom_kill 1\n");
            rig.set(after * MIB, 0);
            let now = rig.now;
            rig.sampler.sweep(&|| now);
            let told: Vec<_> = std::iter::from_fn(|| rig.reports.try_recv().ok()).map(|r| r.what).collect();
            let [What::Killed { last: Some(look), .. }, What::Dipped] = &told[..] else { panic!("{told:?}") };
            assert_eq!(look.sample.own.usage, Bytes(before * MIB));
        }
    }

    /// Five workers that are killed one after the other are five, with the limit that was hit, also where a full channel
    /// did not take it at first.
    #[test]
    fn kills_are_counted_with_the_limit_that_was_hit() {
        let mut rig = Rig::new("104857600\n");
        rig.set(59 * MIB, 0);
        let write = |dir: &Path, name, text: &str| write(dir, name, &format!("{text}max 0\n"));
        write(rig.dir.path(), "memory.events", "oom 0\noom_kill 0\noom_group_kill 0\n");
        while rig.now < Duration::from_millis(1_500) {
            assert!(rig.turn().is_none());
        }
        let (sender, reports) = mpsc::channel(1);
        let other = || Report { id: TargetId(9), edit: 0, what: What::NoLimit };
        sender.try_send(other()).unwrap();
        rig.sampler.reports = sender;
        write(rig.dir.path(), "memory.events", "oom 5\noom_kill 5\noom_group_kill 0\n");
        let full_until = rig.now + Duration::from_millis(1_200);
        while rig.now < full_until {
            let now = rig.now;
            rig.now = rig.sampler.sweep(&|| now);
        }
        rig.reports = reports;
        assert!(matches!(rig.reports.try_recv().unwrap().what, What::NoLimit));
        let mut told = None;
        while told.is_none() && rig.now < Duration::from_secs(20) {
            told = rig.turn();
        }
        assert!(matches!(told, Some(What::Killed { count: 5, together: false, hit: Hit::Own, .. })), "{told:?}");
        // In a group below, then by the node alone; at once all of a container.
        for (events, expected) in [
            ("oom 6\noom_kill 6\noom_group_kill 0\n", (1, false, Hit::Inside)),
            ("oom 6\noom_kill 8\noom_group_kill 0\n", (2, false, Hit::Node)),
            ("oom 6\noom_kill 9\noom_group_kill 1\n", (1, true, Hit::Node)),
        ] {
            write(rig.dir.path(), "memory.events.local", "oom 5\n");
            write(rig.dir.path(), "memory.events", events);
            let until = rig.now + Duration::from_secs(20);
            let mut told = None;
            while told.is_none() && rig.now < until {
                told = rig.turn();
            }
            let Some(What::Killed { count, together, hit, .. }) = told else { panic!("{told:?}") };
            assert_eq!((count, together, hit), expected);
        }
    }

    /// The end of what was asked to end is seen soon, though its memory is far below the threshold by then.
    #[test]
    fn an_end_that_is_awaited_is_seen_within_a_sixteenth_of_its_time() {
        let mut rig = Rig::new("104857600\n");
        rig.set(20 * MIB, 0);
        (0..5).for_each(|_| drop(rig.turn()));
        let interval = |rig: &mut Rig| {
            let before = rig.now;
            rig.turn();
            rig.now - before
        };
        assert!(interval(&mut rig) > 2 * SHORTEST_INTERVAL, "far");
        let began = rig.now;
        rig.sampler.obey(Command::Follow(TargetId(1)), rig.now);
        let first = interval(&mut rig);
        assert!(first <= SHORTEST_INTERVAL, "{first:?}");
        while rig.now < began + Duration::from_secs(1) {
            let most = SHORTEST_INTERVAL.max((rig.now - began) / 16 + SHORTEST_INTERVAL);
            let each = interval(&mut rig);
            assert!(each <= most, "{each:?} after {:?}", rig.now - began);
        }
    }

    #[test]
    fn that_an_eviction_may_come_soon_is_told_once_a_second() {
        let mut rig = Rig::new("104857600\n");
        let shared = Arc::clone(&rig.sampler.counters);
        let told = || shared.eviction_near.notified().now_or_never().is_some();
        rig.set(20 * MIB, 0);
        rig.turn();
        rig.turn();
        assert!(!told(), "far");
        rig.set(30 * MIB, 0);
        rig.turn();
        assert!(told(), "as it grows it has less than 2 s");
        rig.turn();
        assert!(!told(), "once a second is enough");
        rig.now += EVICTION_NEAR_EACH;
        rig.set(59 * MIB, 59 * MIB);
        rig.turn();
        rig.now += Duration::from_secs(2);
        while told() {}
        rig.set(59 * MIB, 0);
        rig.turn();
        rig.turn();
        assert!(told(), "just below");
    }

    #[test]
    fn no_limit_is_told_once() {
        let mut rig = Rig::new("max\n");
        rig.set(60 * MIB, 0);
        assert!(matches!(rig.turn(), Some(What::NoLimit)));
        assert!(rig.turn().is_none());
        write(rig.dir.path(), "memory.max", "104857600\n");
        let mut told = None;
        while told.is_none() {
            told = rig.turn();
        }
        assert!(matches!(told, Some(What::Dipped)), "at 60 % exactly: limited now, and under");
    }

    #[test]
    fn an_unreadable_file_is_told_once_and_tried_again() {
        let mut rig = Rig::new("104857600\n");
        write(rig.dir.path(), "memory.current", "");
        let told = rig.turn();
        assert!(
            matches!(&told, Some(What::Unreadable(e)) if e.to_string().ends_with("memory.current: is empty")),
            "{told:?}"
        );
        assert!(rig.turn().is_none());
        rig.set(61 * MIB, 0);
        assert!(matches!(rig.turn(), Some(What::Above { .. })));
    }

    #[test]
    fn an_edited_rule_holds_at_once() {
        let mut rig = Rig::new("104857600\n");
        rig.set(30 * MIB, 0);
        assert!(rig.turn().is_none());
        let rule = Rule {
            threshold: Threshold::Quantity(Bytes(20 * MIB)),
            signal: Signal::Usage,
            sustained_for: Duration::ZERO,
            force_delete: None,
            warn: None,
        };
        rig.sampler.obey(Command::Rule(TargetId(1), rule, 7), rig.now);
        let now = rig.now;
        rig.sampler.sweep(&|| now);
        let report = rig.reports.try_recv().unwrap();
        assert!(matches!(report.what, What::Above { .. }));
        assert_eq!(report.edit, 7);
        rig.sampler.obey(Command::Forget(TargetId(1)), rig.now);
        let next = rig.sampler.sweep(&|| now);
        assert_eq!(next, rig.now + LONGEST_INTERVAL);
    }
}
