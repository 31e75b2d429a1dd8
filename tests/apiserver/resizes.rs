//! The component for the gentler remedies, as it is shipped: what the agent may patch by pods/resize, and what a stolen token
//! may not.

use std::time::Instant;

use k8s_openapi::api::core::v1::Pod;
use kube::api::{Patch, PatchParams};
use libtest_mimic::Completion;
use serde_json::{Value, json};
use standin::cgroups::{Group, Tree};

use crate::agent::{Agent, soon};
use crate::agents;
use crate::resize_cases::{BOTH, Case, ONLY_RAISE, ONLY_RESTART, Switches, cases};
use crate::rights::{Installed, OWN_NS, documents, install, too_old};
use crate::server::{Answer, Server, Who, request};
use crate::world::{Cluster, NODE, OTHER, World, create, delete, patch, poll, token};

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

/// The whole agent with the component: it misses nothing, and it finds out that its resizes are confined, that they are not, and
/// that it has no right to them.
fn the_agent_finds_out(cluster: &Cluster, mode: &str) -> Completion {
    if let Some(ignored) = too_old(cluster, mode) {
        return ignored;
    }
    let (world, tree) = (cluster.world_of_an_agent(), Tree::simulated());
    let installed = install(cluster, mode).with_remedies();
    let own = installed.pod_on(&world.node);
    let who = installed.token_of(&own.0, &own.1);
    let flags = ["--confinement", mode, "--remedies", "raise,restart"];
    let launch = || agents::launch_with(&world, world.server, &who, Some(&own.0), &flags, &tree);
    let missing = |agent: &Agent| {
        let lines = agent.lines().into_iter().filter(|line| line["level"] == "ERROR");
        lines.filter_map(|line| line["missing"].as_str().map(str::to_owned)).next_back()
    };

    let agent = launch();
    let line = agents::wait_until_it_holds(&agent, mode);
    let words = "policy pre-oom-killer-own-node-resize refused: this pod has not opted in";
    assert!(line["why"].as_str().is_some_and(|why| why.contains(words)), "{line}");
    assert_eq!(missing(&agent), None);
    drop(agent);

    let binding = installed.find_named("ValidatingAdmissionPolicyBinding", "-own-node-resize").clone();
    delete(world.server, &binding);
    let own_path = format!("/api/v1/namespaces/{OWN_NS}/pods/{}", own.0);
    let nothing = json!({"spec": {}});
    poll("no policy", || (resize(world.server, &who, &own_path, &nothing).code == 200).then_some(()));
    let agent = launch();
    agents::wait_confinement(&agent, mode, "does-not-hold");
    drop(agent);

    let role = installed.find_named("ClusterRoleBinding", "-remedies").clone();
    delete(world.server, &role);
    poll("no right", || (resize(world.server, &who, &own_path, &nothing).code == 403).then_some(()));
    let agent = launch();
    let missing = agent.wait_until("the right is missing", missing);
    assert_eq!(missing, "patch pods/resize");
    agents::wait_confinement(&agent, mode, "unclear");
    Completion::Completed
}

pub fn the_agent_finds_out_in_the_policy_mode(cluster: &Cluster) -> Completion {
    the_agent_finds_out(cluster, "policy")
}

pub fn the_agent_finds_out_in_the_impersonation_mode(cluster: &Cluster) -> Completion {
    the_agent_finds_out(cluster, "impersonation")
}

/// In mode `impersonation`, in earnest: the account itself raises what has opted in on its node, and neither anything else nor as
/// the node.
pub fn a_stolen_token_raises_no_other_pod(cluster: &Cluster) -> Completion {
    if let Some(ignored) = too_old(cluster, "impersonation") {
        return ignored;
    }
    let world = cluster.world();
    let installed = install(cluster, "impersonation").with_remedies();
    let all = cases();
    let find = |what: &str| all.iter().find(|case| case.what == what).expect(what);
    let (raise, there, unlabelled) = (find("a raise"), find("another node's pod"), find("no label"));
    let paths =
        [("own", raise), ("there", there), ("unlabelled", unlabelled)].map(|(name, case)| make(&world, name, case));
    let stolen = installed.agent_on(NODE);
    poll("the right and the policy", || {
        let codes = [0, 1, 2].map(|index| resize(world.server, &stolen, &paths[index], &raise.patch).code);
        (codes == [200, 403, 403]).then_some(())
    });
    let in_earnest = |path: &str, headers: &[(&str, &str)]| {
        let headers = [&STRATEGIC[..], headers].concat();
        world.server.send(&stolen, request("PATCH", &format!("{path}/resize"), &headers, &raise.patch.to_string()))
    };
    let limit = |name: &str| {
        let pod = world.get(name).expect(name);
        pod["spec"]["containers"][0]["resources"]["limits"]["memory"].as_str().map(str::to_owned)
    };
    for node in [NODE, OTHER] {
        let user = format!("system:node:{node}");
        let answer = in_earnest(&paths[0], &[("impersonate-user", &user)]);
        assert!(answer.code == 403 && answer.text.contains("cannot impersonate"), "{}", answer.text);
    }
    assert_eq!(in_earnest(&paths[1], &[]).code, 403);
    assert_eq!(in_earnest(&paths[2], &[]).code, 403);
    assert_eq!(["own", "there", "unlabelled"].map(limit), [(); 3].map(|()| Some("256Mi".into())), "all is as it was");
    assert_eq!(in_earnest(&paths[0], &[]).code, 200);
    assert_eq!(limit("own").as_deref(), Some("384Mi"));
    Completion::Completed
}

