//! `cargo demo`, as people run it.

use std::process::Command;

use serde_json::Value;
use standin::cgroups::Tree;

use crate::agent::binary;

/// Runs the demo: its outcome as JSON. `tests/run` builds it and says where it is.
fn run(flags: &[&str]) -> Value {
    let demo = std::env::var("DEMO_BIN").expect("DEMO_BIN: the example `demo`, as tests/run builds it");
    let output = Command::new(demo).args(["--json", "--agent", &binary()]).args(flags).output().expect("it runs");
    let (out, err) = (String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
    assert!(output.status.success(), "{}\n{out}\n{err}", output.status);
    assert_eq!(out.lines().count(), 1, "one line: {out}");
    serde_json::from_str(&out).expect("JSON")
}

fn both_happened(outcome: &Value) {
    assert_eq!(outcome["guarded"]["outcome"], "evicted", "{outcome}");
    assert_eq!(outcome["unguarded"]["outcome"], "oom-killed", "{outcome}");
}

pub fn the_guarded_pod_is_evicted_and_the_other_is_killed() {
    let hierarchy = Tree::real().expect("a memory controller").hierarchy();
    let outcome = run(&[]);
    assert_eq!(outcome["hierarchy"], hierarchy.as_str());
    both_happened(&outcome);
}

pub fn it_can_be_simulated_and_says_so() {
    let outcome = run(&["--simulate"]);
    assert_eq!(outcome["hierarchy"], "simulated");
    both_happened(&outcome);
}
