//! Whatever is said to be a certificate, a request for one, or a token.
#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| groundswell_fuzz::certificate(bytes));
