//! What one sample reads: always usage; the rest only if the verdict can depend on it, or if the known values are too
//! old.

use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;
use std::time::Duration;

use super::counters::Counters;
use crate::cgroup::resolve::Groups;
use crate::cgroup::{ForPeople, Group, ReadError, StatRead, StatReader};
use crate::decide::schedule::Schedule;
use crate::ground::clock::Moment;
use crate::ground::memory::{Level, Sample, Signal, Stat, TORN};
use crate::ground::units::Bytes;

/// If a container's usage alone makes it due sooner than this, it may be near a kill. The other values are then worth
/// reading.
const NEAR: Duration = Duration::from_millis(50);
/// The maximum age of a near container's cache. An older one is read again, in case memory replaced cache at the same
/// usage.
const STAT_AGE: Duration = Duration::from_millis(250);
/// The maximum age of the cache that is shown to people, and of the breakdown that is kept for them.
const SHOWN_STAT_AGE: Duration = Duration::from_secs(10);
/// The age at which a sample reads the limits again: an in-place resize rewrites them. A sample may come early by a tenth, so
/// that they are never older than a second and a sample's interval.
pub(super) const LIMIT_AGE: Duration = Duration::from_millis(900);
/// The same for the pod's level and the counts of kills, if the container is far from its own limit, so that they are never older
/// than five seconds. Nothing urgent depends on them then. Reading them each second, too, would be a third of what a quiet node
/// costs (measured).
const FAR_AGE: Duration = Duration::from_millis(4_700);
/// The maximum age of the usage of a near container's pod. In between, it is assumed to have moved as the container's
/// has.
const POD_AGE: Duration = NEAR;
/// How many times reads that lie too far apart ([`TORN`]) are made in all. After that, no urgent decision rests on
/// them.
const TRIES: usize = 3;

/// Whether something read at `read_at` has reached `age` by now.
pub(super) fn is_old(read_at: Moment, age: Duration, now: Moment) -> bool {
    now.saturating_sub(read_at) >= age
}

/// What the thread lends to each sample.
pub(super) struct Context<'a> {
    pub(super) stats: &'a StatReader,
    pub(super) counters: &'a Counters,
    pub(super) clock: &'a dyn Fn() -> Moment,
}

/// What the last verdict depended on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Inputs {
    /// Only usage: the container is far from its threshold and from a kill.
    Usage,
    /// Usage, and sometimes the pod's usage.
    UsageAndPod,
    Cache,
}

/// The groups of a target, and what is known of them.
#[derive(Debug)]
pub(super) struct Reader {
    groups: Groups,
    /// The last sample, with the cache that was known then.
    last: Option<Sample>,
    stat_read_at: Moment,
    /// When the breakdown was last kept for people.
    broken_down_at: Option<Moment>,
    /// Usage at that time; `None` once the cache is known to have changed.
    stat_read_of: Option<Bytes>,
    /// [`Group::failed_charges`] of the container's group and, where its limit is the nearer one, of the pod's, as last read.
    failed_charges: Option<(u64, u64)>,
    pod_read_at: Moment,
    limit_read_at: Moment,
    /// [`Group::high`] of the container's group, as read with its limit.
    high: Option<Bytes>,
    /// When the pod's limit and the counts of kills were last read.
    others_read_at: Moment,
    inputs: Inputs,
}

impl Reader {
    pub(super) fn new(groups: Groups) -> Reader {
        Reader {
            groups,
            last: None,
            stat_read_at: Moment::ZERO,
            broken_down_at: None,
            stat_read_of: None,
            failed_charges: None,
            pod_read_at: Moment::ZERO,
            limit_read_at: Moment::ZERO,
            high: None,
            others_read_at: Moment::ZERO,
            inputs: Inputs::Cache,
        }
    }

    pub(super) fn groups(&self) -> &Groups {
        &self.groups
    }

    pub(super) fn last(&self) -> Option<Sample> {
        self.last
    }

    pub(super) fn limit_read_at(&self) -> Moment {
        self.limit_read_at
    }

    pub(super) fn high(&self) -> Option<Bytes> {
        self.high
    }

    /// Keeps the sample to compare the next one with it.
    pub(super) fn keep(&mut self, sample: Sample) {
        self.last = Some(sample);
    }

    /// Discards what was read before.
    pub(super) fn forget(&mut self) {
        self.last = None;
    }

    /// Records that at this moment all was as in the last sample.
    pub(super) fn unchanged(&mut self, now: Moment) {
        if let Some(last) = &mut self.last {
            (last.at, last.until) = (now, now);
        }
    }

