//! The admission policies' expressions, as rendered, evaluated as the API server would: a policy with params once for each
//! pod of the namespace, all have to pass, and an expression that cannot be evaluated denies.
//!
//! The policy on resizes is in `policies/resizes.rs`. A MutatingAdmissionPolicy: what it stamps, which is one variable, for each kind of pod and namespace.
//!
//! `daemonset/install.yaml` and the components' policies are always looked at; the chart's renderings, and a kustomization that moves the namespace, where
//! `tests/run deploy` has made them (in the directory `PRE_OOM_KILLER_RENDERED`).
//!
//! What a CEL crate cannot show, the server's own type check and cost limit, the leg `apiserver` does: there all are in force
//! on a real server (`tests/apiserver/rights.rs`, `resizes.rs`, `namespaces.rs`).

#![allow(clippy::unwrap_used, clippy::expect_used, reason = "a test")]

use std::collections::{BTreeMap, HashMap};
use std::path::PathBuf;
use std::sync::Arc;

use cel::objects::Key;
use cel::{Context, Env, Program, Value};
use pre_oom_killer::ground::keys;
use pre_oom_killer::ground::keys::PREFIX;
use pre_oom_killer::pods::Pod;
use pre_oom_killer::pods::guard::{self};
use serde::Deserialize;
use serde_json::{Value as Json, json};

#[path = "stamps/cases.rs"]
mod cases;
#[path = "policies/resizes.rs"]
mod resizes;

use cases::cases;

/// A ValidatingAdmissionPolicy, as far as it decides.
#[derive(Clone, Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
struct Spec {
    failure_policy: String,
    param_kind: Option<Json>,
    match_constraints: Json,
    match_conditions: Vec<Named>,
    #[serde(default)]
    variables: Vec<Named>,
    validations: Vec<Validation>,
}

#[derive(Clone, Debug, Deserialize)]
struct Named {
    name: String,
    expression: String,
}

#[derive(Clone, Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
struct Validation {
    expression: String,
    message: Option<String>,
    message_expression: Option<String>,
    reason: String,
}

/// A rendering.
struct Rendered {
    file: String,
    docs: Vec<Json>,
}

const INSTALL: &str = "install.yaml";
/// The plain manifests' MutatingAdmissionPolicy, and their policy on resizes.
const COMPONENTS: [&str; 2] = ["components/namespaces/policy.yaml", "components/remedies/policy.yaml"];
/// All that `tests/run deploy` makes.
const MADE: [&str; 5] = ["chart.yaml", "chart-other.yaml", "chart-release.yaml", "plain-other.yaml", "opt-in.yaml"];

fn read(file: &str) -> Rendered {
    let path = if file == INSTALL || COMPONENTS.contains(&file) {
        PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("daemonset").join(file)
    } else {
        let made =
            std::env::var_os("PRE_OOM_KILLER_RENDERED").expect("PRE_OOM_KILLER_RENDERED: run `tests/run deploy`");
        PathBuf::from(made).join(file)
    };
    let docs = serde_saphyr::from_multiple(&std::fs::read_to_string(path).unwrap()).unwrap();
    Rendered { file: file.to_owned(), docs }
}

impl Rendered {
    fn find(&self, kind: &str, end: &str) -> Option<&Json> {
        let name = |doc: &Json| doc["metadata"]["name"].as_str().unwrap_or_default().to_owned();
        self.docs.iter().find(|doc| doc["kind"] == kind && name(doc).ends_with(end))
    }

    fn policy(&self, end: &str) -> Spec {
        let policy = self.find("ValidatingAdmissionPolicy", end).unwrap();
        serde_json::from_value(policy["spec"].clone()).unwrap()
    }

    fn binding(&self, end: &str) -> &Json {
        let binding = &self.find("ValidatingAdmissionPolicyBinding", end).unwrap()["spec"];
        let policy = self.find("ValidatingAdmissionPolicy", end).unwrap();
        assert_eq!(binding["policyName"], policy["metadata"]["name"], "{}", self.file);
        assert_eq!(binding["validationActions"], json!(["Deny"]), "{}", self.file);
        binding
    }

