#![allow(clippy::unwrap_used, reason = "a test")]

use std::collections::{BTreeSet, HashMap};
use std::sync::Arc;
use std::time::Duration;

use jiff::Timestamp;
use serde_json::{Value, json};

use super::entry::{GroupState, Name};
use super::kills::MOST_KILLS;
use super::*;
use crate::act::answer::Answer;
use crate::act::order::Act;
use crate::cgroup::resolve::{Groups, Unresolved};
use crate::cgroup::{Group, Hit, Machine, ReadError, Version};
use crate::decide::eligibility::Scope;
use crate::decide::judge::Evidence;
use crate::decide::ladder::Allowed;
use crate::decide::restraint::Limits;
use crate::ground::clock::Moment;
use crate::ground::keys::{ENABLED, LABEL, PREFIX};
use crate::ground::memory::{Level, NodeMemory, Sample, Signal};
use crate::ground::units::Bytes;
use crate::pods::guard::DryRun;
use crate::pods::{Pod, PodChange, PodRef, PodUid};
use crate::report::notice::{MissReason, Subject};
use crate::sampler::{Command, Report, TargetId, What};
use crate::serve::wire::GuardState;

mod remedies;

const MIB: u64 = 1 << 20;
const WALL: &str = "2026-11-24T12:00:00Z";

/// A controller and what it asked for; time goes on by a millisecond with each input.
struct Desk {
    controller: Controller,
    now: Moment,
    seen: Vec<Effect>,
    /// What the next reading of a target will find; `else_reads` where nothing is said.
    reads: HashMap<TargetId, Result<Option<Sample>, ReadError>>,
    else_reads: Sample,
    /// How often a target was read.
    read: usize,
    /// The machine's memory.
    node: Option<NodeMemory>,
}

/// A pod `web` on node `n` with containers of these ids, guarded at 60 %.
fn pod(uid: &str, containers: &[(&str, &str)], annotations: &[(&str, &str)]) -> Value {
    let annotations: serde_json::Map<_, _> =
        annotations.iter().map(|(k, v)| (format!("{PREFIX}{k}"), json!(v))).collect();
    let named: Vec<_> = containers.iter().map(|(name, _)| json!({"name": name})).collect();
    let statuses: Vec<_> = (containers.iter())
        .map(|(name, id)| json!({"name": name, "containerID": format!("x://{}", id.repeat(64)), "state": {"running": {}}}))
        .collect();
    json!({
        "metadata": {"name": "web", "namespace": "demo", "uid": uid, "labels": {LABEL: ENABLED}, "annotations": annotations},
        "spec": {"nodeName": "n", "containers": named},
        "status": {"phase": "Running", "containerStatuses": statuses},
    })
}

fn one(uid: &str) -> Value {
    pod(uid, &[("app", "a")], &[("memory-usage-threshold", "60")])
}

fn both(dry_run: &str) -> Value {
    let annotations = [("memory-usage-threshold", "60"), ("target-container-name", "a,b"), ("dry-run", dry_run)];
    let some = if dry_run.is_empty() { &annotations[..2] } else { &annotations[..] };
    pod("u1", &[("a", "a"), ("b", "b")], some)
}

fn sample(usage: u64) -> Sample {
    let own = Level {
        usage: Bytes(usage),
        most_usage: Bytes(usage),
        limit: Some(Bytes(100 * MIB)),
        stat: Some(crate::ground::memory::Stat::default()),
        swap_left: Bytes(0),
    };
    Sample { at: Duration::ZERO, until: Duration::ZERO, own, pod: None }
}

fn evidence() -> Evidence {
    Evidence {
        at: Duration::ZERO,
        signal: Signal::WorkingSet,
        value: Bytes(61 * MIB),
        usage: Bytes(61 * MIB),
        limit: Some(Bytes(100 * MIB)),
        threshold: Bytes(60 * MIB),
        growth: Some(7),
        slow_growth: None,
        growth_at_least: 7,
        burst_at_least: 0,
        rise: None,
        margin: Some(Bytes(39 * MIB)),
        tight: false,
        waived: false,
        critical: false,
    }
}

fn groups() -> Groups {
    let dir = tempfile::tempdir().unwrap();
    for file in ["memory.current", "memory.max", "memory.stat"] {
        std::fs::write(dir.path().join(file), "1\n").unwrap();
    }
    let own = Group::open(dir.path(), Version::V2, &Machine::without_swap()).unwrap().unwrap();
    Groups { own: Arc::new(own), pod: None, stands_for_container: false }
}

impl Desk {
    fn new() -> Desk {
        Desk::with(Limits { minimum_age: Duration::ZERO, ..Limits::default() })
    }

    fn with(limits: Limits) -> Desk {
        let scope = Scope { node: "n".into(), pod_uid: None, excluded: BTreeSet::new() };
        let settings = Settings {
            scope,
            dry_run: DryRun::Off,
            limits,
            remedies: Allowed { raise: true, restart: true, ..Allowed::default() },
            wall: WALL.parse().unwrap(),
            seed: 1,
        };
        Desk {
            controller: Controller::new(settings),
            now: Duration::ZERO,
            seen: Vec::new(),
            reads: HashMap::new(),
            else_reads: sample(90 * MIB),
            read: 0,
            node: Some(NodeMemory { total: Bytes(10_240 * MIB), available: Bytes(8_192 * MIB) }),
        }
    }

    /// Does something to the controller, and takes what it then asks for; resolutions are answered.
    fn give(&mut self, input: impl FnOnce(&mut Controller, Moment)) {
        self.now += Duration::from_millis(1);
        input(&mut self.controller, self.now);
        loop {
            let (reads, read) = (&mut self.reads, &mut self.read);
            let mut read = |id, _: &Groups| {
                *read += 1;
                reads.remove(&id).unwrap_or(Ok(Some(self.else_reads)))
            };
            self.controller.decide(self.now, &mut read, &mut || self.node);
            let effects = self.controller.effects();
            if effects.is_empty() {
                return;
            }
            for effect in &effects {
                if let Effect::Resolve(id, _) = effect {
                    self.controller.resolved(self.now, *id, Ok(groups()));
                }
            }
            self.seen.extend(effects);
        }
    }

    fn apply(&mut self, pod: &Value) {
        let pod = Pod::from_json(&pod.to_string()).unwrap();
        self.give(|c, now| c.pod_changed(now, PodChange::Applied(Box::new(pod))));
    }

    fn report(&mut self, id: TargetId, what: What) {
        self.give(|c, now| c.reported(now, Report { id, edit: 0, what }));
    }

    fn above(&mut self, id: TargetId) {
        self.report(id, What::Above { evidence: evidence(), since_last_sample: None });
    }

    /// The next reading of a target finds so much.
    fn finds(&mut self, id: TargetId, usage: u64) {
        self.reads.insert(id, Ok(Some(sample(usage))));
    }

    /// Answers the request that was sent as this one, from 0 on.
    fn answer(&mut self, order: u64, answer: &Answer) {
        self.give(|c, now| c.answered(now, order, answer));
    }

    /// The watch tells that a pod terminates.
    fn terminates(&mut self, uid: &str, name: &str) {
        let mut pod = one(uid);
        pod["metadata"]["name"] = json!(name);
        pod["metadata"]["deletionTimestamp"] = json!("2026-01-01T00:00:00Z");
        self.apply(&pod);
    }

    /// Lets time go on until something is due, and has the controller do it.
    fn wait(&mut self) {
        self.now = self.controller.next_tick().unwrap();
        self.give(|c, now| c.tick(now));
    }

    /// A target crosses its threshold, is read again as over, and its request is answered.
    fn cross(&mut self, id: TargetId, order: u64, answer: &Answer) {
        self.above(id);
        self.answer(order, answer);
    }

    /// Targets watched so far, in their order.
    fn watched(&self) -> Vec<TargetId> {
        let ids = self.seen.iter().filter_map(|e| match e {
            Effect::Sampler(Command::Watch(watch)) => Some(watch.id),
            _ => None,
        });
        ids.collect()
    }

