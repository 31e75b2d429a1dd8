//! Raises and restarts: when they are begun, how they are followed, and when the next remedy begins.

use super::*;
use crate::act::warn::Warned;
use crate::decide::step::Resize;
use crate::pods::guard::Remedy;

/// A pod `u1` with one container of 100Mi (as the samples have it), and these annotations besides a threshold of 60 %.
fn listed(annotations: &[(&str, &str)]) -> Value {
    let annotations = [&[("memory-usage-threshold", "60")], annotations].concat();
    let mut pod = pod("u1", &[("app", "a")], &annotations);
    pod["metadata"]["generation"] = json!(1);
    pod["spec"]["containers"][0]["resources"] = json!({"limits": {"memory": "100Mi"}, "requests": {"memory": "50Mi"}});
    pod
}

fn raising(remedies: &str) -> Value {
    listed(&[("remedies", remedies), ("raise-limit-to", "1Gi")])
}

fn restarting(remedies: &str) -> Value {
    let mut pod = listed(&[("remedies", remedies)]);
    pod["spec"]["containers"][0]["resizePolicy"] =
        json!([{"resourceName": "memory", "restartPolicy": "RestartContainer"}]);
    pod
}

fn watching(pod: &Value) -> (Desk, TargetId) {
    let mut desk = Desk::new();
    desk.apply(pod);
    let id = desk.watched()[0];
    desk.since();
    (desk, id)
}

/// A sample of so much, in MiB, of this limit.
fn of(usage: u64, limit: u64) -> Sample {
    let plain = sample(usage * MIB);
    Sample { own: Level { limit: Some(Bytes(limit * MIB)), ..plain.own }, ..plain }
}

impl Desk {
    /// A target is reported above its threshold while it grows so fast, in MiB a second.
    fn crosses(&mut self, id: TargetId, usage: u64, growth: u64) {
        self.else_reads = of(usage, 100);
        let growth = i64::try_from(growth * MIB).unwrap();
        let evidence = Evidence { growth: Some(growth), rise: Some(growth), ..evidence() };
        self.report(id, What::Above { evidence, since_last_sample: None });
    }

    /// At the next look, and from then on, the target holds so much of this limit.
    fn looks(&mut self, usage: u64, limit: u64) {
        self.else_reads = of(usage, limit);
        self.wait();
    }

    /// Lets so much time go on, in milliseconds; at each look the target holds so much, of 100Mi.
    fn looks_for(&mut self, millis: u64, usage: impl Fn(u64) -> u64) {
        let (from, until) = (self.now, self.now + Duration::from_millis(millis));
        while self.controller.next_tick().is_some_and(|at| at <= until) {
            let at = u64::try_from((self.controller.next_tick().unwrap() - from).as_millis()).unwrap();
            self.looks(usage(at), 100);
        }
        self.now = until;
    }

    fn resizes(&self) -> Vec<Resize> {
        let orders = self.seen.iter().filter_map(|e| match e {
            Effect::Post(_, order) => order.resize.clone(),
            _ => None,
        });
        orders.collect()
    }

    fn state(&self) -> (String, String) {
        let guard = self.controller.guards(self.now).remove(0);
        (guard.state.as_str().to_owned(), guard.why)
    }
}

#[test]
fn a_slow_leak_is_raised_and_watched_on() {
    let (mut desk, id) = watching(&raising("raise,evict"));
    desk.crosses(id, 61, 1);
    let resize = Resize { container: "app".into(), sidecar: false, limit: Bytes(125 * MIB), request: None };
    assert_eq!(desk.resizes(), [resize]);
    assert_eq!(desk.since(), ["raise u1"]);
    assert_eq!(desk.state().0, "raising");
    desk.answer(0, &Answer::Accepted);
    desk.looks(61, 100);
    assert_eq!(desk.since(), [""; 0], "stored is not done");
    desk.looks(61, 125);
    assert_eq!(desk.since(), ["rearm 0", "tell PreOOMRaised"], "the kernel has it: it is judged by the new limit");
    assert_eq!((desk.state().0.as_str(), desk.controller.next_tick()), ("watching", None));
    assert_eq!(desk.controller.counts().raised, Bytes(25 * MIB));
    let mut raised = raising("raise,evict");
    raised["spec"]["containers"][0]["resources"]["limits"]["memory"] = json!("125Mi");
    raised["metadata"]["managedFields"] = json!([{"manager": "pre-oom-killer", "subresource": "resize"}]);
    desk.apply(&raised);
    assert_eq!(desk.controller.counts().raised, Bytes(25 * MIB));
    desk.crosses(id, 80, 1);
    assert_eq!(desk.resizes()[0].limit, Bytes(156 * MIB), "and so on, up to the bound");
}

#[test]
fn what_grows_too_fast_for_two_remedies_is_evicted_at_once() {
    let (mut desk, id) = watching(&raising("raise,evict"));
    desk.crosses(id, 61, 50);
    assert_eq!(desk.since(), ["post u1"], "39Mi last 195 ms at four times 50, and an eviction may take 160");
}

