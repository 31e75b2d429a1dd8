//! The sampling thread: who is due when, read, judge, hand over.
//!
//! It is a thread of its own, so that reading goes on while TLS, JSON or a slow server keep the
//! async side busy. It only ever waits for its next deadline or a command, and in the steady state
//! it allocates nothing.

use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::sync::mpsc::{Receiver, RecvTimeoutError};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use tokio::sync::Notify;
use tokio::sync::mpsc::Sender;

use crate::cgroup::{Group, Kills, Machine, ReadError};
use crate::guard::{Rule, Signal, Threshold};
use crate::policy::{Evidence, History, LONGEST_LOOK, Level, Moment, Sample, Verdict, next_look, time_left};
use crate::resolve::Groups;
use crate::restraint;
use crate::units::Bytes;

/// A container whose next look is due sooner than this by its usage alone may be near a kill: what
/// else is charged with it is worth reading.
const NEAR: Duration = Duration::from_millis(50);
/// How old the cache last read may be for a near container. Older, and it is read again, in case
/// cache was exchanged for memory at the same usage.
const STAT_AGE: Duration = Duration::from_millis(250);
/// Nor is what people are shown of it ever older than this.
const SHOWN_STAT_AGE: Duration = Duration::from_secs(10);
/// Limits are read again at least so often: an in-place resize rewrites them.
const LIMIT_AGE: Duration = Duration::from_secs(1);
/// How old the usage of a near container's pod may be. Between, it is taken to have moved as the
/// container's has.
const POD_AGE: Duration = NEAR;
/// A container that is over and handed over needs no close look: whoever acts reads again.
const HANDED_OVER_LOOK: Duration = Duration::from_millis(50);
/// A container that is to be looked at again sooner than this, or would cross its threshold within
/// [`SOON`] as it grows, may be evicted in a moment: the connection for it is best there already.
const CLOSE: Duration = Duration::from_millis(30);
/// See [`CLOSE`].
const SOON: Duration = Duration::from_secs(2);
/// That an eviction may come is told so often.
const EVICTION_NEAR_EACH: Duration = Duration::from_secs(1);
/// A file that cannot be read is tried again so often.
const UNREADABLE_LOOK: Duration = LONGEST_LOOK;
/// A look may come early by this part of its interval, to share a wake-up.
const EARLY_PART: u32 = 4;

/// The one clock: moments are counted from its making.
#[derive(Clone, Copy, Debug)]
pub struct Clock {
    start: Instant,
}

impl Clock {
    /// Starts counting.
    #[must_use]
    #[expect(clippy::disallowed_methods, reason = "the one clock")]
    pub fn start() -> Clock {
        Clock { start: Instant::now() }
    }

    /// One that was started so long ago.
    #[cfg(test)]
    #[must_use]
    pub fn started(ago: Duration) -> Clock {
        let Clock { start } = Clock::start();
        Clock { start: start - ago }
    }

    /// The time since the start.
    #[must_use]
    #[expect(clippy::disallowed_methods, reason = "the one clock")]
    pub fn now(&self) -> Moment {
        Instant::now() - self.start
    }

    /// A moment as tokio's timers want it.
    #[must_use]
    pub fn instant(&self, at: Moment) -> tokio::time::Instant {
        (self.start + at).into()
    }
}

/// Names a target between the two sides; never used twice.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct TargetId(pub u64);

/// What the sampler is told.
#[derive(Debug)]
pub enum Command {
    /// Look at these groups from now on.
    Watch(Box<Watch>),
    /// The guard was edited. Reports carry the number from then on.
    Rule(TargetId, Rule, u32),
    /// What was told as over was not acted on: tell again if it still is.
    Rearm(TargetId),
    /// Look no more.
    Forget(TargetId),
}

/// A target to look at.
#[derive(Debug)]
pub struct Watch {
    /// Its name.
    pub id: TargetId,
    /// Its open groups.
    pub groups: Groups,
    /// What is asked of it.
    pub rule: Rule,
    /// Where the last look is left for readers.
    pub view: Arc<View>,
}

