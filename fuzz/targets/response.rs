//! Whatever a target answers over HTTP/1.1 and HTTP/2.
#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| bounded::within(bytes, groundswell_agent::fuzzing::response));

#[path = "../src/bounded.rs"]
mod bounded;
