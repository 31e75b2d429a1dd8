//! What is known of this node's opted-in pods, and what is done about them: pod changes,
//! resolutions, the sampler's reports, answers and time go in; effects come out. No clock, no I/O.

#[cfg(test)]
mod tests;
pub mod view;

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::sync::Arc;
use std::time::Duration;

use crate::cgroup::ReadError;
use crate::evict::{Answer, Order};
use crate::guard::{self, DryRun, Guard, Problem, Rule};
use crate::pods::{ContainerId, Pod, PodChange, PodRef};
use crate::policy::{Evidence, History, Me, Moment, Never, Sample, Verdict, never};
use crate::report::{Notice, Subject};
use crate::resolve::{Groups, Unresolved, Want};
use crate::sampler::{Command, Report, TargetId, View, Watch, What};

/// A group appears 45–130 ms before its container's first instruction, its id in the watch
/// 20–70 ms after (measured): so it is there when we look, and what is missing now comes at once
/// or never.
const FIRST_RESOLVE_RETRY: Duration = Duration::from_millis(20);
/// A container whose group is still missing is looked for so often.
const LAST_RESOLVE_RETRY: Duration = Duration::from_secs(10);
/// After so long a running container without a charged group has none: Kata, gVisor.
const SETTLED: Duration = Duration::from_secs(2);
/// How much the last answer counts in the time that an eviction takes.
const TAKES_WEIGHT: f64 = 0.25;
/// From the answer to SIGTERM's effect (measured: answer after 12 ms, exit after 32).
const ANSWER_TO_EXIT: Duration = Duration::from_millis(20);
/// A slow server makes every container "near"; beyond this that helps nobody.
const MOST_TAKES: Duration = Duration::from_secs(2);
/// So many different things are told of one pod; more would be a loop.
const MOST_TOLD: usize = 64;

/// What the outside has to do.
#[derive(Debug)]
pub enum Effect {
    /// Find and open these groups; answer with [`Controller::resolved`].
    Resolve(TargetId, Want),
    /// Tell the sampler.
    Sampler(Command),
    /// Read all of this target anew; answer with [`Controller::reread`].
    Reread(TargetId, Groups),
    /// Send this; answer with [`Controller::answered`].
    Post(Order),
    /// Tell people.
    Tell(Box<Notice>),
    /// From now on an eviction is taken to take so long.
    EvictionTakes(Duration),
}

/// A container, or the pod's own group.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Name {
    Container(String, ContainerId),
    PodGroup,
}

impl Name {
    fn container(&self) -> Option<&str> {
        match self {
            Name::Container(name, _) => Some(name),
            Name::PodGroup => None,
        }
    }
}

