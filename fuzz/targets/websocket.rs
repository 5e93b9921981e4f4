//! Whatever a target sends over a WebSocket, or in place of one.
#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| bounded::within(bytes, groundswell_agent::fuzzing::websocket));

#[path = "../src/bounded.rs"]
mod bounded;
