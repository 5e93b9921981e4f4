//! The task that reads a WebSocket: takes in what comes, and opens the connection again where the plan says so.

use std::rc::Rc;
use std::time::Duration;

use groundswell_scenario::socket::{Answer, Handler, Reconnect};
use groundswell_stats::{Closer, Closing, ErrorClass, Outcome};
use rand::RngExt;
use tokio::time::{Instant, sleep, sleep_until};

use super::id::MessageId;
use super::room::Delivery;
use super::{Arrived, Awaited, MOST_WAITING, MOST_WAITING_BYTES, Shared};
use crate::clock::micros;
use crate::engine::check::{Document, capture, matches};
use crate::engine::render::cause;
use crate::transport::{Arrival, Ended, Failure, Message, Progress, Socket};

/// Why a connection is no more.
enum Loss {
    Ended(Ended),
    /// Dropped by this cycle of the plan.
    Dropped(u32),
    /// The target does not take what is sent.
    Unwritable,
}

/// Reads until there is no connection any more.
pub(super) async fn read(shared: Rc<Shared>, mut socket: Rc<Socket>) {
    loop {
        shared.greet(&socket).await;
        let loss = tokio::select! {
            ended = shared.take_in(&socket) => Loss::Ended(ended),
            cycle = shared.next_drop() => Loss::Dropped(cycle),
            () = shared.unwritable.notified() => Loss::Unwritable,
        };
        let closing = shared.closing.get();
        let reconnect = shared.spec.reconnect.filter(|_| closing.is_none());
        let (ended, cycle) = match loss {
            Loss::Ended(ended) => (ended, 0),
            Loss::Dropped(cycle) => (Ended { code: 1006, failure: Failure::class("ws_dropped") }, cycle),
            Loss::Unwritable => (Ended { code: 1006, failure: Failure::class("ws_not_read") }, 0),
        };
        let by = match closing {
            Some(_) => Closer::Agent,
            None if cycle > 0 => Closer::Drop,
            None if ended.failure == Failure::class("ws_not_read") => Closer::Agent,
            None => Closer::Target,
        };
        // Closed by us, it counts under the code that we sent; the target's answer is the operation's to judge.
        let code = closing.unwrap_or(ended.code);
        let Some(reconnect) = reconnect else {
            // Late messages of a socket that was closed in order were waited for before the close.
            shared.end(Closing { by, code }, ended);
            return;
        };
        drop(socket);
        // Boxed, because every idle connection would carry the state of a handshake otherwise.
        match Box::pin(shared.restore(reconnect, Closing { by, code }, cycle)).await {
            Some(restored) => socket = restored,
            None => return,
        }
    }
}

impl Shared {
    /// Sends what the plan says at the opening.
    async fn greet(&self, socket: &Socket) {
        for message in &*self.spec.on_open {
            let templates = &self.account.phase.context.templates;
            match templates.message(message, &self.variables) {
                Ok(message) => self.say(socket, message).await,
                Err(error) => tracing::debug!(error = cause(&error), "on_open can't be rendered"),
            }
        }
    }

    /// Sends a message that is no operation of its own.
    async fn say(&self, socket: &Socket, message: Message) {
        if !self.turn().await {
            return;
        }
        // Held back beyond the lease, the first thing that goes on may be an answer to what came meanwhile.
        if !self.account.phase.context.may_issue(Instant::now()) {
            return;
        }
        let bytes = message.len() as u64;
        // A connection that can't be written to ends where it is read.
        if socket.send(message).await.is_ok() {
            self.account.phase.context.recording.messages_sent(self.step(), 1, bytes);
        }
    }

    /// Takes in what comes until the connection ends.
    async fn take_in(&self, socket: &Socket) -> Ended {
        loop {
            let arrival = socket.next().await;
            self.count_traffic(socket);
            match arrival {
                Ok(Arrival::Message(message)) => self.message(socket, message).await,
                Ok(Arrival::Ping) => self.count(|sockets| sockets.pings_received += 1),
                Ok(Arrival::Pong(payload)) => {
                    self.count(|sockets| sockets.pongs_received += 1);
                    *self.pong.borrow_mut() = Some((payload, Instant::now()));
                    self.changed.notify_waiters();
                }
                Err(ended) => return ended,
            }
        }
    }

    async fn message(&self, socket: &Socket, message: Message) {
        let at = Instant::now();
        let mut document = Document::of_message(message.as_bytes());
        self.deliver(&mut document, at);
        self.reply_came(&mut document, at);
        let mut replies = Vec::new();
        let counted = self.handle(&message, &mut document, &mut replies);
        let step = self.account.step(counted.unwrap_or(self.account.slot));
        self.account.phase.context.recording.messages_received(step, 1, message.len() as u64);
        self.arrived.set(self.arrived.get() + 1);
        if self.spec.keeps {
            self.keep(Arrived { at, message });
        }
        self.changed.notify_waiters();
        for reply in replies {
            self.say(socket, reply).await;
        }
    }

