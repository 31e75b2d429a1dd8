#![allow(clippy::unwrap_used, reason = "a test")]

use std::time::Duration;

use serde_json::{Value, json};

use super::kills::MOST_KILLS;
use super::*;
use crate::cgroup::{Group, Machine, Version};
use crate::guard::{ENABLED, LABEL, PREFIX, Signal};
use crate::pods::PodUid;
use crate::policy::Level;
use crate::units::Bytes;

const MIB: u64 = 1 << 20;
const WALL: &str = "2026-11-24T12:00:00Z";
const MACHINE: Machine = Machine::new(Bytes(8 << 30), Bytes(0));

/// A controller and what it asked for; time goes on by a millisecond with each input.
struct Desk {
    controller: Controller,
    now: Moment,
    seen: Vec<Effect>,
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
        limit: Some(Bytes(100 * MIB)),
        stat: Some(crate::cgroup::Stat::default()),
        swap_left: Bytes(0),
    };
    Sample { at: Duration::ZERO, own, pod: None }
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
        growth_at_least: Some(7),
        room: Some(Bytes(39 * MIB)),
        waived: false,
        critical: false,
    }
}

fn groups() -> Groups {
    let dir = tempfile::tempdir().unwrap();
    for file in ["memory.current", "memory.max", "memory.stat"] {
        std::fs::write(dir.path().join(file), "1\n").unwrap();
    }
    let own = Group::open(dir.path(), Version::V2, MACHINE).unwrap().unwrap();
    Groups { own: Arc::new(own), pod: None, stands_for_container: false }
}

impl Desk {
    fn new() -> Desk {
        Desk::with(Limits { minimum_age: Duration::ZERO, ..Limits::default() })
    }

    fn with(limits: Limits) -> Desk {
        let me = Me { node: "n".into(), pod_uid: None, excluded: BTreeSet::new() };
        let settings = Settings { me, dry_run: DryRun::Off, limits, wall: WALL.parse().unwrap(), seed: 1 };
        Desk { controller: Controller::new(settings), now: Duration::ZERO, seen: Vec::new() }
    }

    /// Does something to the controller, and takes what it then asks for; resolutions are answered.
    fn give(&mut self, input: impl FnOnce(&mut Controller, Moment)) {
        self.now += Duration::from_millis(1);
        input(&mut self.controller, self.now);
        let effects = self.controller.effects();
        let wanted: Vec<_> =
            (effects.iter()).filter_map(|e| if let Effect::Resolve(id, _) = e { Some(*id) } else { None }).collect();
        self.seen.extend(effects);
        for id in wanted {
            self.controller.resolved(self.now, id, Ok(groups()));
        }
        self.seen.extend(self.controller.effects());
    }

    fn apply(&mut self, pod: &Value) {
        let pod = Pod::from_json(&pod.to_string()).unwrap();
        self.give(|c, now| c.pod_changed(now, PodChange::Applied(Box::new(pod))));
    }

    fn report(&mut self, id: TargetId, what: What) {
        self.give(|c, now| c.reported(now, Report { id, edit: 0, what }));
    }

    fn over(&mut self, id: TargetId) {
        self.report(id, What::Over { evidence: evidence(), since_last_look: None });
    }

    fn reread(&mut self, id: TargetId, usage: u64) {
        self.give(|c, now| c.reread(now, id, Ok(Some(sample(usage)))));
    }

    /// Answers the request that was sent as this one, from 0 on.
    fn answer(&mut self, order: u64, answer: &Answer) {
        self.give(|c, now| c.answered(now, order, answer));
    }

    /// Lets time go on until something is due, and has the controller do it.
    fn wait(&mut self) {
        self.now = self.controller.next_tick().unwrap();
        self.give(|c, now| c.tick(now));
    }

