//! The requests that end a pod: an eviction or, past a disruption budget, a deletion; each with a
//! UID precondition. What the answer means, and when to try again.

use std::time::Duration;

use bytes::Bytes as Body;
use http::StatusCode;
use http_body_util::{BodyExt, Limited};
use k8s_openapi::api::core::v1::Pod as ApiPod;
use k8s_openapi::api::policy::v1::Eviction;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{DeleteOptions, ObjectMeta, Preconditions, Status};
use kube::api::PostParams;
use kube::core::Request;
use kube::{Client, Resource};

use crate::pods::{PodRef, chain, shortened};

/// How long an answer is waited for: webhooks inside an eviction take 8–30 s (measured).
pub const ANSWER_WITHIN: Duration = Duration::from_secs(30);
/// Whatever a server (or a webhook behind it) asks for, a container that is over is not left alone
/// for longer.
const LONGEST_RETRY_AFTER: Duration = Duration::from_secs(60);
/// Of the server's words so much is told: they go into a log line and into an Event.
const MESSAGE_BYTES: usize = 512;
/// A Status is a few hundred bytes, a deleted pod some thousands.
const ANSWER_SIZE: usize = 512 * 1024;

/// Which request.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Act {
    /// Disruption budgets are respected.
    Evict,
    /// They are not asked.
    Delete,
}

/// What to ask for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Order {
    /// Whom. The uid is the precondition.
    pub pod: PodRef,
    /// How.
    pub act: Act,
    /// Seconds until SIGKILL; none: the pod's own. A running termination cannot be hurried, so
    /// the first request carries the grace that is wanted.
    pub grace: Option<u32>,
    /// `?dryRun=All`.
    pub dry_run: bool,
}

/// What the server said.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Answer {
    /// 201: the pod is being ended.
    Accepted,
    /// 404: it is gone already.
    Gone,
    /// 409: another pod has the name now.
    Replaced,
    /// 403: its namespace is going away, and it with it.
    NamespaceTerminating,
    /// 429 by a disruption budget.
    Blocked {
        /// The budget's name, where the message tells it.
        budget: Option<String>,
        /// The server's words.
        message: String,
        /// `Retry-After`.
        retry_after: Option<Duration>,
    },
    /// 429 by API priority and fairness.
    Throttled {
        /// `Retry-After`.
        retry_after: Option<Duration>,
    },
    /// 403, 422, 413, or two budgets for one pod: someone has to mend something.
    Refused {
        /// The HTTP status.
        code: u16,
        /// The server's words.
        message: String,
    },
    /// 401: the token has expired; it is read anew for the next try.
    Unauthorized,
    /// 500, or a conflict inside: passing.
    Failing {
        /// The HTTP status.
        code: u16,
        /// The server's words.
        message: String,
    },
    /// Lost, late, or 502 to 504: it may have happened. The precondition makes another try safe.
    Unknown {
        /// What went wrong.
        message: String,
    },
    /// 400, 405, 406, 415: this agent sent something wrong.
    Mistake {
        /// The HTTP status.
        code: u16,
        /// The server's words.
        message: String,
    },
}

impl Answer {
    /// All values of [`Answer::label`].
    pub const LABELS: [&str; 11] = [
        "accepted",
        "gone",
        "replaced",
        "namespace-terminating",
        "blocked",
        "throttled",
        "refused",
        "unauthorized",
        "failing",
        "unknown",
        "mistake",
    ];

