//! The probe of resizes: whether the API server keeps the agent's `PATCH pods/resize` to opted-in pods of its own node. Pure.
//!
//! The probe is a patch with `?dryRun=All` of the agent's own pod, and changes nothing of it. The server asks the policy
//! about such a patch, too (measured), and the pod has not opted in. An impossible uid cannot serve, as it does for evictions:
//! the server refuses it before it asks the policy (measured).

use http::StatusCode;
use k8s_openapi::api::core::v1::Pod as ApiPod;
use kube::Resource;
use kube::api::{Patch, PatchParams};
use kube::core::{Request, TypeMeta};
use serde_json::json;

use super::confinement::ConfinementState;
use super::probe::{ProbeFinding, ProbeResult, message_of, policy, words};
use crate::act::answer::{Answer, classify};

/// So the name of the policy on resizes ends.
const RESIZES: &str = "-own-node-resize";
/// The policy's message if the token does not say on which node it is used: the agent's own pod is on its node.
const NOT_HERE: &str = "this pod is not on the agent's node";

/// The patch that changes nothing.
///
/// # Errors
/// If the names make no valid path.
pub fn request(namespace: &str, name: &str) -> anyhow::Result<http::Request<Vec<u8>>> {
    let params = PatchParams { dry_run: true, ..PatchParams::default() };
    let nothing = Patch::Strategic(json!({"spec": {}}));
    let path = ApiPod::url_path(&(), Some(namespace));
    Ok(Request::new(path).patch_subresource("resize", name, &params, &nothing)?)
}

/// The meaning of the answer.
#[must_use]
pub fn result_of(code: StatusCode, body: &[u8]) -> ProbeResult {
    let is_pod = || serde_json::from_slice::<TypeMeta>(body).is_ok_and(|object| object.kind == "Pod");
    if code == StatusCode::OK && is_pod() {
        let why = "the server would resize a pod that has not opted in: no policy that confines resizes is in force";
        return ProbeResult::Found(ProbeFinding::of(ConfinementState::DoesNotHold, why));
    }
    let message = message_of(body);
    let words = format!("resizes: {}", words(code, &message));
    let found = match classify(code, None, body) {
        Answer::Throttled { .. } | Answer::Unauthorized | Answer::Failing { .. } | Answer::Unknown { .. } => {
            return ProbeResult::Passing(words);
        }
        Answer::Refused { code: 403, .. } => match policy(&message, RESIZES) {
            Some((policy, NOT_HERE)) => ProbeFinding {
                refuses_all: true,
                ..ProbeFinding::of(
                    ConfinementState::Holds,
                    format!("policy {policy} refuses every resize: the token is not bound to a node"),
                )
            },
            Some((policy, reason)) => {
                ProbeFinding::of(ConfinementState::Holds, format!("policy {policy} refused: {reason}"))
            }
            None => ProbeFinding::unclear(words),
        },
        _ => ProbeFinding::unclear(words),
    };
    ProbeResult::Found(found)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::BTreeMap;

    fn word(result: &ProbeResult) -> &'static str {
        match result {
            ProbeResult::Found(finding) => finding.state.as_str(),
            ProbeResult::Passing(_) => "again",
        }
    }

    fn own_policy(name: &str, reason: &str) -> (StatusCode, Vec<u8>) {
        let denied = format!("ValidatingAdmissionPolicy '{name}' with binding '{name}' denied request: {reason}");
        let body = json!({
            "kind": "Status", "apiVersion": "v1", "metadata": {}, "status": "Failure", "reason": "Forbidden", "code": 403,
            "message": format!("pods \"own\" is forbidden: {denied}"),
            "details": {"name": "own", "kind": "pods", "causes": [{"message": denied}]},
        });
        (StatusCode::FORBIDDEN, body.to_string().into_bytes())
    }

    #[test]
    fn it_is_a_dry_run_of_a_patch_that_changes_nothing() {
        let request = request("ns", "own").unwrap();
        assert_eq!(request.method(), "PATCH");
        assert_eq!(request.uri(), "/api/v1/namespaces/ns/pods/own/resize?&dryRun=All");
        assert_eq!(request.headers()["content-type"], "application/strategic-merge-patch+json");
        assert_eq!(request.body(), br#"{"spec":{}}"#);
    }

    #[test]
    fn only_the_shipped_policy_shows_that_it_holds() {
        for name in ["pre-oom-killer-own-node-resize", "prod-pre-oom-killer-own-node-resize"] {
            let (code, body) = own_policy(name, "this pod has not opted in");
            let ProbeResult::Found(finding) = result_of(code, &body) else { panic!("{name}") };
            assert!(finding.state == ConfinementState::Holds && !finding.refuses_all, "{finding:?}");
            assert_eq!(finding.why, format!("policy {name} refused: this pod has not opted in"));
        }
        for name in [
            "pre-oom-killer-own-node",
            "pre-oom-killer-own-node-delete",
            "pre-oom-killer-resize",
            "facts-own-node-resize",
        ] {
            let (code, body) = own_policy(name, "this pod has not opted in");
            assert_eq!(word(&result_of(code, &body)), "unclear", "{name}");
        }
        let (code, body) = own_policy("pre-oom-killer-own-node-resize", NOT_HERE);
        let ProbeResult::Found(finding) = result_of(code, &body) else { panic!() };
        assert!(finding.state == ConfinementState::Holds && finding.refuses_all, "{finding:?}");
    }

    #[test]
    fn a_pod_as_the_answer_shows_that_it_does_not_hold() {
        let pod = br#"{"kind":"Pod","apiVersion":"v1","metadata":{"name":"own"}}"#;
        assert_eq!(word(&result_of(StatusCode::OK, pod)), "does-not-hold");
        // Whoever says this has not seen the request.
        assert_eq!(word(&result_of(StatusCode::OK, b"<html>welcome</html>")), "again");
        assert_eq!(word(&result_of(StatusCode::NOT_FOUND, b"<html>not found</html>")), "again");
        // A server that does not have the subresource.
        let old = br#"{"kind":"Status","status":"Failure","message":"the server could not find the requested resource","reason":"NotFound","details":{},"code":404}"#;
        assert_eq!(word(&result_of(StatusCode::NOT_FOUND, old)), "unclear");
    }

    /// No other refusal that a real server gave is taken for the policy's.
    #[test]
    fn every_recorded_refusal_is_unclear_or_passes() {
        let text = include_str!("../../fixtures/api-answers/resizes.json");
        let all: BTreeMap<String, serde_json::Value> = serde_json::from_str(text).unwrap();
        let again = ["resize-401", "resize-409-apply", "resize-500-webhook-http-500"];
        let mut seen = 0;
        for (name, answer) in all.iter().filter(|(name, _)| *name != "about") {
            let code = StatusCode::from_u16(u16::try_from(answer["status"].as_u64().unwrap()).unwrap()).unwrap();
            let expected = if again.contains(&name.as_str()) { "again" } else { "unclear" };
            let result = result_of(code, answer["body"].to_string().as_bytes());
            assert_eq!(word(&result), expected, "{name}: {result:?}");
            seen += 1;
        }
        assert!(seen > 40, "{seen}");
    }
}
