//! Black-box tests: the binary, real servers, real processes. A test whose tool is missing on this machine is listed
//! as ignored, with the tool in its name; with `GROUNDSWELL_TESTS_NEED_ALL` set it runs and fails instead, unless what
//! is missing is a right that can't be installed.

#![allow(clippy::disallowed_types, reason = "real processes live in real time")]

mod allow;
mod api;
mod autobahn;
mod bad_input;
mod browsers;
mod cluster;
mod compare;
mod containers;
mod dashboard;
mod edges;
mod examples;
mod faults;
mod flood;
mod formats;
mod harness;
mod help;
mod http;
mod interrupt;
mod limits;
mod loss;
mod monitoring;
mod mounts;
mod namespaces;
mod probes;
mod rooms;
mod security;
mod sockets;
mod stored;
mod tls;
mod websocket;

use harness::Tool;
use libtest_mimic::{Arguments, Failed, Trial};

type Test = fn() -> anyhow::Result<()>;

/// A browser, and what drives it.
const BROWSER: &[Tool] = &[Tool::Chromium, Tool::Python("playwright")];

const TESTS: &[(&str, &[Tool], Test)] = &[
    ("browsers::a_login_is_a_cookie", &[], browsers::a_login_is_a_cookie),
    ("browsers::a_person_logs_in", BROWSER, browsers::a_person_logs_in),
    ("browsers::pages_of_elsewhere", &[], browsers::pages_of_elsewhere),
    ("browsers::who_guesses_waits", &[], browsers::who_guesses_waits),
    ("cluster::requests_in_the_access_log_equal_issued", &[Tool::Nginx], cluster::access_log_equals_issued),
    ("cluster::one_agent_and_four_offer_the_same", &[Tool::Nginx], cluster::one_agent_and_four_offer_the_same),
    (
        "cluster::every_version_and_owner_of_connections",
        &[Tool::Nginx],
        cluster::every_version_and_owner_of_connections,
    ),
    ("http::httpbin_through_both_transports", &[Tool::Python("gunicorn, httpbin")], http::httpbin),
    ("http::proxies_for_http_and_socks", &[Tool::Nginx, Tool::Python("pproxy")], http::proxies),
    ("http::steps_of_one_name_send_their_own_requests", &[Tool::Nginx], http::steps_of_one_name),
    ("http::connections_that_end_at_random", &[Tool::Nginx], http::connections_that_end),
    ("http::connections_that_end_with_retries", &[Tool::Nginx], http::connections_that_end_with_retries),
    ("flood::memory_stays_bounded", &[], flood::memory_stays_bounded),
    ("flood::silence_holds_no_more_than_the_plan_allows", &[], flood::silence),
    ("loss::kill_nine_of_one_of_three_agents", &[Tool::Nginx], loss::kill_nine),
    ("loss::an_agent_that_is_asked_to_stop_hands_in_its_figures", &[Tool::Nginx], loss::agent_asked_to_stop),
    ("faults::agents::killed_for_good", &[], faults::agents::killed_for_good),
    ("faults::agents::killed_and_replaced", &[], faults::agents::killed_and_replaced),
    ("faults::agents::frozen_for_longer_than_its_lease", &[], faults::agents::frozen_for_longer_than_its_lease),
    ("faults::agents::frozen_for_less_than_its_lease", &[], faults::agents::frozen_for_less_than_its_lease),
    ("faults::agents::asked_to_end", &[], faults::agents::asked_to_end),
    ("faults::agents::joins_late", &[], faults::agents::joins_late),
    ("faults::agents::started_twice", &[], faults::agents::started_twice),
    ("faults::links::held_for_less_than_the_lease", &[], faults::links::held_for_less_than_the_lease),
    ("faults::links::held_for_longer_than_the_lease", &[], faults::links::held_for_longer_than_the_lease),
    ("faults::links::held_with_continue", &[], faults::links::held_with_continue),
    ("faults::links::answers_held", &[], faults::links::answers_held),
    ("faults::links::slow", &[], faults::links::slow),
    ("faults::links::killed_before_its_figures_arrive", &[], faults::links::killed_before_its_figures_arrive),
    ("faults::links::killed_before_it_is_acknowledged", &[], faults::links::killed_before_it_is_acknowledged),
    ("faults::links::cut_every_second", &[], faults::links::cut_every_second),
    ("faults::links::delayed", &[], faults::links::delayed),
    ("faults::links::corrupted", &[], faults::links::corrupted),
    ("faults::namespaces::link_down", &[Tool::NetworkNamespace], faults::namespaces::link_down),
    (
        "faults::namespaces::link_down_for_a_moment",
        &[Tool::NetworkNamespace],
        faults::namespaces::link_down_for_a_moment,
    ),
    ("faults::crowd::five_hundred_at_once", &[], faults::crowd::five_hundred_at_once),
    ("faults::crowd::streams_without_a_word", &[], faults::crowd::streams_without_a_word),
    ("faults::coordinator::killed_twenty_times", &[], faults::coordinator::killed_twenty_times),
    ("faults::coordinator::away_for_longer_than_the_lease", &[], faults::coordinator::away_for_longer_than_the_lease),
    ("faults::coordinator::two_on_one_store", &[], faults::coordinator::two_on_one_store),
    ("faults::coordinator::a_ghost_is_not_obeyed", &[], faults::coordinator::a_ghost_is_not_obeyed),
    ("faults::coordinator::killed_while_it_reports", &[], faults::coordinator::killed_while_it_reports),
    (
        "faults::coordinator::its_name_gets_another_address",
        &[Tool::Mount],
        faults::coordinator::its_name_gets_another_address,
    ),
    ("faults::coordinator::restarted_with_an_edited_plan", &[], faults::coordinator::restarted_with_an_edited_plan),
    ("faults::coordinator::recovered_without_anybody", &[], faults::coordinator::recovered_without_anybody),
    ("faults::coordinator::disk_full", &[Tool::Mount], faults::coordinator::disk_full),
    ("faults::bytes::replayed_and_missing", &[], faults::bytes::replayed_and_missing),
    ("faults::bytes::two_contents_under_one_number", &[], faults::bytes::two_contents_under_one_number),
    ("faults::bytes::refused_before_they_are_merged", &[], faults::bytes::refused_before_they_are_merged),
    ("faults::bytes::more_than_was_planned", &[], faults::bytes::more_than_was_planned),
    ("faults::bytes::more_than_is_due_by_now", &[], faults::bytes::more_than_is_due_by_now),
    ("faults::chaos", &[], faults::chaos::chaos),
    ("interrupt::ctrl_c_stops_the_load_and_reports", &[Tool::Nginx], interrupt::ctrl_c),
    ("interrupt::a_threshold_stops_the_run", &[Tool::Nginx], interrupt::threshold_stops),
    ("limits::an_agent_that_is_stopped_for_two_seconds", &[Tool::Nginx], limits::stalled_agent),
    ("limits::cpu_quota", &[Tool::Nginx, Tool::CpuGroup], limits::cpu_quota),
    ("limits::search_with_a_starved_agent", &[Tool::Nginx, Tool::CpuGroup], limits::search_with_a_starved_agent),
    ("limits::few_descriptors", &[Tool::Nginx], limits::few_descriptors),
    ("limits::few_ports", &[Tool::NetworkNamespace], limits::few_ports),
    ("tls::every_mistake_has_its_class", &[Tool::OpenSsl], tls::every_mistake_has_its_class),
    ("tls::a_good_certificate_and_insecure", &[Tool::OpenSsl], tls::a_good_certificate_and_insecure),
    ("tls::sockets", &[Tool::OpenSsl, Tool::Python("websockets")], tls::sockets),
    ("tls::mistakes_with_nginx", &[Tool::OpenSsl, Tool::Nginx], tls::mistakes_with_nginx),
    ("tls::http2_with_client_certificates", &[Tool::OpenSsl, Tool::Nginx], tls::http2_with_client_certificates),
    ("tls::another_server_name_and_version", &[Tool::OpenSsl, Tool::Nginx], tls::server_name_and_version),
    ("websocket::messages_counted_by_the_server_equal_reported", &[Tool::Python("websockets")], websocket::counts),
    ("websocket::uvicorn_without_websockets", &[Tool::Python("uvicorn")], websocket::refused_by_uvicorn),
    ("websocket::nginx_refuses_the_upgrade", &[Tool::Nginx], websocket::refused_by_nginx),
    ("sockets::every_step_with_websockets", &[Tool::Python("websockets")], sockets::every_step_with_websockets),
    ("sockets::every_step_with_aiohttp", &[Tool::Python("aiohttp")], sockets::every_step_with_aiohttp),
    ("autobahn::every_case", &[Tool::Autobahn], autobahn::every_case),
    ("sockets::refused_upgrades", &[], sockets::refused_upgrades),
    ("sockets::hostile_servers", &[], sockets::hostile_servers),
    ("sockets::a_server_that_stops_reading", &[], sockets::a_server_that_stops_reading),
    ("rooms::five_thousand_messages_to_three_hundred", &[Tool::Python("websockets")], rooms::everything_arrives),
    ("rooms::faults_are_caught", &[Tool::Python("websockets")], rooms::faults_are_caught),
    ("rooms::a_server_that_restarts", &[Tool::Python("websockets")], rooms::a_server_that_restarts),
    ("rooms::a_storm_of_reconnects", &[Tool::Python("websockets")], rooms::a_storm),
    ("security::agents_need_a_certificate", &[], security::agents_need_a_certificate),
    ("security::agents_join_with_a_token", &[], security::agents_join_with_a_token),
    ("security::tokens_of_files", &[], security::tokens_of_files),
    ("security::people_need_a_token", &[], security::people_need_a_token),
    ("security::no_tokens_unasked", &[], security::no_tokens_unasked),
    ("security::secrets_stay_secret", &[], security::secrets_stay_secret),
    ("security::open_is_said", &[], security::open_is_said),
    ("security::a_run_that_others_join", &[], security::a_run_that_others_join),
    ("stored::a_coordinator_keeps_its_store_small", &[], stored::kept_small),
    ("compare::a_regression_against_a_stored_run", &[], compare::regression),
    ("stored::a_run_is_kept_and_reported_again", &[], stored::kept),
    ("api::a_run_from_submission_to_report", &[], api::a_run_from_submission_to_report),
    ("api::runs_choose_their_agents", &[], api::runs_choose_their_agents),
    ("api::bad_input", &[], api::bad_input),
    ("api::watched_over_a_restart", &[], api::watched_over_a_restart),
    ("api::watchers_change_nothing", &[], api::watchers_change_nothing),
    ("monitoring::prometheus_reads_the_figures", &[Tool::Prometheus], monitoring::prometheus),
    (
        "monitoring::opentelemetry_reads_the_figures",
        &[Tool::Python("grpc, opentelemetry.proto.collector.metrics.v1")],
        monitoring::opentelemetry,
    ),
    ("mounts::keys_that_cannot_be_written", &[Tool::Mount], mounts::keys_that_cannot_be_written),
    ("mounts::an_audit_log_without_a_file", &[], mounts::an_audit_log_without_a_file),
    ("namespaces::the_first_report", &[Tool::NetworkNamespace], namespaces::the_first_report),
    ("probes::health_is_an_exit_code", &[], probes::health_is_an_exit_code),
    ("probes::agents_leave_after_their_time", &[], probes::agents_leave_after_their_time),
    ("probes::a_token_is_kept_while_it_lasts", &[], probes::a_token_is_kept_while_it_lasts),
    ("containers::the_first_report", &[Tool::Docker], containers::the_first_report),
    ("containers::the_first_report_of_up", &[Tool::Docker], containers::the_first_report_of_up),
    ("containers::no_way_out", &[Tool::Docker, Tool::NetworkNamespace], containers::no_way_out),
    ("containers::a_run_through_faults", &[Tool::Docker], containers::a_run_through_faults),
    ("containers::the_pods_of_kubernetes", &[Tool::Docker], containers::the_pods_of_kubernetes),
    ("stored::a_run_moves_to_another_store", &[], stored::moved),
    ("formats::csv_is_read_by_another_reader", &[Tool::Python("csv")], formats::csv),
    ("formats::histograms_are_read_by_hdrhistogram", &[Tool::Python("hdrh")], formats::histograms),
    ("formats::page_of_a_real_run", &[], formats::html),
    ("formats::junit_fits_its_schemas", &[Tool::Python("lxml")], formats::junit),
    ("dashboard::served_with_its_policy", &[], dashboard::served_with_its_policy),
    ("dashboard::from_start_to_comparison", BROWSER, dashboard::from_start_to_comparison),
    ("dashboard::markup_stays_text", BROWSER, dashboard::markup_stays_text),
    ("dashboard::watched_over_a_restart", BROWSER, dashboard::watched_over_a_restart),
    ("allow::another_target_is_refused_at_submit", &[], allow::refused_at_submit),
    ("allow::what_leads_elsewhere_is_refused_at_connect", &[], allow::refused_at_connect),
    ("allow::a_name_that_stands_for_another_address", &[Tool::Mount], allow::rebinding),
    ("allow::names_are_looked_up_only_where_they_may_be", &[Tool::Mount], allow::look_ups),
    ("allow::a_target_learns_whose_load_it_is", &[], allow::headers),
    ("allow::no_more_than_the_operator_allows", &[], allow::caps),
    ("allow::every_run_is_in_the_audit_log", &[], allow::audit),
    ("allow::wrong_rules_are_refused", &[], allow::wrong_rules),
    ("bad_input::target_down", &[], bad_input::target_down),
    ("bad_input::dns_failure", &[], bad_input::dns_failure),
    ("bad_input::port_in_use", &[], bad_input::port_in_use),
    ("bad_input::another_protocol_version", &[], bad_input::another_protocol_version),
    ("bad_input::name_taken", &[], bad_input::name_taken),
    ("bad_input::never_ready", &[], bad_input::never_ready),
    ("bad_input::no_agents", &[], bad_input::no_agents),
    ("bad_input::invalid_plan_sends_nothing", &[], bad_input::invalid_plan),
    ("bad_input::files_that_are_not_there", &[], bad_input::missing_files),
    ("examples::run_shortened", &[], examples::run_shortened),
    ("examples::schema_is_current", &[], examples::schema_is_current),
    ("examples::reference_is_complete", &[], examples::reference_is_complete),
    ("help::every_command_explains_itself", &[], help::every_command_explains_itself),
    ("help::wrong_usage_is_refused", &[], help::wrong_usage),
    ("edges::crates_depend_only_on_what_they_may", &[], edges::crates_depend_only_on_what_they_may),
    ("edges::every_dependency_has_its_reason", &[], edges::every_dependency_has_its_reason),
    ("edges::one_tls_provider", &[], edges::one_tls_provider),
    ("edges::every_file_says_what_it_is_for", &[], edges::every_file_says_what_it_is_for),
];

fn main() {
    let mut arguments = Arguments::from_args();
    // Most of a test is waiting for a run.
    let cores = std::thread::available_parallelism().map_or(1, std::num::NonZero::get);
    arguments.test_threads = arguments.test_threads.or(Some(cores + 2));
    let need_all = std::env::var_os("GROUNDSWELL_TESTS_NEED_ALL").is_some();
    let trials = TESTS.iter().map(|(name, tools, test)| {
        let missing: Vec<String> = tools.iter().filter(|tool| !tool.is_here()).map(|tool| tool.name()).collect();
        let needed = need_all && tools.iter().all(|tool| tool.is_here() || tool.can_be_installed());
        let skip = !missing.is_empty() && !needed;
        let name = if skip { format!("{name} (skipped: needs {})", missing.join(", ")) } else { (*name).to_owned() };
        let test = *test;
        Trial::test(name, move || test().map_err(|error| Failed::from(format!("{error:?}")))).with_ignored_flag(skip)
    });
    libtest_mimic::run(&arguments, trials.collect()).exit();
}
