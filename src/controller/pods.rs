//! Pods come, change and go.

use std::collections::BTreeSet;

use jiff::{SignedDuration, Timestamp};

use super::core::{Controller, Key, key_of, since};
use super::effects::{Effect, notify, notify_bad_ids};
use super::entry::{Entry, GroupState, Guarded, Name, Stage, owner_key, undecided, want, wanted};
use super::kills::{keep_last_sample, notify_kills, settle_all};
use crate::decide::eligibility::{Never, never};
use crate::decide::restraint::{GENERATIONS, OwnerKey, QUIET};
use crate::ground::clock::{Moment, signed};
use crate::pods::guard::{self, Guard, Problem, Rule, Warning};
use crate::pods::{Container, ContainerId, Pod, PodChange};
use crate::report::notice::Subject;
use crate::sampler::{Command, TargetId};

/// A guard, or what is wrong with it.
type ParsedGuard = Result<Guard, Vec<Problem>>;
/// A pod and its guard before a change.
type Before = (Pod, ParsedGuard);

/// How many generations the last end of a container stands for, if the pod existed before the agent started. The status
/// shows one end, but counts all. If the container was restarted more often than once in ten minutes, the other ends
/// count as young, too.
fn earlier_generations(pod: &Pod, container: &Container, wall: Timestamp, now: Moment) -> u32 {
    let lived = pod.created.map(|created| signed(now).saturating_sub(since(wall, created)));
    let restarts = container.restarts.saturating_add(1);
    let is_loop =
        lived.is_some_and(|lived| lived < signed(QUIET).saturating_mul(i32::try_from(restarts).unwrap_or(i32::MAX)));
    if is_loop { container.restarts.clamp(1, GENERATIONS) } else { 1 }
}

impl Controller {
    /// Handles a change from the watch.
    pub fn pod_changed(&mut self, now: Moment, change: PodChange) {
        match change {
            PodChange::Listing => self.listing = Some(BTreeSet::new()),
            PodChange::Listed => {
                self.listed = true;
                self.away = false;
                if let Some(seen) = self.listing.take() {
                    let gone = self.pods.keys().filter(|k| !seen.contains(*k));
                    for key in gone.cloned().collect::<Vec<_>>() {
                        self.remove(&key);
                    }
                }
            }
            PodChange::Applied(pod) => {
                // A watch that resumes sends changes without a list.
                self.away &= self.listing.is_some();
                self.applied(now, *pod);
            }
            PodChange::Gone(gone) => {
                let key = key_of(&gone);
                // A change of an earlier pod with this name says nothing about this one.
                if self.pods.get(&key).is_some_and(|e| e.pod.id.uid == gone.uid) {
                    self.remove(&key);
                }
            }
            PodChange::Failed(_) => self.away = true,
        }
    }

    fn applied(&mut self, now: Moment, mut pod: Pod) {
        let key = key_of(&pod.id);
        if let Some(seen) = &mut self.listing {
            seen.insert(key.clone());
        }
        if self.pods.get(&key).is_some_and(|e| e.pod.id.uid != pod.id.uid) {
            self.remove(&key); // an earlier pod of the same name
        }
        let Some(reading) = guard::read(&pod) else {
            self.remove(&key);
            return;
        };
        let by_namespace = guard::by_namespace(&pod);
        pod.annotations.clear(); // they have been read, and they can be large
        let was_ready = self.pods.get(&key).is_some_and(|e| e.pod.ready);
        let is_newly_ready = pod.ready && !was_ready;
        let owner = owner_key(&pod);
        let before = self.replace(now, &key, pod, owner.clone(), reading.guard, by_namespace);
        if let Some(entry) = self.pods.get_mut(&key) {
            entry.remedies.observe(now, &entry.pod);
        }
        self.learn_young_ends(now, &key, before.as_ref());
        self.notify_of_guard(now, &key, reading.warnings);
        self.update_targets(now, &key, before.as_ref().map(|(_, guard)| guard));
        if is_newly_ready {
            self.reopen_deferred(&owner, false);
        }
        self.open.insert(key.clone());
        self.note_due(&key);
    }

    /// Stores the pod as it is now. Returns the pod and the guard as they were; `None` if the pod is new.
    fn replace(
        &mut self,
        now: Moment,
        key: &Key,
        pod: Pod,
        owner: OwnerKey,
        guard: ParsedGuard,
        by_namespace: bool,
    ) -> Option<Before> {
        let never = never(&pod, &self.settings.scope);
        let Some(entry) = self.pods.get_mut(key) else {
            let entry = Entry::new(now, pod, owner, guard, by_namespace, never);
            self.pods.insert(key.clone(), Box::new(entry));
            return None;
        };
        entry.owner = owner;
        entry.by_namespace = by_namespace;
        entry.never = never;
        if let (Some(Never::Terminating), Stage::Leaving(leaving)) = (never, &mut entry.stage) {
            leaving.mark_by = None;
        }
        Some((std::mem::replace(&mut entry.pod, pod), std::mem::replace(&mut entry.guard, guard)))
    }

