//! Browsers log in with a token and get a cookie; agents join with a token and get a certificate.

use axum::Json as Answer;
use axum::extract::State;
use axum::http::{HeaderMap, HeaderValue, StatusCode, header};
use axum::response::{IntoResponse, Response};
use groundswell_access::{AccessError, Denied, Gate, Grant, Role};
use groundswell_proto::limits::MAX_NAME_BYTES;
use serde_json::json;

use super::super::Services;
use super::super::door::{LIFETIME, Peer, Refusal};
use super::guard::{bearer, is_open, session};
use super::problem::{Json, Problem};
use super::who::Who;
use crate::api::{Certificate, Join, Login, Session};
use crate::fleet::{JoinError, check_name};

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
    let granted = granted(&services, gate, &who.peer, &login.token, Role::View)?;
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
pub(super) async fn whoami(
    State(services): State<Services>,
    who: Who,
    headers: HeaderMap,
) -> Result<Answer<Session>, Problem> {
    let doorkeeper = &services.doorkeeper;
    let grant = |gate| match bearer(&headers) {
        None => Ok(session(doorkeeper, gate, &headers)),
        Some(token) => match doorkeeper.grant(gate, &who.peer, token) {
            Ok(grant) => Ok(Some(grant)),
            Err(Refusal::Denied(_)) => Ok(None),
            Err(too_many @ Refusal::TooMany(_)) => Err(Problem::from(too_many)),
        },
    };
    let role = match doorkeeper.gate() {
        None => Some(Role::Admin),
        Some(gate) => grant(gate)?.map(|grant| grant.role),
    };
    Ok(Answer(Session { open: is_open(&doorkeeper.door), role: role.map(|role| role.name().to_owned()) }))
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
    let by = granted(&services, gate, &who.peer, token, Role::Join)?.by;
    if services.present().await?.agents.iter().any(|agent| agent.name == join.name && agent.is_alive()) {
        return Err(Problem::new(StatusCode::CONFLICT, JoinError::NameTaken(join.name).to_string()));
    }
    let issued = gate.join(token, &join.name, &join.request).map_err(|error| match error {
        AccessError::Certificate { .. } => Problem::bad_request(error.to_string()),
        _ => Problem::internal(error.to_string()),
    })?;
    let issued = issued.map_err(Refusal::Denied)?;
    services.doorkeeper.audit.say(&by, who.peer.address, "joined", &json!({ "agent": join.name }));
    Ok(Answer(Certificate { certificate: issued.certificate, ca: issued.ca }))
}

/// What a token allows, if it allows what is needed.
fn granted(services: &Services, gate: &Gate, peer: &Peer, token: &str, needs: Role) -> Result<Grant, Problem> {
    let grant = services.doorkeeper.grant(gate, peer, token)?;
    if grant.role.covers(needs) {
        return Ok(grant);
    }
    Err(Refusal::Denied(Denied::Role { has: grant.role, needs }).into())
}

impl From<Refusal> for Problem {
    fn from(refusal: Refusal) -> Self {
        let denied = match refusal {
            Refusal::Denied(denied) => denied,
            Refusal::TooMany(wait) => {
                let wait = wait.as_secs().max(1);
                let detail = format!("too many tokens from your address counted for nothing; wait {wait} s");
                return Problem::new(StatusCode::TOO_MANY_REQUESTS, detail);
            }
        };
        let status = match denied {
            Denied::Unknown => StatusCode::UNAUTHORIZED,
            Denied::Role { .. } | Denied::Revoked { .. } => StatusCode::FORBIDDEN,
        };
        Problem::new(status, denied.to_string())
    }
}

fn set_cookie(id: &str, age_s: u64) -> Result<HeaderValue, Problem> {
    let text = format!("{COOKIE}={id}; Path=/; Max-Age={age_s}; Secure; HttpOnly; SameSite=Strict");
    HeaderValue::from_str(&text).map_err(|error| Problem::internal(error.to_string()))
}
