//! The whole decision line in virtual time: guard, policy, the sampler's judging, controller, restraint
//! and classification are the shipped ones; clock, cgroup reader and transport are replaced.
//!
//! `SIM_HISTORIES=1000000` lives more of them; `SIM_SEED=42` lives one again and prints it.

#![allow(
    clippy::disallowed_methods,
    clippy::expect_used,
    clippy::unwrap_used,
    clippy::cast_possible_truncation,
    reason = "a test is the outside world, and panics are its verdicts"
)]

mod ladder;
mod memory;
mod network;
mod plan;
mod pod;
mod server;
mod thousand;
mod world;
mod young;

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering::Relaxed};

use plan::{Bug, Counts, Invariant};
use server::Kind;

/// Lives so many histories on all cores; the first that went wrong ends it.
fn live_all(histories: u64) -> (Counts, u64) {
    let next = AtomicU64::new(0);
    let failed = AtomicBool::new(false);
    let threads = std::thread::available_parallelism().map_or(1, std::num::NonZero::get);
    let mut all = (Counts::new(), 0);
    std::thread::scope(|scope| {
        let work = || {
            let (mut counts, mut steps) = (Counts::new(), 0);
            loop {
                let seed = next.fetch_add(1, Relaxed);
                if seed >= histories || failed.load(Relaxed) {
                    return (counts, steps);
                }
                let outcome = world::live(seed, None, &mut counts, false);
                assert!(outcome.steps >= 50);
                steps += outcome.steps;
                if !outcome.violations.is_empty() && !failed.swap(true, Relaxed) {
                    print(seed);
                    panic!("SIM_SEED={seed}: {:#?}", outcome.violations);
                }
            }
        };
        let workers: Vec<_> = (0..threads).map(|_| scope.spawn(work)).collect();
        for worker in workers {
            let (counts, steps) = worker.join().expect("a history went wrong, see above");
            counts.into_iter().for_each(|(what, n)| *all.0.entry(what).or_default() += n);
            all.1 += steps;
        }
    });
    all
}

fn print(seed: u64) {
    let outcome = world::live(seed, None, &mut Counts::new(), true);
    let violated = outcome.trace.iter().position(|l| l.contains("VIOLATED")).unwrap_or(outcome.trace.len());
    let from = violated.saturating_sub(if std::env::var("SIM_ALL").is_ok() { usize::MAX } else { 60 });
    outcome.trace[from..(violated + 1).min(outcome.trace.len())].iter().for_each(|line| println!("{line}"));
}

fn number(variable: &str) -> Option<u64> {
    std::env::var(variable).ok().map(|text| text.parse().expect(variable))
}

#[test]
fn a_few_histories_keep_the_invariants() {
    if let Some(seed) = number("SIM_SEED") {
        print(seed);
        let outcome = world::live(seed, None, &mut Counts::new(), false);
        assert!(outcome.violations.is_empty(), "{:#?}", outcome.violations);
        return;
    }
    live_all(100);
}

/// The run that counts: `tests/run sim`.
#[test]
#[ignore = "takes minutes; `tests/run sim` runs it"]
fn all_histories_keep_the_invariants() {
    let histories = number("SIM_HISTORIES").unwrap_or(5_000);
    let began = std::time::Instant::now();
    let (counts, steps) = live_all(histories);
    let seconds = began.elapsed().as_secs_f64();
    println!("\n{histories} histories, {steps} steps, {seconds:.1} s");
    for (what, n) in &counts {
        println!("{n:>12}  {what}");
    }
    // An empty simulation proves nothing.
    let least = (histories / 5_000).max(1);
    let rows = Kind::ALL.iter().map(|k| k.row().name);
    for what in rows.chain(EXPECTED.iter().copied()) {
        let n = counts.get(what).copied().unwrap_or(0);
        assert!(n >= least, "{what}: {n} times in {histories} histories, at least {least} are wanted");
    }
}

const EXPECTED: &[&str] = &[
    "answer: lost",
    "answer: none",
    "asked for in time",
    "event: annotated",
    "event: budget changed",
    "event: burst",
    "event: cache",
    "event: climb",
    "event: clock set",
    "event: created",
    "event: deleted",
    "event: dip",
    "event: finished",
    "event: killed for the node's memory",
    "event: moved",
    "event: ramp",
    "event: relabelled",
    "event: removed at once",
    "event: replaced by a namesake",
    "event: replicas in step",
    "event: resized",
    "event: restarted",
    "event: server's mood",
    "event: slow files",
    "event: watch lost",
    "event: young loop",
    "evicted",
    "heard: gone",
    "heard: listed",
    "killed",
    "kubelet: put off",
    "kubelet: raised",
    "kubelet: restarted",
    "not warned: host network",
    "not warned: link-local",
    "not warned: loopback",
    "not warned: multicast",
    "not warned: no address",
    "not warned: the node's",
    "not warned: unspecified",
    "over in the end",
    "rearmed",
    "report: beyond limit",
    "report: dipped",
    "report: gone",
    "report: killed",
    "report: no limit",
    "report: over",
    "report: unreadable",
    "report: warned",
    "report: worse",
    "sent: deletion",
    "sent: dry run",
    "sent: eviction",
    "sent: question",
    "sent: raise",
    "sent: restart",
    "sent: warning",
    "told: accepted",
    "told: dry run",
    "told: gave up",
    "told: held, budget",
    "told: held, dies young",
    "told: held, owner",
    "told: held, rescues",
    "told: held, turn",
    "told: held, young",
    "told: missed",
    "told: never",
    "told: no remedy",
    "told: not evicted",
    "told: not warned",
    "told: raised",
    "told: restarted",
    "told: slow",
    "told: warned",
    "understood: accepted",
    "understood: blocked",
    "understood: failing",
    "understood: gone",
    "understood: mistake",
    "understood: namespace terminating",
    "understood: refused",
    "understood: replaced",
    "understood: throttled",
    "understood: unauthorized",
    "understood: unknown",
];

