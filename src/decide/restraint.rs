//! Whether we may act now, and if not, when to try again. Pure.
//!
//! Whether a container is above its threshold never depends on this. Restraint exists to prevent loops, above all those
//! from a threshold that is too low. But a container that will be killed anyway must not be left to the kernel
//! because of it. Every deferral therefore ends at the container's *deadline*, the moment from which an eviction comes too late
//! ([`Evidence::deadline`]). There are two exceptions: containers of an owner whose containers keep dying young, and a
//! node that has also spent its rescues.
//!
//! [`Evidence::deadline`]: crate::decide::judge::Evidence::deadline

use std::collections::{HashMap, VecDeque};
use std::fmt;
use std::time::Duration;

use jiff::SignedDuration;

use super::budget::Budget;
use crate::ground::clock::{Moment, signed};

/// How long an owner's second eviction waits after its first …
const FIRST_BACK_OFF: Duration = Duration::from_secs(10);
/// … doubling with each further one up to this.
const LONGEST_BACK_OFF: Duration = Duration::from_secs(300);
/// After this time without an eviction, an owner is forgotten. A container that lived this long is not part of a loop.
pub const QUIET: Duration = Duration::from_secs(600);
/// After this many evictions of an owner's pods, its back-off is at its maximum.
const MOST_TIMES: usize = 6;
/// A candidate is not considered again sooner than this.
const SOONEST: Duration = Duration::from_millis(5);
/// After this many generations of young ends, an owner's young containers are left alone.
pub const GENERATIONS: u32 = 3;
/// The most owners whose young ends are remembered. Unlike evictions, kills are not bounded by our budgets.
const MOST_OWNERS: usize = 4096;

/// The owner whose evictions are counted together: the Deployment if the names reveal it, else the controlling owner,
/// else the pod.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub struct OwnerKey {
    pub namespace: String,
    pub kind: String,
    pub name: String,
}

impl fmt::Display for OwnerKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {}", self.kind, self.name)
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Limits {
    /// The most evictions at once.
    pub burst: u32,
    /// Additional evictions for containers that are at their deadline.
    pub rescue_burst: u32,
    /// Each budget gains one more eviction after this time.
    pub refill: Duration,
    /// Evictions of containers younger than this are deferred; 0 defers none.
    pub minimum_age: Duration,
}

impl Default for Limits {
    fn default() -> Limits {
        Limits { burst: 10, rescue_burst: 30, refill: Duration::from_secs(6), minimum_age: Duration::from_secs(60) }
    }
}

/// What restraint needs to know about a container that we want to act on.
#[derive(Clone, Copy, Debug)]
pub struct Candidate<'a> {
    /// The owner of its pod.
    pub owner: &'a OwnerKey,
    /// How long it has been running; `None` if unknown, which counts as old.
    pub age: Option<Duration>,
    /// How long it can still wait. Zero: not at all. `None`: nothing indicates that it will be killed.
    pub deadline: Option<Duration>,
    /// Another pod of the owner was created after the owner's last eviction, and is ready on this node.
    pub replaced: bool,
    /// This node also has guarded pods of other namespaces.
    pub others: bool,
}

impl Candidate<'_> {
    fn at_deadline(&self) -> bool {
        self.deadline == Some(Duration::ZERO)
    }

    fn is_younger_than(&self, age: Duration) -> bool {
        self.age.is_some_and(|own| own < age)
    }
}

/// Why an eviction is deferred, and until when.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Deferral {
    /// When to try again.
    pub until: Moment,
    pub reason: Reason,
}

/// See [`Deferral`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Reason {
    /// The container is younger than the minimum age.
    Young,
    /// Pods of this owner were evicted before, and the container is no older than one in a loop would be.
    Owner,
    /// Pods of this owner are evicted one after the other, as long as there is time for that.
    Turn,
    /// This node has spent its budget of evictions.
    Budget,
    /// This node has also spent the budget for containers at their deadline.
    Rescues,
    /// The owner's containers keep dying young.
    DiesYoung,
}

