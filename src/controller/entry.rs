//! What is known about one pod, how far its eviction has come, and queries on that.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::sync::Arc;
use std::time::Duration;

use jiff::Timestamp;

use super::attempt::Attempt;
use super::remedies::{BLOCKED, Remembered};
use super::warning::{self, Warnings};
use crate::act::order::Act;
use crate::cgroup::resolve::{Groups, Want};
use crate::decide::eligibility::Never;
use crate::decide::judge::Evidence;
use crate::decide::ladder::Reasons;
use crate::decide::restraint::{Deferral, OwnerKey, Reservation};
use crate::decide::schedule::time_left;
use crate::ground::clock::Moment;
use crate::pods::guard::{DryRun, Guard, Problem};
use crate::pods::{ContainerId, ContainerKind, Pod};
use crate::report::notice::MissReason;
use crate::sampler::{Known, LastSample, Shown, TargetId};

/// After this time, a running container without a charged group has none: Kata, gVisor.
pub(super) const SETTLED: Duration = Duration::from_secs(2);
/// A back-off outlives a dip, but ends after this time without a failure.
const FORGIVEN: Duration = Duration::from_secs(600);
/// How many reported things are remembered per pod, to report each once.
pub(super) const MOST_REPORTED: usize = 64;

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
pub(super) enum GroupState {
    /// We are looking for its group.
    Resolving {
        since: Moment,
        attempt: u32,
        /// `None` while the walk's result is outstanding.
        retry_at: Option<Moment>,
        /// Why the last attempt failed.
        why: Option<String>,
        /// It had a group of its own once.
        had_group: bool,
    },
    /// The sampler samples it.
    Watched {
        groups: Groups,
        view: Arc<Shown>,
        /// The sampler's last report.
        above: Option<Box<Evidence>>,
        /// Why it cannot be read; `None` once it can be again.
        unreadable: Option<String>,
    },
}

#[derive(Debug)]
pub(super) struct Guarded {
    pub(super) id: TargetId,
    pub(super) name: Name,
    /// Since when we know that it runs.
    pub(super) since: Moment,
    /// How often its guard was edited; reports based on an earlier edit do not count.
    pub(super) edit: u32,
    pub(super) state: GroupState,
}

impl Guarded {
    /// What the sampler saw last.
    pub(super) fn last_sample(&self) -> Option<LastSample> {
        match &self.state {
            GroupState::Watched { view, .. } => view.last(),
            GroupState::Resolving { .. } => None,
        }
    }

    /// That, and what it remembers.
    pub(super) fn known(&self) -> Option<Known> {
        match &self.state {
            GroupState::Watched { view, .. } => view.known(),
            GroupState::Resolving { .. } => None,
        }
    }
}

