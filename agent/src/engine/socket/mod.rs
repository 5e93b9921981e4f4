//! A user's WebSocket: read all the time by a task of its own, whatever the user does meanwhile.
//!
//! # Layout
//! - `reader`: the task: messages, handlers, the end of a connection and its recovery
//! - `room`: subscriptions
//! - `id`: the id that a message carries

pub(super) mod id;
mod reader;
mod room;

use std::cell::{Cell, RefCell};
use std::collections::{BTreeMap, VecDeque};
use std::rc::Rc;
use std::time::Duration;

use bytes::Bytes;
use groundswell_scenario::socket::{IdAt, Subscribe, Websocket};
use groundswell_stats::{Closer, Closing, Outcome, StepId};
use tokio::sync::Notify;
use tokio::task::AbortHandle;
use tokio::time::{Instant, sleep, timeout};

use super::phase::Phase;
use super::recording::Operation;
use super::render::Variables;
use crate::clock::micros;
use crate::transport::{Ended, Failure, Handshake, Message, Socket};
use id::{MessageId, Sender};
use room::Subscription;

/// Limit of a closing handshake.
const CLOSE_LIMIT: Duration = Duration::from_secs(5);
/// Messages that wait for a step to take them; beyond either the oldest goes.
const MOST_WAITING: usize = 10_000;
const MOST_WAITING_BYTES: usize = 16 << 20;

/// How socket events enter the account.
#[derive(Clone)]
pub(super) struct Account {
    pub(super) phase: Rc<Phase>,
    pub(super) slot: u32,
    /// The step of slot 0 where the iteration was scheduled as a whole; else each event belongs to the warm-up or not by
    /// its own time, because a socket may stay open as long as the load.
    pub(super) first_step: Option<StepId>,
}

impl Account {
    fn step(&self, slot: u32) -> StepId {
        let first = self.first_step.unwrap_or_else(|| self.phase.first_step_at(Instant::now()));
        StepId(first.0 + slot)
    }
}

/// A message that came in.
pub(super) struct Arrived {
    pub(super) at: Instant,
    pub(super) message: Message,
}

/// A message sent whose reply is awaited.
struct Awaited {
    operation: Operation,
    deadline: Instant,
}

/// Where a message of this socket is published.
struct Publisher {
    room: String,
    hash: u32,
    sender: Sender,
    published: u64,
}

/// A user's WebSocket. Dropped while it is open, the connection is cut off.
pub(super) struct UserSocket {
    shared: Rc<Shared>,
    reader: AbortHandle,
    /// The send that no receive step has answered yet: when it was intended, when it went out.
    pub(super) unanswered: Cell<Option<(Instant, Instant)>>,
}

/// What the user's task and the reader share.
struct Shared {
    account: Account,
    /// Number of the user.
    user: u64,
    handshake: Handshake,
    spec: Spec,
    /// For templates in handlers.
    variables: Variables,
    /// None while there is no connection.
    socket: RefCell<Option<Rc<Socket>>>,
    /// Set when there will be no connection any more.
    ended: RefCell<Option<Ended>>,
    /// A step asked for the end.
    closing: Cell<Option<u16>>,
    /// Connections lost so far.
    losses: Cell<u64>,
    /// Messages received so far.
    arrived: Cell<u64>,
    inbox: RefCell<VecDeque<Arrived>>,
    inbox_bytes: Cell<usize>,
    pong: RefCell<Option<(Bytes, Instant)>>,
    replies: RefCell<Replies>,
    subscriptions: RefCell<Vec<Subscription>>,
    publishers: RefCell<Vec<Publisher>>,
    captured: RefCell<Variables>,
    /// A send ran into its limit, so that half a message may be on its way.
    unwritable: Notify,
    /// Something above has changed.
    changed: Notify,
}

/// What the plan says of it.
struct Spec {
    keeps: bool,
    on_open: std::sync::Arc<[groundswell_scenario::socket::Message]>,
    on_message: std::sync::Arc<[groundswell_scenario::socket::Handler]>,
    reconnect: Option<groundswell_scenario::socket::Reconnect>,
    drop: Option<groundswell_scenario::socket::DropCycle>,
}

#[derive(Default)]
struct Replies {
    id: IdAt,
    /// By the number of the message; within a step they have one limit, so the first is due first.
    awaited: BTreeMap<(Sender, u64), Awaited>,
}