    /// (namespace, name) of the account that the DaemonSet's pods have.
    fn account(&self) -> (String, String) {
        let agent = self.find("DaemonSet", "").unwrap();
        let text = |v: &Json| v.as_str().unwrap().to_owned();
        (text(&agent["metadata"]["namespace"]), text(&agent["spec"]["template"]["spec"]["serviceAccountName"]))
    }

    fn agent(&self) -> String {
        let (namespace, name) = self.account();
        format!("system:serviceaccount:{namespace}:{name}")
    }
}

#[derive(Debug, PartialEq)]
enum Verdict {
    /// The match conditions leave the request alone.
    NotMatched,
    Allowed,
    /// By the validations with these indices, each once, in their words.
    Denied(Vec<(usize, String)>),
}

impl Verdict {
    fn denied_by(&self) -> Vec<usize> {
        match self {
            Verdict::Denied(by) => by.iter().map(|(index, _)| *index).collect(),
            _ => Vec::new(),
        }
    }
}

/// Who asks for what.
#[derive(Clone)]
struct Ask {
    user: String,
    /// The node in the token; None: the token is not bound to a pod.
    node: Option<&'static str>,
    pod: &'static str,
    /// The precondition.
    uid: Option<&'static str>,
}

fn pod(name: &str, node: Option<&str>, labels: Json) -> Json {
    let mut pod = json!({"metadata": {"name": name, "uid": format!("uid-{name}")}, "spec": {}});
    if let Some(node) = node {
        pod["spec"]["nodeName"] = json!(node);
    }
    if !labels.is_null() {
        pod["metadata"]["labels"] = labels;
    }
    pod
}

/// The pods of the namespace.
fn pods() -> Vec<Json> {
    let enabled = || json!({"app": "x", "pre-oom-killer": "enabled"});
    vec![
        pod("own", Some("a"), enabled()),
        pod("other", Some("b"), enabled()),
        pod("waiting", None, enabled()),
        pod("without-label", Some("a"), json!({"app": "x"})),
        pod("without-labels", Some("a"), Json::Null),
        pod("switched-off", Some("a"), json!({"pre-oom-killer": "disabled"})),
    ]
}

/// What the server would say: of an eviction, or with `delete` of a deletion.
fn judge(spec: &Spec, ask: &Ask, delete: bool) -> Verdict {
    let mut extra = json!({"authentication.kubernetes.io/credential-id": ["JTI=1"]});
    if let Some(node) = ask.node {
        extra["authentication.kubernetes.io/node-name"] = json!([node]);
    }
    let request = json!({"name": ask.pod, "userInfo": {"username": ask.user, "extra": extra}});
    let mut object = json!({"metadata": {"name": ask.pod}});
    if let Some(uid) = ask.uid {
        object["deleteOptions"] = json!({"preconditions": {"uid": uid}});
    }
    let pods = pods();
    let mut context = Context::default();
    let set = |context: &mut Context, name: &str, value: &Json| {
        context.add_variable_from_value(name, cel::to_value(value).unwrap());
    };
    set(&mut context, "request", &request);
    set(&mut context, "object", if delete { &Json::Null } else { &object });
    let old = if delete { pods.iter().find(|p| p["metadata"]["name"] == ask.pod) } else { None };
    set(&mut context, "oldObject", old.unwrap_or(&Json::Null));
    // A syntax error is a mistake of ours, whatever the request.
    let run = |context: &Context, text: &str| Program::compile(text).expect(text).execute(context);
    if !spec.match_conditions.iter().all(|c| run(&context, &c.expression).expect(&c.name) == Value::Bool(true)) {
        return Verdict::NotMatched;
    }
    let mut denied = Vec::new();
    let params = if spec.param_kind.is_some() { pods.iter().collect() } else { vec![&Json::Null] };
    for param in params {
        set(&mut context, "params", param);
        let mut variables = HashMap::new();
        for variable in &spec.variables {
            let value = run(&context, &variable.expression).expect(&variable.name);
            variables.insert(variable.name.clone(), value);
            context.add_variable_from_value("variables", variables.clone());
        }
        for (index, validation) in spec.validations.iter().enumerate() {
            if run(&context, &validation.expression) != Ok(Value::Bool(true))
                && !denied.iter().any(|(i, _)| *i == index)
            {
                let message = match &validation.message_expression {
                    Some(text) => match run(&context, text) {
                        Ok(Value::String(message)) => message.to_string(),
                        other => panic!("{text}: {other:?}"),
                    },
                    None => validation.message.clone().unwrap(),
                };
                denied.push((index, message));
            }
        }
    }
    if denied.is_empty() { Verdict::Allowed } else { Verdict::Denied(denied) }
}

