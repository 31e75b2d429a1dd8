//! Asks the API server what the agent may do, and reports it: from the start on, in a task of its own, for which guarding
//! never waits.

use std::time::Duration;

use k8s_openapi::api::authorization::v1::SelfSubjectAccessReview;
use kube::api::PostParams;
use kube::{Api, Client};
use tracing::{error, info, warn};

use super::confinement::{Confinement, ConfinementState};
use super::permissions::{self, Need, Permission};
use super::probe::{ProbeFinding, ProbeResult, result_of};
use super::resize;
use crate::act::evict::{exchange, send};
use crate::act::order::{Act, Order};
use crate::ground::text::chain;
use crate::pods::{PodRef, PodUid};
use crate::report::metrics::Metrics;

/// The first and the longest pause after a round that failed.
const AFTER_FAILURE: (Duration, Duration) = (Duration::from_secs(1), Duration::from_secs(60));
/// The first and the longest pause while something is wrong. A policy that is applied together with the agent takes the
/// server some seconds to put into force.
const WHILE_WRONG: (Duration, Duration) = (Duration::from_secs(5), Duration::from_secs(600));
/// The pause while all is well. Somebody may delete the policy.
const WHILE_WELL: Duration = Duration::from_secs(3600);
/// After so many answers that show nothing (because a webhook is down, say), the state is reported as unclear.
const ANSWERS_UNTIL_UNCLEAR: u32 = 5;
/// For all requests of one round.
const ROUND_WITHIN: Duration = Duration::from_secs(120);
/// No object has this uid, because the server makes random ones.
const UNUSED_UID: &str = "00000000-0000-0000-0000-000000000000";

/// The agent's own pod, from the downward API.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct OwnPod {
    pub namespace: String,
    pub name: String,
}

#[derive(Clone)]
pub struct Prober {
    /// The client that evicts; it sends the probe of evictions.
    pub acting: Client,
    /// A client of the service account itself; it sends the access reviews, and the probe of resizes.
    pub own: Client,
    /// The mode that the manifests claim to set up.
    pub mode: Confinement,
    /// The agent may raise limits or restart containers.
    pub resizes: bool,
    /// `None`: there is no pod that the probe could name, so none is sent.
    pub own_pod: Option<OwnPod>,
    /// Send nothing but reads (`--dry-run client`).
    pub silent: bool,
}

/// The result of one round.
#[derive(Debug, PartialEq, Eq)]
struct Round {
    /// `None`: unknown.
    missing: Option<Vec<Permission>>,
    finding: ProbeFinding,
}

impl Round {
    /// Nothing is left to be repaired in this mode.
    fn is_well(&self, mode: Confinement) -> bool {
        let granted = self.missing.as_ref().is_some_and(|m| m.iter().all(|permission| permission.need != Need::Always));
        let confined = matches!(self.finding.state, ConfinementState::Holds | ConfinementState::NotAsked)
            || mode == Confinement::None;
        granted && confined
    }
}

/// Why a round has no result.
#[derive(Debug)]
struct ProbeFailure {
    words: String,
    /// The server, or something in front of it, did answer.
    answered: bool,
}

/// Failed rounds, one after the other.
#[derive(Default)]
struct FailureStreak {
    failures: u32,
    /// Those of them that did get an answer.
    answers: u32,
}

impl FailureStreak {
    /// Counts a failed round; returns whether to report the state as unclear. While the server is away, there is nothing to report.
    fn is_unclear_after(&mut self, failure: &ProbeFailure) -> bool {
        self.failures += 1;
        self.answers += u32::from(failure.answered);
        failure.answered && self.answers >= ANSWERS_UNTIL_UNCLEAR
    }
}

