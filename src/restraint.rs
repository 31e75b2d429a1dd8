//! May we act now, and if not, until when: per-owner back-off, per-node budget, minimum age. Pure.
//!
//! What is true of a container (over or not) never depends on this; a threshold set too low must
//! not become a storm, though.

use std::collections::{HashMap, VecDeque};
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
/// After so many evictions of an owner's pods its back-off is at its longest.
const MOST_TIMES: usize = 6;
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

/// How far the budget had come at a moment.
#[derive(Clone, Copy, Debug)]
struct Tokens {
    left: u32,
    /// When the last one was added.
    refilled: Moment,
}

impl Tokens {
    fn refill(&mut self, limits: Limits, now: Moment) {
        while self.left < limits.burst && self.refilled + limits.refill <= now {
            self.left += 1;
            self.refilled += limits.refill;
        }
        if self.left >= limits.burst {
            // A full budget gathers nothing: the next token is counted from the first that is spent.
            self.refilled = now;
        }
    }

    fn spend(&mut self, limits: Limits, at: Moment) {
        self.refill(limits, at);
        self.left = self.left.saturating_sub(1);
    }
}

/// What was done on this node in the last minutes. Kept as the times at which it was done, so that
/// what did not happen after all can be taken out as if it had never been, however late that is
/// told. Its size is bounded by the budget: each is remembered for ten minutes, and took a token.
#[derive(Debug)]
pub struct Restraint {
    limits: Limits,
    /// Evictions of each owner's pods, the oldest first.
    owners: HashMap<OwnerKey, VecDeque<Moment>>,
    /// Before all that are in `spent`.
    tokens: Tokens,
    /// When tokens were spent, the oldest first.
    spent: VecDeque<Moment>,
}

