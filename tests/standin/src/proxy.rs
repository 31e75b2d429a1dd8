//! `GET …/pods/NAME:PORT/proxy/PATH`: forwarded to where a test says that the port is.

use crate::answers;
use crate::reply::Reply;
use crate::route::Call;
use crate::state::Inner;
use serde_json::json;
use std::io;
use std::net::SocketAddr;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

/// The largest answer that is passed on.
const LARGEST: u64 = 64 << 20;

pub(crate) async fn forward(inner: &Inner, call: &Call) -> Result<Reply, Reply> {
    let (name, port) = call.about.name.split_once(':').unwrap_or((&call.about.name, "80"));
    let key = (call.about.namespace.clone(), name.to_owned());
    let port: u16 = port.parse().unwrap_or(80);
    let (known, to) =
        inner.read(|state| (state.pods.contains_key(&key), state.ports.get(&(key.clone(), port)).copied()));
    if !known {
        return Err(call.with_vars("", "", &[("name", name)], |vars| answers::NOT_FOUND.reply(vars)));
    }
    let path = call.path.split_once("/proxy").map_or("/", |(_, rest)| if rest.is_empty() { "/" } else { rest });
    let query = form_urlencoded::Serializer::new(String::new()).extend_pairs(&call.query).finish();
    let path = if query.is_empty() { path.to_owned() } else { format!("{path}?{query}") };
    let Some(to) = to else {
        return Err(unreachable(&format!("dial tcp 10.0.0.1:{port}: connect: connection refused")));
    };
    get(to, &path).await.map_err(|error| unreachable(&error.to_string()))
}

/// As the server says it (apiserver's `proxy` handler, 1.36).
fn unreachable(why: &str) -> Reply {
    let message = format!("error trying to reach service: {why}");
    let status = json!({
        "kind": "Status", "apiVersion": "v1", "metadata": {}, "status": "Failure",
        "message": message, "reason": "ServiceUnavailable", "code": 503,
    });
    Reply::json(503, status)
}

async fn get(to: SocketAddr, path: &str) -> io::Result<Reply> {
    let mut stream = TcpStream::connect(to).await?;
    let request = format!("GET {path} HTTP/1.1\r\nhost: 127.0.0.1\r\nconnection: close\r\n\r\n");
    stream.write_all(request.as_bytes()).await?;
    let mut answer = Vec::new();
    stream.take(LARGEST).read_to_end(&mut answer).await?;
    let answer = String::from_utf8_lossy(&answer);
    let (head, body) = answer.split_once("\r\n\r\n").ok_or(io::ErrorKind::UnexpectedEof)?;
    let code = head.split(' ').nth(1).and_then(|code| code.parse().ok()).ok_or(io::ErrorKind::InvalidData)?;
    let kind =
        head.lines().find_map(|line| line.split_once(':').filter(|(k, _)| k.eq_ignore_ascii_case("content-type")));
    Ok(Reply::text(code, body.to_owned()).header("content-type", kind.map_or("text/plain", |(_, value)| value.trim())))
}
