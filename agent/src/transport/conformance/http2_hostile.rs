//! Targets that abuse HTTP/2: heads without end, resets, nothing allowed.

use std::cell::Cell;

use bytes::Bytes;
use groundswell_scenario::http::Connections;
use h2::Reason;
use h2::server::Builder as H2;

use super::http2::{Do, Http2Server, http2};
use super::*;

/// Limit of requests that nothing else ends.
const LIMIT: Duration = Duration::from_secs(1);
/// Frame types and flags (RFC 9113, section 6).
const HEADERS: u8 = 1;
const SETTINGS: u8 = 4;
const CONTINUATION: u8 = 9;
const END_STREAM: u8 = 1;
const END_HEADERS: u8 = 4;
/// Largest payload of a frame that a client takes unasked.
const FRAME: usize = 16 << 10;
/// `:status: 200`, from the static table of RFC 7541.
const STATUS_200: u8 = 0x88;
/// The newest entry of the dynamic table (RFC 7541, section 2.3.3).
const NEWEST: u8 = 0x80 | 62;

fn frame(kind: u8, flags: u8, stream: u32, payload: &[u8]) -> Vec<u8> {
    let length = u32::try_from(payload.len()).unwrap().to_be_bytes();
    [&length[1..], &[kind, flags], &stream.to_be_bytes(), payload].concat()
}

/// A length in a prefix of seven bits (RFC 7541, section 5.1).
fn length(mut value: usize) -> Vec<u8> {
    if value < 127 {
        return vec![u8::try_from(value).unwrap()];
    }
    let mut bytes = vec![127];
    value -= 127;
    while value >= 128 {
        bytes.push(u8::try_from(value % 128).unwrap() | 128);
        value /= 128;
    }
    bytes.push(u8::try_from(value).unwrap());
    bytes
}

/// A header as it is said in full; `0x40` before it puts it into the dynamic table.
fn literal(prefix: u8, name: &str, value: &[u8]) -> Vec<u8> {
    [&[prefix][..], &length(name.len()), name.as_bytes(), &length(value.len()), value].concat()
}

/// The frames of a head, all of them but the first CONTINUATION.
fn head(block: &[u8]) -> Vec<u8> {
    let pieces = block.chunks(FRAME).count();
    let frames = block.chunks(FRAME).enumerate().map(|(nth, piece)| {
        let kind = if nth == 0 { HEADERS } else { CONTINUATION };
        let is_last = nth + 1 == pieces;
        frame(kind, if is_last { END_HEADERS } else { 0 }, 1, piece)
    });
    frames.collect::<Vec<_>>().concat()
}

/// A server that speaks frames, to say what no library would: the first request on the first connection gets these, and
/// then the last again without end; those on other connections get an answer.
struct Frames {
    address: SocketAddr,
    connections: Rc<Cell<usize>>,
    /// Bytes that were sent in answer to the first request.
    sent: Rc<Cell<usize>>,
}

impl Frames {
    async fn start(first: Vec<u8>, again: Vec<u8>) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let (connections, sent) = (Rc::<Cell<usize>>::default(), Rc::<Cell<usize>>::default());
        let (nth, counter) = (Rc::clone(&connections), Rc::clone(&sent));
        let flood = Rc::new((first, again));
        spawn_local(async move {
            while let Ok((stream, _)) = listener.accept().await {
                nth.set(nth.get() + 1);
                let (flood, counter) = ((nth.get() == 1).then(|| Rc::clone(&flood)), Rc::clone(&counter));
                spawn_local(async move { Frames::serve(stream, flood, counter).await.unwrap_or_default() });
            }
        });
        Frames { address, connections, sent }
    }

    async fn serve(
        mut stream: TcpStream,
        flood: Option<Rc<(Vec<u8>, Vec<u8>)>>,
        sent: Rc<Cell<usize>>,
    ) -> std::io::Result<()> {
        stream.write_all(&frame(SETTINGS, 0, 0, &[])).await?;
        // The client's preface, and its frames up to the request.
        stream.read_exact(&mut [0; 24]).await?;
        loop {
            let mut start = [0; 9];
            stream.read_exact(&mut start).await?;
            let mut payload = vec![0; u32::from_be_bytes([0, start[0], start[1], start[2]]) as usize];
            stream.read_exact(&mut payload).await?;
            if start[3] == HEADERS {
                break;
            }
        }
        if let Some(flood) = flood {
            let (first, again) = &*flood;
            let mut next = first;
            while !next.is_empty() {
                for piece in next.chunks(FRAME) {
                    stream.write_all(piece).await?;
                    sent.set(sent.get() + piece.len());
                }
                next = again;
            }
        } else {
            stream.write_all(&frame(HEADERS, END_HEADERS | END_STREAM, 1, &[STATUS_200])).await?;
        }
        // Until the client closes it.
        while stream.read(&mut [0; 1024]).await? > 0 {}
        Ok(())
    }

    fn url(&self) -> Url {
        Url::parse(&format!("http://{}/", self.address)).unwrap()
    }
}