    /// One word for it, as metrics have it.
    #[must_use]
    pub fn label(&self) -> &'static str {
        Self::LABELS[match self {
            Answer::Accepted => 0,
            Answer::Gone => 1,
            Answer::Replaced => 2,
            Answer::NamespaceTerminating => 3,
            Answer::Blocked { .. } => 4,
            Answer::Throttled { .. } => 5,
            Answer::Refused { .. } => 6,
            Answer::Unauthorized => 7,
            Answer::Failing { .. } => 8,
            Answer::Unknown { .. } => 9,
            Answer::Mistake { .. } => 10,
        }]
    }

    /// When to try again after the `attempt`th answer (the first is 0) if the container is still
    /// over; `None`: never. `jitter` is from 0 to 1, so that agents do not act in step. What a
    /// disruption budget asks to wait counts only where the container has that much time `left`.
    #[must_use]
    pub fn retry_after(&self, attempt: u32, jitter: f64, left: Option<Duration>) -> Option<Duration> {
        let (first, most, floor) = match self {
            Answer::Accepted
            | Answer::Gone
            | Answer::Replaced
            | Answer::NamespaceTerminating
            | Answer::Mistake { .. } => return None,
            Answer::Blocked { retry_after, .. } => {
                let floor = retry_after.filter(|floor| left.is_none_or(|left| left > *floor)).unwrap_or_default();
                (Duration::from_secs(1), Duration::from_secs(30), floor)
            }
            Answer::Throttled { retry_after } => {
                let floor = retry_after.unwrap_or(Duration::from_secs(1));
                (floor, Duration::from_secs(30), floor)
            }
            // Somebody has to repair something first.
            Answer::Refused { .. } => {
                let minute = Duration::from_secs(60);
                (minute, minute, minute)
            }
            Answer::Unauthorized | Answer::Failing { .. } | Answer::Unknown { .. } => {
                (Duration::from_millis(200), Duration::from_secs(10), Duration::ZERO)
            }
        };
        let back_off = first.saturating_mul(1 << attempt.min(16)).min(most);
        // From half to the whole of it; a floor is only ever exceeded.
        let jittered = back_off.mul_f64(0.5 + jitter.clamp(0.0, 1.0) / 2.0);
        Some(jittered.max(floor.mul_f64(1.0 + jitter.clamp(0.0, 1.0) / 5.0)))
    }
}

/// Sends one request and says what came of it. Takes at most [`ANSWER_WITHIN`].
pub async fn evict(client: &Client, order: &Order) -> Answer {
    match tokio::time::timeout(ANSWER_WITHIN, send(client, order)).await {
        Ok(Ok((code, retry_after, body))) => answer_to(order.act, code, retry_after, &body),
        Ok(Err(error)) => Answer::Unknown { message: chain(error.as_ref()) },
        Err(_) => Answer::Unknown { message: format!("no answer within {} s", ANSWER_WITHIN.as_secs()) },
    }
}

/// Sends one request: the answer as it came, with its `Retry-After`.
///
/// # Errors
/// When there was none.
pub async fn send(client: &Client, order: &Order) -> anyhow::Result<(StatusCode, Option<Duration>, Body)> {
    let response = client.send(request(order)?.map(Into::into)).await?;
    let (head, body) = response.into_parts();
    let retry_after = (head.headers.get(http::header::RETRY_AFTER))
        .and_then(|v| v.to_str().ok()?.parse().ok())
        .map(|seconds| Duration::from_secs(seconds).min(LONGEST_RETRY_AFTER));
    let body = Limited::new(body, ANSWER_SIZE).collect().await;
    Ok((head.status, retry_after, body.map_or(Body::new(), |b| b.to_bytes())))
}

/// `Api::evict` of kube 5.0.0 sends the options under a key that the server ignores, and with it
/// the precondition; so the typed object is sent.
///
/// # Errors
/// When a name makes no path.
pub fn request(order: &Order) -> anyhow::Result<http::Request<Vec<u8>>> {
    let options = DeleteOptions {
        grace_period_seconds: order.grace.map(i64::from),
        preconditions: Some(Preconditions { uid: Some(order.pod.uid.0.clone()), ..Preconditions::default() }),
        ..DeleteOptions::default()
    };
    let path = ApiPod::url_path(&(), Some(&order.pod.namespace));
    // As a query parameter: only there does admission see it.
    let params = PostParams { dry_run: order.dry_run, ..PostParams::default() };
    if order.act == Act::Delete {
        let dry_run = if order.dry_run { "?dryRun=All" } else { "" };
        let request = http::Request::delete(format!("{path}/{}{dry_run}", order.pod.name));
        let request = request.header(http::header::CONTENT_TYPE, "application/json");
        return Ok(request.body(serde_json::to_vec(&options)?)?);
    }
    let eviction = Eviction {
        metadata: ObjectMeta {
            name: Some(order.pod.name.clone()),
            namespace: Some(order.pod.namespace.clone()),
            ..ObjectMeta::default()
        },
        delete_options: Some(options),
    };
    let body = serde_json::to_vec(&eviction)?;
    Ok(Request::new(path).create_subresource("eviction", &order.pod.name, &params, body)?)
}

