//! One target: what is read of it, and when; what is judged, and told once each time it changes.

use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;
use std::time::Duration;

use super::{LastLook, Latency, Report, Shared, TargetId, View, Watch, What};
use crate::cgroup::resolve::Groups;
use crate::cgroup::{Group, Hit, Kills, ReadError, StatRead, StatReader};
use crate::decide::judge::{Evidence, History, Verdict};
use crate::decide::schedule::{LONGEST_LOOK, SHORTEST_LOOK, crossing, next_look, time_left};
use crate::ground::clock::Moment;
use crate::ground::memory::Signal;
use crate::ground::memory::Stat;
use crate::ground::memory::{Level, Sample, TORN};
use crate::ground::units::Bytes;
use crate::pods::guard::{Rule, Threshold};

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
/// So often the pod's group and the count of kills of a container that is far from its own limit: nothing that is done
/// soon depends on them. Reading them each second, too, would be a third of what a quiet node costs (measured).
const FAR_AGE: Duration = Duration::from_secs(5);
/// How old the usage of a near container's pod may be. Between, it is taken to have moved as the
/// container's has.
const POD_AGE: Duration = NEAR;
/// A container that is over and handed over may have to wait for its turn: it takes three looks to see that it has not the
/// time for that. While its usage rises it is looked at as often as any that is near.
const HANDED_OVER_LOOK: Duration = Duration::from_millis(10);
/// Reads that lie too far apart ([`TORN`]) are made again, up to so often in all. After that no haste rests on them.
const TRIES: usize = 3;
/// A container that is to be looked at again sooner than this, or would cross its threshold within
/// [`SOON`] as it grows, may be evicted in a moment: the connection for it is best there already.
const CLOSE: Duration = Duration::from_millis(30);
/// See [`CLOSE`].
const SOON: Duration = Duration::from_secs(2);
/// A file that cannot be read is tried again so often.
const UNREADABLE_LOOK: Duration = LONGEST_LOOK;
/// A look may come early by this part of its interval, to share a wake-up: that costs as much as ten looks (measured), and
/// a half makes two of five out of those that a quarter leaves.
const EARLY_PART: u32 = 2;

/// Whether what was read then is as old as this by now.
fn is_old(read_at: Moment, age: Duration, now: Moment) -> bool {
    now.saturating_sub(read_at) >= age
}

/// What a look is made with.
pub(super) struct With<'a> {
    pub(super) stats: &'a StatReader,
    pub(super) shared: &'a Shared,
    pub(super) clock: &'a dyn Fn() -> Moment,
}

/// Reads everything there is to know of a target; `None` if its group is gone.
///
/// # Errors
/// When a file cannot be read or is not of its form.
pub fn read_all(groups: &Groups, stats: &StatReader, clock: &dyn Fn() -> Moment) -> Result<Option<Sample>, ReadError> {
    let Some((own, at, until)) = read_whole(&groups.own, stats, clock)? else {
        return Ok(None);
    };
    // That the pod's cannot be read must not stop the guard: then the container's own limit is what counts.
    let pod = groups.pod.as_ref().and_then(|pod| read_whole(pod, stats, clock).ok()?);
    Ok(Some(Sample { at, until, own, pod: pod.map(|(level, ..)| level) }))
}

/// A group with its stat, and from when to when it was read; `None` if it is gone.
fn read_whole(
    group: &Arc<Group>,
    stats: &StatReader,
    clock: &dyn Fn() -> Moment,
) -> Result<Option<(Level, Moment, Moment)>, ReadError> {
    for tries in 1.. {
        let began = clock();
        let Some(level) = level(group, began)? else { return Ok(None) };
        let Some(level) = with_stat(level, group, stats, clock)? else { return Ok(None) };
        let Read { level, from, until, is_slow } = level;
        if is_slow || until.saturating_sub(from) <= TORN || tries >= TRIES {
            return Ok(Some((level, from, until)));
        }
    }
    Ok(None)
}

/// What was read of a group, and from when to when.
struct Read {
    level: Level,
    from: Moment,
    until: Moment,
    /// Its stat is read by another thread.
    is_slow: bool,
}

