//! What to do about a container above its threshold: check restraint, and send a request.

use std::time::Duration;

use jiff::Timestamp;

use super::core::{Controller, InFlight, Key, Read};
use super::effects::{Effect, notice_of, notify};
use super::entry::{Entry, GroupState, Stage, above_targets, age, urgency};
use super::remedies::{Pick, ReadNode, Seen};
use crate::act::order::{Act, Order};
use crate::decide::judge::{Evidence, History, Verdict};
use crate::decide::ladder::{Choice, Reasons};
use crate::decide::restraint::{Candidate, Deferral, OwnerKey, Reservation};
use crate::decide::step::Resize;
use crate::ground::clock::Moment;
use crate::ground::memory::Sample;
use crate::pods::guard::{DryRun, Guard, Remedy, Rule};
use crate::report::notice::Subject;
use crate::sampler::{Command, TargetId};

/// How soon to check whether an earlier request was answered meanwhile.
const ANSWER_CHECK: Duration = Duration::from_millis(200);
/// How often a held restart is considered again: its deadline comes before that of an eviction, which is the one that the
/// sampler reports. A raise is not held, but may become possible meanwhile.
const HELD_LOOK_EACH: Duration = Duration::from_millis(100);
/// How soon to check whether a remedy has become possible: the node has memory again, or a budget allows it.
const NO_REMEDY_CHECK: Duration = Duration::from_secs(1);

