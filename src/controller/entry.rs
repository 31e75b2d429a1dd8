//! What is known of one pod, how far its eviction has come, and the questions that are asked of it.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::sync::Arc;
use std::time::Duration;

use jiff::Timestamp;

use super::Effect;
use crate::evict::Act;
use crate::guard::{DryRun, Guard, Problem};
use crate::pods::{ContainerId, Kind, Pod};
use crate::policy::{Evidence, Moment, Never, time_left};
use crate::report::{MissReason, Notice, Subject};
use crate::resolve::{Groups, Want};
use crate::restraint::{Held, OwnerKey, Reservation};
use crate::sampler::{Command, LastLook, TargetId, View};

/// After so long a running container without a charged group has none: Kata, gVisor.
pub(super) const SETTLED: Duration = Duration::from_secs(2);
/// A back-off outlives a dip, but not this long a time without a failure.
const FORGIVEN: Duration = Duration::from_secs(600);
/// So many things told of one pod are remembered, to tell each once.
const MOST_TOLD: usize = 64;

/// A container, or the pod's own group.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Name {
    Container(String, ContainerId),
    PodGroup,
}

impl Name {
    pub(super) fn container(&self) -> Option<&str> {
        match self {
            Name::Container(name, _) => Some(name),
            Name::PodGroup => None,
        }
    }
}

#[derive(Debug)]
pub(super) enum State {
    /// Its group is looked for.
    Resolving {
        since: Moment,
        attempt: u32,
        /// `None` while an answer is awaited.
        retry_at: Option<Moment>,
        /// Why the last attempt failed.
        why: Option<String>,
        /// It had a group of its own once.
        had_group: bool,
    },
    /// The sampler looks at it.
    Watched {
        groups: Groups,
        view: Arc<View>,
        /// The sampler's last word.
        over: Option<Evidence>,
    },
}

#[derive(Debug)]
pub(super) struct Target {
    pub(super) id: TargetId,
    pub(super) name: Name,
    /// How often its guard was edited; reports by an earlier one do not count.
    pub(super) edit: u32,
    pub(super) state: State,
}

