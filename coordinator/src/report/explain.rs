//! What an error class means, its likely cause, and what to do about it.

use std::collections::BTreeMap;

use super::Report;
use super::cells::label;

mod websocket;

pub use websocket::meaning_of_close;

/// Classes without a number in them.
const CLASSES: &[(&str, &str)] = &[
    (
        "connection_refused",
        "nothing listened at the target's address: the target is not running, listens on another port, or its queue \
         of connections is full; check `target` and the target's log",
    ),
    (
        "connection_reset",
        "the target, or something between, cut the connection: it crashed, restarted, ran into a limit, or closed \
         an idle connection at the moment it was used again; check the target's log and the idle timeouts of \
         proxies",
    ),
    (
        "connection_closed",
        "the target closed the connection before its response was complete: it crashed or restarted, or its \
         keep-alive time is shorter than the pauses of the plan; check the target's log",
    ),
    (
        "closed_in_head",
        "the target closed the connection within the head of its response: it crashed or restarted while it \
         answered; check the target's log",
    ),
    (
        "reset_in_head",
        "the target, or something between, cut the connection within the head of the response: it crashed, \
         restarted or ran into a limit; check the target's log",
    ),
    (
        "closed_in_body",
        "the target closed the connection within the body of its response, before the end that it had announced: \
         it crashed or restarted, or a proxy gave up on it; check both logs",
    ),
    (
        "reset_in_body",
        "the target, or something between, cut the connection within the body of the response: it crashed, or a \
         proxy or a limit of size or time ended the transfer; check the logs of both",
    ),
    (
        "stale_connection",
        "a kept connection was closed by the target at the moment the next request went out on it: its keep-alive \
         time or its number of requests on a connection ran out; the request may or may not have been worked on, \
         so it was not sent again; raise the keep-alive time, or let idempotent requests be sent again with \
         `http.retry_stale: true`",
    ),
    (
        "first_byte_timeout",
        "the target took the request but did not begin to answer within `http.first_byte_timeout`: it was \
         overloaded or hung; look at its load, or raise the limit",
    ),
    (
        "headers_too_large",
        "the head of the response is larger than a client may be asked to take (256 KiB or 100 headers), \
         or interim responses came without end; check what sets that many headers or cookies; over HTTP/2 a head of \
         64 to 256 KiB is refused too, but counts as `protocol`",
    ),
    (
        "decode_failed",
        "the body is not what its `content-encoding` says, or is encoded in a way that was not asked for; the \
         target or a proxy encodes wrongly; look at one response with `curl --compressed`",
    ),
    (
        "redirect_limit",
        "more redirects followed one another than `http.redirects` allows (10 by default); they probably go in a \
         circle, often because a cookie or a header is missing",
    ),
    (
        "redirect_refused",
        "a redirect leads to a host that the plan does not name, to an address of the machine's own surroundings, \
         or away from HTTP, and was not followed; name the host in `http.redirects.hosts` if the load may go \
         there",
    ),
    ("redirect_invalid", "the `location` of a redirect is no URL; the target builds it wrongly"),
    (
        "auth_challenge",
        "the target's digest challenge can't be answered: it asks for an algorithm or a protection that is not \
         supported with this body; use basic or bearer, or a body with a known length",
    ),
    (
        "http2_goaway",
        "the target ended the HTTP/2 connection (GOAWAY) with requests still open on it: it is restarting or \
         shedding load, or limits the requests of a connection; check its log",
    ),
    (
        "http2_reset",
        "the target reset the request's HTTP/2 stream: it failed on the request, gave it up, or defends itself \
         against too many; check its log",
    ),
    (
        "http2_refused",
        "the target refused the HTTP/2 stream before it looked at it: its number of streams at a time is used up; \
         use more connections (`http.connections: { shared: N }`) or raise its limit",
    ),
    (
        "connect_failed",
        "no connection could be opened: the target's network can't be reached from the agent; check routes and \
         firewalls between the two",
    ),
    (
        "dns",
        "the name of the target could not be resolved: it is misspelt, or the agent's name server does not know it; \
         try it on the agent's machine",
    ),
    (
        "tls",
        "the TLS handshake failed: the certificate is expired, is for another name, or comes from an unknown CA, or \
         the target does not speak TLS on this port; for a test system `http.insecure: true` skips the check",
    ),
    (
        "timeout",
        "no complete answer within the time limit: the target was overloaded or hung; the operation's age then counts \
         as response time; look at the target's load, or raise `timeout` if such answers are acceptable",
    ),
    (
        "connect_timeout",
        "the connection was not accepted in time: the target's queue of connections is full, or a firewall drops \
         packets without an answer; check both",
    ),
    (
        "aborted",
        "the operation was still going on when the run ended and was cut off; its age at that moment counts as \
         response time; many of them mean that the target had fallen behind",
    ),
    (
        "expect_header",
        "a response header is not what `expect.header` asks for; send the request once with `groundswell check \
         --once` to see the response",
    ),
    (
        "expect_body",
        "the response body does not have the text that `expect.contains` or `expect.matches` asks for; under load \
         that is often an error page with a good status",
    ),
    (
        "expect_json",
        "the response body is no JSON, or a value in it is not what `expect.json` asks for; under load that is \
         often an empty or partial result",
    ),
    (
        "expect_max_time",
        "the response was good but took longer than `expect.max_time`: the target was too slow for the plan's limit",
    ),
    (
        "capture_missing",
        "the response was good but lacks a value that `capture` takes from it: the path or pattern does not fit, or \
         the result was empty; later steps that use the value are not generated",
    ),
    (
        "template",
        "a template could not be rendered, most often because an earlier step did not capture its value; look at \
         that step's errors first",
    ),
    (
        "protocol",
        "the answer is malformed HTTP or WebSocket: something else listens on this port, the target speaks another \
         version (`http.version`), or TLS and plain text are mixed up; over HTTP/2 also a head above 64 KiB, which the \
         library reports as it does a malformed one",
    ),
    (
        "body_too_large",
        "the answer, or what it decodes to, is larger than `http.max_body` or than an agent keeps in memory for `expect` \
         and `capture` (16 MiB), so it was cut off; ask the target for less, or raise the limit",
    ),
    (
        "too_many_open_files",
        "the agent ran out of file descriptors, so this is no fault of the target: raise the limit (`ulimit -n`) or \
         use more agents",
    ),
    (
        "no_memory_for_sockets",
        "the agent's machine had no memory for another connection, so this is no fault of the target: raise \
         net.ipv4.tcp_mem, or use more agents",
    ),
    (
        "tls_certificate_expired",
        "the target's certificate is expired or not valid yet: renew it, or set the clock of the agent's machine",
    ),
    (
        "tls_wrong_host",
        "the target's certificate is for another host: use a name in the plan's `target` that stands in it",
    ),
    (
        "tls_self_signed",
        "the target's certificate is self-signed: for a test system accept any certificate with `http.insecure: true`, \
         or give it one from an authority",
    ),
    (
        "tls_unknown_issuer",
        "the target's certificate is from an authority that the agent's machine does not know, or self-signed: install \
         the authority there, or accept any certificate with `http.insecure: true`",
    ),
    (
        "tls_certificate",
        "the target's certificate can't be accepted: it is malformed, revoked, or not made for servers",
    ),
    ("tls_version", "target and agent have no version of TLS, or no cipher, in common: agents speak TLS 1.2 and 1.3"),
    (
        "tls_closed",
        "the target closed the connection within the TLS handshake: it may speak plain text on this port, want a \
         client certificate, or not know the host name",
    ),
    (
        "not_allowed",
        "the agent's allowlist does not have the address that they were to go to: a redirect, a template or a name that \
         now stands for another address led there; see whether the load should go there at all, and if so start the agent \
         with `--allow`",
    ),
    (
        "max_connections",
        "the agent had as many connections open as its operator allows (`--max-connections`), so this is no fault of the \
         target: raise that, or use more agents",
    ),
    (
        "too_many_look_ups",
        "the agent looks up only so many names a second that its allowlist does not have, because a host name that changes \
         all the time is a message to whoever serves it: take fewer host names, or start the agent with `--allow` and those \
         names, such as `*.example.com`",
    ),
    (
        "no_free_port",
        "the agent ran out of local ports, so this is no fault of the target: keep connections open \
         (`http.connections: per_user`), widen `ip_local_port_range`, or use more agents",
    ),
];

