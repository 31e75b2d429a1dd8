//! The result of a request: its answer, the end of the pod, or nothing.

use std::time::Duration;

use super::attempt::is_killed;
use super::core::{Controller, InFlight, Key, key_of};
use super::effects::{Effect, notice_of, notify};
use super::entry::{Entry, Failure, Leaving, Stage, above_targets, failures, growth_of, undecided, urgency};
use crate::act::answer::Answer;
use crate::act::order::Act;
use crate::decide::restraint::{OwnerKey, Reason, Reservation};
use crate::ground::clock::{Moment, signed};
use crate::pods::PodRef;
use crate::pods::guard::{DryRun, Remedy};
use crate::report::notice::{Notice, Subject};
use crate::sampler::{Command, TargetId};

/// The API server's default for `spec.terminationGracePeriodSeconds`.
pub(super) const DEFAULT_GRACE: u32 = 30;
/// After the grace period, the kubelet kills the container; it needs this time for that.
pub(super) const KILL_MARGIN: Duration = Duration::from_secs(5);
/// The watch marks a pod as terminating within some ms of its eviction (measured). After this time, nothing came of the
/// request, and it is repeated. By then a watch that hangs before its headers has been detected (10 s). One that dies
/// silently later is detected after 195 s: until then the report is wrong, and the repeated request harmless, because it
/// names the uid.
const MARKED_WITHIN: Duration = Duration::from_secs(12);

impl Controller {
    /// Handles the server's answer to a request.
    pub fn answered(&mut self, now: Moment, order: u64, answer: &Answer) {
        let Some(request) = self.in_flight.remove(&order) else {
            return;
        };
        if !matches!(answer, Answer::Unknown { .. } | Answer::Unauthorized) {
            self.heard(now);
        }
        let key = key_of(&request.pod);
        self.take_answer(now, order, request, answer, &key);
        self.open.insert(key.clone());
        self.note_due(&key);
    }

    // From the answer to what follows from it, in one line of thought: longer than a screen.
    fn take_answer(&mut self, now: Moment, order: u64, request: InFlight, answer: &Answer, key: &Key) {
        if request.act.remedy() != Remedy::Evict && request.mode == DryRun::Off {
            return self.resize_answered(now, order, request, answer, key);
        }
        let took = now.saturating_sub(request.since);
        let (act, mode, evidence) = (request.act, request.mode, request.evidence);
        let entry = self.pods.get(key).filter(|e| e.pod.id.uid == request.pod.uid);
        let subject = match answer {
            Answer::Accepted => {
                let passed = request.passed.clone();
                let too_late = entry.zip(request.container.as_deref()).is_some_and(|(entry, container)| {
                    let target = entry.targets.iter().find(|t| t.name.container() == Some(container));
                    target.is_some_and(|target| is_killed(entry, target.id, container))
                });
                Subject::Evicted { evidence, act, mode, grace: request.grace, took, passed, too_late }
            }
            answer => Subject::NotEvicted { evidence, act, answer: answer.clone(), mode, asked: false },
        };
        if *answer == Answer::Accepted && mode == DryRun::Off {
            self.latencies.answered(&key.0, took);
            if let (Some(age), Some(reservation)) = (request.age, &request.reservation) {
                self.restraint.ended(
                    reservation.owner(),
                    signed(request.since).saturating_sub(signed(age)),
                    signed(now),
                );
            }
        }
        // A restart that was given up has this token, too, and may have its effect yet.
        let may_have_happened =
            request.may_have_happened || entry.is_some_and(|entry| entry.remedies.abandoned.is_some());
        let target = match entry.map(|e| &e.stage) {
            Some(Stage::Posting { target, order: awaited, .. }) if *awaited == order => Some(*target),
            _ => None,
        };
        let Some(target) = target else {
            // The pod is gone, or was released meanwhile. What happened to it is reported all the same.
            let (pod, owner, container) = (request.pod, request.owner, request.container);
            let notice = Notice { pod, owner, container, by_namespace: request.by_namespace, subject, story: None };
            self.effects.push(Effect::Notify(Box::new(notice)));
            self.settle(answer, may_have_happened, request.reservation);
            return;
        };
        let grace = request.grace.or(request.pod_grace).unwrap_or(DEFAULT_GRACE);
        let reservation = self.settle(answer, may_have_happened, request.reservation);
        let Some(entry) = self.pods.get_mut(key) else { return };
        // By the last sample: what was seen at the crossing may have been a single step.
        let left = entry.targets.iter().find(|t| t.id == target).map(urgency).filter(|left| *left != Duration::MAX);
        let earlier = if act == Act::Delete { &entry.delete_failure } else { &entry.failure };
        let attempt = failures(earlier.as_deref(), now);
        match answer.retry_after(attempt, self.random.f64(), left) {
            None => {
                let (asked, mark_by) = (request.since, Some(now + MARKED_WITHIN));
                let end_by = Some(now + Duration::from_secs(u64::from(grace)) + KILL_MARGIN);
                let leaving = Leaving { target, evidence, act, asked, since: now, reservation, mark_by, end_by };
                self.accepted(key, leaving, mode, request.container, subject);
            }
            Some(wait) => {
                let may_have_happened = reservation.is_some();
                entry.reserved = reservation;
                entry.may_have_happened = may_have_happened;
                fail(&mut self.effects, entry, request.container, &subject, answer, now + wait, attempt);
                if act.remedy() != Remedy::Evict {
                    // A dry run is tried no more often.
                    entry.remedies.fail(target, act.remedy(), now, Some(answer.label()), |_| wait);
                }
                let at = entry.failure.as_ref().map_or(now + wait, |f| f.not_before);
                entry.stage = Stage::Retrying { target, at };
            }
        }
    }