impl Restraint {
    /// With a full budget.
    #[must_use]
    pub fn new(limits: Limits) -> Restraint {
        let tokens = Tokens { left: limits.burst, refilled: Moment::ZERO };
        Restraint { limits, owners: HashMap::new(), tokens, spent: VecDeque::new() }
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

    /// Takes a token for an eviction of one of this owner's pods. `again`: the one of an earlier
    /// request for the same eviction, whose answer was lost; it is taken in exchange.
    ///
    /// # Errors
    /// Until when it is held. `again` is kept then.
    pub fn reserve(
        &mut self,
        now: Moment,
        owner: &OwnerKey,
        again: &mut Option<Reservation>,
    ) -> Result<Reservation, Held> {
        self.forget(now);
        if let Some(earlier) = again {
            self.take_out(earlier);
        }
        let may = self.may(now, owner);
        if let (Err(_), Some(earlier)) = (&may, &again) {
            self.put_in(&earlier.owner, earlier.at);
        }
        may?;
        *again = None;
        self.put_in(owner, now);
        Ok(Reservation { owner: owner.clone(), at: now })
    }

    /// Gives back what an eviction took that did not happen.
    pub fn refund(&mut self, reservation: Reservation) {
        self.take_out(&reservation);
    }

    fn may(&self, now: Moment, owner: &OwnerKey) -> Result<(), Held> {
        let until = self.owners.get(owner).and_then(next_of);
        if let Some(until) = until.filter(|until| now < *until) {
            return Err(Held { until, why: Why::Owner });
        }
        let mut tokens = self.tokens;
        self.spent.iter().for_each(|at| tokens.spend(self.limits, *at));
        tokens.refill(self.limits, now);
        match tokens.left {
            0 => Err(Held { until: tokens.refilled + self.limits.refill, why: Why::Budget }),
            _ => Ok(()),
        }
    }

    fn put_in(&mut self, owner: &OwnerKey, at: Moment) {
        let insert = |times: &mut VecDeque<Moment>| times.insert(times.partition_point(|t| *t <= at), at);
        insert(&mut self.spent);
        let times = self.owners.entry(owner.clone()).or_default();
        insert(times);
    }

    fn take_out(&mut self, reservation: &Reservation) {
        let at = reservation.at;
        let remove = |times: &mut VecDeque<Moment>| {
            // What was forgotten meanwhile cannot be given back.
            if let Ok(i) = times.binary_search(&at) {
                times.remove(i);
            }
        };
        remove(&mut self.spent);
        if let Some(times) = self.owners.get_mut(&reservation.owner) {
            remove(times);
        }
    }

    /// How many owners are remembered.
    #[must_use]
    pub fn remembered(&self) -> usize {
        self.owners.len()
    }

    /// What is older than ten minutes.
    fn forget(&mut self, now: Moment) {
        while let Some(at) = self.spent.front().copied().filter(|at| *at + QUIET <= now) {
            self.tokens.spend(self.limits, at);
            self.spent.pop_front();
        }
        self.owners.retain(|_, times| {
            // As many as are needed to know that the back-off is at its longest.
            while times.len() > MOST_TIMES {
                times.pop_front();
            }
            times.back().is_some_and(|last| now < *last + QUIET)
        });
    }
}

/// When an owner's next eviction may be: 10 s after its last, doubling with each without
/// [`QUIET`] in between.
fn next_of(times: &VecDeque<Moment>) -> Option<Moment> {
    let mut newest_first = times.iter().rev();
    let last = *newest_first.next()?;
    let (mut doublings, mut later) = (0, last);
    for at in newest_first {
        if later >= *at + QUIET {
            break;
        }
        later = *at;
        doublings += 1;
    }
    Some(last + FIRST_BACK_OFF.saturating_mul(1 << doublings.min(16)).min(LONGEST_BACK_OFF))
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
            if let Err(held) = restraint.reserve(now, &owner("a"), &mut None) {
                assert_eq!(held.why, Why::Owner);
                waits.push((held.until - now).as_secs());
                now = held.until;
                assert!(restraint.reserve(now - Duration::from_nanos(1), &owner("a"), &mut None).is_err());
                assert!(restraint.reserve(now, &owner("a"), &mut None).is_ok());
            }
        }
        assert_eq!(waits, [10, 20, 40, 80, 160, 300, 300]);
        assert!(restraint.reserve(now, &owner("b"), &mut None).is_ok(), "others do not wait");
        assert_eq!(restraint.remembered(), 2);
        assert!(restraint.reserve(now + QUIET, &owner("a"), &mut None).is_ok(), "forgotten");
        assert_eq!(restraint.remembered(), 1);
    }

    #[test]
    fn people_are_told_why_and_whose() {
        assert_eq!(owner("web").to_string(), "Deployment web");
        for why in Why::ALL {
            let flag = if why == Why::Owner { "back-off" } else { "--" };
            assert!(why.to_string().contains(flag), "{why}");
        }
    }

    #[test]
    fn the_node_has_a_budget() {
        let mut restraint = Restraint::new(Limits::default());
        for i in 0..10 {
            assert!(restraint.reserve(seconds(1), &owner(&i.to_string()), &mut None).is_ok());
        }
        let held = restraint.reserve(seconds(1), &owner("x"), &mut None).unwrap_err();
        assert_eq!(held, Held { until: seconds(7), why: Why::Budget });
        assert!(restraint.reserve(seconds(7), &owner("x"), &mut None).is_ok());
        assert!(restraint.reserve(seconds(7), &owner("y"), &mut None).is_err());
        let given = restraint.reserve(seconds(13), &owner("y"), &mut None).unwrap();
        restraint.refund(given);
        assert!(restraint.reserve(seconds(13), &owner("y"), &mut None).is_ok(), "what did not happen costs nothing");
    }

    /// An answer can be late: what is given back then is as if it had never been taken, no more.
    #[test]
    fn a_late_refund_gives_no_more_than_was_taken() {
        let mut restraint = Restraint::new(Limits { burst: 1, ..Limits::default() });
        let refused = restraint.reserve(seconds(0), &owner("a"), &mut None).unwrap();
        assert!(restraint.reserve(seconds(6), &owner("b"), &mut None).is_ok());
        restraint.refund(refused);
        let held = restraint.reserve(seconds(7), &owner("c"), &mut None).unwrap_err();
        assert_eq!(held, Held { until: seconds(12), why: Why::Budget }, "b's is still spent");
    }

    #[test]
    fn a_lost_one_is_exchanged_for_one_of_now() {
        let mut restraint = Restraint::new(Limits { burst: 1, ..Limits::default() });
        let mut lost = restraint.reserve(seconds(0), &owner("a"), &mut None).ok();
        assert!(restraint.reserve(seconds(6), &owner("b"), &mut None).is_ok());
        let held = restraint.reserve(seconds(7), &owner("a"), &mut lost).unwrap_err();
        assert_eq!(held, Held { until: seconds(12), why: Why::Budget });
        assert!(lost.is_some(), "it may have happened");
        assert!(restraint.reserve(seconds(12), &owner("a"), &mut lost).is_ok(), "not held by itself");
        assert!(lost.is_none());
        let held = restraint.reserve(seconds(18), &owner("a"), &mut None).unwrap_err();
        assert_eq!(held, Held { until: seconds(22), why: Why::Owner }, "it counts once, from its last try on");
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
            let mut late = Vec::new();
            for (millis, who, refund) in steps {
                now += Duration::from_millis(millis);
                if millis % 3 == 0 {
                    late.drain(..).for_each(|r| restraint.refund(r));
                }
                if let Ok(reservation) = restraint.reserve(now, &owner(&who.to_string()), &mut None) {
                    if refund {
                        late.push(reservation);
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
