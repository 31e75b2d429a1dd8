//! May we act now, and if not, until when: per-owner back-off, per-node budget, minimum age. Pure.
//!
//! What is true of a container (over or not) never depends on this; a threshold set too low must
//! not become a storm, though.

use std::collections::HashMap;
use std::fmt;
use std::time::Duration;

use crate::policy::{Moment, time_left};
use crate::units::Bytes;

/// After the second eviction of an owner's pods within [`QUIET`], the next waits so long …
const FIRST_BACK_OFF: Duration = Duration::from_secs(10);
/// … doubling up to this.
const LONGEST_BACK_OFF: Duration = Duration::from_secs(300);
/// An owner without an eviction for so long is forgotten.
const QUIET: Duration = Duration::from_secs(600);
/// A young container is not held where its room lasts less than so many evictions …
const URGENT_EVICTIONS: u32 = 4;
/// … or less than this.
const URGENT: Duration = Duration::from_millis(500);

/// Whose evictions are counted together: the Deployment where the names tell it, else the
/// controlling owner, else the pod.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct OwnerKey {
    /// `metadata.namespace`.
    pub namespace: String,
    /// `Deployment`, `StatefulSet`, …, `Pod`.
    pub kind: String,
    /// Its name.
    pub name: String,
}

impl fmt::Display for OwnerKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {}", self.kind, self.name)
    }
}

/// The settings.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Limits {
    /// So many evictions at once.
    pub burst: u32,
    /// One more after each of these.
    pub refill: Duration,
    /// Containers younger than this are held; 0: none is.
    pub minimum_age: Duration,
}

impl Default for Limits {
    fn default() -> Limits {
        Limits { burst: 10, refill: Duration::from_secs(6), minimum_age: Duration::from_secs(60) }
    }
}

/// Why an eviction is held, and until when.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Held {
    /// When to ask again.
    pub until: Moment,
    /// Why.
    pub why: Why,
}

/// See [`Held`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Why {
    /// The container is younger than the minimum age.
    Young,
    /// Pods of this owner were evicted before.
    Owner,
    /// This node has spent its evictions.
    Budget,
}

impl Why {
    /// All of them.
    pub const ALL: [Why; 3] = [Why::Young, Why::Owner, Why::Budget];

    /// One word, as metrics have it.
    #[must_use]
    pub fn label(self) -> &'static str {
        match self {
            Why::Young => "minimum-age",
            Why::Owner => "owner-back-off",
            Why::Budget => "node-budget",
        }
    }
}

impl fmt::Display for Why {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Why::Young => "the container has just started (--minimum-age)",
            Why::Owner => "pods of this owner were evicted shortly before (back-off)",
            Why::Budget => "this node has evicted as many pods as it may for now (--eviction-burst, --eviction-refill)",
        })
    }
}

#[derive(Clone, Copy, Debug)]
struct Past {
    /// Evictions without [`QUIET`] in between.
    count: u32,
    last: Moment,
}

impl Past {
    /// No wait after none; 10 s after the first, doubling.
    fn next(self) -> Moment {
        let doubled = FIRST_BACK_OFF.saturating_mul(1 << (self.count.max(1) - 1).min(16));
        self.last + doubled.min(LONGEST_BACK_OFF)
    }
}

/// What was done on this node in the last minutes. Its size is bounded by the budget: an owner is
/// remembered for ten minutes, and each took a token.
#[derive(Debug)]
pub struct Restraint {
    limits: Limits,
    owners: HashMap<OwnerKey, Past>,
    tokens: u32,
    /// When the last token was added.
    refilled: Moment,
}

impl Restraint {
    /// With a full budget.
    #[must_use]
    pub fn new(limits: Limits) -> Restraint {
        Restraint { limits, owners: HashMap::new(), tokens: limits.burst, refilled: Moment::ZERO }
    }

