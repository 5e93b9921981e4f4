//! One finished operation.

use crate::{ErrorClass, StepId};

/// How an operation ended.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Outcome {
    /// As the plan expects.
    Ok,
    /// With an error of the target, of the way there, or against an expectation.
    Error(ErrorClass),
    /// Not sent: a limit of this machine stood in the way.
    Unsent(ErrorClass),
    /// It ran into its time limit.
    Timeout,
    /// Cut off at the end of the run.
    Aborted,
}

/// Parts of the time of an operation, in microseconds; none where there was no such part.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Phases {
    /// Waited for a place in flight.
    pub queue_us: Option<u64>,
    /// Name looked up.
    pub dns_us: Option<u64>,
    /// Connection opened.
    pub connect_us: Option<u64>,
    /// TLS handshake.
    pub tls_us: Option<u64>,
    /// Request sent to first byte of the response.
    pub first_byte_us: Option<u64>,
    /// First byte of the response to its last.
    pub body_us: Option<u64>,
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
    /// Intended start, or free place in flight, to first byte written, in microseconds.
    pub send_lag_us: u64,
    /// Where the time of an HTTP operation went.
    pub phases: Phases,
    /// How it ended.
    pub outcome: Outcome,
    /// Requests it made beyond its first.
    pub follow_ups: u64,
    /// Payload bytes sent.
    pub bytes_sent: u64,
    /// Payload bytes received.
    pub bytes_received: u64,
}