impl Reason {
    pub const ALL: [Reason; 6] =
        [Reason::Young, Reason::Owner, Reason::Turn, Reason::Budget, Reason::Rescues, Reason::DiesYoung];

    /// The word that metrics use.
    #[must_use]
    pub fn label(self) -> &'static str {
        match self {
            Reason::Young => "minimum-age",
            Reason::Owner => "owner-back-off",
            Reason::Turn => "owner-turn",
            Reason::Budget => "node-budget",
            Reason::Rescues => "rescue-budget",
            Reason::DiesYoung => "keeps-dying-young",
        }
    }
}

impl fmt::Display for Reason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Reason::Young => "the container has just started (--minimum-age)",
            Reason::Owner => "pods of this owner were evicted or restarted shortly before (back-off)",
            Reason::Turn => "another pod of this owner was evicted or restarted shortly before, and there is time to wait until it is back",
            Reason::Budget => "this node has evicted as many pods as it may for now (--eviction-burst, --eviction-refill)",
            Reason::Rescues => {
                "this node has evicted as many pods as it may, those that cannot wait included (--rescue-burst, --eviction-refill)"
            }
            Reason::DiesYoung => {
                "containers of this owner keep dying within --minimum-age of their start, so they are left to the kernel and its crash-loop back-off"
            }
        })
    }
}

/// The budget that a token belongs to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Purse {
    Evictions,
    Rescues,
}

/// A token that was taken for an eviction.
#[derive(Debug)]
#[must_use = "an eviction that does not happen gives its token back"]
pub struct Reservation {
    owner: OwnerKey,
    at: Moment,
    purse: Purse,
}

impl Reservation {
    /// The owner of the pod that it is for.
    #[must_use]
    pub fn owner(&self) -> &OwnerKey {
        &self.owner
    }
}

/// How an owner's containers ended young, which means by an eviction or an OOM kill within the minimum age. Replicas
/// that die together are one generation. Moments count from the agent's start; earlier ones are negative.
#[derive(Clone, Copy, Debug)]
struct YoungEnds {
    generations: u32,
    /// When the last counted generation ended.
    counted: SignedDuration,
    /// When the last generation ended, whether it was counted or not.
    last: SignedDuration,
}

impl YoungEnds {
    fn has_lapsed(&self, now: SignedDuration) -> bool {
        now >= self.last.saturating_add(signed(QUIET))
    }
}

/// What was done on this node in the last minutes. The budgets bound `owners`: each eviction took a token and is forgotten
/// after [`QUIET`]. `MOST_OWNERS` bounds `young_ends`.
#[derive(Debug)]
pub struct Restraint {
    limits: Limits,
    /// Evictions of each owner's pods, the oldest first.
    owners: HashMap<OwnerKey, VecDeque<Moment>>,
    young_ends: HashMap<OwnerKey, YoungEnds>,
    evictions: Budget,
    rescues: Budget,
}

impl Restraint {
    #[must_use]
    pub fn new(limits: Limits) -> Restraint {
        Restraint {
            limits,
            owners: HashMap::new(),
            young_ends: HashMap::new(),
            evictions: Budget::new(limits.burst, limits.refill),
            rescues: Budget::new(limits.rescue_burst, limits.refill),
        }
    }

    /// Takes a token for the eviction of a candidate's pod. `again`: the reservation of an earlier attempt with unknown
    /// outcome. The new one replaces it, so one eviction is never charged twice.
    ///
    /// # Errors
    /// Until when it is deferred, and why. `again` is kept in this case.
    pub fn reserve(
        &mut self,
        now: Moment,
        candidate: &Candidate<'_>,
        again: &mut Option<Reservation>,
    ) -> Result<Reservation, Deferral> {
        self.forget(now);
        if let Some(earlier) = again {
            self.take_back(earlier);
        }
        let may = self.may(now, candidate);
        if let (Err(_), Some(earlier)) = (&may, &again) {
            self.charge(&earlier.owner, earlier.at, earlier.purse);
        }
        let purse = may?;
        *again = None;
        self.charge(candidate.owner, now, purse);
        Ok(Reservation { owner: candidate.owner.clone(), at: now, purse })
    }