/// Adds a group's stat to what was read of it just now; `None` if it is gone. Usage is read on both sides of stat, so that
/// cache which comes or goes between the reads is not taken for a leak. A slow stat is of some time ago: by how much usage
/// has grown since, that may all be cache.
fn with_stat(
    level: Level,
    group: &Arc<Group>,
    stats: &StatReader,
    clock: &dyn Fn() -> Moment,
) -> Result<Option<Read>, ReadError> {
    let began = clock();
    Ok(match stats.read(group, clock)? {
        StatRead::Gone => None,
        StatRead::Pending { .. } => Some(Read { level, from: began, until: clock(), is_slow: true }),
        StatRead::Read(read) => {
            let is_slow = read.from < began;
            if is_slow {
                let inactive_file = read.stat.inactive_file.plus(level.usage.less(read.least_usage));
                let level = Level { stat: Some(Stat { inactive_file, ..read.stat }), ..level };
                Some(Read { level, from: read.from, until: clock(), is_slow })
            } else {
                let (usage, most_usage) = (read.least_usage, read.most_usage);
                let level = Level { usage, most_usage, stat: Some(read.stat), ..level };
                Some(Read { level, from: read.from, until: read.until, is_slow })
            }
        }
    })
}

/// Usage and limits of a group; `None` if it is gone.
fn level(group: &Group, now: Moment) -> Result<Option<Level>, ReadError> {
    // Usage last: memory that comes between the reads makes a container seem nearer, not farther.
    let Some(limit) = group.limit()? else {
        return Ok(None);
    };
    let swap_left = group.swap_left(now);
    let usage = group.usage()?;
    Ok(usage.map(|usage| Level { usage, most_usage: usage, limit: limit.bytes(), stat: None, swap_left }))
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
    /// It cannot wait any longer.
    at_deadline: bool,
    /// It is past `force-delete-threshold`.
    critical: bool,
}

impl Worse {
    const WORST: Worse = Worse { at_deadline: true, critical: true };

    fn of(evidence: &Evidence, takes: Duration) -> Worse {
        let at_deadline = evidence.deadline(takes) == Some(Duration::ZERO);
        Worse { at_deadline, critical: evidence.critical }
    }

    fn and(self, other: Worse) -> Worse {
        Worse { at_deadline: self.at_deadline || other.at_deadline, critical: self.critical || other.critical }
    }
}

/// A target: what is read of it is judged, and told once each time it changes.
#[derive(Debug)]
pub struct Target {
    id: TargetId,
    groups: Groups,
    rule: Rule,
    view: Arc<View>,
    latency: Arc<Latency>,
    history: History,
    /// As last read, with stat where it was: the cache is still about what it was.
    last: Option<Sample>,
    stat_read_at: Moment,
    /// What usage was then; `None` once that cache is known to be another.
    stat_read_of: Option<Bytes>,
    /// [`Group::failed_charges`] of the container's group and of the pod's, as last read.
    failed_charges: Option<(u64, u64)>,
    pod_read_at: Moment,
    limit_read_at: Moment,
    /// The pod's limit, and the counts of kills.
    others_read_at: Moment,
    not_over_at: Option<Moment>,
    kills: Option<Kills>,
    kills_read_at: Moment,
    pod_kills: Option<Kills>,
    /// Both as they were before they were last read.
    kills_before: (Option<Kills>, Option<Kills>),
    edit: u32,
    told: Told,
    /// An eviction may come soon.
    near: bool,
    /// What its last answer rested on.
    rests_on: Ground,
    /// Nothing moves: while that on which the answer rests is the same, so is the answer, and it is looked at so often.
    settled: Option<Duration>,
    due: Due,
}

/// What the answer of a look rests on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Ground {
    /// Usage alone: it is far from its threshold and from a kill.
    Usage,
    /// Usage, with the pod's near enough to be read now and then.
    Both,
    /// The cache in it, too.
    Cache,
}

