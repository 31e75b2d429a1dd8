//! What kind of growth brought a container above its threshold, in one word and with the reason. For people. Pure.

use std::fmt;
use std::time::Duration;

use super::past::{Past, SlowGrowth};
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
    /// The signal, at the last sample.
    pub value: Bytes,
    pub threshold: Option<Bytes>,
    /// Clean file cache that counts in the signal.
    pub cache: Bytes,
    pub memory: Option<Breakdown>,
    /// When the rise began.
    pub before: Option<Breakdown>,
    /// What others hold in a pod whose own limit is the near one.
    pub others: Option<Bytes>,
    /// The node ran out of memory.
    pub of_node: bool,
}

/// `None` if too little is known.
#[must_use]
pub fn classify(inputs: &Inputs<'_>) -> Option<Classified> {
    let Inputs { past, value, threshold, cache, memory, before, others, of_node } = *inputs;
    if of_node {
        return Some(Classified { class: Class::Node, why: Why::Node });
    }
    if let Some(others) = others {
        return Some(Classified { class: Class::Siblings, why: Why::Others(others) });
    }
    if threshold.is_some_and(|threshold| value > threshold && value.less(cache) <= threshold) {
        return Some(Classified { class: Class::Cache, why: Why::Cache(cache) });
    }
    let (rise, took) = rise(past, value).filter(|(rise, _)| *rise >= LEAST_RISE)?;
    let shared = memory.map(|is| is.shmem.less(before.unwrap_or_default().shmem)).unwrap_or_default();
    if shared > Bytes(0) && shared.times(2) > rise {
        return Some(Classified { class: Class::Tmpfs, why: Why::Shared(shared) });
    }
    let slow = past.slow_growth().filter(|slow| slow.a_minute > 0 && slow.lasted >= LEAK_LASTS);
    Some(match slow {
        // Growth of minutes that explains at least half of what it rose is no spike.
        Some(slow) if explains(slow, rise, took) => Classified { class: Class::Leak, why: Why::Grew(slow) },
        _ if took >= LEAK_LASTS => Classified { class: Class::Leak, why: Why::Rose(rise, took) },
        _ => Classified { class: Class::Spike, why: Why::Rose(rise, took) },
    })
}

/// How far the signal has risen from its lowest in the last minutes, and in what time.
#[must_use]
pub fn rise(past: &Past, value: Bytes) -> Option<(Bytes, Duration)> {
    let (_, least) = past.least()?;
    let rise = value.less(least);
    let began = past.last_below(least.plus(Bytes(rise.0 / BEGINS)))?;
    Some((rise, began))
}

fn explains(slow: SlowGrowth, rise: Bytes, took: Duration) -> bool {
    let by_minutes = u64::try_from(slow.a_minute).unwrap_or(0) / 60 * took.as_secs();
    Bytes(by_minutes).times(2) >= rise
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

/// `12 s`, `5 min`, `4 h`.
#[must_use]
pub fn span(duration: Duration) -> String {
    match duration.as_secs() {
        0 => "a second".into(),
        seconds @ 1..120 => format!("{seconds} s"),
        seconds @ 120..7200 => format!("{} min", seconds / 60),
        seconds => format!("{} h", seconds / 3600),
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
            value: Bytes(value * MIB),
            threshold: Some(Bytes(55 * MIB)),
            cache: Bytes(0),
            memory: None,
            before: None,
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
        let flat = past(200, |_| 70 * MIB);
        let cache = Inputs { cache: Bytes(15 * MIB), ..of(&flat, 70) };
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

    #[test]
    fn shared_memory_that_was_there_before_is_not_what_grew() {
        let spike = past(200, |n| if n < 195 { 20 } else { 20 + (n - 195) * 8 } * MIB);
        let shmem = Some(Breakdown { shmem: Bytes(15 * MIB), ..Breakdown::default() });
        assert!(words(&Inputs { memory: shmem, before: shmem, ..of(&spike, 60) }).starts_with("spike"));
    }
}