    /// The kinds of effects since the last call, but for [`Desk::followed`].
    fn since(&mut self) -> Vec<String> {
        let is_follow = |e: &Effect| matches!(e, Effect::Sampler(Command::Follow(_)));
        let kinds = self.seen.drain(..).filter(|e| !is_follow(e)).map(|e| match e {
            Effect::Resolve(id, _) => format!("resolve {}", id.0),
            Effect::Sampler(Command::Watch(watch)) => format!("watch {}", watch.id.0),
            Effect::Sampler(Command::Rule(id, ..)) => format!("rule {}", id.0),
            Effect::Sampler(Command::Rearm(id)) => format!("rearm {}", id.0),
            Effect::Sampler(Command::Forget(id)) => format!("forget {}", id.0),
            Effect::Sampler(Command::Follow(_)) => unreachable!("left out"),
            Effect::Post(_, order) => {
                let verb = match order.act {
                    Act::Evict => "post",
                    Act::Delete => "delete",
                    Act::Raise => "raise",
                    Act::Restart => "restart",
                };
                format!("{verb} {}{}", order.pod.uid.0, if order.dry_run { " dry" } else { "" })
            }
            Effect::Warn(id, _) => format!("warn {}", id.0),
            Effect::Notify(notice) => format!("tell {}", notice.subject.reason()),
        });
        kinds.collect()
    }
}

impl Desk {
    /// The targets whose end is awaited, since the last call of [`Desk::since`].
    fn followed(&self) -> Vec<TargetId> {
        let ids = self.seen.iter().filter_map(|e| match e {
            Effect::Sampler(Command::Follow(id)) => Some(*id),
            _ => None,
        });
        ids.collect()
    }
}

/// A desk with a pod `u1` whose one container is watched, and nothing else to be seen.
fn watching() -> (Desk, TargetId) {
    let mut desk = Desk::new();
    desk.apply(&one("u1"));
    let id = desk.watched()[0];
    desk.since();
    (desk, id)
}

#[test]
fn over_is_read_again_and_posted_once() {
    let (mut desk, id) = watching();
    desk.finds(id, 60 * MIB + 1);
    desk.above(id);
    assert_eq!((desk.since(), desk.read), (vec!["post u1".to_owned()], 1));
    desk.above(id);
    desk.answer(0, &Answer::Accepted);
    assert_eq!(desk.since(), ["tell PreOOMEvicted"]);
    desk.report(id, What::Dipped);
    desk.above(id);
    assert_eq!((desk.since(), desk.read), (vec![], 1), "one eviction for one pod");
}

#[test]
fn not_over_when_read_again_is_watched_again() {
    let (mut desk, id) = watching();
    desk.finds(id, 60 * MIB);
    desk.above(id);
    assert_eq!(desk.since(), ["rearm 0"]);
    desk.reads.insert(id, Ok(None));
    desk.above(id);
    assert_eq!(desk.since(), ["rearm 0"], "gone is not over");
    desk.above(id);
    assert_eq!(desk.since(), ["post u1"], "the next crossing counts");
}

/// A held eviction is decided anew when its time has come: by what the pod is then.
#[test]
fn what_changes_between_verdict_and_post_ends_it() {
    let held = |change: fn(&mut Value)| {
        let mut desk = Desk::with(Limits::default());
        let mut young = one("u1");
        young["status"]["containerStatuses"][0]["state"]["running"]["startedAt"] = json!(WALL);
        desk.apply(&young);
        desk.above(TargetId(0));
        assert_eq!(desk.controller.counts().deferred, 1);
        desk.since();
        change(&mut young);
        desk.apply(&young);
        desk.now += Duration::from_secs(60);
        desk.give(|c, now| c.tick(now));
        desk.since()
    };
    assert_eq!(held(|_| {}), ["post u1"]);
    assert_eq!(held(|pod| pod["metadata"]["labels"][LABEL] = json!("disabled")), ["forget 0"]);
    assert_eq!(held(|pod| pod["metadata"]["deletionTimestamp"] = json!("2026-01-01T00:00:00Z")), [""; 0]);
    let threshold = format!("{PREFIX}memory-usage-threshold");
    let invalid = held(|pod| pod["metadata"]["annotations"][format!("{PREFIX}memory-usage-threshold")] = json!("0"));
    assert_eq!(invalid, ["tell PreOOMInvalidGuard", "forget 0"], "{threshold}");
    let raised = held(|pod| pod["metadata"]["annotations"][format!("{PREFIX}memory-usage-threshold")] = json!("95"));
    assert_eq!(raised, ["rule 0"], "what was over by the old one is judged by the new");
}

#[test]
fn an_answer_for_an_earlier_namesake_says_nothing() {
    let (mut desk, id) = watching();
    desk.above(id);
    desk.apply(&one("u2"));
    desk.since();
    desk.answer(0, &Answer::Gone);
    assert_eq!(desk.since(), ["tell PreOOMEvictionFailed"], "of the old one, it is told");
    let new = TargetId(1);
    desk.above(new);
    assert_eq!(desk.since(), ["post u2"]);
}

#[test]
fn a_gone_message_of_an_earlier_namesake_says_nothing() {
    let (mut desk, _) = watching();
    let old = PodRef { namespace: "demo".into(), name: "web".into(), uid: PodUid("u0".into()) };
    desk.give(|c, now| c.pod_changed(now, PodChange::Gone(old)));
    assert_eq!(desk.since(), [""; 0]);
    assert_eq!(desk.controller.counts().guarded, 1);
}

#[test]
fn a_blocked_eviction_is_retried_while_over_and_told_once() {
    let (mut desk, id) = watching();
    let blocked = || Answer::Blocked { budget: Some("b".into()), message: "m".into(), retry_after: None };
    desk.above(id);
    desk.answer(0, &blocked());
    assert_eq!(desk.since(), ["post u1", "tell PreOOMEvictionBlocked"]);
    assert_eq!(desk.controller.counts().blocked, 1);
    for order in 1..4 {
        desk.wait();
        desk.answer(order, &blocked());
        assert_eq!(desk.since(), ["post u1"]);
    }
    desk.finds(id, 10 * MIB);
    desk.wait();
    assert_eq!(desk.since(), ["rearm 0"], "no longer over: it is watched again");
    assert_eq!(desk.controller.next_tick(), None);
}

/// A container that swings about its threshold is no reason to ask more often.
#[test]
fn a_back_off_outlives_a_dip_and_an_edit() {
    let (mut desk, id) = watching();
    let refused = || Answer::Refused { code: 403, message: "no".into() };
    desk.cross(id, 0, &refused());
    desk.since();
    for _ in 0..50 {
        desk.report(id, What::Dipped);
        desk.above(id);
    }
    assert_eq!(desk.since(), [""; 0]);
    let next = desk.controller.next_tick().unwrap();
    assert!(next > Duration::from_secs(55), "{next:?}");
    desk.apply(&pod("u1", &[("app", "a")], &[("memory-usage-threshold", "61")]));
    desk.give(|c, now| {
        c.reported(now, Report { id, edit: 1, what: What::Above { evidence: evidence(), since_last_sample: None } })
    });
    assert_eq!(desk.since(), ["rule 0"], "still to wait");
    desk.wait();
    assert_eq!(desk.since(), ["post u1"]);
}

#[test]
fn a_report_by_an_earlier_guard_does_not_count() {
    let (mut desk, id) = watching();
    desk.apply(&pod("u1", &[("app", "a")], &[("memory-usage-threshold", "60"), ("sustained-for", "5m")]));
    desk.since();
    desk.above(id);
    assert_eq!(desk.since(), [""; 0], "it was over by the guard without sustained-for");
}

#[test]
fn a_dry_run_that_is_not_meant_any_more_is_no_end() {
    let dry = || pod("u1", &[("app", "a")], &[("memory-usage-threshold", "60"), ("dry-run", "server")]);
    let mut desk = Desk::new();
    desk.apply(&dry());
    let id = desk.watched()[0];
    desk.above(id);
    desk.since();
    desk.apply(&one("u1"));
    desk.give(|c, now| {
        c.reported(now, Report { id, edit: 1, what: What::Above { evidence: evidence(), since_last_sample: None } })
    });
    desk.answer(0, &Answer::Accepted);
    assert_eq!(desk.since(), ["rule 0", "tell PreOOMEvictionDryRun", "tell PreOOMEvictionHeld"]);
}

#[test]
fn an_eviction_is_told_though_the_pod_is_forgotten_before_the_answer() {
    let (mut desk, id) = watching();
    desk.above(id);
    let gone = PodRef { namespace: "demo".into(), name: "web".into(), uid: PodUid("u1".into()) };
    desk.give(|c, now| c.pod_changed(now, PodChange::Gone(gone)));
    desk.since();
    desk.answer(0, &Answer::Accepted);
    assert_eq!(desk.since(), ["tell PreOOMEvicted"]);
}