/// How far a pod's eviction has come.
#[derive(Debug)]
pub(super) enum Eviction {
    /// Nothing is over, or nothing may be done.
    Idle,
    /// A target is over and being read once more.
    Confirming { target: TargetId, act: Act },
    /// It is over, but restraint says to wait.
    Held { target: TargetId, act: Act, held: Held },
    /// An answer is awaited.
    Posting { target: TargetId, order: u64 },
    /// The server did not do it; as long as the target is over it is asked again.
    Retrying { target: TargetId, at: Moment },
    /// It was only tried; until its target dips.
    Tried { target: TargetId, mode: DryRun, outcome: &'static str, at: Moment },
    /// Accepted: followed until its process has ended. Nothing more is sent.
    Leaving { target: TargetId, since: Moment, ask_at: Option<Moment> },
    /// Nothing more is sent for this pod.
    Done { target: TargetId, outcome: &'static str, at: Moment },
}

/// The last failure of a pod's eviction. It outlives a dip, so that a container which swings about
/// its threshold is no reason to ask more often.
#[derive(Debug)]
pub(super) struct Failure {
    pub(super) answer: &'static str,
    pub(super) words: String,
    pub(super) blocked: bool,
    pub(super) attempt: u32,
    pub(super) not_before: Moment,
}

#[derive(Debug)]
pub(super) struct Entry {
    pub(super) pod: Pod,
    pub(super) guard: Result<Guard, Vec<Problem>>,
    pub(super) never: Option<Never>,
    pub(super) targets: Vec<Target>,
    pub(super) eviction: Eviction,
    pub(super) failure: Option<Failure>,
    /// Taken for an eviction whose answer was lost: it may have happened, and is asked for again.
    pub(super) reserved: Option<Reservation>,
    /// What was told, so that it is told once.
    pub(super) told: BTreeSet<String>,
    /// When it is due by time, as the controller has noted it.
    pub(super) noted_due: Option<Moment>,
    /// Containers whose kill was told, or was there before us.
    pub(super) kills: VecDeque<ContainerId>,
    /// The last look at each container that is no more, and what it was waiting for.
    pub(super) last_looks: BTreeMap<String, (ContainerId, Option<LastLook>, MissReason)>,
}

impl Entry {
    /// When something is to be done by time alone.
    pub(super) fn due(&self) -> Option<Moment> {
        let eviction = match self.eviction {
            Eviction::Retrying { at, .. } => Some(at),
            Eviction::Held { held, .. } => Some(held.until),
            Eviction::Leaving { ask_at, .. } => ask_at,
            _ => None,
        };
        let resolves = self.targets.iter().filter_map(|t| match t.state {
            State::Resolving { retry_at, .. } => retry_at,
            State::Watched { .. } => None,
        });
        resolves.chain(eviction).min()
    }
}

/// The targets a pod should have now.
pub(super) fn wanted(pod: &Pod, guard: &Result<Guard, Vec<Problem>>, never: Option<Never>) -> Vec<Name> {
    let Ok(guard) = guard else { return Vec::new() };
    // A terminating pod is still followed, to see it end; the others are none of our business.
    if never.is_some_and(|n| n != Never::Terminating) {
        return Vec::new();
    }
    let containers = guard.containers.iter().filter_map(|name| {
        let container = pod.containers.iter().find(|c| c.name == *name)?;
        match &container.id {
            Some(Ok(id)) if container.running => Some(Name::Container(name.clone(), id.clone())),
            _ => None,
        }
    });
    let pod_group = guard.pod_group.then_some(Name::PodGroup);
    containers.chain(pod_group).collect()
}

pub(super) fn want(entry: &Entry, target: &Target, now: Moment) -> Want {
    let (since, had_group) = match target.state {
        State::Resolving { since, had_group, .. } => (since, had_group),
        State::Watched { .. } => (now, true),
    };
    let sole = |guard: &Guard| guard.pod_group || guard.containers.len() == 1;
    Want {
        pod: entry.pod.id.uid.clone(),
        container: match &target.name {
            Name::Container(_, id) => Some(id.clone()),
            Name::PodGroup => None,
        },
        pod_may_stand_for_it: entry.guard.as_ref().is_ok_and(sole),
        may_have_none: entry.pod.runtime_class && !had_group,
        settled: now.saturating_sub(since) >= SETTLED,
    }
}

/// The target of an eviction that may still turn out either way.
pub(super) fn undecided(eviction: &Eviction) -> Option<TargetId> {
    match eviction {
        Eviction::Confirming { target, .. }
        | Eviction::Held { target, .. }
        | Eviction::Retrying { target, .. }
        | Eviction::Tried { target, .. } => Some(*target),
        Eviction::Idle | Eviction::Posting { .. } | Eviction::Leaving { .. } | Eviction::Done { .. } => None,
    }
}

/// This target is not over, or not there, any more: what was undecided about it is so no longer.
pub(super) fn turn_from(effects: &mut Vec<Effect>, entry: &mut Entry, id: TargetId) {
    if undecided(&entry.eviction) == Some(id) {
        entry.eviction = Eviction::Idle;
        rearm(effects, entry);
    }
}

/// The pod is open for a verdict again: others of its targets may be over and were passed by.
pub(super) fn rearm(effects: &mut Vec<Effect>, entry: &Entry) {
    for target in &entry.targets {
        if matches!(target.state, State::Watched { over: Some(_), .. }) {
            effects.push(Effect::Sampler(Command::Rearm(target.id)));
        }
    }
}

/// How many times in a row a pod's eviction failed.
pub(super) fn failures(failure: Option<&Failure>, now: Moment) -> u32 {
    failure.filter(|f| now < f.not_before + FORGIVEN).map_or(0, |f| f.attempt)
}

/// How long the container runs; of the pod's own group, its youngest container.
pub(super) fn age(pod: &Pod, container: Option<&str>, wall: Timestamp, now: Moment) -> Option<Duration> {
    let meant = pod.containers.iter().filter(|c| container.is_none_or(|name| c.name == name));
    let started = meant.filter_map(|c| c.started_at).max()?;
    let since = wall.saturating_add(now).ok()?.duration_since(started);
    // A clock that was set back makes it look unborn: as young as can be.
    Some(Duration::try_from(since).unwrap_or_default())
}

pub(super) fn owner_key(pod: &Pod) -> OwnerKey {
    let (kind, name) = match &pod.owner {
        Some(owner) => match owner.deployment() {
            Some(deployment) => ("Deployment", deployment),
            None => (owner.kind.as_str(), owner.name.as_str()),
        },
        None => ("Pod", pod.id.name.as_str()),
    };
    OwnerKey { namespace: pod.id.namespace.clone(), kind: kind.into(), name: name.into() }
}

/// How long a target has until its room is used up.
pub(super) fn urgency(entry: &Entry, id: TargetId) -> Duration {
    let over = entry.targets.iter().find(|t| t.id == id).and_then(|t| match &t.state {
        State::Watched { over, view, .. } => {
            let look = view.last().map(|l| (l.room, l.growth));
            look.or(over.map(|e| (e.room, e.growth)))
        }
        State::Resolving { .. } => None,
    });
    over.and_then(|(room, growth)| time_left(room, growth)).unwrap_or(Duration::MAX)
}

/// How fast a target grows; `None` if it is not there any more.
pub(super) fn growth_of(entry: &Entry, id: TargetId) -> Option<i64> {
    let target = entry.targets.iter().find(|t| t.id == id)?;
    match &target.state {
        State::Watched { view, .. } => Some(view.last().and_then(|l| l.growth).unwrap_or(0)),
        State::Resolving { .. } => None,
    }
}

/// Guarded containers whose id has a shape that no runtime uses, with what is wrong.
pub(super) fn bad_ids(entry: &Entry) -> Vec<(String, String)> {
    let Ok(guard) = &entry.guard else { return Vec::new() };
    let guarded = entry.pod.containers.iter().filter(|c| c.kind != Kind::Init && guard.containers.contains(&c.name));
    guarded.filter_map(|c| Some((c.name.clone(), c.id.as_ref()?.as_ref().err()?.clone()))).collect()
}

pub(super) fn tell_bad_ids(effects: &mut Vec<Effect>, entry: &mut Entry) {
    for (container, problem) in bad_ids(entry) {
        tell(effects, entry, Some(container), Subject::Unresolved(problem));
    }
}

pub(super) fn notice_of(entry: &Entry, container: Option<String>, subject: Subject) -> Notice {
    Notice { pod: entry.pod.id.clone(), owner: entry.pod.owner.clone(), container, subject }
}

/// Tells something of a pod unless it was told before in the same words.
pub(super) fn tell(effects: &mut Vec<Effect>, entry: &mut Entry, container: Option<String>, subject: Subject) {
    let words = format!("{}: {}", container.as_deref().unwrap_or(""), subject.once());
    if entry.told.len() >= MOST_TOLD {
        entry.told.clear(); // rather twice than never
    }
    if entry.told.insert(words) {
        effects.push(Effect::Tell(Box::new(notice_of(entry, container, subject))));
    }
}
