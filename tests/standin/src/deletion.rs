//! Deleting a pod, as DELETE and the eviction do it: preconditions, grace, who goes at once.

use crate::answers;
use crate::clock::{parse, rfc3339, seconds_now};
use crate::kubelet;
use crate::reply::Reply;
use crate::route::{Call, check_dry_run};
use crate::state::{Inner, Key, State};
use serde_json::{Value, json};
use std::sync::Arc;
use std::time::{Duration, Instant};

/// `terminationGracePeriodSeconds` where a pod has none.
pub(crate) const GRACE: i64 = 30;

/// The `DeleteOptions` that are looked at.
pub(crate) struct Options {
    grace: Option<i64>,
    pub uid: Option<String>,
    version: Option<String>,
    pub dry_run: bool,
}

impl Options {
    pub(crate) fn parse(call: &Call, body: &Value) -> Result<Options, Reply> {
        let text = |key: &str| body["preconditions"][key].as_str().map(str::to_owned);
        Ok(Options {
            grace: body["gracePeriodSeconds"].as_i64(),
            uid: text("uid"),
            version: text("resourceVersion"),
            dry_run: check_dry_run(call, "DeleteOptions", &body["dryRun"])?,
        })
    }

    /// With what the query says.
    pub(crate) fn with_query(mut self, call: &Call) -> Result<Options, Reply> {
        self.grace = call.query("gracePeriodSeconds").parse().ok();
        self.dry_run = call.dry_run("DeleteOptions")?;
        Ok(self)
    }

    /// 409 if the pod is not the one that was meant.
    pub(crate) fn check(&self, call: &Call, pod: &Value) -> Result<(), Reply> {
        let wanted =
            [(&self.uid, "uid", answers::CONFLICT_UID), (&self.version, "resourceVersion", answers::CONFLICT_VERSION)];
        for (wanted, key, fact) in wanted {
            let found = pod["metadata"][key].as_str().unwrap_or("");
            if let Some(wanted) = wanted.as_deref().filter(|wanted| *wanted != found) {
                return Err(call.reply(&fact, &[("wanted", wanted), ("found", found)]));
            }
        }
        Ok(())
    }
}

pub(crate) fn is_terminating(pod: &Value) -> bool {
    pod["metadata"]["deletionTimestamp"].is_string()
}

pub(crate) fn phase(pod: &Value) -> &str {
    pod["status"]["phase"].as_str().unwrap_or("")
}

/// Starts the deletion of the pod with this uid: writes it, and sets the kubelet to work.
/// `at` is when the request had arrived.
pub(crate) fn start(inner: &Arc<Inner>, key: &Key, uid: &Value, options: &Options, at: Instant) {
    let job = inner.update(|state| begin(state, key, uid, options));
    match job {
        Some(Job::Stop { grace, wait }) => {
            tokio::spawn(kubelet::terminate(inner.clone(), key.clone(), uid.clone(), at + wait, grace));
        }
        Some(Job::Mirror { uid, status }) => {
            tokio::spawn(kubelet::restore_mirror(inner.clone(), key.clone(), uid, status));
        }
        None => {}
    }
}

enum Job {
    Stop { grace: Duration, wait: Duration },
    Mirror { uid: Value, status: Value },
}

fn begin(state: &mut State, key: &Key, uid: &Value, options: &Options) -> Option<Job> {
    let pod = state.pods.get(key).filter(|pod| pod["metadata"]["uid"] == *uid)?.clone();
    if is_terminating(&pod) {
        shorten(state, key, &pod, options.grace);
        return None;
    }
    let unscheduled = pod["spec"]["nodeName"].as_str().is_none_or(str::is_empty);
    if unscheduled || matches!(phase(&pod), "Succeeded" | "Failed") {
        mark(state, key, seconds_now(), 0);
        return None;
    }
    if pod["metadata"]["annotations"].get("kubernetes.io/config.mirror").is_some() {
        return replace_mirror(state, key, &pod);
    }
    let own = pod["spec"]["terminationGracePeriodSeconds"].as_i64();
    let grace = match options.grace.or(own).unwrap_or(GRACE) {
        negative if negative < 0 => 1,
        grace => grace,
    };
    mark(state, key, seconds_now() + grace, grace);
    let seconds = u64::try_from(grace).unwrap_or(0);
    Some(match seconds {
        0 => Job::Stop { grace: kubelet::MINIMUM_GRACE, wait: kubelet::ORPHAN_WAIT },
        _ => Job::Stop { grace: Duration::from_secs(seconds), wait: Duration::ZERO },
    })
}

/// A termination under way can only be shortened, and the kubelet does not act upon it (1.36, its
/// issue 113606): evict-terminating-shorter-grace.json, -longer-grace.json.
fn shorten(state: &mut State, key: &Key, pod: &Value, grace: Option<i64>) {
    let metadata = &pod["metadata"];
    let current = metadata["deletionGracePeriodSeconds"].as_i64().unwrap_or(0);
    let Some(grace) = grace.map(|grace| if grace < 0 { 1 } else { grace }).filter(|grace| *grace < current) else {
        return;
    };
    let now = seconds_now();
    let end = metadata["deletionTimestamp"].as_str().and_then(parse).unwrap_or(now);
    let end = end - current + grace;
    match grace {
        0 => mark(state, key, now, 0),
        _ if end <= now => mark(state, key, now + 1, 1),
        _ => mark(state, key, end, grace),
    }
}

/// Writes the deletion's end and grace in seconds; with a grace of 0 the object goes.
pub(crate) fn mark(state: &mut State, key: &Key, end: i64, grace: i64) {
    state.modify(key, |pod| {
        let first = !is_terminating(pod);
        let Some(metadata) = pod.get_mut("metadata").and_then(Value::as_object_mut) else {
            return;
        };
        if first {
            let generation = metadata.get("generation").and_then(Value::as_i64).unwrap_or(1);
            metadata.insert("generation".into(), (generation + 1).into());
        }
        metadata.insert("deletionTimestamp".into(), rfc3339(end).into());
        metadata.insert("deletionGracePeriodSeconds".into(), grace.into());
    });
}

/// The kubelet makes the mirror of a static pod anew at once, with a new uid and (for some 8 s) without
/// container statuses; the process is not touched (evict-mirror.json, pod-static-mirror-recreated.json).
fn replace_mirror(state: &mut State, key: &Key, pod: &Value) -> Option<Job> {
    state.write(key, None);
    let mut mirror = pod.clone();
    let status = json!({"status": {"phase": "Running", "containerStatuses": pod["status"]["containerStatuses"]}});
    if let Some(metadata) = mirror.get_mut("metadata").and_then(Value::as_object_mut) {
        metadata.remove("uid");
        metadata.remove("creationTimestamp");
    }
    if let Some(fields) = mirror.as_object_mut() {
        fields.insert("status".into(), json!({"phase": "Pending", "qosClass": pod["status"]["qosClass"]}));
    }
    state.fill_in(&mut mirror);
    let uid = mirror["metadata"]["uid"].clone();
    state.write(key, Some(mirror));
    Some(Job::Mirror { uid, status })
}
