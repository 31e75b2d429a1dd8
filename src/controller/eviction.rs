//! The eviction of a pod, from the moment at which one of its targets is over to its end: what is due is decided, sent,
//! answered, tried again, followed.

use std::time::Duration;

use jiff::Timestamp;

use super::core::{Controller, InFlight, Key, Read, signed};
use super::effects::{Effect, notice_of, tell};
use super::entry::{
    Entry, Eviction, Failure, Leaving, State, age, failures, growth_of, over_targets, undecided, urgency,
};
use crate::act::answer::Answer;
use crate::act::order::{Act, Order};
use crate::decide::judge::{Evidence, History, Verdict};
use crate::decide::restraint::{Candidate, Held, OwnerKey, Reservation, Why};
use crate::ground::clock::Moment;
use crate::ground::memory::Sample;
use crate::pods::PodRef;
use crate::pods::guard::{DryRun, Guard, Rule};
use crate::report::notice::{Notice, Subject};
use crate::sampler::{Command, TargetId};

/// The API server's default for `spec.terminationGracePeriodSeconds`.
const DEFAULT_GRACE: u32 = 30;
/// After its grace, the kubelet kills; it needs a moment for that.
const KILL_MARGIN: Duration = Duration::from_secs(5);
/// How soon to see whether an earlier request was answered meanwhile.
const ANSWER_LOOK: Duration = Duration::from_millis(200);
/// A pod that is being ended is marked in the watch within some ms (measured). After this, nothing came of it. By then a
/// watch that hangs is known to (10 s to its headers).
const MARKED_WITHIN: Duration = Duration::from_secs(12);

impl Controller {
    /// Decides about the pods that something has happened to, those with the least time left first. `read` reads all of a
    /// target anew: nothing is sent for a container that is not over at that very moment.
    pub fn decide(&mut self, now: Moment, read: &mut Read<'_>) {
        let open = std::mem::take(&mut self.open);
        let left = |key: &Key| {
            let entry = self.pods.get(key);
            let over = entry.and_then(|e| over_targets(e).first().map(|i| urgency(&e.targets[*i])));
            over.unwrap_or(Duration::MAX)
        };
        let mut open: Vec<(Duration, Key)> = open.into_iter().map(|key| (left(&key), key)).collect();
        // Those with the least time left come first, should there not be enough for all.
        open.sort();
        for (_, key) in open {
            self.consider(now, &key, read);
            self.note_due(&key);
        }
    }

