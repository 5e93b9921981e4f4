//! What every HTTP transport does alike, against a server that does exactly what a test says.
#![allow(clippy::unwrap_used, reason = "tests")]

use std::cell::RefCell;
use std::net::SocketAddr;
use std::rc::Rc;
use std::time::Duration;

use groundswell_scenario::plan::{Connections, HttpOptions, HttpVersion, TransportKind};
use groundswell_stats::{ErrorClass, Phases};
use http::{HeaderMap, Method};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::task::{LocalSet, spawn_local};
use tokio::time::sleep;
use url::Url;

use super::{Failure, HttpTransport, Request, Response, Target, Tls, Transport};

const OK: &str = "HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nhi";

/// What the server does with a request.
#[derive(Clone, Copy)]
enum Act {
    /// Answers and keeps the connection.
    Answer(&'static str),
    /// Answers and closes the connection without a word.
    AnswerAndClose(&'static str),
    /// Closes the connection instead of answering.
    Close,
    /// Says nothing.
    Hang,
}

/// A server on a port of its own, with what it has seen.
struct Server {
    address: SocketAddr,
    seen: Rc<RefCell<Seen>>,
}

#[derive(Default)]
struct Seen {
    connections: usize,
    requests: Vec<String>,
}

impl Server {
    async fn start(act: impl Fn(usize) -> Act + Clone + 'static) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let seen = Rc::new(RefCell::new(Seen::default()));
        let shared = Rc::clone(&seen);
        spawn_local(async move {
            while let Ok((stream, _)) = listener.accept().await {
                shared.borrow_mut().connections += 1;
                spawn_local(serve(stream, act.clone(), Rc::clone(&shared)));
            }
        });
        Server { address, seen }
    }

    fn url(&self) -> Url {
        Url::parse(&format!("http://{}/path?q=1", self.address)).unwrap()
    }

    fn requests(&self) -> usize {
        self.seen.borrow().requests.len()
    }
}

async fn serve(mut stream: TcpStream, act: impl Fn(usize) -> Act, seen: Rc<RefCell<Seen>>) {
    let mut buffer = Vec::new();
    loop {
        let end = loop {
            if let Some(end) = buffer.windows(4).position(|window| window == b"\r\n\r\n") {
                break end + 4;
            }
            if stream.read_buf(&mut buffer).await.unwrap_or(0) == 0 {
                return;
            }
        };
        let head = String::from_utf8(buffer.drain(..end).collect()).unwrap();
        let nth = seen.borrow().requests.len();
        seen.borrow_mut().requests.push(head);
        match act(nth) {
            Act::Answer(answer) => stream.write_all(answer.as_bytes()).await.unwrap(),
            Act::AnswerAndClose(answer) => return stream.write_all(answer.as_bytes()).await.unwrap(),
            Act::Close => return,
            Act::Hang => sleep(Duration::from_secs(60)).await,
        }
    }
}

fn options(transport: TransportKind) -> HttpOptions {
    HttpOptions {
        timeout: Duration::from_secs(10),
        version: HttpVersion::Auto,
        connections: Connections::PerUser,
        transport,
        cookies: true,
        headers: Vec::new(),
        insecure: false,
    }
}

/// Runs a test on each transport.
fn on_each<F: Future<Output = ()>>(test: impl Fn(HttpOptions, Tls) -> F) {
    for kind in [TransportKind::Direct, TransportKind::Reqwest] {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        LocalSet::new().block_on(&runtime, test(options(kind), Tls::new(false).unwrap()));
    }
}

fn get(url: Url) -> Request {
    Request {
        method: Method::GET,
        target: Target::new(url).unwrap(),
        headers: HeaderMap::new(),
        body: None,
        timeout: Duration::from_secs(10),
        keep_body: true,
    }
}

async fn send(transport: &Transport, request: Request) -> Result<Response, Failure> {
    transport.send(request, &mut Phases::default()).await
}

#[test]
fn one_connection_carries_all_requests_of_a_user() {
    on_each(async |options, tls| {
        let server = Server::start(|_| Act::Answer(OK)).await;
        let transport = Transport::new(&options, &tls).unwrap();
        for _ in 0..3 {
            let mut phases = Phases::default();
            let response = transport.send(get(server.url()), &mut phases).await.unwrap();
            assert_eq!((response.status, &response.body[..], response.bytes_received), (200, &b"hi"[..], 2));
            assert!(phases.first_byte_us.is_some());
        }
        assert_eq!((server.seen.borrow().connections, server.requests()), (1, 3));
        let head = server.seen.borrow().requests[0].to_lowercase();
        assert!(head.starts_with("get /path?q=1 http/1.1\r\n"), "{head}");
        assert!(head.contains(&format!("host: {}\r\n", server.address)) && head.contains("user-agent: groundswell/"));
        let other = transport.another(&options, &tls);
        send(&other, get(server.url())).await.unwrap();
        assert_eq!(server.seen.borrow().connections, 2, "another user has a connection of its own");
    });
}

#[test]
fn each_request_may_have_a_connection_of_its_own() {
    on_each(async |options, tls| {
        let server = Server::start(|_| Act::Answer(OK)).await;
        let options = HttpOptions { connections: Connections::PerRequest, ..options };
        let transport = Transport::new(&options, &tls).unwrap();
        for _ in 0..3 {
            send(&transport, get(server.url())).await.unwrap();
        }
        assert_eq!(server.seen.borrow().connections, 3);
    });
}

/// A target that closes idle connections: the next request goes over another one, and the target sees each once.
#[test]
fn a_stale_connection_costs_neither_a_request_nor_a_second_one() {
    on_each(async |options, tls| {
        let server = Server::start(|_| Act::AnswerAndClose(OK)).await;
        let transport = Transport::new(&options, &tls).unwrap();
        for _ in 0..5 {
            assert_eq!(send(&transport, get(server.url())).await.unwrap().status, 200);
            // Long enough for the end of the connection to arrive.
            sleep(Duration::from_millis(20)).await;
        }
        assert_eq!(server.requests(), 5);
    });
}

#[test]
fn nothing_is_sent_twice() {
    on_each(async |options, tls| {
        let server = Server::start(|nth| if nth == 0 { Act::Answer(OK) } else { Act::Close }).await;
        let transport = Transport::new(&options, &tls).unwrap();
        send(&transport, get(server.url())).await.unwrap();
        let failure = send(&transport, get(server.url())).await.unwrap_err();
        assert_eq!(failure, Failure::class("connection_closed"));
        assert_eq!(server.requests(), 2);
    });
}

#[test]
fn bodies_come_in_every_form() {
    const CHUNKED: &str = "HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n3\r\nabc\r\n2\r\nde\r\n0\r\n\r\n";
    const UNTIL_CLOSE: &str = "HTTP/1.0 200 OK\r\n\r\nall of it";
    const NONE: &str = "HTTP/1.1 204 No Content\r\n\r\n";
    on_each(async |options, tls| {
        let act = |nth| match nth {
            0 => Act::Answer(CHUNKED),
            1 => Act::Answer("HTTP/1.1 200 OK\r\ncontent-length: 9\r\n\r\n"),
            2 => Act::Answer(NONE),
            3 => Act::AnswerAndClose(UNTIL_CLOSE),
            _ => Act::Answer(OK),
        };
        let server = Server::start(act).await;
        let transport = Transport::new(&options, &tls).unwrap();
        assert_eq!(&send(&transport, get(server.url())).await.unwrap().body[..], b"abcde");
        let head = Request { method: Method::HEAD, ..get(server.url()) };
        assert_eq!(send(&transport, head).await.unwrap().bytes_received, 0);
        assert_eq!(send(&transport, get(server.url())).await.unwrap().status, 204);
        assert_eq!(&send(&transport, get(server.url())).await.unwrap().body[..], b"all of it");
        let dropped = send(&transport, Request { keep_body: false, ..get(server.url()) }).await.unwrap();
        assert_eq!((dropped.body.len(), dropped.bytes_received), (0, 2));
    });
}

#[test]
fn failures_have_their_classes() {
    on_each(async |options, tls| {
        let transport = Transport::new(&options, &tls).unwrap();
        let fails = async |act: Act| {
            let server = Server::start(move |_| act).await;
            let request = Request { timeout: Duration::from_millis(300), ..get(server.url()) };
            send(&transport, request).await.unwrap_err()
        };
        assert_eq!(fails(Act::Close).await, Failure::class("connection_closed"));
        assert_eq!(fails(Act::AnswerAndClose("nonsense\r\n\r\n")).await, Failure::class("protocol"));
        assert_eq!(fails(Act::Hang).await, Failure::Timeout);
        let short = "HTTP/1.1 200 OK\r\ncontent-length: 9\r\n\r\nhi";
        assert_eq!(fails(Act::AnswerAndClose(short)).await, Failure::class("connection_closed"));
        let free = TcpListener::bind("127.0.0.1:0").await.unwrap().local_addr().unwrap();
        let refused = send(&transport, get(Url::parse(&format!("http://{free}/")).unwrap())).await.unwrap_err();
        assert_eq!(refused, Failure::class("connection_refused"));
        let nowhere = send(&transport, get(Url::parse("http://nowhere.invalid/").unwrap())).await.unwrap_err();
        assert_eq!(nowhere, Failure::Error(ErrorClass::new("dns")));
    });
}

#[test]
fn a_user_keeps_its_cookies() {
    on_each(async |options, tls| {
        let with_cookie = "HTTP/1.1 200 OK\r\nset-cookie: id=7; Path=/\r\ncontent-length: 0\r\n\r\n";
        let server = Server::start(move |_| Act::Answer(with_cookie)).await;
        let transport = Transport::new(&options, &tls).unwrap();
        for _ in 0..2 {
            send(&transport, get(server.url())).await.unwrap();
        }
        send(&transport.another(&options, &tls), get(server.url())).await.unwrap();
        let has_cookie: Vec<bool> =
            server.seen.borrow().requests.iter().map(|head| head.to_lowercase().contains("cookie: id=7")).collect();
        assert_eq!(has_cookie, [false, true, false], "the second user is another one");
        let without = Transport::new(&HttpOptions { cookies: false, ..options }, &tls).unwrap();
        for _ in 0..2 {
            send(&without, get(server.url())).await.unwrap();
        }
        assert!(!server.seen.borrow().requests[4].to_lowercase().contains("cookie:"));
    });
}

/// Only the transport of our own can tell when a connection was open.
#[test]
fn the_time_to_connect_is_told_once() {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    LocalSet::new().block_on(&runtime, async {
        let server = Server::start(|_| Act::Answer(OK)).await;
        let transport = Transport::new(&options(TransportKind::Direct), &Tls::new(false).unwrap()).unwrap();
        for connects in [true, false] {
            let mut phases = Phases::default();
            transport.send(get(server.url()), &mut phases).await.unwrap();
            assert_eq!((phases.connect_us.is_some(), phases.tls_us), (connects, None));
        }
    });
}