    /// A container of this age (`None`: not known), whose room lasts as given, is too young to act
    /// on. Without memory, so it holds across nodes and restarts of the agent.
    ///
    /// # Errors
    /// Until when it is held.
    pub fn old_enough(
        &self,
        now: Moment,
        age: Option<Duration>,
        room: Option<Bytes>,
        growth: Option<i64>,
        eviction_takes: Duration,
    ) -> Result<(), Held> {
        let Some(missing) = age.and_then(|age| self.limits.minimum_age.checked_sub(age)) else {
            return Ok(());
        };
        if missing.is_zero() || is_urgent(room, growth, eviction_takes) {
            return Ok(());
        }
        Err(Held { until: now + missing, why: Why::Young })
    }

    /// Takes a token for an eviction of one of this owner's pods.
    ///
    /// # Errors
    /// Until when it is held.
    pub fn reserve(&mut self, now: Moment, owner: &OwnerKey) -> Result<Reservation, Held> {
        self.refill(now);
        let before = self.owners.get(owner).copied().filter(|past| now < past.last + QUIET);
        if let Some(past) = before
            && now < past.next()
        {
            return Err(Held { until: past.next(), why: Why::Owner });
        }
        if self.tokens == 0 {
            return Err(Held { until: self.refilled + self.limits.refill, why: Why::Budget });
        }
        self.tokens -= 1;
        let count = before.map_or(0, |past| past.count).saturating_add(1);
        self.owners.insert(owner.clone(), Past { count, last: now });
        Ok(Reservation { owner: owner.clone(), at: now, before })
    }

    /// Gives back what an eviction took that did not happen.
    pub fn refund(&mut self, reservation: Reservation) {
        self.tokens = (self.tokens + 1).min(self.limits.burst);
        let Some(past) = self.owners.get_mut(&reservation.owner) else { return };
        match reservation.before {
            // Another eviction of this owner came after: only the count is one less.
            _ if past.last != reservation.at => past.count = past.count.saturating_sub(1),
            Some(before) => *past = before,
            None => {
                self.owners.remove(&reservation.owner);
            }
        }
    }

    /// How many owners are remembered.
    #[must_use]
    pub fn remembered(&self) -> usize {
        self.owners.len()
    }

    fn refill(&mut self, now: Moment) {
        self.owners.retain(|_, past| now < past.last + QUIET);
        while self.tokens < self.limits.burst && self.refilled + self.limits.refill <= now {
            self.tokens += 1;
            self.refilled += self.limits.refill;
        }
        if self.tokens >= self.limits.burst {
            // A full budget gathers nothing: the next token is counted from the first that is spent.
            self.refilled = now;
        }
    }
}

/// The room lasts less than four evictions, at least half a second, at the growth seen.
#[must_use]
pub fn is_urgent(room: Option<Bytes>, growth: Option<i64>, eviction_takes: Duration) -> bool {
    let urgent = URGENT.max(eviction_takes * URGENT_EVICTIONS);
    time_left(room, growth).is_some_and(|left| left < urgent)
}

/// A token that was taken.
#[derive(Debug)]
#[must_use = "an eviction that does not happen gives its token back"]
pub struct Reservation {
    owner: OwnerKey,
    at: Moment,
    before: Option<Past>,
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn owner(name: &str) -> OwnerKey {
        OwnerKey { namespace: "n".into(), kind: "Deployment".into(), name: name.into() }
    }

    fn seconds(s: u64) -> Duration {
        Duration::from_secs(s)
    }

    fn plenty() -> Restraint {
        Restraint::new(Limits { burst: 1000, ..Limits::default() })
    }

