//! The state of the guarded containers, as text and numbers, for `/api/guards`.

use std::sync::Arc;
use std::time::Duration;

use super::entry::{Entry, GroupState, Guarded, Stage, bad_ids};
use super::remedies::BLOCKED;
use crate::act::order::Act;
use crate::decide::judge::Verdict;
use crate::ground::clock::Moment;
use crate::ground::keys;
use crate::pods::Owner;
use crate::pods::guard::DryRun;
use crate::report::notice::Subject;
use crate::sampler::{LastSample, Shown, TargetId};
use crate::serve::wire::{GuardState, GuardView, MemoryView};

/// Why a percentage for the pod as a whole has no meaning, if `*` sets one.
const POD_WITHOUT_LIMIT: &str = "the pod as a whole has no memory limit to take a percentage of (not each of its containers, init containers included, has one): each container is guarded by its own limit";

/// One view for each container that the guard names, and one for the pod's own group if it is guarded, each with what is known
/// of its past. An invalid guard has one view in all.
pub(super) fn views(entry: &Entry, now: Moment) -> Vec<(GuardView, Option<Arc<Shown>>)> {
    let guard = match &entry.guard {
        Ok(guard) => guard,
        Err(problems) => {
            let words: Vec<String> = problems.iter().map(ToString::to_string).collect();
            return vec![(view_of(entry, GuardState::Invalid, words.join("; ")), None)];
        }
    };
    let mut all: Vec<_> = entry.targets.iter().map(|target| view_of_target(entry, target, now)).collect();
    let has_target = |name: &str| entry.targets.iter().any(|t| t.name.container() == Some(name));
    for name in guard.containers.iter().filter(|n| !has_target(n)) {
        let problem = bad_ids(entry).into_iter().find(|(n, _)| n == name).map(|(_, problem)| problem);
        let mut view = match (entry.never, problem) {
            (Some(never), _) => view_of(entry, GuardState::Never, never.to_string()),
            (None, Some(problem)) => view_of(entry, GuardState::Invalid, problem),
            (None, None) => view_of(entry, GuardState::Waiting, "it is not running".into()),
        };
        view.container = Some(name.clone());
        all.push((view, None));
    }
    for (view, _) in &mut all {
        view.dry_run = Some(guard.dry_run).filter(|mode| *mode != DryRun::Off).map(|mode| mode.as_str().into());
        view.signal = Some(guard.rule.signal.as_str().into());
        view.threshold = Some(guard.rule.threshold.to_string());
        view.remedies = guard.remedies.iter().map(|remedy| remedy.as_str().into()).collect();
    }
    all
}

fn view_of(entry: &Entry, state: GuardState, why: String) -> GuardView {
    GuardView {
        namespace: entry.pod.id.namespace.clone(),
        pod: entry.pod.id.name.clone(),
        uid: entry.pod.id.uid.0.clone(),
        owner: entry.pod.owner.as_ref().map(Owner::workload),
        container: None,
        cgroup: None,
        state,
        why,
        never: entry.never.map(|never| never.label().into()),
        dry_run: None,
        signal: None,
        threshold: None,
        guarded_by: entry.by_namespace.then_some(keys::BY_NAMESPACE.into()),
        remedies: Vec::new(),
        latency: None,
        memory: None,
    }
}

fn view_of_target(entry: &Entry, target: &Guarded, now: Moment) -> (GuardView, Option<Arc<Shown>>) {
    let (state, why) = state_of(entry, target, now);
    let mut view = view_of(entry, state, why);
    view.container = target.name.container().map(str::to_owned);
    let mut known = None;
    if let GroupState::Watched { groups, view: shown, .. } = &target.state {
        view.cgroup = Some(groups.own.dir().display().to_string());
        if let Some(takes) = groups.own.slow_for() {
            view.why = format!("{}; its memory.stat takes {:.2} s to read", view.why, takes.as_secs_f64());
        }
        view.memory = shown.last().map(|last| MemoryView {
            usage: last.sample.own.usage.0,
            value: last.value.map(|b| b.0),
            limit: last.sample.base().map(|b| b.0),
            threshold: last.threshold.map(|b| b.0),
            room: last.margin.map(|b| b.0),
            growth: last.growth,
            slow_growth: last.slow_growth,
            age_ms: millis(now.saturating_sub(last.sample.at)),
            next_ms: millis(last.next.saturating_sub(now)),
            high: last.high.map(|b| b.0),
            oom_kills: last.oom_kills,
            ..MemoryView::default()
        });
        known = Some(Arc::clone(shown));
    }
    (view, known)
}