#[test]
fn a_second_container_is_acted_on_when_the_first_is_gone_before_the_retry() {
    let mut desk = Desk::new();
    desk.apply(&both(""));
    let (a, b) = (TargetId(0), TargetId(1));
    desk.above(a);
    desk.above(b);
    desk.report(a, What::Gone);
    desk.since();
    let blocked = Answer::Blocked { budget: None, message: "m".into(), retry_after: None };
    desk.answer(0, &blocked);
    assert_eq!(desk.since(), ["tell PreOOMEvictionBlocked"]);
    desk.wait();
    desk.wait();
    let seen = desk.since();
    assert!(seen.contains(&"post u1".to_owned()), "{seen:?}");
}

#[test]
fn a_pod_of_the_same_owner_is_held_and_told_until_when() {
    let owned = |uid: &str, name: &str| {
        let mut pod = one(uid);
        pod["metadata"]["name"] = json!(name);
        pod["metadata"]["ownerReferences"] =
            json!([{"apiVersion": "apps/v1", "kind": "StatefulSet", "name": "db", "uid": "o", "controller": true}]);
        pod
    };
    let mut desk = Desk::new();
    desk.apply(&owned("u1", "db-0"));
    desk.apply(&owned("u2", "db-1"));
    desk.since();
    desk.cross(TargetId(0), 0, &Answer::Accepted);
    let mut terminating = owned("u1", "db-0");
    terminating["metadata"]["deletionTimestamp"] = json!("2026-01-01T00:00:00Z");
    desk.apply(&terminating);
    desk.above(TargetId(1));
    assert_eq!(desk.since(), ["post u1", "tell PreOOMEvicted", "tell PreOOMEvictionHeld"]);
    assert_eq!(desk.controller.counts().deferred, 1);
    let until = desk.controller.next_tick().unwrap();
    assert!(until > Duration::from_secs(9) && until < Duration::from_secs(11), "{until:?}");
    desk.wait();
    assert_eq!(desk.since(), ["post u2"], "as soon as restraint allows");
}

#[test]
fn a_young_container_is_held_unless_its_end_is_near() {
    let started = |seconds: i64| {
        let wall: Timestamp = WALL.parse().unwrap();
        let mut pod = one("u1");
        let at = wall - jiff::SignedDuration::from_secs(seconds);
        pod["status"]["containerStatuses"][0]["state"]["running"]["startedAt"] = json!(at.to_string());
        pod
    };
    let mut desk = Desk::with(Limits::default());
    desk.apply(&started(20));
    desk.since();
    desk.above(TargetId(0));
    assert_eq!(desk.since(), ["tell PreOOMEvictionHeld"]);
    let until = desk.controller.next_tick().unwrap();
    assert_eq!(until.as_secs(), 40);
    // Its end comes near while it is held.
    let fast = Evidence { growth_at_least: i64::try_from(100 * MIB).unwrap(), ..evidence() };
    desk.report(TargetId(0), What::Worsened(fast));
    assert_eq!(desk.since(), ["post u1"]);
    // Growing so fast that it would not live to that day.
    let mut desk = Desk::with(Limits::default());
    desk.apply(&started(20));
    desk.since();
    desk.report(TargetId(0), What::Above { evidence: fast, since_last_sample: None });
    assert_eq!(desk.since(), ["post u1"]);
    // Old enough.
    let mut desk = Desk::with(Limits::default());
    desk.apply(&started(61));
    desk.since();
    desk.above(TargetId(0));
    assert_eq!(desk.since(), ["post u1"]);
}

/// With `force-delete-threshold`, a blocked pod past it is deleted; without, never.
#[test]
fn a_blocked_pod_is_deleted_only_past_its_own_threshold() {
    let blocked = || Answer::Blocked { budget: Some("b".into()), message: "m".into(), retry_after: None };
    let guarded = |force: &str| {
        let annotations = [("memory-usage-threshold", "60"), ("force-delete-threshold", force)];
        pod("u1", &[("app", "a")], if force.is_empty() { &annotations[..1] } else { &annotations[..] })
    };
    let critical = || What::Worsened(Evidence { critical: true, ..evidence() });
    // Past it when the block is told.
    let mut desk = Desk::new();
    desk.apply(&guarded("80"));
    desk.since();
    desk.cross(TargetId(0), 0, &blocked());
    assert_eq!(desk.since(), ["post u1", "tell PreOOMEvictionBlocked", "delete u1"]);
    desk.answer(1, &Answer::Accepted);
    assert_eq!(desk.since(), ["tell PreOOMForceDeleted"]);
    // Past it later.
    let mut desk = Desk::new();
    desk.apply(&guarded("95"));
    desk.since();
    desk.cross(TargetId(0), 0, &blocked());
    assert_eq!(desk.since(), ["post u1", "tell PreOOMEvictionBlocked"], "not yet");
    desk.finds(TargetId(0), 94 * MIB);
    desk.report(TargetId(0), critical());
    assert_eq!(desk.since(), [""; 0], "read again, it is not");
    desk.finds(TargetId(0), 96 * MIB);
    desk.report(TargetId(0), critical());
    assert_eq!(desk.since(), ["delete u1"]);
    // Past it, but not blocked, or without the annotation.
    let mut desk = Desk::new();
    desk.apply(&guarded("80"));
    desk.since();
    desk.cross(TargetId(0), 0, &Answer::Failing { code: 500, message: "m".into() });
    desk.report(TargetId(0), critical());
    assert_eq!(desk.since(), ["post u1", "tell PreOOMEvictionFailed"]);
    let mut desk = Desk::new();
    desk.apply(&guarded(""));
    desk.since();
    desk.cross(TargetId(0), 0, &blocked());
    assert_eq!(desk.since(), ["post u1", "tell PreOOMEvictionBlocked"]);
}

#[test]
fn what_was_accepted_is_followed_until_it_has_ended() {
    let slow = |growth: i64| {
        let (mut desk, id) = watching();
        desk.cross(id, 0, &Answer::Accepted);
        let key = ("demo".to_owned(), "web".to_owned());
        let GroupState::Watched { view, .. } = &desk.controller.pods[&key].targets[0].state else { panic!() };
        view.show(sample(90 * MIB), growth);
        desk.terminates("u1", "web");
        desk.since();
        desk.wait();
        assert!(desk.now > Duration::from_secs(34), "after its grace: {:?}", desk.now);
        (desk.since(), desk.controller.next_tick().is_some())
    };
    assert_eq!(slow(1000), (vec!["tell PreOOMEvictionSlow".to_owned()], false));
    assert_eq!(slow(0), (vec![], true), "looked at again");
    let (mut desk, id) = watching();
    desk.cross(id, 0, &Answer::Accepted);
    desk.apply(&{
        let mut pod = one("u1");
        pod["metadata"]["deletionTimestamp"] = json!("2026-01-01T00:00:00Z");
        pod
    });
    desk.report(id, What::Gone);
    desk.since();
    desk.wait();
    assert_eq!(desk.since(), [""; 0], "gone is not slow");
    assert_eq!(desk.controller.next_tick(), None);
}

fn counted(count: u64, hit: Hit) -> What {
    What::Killed { count, together: false, hit, last: None }
}

/// What was told of kills: how many, whether the container has ended by them, and why it was not evicted.
fn kills_told(desk: &mut Desk) -> Vec<(u64, bool, MissReason)> {
    let reported = desk.seen.drain(..).filter_map(|e| match e {
        Effect::Notify(notice) => match notice.subject {
            Subject::Missed { reason, count, whole, .. } => Some((count, whole, reason)),
            _ => None,
        },
        _ => None,
    });
    reported.collect()
}

/// As the pod's status tells that its container `a` was killed: it runs on as this one.
fn ended(reason: &str, next: &str) -> Value {
    let mut pod = pod("u1", &[("app", next)], &[("memory-usage-threshold", "60")]);
    let terminated = json!({"reason": reason, "containerID": format!("x://{}", "a".repeat(64))});
    pod["status"]["containerStatuses"][0]["lastState"] = json!({"terminated": terminated});
    pod
}

/// Workers of a container that are killed one after the other count each, and the container's own end as well.
#[test]
fn kills_of_processes_are_counted_and_the_containers_own_is_told_all_the_same() {
    let (mut desk, id) = watching();
    for count in [1, 3, 1] {
        desk.report(id, counted(count, Hit::Own));
    }
    assert_eq!(kills_told(&mut desk), [], "it may have ended by them");
    desk.wait();
    assert_eq!(kills_told(&mut desk), [(5, false, MissReason::TooFast)], "it goes on");
    desk.report(id, What::Gone);
    desk.apply(&ended("OOMKilled", "b"));
    desk.apply(&ended("OOMKilled", "b"));
    assert_eq!(kills_told(&mut desk), [(1, true, MissReason::TooFast)]);
}