/// What the sampler tells, once each time it changes.
#[derive(Debug)]
pub struct Report {
    /// Of which target.
    pub id: TargetId,
    /// By which edit of its guard; the first is 0.
    pub edit: u32,
    /// What.
    pub what: What,
}

/// The content of a [`Report`].
#[derive(Debug)]
pub enum What {
    /// It is over.
    Over {
        /// What that rests on.
        evidence: Evidence,
        /// How long ago the last look was at which it was not: the crossing was since then.
        since_last_look: Option<Duration>,
    },
    /// It was told as over, and now its end is near, or it is past `force-delete-threshold` too.
    Worse(Evidence),
    /// It is not over any more.
    Dipped,
    /// A percentage without a limit.
    NoLimit,
    /// A quantity not below the limit.
    BeyondLimit,
    /// The kernel has killed one of its processes for lack of memory.
    Killed {
        /// No limit of it or its pod was hit: the node ran out of memory.
        node_wide: bool,
        /// The look before.
        look: Option<Box<LastLook>>,
    },
    /// A file of its group cannot be read.
    Unreadable(ReadError),
    /// Its group was removed. The target is forgotten.
    Gone,
}

impl What {
    /// For how long it may wait: what is over by the time until its room is used up.
    fn time_left(&self) -> Duration {
        match self {
            What::Killed { .. } => Duration::ZERO,
            What::Over { evidence: e, .. } | What::Worse(e) => {
                time_left(e.room, e.growth).unwrap_or(Duration::from_secs(u64::from(u32::MAX)))
            }
            _ => Duration::MAX,
        }
    }
}

/// The last look at a target, for people.
#[derive(Debug, Default)]
pub struct View(Mutex<Option<LastLook>>);

/// See [`View`].
#[derive(Clone, Copy, Debug)]
pub struct LastLook {
    /// What was read. Stat only where this look read it.
    pub sample: Sample,
    /// The last known value of the signal; at most usage.
    pub value: Option<Bytes>,
    /// The threshold in bytes.
    pub threshold: Option<Bytes>,
    /// What is left before a kill.
    pub room: Option<Bytes>,
    /// Bytes a second.
    pub growth: Option<i64>,
    /// What was found.
    pub verdict: Verdict,
    /// When it is looked at next.
    pub next: Moment,
    /// The kernel's count of kills in this group.
    pub oom_kills: Option<u64>,
}

