//! Which remedy is tried: the gentlest that is still in time. Pure.
//!
//! A gentle remedy must never cost the container its life. So a remedy is *in time* only if, should it fail, the quickest of those
//! after it would still be in time, even if growth rises to four times what was seen. And it is given up at the last moment
//! at which the next one is still in time (`progress.rs`). How far a raise goes: `step.rs`.

use std::fmt;
use std::time::Duration;

use super::judge::Evidence;
use super::schedule::GROWTH_MAY_RISE;
use crate::ground::units::{Bytes, Percent};
use crate::pods::guard::Remedy;

/// Between the moment when something is decided and the moment when it is on its way: two samples 5 ms apart, and what the
/// loop and the connection take (measured: 0.8 ms, one in a hundred 7.5 ms).
pub(super) const REACTION: Duration = Duration::from_millis(15);
/// A raise, until the kernel has the limit (measured: median 44 ms, 26 to 83, on a busy node 33 to 69).
pub const RAISE: Spread = Spread { p50: Duration::from_millis(44), p90: Duration::from_millis(70) };
/// A restart, until the process has ended, one that ends at once on SIGTERM (measured: median 56 ms, 48 to 80; the question to
/// the budgets takes another 15).
pub const RESTART: Spread = Spread { p50: Duration::from_millis(70), p90: Duration::from_millis(95) };
/// An eviction, until the process has ended: 25 to 41 ms on an idle cluster (measured), and a network lies between; as a
/// Deployment's pod 54 to 158 ms (measured).
pub const EVICT: Spread = Spread { p50: Duration::from_millis(60), p90: Duration::from_millis(160) };
/// What the disruption budgets take to answer (measured: 13 to 18 ms).
const QUESTION: Duration = Duration::from_millis(15);

/// What this agent may do besides evicting, and how far its raises may go.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Allowed {
    pub raise: bool,
    pub restart: bool,
    /// The share of the machine's memory that stays available (`MemAvailable`) after a raise.
    pub raise_reserve: Percent,
    /// The most that all raises of the node's containers add up to, as a share of the machine's memory.
    pub raise_budget: Percent,
}

impl Allowed {
    /// Whether this agent may use a remedy at all.
    #[must_use]
    pub fn permits(&self, remedy: Remedy) -> bool {
        match remedy {
            Remedy::Raise => self.raise,
            Remedy::Restart => self.restart,
            Remedy::Evict => true,
        }
    }

    /// As the flag `--remedies` names them; an eviction is always allowed.
    #[must_use]
    pub fn names(&self) -> &'static str {
        match (self.raise, self.restart) {
            (false, false) => "evict",
            (true, false) => "raise,evict",
            (false, true) => "restart,evict",
            (true, true) => "raise,restart,evict",
        }
    }

    /// Whether any remedy needs the permission to patch pods/resize.
    #[must_use]
    pub fn resizes(&self) -> bool {
        self.raise || self.restart
    }
}

impl Default for Allowed {
    /// Evictions alone.
    fn default() -> Allowed {
        Allowed { raise: false, restart: false, raise_reserve: Percent::TEN, raise_budget: Percent::TEN }
    }
}

/// How long a remedy takes, from the request to its effect in the kernel.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Spread {
    /// Half of them were no slower.
    pub p50: Duration,
    /// Nine of ten were no slower.
    pub p90: Duration,
}

/// How long each remedy takes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Latencies {
    raise: Spread,
    restart: Spread,
    evict: Spread,
}

impl Latencies {
    /// A restart ends the process as an eviction does, after a question to the disruption budgets. So it is never the quicker one.
    #[must_use]
    pub fn new(raise: Spread, restart: Spread, evict: Spread) -> Latencies {
        let restart = Spread { p50: restart.p50.max(evict.p50 + QUESTION), p90: restart.p90.max(evict.p90 + QUESTION) };
        Latencies { raise, restart, evict }
    }

    pub(super) fn spread(&self, remedy: Remedy) -> Spread {
        match remedy {
            Remedy::Raise => self.raise,
            Remedy::Restart => self.restart,
            Remedy::Evict => self.evict,
        }
    }

    /// What nine of ten take.
    #[must_use]
    pub fn of(&self, remedy: Remedy) -> Duration {
        self.spread(remedy).p90
    }

    /// The time that a remedy needs, and the quickest of those after it, should it have no effect.
    #[must_use]
    pub fn needed(&self, remedy: Remedy, after: &[Remedy]) -> Duration {
        let next = self.quickest(after).map_or(Duration::ZERO, |next| self.of(next) + REACTION);
        self.of(remedy) + REACTION + next
    }

