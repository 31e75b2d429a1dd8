//! A stand-in server, real groups, and an agent in a process of its own, for what is measured from outside.

use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::Mutex;
use std::time::Duration;

use clap::Parser;
use kube::config::Kubeconfig;
use pre_oom_killer::act::client::fitted;
use pre_oom_killer::agent::run_on;
use pre_oom_killer::cgroup::Machine;
use pre_oom_killer::cli::{Cli, Command as Asked};
use standin::cgroups::{Group, Tree};
use standin::{Standin, pod};

use crate::agent::Agent;
use crate::world::{NS, PREFIX, container_id, uid};

/// What is read of a small group is multiplied by this, so that it stands for a large one.
pub const MAGNIFIED: u64 = 64;
/// The uids and ids of small groups begin so.
const SMALL: &str = "64646464";
const MIB: u64 = 1 << 20;

/// To be called first in `main`: becomes one of the helpers and ends with it, if that was asked for.
pub fn be_one_if_asked() {
    standin::hog::be_one_if_asked();
    let words: Vec<String> = std::env::args().collect();
    match words.get(1).map(String::as_str) {
        Some("agent") => {
            #[cfg_attr(
                not(feature = "plugin"),
                allow(irrefutable_let_patterns, reason = "then it is the only command")
            )]
            let Cli { command: Asked::Run(flags) } = Cli::parse_from(&words[1..]) else { panic!("another command") };
            let config = flags.validate().expect("good flags");
            let _log = pre_oom_killer::report::stderr::start(&config).expect("a thread for the log");
            let small = |dir: &Path| if dir.to_string_lossy().contains(SMALL) { MAGNIFIED } else { 1 };
            let machine = Machine::open().expect("/proc/meminfo").magnified(small);
            let runtime = tokio::runtime::Builder::new_current_thread().enable_all().max_blocking_threads(2).build();
            runtime.expect("a runtime").block_on(run_on(config, machine)).expect("it runs");
            std::process::exit(0)
        }
        Some("charge") => {
            let [_, _, group, file, bytes] = &words[..] else { panic!("charge GROUP FILE BYTES") };
            charge(Path::new(group), Path::new(file), bytes.parse().expect("bytes"));
            std::process::exit(0)
        }
        _ => {}
    }
}

/// Writes so many bytes: held by the group in tmpfs, clean page cache of it on a disk.
fn charge(group: &Path, file: &Path, bytes: usize) {
    std::fs::write(group.join("cgroup.procs"), "0").expect("moving into the cgroup");
    let mut file = std::fs::File::create(file).expect("a file");
    for piece in vec![1; bytes].chunks(1 << 20) {
        file.write_all(piece).expect("room for it");
        file.sync_data().expect("a disk");
    }
}

/// A node of guarded pods that do nothing.
pub struct Node {
    /// The API server.
    pub server: Standin,
    /// The groups.
    pub tree: Tree,
    /// For requests of our own.
    pub client: kube::Client,
    /// These run here.
    pub runtime: tokio::runtime::Runtime,
    usage_files: Mutex<Vec<PathBuf>>,
    files: tempfile::TempDir,
    cached: tempfile::TempDir,
}

impl Node {
    /// One without pods.
    pub fn new() -> Node {
        Node::with(Standin::start())
    }

    /// The same with a server that speaks TLS.
    pub fn tls() -> Node {
        Node::with(Standin::start_tls())
    }

    fn with(server: Standin) -> Node {
        // Large files are not for a disk in memory.
        let cached = tempfile::tempdir_in(env!("CARGO_TARGET_TMPDIR")).expect("a directory");
        let files = tempfile::tempdir_in("/dev/shm").expect("a directory in memory");
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
        let client = runtime.block_on(async {
            let kubeconfig = Kubeconfig::from_yaml(&server.kubeconfig()).expect("a kubeconfig");
            let config = kube::Config::from_custom_kubeconfig(kubeconfig, &Default::default()).await;
            let config = fitted(config.expect("one that holds"));
            let client = kube::Client::try_from(config).expect("a client");
            // Its connection stays.
            let _ = client.apiserver_version().await;
            client
        });
        Node { server, tree: crate::common::real_tree(), client, runtime, usage_files: Mutex::default(), files, cached }
    }

