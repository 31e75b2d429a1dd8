//! What is known of this node's opted-in pods, and what is done about them: pod changes,
//! resolutions, the sampler's reports, answers and time go in; effects come out. No clock, no I/O.

mod entry;
mod eviction;
mod kills;
mod latency;
#[cfg(test)]
mod tests;
pub mod view;

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::sync::Arc;
use std::time::Duration;

use jiff::{SignedDuration, Timestamp};

use self::entry::{
    Entry, Eviction, Name, SETTLED, State, Target, bad_ids, owner_key, tell, tell_bad_ids, undecided, want, wanted,
};
use self::eviction::signed;
use self::kills::{Counted, counted, group_gone, keep_last_look, settle_all, settle_by_time, tell_kills};
use self::latency::Latencies;
use crate::act::order::{Act, Order};
use crate::cgroup::ReadError;
use crate::cgroup::resolve::{Groups, Unresolved, Want};
use crate::decide::eligibility::{Me, Never, never};
use crate::decide::judge::Evidence;
use crate::decide::restraint::{GENERATIONS, Limits, QUIET, Reservation, Restraint};
use crate::ground::clock::Moment;
use crate::ground::memory::Sample;
use crate::pods::guard::{self, DryRun, Guard, Problem, Rule};
use crate::pods::{Container, ContainerId, Owner, Pod, PodChange, PodRef};
use crate::report::notice::{Notice, Subject};
use crate::sampler::{Command, Report, Shown, TargetId, Watch, What};

/// A group appears 45–130 ms before its container's first instruction, its id in the watch
/// 20–70 ms after (measured): so it is there when we look, and what is missing now comes at once
/// or never.
const FIRST_RESOLVE_RETRY: Duration = Duration::from_millis(20);
/// A container whose group is still missing is looked for so often.
const LAST_RESOLVE_RETRY: Duration = Duration::from_secs(10);
/// Reads all of a target anew; `None` if its group is gone.
pub type Read<'a> = dyn FnMut(TargetId, &Groups) -> Result<Option<Sample>, ReadError> + 'a;

/// What the outside has to do.
#[derive(Debug)]
pub enum Effect {
    /// Find and open these groups; answer with [`Controller::resolved`].
    Resolve(TargetId, Want),
    /// Tell the sampler.
    Sampler(Command),
    /// Send this; answer with [`Controller::answered`] under the same number.
    Post(u64, Order),
    /// Tell people.
    Tell(Box<Notice>),
}

/// A request that awaits its answer; with all that is needed to tell of it, for the pod may be
/// forgotten before the answer comes.
#[derive(Debug)]
struct InFlight {
    pod: PodRef,
    owner: Option<Owner>,
    container: Option<String>,
    by_namespace: bool,
    evidence: Evidence,
    act: Act,
    mode: DryRun,
    grace: Option<u32>,
    pod_grace: Option<u32>,
    /// The container's.
    age: Option<Duration>,
    since: Moment,
    reservation: Reservation,
    /// The answer to an earlier request for the same was lost.
    may_have_happened: bool,
}

/// Where a pod is found in the index.
type Key = (String, String);

/// The settings.
#[derive(Clone, Debug)]
pub struct Settings {
    /// Who is asking.
    pub me: Me,
    /// For all pods.
    pub dry_run: DryRun,
    /// How many evictions, how soon.
    pub limits: Limits,
    /// The wall clock at [`Moment::ZERO`]; see [`Controller::set_wall`].
    pub wall: Timestamp,
    /// For the jitter of retries.
    pub seed: u64,
}

/// See the module.
#[derive(Debug)]
pub struct Controller {
    settings: Settings,
    pods: BTreeMap<Key, Entry>,
    by_target: HashMap<TargetId, Key>,
    /// Pods with something due by time, so that nothing else has to be looked at for it.
    due: BTreeSet<(Moment, Key)>,
    next_id: u64,
    /// Pods seen since the list began.
    listing: Option<BTreeSet<Key>>,
    listed: bool,
    in_flight: BTreeMap<u64, InFlight>,
    next_order: u64,
    restraint: Restraint,
    latencies: Latencies,
    /// Pods to be decided about.
    open: BTreeSet<Key>,
    /// The watch is broken.
    away: bool,
    /// The wall clock at [`Moment::ZERO`].
    wall: Timestamp,
    random: fastrand::Rng,
    effects: Vec<Effect>,
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

