//! What the answer to a probe means: whether the API server itself keeps the agent to its own node. Pure.
//!
//! This is the probe of evictions; that of resizes is in [`resize`](super::resize). It is an eviction with `?dryRun=All` and a
//! uid that no pod has. In mode `policy` (and `none`) it names the agent's own pod. The policy compares the uid and refuses
//! the request before the precondition does. In mode `impersonation` it names a pod that does not exist. Either the plugin
//! NodeRestriction or, behind it, the registry says so, each in its own words.

use http::StatusCode;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Status;

use super::confinement::{Confinement, ConfinementState};
use super::permissions::Permission;
use crate::act::answer::{Answer, classify};
use crate::ground::text::shortened;

/// The names of the shipped policies contain it. The chart puts the release's name before or after it.
const POLICY: &str = "pre-oom-killer";
/// So the name of the policy on evictions ends.
const EVICTIONS: &str = "-own-node";

/// The policy's message if the token does not say on which node it is used.
const NOT_BOUND: &str = "the token is not bound to a node";

/// At most so much of the server's message is kept, in bytes. Two names of the greatest length fit into it.
const MESSAGE_BYTES: usize = 1024;

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ProbeFinding {
    pub state: ConfinementState,
    /// The reason, with the server's message.
    pub why: String,
    /// The policy refuses every eviction, also those on the agent's own node.
    pub refuses_all: bool,
}

impl ProbeFinding {
    pub(super) fn of(state: ConfinementState, why: impl Into<String>) -> ProbeFinding {
        ProbeFinding { state, why: why.into(), refuses_all: false }
    }

    #[must_use]
    pub fn not_asked(why: &str) -> ProbeFinding {
        ProbeFinding::of(ConfinementState::NotAsked, why)
    }

    #[must_use]
    pub fn unclear(why: String) -> ProbeFinding {
        ProbeFinding::of(ConfinementState::Unclear, why)
    }

    /// Both hold, or the one that is worse.
    #[must_use]
    pub fn and(self, other: ProbeFinding) -> ProbeFinding {
        let badness = |state| match state {
            ConfinementState::Holds | ConfinementState::NotAsked => 0,
            ConfinementState::Unclear => 1,
            ConfinementState::DoesNotHold => 2,
        };
        ProbeFinding {
            state: if badness(other.state) > badness(self.state) { other.state } else { self.state },
            why: format!("{}; {}", self.why, other.why),
            refuses_all: self.refuses_all || other.refuses_all,
        }
    }