/// Nothing is in time at four times the growth, and the raise is the quickest: it has its own time before the next one begins.
#[test]
fn the_quickest_is_given_its_own_time() {
    let (mut desk, id) = watching(&raising("raise,evict"));
    desk.crosses(id, 61, 100);
    assert_eq!(desk.since(), ["raise u1"], "39Mi last 97 ms at four times 100, less than an eviction takes");
    desk.looks_for(40, |ms| 61 + ms / 10);
    assert_eq!(desk.since(), [""; 0]);
    desk.looks(66, 1024);
    assert_eq!(desk.since(), ["rearm 0", "tell PreOOMRaised"]);
    // And no longer than that.
    let (mut desk, id) = watching(&raising("raise,evict"));
    desk.crosses(id, 61, 100);
    desk.since();
    desk.looks_for(80, |ms| 61 + ms / 10);
    assert_eq!(desk.since(), [""; 0]);
    desk.looks_for(10, |ms| 69 + ms / 10);
    assert_eq!(desk.since(), ["tell PreOOMRemedyFailed", "post u1"]);
    // Nor so long where it grows four times as fast.
    let (mut desk, id) = watching(&raising("raise,evict"));
    desk.crosses(id, 61, 100);
    desk.since();
    desk.looks_for(30, |ms| 61 + 4 * ms / 10);
    assert_eq!(desk.since(), ["tell PreOOMRemedyFailed", "post u1"]);
}

/// Growth turns out to be such that an eviction comes too late, and the raise under way does not: it is waited for.
#[test]
fn what_is_still_in_time_does_not_give_way_to_what_is_not() {
    let (mut desk, id) = watching(&raising("raise,evict"));
    desk.crosses(id, 61, 20);
    assert_eq!(desk.since(), ["raise u1"], "39Mi last half a second");
    desk.looks_for(20, |ms| 61 + 300 * ms / 1000);
    assert_eq!(desk.since(), [""; 0], "33Mi last 110 ms: less than an eviction takes, and enough for the raise");
    desk.looks(67, 1024);
    assert_eq!(desk.since(), ["rearm 0", "tell PreOOMRaised"]);
}

/// There is hardly time for anything: the one with the better odds is tried.
#[test]
fn where_nothing_is_in_time_the_odds_decide() {
    let (mut desk, id) = watching(&raising("raise,evict"));
    desk.crosses(id, 61, 1000);
    desk.looks_for(30, |ms| 61 + ms);
    assert_eq!(desk.since(), ["raise u1"], "39 ms are left, a raise mostly takes 44, and an eviction 60");
    let (mut desk, id) = watching(&raising("raise,evict"));
    (0..5).for_each(|_| desk.controller.latencies.ended("demo", Duration::from_millis(40)));
    desk.crosses(id, 61, 1000);
    assert_eq!(desk.since(), ["post u1"], "here evictions are the quicker ones");
    let (mut desk, id) = watching(&restarting("restart,evict"));
    desk.crosses(id, 61, 1000);
    assert_eq!(desk.since(), ["post u1"], "an eviction needs no question");
}

/// What shuts down slowly is raised all the same: an eviction would take longer than there is, a raise does not.
#[test]
fn a_slow_shutdown_is_no_reason_to_skip_a_raise() {
    let (mut desk, id) = watching(&raising("raise,evict"));
    (0..3).for_each(|_| desk.controller.latencies.ended("demo", Duration::from_secs(5)));
    desk.crosses(id, 61, 8);
    assert_eq!(desk.since(), ["raise u1"]);
    desk.looks_for(40, |_| 61);
    desk.looks(61, 1024);
    assert_eq!(desk.since(), ["rearm 0", "tell PreOOMRaised"]);
}

/// A raise that the kubelet had put off, or a single slow one, says nothing of the next.
#[test]
fn one_slow_raise_locks_nobody_out() {
    let (mut desk, id) = watching(&raising("raise,evict"));
    let p90 = desk.controller.latencies.raise.spread.p90;
    desk.crosses(id, 61, 0);
    desk.looks_for(900, |_| 61);
    desk.looks(61, 125);
    assert_eq!(desk.controller.latencies.raise.spread.p90, p90);
    (0..20).for_each(|_| desk.controller.latencies.raise.learn(Duration::from_millis(30)));
    assert_eq!(desk.controller.latencies.raise.spread.p90, Duration::from_millis(30), "but many are learned");
}

/// A restart is agreed and accepted, and has no effect for as long as it may take.
fn gives_up_a_restart(mut desk: Desk, pod: &Value) -> (Desk, TargetId) {
    desk.apply(pod);
    let id = desk.watched()[0];
    desk.crosses(id, 61, 1);
    desk.answer(0, &Answer::Accepted);
    desk.answer(1, &Answer::Accepted);
    desk.since();
    desk.looks_for(31_000, |_| 61);
    (desk, id)
}

/// The node's budget has one token.
fn with_one_token() -> Desk {
    let hour = Duration::from_secs(3600);
    Desk::with(Limits { burst: 1, rescue_burst: 0, refill: hour, minimum_age: Duration::ZERO })
}

/// The token of a restart that came too late is that of the eviction in its place.
#[test]
fn a_restart_that_is_given_up_holds_nothing_back() {
    let (mut desk, id) = gives_up_a_restart(Desk::new(), &restarting("restart,evict"));
    assert_eq!(desk.since(), ["tell PreOOMRemedyFailed", "post u1"]);
    // It ends after all.
    desk.answer(2, &Answer::Refused { code: 403, message: "no".into() });
    desk.since();
    desk.report(id, What::Gone);
    assert_eq!(desk.since(), ["tell PreOOMRestarted"]);
}