    /// Tells what the wall clock would have shown at [`Moment::ZERO`], as it goes now: it can be set, and a machine can sleep.
    pub fn set_wall(&mut self, wall: Timestamp) {
        self.wall = wall;
    }

    /// What is to be done since the last call; to be asked after [`Controller::decide`].
    pub fn effects(&mut self) -> Vec<Effect> {
        std::mem::take(&mut self.effects)
    }

    /// The pods were listed completely, once.
    #[must_use]
    pub fn listed(&self) -> bool {
        self.listed
    }

    /// When [`Controller::tick`] is to be called.
    #[must_use]
    pub fn next_tick(&self) -> Option<Moment> {
        let due = self.due.first().map(|(at, _)| *at);
        debug_assert_eq!(due, self.pods.values().filter_map(Entry::due).min(), "every change is noted");
        due
    }

    /// Does something about a target, and notes when its pod is due then.
    fn at(&mut self, id: TargetId, something: impl FnOnce(&mut Controller)) {
        let key = self.by_target.get(&id).cloned();
        something(self);
        if let Some(key) = key {
            self.note_due(&key);
        }
    }

    /// Notes when a pod is due next; to be called wherever that may have changed.
    fn note_due(&mut self, key: &Key) {
        let Some(entry) = self.pods.get_mut(key) else { return };
        let due = entry.due();
        let noted = std::mem::replace(&mut entry.noted_due, due);
        if noted != due {
            if let Some(at) = noted {
                self.due.remove(&(at, key.clone()));
            }
            if let Some(at) = due {
                self.due.insert((at, key.clone()));
            }
        }
    }

    /// Takes in what the watch says.
    pub fn pod_changed(&mut self, now: Moment, change: PodChange) {
        match change {
            PodChange::Listing => self.listing = Some(BTreeSet::new()),
            PodChange::Listed => {
                self.listed = true;
                self.away = false;
                if let Some(seen) = self.listing.take() {
                    let gone = self.pods.keys().filter(|k| !seen.contains(*k));
                    for key in gone.cloned().collect::<Vec<_>>() {
                        self.remove(&key);
                    }
                }
            }
            PodChange::Applied(pod) => {
                // A watch that goes on tells of changes without a list.
                self.away &= self.listing.is_some();
                self.applied(now, *pod);
            }
            PodChange::Gone(gone) => {
                let key = (gone.namespace, gone.name);
                // The word about an earlier pod of the name says nothing about this one.
                if self.pods.get(&key).is_some_and(|e| e.pod.id.uid == gone.uid) {
                    self.remove(&key);
                }
            }
            PodChange::Failed(_) => self.away = true,
        }
    }

