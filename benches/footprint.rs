//! What the agent costs where nothing happens: CPU, wake-ups, memory, requests, its start and its size.

#![allow(dead_code, reason = "not each benchmark uses all that they share, and the tests the rest")]
#![allow(
    clippy::disallowed_methods,
    clippy::expect_used,
    clippy::unwrap_used,
    reason = "a benchmark is the outside world, and a panic its way to say that it cannot be run"
)]

#[path = "../tests/e2e/agent.rs"]
mod agent;
mod common;
#[path = "common/rig.rs"]
mod rig;
#[path = "../tests/e2e/world.rs"]
mod world;

use std::fs::File;
use std::hint::black_box;
use std::os::unix::process::CommandExt;
use std::path::PathBuf;
use std::process::Command;
use std::time::{Duration, Instant};

use nix::sys::signal::{Signal, kill};
use nix::sys::uio::pread;
use nix::time::{ClockId, clock_gettime};
use nix::unistd::Pid;
use serde_json::json;
use standin::cgroups::Tree;
use standin::{Standin, pod};

use agent::Agent;
use common::{Args, Row, Worse, finish};
use rig::{MAGNIFIED, Node, Used};
use world::{NS, PREFIX, container_id, uid};

const MIB: u64 = 1 << 20;

/// Measures some rows.
type Part = fn(&Args) -> Vec<Row>;

fn main() {
    rig::be_one_if_asked();
    let parts: [(&str, Part); 7] = [
        ("quiet", |args| quiet(window(args), (!args.quick).then_some(Duration::from_secs(600)))),
        ("busy", |args| busy(window(args) / 3)),
        ("below", |args| just_below(window(args))),
        ("cache", |args| full_of_cache(window(args))),
        ("memory", |_| memory()),
        ("start", |_| vec![start()]),
        ("size", |_| vec![size()]),
    ];
    let args = Args::parse(&parts.map(|(part, _)| part));
    let rows: Vec<Row> = parts.iter().filter(|(part, _)| args.runs(part)).flat_map(|(_, rows)| rows(&args)).collect();
    finish("footprint", &args, &rows);
}

/// For how long something is measured.
fn window(args: &Args) -> Duration {
    Duration::from_secs(if args.quick { 8 } else { 60 })
}

/// CPU and wake-ups of an agent that has done this for a while.
fn cost(agent: &Agent, window: Duration) -> (f64, f64, f64, f64) {
    std::thread::sleep(Duration::from_secs(2));
    let counts =
        || ["sampler_wakeups", "samples", "stat_reads"].map(|n| agent.metric(&format!("pre_oom_killer_{n}_total")));
    let (before, counted) = (Used::by(agent.pid()), counts());
    std::thread::sleep(window);
    let (after, now) = (Used::by(agent.pid()), counts());
    let a_second = |i: usize| (now[i] - counted[i]) / window.as_secs_f64();
    (after.percent_since(before), a_second(0), a_second(1), a_second(2))
}

fn quiet(window: Duration, long: Option<Duration>) -> Vec<Row> {
    let node = Node::new();
    node.quiet(250);
    let (by_time, ..) = cost(&node.agent(&BY_TIME), window);
    let agent = node.agent(&[]);
    let (cpu, wakeups, looks, stats) = cost(&agent, window);
    // Watches end by themselves each few minutes; those are the renewals.
    let requests = long.map(|long| {
        node.server.clear_requests();
        std::thread::sleep(long);
        node.server.requests()
    });
    let renewals = requests.as_ref().map(|r| r.iter().filter(|r| r.query.contains("watch=")).count());
    let others = requests.as_ref().map(|r| (r.len() - renewals.unwrap_or(0)) as f64);
    assert!(node.server.requests_to("POST", "/eviction").is_empty(), "nobody is evicted");
    drop(agent);
    let bare = bare_reads(&node.usage_files(), looks, wakeups, window / 2);
    let words = format!(
        "250 quiet containers, {} s: {looks:.0} looks/s, {stats:.1} stat reads/s (each group holds 1/{MAGNIFIED} of its figure); as many bare reads, \
         asleep as often, cost {bare:.2}",
        window.as_secs()
    );
    vec![
        Row::new("quiet_cpu_percent", cpu, Worse::Higher)
            .reach(0.5)
            .said(words)
            .with("looks_per_s", looks)
            .with("bare_reads_percent", bare),
        Row::new("quiet_by_time_cpu_percent", by_time, Worse::Higher).said("the same with --sample-by time"),
        Row::new("quiet_wakeups_per_s", wakeups, Worse::Higher).reach(30.0),
        Row::new("requests_quiet", others, Worse::Higher)
            .reach(0.0)
            .said("requests in 10 minutes that are no renewal of a watch")
            .with("renewals", json!(renewals)),
    ]
}

