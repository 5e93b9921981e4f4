//! Connections, bodies, cookies, phases.

use bytes::Bytes;
use groundswell_scenario::http::Connections;
use http::header::CONTENT_TYPE;

use super::super::Streamed;
use super::*;

#[test]
fn one_connection_carries_all_requests_of_a_user() {
    on_each(async |options| {
        let server = Server::start(|_| answer(OK)).await;
        let clients = clients(options);
        let (mut client, request) = (clients.client(0), get(&clients, server.url()));
        for _ in 0..3 {
            let mut progress = Progress::default();
            let response = client.send(&request, &mut progress).await.unwrap();
            assert_eq!((response.status, &response.body[..], progress.bytes_received), (200, &b"hi"[..], 2));
            assert!(progress.phases.first_byte_us.is_some() && progress.phases.body_us.is_some());
        }
        assert_eq!((server.seen.borrow().connections, server.requests()), (1, 3));
        let head = server.seen.borrow().requests[0].to_lowercase();
        assert!(head.starts_with("get /path?q=1 http/1.1\r\n"), "{head}");
        assert!(head.contains(&format!("host: {}\r\n", server.address)) && head.contains("user-agent: groundswell/"));
        assert_eq!(head.matches("host:").count(), 1, "{head}");
        send(&mut clients.client(1), &request).await.unwrap();
        assert_eq!(server.seen.borrow().connections, 2, "another user has a connection of its own");
    });
}

#[test]
fn each_request_may_have_a_connection_of_its_own() {
    on_each(async |options| {
        let server = Server::start(|_| answer(OK)).await;
        let clients = clients(HttpOptions { connections: Connections::PerRequest, ..options });
        let (mut client, request) = (clients.client(0), get(&clients, server.url()));
        for _ in 0..3 {
            send(&mut client, &request).await.unwrap();
        }
        assert_eq!(server.seen.borrow().connections, 3);
        assert!(server.seen.borrow().requests[0].to_lowercase().contains("connection: close"));
    });
}

/// A pool of two for six users at once: never more than two connections, and every user has its own cookies.
#[test]
fn users_may_share_a_pool_of_a_size() {
    on(async {
        let server = Server::start(|_| answer("HTTP/1.1 200 OK\r\nset-cookie: a=1\r\ncontent-length: 0\r\n\r\n")).await;
        let connections = Connections::Shared { most: Some(2) };
        let clients = clients(HttpOptions { connections, ..HttpOptions::default() });
        let request = get(&clients, server.url());
        let users = (0..6).map(|number| {
            let (mut client, request) = (clients.client(number), &request);
            async move {
                send(&mut client, request).await.unwrap();
                send(&mut client, request).await.unwrap();
            }
        });
        futures_util::future::join_all(users).await;
        assert_eq!((server.seen.borrow().connections, server.requests()), (2, 12));
        let with_cookie = |head: &&String| head.to_lowercase().contains("cookie: a=1");
        assert_eq!(server.seen.borrow().requests.iter().filter(with_cookie).count(), 6);
    });
}

/// A target that closes idle connections: the next request goes over another one, and the target sees each once.
#[test]
fn a_stale_connection_costs_neither_a_request_nor_a_second_one() {
    on_each(async |options| {
        let server = Server::start(|_| answer_and_close(OK)).await;
        let clients = clients(options);
        let (mut client, request) = (clients.client(0), get(&clients, server.url()));
        for _ in 0..5 {
            assert_eq!(send(&mut client, &request).await.unwrap().status, 200);
            // Long enough for the end of the connection to arrive.
            sleep(Duration::from_millis(20)).await;
        }
        assert_eq!(server.requests(), 5);
    });
}

#[test]
fn nothing_is_sent_twice() {
    on_each(async |options| {
        let server = Server::start(|nth| if nth == 0 { answer(OK) } else { answer_and_close("") }).await;
        let stale = if options.transport == TransportKind::Direct { "stale_connection" } else { "connection_closed" };
        let clients = clients(options);
        let (mut client, request) = (clients.client(0), get(&clients, server.url()));
        send(&mut client, &request).await.unwrap();
        assert_eq!(send(&mut client, &request).await.unwrap_err(), Failure::class(stale));
        assert_eq!(server.requests(), 2);
    });
}

/// Unless the plan wants it: then once, counted, and only what may be sent twice.
#[test]
fn a_request_on_a_stale_connection_is_sent_again_where_the_plan_says_so() {
    on(async {
        let server = Server::start(|nth| if nth % 2 == 0 { answer(OK) } else { answer_and_close("") }).await;
        let clients = clients(HttpOptions { retry_stale: true, ..HttpOptions::default() });
        let (mut client, request) = (clients.client(0), get(&clients, server.url()));
        send(&mut client, &request).await.unwrap();
        let mut progress = Progress::default();
        assert_eq!(client.send(&request, &mut progress).await.unwrap().status, 200);
        assert_eq!((server.requests(), progress.follow_ups), (3, 1));
        let post = Request { method: Method::POST, ..request };
        assert_eq!(send(&mut client, &post).await.unwrap_err(), Failure::class("stale_connection"));
        assert_eq!(server.requests(), 4);
    });
}