    fn accepted(&mut self, key: &Key, leaving: Leaving, mode: DryRun, container: Option<String>, subject: Subject) {
        let Some(entry) = self.pods.get_mut(key) else { return };
        let (target, at) = (leaving.target, leaving.since);
        entry.stage = match mode {
            DryRun::Off => Stage::Leaving(Box::new(leaving)),
            mode => Stage::Tried { target, mode, outcome: Answer::Accepted.label(), at },
        };
        self.effects.push(Effect::Notify(Box::new(notice_of(entry, container, subject))));
        if mode == DryRun::Off {
            self.effects.push(Effect::Sampler(Command::Follow(target)));
        }
        // Meanwhile the dry run may no longer be wanted, or the target may have dipped.
        let is_wanted = entry.guard.as_ref().is_ok_and(|g| self.settings.dry_run.max(g.dry_run) == mode);
        let is_above = above_targets(entry).iter().any(|i| entry.targets[*i].id == target);
        if undecided(&entry.stage).is_some() && !(is_above && is_wanted) {
            entry.stage = Stage::Idle;
        }
    }

    /// Gives a reservation back unless its eviction has happened or may have. If the answer was lost, the request
    /// may have succeeded; so may an earlier one with unknown outcome.
    fn settle(
        &mut self,
        answer: &Answer,
        may_have_happened: bool,
        reservation: Option<Reservation>,
    ) -> Option<Reservation> {
        if *answer == Answer::Accepted || answer.is_lost() || may_have_happened {
            return reservation;
        }
        self.refund(&reservation?);
        None
    }

    /// Gives back the token of an eviction that did not happen. Evictions that were deferred because of it need not wait
    /// any longer.
    pub(super) fn refund(&mut self, reservation: &Reservation) {
        self.restraint.refund(reservation);
        self.reopen_deferred(reservation.owner(), true);
    }

    /// Reconsiders what was deferred because of this owner; with `budget`, also what was deferred because of the node's
    /// budget.
    pub(super) fn reopen_deferred(&mut self, owner: &OwnerKey, budget: bool) {
        let deferral = self.pods.iter().filter(|(_, entry)| match &entry.stage {
            Stage::Deferred { deferral, .. } => match deferral.reason {
                Reason::Owner | Reason::Turn => entry.owner == *owner,
                Reason::Budget | Reason::Rescues => budget,
                Reason::Young | Reason::DiesYoung => false,
            },
            _ => false,
        });
        self.open.extend(deferral.map(|(key, _)| key.clone()));
    }

    /// The API server answers again: requests that got no answer are sent again at once.
    pub fn heard(&mut self, now: Moment) {
        for (key, entry) in &mut self.pods {
            if entry.remedies.heard()
                && let Stage::Retrying { at, .. } | Stage::Deferred { look_at: at, .. } = &mut entry.stage
            {
                *at = (*at).min(now);
                self.open.insert(key.clone());
            }
            let unheard = |f: &&mut Failure| f.unheard && now < f.not_before;
            if let (Stage::Retrying { at, .. }, Some(failure)) =
                (&mut entry.stage, entry.failure.as_deref_mut().filter(unheard))
            {
                (failure.not_before, *at) = (now, now);
                self.open.insert(key.clone());
            }
        }
    }

