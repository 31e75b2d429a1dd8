//! Every parser against very many texts that are nearly right: bytes flipped, cut, repeated, joined, and words of
//! the language put in. Not coverage-guided; what it would find is shown by a parser that is known to panic.
//!
//! `FUZZ_EXECUTIONS` says how often each parser is tried (1,000,000 in `tests/run fuzz`; 20,000 in a plain `cargo test`).

#![allow(clippy::unwrap_used, clippy::disallowed_methods, reason = "a test")]

use pre_oom_killer::ground;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::Path;

use http::StatusCode;
use pre_oom_killer::act::answer;
use pre_oom_killer::cgroup::Version;
use pre_oom_killer::cgroup::resolve::{id_in_name, uid_in_name};
use pre_oom_killer::cli;
use pre_oom_killer::ground::units;
use pre_oom_killer::pods::guard;
use pre_oom_killer::pods::{ContainerId, Pod};

const ID: &str = "50912613d370dabbf82e7ad771f576efe6335c771634b4dfd8ead4aed3909d41";
const UID: &str = "aea56c47-06fc-4784-bd27-9fb88a89f1d8";

/// Tokens that parsers look for.
const WORDS: [&str; 40] = [
    "0",
    "-",
    "+",
    ".",
    "..",
    "%",
    "1",
    "9",
    "99999999999999999999",
    "18446744073709551615",
    "e",
    "Ki",
    "Mi",
    "Gi",
    "Ei",
    "m",
    "s",
    "h",
    "ns",
    "µs",
    "inf",
    "NaN",
    "max",
    "\n",
    " ",
    "\0",
    "é",
    "\u{202e}",
    "{",
    "}",
    "[",
    "]",
    "\"",
    ":",
    ",",
    "null",
    "true",
    "://",
    "pod",
    ".slice",
];

fn executions() -> u64 {
    std::env::var("FUZZ_EXECUTIONS").map_or(20_000, |n| n.parse().unwrap())
}

/// One of the seeds, changed in one to six places.
fn mutate(random: &mut fastrand::Rng, seeds: &[Vec<u8>]) -> Vec<u8> {
    let mut text = seeds[random.usize(..seeds.len())].clone();
    for _ in 0..random.usize(1..=6) {
        let at = random.usize(..=text.len());
        match random.u8(..8) {
            0 if at < text.len() => text[at] = random.u8(..),
            1 if at < text.len() => text[at] ^= 1 << random.u8(..8),
            2 => text.truncate(at),
            3 => text.insert(at, random.u8(..)),
            4 if at < text.len() => drop(text.remove(at)),
            5 => {
                let end = random.usize(at..=text.len()).min(at + 32);
                let piece = text[at..end].to_vec();
                text.splice(at..at, piece);
            }
            6 => {
                let other = &seeds[random.usize(..seeds.len())];
                text.truncate(at);
                text.extend_from_slice(&other[random.usize(..=other.len())..]);
            }
            _ => drop(text.splice(at..at, WORDS[random.usize(..WORDS.len())].bytes())),
        }
    }
    text.truncate(16 * 1024);
    text
}

/// Tries a parser on mutations of the seeds; the first text that makes it panic.
fn fuzz(count: u64, seeds: &[&str], mut parser: impl FnMut(&[u8])) -> Option<String> {
    let seeds: Vec<Vec<u8>> = seeds.iter().map(|s| s.as_bytes().to_vec()).collect();
    let mut random = fastrand::Rng::with_seed(0x5eed);
    for _ in 0..count {
        let text = mutate(&mut random, &seeds);
        if catch_unwind(AssertUnwindSafe(|| parser(&text))).is_err() {
            return Some(String::from_utf8_lossy(&text).into_owned());
        }
    }
    None
}

