//! HTTP for people and programs: the API, on the address that agents use too.
//!
//! # Layout
//! - `runs`: runs to begin, list, look at, stop, and their reports
//! - `archive`: a run as one file
//! - `compare`: a run beside its baselines
//! - `events`: what happens in a run, as server-sent events
//! - `agents`: the fleet
//! - `guard`: who gets an answer
//! - `login`: tokens become cookies and certificates
//! - `dashboard`: the pages that people look at
//! - `metrics`: figures for Prometheus
//! - `problem`: errors (RFC 9457)
//! - `who`: who sends a request
//!
//! `docs/openapi.json` describes every operation; it is served, and a test holds it and [`operations`] together.

mod agents;
mod archive;
mod compare;
mod dashboard;
mod events;
mod guard;
mod login;
mod metrics;
mod problem;
mod runs;
mod who;

use axum::Router;
use axum::extract::DefaultBodyLimit;
use axum::http::{HeaderMap, Method, Uri, header};
use axum::middleware::{from_fn, from_fn_with_state};
use axum::response::{IntoResponse, Response};
use axum::routing::{MethodRouter, get, post};
use tonic::Status;

use super::Services;
use crate::api::PREFIX;
use problem::Problem;

/// Largest body of a request: a plan with data files of 32 MiB, in base64.
const MAX_BODY_BYTES: usize = 48 << 20;
/// Largest body of a request that everybody may send: a token, or an agent's request for a certificate.
const MAX_STRANGERS_BODY_BYTES: usize = 16 << 10;
/// What describes the API.
const OPENAPI: &str = include_str!("../../../../docs/openapi.json");

/// What agents call, kept from browsers.
pub(super) fn for_agents(calls: Router) -> Router {
    calls.layer(from_fn(guard::no_browser))
}

/// Everything that is served, but for what agents call.
pub(super) fn router(services: Services) -> Router {
    let api = operations()
        .into_iter()
        .fold(Router::new(), |router, (path, _, handler)| router.route(path, handler))
        .layer(DefaultBodyLimit::max(MAX_BODY_BYTES));
    Router::new()
        .nest(PREFIX, api)
        .route("/metrics", get(metrics::metrics))
        .route("/health", get(agents::alive))
        .route("/ready", get(agents::health))
        .merge(dashboard::router())
        .method_not_allowed_fallback(problem::method_not_allowed)
        .layer(from_fn_with_state(services.doorkeeper.clone(), guard::guard))
        .with_state(services)
}

/// The operations of the API: path, method, handler.
fn operations() -> Vec<(&'static str, &'static str, MethodRouter<Services>)> {
    let of_strangers = || DefaultBodyLimit::max(MAX_STRANGERS_BODY_BYTES);
    vec![
        ("/health", "get", get(agents::health)),
        ("/openapi.json", "get", get(openapi)),
        ("/session", "get", get(login::whoami)),
        ("/login", "post", post(login::login).layer(of_strangers())),
        ("/logout", "post", post(login::logout).layer(of_strangers())),
        ("/join", "post", post(login::join).layer(of_strangers())),
        ("/agents", "get", get(agents::list)),
        ("/compare", "get", get(compare::compare)),
        ("/runs", "get", get(runs::list)),
        ("/runs", "post", post(runs::submit)),
        ("/runs/import", "post", post(archive::import)),
        ("/runs/{id}", "get", get(runs::status)),
        ("/runs/{id}/cancel", "post", post(runs::cancel)),
        ("/runs/{id}/events", "get", get(events::events)),
        ("/runs/{id}/report", "get", get(runs::report)),
        ("/runs/{id}/frames", "get", get(runs::frames)),
        ("/runs/{id}/percentiles", "get", get(runs::percentiles)),
        ("/runs/{id}/plan", "get", get(runs::plan)),
        ("/runs/{id}/export", "get", get(archive::export)),
    ]
}

async fn openapi() -> impl IntoResponse {
    ([(header::CONTENT_TYPE, "application/json")], OPENAPI)
}

/// Whatever is not there: agents are told in their way, everybody else in ours.
pub(super) async fn not_found(method: Method, uri: Uri, headers: HeaderMap) -> Response {
    let content_type = headers.get(header::CONTENT_TYPE).map(|value| value.as_bytes());
    if content_type.is_some_and(|value| value.starts_with(b"application/grpc")) {
        return Status::unimplemented("there is no such call").into_http::<axum::body::Body>();
    }
    let path: String = uri.path().chars().take(200).collect();
    Problem::not_found(format!("there is no {method} {path}; {PREFIX}/openapi.json lists what there is"))
        .into_response()
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "tests")]

    use std::collections::BTreeSet;

    use super::*;

    #[test]
    fn every_operation_is_described_and_nothing_else() {
        let described: serde_json::Value = serde_json::from_str(OPENAPI).unwrap();
        let mut in_document = BTreeSet::new();
        for (path, methods) in described["paths"].as_object().unwrap() {
            let path = path.strip_prefix(PREFIX).unwrap();
            in_document.extend(methods.as_object().unwrap().keys().map(|method| (path.to_owned(), method.clone())));
        }
        let served: BTreeSet<(String, String)> =
            operations().iter().map(|(path, method, _)| ((*path).to_owned(), (*method).to_owned())).collect();
        assert_eq!(in_document, served);
    }
}