#[test]
fn bodies_come_in_every_form() {
    const CHUNKED: &str = "HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n3\r\nabc\r\n2\r\nde\r\n0\r\n\r\n";
    const UNTIL_CLOSE: &str = "HTTP/1.0 200 OK\r\n\r\nall of it";
    const NONE: &str = "HTTP/1.1 204 No Content\r\n\r\n";
    on_each(async |options| {
        let act = |nth| match nth {
            0 => answer(CHUNKED),
            1 => answer("HTTP/1.1 200 OK\r\ncontent-length: 9\r\n\r\n"),
            2 => answer(NONE),
            3 => answer_and_close(UNTIL_CLOSE),
            _ => answer(OK),
        };
        let server = Server::start(act).await;
        let clients = clients(options);
        let (mut client, request) = (clients.client(0), get(&clients, server.url()));
        assert_eq!(&send(&mut client, &request).await.unwrap().body[..], b"abcde");
        let head = Request { method: Method::HEAD, ..request.clone() };
        assert_eq!(send(&mut client, &head).await.unwrap().body.len(), 0);
        assert_eq!(send(&mut client, &request).await.unwrap().status, 204);
        assert_eq!(&send(&mut client, &request).await.unwrap().body[..], b"all of it");
        let mut progress = Progress::default();
        let dropped = client.send(&Request { keep_body: false, ..request }, &mut progress).await.unwrap();
        assert_eq!((dropped.body.len(), progress.bytes_received), (0, 2));
    });
}

#[test]
fn bodies_go_out_in_every_form() {
    on_each(async |options| {
        let server = Server::start(|_| answer(OK)).await;
        let clients = clients(options);
        let mut client = clients.client(0);
        let parts = [Bytes::from_static(b"ab"), Bytes::from_static(b"cde")];
        let stream = Streamed::of(Bytes::from_static(b"abcde"), 2, Duration::ZERO);
        let payloads = [
            Payload::Whole(Bytes::from_static(b"abcde")),
            Payload::Parts(parts.into()),
            Payload::Stream(Arc::new(stream)),
        ];
        for payload in payloads {
            let mut request = Request { method: Method::POST, payload, ..get(&clients, server.url()) };
            request.headers.insert(CONTENT_TYPE, "text/x-test".parse().unwrap());
            let mut progress = Progress::default();
            client.send(&request, &mut progress).await.unwrap();
            assert_eq!(progress.bytes_sent, 5);
        }
        let seen = server.seen.borrow();
        assert!(seen.requests[..2].iter().all(|request| request.ends_with("\r\n\r\nabcde")), "{:?}", seen.requests);
        assert!(seen.requests[..2].iter().all(|request| request.contains("content-length: 5")), "{:?}", seen.requests);
        assert!(seen.requests[2].contains("chunked") && seen.requests[2].contains("2\r\nab\r\n2\r\ncd\r\n1\r\ne\r\n"));
        assert!(seen.requests.iter().all(|request| request.contains("content-type: text/x-test")));
    });
}

#[test]
fn failures_have_their_classes() {
    on_each(async |options| {
        let clients = clients(options);
        let fails = async |act: Act| {
            let seconds = if matches!(act, Act::Hang) { 1 } else { 60 };
            let server = Server::start(move |_| act.clone()).await;
            let request = Request { timeout: Duration::from_secs(seconds), ..get(&clients, server.url()) };
            send(&mut clients.client(0), &request).await.unwrap_err()
        };
        assert_eq!(fails(answer_and_close("")).await, Failure::class("connection_closed"));
        assert_eq!(fails(answer_and_close("nonsense\r\n\r\n")).await, Failure::class("protocol"));
        assert_eq!(fails(Act::Hang).await, Failure::Timeout);
        let short = "HTTP/1.1 200 OK\r\ncontent-length: 9\r\n\r\nhi";
        assert_eq!(fails(answer_and_close(short)).await, Failure::class("closed_in_body"));
        let mut client = clients.client(0);
        let free = TcpListener::bind("127.0.0.1:0").await.unwrap().local_addr().unwrap();
        let nowhere = get(&clients, Url::parse(&format!("http://{free}/")).unwrap());
        assert_eq!(send(&mut client, &nowhere).await.unwrap_err(), Failure::class("connection_refused"));
        let unknown = get(&clients, Url::parse("http://nowhere.invalid/").unwrap());
        assert_eq!(send(&mut client, &unknown).await.unwrap_err(), Failure::class("dns"));
    });
}

#[test]
fn a_user_keeps_its_cookies() {
    on_each(async |options| {
        let with_cookie = "HTTP/1.1 200 OK\r\nset-cookie: id=7; Path=/\r\ncontent-length: 0\r\n\r\n";
        let server = Server::start(move |_| answer(with_cookie)).await;
        let cookies = clients(options.clone());
        let (mut client, request) = (cookies.client(0), get(&cookies, server.url()));
        for _ in 0..2 {
            send(&mut client, &request).await.unwrap();
        }
        send(&mut cookies.client(1), &request).await.unwrap();
        let none = clients(HttpOptions { cookies: false, ..options });
        let mut client = none.client(0);
        for _ in 0..2 {
            send(&mut client, &request).await.unwrap();
        }
        let has_cookie: Vec<bool> =
            server.seen.borrow().requests.iter().map(|head| head.to_lowercase().contains("cookie: id=7")).collect();
        assert_eq!(has_cookie, [false, true, false, false, false], "the second user is another one");
    });
}

/// Only the transport of our own can tell when a connection was open.
#[test]
fn the_time_to_connect_is_told_once() {
    on(async {
        let server = Server::start(|_| answer(OK)).await;
        let clients = clients(HttpOptions::default());
        let by_name = Url::parse(&format!("http://localhost:{}/", server.address.port())).unwrap();
        let (mut client, request) = (clients.client(0), get(&clients, by_name));
        for connects in [true, false] {
            let mut progress = Progress::default();
            client.send(&request, &mut progress).await.unwrap();
            let phases = progress.phases;
            assert_eq!(
                (phases.dns_us.is_some(), phases.connect_us.is_some(), phases.tls_us),
                (connects, connects, None)
            );
        }
    });
}