/// The restart has its effect before any other remedy begins: whatever comes after it takes a token of its own.
#[test]
fn a_restart_that_is_given_up_and_comes_after_all_is_counted() {
    let mut pod = restarting("restart");
    let (mut desk, id) = gives_up_a_restart(with_one_token(), &pod);
    assert_eq!(desk.since(), ["tell PreOOMRemedyFailed"]);
    desk.report(id, What::Gone);
    assert_eq!(desk.since(), ["tell PreOOMRestarted"]);
    pod["metadata"]["generation"] = json!(2);
    pod["status"]["containerStatuses"][0]["containerID"] = json!(format!("x://{}", "b".repeat(64)));
    desk.apply(&pod);
    let again = *desk.watched().last().unwrap();
    desk.now += Duration::from_secs(60);
    desk.since();
    desk.crosses(again, 61, 1);
    assert_eq!((desk.since(), desk.state().0.as_str()), (vec!["tell PreOOMEvictionHeld".to_owned()], "held"));
}

/// The eviction in its place has its token, and is refused before or after the restart has its effect: the token is spent.
#[test]
fn a_restart_that_is_given_up_is_counted_although_its_eviction_is_refused() {
    for refused_first in [true, false] {
        let (mut desk, id) = gives_up_a_restart(with_one_token(), &restarting("restart,evict"));
        assert_eq!(desk.since(), ["tell PreOOMRemedyFailed", "post u1"]);
        let refuse = |desk: &mut Desk| desk.answer(2, &Answer::Refused { code: 403, message: "no".into() });
        if refused_first {
            refuse(&mut desk);
        }
        desk.report(id, What::Gone);
        if !refused_first {
            refuse(&mut desk);
        }
        desk.since();
        // Another pod of another owner finds the node's budget spent.
        desk.apply(&one("u2"));
        let other = *desk.watched().last().unwrap();
        desk.since();
        desk.above(other);
        assert_eq!(desk.since(), ["tell PreOOMEvictionHeld"], "{refused_first}");
    }
}

/// A held restart has to begin before the deadline of an eviction, which is the one that the sampler reports.
#[test]
fn a_held_restart_begins_at_its_own_deadline() {
    let mut pod = restarting("restart,evict");
    pod["status"]["containerStatuses"][0]["state"]["running"]["startedAt"] = json!(WALL);
    let mut desk = Desk::with(Limits::default());
    desk.apply(&pod);
    let id = desk.watched()[0];
    desk.since();
    desk.crosses(id, 61, 0);
    assert_eq!(desk.since(), ["tell PreOOMEvictionHeld"]);
    // Its growth is certain by now, and nothing is reported.
    let evidence = Evidence { growth: Some(16 << 20), growth_at_least: 16 << 20, ..evidence() };
    let GroupState::Watched { view, .. } = &desk.controller.pods.values().next().unwrap().targets[0].state else {
        panic!()
    };
    view.show(of(61, 100), 16 << 20);
    view.show_above(evidence);
    desk.else_reads = of(65, 100);
    desk.wait();
    assert_eq!((desk.since(), desk.state().0.as_str()), (vec![], "held"), "35Mi last 2.2 s");
    desk.else_reads = of(70, 100);
    desk.wait();
    assert_eq!(desk.since(), ["post u1 dry"], "30Mi last 1.9 s: four times what both take, and 0.5 s");
}

/// The kubelet is ending the process, in its grace period: an eviction would hurry nothing, and end the rest of the pod.
#[test]
fn a_restart_in_its_grace_period_is_waited_for() {
    let mut pod = restarting("restart,evict");
    pod["spec"]["terminationGracePeriodSeconds"] = json!(10);
    let (mut desk, id) = watching(&pod);
    desk.crosses(id, 61, 20);
    desk.answer(0, &Answer::Accepted);
    assert_eq!(desk.followed(), [id]);
    desk.answer(1, &Answer::Accepted);
    desk.since();
    pod["status"]["conditions"] = json!([{"type": "PodResizeInProgress", "status": "True"}]);
    desk.apply(&pod);
    desk.looks_for(3_000, |ms| 61 + 30 * ms / 3000);
    assert_eq!(desk.since(), [""; 0]);
    // Not for ever: by then it had to be killed.
    desk.looks_for(13_000, |_| 91);
    assert_eq!(desk.since(), ["tell PreOOMRemedyFailed", "post u1"]);
    // A resize that failed ends nothing.
    let (mut desk, id) = watching(&pod);
    desk.crosses(id, 61, 20);
    desk.answer(0, &Answer::Accepted);
    desk.answer(1, &Answer::Accepted);
    pod["status"]["conditions"][0]["reason"] = json!("Error");
    desk.apply(&pod);
    desk.since();
    desk.looks_for(1_000, |ms| 61 + 30 * ms / 1000);
    assert_eq!(desk.since(), ["tell PreOOMRemedyFailed", "post u1"]);
}

/// The raise is stored, and never carried out: the eviction begins while there is just enough time for it.
#[test]
fn a_raise_without_effect_gives_way_in_time() {
    let (mut desk, id) = watching(&raising("raise,evict"));
    desk.crosses(id, 61, 20);
    assert_eq!(desk.since(), ["raise u1"], "39Mi last 487 ms at four times 20");
    desk.answer(0, &Answer::Accepted);
    let begun = desk.now;
    // It grows four times as fast as was seen.
    desk.looks_for(300, |ms| 61 + 80 * ms / 1000);
    assert_eq!(desk.since(), [""; 0]);
    desk.looks_for(30, |ms| 85 + 80 * ms / 1000);
    assert_eq!(desk.since(), ["tell PreOOMRemedyFailed", "post u1"]);
    assert!(desk.now - begun < Duration::from_millis(340), "and 175 ms are left");
    desk.answer(1, &Answer::Accepted);
    assert_eq!(desk.since(), ["tell PreOOMEvicted"]);
}