/// However late the status is, after the group is gone it has the last word.
#[test]
fn a_kill_that_the_counter_and_the_status_tell_of_is_one() {
    let (mut desk, id) = watching();
    desk.report(id, counted(1, Hit::Own));
    desk.report(id, What::Gone);
    desk.now += Duration::from_secs(300);
    desk.give(|c, now| c.tick(now));
    desk.apply(&one("u1"));
    assert_eq!(kills_told(&mut desk), []);
    desk.apply(&ended("OOMKilled", "b"));
    assert_eq!(kills_told(&mut desk), [(1, true, MissReason::TooFast)]);
    // Its first process ended by itself, because a worker was killed.
    let (mut desk, id) = watching();
    desk.report(id, counted(1, Hit::Own));
    desk.report(id, What::Gone);
    desk.apply(&ended("Error", "b"));
    assert_eq!(kills_told(&mut desk), [(1, false, MissReason::TooFast)]);
    // The pod is gone before its status has told anything.
    for gone in [false, true] {
        let (mut desk, id) = watching();
        desk.report(id, counted(2, Hit::Own));
        if gone {
            desk.report(id, What::Gone);
        }
        desk.apply(&one("u2"));
        assert_eq!(kills_told(&mut desk), [(2, gone, MissReason::TooFast)]);
    }
}

/// With `memory.oom.group`, the kernel counts each process of the one container that it kills.
#[test]
fn a_container_that_is_killed_as_a_whole_is_one_kill() {
    let (mut desk, id) = watching();
    desk.report(id, What::Killed { count: 7, together: true, hit: Hit::Own, last: None });
    assert_eq!(kills_told(&mut desk), [(1, true, MissReason::TooFast)]);
    desk.report(id, What::Gone);
    desk.apply(&ended("OOMKilled", "b"));
    assert_eq!(kills_told(&mut desk), []);
}

/// Whether an Event that tells of an eviction says that the kernel was first.
fn evicted_too_late(effect: &Effect) -> Option<bool> {
    let Effect::Notify(notice) = effect else { return None };
    if let Subject::Evicted { too_late, .. } = notice.subject { Some(too_late) } else { None }
}

/// The kernel was first: the Event of the eviction says so, whichever way the kill was counted.
#[test]
fn an_eviction_that_came_too_late_says_so() {
    for together in [false, true] {
        let (mut desk, id) = watching();
        desk.above(id);
        desk.report(id, What::Killed { count: 1, together, hit: Hit::Own, last: None });
        desk.answer(0, &Answer::Accepted);
        let too_late = desk.seen.iter().filter_map(evicted_too_late).any(|too_late| too_late);
        assert!(too_late, "{together}");
    }
}

/// A pod of a StatefulSet that has come back under its name was killed; the answer is about the one before it.
#[test]
fn a_kill_of_a_later_namesake_is_not_that_of_the_evicted() {
    let (mut desk, id) = watching();
    desk.above(id);
    desk.apply(&one("u2"));
    let later = *desk.watched().last().unwrap();
    assert_ne!(later, id);
    desk.report(later, What::Killed { count: 1, together: true, hit: Hit::Own, last: None });
    desk.answer(0, &Answer::Accepted);
    let told: Vec<bool> = desk.seen.iter().filter_map(evicted_too_late).collect();
    assert_eq!(told, [false]);
}

/// Where the kernel does not count what was hit, a kill far from both limits was the node's. Where it counts one of them, it was not.
#[test]
fn a_kill_far_from_its_limits_was_the_nodes() {
    let of = |usage: u64, hit: Hit| {
        let (mut desk, id) = watching();
        let GroupState::Watched { view, .. } = &desk.controller.pods.values().next().unwrap().targets[0].state else {
            panic!()
        };
        view.show(sample(usage * MIB), 0);
        let last = view.last().map(Box::new);
        desk.report(id, What::Killed { count: 1, together: true, hit, last });
        kills_told(&mut desk).remove(0).2
    };
    let (node, own) = (MissReason::NodeWide, MissReason::TooFast);
    assert_eq!((of(49, Hit::Unclear), of(51, Hit::Unclear), of(10, Hit::Either)), (node, own, own));
}

/// Far below its threshold when it was last sampled, and killed at its limit: the Event says that it was a spike, of how much.
#[test]
fn a_kill_in_one_jump_has_a_class() {
    for (hit, class) in
        [(Some(Hit::Own), "spike: it grew 80Mi within a second"), (None, "spike: "), (Some(Hit::Inside), "")]
    {
        let (mut desk, id) = watching();
        let GroupState::Watched { view, .. } = &desk.controller.pods.values().next().unwrap().targets[0].state else {
            panic!()
        };
        for n in 0..20 {
            view.show(Sample { at: Duration::from_secs(n), until: Duration::from_secs(n), ..sample(20 * MIB) }, 0);
        }
        desk.now = Duration::from_millis(19_500);
        let last = view.last().map(Box::new);
        match hit {
            Some(hit) => desk.report(id, What::Killed { count: 1, together: true, hit, last }),
            None => desk.apply(&ended("OOMKilled", "b")),
        }
        let words = desk.seen.iter().find_map(|effect| match effect {
            Effect::Notify(notice) if notice.subject.reason() == "PreOOMMissed" => Some(notice.words()),
            _ => None,
        });
        let words = words.unwrap();
        assert!(if class.is_empty() { !words.contains("spike") } else { words.contains(class) }, "{hit:?}: {words}");
    }
}

/// What others in the pod hold is not this container's doing, and no threshold of its own helps.
#[test]
fn a_kill_for_the_pods_limit_or_an_inner_one_is_told_as_that() {
    let level = |usage: u64, limit: Option<u64>| Level {
        usage: Bytes(usage * MIB),
        most_usage: Bytes(usage * MIB),
        limit: limit.map(|l| Bytes(l * MIB)),
        stat: None,
        swap_left: Bytes(0),
    };
    let reported = |own: Level, pod: Level, hit: Option<Hit>, target: &str| {
        let mut desk = Desk::new();
        let annotations = [("memory-usage-threshold", "60"), ("target-container-name", target)];
        desk.apply(&pod_of_one(&annotations));
        let id = desk.watched()[0];
        let view = desk.seen.iter().find_map(|e| match e {
            Effect::Sampler(Command::Watch(watch)) if watch.id == id => Some(Arc::clone(&watch.shown)),
            _ => None,
        });
        view.unwrap().show(Sample { at: Duration::ZERO, until: Duration::ZERO, own, pod: Some(pod) }, 0);
        desk.since();
        if let Some(hit) = hit {
            desk.report(id, counted(1, hit));
        }
        desk.report(id, What::Gone);
        desk.apply(&{
            let mut pod = ended("OOMKilled", "b");
            pod["metadata"]["annotations"] = pod_of_one(&annotations)["metadata"]["annotations"].clone();
            pod
        });
        let words = desk.seen.iter().find_map(|e| match e {
            Effect::Notify(notice) => Some(notice.subject.words()),
            _ => None,
        });
        (kills_told(&mut desk).remove(0).2, words.unwrap())
    };
    let (small, full) = (level(10, Some(100)), level(100, Some(100)));
    for hit in [Some(Hit::Pod), Some(Hit::Either), Some(Hit::Unclear), None] {
        let (reason, words) = reported(small, full, hit, "app");
        assert_eq!(reason, MissReason::PodLimit, "{hit:?}");
        assert!(
            words.contains("target-container-name \"*\"") && words.contains("the pod: usage 100Mi, limit 100Mi"),
            "{words}"
        );
        assert_eq!(reported(level(10, None), full, hit, "app").0, MissReason::PodLimit, "{hit:?}, no limit of its own");
        // Its own doing, with the sandbox beside it; and where the pod's own group is guarded.
        assert_eq!(reported(level(99, Some(100)), full, hit, "app").0, MissReason::TooFast, "{hit:?}");
        assert_eq!(reported(small, full, hit, "*").0, MissReason::TooFast, "{hit:?}");
    }
    assert_eq!(reported(small, full, Some(Hit::Own), "app").0, MissReason::TooFast);
    assert_eq!(reported(small, level(80, Some(100)), None, "app").0, MissReason::TooFast, "the pod had room");
    assert_eq!(reported(small, full, Some(Hit::Inside), "app").0, MissReason::InnerLimit);
}

fn pod_of_one(annotations: &[(&str, &str)]) -> Value {
    pod("u1", &[("app", "a")], annotations)
}