impl View {
    /// The last look; `None` before the first.
    #[must_use]
    pub fn last(&self) -> Option<LastLook> {
        // A reader that panicked left a whole value: it is only ever replaced.
        *self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Leaves a look that grows by so many bytes a second, for tests of readers.
    #[cfg(test)]
    pub fn show(&self, sample: Sample, growth: i64) {
        self.set(LastLook {
            sample,
            value: Some(sample.own.usage),
            threshold: None,
            room: sample.room(),
            growth: Some(growth),
            verdict: Verdict::Under,
            next: sample.at,
            oom_kills: None,
        });
    }

    fn set(&self, look: LastLook) {
        *self.0.lock().unwrap_or_else(PoisonError::into_inner) = Some(look);
    }
}

/// Counts for `/metrics` and `/healthz`, and what the other side tells in return.
#[derive(Debug, Default)]
pub struct Shared {
    /// Looks at a target.
    pub looks: AtomicU64,
    /// Of these, such as read `memory.stat`.
    pub stat_reads: AtomicU64,
    /// Looks that read the limits and the kernel's counts of kills, too.
    pub limit_reads: AtomicU64,
    /// Times the thread woke up.
    pub wakeups: AtomicU64,
    /// Told when an eviction may come soon.
    pub eviction_near: Notify,
    /// Milliseconds after the start at which the thread last turned.
    pub turned_at: AtomicU64,
    /// How long an eviction takes, in nanoseconds, as observed; 0: not yet.
    pub eviction_takes: AtomicU64,
}

/// What an eviction takes before one was seen: SIGTERM and exit 25–41 ms after the POST (measured
/// on an idle cluster), and a network between.
pub const EVICTION_TAKES: Duration = Duration::from_millis(60);

impl Shared {
    /// How long an eviction takes, as observed.
    #[must_use]
    pub fn eviction_takes(&self) -> Duration {
        match self.eviction_takes.load(Relaxed) {
            0 => EVICTION_TAKES,
            nanos => Duration::from_nanos(nanos),
        }
    }
}

/// Reads everything there is to know of a target; `None` if its group is gone.
///
/// # Errors
/// When a file cannot be read or is not of its form.
pub fn read_all(groups: &Groups, machine: Machine, at: Moment) -> Result<Option<Sample>, ReadError> {
    let with_stat = |group: &Group| -> Result<Option<Level>, ReadError> {
        let Some(stat) = group.stat()? else {
            return Ok(None);
        };
        Ok(level(group, machine)?.map(|level| Level { stat: Some(stat), ..level }))
    };
    let Some(own) = with_stat(&groups.own)? else {
        return Ok(None);
    };
    // That the pod's cannot be read must not stop the guard: then the container's own limit is what counts.
    let pod = groups.pod.as_ref().and_then(|pod| with_stat(pod).ok()?);
    Ok(Some(Sample { at, own, pod }))
}

/// Usage and limits of a group; `None` if it is gone.
fn level(group: &Group, machine: Machine) -> Result<Option<Level>, ReadError> {
    // Usage last: memory that comes between the reads makes a container seem nearer, not farther.
    let Some(limit) = group.limit()? else {
        return Ok(None);
    };
    // That swap cannot be read must not stop the guard; without it the kill is nearer.
    let swap_left = group.swap_left().unwrap_or_default();
    let usage = group.usage()?;
    Ok(usage.map(|usage| Level { usage, limit: limit.effective(machine), stat: None, swap_left }))
}

/// What was last told of a target.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Told {
    /// Nothing that still holds.
    Nothing,
    /// Whatever it is, it is to be told again.
    Again,
    /// That it is over.
    Over(Worse),
    /// [`What::NoLimit`].
    NoLimit,
    /// [`What::BeyondLimit`].
    BeyondLimit,
    /// [`What::Unreadable`].
    Unreadable,
    /// [`What::Gone`].
    Gone,
}

/// How bad it was told to be.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Worse {
    urgent: bool,
    critical: bool,
}

impl Worse {
    const WORST: Worse = Worse { urgent: true, critical: true };

    fn of(evidence: &Evidence, takes: Duration) -> Worse {
        let urgent = restraint::is_urgent(evidence.room, evidence.growth_at_least, takes);
        Worse { urgent, critical: evidence.critical }
    }

    fn and(self, other: Worse) -> Worse {
        Worse { urgent: self.urgent || other.urgent, critical: self.critical || other.critical }
    }
}

/// A target: what is read of it is judged, and told once each time it changes.
#[derive(Debug)]
pub struct Target {
    id: TargetId,
    groups: Groups,
    rule: Rule,
    view: Arc<View>,
    history: History,
    /// As last read, with stat where it was: the cache is still about what it was.
    last: Option<Sample>,
    stat_read_at: Moment,
    pod_read_at: Moment,
    limits_read_at: Option<Moment>,
    not_over_at: Option<Moment>,
    kills: Option<Kills>,
    pod_kills: Option<Kills>,
    edit: u32,
    told: Told,
    /// An eviction may come soon.
    near: bool,
    due: Due,
}

/// When a target is to be looked at.
#[derive(Clone, Copy, Debug)]
struct Due {
    at: Moment,
    /// From when on it may share another's wake-up.
    early: Moment,
}

impl Target {
    /// One that is due at once.
    #[must_use]
    pub fn new(watch: Watch, now: Moment) -> Target {
        Target {
            id: watch.id,
            groups: watch.groups,
            rule: watch.rule,
            view: watch.view,
            history: History::default(),
            last: None,
            stat_read_at: Moment::ZERO,
            pod_read_at: Moment::ZERO,
            limits_read_at: None,
            not_over_at: None,
            kills: None,
            pod_kills: None,
            edit: 0,
            told: Told::Nothing,
            near: false,
            due: Due { at: now, early: now },
        }
    }