/// Probes until it gets an answer, and reports it. Probes again with back-off while something is wrong, otherwise hourly. Runs
/// forever, except with `--dry-run client`.
pub async fn probe_forever(prober: Prober, metrics: Metrics) {
    metrics.confinement(prober.mode, ConfinementState::NotAsked);
    if prober.silent {
        report(prober.mode, &ProbeFinding::not_asked("with --dry-run client, nothing but reads is sent"));
        return;
    }
    let mut reported: Option<Round> = None;
    let (mut streak, mut rounds) = (FailureStreak::default(), 0);
    loop {
        let round = match prober.round_in_time().await {
            Ok(round) => {
                streak = FailureStreak::default();
                round
            }
            Err(failure) => {
                if !streak.is_unclear_after(&failure) {
                    tokio::time::sleep(back_off(AFTER_FAILURE, streak.failures - 1, fastrand::f64())).await;
                    continue;
                }
                Round { missing: None, finding: ProbeFinding::unclear(failure.words) }
            }
        };
        if reported.as_ref().map(|t| &t.missing) != Some(&round.missing) {
            report_missing(round.missing.as_deref(), reported.is_none());
        }
        if reported.as_ref().map(|t| &t.finding) != Some(&round.finding) {
            metrics.confinement(prober.mode, round.finding.state);
            report(prober.mode, &round.finding);
        }
        let wait = if round.is_well(prober.mode) {
            rounds = 0;
            back_off((WHILE_WELL, WHILE_WELL), 0, fastrand::f64())
        } else {
            rounds += 1;
            back_off(WHILE_WRONG, rounds - 1, fastrand::f64())
        };
        reported = Some(round);
        tokio::time::sleep(wait).await;
    }
}

/// Half to all of the doubled time, so that agents do not probe in step.
fn back_off((first, longest): (Duration, Duration), before: u32, jitter: f64) -> Duration {
    let whole = first.saturating_mul(1 << before.min(16)).min(longest);
    whole.mul_f64(0.5 + jitter.clamp(0.0, 1.0) / 2.0)
}

impl Prober {
    async fn round_in_time(&self) -> Result<Round, ProbeFailure> {
        let late = ProbeFailure { words: "no answer in time".into(), answered: false };
        tokio::time::timeout(ROUND_WITHIN, self.round()).await.unwrap_or(Err(late))
    }

    async fn round(&self) -> Result<Round, ProbeFailure> {
        let mut missing = Vec::new();
        for permission in permissions::needed(self.mode, self.resizes) {
            if !self.may(&permission).await? {
                missing.push(permission);
            }
        }
        let finding = self.finding().await?;
        Ok(Round { missing: Some(missing), finding })
    }

    async fn finding(&self) -> Result<ProbeFinding, ProbeFailure> {
        let Some(own_pod) = &self.own_pod else {
            return Ok(ProbeFinding::not_asked(
                "POD_NAME and POD_NAMESPACE (downward API) are not set: there is no pod of its own that the probe could name",
            ));
        };
        for permission in permissions::must_not_have(self.mode, self.resizes) {
            if self.may(&permission).await? {
                return Ok(ProbeFinding::surplus(&permission));
            }
        }
        let evictions = self.of_evictions(own_pod).await?;
        if !self.resizes {
            return Ok(evictions);
        }
        Ok(evictions.and(self.of_resizes(own_pod).await?))
    }

    async fn of_evictions(&self, own_pod: &OwnPod) -> Result<ProbeFinding, ProbeFailure> {
        // NodeRestriction looks the pod up before it decides, so the probe names one that does not exist.
        let name = match self.mode {
            Confinement::Impersonation => no_such_pod(&own_pod.name),
            Confinement::None | Confinement::Policy => own_pod.name.clone(),
        };
        let order = Order {
            pod: PodRef { namespace: own_pod.namespace.clone(), name, uid: PodUid(UNUSED_UID.into()) },
            act: Act::Evict,
            grace: None,
            resize: None,
            dry_run: true,
        };
        let answer = send(&self.acting, &order).await;
        let (code, _, body) = answer.map_err(no_answer)?;
        found(result_of(self.mode, &order.pod.name, code, &body))
    }

    async fn of_resizes(&self, own_pod: &OwnPod) -> Result<ProbeFinding, ProbeFailure> {
        let request = resize::request(&own_pod.namespace, &own_pod.name).map_err(no_answer)?;
        let (code, _, body) = exchange(&self.own, request).await.map_err(no_answer)?;
        found(resize::result_of(code, &body))
    }

    /// Whether the account itself has this permission, in all namespaces.
    async fn may(&self, permission: &Permission) -> Result<bool, ProbeFailure> {
        let reviews: Api<SelfSubjectAccessReview> = Api::all(self.own.clone());
        let review = reviews.create(&PostParams::default(), &permission.review()).await;
        match review {
            Ok(review) => Ok(review.status.is_some_and(|s| s.allowed)),
            Err(error) => {
                let answered = matches!(&error, kube::Error::Api(status) if status.code != 401);
                let words = format!("the permissions cannot be checked: {}", chain(&error));
                Err(ProbeFailure { words, answered })
            }
        }
    }
}

fn no_answer(error: anyhow::Error) -> ProbeFailure {
    ProbeFailure { words: chain(error.as_ref()), answered: false }
}

