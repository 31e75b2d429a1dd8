//! A node's budget of evictions: a token bucket that can take back the tokens of evictions that did not happen. Pure.

use std::collections::VecDeque;
use std::time::Duration;

use crate::ground::clock::Moment;

/// The state of a budget at a moment.
#[derive(Clone, Copy, Debug)]
pub(super) struct Tokens {
    left: u32,
    /// When the last token was added.
    refilled: Moment,
}

/// A token bucket. It keeps the times at which tokens were spent. The token of an eviction that did not happen can
/// therefore be taken out as if it had never been spent, however late this becomes known.
#[derive(Debug)]
pub(super) struct Budget {
    burst: u32,
    refill: Duration,
    /// The state before all entries of `spent`.
    tokens: Tokens,
    /// When tokens were spent, and for which namespace; the oldest first.
    spent: VecDeque<(Moment, String)>,
}

impl Budget {
    pub(super) fn new(burst: u32, refill: Duration) -> Budget {
        Budget { burst, refill, tokens: Tokens { left: burst, refilled: Moment::ZERO }, spent: VecDeque::new() }
    }

    fn refill(&self, tokens: &mut Tokens, now: Moment) {
        while tokens.left < self.burst && tokens.refilled + self.refill <= now {
            tokens.left += 1;
            tokens.refilled += self.refill;
        }
        if tokens.left >= self.burst {
            // A full bucket gains nothing: the time to the next token starts when the first is spent.
            tokens.refilled = now;
        }
    }

    fn spend(&self, tokens: &mut Tokens, at: Moment) {
        self.refill(tokens, at);
        tokens.left = tokens.left.saturating_sub(1);
    }

    fn tokens_at(&self, now: Moment) -> Tokens {
        let mut tokens = self.tokens;
        self.spent.iter().for_each(|(at, _)| self.spend(&mut tokens, *at));
        self.refill(&mut tokens, now);
        tokens
    }

    /// Whether there is a token for this namespace; if not, when the next one comes. `shared`: no namespace gets more
    /// than half of the bucket, rounded up.
    pub(super) fn may(&self, now: Moment, namespace: &str, shared: bool) -> Result<(), Moment> {
        let tokens = self.tokens_at(now);
        let missing = (self.burst - tokens.left) as usize;
        let own = self.spent.iter().rev().take(missing).filter(|(_, of)| of == namespace).count();
        let is_greedy = shared && own >= (self.burst as usize).div_ceil(2);
        if tokens.left == 0 || is_greedy { Err(tokens.refilled + self.refill) } else { Ok(()) }
    }

    pub(super) fn spend_at(&mut self, at: Moment, namespace: &str) {
        let i = self.spent.partition_point(|(t, _)| *t <= at);
        self.spent.insert(i, (at, namespace.to_owned()));
    }

    /// Puts a token back, unless it was forgotten meanwhile.
    pub(super) fn refund(&mut self, at: Moment, namespace: &str) {
        if let Some(i) = self.spent.iter().position(|(t, of)| *t == at && of == namespace) {
            self.spent.remove(i);
        }
    }

    /// Forgets what was spent at least `age` ago.
    pub(super) fn forget(&mut self, age: Duration, now: Moment) {
        while self.spent.front().is_some_and(|(at, _)| *at + age <= now) {
            if let Some((at, _)) = self.spent.pop_front() {
                let mut tokens = self.tokens;
                self.spend(&mut tokens, at);
                self.tokens = tokens;
            }
        }
    }
}