    /// What people want to be told by the next sample: the breakdown, if the last one is old.
    pub(super) fn for_people(&self, now: Moment) -> ForPeople {
        let wanted = self.broken_down_at.is_none_or(|then| is_old(then, SHOWN_STAT_AGE, now));
        ForPeople { wanted, found: None }
    }

    /// The breakdown was kept at this moment.
    pub(super) fn kept_breakdown(&mut self, now: Moment) {
        self.broken_down_at = Some(now);
    }

    /// Completes a sample without cache with the last one's; [`Reader::rest`] ensures that it is not too old.
    pub(super) fn with_last_cache(&self, sample: &Sample) -> Sample {
        let stat = sample.own.stat.or(self.last.and_then(|last| last.own.stat));
        Sample { own: Level { stat, ..sample.own }, ..*sample }
    }

    /// Whether limits were read at this moment.
    pub(super) fn has_read_limits(&self, now: Moment) -> bool {
        self.others_read_at == now
    }

    /// Reads the pod's level without its cache.
    pub(super) fn pod_level(&self, now: Moment) -> Option<Level> {
        self.groups.pod.as_ref().and_then(|pod| level(pod, now).ok()?)
    }

    /// Reads the container's usage, and once a second its limit; `None` if its group is gone.
    pub(super) fn own(&mut self, now: Moment, with: &Context<'_>) -> Result<Option<Level>, ReadError> {
        let Some(last) = self.last.filter(|_| !is_old(self.limit_read_at, LIMIT_AGE, now)) else {
            with.counters.limit_reads.fetch_add(1, Relaxed);
            self.limit_read_at = now;
            let high = self.groups.own.high();
            if std::mem::replace(&mut self.high, high) != high {
                // What it holds is compared with it, so the cache is read, too.
                (self.inputs, self.stat_read_of) = (Inputs::Cache, None);
            }
            return level(&self.groups.own, now);
        };
        Ok(self.groups.own.usage()?.map(|usage| {
            // The swap left matters if the limit is not far; others use swap, too.
            let counts = last.own.swap_left > Bytes(0) && last.own.limit.is_none_or(|limit| usage.times(2) > limit);
            let swap_left = if counts { self.groups.own.swap_left(now) } else { last.own.swap_left };
            Level { usage, most_usage: usage, stat: None, swap_left, ..last.own }
        }))
    }

    /// Whether everything that the last verdict depended on is unchanged.
    pub(super) fn is_unchanged(&mut self, own: Level, now: Moment) -> bool {
        let is_same = self.last.is_some_and(|last| own == Level { stat: None, ..last.own });
        is_same
            && !self.others_are_old(now)
            && match self.inputs {
                Inputs::Usage => true,
                Inputs::UsageAndPod => {
                    let stat_age = self.stat_age(own.usage);
                    !is_old(self.pod_read_at, POD_AGE, now) && !is_old(self.stat_read_at, stat_age, now)
                }
                Inputs::Cache => !is_old(self.pod_read_at, POD_AGE, now) && self.has_same_cache(own.usage, now),
            }
    }