/// The same of a restart, whose token is no reason to hold the eviction back.
#[test]
fn a_restart_without_effect_gives_way_in_time() {
    let (mut desk, id) = watching(&restarting("restart,evict"));
    desk.crosses(id, 61, 20);
    desk.answer(0, &Answer::Accepted);
    desk.answer(1, &Answer::Accepted);
    assert_eq!(desk.since(), ["post u1 dry", "restart u1"], "39Mi last 487 ms at four times 20");
    desk.looks_for(270, |ms| 61 + 80 * ms / 1000);
    assert_eq!(desk.since(), [""; 0]);
    desk.looks_for(60, |ms| 82 + 80 * ms / 1000);
    assert_eq!(desk.since(), ["tell PreOOMRemedyFailed", "post u1"]);
}

/// While nothing grows, there is no hurry.
#[test]
fn a_raise_that_is_put_off_is_waited_for_while_there_is_time() {
    let (mut desk, id) = watching(&raising("raise,evict"));
    desk.crosses(id, 61, 0);
    desk.answer(0, &Answer::Accepted);
    desk.since();
    desk.looks_for(29_000, |_| 61);
    assert_eq!(desk.since(), [""; 0]);
    desk.looks_for(2_000, |_| 61);
    assert_eq!(desk.since(), ["tell PreOOMRemedyFailed", "post u1"], "in the end it has failed");
}

/// However late it is, the last moment of the eviction is not missed between two looks.
#[test]
fn a_raise_that_is_put_off_is_looked_at_in_time() {
    let (mut desk, id) = watching(&raising("raise,evict"));
    desk.crosses(id, 61, 4);
    desk.answer(0, &Answer::Accepted);
    let begun = desk.now;
    // 15 MiB a second, almost four times what was seen, and in bytes.
    while !desk.resizes().is_empty()
        && desk.seen.iter().all(|e| !matches!(e, Effect::Post(_, order) if order.act == Act::Evict))
    {
        let at = desk.controller.next_tick().unwrap();
        let used = (15.9 * (at - begun).as_secs_f64() * MIB as f64) as u64;
        let mut sample = of(61, 100);
        sample.own.usage = Bytes(61 * MIB + used);
        sample.own.most_usage = sample.own.usage;
        desk.else_reads = sample;
        desk.wait();
        assert!(desk.now < begun + Duration::from_secs(10));
    }
    let left = 39.0 / 15.9 - (desk.now - begun).as_secs_f64();
    assert!((0.160..0.200).contains(&left), "an eviction takes 160 ms, and {left} are left");
}

/// The kubelet has put a raise off. It is not asked for again in the next rise.
#[test]
fn a_raise_that_was_put_off_is_not_repeated_until_the_spec_changes() {
    let mut pod = raising("raise,evict");
    let (mut desk, id) = watching(&pod);
    desk.crosses(id, 61, 20);
    desk.answer(0, &Answer::Accepted);
    pod["metadata"]["generation"] = json!(2);
    pod["status"]["conditions"] = json!([{"type": "PodResizePending", "status": "True", "reason": "Deferred"}]);
    desk.apply(&pod);
    desk.looks_for(2_000, |ms| 61 + 20 * ms / 1000);
    assert_eq!(desk.since(), ["raise u1", "tell PreOOMRemedyFailed", "post u1"]);
    desk.answer(1, &Answer::Blocked { budget: None, message: "m".into(), retry_after: None });
    desk.report(id, What::Dipped);
    desk.crosses(id, 61, 1);
    desk.looks_for(60_000, |_| 61);
    assert!(!desk.since().contains(&"raise u1".to_owned()));
}

#[test]
fn a_refusal_stands_until_the_spec_changes() {
    let (mut desk, id) = watching(&raising("raise,evict"));
    desk.crosses(id, 61, 1);
    let quota = Answer::Refused { code: 403, message: "exceeded quota: q".into() };
    desk.answer(0, &quota);
    assert_eq!(desk.since(), ["raise u1", "tell PreOOMRemedyFailed", "post u1"], "the next one begins at once");
    desk.answer(1, &Answer::Blocked { budget: None, message: "m".into(), retry_after: None });
    desk.report(id, What::Dipped);
    desk.since();
    desk.now += Duration::from_secs(60);
    desk.crosses(id, 61, 1);
    assert_eq!(desk.since(), ["post u1"], "not again");
    desk.answer(2, &Answer::Blocked { budget: None, message: "m".into(), retry_after: None });
    desk.report(id, What::Dipped);
    desk.since();
    let mut changed = raising("raise,evict");
    changed["metadata"]["generation"] = json!(2);
    desk.apply(&changed);
    desk.crosses(id, 61, 1);
    assert_eq!(desk.since(), ["raise u1"]);
}

#[test]
fn a_list_without_evict_never_ends_the_pod() {
    for pod in [raising("raise"), restarting("restart")] {
        let (mut desk, id) = watching(&pod);
        desk.node = None;
        desk.crosses(id, 61, 1000);
        desk.answer(0, &Answer::Refused { code: 403, message: "no".into() });
        desk.looks_for(120_000, |_| 99);
        let seen = desk.seen.iter().filter_map(|e| match e {
            Effect::Post(_, order) if !order.dry_run => Some(order.act),
            _ => None,
        });
        assert!(seen.clone().all(|act| act.remedy() != Remedy::Evict), "{:?}", seen.collect::<Vec<_>>());
    }
}

