//! The world around the shipped decision line: pods, their memory, the watch, the server; and the
//! wiring of `agent.rs` in virtual time.

macro_rules! trace {
    ($world:expr, $($what:tt)*) => {
        if $world.tracing {
            let line = format!("{:>11.3} {}", $world.now.as_secs_f64(), format_args!($($what)*));
            $world.outcome.trace.push(line);
        }
    };
}

mod checking;
mod life;
mod liveness;
mod looking;
mod node;
mod oracle;
mod requests;
mod resizing;
mod rungs;
mod showing;
mod telling;
mod warning;
mod watching;
mod wiring;

use std::cmp::Reverse;
use std::collections::{BTreeMap, BTreeSet, BinaryHeap, HashMap, HashSet, VecDeque};
use std::sync::{Arc, LazyLock};
use std::time::Duration;

use fastrand::Rng;
use http::StatusCode;
use jiff::{SignedDuration, Timestamp};
use pre_oom_killer::act::answer::{Answer, answer_to};
use pre_oom_killer::act::order::{Act, Order, request};
use pre_oom_killer::act::timeouts::ANSWER_WITHIN;
use pre_oom_killer::act::warn::Warned;
use pre_oom_killer::cgroup::resolve::{Groups, Unresolved};
use pre_oom_killer::cgroup::{Group, Hit, Machine, Malformed, ReadError, ReadErrorKind, Version};
use pre_oom_killer::controller::{Controller, Effect, Settings};
use pre_oom_killer::decide::eligibility::Scope;
use pre_oom_killer::decide::judge::Evidence;
use pre_oom_killer::decide::restraint::{Limits, Reason};
use pre_oom_killer::ground::clock::Moment;
use pre_oom_killer::ground::memory::{Level, Sample};
use pre_oom_killer::ground::units::Bytes;
use pre_oom_killer::pods::guard::DryRun;
use pre_oom_killer::pods::{self, PodChange, PodRef, PodUid};
use pre_oom_killer::report::notice::{Notice, Subject};
use pre_oom_killer::sampler::{Command, Report, Reported, Target, TargetId, What};

use self::node::Node;
use self::rungs::{Rung, Rungs};
use crate::ladder::EVICT;
use crate::memory::{Memory, is_over, is_past_force};
use crate::network::Network;
use crate::plan::{Bug, Counts, Invariant, Outcome};
use crate::pod::{
    AGENT, Ask, Container, Dry, EXCLUDED, Key, Killed, Label, MIB, NODE, Owner, Pod, Signal, Targets, Threshold, name,
    wall,
};
use crate::server::{Budget, Fate, Kind, Mood};

/// A group that opens; what it says is never read.
static GROUPS: LazyLock<Groups> = LazyLock::new(|| {
    let dir = tempfile::tempdir().unwrap();
    for file in ["memory.current", "memory.max", "memory.stat"] {
        std::fs::write(dir.path().join(file), "1\n").unwrap();
    }
    let own = Group::open(dir.path(), Version::V2, &Machine::without_swap()).unwrap().unwrap();
    Groups { own: Arc::new(own), pod: None, stands_for_container: false }
});

const MOST_PODS: usize = 6;
/// Longer than the longest look for a missing group.
const SETTLES: Duration = Duration::from_secs(15);
/// By then the watch has told of a pod that is being ended; where it has not, nothing came of it.
const MARKED_WITHIN: Duration = Duration::from_secs(12);
/// Longer than the longest back-off, and than it takes to forgive a failure.
const HEALS: Duration = Duration::from_secs(700);

fn signed(duration: Duration) -> SignedDuration {
    SignedDuration::try_from(duration).unwrap()
}

fn millis(ms: u64) -> Duration {
    Duration::from_millis(ms)
}

/// What the watch sends.
#[derive(Debug)]
enum Word {
    Listing,
    Applied(Pod),
    /// The pod as it was, and whether it lives on without the label.
    Gone(Pod, bool),
    Listed,
    WatchFailure,
}