fn survives(name: &str, seeds: &[&str], parser: impl FnMut(&[u8])) {
    let count = executions();
    let found = fuzz(count, seeds, parser);
    println!("{name}: {count} executions, not coverage-guided");
    assert_eq!(found, None, "{name} panics");
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

/// kube's own parser of durations panics on some; that is what a fuzzer is for.
#[test]
fn planted_a_parser_that_panics_is_found() {
    std::panic::set_hook(Box::new(|_| {})); // not 1,000 traces
    let found = fuzz(1_000_000, &["1m30s", "5s", "10m"], |bytes| {
        let _ = text(bytes).parse::<kube::core::Duration>();
    });
    let _ = std::panic::take_hook();
    println!("kube::core::Duration panics on {found:?}");
    assert!(found.is_some());
}

#[test]
fn numbers() {
    survives("percentage", &["60", "60.5%", "0.000001", "99.999999"], |b| drop(units::Percent::parse(&text(b))));
    survives("quantity", &["512Mi", "1.5Gi", "15Ei", "2G", "0.3Ki"], |b| drop(units::parse_quantity(&text(b))));
    survives("duration", &["1m30s", "5s", "10m", "0s", "1.5h", "500ms"], |b| {
        let _ = units::duration(&text(b));
    });
}

#[test]
fn guards() {
    let mut pod = Pod::from_json(&format!(
        r#"{{"metadata": {{"name": "p", "namespace": "n", "uid": "{UID}", "labels": {{"pre-oom-killer": "enabled"}}}},
            "spec": {{"containers": [{{"name": "app"}}, {{"name": "side"}}]}}}}"#
    ))
    .unwrap();
    let seeds = ["60", "512Mi", "app,side", "*", "working-set", "30s", "server", "95%", "unreclaimable", "5"];
    let mut turn = 0;
    survives("annotations", &seeds, |bytes| {
        let key = ground::keys::ALL[turn % ground::keys::ALL.len()];
        turn += 1;
        pod.annotations.clear();
        pod.annotations.insert(ground::keys::THRESHOLD.into(), "60".into());
        pod.annotations.insert(ground::keys::TARGET.into(), "app".into());
        pod.annotations.insert(key.into(), text(bytes));
        pod.annotations.insert(text(bytes), "x".into());
        let reading = guard::read(&pod).unwrap();
        // What is told of it is bounded, whatever was written.
        let told: usize = reading.guard.err().into_iter().flatten().map(|p| p.to_string().len()).sum();
        assert!(told < 4096);
    });
}

#[test]
fn pods() {
    let pod = format!(
        r#"{{"metadata":{{"name":"web-1","namespace":"demo","uid":"{UID}","resourceVersion":"626","labels":{{"pre-oom-killer":"enabled","pod-template-hash":"58f6"}},"annotations":{{"pre-oom-killer.v1alpha1.k8s.io/memory-usage-threshold":"60"}},"ownerReferences":[{{"apiVersion":"apps/v1","kind":"ReplicaSet","name":"web-58f6","uid":"u","controller":true}}]}},"spec":{{"nodeName":"n","terminationGracePeriodSeconds":30,"containers":[{{"name":"app"}}],"initContainers":[{{"name":"mesh","restartPolicy":"Always"}}]}},"status":{{"phase":"Running","containerStatuses":[{{"name":"app","containerID":"containerd://{ID}","state":{{"running":{{"startedAt":"2026-11-23T18:47:40Z"}}}},"lastState":{{"terminated":{{"reason":"OOMKilled","containerID":"containerd://{ID}"}}}}}}]}}}}"#
    );
    survives("pod", &[&pod, r#"{"metadata":null,"spec":{"containers":null},"status":{}}"#], |bytes| {
        if let Ok(pod) = Pod::from_json(&text(bytes)) {
            let _ = guard::read(&pod);
        }
    });
    survives("container id", &[&format!("containerd://{ID}"), "cri-o://x"], |b| {
        drop(ContainerId::from_status(&text(b)))
    });
}

#[test]
fn cgroup_files() {
    let stat = "anon 1\nfile 2\nfile_dirty 5\nfile_writeback 6\ninactive_file 100\nactive_file 200\nslab_reclaimable 7\ntotal_dirty 5\ntotal_writeback 6\ntotal_inactive_file 100\ntotal_active_file 200\n";
    let seeds = ["62914560\n", "max\n", "9223372036854771712\n", stat, "low 0\nhigh 0\nmax 9\noom 1\noom_kill 3\n"];
    for version in [Version::V1, Version::V2] {
        survives(&format!("cgroup files {version:?}"), &seeds, |bytes| {
            let _ = (version.parse_usage(bytes), version.parse_limit(bytes), version.parse_kills(bytes));
            if let Ok(stat) = version.parse_stat(bytes) {
                let _ = stat.clean_cache();
            }
        });
    }
    let systemd = format!("kubepods-burstable-pod{}.slice", UID.replace('-', "_"));
    let seeds = [&format!("cri-containerd-{ID}.scope"), ID, &format!("pod{UID}"), systemd.as_str()];
    survives("cgroup names", &seeds, |bytes| {
        let name = text(bytes);
        let _ = (id_in_name(&name), uid_in_name(Path::new(&name)));
    });
}

