//! WebSocket steps: open, send, receive, close.

use std::time::Duration;

use bytes::Bytes;
use groundswell_scenario::flow::{Close, Receive, Send as SendSpec, Timed, Websocket};
use groundswell_stats::{ErrorClass, Outcome, StepId};
use http::header::{HeaderMap, HeaderValue, SEC_WEBSOCKET_PROTOCOL};
use tokio::time::{Instant, timeout_at};

use super::request::BuildError;
use super::{Iteration, Next, outcome_of};
use crate::engine::check::{Document, capture, is_awaited};
use crate::transport::{Failure, Handshake, Message, Socket};

/// Limit of a closing handshake.
const CLOSE_LIMIT: Duration = Duration::from_secs(5);

/// The WebSocket that steps are done on.
pub(super) struct OpenSocket {
    socket: Socket,
    /// The send that no receive step has answered yet: when it was intended, when it went out.
    unanswered: Option<(Instant, Instant)>,
    /// The timed step of its handshake: what arrives outside of any receive step is counted there.
    step: StepId,
}

impl Iteration<'_> {
    pub(super) async fn websocket(&mut self, timed: &Timed<Websocket>) -> Next {
        let spec = &timed.spec;
        let handshake = match self.handshake(spec) {
            Ok(handshake) => handshake,
            Err(error) => {
                self.skip(timed.slot, "template_failed", &error);
                self.skip_flow(&spec.flow, 1, "socket_not_open");
                return Next::Step;
            }
        };
        let step = self.step_id(timed.slot);
        let mut operation = self.begin(timed.slot);
        let opened = Socket::open(handshake, &self.phase.context.clients, operation.progress()).await;
        let finished = Instant::now();
        self.due = finished;
        match opened {
            Ok(socket) => {
                operation.end(finished, Outcome::Ok);
                self.socket = Some(OpenSocket { socket, unanswered: None, step });
            }
            Err(failure) => {
                let unsent = matches!(failure, Failure::Unsent(_));
                operation.end(finished, outcome_of(failure));
                self.skip_flow(&spec.flow, 1, "socket_not_open");
                if unsent {
                    self.wait_for_own_limit().await;
                }
                return Next::Step;
            }
        }
        let next = self.nested(&spec.flow).await;
        self.close_quietly().await;
        next
    }

    fn handshake(&self, spec: &Websocket) -> Result<Handshake, BuildError> {
        let plan = &self.phase.context.plan;
        let mut url = plan.target.join(&self.text(&spec.url)?)?;
        self.add_query(&mut url, &spec.query)?;
        let scheme = if matches!(url.scheme(), "https" | "wss") { "wss" } else { "ws" };
        // A URL with a host takes either scheme, so this can't fail for what the plan may hold.
        url.set_scheme(scheme).map_err(|()| BuildError::Scheme(url.to_string()))?;
        let mut headers = HeaderMap::new();
        if !spec.subprotocols.is_empty() {
            headers.insert(SEC_WEBSOCKET_PROTOCOL, HeaderValue::from_str(&spec.subprotocols.join(", "))?);
        }
        self.add_headers(&mut headers, &spec.headers)?;
        Ok(Handshake { url, headers, timeout: spec.timeout.unwrap_or(plan.http.timeout) })
    }

    pub(super) async fn send(&mut self, timed: &Timed<SendSpec>) {
        let message = match &timed.spec {
            SendSpec::Text(text) => self.text(text).map(Message::Text),
            SendSpec::Json(json) => {
                let json = self.phase.context.templates.json(json, &self.user.variables);
                json.map(|json| Message::Text(json.to_string()))
            }
            SendSpec::Binary(bytes) => Ok(Message::Binary(Bytes::copy_from_slice(bytes))),
        };
        let message = match message {
            Ok(message) => message,
            Err(error) => return self.skip(timed.slot, "template_failed", &error),
        };
        let Some(mut open) = self.socket.take() else {
            return self.skip(timed.slot, "socket_not_open", &"the socket was closed");
        };
        let bytes = message.len() as u64;
        let (intended, step) = (self.due, self.step_id(timed.slot));
        let mut operation = self.begin(timed.slot);
        let sent = Instant::now();
        let result = open.socket.send(message).await;
        let finished = Instant::now();
        self.due = finished;
        match result {
            Ok(()) => {
                self.recording().messages_sent(step, 1);
                open.unanswered = Some((intended, sent));
                self.socket = Some(open);
                operation.progress().bytes_sent = bytes;
                operation.end(finished, Outcome::Ok);
            }
            // A socket that failed is gone; dropping it closes the connection.
            Err(failure) => operation.end(finished, outcome_of(failure)),
        }
    }

    pub(super) async fn receive(&mut self, timed: &Timed<Receive>) {
        let Some(mut open) = self.socket.take() else {
            return self.skip(timed.slot, "socket_not_open", &"the socket was closed");
        };
        let due = self.due;
        // The answer to a send counts from that send; a message nobody asked for, from the moment it is waited for.
        let (intended, sent) = open.unanswered.take().unwrap_or((due, due));
        self.due = intended;
        let mut operation = self.begin(timed.slot).sent_at(sent);
        let deadline = sent.max(due) + timed.spec.within;
        let (result, bytes) = match timeout_at(deadline, self.await_message(&mut open, timed)).await {
            Ok((result, bytes)) => (result, bytes),
            Err(_) => (Err(Failure::Timeout), 0),
        };
        let finished = Instant::now();
        self.due = finished;
        let outcome = match result {
            Ok(true) => Outcome::Ok,
            Ok(false) => Outcome::Error(ErrorClass::new("capture_missing")),
            Err(failure) => outcome_of(failure),
        };
        // After a timeout the connection still stands; after any other failure it is gone.
        if matches!(outcome, Outcome::Ok | Outcome::Timeout)
            || matches!(&outcome, Outcome::Error(class) if class.as_str() == "capture_missing")
        {
            self.socket = Some(open);
        }
        operation.progress().bytes_received = bytes;
        operation.end(finished, outcome);
    }

    /// Reads until the awaited message; tells whether all captures were found, and the bytes read.
    async fn await_message(&mut self, open: &mut OpenSocket, timed: &Timed<Receive>) -> (Result<bool, Failure>, u64) {
        let mut bytes = 0;
        loop {
            let message = match open.socket.next().await {
                Ok(message) => message,
                Err(failure) => return (Err(failure), bytes),
            };
            bytes += message.len() as u64;
            self.recording().messages_received(self.step_id(timed.slot), 1);
            let mut document = Document::of_message(message.as_bytes());
            let templates = &self.phase.context.templates;
            if is_awaited(&timed.spec, &mut document, templates, &self.user.variables) {
                return (Ok(capture(&timed.spec.captures, &mut document, &mut self.user.variables)), bytes);
            }
        }
    }

    pub(super) async fn close(&mut self, timed: &Timed<Close>) {
        let Some(mut open) = self.socket.take() else {
            return self.skip(timed.slot, "socket_not_open", &"the socket was closed");
        };
        let step = self.step_id(timed.slot);
        let operation = self.begin(timed.slot);
        let deadline = Instant::now() + CLOSE_LIMIT;
        let closing = timeout_at(deadline, open.socket.close(timed.spec.code, &timed.spec.reason)).await;
        let finished = Instant::now();
        self.due = finished;
        let outcome = match closing {
            Ok((late, result)) => {
                self.recording().messages_received(step, late.len() as u64);
                result.map_or_else(outcome_of, |()| Outcome::Ok)
            }
            Err(_) => Outcome::Timeout,
        };
        operation.end(finished, outcome);
    }

    /// Closes a socket that the flow left open, so that its server sees a clean end.
    async fn close_quietly(&mut self) {
        if let Some(mut open) = self.socket.take() {
            let deadline = Instant::now() + CLOSE_LIMIT;
            if let Ok((late, _)) = timeout_at(deadline, open.socket.close(1000, "")).await {
                self.recording().messages_received(open.step, late.len() as u64);
            }
        }
    }
}