#[derive(Debug)]
enum State {
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
struct Target {
    id: TargetId,
    name: Name,
    state: State,
}

/// How far a pod's eviction has come.
#[derive(Debug)]
enum Eviction {
    /// Nothing is over, or nothing may be done.
    Idle,
    /// A target is over and being read once more.
    Confirming { target: TargetId, attempt: u32 },
    /// An answer is awaited.
    Posting { target: TargetId, evidence: Evidence, mode: DryRun, since: Moment, attempt: u32 },
    /// The server did not do it; as long as the target is over it is asked again.
    Retrying { target: TargetId, answer: &'static str, why: String, at: Moment, attempt: u32 },
    /// Nothing more is sent for this pod. After a dry run: until its target dips.
    Done { target: TargetId, outcome: &'static str, mode: DryRun, at: Moment },
}

#[derive(Debug)]
struct Entry {
    pod: Pod,
    guard: Result<Guard, Vec<Problem>>,
    never: Option<Never>,
    targets: Vec<Target>,
    eviction: Eviction,
    /// What was told, so that it is told once.
    told: BTreeSet<String>,
}

/// Where a pod is found in the index.
type Key = (String, String);

/// See the module.
#[derive(Debug)]
pub struct Controller {
    me: Me,
    dry_run: DryRun,
    pods: BTreeMap<Key, Entry>,
    by_target: HashMap<TargetId, Key>,
    next_id: u64,
    /// Pods seen since the list began.
    listing: Option<BTreeSet<Key>>,
    listed_at: Option<Moment>,
    takes: Option<Duration>,
    random: fastrand::Rng,
    effects: Vec<Effect>,
}

impl Controller {
    /// A controller that knows no pod yet. `seed` is for the jitter of retries.
    #[must_use]
    pub fn new(me: Me, dry_run: DryRun, seed: u64) -> Controller {
        Controller {
            me,
            dry_run,
            pods: BTreeMap::new(),
            by_target: HashMap::new(),
            next_id: 0,
            listing: None,
            listed_at: None,
            takes: None,
            random: fastrand::Rng::with_seed(seed),
            effects: Vec::new(),
        }
    }

    /// What is to be done since the last call.
    pub fn effects(&mut self) -> Vec<Effect> {
        std::mem::take(&mut self.effects)
    }

    /// When the pods were last listed completely; `None`: not yet.
    #[must_use]
    pub fn listed_at(&self) -> Option<Moment> {
        self.listed_at
    }

    /// How many evictions await their answer.
    #[must_use]
    pub fn posting(&self) -> usize {
        let evictions = self.pods.values().map(|e| &e.eviction);
        evictions.filter(|e| matches!(e, Eviction::Posting { .. })).count()
    }

    /// When [`Controller::tick`] is to be called.
    #[must_use]
    pub fn next_tick(&self) -> Option<Moment> {
        let evictions = self.pods.values().filter_map(|e| match e.eviction {
            Eviction::Retrying { at, .. } => Some(at),
            _ => None,
        });
        let targets = self.pods.values().flat_map(|e| &e.targets);
        let resolves = targets.filter_map(|t| match t.state {
            State::Resolving { retry_at, .. } => retry_at,
            State::Watched { .. } => None,
        });
        evictions.chain(resolves).min()
    }

    /// Takes in what the watch says.
    pub fn pod_changed(&mut self, now: Moment, change: PodChange) {
        match change {
            PodChange::Listing => self.listing = Some(BTreeSet::new()),
            PodChange::Listed => {
                self.listed_at = Some(now);
                if let Some(seen) = self.listing.take() {
                    let gone = self.pods.keys().filter(|k| !seen.contains(*k));
                    for key in gone.cloned().collect::<Vec<_>>() {
                        self.remove(&key);
                    }
                }
            }
            PodChange::Applied(pod) => self.applied(now, *pod),
            PodChange::Gone(gone) => {
                let key = (gone.namespace, gone.name);
                // The word about an earlier pod of the name says nothing about this one.
                if self.pods.get(&key).is_some_and(|e| e.pod.id.uid == gone.uid) {
                    self.remove(&key);
                }
            }
            PodChange::Trouble(_) => {}
        }
    }

    fn applied(&mut self, now: Moment, pod: Pod) {
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
        let never = never(&pod, &self.me);
        let entry = self.pods.entry(key.clone()).or_insert_with(|| Entry {
            pod: pod.clone(),
            guard: Err(Vec::new()),
            never,
            targets: Vec::new(),
            eviction: Eviction::Idle,
            told: BTreeSet::new(),
        });
        entry.pod = pod;
        entry.never = never;
        let old_guard = std::mem::replace(&mut entry.guard, reading.guard);
        if let Err(problems) = &entry.guard {
            let subject = Subject::InvalidGuard(problems.clone());
            tell(&mut self.effects, entry, None, subject);
        }
        for warning in reading.warnings {
            tell(&mut self.effects, entry, None, Subject::GuardWarning(warning));
        }
        let edited = match (&old_guard, &entry.guard) {
            (Ok(old), Ok(new)) if old != new => Some(new.rule),
            _ => None,
        };
        let wanted = wanted(&entry.pod, &entry.guard, entry.never);
        let (kept, dropped): (Vec<_>, Vec<_>) =
            std::mem::take(&mut entry.targets).into_iter().partition(|t| wanted.contains(&t.name));
        entry.targets = kept;
        for target in dropped {
            self.forget(&key, &target);
        }
        if let Some(rule) = edited {
            self.guard_edited(&key, rule);
        }
        self.watch_new(now, &key, wanted);
    }

    /// The guard was edited: what was over by the old one is to be judged by the new.
    fn guard_edited(&mut self, key: &Key, rule: Rule) {
        let Some(entry) = self.pods.get_mut(key) else { return };
        for target in &mut entry.targets {
            if let State::Watched { over, .. } = &mut target.state {
                *over = None;
                self.effects.push(Effect::Sampler(Command::Rule(target.id, rule)));
            }
        }
        let undecided = match entry.eviction {
            Eviction::Confirming { .. } | Eviction::Retrying { .. } => true,
            Eviction::Done { mode, .. } => mode != DryRun::Off,
            Eviction::Idle | Eviction::Posting { .. } => false,
        };
        if undecided {
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
            let target = Target {
                id,
                name,
                state: State::Resolving { since: now, attempt: 0, retry_at: None, why: None, had_group: false },
            };
            let want = want(entry, &target, now);
            self.effects.push(Effect::Resolve(id, want));
            entry.targets.push(target);
        }
    }

    fn remove(&mut self, key: &Key) {
        if let Some(entry) = self.pods.remove(key) {
            for target in &entry.targets {
                self.forget(key, target);
            }
        }
    }

    /// A target is no more. Whoever was at it turns to the pod's others.
    fn forget(&mut self, key: &Key, target: &Target) {
        self.by_target.remove(&target.id);
        if matches!(target.state, State::Watched { .. }) {
            self.effects.push(Effect::Sampler(Command::Forget(target.id)));
        }
        if let Some(entry) = self.pods.get_mut(key)
            && at_work(&entry.eviction) == Some(target.id)
        {
            entry.eviction = Eviction::Idle;
            rearm(&mut self.effects, entry);
        }
    }

    /// Takes in what was found of a target's group.
    pub fn resolved(&mut self, now: Moment, id: TargetId, result: Result<Groups, Unresolved>) {
        let Some((entry, i)) = find(&mut self.pods, &self.by_target, id) else {
            return;
        };
        let State::Resolving { since, attempt, why, retry_at, .. } = &mut entry.targets[i].state else {
            return;
        };
        match (result, &entry.guard) {
            (Ok(groups), Ok(guard)) => {
                let view = Arc::<View>::default();
                let watch = Watch { id, groups: groups.clone(), rule: guard.rule, view: Arc::clone(&view) };
                self.effects.push(Effect::Sampler(Command::Watch(Box::new(watch))));
                entry.targets[i].state = State::Watched { groups, view, over: None };
            }
            (Ok(_), Err(_)) => {}
            (Err(error), _) => {
                let waited = now.saturating_sub(*since);
                let back_off = FIRST_RESOLVE_RETRY.saturating_mul(1 << (*attempt).min(16));
                *retry_at = Some(now + back_off.min(LAST_RESOLVE_RETRY));
                *attempt += 1;
                *why = Some(error.to_string());
                let worth_telling = waited >= SETTLED || matches!(error, Unresolved::Unreadable(_));
                if worth_telling {
                    let container = entry.targets[i].name.container().map(str::to_owned);
                    let subject = Subject::Unresolved(error.to_string());
                    tell(&mut self.effects, entry, container, subject);
                }
            }
        }
    }

    /// Takes in what the sampler says.
    pub fn reported(&mut self, now: Moment, report: Report) {
        let id = report.id;
        let Some((entry, i)) = find(&mut self.pods, &self.by_target, id) else {
            return;
        };
        let container = entry.targets[i].name.container().map(str::to_owned);
        let State::Watched { over, .. } = &mut entry.targets[i].state else {
            return;
        };
        let subject = match report.what {
            What::Over { evidence, .. } => {
                *over = Some(evidence);
                if matches!(entry.eviction, Eviction::Idle) && may_act(entry) {
                    let reread = self.begin(id, 0);
                    self.effects.extend(reread);
                }
                return;
            }
            What::Dipped => {
                *over = None;
                let dry_run_is_over = match entry.eviction {
                    Eviction::Done { target, mode, .. } => target == id && mode != DryRun::Off,
                    Eviction::Retrying { target, .. } => target == id,
                    _ => false,
                };
                if dry_run_is_over {
                    entry.eviction = Eviction::Idle;
                    rearm(&mut self.effects, entry);
                }
                return;
            }
            What::Gone => {
                // Ended, or about to be restarted under a new id; or its group is made anew.
                *over = None;
                entry.targets[i].state = State::Resolving {
                    since: now,
                    attempt: 0,
                    retry_at: Some(now + FIRST_RESOLVE_RETRY),
                    why: Some("its cgroup is gone".into()),
                    had_group: true,
                };
                if at_work(&entry.eviction) == Some(id) {
                    entry.eviction = Eviction::Idle;
                    rearm(&mut self.effects, entry);
                }
                return;
            }
            What::NoLimit => Subject::NoLimit,
            What::BeyondLimit => Subject::BeyondLimit,
            What::Unreadable(error) => Subject::Unreadable(error.to_string()),
        };
        tell(&mut self.effects, entry, container, subject);
    }

    /// Has a target read once more before anything is sent for it.
    fn begin(&mut self, id: TargetId, attempt: u32) -> Option<Effect> {
        let (entry, i) = find(&mut self.pods, &self.by_target, id)?;
        let State::Watched { groups, .. } = &entry.targets[i].state else {
            entry.eviction = Eviction::Idle;
            return None;
        };
        let effect = Effect::Reread(id, groups.clone());
        entry.eviction = Eviction::Confirming { target: id, attempt };
        Some(effect)
    }

    /// Takes in the reading before the act: still over, and the guard still says so?
    pub fn reread(&mut self, now: Moment, id: TargetId, read: Result<Option<Sample>, ReadError>) {
        let Some((entry, i)) = find(&mut self.pods, &self.by_target, id) else {
            return;
        };
        let Eviction::Confirming { target, attempt } = entry.eviction else {
            return;
        };
        if target != id {
            return;
        }
        let evidence = match (&entry.guard, read) {
            (Ok(guard), Ok(Some(sample))) if entry.never.is_none() => judge_again(guard, &sample),
            _ => None,
        };
        let State::Watched { over, .. } = &mut entry.targets[i].state else {
            entry.eviction = Eviction::Idle;
            return;
        };
        let (Some(mut evidence), Ok(guard)) = (evidence, &entry.guard) else {
            *over = None;
            entry.eviction = Eviction::Idle;
            rearm_one(&mut self.effects, id);
            rearm(&mut self.effects, entry);
            return;
        };
        // A single reading has no growth; the sampler's has.
        if let Some(seen) = over {
            evidence.growth = seen.growth;
            evidence.waived = seen.waived;
        }
        let mode = self.dry_run.max(guard.dry_run);
        let grace = guard.eviction_grace;
        if mode == DryRun::Client {
            entry.eviction = Eviction::Done { target: id, outcome: "dry-run", mode, at: now };
            let container = entry.targets[i].name.container().map(str::to_owned);
            let notice = Subject::Evicted { evidence, mode, grace, took: Duration::ZERO };
            self.effects.push(Effect::Tell(Box::new(notice_of(entry, container, notice))));
            return;
        }
        entry.eviction = Eviction::Posting { target: id, evidence, mode, since: now, attempt };
        self.effects.push(Effect::Post(Order { pod: entry.pod.id.clone(), grace, dry_run: mode == DryRun::Server }));
    }

    /// Takes in the server's answer to the eviction of `pod`.
    pub fn answered(&mut self, now: Moment, pod: &PodRef, answer: &Answer) {
        let key = (pod.namespace.clone(), pod.name.clone());
        let Some(entry) = self.pods.get_mut(&key).filter(|e| e.pod.id.uid == pod.uid) else {
            return;
        };
        let Eviction::Posting { target, evidence, mode, since, attempt } = entry.eviction else {
            return;
        };
        let took = now.saturating_sub(since);
        let container =
            (entry.targets.iter().find(|t| t.id == target)).and_then(|t| t.name.container()).map(str::to_owned);
        let grace = entry.guard.as_ref().ok().and_then(|g| g.eviction_grace);
        if *answer == Answer::Accepted {
            let seen = took + ANSWER_TO_EXIT;
            let takes = self.takes.map_or(seen, |old| old.mul_f64(1.0 - TAKES_WEIGHT) + seen.mul_f64(TAKES_WEIGHT));
            self.takes = Some(takes.min(MOST_TAKES));
            self.effects.extend(self.takes.map(Effect::EvictionTakes));
        }
        let subject = match answer {
            Answer::Accepted => Subject::Evicted { evidence, mode, grace, took },
            answer => Subject::NotEvicted { evidence, answer: answer.clone(), mode },
        };
        match answer.retry_after(attempt, self.random.f64()) {
            None => {
                entry.eviction = Eviction::Done { target, outcome: answer.label(), mode, at: now };
                self.effects.push(Effect::Tell(Box::new(notice_of(entry, container, subject))));
            }
            Some(wait) => {
                entry.eviction = Eviction::Retrying {
                    target,
                    answer: answer.label(),
                    why: subject.words(),
                    at: now + wait,
                    attempt: attempt.saturating_add(1),
                };
                tell(&mut self.effects, entry, container, subject);
                if !entry.targets.iter().any(|t| t.id == target) {
                    entry.eviction = Eviction::Idle;
                    rearm(&mut self.effects, entry);
                }
            }
        }
    }

    /// Does what is due by time: retries of evictions and of resolutions.
    pub fn tick(&mut self, now: Moment) {
        let mut begin = Vec::new();
        for entry in self.pods.values_mut() {
            if let Eviction::Retrying { target, at, attempt, .. } = entry.eviction
                && at <= now
            {
                begin.push((target, attempt));
            }
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
        }
        for (target, attempt) in begin {
            let reread = self.begin(target, attempt);
            self.effects.extend(reread);
        }
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
            for target in &entry.targets {
                match target.state {
                    State::Watched { .. } => counts.guarded += 1,
                    State::Resolving { .. } => counts.unresolved += 1,
                }
            }
        }
        counts
    }
}

/// See [`Controller::counts`].
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Counts {
    /// Targets that the sampler looks at.
    pub guarded: usize,
    /// Targets whose group was not found.
    pub unresolved: usize,
    /// Pods whose guard is invalid.
    pub invalid: usize,
}

/// The targets a pod should have now.
fn wanted(pod: &Pod, guard: &Result<Guard, Vec<Problem>>, never: Option<Never>) -> Vec<Name> {
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

fn want(entry: &Entry, target: &Target, now: Moment) -> Want {
    let (since, had_group) = match target.state {
        State::Resolving { since, had_group, .. } => (since, had_group),
        State::Watched { .. } => (now, true),
    };
    let sole = |guard: &Guard| guard.pod_group || guard.containers.len() == 1;
    Want {
        pod: entry.pod.id.uid.clone(),
        config_hash: entry.pod.config_hash.clone(),
        container: match &target.name {
            Name::Container(_, id) => Some(id.clone()),
            Name::PodGroup => None,
        },
        pod_may_stand_for_it: entry.guard.as_ref().is_ok_and(sole),
        settled: now.saturating_sub(since) >= SETTLED,
        may_have_none: entry.pod.runtime_class && !had_group,
    }
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

/// The guard is valid and nothing speaks against the pod.
fn may_act(entry: &Entry) -> bool {
    entry.guard.is_ok() && entry.never.is_none()
}

/// The target that an undecided eviction is about. One that is being answered, or is done, does
/// not depend on its target any more.
fn at_work(eviction: &Eviction) -> Option<TargetId> {
    match eviction {
        Eviction::Confirming { target, .. } | Eviction::Retrying { target, .. } => Some(*target),
        Eviction::Done { target, mode, .. } if *mode != DryRun::Off => Some(*target),
        _ => None,
    }
}

fn rearm_one(effects: &mut Vec<Effect>, id: TargetId) {
    effects.push(Effect::Sampler(Command::Rearm(id)));
}

/// The pod is open for a verdict again: others of its targets may be over and were passed by.
fn rearm(effects: &mut Vec<Effect>, entry: &Entry) {
    for target in &entry.targets {
        if matches!(target.state, State::Watched { over: Some(_), .. }) {
            rearm_one(effects, target.id);
        }
    }
}

/// Judges one reading by itself; that it was over for long enough was the sampler's to see.
fn judge_again(guard: &Guard, sample: &Sample) -> Option<Evidence> {
    let rule = Rule { sustained_for: Duration::ZERO, ..guard.rule };
    match History::default().observe(&rule, sample, Duration::ZERO) {
        Verdict::Over(evidence) => Some(evidence),
        _ => None,
    }
}

fn notice_of(entry: &Entry, container: Option<String>, subject: Subject) -> Notice {
    Notice { pod: entry.pod.id.clone(), owner: entry.pod.owner.clone(), container, subject }
}

/// Tells something of a pod unless it was told before in the same words.
fn tell(effects: &mut Vec<Effect>, entry: &mut Entry, container: Option<String>, subject: Subject) {
    let words = format!("{}: {}", container.as_deref().unwrap_or(""), subject.once());
    if entry.told.len() < MOST_TOLD && entry.told.insert(words) {
        effects.push(Effect::Tell(Box::new(notice_of(entry, container, subject))));
    }
}
