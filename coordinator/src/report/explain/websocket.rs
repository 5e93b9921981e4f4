//! What the error classes and close codes of WebSocket mean.

/// Classes without a number in them.
pub(super) const CLASSES: &[(&str, &str)] = &[
    (
        "ws_handshake",
        "the server's answer to the WebSocket upgrade is malformed, such as a wrong accept key or a subprotocol \
         nobody asked for: a proxy between changes headers, or the server's WebSocket library is faulty",
    ),
    (
        "ws_receive_timeout",
        "no message that `receive` waits for came within its time: the server did not send it, was too slow, or \
         sends something that the step does not match; compare the messages received with those matched",
    ),
    (
        "ws_reply_timeout",
        "no reply with the id of a message came within its time: the server did not answer it, was too slow, or does \
         not send the id back where `reply` says",
    ),
    (
        "ws_too_few_messages",
        "fewer messages came than `listen` waits for within its time: the server sent fewer, or was too slow",
    ),
    (
        "ws_no_pong",
        "a ping was not answered within its time, which the standard demands of every server: it hangs, or a proxy \
         between swallows pings",
    ),
    (
        "ws_not_closed",
        "the server did not close within the time of `closed`: it waits for something that the flow does not send, or \
         keeps connections longer than the plan thinks",
    ),
    (
        "ws_connection_lost",
        "the connection was lost while the step waited on it; it was opened again, where `reconnect` says so, but what \
         the step waited for went with the old one",
    ),
    (
        "ws_not_read",
        "the server did not read what was sent within the limit of an operation, so the agent gave the connection up: \
         the server is slower than the plan sends, or hangs",
    ),
    ("ws_dropped", "the plan's `drop` ended the connection while the step waited on it"),
    (
        "ws_out_of_order",
        "messages came in another order than their number (`order`) says, or without one: the server sends from several \
         places at once, or the JSONPath leads elsewhere",
    ),
    (
        "ws_message_too_large",
        "the server sent a message or frame of more than 16 MiB, or announced one; the agent refused it with close code \
         1009 before it could fill its memory",
    ),
    (
        "ws_bad_utf8",
        "the server sent a text message that is not UTF-8, which the standard forbids: binary data belongs into binary \
         messages; the agent refused it with close code 1007",
    ),
    (
        "ws_masked_frame",
        "the server masked a frame, as only clients may; its WebSocket library is faulty, or what answers is a client; \
         the agent refused it with close code 1002",
    ),
    (
        "ws_reserved_bits",
        "the server set bits that belong to an extension nobody agreed on, often compression (permessage-deflate) that \
         a proxy or library adds; the agent refused the frame with close code 1002",
    ),
    (
        "ws_bad_close_code",
        "the server closed with a code that must not be sent (such as 1005 or 1006, which only say that there was none); \
         its WebSocket library, or what the application gives it, is wrong; the agent answered with close code 1002",
    ),
    (
        "ws_bad_control_frame",
        "the server sent a ping, pong or close in pieces or with more than 125 bytes, which the standard forbids; the \
         agent refused it with close code 1002",
    ),
    (
        "ws_protocol",
        "the server broke the WebSocket protocol: unknown frames, pieces out of order, or bytes that are no frame at \
         all; look at what stands between, and at the server's library",
    ),
    (
        "ws_write_buffer_full",
        "the server did not read what was sent, and the agent's buffer for its connection filled up (16 MiB): the \
         server is slower than the plan sends, or hangs",
    ),
];

/// Statuses that refuse a WebSocket upgrade: status, likely cause and what to do.
const UPGRADES: &[(u16, &str)] = &[
    (
        200,
        "it answered as to plain HTTP; the route is no WebSocket, or a proxy between does not forward the Upgrade \
         header",
    ),
    (400, "the route is no WebSocket endpoint, or it wants another version, subprotocol or header"),
    (401, "credentials are missing, wrong or expired; check the step's headers"),
    (
        403,
        "the credentials or the Origin header are not allowed; check the step's headers and the server's list of \
         origins",
    ),
    (404, "the route does not exist, or its server has no WebSocket library"),
    (426, "the route is no WebSocket endpoint, or it wants another version of the protocol"),
    (429, "a limit on new connections applies; raise it for the agents or let users join more slowly"),
    (503, "the server or a proxy is at its limit of connections, or has no healthy server behind it"),
];

/// Codes of RFC 6455, section 7.4.1, and of IANA's registry of WebSocket close codes: code, what happened, what to do.
const CLOSE_CODES: &[(u16, &str)] = &[
    (1000, "normal: the server was done before the plan was; check the order of the flow's steps"),
    (1001, "going away: the server is shutting down or restarting, or closed an idle connection"),
    (1002, "protocol error: the server could not make sense of a frame; a proxy between may change the stream"),
    (1003, "unsupported data: the server does not take this kind of message, such as binary where it wants text"),
    (1005, "no code given: the server closed without saying why; its log may tell"),
    (
        1006,
        "abnormal: the connection broke without a closing handshake; the server crashed, or a proxy cut it, often \
         for being idle",
    ),
    (
        1007,
        "invalid payload: the server found a message that is not what it claims to be, such as text that is no UTF-8",
    ),
    (1008, "policy violation: the server refuses a message or the user; check credentials and its limits"),
    (1009, "message too big: a message is larger than the server takes; send less or raise its limit"),
    (1010, "mandatory extension: an extension of the protocol was expected that was not agreed on"),
    (1011, "internal error: the server failed on a message; its log says why"),
    (1012, "service restart: the server is restarting"),
    (1013, "try again later: the server is overloaded and sheds connections"),
    (1014, "bad gateway: a proxy got no valid answer from the server behind it"),
    (1015, "TLS handshake: it failed; check the certificate"),
];

