//! A stand-in cluster of three nodes: two agents answer, one hangs.

use std::collections::BTreeMap;
use std::io::{Read, Write};
use std::net::{SocketAddr, TcpListener};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use jiff::Timestamp;
use kube::config::{KubeConfigOptions, Kubeconfig};
use kube::{Client, Config};
use serde_json::{Value, json};
use standin::{Standin, pod};

/// Where the agents' pods are.
const AGENTS: &str = "pre-oom-killer";
const MIB: u64 = 1 << 20;

/// The moment at which all snapshots are taken.
pub fn now() -> Timestamp {
    "2026-11-24T03:00:00Z".parse().unwrap()
}

/// Bodies by agent, and by path; none: it hangs.
type Bodies = Arc<Mutex<BTreeMap<String, Option<BTreeMap<String, String>>>>>;
pub const GUARDS: &str = "/api/guards";
pub const GUARDS_WITH_HISTORY: &str = "/api/guards?history=1";
pub const INCIDENTS: &str = "/api/incidents";

pub struct Cluster {
    pub server: Standin,
    bodies: Bodies,
    /// The paths that each agent was asked for.
    asked: Arc<Mutex<BTreeMap<String, Vec<String>>>>,
    at_once: Arc<(AtomicUsize, AtomicUsize)>,
    slow: Duration,
}

impl Cluster {
    /// A server without objects.
    pub fn empty(slow: Duration) -> Cluster {
        Cluster {
            server: Standin::start(),
            bodies: Bodies::default(),
            asked: Arc::default(),
            at_once: Arc::default(),
            slow,
        }
    }

    pub fn start() -> Cluster {
        let cluster = Cluster::empty(Duration::ZERO);
        cluster.agent("agent-a", "node-a", Some(page("node-a", node_a())));
        let mut page_b: Value = serde_json::from_str(&page("node-b", node_b())).unwrap();
        page_b["recent"] = json!([
            {"number": 2, "at": "2026-11-24T02:59:58Z", "reason": "PreOOMEvictionHeld", "namespace": "batch", "pod": "train-1",
             "owner": "Job/train", "words": "Eviction held: its owner's last eviction was 2 s ago"},
            {"number": 1, "at": "2026-11-24T02:59:56Z", "reason": "PreOOMEvicted", "namespace": "batch", "pod": "train-0",
             "owner": "Job/train", "words": "Evicted: working set 1.65Gi above 1.6Gi"},
        ]);
        cluster.agent("agent-b", "node-b", Some(page_b.to_string()));
        cluster.agent("agent-c", "node-c", None);
        let pending =
            pod(AGENTS, "agent-d").unlabelled().node("node-d").phase("Pending").owner("DaemonSet", "pre-oom-killer");
        cluster.server.put_pod(pending.label("app.kubernetes.io/name", "pre-oom-killer").build());
        for (name, app) in [("web-58f6dff65f-p9cf2", "web"), ("db-0", "db")] {
            let uid = format!("uid-of-{name}");
            cluster.server.put_pod(
                pod("shop", name).node("node-a").label("app", app).uid(&uid).container("app", "256Mi").build(),
            );
        }
        cluster.evicted(
            "ReplicaSet",
            "web-58f6dff65f",
            "02:47:00",
            "pod web-58f6dff65f-aaaaa of Deployment web: container app: Evicted: working set 155Mi above 153.6Mi",
        );
        cluster.evicted(
            "ReplicaSet",
            "web-58f6dff65f",
            "02:12:00",
            "pod web-58f6dff65f-bbbbb of Deployment web: container app: Evicted",
        );
        cluster
    }

    /// So many agents that answer slowly.
    pub fn of_slow_agents(count: usize) -> Cluster {
        let cluster = Cluster::empty(Duration::from_millis(50));
        for n in 0..count {
            cluster.agent(&format!("agent-{n}"), &format!("node-{n}"), Some(page(&format!("node-{n}"), json!([]))));
        }
        cluster
    }

    /// From now on the agent answers this.
    pub fn say(&self, agent: &str, body: &str) {
        self.say_at(agent, GUARDS, body);
    }

    /// The same at another path.
    pub fn say_at(&self, agent: &str, path: &str, body: &str) {
        let mut bodies = self.bodies.lock().unwrap();
        bodies.get_mut(agent).unwrap().get_or_insert_default().insert(path.into(), body.into());
    }

