//! What is known of the guarded containers, in words and numbers, for `/api/guards`.

use std::time::Duration;

use super::entry::{Entry, Eviction, State, Target, bad_ids};
use crate::decide::eligibility::Never;
use crate::decide::judge::Verdict;
use crate::ground::clock::Moment;
use crate::ground::keys;
use crate::pods::Owner;
use crate::pods::guard::DryRun;
use crate::report::notice::Subject;
use crate::sampler::TargetId;

/// One guarded container, or one pod whose guard is invalid, as `/api/guards` shows it.
#[derive(Clone, Debug, serde::Serialize)]
#[serde(rename_all = "camelCase")]
pub struct GuardView {
    /// `metadata.namespace`.
    pub namespace: String,
    /// `metadata.name`.
    pub pod: String,
    /// `metadata.uid`.
    pub uid: String,
    /// The controlling owner as `Kind/name`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub owner: Option<String>,
    /// The container; none: the pod's own group, or the whole pod.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub container: Option<String>,
    /// The group that is read.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub cgroup: Option<String>,
    /// `watching`, `over`, `sustaining`, `held`, `evicting`, `blocked`, `evicted`, `dry-run`,
    /// another answer of the server (`refused`, `failing`, `gone`, …), `no-limit`, `beyond-limit`,
    /// `unreadable`, `resolving`, `waiting`, `never`, `invalid`.
    pub state: &'static str,
    /// Why, in words.
    pub why: String,
    /// Why it is never evicted.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub never: Option<Never>,
    /// `client` or `server` where the annotation says that it is only to be tried.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub dry_run: Option<DryRun>,
    /// Which signal is compared.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub signal: Option<&'static str>,
    /// As the annotation has it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub threshold: Option<String>,
    /// `namespace` where the namespace's label has opted the pod in; none: the pod's own.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub guarded_by: Option<&'static str>,
    /// What was last read.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub memory: Option<MemoryView>,
}

/// The last look at a group; sizes in bytes.
#[derive(Clone, Debug, serde::Serialize)]
#[serde(rename_all = "camelCase")]
pub struct MemoryView {
    /// All that is charged.
    pub usage: u64,
    /// The last known value of the signal.
    pub value: Option<u64>,
    /// The limit that a percentage is of; null: none.
    pub limit: Option<u64>,
    /// The threshold; null: a percentage of no limit.
    pub threshold: Option<u64>,
    /// What is left before a kill; null: no limit.
    pub room: Option<u64>,
    /// Bytes a second over the last quarter of a second, of what cannot be reclaimed.
    pub growth: Option<i64>,
    /// The same over the last minute; null in the first seconds.
    pub slow_growth: Option<i64>,
    /// How long ago it was read, in milliseconds.
    pub age_ms: u64,
    /// In how many milliseconds it is read next.
    pub next_ms: u64,
    /// Kills counted by the kernel in this group.
    pub oom_kills: Option<u64>,
}

/// All states of a guard, but those that are an answer's ([`Answer::LABELS`]).
///
/// [`Answer::LABELS`]: crate::act::answer::Answer::LABELS
pub const STATES: [&str; 15] = [
    "watching",
    "sustaining",
    "evicting",
    "held",
    "blocked",
    "over",
    "evicted",
    "dry-run",
    "resolving",
    "waiting",
    "no-limit",
    "beyond-limit",
    "unreadable",
    "invalid",
    "never",
];

/// Why a percentage of the pod as a whole is none, where `*` asks for it.
const POD_WITHOUT_LIMIT: &str = "the pod as a whole has no memory limit to take a percentage of (not each of its containers, init containers included, has one): each container is guarded by its own limit";

