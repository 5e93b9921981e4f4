//! Targets that lie, stall, flood or break off: each gives its own class, and none holds anybody beyond the limit.

use std::io::Write as _;

use flate2::Compression;
use flate2::write::GzEncoder;
use groundswell_scenario::http::Coding;
use tokio::time::Instant;

use super::*;

const LIMIT: Duration = Duration::from_millis(400);

/// Where something else than the limit has to end it, however slow the machine is.
const FAR_LIMIT: Duration = Duration::from_secs(60);

/// What becomes of a request to a target that does this; it must not take much longer than its limit.
async fn becomes(options: &HttpOptions, act: Act) -> (Result<u16, Failure>, Progress) {
    becomes_within(LIMIT, options, act).await
}

async fn becomes_within(limit: Duration, options: &HttpOptions, act: Act) -> (Result<u16, Failure>, Progress) {
    let server = Server::start(move |_| act.clone()).await;
    let clients = clients(options.clone());
    let request = Request { timeout: limit, ..get(&clients, server.url()) };
    let started = Instant::now();
    let mut progress = Progress::default();
    let result = clients.client(0).send(&request, &mut progress).await;
    assert!(started.elapsed() < limit * 20, "it hung for {:?}", started.elapsed());
    assert_eq!(server.requests(), 1, "nothing is sent again");
    (result.map(|response| response.status), progress)
}

async fn class(options: &HttpOptions, act: Act) -> Failure {
    becomes(options, act).await.0.unwrap_err()
}

#[test]
fn silence_and_drips_end_at_the_limit_of_the_whole() {
    on_each(async |options| {
        assert_eq!(class(&options, Act::Hang).await, Failure::Timeout);
        let pause = Duration::from_millis(20);
        let head = Act::Flood(b"HTTP/1.1 200 OK\r\n".to_vec(), b"a: b\r\n".to_vec(), pause);
        assert_eq!(class(&options, head).await, Failure::Timeout);
        let start = b"HTTP/1.1 200 OK\r\ncontent-length: 1000000\r\n\r\n".to_vec();
        let (result, progress) = becomes(&options, Act::Flood(start, b"x".to_vec(), pause)).await;
        assert_eq!(result, Err(Failure::Timeout));
        assert!(progress.bytes_received > 0, "what came is counted");
    });
}

#[test]
fn a_limit_for_the_first_byte_is_its_own_class() {
    on(async {
        let options = HttpOptions { first_byte_timeout: Some(LIMIT / 4), ..HttpOptions::default() };
        assert_eq!(class(&options, Act::Hang).await, Failure::class("first_byte_timeout"));
    });
}

#[test]
fn connections_that_break_say_where() {
    on_each(async |options| {
        // reqwest does not tell whether a byte had come.
        let in_head = |direct| if options.transport == TransportKind::Direct { direct } else { "connection" };
        const HEAD: &str = "HTTP/1.1 200 OK\r\ncontent-le";
        const BODY: &str = "HTTP/1.1 200 OK\r\ncontent-length: 9\r\n\r\nhi";
        const CHUNKS: &str = "HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n5\r\nab";
        let cases = [
            ("", in_head("connection_reset"), in_head("connection_closed"), 0),
            (HEAD, in_head("reset_in_head"), in_head("closed_in_head"), 0),
            (BODY, "reset_in_body", "closed_in_body", 2),
            (CHUNKS, "reset_in_body", "closed_in_body", 2),
        ];
        for (sent, reset, closed, received) in cases {
            for (act, expected) in [(Act::AnswerAndReset(sent.into()), reset), (answer_and_close(sent), closed)] {
                let (result, progress) = becomes(&options, act).await;
                let Err(Failure::Error(class)) = result else { panic!("{sent:?}: {result:?}") };
                assert!(class.as_str().starts_with(expected), "{sent:?}: {class:?} instead of {expected}");
                assert_eq!(progress.bytes_received, received, "{sent:?}");
            }
        }
    });
}

#[test]
fn endless_bodies_end_at_the_largest_that_the_plan_allows() {
    on_each(async |options| {
        let options = HttpOptions { max_body: Some(100_000), ..options };
        let piece = vec![b'x'; 10_000];
        let length = b"HTTP/1.1 200 OK\r\ncontent-length: 99999999999\r\n\r\n".to_vec();
        let chunk = [&b"2710\r\n"[..], &piece, b"\r\n"].concat();
        let chunked = b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n".to_vec();
        let closing = b"HTTP/1.1 200 OK\r\n\r\n".to_vec();
        for (start, again) in [(length, piece.clone()), (chunked, chunk), (closing, piece)] {
            let (result, progress) = becomes(&options, Act::Flood(start, again, Duration::ZERO)).await;
            assert_eq!(result, Err(Failure::class("body_too_large")));
            assert!(progress.bytes_received < 2_000_000, "{}", progress.bytes_received);
        }
    });
}

