//! The agent's own requests, and what it takes the answers for.

use std::time::Duration;

use pre_oom_killer::act::answer::Answer;
use pre_oom_killer::act::evict::evict;
use pre_oom_killer::act::order::{Act, Order};
use serde_json::{Value, json};

use crate::recorded::end_namespace;
use crate::server::Who;
use crate::world::{Cluster, World, allows, blocks};

/// The uid of no pod.
const NOBODY: &str = "00000000-0000-0000-0000-000000000000";

/// Sends the order as the agent does.
pub fn ask(world: &World<'_>, who: &Who, order: &Order) -> Answer {
    world.server.as_(who, |client| async move {
        // A client that is new for each request has no connection to be rid of.
        evict(&client, std::future::ready(None), order).await
    })
}

fn order(world: &World<'_>, name: &str, uid: &str) -> Order {
    Order { pod: world.pod_ref(name, uid), act: Act::Evict, grace: None, resize: None, dry_run: false }
}

fn is_ending(pod: &Value) -> bool {
    pod["metadata"]["deletionTimestamp"].is_string()
}

pub fn an_eviction_ends_the_pod_of_this_uid_and_no_other(cluster: &Cluster) {
    let world = cluster.world();
    let uid = world.pod("web", |_| {});
    let before = world.get("web").unwrap();
    for act in [Act::Evict, Act::Delete] {
        // The administrator: it may delete, too.
        let namesake = Order { act, ..order(&world, "web", NOBODY) };
        assert_eq!(ask(&world, &Who::admin(), &namesake), Answer::Replaced, "{act:?}");
        let gone = Order { act, ..order(&world, "none", &uid) };
        assert_eq!(ask(&world, &Who::admin(), &gone), Answer::Gone, "{act:?}");
    }
    assert_eq!(world.get("web").unwrap(), before);
    assert_eq!(ask(&world, &cluster.agent, &order(&world, "web", &uid)), Answer::Accepted);
    let after = world.get("web").unwrap();
    assert!(is_ending(&after), "{after}");
    assert_eq!(after["metadata"]["deletionGracePeriodSeconds"], 30);
    // Once more is no harm, and hurries nothing.
    assert_eq!(ask(&world, &cluster.agent, &order(&world, "web", &uid)), Answer::Accepted);
    assert_eq!(world.get("web").unwrap(), after);
    // A namesake has come in the meantime.
    world.remove("web");
    let new = world.pod("web", |_| {});
    assert_ne!(new, uid);
    assert_eq!(ask(&world, &cluster.agent, &order(&world, "web", &uid)), Answer::Replaced);
    assert!(!is_ending(&world.get("web").unwrap()));
}

pub fn the_grace_that_is_asked_for_is_given(cluster: &Cluster) {
    let world = cluster.world();
    for (name, act) in [("evicted", Act::Evict), ("deleted", Act::Delete)] {
        let uid = world.pod(name, |_| {});
        let order = Order { act, grace: Some(5), ..order(&world, name, &uid) };
        assert_eq!(ask(&world, &Who::admin(), &order), Answer::Accepted);
        assert_eq!(world.get(name).unwrap()["metadata"]["deletionGracePeriodSeconds"], 5, "{name}");
    }
}

pub fn a_dry_run_is_answered_truly_and_changes_nothing(cluster: &Cluster) {
    let world = cluster.world();
    let uid = world.pod("web", |_| {});
    let before = world.get("web").unwrap();
    for act in [Act::Evict, Act::Delete] {
        let right = Order { act, dry_run: true, ..order(&world, "web", &uid) };
        assert_eq!(ask(&world, &Who::admin(), &right), Answer::Accepted, "{act:?}");
        let wrong = Order { act, dry_run: true, ..order(&world, "web", NOBODY) };
        assert_eq!(ask(&world, &Who::admin(), &wrong), Answer::Replaced, "{act:?}");
    }
    assert_eq!(world.get("web").unwrap(), before);
}