    /// Reads what this look needs: usage always, limits once a second, stat and the pod's group
    /// only where the answer can depend on them. `None`: the group is gone.
    fn read(
        &mut self,
        now: Moment,
        machine: Machine,
        takes: Duration,
        shared: &Shared,
    ) -> Result<Option<Sample>, ReadError> {
        let old = |read_at: Moment, age: Duration| now.saturating_sub(read_at) >= age;
        let Some(last) = self.last else {
            return self.read_all(now, machine, shared);
        };
        let limits_old = self.limits_read_at.is_none_or(|at| old(at, LIMIT_AGE));
        let own = match limits_old {
            true => level(&self.groups.own, machine)?,
            false => self.groups.own.usage()?.map(|usage| Level { usage, stat: None, ..last.own }),
        };
        let Some(own) = own else {
            return Ok(None);
        };
        // The pod's has moved by as much, unless others in it moved too.
        let moved = |pod: Level| pod.usage.plus(own.usage.less(last.own.usage)).less(last.own.usage.less(own.usage));
        let pod = last.pod.map(|pod| Level { usage: moved(pod), ..pod });
        let mut sample = Sample { at: now, own, pod };
        if limits_old {
            shared.limit_reads.fetch_add(1, Relaxed);
            self.limits_read_at = Some(now);
            self.pod_read_at = now;
            let read = self.groups.pod.as_ref().and_then(|pod| level(pod, machine).ok()?);
            sample.pod = read.map(|pod| Level { stat: last.pod.and_then(|p| p.stat), ..pod });
        }

        let by_usage = |s: &Sample| next_look(&self.rule, s, s.room(), self.history.growth(), takes);
        let threshold = sample.threshold(&self.rule);
        let undecided = self.rule.signal != Signal::Usage && threshold.is_some_and(|t| own.usage > t);
        let due = by_usage(&sample);
        let stat_matters = due < NEAR && {
            let with_cache = Sample { own: Level { stat: last.own.stat, ..own }, ..sample };
            by_usage(&with_cache) > 2 * due || old(self.stat_read_at, STAT_AGE)
        };
        // Full of cache, and nothing has moved since the look before, which did read it: one look may do without. (While
        // memory grows at the limit in exchange for cache, usage is the same at a tenth to a third of looks: measured.)
        let nothing_moved = self.stat_read_at == last.at
            && own.usage == last.own.usage
            && last.own.value(self.rule.signal).is_some_and(|v| threshold.is_some_and(|t| v <= t));
        if (undecided || stat_matters) && !nothing_moved || old(self.stat_read_at, SHOWN_STAT_AGE) {
            shared.stat_reads.fetch_add(1, Relaxed);
            let Some(stat) = self.groups.own.stat()? else {
                return Ok(None);
            };
            sample.own.stat = Some(stat);
            self.stat_read_at = now;
        }
        let over = (sample.own.value(self.rule.signal)).is_some_and(|v| threshold.is_some_and(|t| v > t));
        if over {
            // A verdict rests on everything read anew.
            return self.read_all(now, machine, shared);
        }
        if due < NEAR
            && old(self.pod_read_at, POD_AGE)
            && let (Some(group), Some(pod)) = (&self.groups.pod, &mut sample.pod)
            && let Ok(Some(usage)) = group.usage()
        {
            self.pod_read_at = now;
            pod.usage = usage;
            // Its cache matters where, as last known, it makes the pod the nearer of the two.
            if sample.own.stat.is_some() && pod.limit.is_some() && pod.room() < sample.own.room() {
                pod.stat = group.stat().ok().flatten().or(pod.stat);
            }
        }
        Ok(Some(sample))
    }

    fn read_all(&mut self, now: Moment, machine: Machine, shared: &Shared) -> Result<Option<Sample>, ReadError> {
        shared.stat_reads.fetch_add(1, Relaxed);
        shared.limit_reads.fetch_add(1, Relaxed);
        self.limits_read_at = Some(now);
        self.stat_read_at = now;
        self.pod_read_at = now;
        read_all(&self.groups, machine, now)
    }

