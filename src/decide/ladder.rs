//! Which remedy is tried: the gentlest that is still in time. Pure.
//!
//! A gentle remedy must never cost the container its life. So a remedy is *in time* only if, should it fail, the quickest of those
//! after it would still be in time, even if growth rises to four times what was seen. And it is given up at the last moment
//! at which the next one is still in time ([`is_last_moment`]).

use std::fmt;
use std::time::Duration;

use super::judge::Evidence;
use super::schedule::GROWTH_MAY_RISE;
use crate::ground::clock::Moment;
use crate::ground::memory::NodeMemory;
use crate::ground::units::{Bytes, Percent};
use crate::pods::guard::{Raise, Remedy};
use crate::pods::{Container, ContainerKind, Pod};

/// Between the moment when something is decided and the moment when it is on its way: two samples 5 ms apart, and what the
/// loop and the connection take (measured: 0.8 ms, one in a hundred 7.5 ms).
const REACTION: Duration = Duration::from_millis(15);
/// A raise by less than this part of the step that was wanted is not worth a request.
const LEAST_PART: u64 = 4;
/// Limits are written in whole units of this, as people write them.
const UNIT: Bytes = Bytes::MIB;
/// A restart changes the limit by this much. It is the smallest change, and each restart makes a limit that was not used
/// before: the kubelet keeps its back-off by the resources (measured).
const RESTART_STEP: Bytes = Bytes(1);

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
/// What was used up since a remedy began is spread over this time at least: a single step is no growth yet.
const SEEN_OVER: Duration = Duration::from_millis(20);

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

    fn spread(&self, remedy: Remedy) -> Spread {
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

/// A change of a container's memory, as `PATCH pods/resize` carries it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Resize {
    pub container: String,
    /// It is in `spec.initContainers`.
    pub sidecar: bool,
    pub limit: Bytes,
    /// The request, where it has to change with the limit (Guaranteed).
    pub request: Option<Bytes>,
}

/// What a raise takes into account.
#[derive(Clone, Copy, Debug)]
pub struct RaiseInputs {
    pub raise: Raise,
    /// See [`worst_growth`].
    pub growth: u64,
    /// What the signal has to fall below, as a share of the limit.
    pub threshold: Percent,
    /// What the container holds now, by its signal.
    pub value: Bytes,
    /// The limit that the kernel has. It is above that of the spec where a lowering has failed, which a raise must not carry out.
    pub kernel: Option<Bytes>,
    pub node: NodeMargin,
}

/// By how much the limits of a node may still be raised, and what keeps them from more.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct NodeMargin {
    pub bytes: Bytes,
    pub limit: NodeLimit,
}

/// What keeps a node from raising further.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum NodeLimit {
    Budget,
    Reserve,
    Unknown,
    OtherMachine,
}

impl From<NodeLimit> for NotPossible {
    fn from(limit: NodeLimit) -> NotPossible {
        match limit {
            NodeLimit::Budget => NotPossible::Budget,
            NodeLimit::Reserve => NotPossible::Reserve,
            NodeLimit::Unknown => NotPossible::NodeUnknown,
            NodeLimit::OtherMachine => NotPossible::OtherMachine,
        }
    }
}

/// `raised`: the sum of all raises so far. `used`: what the guarded containers use; a machine with less memory than that is
/// another's view.
#[must_use]
pub fn node_margin(allowed: &Allowed, memory: Option<NodeMemory>, raised: Bytes, used: Bytes) -> NodeMargin {
    let none = |limit| NodeMargin { bytes: Bytes(0), limit };
    let Some(memory) = memory else { return none(NodeLimit::Unknown) };
    if memory.total < used {
        return none(NodeLimit::OtherMachine);
    }
    let budget = allowed.raise_budget.of(memory.total).less(raised);
    let free = memory.available.less(allowed.raise_reserve.of(memory.total));
    match budget <= free {
        true => NodeMargin { bytes: budget, limit: NodeLimit::Budget },
        false => NodeMargin { bytes: free, limit: NodeLimit::Reserve },
    }
}