    /// Whether an eviction would be deferred now.
    #[must_use]
    pub fn defers(&self, now: Moment, candidate: &Candidate<'_>) -> bool {
        self.may(now, candidate).is_err()
    }

    /// Gives back the token of an eviction that did not happen.
    pub fn refund(&mut self, reservation: &Reservation) {
        self.take_back(reservation);
    }

    /// This owner's last remembered eviction.
    #[must_use]
    pub fn last_eviction(&self, owner: &OwnerKey) -> Option<Moment> {
        self.owners.get(owner)?.back().copied()
    }

    /// A container of this owner ran from `started` to `ended`, and was then evicted or killed for lack of memory. It
    /// counts as a generation if it was young and started after the end of the last counted generation.
    pub fn ended(&mut self, owner: &OwnerKey, started: SignedDuration, ended: SignedDuration) {
        self.young_ends(owner, started, ended, 1);
    }

    /// The same for a container of which only the last end is known, and how many such ends there were.
    pub fn young_ends(&mut self, owner: &OwnerKey, started: SignedDuration, ended: SignedDuration, generations: u32) {
        if ended.saturating_sub(started) >= signed(self.limits.minimum_age) {
            return;
        }
        if self.young_ends.len() >= MOST_OWNERS && !self.young_ends.contains_key(owner) {
            return;
        }
        match self.young_ends.get_mut(owner).filter(|ends| !ends.has_lapsed(ended)) {
            None => {
                let ends = YoungEnds { generations, counted: ended, last: ended };
                self.young_ends.insert(owner.clone(), ends);
            }
            Some(ends) => {
                if started > ends.counted {
                    ends.generations = ends.generations.saturating_add(generations);
                    ends.counted = ended;
                }
                ends.last = ends.last.max(ended);
            }
        }
    }

    fn may(&self, now: Moment, candidate: &Candidate<'_>) -> Result<Purse, Deferral> {
        let Candidate { owner, age, .. } = *candidate;
        let missing_age = age.map_or(Duration::ZERO, |age| self.limits.minimum_age.saturating_sub(age));
        // If the container cannot wait that long, the deferral ends at its deadline.
        let deferred = |until: Moment, reason: Reason| {
            let until = candidate.deadline.map_or(until, |left| until.min(now + left.max(SOONEST)));
            Err(Deferral { until, reason })
        };
        if !missing_age.is_zero()
            && let Some(ends) = self.young_ends.get(owner)
            && ends.generations >= GENERATIONS
            && !ends.has_lapsed(signed(now))
        {
            let quiet = Duration::try_from(ends.last.saturating_add(signed(QUIET))).unwrap_or_default();
            return Err(Deferral { until: quiet.min(now + missing_age), reason: Reason::DiesYoung });
        }
        if !candidate.at_deadline() {
            if !missing_age.is_zero() {
                return deferred(now + missing_age, Reason::Young);
            }
            let next = self.owners.get(owner).and_then(next_of).filter(|next| now < *next);
            match next {
                Some(next) if candidate.is_younger_than(QUIET) => return deferred(next, Reason::Owner),
                Some(next) if !candidate.replaced => return deferred(next, Reason::Turn),
                _ => {}
            }
        }
        let Err(next) = self.evictions.may(now, &owner.namespace, false) else {
            return Ok(Purse::Evictions);
        };
        if !candidate.at_deadline() {
            return deferred(next, Reason::Budget);
        }
        match self.rescues.may(now, &owner.namespace, candidate.others) {
            Ok(()) => Ok(Purse::Rescues),
            Err(rescue) => Err(Deferral { until: next.min(rescue), reason: Reason::Rescues }),
        }
    }

    fn purse(&mut self, purse: Purse) -> &mut Budget {
        match purse {
            Purse::Evictions => &mut self.evictions,
            Purse::Rescues => &mut self.rescues,
        }
    }

    fn charge(&mut self, owner: &OwnerKey, at: Moment, purse: Purse) {
        self.purse(purse).spend_at(at, &owner.namespace);
        let times = self.owners.entry(owner.clone()).or_default();
        times.insert(times.partition_point(|t| *t <= at), at);
    }

