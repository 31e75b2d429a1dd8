//! How long evictions take in each namespace: from the request to the end of the container's group.

use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;
use std::time::Duration;

use crate::sampler::{Latency, SLOW_EVICTION};

/// So many of a namespace's last evictions are remembered: what nine of ten take is known, and a change is soon noticed.
const LAST: usize = 20;
/// Containers that take longer than this to end are not seen coming so early either.
const LONGEST: Duration = Duration::from_secs(120);
/// Of so many namespaces it is remembered; beyond that, those without a guarded container are forgotten.
const NAMESPACES: usize = 512;

#[derive(Debug)]
struct Seen {
    latency: Arc<Latency>,
    last: VecDeque<Duration>,
}

/// See the module.
#[derive(Debug, Default)]
pub(super) struct Latencies(BTreeMap<String, Seen>);

impl Latencies {
    /// What the sampler reads of this namespace.
    pub(super) fn of(&mut self, namespace: &str) -> Arc<Latency> {
        if !self.0.contains_key(namespace) {
            if self.0.len() >= NAMESPACES {
                self.0.retain(|_, seen| Arc::strong_count(&seen.latency) > 1);
            }
            // The first eviction does not yet tell what others take.
            let seen = Seen { latency: Arc::default(), last: VecDeque::from([SLOW_EVICTION]) };
            self.0.insert(namespace.to_owned(), seen);
        }
        self.0.get(namespace).map(|seen| Arc::clone(&seen.latency)).unwrap_or_default()
    }

    /// What nine of ten evictions take.
    pub(super) fn get(&self, namespace: &str) -> Duration {
        self.0.get(namespace).map_or(SLOW_EVICTION, |seen| seen.latency.get())
    }

    /// One took so long.
    pub(super) fn learn(&mut self, namespace: &str, took: Duration) {
        let Some(seen) = self.0.get_mut(namespace) else { return };
        seen.last.truncate(LAST - 1);
        seen.last.push_front(took.min(LONGEST));
        let mut sorted: Vec<_> = seen.last.iter().copied().collect();
        sorted.sort_unstable();
        let rank = (sorted.len() * 9).div_ceil(10) - 1;
        seen.latency.set(sorted[rank]);
    }

    pub(super) fn len(&self) -> usize {
        self.0.len()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nine_of_ten_are_no_slower() {
        let mut latencies = Latencies::default();
        let read = latencies.of("a");
        assert_eq!(read.get(), SLOW_EVICTION);
        (1..=19).for_each(|i| latencies.learn("a", Duration::from_secs(i)));
        assert_eq!(read.get(), Duration::from_secs(17), "of 20, the first one among them");
        (0..20).for_each(|_| latencies.learn("a", Duration::from_millis(40)));
        assert_eq!((read.get(), latencies.get("b")), (Duration::from_millis(40), SLOW_EVICTION));
        latencies.learn("a", Duration::from_secs(3600));
        latencies.learn("a", Duration::from_secs(3600));
        latencies.learn("a", Duration::from_secs(3600));
        assert_eq!(read.get(), LONGEST);
    }

    #[test]
    fn namespaces_without_a_container_are_forgotten_when_there_are_many() {
        let mut latencies = Latencies::default();
        let kept = latencies.of("kept");
        (0..3 * NAMESPACES).for_each(|i| drop(latencies.of(&i.to_string())));
        assert!(latencies.len() <= NAMESPACES, "{}", latencies.len());
        latencies.learn("kept", Duration::from_secs(9));
        latencies.learn("kept", Duration::from_secs(9));
        assert_eq!(kept.get(), Duration::from_secs(9));
    }
}