/// At 99 of 100 MiB, "below its threshold" would be false.
#[test]
fn what_cannot_be_read_is_shown_and_counted_as_that_until_it_can() {
    let (mut desk, id) = watching();
    let shown = |desk: &Desk| {
        let counts = desk.controller.counts();
        let guard = desk.controller.guards(desk.now).remove(0);
        (guard.state, guard.why, counts.guarded, counts.unreadable)
    };
    let error =
        || ReadError { path: "/sys/fs/cgroup/x/memory.current".into(), what: crate::cgroup::Malformed::Empty.into() };
    for better in [What::Dipped, What::NoLimit, What::Above { evidence: evidence(), since_last_sample: None }] {
        desk.report(id, What::Unreadable(error()));
        let (state, why, guarded, unreadable) = shown(&desk);
        assert_eq!((state, guarded, unreadable), (GuardState::Unreadable, 0, 1));
        assert!(why.contains("/sys/fs/cgroup/x/memory.current: is empty"), "{why}");
        desk.report(id, better);
        let (state, _, guarded, unreadable) = shown(&desk);
        assert_eq!((guarded, unreadable), (1, 0));
        assert_ne!(state, "unreadable");
    }
}

/// `*` on a pod of which one container has no limit: the pod's own group has none either.
#[test]
fn that_the_pod_as_a_whole_has_no_limit_is_no_fault_of_the_guard() {
    let mut desk = Desk::new();
    let star = [("memory-usage-threshold", "60"), ("target-container-name", "*")];
    desk.apply(&pod("u1", &[("a", "a"), ("b", "b")], &star));
    let [a, _, whole] = desk.watched()[..] else { panic!("three targets") };
    desk.since();
    desk.report(whole, What::NoLimit);
    assert_eq!(desk.since(), [""; 0]);
    desk.report(a, What::NoLimit);
    assert_eq!(desk.since(), ["tell PreOOMInvalidGuard"]);
}

/// Of a whole namespace some pods have no limit, or one below a quantity: nobody wrote anything wrong on them.
#[test]
fn a_guard_of_the_namespace_that_cannot_act_is_shown_and_not_told() {
    let guard = [("memory-usage-threshold", "80"), ("guarded-by", "namespace")];
    let mut desk = Desk::new();
    desk.apply(&pod("u1", &[("a", "a")], &guard));
    let [a] = desk.watched()[..] else { panic!("one target") };
    assert_eq!(
        desk.since().iter().filter(|reported| reported.starts_with("tell")).count(),
        0,
        "its stamp is no unknown key"
    );
    for cannot in [What::NoLimit, What::BeyondLimit] {
        desk.report(a, cannot);
        assert_eq!(desk.since(), [""; 0]);
    }
    let view = serde_json::to_value(desk.controller.guards(desk.now)).unwrap();
    assert_eq!(view[0]["guardedBy"], "namespace", "{view}");
    // The pod's own guard is told of.
    let mut desk = Desk::new();
    desk.apply(&pod("u1", &[("a", "a")], &guard[..1]));
    let [a] = desk.watched()[..] else { panic!("one target") };
    desk.since();
    desk.report(a, What::NoLimit);
    assert_eq!(desk.since(), ["tell PreOOMInvalidGuard"]);
    let view = serde_json::to_value(desk.controller.guards(desk.now)).unwrap();
    assert_eq!(view[0].get("guardedBy"), None, "{view}");
}

/// From the counter or from the status, counted once, with the reason.
#[test]
fn an_oom_kill_is_told_once_with_why_it_was_not_evicted() {
    let reasons = |desk: &mut Desk| -> Vec<MissReason> {
        let reported = desk.seen.drain(..).filter_map(|e| match e {
            Effect::Notify(notice) => match notice.subject {
                Subject::Missed { reason, .. } => Some(reason),
                _ => None,
            },
            _ => None,
        });
        reported.collect()
    };
    let killed = |id: &str| {
        let mut pod = one("u1");
        let terminated = json!({"reason": "OOMKilled", "containerID": format!("x://{}", id.repeat(64))});
        pod["status"]["containerStatuses"][0]["lastState"] = json!({"terminated": terminated});
        pod
    };
    let blocked = Answer::Blocked { budget: None, message: "m".into(), retry_after: None };
    // Too fast: by the counter, then by the status.
    let (mut desk, id) = watching();
    desk.report(id, counted(1, Hit::Own));
    desk.apply(&killed("a"));
    assert_eq!(reasons(&mut desk), [MissReason::TooFast]);
    // By the status alone, after its group is gone; blocked when it died.
    let (mut desk, id) = watching();
    desk.cross(id, 0, &blocked);
    desk.report(id, What::Gone);
    desk.apply(&killed("a"));
    desk.apply(&killed("a"));
    assert_eq!(reasons(&mut desk), [MissReason::Blocked]);
    // The same, while it is being asked again.
    let (mut desk, id) = watching();
    desk.cross(id, 0, &blocked);
    desk.wait();
    assert_eq!(desk.since(), ["post u1", "tell PreOOMEvictionBlocked", "post u1"]);
    desk.report(id, What::Gone);
    desk.apply(&killed("a"));
    assert_eq!(reasons(&mut desk), [MissReason::Blocked]);
    // While it is asked for the first time of another crossing.
    let (mut desk, id) = watching();
    desk.cross(id, 0, &blocked);
    desk.finds(id, 10 * MIB);
    desk.wait();
    desk.finds(id, 61 * MIB);
    desk.above(id);
    assert_eq!(desk.since(), ["post u1", "tell PreOOMEvictionBlocked", "rearm 0", "post u1"]);
    desk.report(id, What::Gone);
    desk.apply(&killed("a"));
    assert_eq!(reasons(&mut desk), [MissReason::TooFast]);
    // While it terminates.
    let (mut desk, id) = watching();
    desk.cross(id, 0, &Answer::Accepted);
    desk.apply(&killed("a"));
    assert_eq!(reasons(&mut desk), [MissReason::Terminating]);
    // The node's memory, not its own limit.
    let (mut desk, id) = watching();
    desk.report(id, counted(1, Hit::Node));
    desk.apply(&killed("a"));
    assert_eq!(reasons(&mut desk), [MissReason::NodeWide]);
    // With an invalid guard.
    let mut desk = Desk::new();
    let invalid = |mut pod: Value| {
        pod["metadata"]["annotations"][format!("{PREFIX}memory-usage-threshold")] = json!("0");
        pod
    };
    desk.apply(&invalid(one("u1")));
    desk.apply(&invalid(killed("a")));
    assert_eq!(reasons(&mut desk), [MissReason::InvalidGuard]);
    // A kill from before we knew the pod is not ours to tell.
    let mut desk = Desk::new();
    desk.apply(&killed("b"));
    assert_eq!(reasons(&mut desk), []);
}

/// The answer was lost, and what is gone now may be so because of it.
#[test]
fn what_may_have_happened_is_not_given_back() {
    for ended in [Answer::Gone, Answer::Replaced] {
        let mut desk = Desk::with(Limits { burst: 1, minimum_age: Duration::ZERO, ..Limits::default() });
        desk.apply(&one("u1"));
        let mut other = one("u2");
        other["metadata"]["name"] = json!("other");
        desk.apply(&other);
        desk.cross(TargetId(0), 0, &Answer::Unknown { message: "lost".into() });
        desk.wait();
        desk.answer(1, &ended);
        desk.since();
        desk.above(TargetId(1));
        assert_eq!(desk.since(), ["tell PreOOMEvictionHeld"]);
    }
}

/// A lost answer is no leave to act on a container that has just been started.
#[test]
fn a_retry_after_a_lost_answer_minds_the_minimum_age() {
    let mut desk = Desk::with(Limits::default());
    desk.apply(&one("u1"));
    desk.above(TargetId(0));
    let mut restarted = pod("u1", &[("app", "b")], &[("memory-usage-threshold", "60")]);
    restarted["status"]["containerStatuses"][0]["state"]["running"]["startedAt"] = json!(WALL);
    desk.apply(&restarted);
    desk.answer(0, &Answer::Unknown { message: "lost".into() });
    desk.above(TargetId(1));
    desk.since();
    desk.wait();
    assert_eq!(desk.since(), ["tell PreOOMEvictionHeld"]);
}

/// What is not over any more when the answer comes has to be over anew, for as long as was asked.
#[test]
fn a_dip_while_an_answer_is_awaited_ends_the_retries() {
    let (mut desk, id) = watching();
    desk.above(id);
    desk.report(id, What::Dipped);
    desk.since();
    desk.answer(0, &Answer::Blocked { budget: None, message: "m".into(), retry_after: None });
    assert_eq!(desk.since(), ["tell PreOOMEvictionBlocked"]);
    assert_eq!(desk.controller.next_tick(), None);
    desk.above(id);
    assert_eq!(desk.since(), [""; 0], "its back-off holds");
    desk.wait();
    assert_eq!(desk.since(), ["post u1"]);
}

