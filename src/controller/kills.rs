//! OOM kills of guarded containers: counted as the kernel counts them, and reported with the reason why they were not
//! prevented.
//!
//! The kernel's counter shows at once that a process was killed; the pod's status shows after a second that a container
//! was. A kill from the counter is settled when it is known which of the two it was, so that it is counted once.

use std::sync::Arc;
use std::time::Duration;

use super::effects::{Effect, notice};
use super::entry::{Entry, GroupState, Guarded, Name, Stage, Unsettled};
use crate::cgroup::Hit;
use crate::decide::eligibility::Never;
use crate::decide::judge::Verdict;
use crate::ground::clock::Moment;
use crate::ground::memory::{Level, Sample};
use crate::ground::units::Bytes;
use crate::pods::ContainerId;
use crate::pods::guard::DryRun;
use crate::report::notice::{MissReason, Subject};
use crate::sampler::{Known, LastSample};

/// For how many of a pod's last containers kills are remembered, to count each once.
pub(super) const MOST_KILLS: usize = 16;
/// If a container still has its group this long after a kill, it goes on without the killed processes. The group of a
/// container that has ended is removed within tens of milliseconds (measured), on a busy node within a second or two.
const GOES_ON: Duration = Duration::from_secs(5);
/// The part of the pod's limit that others must hold beyond what the two limits leave, for the kill to be their doing.
/// The sandbox, and what a CPU has charged ahead, are always there.
pub(super) const OTHERS_PART: u64 = 16;
/// The minimum of that.
const OTHERS_LEAST: Bytes = Bytes(4 << 20);
/// If only the status shows a kill, a pod was at its limit if this many eighths of the limit were used.
const FULL: u64 = 7;

/// Kills that the kernel has counted, from [`crate::sampler::What::Killed`].
#[derive(Clone, Copy, Debug)]
pub(super) struct Counted {
    pub(super) count: u64,
    pub(super) together: bool,
    pub(super) hit: Hit,
    pub(super) last_sample: Option<LastSample>,
}

/// Keeps the last sample of a container that no longer exists, in case its status shows a kill.
pub(super) fn keep_last_sample(entry: &mut Entry, target: &Guarded, dry_run: DryRun) {
    let Name::Container(name, id) = &target.name else { return };
    let GroupState::Watched { view, .. } = &target.state else { return };
    let reason = miss_reason(entry, Some(target), dry_run);
    entry.last_samples.insert(name.clone(), (*id, Arc::clone(view), reason));
}

/// Its group is gone: only the status shows whether the counted kills have ended it.
pub(super) fn group_gone(entry: &mut Entry, target: &Guarded) {
    let Name::Container(_, id) = &target.name else { return };
    entry.unsettled.iter_mut().filter(|u| u.id == *id).for_each(|u| u.goes_on_at = None);
}

/// Handles kills that the kernel has counted.
pub(super) fn counted(
    effects: &mut Vec<Effect>,
    entry: &mut Entry,
    now: Moment,
    i: usize,
    kills: Counted,
    dry_run: DryRun,
) {
    let Counted { count, together, hit, last_sample } = kills;
    let target = &entry.targets[i];
    let Name::Container(container, id) = target.name.clone() else { return };
    let reason = match (hit, miss_reason(entry, Some(target), dry_run)) {
        (Hit::Node, _) => MissReason::NodeWide,
        (Hit::Inside, MissReason::TooFast) => MissReason::InnerLimit,
        (Hit::Unclear, MissReason::TooFast) if is_far(last_sample.map(|l| l.sample)) => MissReason::NodeWide,
        (Hit::Pod | Hit::Either | Hit::Unclear, MissReason::TooFast)
            if is_pods_doing(entry, last_sample.map(|l| l.sample)) =>
        {
            MissReason::PodLimit
        }
        (_, reason) => reason,
    };
    let filled = hit == Hit::Own || reason == MissReason::TooFast;
    // What the kill's report says of the pod is newer.
    let known = target.known().map(|known| Box::new(Known { last: last_sample.unwrap_or(known.last), ..known }));
    let last_sample = last_sample.map(|last_sample| Box::new((last_sample, now.saturating_sub(last_sample.sample.at))));
    let goes_on_at = Some(now + GOES_ON);
    match entry.unsettled.iter_mut().find(|u| u.id == id) {
        Some(known) => (known.count, known.goes_on_at) = (known.count.saturating_add(count), goes_on_at),
        None => {
            let fresh = Unsettled { container, id, count, reason, filled, last_sample, known, goes_on_at };
            entry.unsettled.push(fresh);
        }
    }
    if together {
        // The processes of one container, killed at once, count as one kill.
        entry.unsettled.iter_mut().filter(|u| u.id == id).for_each(|u| u.count = 1);
        settle(effects, entry, |u| (u.id == id).then_some(true));
    } else if entry.unsettled.len() > MOST_KILLS {
        let oldest = entry.unsettled[0].id;
        settle(effects, entry, |u| (u.id == oldest).then_some(false));
    }
}

