//! Whether the agent finds out that its resizes are confined: the stand-in evaluates the policy as its expressions are on a
//! real server.

use serde_json::Value;
use standin::{Fault, Request, Standin};

use crate::agent::Agent;
use crate::rights::{
    Beside, OWN, OWN_NS, confinement, everything_is_sent_as, flags, launch, launch_with_remedies, manifests, probes,
    probes_are_harmless, wait_confinement, world,
};

/// The probes that are resizes.
fn patches(server: &Standin) -> Vec<Request> {
    probes(server).into_iter().filter(|request| request.method == "PATCH").collect()
}

/// Questions about this right, by the verb that is asked for.
fn reviews(server: &Standin) -> Vec<Value> {
    let all = server.requests_to("POST", "/selfsubjectaccessreviews").into_iter();
    let asked = all.map(|request| request.body["spec"]["resourceAttributes"].clone());
    asked.filter(|what| what["subresource"] == "resize").map(|what| what["verb"].clone()).collect()
}

fn says(line: &Value, words: &str) -> bool {
    line["why"].as_str().is_some_and(|why| why.contains(words))
}

pub fn a_policy_on_resizes_that_holds_is_told_after_one_harmless_question() {
    for (mode, first) in [("policy", "policy pre-oom-killer-own-node refused"), ("impersonation", "NodeRestriction")] {
        let world = world(mode, Beside::Remedies);
        let before = world.server.pod(OWN_NS, OWN);
        let agent = launch_with_remedies(&world, mode);
        let line = wait_confinement(&agent, mode, "holds");
        assert_eq!(line["level"], "INFO");
        assert!(says(&line, first), "{line}");
        assert!(says(&line, "policy pre-oom-killer-own-node-resize refused: this pod has not opted in"), "{line}");
        assert_eq!((patches(&world.server).len(), confinement(&agent).len()), (1, 1), "once, {mode}");
        assert_eq!(reviews(&world.server), ["patch"], "of the account itself, {mode}");
        assert_eq!(world.server.pod(OWN_NS, OWN), before, "{mode}");
        probes_are_harmless(&world.server);
        everything_is_sent_as(&world.server, mode);
    }
}

/// Evictions are confined, and resizes are not. A policy that comes later is found.
pub fn a_policy_on_resizes_that_does_not_hold_is_told() {
    for mode in ["policy", "impersonation"] {
        let world = world(mode, Beside::Remedies);
        world.server.set_resize_policy(false);
        let agent = launch_with_remedies(&world, mode);
        let line = wait_confinement(&agent, mode, "does-not-hold");
        assert_eq!(line["level"], "WARN");
        assert!(says(&line, "no policy that confines resizes is in force"), "{line}");
        world.server.set_resize_policy(true);
        wait_confinement(&agent, mode, "holds");
        probes_are_harmless(&world.server);
    }
}

/// Another 403 is never taken for the policy's.
pub fn an_unclear_answer_about_resizes_is_told_as_unclear() {
    for (name, words) in [
        ("resize-403-capacity", "node didn't have enough allocatable resources"),
        ("resize-403-vap-opt-in", "ValidatingAdmissionPolicy 'facts-resize-own-node'"),
        ("resize-422-mirror", "static pods cannot be resized"),
    ] {
        let world = world("policy", Beside::Remedies);
        world.server.fault(Fault::on("PATCH", &format!("/{OWN}/resize")).always().recorded(name));
        let agent = launch_with_remedies(&world, "policy");
        let line = wait_confinement(&agent, "policy", "unclear");
        assert!(line["level"] == "WARN" && says(&line, words), "{line}");
    }
}

/// Without the flag nothing is asked; but the right is one too many for an account that acts as its node.
pub fn without_the_flag_resizes_are_not_asked_about() {
    let plain = world("policy", Beside::Remedies);
    let agent = launch(&plain, "policy");
    let line = wait_confinement(&agent, "policy", "holds");
    assert!(!says(&line, "resize"), "{line}");
    assert_eq!((patches(&plain.server).len(), reviews(&plain.server).len()), (0, 0));

    let around = world("impersonation", Beside::Nothing);
    around.server.grant(&manifests("impersonation", Beside::Remedies));
    let agent = launch(&around, "impersonation");
    let line = wait_confinement(&agent, "impersonation", "does-not-hold");
    assert!(says(&line, "may patch pods/resize"), "{line}");
    assert!(probes(&around.server).is_empty());
}

/// Nor in a dry run of the client, which sends nothing but reads.
pub fn a_dry_run_of_the_client_sends_no_probe_of_resizes() {
    let world = world("policy", Beside::Remedies);
    let flags = [&flags("policy")[..], &["--remedies", "raise,restart", "--dry-run", "client"]].concat();
    let agent = Agent::start(&world.server, world.tree.root(), &flags);
    wait_confinement(&agent, "policy", "not-asked");
    assert!(world.server.requests().iter().all(|r| r.method == "GET"), "{:?}", world.server.requests());
}
