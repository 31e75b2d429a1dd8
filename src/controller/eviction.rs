//! What to do about a container above its threshold: check restraint, and send a request.

use std::time::Duration;

use jiff::Timestamp;

use super::core::{Controller, InFlight, Key, Read};
use super::effects::{Effect, notice_of, notify};
use super::entry::{Entry, Eviction, GroupState, above_targets, age, urgency};
use crate::act::order::{Act, Order};
use crate::decide::judge::{Evidence, History, Verdict};
use crate::decide::restraint::{Candidate, Deferral, Reservation};
use crate::ground::clock::Moment;
use crate::ground::memory::Sample;
use crate::pods::guard::{DryRun, Guard, Rule};
use crate::report::notice::Subject;
use crate::sampler::{Command, TargetId};

/// How soon to check whether an earlier request was answered meanwhile.
const ANSWER_CHECK: Duration = Duration::from_millis(200);

impl Controller {
    /// Decides about the pods that something has happened to, those with the least time left first. `read` reads all
    /// values of a target anew: nothing is sent for a container that is not above its threshold at that very moment.
    pub fn decide(&mut self, now: Moment, read: &mut Read<'_>) {
        let open = std::mem::take(&mut self.open);
        let left = |key: &Key| {
            let entry = self.pods.get(key);
            let above = entry.and_then(|e| above_targets(e).first().map(|i| urgency(&e.targets[*i])));
            above.unwrap_or(Duration::MAX)
        };
        let mut open: Vec<(Duration, Key)> = open.into_iter().map(|key| (left(&key), key)).collect();
        // Those with the least time left come first, in case the budget is not enough for all.
        open.sort();
        for (_, key) in open {
            self.consider(now, &key, read);
            self.note_due(&key);
        }
    }

    fn consider(&mut self, now: Moment, key: &Key, read: &mut Read<'_>) {
        let Some((act, guard, back_off)) = self.next_step(now, key) else { return };
        let others = self.pods.iter().any(|((namespace, _), e)| *namespace != key.0 && e.guard.is_ok());
        let (replaced, latency) = (self.is_replaced(key), self.latencies.p90(&key.0));
        let Some(entry) = self.pods.get_mut(key) else { return };
        let (mut deferral, mut still_above) = (None::<(TargetId, Deferral, Evidence)>, None);
        for i in above_targets(entry) {
            let Some(evidence) = read_again(&mut self.effects, entry, i, &guard, read) else { continue };
            let id = entry.targets[i].id;
            still_above = still_above.or(Some(id));
            if act == Act::Delete && !evidence.critical {
                continue;
            }
            let age = age(&entry.pod, &entry.targets, i, self.wall, now);
            let candidate =
                Candidate { owner: &entry.owner, age, deadline: evidence.deadline(latency), replaced, others };
            match self.restraint.reserve(now, &candidate, &mut entry.reserved) {
                Ok(reservation) => return self.send(now, key, i, act, evidence, reservation),
                Err(this) if deferral.is_none_or(|(_, other, _)| this.until < other.until) => {
                    deferral = Some((id, this, evidence))
                }
                Err(_) => {}
            }
        }
        entry.eviction = match (deferral, still_above, back_off) {
            (Some((target, deferral, evidence)), ..) => {
                // A deferred deletion does not keep the eviction from being retried.
                let until = back_off.map_or(deferral.until, |at| deferral.until.min(at));
                let deferral = Deferral { until, ..deferral };
                let container = entry.targets.iter().find(|t| t.id == target).and_then(|t| t.name.container());
                let container = container.map(str::to_owned);
                let until = self.wall.saturating_add(until).unwrap_or(Timestamp::MAX);
                let subject = Subject::Deferred { evidence, until, reason: deferral.reason };
                notify(&mut self.effects, entry, container, subject);
                Eviction::Deferred { target, deferral }
            }
            (None, Some(target), Some(at)) => Eviction::Retrying { target, at },
            _ => Eviction::Idle,
        };
    }