#[test]
fn nothing_possible_is_said_once_and_tried_again() {
    let mut plain = raising("raise");
    plain["spec"]["containers"][0]["resizePolicy"] =
        json!([{"resourceName": "memory", "restartPolicy": "RestartContainer"}]);
    let (mut desk, id) = watching(&plain);
    desk.crosses(id, 61, 1);
    assert_eq!(desk.since(), ["tell PreOOMNoRemedy"]);
    let (state, why) = desk.state();
    assert_eq!((state.as_str(), desk.controller.counts().no_remedy), ("no-remedy", 1));
    assert!(why.contains("raise: it would restart the container"), "{why}");
    desk.looks(61, 100);
    assert_eq!(desk.since(), [""; 0], "once");
    desk.apply(&raising("raise"));
    desk.looks(61, 100);
    assert_eq!(desk.since(), ["raise u1"]);
}

#[test]
fn the_node_bounds_all_raises_together() {
    let (mut desk, id) = watching(&raising("raise,evict"));
    desk.node = Some(NodeMemory { total: Bytes(1000 * MIB), available: Bytes(110 * MIB) });
    desk.crosses(id, 61, 1);
    assert_eq!(desk.resizes()[0].limit, Bytes(110 * MIB), "a tenth of the machine stays available");
    for node in [None, Some(NodeMemory { total: Bytes(1000 * MIB), available: Bytes(100 * MIB) })] {
        let (mut desk, id) = watching(&raising("raise,evict"));
        desk.node = node;
        desk.crosses(id, 61, 1);
        assert_eq!(desk.since(), ["post u1"]);
    }
    // What an earlier agent has raised counts: by the request, for the limit that it was is not known.
    let mut raised = raising("raise,evict");
    raised["metadata"]["managedFields"] = json!([{"manager": "pre-oom-killer", "subresource": "resize"}]);
    let (mut desk, id) = watching(&raised);
    desk.node = Some(NodeMemory { total: Bytes(500 * MIB), available: Bytes(400 * MIB) });
    assert_eq!(desk.controller.counts().raised, Bytes(50 * MIB));
    desk.crosses(id, 61, 1);
    assert_eq!(desk.since(), ["post u1"], "50Mi are a tenth of 500Mi");
}

#[test]
fn a_limit_that_somebody_lowers_is_left_alone() {
    let (mut desk, id) = watching(&raising("raise,evict"));
    desk.crosses(id, 61, 1);
    desk.looks(61, 125);
    let mut vpa = raising("raise,evict");
    for (generation, limit) in [(2, "125Mi"), (3, "100Mi")] {
        vpa["metadata"]["generation"] = json!(generation);
        vpa["spec"]["containers"][0]["resources"]["limits"]["memory"] = json!(limit);
        desk.apply(&vpa);
    }
    desk.since();
    desk.crosses(id, 61, 1);
    assert_eq!(desk.since(), ["post u1"]);
}

/// The watch is behind the kernel: what it shows after a raise may be from before it.
#[test]
fn what_was_written_before_a_raise_lowers_nothing() {
    let (mut desk, id) = watching(&raising("raise,evict"));
    desk.crosses(id, 61, 1);
    desk.looks(61, 125);
    desk.apply(&raising("raise,evict"));
    desk.since();
    desk.else_reads = of(80, 125);
    desk.report(id, What::Above { evidence: evidence(), since_last_sample: None });
    assert_eq!(desk.resizes()[0].limit, Bytes(156 * MIB), "from the kernel's limit");
}

#[test]
fn a_refusal_that_comes_late_stands_too() {
    let (mut desk, id) = watching(&raising("raise,evict"));
    desk.crosses(id, 61, 20);
    desk.looks_for(330, |ms| 61 + 80 * ms / 1000);
    assert_eq!(desk.since(), ["raise u1", "tell PreOOMRemedyFailed", "post u1"]);
    desk.answer(0, &Answer::Refused { code: 403, message: "exceeded quota: q".into() });
    desk.answer(1, &Answer::Blocked { budget: None, message: "m".into(), retry_after: None });
    desk.report(id, What::Dipped);
    desk.since();
    desk.now += Duration::from_secs(60);
    desk.crosses(id, 61, 1);
    assert_eq!(desk.since(), ["post u1"]);
}

/// The kernel was quicker: nobody says that it was a restart in time.
#[test]
fn a_kill_during_a_restart_is_no_restart() {
    let (mut desk, id) = watching(&restarting("restart,evict"));
    desk.crosses(id, 61, 1);
    desk.answer(0, &Answer::Accepted);
    desk.answer(1, &Answer::Accepted);
    desk.since();
    desk.report(id, What::Killed { count: 1, together: false, hit: Hit::Own, last: None });
    desk.report(id, What::Gone);
    assert_eq!(desk.since(), [""; 0]);
}

