//! WebSockets in a flow: what is opened, and what is done on it.

use std::sync::Arc;
use std::time::Duration;

use regex::Regex;
use serde_json_path::JsonPath;

use crate::flow::{Capture, Comparison, JsonText, Step, StepKind, Text, Timed};

/// A WebSocket to open.
#[derive(Debug, Clone)]
pub struct Websocket {
    /// Its number among the sockets of the scenario.
    pub socket: u32,
    /// Absolute `ws(s)://` URL, or a path relative to the plan's target.
    pub url: Text,
    /// Query parameters added to the URL.
    pub query: Vec<(String, Text)>,
    /// Headers of the handshake.
    pub headers: Vec<(String, Text)>,
    /// Subprotocols offered.
    pub subprotocols: Vec<String>,
    /// Limit of the handshake; the plan's HTTP timeout where none.
    pub timeout: Option<Duration>,
    /// Sent as soon as it is open, each time.
    pub on_open: Arc<[Message]>,
    /// What is done with messages, whatever the user does at that moment.
    pub on_message: Arc<[Handler]>,
    /// What is done when the connection is lost.
    pub reconnect: Option<Reconnect>,
    /// Connections that are dropped on purpose.
    pub drop: Option<DropCycle>,
    /// It stays open until the iteration ends, instead of until `flow` ends.
    pub background: bool,
    /// Steps while it is open.
    pub flow: Vec<Step>,
}

/// What is done with a message that matches.
#[derive(Debug, Clone)]
pub struct Handler {
    /// Which messages.
    pub matcher: Matcher,
    /// Counts them in a row of their own.
    pub count: Option<Timed<()>>,
    /// Parts that are kept for later steps.
    pub captures: Vec<Capture>,
    /// Sent in answer.
    pub reply: Option<Answer>,
}

/// What answers a message.
#[derive(Debug, Clone)]
pub enum Answer {
    /// The message itself, as it came.
    Echo,
    /// Another one.
    Message(Message),
}

/// Which messages are meant; an empty one means every message.
#[derive(Debug, Clone, Default)]
pub struct Matcher {
    /// Texts that it must contain.
    pub contains: Vec<Text>,
    /// Expressions that must match.
    pub matches: Vec<Regex>,
    /// Values at JSONPaths of it.
    pub json: Vec<(JsonPath, Comparison)>,
}

/// How a lost connection is opened again.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Reconnect {
    /// Wait before the first attempt; doubled for each one after it.
    pub least: Duration,
    /// Longest wait.
    pub most: Duration,
    /// Is the wait drawn evenly from nothing to its length, so that clients do not come back all at once?
    pub jitter: bool,
    /// Attempts before it is given up.
    pub attempts: u32,
}

/// Connections dropped on purpose, all at the same moment: a reconnect storm.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct DropCycle {
    /// Time from one cycle to the next; the first is one such time after the start of the load.
    pub every: Duration,
    /// Part of the connections that each cycle drops, above 0 and at most 1.
    pub share: f64,
}

/// Something done on an open WebSocket.
#[derive(Debug, Clone)]
pub struct OnSocket {
    /// Which of the scenario's sockets.
    pub socket: u32,
    /// What is done.
    pub action: Action,
}

/// What can be done on an open WebSocket.
#[derive(Debug, Clone)]
pub enum Action {
    /// Sends one message.
    Send(Send),
    /// Sends messages on a schedule.
    Messages(MessageLoad),
    /// Waits for messages. Response time counts from the send before it.
    Receive(Receive),
    /// Waits until so many messages have come, whatever they are.
    Listen {
        /// How many.
        messages: u64,
        /// Limit.
        within: Duration,
    },
    /// A ping; response time is that of its answer.
    Ping {
        /// Limit.
        within: Duration,
    },
    /// The closing handshake.
    Close(Close),
    /// Waits until the target closes.
    Closed {
        /// Close codes that are well; any where empty.
        codes: Vec<u16>,
        /// Limit.
        within: Duration,
    },
}

/// A message to send.
#[derive(Debug, Clone)]
pub struct Send {
    /// What is sent.
    pub message: Message,
    /// The room that it is published in.
    pub publish: Option<Text>,
}

/// What a message holds.
#[derive(Debug, Clone)]
pub enum Message {
    /// Text frame.
    Text(Text),
    /// Text frame with JSON.
    Json(JsonText),
    /// Binary frame (base64 or a file in the plan).
    Binary(Arc<[u8]>),
}

/// Messages on a schedule: message k is due k / `rate` after the step begins, however long the ones before it take.
#[derive(Debug, Clone)]
pub struct MessageLoad {
    /// What is sent.
    pub send: Send,
    /// Messages a second.
    pub rate: f64,
    /// For so long.
    pub length: Duration,
    /// The rate is that of all users of the scenario together.
    pub shared: bool,
    /// The reply that ends each message's operation; without it, it ends when the message is sent.
    pub reply: Option<Reply>,
}

