//! Three agents that remember incidents, or hang: what `why` and `recommend` are tried with. All pages are written from the
//! structs that the agents write.

use std::time::Duration;

use pre_oom_killer::serve::incident::{BreakdownView, CurveView, IncidentView, IncidentsPage, OtherView, StepView};
use pre_oom_killer::serve::wire::{Facts, GuardView, GuardsPage, HistoryView, LatencyView, MemoryView};

use crate::cluster::{Cluster, GUARDS_WITH_HISTORY, INCIDENTS};

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

fn curve(each_seconds: u64, points: usize, value: impl Fn(usize) -> u64) -> CurveView {
    let usage = (0..points).map(|n| Some((value(n) + 6 * MIB) / KIB)).collect();
    // Where it is far from its threshold, the signal is read every ten seconds.
    let known = |n: usize| each_seconds > 1 || n.is_multiple_of(10) || n + 30 > points;
    let value = (0..points).map(|n| known(n).then(|| value(n) / KIB)).collect();
    CurveView { each_seconds, usage, value }
}

fn step(at: &str, reason: &'static str, words: &str) -> StepView {
    StepView { at: format!("2026-11-24T{at}Z"), reason: reason.into(), words: words.into(), ..StepView::default() }
}

/// Raised once, and evicted when the higher limit was near, too.
fn evicted_leak() -> IncidentView {
    let raised = StepView {
        took_ms: Some(43.7),
        ..step(
            "02:44:10.102",
            "PreOOMRaised",
            "Memory limit raised from 256Mi to 320Mi within 43 ms, before the kernel's OOM killer: working-set 153.7Mi is above the threshold of 153.6Mi (usage 159.7Mi, limit 256Mi, growing 51.2Ki/s, 50Ki/s over the last minute, 96.3Mi left before an OOM kill)",
        )
    };
    let evicted = StepView {
        answer: Some("accepted".into()),
        took_ms: Some(5.2),
        ..step(
            "02:47:12.345",
            "PreOOMEvicted",
            "Evicted: working-set 192.1Mi is above the threshold of 192Mi (usage 198Mi, limit 320Mi, growing 220Ki/s, 214Ki/s over the last minute, 122Mi left before an OOM kill); passed over: raise (its limit has reached raise-limit-to)",
        )
    };
    IncidentView {
        at: "2026-11-24T02:44:10.102Z".into(),
        namespace: "shop".into(),
        pod: "web-58f6dff65f-p9cf2".into(),
        uid: "uid-web".into(),
        owner: Some("Deployment/web".into()),
        container: Some("app".into()),
        class: Some("leak".into()),
        why: "it grew 3Mi a minute for 30 min".into(),
        known_seconds: 14_650,
        growth_per_minute: Some(3 * MIB as i64),
        growing_seconds: Some(1800),
        minutes: curve(1, 300, |n| 138 * MIB + n as u64 * 3 * MIB / 60),
        day: curve(300, 49, |n| if n < 18 { 62 * MIB } else { (62 + (n as u64 - 18) * 3) * MIB }),
        memory: Some(BreakdownView {
            anonymous: 141 * MIB,
            active_file: 8 * MIB,
            inactive_file: 6 * MIB,
            slab: 3 * MIB,
            kernel: MIB,
            ..BreakdownView::default()
        }),
        memory_before: Some(BreakdownView {
            anonymous: 50 * MIB,
            active_file: 8 * MIB,
            inactive_file: 10 * MIB,
            slab: 3 * MIB,
            kernel: MIB,
            ..BreakdownView::default()
        }),
        before_seconds: Some(1830),
        others: vec![OtherView { container: "proxy".into(), usage: 31 * MIB }],
        rest_of_pod: Some(2 * MIB),
        facts: Facts {
            signal: Some("working-set".into()),
            value: Some(153 * MIB + 700 * KIB),
            usage: Some(159 * MIB + 700 * KIB),
            threshold: Some(256 * MIB * 6 / 10),
            limit: Some(256 * MIB),
            growth: Some(51 * KIB as i64),
            slow_growth: Some(50 * KIB as i64),
            ..Facts::default()
        },
        steps: vec![raised, evicted],
    }
}

fn earlier_leak() -> IncidentView {
    IncidentView {
        at: "2026-11-24T01:12:00.001Z".into(),
        pod: "web-58f6dff65f-aaaaa".into(),
        uid: "uid-web-a".into(),
        steps: vec![step(
            "01:12:00.001",
            "PreOOMEvicted",
            "Evicted: working-set 153.8Mi is above the threshold of 153.6Mi",
        )],
        ..evicted_leak()
    }
}

/// The agent had just started; a kill that nothing could prevent.
fn missed_spike() -> IncidentView {
    let words = "The container was OOM-killed by the kernel: it filled faster than anything could be done (last read 3 ms before: usage 61.2Mi, limit 64Mi, growing 812Mi/s)";
    IncidentView {
        at: "2026-11-24T02:48:42.007Z".into(),
        namespace: "shop".into(),
        pod: "thumbnails-0".into(),
        uid: "uid-thumbnails".into(),
        owner: Some("StatefulSet/thumbnails".into()),
        container: Some("resize".into()),
        class: Some("spike".into()),
        why: "it grew 49Mi within a second".into(),
        known_seconds: 41,
        minutes: curve(1, 42, |n| if n < 41 { 12 * MIB } else { 61 * MIB }),
        day: curve(300, 1, |_| 61 * MIB),
        memory: Some(BreakdownView { anonymous: 58 * MIB, active_file: MIB, ..BreakdownView::default() }),
        facts: Facts {
            cause: Some("too-fast".into()),
            usage: Some(61 * MIB),
            limit: Some(64 * MIB),
            threshold: Some(64 * MIB * 6 / 10),
            growth: Some(812 * MIB as i64),
            ..Facts::default()
        },
        steps: vec![StepView { cause: Some("too-fast".into()), ..step("02:48:42.007", "PreOOMMissed", words) }],
        ..IncidentView::default()
    }
}

fn cache() -> IncidentView {
    IncidentView {
        at: "2026-11-24T02:55:00.500Z".into(),
        namespace: "search".into(),
        pod: "index-0".into(),
        uid: "uid-index".into(),
        owner: Some("StatefulSet/index".into()),
        container: Some("index".into()),
        class: Some("cache".into()),
        why: "90Mi of it are file cache, which memory-signal \"unreclaimable\" does not count".into(),
        known_seconds: 420,
        minutes: curve(1, 300, |n| (100 + n as u64 / 4) * MIB),
        facts: Facts {
            signal: Some("working-set".into()),
            value: Some(175 * MIB),
            threshold: Some(174 * MIB),
            limit: Some(256 * MIB),
            ..Facts::default()
        },
        steps: vec![step("02:55:00.500", "PreOOMEvicted", "Evicted")],
        ..IncidentView::default()
    }
}

/// Of a pod that is gone; the others list a raise by now.
fn evicted_spike() -> IncidentView {
    IncidentView {
        at: "2026-11-24T02:52:00.000Z".into(),
        pod: "query-0".into(),
        uid: "uid-query".into(),
        owner: Some("StatefulSet/query".into()),
        container: Some("query".into()),
        class: Some("spike".into()),
        why: "it grew 60Mi within 5 s".into(),
        known_seconds: 0,
        minutes: CurveView::default(),
        ..cache()
    }
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
