//! The fleet, and whether the coordinator is well.

use axum::Json;
use axum::extract::State;
use serde_json::{Value, json};

use super::super::Services;
use super::problem::Problem;
use crate::api::AgentStatus;

/// Answers as long as the process does.
pub(super) async fn alive() -> Json<Value> {
    Json(json!({ "status": "ok" }))
}

/// Answers as long as the coordinator can store what it hears.
pub(super) async fn health(State(services): State<Services>) -> Result<Json<Value>, Problem> {
    services.present().await?;
    Ok(Json(json!({ "status": "ok", "version": env!("CARGO_PKG_VERSION"), "term": services.store.term() })))
}

pub(super) async fn list(State(services): State<Services>) -> Result<Json<Vec<AgentStatus>>, Problem> {
    Ok(Json(services.present().await?.agents))
}
