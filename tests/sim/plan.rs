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
    /// One request for a pod at a time, and none after one that was accepted or is final.
    Once,
    /// Between two tries for a pod there is the back-off that belongs to the answer.
    Pace,
    /// No young container is acted on, unless its end is near.
    MinimumAge,
    /// In any span of time no more evictions than burst + span ÷ refill.
    Budget,
    /// Between two evictions of an owner's pods there is the back-off.
    BackOff,
    /// Every accepted, held, blocked or refused eviction is told.
    Told,
    /// What stays the same is told once, a kill included.
    ToldOnce,
    /// Every over container is acted upon, or its reason is shown; nothing is overdue.
    Shown,
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
