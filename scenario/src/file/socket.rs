//! WebSocket steps of a flow.

use std::time::Duration;

use super::expect::{captures, json_comparisons, texts};
use super::flow::{Around, FlowReader, headers, pairs};
use super::node::{Node, Value};
use super::problem::Place;
use super::reader::{Object, Reader};
use super::shape::{CLOSE, CLOSED, DROP, LISTEN, ON_MESSAGE, RECEIVE, RECONNECT, SEND, SUBSCRIBE};
use super::value;
use crate::flow::{Step, StepKind, Think, Timed};
use crate::socket::{
    Action, Answer, Close, DropCycle, Handler, IdAt, Matcher, Message, MessageLoad, OnSocket, Receive, Reconnect,
    Reply, Send, SocketUse, Subscribe, Websocket,
};

/// Steps on an open WebSocket.
pub(super) const ON_SOCKET: &[&str] = &["send", "receive", "listen", "ping", "close", "closed", "subscribe"];

const DEFAULT_WITHIN: Duration = Duration::from_secs(10);
const DEFAULT_SETTLE: Duration = Duration::from_secs(2);
const DEFAULT_RECONNECT: Reconnect =
    Reconnect { least: Duration::from_millis(100), most: Duration::from_secs(5), jitter: true, attempts: 10 };
const MOST_ATTEMPTS: u64 = 1_000_000;
const MOST_MESSAGES: u64 = 1_000_000_000;
/// RFC 6455, section 5.5: the payload of a control frame has at most 125 bytes, two of them for the code.
const MOST_REASON_BYTES: usize = 123;

/// The WebSockets of a scenario, as far as it was read.
#[derive(Default)]
pub(super) struct Sockets {
    used: Vec<SocketUse>,
    /// Those that a step at this place can use: its number, and the name it was given. The last is the default.
    open: Vec<(u32, Option<String>)>,
}

impl Sockets {
    pub(super) fn used(self) -> Vec<SocketUse> {
        self.used
    }
}

