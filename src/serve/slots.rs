//! Who has a connection to the pages: a newcomer never waits for a place.

use std::collections::BTreeMap;
use std::net::IpAddr;

use tokio::task::AbortHandle;

/// The most open connections: scrapers, probes and a few people need a handful. A new one takes the place of an old
/// one, see `Slots`.
const CONNECTIONS: usize = 64;
/// The most connections from one address. Behind address translation, all clients may have the same address.
const CONNECTIONS_OF_A_PEER: usize = 32;
/// The most connections that are being answered. An answer of `/api/guards` may have some 100 KiB; together they stay
/// far below the agent's 64 MiB.
const ANSWERS: usize = 16;

/// The open connections, in the order of their arrival.
///
/// A newcomer never waits: it takes the place of the oldest connection that has not sent its request, or else of the
/// oldest. If its own address has too many connections, one of those goes first.
#[derive(Debug, Default)]
pub(super) struct Slots(BTreeMap<u64, Slot>);

#[derive(Debug)]
struct Slot {
    peer: IpAddr,
    asks: bool,
    task: AbortHandle,
}

impl Slots {
    pub(super) fn takes(&mut self, number: u64, peer: IpAddr, task: AbortHandle) {
        if self.count(|place| place.peer == peer) >= CONNECTIONS_OF_A_PEER {
            self.close_one(|place| place.peer == peer);
        } else if self.0.len() >= CONNECTIONS {
            self.close_one(|_| true);
        }
        self.0.insert(number, Slot { peer, asks: false, task });
    }

    pub(super) fn asks(&mut self, number: u64) {
        if self.count(|place| place.asks) >= ANSWERS {
            self.close_one(|place| place.asks);
        }
        if let Some(place) = self.0.get_mut(&number) {
            place.asks = true;
        }
    }

    pub(super) fn leaves(&mut self, number: u64) {
        self.0.remove(&number);
    }

    fn count(&self, which: impl Fn(&Slot) -> bool) -> usize {
        self.0.values().filter(|place| which(place)).count()
    }

    fn close_one(&mut self, which: impl Fn(&Slot) -> bool) {
        let oldest =
            self.0.iter().filter(|(_, place)| which(place)).min_by_key(|(number, place)| (place.asks, **number));
        let oldest = oldest.map(|(number, _)| *number);
        if let Some(place) = oldest.and_then(|number| self.0.remove(&number)) {
            place.task.abort();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The numbers of the connections that are open after these came; those of `asking` have sent their request.
    fn open_after(came: &[(u64, &str)], asking: &[u64]) -> (Vec<u64>, Vec<u64>) {
        let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
        runtime.block_on(async {
            let mut places = Slots::default();
            let mut tasks = Vec::new();
            for (number, peer) in came {
                let task = tokio::spawn(std::future::pending::<()>());
                places.takes(*number, peer.parse().unwrap(), task.abort_handle());
                tasks.push((*number, task));
                if asking.contains(number) {
                    places.asks(*number);
                }
            }
            // The runtime takes a few turns to end them all.
            for _ in 0..100 {
                tokio::task::yield_now().await;
            }
            let running = tasks.iter().filter(|(_, task)| !task.is_finished()).map(|(number, _)| *number).collect();
            (places.0.keys().copied().collect(), running)
        })
    }

    #[test]
    fn a_newcomer_takes_the_place_of_the_oldest_that_has_not_asked() {
        let most = u64::try_from(CONNECTIONS_OF_A_PEER).unwrap();
        let came: Vec<_> = (0..most + 2).map(|number| (number, "10.0.0.1")).collect();
        let (open, running) = open_after(&came, &[0, 2]);
        assert_eq!(open, [&[0, 2][..], &(4..most + 2).collect::<Vec<_>>()].concat());
        assert_eq!(open, running, "what has no place is closed");
    }

    #[test]
    fn a_peer_with_too_many_takes_its_own_places_and_not_those_of_others() {
        let most = u64::try_from(CONNECTIONS_OF_A_PEER).unwrap();
        let mut came = vec![(0, "10.0.0.2")];
        came.extend((1..500).map(|number| (number, "10.0.0.1")));
        let (open, _) = open_after(&came, &[]);
        assert_eq!(open, [&[0][..], &(500 - most..500).collect::<Vec<_>>()].concat());
    }

    #[test]
    fn many_peers_take_the_oldest_places_and_few_are_answered_at_once() {
        let names: Vec<String> = (0..1000).map(|n| format!("10.0.{}.{}", n / 200, n % 200)).collect();
        let came: Vec<_> = (0..).zip(names.iter().map(String::as_str)).collect();
        let (open, _) = open_after(&came, &[]);
        assert_eq!((open.len(), open[0]), (CONNECTIONS, 1000 - CONNECTIONS as u64));
        let (open, running) = open_after(&came, &(0..1000).collect::<Vec<_>>());
        assert_eq!((open.len(), open.last(), running.len()), (ANSWERS, Some(&999), ANSWERS));
    }
}
