//! Whatever bytes an agent sends as its figures.
#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| groundswell_fuzz::delta(bytes));
