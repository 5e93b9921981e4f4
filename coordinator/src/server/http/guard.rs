//! What every request has to pass before it is answered: the name it was asked under, where a browser sent it from, and who
//! sends it.

use std::time::Duration;

use axum::extract::{Request, State};
use axum::http::uri::Authority;
use axum::http::{HeaderMap, Method, StatusCode, Uri, Version, header};
use axum::middleware::Next;
use axum::response::{IntoResponse, Response};
use groundswell_access::{Gate, Grant, Role};

use super::super::door::{Door, Doorkeeper, Peer};
use super::login::cookie;
use super::problem::Problem;
use crate::api::PREFIX;

/// A request that changes something has to be there, and answered, after so long.
const CHANGE_LIMIT: Duration = Duration::from_secs(120);

/// Agents speak HTTP/2 and say no origin. A page can't speak HTTP/2 without TLS, and a browser says where it is from: without
/// this, any page could join the coordinator of its reader's machine, where no certificate is asked for.
pub(super) async fn no_browser(request: Request, next: Next) -> Response {
    if request.version() == Version::HTTP_2 && !request.headers().contains_key(header::ORIGIN) {
        return next.run(request).await;
    }
    Problem::new(StatusCode::FORBIDDEN, "only agents call this, over HTTP/2 and from no page").into_response()
}

/// Answers those who may not get further.
pub(super) async fn guard(State(doorkeeper): State<Doorkeeper>, mut request: Request, next: Next) -> Response {
    match checked(&doorkeeper, &request) {
        Ok(Some(grant)) => {
            request.extensions_mut().insert(grant);
        }
        Ok(None) => {}
        Err(problem) => return problem.into_response(),
    }
    if changes_nothing(request.method()) {
        return next.run(request).await;
    }
    match tokio::time::timeout(CHANGE_LIMIT, next.run(request)).await {
        Ok(response) => response,
        Err(_) => {
            let detail = format!("the request was not there after {} s", CHANGE_LIMIT.as_secs());
            Problem::new(StatusCode::REQUEST_TIMEOUT, detail).into_response()
        }
    }
}

fn changes_nothing(method: &Method) -> bool {
    matches!(*method, Method::GET | Method::HEAD | Method::OPTIONS)
}

fn checked(doorkeeper: &Doorkeeper, request: &Request) -> Result<Option<Grant>, Problem> {
    let host = host(request.uri(), request.headers());
    if !host.is_some_and(|host| doorkeeper.hosts.knows(host)) {
        let host: String = host.unwrap_or_default().chars().take(100).collect();
        return Err(Problem::new(
            StatusCode::MISDIRECTED_REQUEST,
            format!("this coordinator is not known as {host:?}; start it with --name {host}, or use its address"),
        ));
    }
    if !changes_nothing(request.method()) {
        same_origin(request.headers(), host, doorkeeper.gate().is_some())?;
    }
    let Some(gate) = doorkeeper.gate() else { return Ok(None) };
    match needed(request.method(), request.uri().path()) {
        None => Ok(None),
        Some(needs) => allowed(doorkeeper, gate, request, needs).map(Some),
    }
}

/// The name that the client asked for: of HTTP/2, of HTTP/1.1.
fn host<'a>(uri: &'a Uri, headers: &'a HeaderMap) -> Option<&'a str> {
    let of_header = headers.get(header::HOST).and_then(|host| host.to_str().ok());
    uri.authority().map(Authority::as_str).or(of_header)
}

/// A page of elsewhere changes nothing here: a browser says where a request that could comes from (Fetch, 3.2). Where the
/// coordinator has TLS, a page that came without is of elsewhere.
fn same_origin(headers: &HeaderMap, host: Option<&str>, has_tls: bool) -> Result<(), Problem> {
    let Some(origin) = headers.get(header::ORIGIN) else { return Ok(()) };
    let origin = origin.to_str().unwrap_or_default();
    if let Some((scheme, of_origin)) = origin.split_once("://")
        && Some(of_origin) == host
        && (scheme == "https" || !has_tls)
    {
        return Ok(());
    }
    let origin: String = origin.chars().take(100).collect();
    Err(Problem::new(StatusCode::FORBIDDEN, format!("a page of {origin:?} may not change anything here")))
}

