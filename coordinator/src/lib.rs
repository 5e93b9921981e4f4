//! The coordinator: fleet, run state machine, merge, thresholds, verdict, report, and the gRPC server around them.
//!
//! # Layout
//! - [`run`]: one run from submission to report; a state machine without sockets or clocks
//! - [`fleet`]: the agents and their states; as pure
//! - [`report`]: the merged answer and its renderings
//! - [`compare`]: a run beside the runs that it is judged by; as pure
//! - [`search`]: which level to try next, and what a search found; as pure
//! - [`archive`]: a run as one file; knows the plan as the store keeps it
//! - [`server`]: gRPC for agents and HTTP for people around them; the only part that names the wire's messages
//! - [`export`]: figures for monitoring systems
//! - [`api`]: the JSON of the HTTP API

pub mod api;
pub mod archive;
pub mod compare;
pub mod delivery;
pub mod export;
pub mod fleet;
pub mod report;
pub mod run;
pub mod search;
pub mod server;
pub mod store;