/// Statuses of an answer that the plan does not expect: status, its name, likely cause and what to do.
const STATUSES: &[(u16, &str, &str)] = &[
    (
        400,
        "Bad Request",
        "the request is not well-formed for it; check the step's body, query and headers, and the values that \
         templates put into them",
    ),
    (
        401,
        "Unauthorized",
        "credentials are missing, wrong or expired; check the step's headers and any login step before it",
    ),
    (
        403,
        "Forbidden",
        "the credentials do not allow this, or a firewall or bot filter blocks the load; check the account's rights \
         and the filter's rules",
    ),
    (404, "Not Found", "the path does not exist there; check the step's path, `target`, and captured ids"),
    (405, "Method Not Allowed", "the path exists but not for this method; check the step's method"),
    (
        408,
        "Request Timeout",
        "the server gave up waiting for the request; it was overloaded, or the agent was, see its send lag",
    ),
    (
        409,
        "Conflict",
        "requests got in each other's way or repeat each other; give each user rows of its own through `data`, or \
         expect 409 if it is a good answer",
    ),
    (413, "Content Too Large", "the body is larger than the server or a proxy allows; send less or raise its limit"),
    (415, "Unsupported Media Type", "the body's content type is not the one it wants; check the `content-type` header"),
    (
        422,
        "Unprocessable Content",
        "the body is well-formed but its values are refused; check what templates put into it",
    ),
    (
        429,
        "Too Many Requests",
        "a rate limit of the server or a proxy applies, so the figures are those of the limit; raise it for the \
         agents or lower the load",
    ),
    (500, "Internal Server Error", "the server failed on the request; its log says why"),
    (
        502,
        "Bad Gateway",
        "a proxy got no valid answer from the server behind it; that server crashed, restarted or refused \
         connections",
    ),
    (
        503,
        "Service Unavailable",
        "the server was overloaded, starting or shutting down, or a proxy has no healthy server behind it",
    ),
    (504, "Gateway Timeout", "a proxy waited too long for the server behind it; that server was overloaded or hung"),
];

