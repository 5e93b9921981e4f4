//! The fuzz targets' checks on every input that is kept, and on mutations of them, without a fuzzer: what once broke
//! something can't break it again unnoticed. `fuzz/` has the targets themselves; `agent` goes over those of its transports
//! in the same way.
//!
//! `GROUNDSWELL_FUZZ_ROUNDS` says how many mutations, `GROUNDSWELL_FUZZ_SEED` which.
#![allow(clippy::print_stdout, clippy::unwrap_used, reason = "tests; a seed must be seen to be used again")]

#[allow(unreachable_pub, reason = "in fuzz/ they are a library's")]
#[path = "../../fuzz/src/lib.rs"]
mod checks;
mod mutations;

use groundswell_proto::v1;
use prost::Message as _;

use mutations::{folder, inputs, try_all};

/// Mutations where nothing else is said: a few seconds of an unoptimised build. A plan takes longer than a delta.
const DELTAS: u64 = 4_000;
const PLANS: u64 = 300;
const REQUESTS: u64 = 300;
const CERTIFICATES: u64 = 2_000;

#[test]
fn whatever_an_agent_sends_as_figures() {
    let seeds = inputs(&[folder("fuzz/corpus/delta")]);
    let taken = seeds.iter().filter(|(_, bytes)| {
        let figures = v1::Figures::decode(&bytes[..]);
        figures.is_ok_and(|figures| !figures.steps.is_empty() && groundswell_stats::Delta::try_from(&figures).is_ok())
    });
    assert!(taken.count() >= 3, "the corpus has no figures that are taken, so nothing behind the refusals is tried");
    let packed_too = |bytes: &[u8]| {
        checks::delta(bytes);
        if let Ok(figures) = v1::Figures::decode(bytes) {
            checks::delta(&figures.pack());
        }
    };
    try_all(&seeds, DELTAS, packed_too);
}

#[test]
fn whatever_is_given_as_a_plan() {
    try_all(&inputs(&[folder("fuzz/corpus/plan"), folder("examples")]), PLANS, checks::plan);
}

#[test]
fn whatever_is_asked_of_a_coordinator() {
    try_all(&inputs(&[folder("fuzz/corpus/api")]), REQUESTS, checks::api);
}

#[test]
fn whatever_is_said_to_be_a_certificate() {
    try_all(&inputs(&[folder("fuzz/corpus/certificate")]), CERTIFICATES, checks::certificate);
}