/// Reports kills that a container has survived.
pub(super) fn settle_by_time(effects: &mut Vec<Effect>, entry: &mut Entry, now: Moment) {
    settle(effects, entry, |u| u.goes_on_at.is_some_and(|at| at <= now).then_some(false));
}

/// Settles all kills, because there will be no more news of the pod.
pub(super) fn settle_all(effects: &mut Vec<Effect>, entry: &mut Entry) {
    settle(effects, entry, |u| Some(u.goes_on_at.is_none()));
}

/// Reports the kills of which it is known now whether they ended the container.
fn settle(effects: &mut Vec<Effect>, entry: &mut Entry, known: impl Fn(&Unsettled) -> Option<bool>) {
    for unsettled in std::mem::take(&mut entry.unsettled) {
        let Some(whole) = known(&unsettled) else {
            entry.unsettled.push(unsettled);
            continue;
        };
        let Unsettled { container, id, count, reason, filled, last_sample, known, .. } = unsettled;
        if whole {
            remember(entry, &id);
        }
        let subject = Subject::Missed { reason, last_sample, count, whole };
        let known = known.map(|known| *known).or_else(|| known_of(entry, &container, &id));
        effects.push(Effect::Notify(Box::new(notice(entry, Some(container), subject, known, filled))));
    }
}

/// What is known of an instance of a container.
fn known_of(entry: &Entry, container: &str, id: &ContainerId) -> Option<Known> {
    match entry.of_instance(id).map(|target| &target.state) {
        Some(GroupState::Watched { view, .. }) => view.known(),
        _ => entry.last_samples.get(container).filter(|(of, ..)| of == id).and_then(|(_, view, _)| view.known()),
    }
}

/// Reports the kills that are new in a pod's status.
pub(super) fn notify_kills(effects: &mut Vec<Effect>, entry: &mut Entry, dry_run: DryRun, now: Moment) {
    if entry.never.is_some_and(|n| !matches!(n, Never::Terminating | Never::Finished)) {
        return; // it was never guarded
    }
    let containers = entry.pod.containers.clone();
    settle(effects, entry, |u| {
        let killed = containers.iter().any(|c| c.oom_killed.contains(&u.id));
        let runs = containers.iter().any(|c| c.running && c.id.as_ref().is_some_and(|id| id.as_ref() == Ok(&u.id)));
        if killed { Some(true) } else { (!runs).then_some(false) }
    });
    let guarded = |name: &String| entry.guard.as_ref().map_or(true, |g| g.containers.contains(name));
    let killed: Vec<(String, ContainerId)> = (entry.pod.containers.iter())
        .filter(|c| guarded(&c.name))
        .flat_map(|c| c.oom_killed.iter().map(|id| (c.name.clone(), *id)))
        .filter(|(_, id)| !entry.kills.contains(id))
        .collect();
    for (name, id) in killed {
        let target = entry.of_instance(&id);
        let kept = entry.last_samples.get(&name).filter(|(i, ..)| *i == id);
        let (last_sample, reason) = match (target, kept) {
            (Some(target), _) => {
                let last_sample = match &target.state {
                    GroupState::Watched { view, .. } => view.last(),
                    GroupState::Resolving { .. } => kept.and_then(|(_, shown, _)| shown.last()),
                };
                let reason = kept.map(|(.., reason)| *reason);
                (last_sample, reason.unwrap_or_else(|| miss_reason(entry, Some(target), dry_run)))
            }
            (None, Some((_, shown, reason))) => (shown.last(), *reason),
            (None, None) => (None, miss_reason(entry, None, dry_run)),
        };
        let sample = last_sample.map(|last_sample| last_sample.sample);
        let reason = match reason {
            MissReason::TooFast if was_pod_full(sample) && is_pods_doing(entry, sample) => MissReason::PodLimit,
            reason => reason,
        };
        remember(entry, &id);
        let last_sample =
            last_sample.map(|last_sample| Box::new((last_sample, now.saturating_sub(last_sample.sample.at))));
        let subject = Subject::Missed { reason, last_sample, count: 1, whole: true };
        let (known, filled) = (known_of(entry, &name, &id), reason == MissReason::TooFast);
        effects.push(Effect::Notify(Box::new(notice(entry, Some(name), subject, known, filled))));
    }
}

