//! The steps of a flow: what a user does in one iteration.

use std::sync::Arc;
use std::time::Duration;

use regex::Regex;
use serde_json_path::JsonPath;

use crate::http::{Auth, Body, HttpOptions};
use crate::socket::{OnSocket, Subscribe, Websocket};

/// One line of a flow.
#[derive(Debug, Clone)]
pub enum Step {
    /// One HTTP request.
    Http(Timed<Box<HttpRequest>>),
    /// Opens a WebSocket, runs its flow on it, closes it. The timed operation is the handshake.
    Websocket(Timed<Box<Websocket>>),
    /// Does something on an open WebSocket.
    OnSocket(Timed<Box<OnSocket>>),
    /// Reads a WebSocket for so long.
    Listen {
        /// Which of the scenario's sockets.
        socket: u32,
        /// How long.
        length: Duration,
    },
    /// From here on every message published in a room is expected on a WebSocket.
    Subscribe(Box<Subscribe>),
    /// A pause of the user.
    Think(Think),
    /// The flow, this many times.
    Repeat {
        /// How often; at least 1.
        times: u32,
        /// What is repeated.
        flow: Vec<Step>,
    },
    /// A named part of a flow; the names of its steps are prefixed with `name/`.
    Group {
        /// Its name.
        name: String,
        /// Its steps.
        flow: Vec<Step>,
    },
}

/// A step with a name and a series of its own.
#[derive(Debug, Clone)]
pub struct Timed<T> {
    /// Index among the timed steps of the scenario. Steps with the same name share one.
    pub slot: u32,
    /// Name as reports show it.
    pub name: String,
    /// What it does.
    pub spec: T,
}

/// What kind of operation a timed step is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum StepKind {
    /// An HTTP request.
    Http,
    /// A WebSocket handshake.
    Websocket,
    /// A message sent.
    Send,
    /// A message sent, and its reply.
    Request,
    /// A message awaited.
    Receive,
    /// A number of messages awaited.
    Listen,
    /// A ping and its answer.
    Ping,
    /// A closing handshake.
    Close,
    /// The target's closing handshake, awaited.
    Closed,
    /// Messages that a handler counts; it has no operations.
    Messages,
}

/// Text of the plan that may hold template expressions (`{{ … }}`).
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Text {
    /// Sent as it stands.
    Literal(Arc<str>),
    /// Rendered for each use; the syntax and the names in it were checked.
    Template(Arc<str>),
}

impl Text {
    /// Is it the same in every iteration?
    pub fn is_literal(&self) -> bool {
        matches!(self, Text::Literal(_))
    }
}

/// A JSON value of the plan whose strings may hold template expressions. Rendering it always gives valid JSON.
#[derive(Debug, Clone, PartialEq)]
pub enum JsonText {
    /// Sent as it stands.
    Literal(serde_json::Value),
    /// A string that holds an expression among other text.
    Template(Arc<str>),
    /// A string that is one expression and nothing else: its value keeps its type (a number stays a number).
    Expression(Arc<str>),
    /// An array with a template somewhere inside.
    Array(Vec<JsonText>),
    /// An object with a template somewhere inside.
    Object(Vec<(String, JsonText)>),
}

/// One HTTP request of the plan.
#[derive(Debug, Clone)]
pub struct HttpRequest {
    /// Method.
    pub method: Method,
    /// Absolute URL, or a path relative to the plan's target.
    pub url: Text,
    /// Query parameters added to the URL, percent-encoded when sent.
    pub query: Vec<(String, Text)>,
    /// Headers; they replace those of the plan's `http:` by name.
    pub headers: Vec<(String, Text)>,
    /// Body.
    pub body: Option<Body>,
    /// Whole-operation limit; the plan's default where none.
    pub timeout: Option<Duration>,
    /// Who it is from; the plan's default where none, nobody where `Some(None)`.
    pub auth: Option<Option<Auth>>,
    /// Redirects it follows; the plan's default where none.
    pub max_redirects: Option<u32>,
    /// What the response must be.
    pub expect: Expect,
    /// What is kept of the response for later steps.
    pub captures: Vec<Capture>,
}

impl HttpRequest {
    /// Is it, with the plan's own options, the same in every iteration?
    pub fn is_constant(&self, options: &HttpOptions) -> bool {
        let all = |texts: &[(String, Text)]| texts.iter().all(|(_, text)| text.is_literal());
        let body = self.body.as_ref().is_none_or(Body::is_constant);
        let auth = self.auth.as_ref().map_or(options.auth.as_ref(), Option::as_ref);
        let auth = auth.is_none_or(|auth| auth.texts().all(Text::is_literal));
        body && auth && self.url.is_literal() && all(&self.query) && all(&self.headers) && all(&options.headers)
    }
}

