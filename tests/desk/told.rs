//! Incidents as the agent itself tells them: their texts, classes, curves and numbers are from its code.

use std::sync::Arc;
use std::time::Duration;

use pre_oom_killer::act::order::Act;
use pre_oom_killer::decide::judge::Evidence;
use pre_oom_killer::decide::ladder::Reasons;
use pre_oom_killer::decide::past::Past;
use pre_oom_killer::ground::memory::{Breakdown, Level, Sample, Signal, Stat};
use pre_oom_killer::ground::units::Bytes;
use pre_oom_killer::pods::guard::DryRun;
use pre_oom_killer::pods::{Owner, PodRef, PodUid};
use pre_oom_killer::report::incidents::Incidents;
use pre_oom_killer::report::notice::{MissReason, Notice, Subject};
use pre_oom_killer::report::story::{Story, Surroundings};
use pre_oom_killer::sampler::{Breakdowns, Known, LastSample};
use pre_oom_killer::serve::incident::IncidentView;

use crate::stories::MIB;

/// A container, and what it did until its incident.
#[derive(Clone, Copy)]
pub struct Container {
    pub namespace: &'static str,
    pub pod: &'static str,
    pub uid: &'static str,
    /// Its kind and its name.
    pub owner: (&'static str, &'static str),
    pub name: &'static str,
    /// Sizes in bytes.
    pub limit: u64,
    pub threshold: u64,
    /// For how many seconds it was watched, and what the signal was in each of them.
    pub watched: u64,
    pub value: fn(u64) -> u64,
    /// In a second.
    pub growth: i64,
    pub slow_growth: Option<i64>,
    pub memory: Breakdown,
    /// What the other guarded containers held, and the pod.
    pub others: &'static [(&'static str, u64)],
    pub pod_usage: u64,
}

impl Container {
    /// What happened to it, each at a time of 2026-11-24.
    pub fn incident(&self, notices: Vec<(&str, Subject)>) -> IncidentView {
        let (kind, name) = self.owner;
        let owner = Owner {
            api_version: "apps/v1".into(),
            kind: kind.into(),
            name: name.into(),
            uid: "owner".into(),
            template_hash: None,
        };
        let story = Arc::new(self.story());
        let mut all = Incidents::default();
        for (at, subject) in notices {
            let notice = Notice {
                pod: PodRef { namespace: self.namespace.into(), name: self.pod.into(), uid: PodUid(self.uid.into()) },
                owner: Some(owner.clone()),
                container: Some(self.name.into()),
                by_namespace: false,
                subject,
                story: Some(Arc::clone(&story)),
            };
            all.keep(format!("2026-11-24T{at}Z").parse().unwrap(), &notice);
        }
        let mut all = all.all();
        assert_eq!(all.len(), 1);
        all.remove(0).view()
    }

    fn story(&self) -> Story {
        let mut past = Past::new(Duration::ZERO);
        for n in 0..=self.watched {
            // Where it is far from its threshold, the signal is read every ten seconds.
            let value = (n % 10 == 0 || n + 30 > self.watched).then(|| Bytes((self.value)(n)));
            past.remember(Duration::from_secs(n), Bytes(self.usage(n)), value);
        }
        let last = self.last();
        let mut breakdowns = Breakdowns::default();
        breakdowns.keep(last.sample.at, self.memory);
        let others = self.others.iter().map(|(name, usage)| ((*name).to_owned(), Bytes(*usage))).collect();
        Story::new(Known { last, past, breakdowns }, Surroundings { others, ..Surroundings::default() })
    }

    fn usage(&self, n: u64) -> u64 {
        (self.value)(n) + self.memory.inactive_file.0
    }

    /// The last sample before the incident.
    pub fn last(&self) -> LastSample {
        let (usage, at) = (Bytes(self.usage(self.watched)), Duration::from_secs(self.watched));
        let stat = Stat {
            inactive_file: self.memory.inactive_file,
            active_file: self.memory.active_file,
            shmem: self.memory.shmem,
            ..Stat::default()
        };
        let level =
            Level { usage, most_usage: usage, limit: Some(Bytes(self.limit)), stat: Some(stat), swap_left: Bytes(0) };
        let pod = Level { usage: Bytes(self.pod_usage), most_usage: Bytes(self.pod_usage), limit: None, ..level };
        let sample = Sample { at, until: at, own: level, pod: Some(pod) };
        LastSample {
            sample,
            value: Some(Bytes((self.value)(self.watched))),
            threshold: Some(Bytes(self.threshold)),
            margin: sample.margin(),
            growth: Some(self.growth),
            slow_growth: self.slow_growth,
            next: at,
            oom_kills: None,
            high: None,
            throttled: false,
        }
    }

    /// Why it is above its threshold.
    pub fn evidence(&self) -> Evidence {
        let last = self.last();
        Evidence {
            at: last.sample.at,
            signal: Signal::WorkingSet,
            value: last.value.unwrap(),
            usage: last.sample.own.usage,
            limit: last.sample.base(),
            threshold: Bytes(self.threshold),
            growth: last.growth,
            slow_growth: last.slow_growth,
            growth_at_least: 0,
            burst_at_least: 0,
            rise: None,
            margin: last.margin,
            tight: last.sample.is_tight(),
            waived: false,
            critical: false,
        }
    }

    pub fn evicted(&self, passed: Reasons) -> Subject {
        Subject::Evicted {
            evidence: self.evidence(),
            act: Act::Evict,
            mode: DryRun::Off,
            grace: None,
            took: Duration::from_micros(5200),
            passed,
            too_late: false,
        }
    }

    pub fn killed(&self, reason: MissReason) -> Subject {
        let last_sample = Some(Box::new((self.last(), Duration::from_millis(3))));
        Subject::Missed { reason, last_sample, count: 1, whole: true }
    }
}

/// Of nothing but anonymous memory and file cache, active and inactive, in MiB.
pub fn memory(anonymous: u64, active_file: u64, inactive_file: u64) -> Breakdown {
    let [anonymous, active_file, inactive_file] = [anonymous, active_file, inactive_file].map(|mib| Bytes(mib * MIB));
    Breakdown { anonymous, active_file, inactive_file, ..Breakdown::default() }
}