/// The meaning of an answer to such a request.
#[must_use]
pub fn answer_to(act: Act, code: StatusCode, retry_after: Option<Duration>, body: &[u8]) -> Answer {
    match act {
        Act::Delete if is_pod(code, body) => Answer::Accepted,
        _ => classify(code, retry_after, body),
    }
}

/// A deletion is answered with the pod as it is being ended, where it does not go at once.
fn is_pod(code: StatusCode, body: &[u8]) -> bool {
    #[derive(serde::Deserialize)]
    struct Kind {
        kind: String,
    }
    code.is_success() && serde_json::from_slice::<Kind>(body).is_ok_and(|k| k.kind == "Pod")
}

/// The meaning of an answer, by code first.
#[must_use]
pub fn classify(code: StatusCode, retry_after: Option<Duration>, body: &[u8]) -> Answer {
    let status: Status = serde_json::from_slice(body).unwrap_or_default();
    let success = status.status.as_deref() == Some("Success");
    let told_code = status.code.and_then(|c| u16::try_from(c).ok());
    let code = match (code.as_u16(), told_code) {
        // A failure can come under a good code.
        (200..=299, Some(told)) => told,
        (code, _) => code,
    };
    let details = status.details.unwrap_or_default();
    let causes = details.causes.unwrap_or_default();
    let cause = |reason: &str| causes.iter().find(|c| c.reason.as_deref() == Some(reason));
    let message = match status.message {
        Some(mut message) => {
            message.truncate(message.floor_char_boundary(MESSAGE_BYTES));
            message
        }
        None => shortened(String::from_utf8_lossy(body).trim()),
    };
    match code {
        200..=299 if success => Answer::Accepted,
        // Whoever else answers on the way (a proxy's page) has not seen the pod.
        404 if status.reason.as_deref() == Some("NotFound") => Answer::Gone,
        409 if details.kind.as_deref() == Some("Pod") => Answer::Replaced,
        403 if cause("NamespaceTerminating").is_some() => Answer::NamespaceTerminating,
        429 => match cause("DisruptionBudget") {
            Some(cause) => {
                let message = cause.message.clone().unwrap_or(message);
                Answer::Blocked { budget: budget_name(&message), message, retry_after }
            }
            None => Answer::Throttled { retry_after },
        },
        403 | 413 | 422 => Answer::Refused { code, message },
        // The one 500 that does not pass: it has no reason, others have InternalError.
        500 if message.contains("more than one PodDisruptionBudget") => Answer::Refused { code, message },
        401 => Answer::Unauthorized,
        400 | 405 | 406 | 415 => Answer::Mistake { code, message },
        409 | 500 => Answer::Failing { code, message },
        _ => Answer::Unknown { message: format!("{code}: {message}") },
    }
}

