//! A raise or a restart that was begun: it is followed in the kernel's files until it has its effect, or until the next remedy has
//! to begin.

use std::time::Duration;

use super::answers::{DEFAULT_GRACE, KILL_MARGIN};
use super::choice::{Send, judge_again};
use super::core::{Controller, InFlight, Key, Read};
use super::effects::{Effect, notice_of, notify};
use super::entry::{Entry, GroupState, Name, Stage, above_targets, urgency};
use super::remedies::{DRIFT, ReadNode, Seen};
use crate::act::answer::Answer;
use crate::act::order::{Act, Order};
use crate::decide::judge::Evidence;
use crate::decide::ladder::{Choice, is_last_moment};
use crate::decide::progress::Progress;
use crate::decide::restraint::Reservation;
use crate::decide::schedule::GROWTH_MAY_RISE;
use crate::decide::step::Resize;
use crate::ground::clock::Moment;
use crate::ground::memory::Sample;
use crate::ground::units::Bytes;
use crate::pods::Pod;
use crate::pods::guard::{DryRun, Guard, Remedy};
use crate::report::notice::Subject;
use crate::sampler::{Command, TargetId};

/// How often the kernel's files are read while an effect is due: as often as a container near a kill is sampled.
const LOOK_EACH: Duration = Duration::from_millis(5);
/// The same in the first moments: a ramp that has just begun shows within this time how fast it is.
const EARLY: Duration = Duration::from_millis(10);
const EARLY_LOOK_EACH: Duration = Duration::from_millis(2);
/// The same once the effect is late.
const LATE_LOOK_EACH: Duration = Duration::from_millis(100);
/// After this time an effect is late (measured: at most 0.97 s after another resize of the pod, else 0.1 s).
const LATE: Duration = Duration::from_secs(1);
/// After this time the remedy has failed, even if nothing grows. The kubelet takes up what it has put off when a pod goes,
/// or once in three minutes.
const GIVE_UP: Duration = Duration::from_secs(30);
/// A remedy that came too late is not tried again before this time, unless the container dips.
const AGAIN: Duration = Duration::from_secs(10);

/// See [`Stage::Trying`].
#[derive(Debug)]
pub(super) struct Attempt {
    pub(super) target: TargetId,
    pub(super) act: Act,
    pub(super) resize: Resize,
    pub(super) evidence: Evidence,
    /// The kernel's limit when it began.
    from: Bytes,
    progress: Progress,
    /// The request without an answer yet.
    pub(super) order: Option<u64>,
    /// That request only asks the disruption budgets.
    asks: bool,
    /// They have agreed, and the restart is about to be sent.
    agreed: Option<InFlight>,
    /// When the kernel's files are read next.
    pub(super) look_at: Moment,
    /// The token of a restart that was sent. If nothing comes of it, an eviction takes its place.
    reservation: Option<Reservation>,
    /// The container had not run for the minimum age.
    was_young: bool,
}

impl Controller {
    /// Begins a raise or a restart. A restart first asks the disruption budgets, by an eviction as a dry run.
    pub(super) fn begin(
        &mut self,
        now: Moment,
        key: &Key,
        send: Send,
        resize: Resize,
        choice: Choice,
        sample: &Sample,
    ) {
        let latencies = self.latencies.ladder(&key.0);
        let Some(entry) = self.pods.get_mut(key) else { return };
        let (target, act, evidence) = (send.target, send.act, send.evidence);
        let is_dry = send.mode == DryRun::Server;
        let asks = act == Act::Restart && !is_dry;
        let was_young = send.age.is_some_and(|age| age < self.settings.limits.minimum_age);
        let pod = entry.pod.id.clone();
        let first = match asks {
            true => Order { pod, act: Act::Evict, grace: None, resize: None, dry_run: true },
            false => Order { pod, act, grace: None, resize: Some(resize.clone()), dry_run: is_dry },
        };
        let request = send.request(entry, now, asks);
        let order = self.post(request, first);
        let stage = match is_dry {
            true => Stage::Posting { target, order, again: false },
            false => Stage::Trying(Box::new(Attempt {
                target,
                act,
                resize,
                evidence,
                from: sample.own.limit.unwrap_or_default(),
                progress: Progress::new(now, &evidence, choice, &latencies),
                order: Some(order),
                asks,
                agreed: None,
                look_at: now + EARLY_LOOK_EACH,
                reservation: None,
                was_young,
            })),
        };
        self.set_stage(key, stage);
    }

