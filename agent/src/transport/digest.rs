//! Digest access authentication (RFC 7616).

use http::header::{HeaderMap, HeaderValue, WWW_AUTHENTICATE};
use http_auth::{DigestClient, PasswordParams};

use super::target::Origin;
use super::{Failure, Payload, Request};

/// A name with its password.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Login {
    pub(crate) user: String,
    pub(crate) password: String,
}

/// A challenge that a user answered; it holds for further requests to the same origin.
#[derive(Debug)]
pub(super) struct Session {
    origin: Origin,
    user: String,
    client: DigestClient,
}

impl Session {
    /// The session that a response asks for; none where it asks for nothing, or for something else.
    pub(super) fn asked_for(headers: &HeaderMap, origin: &Origin, login: &Login) -> Option<Self> {
        let values = headers.get_all(WWW_AUTHENTICATE).iter().filter_map(|value| value.to_str().ok());
        let challenges = values.filter_map(|value| http_auth::parse_challenges(value).ok()).flatten();
        let mut digests = challenges.filter(|challenge| challenge.scheme.eq_ignore_ascii_case("digest"));
        let client = digests.find_map(|challenge| DigestClient::try_from(&challenge).ok())?;
        Some(Session { origin: origin.clone(), user: login.user.clone(), client })
    }

    /// Is it one of this login with this origin?
    pub(super) fn is_for(&self, origin: &Origin, login: &Login) -> bool {
        self.origin == *origin && self.user == login.user
    }

    /// The `Authorization` of a request.
    pub(super) fn authorization(&mut self, request: &Request, login: &Login) -> Result<HeaderValue, Failure> {
        let body = match &request.payload {
            Payload::Empty => Some(&[][..]),
            Payload::Whole(bytes) => Some(&bytes[..]),
            Payload::Parts(_) | Payload::Stream(_) => None,
        };
        let parameters = PasswordParams {
            username: &login.user,
            password: &login.password,
            uri: request.target.path.path_and_query().map_or("/", |path| path.as_str()),
            method: request.method.as_str(),
            body,
        };
        let answer = self.client.respond(&parameters).map_err(|_| Failure::class("auth_challenge"))?;
        HeaderValue::from_str(&answer).map_err(|_| Failure::class("auth_challenge"))
    }
}
