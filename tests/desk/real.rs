//! `status` asks a real agent, on cgroups of files.

use std::io::{BufRead, BufReader};
use std::net::SocketAddr;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use pre_oom_killer::plugin::agents::query::Query;
use pre_oom_killer::plugin::status::rows::rows;
use serde_json::Value;
use standin::cgroups::Tree;
use standin::{pod, slack};

use crate::cluster::Cluster;
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

#[tokio::test]
async fn a_running_agent_is_asked() {
    let (cluster, tree, dir) = (Cluster::empty(Duration::ZERO), Tree::simulated(), tempfile::tempdir().unwrap());
    let group = tree.container(UID, ID);
    tree.pod(UID).set_limit(Some(256 * MIB));
    tree.pod(UID).simulate(100 * MIB, 0);
    group.set_limit(Some(256 * MIB));
    group.simulate(100 * MIB, 0);
    let guarded = pod("shop", "web-1").uid(UID).container("app", "256Mi").container_id(ID);
    cluster.server.put_pod(guarded.annotation("pre-oom-killer.v1alpha1.k8s.io/memory-usage-threshold", "60").build());
    let (_agent, address) = start(&cluster, &tree, dir.path());
    cluster.add("agent", "node-host", address);

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