/// Case by case; and every validation must be the only one to deny some case: without it that case would pass.
fn check(spec: &Spec, cases: &[(&str, Ask, &[usize])], delete: bool) {
    assert_eq!(spec.failure_policy, "Fail");
    assert!(spec.validations.iter().all(|v| v.reason == "Forbidden"));
    for (name, ask, denied_by) in cases {
        assert_eq!(judge(spec, ask, delete).denied_by(), *denied_by, "{name}: {:?}", judge(spec, ask, delete));
    }
    for index in 0..spec.validations.len() {
        let mut without = spec.clone();
        without.validations.remove(index);
        let (name, ask, _) = cases.iter().find(|(_, _, by)| **by == [index]).expect("each rule denies some case alone");
        assert_eq!(judge(&without, ask, delete), Verdict::Allowed, "{name}, without {:?}", spec.validations[index]);
    }
}

/// Whom the policy binds: the agent, and nobody else.
fn check_match(rendered: &Rendered, spec: &Spec, delete: bool) {
    let (namespace, name) = rendered.account();
    let ask = |user: &str| Ask { user: user.into(), node: Some("a"), pod: "other", uid: Some("uid-other") };
    let bound = |user: &str| judge(spec, &ask(user), delete) != Verdict::NotMatched;
    assert!(bound(&rendered.agent()), "{}", rendered.file);
    for user in [
        "system:admin".into(),
        "system:node:a".into(),
        "system:serviceaccount:kube-system:node-controller".into(),
        format!("system:serviceaccount:{namespace}:default"),
        format!("system:serviceaccount:{namespace}:x{name}"),
        format!("system:serviceaccount:{name}:default"),
        format!("somebody:{name}"),
    ] {
        assert!(!bound(&user), "{user} in {}", rendered.file);
    }
    // An overlay moves the plain manifests to a namespace that they do not know of.
    let elsewhere = format!("system:serviceaccount:elsewhere:{name}");
    let plain = [INSTALL, "plain-other.yaml"].contains(&&*rendered.file);
    assert_eq!(bound(&elsewhere), plain, "{}", rendered.file);
}

#[test]
fn evictions_of_the_agent_are_confined_in_the_plain_manifests() {
    evictions_are_confined(&read(INSTALL));
}

#[test]
#[ignore = "needs the chart rendered: tests/run deploy"]
fn evictions_of_the_agent_are_confined_wherever_it_is() {
    for file in &MADE[..4] {
        evictions_are_confined(&read(file));
    }
}

