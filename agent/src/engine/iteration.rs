//! One user's way through the flow of its scenario: accounting, pauses, HTTP steps.

mod websocket;

use std::pin::Pin;
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use groundswell_scenario::flow::{Body, HttpRequest, Step, Text, Think, Timed};
use groundswell_stats::{ErrorClass, Outcome, StepId};
use http::header::{CONTENT_TYPE, HeaderMap, HeaderName, HeaderValue};
use minijinja::Value;
use minijinja::value::Serde;
use rand::RngExt;
use tokio::time::Instant;
use url::Url;

use super::check::{Document, broken_expectation, capture, needs_body};
use super::phase::Phase;
use super::recording::Recording;
use super::render::Variables;
use crate::clock::micros;
use crate::transport::{Failure, HttpTransport, Request, Response, Transport};
use websocket::OpenSocket;

/// Pause after an iteration that issued nothing: without it a user whose every step is skipped would spin.
const EMPTY_ITERATION_PAUSE: Duration = Duration::from_millis(100);

/// A user that a limit of this machine kept from sending waits so long before it goes on.
const OWN_LIMIT_PAUSE: Duration = Duration::from_millis(100);

/// Number of a user within its scenario, over the whole cluster: template variable `user`.
#[derive(Debug, Clone, Copy)]
pub(super) struct UserNumber(pub(super) u64);

/// A virtual user: its cookies, connections and variables.
pub(super) struct User {
    number: UserNumber,
    transport: Transport,
    /// What every iteration starts with.
    constants: Variables,
    variables: Variables,
}

/// How the operations of an iteration enter the account.
#[derive(Debug, Clone, Copy)]
pub(super) enum Accounting {
    /// Closed load: an operation is scheduled when its turn comes; the user leaves at `until`.
    AsIssued {
        /// No operation starts at or after this.
        until: Instant,
    },
    /// The whole iteration was scheduled when it arrived; what it does not issue is counted as not generated.
    Scheduled {
        /// When a place in flight was free for it, where it had to wait for one.
        queued_until: Option<Instant>,
    },
}

impl User {
    pub(super) fn new(phase: &Phase, number: UserNumber) -> Self {
        let context = &phase.context;
        let mut constants: Variables = context
            .plan
            .vars
            .iter()
            .filter(|(name, _)| context.templates.uses(phase.scenario, name))
            .map(|(name, value)| (Arc::from(name.as_str()), Value::from(Serde(value))))
            .collect();
        constants.insert("user".into(), Value::from(number.0));
        User { number, transport: context.transport(), variables: Variables::new(), constants }
    }

    /// Takes the next row of each data set that the scenario uses; false when one has run out.
    pub(super) fn draw_data(&mut self, phase: &Phase) -> bool {
        let context = &phase.context;
        context.data.iter().filter(|feed| context.templates.uses(phase.scenario, &feed.name)).all(|feed| {
            feed.draw().is_some_and(|row| {
                self.constants.insert(Arc::clone(&feed.name), row);
                true
            })
        })
    }

    /// Runs the flow once. The first operation is intended at `due`; returns when the user is due again.
    pub(super) async fn iterate(
        &mut self,
        phase: &Phase,
        number: u64,
        due: Instant,
        accounting: Accounting,
    ) -> Instant {
        self.variables.clone_from(&self.constants);
        self.variables.insert("iteration".into(), Value::from(number));
        let left = match accounting {
            Accounting::AsIssued { .. } => Vec::new(),
            Accounting::Scheduled { .. } => operations_per_iteration(phase),
        };
        let first_step = phase.first_step_at(due);
        let mut iteration = Iteration { phase, user: self, due, first_step, accounting, left, socket: None, issued: 0 };
        iteration.flow(&phase.scenario().flow).await;
        let (issued, due) = (iteration.issued, iteration.due);
        drop(iteration);
        if issued == 0 {
            let pause = Instant::now() + EMPTY_ITERATION_PAUSE;
            phase.context.pause_until(pause).await;
            tracing::debug!(user = self.number.0, "an iteration issued no operation");
            return due.max(pause);
        }
        due
    }
}

