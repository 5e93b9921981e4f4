//! HTTP steps: the request from the plan, the verdict on the response.

use std::time::Duration;

use bytes::Bytes;
use groundswell_scenario::flow::{Body, HttpRequest, Text, Timed};
use groundswell_stats::{ErrorClass, Outcome};
use http::header::{CONTENT_TYPE, HeaderMap, HeaderName, HeaderValue};
use tokio::time::Instant;
use url::Url;

use super::{Iteration, outcome_of};
use crate::engine::check::{Document, broken_expectation, capture, needs_body};
use crate::transport::{HttpTransport, InvalidTarget, Request, Response, Target};

impl Iteration<'_> {
    pub(super) async fn http(&mut self, timed: &Timed<HttpRequest>) {
        let spec = &timed.spec;
        let request = match self.http_request(timed) {
            Ok(request) => request,
            Err(error) => return self.skip(timed.slot, "template_failed", &error),
        };
        let bytes_sent = request.body.as_ref().map_or(0, |body| body.len() as u64);
        let mut operation = self.begin(timed.slot);
        let result = self.user.transport.send(request, operation.phases()).await;
        let finished = Instant::now();
        let (outcome, bytes_received) = match result {
            Ok(response) => {
                let elapsed = finished.saturating_duration_since(operation.intended());
                (self.judge(spec, &response, elapsed), response.bytes_received)
            }
            Err(failure) => (outcome_of(failure), 0),
        };
        let unsent = matches!(outcome, Outcome::Unsent(_));
        operation.end(finished, outcome, bytes_sent, bytes_received);
        self.due = finished;
        if unsent {
            self.wait_for_own_limit().await;
        }
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
    fn http_request(&self, timed: &Timed<HttpRequest>) -> Result<Request, BuildError> {
        if !timed.spec.is_constant() || !self.phase.context.plan.http.is_constant() {
            return self.build(&timed.spec);
        }
        let key = (self.phase.scenario, timed.slot);
        if let Some(built) = self.phase.context.constant_requests.borrow().get(&key) {
            return Ok(built.clone());
        }
        let built = self.build(&timed.spec)?;
        self.phase.context.constant_requests.borrow_mut().insert(key, built.clone());
        Ok(built)
    }

    fn build(&self, spec: &HttpRequest) -> Result<Request, BuildError> {
        let plan = &self.phase.context.plan;
        let mut url = plan.target.join(&self.text(&spec.url)?)?;
        self.add_query(&mut url, &spec.query)?;
        let mut headers = HeaderMap::new();
        let (body, content_type) = match &spec.body {
            None => (None, None),
            Some(Body::Text(text)) => (Some(Bytes::from(self.text(text)?)), Some("text/plain; charset=utf-8")),
            Some(Body::Json(json)) => {
                let json = self.phase.context.templates.json_bytes(json, &self.user.variables)?;
                (Some(json), Some("application/json"))
            }
            Some(Body::Form(fields)) => (Some(self.form(fields)?), Some("application/x-www-form-urlencoded")),
        };
        if let Some(content_type) = content_type {
            headers.insert(CONTENT_TYPE, HeaderValue::from_static(content_type));
        }
        self.add_headers(&mut headers, &plan.http.headers)?;
        self.add_headers(&mut headers, &spec.headers)?;
        Ok(Request {
            method: http::Method::from_bytes(spec.method.as_str().as_bytes())?,
            target: Target::new(url)?,
            headers,
            body,
            timeout: spec.timeout.unwrap_or(plan.http.timeout),
            keep_body: needs_body(&spec.expect, &spec.captures),
        })
    }

    pub(super) fn text(&self, text: &Text) -> Result<String, minijinja::Error> {
        self.phase.context.templates.text(text, &self.user.variables)
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

    fn form(&self, fields: &[(String, Text)]) -> Result<Bytes, BuildError> {
        let mut form = url::form_urlencoded::Serializer::new(String::new());
        for (name, value) in fields {
            form.append_pair(name, &self.text(value)?);
        }
        Ok(Bytes::from(form.finish()))
    }

    pub(super) fn add_headers(&self, headers: &mut HeaderMap, added: &[(String, Text)]) -> Result<(), BuildError> {
        for (name, value) in added {
            let value = HeaderValue::from_str(&self.text(value)?)?;
            headers.insert(HeaderName::from_bytes(name.as_bytes())?, value);
        }
        Ok(())
    }
}

/// Why a request could not be built.
#[derive(Debug, thiserror::Error)]
pub(super) enum BuildError {
    #[error("template: {0}")]
    Template(#[from] minijinja::Error),
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
    #[error("{0}: not a URL for a WebSocket")]
    Scheme(String),
}