#[test]
fn answers() {
    let seeds = [
        r#"{"kind":"Status","apiVersion":"v1","metadata":{},"status":"Success","code":201}"#,
        r#"{"kind":"Status","status":"Failure","message":"m","reason":"TooManyRequests","details":{"causes":[{"reason":"DisruptionBudget","message":"The disruption budget guarded needs 1 healthy pods and has 1 currently"}],"retryAfterSeconds":10},"code":429}"#,
        "Too many requests, please try again later.\n",
    ];
    let mut turn = 0;
    survives("answers", &seeds, |bytes| {
        turn += 1;
        let code =
            StatusCode::from_u16([200, 201, 400, 401, 403, 404, 409, 413, 422, 429, 500, 503][turn % 12]).unwrap();
        let answer = answer::classify(code, None, bytes);
        let wait = answer.retry_after(u32::try_from(turn).unwrap_or(u32::MAX), 0.5, None);
        assert!(wait.is_none_or(|w| w.as_secs() <= 72));
    });
}

#[test]
fn flags() {
    let seeds =
        ["--node-name=n --listen 8080", "--minimum-age 60s --dry-run=server", "--exclude-namespaces a,b --log info"];
    survives("flags", &seeds, |bytes| {
        let line = text(bytes);
        let words = ["pre-oom-killer", "run"].into_iter().chain(line.split(' ')).map(str::to_owned);
        let _ = cli::without_unknown_flags(words);
    });
}

/// What agents answer, also of other versions, and whatever answers in their place: people read it, whatever is in it.
#[cfg(feature = "plugin")]
#[test]
fn pages_of_agents() {
    use pre_oom_killer::plugin::agents::query::Query;
    use pre_oom_killer::plugin::recommend::budgets::Covered;
    use pre_oom_killer::plugin::recommend::findings::{Findings, Incomplete, Recommendation, Wanted};
    use pre_oom_killer::plugin::recommend::{self, reckon::reckon, workloads::workloads};
    use pre_oom_killer::plugin::terminal::{Look, Paint};
    use pre_oom_killer::plugin::why;
    use pre_oom_killer::plugin::why::case::{Case, Inquiry, Of};
    use pre_oom_killer::serve::incident::IncidentsPage;
    use pre_oom_killer::serve::wire::GuardsPage;

    const INCIDENT: &str = r#"{"started":"2026-11-24T02:48:00Z","incidents":[{"at":"2026-11-24T02:48:42.007Z","namespace":"n","pod":"p","uid":"u","owner":"Job/j","container":"c","class":"leak","why":"w","knownSeconds":4000,"growthPerMinute":-9223372036854775808,"growingSeconds":18446744073709551615,"beforeSeconds":9,"minutes":{"eachSeconds":1,"usage":[1,18446744073709551615],"value":[1,null,9,18446744073709551615]},"day":{"eachSeconds":18446744073709551615,"value":[5,6]},"memory":{"anonymous":18446744073709551615},"memoryBefore":{"slab":18446744073709551615},"others":[{"container":"o","usage":1}],"restOfPod":2,"threshold":3,"limit":2,"value":4,"growth":9223372036854775807,"steps":[{"at":"0001-01-01T00:00:00Z","reason":"PreOOMMissed","words":"w","cause":"too-fast","tookMs":1e308},{"at":"9999-12-30T22:00:00Z"}]}]}"#;
    const GUARDS: &str = r#"{"started":"9999-12-30T22:00:00Z","guards":[{"namespace":"n","pod":"p","uid":"u","owner":"Job/j","container":"c","threshold":"60 %","remedies":["raise","x"],"latency":{"raise":18446744073709551615,"restart":1,"evict":18446744073709551615,"evictions":1},"memory":{"usage":1,"value":18446744073709551615,"limit":1,"threshold":0,"growth":9223372036854775807,"knownSeconds":18446744073709551615,"growthPerMinute":-9223372036854775808,"growingSeconds":1,"aboveInSeconds":18446744073709551615,"peak":18446744073709551615,"fastestSecond":18446744073709551615,"history":{"minutes":[1,null,18446744073709551615],"day":[]}}},{"uid":"v","threshold":"1Mi","memory":{"knownSeconds":3600,"threshold":1048576,"peak":0}}]}"#;
    let look = Look { paint: Paint { colours: false, width: Some(80) }, utf8: true, ..Look::default() };
    let plain = |all: &str| assert_eq!(all.chars().find(|c| c.is_control() && *c != '\n'), None);
    let inquiry = Inquiry { named: "p".parse().unwrap(), container: None, query: Query::default() };
    let show = |incidents: &IncidentsPage, guards: &GuardsPage| {
        let started = incidents.started.parse().ok();
        let incident = |it: &_| Of { node: "a".into(), started, it: Clone::clone(it) };
        let guard = |it: &_| Of { node: "a".into(), started: guards.started.parse().ok(), it: Clone::clone(it) };
        let case = Case {
            incidents: incidents.incidents.iter().map(incident).collect(),
            guards: Vec::new(),
            raises: false,
            agents: Vec::new(),
            not_asked: Vec::new(),
        };
        let quiet = Case { incidents: Vec::new(), guards: guards.guards.iter().map(guard).collect(), ..case.clone() };
        for case in [&case, &quiet] {
            plain(&why::text::text(case, &inquiry, true, &look));
            let _ = why::json::json(case, true, "x");
        }
        let all = workloads(guards.guards.iter(), incidents.incidents.iter(), look.now).into_iter().map(
            |(name, workload)| {
                let reckoned = workload.known().map(|known| (known.clone(), reckon(&known)));
                Recommendation { name, workload, reckoned, budget: Covered::Missing, incomplete: Incomplete::default() }
            },
        );
        let (agents, without_incidents) = (Vec::new(), Vec::new());
        let findings =
            Findings { all: all.collect(), agents, not_asked: Vec::new(), without_incidents, budgets_unknown: None };
        plain(&recommend::table::text(&findings, &Wanted::default(), false, &look));
        let _ = recommend::json::json(&findings, "x");
    };
    // Each draws several screens, so a tenth of the executions.
    let count = executions() / 10;
    let found = fuzz(count, &[INCIDENT, GUARDS], |bytes| {
        let incidents = serde_json::from_slice(bytes).or_else(|_| serde_json::from_str(INCIDENT)).unwrap();
        let guards = serde_json::from_slice(bytes).or_else(|_| serde_json::from_str(GUARDS)).unwrap();
        show(&incidents, &guards);
    });
    println!("pages of agents: {count} executions, not coverage-guided");
    assert_eq!(found, None, "why or recommend panics");
}

