//! Steps of a flow.

use super::http::{AUTH_OR_NONE, MULTIPART, STREAM};
use super::{LENGTH, STATUSES, Shape, TEMPLATES, Type, key, shape};

/// Keys that say what a step is.
pub(in crate::file) const STEP_KINDS: &[&str] = &[
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

pub(in crate::file) static STEP: Shape = Shape {
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
        key("multipart", MULTIPART, "Body as multipart/form-data: texts, and files as `{ file: path }`."),
        key("file", Type::Text, "Body from a file, relative to the plan."),
        key("stream", Type::Object(&STREAM), "Body that is sent piece by piece."),
        key("auth", AUTH_OR_NONE, "Who this request is from; `none` for nobody. Default: that of `http`."),
        key("redirects", Type::Integer, "Redirects that it follows. Default: as `http` says."),
        key("timeout", LENGTH, "Limit of this operation. Default: that of `http`."),
        key("expect", Type::Object(&EXPECT), "What the response must be; otherwise the operation is an error."),
        key("capture", Type::Map(&CAPTURED), "Keep parts of the response for later steps, by name."),
    ],
    one_of: STEP_KINDS,
};

pub(in crate::file) const CAPTURED: Type = Type::AnyOf(&[Type::Text, Type::Object(&CAPTURE)]);

pub(in crate::file) static CAPTURE: Shape = Shape {
    name: "capture",
    doc: "Where a captured value comes from. A text is a JSONPath.",
    keys: &[
        key("json", Type::Text, "JSONPath of the body."),
        key("regex", Type::Text, "Expression over the body; its first group, or the whole match."),
        key("header", Type::Text, "Name of a response header."),
    ],
    one_of: &["json", "regex", "header"],
};

pub(in crate::file) static EXPECT: Shape = shape(
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

pub(in crate::file) static SEND: Shape = Shape {
    name: "send",
    doc: "A message to send. A text is sent as a text message.",
    keys: &[
        key("text", Type::Template, "Text message."),
        key("json", Type::Any, "Text message with JSON; its strings may hold templates."),
        key("binary", Type::Text, "Binary message, in base64."),
    ],
    one_of: &["text", "json", "binary"],
};

pub(in crate::file) static RECEIVE: Shape = shape(
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

pub(in crate::file) static CLOSE: Shape = shape(
    "close",
    "A closing handshake.",
    &[
        key("code", Type::Integer, "Close code. Default: 1000."),
        key("reason", Type::Text, "Reason, at most 123 bytes."),
    ],
);