/// It stays a deletion, and is not asked for as an eviction before its back-off is over.
#[test]
fn a_deletion_that_restraint_holds_stays_one() {
    let mut desk = Desk::with(Limits { burst: 1, minimum_age: Duration::ZERO, ..Limits::default() });
    desk.apply(&pod("u1", &[("app", "a")], &[("memory-usage-threshold", "60"), ("force-delete-threshold", "80")]));
    let mut other = one("u2");
    other["metadata"]["name"] = json!("other");
    desk.apply(&other);
    let (id, other) = (TargetId(0), TargetId(1));
    desk.finds(id, 70 * MIB);
    desk.above(id);
    desk.finds(id, 70 * MIB);
    let retry_after = Some(Duration::from_secs(10));
    desk.answer(0, &Answer::Blocked { budget: None, message: "m".into(), retry_after });
    desk.cross(other, 1, &Answer::Accepted);
    desk.terminates("u2", "other");
    desk.since();
    desk.report(id, What::Worsened(Evidence { critical: true, ..evidence() }));
    assert_eq!(desk.since(), ["tell PreOOMEvictionHeld"]);
    desk.wait();
    assert_eq!(desk.since(), ["delete u1"]);
}

#[test]
fn a_label_that_comes_back_makes_no_second_request() {
    let (mut desk, id) = watching();
    desk.above(id);
    let gone = PodRef { namespace: "demo".into(), name: "web".into(), uid: PodUid("u1".into()) };
    desk.give(|c, now| c.pod_changed(now, PodChange::Gone(gone)));
    desk.apply(&one("u1"));
    desk.since();
    let id = TargetId(1);
    desk.above(id);
    assert_eq!(desk.since(), [""; 0], "the first is not answered yet");
    assert_eq!(desk.controller.guards(desk.now)[0].state, "evicting");
    desk.answer(0, &Answer::Failing { code: 500, message: "m".into() });
    assert_eq!(desk.since(), ["tell PreOOMEvictionFailed", "post u1"]);
}

#[test]
fn kills_are_counted_once_however_many_there_are_and_only_of_the_guarded() {
    let reported = |desk: &mut Desk| desk.since().iter().filter(|s| *s == "tell PreOOMMissed").count();
    let mut desk = Desk::new();
    let mut crashing = both("");
    let mut kill = |i: usize, id: String| {
        let terminated = json!({"reason": "OOMKilled", "containerID": format!("x://{id:0>64}")});
        crashing["status"]["containerStatuses"][i]["lastState"] = json!({"terminated": terminated});
        crashing.clone()
    };
    desk.apply(&both(""));
    desk.apply(&kill(0, "1".into()));
    for n in 0..3 * MOST_KILLS {
        desk.apply(&kill(1, format!("{:x}", n + 16)));
    }
    assert_eq!(reported(&mut desk), 1 + 3 * MOST_KILLS);
    // Excluded, as it were: never guarded, and so not missed.
    let mut desk = Desk::new();
    let mut mirror = one("u1");
    mirror["metadata"]["annotations"]["kubernetes.io/config.mirror"] = json!("x");
    desk.apply(&mirror);
    mirror["status"]["containerStatuses"][0]["lastState"] =
        json!({"terminated": {"reason": "OOMKilled", "containerID": format!("x://{}", "c".repeat(64))}});
    desk.apply(&mirror);
    assert_eq!(reported(&mut desk), 0);
}

#[test]
fn what_is_settled_for_a_pod_is_shown_for_a_restarted_container_too() {
    let (mut desk, id) = watching();
    desk.cross(id, 0, &Answer::Mistake { code: 400, message: "m".into() });
    desk.apply(&pod("u1", &[("app", "b")], &[("memory-usage-threshold", "60")]));
    desk.above(TargetId(1));
    assert_eq!(desk.controller.guards(desk.now)[0].state, "mistake");
}

#[test]
fn an_unusual_container_id_is_told() {
    let mut desk = Desk::new();
    let mut pod = one("u1");
    pod["status"]["containerStatuses"][0]["containerID"] = json!("x://42");
    desk.apply(&pod);
    desk.apply(&pod);
    assert_eq!(desk.since(), ["tell PreOOMNotGuarded"]);
    assert_eq!(desk.controller.counts().unresolved, 1);
}

#[test]
fn a_lost_answer_keeps_its_place_and_a_refusal_gives_it_back() {
    let mut desk = Desk::with(Limits { burst: 1, minimum_age: Duration::ZERO, ..Limits::default() });
    desk.apply(&one("u1"));
    desk.since();
    desk.cross(TargetId(0), 0, &Answer::Unknown { message: "lost".into() });
    desk.wait();
    desk.answer(1, &Answer::Failing { code: 500, message: "m".into() });
    desk.wait();
    let seen = desk.since();
    assert_eq!(seen.iter().filter(|s| *s == "post u1").count(), 3, "{seen:?}");
}

#[test]
fn a_dry_run_is_told_once_for_each_crossing_and_an_edit_ends_it() {
    let dry = || pod("u1", &[("app", "a")], &[("memory-usage-threshold", "60"), ("dry-run", "client")]);
    let mut desk = Desk::new();
    desk.apply(&dry());
    let id = desk.watched()[0];
    desk.since();
    desk.above(id);
    assert_eq!(desk.since(), ["tell PreOOMEvictionDryRun"]);
    desk.above(id);
    assert_eq!(desk.since(), [""; 0]);
    desk.report(id, What::Dipped);
    desk.above(id);
    assert_eq!(desk.since(), ["tell PreOOMEvictionHeld"], "restraint is the same for a dry run");
    desk.wait();
    assert_eq!(desk.since(), ["tell PreOOMEvictionDryRun"]);
    desk.apply(&one("u1"));
    assert_eq!(desk.since(), ["rule 0"], "the sampler judges anew, and tells again");
}

#[test]
fn a_second_container_is_not_forgotten_when_the_first_turns_out_fine() {
    let mut desk = Desk::new();
    desk.apply(&both(""));
    desk.since();
    let (a, b) = (TargetId(0), TargetId(1));
    desk.finds(a, 10 * MIB);
    desk.above(a);
    desk.above(b);
    assert_eq!(desk.since(), ["rearm 0", "post u1"]);
    // The same when the first one's group goes away before the retry.
    desk.above(a);
    desk.answer(0, &Answer::Failing { code: 500, message: "m".into() });
    desk.report(a, What::Gone);
    desk.since();
    desk.wait();
    desk.wait();
    assert!(desk.since().contains(&"post u1".to_owned()));
}

#[test]
fn a_list_without_a_pod_removes_it() {
    let (mut desk, _) = watching();
    desk.give(|c, now| c.pod_changed(now, PodChange::Listing));
    desk.apply(&one("u1"));
    desk.give(|c, now| c.pod_changed(now, PodChange::Listed));
    assert_eq!(desk.since(), [""; 0], "still there");
    desk.give(|c, now| c.pod_changed(now, PodChange::Listing));
    desk.give(|c, now| c.pod_changed(now, PodChange::Listed));
    assert_eq!(desk.since(), ["forget 0"]);
    assert!(desk.controller.listed());
}

#[test]
fn a_missing_group_is_looked_for_at_growing_distances_and_told_once() {
    let mut desk = Desk::new();
    let pod = Pod::from_json(&one("u1").to_string()).unwrap();
    desk.controller.pod_changed(Duration::ZERO, PodChange::Applied(Box::new(pod)));
    let (mut looked, mut reported, mut settled) = (0, 0, false);
    while desk.now < Duration::from_secs(60) {
        for effect in desk.controller.effects() {
            match effect {
                Effect::Resolve(id, want) => {
                    looked += 1;
                    settled = want.settled;
                    assert!(!want.may_have_none, "without a runtime class it has a group of its own");
                    desk.controller.resolved(desk.now, id, Err(Unresolved::NotFound));
                }
                Effect::Notify(_) => reported += 1,
                other => panic!("{other:?}"),
            }
        }
        let next = desk.controller.next_tick().unwrap();
        assert!(next > desk.now || looked == 0, "never at once");
        desk.now = next;
        desk.controller.tick(desk.now);
    }
    assert!((10..20).contains(&looked), "{looked}");
    assert_eq!((reported, settled), (1, true));
}

