//! Targets that lie, stall, flood or break off: each gives its own class, and none holds anybody beyond the limit.

use std::io::Write as _;

use flate2::Compression;
use flate2::write::{GzEncoder, ZlibEncoder};
use groundswell_scenario::http::{Coding, Mapping, Network};
use proptest::prelude::*;
use proptest::strategy::ValueTree;
use proptest::test_runner::{Config, TestRunner};
use ruzstd::encoding::{CompressionLevel, compress_to_vec};
use tokio::time::Instant;

use super::*;

/// Limit of requests that nothing else ends.
const LIMIT: Duration = Duration::from_millis(400);
/// Limit of requests that something else ends, on however slow a machine.
const PATIENCE: Duration = Duration::from_secs(60);

/// What becomes of a request to a target that does this.
async fn becomes(options: &HttpOptions, act: Act) -> (Result<u16, Failure>, Progress) {
    becomes_within(PATIENCE, options, act).await
}

/// The same with a limit, which it must not exceed by much.
async fn becomes_within(limit: Duration, options: &HttpOptions, act: Act) -> (Result<u16, Failure>, Progress) {
    let server = Server::start(move |_| act.clone()).await;
    let clients = clients(options.clone());
    let request = Request { timeout: limit, ..get(&clients, server.url()) };
    let started = Instant::now();
    let mut progress = Progress::default();
    let result = clients.client(0).send(&request, &mut progress).await;
    assert!(started.elapsed() < PATIENCE, "it hung for {:?}", started.elapsed());
    assert_eq!(server.requests(), 1, "nothing is sent again");
    (result.map(|response| response.status), progress)
}

async fn class(options: &HttpOptions, act: Act) -> Failure {
    becomes(options, act).await.0.unwrap_err()
}

