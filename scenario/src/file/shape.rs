//! The table of every object and key of the plan file. The decoder takes its known keys from here and the JSON Schema
//! is made of it, so that neither can know a key that the other does not.

use super::value::{DURATION, RATE};

/// An object of the plan file.
pub(super) struct Shape {
    /// Name in the schema, and in messages ("unknown key … in a load").
    pub(super) name: &'static str,
    pub(super) doc: &'static str,
    pub(super) keys: &'static [Key],
    /// Exactly one of these keys is there.
    pub(super) one_of: &'static [&'static str],
}

/// A key of an object.
pub(super) struct Key {
    pub(super) name: &'static str,
    pub(super) doc: &'static str,
    pub(super) value: Type,
    pub(super) required: bool,
}

/// What a value may be.
pub(super) enum Type {
    /// Text.
    Text,
    /// Text that may hold `{{ … }}`; numbers and booleans are taken as their text.
    Template,
    /// A whole number.
    Integer,
    /// true or false.
    Bool,
    /// Text of this form.
    Pattern(&'static str),
    /// One of these words.
    Choice(&'static [&'static str]),
    /// Text, number or boolean.
    Scalar,
    /// Anything.
    Any,
    /// An object of the table.
    Object(&'static Shape),
    /// Names of the user's own with values of one type.
    Map(&'static Type),
    /// A list of values of one type.
    List(&'static Type),
    /// A list of steps. It has a variant of its own because steps contain flows, and a constant can't contain itself.
    Flow,
    /// Any of these.
    AnyOf(&'static [Type]),
}

const fn key(name: &'static str, value: Type, doc: &'static str) -> Key {
    Key { name, doc, value, required: false }
}

const fn required(name: &'static str, value: Type, doc: &'static str) -> Key {
    Key { name, doc, value, required: true }
}

const fn shape(name: &'static str, doc: &'static str, keys: &'static [Key]) -> Shape {
    Shape { name, doc, keys, one_of: &[] }
}

const LENGTH: Type = Type::Pattern(DURATION);
const PER_TIME: Type = Type::Pattern(RATE);
const NAMES: Type = Type::AnyOf(&[Type::Text, Type::List(&Type::Text)]);
const TEMPLATES: Type = Type::Map(&Type::Template);
const STATUSES: Type =
    Type::AnyOf(&[Type::Integer, Type::Text, Type::List(&Type::AnyOf(&[Type::Integer, Type::Text]))]);

pub(super) static PLAN: Shape = shape(
    "plan",
    "A groundswell plan: what load to send, and what it is judged by.",
    &[
        key("name", Type::Text, "Name of the plan in reports. Default: the file's name."),
        required(
            "target",
            Type::Text,
            "Base URL of relative paths, such as http://127.0.0.1:8088; ws:// follows from it.",
        ),
        key(
            "seed",
            Type::Integer,
            "Seed of every random choice that all agents share (arrivals, shuffles). Default: 1.",
        ),
        key("ready", Type::Object(&READY), "One GET that has to be answered as said before any load is sent."),
        key("http", Type::Object(&HTTP), "Defaults of every HTTP step."),
        key("data", Type::Map(&Type::Object(&DATA)), "Data sets by name; templates use them as {{ name.column }}."),
        key("vars", Type::Map(&Type::Scalar), "Values for templates, by name."),
        required(
            "scenarios",
            Type::Map(&Type::Object(&SCENARIO)),
            "Scenarios by name; they run side by side unless told otherwise.",
        ),
        key(
            "thresholds",
            Type::List(&Type::Text),
            "What the run is judged by, such as `search.p95 < 50ms` or `search.error_rate < 1% over 10s after 30s, stop`.",
        ),
        key(
            "max_send_lag",
            LENGTH,
            "p99 send lag above which a window's figures are not trusted. Default: 1ms, or 5 % of the median response \
             time where that is more.",
        ),
    ],
);

pub(super) static READY: Shape = shape(
    "ready",
    "The target's readiness check.",
    &[
        required("get", Type::Text, "Path or URL."),
        key("status", STATUSES, "Accepted status. Default: any below 400."),
        key("within", LENGTH, "Give up after this long. Default: 30s."),
    ],
);

pub(super) static HTTP: Shape = shape(
    "http",
    "Defaults of every HTTP step.",
    &[
        key("timeout", LENGTH, "Limit of one operation. Default: 10s."),
        key(
            "version",
            Type::AnyOf(&[Type::Choice(&["auto", "1.1", "2"]), Type::Scalar]),
            "auto (HTTP/2 where TLS offers it), 1.1, or 2 (prior knowledge). Default: auto.",
        ),
        key(
            "connections",
            Type::Choice(&["per_user", "shared", "per_request"]),
            "Who owns connections: each user (default), all users of a worker, or every request a new one.",
        ),
        key(
            "transport",
            Type::Choice(&["direct", "reqwest"]),
            "What carries requests: connections of our own, timed phase by phase (default), or the reqwest library.",
        ),
        key("cookies", Type::Bool, "Keep cookies for each user. Default: true."),
        key("headers", TEMPLATES, "Headers of every request."),
        key("insecure", Type::Bool, "Accept any certificate; the report says so. Default: false."),
    ],
);

pub(super) static DATA: Shape = shape(
    "data",
    "A data set. No row is used twice in the cluster before all were used.",
    &[
        required("csv", Type::Text, "CSV file with a header line, relative to the plan."),
        key("order", Type::Choice(&["sequential", "shuffle"]), "Order of its rows. Default: sequential."),
        key(
            "at_end",
            Type::Choice(&["repeat", "stop"]),
            "When all rows were used: start over (default) or start no further iteration.",
        ),
    ],
);

pub(super) static SCENARIO: Shape = shape(
    "scenario",
    "One load and what each of its users does.",
    &[
        required("load", Type::Object(&LOAD), "How much load, and when."),
        key("after", NAMES, "Start when these scenarios have ended."),
        key("start", LENGTH, "Start this long after the run, or after the scenarios of `after`. Default: 0s."),
        key(
            "every",
            LENGTH,
            "Pacing of users and iterations: a user starts an iteration so long after the start of its last one, or when \
             that has ended if it took longer.",
        ),
        required("flow", Type::Flow, "What a user does in one iteration, step by step."),
    ],
);

const USERS: Type = Type::AnyOf(&[Type::Integer, Type::Object(&USERS_RAMP), Type::Object(&USERS_STAGES)]);
const RATES: Type = Type::AnyOf(&[PER_TIME, Type::Object(&RATE_RAMP), Type::Object(&RATE_STAGES)]);

pub(super) static LOAD: Shape = Shape {
    name: "load",
    doc: "One of `users`, `rate`, `iterations`, `sweep` or `search`. (`iterations` may have `users` beside it.)",
    keys: &[
        key("users", USERS, "Closed model: so many users, each starting its next iteration when the last has ended."),
        key("rate", RATES, "Open model: iterations a second, started on schedule however slow the target is."),
        key(
            "iterations",
            Type::AnyOf(&[Type::Integer, Type::Object(&ITERATIONS)]),
            "A fixed number of iterations, shared by `users` (default 1).",
        ),
        key("sweep", Type::Object(&SWEEP), "One level after another, each for `for`; the report has a row for each."),
        key(
            "search",
            Type::Object(&SEARCH),
            "The greatest level that keeps the thresholds, for `groundswell search`; each step takes `for`.",
        ),
        key("for", LENGTH, "How long (of each level, for a sweep). For iterations: the limit, by default 10m."),
        key(
            "warm_up",
            LENGTH,
            "The first part of `for`, which is kept out of the figures (of each level, for a sweep). Default: none.",
        ),
        key(
            "grace",
            LENGTH,
            "How long operations in flight may go on after the end before they are cut off. Default: 30s.",
        ),
        key(
            "arrivals",
            Type::Choice(&["uniform", "poisson"]),
            "How the arrivals of a rate are spaced. Default: uniform.",
        ),
        key(
            "max_in_flight",
            Type::Integer,
            "Most iterations of a rate at the same time over all agents. Default: 1000.",
        ),
        key(
            "queue",
            Type::Integer,
            "Most arrivals of a rate that wait beyond it, over all agents; more are shed. Default: as `max_in_flight`.",
        ),
    ],
    one_of: &[],
};

pub(super) static USERS_RAMP: Shape = shape(
    "users_ramp",
    "From one number of users to another.",
    &[
        key("from", Type::Integer, "Users at the start. Default: 0."),
        required("to", Type::Integer, "Users at the end."),
    ],
);

pub(super) static USERS_STAGES: Shape = shape(
    "users_stages",
    "Ramps one after another.",
    &[
        key("start", Type::Integer, "Users at the start. Default: 0."),
        required("stages", Type::List(&Type::Object(&USERS_STAGE)), "The ramps."),
    ],
);

pub(super) static USERS_STAGE: Shape = shape(
    "users_stage",
    "One ramp.",
    &[required("to", Type::Integer, "Users at its end."), required("for", LENGTH, "Its length.")],
);

pub(super) static RATE_RAMP: Shape = shape(
    "rate_ramp",
    "From one rate to another.",
    &[key("from", PER_TIME, "Rate at the start. Default: 0/s."), required("to", PER_TIME, "Rate at the end.")],
);

pub(super) static RATE_STAGES: Shape = shape(
    "rate_stages",
    "Ramps one after another.",
    &[
        key("start", PER_TIME, "Rate at the start. Default: 0/s."),
        required("stages", Type::List(&Type::Object(&RATE_STAGE)), "The ramps."),
    ],
);

pub(super) static RATE_STAGE: Shape = shape(
    "rate_stage",
    "One ramp.",
    &[required("to", PER_TIME, "Rate at its end."), required("for", LENGTH, "Its length.")],
);

pub(super) static ITERATIONS: Shape = Shape {
    name: "iterations",
    doc: "A fixed number of iterations.",
    keys: &[
        key("shared", Type::Integer, "In all, taken by whichever user is free."),
        key("per_user", Type::Integer, "For each user."),
    ],
    one_of: &["shared", "per_user"],
};

pub(super) static SWEEP: Shape = Shape {
    name: "sweep",
    doc: "The levels of a sweep.",
    keys: &[
        key("users", Type::List(&Type::Integer), "Numbers of users."),
        key("rate", Type::List(&PER_TIME), "Rates."),
    ],
    one_of: &["users", "rate"],
};

pub(super) static SEARCH: Shape = Shape {
    name: "search",
    doc: "What is searched, and where.",
    keys: &[
        key("users", Type::Object(&SEARCH_USERS), "The greatest number of users."),
        key("rate", Type::Object(&SEARCH_RATE), "The greatest rate."),
        key("within", Type::Scalar, "How exactly: the search ends when the level is known to this part. Default: 5%."),
    ],
    one_of: &["users", "rate"],
};

pub(super) static SEARCH_USERS: Shape = shape(
    "search_users",
    "Numbers of users to search among.",
    &[
        required("from", Type::Integer, "The least that is tried."),
        required("to", Type::Integer, "The greatest that is tried."),
    ],
);

pub(super) static SEARCH_RATE: Shape = shape(
    "search_rate",
    "Rates to search among.",
    &[required("from", PER_TIME, "The least that is tried."), required("to", PER_TIME, "The greatest that is tried.")],
);

/// Keys that say what a step is.
pub(super) const STEP_KINDS: &[&str] = &[
    "get",
    "post",
    "put",
    "patch",
    "delete",
    "head",
    "websocket",
    "send",
    "receive",
    "close",
    "think",
    "repeat",
    "group",
];

const MESSAGE: Type = Type::AnyOf(&[Type::Text, Type::Object(&SEND)]);
const AWAITED: Type = Type::AnyOf(&[Type::Text, Type::Object(&RECEIVE)]);
const CLOSING: Type = Type::AnyOf(&[Type::Integer, Type::Object(&CLOSE)]);

pub(super) static STEP: Shape = Shape {
    name: "step",
    doc: "One step of a flow.",
    keys: &[
        key("get", Type::Template, "GET this path or URL."),
        key("post", Type::Template, "POST to this path or URL."),
        key("put", Type::Template, "PUT to this path or URL."),
        key("patch", Type::Template, "PATCH this path or URL."),
        key("delete", Type::Template, "DELETE this path or URL."),
        key("head", Type::Template, "HEAD of this path or URL."),
        key("websocket", Type::Template, "Open a WebSocket at this path or URL and run `flow` on it."),
        key("send", MESSAGE, "Send one message on the WebSocket around this step."),
        key(
            "receive",
            AWAITED,
            "Wait for a message on the WebSocket around this step: `any`, a text it contains, or what it must be.",
        ),
        key("close", CLOSING, "Close the WebSocket around this step with this code."),
        key(
            "think",
            Type::Text,
            "A pause of the user: 1s, 1s..3s for a random one, exp(2s) for an exponential one with this mean.",
        ),
        key(
            "repeat",
            Type::Integer,
            "Do `flow` so many times; without `flow`, do the steps above so many times in all.",
        ),
        key("group", Type::Text, "A name for the steps of `flow`."),
        key("flow", Type::Flow, "The steps of `repeat`, `group` or `websocket`."),
        key("name", Type::Text, "Name in reports and thresholds. Default: what it does."),
        key("query", TEMPLATES, "Query parameters."),
        key("headers", TEMPLATES, "Headers."),
        key("subprotocols", Type::List(&Type::Text), "WebSocket subprotocols to offer."),
        key("text", Type::Template, "Body as text."),
        key("json", Type::Any, "Body as JSON; its strings may hold templates."),
        key("form", TEMPLATES, "Body as a form."),
        key("timeout", LENGTH, "Limit of this operation. Default: that of `http`."),
        key("expect", Type::Object(&EXPECT), "What the response must be; otherwise the operation is an error."),
        key("capture", Type::Map(&CAPTURED), "Keep parts of the response for later steps, by name."),
    ],
    one_of: STEP_KINDS,
};

pub(super) const CAPTURED: Type = Type::AnyOf(&[Type::Text, Type::Object(&CAPTURE)]);

pub(super) static CAPTURE: Shape = Shape {
    name: "capture",
    doc: "Where a captured value comes from. A text is a JSONPath.",
    keys: &[
        key("json", Type::Text, "JSONPath of the body."),
        key("regex", Type::Text, "Expression over the body; its first group, or the whole match."),
        key("header", Type::Text, "Name of a response header."),
    ],
    one_of: &["json", "regex", "header"],
};

pub(super) static EXPECT: Shape = shape(
    "expect",
    "What a response must be.",
    &[
        key("status", STATUSES, "200, [200, 404], 2xx or 200-204. Default: any below 400."),
        key(
            "header",
            Type::Map(&Type::Scalar),
            "Header values: equal, or a comparison such as `~ json`, `> 0`, `exists`.",
        ),
        key("contains", TEXTS, "Texts in the body."),
        key("matches", TEXTS, "Expressions that match in the body."),
        key(
            "json",
            Type::Map(&Type::Any),
            "Values at JSONPaths: equal, or a comparison such as `> 0`, `!= x`, `~ regex`, `exists`.",
        ),
        key("max_time", LENGTH, "Longest response time."),
    ],
);

const TEXTS: Type = Type::AnyOf(&[Type::Scalar, Type::List(&Type::Scalar)]);

pub(super) static SEND: Shape = Shape {
    name: "send",
    doc: "A message to send. A text is sent as a text message.",
    keys: &[
        key("text", Type::Template, "Text message."),
        key("json", Type::Any, "Text message with JSON; its strings may hold templates."),
        key("binary", Type::Text, "Binary message, in base64."),
    ],
    one_of: &["text", "json", "binary"],
};

pub(super) static RECEIVE: Shape = shape(
    "receive",
    "A message to wait for. Others are counted and skipped.",
    &[
        key("contains", TEXTS, "Texts in it."),
        key("matches", TEXTS, "Expressions that match in it."),
        key("json", Type::Map(&Type::Any), "Values at JSONPaths of it."),
        key("within", LENGTH, "Deadline, from the send before it. Default: 10s."),
        key("capture", Type::Map(&CAPTURED), "Keep parts of it for later steps, by name."),
    ],
);

pub(super) static CLOSE: Shape = shape(
    "close",
    "A closing handshake.",
    &[
        key("code", Type::Integer, "Close code. Default: 1000."),
        key("reason", Type::Text, "Reason, at most 123 bytes."),
    ],
);
