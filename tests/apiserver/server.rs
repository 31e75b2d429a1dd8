//! A real `kube-apiserver` and its `etcd`, on loopback and in a directory of their own; ended when dropped.
//!
//! There is no kube-controller-manager and no kubelet: what these would do (a namespace's `default` account, a budget's
//! status, a pod's status, its removal) the tests do by hand.

use std::future::Future;
use std::net::TcpListener;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::time::{Duration, Instant};

use http_body_util::BodyExt;
use kube::config::{KubeConfigOptions, Kubeconfig};
use kube::{Client, Config};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use pre_oom_killer::act::client::fitted;
use serde_json::Value;
use standin::slack;
use standin::tls::Tls;
use tempfile::TempDir;

/// The directory with the two programs, as envtest has it.
pub const ASSETS: &str = "KUBEBUILDER_ASSETS";
/// It takes about four seconds on an idle machine.
const STARTS_WITHIN: Duration = Duration::from_secs(120);
/// SIGTERM is given so much; the API server takes about four seconds.
const ENDS_WITHIN: Duration = Duration::from_secs(20);
/// The token of a member of `system:masters`.
const ADMIN: &str = "token-of-the-administrator";

/// Who sends a request.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Who {
    /// Whoever has this bearer token.
    Token(String),
    /// Somebody without credentials.
    Anonymous,
}

impl Who {
    /// May do everything.
    pub fn admin() -> Who {
        Who::Token(ADMIN.into())
    }
}

/// An answer as it came.
#[derive(Debug)]
pub struct Answer {
    pub code: u16,
    pub headers: http::HeaderMap,
    pub text: String,
}

impl Answer {
    /// A header's value.
    pub fn header(&self, name: &str) -> Option<String> {
        Some(self.headers.get(name)?.to_str().ok()?.to_owned())
    }

    /// The body as JSON, or as a text if it is none.
    pub fn json(&self) -> Value {
        serde_json::from_str(&self.text).unwrap_or_else(|_| self.text.as_str().into())
    }
}

/// A running server.
pub struct Server {
    api: Process,
    /// None: that of another server.
    etcd: Option<Process>,
    etcd_port: u16,
    port: u16,
    tls: Tls,
    /// The `1` and `36` of Kubernetes 1.36.
    pub version: (u32, u32),
    dir: Arc<TempDir>,
}

impl Server {
    /// Starts one, with an etcd.
    ///
    /// # Errors
    /// In words, with the end of the log, when it does not come up.
    pub fn start() -> Result<Server, String> {
        let dir = tempfile::tempdir().map_err(|e| e.to_string())?;
        let tls = Tls::new(&["localhost", "127.0.0.1", "kubernetes.default.svc"]).map_err(|e| e.to_string())?;
        let tokens = format!("{ADMIN},admin,admin-uid,\"system:masters\"\n");
        for (name, text) in [("tls.crt", &tls.certificate), ("tls.key", &tls.key), ("tokens.csv", &tokens)] {
            std::fs::write(dir.path().join(name), text).map_err(|e| e.to_string())?;
        }
        let [etcd_port, peer_port] = free_ports();
        let (client, peer) = (format!("http://127.0.0.1:{etcd_port}"), format!("http://127.0.0.1:{peer_port}"));
        let etcd = Process::start(
            "etcd",
            dir.path(),
            &[
                "--name=default".into(),
                "--data-dir=etcd".into(),
                "--unsafe-no-fsync".into(),
                format!("--listen-client-urls={client}"),
                format!("--advertise-client-urls={client}"),
                format!("--listen-peer-urls={peer}"),
                format!("--initial-advertise-peer-urls={peer}"),
                format!("--initial-cluster=default={peer}"),
            ],
        )?;
        Server::before(Some(etcd), etcd_port, tls, Arc::new(dir), &[])
    }

    /// Starts another one before the same etcd, with more flags: its memory begins where the first one's data ends.
    pub fn beside(&self, flags: &[&str]) -> Server {
        let started = Server::before(None, self.etcd_port, self.tls.clone(), Arc::clone(&self.dir), flags);
        started.unwrap_or_else(|e| panic!("{e}"))
    }

