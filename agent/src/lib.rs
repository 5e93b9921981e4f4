//! The agent: joins a coordinator, generates its share of the load, streams what it measured.
//!
//! # Layout
//! - [`run`]: the session with the coordinator, on a thread of its own; the only part that names the wire
//! - `engine`: turns a plan and a share into operations and samples, one worker thread for each core
//! - [`delivery`]: what is kept until it is safe, and until when load may be sent: pure state machines
//! - `transport`: HTTP and WebSocket
//! - [`foresee`]: what will be too small on this machine for a plan
//! - [`Guard`]: what its operator lets it do: [`Allowlist`] says where it may send to, [`Audit`] is its own log
//! - `machine`: how busy this machine is, and what it allows
//! - `fuzzing`: targets in memory that send whatever a fuzzer wants; only in its builds and in tests
//! - `clock`, `timer`: monotonic time, the coordinator's clock mapped to it, and sleeps finer than a millisecond

mod allow;
mod audit;
mod bucket;
mod clock;
pub mod delivery;
mod engine;
#[cfg(any(test, feature = "fuzzing"))]
#[doc(hidden)]
pub mod fuzzing;
mod guard;
mod machine;
mod pace;
mod preflight;
mod session;
mod timer;
mod transport;

pub use allow::{Allowlist, InvalidRule, Rule};
pub use audit::Audit;
pub use guard::Guard;
pub use machine::raise_open_files;
pub use preflight::{Forecast, foresee};
pub use session::{AgentError, AgentOptions, Connect, Connecting, Limits, run, run_over};
