//! What an answer means, and when to try again.

use std::time::Duration;

use http::StatusCode;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Status;

use super::order::Act;
use crate::ground::text::shortened;

/// The longest wait that is honoured, whatever a server (or a webhook behind it) asks for: the container is above its
/// threshold all that time.
const LONGEST_RETRY_AFTER: Duration = Duration::from_secs(60);

/// At most so much of the server's message is kept, in bytes: it goes into a log line and into an Event.
const MESSAGE_BYTES: usize = 512;

/// The server's answer to a request.
///
/// None of them ends a pod's guard: while the watch shows the pod and it is above its threshold, the request is repeated.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Answer {
    /// 201: the pod is being terminated. 200 to a resize: it is stored, and the kubelet will carry it out, or not.
    Accepted,
    /// 404: the pod is gone, or a cache behind the server does not have it yet.
    Gone,
    /// 409: another pod has the name by now, or a cache behind the server says so.
    Replaced,
    /// 403: the pod's namespace is being deleted, and the pod with it.
    NamespaceTerminating,
    /// 429 by a disruption budget.
    Blocked {
        /// The budget's name, if the message contains it.
        budget: Option<String>,
        message: String,
        retry_after: Option<Duration>,
    },
    /// An admission webhook denied it, with a code of its choice (400 if it gave none). No code means what it does without
    /// a webhook. Webhooks that protect a drain mean "not now".
    Denied { webhook: Option<String>, code: u16, message: String, retry_after: Option<Duration> },
    /// 429 by API priority and fairness, or by something that is neither a budget nor a webhook.
    Throttled {
        /// API priority and fairness sends none.
        message: Option<String>,
        retry_after: Option<Duration>,
    },
    /// 403, 422, 413, or two budgets for one pod: somebody has to repair something.
    Refused { code: u16, message: String },
    /// 401: the token has expired. The next request reads it anew.
    Unauthorized,
    /// 500, or a conflict inside the server: passes by itself.
    Failing { code: u16, message: String },
    /// Lost, late, or 502 to 504: the eviction may have happened. The precondition makes another request safe.
    Unknown { message: String },
    /// 400, 405, 406, 415 by the server itself: the agent sent a wrong request.
    Mistake { code: u16, message: String },
    /// Accepted, but the watch shows that the pod is not being terminated: an admission webhook can turn any request into a
    /// dry run. No answer says so by itself; the controller finds out.
    Ineffective,
}

impl Answer {
    /// All values of [`Answer::label`].
    pub const LABELS: [&str; 13] = [
        "accepted",
        "gone",
        "replaced",
        "namespace-terminating",
        "blocked",
        "denied",
        "throttled",
        "refused",
        "unauthorized",
        "failing",
        "unknown",
        "mistake",
        "ineffective",
    ];

    /// The code and the message of a refusal; `None`: it is none.
    #[must_use]
    pub fn refusal(&self) -> Option<String> {
        match self {
            Answer::Refused { code, message }
            | Answer::Denied { code, message, .. }
            | Answer::Mistake { code, message } => Some(format!("{code}: {message}")),
            _ => None,
        }
    }

