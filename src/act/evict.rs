//! The requests that end a pod: an eviction or, past a disruption budget, a deletion; each with a
//! UID precondition. What the answer means, and when to try again.

use std::pin::pin;
use std::time::Duration;

use bytes::Bytes as Body;
use futures::future::{Either, select};
use http::StatusCode;
use http_body_util::{BodyExt, Limited};
use k8s_openapi::api::core::v1::Pod as ApiPod;
use k8s_openapi::api::policy::v1::Eviction;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{DeleteOptions, ObjectMeta, Preconditions, Status};
use kube::api::PostParams;
use kube::core::Request;
use kube::{Client, Resource};
use tokio::time::{Instant, timeout, timeout_at};

use crate::act::client::Spare;
use crate::ground::text::{chain, shortened};
use crate::pods::PodRef;

/// How long an answer is waited for: webhooks inside an eviction take 8–30 s (measured).
pub const ANSWER_WITHIN: Duration = Duration::from_secs(30);
/// An eviction can be sent twice (its uid is its precondition), and takes 9–16 ms where all is well (measured): one
/// without an answer after so long may lie on a connection that went dead in silence, and goes out once more on another.
pub const HEDGE_AFTER: Duration = Duration::from_secs(1);
/// Where the second request fails, the server is most likely away and the first one's connection dead: then it is given
/// only so long, for what waits for an answer cannot be sent when the server is back.
const FIRST_WITHIN: Duration = Duration::from_secs(3);
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
    /// `dryRun=All`: the server answers truly and changes nothing.
    pub dry_run: bool,
}