#[test]
fn silence_and_drips_end_at_the_limit_of_the_whole() {
    on_each(async |options| {
        assert_eq!(becomes_within(LIMIT, &options, Act::Hang).await.0, Err(Failure::Timeout));
        let pause = Duration::from_millis(20);
        let head = Act::Flood(b"HTTP/1.1 200 OK\r\n".to_vec(), b"a: b\r\n".to_vec(), pause);
        assert_eq!(becomes_within(LIMIT, &options, head).await.0, Err(Failure::Timeout));
        let start = b"HTTP/1.1 200 OK\r\ncontent-length: 1000000\r\n\r\n".to_vec();
        let (result, progress) = becomes_within(LIMIT, &options, Act::Flood(start, b"x".to_vec(), pause)).await;
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
        const HEAD: &str = "HTTP/1.1 200 OK\r\ncontent-le";
        const BODY: &str = "HTTP/1.1 200 OK\r\ncontent-length: 9\r\n\r\nhi";
        const CHUNKS: &str = "HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n5\r\nab";
        let cases = [
            ("", "connection_reset", "connection_closed", 0),
            (HEAD, "reset_in_head", "closed_in_head", 0),
            (BODY, "reset_in_body", "closed_in_body", 2),
            (CHUNKS, "reset_in_body", "closed_in_body", 2),
        ];
        for (sent, reset, closed, received) in cases {
            for (act, expected) in [(Act::AnswerAndReset(sent.into()), reset), (answer_and_close(sent), closed)] {
                let (result, progress) = becomes(&options, act).await;
                let Err(Failure::Error(class)) = result else { panic!("{sent:?}: {result:?}") };
                if options.transport == TransportKind::Direct || received > 0 {
                    assert_eq!(class.as_str(), expected, "{sent:?}");
                } else {
                    // reqwest does not tell whether a byte had come.
                    assert!(["connection_reset", "connection_closed"].contains(&class.as_str()), "{sent:?}: {class:?}");
                }
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
            assert_eq!(class(&options, act).await, Failure::class("headers_too_large"));
        }
        assert_eq!(class(&options, Act::Flood(long, Vec::new(), PATIENCE)).await, Failure::class("headers_too_large"));
    });
}

/// Interim responses without end are the same to a client of its own; reqwest reads them until the limit.
#[test]
fn interim_responses_end_somewhere() {
    on_each(async |options| {
        let interim = b"HTTP/1.1 103 Early Hints\r\n\r\n".repeat(100);
        let (limit, failure) = match options.transport {
            TransportKind::Direct => (PATIENCE, Failure::class("headers_too_large")),
            TransportKind::Reqwest => (LIMIT, Failure::Timeout),
        };
        let act = Act::Flood(interim.clone(), interim, Duration::ZERO);
        assert_eq!(becomes_within(limit, &options, act).await.0, Err(failure));
    });
}

const CHUNKED: &str = "HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n";

/// Answers that can't be HTTP, each clearly so without a byte more.
fn not_http() -> Vec<String> {
    [
        "SSH-2.0-OpenSSH_9.2\r\n",
        "HTTP/9.9 200 OK\r\n\r\n",
        "HTTP/1.1 abc OK\r\n\r\n",
        "HTTP/1.1 200 OK\r\ncontent-length: 1\r\ncontent-length: 2\r\n\r\nab",
        "HTTP/1.1 200 OK\r\ncontent-length: -1\r\n\r\nab",
        "HTTP/1.1 200 OK\r\na\0b: c\r\n\r\n",
        "HTTP/1.1 200 OK\r\na: b\0c\r\n\r\n",
        "\0\0\0\0\0\0\0\0",
        &format!("{CHUNKED}zz\r\nab\r\n"),
        &format!("{CHUNKED}fffffffffffffffff\r\nab\r\n"),
        &format!("{CHUNKED}2\r\nabcd\r\n"),
    ]
    .map(str::to_owned)
    .into()
}

/// And its connection is not used again.
#[test]
fn what_is_not_http_is_a_protocol_error() {
    on_each(async |options| {
        for text in not_http() {
            assert_eq!(class(&options, answer_and_close(text.clone())).await, Failure::class("protocol"), "{text:?}");
            let garbage = text.clone();
            let server = Server::start(move |nth| answer(if nth == 0 { garbage.as_str() } else { OK })).await;
            let clients = clients(options.clone());
            let (mut client, request) = (clients.client(0), get(&clients, server.url()));
            assert_eq!(send(&mut client, &request).await.unwrap_err(), Failure::class("protocol"), "{text:?}");
            assert_eq!(send(&mut client, &request).await.unwrap().status, 200, "{text:?}");
            assert_eq!(server.seen.borrow().connections, 2, "{text:?}");
        }
    });
}

/// Answers with something changed here and there: whatever becomes of them, there is no panic, and the limit holds.
#[test]
fn answers_with_mistakes_end_by_the_limit() {
    let mut answers: Vec<Vec<u8>> = not_http().into_iter().map(String::into_bytes).collect();
    answers.extend([OK.into(), format!("{CHUNKED}3\r\nabc\r\n0\r\na: b\r\n\r\n").into_bytes()]);
    answers.push(b"HTTP/1.1 103 Early\r\n\r\nHTTP/1.1 302 Found\r\nlocation: /a\r\nset-cookie: a=b\r\n\r\n".into());
    answers.push(b"HTTP/1.1 200 OK\r\ncontent-encoding: zstd, gzip\r\ncontent-length: 4\r\n\r\n(\xb5/\xfd".into());
    // Where, what instead, and how many bytes of the old are left out.
    let change = (any::<prop::sample::Index>(), prop::collection::vec(any::<u8>(), 0..4), 0..6_usize);
    let mistakes =
        (prop::sample::select(answers), prop::collection::vec(change, 1..4)).prop_map(|(mut text, changes)| {
            for (place, new, left_out) in changes {
                let place = place.index(text.len() + 1);
                let end = (place + left_out).min(text.len());
                text.splice(place..end, new);
            }
            text
        });
    on_each(async |options| {
        let compression = vec![Coding::Gzip, Coding::Brotli, Coding::Zstd, Coding::Deflate];
        let clients = clients(HttpOptions { compression, ..options });
        let mut runner = TestRunner::new(Config { cases: 150, failure_persistence: None, ..Config::default() });
        for _ in 0..runner.config().cases {
            let text = mistakes.new_tree(&mut runner).unwrap().current();
            let sent = text.clone();
            let server = Server::start(move |_| answer_and_close(sent.clone())).await;
            let request = Request { timeout: LIMIT, ..get(&clients, server.url()) };
            let started = Instant::now();
            // A redirect may lead back here, so any end of it will do.
            let _ = send(&mut clients.client(0), &request).await;
            let took = started.elapsed();
            assert!(took < PATIENCE, "it hung for {took:?}: {:?}", String::from_utf8_lossy(&text));
        }
    });
}

/// 64 MiB of zeros in brotli.
const BROTLI_BOMB: &[u8] = b"\xcb\xff\xff?\xf8'\x00\xe2\xb1@ \xf7\xfe\x8f\xff\xff\x7f\xf0O\x00\xc4a\x11\x80\xee\xfd\x1f\xff\xff\xff\
      \xe0\x9f\x00\x88\xc3\x02\x00\xdd\xfb?\xfe\xff\xff\xc1?\x01\x10\x87\x05\x00\xba\xf7\x7f\xfc\xff\xff\x83\x7f\x02 \
      \x0e\x0b\x00t\xef\xff\xf8\xff\xff\x07\xff\x04@\x1c\x16\x00\xe8\xde\xff\xf1\xff\xff\x0f\xfe\t\x808,\x00\xd0\xbd\xff\xcb\
      \xff\xff?\xfc\x13\x00qX\x00\xa0{\xff\x07";

#[test]
fn a_bomb_is_not_unpacked() {
    let zeros = vec![0; 64 << 20];
    let mut gzip = GzEncoder::new(Vec::new(), Compression::best());
    let mut zlib = ZlibEncoder::new(Vec::new(), Compression::best());
    gzip.write_all(&zeros).unwrap();
    zlib.write_all(&zeros).unwrap();
    // One block of nothing in a window of 96 MiB, which the decoder would make room for.
    let window = b"\x28\xb5\x2f\xfd\x00\x84\x01\x00\x00".to_vec();
    let bodies = [
        ("gzip", gzip.finish().unwrap(), "body_too_large"),
        ("deflate", zlib.finish().unwrap(), "body_too_large"),
        ("br", BROTLI_BOMB.to_vec(), "body_too_large"),
        ("zstd", compress_to_vec(&zeros[..], CompressionLevel::Fastest), "body_too_large"),
        ("zstd", window, "decode_failed"),
        ("gzip", b"hi".to_vec(), "decode_failed"),
        ("br", b"hi".to_vec(), "decode_failed"),
        ("zstd", b"hi".to_vec(), "decode_failed"),
        ("deflate", b"hi".to_vec(), "decode_failed"),
        ("compress", b"hi".to_vec(), "decode_failed"),
    ];
    on_each(async |options| {
        for (coding, body, expected) in &bodies {
            let head =
                format!("HTTP/1.1 200 OK\r\ncontent-encoding: {coding}\r\ncontent-length: {}\r\n\r\n", body.len());
            let sent = answer([head.as_bytes(), body].concat());
            assert_eq!(becomes(&options, sent.clone()).await.0, Ok(200), "{coding}: as it came, it is small");
            let compression = vec![Coding::Gzip, Coding::Brotli, Coding::Zstd, Coding::Deflate];
            let options = HttpOptions { compression, ..options.clone() };
            assert_eq!(class(&options, sent).await, Failure::class(*expected), "{coding} of {} bytes", body.len());
        }
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

/// A name that leads to the metadata of a cloud's machine, and a redirect that comes from one that was allowed.
#[test]
fn names_and_detours_lead_nowhere_else() {
    on_each(async |options| {
        let resolve = vec![Mapping {
            host: "evil.test".into(),
            port: None,
            addresses: vec!["169.254.169.254:0".parse().unwrap()],
        }];
        let network = Network { resolve, ..Network::default() };
        let any = HttpOptions { redirect_hosts: vec!["*".into()], network, ..options };
        let to = |to: &str| answer(format!("HTTP/1.1 302 Found\r\nlocation: {to}\r\ncontent-length: 0\r\n\r\n"));
        for last in
            ["http://evil.test/latest/meta-data/", "http://169.254.169.254/", "http://[::ffff:169.254.169.254]/"]
        {
            let server = Server::start(move |nth| to(if nth == 0 { "/ok" } else { last })).await;
            let clients = clients(any.clone());
            let mut progress = Progress::default();
            let result = clients.client(0).send(&get(&clients, server.url()), &mut progress).await;
            assert_eq!(result.unwrap_err(), Failure::class("redirect_refused"), "{last}");
            assert_eq!((server.requests(), progress.follow_ups), (2, 1), "{last}");
        }
    });
}