/// When a target is to be looked at.
#[derive(Clone, Copy, Debug)]
pub(super) struct Due {
    pub(super) at: Moment,
    /// From when on it may share another's wake-up.
    pub(super) early: Moment,
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
            latency: watch.latency,
            history: History::default(),
            last: None,
            stat_read_at: Moment::ZERO,
            stat_read_of: None,
            failed_charges: None,
            pod_read_at: Moment::ZERO,
            limit_read_at: Moment::ZERO,
            others_read_at: Moment::ZERO,
            not_over_at: None,
            kills: None,
            kills_read_at: Moment::ZERO,
            pod_kills: None,
            kills_before: (None, None),
            edit: 0,
            told: Told::Nothing,
            near: false,
            rests_on: Ground::Cache,
            settled: None,
            due: Due { at: now, early: now },
        }
    }

    /// Usage, and the limit once a second.
    fn read_own(&mut self, now: Moment, with: &With<'_>) -> Result<Option<Level>, ReadError> {
        match self.last {
            Some(last) if !is_old(self.limit_read_at, LIMIT_AGE, now) => {
                Ok(self.groups.own.usage()?.map(|usage| {
                    // What swap would take counts where the limit is not far, and others take of it, too.
                    let counts =
                        last.own.swap_left > Bytes(0) && last.own.limit.is_none_or(|limit| usage.times(2) > limit);
                    let swap_left = if counts { self.groups.own.swap_left(now) } else { last.own.swap_left };
                    Level { usage, most_usage: usage, stat: None, swap_left, ..last.own }
                }))
            }
            _ => {
                with.shared.limit_reads.fetch_add(1, Relaxed);
                self.limit_read_at = now;
                level(&self.groups.own, now)
            }
        }
    }

    /// Whether it is time to read the pod's limit and the counts of kills, together with the limit.
    fn others_are_old(&self, now: Moment) -> bool {
        let is_far = self.rests_on == Ground::Usage && self.last.is_some_and(|last| last.own.limit.is_some());
        self.limit_read_at == now && is_old(self.others_read_at, if is_far { FAR_AGE } else { LIMIT_AGE }, now)
    }

    /// Reads what else this look needs: stat and the pod's group only where the answer can depend on them. `None`: the
    /// group is gone.
    fn read(&mut self, own: Level, now: Moment, takes: Duration, with: &With<'_>) -> Result<Option<Sample>, ReadError> {
        let Some(last) = self.last else {
            return self.read_all(now, with);
        };
        // The pod's has moved by as much, unless others in it moved too.
        let moved = |pod: Level| pod.usage.plus(own.usage.less(last.own.usage)).less(last.own.usage.less(own.usage));
        let pod = last.pod.map(|pod| Level { usage: moved(pod), most_usage: moved(pod), ..pod });
        let mut sample = Sample { at: now, until: now, own, pod };
        if self.others_are_old(now) {
            self.others_read_at = now;
            self.pod_read_at = now;
            let read = self.groups.pod.as_ref().and_then(|pod| level(pod, now).ok()?);
            sample.pod = read.map(|pod| Level { stat: last.pod.and_then(|p| p.stat), ..pod });
        }

        let growth = self.history.trend().fast();
        let by_usage = |s: &Sample| next_look(&self.rule, s, s.room(), growth, takes);
        let threshold = self.rule.threshold_of(&sample);
        let undecided = self.rule.signal != Signal::Usage && threshold.is_some_and(|t| own.usage > t);
        let due = by_usage(&sample);
        let with_cache = Sample { own: Level { stat: last.own.stat, ..own }, ..sample };
        self.rests_on = match due < NEAR {
            _ if undecided => Ground::Cache,
            true if by_usage(&with_cache) > 2 * due => Ground::Cache,
            true => Ground::Both,
            false => Ground::Usage,
        };
        if self.rests_on == Ground::Cache && self.is_cache_as_read(own.usage, now) {
            sample.own.stat = last.own.stat;
        } else if self.rests_on == Ground::Cache || is_old(self.stat_read_at, self.stat_age(), now) {
            with.shared.stat_reads.fetch_add(1, Relaxed);
            let Some(read) = with_stat(own, &self.groups.own, with.stats, with.clock)? else {
                return Ok(None);
            };
            (sample.own, sample.until) = (read.level, read.until);
            if read.is_slow {
                // Of some time ago: no haste rests on it.
                sample.at = read.from;
            }
            self.stat_read_at = now;
            self.stat_read_of = Some(own.usage).filter(|usage| *usage == read.level.usage && !read.is_slow);
        }
        let over = (sample.own.value(self.rule.signal)).is_some_and(|v| threshold.is_some_and(|t| v > t));
        if over {
            // A verdict rests on everything read anew.
            return self.read_all(now, with);
        }
        if due < NEAR
            && is_old(self.pod_read_at, POD_AGE, now)
            && let (Some(group), Some(pod)) = (&self.groups.pod, &mut sample.pod)
            && let Ok(Some(usage)) = group.usage()
        {
            self.pod_read_at = now;
            (pod.usage, pod.most_usage) = (usage, usage);
            // Its cache matters where, as last known, it makes the pod the nearer of the two.
            if sample.own.stat.is_some() && pod.limit.is_some() && pod.room() < sample.own.room() {
                let read = with_stat(*pod, group, with.stats, with.clock);
                pod.stat = read.ok().flatten().and_then(|read| read.level.stat).or(pod.stat);
            }
        }
        Ok(Some(sample))
    }

    /// Whether the cache is what it was when it was last read: usage is the same, and nothing was reclaimed for lack of
    /// room, so nothing was exchanged for it. (Without the second, growth at the limit in exchange for cache would be
    /// overlooked at a tenth to a third of looks 7 ms apart: measured.)
    fn is_cache_as_read(&mut self, usage: Bytes, now: Moment) -> bool {
        if self.stat_read_of != Some(usage) || is_old(self.stat_read_at, STAT_AGE, now) {
            return false;
        }
        let failed = |group: &Arc<Group>| group.failed_charges();
        let counted = failed(&self.groups.own).zip(self.groups.pod.as_ref().map_or(Some(0), failed));
        let before = std::mem::replace(&mut self.failed_charges, counted);
        let same = counted.is_some() && counted == before;
        if !same {
            self.stat_read_of = None;
        }
        same
    }

    /// How old the cache last read may be.
    fn stat_age(&self) -> Duration {
        if self.rests_on == Ground::Usage { SHOWN_STAT_AGE } else { STAT_AGE }
    }

    /// Whether all on which the last answer rests is what it was then.
    fn is_as_before(&mut self, own: Level, now: Moment) -> bool {
        let is_own = self.last.is_some_and(|last| own == Level { stat: None, ..last.own });
        is_own
            && !self.others_are_old(now)
            && match self.rests_on {
                Ground::Usage => true,
                Ground::Both => !is_old(self.pod_read_at, POD_AGE, now) && !is_old(self.stat_read_at, STAT_AGE, now),
                Ground::Cache => !is_old(self.pod_read_at, POD_AGE, now) && self.is_cache_as_read(own.usage, now),
            }
    }

    fn read_all(&mut self, now: Moment, with: &With<'_>) -> Result<Option<Sample>, ReadError> {
        with.shared.stat_reads.fetch_add(1, Relaxed);
        with.shared.limit_reads.fetch_add(1, Relaxed);
        self.limit_read_at = now;
        self.others_read_at = now;
        self.stat_read_at = now;
        self.pod_read_at = now;
        self.rests_on = Ground::Cache;
        let read = read_all(&self.groups, with.stats, with.clock);
        if let Ok(Some(sample)) = &read {
            let settled = sample.own.usage == sample.own.most_usage && !sample.is_torn();
            self.stat_read_of = settled.then_some(sample.own.usage);
        }
        read
    }

    /// One look: read, see whether there was a kill, and judge.
    pub(super) fn look(&mut self, now: Moment, with: &With<'_>) -> (Option<What>, Option<(What, Told)>) {
        let own = self.read_own(now, with);
        if let (Some(interval), Ok(Some(own))) = (self.settled, &own)
            && self.is_as_before(*own, now)
        {
            self.again(now, interval);
            return (None, None);
        }
        let takes = with.shared.eviction_takes();
        let read = own.and_then(|own| match own {
            Some(own) => self.read(own, now, takes, with),
            None => Ok(None),
        });
        let killed = self.killed(now, &read);
        (killed, self.judge(now, read, takes))
    }

    /// Nothing has moved since the look before: neither has the answer.
    fn again(&mut self, now: Moment, interval: Duration) {
        if let Some(last) = &mut self.last {
            (last.at, last.until) = (now, now);
        }
        self.history.same(now);
        if !matches!(self.told, Told::Over(_)) {
            self.not_over_at = Some(now);
        }
        self.wait(now, interval);
        self.view.again(now, self.due.at);
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
                self.settled = None;
                self.history.interrupted();
                self.wait(now, UNREADABLE_LOOK);
                return (self.told != Told::Unreadable).then_some((What::Unreadable(error), Told::Unreadable));
            }
        };
        let nine_of_ten_take = self.latency.get();
        let verdict = self.history.observe(&self.rule, &sample, nine_of_ten_take);
        let (growth, rise) = (self.history.trend().fast(), self.history.trend().last_rise());

        // Where this look read no stat, the last one stands for it: that it is not too old is seen to above.
        let stat = sample.own.stat.or(self.last.and_then(|l| l.own.stat));
        let known = Sample { own: Level { stat, ..sample.own }, ..sample };
        let (room, threshold, value) =
            (known.room(), self.rule.threshold_of(&known), known.own.value(self.rule.signal));
        let interval = match verdict {
            Verdict::Over(_) if matches!(self.told, Told::Over(_)) => match self.rule.force_delete {
                _ if rise.is_some() => SHORTEST_LOOK,
                Some(percent) if self.told != Told::Over(Worse::WORST) => {
                    let rule = Rule { threshold: Threshold::Percent(percent), ..self.rule };
                    next_look(&rule, &known, room, growth, takes).min(HANDED_OVER_LOOK)
                }
                _ => HANDED_OVER_LOOK,
            },
            _ => next_look(&self.rule, &known, room, growth, takes),
        };
        let missing = threshold.zip(value).map(|(threshold, value)| threshold.less(value));
        self.wait(now, interval);
        // Not shared with others' wake-ups: a look before it would find nothing.
        if let Some(at) = missing.and_then(|missing| crossing(missing, rise, interval)) {
            self.due = Due { at: now + at, early: now + at };
        }
        self.near = interval < CLOSE || time_left(missing, growth).is_some_and(|left| left < SOON);
        let is_told = match verdict {
            Verdict::Under => self.told == Told::Nothing,
            Verdict::Over(evidence) => self.told == Told::Over(Worse::of(&evidence, nine_of_ten_take)),
            _ => false,
        };
        self.settled = (is_told && growth == Some(0)).then_some(interval);
        self.last = Some(known);
        self.view.set(LastLook {
            sample,
            value,
            threshold,
            room,
            growth,
            slow_growth: self.history.trend().slow(),
            verdict,
            next: self.due.at,
            oom_kills: self.kills.map(|k| k.killed),
        });
        if !matches!(verdict, Verdict::Over(_)) {
            self.not_over_at = Some(now);
        }
        match (verdict, self.told) {
            (Verdict::Over(evidence), Told::Over(told)) => {
                let worse = told.and(Worse::of(&evidence, nine_of_ten_take));
                (worse != told).then_some((What::Worse(evidence), Told::Over(worse)))
            }
            (Verdict::NoLimit, Told::NoLimit) | (Verdict::BeyondLimit, Told::BeyondLimit) => None,
            (Verdict::Over(evidence), _) => {
                let since_last_look = self.not_over_at.take().map(|at| now.saturating_sub(at));
                let told = Told::Over(Worse::of(&evidence, nine_of_ten_take));
                Some((What::Over { evidence, since_last_look }, told))
            }
            (Verdict::NoLimit, _) => Some((What::NoLimit, Told::NoLimit)),
            (Verdict::BeyondLimit, _) => Some((What::BeyondLimit, Told::BeyondLimit)),
            (Verdict::Under | Verdict::Sustaining { .. }, Told::Nothing) => None,
            // What a torn sample, or a slow stat, does not show to be over may be so all the same.
            (Verdict::Under, Told::Over(_)) if sample.is_torn() && threshold.is_some_and(|t| sample.own.usage > t) => {
                None
            }
            (Verdict::Under | Verdict::Sustaining { .. }, _) => Some((What::Dipped, Told::Nothing)),
        }
    }

    /// Whether the kernel has killed in it since the last time this was asked: once a second (once in [`FAR_AGE`]), and
    /// when much of its memory is gone since the look before, for a kill may be why.
    fn killed(&mut self, now: Moment, read: &Result<Option<Sample>, ReadError>) -> Option<What> {
        let is = read.as_ref().ok()?.as_ref()?.own.usage.0;
        let was = self.last.map_or(0, |last| last.own.usage.0);
        // What is about to be told as a dip may be one, too; the killed give their memory back bit by bit.
        let fell = is < was - was / 8 || (matches!(self.told, Told::Over(_)) && is < was);
        if self.others_read_at != now && !fell {
            return None;
        }
        let own = self.groups.own.kills(self.kills)?;
        let pod = self.groups.pod.as_ref().and_then(|p| p.kills(self.pod_kills));
        let count = self.kills.map_or(0, |before| own.killed.saturating_sub(before.killed));
        if count == 0 && self.kills.is_some() && !is_old(self.kills_read_at, LIMIT_AGE, now) {
            // The kernel counts that a limit was hit some ms before it counts the kill: both are compared with what was before.
            return None;
        }
        self.kills_read_at = now;
        self.kills_before = (self.kills.replace(own), std::mem::replace(&mut self.pod_kills, pod));
        let (own_before, pod_before) = self.kills_before;
        let own_before = own_before.filter(|_| count > 0)?;
        let hit = Hit::of((own_before, own), pod_before.zip(pod));
        let together = own_before.together.zip(own.together).is_some_and(|(before, after)| after > before);
        let mut look = self.view.last().map(Box::new);
        // What is left of the pod's usage after the kill tells, too, where the look before was long before.
        if let Some(look) = &mut look
            && let Some(Ok(Some(now))) = self.groups.pod.as_ref().map(|pod| level(pod, now))
        {
            let before = look.sample.pod.map_or(Bytes(0), |pod| pod.usage);
            look.sample.pod = Some(Level { usage: now.usage.max(before), ..now });
        }
        Some(What::Killed { count, together, hit, look })
    }

    /// Takes it as told.
    pub fn told(&mut self, told: Told) {
        self.told = told;
    }

    /// The guard was edited.
    pub fn edited(&mut self, rule: Rule, edit: u32, now: Moment) {
        self.rule = rule;
        self.edit = edit;
        self.history.judged_anew();
        self.told = Told::Again;
        self.settled = None;
        self.due = Due { at: now, early: now };
    }

    /// What was told was not acted on.
    pub fn rearm(&mut self) {
        self.told = Told::Again;
        self.settled = None;
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

    pub(super) fn id(&self) -> TargetId {
        self.id
    }

    pub(super) fn schedule(&self) -> Due {
        self.due
    }

    /// An eviction may come soon.
    pub(super) fn is_near(&self) -> bool {
        self.near
    }

    /// That its group is gone was told.
    pub(super) fn is_gone(&self) -> bool {
        self.told == Told::Gone
    }

    /// That it is gone could not be told.
    pub(super) fn come_again(&mut self, now: Moment) {
        self.wait(now, HANDED_OVER_LOOK);
    }

    /// Kills could not be told: they are found again at the next look.
    pub(super) fn uncount_kills(&mut self) {
        (self.kills, self.pod_kills) = self.kills_before;
    }

    fn wait(&mut self, now: Moment, interval: Duration) {
        let at = now + interval;
        self.due = Due { at, early: at - interval / EARLY_PART };
    }
}
