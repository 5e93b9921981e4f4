//! From the plan file to the plan: parsing, validation, schedules and shares.
//!
//! Pure by rule: no async, no clock, no I/O. The path of data through this crate:
//!
//! [`PlanSource`] (text and data files) → [`Plan::compile`] → [`Plan`], or every [`Problem`] at once
//! → [`Schedule`] of each phase → the part of it that a [`Share`] owns.
//!
//! # Layout
//! - [`plan`]: the validated plan and what is common to its scenarios
//! - [`flow`]: the steps of a scenario
//! - [`socket`]: WebSockets in a flow
//! - [`http`]: how requests are sent, and their bodies
//! - [`load`]: how much load, when
//! - [`schedule`]: ordinal → intended offset
//! - [`planned`]: what a plan asks for before anything has run
//! - [`share`]: which ordinals belong to which agent and worker
//! - [`assignment`]: a share for a part of the run's time
//! - [`continuity`]: what happens when agents and coordinator lose each other
//! - [`threshold`]: what the run is judged by
//! - [`compare`]: what a comparison with another run is judged by
//! - [`destination`]: where a plan sends to, as far as its text says it
//! - [`mod@file`]: the plan file: located YAML, the table of keys, diagnostics, the JSON Schema

pub mod assignment;
pub mod compare;
pub mod continuity;
pub mod destination;
pub mod file;
pub mod flow;
pub mod http;
pub mod load;
pub mod plan;
pub mod planned;
pub mod schedule;
pub mod share;
pub mod socket;
pub mod threshold;

pub use assignment::Assignment;
pub use destination::Destination;
pub use file::problem::{Problem, Problems};
pub use plan::{Plan, PlanSource, Scenario};
pub use schedule::Schedule;
pub use share::{InvalidShare, Share};
pub use threshold::Threshold;
