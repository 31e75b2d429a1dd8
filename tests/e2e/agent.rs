//! The real binary, started as a person or a kubelet would, and asked over its own pages.

use std::cell::RefCell;
use std::fs::Permissions;
use std::io::{BufRead, BufReader, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::os::unix::fs::PermissionsExt;
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use serde_json::Value;
use standin::{Standin, slack};

/// The node that all tests' agents guard.
pub const NODE: &str = "node-host";

/// Long enough for anything that has to happen, also in the emulated machine. `E2E_SLACK` makes it longer: see [`slack()`].
pub fn soon() -> Duration {
    slack(Duration::from_secs(60))
}

/// The program under test.
pub fn binary() -> String {
    std::env::var("PRE_OOM_KILLER_BIN").unwrap_or_else(|_| env!("CARGO_BIN_EXE_pre-oom-killer").to_owned())
}

/// A running agent; ended when dropped.
pub struct Agent {
    child: RefCell<Child>,
    address: SocketAddr,
    log: Arc<Mutex<Vec<String>>>,
    /// Nobody reads what it logs.
    unread: Arc<AtomicBool>,
    _dir: Option<tempfile::TempDir>,
}

impl Agent {
    /// Starts one against `server` and waits until it is ready.
    pub fn start(server: &Standin, cgroup_root: &Path, flags: &[&str]) -> Agent {
        Agent::start_as(server, cgroup_root, flags, Command::new(binary()))
    }

    /// The same for another program that takes an agent's flags.
    pub fn start_as(server: &Standin, cgroup_root: &Path, flags: &[&str], program: Command) -> Agent {
        let agent = Agent::spawn(server, cgroup_root, flags, program);
        agent.wait_until("ready", |a| (a.get("/readyz").0 == 200).then_some(()));
        agent
    }

    /// Starts one and waits only until it listens.
    pub fn launch(server: &Standin, cgroup_root: &Path, flags: &[&str]) -> Agent {
        Agent::spawn(server, cgroup_root, flags, Command::new(binary()))
    }

    /// Starts one as a user without any rights, from a copy that this user can reach.
    pub fn unprivileged(server: &Standin, cgroup_root: &Path) -> Agent {
        let dir = tempfile::Builder::new().permissions(Permissions::from_mode(0o755)).tempdir();
        let copy = dir.as_ref().expect("a temporary directory").path().join("pre-oom-killer");
        std::fs::copy(binary(), &copy).expect("a copy");
        let mut command = Command::new(copy);
        command.uid(65532).gid(65532);
        let agent = Agent::spawn(server, cgroup_root, &[], command);
        agent.wait_until("ready", |a| (a.get("/readyz").0 == 200).then_some(()));
        agent
    }

    /// Starts one as in a pod: a service account's files in their place (in a mount namespace of its own), and
    /// the API server's address in the environment. The server has to speak TLS.
    pub fn in_cluster(server: &Standin, cgroup_root: &Path) -> Agent {
        const SCRIPT: &str = r#"
            set -e
            account=/var/run/secrets/kubernetes.io/serviceaccount
            mount -t tmpfs none /var/run && mkdir -p "$account"
            printf %s "$TOKEN" >"$account/token" && printf %s "$AUTHORITY" | base64 -d >"$account/ca.crt"
            printf default >"$account/namespace"
            exec "$@""#;
        let address = server.address();
        let mut command = Command::new("unshare");
        command
            .args(["-m", "sh", "-c", SCRIPT, "sh", &binary()])
            .env("TOKEN", server.token())
            .env("AUTHORITY", server.authority().expect("TLS"))
            .env("KUBERNETES_SERVICE_HOST", address.ip().to_string())
            .env("KUBERNETES_SERVICE_PORT", address.port().to_string());
        let agent = Agent::spawn(server, cgroup_root, &["--kubeconfig", ""], command);
        agent.wait_until("ready", |a| (a.get("/readyz").0 == 200).then_some(()));
        agent
    }

    fn spawn(server: &Standin, cgroup_root: &Path, flags: &[&str], mut command: Command) -> Agent {
        let dir = tempfile::Builder::new().permissions(Permissions::from_mode(0o755)).tempdir();
        let dir = dir.expect("a temporary directory");
        let kubeconfig = dir.path().join("kubeconfig");
        std::fs::write(&kubeconfig, server.kubeconfig()).expect("a file there");
        command
            .args(["run", "--node-name", NODE, "--listen", "127.0.0.1:0", "--log-format", "json", "--kubeconfig"])
            .arg(&kubeconfig)
            .arg("--cgroup-root")
            .arg(cgroup_root)
            .args(flags)
            .env_remove("RUST_LOG");
        Agent::run(command, Some(dir))
    }

    /// Runs a complete command, and waits until it listens. The directory is kept as long as it runs.
    pub fn run(mut command: Command, dir: Option<tempfile::TempDir>) -> Agent {
        let mut child = command.stdin(Stdio::null()).stderr(Stdio::piped()).spawn().expect("starting the agent");
        let stderr = BufReader::new(child.stderr.take().expect("piped"));
        let log = Arc::new(Mutex::new(Vec::new()));
        let unread = Arc::new(AtomicBool::new(false));
        let (lines, stalled) = (Arc::clone(&log), Arc::clone(&unread));
        std::thread::spawn(move || {
            for line in stderr.lines().map_while(Result::ok) {
                while stalled.load(Relaxed) {
                    std::thread::sleep(Duration::from_millis(10));
                }
                lines.lock().expect("no panic").push(line);
            }
        });
        let mut agent =
            Agent { child: RefCell::new(child), address: SocketAddr::from(([0, 0, 0, 0], 0)), log, unread, _dir: dir };
        agent.address = agent.wait_until("listening", |a| {
            a.lines().into_iter().find_map(|line| match &line {
                // As text: … listen="127.0.0.1:42163" …
                Value::String(text) => text.split_once("listen=\"")?.1.split_once('"')?.0.parse().ok(),
                line => line["listen"].as_str()?.parse().ok(),
            })
        });
        agent
    }

    /// Its process.
    pub fn pid(&self) -> i32 {
        i32::try_from(self.child.borrow().id()).expect("a pid")
    }

    /// A size of its `/proc/PID/status`, as `VmRSS`, in KiB.
    pub fn memory(&self, name: &str) -> u64 {
        let status = std::fs::read_to_string(format!("/proc/{}/status", self.pid())).expect("it runs");
        let line = status.lines().find(|l| l.split(':').next() == Some(name)).expect("a line");
        line.split_whitespace().nth(1).expect("a number").parse().expect("a number")
    }

    /// Where it listens.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// The log so far, a line an object.
    pub fn lines(&self) -> Vec<Value> {
        let lines = self.log.lock().expect("no panic");
        lines.iter().map(|l| serde_json::from_str(l).unwrap_or(Value::String(l.clone()))).collect()
    }

    /// Leaves its stderr unread from now on, or reads on.
    pub fn leave_unread(&self, unread: bool) {
        self.unread.store(unread, Relaxed);
    }

    /// The log lines with this `reason`.
    pub fn told(&self, reason: &str) -> Vec<Value> {
        self.lines().into_iter().filter(|l| l["reason"] == reason).collect()
    }

    /// Waits for the first log line with this `reason`.
    pub fn wait_told(&self, reason: &str) -> Value {
        self.wait_until(reason, |a| a.told(reason).into_iter().next())
    }

    /// GET: the code and the body.
    pub fn get(&self, path: &str) -> (u16, String) {
        get(self.address, path).unwrap_or((0, String::new()))
    }

    /// `/api/guards`, the entry of a pod's container; `Null` if there is none.
    pub fn guard(&self, pod: &str, container: &str) -> Value {
        let (_, body) = self.get("/api/guards");
        let all: Value = serde_json::from_str(&body).unwrap_or_default();
        let guards = all["guards"].as_array().cloned().unwrap_or_default();
        let found = guards.into_iter().find(|g| {
            g["pod"] == pod && (g["container"] == container || g["container"].is_null() && container.is_empty())
        });
        found.unwrap_or_default()
    }

    /// The sum of a metric's series, of which there has to be one.
    pub fn metric(&self, name: &str) -> f64 {
        let (page, value) = self.metric_so_far(name);
        value.unwrap_or_else(|| panic!("no series {name} in:\n{page}"))
    }

    /// The same of a metric whose series come with what they count, and the page; `None`: there is none yet.
    pub fn metric_so_far(&self, name: &str) -> (String, Option<f64>) {
        let (_, page) = self.get("/metrics");
        let values = page.lines().filter_map(|l| {
            let (series, value) = l.rsplit_once(' ')?;
            let matches = series == name || series.starts_with(&format!("{name}{{"));
            matches.then(|| value.parse::<f64>().ok())?
        });
        let values: Vec<f64> = values.collect();
        let sum = (!values.is_empty()).then(|| values.iter().sum());
        (page, sum)
    }

    /// Waits until a pod's container is in this state.
    pub fn wait_state(&self, pod: &str, container: &str, state: &str) -> Value {
        self.wait_until(&format!("{pod}/{container} {state}"), |a| {
            Some(a.guard(pod, container)).filter(|g| g["state"] == state)
        })
    }

    /// Asks again and again until there is an answer; says what was waited for, and the log, if none comes.
    pub fn wait_until<T>(&self, what: &str, mut ask: impl FnMut(&Agent) -> Option<T>) -> T {
        let begin = Instant::now();
        while begin.elapsed() < soon() {
            if let Some(answer) = ask(self) {
                return answer;
            }
            if self.wait(Duration::ZERO).is_some() {
                break;
            }
            std::thread::sleep(Duration::from_millis(10));
        }
        let log = self.log.lock().expect("no panic").join("\n");
        panic!("waited in vain: {what}\nguards: {}\nlog:\n{log}", self.get("/api/guards").1);
    }

    /// Sends it a signal.
    pub fn signal(&self, signal: Signal) {
        kill(Pid::from_raw(self.pid()), signal).expect("it runs");
    }

    /// Waits for its end.
    pub fn wait(&self, within: Duration) -> Option<ExitStatus> {
        let begin = Instant::now();
        loop {
            if let Some(status) = self.child.borrow_mut().try_wait().expect("our child") {
                return Some(status);
            }
            if begin.elapsed() >= within {
                return None;
            }
            std::thread::sleep(Duration::from_millis(5));
        }
    }
}

impl Drop for Agent {
    fn drop(&mut self) {
        let child = self.child.get_mut();
        let _ = child.kill();
        let _ = child.wait();
        if std::thread::panicking() {
            eprintln!("the agent's log:\n{}", self.log.lock().map(|l| l.join("\n")).unwrap_or_default());
        }
    }
}

/// One GET on a connection of its own.
pub fn get(address: SocketAddr, path: &str) -> Option<(u16, String)> {
    get_within(address, path, slack(Duration::from_secs(20)))
}

/// The same, given so long to connect and for each part of the answer.
pub fn get_within(address: SocketAddr, path: &str, time: Duration) -> Option<(u16, String)> {
    let mut stream = TcpStream::connect_timeout(&address, time).ok()?;
    stream.set_read_timeout(Some(time)).ok()?;
    write!(stream, "GET {path} HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n").ok()?;
    let mut answer = String::new();
    stream.read_to_string(&mut answer).ok()?;
    let (head, body) = answer.split_once("\r\n\r\n")?;
    let code = head.split(' ').nth(1)?.parse().ok()?;
    Some((code, body.to_owned()))
}