    fn take_back(&mut self, reservation: &Reservation) {
        let Reservation { owner, at, purse } = reservation;
        self.purse(*purse).refund(*at, &owner.namespace);
        if let Some(times) = self.owners.get_mut(owner)
            && let Ok(i) = times.binary_search(at)
        {
            times.remove(i);
        }
    }

    /// How many owners are remembered, for their evictions and for young ends.
    #[must_use]
    pub fn remembered(&self) -> usize {
        self.owners.len() + self.young_ends.len()
    }

    /// Forgets everything older than ten minutes.
    fn forget(&mut self, now: Moment) {
        self.evictions.forget(QUIET, now);
        self.rescues.forget(QUIET, now);
        self.young_ends.retain(|_, ends| !ends.has_lapsed(signed(now)));
        self.owners.retain(|_, times| {
            // Keep as many as show that the back-off is at its maximum, and some more: evictions may still turn out not
            // to have happened.
            while times.len() > 2 * MOST_TIMES && times.front().is_some_and(|first| *first + QUIET <= now) {
                times.pop_front();
            }
            times.back().is_some_and(|last| now < *last + QUIET)
        });
    }
}

/// When an owner's next eviction may be: 10 s after its last. The wait doubles with each earlier eviction, as long as
/// less than [`QUIET`] lies between two of them.
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

    /// One that lives for five minutes, and that nothing says will be killed.
    fn flat(owner: &OwnerKey) -> Candidate<'_> {
        Candidate { owner, age: Some(seconds(300)), deadline: None, replaced: false, others: false }
    }

    fn old(owner: &OwnerKey) -> Candidate<'_> {
        Candidate { age: Some(QUIET), ..flat(owner) }
    }

    fn dying(owner: &OwnerKey) -> Candidate<'_> {
        Candidate { deadline: Some(Duration::ZERO), ..old(owner) }
    }

    fn ask(restraint: &mut Restraint, now: Duration, candidate: &Candidate<'_>) -> Result<(), (u64, Reason)> {
        let asked = restraint.reserve(now, candidate, &mut None);
        asked.map(|_| ()).map_err(|deferred| (deferred.until.as_secs(), deferred.reason))
    }

    #[test]
    fn an_owner_backs_off_from_its_second_eviction_on() {
        for (candidate, reason) in [(flat as fn(&OwnerKey) -> Candidate<'_>, Reason::Owner), (old, Reason::Turn)] {
            let mut restraint = plenty();
            let (a, b) = (owner("a"), owner("b"));
            let mut now = seconds(0);
            let mut waits = Vec::new();
            for _ in 0..8 {
                if let Err(deferred) = restraint.reserve(now, &candidate(&a), &mut None) {
                    assert_eq!(deferred.reason, reason);
                    waits.push((deferred.until - now).as_secs());
                    now = deferred.until;
                    let just_before = now - Duration::from_nanos(1);
                    assert!(restraint.reserve(just_before, &candidate(&a), &mut None).is_err());
                    assert!(restraint.reserve(now, &candidate(&a), &mut None).is_ok());
                }
            }
            assert_eq!(waits, [10, 20, 40, 80, 160, 300, 300]);
            assert_eq!(ask(&mut restraint, now, &candidate(&b)), Ok(()), "others do not wait");
            assert_eq!(restraint.remembered(), 2);
            assert_eq!(ask(&mut restraint, now + QUIET, &candidate(&a)), Ok(()), "forgotten");
            assert_eq!(restraint.remembered(), 1);
        }
    }

    #[test]
    fn a_turn_comes_when_the_pod_before_is_replaced_and_a_back_off_does_not_end_by_that() {
        let mut restraint = plenty();
        let a = owner("a");
        assert_eq!(ask(&mut restraint, seconds(0), &old(&a)), Ok(()));
        assert_eq!(ask(&mut restraint, seconds(2), &old(&a)), Err((10, Reason::Turn)));
        let young = Candidate { age: Some(QUIET - seconds(1)), replaced: true, ..old(&a) };
        assert_eq!(ask(&mut restraint, seconds(2), &young), Err((10, Reason::Owner)));
        assert_eq!(ask(&mut restraint, seconds(2), &Candidate { replaced: true, ..old(&a) }), Ok(()));
        let unknown = Candidate { age: None, ..old(&a) };
        assert_eq!(ask(&mut restraint, seconds(3), &unknown), Err((22, Reason::Turn)), "as old as it may be");
    }

    /// Whichever the hold, and whatever happened before.
    #[test]
    fn no_hold_lasts_beyond_the_deadline() {
        let mut restraint = Restraint::new(Limits { burst: 1, ..Limits::default() });
        let (a, b) = (owner("a"), owner("b"));
        let in_three = Some(seconds(3));
        let newborn = Candidate { age: Some(seconds(20)), deadline: in_three, ..old(&a) };
        assert_eq!(ask(&mut restraint, seconds(100), &newborn), Err((103, Reason::Young)));
        let newborn = Candidate { deadline: Some(Duration::ZERO), ..newborn };
        assert_eq!(ask(&mut restraint, seconds(103), &newborn), Ok(()));
        assert_eq!(
            ask(&mut restraint, seconds(104), &Candidate { deadline: in_three, ..old(&a) }),
            Err((107, Reason::Turn))
        );
        assert_eq!(
            ask(&mut restraint, seconds(104), &Candidate { deadline: in_three, ..flat(&a) }),
            Err((107, Reason::Owner))
        );
        assert_eq!(
            ask(&mut restraint, seconds(104), &Candidate { deadline: in_three, ..old(&b) }),
            Err((107, Reason::Budget))
        );
        assert_eq!(ask(&mut restraint, seconds(107), &dying(&a)), Ok(()));
        assert_eq!(ask(&mut restraint, seconds(107), &dying(&b)), Ok(()));
    }

    #[test]
    fn people_are_told_why_and_whose() {
        assert_eq!(owner("web").to_string(), "Deployment web");
        for reason in Reason::ALL {
            let word = match reason {
                Reason::Owner => "back-off",
                Reason::Turn => "until it is back",
                _ => "--",
            };
            assert!(reason.to_string().contains(word), "{reason}");
        }
    }

    #[test]
    fn the_node_has_a_budget_and_another_for_rescues() {
        let mut restraint = Restraint::new(Limits::default());
        let owners: Vec<_> = (0..50).map(|i| owner(&i.to_string())).collect();
        for owner in &owners[..10] {
            assert_eq!(ask(&mut restraint, seconds(1), &old(owner)), Ok(()));
        }
        assert_eq!(ask(&mut restraint, seconds(1), &old(&owners[10])), Err((7, Reason::Budget)));
        for owner in &owners[10..40] {
            assert_eq!(ask(&mut restraint, seconds(1), &dying(owner)), Ok(()));
        }
        assert_eq!(ask(&mut restraint, seconds(1), &dying(&owners[40])), Err((7, Reason::Rescues)));
        // One more of each.
        assert_eq!(ask(&mut restraint, seconds(7), &old(&owners[41])), Ok(()));
        assert_eq!(ask(&mut restraint, seconds(7), &old(&owners[42])), Err((13, Reason::Budget)));
        assert_eq!(ask(&mut restraint, seconds(7), &dying(&owners[42])), Ok(()));
        assert_eq!(ask(&mut restraint, seconds(7), &dying(&owners[43])), Err((13, Reason::Rescues)));
        let given = restraint.reserve(seconds(13), &old(&owners[44]), &mut None).unwrap();
        restraint.refund(&given);
        assert_eq!(ask(&mut restraint, seconds(13), &old(&owners[45])), Ok(()), "what did not happen costs nothing");
    }

    #[test]
    fn no_namespace_takes_more_than_half_of_the_rescues_while_another_could_need_them() {
        let mut restraint = Restraint::new(Limits { burst: 1, rescue_burst: 5, ..Limits::default() });
        let (mine, other) = (owner("a"), OwnerKey { namespace: "other".into(), ..owner("a") });
        let mine = Candidate { others: true, ..dying(&mine) };
        let other = Candidate { others: true, ..dying(&other) };
        for _ in 0..4 {
            assert_eq!(ask(&mut restraint, seconds(1), &mine), Ok(()));
        }
        assert_eq!(ask(&mut restraint, seconds(1), &mine), Err((7, Reason::Rescues)), "three of five, and the first");
        assert_eq!(ask(&mut restraint, seconds(1), &other), Ok(()));
        assert_eq!(
            ask(&mut restraint, seconds(1), &Candidate { others: false, ..mine }),
            Ok(()),
            "nobody else is there"
        );
        assert_eq!(ask(&mut restraint, seconds(1), &other), Err((7, Reason::Rescues)));
    }

    /// An answer can be late: what is given back then is as if it had never been taken, no more.
    #[test]
    fn a_late_refund_gives_no_more_than_was_taken() {
        let mut restraint = Restraint::new(Limits { burst: 1, ..Limits::default() });
        let refused = restraint.reserve(seconds(0), &old(&owner("a")), &mut None).unwrap();
        assert_eq!(ask(&mut restraint, seconds(6), &old(&owner("b"))), Ok(()));
        restraint.refund(&refused);
        assert_eq!(ask(&mut restraint, seconds(7), &old(&owner("c"))), Err((12, Reason::Budget)), "b's is still spent");
    }

    #[test]
    fn a_lost_one_is_exchanged_for_one_of_now() {
        let mut restraint = Restraint::new(Limits { burst: 1, ..Limits::default() });
        let (a, b) = (owner("a"), owner("b"));
        let mut lost = restraint.reserve(seconds(0), &old(&a), &mut None).ok();
        assert_eq!(ask(&mut restraint, seconds(6), &old(&b)), Ok(()));
        let deferred = restraint.reserve(seconds(7), &old(&a), &mut lost).unwrap_err();
        assert_eq!(deferred, Deferral { until: seconds(12), reason: Reason::Budget });
        assert!(lost.is_some(), "it may have happened");
        assert!(restraint.reserve(seconds(12), &old(&a), &mut lost).is_ok(), "not held by itself");
        assert!(lost.is_none());
        assert_eq!(
            ask(&mut restraint, seconds(18), &old(&a)),
            Err((22, Reason::Turn)),
            "it counts once, from its last try on"
        );
    }

    /// Those before it are remembered for as long as the last one may turn out not to have happened.
    #[test]
    fn the_longest_back_off_outlasts_a_refund() {
        let mut restraint = plenty();
        let a = owner("a");
        let mut lost = None;
        for i in 0..7 {
            lost = restraint.reserve(seconds(i), &dying(&a), &mut None).ok();
        }
        assert_eq!(ask(&mut restraint, seconds(8), &flat(&a)), Err((306, Reason::Owner)));
        restraint.refund(&lost.unwrap());
        assert_eq!(ask(&mut restraint, seconds(8), &flat(&a)), Err((305, Reason::Owner)), "six are left");
    }

    #[test]
    fn the_young_are_held_until_they_are_of_age() {
        let mut restraint = plenty();
        let a = owner("a");
        let aged = |s| Candidate { age: Some(seconds(s)), ..flat(&a) };
        assert_eq!(ask(&mut restraint, seconds(100), &aged(20)), Err((140, Reason::Young)));
        assert_eq!(ask(&mut restraint, seconds(100), &aged(60)), Ok(()));
        let mut off = Restraint::new(Limits { minimum_age: Duration::ZERO, ..Limits::default() });
        assert_eq!(ask(&mut off, seconds(100), &aged(0)), Ok(()));
    }

    /// A container's start and end, in seconds.
    fn end(restraint: &mut Restraint, started: i64, ended: i64) {
        restraint.ended(&owner("a"), SignedDuration::from_secs(started), SignedDuration::from_secs(ended));
    }

    #[test]
    fn what_keeps_dying_young_is_left_alone_until_it_is_quiet_or_old() {
        let mut restraint = plenty();
        let a = owner("a");
        let newborn = Candidate { age: Some(seconds(20)), ..dying(&a) };
        let two = |restraint: &mut Restraint, generation: i64| {
            end(restraint, generation * 100, generation * 100 + 20);
            end(restraint, generation * 100 + 1, generation * 100 + 21);
        };
        two(&mut restraint, -1);
        two(&mut restraint, 0);
        assert!(ask(&mut restraint, seconds(50), &newborn).is_ok(), "two generations, of two each");
        end(&mut restraint, 100, 170);
        assert!(ask(&mut restraint, seconds(180), &newborn).is_ok(), "that one was no longer young");
        end(&mut restraint, 180, 200);
        assert_eq!(
            ask(&mut restraint, seconds(210), &newborn),
            Err((250, Reason::DiesYoung)),
            "though it is at its deadline"
        );
        assert_eq!(ask(&mut restraint, seconds(210), &Candidate { owner: &owner("b"), ..newborn }), Ok(()));
        assert_eq!(ask(&mut restraint, seconds(250), &Candidate { age: Some(seconds(60)), ..newborn }), Ok(()));
        // Another young end keeps it so, whether it counts as a generation or not.
        end(&mut restraint, 199, 210);
        assert!(ask(&mut restraint, seconds(200) + QUIET, &newborn).is_err());
        assert_eq!(ask(&mut restraint, seconds(210) + QUIET, &newborn), Ok(()), "ten quiet minutes");
        end(&mut restraint, 820, 830);
        assert_eq!(ask(&mut restraint, seconds(840), &newborn), Ok(()), "counted anew");
    }

    #[test]
    fn only_so_many_owners_are_remembered() {
        let mut restraint = plenty();
        for i in 0..2 * MOST_OWNERS {
            restraint.ended(&owner(&i.to_string()), SignedDuration::ZERO, SignedDuration::from_secs(1));
        }
        assert_eq!(restraint.remembered(), MOST_OWNERS);
        assert!(ask(&mut restraint, QUIET + seconds(1), &old(&owner("a"))).is_ok());
        assert_eq!(restraint.remembered(), 1);
    }

    proptest! {
        /// In no window are there more evictions than both budgets, nor of one owner sooner than its back-off unless it
        /// could not wait; and whoever cannot wait is held by nothing but a budget that is spent.
        #[test]
        fn neither_bound_is_ever_exceeded(
            steps in prop::collection::vec((0u64..20_000, 0u8..6, any::<bool>(), any::<bool>()), 1..300),
        ) {
            let limits = Limits { burst: 3, rescue_burst: 2, ..Limits::default() };
            let mut restraint = Restraint::new(limits);
            let mut now = Duration::ZERO;
            let mut done: Vec<(Duration, u8, bool)> = Vec::new();
            let mut late = Vec::new();
            for (millis, who, refund, is_dying) in steps {
                now += Duration::from_millis(millis);
                if millis % 3 == 0 {
                    late.drain(..).for_each(|r| restraint.refund(&r));
                }
                let owner = owner(&who.to_string());
                let candidate = if is_dying { dying(&owner) } else { flat(&owner) };
                match restraint.reserve(now, &candidate, &mut None) {
                    Ok(reservation) if refund => late.push(reservation),
                    Ok(_) => done.push((now, who, is_dying)),
                    Err(deferred) => prop_assert!(!is_dying || deferred.reason == Reason::Rescues, "{deferred:?}"),
                }
            }
            for (i, (at, who, _)) in done.iter().enumerate() {
                for window in [seconds(6), seconds(60), seconds(600)] {
                    let within = done[i..].iter().take_while(|(t, ..)| *t < *at + window).count() as u64;
                    prop_assert!(within <= 3 + 2 + 2 * (window.as_secs() / 6), "{within} in {window:?}");
                    let unhurried = done[i..].iter().take_while(|(t, ..)| *t < *at + window).filter(|(.., d)| !d).count() as u64;
                    prop_assert!(unhurried <= 3 + window.as_secs() / 6, "{unhurried} that could wait in {window:?}");
                }
                let next = done[i + 1..].iter().find(|(_, w, _)| w == who);
                prop_assert!(next.is_none_or(|(t, _, is_dying)| *is_dying || *t >= *at + FIRST_BACK_OFF));
            }
            prop_assert!(restraint.remembered() <= 6);
        }
    }
}
