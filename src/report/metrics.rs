//! The metrics that `/metrics` exports. The names are a contract: docs/reference.md lists them.

use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;
use std::time::Duration;

use prometheus_client::encoding::{EncodeLabelSet, text};
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::metrics::histogram::Histogram;
use prometheus_client::registry::{Registry, Unit};

use super::facts::NOT_SENT;
use super::notice::{MissReason, Subject};
use super::remedy_metrics::RemedyMetrics;
use crate::access::confinement::{Confinement, ConfinementState};
use crate::act::answer::Answer;
use crate::act::order::Act;
use crate::decide::restraint::Reason;
use crate::ground::units::Bytes;
use crate::pods::guard::DryRun;
use crate::sampler::Counters;

/// From the shortest interval between samples to the longest.
const DETECTION_BUCKETS: [f64; 9] = [0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.5, 1.0];
/// From a fast server to the timeout of one request.
pub(super) const EVICTION_BUCKETS: [f64; 9] = [0.005, 0.01, 0.025, 0.05, 0.1, 0.5, 1.0, 5.0, 30.0];

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
pub struct AnswerLabels {
    /// [`Answer::label`], or [`NOT_SENT`].
    pub(super) answer: &'static str,
    pub(super) dry_run: &'static str,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct ReasonLabels {
    reason: &'static str,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct BuildLabels {
    version: &'static str,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct ConfinementLabels {
    mode: &'static str,
    state: &'static str,
}

/// The registry and its metrics; clones share them.
#[derive(Clone, Debug)]
pub struct Metrics {
    registry: Arc<Registry>,
    guarded: Gauge,
    unresolved: Gauge,
    unreadable: Gauge,
    invalid: Gauge,
    samples: Counter,
    spared: Counter,
    alarms: Counter,
    stat_reads: Counter,
    wakeups: Counter,
    /// Containers found above their threshold.
    pub verdicts: Counter,
    evictions: Family<AnswerLabels, Counter>,
    deletions: Family<AnswerLabels, Counter>,
    remedies: RemedyMetrics,
    blocked: Gauge,
    held_now: Gauge,
    held: Family<ReasonLabels, Counter>,
    missed: Family<ReasonLabels, Counter>,
    slow: Counter,
    list_age: Gauge,
    confinement: Family<ConfinementLabels, Gauge>,
    /// From the last sample that was not above the threshold to the verdict.
    pub detection: Histogram,
    /// From the request to the server's answer.
    pub eviction: Histogram,
    /// How often the watch of pods failed or restarted.
    pub watch_restarts: Counter,
    /// Events that could not be written.
    pub events_lost: Counter,
    /// Notices that were neither logged nor written, because there were too many ([`crate::report::Pace`]).
    pub notices_dropped: Counter,
}

impl Default for Metrics {
    fn default() -> Metrics {
        Metrics::new()
    }
}