    /// Its value of the label `answer` in metrics.
    #[must_use]
    pub fn label(&self) -> &'static str {
        Self::LABELS[match self {
            Answer::Accepted => 0,
            Answer::Gone => 1,
            Answer::Replaced => 2,
            Answer::NamespaceTerminating => 3,
            Answer::Blocked { .. } => 4,
            Answer::Denied { .. } => 5,
            Answer::Throttled { .. } => 6,
            Answer::Refused { .. } => 7,
            Answer::Unauthorized => 8,
            Answer::Failing { .. } => 9,
            Answer::Unknown { .. } => 10,
            Answer::Mistake { .. } => 11,
            Answer::Ineffective => 12,
        }]
    }

    /// No answer came: the request may have been carried out.
    #[must_use]
    pub fn is_lost(&self) -> bool {
        matches!(self, Answer::Unknown { .. })
    }

    /// Whether the same resize would be refused again as long as the pod's spec is what it is. A server before 1.33 answers 404,
    /// because it has no resizes.
    #[must_use]
    pub fn is_standing(&self) -> bool {
        match self {
            Answer::Refused { .. }
            | Answer::Denied { .. }
            | Answer::Mistake { .. }
            | Answer::Ineffective
            | Answer::Gone
            | Answer::Replaced
            | Answer::NamespaceTerminating => true,
            Answer::Accepted
            | Answer::Blocked { .. }
            | Answer::Throttled { .. }
            | Answer::Unauthorized
            | Answer::Failing { .. }
            | Answer::Unknown { .. } => false,
        }
    }

    /// How long to wait after the `attempt`th answer (the first is 0) if the container is still above its threshold;
    /// `None` only for [`Answer::Accepted`]. `jitter` is from 0 to 1, so that agents do not act in step.
    ///
    /// `left` is the time until the container is expected to be killed. The next request falls into its first quarter
    /// (unless somebody has to repair something first). A `Retry-After` of a budget or a webhook is honoured only if the
    /// container is expected to survive that long.
    #[must_use]
    pub fn retry_after(&self, attempt: u32, jitter: f64, left: Option<Duration>) -> Option<Duration> {
        let (first, most, floor) = match self {
            Answer::Accepted => return None,
            // It may be allowed at any time.
            Answer::Blocked { retry_after, .. } | Answer::Denied { retry_after, .. } => {
                let floor = retry_after.filter(|floor| left.is_none_or(|left| left > *floor)).unwrap_or_default();
                (Duration::from_secs(1), Duration::from_secs(30), floor)
            }
            Answer::NamespaceTerminating | Answer::Ineffective => {
                (Duration::from_secs(1), Duration::from_secs(30), Duration::ZERO)
            }
            Answer::Throttled { retry_after, .. } => {
                let floor = retry_after.unwrap_or(Duration::from_secs(1));
                (floor, Duration::from_secs(30), floor)
            }
            // Somebody has to repair something first.
            Answer::Refused { .. } | Answer::Mistake { .. } => {
                let minute = Duration::from_secs(60);
                (minute, minute, minute)
            }
            Answer::Gone
            | Answer::Replaced
            | Answer::Unauthorized
            | Answer::Failing { .. }
            | Answer::Unknown { .. } => (Duration::from_millis(200), Duration::from_secs(10), Duration::ZERO),
        };
        let in_time = left.map_or(most, |left| (left / 4).max(first));
        let back_off = first.saturating_mul(1 << attempt.min(16)).min(most).min(in_time);
        // Half to all of the back-off; but a floor is only ever exceeded.
        let jittered = back_off.mul_f64(0.5 + jitter.clamp(0.0, 1.0) / 2.0);
        Some(jittered.max(floor.mul_f64(1.0 + jitter.clamp(0.0, 1.0) / 5.0)))
    }
}

/// The meaning of an answer to a request of this kind.
#[must_use]
pub fn answer_to(act: Act, code: StatusCode, retry_after: Option<Duration>, body: &[u8]) -> Answer {
    match act {
        Act::Delete | Act::Raise | Act::Restart if is_pod(code, body) => Answer::Accepted,
        Act::Raise | Act::Restart if is_other_uid(code, body) => Answer::Replaced,
        _ => classify(code, retry_after, body),
    }
}

/// A deletion is answered with the pod, unless it goes at once.
fn is_pod(code: StatusCode, body: &[u8]) -> bool {
    #[derive(serde::Deserialize)]
    struct TypeMeta {
        kind: String,
    }
    code.is_success() && serde_json::from_slice::<TypeMeta>(body).is_ok_and(|k| k.kind == "Pod")
}

