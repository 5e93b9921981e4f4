//! Whatever text is given as a plan.
#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| groundswell_fuzz::plan(bytes));