/// A pod of `StatefulSet db`, whose container has been running for so long.
fn replica(uid: &str, name: &str, lived: u64) -> Value {
    let mut pod = one(uid);
    pod["metadata"]["name"] = json!(name);
    pod["metadata"]["ownerReferences"] =
        json!([{"apiVersion": "apps/v1", "kind": "StatefulSet", "name": "db", "uid": "o", "controller": true}]);
    let started = wall() - jiff::SignedDuration::from_secs(lived.cast_signed());
    pod["status"]["containerStatuses"][0]["state"]["running"]["startedAt"] = json!(started.to_string());
    pod
}

fn wall() -> Timestamp {
    WALL.parse().unwrap()
}

/// 39 MiB left and so many MiB a second at the least.
fn growing(mib: i64) -> Evidence {
    Evidence { growth_at_least: mib << 20, ..evidence() }
}

fn over_and(evidence: Evidence) -> What {
    What::Above { evidence, since_last_sample: None }
}

/// The seed's own Deployment: two replicas that leak in step, with default settings.
#[test]
fn replicas_that_leak_in_step_go_together_where_there_is_no_time_and_in_turn_where_there_is() {
    let second = |lived: u64, growth: i64| {
        let mut desk = Desk::with(Limits::default());
        desk.apply(&replica("u1", "db-0", lived));
        desk.apply(&replica("u2", "db-1", lived));
        desk.report(TargetId(0), over_and(growing(growth)));
        desk.finds(TargetId(1), 61 * MIB);
        desk.report(TargetId(1), over_and(growing(growth)));
        let posted = desk.since().contains(&"post u2".to_owned());
        (posted, desk.controller.next_tick().map(|t| t.as_secs_f64().round()))
    };
    assert_eq!(second(70, 100), (true, None), "39 MiB at 100 a second");
    assert_eq!(second(3600, 100), (true, None));
    let (posted, at) = second(70, 4);
    assert!(!posted && at == Some(9.0), "as long as 39 MiB last, less an eviction and a margin: {at:?}");
    assert_eq!(second(3600, 1), (false, Some(10.0)), "or for the back-off");
    // Nothing that restraint says outlasts the deadline.
    let mut desk = Desk::with(Limits::default());
    desk.apply(&replica("u1", "db-0", 70));
    desk.apply(&replica("u2", "db-1", 20));
    desk.report(TargetId(0), over_and(growing(1)));
    desk.finds(TargetId(1), 61 * MIB);
    desk.report(TargetId(1), over_and(growing(1)));
    desk.since();
    desk.report(TargetId(1), What::Worsened(growing(100)));
    assert_eq!(desk.since(), ["post u2"]);
}

#[test]
fn a_replacement_that_is_ready_ends_a_turn() {
    let mut desk = Desk::with(Limits::default());
    desk.apply(&replica("u1", "db-0", 3600));
    desk.apply(&replica("u2", "db-1", 3600));
    desk.cross(TargetId(0), 0, &Answer::Accepted);
    desk.above(TargetId(1));
    assert_eq!(desk.controller.counts().deferred, 1);
    desk.since();
    let mut new = replica("u3", "db-2", 0);
    new["metadata"]["creationTimestamp"] = json!((wall() - jiff::SignedDuration::from_secs(1)).to_string());
    let ready = |is: &str| json!([{"type": "Ready", "status": is}]);
    new["status"]["conditions"] = ready("True");
    desk.apply(&new);
    assert!(!desk.since().contains(&"post u2".to_owned()), "it was made before the eviction");
    new["metadata"]["creationTimestamp"] = json!(WALL);
    new["status"]["conditions"] = ready("False");
    desk.apply(&new);
    assert!(!desk.since().contains(&"post u2".to_owned()), "not ready");
    new["status"]["conditions"] = ready("True");
    desk.apply(&new);
    assert_eq!(desk.since(), ["post u2"]);
}

/// The age of one container is no reason to leave another.
#[test]
fn a_young_container_does_not_hide_its_siblings() {
    let mut desk = Desk::with(Limits::default());
    let mut pod = both("");
    pod["status"]["containerStatuses"][0]["state"]["running"]["startedAt"] = json!(WALL);
    desk.apply(&pod);
    desk.since();
    desk.above(TargetId(0));
    assert_eq!(desk.since(), ["tell PreOOMEvictionHeld"]);
    desk.above(TargetId(1));
    assert_eq!(desk.since(), ["post u1"]);
}

/// Nor is a container that somebody put there to debug it, where the pod's own group is what is over.
#[test]
fn a_debugging_container_does_not_make_its_pod_young() {
    let mut desk = Desk::with(Limits::default());
    let annotations = [("memory-usage-threshold", "60"), ("target-container-name", "*")];
    let mut pod = pod("u1", &[("app", "a")], &annotations);
    pod["spec"]["ephemeralContainers"] = json!([{"name": "debugger"}]);
    pod["status"]["ephemeralContainerStatuses"] = json!([{
        "name": "debugger", "containerID": format!("x://{}", "d".repeat(64)), "state": {"running": {"startedAt": WALL}}
    }]);
    let started = |seconds| (wall() - jiff::SignedDuration::from_secs(seconds)).to_string();
    pod["status"]["containerStatuses"][0]["state"]["running"]["startedAt"] = json!(started(3600));
    desk.apply(&pod);
    let key = ("demo".to_owned(), "web".to_owned());
    let group = desk.controller.pods[&key].targets.iter().find(|t| t.name == Name::PodGroup).unwrap().id;
    desk.since();
    desk.above(group);
    assert_eq!(desk.since(), ["post u1"]);
}

/// A container that is restarted in its pod is young, and the pod's own group is as old as its youngest container.
#[test]
fn a_restart_in_place_makes_the_pods_own_group_young() {
    let mut desk = Desk::with(Limits::default());
    let annotations = [("memory-usage-threshold", "60"), ("target-container-name", "*")];
    let started = |id, at: Timestamp| {
        let mut pod = pod("u1", &[("app", id)], &annotations);
        pod["status"]["containerStatuses"][0]["state"]["running"]["startedAt"] = json!(at.to_string());
        pod
    };
    desk.apply(&started("a", wall() - jiff::SignedDuration::from_secs(3600)));
    let key = ("demo".to_owned(), "web".to_owned());
    let group = desk.controller.pods[&key].targets.iter().find(|t| t.name == Name::PodGroup).unwrap().id;
    desk.now = Duration::from_secs(120);
    desk.apply(&started("b", wall() + jiff::SignedDuration::from_secs(119)));
    desk.since();
    desk.above(group);
    assert_eq!(desk.since(), ["tell PreOOMEvictionHeld"]);
    desk.wait();
    assert_eq!((desk.since(), desk.now.as_secs()), (vec!["post u1".to_owned()], 179));
}

/// Any container past `force-delete-threshold` counts, not only the one that the eviction was about.
#[test]
fn a_blocked_pod_is_deleted_for_whichever_container_is_past_the_threshold() {
    let annotations =
        [("memory-usage-threshold", "60"), ("target-container-name", "a,b"), ("force-delete-threshold", "80")];
    let mut desk = Desk::new();
    desk.apply(&pod("u1", &[("a", "a"), ("b", "b")], &annotations));
    desk.since();
    let (a, b) = (TargetId(0), TargetId(1));
    desk.finds(a, 61 * MIB);
    desk.above(a);
    desk.finds(a, 61 * MIB);
    desk.answer(0, &Answer::Blocked { budget: None, message: "m".into(), retry_after: None });
    assert_eq!(desk.since(), ["post u1", "tell PreOOMEvictionBlocked"]);
    desk.finds(a, 61 * MIB);
    desk.report(b, over_and(Evidence { critical: true, ..evidence() }));
    assert_eq!(desk.since(), ["delete u1"]);
}

/// A pod that may not be deleted is still one that a budget blocks: counted so, and tried as often.
#[test]
fn a_refused_deletion_leaves_a_blocked_pod_blocked() {
    let mut desk = Desk::new();
    desk.apply(&pod("u1", &[("app", "a")], &[("memory-usage-threshold", "60"), ("force-delete-threshold", "80")]));
    let blocked = || Answer::Blocked { budget: None, message: "m".into(), retry_after: None };
    desk.cross(TargetId(0), 0, &blocked());
    desk.since();
    desk.answer(1, &Answer::Refused { code: 403, message: "no right to delete".into() });
    assert_eq!((desk.since(), desk.controller.counts().blocked), (vec!["tell PreOOMEvictionFailed".to_owned()], 1));
    for order in 2..5 {
        let at = desk.controller.next_tick().unwrap();
        assert!(at - desk.now <= Duration::from_secs(30), "{:?}", at - desk.now);
        desk.wait();
        desk.answer(order, &blocked());
        assert_eq!((desk.since(), desk.controller.counts().blocked), (vec!["post u1".to_owned()], 1));
    }
}