    pub(super) fn set_stage(&mut self, key: &Key, stage: Stage) {
        if let Some(entry) = self.pods.get_mut(key) {
            entry.stage = stage;
        }
    }

    /// Looks whether a remedy that was begun has had its effect. Returns whether it is still waited for.
    pub(super) fn follow(&mut self, now: Moment, key: &Key, read: &mut Read<'_>, node: &mut ReadNode<'_>) -> bool {
        let Some(entry) = self.pods.get(key) else { return false };
        let Stage::Trying(attempt) = &entry.stage else { return false };
        let i = entry.targets.iter().position(|t| t.id == attempt.target);
        let (Some(i), Ok(guard), None) = (i, &entry.guard, entry.never) else {
            return self.stop_trying(key);
        };
        let GroupState::Watched { groups, .. } = &entry.targets[i].state else {
            return self.stop_trying(key); // it has ended by itself
        };
        // A group that is gone is reported by the sampler.
        let sample = read(attempt.target, groups).ok().flatten();
        if let Some(sample) = sample.filter(|sample| attempt.is_raised(sample)) {
            self.raised_to(now, key, i, sample.own.limit);
            return false;
        }
        let evidence = sample.as_ref().and_then(|sample| judge_again(guard, sample));
        let possible = evidence.zip(sample).map(|(evidence, sample)| {
            let may_evict = entry.failure.as_ref().is_none_or(|f| f.not_before <= now);
            let seen = Seen { guard, evidence: &evidence, sample: &sample, may_evict };
            let possible = self.options(now, key, entry, i, &seen, node).possible.into_iter().map(|(remedy, _)| remedy);
            (evidence, possible.collect::<Vec<Remedy>>())
        });
        let remedy = attempt.act.remedy();
        if attempt.agreed.is_some() {
            let is_wanted = sample.is_some_and(|sample| is_still_wanted(entry, i, guard, attempt, &sample));
            return self.restart_agreed(now, key, is_wanted && possible.is_some());
        }
        let age = now.saturating_sub(attempt.progress.began);
        let is_ending = attempt.is_ending(&entry.pod, age);
        let latencies = self.latencies.ladder(&key.0);
        let (mut is_last, mut spare) = (false, None);
        if let Some((evidence, mut remaining)) = possible {
            remaining.retain(|other| *other != remedy);
            is_last = remaining.contains(&Remedy::Evict) && self.is_urgent_elsewhere(key, entry, i)
                || !is_ending && attempt.progress.gives_way(now, &evidence, &remaining, &latencies);
            spare = attempt.progress.spare(now, &evidence, &remaining, &latencies);
        }
        if is_last || age >= GIVE_UP && !is_ending {
            self.give_up(now, key, age);
            return false;
        }
        if let Some(Stage::Trying(attempt)) = self.pods.get_mut(key).map(|e| &mut e.stage) {
            let each = if age < EARLY { EARLY_LOOK_EACH } else { LOOK_EACH };
            let late = spare.map_or(LATE_LOOK_EACH, |spare| spare.clamp(LOOK_EACH, LATE_LOOK_EACH));
            attempt.look_at = now + if age < LATE { each } else { late };
        }
        true
    }

