//! Somebody's validating webhook: an HTTPS server of the test's own, and its registration for the evictions of a namespace.

use std::convert::Infallible;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex};
use std::thread::JoinHandle;
use std::time::Duration;

use bytes::Bytes;
use http_body_util::{BodyExt, Full};
use hyper::body::Incoming;
use hyper::service::service_fn;
use hyper_util::rt::TokioIo;
use serde_json::{Value, json};
use standin::tls::Tls;
use tokio::sync::oneshot;

use crate::recorded::Applied;
use crate::world::{World, apply};

/// What it says.
#[derive(Clone, Debug)]
pub enum Says {
    /// `response` of the AdmissionReview, without the uid.
    Review(Value),
    /// Something else altogether.
    Http(u16, &'static str),
    /// Nothing, for so long that the server gives up.
    Nothing,
}

impl Says {
    /// It lets pass.
    pub fn yes() -> Says {
        Says::Review(json!({"allowed": true}))
    }

    /// It denies, with this `status`.
    pub fn no(status: Value) -> Says {
        Says::Review(json!({"allowed": false, "status": status}))
    }
}

/// A running one.
pub struct Webhook {
    address: SocketAddr,
    tls: Tls,
    says: Arc<Mutex<Says>>,
    /// `request` of each AdmissionReview.
    requests: Arc<Mutex<Vec<Value>>>,
    end: Option<oneshot::Sender<()>>,
    thread: Option<JoinHandle<()>>,
}

impl Webhook {
    /// Starts one.
    pub fn start(says: Says) -> Webhook {
        let tls = Tls::new(&["127.0.0.1"]).expect("a certificate");
        let listener = std::net::TcpListener::bind("127.0.0.1:0").expect("a free port");
        listener.set_nonblocking(true).expect("a socket");
        let address = listener.local_addr().expect("bound");
        let (says, requests) = (Arc::new(Mutex::new(says)), Arc::new(Mutex::new(Vec::new())));
        let (end, ended) = oneshot::channel();
        let serving = serve(listener, tls.clone(), Arc::clone(&says), Arc::clone(&requests));
        let thread = std::thread::spawn(move || {
            crate::server::block_on(async { tokio::select!(() = serving => {}, _ = ended => {}) });
        });
        Webhook { address, tls, says, requests, end: Some(end), thread: Some(thread) }
    }

    /// One that takes requests and never answers.
    pub fn silent() -> Webhook {
        Webhook::start(Says::Nothing)
    }

    /// Changes its mind.
    pub fn says(&self, says: Says) {
        *self.says.lock().expect("no panic") = says;
    }

    pub fn url(&self) -> String {
        format!("https://{}/x", self.address)
    }

    pub fn authority(&self) -> String {
        self.tls.authority.clone()
    }

    /// What it was asked, but for what is a dry run.
    pub fn requests(&self) -> Vec<Value> {
        let all = self.requests.lock().expect("no panic");
        all.iter().filter(|request| request["dryRun"] != true).cloned().collect()
    }

    /// How often it was asked.
    pub fn asked(&self) -> usize {
        self.requests.lock().expect("no panic").len()
    }
}

impl Drop for Webhook {
    fn drop(&mut self) {
        drop(self.end.take());
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

async fn serve(listener: std::net::TcpListener, tls: Tls, says: Arc<Mutex<Says>>, requests: Arc<Mutex<Vec<Value>>>) {
    let listener = tokio::net::TcpListener::from_std(listener).expect("a socket");
    loop {
        let Ok((stream, _)) = listener.accept().await else { continue };
        let (tls, says, requests) = (tls.clone(), Arc::clone(&says), Arc::clone(&requests));
        tokio::spawn(async move {
            let Ok(stream) = tls.acceptor.accept(stream).await else { return };
            let service = service_fn(|request| answer(request, &says, &requests));
            let _ = hyper::server::conn::http1::Builder::new().serve_connection(TokioIo::new(stream), service).await;
        });
    }
}

async fn answer(
    request: hyper::Request<Incoming>,
    says: &Mutex<Says>,
    requests: &Mutex<Vec<Value>>,
) -> Result<hyper::Response<Full<Bytes>>, Infallible> {
    let body = request.into_body().collect().await.map(|body| body.to_bytes()).unwrap_or_default();
    let review: Value = serde_json::from_slice(&body).unwrap_or_default();
    requests.lock().expect("no panic").push(review["request"].clone());
    let says = says.lock().expect("no panic").clone();
    let (code, text) = match says {
        Says::Review(mut response) => {
            response["uid"] = review["request"]["uid"].clone();
            let review = json!({"apiVersion": "admission.k8s.io/v1", "kind": "AdmissionReview", "response": response});
            (200, review.to_string())
        }
        Says::Http(code, text) => (code, text.to_owned()),
        Says::Nothing => {
            tokio::time::sleep(Duration::from_secs(3600)).await;
            (500, String::new())
        }
    };
    let mut response = hyper::Response::new(Full::new(Bytes::from(text)));
    *response.status_mut() = hyper::StatusCode::from_u16(code).expect("a code");
    response.headers_mut().insert("content-type", hyper::header::HeaderValue::from_static("application/json"));
    Ok(response)
}

/// Registers a webhook `name` at `url` (with its authority in base64, as far as it has one) for the evictions of this
/// namespace, until what is returned is dropped. It is in force a moment later.
pub fn register<'a>(world: &World<'a>, name: &str, url: &str, authority: &str, timeout: u32) -> Applied<'a> {
    let mut client = json!({"url": url});
    if !authority.is_empty() {
        client["caBundle"] = authority.into();
    }
    let object = json!({
        "apiVersion": "admissionregistration.k8s.io/v1", "kind": "ValidatingWebhookConfiguration",
        "metadata": {"name": format!("{}-{name}", world.ns)},
        "webhooks": [{
            "name": name, "clientConfig": client, "timeoutSeconds": timeout, "failurePolicy": "Fail",
            "sideEffects": "None", "admissionReviewVersions": ["v1"],
            "namespaceSelector": {"matchLabels": {"kubernetes.io/metadata.name": world.ns}},
            "rules": [{"apiGroups": [""], "apiVersions": ["v1"], "operations": ["CREATE"], "resources": ["pods/eviction"]}],
        }],
    });
    apply(world.server, &object);
    Applied { world: world.server, objects: vec![object] }
}

/// Recorded denials of webhooks that answer; those of webhooks that do not are among the others.
pub fn denials(name: &str) -> bool {
    name.contains("-webhook") && !name.ends_with("-timeout") && !name.ends_with("-unreachable")
}