/// What an eviction took that did not happen, others need not wait for.
#[test]
fn a_refund_wakes_whom_it_held() {
    let mut desk = Desk::with(Limits { burst: 1, ..Limits::default() });
    desk.apply(&replica("u1", "db-0", 3600));
    desk.apply(&replica("u2", "db-1", 3600));
    let mut other = one("u3");
    other["metadata"]["name"] = json!("other");
    desk.apply(&other);
    for id in 0..3 {
        desk.above(TargetId(id));
    }
    assert_eq!(desk.controller.counts().deferred, 2);
    desk.since();
    desk.answer(0, &Answer::Refused { code: 403, message: "no".into() });
    assert_eq!(desk.since().iter().filter(|s| s.starts_with("post")).count(), 1, "there is one token, and it is taken");
}

#[test]
fn the_first_sign_of_life_sends_what_had_no_answer() {
    let (mut desk, id) = watching();
    let lost = || Answer::Unknown { message: "connection refused".into() };
    for order in 0..6 {
        desk.cross(id, order, &lost());
        desk.wait();
    }
    desk.answer(6, &lost());
    desk.since();
    assert!(desk.controller.next_tick().unwrap() > desk.now + Duration::from_secs(2), "it is asked seldom by now");
    desk.give(|c, now| c.heard(now));
    assert_eq!(desk.since(), ["post u1"]);
    desk.answer(7, &Answer::Refused { code: 403, message: "no".into() });
    desk.since();
    desk.give(|c, now| c.heard(now));
    assert_eq!(desk.since(), [""; 0], "what was answered is not asked sooner");
}

/// While the watch shows the pod, nothing that the server says ends its guard.
#[test]
fn no_answer_is_final() {
    for answer in [
        Answer::Gone,
        Answer::Replaced,
        Answer::NamespaceTerminating,
        Answer::Mistake { code: 400, message: "m".into() },
        Answer::Refused { code: 403, message: "m".into() },
        Answer::Ineffective,
    ] {
        let (mut desk, id) = watching();
        desk.cross(id, 0, &answer);
        desk.since();
        desk.wait();
        assert_eq!(desk.since(), ["post u1"], "{answer:?}");
        assert!(desk.now <= Duration::from_secs(73), "{answer:?}: {:?}", desk.now);
    }
}

/// Somebody may turn an eviction into a dry run: it is accepted, and nothing happens.
#[test]
fn an_accepted_eviction_that_does_nothing_is_told_and_tried_again() {
    let (mut desk, id) = watching();
    desk.cross(id, 0, &Answer::Accepted);
    desk.since();
    desk.wait();
    assert_eq!(desk.now.as_secs(), 12);
    assert_eq!(desk.since(), ["tell PreOOMEvictionFailed"]);
    desk.wait();
    assert_eq!(desk.since(), ["post u1"]);
    // While the watch is broken, nothing is known.
    let (mut desk, id) = watching();
    desk.cross(id, 0, &Answer::Accepted);
    desk.since();
    desk.give(|c, now| c.pod_changed(now, PodChange::Failed(crate::pods::WatchFailure::unreachable("away".into()))));
    desk.wait();
    assert_eq!(desk.since(), [""; 0]);
    desk.terminates("u1", "web");
    desk.wait();
    assert!(desk.now > Duration::from_secs(34) && desk.since().is_empty());
}

/// A clock that is set, or a machine that slept, makes nothing young.
#[test]
fn a_clock_that_is_set_makes_nothing_young() {
    let hour = jiff::SignedDuration::from_hours(1);
    let mut desk = Desk::with(Limits::default());
    desk.apply(&replica("u1", "db-0", 0));
    desk.now = Duration::from_secs(70);
    desk.give(|c, _| c.set_wall(wall() - hour));
    desk.above(TargetId(0));
    assert!(desk.since().contains(&"post u1".to_owned()), "seen running for 70 s");
    let mut desk = Desk::with(Limits::default());
    desk.give(|c, _| c.set_wall(wall() + hour));
    let mut late = one("u1");
    late["status"]["containerStatuses"][0]["state"]["running"]["startedAt"] = json!((wall() + hour).to_string());
    desk.apply(&late);
    desk.above(TargetId(0));
    assert!(!desk.since().contains(&"post u1".to_owned()), "just started, by the clock as it goes now");
    desk.wait();
    assert_eq!(desk.now.as_secs(), 60);
}

/// A guard that is edited away while the pod is ended ends nothing.
#[test]
fn what_is_not_guarded_any_more_has_not_ended() {
    let (mut desk, id) = watching();
    let latency = desk.controller.latencies.of("demo");
    let before = latency.p90();
    desk.cross(id, 0, &Answer::Accepted);
    desk.now += Duration::from_secs(13);
    desk.apply(&pod("u1", &[("app", "a")], &[]));
    assert_eq!(latency.p90(), before);
}

/// The group may end before the answer is there; when its pod's status says so is another matter.
#[test]
fn what_ended_before_its_answer_is_not_learnt_from_its_status() {
    let (mut desk, id) = watching();
    let latency = desk.controller.latencies.of("demo");
    let before = latency.p90();
    desk.above(id);
    desk.report(id, What::Gone);
    desk.now += Duration::from_secs(14);
    desk.answer(0, &Answer::Accepted);
    let mut ended = one("u1");
    ended["status"]["containerStatuses"][0]["state"] = json!({"terminated": {"reason": "Completed"}});
    desk.apply(&ended);
    assert_eq!(latency.p90(), before);
}

/// From the request to the end of the group, for each namespace.
#[test]
fn how_long_evictions_take_is_learnt_from_the_end_of_the_group() {
    let (mut desk, id) = watching();
    let latency = desk.controller.latencies.of("demo");
    let before = latency.p90();
    desk.cross(id, 0, &Answer::Accepted);
    desk.now += Duration::from_secs(3);
    desk.report(id, What::Gone);
    assert!(
        before < Duration::from_secs(1) && latency.p90() >= Duration::from_secs(3),
        "{before:?} {:?}",
        latency.p90()
    );
}

/// Evictions and kills of young containers, those from before the agent's start included.
#[test]
fn what_keeps_dying_young_is_left_to_the_kernel() {
    let killed = |restarts: u32| {
        let mut pod = replica("u1", "db-0", 20);
        pod["metadata"]["creationTimestamp"] = json!((wall() - jiff::SignedDuration::from_secs(100)).to_string());
        let at = |ago: i64| (wall() - jiff::SignedDuration::from_secs(ago)).to_string();
        let status = &mut pod["status"]["containerStatuses"][0];
        status["restartCount"] = json!(restarts);
        status["lastState"] = json!({"terminated": {
            "reason": "OOMKilled", "containerID": format!("x://{}", "c".repeat(64)), "startedAt": at(60), "finishedAt": at(40),
        }});
        pod
    };
    let dying = |restarts| {
        let mut desk = Desk::with(Limits::default());
        desk.apply(&killed(restarts));
        desk.since();
        desk.report(TargetId(0), over_and(growing(100)));
        desk.since()
    };
    assert_eq!(dying(1), ["post u1"]);
    assert_eq!(dying(2), ["post u1"]);
    assert_eq!(dying(3), ["tell PreOOMEvictionHeld"], "the third generation in a row");
}

/// A kill is told again with each change of its pod. Where the clock was set back during the container's life, it seems to
/// have started after its end, and is one kill all the same.
#[test]
fn a_kill_that_is_told_again_is_no_other_generation() {
    let mut desk = Desk::with(Limits::default());
    let killed = |ready: &str| {
        let mut pod = replica("u1", "db-0", 20);
        let at = |ago: i64| (wall() - jiff::SignedDuration::from_secs(ago)).to_string();
        pod["status"]["conditions"] = json!([{"type": "Ready", "status": ready}]);
        pod["status"]["containerStatuses"][0]["lastState"] = json!({"terminated": {
            "reason": "OOMKilled", "containerID": format!("x://{}", "c".repeat(64)), "startedAt": at(-3540), "finishedAt": at(40),
        }});
        pod
    };
    ["False", "True", "False", "True"].into_iter().for_each(|ready| desk.apply(&killed(ready)));
    desk.since();
    desk.report(TargetId(0), over_and(growing(100)));
    assert_eq!(desk.since(), ["post u1"]);
}
