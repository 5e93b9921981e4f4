//! Who sends a request, for the audit log.

use std::convert::Infallible;

use axum::extract::FromRequestParts;
use axum::http::request::Parts;
use groundswell_access::Grant;
use serde_json::Value;

use super::super::Services;
use super::super::door::Peer;

/// Who, and from where.
pub(super) struct Who {
    grant: Option<Grant>,
    pub(super) peer: Peer,
}

impl<S: Sync> FromRequestParts<S> for Who {
    type Rejection = Infallible;

    async fn from_request_parts(parts: &mut Parts, _state: &S) -> Result<Self, Infallible> {
        let peer = parts.extensions.get::<Peer>().cloned().unwrap_or_default();
        Ok(Who { grant: parts.extensions.get::<Grant>().cloned(), peer })
    }
}

impl Who {
    /// Says what they did. `of` has no secret.
    pub(super) fn did(&self, services: &Services, what: &str, of: &Value) {
        // Where everybody gets in, nobody is known.
        let who = self.grant.as_ref().map_or("anybody", |grant| &grant.by);
        services.doorkeeper.audit.say(who, self.peer.address, what, of);
    }
}
