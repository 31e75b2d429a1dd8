//! A pod as the API server has it, and what its owner asked for: the generator's own form of it, from
//! which the JSON is written that the shipped code reads. The invariants look at this form alone.

use std::fmt::Write as _;
use std::time::Duration;

use fastrand::Rng;
use jiff::{SignedDuration, Timestamp};

use crate::ladder::{Ladder, NeverRestarted, Resized, Resizing, write_managers, write_resources};
use crate::network::{Network, Warn};

pub const MIB: u64 = 1 << 20;
pub const NODE: &str = "n";
pub const AGENT: &str = "agent-uid";
pub const EXCLUDED: &str = "ns-off";
const PREFIX: &str = "pre-oom-killer.v1alpha1.k8s.io/";

/// Namespace and name.
pub type Key = (&'static str, u32);

/// The wall clock at moment 0.
pub fn wall() -> Timestamp {
    Timestamp::from_second(1_795_521_600).unwrap()
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Threshold {
    Missing,
    Percent(u64),
    Quantity(u64),
    Bad(&'static str),
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Signal {
    WorkingSet,
    Usage,
    Unreclaimable,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Targets {
    Unsaid,
    Named(&'static str),
    All,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Dry {
    Off,
    Server,
    Client,
}

/// The annotations.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Ask {
    pub threshold: Threshold,
    pub signal: Signal,
    pub sustained: u64,
    pub grace: Option<u32>,
    pub dry: Dry,
    pub force: Option<u64>,
    pub targets: Targets,
    pub ladder: Ladder,
    pub warn: Option<Warn>,
}

impl Ask {
    pub fn random(rng: &mut Rng) -> Ask {
        let threshold = match rng.u8(0..20) {
            0 => Threshold::Missing,
            1 => Threshold::Bad("60m"),
            2 => Threshold::Bad("0"),
            3..=6 => Threshold::Quantity(rng.u64(20..120)),
            _ => Threshold::Percent(rng.u64(40..95)),
        };
        Ask {
            threshold,
            signal: match rng.u8(0..6) {
                0 => Signal::Usage,
                1 => Signal::Unreclaimable,
                _ => Signal::WorkingSet,
            },
            sustained: if rng.u8(0..6) == 0 { rng.u64(1..40) } else { 0 },
            grace: (rng.u8(0..4) == 0).then(|| rng.u32(1..40)),
            dry: match rng.u8(0..14) {
                0 => Dry::Server,
                1 => Dry::Client,
                _ => Dry::Off,
            },
            force: (rng.u8(0..3) == 0).then(|| rng.u64(50..99)),
            targets: match rng.u8(0..8) {
                0 | 1 => Targets::All,
                2 => Targets::Named("a"),
                3 => Targets::Named("a,b"),
                4 => Targets::Named("b"),
                _ => Targets::Unsaid,
            },
            ladder: Ladder::random(rng),
            warn: Warn::random(rng, threshold),
        }
    }

    /// The same with the threshold of warnings, where there is one.
    pub fn lowest(&self) -> Ask {
        let threshold = match (self.threshold, self.warn) {
            (Threshold::Percent(_), Some(warn)) => Threshold::Percent(warn.at),
            (Threshold::Quantity(_), Some(warn)) => Threshold::Quantity(warn.at),
            (threshold, _) => threshold,
        };
        Ask { threshold, ..*self }
    }

    /// The guarded containers and whether the pod's group is one; `None`: the guard is invalid.
    pub fn guarded(&self, pod: &Pod) -> Option<(Vec<&'static str>, bool)> {
        if matches!(self.threshold, Threshold::Missing | Threshold::Bad(_)) {
            return None;
        }
        if self.warn.is_some_and(|warn| !warn.is_valid(self)) {
            return None;
        }
        let has: Vec<_> = pod.containers.iter().map(|c| c.name).collect();
        let guarded = match self.targets {
            Targets::Unsaid => (has.len() == 1).then_some((has, false)),
            Targets::All => Some((has, true)),
            Targets::Named(names) => {
                let names: Vec<_> = names.split(',').collect();
                names.iter().all(|n| has.contains(n)).then_some((names, false))
            }
        };
        guarded.filter(|(names, _)| self.ladder.is_valid(pod, names))
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Killed {
    pub id: u64,
    /// In truth, and as the node's clock had it.
    pub started: (SignedDuration, Timestamp),
    pub ended: (SignedDuration, Timestamp),
}

#[derive(Clone, Debug)]
pub struct Container {
    pub name: &'static str,
    /// The instance; none while it waits.
    pub id: Option<u64>,
    pub running: bool,
    pub started: Duration,
    /// It is that much older.
    pub older: Duration,
    /// Its start, as the node's clock had it then.
    pub stamp: Timestamp,
    /// The instance that was killed last, with its start and its end.
    pub killed: Option<Killed>,
    /// In the spec; the kernel's may be another.
    pub limit: Option<u64>,
    pub request: Option<u64>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Owner {
    None,
    Node,
    StatefulSet(u8),
    /// Number of the Deployment, and which of its ReplicaSets.
    Deployment(u8, u8),
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Label {
    Enabled,
    Other,
    Absent,
}

#[derive(Clone, Debug)]
pub struct Pod {
    pub key: Key,
    pub uid: String,
    pub node: &'static str,
    pub label: Label,
    pub ask: Ask,
    pub mirror: bool,
    pub owner: Owner,
    pub terminating: bool,
    pub phase: &'static str,
    pub grace: Option<u32>,
    /// When it was made, in truth and by the clock.
    pub made: Duration,
    pub created: Timestamp,
    pub ready: bool,
    pub containers: Vec<Container>,
    pub resizing: Resizing,
    /// Counts the changes of the spec.
    pub generation: i64,
    pub resized: Resized,
    pub network: Network,
}

/// As the server writes it.
fn seconds(at: Timestamp) -> Timestamp {
    Timestamp::from_second(at.as_second()).unwrap()
}

pub fn container_id(id: u64) -> String {
    format!("{id:064x}")
}

pub fn name(key: Key) -> String {
    format!("p{}", key.1)
}

impl Pod {
    /// What the issue lists as never evicted, in the generator's own words.
    pub fn never(&self) -> Option<&'static str> {
        if self.uid == AGENT {
            Some("the agent itself")
        } else if self.node != NODE {
            Some("another node's")
        } else if self.key.0 == EXCLUDED {
            Some("an excluded namespace")
        } else if self.mirror {
            Some("a mirror")
        } else if self.owner == Owner::Node {
            Some("static")
        } else if self.terminating {
            Some("terminating")
        } else if matches!(self.phase, "Succeeded" | "Failed") {
            Some("finished")
        } else {
            None
        }
    }

    /// Whose evictions are counted together.
    pub fn owner_key(&self) -> (&'static str, String) {
        let owner = match self.owner {
            Owner::Deployment(d, _) => format!("Deployment {d}"),
            Owner::StatefulSet(s) => format!("StatefulSet {s}"),
            Owner::None | Owner::Node => format!("Pod {}", self.key.1),
        };
        (self.key.0, owner)
    }

    pub fn container(&self, name: &str) -> Option<&Container> {
        self.containers.iter().find(|c| c.name == name)
    }

    pub fn json(&self) -> String {
        let mut t = String::with_capacity(1200);
        let _ = write!(
            t,
            r#"{{"metadata":{{"name":"{}","namespace":"{}","uid":"{}","generation":{},"creationTimestamp":"{}","labels":{{"app":"x""#,
            name(self.key),
            self.key.0,
            self.uid,
            self.generation,
            seconds(self.created)
        );
        match self.label {
            Label::Enabled => t.push_str(r#","pre-oom-killer":"enabled""#),
            Label::Other => t.push_str(r#","pre-oom-killer":"true""#),
            Label::Absent => {}
        }
        if let Owner::Deployment(_, hash) = self.owner {
            let _ = write!(t, r#","pod-template-hash":"h{hash}""#);
        }
        t.push_str(r#"},"annotations":{"other.io/x":"y""#);
        let mut annotate = |key: &str, value: &str| {
            let _ = write!(t, r#","{PREFIX}{key}":"{value}""#);
        };
        match self.ask.threshold {
            Threshold::Missing => {}
            Threshold::Percent(p) => annotate("memory-usage-threshold", &p.to_string()),
            Threshold::Quantity(q) => annotate("memory-usage-threshold", &format!("{q}Mi")),
            Threshold::Bad(text) => annotate("memory-usage-threshold", text),
        }
        match self.ask.signal {
            Signal::WorkingSet => {}
            Signal::Usage => annotate("memory-signal", "usage"),
            Signal::Unreclaimable => annotate("memory-signal", "unreclaimable"),
        }
        if self.ask.sustained > 0 {
            annotate("sustained-for", &format!("{}s", self.ask.sustained));
        }
        if let Some(grace) = self.ask.grace {
            annotate("eviction-grace-period", &grace.to_string());
        }
        match self.ask.dry {
            Dry::Off => {}
            Dry::Server => annotate("dry-run", "server"),
            Dry::Client => annotate("dry-run", "client"),
        }
        if let Some(force) = self.ask.force {
            annotate("force-delete-threshold", &force.to_string());
        }
        match self.ask.targets {
            Targets::Unsaid => {}
            Targets::All => annotate("target-container-name", "*"),
            Targets::Named(names) => annotate("target-container-name", names),
        }
        if let Some(warn) = self.ask.warn {
            warn.annotate(&self.ask, &mut annotate);
        }
        self.ask.ladder.annotate(annotate);
        if self.mirror {
            t.push_str(r#","kubernetes.io/config.mirror":"x""#);
        }
        t.push('}');
        let owner = match self.owner {
            Owner::None => None,
            Owner::Node => Some(("v1", "Node", NODE.to_owned())),
            Owner::StatefulSet(s) => Some(("apps/v1", "StatefulSet", format!("s{s}"))),
            Owner::Deployment(d, hash) => Some(("apps/v1", "ReplicaSet", format!("d{d}-h{hash}"))),
        };
        if let Some((version, kind, name)) = owner {
            let _ = write!(
                t,
                r#","ownerReferences":[{{"apiVersion":"{version}","kind":"{kind}","name":"{name}","uid":"o","controller":true}}]"#
            );
        }
        write_managers(&mut t, self);
        if self.terminating {
            t.push_str(r#","deletionTimestamp":"2026-11-24T12:00:00Z""#);
        }
        let _ = write!(t, r#"}},"spec":{{"nodeName":"{}","containers":["#, self.node);
        for (i, c) in self.containers.iter().enumerate() {
            let _ = write!(t, r#"{}{{"name":"{}""#, if i > 0 { "," } else { "" }, c.name);
            write_resources(&mut t, self, c.limit, c.request);
            t.push('}');
        }
        t.push(']');
        if self.resizing.never == NeverRestarted::Pod {
            t.push_str(r#","restartPolicy":"Never""#);
        }
        if self.network.host {
            t.push_str(r#","hostNetwork":true"#);
        }
        if let Some(grace) = self.grace {
            let _ = write!(t, r#","terminationGracePeriodSeconds":{grace}"#);
        }
        let ready = if self.ready { "True" } else { "False" };
        let _ = write!(
            t,
            r#"}},"status":{{"phase":"{}","conditions":[{{"type":"Ready","status":"{ready}"}}],"containerStatuses":["#,
            self.phase
        );
        for (i, c) in self.containers.iter().enumerate() {
            let _ = write!(t, r#"{}{{"name":"{}""#, if i > 0 { "," } else { "" }, c.name);
            if let Some(id) = c.id {
                let _ = write!(t, r#","containerID":"containerd://{}""#, container_id(id));
            }
            if c.running {
                let _ = write!(t, r#","state":{{"running":{{"startedAt":"{}"}}}}"#, seconds(c.stamp));
            }
            if let Some(killed) = c.killed {
                let _ = write!(
                    t,
                    r#","lastState":{{"terminated":{{"reason":"OOMKilled","containerID":"containerd://{}","startedAt":"{}","finishedAt":"{}"}}}}"#,
                    container_id(killed.id),
                    seconds(killed.started.1),
                    seconds(killed.ended.1)
                );
            }
            t.push('}');
        }
        t.push(']');
        if self.resizing.guaranteed {
            t.push_str(r#","qosClass":"Guaranteed""#);
        }
        self.network.write_status(&mut t);
        t.push_str("}}");
        t
    }
}
