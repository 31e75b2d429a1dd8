//! Three agents that remember incidents, or hang: what `why` and `recommend` are tried with. All pages are written from the
//! structs that the agents write, and incidents by their code.

use std::time::Duration;

use pre_oom_killer::decide::ladder::NotPossible;
use pre_oom_killer::decide::restraint::Reason;
use pre_oom_killer::ground::memory::Breakdown;
use pre_oom_killer::ground::units::Bytes;
use pre_oom_killer::pods::guard::Remedy;
use pre_oom_killer::report::notice::{MissReason, Subject};
use pre_oom_killer::serve::incident::{BreakdownView, CurveView, IncidentView, IncidentsPage, OtherView, StepView};
use pre_oom_killer::serve::wire::{Facts, GuardView, GuardsPage, HistoryView, LatencyView, MemoryView};

use crate::cluster::{Cluster, GUARDS_WITH_HISTORY, INCIDENTS};
use crate::told::{Container, memory};

pub const KIB: u64 = 1 << 10;
pub const MIB: u64 = 1 << 20;

/// Two agents that remember incidents, and one that hangs.
pub fn cluster() -> Cluster {
    let query = Guarded {
        name: ("search", "query-1", "query"),
        owner: Some("StatefulSet/query"),
        threshold: ("60 %", 153),
        limit: 256,
        peak: 100,
        known_seconds: 600,
        growth: 0,
        latency: QUICK,
    };
    let raises = GuardView { remedies: vec!["raise".into(), "evict".into()], ..guard(&query) };
    cluster_of(guards_of_a(), guards_of_b().into_iter().chain([raises]).collect())
}

fn cluster_of(guards_a: Vec<GuardView>, guards_b: Vec<GuardView>) -> Cluster {
    let cluster = Cluster::empty(Duration::ZERO);
    let pages = [
        ("agent-a", "node-a", "2026-11-23T22:40:00Z", vec![evicted_leak(), earlier_leak()], guards_a),
        (
            "agent-b",
            "node-b",
            "2026-11-24T02:48:00Z",
            vec![missed_spike(), cache(), evicted_spike(), hostile()],
            guards_b,
        ),
    ];
    for (name, node, started, incidents, guards) in pages {
        cluster.agent(name, node, None);
        let version = "0.1.0".to_owned();
        let guards = GuardsPage {
            node: node.into(),
            version: version.clone(),
            started: started.into(),
            listed: true,
            guards,
            ..GuardsPage::default()
        };
        let mut without = guards.clone();
        without.guards.iter_mut().filter_map(|guard| guard.memory.as_mut()).for_each(|memory| memory.history = None);
        let incidents = IncidentsPage { node: node.into(), version, started: started.into(), incidents };
        cluster.say(name, &serde_json::to_string(&without).unwrap());
        cluster.say_at(name, GUARDS_WITH_HISTORY, &serde_json::to_string(&guards).unwrap());
        cluster.say_at(name, INCIDENTS, &serde_json::to_string(&incidents).unwrap());
    }
    cluster.agent("agent-c", "node-c", None);
    cluster
}

/// A curve of somebody's own.
fn curve(each_seconds: u64, points: usize, value: impl Fn(usize) -> u64) -> CurveView {
    let value: Vec<Option<u64>> = (0..points).map(|n| Some(value(n) / KIB)).collect();
    CurveView { each_seconds, usage: value.clone(), value }
}

const WEB: Container = Container {
    namespace: "shop",
    pod: "web-58f6dff65f-p9cf2",
    uid: "uid-web",
    owner: ("Deployment", "web"),
    name: "app",
    limit: 256 * MIB,
    threshold: 256 * MIB * 6 / 10,
    watched: 14_650,
    value: |n| 62 * MIB + n.saturating_sub(5470) * 10_480,
    growth: 12 * KIB as i64,
    slow_growth: Some(10 * KIB as i64),
    memory: Breakdown {
        anonymous: Bytes(141 * MIB),
        active_file: Bytes(8 * MIB),
        inactive_file: Bytes(6 * MIB),
        shmem: Bytes(0),
        slab: Bytes(3 * MIB),
        kernel: Bytes(MIB),
        sockets: Bytes(0),
    },
    others: &[("proxy", 31 * MIB)],
    pod_usage: 62 * MIB + 9180 * 10_480 + 6 * MIB + 33 * MIB,
};