    /// A pod guarded at 70 % whose small group stands for one with this limit, and holds this part of it.
    /// `full`: the rest is page cache.
    pub fn small(&self, name: &str, limit: u64, part: f64, full: bool) {
        let (uid, id) = (format!("{SMALL}{}", &uid()[8..]), format!("{SMALL}{}", &container_id()[8..]));
        let (pod_group, group) = (self.tree.pod(&uid), self.tree.container(&uid, &id));
        let small = limit / MAGNIFIED;
        self.usage_files.lock().expect("no panic").push(usage_file(group.dir()));
        let held = (small as f64 * part) as u64;
        let file = self.files.path().join(name);
        fill(&group, &file, held);
        // Kernel memory and what the helper left behind count, too.
        let excess = group.usage().unwrap_or(0).saturating_sub(held);
        let file = std::fs::File::options().write(true).open(&file).expect("the file");
        file.set_len(held.saturating_sub(excess)).expect("a shorter file");
        if full {
            fill(&group, &self.cached.path().join(name), small - held + MIB);
        }
        // Only now: whoever filled it is larger than some of these groups. The kernel takes back what is beyond.
        for group in [&pod_group, &group] {
            group.set_limit(Some(small));
        }
        self.server.put_pod(
            pod(NS, name)
                .uid(&uid)
                .owner("ReplicaSet", &format!("{name}-5d4f8c7b9"))
                .annotation(&format!("{PREFIX}memory-usage-threshold"), "70")
                .container("app", format!("{}Mi", limit / MIB).as_str())
                .container_id(&id)
                .build(),
        );
    }

    /// The mix of quiet containers: limits from 128 MiB to 4 GiB, log-uniform, 20–55 % of it used.
    pub fn quiet(&self, count: usize) {
        let mut random = fastrand::Rng::with_seed(7);
        for i in 0..count {
            let limit = (128.0 * MIB as f64 * 32f64.powf(random.f64())) as u64;
            self.small(&format!("quiet-{i}"), limit, 0.20 + 0.35 * random.f64(), false);
        }
    }

    /// What says how much is used, of all small groups.
    pub fn usage_files(&self) -> Vec<PathBuf> {
        self.usage_files.lock().expect("no panic").clone()
    }

    /// An agent that sees the small groups large.
    pub fn agent(&self, flags: &[&str]) -> Agent {
        let mut command = Command::new("/proc/self/exe");
        command.arg("agent");
        Agent::start_as(&self.server, self.tree.root(), flags, command)
    }
}

/// What a process has used up.
#[derive(Clone, Copy)]
pub struct Used {
    at: std::time::Instant,
    cpu: Duration,
}

impl Used {
    /// By all its threads until now.
    pub fn by(pid: i32) -> Used {
        let tasks = std::fs::read_dir(format!("/proc/{pid}/task")).expect("it runs").flatten();
        let nanos = tasks.filter_map(|task| {
            let text = std::fs::read_to_string(task.path().join("schedstat")).ok()?;
            text.split(' ').next()?.parse::<u64>().ok()
        });
        Used { at: std::time::Instant::now(), cpu: Duration::from_nanos(nanos.sum()) }
    }

    /// Percent of one core, since then.
    pub fn percent_since(self, before: Used) -> f64 {
        (self.cpu - before.cpu).as_secs_f64() / (self.at - before.at).as_secs_f64() * 100.0
    }
}

/// Has a helper write in the group.
fn fill(group: &Group, file: &Path, bytes: u64) {
    let mut helper = Command::new("/proc/self/exe");
    helper.arg("charge").arg(group.dir()).arg(file).arg(bytes.to_string());
    assert!(helper.status().expect("starting a helper").success(), "{} could not be filled", file.display());
}

/// `memory.current` or `memory.usage_in_bytes`.
pub fn usage_file(group: &Path) -> PathBuf {
    let v2 = group.join("memory.current");
    if v2.exists() { v2 } else { group.join("memory.usage_in_bytes") }
}
