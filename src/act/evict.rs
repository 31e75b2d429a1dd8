//! Sends an eviction or a deletion, and sends it once more on another connection if the first request is late.

use std::pin::pin;
use std::time::Duration;

use bytes::Bytes as Body;
use futures::future::{Either, select};
use http::StatusCode;
use http_body_util::{BodyExt, Limited};
use kube::Client;
use tokio::time::{Instant, timeout, timeout_at};

use super::answer::{Answer, answer_to};
use super::client::Spare;
use super::order::{Order, request};
use super::timeouts::{ANSWER_WITHIN, FIRST_WITHIN, HEDGE_AFTER};
use crate::ground::text::chain;

/// At most so many bytes of an answer are read. A `Status` has a few hundred, a deleted pod some thousands.
const ANSWER_SIZE: usize = 512 * 1024;

/// Sends the request and waits for its answer, at most [`ANSWER_WITHIN`].
///
/// If there is none after [`HEDGE_AFTER`], the same request is sent once more by `another` client, on a new connection.
/// The first request goes on, because it may wait for a slow webhook. The first answer counts; an [`Answer::Unknown`]
/// counts only if the other one is unknown, too.
///
/// (tower's `Hedge` does not fit: it learns from many requests when one is late, takes an error for an answer, and uses the
/// same connections.)
pub async fn evict(client: &Client, another: impl Future<Output = Option<Spare>>, order: &Order) -> Answer {
    let again = async {
        let Some(spare) = another.await else { return std::future::pending().await };
        // Boxed, because it is seldom needed: the future of every eviction would be larger by its size.
        let answer = Box::pin(ask(spare.client(), order)).await;
        if !matches!(answer, Answer::Unknown { .. }) {
            spare.was_first();
        }
        answer
    };
    hedged(&TIMEOUTS, ask(client, order), again).await
}

/// The three bounds as an argument, so that tests need not wait that long.
struct Timeouts {
    hedge: Duration,
    first: Duration,
    answer: Duration,
}

const TIMEOUTS: Timeouts = Timeouts { hedge: HEDGE_AFTER, first: FIRST_WITHIN, answer: ANSWER_WITHIN };

/// The answer to `first` or, if that is late, to `again`. The other future is dropped, and its connection with it.
async fn hedged(
    timeouts: &Timeouts,
    first: impl Future<Output = Answer>,
    again: impl Future<Output = Answer>,
) -> Answer {
    let end = Instant::now() + timeouts.answer;
    let mut first = pin!(first);
    if let Ok(answer) = timeout(timeouts.hedge, &mut first).await {
        return answer;
    }
    let again = pin!(again);
    let (answer, other, within) = match timeout_at(end, select(first, again)).await {
        // The second request is on a new connection, so it may still get an answer.
        Ok(Either::Left((answer, again))) => (answer, Either::Left(again), timeouts.answer),
        Ok(Either::Right((answer, first))) => (answer, Either::Right(first), timeouts.first),
        Err(_) => {
            let message = format!("no answer within {} s, by two connections", timeouts.answer.as_secs());
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

/// Sends the request once; returns status, `Retry-After` and body.
///
/// # Errors
/// If there was no response.
pub async fn send(client: &Client, order: &Order) -> anyhow::Result<(StatusCode, Option<Duration>, Body)> {
    exchange(client, request(order)?).await
}

/// The same with any request.
///
/// # Errors
/// If there was no response.
pub async fn exchange(
    client: &Client,
    request: http::Request<Vec<u8>>,
) -> anyhow::Result<(StatusCode, Option<Duration>, Body)> {
    let response = client.send(request.map(Into::into)).await?;
    let (head, body) = response.into_parts();
    let retry_after = (head.headers.get(http::header::RETRY_AFTER))
        .and_then(|v| v.to_str().ok()?.parse().ok())
        .map(Duration::from_secs);
    let body = Limited::new(body, ANSWER_SIZE).collect().await;
    Ok((head.status, retry_after, body.map_or(Body::new(), |b| b.to_bytes())))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::act::order::tests::order;

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
        let timeouts = Timeouts {
            hedge: Duration::from_millis(100),
            first: Duration::from_millis(300),
            answer: Duration::from_secs(1),
        };
        let lost = |message: &str| Answer::Unknown { message: message.into() };
        let (done, gone) = (Answer::Accepted, Answer::Gone);
        let both_late = lost("no answer within 1 s, by two connections");
        type Late = Option<(u64, Answer)>;
        let rows: [(Late, Late, Answer, u64, bool); 11] = [
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
            let request = async |late: Late| {
                begun.set(begun.get() + 1);
                match late {
                    Some((millis, answer)) => {
                        tokio::time::sleep(Duration::from_millis(millis)).await;
                        answer
                    }
                    None => std::future::pending().await,
                }
            };
            let took = runtime.block_on(async {
                let begin = Instant::now();
                assert_eq!(hedged(&timeouts, request(first), request(second)).await, answer, "{row}");
                begin.elapsed()
            });
            let expected = Duration::from_millis(millis);
            assert!(took >= expected && took < expected + Duration::from_millis(250), "{row}: {took:?}");
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
}