/// The raise of a container's limit; it gives as much as the growth that was seen needs, within all bounds.
///
/// # Errors
/// Why the limit cannot be raised.
pub fn raise(
    pod: &Pod,
    container: &Container,
    inputs: &RaiseInputs,
    latencies: &Latencies,
) -> Result<Resize, NotPossible> {
    let spec = resizable(container)?;
    let limit = spec.max(inputs.kernel.unwrap_or_default());
    if container.memory.restarts {
        return Err(NotPossible::WouldRestart);
    }
    let most = pod.limit.map_or(inputs.raise.to, |pods| pods.min(inputs.raise.to));
    if limit >= most {
        return Err(if limit >= inputs.raise.to { NotPossible::AtBound } else { NotPossible::PodLimit });
    }
    let wanted = wanted_step(limit, inputs, latencies).min(most.less(limit));
    // Spec and kernel differ while a resize is under way, or before the watch has shown it. The node's memory is that of the
    // kernel's limits, and its budget that of the specs: the difference is missing from one of the two.
    let difference = inputs.kernel.map_or(Bytes(0), |kernel| Bytes(kernel.0.abs_diff(spec.0)));
    let step = wanted.min(inputs.node.bytes.less(difference));
    if step < Bytes((wanted.0 / LEAST_PART).max(1)) {
        return Err(inputs.node.limit.into());
    }
    let raised = limit.plus(step);
    let whole = Bytes(raised.0 / UNIT.0 * UNIT.0);
    Ok(resize(pod, container, if whole > limit { whole } else { raised }))
}

/// How far the limit should go up: by the share that the user wrote; at least so far that the container is below its
/// threshold again, and that another raise and the remedy after it would be in time there.
fn wanted_step(limit: Bytes, inputs: &RaiseInputs, latencies: &Latencies) -> Bytes {
    let by = inputs.raise.by.of(limit);
    let below_again = inputs.threshold.whole_of(inputs.value).plus(UNIT).less(limit);
    let next = latencies.of(Remedy::Raise) + latencies.of(Remedy::Evict) + 2 * REACTION;
    by.max(below_again).max(Bytes::at_rate(inputs.growth, next)).max(UNIT)
}

/// The smallest change of a container's memory, which restarts it. `kernel`: the limit in effect, below which it never goes.
///
/// # Errors
/// Why it would not be restarted.
pub fn restart(pod: &Pod, container: &Container, kernel: Bytes) -> Result<Resize, NotPossible> {
    let limit = resizable(container)?.max(kernel);
    if !container.memory.restarts {
        return Err(NotPossible::WouldNotRestart);
    }
    if pod.never_restarted || container.memory.never_restarted {
        return Err(NotPossible::NeverRestarted);
    }
    Ok(resize(pod, container, limit.plus(RESTART_STEP)))
}

/// The limit of a container that can be resized.
fn resizable(container: &Container) -> Result<Bytes, NotPossible> {
    match container.kind {
        ContainerKind::Main | ContainerKind::Sidecar => container.memory.limit.ok_or(NotPossible::NoLimit),
        ContainerKind::Init | ContainerKind::Ephemeral => Err(NotPossible::Ephemeral),
    }
}

fn resize(pod: &Pod, container: &Container, limit: Bytes) -> Resize {
    let memory = container.memory;
    let moves = pod.guaranteed && memory.request == memory.limit;
    Resize {
        container: container.name.clone(),
        sidecar: container.kind == ContainerKind::Sidecar,
        limit,
        // A limit without a request would get one from the server.
        request: moves.then_some(limit),
    }
}

/// A remedy that was begun, and when it has to show its effect.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Progress {
    pub began: Moment,
    choice: Choice,
    /// The margin when it began.
    margin: Option<Bytes>,
    /// The growth to reckon with at least: [`worst_growth`] where there is time for two, else the growth that was seen.
    growth: u64,
    /// When nine of ten have had their effect.
    until: Moment,
}

