//! Exactly the shipped manifests, in both modes: what they let the agent do, and what a stolen token cannot do.

use std::sync::{Mutex, MutexGuard, PoisonError};

use k8s_openapi::api::core::v1::Pod;
use kube::api::{Patch, PatchParams};
use libtest_mimic::Completion;
use serde_json::{Value, json};
use standin::cgroups::Tree;

use crate::agents;
use crate::server::{Answer, Server, Who, request};
use crate::world::{Cluster, NODE, OTHER, World, apply, create, delete, patch, patch_status, poll, token};

/// Namespace and account of the shipped manifests.
pub const OWN_NS: &str = "pre-oom-killer";
const INSTALL: &str = include_str!("../../daemonset/install.yaml");
const IMPERSONATION: &str = include_str!("../../daemonset/components/impersonation/kustomization.yaml");
const OPT_IN: &str = include_str!("../../daemonset/chart/templates/policy-opt-in.yaml");
const DELETE: &str = include_str!("../../daemonset/chart/templates/policy-delete.yaml");
/// The component for the remedies that resize: its policy, its rights, and what it changes of the DaemonSet.
const REMEDIES: [&str; 3] = [
    include_str!("../../daemonset/components/remedies/policy.yaml"),
    include_str!("../../daemonset/components/remedies/rbac.yaml"),
    include_str!("../../daemonset/components/remedies/kustomization.yaml"),
];
/// What the chart adds for `forceDelete`; the leg `deploy` compares these with it.
const FORCE_DELETE: [(&str, &str); 2] = [
    ("policy", include_str!("../e2e/manifests/policy-force-delete.yaml")),
    ("impersonation", include_str!("../e2e/manifests/impersonation-force-delete.yaml")),
];

/// For a server that does not have what a mode rests on.
pub fn too_old(cluster: &Cluster, mode: &str) -> Option<Completion> {
    // The features that are on by default from there on.
    let least = if mode == "impersonation" { (1, 36) } else { (1, 32) };
    let (major, minor) = cluster.server.version;
    ((major, minor) < least).then(|| Completion::ignored_with(format!("{mode} on Kubernetes {major}.{minor}")))
}

/// The manifests of one mode, in force until this is dropped. They have the same names in each mode, so whoever needs
/// them waits for whoever has them.
pub struct Installed<'a> {
    server: &'a Server,
    objects: Vec<Value>,
    _turn: MutexGuard<'static, ()>,
}

pub fn documents(text: &str) -> Vec<Value> {
    let all: Vec<Value> = serde_saphyr::from_multiple(text).expect("YAML");
    all.into_iter().filter(|object| !object.is_null()).collect()
}

/// A policy of the chart, as Helm renders it for a release of the chart's own name.
fn policy_of_the_chart(template: &str) -> Vec<Value> {
    let install = documents(INSTALL);
    let policy = install.iter().find(|object| object["kind"] == "ValidatingAdmissionPolicy").expect("it has one");
    let agent = policy["spec"]["matchConditions"][0]["expression"].as_str().expect("an expression");
    let text = template
        .replace("{{ include \"pre-oom-killer.name\" . }}", "pre-oom-killer")
        .replace("{{- include \"pre-oom-killer.labels\" . | nindent 4 }}", "tests: \"\"")
        .replace("{{ include \"pre-oom-killer.isAgent\" . }}", agent);
    let lines = text.lines().filter(|line| !line.starts_with("{{- if ") && *line != "{{- end }}");
    let text = lines.collect::<Vec<_>>().join("\n");
    assert!(!text.contains("{{"), "this test cannot render all of the template:\n{text}");
    documents(&text)
}

/// Puts the manifests of a mode in force.
pub fn install<'a>(cluster: &'a Cluster, mode: &str) -> Installed<'a> {
    static TURN: Mutex<()> = Mutex::new(());
    let turn = TURN.lock().unwrap_or_else(PoisonError::into_inner);
    let mut installed = Installed { server: &cluster.server, objects: Vec::new(), _turn: turn };
    documents(INSTALL).into_iter().for_each(|object| installed.apply(object));
    let quota = installed.find("ResourceQuota").clone();
    // As kube-controller-manager says it; without, nothing of its scope is admitted.
    patch_status(installed.server, &quota, &json!({"hard": quota["spec"]["hard"], "used": {"pods": "0"}}));
    if mode == "impersonation" {
        apply_patches(installed.server, &documents(IMPERSONATION)[0]);
    }
    installed
}