    fn before(
        etcd: Option<Process>,
        etcd_port: u16,
        tls: Tls,
        dir: Arc<TempDir>,
        flags: &[&str],
    ) -> Result<Server, String> {
        let [free] = free_ports();
        let port = flags.iter().find_map(|flag| flag.strip_prefix("--secure-port=")?.parse().ok()).unwrap_or(free);
        let mut arguments = vec![
            format!("--etcd-servers=http://127.0.0.1:{etcd_port}"),
            "--bind-address=127.0.0.1".into(),
            "--advertise-address=127.0.0.1".into(),
            format!("--secure-port={port}"),
            "--cert-dir=certificates".into(),
            "--tls-cert-file=tls.crt".into(),
            "--tls-private-key-file=tls.key".into(),
            // Tokens are signed with the server's own key; its certificate holds the public half.
            "--service-account-key-file=tls.crt".into(),
            "--service-account-signing-key-file=tls.key".into(),
            "--service-account-issuer=https://kubernetes.default.svc.cluster.local".into(),
            "--token-auth-file=tokens.csv".into(),
            "--authorization-mode=Node,RBAC".into(),
            // As kubeadm sets it; the mode `impersonation` rests on it.
            "--enable-admission-plugins=NodeRestriction".into(),
            "--service-cluster-ip-range=10.96.0.0/16".into(),
            "--allow-privileged=true".into(),
            "--endpoint-reconciler-type=none".into(),
        ];
        arguments.extend(flags.iter().map(|flag| (*flag).to_owned()));
        let api = Process::start("kube-apiserver", dir.path(), &arguments)?;
        let mut server = Server { api, etcd, etcd_port, port, tls, version: (0, 0), dir };
        server.wait_until_ready()?;
        let version = server.get(&Who::admin(), "/version").json();
        // Some vendors have `36+`.
        let number = |key: &str| version[key].as_str()?.trim_end_matches('+').parse().ok();
        server.version = number("major").zip(number("minor")).ok_or(format!("no version: {version}"))?;
        println!("kube-apiserver {} on port {port}", version["gitVersion"]);
        Ok(server)
    }

    fn wait_until_ready(&mut self) -> Result<(), String> {
        let begin = Instant::now();
        loop {
            for process in self.etcd.iter_mut().chain([&mut self.api]) {
                if let Ok(Some(status)) = process.child.try_wait() {
                    return Err(format!("{} ended with {status}:\n{}", process.name, process.end_of_log()));
                }
            }
            if self.try_send(&Who::Anonymous, request("GET", "/readyz", &[], "")).is_ok_and(|a| a.code == 200) {
                return Ok(());
            }
            if begin.elapsed() > slack(STARTS_WITHIN) {
                return Err(format!("not ready within {:?}:\n{}", slack(STARTS_WITHIN), self.api.end_of_log()));
            }
            std::thread::sleep(Duration::from_millis(100));
        }
    }

    /// Where it listens, on loopback.
    pub fn port(&self) -> u16 {
        self.port
    }

    /// A kubeconfig for it, as its user finds it.
    pub fn kubeconfig(&self, who: &Who) -> String {
        let user = match who {
            Who::Token(token) => format!("{{token: {token}}}"),
            Who::Anonymous => "{}".into(),
        };
        format!(
            "apiVersion: v1\nkind: Config\ncurrent-context: c\n\
             clusters: [{{name: c, cluster: {{server: \"https://127.0.0.1:{}\", certificate-authority-data: {}}}}}]\n\
             users: [{{name: u, user: {user}}}]\ncontexts: [{{name: c, context: {{cluster: c, user: u}}}}]\n",
            self.port, self.tls.authority
        )
    }

    /// Asks the server with kube's client, as the administrator; that has to succeed.
    pub fn admin<T, F: Future<Output = kube::Result<T>>>(&self, ask: impl FnOnce(Client) -> F) -> T {
        self.as_(&Who::admin(), ask).unwrap_or_else(|e| panic!("as the administrator: {e}"))
    }

    /// Asks the server with kube's client.
    pub fn as_<T, F: Future<Output = T>>(&self, who: &Who, ask: impl FnOnce(Client) -> F) -> T {
        block_on(async { ask(Client::try_from(config(&self.kubeconfig(who)).await).expect("a client")).await })
    }

    /// Sends a request as it is.
    pub fn send(&self, who: &Who, request: http::Request<Vec<u8>>) -> Answer {
        let what = format!("{} {}", request.method(), request.uri());
        self.try_send(who, request).unwrap_or_else(|e| panic!("{what}: {e}"))
    }

    /// GET.
    pub fn get(&self, who: &Who, path: &str) -> Answer {
        self.send(who, request("GET", path, &[], ""))
    }

    fn try_send(&self, who: &Who, request: http::Request<Vec<u8>>) -> Result<Answer, String> {
        self.sender(who)(request)
    }