/// Held, because another of its pods was evicted shortly before, and then evicted.
fn evicted_leak() -> IncidentView {
    let until = "2026-11-24T02:47:12Z".parse().unwrap();
    let held = Subject::Deferred { evidence: WEB.evidence(), until, reason: Reason::Turn };
    let after = Container { watched: WEB.watched + 182, ..WEB };
    let evicted = after.evicted(vec![(Remedy::Raise, NotPossible::AtBound)]);
    let incident = WEB.incident(vec![("02:44:10.102", held), ("02:47:12.345", evicted)]);
    let before = BreakdownView { anonymous: 50 * MIB, inactive_file: 10 * MIB, ..incident.memory.clone().unwrap() };
    IncidentView { memory_before: Some(before), before_seconds: Some(14_600), ..incident }
}

fn earlier_leak() -> IncidentView {
    let other = Container { pod: "web-58f6dff65f-aaaaa", uid: "uid-web-a", ..WEB };
    other.incident(vec![("01:12:00.001", other.evicted(Vec::new()))])
}

/// The agent had just started; a kill that nothing could prevent.
fn missed_spike() -> IncidentView {
    let thumbnails = Container {
        namespace: "shop",
        pod: "thumbnails-0",
        uid: "uid-thumbnails",
        owner: ("StatefulSet", "thumbnails"),
        name: "resize",
        limit: 64 * MIB,
        threshold: 64 * MIB * 6 / 10,
        watched: 41,
        value: |n| if n < 41 { 12 * MIB } else { 61 * MIB },
        growth: 812 * MIB as i64,
        slow_growth: None,
        memory: memory(58, 1, 0),
        others: &[],
        pod_usage: 61 * MIB,
    };
    thumbnails.incident(vec![("02:48:42.007", thumbnails.killed(MissReason::TooFast))])
}

const INDEX: Container = Container {
    namespace: "search",
    pod: "index-0",
    uid: "uid-index",
    owner: ("StatefulSet", "index"),
    name: "index",
    limit: 256 * MIB,
    threshold: 174 * MIB,
    watched: 420,
    value: |n| (70 + n / 4) * MIB,
    growth: 256 * KIB as i64,
    slow_growth: Some(256 * KIB as i64),
    memory: Breakdown {
        anonymous: Bytes(85 * MIB),
        active_file: Bytes(90 * MIB),
        inactive_file: Bytes(4 * MIB),
        shmem: Bytes(0),
        slab: Bytes(0),
        kernel: Bytes(0),
        sockets: Bytes(0),
    },
    others: &[],
    pod_usage: 179 * MIB,
};

fn cache() -> IncidentView {
    INDEX.incident(vec![("02:55:00.500", INDEX.evicted(Vec::new()))])
}

/// Of a pod that is gone, and of which nothing was known; the others list a raise by now.
fn evicted_spike() -> IncidentView {
    let spike = Container {
        pod: "query-0",
        uid: "uid-query",
        owner: ("StatefulSet", "query"),
        name: "query",
        value: |n| if n < 415 { 100 } else { 100 + (n - 415) * 15 } * MIB,
        memory: memory(175, 0, 4),
        ..INDEX
    };
    let incident = spike.incident(vec![("02:52:00.000", spike.evicted(Vec::new()))]);
    assert_eq!(incident.class.as_deref(), Some("spike"));
    IncidentView { known_seconds: 0, ..incident }
}

