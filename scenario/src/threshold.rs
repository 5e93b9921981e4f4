//! Thresholds: what a run is judged by.

use std::time::Duration;

use groundswell_stats::StepId;

/// One line of `thresholds:`, resolved.
#[derive(Debug, Clone, PartialEq)]
pub struct Threshold {
    /// As the user wrote it.
    pub text: String,
    /// The steps whose figures it judges: all of the run, of a scenario (every level), or of one step name.
    pub steps: Vec<StepId>,
    /// Which figure.
    pub metric: Metric,
    /// How it compares.
    pub comparison: Ordering,
    /// The limit: milliseconds for latencies, a ratio for `error_rate`, per second for rates, else a count.
    pub limit: f64,
    /// Judge the last so many seconds instead of the whole run, at every second.
    pub over: Option<Duration>,
    /// Judge nothing of the first so many seconds of the run: neither windows nor whether to stop.
    pub after: Duration,
    /// Stop the run as soon as it is broken.
    pub stop: bool,
}

/// A figure that a threshold can judge.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Metric {
    /// A quantile (0..=1) of a latency.
    Quantile(Latency, f64),
    /// Least latency.
    Min(Latency),
    /// Arithmetic mean.
    Mean(Latency),
    /// Greatest latency.
    Max(Latency),
    /// (errors + timeouts + aborted) / issued.
    ErrorRate,
    /// Errors, timeouts and aborted operations.
    Errors,
    /// Operations that ended well, a second.
    Throughput,
    /// Operations issued, a second.
    Rate,
    /// Operations issued.
    Count,
    /// Operations shed.
    Shed,
    /// Of the operations that were answered, the part whose expectations held.
    Checks,
    /// Messages of broadcasts that were expected and did not arrive.
    Missing,
    /// Messages of broadcasts that arrived once more.
    Duplicated,
    /// Messages of broadcasts that arrived after a later one.
    OutOfOrder,
}

/// Which latency.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Latency {
    /// Intended start to finish.
    Response,
    /// Sent to finish.
    Service,
    /// Intended start to sent.
    SendLag,
    /// Publication of a broadcast to its arrival.
    Delivery,
}

/// How a figure compares with its limit.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Ordering {
    /// `<`
    Less,
    /// `<=`
    LessOrEqual,
    /// `>`
    Greater,
    /// `>=`
    GreaterOrEqual,
    /// `==`
    Equal,
}

impl Metric {
    /// Is it one of broadcasts, which are judged over all rooms and the whole run?
    pub fn is_of_broadcasts(self) -> bool {
        match self {
            Metric::Missing | Metric::Duplicated | Metric::OutOfOrder => true,
            Metric::Quantile(latency, _) | Metric::Min(latency) | Metric::Mean(latency) | Metric::Max(latency) => {
                latency == Latency::Delivery
            }
            _ => false,
        }
    }
}

impl Ordering {
    /// Does `value` satisfy the comparison with `limit`?
    pub fn holds(self, value: f64, limit: f64) -> bool {
        match self {
            Ordering::Less => value < limit,
            Ordering::LessOrEqual => value <= limit,
            Ordering::Greater => value > limit,
            Ordering::GreaterOrEqual => value >= limit,
            Ordering::Equal => value == limit,
        }
    }
}

impl Threshold {
    /// Does a figure hold it?
    pub fn holds(&self, value: f64) -> bool {
        self.comparison.holds(value, self.limit)
    }
}