impl Controller {
    /// Decides about the pods that something has happened to, those with the least time left first. `read` reads all
    /// values of a target anew: nothing is sent for a container that is not above its threshold at that very moment.
    /// `node` reads the machine's memory, which bounds raises.
    pub fn decide(&mut self, now: Moment, read: &mut Read<'_>, node: &mut ReadNode<'_>) {
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
            if !self.follow(now, &key, read, node) {
                self.consider(now, &key, read, node);
            }
            self.note_due(&key);
        }
    }

    fn consider(&mut self, now: Moment, key: &Key, read: &mut Read<'_>, node: &mut ReadNode<'_>) {
        let Some(Step { evict, guard, back_off }) = self.next_step(now, key) else { return };
        let mut found = Found::default();
        let above = self.pods.get(key).map(|entry| above_targets(entry)).unwrap_or_default();
        for i in above {
            let Some(entry) = self.pods.get_mut(key) else { return };
            let Some((evidence, sample)) = read_again(&mut self.effects, entry, i, &guard, read) else { continue };
            let id = entry.targets[i].id;
            found.above = found.above.or(Some(id));
            let seen = Seen { guard: &guard, evidence: &evidence, sample: &sample, may_evict: evict.is_some() };
            let (act, resize, passed) = match (self.pick(now, key, i, &seen, node), evict) {
                (Pick::Resize(act, resize, choice), _) => (act, Some((resize, choice)), Vec::new()),
                (Pick::Evict(passed), Some(act)) if act == Act::Evict || evidence.critical => (act, None, passed),
                (Pick::None(reasons), _) => {
                    found.reasons = found.reasons.or(Some((id, reasons, evidence)));
                    continue;
                }
                _ => continue,
            };
            let reservation = match self.reserve(now, key, i, act, &evidence) {
                Ok(reservation) => reservation,
                Err(this) => {
                    if found.deferral.is_none_or(|(_, other, _)| this.until < other.until) {
                        found.deferral = Some((id, this, evidence));
                    }
                    continue;
                }
            };
            let mode = self.settings.dry_run.max(guard.dry_run);
            let send = Send { i, target: id, act, evidence, mode, age: self.age_of(now, key, i), reservation, passed };
            return self.send(now, key, send, resize, &sample);
        }
        self.wait(now, key, found, back_off);
    }

    /// Takes a token, unless restraint defers it. A raise disturbs nobody, and needs none.
    fn reserve(
        &mut self,
        now: Moment,
        key: &Key,
        i: usize,
        act: Act,
        evidence: &Evidence,
    ) -> Result<Option<Reservation>, Deferral> {
        if act == Act::Raise {
            return Ok(None);
        }
        let owner = self.pods.get(key).map(|entry| entry.owner.clone()).unwrap_or_default();
        let candidate = self.candidate(now, key, i, act.remedy(), evidence, &owner);
        let mut again = self.pods.get_mut(key).and_then(|entry| entry.reserved.take());
        let reservation = self.restraint.reserve(now, &candidate, &mut again);
        if let Some(entry) = self.pods.get_mut(key) {
            entry.reserved = again;
        }
        reservation.map(Some)
    }

    /// What restraint needs to know about a target.
    pub(super) fn candidate<'a>(
        &self,
        now: Moment,
        key: &Key,
        i: usize,
        remedy: Remedy,
        evidence: &Evidence,
        owner: &'a OwnerKey,
    ) -> Candidate<'a> {
        let notice = match remedy {
            Remedy::Restart => self.latencies.ladder(&key.0).notice(remedy, &[Remedy::Evict]),
            Remedy::Raise | Remedy::Evict => self.latencies.p90(&key.0),
        };
        let others = self.pods.iter().any(|(other, e)| other.0 != key.0 && e.guard.is_ok());
        Candidate {
            owner,
            age: self.age_of(now, key, i),
            deadline: evidence.deadline(notice),
            replaced: self.is_replaced(key),
            others,
        }
    }

    fn age_of(&self, now: Moment, key: &Key, i: usize) -> Option<Duration> {
        let entry = self.pods.get(key)?;
        age(&entry.pod, &entry.targets, i, self.wall, now)
    }

    /// Nothing can be sent now: notes what the pod waits for.
    fn wait(&mut self, now: Moment, key: &Key, found: Found, back_off: Option<Moment>) {
        let Some(entry) = self.pods.get_mut(key) else { return };
        // Those that failed a moment ago are tried again.
        let next_try = entry.remedies.next_try().filter(|at| *at > now);
        let retry_at = [back_off, next_try].into_iter().flatten().min();
        entry.stage = match (found.deferral, found.above, retry_at) {
            (Some((target, deferral, evidence)), ..) => {
                // A deferred deletion does not keep the eviction from being retried.
                let until = back_off.map_or(deferral.until, |at| deferral.until.min(at));
                let (deferral, until_moment) = (Deferral { until, ..deferral }, until);
                let container = entry.container_of(target);
                let until = self.wall.saturating_add(until).unwrap_or(Timestamp::MAX);
                let subject = Subject::Deferred { evidence, until, reason: deferral.reason };
                notify(&mut self.effects, entry, container, subject);
                let lists = |remedy| entry.guard.as_ref().is_ok_and(|guard| guard.remedies.contains(&remedy));
                let each = match (lists(Remedy::Restart), lists(Remedy::Raise)) {
                    (true, _) => Some(now + HELD_LOOK_EACH),
                    (false, true) => Some(next_try.map_or(now + NO_REMEDY_CHECK, |at| at.min(now + NO_REMEDY_CHECK))),
                    (false, false) => None,
                };
                let look_at = each.map_or(until_moment, |at| at.min(until_moment));
                Stage::Deferred { target, deferral, look_at }
            }
            (None, Some(target), Some(at)) => Stage::Retrying { target, at },
            (None, Some(_), None) => match found.reasons {
                Some((target, reasons, evidence)) => {
                    let container = entry.container_of(target);
                    let subject = Subject::NoRemedy { evidence, reasons: reasons.clone() };
                    notify(&mut self.effects, entry, container, subject);
                    Stage::NoRemedy { target, reasons, at: now + NO_REMEDY_CHECK }
                }
                None => Stage::Idle,
            },
            _ => Stage::Idle,
        };
    }

    /// What may be requested now for a pod with a target above its threshold, and until when its eviction backs off.
    /// `None`: nothing may be requested, and the entry shows what the pod waits for.
    fn next_step(&mut self, now: Moment, key: &Key) -> Option<Step> {
        let evicts = |r: &InFlight| r.act.remedy() == Remedy::Evict;
        let in_flight =
            self.pods.get(key).is_some_and(|e| self.in_flight.values().any(|r| r.pod == e.pod.id && evicts(r)));
        let entry = self.pods.get_mut(key)?;
        if matches!(entry.stage, Stage::Posting { .. } | Stage::Leaving(_)) {
            return None;
        }
        let above = above_targets(entry);
        for target in &entry.targets {
            if !above.iter().any(|i| entry.targets[*i].id == target.id) {
                entry.remedies.dipped(target.id);
            }
        }
        let (Ok(guard), None, Some(first)) = (&entry.guard, entry.never, above.first().map(|i| entry.targets[*i].id))
        else {
            entry.stage = Stage::Idle;
            return None;
        };
        if let Stage::Tried { target, .. } = entry.stage
            && above.iter().any(|i| entry.targets[*i].id == target)
        {
            return None;
        }
        let back_off = entry.failure.as_ref().filter(|f| now < f.not_before);
        let may_delete = entry.delete_failure.as_ref().is_none_or(|f| f.not_before <= now);
        let can_raise = guard.remedies.contains(&Remedy::Raise);
        let evict = match back_off {
            None => Some(Act::Evict),
            Some(failure) if failure.blocked && guard.rule.force_delete.is_some() && may_delete => Some(Act::Delete),
            Some(_) if can_raise => None,
            Some(failure) => {
                entry.stage = Stage::Retrying { target: first, at: failure.not_before };
                return None;
            }
        };
        if in_flight {
            // The pod lost its label and got it back; an earlier request is still without an answer.
            entry.stage = Stage::Retrying { target: first, at: now + ANSWER_CHECK };
            return None;
        }
        Some(Step { evict, guard: guard.clone(), back_off: back_off.map(|f| f.not_before) })
    }

    /// Whether a pod of the same owner that was created after the owner's last eviction is ready on this node.
    fn is_replaced(&self, key: &Key) -> bool {
        let Some(owner) = self.pods.get(key).map(|e| &e.owner) else { return false };
        let Some(last) = self.restraint.last_eviction(owner) else { return false };
        // The server's times have whole seconds.
        let evicted = self.wall.saturating_add(last).ok().map(|t| t.as_second());
        self.pods.values().any(|e| {
            let made_since = e.since > last && e.pod.created.map(Timestamp::as_second) >= evicted;
            e.owner == *owner && e.pod.ready && e.never.is_none() && (made_since || is_back_since(e, last))
        })
    }

    fn send(&mut self, now: Moment, key: &Key, send: Send, resize: Option<(Resize, Choice)>, sample: &Sample) {
        let Some(entry) = self.pods.get_mut(key) else { return };
        let Ok(guard) = &entry.guard else { return };
        let Send { target, act, evidence, mode, .. } = send;
        let grace = guard.eviction_grace;
        if mode == DryRun::Client {
            let container = entry.targets[send.i].name.container().map(str::to_owned);
            entry.stage = Stage::Tried { target, mode, outcome: "not sent", at: now };
            let (passed, took) = (send.passed, Duration::ZERO);
            let subject = Subject::Evicted { evidence, act, mode, grace, took, passed, too_late: false };
            self.effects.push(Effect::Notify(Box::new(notice_of(entry, container, subject))));
            return;
        }
        if let Some((resize, choice)) = resize {
            return self.begin(now, key, send, resize, choice, sample);
        }
        let dry_run = mode == DryRun::Server;
        let eviction = Order { pod: entry.pod.id.clone(), act, grace, resize: None, dry_run };
        let again = matches!(entry.stage, Stage::Retrying { .. });
        let request = send.request(entry, now, false);
        let order = self.post(request, eviction);
        self.set_stage(key, Stage::Posting { target, order, again });
    }
}

