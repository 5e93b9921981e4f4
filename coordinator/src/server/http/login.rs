//! Browsers log in with a token and get a cookie; agents join with a token and get a certificate.

use axum::Json as Answer;
use axum::extract::State;
use axum::http::{HeaderMap, HeaderValue, StatusCode, header};
use axum::response::{IntoResponse, Response};
use groundswell_access::{AccessError, Denied, Role};
use groundswell_proto::limits::MAX_NAME_BYTES;
use serde_json::json;

use super::super::Services;
use super::super::door::{LIFETIME, Peer};
use super::guard::{bearer, is_open, session};
use super::problem::{Json, Problem};
use super::who::Who;
use crate::api::{Certificate, Join, Login, Session};
use crate::fleet::check_name;

/// A browser sends a cookie of such a name only over TLS, only here, and takes it from nobody else (RFC 6265bis, 4.1.3.2).
const COOKIE: &str = "__Host-groundswell";

/// What a session's cookie says.
pub(super) fn cookie(headers: &HeaderMap) -> Option<&str> {
    let all = headers.get_all(header::COOKIE).iter().filter_map(|value| value.to_str().ok());
    let mut pairs = all.flat_map(|value| value.split(';')).filter_map(|pair| pair.trim().split_once('='));
    pairs.find(|(name, _)| *name == COOKIE).map(|(_, value)| value)
}

/// Begins a session.
pub(super) async fn login(
    State(services): State<Services>,
    who: Who,
    Json(login): Json<Login>,
) -> Result<Response, Problem> {
    let Some(gate) = services.doorkeeper.gate() else {
        return Ok(Answer(Session { open: true, role: Some(Role::Admin.name().to_owned()) }).into_response());
    };
    let granted = tried(&services, &who.peer, || gate.grant_for(&login.token, Role::View))?;
    services.doorkeeper.audit.say(&granted.by, who.peer.address, "logged in", &json!({ "role": granted.role.name() }));
    let role = granted.role.name().to_owned();
    let id = services.doorkeeper.sessions.begin(granted);
    let set = set_cookie(&id, LIFETIME.as_secs())?;
    Ok(([(header::SET_COOKIE, set)], Answer(Session { open: false, role: Some(role) })).into_response())
}

/// Ends a session.
pub(super) async fn logout(State(services): State<Services>, headers: HeaderMap) -> Result<Response, Problem> {
    if let Some(id) = cookie(&headers) {
        services.doorkeeper.sessions.end(id);
    }
    Ok((StatusCode::NO_CONTENT, [(header::SET_COOKIE, set_cookie("", 0)?)]).into_response())
}

/// Who asks.
pub(super) async fn whoami(State(services): State<Services>, headers: HeaderMap) -> Answer<Session> {
    let open = is_open(&services.doorkeeper.door);
    let role = match services.doorkeeper.gate() {
        None => Some(Role::Admin),
        Some(gate) => {
            let by_token = bearer(&headers).and_then(|token| gate.grant(token).ok());
            by_token.or_else(|| session(&services.doorkeeper, gate, &headers)).map(|grant| grant.role)
        }
    };
    Answer(Session { open, role: role.map(|role| role.name().to_owned()) })
}

/// Gives an agent a certificate.
pub(super) async fn join(
    State(services): State<Services>,
    who: Who,
    headers: HeaderMap,
    Json(join): Json<Join>,
) -> Result<Answer<Certificate>, Problem> {
    let Some(gate) = services.doorkeeper.gate() else {
        return Err(Problem::new(
            StatusCode::CONFLICT,
            "this coordinator gives no certificates: everybody who reaches it may join; start the agent without --join",
        ));
    };
    check_name(&join.name, MAX_NAME_BYTES).map_err(|error| Problem::bad_request(error.to_string()))?;
    let token = bearer(&headers).unwrap_or_default();
    services.doorkeeper.attempts.may_try(who.peer.ip()).map_err(too_many)?;
    let issued = gate.join(token, &join.name, &join.request).map_err(|error| match error {
        AccessError::Certificate { .. } => Problem::bad_request(error.to_string()),
        _ => Problem::internal(error.to_string()),
    })?;
    let issued = tried(&services, &who.peer, || issued)?;
    services.doorkeeper.audit.say("join token", who.peer.address, "joined", &json!({ "agent": join.name }));
    Ok(Answer(Certificate { certificate: issued.certificate, ca: issued.ca }))
}

/// Tries a token, unless too many were tried from there.
fn tried<T>(services: &Services, peer: &Peer, attempt: impl FnOnce() -> Result<T, Denied>) -> Result<T, Problem> {
    let attempts = &services.doorkeeper.attempts;
    attempts.may_try(peer.ip()).map_err(too_many)?;
    attempt().map_err(|denied| {
        attempts.failed(peer.ip());
        let status = match denied {
            Denied::Unknown => StatusCode::UNAUTHORIZED,
            Denied::Role { .. } => StatusCode::FORBIDDEN,
        };
        Problem::new(status, denied.to_string())
    })
}

fn too_many(wait: std::time::Duration) -> Problem {
    let detail = format!("too many tokens from your address counted for nothing; wait {} s", wait.as_secs().max(1));
    Problem::new(StatusCode::TOO_MANY_REQUESTS, detail)
}

fn set_cookie(id: &str, age_s: u64) -> Result<HeaderValue, Problem> {
    let text = format!("{COOKIE}={id}; Path=/; Max-Age={age_s}; Secure; HttpOnly; SameSite=Strict");
    HeaderValue::from_str(&text).map_err(|error| Problem::internal(error.to_string()))
}
