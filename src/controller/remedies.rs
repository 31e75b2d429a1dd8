//! Which remedy is tried for a container above its threshold, and what is remembered of those that were tried.

use std::collections::BTreeMap;
use std::time::Duration;

use super::core::{Controller, Key};
use super::entry::{Entry, Eviction};
use super::kills::OTHERS_PART;
use crate::act::order::Act;
use crate::decide::judge::Evidence;
use crate::decide::ladder::{
    NodeMargin, NotPossible, RaiseInputs, Reasons, Resize, choose, node_margin, raise, restart, time_at, worst_growth,
};
use crate::decide::restraint::{GENERATIONS, QUIET};
use crate::ground::clock::Moment;
use crate::ground::memory::{NodeMemory, Sample};
use crate::ground::units::Bytes;
use crate::pods::guard::{Guard, Remedy, Threshold};
use crate::pods::{Pod, Resized};
use crate::sampler::TargetId;

/// A limit that somebody lowered within this time after our raise is not raised again for as long: two that pull at one limit
/// would never come to rest.
const LOWERED: Duration = Duration::from_secs(600);

/// Reads the machine's memory; `None` if it cannot be read.
pub type ReadNode<'a> = dyn FnMut() -> Option<NodeMemory> + 'a;

/// What is remembered of a pod's remedies. Each map has at most one entry for each container and remedy.
#[derive(Debug, Default)]
pub(super) struct Remembered {
    /// Remedies that had no effect in time, or got no useful answer, and until when others are tried before them.
    failed: BTreeMap<(TargetId, Remedy), Moment>,
    /// Refusals that stand until the pod's spec changes, with its generation.
    refused: BTreeMap<(String, Remedy), (i64, String)>,
    /// The lowest limit of each container that this agent has seen.
    lowest: BTreeMap<String, Bytes>,
    /// Our last raise of each container.
    raised: BTreeMap<String, (Bytes, Moment)>,
    /// When somebody lowered a limit that we had raised.
    lowered: BTreeMap<String, Moment>,
    /// When a container was last restarted by us, and how often in a row while it was young.
    restarted: BTreeMap<String, (Moment, u32)>,
}

impl Remembered {
    /// Takes in the limits of a pod that the watch shows.
    pub(super) fn observe(&mut self, now: Moment, pod: &Pod) {
        for container in &pod.containers {
            let Some(limit) = container.memory.limit else { continue };
            let first = match pod.resized {
                // A raise from before this agent's start: rather too much than too little.
                Resized::ByUs => container.memory.request.unwrap_or_default(),
                Resized::Never | Resized::ByOthers => limit,
            };
            let lowest = self.lowest.entry(container.name.clone()).or_insert(first);
            *lowest = limit.min(*lowest);
            let ours = self.raised.get(&container.name).filter(|(to, at)| limit < *to && now < *at + LOWERED);
            if ours.is_some() {
                self.raised.remove(&container.name);
                self.lowered.insert(container.name.clone(), now);
            }
        }
        self.refused.retain(|_, (generation, _)| *generation == pod.generation);
    }

    pub(super) fn fail(&mut self, target: TargetId, remedy: Remedy, until: Moment) {
        self.failed.insert((target, remedy), until);
    }

    pub(super) fn refuse(&mut self, container: &str, remedy: Remedy, generation: i64, words: String) {
        self.refused.insert((container.to_owned(), remedy), (generation, words));
    }

    /// Our raise has reached the kernel.
    pub(super) fn raised(&mut self, container: &str, to: Bytes, now: Moment) {
        self.raised.insert(container.to_owned(), (to, now));
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
        self.failed.values().min().copied()
    }
}

/// By how much a pod's limits are raised, all together.
pub(super) fn raised_in(entry: &Entry) -> Bytes {
    if entry.pod.guaranteed {
        return Bytes(0); // its request was raised, too, and the scheduler counts that
    }
    let under_way = match &entry.eviction {
        Eviction::Trying(attempt) => Some((attempt.resize.container.as_str(), attempt.resize.limit)),
        _ => None,
    };
    let raised = entry.pod.containers.iter().filter_map(|c| {
        let lowest = *entry.remedies.lowest.get(&c.name)?;
        let wanted = under_way.filter(|(name, _)| *name == c.name).map(|(_, limit)| limit);
        Some(c.memory.limit?.max(wanted.unwrap_or_default()).less(lowest))
    });
    raised.fold(Bytes(0), Bytes::plus)
}

