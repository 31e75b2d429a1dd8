//! What kind of growth brought a container above its threshold, in one word and with the reason. For people. Pure.

use std::fmt;
use std::time::Duration;

use super::past::{BLOCK, Past, SlowGrowth};
use crate::ground::durations::span;
use crate::ground::memory::Breakdown;
use crate::ground::units::Bytes;

/// What took less than this is no leak.
const LEAK_LASTS: Duration = Duration::from_secs(60);
/// A rise begins where the last tenth of the way below is left.
const BEGINS: u64 = 10;

/// Less than this says nothing: the container was as large when it was first seen.
const LEAST_RISE: Bytes = Bytes::MIB;

/// What kind of growth it was.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Class {
    /// It grew for minutes to hours.
    Leak,
    /// It grew within seconds.
    Spike,
    /// It was file cache, which the kernel would have dropped before a kill.
    Cache,
    /// It was shared memory.
    Tmpfs,
    /// Others fill the pod's limit.
    Siblings,
    /// The node ran out of memory.
    Node,
}

impl Class {
    pub const ALL: [Class; 6] = [Class::Leak, Class::Spike, Class::Cache, Class::Tmpfs, Class::Siblings, Class::Node];

    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Class::Leak => "leak",
            Class::Spike => "spike",
            Class::Cache => "cache",
            Class::Tmpfs => "tmpfs",
            Class::Siblings => "siblings",
            Class::Node => "node",
        }
    }
}

/// The class, and why it is that one.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Classified {
    pub class: Class,
    why: Why,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Why {
    /// How much, and within what time.
    Rose(Bytes, Duration),
    Grew(SlowGrowth),
    /// So much of it.
    Cache(Bytes),
    /// So much more of it than before.
    Shared(Bytes),
    /// What others in the pod hold.
    Others(Bytes),
    Node,
}

/// What is known when a container is above its threshold, or was killed.
#[derive(Clone, Copy, Debug)]
pub struct Inputs<'a> {
    pub past: &'a Past,
    /// Its growth over minutes to hours.
    pub slow_growth: Option<SlowGrowth>,
    /// The signal at the last sample; at a kill for its limit, that limit.
    pub value: Bytes,
    /// How long after the last sample that was.
    pub after: Duration,
    pub threshold: Option<Bytes>,
    /// Clean file cache that counts in the signal.
    pub cache: Bytes,
    pub memory: Option<Breakdown>,
    /// When the rise began.
    pub before: Option<Breakdown>,
    /// Shared memory at the last sample.
    pub shmem: Option<Bytes>,
    /// What others hold in a pod whose own limit is the near one.
    pub others: Option<Bytes>,
    /// The node ran out of memory.
    pub of_node: bool,
}

/// `None` if too little is known.
#[must_use]
pub fn classify(inputs: &Inputs<'_>) -> Option<Classified> {
    let Inputs { past, value, after, threshold, cache, memory, before, others, of_node, .. } = *inputs;
    if of_node {
        return Some(Classified { class: Class::Node, why: Why::Node });
    }
    if let Some(others) = others {
        return Some(Classified { class: Class::Siblings, why: Why::Others(others) });
    }
    let rose = rise(past, value);
    let is_by_cache = threshold.is_some_and(|threshold| value > threshold && value.less(cache) <= threshold);
    if is_by_cache && is_mostly_cache(inputs, rose.map_or(value, |(rise, _)| rise)) {
        return Some(Classified { class: Class::Cache, why: Why::Cache(cache) });
    }
    let is_shared = memory.map(|memory| memory.shmem).or(inputs.shmem).unwrap_or_default();
    let shared = is_shared.less(before.map_or(Bytes(0), |before| before.shmem));
    if let Some((rise, _)) = rose
        && shared > Bytes(0)
        && shared.times(2) > rise
    {
        return Some(Classified { class: Class::Tmpfs, why: Why::Shared(shared) });
    }
    let slow = inputs.slow_growth.filter(|slow| slow.a_minute > 0 && slow.lasted >= LEAK_LASTS);
    if let Some(slow) = slow.filter(|slow| explains(*slow, past, value)) {
        return Some(Classified { class: Class::Leak, why: Why::Grew(slow) });
    }
    let (rise, took) = rose.filter(|(rise, _)| *rise >= LEAST_RISE)?;
    let class = if took >= LEAK_LASTS { Class::Leak } else { Class::Spike };
    Some(Classified { class, why: Why::Rose(rise, took + after) })
}