/// The reply to a message, found by the id that the message carried.
#[derive(Debug, Clone)]
pub struct Reply {
    /// Where the id sits.
    pub id: IdAt,
    /// Limit, from the send.
    pub within: Duration,
}

/// Where the id of a message sits in it.
#[derive(Debug, Clone, Default)]
pub enum IdAt {
    /// Anywhere.
    #[default]
    Anywhere,
    /// At this JSONPath.
    Path(JsonPath),
}

/// Messages to wait for. Messages that do not match are counted as received and skipped.
#[derive(Debug, Clone)]
pub struct Receive {
    /// Which messages.
    pub matcher: Matcher,
    /// How many of them.
    pub count: u64,
    /// A number in each of them that must grow from one to the next.
    pub order: Option<JsonPath>,
    /// Deadline, from the send before it (default 10 s).
    pub within: Duration,
    /// What is kept of the last of them.
    pub captures: Vec<Capture>,
}

/// A closing handshake.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Close {
    /// Close code (default 1000).
    pub code: u16,
    /// Reason, at most 123 bytes.
    pub reason: String,
    /// Codes of the target's answer that are well; any where empty.
    pub codes: Vec<u16>,
}

/// A subscription to a room: every message published in it is expected from here to the end of the socket.
#[derive(Debug, Clone)]
pub struct Subscribe {
    /// Which of the scenario's sockets.
    pub socket: u32,
    /// The room.
    pub room: Text,
    /// Where a message's id sits.
    pub id: IdAt,
    /// Does the sender get its own messages back?
    pub own: bool,
    /// How long late messages are waited for before they count as missing.
    pub settle: Duration,
}

/// What a socket of a scenario is used for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct SocketUse {
    /// A step takes messages from it, so they are kept until then.
    pub keeps: bool,
}

impl Action {
    /// Operations that it makes, whoever does it. Which user sends how many messages of a shared rate is not known
    /// before, so those count as they come.
    pub fn operations(&self) -> u64 {
        match self {
            Action::Messages(MessageLoad { shared: true, .. }) => 0,
            Action::Messages(load) => load.messages(0, 1),
            _ => 1,
        }
    }

    /// Does it make operations that [`operations`](Self::operations) can't know?
    pub fn counts_as_they_come(&self) -> bool {
        matches!(self, Action::Messages(MessageLoad { shared: true, .. }))
    }

    /// What kind of operation it is.
    pub fn kind(&self) -> StepKind {
        match self {
            Action::Messages(MessageLoad { reply: Some(_), .. }) => StepKind::Request,
            Action::Send(_) | Action::Messages(_) => StepKind::Send,
            Action::Receive(_) => StepKind::Receive,
            Action::Listen { .. } => StepKind::Listen,
            Action::Ping { .. } => StepKind::Ping,
            Action::Close(_) => StepKind::Close,
            Action::Closed { .. } => StepKind::Closed,
        }
    }

    /// What it sends.
    pub fn send(&self) -> Option<&Send> {
        match self {
            Action::Send(send) | Action::Messages(MessageLoad { send, .. }) => Some(send),
            _ => None,
        }
    }
}

impl MessageLoad {
    /// When message `k` of user `user` of `users` is due, from the start of the step: the users take turns.
    pub fn offset(&self, k: u64, user: u64, users: u64) -> Duration {
        Duration::from_secs_f64((user % users + k * users) as f64 / self.rate)
    }

    /// Messages of one of `users` users.
    pub fn messages(&self, user: u64, users: u64) -> u64 {
        // Those with an offset below the length. The part of a billionth keeps 0.1 * 30 from being more than 3.
        let all = (self.rate * self.length.as_secs_f64() * (1.0 - 1e-9)).floor() as u64 + 1;
        all.saturating_sub(user % users).div_ceil(users)
    }
}

impl Matcher {
    /// Does every message match?
    pub fn is_empty(&self) -> bool {
        self.contains.is_empty() && self.matches.is_empty() && self.json.is_empty()
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        /// Together the users send what one would, each message at its own time.
        #[test]
        fn users_divide_a_shared_rate(rate in 1_u32..500, length_ms in 1_u64..20_000, users in 1_u64..40) {
            let send = Send { message: Message::Binary(Arc::from([])), publish: None };
            let rate = f64::from(rate) / 10.0;
            let load = MessageLoad { send, rate, length: Duration::from_millis(length_ms), shared: true, reply: None };
            let mut offsets: Vec<Duration> = (0..users)
                .flat_map(|user| (0..load.messages(user, users)).map(move |k| (user, k)))
                .map(|(user, k)| load.offset(k, user, users))
                .collect();
            offsets.sort_unstable();
            let alone: Vec<Duration> = (0..load.messages(0, 1)).map(|k| load.offset(k, 0, 1)).collect();
            prop_assert_eq!(offsets, alone);
            prop_assert!(load.offset(load.messages(0, 1) - 1, 0, 1) < load.length);
            prop_assert!(load.offset(load.messages(0, 1), 0, 1).as_secs_f64() >= load.length.as_secs_f64() * (1.0 - 1e-8));
        }
    }
}
