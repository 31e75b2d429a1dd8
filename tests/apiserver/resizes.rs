//! The component for the gentler remedies, as it is shipped: what the agent may patch by pods/resize, and what a stolen token
//! may not.

use std::time::Instant;

use k8s_openapi::api::core::v1::Pod;
use kube::api::{Patch, PatchParams};
use libtest_mimic::Completion;
use serde_json::{Value, json};

use crate::agent::soon;
use crate::resize_cases::{BOTH, Case, ONLY_RAISE, ONLY_RESTART, Switches, cases};
use crate::rights::{Installed, OWN_NS, documents, install, too_old};
use crate::server::{Answer, Server, Who, request};
use crate::world::{Cluster, NODE, OTHER, World, create, patch, token};

const POLICY: &str = include_str!("../../daemonset/components/remedies/policy.yaml");
const STRATEGIC: [(&str, &str); 1] = [("content-type", "application/strategic-merge-patch+json")];

fn resize(server: &Server, who: &Who, path: &str, change: &Value) -> Answer {
    server.send(who, request("PATCH", &format!("{path}/resize?dryRun=All"), &STRATEGIC, &change.to_string()))
}

/// As the case has it, on this server's nodes; its path.
fn make(world: &World<'_>, name: &str, case: &Case) -> String {
    let mut pod = case.pod.clone();
    pod["metadata"]["name"] = name.into();
    pod["spec"]["automountServiceAccountToken"] = false.into();
    if let Some(node) = pod["spec"]["nodeName"].as_str() {
        pod["spec"]["nodeName"] = json!(if node == "a" { NODE } else { OTHER });
    }
    create::<Pod>(world.server, Some(&world.ns), pod);
    format!("/api/v1/namespaces/{}/pods/{name}", world.ns)
}

/// The messages of the policy's rules.
fn messages() -> Vec<String> {
    let rules = documents(POLICY)[0]["spec"]["validations"].clone();
    rules
        .as_array()
        .expect("rules")
        .iter()
        .map(|rule| rule["message"].as_str().expect("a message").to_owned())
        .collect()
}

/// Switches the policy's remedies, as the chart's values do.
fn switch(installed: &Installed<'_>, server: &Server, to: Switches) {
    let policy = installed.find_named("ValidatingAdmissionPolicy", "-own-node-resize");
    let mut variables = policy["spec"]["variables"].clone();
    for variable in variables.as_array_mut().expect("variables") {
        let is_on = match variable["name"].as_str() {
            Some("raise") => to.raise,
            Some("restart") => to.restart,
            _ => continue,
        };
        variable["expression"] = is_on.to_string().into();
    }
    let change = json!({"spec": {"variables": variables}});
    patch(server, policy, &PatchParams::default(), &Patch::Merge(&change));
}

/// Every case that the expressions are tried with: the server says the same.
pub fn only_what_a_remedy_needs_is_changed(cluster: &Cluster) -> Completion {
    if let Some(ignored) = too_old(cluster, "impersonation") {
        return ignored;
    }
    let (world, messages) = (cluster.world(), messages());
    let installed = install(cluster, "policy").with_remedies();
    let (here, there) = (installed.agent_on(NODE), installed.agent_on(OTHER));
    let unbound = token(&cluster.server, OWN_NS, "pre-oom-killer", None);
    let who = |case: &Case| match case.node {
        Some("a") => &here,
        Some(_) => &there,
        None => &unbound,
    };
    for (number, switches) in [BOTH, ONLY_RAISE, ONLY_RESTART].into_iter().enumerate() {
        switch(&installed, world.server, switches);
        let cases = cases().into_iter().filter(|case| case.switches == switches);
        let cases: Vec<(Case, String)> = cases
            .enumerate()
            .map(|(index, case)| {
                let path = make(&world, &format!("pod-{number}-{index}"), &case);
                (case, path)
            })
            .collect();
        let is_as_expected = |(case, path): &(Case, String)| {
            let answer = resize(world.server, who(case), path, &case.patch);
            let expected = match case.denied_by.first() {
                _ if case.invalid => answer.code == 422,
                None => answer.code == 200,
                Some(rule) => answer.code == 403 && answer.text.contains(&messages[*rule]),
            };
            if expected { Ok(()) } else { Err(format!("{}: {} {}", case.what, answer.code, answer.text)) }
        };
        // Until the policy is in force, the server lets more pass, or less.
        let begin = Instant::now();
        loop {
            let wrong: Vec<_> = cases.iter().filter_map(|case| is_as_expected(case).err()).collect();
            if wrong.is_empty() {
                break;
            }
            assert!(begin.elapsed() < soon(), "{switches:?}:\n{}", wrong.join("\n"));
        }
    }
    Completion::Completed
}