/// What it costs to do no more than read usage so often, over so many wake-ups: percent of one core.
fn bare_reads(files: &[PathBuf], a_second: f64, wakeups: f64, window: Duration) -> f64 {
    let files: Vec<_> = files.iter().map(|f| File::open(f).expect("a group")).collect();
    let mut files = files.iter().cycle();
    let each = (a_second / wakeups).round() as usize;
    let cpu = || clock_gettime(ClockId::CLOCK_THREAD_CPUTIME_ID).map(Duration::from).expect("a clock");
    let (begin, used, mut buffer) = (Instant::now(), cpu(), [0; 64]);
    while begin.elapsed() < window {
        std::thread::sleep(Duration::from_secs_f64(1.0 / wakeups));
        for file in files.by_ref().take(each) {
            black_box(pread(file, &mut buffer, 0).expect("it can be read"));
        }
    }
    (cpu() - used).as_secs_f64() / begin.elapsed().as_secs_f64() * 100.0
}

/// 250 quiet containers on a node that does something else: CPU with the count of allocations, and without.
fn busy(window: Duration) -> Vec<Row> {
    let node = Node::new();
    node.quiet(250);
    let ratios = LOADS.map(|(name, script)| {
        let dir = tempfile::tempdir_in(env!("CARGO_TARGET_TMPDIR")).expect("a directory");
        let mut load = Command::new("sh").args(["-c", script]).current_dir(&dir).process_group(0).spawn().expect("sh");
        std::thread::sleep(Duration::from_secs(1));
        // In turns, because a load has its own ups and downs.
        let (mut counting, mut by_time) = (0.0, 0.0);
        for _ in 0..3 {
            by_time += cost(&node.agent(&BY_TIME), window / 3).0;
            counting += cost(&node.agent(&[]), window / 3).0;
        }
        let group = Pid::from_raw(-i32::try_from(load.id()).expect("a pid"));
        kill(group, Signal::SIGKILL).expect("it runs");
        load.wait().expect("it has ended");
        (name, counting / by_time, counting / 3.0, by_time / 3.0)
    });
    let worst = ratios.iter().map(|(_, ratio, ..)| *ratio).fold(0.0, f64::max);
    let words =
        ratios.map(|(name, ratio, counting, by_time)| format!("{name} {ratio:.2} ({counting:.2} ÷ {by_time:.2} %)"));
    vec![Row::new("busy_overhead", worst, Worse::Higher).reach(1.05).said(words.join(", "))]
}

/// What runs beside the agent in `busy`: endless, in an empty directory.
const LOADS: [(&str, &str); 3] = [
    ("idle", "sleep 1000000"),
    (
        "compile",
        "i=0; while [ $i -lt 3000 ]; do echo \"int f$i(int a) { int s = 0; for (int j = 0; j < a; j++) s += j * a ^ $i; return s; }\"; \
      i=$((i + 1)); done >a.c; while :; do cc -O2 -c a.c -o a.o; done",
    ),
    ("copy", "head -c 1G /dev/zero >a; while :; do cp a b; rm b; done"),
];
const BY_TIME: [&str; 2] = ["--sample-by", "time"];

