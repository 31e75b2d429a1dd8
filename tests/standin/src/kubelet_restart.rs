//! The tiny kubelet: starts a container anew for a resize.

use crate::cgroups::Group;
use crate::clock::{rfc3339, seconds_now};
use crate::deletion::GRACE;
use crate::kubelet::{MINIMUM_GRACE, stop};
use crate::kubelet_resize::Pod;
use crate::resize_plan::{Change, Plan};
use crate::resize_status as status;
use crate::resizes::{Resizes, Restarted};
use serde_json::{Value, json};
use std::path::Path;
use std::time::Duration;

/// The exit code of a process that got SIGKILL.
const KILLED: i32 = 137;
/// How often the old group is tried to be removed, each [`REMOVE`].
const REMOVALS: usize = 200;
const REMOVE: Duration = Duration::from_millis(10);

/// preStop, SIGTERM, the pod's grace, SIGKILL; then a new container in a group of its own. The pod stays Ready, the old
/// limit holds until the processes are gone, and the watch has one line, when the new container runs
/// (watch-resize-restart.json).
pub(crate) async fn restart(pod: &Pod, plan: &Plan, change: &Change, how: &Resizes) {
    pod.edit(|pod| status::begun(pod, plan));
    let exit_code = end(pod, change, how).await;
    let finished = rfc3339(seconds_now());
    tokio::time::sleep(how.start / 2).await;
    if !pod.is_alive() {
        return;
    }
    if let Some((group, before, after)) = plan.pod_group()
        && before != after
    {
        let _ = group.try_set_limit(Some(after));
    }
    tokio::time::sleep(how.start / 4).await;
    let Some(restarted) = begin(pod, change).await else {
        return; // an eviction came in between
    };
    tokio::time::sleep(how.start / 4).await;
    pod.edit(|pod| {
        runs(pod, change, &restarted.id, exit_code, &finished);
        // The other containers' resizes are still to be done: theirs is the condition then.
        if plan.changes.len() == 1 {
            status::clear(pod);
        }
        status::in_force(pod, change);
        status::totals(pod, plan.pod.as_ref().map(|(own, _)| own).filter(|_| plan.changes.len() == 1));
    });
}

/// Ends the processes of the container, and answers its exit code.
async fn end(pod: &Pod, change: &Change, how: &Resizes) -> i32 {
    let uid = pod.uid.as_str().unwrap_or_default();
    let seconds = pod.inner.update(|state| {
        state.resizing.stopping.insert(uid.to_owned());
        state.pods.get(&pod.key).and_then(|pod| pod["spec"]["terminationGracePeriodSeconds"].as_u64())
    });
    let grace = Duration::from_secs(seconds.unwrap_or(GRACE.unsigned_abs()));
    let pre_stop = how.pre_stop.min(grace);
    tokio::time::sleep(pre_stop).await;
    let left = if pre_stop.is_zero() { grace } else { (grace - pre_stop).max(MINIMUM_GRACE) };
    let code = stop(change.dir.as_slice(), left).await;
    pod.inner.update(|state| state.resizing.stopping.remove(uid));
    if code == KILLED { KILLED } else { how.exit_code }
}

/// Makes the new container's group, attached instead of the old one, which goes; then lets the test fill it.
async fn begin(pod: &Pod, change: &Change) -> Option<Restarted> {
    let id = pod.inner.update_quietly(|state| (0..4).map(|_| format!("{:016x}", state.next_id())).collect::<String>());
    let old = change.group();
    let new = old.as_ref().and_then(|old| {
        let name = old.dir().file_name()?.to_str()?;
        let name = if name.contains(&change.id) { name.replace(&change.id, &id) } else { id.clone() };
        let group = old.beside(&name).ok()?;
        let _ = group.try_set_limit(change.limit[1]);
        Some(group)
    });
    let dir = new.as_ref().map(|group| group.dir().to_owned());
    let (namespace, name) = pod.key.clone();
    let restarted = Restarted { namespace, name, container: change.name.clone(), id, dir };
    if !pod.is_alive() {
        let _ = new.is_none_or(|group| group.try_remove());
        return None;
    }
    let hook = pod.inner.update(|state| {
        if let Some(dir) = &restarted.dir {
            let dirs = state.groups.entry(pod.key.clone()).or_default();
            dirs.retain(|other| Some(other) != change.dir.as_ref());
            dirs.push(dir.clone());
        }
        state.resizing.restarted.push_back(restarted.clone());
        state.resizing.hook.clone()
    });
    if let Some(old) = old {
        remove(old.dir()).await;
    }
    if let Some(hook) = hook {
        let restarted = restarted.clone();
        let _ = tokio::task::spawn_blocking(move || hook(&restarted)).await; // its panic is the test's
    }
    Some(restarted)
}

/// A killed process leaves its group a moment later.
async fn remove(dir: &Path) {
    for _ in 0..REMOVALS {
        if Group::at(dir).is_none_or(|group| group.try_remove()) {
            return;
        }
        tokio::time::sleep(REMOVE).await;
    }
}

/// The status of the container that runs instead of the old one.
fn runs(pod: &mut Value, change: &Change, id: &str, exit_code: i32, finished: &str) {
    let Some(status) = status::status_of(pod, change) else {
        return;
    };
    let old = status.get("containerID").and_then(Value::as_str).unwrap_or_default().to_owned();
    let scheme = old.split_once("://").map_or("containerd", |(scheme, _)| scheme);
    let started = status.get("state").map(|state| state["running"]["startedAt"].clone());
    let reason = if exit_code == 0 { "Completed" } else { "Error" };
    let count = status.get("restartCount").and_then(Value::as_u64).unwrap_or(0);
    status.insert("containerID".into(), format!("{scheme}://{id}").into());
    status.insert("restartCount".into(), (count + 1).into());
    status.insert("state".into(), json!({"running": {"startedAt": rfc3339(seconds_now())}}));
    status.insert(
        "lastState".into(),
        json!({"terminated": {"exitCode": exit_code, "reason": reason, "startedAt": started, "finishedAt": finished, "containerID": old}}),
    );
}
