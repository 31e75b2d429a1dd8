//! What the agent may do, found out by asking the API server: at the start, beside the guarding,
//! which never waits for it.
//!
//! [`needed`] is the list of rights, [`confinement`] what an answer to the probe means; here they
//! are asked for and told.

pub mod confinement;
pub mod needed;

use std::time::Duration;

use k8s_openapi::api::authorization::v1::SelfSubjectAccessReview;
use kube::api::PostParams;
use kube::{Api, Client};
use tracing::{error, info, warn};

use self::confinement::{Confinement, Finding, State, Verdict};
use self::needed::{Need, Right};
use crate::act::evict::send;
use crate::act::order::{Act, Order};
use crate::ground::text::chain;
use crate::pods::{PodRef, PodUid};
use crate::report::metrics::Metrics;

/// Between two tries while there is no answer that says anything: from the first to the longest.
const TRY_AGAIN: (Duration, Duration) = (Duration::from_secs(1), Duration::from_secs(60));
/// What is not as it should be is asked for again, and told when it has changed. A policy that was
/// applied in the same moment as the agent takes the server some seconds to put into force.
const LOOK_AGAIN: (Duration, Duration) = (Duration::from_secs(5), Duration::from_secs(600));
/// What is as it should be is looked at again so often: a policy can be taken away.
const LOOK_WHEN_WELL: Duration = Duration::from_secs(3600);
/// After so many tries, answers that say nothing (a webhook that is down, say) are told as unclear.
const TRIES: u32 = 5;
/// All questions of one round.
const ROUND_WITHIN: Duration = Duration::from_secs(120);
/// No object has this uid: the server makes random ones.
const NOBODY: &str = "00000000-0000-0000-0000-000000000000";

/// Which pod the agent itself is (downward API).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Me {
    /// `metadata.namespace`.
    pub namespace: String,
    /// `metadata.name`.
    pub name: String,
}

/// How to ask.
#[derive(Clone)]
pub struct Asker {
    /// As whom the agent acts: for the probe.
    pub acting: Client,
    /// As the account itself: for access reviews.
    pub own: Client,
    /// What was promised.
    pub mode: Confinement,
    /// The agent's own pod; none: the probe has nobody to name.
    pub me: Option<Me>,
    /// Nothing but reads is to be sent.
    pub silent: bool,
}

/// What one round of questions found.
#[derive(Debug, PartialEq, Eq)]
struct Round {
    /// None: not known.
    missing: Option<Vec<Right>>,
    finding: Finding,
}

impl Round {
    /// Nothing is left to be mended, as far as it was promised.
    fn is_well(&self, mode: Confinement) -> bool {
        let granted = self.missing.as_ref().is_some_and(|m| m.iter().all(|right| right.need != Need::Always));
        let confined = matches!(self.finding.state, State::Holds | State::NotAsked) || mode == Confinement::None;
        granted && confined
    }
}

/// Why a round found nothing.
#[derive(Debug)]
struct Trouble {
    words: String,
    /// Somebody did answer.
    answered: bool,
}

/// How often it was asked in vain, one time after the other.
#[derive(Default)]
struct Patience {
    tries: u32,
    /// And somebody answered all the same.
    answers: u32,
}

impl Patience {
    /// Counts a try in vain; whether it is to be told now. A server that is away is waited for.
    fn ends(&mut self, trouble: &Trouble) -> bool {
        self.tries += 1;
        self.answers += u32::from(trouble.answered);
        trouble.answered && self.answers >= TRIES
    }
}

/// Asks until there is an answer, and tells it; asks again soon while something has to be mended, else once an hour. Never ends
/// but in a dry run of the client.
pub async fn find_out(asker: Asker, metrics: Metrics) {
    metrics.confinement(asker.mode, State::NotAsked);
    if asker.silent {
        tell(asker.mode, &Finding::not_asked("in a dry run of the client nothing but reads is sent"));
        return;
    }
    let mut told: Option<Round> = None;
    let (mut patience, mut rounds) = (Patience::default(), 0);
    loop {
        let round = match asker.round_in_time().await {
            Ok(round) => {
                patience = Patience::default();
                round
            }
            Err(trouble) => {
                if !patience.ends(&trouble) {
                    tokio::time::sleep(back_off(TRY_AGAIN, patience.tries - 1, fastrand::f64())).await;
                    continue;
                }
                Round { missing: None, finding: Finding::unclear(trouble.words) }
            }
        };
        if told.as_ref().map(|t| &t.missing) != Some(&round.missing) {
            tell_missing(round.missing.as_deref(), told.is_none());
        }
        if told.as_ref().map(|t| &t.finding) != Some(&round.finding) {
            metrics.confinement(asker.mode, round.finding.state);
            tell(asker.mode, &round.finding);
        }
        let wait = if round.is_well(asker.mode) {
            rounds = 0;
            back_off((LOOK_WHEN_WELL, LOOK_WHEN_WELL), 0, fastrand::f64())
        } else {
            rounds += 1;
            back_off(LOOK_AGAIN, rounds - 1, fastrand::f64())
        };
        told = Some(round);
        tokio::time::sleep(wait).await;
    }
}

/// From half to the whole of the doubled time, so that agents do not ask in step.
fn back_off((first, longest): (Duration, Duration), before: u32, jitter: f64) -> Duration {
    let whole = first.saturating_mul(1 << before.min(16)).min(longest);
    whole.mul_f64(0.5 + jitter.clamp(0.0, 1.0) / 2.0)
}