    /// Sends a request from another thread.
    pub fn sender(&self, who: &Who) -> impl FnOnce(http::Request<Vec<u8>>) -> Result<Answer, String> + Send + 'static {
        let kubeconfig = self.kubeconfig(who);
        move |request| {
            block_on(async {
                let client = Client::try_from(config(&kubeconfig).await).map_err(|e| e.to_string())?;
                let response = client.send(request.map(Into::into)).await.map_err(|e| e.to_string())?;
                let (head, body) = response.into_parts();
                let body = body.collect().await.map_err(|e| e.to_string())?.to_bytes();
                let text = String::from_utf8_lossy(&body).into_owned();
                Ok(Answer { code: head.status.as_u16(), headers: head.headers, text })
            })
        }
    }

    /// The lines of a watch (its path has a `timeoutSeconds`) until it ends.
    pub fn watch(&self, who: &Who, path: &str) -> Vec<Value> {
        let answer = self.get(who, path);
        assert_eq!(answer.code, 200, "{path}: {}", answer.text);
        answer.text.lines().map(|line| serde_json::from_str(line).expect(line)).collect()
    }

    /// The newest version of all.
    pub fn resource_version(&self) -> u64 {
        let list = self.get(&Who::admin(), "/api/v1/pods?limit=1").json();
        list["metadata"]["resourceVersion"].as_str().and_then(|v| v.parse().ok()).expect("a version")
    }

    /// Lets etcd forget what is older than this version (by the gateway that it has for those without gRPC).
    pub fn compact(&self, version: u64) {
        let body = serde_json::json!({"revision": version.to_string(), "physical": true}).to_string();
        let text = post_plainly(self.etcd_port, "/v3/kv/compaction", &body);
        assert!(text.contains("200 OK"), "{text}");
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        self.api.end();
        self.etcd.iter_mut().for_each(Process::end);
    }
}

/// What the agent makes of a kubeconfig.
pub async fn config(kubeconfig: &str) -> Config {
    let kubeconfig = Kubeconfig::from_yaml(kubeconfig).expect("it is one");
    let config = Config::from_custom_kubeconfig(kubeconfig, &KubeConfigOptions::default()).await;
    fitted(config.expect("it is whole"))
}

/// A request with a body of JSON, or none.
pub fn request(method: &str, path: &str, headers: &[(&str, &str)], body: &str) -> http::Request<Vec<u8>> {
    let mut request = http::Request::builder().method(method).uri(path);
    if !headers.iter().any(|(name, _)| name.eq_ignore_ascii_case("content-type")) {
        request = request.header("content-type", "application/json");
    }
    for (name, value) in headers {
        request = request.header(*name, *value);
    }
    request.body(body.as_bytes().to_vec()).expect("a request")
}

/// Runs to its end what is asked here and there: each has a runtime, and so connections, of its own.
pub fn block_on<T>(future: impl Future<Output = T>) -> T {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
    runtime.block_on(future)
}

/// A plain POST without TLS.
fn post_plainly(port: u16, path: &str, body: &str) -> String {
    use std::io::{Read, Write};
    let mut stream = std::net::TcpStream::connect(("127.0.0.1", port)).expect("etcd listens");
    let length = body.len();
    let head = format!("POST {path} HTTP/1.1\r\nHost: etcd\r\nContent-Length: {length}\r\nConnection: close\r\n\r\n");
    stream.write_all(format!("{head}{body}").as_bytes()).expect("it reads");
    let mut answer = String::new();
    stream.read_to_string(&mut answer).expect("it answers");
    answer
}

/// Nobody holds them any more when the servers bind them: so little time passes between that the kernel gives them to
/// nobody else.
fn free_ports<const N: usize>() -> [u16; N] {
    let held: [TcpListener; N] = std::array::from_fn(|_| TcpListener::bind("127.0.0.1:0").expect("a free port"));
    held.map(|listener| listener.local_addr().expect("bound").port())
}

/// A program of [`ASSETS`], with its log.
struct Process {
    name: &'static str,
    child: Child,
    log: PathBuf,
}

impl Process {
    fn start(name: &'static str, dir: &Path, arguments: &[String]) -> Result<Process, String> {
        let assets = std::env::var_os(ASSETS).ok_or(format!("{ASSETS} is not set"))?;
        let program = Path::new(&assets).join(name);
        let log = tempfile::Builder::new().prefix(name).suffix(".log").tempfile_in(dir).map_err(|e| e.to_string())?;
        let (file, log) = log.keep().map_err(|e| e.to_string())?;
        let mut command = Command::new(&program);
        let command = command.args(arguments).current_dir(dir).stdin(Stdio::null()).stdout(Stdio::null()).stderr(file);
        let child = command.spawn().map_err(|e| format!("{}: {e}", program.display()))?;
        Ok(Process { name, child, log })
    }

    fn end_of_log(&self) -> String {
        let text = std::fs::read_to_string(&self.log).unwrap_or_default();
        let lines: Vec<&str> = text.lines().collect();
        lines[lines.len().saturating_sub(20)..].join("\n")
    }

    fn end(&mut self) {
        if let Ok(pid) = i32::try_from(self.child.id()) {
            let _ = kill(Pid::from_raw(pid), Signal::SIGTERM);
        }
        let begin = Instant::now();
        while begin.elapsed() < ENDS_WITHIN {
            if !matches!(self.child.try_wait(), Ok(None)) {
                return;
            }
            std::thread::sleep(Duration::from_millis(20));
        }
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

impl Drop for Process {
    /// Where the other of the two could not be started.
    fn drop(&mut self) {
        if matches!(self.child.try_wait(), Ok(None)) {
            self.end();
        }
    }
}