fn evictions_are_confined(rendered: &Rendered) {
    let spec = rendered.policy("-own-node");
    let rule =
        json!({"apiGroups": [""], "apiVersions": ["v1"], "operations": ["CREATE"], "resources": ["pods/eviction"]});
    assert_eq!(spec.match_constraints, json!({"resourceRules": [rule]}));
    assert_eq!(spec.param_kind, Some(json!({"apiVersion": "v1", "kind": "Pod"})));
    // With a selector, pods without the label would not be params, and pass.
    let params = json!({"selector": {}, "parameterNotFoundAction": "Deny"});
    assert_eq!(rendered.binding("-own-node")["paramRef"], params);
    let ask = |node, pod, uid| Ask { user: rendered.agent(), node, pod, uid };
    let cases: [(&str, Ask, &[usize]); 11] = [
        ("own node", ask(Some("a"), "own", Some("uid-own")), &[]),
        ("other node", ask(Some("a"), "other", Some("uid-other")), &[1]),
        ("the other node's agent", ask(Some("b"), "other", Some("uid-other")), &[]),
        ("no nodeName", ask(Some("a"), "waiting", Some("uid-waiting")), &[1]),
        ("unbound token", ask(None, "own", Some("uid-own")), &[0, 1]),
        ("unbound token, a pod that the server does not know yet", ask(None, "new", Some("uid-new")), &[0]),
        ("no label", ask(Some("a"), "without-label", Some("uid-without-label")), &[3]),
        ("no labels", ask(Some("a"), "without-labels", Some("uid-without-labels")), &[3]),
        ("another value", ask(Some("a"), "switched-off", Some("uid-switched-off")), &[3]),
        ("wrong UID", ask(Some("a"), "own", Some("uid-other")), &[2]),
        ("no UID", ask(Some("a"), "own", None), &[2]),
    ];
    check(&spec, &cases, false);
    check_match(rendered, &spec, false);
    let told = judge(&spec, &cases[1].1, false);
    assert_eq!(told, Verdict::Denied(vec![(1, "pod other is not on node a".into())]));
}

#[test]
#[ignore = "needs the chart rendered: tests/run deploy"]
fn deletions_of_the_agent_are_confined() {
    for rendered in MADE[..3].iter().map(|file| read(file)) {
        let spec = rendered.policy("-own-node-delete");
        let rule = json!({"apiGroups": [""], "apiVersions": ["v1"], "operations": ["DELETE"], "resources": ["pods"]});
        assert_eq!(spec.match_constraints, json!({"resourceRules": [rule]}));
        assert_eq!((spec.param_kind.as_ref(), &rendered.binding("-own-node-delete")["paramRef"]), (None, &Json::Null));
        let ask = |node, pod| Ask { user: rendered.agent(), node, pod, uid: None };
        let cases: [(&str, Ask, &[usize]); 7] = [
            ("own node", ask(Some("a"), "own"), &[]),
            ("other node", ask(Some("a"), "other"), &[0]),
            ("no nodeName", ask(Some("a"), "waiting"), &[0]),
            ("unbound token", ask(None, "own"), &[0]),
            ("no label", ask(Some("a"), "without-label"), &[1]),
            ("no labels", ask(Some("a"), "without-labels"), &[1]),
            ("another value", ask(Some("a"), "switched-off"), &[1]),
        ];
        check(&spec, &cases, true);
        check_match(&rendered, &spec, true);
    }
}

#[test]
#[ignore = "needs the chart rendered: tests/run deploy"]
fn the_opt_in_can_be_asked_of_whoever_acts_as_a_node() {
    let rendered = read("opt-in.yaml");
    let spec = rendered.policy("-opt-in");
    assert_eq!(rendered.binding("-opt-in")["paramRef"]["selector"], json!({}));
    let ask = |pod| Ask { user: "system:node:a".into(), node: None, pod, uid: None };
    let cases: [(&str, Ask, &[usize]); 3] = [
        ("label", ask("own"), &[]),
        ("no label", ask("without-label"), &[0]),
        ("no labels", ask("without-labels"), &[0]),
    ];
    check(&spec, &cases, false);
    let admin = Ask { user: "system:admin".into(), ..ask("without-label") };
    assert_eq!(judge(&spec, &admin, false), Verdict::NotMatched);
}

// --- a whole namespace -----------------------------------------------------------------------------------------------

/// A MutatingAdmissionPolicy, as far as it decides.
#[derive(Clone, Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
struct Mutating {
    failure_policy: String,
    match_constraints: Json,
    match_conditions: Vec<Named>,
    variables: Vec<Named>,
    mutations: Json,
}

fn stamping(rendered: &Rendered) -> Mutating {
    let policy = rendered.find("MutatingAdmissionPolicy", "-namespaces").unwrap();
    let binding = rendered.find("MutatingAdmissionPolicyBinding", "-namespaces").unwrap();
    // In all namespaces that the policy itself selects.
    assert_eq!(binding["spec"], json!({"policyName": policy["metadata"]["name"]}));
    serde_json::from_value(policy["spec"].clone()).unwrap()
}

