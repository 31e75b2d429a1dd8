//! Counts for `/metrics`, and for tests of bounds.

use std::sync::Arc;

use super::core::Controller;
use super::entry::{Entry, GroupState, Stage, bad_ids};
use super::view;
use crate::ground::clock::Moment;
use crate::pods::PodRef;
use crate::report::metrics::Counts;
use crate::sampler::{Shown, TargetId};
use crate::serve::wire::GuardView;

/// See [`Controller::sizes`].
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Sizes {
    pub pods: usize,
    pub targets: usize,
    pub ids: usize,
    /// Requests without an answer yet.
    pub in_flight: usize,
    /// The most entries of one pod's set of things reported.
    pub reported: usize,
    /// The most remembered kills of one pod.
    pub kills: usize,
    /// The most last samples kept for one pod.
    pub last_samples: usize,
    /// Owners whose evictions or young ends are remembered.
    pub owners: usize,
    /// Namespaces with a known eviction latency.
    pub namespaces: usize,
}

impl Controller {
    /// The pod and the container of a target; no container for the pod's own group.
    #[must_use]
    pub fn name_of(&self, id: TargetId) -> Option<(&PodRef, Option<&str>)> {
        let entry = self.pods.get(self.by_target.get(&id)?)?;
        let target = entry.targets.iter().find(|t| t.id == id)?;
        Some((&entry.pod.id, target.name.container()))
    }

    /// Whether this request only asks the disruption budgets before a restart.
    #[must_use]
    pub fn asks(&self, order: u64) -> bool {
        self.in_flight.get(&order).is_some_and(|request| request.asks)
    }

    /// What is known about every guarded container, for people.
    #[must_use]
    pub fn guards(&self, now: Moment) -> Vec<GuardView> {
        self.guards_and_pasts(now).into_iter().map(|(view, _)| view).collect()
    }

    /// The same, each with where its past is.
    #[must_use]
    pub fn guards_and_pasts(&self, now: Moment) -> Vec<(GuardView, Option<Arc<Shown>>)> {
        let views = self.pods.iter().flat_map(|(key, entry)| {
            let latency = self.latencies.view(&key.0);
            let with_latency = move |(view, shown)| (GuardView { latency: Some(latency), ..view }, shown);
            view::views(entry, now).into_iter().map(with_latency)
        });
        views.collect()
    }

    /// The number of each kind, for `/metrics`.
    #[must_use]
    pub fn counts(&self) -> Counts {
        let mut counts = Counts { raised: self.raised(), ..Counts::default() };
        for entry in self.pods.values() {
            counts.invalid += usize::from(entry.guard.is_err());
            counts.unresolved += bad_ids(entry).len();
            match &entry.stage {
                Stage::Retrying { .. } => {
                    counts.blocked += usize::from(entry.is_blocked());
                }
                Stage::Deferred { .. } => counts.deferred += 1,
                Stage::NoRemedy { .. } => counts.no_remedy += 1,
                _ => {}
            }
            for target in &entry.targets {
                match target.state {
                    GroupState::Watched { unreadable: Some(_), .. } => counts.unreadable += 1,
                    GroupState::Watched { .. } => counts.guarded += 1,
                    GroupState::Resolving { .. } => counts.unresolved += 1,
                }
            }
        }
        counts
    }

    #[must_use]
    pub fn sizes(&self) -> Sizes {
        let most = |of: fn(&Entry) -> usize| self.pods.values().map(|entry| of(entry)).max().unwrap_or(0);
        Sizes {
            pods: self.pods.len(),
            targets: self.pods.values().map(|e| e.targets.len()).sum(),
            ids: self.by_target.len(),
            in_flight: self.in_flight.len(),
            reported: most(|e| e.reported.len()),
            kills: most(|e| e.kills.len()),
            last_samples: most(|e| e.last_samples.len()),
            owners: self.restraint.remembered(),
            namespaces: self.latencies.len(),
        }
    }
}
