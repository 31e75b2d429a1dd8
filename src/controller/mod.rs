//! What is known of this node's opted-in pods, and what is done about them: pod changes,
//! resolutions, the sampler's reports, answers and time go in; effects come out. No clock, no I/O.

mod entry;
mod kills;
#[cfg(test)]
mod tests;
pub mod view;

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::sync::Arc;
use std::time::Duration;

use jiff::Timestamp;

use self::entry::{
    Entry, Eviction, Failure, Name, SETTLED, State, Target, age, bad_ids, failures, growth_of, notice_of, owner_key,
    rearm, tell, tell_bad_ids, turn_from, undecided, urgency, want, wanted,
};
use self::kills::{keep_last_look, miss_reason, missed, tell_kills};
use crate::cgroup::ReadError;
use crate::evict::{Act, Answer, Order};
use crate::guard::{self, DryRun, Guard, Rule};
use crate::pods::{Owner, Pod, PodChange, PodRef};
use crate::policy::{Evidence, History, Me, Moment, Never, Sample, Verdict, never, time_left};
use crate::report::{MissReason, Notice, Subject};
use crate::resolve::{Groups, Unresolved, Want};
use crate::restraint::{Limits, Reservation, Restraint, Why};
use crate::sampler::{Command, EVICTION_TAKES, Report, TargetId, View, Watch, What};

/// A group appears 45–130 ms before its container's first instruction, its id in the watch
/// 20–70 ms after (measured): so it is there when we look, and what is missing now comes at once
/// or never.
const FIRST_RESOLVE_RETRY: Duration = Duration::from_millis(20);
/// A container whose group is still missing is looked for so often.
const LAST_RESOLVE_RETRY: Duration = Duration::from_secs(10);
/// How much the last answer counts in the time that an eviction takes.
const TAKES_WEIGHT: f64 = 0.25;
/// From the answer to SIGTERM's effect (measured: answer after 12 ms, exit after 32).
const ANSWER_TO_EXIT: Duration = Duration::from_millis(20);
/// A slow server makes every container "near"; beyond this that helps nobody.
const MOST_TAKES: Duration = Duration::from_secs(2);
/// The API server's default for `spec.terminationGracePeriodSeconds`.
const DEFAULT_GRACE: u32 = 30;
/// After its grace, the kubelet kills; it needs a moment for that.
const KILL_MARGIN: Duration = Duration::from_secs(5);
/// How soon to see whether an earlier request was answered meanwhile.
const ANSWER_LOOK: Duration = Duration::from_millis(200);

/// What the outside has to do.
#[derive(Debug)]
pub enum Effect {
    /// Find and open these groups; answer with [`Controller::resolved`].
    Resolve(TargetId, Want),
    /// Tell the sampler.
    Sampler(Command),
    /// Read all of this target anew; answer with [`Controller::reread`].
    Reread(TargetId, Groups),
    /// Send this; answer with [`Controller::answered`] under the same number.
    Post(u64, Order),
    /// Tell people.
    Tell(Box<Notice>),
    /// From now on an eviction is taken to take so long.
    EvictionTakes(Duration),
}

