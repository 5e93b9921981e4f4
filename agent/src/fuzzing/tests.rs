//! The checks on every input that is kept, and on mutations of them.
#![allow(clippy::print_stdout, clippy::unwrap_used, reason = "tests; a seed must be seen to be used again")]

#[path = "../../../tests/corpus/mutations.rs"]
mod mutations;

use mutations::{folder, inputs, try_all};

/// Mutations where nothing else is said: a few seconds of an unoptimised build.
const ROUNDS: u64 = 500;

#[test]
fn whatever_a_target_answers() {
    try_all(&inputs(&[folder("fuzz/corpus/response")]), ROUNDS, super::response);
}

#[test]
fn whatever_a_target_sends_over_a_websocket() {
    try_all(&inputs(&[folder("fuzz/corpus/websocket")]), ROUNDS, super::websocket);
}