    /// Counts the OOM kills that are new in the status as young ends of the pod's owner.
    fn learn_young_ends(&mut self, now: Moment, key: &Key, before: Option<&Before>) {
        let Some(entry) = self.pods.get(key) else { return };
        let guards = |guard: &ParsedGuard, c: &Container| guard.as_ref().is_ok_and(|g| g.containers.contains(&c.name));
        for container in entry.pod.containers.iter().filter(|c| guards(&entry.guard, c)) {
            // The status repeats each kill with every change of the pod.
            let known = before.into_iter().flat_map(|(pod, guard)| {
                pod.containers.iter().filter(|c| c.name == container.name && guards(guard, c))
            });
            let known: Vec<_> = known.flat_map(|c| &c.oom_lives).collect();
            for (from, to) in container.oom_lives.iter().filter(|life| !known.contains(life)) {
                // The end is in the past, and the life is not negative, whatever clock wrote the status.
                let ended = since(self.wall, *to).min(signed(now));
                let started = ended.saturating_sub(to.duration_since(*from).max(SignedDuration::ZERO));
                let is_new = before.is_none();
                let generations = if is_new { earlier_generations(&entry.pod, container, self.wall, now) } else { 1 };
                self.restraint.young_ends(&entry.owner, started, ended, generations);
            }
        }
    }

    /// Reports problems of the guard, and kills that are new in the status.
    fn notify_of_guard(&mut self, now: Moment, key: &Key, warnings: Vec<Warning>) {
        let Some(entry) = self.pods.get_mut(key) else { return };
        if let Some(never @ (Never::Mirror | Never::Static | Never::ExcludedNamespace)) = entry.never {
            notify(&mut self.effects, entry, None, Subject::Never(never));
        }
        if let Err(problems) = &entry.guard {
            let subject = Subject::InvalidGuard(problems.clone());
            notify(&mut self.effects, entry, None, subject);
        }
        for warning in warnings {
            notify(&mut self.effects, entry, None, Subject::GuardWarning(warning));
        }
        notify_bad_ids(&mut self.effects, entry);
        notify_kills(&mut self.effects, entry, self.settings.dry_run, now);
    }

    /// Drops targets that the pod should no longer have, and adds the new ones.
    fn update_targets(&mut self, now: Moment, key: &Key, old_guard: Option<&ParsedGuard>) {
        let Some(entry) = self.pods.get_mut(key) else { return };
        let edited = match (old_guard, &entry.guard) {
            (Some(Ok(old)), Ok(new)) if old != new => Some(new.rule),
            _ => None,
        };
        let never = entry.never;
        let wanted = wanted(&entry.pod, &entry.guard, never);
        let (kept, dropped): (Vec<_>, Vec<_>) =
            std::mem::take(&mut entry.targets).into_iter().partition(|t| wanted.contains(&t.name));
        entry.targets = kept;
        for target in dropped {
            self.forget(now, key, &target);
        }
        if let Some(rule) = edited {
            self.guard_edited(key, rule);
        }
        if never.is_none() {
            self.watch_new(now, key, wanted);
        }
    }

    /// The guard was edited: what was above its old threshold must be judged by the new rule.
    fn guard_edited(&mut self, key: &Key, rule: Rule) {
        let Some(entry) = self.pods.get_mut(key) else { return };
        for target in &mut entry.targets {
            target.edit += 1;
            if let GroupState::Watched { above, .. } = &mut target.state {
                *above = None;
                self.effects.push(Effect::Sampler(Command::Rule(target.id, rule, target.edit)));
            }
        }
        if undecided(&entry.stage).is_some() {
            entry.stage = Stage::Idle;
        }
    }

    fn watch_new(&mut self, now: Moment, key: &Key, wanted: Vec<Name>) {
        let Some(entry) = self.pods.get_mut(key) else { return };
        for name in wanted {
            if entry.targets.iter().any(|t| t.name == name) {
                continue;
            }
            let id = TargetId(self.next_id);
            self.next_id += 1;
            self.by_target.insert(id, key.clone());
            let state = GroupState::Resolving { since: now, attempt: 0, retry_at: None, why: None, had_group: false };
            let target = Guarded { id, name, since: now, edit: 0, state };
            let want = want(entry, &target, now);
            self.effects.push(Effect::Resolve(id, want));
            entry.targets.reserve_exact(1);
            entry.targets.push(target);
        }
    }

    pub(super) fn remove(&mut self, key: &Key) {
        if let Some(mut entry) = self.pods.remove(key) {
            settle_all(&mut self.effects, &mut entry);
            if let Some(at) = entry.noted_due {
                self.due.remove(&(at, key.clone()));
            }
            for target in &entry.targets {
                self.let_go(target);
            }
        }
    }

    /// Forgets a target of a pod that stays. If the pod's eviction was about it, the pod's other targets are considered.
    pub(super) fn forget(&mut self, now: Moment, key: &Key, target: &Guarded) {
        self.let_go(target);
        if let Some(entry) = self.pods.get_mut(key) {
            keep_last_sample(entry, target, self.settings.dry_run);
            let pod = entry.pod.id.clone();
            // If the sampler saw the end, it is learned already, or it came before the answer. Only its own time
            // counts, not that of the status. A container that is merely no longer guarded has not ended.
            let runs = |name: &str, id: &ContainerId| {
                let mut containers = entry.pod.containers.iter().filter(|c| c.name == name && c.running);
                containers.any(|c| matches!(&c.id, Some(Ok(own)) if own == id))
            };
            let has_ended = matches!(&target.name, Name::Container(name, id) if !runs(name, id));
            if has_ended && matches!(target.state, GroupState::Watched { .. }) {
                self.learn_end(now, &pod, target.id);
            }
            self.open.insert(key.clone());
        }
    }

    pub(super) fn let_go(&mut self, target: &Guarded) {
        self.by_target.remove(&target.id);
        if matches!(target.state, GroupState::Watched { .. }) {
            self.effects.push(Effect::Sampler(Command::Forget(target.id)));
        }
    }
}