impl Asker {
    async fn round_in_time(&self) -> Result<Round, Trouble> {
        let late = Trouble { words: "no answer in time".into(), answered: false };
        tokio::time::timeout(ROUND_WITHIN, self.round()).await.unwrap_or(Err(late))
    }

    async fn round(&self) -> Result<Round, Trouble> {
        let mut missing = Vec::new();
        for right in needed::needed(self.mode) {
            if !self.may(&right).await? {
                missing.push(right);
            }
        }
        let finding = self.finding().await?;
        Ok(Round { missing: Some(missing), finding })
    }

    async fn finding(&self) -> Result<Finding, Trouble> {
        let Some(me) = &self.me else {
            return Ok(Finding::not_asked(
                "POD_NAME and POD_NAMESPACE (downward API) are not set: there is no own pod to ask about",
            ));
        };
        for right in needed::must_not_have(self.mode) {
            if self.may(&right).await? {
                return Ok(Finding::surplus(&right));
            }
        }
        // A name that nobody has, where the agent acts as the node; else the agent's own pod.
        let name = match self.mode {
            Confinement::Impersonation => no_such_pod(&me.name),
            Confinement::None | Confinement::Policy => me.name.clone(),
        };
        let order = Order {
            pod: PodRef { namespace: me.namespace.clone(), name, uid: PodUid(NOBODY.into()) },
            act: Act::Evict,
            grace: None,
            dry_run: true,
        };
        let answer = send(&self.acting, &order).await;
        let (code, _, body) = answer.map_err(|error| Trouble { words: chain(error.as_ref()), answered: false })?;
        match confinement::verdict(self.mode, &order.pod.name, code, &body) {
            Verdict::Found(finding) => Ok(finding),
            Verdict::Passing(words) => Err(Trouble { words, answered: true }),
        }
    }

    /// Asks for one right of the account itself, in all namespaces.
    async fn may(&self, right: &Right) -> Result<bool, Trouble> {
        let reviews: Api<SelfSubjectAccessReview> = Api::all(self.own.clone());
        let review = reviews.create(&PostParams::default(), &right.review()).await;
        match review {
            Ok(review) => Ok(review.status.is_some_and(|s| s.allowed)),
            Err(error) => {
                let answered = matches!(&error, kube::Error::Api(status) if status.code != 401);
                let words = format!("the own rights cannot be asked for: {}", chain(&error));
                Err(Trouble { words, answered })
            }
        }
    }
}

/// A pod's name that is taken by no pod: names end with a letter or a digit.
fn no_such_pod(own: &str) -> String {
    const LONGEST: usize = 253;
    const END: &str = ".no-such-pod";
    let kept = own.floor_char_boundary(LONGEST - END.len());
    format!("{}{END}", &own[..kept])
}

/// All that is missing in one message.
fn tell_missing(missing: Option<&[Right]>, first: bool) {
    let Some(missing) = missing else { return };
    let (needed, optional): (Vec<_>, Vec<_>) = missing.iter().partition(|right| right.need == Need::Always);
    if !needed.is_empty() {
        error!(missing = needed::list(&needed), "{}", needed::WHAT_TO_DO);
    } else if !first {
        info!("all rights that are always used are granted now");
    }
    if !optional.is_empty() {
        info!(missing = needed::list(&optional), "{}", needed::OPTIONAL);
    }
}

fn tell(mode: Confinement, finding: &Finding) {
    let (mode_, state, why) = (mode.as_str(), finding.state.as_str(), &finding.why);
    let promised = mode != Confinement::None;
    match finding.state {
        State::DoesNotHold | State::Unclear if promised => warn!(mode = mode_, state, why, "confinement"),
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
    fn a_server_that_is_away_is_no_verdict_nor_is_one_answers_trouble() {
        let trouble = |answered| Trouble { words: String::new(), answered };
        let mut patience = Patience::default();
        assert!((0..100).all(|_| !patience.ends(&trouble(false))));
        assert!((1..TRIES).all(|_| !patience.ends(&trouble(true))));
        assert!(!patience.ends(&trouble(false)));
        assert!(patience.ends(&trouble(true)));
        assert_eq!(patience.tries, 101 + TRIES);
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
            let right = |need| Right { need, ..needed::needed(Confinement::Policy).remove(0) };
            let finding = Finding { state, ..Finding::unclear(String::new()) };
            Round { missing: Some(need.map(right).into_iter().collect()), finding }
        };
        use Confinement::{Impersonation, None as Nothing, Policy};
        for (mode, need, state, well) in [
            (Policy, None, State::Holds, true),
            (Policy, None, State::NotAsked, true),
            (Policy, Some(Need::ForceDelete), State::Holds, true),
            (Policy, Some(Need::Always), State::Holds, false),
            (Policy, None, State::DoesNotHold, false),
            (Impersonation, None, State::Unclear, false),
            (Nothing, None, State::DoesNotHold, true),
            (Nothing, None, State::Unclear, true),
            (Nothing, Some(Need::Always), State::DoesNotHold, false),
        ] {
            assert_eq!(round(need, state).is_well(mode), well, "{mode:?} {need:?} {state:?}");
        }
        let unknown = Round { missing: None, finding: Finding::unclear(String::new()) };
        assert!(!unknown.is_well(Nothing), "it was not answered");
    }
}