    /// One look: read, see whether there was a kill, and judge.
    fn look(&mut self, now: Moment, machine: Machine, shared: &Shared) -> (Option<What>, Option<(What, Told)>) {
        let takes = shared.eviction_takes();
        let read = self.read(now, machine, takes, shared);
        let killed = self.killed(now, &read);
        (killed, self.judge(now, read, takes))
    }

    /// Remembers what was read, judges it, and says when to look again. Answers what is to be
    /// told; once that is done, [`Target::told`] keeps it from being told again.
    pub fn judge(
        &mut self,
        now: Moment,
        read: Result<Option<Sample>, ReadError>,
        takes: Duration,
    ) -> Option<(What, Told)> {
        let sample = match read {
            Ok(Some(sample)) => sample,
            Ok(None) => return Some((What::Gone, Told::Gone)),
            Err(error) => {
                self.last = None;
                self.history.interrupted();
                self.wait(now, UNREADABLE_LOOK);
                return (self.told != Told::Unreadable).then_some((What::Unreadable(error), Told::Unreadable));
            }
        };
        let verdict = self.history.observe(&self.rule, &sample, takes);
        let growth = self.history.growth();

        // Where this look read no stat, the last one stands for it: that it is not too old is seen to above.
        let stat = sample.own.stat.or(self.last.and_then(|l| l.own.stat));
        let known = Sample { own: Level { stat, ..sample.own }, ..sample };
        let room = known.room();
        let interval = match verdict {
            Verdict::Over(_) if matches!(self.told, Told::Over(_)) => match self.rule.force_delete {
                Some(percent) if self.told != Told::Over(Worse::WORST) => {
                    let rule = Rule { threshold: Threshold::Percent(percent), ..self.rule };
                    next_look(&rule, &known, room, growth, takes).min(HANDED_OVER_LOOK)
                }
                _ => HANDED_OVER_LOOK,
            },
            _ => next_look(&self.rule, &known, room, growth, takes),
        };
        self.wait(now, interval);
        let missing =
            known.threshold(&self.rule).zip(known.own.value(self.rule.signal)).map(|(t, value)| t.less(value));
        self.near = interval < CLOSE || time_left(missing, growth).is_some_and(|left| left < SOON);
        self.last = Some(known);
        self.view.set(LastLook {
            sample,
            value: known.own.value(self.rule.signal),
            threshold: known.threshold(&self.rule),
            room,
            growth,
            verdict,
            next: self.due.at,
            oom_kills: self.kills.map(|k| k.killed),
        });
        if !matches!(verdict, Verdict::Over(_)) {
            self.not_over_at = Some(now);
        }
        match (verdict, self.told) {
            (Verdict::Over(evidence), Told::Over(told)) => {
                let worse = told.and(Worse::of(&evidence, takes));
                (worse != told).then_some((What::Worse(evidence), Told::Over(worse)))
            }
            (Verdict::NoLimit, Told::NoLimit) | (Verdict::BeyondLimit, Told::BeyondLimit) => None,
            (Verdict::Over(evidence), _) => {
                let since_last_look = self.not_over_at.take().map(|at| now.saturating_sub(at));
                let told = Told::Over(Worse::of(&evidence, takes));
                Some((What::Over { evidence, since_last_look }, told))
            }
            (Verdict::NoLimit, _) => Some((What::NoLimit, Told::NoLimit)),
            (Verdict::BeyondLimit, _) => Some((What::BeyondLimit, Told::BeyondLimit)),
            (Verdict::Under | Verdict::Sustaining { .. }, Told::Nothing) => None,
            (Verdict::Under | Verdict::Sustaining { .. }, _) => Some((What::Dipped, Told::Nothing)),
        }
    }

