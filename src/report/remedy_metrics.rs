//! The metrics of raises, restarts and warnings.

use std::time::Duration;

use prometheus_client::encoding::EncodeLabelSet;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::metrics::histogram::Histogram;
use prometheus_client::registry::{Registry, Unit};

use super::metrics::{AnswerLabels, Counts, EVICTION_BUCKETS};
use super::notice::Subject;
use crate::act::warn::Warned;
use crate::pods::guard::Remedy;

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct ResizeLabels {
    remedy: &'static str,
    answer: &'static str,
    dry_run: &'static str,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct RemedyLabels {
    remedy: &'static str,
    /// `worked`, or `late`: the next remedy had to begin.
    outcome: &'static str,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct WarningLabels {
    outcome: &'static str,
}

#[derive(Clone, Debug)]
pub(super) struct RemedyMetrics {
    resizes: Family<ResizeLabels, Counter>,
    remedies: Family<RemedyLabels, Counter>,
    warnings: Family<WarningLabels, Counter>,
    took: Histogram,
    raised: Gauge,
    no_remedy: Gauge,
}

impl RemedyMetrics {
    /// What is counted exists from the start, so that a rate shows the first one.
    pub(super) fn new(registry: &mut Registry) -> RemedyMetrics {
        let all = RemedyMetrics {
            resizes: Family::default(),
            remedies: Family::default(),
            warnings: Family::default(),
            took: Histogram::new(EVICTION_BUCKETS),
            raised: Gauge::default(),
            no_remedy: Gauge::default(),
        };
        for remedy in [Remedy::Raise, Remedy::Restart].map(Remedy::as_str) {
            for answer in ["accepted", "refused"] {
                drop(all.resizes.get_or_create(&ResizeLabels { remedy, answer, dry_run: "off" }));
            }
            for outcome in ["worked", "late"] {
                drop(all.remedies.get_or_create(&RemedyLabels { remedy, outcome }));
            }
        }
        for outcome in ["relieved", "no-effect", "failed", "not-sent"] {
            drop(all.warnings.get_or_create(&WarningLabels { outcome }));
        }
        registry.register("resizes", "Resizes in place by remedy and by the server's answer", all.resizes.clone());
        let help = "Raises and restarts by what came of them in the kernel";
        registry.register("remedies", help, all.remedies.clone());
        let help = "Warnings to containers by what their memory did within 10 s";
        registry.register("warnings", help, all.warnings.clone());
        let help = "From the request of a raise or a restart to its effect in the kernel";
        registry.register_with_unit("remedy", help, Unit::Seconds, all.took.clone());
        let help = "By how much the memory limits of this node's containers are raised, all together";
        registry.register_with_unit("raised", help, Unit::Bytes, all.raised.clone());
        let help = "Containers above their threshold for which no remedy is possible";
        registry.register("no_remedy_containers", help, all.no_remedy.clone());
        all
    }

    pub(super) fn reported(&self, subject: &Subject) {
        match subject {
            Subject::Raised { took, .. } => self.worked(Remedy::Raise, *took),
            Subject::Restarted { took, .. } => self.worked(Remedy::Restart, *took),
            Subject::GaveUp { remedy, .. } => {
                let labels = RemedyLabels { remedy: remedy.as_str(), outcome: "late" };
                self.remedies.get_or_create(&labels).inc();
            }
            Subject::Warned { answer, relieved, .. } => {
                let outcome = match answer {
                    Warned::NotSent => "not-sent",
                    Warned::Failed(_) => "failed",
                    Warned::Heard | Warned::Answered(_) if *relieved > 0 => "relieved",
                    Warned::Heard | Warned::Answered(_) => "no-effect",
                };
                self.warnings.get_or_create(&WarningLabels { outcome }).inc();
            }
            _ => {}
        }
    }

    fn worked(&self, remedy: Remedy, took: Duration) {
        self.remedies.get_or_create(&RemedyLabels { remedy: remedy.as_str(), outcome: "worked" }).inc();
        self.took.observe(took.as_secs_f64());
    }

    pub(super) fn answered(&self, remedy: Remedy, labels: &AnswerLabels) {
        let AnswerLabels { answer, dry_run } = *labels;
        self.resizes.get_or_create(&ResizeLabels { remedy: remedy.as_str(), answer, dry_run }).inc();
    }

    pub(super) fn set(&self, counts: Counts) {
        self.no_remedy.set(i64::try_from(counts.no_remedy).unwrap_or(i64::MAX));
        self.raised.set(i64::try_from(counts.raised.0).unwrap_or(i64::MAX));
    }
}