    /// From now on the agent does not know this path.
    pub fn forget(&self, agent: &str, path: &str) {
        self.bodies.lock().unwrap().get_mut(agent).unwrap().as_mut().unwrap().remove(path);
    }

    /// The paths that an agent was asked for.
    pub fn asked(&self, agent: &str) -> Vec<String> {
        self.asked.lock().unwrap().get(agent).cloned().unwrap_or_default()
    }

    /// The greatest number of requests at the same time.
    pub fn most_at_once(&self) -> usize {
        self.at_once.1.load(Ordering::SeqCst)
    }

    pub async fn client(&self) -> Client {
        let kubeconfig = Kubeconfig::from_yaml(&self.server.kubeconfig()).unwrap();
        let mut config = Config::from_custom_kubeconfig(kubeconfig, &KubeConfigOptions::default()).await.unwrap();
        config.root_cert = Some(Vec::new());
        config.default_retry = false;
        Client::try_from(config).unwrap()
    }

    /// An agent that answers this at [`GUARDS`], and nothing elsewhere.
    pub fn agent(&self, name: &str, node: &str, body: Option<String>) {
        let body = body.map(|body| [(GUARDS.to_owned(), body)].into());
        self.bodies.lock().unwrap().insert(name.into(), body);
        self.add(name, node, self.serve(name));
    }

    /// An agent's pod; its port leads to `address`.
    pub fn add(&self, name: &str, node: &str, address: SocketAddr) {
        self.add_in(AGENTS, "DaemonSet", name, node, address);
    }

    /// A pod with the agents' label.
    fn add_in(&self, namespace: &str, owner: &str, name: &str, node: &str, address: SocketAddr) {
        let place = pod(namespace, name).unlabelled().node(node).owner(owner, "pre-oom-killer");
        let place = place.label("app.kubernetes.io/name", "pre-oom-killer").container("agent", "64Mi");
        self.server.put_pod(place.build());
        self.server.forward(namespace, name, 8080, address);
    }

    /// A tenant's pod with the agents' label, which claims that node-a's `web` is far from its threshold.
    pub fn pretend(&self, namespace: &str, owner: &str, name: &str, node: &str) {
        let mut web = guard("shop", "web-58f6dff65f-p9cf2", "app", ("watching", "pretended"), [1, 153, 256, 0]);
        web["owner"] = "Deployment/web".into();
        self.bodies.lock().unwrap().insert(name.into(), None);
        self.say(name, &page(node, json!([web])));
        self.add_in(namespace, owner, name, node, self.serve(name));
    }

    fn evicted(&self, kind: &str, name: &str, time: &str, note: &str) {
        let event = json!({
            "metadata": {"name": format!("{name}.{time}"), "namespace": "shop"},
            "eventTime": format!("2026-11-24T{time}.000000Z"), "type": "Warning", "reason": "PreOOMEvicted",
            "action": "Evicting", "reportingController": "pre-oom-killer", "reportingInstance": "node-a", "note": note,
            "regarding": {"kind": kind, "apiVersion": "apps/v1", "name": name, "namespace": "shop"},
            "related": {"kind": "Deployment", "apiVersion": "apps/v1", "name": "web", "namespace": "shop"},
        });
        let body = event.to_string();
        let mut stream = std::net::TcpStream::connect(self.server.address()).unwrap();
        let head = format!(
            "POST /apis/events.k8s.io/v1/namespaces/shop/events HTTP/1.1\r\nhost: x\r\nauthorization: Bearer {}",
            self.server.token()
        );
        write!(
            stream,
            "{head}\r\ncontent-length: {}\r\ncontent-type: application/json\r\nconnection: close\r\n\r\n{body}",
            body.len()
        )
        .unwrap();
        let mut answer = String::new();
        stream.read_to_string(&mut answer).unwrap();
        assert!(answer.starts_with("HTTP/1.1 201"), "{answer}");
    }