fn operations_per_iteration(phase: &Phase) -> Vec<u64> {
    let first = phase.first_step_at(phase.origin);
    let per_iteration = |slot| phase.context.plan.step(StepId(first.0 + slot)).map_or(0, |step| step.per_iteration);
    (0..phase.scenario().timed_steps).map(per_iteration).collect()
}

/// Whether the iteration goes on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Next {
    Step,
    /// The run or the user's time is over.
    Leave,
}

struct Iteration<'a> {
    phase: &'a Phase,
    user: &'a mut User,
    /// When the next operation is intended to start.
    due: Instant,
    /// [`StepId`] of slot 0 for what was scheduled with the iteration.
    first_step: StepId,
    accounting: Accounting,
    /// Operations of this iteration that are scheduled but not yet accounted for, by slot.
    left: Vec<u64>,
    socket: Option<OpenSocket>,
    issued: u64,
}

impl Drop for Iteration<'_> {
    /// Whatever was scheduled but not reached, also when the task is cut off.
    fn drop(&mut self) {
        let reason = self.phase.context.stop.reason().unwrap_or("cut_off");
        for (slot, left) in (0..).zip(&self.left) {
            if *left > 0 {
                self.phase.context.recording.not_generated(self.step_id(slot), reason, *left);
            }
        }
    }
}

type BoxedNext<'a> = Pin<Box<dyn Future<Output = Next> + 'a>>;