/// From `The disruption budget NAME needs …` and its variants.
fn budget_name(message: &str) -> Option<String> {
    let rest = message.strip_prefix("The disruption budget ")?;
    rest.split_whitespace().next().map(str::to_owned)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::pods::PodUid;
    use proptest::prelude::*;

    fn order() -> Order {
        Order {
            pod: PodRef { namespace: "demo".into(), name: "web-1".into(), uid: PodUid("59435a07".into()) },
            act: Act::Evict,
            grace: None,
            dry_run: false,
        }
    }

    #[test]
    fn the_request_carries_the_precondition_where_the_server_reads_it() {
        let request = request(&order()).unwrap();
        assert_eq!(request.method(), "POST");
        assert_eq!(
            request.uri().to_string().trim_end_matches(['?', '&']),
            "/api/v1/namespaces/demo/pods/web-1/eviction"
        );
        let body: serde_json::Value = serde_json::from_slice(request.body()).unwrap();
        assert_eq!(
            body,
            serde_json::json!({
                "apiVersion": "policy/v1", "kind": "Eviction",
                "metadata": {"name": "web-1", "namespace": "demo"},
                "deleteOptions": {"preconditions": {"uid": "59435a07"}}
            })
        );
    }

    #[test]
    fn grace_and_dry_run_go_along() {
        let request = request(&Order { grace: Some(5), dry_run: true, ..order() }).unwrap();
        assert!(request.uri().query().unwrap().contains("dryRun=All"));
        let body: serde_json::Value = serde_json::from_slice(request.body()).unwrap();
        assert_eq!(body["deleteOptions"]["gracePeriodSeconds"], 5);
    }

    #[test]
    fn a_deletion_carries_the_same() {
        let order = Order { act: Act::Delete, grace: Some(5), dry_run: true, ..order() };
        let request = request(&order).unwrap();
        assert_eq!(
            (request.method().as_str(), request.uri().to_string().as_str()),
            ("DELETE", "/api/v1/namespaces/demo/pods/web-1?dryRun=All")
        );
        let body: serde_json::Value = serde_json::from_slice(request.body()).unwrap();
        assert_eq!(body["preconditions"], serde_json::json!({"uid": "59435a07"}));
        assert_eq!(body["gracePeriodSeconds"], 5);
    }

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
    }

    /// What `evict` makes of a server that answers so.
    fn answer_of(code: u16, retry_after: Option<&'static str>, body: Vec<u8>) -> Answer {
        let service = tower::service_fn(move |_: http::Request<kube::client::Body>| {
            let mut response = http::Response::builder().status(code);
            if let Some(seconds) = retry_after {
                response = response.header("Retry-After", seconds);
            }
            let response = response.body(kube::client::Body::from(body.clone()));
            async { response }
        });
        let runtime = tokio::runtime::Builder::new_current_thread().enable_time().build().unwrap();
        runtime.block_on(async { evict(&Client::new(service, "default"), &order()).await })
    }

    #[test]
    fn long_answers_are_read_and_endless_ones_are_not() {
        let success = |padding: usize| {
            let padding = "x".repeat(padding);
            format!(r#"{{"kind":"Status","status":"Success","message":"{padding}","code":201}}"#).into_bytes()
        };
        assert_eq!(answer_of(201, None, success(ANSWER_SIZE - 1000)), Answer::Accepted);
        assert_eq!(answer_of(201, None, success(400 * 1024)), Answer::Accepted);
        assert_eq!(answer_of(201, None, success(ANSWER_SIZE)).label(), "unknown", "it may have happened");
    }

    #[test]
    fn retry_after_is_read_in_seconds_and_up_to_a_minute() {
        let throttled = |header| match answer_of(429, header, b"Too many requests".to_vec()) {
            Answer::Throttled { retry_after } => retry_after.map(|d| d.as_secs()),
            other => panic!("{other:?}"),
        };
        assert_eq!(throttled(None), None);
        assert_eq!(throttled(Some("7")), Some(7));
        assert_eq!(throttled(Some("86400")), Some(60));
        assert_eq!(throttled(Some("Wed, 21 Oct 2026 07:28:00 GMT")), None);
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

    #[test]
    fn retries_keep_their_bounds() {
        let seconds =
            |answer: &Answer, attempt, jitter| answer.retry_after(attempt, jitter, None).map(|d| d.as_secs_f64());
        let blocked = |retry_after| Answer::Blocked { budget: None, message: String::new(), retry_after };
        assert_eq!(seconds(&blocked(None), 0, 1.0), Some(1.0));
        assert_eq!(seconds(&blocked(None), 0, 0.0), Some(0.5));
        assert_eq!(seconds(&blocked(None), 3, 1.0), Some(8.0));
        assert_eq!(seconds(&blocked(None), u32::MAX, 1.0), Some(30.0));
        let told = Some(Duration::from_secs(10));
        assert_eq!(seconds(&blocked(told), 0, 0.0), Some(10.0));
        let near = blocked(told).retry_after(0, 1.0, Some(Duration::from_secs(9)));
        assert_eq!(near, Some(Duration::from_secs(1)), "it has not so much time");
        let just = blocked(told).retry_after(0, 1.0, Some(Duration::from_secs(10)));
        assert_eq!(just, Some(Duration::from_secs(1)), "nor so");
        let far = blocked(told).retry_after(0, 1.0, Some(Duration::from_secs(11)));
        assert_eq!(far, Some(Duration::from_secs(12)), "the floor and a fifth: agents told the same part again");
        assert_eq!(seconds(&Answer::Throttled { retry_after: told }, 0, 0.0), Some(10.0));
        let refused = Answer::Refused { code: 403, message: String::new() };
        assert_eq!(seconds(&refused, 7, 0.0), Some(60.0));
        assert_eq!(seconds(&Answer::Unauthorized, 0, 1.0), Some(0.2));
        assert_eq!(Answer::Accepted.retry_after(0, 0.5, None), None);
        let mistake = Answer::Mistake { code: 400, message: String::new() };
        assert_eq!(mistake.retry_after(0, 0.5, None), None);
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