/// Heads that are too large in every way there is. The library below tells some of them from malformed ones, and ends the
/// connection; of those that are a little too large it says what it says of malformed ones, and ends the request.
#[test]
fn heads_without_end_are_refused() {
    on_each(async |options| {
        let small = literal(0, "a", b"b");
        let many: Vec<u8> = (0..100_000).flat_map(|nth| literal(0, &format!("h{nth}"), b"x")).collect();
        let long = literal(0, "long", &vec![b'x'; 100_000_000]);
        // A short word for a long header, said again and again.
        let entry = literal(0x40, "a", &[b'x'; 4_000]);
        let bomb = |times: usize| head(&[&[STATUS_200][..], &entry, &vec![NEWEST; times]].concat());
        let start = [STATUS_200];
        let cases = [
            ("continuations", frame(HEADERS, 0, 1, &start), frame(CONTINUATION, 0, 1, &small), "headers_too_large"),
            ("many", head(&[&start[..], &many].concat()), Vec::new(), "headers_too_large"),
            ("long", head(&[&start[..], &long].concat()), Vec::new(), "headers_too_large"),
            ("bomb", bomb(12_000), Vec::new(), "headers_too_large"),
            ("a little", bomb(20), Vec::new(), "protocol"),
        ];
        for (name, first, again, class) in cases {
            let server = Frames::start(first, again).await;
            let clients = clients(http2(options.clone()));
            let (mut client, request) = (clients.client(0), get(&clients, server.url()));
            assert_eq!(send(&mut client, &request).await.unwrap_err(), Failure::class(class), "{name}");
            assert_eq!(server.connections.get(), 1, "{name}: nothing is sent again");
            assert!(server.sent.get() < 50_000_000, "{name}: {} bytes were taken", server.sent.get());
            // A connection that was ended is not used again.
            if class == "headers_too_large" {
                assert_eq!(send(&mut client, &request).await.unwrap().status, 200, "{name}");
                assert_eq!(server.connections.get(), 2, "{name}");
            }
        }
    });
}

/// A storm of resets, one after the other and at once: every request gets its class, none is lost or hangs.
#[test]
fn a_storm_of_resets_is_counted_to_the_last() {
    on_each(async |options| {
        let server = Http2Server::start(H2::new(), |_| Do::Reset(Reason::CANCEL)).await;
        let shared = HttpOptions { connections: Connections::Shared { most: None }, ..options };
        let clients = clients(http2(shared));
        let request = get(&clients, server.url());
        let users = (0..50).map(|number| {
            let (mut client, request) = (clients.client(number), &request);
            async move {
                for _ in 0..10 {
                    assert_eq!(send(&mut client, request).await.unwrap_err(), Failure::class("http2_reset"));
                }
            }
        });
        futures_util::future::join_all(users).await;
        assert_eq!(server.seen.borrow().requests.len(), 500);
    });
}

/// A target that takes one request at a time and leaves after each, while others wait for their turn on its connection:
/// those that got no answer are told how the connection ended, and no request is seen twice.
#[test]
fn what_waits_on_a_connection_that_ends_is_no_error_of_the_protocol() {
    on_each(async |options| {
        let mut one = H2::new();
        one.max_concurrent_streams(1);
        let server = Http2Server::start(one, |_| Do::AnswerAndLeave).await;
        let shared = HttpOptions { connections: Connections::Shared { most: None }, ..options.clone() };
        let clients = clients(http2(shared));
        let request = get(&clients, server.url());
        let users = (0..8).map(|number| {
            let (mut client, request) = (clients.client(number), &request);
            async move {
                let mut answered = 0;
                for _ in 0..10 {
                    match send(&mut client, request).await {
                        Ok(_) => answered += 1,
                        Err(Failure::Error(class)) => assert!(TOLD.contains(&class.as_str()), "{class:?}"),
                        Err(other) => panic!("{other:?}"),
                    }
                }
                answered
            }
        });
        let answered: usize = futures_util::future::join_all(users).await.iter().sum();
        assert!(answered > 0 && server.seen.borrow().requests.len() >= answered, "{answered} of 80");
    });
}

/// What may be told of a connection that the target left in good order.
const TOLD: &[&str] = &["stale_connection", "connection_closed", "connection_reset", "http2_goaway", "http2_refused"];

/// No stream is allowed, or nothing is said: the request is refused, or the limit of the whole ends it.
#[test]
fn a_target_that_allows_nothing_holds_nobody_beyond_the_limit() {
    on_each(async |options| {
        let mut none = H2::new();
        none.max_concurrent_streams(0);
        for (builder, act) in [(none, Do::Answer), (H2::new(), Do::Hang)] {
            let server = Http2Server::start(builder, move |_| act).await;
            let clients = clients(http2(options.clone()));
            let request = posted(&clients, &server, LIMIT);
            let failure = send(&mut clients.client(0), &request).await.unwrap_err();
            assert!(failure == Failure::Timeout || failure == Failure::class("http2_refused"), "{failure:?}");
        }
    });
}

/// A target that lets not a byte of a body through has the request and waits for the rest, and so does the client.
#[test]
fn a_window_of_nothing_lets_a_request_wait() {
    on_each(async |options| {
        let mut nothing = H2::new();
        nothing.initial_window_size(0);
        let patient = Duration::from_secs(60);
        for (builder, limit, becomes) in [(nothing, LIMIT, Err(Failure::Timeout)), (H2::new(), patient, Ok(200))] {
            let server = Http2Server::start(builder, |_| Do::AnswerAfterBody).await;
            let clients = clients(http2(options.clone()));
            let mut client = clients.client(0);
            // What the target allows is known from its first answer on; until then, what the protocol allows anybody.
            assert_eq!(send(&mut client, &get(&clients, server.url())).await.unwrap().status, 200);
            let result = send(&mut client, &posted(&clients, &server, limit)).await;
            assert_eq!(result.map(|response| response.status), becomes);
            assert_eq!(server.seen.borrow().requests.len(), 2);
        }
    });
}

/// A request with a body.
fn posted(clients: &Clients, server: &Http2Server, timeout: Duration) -> Request {
    let payload = Payload::Whole(Bytes::from_static(b"body"));
    Request { method: Method::POST, payload, timeout, ..get(clients, server.url()) }
}
