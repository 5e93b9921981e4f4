//! Whatever a client asks of a coordinator.
#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| groundswell_fuzz::api(bytes));