/// Names and texts of somebody who wants to reach the terminal.
fn hostile() -> IncidentView {
    IncidentView {
        at: "2026-11-24T02:50:00.000Z\u{1b}[2J".into(),
        namespace: "evil".into(),
        pod: "evil\u{1b}[2J\u{202e}".into(),
        owner: Some("Job/evil\u{9b}".into()),
        container: Some("c\r\n".into()),
        class: Some("\u{1b}[31mleak".into()),
        why: "\u{1b}]0;title\u{7}".into(),
        minutes: curve(1, 10, |n| n as u64 * MIB),
        others: vec![OtherView { container: "\u{1b}c".into(), usage: MIB }],
        facts: Facts { signal: Some("\u{1b}[2Jsignal".into()), value: Some(1), ..Facts::default() },
        steps: vec![StepView {
            at: "\u{1b}[2J".into(),
            reason: "\u{1b}[2J".into(),
            words: "a\u{1b}[2Jb\nc".into(),
            answer: Some("\u{9b}".into()),
            cause: Some("\u{1b}c".into()),
            took_ms: Some(1.0),
        }],
        ..IncidentView::default()
    }
}

/// A guard with its past: threshold and limit in MiB; the peak, and for how long it is known.
pub struct Guarded {
    pub name: (&'static str, &'static str, &'static str),
    pub owner: Option<&'static str>,
    pub threshold: (&'static str, u64),
    pub limit: u64,
    pub peak: u64,
    pub known_seconds: u64,
    /// In bytes a minute.
    pub growth: i64,
    pub latency: LatencyView,
}

/// As measured, in milliseconds.
pub const QUICK: LatencyView = LatencyView { raise: 70, restart: 95, evict: 160, evictions: 4 };

pub fn guard(of: &Guarded) -> GuardView {
    let (namespace, pod, container) = of.name;
    let value = of.peak * 7 / 10;
    let left = (of.threshold.1 - value) * MIB;
    GuardView {
        namespace: namespace.into(),
        pod: pod.into(),
        uid: format!("uid-of-{pod}"),
        owner: of.owner.map(str::to_owned),
        container: Some(container.into()),
        state: pre_oom_killer::serve::wire::GuardState::Watching,
        why: "below its threshold".into(),
        signal: Some("working-set".into()),
        threshold: Some(of.threshold.0.into()),
        remedies: vec!["evict".into()],
        latency: Some(of.latency),
        memory: Some(MemoryView {
            usage: value * MIB + 6 * MIB,
            value: Some(value * MIB),
            limit: Some(of.limit * MIB),
            threshold: Some(of.threshold.1 * MIB),
            room: Some((of.limit - value) * MIB),
            growth: Some(0),
            slow_growth: Some(of.growth / 60),
            oom_kills: Some(0),
            known_seconds: of.known_seconds,
            growth_per_minute: Some(of.growth),
            growing_seconds: Some(of.known_seconds.min(7200)),
            above_in_seconds: (of.growth > 0).then(|| left * 60 / of.growth.unsigned_abs()),
            peak: Some(of.peak * MIB),
            usage_peak: Some(of.peak * MIB + 6 * MIB),
            fastest_second: Some(512 * KIB),
            history: Some(HistoryView {
                minutes: (0..60)
                    .map(|n| Some((value * 1024).saturating_sub((60 - n) * of.growth.unsigned_abs() / 12 / KIB)))
                    .collect(),
                day: (0..96)
                    .map(|n| {
                        (n * 900 > 86_400 - of.known_seconds.min(86_400))
                            .then_some(if n == 60 { of.peak } else { value / 2 + value / 2 * n / 96 } * 1024)
                    })
                    .collect(),
            }),
            ..MemoryView::default()
        }),
        ..GuardView::default()
    }
}

fn guards_of_a() -> Vec<GuardView> {
    vec![guard(&Guarded {
        name: ("shop", "cart-0", "cart"),
        owner: Some("StatefulSet/cart"),
        threshold: ("75 %", 192),
        limit: 256,
        peak: 150,
        known_seconds: 75_600,
        growth: 2 * MIB as i64,
        latency: QUICK,
    })]
}

fn guards_of_b() -> Vec<GuardView> {
    vec![guard(&Guarded {
        name: ("shop", "cart-1", "cart"),
        owner: Some("StatefulSet/cart"),
        threshold: ("75 %", 192),
        limit: 256,
        peak: 120,
        known_seconds: 720,
        growth: 0,
        latency: QUICK,
    })]
}

/// The same agents, with workloads of each kind.
pub fn workloads() -> Cluster {
    const ASSUMED: LatencyView = LatencyView { raise: 70, restart: 175, evict: 160, evictions: 0 };
    const SLOW: LatencyView = LatencyView { raise: 70, restart: 25_015, evict: 25_000, evictions: 7 };
    let day = 86_400;
    let web = |name, threshold, known_seconds| {
        let name = ("shop", name, "app");
        let web = Guarded {
            name,
            owner: Some("Deployment/web"),
            threshold,
            limit: 256,
            // None has reached its threshold yet.
            peak: threshold.1,
            known_seconds,
            growth: 3 * MIB as i64,
            latency: QUICK,
        };
        GuardView { remedies: vec!["raise".into(), "evict".into()], ..guard(&web) }
    };
    let alone = |name, owner, threshold, limit, peak, known_seconds, growth: u64, latency| {
        guard(&Guarded { name, owner, threshold, limit, peak, known_seconds, growth: growth as i64, latency })
    };
    let mut endless = alone(("shop", "cache-0", "redis"), None, ("60 %", 600), 1024, 400, 8 * 3600, 0, ASSUMED);
    let memory = endless.memory.as_mut().unwrap();
    (memory.limit, memory.threshold) = (None, None);
    endless.state = pre_oom_killer::serve::wire::GuardState::NoLimit;
    let invalid = GuardView {
        namespace: "shop".into(),
        pod: "broken-1".into(),
        uid: "uid-of-broken-1".into(),
        owner: Some("Deployment/broken".into()),
        state: pre_oom_killer::serve::wire::GuardState::Invalid,
        why: "memory-usage-threshold \"60m\" is invalid: write a quantity such as \"512Mi\"".into(),
        ..GuardView::default()
    };
    let hostile =
        alone(("shop", "x\u{1b}[2J", "c\u{202e}\n"), Some("Job/\u{9b}31m"), ("60 %", 60), 100, 30, day, 0, QUICK);
    let mut a = guards_of_a();
    a.extend([
        web("web-58f6dff65f-1", ("60 %", 153), 14_000),
        web("web-58f6dff65f-2", ("57.5 %", 147), 14_000),
        alone(("shop", "thumbnails-0", "resize"), Some("StatefulSet/thumbnails"), ("60 %", 38), 64, 24, day, 0, QUICK),
        endless,
        invalid,
    ]);
    let mut b = guards_of_b();
    b.extend([
        web("web-58f6dff65f-3", ("60 %", 153), 1_200),
        alone(
            ("shop", "search-0", "search"),
            Some("StatefulSet/search"),
            ("60 %", 614),
            1024,
            600,
            day,
            120 * MIB,
            SLOW,
        ),
        alone(("shop", "import-7xk2p", "import"), Some("Job/import"), ("70 %", 358), 512, 200, 750, 0, ASSUMED),
        alone(
            ("shop", "queue-with-a-rather-long-name-0", "broker-and-sidecar"),
            Some("StatefulSet/queue-with-a-rather-long-name"),
            ("700Mi", 700),
            1024,
            680,
            day,
            0,
            QUICK,
        ),
        alone(("batch", "train-1", "main"), Some("Job/train"), ("80 %", 1638), 2048, 900, day, 600 * MIB, QUICK),
        hostile,
    ]);
    let cluster = cluster_of(a.clone(), b.clone());
    for guard in a.iter().chain(&b) {
        let app = guard.owner.as_deref().and_then(|owner| owner.split('/').nth(1)).unwrap_or("none");
        if app.is_ascii() {
            let pod = standin::pod(&guard.namespace, &guard.pod).uid(&guard.uid).label("app", app);
            cluster.server.put_pod(pod.node("node-a").container("app", "256Mi").build());
        }
    }
    cluster.server.put_pdb(standin::Pdb::blocking("shop", "cart", &[("app", "cart")]));
    cluster
}