/// What an error class means, its likely cause, and what to do: one sentence, without a full stop. An unknown class,
/// such as one of a newer agent, gets a sentence that names it.
pub fn explain(class: &str) -> String {
    if let Some((_, text)) = CLASSES.iter().chain(websocket::CLASSES).find(|(name, _)| *name == class) {
        return (*text).to_owned();
    }
    let family = class.rsplit_once('_').and_then(|(family, number)| Some((family, number.parse::<u16>().ok()?)));
    match family {
        Some(("status", status)) => explain_status(status),
        Some(("ws_upgrade_refused", status)) => websocket::explain_upgrade(status),
        Some(("ws_closed", code)) => websocket::explain_close(code),
        _ => format!("failed with {class}, a class that this version of groundswell has no explanation for"),
    }
}

fn explain_status(status: u16) -> String {
    if let Some((_, name, cause)) = STATUSES.iter().find(|(known, _, _)| *known == status) {
        return format!("the target answered {status} {name}: {cause}");
    }
    let cause = match status {
        100..=299 => "that is a success, but not a status that the step expects; check `expect.status`",
        300..=399 => {
            "it is a redirect that was not followed, because `redirects` is 0 or it leads nowhere; let the step ask for \
             the final address, or expect this status if it is a good answer"
        }
        400..=499 => {
            "the server refuses the request as it stands; check the step, or expect this status if it is a good \
             answer"
        }
        500..=599 => "the server or a proxy failed on the request; its log says why",
        _ => "that is no status of HTTP; something else listens on this port",
    };
    format!("the target answered {status}: {cause}")
}

/// Failures of one class in all steps together.
pub(super) struct ClassTotal<'a> {
    pub(super) class: &'a str,
    pub(super) count: u64,
    pub(super) explanation: &'a str,
    pub(super) steps: Vec<String>,
}