    /// The account itself has a permission that it must not have.
    #[must_use]
    pub fn surplus(permission: &Permission) -> ProbeFinding {
        let why = format!(
            "the service account itself may {permission}, so whoever has its token need not act as the node: take that permission away"
        );
        ProbeFinding::of(ConfinementState::DoesNotHold, why)
    }
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ProbeResult {
    Found(ProbeFinding),
    /// A failure that passes, in the server's words: probe again.
    Passing(String),
}

/// The meaning of the answer to the probe that named the pod `name`.
#[must_use]
pub fn result_of(mode: Confinement, name: &str, code: StatusCode, body: &[u8]) -> ProbeResult {
    let message = message_of(body);
    let words = words(code, &message);
    let answer = classify(code, None, body);
    let found = match (mode, &answer) {
        (_, Answer::Throttled { .. } | Answer::Unauthorized | Answer::Failing { .. } | Answer::Unknown { .. }) => {
            return ProbeResult::Passing(words);
        }
        (Confinement::Impersonation, Answer::Gone) if message == format!("pod \"{name}\" not found") => {
            ProbeFinding::of(
                ConfinementState::Holds,
                "the admission plugin NodeRestriction checks evictions by system:node:…",
            )
        }
        (Confinement::Impersonation, Answer::Gone) if message == format!("pods \"{name}\" not found") => {
            let why = "the request passed admission: the plugin NodeRestriction is not enabled on the API server";
            ProbeFinding::of(ConfinementState::DoesNotHold, why)
        }
        (Confinement::None | Confinement::Policy, Answer::Refused { code: 403, .. }) => {
            match policy(&message, EVICTIONS) {
                Some((policy, NOT_BOUND)) => ProbeFinding {
                    refuses_all: true,
                    ..ProbeFinding::of(
                        ConfinementState::Holds,
                        format!(
                            "policy {policy} refuses every eviction: {NOT_BOUND} (from Kubernetes 1.30 on, the tokens of pods are)"
                        ),
                    )
                },
                Some((policy, reason)) => {
                    ProbeFinding::of(ConfinementState::Holds, format!("policy {policy} refused: {reason}"))
                }
                None => ProbeFinding::unclear(words),
            }
        }
        (Confinement::None | Confinement::Policy, Answer::Replaced) => {
            let why = "nothing but the pod's uid stopped it: no policy that confines evictions is in force";
            ProbeFinding::of(ConfinementState::DoesNotHold, why)
        }
        _ => ProbeFinding::unclear(words),
    };
    ProbeResult::Found(found)
}

/// The server's message, not too long.
pub(super) fn message_of(body: &[u8]) -> String {
    let message = serde_json::from_slice::<Status>(body).unwrap_or_default().message;
    let mut message = message.unwrap_or_else(|| shortened(String::from_utf8_lossy(body).trim()));
    message.truncate(message.floor_char_boundary(MESSAGE_BYTES));
    message
}

/// An answer that shows nothing.
pub(super) fn words(code: StatusCode, message: &str) -> String {
    format!("the server answered {}: {message}", code.as_u16())
}

/// The name and the reason of the shipped policy whose name ends so, from `… ValidatingAdmissionPolicy 'NAME' with binding
/// 'NAME' denied request: REASON`.
pub(super) fn policy<'a>(message: &'a str, end: &str) -> Option<(&'a str, &'a str)> {
    let (_, rest) = message.split_once("ValidatingAdmissionPolicy '")?;
    let (name, rest) = rest.split_once('\'')?;
    let (_, reason) = rest.split_once(" denied request: ")?;
    (name.contains(POLICY) && name.ends_with(end)).then_some((name, reason))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Answers of a 1.36.2 server as the stand-in's table has them (it is held against the recordings).
    fn recorded(name: &str) -> (StatusCode, Vec<u8>) {
        let fact = match name {
            "noderestriction-not-found" => &standin::answers::NODE_RESTRICTION_NOT_FOUND,
            name => standin::answers::find(name).unwrap_or_else(|| panic!("no {name}")),
        };
        let vars = [
            ("name", "own"),
            ("namespace", "ns"),
            ("qualified", "pods"),
            ("plural", "pods"),
            ("subject", "pods \"own\""),
            ("user", "u"),
            ("verb", "create"),
            ("resource", "pods/eviction"),
            ("scope", "in the namespace \"ns\""),
            ("node", "node-host"),
            ("reason", "pod own is not on node node-host"),
        ];
        let body = match fact.form {
            standin::answers::Form::Text => fact.message.to_owned(),
            _ => fact.status(&vars).to_string(),
        };
        (StatusCode::from_u16(fact.code).unwrap(), body.into_bytes())
    }

    fn own_policy(reason: &str) -> (StatusCode, Vec<u8>) {
        let policy = "pre-oom-killer-own-node";
        let denied = format!("ValidatingAdmissionPolicy '{policy}' with binding '{policy}' denied request: {reason}");
        let body = serde_json::json!({
            "kind": "Status", "apiVersion": "v1", "metadata": {}, "status": "Failure", "reason": "Forbidden", "code": 403,
            "message": format!("pods \"own\" is forbidden: {denied}"),
            "details": {"name": "own", "kind": "pods", "causes": [{"message": denied}]},
        });
        (StatusCode::FORBIDDEN, body.to_string().into_bytes())
    }

    fn word(result: &ProbeResult) -> &'static str {
        match result {
            ProbeResult::Found(finding) => finding.state.as_str(),
            ProbeResult::Passing(_) => "again",
        }
    }

    #[test]
    fn every_recorded_answer_has_its_meaning() {
        // The answer, and what it says in the modes policy (and none) and impersonation.
        let rows = [
            ("evict-403-vap-own-node", "holds", "unclear"),
            ("evict-403-vap-forbidden", "unclear", "unclear"),
            ("evict-409-uid", "does-not-hold", "unclear"),
            ("evict-409-resourceversion", "does-not-hold", "unclear"),
            ("noderestriction-not-found", "unclear", "holds"),
            ("evict-404", "unclear", "does-not-hold"),
            ("evict-404-namespace", "unclear", "unclear"),
            ("evict-201", "unclear", "unclear"),
            ("evict-403-rbac", "unclear", "unclear"),
            ("evict-403-noderestriction", "unclear", "unclear"),
            ("evict-403-impersonate-gate-off", "unclear", "unclear"),
            ("evict-403-impersonate-other-node", "unclear", "unclear"),
            ("evict-403-ns-terminating", "unclear", "unclear"),
            ("evict-429-pdb", "unclear", "unclear"),
            ("evict-429-pdb-unobserved", "unclear", "unclear"),
            ("evict-500-two-pdbs", "unclear", "unclear"),
            ("evict-422-vap-default", "unclear", "unclear"),
            ("evict-vap-cel-error", "unclear", "unclear"),
            ("evict-413-vap-toolarge", "unclear", "unclear"),
            ("evict-400-not-json", "unclear", "unclear"),
            ("evict-415", "unclear", "unclear"),
            ("evict-401", "again", "again"),
            ("evict-429-apf", "again", "again"),
            ("evict-500-webhook-unreachable", "again", "again"),
            ("evict-500-webhook-timeout", "again", "again"),
        ];
        for (name, by_policy, by_node) in rows {
            let (code, body) = recorded(name);
            let of = |mode| result_of(mode, "own", code, &body);
            assert_eq!(word(&of(Confinement::Policy)), by_policy, "{name}");
            assert_eq!(of(Confinement::None), of(Confinement::Policy), "{name}");
            assert_eq!(word(&of(Confinement::Impersonation)), by_node, "{name}");
        }
        let proxy = result_of(Confinement::Policy, "own", StatusCode::NOT_FOUND, b"<html>not found</html>");
        assert_eq!(word(&proxy), "again", "whoever that was has not seen the request");
    }

    #[test]
    fn unclear_is_reported_in_the_servers_words() {
        for (name, words) in [
            ("evict-403-rbac", "403: pods \"own\" is forbidden: User \"u\" cannot create resource \"pods/eviction\""),
            ("evict-429-pdb", "429: Cannot evict pod as it would violate the pod's disruption budget."),
            ("evict-403-impersonate-gate-off", "cannot impersonate resource \"users\""),
        ] {
            let (code, body) = recorded(name);
            let ProbeResult::Found(finding) = result_of(Confinement::Policy, "own", code, &body) else {
                panic!("{name}")
            };
            assert!(finding.why.contains(words), "{}", finding.why);
        }
    }

    #[test]
    fn a_policy_that_refuses_everything_is_reported_as_such() {
        let (code, body) = own_policy(NOT_BOUND);
        let ProbeResult::Found(finding) = result_of(Confinement::Policy, "own", code, &body) else { panic!() };
        assert!(finding.state == ConfinementState::Holds && finding.refuses_all, "{finding:?}");
        let (code, body) = own_policy("deleteOptions.preconditions.uid has to be the uid of the pod");
        let ProbeResult::Found(finding) = result_of(Confinement::Policy, "own", code, &body) else { panic!() };
        assert!(finding.state == ConfinementState::Holds && !finding.refuses_all);
        assert!(finding.why.contains("has to be the uid of the pod"), "{}", finding.why);
    }

    #[test]
    fn only_the_shipped_policy_counts_under_any_releases_name() {
        let message = |name: &str| format!("x: ValidatingAdmissionPolicy '{name}' with binding 'b' denied request: no");
        assert_eq!(policy(&message("pre-oom-killer-own-node"), EVICTIONS), Some(("pre-oom-killer-own-node", "no")));
        for release in ["prod-pre-oom-killer-own-node", "pre-oom-killer-prod-own-node"] {
            assert_eq!(policy(&message(release), EVICTIONS), Some((release, "no")));
        }
        for other in ["deny", "pre-oom-killer-own-node-delete", "pre-oom-killer-own-node-resize", "own-node"] {
            assert_eq!(policy(&message(other), EVICTIONS), None);
        }
        assert_eq!(policy("pods \"pre-oom-killer-own-node\" is forbidden", EVICTIONS), None);
    }

    #[test]
    fn of_two_findings_the_worse_one_counts_and_both_are_told() {
        use ConfinementState::{DoesNotHold, Holds, Unclear};
        for (first, second, state) in [
            (Holds, Holds, Holds),
            (Holds, Unclear, Unclear),
            (Unclear, Holds, Unclear),
            (Unclear, DoesNotHold, DoesNotHold),
            (DoesNotHold, Unclear, DoesNotHold),
            (DoesNotHold, Holds, DoesNotHold),
        ] {
            let both = ProbeFinding::of(first, "a").and(ProbeFinding::of(second, "b"));
            assert_eq!(both, ProbeFinding::of(state, "a; b"), "{first:?} {second:?}");
        }
        let refuses_all = || ProbeFinding { refuses_all: true, ..ProbeFinding::of(Holds, "a") };
        assert!(refuses_all().and(ProbeFinding::of(Holds, "b")).refuses_all);
        assert!(ProbeFinding::of(Holds, "b").and(refuses_all()).refuses_all);
    }
}