#[derive(Debug)]
enum Event {
    Step,
    Heard(u32, Word),
    Look(TargetId, Moment),
    /// And whether it was over for as long as was asked for.
    Report(Report, bool),
    Resolved(TargetId),
    Arrives(u64),
    Answered(u64),
    Warned(TargetId, Warned),
    /// The kubelet has raised the limits of a pod's group, of a container's.
    GroupRaised(String),
    Raised(String, &'static str, u64),
    /// The kubelet has ended a container's process, to start it anew.
    Stopped(String, &'static str, u64),
    Kill(u64, u32),
    Starts(String, &'static str),
    Ready(String),
    /// A container of this pod begins to leak.
    Ramp(String, i64),
    Replaced(Shape),
    Ends(String),
    Removed(Key, String),
    WatchIsBack,
}

struct Timed(Moment, u64, Event);

impl PartialEq for Timed {
    fn eq(&self, other: &Timed) -> bool {
        (self.0, self.1) == (other.0, other.1)
    }
}
impl Eq for Timed {}
impl PartialOrd for Timed {
    fn partial_cmp(&self, other: &Timed) -> Option<std::cmp::Ordering> {
        Some(self.cmp(other))
    }
}
impl Ord for Timed {
    fn cmp(&self, other: &Timed) -> std::cmp::Ordering {
        (self.0, self.1).cmp(&(other.0, other.1))
    }
}

/// What a pod is made like.
#[derive(Clone, Copy, Debug)]
struct Shape {
    ask: Ask,
    owner: Owner,
    limit: u64,
    older: Duration,
    /// Its containers die young, and it is made anew when it is gone.
    looping: bool,
}

impl Shape {
    /// The growth at which its containers, which begin at a tenth, live for 20 s.
    fn dies_young(&self) -> i64 {
        (self.limit * 9 / 10 / 20) as i64
    }
}

/// A guard without anything special.
const GUARDED: Ask = Ask {
    threshold: Threshold::Percent(60),
    signal: Signal::WorkingSet,
    sustained: 0,
    grace: None,
    dry: Dry::Off,
    force: None,
    targets: Targets::Unsaid,
    ladder: EVICT,
    warn: None,
};

/// A pod's processes, which may outlive its object.
struct Body {
    containers: BTreeMap<&'static str, u64>,
    /// The limit of the pod's group, and whether there is one to be read.
    limit: Option<Option<u64>>,
    budget: Budget,
    /// What every resize is turned down with.
    refuses: Option<Kind>,
    /// It ends on SIGTERM.
    obeys: bool,
    kills: u32,
    name: Key,
    shape: Option<Shape>,
}

/// A target on the sampler's side.
struct Looked {
    target: Target,
    scheduled: Moment,
    /// Over in every look since.
    since: Option<Moment>,
    /// When it was looked at last, the latest first.
    samples: VecDeque<Moment>,
    /// What it was told or shown since is sound; before, something disturbed it.
    undisturbed: Moment,
}

/// Whom a target's number means.
#[derive(Clone)]
struct Meant {
    uid: String,
    key: Key,
    container: Option<u64>,
    /// As the controller last heard; none: not over.
    evidence: Option<Evidence>,
    /// It was over for as long as was asked for then.
    sound: bool,
    edit: u32,
}

/// A token that an eviction took.
struct Spent {
    at: Moment,
    number: u64,
    uid: String,
    owner: (&'static str, String),
    void: bool,
}

struct Sent {
    order: Order,
    key: Key,
    at: Moment,
    fate: Fate,
    answer: Option<Answer>,
    /// The pod was told as gone since.
    forgotten: bool,
    /// How long its room will last, as it seems, in seconds.
    lasts: Option<f64>,
    excuse: Excuse,
    rung: Option<Rung>,
}

/// What is known of the tries for one pod.
#[derive(Default)]
struct Tries {
    in_flight: u32,
    evict: Pace,
    delete: Pace,
    /// The last eviction was kept by a disruption budget; since when.
    blocked: Option<Moment>,
    /// When a request was accepted.
    accepted: Option<Moment>,
    /// When each request was sent, and whether it was a deletion.
    sent: Vec<(Moment, Act)>,
}

/// When the next try of a kind may be.
#[derive(Clone, Copy, Default)]
struct Pace {
    failures: u32,
    not_before: Moment,
    /// There was no answer.
    unheard: bool,
}

/// What excuses an eviction, as it was when it was asked for.
#[derive(Clone, Copy, Debug)]
struct Excuse {
    /// It may have been at its deadline.
    late: bool,
    /// How long the container had lived.
    lived: Duration,
    /// A pod of its owner that is younger than the owner's last eviction was ready.
    replaced: bool,
    /// Pods of other namespaces were guarded.
    others: bool,
}

pub struct World<'a> {
    rng: Rng,
    bug: Option<Bug>,
    counts: &'a mut Counts,
    outcome: Outcome,
    tracing: bool,
    now: Moment,
    until: Moment,
    quiet: bool,
    healing: bool,
    queue: BinaryHeap<Reverse<Timed>>,
    sequence: u64,
    steps_left: u32,
    limits: Limits,
    dry_run: Dry,
    node: Node,
    rungs: Rungs,
    mood: Mood,
    /// The watch sends pods without the label, too.
    unselective: bool,
    // The truth.
    api: BTreeMap<Key, Pod>,
    bodies: HashMap<String, Body>,
    memory: HashMap<u64, Memory>,
    /// Containers whose files are slow until then, and whether their stat can be read.
    slow: HashMap<u64, (Moment, bool)>,
    /// Ended pods that will be made anew.
    loops: HashMap<String, Shape>,
    /// What was asked for: when, for whose pod, under which number, and whether it surely did not happen.
    spent: Vec<Spent>,
    // The watch.
    watching: bool,
    epoch: u32,
    heard_at: Moment,
    /// Since when the agent knows that the watch is broken; none: it was told of a list since.
    away: Option<Moment>,
    /// What the wall clock, as it goes now, would have shown at moment 0.
    wall: Timestamp,
    clock_steps: bool,
    /// What moves is looked at as often as it is meant to be; else less often, for there is much to look at.
    fine: bool,
    /// When it was set last, and how: forward or not.
    stepped: Option<(Moment, bool)>,
    // What the agent was told.
    told: BTreeMap<Key, Pod>,
    listing: Option<HashSet<Key>>,
    unlabelled: HashSet<String>,
    listed: bool,
    // The line.
    controller: Controller,
    looked: HashMap<TargetId, Looked>,
    meant: HashMap<TargetId, Meant>,
    reported_at: Moment,
    sent: BTreeMap<u64, Sent>,
    last_read: HashMap<String, (TargetId, Option<Sample>, Moment)>,
    twins: u64,
    agent_made: bool,
    /// How many addresses there were.
    addresses: u32,
    // What was seen.
    tries: HashMap<String, Tries>,
    evicted: Vec<(Moment, &'static str, Excuse)>,
    /// When the last restart of a pod was asked for, until it is told as done.
    restarting: BTreeMap<String, Moment>,
    owners: HashMap<(&'static str, String), Vec<(Moment, Excuse)>>,
    /// All owners there ever were.
    owners_ever: HashSet<(&'static str, String)>,
    /// How each owner's containers ended young, as the agent was told.
    young: HashMap<(&'static str, String), Vec<(SignedDuration, SignedDuration)>>,
    /// The longest that an eviction took, in each namespace.
    slowest: HashMap<&'static str, Duration>,
    /// What was held by each container's group, as it was looked at.
    trails: HashMap<TargetId, VecDeque<(Moment, u64)>>,
    notices: HashMap<String, Vec<(&'static str, String)>>,
    missed: HashMap<String, u32>,
    /// When each container was warned last.
    warned: HashMap<(String, u64), Moment>,
    /// The first address that was heard of a pod of this name: for a planted bug.
    former: HashMap<Key, Network>,
    lost_over: HashSet<TargetId>,
    spins: (Moment, u32),
}

/// Lives one history.
pub fn live(seed: u64, bug: Option<Bug>, counts: &mut Counts, tracing: bool) -> Outcome {
    let mut rng = Rng::with_seed(seed);
    let limits = Limits {
        burst: [1, 2, 3, 10][rng.usize(0..4)],
        rescue_burst: [1, 2, 4, 30][rng.usize(0..4)],
        refill: Duration::from_secs([1, 6][rng.usize(0..2)]),
        minimum_age: Duration::from_secs([0, 0, 60][rng.usize(0..3)]),
    };
    let dry_run = match rng.u8(0..24) {
        0 => Dry::Client,
        1 => Dry::Server,
        _ => Dry::Off,
    };
    let node = Node::random(&mut rng);
    let mut given = limits;
    match bug {
        Some(Bug::SpendsWithoutLimit) => given.burst = 1000,
        Some(Bug::GivesBackTheSpent) => given.refill /= 4,
        Some(Bug::RescuesNobody) => given.rescue_burst = 0,
        Some(Bug::ForgetsTheYoungEnds) => given.minimum_age = Duration::ZERO,
        _ => {}
    }
    let excluded = match bug {
        Some(Bug::ForgetsWhoIsNever) => BTreeSet::new(),
        _ => BTreeSet::from([EXCLUDED.to_owned()]),
    };
    let settings = Settings {
        scope: Scope { node: NODE.into(), pod_uid: Some(AGENT.into()), excluded },
        dry_run: match (dry_run, bug) {
            (Dry::Off, _) | (_, Some(Bug::IgnoresDryRun)) => DryRun::Off,
            (Dry::Server, _) => DryRun::Server,
            (Dry::Client, _) => DryRun::Client,
        },
        limits: given,
        remedies: node.allowed(bug),
        wall: wall(),
        seed: rng.u64(..),
    };
    let steps_left = rng.u32(50..70);
    let mut world = World {
        bug,
        counts,
        outcome: Outcome::default(),
        tracing,
        now: Moment::ZERO,
        until: Moment::MAX,
        quiet: false,
        healing: false,
        queue: BinaryHeap::new(),
        sequence: 0,
        steps_left,
        limits,
        dry_run,
        node,
        rungs: Rungs::default(),
        mood: Mood::random(&mut rng),
        unselective: rng.u8(0..6) == 0,
        api: BTreeMap::new(),
        bodies: HashMap::new(),
        memory: HashMap::new(),
        slow: HashMap::new(),
        loops: HashMap::new(),
        spent: Vec::new(),
        watching: true,
        epoch: 0,
        heard_at: Moment::ZERO,
        away: None,
        wall: wall(),
        clock_steps: rng.u8(0..4) == 0,
        fine: rng.u8(0..10) == 0,
        stepped: None,
        told: BTreeMap::new(),
        listing: None,
        unlabelled: HashSet::new(),
        listed: false,
        controller: Controller::new(settings),
        looked: HashMap::new(),
        meant: HashMap::new(),
        reported_at: Moment::ZERO,
        sent: BTreeMap::new(),
        last_read: HashMap::new(),
        twins: 1 << 40,
        agent_made: false,
        addresses: 0,
        tries: HashMap::new(),
        evicted: Vec::new(),
        restarting: BTreeMap::new(),
        owners: HashMap::new(),
        owners_ever: HashSet::new(),
        young: HashMap::new(),
        slowest: HashMap::new(),
        trails: HashMap::new(),
        notices: HashMap::new(),
        missed: HashMap::new(),
        warned: HashMap::new(),
        former: HashMap::new(),
        lost_over: HashSet::new(),
        spins: (Moment::ZERO, 0),
        rng,
    };
    world.whole();
    world.outcome
}

impl World<'_> {
    fn whole(&mut self) {
        for _ in 0..self.rng.usize(1..4) {
            self.create();
        }
        self.relist();
        self.after(millis(5), Event::Step);
        self.run();
        // No more changes: what is over has to show.
        self.quiet = true;
        (self.mood, self.node.mood) = (Mood::Well, Mood::Well);
        let ids: Vec<u64> = self.memory.keys().copied().collect();
        for id in ids {
            let now = self.now;
            let memory = self.memory.get_mut(&id).unwrap();
            memory.settle(now);
            let (usage, rate, held) = (memory.usage(now), memory.rate, memory.held(now));
            memory.set(now, usage, 0, u64::MAX);
            memory.changed(now, rate, held);
        }
        if !self.watching {
            self.watch_is_back();
        }
        self.until = self.now + SETTLES;
        self.run();
        self.check_shown(false);
        self.check_bounds();
        if self.rng.u8(0..3) == 0 {
            // Everything allows now: nothing is left undone.
            self.healing = true;
            for body in self.bodies.values_mut() {
                (body.budget, body.refuses) = (Budget::Allows, None);
            }
            self.until = self.now + HEALS;
            self.run();
            self.check_shown(true);
            self.check_bounds();
        }
    }

    fn count(&mut self, what: &'static str) {
        *self.counts.entry(what).or_default() += 1;
    }

    fn fail(&mut self, invariant: Invariant, text: String) {
        if !self.outcome.violations.iter().any(|(i, _)| *i == invariant) {
            trace!(self, "VIOLATED {invariant:?}: {text}");
            self.outcome.violations.push((invariant, text));
        }
    }

    /// What the wall clock shows.
    fn clock(&self) -> Timestamp {
        self.wall + signed(self.now)
    }

    fn at(&mut self, at: Moment, event: Event) {
        self.sequence += 1;
        self.queue.push(Reverse(Timed(at, self.sequence, event)));
    }

    fn after(&mut self, wait: Duration, event: Event) {
        self.at(self.now + wait, event);
    }

    fn between(&mut self, from: u64, to: u64) -> Duration {
        millis(self.rng.u64(from..to))
    }

    /// As `Agent::turn`: one input at a time, then all that it asks for.
    fn run(&mut self) {
        loop {
            let tick = self.controller.next_tick().filter(|_| self.bug != Some(Bug::NeverTicks));
            let event = self.queue.peek().map(|Reverse(t)| t.0);
            let next = match (tick, event) {
                (Some(tick), Some(event)) => tick.min(event),
                (Some(at), None) | (None, Some(at)) => at,
                (None, None) => break,
            };
            if next > self.until {
                self.now = self.until;
                break;
            }
            self.now = self.now.max(next);
            self.controller.set_wall(self.wall);
            if tick.is_some_and(|t| t <= self.now) {
                self.controller.tick(self.now);
                self.spins = if self.spins.0 == self.now { (self.now, self.spins.1 + 1) } else { (self.now, 0) };
                if self.spins.1 > 1000 {
                    self.fail(Invariant::Shown, "ticks without end".into());
                    return;
                }
            } else if let Some(Reverse(Timed(_, _, event))) = self.queue.pop() {
                self.happen(event);
            }
            self.act();
            if !self.quiet && self.steps_left == 0 {
                break;
            }
        }
    }

    fn happen(&mut self, event: Event) {
        match event {
            Event::Step => {
                self.step();
                self.steps_left -= 1;
                self.outcome.steps += 1;
                if self.steps_left == 0 {
                    return;
                }
                if self.steps_left.is_multiple_of(16) {
                    self.check_bounds();
                    self.check_gives_way();
                }
                let wait = match self.rng.u8(0..20) {
                    0..=5 => self.between(1, 100),
                    6..=14 => self.between(100, 3_000),
                    15..=18 => self.between(3_000, 15_000),
                    _ => self.between(15_000, 60_000),
                };
                self.after(wait, Event::Step);
            }
            Event::Heard(epoch, word) if epoch == self.epoch => self.heard(word),
            Event::Heard(..) => {}
            Event::Look(id, at) => {
                if self.looked.get(&id).is_some_and(|l| l.scheduled == at) {
                    self.look(id);
                }
            }
            Event::Report(report, sound) => self.reported(report, sound),
            Event::Resolved(id) => self.resolved(id),
            Event::Arrives(number) => self.arrives(number),
            Event::Answered(number) => self.answered(number),
            Event::Warned(id, answer) => self.controller.warned(id, answer),
            Event::GroupRaised(uid) => self.group_raised(&uid),
            Event::Raised(uid, container, id) => self.raised(&uid, container, id),
            Event::Stopped(uid, container, id) => self.stopped(&uid, container, id),
            Event::Kill(id, change) => self.kill(id, change),
            Event::Starts(uid, container) => self.starts(&uid, container),
            Event::Ready(uid) => self.ready(&uid),
            Event::Ramp(uid, rate) => self.ramp(&uid, rate),
            Event::Replaced(shape) => {
                if !self.quiet && self.api.len() < MOST_PODS + 4 {
                    self.create_shaped(shape);
                }
            }
            Event::Ends(uid) => self.ends(&uid),
            Event::Removed(key, uid) => self.removed(key, &uid),
            Event::WatchIsBack => {
                if !self.watching {
                    self.watch_is_back();
                }
            }
        }
    }
}
