//! WebSocket connections and broadcasts in the report.

use serde::{Deserialize, Serialize};

use super::{ErrorClassCount, Latency};

/// The connections of one WebSocket step, the warm-up included.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct ConnectionFigures {
    /// Scenario.
    pub scenario: String,
    /// Name of the step.
    pub step: String,
    /// Handshakes that ended well, first and later ones.
    pub opened: u64,
    /// Connections that ended.
    pub closed: u64,
    /// Most connections open at the end of an interval.
    pub most_open: u64,
    /// How they ended, most frequent first.
    pub closings: Vec<ClosingCount>,
    /// Pings sent.
    pub pings_sent: u64,
    /// Answers to them.
    pub pongs_received: u64,
    /// Pings of the target; each was answered.
    pub pings_received: u64,
    /// Messages thrown away because no step had taken them and too many waited.
    pub unread: u64,
    /// Messages sent over them.
    pub messages_sent: u64,
    /// Messages received.
    pub messages_received: u64,
    /// Frames sent, control frames among them.
    pub frames_sent: u64,
    /// Frames received, control frames among them.
    pub frames_received: u64,
    /// Bytes sent with handshakes and frame headers, before TLS.
    pub wire_bytes_sent: u64,
    /// Bytes received with handshakes and frame headers, after TLS.
    pub wire_bytes_received: u64,
    /// Connections lost and opened again, by the cycle of `drop` that caused it.
    pub recoveries: Vec<RecoveryFigures>,
    /// Connections open over time.
    pub open: Vec<OpenPoint>,
}

/// Connections that ended in one way.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ClosingCount {
    /// `agent`, `target` or `drop` (the plan's storm).
    pub by: String,
    /// Close code.
    pub code: u16,
    /// What it means.
    pub meaning: String,
    /// How many.
    pub count: u64,
}

/// Connections lost and opened again.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct RecoveryFigures {
    /// Cycle of `drop`; 0 for losses that the plan did not cause.
    pub cycle: u32,
    /// Connections lost.
    pub lost: u64,
    /// Connections opened again.
    pub restored: u64,
    /// Connections given up after the most attempts.
    pub given_up: u64,
    /// Attempts that failed, by class.
    pub failed_attempts: Vec<ErrorClassCount>,
    /// Handshakes that ended well.
    pub handshake_ms: Latency,
    /// Time without a connection.
    pub outage_ms: Latency,
}

/// Connections open at the end of an interval.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct OpenPoint {
    /// End of the interval, in seconds of the run.
    pub t_s: f64,
    /// Connections open.
    pub open: u64,
}

/// A room: what was published in it and what arrived.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct BroadcastFigures {
    /// Its name.
    pub room: String,
    /// Messages published.
    pub published: u64,
    /// Most subscriptions at a time.
    pub subscribers: u64,
    /// Messages times the subscriptions that they were published in.
    pub expected: u64,
    /// Of these, those that arrived, each counted once.
    pub delivered: u64,
    /// Of these, those that did not arrive.
    pub missing: u64,
    /// Of the expected, those published while the subscription had no connection.
    pub while_disconnected: u64,
    /// Arrivals of a message that had arrived before.
    pub duplicated: u64,
    /// Messages that arrived after one that the same socket had published later.
    pub out_of_order: u64,
    /// Arrivals of messages published before the subscription or after its end.
    pub outside: u64,
    /// Arrivals of another room's messages.
    pub misdirected: u64,
    /// Pairs of a message and a subscription so near to its begin or end that the agents' clocks can't tell whether it
    /// was meant.
    pub in_doubt: u64,
    /// False where the sums are not exact: an agent was lost, or subscriptions were cut off before late messages came.
    pub exact: bool,
    /// Publication to arrival. A figure is null where the clocks' error could be more than a tenth of it.
    pub delivery_ms: Latency,
    /// Greatest bound of the error between the clocks of a publishing and a receiving agent, in milliseconds.
    pub clock_bound_ms: f64,
}
