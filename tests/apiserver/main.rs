//! Against a real API server: a `kube-apiserver` and an `etcd` in the directory that `KUBEBUILDER_ASSETS` names, as
//! `setup-envtest` brings them. No kubelet and no controllers, so nothing here needs root, or more than a few minutes.
//! Run by `tests/run apiserver`; one alone: `cargo test --test apiserver -- NAME`.
//!
//! | to add … | look into |
//! |---|---|
//! | a recorded answer that has to come from a real server, too | `recorded.rs`: a line of `prepare` |
//! | a denial by somebody's webhook | `denials.rs`: a line of its table |
//! | a request of the agent's and what it takes the answer for | `evictions.rs` |
//! | what the shipped rights allow and forbid | `rights.rs` |
//! | what may be changed by pods/resize | `resizes.rs`; its cases are in `../resizes/cases.rs` |
//! | what a guarded namespace's pods are stamped with | `namespaces.rs`; its cases are in `../stamps/cases.rs` |
//! | the whole agent, with a kubelet played by the test | `agents.rs` |
//! | lists and watches | `watches.rs` |
//!
//! All tests share one server and have a namespace each; what is of the whole cluster and in the way of others (a mode's
//! manifests) is taken in turn, see [`rights::Installed`].

#![allow(
    clippy::disallowed_methods,
    clippy::expect_used,
    clippy::unwrap_used,
    reason = "a test is the outside world, and panics are its verdicts"
)]

#[path = "../e2e/agent.rs"]
#[allow(dead_code, reason = "the end-to-end tests use all of it")]
mod agent;
mod agents;
#[path = "../stamps/cases.rs"]
mod cases;
mod denials;
mod evictions;
mod namespaces;
mod recorded;
#[path = "../resizes/cases.rs"]
mod resize_cases;
mod resizes;
mod rights;
mod server;
mod watches;
mod webhook;
mod world;

use std::sync::{Arc, OnceLock};

use libtest_mimic::{Arguments, Completion, Trial};
use world::Cluster;

/// Started by the first test that needs it.
type Shared = Arc<OnceLock<Result<Cluster, String>>>;

fn trial(shared: &Shared, name: String, test: impl FnOnce(&Cluster) -> Completion + Send + 'static) -> Trial {
    let shared = Arc::clone(shared);
    Trial::ignorable_test(name, move || Ok(test(shared.get_or_init(Cluster::start).as_ref()?)))
        .with_ignored_flag(std::env::var_os(server::ASSETS).is_none())
}

/// What a test returns: most are over when they have returned, some may find that this server cannot be asked.
trait Verdict {
    fn completion(self) -> Completion;
}

impl Verdict for () {
    fn completion(self) -> Completion {
        Completion::Completed
    }
}

impl Verdict for Completion {
    fn completion(self) -> Completion {
        self
    }
}

macro_rules! trials {
    ($shared:expr; $($module:ident: $($test:ident)+;)+) => {
        vec![$($(trial(
            $shared,
            concat!(stringify!($module), "::", stringify!($test)).to_owned(),
            |cluster| $module::$test(cluster).completion(),
        ),)+)+]
    };
}

fn main() {
    let shared = Shared::default();
    let mut tests = trials! { &shared;
        recorded:
            every_recorded_answer_is_tried_or_excused;
        watches:
            a_version_that_is_too_old_is_410
            a_pods_life_is_told_line_by_line
            pages_and_bookmarks;
        denials:
            each_is_answered_as_recorded
            the_agent_takes_each_for_a_denial;
        rights:
            each_rule_of_the_policy_mode_is_needed
            each_rule_of_the_impersonation_mode_is_needed
            a_stolen_token_reaches_no_other_node_by_policy
            a_stolen_token_reaches_no_other_node_by_impersonation
            the_policies_bind_the_agent_in_any_namespace
            in_a_namespace_without_pods_the_policy_refuses_everybody
            the_opt_in_can_be_asked_of_whoever_acts_as_a_node;
        resizes:
            only_what_a_remedy_needs_is_changed
            the_agent_finds_out_in_the_policy_mode
            the_agent_finds_out_in_the_impersonation_mode
            a_stolen_token_raises_no_other_pod
            the_agents_own_resizes_pass_in_the_policy_mode
            the_agents_own_resizes_pass_in_the_impersonation_mode;
        agents:
            it_lives_under_the_manifests_of_the_policy_mode
            it_lives_under_the_manifests_of_the_impersonation_mode
            a_denial_that_lifts_is_waited_for
            a_budget_that_blocks_is_waited_for
            the_label_switches_the_guard
            a_server_that_was_restarted_is_followed;
        namespaces:
            pods_are_stamped_as_they_are_created
            a_policy_that_fails_stops_no_pod
            pods_made_before_the_label_are_named;
        evictions:
            an_eviction_ends_the_pod_of_this_uid_and_no_other
            the_grace_that_is_asked_for_is_given
            a_dry_run_is_answered_truly_and_changes_nothing
            a_budget_blocks_until_it_allows
            a_budget_lets_one_go
            two_budgets_are_a_refusal_in_the_servers_words
            rights_tokens_and_namespaces_are_told_apart
            what_does_not_run_goes_at_once;
    };
    tests.extend(
        recorded::names()
            .into_iter()
            .map(|name| trial(&shared, format!("recorded::{name}"), move |cluster| recorded::replay(cluster, &name))),
    );
    if std::env::var_os(server::ASSETS).is_none() {
        println!("{} is not set: a directory with kube-apiserver and etcd", server::ASSETS);
    }
    let conclusion = libtest_mimic::run(&Arguments::from_args(), tests);
    drop(shared); // and with it the server
    conclusion.exit();
}