/// A resize of another pod with this name is invalid, not a conflict (measured).
fn is_other_uid(code: StatusCode, body: &[u8]) -> bool {
    let status: Status = serde_json::from_slice(body).unwrap_or_default();
    let causes = status.details.and_then(|details| details.causes).unwrap_or_default();
    code == StatusCode::UNPROCESSABLE_ENTITY && causes.iter().any(|c| c.field.as_deref() == Some("metadata.uid"))
}

/// The meaning of an answer. A webhook's denial comes first, because a webhook may choose any code, reason and details.
#[must_use]
pub fn classify(code: StatusCode, retry_after: Option<Duration>, body: &[u8]) -> Answer {
    let status: Status = serde_json::from_slice(body).unwrap_or_default();
    let code = match (code.as_u16(), status.code.and_then(|c| u16::try_from(c).ok())) {
        // A failure can come with a successful HTTP status.
        (200..=299, Some(in_body)) => in_body,
        (code, _) => code,
    };
    let in_body = status.details.as_ref().and_then(|d| u64::try_from(d.retry_after_seconds?).ok()).filter(|s| *s > 0);
    // The server says it twice; a proxy may drop the header.
    let retry_after = retry_after.or(in_body.map(Duration::from_secs)).map(|wait| wait.min(LONGEST_RETRY_AFTER));
    let message = match &status.message {
        Some(message) => bounded(message),
        None => shortened(String::from_utf8_lossy(body).trim()),
    };
    if code >= 400
        && status.message.is_some()
        && let Some(webhook) = denying_webhook(&message)
    {
        let webhook = Some(webhook.to_owned()).filter(|name| !name.is_empty());
        return Answer::Denied { webhook, code, message, retry_after };
    }
    by_code(code, &status, message, retry_after)
}

/// The meaning of an answer that is no webhook's denial.
fn by_code(code: u16, status: &Status, message: String, retry_after: Option<Duration>) -> Answer {
    let kind = status.details.as_ref().and_then(|d| d.kind.as_deref());
    let causes = status.details.as_ref().and_then(|d| d.causes.as_deref()).unwrap_or_default();
    let cause = |reason: &str| causes.iter().find(|c| c.reason.as_deref() == Some(reason));
    let reason = status.reason.as_deref().unwrap_or_default();
    let is_status = status.message.is_some();
    match code {
        200..=299 if status.status.as_deref() == Some("Success") => Answer::Accepted,
        // Without this reason it may be the page of a proxy, which knows nothing of the pod.
        404 if reason == "NotFound" => Answer::Gone,
        409 if matches!(kind, Some("Pod" | "pods")) => Answer::Replaced,
        403 if cause("NamespaceTerminating").is_some() => Answer::NamespaceTerminating,
        429 => match cause("DisruptionBudget") {
            Some(cause) => {
                let message = cause.message.as_deref().map_or(message, bounded);
                Answer::Blocked { budget: budget_name(&message), message, retry_after }
            }
            None => Answer::Throttled { message: is_status.then_some(message), retry_after },
        },
        403 | 413 | 422 => Answer::Refused { code, message },
        // The only 500 that does not pass by itself. It has no reason; the others have InternalError.
        500 if message.contains("more than one PodDisruptionBudget") => Answer::Refused { code, message },
        401 => Answer::Unauthorized,
        400 | 405 | 406 | 415 if OUR_MISTAKES.contains(&reason) => Answer::Mistake { code, message },
        // Without a reason: from something in front of the server, or from a plugin inside it.
        400 | 405 | 406 | 415 if is_status => Answer::Refused { code, message },
        409 | 500 => Answer::Failing { code, message },
        _ => Answer::Unknown { message: format!("{code}: {message}") },
    }
}

fn bounded(message: &str) -> String {
    message[..message.floor_char_boundary(MESSAGE_BYTES)].to_owned()
}

/// The reasons that the server itself gives if the request is wrong.
const OUR_MISTAKES: [&str; 4] = ["BadRequest", "MethodNotAllowed", "NotAcceptable", "UnsupportedMediaType"];

