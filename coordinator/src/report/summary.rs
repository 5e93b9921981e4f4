//! A run in a line of a list.

use serde::{Deserialize, Serialize};

use super::{Report, Status};

/// The figures of a run that a list shows, kept beside its report so that listing reads no reports.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Summary {
    /// The verdict.
    pub status: Status,
    /// Base URL of the target.
    pub target: String,
    /// When load started, RFC 3339 in UTC.
    pub started_at: Option<String>,
    /// From the start of load to its end, in seconds.
    pub duration_s: f64,
    /// Agents that took part.
    pub agents: usize,
    /// Operations issued.
    pub issued: u64,
    /// As in the report's total row.
    pub error_rate: f64,
    /// As in the report's total row.
    pub throughput_per_s: f64,
    /// Median response time in milliseconds; none without a sample.
    pub p50_ms: Option<f64>,
    /// 95th percentile.
    pub p95_ms: Option<f64>,
    /// 99th percentile.
    pub p99_ms: Option<f64>,
}

impl From<&Report> for Summary {
    fn from(report: &Report) -> Self {
        let Report { run, verdict, total, .. } = report;
        Summary {
            status: verdict.status,
            target: run.target.clone(),
            started_at: run.started_at.clone(),
            duration_s: run.duration_s,
            agents: run.agents,
            issued: total.issued,
            error_rate: total.error_rate,
            throughput_per_s: total.throughput_per_s,
            p50_ms: total.response_ms.p50,
            p95_ms: total.response_ms.p95,
            p99_ms: total.response_ms.p99,
        }
    }
}