/// With this bug the invariant fails soon.
fn is_found(bug: Bug, invariant: Invariant) {
    const WITHIN: u64 = 3_000;
    let found = (0..WITHIN).find(|seed| {
        let outcome = world::live(*seed, Some(bug), &mut Counts::new(), false);
        outcome.violations.iter().any(|(violated, _)| *violated == invariant)
    });
    let seed = found.unwrap_or_else(|| panic!("{invariant:?} held in {WITHIN} histories with {bug:?}"));
    // It is the bug that is found, not something else that is wrong.
    let sound = world::live(seed, None, &mut Counts::new(), false);
    assert!(!sound.violations.iter().any(|(violated, _)| *violated == invariant), "{:?}", sound.violations);
    println!("{bug:?} violates {invariant:?} in history {seed}");
}

macro_rules! planted {
    ($($test:ident: $bug:ident violates $invariant:ident;)+) => {
        $(#[test] fn $test() { is_found(Bug::$bug, Invariant::$invariant); })+
    };
}

planted! {
    planted_keeps_the_unlabelled: KeepsTheUnlabelled violates OptedIn;
    planted_keeps_invalid_guards: KeepsInvalidGuards violates OptedIn;
    planted_forgets_who_is_never: ForgetsWhoIsNever violates Eligible;
    planted_keeps_the_gone: KeepsTheGone violates Present;
    planted_trusts_the_verdict: TrustsTheVerdict violates Over;
    planted_forgets_sustained_for: ForgetsSustained violates Over;
    planted_loses_the_precondition: LosesThePrecondition violates Precondition;
    planted_loses_the_grace: LosesTheGrace violates AsAsked;
    planted_ignores_dry_run: IgnoresDryRun violates DryRun;
    planted_deletes_at_once: DeletesAtOnce violates Force;
    planted_sends_twice: SendsTwice violates Once;
    planted_sends_after_accepted: SendsAfterAccepted violates Once;
    planted_retries_a_refusal_soon: RetriesARefusalSoon violates Pace;
    planted_forgets_retry_after: ForgetsRetryAfter violates Pace;
    planted_forgets_the_age: ForgetsTheAge violates MinimumAge;
    planted_spends_without_limit: SpendsWithoutLimit violates Budget;
    planted_gives_back_the_spent: GivesBackTheSpent violates Budget;
    planted_takes_each_pod_for_an_owner: TakesEachPodForAnOwner violates BackOff;
    planted_takes_no_turns: TakesEachPodForAnOwner violates Turn;
    planted_holds_beyond_the_deadline: HoldsBeyondTheDeadline violates Deadline;
    planted_rescues_nobody: RescuesNobody violates Deadline;
    planted_forgets_force: ForgetsForce violates ForcedInTime;
    planted_keeps_refunds: KeepsRefunds violates RefundFrees;
    planted_hears_no_sign: HearsNoSign violates AsksAgain;
    planted_forgets_the_young_ends: ForgetsTheYoungEnds violates DyingYoung;
    planted_swallows_held: SwallowsHeld violates Reported;
    planted_swallows_blocked: SwallowsBlocked violates Reported;
    planted_swallows_refused: SwallowsRefused violates Reported;
    planted_swallows_evicted: SwallowsEvicted violates Reported;
    planted_repeats_held: RepeatsHeld violates ToldOnce;
    planted_counts_kills_twice: CountsKillsTwice violates ToldOnce;
    planted_loses_rearm: LosesRearm violates Shown;
    planted_loses_over: LosesOver violates Shown;
    planted_never_ticks: NeverTicks violates Shown;
    planted_raises_past_the_budget: RaisesPastTheBudget violates RaiseBudget;
    planted_raises_past_its_bound: RaisesPastItsBound violates Raises;
    planted_waits_too_long: WaitsTooLong violates InTime;
    planted_restarts_against_a_budget: RestartsAgainstABudget violates RestartAsks;
    planted_evicts_unlisted: EvictsUnlisted violates Listed;
    planted_warns_the_former: WarnsTheFormer violates NoStranger;
    planted_warns_any_address: WarnsAnyAddress violates NoStranger;
    planted_warns_twice: WarnsTwice violates WarnsOnce;
    planted_loses_answers: LosesAnswers violates Bounded;
    planted_keeps_the_gone_in_memory: KeepsTheGone violates Bounded;
}
