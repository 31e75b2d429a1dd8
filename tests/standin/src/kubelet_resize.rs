//! The tiny kubelet: carries resizes out, one after the other in each pod.
//!
//! What is left to do is read off the pod again and again, so a PATCH in the middle of one is simply the next: a raise
//! waits while another container of its pod is being stopped, and a pod that is going is left alone (both measured).

use crate::deletion::{is_terminating, phase};
use crate::kubelet_restart::restart;
use crate::resize_plan::{Change, Plan};
use crate::resize_status::{self as status, IN_PROGRESS, PENDING};
use crate::resizes::{Fate, Resizes};
use crate::state::{Inner, Key, State};
use serde_json::Value;
use std::sync::Arc;
use std::time::{Duration, Instant};

/// SIGTERM comes so much later than a raise would.
const STOP: Duration = Duration::from_millis(10);
/// From the container's group to the pod's, where limits are lowered.
const LOWERED: Duration = Duration::from_millis(10);
/// How often it looks whether the usage has fallen below a limit that was refused (a real one: within half a minute).
const RETRY: Duration = Duration::from_millis(500);
/// As recorded (watch-resize-deferred.json).
const DEFERRED: &str =
    "Node didn't have enough resource: memory, requested: 8589934592, used: 21021851648, capacity: 25224085504";
/// Not recorded: in the source of 1.36.
const INFEASIBLE: &str = "Resize is infeasible for Guaranteed Pods alongside Memory Manager static policy";

/// A pod that is being resized.
pub(crate) struct Pod {
    pub inner: Arc<Inner>,
    pub key: Key,
    pub uid: Value,
}

impl Pod {
    /// Changes it, if it is still the same one, and not going.
    pub(crate) fn edit(&self, edit: impl FnOnce(&mut Value)) {
        self.inner.update(|state| {
            if alive(state, self).is_some() {
                state.modify(&self.key, edit);
            }
        });
    }

    pub(crate) fn is_alive(&self) -> bool {
        self.inner.read(|state| alive(state, self).is_some())
    }

    fn generation(&self) -> Option<Value> {
        self.inner.read(|state| alive(state, self).map(|pod| pod["metadata"]["generation"].clone()))
    }

    fn name(&self) -> &str {
        self.uid.as_str().unwrap_or_default()
    }
}

/// The pod, unless it is another, terminating or over: the kubelet resizes none of these, though the server answers 200.
fn alive<'a>(state: &'a State, pod: &Pod) -> Option<&'a Value> {
    let found = state.pods.get(&pod.key).filter(|found| found["metadata"]["uid"] == pod.uid)?;
    (!is_terminating(found) && !matches!(phase(found), "Succeeded" | "Failed")).then_some(found)
}

/// What comes next.
enum Next {
    /// Nothing until something changes, or until then.
    Wait(Option<Instant>),
    /// The resize has to wait, and the status says so.
    Pend {
        generation: Value,
        reason: &'static str,
        message: &'static str,
    },
    /// The resize was taken back before it was done.
    Clear,
    Restart(Plan, Change, Resizes),
    /// A lowering below the usage.
    Refuse(Plan, String, Resizes),
    Resize(Plan, Resizes),
}

/// A resize was stored: sets the kubelet to work, if it is not yet. `at` is when the PATCH arrived.
pub(crate) fn start(inner: &Arc<Inner>, key: Key, pod: &Value, at: Instant) {
    let pod = Pod { inner: inner.clone(), key, uid: pod["metadata"]["uid"].clone() };
    let before = inner.update(|state| state.resizing.asked.insert(pod.name().to_owned(), at));
    if before.is_none() {
        tokio::spawn(work(pod));
    }
}

async fn work(pod: Pod) {
    let mut turn = pod.inner.turn.subscribe();
    loop {
        turn.borrow_and_update();
        let Some(next) = pod.inner.update_quietly(|state| next(state, &pod)) else {
            return;
        };
        match next {
            Next::Wait(until) => {
                let until = async {
                    match until {
                        Some(until) => tokio::time::sleep_until(until.into()).await,
                        None => std::future::pending().await,
                    }
                };
                tokio::select! {
                    () = until => {}
                    changed = turn.changed() => drop(changed),
                }
            }
            Next::Pend { generation, reason, message } => {
                pod.edit(|pod| status::set(pod, &generation, PENDING, Some((reason, message))));
            }
            Next::Clear => pod.edit(status::clear),
            Next::Restart(plan, change, how) => restart(&pod, &plan, &change, &how).await,
            Next::Refuse(plan, message, how) => refuse(&pod, &plan, &message, &how).await,
            Next::Resize(plan, how) => resize(&pod, &plan, &how).await,
        }
    }
}