    fn applied(&mut self, now: Moment, mut pod: Pod) {
        let key = (pod.id.namespace.clone(), pod.id.name.clone());
        if let Some(seen) = &mut self.listing {
            seen.insert(key.clone());
        }
        if self.pods.get(&key).is_some_and(|e| e.pod.id.uid != pod.id.uid) {
            self.remove(&key); // a namesake
        }
        let Some(reading) = guard::read(&pod) else {
            self.remove(&key);
            return;
        };
        let by_namespace = guard::by_namespace(&pod);
        pod.annotations.clear(); // read, and they can be large
        let never = never(&pod, &self.settings.me);
        let owner = owner_key(&pod);
        let is_new = !self.pods.contains_key(&key);
        let entry = self.pods.entry(key.clone()).or_insert_with(|| Entry {
            owner: owner.clone(),
            since: now,
            pod: pod.clone(),
            guard: Err(Vec::new()),
            by_namespace,
            never,
            targets: Vec::new(),
            eviction: Eviction::Idle,
            failure: None,
            delete_failure: None,
            reserved: None,
            may_have_happened: false,
            noted_due: None,
            told: BTreeSet::new(),
            // Kills from before we knew the pod are not ours to tell.
            kills: pod.containers.iter().flat_map(|c| c.oom_killed.clone()).collect(),
            unsettled: Vec::new(),
            last_looks: BTreeMap::new(),
        });
        let is_newly_ready = pod.ready && (is_new || !entry.pod.ready);
        entry.owner.clone_from(&owner);
        let before = std::mem::replace(&mut entry.pod, pod);
        entry.by_namespace = by_namespace;
        entry.never = never;
        if let (Some(Never::Terminating), Eviction::Leaving(leaving)) = (never, &mut entry.eviction) {
            leaving.mark_by = None;
        }
        let old_guard = std::mem::replace(&mut entry.guard, reading.guard);
        let guards = |guard: &Result<Guard, Vec<Problem>>, c: &Container| {
            guard.as_ref().is_ok_and(|g| g.containers.contains(&c.name))
        };
        for container in entry.pod.containers.iter().filter(|c| guards(&entry.guard, c)) {
            // Each is told with every change of the pod.
            let told =
                before.containers.iter().filter(|c| !is_new && c.name == container.name && guards(&old_guard, c));
            let told: Vec<_> = told.flat_map(|c| &c.oom_lives).collect();
            for (from, to) in container.oom_lives.iter().filter(|life| !told.contains(life)) {
                // It has happened, and lived, whatever the clock that told it.
                let ended = since(self.wall, *to).min(signed(now));
                let started = ended.saturating_sub(to.duration_since(*from).max(SignedDuration::ZERO));
                let generations = if is_new { earlier_generations(&entry.pod, container, self.wall, now) } else { 1 };
                self.restraint.young_ends(&owner, started, ended, generations);
            }
        }
        if let Some(never @ (Never::Mirror | Never::Static | Never::ExcludedNamespace)) = never {
            tell(&mut self.effects, entry, None, Subject::Never(never));
        }
        if let Err(problems) = &entry.guard {
            let subject = Subject::InvalidGuard(problems.clone());
            tell(&mut self.effects, entry, None, subject);
        }
        for warning in reading.warnings {
            tell(&mut self.effects, entry, None, Subject::GuardWarning(warning));
        }
        tell_bad_ids(&mut self.effects, entry);
        tell_kills(&mut self.effects, entry, self.settings.dry_run, now);
        let edited = match (&old_guard, &entry.guard) {
            (Ok(old), Ok(new)) if old != new => Some(new.rule),
            _ => None,
        };
        let wanted = wanted(&entry.pod, &entry.guard, entry.never);
        let (kept, dropped): (Vec<_>, Vec<_>) =
            std::mem::take(&mut entry.targets).into_iter().partition(|t| wanted.contains(&t.name));
        entry.targets = kept;
        for target in dropped {
            self.forget(now, &key, &target);
        }
        if let Some(rule) = edited {
            self.guard_edited(&key, rule);
        }
        if never.is_none() {
            self.watch_new(now, &key, wanted);
        }
        if is_newly_ready {
            self.reopen_held(&owner, false);
        }
        self.open.insert(key.clone());
        self.note_due(&key);
    }

    /// The guard was edited: what was over by the old one is to be judged by the new.
    fn guard_edited(&mut self, key: &Key, rule: Rule) {
        let Some(entry) = self.pods.get_mut(key) else { return };
        for target in &mut entry.targets {
            target.edit += 1;
            if let State::Watched { over, .. } = &mut target.state {
                *over = None;
                self.effects.push(Effect::Sampler(Command::Rule(target.id, rule, target.edit)));
            }
        }
        if undecided(&entry.eviction).is_some() {
            entry.eviction = Eviction::Idle;
        }
    }

    fn watch_new(&mut self, now: Moment, key: &Key, wanted: Vec<Name>) {
        let Some(entry) = self.pods.get_mut(key) else { return };
        for name in wanted {
            if entry.targets.iter().any(|t| t.name == name) {
                continue;
            }
            let id = TargetId(self.next_id);
            self.next_id += 1;
            self.by_target.insert(id, key.clone());
            let state = State::Resolving { since: now, attempt: 0, retry_at: None, why: None, had_group: false };
            let target = Target { id, name, since: now, edit: 0, state };
            let want = want(entry, &target, now);
            self.effects.push(Effect::Resolve(id, want));
            entry.targets.push(target);
        }
    }