impl Progress {
    #[must_use]
    pub fn new(now: Moment, evidence: &Evidence, choice: Choice, latencies: &Latencies) -> Progress {
        let worst = worst_growth(evidence);
        let growth = if choice.chance == Chance::OneOfTwo { worst } else { worst / u64::from(GROWTH_MAY_RISE) };
        Progress { began: now, choice, margin: evidence.margin, growth, until: now + latencies.of(choice.remedy) }
    }

    /// Whether the quickest of the other remedies has to begin now, without waiting any longer for this one.
    #[must_use]
    pub fn gives_way(&self, now: Moment, evidence: &Evidence, others: &[Remedy], latencies: &Latencies) -> bool {
        let Some(next) = latencies.quickest(others) else { return false };
        // It costs an eviction no more than this delay.
        let is_over = self.choice.chance != Chance::OneOfTwo && now >= self.until + REACTION;
        if is_over || self.choice.chance == Chance::Only {
            return is_over;
        }
        let Some(left) = time_at(self.growth(now, evidence.margin), evidence) else { return false };
        let is_too_late = left < latencies.of(next);
        !(is_too_late && self.is_better_than(next, now, left, latencies))
            && is_last_moment(others, Some(left), latencies)
    }

    /// How long the margin can still do without another sample: until the last moment of the quickest of the others, should growth
    /// rise as far as it may.
    #[must_use]
    pub fn spare(
        &self,
        now: Moment,
        evidence: &Evidence,
        others: &[Remedy],
        latencies: &Latencies,
    ) -> Option<Duration> {
        let next = latencies.quickest(others)?;
        let left = time_at(self.growth(now, evidence.margin), evidence)?;
        Some(left.saturating_sub(latencies.of(next) + REACTION))
    }

    /// The growth may have turned out to be such that the other would come too late. This one may not, or have the better odds.
    fn is_better_than(&self, next: Remedy, now: Moment, left: Duration, latencies: &Latencies) -> bool {
        let mostly = (self.began + latencies.spread(self.choice.remedy).p50).saturating_sub(now);
        let odds = mostly > Duration::ZERO && mostly < left && mostly < latencies.spread(next).p50;
        now < self.until && (self.until - now <= left || odds)
    }