/// The annotations that a pod gets; None: the policy leaves it alone.
fn stamp(spec: &Mutating, namespace: &Json, pod: &Json) -> Option<BTreeMap<String, String>> {
    let labels = &namespace["metadata"]["labels"];
    let selector = &spec.match_constraints["namespaceSelector"];
    let equal = selector["matchLabels"].as_object().unwrap().iter().all(|(key, value)| labels[key] == *value);
    let others = selector["matchExpressions"].as_array().unwrap().iter().all(|test| {
        assert_eq!(test["operator"], "NotIn");
        !test["values"].as_array().unwrap().contains(&labels[test["key"].as_str().unwrap()])
    });
    if !(equal && others) {
        return None;
    }
    // With optional values, as the server has them.
    let env = Arc::new(Env::stdlib());
    let mut context = Context::with_env(Arc::clone(&env));
    context.add_variable_from_value("object", cel::to_value(pod).unwrap());
    let run = |context: &Context, named: &Named| match env.compile(&named.expression) {
        Ok(program) => program.execute(context).unwrap_or_else(|error| panic!("{}: {error}", named.name)),
        Err(errors) => panic!("{}: {errors}", named.name),
    };
    // The server gives these no namespaceObject.
    if !spec.match_conditions.iter().all(|condition| run(&context, condition) == Value::Bool(true)) {
        return None;
    }
    context.add_variable_from_value("namespaceObject", cel::to_value(namespace).unwrap());
    let mut variables = HashMap::new();
    for variable in &spec.variables {
        variables.insert(variable.name.clone(), run(&context, variable));
        context.add_variable_from_value("variables", variables.clone());
    }
    let Value::Map(stamp) = &variables["stamp"] else { panic!("{:?}", variables["stamp"]) };
    let stamp = stamp.map.iter().map(|(key, value)| match (key, value) {
        (Key::String(key), Value::String(value)) => (key.to_string(), value.to_string()),
        other => panic!("{other:?}"),
    });
    Some(stamp.collect::<BTreeMap<_, _>>()).filter(|stamp| !stamp.is_empty())
}

#[test]
fn pods_are_stamped_by_the_component_of_the_plain_manifests() {
    namespaces_are_guarded(&read(COMPONENTS[0]), "pre-oom-killer", "80");
}

#[test]
#[ignore = "needs the chart rendered: tests/run deploy"]
fn pods_are_stamped_by_the_chart() {
    for (file, own, threshold) in
        [("namespaces.yaml", "pre-oom-killer", "80"), ("namespaces-other.yaml", "other", "62.5%")]
    {
        namespaces_are_guarded(&read(file), own, threshold);
    }
}

fn namespaces_are_guarded(rendered: &Rendered, own: &str, default: &str) {
    let spec = stamping(rendered);
    let rule = json!({"apiGroups": [""], "apiVersions": ["v1"], "operations": ["CREATE"], "resources": ["pods"]});
    assert_eq!(spec.match_constraints["resourceRules"], json!([rule]));
    // It can never keep a pod from being made.
    assert_eq!(spec.failure_policy, "Ignore");
    // All that is done to a pod; a crate cannot evaluate it, the leg `apiserver` does.
    let mutation = "size(variables.stamp) == 0 ? Object{} : Object{metadata: Object.metadata{labels: \
                    {'pre-oom-killer': 'enabled'}, annotations: variables.stamp}}";
    assert_eq!(
        spec.mutations,
        json!([{"patchType": "ApplyConfiguration", "applyConfiguration": {"expression": mutation}}])
    );

    for case in cases(own, default) {
        let name = case.namespace.name.as_deref().unwrap_or("shop");
        let mut namespace = json!({"metadata": {"name": name, "labels": case.namespace.labels}});
        namespace["metadata"]["labels"]["kubernetes.io/metadata.name"] = json!(name);
        if case.namespace.annotations != json!({}) {
            namespace["metadata"]["annotations"] = case.namespace.annotations;
        }
        let stamp = stamp(&spec, &namespace, &case.pod);
        let rest = stamp.clone().map(|mut stamp| {
            let by = stamp.remove(&format!("{PREFIX}{}", keys::GUARDED_BY));
            assert_eq!(by.as_deref(), Some(keys::BY_NAMESPACE), "{}", case.what);
            stamp.into_iter().map(|(key, value)| (key.strip_prefix(PREFIX).unwrap().to_owned(), value)).collect()
        });
        assert_eq!(rest, case.stamp, "{} in {}", case.what, rendered.file);

        // And what comes of it is a guard without a word of warning.
        let Some(stamp) = stamp else { continue };
        let mut pod = case.pod;
        pod["metadata"]["labels"]["pre-oom-killer"] = json!("enabled");
        for (key, value) in stamp {
            pod["metadata"]["annotations"][key] = json!(value);
        }
        let pod = Pod::from_json(&pod.to_string()).unwrap();
        let reading = guard::read(&pod).unwrap();
        assert!(guard::by_namespace(&pod) && reading.guard.is_ok(), "{}: {reading:?}", case.what);
        assert_eq!(reading.warnings, [], "{}", case.what);
    }
}

