//! Pings: they keep connections open for evictions that may come soon, and find out whether the server is back.

use std::sync::atomic::Ordering::Relaxed;
use std::time::Duration;

use super::turn::Agent;
use crate::ground::clock::Moment;

/// While an eviction may come soon, the agent pings over its connection at this interval. The connection is then open,
/// and one that has silently died is found before the eviction needs it. (kube's pool and the API server close a
/// connection that was idle for 90 s.)
const PING_EACH: Duration = Duration::from_secs(10);

/// So many connections are kept open where as many containers may need one at once; an eviction more begins with a handshake.
const MOST_OPEN: usize = 2;

/// While an eviction waits because the server did not answer, the agent checks for its return at this interval.
const SERVER_CHECK_EACH: Duration = Duration::from_secs(1);

impl Agent {
    /// A TCP and TLS handshake uses up part of the time that an eviction has; a dead connection uses up all of it.
    pub(super) fn keep_open(&mut self) {
        let connections = self.counters.near.load(Relaxed).clamp(1, MOST_OPEN);
        let is_recent = self.pinged_at.is_some_and(|at| self.clock.now() < at + PING_EACH);
        let is_open = is_recent && connections <= self.pinged_over;
        if is_open || self.silent || !self.pings.is_empty() {
            return;
        }
        self.ping(connections);
        if self.resizes_by_own {
            let renew = !self.away;
            for _ in 0..connections {
                let own = self.own.clone();
                self.pings.spawn(async move { own.ping_by_version(renew).await });
            }
        }
    }

    /// Pings over so many connections at once.
    pub(super) fn ping(&mut self, connections: usize) {
        if self.silent || !self.pings.is_empty() {
            return;
        }
        (self.pinged_at, self.pinged_over) = (Some(self.clock.now()), connections);
        // While the server is away, every connection is new, and there are none to replace.
        let renew = !self.away;
        for _ in 0..connections {
            let (line, node) = (self.writes.clone(), self.node.clone());
            self.pings.spawn(async move { line.ping(&node, renew).await });
        }
    }

    /// When to check whether the server is back; `None` if nothing waits for it, or a check is under way.
    pub(super) fn server_check_at(&self) -> Option<Moment> {
        let wanted = self.unanswered && !self.silent && self.pings.is_empty();
        wanted.then(|| self.pinged_at.map_or(Moment::ZERO, |at| at + SERVER_CHECK_EACH))
    }

    pub(super) fn check_server(&mut self) {
        self.unanswered = self.controller.waits_for_the_server();
        if self.unanswered {
            self.ping(1);
        }
    }
}