    /// The growth to reckon with now: what was expected at worst or, if that is more, what was seen since.
    fn growth(&self, now: Moment, margin: Option<Bytes>) -> u64 {
        let used = self.margin.zip(margin).map_or(Bytes(0), |(before, now)| before.less(now));
        self.growth.max(used.within(now.saturating_sub(self.began).max(SEEN_OVER)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::decide::judge::Verdict;
    use crate::decide::judge::tests::{MIB, judge, level, rule, sample};
    use proptest::prelude::*;

    const MEASURED: Latencies = Latencies { raise: takes(70), restart: takes(80), evict: takes(160) };

    const fn takes(millis: u64) -> Spread {
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

    /// As it was seen on a real node: 27 ms after the request for a raise, 58Mi are left at 1.4 GiB/s.
    #[test]
    fn a_raise_that_is_about_to_come_is_waited_for_where_an_eviction_comes_too_late() {
        let spread = |p50, p90| Spread { p50: Duration::from_millis(p50), p90: Duration::from_millis(p90) };
        let latencies = Latencies { raise: spread(42, 75), evict: spread(80, 120), ..MEASURED };
        let margin = |mib: u64| Some(Bytes(mib * MIB));
        let began = Evidence { margin: margin(98), growth: Some(226 << 20), ..evidence() };
        let choice = Choice { remedy: Remedy::Raise, chance: Chance::Quickest };
        let progress = Progress::new(Duration::ZERO, &began, choice, &latencies);
        let gives_way = |at: u64, left: u64| {
            let now = Duration::from_millis(at);
            progress.gives_way(now, &Evidence { margin: margin(left), ..began }, &[Remedy::Evict], &latencies)
        };
        assert!(!gives_way(27, 58), "it comes in 15 ms, and there are 39");
        assert!(gives_way(20, 85), "an eviction is in time, just");
        assert!(gives_way(50, 30) && gives_way(90, 98), "it should have come");
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
        let choice = Choice { remedy: Remedy::Raise, chance: Chance::OneOfTwo };
        let seen = Evidence { margin: Some(Bytes(100 * MIB)), growth: Some(10), ..seen };
        let progress = Progress::new(Duration::from_secs(1), &seen, choice, &MEASURED);
        let at = |millis, margin| progress.growth(Duration::from_millis(millis), Some(Bytes(margin)));
        assert_eq!((at(1000, 100 * MIB), at(2000, 100 * MIB - 30), at(2000, 200 * MIB)), (40, 40, 40));
        assert_eq!(at(1500, 100 * MIB - 30), 60);
        assert_eq!((at(1002, 97 * MIB), at(1100, 97 * MIB)), (150 * MIB, 30 * MIB), "a single step is no growth yet");
    }

    fn evidence() -> Evidence {
        let Verdict::Above(seen) = judge(&rule("60"), &sample(0, level(61 * MIB, Some(100 * MIB), 0))) else {
            panic!()
        };
        seen
    }

    /// A pod with one container of this limit, which asks for half of it.
    fn pod(limit: u64) -> (Pod, Container) {
        let text = format!(
            r#"{{"metadata": {{"name": "p"}}, "spec": {{"containers": [{{"name": "app", "resources": {{
                "limits": {{"memory": "{limit}Mi"}}, "requests": {{"memory": "{}Mi"}}}}}}]}}}}"#,
            limit / 2
        );
        let pod = Pod::from_json(&text).unwrap();
        let container = pod.containers[0].clone();
        (pod, container)
    }

    fn inputs(to: u64) -> RaiseInputs {
        RaiseInputs {
            raise: Raise { to: Bytes(to * MIB), by: Percent::parse("25").unwrap() },
            growth: 0,
            threshold: Percent::parse("60").unwrap(),
            value: Bytes(154 * MIB),
            kernel: Some(Bytes(256 * MIB)),
            node: NodeMargin { bytes: Bytes(4096 * MIB), limit: NodeLimit::Budget },
        }
    }

    fn raised(pod: &(Pod, Container), inputs: &RaiseInputs) -> Result<u64, NotPossible> {
        raise(&pod.0, &pod.1, inputs, &MEASURED).map(|resize| {
            assert_eq!(resize.limit.0 % MIB, 0);
            resize.limit.0 / MIB
        })
    }

    #[test]
    fn a_raise_goes_as_far_as_it_has_to_and_may() {
        let pod = pod(256);
        let usual = inputs(1024);
        assert_eq!(raised(&pod, &usual), Ok(320), "a quarter");
        assert_eq!(
            raised(&pod, &RaiseInputs { value: Bytes(240 * MIB), ..usual }),
            Ok(401),
            "60 % of it are above 240"
        );
        let fast = RaiseInputs { growth: 1024 * MIB, ..usual };
        assert_eq!(
            raised(&pod, &fast),
            Ok(256 + 266),
            "another raise takes 70, the eviction after it 160, and 15 each"
        );
        assert_eq!(raised(&pod, &inputs(300)), Ok(300), "no further than the bound");
        assert_eq!(raised(&pod, &inputs(256)), Err(NotPossible::AtBound));
        let lowered = RaiseInputs { kernel: Some(Bytes(512 * MIB)), ..usual };
        assert_eq!(raised(&pod, &lowered), Ok(640), "the kernel has more than the spec: a lowering that failed");
        let unseen = RaiseInputs {
            kernel: Some(Bytes(200 * MIB)),
            node: NodeMargin { bytes: Bytes(100 * MIB), ..usual.node },
            ..usual
        };
        assert_eq!(
            raised(&pod, &unseen),
            Ok(300),
            "the kernel has less than the spec that is known, and gets 100 more"
        );
        let unseen = RaiseInputs { kernel: Some(Bytes(300 * MIB)), ..unseen };
        assert_eq!(raised(&pod, &unseen), Ok(356), "the kernel has more, which the node's sum lacks");
        let node = |bytes: u64, limit| RaiseInputs { node: NodeMargin { bytes: Bytes(bytes * MIB), limit }, ..usual };
        assert_eq!(raised(&pod, &node(20, NodeLimit::Budget)), Ok(276), "no further than the node can");
        assert_eq!(
            raised(&pod, &node(15, NodeLimit::Budget)),
            Err(NotPossible::Budget),
            "less than a quarter of the step"
        );
        assert_eq!(raised(&pod, &node(0, NodeLimit::Reserve)), Err(NotPossible::Reserve));
        assert_eq!(raised(&pod, &node(0, NodeLimit::Unknown)), Err(NotPossible::NodeUnknown));
    }

    #[test]
    fn the_pods_own_limit_bounds_it_too() {
        let mut pod = pod(256);
        pod.0.limit = Some(Bytes(300 * MIB));
        assert_eq!(raised(&pod, &inputs(1024)), Ok(300));
        pod.0.limit = Some(Bytes(256 * MIB));
        assert_eq!(raised(&pod, &inputs(1024)), Err(NotPossible::PodLimit));
    }

    #[test]
    fn the_request_goes_along_only_where_it_has_to() {
        let mut pod = pod(256);
        let request = |pod: &(Pod, Container)| raise(&pod.0, &pod.1, &inputs(1024), &MEASURED).unwrap().request;
        assert_eq!(request(&pod), None);
        (pod.0.guaranteed, pod.1.memory.request) = (true, pod.1.memory.limit);
        assert_eq!(request(&pod), Some(Bytes(320 * MIB)));
        pod.1.memory.restarts = true;
        let again = restart(&pod.0, &pod.1, Bytes(0)).unwrap();
        assert_eq!((again.limit, again.request), (Bytes(256 * MIB + 1), Some(Bytes(256 * MIB + 1))));
    }

    /// Never both: the policy was set when the container was made.
    #[test]
    fn the_resize_policy_decides_which_of_the_two_is_possible() {
        let mut pod = pod(256);
        assert_eq!(restart(&pod.0, &pod.1, Bytes(0)), Err(NotPossible::WouldNotRestart));
        pod.1.memory.restarts = true;
        assert_eq!(raised(&pod, &inputs(1024)), Err(NotPossible::WouldRestart));
        pod.1.memory.never_restarted = true;
        assert_eq!(restart(&pod.0, &pod.1, Bytes(0)), Err(NotPossible::NeverRestarted));
        (pod.1.memory.never_restarted, pod.0.never_restarted) = (false, true);
        assert_eq!(restart(&pod.0, &pod.1, Bytes(0)), Err(NotPossible::NeverRestarted));
        pod.1.memory.limit = None;
        assert_eq!(restart(&pod.0, &pod.1, Bytes(0)), Err(NotPossible::NoLimit));
        pod.1.kind = ContainerKind::Ephemeral;
        assert_eq!(raised(&pod, &inputs(1024)), Err(NotPossible::Ephemeral));
    }

    #[test]
    fn the_node_keeps_a_reserve_and_a_budget() {
        let memory = NodeMemory { total: Bytes(1000), available: Bytes(500) };
        let margin = |memory, raised, used| node_margin(&Allowed::default(), memory, Bytes(raised), Bytes(used));
        let is = |bytes: u64, limit| NodeMargin { bytes: Bytes(bytes), limit };
        assert_eq!(margin(Some(memory), 0, 0), is(100, NodeLimit::Budget));
        assert_eq!(margin(Some(memory), 70, 0), is(30, NodeLimit::Budget));
        assert_eq!(margin(Some(memory), 170, 0), is(0, NodeLimit::Budget));
        let full = NodeMemory { available: Bytes(120), ..memory };
        assert_eq!(margin(Some(full), 0, 1000), is(20, NodeLimit::Reserve));
        assert_eq!(margin(Some(NodeMemory { available: Bytes(99), ..memory }), 0, 0), is(0, NodeLimit::Reserve));
        assert_eq!(margin(Some(memory), 0, 1001), is(0, NodeLimit::OtherMachine));
        assert_eq!(margin(None, 0, 0), is(0, NodeLimit::Unknown));
    }

    #[test]
    fn people_read_up_to_which_growth_it_is_in_time() {
        let margin = Bytes(100 * MIB);
        let fastest = |remedy, after: &[Remedy]| fastest_in_time(remedy, after, margin, &MEASURED) / MIB;
        assert_eq!(fastest(Remedy::Raise, &[Remedy::Evict]), 96, "a quarter of 100 Mi in 260 ms");
        assert_eq!(fastest(Remedy::Evict, &[]), 142);
    }

    proptest! {
        /// The promise of the ladder, in a world where each remedy takes at most what is reckoned with, and growth stays
        /// below four times what was seen: whoever an eviction at once would save is saved, though the raise fails.
        #[test]
        fn nobody_is_lost_to_a_gentler_remedy(
            margin in MIB..4096 * MIB, seen in 1u64..1 << 32, rises in 1u64..=4, raise in 1u64..500, evict in 1u64..500,
        ) {
            let latencies = Latencies { raise: takes(raise), evict: takes(evict), ..MEASURED };
            let lasts = |margin: u64, growth: u64| Duration::from_secs_f64(margin as f64 / growth as f64);
            let growth = seen * rises;
            let at_once = Duration::from_millis(evict) < lasts(margin, growth);
            let left = Some(Bytes(margin).lasts_at(seen * 4));
            let choice = choose(&[Remedy::Raise, Remedy::Evict], left, &latencies).unwrap();
            let evidence = Evidence { margin: Some(Bytes(margin)), growth: i64::try_from(seen).ok(), ..evidence() };
            let progress = Progress::new(Duration::ZERO, &evidence, choice, &latencies);
            let evicted_at = if choice.remedy == Remedy::Raise {
                // It never shows an effect. We look each 5 ms.
                let mut at = Duration::ZERO;
                loop {
                    at += Duration::from_millis(5);
                    let used = (growth as f64 * at.as_secs_f64()) as u64;
                    let margin = Some(Bytes(margin.saturating_sub(used)));
                    if progress.gives_way(at, &Evidence { margin, ..evidence }, &[Remedy::Evict], &latencies) {
                        break at;
                    }
                }
            } else {
                Duration::ZERO
            };
            let saved = evicted_at + Duration::from_millis(evict) < lasts(margin, growth);
            // One that was not in time is begun all the same. It may cost what the eviction lacked to be in time, and a look.
            let spare = if choice.chance == Chance::OneOfTwo { Duration::ZERO } else { REACTION.max(SEEN_OVER) + Duration::from_millis(5) };
            let at_once = at_once && Duration::from_millis(evict) + spare < lasts(margin, growth);
            prop_assert!(saved || !at_once, "{choice:?} {evicted_at:?}");
        }

        #[test]
        fn a_raise_only_raises_and_never_beyond_a_bound(
            limit in 1u64..1 << 50, to in 1u64..1 << 51, value: u64, growth: u64, node in 0u64..1 << 50, kernel in 0u64..1 << 50, pods in prop::option::of(1u64..1 << 51),
        ) {
            let (mut pod, mut container) = pod(256);
            container.memory.limit = Some(Bytes(limit));
            pod.limit = pods.map(Bytes);
            let inputs = RaiseInputs {
                raise: Raise { to: Bytes(to), by: Percent::TEN }, growth, value: Bytes(value), kernel: Some(Bytes(kernel)),
                node: NodeMargin { bytes: Bytes(node), limit: NodeLimit::Budget }, ..inputs(1)
            };
            if let Ok(resize) = raise(&pod, &container, &inputs, &MEASURED) {
                let new = resize.limit.0;
                prop_assert!(new > limit && new > kernel && new <= to && new - kernel <= node && pods.is_none_or(|pods| new <= pods));
            }
        }
    }
}
