//! Which remedy is tried for a container above its threshold, and what is remembered of those that were tried.

use std::collections::BTreeMap;
use std::time::Duration;

use super::attempt::Attempt;
use super::core::{Controller, Key};
use super::entry::{Entry, Stage};
use super::kills::OTHERS_PART;
use crate::act::order::Act;
use crate::decide::judge::Evidence;
use crate::decide::ladder::{Choice, NotPossible, Reasons, choose, time_at, worst_growth};
use crate::decide::restraint::{GENERATIONS, QUIET};
use crate::decide::step::{NodeMargin, RaiseInputs, Resize, is_shared, node_margin, raise, restart};
use crate::ground::clock::Moment;
use crate::ground::memory::{NodeMemory, Sample};
use crate::ground::units::Bytes;
use crate::pods::guard::{Guard, Remedy, Threshold};
use crate::pods::{Container, Pod, Resized};
use crate::sampler::TargetId;

/// A limit that somebody lowered within this time after our raise is not raised again for as long: two that pull at one limit
/// would never come to rest.
const LOWERED: Duration = Duration::from_secs(600);

/// Restarts change the limit by bytes. What is farther from the limit than this is somebody else's doing.
pub(super) const DRIFT: Bytes = Bytes(1 << 12);

/// The label of an answer by which a disruption budget blocks.
pub(super) const BLOCKED: &str = "blocked";

/// Reads the machine's memory; `None` if it cannot be read.
pub type ReadNode<'a> = dyn FnMut() -> Option<NodeMemory> + 'a;

/// What is remembered of a pod's remedies. Each map has at most one entry for each container and remedy.
#[derive(Debug, Default)]
pub(super) struct Remembered {
    /// Remedies that had no effect in time, or got no useful answer.
    failed: BTreeMap<(TargetId, Remedy), Failed>,
    /// Refusals that stand until the pod's spec changes, with its generation.
    refused: BTreeMap<(String, Remedy), (i64, String)>,
    /// The lowest limit of each container that this agent has seen.
    lowest: Vec<(String, Bytes)>,
    /// Our last raise of each container.
    raised: BTreeMap<String, OurRaise>,
    /// When somebody lowered a limit that we had raised.
    lowered: BTreeMap<String, Moment>,
    /// The limit with which each container was last restarted. The watch may not show it yet, and the same again is no change.
    restart_limits: BTreeMap<String, Bytes>,
    /// A restart that came too late, and is still under way.
    pub(super) abandoned: Option<Box<Attempt>>,
    /// When a container was last restarted by us, and how often in a row while it was young.
    restarted: BTreeMap<String, (Moment, u32)>,
}

/// A raise by this agent that is in effect.
#[derive(Clone, Copy, Debug)]
struct OurRaise {
    to: Bytes,
    at: Moment,
    /// The pod's generation as it was known then.
    generation: i64,
    /// The watch has shown it.
    seen: bool,
}

impl OurRaise {
    /// Whether a change that the watch shows was made after the raise. It may show one from before it later.
    fn is_before(&self, generation: i64) -> bool {
        self.seen || generation > self.generation.saturating_add(1)
    }
}

/// A remedy that failed.
#[derive(Clone, Copy, Debug)]
struct Failed {
    /// Until then, others are tried before it.
    until: Moment,
    /// How many times in a row.
    attempts: u32,
    /// The label of the server's answer; `None`: it had no effect in time.
    answer: Option<&'static str>,
}

impl Failed {
    /// No answer came, or a token was not accepted: this can end at any moment.
    fn is_unheard(&self) -> bool {
        matches!(self.answer, Some("unknown" | "unauthorized"))
    }
}

impl Remembered {
    /// Takes in the limits of a pod that the watch shows.
    pub(super) fn observe(&mut self, now: Moment, pod: &Pod) {
        for container in &pod.containers {
            let Some(limit) = container.memory.limit else { continue };
            let first = match pod.resized {
                // A raise from before this agent's start: rather too much than too little.
                Resized::ByUs if !container.memory.restarts => container.memory.request.unwrap_or_default(),
                Resized::ByUs | Resized::Never | Resized::ByOthers => limit,
            };
            match self.lowest.iter_mut().find(|(name, _)| *name == container.name) {
                Some((_, lowest)) => *lowest = limit.min(*lowest),
                None => {
                    self.lowest.reserve_exact(1);
                    self.lowest.push((container.name.clone(), limit.min(first)));
                }
            }
            let Some(ours) = self.raised.get_mut(&container.name) else { continue };
            ours.seen |= limit >= ours.to;
            if limit < ours.to && ours.is_before(pod.generation) {
                if now < ours.at + LOWERED {
                    self.lowered.insert(container.name.clone(), now);
                }
                self.raised.remove(&container.name);
            }
        }
        self.refused.retain(|_, (generation, _)| *generation == pod.generation);
    }

