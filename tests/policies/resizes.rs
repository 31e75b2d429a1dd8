//! The policy on resizes: each of its rules alone denies some case, and the others are let pass.

use std::collections::HashMap;
use std::sync::Arc;

use cel::extractors::This;
use cel::{Context, Env, Value};
use pre_oom_killer::ground::units::parse_memory;
use serde_json::{Value as Json, json};

use super::{COMPONENTS, Named, Rendered, Spec, read};

#[path = "../resizes/cases.rs"]
mod cases;

use cases::{BOTH, Case, ONLY_RAISE, ONLY_RESTART, Switches, cases};

const POLICY: &str = "-own-node-resize";

/// Which of the remedies a rendering lets pass.
fn switches(spec: &Spec) -> Switches {
    let is_on = |name: &str| {
        let variable = spec.variables.iter().find(|variable| variable.name == name).expect(name);
        variable.expression.parse().expect("true or false")
    };
    Switches { raise: is_on("raise"), restart: is_on("restart") }
}

/// A strategic merge patch, as far as the cases have it.
fn patched(pod: &Json, patch: &Json) -> Json {
    fn merge(into: &mut Json, patch: &Json) {
        match (into, patch) {
            (Json::Object(into), Json::Object(patch)) => {
                for (key, value) in patch {
                    match value {
                        Json::Null => drop(into.remove(key)),
                        value => merge(into.entry(key).or_insert(Json::Null), value),
                    }
                }
            }
            (Json::Array(into), Json::Array(patch)) => {
                for change in patch {
                    match into.iter_mut().find(|one| one["name"] == change["name"]) {
                        Some(one) => merge(one, change),
                        None => into.push(change.clone()),
                    }
                }
            }
            (into, patch) => {
                *into = patch.clone();
            }
        }
    }
    let mut pod = pod.clone();
    merge(&mut pod, patch);
    pod
}

/// The functions of the server's quantities, in whole bytes.
fn with_quantities(context: &mut Context) {
    let bytes = |text: &str| parse_memory(text).ok().and_then(|bytes| i64::try_from(bytes.0).ok());
    let quantity =
        move |text: Arc<String>| bytes(&text).ok_or_else(|| cel::ExecutionError::function_error("quantity", &text));
    context.add_function("quantity", quantity).expect("quantity");
    context.add_function("isQuantity", move |text: Arc<String>| bytes(&text).is_some()).expect("isQuantity");
    let compare = |This(a): This<i64>, b: i64| a.cmp(&b) as i64;
    context.add_function("compareTo", compare).expect("compareTo");
    context.add_function("add", |This(a): This<i64>, b: i64| a + b).expect("add");
}

/// The rules that deny it, as the server would evaluate them; `None`: the policy is not about this user.
fn denied_by(spec: &Spec, user: &str, case: &Case) -> Option<Vec<usize>> {
    let mut extra = json!({"authentication.kubernetes.io/credential-id": ["JTI=1"]});
    if let Some(node) = case.node {
        extra["authentication.kubernetes.io/node-name"] = json!([node]);
    }
    let env = Arc::new(Env::stdlib());
    let mut context = Context::with_env(Arc::clone(&env));
    with_quantities(&mut context);
    for (name, value) in [
        ("request", json!({"userInfo": {"username": user, "extra": extra}})),
        ("object", patched(&case.pod, &case.patch)),
        ("oldObject", case.pod.clone()),
    ] {
        context.add_variable_from_value(name, cel::to_value(value).expect(name));
    }
    let run = |context: &Context, text: &str| match env.compile(text) {
        Ok(program) => program.execute(context),
        Err(errors) => panic!("{text}: {errors}"),
    };
    let is_met = |named: &Named| run(&context, &named.expression).expect(&named.name) == Value::Bool(true);
    if !spec.match_conditions.iter().all(is_met) {
        return None;
    }
    let mut variables = HashMap::new();
    context.add_variable_from_value("variables", variables.clone());
    for variable in &spec.variables {
        // One that cannot be evaluated fails the rules that read it.
        if let Ok(value) = run(&context, &variable.expression) {
            variables.insert(variable.name.clone(), value);
            context.add_variable_from_value("variables", variables.clone());
        }
    }
    let rules = spec.validations.iter().enumerate();
    let denies = rules.filter(|(_, rule)| run(&context, &rule.expression) != Ok(Value::Bool(true)));
    Some(denies.map(|(index, _)| index).collect())
}

fn resizes_are_confined(rendered: &Rendered, agent: &str) {
    let spec = rendered.policy(POLICY);
    let rule =
        json!({"apiGroups": [""], "apiVersions": ["v1"], "operations": ["UPDATE"], "resources": ["pods/resize"]});
    assert_eq!(spec.match_constraints, json!({"resourceRules": [rule]}));
    assert_eq!((spec.param_kind.as_ref(), &rendered.binding(POLICY)["paramRef"]), (None, &Json::Null));
    assert!(spec.failure_policy == "Fail" && spec.validations.iter().all(|rule| rule.reason == "Forbidden"));

    let switches = switches(&spec);
    let cases: Vec<Case> = cases().into_iter().filter(|case| case.switches == switches).collect();
    let judge = |spec: &Spec, case: &Case| denied_by(spec, agent, case).expect("the agent is bound");
    for case in &cases {
        assert_eq!(judge(&spec, case), case.denied_by, "{} in {}", case.what, rendered.file);
    }
    for index in 0..spec.validations.len() {
        let mut without = spec.clone();
        without.validations.remove(index);
        let case = cases.iter().find(|case| case.denied_by == [index] && !case.invalid);
        // With one remedy alone, the rules that are not about it are those of the rendering with both.
        let Some(case) = case else {
            assert_ne!(switches, BOTH, "each rule denies some case alone: {:?}", spec.validations[index]);
            continue;
        };
        assert_eq!(judge(&without, case), [0; 0], "{}, without {:?}", case.what, spec.validations[index]);
    }
    let case = &cases[0];
    for other in
        ["system:admin", "system:node:a", "system:serviceaccount:kube-system:default", "somebody:pre-oom-killer"]
    {
        assert_eq!(denied_by(&spec, other, case), None, "{other} in {}", rendered.file);
    }
    // An overlay moves the plain manifests to a namespace that they do not know of.
    let (_, name) = agent.rsplit_once(':').expect("an account");
    let elsewhere = format!("system:serviceaccount:elsewhere:{name}");
    let plain = rendered.file == COMPONENTS[1] || rendered.file.starts_with("plain");
    assert_eq!(denied_by(&spec, &elsewhere, case).is_some(), plain, "{}", rendered.file);
}

#[test]
fn resizes_of_the_agent_are_confined_by_the_component_of_the_plain_manifests() {
    resizes_are_confined(&read(COMPONENTS[1]), "system:serviceaccount:pre-oom-killer:pre-oom-killer");
}

#[test]
#[ignore = "needs the chart rendered: tests/run deploy"]
fn resizes_of_the_agent_are_confined_wherever_it_is() {
    for (file, expected) in [
        ("resize.yaml", BOTH),
        ("resize-raise.yaml", ONLY_RAISE),
        ("resize-restart.yaml", ONLY_RESTART),
        ("plain-resize.yaml", BOTH),
    ] {
        let rendered = read(file);
        assert_eq!(switches(&rendered.policy(POLICY)), expected, "{file}");
        resizes_are_confined(&rendered, &rendered.agent());
    }
}