    /// Another container of the pod cannot wait for the end of this one's remedy.
    fn is_urgent_elsewhere(&self, key: &Key, entry: &Entry, i: usize) -> bool {
        let latencies = self.latencies.ladder(&key.0);
        let others = above_targets(entry).into_iter().filter(|other| *other != i);
        let mut left = others.map(|other| urgency(&entry.targets[other]) / GROWTH_MAY_RISE);
        left.any(|left| is_last_moment(&[Remedy::Evict], Some(left), &latencies))
    }

    fn stop_trying(&mut self, key: &Key) -> bool {
        let Some(entry) = self.pods.get_mut(key) else { return false };
        let stopped = std::mem::replace(&mut entry.stage, Stage::Idle);
        if let Stage::Trying(attempt) = stopped
            && let Some(reservation) = attempt.agreed.and_then(|request| request.reservation)
        {
            self.refund(&reservation);
        }
        false
    }

    /// The disruption budgets have agreed to a restart. Returns whether it is sent.
    fn restart_agreed(&mut self, now: Moment, key: &Key, is_wanted: bool) -> bool {
        if !is_wanted {
            return self.stop_trying(key);
        }
        let Some(entry) = self.pods.get_mut(key) else { return false };
        let Stage::Trying(attempt) = &mut entry.stage else { return false };
        let Some(request) = attempt.agreed.take() else { return true };
        entry.remedies.restarting(&attempt.resize.container, attempt.resize.limit);
        let (pod, resize) = (request.pod.clone(), Some(attempt.resize.clone()));
        let restart = Order { pod, act: Act::Restart, grace: None, resize, dry_run: false };
        self.effects.push(Effect::Sampler(Command::Follow(attempt.target)));
        let order = self.post(InFlight { asks: false, since: now, ..request }, restart);
        if let Some(Stage::Trying(attempt)) = self.pods.get_mut(key).map(|e| &mut e.stage) {
            (attempt.order, attempt.look_at) = (Some(order), now + LOOK_EACH);
        }
        true
    }

    /// The kernel has the raised limit. The percentage is of the new limit now, so the container is judged anew.
    fn raised_to(&mut self, now: Moment, key: &Key, i: usize, limit: Option<Bytes>) {
        let Some(entry) = self.pods.get_mut(key) else { return };
        let Stage::Trying(attempt) = std::mem::replace(&mut entry.stage, Stage::Idle) else { return };
        let took = now.saturating_sub(attempt.progress.began);
        if took <= LATE {
            self.latencies.raise.learn(took); // what was put off says nothing of the next one
        }
        let container = attempt.resize.container;
        if let Some(raised) = entry.pod.containers.iter().find(|c| c.name == container) {
            entry.remedies.raised(raised, attempt.resize.limit, now, entry.pod.generation);
        }
        let target = &mut entry.targets[i];
        if let GroupState::Watched { above, .. } = &mut target.state {
            *above = None;
        }
        self.effects.push(Effect::Sampler(Command::Rearm(target.id)));
        let to = limit.unwrap_or(attempt.resize.limit);
        let subject = Subject::Raised { evidence: attempt.evidence, from: attempt.from, to, took };
        self.effects.push(Effect::Notify(Box::new(notice_of(entry, Some(container), subject))));
    }