    /// A remedy failed. `wait` says for how long, by how many times it had failed before.
    pub(super) fn fail(
        &mut self,
        target: TargetId,
        remedy: Remedy,
        now: Moment,
        answer: Option<&'static str>,
        wait: impl FnOnce(u32) -> Duration,
    ) {
        let attempts = self.failed.get(&(target, remedy)).map_or(0, |failed| failed.attempts);
        let failed = Failed { until: now + wait(attempts), attempts: attempts.saturating_add(1), answer };
        self.failed.insert((target, remedy), failed);
    }

    /// A budget blocks the pod's eviction until this moment at least. A restart that it blocked is asked for first then: it
    /// is the gentler one.
    pub(super) fn eviction_blocked(&mut self, until: Moment) {
        for failed in self.failed.values_mut().filter(|failed| failed.answer == Some(BLOCKED)) {
            failed.until = until;
        }
    }

    /// The label of the answer to the last remedy of a target that failed, and which one that was.
    pub(super) fn last_failure(&self, target: TargetId) -> Option<(Remedy, Option<&'static str>)> {
        let of_target = self.failed.iter().filter(|((of, _), _)| *of == target);
        of_target.max_by_key(|(_, failed)| failed.until).map(|((_, remedy), failed)| (*remedy, failed.answer))
    }

    pub(super) fn refuse(&mut self, container: &str, remedy: Remedy, generation: i64, words: String) {
        self.refused.insert((container.to_owned(), remedy), (generation, words));
    }

    /// A container is being restarted with this limit.
    pub(super) fn restarting(&mut self, container: &str, limit: Bytes) {
        self.restart_limits.insert(container.to_owned(), limit);
    }

    /// The words of a refusal that stands.
    pub(super) fn refusal(&self, container: &str, remedy: Remedy) -> Option<&str> {
        self.refused.get(&(container.to_owned(), remedy)).map(|(_, words)| words.as_str())
    }

    /// Our raise has reached the kernel.
    pub(super) fn raised(&mut self, container: &Container, to: Bytes, now: Moment, generation: i64) {
        let seen = container.memory.limit.is_some_and(|limit| limit >= to);
        // The watch shows an earlier one before this one.
        let earlier = self.raised.get(&container.name).filter(|ours| !ours.seen);
        let generation = earlier.map_or(generation, |ours| generation.max(ours.generation.saturating_add(1)));
        self.raised.insert(container.name.clone(), OurRaise { to, at: now, generation, seen });
    }

    /// Whether a remedy waits because the server did not answer.
    pub(super) fn is_unheard(&self) -> bool {
        self.failed.values().any(Failed::is_unheard)
    }

    /// The server answers again: what had no answer is tried again. Returns whether there is any.
    pub(super) fn heard(&mut self) -> bool {
        let before = self.failed.len();
        self.failed.retain(|_, failed| !failed.is_unheard());
        self.failed.len() < before
    }

    /// A restart by us has ended a container of this age.
    pub(super) fn restarted(&mut self, container: &str, was_young: bool, now: Moment) {
        let (at, in_a_row) = self.restarted.entry(container.to_owned()).or_default();
        *in_a_row = if was_young { in_a_row.saturating_add(1) } else { 1 };
        *at = now;
    }

    /// When a container of this pod was last restarted by us.
    pub(super) fn last_restart(&self) -> Option<Moment> {
        self.restarted.values().map(|(at, _)| *at).max()
    }

    /// Forgets what was tried for a target that is not above its threshold any more.
    pub(super) fn dipped(&mut self, target: TargetId) {
        self.failed.retain(|(of, _), _| *of != target);
    }

    /// When the next of the remedies that failed may be tried again.
    pub(super) fn next_try(&self) -> Option<Moment> {
        self.failed.values().map(|failed| failed.until).min()
    }
}

