//! The flow of a scenario, step by step.

use std::time::Duration;

use super::body::{BODIES, body};
use super::expect::{captures, expect, json_comparisons, texts};
use super::http::{auth, most_redirects};
use super::node::{Node, Value};
use super::problem::Place;
use super::reader::{Object, Reader};
use super::shape::{CLOSE, RECEIVE, SEND, STEP, STEP_KINDS};
use super::template::Names;
use super::value;
use crate::PlanSource;
use crate::flow::{Close, Expect, HttpRequest, Method, Receive, Send, Step, StepKind, Text, Timed, Websocket};
use crate::http::Auth;

const MOST_REPEATS: u64 = 1_000_000;
/// Operations of one iteration: their number has to fit every sum.
const MOST_OPERATIONS: u64 = 1_000_000_000;
const DEFAULT_WITHIN: Duration = Duration::from_secs(10);
/// RFC 6455, section 5.5: the payload of a control frame has at most 125 bytes, two of them for the code.
const MOST_REASON_BYTES: usize = 123;

/// A timed step of a scenario.
pub(super) struct TimedSlot {
    pub(super) name: String,
    pub(super) kind: StepKind,
    pub(super) per_iteration: u64,
}

/// Reads one flow.
pub(super) struct FlowReader<'r> {
    reader: &'r mut Reader,
    source: &'r PlanSource,
    names: Names,
    slots: Vec<TimedSlot>,
}

/// Where a step stands.
#[derive(Clone, Copy)]
struct Around<'a> {
    in_websocket: bool,
    /// Names of the groups around it, each with a slash.
    prefix: &'a str,
}

impl<'r> FlowReader<'r> {
    pub(super) fn new(reader: &'r mut Reader, names: Names, source: &'r PlanSource) -> Self {
        FlowReader { reader, source, names, slots: Vec::new() }
    }

    pub(super) fn read(&mut self, node: &Node) -> Vec<Step> {
        let steps = self.steps(node, Around { in_websocket: false, prefix: "" });
        self.count(&steps, 1);
        if self.slots.iter().any(|slot| slot.per_iteration > MOST_OPERATIONS) {
            let message = format!("one iteration makes more than {MOST_OPERATIONS} operations of one step");
            self.reader.problem(node.place, message);
        }
        steps
    }

    /// The timed steps, by slot.
    pub(super) fn into_slots(self) -> Vec<TimedSlot> {
        self.slots
    }

    fn count(&mut self, steps: &[Step], times: u64) {
        for step in steps {
            let slot = match step {
                Step::Http(Timed { slot, .. })
                | Step::Websocket(Timed { slot, .. })
                | Step::Send(Timed { slot, .. })
                | Step::Receive(Timed { slot, .. })
                | Step::Close(Timed { slot, .. }) => Some(*slot),
                Step::Think(_) | Step::Repeat { .. } | Step::Group { .. } => None,
            };
            if let Some(slot) = slot.and_then(|slot| self.slots.get_mut(slot as usize)) {
                slot.per_iteration = slot.per_iteration.saturating_add(times);
            }
            match step {
                Step::Repeat { times: inner, flow } => self.count(flow, times.saturating_mul(u64::from(*inner))),
                Step::Group { flow, .. } => self.count(flow, times),
                Step::Websocket(timed) => self.count(&timed.spec.flow, times),
                _ => {}
            }
        }
    }

    fn steps(&mut self, node: &Node, around: Around<'_>) -> Vec<Step> {
        let mut steps: Vec<Step> = Vec::new();
        let items = self.reader.list(node, "a list of steps");
        if matches!(&node.value, Value::List(items) if items.is_empty()) {
            self.reader.problem(node.place, "the flow has no step");
        }
        for item in items {
            let Some(object) = self.reader.object(item, &STEP) else { continue };
            if object.get("repeat").is_some() && object.get("flow").is_none() {
                if let Some(times) = self.times(&object) {
                    self.repeat_above(&object, times, &mut steps);
                }
            } else if let Some(step) = self.step(&object, around) {
                steps.push(step);
            }
        }
        steps
    }