pub(super) fn explain_upgrade(status: u16) -> String {
    let cause = UPGRADES.iter().find(|(known, _)| *known == status).map(|(_, cause)| *cause);
    let cause = cause.unwrap_or(match status {
        300..=399 => "redirects are not followed; let the step ask for the final address",
        500..=599 => "the server or a proxy failed on the handshake; its log says why",
        _ => "only 101 accepts it; check the route and the step's headers",
    });
    format!("the server refused the WebSocket upgrade with {status}: {cause}")
}

pub(super) fn explain_close(code: u16) -> String {
    format!("the server closed the WebSocket with {code}, {}", meaning_of_close(code))
}

/// What a close code means (RFC 6455, section 7.4.1, and the registry it founded).
pub fn meaning_of_close(code: u16) -> String {
    let meaning = CLOSE_CODES.iter().find(|(known, _)| *known == code).map(|(_, meaning)| *meaning);
    let meaning = meaning.unwrap_or(match code {
        3000..=3999 => "a code registered by a library or framework; its documentation says what it means",
        4000..=4999 => "a code of the application's own; its documentation or log says what it means",
        _ => "no code that the WebSocket standard defines; the server's log may tell what it means",
    });
    meaning.to_owned()
}

#[cfg(test)]
mod tests {
    use super::super::explain;
    use super::*;

    /// What a reader must learn from the explanation of each class.
    const CAUSES: &[(&str, &str)] = &[
        ("ws_handshake", "accept key"),
        ("ws_receive_timeout", "`receive`"),
        ("ws_write_buffer_full", "did not read"),
        ("ws_reply_timeout", "send the id back"),
        ("ws_too_few_messages", "fewer messages"),
        ("ws_no_pong", "swallows pings"),
        ("ws_not_closed", "keeps connections"),
        ("ws_connection_lost", "opened again"),
        ("ws_not_read", "did not read"),
        ("ws_dropped", "`drop`"),
        ("ws_out_of_order", "another order"),
        ("ws_message_too_large", "1009"),
        ("ws_bad_utf8", "1007"),
        ("ws_masked_frame", "masked"),
        ("ws_reserved_bits", "permessage-deflate"),
        ("ws_bad_close_code", "must not be sent"),
        ("ws_bad_control_frame", "125 bytes"),
        ("ws_protocol", "broke the WebSocket protocol"),
        ("ws_upgrade_refused_200", "does not forward the Upgrade header"),
        ("ws_upgrade_refused_400", "no WebSocket endpoint"),
        ("ws_upgrade_refused_401", "credentials"),
        ("ws_upgrade_refused_403", "Origin"),
        ("ws_upgrade_refused_404", "the route does not exist, or its server has no WebSocket library"),
        ("ws_upgrade_refused_426", "another version"),
        ("ws_upgrade_refused_429", "limit on new connections"),
        ("ws_upgrade_refused_503", "limit of connections"),
        ("ws_upgrade_refused_301", "redirects are not followed"),
        ("ws_upgrade_refused_500", "failed on the handshake"),
        ("ws_upgrade_refused_418", "only 101 accepts it"),
        ("ws_closed_1000", "normal"),
        ("ws_closed_1001", "going away"),
        ("ws_closed_1002", "protocol error"),
        ("ws_closed_1003", "unsupported data"),
        ("ws_closed_1005", "no code given"),
        ("ws_closed_1006", "without a closing handshake"),
        ("ws_closed_1007", "invalid payload"),
        ("ws_closed_1008", "policy violation"),
        ("ws_closed_1009", "message too big"),
        ("ws_closed_1010", "mandatory extension"),
        ("ws_closed_1011", "internal error"),
        ("ws_closed_1012", "service restart"),
        ("ws_closed_1013", "try again later"),
        ("ws_closed_1014", "bad gateway"),
        ("ws_closed_1015", "TLS handshake"),
        ("ws_closed_3001", "library or framework"),
        ("ws_closed_4001", "application's own"),
        ("ws_closed_1004", "no code that the WebSocket standard defines"),
    ];

    #[test]
    fn every_class_has_its_own_cause() {
        for (class, cause) in CAUSES {
            let text = explain(class);
            assert!(text.contains(cause), "{class}: {text}");
        }
        for (class, _) in CLASSES {
            assert!(CAUSES.iter().any(|(known, _)| known == class), "{class}");
        }
    }

    #[test]
    fn the_number_of_a_class_is_in_its_explanation() {
        for (class, number) in [("ws_upgrade_refused_418", "418"), ("ws_closed_4001", "4001")] {
            assert!(explain(class).contains(number), "{class}");
        }
    }

    #[test]
    fn explanations_read_as_one_clause_after_a_colon() {
        for (class, text) in CLASSES {
            assert!(!text.ends_with('.') && !text.contains("  ") && !text.contains('\n'), "{class}: {text}");
        }
    }
}