#[test]
fn endless_heads_are_refused() {
    on_each(async |options| {
        let start = b"HTTP/1.1 200 OK\r\n".to_vec();
        let many = (0..10_000).fold(start.clone(), |head, nth| [head, format!("h{nth}: x\r\n").into_bytes()].concat());
        let long = [&start[..], b"long: ", &vec![b'x'; 100_000_000], b"\r\n\r\n"].concat();
        for act in [answer_and_close([&many[..], b"\r\n"].concat()), Act::Flood(start, many, Duration::ZERO)] {
            let (result, _) = becomes_within(FAR_LIMIT, &options, act).await;
            assert_eq!(result, Err(Failure::class("headers_too_large")));
        }
        let (result, _) = becomes_within(FAR_LIMIT, &options, Act::Flood(long, Vec::new(), LIMIT)).await;
        assert_eq!(result, Err(Failure::class("headers_too_large")));
    });
}

/// Interim responses without end are the same to a client of its own; reqwest reads them until the limit.
#[test]
fn interim_responses_end_somewhere() {
    on_each(async |options| {
        let interim = b"HTTP/1.1 103 Early Hints\r\n\r\n".repeat(100);
        let failure = class(&options, Act::Flood(interim.clone(), interim, Duration::ZERO)).await;
        let direct = options.transport == TransportKind::Direct;
        assert_eq!(failure, if direct { Failure::class("headers_too_large") } else { Failure::Timeout });
    });
}

#[test]
fn what_is_not_http_is_a_protocol_error() {
    on_each(async |options| {
        const CHUNKED: &str = "HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n";
        let broken = [
            "SSH-2.0-OpenSSH_9.2\r\n".to_owned(),
            "HTTP/9.9 200 OK\r\n\r\n".to_owned(),
            "HTTP/1.1 abc OK\r\n\r\n".to_owned(),
            "HTTP/1.1 200 OK\r\ncontent-length: 1\r\ncontent-length: 2\r\n\r\nab".to_owned(),
            "HTTP/1.1 200 OK\r\ncontent-length: -1\r\n\r\nab".to_owned(),
            "HTTP/1.1 200 OK\r\na\0b: c\r\n\r\n".to_owned(),
            "\0\0\0\0\0\0\0\0".to_owned(),
            format!("{CHUNKED}zz\r\nab\r\n"),
            format!("{CHUNKED}fffffffffffffffff\r\nab\r\n"),
            format!("{CHUNKED}2\r\nabcd\r\n"),
        ];
        for text in broken {
            assert_eq!(class(&options, answer_and_close(text.clone())).await, Failure::class("protocol"), "{text:?}");
        }
    });
}

#[test]
fn a_bomb_is_not_unpacked() {
    on_each(async |options| {
        let mut gzip = GzEncoder::new(Vec::new(), Compression::best());
        let zeros = vec![0; 1 << 20];
        for _ in 0..64 {
            gzip.write_all(&zeros).unwrap();
        }
        let bomb = gzip.finish().unwrap();
        let head = format!("HTTP/1.1 200 OK\r\ncontent-encoding: gzip\r\ncontent-length: {}\r\n\r\n", bomb.len());
        let sent = answer([head.as_bytes(), &bomb].concat());
        assert_eq!(becomes(&options, sent.clone()).await.0, Ok(200), "as it came, it is small");
        let options = HttpOptions { compression: vec![Coding::Gzip], ..options };
        assert_eq!(class(&options, sent).await, Failure::class("body_too_large"));
        let lie = "HTTP/1.1 200 OK\r\ncontent-encoding: gzip\r\ncontent-length: 2\r\n\r\nhi";
        assert_eq!(class(&options, answer(lie)).await, Failure::class("decode_failed"));
    });
}

#[test]
fn redirects_lead_nowhere_that_nobody_named() {
    on_each(async |options| {
        for (to, expected) in [
            ("file:///etc/passwd", "redirect_refused"),
            ("http://169.254.169.254/latest/meta-data/", "redirect_refused"),
            ("http://example.test/", "redirect_refused"),
            ("http://[", "redirect_invalid"),
        ] {
            let head = format!("HTTP/1.1 302 Found\r\nlocation: {to}\r\ncontent-length: 0\r\n\r\n");
            assert_eq!(class(&options, answer(head.clone())).await, Failure::class(expected), "{to}");
            // Even where any host will do.
            if to.contains("169.254") {
                let any = HttpOptions { redirect_hosts: vec!["*".into()], ..options.clone() };
                assert_eq!(class(&any, answer(head)).await, Failure::class("redirect_refused"));
            }
        }
    });
}