    /// `repeat: 10` alone: the steps above it in this flow, ten times in all.
    fn repeat_above(&mut self, object: &Object<'_>, times: u32, steps: &mut Vec<Step>) {
        if steps.is_empty() {
            let hint = "write the steps above it, or give it a `flow`";
            self.reader.problem_with_hint(object.place(), "there is nothing above to repeat", hint);
            return;
        }
        *steps = vec![Step::Repeat { times, flow: std::mem::take(steps) }];
    }

    fn times(&mut self, object: &Object<'_>) -> Option<u32> {
        let times = object.get("repeat").and_then(|node| self.reader.integer(node, 1, MOST_REPEATS))?;
        u32::try_from(times).ok()
    }

    fn step(&mut self, object: &Object<'_>, around: Around<'_>) -> Option<Step> {
        let kinds: Vec<&str> = STEP_KINDS.iter().copied().filter(|kind| object.get(kind).is_some()).collect();
        let kind = match kinds.as_slice() {
            [kind] => *kind,
            [] => {
                let hint = format!("one of {}", STEP_KINDS.join(", "));
                self.reader.problem_with_hint(object.place(), "the step does not say what to do", hint);
                return None;
            }
            [first, second, ..] => {
                let message = format!("a step is `{first}` or `{second}`, not both");
                self.reader.problem_with_hint(object.place_of(second), message, "make two steps of it");
                return None;
            }
        };
        self.only_with(object, kind);
        let node = object.get(kind)?;
        match kind {
            "think" => self.reader.parsed(node, "a pause", value::think).map(Step::Think),
            "repeat" => {
                let times = self.times(object);
                let flow = self.inner(object, around);
                Some(Step::Repeat { times: times?, flow: flow? })
            }
            "group" => {
                let name = self.reader.text(node)?;
                let prefix = format!("{}{name}/", around.prefix);
                let flow = self.inner(object, Around { prefix: &prefix, ..around })?;
                Some(Step::Group { name, flow })
            }
            "websocket" => self.websocket(object, node, around),
            "send" | "receive" | "close" if !around.in_websocket => {
                let hint = "put it into the `flow` of a `websocket` step";
                self.reader.problem_with_hint(
                    object.place_of(kind),
                    format!("`{kind}` needs a WebSocket around it"),
                    hint,
                );
                None
            }
            "send" => self.send(object, node, around),
            "receive" => self.receive(object, node, around),
            "close" => self.close(object, node, around),
            _ => self.http(object, kind, node, around),
        }
    }

    fn inner(&mut self, object: &Object<'_>, around: Around<'_>) -> Option<Vec<Step>> {
        match object.get("flow") {
            Some(flow) => Some(self.steps(flow, around)),
            None => {
                self.reader.problem(object.place(), "it needs a `flow` with the steps in it");
                None
            }
        }
    }

    /// Keys that mean nothing for this kind of step.
    fn only_with(&mut self, object: &Object<'_>, kind: &str) {
        let fitting: &[&str] = match kind {
            "think" => &[],
            "repeat" | "group" => &["flow"],
            "websocket" => &["flow", "name", "query", "headers", "subprotocols", "timeout"],
            "send" | "receive" | "close" => &["name"],
            _ => &["name", "query", "headers", "auth", "redirects", "timeout", "expect", "capture"],
        };
        let bodies: &[&str] = if fitting.contains(&"expect") { &BODIES } else { &[] };
        for name in object.keys() {
            let known = STEP.keys.iter().any(|key| key.name == name.text);
            if known && !STEP_KINDS.contains(&&*name.text) && !fitting.iter().chain(bodies).any(|key| *key == name.text)
            {
                self.reader.problem(name.place, format!("`{}` has no meaning for `{kind}`", name.text));
            }
        }
    }