/// By how much a pod's limits are raised, all together.
pub(super) fn raised_in(entry: &Entry) -> Bytes {
    if entry.pod.guaranteed {
        return Bytes(0); // its request was raised, too, and the scheduler counts that
    }
    let under_way = match &entry.stage {
        Stage::Trying(attempt) => Some((attempt.resize.container.as_str(), attempt.resize.limit)),
        _ => None,
    };
    let raised = entry.pod.containers.iter().filter_map(|c| {
        let (_, lowest) = *entry.remedies.lowest.iter().find(|(name, _)| *name == c.name)?;
        let wanted = under_way.filter(|(name, _)| *name == c.name).map(|(_, limit)| limit);
        let unseen = entry.remedies.raised.get(&c.name).filter(|ours| !ours.seen).map(|ours| ours.to);
        let limit = c.memory.limit?.max(wanted.unwrap_or_default()).max(unseen.unwrap_or_default());
        Some(limit.less(lowest))
    });
    raised.fold(Bytes(0), Bytes::plus)
}

/// The remedy to begin with.
#[derive(Debug)]
pub(super) enum Pick {
    /// And why those before it are passed over.
    Evict(Reasons),
    Resize(Act, Resize, Choice),
    /// None is possible, and why.
    None(Reasons),
}

/// What can be done about a container now.
#[derive(Debug, Default)]
pub(super) struct Options {
    /// In the user's order; each with the change that it makes, or none for an eviction.
    pub(super) possible: Vec<(Remedy, Option<Resize>)>,
    /// The same for those that restraint defers.
    pub(super) held: Vec<(Remedy, Option<Resize>)>,
    /// Why the others cannot be used.
    pub(super) not: Reasons,
}

impl Controller {
    /// Picks the remedy for a container above its threshold.
    pub(super) fn pick(&self, now: Moment, key: &Key, i: usize, seen: &Seen<'_>, node: &mut ReadNode<'_>) -> Pick {
        let Some(entry) = self.pods.get(key) else { return Pick::None(Vec::new()) };
        let Options { possible, held, mut not } = self.options(now, key, entry, i, seen, node);
        let left = time_at(worst_growth(seen.evidence), seen.evidence);
        // Where restraint holds everything that is possible, it says until when.
        let options = if possible.is_empty() { held } else { possible };
        let remedies: Vec<Remedy> = options.iter().map(|(remedy, _)| *remedy).collect();
        let Some(choice) = choose(&remedies, left, &self.latencies.ladder(&key.0)) else { return Pick::None(not) };
        let resize = options.into_iter().find(|(remedy, _)| *remedy == choice.remedy).and_then(|(_, resize)| resize);
        match (choice.remedy, resize) {
            (Remedy::Raise, Some(resize)) => Pick::Resize(Act::Raise, resize, choice),
            (Remedy::Restart, Some(resize)) => Pick::Resize(Act::Restart, resize, choice),
            _ => {
                let before = remedies.iter().take_while(|remedy| **remedy != Remedy::Evict);
                not.extend(before.map(|remedy| (*remedy, NotPossible::NotInTime)));
                Pick::Evict(not)
            }
        }
    }

    /// Sorts a pod's remedies into what is possible now, and what is not.
    pub(super) fn options(
        &self,
        now: Moment,
        key: &Key,
        entry: &Entry,
        i: usize,
        seen: &Seen<'_>,
        node: &mut ReadNode<'_>,
    ) -> Options {
        let mut options = Options::default();
        for remedy in &seen.guard.remedies {
            // A restart under way has taken a token, which an eviction in its place takes over.
            let has_token = entry.reserved.is_some()
                || matches!(&entry.stage, Stage::Trying(attempt) if attempt.act == Act::Restart);
            let held = || {
                let candidate = self.candidate(now, key, i, *remedy, seen.evidence, &entry.owner);
                !has_token && self.restraint.defers(now, &candidate)
            };
            match self.resize_of(now, entry, i, *remedy, seen, node) {
                Ok(resize) if *remedy != Remedy::Raise && held() => options.held.push((*remedy, resize)),
                Ok(resize) => options.possible.push((*remedy, resize)),
                Err(why) => options.not.push((*remedy, why)),
            }
        }
        options
    }