/// A budget is asked before the precondition, waits for its controller, blocks, and lets go; a deletion does not ask it.
pub fn a_budget_blocks_until_it_allows(cluster: &Cluster) {
    let world = cluster.world();
    let uid = world.pod("web", |_| {});
    world.budget("guard", Value::Null);
    let blocked = |uid: &str| match ask(&world, &cluster.agent, &order(&world, "web", uid)) {
        Answer::Blocked { budget, retry_after, message } => (budget.unwrap_or(message), retry_after),
        other => panic!("{other:?}"),
    };
    assert_eq!(blocked(&uid), ("guard".into(), Some(Duration::from_secs(10))), "not looked at yet");
    world.budget_status("guard", blocks());
    assert_eq!(blocked(&uid), ("guard".into(), None));
    assert_eq!(blocked(NOBODY), ("guard".into(), None), "before the precondition");
    let deletion = Order { act: Act::Delete, dry_run: true, ..order(&world, "web", &uid) };
    assert_eq!(ask(&world, &Who::admin(), &deletion), Answer::Accepted);
    world.budget_status("guard", allows());
    assert_eq!(ask(&world, &cluster.agent, &order(&world, "web", &uid)), Answer::Accepted);
}

/// The server itself counts down what a budget allows: of two pods one goes, and the other is blocked.
pub fn a_budget_lets_one_go(cluster: &Cluster) {
    let world = cluster.world();
    let (first, second) = (world.pod("first", |_| {}), world.pod("second", |_| {}));
    world.budget("guard", allows());
    assert_eq!(ask(&world, &cluster.agent, &order(&world, "first", &first)), Answer::Accepted);
    let answer = ask(&world, &cluster.agent, &order(&world, "second", &second));
    assert_eq!(answer.label(), "blocked", "{answer:?}");
}

pub fn two_budgets_are_a_refusal_in_the_servers_words(cluster: &Cluster) {
    let world = cluster.world();
    let uid = world.pod("web", |_| {});
    ["one", "two"].iter().for_each(|name| world.budget(name, allows()));
    match ask(&world, &cluster.agent, &order(&world, "web", &uid)) {
        Answer::Refused { code: 500, message } => assert!(message.contains("more than one"), "{message}"),
        other => panic!("{other:?}"),
    }
}

pub fn rights_tokens_and_namespaces_are_told_apart(cluster: &Cluster) {
    let world = cluster.world();
    let uid = world.pod("web", |_| {});
    let order = order(&world, "web", &uid);
    match ask(&world, &cluster.nobody, &order) {
        Answer::Refused { code: 403, message } => assert!(message.contains("cannot create resource"), "{message}"),
        other => panic!("{other:?}"),
    }
    assert_eq!(ask(&world, &Who::Token("expired".into()), &order), Answer::Unauthorized);
    end_namespace(&world);
    let answer = crate::world::poll("the end of the namespace", || {
        Some(ask(&world, &cluster.agent, &Order { dry_run: true, ..order.clone() })).filter(|a| *a != Answer::Accepted)
    });
    assert_eq!(answer, Answer::NamespaceTerminating);
}

/// What is over, or was never begun, goes at once; nothing protects it.
pub fn what_does_not_run_goes_at_once(cluster: &Cluster) {
    let world = cluster.world();
    world.budget("guard", blocks());
    for (name, status, scheduled) in [
        ("succeeded", json!({"phase": "Succeeded"}), true),
        ("failed", json!({"phase": "Failed"}), true),
        ("unscheduled", json!({"phase": "Pending"}), false),
    ] {
        let uid = world.pod(name, |pod| {
            pod["status"] = status;
            if !scheduled {
                pod["spec"].as_object_mut().unwrap().remove("nodeName");
            }
        });
        assert_eq!(ask(&world, &cluster.agent, &order(&world, name, &uid)), Answer::Accepted, "{name}");
        assert_eq!(world.get(name), None, "{name}");
    }
}
