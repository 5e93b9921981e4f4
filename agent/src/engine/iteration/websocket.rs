//! WebSocket steps: open, send, receive, listen, ping, close.

use std::rc::Rc;
use std::time::Duration;

use groundswell_scenario::flow::Timed;
use groundswell_scenario::load::Load;
use groundswell_scenario::schedule::Attendance;
use groundswell_scenario::socket::{
    Action, Close, MessageLoad, OnSocket, Receive, Send as SendSpec, Subscribe, Websocket,
};
use groundswell_stats::{ErrorClass, Outcome};
use http::header::{HeaderMap, HeaderValue, SEC_WEBSOCKET_PROTOCOL};
use tokio::time::{Instant, timeout, timeout_at};

use super::request::BuildError;
use super::{Accounting, Iteration, Next, outcome_of};
use crate::engine::check::{Document, capture, matches};
use crate::engine::render::{Variables, cause};
use crate::engine::socket::id::MessageId;
use crate::engine::socket::{Account, Arrived, UserSocket};
use crate::transport::{Ended, Failure, Handshake, Message, Socket};

/// A message ready to be sent.
struct Outgoing {
    message: Message,
    id: MessageId,
    /// The room that it is published in.
    room: Option<String>,
}

impl Iteration<'_> {
    pub(super) async fn websocket(&mut self, timed: &Timed<Box<Websocket>>) -> Next {
        let spec = &timed.spec;
        let handshake = match self.handshake(spec) {
            Ok(handshake) => handshake,
            Err(error) => {
                self.skip(timed.slot, "template_failed", &error);
                self.skip_flow(&spec.flow, 1, "socket_not_open");
                return Next::Step;
            }
        };
        let Some(mut operation) = self.begin(timed.slot) else { return Next::Leave };
        // Boxed, because every user would carry the state of a handshake while its socket is open otherwise.
        let opening = Socket::open(&handshake, &self.phase.context.clients, operation.progress());
        let opened = Box::pin(opening).await;
        let finished = Instant::now();
        self.due = finished;
        match opened {
            Ok(socket) => {
                operation.end(finished, Outcome::Ok);
                let socket = self.user_socket(socket, timed, handshake);
                self.place(spec.socket, Some(Rc::new(socket)));
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
        if spec.background {
            return Next::Step;
        }
        let next = self.flow_of_socket(&spec.flow).await;
        self.close_quietly(spec.socket).await;
        next
    }

    fn user_socket(&self, socket: Socket, timed: &Timed<Box<Websocket>>, handshake: Handshake) -> UserSocket {
        let first_step = match self.accounting {
            Accounting::AsIssued { .. } => None,
            Accounting::Scheduled { .. } => Some(self.first_step),
        };
        let account = Account { phase: Rc::clone(self.phase), slot: timed.slot, first_step };
        let has_templates = !timed.spec.on_message.is_empty() || !timed.spec.on_open.is_empty();
        let variables = if has_templates { self.user.variables.clone() } else { Variables::new() };
        UserSocket::new(socket, account, self.user.number.0, handshake, &timed.spec, variables)
    }

    fn handshake(&self, spec: &Websocket) -> Result<Handshake, BuildError> {
        let plan = &self.phase.context.plan;
        let mut url = self.url(&spec.url)?;
        self.add_query(&mut url, &spec.query)?;
        let scheme = if matches!(url.scheme(), "https" | "wss") { "wss" } else { "ws" };
        // A URL with a host takes either scheme, so this can't fail for what the plan may hold.
        url.set_scheme(scheme).map_err(|()| BuildError::Scheme)?;
        let mut headers = HeaderMap::new();
        if !spec.subprotocols.is_empty() {
            headers.insert(SEC_WEBSOCKET_PROTOCOL, HeaderValue::from_str(&spec.subprotocols.join(", "))?);
        }
        self.add_headers(&mut headers, &spec.headers)?;
        Ok(Handshake { url, headers, timeout: spec.timeout.unwrap_or(plan.http.timeout) })
    }

    fn place(&mut self, number: u32, socket: Option<Rc<UserSocket>>) {
        if let Some(place) = self.sockets.get_mut(number as usize) {
            *place = socket;
        }
    }

    fn socket(&self, number: u32) -> Option<Rc<UserSocket>> {
        self.sockets.get(number as usize)?.clone()
    }

    /// What handlers captured is known to the steps after it.
    pub(super) fn take_captured(&mut self) {
        for socket in self.sockets.iter().flatten() {
            self.user.variables.extend(socket.take_captured());
        }
    }

    pub(super) async fn on_socket(&mut self, timed: &Timed<Box<OnSocket>>) -> Next {
        let OnSocket { socket, action } = &*timed.spec;
        let Some(open) = self.socket(*socket) else {
            self.skip_many(timed.slot, self.operations(action), "socket_not_open");
            return Next::Step;
        };
        match action {
            Action::Send(spec) => self.send(timed.slot, &open, spec).await,
            Action::Messages(load) => self.messages(timed.slot, &open, load).await,
            Action::Receive(spec) => self.receive(timed.slot, &open, spec).await,
            Action::Listen { messages, within } => self.listen_for(timed.slot, &open, *messages, *within).await,
            Action::Ping { within } => self.ping(timed.slot, &open, *within).await,
            Action::Close(spec) => {
                let next = self.close(timed.slot, &open, spec).await;
                self.place(*socket, None);
                next
            }
            Action::Closed { codes, within } => self.closed(timed.slot, &open, codes, *within).await,
        }
    }

    /// Waits for a connection that is being restored. That wait is not the operation's; none where it is hopeless.
    async fn connected(&mut self, slot: u32, open: &UserSocket) -> Option<Rc<Socket>> {
        match open.connected().await {
            Ok(socket) => Some(socket),
            Err(_) => {
                self.skip(slot, "socket_not_open", &"the socket was closed");
                None
            }
        }
    }

    fn outgoing(&mut self, open: &UserSocket, spec: &SendSpec) -> Result<Outgoing, minijinja::Error> {
        let context = &self.phase.context;
        let room = spec.publish.as_ref().map(|room| context.templates.room(room, &self.user.variables)).transpose()?;
        let id = open.next_id(room.as_deref());
        if context.templates.uses(self.phase.scenario, "message_id") {
            self.user.variables.insert("message_id".into(), id.to_string().into());
        }
        let message = context.templates.message(&spec.message, &self.user.variables)?;
        Ok(Outgoing { message, id, room })
    }

    /// Hands a message over, within the time limit of an operation.
    async fn hand_over(&self, slot: u32, open: &UserSocket, out: Outgoing) -> Result<(), Failure> {
        let socket = open.connected().await?;
        let limit = self.phase.context.plan.http.timeout;
        let Outgoing { message, id, room } = out;
        if let Ok(result) = timeout(limit, socket.send(message)).await {
            result?;
        } else {
            drop(socket);
            open.give_up_connection();
            return Err(Failure::Timeout);
        }
        self.recording().messages_sent(self.step_id(slot), 1, 0);
        if let Some(room) = room {
            open.published(&room, id);
        }
        Ok(())
    }

    async fn send(&mut self, slot: u32, open: &UserSocket, spec: &SendSpec) -> Next {
        if self.connected(slot, open).await.is_none() {
            return Next::Step;
        }
        let out = match self.outgoing(open, spec) {
            Ok(out) => out,
            Err(error) => {
                self.skip(slot, "template_failed", &cause(&error));
                return Next::Step;
            }
        };
        let bytes = out.message.len() as u64;
        let intended = self.due;
        let Some(mut operation) = self.begin(slot) else { return Next::Leave };
        let sent = Instant::now();
        let result = self.hand_over(slot, open, out).await;
        let finished = Instant::now();
        self.due = finished;
        match result {
            Ok(()) => {
                open.unanswered.set(Some((intended, sent)));
                operation.progress().bytes_sent = bytes;
                operation.end(finished, Outcome::Ok);
            }
            Err(failure) => operation.end(finished, outcome_of(failure)),
        }
        Next::Step
    }

    /// Messages on a schedule of their own: a slow one makes the next ones late, and their response time says so.
    async fn messages(&mut self, slot: u32, open: &UserSocket, load: &MessageLoad) -> Next {
        let start = self.due;
        let (user, users) = self.turn(load);
        let count = load.messages(user, users);
        let mut free = start;
        for k in 0..count {
            let due = start + load.offset(k, user, users);
            open.give_up_late_replies();
            self.due = due;
            if !self.pause_until(due).await || self.is_over() || self.may_begin().await == Next::Leave {
                return Next::Leave;
            }
            if self.connected(slot, open).await.is_none() {
                continue;
            }
            if self.message(slot, open, load, free.max(due)).await == Next::Leave {
                return Next::Leave;
            }
            free = Instant::now();
        }
        let going_on = open.replies_done(async |until| self.phase.context.pause_until(until).await).await;
        self.due = Instant::now();
        if going_on { Next::Step } else { Next::Leave }
    }

    async fn message(&mut self, slot: u32, open: &UserSocket, load: &MessageLoad, free: Instant) -> Next {
        let out = match self.outgoing(open, &load.send) {
            Ok(out) => out,
            Err(error) => {
                self.skip(slot, "template_failed", &cause(&error));
                return Next::Step;
            }
        };
        let (bytes, id) = (out.message.len() as u64, out.id);
        let waited = free > self.due;
        let Some(mut operation) = self.begin(slot) else { return Next::Leave };
        if waited {
            operation = operation.queued_until(free);
        }
        operation.progress().bytes_sent = bytes;
        let sent = Instant::now();
        // The reply may come before the send returns, so it is awaited before.
        let operation = match &load.reply {
            Some(reply) => {
                open.await_reply(&reply.id, id, operation, sent + reply.within);
                None
            }
            None => Some(operation),
        };
        let result = self.hand_over(slot, open, out).await;
        let finished = Instant::now();
        match (operation.or_else(|| open.reply_failed(id, result.is_err())), result) {
            (Some(operation), Ok(())) => operation.end(finished, Outcome::Ok),
            (Some(operation), Err(failure)) => operation.end(finished, outcome_of(failure)),
            (None, _) => {}
        }
        Next::Step
    }

    /// Operations that this user makes.
    pub(super) fn operations(&self, action: &Action) -> u64 {
        match action {
            Action::Messages(load) => {
                let (user, users) = self.turn(load);
                load.messages(user, users)
            }
            other => other.operations(),
        }
    }

    /// Which of how many users of a shared rate this one is.
    fn turn(&self, load: &MessageLoad) -> (u64, u64) {
        let phase = &self.phase.scenario().phases[self.phase.index];
        match &phase.load {
            Load::Users { curve } if load.shared => {
                (self.user.number.0, u64::from(Attendance::new(curve).users()).max(1))
            }
            Load::Iterations { users, .. } if load.shared => (self.user.number.0, u64::from(*users).max(1)),
            _ => (0, 1),
        }
    }

    async fn receive(&mut self, slot: u32, open: &UserSocket, spec: &Receive) -> Next {
        let losses = open.losses();
        let due = self.due;
        // The answer to a send counts from that send; a message nobody asked for, from the moment it is waited for.
        let (intended, sent) = open.unanswered.take().unwrap_or((due, due));
        self.due = intended;
        let Some(operation) = self.begin(slot) else { return Next::Leave };
        let operation = operation.sent_at(sent);
        let deadline = sent.max(due) + spec.within;
        let awaited = timeout_at(deadline, self.await_messages(open, spec, losses)).await;
        let now = Instant::now();
        self.due = now;
        let (finished, outcome) = match awaited {
            Ok(Ok((at, None))) => (at.max(sent), Outcome::Ok),
            Ok(Ok((at, Some(class)))) => (at.max(sent), Outcome::Error(ErrorClass::new(class))),
            Ok(Err(failure)) => (now, outcome_of(failure)),
            Err(_) => (now, Outcome::Timeout),
        };
        operation.end(finished, outcome);
        Next::Step
    }

    /// Takes messages until those awaited have come; tells when the last came, and what is wrong with them.
    async fn await_messages(
        &mut self,
        open: &UserSocket,
        spec: &Receive,
        losses: u64,
    ) -> Result<(Instant, Option<&'static str>), Failure> {
        let (mut left, mut last, mut wrong) = (spec.count, None, None);
        loop {
            let Arrived { at, message } = open.next_message(losses).await?;
            let mut document = Document::of_message(message.as_bytes());
            let templates = &self.phase.context.templates;
            if !matches(&spec.matcher, &mut document, templates, &self.user.variables) {
                continue;
            }
            if let Some(path) = &spec.order {
                let number = document.json().and_then(|json| path.query(json).first()?.as_f64());
                if number.is_none() || last.is_some_and(|last| number <= Some(last)) {
                    wrong = Some("ws_out_of_order");
                }
                last = number;
            }
            left -= 1;
            if left == 0 {
                if !capture(&spec.captures, &mut document, &mut self.user.variables) {
                    wrong = wrong.or(Some("capture_missing"));
                }
                return Ok((at, wrong));
            }
        }
    }

    /// Keeps the socket open for so long; what comes is counted and delivered to handlers.
    pub(super) async fn listen(&mut self, socket: u32, length: Duration) -> Next {
        let until = self.due + length;
        let Some(open) = self.socket(socket) else { return Next::Step };
        let going_on = tokio::select! {
            going_on = self.pause_until(until) => going_on,
            _ = open.ended() => true,
        };
        open.forget_messages();
        // A socket that ended early ends the listening too: the flow goes on without it.
        self.due = Instant::now();
        if going_on { Next::Step } else { Next::Leave }
    }

    async fn listen_for(&mut self, slot: u32, open: &UserSocket, messages: u64, within: Duration) -> Next {
        let before = open.arrived();
        let Some(operation) = self.begin(slot) else { return Next::Leave };
        let result = timeout(within, open.messages(before, messages)).await;
        let finished = Instant::now();
        open.forget_messages();
        self.due = finished;
        operation.end(finished, ended_as(result));
        Next::Step
    }

    async fn ping(&mut self, slot: u32, open: &UserSocket, within: Duration) -> Next {
        if self.connected(slot, open).await.is_none() {
            return Next::Step;
        }
        let Some(operation) = self.begin(slot) else { return Next::Leave };
        let result = timeout(within, open.ping()).await;
        self.due = Instant::now();
        match result {
            Ok(Ok(at)) => operation.end(at, Outcome::Ok),
            other => operation.end(self.due, ended_as(other.map(|result| result.map(|_| ())))),
        }
        Next::Step
    }

    async fn close(&mut self, slot: u32, open: &UserSocket, spec: &Close) -> Next {
        if self.connected(slot, open).await.is_none() {
            return Next::Step;
        }
        open.settle().await;
        self.due = Instant::now();
        let Some(operation) = self.begin(slot) else { return Next::Leave };
        let closed = open.close(spec.code, &spec.reason).await;
        let finished = Instant::now();
        self.due = finished;
        let outcome = match closed {
            None => Outcome::Timeout,
            Some(Ended { code, .. }) if code != 1006 && (spec.codes.is_empty() || spec.codes.contains(&code)) => {
                Outcome::Ok
            }
            Some(ended) => outcome_of(ended.failure),
        };
        operation.end(finished, outcome);
        Next::Step
    }

    async fn closed(&mut self, slot: u32, open: &UserSocket, codes: &[u16], within: Duration) -> Next {
        let Some(operation) = self.begin(slot) else { return Next::Leave };
        let ended = timeout(within, open.ended()).await;
        let finished = Instant::now();
        self.due = finished;
        operation.end(
            finished,
            match ended {
                Ok(Ended { code, .. }) if codes.is_empty() || codes.contains(&code) => Outcome::Ok,
                Ok(ended) => outcome_of(ended.failure),
                Err(_) => Outcome::Timeout,
            },
        );
        Next::Step
    }

    pub(super) fn subscribe(&mut self, spec: &Subscribe) {
        let Some(open) = self.socket(spec.socket) else { return };
        match self.phase.context.templates.room(&spec.room, &self.user.variables) {
            Ok(room) => open.subscribe(spec, room),
            Err(error) => tracing::debug!(error = cause(&error), "the room of a subscription can't be rendered"),
        }
    }

    /// Closes a socket that the flow left open, so that its server sees a clean end.
    async fn close_quietly(&mut self, socket: u32) {
        if let Some(open) = self.socket(socket) {
            open.close(1000, "").await;
            self.due = self.due.max(Instant::now());
        }
        self.place(socket, None);
    }

    /// Closes what is open in the background.
    pub(super) async fn close_all(&mut self) {
        for socket in (0..).take(self.sockets.len()) {
            self.close_quietly(socket).await;
        }
    }
}

fn ended_as(result: Result<Result<(), Failure>, tokio::time::error::Elapsed>) -> Outcome {
    match result {
        Ok(Ok(())) => Outcome::Ok,
        Ok(Err(failure)) => outcome_of(failure),
        Err(_) => Outcome::Timeout,
    }
}