    /// Counts a message of a broadcast.
    fn deliver(&self, document: &mut Document<'_>, at: Instant) {
        let mut subscriptions = self.subscriptions.borrow_mut();
        let Some(first) = subscriptions.first() else { return };
        // The sockets of a step look for the id at one place, whatever the room.
        let Some(id) = MessageId::of(document, &first.id) else { return };
        let recording = &self.account.phase.context.recording;
        let latency_us = self.at_us(at).saturating_sub(id.at_us);
        match subscriptions.iter_mut().find(|subscription| subscription.hash == id.room) {
            Some(subscription) => {
                let delivery = subscription.arrived(id);
                recording.room(&subscription.room, |room| match delivery {
                    Delivery::First { out_of_order } => {
                        room.counts.delivered += 1;
                        room.counts.out_of_order += u64::from(out_of_order);
                        room.latency.entry(id.sender.source()).or_default().record(latency_us);
                    }
                    Delivery::Duplicate => room.counts.duplicated += 1,
                    Delivery::Outside => room.counts.outside += 1,
                });
            }
            None if id.room != 0 => {
                let room = subscriptions.first().map(|first| first.room.clone()).unwrap_or_default();
                recording.room(&room, |room| room.counts.misdirected += 1);
            }
            None => {}
        }
    }

    /// Ends the operation that this message answers.
    fn reply_came(&self, document: &mut Document<'_>, at: Instant) {
        let mut replies = self.replies.borrow_mut();
        if replies.awaited.is_empty() {
            return;
        }
        let Some(id) = MessageId::of(document, &replies.id) else { return };
        let Some(Awaited { operation, deadline }) = replies.awaited.remove(&(id.sender, id.number)) else { return };
        let outcome = if at <= deadline { Outcome::Ok } else { Outcome::Timeout };
        operation.end(at.min(deadline), outcome);
    }

    /// Does what the plan says with a message; returns the slot of the row that counts it, if not the socket's.
    fn handle(&self, message: &Message, document: &mut Document<'_>, replies: &mut Vec<Message>) -> Option<u32> {
        let templates = &self.account.phase.context.templates;
        let mut counted = None;
        for Handler { matcher, count, captures, reply } in &*self.spec.on_message {
            if !matches(matcher, document, templates, &self.variables) {
                continue;
            }
            if counted.is_none() {
                counted = count.as_ref().map(|count| count.slot);
            }
            let mut captured = std::collections::BTreeMap::new();
            capture(captures, document, &mut captured);
            match reply {
                Some(Answer::Echo) => replies.push(message.clone()),
                Some(Answer::Message(reply)) => {
                    let mut variables = self.variables.clone();
                    variables.extend(captured.clone());
                    match templates.message(reply, &variables) {
                        Ok(reply) => replies.push(reply),
                        Err(error) => tracing::debug!(error = cause(&error), "a reply can't be rendered"),
                    }
                }
                None => {}
            }
            self.captured.borrow_mut().extend(captured);
        }
        counted
    }

    /// Keeps a message until a step takes it; the oldest goes where too many wait.
    fn keep(&self, arrived: Arrived) {
        let mut inbox = self.inbox.borrow_mut();
        let mut bytes = self.inbox_bytes.get() + arrived.message.len();
        inbox.push_back(arrived);
        while inbox.len() > MOST_WAITING || bytes > MOST_WAITING_BYTES {
            let Some(oldest) = inbox.pop_front() else { break };
            bytes -= oldest.message.len();
            self.count(|sockets| sockets.unread += 1);
        }
        self.inbox_bytes.set(bytes);
    }

    /// Opens the connection again, within the attempts that the plan allows.
    async fn restore(&self, reconnect: Reconnect, closing: Closing, cycle: u32) -> Option<Rc<Socket>> {
        let lost = Instant::now();
        if let Some(socket) = self.socket.borrow_mut().take() {
            self.count_traffic(&socket);
        }
        self.losses.set(self.losses.get() + 1);
        self.rooms_down();
        self.fail_replies(&Failure::class("ws_connection_lost"));
        self.count(|sockets| {
            *sockets.closed.entry(closing).or_default() += 1;
            sockets.recoveries.entry(cycle).or_default().lost += 1;
        });
        self.changed.notify_waiters();
        for attempt in 0..reconnect.attempts {
            tokio::select! {
                () = sleep(wait_before(reconnect, attempt)) => {}
                () = self.asked_to_close() => {
                    self.end(closing, lost_for_good(closing));
                    return None;
                }
            }
            if !self.turn().await {
                self.end(closing, lost_for_good(closing));
                return None;
            }
            let begun = Instant::now();
            if !self.account.phase.context.may_issue(begun) {
                break;
            }
            let clients = &self.account.phase.context.clients;
            match Socket::open(&self.handshake, clients, &mut Progress::default()).await {
                Ok(socket) => {
                    let socket = Rc::new(socket);
                    self.restored(Rc::clone(&socket), cycle, begun, lost);
                    return Some(socket);
                }
                Err(failure) => self.count(|sockets| {
                    let failed = &mut sockets.recoveries.entry(cycle).or_default().failed;
                    *failed.entry(class_of(failure)).or_default() += 1;
                }),
            }
        }
        self.count(|sockets| sockets.recoveries.entry(cycle).or_default().given_up += 1);
        self.end(closing, lost_for_good(closing));
        None
    }