    /// The next remedy has to begin.
    fn give_up(&mut self, now: Moment, key: &Key, after: Duration) {
        let Some(entry) = self.pods.get_mut(key) else { return };
        let Stage::Trying(mut attempt) = std::mem::replace(&mut entry.stage, Stage::Idle) else { return };
        let (remedy, container) = (attempt.act.remedy(), attempt.resize.container.clone());
        entry.remedies.fail(attempt.target, remedy, now, None, |_| AGAIN);
        let put_off = entry.pod.resize_pending.as_ref().map(|reason| format!("the kubelet has put it off: {reason}"));
        if after >= GIVE_UP || put_off.is_some() {
            let words = put_off.unwrap_or_else(|| "it had no effect".to_owned());
            entry.remedies.refuse(&container, remedy, entry.pod.generation, words);
        }
        // The next one takes the place of a restart whose token it has.
        let in_flight = attempt.order.and_then(|order| self.in_flight.get_mut(&order));
        let in_flight = in_flight.and_then(|request| request.reservation.take());
        let agreed = attempt.agreed.take().and_then(|request| request.reservation);
        entry.reserved = entry.reserved.take().or(attempt.reservation.take()).or(in_flight).or(agreed);
        let subject = Subject::GaveUp { evidence: attempt.evidence, remedy, after, asked: attempt.asks };
        if remedy == Remedy::Restart && !attempt.asks {
            entry.remedies.abandoned = Some(attempt);
        }
        self.effects.push(Effect::Notify(Box::new(notice_of(entry, Some(container), subject))));
    }

    /// The group of a container that was being restarted is gone.
    pub(super) fn restart_ended(&mut self, now: Moment, key: &Key, id: TargetId) {
        let Some(entry) = self.pods.get_mut(key) else { return };
        let is_leaving = matches!(entry.stage, Stage::Leaving(_));
        let attempt = match &entry.stage {
            Stage::Trying(attempt) if attempt.target == id => match std::mem::replace(&mut entry.stage, Stage::Idle) {
                Stage::Trying(attempt) => attempt,
                _ => return,
            },
            // One that came too late for the next remedy, and before its effect.
            _ => match entry.remedies.abandoned.take() {
                Some(attempt) if attempt.target == id && !is_leaving => attempt,
                _ => return,
            },
        };
        let container = attempt.resize.container.as_str();
        let is_killed = is_killed(entry, id, container);
        if attempt.act != Act::Restart || attempt.asks || attempt.agreed.is_some() || is_killed {
            return; // it has ended by itself, or by the kernel
        }
        // It has happened, and its token is spent: what comes later takes one of its own.
        entry.reserved = None;
        for request in self.in_flight.values_mut().filter(|request| request.pod == entry.pod.id) {
            request.may_have_happened = true; // it has that token
        }
        let took = now.saturating_sub(attempt.progress.began);
        self.latencies.restarted(&key.0, took);
        let container = attempt.resize.container;
        entry.remedies.restarted(&container, attempt.was_young, now);
        let subject = Subject::Restarted { evidence: attempt.evidence, took };
        self.effects.push(Effect::Notify(Box::new(notice_of(entry, Some(container), subject))));
    }

    /// An answer that nobody waits for any more.
    fn answered_late(&mut self, request: InFlight, answer: &Answer, key: &Key) {
        // The token is given back only if nothing can have happened: a question changes nothing.
        let nothing_came = request.asks || (*answer != Answer::Accepted && !answer.is_lost());
        if let Some(reservation) = request.reservation.filter(|_| nothing_came) {
            self.refund(&reservation);
        }
        let entry = self.pods.get_mut(key).filter(|e| e.pod.id.uid == request.pod.uid);
        if let (Some(entry), Some(container)) = (entry, request.container)
            && answer.is_standing()
            && !request.asks
        {
            let generation = entry.pod.generation;
            entry.remedies.refuse(&container, request.act.remedy(), generation, answer_words(answer));
        }
    }

