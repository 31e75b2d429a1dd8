//! What must always hold, the bugs that are planted to see it fail, and what is counted.

use std::collections::BTreeMap;

/// What must always hold.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Invariant {
    /// No request for a pod whose label, as last heard, does not opt in, or whose guard is invalid.
    OptedIn,
    /// None for a pod that is never evicted: mirror, static, terminating, finished, excluded, …
    Eligible,
    /// None for a pod that is gone or replaced, as last heard.
    Present,
    /// None unless it was read as over at that very moment, and for as long as was asked for.
    Over,
    /// Every request carries the UID precondition where the server reads it.
    Precondition,
    /// The request is what the guard asks for: grace, and nothing else than asked.
    AsAsked,
    /// Nothing is sent in a client's dry run, and nothing real in a server's.
    DryRun,
    /// Deleted only where a budget blocks, the guard allows it and its threshold is passed.
    Force,
    /// One request for a pod at a time, and none after one that was accepted, as long as the watch may still show its effect.
    Once,
    /// Between two tries of a kind for a pod there is the pace of the answer; what had no answer may be asked again at the
    /// first sign of life.
    Pace,
    /// No young container is acted on before its deadline.
    MinimumAge,
    /// Nor one whose owner's containers keep dying young.
    DyingYoung,
    /// In any span of time no more evictions that could wait than burst + span ÷ refill, no more in all than both bursts +
    /// 2 × span ÷ refill, and of these no namespace has more than half of the second burst while others could need it.
    Budget,
    /// A container that lived for less than ten minutes waits for its owner's back-off, but not beyond its deadline.
    BackOff,
    /// One that lived longer waits as long, or for the replacement of the owner's last evicted pod.
    Turn,
    /// A container that has the time for it is asked for before its deadline, whatever else happened.
    Deadline,
    /// So is a blocked pod with a container past `force-delete-threshold` deleted.
    ForcedInTime,
    /// What did not happen holds nobody.
    RefundFrees,
    /// What had no answer is asked again at the first sign of life.
    AsksAgain,
    /// Every accepted, held, blocked or refused eviction is told.
    Reported,
    /// What stays the same is told once, a kill included.
    ToldOnce,
    /// Every over container is acted upon, or its reason is shown; nothing is overdue.
    Shown,
    /// A raise goes up and not beyond its bound, is for a container that asks for it and that it does not restart, and moves
    /// the request only where it has to.
    Raises,
    /// All raises stay within the node's budget, and each leaves the reserve.
    RaiseBudget,
    /// A restart is the smallest change, by a limit that was not used before, of a container that it restarts.
    Restarts,
    /// No restart without the budgets' consent.
    RestartAsks,
    /// No remedy that the pod does not list: without `evict` its pod is never ended.
    Listed,
    /// What was refused is not asked for again until the pod's spec changes.
    RefusalStands,
    /// Where growth stays below four times what was seen, nobody dies of a gentler remedy that an eviction at once would have
    /// saved.
    InTime,
    /// A remedy without an effect gives way.
    GivesWay,
    /// What is told of raises and restarts is so.
    TrulyTold,
    /// A warning goes to the pod's own address, as the watch has it now, where the pod asks for it, and to nobody else.
    NoStranger,
    /// A container is warned once a minute at most.
    WarnsOnce,
    /// What is remembered is bounded by what there is.
    Bounded,
}

/// A bug between the world and the shipped line.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Bug {
    KeepsTheUnlabelled,
    KeepsInvalidGuards,
    ForgetsWhoIsNever,
    KeepsTheGone,
    TrustsTheVerdict,
    ForgetsSustained,
    LosesThePrecondition,
    LosesTheGrace,
    IgnoresDryRun,
    DeletesAtOnce,
    SendsTwice,
    SendsAfterAccepted,
    RetriesARefusalSoon,
    ForgetsRetryAfter,
    ForgetsTheAge,
    SpendsWithoutLimit,
    GivesBackTheSpent,
    TakesEachPodForAnOwner,
    SwallowsHeld,
    SwallowsBlocked,
    SwallowsRefused,
    SwallowsEvicted,
    RepeatsHeld,
    CountsKillsTwice,
    LosesRearm,
    LosesOver,
    NeverTicks,
    LosesAnswers,
    HoldsBeyondTheDeadline,
    RescuesNobody,
    ForgetsForce,
    KeepsRefunds,
    HearsNoSign,
    ForgetsTheYoungEnds,
    RaisesPastTheBudget,
    RaisesPastItsBound,
    WaitsTooLong,
    RestartsAgainstABudget,
    EvictsUnlisted,
    /// It goes by the first address that it was told of a pod of this name.
    WarnsTheFormer,
    /// Any address will do, and the node's network, too.
    WarnsAnyAddress,
    WarnsTwice,
}

/// How often things happened.
pub type Counts = BTreeMap<&'static str, u64>;

/// What came of one history.
#[derive(Debug, Default)]
pub struct Outcome {
    pub violations: Vec<(Invariant, String)>,
    pub steps: u64,
    pub trace: Vec<String>,
}