/// Changes what is there as a component does.
fn apply_patches(server: &Server, component: &Value) {
    for change in component["patches"].as_array().expect("patches") {
        let change = documents(change["patch"].as_str().expect("a text")).remove(0);
        if change["$patch"] == "delete" {
            delete(server, &change);
        } else {
            patch(server, &change, &PatchParams::default(), &Patch::Strategic(&change));
        }
    }
}

impl Installed<'_> {
    /// Applies one more object, until the end of this.
    fn apply(&mut self, object: Value) {
        apply(self.server, &object);
        self.objects.push(object);
    }

    fn find(&self, kind: &str) -> &Value {
        self.objects.iter().find(|object| object["kind"] == kind).expect(kind)
    }

    /// The one of this kind whose name ends so.
    pub fn find_named(&self, kind: &str, end: &str) -> &Value {
        let ends = |object: &&Value| object["metadata"]["name"].as_str().is_some_and(|name| name.ends_with(end));
        self.objects.iter().filter(|object| object["kind"] == kind).find(ends).expect(end)
    }

    /// Adds the right to delete pods, and in mode `policy` the policy that comes with it.
    pub fn with_force_delete(mut self, mode: &str) -> Self {
        let (_, rules) = FORCE_DELETE.iter().find(|(name, _)| *name == mode).expect(mode);
        documents(rules).into_iter().for_each(|object| self.apply(object));
        if mode == "policy" {
            policy_of_the_chart(DELETE).into_iter().for_each(|object| self.apply(object));
        }
        self
    }

    /// Adds the component for the remedies that resize.
    pub fn with_remedies(mut self) -> Self {
        let [policy, rbac, component] = REMEDIES.map(documents);
        policy.into_iter().chain(rbac).for_each(|object| self.apply(object));
        apply_patches(self.server, &component[0]);
        self
    }

    /// Makes the agent's pod on a node, as the DaemonSet's controller would; its name.
    pub fn pod_on(&self, node: &str) -> (String, String) {
        let template = &self.find("DaemonSet")["spec"]["template"];
        let mut pod = json!({"metadata": template["metadata"], "spec": template["spec"]});
        pod["metadata"]["generateName"] = "pre-oom-killer-".into();
        pod["spec"]["nodeName"] = node.into();
        let pod: Pod = create(self.server, Some(OWN_NS), pod);
        (pod.metadata.name.expect("generated"), pod.metadata.uid.expect("given"))
    }

    /// The token that a pod of the agent has on this node.
    pub fn agent_on(&self, node: &str) -> Who {
        let (name, uid) = self.pod_on(node);
        self.token_of(&name, &uid)
    }

    /// The token that this pod has.
    pub fn token_of(&self, name: &str, uid: &str) -> Who {
        token(self.server, OWN_NS, "pre-oom-killer", Some((name, uid)))
    }

    /// The authorizer learns of the rules a moment later.
    pub fn wait_until_granted(&self, who: &Who) {
        let path = format!("/api/v1/pods?limit=1&fieldSelector=spec.nodeName%3D{NODE}");
        let headers = [("impersonate-user", &*format!("system:node:{NODE}"))];
        poll("the rules", || (self.server.send(who, request("GET", &path, &headers, "")).code == 200).then_some(()));
    }
}

impl Drop for Installed<'_> {
    fn drop(&mut self) {
        // Without kube-controller-manager a namespace would never be gone.
        let stays = |object: &&Value| object["kind"] != "Namespace";
        self.objects.iter().filter(stays).for_each(|object| delete(self.server, object));
    }
}

/// Sends as the agent, and under the name of a node where one is given.
fn send(world: &World<'_>, who: &Who, node: Option<&str>, method: &str, path: &str, body: &Value) -> Answer {
    let user = node.map(|node| format!("system:node:{node}"));
    let headers: Vec<(&str, &str)> = user.iter().map(|user| ("impersonate-user", user.as_str())).collect();
    let body = if body.is_null() { String::new() } else { body.to_string() };
    world.server.send(who, request(method, path, &headers, &body))
}

