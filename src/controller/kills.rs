//! OOM kills of guarded containers: counted once, told with the reason that they were not prevented.

use super::Effect;
use super::entry::{Entry, Eviction, Name, State, Target, notice_of};
use crate::guard::DryRun;
use crate::pods::ContainerId;
use crate::policy::{Moment, Never, Verdict};
use crate::report::{MissReason, Subject};
use crate::sampler::LastLook;

/// Kills of so many of a pod's last containers are remembered, to count each once.
pub(super) const MOST_KILLS: usize = 16;

/// Remembers what was last read of a container that is no more, should its status tell of a kill.
pub(super) fn keep_last_look(entry: &mut Entry, target: &Target, dry_run: DryRun) {
    let Name::Container(name, id) = &target.name else { return };
    let State::Watched { view, .. } = &target.state else { return };
    let reason = miss_reason(entry, Some(target), dry_run);
    entry.last_looks.insert(name.clone(), (id.clone(), view.last(), reason));
}

/// Tells the kills that a pod's status has news of.
pub(super) fn tell_kills(effects: &mut Vec<Effect>, entry: &mut Entry, dry_run: DryRun, now: Moment) {
    if entry.never.is_some_and(|n| !matches!(n, Never::Terminating | Never::Finished)) {
        return; // never was guarded
    }
    let guarded = |name: &String| entry.guard.as_ref().map_or(true, |g| g.containers.contains(name));
    let killed: Vec<(String, ContainerId)> = (entry.pod.containers.iter())
        .filter(|c| guarded(&c.name))
        .flat_map(|c| c.oom_killed.iter().map(|id| (c.name.clone(), id.clone())))
        .filter(|(_, id)| !entry.kills.contains(id))
        .collect();
    for (name, id) in killed {
        let target = entry.targets.iter().find(|t| matches!(&t.name, Name::Container(_, i) if *i == id));
        let kept = entry.last_looks.get(&name).filter(|(i, ..)| *i == id);
        let (look, reason) = match (target, kept) {
            (Some(target), _) => {
                let look = match &target.state {
                    State::Watched { view, .. } => view.last(),
                    State::Resolving { .. } => kept.and_then(|(_, look, _)| *look),
                };
                let reason = kept.map(|(.., reason)| *reason);
                (look, reason.unwrap_or_else(|| miss_reason(entry, Some(target), dry_run)))
            }
            (None, Some((_, look, reason))) => (*look, *reason),
            (None, None) => (None, miss_reason(entry, None, dry_run)),
        };
        missed(effects, entry, now, &name, &id, look, reason);
    }
}

/// Tells that a container was killed all the same, once.
pub(super) fn missed(
    effects: &mut Vec<Effect>,
    entry: &mut Entry,
    now: Moment,
    container: &str,
    id: &ContainerId,
    look: Option<LastLook>,
    reason: MissReason,
) {
    if entry.kills.contains(id) {
        return;
    }
    if entry.kills.len() >= MOST_KILLS {
        // The oldest that the pod's status does not speak of any more.
        let spoken_of = |k: &ContainerId| entry.pod.containers.iter().any(|c| c.oom_killed.contains(k));
        let forgotten = entry.kills.iter().position(|k| !spoken_of(k));
        forgotten.map(|i| entry.kills.remove(i));
    }
    entry.kills.push_back(id.clone());
    let look = look.map(|look| Box::new((look, now.saturating_sub(look.sample.at))));
    let notice = notice_of(entry, Some(container.to_owned()), Subject::Missed { reason, look });
    effects.push(Effect::Tell(Box::new(notice)));
}

/// Why a container that is killed now was not evicted before.
pub(super) fn miss_reason(entry: &Entry, target: Option<&Target>, dry_run: DryRun) -> MissReason {
    let Ok(guard) = &entry.guard else { return MissReason::InvalidGuard };
    match (&entry.eviction, &entry.failure) {
        (Eviction::Leaving { .. }, _) => return MissReason::Terminating,
        _ if entry.never == Some(Never::Terminating) => return MissReason::Terminating,
        _ if dry_run.max(guard.dry_run) != DryRun::Off => return MissReason::DryRun,
        (Eviction::Held { .. }, _) => return MissReason::Held,
        (Eviction::Retrying { .. }, Some(failure)) if failure.blocked => return MissReason::Blocked,
        (Eviction::Retrying { .. } | Eviction::Done { .. }, _) => return MissReason::Refused,
        _ => {}
    }
    match target.map(|t| &t.state) {
        Some(State::Watched { view, .. }) => match view.last().map(|l| l.verdict) {
            Some(Verdict::Sustaining { .. }) => MissReason::Sustaining,
            Some(Verdict::NoLimit | Verdict::BeyondLimit) => MissReason::InvalidGuard,
            _ => MissReason::TooFast,
        },
        _ => MissReason::TooFast,
    }
}