/// One container waits for its raise; another one of the pod cannot wait for that.
#[test]
fn another_container_does_not_wait_for_a_raise() {
    let mut pod = raising("raise,evict");
    pod["metadata"]["annotations"][format!("{PREFIX}target-container-name")] = json!("app,side");
    let side = json!({"name": "side", "resources": {"limits": {"memory": "100Mi"}}});
    pod["spec"]["containers"].as_array_mut().unwrap().push(side);
    let running = json!({"name": "side", "containerID": format!("x://{}", "b".repeat(64)), "state": {"running": {}}});
    pod["status"]["containerStatuses"].as_array_mut().unwrap().push(running);
    let mut desk = Desk::new();
    desk.apply(&pod);
    let [app, side] = desk.watched()[..] else { panic!() };
    desk.since();
    desk.crosses(app, 61, 0);
    assert_eq!(desk.since(), ["raise u1"]);
    desk.crosses(side, 61, 300);
    desk.looks_for(10, |_| 61);
    assert!(desk.since().contains(&"raise u1".to_owned()), "the quickest for the other one");
}

/// Nor for the grace period of a restart.
#[test]
fn another_container_does_not_wait_for_the_end_of_a_restart() {
    let mut pod = restarting("restart,evict");
    pod["metadata"]["annotations"][format!("{PREFIX}target-container-name")] = json!("app,side");
    let mut side = pod["spec"]["containers"][0].clone();
    side["name"] = json!("side");
    pod["spec"]["containers"].as_array_mut().unwrap().push(side);
    let running = json!({"name": "side", "containerID": format!("x://{}", "b".repeat(64)), "state": {"running": {}}});
    pod["status"]["containerStatuses"].as_array_mut().unwrap().push(running);
    pod["status"]["conditions"] = json!([{"type": "PodResizeInProgress", "status": "True"}]);
    let mut desk = Desk::new();
    desk.apply(&pod);
    let [app, side] = desk.watched()[..] else { panic!() };
    desk.crosses(app, 61, 1);
    desk.answer(0, &Answer::Accepted);
    desk.answer(1, &Answer::Accepted);
    desk.since();
    desk.crosses(side, 61, 100);
    desk.looks_for(20, |_| 61);
    assert_eq!(desk.since(), ["tell PreOOMRemedyFailed", "post u1"]);
}

#[test]
fn what_dips_while_the_budgets_are_asked_is_not_restarted() {
    let (mut desk, id) = watching(&restarting("restart,evict"));
    desk.crosses(id, 61, 1);
    desk.report(id, What::Dipped);
    desk.answer(0, &Answer::Accepted);
    assert_eq!(desk.since(), ["post u1 dry"]);
}

/// The budgets are asked first. The group's end is the proof.
#[test]
fn a_restart_asks_and_ends_with_the_group() {
    let (mut desk, id) = watching(&restarting("restart,evict"));
    desk.crosses(id, 61, 1);
    assert_eq!(desk.since(), ["post u1 dry"]);
    desk.answer(0, &Answer::Accepted);
    assert_eq!(desk.resizes()[0].limit, Bytes(100 * MIB + 1), "one byte is enough");
    assert_eq!(desk.since(), ["restart u1"]);
    assert_eq!(desk.state().0, "restarting");
    desk.answer(1, &Answer::Accepted);
    desk.report(id, What::Gone);
    assert_eq!(desk.since(), ["tell PreOOMRestarted"]);
}

#[test]
fn a_budget_that_blocks_an_eviction_blocks_a_restart() {
    let (mut desk, id) = watching(&restarting("restart,evict"));
    desk.crosses(id, 61, 1);
    desk.answer(0, &Answer::Blocked { budget: Some("b".into()), message: "m".into(), retry_after: None });
    let seen = desk.since();
    assert!(!seen.contains(&"restart u1".to_owned()), "{seen:?}");
    // When the eviction is due again, the restart is asked for before it: the budget may have opened.
    for order in [1, 2, 3] {
        desk.answer(2 * order - 1, &Answer::Blocked { budget: None, message: "m".into(), retry_after: None });
        desk.wait();
        let seen: Vec<String> = desk.since().into_iter().filter(|kind| kind.starts_with("post")).collect();
        assert_eq!(seen.last().map(String::as_str), Some("post u1 dry"), "{order}: {seen:?}");
        if order < 3 {
            desk.answer(2 * order, &Answer::Blocked { budget: None, message: "m".into(), retry_after: None });
        }
    }
    desk.answer(6, &Answer::Accepted);
    assert_eq!(desk.since(), ["restart u1"]);
    // Without another remedy, it is asked again, at a growing distance.
    let (mut desk, id) = watching(&restarting("restart"));
    desk.crosses(id, 61, 1);
    for order in 0..4 {
        desk.answer(order, &Answer::Blocked { budget: None, message: "m".into(), retry_after: None });
        assert_eq!((desk.state().0.as_str(), desk.controller.counts().blocked), ("blocked", 1), "{:?}", desk.state());
        desk.wait();
    }
    assert!(desk.now > Duration::from_secs(5), "{:?}", desk.now);
    let asked = desk.since().iter().filter(|kind| *kind == "post u1 dry").count();
    assert_eq!(asked, 5);
}