// --- exactly the rights that are needed ------------------------------------------------------------------------------

/// With all of the shipped rules the agent misses nothing, and the confinement holds; with one too few it names that one.
fn each_rule_is_needed(cluster: &Cluster, mode: &str) -> Completion {
    if let Some(ignored) = too_old(cluster, mode) {
        return ignored;
    }
    let installed = install(cluster, mode);
    let role = installed.find("ClusterRole").clone();
    let name = role["metadata"]["name"].as_str().expect("a name").to_owned();
    let path = format!("/apis/rbac.authorization.k8s.io/v1/clusterroles/{name}");
    let rules = cluster.server.get(&Who::admin(), &path).json()["rules"].clone();
    let rules = rules.as_array().expect("rules");
    let set = |rules: &[Value]| {
        let change = json!({"rules": rules});
        patch(&cluster.server, &role, &PatchParams::default(), &Patch::Merge(&change));
    };
    let grants: Vec<(usize, usize)> = rules
        .iter()
        .enumerate()
        .flat_map(|(rule, given)| (0..given["verbs"].as_array().map_or(0, Vec::len)).map(move |verb| (rule, verb)))
        .collect();
    assert!(grants.len() >= 5, "{rules:?}");
    let (world, tree) = (cluster.world_of_an_agent(), Tree::simulated());
    let own = installed.pod_on(&world.node);
    let who = installed.token_of(&own.0, &own.1);
    let is_missing = |line: &Value| line["level"] == "ERROR" && line["missing"].is_string();
    for (rule, verb) in grants {
        let mut fewer = rules.clone();
        let given = &rules[rule];
        let verb = fewer[rule]["verbs"].as_array_mut().expect("verbs").remove(verb);
        let (verb, group) = (verb.as_str().expect("a text"), given["apiGroups"][0].as_str().expect("a text"));
        let resource = given["resources"][0].as_str().expect("a text");
        fewer.retain(|rule| rule["verbs"] != json!([]));
        set(&fewer);
        poll("the right is gone", || (!may(cluster, &who, verb, group, resource)).then_some(()));
        let agent = agents::launch(&world, world.server, &who, Some(&own.0), mode, &tree);
        let line = agent.wait_until(&format!("without {verb} {resource}"), |a| a.lines().into_iter().find(is_missing));
        let missing = line["missing"].as_str().expect("a text");
        let named = format!("{verb} {}", resource.split('/').next().unwrap_or_default());
        assert!(missing.contains(&named) && !missing.contains(','), "without {verb} {resource}: {missing}");
        drop(agent);
        set(rules);
        poll("the right is back", || may(cluster, &who, verb, group, resource).then_some(()));
    }
    let agent = agents::launch(&world, world.server, &who, Some(&own.0), mode, &tree);
    agents::wait_until_it_holds(&agent, mode);
    assert!(!agent.lines().iter().any(is_missing), "{:?}", agent.lines());
    Completion::Completed
}

pub fn each_rule_of_the_policy_mode_is_needed(cluster: &Cluster) -> Completion {
    each_rule_is_needed(cluster, "policy")
}

pub fn each_rule_of_the_impersonation_mode_is_needed(cluster: &Cluster) -> Completion {
    each_rule_is_needed(cluster, "impersonation")
}

/// Whether somebody has a right, as the server says.
fn may(cluster: &Cluster, who: &Who, verb: &str, group: &str, resource: &str) -> bool {
    let (resource, subresource) = resource.split_once('/').unwrap_or((resource, ""));
    let review = json!({
        "apiVersion": "authorization.k8s.io/v1", "kind": "SelfSubjectAccessReview",
        "spec": {"resourceAttributes": {"verb": verb, "group": group, "resource": resource, "subresource": subresource}},
    });
    let path = "/apis/authorization.k8s.io/v1/selfsubjectaccessreviews";
    let answer = cluster.server.send(who, request("POST", path, &[], &review.to_string())).json();
    answer["status"]["allowed"] == true
}

// --- what a stolen token cannot do -----------------------------------------------------------------------------------