    fn consider(&mut self, now: Moment, key: &Key, read: &mut Read<'_>) {
        let others = self.pods.iter().any(|((namespace, _), e)| *namespace != key.0 && e.guard.is_ok());
        let replaced = self.is_replaced(key);
        let asked_already = self.pods.get(key).is_some_and(|e| self.in_flight.values().any(|r| r.pod == e.pod.id));
        let Some(entry) = self.pods.get_mut(key) else { return };
        if matches!(entry.eviction, Eviction::Posting { .. } | Eviction::Leaving(_)) {
            return;
        }
        let over = over_targets(entry);
        let (Ok(guard), None, Some(first)) = (&entry.guard, entry.never, over.first().map(|i| entry.targets[*i].id))
        else {
            entry.eviction = Eviction::Idle;
            return;
        };
        if let Eviction::Tried { target, .. } = entry.eviction
            && over.iter().any(|i| entry.targets[*i].id == target)
        {
            return;
        }
        let back_off = entry.failure.as_ref().filter(|f| now < f.not_before);
        let may_delete = entry.delete_failure.as_ref().is_none_or(|f| f.not_before <= now);
        let act = match back_off {
            None => Act::Evict,
            Some(failure) if failure.blocked && guard.rule.force_delete.is_some() && may_delete => Act::Delete,
            Some(failure) => {
                entry.eviction = Eviction::Retrying { target: first, at: failure.not_before };
                return;
            }
        };
        if asked_already {
            // It lost its label and has it again; what was sent before is still to be answered.
            entry.eviction = Eviction::Retrying { target: first, at: now + ANSWER_LOOK };
            return;
        }
        let (guard, back_off) = (guard.clone(), back_off.map(|f| f.not_before));
        let takes = self.latencies.p90(&key.0);
        let (mut held, mut still_over) = (None::<(TargetId, Held, Evidence)>, None);
        for i in over {
            let Some(evidence) = read_again(&mut self.effects, entry, i, &guard, read) else { continue };
            let id = entry.targets[i].id;
            still_over = still_over.or(Some(id));
            if act == Act::Delete && !evidence.critical {
                continue;
            }
            let age = age(&entry.pod, &entry.targets, i, self.wall, now);
            let candidate =
                Candidate { owner: &entry.owner, age, deadline: evidence.deadline(takes), replaced, others };
            match self.restraint.reserve(now, &candidate, &mut entry.reserved) {
                Ok(reservation) => return self.send(now, key, i, act, evidence, reservation),
                Err(this) if held.is_none_or(|(_, other, _)| this.until < other.until) => {
                    held = Some((id, this, evidence))
                }
                Err(_) => {}
            }
        }
        entry.eviction = match (held, still_over, back_off) {
            (Some((target, held, evidence)), ..) => {
                // A deletion that has to wait does not keep the eviction from being tried again.
                let held = Held { until: back_off.map_or(held.until, |at| held.until.min(at)), ..held };
                let container = entry.targets.iter().find(|t| t.id == target).and_then(|t| t.name.container());
                let container = container.map(str::to_owned);
                let until = self.wall.saturating_add(held.until).unwrap_or(Timestamp::MAX);
                let subject = Subject::Held { evidence, until, why: held.why };
                tell(&mut self.effects, entry, container, subject);
                Eviction::Held { target, held }
            }
            (None, Some(target), Some(at)) => Eviction::Retrying { target, at },
            _ => Eviction::Idle,
        };
    }