    /// What may be requested now for a pod with a target above its threshold, and until when its eviction backs off.
    /// `None`: nothing may be requested, and the entry shows what the pod waits for.
    fn next_step(&mut self, now: Moment, key: &Key) -> Option<(Act, Guard, Option<Moment>)> {
        let in_flight = self.pods.get(key).is_some_and(|e| self.in_flight.values().any(|r| r.pod == e.pod.id));
        let entry = self.pods.get_mut(key)?;
        if matches!(entry.eviction, Eviction::Posting { .. } | Eviction::Leaving(_)) {
            return None;
        }
        let above = above_targets(entry);
        let (Ok(guard), None, Some(first)) = (&entry.guard, entry.never, above.first().map(|i| entry.targets[*i].id))
        else {
            entry.eviction = Eviction::Idle;
            return None;
        };
        if let Eviction::Tried { target, .. } = entry.eviction
            && above.iter().any(|i| entry.targets[*i].id == target)
        {
            return None;
        }
        let back_off = entry.failure.as_ref().filter(|f| now < f.not_before);
        let may_delete = entry.delete_failure.as_ref().is_none_or(|f| f.not_before <= now);
        let act = match back_off {
            None => Act::Evict,
            Some(failure) if failure.blocked && guard.rule.force_delete.is_some() && may_delete => Act::Delete,
            Some(failure) => {
                entry.eviction = Eviction::Retrying { target: first, at: failure.not_before };
                return None;
            }
        };
        if in_flight {
            // The pod lost its label and got it back; an earlier request is still without an answer.
            entry.eviction = Eviction::Retrying { target: first, at: now + ANSWER_CHECK };
            return None;
        }
        Some((act, guard.clone(), back_off.map(|f| f.not_before)))
    }

    /// Whether a pod of the same owner that was created after the owner's last eviction is ready on this node.
    fn is_replaced(&self, key: &Key) -> bool {
        let Some(owner) = self.pods.get(key).map(|e| &e.owner) else { return false };
        let Some(last) = self.restraint.last_eviction(owner) else { return false };
        // The server's times have whole seconds.
        let evicted = self.wall.saturating_add(last).ok().map(|t| t.as_second());
        self.pods.values().any(|e| {
            let made_since = e.since > last && e.pod.created.map(Timestamp::as_second) >= evicted;
            e.owner == *owner && e.pod.ready && e.never.is_none() && made_since
        })
    }

    fn send(&mut self, now: Moment, key: &Key, i: usize, act: Act, evidence: Evidence, reservation: Reservation) {
        let Some(entry) = self.pods.get_mut(key) else { return };
        let Ok(guard) = &entry.guard else { return };
        let mode = self.settings.dry_run.max(guard.dry_run);
        let grace = guard.eviction_grace;
        let target = entry.targets[i].id;
        let container = entry.targets[i].name.container().map(str::to_owned);
        if mode == DryRun::Client {
            entry.eviction = Eviction::Tried { target, mode, outcome: "not sent", at: now };
            let subject = Subject::Evicted { evidence, act, mode, grace, took: Duration::ZERO };
            self.effects.push(Effect::Notify(Box::new(notice_of(entry, container, subject))));
            return;
        }
        let order = self.next_order;
        self.next_order += 1;
        let may_have_happened = std::mem::take(&mut entry.may_have_happened);
        entry.eviction = Eviction::Posting { target, order };
        let pod = entry.pod.id.clone();
        self.in_flight.insert(
            order,
            InFlight {
                pod: pod.clone(),
                owner: entry.pod.owner.clone(),
                by_namespace: entry.by_namespace,
                container,
                evidence,
                act,
                mode,
                grace,
                pod_grace: entry.pod.grace,
                age: age(&entry.pod, &entry.targets, i, self.wall, now),
                since: now,
                reservation,
                may_have_happened,
            },
        );
        self.effects.push(Effect::Post(order, Order { pod, act, grace, dry_run: mode == DryRun::Server }));
    }
}

/// Reads a target that was reported as above its threshold. `None` if it is not; the sampler is then rearmed.
fn read_again(
    effects: &mut Vec<Effect>,
    entry: &mut Entry,
    i: usize,
    guard: &Guard,
    read: &mut Read<'_>,
) -> Option<Evidence> {
    let target = &mut entry.targets[i];
    let GroupState::Watched { groups, view, above, .. } = &mut target.state else { return None };
    let sample = read(target.id, groups).ok().flatten();
    let Some(mut evidence) = sample.and_then(|sample| judge_again(guard, &sample)) else {
        *above = None;
        effects.push(Effect::Sampler(Command::Rearm(target.id)));
        return None;
    };
    // A single reading shows no growth; the sampler's last sample does.
    let seen = match view.last().map(|last_sample| last_sample.verdict) {
        Some(Verdict::Above(seen)) => Some(seen),
        _ => *above,
    };
    if let Some(seen) = seen {
        evidence.growth = seen.growth;
        evidence.slow_growth = seen.slow_growth;
        evidence.growth_at_least = seen.growth_at_least;
        evidence.waived = seen.waived;
    }
    Some(evidence)
}

/// Judges a single reading; the sampler has already checked that it was above its threshold for long enough.
fn judge_again(guard: &Guard, sample: &Sample) -> Option<Evidence> {
    let rule = Rule { sustained_for: Duration::ZERO, ..guard.rule };
    match History::default().observe(&rule, sample, Duration::ZERO) {
        Verdict::Above(evidence) => Some(evidence),
        _ => None,
    }
}