/// Somebody has the token of the agent on [`NODE`], with the right to delete, too, and asks for what it does not do.
struct Thief<'a> {
    world: &'a World<'a>,
    token: Who,
    /// The node under whose name it asks.
    node: Option<&'a str>,
}

impl Thief<'_> {
    fn path(&self, name: &str) -> String {
        format!("/api/v1/namespaces/{}/pods/{name}", self.world.ns)
    }

    fn evict(&self, name: &str, options: &Value) -> Answer {
        let eviction = json!({
            "apiVersion": "policy/v1", "kind": "Eviction", "metadata": {"name": name, "namespace": self.world.ns},
            "deleteOptions": options,
        });
        send(self.world, &self.token, self.node, "POST", &format!("{}/eviction", self.path(name)), &eviction)
    }

    fn delete(&self, name: &str, options: &Value) -> Answer {
        send(self.world, &self.token, self.node, "DELETE", &self.path(name), options)
    }

    /// Both are refused, in words with these.
    fn is_refused(&self, name: &str, options: &Value, evicting: &str, deleting: &str) {
        for (answer, words) in [(self.evict(name, options), evicting), (self.delete(name, options), deleting)] {
            assert_eq!(answer.code, 403, "{name} as {:?}: {}", self.node, answer.text);
            assert!(answer.text.contains(words), "{name} as {:?}: {}", self.node, answer.text);
        }
    }
}

fn uid(uid: &str) -> Value {
    json!({"preconditions": {"uid": uid}})
}

fn dry(mut options: Value) -> Value {
    options["dryRun"] = json!(["All"]);
    options
}

/// The policies of the mode `policy`: another node's pods, those that have not opted in, and any without the right uid are
/// out of reach; and without a node in the token all are.
pub fn a_stolen_token_reaches_no_other_node_by_policy(cluster: &Cluster) -> Completion {
    if let Some(ignored) = too_old(cluster, "policy") {
        return ignored;
    }
    let world = cluster.world();
    let installed = install(cluster, "policy").with_force_delete("policy");
    let own = world.pod("own", |_| {});
    let there = world.pod("there", |pod| pod["spec"]["nodeName"] = OTHER.into());
    let nowhere = world.pod("nowhere", |pod| {
        pod["spec"].as_object_mut().expect("a spec").remove("nodeName");
        pod["status"] = json!({"phase": "Pending"});
    });
    let unlabelled = world.pod("unlabelled", |pod| pod["metadata"]["labels"] = json!({"app": "x"}));
    let off = world.pod("off", |pod| pod["metadata"]["labels"]["pre-oom-killer"] = "off".into());
    let names = ["own", "there", "nowhere", "unlabelled", "off"];
    let before = names.map(|name| world.get(name));
    let thief = Thief { world: &world, token: installed.agent_on(NODE), node: None };
    // Until the policies are in force.
    poll("rights and policies", || {
        let codes = [("own", &own), ("there", &there)]
            .map(|(name, id)| (thief.evict(name, &dry(uid(id))).code, thief.delete(name, &dry(uid(id))).code));
        (codes == [(201, 200), (403, 403)]).then_some(())
    });

    thief.is_refused(
        "there",
        &uid(&there),
        "pod there is not on node node-host",
        "this pod is not on the agent's node",
    );
    thief.is_refused("nowhere", &uid(&nowhere), "is not on node", "this pod is not on the agent's node");
    thief.is_refused("unlabelled", &uid(&unlabelled), "has not opted in", "this pod has not opted in");
    thief.is_refused("off", &uid(&off), "has not opted in", "this pod has not opted in");
    let wrong = "deleteOptions.preconditions.uid has to be the uid of the pod";
    for options in [uid(&there), json!({}), Value::Null] {
        let answer = thief.evict("own", &options);
        assert!(answer.code == 403 && answer.text.contains(wrong), "{}", answer.text);
    }
    let unbound = Thief { token: token(&cluster.server, OWN_NS, "pre-oom-killer", None), ..thief };
    unbound.is_refused("own", &uid(&own), "the token is not bound to a node", "this pod is not on the agent's node");
    // Nor by names that it has no right to.
    for node in [NODE, OTHER] {
        let named = Thief { world: &world, token: installed.agent_on(NODE), node: Some(node) };
        named.is_refused("there", &uid(&there), "cannot impersonate", "cannot impersonate");
    }
    assert_eq!(names.map(|name| world.get(name)), before, "all is as it was");

    // What is the agent's it may do, and the others are not touched by the policies.
    let thief = Thief { world: &world, token: installed.agent_on(NODE), node: None };
    assert_eq!(thief.evict("own", &uid(&own)).code, 201);
    assert_eq!(world.evict(&cluster.agent, "there", &there, "?dryRun=All").code, 201);
    assert_eq!(world.evict(&Who::admin(), "unlabelled", &unlabelled, "?dryRun=All").code, 201);
    Completion::Completed
}