    /// Whether a pod of the same owner, which was made after that owner's last eviction, is ready on this node.
    fn is_replaced(&self, key: &Key) -> bool {
        let Some(owner) = self.pods.get(key).map(|e| &e.owner) else { return false };
        let Some(last) = self.restraint.last_eviction(owner) else { return false };
        // The server tells whole seconds.
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
            self.effects.push(Effect::Tell(Box::new(notice_of(entry, container, subject))));
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

    /// Takes in the server's answer to a request.
    pub fn answered(&mut self, now: Moment, order: u64, answer: &Answer) {
        let Some(request) = self.in_flight.remove(&order) else {
            return;
        };
        if !matches!(answer, Answer::Unknown { .. } | Answer::Unauthorized) {
            self.heard(now);
        }
        let key = (request.pod.namespace.clone(), request.pod.name.clone());
        self.take_answer(now, order, request, answer, &key);
        self.open.insert(key.clone());
        self.note_due(&key);
    }

    fn take_answer(&mut self, now: Moment, order: u64, request: InFlight, answer: &Answer, key: &Key) {
        let took = now.saturating_sub(request.since);
        let (act, mode, evidence) = (request.act, request.mode, request.evidence);
        let (grace, whole_grace) = (request.grace, request.grace.or(request.pod_grace).unwrap_or(DEFAULT_GRACE));
        let subject = match answer {
            Answer::Accepted => Subject::Evicted { evidence, act, mode, grace, took },
            answer => Subject::NotEvicted { evidence, act, answer: answer.clone(), mode },
        };
        if *answer == Answer::Accepted && mode == DryRun::Off {
            self.latencies.answered(&key.0, took);
            if let Some(age) = request.age {
                self.restraint.ended(request.reservation.owner(), signed(now).saturating_sub(signed(age)), signed(now));
            }
        }
        // An answer that was lost may have been a good one, and so may an earlier one of which nothing is known.
        let is_lost = matches!(answer, Answer::Unknown { .. });
        let may_have_happened = *answer != Answer::Accepted && (is_lost || request.may_have_happened);
        let reservation = if *answer == Answer::Accepted || may_have_happened {
            Some(request.reservation)
        } else {
            self.refund(&request.reservation);
            None
        };
        let entry = self.pods.get_mut(key).filter(|e| e.pod.id.uid == request.pod.uid);
        let target = match entry.as_ref().map(|e| &e.eviction) {
            Some(Eviction::Posting { target, order: awaited }) if *awaited == order => Some(*target),
            _ => None,
        };
        let (Some(entry), Some(target)) = (entry, target) else {
            // The pod is gone or was let go meanwhile; what happened to it is told all the same.
            let (pod, owner, container) = (request.pod, request.owner, request.container);
            let by_namespace = request.by_namespace;
            self.effects.push(Effect::Tell(Box::new(Notice { pod, owner, container, by_namespace, subject })));
            return;
        };
        let container = request.container;
        // By the last look: what was seen at the crossing may have been a single step.
        let left = entry.targets.iter().find(|t| t.id == target).map(urgency).filter(|left| *left != Duration::MAX);
        let earlier = if act == Act::Delete { &entry.delete_failure } else { &entry.failure };
        let attempt = failures(earlier.as_ref(), now);
        let Some(wait) = answer.retry_after(attempt, self.random.f64(), left) else {
            entry.eviction = match mode {
                DryRun::Off => Eviction::Leaving(Box::new(Leaving {
                    target,
                    evidence,
                    act,
                    asked: request.since,
                    since: now,
                    reservation,
                    mark_by: Some(now + MARKED_WITHIN),
                    end_by: Some(now + Duration::from_secs(u64::from(whole_grace)) + KILL_MARGIN),
                })),
                mode => Eviction::Tried { target, mode, outcome: answer.label(), at: now },
            };
            self.effects.push(Effect::Tell(Box::new(notice_of(entry, container, subject))));
            // What was tried may not be meant any more, or it may have dipped meanwhile.
            let is_meant = entry.guard.as_ref().is_ok_and(|g| self.settings.dry_run.max(g.dry_run) == mode);
            let is_over = over_targets(entry).iter().any(|i| entry.targets[*i].id == target);
            if undecided(&entry.eviction).is_some() && !(is_over && is_meant) {
                entry.eviction = Eviction::Idle;
            }
            return;
        };
        entry.reserved = reservation;
        entry.may_have_happened = may_have_happened;
        fail(&mut self.effects, entry, container, &subject, answer, now + wait, attempt);
        let at = entry.failure.as_ref().map_or(now + wait, |f| f.not_before);
        entry.eviction = Eviction::Retrying { target, at };
    }

    /// Gives back what was taken for an eviction that did not happen. Whoever was held because of it need not wait longer.
    fn refund(&mut self, reservation: &Reservation) {
        self.restraint.refund(reservation);
        self.reopen_held(reservation.owner(), true);
    }

    /// What was held for this owner's sake is decided anew; with `budget`, also what the node's budget held.
    pub(super) fn reopen_held(&mut self, owner: &OwnerKey, budget: bool) {
        let held = self.pods.iter().filter(|(_, entry)| match &entry.eviction {
            Eviction::Held { held, .. } => match held.why {
                Why::Owner | Why::Turn => entry.owner == *owner,
                Why::Budget | Why::Rescues => budget,
                Why::Young | Why::DiesYoung => false,
            },
            _ => false,
        });
        self.open.extend(held.map(|(key, _)| key.clone()));
    }

    /// A sign of life of the API server: what had no answer is asked again at once.
    pub fn heard(&mut self, now: Moment) {
        for (key, entry) in &mut self.pods {
            let unheard = |f: &&mut Failure| f.unheard && now < f.not_before;
            if let (Eviction::Retrying { at, .. }, Some(failure)) =
                (&mut entry.eviction, entry.failure.as_mut().filter(unheard))
            {
                (failure.not_before, *at) = (now, now);
                self.open.insert(key.clone());
            }
        }
    }

    /// Does what is due by time about a pod's eviction.
    pub(super) fn eviction_due(&mut self, now: Moment, key: &Key) {
        let away = self.away;
        let Some(entry) = self.pods.get_mut(key) else { return };
        let leaving = match &mut entry.eviction {
            Eviction::Retrying { at, .. } if *at <= now => {
                self.open.insert(key.clone());
                return;
            }
            Eviction::Held { held, .. } if held.until <= now => {
                self.open.insert(key.clone());
                return;
            }
            Eviction::Leaving(leaving) => leaving,
            _ => return,
        };
        if leaving.mark_by.is_some_and(|at| at <= now) {
            if away {
                // The watch cannot tell: whether it is marked is seen when it is back.
                leaving.mark_by = Some(now + MARKED_WITHIN);
            } else {
                return self.nothing_came_of_it(now, key);
            }
        }
        let Eviction::Leaving(leaving) = &mut entry.eviction else { return };
        if leaving.end_by.is_some_and(|at| at <= now) {
            let (target, since) = (leaving.target, leaving.since);
            // Still there and growing is told, once; still there alone is looked at again.
            leaving.end_by = None;
            match growth_of(entry, target) {
                Some(growth) if growth > 0 => {
                    let subject = Subject::Slow { since: now.saturating_sub(since), growth };
                    tell(&mut self.effects, entry, None, subject);
                }
                Some(_) => {
                    if let Eviction::Leaving(leaving) = &mut entry.eviction {
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
        let Eviction::Leaving(leaving) = std::mem::replace(&mut entry.eviction, Eviction::Idle) else { return };
        let Leaving { target, evidence, act, reservation, .. } = *leaving;
        entry.reserved = reservation;
        entry.may_have_happened = true;
        let answer = Answer::Ineffective;
        let attempt = failures(entry.failure.as_ref(), now);
        let wait = answer.retry_after(attempt, self.random.f64(), None).unwrap_or_default();
        let container =
            entry.targets.iter().find(|t| t.id == target).and_then(|t| t.name.container().map(str::to_owned));
        let subject = Subject::NotEvicted { evidence, act, answer: answer.clone(), mode: DryRun::Off };
        fail(&mut self.effects, entry, container, &subject, &answer, now + wait, attempt);
        self.open.insert(key.clone());
    }

    /// A target's group is gone: if its eviction was under way, that is how long it took.
    pub(super) fn learn_end(&mut self, now: Moment, pod: &PodRef, id: TargetId) {
        let key = (pod.namespace.clone(), pod.name.clone());
        let Some(Entry { eviction: Eviction::Leaving(leaving), .. }) = self.pods.get(&key) else { return };
        if leaving.target == id {
            self.latencies.ended(&key.0, now.saturating_sub(leaving.asked));
        }
    }
}

/// Remembers a failure, and tells it.
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
        Subject::NotEvicted { act: Act::Delete, .. } => entry.delete_failure = Some(failure),
        _ => entry.failure = Some(failure),
    }
    tell(effects, entry, container, subject.clone());
}

/// Reads a target that is said to be over; `None` if it is not, and then it is watched again.
fn read_again(
    effects: &mut Vec<Effect>,
    entry: &mut Entry,
    i: usize,
    guard: &Guard,
    read: &mut Read<'_>,
) -> Option<Evidence> {
    let target = &mut entry.targets[i];
    let State::Watched { groups, view, over, .. } = &mut target.state else { return None };
    let sample = read(target.id, groups).ok().flatten();
    let Some(mut evidence) = sample.and_then(|sample| judge_again(guard, &sample)) else {
        *over = None;
        effects.push(Effect::Sampler(Command::Rearm(target.id)));
        return None;
    };
    // A single reading has no growth; the sampler's last look has.
    let seen = match view.last().map(|look| look.verdict) {
        Some(Verdict::Above(seen)) => Some(seen),
        _ => *over,
    };
    if let Some(seen) = seen {
        evidence.growth = seen.growth;
        evidence.slow_growth = seen.slow_growth;
        evidence.growth_at_least = seen.growth_at_least;
        evidence.waived = seen.waived;
    }
    Some(evidence)
}

/// Judges one reading by itself; that it was over for long enough was the sampler's to see.
fn judge_again(guard: &Guard, sample: &Sample) -> Option<Evidence> {
    let rule = Rule { sustained_for: Duration::ZERO, ..guard.rule };
    match History::default().observe(&rule, sample, Duration::ZERO) {
        Verdict::Above(evidence) => Some(evidence),
        _ => None,
    }
}
