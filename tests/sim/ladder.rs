//! What a pod asks for besides evictions, and what its containers' memory is in the spec: the generator's own form of it.

use std::fmt::Write as _;

use fastrand::Rng;

use crate::pod::{MIB, Pod, Threshold};

/// The annotations about remedies.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Ladder {
    /// As written; none: evictions alone.
    pub list: Option<&'static str>,
    /// The most that a limit may be raised to, in MiB.
    pub to: Option<u64>,
    /// One step, in per cent.
    pub by: Option<u64>,
}

pub const EVICT: Ladder = Ladder { list: None, to: None, by: None };

const LISTS: [&str; 16] = [
    "raise,evict",
    "raise,evict",
    "raise,evict",
    "restart,evict",
    "restart,evict",
    "restart,evict",
    "raise,restart,evict",
    "restart,raise,evict",
    "evict,raise",
    "evict,restart",
    "evict",
    "raise",
    "raise",
    "restart",
    "restart",
    "raise,restart",
];

impl Ladder {
    pub fn random(rng: &mut Rng) -> Ladder {
        if rng.u8(0..3) > 0 {
            return EVICT;
        }
        let ladder = Ladder::any(rng);
        let to = ladder.to.filter(|_| rng.u8(0..30) > 0);
        Ladder { to, ..ladder }
    }

    /// One that is valid for what is smaller than its bound.
    pub fn any(rng: &mut Rng) -> Ladder {
        let list = LISTS[rng.usize(0..LISTS.len())];
        Ladder {
            list: Some(list),
            to: list.contains("raise").then(|| rng.u64(100..1500)),
            by: (rng.u8(0..3) == 0).then(|| rng.u64(1..100)),
        }
    }

    pub fn has(&self, remedy: &str) -> bool {
        self.list.unwrap_or("evict").split(',').any(|listed| listed == remedy)
    }

    /// What docs/annotations.md demands of it.
    pub fn is_valid(&self, pod: &Pod, guarded: &[&str]) -> bool {
        if pod.ask.force.is_some() && !self.has("evict") {
            return false;
        }
        if !self.has("raise") {
            return true;
        }
        let Some(to) = self.to else { return false };
        let limits = pod.containers.iter().filter(|c| guarded.contains(&c.name)).filter_map(|c| c.limit);
        let is_low = pod.resized == Resized::Never && limits.min().is_some_and(|limit| limit >= to * MIB);
        !is_low && !matches!(pod.ask.threshold, Threshold::Quantity(_))
    }

    pub fn annotate(&self, mut annotate: impl FnMut(&str, &str)) {
        if let Some(list) = self.list {
            annotate("remedies", list);
        }
        if let Some(to) = self.to {
            annotate("raise-limit-to", &format!("{to}Mi"));
        }
        if let Some(by) = self.by {
            annotate("raise-by", &by.to_string());
        }
    }
}

/// Who has resized a pod, as `managedFields` shows it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Resized {
    Never,
    ByOthers,
    ByUs,
}

/// Who is never restarted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum NeverRestarted {
    Nobody,
    Container,
    Pod,
}

/// What a pod's spec says of its containers, all alike.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Resizing {
    /// A change of memory restarts the container.
    pub restarts: bool,
    pub never: NeverRestarted,
    /// Requests equal limits, and have to.
    pub guaranteed: bool,
}

impl Resizing {
    pub const PLAIN: Resizing = Resizing { restarts: false, never: NeverRestarted::Nobody, guaranteed: false };

    pub fn random(rng: &mut Rng, ladder: &Ladder) -> Resizing {
        // Most people write what fits.
        let fits = ladder.has("restart") && (!ladder.has("raise") || rng.bool());
        let restarts = if rng.u8(0..6) == 0 { rng.bool() } else { fits };
        let never = match rng.u8(0..24) {
            0 => NeverRestarted::Container,
            // The server does not accept a pod with both.
            1 if !restarts => NeverRestarted::Pod,
            _ => NeverRestarted::Nobody,
        };
        Resizing { restarts, never, guaranteed: rng.u8(0..6) == 0 }
    }

    /// What a container of this limit asks for.
    pub fn request(&self, limit: Option<u64>, rng: &mut Rng) -> Option<u64> {
        let whole = self.guaranteed || rng.u8(0..4) == 0;
        limit.map(|limit| if whole { limit } else { limit / 2 })
    }
}

/// The rest of a container in the spec.
pub fn write_resources(t: &mut String, pod: &Pod, limit: Option<u64>, request: Option<u64>) {
    let Some(limit) = limit else { return };
    let _ = write!(t, r#","resources":{{"limits":{{"memory":"{limit}"}}"#);
    if let Some(request) = request {
        let _ = write!(t, r#","requests":{{"memory":"{request}"}}"#);
    }
    t.push('}');
    if pod.resizing.restarts {
        t.push_str(r#","resizePolicy":[{"resourceName":"memory","restartPolicy":"RestartContainer"}]"#);
    }
    if pod.resizing.never == NeverRestarted::Container {
        t.push_str(r#","restartPolicy":"Never""#);
    }
}

/// Who has resized it, in the metadata.
pub fn write_managers(t: &mut String, pod: &Pod) {
    let manager = match pod.resized {
        Resized::Never => return,
        Resized::ByOthers => "vpa",
        Resized::ByUs => "pre-oom-killer",
    };
    let _ = write!(t, r#","managedFields":[{{"manager":"{manager}","subresource":"resize"}}]"#);
}
