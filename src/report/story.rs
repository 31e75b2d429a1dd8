//! What led to a notice: what is known of the container's past, for its Event, and for `why` afterwards.

use std::sync::OnceLock;
use std::time::Duration;

use crate::decide::class::{Classified, Inputs, classify, rise};
use crate::decide::past::SlowGrowth;
use crate::ground::memory::{Breakdown, Sample, Signal};
use crate::ground::units::Bytes;
use crate::sampler::Known;

/// The past is known to the second.
const SECOND: Duration = Duration::from_secs(1);
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
    /// What its memory consisted of, and how long before the verdict or the kill.
    pub memory: Option<(Duration, Breakdown)>,
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
    /// It was killed so long after the last sample.
    pub killed_after: Option<Duration>,
    /// It was killed because it had filled its limit.
    pub filled: bool,
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
    let after = surroundings.killed_after.unwrap_or_default();
    let filled = Some(&last.sample).filter(|_| surroundings.filled).and_then(when_full);
    let value = filled.unwrap_or(last.value.unwrap_or(last.sample.own.usage));
    let rose = rise(past, value).map_or(Duration::ZERO, |(_, took)| took);
    let slow_growth = past.slow_growth();
    let lasted = slow_growth.filter(|slow| slow.a_minute > 0).map_or(rose, |slow| slow.lasted.max(rose));
    let began = at.saturating_sub(lasted);
    let newest = breakdowns.at(at).filter(|(then, _)| at + after <= *then + FRESH);
    // At a kill in one jump, the last that is known is of before that.
    let memory = newest.filter(|(then, _)| filled.is_none() || *then > began + SECOND);
    let before = match memory {
        Some((then, _)) => breakdowns.before(began, then),
        None => newest.or_else(|| breakdowns.before(began, at)),
    };
    let rest_of_pod = rest_of_pod(&last.sample, &surroundings.others);
    let others = surroundings.others.iter().map(|(_, usage)| *usage).chain(rest_of_pod).fold(Bytes(0), Bytes::plus);
    let classified = classify(&Inputs {
        past,
        slow_growth,
        value,
        after,
        threshold: last.threshold,
        // The kernel has dropped it before a kill.
        cache: last.sample.own.cache_in(surroundings.signal).filter(|_| filled.is_none()).unwrap_or_default(),
        memory: memory.map(|(_, memory)| memory),
        before: before.map(|(_, before)| before),
        shmem: last.sample.own.stat.map(|stat| stat.shmem),
        others: surroundings.of_pod.then_some(others),
        of_node: surroundings.of_node,
    });
    let ago = |(then, breakdown)| ((at + after).saturating_sub(then), breakdown);
    Digest { classified, slow_growth, memory: memory.map(ago), before: before.map(ago), rest_of_pod }
}

/// What the container holds when its limit is full; if it has none of its own, the pod's.
fn when_full(sample: &Sample) -> Option<Bytes> {
    let of_pod = || sample.pod.and_then(|pod| Some(sample.own.usage.plus(pod.limit?.less(pod.usage))));
    sample.own.limit.or_else(of_pod)
}

/// What is in the pod's group besides the guarded containers.
fn rest_of_pod(sample: &Sample, others: &[(String, Bytes)]) -> Option<Bytes> {
    let guarded = others.iter().map(|(_, usage)| *usage).fold(sample.own.usage, Bytes::plus);
    sample.pod.map(|pod| pod.usage.less(guarded))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::decide::past::Past;
    use crate::ground::memory::{Level, Stat};
    use crate::sampler::{Breakdowns, LastSample};

    const MIB: u64 = 1 << 20;

    fn second(n: u64) -> Duration {
        Duration::from_secs(n)
    }

    /// A container with a limit of 100Mi that held 20Mi, and grew by so much in each of the last seconds. Its stat was read each
    /// ten seconds, last at 95 s.
    fn killed(growth: u64, seconds: u64, killed_after: Duration, filled: bool) -> Digest {
        let (mut past, mut breakdowns) = (Past::new(Duration::ZERO), Breakdowns::default());
        let held = |n: u64| (20 + (n + seconds).saturating_sub(100) * growth) * MIB;
        for n in 0..=100 {
            let is_read = n % 10 == 5;
            past.remember(second(n), Bytes(held(n)), is_read.then_some(Bytes(held(n))));
            if is_read {
                breakdowns.keep(second(n), Breakdown { anonymous: Bytes(held(n)), ..Breakdown::default() });
            }
        }
        let usage = Bytes(held(100));
        let (limit, stat) = (Some(Bytes(100 * MIB)), Some(Stat::default()));
        let own = Level { usage, most_usage: usage, limit, stat, swap_left: Bytes(0) };
        let sample = Sample { at: second(100), until: second(100), own, pod: None };
        let last = LastSample { threshold: Some(Bytes(98 * MIB)), ..LastSample::below(sample) };
        let surroundings = Surroundings { killed_after: Some(killed_after), filled, ..Surroundings::default() };
        digest(&Known { last, past, breakdowns }, &surroundings)
    }

    fn said(digest: &Digest) -> String {
        digest.classified.map_or("nothing".into(), |it| format!("{}: {it}", it.class.as_str()))
    }

    fn anonymous(of: Option<(Duration, Breakdown)>) -> Option<(u64, u64)> {
        of.map(|(ago, breakdown)| (ago.as_secs(), breakdown.anonymous.0 / MIB))
    }

    /// What was last read of it is what it held before.
    #[test]
    fn a_kill_in_one_jump_is_a_spike_from_what_was_last_known() {
        let jump = killed(0, 0, Duration::from_millis(900), true);
        assert_eq!(said(&jump), "spike: it grew 80Mi within a second");
        assert_eq!((anonymous(jump.memory), anonymous(jump.before)), (None, Some((5, 20))));
        let not_known = killed(0, 0, Duration::from_millis(900), false);
        assert_eq!((said(&not_known).as_str(), anonymous(not_known.memory)), ("nothing", Some((5, 20))));
    }

    #[test]
    fn what_grew_before_a_kill_is_compared_with_what_was_there_before_the_rise() {
        let ramp = killed(3, 12, second(1), true);
        assert_eq!(said(&ramp), "spike: it grew 80Mi within 11 s");
        let (memory, before) = (anonymous(ramp.memory), anonymous(ramp.before));
        assert_eq!(memory, Some((6, 20 + 7 * 3)));
        assert!(before.is_some_and(|(ago, held)| ago > 12 && held == 20), "{before:?}");
        // What was told so late says nothing of what it consisted of then, and is no leak.
        let late = killed(0, 0, second(80), true);
        assert_eq!((said(&late).as_str(), anonymous(late.memory)), ("spike: it grew 80Mi within 80 s", None));
    }
}
