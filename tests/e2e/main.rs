//! End to end: the real binary against the stand-in API server, on real cgroups where memory
//! matters and on files where exact numbers do. Needs root and a memory controller, so it is run by
//! `tests/run host` and `tests/run vm`, not by a plain `cargo test`.

#![allow(
    clippy::disallowed_methods,
    clippy::expect_used,
    clippy::unwrap_used,
    reason = "a test is the outside world, and panics are its verdicts"
)]

mod agent;
mod alarm;
mod browser;
mod demo;
mod desk;
mod faults;
mod image;
mod incidents;
mod innocents;
mod ladder;
mod page;
mod ramps;
mod replicas;
mod resize_rights;
mod rights;
mod scratch;
mod slow;
mod world;

use libtest_mimic::{Arguments, Trial};

macro_rules! trials {
    ($($module:ident: $($test:ident)+;)+) => {
        vec![$($(Trial::test(
            concat!(stringify!($module), "::", stringify!($test)),
            || { $module::$test(); Ok(()) },
        ),)+)+]
    };
}

fn main() {
    standin::hog::be_one_if_asked();
    // In a module that runs on several threads, what takes a minute stands first.
    let mut tests = trials! {
        alarm:
            a_kill_is_seen_at_once
            crossing_memory_high_is_sampled_at_once
            a_spent_quota_is_told_once_and_polled
            what_crawls_below_its_threshold_is_told_as_that
            memory_high_at_the_threshold_saves_what_fills_flat_out;
        demo:
            one_is_evicted_one_is_raised_and_one_is_killed
            it_can_be_simulated_and_says_so
            it_can_be_recorded
            the_agent_is_in_it
            it_leaves_nothing_behind_after_ctrl_c;
        desk:
            idle_connections_starve_nobody
            at_the_threshold_nothing_one_byte_above_one_eviction
            the_signal_is_the_working_set_unless_told_otherwise
            the_ancestors_traps_are_told_once_and_never_evicted
            who_is_never_evicted
            one_bad_pod_never_stops_the_others
            a_disruption_budget_blocks_and_is_told
            grace_and_dry_run_by_annotation_go_along
            guards_of_every_kind
            sustained_for_waits_for_that_long
            the_second_pod_of_an_owner_is_held_then_evicted
            a_blocked_pod_past_its_force_delete_threshold_is_deleted
            a_dry_run_of_the_server_deletes_nothing
            excluded_namespaces_are_left_alone
            a_missed_oom_kill_is_told
            passing_trouble_is_retried
            the_watch_is_begun_anew_and_guarding_goes_on
            it_starts_without_a_server
            an_eviction_finds_its_connection_open
            a_raise_finds_its_connection_open
            two_evictions_find_two_connections_open
            it_runs_in_a_cluster
            answers_that_cannot_be_read_are_asked_for_again
            sigterm_during_an_eviction_does_not_lose_the_answer
            it_stops_on_either_signal_and_at_once_on_a_second
            bad_configuration_is_told_all_at_once
            the_pages
            a_cgroup_root_that_is_gone_makes_it_unready
            the_log_can_be_text
            a_stalled_stderr_stalls_no_eviction
            an_annotation_edited_in_a_loop_writes_few_events
            the_log_says_each_thing_once
            it_stays_small_with_250_containers
            large_pods_cost_little_memory_and_hide_no_other
            no_right_to_list_is_told_and_heals;
        faults:
            accepted_is_asked_for_once
            an_accepted_eviction_that_does_nothing_is_told_and_asked_again
            only_the_watch_is_the_end_of_it
            a_pod_that_is_gone_is_asked_for_until_the_watch_says_so
            a_namesake_behind_a_silent_watch_is_not_touched
            a_budget_blocks_and_the_back_off_grows
            a_namesake_during_a_block_ends_the_retries
            throttling_is_waited_out
            a_namespace_that_ends_is_not_hurried
            a_webhook_that_denies_for_a_while_is_asked_again_in_its_words
            refusals_are_told_in_the_servers_words_and_not_asked_again_soon
            what_passes_is_asked_again_under_the_same_precondition
            an_answer_lost_after_the_act_is_harmless
            an_answer_that_never_comes_is_given_up
            a_slow_answer_is_waited_for
            a_dead_connection_costs_a_second
            a_dead_connection_is_found_before_the_eviction
            our_own_mistakes_are_told_and_not_repeated_soon
            a_rotated_token_is_read_anew
            an_event_survives_a_rotated_token
            a_watch_in_trouble_is_begun_anew
            a_hang_before_the_headers_is_noticed
            a_list_that_stops_in_its_middle_is_begun_anew
            a_silent_watch_does_not_stop_the_guarding
            a_server_that_is_away_is_waited_for
            a_server_that_is_back_gets_what_waits_at_once
            each_kind_of_trouble_is_told_once_and_in_its_own_words
            a_server_that_has_come_back_is_not_hit_at_once
            a_wrong_certificate_is_told_and_nothing_is_sent
            an_event_that_hangs_delays_no_eviction
            a_full_event_queue_delays_no_eviction
            events_that_are_refused_are_told_in_the_log
            a_slow_stat_delays_no_eviction_elsewhere;
        innocents:
            a_reader_of_three_times_its_limit_is_neither_over_nor_near
            a_reader_guarded_by_usage_is_neither_waived_nor_force_deleted
            a_writer_of_dirty_pages_is_spared
            tmpfs_below_the_threshold_is_spared_by_every_signal
            a_process_that_forks_a_lot_is_spared
            unreclaimable_spares_the_active_cache_that_working_set_counts;
        incidents:
            real_ramps_of_each_kind_get_their_class
            a_kill_without_a_verdict_has_a_class
            a_kill_by_a_limit_above_the_pods_is_the_nodes;
        ladder:
            raised_in_time_lives_on
            deferred_raise_is_evicted_in_time
            slow_raise_is_waited_for
            raise_stays_within_bound_budget_and_reserve
            nobody_else_is_raised
            restart_ends_on_sigterm_and_comes_back
            restart_asks_the_budget
            list_without_evict_never_evicts
            what_is_not_allowed_drops_out
            warn_relieves_a_cache
            hanging_warn_delays_nothing
            warning_is_not_repeated
            warn_goes_to_no_other_address;
        page:
            a_ramp_moves_and_its_eviction_appears
            what_is_past_is_shown_and_not_said
            the_agent_goes_away_and_comes_back
            hostile_names_are_text
            the_policy_is_in_force
            it_can_be_read_in_light_dark_and_narrow
            an_empty_node_says_how_to_opt_in
            pods_that_are_not_listed_yet_are_not_none
            it_is_used_with_the_keys
            it_is_read_aloud
            a_hidden_page_asks_seldom;
        ramps:
            a_ramp_is_evicted_before_the_kill_and_its_twin_is_killed
            a_ramp_is_evicted_beside_a_stat_that_takes_a_second
            the_precondition_and_nothing_else_goes_over_the_wire
            page_cache_at_the_limit_is_neither_over_nor_near
            a_tmpfs_innocent_below_its_threshold_lives
            a_label_removed_in_mid_ramp_ends_the_guard
            an_annotation_edited_in_mid_ramp_holds_at_once
            a_container_restarted_in_mid_ramp_is_guarded_under_its_new_id
            a_limit_resized_in_mid_ramp_moves_the_threshold
            a_namesake_is_a_pod_of_its_own
            a_limit_of_kubepods_is_no_base
            the_pods_limit_is_the_base_where_the_container_has_none
            a_quantity_guards_without_a_limit
            a_young_container_is_held_unless_its_end_is_near
            a_kill_in_spite_of_a_guard_is_told
            kills_of_workers_are_counted
            a_kill_for_the_pods_limit_is_told_as_that
            every_container_and_the_pod_are_guarded_by_a_star
            it_guards_without_any_rights_on_the_node
            dry_run_of_the_client_sends_nothing_but_tells_everything
            dry_run_of_the_server_asks_it_and_changes_nothing;
        replicas:
            two_that_leak_in_step_are_evicted_in_order
            five_that_leak_in_step_are_evicted_in_order
            twelve_that_leak_in_step_are_evicted_in_order
            young_ones_go_together_where_there_is_no_time;
        resize_rights:
            a_policy_on_resizes_that_holds_is_told_after_one_harmless_question
            a_policy_on_resizes_that_does_not_hold_is_told
            an_unclear_answer_about_resizes_is_told_as_unclear
            without_the_flag_resizes_are_not_asked_about
            a_dry_run_of_the_client_sends_no_probe_of_resizes;
        rights:
            the_rules_of_the_policy_mode_are_exactly_what_is_used
            the_rules_of_the_policy_mode_with_force_delete_are_exactly_what_is_used
            the_rules_of_the_impersonation_mode_are_exactly_what_is_used
            the_rules_of_the_impersonation_mode_with_force_delete_are_exactly_what_is_used
            the_rules_of_the_policy_mode_with_remedies_are_exactly_what_is_used
            the_rules_of_the_impersonation_mode_with_remedies_are_exactly_what_is_used
            all_missing_rights_are_named_in_one_message
            a_policy_that_holds_is_told_after_one_harmless_question
            a_policy_that_does_not_hold_is_told
            an_unclear_answer_is_told_as_unclear
            one_answers_trouble_is_no_verdict
            the_questions_delay_nothing
            acting_as_the_node_holds_or_not_and_is_told
            a_token_without_a_node_is_told
            it_is_not_asked_from_a_desk_nor_in_a_dry_run_of_the_client
            a_stolen_token_reaches_no_other_node
            two_agents_at_once_are_harmless
            a_namesake_under_the_policy_is_left_alone_and_then_guarded;
    };
    tests.push(Trial::ignorable_test("image::it_saves_a_container", || Ok(image::it_saves_a_container())));
    // Five or twelve at once, or megabytes of JSON in a few seconds, are more than an emulated machine can carry (`E2E_SLOW`, set
    // by leg vm), and it fills no memory faster than it is sampled. Its kernel comes without modules, so it has no FUSE for a slow
    // file.
    const LEFT_OUT: [&str; 5] = [
        "replicas::five",
        "replicas::twelve",
        "desk::large_pods",
        "ramps::a_ramp_is_evicted_beside_a_stat",
        "incidents::a_kill_without_a_verdict",
    ];
    // cgroup v1 has neither memory.events nor memory.high.
    const V2_ALONE: &str = "alarm::";
    let controllers = std::fs::read_to_string("/sys/fs/cgroup/cgroup.controllers").unwrap_or_default();
    let is_v2 = controllers.split_whitespace().any(|controller| controller == "memory");
    let is_slow = std::env::var_os("E2E_SLOW").is_some();
    let is_left_out =
        |name: &str| is_slow && LEFT_OUT.iter().any(|of| name.starts_with(of)) || !is_v2 && name.starts_with(V2_ALONE);
    let tests =
        tests.into_iter().map(|test| if is_left_out(test.name()) { test.with_ignored_flag(true) } else { test });
    libtest_mimic::run(&Arguments::from_args(), tests.collect()).exit();
}