fn just_below(window: Duration) -> Vec<Row> {
    let node = Node::new();
    for (i, limit) in mix().into_iter().enumerate() {
        node.small(&format!("below-{i}"), limit, 0.69, false);
    }
    let (cpu, wakeups, looks, stats) = cost(&node.agent(&[]), window);
    let words =
        format!("50 containers at 69 of 70 %: {looks:.0} looks/s, {wakeups:.0} wake-ups/s, {stats:.0} stat reads/s");
    vec![Row::new("below_cpu_percent", cpu, Worse::Higher).reach(2.0).said(words)]
}

fn full_of_cache(window: Duration) -> Vec<Row> {
    let node = Node::new();
    for (i, limit) in mix().into_iter().enumerate() {
        node.small(&format!("full-{i}"), limit, 0.69, true);
    }
    let agent = node.agent(&[]);
    let (cpu, wakeups, looks, stats) = cost(&agent, window);
    let words = format!("50 containers at the limit, 69 % working set: {looks:.0} looks/s, {wakeups:.0} wake-ups/s");
    vec![
        Row::new("cache_cpu_percent", cpu, Worse::Higher).reach(2.5).said(words),
        Row::new("cache_stat_reads_per_s", stats, Worse::Higher),
    ]
}

/// 50 limits of the quiet mix.
fn mix() -> Vec<u64> {
    (0..50).map(|i| (128.0 * MIB as f64 * 32f64.powf(f64::from(i) / 49.0)) as u64).collect()
}

/// The program as the image starts it.
fn as_shipped() -> Command {
    let line = include_str!("../Dockerfile").lines().find_map(|line| line.strip_prefix("ENV "));
    let (name, value) = line.and_then(|l| l.split_once('=')).expect("the image's one variable");
    let mut command = Command::new(agent::binary());
    command.env(name, value);
    command
}

/// The shipped binary with so many pods as real ones are.
fn memory() -> Vec<Row> {
    let measured: Vec<_> = [10, 110, 250, 1_000]
        .map(|count| {
            let (server, tree) = (Standin::start(), Tree::simulated());
            let bytes: usize = (0..count).map(|i| realistic(&server, &tree, i)).sum();
            let agent = Agent::start_as(&server, tree.root(), &[], as_shipped());
            agent.wait_until("all guarded", |a| {
                (a.metric("pre_oom_killer_guarded_containers") == count as f64).then_some(())
            });
            std::thread::sleep(Duration::from_secs(3));
            let status = std::fs::read_to_string(format!("/proc/{}/status", agent.pid())).expect("it runs");
            let kib =
                status.lines().find_map(|l| l.strip_prefix("VmRSS:")?.trim().strip_suffix(" kB")?.parse::<f64>().ok());
            (count, kib.expect("VmRSS"), bytes / count)
        })
        .into();
    let mut rows: Vec<_> = measured
        .iter()
        .map(|(count, kib, bytes)| {
            let row = Row::new(format!("rss_mib_{count}"), kib / 1024.0, Worse::Higher);
            let row = row.said(format!("watched pods of {} KiB each as JSON", bytes / 1024));
            match count {
                250 => row.reach(8.5),
                1_000 => row.reach(15.5),
                _ => row,
            }
        })
        .collect();
    let slope = (measured[3].1 - measured[0].1) / (measured[3].0 - measured[0].0) as f64;
    rows.push(Row::new("rss_kib_a_pod", slope, Worse::Higher).reach(8.0).said("from 10 to 1,000"));
    rows
}