/// The answer to the question says nothing of the restart, which is tried again, and the Event says so.
#[test]
fn a_refused_question_is_asked_again_and_a_refused_restart_is_not() {
    let refused = Answer::Refused { code: 403, message: "m".into() };
    for answered in [0, 1] {
        let (mut desk, id) = watching(&restarting("restart"));
        desk.crosses(id, 61, 1);
        for order in 0..answered {
            desk.answer(order, &Answer::Accepted);
        }
        desk.seen.clear();
        desk.answer(answered, &refused);
        let words = desk.seen.iter().find_map(|effect| match effect {
            Effect::Notify(notice) => Some(notice.words()),
            _ => None,
        });
        let words = words.unwrap();
        let (says, then) = match answered {
            0 => ("Restart refused (403: m); retrying once a minute", "post u1 dry"),
            _ => ("Restart refused (403: m); not tried again until the pod's spec changes", "tell PreOOMNoRemedy"),
        };
        assert!(words.starts_with(says), "{words}");
        (0..3).for_each(|_| desk.wait());
        let seen = desk.since();
        assert!(seen.contains(&then.to_owned()), "{answered}: {seen:?}");
        assert_eq!(seen.contains(&"post u1 dry".to_owned()), answered == 0, "{seen:?}");
    }
}

/// Somebody raises the limit while the budgets are asked: a restart with the old one would lower it.
#[test]
fn a_restart_never_lowers_a_limit_that_rose_meanwhile() {
    let (mut desk, id) = watching(&restarting("restart"));
    desk.crosses(id, 61, 1);
    assert_eq!(desk.since(), ["post u1 dry"]);
    desk.else_reads = of(151, 200);
    desk.answer(0, &Answer::Accepted);
    desk.wait();
    assert!(!desk.since().contains(&"restart u1".to_owned()), "it is asked anew");
    desk.answer(1, &Answer::Accepted);
    assert_eq!(desk.resizes().last().unwrap().limit, Bytes(200 * MIB + 1));
    // Nor raises one that was lowered meanwhile by more than the smallest step.
    let mut pod = restarting("restart");
    let (mut desk, id) = watching(&pod);
    desk.crosses(id, 61, 1);
    desk.since();
    pod["spec"]["containers"][0]["resources"]["limits"]["memory"] = json!("90Mi");
    desk.apply(&pod);
    desk.else_reads = of(61, 90);
    desk.answer(0, &Answer::Accepted);
    desk.wait();
    assert!(!desk.since().contains(&"restart u1".to_owned()), "it is asked anew");
}

/// What the watch shows after a raise may be older than it.
#[test]
fn an_old_limit_in_the_watch_is_not_lowered_by_anybody() {
    let (mut desk, id) = watching(&raising("raise,evict"));
    desk.crosses(id, 61, 1);
    desk.looks(61, 125);
    desk.apply(&raising("raise,evict"));
    assert_eq!(desk.controller.counts().raised, Bytes(25 * MIB), "it counts, seen or not");
    desk.since();
    desk.crosses(id, 61, 1);
    assert_eq!(desk.since(), ["raise u1"]);
}

/// A container that fills up soon after each restart: three times it is restarted, then its pod is evicted.
#[test]
fn restarts_are_not_repeated_for_ever() {
    let mut desk = Desk::with(Limits::default());
    let mut pod = restarting("restart,evict");
    for (n, digit) in ["a", "b", "c", "d"].iter().enumerate() {
        pod["status"]["containerStatuses"][0]["containerID"] = json!(format!("x://{}", digit.repeat(64)));
        pod["status"]["containerStatuses"][0]["state"]["running"]["startedAt"] = json!(WALL);
        desk.apply(&pod);
        let id = *desk.watched().last().unwrap();
        desk.seen.clear();
        desk.else_reads = of(61, 100);
        let growth = i64::try_from(25 * MIB).unwrap();
        let evidence = Evidence { growth: Some(growth), growth_at_least: growth, ..evidence() };
        desk.report(id, What::Above { evidence, since_last_sample: None });
        let restarts = desk.seen.iter().any(|e| matches!(e, Effect::Post(_, order) if order.dry_run));
        assert_eq!(restarts, n < 3, "{n}: {:?} {:?}", desk.seen, desk.state());
        if restarts {
            let order = 2 * u64::try_from(n).unwrap();
            desk.answer(order, &Answer::Accepted);
            desk.answer(order + 1, &Answer::Accepted);
            desk.report(id, What::Gone);
            desk.now += Duration::from_secs(1);
        }
    }
    assert_eq!(desk.state().0, "held", "the next remedy is an eviction, which may still wait");
}

#[test]
fn a_dry_run_sends_nothing_or_asks() {
    for (mode, sent) in [("client", vec!["tell PreOOMRemedyDryRun"]), ("server", vec!["raise u1 dry"])] {
        let pod = listed(&[("remedies", "raise,evict"), ("raise-limit-to", "1Gi"), ("dry-run", mode)]);
        let (mut desk, id) = watching(&pod);
        desk.crosses(id, 61, 1);
        assert_eq!(desk.since(), sent);
        if mode == "server" {
            desk.answer(0, &Answer::Accepted);
            assert_eq!(desk.since(), ["tell PreOOMRemedyDryRun"]);
        }
        assert_eq!(desk.state().0, "dry-run");
    }
}

/// The agent that may not resize, and the one without the permission.
#[test]
fn what_the_agent_may_not_do_drops_out() {
    let mut desk = Desk::new();
    desk.controller.settings.remedies = Allowed::default();
    desk.apply(&raising("raise,evict"));
    desk.crosses(TargetId(0), 61, 1);
    assert_eq!(desk.since().last().unwrap(), "post u1");
}

/// An answer to the raise comes after the kernel has shown it, or after it was given up.
#[test]
fn late_answers_change_nothing() {
    let (mut desk, id) = watching(&raising("raise,evict"));
    desk.crosses(id, 61, 1);
    desk.looks(61, 125);
    desk.since();
    desk.answer(0, &Answer::Accepted);
    assert_eq!(desk.since(), [""; 0]);
    assert_eq!(desk.controller.sizes().in_flight, 0);
}

