//! What HTTP requests have in common, and their bodies.

use super::{LENGTH, NAMES, Shape, TEMPLATES, Type, key, required, shape};
use crate::file::value::SIZE;

const BYTES: Type = Type::AnyOf(&[Type::Integer, Type::Pattern(SIZE)]);

pub(in crate::file) static HTTP: Shape = shape(
    "http",
    "Defaults of every HTTP step.",
    &[
        key("timeout", LENGTH, "Limit of one operation. Default: 10s."),
        key(
            "connect_timeout",
            LENGTH,
            "Limit of opening a connection: name, TCP and TLS. Default: none but `timeout`.",
        ),
        key(
            "first_byte_timeout",
            LENGTH,
            "Limit from the request sent to the first byte of its response. Default: none but `timeout`.",
        ),
        key(
            "version",
            Type::AnyOf(&[Type::Choice(&["auto", "1.1", "2"]), Type::Scalar]),
            "auto (HTTP/2 where TLS offers it), 1.1, or 2 (without TLS: prior knowledge). Default: auto.",
        ),
        key(
            "connections",
            Type::AnyOf(&[Type::Choice(&["per_user", "shared", "per_request"]), Type::Object(&POOL)]),
            "Who owns connections: each user (default), all users of a worker, or every request a new one.",
        ),
        key(
            "transport",
            Type::Choice(&["auto", "direct", "reqwest"]),
            "What carries requests: connections of our own, timed phase by phase, or the reqwest library. Default: auto \
             (direct, unless there is a proxy).",
        ),
        key("cookies", Type::Bool, "Keep cookies for each user. Default: true."),
        key("headers", TEMPLATES, "Headers of every request."),
        key("auth", Type::Object(&AUTH), "Who the requests are from."),
        key(
            "redirects",
            Type::AnyOf(&[Type::Integer, Type::Object(&REDIRECTS)]),
            "Redirects that an operation follows; each is a request of its own. Default: 10.",
        ),
        key(
            "compression",
            Type::AnyOf(&[Type::Bool, CODING, Type::List(&CODING)]),
            "Content codings to accept; true for all. Bodies are decoded only where something looks at them. Default: \
             none.",
        ),
        key(
            "retry_stale",
            Type::Bool,
            "Send a GET, HEAD, PUT or DELETE again, once, when the target closed the kept connection at that moment; \
             counted as a follow-up. Default: false.",
        ),
        key(
            "max_body",
            BYTES,
            "Largest body of a response. Default: 16MiB where it is kept for `expect` or `capture`, no limit where it \
             is only counted.",
        ),
        key(
            "resolve",
            Type::Map(&NAMES),
            "Addresses of hosts, by `host` or `host:port`: an address, with a port or without, or several used in turn.",
        ),
        key("bind", NAMES, "Source addresses of the agent, used in turn. Default: the machine's choice."),
        key(
            "addresses",
            Type::Choice(&["any", "ipv4", "ipv6", "ipv4_first", "ipv6_first"]),
            "Which addresses of a name are used. Default: any, in the name server's order.",
        ),
        key("insecure", Type::Bool, "Accept any certificate; the report says so. Default: false."),
        key("tls", Type::Object(&TLS), "How TLS connections are made."),
        key(
            "proxy",
            Type::Text,
            "Proxy for HTTP requests (not for WebSockets): http://host:port, socks5://host:port or socks5h://.",
        ),
    ],
);

const CODING: Type = Type::Choice(&["gzip", "br", "zstd", "deflate"]);

pub(in crate::file) static POOL: Shape = shape(
    "pool",
    "Connections that users share.",
    &[required(
        "shared",
        Type::Integer,
        "Most connections to one origin, over all agents; each worker has at least one. With HTTP/2 each carries many \
         requests at once.",
    )],
);

pub(in crate::file) static REDIRECTS: Shape = shape(
    "redirects",
    "Redirects that an operation follows.",
    &[
        key("most", Type::Integer, "So many; 0 for none. Default: 10."),
        key("hosts", NAMES, "Hosts beside the target's and the step's own that they may lead to; * for any."),
    ],
);

pub(in crate::file) static AUTH: Shape = Shape {
    name: "auth",
    doc: "Who a request is from.",
    keys: &[
        key("basic", Type::Object(&CREDENTIALS), "Name and password with every request."),
        key("digest", Type::Object(&CREDENTIALS), "Name and password in answer to the target's challenge."),
        key("bearer", Type::Template, "A token with every request."),
    ],
    one_of: &["basic", "digest", "bearer"],
};

pub(in crate::file) const AUTH_OR_NONE: Type = Type::AnyOf(&[Type::Choice(&["none"]), Type::Object(&AUTH)]);

pub(in crate::file) static CREDENTIALS: Shape = shape(
    "credentials",
    "A name with its password.",
    &[required("user", Type::Template, "Name."), required("password", Type::Template, "Password.")],
);

pub(in crate::file) static TLS: Shape = shape(
    "tls",
    "How TLS connections are made.",
    &[
        key("ca", Type::Text, "PEM file with the authorities to trust, in place of the machine's own."),
        key("certificate", Type::Text, "PEM file with the client's certificate and its chain; needs `key`."),
        key("key", Type::Text, "PEM file with the client's private key."),
        key("server_name", Type::Text, "Name to ask for and to check, in place of the URL's host."),
        key("min_version", Type::AnyOf(&[Type::Choice(&["1.2", "1.3"]), Type::Scalar]), "1.2 (default) or 1.3."),
    ],
);

pub(in crate::file) const MULTIPART: Type = Type::Map(&Type::AnyOf(&[Type::Template, Type::Object(&PART)]));

pub(in crate::file) static PART: Shape = shape(
    "part",
    "A file in a multipart body.",
    &[
        required("file", Type::Text, "File, relative to the plan."),
        key("filename", Type::Text, "Name that is sent. Default: the file's own."),
        key("type", Type::Text, "Media type. Default: by the file's ending."),
    ],
);

pub(in crate::file) static STREAM: Shape = Shape {
    name: "stream",
    doc: "A body that is sent piece by piece, without a length said before.",
    keys: &[
        key("file", Type::Text, "File, relative to the plan."),
        key("size", BYTES, "So many zero bytes."),
        key("chunk", BYTES, "Bytes of one piece. Default: 64KiB."),
        key("pause", LENGTH, "Pause between pieces. Default: none."),
    ],
    one_of: &["file", "size"],
};