pub(super) fn views(entry: &Entry, now: Moment) -> Vec<GuardView> {
    let owner = entry.pod.owner.as_ref().map(Owner::workload);
    let base = |state: &'static str, why: String| GuardView {
        namespace: entry.pod.id.namespace.clone(),
        pod: entry.pod.id.name.clone(),
        uid: entry.pod.id.uid.0.clone(),
        owner: owner.clone(),
        container: None,
        cgroup: None,
        state,
        why,
        never: entry.never,
        dry_run: None,
        signal: None,
        threshold: None,
        guarded_by: entry.by_namespace.then_some(keys::BY_NAMESPACE),
        memory: None,
    };
    let guard = match &entry.guard {
        Ok(guard) => guard,
        Err(problems) => {
            let words: Vec<String> = problems.iter().map(ToString::to_string).collect();
            return vec![base("invalid", words.join("; "))];
        }
    };
    let mut all = Vec::new();
    for target in &entry.targets {
        let (state, why) = state_of(entry, target, now);
        let mut view = base(state, why);
        view.container = target.name.container().map(str::to_owned);
        if let State::Watched { groups, view: v, .. } = &target.state {
            view.cgroup = Some(groups.own.dir().display().to_string());
            if let Some(takes) = groups.own.slow_for() {
                let seconds = takes.as_secs_f64();
                view.why = format!("{}; its memory.stat takes {seconds:.2} s to read", view.why);
            }
            view.memory = v.last().map(|look| MemoryView {
                usage: look.sample.own.usage.0,
                value: look.value.map(|b| b.0),
                limit: look.sample.base().map(|b| b.0),
                threshold: look.threshold.map(|b| b.0),
                room: look.margin.map(|b| b.0),
                growth: look.growth,
                slow_growth: look.slow_growth,
                age_ms: millis(now.saturating_sub(look.sample.at)),
                next_ms: millis(look.next.saturating_sub(now)),
                oom_kills: look.oom_kills,
            });
        }
        all.push(view);
    }
    let has_target = |name: &str| entry.targets.iter().any(|t| t.name.container() == Some(name));
    for name in guard.containers.iter().filter(|n| !has_target(n)) {
        let problem = bad_ids(entry).into_iter().find(|(n, _)| n == name).map(|(_, problem)| problem);
        let mut view = match (entry.never, problem) {
            (Some(never), _) => base("never", never.to_string()),
            (None, Some(problem)) => base("invalid", problem),
            (None, None) => base("waiting", "it is not running".into()),
        };
        view.container = Some(name.clone());
        all.push(view);
    }
    for view in &mut all {
        view.dry_run = Some(guard.dry_run).filter(|mode| *mode != DryRun::Off);
        view.signal = Some(guard.rule.signal.as_str());
        view.threshold = Some(guard.rule.threshold.to_string());
    }
    all
}

fn state_of(entry: &Entry, target: &Target, now: Moment) -> (&'static str, String) {
    let (view, over, unreadable) = match &target.state {
        State::Resolving { why, .. } => {
            let why = why.clone().unwrap_or_else(|| "its cgroup is being looked for".into());
            return ("resolving", why);
        }
        State::Watched { view, over, unreadable, .. } => (view, over, unreadable),
    };
    let about_this = |t: &TargetId| *t == target.id;
    // What was asked or is settled for the pod holds for a container that was restarted since, too.
    let orphan = |t: &TargetId| over.is_some() && !entry.targets.iter().any(|other| other.id == *t);
    let ago = |at: &Moment| now.saturating_sub(*at).as_secs();
    let within = |at: &Moment| at.saturating_sub(now).as_secs();
    let told = match &entry.eviction {
        Eviction::Held { target, held, .. } if about_this(target) => {
            Some(("held", format!("{}; for another {} s", held.why, within(&held.until))))
        }
        Eviction::Posting { target, .. } if about_this(target) || orphan(target) => {
            Some(("evicting", "the server's answer is awaited".into()))
        }
        Eviction::Retrying { target, at } if about_this(target) => {
            let (state, words) = match &entry.failure {
                Some(failure) if failure.blocked => ("blocked", failure.words.as_str()),
                Some(failure) => (failure.answer, failure.words.as_str()),
                None => ("evicting", "the answer to an earlier request is awaited"),
            };
            Some((state, format!("{words}; next try in {} s", within(at))))
        }
        Eviction::Tried { target, mode, outcome, at } if about_this(target) => {
            let by = if *mode == DryRun::Server { "the server's word" } else { "dry run" };
            Some(("dry-run", format!("{by}: {outcome}, {} s ago; it is not evicted", ago(at))))
        }
        Eviction::Leaving(leaving) if about_this(&leaving.target) || orphan(&leaving.target) => {
            Some(("evicted", format!("accepted {} s ago; its end is awaited", ago(&leaving.since))))
        }
        _ => None,
    };
    if let Some(told) = told {
        return told;
    }
    if let Some(never) = entry.never {
        return ("never", never.to_string());
    }
    if let Some(error) = unreadable {
        return ("unreadable", format!("not guarded: {error}; it is tried again each second"));
    }
    match view.last().map(|l| l.verdict) {
        Some(Verdict::NoLimit) if target.name.container().is_none() => ("no-limit", POD_WITHOUT_LIMIT.into()),
        Some(Verdict::NoLimit) => ("no-limit", Subject::NoLimit.words()),
        Some(Verdict::BeyondLimit) => ("beyond-limit", Subject::BeyondLimit.words()),
        Some(Verdict::Sustaining { until }) => {
            let seconds = until.saturating_sub(now).as_secs();
            ("sustaining", format!("over; acted on if it stays so for another {seconds} s"))
        }
        _ if over.is_some() => ("over", "above its threshold; the pod is being acted on for another container".into()),
        _ => ("watching", "below its threshold".into()),
    }
}

fn millis(duration: Duration) -> u64 {
    u64::try_from(duration.as_millis()).unwrap_or(u64::MAX)
}