impl Metrics {
    #[must_use]
    // One call for each metric, with its help text: longer than a screen, but without logic.
    pub fn new() -> Metrics {
        let mut registry = Registry::with_prefix("pre_oom_killer");
        let build: Family<BuildLabels, Gauge> = Family::default();
        build.get_or_create(&BuildLabels { version: env!("CARGO_PKG_VERSION") }).set(1);
        registry.register("build_info", "The version that runs; always 1", build.clone());
        let gauge = |registry: &mut Registry, name: &str, help: &str| {
            let gauge = Gauge::default();
            registry.register(name, help, gauge.clone());
            gauge
        };
        let counter = |registry: &mut Registry, name: &str, help: &str| {
            let counter = Counter::default();
            registry.register(name, help, counter.clone());
            counter
        };
        let r = &mut registry;
        let guarded = gauge(r, "guarded_containers", "Containers and pod groups whose memory is being read");
        let unresolved = gauge(r, "unresolved_containers", "Running guarded containers whose cgroup was not found");
        let unreadable =
            gauge(r, "unreadable_containers", "Guarded containers and pod groups whose memory cannot be read");
        let invalid = gauge(r, "invalid_guards", "Opted-in pods whose annotations are invalid");
        let samples = counter(r, "samples", "Looks at a container's memory");
        let spared = counter(
            r,
            "spared_samples",
            "Looks that were not needed, because the node had allocated too little memory",
        );
        let alarms = counter(
            r,
            "alarms",
            "Looks that were due at once, because the kernel notified of the container's memory.events (cgroup v2)",
        );
        let stat_reads = counter(r, "stat_reads", "Looks that had to read memory.stat too");
        let wakeups = counter(r, "sampler_wakeups", "Times the sampling thread woke up");
        let verdicts = counter(r, "verdicts", "Times a container was found above its threshold");
        let evictions: Family<AnswerLabels, Counter> = Family::default();
        registry.register("evictions", "Evictions by the server's answer", evictions.clone());
        let detection = Histogram::new(DETECTION_BUCKETS);
        registry.register_with_unit(
            "detection",
            "From the last look that was not above the threshold to the verdict; the crossing was in between",
            Unit::Seconds,
            detection.clone(),
        );
        let eviction = Histogram::new(EVICTION_BUCKETS);
        registry.register_with_unit(
            "eviction",
            "From the request to the server's answer",
            Unit::Seconds,
            eviction.clone(),
        );
        let deletions: Family<AnswerLabels, Counter> = Family::default();
        registry.register("deletions", "Deletions past a disruption budget by the server's answer", deletions.clone());
        let remedies = RemedyMetrics::new(&mut registry);
        let held: Family<ReasonLabels, Counter> = Family::default();
        registry.register("held", "Evictions held by restraint, by its reason", held.clone());
        let missed: Family<ReasonLabels, Counter> = Family::default();
        registry.register(
            "missed",
            "OOM kills of guarded containers, by the reason that they were not evicted",
            missed.clone(),
        );
        for reason in Reason::ALL.map(Reason::label) {
            drop(held.get_or_create(&ReasonLabels { reason }));
        }
        for reason in MissReason::ALL.map(MissReason::label) {
            drop(missed.get_or_create(&ReasonLabels { reason }));
        }
        let list_age = Gauge::default();
        registry.register_with_unit(
            "pod_list_age",
            "Since when nothing was heard of the pods, while the API server cannot be reached; else 0",
            Unit::Seconds,
            list_age.clone(),
        );
        let confinement: Family<ConfinementLabels, Gauge> = Family::default();
        registry.register(
            "confinement",
            "What is to keep the agent to its own node, and whether the API server was found to do so; always 1",
            confinement.clone(),
        );
        let r = &mut registry;
        let blocked = gauge(r, "blocked_pods", "Pods above their threshold whose eviction a disruption budget blocks");
        let held_now = gauge(r, "held_pods", "Pods above their threshold whose eviction restraint holds");
        let slow = counter(r, "slow", "Evicted pods that were still there and growing after their grace");
        let watch_restarts = counter(r, "watch_restarts", "Times the watch of pods failed and was begun anew");
        let events_lost = counter(r, "events_lost", "Events that could not be written");
        let notices_dropped = counter(
            r,
            "notices_dropped",
            "Notices neither logged nor written as Events, for there were too many of their pod, their namespace or the node",
        );
        // Every answer exists from the start, so that a rate shows the first one.
        for answer in Answer::LABELS {
            drop(evictions.get_or_create(&AnswerLabels { answer, dry_run: "off" }));
        }
        Metrics {
            registry: Arc::new(registry),
            guarded,
            unresolved,
            unreadable,
            invalid,
            samples,
            spared,
            alarms,
            stat_reads,
            wakeups,
            verdicts,
            evictions,
            deletions,
            remedies,
            blocked,
            held_now,
            held,
            missed,
            slow,
            list_age,
            confinement,
            detection,
            eviction,
            watch_restarts,
            events_lost,
            notices_dropped,
        }
    }

    /// Sets the state of the confinement, and clears the previous one.
    pub fn confinement(&self, mode: Confinement, state: ConfinementState) {
        self.confinement.clear();
        self.confinement.get_or_create(&ConfinementLabels { mode: mode.as_str(), state: state.as_str() }).set(1);
    }

    pub fn reported(&self, subject: &Subject) {
        self.remedies.reported(subject);
        match subject {
            Subject::Deferred { reason, .. } => {
                self.held.get_or_create(&ReasonLabels { reason: reason.label() }).inc();
            }
            Subject::Missed { reason, count, .. } => {
                self.missed.get_or_create(&ReasonLabels { reason: reason.label() }).inc_by(*count);
            }
            Subject::Slow { .. } => {
                self.slow.inc();
            }
            Subject::Evicted { mode: DryRun::Client, act, .. } => self.answered(*act, None, DryRun::Client),
            _ => {}
        }
    }

    /// Counts a request by its answer; `None`: it was not sent.
    pub fn answered(&self, act: Act, answer: Option<&Answer>, mode: DryRun) {
        let labels = AnswerLabels { answer: answer.map_or(NOT_SENT, Answer::label), dry_run: mode.as_str() };
        let family = match act {
            Act::Evict => &self.evictions,
            Act::Delete => &self.deletions,
            Act::Raise | Act::Restart => return self.remedies.answered(act.remedy(), &labels),
        };
        family.get_or_create(&labels).inc();
    }