/// The role that a request needs; none for what everybody may ask.
fn needed(method: &Method, path: &str) -> Option<Role> {
    let api = path.strip_prefix(PREFIX);
    match (changes_nothing(method), api) {
        // The page has nothing but its own text.
        (true, None) if path == "/" || path.starts_with("/assets/") => None,
        (true, None) if path == "/health" || path == "/ready" => None,
        // They look at the token themselves.
        (false, Some("/join" | "/login" | "/logout")) => None,
        (true, Some("/session")) => None,
        (true, _) => Some(Role::View),
        (false, Some("/runs/import")) => Some(Role::Admin),
        (false, Some(path)) if path == "/runs" || path.ends_with("/cancel") => Some(Role::Run),
        (false, _) => Some(Role::Admin),
    }
}

fn allowed(doorkeeper: &Doorkeeper, gate: &Gate, request: &Request, needs: Role) -> Result<Grant, Problem> {
    let peer = request.extensions().get::<Peer>().cloned().unwrap_or_default();
    let grant = match bearer(request.headers()) {
        Some(token) => doorkeeper.grant(gate, &peer, token).map_err(Problem::from),
        None => session(doorkeeper, gate, request.headers()).ok_or_else(|| {
            Problem::new(
                StatusCode::UNAUTHORIZED,
                "a token is needed: GROUNDSWELL_TOKEN, or Authorization: Bearer".to_owned(),
            )
        }),
    };
    let grant = grant.inspect_err(|_| {
        if let Some(suppressed) = doorkeeper.attempts.may_be_told() {
            let path = request.uri().path();
            tracing::warn!(from = ?peer.ip(), path, suppressed, "somebody without a token is not let in");
        }
    })?;
    if !grant.role.covers(needs) {
        let (has, needs) = (grant.role.name(), needs.name());
        let detail = format!("this token is for role {has}; role {needs} is needed here");
        return Err(Problem::new(StatusCode::FORBIDDEN, detail));
    }
    Ok(grant)
}

/// The token of an Authorization header (RFC 6750, 2.1).
pub(super) fn bearer(headers: &HeaderMap) -> Option<&str> {
    let (scheme, token) = headers.get(header::AUTHORIZATION)?.to_str().ok()?.split_once(' ')?;
    scheme.eq_ignore_ascii_case("bearer").then(|| token.trim())
}

/// What a browser that has logged in may do.
pub(super) fn session(doorkeeper: &Doorkeeper, gate: &Gate, headers: &HeaderMap) -> Option<Grant> {
    doorkeeper.sessions.grant(cookie(headers)?, gate)
}

/// Whether tokens are needed at all.
pub(super) fn is_open(door: &Door) -> bool {
    !matches!(door, Door::Gate(_))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_needs_which_role() {
        let table = [
            (Method::GET, "/", None),
            (Method::GET, "/assets/app.js", None),
            (Method::GET, "/health", None),
            (Method::GET, "/metrics", Some(Role::View)),
            (Method::GET, "/api/v1/runs", Some(Role::View)),
            (Method::GET, "/api/v1/runs/x/events", Some(Role::View)),
            (Method::GET, "/api/v1/runs/x/export", Some(Role::View)),
            (Method::POST, "/api/v1/runs", Some(Role::Run)),
            (Method::POST, "/api/v1/runs/x/cancel", Some(Role::Run)),
            (Method::POST, "/api/v1/runs/import", Some(Role::Admin)),
            (Method::DELETE, "/api/v1/runs/x", Some(Role::Admin)),
            (Method::POST, "/api/v1/login", None),
            (Method::POST, "/api/v1/join", None),
            (Method::POST, "/", Some(Role::Admin)),
        ];
        for (method, path, role) in table {
            assert_eq!(needed(&method, path), role, "{method} {path}");
        }
    }
}