    /// The time within which it is worth a try: half of them have their effect so soon, and the quickest of those after it is in
    /// time should it have none. A remedy that was begun gives way at the last moment, so a try costs nothing.
    fn needed_to_try(&self, remedy: Remedy, after: &[Remedy]) -> Duration {
        let next = self.quickest(after).map(|next| self.of(next) + REACTION);
        next.map_or(self.of(remedy), |next| self.spread(remedy).p50 + next) + REACTION
    }

    /// How long before the end of the margin, at the growth that was seen, a remedy has to begin: what it needs, should growth
    /// rise. Restraint holds nothing back beyond that.
    #[must_use]
    pub fn notice(&self, remedy: Remedy, after: &[Remedy]) -> Duration {
        self.needed(remedy, after).saturating_mul(GROWTH_MAY_RISE)
    }

    /// The quickest of these, in nine of ten cases.
    #[must_use]
    pub fn quickest(&self, remedies: &[Remedy]) -> Option<Remedy> {
        remedies.iter().copied().min_by_key(|remedy| self.of(*remedy))
    }

    /// The quickest of these, in most cases.
    fn mostly_quickest(&self, remedies: &[Remedy]) -> Option<Remedy> {
        remedies.iter().copied().min_by_key(|remedy| self.spread(*remedy).p50)
    }
}

/// The growth that has to be reckoned with, in bytes a second: four times what was seen; 0 if it does not grow.
#[must_use]
pub fn worst_growth(evidence: &Evidence) -> u64 {
    let seen = [evidence.growth, evidence.slow_growth, Some(evidence.growth_at_least), evidence.rise];
    let seen = seen.into_iter().flatten().max().unwrap_or(0);
    u64::try_from(seen).unwrap_or(0).saturating_mul(u64::from(GROWTH_MAY_RISE))
}

/// How long the margin lasts at this growth; `None`: nothing indicates a kill. A small margin alone is no reason to skip a
/// remedy: a raise makes it larger in less time than anything else.
#[must_use]
pub fn time_at(growth: u64, evidence: &Evidence) -> Option<Duration> {
    let margin = evidence.margin.filter(|_| growth > 0)?;
    Some(margin.lasts_at(growth))
}

/// The remedy to begin with.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Choice {
    pub remedy: Remedy,
    pub chance: Chance,
}

/// What can be done should the remedy have no effect.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Chance {
    /// Another one is in time after it.
    OneOfTwo,
    /// There is no time for two, and it is the quickest. Another one is in time only if it begins soon.
    Quickest,
    /// At the growth that was seen, no other is in time: waiting for this one costs nothing.
    Only,
}

/// The first of these remedies, which are possible and in the user's order, that is in time; the quickest if none is.
#[must_use]
pub fn choose(possible: &[Remedy], left: Option<Duration>, latencies: &Latencies) -> Option<Choice> {
    let in_time =
        |i: usize, remedy: Remedy| left.is_none_or(|left| latencies.needed_to_try(remedy, &possible[i + 1..]) < left);
    let first = possible.iter().enumerate().find(|(i, remedy)| in_time(*i, **remedy));
    if let Some((_, remedy)) = first {
        return Some(Choice { remedy: *remedy, chance: Chance::OneOfTwo });
    }
    let at_seen = left.map(|left| left.saturating_mul(GROWTH_MAY_RISE));
    let quickest = latencies.quickest(possible)?;
    let itself = at_seen.is_some_and(|left| left > latencies.of(quickest) + REACTION);
    if !itself {
        // Even that comes too late in nine of ten cases. There is time for one, so the one with the better odds gets it.
        let remedy = latencies.mostly_quickest(possible)?;
        return Some(Choice { remedy, chance: Chance::Only });
    }
    let others: Vec<Remedy> = possible.iter().copied().filter(|other| *other != quickest).collect();
    let chance = if is_last_moment(&others, at_seen, latencies) { Chance::Only } else { Chance::Quickest };
    Some(Choice { remedy: quickest, chance })
}

/// Whether the quickest of the remedies that are left has to begin now, because later it would come too late. `None` left:
/// there is nothing else to try.
#[must_use]
pub fn is_last_moment(remaining: &[Remedy], left: Option<Duration>, latencies: &Latencies) -> bool {
    let Some(next) = latencies.quickest(remaining) else { return false };
    left.is_some_and(|left| left <= latencies.of(next) + REACTION)
}

/// The fastest growth, in bytes a second, at which a remedy is in time for a container that crosses its threshold with this
/// margin. For people: `check` shows it.
#[must_use]
pub fn fastest_in_time(remedy: Remedy, after: &[Remedy], margin: Bytes, latencies: &Latencies) -> u64 {
    margin.within(latencies.needed(remedy, after)) / u64::from(GROWTH_MAY_RISE)
}

