//! A tiny blocking HTTP client that shows what a real one hides: torn bodies, silence, single lines.
#![allow(dead_code, reason = "each test file uses a part of it")]
#![allow(clippy::unwrap_used, reason = "a test may panic")]

pub mod recordings;

use serde_json::{Value, json};
use standin::{Standin, slack};
use std::io::{BufRead, BufReader, ErrorKind, Read, Write};
use std::net::TcpStream;
use std::time::{Duration, Instant};

/// The rules that were tried on a real server (Kubernetes 1.36.2).
pub const AS_OWN_NODE: &str = r#"
apiVersion: v1
kind: ServiceAccount
metadata: {name: confined, namespace: pre-oom-killer}
---
apiVersion: rbac.authorization.k8s.io/v1
kind: ClusterRole
metadata: {name: pre-oom-killer-as-own-node}
rules:
- apiGroups: [authentication.k8s.io]
  resources: [nodes]
  verbs: ["impersonate:associated-node"]
- apiGroups: [""]
  resources: [pods]
  verbs: ["impersonate-on:associated-node:get", "impersonate-on:associated-node:list", "impersonate-on:associated-node:watch"]
- apiGroups: [""]
  resources: [pods/eviction]
  verbs: ["impersonate-on:associated-node:create"]
- apiGroups: ["", events.k8s.io]
  resources: [events]
  verbs: ["impersonate-on:associated-node:create", "impersonate-on:associated-node:patch"]
---
apiVersion: rbac.authorization.k8s.io/v1
kind: ClusterRoleBinding
metadata: {name: pre-oom-killer-as-own-node}
roleRef: {apiGroup: rbac.authorization.k8s.io, kind: ClusterRole, name: pre-oom-killer-as-own-node}
subjects:
- {kind: ServiceAccount, name: confined, namespace: pre-oom-killer}
"#;

#[derive(Debug)]
pub struct Answer {
    pub code: u16,
    pub headers: Vec<(String, String)>,
    pub text: String,
    /// The connection ended before the body did.
    pub torn: bool,
}

impl Answer {
    pub fn header(&self, name: &str) -> Option<&str> {
        self.headers.iter().find(|(key, _)| key == name).map(|(_, value)| value.as_str())
    }
    pub fn json(&self) -> Value {
        serde_json::from_str(&self.text).unwrap_or_else(|_| self.text.as_str().into())
    }
}

/// A response whose head has been read.
pub struct Open {
    pub code: u16,
    pub headers: Vec<(String, String)>,
    reader: BufReader<TcpStream>,
    line: String,
}

/// What comes next in a watch.
#[derive(Debug, PartialEq)]
pub enum Next {
    Line(Value),
    End,
    Torn,
    Silence,
}

pub fn send(
    standin: &Standin,
    method: &str,
    target: &str,
    headers: &[(&str, &str)],
    body: &str,
) -> std::io::Result<Open> {
    let mut stream = TcpStream::connect(standin.address())?;
    stream.set_read_timeout(Some(Duration::from_secs(20)))?;
    let mut head =
        format!("{method} {target} HTTP/1.1\r\nhost: x\r\ncontent-length: {}\r\nconnection: close\r\n", body.len());
    for (name, value) in headers {
        head.push_str(&format!("{name}: {value}\r\n"));
    }
    stream.write_all(format!("{head}\r\n{body}").as_bytes())?;
    let mut reader = BufReader::new(stream);
    let mut lines = Vec::new();
    loop {
        let mut line = String::new();
        if reader.read_line(&mut line)? == 0 {
            return Err(ErrorKind::UnexpectedEof.into());
        }
        if line == "\r\n" {
            break;
        }
        lines.push(line.trim_end().to_owned());
    }
    let code = lines[0].split(' ').nth(1).unwrap().parse().unwrap();
    let headers =
        lines[1..].iter().filter_map(|line| line.split_once(": ")).map(|(k, v)| (k.to_owned(), v.to_owned())).collect();
    Ok(Open { code, headers, reader, line: String::new() })
}

impl Open {
    fn chunk(&mut self) -> std::io::Result<Option<String>> {
        let mut size = String::new();
        if self.reader.read_line(&mut size)? == 0 {
            return Err(ErrorKind::UnexpectedEof.into());
        }
        let size = usize::from_str_radix(size.trim(), 16).map_err(|_| ErrorKind::UnexpectedEof)?;
        let mut data = vec![0; size + 2];
        self.reader.read_exact(&mut data)?;
        data.truncate(size);
        Ok((size > 0).then(|| String::from_utf8(data).unwrap()))
    }