/// Most of what grew is clean cache; where it is not known what grew, most of what is there.
fn is_mostly_cache(inputs: &Inputs<'_>, rise: Bytes) -> bool {
    match inputs.memory.zip(inputs.before) {
        Some((is, was)) => is.file().less(was.file()).times(2) >= rise,
        None => inputs.cache.times(2) >= inputs.value,
    }
}

/// How far the signal has risen from its lowest in the last five minutes, and in what time.
#[must_use]
pub fn rise(past: &Past, value: Bytes) -> Option<(Bytes, Duration)> {
    let least = past.least(BLOCK)?;
    let rise = value.less(least);
    let began = past.last_below(least.plus(Bytes(rise.0 / BEGINS)))?;
    Some((rise, began))
}

/// Whether growth over minutes to hours makes at least half of what the signal has risen in that time.
fn explains(slow: SlowGrowth, past: &Past, value: Bytes) -> bool {
    let Some(least) = past.least(slow.lasted) else { return false };
    let by_minutes = u64::try_from(slow.a_minute).unwrap_or(0).saturating_mul(slow.lasted.as_secs()) / 60;
    Bytes(by_minutes).times(2) >= value.less(least)
}

impl fmt::Display for Classified {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.why {
            Why::Rose(rise, took) => write!(f, "it grew {rise} within {}", span(took)),
            Why::Grew(slow) => slow.fmt(f),
            Why::Cache(cache) => {
                write!(
                    f,
                    "{cache} of it is page cache, which the kernel would have reclaimed first; memory-signal \"unreclaimable\" leaves it out"
                )
            }
            Why::Shared(shared) => write!(f, "{shared} more shared memory: tmpfs, /dev/shm, emptyDir of medium Memory"),
            Why::Others(others) => write!(f, "others in the pod hold {others} of the pod's limit"),
            Why::Node => f.write_str("the node ran out of memory, no limit of the pod was hit"),
        }
    }
}

impl fmt::Display for SlowGrowth {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let word = if self.a_minute < 0 { "shrank" } else { "grew" };
        let a_minute = match self.a_minute.unsigned_abs() {
            n if n < Bytes::MIB.0 => (n + 512) / 1024 * 1024,
            n => n,
        };
        write!(f, "it {word} {} a minute for {}", Bytes(a_minute), span(self.lasted))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MIB: u64 = 1 << 20;

    fn past(seconds: u64, value: impl Fn(u64) -> u64) -> Past {
        let mut past = Past::new(Duration::ZERO);
        (0..=seconds).for_each(|n| past.remember(Duration::from_secs(n), Bytes(value(n)), Some(Bytes(value(n)))));
        past
    }

