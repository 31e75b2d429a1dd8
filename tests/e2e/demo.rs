//! `cargo demo`, as people run it.

use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use serde_json::Value;
use standin::cgroups::Tree;

use crate::agent::{binary, soon};

/// Runs the demo: its outcome as JSON. `tests/run` builds it and says where it is.
fn run(flags: &[&str]) -> Value {
    let demo = std::env::var("DEMO_BIN").expect("DEMO_BIN: the example `demo`, as tests/run builds it");
    let mut command = Command::new(demo);
    let output = command.args(["--json", "--agent", &binary()]).args(slowly()).args(flags).output().expect("it runs");
    let (out, err) = (String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
    assert!(output.status.success(), "{}\n{out}\n{err}", output.status);
    assert_eq!(out.lines().count(), 1, "one line: {out}");
    serde_json::from_str(&out).expect("JSON")
}

/// An emulated machine needs 0.2 s for a raise and 0.5 s for an eviction (`E2E_SLOW`, set by leg vm).
fn slowly() -> &'static [&'static str] {
    if std::env::var_os("E2E_SLOW").is_some() { &["--rate", "12Mi"] } else { &[] }
}

fn all_three_happened(outcome: &Value) {
    assert_eq!(outcome["guarded"]["outcome"], "evicted", "{outcome}");
    assert_eq!(outcome["unguarded"]["outcome"], "oom-killed", "{outcome}");
    let (raised, limit) = (&outcome["raised"], outcome["limit"].as_u64().expect("bytes"));
    assert_eq!((&raised["outcome"], &raised["code"]), (&"lived-on".into(), &200.into()), "{outcome}");
    assert!(raised["raises"][0]["limit"].as_u64() > Some(limit), "{outcome}");
    assert!(raised["highestUsage"].as_u64() > Some(limit), "it has outgrown the limit that it began with: {outcome}");
    assert!(outcome["guarded"]["raises"].is_null() && raised["ended"].is_null(), "{outcome}");
}

pub fn one_is_evicted_one_is_raised_and_one_is_killed() {
    let hierarchy = Tree::real().expect("a memory controller").hierarchy();
    let outcome = run(&[]);
    assert_eq!(outcome["hierarchy"], hierarchy.as_str());
    all_three_happened(&outcome);
}

/// Groups, processes and files are gone after Ctrl-C.
pub fn it_leaves_nothing_behind_after_ctrl_c() {
    let demo = std::env::var("DEMO_BIN").expect("DEMO_BIN: the example `demo`, as tests/run builds it");
    let temporary = tempfile::tempdir().expect("a temporary directory");
    let mut child = Command::new(demo)
        .args(["--rate", "8Mi", "--agent", &binary()])
        .env("TMPDIR", temporary.path())
        .stdout(Stdio::null())
        .spawn()
        .expect("it runs");
    let (pid, begin) = (child.id(), Instant::now());
    let groups = || {
        let all = ["/sys/fs/cgroup", "/sys/fs/cgroup/memory"].into_iter().filter_map(|d| std::fs::read_dir(d).ok());
        let names = all.flatten().flatten().map(|e| e.file_name().to_string_lossy().into_owned());
        names.filter(|n| n.starts_with(&format!("pre-oom-killer-{pid}-"))).count()
    };
    let hogs = || {
        let comms = std::fs::read_dir("/proc").expect("mounted").flatten();
        let lines = comms.filter_map(|e| std::fs::read_to_string(e.path().join("cmdline")).ok());
        lines.filter(|l| l.contains(&format!("pre-oom-killer-{pid}-"))).count()
    };
    while hogs() < 3 {
        assert!(begin.elapsed() < soon() && child.try_wait().expect("our child").is_none(), "it fills");
        std::thread::sleep(Duration::from_millis(20));
    }
    assert_eq!(groups(), 1, "its groups are there");
    kill(Pid::from_raw(i32::try_from(pid).expect("a pid")), Signal::SIGINT).expect("it runs");
    assert_eq!(child.wait().expect("our child").code(), Some(130));
    assert_eq!((groups(), hogs()), (0, 0));
    assert_eq!(std::fs::read_dir(temporary.path()).expect("ours").count(), 0);
}

/// As people run it: this one program is the agent, too.
pub fn the_agent_is_in_it() {
    let demo = std::env::var("DEMO_BIN").expect("DEMO_BIN: the example `demo`, as tests/run builds it");
    let output = Command::new(demo).args(["--json", "--simulate"]).args(slowly()).output().expect("it runs");
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    all_three_happened(&serde_json::from_slice(&output.stdout).expect("JSON"));
}

pub fn it_can_be_simulated_and_says_so() {
    let outcome = run(&["--simulate"]);
    assert_eq!(outcome["hierarchy"], "simulated");
    all_three_happened(&outcome);
}

/// The picture at the head of README is made so.
pub fn it_can_be_recorded() {
    let demo = std::env::var("DEMO_BIN").expect("DEMO_BIN: the example `demo`, as tests/run builds it");
    let directory = tempfile::tempdir().expect("a temporary directory");
    let file = directory.path().join("demo.svg");
    let output = Command::new(demo).arg("--simulate").arg("--record").arg(&file).output().expect("it runs");
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let svg = std::fs::read_to_string(file).expect("it is written");
    let count = |what: &str| svg.matches(what).count();
    assert!(svg.starts_with("<svg xmlns=\"http://www.w3.org/2000/svg\"") && svg.ends_with("</svg>\n"), "{svg}");
    assert!(count("<g") > 20 && count("<g") == count("</g>") && count("<text") == count("</text>"), "{svg}");
    let words = ["$ cargo demo --simulate<", "<title", "<desc", ">guarded<", "PreOOMEvicted"];
    for shown in words.into_iter().chain(["of 498Mi", "lives on", "oom-killed"]) {
        assert!(svg.contains(shown), "{shown} in {svg}");
    }
    assert!(svg.len() < 60_000 && count("<script") == 0 && count("href") == 0, "{}", svg.len());
}