    /// Gives a timed step its slot; steps with the same name share one.
    fn timed<T>(
        &mut self,
        object: &Object<'_>,
        kind: StepKind,
        default: &str,
        around: Around<'_>,
        spec: T,
    ) -> Option<Timed<T>> {
        let given = object.get("name").and_then(|node| self.reader.text(node));
        let name = format!("{}{}", around.prefix, given.as_deref().unwrap_or(default));
        let slot = match self.slots.iter().position(|slot| slot.name == name) {
            Some(slot) if self.slots[slot].kind != kind => {
                let (other, this) = (self.slots[slot].kind.as_str(), kind.as_str());
                let message =
                    format!("`{name}` is the name of a step of kind {other} already; this one is of kind {this}");
                let place = if given.is_some() { object.place_of("name") } else { object.place() };
                self.reader.problem_with_hint(place, message, "give them different names");
                return None;
            }
            Some(slot) => slot,
            None => {
                self.slots.push(TimedSlot { name: name.clone(), kind, per_iteration: 0 });
                self.slots.len() - 1
            }
        };
        Some(Timed { slot: u32::try_from(slot).ok()?, name, spec })
    }

    fn http(&mut self, object: &Object<'_>, kind: &str, node: &Node, around: Around<'_>) -> Option<Step> {
        let method = match kind {
            "get" => Method::Get,
            "post" => Method::Post,
            "put" => Method::Put,
            "patch" => Method::Patch,
            "delete" => Method::Delete,
            _ => Method::Head,
        };
        let url = self.url(node, &["http://", "https://"]);
        let query = pairs(self.reader, object.get("query"), &self.names);
        let headers = headers(self.reader, object.get("headers"), &self.names);
        let body = body(self.reader, object, &self.names, self.source);
        let timeout = object.get("timeout").and_then(|node| self.reader.duration(node));
        let auth = object.get("auth").and_then(|node| self.auth(node));
        let max_redirects = object.get("redirects").and_then(|node| most_redirects(self.reader, node));
        let expect = match object.get("expect") {
            Some(node) => expect(self.reader, node, &self.names),
            None => Some(Expect::default()),
        };
        // After everything else of this step: a step does not see its own captures.
        let captures = captures(self.reader, object.get("capture"), &mut self.names);
        let url = url?;
        let default = format!("{} {}", method.as_str(), url.source());
        let request =
            HttpRequest { method, url, query, headers, body, timeout, auth, max_redirects, expect: expect?, captures };
        self.timed(object, StepKind::Http, &default, around, Box::new(request)).map(Step::Http)
    }

    fn auth(&mut self, node: &Node) -> Option<Option<Auth>> {
        if node.as_text() == Some("none") {
            return Some(None);
        }
        auth(self.reader, node, &self.names).map(Some)
    }

    /// A path, or a URL of one of these schemes.
    fn url(&mut self, node: &Node, schemes: &[&str]) -> Option<Text> {
        let url = self.names.text(self.reader, node)?;
        let text = url.source();
        let fits =
            text.starts_with('/') || text.starts_with("{{") || schemes.iter().any(|scheme| text.starts_with(scheme));
        if !fits {
            let hint = format!("a path begins with /, a URL with {}", schemes.join(" or "));
            self.reader.problem_with_hint(node.place, format!("`{text}` is neither a path nor a URL"), hint);
            return None;
        }
        Some(url)
    }

    fn websocket(&mut self, object: &Object<'_>, node: &Node, around: Around<'_>) -> Option<Step> {
        if around.in_websocket {
            self.reader.problem(object.place(), "a WebSocket within a WebSocket is not possible yet");
            return None;
        }
        let url = self.url(node, &["ws://", "wss://", "http://", "https://"]);
        let query = pairs(self.reader, object.get("query"), &self.names);
        let headers = headers(self.reader, object.get("headers"), &self.names);
        let protocols = self.reader.items(object.get("subprotocols"));
        let subprotocols = protocols.into_iter().filter_map(|node| self.reader.text(node)).collect();
        let timeout = object.get("timeout").and_then(|node| self.reader.duration(node));
        let url = url?;
        let default = format!("WS {}", url.source());
        // Its slot comes before those of its flow, so that rows stand in the order of the plan.
        let timed = self.timed(object, StepKind::Websocket, &default, around, ());
        let flow = match object.get("flow") {
            Some(flow) => self.steps(flow, Around { in_websocket: true, ..around }),
            None => Vec::new(),
        };
        let Timed { slot, name, spec: () } = timed?;
        let spec = Websocket { url, query, headers, subprotocols, timeout, flow };
        Some(Step::Websocket(Timed { slot, name, spec }))
    }

