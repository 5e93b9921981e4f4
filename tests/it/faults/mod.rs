//! Faults of agents, links and coordinators: what must be true of a run's account whatever is done to its parts.
//! docs/faults.md has the table of faults, what is promised of each, and its test here.

#![allow(clippy::print_stdout, reason = "a seed must be seen to be used again")]

pub(crate) mod agents;
pub(crate) mod bytes;
pub(crate) mod chaos;
pub(crate) mod coordinator;
pub(crate) mod crowd;
pub(crate) mod links;
pub(crate) mod namespaces;
mod scene;