    fn remove(&mut self, key: &Key) {
        if let Some(mut entry) = self.pods.remove(key) {
            settle_all(&mut self.effects, &mut entry);
            if let Some(at) = entry.noted_due {
                self.due.remove(&(at, key.clone()));
            }
            for target in &entry.targets {
                self.let_go(target);
            }
        }
    }

    /// Forgets a target of a pod that stays. If the pod's eviction was about it, the pod's other targets are considered.
    fn forget(&mut self, now: Moment, key: &Key, target: &Target) {
        self.let_go(target);
        if let Some(entry) = self.pods.get_mut(key) {
            keep_last_look(entry, target, self.settings.dry_run);
            let pod = entry.pod.id.clone();
            // What the sampler saw end is learnt already, or ended before the answer: not when its status says so. And what
            // is only not guarded any more has not ended.
            let runs = |name: &str, id: &ContainerId| {
                let mut containers = entry.pod.containers.iter().filter(|c| c.name == name && c.running);
                containers.any(|c| matches!(&c.id, Some(Ok(own)) if own == id))
            };
            let has_ended = matches!(&target.name, Name::Container(name, id) if !runs(name, id));
            if has_ended && matches!(target.state, State::Watched { .. }) {
                self.learn_end(now, &pod, target.id);
            }
            self.open.insert(key.clone());
        }
    }

    fn let_go(&mut self, target: &Target) {
        self.by_target.remove(&target.id);
        if matches!(target.state, State::Watched { .. }) {
            self.effects.push(Effect::Sampler(Command::Forget(target.id)));
        }
    }

    /// Takes in what was found of a target's group.
    pub fn resolved(&mut self, now: Moment, id: TargetId, result: Result<Groups, Unresolved>) {
        self.at(id, |c| c.take_resolution(now, id, result));
    }

    fn take_resolution(&mut self, now: Moment, id: TargetId, result: Result<Groups, Unresolved>) {
        let Some((entry, i)) = find(&mut self.pods, &self.by_target, id) else {
            return;
        };
        let State::Resolving { since, attempt, why, retry_at, had_group } = &mut entry.targets[i].state else {
            return;
        };
        match (result, &entry.guard) {
            (Ok(groups), Ok(guard)) => {
                let (view, latency) = (Arc::<Shown>::default(), self.latencies.of(&entry.pod.id.namespace));
                let watch = Watch { id, groups: groups.clone(), rule: guard.rule, shown: Arc::clone(&view), latency };
                self.effects.push(Effect::Sampler(Command::Watch(Box::new(watch))));
                entry.targets[i].edit = 0;
                entry.targets[i].state = State::Watched { groups, view, over: None, unreadable: None };
            }
            (Ok(_), Err(_)) => {}
            (Err(error), _) => {
                let waited = now.saturating_sub(*since);
                let back_off = FIRST_RESOLVE_RETRY.saturating_mul(1 << (*attempt).min(16));
                *retry_at = Some(now + back_off.min(LAST_RESOLVE_RETRY));
                *attempt += 1;
                *why = Some(error.to_string());
                // That a group is gone, or not there yet, is no news.
                let news = match error {
                    Unresolved::NotFound => waited >= SETTLED && !*had_group,
                    Unresolved::ChargedToPod | Unresolved::TooMany | Unresolved::Unreadable(_) => true,
                };
                if news {
                    let container = entry.targets[i].name.container().map(str::to_owned);
                    tell(&mut self.effects, entry, container, Subject::Unresolved(error.to_string()));
                }
            }
        }
    }

    /// Takes in what the sampler says.
    pub fn reported(&mut self, now: Moment, report: Report) {
        self.at(report.id, |c| c.take_report(now, report));
    }

