//! Steps of a flow.

use super::http::{AUTH_OR_NONE, MULTIPART, STREAM};
use super::{LENGTH, PER_TIME, STATUSES, Shape, TEMPLATES, Type, key, required, shape};

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
    "listen",
    "ping",
    "close",
    "closed",
    "subscribe",
    "think",
    "repeat",
    "group",
];

const MESSAGE: Type = Type::AnyOf(&[Type::Text, Type::Object(&SEND)]);
const MESSAGES: Type = Type::AnyOf(&[Type::Text, Type::Object(&SEND), Type::List(&MESSAGE)]);
const AWAITED: Type = Type::AnyOf(&[Type::Text, Type::Object(&RECEIVE)]);
const LISTENING: Type = Type::AnyOf(&[LENGTH, Type::Object(&LISTEN)]);
const CLOSING: Type = Type::AnyOf(&[Type::Integer, Type::Object(&CLOSE)]);
const CODES: Type = Type::AnyOf(&[Type::Integer, Type::Choice(&["any"]), Type::List(&Type::Integer)]);
const AWAITED_CLOSE: Type =
    Type::AnyOf(&[Type::Integer, Type::Choice(&["any"]), Type::List(&Type::Integer), Type::Object(&CLOSED)]);
const SUBSCRIPTION: Type = Type::AnyOf(&[Type::Text, Type::Object(&SUBSCRIBE)]);

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
        key("send", MESSAGE, "Send a message on the WebSocket around this step, or messages at a rate."),
        key(
            "receive",
            AWAITED,
            "Wait for a message on the WebSocket around this step: `any`, a text it contains, or what it must be.",
        ),
        key("listen", LISTENING, "Keep the WebSocket around this step open so long, or until so many messages came."),
        key("ping", LENGTH, "Send a ping and wait for its answer, at most so long."),
        key("close", CLOSING, "Close the WebSocket around this step with this code."),
        key("closed", AWAITED_CLOSE, "Wait until the target closes, with this code: a code, several, or `any`."),
        key("subscribe", SUBSCRIPTION, "From here on every message published in this room is expected."),
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
        key("as", Type::Text, "A name for the WebSocket; other steps say it with `on`."),
        key("on", Type::Text, "The WebSocket that the step is done on. Default: the one around it."),
        key(
            "background",
            Type::Bool,
            "Keep the WebSocket open to the end of the iteration, beside the steps that follow. Default: false.",
        ),
        key("on_open", MESSAGES, "Messages to send as soon as it is open, also when it was opened again."),
        key("on_message", HANDLERS, "What is done with messages as they come, whatever the user does."),
        key("reconnect", RECONNECTING, "Open a lost connection again. Default: false."),
        key("drop", Type::Object(&DROP), "Drop connections on purpose: a reconnect storm."),
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
        key("file", Type::Text, "Binary message from a file, relative to the plan."),
        key("publish", Type::Template, "The room that it is published in; the message holds {{ message_id }}."),
        key("rate", PER_TIME, "Messages a second, on schedule."),
        key("for", LENGTH, "How long at this rate."),
        key("shared", Type::Bool, "The rate is that of all users of the scenario together. Default: false."),
        key(
            "reply",
            Type::Text,
            "Each message is answered: where its {{ message_id }} sits in the answer, a JSONPath or `anywhere`.",
        ),
        key("within", LENGTH, "Limit of a reply, from the send. Default: 10s."),
    ],
    one_of: &["text", "json", "binary", "file"],
};

const HANDLERS: Type = Type::AnyOf(&[Type::Object(&ON_MESSAGE), Type::List(&Type::Object(&ON_MESSAGE))]);
const RECONNECTING: Type = Type::AnyOf(&[Type::Bool, Type::Object(&RECONNECT)]);

pub(in crate::file) static ON_MESSAGE: Shape = shape(
    "on_message",
    "What is done with a message that matches; every message does where nothing is said.",
    &[
        key("contains", TEXTS, "Texts in it."),
        key("matches", TEXTS, "Expressions that match in it."),
        key("json", Type::Map(&Type::Any), "Values at JSONPaths of it."),
        key("count", Type::Text, "Count it in a row of this name."),
        key("capture", Type::Map(&CAPTURED), "Keep parts of it for later steps, by name."),
        key("reply", MESSAGE, "Send this in answer."),
        key("echo", Type::Bool, "Send the message itself back, as it came. Default: false."),
    ],
);

pub(in crate::file) static RECONNECT: Shape = shape(
    "reconnect",
    "How a lost connection is opened again.",
    &[
        key("backoff", Type::Text, "Wait before the first attempt, doubled up to the longest. Default: 100ms..5s."),
        key(
            "jitter",
            Type::Choice(&["full", "none"]),
            "Whether each wait is drawn from nothing up to its length (full). Default: full.",
        ),
        key("max", Type::Integer, "Attempts before it is given up. Default: 10."),
    ],
);

pub(in crate::file) static DROP: Shape = shape(
    "drop",
    "Connections dropped on purpose, without a close, all at the same moment.",
    &[
        required("every", LENGTH, "Time from one cycle to the next, and from the start of the load to the first."),
        key("share", Type::AnyOf(&[Type::Text, Type::Scalar]), "Part of the connections, such as 50%. Default: 100%."),
    ],
);

pub(in crate::file) static LISTEN: Shape = shape(
    "listen",
    "A number of messages to wait for.",
    &[
        required("messages", Type::Integer, "So many, whatever they are."),
        key("within", LENGTH, "Limit. Default: 10s."),
    ],
);

pub(in crate::file) static CLOSED: Shape = shape(
    "closed",
    "The target's close, awaited.",
    &[key("codes", CODES, "Close codes that are well. Default: any."), key("within", LENGTH, "Limit. Default: 10s.")],
);

pub(in crate::file) static SUBSCRIBE: Shape = shape(
    "subscribe",
    "A subscription that is verified: published, delivered, missing, duplicated, out of order.",
    &[
        required("room", Type::Template, "Name of the room, as the publishers say it."),
        key(
            "id",
            Type::Text,
            "Where the publisher's {{ message_id }} sits: a JSONPath or `anywhere`. Default: anywhere.",
        ),
        key("own", Type::Bool, "A sender gets its own messages back. Default: true."),
        key(
            "settle",
            LENGTH,
            "How long late messages are waited for at the end before they count as missing. Default: 2s.",
        ),
    ],
);

pub(in crate::file) static RECEIVE: Shape = shape(
    "receive",
    "A message to wait for. Others are counted and skipped.",
    &[
        key("contains", TEXTS, "Texts in it."),
        key("matches", TEXTS, "Expressions that match in it."),
        key("json", Type::Map(&Type::Any), "Values at JSONPaths of it."),
        key("count", Type::Integer, "Wait for so many that match. Default: 1."),
        key("order", Type::Text, "JSONPath of a number that must grow from one of them to the next."),
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
        key("expect", CODES, "Codes of the target's answer that are well. Default: any."),
    ],
);
