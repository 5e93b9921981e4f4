//! The agent's half of the delivery protocol: what it may issue and until when, and how what it measured gets to the
//! coordinator exactly once. State machines without sockets or clocks of their own: time is the caller's monotonic one.
//!
//! - [`Outbox`]: sealed deltas from the seal to their acknowledgement
//! - [`Tenure`]: until when load may be issued
//! - [`Holdings`]: which assignments are held, and the answers to releases
//! - [`Fence`]: which coordinator is obeyed

mod fence;
mod holdings;
pub mod mutants;
mod outbox;
mod tenure;

pub use fence::Fence;
pub use holdings::{Answer, Holdings};
pub use outbox::{Merge, Outbox, Torn, WINDOW};
pub use tenure::Tenure;