/// HTTP methods a step may use.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Method {
    /// GET
    Get,
    /// POST
    Post,
    /// PUT
    Put,
    /// PATCH
    Patch,
    /// DELETE
    Delete,
    /// HEAD
    Head,
}

/// What a response must be; an operation that breaks it is an error.
#[derive(Debug, Clone, Default)]
pub struct Expect {
    /// Accepted status; by default below 400.
    pub status: StatusSet,
    /// Header values.
    pub headers: Vec<(String, Comparison)>,
    /// Texts that the body must contain.
    pub contains: Vec<Text>,
    /// Expressions that must match in the body.
    pub matches: Vec<Regex>,
    /// Values at JSONPaths of the body.
    pub json: Vec<(JsonPath, Comparison)>,
    /// Longest response time.
    pub max_time: Option<Duration>,
}

/// A set of HTTP statuses.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub enum StatusSet {
    /// Any below 400.
    #[default]
    Success,
    /// One of these (inclusive ranges; `2xx` is 200..=299).
    OneOf(Vec<(u16, u16)>),
}

/// A comparison with a value of a response or message.
#[derive(Debug, Clone)]
pub enum Comparison {
    /// Something is there.
    Exists,
    /// Equal; numbers compare as numbers, everything else as JSON.
    Equal(JsonText),
    /// Not equal.
    NotEqual(JsonText),
    /// Less than a number.
    Less(f64),
    /// At most.
    LessOrEqual(f64),
    /// More than.
    Greater(f64),
    /// At least.
    GreaterOrEqual(f64),
    /// The text of the value matches.
    Matches(Regex),
}

/// Keeps a part of a response or message under a name for the rest of the iteration.
#[derive(Debug, Clone)]
pub struct Capture {
    /// Template variable.
    pub name: String,
    /// Where it comes from.
    pub from: CaptureFrom,
}

/// Where a captured value comes from.
#[derive(Debug, Clone)]
pub enum CaptureFrom {
    /// First value at a JSONPath of the body.
    JsonPath(JsonPath),
    /// First group of the first match in the body, or the whole match where it has no group.
    Regex(Regex),
    /// A response header.
    Header(String),
}

/// A pause of the user.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Think {
    /// Always the same.
    Fixed(Duration),
    /// Uniformly between two.
    Between(Duration, Duration),
    /// Exponentially distributed with this mean, as independent actions of people are.
    Exponential(Duration),
}

impl Step {
    /// Operations that one pass over this step makes.
    pub fn operations(&self) -> u64 {
        match self {
            Step::Http(_) => 1,
            Step::OnSocket(timed) => timed.spec.action.operations(),
            Step::Websocket(timed) => 1 + timed.spec.flow.iter().map(Step::operations).sum::<u64>(),
            Step::Think(_) | Step::Listen { .. } | Step::Subscribe(_) => 0,
            Step::Repeat { times, flow } => u64::from(*times) * flow.iter().map(Step::operations).sum::<u64>(),
            Step::Group { flow, .. } => flow.iter().map(Step::operations).sum(),
        }
    }
}

impl StatusSet {
    /// Is this status accepted?
    pub fn contains(&self, status: u16) -> bool {
        match self {
            StatusSet::Success => status < 400,
            StatusSet::OneOf(ranges) => ranges.iter().any(|(low, high)| (*low..=*high).contains(&status)),
        }
    }
}

impl Text {
    /// The text as the user wrote it.
    pub fn source(&self) -> &str {
        match self {
            Text::Literal(text) | Text::Template(text) => text,
        }
    }
}

impl StepKind {
    /// Word used in reports.
    pub fn as_str(self) -> &'static str {
        match self {
            StepKind::Http => "http",
            StepKind::Websocket => "websocket",
            StepKind::Send => "send",
            StepKind::Request => "request",
            StepKind::Receive => "receive",
            StepKind::Listen => "listen",
            StepKind::Ping => "ping",
            StepKind::Close => "close",
            StepKind::Closed => "closed",
            StepKind::Messages => "messages",
        }
    }
}

impl Method {
    /// As on the wire.
    pub fn as_str(self) -> &'static str {
        match self {
            Method::Get => "GET",
            Method::Post => "POST",
            Method::Put => "PUT",
            Method::Patch => "PATCH",
            Method::Delete => "DELETE",
            Method::Head => "HEAD",
        }
    }
}