    fn of(past: &Past, value: u64) -> Inputs<'_> {
        Inputs {
            past,
            slow_growth: past.slow_growth(),
            value: Bytes(value * MIB),
            after: Duration::ZERO,
            threshold: Some(Bytes(55 * MIB)),
            cache: Bytes(0),
            memory: None,
            before: None,
            shmem: None,
            others: None,
            of_node: false,
        }
    }

    fn words(inputs: &Inputs<'_>) -> String {
        classify(inputs).map_or("unknown".into(), |it| format!("{}: {it}", it.class.as_str()))
    }

    #[test]
    fn each_kind_gets_its_class_and_its_reason() {
        let leak = past(4 * 3600, |n| n * MIB / 240);
        assert_eq!(words(&of(&leak, 60)), "leak: it grew 256Ki a minute for 4 h");
        let spike = past(200, |n| if n < 195 { 20 } else { 20 + (n - 195) * 8 } * MIB);
        assert_eq!(words(&of(&spike, 60)), "spike: it grew 40Mi within 5 s");
        let file = |mib: u64| Some(Breakdown { active_file: Bytes(mib * MIB), ..Breakdown::default() });
        let read = past(200, |n| if n < 190 { 50 } else { 70 } * MIB);
        let cache = Inputs { cache: Bytes(15 * MIB), memory: file(17), before: file(1), ..of(&read, 70) };
        assert_eq!(
            words(&cache),
            "cache: 15Mi of it is page cache, which the kernel would have reclaimed first; memory-signal \"unreclaimable\" leaves it out"
        );
        let shmem = |mib: u64| Some(Breakdown { shmem: Bytes(mib * MIB), ..Breakdown::default() });
        let tmpfs = Inputs { memory: shmem(35), before: shmem(5), ..of(&spike, 60) };
        assert_eq!(words(&tmpfs), "tmpfs: 30Mi more shared memory: tmpfs, /dev/shm, emptyDir of medium Memory");
        let others = Inputs { others: Some(Bytes(90 * MIB)), ..of(&spike, 60) };
        assert_eq!(words(&others), "siblings: others in the pod hold 90Mi of the pod's limit");
        assert_eq!(words(&Inputs { of_node: true, ..of(&spike, 60) }).split(':').next(), Some("node"));
    }

    #[test]
    fn a_spike_on_top_of_a_leak_is_a_spike() {
        let both = past(299, |n| (10 + n / 60 + if n > 294 { (n - 294) * 10 } else { 0 }) * MIB);
        assert_eq!(words(&of(&both, 64)).split(':').next(), Some("spike"));
        // A young one that grew all its life, steadily, for less than the growth of minutes takes to be known.
        let young = past(80, |n| n * MIB * 3 / 4);
        assert_eq!(words(&of(&young, 60)), "leak: it grew 60Mi within 72 s");
        assert_eq!(
            (words(&of(&Past::new(Duration::ZERO), 61)), words(&of(&past(9, |_| 61 * MIB), 61))),
            ("unknown".into(), "unknown".into())
        );
    }

    /// Nothing was seen of it but that it was not there a moment before.
    #[test]
    fn a_jump_to_the_limit_is_a_spike() {
        let flat = past(9, |_| 20 * MIB);
        let jump = |after| words(&Inputs { after: Duration::from_millis(after), ..of(&flat, 64) });
        assert_eq!(
            (jump(900), jump(4_000)),
            ("spike: it grew 44Mi within a second".into(), "spike: it grew 44Mi within 4 s".into())
        );
        assert_eq!(jump(70_000), "spike: it grew 44Mi within 70 s", "it was told late");
    }

    /// The pages of a program and its libraries are always there.
    #[test]
    fn cache_that_was_there_before_is_not_what_grew() {
        let leak = past(4 * 3600, |n| n * MIB / 240);
        let file = Some(Breakdown { active_file: Bytes(8 * MIB), ..Breakdown::default() });
        let overshoot = Inputs { threshold: Some(Bytes(59 * MIB)), cache: Bytes(8 * MIB), ..of(&leak, 60) };
        assert!(words(&Inputs { memory: file, before: file, ..overshoot }).starts_with("leak"));
        assert!(words(&overshoot).starts_with("leak"), "nor where nothing is known of before");
    }

    /// As leaks often are: very slow, in steps, or below the saw of a garbage collector.
    #[test]
    fn leaks_of_all_kinds_are_leaks() {
        let slow = past(20 * 3600, |n| 40 * MIB + n * MIB * 15 / 100 / 60);
        let stairs = past(6 * 3600, |n| (10 + n / 600 * 3) * MIB);
        let saw = past(6 * 3600, |n| (10 + n / 120 + n % 40 / 4) * MIB);
        for (name, past, value) in [("slow", &slow, 220), ("stairs", &stairs, 118), ("saw", &saw, 199)] {
            let said = words(&Inputs { threshold: Some(Bytes((value - 1) * MIB)), ..of(past, value) });
            assert!(said.starts_with("leak: it grew"), "{name}: {said}");
        }
    }

    #[test]
    fn shared_memory_that_was_there_before_is_not_what_grew() {
        let spike = past(200, |n| if n < 195 { 20 } else { 20 + (n - 195) * 8 } * MIB);
        let shmem = Some(Breakdown { shmem: Bytes(15 * MIB), ..Breakdown::default() });
        assert!(words(&Inputs { memory: shmem, before: shmem, ..of(&spike, 60) }).starts_with("spike"));
    }
}