    /// A target crosses its threshold, is read again as over, and its request is answered.
    fn cross(&mut self, id: TargetId, order: u64, answer: &Answer) {
        self.over(id);
        self.reread(id, 90 * MIB);
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

    /// The kinds of effects since the last call.
    fn since(&mut self) -> Vec<String> {
        let kinds = self.seen.drain(..).map(|e| match e {
            Effect::Resolve(id, _) => format!("resolve {}", id.0),
            Effect::Sampler(Command::Watch(watch)) => format!("watch {}", watch.id.0),
            Effect::Sampler(Command::Rule(id, ..)) => format!("rule {}", id.0),
            Effect::Sampler(Command::Rearm(id)) => format!("rearm {}", id.0),
            Effect::Sampler(Command::Forget(id)) => format!("forget {}", id.0),
            Effect::Reread(id, _) => format!("reread {}", id.0),
            Effect::Post(_, order) => {
                let verb = if order.act == Act::Delete { "delete" } else { "post" };
                format!("{verb} {}{}", order.pod.uid.0, if order.dry_run { " dry" } else { "" })
            }
            Effect::Tell(notice) => format!("tell {}", notice.subject.reason()),
            Effect::EvictionTakes(_) => "takes".into(),
        });
        kinds.collect()
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
    desk.over(id);
    assert_eq!(desk.since(), ["reread 0"]);
    desk.over(id);
    assert_eq!(desk.since(), [""; 0], "already at it");
    desk.reread(id, 60 * MIB + 1);
    assert_eq!(desk.since(), ["post u1"]);
    desk.reread(id, 60 * MIB + 1);
    desk.over(id);
    desk.answer(0, &Answer::Accepted);
    assert_eq!(desk.since(), ["takes", "tell PreOOMEvicted"]);
    desk.report(id, What::Dipped);
    desk.over(id);
    desk.reread(id, 90 * MIB);
    assert_eq!(desk.since(), [""; 0], "one eviction for one pod");
}

#[test]
fn not_over_when_read_again_is_watched_again() {
    let (mut desk, id) = watching();
    desk.over(id);
    desk.reread(id, 60 * MIB);
    assert_eq!(desk.since(), ["reread 0", "rearm 0"]);
    desk.over(id);
    assert_eq!(desk.since(), ["reread 0"], "the next crossing counts");
    desk.give(|c, now| c.reread(now, id, Ok(None)));
    assert_eq!(desk.since(), ["rearm 0"], "gone is not over");
}

#[test]
fn what_changes_between_verdict_and_post_ends_it() {
    // The label.
    let (mut desk, id) = watching();
    desk.over(id);
    let mut off = one("u1");
    off["metadata"]["labels"][LABEL] = json!("disabled");
    desk.apply(&off);
    desk.reread(id, 90 * MIB);
    assert_eq!(desk.since(), ["reread 0", "forget 0"]);
    // It terminates.
    let (mut desk, id) = watching();
    desk.over(id);
    let mut terminating = one("u1");
    terminating["metadata"]["deletionTimestamp"] = json!("2026-01-01T00:00:00Z");
    desk.apply(&terminating);
    desk.reread(id, 90 * MIB);
    assert_eq!(desk.since(), ["reread 0", "rearm 0"]);
    // The guard becomes invalid.
    let (mut desk, id) = watching();
    desk.over(id);
    desk.apply(&pod("u1", &[("app", "a")], &[("memory-usage-threshold", "0")]));
    desk.reread(id, 90 * MIB);
    assert_eq!(desk.since(), ["reread 0", "tell PreOOMInvalidGuard", "forget 0"]);
    // The threshold is raised: what was over by the old one is judged by the new.
    let (mut desk, id) = watching();
    desk.over(id);
    desk.apply(&pod("u1", &[("app", "a")], &[("memory-usage-threshold", "95")]));
    desk.reread(id, 90 * MIB);
    assert_eq!(desk.since(), ["reread 0", "rule 0"]);
}

#[test]
fn an_answer_for_an_earlier_namesake_says_nothing() {
    let (mut desk, id) = watching();
    desk.over(id);
    desk.reread(id, 90 * MIB);
    desk.apply(&one("u2"));
    desk.since();
    desk.answer(0, &Answer::Gone);
    assert_eq!(desk.since(), ["tell PreOOMEvictionFailed"], "of the old one, it is told");
    let new = TargetId(1);
    desk.over(new);
    desk.reread(new, 90 * MIB);
    assert_eq!(desk.since(), ["reread 1", "post u2"]);
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
    desk.over(id);
    desk.reread(id, 90 * MIB);
    desk.answer(0, &blocked());
    assert_eq!(desk.since(), ["reread 0", "post u1", "tell PreOOMEvictionBlocked"]);
    assert_eq!(desk.controller.counts().blocked, 1);
    for order in 1..4 {
        desk.wait();
        desk.reread(id, 90 * MIB);
        desk.answer(order, &blocked());
        assert_eq!(desk.since(), ["reread 0", "post u1"]);
    }
    desk.wait();
    desk.reread(id, 10 * MIB);
    assert_eq!(desk.since(), ["reread 0", "rearm 0"], "no longer over: it is watched again");
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
        desk.over(id);
    }
    assert_eq!(desk.since(), [""; 0]);
    let next = desk.controller.next_tick().unwrap();
    assert!(next > Duration::from_secs(55), "{next:?}");
    desk.apply(&pod("u1", &[("app", "a")], &[("memory-usage-threshold", "61")]));
    desk.give(|c, now| {
        c.reported(now, Report { id, edit: 1, what: What::Over { evidence: evidence(), since_last_look: None } })
    });
    assert_eq!(desk.since(), ["rule 0"], "still to wait");
    desk.wait();
    assert_eq!(desk.since(), ["reread 0"]);
}

#[test]
fn a_report_by_an_earlier_guard_does_not_count() {
    let (mut desk, id) = watching();
    desk.apply(&pod("u1", &[("app", "a")], &[("memory-usage-threshold", "60"), ("sustained-for", "5m")]));
    desk.since();
    desk.over(id);
    assert_eq!(desk.since(), [""; 0], "it was over by the guard without sustained-for");
}

#[test]
fn a_dry_run_that_is_not_meant_any_more_is_no_end() {
    let dry = || pod("u1", &[("app", "a")], &[("memory-usage-threshold", "60"), ("dry-run", "server")]);
    let mut desk = Desk::new();
    desk.apply(&dry());
    let id = desk.watched()[0];
    desk.over(id);
    desk.reread(id, 90 * MIB);
    desk.since();
    desk.apply(&one("u1"));
    desk.give(|c, now| {
        c.reported(now, Report { id, edit: 1, what: What::Over { evidence: evidence(), since_last_look: None } })
    });
    desk.answer(0, &Answer::Accepted);
    assert_eq!(desk.since(), ["rule 0", "tell PreOOMEvictionDryRun", "rearm 0"]);
}

#[test]
fn an_eviction_is_told_though_the_pod_is_forgotten_before_the_answer() {
    let (mut desk, id) = watching();
    desk.over(id);
    desk.reread(id, 90 * MIB);
    let gone = PodRef { namespace: "demo".into(), name: "web".into(), uid: PodUid("u1".into()) };
    desk.give(|c, now| c.pod_changed(now, PodChange::Gone(gone)));
    desk.since();
    desk.answer(0, &Answer::Accepted);
    assert_eq!(desk.since(), ["takes", "tell PreOOMEvicted"]);
}

#[test]
fn a_second_container_is_acted_on_when_the_first_is_gone_before_the_retry() {
    let mut desk = Desk::new();
    desk.apply(&both(""));
    let (a, b) = (TargetId(0), TargetId(1));
    desk.over(a);
    desk.reread(a, 90 * MIB);
    desk.over(b);
    desk.report(a, What::Gone);
    desk.since();
    let blocked = Answer::Blocked { budget: None, message: "m".into(), retry_after: None };
    desk.answer(0, &blocked);
    let seen = desk.since();
    assert!(seen.contains(&"rearm 1".to_owned()), "{seen:?}");
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
    desk.over(TargetId(1));
    desk.reread(TargetId(1), 90 * MIB);
    assert_eq!(
        desk.since(),
        ["reread 0", "post u1", "takes", "tell PreOOMEvicted", "reread 1", "tell PreOOMEvictionHeld"]
    );
    assert_eq!(desk.controller.counts().held, 1);
    let until = desk.controller.next_tick().unwrap();
    assert!(until > Duration::from_secs(9) && until < Duration::from_secs(11), "{until:?}");
    desk.wait();
    desk.reread(TargetId(1), 90 * MIB);
    assert_eq!(desk.since(), ["reread 1", "post u2"], "as soon as restraint allows");
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
    desk.over(TargetId(0));
    desk.reread(TargetId(0), 90 * MIB);
    assert_eq!(desk.since(), ["reread 0", "tell PreOOMEvictionHeld"]);
    let until = desk.controller.next_tick().unwrap();
    assert_eq!(until.as_secs(), 40);
    // Its end comes near while it is held.
    let fast = Evidence { growth_at_least: Some(i64::try_from(100 * MIB).unwrap()), ..evidence() };
    desk.report(TargetId(0), What::Worse(fast));
    desk.reread(TargetId(0), 90 * MIB);
    assert_eq!(desk.since(), ["reread 0", "post u1"]);
    // Growing so fast that it would not live to that day.
    let mut desk = Desk::with(Limits::default());
    desk.apply(&started(20));
    desk.since();
    desk.report(TargetId(0), What::Over { evidence: fast, since_last_look: None });
    desk.reread(TargetId(0), 90 * MIB);
    assert_eq!(desk.since(), ["reread 0", "post u1"]);
    // Old enough.
    let mut desk = Desk::with(Limits::default());
    desk.apply(&started(61));
    desk.since();
    desk.over(TargetId(0));
    desk.reread(TargetId(0), 90 * MIB);
    assert_eq!(desk.since(), ["reread 0", "post u1"]);
}

/// With `force-delete-threshold`, a blocked pod past it is deleted; without, never.
#[test]
fn a_blocked_pod_is_deleted_only_past_its_own_threshold() {
    let blocked = || Answer::Blocked { budget: Some("b".into()), message: "m".into(), retry_after: None };
    let guarded = |force: &str| {
        let annotations = [("memory-usage-threshold", "60"), ("force-delete-threshold", force)];
        pod("u1", &[("app", "a")], if force.is_empty() { &annotations[..1] } else { &annotations[..] })
    };
    let critical = || What::Worse(Evidence { critical: true, ..evidence() });
    // Past it when the block is told.
    let mut desk = Desk::new();
    desk.apply(&guarded("80"));
    desk.since();
    desk.cross(TargetId(0), 0, &blocked());
    assert_eq!(desk.since(), ["reread 0", "post u1", "tell PreOOMEvictionBlocked", "reread 0"]);
    desk.reread(TargetId(0), 90 * MIB);
    desk.answer(1, &Answer::Accepted);
    assert_eq!(desk.since(), ["delete u1", "takes", "tell PreOOMForceDeleted"]);
    // Past it later.
    let mut desk = Desk::new();
    desk.apply(&guarded("95"));
    desk.since();
    desk.cross(TargetId(0), 0, &blocked());
    assert_eq!(desk.since(), ["reread 0", "post u1", "tell PreOOMEvictionBlocked"], "not yet");
    desk.report(TargetId(0), critical());
    desk.reread(TargetId(0), 94 * MIB);
    assert_eq!(desk.since(), ["reread 0"], "read again, it is not");
    desk.report(TargetId(0), critical());
    desk.reread(TargetId(0), 96 * MIB);
    assert_eq!(desk.since(), ["reread 0", "delete u1"]);
    // Past it, but not blocked, or without the annotation.
    let mut desk = Desk::new();
    desk.apply(&guarded("80"));
    desk.since();
    desk.cross(TargetId(0), 0, &Answer::Failing { code: 500, message: "m".into() });
    desk.report(TargetId(0), critical());
    assert_eq!(desk.since(), ["reread 0", "post u1", "tell PreOOMEvictionFailed"]);
    let mut desk = Desk::new();
    desk.apply(&guarded(""));
    desk.since();
    desk.cross(TargetId(0), 0, &blocked());
    assert_eq!(desk.since(), ["reread 0", "post u1", "tell PreOOMEvictionBlocked"]);
}

#[test]
fn what_was_accepted_is_followed_until_it_has_ended() {
    let slow = |growth: i64| {
        let (mut desk, id) = watching();
        desk.cross(id, 0, &Answer::Accepted);
        let key = ("demo".to_owned(), "web".to_owned());
        let State::Watched { view, .. } = &desk.controller.pods[&key].targets[0].state else { panic!() };
        view.show(sample(90 * MIB), growth);
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

/// From the counter or from the status, counted once, with the reason.
#[test]
fn an_oom_kill_is_told_once_with_why_it_was_not_evicted() {
    let reasons = |desk: &mut Desk| -> Vec<MissReason> {
        let told = desk.seen.drain(..).filter_map(|e| match e {
            Effect::Tell(notice) => match notice.subject {
                Subject::Missed { reason, .. } => Some(reason),
                _ => None,
            },
            _ => None,
        });
        told.collect()
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
    desk.report(id, What::Killed { node_wide: false, look: None });
    desk.apply(&killed("a"));
    assert_eq!(reasons(&mut desk), [MissReason::TooFast]);
    // By the status alone, after its group is gone; blocked when it died.
    let (mut desk, id) = watching();
    desk.cross(id, 0, &blocked);
    desk.report(id, What::Gone);
    desk.apply(&killed("a"));
    desk.apply(&killed("a"));
    assert_eq!(reasons(&mut desk), [MissReason::Blocked]);
    // While it terminates.
    let (mut desk, id) = watching();
    desk.cross(id, 0, &Answer::Accepted);
    desk.apply(&killed("a"));
    assert_eq!(reasons(&mut desk), [MissReason::Terminating]);
    // The node's memory, not its own limit.
    let (mut desk, id) = watching();
    desk.report(id, What::Killed { node_wide: true, look: None });
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
        desk.reread(TargetId(0), 90 * MIB);
        desk.answer(1, &ended);
        desk.since();
        desk.over(TargetId(1));
        desk.reread(TargetId(1), 90 * MIB);
        assert_eq!(desk.since(), ["reread 1", "tell PreOOMEvictionHeld"]);
    }
}

/// A lost answer is no leave to act on a container that has just been started.
#[test]
fn a_retry_after_a_lost_answer_minds_the_minimum_age() {
    let mut desk = Desk::with(Limits::default());
    desk.apply(&one("u1"));
    desk.over(TargetId(0));
    desk.reread(TargetId(0), 90 * MIB);
    let mut restarted = pod("u1", &[("app", "b")], &[("memory-usage-threshold", "60")]);
    restarted["status"]["containerStatuses"][0]["state"]["running"]["startedAt"] = json!(WALL);
    desk.apply(&restarted);
    desk.answer(0, &Answer::Unknown { message: "lost".into() });
    desk.over(TargetId(1));
    desk.wait();
    desk.since();
    desk.reread(TargetId(1), 90 * MIB);
    assert_eq!(desk.since(), ["tell PreOOMEvictionHeld"]);
}

/// What is not over any more when the answer comes has to be over anew, for as long as was asked.
#[test]
fn a_dip_while_an_answer_is_awaited_ends_the_retries() {
    let (mut desk, id) = watching();
    desk.over(id);
    desk.reread(id, 90 * MIB);
    desk.report(id, What::Dipped);
    desk.since();
    desk.answer(0, &Answer::Blocked { budget: None, message: "m".into(), retry_after: None });
    assert_eq!(desk.since(), ["tell PreOOMEvictionBlocked"]);
    assert_eq!(desk.controller.next_tick(), None);
    desk.over(id);
    assert_eq!(desk.since(), [""; 0], "its back-off holds");
    desk.wait();
    assert_eq!(desk.since(), ["reread 0"]);
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
    desk.over(id);
    desk.reread(id, 70 * MIB);
    desk.answer(0, &Answer::Blocked { budget: None, message: "m".into(), retry_after: None });
    desk.cross(other, 1, &Answer::Accepted);
    desk.since();
    desk.report(id, What::Worse(Evidence { critical: true, ..evidence() }));
    desk.reread(id, 90 * MIB);
    assert_eq!(desk.since(), ["reread 0", "tell PreOOMEvictionHeld"]);
    desk.wait();
    desk.reread(id, 90 * MIB);
    assert_eq!(desk.since(), ["reread 0", "delete u1"]);
}

#[test]
fn a_label_that_comes_back_makes_no_second_request() {
    let (mut desk, id) = watching();
    desk.over(id);
    desk.reread(id, 90 * MIB);
    let gone = PodRef { namespace: "demo".into(), name: "web".into(), uid: PodUid("u1".into()) };
    desk.give(|c, now| c.pod_changed(now, PodChange::Gone(gone)));
    desk.apply(&one("u1"));
    desk.since();
    let id = TargetId(1);
    desk.over(id);
    desk.reread(id, 90 * MIB);
    assert_eq!(desk.since(), ["reread 1"], "the first is not answered yet");
    assert_eq!(desk.controller.guards(desk.now)[0].state, "evicting");
    desk.answer(0, &Answer::Failing { code: 500, message: "m".into() });
    desk.wait();
    desk.reread(id, 90 * MIB);
    assert_eq!(desk.since(), ["tell PreOOMEvictionFailed", "reread 1", "post u1"]);
}

#[test]
fn kills_are_counted_once_however_many_there_are_and_only_of_the_guarded() {
    let told = |desk: &mut Desk| desk.since().iter().filter(|s| *s == "tell PreOOMMissed").count();
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
    assert_eq!(told(&mut desk), 1 + 3 * MOST_KILLS);
    // Excluded, as it were: never guarded, and so not missed.
    let mut desk = Desk::new();
    let mut mirror = one("u1");
    mirror["metadata"]["annotations"]["kubernetes.io/config.mirror"] = json!("x");
    desk.apply(&mirror);
    mirror["status"]["containerStatuses"][0]["lastState"] =
        json!({"terminated": {"reason": "OOMKilled", "containerID": format!("x://{}", "c".repeat(64))}});
    desk.apply(&mirror);
    assert_eq!(told(&mut desk), 0);
}

#[test]
fn what_is_settled_for_a_pod_is_shown_for_a_restarted_container_too() {
    let (mut desk, id) = watching();
    desk.cross(id, 0, &Answer::Mistake { code: 400, message: "m".into() });
    desk.apply(&pod("u1", &[("app", "b")], &[("memory-usage-threshold", "60")]));
    desk.over(TargetId(1));
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
    desk.reread(TargetId(0), 90 * MIB);
    desk.answer(1, &Answer::Failing { code: 500, message: "m".into() });
    desk.wait();
    desk.reread(TargetId(0), 90 * MIB);
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
    desk.over(id);
    desk.reread(id, 90 * MIB);
    assert_eq!(desk.since(), ["reread 0", "tell PreOOMEvictionDryRun"]);
    desk.over(id);
    assert_eq!(desk.since(), [""; 0]);
    desk.report(id, What::Dipped);
    desk.over(id);
    desk.reread(id, 90 * MIB);
    assert_eq!(desk.since(), ["reread 0", "tell PreOOMEvictionHeld"], "restraint is the same for a dry run");
    desk.wait();
    desk.reread(id, 90 * MIB);
    assert_eq!(desk.since(), ["reread 0", "tell PreOOMEvictionDryRun"]);
    desk.apply(&one("u1"));
    assert_eq!(desk.since(), ["rule 0"], "the sampler judges anew, and tells again");
}

#[test]
fn a_second_container_is_not_forgotten_when_the_first_turns_out_fine() {
    let mut desk = Desk::new();
    desk.apply(&both(""));
    desk.since();
    let (a, b) = (TargetId(0), TargetId(1));
    desk.over(a);
    desk.over(b);
    desk.reread(a, 10 * MIB);
    assert_eq!(desk.since(), ["reread 0", "rearm 0", "rearm 1"]);
    // The same when the first one's group goes away.
    desk.over(a);
    desk.over(b);
    desk.report(a, What::Gone);
    assert_eq!(desk.since(), ["reread 0", "rearm 1"]);
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
    let (mut looked, mut told, mut settled) = (0, 0, false);
    while desk.now < Duration::from_secs(60) {
        for effect in desk.controller.effects() {
            match effect {
                Effect::Resolve(id, want) => {
                    looked += 1;
                    settled = want.settled;
                    assert!(!want.may_have_none, "without a runtime class it has a group of its own");
                    desk.controller.resolved(desk.now, id, Err(Unresolved::NotFound));
                }
                Effect::Tell(_) => told += 1,
                other => panic!("{other:?}"),
            }
        }
        let next = desk.controller.next_tick().unwrap();
        assert!(next > desk.now || looked == 0, "never at once");
        desk.now = next;
        desk.controller.tick(desk.now);
    }
    assert!((10..20).contains(&looked), "{looked}");
    assert_eq!((told, settled), (1, true));
}
