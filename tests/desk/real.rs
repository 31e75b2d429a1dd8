//! `status`, `why` and `recommend` ask a real agent, on cgroups of files.

use std::io::{BufRead, BufReader};
use std::net::SocketAddr;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use pre_oom_killer::plugin::agents::query::Query;
use pre_oom_killer::plugin::recommend::findings::{Wanted, findings};
use pre_oom_killer::plugin::recommend::reckon::Verdict;
use pre_oom_killer::plugin::status::rows::rows;
use pre_oom_killer::plugin::why::case::{Inquiry, inquire};
use pre_oom_killer::plugin::why::text::text;
use serde_json::Value;
use standin::cgroups::Tree;
use standin::{pod, slack};

use crate::cluster::Cluster;
use crate::why::{fits, look};
use crate::{all, asked};

const MIB: u64 = 1 << 20;
const ID: &str = "50912613d370dabbf82e7ad771f576efe6335c771634b4dfd8ead4aed3909d41";
const UID: &str = "aea56c47-06fc-4784-bd27-9fb88a89f1d8";

struct Agent(Child);

impl Drop for Agent {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

fn start(cluster: &Cluster, tree: &Tree, dir: &std::path::Path) -> (Agent, SocketAddr) {
    let kubeconfig = dir.join("config");
    std::fs::write(&kubeconfig, cluster.server.kubeconfig()).unwrap();
    let mut child = Command::new(env!("CARGO_BIN_EXE_pre-oom-killer"))
        .args([
            "run",
            "--node-name",
            "node-host",
            "--listen",
            "127.0.0.1:0",
            "--log-format",
            "json",
            "--dry-run",
            "client",
        ])
        .arg("--kubeconfig")
        .arg(&kubeconfig)
        .arg("--cgroup-root")
        .arg(tree.root())
        .env_remove("RUST_LOG")
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    let mut lines = BufReader::new(child.stderr.take().unwrap()).lines();
    let agent = Agent(child);
    let listen = lines.by_ref().find_map(|line| {
        let line: Value = serde_json::from_str(&line.unwrap()).unwrap();
        line["listen"].as_str()?.parse().ok()
    });
    // Its log goes on, and somebody has to read it.
    std::thread::spawn(move || lines.for_each(drop));
    (agent, listen.unwrap())
}

/// An agent, and a guarded container with 100 of 256Mi.
struct World {
    cluster: Cluster,
    tree: Tree,
    _dir: tempfile::TempDir,
    _agent: Agent,
}

fn world() -> World {
    let (cluster, tree, dir) = (Cluster::empty(Duration::ZERO), Tree::simulated(), tempfile::tempdir().unwrap());
    tree.container(UID, ID).set_limit(Some(256 * MIB));
    tree.pod(UID).set_limit(Some(256 * MIB));
    hold(&tree, 100);
    let guarded = pod("shop", "web-1").uid(UID).container("app", "256Mi").container_id(ID);
    cluster.server.put_pod(guarded.annotation("pre-oom-killer.v1alpha1.k8s.io/memory-usage-threshold", "60").build());
    let (agent, address) = start(&cluster, &tree, dir.path());
    cluster.add("agent", "node-host", address);
    World { cluster, tree, _dir: dir, _agent: agent }
}

fn hold(tree: &Tree, mib: u64) {
    tree.pod(UID).simulate(mib * MIB, 0);
    tree.container(UID, ID).simulate(mib * MIB, 0);
}

/// What an agent knows by and by.
async fn until<T>(mut look: impl AsyncFnMut() -> Option<T>) -> T {
    let begin = Instant::now();
    loop {
        if let Some(seen) = look().await {
            return seen;
        }
        assert!(begin.elapsed() < slack(Duration::from_secs(60)), "waited in vain");
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
}

#[tokio::test]
async fn a_running_agent_explains_what_it_did() {
    let world = world();
    let inquiry = Inquiry { named: "web-1".parse().unwrap(), container: None, query: all() };
    let client = world.cluster.client().await;
    let asked = async || inquire(&client, &inquiry).await.unwrap();
    let guard = until(async || {
        let case = asked().await;
        assert!(case.incidents.is_empty());
        // A class takes some seconds to compare with.
        case.guards.into_iter().find(|of| of.it.memory.as_ref().is_some_and(|memory| memory.known_seconds >= 3))
    });
    let memory = guard.await.it.memory.unwrap();
    assert_eq!((memory.peak, memory.limit), (Some(100 * MIB), Some(256 * MIB)));
    assert!(memory.history.is_some_and(|history| history.minutes.last() == Some(&Some(100 * 1024))));

    // Nothing is recommended on so little.
    let found = findings(&client, &Wanted { named: None, query: all(), now: jiff::Timestamp::now() }).await.unwrap();
    let (_, reckoned) = found.all[0].reckoned.as_ref().unwrap();
    assert!(matches!(reckoned.verdict, Verdict::TooEarly(_)), "{reckoned:?}");

    hold(&world.tree, 170);
    let case = until(async || Some(asked().await).filter(|case| !case.incidents.is_empty())).await;
    let shown = text(&case, &inquiry, false, &look(80, true));
    fits(&shown, 80);
    let incident = &case.incidents[0].it;
    assert_eq!((&*incident.steps[0].reason, incident.facts.value), ("PreOOMEvictionDryRun", Some(170 * MIB)));
    assert_eq!(incident.class.as_deref(), Some("spike"), "{shown}");
    for part in [
        "Pod web-1 in namespace shop, container app",
        "\nspike: it grew 70Mi within",
        "threshold 153.6Mi ┤",
        "What to change",
    ] {
        assert!(shown.contains(part), "{part} in\n{shown}");
    }
}

#[tokio::test]
async fn a_running_agent_is_asked() {
    let World { cluster, tree: _tree, _dir, _agent } = world();
    let begin = Instant::now();
    loop {
        let survey = asked(&cluster, &all()).await;
        let rows = rows(&survey, &Query::default());
        if let Some(row) = rows.first().filter(|row| row.usage.is_some()) {
            let mib = |n: u64| Some(n * MIB);
            assert_eq!(
                (row.pod.as_str(), row.container.as_deref(), row.node.as_str()),
                ("web-1", Some("app"), "node-host")
            );
            assert_eq!((row.usage, row.limit, row.threshold), (mib(100), mib(256), Some(256 * MIB * 6 / 10)));
            assert_eq!((row.state.as_str(), row.share().as_str()), ("watching", "65%"));
            break;
        }
        assert!(begin.elapsed() < slack(Duration::from_secs(60)), "waited in vain: {survey:?}");
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
}
