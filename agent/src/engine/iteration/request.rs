//! HTTP steps: the request from the plan, the verdict on the response.

use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD as BASE64;
use groundswell_scenario::flow::{HttpRequest, Text, Timed};
use groundswell_scenario::http::{Auth, Credentials};
use groundswell_stats::{ErrorClass, Outcome};
use http::header::{AUTHORIZATION, CONTENT_TYPE, HeaderMap, HeaderName, HeaderValue};
use tokio::time::Instant;
use url::Url;

use super::body::Built;
use super::{Iteration, Next, outcome_of};
use crate::engine::check::{Document, broken_expectation, capture, needs_body};
use crate::engine::render::cause;
use crate::transport::{InvalidTarget, Login, Request, Response, Target};

impl Iteration<'_> {
    pub(super) async fn http(&mut self, timed: &Timed<Box<HttpRequest>>) -> Next {
        let spec = &timed.spec;
        let request = match self.http_request(timed) {
            Ok(request) => request,
            Err(error) => {
                self.skip(timed.slot, "template_failed", &error);
                return Next::Step;
            }
        };
        let Some(mut operation) = self.begin(timed.slot) else { return Next::Leave };
        let result = self.user.client.send(&request, operation.progress()).await;
        self.count_follow_ups(operation.progress().follow_ups);
        // An earlier response is not the end of an operation that failed after it.
        let read = operation.progress().ended.filter(|_| result.is_ok());
        let finished = read.unwrap_or_else(Instant::now);
        let outcome = match result {
            Ok(response) => {
                let elapsed = finished.saturating_duration_since(operation.intended());
                let outcome = self.judge(spec, &response, elapsed);
                self.user.client.take_back(response);
                outcome
            }
            Err(failure) => outcome_of(failure),
        };
        let unsent = matches!(outcome, Outcome::Unsent(_));
        operation.end(finished, outcome);
        self.due = finished;
        if unsent {
            self.wait_for_own_limit().await;
        }
        Next::Step
    }

    fn judge(&mut self, spec: &HttpRequest, response: &Response, elapsed: Duration) -> Outcome {
        let mut document = Document::of_response(response);
        let variables = &mut self.user.variables;
        let templates = &self.phase.context.templates;
        if let Some(class) = broken_expectation(&spec.expect, response.status, &mut document, templates, variables) {
            return Outcome::Error(ErrorClass::new(class));
        }
        if spec.expect.max_time.is_some_and(|most| elapsed > most) {
            return Outcome::Error(ErrorClass::new("expect_max_time"));
        }
        if !capture(&spec.captures, &mut document, variables) {
            return Outcome::Error(ErrorClass::new("capture_missing"));
        }
        Outcome::Ok
    }

    /// The request of a step: as it was built before, where nothing in it changes from one iteration to the next.
    fn http_request(&self, timed: &Timed<Box<HttpRequest>>) -> Result<Rc<Request>, BuildError> {
        if !timed.spec.is_constant(&self.phase.context.plan.http) {
            return self.build(&timed.spec).map(Rc::new);
        }
        let of_scenario = self.phase.context.constant_requests.get(self.phase.scenario);
        let Some(kept) = of_scenario.and_then(|requests| requests.get(timed.slot as usize)) else {
            return self.build(&timed.spec).map(Rc::new);
        };
        let place = std::ptr::from_ref::<HttpRequest>(&timed.spec);
        if let Some((_, built)) = kept.borrow().iter().find(|(known, _)| *known == place) {
            return Ok(Rc::clone(built));
        }
        let built = self.build(&timed.spec).map(Rc::new)?;
        kept.borrow_mut().push((place, Rc::clone(&built)));
        Ok(built)
    }

    fn build(&self, spec: &HttpRequest) -> Result<Request, BuildError> {
        let context = &self.phase.context;
        let http = &context.plan.http;
        let mut url = self.url(&spec.url)?;
        self.add_query(&mut url, &spec.query)?;
        let mut headers = HeaderMap::new();
        let Built { payload, media_type } = self.body(spec.body.as_ref())?;
        if let Some(media_type) = media_type {
            headers.insert(CONTENT_TYPE, media_type);
        }
        let login = match spec.auth.as_ref().map_or(http.auth.as_ref(), Option::as_ref) {
            Some(auth) => self.auth(auth, &mut headers)?,
            None => None,
        };
        self.add_headers(&mut headers, &http.headers)?;
        self.add_headers(&mut headers, &spec.headers)?;
        let target = Target::new(url)?;
        context.clients.complete(&mut headers, &target);
        Ok(Request {
            method: http::Method::from_bytes(spec.method.as_str().as_bytes())?,
            target,
            headers,
            payload,
            timeout: spec.timeout.unwrap_or(http.timeout),
            keep_body: needs_body(&spec.expect, &spec.captures),
            login,
            max_redirects: spec.max_redirects.unwrap_or(http.max_redirects),
        })
    }

    pub(super) fn text(&self, text: &Text) -> Result<String, minijinja::Error> {
        self.phase.context.templates.text(text, &self.user.variables)
    }

    /// A path stays one of the target's, whatever a template makes of it: `/{{ key }}` must not become `//host`.
    pub(super) fn url(&self, text: &Text) -> Result<Url, BuildError> {
        let target = &self.phase.context.plan.target;
        let url = target.join(&self.text(text)?)?;
        let source = text.source();
        let is_path = matches!(text, Text::Template(_)) && source.starts_with('/') && !source.starts_with("//");
        let place = |url: &Url| (url.host_str().map(str::to_owned), url.port_or_known_default());
        if is_path && place(&url) != place(target) { Err(BuildError::Elsewhere) } else { Ok(url) }
    }

    pub(super) fn add_query(&self, url: &mut Url, query: &[(String, Text)]) -> Result<(), BuildError> {
        if !query.is_empty() {
            let mut pairs = url.query_pairs_mut();
            for (name, value) in query {
                pairs.append_pair(name, &self.text(value)?);
            }
        }
        Ok(())
    }

    pub(super) fn add_headers(&self, headers: &mut HeaderMap, added: &[(String, Text)]) -> Result<(), BuildError> {
        for (name, value) in added {
            let value = HeaderValue::from_str(&self.text(value)?)?;
            headers.insert(HeaderName::from_bytes(name.as_bytes())?, value);
        }
        Ok(())
    }

    /// Says who a request is from: at once, or when the target asks (digest).
    pub(super) fn auth(&self, auth: &Auth, headers: &mut HeaderMap) -> Result<Option<Arc<Login>>, BuildError> {
        let login = |Credentials { user, password }: &Credentials| -> Result<Login, BuildError> {
            Ok(Login { user: self.text(user)?, password: self.text(password)? })
        };
        let mut authorization = match auth {
            Auth::Digest(credentials) => return Ok(Some(Arc::new(login(credentials)?))),
            Auth::Bearer(token) => HeaderValue::from_str(&format!("Bearer {}", self.text(token)?))?,
            Auth::Basic(credentials) => {
                let Login { user, password } = login(credentials)?;
                HeaderValue::from_str(&format!("Basic {}", BASE64.encode(format!("{user}:{password}"))))?
            }
        };
        authorization.set_sensitive(true);
        headers.insert(AUTHORIZATION, authorization);
        Ok(None)
    }
}

/// Why a request could not be built. It stands in the log, so it holds nothing that a template made: that may be a secret.
#[derive(Debug, thiserror::Error)]
pub(super) enum BuildError {
    #[error("template: {}", cause(.0))]
    Template(#[from] minijinja::Error),
    #[error("URL: a path became that of another host")]
    Elsewhere,
    #[error("URL: {0}")]
    Url(#[from] url::ParseError),
    #[error(transparent)]
    Target(#[from] InvalidTarget),
    #[error("header name: {0}")]
    HeaderName(#[from] http::header::InvalidHeaderName),
    #[error("header value: {0}")]
    HeaderValue(#[from] http::header::InvalidHeaderValue),
    #[error("method: {0}")]
    Method(#[from] http::method::InvalidMethod),
    #[error("not a URL for a WebSocket")]
    Scheme,
}
