//! The tiny kubelet: stops the processes of a terminating pod, then lets the object go.

use crate::clock::{rfc3339, seconds_now};
use crate::deletion::mark;
use crate::state::{Inner, Key};
use nix::sys::signal::{Signal, kill};
use nix::unistd::{Pid, getpgrp, getpid};
use serde_json::{Value, json};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, Instant};

/// How often it looks whether processes are left.
const POLL: Duration = Duration::from_millis(5);
/// The kubelet gives no less than this, even to a pod deleted with grace 0.
pub(crate) const MINIMUM_GRACE: Duration = Duration::from_secs(2);
/// Upon grace 0 the object goes at once and the process about 2.1 s later, when the kubelet cleans up
/// (measured; README of the recorded answers).
pub(crate) const ORPHAN_WAIT: Duration = Duration::from_secs(2);
/// The mirror of a static pod is without container statuses for so long after it was made anew.
const MIRROR_STATUS: Duration = Duration::from_secs(8);
/// Levels of groups below a container's that are looked at.
const DEPTH: usize = 8;

/// Terminates the pod with this uid; `at` is when the deletion arrived.
pub(crate) async fn terminate(inner: Arc<Inner>, key: Key, uid: Value, at: Instant, grace: Duration) {
    let groups = || inner.read(|state| state.groups.get(&key).cloned().unwrap_or_default());
    let (delay, removal) = inner.read(|state| (state.sigterm_delay, state.removal_delay));
    let exit_code = if groups().is_empty() {
        tokio::time::sleep_until((at + removal).into()).await;
        0
    } else {
        tokio::time::sleep_until((at + delay).into()).await;
        // A container that is being stopped for its restart is not hurried (measured; facts-resize.md §4).
        while inner.read(|state| state.resizing.is_stopping(&uid)) {
            tokio::time::sleep(POLL).await;
        }
        stop(&groups(), grace).await
    };
    inner.update(|state| {
        if state.pods.get(&key).is_none_or(|pod| pod["metadata"]["uid"] != uid) {
            return; // removed with grace 0, or by the test
        }
        state.modify(&key, |pod| finish(pod, exit_code));
        mark(state, &key, seconds_now(), 0);
    });
}

/// SIGTERM, after the grace period SIGKILL, until nothing is left. Answers the exit code to report:
/// what a process that did not handle the signal would have had.
pub(crate) async fn stop(dirs: &[PathBuf], grace: Duration) -> i32 {
    let deadline = Instant::now() + grace;
    signal(&processes(dirs), Signal::SIGTERM);
    let mut code = 143;
    loop {
        let left = processes(dirs);
        if left.is_empty() {
            return code;
        }
        if Instant::now() >= deadline {
            code = 137;
            signal(&left, Signal::SIGKILL);
        }
        tokio::time::sleep(POLL).await;
    }
}

fn signal(pids: &[Pid], signal: Signal) {
    for pid in pids {
        let _ = kill(*pid, signal); // gone in between: fine
    }
}

/// The live processes of these groups and those below, without those that must never get a signal.
fn processes(dirs: &[PathBuf]) -> Vec<Pid> {
    let mut pids = Vec::new();
    dirs.iter().for_each(|dir| collect(dir, DEPTH, &mut pids));
    pids.retain(|pid| pid.as_raw() > 1 && *pid != getpid() && *pid != getpgrp() && is_alive(*pid));
    pids
}

fn collect(dir: &Path, depth: usize, pids: &mut Vec<Pid>) {
    let listed = std::fs::read_to_string(dir.join("cgroup.procs")).unwrap_or_default();
    pids.extend(listed.lines().filter_map(|line| line.trim().parse().ok()).map(Pid::from_raw));
    let Some(entries) = std::fs::read_dir(dir).ok().filter(|_| depth > 0) else {
        return;
    };
    for entry in entries.flatten().filter(|entry| entry.file_type().is_ok_and(|kind| kind.is_dir())) {
        collect(&entry.path(), depth - 1, pids);
    }
}

/// A zombie counts as gone, as it does in a real `cgroup.procs`.
fn is_alive(pid: Pid) -> bool {
    let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
    let state = stat.rsplit_once(')').and_then(|(_, rest)| rest.split_whitespace().next());
    state.is_some_and(|state| !matches!(state, "Z" | "X"))
}

/// The last status, as in watch-pod-life.json: containers terminated, nothing ready.
fn finish(pod: &mut Value, exit_code: i32) {
    let now = rfc3339(seconds_now());
    let reason = if exit_code == 0 { "Completed" } else { "Error" };
    let Some(status) = pod.get_mut("status").filter(|status| status.is_object()) else {
        return;
    };
    for kind in ["containerStatuses", "initContainerStatuses", "ephemeralContainerStatuses"] {
        for container in status.get_mut(kind).and_then(Value::as_array_mut).into_iter().flatten() {
            let Some(started) = container["state"].get("running").map(|running| running["startedAt"].clone()) else {
                continue;
            };
            container["state"] = json!({"terminated": {
                "exitCode": exit_code, "reason": reason, "startedAt": started, "finishedAt": now,
                "containerID": container["containerID"],
            }});
            container["ready"] = false.into();
            container["started"] = false.into();
        }
    }
    for condition in status.get_mut("conditions").and_then(Value::as_array_mut).into_iter().flatten() {
        if matches!(condition["type"].as_str(), Some("Ready" | "ContainersReady" | "PodReadyToStartContainers")) {
            condition["status"] = "False".into();
            condition["lastTransitionTime"] = now.as_str().into();
        }
    }
    if let Some(status) = status.as_object_mut() {
        status.insert("phase".into(), if exit_code == 0 { "Succeeded" } else { "Failed" }.into());
    }
}

/// Gives a mirror made anew its status back.
pub(crate) async fn restore_mirror(inner: Arc<Inner>, key: Key, uid: Value, status: Value) {
    tokio::time::sleep(MIRROR_STATUS).await;
    inner.update(|state| {
        if state.pods.get(&key).is_some_and(|pod| pod["metadata"]["uid"] == uid) {
            state.modify(&key, |pod| merge(pod, &status));
        }
    });
}

/// JSON merge patch (RFC 7396).
pub(crate) fn merge(target: &mut Value, patch: &Value) {
    let Some(fields) = patch.as_object() else {
        *target = patch.clone();
        return;
    };
    if !target.is_object() {
        *target = json!({});
    }
    for (key, value) in fields {
        match (value, target.as_object_mut()) {
            (Value::Null, Some(object)) => {
                object.remove(key);
            }
            _ => merge(&mut target[key], value),
        }
    }
}