    /// A server that answers with the agent's body of that path; without any, it keeps the connection open and sends nothing.
    fn serve(&self, name: &str) -> SocketAddr {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        let (name, bodies, at_once, slow) = (name.to_owned(), self.bodies.clone(), self.at_once.clone(), self.slow);
        let paths = self.asked.clone();
        std::thread::spawn(move || {
            let mut open = Vec::new();
            for stream in listener.incoming() {
                let mut stream = stream.unwrap();
                let mut request = [0; 4096];
                let read = stream.read(&mut request).unwrap();
                let head = String::from_utf8_lossy(&request[..read]).into_owned();
                let path = head.strip_prefix("GET ").and_then(|rest| rest.split_once(" HTTP/1.1\r\n")).unwrap().0;
                paths.lock().unwrap().entry(name.clone()).or_default().push(path.to_owned());
                let asked = at_once.0.fetch_add(1, Ordering::SeqCst) + 1;
                at_once.1.fetch_max(asked, Ordering::SeqCst);
                std::thread::sleep(slow);
                at_once.0.fetch_sub(1, Ordering::SeqCst);
                let Some(all) = bodies.lock().unwrap()[&name].clone() else {
                    open.push(stream);
                    continue;
                };
                // As an agent answers that does not know the path.
                let (code, body) = match all.get(path) {
                    Some(body) => ("200 OK", body.as_str()),
                    None => ("404 Not Found", "here are /, /metrics, /healthz, /readyz and /api/guards\n"),
                };
                let _ = write!(
                    stream,
                    "HTTP/1.1 {code}\r\ncontent-type: application/json\r\ncontent-length: {}\r\nconnection: close\r\n\r\n{body}",
                    body.len()
                );
            }
        });
        address
    }
}

fn page(node: &str, guards: Value) -> String {
    json!({"node": node, "version": "0.1.0", "listed": true, "guards": guards}).to_string()
}

/// A guard as `/api/guards` has it; `numbers`: value, threshold, limit in MiB, growth in KiB a second.
fn guard(namespace: &str, name: &str, container: &str, (state, why): (&str, &str), numbers: [i64; 4]) -> Value {
    let [value, threshold, limit, growth] = numbers;
    let mib = |n: i64| u64::try_from(n).unwrap() * MIB;
    json!({
        "namespace": namespace, "pod": name, "uid": format!("uid-of-{name}"), "container": container,
        "cgroup": "/sys/fs/cgroup/kubepods.slice/x.scope", "state": state, "why": why, "signal": "working-set", "threshold": "60 %",
        "memory": {
            "usage": mib(value) + MIB, "value": mib(value), "limit": mib(limit), "threshold": mib(threshold),
            "room": mib(limit - value), "growth": growth * 1024, "ageMs": 12, "nextMs": 20, "oomKills": 0,
        },
    })
}

fn node_a() -> Value {
    let mut web =
        guard("shop", "web-58f6dff65f-p9cf2", "app", ("watching", "below its threshold"), [120, 153, 256, 3072]);
    web["owner"] = "Deployment/web".into();
    let db = guard(
        "shop",
        "db-0",
        "app",
        (
            "blocked",
            "Eviction blocked by PodDisruptionBudget db (disruptionsAllowed 0); retrying while the container stays above its threshold; next try in 12 s",
        ),
        [200, 153, 256, 512],
    );
    let invalid = json!({
        "namespace": "shop", "pod": "cart-7", "uid": "uid-of-cart-7", "state": "invalid",
        "why": "memory-usage-threshold \"60m\" is invalid (unknown unit `m` (use Ki, Mi, Gi, Ti, or k, M, G, T)): write a quantity such as \"512Mi\", or a percentage of the limit such as \"60\"",
    });
    json!([web, db, invalid])
}

fn node_b() -> Value {
    let mut held = guard(
        "batch",
        "train-1",
        "main",
        ("held", "its owner's last eviction was 4 s ago; for another 6 s"),
        [1640, 1638, 2048, -2048],
    );
    held["owner"] = "Job/train".into();
    let hostile = guard(
        "batch",
        "evil\u{1b}[2J\u{202e}",
        "c\r\n",
        ("watching", "below\u{9b}31m its threshold"),
        [10, 153, 256, 0],
    );
    let mut group = guard("batch", "all", "x", ("no-limit", "a percentage of no limit"), [700, 0, 800, 1]);
    group.as_object_mut().unwrap().remove("container");
    group["memory"]["limit"] = Value::Null;
    group["memory"]["threshold"] = Value::Null;
    group["guardedBy"] = json!("namespace");
    group["memory"]["growth"] = json!(0);
    for (key, value) in [("growthPerMinute", 3 * MIB), ("growingSeconds", 7200), ("peak", 712 * MIB)] {
        group["memory"][key] = json!(value);
    }
    json!([held, hostile, group])
}