/// The policies bind an account of the agent's name in any namespace: an overlay may move the manifests.
pub fn the_policies_bind_the_agent_in_any_namespace(cluster: &Cluster) -> Completion {
    if let Some(ignored) = too_old(cluster, "policy") {
        return ignored;
    }
    let world = cluster.world();
    let mut installed = install(cluster, "policy").with_force_delete("policy");
    for mut object in installed.objects.clone() {
        if object["kind"] == "ServiceAccount" {
            object["metadata"]["namespace"] = world.ns.as_str().into();
        } else if object["kind"] == "ClusterRoleBinding" {
            let name = object["metadata"]["name"].as_str().unwrap_or_default();
            object["metadata"]["name"] = format!("{name}-{}", world.ns).into();
            object["subjects"][0]["namespace"] = world.ns.as_str().into();
        } else {
            continue;
        }
        installed.apply(object);
    }
    let bound = world.pod("agent", |pod| pod["spec"]["serviceAccountName"] = "pre-oom-killer".into());
    let there = world.pod("there", |pod| pod["spec"]["nodeName"] = OTHER.into());
    let stolen = token(&cluster.server, &world.ns, "pre-oom-killer", Some(("agent", &bound)));
    let thief = Thief { world: &world, token: stolen, node: None };
    poll("rights and policies", || {
        let own = (thief.evict("agent", &dry(uid(&bound))).code, thief.delete("agent", &dry(uid(&bound))).code);
        let other = (thief.evict("there", &dry(uid(&there))).code, thief.delete("there", &dry(uid(&there))).code);
        (own == (201, 200) && other == (403, 403)).then_some(())
    });
    thief.is_refused("there", &uid(&there), "is not on node", "this pod is not on the agent's node");
    Completion::Completed
}

/// What the policy on evictions costs others: where there is no pod, there is no parameter, and that comes before the
/// condition on whom the policy is about. So an eviction of what is gone is 422 there, for everybody, and not 404.
pub fn in_a_namespace_without_pods_the_policy_refuses_everybody(cluster: &Cluster) -> Completion {
    if let Some(ignored) = too_old(cluster, "policy") {
        return ignored;
    }
    let world = cluster.world();
    let _installed = install(cluster, "policy");
    let answer = poll("the policy", || {
        Some(world.evict(&Who::admin(), "gone", &world.ns, "")).filter(|answer| answer.code != 404)
    });
    let fact = &standin::answers::POLICY_NO_PARAMS;
    assert_eq!(answer.json(), fact.status(&[("name", "gone")]), "as the stand-in has it");
    world.pod("other", |_| {});
    poll("a pod is known", || (world.evict(&Who::admin(), "gone", &world.ns, "").code == 404).then_some(()));
    Completion::Completed
}