fn found(result: ProbeResult) -> Result<ProbeFinding, ProbeFailure> {
    match result {
        ProbeResult::Found(finding) => Ok(finding),
        ProbeResult::Passing(words) => Err(ProbeFailure { words, answered: true }),
    }
}

/// A valid name that no pod has: those that Kubernetes generates end with a hash.
fn no_such_pod(own: &str) -> String {
    const LONGEST: usize = 253;
    const END: &str = ".no-such-pod";
    let kept = own.floor_char_boundary(LONGEST - END.len());
    format!("{}{END}", &own[..kept])
}

fn report_missing(missing: Option<&[Permission]>, first: bool) {
    let Some(missing) = missing else { return };
    let (needed, optional): (Vec<_>, Vec<_>) = missing.iter().partition(|permission| permission.need == Need::Always);
    if !needed.is_empty() {
        error!(missing = permissions::list(&needed), "{}", permissions::WHAT_TO_DO);
    } else if !first {
        info!("all permissions that are always needed are granted now");
    }
    if !optional.is_empty() {
        info!(missing = permissions::list(&optional), "{}", permissions::OPTIONAL);
    }
}

fn report(mode: Confinement, finding: &ProbeFinding) {
    let (mode_, state, why) = (mode.as_str(), finding.state.as_str(), &finding.why);
    let promised = mode != Confinement::None;
    match finding.state {
        ConfinementState::DoesNotHold | ConfinementState::Unclear if promised => {
            warn!(mode = mode_, state, why, "confinement")
        }
        _ if finding.refuses_all => warn!(mode = mode_, state, why, "confinement"),
        _ => info!(mode = mode_, state, why, "confinement"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_back_off_doubles_and_is_bounded() {
        let seconds = |s| Duration::from_secs(s);
        for (before, jitter, expected) in [(0, 0.0, 500), (0, 1.0, 1000), (3, 1.0, 8000), (40, 1.0, 60_000)] {
            assert_eq!(back_off((seconds(1), seconds(60)), before, jitter), Duration::from_millis(expected));
        }
    }

    #[test]
    fn a_server_that_is_away_is_no_verdict_nor_is_one_answer_that_shows_nothing() {
        let failure = |answered| ProbeFailure { words: String::new(), answered };
        let mut streak = FailureStreak::default();
        assert!((0..100).all(|_| !streak.is_unclear_after(&failure(false))));
        assert!((1..ANSWERS_UNTIL_UNCLEAR).all(|_| !streak.is_unclear_after(&failure(true))));
        assert!(!streak.is_unclear_after(&failure(false)));
        assert!(streak.is_unclear_after(&failure(true)));
        assert_eq!(streak.failures, 101 + ANSWERS_UNTIL_UNCLEAR);
    }

    #[test]
    fn a_name_that_nobody_has_stays_a_name() {
        assert_eq!(no_such_pod("agent-x7k2p"), "agent-x7k2p.no-such-pod");
        let long = no_such_pod(&"a".repeat(253));
        assert!(long.len() == 253 && long.ends_with(".no-such-pod"));
    }

    #[test]
    fn what_is_well_is_not_asked_again() {
        let round = |need: Option<Need>, state| {
            let permission = |need| Permission { need, ..permissions::needed(Confinement::Policy, false).remove(0) };
            let finding = ProbeFinding { state, ..ProbeFinding::unclear(String::new()) };
            Round { missing: Some(need.map(permission).into_iter().collect()), finding }
        };
        use Confinement::{Impersonation, None as Nothing, Policy};
        for (mode, need, state, well) in [
            (Policy, None, ConfinementState::Holds, true),
            (Policy, None, ConfinementState::NotAsked, true),
            (Policy, Some(Need::ForceDelete), ConfinementState::Holds, true),
            (Policy, Some(Need::Always), ConfinementState::Holds, false),
            (Policy, None, ConfinementState::DoesNotHold, false),
            (Impersonation, None, ConfinementState::Unclear, false),
            (Nothing, None, ConfinementState::DoesNotHold, true),
            (Nothing, None, ConfinementState::Unclear, true),
            (Nothing, Some(Need::Always), ConfinementState::DoesNotHold, false),
        ] {
            assert_eq!(round(need, state).is_well(mode), well, "{mode:?} {need:?} {state:?}");
        }
        let unknown = Round { missing: None, finding: ProbeFinding::unclear(String::new()) };
        assert!(!unknown.is_well(Nothing), "it was not answered");
    }
}