/// How far the remedy for a pod has come.
#[derive(Debug)]
pub(super) enum Stage {
    /// Nothing is above its threshold, or nothing may be done.
    Idle,
    /// A target is above its threshold, but restraint defers its eviction.
    Deferred {
        target: TargetId,
        deferral: Deferral,
        /// When it is considered again: then at the latest, for another remedy may have to begin before.
        look_at: Moment,
    },
    /// The request was sent; its answer is outstanding. `again`: the server did not carry out the one before.
    Posting { target: TargetId, order: u64, again: bool },
    /// The server did not carry out the request. It is sent again while a target is above its threshold.
    Retrying { target: TargetId, at: Moment },
    /// It was a dry run; this state lasts until its target dips.
    Tried { target: TargetId, mode: DryRun, outcome: &'static str, at: Moment },
    /// A raise or a restart was begun: followed until the kernel shows its effect, or until the next remedy has to begin.
    Trying(Box<Attempt>),
    /// None of the remedies is possible; checked again then.
    NoRemedy { target: TargetId, reasons: Reasons, at: Moment },
    /// Accepted: followed until its process has ended.
    Leaving(Box<Leaving>),
}

/// An eviction that was accepted.
#[derive(Debug)]
pub(super) struct Leaving {
    pub(super) target: TargetId,
    /// What the eviction was based on.
    pub(super) evidence: Evidence,
    pub(super) act: Act,
    /// When it was requested.
    pub(super) asked: Moment,
    /// When it was accepted.
    pub(super) since: Moment,
    /// The token that it took. If nothing comes of it, the next attempt replaces the token.
    pub(super) reservation: Option<Reservation>,
    /// When the watch should have shown that the pod is terminating; `None` if it has.
    pub(super) mark_by: Option<Moment>,
    /// When its process should have ended.
    pub(super) end_by: Option<Moment>,
}

/// The last failure of a pod's eviction. It outlives a dip, so that a container which swings around its threshold does
/// not cause more frequent requests.
#[derive(Debug)]
pub(super) struct Failure {
    pub(super) answer: &'static str,
    pub(super) words: String,
    pub(super) blocked: bool,
    /// No answer came, or a token was not accepted: this can end at any moment.
    pub(super) unheard: bool,
    pub(super) attempt: u32,
    pub(super) not_before: Moment,
}

#[derive(Debug)]
pub(super) struct Entry {
    pub(super) pod: Pod,
    /// The owner whose evictions count together with this pod's.
    pub(super) owner: OwnerKey,
    /// When we first learned of it.
    pub(super) since: Moment,
    pub(super) guard: Result<Guard, Vec<Problem>>,
    /// The label of its namespace has opted it in.
    pub(super) by_namespace: bool,
    pub(super) never: Option<Never>,
    pub(super) targets: Vec<Guarded>,
    pub(super) stage: Stage,
    pub(super) remedies: Remembered,
    pub(super) warnings: Warnings,
    pub(super) failure: Option<Box<Failure>>,
    /// The same for a deletion past its disruption budget. A refused deletion is no reason to evict less often.
    pub(super) delete_failure: Option<Box<Failure>>,
    /// The token of an eviction whose answer was lost. It may have happened, and is requested again.
    pub(super) reserved: Option<Reservation>,
    /// An earlier request may have been carried out: its answer was lost, or it had no known effect.
    pub(super) may_have_happened: bool,
    /// What was reported, so that each thing is reported once.
    pub(super) reported: BTreeSet<String>,
    /// When it is due by time, as noted in the controller's index.
    pub(super) noted_due: Option<Moment>,
    /// Kills of processes whose effect on the container, its end or not, is still unknown.
    pub(super) unsettled: Vec<Unsettled>,
    /// Containers whose kill was reported, or happened before the agent started.
    pub(super) kills: VecDeque<ContainerId>,
    /// What was last known of each container that no longer exists, and what it was waiting for.
    pub(super) last_samples: BTreeMap<String, (ContainerId, Arc<Shown>, MissReason)>,
}

impl Entry {
    /// The container of a target. `None`: the target is the pod's own group, or is gone.
    pub(super) fn container_of(&self, id: TargetId) -> Option<String> {
        self.targets.iter().find(|t| t.id == id).and_then(|t| t.name.container()).map(str::to_owned)
    }

    /// The target of this instance of a container.
    pub(super) fn of_instance(&self, id: &ContainerId) -> Option<&Guarded> {
        self.targets.iter().find(|target| matches!(&target.name, Name::Container(_, of) if of == id))
    }

    pub(super) fn new(
        now: Moment,
        pod: Pod,
        owner: OwnerKey,
        guard: Result<Guard, Vec<Problem>>,
        by_namespace: bool,
        never: Option<Never>,
    ) -> Entry {
        Entry {
            owner,
            since: now,
            guard,
            by_namespace,
            never,
            targets: Vec::new(),
            stage: Stage::Idle,
            remedies: Remembered::default(),
            warnings: Warnings::default(),
            failure: None,
            delete_failure: None,
            reserved: None,
            may_have_happened: false,
            noted_due: None,
            reported: BTreeSet::new(),
            // We do not report kills from before the pod was known.
            kills: pod.containers.iter().flat_map(|c| c.oom_killed.clone()).collect(),
            unsettled: Vec::new(),
            last_samples: BTreeMap::new(),
            pod,
        }
    }