    fn restored(&self, socket: Rc<Socket>, cycle: u32, begun: Instant, lost: Instant) {
        let now = Instant::now();
        self.count(|sockets| {
            sockets.opened += 1;
            let recovery = sockets.recoveries.entry(cycle).or_default();
            recovery.restored += 1;
            recovery.handshake.record(micros(now.saturating_duration_since(begun)));
            recovery.outage.record(micros(now.saturating_duration_since(lost)));
        });
        self.rooms_up();
        *self.socket.borrow_mut() = Some(socket);
        self.changed.notify_waiters();
    }

    /// Waits for the turn of what is no operation of its own but sent all the same; false where the socket is closed before.
    async fn turn(&self) -> bool {
        let phase = &self.account.phase;
        let Some(pace) = &phase.context.pace else { return true };
        if phase.is_open() {
            pace.count(1);
            return true;
        }
        let was_held = Box::pin(pace.turn());
        tokio::select! {
            was_held = was_held => {
                if was_held {
                    phase.context.recording.held();
                }
                true
            }
            () = self.asked_to_close() => false,
        }
    }

    async fn asked_to_close(&self) {
        loop {
            let changed = self.changed.notified();
            if self.closing.get().is_some() {
                return;
            }
            changed.await;
        }
    }

    /// Returns when a cycle of the plan drops this connection.
    async fn next_drop(&self) -> u32 {
        let Some(drop) = self.spec.drop else { return std::future::pending().await };
        let origin = self.account.phase.origin;
        let passed = origin.elapsed().as_secs_f64() / drop.every.as_secs_f64();
        let mut cycle = passed as u32 + 1;
        while !is_dropped(self.user, cycle, drop.share) {
            cycle += 1;
        }
        sleep_until(origin + drop.every * cycle).await;
        cycle
    }
}

fn lost_for_good(closing: Closing) -> Ended {
    Ended { code: closing.code, failure: Failure::class("ws_connection_lost") }
}

/// Is a user among those that a cycle drops? The fractional parts of multiples of the golden ratio lie evenly (Weyl), so
/// each cycle drops its share, and each cycle other users.
fn is_dropped(user: u64, cycle: u32, share: f64) -> bool {
    const GOLDEN: f64 = 0.618_033_988_749_895;
    const SQRT_2: f64 = 0.414_213_562_373_095;
    (user as f64 * GOLDEN + f64::from(cycle) * SQRT_2).fract() < share
}

/// Exponential back-off, with full jitter where the plan wants it (Brooker, "Exponential Backoff And Jitter", 2015).
fn wait_before(reconnect: Reconnect, attempt: u32) -> Duration {
    let factor = 2_f64.powi(i32::try_from(attempt).unwrap_or(i32::MAX).min(30));
    let longest = reconnect.least.mul_f64(factor).min(reconnect.most).max(reconnect.least.min(reconnect.most));
    if reconnect.jitter { longest.mul_f64(rand::rng().random::<f64>()) } else { longest }
}

fn class_of(failure: Failure) -> ErrorClass {
    match failure {
        Failure::Timeout => ErrorClass::new("timeout"),
        Failure::Unsent(class) | Failure::Error(class) => class,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_cycle_drops_its_share() {
        for (share, cycle) in [(0.5, 1), (0.5, 2), (0.1, 7), (1.0, 3)] {
            let dropped = (0..1_000).filter(|user| is_dropped(*user, cycle, share)).count() as f64;
            assert!((dropped - 1_000.0 * share).abs() < 5.0, "{share} {cycle}: {dropped}");
        }
    }

    #[test]
    fn waits_double_up_to_the_longest() {
        let (least, most) = (Duration::from_millis(100), Duration::from_secs(1));
        let reconnect = Reconnect { least, most, jitter: false, attempts: 10 };
        let waits = [0, 1, 2, 3, 4, 2_000_000_000].map(|attempt| wait_before(reconnect, attempt).as_millis());
        assert_eq!(waits, [100, 200, 400, 800, 1_000, 1_000]);
        assert!(wait_before(Reconnect { jitter: true, ..reconnect }, 3) <= Duration::from_millis(800));
    }
}
