//! A warning: one HTTP request to the pod's own address. No name is looked up, no redirect is followed, nothing is repeated, and
//! it has a connection of its own.

use std::net::SocketAddr;
use std::pin::pin;
use std::time::Duration;

use bytes::Bytes as Body;
use futures::future::{Either, select};
use http::header::{CONTENT_TYPE, HOST, USER_AGENT};
use http_body_util::Full;
use hyper_util::rt::TokioIo;
use serde::Serialize;
use tokio::net::TcpStream;
use tokio::time::timeout;

use crate::ground::text::{chain, shortened};

/// For all of it: connecting, sending, the head of the answer. Whoever needs longer is not helped in time.
const WITHIN: Duration = Duration::from_secs(1);

/// What a container is told, and where.
#[derive(Clone, Debug, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Warning {
    #[serde(skip)]
    pub to: SocketAddr,
    #[serde(skip)]
    pub path: String,
    pub namespace: String,
    pub pod: String,
    pub container: String,
    /// The annotation `memory-signal`.
    pub signal: &'static str,
    /// The signal's value, in bytes.
    pub value: u64,
    /// The threshold for warnings, in bytes.
    pub threshold: u64,
    pub limit: Option<u64>,
    /// In bytes a second.
    pub growth: Option<i64>,
    /// Until the margin to a kill is used up at this growth; null if it does not grow.
    pub time_left_ms: Option<u64>,
}

/// What came of a warning.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Warned {
    /// A status from 200 to 299.
    Heard,
    /// Another status.
    Answered(u16),
    /// No answer in time, or no connection.
    Failed(String),
    /// It was a dry run.
    NotSent,
}

/// Sends a warning, and waits for its answer for at most a second.
pub async fn warn(warning: &Warning) -> Warned {
    match timeout(WITHIN, send(warning)).await {
        Ok(Ok(200..=299)) => Warned::Heard,
        Ok(Ok(status)) => Warned::Answered(status),
        Ok(Err(error)) => Warned::Failed(shortened(&chain(error.as_ref()))),
        Err(_) => Warned::Failed(format!("no answer within {} s", WITHIN.as_secs())),
    }
}

async fn send(warning: &Warning) -> anyhow::Result<u16> {
    let stream = TcpStream::connect(warning.to).await?;
    let (mut sender, connection) = hyper::client::conn::http1::handshake(TokioIo::new(stream)).await?;
    // Not a task of its own: it ends with this future.
    let answer = async move {
        let request = http::Request::post(warning.path.as_str())
            .header(HOST, warning.to.to_string())
            .header(USER_AGENT, concat!("pre-oom-killer/", env!("CARGO_PKG_VERSION")))
            .header(CONTENT_TYPE, "application/json")
            .body(Full::new(Body::from(serde_json::to_vec(warning)?)))?;
        Ok(sender.send_request(request).await?.status().as_u16())
    };
    match select(pin!(answer), pin!(connection)).await {
        Either::Left((answer, _)) => answer,
        // It may have brought the answer, and ended with it (`Connection: close`).
        Either::Right((_, answer)) => answer.await,
    }
}