impl Iteration<'_> {
    fn recording(&self) -> &Rc<Recording> {
        &self.phase.context.recording
    }

    /// The series of an operation that is due now. In a closed load each operation belongs to the warm-up or not by its
    /// own time, because one iteration (a socket that stays open) may last as long as the load.
    fn step_id(&self, slot: u32) -> StepId {
        let first = match self.accounting {
            Accounting::AsIssued { .. } => self.phase.first_step_at(self.due),
            Accounting::Scheduled { .. } => self.first_step,
        };
        StepId(first.0 + slot)
    }

    async fn flow(&mut self, steps: &[Step]) -> Next {
        for step in steps {
            if self.is_over() || self.step(step).await == Next::Leave {
                return Next::Leave;
            }
        }
        Next::Step
    }

    fn is_over(&self) -> bool {
        let left = matches!(self.accounting, Accounting::AsIssued { until } if self.due >= until);
        left || self.phase.context.stop.reason().is_some()
    }

    async fn step(&mut self, step: &Step) -> Next {
        match step {
            Step::Http(timed) => self.http(timed).await,
            Step::Send(timed) => self.send(timed).await,
            Step::Receive(timed) => self.receive(timed).await,
            Step::Close(timed) => self.close(timed).await,
            Step::Think(think) => return self.think(*think).await,
            Step::Websocket(timed) => return self.websocket(timed).await,
            Step::Repeat { times, flow } => {
                for _ in 0..*times {
                    if self.nested(flow).await == Next::Leave {
                        return Next::Leave;
                    }
                }
            }
            Step::Group { flow, .. } => return self.nested(flow).await,
        }
        Next::Step
    }

    /// A flow within a flow: boxed, because a future can't contain itself.
    fn nested<'a>(&'a mut self, steps: &'a [Step]) -> BoxedNext<'a> {
        Box::pin(self.flow(steps))
    }

    async fn think(&mut self, think: Think) -> Next {
        let pause = match think {
            Think::Fixed(pause) => pause,
            Think::Between(low, high) => {
                Duration::from_micros(rand::rng().random_range(micros(low)..=micros(high).max(micros(low))))
            }
            // The inverse of its distribution function; 1 - u is never 0.
            Think::Exponential(mean) => mean.mul_f64(-(1.0 - rand::rng().random::<f64>()).ln()),
        };
        self.due += pause;
        let wake = match self.accounting {
            Accounting::AsIssued { until } => self.due.min(until),
            Accounting::Scheduled { .. } => self.due,
        };
        if self.phase.context.pause_until(wake).await { Next::Step } else { Next::Leave }
    }

    async fn http(&mut self, timed: &Timed<HttpRequest>) {
        let spec = &timed.spec;
        let request = match self.http_request(spec) {
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

    /// Without this pause a closed load would try again at once, over and over.
    async fn wait_for_own_limit(&mut self) {
        self.due += OWN_LIMIT_PAUSE;
        self.phase.context.pause_until(self.due).await;
    }

    /// Starts an operation that is due now.
    fn begin(&mut self, slot: u32) -> super::recording::Operation {
        self.take(slot);
        self.issued += 1;
        let operation = self.recording().begin(self.step_id(slot), self.due);
        match &mut self.accounting {
            // Only the first operation of the iteration waited.
            Accounting::Scheduled { queued_until } => match queued_until.take() {
                Some(free) => operation.queued_until(free),
                None => operation,
            },
            Accounting::AsIssued { .. } => operation,
        }
    }

    /// Takes one operation out of what is left to account for.
    fn take(&mut self, slot: u32) {
        match self.accounting {
            Accounting::AsIssued { .. } => self.recording().scheduled(self.step_id(slot), 1),
            Accounting::Scheduled { .. } => {
                if let Some(left) = self.left.get_mut(slot as usize) {
                    *left = left.saturating_sub(1);
                }
            }
        }
    }

    fn skip(&mut self, slot: u32, reason: &'static str, why: &dyn std::fmt::Display) {
        tracing::debug!(reason, %why, "operation not generated");
        self.take(slot);
        self.recording().not_generated(self.step_id(slot), reason, 1);
    }

    /// Counts every operation of a flow that can't be done without its socket.
    fn skip_flow(&mut self, steps: &[Step], times: u64, reason: &'static str) {
        for step in steps {
            match step {
                Step::Http(Timed { slot, .. })
                | Step::Send(Timed { slot, .. })
                | Step::Receive(Timed { slot, .. })
                | Step::Close(Timed { slot, .. }) => self.skip_many(*slot, times, reason),
                Step::Websocket(timed) => {
                    self.skip_many(timed.slot, times, reason);
                    self.skip_flow(&timed.spec.flow, times, reason);
                }
                Step::Think(_) => {}
                Step::Repeat { times: inner, flow } => self.skip_flow(flow, times * u64::from(*inner), reason),
                Step::Group { flow, .. } => self.skip_flow(flow, times, reason),
            }
        }
    }

    fn skip_many(&mut self, slot: u32, operations: u64, reason: &'static str) {
        let step = self.step_id(slot);
        match self.accounting {
            Accounting::AsIssued { .. } => self.recording().scheduled(step, operations),
            Accounting::Scheduled { .. } => {
                if let Some(left) = self.left.get_mut(slot as usize) {
                    *left = left.saturating_sub(operations);
                }
            }
        }
        self.recording().not_generated(step, reason, operations);
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

    fn http_request(&self, spec: &HttpRequest) -> Result<Request, BuildError> {
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
            url,
            headers,
            body,
            timeout: spec.timeout.unwrap_or(plan.http.timeout),
            keep_body: needs_body(&spec.expect, &spec.captures),
        })
    }

    fn text(&self, text: &Text) -> Result<String, minijinja::Error> {
        self.phase.context.templates.text(text, &self.user.variables)
    }

    fn add_query(&self, url: &mut Url, query: &[(String, Text)]) -> Result<(), BuildError> {
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

    fn add_headers(&self, headers: &mut HeaderMap, added: &[(String, Text)]) -> Result<(), BuildError> {
        for (name, value) in added {
            let value = HeaderValue::from_str(&self.text(value)?)?;
            headers.insert(HeaderName::from_bytes(name.as_bytes())?, value);
        }
        Ok(())
    }
}

fn outcome_of(failure: Failure) -> Outcome {
    match failure {
        Failure::Timeout => Outcome::Timeout,
        Failure::Unsent(class) => Outcome::Unsent(class),
        Failure::Error(class) => Outcome::Error(class),
    }
}

/// Why a request could not be built.
#[derive(Debug, thiserror::Error)]
enum BuildError {
    #[error("template: {0}")]
    Template(#[from] minijinja::Error),
    #[error("URL: {0}")]
    Url(#[from] url::ParseError),
    #[error("header name: {0}")]
    HeaderName(#[from] http::header::InvalidHeaderName),
    #[error("header value: {0}")]
    HeaderValue(#[from] http::header::InvalidHeaderValue),
    #[error("method: {0}")]
    Method(#[from] http::method::InvalidMethod),
    #[error("{0}: not a URL for a WebSocket")]
    Scheme(String),
}