/// What the server said. No answer is the end of a pod's guard: while the watch shows the pod, whatever was answered
/// is asked again.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Answer {
    /// 201: the pod is being ended.
    Accepted,
    /// 404: it is gone, or a cache behind the server does not have it yet.
    Gone,
    /// 409: another pod has the name now, or a cache behind the server says so.
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
    /// Somebody's webhook said no, with a code of its choice: 400 if it gave none, and none of them means what it
    /// does without a webhook. Those that guard a drain mean "not now".
    Denied {
        /// The webhook's name.
        webhook: Option<String>,
        /// The HTTP status.
        code: u16,
        /// The server's words, and in them the webhook's.
        message: String,
        /// `Retry-After`.
        retry_after: Option<Duration>,
    },
    /// 429 by API priority and fairness, or by somebody who is neither a budget nor a webhook.
    Throttled {
        /// The server's words. Priority and fairness has none.
        message: Option<String>,
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
    /// 400, 405, 406, 415 by the server itself: this agent sent something wrong.
    Mistake {
        /// The HTTP status.
        code: u16,
        /// The server's words.
        message: String,
    },
    /// Accepted, but the watch shows that the pod is not being ended: an admission webhook can make a dry run of any
    /// request. No single answer says so; whoever follows the pod does.
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

    /// One word for it, as metrics have it.
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

    /// When to try again after the `attempt`th answer (the first is 0) if the container is still
    /// over; `None` only for [`Answer::Accepted`]. `jitter` is from 0 to 1, so that agents do not act in step. Where the
    /// container has so much time `left`, a try falls into its first quarter at the latest (but for what somebody has
    /// to repair); and what a budget or a webhook asks to wait counts only where it has that much time.
    #[must_use]
    pub fn retry_after(&self, attempt: u32, jitter: f64, left: Option<Duration>) -> Option<Duration> {
        let (first, most, floor) = match self {
            Answer::Accepted => return None,
            // They may allow it at any time.
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
        // From half to the whole of it; a floor is only ever exceeded.
        let jittered = back_off.mul_f64(0.5 + jitter.clamp(0.0, 1.0) / 2.0);
        Some(jittered.max(floor.mul_f64(1.0 + jitter.clamp(0.0, 1.0) / 5.0)))
    }
}

/// Asks for what is ordered and says what came of it. Takes at most [`ANSWER_WITHIN`].
///
/// Without an answer after [`HEDGE_AFTER`] it asks once more, with the same precondition, by `another` client, so that no
/// connection from before is used. The first request goes on, for a webhook behind it may take its time; the
/// first answer counts, and one that says nothing ([`Answer::Unknown`]) only where the other says nothing either.
/// (tower's `Hedge` does not fit: it learns from many requests when one is late, takes an error for an answer, and
/// asks through the same connections.)
pub async fn evict(client: &Client, another: impl Future<Output = Option<Spare>>, order: &Order) -> Answer {
    let again = async {
        let Some(spare) = another.await else { return std::future::pending().await };
        // Seldom needed, so only then there is room for it.
        let answer = Box::pin(ask(spare.client(), order)).await;
        if !matches!(answer, Answer::Unknown { .. }) {
            spare.was_first();
        }
        answer
    };
    hedged(&PATIENCE, ask(client, order), again).await
}

/// How long is waited for what.
struct Patience {
    /// For the first request alone.
    hedge: Duration,
    /// For the first request where the second one has failed.
    first: Duration,
    /// For both.
    answer: Duration,
}

const PATIENCE: Patience = Patience { hedge: HEDGE_AFTER, first: FIRST_WITHIN, answer: ANSWER_WITHIN };

/// The answer of `first` or, where that is late, of `again`. The loser is dropped, and its connection with it.
async fn hedged(
    patience: &Patience,
    first: impl Future<Output = Answer>,
    again: impl Future<Output = Answer>,
) -> Answer {
    let end = Instant::now() + patience.answer;
    let mut first = pin!(first);
    if let Ok(answer) = timeout(patience.hedge, &mut first).await {
        return answer;
    }
    let again = pin!(again);
    let (answer, other, within) = match timeout_at(end, select(first, again)).await {
        // The second one is on a connection that was made just now.
        Ok(Either::Left((answer, again))) => (answer, Either::Left(again), patience.answer),
        Ok(Either::Right((answer, first))) => (answer, Either::Right(first), patience.first),
        Err(_) => {
            let message = format!("no answer within {} s, by two connections", patience.answer.as_secs());
            return Answer::Unknown { message };
        }
    };
    if !matches!(answer, Answer::Unknown { .. }) {
        return answer;
    }
    match timeout_at(end.min(Instant::now() + within), other).await {
        Ok(late) if !matches!(late, Answer::Unknown { .. }) => late,
        _ => answer,
    }
}

async fn ask(client: &Client, order: &Order) -> Answer {
    match send(client, order).await {
        Ok((code, retry_after, body)) => answer_to(order.act, code, retry_after, &body),
        Err(error) => Answer::Unknown { message: chain(error.as_ref()) },
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
    if order.act == Act::Delete {
        // In the body: of a DELETE that has one, the server does not read the query (measured), and deletes.
        let dry_run = order.dry_run.then(|| vec!["All".to_owned()]);
        let options = DeleteOptions { dry_run, ..options };
        let request = http::Request::delete(format!("{path}/{}", order.pod.name));
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
    // As a query parameter: only there does admission see it.
    let params = PostParams { dry_run: order.dry_run, ..PostParams::default() };
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

/// The meaning of an answer: whose word it is, then by code.
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
    // The server repeats it as the header; whoever stands between may drop that.
    let told_wait = details.retry_after_seconds.and_then(|s| u64::try_from(s).ok()).filter(|s| *s > 0);
    let retry_after = retry_after.or(told_wait.map(Duration::from_secs)).map(|wait| wait.min(LONGEST_RETRY_AFTER));
    let causes = details.causes.unwrap_or_default();
    let cause = |reason: &str| causes.iter().find(|c| c.reason.as_deref() == Some(reason));
    let reason = status.reason.as_deref().unwrap_or_default();
    let own_words = status.message.is_some();
    let message = match status.message {
        Some(mut message) => {
            message.truncate(message.floor_char_boundary(MESSAGE_BYTES));
            message
        }
        None => shortened(String::from_utf8_lossy(body).trim()),
    };
    // Code, reason and details are the webhook's then, and as it likes.
    if code >= 400
        && own_words
        && let Some(webhook) = denying_webhook(&message)
    {
        let webhook = Some(webhook.to_owned()).filter(|name| !name.is_empty());
        return Answer::Denied { webhook, code, message, retry_after };
    }
    match code {
        200..=299 if success => Answer::Accepted,
        // Whoever else answers on the way (a proxy's page) has not seen the pod.
        404 if reason == "NotFound" => Answer::Gone,
        409 if matches!(details.kind.as_deref(), Some("Pod" | "pods")) => Answer::Replaced,
        403 if cause("NamespaceTerminating").is_some() => Answer::NamespaceTerminating,
        429 => match cause("DisruptionBudget") {
            Some(cause) => {
                let message = cause.message.clone().unwrap_or(message);
                Answer::Blocked { budget: budget_name(&message), message, retry_after }
            }
            None => Answer::Throttled { message: own_words.then_some(message), retry_after },
        },
        403 | 413 | 422 => Answer::Refused { code, message },
        // The one 500 that does not pass: it has no reason, others have InternalError.
        500 if message.contains("more than one PodDisruptionBudget") => Answer::Refused { code, message },
        401 => Answer::Unauthorized,
        400 | 405 | 406 | 415 if OUR_MISTAKES.contains(&reason) => Answer::Mistake { code, message },
        // Somebody in front of the server, or a plugin inside it, who gives no reason.
        400 | 405 | 406 | 415 if own_words => Answer::Refused { code, message },
        409 | 500 => Answer::Failing { code, message },
        _ => Answer::Unknown { message: format!("{code}: {message}") },
    }
}

/// The reasons that the server itself gives where a request is wrong.
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
            ("DELETE", "/api/v1/namespaces/demo/pods/web-1")
        );
        let body: serde_json::Value = serde_json::from_slice(request.body()).unwrap();
        assert_eq!(body["preconditions"], serde_json::json!({"uid": "59435a07"}));
        assert_eq!(body["gracePeriodSeconds"], 5);
        assert_eq!(body["dryRun"], serde_json::json!(["All"]), "where the server reads it");
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
        runtime.block_on(async { evict(&Client::new(service, "default"), std::future::pending(), &order()).await })
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

    /// When each of two requests is answered (in milliseconds from its beginning; `None`: never) and how, and what
    /// comes of it. The second one goes out after 100 ms; where it failed, the first has 300 ms more; 1 s for both.
    #[test]
    fn the_first_answer_counts_and_a_failure_only_where_there_is_no_other() {
        let patience = Patience {
            hedge: Duration::from_millis(100),
            first: Duration::from_millis(300),
            answer: Duration::from_secs(1),
        };
        let lost = |message: &str| Answer::Unknown { message: message.into() };
        let (done, gone) = (Answer::Accepted, Answer::Gone);
        let both_late = lost("no answer within 1 s, by two connections");
        type Told = Option<(u64, Answer)>;
        let rows: [(Told, Told, Answer, u64, bool); 11] = [
            (Some((10, done.clone())), None, done.clone(), 10, false),
            // It failed at once: when to ask again is somebody else's to say.
            (Some((10, lost("1"))), Some((10, done.clone())), lost("1"), 10, false),
            (None, Some((50, done.clone())), done.clone(), 150, true),
            (Some((200, done.clone())), None, done.clone(), 200, true),
            (Some((200, gone.clone())), Some((400, done.clone())), gone.clone(), 200, true),
            // A webhook may take its time behind the second one, too.
            (Some((200, lost("1"))), Some((600, done.clone())), done.clone(), 700, true),
            (Some((300, done.clone())), Some((50, lost("2"))), done.clone(), 300, true),
            // The server is away: what waits can be sent when it is back.
            (Some((900, done.clone())), Some((50, lost("2"))), lost("2"), 450, true),
            (None, Some((50, lost("2"))), lost("2"), 450, true),
            (Some((200, lost("1"))), Some((200, lost("2"))), lost("1"), 300, true),
            (None, None, both_late, 1000, true),
        ];
        let runtime = tokio::runtime::Builder::new_current_thread().enable_time().build().unwrap();
        for (first, second, answer, millis, twice) in rows {
            let row = format!("{first:?}, {second:?}");
            let begun = std::cell::Cell::new(0);
            let asked = async |told: Told| {
                begun.set(begun.get() + 1);
                match told {
                    Some((millis, answer)) => {
                        tokio::time::sleep(Duration::from_millis(millis)).await;
                        answer
                    }
                    None => std::future::pending().await,
                }
            };
            let took = runtime.block_on(async {
                let begin = Instant::now();
                assert_eq!(hedged(&patience, asked(first), asked(second)).await, answer, "{row}");
                begin.elapsed()
            });
            let expected = Duration::from_millis(millis);
            assert!(took >= expected && took < expected + Duration::from_millis(90), "{row}: {took:?}");
            assert_eq!(begun.get(), 1 + usize::from(twice), "{row}");
        }
    }

    #[test]
    fn retry_after_is_read_in_seconds_and_up_to_a_minute() {
        let throttled = |header| match answer_of(429, header, b"Too many requests".to_vec()) {
            Answer::Throttled { retry_after, .. } => retry_after.map(|d| d.as_secs()),
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
            if let Answer::Denied { webhook, code: told, message, retry_after } = meant {
                assert_eq!(webhook.as_deref(), Some("guard.facts.example.com"), "{name}");
                assert_eq!(told, code.as_u16(), "{name}");
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
                let Answer::Denied { webhook, code: told, message, retry_after } = answer else { panic!("{answer:?}") };
                assert_eq!((webhook.as_deref(), told), (Some("drain.example.com"), code), "{body}");
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
        let told = Some(Duration::from_secs(10));
        assert_eq!(seconds(&blocked(told), 0, 0.0), Some(10.0));
        let near = blocked(told).retry_after(0, 1.0, Some(Duration::from_secs(9)));
        assert_eq!(near, Some(Duration::from_secs(1)), "it has not so much time");
        let just = blocked(told).retry_after(0, 1.0, Some(Duration::from_secs(10)));
        assert_eq!(just, Some(Duration::from_secs(1)), "nor so");
        let far = blocked(told).retry_after(0, 1.0, Some(Duration::from_secs(11)));
        assert_eq!(far, Some(Duration::from_secs(12)), "the floor and a fifth: agents told the same part again");
        assert_eq!(seconds(&Answer::Throttled { message: None, retry_after: told }, 0, 0.0), Some(10.0));
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