/// Why a remedy cannot be used on a container. The next one in the list is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum NotPossible {
    /// The agent's flag `--remedies` does not name it.
    NotAllowed,
    /// The target is the pod's own group: only a container can be resized.
    PodGroup,
    /// The container is of a kind that cannot be resized.
    Ephemeral,
    /// The container has no memory limit of its own.
    NoLimit,
    /// A raise would restart the container: its `resizePolicy` for memory is `RestartContainer`.
    WouldRestart,
    /// Nothing would restart the container: its `resizePolicy` for memory is `NotRequired`.
    WouldNotRestart,
    /// The container, or the pod, has the restartPolicy `Never`.
    NeverRestarted,
    /// The limit is at `raise-limit-to`, or above.
    AtBound,
    /// The pod's own limit is the near one: neither a raise of one container nor its restart helps.
    PodLimit,
    /// All raises of this node together have reached `--raise-budget`.
    Budget,
    /// The machine would be left with less than `--raise-reserve`.
    Reserve,
    /// The node's memory cannot be read.
    NodeUnknown,
    /// What `/proc/meminfo` shows is not the machine on which the containers run.
    OtherMachine,
    /// The restarted container filled up again within the minimum age, several times.
    DiesYoung,
    /// Somebody else has lowered the limit since our last raise.
    Lowered,
    /// What grew is shared memory (tmpfs), which a restart does not free.
    Shared,
    /// It was tried a moment ago, and did not help.
    Failed,
    /// Should it have no effect, the next remedy would come too late.
    NotInTime,
    /// The server or the kubelet refused, and nothing has changed since.
    Refused(String),
}

/// The remedies that cannot be used, each with the reason.
pub type Reasons = Vec<(Remedy, NotPossible)>;

impl fmt::Display for NotPossible {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            NotPossible::NotAllowed => "this agent may not use it (--remedies)",
            NotPossible::PodGroup => "only a container can be resized, not the pod's own cgroup",
            NotPossible::Ephemeral => "an ephemeral container cannot be resized",
            NotPossible::NoLimit => "the container has no memory limit of its own",
            NotPossible::WouldRestart => "it would restart the container (resizePolicy of memory: RestartContainer)",
            NotPossible::WouldNotRestart => {
                "a resize does not restart the container (resizePolicy of memory: NotRequired, the default)"
            }
            NotPossible::NeverRestarted => "the container is never restarted (restartPolicy: Never)",
            NotPossible::AtBound => "its limit has reached raise-limit-to",
            NotPossible::PodLimit => "the pod's own limit is the near one",
            NotPossible::Budget => "the raises of this node have reached --raise-budget",
            NotPossible::Reserve => "it would leave the node less than --raise-reserve",
            NotPossible::NodeUnknown => "the node's memory cannot be read (/proc/meminfo)",
            NotPossible::OtherMachine => {
                "the node's containers use more than MemTotal of /proc/meminfo, so it shows another machine's memory"
            }
            NotPossible::DiesYoung => "the container filled up again soon after its last restarts",
            NotPossible::Lowered => "somebody has lowered the limit since the last raise",
            NotPossible::Shared => "what grew is shared memory, which a restart does not free",
            NotPossible::NotInTime => "not in time at this growth",
            NotPossible::Failed => "it was tried a moment ago",
            NotPossible::Refused(words) => return write!(f, "it was refused ({words})"),
        })
    }
}

#[cfg(test)]
pub(super) mod tests {
    use super::*;
    use crate::decide::judge::Verdict;
    use crate::decide::judge::tests::{MIB, judge, level, rule, sample};

    pub const MEASURED: Latencies = Latencies { raise: takes(70), restart: takes(80), evict: takes(160) };

    /// With these for a raise and an eviction.
    pub const fn measured(raise: Spread, evict: Spread) -> Latencies {
        Latencies { raise, evict, ..MEASURED }
    }

    pub const fn takes(millis: u64) -> Spread {
        Spread { p50: Duration::from_millis(millis), p90: Duration::from_millis(millis) }
    }

    fn ms(millis: u64) -> Option<Duration> {
        Some(Duration::from_millis(millis))
    }

