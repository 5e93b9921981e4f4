//! The coordinator's half of the delivery protocol: what is taken from agents and when it is acknowledged, who may issue
//! load, and who owns what of a run. State machines without sockets or clocks of their own: time is the caller's
//! monotonic one, and everything but [`Leases`] is rebuilt from the log by the same calls in the same order.
//!
//! - [`Intake`]: the deltas of one incarnation, from the wire to the acknowledgement
//! - [`Incarnations`]: which lives of an agent there were
//! - [`Leases`]: until when an agent may have been issuing
//! - [`Assignments`]: who owns what of a run, and from when to when

mod assignments;
mod incarnations;
mod intake;
mod leases;
pub mod mutants;

pub use assignments::{Assignments, Holding, Member, OnAgentLoss, Order, Unowned};
pub use incarnations::{Incarnations, OutOfOrder, Registration};
pub use intake::{BrokenLog, Hash, Intake, Offer};
pub use leases::Leases;
