//! The flow of a scenario, step by step.

use super::body::{BODIES, body};
use super::expect::{captures, expect};
use super::http::{auth, most_redirects};
use super::node::{Node, Value};
use super::problem::Place;
use super::reader::{Object, Reader};
use super::shape::{STEP, STEP_KINDS};
use super::socket::{ON_SOCKET, Sockets};
use super::template::Names;
use super::value;
use crate::PlanSource;
use crate::flow::{Expect, HttpRequest, Method, Step, StepKind, Text, Timed};
use crate::http::Auth;
use crate::socket::SocketUse;

const MOST_REPEATS: u64 = 1_000_000;
/// Operations of one iteration: their number has to fit every sum.
const MOST_OPERATIONS: u64 = 1_000_000_000;

/// A timed step of a scenario.
pub(super) struct TimedSlot {
    pub(super) name: String,
    pub(super) kind: StepKind,
    pub(super) per_iteration: u64,
    pub(super) as_they_come: bool,
}

/// Reads one flow.
pub(super) struct FlowReader<'r> {
    pub(super) reader: &'r mut Reader,
    pub(super) source: &'r PlanSource,
    pub(super) names: Names,
    slots: Vec<TimedSlot>,
    pub(super) sockets: Sockets,
}

/// Where a step stands.
#[derive(Clone, Copy)]
pub(super) struct Around<'a> {
    /// Names of the groups around it, each with a slash.
    prefix: &'a str,
}

impl<'r> FlowReader<'r> {
    pub(super) fn new(reader: &'r mut Reader, names: Names, source: &'r PlanSource) -> Self {
        FlowReader { reader, source, names, slots: Vec::new(), sockets: Sockets::default() }
    }

    pub(super) fn read(&mut self, node: &Node) -> Vec<Step> {
        let steps = self.steps(node, Around { prefix: "" });
        self.count(&steps, 1);
        if self.slots.iter().any(|slot| slot.per_iteration > MOST_OPERATIONS) {
            let message = format!("one iteration makes more than {MOST_OPERATIONS} operations of one step");
            self.reader.problem(node.place, message);
        }
        steps
    }

    /// The timed steps, by slot, and the sockets, by number.
    pub(super) fn into_parts(self) -> (Vec<TimedSlot>, Vec<SocketUse>) {
        (self.slots, self.sockets.used())
    }

    fn count(&mut self, steps: &[Step], times: u64) {
        for step in steps {
            let slot = match step {
                Step::Http(Timed { slot, .. }) | Step::Websocket(Timed { slot, .. }) => Some((*slot, 1, false)),
                Step::OnSocket(timed) => {
                    let action = &timed.spec.action;
                    Some((timed.slot, action.operations(), action.counts_as_they_come()))
                }
                Step::Listen { .. } | Step::Subscribe(_) => None,
                Step::Think(_) | Step::Repeat { .. } | Step::Group { .. } => None,
            };
            if let Some((slot, each, as_they_come)) = slot
                && let Some(slot) = self.slots.get_mut(slot as usize)
            {
                slot.per_iteration = slot.per_iteration.saturating_add(times.saturating_mul(each));
                slot.as_they_come |= as_they_come;
            }
            match step {
                Step::Repeat { times: inner, flow } => self.count(flow, times.saturating_mul(u64::from(*inner))),
                Step::Group { flow, .. } => self.count(flow, times),
                Step::Websocket(timed) => self.count(&timed.spec.flow, times),
                _ => {}
            }
        }
    }

    pub(super) fn steps(&mut self, node: &Node, around: Around<'_>) -> Vec<Step> {
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
                let flow = self.inner(object, Around { prefix: &prefix })?;
                Some(Step::Group { name, flow })
            }
            "websocket" => self.websocket(object, node, around),
            kind if ON_SOCKET.contains(&kind) => self.on_socket(object, kind, node, around),
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
            "websocket" => &[
                "flow",
                "name",
                "query",
                "headers",
                "subprotocols",
                "timeout",
                "as",
                "background",
                "on_open",
                "on_message",
                "reconnect",
                "drop",
            ],
            "subscribe" => &["on"],
            kind if ON_SOCKET.contains(&kind) => &["name", "on"],
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
    pub(super) fn timed<T>(
        &mut self,
        object: &Object<'_>,
        kind: StepKind,
        default: &str,
        around: Around<'_>,
        spec: T,
    ) -> Option<Timed<T>> {
        let given = object.get("name").and_then(|node| self.reader.text(node));
        let place = if given.is_some() { object.place_of("name") } else { object.place() };
        self.named(given.as_deref().unwrap_or(default), place, kind, around, spec)
    }

    /// Gives a row of this name its slot.
    pub(super) fn named<T>(
        &mut self,
        name: &str,
        place: Place,
        kind: StepKind,
        around: Around<'_>,
        spec: T,
    ) -> Option<Timed<T>> {
        let name = format!("{}{name}", around.prefix);
        let slot = match self.slots.iter().position(|slot| slot.name == name) {
            Some(slot) if self.slots[slot].kind != kind => {
                let (other, this) = (self.slots[slot].kind.as_str(), kind.as_str());
                let message =
                    format!("`{name}` is the name of a step of kind {other} already; this one is of kind {this}");
                self.reader.problem_with_hint(place, message, "give them different names");
                return None;
            }
            Some(slot) => slot,
            None => {
                self.slots.push(TimedSlot { name: name.clone(), kind, per_iteration: 0, as_they_come: false });
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
    pub(super) fn url(&mut self, node: &Node, schemes: &[&str]) -> Option<Text> {
        let url = self.names.text(self.reader, node)?;
        let text = url.source();
        let fits =
            text.starts_with('/') || text.starts_with("{{") || schemes.iter().any(|scheme| text.starts_with(scheme));
        if !fits {
            let hint = format!("a path begins with /, a URL with {}", schemes.join(" or "));
            self.reader.problem_with_hint(node.place, format!("`{text}` is neither a path nor a URL"), hint);
            return None;
        }
        self.names.exposes_no_host(self.reader, &url, node).then_some(url)
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

/// Headers: names and values that can stand in a request and end no line of it. What a template makes of a value is
/// checked by the agent, before anything is sent.
pub(super) fn headers(reader: &mut Reader, node: Option<&Node>, names: &Names) -> Vec<(String, Text)> {
    let headers = reader.named(node, "header names with values");
    for (name, value) in headers {
        if !is_token(&name.text) {
            header_problem(reader, &name.text, name.place);
        }
        if let Value::Text(text) = &value.value
            && !is_field_value(text)
        {
            let hint = "line ends and control characters would end the header";
            reader.problem_with_hint(value.place, format!("{text:?} can't be the value of a header"), hint);
        }
    }
    pairs(reader, node.filter(|_| !headers.is_empty()), names)
}

fn header_problem(reader: &mut Reader, name: &str, place: Place) {
    reader.problem(place, format!("`{name}` can't be the name of a header"));
}

/// RFC 9110, section 5.5: no control characters but tabs.
fn is_field_value(text: &str) -> bool {
    text.chars().all(|char| char == '\t' || !char.is_control())
}

/// RFC 9110, section 5.6.2.
fn is_token(name: &str) -> bool {
    let allowed = |byte: u8| byte.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(&byte);
    !name.is_empty() && name.bytes().all(allowed)
}
