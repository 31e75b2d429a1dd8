//! One target: what is read of it, and when; what is judged, and told once each time it changes.

use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;
use std::time::Duration;

use super::{LastLook, Report, Shared, TargetId, View, Watch, What};
use crate::cgroup::{Group, Kills, Machine, ReadError};
use crate::guard::{Rule, Signal, Threshold};
use crate::policy::{Evidence, History, LONGEST_LOOK, Level, Moment, Sample, Verdict, crossing, next_look, time_left};
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
/// So often the pod's group and the count of kills of a container that is far from its own limit: nothing that is done
/// soon depends on them. Reading them each second, too, would be a third of what a quiet node costs (measured).
const FAR_AGE: Duration = Duration::from_secs(5);
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
/// A file that cannot be read is tried again so often.
const UNREADABLE_LOOK: Duration = LONGEST_LOOK;
/// A look may come early by this part of its interval, to share a wake-up: that costs as much as ten looks (measured), and
/// a half makes two of five out of those that a quarter leaves.
const EARLY_PART: u32 = 2;

/// Whether what was read then is as old as this by now.
fn is_old(read_at: Moment, age: Duration, now: Moment) -> bool {
    now.saturating_sub(read_at) >= age
}

/// Reads everything there is to know of a target; `None` if its group is gone.
///
/// # Errors
/// When a file cannot be read or is not of its form.
pub fn read_all(groups: &Groups, machine: Machine, at: Moment) -> Result<Option<Sample>, ReadError> {
    let with_stat = |group: &Group| -> Result<Option<Level>, ReadError> {
        // Stat last: cache that comes between the reads, should this thread have to wait there, is not taken for a leak.
        let (Some(level), Some(stat)) = (level(group, machine)?, group.stat()?) else {
            return Ok(None);
        };
        Ok(Some(Level { stat: Some(stat), ..level }))
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
    pod_kills: Option<Kills>,
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
    /// All that there is.
    All,
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
            pod_kills: None,
            edit: 0,
            told: Told::Nothing,
            near: false,
            rests_on: Ground::All,
            settled: None,
            due: Due { at: now, early: now },
        }
    }

    /// Usage, and the limit once a second.
    fn read_own(&mut self, now: Moment, machine: Machine, shared: &Shared) -> Result<Option<Level>, ReadError> {
        match self.last {
            Some(last) if !is_old(self.limit_read_at, LIMIT_AGE, now) => {
                Ok(self.groups.own.usage()?.map(|usage| Level { usage, stat: None, ..last.own }))
            }
            _ => {
                shared.limit_reads.fetch_add(1, Relaxed);
                self.limit_read_at = now;
                level(&self.groups.own, machine)
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
    fn read(
        &mut self,
        own: Level,
        now: Moment,
        machine: Machine,
        takes: Duration,
        shared: &Shared,
    ) -> Result<Option<Sample>, ReadError> {
        let Some(last) = self.last else {
            return self.read_all(now, machine, shared);
        };
        // The pod's has moved by as much, unless others in it moved too.
        let moved = |pod: Level| pod.usage.plus(own.usage.less(last.own.usage)).less(last.own.usage.less(own.usage));
        let pod = last.pod.map(|pod| Level { usage: moved(pod), ..pod });
        let mut sample = Sample { at: now, own, pod };
        if self.others_are_old(now) {
            self.others_read_at = now;
            self.pod_read_at = now;
            let read = self.groups.pod.as_ref().and_then(|pod| level(pod, machine).ok()?);
            sample.pod = read.map(|pod| Level { stat: last.pod.and_then(|p| p.stat), ..pod });
        }

        let growth = self.history.growth();
        let by_usage = |s: &Sample| next_look(&self.rule, s, s.room(), growth, takes);
        let threshold = sample.threshold(&self.rule);
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
            shared.stat_reads.fetch_add(1, Relaxed);
            let Some(stat) = self.groups.own.stat()? else {
                return Ok(None);
            };
            sample.own.stat = Some(stat);
            self.stat_read_at = now;
            self.stat_read_of = Some(own.usage);
        }
        let over = (sample.own.value(self.rule.signal)).is_some_and(|v| threshold.is_some_and(|t| v > t));
        if over {
            // A verdict rests on everything read anew.
            return self.read_all(now, machine, shared);
        }
        if due < NEAR
            && is_old(self.pod_read_at, POD_AGE, now)
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
                Ground::All => false,
            }
    }

    fn read_all(&mut self, now: Moment, machine: Machine, shared: &Shared) -> Result<Option<Sample>, ReadError> {
        shared.stat_reads.fetch_add(1, Relaxed);
        shared.limit_reads.fetch_add(1, Relaxed);
        self.limit_read_at = now;
        self.others_read_at = now;
        self.stat_read_at = now;
        self.pod_read_at = now;
        self.rests_on = Ground::All;
        let read = read_all(&self.groups, machine, now);
        if let Ok(Some(sample)) = &read {
            self.stat_read_of = Some(sample.own.usage);
        }
        read
    }

    /// One look: read, see whether there was a kill, and judge.
    pub(super) fn look(
        &mut self,
        now: Moment,
        machine: Machine,
        shared: &Shared,
    ) -> (Option<What>, Option<(What, Told)>) {
        let own = self.read_own(now, machine, shared);
        if let (Some(interval), Ok(Some(own))) = (self.settled, &own)
            && self.is_as_before(*own, now)
        {
            self.again(now, interval);
            return (None, None);
        }
        let takes = shared.eviction_takes();
        let read = own.and_then(|own| match own {
            Some(own) => self.read(own, now, machine, takes, shared),
            None => Ok(None),
        });
        let killed = self.killed(now, &read);
        (killed, self.judge(now, read, takes))
    }

    /// Nothing has moved since the look before: neither has the answer.
    fn again(&mut self, now: Moment, interval: Duration) {
        if let Some(last) = &mut self.last {
            last.at = now;
        }
        self.history.same(now);
        self.not_over_at = Some(now);
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
        let verdict = self.history.observe(&self.rule, &sample, takes);
        let growth = self.history.growth();

        // Where this look read no stat, the last one stands for it: that it is not too old is seen to above.
        let stat = sample.own.stat.or(self.last.and_then(|l| l.own.stat));
        let known = Sample { own: Level { stat, ..sample.own }, ..sample };
        let (room, threshold, value) = (known.room(), known.threshold(&self.rule), known.own.value(self.rule.signal));
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
        let missing = threshold.zip(value).map(|(threshold, value)| threshold.less(value));
        self.wait(now, interval);
        // Not shared with others' wake-ups: a look before it would find nothing.
        if let Some(at) = missing.and_then(|missing| crossing(missing, self.history.last_rise(), interval)) {
            self.due = Due { at: now + at, early: now + at };
        }
        self.near = interval < CLOSE || time_left(missing, growth).is_some_and(|left| left < SOON);
        let is_settled = verdict == Verdict::Under && self.told == Told::Nothing && growth == Some(0);
        self.settled = is_settled.then_some(interval);
        self.last = Some(known);
        self.view.set(LastLook {
            sample,
            value,
            threshold,
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

    /// A kill could not be told: it is found again at the next look.
    pub(super) fn uncount_a_kill(&mut self) {
        self.kills = self.kills.map(|k| Kills { killed: k.killed.saturating_sub(1), ..k });
    }

    fn wait(&mut self, now: Moment, interval: Duration) {
        let at = now + interval;
        self.due = Due { at, early: at - interval / EARLY_PART };
    }
}