/// `pre-oom-killer check` says the same of them, without a cluster.
#[cfg(feature = "plugin")]
#[test]
fn check_knows_what_the_policy_stamps() {
    use pre_oom_killer::plugin::check::{input::Input, namespaces::Namespace, objects::objects};
    let mut seen = (0, 0);
    for case in cases("pre-oom-killer", guard::NAMESPACE_THRESHOLD) {
        let pod = &case.pod;
        let owner = &pod["metadata"]["ownerReferences"];
        let controller = owner.as_array().into_iter().flatten().find(|owner| owner["controller"] == true);
        // Of a pod that somebody's own controller makes, there is no template that `check` knows.
        let object = match controller {
            None => json!({"apiVersion": "v1", "kind": "Pod", "metadata": pod["metadata"], "spec": pod["spec"]}),
            Some(owner)
                if ["ReplicaSet", "StatefulSet", "DaemonSet"].contains(&owner["kind"].as_str().unwrap())
                    || owner["apiVersion"] == "batch/v1" =>
            {
                json!({"apiVersion": owner["apiVersion"], "kind": owner["kind"], "metadata": {}, "spec": {"template": pod}})
            }
            Some(_) => continue,
        };
        let name = case.namespace.name.as_deref().unwrap_or("shop");
        let mut object = object;
        object["metadata"]["namespace"] = name.into();
        let metadata =
            json!({"name": name, "labels": case.namespace.labels, "annotations": case.namespace.annotations});
        let namespace = json!({"apiVersion": "v1", "kind": "Namespace", "metadata": metadata});
        let mut input = Input::default();
        input.take_text("f", &format!("{object}\n---\n{namespace}"), true);
        assert_eq!(input.unreadable, [], "{}", case.what);
        let all = objects(&input.documents);
        let (template, space) = (all[0].template().unwrap(), Namespace::of(all[1]).unwrap());
        let decided = pod["metadata"]["labels"].get(keys::LABEL).is_some();
        let own = pod["metadata"]["annotations"].as_object().into_iter().flatten();
        let own: BTreeMap<String, String> = own
            .filter_map(|(key, value)| Some((key.strip_prefix(PREFIX)?.to_owned(), value.as_str()?.to_owned())))
            .collect();
        let containers = pod["spec"]["containers"].as_array().unwrap().iter();
        let containers: Vec<_> = containers.map(|c| c["name"].as_str().unwrap()).collect();
        let stamp = (!decided && space.guards(&template)).then(|| space.stamp(&own, &containers));
        let expected = case.stamp.map(|mut stamp| {
            stamp.insert(keys::GUARDED_BY.into(), keys::BY_NAMESPACE.into());
            stamp
        });
        assert_eq!(stamp, expected, "{}", case.what);
        if stamp.is_some() { seen.0 += 1 } else { seen.1 += 1 }
    }
    assert!(seen.0 > 20 && seen.1 > 10, "{seen:?}");
}