    /// The answer to a resize, or to the question before a restart.
    pub(super) fn resize_answered(&mut self, now: Moment, order: u64, request: InFlight, answer: &Answer, key: &Key) {
        let jitter = self.random.f64();
        let entry = self.pods.get_mut(key).filter(|e| e.pod.id.uid == request.pod.uid);
        let attempt = entry.and_then(|entry| match &entry.stage {
            Stage::Trying(attempt) if attempt.order == Some(order) => Some(entry),
            _ => None,
        });
        let Some(entry) = attempt else {
            return self.answered_late(request, answer, key);
        };
        let Stage::Trying(attempt) = &mut entry.stage else { return };
        if *answer == Answer::Accepted {
            (attempt.order, attempt.asks) = (None, false);
            match request.asks {
                true => attempt.agreed = Some(request),
                false => attempt.reservation = request.reservation,
            }
            return;
        }
        if answer.is_lost() && !request.asks {
            // It may have happened: the kernel's files show it.
            (attempt.order, attempt.reservation) = (None, request.reservation);
            return;
        }
        let (target, remedy, container) = (attempt.target, attempt.act.remedy(), attempt.resize.container.clone());
        let subject = Subject::NotEvicted {
            evidence: request.evidence,
            act: request.act,
            answer: answer.clone(),
            mode: DryRun::Off,
            asked: request.asks,
        };
        entry.stage = Stage::Idle;
        if answer.is_standing() && !request.asks {
            entry.remedies.refuse(&container, remedy, entry.pod.generation, answer_words(answer));
        } else {
            let wait = |attempt| answer.retry_after(attempt, jitter, None).unwrap_or_default();
            entry.remedies.fail(target, remedy, now, Some(answer.label()), wait);
        }
        notify(&mut self.effects, entry, Some(container), subject);
        if let Some(reservation) = request.reservation {
            self.refund(&reservation);
        }
    }
}

impl Attempt {
    /// The kubelet is ending the process of a restart: it has the pod's grace period. Nothing hurries that (measured), and an
    /// eviction would cost the rest of the pod.
    fn is_ending(&self, pod: &Pod, age: Duration) -> bool {
        let grace = Duration::from_secs(u64::from(pod.grace.unwrap_or(DEFAULT_GRACE)));
        self.is_sent() && pod.resizing && age < grace + KILL_MARGIN
    }

    /// The server has accepted a restart.
    pub(super) fn is_sent(&self) -> bool {
        self.act == Act::Restart && self.order.is_none() && self.agreed.is_none() && !self.asks
    }

    /// Whether the kernel has the limit that was asked for. The container's own file is the last to change (measured).
    fn is_raised(&self, sample: &Sample) -> bool {
        // The kernel keeps whole pages.
        const PAGE: u64 = 1 << 16;
        let wanted = Bytes(self.resize.limit.0 / PAGE * PAGE);
        self.act == Act::Raise && sample.own.limit.is_none_or(|limit| limit >= wanted)
    }
}

/// Whether what was above its threshold when the budgets were asked, listed, and not refused, still is so.
fn is_still_wanted(entry: &Entry, i: usize, guard: &Guard, attempt: &Attempt, sample: &Sample) -> bool {
    let (remedy, resize) = (attempt.act.remedy(), &attempt.resize);
    let is_above = matches!(&entry.targets[i].state, GroupState::Watched { above: Some(_), .. });
    let is_listed = guard.remedies.contains(&remedy) && entry.remedies.refusal(&resize.container, remedy).is_none();
    // Somebody may have changed the limit meanwhile: the smallest change is another one then.
    let container = entry.pod.containers.iter().find(|c| c.name == resize.container);
    let limit = [sample.own.limit, container.and_then(|c| c.memory.limit)].into_iter().flatten().max();
    let is_step = limit.is_none_or(|limit| limit < resize.limit && resize.limit.less(limit) <= DRIFT);
    is_above && is_listed && is_step
}

/// The kernel has killed processes of this target's container, or the container as a whole.
pub(super) fn is_killed(entry: &Entry, target: TargetId, container: &str) -> bool {
    let name = entry.targets.iter().find(|t| t.id == target).map(|t| &t.name);
    let is_whole = matches!(name, Some(Name::Container(_, id)) if entry.kills.contains(id));
    is_whole || entry.unsettled.iter().any(|unsettled| unsettled.container == container)
}

fn answer_words(answer: &Answer) -> String {
    answer.refusal().unwrap_or_else(|| answer.label().to_owned())
}
