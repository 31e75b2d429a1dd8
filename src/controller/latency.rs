//! How long each remedy takes, learned from the server's answers and from what the kernel's files showed.

use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;
use std::time::Duration;

use crate::decide::ladder::{self, EVICT, RAISE, RESTART, Spread};
use crate::pods::guard::Remedy;
use crate::sampler::Latency;
use crate::serve::wire::LatencyView;

/// The 90th percentile covers this many of a namespace's last evictions: few enough to notice a change soon.
const LAST: usize = 20;
/// The maximum that counts: a kill is not foreseen any earlier.
const LONGEST: Duration = Duration::from_secs(120);
/// So many assumed values, and one slow one, do not move the 90th percentile.
const STEADY: usize = 9;
/// From the answer to the effect of SIGTERM (measured: answer after 12 ms, exit after 32).
const ANSWER_TO_EXIT: Duration = Duration::from_millis(20);
/// The maximum of the shortest latency. A slow server makes every container seem near a kill, and beyond this value that
/// helps nobody.
const LONGEST_P10: Duration = Duration::from_secs(2);
/// How many namespaces are remembered. Beyond that, those without a guarded container are forgotten.
const NAMESPACES: usize = 512;

#[derive(Debug)]
struct Seen {
    latency: Arc<Latency>,
    /// From the request to SIGTERM, and to the end of a process that ends at once.
    answers: Measured,
    ends: Measured,
    /// As evictions, restarts take as long as the workload's shutdown.
    restarts: Measured,
}

/// How long the last remedies of one kind took.
#[derive(Debug)]
pub(super) struct Measured {
    /// The newest first; assumed ones at the end.
    last: VecDeque<Duration>,
    /// How many of them were measured.
    measured: usize,
    pub(super) spread: Spread,
}

impl Measured {
    /// `assumed` until some were measured. For the 90th percentile it counts as one of them, or as so many that a single slow
    /// one changes nothing.
    fn new(assumed: Spread, counts: usize) -> Measured {
        Measured { last: VecDeque::from(vec![assumed.p90; counts]), measured: 0, spread: assumed }
    }

    pub(super) fn learn(&mut self, took: Duration) {
        self.last.truncate(LAST - 1);
        self.last.push_front(took.min(LONGEST));
        self.measured = (self.measured + 1).min(LAST);
        self.spread = Spread { p50: percentile(&self.last, self.measured, 5), p90: percentile(&self.last, LAST, 9) };
    }

    /// One of ten was no slower.
    fn p10(&self) -> Duration {
        percentile(&self.last, self.measured, 1)
    }
}

/// So many tenths of the newest ones were no slower.
fn percentile(last: &VecDeque<Duration>, newest: usize, tenths: usize) -> Duration {
    let mut sorted: Vec<_> = last.iter().take(newest).copied().collect();
    sorted.sort_unstable();
    sorted.get((sorted.len() * tenths).div_ceil(10).saturating_sub(1)).copied().unwrap_or(LONGEST)
}

/// What is known of how long remedies take.
#[derive(Debug)]
pub(super) struct Latencies {
    namespaces: BTreeMap<String, Seen>,
    /// Raises are the kubelet's work alone, so they are measured for the whole node.
    pub(super) raise: Measured,
}

impl Default for Latencies {
    fn default() -> Latencies {
        Latencies { namespaces: BTreeMap::new(), raise: Measured::new(RAISE, STEADY) }
    }
}

impl Latencies {
    /// The value that the sampler reads for this namespace.
    pub(super) fn of(&mut self, namespace: &str) -> Arc<Latency> {
        if !self.namespaces.contains_key(namespace) {
            if self.namespaces.len() >= NAMESPACES {
                self.namespaces.retain(|_, seen| Arc::strong_count(&seen.latency) > 1);
            }
            // The first end does not yet show how long others take.
            let seen = Seen {
                latency: Arc::default(),
                answers: Measured::new(EVICT, 0),
                ends: Measured::new(EVICT, 1),
                restarts: Measured::new(RESTART, STEADY),
            };
            self.namespaces.insert(namespace.to_owned(), seen);
        }
        self.namespaces.get(namespace).map(|seen| Arc::clone(&seen.latency)).unwrap_or_default()
    }

    /// The latency of nine in ten evictions, from the request to the end of the group.
    pub(super) fn p90(&self, namespace: &str) -> Duration {
        self.namespaces.get(namespace).map_or(EVICT.p90, |seen| seen.latency.p90())
    }