/// Failures by class, most frequent first. Taken from the steps, whose classes are finer than those of the total: there
/// a message that did not come is a timeout like any other.
pub(super) fn classes(report: &Report) -> Vec<ClassTotal<'_>> {
    let mut by_class: BTreeMap<&str, ClassTotal<'_>> = BTreeMap::new();
    for row in &report.steps {
        for entry in &row.error_classes {
            let (class, explanation) = (entry.class.as_str(), entry.explanation.as_str());
            let of_class = || ClassTotal { class, count: 0, explanation, steps: Vec::new() };
            let total = by_class.entry(class).or_insert_with(of_class);
            total.count += entry.count;
            total.steps.push(label(row));
        }
    }
    let mut classes: Vec<ClassTotal<'_>> = by_class.into_values().collect();
    classes.sort_by_key(|class| std::cmp::Reverse(class.count));
    classes
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What a reader must learn from the explanation of each class.
    const CAUSES: &[(&str, &str)] = &[
        ("connection_refused", "nothing listened"),
        ("connection_reset", "cut the connection"),
        ("connection_closed", "before its response was complete"),
        ("closed_in_head", "within the head"),
        ("reset_in_head", "within the head"),
        ("closed_in_body", "before the end that it had announced"),
        ("reset_in_body", "ended the transfer"),
        ("stale_connection", "`http.retry_stale: true`"),
        ("first_byte_timeout", "did not begin to answer"),
        ("headers_too_large", "256 KiB"),
        ("decode_failed", "content-encoding"),
        ("redirect_limit", "in a circle"),
        ("redirect_refused", "`http.redirects.hosts`"),
        ("redirect_invalid", "no URL"),
        ("auth_challenge", "can't be answered"),
        ("http2_goaway", "GOAWAY"),
        ("http2_reset", "reset the request's HTTP/2 stream"),
        ("http2_refused", "shared: N"),
        ("connect_failed", "firewalls"),
        ("dns", "could not be resolved"),
        ("tls", "certificate"),
        ("tls_certificate_expired", "renew it"),
        ("tls_wrong_host", "another host"),
        ("tls_self_signed", "is self-signed"),
        ("tls_unknown_issuer", "does not know"),
        ("tls_certificate", "not made for servers"),
        ("tls_version", "TLS 1.2 and 1.3"),
        ("tls_closed", "client certificate"),
        ("no_memory_for_sockets", "no memory for another connection"),
        ("timeout", "overloaded or hung"),
        ("connect_timeout", "not accepted in time"),
        ("aborted", "when the run ended"),
        ("expect_header", "`expect.header`"),
        ("expect_body", "`expect.contains`"),
        ("expect_json", "`expect.json`"),
        ("expect_max_time", "`expect.max_time`"),
        ("capture_missing", "`capture`"),
        ("template", "did not capture its value"),
        ("protocol", "malformed HTTP or WebSocket"),
        ("body_too_large", "16 MiB"),
        ("too_many_open_files", "ulimit -n"),
        ("no_free_port", "local ports"),
        ("not_allowed", "`--allow`"),
        ("max_connections", "`--max-connections`"),
        ("too_many_look_ups", "`--allow`"),
        ("status_400", "not well-formed"),
        ("status_401", "credentials are missing"),
        ("status_403", "bot filter"),
        ("status_404", "the path does not exist"),
        ("status_405", "not for this method"),
        ("status_408", "gave up waiting"),
        ("status_409", "in each other's way"),
        ("status_413", "larger than the server"),
        ("status_415", "content type"),
        ("status_422", "values are refused"),
        ("status_429", "rate limit"),
        ("status_500", "its log says why"),
        ("status_502", "no valid answer"),
        ("status_503", "no healthy server"),
        ("status_504", "waited too long"),
        ("status_204", "not a status that the step expects"),
        ("status_302", "a redirect that was not followed"),
        ("status_418", "refuses the request"),
        ("status_599", "failed on the request"),
        ("status_999", "no status of HTTP"),
        ("quic_lost", "failed with quic_lost"),
        ("status_abc", "failed with status_abc"),
    ];

    #[test]
    fn every_class_has_its_own_cause() {
        for (class, cause) in CAUSES {
            let text = explain(class);
            assert!(text.contains(cause), "{class}: {text}");
        }
    }

    #[test]
    fn the_number_of_a_class_is_in_its_explanation() {
        for (class, number) in [("status_503", "503"), ("status_418", "418")] {
            assert!(explain(class).contains(number), "{class}");
        }
    }

    #[test]
    fn explanations_read_as_one_clause_after_a_colon() {
        let classes = CLASSES.iter().map(|(class, _)| (*class).to_owned());
        let statuses = STATUSES.iter().map(|(status, _, _)| format!("status_{status}"));
        for class in classes.chain(statuses) {
            let text = explain(&class);
            assert!(!text.ends_with('.') && !text.contains("  ") && !text.contains('\n'), "{class}: {text}");
        }
    }
}