/// A container of the pod was restarted since, and its group is back.
fn is_back_since(entry: &Entry, last: Moment) -> bool {
    let restarted = entry.remedies.last_restart().filter(|at| *at >= last);
    restarted.is_some_and(|at| {
        entry.targets.iter().all(|t| t.last_sample().is_some()) && entry.targets.iter().any(|t| t.since > at)
    })
}

/// What may be done for a pod now.
struct Step {
    /// `None`: its eviction backs off.
    evict: Option<Act>,
    guard: Guard,
    /// Until then.
    back_off: Option<Moment>,
}

/// What was found about a pod's targets above their thresholds.
#[derive(Default)]
struct Found {
    /// The first of them.
    above: Option<TargetId>,
    deferral: Option<(TargetId, Deferral, Evidence)>,
    /// Why the first of them has no remedy.
    reasons: Option<(TargetId, Reasons, Evidence)>,
}

/// What is about to be sent, for which target and why.
#[derive(Debug)]
pub(super) struct Send {
    /// The target's index.
    pub(super) i: usize,
    pub(super) target: TargetId,
    pub(super) act: Act,
    pub(super) evidence: Evidence,
    pub(super) mode: DryRun,
    /// The age of the container.
    pub(super) age: Option<Duration>,
    pub(super) reservation: Option<Reservation>,
    /// Why the remedies before it are passed over.
    pub(super) passed: Reasons,
}

