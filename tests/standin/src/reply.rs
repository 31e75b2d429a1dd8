//! An answer on its way out: code, headers, and a body that is whole, streamed, or torn on purpose.

use bytes::Bytes;
use http_body::Frame;
use serde_json::Value;
use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::Duration;
use tokio::sync::mpsc;

/// The connection is to be torn instead of ended.
#[derive(Debug)]
pub(crate) struct Torn;

impl std::fmt::Display for Torn {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("torn on purpose")
    }
}
impl std::error::Error for Torn {}

/// How long what was written before a cut has to reach the socket.
const FLUSH: Duration = Duration::from_millis(20);

pub(crate) struct Reply {
    pub code: u16,
    pub headers: Vec<(String, String)>,
    pub body: Body,
}

impl Reply {
    pub(crate) fn json(code: u16, body: Value) -> Reply {
        Reply::text(code, body.to_string()).header("content-type", "application/json")
    }

    pub(crate) fn text(code: u16, body: String) -> Reply {
        let headers = vec![("content-type".to_owned(), "text/plain; charset=utf-8".to_owned())];
        Reply { code, headers, body: Body::whole(body.into()) }
    }

    /// A watch: lines of JSON as they come.
    pub(crate) fn stream(lines: mpsc::Receiver<Result<Bytes, Torn>>) -> Reply {
        let headers = vec![("content-type".to_owned(), "application/json".to_owned())];
        Reply { code: 200, headers, body: Body { source: Source::Stream(lines), left: None, hangs: false, cut: None } }
    }

    /// A watch that has this one line and ends.
    pub(crate) fn line(line: &Value) -> Reply {
        let (only, lines) = mpsc::channel(1);
        let _ = only.try_send(Ok(format!("{line}\n").into())); // there is room for one
        Reply::stream(lines)
    }

    /// Sets the header, replacing one of the same name (`warning` may come several times).
    pub(crate) fn header(mut self, name: &str, value: &str) -> Reply {
        let name = name.to_ascii_lowercase();
        if name != "warning" {
            self.headers.retain(|(other, _)| *other != name);
        }
        self.headers.push((name, value.to_owned()));
        self
    }
}

enum Source {
    Whole(Option<Bytes>),
    Stream(mpsc::Receiver<Result<Bytes, Torn>>),
}

pub(crate) struct Body {
    source: Source,
    /// Bytes that may still go out before the connection is torn.
    left: Option<usize>,
    /// Then it is not torn, but nothing more comes.
    hangs: bool,
    cut: Option<Pin<Box<tokio::time::Sleep>>>,
}

impl Body {
    fn whole(bytes: Bytes) -> Body {
        Body { source: Source::Whole(Some(bytes)), left: None, hangs: false, cut: None }
    }

    /// The length, where it is known before.
    pub(crate) fn length(&self) -> Option<usize> {
        match &self.source {
            Source::Whole(bytes) => Some(bytes.as_ref().map_or(0, Bytes::len)),
            Source::Stream(_) => None,
        }
    }

    pub(crate) fn cut_after(&mut self, bytes: usize) {
        self.left = Some(bytes);
    }

    pub(crate) fn hang_after(&mut self, bytes: usize) {
        (self.left, self.hangs) = (Some(bytes), true);
    }
}

impl http_body::Body for Body {
    type Data = Bytes;
    type Error = Torn;

    fn poll_frame(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, Torn>>> {
        if self.left == Some(0) && self.hangs {
            return Poll::Pending;
        }
        if self.left == Some(0) {
            let cut = self.cut.get_or_insert_with(|| Box::pin(tokio::time::sleep(FLUSH)));
            return cut.as_mut().poll(cx).map(|()| Some(Err(Torn)));
        }
        let next = match &mut self.source {
            Source::Whole(bytes) => bytes.take().map(Ok),
            Source::Stream(lines) => match lines.poll_recv(cx) {
                Poll::Ready(next) => next,
                Poll::Pending => return Poll::Pending,
            },
        };
        let Some(Ok(mut bytes)) = next else {
            return Poll::Ready(next.map(|line| line.map(Frame::data)));
        };
        if let Some(left) = &mut self.left {
            bytes.truncate(*left);
            *left -= bytes.len();
        }
        Poll::Ready(Some(Ok(Frame::data(bytes))))
    }
}
