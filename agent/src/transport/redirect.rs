//! Redirects: whether one is followed, and what is asked next (RFC 9110, section 15.4).

use std::sync::Arc;

use http::Method;
use http::header::{AUTHORIZATION, CONTENT_ENCODING, CONTENT_LANGUAGE, CONTENT_TYPE, COOKIE, HOST, LOCATION};
use url::Url;

use super::{Failure, Payload, Request, Response, Target};

/// Where redirects may lead to.
#[derive(Debug)]
pub(super) struct Allowed {
    /// Host of the plan's target.
    target: String,
    /// Hosts that the plan names.
    named: Vec<String>,
    any: bool,
}

/// A redirect that may be followed.
pub(super) struct Next {
    pub(super) request: Request,
    /// Its host was not named by anybody but the target: its addresses must be looked at.
    pub(super) is_guarded: bool,
}

impl Allowed {
    pub(super) fn new(target: &Url, hosts: &[String]) -> Self {
        let host = target.host_str().unwrap_or_default().to_owned();
        Allowed { target: host, named: hosts.to_vec(), any: hosts.iter().any(|host| host == "*") }
    }

    /// The request that follows a response; none where the response is no redirect. `first` is the request that the plan
    /// made, `last` the one that was answered.
    pub(super) fn next(&self, first: &Request, last: &Request, response: &Response) -> Option<Result<Next, Failure>> {
        if !matches!(response.status, 301 | 302 | 303 | 307 | 308) {
            return None;
        }
        let location = response.headers.get(LOCATION)?;
        let url = std::str::from_utf8(location.as_bytes()).ok().and_then(|text| last.target.url.join(text).ok());
        let Some(url) = url else { return Some(Err(Failure::class("redirect_invalid"))) };
        Some(self.request(first, last, response.status, url))
    }

    fn request(&self, first: &Request, last: &Request, status: u16, mut url: Url) -> Result<Next, Failure> {
        let refused = || Failure::class("redirect_refused");
        if !matches!(url.scheme(), "http" | "https") {
            return Err(refused());
        }
        let host = url.host_str().ok_or_else(refused)?.to_lowercase();
        let is_named =
            host == self.target || first.target.url.host_str() == Some(host.as_str()) || self.named.contains(&host);
        if !is_named && !self.any {
            return Err(refused());
        }
        if url.fragment().is_none() {
            url.set_fragment(last.target.url.fragment());
        }
        let target = Target::new(url).map_err(|_| Failure::class("redirect_invalid"))?;
        let mut request = Request { target: Arc::clone(&target), ..last.clone() };
        let becomes_get = match status {
            303 => !matches!(last.method, Method::GET | Method::HEAD),
            301 | 302 => last.method == Method::POST,
            _ => false,
        };
        if becomes_get {
            request.method = Method::GET;
            request.payload = Payload::Empty;
            for header in [CONTENT_TYPE, CONTENT_ENCODING, CONTENT_LANGUAGE] {
                request.headers.remove(header);
            }
        }
        if target.origin != last.target.origin {
            // What was meant for one host is no other's business.
            for header in [AUTHORIZATION, COOKIE] {
                request.headers.remove(header);
            }
            request.login = None;
            if let Some(host) = request.headers.get_mut(HOST) {
                *host = target.host.clone();
            }
        }
        Ok(Next { request, is_guarded: !is_named })
    }
}