impl FlowReader<'_> {
    pub(super) fn websocket(&mut self, object: &Object<'_>, node: &Node, around: Around<'_>) -> Option<Step> {
        let url = self.url(node, &["ws://", "wss://", "http://", "https://"]);
        let query = pairs(self.reader, object.get("query"), &self.names);
        let headers = headers(self.reader, object.get("headers"), &self.names);
        let protocols = self.reader.items(object.get("subprotocols"));
        let subprotocols = protocols.into_iter().filter_map(|node| self.reader.text(node)).collect();
        let timeout = object.get("timeout").and_then(|node| self.reader.duration(node));
        let reconnect = object.get("reconnect").and_then(|node| self.reconnect(node));
        let drop = object.get("drop").and_then(|node| self.drop_cycle(node));
        if drop.is_some() && reconnect.is_none() {
            let hint = "add `reconnect: true`";
            self.reader.problem_with_hint(object.place_of("drop"), "dropped connections are not opened again", hint);
        }
        let background = self.reader.flag(object.get("background"), false);
        if background && object.get("flow").is_some() {
            let hint = "write the steps after it and tell which socket with `on`";
            self.reader.problem_with_hint(object.place_of("flow"), "a socket in the background has no `flow`", hint);
        }
        let name = object.get("as").and_then(|node| self.reader.text(node));
        if name.is_some() && self.sockets.open.iter().any(|(_, other)| *other == name) {
            self.reader.problem(object.place_of("as"), "another socket that is open here has this name");
        }
        let url = url?;
        let default = format!("WS {}", url.source());
        // Its slot comes before those of its flow, so that rows stand in the order of the plan.
        let timed = self.timed(object, StepKind::Websocket, &default, around, ());
        let socket = u32::try_from(self.sockets.used.len()).ok()?;
        self.sockets.used.push(SocketUse::default());
        let on_open = self.reader.items(object.get("on_open"));
        let on_open = on_open.into_iter().filter_map(|node| self.message(node)).collect();
        let on_message = self.handlers(object.get("on_message"), around).into();
        self.sockets.open.push((socket, name));
        let flow = match object.get("flow") {
            Some(flow) if !background => self.steps(flow, around),
            _ => Vec::new(),
        };
        if !background {
            self.sockets.open.retain(|(open, _)| *open != socket);
        }
        let Timed { slot, name, spec: () } = timed?;
        let spec = Websocket {
            socket,
            url,
            query,
            headers,
            subprotocols,
            timeout,
            on_open,
            on_message,
            reconnect,
            drop,
            background,
            flow,
        };
        Some(Step::Websocket(Timed { slot, name, spec: Box::new(spec) }))
    }

    /// `true`, or how.
    fn reconnect(&mut self, node: &Node) -> Option<Reconnect> {
        if let Value::Bool(wanted) = node.value {
            return wanted.then_some(DEFAULT_RECONNECT);
        }
        let object = self.reader.object(node, &RECONNECT)?;
        let mut reconnect = DEFAULT_RECONNECT;
        if let Some(node) = object.get("backoff") {
            let pause =
                self.reader.parsed(node, "a length of time or a range of them, like 100ms..5s", value::think)?;
            (reconnect.least, reconnect.most) = match pause {
                Think::Fixed(pause) => (pause, pause),
                Think::Between(least, most) => (least, most),
                Think::Exponential(_) => {
                    self.reader.problem(node.place, "`exp` has no meaning here; write a range, like 100ms..5s");
                    return None;
                }
            };
        }
        reconnect.jitter = self.reader.choice(object.get("jitter"), &[("full", true), ("none", false)], true);
        if let Some(most) = object.get("max").and_then(|node| self.reader.integer(node, 1, MOST_ATTEMPTS)) {
            reconnect.attempts = u32::try_from(most).unwrap_or(u32::MAX);
        }
        Some(reconnect)
    }

    fn drop_cycle(&mut self, node: &Node) -> Option<DropCycle> {
        let object = self.reader.object(node, &DROP)?;
        let every = object.get("every").and_then(|node| self.reader.duration(node))?;
        let share = object.get("share").map_or(Some(1.0), |node| self.reader.parsed(node, "a part", value::part))?;
        if share <= 0.0 {
            self.reader.problem(object.place_of("share"), "a share of nothing drops nothing");
            return None;
        }
        Some(DropCycle { every, share })
    }

    fn handlers(&mut self, node: Option<&Node>, around: Around<'_>) -> Vec<Handler> {
        self.reader.items(node).into_iter().filter_map(|node| self.handler(node, around)).collect()
    }

    fn handler(&mut self, node: &Node, around: Around<'_>) -> Option<Handler> {
        let object = self.reader.object(node, &ON_MESSAGE)?;
        if ["count", "capture", "reply", "echo"].iter().all(|key| object.get(key).is_none()) {
            let hint = "give it `count`, `capture`, `reply` or `echo`";
            self.reader.problem_with_hint(object.place(), "it does nothing with the message", hint);
        }
        let matcher = self.matcher(&object);
        let captures = captures(self.reader, object.get("capture"), &mut self.names);
        let message = object.get("reply").and_then(|node| self.message(node));
        let echo = self.reader.flag(object.get("echo"), false);
        if echo && message.is_some() {
            self.reader.problem(object.place_of("echo"), "a message has one answer: `reply` or `echo`");
        }
        let reply = message.map(Answer::Message).or(echo.then_some(Answer::Echo));
        let count = match object.get("count").and_then(|node| self.reader.text(node)) {
            Some(name) => Some(self.named(&name, object.place_of("count"), StepKind::Messages, around, ())?),
            None => None,
        };
        Some(Handler { matcher, count, captures, reply })
    }

    fn matcher(&mut self, object: &Object<'_>) -> Matcher {
        let matches = self.reader.items(object.get("matches"));
        Matcher {
            contains: texts(self.reader, object.get("contains"), &self.names),
            matches: matches.into_iter().filter_map(|node| self.reader.regex(node)).collect(),
            json: json_comparisons(self.reader, object.get("json"), &self.names),
        }
    }

    pub(super) fn on_socket(
        &mut self,
        object: &Object<'_>,
        kind: &str,
        node: &Node,
        around: Around<'_>,
    ) -> Option<Step> {
        let socket = self.which(object, kind)?;
        let action = match kind {
            "send" => self.send(node)?,
            "receive" => {
                self.sockets.used.get_mut(socket as usize)?.keeps = true;
                Action::Receive(self.receive(node)?)
            }
            "listen" => match self.listen(node)? {
                (length, None) => return Some(Step::Listen { socket, length }),
                (within, Some(messages)) => Action::Listen { messages, within },
            },
            "ping" => Action::Ping { within: self.reader.duration(node)? },
            "close" => Action::Close(self.close(node)?),
            "closed" => self.closed(node)?,
            _ => return self.subscribe(socket, node).map(|subscribe| Step::Subscribe(Box::new(subscribe))),
        };
        let step = self.timed(object, action.kind(), kind, around, Box::new(OnSocket { socket, action }))?;
        Some(Step::OnSocket(step))
    }

    /// The socket that a step is done on: the one it names, or the one around it.
    fn which(&mut self, object: &Object<'_>, kind: &str) -> Option<u32> {
        let Some(node) = object.get("on") else {
            if let Some((socket, _)) = self.sockets.open.last() {
                return Some(*socket);
            }
            let hint = "put it into the `flow` of a `websocket` step";
            let message = format!("`{kind}` needs a WebSocket around it");
            self.reader.problem_with_hint(object.place_of(kind), message, hint);
            return None;
        };
        let name = self.reader.text(node)?;
        let found = self.sockets.open.iter().find(|(_, open)| open.as_deref() == Some(&*name));
        if found.is_none() {
            let known: Vec<&str> = self.sockets.open.iter().filter_map(|(_, open)| open.as_deref()).collect();
            let hint = match known.as_slice() {
                [] => "no socket that is open here was given a name with `as`".to_owned(),
                known => format!("open here: {}", known.join(", ")),
            };
            self.reader.problem_with_hint(node.place, format!("no socket `{name}` is open here"), hint);
        }
        found.map(|(socket, _)| *socket)
    }

    fn send(&mut self, node: &Node) -> Option<Action> {
        // What every message can hold: an id of its own.
        self.names.add("message_id");
        let Value::Map(_) = node.value else {
            let message = Message::Text(self.names.text(self.reader, node)?);
            return Some(Action::Send(Send { message, publish: None }));
        };
        let object = self.reader.object(node, &SEND)?;
        let message = self.message_of(&object)?;
        let publish = match object.get("publish") {
            Some(node) => Some(self.names.room(self.reader, node)?),
            None => None,
        };
        let send = Send { message, publish };
        let (Some(rate), Some(length)) = (object.get("rate"), object.get("for")) else {
            for key in ["rate", "for", "shared", "reply", "within"] {
                if object.get(key).is_some() {
                    let hint = "write `rate: 50/s, for: 30s`, or leave it out";
                    let message = format!("`{key}` belongs to messages with a `rate` and a `for`");
                    self.reader.problem_with_hint(object.place_of(key), message, hint);
                    return None;
                }
            }
            return Some(Action::Send(send));
        };
        let rate = self.reader.parsed(rate, "a rate", value::rate)?;
        let length = self.reader.duration(length)?;
        if rate * length.as_secs_f64() > MOST_MESSAGES as f64 {
            self.reader.problem(object.place_of("rate"), format!("more than {MOST_MESSAGES} messages"));
            return None;
        }
        let within = object.get("within").map_or(Some(DEFAULT_WITHIN), |node| self.reader.duration(node))?;
        let reply = match object.get("reply") {
            Some(node) => Some(Reply { id: self.id_at(node)?, within }),
            None => None,
        };
        let shared = self.reader.flag(object.get("shared"), false);
        Some(Action::Messages(MessageLoad { send, rate, length, shared, reply }))
    }

    /// A text, or what a message holds.
    fn message(&mut self, node: &Node) -> Option<Message> {
        let Value::Map(_) = node.value else { return self.names.text(self.reader, node).map(Message::Text) };
        let object = self.reader.object(node, &SEND)?;
        for key in ["publish", "rate", "for", "shared", "reply", "within"] {
            if object.get(key).is_some() {
                self.reader.problem(object.place_of(key), format!("`{key}` has no meaning in a reply"));
            }
        }
        self.message_of(&object)
    }

    fn message_of(&mut self, object: &Object<'_>) -> Option<Message> {
        let kinds = ["text", "json", "binary", "file"];
        let given: Vec<&str> = kinds.into_iter().filter(|kind| object.get(kind).is_some()).collect();
        let [kind] = given.as_slice() else {
            self.reader.problem(object.place(), "a message is one of `text`, `json`, `binary` and `file`");
            return None;
        };
        let node = object.get(kind)?;
        Some(match *kind {
            "text" => Message::Text(self.names.text(self.reader, node)?),
            "json" => Message::Json(self.names.json(self.reader, node)?),
            "binary" => Message::Binary(self.reader.parsed(node, "base64", value::binary)?.into()),
            _ => Message::Binary(self.reader.file(node, self.source)?),
        })
    }

    /// `anywhere`, or a JSONPath.
    fn id_at(&mut self, node: &Node) -> Option<IdAt> {
        let text = self.reader.text(node)?;
        if text == "anywhere" {
            return Some(IdAt::Anywhere);
        }
        self.reader.json_path(&text, node.place).map(IdAt::Path)
    }

    fn receive(&mut self, node: &Node) -> Option<Receive> {
        let mut receive = Receive {
            matcher: Matcher::default(),
            count: 1,
            order: None,
            within: DEFAULT_WITHIN,
            captures: Vec::new(),
        };
        if matches!(node.value, Value::Map(_)) {
            let awaited = self.reader.object(node, &RECEIVE)?;
            receive.matcher = self.matcher(&awaited);
            if let Some(within) = awaited.get("within").and_then(|node| self.reader.duration(node)) {
                receive.within = within;
            }
            if let Some(count) = awaited.get("count") {
                receive.count = self.reader.integer(count, 1, MOST_MESSAGES)?;
            }
            if let Some(order) = awaited.get("order") {
                let path = self.reader.text(order)?;
                receive.order = Some(self.reader.json_path(&path, order.place)?);
            }
            receive.captures = captures(self.reader, awaited.get("capture"), &mut self.names);
        } else if node.as_text() != Some("any") {
            receive.matcher.contains = vec![self.names.text(self.reader, node)?];
        }
        Some(receive)
    }

    /// For how long, or how many messages within that time.
    fn listen(&mut self, node: &Node) -> Option<(Duration, Option<u64>)> {
        if !matches!(node.value, Value::Map(_)) {
            return Some((self.reader.duration(node)?, None));
        }
        let object = self.reader.object(node, &LISTEN)?;
        let messages = self.reader.integer(object.get("messages")?, 1, MOST_MESSAGES)?;
        let within = object.get("within").map_or(Some(DEFAULT_WITHIN), |node| self.reader.duration(node))?;
        Some((within, Some(messages)))
    }

    fn close(&mut self, node: &Node) -> Option<Close> {
        if !matches!(node.value, Value::Map(_)) {
            return Some(Close { code: self.close_code(node)?, reason: String::new(), codes: Vec::new() });
        }
        let close = self.reader.object(node, &CLOSE)?;
        let code = close.get("code").map_or(Some(1000), |node| self.close_code(node));
        let reason = close.get("reason").map_or(Some(String::new()), |node| self.close_reason(node));
        Some(Close { code: code?, reason: reason?, codes: codes(self.reader, close.get("expect")) })
    }

    fn closed(&mut self, node: &Node) -> Option<Action> {
        let Value::Map(_) = node.value else {
            return Some(Action::Closed { codes: codes(self.reader, Some(node)), within: DEFAULT_WITHIN });
        };
        let object = self.reader.object(node, &CLOSED)?;
        let within = object.get("within").map_or(Some(DEFAULT_WITHIN), |node| self.reader.duration(node))?;
        Some(Action::Closed { codes: codes(self.reader, object.get("codes")), within })
    }

    fn subscribe(&mut self, socket: u32, node: &Node) -> Option<Subscribe> {
        if !matches!(node.value, Value::Map(_)) {
            let room = self.names.room(self.reader, node)?;
            return Some(Subscribe { socket, room, id: IdAt::Anywhere, own: true, settle: DEFAULT_SETTLE });
        }
        let object = self.reader.object(node, &SUBSCRIBE)?;
        let room = self.names.room(self.reader, object.get("room")?)?;
        let id = object.get("id").map_or(Some(IdAt::Anywhere), |node| self.id_at(node))?;
        let own = self.reader.flag(object.get("own"), true);
        let settle = object.get("settle").map_or(Some(DEFAULT_SETTLE), |node| self.reader.duration_or_zero(node))?;
        Some(Subscribe { socket, room, id, own, settle })
    }

    /// RFC 6455, section 7.4: what an endpoint may send.
    fn close_code(&mut self, node: &Node) -> Option<u16> {
        let code = self.reader.integer(node, 1000, 4999).and_then(|code| u16::try_from(code).ok())?;
        let allowed = matches!(code, 1000..=1003 | 1007..=1014 | 3000..=4999);
        if !allowed {
            let hint = "1000 to 1003, 1007 to 1014 and 3000 to 4999 may be sent";
            self.reader.problem_with_hint(node.place, format!("close code {code} must not be sent"), hint);
        }
        allowed.then_some(code)
    }

    fn close_reason(&mut self, node: &Node) -> Option<String> {
        let reason = self.reader.text(node)?;
        if reason.len() > MOST_REASON_BYTES {
            let message = format!("the reason has {} bytes, the limit is {MOST_REASON_BYTES}", reason.len());
            self.reader.problem(node.place, message);
            return None;
        }
        Some(reason)
    }
}

/// Close codes: one or several; `any` for whatever comes.
fn codes(reader: &mut Reader, node: Option<&Node>) -> Vec<u16> {
    let nodes = reader.items(node);
    let known = nodes.into_iter().filter(|node| node.as_text() != Some("any"));
    let codes: Vec<&Node> = known.collect();
    codes.into_iter().filter_map(|node| u16::try_from(reader.integer(node, 1000, 4999)?).ok()).collect()
}

/// A rate that all users share has a meaning only where their number is known.
pub(super) fn shared_rate(steps: &[Step]) -> bool {
    steps.iter().any(|step| match step {
        Step::OnSocket(timed) => matches!(&timed.spec.action, Action::Messages(MessageLoad { shared: true, .. })),
        Step::Websocket(timed) => shared_rate(&timed.spec.flow),
        Step::Repeat { flow, .. } | Step::Group { flow, .. } => shared_rate(flow),
        _ => false,
    })
}

/// Says what is wrong with a shared rate beside a load without a number of users.
pub(super) fn refuse_shared_rate(reader: &mut Reader, place: Place) {
    let hint = "give the scenario a load of `users` or `iterations`, or leave `shared` out";
    reader.problem_with_hint(place, "a `shared` rate of messages needs a known number of users", hint);
}