/// A pod that is guarded at 60 %, at nearly nothing, and its group.
fn guarded(world: &World<'_>, tree: &Tree, name: &str, remedies: &str, policy: &str) -> Group {
    let id = format!("{:064x}", fastrand::u128(..));
    let resources = json!({"requests": {"memory": "100Mi"}, "limits": {"memory": "100Mi"}});
    let uid = world.pod(name, |pod| {
        pod["metadata"]["labels"]["app"] = name.into();
        pod["metadata"]["annotations"] = json!({
            "pre-oom-killer.v1alpha1.k8s.io/memory-usage-threshold": "60",
            "pre-oom-killer.v1alpha1.k8s.io/remedies": remedies,
        });
        if remedies.contains("raise") {
            pod["metadata"]["annotations"]["pre-oom-killer.v1alpha1.k8s.io/raise-limit-to"] = "110Mi".into();
        }
        pod["spec"]["containers"][0]["resources"] = resources.clone();
        pod["spec"]["containers"][0]["resizePolicy"] =
            json!([{"resourceName": "memory", "restartPolicy": policy}]);
        pod["status"] = json!({
            "phase": "Running",
            "conditions": [{"type": "Ready", "status": "True"}],
            "containerStatuses": [{
                "name": "app", "image": "example.com/app", "imageID": "", "ready": true, "restartCount": 0, "started": true,
                "containerID": format!("containerd://{id}"), "resources": resources,
                "state": {"running": {"startedAt": "2026-01-01T00:00:00Z"}},
            }],
        });
    });
    let group = tree.container(&uid, &id);
    tree.pod(&uid).set_limit(Some(100 << 20));
    group.set_limit(Some(100 << 20));
    group.simulate(10 << 20, 0);
    group
}

/// What the agent itself sends passes: a raise to the pod's bound, and the smallest step for a restart.
fn the_agents_own_resizes_pass(cluster: &Cluster, mode: &str) -> Completion {
    if let Some(ignored) = too_old(cluster, mode) {
        return ignored;
    }
    let (world, tree) = (cluster.world_of_an_agent(), Tree::simulated());
    let installed = install(cluster, mode).with_remedies();
    let own = installed.pod_on(&world.node);
    let who = installed.token_of(&own.0, &own.1);
    let raised = guarded(&world, &tree, "raised", "raise", "NotRequired");
    let restarted = guarded(&world, &tree, "restarted", "restart", "RestartContainer");
    let flags = ["--confinement", mode, "--remedies", "raise,restart"];
    let agent = agents::launch_with(&world, world.server, &who, Some(&own.0), &flags, &tree);
    agents::wait_until_it_holds(&agent, mode);
    for (name, group) in [("raised", &raised), ("restarted", &restarted)] {
        agent.wait_state(name, "app", "watching");
        group.simulate(70 << 20, 0);
    }
    for (name, expected) in [("raised", "110Mi"), ("restarted", "104857601")] {
        poll(&format!("{name} has {expected}"), || {
            let pod = world.get(name)?;
            (pod["spec"]["containers"][0]["resources"]["limits"]["memory"] == expected).then_some(())
        });
    }
    Completion::Completed
}

pub fn the_agents_own_resizes_pass_in_the_policy_mode(cluster: &Cluster) -> Completion {
    the_agents_own_resizes_pass(cluster, "policy")
}

pub fn the_agents_own_resizes_pass_in_the_impersonation_mode(cluster: &Cluster) -> Completion {
    the_agents_own_resizes_pass(cluster, "impersonation")
}