/// From `admission webhook "NAME" denied the request: …` or `… without explanation`.
fn denying_webhook(message: &str) -> Option<&str> {
    let (name, rest) = message.strip_prefix("admission webhook \"")?.split_once('"')?;
    rest.starts_with(" denied the request").then_some(name)
}

/// From `The disruption budget NAME needs …` and its variants.
fn budget_name(message: &str) -> Option<String> {
    let rest = message.strip_prefix("The disruption budget ")?;
    rest.split_whitespace().next().map(str::to_owned)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    /// The real server answers a deletion with the pod, an eviction never.
    #[test]
    fn a_pod_is_a_good_answer_to_a_deletion_alone() {
        let label = |act, code, body: &str| answer_to(act, code, None, body.as_bytes()).label();
        let pod = r#"{"kind":"Pod","metadata":{}}"#;
        let success = r#"{"kind":"Status","status":"Success"}"#;
        assert_eq!(label(Act::Delete, StatusCode::OK, pod), "accepted");
        assert_eq!(label(Act::Delete, StatusCode::OK, success), "accepted");
        assert_eq!(label(Act::Delete, StatusCode::OK, r#"{"kind":"Status","status":"Failure"}"#), "unknown");
        assert_eq!(label(Act::Delete, StatusCode::CONFLICT, pod), "failing");
        assert_eq!(label(Act::Evict, StatusCode::CREATED, pod), "unknown");
        assert_eq!(label(Act::Raise, StatusCode::OK, pod), "accepted");
        assert_eq!(label(Act::Restart, StatusCode::OK, success), "accepted");
    }

    /// One line for each row of what a 1.36.2 server was seen to answer (messages shortened).
    #[test]
    fn every_recorded_kind_of_answer() {
        let budget = |message: &str| {
            format!(
                r#"{{"kind":"Status","status":"Failure","message":"Cannot evict pod as it would violate the pod's disruption budget.","reason":"TooManyRequests","details":{{"causes":[{{"reason":"DisruptionBudget","message":"{message}"}}]}},"code":429}}"#
            )
        };
        let status = |code: u16, reason: &str, details: &str| {
            format!(
                r#"{{"kind":"Status","status":"Failure","message":"words","reason":"{reason}","details":{details},"code":{code}}}"#
            )
        };
        let rows: Vec<(u16, String, &str)> = vec![
            (201, r#"{"kind":"Status","apiVersion":"v1","metadata":{},"status":"Success","code":201}"#.into(), "accepted"),
            (404, status(404, "NotFound", r#"{"name":"a","kind":"pods"}"#), "gone"),
            (404, status(404, "NotFound", r#"{"name":"ns","kind":"namespaces"}"#), "gone"),
            (409, status(409, "Conflict", r#"{"name":"a","kind":"Pod"}"#), "replaced"),
            (409, status(409, "Conflict", r#"{"name":"a","kind":"poddisruptionbudgets"}"#), "failing"),
            (429, budget("The disruption budget guarded needs 1 healthy pods and has 1 currently"), "blocked"),
            (429, budget("The disruption budget race is still being processed by the server."), "blocked"),
            (429, budget("The disruption budget bare-pdb does not allow evicting pods currently"), "blocked"),
            (429, "Too many requests, please try again later.\n".into(), "throttled"),
            (403, status(403, "Forbidden", r#"{"causes":[{"reason":"NamespaceTerminating","message":"m"}]}"#), "namespace-terminating"),
            (403, status(403, "Forbidden", r#"{"name":"a","kind":"pods"}"#), "refused"),
            (403, status(403, "Forbidden", r#"{"causes":[{"message":"ValidatingAdmissionPolicy 'deny'"}]}"#), "refused"),
            (422, status(422, "Invalid", "{}"), "refused"),
            (413, status(413, "RequestEntityTooLarge", "{}"), "refused"),
            (500, r#"{"kind":"Status","status":"Failure","message":"This pod has more than one PodDisruptionBudget, which the eviction subresource does not support.","code":500}"#.into(), "refused"),
            (500, status(500, "InternalError", r#"{"causes":[{"message":"failed calling webhook"}]}"#), "failing"),
            (401, status(401, "Unauthorized", "null"), "unauthorized"),
            (200, "<html>sign in</html>".into(), "unknown"),
            (200, r#"{"kind":"Status","status":"Failure"}"#.into(), "unknown"),
            (404, "404 page not found\n".into(), "unknown"),
            (502, "<html>".into(), "unknown"),
            (503, String::new(), "unknown"),
            (504, status(504, "Timeout", "{}"), "unknown"),
            (400, status(400, "BadRequest", "null"), "mistake"),
            (400, r#"{"kind":"Status","status":"Failure","message":"no","code":400}"#.into(), "refused"),
            (400, "<html>Bad Request</html>".into(), "unknown"),
            (405, status(405, "MethodNotAllowed", "{}"), "mistake"),
            (406, status(406, "NotAcceptable", "{}"), "mistake"),
            (409, status(409, "Conflict", r#"{"name":"a","kind":"pods"}"#), "replaced"),
            (409, status(409, "Conflict", "null"), "failing"),
            (429, status(429, "TooManyRequests", "null"), "throttled"),
            (404, status(404, "NotFound", r#"{"name":"a","kind":"pod"}"#), "gone"),
            (415, status(415, "UnsupportedMediaType", "null"), "mistake"),
            (200, status(403, "Forbidden", "{}"), "refused"),
        ];
        for (code, body, label) in rows {
            let answer = classify(StatusCode::from_u16(code).unwrap(), None, body.as_bytes());
            assert_eq!(answer.label(), label, "{code} {body}");
            if let Answer::Blocked { budget, .. } = answer {
                assert!(["guarded", "race", "bare-pdb"].contains(&budget.unwrap().as_str()));
            }
        }
    }

    /// Each answer to an eviction that a real server was seen to give (`fixtures/api-answers`), in the meaning it has.
    #[test]
    fn every_recorded_answer_has_its_meaning() {
        let meaning = |name: &str| match name {
            // A webhook that answers, and says no: whatever its code.
            "evict-400-webhook-before-pdb" | "evict-400-webhook-code-200" | "evict-400-webhook-denied" => "denied",
            "evict-400-webhook-dryrun" | "evict-400-webhook-message" => "denied",
            "evict-403-webhook" | "evict-403-webhook-reason" | "evict-404-webhook" | "evict-409-webhook" => "denied",
            "evict-429-webhook" | "evict-429-webhook-before-pdb" | "evict-429-webhook-reason" => "denied",
            "evict-500-webhook" | "evict-503-webhook" => "denied",
            // One that does not answer, or not as it should.
            "evict-500-webhook-http-500" | "evict-500-webhook-not-json" => "failing",
            "evict-500-webhook-timeout" | "evict-500-webhook-unreachable" => "failing",
            "evict-400-empty-name" | "evict-400-name-mismatch" | "evict-400-namespace-mismatch" => "mistake",
            "evict-400-not-json" | "evict-400-wrong-kind" | "evict-unknown-field-strict" => "mistake",
            "evict-415" | "evict-get-405" => "mistake",
            "evict-401" => "unauthorized",
            "evict-403-ns-terminating" | "evict-403-ns-terminating-nopod" => "namespace-terminating",
            "evict-403-anonymous" | "evict-403-rbac" | "evict-403-rbac-nosuchpod" | "evict-get-403" => "refused",
            "evict-403-impersonate-gate-off" | "evict-403-impersonate-other-node" => "refused",
            "evict-403-noderestriction" | "evict-403-vap-forbidden" | "evict-403-vap-own-node" => "refused",
            "evict-413-vap-toolarge" | "evict-422-dryrun-unknown" | "evict-422-vap-default" => "refused",
            "evict-422-vap-invalid" | "evict-vap-cel-error" => "refused",
            "evict-500-two-pdbs" | "evict-500-two-pdbs-dryrun" => "refused",
            "evict-404" | "evict-404-namespace" => "gone",
            "evict-409-uid" | "evict-409-resourceversion" | "evict-409-dryrun-wrong-uid" => "replaced",
            "evict-429-apf" => "throttled",
            "evict-429-pdb" | "evict-429-pdb-dryrun" | "evict-429-pdb-unmanaged" => "blocked",
            "evict-429-pdb-unobserved" | "evict-429-pdb-wrong-uid" => "blocked",
            "evict-201" | "evict-201-dryrun" | "evict-201-dryrun-query" | "evict-201-grace-negative" => "accepted",
            "evict-201-grace0" | "evict-201-pdb-allows" | "evict-201-twice" | "evict-bare" => "accepted",
            "evict-completed" | "evict-completed-dryrun" | "evict-failed" | "evict-finalizer-after-exit" => "accepted",
            "evict-mirror" | "evict-pending-unscheduled" | "evict-policy-v1beta1" => "accepted",
            "evict-terminating" | "evict-terminating-grace2" | "evict-terminating-longer-grace" => "accepted",
            "evict-terminating-shorter-grace" | "evict-unknown-field-warn" => "accepted",
            other => panic!("{other} has no meaning"),
        };
        let text = include_str!("../../fixtures/api-answers/evictions.json");
        let all: std::collections::BTreeMap<String, serde_json::Value> = serde_json::from_str(text).unwrap();
        let answers: Vec<_> = all.iter().filter(|(name, _)| *name != "about").collect();
        assert!(answers.len() > 60, "{}", answers.len());
        for (name, answer) in answers {
            let code = StatusCode::from_u16(u16::try_from(answer["status"].as_u64().unwrap()).unwrap()).unwrap();
            let retry_after = answer["retryAfter"].as_str().map(|s| Duration::from_secs(s.parse().unwrap()));
            let body = match &answer["body"] {
                serde_json::Value::String(text) => text.clone(),
                body => body.to_string(),
            };
            let meant = classify(code, retry_after, body.as_bytes());
            assert_eq!(meant.label(), meaning(name), "{name}: {meant:?}");
            if let Answer::Denied { webhook, code: answered, message, retry_after } = meant {
                assert_eq!(webhook.as_deref(), Some("guard.facts.example.com"), "{name}");
                assert_eq!(answered, code.as_u16(), "{name}");
                assert_eq!(Some(&*message), answer["body"]["message"].as_str(), "{name}: the server's words");
                let waits = name == "evict-429-webhook-reason";
                assert_eq!(retry_after, waits.then_some(Duration::from_secs(7)), "{name}");
            }
        }
    }

    /// With any code, and with reason and details of its own choice.
    #[test]
    fn a_webhooks_denial_is_known_by_its_words() {
        let words = r#"admission webhook \"drain.example.com\" denied the request: not now"#;
        for code in [400u16, 401, 403, 404, 405, 406, 409, 415, 422, 429, 451, 500, 501, 502, 503, 504] {
            for rest in [
                String::new(),
                r#","reason":"NotFound","details":{"name":"a","kind":"pods"}"#.into(),
                r#","reason":"TooManyRequests","details":{"causes":[{"reason":"DisruptionBudget","message":"m"}]}"#
                    .into(),
                r#","reason":"Forbidden","details":{"causes":[{"reason":"NamespaceTerminating"}]}"#.into(),
                r#","reason":"BadRequest","details":{"retryAfterSeconds":9}"#.into(),
            ] {
                let body = format!(r#"{{"kind":"Status","status":"Failure","message":"{words}","code":{code}{rest}}}"#);
                let answer = classify(StatusCode::from_u16(code).unwrap(), None, body.as_bytes());
                let Answer::Denied { webhook, code: answered, message, retry_after } = answer else {
                    panic!("{answer:?}")
                };
                assert_eq!((webhook.as_deref(), answered), (Some("drain.example.com"), code), "{body}");
                assert_eq!(message, words.replace('\\', ""), "{body}");
                assert_eq!(retry_after, rest.contains("retryAfter").then_some(Duration::from_secs(9)), "{body}");
            }
        }
        let label = |code: u16, message: &str| {
            let body = format!(r#"{{"kind":"Status","status":"Failure","message":"{message}","code":{code}}}"#);
            classify(StatusCode::from_u16(code).unwrap(), None, body.as_bytes()).label()
        };
        assert_eq!(label(403, r#"pods \"a\" is forbidden: admission webhook \"x\" denied the request"#), "refused");
        assert_eq!(label(500, r#"admission webhook \"x\" attempted to modify the object"#), "failing");
        assert_eq!(label(201, r#"admission webhook \"x\" denied the request"#), "unknown");
    }

    /// Both go into log lines and Events.
    #[test]
    fn a_long_message_is_cut_the_budgets_too() {
        let long = "x".repeat(2 * MESSAGE_BYTES);
        for causes in ["[]".to_owned(), format!(r#"[{{"reason":"DisruptionBudget","message":"{long}"}}]"#)] {
            let body = format!(
                r#"{{"kind":"Status","status":"Failure","message":"{long}","details":{{"causes":{causes}}},"code":429}}"#
            );
            let answer = classify(StatusCode::TOO_MANY_REQUESTS, None, body.as_bytes());
            let (Answer::Blocked { message, .. } | Answer::Throttled { message: Some(message), .. }) = answer else {
                panic!("{answer:?}")
            };
            assert_eq!(message.len(), MESSAGE_BYTES, "{causes}");
        }
    }

    /// A 429 in JSON is somebody's word, not that of priority and fairness.
    #[test]
    fn what_throttles_in_words_keeps_them() {
        let message = |body: &str| match classify(StatusCode::TOO_MANY_REQUESTS, None, body.as_bytes()) {
            Answer::Throttled { message, .. } => message,
            other => panic!("{other:?}"),
        };
        assert_eq!(message("Too many requests, please try again later.\n"), None);
        let body = r#"{"kind":"Status","status":"Failure","message":"quota of evictions is used up","code":429}"#;
        assert_eq!(message(body).as_deref(), Some("quota of evictions is used up"));
    }

    #[test]
    fn retries_keep_their_bounds() {
        let seconds =
            |answer: &Answer, attempt, jitter| answer.retry_after(attempt, jitter, None).map(|d| d.as_secs_f64());
        let blocked = |retry_after| Answer::Blocked { budget: None, message: String::new(), retry_after };
        assert_eq!(seconds(&blocked(None), 0, 1.0), Some(1.0));
        assert_eq!(seconds(&blocked(None), 0, 0.0), Some(0.5));
        assert_eq!(seconds(&blocked(None), 3, 1.0), Some(8.0));
        assert_eq!(seconds(&blocked(None), u32::MAX, 1.0), Some(30.0));
        let wait = Some(Duration::from_secs(10));
        assert_eq!(seconds(&blocked(wait), 0, 0.0), Some(10.0));
        let near = blocked(wait).retry_after(0, 1.0, Some(Duration::from_secs(9)));
        assert_eq!(near, Some(Duration::from_secs(1)), "it has not so much time");
        let just = blocked(wait).retry_after(0, 1.0, Some(Duration::from_secs(10)));
        assert_eq!(just, Some(Duration::from_secs(1)), "nor so");
        let far = blocked(wait).retry_after(0, 1.0, Some(Duration::from_secs(11)));
        assert_eq!(far, Some(Duration::from_secs(12)), "the floor and a fifth: agents with the same wait part again");
        assert_eq!(seconds(&Answer::Throttled { message: None, retry_after: wait }, 0, 0.0), Some(10.0));
        let refused = Answer::Refused { code: 403, message: String::new() };
        assert_eq!(seconds(&refused, 7, 0.0), Some(60.0));
        assert_eq!(seconds(&Answer::Unauthorized, 0, 1.0), Some(0.2));
        assert_eq!(Answer::Accepted.retry_after(0, 0.5, None), None);
    }

    /// While the watch shows the pod, nothing that a server says is the end of it.
    #[test]
    fn everything_but_accepted_is_asked_again_at_the_pace_of_its_kind() {
        let text = String::new;
        let passing = (0.2, 10.0);
        let (budget, minute) = ((1.0, 30.0), (60.0, 60.0));
        for (answer, (first, most)) in [
            (Answer::Gone, passing),
            (Answer::Replaced, passing),
            (Answer::Unauthorized, passing),
            (Answer::Failing { code: 500, message: text() }, passing),
            (Answer::Unknown { message: text() }, passing),
            (Answer::NamespaceTerminating, budget),
            (Answer::Blocked { budget: None, message: text(), retry_after: None }, budget),
            (Answer::Denied { webhook: None, code: 400, message: text(), retry_after: None }, budget),
            (Answer::Ineffective, budget),
            (Answer::Throttled { message: None, retry_after: None }, budget),
            (Answer::Refused { code: 403, message: text() }, minute),
            (Answer::Mistake { code: 400, message: text() }, minute),
        ] {
            let wait = |attempt, jitter, left: Option<f64>| {
                let left = left.map(Duration::from_secs_f64);
                answer.retry_after(attempt, jitter, left).map(|d| (d.as_secs_f64() * 1000.0).round() / 1000.0)
            };
            let is_kept = matches!(answer, Answer::Throttled { .. } | Answer::Refused { .. } | Answer::Mistake { .. });
            let exceeded = if is_kept { first * 1.2 } else { first };
            assert_eq!(wait(0, 1.0, None), Some(exceeded), "{answer:?}");
            assert_eq!(wait(99, 1.0, None), Some(f64::max(most, exceeded)), "{answer:?}");
            // By the time left: within its first quarter, and no sooner than the first time.
            let quarter = if most > 30.0 { exceeded } else { 5.0 };
            assert_eq!(wait(99, 1.0, Some(20.0)), Some(quarter), "{answer:?}");
            assert_eq!(wait(99, 1.0, Some(0.0)), Some(exceeded), "{answer:?}");
        }
        assert_eq!(Answer::Accepted.retry_after(0, 0.5, Some(Duration::ZERO)), None);
    }

    #[test]
    fn a_webhooks_wait_is_kept_where_there_is_the_time_for_it() {
        let seven = Some(Duration::from_secs(7));
        let denied = Answer::Denied { webhook: None, code: 429, message: String::new(), retry_after: seven };
        let wait = |left: Option<u64>| denied.retry_after(0, 0.0, left.map(Duration::from_secs));
        assert_eq!(wait(None), seven);
        assert_eq!(wait(Some(8)), seven);
        assert_eq!(wait(Some(7)), Some(Duration::from_millis(500)));
    }

    proptest! {
        #[test]
        fn any_answer_has_a_meaning(code in 100u16..1000, body in prop::collection::vec(any::<u8>(), 0..200),
            attempt: u32, jitter: f64, wait in prop::option::of(0u64..=60)) {
            let wait = wait.map(Duration::from_secs);
            let answer = classify(StatusCode::from_u16(code).unwrap(), wait, &body);
            prop_assert!(answer != Answer::Accepted && answer != Answer::Gone, "bytes at random are neither");
            let retry = answer.retry_after(attempt, if jitter.is_nan() { 0.5 } else { jitter }, wait);
            prop_assert!(retry.is_none_or(|r| r <= Duration::from_secs(72)));
        }

        #[test]
        fn any_message_has_at_most_a_budget(message in "\\PC{0,80}") {
            let _ = budget_name(&message);
        }
    }
}