    /// Whether the kernel has killed in it since the last time this was asked: once a second, and
    /// when most of its memory is gone since the look before, for a kill may be why.
    fn killed(&mut self, now: Moment, read: &Result<Option<Sample>, ReadError>) -> Option<What> {
        let is = read.as_ref().ok()?.as_ref()?.own.usage.0;
        let fell = self.last.is_some_and(|was| is < was.own.usage.0 / 2);
        if self.limits_read_at != Some(now) && !fell {
            return None;
        }
        let own = self.groups.own.kills();
        let own_before = std::mem::replace(&mut self.kills, own);
        let killed = own?.killed > own_before.map_or(0, |k| k.killed);
        if own_before.is_some() && !killed {
            return None;
        }
        let pod = self.groups.pod.as_ref().and_then(|p| p.kills());
        let pod_before = std::mem::replace(&mut self.pod_kills, pod);
        own_before?;
        let hit = |before: Option<Kills>, after: Option<Kills>| Some(after?.limit_hit? > before?.limit_hit?);
        let by_a_limit = hit(own_before, own).unwrap_or(true) || hit(pod_before, pod).unwrap_or(false);
        Some(What::Killed { node_wide: !by_a_limit, look: self.view.last().map(Box::new) })
    }

    /// Takes it as told.
    pub fn told(&mut self, told: Told) {
        self.told = told;
    }

    /// The guard was edited.
    pub fn edited(&mut self, rule: Rule, edit: u32, now: Moment) {
        self.rule = rule;
        self.edit = edit;
        self.history.interrupted();
        self.told = Told::Again;
        self.due = Due { at: now, early: now };
    }

    /// What was told was not acted on.
    pub fn rearm(&mut self) {
        self.told = Told::Again;
    }

    /// As it is handed over.
    #[must_use]
    pub fn report(&self, what: What) -> Report {
        Report { id: self.id, edit: self.edit, what }
    }

    /// When to look again.
    #[must_use]
    pub fn due(&self) -> Moment {
        self.due.at
    }

    fn wait(&mut self, now: Moment, interval: Duration) {
        let at = now + interval;
        self.due = Due { at, early: at - interval / EARLY_PART };
    }
}

/// See the module.
#[derive(Debug)]
pub struct Sampler {
    targets: Vec<Target>,
    /// When each of them is due: once more and by itself, for a sweep asks all of them.
    due: Vec<Due>,
    machine: Machine,
    shared: Arc<Shared>,
    reports: Sender<Report>,
    /// What a sweep finds, with the time it leaves; kept for its memory.
    found: Vec<(Duration, usize, What, Option<Told>)>,
    /// When it was last told that an eviction may come soon.
    near_told_at: Option<Moment>,
}

impl Sampler {
    /// A sampler without targets.
    #[must_use]
    pub fn new(machine: Machine, shared: Arc<Shared>, reports: Sender<Report>) -> Sampler {
        Sampler {
            targets: Vec::new(),
            due: Vec::new(),
            machine,
            shared,
            reports,
            found: Vec::new(),
            near_told_at: None,
        }
    }

    /// Turns until all senders of commands are gone.
    pub fn run(mut self, clock: Clock, commands: &Receiver<Command>) {
        loop {
            let now = clock.now();
            let turned = u64::try_from(now.as_millis()).unwrap_or(u64::MAX);
            self.shared.turned_at.store(turned, Relaxed);
            self.shared.wakeups.fetch_add(1, Relaxed);
            let next = self.sweep(now);
            // Half of a core at most, even where everything is near at once.
            let done = clock.now();
            let rest = next.saturating_sub(done).max(done.saturating_sub(now));
            match commands.recv_timeout(rest) {
                Ok(first) => {
                    let now = clock.now();
                    self.obey(first, now);
                    // Whatever else has come in is taken in before the next sweep.
                    while let Ok(command) = commands.try_recv() {
                        self.obey(command, now);
                    }
                }
                Err(RecvTimeoutError::Timeout) => {}
                Err(RecvTimeoutError::Disconnected) => return,
            }
        }
    }

    /// Takes a command in.
    pub fn obey(&mut self, command: Command, now: Moment) {
        let found = |id| self.targets.iter().position(|t| t.id == id);
        match command {
            Command::Watch(watch) => {
                let target = Target::new(*watch, now);
                self.due.push(target.due);
                self.targets.push(target);
            }
            Command::Rule(id, rule, edit) => {
                if let Some(i) = found(id) {
                    self.targets[i].edited(rule, edit, now);
                    self.due[i] = self.targets[i].due;
                }
            }
            Command::Rearm(id) => {
                if let Some(i) = found(id) {
                    self.targets[i].rearm();
                }
            }
            Command::Forget(id) => {
                if let Some(i) = found(id) {
                    self.forget(i);
                }
            }
        }
    }