/// Tells the server of a guarded pod with what charts and admission give them; answers its size as JSON.
fn realistic(server: &Standin, tree: &Tree, i: usize) -> usize {
    let (name, uid, id) = (format!("shop-api-5d4f8c7b9-{i:05}"), uid(), container_id());
    for group in [tree.pod(&uid), tree.container(&uid, &id)] {
        group.set_limit(Some(256 * MIB));
        group.simulate(80 * MIB, 20 * MIB);
    }
    let mut pod = pod(NS, &name)
        .uid(&uid)
        .owner("ReplicaSet", "shop-api-5d4f8c7b9")
        .label("app.kubernetes.io/name", "shop-api")
        .label("app.kubernetes.io/instance", "shop")
        .annotation("checksum/config", &"0123456789abcdef".repeat(4))
        .annotation(&format!("{PREFIX}target-container-name"), "app")
        .annotation(&format!("{PREFIX}memory-usage-threshold"), "70")
        .container("app", "256Mi")
        .container_id(&id)
        .container("proxy", "64Mi")
        .build();
    let env: Vec<_> = (0..30)
        .map(|n| json!({"name": format!("SHOP_SETTING_{n}"), "value": format!("https://backend-{n}.shop.svc.cluster.local:8443/api")}))
        .collect();
    let probe = json!({"httpGet": {"path": "/healthz", "port": "http", "scheme": "HTTP"}, "periodSeconds": 10, "timeoutSeconds": 1,
        "successThreshold": 1, "failureThreshold": 3});
    for container in pod["spec"]["containers"].as_array_mut().expect("containers") {
        container["env"] = json!(env);
        container["livenessProbe"] = probe.clone();
        container["readinessProbe"] = probe.clone();
        container["volumeMounts"] = json!([
            {"name": "config", "mountPath": "/etc/shop", "readOnly": true},
            {"name": "kube-api-access-x7k2p", "mountPath": "/var/run/secrets/kubernetes.io/serviceaccount", "readOnly": true}
        ]);
    }
    pod["spec"]["volumes"] = json!([
        {"name": "config", "configMap": {"name": "shop-api", "defaultMode": 420}},
        {"name": "kube-api-access-x7k2p", "projected": {"defaultMode": 420, "sources": [
            {"serviceAccountToken": {"expirationSeconds": 3607, "path": "token"}},
            {"configMap": {"name": "kube-root-ca.crt", "items": [{"key": "ca.crt", "path": "ca.crt"}]}}]}}
    ]);
    // About as long as the fields of two managers are.
    let fields: serde_json::Map<_, _> =
        (0..40).map(|n| (format!("f:setting-{n}"), json!({".": {}, "f:name": {}, "f:value": {}}))).collect();
    pod["metadata"]["managedFields"] = json!([
        {"manager": "kube-controller-manager", "operation": "Update", "apiVersion": "v1", "fieldsType": "FieldsV1", "fieldsV1": fields},
    ]);
    let size = pod.to_string().len();
    server.put_pod(pod);
    size
}

/// From the start of the process until all of 110 pods were looked at.
fn start() -> Row {
    let (server, tree) = (Standin::start(), Tree::simulated());
    for i in 0..110 {
        realistic(&server, &tree, i);
    }
    let mut each: Vec<_> = (0..10)
        .map(|_| {
            let begin = Instant::now();
            let agent = Agent::launch(&server, tree.root(), &[]);
            while agent.metric("pre_oom_killer_samples_total") < 110.0 {
                std::thread::sleep(Duration::from_millis(2));
            }
            begin.elapsed()
        })
        .collect();
    let median = common::percentile(&mut each, 0.5).expect("some");
    let worst = each.last().expect("some").as_millis();
    Row::new("start_ms", median.as_secs_f64() * 1e3, Worse::Higher)
        .reach(100.0)
        .said(format!("110 pods, median of 10 (the longest {worst} ms), asked for over HTTP each 10 ms at most"))
}

fn size() -> Row {
    let bytes = std::fs::metadata(agent::binary()).expect("the binary").len();
    Row::new("binary_mb", bytes as f64 / 1e6, Worse::Higher)
        .reach(8.0)
        .said("as built here; the image's is linked statically besides")
}