    fn send(&mut self, object: &Object<'_>, node: &Node, around: Around<'_>) -> Option<Step> {
        let message = if matches!(node.value, Value::Map(_)) {
            let message = self.reader.object(node, &SEND)?;
            match (message.get("text"), message.get("json"), message.get("binary")) {
                (Some(text), None, None) => Send::Text(self.names.text(self.reader, text)?),
                (None, Some(json), None) => Send::Json(self.names.json(self.reader, json)?),
                (None, None, Some(bytes)) => Send::Binary(self.reader.parsed(bytes, "base64", value::binary)?.into()),
                _ => {
                    self.reader.problem(node.place, "a message is `text`, `json` or `binary`");
                    return None;
                }
            }
        } else {
            Send::Text(self.names.text(self.reader, node)?)
        };
        self.timed(object, StepKind::Send, "send", around, message).map(Step::Send)
    }

    fn receive(&mut self, object: &Object<'_>, node: &Node, around: Around<'_>) -> Option<Step> {
        let mut receive = Receive {
            contains: Vec::new(),
            matches: Vec::new(),
            json: Vec::new(),
            within: DEFAULT_WITHIN,
            captures: Vec::new(),
        };
        if matches!(node.value, Value::Map(_)) {
            let awaited = self.reader.object(node, &RECEIVE)?;
            receive.contains = texts(self.reader, awaited.get("contains"), &self.names);
            let matches = self.reader.items(awaited.get("matches"));
            receive.matches = matches.into_iter().filter_map(|node| self.reader.regex(node)).collect();
            receive.json = json_comparisons(self.reader, awaited.get("json"), &self.names);
            if let Some(within) = awaited.get("within").and_then(|node| self.reader.duration(node)) {
                receive.within = within;
            }
            receive.captures = captures(self.reader, awaited.get("capture"), &mut self.names);
        } else if node.as_text() != Some("any") {
            receive.contains = vec![self.names.text(self.reader, node)?];
        }
        self.timed(object, StepKind::Receive, "receive", around, receive).map(Step::Receive)
    }

    fn close(&mut self, object: &Object<'_>, node: &Node, around: Around<'_>) -> Option<Step> {
        let (code, reason) = if matches!(node.value, Value::Map(_)) {
            let close = self.reader.object(node, &CLOSE)?;
            let code = close.get("code").map_or(Some(1000), |node| self.close_code(node));
            let reason = close.get("reason").map_or(Some(String::new()), |node| self.close_reason(node));
            (code?, reason?)
        } else {
            (self.close_code(node)?, String::new())
        };
        self.timed(object, StepKind::Close, "close", around, Close { code, reason }).map(Step::Close)
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
            self.reader.problem(
                node.place,
                format!("the reason has {} bytes, the limit is {MOST_REASON_BYTES}", reason.len()),
            );
            return None;
        }
        Some(reason)
    }
}

/// Names with templated values.
pub(super) fn pairs(reader: &mut Reader, node: Option<&Node>, names: &Names) -> Vec<(String, Text)> {
    let mut pairs = Vec::new();
    for (name, value) in reader.named(node, "names with values") {
        if let Some(value) = names.text(reader, value) {
            pairs.push((name.text.clone(), value));
        }
    }
    pairs
}

/// Headers; their names are checked.
pub(super) fn headers(reader: &mut Reader, node: Option<&Node>, names: &Names) -> Vec<(String, Text)> {
    let headers = reader.named(node, "header names with values");
    for (name, _) in headers {
        if !is_token(&name.text) {
            header_problem(reader, &name.text, name.place);
        }
    }
    pairs(reader, node.filter(|_| !headers.is_empty()), names)
}

fn header_problem(reader: &mut Reader, name: &str, place: Place) {
    reader.problem(place, format!("`{name}` can't be the name of a header"));
}

/// RFC 9110, section 5.6.2.
fn is_token(name: &str) -> bool {
    let allowed = |byte: u8| byte.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(&byte);
    !name.is_empty() && name.bytes().all(allowed)
}