/// What comes next in this pod; `None` if nothing is left to do, and then it is forgotten.
fn next(state: &mut State, pod: &Pod) -> Option<Next> {
    let dirs = state.groups.get(&pod.key).cloned().unwrap_or_default();
    let plan = alive(state, pod).map(|found| Plan::of(found, &dirs)).filter(|plan| !plan.is_empty());
    let (Some(plan), Some(found)) = (plan, alive(state, pod)) else {
        if alive(state, pod).is_some_and(status::is_resizing) {
            return Some(Next::Clear);
        }
        state.resizing.asked.remove(pod.name());
        return None;
    };
    let Some(how) = state.resizing.how.clone() else {
        return Some(Next::Wait(None));
    };
    let at = state.resizing.asked.get(pod.name()).copied().unwrap_or_else(Instant::now);
    let restarts = plan.changes.iter().find(|change| change.restarts).cloned();
    let due = at + how.after + if restarts.is_some() { STOP } else { Duration::ZERO };
    if Instant::now() < due {
        return Some(Next::Wait(Some(due)));
    }
    let pending = match how.fate {
        Fate::Deferred(after) if after.is_none_or(|after| Instant::now() < at + after) => {
            Some((after.map(|after| at + after), "Deferred", DEFERRED))
        }
        Fate::Infeasible => Some((None, "Infeasible", INFEASIBLE)),
        Fate::Done | Fate::Deferred(_) => None,
    };
    if let Some((until, reason, message)) = pending {
        let told = status::condition(found, PENDING).is_some_and(|condition| condition["reason"] == reason);
        let generation = plan.generation.clone();
        return Some(if told { Next::Wait(until) } else { Next::Pend { generation, reason, message } });
    }
    if let Some(change) = restarts {
        return Some(Next::Restart(plan, change, how));
    }
    match plan.refusal() {
        Some(_) if status::condition(found, IN_PROGRESS).is_some_and(|condition| condition["reason"] == "Error") => {
            Some(Next::Wait(Some(Instant::now() + RETRY)))
        }
        Some(message) => Some(Next::Refuse(plan, message, how)),
        None => Some(Next::Resize(plan, how)),
    }
}

/// Raises: the pod's group, then the containers'. Lowers: the other way round. The status comes last.
async fn resize(pod: &Pod, plan: &Plan, how: &Resizes) {
    let group = plan.pod_group();
    let raises = group.as_ref().is_none_or(|(_, before, after)| after >= before);
    let set_pod = || {
        if let Some((group, before, after)) = &group
            && before != after
        {
            let _ = group.try_set_limit(Some(*after)); // gone in between: fine
        }
    };
    if raises {
        set_pod();
    }
    tokio::time::sleep(how.container).await;
    for change in plan.changes.iter().filter(|change| change.limit[0] != change.limit[1]) {
        if let Some(group) = change.group() {
            let _ = group.try_set_limit(change.limit[1]);
        }
    }
    pod.edit(|pod| status::begun(pod, plan));
    if !raises {
        tokio::time::sleep(LOWERED).await;
        set_pod();
    }
    tokio::time::sleep(how.status).await;
    pod.edit(|pod| status::done(pod, plan));
}

/// A lowering below the usage is not done; after a while the status says why.
async fn refuse(pod: &Pod, plan: &Plan, message: &str, how: &Resizes) {
    pod.edit(|pod| status::set(pod, &plan.generation, IN_PROGRESS, None));
    let mut turn = pod.inner.turn.subscribe();
    let until = Instant::now() + how.error;
    while Instant::now() < until {
        tokio::select! {
            () = tokio::time::sleep_until(until.into()) => {}
            changed = turn.changed() => drop(changed),
        }
        if pod.generation().as_ref() != Some(&plan.generation) {
            return; // another PATCH, or the pod is going
        }
    }
    pod.edit(|pod| status::set(pod, &plan.generation, IN_PROGRESS, Some(("Error", message))));
}