impl UserSocket {
    /// Takes over an open connection.
    pub(super) fn new(
        socket: Socket,
        account: Account,
        user: u64,
        handshake: Handshake,
        spec: &Websocket,
        variables: Variables,
    ) -> Self {
        let keeps = account.phase.scenario().sockets.get(spec.socket as usize).is_some_and(|used| used.keeps);
        let socket = Rc::new(socket);
        let shared = Rc::new(Shared {
            account,
            user,
            handshake,
            spec: Spec {
                keeps,
                on_open: spec.on_open.clone(),
                on_message: spec.on_message.clone(),
                reconnect: spec.reconnect,
                drop: spec.drop,
            },
            variables,
            socket: RefCell::new(Some(Rc::clone(&socket))),
            ended: RefCell::default(),
            closing: Cell::default(),
            losses: Cell::default(),
            arrived: Cell::default(),
            inbox: RefCell::default(),
            inbox_bytes: Cell::default(),
            pong: RefCell::default(),
            replies: RefCell::default(),
            subscriptions: RefCell::default(),
            publishers: RefCell::default(),
            captured: RefCell::default(),
            unwritable: Notify::new(),
            changed: Notify::new(),
        });
        shared.count(|sockets| sockets.opened += 1);
        let reader = tokio::task::spawn_local(reader::read(Rc::clone(&shared), socket)).abort_handle();
        UserSocket { shared, reader, unanswered: Cell::default() }
    }

    /// Gives up a connection that does not take what is sent.
    pub(super) fn give_up_connection(&self) {
        self.shared.unwritable.notify_one();
    }

    /// Waits for the connection where it is being restored; the failure where there will be none.
    pub(super) async fn connected(&self) -> Result<Rc<Socket>, Failure> {
        loop {
            let changed = self.shared.changed.notified();
            if let Some(ended) = &*self.shared.ended.borrow() {
                return Err(ended.failure.clone());
            }
            if let Some(socket) = &*self.shared.socket.borrow() {
                return Ok(Rc::clone(socket));
            }
            changed.await;
        }
    }

    /// What handlers captured since the last time.
    pub(super) fn take_captured(&self) -> Variables {
        std::mem::take(&mut self.shared.captured.borrow_mut())
    }

    /// An id for the next message, and what to tell when it was sent.
    pub(super) fn next_id(&self, room: Option<&str>) -> MessageId {
        let name = room.unwrap_or_default();
        let mut publishers = self.shared.publishers.borrow_mut();
        let known = publishers.iter().position(|publisher| publisher.room == name);
        let place = known.unwrap_or_else(|| {
            let hash = room.map_or(0, id::hash);
            publishers.push(Publisher { room: name.to_owned(), hash, sender: Sender::new(), published: 0 });
            publishers.len() - 1
        });
        let publisher = &mut publishers[place];
        publisher.published += 1;
        let at_us = self.shared.now_us();
        MessageId { room: publisher.hash, sender: publisher.sender, number: publisher.published, at_us }
    }

    /// A message was published.
    pub(super) fn published(&self, room: &str, id: MessageId) {
        let subscriptions = self.shared.subscriptions.borrow();
        let not_back = subscriptions
            .iter()
            .filter(|subscription| subscription.hash == id.room && !subscription.own && subscription.expects(id.at_us));
        let not_back = not_back.count() as u64;
        self.shared.account.phase.context.recording.room(room, |figures| {
            figures.published_at_us.push(id.at_us);
            figures.counts.own += not_back;
        });
    }

    /// From now on every message of a room is expected.
    pub(super) fn subscribe(&self, spec: &Subscribe, room: String) {
        let now_us = self.shared.now_us();
        self.shared.account.phase.context.recording.room(&room, |figures| figures.joined_at_us.push(now_us));
        let subscription = Subscription::new(room, spec.id.clone(), spec.own, spec.settle, now_us);
        self.shared.subscriptions.borrow_mut().push(subscription);
    }

    /// The reply to this message ends its operation.
    pub(super) fn await_reply(&self, at: &IdAt, id: MessageId, operation: Operation, deadline: Instant) {
        let mut replies = self.shared.replies.borrow_mut();
        replies.id = at.clone();
        replies.awaited.insert((id.sender, id.number), Awaited { operation, deadline });
    }

    /// The operation of a message that could not be sent, unless its reply has ended it.
    pub(super) fn reply_failed(&self, id: MessageId, failed: bool) -> Option<Operation> {
        let mut replies = self.shared.replies.borrow_mut();
        let awaited = if failed { replies.awaited.remove(&(id.sender, id.number)) } else { None };
        awaited.map(|Awaited { operation, .. }| operation)
    }

