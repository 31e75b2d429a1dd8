//! What led to a notice: what is known of the container's past, for its Event, and for `why` afterwards.

use std::sync::OnceLock;
use std::time::Duration;

use crate::decide::class::{Classified, Inputs, classify, rise};
use crate::decide::past::SlowGrowth;
use crate::ground::memory::{Breakdown, Sample, Signal};
use crate::ground::units::Bytes;
use crate::sampler::Known;

/// A breakdown of this age says nothing of the moment of a notice.
const FRESH: Duration = Duration::from_secs(60);

/// What is known of a container at a verdict, a miss or a kill. It is worked out when it is first asked for: an eviction may
/// be waiting to be sent.
#[derive(Clone, Debug)]
pub struct Story {
    pub known: Known,
    pub surroundings: Surroundings,
    digest: OnceLock<Digest>,
}

/// What follows from it.
#[derive(Clone, Debug)]
pub struct Digest {
    pub classified: Option<Classified>,
    pub slow_growth: Option<SlowGrowth>,
    /// What its memory consisted of.
    pub memory: Option<Breakdown>,
    /// The same before its rise, and how long before.
    pub before: Option<(Duration, Breakdown)>,
    /// What the pod held besides the guarded containers.
    pub rest_of_pod: Option<Bytes>,
}

/// What the controller knows besides what is shown of the container.
#[derive(Clone, Debug, Default)]
pub struct Surroundings {
    pub signal: Signal,
    /// The other guarded containers of the pod.
    pub others: Vec<(String, Bytes)>,
    /// Others have filled the pod's limit.
    pub of_pod: bool,
    /// The node ran out of memory.
    pub of_node: bool,
}

impl Story {
    #[must_use]
    pub fn new(known: Known, surroundings: Surroundings) -> Story {
        Story { known, surroundings, digest: OnceLock::new() }
    }

    /// For how long the container had been watched.
    #[must_use]
    pub fn watched(&self) -> Duration {
        self.known.past.age(self.known.last.sample.at)
    }

    /// What follows from it.
    pub fn digest(&self) -> &Digest {
        self.digest.get_or_init(|| digest(&self.known, &self.surroundings))
    }
}

fn digest(known: &Known, surroundings: &Surroundings) -> Digest {
    let Known { last, past, breakdowns, .. } = known;
    let at = last.sample.at;
    let memory = breakdowns.at(at).filter(|(then, _)| at <= *then + FRESH);
    let value = last.value.unwrap_or(last.sample.own.usage);
    let rose = rise(past, value).map_or(Duration::ZERO, |(_, took)| took);
    let slow_growth = past.slow_growth();
    let began = slow_growth.filter(|slow| slow.a_minute > 0).map_or(rose, |slow| slow.lasted.max(rose));
    let before = breakdowns.before(at.saturating_sub(began), memory.map_or(at, |(then, _)| then));
    let memory = memory.map(|(_, memory)| memory);
    let rest_of_pod = rest_of_pod(&last.sample, &surroundings.others);
    let others = surroundings.others.iter().map(|(_, usage)| *usage).chain(rest_of_pod).fold(Bytes(0), Bytes::plus);
    let classified = classify(&Inputs {
        past,
        slow_growth,
        value,
        threshold: last.threshold,
        cache: last.sample.own.cache_in(surroundings.signal).unwrap_or_default(),
        memory,
        before: before.map(|(_, before)| before),
        shmem: last.sample.own.stat.map(|stat| stat.shmem),
        others: surroundings.of_pod.then_some(others),
        of_node: surroundings.of_node,
    });
    let before = before.map(|(then, before)| (at.saturating_sub(then), before));
    Digest { classified, slow_growth, memory, before, rest_of_pod }
}

/// What is in the pod's group besides the guarded containers.
fn rest_of_pod(sample: &Sample, others: &[(String, Bytes)]) -> Option<Bytes> {
    let guarded = others.iter().map(|(_, usage)| *usage).fold(sample.own.usage, Bytes::plus);
    sample.pod.map(|pod| pod.usage.less(guarded))
}