/// A request that awaits its answer; with all that is needed to tell of it, for the pod may be
/// forgotten before the answer comes.
#[derive(Debug)]
struct InFlight {
    pod: PodRef,
    owner: Option<Owner>,
    container: Option<String>,
    evidence: Evidence,
    act: Act,
    mode: DryRun,
    grace: Option<u32>,
    pod_grace: Option<u32>,
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
    /// The wall clock at [`Moment::ZERO`].
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
    takes: Option<Duration>,
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
            settings,
            pods: BTreeMap::new(),
            by_target: HashMap::new(),
            due: BTreeSet::new(),
            next_id: 0,
            listing: None,
            listed: false,
            in_flight: BTreeMap::new(),
            next_order: 0,
            takes: None,
            effects: Vec::new(),
        }
    }

    /// What is to be done since the last call.
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
        pod.annotations.clear(); // read, and they can be large
        let never = never(&pod, &self.settings.me);
        let entry = self.pods.entry(key.clone()).or_insert_with(|| Entry {
            pod: pod.clone(),
            guard: Err(Vec::new()),
            never,
            targets: Vec::new(),
            eviction: Eviction::Idle,
            failure: None,
            reserved: None,
            noted_due: None,
            told: BTreeSet::new(),
            // Kills from before we knew the pod are not ours to tell.
            kills: pod.containers.iter().flat_map(|c| c.oom_killed.clone()).collect(),
            last_looks: BTreeMap::new(),
        });
        entry.pod = pod;
        entry.never = never;
        let old_guard = std::mem::replace(&mut entry.guard, reading.guard);
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
            self.forget(&key, &target);
        }
        if let Some(rule) = edited {
            self.guard_edited(&key, rule);
        }
        if never.is_none() {
            self.watch_new(now, &key, wanted);
        }
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
            let target = Target { id, name, edit: 0, state };
            let want = want(entry, &target, now);
            self.effects.push(Effect::Resolve(id, want));
            entry.targets.push(target);
        }
    }

    fn remove(&mut self, key: &Key) {
        if let Some(entry) = self.pods.remove(key) {
            if let Some(at) = entry.noted_due {
                self.due.remove(&(at, key.clone()));
            }
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
        if let Some(entry) = self.pods.get_mut(key) {
            keep_last_look(entry, target, self.settings.dry_run);
            turn_from(&mut self.effects, entry, target.id);
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
                let view = Arc::<View>::default();
                let watch = Watch { id, groups: groups.clone(), rule: guard.rule, view: Arc::clone(&view) };
                self.effects.push(Effect::Sampler(Command::Watch(Box::new(watch))));
                entry.targets[i].edit = 0;
                entry.targets[i].state = State::Watched { groups, view, over: None };
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
        let State::Watched { over, view, .. } = &mut entry.targets[i].state else {
            return;
        };
        match report.what {
            What::Over { evidence, .. } => {
                *over = Some(evidence);
                self.crossed(now, id);
            }
            What::Worse(evidence) => {
                *over = Some(evidence);
                let blocked = entry.failure.as_ref().is_some_and(|f| f.blocked);
                match entry.eviction {
                    Eviction::Retrying { target, .. } if target == id && blocked && evidence.critical => {
                        self.begin(id, Act::Delete);
                    }
                    // Too young, but its end may be near now.
                    Eviction::Held { target, act, held } if target == id && held.why == Why::Young => {
                        self.begin(id, act);
                    }
                    _ => {}
                }
            }
            What::Dipped => {
                *over = None;
                turn_from(&mut self.effects, entry, id);
            }
            What::Killed { node_wide, look } => {
                let look = look.map(|look| *look).or(view.last());
                if let Name::Container(name, instance) = entry.targets[i].name.clone() {
                    let reason = match node_wide {
                        true => MissReason::NodeWide,
                        false => miss_reason(entry, Some(&entry.targets[i]), self.settings.dry_run),
                    };
                    missed(&mut self.effects, entry, now, &name, &instance, look, reason);
                }
            }
            What::Gone => {
                let target = entry.targets.remove(i);
                keep_last_look(entry, &target, self.settings.dry_run);
                turn_from(&mut self.effects, entry, id);
                if entry.never.is_some() {
                    self.by_target.remove(&id);
                    return;
                }
                // Ended, or about to be restarted under a new id; or its group is made anew.
                let why = Some("its cgroup is gone".into());
                let retry_at = Some(now + FIRST_RESOLVE_RETRY);
                let state = State::Resolving { since: now, attempt: 0, retry_at, why, had_group: true };
                entry.targets.insert(i, Target { state, ..target });
            }
            What::NoLimit => tell(&mut self.effects, entry, container, Subject::NoLimit),
            What::BeyondLimit => tell(&mut self.effects, entry, container, Subject::BeyondLimit),
            What::Unreadable(error) => {
                *over = None;
                turn_from(&mut self.effects, entry, id);
                tell(&mut self.effects, entry, container, Subject::Unreadable(error.to_string()));
            }
        }
    }

    /// A target is over: it is acted on now, or when the last failure allows.
    fn crossed(&mut self, now: Moment, id: TargetId) {
        let Some((entry, _)) = find(&mut self.pods, &self.by_target, id) else {
            return;
        };
        if !matches!(entry.eviction, Eviction::Idle) || entry.guard.is_err() || entry.never.is_some() {
            return;
        }
        match &entry.failure {
            Some(failure) if now < failure.not_before => {
                entry.eviction = Eviction::Retrying { target: id, at: failure.not_before };
            }
            _ => self.begin(id, Act::Evict),
        }
    }

    /// Has a target read once more before anything is sent for it.
    fn begin(&mut self, id: TargetId, act: Act) {
        let Some((entry, i)) = find(&mut self.pods, &self.by_target, id) else {
            return;
        };
        if let State::Watched { groups, .. } = &entry.targets[i].state {
            self.effects.push(Effect::Reread(id, groups.clone()));
            entry.eviction = Eviction::Confirming { target: id, act };
        } else {
            turn_from(&mut self.effects, entry, id);
        }
    }

    /// Takes in the reading before the act: still over, does the guard still say so, and may we?
    pub fn reread(&mut self, now: Moment, id: TargetId, read: Result<Option<Sample>, ReadError>) {
        self.at(id, |c| c.confirm(now, id, read));
    }

    fn confirm(&mut self, now: Moment, id: TargetId, read: Result<Option<Sample>, ReadError>) {
        let Some((entry, i)) = find(&mut self.pods, &self.by_target, id) else {
            return;
        };
        let Eviction::Confirming { target, act } = entry.eviction else {
            return;
        };
        if target != id {
            return;
        }
        let State::Watched { over, .. } = &mut entry.targets[i].state else {
            turn_from(&mut self.effects, entry, id);
            return;
        };
        let evidence = match (&entry.guard, read) {
            (Ok(guard), Ok(Some(sample))) if entry.never.is_none() => judge_again(guard, &sample),
            _ => None,
        };
        let (Some(mut evidence), Ok(guard)) = (evidence, &entry.guard) else {
            *over = None;
            self.effects.push(Effect::Sampler(Command::Rearm(id)));
            turn_from(&mut self.effects, entry, id);
            return;
        };
        // A single reading has no growth; the sampler's has.
        if let Some(seen) = over {
            evidence.growth = seen.growth;
            evidence.growth_at_least = seen.growth_at_least;
            evidence.waived = seen.waived;
        }
        if act == Act::Delete && !evidence.critical {
            let at = entry.failure.as_ref().map_or(now, |f| f.not_before);
            entry.eviction = Eviction::Retrying { target: id, at };
            return;
        }
        if self.in_flight.values().any(|request| request.pod == entry.pod.id) {
            // It lost its label and has it again; what was sent before is still to be answered.
            entry.eviction = Eviction::Retrying { target: id, at: now + ANSWER_LOOK };
            return;
        }
        let mode = self.settings.dry_run.max(guard.dry_run);
        let grace = guard.eviction_grace;
        let container = entry.targets[i].name.container().map(str::to_owned);
        let takes = self.takes.unwrap_or(EVICTION_TAKES);
        let age = age(&entry.pod, container.as_deref(), self.settings.wall, now);
        let may_have_happened = entry.reserved.is_some();
        let allowed = (self.restraint.old_enough(now, age, evidence.room, evidence.growth_at_least, takes))
            .and_then(|()| self.restraint.reserve(now, &owner_key(&entry.pod), &mut entry.reserved));
        let reservation = match allowed {
            Ok(reservation) => reservation,
            Err(held) => {
                entry.eviction = Eviction::Held { target: id, act, held };
                let until = self.settings.wall.saturating_add(held.until).unwrap_or(Timestamp::MAX);
                tell(&mut self.effects, entry, container, Subject::Held { evidence, until, why: held.why });
                return;
            }
        };
        if mode == DryRun::Client {
            entry.eviction = Eviction::Tried { target: id, mode, outcome: "not sent", at: now };
            let subject = Subject::Evicted { evidence, act, mode, grace, took: Duration::ZERO };
            self.effects.push(Effect::Tell(Box::new(notice_of(entry, container, subject))));
            return;
        }
        let order = self.next_order;
        self.next_order += 1;
        entry.eviction = Eviction::Posting { target: id, order };
        let pod = entry.pod.id.clone();
        self.in_flight.insert(
            order,
            InFlight {
                pod: pod.clone(),
                owner: entry.pod.owner.clone(),
                container,
                evidence,
                act,
                mode,
                grace,
                pod_grace: entry.pod.grace,
                since: now,
                reservation,
                may_have_happened,
            },
        );
        self.effects.push(Effect::Post(order, Order { pod, act, grace, dry_run: mode == DryRun::Server }));
    }

    /// Takes in the server's answer to a request.
    pub fn answered(&mut self, now: Moment, order: u64, answer: &Answer) {
        let Some(request) = self.in_flight.remove(&order) else {
            return;
        };
        let key = (request.pod.namespace.clone(), request.pod.name.clone());
        self.take_answer(now, order, request, answer, &key);
        self.note_due(&key);
    }

    fn take_answer(&mut self, now: Moment, order: u64, request: InFlight, answer: &Answer, key: &Key) {
        let took = now.saturating_sub(request.since);
        let (act, mode, evidence) = (request.act, request.mode, request.evidence);
        let (grace, whole_grace) = (request.grace, request.grace.or(request.pod_grace).unwrap_or(DEFAULT_GRACE));
        let subject = match answer {
            Answer::Accepted => Subject::Evicted { evidence, act, mode, grace, took },
            answer => Subject::NotEvicted { evidence, act, answer: answer.clone(), mode },
        };
        if *answer == Answer::Accepted && mode == DryRun::Off {
            let seen = took + ANSWER_TO_EXIT;
            let mixed = |old: Duration| old.mul_f64(1.0 - TAKES_WEIGHT) + seen.mul_f64(TAKES_WEIGHT);
            let takes = self.takes.map_or(seen, mixed).min(MOST_TAKES);
            self.takes = Some(takes);
            self.effects.push(Effect::EvictionTakes(takes));
        }
        let entry = self.pods.get_mut(key).filter(|e| e.pod.id.uid == request.pod.uid);
        let target = match entry.as_ref().map(|e| &e.eviction) {
            Some(Eviction::Posting { target, order: awaited }) if *awaited == order => Some(*target),
            _ => None,
        };
        let (Some(entry), Some(target)) = (entry, target) else {
            // The pod is gone or was let go meanwhile; what happened to it is told all the same.
            if !matches!(answer, Answer::Accepted | Answer::Unknown { .. }) && !request.may_have_happened {
                self.restraint.refund(request.reservation);
            }
            let (pod, owner, container) = (request.pod, request.owner, request.container);
            self.effects.push(Effect::Tell(Box::new(Notice { pod, owner, container, subject })));
            return;
        };
        match answer {
            Answer::Accepted => {}
            Answer::Unknown { .. } => entry.reserved = Some(request.reservation),
            // Gone, or refused without a look at the pod: that says nothing about the earlier one.
            _ if request.may_have_happened => entry.reserved = Some(request.reservation),
            _ => self.restraint.refund(request.reservation),
        }
        let container = request.container;
        let still_meant = entry.guard.as_ref().is_ok_and(|g| self.settings.dry_run.max(g.dry_run) == mode);
        // It may be gone, or have dipped meanwhile.
        let over_now = entry.targets.iter().find(|t| t.id == target).and_then(|t| match &t.state {
            State::Watched { over, .. } => *over,
            State::Resolving { .. } => None,
        });
        let still_over = over_now.is_some();
        let left = time_left(evidence.room, evidence.growth);
        match answer.retry_after(failures(entry.failure.as_ref(), now), self.random.f64(), left) {
            None => {
                let outcome = answer.label();
                entry.eviction = match (answer, mode) {
                    (Answer::Accepted, DryRun::Off) => {
                        let ask_at = now + Duration::from_secs(u64::from(whole_grace)) + KILL_MARGIN;
                        Eviction::Leaving { target, since: now, ask_at: Some(ask_at) }
                    }
                    (Answer::Mistake { .. } | Answer::Gone | Answer::Replaced | Answer::NamespaceTerminating, _) => {
                        Eviction::Done { target, outcome, at: now }
                    }
                    _ => Eviction::Tried { target, mode, outcome, at: now },
                };
                self.effects.push(Effect::Tell(Box::new(notice_of(entry, container, subject))));
            }
            Some(wait) => {
                let blocked = matches!(answer, Answer::Blocked { .. });
                entry.failure = Some(Failure {
                    answer: answer.label(),
                    words: subject.words(),
                    blocked,
                    attempt: failures(entry.failure.as_ref(), now).saturating_add(1),
                    not_before: now + wait,
                });
                entry.eviction = Eviction::Retrying { target, at: now + wait };
                tell(&mut self.effects, entry, container, subject);
                let critical = over_now.is_some_and(|now| now.critical || evidence.critical);
                if blocked && act == Act::Evict && critical {
                    self.begin(target, Act::Delete);
                    return;
                }
            }
        }
        // What was tried, or is to be tried again, may not be meant any more.
        if undecided(&entry.eviction).is_some() && !(still_over && still_meant) {
            entry.eviction = Eviction::Idle;
            rearm(&mut self.effects, entry);
        }
    }

    /// Does what is due by time: what was held or failed, resolutions, and a look at what was
    /// evicted and should have ended.
    pub fn tick(&mut self, now: Moment) {
        let mut due = Vec::new();
        let keys: Vec<Key> = self.due.iter().take_while(|(at, _)| *at <= now).map(|(_, key)| key.clone()).collect();
        for key in &keys {
            let Some(entry) = self.pods.get_mut(key) else { continue };
            match entry.eviction {
                Eviction::Retrying { target, at } if at <= now => {
                    due.push((urgency(entry, target), target, Act::Evict));
                }
                Eviction::Held { target, act, held } if held.until <= now => {
                    due.push((urgency(entry, target), target, act));
                }
                Eviction::Leaving { target, since, ask_at: Some(at) } if at <= now => {
                    let growing = growth_of(entry, target);
                    // Still there and growing is told, once; still there alone is looked at again.
                    let ask_at = match growing {
                        Some(growth) if growth > 0 => {
                            let subject = Subject::Slow { since: now.saturating_sub(since), growth };
                            tell(&mut self.effects, entry, None, subject);
                            None
                        }
                        Some(_) => Some(now + KILL_MARGIN),
                        None => None,
                    };
                    entry.eviction = Eviction::Leaving { target, since, ask_at };
                }
                _ => {}
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
        // Those with the least time left come first, should there not be enough for all.
        due.sort_unstable_by_key(|(left, target, _)| (*left, *target));
        for (_, target, act) in due {
            self.begin(target, act);
        }
        for key in &keys {
            self.note_due(key);
        }
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
    /// Owners whose evictions are remembered.
    pub owners: usize,
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

/// Judges one reading by itself; that it was over for long enough was the sampler's to see.
fn judge_again(guard: &Guard, sample: &Sample) -> Option<Evidence> {
    let rule = Rule { sustained_for: Duration::ZERO, ..guard.rule };
    match History::default().observe(&rule, sample, Duration::ZERO) {
        Verdict::Over(evidence) => Some(evidence),
        _ => None,
    }
}
