//! What was measured: from one sample to the merged figures of a run.
//!
//! Pure by rule: no async, no clock, no I/O. The path of data through this crate:
//!
//! [`Sample`] → [`Recorder`] (one per worker thread) → [`Delta`] (once a second) → [`codec`] (on the wire)
//! → [`Totals`] and [`Timeline`] (at the coordinator) → [`Distribution`] (quantiles).
//!
//! Everything that is added is added with checks: a sum that does not fit is an [`Overflow`], never a plausible figure.
//!
//! # Layout
//! - [`Layout`]: which value falls into which bin
//! - [`StepId`], [`Kind`], [`ErrorClass`]: what figures are filed under
//! - [`Buckets`], [`Series`]: the figures of one step and kind
//! - [`Counters`], [`StepDelta`], [`Delta`]: what changed since the last seal
//! - [`Sockets`], [`Room`]: WebSocket connections, and broadcasts over them

mod buckets;
pub mod codec;
mod counters;
mod delta;
mod distribution;
mod ids;
mod layout;
mod pages;
mod recorder;
mod room;
mod sample;
mod series;
mod sockets;
#[cfg(test)]
mod testing;
mod timeline;
mod totals;

pub use buckets::{Buckets, Overflow};
pub use counters::Counters;
pub use delta::{Delta, StepDelta};
pub use distribution::Distribution;
pub use ids::{ErrorClass, InvalidErrorClass, Kind, StepId};
pub use layout::Layout;
pub use recorder::Recorder;
pub use room::{Room, RoomCounts};
pub use sample::{Outcome, Phases, Sample};
pub use series::Series;
pub use sockets::{Closer, Closing, Recovery, Sockets, Traffic};
pub use timeline::{Point, Span, Timeline, Window};
pub use totals::{AbsorbError, Totals};