/// Remembers an instance that a kill ended, to report this once.
fn remember(entry: &mut Entry, id: &ContainerId) {
    if entry.kills.contains(id) {
        return;
    }
    if entry.kills.len() >= MOST_KILLS {
        // The oldest that no longer appears in the pod's status.
        let spoken_of = |k: &ContainerId| entry.pod.containers.iter().any(|c| c.oom_killed.contains(k));
        let forgotten = entry.kills.iter().position(|k| !spoken_of(k));
        forgotten.map(|i| entry.kills.remove(i));
    }
    entry.kills.push_back(*id);
}

/// Whether others in the pod filled its limit, rather than this container, which was last sampled like this. If the
/// pod's own group is guarded, too, that is no reason.
fn is_pods_doing(entry: &Entry, sample: Option<Sample>) -> bool {
    let guards_pod = entry.guard.as_ref().is_ok_and(|g| g.pod_group);
    let Some(Sample { own, pod: Some(pod), .. }) = sample else { return false };
    let Some(limit) = pod.limit.filter(|_| !guards_pod) else { return false };
    // Usage alone: this container's cache also counts in the pod's usage.
    let (own_left, pod_left) = (own.limit.unwrap_or(limit).less(own.usage), limit.less(pod.usage));
    own_left.less(pod_left) >= Bytes(limit.0 / OTHERS_PART).max(OTHERS_LEAST)
}

/// Whether neither limit was near: where the kernel does not count what was hit (cgroup v1 under a kubelet), a kill was the node's.
fn is_far(sample: Option<Sample>) -> bool {
    let far = |level: Level| level.limit.is_none_or(|limit| level.usage.times(2) < limit);
    sample.is_some_and(|sample| far(sample.own) && sample.pod.is_none_or(far))
}

/// Whether the pod was close to its limit.
fn was_pod_full(sample: Option<Sample>) -> bool {
    let pod = sample.and_then(|s| s.pod);
    pod.is_some_and(|pod| pod.limit.is_some_and(|limit| pod.usage >= Bytes(limit.0 / 8).times(FULL)))
}

/// Why a container that is killed now was not evicted before.
pub(super) fn miss_reason(entry: &Entry, target: Option<&Guarded>, dry_run: DryRun) -> MissReason {
    let Ok(guard) = &entry.guard else { return MissReason::InvalidGuard };
    match (&entry.stage, &entry.failure) {
        (Stage::Leaving(_), _) => return MissReason::Terminating,
        _ if entry.never == Some(Never::Terminating) => return MissReason::Terminating,
        _ if dry_run.max(guard.dry_run) != DryRun::Off => return MissReason::DryRun,
        (Stage::Deferred { .. }, _) => return MissReason::Deferred,
        (Stage::NoRemedy { .. }, _) => return MissReason::NoRemedy,
        (Stage::Trying(attempt), _) if attempt.is_sent() => return MissReason::Terminating,
        (Stage::Retrying { .. } | Stage::Posting { again: true, .. }, failure) => {
            let is_blocked = failure.as_ref().is_some_and(|failure| failure.blocked);
            return if is_blocked { MissReason::Blocked } else { MissReason::Refused };
        }
        _ => {}
    }
    match target.map(|t| &t.state) {
        Some(GroupState::Watched { view, .. }) => match view.verdict() {
            Some(Verdict::Sustaining { .. }) => MissReason::Sustaining,
            Some(Verdict::NoLimit | Verdict::BeyondLimit) => MissReason::InvalidGuard,
            _ => MissReason::TooFast,
        },
        _ => MissReason::TooFast,
    }
}
