//! The controller's state, and what all of its inputs share.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::sync::Arc;
use std::time::Duration;

use jiff::{SignedDuration, Timestamp};

use super::effects::Effect;
use super::entry::Entry;
use super::latency::Latencies;
use crate::act::order::{Act, Order};
use crate::cgroup::ReadError;
use crate::cgroup::resolve::Groups;
use crate::decide::eligibility::Scope;
use crate::decide::judge::Evidence;
use crate::decide::ladder::{Allowed, Reasons};
use crate::decide::restraint::{Limits, Reservation, Restraint};
use crate::ground::clock::Moment;
use crate::ground::memory::Sample;
use crate::pods::guard::DryRun;
use crate::pods::{Owner, PodRef};
use crate::sampler::TargetId;

/// Reads all values of a target anew; `None` if its group is gone.
pub type Read<'a> = dyn FnMut(TargetId, &Groups) -> Result<Option<Sample>, ReadError> + 'a;

/// A request without an answer yet. It keeps everything that a report needs, because the pod may be forgotten before
/// the answer comes.
#[derive(Debug)]
pub(super) struct InFlight {
    pub(super) pod: PodRef,
    pub(super) owner: Option<Owner>,
    pub(super) container: Option<String>,
    pub(super) by_namespace: bool,
    pub(super) evidence: Evidence,
    pub(super) act: Act,
    pub(super) mode: DryRun,
    pub(super) grace: Option<u32>,
    pub(super) pod_grace: Option<u32>,
    /// The age of the container.
    pub(super) age: Option<Duration>,
    pub(super) since: Moment,
    /// The token that it took; none for a raise, which disturbs nobody.
    pub(super) reservation: Option<Reservation>,
    /// It is a dry run that asks the disruption budgets before a restart.
    pub(super) asks: bool,
    /// Why the remedies before this one were passed over.
    pub(super) passed: Reasons,
    /// The answer to an earlier request for the same eviction was lost.
    pub(super) may_have_happened: bool,
}

/// A pod's key in the index: its namespace and name. Clones share it.
pub(super) type Key = Arc<(String, String)>;

pub(super) fn key_of(pod: &PodRef) -> Key {
    Arc::new((pod.namespace.clone(), pod.name.clone()))
}

#[derive(Clone, Debug)]
pub struct Settings {
    /// Which pods the agent is responsible for.
    pub scope: Scope,
    /// For all pods.
    pub dry_run: DryRun,
    /// How many evictions are allowed, and how soon.
    pub limits: Limits,
    /// What this agent may do besides evicting.
    pub remedies: Allowed,
    /// The wall clock at [`Moment::ZERO`]; see [`Controller::set_wall`].
    pub wall: Timestamp,
    /// For the jitter of retries.
    pub seed: u64,
}

#[derive(Debug)]
pub struct Controller {
    pub(super) settings: Settings,
    /// In boxes: the nodes of the map are half empty.
    pub(super) pods: BTreeMap<Key, Box<Entry>>,
    pub(super) by_target: HashMap<TargetId, Key>,
    /// Pods with something due by time, so that no other pod has to be checked.
    pub(super) due: BTreeSet<(Moment, Key)>,
    pub(super) next_id: u64,
    /// Pods seen since the current list began.
    pub(super) listing: Option<BTreeSet<Key>>,
    pub(super) listed: bool,
    pub(super) in_flight: BTreeMap<u64, InFlight>,
    pub(super) next_order: u64,
    pub(super) restraint: Restraint,
    pub(super) latencies: Latencies,
    /// Pods to decide about.
    pub(super) open: BTreeSet<Key>,
    /// The watch is broken.
    pub(super) away: bool,
    /// The wall clock at [`Moment::ZERO`].
    pub(super) wall: Timestamp,
    pub(super) random: fastrand::Rng,
    pub(super) effects: Vec<Effect>,
}

impl Controller {
    /// A controller that knows no pod yet.
    #[must_use]
    pub fn new(settings: Settings) -> Controller {
        Controller {
            restraint: Restraint::new(settings.limits),
            random: fastrand::Rng::with_seed(settings.seed),
            latencies: Latencies::default(),
            open: BTreeSet::new(),
            away: false,
            wall: settings.wall,
            settings,
            pods: BTreeMap::new(),
            by_target: HashMap::new(),
            due: BTreeSet::new(),
            next_id: 0,
            listing: None,
            listed: false,
            in_flight: BTreeMap::new(),
            next_order: 0,
            effects: Vec::new(),
        }
    }

    /// Sets what the wall clock would have shown at [`Moment::ZERO`] at its current setting: the clock can be set, and
    /// a machine can sleep.
    pub fn set_wall(&mut self, wall: Timestamp) {
        self.wall = wall;
    }

    /// Hands a request over, and keeps what belongs to it until its answer. Returns the request's number.
    pub(super) fn post(&mut self, request: InFlight, order: Order) -> u64 {
        let number = self.next_order;
        self.next_order += 1;
        self.in_flight.insert(number, request);
        self.effects.push(Effect::Post(number, order));
        number
    }

    /// The effects since the last call. To be called after [`Controller::decide`].
    pub fn effects(&mut self) -> Vec<Effect> {
        std::mem::take(&mut self.effects)
    }

    /// Whether the pods have been listed completely once.
    #[must_use]
    pub fn listed(&self) -> bool {
        self.listed
    }

    /// Whether no pod of the node has opted in, as far as is known.
    #[must_use]
    pub fn has_no_pods(&self) -> bool {
        self.pods.is_empty()
    }
}

pub(super) fn find<'a>(
    pods: &'a mut BTreeMap<Key, Box<Entry>>,
    by_target: &HashMap<TargetId, Key>,
    id: TargetId,
) -> Option<(&'a mut Entry, usize)> {
    let entry = pods.get_mut(by_target.get(&id)?)?;
    let i = entry.targets.iter().position(|t| t.id == id)?;
    Some((entry, i))
}

/// Converts a wall-clock time into a moment; it is negative before the agent's start.
pub(super) fn since(wall: Timestamp, at: Timestamp) -> SignedDuration {
    at.duration_since(wall)
}
