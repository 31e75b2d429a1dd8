//! The log of requests: what a test proves a "never" with.

use serde_json::Value;
use std::collections::VecDeque;
use std::time::{Instant, SystemTime};

/// Requests kept; the oldest go first. At some 500 bytes each 200,000 are 100 MB, hours of a test.
const KEPT: usize = 200_000;

/// Headers that are kept, and all `impersonate-…`; of `authorization` only its scheme.
const HEADERS: &[&str] = &["accept", "authorization", "content-type", "user-agent"];

/// One request, logged once its body had been read.
#[derive(Clone, Debug)]
pub struct Request {
    /// Counts from 1 and is never reused.
    pub number: u64,
    /// When the head had been read.
    pub at: Instant,
    /// The same on the wall clock.
    pub time: SystemTime,
    /// The method, in capitals.
    pub method: String,
    /// The path without the query.
    pub path: String,
    /// The query, as sent.
    pub query: String,
    /// `accept`, `content-type`, `impersonate-…`, `user-agent`, and `authorization` (its scheme alone).
    pub headers: Vec<(String, String)>,
    /// The body; `Null` if there was none, a string if it was no JSON.
    pub body: Value,
    /// The code of the answer and when it was handed to the connection; `None` as long as it was not.
    pub answer: Option<(u16, Instant)>,
}

impl Request {
    /// The value of a kept header (lower case name).
    pub fn header(&self, name: &str) -> Option<&str> {
        self.headers.iter().find(|(key, _)| key == name).map(|(_, value)| value.as_str())
    }

    /// The first value of `key` in the query, decoded.
    pub fn query_value(&self, key: &str) -> Option<String> {
        let mut pairs = form_urlencoded::parse(self.query.as_bytes());
        pairs.find(|(name, _)| name == key).map(|(_, value)| value.into_owned())
    }
}

#[derive(Default)]
pub(crate) struct Log {
    entries: VecDeque<Request>,
    count: u64,
}

impl Log {
    /// Keeps `request` and answers its number.
    pub(crate) fn push(&mut self, mut request: Request) -> u64 {
        self.count += 1;
        request.number = self.count;
        self.entries.push_back(request);
        if self.entries.len() > KEPT {
            self.entries.pop_front();
        }
        self.count
    }

    pub(crate) fn answered(&mut self, number: u64, code: u16) {
        let first = self.entries.front().map_or(number, |entry| entry.number);
        let index = number.checked_sub(first).and_then(|index| usize::try_from(index).ok());
        if let Some(entry) = index.and_then(|index| self.entries.get_mut(index)) {
            entry.answer = Some((code, Instant::now()));
        }
    }

    pub(crate) fn select(&self, keep: impl Fn(&Request) -> bool) -> Vec<Request> {
        self.entries.iter().filter(|entry| keep(entry)).cloned().collect()
    }

    pub(crate) fn clear(&mut self) {
        self.entries.clear();
    }
}

/// The headers to keep of a request.
pub(crate) fn kept_headers(headers: &hyper::HeaderMap) -> Vec<(String, String)> {
    let kept = headers.iter().filter(|(name, _)| HEADERS.contains(&name.as_str()) || is_impersonation(name.as_str()));
    kept.map(|(name, value)| {
        let value = value.to_str().unwrap_or("");
        let value = if name == "authorization" { value.split(' ').next().unwrap_or("") } else { value };
        (name.as_str().to_owned(), value.to_owned())
    })
    .collect()
}

/// One of the headers that say as whom to act.
pub(crate) fn is_impersonation(header: &str) -> bool {
    header.starts_with("impersonate-")
}