    fn take_report(&mut self, now: Moment, report: Report) {
        let id = report.id;
        let Some((entry, i)) = find(&mut self.pods, &self.by_target, id) else {
            return;
        };
        if report.edit != entry.targets[i].edit && !matches!(report.what, What::Gone | What::Killed { .. }) {
            return;
        }
        let container = entry.targets[i].name.container().map(str::to_owned);
        let State::Watched { over, view, unreadable, .. } = &mut entry.targets[i].state else {
            return;
        };
        // The first look that can be read again is told as what it finds.
        match &report.what {
            What::Unreadable(error) => *unreadable = Some(error.to_string()),
            What::Killed { .. } | What::Gone => {}
            _ => *unreadable = None,
        }
        match report.what {
            What::Above { evidence, .. } | What::Worsened(evidence) => {
                *over = Some(evidence);
                let key = (entry.pod.id.namespace.clone(), entry.pod.id.name.clone());
                self.open.insert(key);
            }
            What::Dipped => {
                *over = None;
                let key = (entry.pod.id.namespace.clone(), entry.pod.id.name.clone());
                self.open.insert(key);
            }
            What::Killed { count, together, hit, last: look } => {
                let look = look.map(|look| *look).or(view.last());
                let kills = Counted { count, together, hit, look };
                counted(&mut self.effects, entry, now, i, kills, self.settings.dry_run);
            }
            What::Gone => {
                let target = entry.targets.remove(i);
                keep_last_look(entry, &target, self.settings.dry_run);
                group_gone(entry, &target);
                let pod = entry.pod.id.clone();
                if entry.never.is_some() {
                    self.by_target.remove(&id);
                } else {
                    // Ended, or about to be restarted under a new id; or its group is made anew.
                    let why = Some("its cgroup is gone".into());
                    let retry_at = Some(now + FIRST_RESOLVE_RETRY);
                    let state = State::Resolving { since: now, attempt: 0, retry_at, why, had_group: true };
                    entry.targets.insert(i, Target { state, ..target });
                }
                self.learn_end(now, &pod, id);
                self.open.insert((pod.namespace, pod.name));
            }
            // What the namespace's label guards need not be fit for it, and nobody made a mistake: a line of `status` and
            // `/api/guards` says so, and no Event.
            What::NoLimit | What::BeyondLimit if entry.by_namespace => {}
            // That the pod as a whole has no limit is no fault of the guard: each of its containers is guarded by its own, and
            // one without is told by itself.
            What::NoLimit if container.is_none() => {}
            What::NoLimit => tell(&mut self.effects, entry, container, Subject::NoLimit),
            What::BeyondLimit => tell(&mut self.effects, entry, container, Subject::BeyondLimit),
            What::Unreadable(error) => {
                *over = None;
                tell(&mut self.effects, entry, container, Subject::Unreadable(error.to_string()));
                self.open.insert((entry.pod.id.namespace.clone(), entry.pod.id.name.clone()));
            }
        }
    }

    /// Does what is due by time: what was held or failed, resolutions, and a look at what was
    /// evicted and should have ended.
    pub fn tick(&mut self, now: Moment) {
        let keys: Vec<Key> = self.due.iter().take_while(|(at, _)| *at <= now).map(|(_, key)| key.clone()).collect();
        for key in &keys {
            self.eviction_due(now, key);
            let Some(entry) = self.pods.get_mut(key) else { continue };
            settle_by_time(&mut self.effects, entry, now);
            for i in 0..entry.targets.len() {
                let due = match &mut entry.targets[i].state {
                    State::Resolving { retry_at, .. } if retry_at.is_some_and(|at| at <= now) => {
                        *retry_at = None;
                        true
                    }
                    _ => false,
                };
                if due {
                    let want = want(entry, &entry.targets[i], now);
                    self.effects.push(Effect::Resolve(entry.targets[i].id, want));
                }
            }
            self.note_due(key);
        }
    }

    /// Whether something waits for what [`Controller::heard`] tells.
    #[must_use]
    pub fn waits_for_the_server(&self) -> bool {
        let waits = |e: &Entry| e.failure.as_ref().is_some_and(|f| f.unheard);
        self.pods.values().any(|e| matches!(e.eviction, Eviction::Retrying { .. }) && waits(e))
    }

    /// Whose a target is: the pod, and the container unless it is the pod's own group.
    #[must_use]
    pub fn name_of(&self, id: TargetId) -> Option<(&PodRef, Option<&str>)> {
        let entry = self.pods.get(self.by_target.get(&id)?)?;
        let target = entry.targets.iter().find(|t| t.id == id)?;
        Some((&entry.pod.id, target.name.container()))
    }

