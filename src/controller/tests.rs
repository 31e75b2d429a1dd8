#![allow(clippy::unwrap_used, reason = "a test")]

use std::time::Duration;

use serde_json::{Value, json};

use super::*;
use crate::cgroup::{Group, Machine, Version};
use crate::guard::{ENABLED, LABEL, PREFIX, Signal};
use crate::pods::PodUid;
use crate::policy::Level;
use crate::units::Bytes;

const MIB: u64 = 1 << 20;
const MACHINE: Machine = Machine { memory: Bytes(8 << 30), swap: Bytes(0) };

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
        room: Some(Bytes(39 * MIB)),
        waived: false,
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
        let me = Me { node: "n".into(), pod_uid: None };
        Desk { controller: Controller::new(me, DryRun::Off, 1), now: Duration::ZERO, seen: Vec::new() }
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
        self.give(|c, now| c.reported(now, Report { id, what }));
    }

    fn over(&mut self, id: TargetId) {
        self.report(id, What::Over { evidence: evidence(), since_last_look: None });
    }

    fn reread(&mut self, id: TargetId, usage: u64) {
        self.give(|c, now| c.reread(now, id, Ok(Some(sample(usage)))));
    }

    fn answer(&mut self, uid: &str, answer: &Answer) {
        let pod = PodRef { namespace: "demo".into(), name: "web".into(), uid: PodUid(uid.into()) };
        self.give(|c, now| c.answered(now, &pod, answer));
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
            Effect::Sampler(Command::Rule(id, _)) => format!("rule {}", id.0),
            Effect::Sampler(Command::Rearm(id)) => format!("rearm {}", id.0),
            Effect::Sampler(Command::Forget(id)) => format!("forget {}", id.0),
            Effect::Reread(id, _) => format!("reread {}", id.0),
            Effect::Post(order) => format!("post {}{}", order.pod.uid.0, if order.dry_run { " dry" } else { "" }),
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
    desk.answer("u1", &Answer::Accepted);
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
    desk.answer("u1", &Answer::Accepted);
    assert_eq!(desk.since(), [""; 0]);
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
    desk.answer("u1", &blocked());
    assert_eq!(desk.since(), ["reread 0", "post u1", "tell PreOOMEvictionBlocked"]);
    for _ in 0..3 {
        desk.now = desk.controller.next_tick().unwrap();
        desk.give(|c, now| c.tick(now));
        desk.reread(id, 90 * MIB);
        desk.answer("u1", &blocked());
        assert_eq!(desk.since(), ["reread 0", "post u1"]);
    }
    desk.now = desk.controller.next_tick().unwrap();
    desk.give(|c, now| c.tick(now));
    desk.reread(id, 10 * MIB);
    assert_eq!(desk.since(), ["reread 0", "rearm 0"], "no longer over: it is watched again");
    assert_eq!(desk.controller.next_tick(), None);
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
    assert_eq!(desk.since(), ["reread 0"]);
    desk.reread(id, 90 * MIB);
    desk.since();
    desk.apply(&one("u1"));
    assert_eq!(desk.since(), ["rule 0"], "the sampler judges anew, and tells again");
    desk.over(id);
    desk.reread(id, 90 * MIB);
    assert_eq!(desk.since(), ["reread 0", "post u1"]);
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
    assert!(desk.controller.listed_at().is_some());
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