    /// Reads what else this sample needs; `None` if the group is gone. `is_news`: that it is above its threshold was not
    /// reported yet. A sample that shows it tells people what the memory consists of.
    pub(super) fn rest(
        &mut self,
        own: Level,
        now: Moment,
        (schedule, is_news): (&Schedule<'_>, bool),
        with: &Context<'_>,
        people: &mut ForPeople,
    ) -> Result<Option<Sample>, ReadError> {
        let Some(last) = self.last else {
            return self.all(now, with, people);
        };
        let mut sample = Sample { at: now, until: now, own, pod: self.pod_as_it_should_be(&last, own, now) };
        let rule = schedule.rule;
        let threshold = rule.threshold_of(&sample);
        // The warning comes first, and without it nothing depends on the cache there.
        let lowest = rule.warn_threshold_of(&sample).or(threshold);
        let undecided = rule.signal != Signal::Usage && lowest.is_some_and(|t| own.usage > t);
        let due = schedule.next(&sample);
        let with_cache = Sample { own: Level { stat: last.own.stat, ..own }, ..sample };
        self.inputs = match due < NEAR {
            _ if undecided => Inputs::Cache,
            true if schedule.next(&with_cache) > 2 * due => Inputs::Cache,
            true => Inputs::UsageAndPod,
            false => Inputs::Usage,
        };
        if self.inputs == Inputs::Cache && self.has_same_cache(own.usage, now) {
            sample.own.stat = last.own.stat;
        } else if (self.inputs == Inputs::Cache || is_old(self.stat_read_at, self.stat_age(own.usage), now))
            && !self.cache(&mut sample, now, with, people)?
        {
            return Ok(None);
        }
        if sample.own.value(rule.signal).is_some_and(|value| threshold.is_some_and(|t| value > t)) {
            // A verdict of "above" needs everything read anew.
            people.wanted |= is_news;
            return self.all(now, with, people);
        }
        if due < NEAR && is_old(self.pod_read_at, POD_AGE, now) {
            self.pod(&mut sample, now, with);
        }
        Ok(Some(sample))
    }

    /// The pod's level. It is read if the pod's level and the limits are due. Otherwise it is the last one, moved by as
    /// much as the container's usage.
    fn pod_as_it_should_be(&mut self, last: &Sample, own: Level, now: Moment) -> Option<Level> {
        if self.others_are_old(now) {
            (self.others_read_at, self.pod_read_at) = (now, now);
            return self.pod_level(now).map(|pod| Level { stat: last.pod.and_then(|p| p.stat), ..pod });
        }
        last.pod.map(|pod| {
            let usage = pod.usage.plus(own.usage.less(last.own.usage)).less(last.own.usage.less(own.usage));
            Level { usage, most_usage: usage, ..pod }
        })
    }

    /// Reads the container's cache; `false` if its group is gone.
    fn cache(
        &mut self,
        sample: &mut Sample,
        now: Moment,
        with: &Context<'_>,
        people: &mut ForPeople,
    ) -> Result<bool, ReadError> {
        with.counters.stat_reads.fetch_add(1, Relaxed);
        let usage = sample.own.usage;
        let Some(read) = with_stat(sample.own, &self.groups.own, with.stats, with.clock, people)? else {
            return Ok(false);
        };
        (sample.own, sample.until) = (read.level, read.until);
        if read.is_slow {
            // It was read some time ago: no urgent decision rests on it.
            sample.at = read.from;
        }
        self.stat_read_at = now;
        self.stat_read_of = Some(usage).filter(|usage| *usage == read.level.usage && !read.is_slow);
        Ok(true)
    }

    /// Reads the pod's usage. Also reads its cache if the last known one leaves the pod the smaller margin of the two.
    fn pod(&mut self, sample: &mut Sample, now: Moment, with: &Context<'_>) {
        if let (Some(group), Some(pod)) = (&self.groups.pod, &mut sample.pod)
            && let Ok(Some(usage)) = group.usage()
        {
            self.pod_read_at = now;
            (pod.usage, pod.most_usage) = (usage, usage);
            if sample.own.stat.is_some() && pod.limit.is_some() && pod.margin() < sample.own.margin() {
                let read = with_stat(*pod, group, with.stats, with.clock, &mut ForPeople::default());
                pod.stat = read.ok().flatten().and_then(|read| read.level.stat).or(pod.stat);
            }
        }
    }

    fn all(&mut self, now: Moment, with: &Context<'_>, people: &mut ForPeople) -> Result<Option<Sample>, ReadError> {
        with.counters.stat_reads.fetch_add(1, Relaxed);
        with.counters.limit_reads.fetch_add(1, Relaxed);
        self.limit_read_at = now;
        self.others_read_at = now;
        self.stat_read_at = now;
        self.pod_read_at = now;
        self.inputs = Inputs::Cache;
        let read = read_all_for(&self.groups, with.stats, with.clock, people);
        if let Ok(Some(sample)) = &read {
            let settled = sample.own.usage == sample.own.most_usage && !sample.is_torn();
            self.stat_read_of = settled.then_some(sample.own.usage);
        }
        read
    }

    /// Whether the pod's limit and the counts of kills are due, together with the container's limit.
    fn others_are_old(&self, now: Moment) -> bool {
        let is_far = self.inputs == Inputs::Usage && self.last.is_some_and(|last| last.own.limit.is_some());
        self.limit_read_at == now && is_old(self.others_read_at, if is_far { FAR_AGE } else { LIMIT_AGE }, now)
    }

    /// Whether the cache is what it was at its last read: usage is the same, and nothing was reclaimed in favour of
    /// other memory. (Without the second condition, growth at the limit in exchange for cache would be missed in a
    /// tenth to a third of samples 7 ms apart: measured.)
    fn has_same_cache(&mut self, usage: Bytes, now: Moment) -> bool {
        if self.stat_read_of != Some(usage) || is_old(self.stat_read_at, STAT_AGE, now) {
            return false;
        }
        let failed = |group: &Arc<Group>| group.failed_charges();
        let pod = self.groups.pod.as_ref().filter(|_| self.last.is_none_or(|last| is_pod_nearer(&last)));
        let counted = failed(&self.groups.own).and_then(|own| Some((own, pod.map_or(Some(0), failed)?)));
        let before = std::mem::replace(&mut self.failed_charges, counted);
        let same = counted.is_some() && counted == before;
        if !same {
            self.stat_read_of = None;
        }
        same
    }

    /// The maximum age of the cache, if usage is this now. If no verdict depends on it, and usage is what it was, it is of
    /// interest for people alone.
    fn stat_age(&self, usage: Bytes) -> Duration {
        match self.inputs {
            Inputs::Usage => SHOWN_STAT_AGE,
            Inputs::UsageAndPod if self.stat_read_of == Some(usage) => SHOWN_STAT_AGE,
            Inputs::UsageAndPod | Inputs::Cache => STAT_AGE,
        }
    }
}

/// Whether the pod's limit may be hit before the container's own. Each charge is checked against the own one first.
fn is_pod_nearer(sample: &Sample) -> bool {
    let left = |level: Level| level.limit.map(|limit| limit.less(level.usage));
    match (left(sample.own), sample.pod.and_then(left)) {
        (_, None) => false,
        (own, Some(pod)) => own.is_none_or(|own| pod < own),
    }
}

/// Reads all values of a target; `None` if its group is gone.
///
/// # Errors
/// When a file cannot be read or is malformed.
pub fn read_all(groups: &Groups, stats: &StatReader, clock: &dyn Fn() -> Moment) -> Result<Option<Sample>, ReadError> {
    read_all_for(groups, stats, clock, &mut ForPeople::default())
}

/// The same, and what people want to be told of the container's own group.
fn read_all_for(
    groups: &Groups,
    stats: &StatReader,
    clock: &dyn Fn() -> Moment,
    people: &mut ForPeople,
) -> Result<Option<Sample>, ReadError> {
    let Some((own, at, until)) = read_whole(&groups.own, stats, clock, people)? else {
        return Ok(None);
    };
    // If the pod's group cannot be read, the guard goes on with the container's own limit.
    let of_pod = &mut ForPeople::default();
    let pod = groups.pod.as_ref().and_then(|pod| read_whole(pod, stats, clock, of_pod).ok()?);
    Ok(Some(Sample { at, until, own, pod: pod.map(|(level, ..)| level) }))
}

/// Reads a group with its stat, and from when to when; `None` if it is gone.
fn read_whole(
    group: &Arc<Group>,
    stats: &StatReader,
    clock: &dyn Fn() -> Moment,
    people: &mut ForPeople,
) -> Result<Option<(Level, Moment, Moment)>, ReadError> {
    let mut tries = 0;
    loop {
        tries += 1;
        let began = clock();
        let Some(level) = level(group, began)? else { return Ok(None) };
        let Some(level) = with_stat(level, group, stats, clock, people)? else { return Ok(None) };
        let Read { level, from, until, is_slow } = level;
        if is_slow || until.saturating_sub(from) <= TORN || tries >= TRIES {
            return Ok(Some((level, from, until)));
        }
    }
}

/// What was read of a group, and from when to when.
struct Read {
    level: Level,
    from: Moment,
    until: Moment,
    /// Another thread reads its stat.
    is_slow: bool,
}

/// Adds a group's stat to what was just read of it; `None` if it is gone. Usage is read before and after stat, so that
/// cache which comes or goes between the reads does not look like a leak. A slow stat is some time old; all growth of
/// usage since may be cache.
fn with_stat(
    level: Level,
    group: &Arc<Group>,
    stats: &StatReader,
    clock: &dyn Fn() -> Moment,
    people: &mut ForPeople,
) -> Result<Option<Read>, ReadError> {
    let began = clock();
    Ok(match stats.read(group, clock, people)? {
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

/// Reads usage and limits of a group; `None` if it is gone.
fn level(group: &Group, now: Moment) -> Result<Option<Level>, ReadError> {
    // Usage last: memory that arrives between the reads makes a container seem nearer to a kill, not farther.
    let Some(limit) = group.limit()? else {
        return Ok(None);
    };
    let swap_left = group.swap_left(now);
    let usage = group.usage()?;
    Ok(usage.map(|usage| Level { usage, most_usage: usage, limit: limit.bytes(), stat: None, swap_left }))
}
