//! Figures for Prometheus.

use axum::extract::State;
use axum::http::{HeaderMap, header};
use axum::response::{IntoResponse, Response};

use super::super::Services;
use super::problem::Problem;
use crate::export::{families, prometheus};

/// In protobuf where that is preferred, which a server with native histograms says by naming it first.
pub(super) async fn metrics(State(services): State<Services>, headers: HeaderMap) -> Result<Response, Problem> {
    let families = families(&services.figures().await?);
    let accepted = headers.get(header::ACCEPT).and_then(|value| value.to_str().ok()).unwrap_or_default();
    if accepted.trim_start().starts_with("application/vnd.google.protobuf") {
        return Ok(([(header::CONTENT_TYPE, prometheus::PROTOBUF)], prometheus::protobuf(&families)).into_response());
    }
    Ok(([(header::CONTENT_TYPE, prometheus::TEXT)], prometheus::text(&families)).into_response())
}