/// The mode `impersonation`: under no name that it may take another node's pods can be read, evicted or deleted, and under
/// its own node's nothing but what was granted.
pub fn a_stolen_token_reaches_no_other_node_by_impersonation(cluster: &Cluster) -> Completion {
    if let Some(ignored) = too_old(cluster, "impersonation") {
        return ignored;
    }
    let world = cluster.world();
    let installed = install(cluster, "impersonation").with_force_delete("impersonation");
    let own = world.pod("own", |_| {});
    let there = world.pod("there", |pod| pod["spec"]["nodeName"] = OTHER.into());
    let before = ["own", "there"].map(|name| world.get(name));
    let stolen = installed.agent_on(NODE);
    installed.wait_until_granted(&stolen);
    let as_ = |node| Thief { world: &world, token: stolen.clone(), node };
    poll("the right to delete", || (as_(Some(NODE)).delete("own", &dry(uid(&own))).code == 200).then_some(()));

    as_(None).is_refused("there", &uid(&there), "cannot create resource", "cannot delete resource");
    as_(None).is_refused("own", &uid(&own), "cannot create resource", "cannot delete resource");
    let only = |deed: &str| format!("node node-host can only {deed} pods with spec.nodeName set to itself");
    let deleting = only("delete").replace("node node-host", "node \\\"node-host\\\"");
    as_(Some(NODE)).is_refused("there", &uid(&there), &only("evict"), &deleting);
    as_(Some(OTHER)).is_refused(
        "there",
        &uid(&there),
        "cannot impersonate-on:arbitrary-node",
        "cannot impersonate-on:arbitrary-node",
    );
    let selected = |node: &str| format!("/api/v1/pods?fieldSelector=spec.nodeName%3D{node}");
    for (node, path) in [
        (None, "/api/v1/pods".to_owned()),
        (None, selected(NODE)),
        (Some(NODE), "/api/v1/pods".to_owned()),
        (Some(NODE), selected(OTHER)),
        (Some(NODE), as_(None).path("there")),
        (Some(OTHER), selected(OTHER)),
        // What a node may read, and the agent was not granted.
        (Some(NODE), as_(None).path("own")),
        (Some(NODE), format!("/api/v1/nodes/{NODE}")),
        (Some(NODE), "/api/v1/services".to_owned()),
    ] {
        let answer = send(&world, &stolen, node, "GET", &path, &Value::Null);
        assert_eq!(answer.code, 403, "GET {path} as {node:?}: {}", answer.text);
    }
    // Somebody else's name, or a group, is not what was granted either.
    for headers in [
        &[("impersonate-user", "admin")][..],
        &[("impersonate-user", "system:node:node-host"), ("impersonate-group", "system:masters")],
        &[("impersonate-user", "system:serviceaccount:kube-system:default")],
    ] {
        let answer = world.server.send(&stolen, request("GET", &selected(NODE), headers, ""));
        assert_eq!(answer.code, 403, "{headers:?}: {}", answer.text);
    }
    // Nor does a token that says nothing of a node help.
    let unbound = token(&cluster.server, OWN_NS, "pre-oom-killer", None);
    let unbound = Thief { world: &world, token: unbound, node: Some(NODE) };
    unbound.is_refused(
        "own",
        &uid(&own),
        "cannot impersonate-on:arbitrary-node",
        "cannot impersonate-on:arbitrary-node",
    );
    assert_eq!(["own", "there"].map(|name| world.get(name)), before, "all is as it was");
    assert_eq!(as_(Some(NODE)).evict("own", &uid(&own)).code, 201);
    Completion::Completed
}

/// The chart's `impersonation.requireOptIn`: under a node's name only what has opted in is evicted; the kubelet, which
/// deletes, and others, who evict, are not held up.
pub fn the_opt_in_can_be_asked_of_whoever_acts_as_a_node(cluster: &Cluster) -> Completion {
    if let Some(ignored) = too_old(cluster, "impersonation") {
        return ignored;
    }
    let world = cluster.world();
    let mut installed = install(cluster, "impersonation").with_force_delete("impersonation");
    policy_of_the_chart(OPT_IN).into_iter().for_each(|object| installed.apply(object));
    let own = world.pod("own", |_| {});
    let unlabelled = world.pod("unlabelled", |pod| pod["metadata"]["labels"] = json!({"app": "x"}));
    let stolen = installed.agent_on(NODE);
    installed.wait_until_granted(&stolen);
    let thief = Thief { world: &world, token: stolen, node: Some(NODE) };
    let refused = poll("the policy", || {
        Some(thief.evict("unlabelled", &dry(uid(&unlabelled)))).filter(|answer| answer.code != 201)
    });
    assert!(refused.code == 403 && refused.text.contains("pod unlabelled has not opted in"), "{}", refused.text);
    assert_eq!(thief.evict("own", &dry(uid(&own))).code, 201);
    assert_eq!(thief.delete("unlabelled", &dry(uid(&unlabelled))).code, 200);
    assert_eq!(world.evict(&Who::admin(), "unlabelled", &unlabelled, "?dryRun=All").code, 201);
    Completion::Completed
}