    /// Ends operations whose reply did not come in time.
    pub(super) fn give_up_late_replies(&self) {
        let now = Instant::now();
        let mut replies = self.shared.replies.borrow_mut();
        while let Some(first) = replies.awaited.first_entry()
            && first.get().deadline <= now
        {
            let Awaited { operation, deadline } = first.remove();
            operation.end(deadline, Outcome::Timeout);
        }
    }

    /// Waits until every awaited reply has come or is late; false when `until` passed before.
    pub(super) async fn replies_done(&self, stopped: impl AsyncFn(Instant) -> bool) -> bool {
        loop {
            let changed = self.shared.changed.notified();
            self.give_up_late_replies();
            let next = self.shared.replies.borrow().awaited.first_key_value().map(|(_, awaited)| awaited.deadline);
            let Some(next) = next else { return true };
            tokio::select! {
                going_on = stopped(next) => if !going_on { return false },
                () = changed => {}
            }
        }
    }

    /// The oldest message that no step has taken; waits for one. The failure when the connection is lost meanwhile.
    pub(super) async fn next_message(&self, losses: u64) -> Result<Arrived, Failure> {
        loop {
            let changed = self.shared.changed.notified();
            if let Some(arrived) = self.shared.inbox.borrow_mut().pop_front() {
                self.shared.inbox_bytes.set(self.shared.inbox_bytes.get() - arrived.message.len());
                return Ok(arrived);
            }
            self.still_connected(losses)?;
            changed.await;
        }
    }

    /// Connections lost so far: the mark from which an operation counts.
    pub(super) fn losses(&self) -> u64 {
        self.shared.losses.get()
    }

    fn still_connected(&self, losses: u64) -> Result<(), Failure> {
        if let Some(ended) = &*self.shared.ended.borrow() {
            return Err(ended.failure.clone());
        }
        if self.shared.losses.get() > losses {
            return Err(Failure::class("ws_connection_lost"));
        }
        Ok(())
    }

    /// Returns when so many messages have come since the mark; the failure when there will be no connection any more.
    pub(super) async fn messages(&self, since: u64, wanted: u64) -> Result<(), Failure> {
        loop {
            let changed = self.shared.changed.notified();
            if self.shared.arrived.get() >= since.saturating_add(wanted) {
                return Ok(());
            }
            if let Some(ended) = &*self.shared.ended.borrow() {
                return Err(ended.failure.clone());
            }
            changed.await;
        }
    }

    /// Messages received so far.
    pub(super) fn arrived(&self) -> u64 {
        self.shared.arrived.get()
    }

    /// Throws away what nobody will take any more: messages that were listened to.
    pub(super) fn forget_messages(&self) {
        self.shared.inbox.borrow_mut().clear();
        self.shared.inbox_bytes.set(0);
    }

    /// Sends a ping and returns when its answer came.
    pub(super) async fn ping(&self) -> Result<Instant, Failure> {
        let socket = self.connected().await?;
        let losses = self.losses();
        let payload = Bytes::copy_from_slice(&rand::random::<u64>().to_be_bytes());
        socket.ping(payload.clone()).await?;
        self.shared.count(|sockets| sockets.pings_sent += 1);
        loop {
            let changed = self.shared.changed.notified();
            if let Some((answered, at)) = &*self.shared.pong.borrow()
                && *answered == payload
            {
                return Ok(*at);
            }
            self.still_connected(losses)?;
            changed.await;
        }
    }

    /// Returns how the connection ended, when it has.
    pub(super) async fn ended(&self) -> Ended {
        loop {
            let changed = self.shared.changed.notified();
            if let Some(ended) = &*self.shared.ended.borrow() {
                return ended.clone();
            }
            changed.await;
        }
    }

    /// Leaves its rooms, waits for what is still on its way, and closes. None where the target did not answer in time.
    pub(super) async fn close(&self, code: u16, reason: &str) -> Option<Ended> {
        self.settle().await;
        self.shared.closing.set(Some(code));
        self.shared.changed.notify_waiters();
        let socket = self.shared.socket.borrow().clone();
        let closing = async {
            if let Some(socket) = socket {
                // A connection that can't be written to ends at the reader.
                let _ = socket.close(code, reason).await;
            }
            self.ended().await
        };
        timeout(CLOSE_LIMIT, closing).await.ok()
    }