    /// What each remedy takes in this namespace.
    pub(super) fn ladder(&self, namespace: &str) -> ladder::Latencies {
        let seen = self.namespaces.get(namespace);
        let (restart, evict) = seen.map_or((RESTART, EVICT), |seen| (seen.restarts.spread, seen.ends.spread));
        ladder::Latencies::new(self.raise.spread, restart, evict)
    }

    /// The same, for people.
    pub(super) fn view(&self, namespace: &str) -> LatencyView {
        let ladder = self.ladder(namespace);
        let millis = |remedy| u64::try_from(ladder.of(remedy).as_millis()).unwrap_or(u64::MAX);
        let evictions = self.namespaces.get(namespace).map_or(0, |seen| seen.ends.measured);
        LatencyView {
            raise: millis(Remedy::Raise),
            restart: millis(Remedy::Restart),
            evict: millis(Remedy::Evict),
            evictions: u64::try_from(evictions).unwrap_or(u64::MAX),
        }
    }

    /// An eviction was accepted this long after its request.
    pub(super) fn answered(&mut self, namespace: &str, after: Duration) {
        let Some(seen) = self.namespaces.get_mut(namespace) else { return };
        seen.answers.learn(after + ANSWER_TO_EXIT);
        seen.latency.set_p10(seen.answers.p10().min(LONGEST_P10));
    }

    /// A container was restarted: its group ended this long after the request.
    pub(super) fn restarted(&mut self, namespace: &str, after: Duration) {
        if let Some(seen) = self.namespaces.get_mut(namespace) {
            seen.restarts.learn(after);
        }
    }

    /// A group ended this long after the request.
    pub(super) fn ended(&mut self, namespace: &str, after: Duration) {
        let Some(seen) = self.namespaces.get_mut(namespace) else { return };
        seen.ends.learn(after);
        seen.latency.set_p90(seen.ends.spread.p90);
    }

    pub(super) fn len(&self) -> usize {
        self.namespaces.len()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nine_of_ten_are_no_slower() {
        let mut latencies = Latencies::default();
        let read = latencies.of("a");
        assert_eq!(read.p90(), EVICT.p90);
        (1..=19).for_each(|i| latencies.ended("a", Duration::from_secs(i)));
        assert_eq!(read.p90(), Duration::from_secs(17), "of 20, the first one among them");
        (0..20).for_each(|_| latencies.ended("a", Duration::from_millis(40)));
        assert_eq!((read.p90(), latencies.p90("b")), (Duration::from_millis(40), EVICT.p90));
        latencies.ended("a", Duration::from_secs(3600));
        latencies.ended("a", Duration::from_secs(3600));
        latencies.ended("a", Duration::from_secs(3600));
        assert_eq!(read.p90(), LONGEST);
    }

    /// A ramp that the quickest eviction saves is worth a sample. A slow server makes nobody seem nearer to a kill than two seconds.
    #[test]
    fn the_schedule_goes_by_the_quickest_of_the_last_evictions() {
        let mut latencies = Latencies::default();
        let read = latencies.of("a");
        assert_eq!(read.p10(), EVICT.p50);
        latencies.answered("a", Duration::from_millis(80));
        assert_eq!(read.p10(), Duration::from_millis(100), "the first one takes the place of what was assumed");
        latencies.answered("a", Duration::from_millis(10));
        assert_eq!(read.p10(), Duration::from_millis(30));
        (0..18).for_each(|_| latencies.answered("a", Duration::from_millis(20)));
        assert_eq!(read.p10(), Duration::from_millis(40), "one in ten is quicker");
        (0..20).for_each(|_| latencies.answered("a", Duration::from_secs(30)));
        assert_eq!(read.p10(), LONGEST_P10);
    }

    #[test]
    fn namespaces_without_a_container_are_forgotten_when_there_are_many() {
        let mut latencies = Latencies::default();
        let kept = latencies.of("kept");
        (0..3 * NAMESPACES).for_each(|i| drop(latencies.of(&i.to_string())));
        assert!(latencies.len() <= NAMESPACES, "{}", latencies.len());
        latencies.ended("kept", Duration::from_secs(9));
        latencies.ended("kept", Duration::from_secs(9));
        assert_eq!(kept.p90(), Duration::from_secs(9));
    }
}
