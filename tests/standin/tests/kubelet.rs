//! The kubelet against real child processes; `cgroup.procs` is a plain file here.
#![allow(clippy::unwrap_used, reason = "a test may panic")]

mod common;

use common::evict;
use serde_json::{Value, json};
use standin::{Standin, pod, slack};
use std::os::unix::process::ExitStatusExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus};
use std::time::{Duration, Instant};

/// The longest wait for what has to happen.
fn soon() -> Duration {
    slack(Duration::from_secs(8))
}

fn group(root: &Path, name: &str, pids: &[u32]) -> PathBuf {
    let dir = root.join(name);
    std::fs::create_dir_all(&dir).unwrap();
    let lines: String = pids.iter().map(|pid| format!("{pid}\n")).collect();
    std::fs::write(dir.join("cgroup.procs"), lines).unwrap();
    dir
}

/// A child that does not outlive a test that fails.
struct Process(Child);

impl Drop for Process {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

impl std::ops::Deref for Process {
    type Target = Child;
    fn deref(&self) -> &Child {
        &self.0
    }
}

impl std::ops::DerefMut for Process {
    fn deref_mut(&mut self) -> &mut Child {
        &mut self.0
    }
}

/// A shell that says when it is ready, by making the file.
fn shell(script: &str, ready: &Path) -> Process {
    let child = Command::new("sh")
        .args(["-c", &format!("{script}; : > '{}'; while :; do sleep 0.01; done", ready.display())])
        .spawn()
        .unwrap();
    while !ready.exists() {
        std::thread::sleep(Duration::from_millis(2));
    }
    Process(child)
}

fn ended(child: &mut Child) -> ExitStatus {
    let deadline = Instant::now() + soon();
    loop {
        if let Some(status) = child.try_wait().unwrap() {
            return status;
        }
        assert!(Instant::now() < deadline, "the process lives");
        std::thread::sleep(Duration::from_millis(2));
    }
}

fn gone(standin: &Standin, name: &str) {
    standin.wait_for(soon(), |standin| standin.pod("demo", name).is_none().then_some(())).expect("the object goes");
}

#[test]
fn sigterm_reaches_the_group_and_those_below() {
    let (dir, standin) = (tempfile::tempdir().unwrap(), Standin::start());
    let mut first = shell(":", &dir.path().join("r1"));
    let mut below = shell(":", &dir.path().join("r2"));
    let mut other = shell(":", &dir.path().join("r3"));
    let attached = group(dir.path(), "a", &[first.id(), 0, 1, std::process::id()]);
    group(&attached, "child", &[below.id()]);
    standin.put_pod(pod("demo", "a").grace(30).build());
    standin.attach("demo", "a", vec![attached]);
    standin.set_sigterm_delay(Duration::from_millis(150));
    let start = Instant::now();
    assert_eq!(evict(&standin, "demo", "a", json!({"dryRun": ["All"]})).code, 201);
    assert_eq!(evict(&standin, "demo", "a", json!({})).code, 201);
    assert!(first.try_wait().unwrap().is_none(), "not before the delay");
    assert_eq!(ended(&mut first).signal(), Some(15));
    assert!(start.elapsed() >= Duration::from_millis(150));
    assert_eq!(ended(&mut below).signal(), Some(15));
    gone(&standin, "a");
    assert!(other.try_wait().unwrap().is_none());
}

#[test]
fn sigkill_follows_after_the_grace_period() {
    let (dir, standin) = (tempfile::tempdir().unwrap(), Standin::start());
    let mut stubborn = shell("trap '' TERM", &dir.path().join("ready"));
    standin.put_pod(pod("demo", "a").grace(1).build());
    standin.attach("demo", "a", vec![group(dir.path(), "a", &[stubborn.id()])]);
    let mut lines = common::watch(&standin, &format!("resourceVersion={}", standin.resource_version()));
    let start = Instant::now();
    assert_eq!(evict(&standin, "demo", "a", json!({})).code, 201);
    assert_eq!(ended(&mut stubborn).signal(), Some(9));
    assert!(start.elapsed() >= Duration::from_secs(1));
    let last = std::iter::from_fn(|| Some(lines.line())).find(|line| line["type"] == "DELETED").unwrap();
    let state: &Value = &last["object"]["status"]["containerStatuses"][0]["state"];
    assert_eq!((&state["terminated"]["exitCode"], &last["object"]["status"]["phase"]), (&json!(137), &json!("Failed")));
}

#[test]
fn grace_zero_takes_the_object_first_and_the_process_later() {
    let (dir, standin) = (tempfile::tempdir().unwrap(), Standin::start());
    let mut child = shell(":", &dir.path().join("ready"));
    standin.put_pod(pod("demo", "a").build());
    standin.attach("demo", "a", vec![group(dir.path(), "a", &[child.id()])]);
    assert_eq!(evict(&standin, "demo", "a", json!({"gracePeriodSeconds": 0})).code, 201);
    assert!(standin.pod("demo", "a").is_none());
    std::thread::sleep(Duration::from_millis(500));
    assert!(child.try_wait().unwrap().is_none(), "it lives on");
    assert_eq!(ended(&mut child).signal(), Some(15));
}

#[test]
fn mirrors_keep_their_processes() {
    let (dir, standin) = (tempfile::tempdir().unwrap(), Standin::start());
    let mut child = shell(":", &dir.path().join("ready"));
    standin.put_pod(pod("demo", "a").mirror("6779c7548f22a9852a5b7cba00ac2dc4").build());
    standin.attach("demo", "a", vec![group(dir.path(), "a", &[child.id()])]);
    assert_eq!(evict(&standin, "demo", "a", json!({})).code, 201);
    std::thread::sleep(Duration::from_millis(300));
    assert!(child.try_wait().unwrap().is_none());
}
