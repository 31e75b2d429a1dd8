//! Somebody's validating webhook says no: what this server makes of it, and what the agent takes that for.

use pre_oom_killer::act::answer::Answer as Meaning;
use pre_oom_killer::act::order::{Act, Order};
use serde_json::{Value, json};

use crate::evictions;
use crate::recorded::compare;
use crate::server::Who;
use crate::webhook::{self, Says, Webhook};
use crate::world::{Cluster, World, blocks, poll};

/// The name in the recordings.
const NAME: &str = "guard.facts.example.com";

/// The recorded answer, and the webhook's `status`, or what it says instead.
fn table() -> Vec<(&'static str, Says)> {
    let no = Says::no;
    vec![
        ("evict-400-webhook-denied", Says::Review(json!({"allowed": false}))),
        ("evict-400-webhook-dryrun", Says::Review(json!({"allowed": false}))),
        ("evict-400-webhook-before-pdb", Says::Review(json!({"allowed": false}))),
        ("evict-400-webhook-message", no(json!({"message": "not today: change freeze"}))),
        ("evict-400-webhook-code-200", no(json!({"code": 200, "message": "odd"}))),
        ("evict-403-webhook", no(json!({"code": 403, "message": "no"}))),
        ("evict-403-webhook-reason", no(json!({"code": 403, "reason": "Forbidden", "message": "no"}))),
        ("evict-404-webhook", no(json!({"code": 404, "reason": "NotFound", "message": "no such thing"}))),
        ("evict-409-webhook", no(json!({"code": 409, "reason": "Conflict", "message": "busy"}))),
        ("evict-429-webhook", no(json!({"code": 429, "message": "too many evictions, wait"}))),
        ("evict-429-webhook-before-pdb", no(json!({"code": 429, "message": "x"}))),
        (
            "evict-429-webhook-reason",
            no(
                json!({"code": 429, "reason": "TooManyRequests", "message": "wait", "details": {"retryAfterSeconds": 7}}),
            ),
        ),
        ("evict-500-webhook", no(json!({"code": 500, "message": "webhook broke"}))),
        ("evict-503-webhook", no(json!({"code": 503, "message": "later"}))),
        ("evict-500-webhook-http-500", Says::Http(500, "")),
        ("evict-500-webhook-not-json", Says::Http(200, "\"no review\"")),
    ]
}

/// A webhook that is in force for the world's evictions.
fn in_force<'a>(world: &World<'a>) -> (crate::recorded::Applied<'a>, Webhook) {
    let hook = Webhook::start(Says::yes());
    let registered = webhook::register(world, NAME, &hook.url(), &hook.authority(), 10);
    poll("the webhook is asked", || {
        world.evict(&Who::admin(), "none", "00000000-0000-0000-0000-000000000000", "?dryRun=All");
        (hook.asked() > 0).then_some(())
    });
    (registered, hook)
}

/// The same answers as recorded, whatever the webhook says; all of them leave the pod as it was.
pub fn each_is_answered_as_recorded(cluster: &Cluster) {
    let world = cluster.world();
    let (_registered, hook) = in_force(&world);
    let uid = world.pod("web", |_| {});
    let before = world.get("web");
    let table = table();
    for (name, says) in &table {
        hook.says(says.clone());
        let query = if name.ends_with("dryrun") { "?dryRun=All" } else { "" };
        if name.ends_with("before-pdb") {
            world.budget(name, blocks());
        }
        let answer = world.evict(&cluster.agent, "web", &uid, query);
        compare(name, &answer, &[]);
        if name.ends_with("before-pdb") {
            world.remove_budget(name);
        }
    }
    assert_eq!(world.get("web"), before);
    let recorded = crate::recorded::denials();
    let missing: Vec<_> = recorded.iter().filter(|name| !table.iter().any(|(other, _)| other == *name)).collect();
    assert!(missing.is_empty(), "recorded and not tried: {missing:?}");
}

/// A denial is a denial whatever its code, and told with the webhook's name; only a webhook that does not work is not.
pub fn the_agent_takes_each_for_a_denial(cluster: &Cluster) {
    let world = cluster.world();
    let (_registered, hook) = in_force(&world);
    let uid = world.pod("web", |_| {});
    let order = Order { pod: world.pod_ref("web", &uid), act: Act::Evict, grace: None, resize: None, dry_run: false };
    let ask = || evictions::ask(&world, &cluster.agent, &order);
    for (name, says) in table().into_iter().filter(|(name, _)| !name.ends_with("dryrun")) {
        let (broken, retry) = (matches!(says, Says::Http(..)), name.ends_with("429-webhook-reason"));
        hook.says(says);
        match ask() {
            Meaning::Failing { code: 500, message } if broken => assert!(message.contains(NAME), "{message}"),
            Meaning::Denied { webhook, code, retry_after, .. } if !broken => {
                assert_eq!(webhook.as_deref(), Some(NAME), "{name}");
                assert!(name.starts_with(&format!("evict-{code}-")), "{name}: {code}");
                assert_eq!(retry_after.map(|after| after.as_secs()), retry.then_some(7), "{name}");
            }
            other => panic!("{name}: {other:?}"),
        }
    }
    hook.says(Says::yes());
    assert_eq!(ask(), Meaning::Accepted);
    let asked = hook.requests();
    assert!(asked.iter().all(|request| preconditions(request) == json!({"uid": uid})), "{asked:?}");
}

/// The preconditions of the Eviction in an AdmissionReview's request.
pub fn preconditions(request: &Value) -> Value {
    request["object"]["deleteOptions"]["preconditions"].clone()
}
