//! One finished operation.

use crate::{ErrorClass, StepId};

/// How an operation ended.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Outcome {
    /// As the plan expects.
    Ok,
    /// With an error of the target, of the way there, or against an expectation.
    Error(ErrorClass),
    /// It ran into its time limit.
    Timeout,
    /// Cut off at the end of the run.
    Aborted,
}

/// One finished operation.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Sample {
    /// Its step.
    pub step: StepId,
    /// Intended start to finish, in microseconds; the age where it timed out or was aborted.
    pub response_us: u64,
    /// First byte written to finish, in microseconds.
    pub service_us: u64,
    /// Intended start to first byte written, in microseconds.
    pub send_lag_us: u64,
    /// How it ended.
    pub outcome: Outcome,
    /// Payload bytes sent.
    pub bytes_sent: u64,
    /// Payload bytes received.
    pub bytes_received: u64,
}