    /// The page of `/metrics` in OpenMetrics' text format.
    #[must_use]
    pub fn page(&self, counts: Counts, list_age: Duration, counters: &Counters) -> String {
        let gauge = |gauge: &Gauge, n: usize| gauge.set(i64::try_from(n).unwrap_or(i64::MAX));
        gauge(&self.guarded, counts.guarded);
        gauge(&self.unresolved, counts.unresolved);
        gauge(&self.unreadable, counts.unreadable);
        gauge(&self.invalid, counts.invalid);
        gauge(&self.blocked, counts.blocked);
        gauge(&self.held_now, counts.deferred);
        self.remedies.set(counts);
        self.list_age.set(i64::try_from(list_age.as_secs()).unwrap_or(i64::MAX));
        // The sampling thread keeps its own counts; they are copied here.
        self.samples.inner().store(counters.samples.load(Relaxed), Relaxed);
        self.spared.inner().store(counters.spared.load(Relaxed), Relaxed);
        self.alarms.inner().store(counters.alarms.load(Relaxed), Relaxed);
        self.stat_reads.inner().store(counters.stat_reads.load(Relaxed), Relaxed);
        self.wakeups.inner().store(counters.wakeups.load(Relaxed), Relaxed);
        let mut page = String::new();
        // Writing to a String cannot fail.
        let _ = text::encode(&mut page, &self.registry);
        page
    }
}

/// See `Controller::counts`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Counts {
    /// Targets that the sampler samples.
    pub guarded: usize,
    /// Targets whose group was not found.
    pub unresolved: usize,
    /// Targets whose group exists, but cannot be read.
    pub unreadable: usize,
    /// Pods whose guard is invalid.
    pub invalid: usize,
    /// Pods above their threshold whose eviction a disruption budget blocks.
    pub blocked: usize,
    /// Pods above their threshold whose eviction is deferred.
    pub deferred: usize,
    /// Containers above their threshold for which no remedy is possible.
    pub no_remedy: usize,
    /// By how much all limits are raised.
    pub raised: Bytes,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_metric_has_help_type_and_name() {
        let metrics = Metrics::new();
        metrics.answered(Act::Evict, Some(&Answer::Accepted), DryRun::Off);
        metrics.answered(Act::Evict, None, DryRun::Client);
        metrics.detection.observe(0.004);
        metrics.confinement(Confinement::Policy, ConfinementState::NotAsked);
        metrics.confinement(Confinement::Policy, ConfinementState::Holds);
        let page = metrics.page(
            Counts {
                guarded: 3,
                unresolved: 1,
                unreadable: 6,
                invalid: 2,
                blocked: 4,
                deferred: 5,
                no_remedy: 7,
                raised: Bytes(8),
            },
            Duration::from_secs(7),
            &Counters::default(),
        );
        for line in [
            concat!("pre_oom_killer_build_info{version=\"", env!("CARGO_PKG_VERSION"), "\"} 1"),
            "pre_oom_killer_guarded_containers 3",
            "pre_oom_killer_unresolved_containers 1",
            "pre_oom_killer_unreadable_containers 6",
            "pre_oom_killer_invalid_guards 2",
            "pre_oom_killer_blocked_pods 4",
            "pre_oom_killer_held_pods 5",
            "pre_oom_killer_pod_list_age_seconds 7",
            "pre_oom_killer_missed_total{reason=\"too-fast\"} 0",
            "pre_oom_killer_held_total{reason=\"node-budget\"} 0",
            "pre_oom_killer_samples_total 0",
            "pre_oom_killer_evictions_total{answer=\"accepted\",dry_run=\"off\"} 1",
            "pre_oom_killer_evictions_total{answer=\"not-sent\",dry_run=\"client\"} 1",
            "# UNIT pre_oom_killer_detection_seconds seconds",
            "pre_oom_killer_detection_seconds_bucket{le=\"0.005\"} 1",
            "pre_oom_killer_watch_restarts_total 0",
            "pre_oom_killer_confinement{mode=\"policy\",state=\"holds\"} 1",
        ] {
            assert!(page.lines().any(|l| l == line), "{line}\n{page}");
        }
        assert!(!page.contains("not-asked"), "one state at a time");
        let of = |kind| page.lines().filter(|l| l.starts_with(kind)).count();
        assert_eq!(of("# HELP"), of("# TYPE"));
    }
}