    /// Handles what is due by time in a pod's eviction.
    pub(super) fn eviction_due(&mut self, now: Moment, key: &Key) {
        let away = self.away;
        let Some(entry) = self.pods.get_mut(key) else { return };
        let is_open = match &entry.stage {
            Stage::Retrying { at, .. } | Stage::NoRemedy { at, .. } | Stage::Deferred { look_at: at, .. } => *at <= now,
            Stage::Trying(attempt) => attempt.look_at <= now,
            _ => false,
        };
        if is_open {
            self.open.insert(key.clone());
            return;
        }
        let Stage::Leaving(leaving) = &mut entry.stage else { return };
        if leaving.mark_by.is_some_and(|at| at <= now) {
            if away {
                // Without the watch nothing shows whether the pod is marked. Check again later.
                leaving.mark_by = Some(now + MARKED_WITHIN);
            } else {
                return self.nothing_came_of_it(now, key);
            }
        }
        let Stage::Leaving(leaving) = &mut entry.stage else { return };
        if leaving.end_by.is_some_and(|at| at <= now) {
            let (target, since) = (leaving.target, leaving.since);
            // If it is still there and growing, this is reported once. If it is only still there, it is checked again.
            leaving.end_by = None;
            match growth_of(entry, target) {
                Some(growth) if growth > 0 => {
                    let subject = Subject::Slow { since: now.saturating_sub(since), growth };
                    let container = entry.container_of(target);
                    notify(&mut self.effects, entry, container, subject);
                }
                Some(_) => {
                    if let Stage::Leaving(leaving) = &mut entry.stage {
                        leaving.end_by = Some(now + KILL_MARGIN);
                    }
                }
                None => {}
            }
        }
    }

    /// The server accepted a request, and the pod was not marked for deletion.
    fn nothing_came_of_it(&mut self, now: Moment, key: &Key) {
        let Some(entry) = self.pods.get_mut(key) else { return };
        let Stage::Leaving(leaving) = std::mem::replace(&mut entry.stage, Stage::Idle) else { return };
        let Leaving { target, evidence, act, reservation, .. } = *leaving;
        entry.reserved = reservation;
        entry.may_have_happened = true;
        let answer = Answer::Ineffective;
        let attempt = failures(entry.failure.as_deref(), now);
        let wait = answer.retry_after(attempt, self.random.f64(), None).unwrap_or_default();
        let container = entry.container_of(target);
        let subject = Subject::NotEvicted { evidence, act, answer: answer.clone(), mode: DryRun::Off, asked: false };
        fail(&mut self.effects, entry, container, &subject, &answer, now + wait, attempt);
        self.open.insert(key.clone());
    }

    /// A target's group is gone. If its eviction was under way, this shows the latency.
    pub(super) fn learn_end(&mut self, now: Moment, pod: &PodRef, id: TargetId) {
        let key = key_of(pod);
        self.restart_ended(now, &key, id);
        let Some(Stage::Leaving(leaving)) = self.pods.get(&key).map(|entry| &entry.stage) else { return };
        if leaving.target == id {
            self.latencies.ended(&key.0, now.saturating_sub(leaving.asked));
        }
    }
}

/// Stores a failure and reports it.
fn fail(
    effects: &mut Vec<Effect>,
    entry: &mut Entry,
    container: Option<String>,
    subject: &Subject,
    answer: &Answer,
    not_before: Moment,
    attempt: u32,
) {
    let failure = Failure {
        answer: answer.label(),
        words: subject.words(),
        blocked: matches!(answer, Answer::Blocked { .. }),
        unheard: matches!(answer, Answer::Unknown { .. } | Answer::Unauthorized),
        attempt: attempt.saturating_add(1),
        not_before,
    };
    match subject {
        Subject::NotEvicted { act: Act::Delete, .. } => entry.delete_failure = Some(Box::new(failure)),
        _ => {
            if failure.blocked {
                entry.remedies.eviction_blocked(not_before);
            }
            entry.failure = Some(Box::new(failure));
        }
    }
    notify(effects, entry, container, subject.clone());
}