    fn forget(&mut self, i: usize) {
        self.targets.swap_remove(i);
        self.due.swap_remove(i);
    }

    /// Looks at all that are due, and at those that may as well be looked at now. Answers when it
    /// is to be called again, at most [`LONGEST_LOOK`] later.
    pub fn sweep(&mut self, now: Moment) -> Moment {
        let mut next = now + LONGEST_LOOK;
        let (mut near, mut looks) = (false, 0);
        for (i, due) in self.due.iter_mut().enumerate() {
            if due.early <= now {
                looks += 1;
                let target = &mut self.targets[i];
                let (killed, found) = target.look(now, self.machine, &self.shared);
                near |= target.near;
                *due = target.due;
                if let Some(what) = killed {
                    self.found.push((what.time_left(), i, what, None));
                }
                if let Some((what, told)) = found {
                    self.found.push((what.time_left(), i, what, Some(told)));
                }
            }
            next = next.min(due.at);
        }
        self.shared.looks.fetch_add(looks, Relaxed);
        if near && self.near_told_at.is_none_or(|at| now.saturating_sub(at) >= EVICTION_NEAR_EACH) {
            self.near_told_at = Some(now);
            self.shared.eviction_near.notify_one();
        }
        self.tell(now);
        next
    }

    /// Tells what a sweep found, those with the least time left first. A full channel loses
    /// nothing: what was not taken is found again at the next look.
    fn tell(&mut self, now: Moment) {
        if self.found.is_empty() {
            return;
        }
        self.found.sort_unstable_by_key(|(left, ..)| *left);
        let mut gone = false;
        for (_, i, what, told) in self.found.drain(..) {
            let target = &mut self.targets[i];
            let taken = self.reports.try_send(target.report(what)).is_ok();
            match (taken, told) {
                (true, Some(told)) => {
                    gone |= told == Told::Gone;
                    target.told(told);
                }
                (false, Some(Told::Gone)) => {
                    target.wait(now, HANDED_OVER_LOOK);
                    self.due[i] = target.due;
                }
                (false, None) => {
                    let uncounted = |k: Kills| Kills { killed: k.killed.saturating_sub(1), ..k };
                    target.kills = target.kills.map(uncounted);
                }
                _ => {}
            }
        }
        if gone {
            for i in (0..self.targets.len()).rev().filter(|i| self.targets[*i].told == Told::Gone).collect::<Vec<_>>() {
                self.forget(i);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cgroup::Version;
    use crate::guard::Threshold;
    use crate::units::Percent;
    use futures::FutureExt;
    use std::path::Path;
    use tokio::sync::mpsc;

    const MIB: u64 = 1 << 20;
    const MACHINE: Machine = Machine::new(Bytes(8 << 30), Bytes(0));

    /// A fixture group with one limit, and a sampler that watches it at 60 %.
    struct Rig {
        dir: tempfile::TempDir,
        sampler: Sampler,
        reports: mpsc::Receiver<Report>,
        view: Arc<View>,
        now: Moment,
    }

    fn write(dir: &Path, name: &str, text: &str) {
        std::fs::write(dir.join(name), text).unwrap();
    }

    impl Rig {
        fn new(limit: &str) -> Rig {
            let dir = tempfile::tempdir().unwrap();
            write(dir.path(), "memory.max", limit);
            write(dir.path(), "memory.events", "oom_kill 0\n");
            let (sender, reports) = mpsc::channel(4);
            let mut rig = Rig {
                dir,
                sampler: Sampler::new(MACHINE, Arc::default(), sender),
                reports,
                view: Arc::default(),
                now: Moment::ZERO,
            };
            rig.set(0, 0);
            let group = Group::open(rig.dir.path(), Version::V2, MACHINE).unwrap();
            let watch = Watch {
                id: TargetId(1),
                groups: Groups { own: Arc::new(group.unwrap()), pod: None, stands_for_container: false },
                rule: Rule {
                    threshold: Threshold::Percent(Percent::parse("60").unwrap()),
                    signal: Signal::WorkingSet,
                    sustained_for: Duration::ZERO,
                    force_delete: None,
                },
                view: Arc::clone(&rig.view),
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
            let next = self.sampler.sweep(self.now);
            self.now = next;
            self.reports.try_recv().ok().map(|r| r.what)
        }

        fn interval(&self) -> Duration {
            let look = self.view.last().unwrap();
            look.next - look.sample.at
        }

        fn stat_reads(&self) -> u64 {
            self.sampler.shared.stat_reads.load(Relaxed)
        }
    }

    #[test]
    fn over_is_told_once_until_it_dips() {
        let mut rig = Rig::new("104857600\n");
        assert!(rig.turn().is_none());
        rig.set(60 * MIB, 0);
        assert!(rig.turn().is_none(), "at the threshold exactly");
        rig.set(60 * MIB + 1, 0);
        assert!(matches!(rig.turn(), Some(What::Over { .. })));
        assert!(rig.turn().is_none());
        rig.set(MIB, 0);
        assert!(matches!(rig.turn(), Some(What::Dipped)));
        rig.set(61 * MIB, 0);
        assert!(matches!(rig.turn(), Some(What::Over { .. })));
        rig.sampler.obey(Command::Rearm(TargetId(1)), rig.now);
        assert!(matches!(rig.turn(), Some(What::Over { .. })), "told again when asked to");
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
        assert!(matches!(rig.turn(), Some(What::Over { .. })));
    }

    #[test]
    fn cache_at_the_limit_is_neither_over_nor_near() {
        let mut rig = Rig::new("104857600\n");
        rig.set(100 * MIB, 60 * MIB);
        for _ in 0..20 {
            assert!(rig.turn().is_none());
            assert!(rig.interval() > Duration::from_millis(30), "{:?}", rig.interval());
        }
        assert_eq!(rig.stat_reads(), 10, "nothing moves: at each second look");
        rig.set(100 * MIB, 39 * MIB);
        let told = rig.turn().or_else(|| rig.turn());
        assert!(matches!(told, Some(What::Over { .. })), "cache was exchanged for memory");
        assert!(rig.turn().is_none() && rig.turn().is_none(), "and it stays over");
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
            if let Some(What::Over { evidence, .. }) = told {
                assert_eq!(evidence.threshold, Bytes(48 * MIB));
                break;
            }
            assert!(waited < Duration::from_secs(2));
        }
    }

    /// Before the dip that it makes is told, and with what was there before.
    #[test]
    fn a_kill_is_told_before_the_dip_that_it_makes() {
        let mut rig = Rig::new("104857600\n");
        rig.set(80 * MIB, 0);
        assert!(matches!(rig.turn(), Some(What::Over { .. })));
        rig.turn();
        write(rig.dir.path(), "memory.events", "oom 1\noom_kill 1\n");
        rig.set(MIB, 0);
        rig.sampler.sweep(rig.now);
        let told: Vec<_> = std::iter::from_fn(|| rig.reports.try_recv().ok()).map(|r| r.what).collect();
        let [What::Killed { look: Some(look), .. }, What::Dipped] = &told[..] else { panic!("{told:?}") };
        assert_eq!(look.sample.own.usage, Bytes(80 * MIB));
    }

    #[test]
    fn that_an_eviction_may_come_soon_is_told_once_a_second() {
        let mut rig = Rig::new("104857600\n");
        let shared = Arc::clone(&rig.sampler.shared);
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
        assert!(matches!(rig.turn(), Some(What::Over { .. })));
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
        };
        rig.sampler.obey(Command::Rule(TargetId(1), rule, 7), rig.now);
        rig.sampler.sweep(rig.now);
        let report = rig.reports.try_recv().unwrap();
        assert!(matches!(report.what, What::Over { .. }));
        assert_eq!(report.edit, 7);
        rig.sampler.obey(Command::Forget(TargetId(1)), rig.now);
        let next = rig.sampler.sweep(rig.now);
        assert_eq!(next, rig.now + LONGEST_LOOK);
    }
}