/// YAML is slow to read, so a twentieth of the executions.
#[cfg(feature = "plugin")]
#[test]
fn manifests() {
    // The parser's stack is that of the program's main thread; threads of tests have a smaller one.
    let thread = std::thread::Builder::new().stack_size(8 << 20);
    thread.spawn(fuzz_manifests).unwrap().join().unwrap();
}

#[cfg(feature = "plugin")]
fn fuzz_manifests() {
    use pre_oom_killer::plugin::check::input::Input;
    use pre_oom_killer::plugin::check::print::{json, text as shown, unreadable};
    use pre_oom_killer::plugin::check::report::CheckReport;
    use pre_oom_killer::plugin::check::tree;
    use pre_oom_killer::plugin::terminal::Paint;

    let dir = Path::new(env!("CARGO_MANIFEST_DIR")).join("fixtures/manifests");
    let files: Vec<String> =
        std::fs::read_dir(dir).unwrap().map(|f| std::fs::read_to_string(f.unwrap().path()).unwrap()).collect();
    let seeds: Vec<&str> = files.iter().map(String::as_str).collect();
    let count = executions() / 20;
    let found = fuzz(count, &seeds, |bytes| {
        let mut input = Input::default();
        input.take_text("f", &text(bytes), true);
        let report = CheckReport::of_input(input);
        let paint = Paint::default();
        let all = format!("{}{}", shown(&report, paint), unreadable(&report, paint));
        assert_eq!(all.chars().find(|c| c.is_control() && *c != '\n'), None);
        let _ = json(&report);
    });
    println!("manifests: {count} executions, not coverage-guided");
    assert_eq!(found, None, "check panics");
    survives("amounts of memory", &["256Mi", "129e6", "1.5E3", "128974848000m"], |b| {
        drop(units::parse_memory(&text(b)))
    });
    survives("yaml", &["a: [&x {b: 1}, *x]", "{\"a\": \"\\ud83d\\ude00\"}"], |b| drop(tree::parse(&text(b), 1)));
}