    /// The next line of a chunked body.
    pub fn next(&mut self, within: Duration) -> Next {
        let deadline = Instant::now() + within;
        loop {
            if let Some((line, rest)) = self.line.split_once('\n') {
                let value = serde_json::from_str(line).unwrap();
                self.line = rest.to_owned();
                return Next::Line(value);
            }
            let left = deadline.saturating_duration_since(Instant::now()).max(Duration::from_millis(1));
            self.reader.get_ref().set_read_timeout(Some(left)).unwrap();
            match self.chunk() {
                Ok(Some(text)) => self.line.push_str(&text),
                Ok(None) => return Next::End,
                Err(error) if matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::TimedOut) => {
                    return Next::Silence;
                }
                Err(_) => return Next::Torn,
            }
        }
    }

    /// The next line, which must come.
    pub fn line(&mut self) -> Value {
        match self.next(slack(Duration::from_secs(5))) {
            Next::Line(line) => line,
            other => panic!("expected a line, got {other:?}"),
        }
    }

    pub fn all_lines(&mut self, within: Duration) -> Vec<Value> {
        let deadline = Instant::now() + within;
        let mut lines = Vec::new();
        while let Next::Line(line) = self.next(deadline.saturating_duration_since(Instant::now())) {
            lines.push(line);
        }
        lines
    }

    pub fn finish(mut self) -> Answer {
        let length = self
            .headers
            .iter()
            .find(|(name, _)| name == "content-length")
            .map(|(_, value)| value.parse::<usize>().unwrap());
        let (mut text, mut torn) = (String::new(), false);
        match length {
            Some(length) => {
                let mut bytes = Vec::new();
                torn = self.reader.read_to_end(&mut bytes).is_err() || bytes.len() < length;
                text = String::from_utf8(bytes).unwrap();
            }
            None => loop {
                match self.chunk() {
                    Ok(Some(chunk)) => text.push_str(&chunk),
                    Ok(None) => break,
                    Err(_) => {
                        torn = true;
                        break;
                    }
                }
            },
        }
        Answer { code: self.code, headers: self.headers, text, torn }
    }
}

pub fn bearer(standin: &Standin) -> String {
    format!("Bearer {}", standin.token())
}

pub fn get(standin: &Standin, target: &str) -> Answer {
    send(standin, "GET", target, &[("authorization", &bearer(standin))], "").unwrap().finish()
}

pub fn watch(standin: &Standin, query: &str) -> Open {
    send(standin, "GET", &format!("/api/v1/pods?watch=1&{query}"), &[("authorization", &bearer(standin))], "").unwrap()
}

pub fn post(standin: &Standin, target: &str, body: &Value) -> Answer {
    request(standin, "POST", target, "application/json", body)
}

pub fn request(standin: &Standin, method: &str, target: &str, media: &str, body: &Value) -> Answer {
    let headers = [("authorization", bearer(standin)), ("content-type", media.to_owned())];
    let headers = headers.each_ref().map(|(key, value)| (*key, value.as_str()));
    send(standin, method, target, &headers, &body.to_string()).unwrap().finish()
}

/// As the node, with the stand-in's token.
pub fn as_node(standin: &Standin, node: &str, method: &str, target: &str, body: &Value) -> Answer {
    let user = format!("system:node:{node}");
    let bearer = bearer(standin);
    let headers = [("authorization", &*bearer), ("content-type", "application/json"), ("impersonate-user", &user)];
    let body = if body.is_null() { String::new() } else { body.to_string() };
    send(standin, method, target, &headers, &body).unwrap().finish()
}

pub fn eviction_path(namespace: &str, name: &str) -> String {
    format!("/api/v1/namespaces/{namespace}/pods/{name}/eviction")
}

pub fn eviction(namespace: &str, name: &str, options: Value) -> Value {
    json!({"apiVersion": "policy/v1", "kind": "Eviction", "metadata": {"name": name, "namespace": namespace}, "deleteOptions": options})
}

pub fn evict(standin: &Standin, namespace: &str, name: &str, options: Value) -> Answer {
    post(standin, &eviction_path(namespace, name), &eviction(namespace, name, options))
}