    /// A disruption budget blocks its eviction, or a restart in its place.
    pub(super) fn is_blocked(&self) -> bool {
        let remedy = |target: TargetId| self.remedies.last_failure(target).and_then(|(_, answer)| answer);
        let target = undecided(&self.stage);
        self.failure.as_ref().map_or(target.and_then(remedy) == Some(BLOCKED), |failure| failure.blocked)
    }

    /// When something is due by time alone.
    pub(super) fn due(&self) -> Option<Moment> {
        let stage = match self.stage {
            Stage::Retrying { at, .. } | Stage::NoRemedy { at, .. } => Some(at),
            Stage::Trying(ref attempt) => Some(attempt.look_at),
            Stage::Deferred { look_at, .. } => Some(look_at),
            Stage::Leaving(ref leaving) => [leaving.mark_by, leaving.end_by].into_iter().flatten().min(),
            _ => None,
        };
        let resolves = self.targets.iter().filter_map(|t| match t.state {
            GroupState::Resolving { retry_at, .. } => retry_at,
            GroupState::Watched { .. } => None,
        });
        let kills = self.unsettled.iter().filter_map(|u| u.goes_on_at);
        resolves.chain(stage).chain(kills).chain(warning::due(&self.warnings)).min()
    }
}

/// The targets a pod should have now.
pub(super) fn wanted(pod: &Pod, guard: &Result<Guard, Vec<Problem>>, never: Option<Never>) -> Vec<Name> {
    let Ok(guard) = guard else { return Vec::new() };
    // A terminating pod is still followed, to see it end; other pods that are never evicted are ignored.
    if never.is_some_and(|n| n != Never::Terminating) {
        return Vec::new();
    }
    let containers = guard.containers.iter().filter_map(|name| {
        let container = pod.containers.iter().find(|c| c.name == *name)?;
        match &container.id {
            Some(Ok(id)) if container.running => Some(Name::Container(name.clone(), *id)),
            _ => None,
        }
    });
    let pod_group = guard.pod_group.then_some(Name::PodGroup);
    containers.chain(pod_group).collect()
}

pub(super) fn want(entry: &Entry, target: &Guarded, now: Moment) -> Want {
    let (since, had_group) = match target.state {
        GroupState::Resolving { since, had_group, .. } => (since, had_group),
        GroupState::Watched { .. } => (now, true),
    };
    let sole = |guard: &Guard| guard.pod_group || guard.containers.len() == 1;
    Want {
        pod: entry.pod.id.uid.clone(),
        container: match &target.name {
            Name::Container(_, id) => Some(*id),
            Name::PodGroup => None,
        },
        pod_may_stand_for_it: entry.guard.as_ref().is_ok_and(sole),
        may_have_none: entry.pod.runtime_class && !had_group,
        settled: now.saturating_sub(since) >= SETTLED,
    }
}

/// The target of an eviction that is still undecided.
pub(super) fn undecided(stage: &Stage) -> Option<TargetId> {
    match stage {
        Stage::Deferred { target, .. } | Stage::Retrying { target, .. } | Stage::Tried { target, .. } => Some(*target),
        Stage::NoRemedy { target, .. } => Some(*target),
        Stage::Idle | Stage::Posting { .. } | Stage::Trying(_) | Stage::Leaving(_) => None,
    }
}

/// How many times in a row a pod's eviction failed.
pub(super) fn failures(failure: Option<&Failure>, now: Moment) -> u32 {
    failure.filter(|f| now < f.not_before + FORGIVEN).map_or(0, |f| f.attempt)
}

/// How long a target has been running: since its start in the status or since it was first seen, whichever is longer. A
/// wall clock that was set then makes nothing young. `None` if its status has no start.
pub(super) fn age(pod: &Pod, targets: &[Guarded], of: usize, wall: Timestamp, now: Moment) -> Option<Duration> {
    // The pod's own group is as old as its youngest container, except containers that somebody added to debug it.
    let group = targets[of].name == Name::PodGroup;
    let meant = pod.containers.iter().filter(|c| match targets[of].name.container() {
        Some(name) => c.name == name,
        None => matches!(c.kind, ContainerKind::Main | ContainerKind::Sidecar),
    });
    let seen = |container: &str| targets.iter().find(|t| t.name.container() == Some(container)).map(|t| t.since);
    let ages = meant.filter_map(|c| {
        let by_clock = wall.saturating_add(now).ok()?.duration_since(c.started_at?);
        // The group exists before a container that is restarted in it.
        let since = if group { seen(&c.name).unwrap_or(now) } else { targets[of].since };
        Some(Duration::try_from(by_clock).unwrap_or_default().max(now.saturating_sub(since)))
    });
    ages.min()
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

/// The time left for what does not grow: less than for what is not above its threshold.
const LONG: Duration = Duration::from_secs(1 << 32);

/// How long a target apparently has until its margin is used up; the maximum if it is not above its threshold.
pub(super) fn urgency(target: &Guarded) -> Duration {
    let GroupState::Watched { above: Some(above), view, .. } = &target.state else { return Duration::MAX };
    let (margin, growth) = match view.last() {
        Some(last_sample) => (last_sample.margin, last_sample.growth.max(last_sample.slow_growth)),
        None => (above.margin, above.growth.max(above.slow_growth)),
    };
    time_left(margin, growth).unwrap_or(LONG)
}

/// The targets above their threshold, those with the least time left first.
pub(super) fn above_targets(entry: &Entry) -> Vec<usize> {
    let is_over = |t: &Guarded| matches!(t.state, GroupState::Watched { above: Some(_), .. });
    let mut above: Vec<_> = (0..entry.targets.len()).filter(|i| is_over(&entry.targets[*i])).collect();
    above.sort_by_key(|i| urgency(&entry.targets[*i]));
    above
}

/// How fast a target grows; `None` if it no longer exists.
pub(super) fn growth_of(entry: &Entry, id: TargetId) -> Option<i64> {
    let target = entry.targets.iter().find(|t| t.id == id)?;
    match &target.state {
        GroupState::Watched { view, .. } => Some(view.last().and_then(|l| l.growth).unwrap_or(0)),
        GroupState::Resolving { .. } => None,
    }
}

/// Guarded containers with an id in a format that no runtime uses, and what is wrong with it.
pub(super) fn bad_ids(entry: &Entry) -> Vec<(String, String)> {
    let Ok(guard) = &entry.guard else { return Vec::new() };
    let guarded =
        entry.pod.containers.iter().filter(|c| c.kind != ContainerKind::Init && guard.containers.contains(&c.name));
    guarded.filter_map(|c| Some((c.name.clone(), c.id.as_ref()?.as_ref().err()?.clone()))).collect()
}

/// Kills that the kernel has counted, while it is unknown whether they ended the container.
#[derive(Debug)]
pub(super) struct Unsettled {
    pub(super) container: String,
    pub(super) id: ContainerId,
    pub(super) count: u64,
    pub(super) reason: MissReason,
    /// The container's limit was full, or the pod's.
    pub(super) filled: bool,
    pub(super) last_sample: Option<Box<(LastSample, Duration)>>,
    /// What was known of the container then.
    pub(super) known: Option<Box<Known>>,
    /// When it counts as having gone on without the killed processes; `None`: its group is gone, and only the status
    /// decides.
    pub(super) goes_on_at: Option<Moment>,
}
