//! The agent: joins a coordinator, generates its share of the load, streams what it measured.
//!
//! # Layout
//! - [`run`]: the session with the coordinator, on a thread of its own; the only part that names the wire
//! - `engine`: turns a plan and a share into operations and samples, one worker thread for each core
//! - `transport`: HTTP and WebSocket
//! - `clock`, `timer`: monotonic time, the coordinator's clock mapped to it, and sleeps finer than a millisecond

mod clock;
mod engine;
mod session;
mod timer;
mod transport;

pub use session::{AgentError, AgentOptions, run};