    /// The change that a remedy makes; none for an eviction.
    fn resize_of(
        &self,
        now: Moment,
        entry: &Entry,
        i: usize,
        remedy: Remedy,
        seen: &Seen<'_>,
        node: &mut ReadNode<'_>,
    ) -> Result<Option<Resize>, NotPossible> {
        let target = &entry.targets[i];
        let memory = &entry.remedies;
        if memory.failed.get(&(target.id, remedy)).is_some_and(|failed| now < failed.until) {
            return Err(NotPossible::Failed);
        }
        if remedy != Remedy::Raise && !seen.may_evict {
            return Err(NotPossible::Failed); // a budget that blocks the one blocks the other
        }
        if remedy == Remedy::Evict {
            return Ok(None);
        }
        if !self.settings.remedies.permits(remedy) {
            return Err(NotPossible::NotAllowed);
        }
        let name = target.name.container().ok_or(NotPossible::PodGroup)?;
        let container = entry.pod.containers.iter().find(|c| c.name == name).ok_or(NotPossible::PodGroup)?;
        if let Some(words) = memory.refusal(name, remedy) {
            return Err(NotPossible::Refused(words.to_owned()));
        }
        match remedy {
            Remedy::Restart => restart_of(now, entry, container, seen.sample).map(Some),
            _ => self.raise_of(now, entry, container, seen, node).map(Some),
        }
    }

    fn raise_of(
        &self,
        now: Moment,
        entry: &Entry,
        container: &Container,
        seen: &Seen<'_>,
        node: &mut ReadNode<'_>,
    ) -> Result<Resize, NotPossible> {
        if entry.remedies.lowered.get(&container.name).is_some_and(|at| now < *at + LOWERED) {
            return Err(NotPossible::Lowered);
        }
        if entry.pod.limit.is_some() && is_of_pod(seen.sample) {
            return Err(NotPossible::PodLimit);
        }
        let (Some(bounds), Threshold::Percent(threshold)) = (seen.guard.raise, seen.guard.rule.threshold) else {
            return Err(NotPossible::NoLimit);
        };
        let inputs = RaiseInputs {
            raise: bounds,
            growth: worst_growth(seen.evidence),
            threshold,
            value: seen.evidence.value,
            kernel: seen.sample.own.limit,
            node: self.node_margin(node),
        };
        raise(&entry.pod, container, &inputs, &self.latencies.ladder(&entry.pod.id.namespace))
    }

    fn node_margin(&self, node: &mut ReadNode<'_>) -> NodeMargin {
        let used = self.pods.values().flat_map(|e| &e.targets).filter(|t| t.name.container().is_some());
        let used = used.filter_map(|t| Some(t.last_sample()?.sample.own.usage)).fold(Bytes(0), Bytes::plus);
        node_margin(&self.settings.remedies, node(), self.raised(), used)
    }

    /// By how much the limits of this node's containers are raised, all together.
    pub(super) fn raised(&self) -> Bytes {
        self.pods.values().map(|entry| raised_in(entry)).fold(Bytes(0), Bytes::plus)
    }
}

fn restart_of(now: Moment, entry: &Entry, container: &Container, sample: &Sample) -> Result<Resize, NotPossible> {
    let kernel = sample.own.limit.unwrap_or_default();
    let base = container.memory.limit.unwrap_or_default().max(kernel);
    let last = entry.remedies.restart_limits.get(&container.name).copied();
    let last = last.filter(|last| last.less(base) <= DRIFT).unwrap_or_default();
    let resize = restart(&entry.pod, container, kernel.max(last))?;
    let last = entry.remedies.restarted.get(&container.name).filter(|(at, _)| now < *at + QUIET);
    if last.is_some_and(|(_, in_a_row)| *in_a_row >= GENERATIONS) {
        return Err(NotPossible::DiesYoung);
    }
    if is_shared(sample) {
        return Err(NotPossible::Shared);
    }
    if is_of_pod(sample) { Err(NotPossible::PodLimit) } else { Ok(resize) }
}

/// What a pick rests on.
#[derive(Clone, Copy, Debug)]
pub(super) struct Seen<'a> {
    pub(super) guard: &'a Guard,
    pub(super) evidence: &'a Evidence,
    pub(super) sample: &'a Sample,
    /// The eviction of the pod does not back off.
    pub(super) may_evict: bool,
}

/// The pod's limit is nearer than the container's own by more than a sandbox explains: others in the pod fill it.
fn is_of_pod(sample: &Sample) -> bool {
    let pods = sample.pod.and_then(|pod| Some((pod.margin()?, pod.limit?)));
    let own = sample.own.margin().unwrap_or(Bytes(u64::MAX));
    pods.is_some_and(|(margin, limit)| margin.plus(Bytes(limit.0 / OTHERS_PART)) < own)
}