    #[test]
    fn the_gentlest_that_is_in_time_is_tried_and_else_the_quickest() {
        let evict_last = [Remedy::Raise, Remedy::Evict];
        let choose = |possible: &[Remedy], left| choose(possible, left, &MEASURED).map(|choice| choice.remedy);
        assert_eq!(choose(&evict_last, None), Some(Remedy::Raise), "nothing says that it will be killed");
        assert_eq!(choose(&evict_last, ms(261)), Some(Remedy::Raise), "70 + 15, and the eviction after it, 160 + 15");
        assert_eq!(choose(&evict_last, ms(260)), Some(Remedy::Evict), "no time for two, and enough for this one");
        assert_eq!(choose(&evict_last, ms(175)), Some(Remedy::Raise), "too late for that, too: the quicker one");
        let slow_raise = Latencies { raise: takes(300), ..MEASURED };
        let with = |left| super::choose(&evict_last, left, &slow_raise).map(|choice| choice.remedy);
        assert_eq!((with(ms(491)), with(ms(490))), (Some(Remedy::Raise), Some(Remedy::Evict)));
        assert_eq!(with(ms(0)), Some(Remedy::Evict));
        // The order is the user's, not ours.
        assert_eq!(choose(&[Remedy::Evict, Remedy::Raise], ms(500)), Some(Remedy::Evict));
        assert_eq!(choose(&[Remedy::Evict], ms(0)), Some(Remedy::Evict));
        assert_eq!(choose(&[Remedy::Restart], ms(0)), Some(Remedy::Restart));
        assert_eq!(choose(&[], ms(500)), None);
    }

    /// A raise that mostly works within the time that can be spared is tried: it gives way before the eviction is too late.
    #[test]
    fn what_may_have_its_effect_before_the_last_moment_is_worth_a_try() {
        let raise = Spread { p50: Duration::from_millis(40), p90: Duration::from_millis(90) };
        let latencies = Latencies { raise, ..MEASURED };
        let choose = |left| choose(&[Remedy::Raise, Remedy::Evict], ms(left), &latencies).unwrap().remedy;
        assert_eq!((choose(231), choose(230)), (Remedy::Raise, Remedy::Evict), "40 + 15, and 160 + 15 after it");
    }

    /// An eviction that mostly ends the process sooner than a raise reaches the kernel is not passed over for a raise whose
    /// slowest are quicker, where neither would do.
    #[test]
    fn where_nothing_is_in_time_even_at_the_growth_seen_the_odds_decide() {
        let evict = Spread { p50: Duration::from_millis(40), p90: Duration::from_millis(160) };
        let latencies = Latencies { raise: takes(50), evict, ..MEASURED };
        let choose = |left| choose(&[Remedy::Raise, Remedy::Evict], ms(left), &latencies).map(|choice| choice.remedy);
        assert_eq!(
            (choose(17), choose(16)),
            (Some(Remedy::Raise), Some(Remedy::Evict)),
            "four times 17 is more than 65"
        );
    }

    #[test]
    fn the_next_begins_when_there_is_just_enough_time_for_it() {
        let is_last = |remaining: &[Remedy], left| is_last_moment(remaining, left, &MEASURED);
        assert!(is_last(&[Remedy::Evict], ms(175)) && !is_last(&[Remedy::Evict], ms(176)));
        assert!(!is_last(&[Remedy::Restart, Remedy::Evict], ms(96)), "the restart is quicker");
        assert!(is_last(&[Remedy::Restart, Remedy::Evict], ms(95)));
        assert!(!is_last(&[Remedy::Evict], None) && !is_last(&[], ms(0)));
    }

    #[test]
    fn growth_is_reckoned_with_at_four_times_what_was_seen_or_more() {
        let Verdict::Above(seen) = judge(&rule("60"), &sample(0, level(61 * MIB, Some(100 * MIB), 0))) else {
            panic!()
        };
        assert_eq!(worst_growth(&seen), 0);
        assert_eq!(time_at(0, &seen), None);
        for (growth, rise) in [(Some(-5), Some(10)), (Some(10), Some(3))] {
            assert_eq!(worst_growth(&Evidence { growth, rise, ..seen }), 40);
        }
        assert_eq!(time_at(39 * MIB, &seen), ms(1000));
        assert_eq!(time_at(0, &Evidence { tight: true, ..seen }), None, "it does not grow");
    }

    #[test]
    fn people_read_up_to_which_growth_it_is_in_time() {
        let margin = Bytes(100 * MIB);
        let fastest = |remedy, after: &[Remedy]| fastest_in_time(remedy, after, margin, &MEASURED) / MIB;
        assert_eq!(fastest(Remedy::Raise, &[Remedy::Evict]), 96, "a quarter of 100 Mi in 260 ms");
        assert_eq!(fastest(Remedy::Evict, &[]), 142);
    }

    /// Above its threshold of 60 by a MiB, and not growing.
    pub fn evidence() -> Evidence {
        let Verdict::Above(seen) = judge(&rule("60"), &sample(0, level(61 * MIB, Some(100 * MIB), 0))) else {
            panic!()
        };
        seen
    }
}
