//! The store from outside: what is promised holds after every kind of end, in both databases.
#![allow(clippy::unwrap_used, reason = "a test fails where it unwraps")]
#![allow(clippy::print_stdout, reason = "what was skipped, and how much a test has seen")]

mod cluster;
mod common;
mod compaction;
mod damage;
mod failing;
mod kill;
mod postgres;
mod prefix;
mod suite;
mod tools;

use groundswell_coordinator::store::Location;

/// Calls a macro with the parts of the suite, behind what else it is given.
macro_rules! parts {
    ($what:ident $(, $first:ident)?) => {
        $what!(
            $($first,)?
            terms_rise,
            incarnations_are_durable_and_rise,
            a_submission_makes_one_run,
            runs_are_listed_newest_first,
            entries_come_back_as_written,
            the_database_refuses_what_does_not_follow,
            reports_never_change,
            figures_stand_beside_the_newest_report,
            a_run_remembers_which_agents_it_takes,
            a_second_coordinator_is_refused,
            compaction_keeps_order_keys_and_content,
            compaction_that_fails_or_is_cut_short_changes_nothing,
            pruning_deletes_what_is_old,
        );
    };
}
pub(crate) use parts;

/// Runs each part of the suite on a folder of its own.
macro_rules! on_sqlite {
    ($($name:ident),* $(,)?) => {
        mod sqlite {
            $(#[tokio::test]
            async fn $name() {
                let folder = tempfile::tempdir().unwrap();
                crate::suite::$name(super::Location::Folder(folder.path().join("store"))).await;
            })*
        }
    };
}

parts!(on_sqlite);