/// A raise that may have been carried out is not lost: the kernel's file shows it.
#[test]
fn an_answer_that_is_lost_is_no_end() {
    let (mut desk, id) = watching(&raising("raise,evict"));
    desk.crosses(id, 61, 1);
    desk.answer(0, &Answer::Unknown { message: "m".into() });
    desk.looks(61, 125);
    assert_eq!(desk.since(), ["raise u1", "rearm 0", "tell PreOOMRaised"]);
}

/// A budget blocks the eviction, and there is time for a raise now.
#[test]
fn a_blocked_eviction_leaves_the_raise() {
    let (mut desk, id) = watching(&raising("evict,raise"));
    desk.crosses(id, 61, 1);
    desk.answer(0, &Answer::Blocked { budget: None, message: "m".into(), retry_after: None });
    assert_eq!(desk.since(), ["post u1", "tell PreOOMEvictionBlocked", "raise u1"]);
}

/// A pod that has an address, and wants to be warned above a half.
fn warned() -> Value {
    let mut pod = listed(&[("warn-threshold", "50"), ("warn-url", ":8080/low?all=1")]);
    pod["status"]["podIP"] = json!("10.88.0.7");
    pod
}

#[test]
fn a_warning_goes_out_once_a_minute_and_its_effect_is_told() {
    let (mut desk, id) = watching(&warned());
    let half = Evidence { value: Bytes(51 * MIB), threshold: Bytes(50 * MIB), ..evidence() };
    desk.report(id, What::Warned(half));
    let Some(Effect::Warn(_, warning)) = desk.seen.last() else { panic!("{:?}", desk.seen) };
    assert_eq!((warning.to, warning.path.as_str()), ("10.88.0.7:8080".parse().unwrap(), "/low?all=1"));
    let body = serde_json::to_value(warning).unwrap();
    let expected = json!({"namespace": "demo", "pod": "web", "container": "app", "signal": "working-set",
        "value": 51 * MIB, "threshold": 50 * MIB, "limit": 100 * MIB, "growth": 7, "timeLeftMs": 39 * MIB * 1000 / 7});
    assert_eq!(body, expected);
    desk.report(id, What::Warned(half));
    assert_eq!(desk.since(), ["warn 0"], "not while one is under way");
    desk.give(|c, _| c.warned(id, Warned::Heard));
    desk.report(id, What::Warned(half));
    assert_eq!(desk.since(), [""; 0], "nor within a minute");
    desk.wait();
    let Some(Effect::Notify(notice)) = desk.seen.last() else { panic!("{:?}", desk.seen) };
    assert!(notice.words().starts_with("Warned, and it did not help: working-set 51Mi"), "{}", notice.words());
    assert!(desk.now >= Duration::from_secs(10) && desk.controller.next_tick().is_none());
    desk.now += Duration::from_secs(60);
    desk.since();
    desk.report(id, What::Warned(half));
    assert_eq!(desk.since(), ["warn 0"]);
    desk.wait();
    let Some(Effect::Notify(notice)) = desk.seen.last() else { panic!("{:?}", desk.seen) };
    assert!(notice.words().starts_with("The warning failed (no answer), and it did not help"), "{}", notice.words());
}

/// Its target is another one after that.
#[test]
fn a_guard_that_is_invalid_for_a_moment_is_no_reason_to_warn_again() {
    let (mut desk, id) = watching(&warned());
    let half = Evidence { value: Bytes(51 * MIB), threshold: Bytes(50 * MIB), ..evidence() };
    desk.report(id, What::Warned(half));
    let mut invalid = warned();
    invalid["metadata"]["annotations"][format!("{PREFIX}memory-usage-threshold")] = json!("60m");
    desk.apply(&invalid);
    desk.apply(&warned());
    let again = *desk.watched().last().unwrap();
    assert_ne!(again, id);
    desk.since();
    desk.report(again, What::Warned(half));
    assert_eq!(desk.since(), [""; 0], "not within a minute");
    desk.now += Duration::from_secs(60);
    desk.report(again, What::Warned(half));
    assert_eq!(desk.since(), ["warn 1"]);
}

#[test]
fn nobody_is_warned_in_a_dry_run_or_at_an_address_of_others() {
    let half = Evidence { value: Bytes(51 * MIB), threshold: Bytes(50 * MIB), ..evidence() };
    let tell = |pod: &Value| {
        let (mut desk, id) = watching(pod);
        desk.report(id, What::Warned(half));
        desk.report(id, What::Warned(half));
        desk.since()
    };
    let key = |key: &str| format!("{PREFIX}{key}");
    for mode in ["client", "server"] {
        let mut dry = warned();
        dry["metadata"]["annotations"][key("dry-run")] = json!(mode);
        assert_eq!(tell(&dry), ["tell PreOOMWarned"]);
    }
    let mut host = warned();
    host["spec"]["hostNetwork"] = json!(true);
    assert_eq!(tell(&host), ["tell PreOOMWarned"], "why not, once");
    let mut terminating = warned();
    terminating["metadata"]["deletionTimestamp"] = json!(WALL);
    let (mut desk, id) = watching(&warned());
    desk.apply(&terminating);
    desk.report(id, What::Warned(half));
    assert_eq!(desk.since(), [""; 0]);
}