// One arm for each state, in the order of precedence: longer than a screen, but to be read from top to bottom.
fn state_of(entry: &Entry, target: &Guarded, now: Moment) -> (GuardState, String) {
    let (view, above, unreadable) = match &target.state {
        GroupState::Resolving { why, .. } => {
            let why = why.clone().unwrap_or_else(|| "its cgroup is being looked for".into());
            return (GuardState::Resolving, why);
        }
        GroupState::Watched { view, above, unreadable, .. } => (view, above, unreadable),
    };
    let about_this = |t: &TargetId| *t == target.id;
    // The pod's requested or accepted eviction also covers a container that has restarted since.
    let orphan = |t: &TargetId| above.is_some() && !entry.targets.iter().any(|other| other.id == *t);
    let ago = |at: &Moment| now.saturating_sub(*at).as_secs();
    let within = |at: &Moment| at.saturating_sub(now).as_secs();
    let reported = match &entry.stage {
        Stage::Deferred { target, deferral, .. } if about_this(target) => {
            Some((GuardState::Held, format!("{}; for another {} s", deferral.reason, within(&deferral.until))))
        }
        Stage::Trying(attempt) if about_this(&attempt.target) => Some(match attempt.act {
            Act::Restart => (GuardState::Restarting, "its process is being ended, and started again in place".into()),
            _ => (GuardState::Raising, format!("its limit is being raised to {}", attempt.resize.limit)),
        }),
        Stage::NoRemedy { target, reasons, .. } if about_this(target) => {
            let words: Vec<String> =
                reasons.iter().map(|(remedy, why)| format!("{}: {why}", remedy.as_str())).collect();
            Some((GuardState::NoRemedy, format!("nothing can be done: {}", words.join("; "))))
        }
        Stage::Posting { target, .. } if about_this(target) || orphan(target) => {
            Some((GuardState::Evicting, "the server's answer is awaited".into()))
        }
        Stage::Retrying { target, at } if about_this(target) => {
            let (state, words) = match &entry.failure {
                Some(failure) if failure.blocked => (GuardState::Blocked, failure.words.as_str()),
                Some(failure) => (GuardState::Other(failure.answer.into()), failure.words.as_str()),
                None => return failed_remedy(entry, *target, within(at)),
            };
            Some((state, format!("{words}; next try in {} s", within(at))))
        }
        Stage::Tried { target, mode, outcome, at } if about_this(target) => {
            let by = if *mode == DryRun::Server { "the server's word" } else { "dry run" };
            Some((GuardState::DryRun, format!("{by}: {outcome}, {} s ago; nothing was changed", ago(at))))
        }
        Stage::Leaving(leaving) if about_this(&leaving.target) || orphan(&leaving.target) => {
            Some((GuardState::Evicted, format!("accepted {} s ago; its end is awaited", ago(&leaving.since))))
        }
        _ => None,
    };
    if let Some(reported) = reported {
        return reported;
    }
    if let Some(never) = entry.never {
        return (GuardState::Never, never.to_string());
    }
    if let Some(error) = unreadable {
        return (GuardState::Unreadable, format!("not guarded: {error}; it is tried again each second"));
    }
    match view.verdict() {
        Some(Verdict::NoLimit) if target.name.container().is_none() => (GuardState::NoLimit, POD_WITHOUT_LIMIT.into()),
        Some(Verdict::NoLimit) => (GuardState::NoLimit, Subject::NoLimit.words()),
        Some(Verdict::BeyondLimit) => (GuardState::BeyondLimit, Subject::BeyondLimit.words()),
        Some(Verdict::Sustaining { until }) => {
            let seconds = until.saturating_sub(now).as_secs();
            (GuardState::Sustaining, format!("over; acted on if it stays so for another {seconds} s"))
        }
        _ if above.is_some() => {
            (GuardState::Over, "above its threshold; the pod is being acted on for another container".into())
        }
        _ => match view.last() {
            Some(LastSample { throttled: true, high: Some(high), .. }) => {
                let why = format!(
                    "below its threshold, and the kernel slows it down at its memory.high of {high}: it reaches its threshold late, or never"
                );
                (GuardState::AtMemoryHigh, why)
            }
            _ => (GuardState::Watching, "below its threshold".into()),
        },
    }
}

/// A raise or a restart has failed, or an earlier request is still without an answer.
fn failed_remedy(entry: &Entry, target: TargetId, seconds: u64) -> (GuardState, String) {
    let Some((remedy, answer)) = entry.remedies.last_failure(target) else {
        let why = format!("the answer to an earlier request is awaited; next try in {seconds} s");
        return (GuardState::Evicting, why);
    };
    let remedy = remedy.as_str();
    let state = match answer {
        Some(BLOCKED) => GuardState::Blocked,
        Some(answer) => GuardState::Other(answer.into()),
        None => return (GuardState::NoRemedy, format!("the {remedy} had no effect; next try in {seconds} s")),
    };
    let why = format!("the {remedy} was not carried out ({}); next try in {seconds} s", state.as_str());
    (state, why)
}

fn millis(duration: Duration) -> u64 {
    u64::try_from(duration.as_millis()).unwrap_or(u64::MAX)
}
