//! The table of every object and key of the plan file. The decoder takes its known keys from here and the JSON Schema
//! is made of it, so that neither can know a key that the other does not.

mod flow;
mod http;
mod load;

use super::value::{DURATION, RATE};
pub(super) use flow::{
    CAPTURE, CLOSE, CLOSED, DROP, EXPECT, LISTEN, ON_MESSAGE, RECEIVE, RECONNECT, SEND, STEP, STEP_KINDS, SUBSCRIBE,
};
pub(super) use http::*;
pub(super) use load::*;

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
        key(
            "secrets",
            Type::List(&Type::Text),
            "Names of values that no plan should have; templates use them as {{ secrets.name }}. They come from `--secret`.",
        ),
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
        key("compare", Type::Object(&COMPARE), "What a comparison with another run is judged by."),
        key(
            "max_send_lag",
            LENGTH,
            "p99 send lag above which a window's figures are not trusted. Default: 1ms, or 5 % of the median response \
             time where that is more.",
        ),
        key(
            "on_agent_loss",
            Type::Choice(&["redistribute", "continue", "abort"]),
            "What becomes of a lost agent's share: the others take it over, nobody does, or the run stops. Default: \
             redistribute.",
        ),
        key(
            "lease",
            LENGTH,
            "With redistribute: an agent that hears nothing of the coordinator stops after this long, and its share goes \
             to the others. Default: 10s.",
        ),
        key(
            "coordinator_timeout",
            LENGTH,
            "With continue and abort: an agent that hears nothing of the coordinator goes on for this long. Default: 60s.",
        ),
        key(
            "max_start_skew",
            LENGTH,
            "A run does not start with an agent whose clock is known less exactly than this. Default: 5ms.",
        ),
    ],
);

pub(super) static COMPARE: Shape = shape(
    "compare",
    "What a comparison with another run is judged by.",
    &[
        key("tolerance", Type::Object(&TOLERANCE), "How far figures may move before it matters."),
        key(
            "least_difference",
            LENGTH,
            "A difference of response times below this never matters, whatever part of them it is. Default: 100us.",
        ),
    ],
);

pub(super) static TOLERANCE: Shape = shape(
    "tolerance",
    "How far a figure of a request may move before it matters, above 0% and below 100%.",
    &[
        key("p50", Type::Scalar, "Part of the median response time. Default: 5%."),
        key("p90", Type::Scalar, "Part of the 90th percentile. Default: 5%."),
        key("p95", Type::Scalar, "Part of the 95th percentile. Default: 5%."),
        key("p99", Type::Scalar, "Part of the 99th percentile. Default: 10%."),
        key("throughput", Type::Scalar, "Part of the operations that end well a second. Default: 5%."),
        key("error_rate", Type::Scalar, "Percentage points of the error rate. Default: 0.5%."),
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