    /// What is known of every guarded container, for people.
    #[must_use]
    pub fn guards(&self, now: Moment) -> Vec<view::GuardView> {
        self.pods.values().flat_map(|e| view::views(e, now)).collect()
    }

    /// How many of each kind there are, for `/metrics`.
    #[must_use]
    pub fn counts(&self) -> Counts {
        let mut counts = Counts::default();
        for entry in self.pods.values() {
            counts.invalid += usize::from(entry.guard.is_err());
            counts.unresolved += bad_ids(entry).len();
            match &entry.eviction {
                Eviction::Retrying { .. } => {
                    counts.blocked += usize::from(entry.failure.as_ref().is_some_and(|f| f.blocked));
                }
                Eviction::Held { .. } => counts.held += 1,
                _ => {}
            }
            for target in &entry.targets {
                match target.state {
                    State::Watched { unreadable: Some(_), .. } => counts.unreadable += 1,
                    State::Watched { .. } => counts.guarded += 1,
                    State::Resolving { .. } => counts.unresolved += 1,
                }
            }
        }
        counts
    }

    /// How much is remembered.
    #[must_use]
    pub fn sizes(&self) -> Sizes {
        let most = |of: fn(&Entry) -> usize| self.pods.values().map(of).max().unwrap_or(0);
        Sizes {
            pods: self.pods.len(),
            targets: self.pods.values().map(|e| e.targets.len()).sum(),
            ids: self.by_target.len(),
            in_flight: self.in_flight.len(),
            told: most(|e| e.told.len()),
            kills: most(|e| e.kills.len()),
            last_looks: most(|e| e.last_looks.len()),
            owners: self.restraint.remembered(),
            namespaces: self.latencies.len(),
        }
    }
}

/// See [`Controller::counts`].
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Counts {
    /// Targets that the sampler looks at.
    pub guarded: usize,
    /// Targets whose group was not found.
    pub unresolved: usize,
    /// Targets whose group is there, and cannot be read.
    pub unreadable: usize,
    /// Pods whose guard is invalid.
    pub invalid: usize,
    /// Pods over, whose eviction a disruption budget blocks.
    pub blocked: usize,
    /// Pods over, whose eviction is held.
    pub held: usize,
}

/// See [`Controller::sizes`].
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Sizes {
    /// Pods.
    pub pods: usize,
    /// Targets.
    pub targets: usize,
    /// Targets by their id.
    pub ids: usize,
    /// Requests that await their answer.
    pub in_flight: usize,
    /// What was told of the pod of which most was told.
    pub told: usize,
    /// Kills remembered of the pod with most of them.
    pub kills: usize,
    /// Last looks kept of the pod with most of them.
    pub last_looks: usize,
    /// Owners whose evictions, or whose young ends, are remembered.
    pub owners: usize,
    /// Namespaces of which it is known how long evictions take.
    pub namespaces: usize,
}

fn find<'a>(
    pods: &'a mut BTreeMap<Key, Entry>,
    by_target: &HashMap<TargetId, Key>,
    id: TargetId,
) -> Option<(&'a mut Entry, usize)> {
    let entry = pods.get_mut(by_target.get(&id)?)?;
    let i = entry.targets.iter().position(|t| t.id == id)?;
    Some((entry, i))
}

/// A time of the wall clock as a moment; before the agent's start it is negative.
fn since(wall: Timestamp, at: Timestamp) -> SignedDuration {
    at.duration_since(wall)
}

/// How many generations a container's last end stands for, of a pod that was there before us: its status tells of one end
/// and counts all. Where it was restarted more often than once in ten minutes, the others were of the kind, too.
fn earlier_generations(pod: &Pod, container: &Container, wall: Timestamp, now: Moment) -> u32 {
    let lived = pod.created.map(|created| signed(now).saturating_sub(since(wall, created)));
    let restarts = container.restarts.saturating_add(1);
    let is_loop =
        lived.is_some_and(|lived| lived < signed(QUIET).saturating_mul(i32::try_from(restarts).unwrap_or(i32::MAX)));
    if is_loop { container.restarts.clamp(1, GENERATIONS) } else { 1 }
}