    #[test]
    fn an_owner_backs_off_from_its_second_eviction_on() {
        let mut restraint = plenty();
        let mut now = seconds(0);
        let mut waits = Vec::new();
        for _ in 0..8 {
            if let Err(held) = restraint.reserve(now, &owner("a")) {
                assert_eq!(held.why, Why::Owner);
                waits.push((held.until - now).as_secs());
                now = held.until;
                assert!(restraint.reserve(now - Duration::from_nanos(1), &owner("a")).is_err());
                assert!(restraint.reserve(now, &owner("a")).is_ok());
            }
        }
        assert_eq!(waits, [10, 20, 40, 80, 160, 300, 300]);
        assert!(restraint.reserve(now, &owner("b")).is_ok(), "others do not wait");
        assert!(restraint.reserve(now + QUIET, &owner("a")).is_ok(), "forgotten");
        assert_eq!(restraint.remembered(), 1);
    }

    #[test]
    fn the_node_has_a_budget() {
        let mut restraint = Restraint::new(Limits::default());
        for i in 0..10 {
            assert!(restraint.reserve(seconds(1), &owner(&i.to_string())).is_ok());
        }
        let held = restraint.reserve(seconds(1), &owner("x")).unwrap_err();
        assert_eq!(held, Held { until: seconds(7), why: Why::Budget });
        assert!(restraint.reserve(seconds(7), &owner("x")).is_ok());
        assert!(restraint.reserve(seconds(7), &owner("y")).is_err());
        let given = restraint.reserve(seconds(13), &owner("y")).unwrap();
        restraint.refund(given);
        assert!(restraint.reserve(seconds(13), &owner("y")).is_ok(), "what did not happen costs nothing");
    }

    #[test]
    fn the_young_are_held_unless_it_is_urgent() {
        let restraint = plenty();
        let now = seconds(100);
        let ask = |age, room: u64, growth| {
            let takes = Duration::from_millis(200);
            restraint.old_enough(now, age, Some(Bytes(room)), growth, takes).map_err(|h| h.until)
        };
        assert_eq!(ask(Some(seconds(20)), 1000, Some(1)), Err(seconds(140)));
        assert_eq!(ask(Some(seconds(60)), 1000, Some(1)), Ok(()));
        assert_eq!(ask(None, 1000, Some(1)), Ok(()), "no start is known: as old as it may be");
        assert_eq!(ask(Some(seconds(20)), 799, Some(1000)), Ok(()), "less than four evictions left");
        assert_eq!(ask(Some(seconds(20)), 800, Some(1000)), Err(seconds(140)));
        assert_eq!(ask(Some(seconds(20)), 0, None), Err(seconds(140)), "nothing grows");
        let off = Restraint::new(Limits { minimum_age: Duration::ZERO, ..Limits::default() });
        assert_eq!(off.old_enough(now, Some(Duration::ZERO), None, None, URGENT), Ok(()));
    }

    proptest! {
        /// In no window are there more evictions than the budget, nor of one owner sooner than its back-off.
        #[test]
        fn neither_bound_is_ever_exceeded(steps in prop::collection::vec((0u64..20_000, 0u8..6, any::<bool>()), 1..300)) {
            let limits = Limits { burst: 3, ..Limits::default() };
            let mut restraint = Restraint::new(limits);
            let mut now = Duration::ZERO;
            let mut done: Vec<(Duration, u8)> = Vec::new();
            for (millis, who, refund) in steps {
                now += Duration::from_millis(millis);
                if let Ok(reservation) = restraint.reserve(now, &owner(&who.to_string())) {
                    if refund {
                        restraint.refund(reservation);
                    } else {
                        done.push((now, who));
                    }
                }
            }
            for (i, (at, who)) in done.iter().enumerate() {
                for window in [seconds(6), seconds(60), seconds(600)] {
                    let within = done[i..].iter().take_while(|(t, _)| *t < *at + window).count() as u64;
                    prop_assert!(within <= 3 + window.as_secs() / 6, "{within} in {window:?}");
                }
                let next = done[i + 1..].iter().find(|(_, w)| w == who);
                prop_assert!(next.is_none_or(|(t, _)| *t >= *at + FIRST_BACK_OFF));
            }
            prop_assert!(restraint.remembered() <= 6);
        }
    }
}