    /// Leaves its rooms and waits for what is still on its way. A run that is stopped waits for nothing; its rooms are not
    /// exact then.
    pub(super) async fn settle(&self) {
        if self.shared.account.phase.context.stop.reason().is_some() {
            return;
        }
        let is_settled = self.shared.subscriptions.borrow().iter().all(|subscription| subscription.settled);
        if is_settled || self.shared.ended.borrow().is_some() {
            return;
        }
        let now_us = self.shared.now_us();
        let settle = self.shared.leave_rooms(now_us);
        if !settle.is_zero() {
            sleep(settle).await;
        }
        self.shared.subscriptions.borrow_mut().iter_mut().for_each(|subscription| subscription.settled = true);
    }
}

impl Drop for UserSocket {
    fn drop(&mut self) {
        self.reader.abort();
        let closing = Closing { by: Closer::Agent, code: 1006 };
        self.shared.end(closing, Ended { code: 1006, failure: Failure::class("ws_closed_1006") });
    }
}

impl Shared {
    fn now_us(&self) -> u64 {
        self.account.phase.context.clock.now_us()
    }

    fn step(&self) -> StepId {
        self.account.step(self.account.slot)
    }

    fn count(&self, count: impl FnOnce(&mut groundswell_stats::Sockets)) {
        self.account.phase.context.recording.sockets(self.step(), count);
    }

    /// Counts what went over a connection since the last time.
    fn count_traffic(&self, socket: &Socket) {
        let traffic = socket.take_traffic();
        // A sum that overflows is an error of the seal; of one connection it can't.
        self.count(|sockets| sockets.traffic = sockets.traffic.with(traffic).unwrap_or(sockets.traffic));
    }

    /// Ends every subscription at this time; returns the longest time that late messages are waited for.
    fn leave_rooms(&self, now_us: u64) -> Duration {
        let recording = &self.account.phase.context.recording;
        let mut settle = Duration::ZERO;
        for subscription in &mut *self.subscriptions.borrow_mut() {
            if subscription.left_us.is_none() {
                subscription.left_us = Some(now_us);
                let is_down = self.socket.borrow().is_none();
                recording.room(&subscription.room, |room| {
                    room.left_at_us.push(now_us);
                    if is_down {
                        room.up_at_us.push(now_us);
                    }
                });
            }
            settle = settle.max(subscription.settle);
        }
        settle
    }

    /// There will be no connection any more. Only the first end counts.
    fn end(&self, closing: Closing, ended: Ended) {
        if self.ended.borrow().is_some() {
            return;
        }
        let socket = self.socket.borrow_mut().take();
        if let Some(socket) = socket {
            self.count_traffic(&socket);
            self.count(|sockets| *sockets.closed.entry(closing).or_default() += 1);
        } else {
            self.rooms_up();
        }
        if closing.by == Closer::Agent {
            self.count_cut_off();
        }
        self.leave_rooms(self.now_us());
        self.fail_replies(&ended.failure);
        *self.ended.borrow_mut() = Some(ended);
        self.changed.notify_waiters();
    }

    /// Subscriptions whose late messages nobody could wait for.
    fn count_cut_off(&self) {
        for subscription in self.subscriptions.borrow().iter().filter(|subscription| !subscription.settled) {
            let recording = &self.account.phase.context.recording;
            recording.room(&subscription.room, |room| room.counts.cut_off += 1);
        }
    }

    fn fail_replies(&self, failure: &Failure) {
        let now = Instant::now();
        for (_, Awaited { operation, .. }) in std::mem::take(&mut self.replies.borrow_mut().awaited) {
            operation.end(now, super::iteration::outcome_of(failure.clone()));
        }
    }

    fn rooms_down(&self) {
        self.each_room(|room, now_us| room.down_at_us.push(now_us));
    }

    fn rooms_up(&self) {
        self.each_room(|room, now_us| room.up_at_us.push(now_us));
    }

    fn each_room(&self, act: impl Fn(&mut groundswell_stats::Room, u64)) {
        let now_us = self.now_us();
        let recording = &self.account.phase.context.recording;
        for subscription in self.subscriptions.borrow().iter().filter(|subscription| subscription.left_us.is_none()) {
            recording.room(&subscription.room, |room| act(room, now_us));
        }
    }

    /// Run time of a moment.
    fn at_us(&self, at: Instant) -> u64 {
        micros(at.saturating_duration_since(self.account.phase.context.clock.at(Duration::ZERO)))
    }
}