/// The remedy to begin with.
#[derive(Debug)]
pub(super) enum Pick {
    Evict,
    Resize(Act, Resize),
    /// None is possible, and why.
    None(Reasons),
}

/// What can be done about a container now.
#[derive(Debug)]
pub(super) struct Options {
    /// In the user's order; each with the change that it makes, or none for an eviction.
    pub(super) possible: Vec<(Remedy, Option<Resize>)>,
    /// Why the others cannot be used.
    pub(super) not: Reasons,
}

impl Controller {
    /// Picks the remedy for a container above its threshold. `may_evict`: its eviction does not back off.
    pub(super) fn pick(&self, now: Moment, key: &Key, i: usize, seen: &Seen<'_>, node: &mut ReadNode<'_>) -> Pick {
        let Some(entry) = self.pods.get(key) else { return Pick::None(Vec::new()) };
        let latencies = self.latencies.ladder(&key.0);
        let Options { possible, not } = self.possible(now, entry, i, seen, node);
        let left = time_at(worst_growth(seen.evidence), seen.evidence);
        let remedies: Vec<Remedy> = possible.iter().map(|(remedy, _)| *remedy).collect();
        let Some(chosen) = choose(&remedies, left, &latencies) else { return Pick::None(not) };
        let resize = possible.into_iter().find(|(remedy, _)| *remedy == chosen).and_then(|(_, resize)| resize);
        match (chosen, resize) {
            (Remedy::Raise, Some(resize)) => Pick::Resize(Act::Raise, resize),
            (Remedy::Restart, Some(resize)) => Pick::Resize(Act::Restart, resize),
            _ => Pick::Evict,
        }
    }

    pub(super) fn possible(
        &self,
        now: Moment,
        entry: &Entry,
        i: usize,
        seen: &Seen<'_>,
        node: &mut ReadNode<'_>,
    ) -> Options {
        let (mut possible, mut not) = (Vec::new(), Vec::new());
        for remedy in &seen.guard.remedies {
            match self.resize_of(now, entry, i, *remedy, seen, node) {
                Ok(resize) => possible.push((*remedy, resize)),
                Err(why) => not.push((*remedy, why)),
            }
        }
        Options { possible, not }
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
        if memory.failed.get(&(target.id, remedy)).is_some_and(|until| now < *until) {
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
        if let Some((_, words)) = memory.refused.get(&(name.to_owned(), remedy)) {
            return Err(NotPossible::Refused(words.clone()));
        }
        if remedy == Remedy::Restart {
            let young = memory.restarted.get(name).filter(|(at, _)| now < *at + QUIET).map_or(0, |(_, n)| *n);
            return match restart(&entry.pod, container)? {
                _ if young >= GENERATIONS => Err(NotPossible::DiesYoung),
                _ if is_shared(seen.sample) => Err(NotPossible::Shared),
                _ if is_of_pod(seen.sample) => Err(NotPossible::PodLimit),
                resize => Ok(Some(resize)),
            };
        }
        if memory.lowered.get(name).is_some_and(|at| now < *at + LOWERED) {
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
            node: self.node_margin(node),
        };
        raise(&entry.pod, container, &inputs, &self.latencies.ladder(&entry.pod.id.namespace)).map(Some)
    }

    fn node_margin(&self, node: &mut ReadNode<'_>) -> NodeMargin {
        let used = self.pods.values().flat_map(|e| &e.targets).filter(|t| t.name.container().is_some());
        let used = used.filter_map(|t| Some(t.last_sample()?.sample.own.usage)).fold(Bytes(0), Bytes::plus);
        node_margin(&self.settings.remedies, node(), self.raised(), used)
    }

    /// By how much the limits of this node's containers are raised, all together.
    pub(super) fn raised(&self) -> Bytes {
        self.pods.values().map(raised_in).fold(Bytes(0), Bytes::plus)
    }
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

/// Shared memory is most of what it holds: a restart does not free it.
fn is_shared(sample: &Sample) -> bool {
    sample.own.stat.is_some_and(|stat| stat.shmem.times(2) > sample.own.net_usage())
}

/// The pod's limit is nearer than the container's own by more than a sandbox explains: others in the pod fill it.
fn is_of_pod(sample: &Sample) -> bool {
    let pods = sample.pod.and_then(|pod| Some((pod.margin()?, pod.limit?)));
    let own = sample.own.margin().unwrap_or(Bytes(u64::MAX));
    pods.is_some_and(|(margin, limit)| margin.plus(Bytes(limit.0 / OTHERS_PART)) < own)
}