impl Send {
    /// What is kept until the answer. `asks`: see [`InFlight::asks`].
    pub(super) fn request(self, entry: &mut Entry, now: Moment, asks: bool) -> InFlight {
        let is_eviction = self.act.remedy() == Remedy::Evict;
        let may_have_happened = is_eviction && std::mem::take(&mut entry.may_have_happened);
        InFlight {
            pod: entry.pod.id.clone(),
            owner: entry.pod.owner.clone(),
            by_namespace: entry.by_namespace,
            container: entry.targets[self.i].name.container().map(str::to_owned),
            evidence: self.evidence,
            act: self.act,
            mode: self.mode,
            grace: entry.guard.as_ref().ok().and_then(|guard| guard.eviction_grace),
            pod_grace: entry.pod.grace,
            age: self.age,
            since: now,
            reservation: self.reservation,
            asks,
            passed: self.passed,
            may_have_happened,
        }
    }
}

/// Reads a target that was reported as above its threshold. `None` if it is not; the sampler is then rearmed.
fn read_again(
    effects: &mut Vec<Effect>,
    entry: &mut Entry,
    i: usize,
    guard: &Guard,
    read: &mut Read<'_>,
) -> Option<(Evidence, Sample)> {
    let target = &mut entry.targets[i];
    let GroupState::Watched { groups, view, above, .. } = &mut target.state else { return None };
    let sample = read(target.id, groups).ok().flatten();
    let Some((mut evidence, sample)) = sample.and_then(|sample| Some((judge_again(guard, &sample)?, sample))) else {
        *above = None;
        effects.push(Effect::Sampler(Command::Rearm(target.id)));
        return None;
    };
    // A single reading shows no growth; the sampler's last sample does.
    let seen = match view.verdict() {
        Some(Verdict::Above(seen)) => Some(seen),
        _ => above.as_deref().copied(),
    };
    if let Some(seen) = seen {
        evidence.growth = seen.growth;
        evidence.slow_growth = seen.slow_growth;
        evidence.growth_at_least = seen.growth_at_least;
        evidence.burst_at_least = seen.burst_at_least;
        evidence.rise = seen.rise;
        evidence.waived = seen.waived;
    }
    Some((evidence, sample))
}

/// Judges a single reading; the sampler has already checked that it was above its threshold for long enough.
pub(super) fn judge_again(guard: &Guard, sample: &Sample) -> Option<Evidence> {
    let rule = Rule { sustained_for: Duration::ZERO, ..guard.rule };
    match History::default().observe(&rule, sample, Duration::ZERO) {
        Verdict::Above(evidence) => Some(evidence),
        _ => None,
    }
}
