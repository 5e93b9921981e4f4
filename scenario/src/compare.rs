//! What a comparison of two runs of a plan is judged by.

use std::time::Duration;

use serde::{Deserialize, Serialize};

/// `compare:` of a plan: how large a difference has to be to matter.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct Tolerances {
    /// Of the median response time, as a part of the baseline's.
    pub p50: f64,
    /// Of its 90th percentile.
    pub p90: f64,
    /// Of its 95th percentile.
    pub p95: f64,
    /// Of its 99th percentile.
    pub p99: f64,
    /// Of the operations that ended well a second, as a part of the baseline's.
    pub throughput: f64,
    /// Of the error rate, as a difference of the two ratios: 0.005 is half a percentage point.
    pub error_rate: f64,
    /// A difference of response times below this many milliseconds never matters, whatever part it is.
    pub least_difference_ms: f64,
}

impl Default for Tolerances {
    fn default() -> Self {
        Tolerances {
            p50: 0.05,
            p90: 0.05,
            p95: 0.05,
            p99: 0.1,
            throughput: 0.05,
            error_rate: 0.005,
            least_difference_ms: LEAST_DIFFERENCE.as_secs_f64() * 1e3,
        }
    }
}

/// What the timers and the scheduler of a machine may add or take from one run to the next.
const LEAST_DIFFERENCE: Duration = Duration::from_micros(100);
