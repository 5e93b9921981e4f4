//! Redirects, logins, codings, limits, names.

use bytes::Bytes;
use flate2::Compression;
use flate2::write::{DeflateEncoder, GzEncoder, ZlibEncoder};
use groundswell_scenario::http::{AddressFamily, Coding, Mapping, Network};
use http::header::{AUTHORIZATION, CONTENT_TYPE, HOST};
use ruzstd::encoding::{CompressionLevel, compress_to_vec};

use super::super::{Handshake, Login, Socket};
use super::*;

fn redirect(status: u16, to: &str) -> Act {
    answer(format!("HTTP/1.1 {status} Elsewhere\r\nlocation: {to}\r\ncontent-length: 0\r\n\r\n"))
}

#[test]
fn redirects_are_followed_and_each_is_counted() {
    on_each(async |options| {
        let act = |nth| match nth {
            0 => redirect(302, "/second"),
            1 => redirect(307, "third?x=1"),
            _ => answer(OK),
        };
        let server = Server::start(act).await;
        let clients = clients(options);
        let mut progress = Progress::default();
        let response = clients.client(0).send(&get(&clients, server.url()), &mut progress).await.unwrap();
        assert_eq!((response.status, progress.follow_ups), (200, 2));
        let lines: Vec<String> =
            server.seen.borrow().requests.iter().filter_map(|head| head.lines().next().map(str::to_owned)).collect();
        assert_eq!(lines, ["GET /path?q=1 HTTP/1.1", "GET /second HTTP/1.1", "GET /third?x=1 HTTP/1.1"]);
    });
}

#[test]
fn a_redirect_may_be_left_and_a_loop_ends() {
    on_each(async |options| {
        let server = Server::start(|_| redirect(301, "/again")).await;
        let clients = clients(options);
        let request = Request { max_redirects: 0, ..get(&clients, server.url()) };
        assert_eq!(send(&mut clients.client(0), &request).await.unwrap().status, 301);
        let request = Request { max_redirects: 3, ..request };
        assert_eq!(send(&mut clients.client(0), &request).await.unwrap_err(), Failure::class("redirect_limit"));
        assert_eq!(server.requests(), 1 + 4);
    });
}

/// A form that is answered with "see other" is not sent again; one that is to be sent elsewhere is, whole.
#[test]
fn methods_and_bodies_follow_the_status() {
    on_each(async |options| {
        for (status, line, has_body) in [(303, "GET /b", false), (302, "GET /b", false), (308, "POST /b", true)] {
            let server = Server::start(move |nth| if nth == 0 { redirect(status, "/b") } else { answer(OK) }).await;
            let clients = clients(options.clone());
            let payload = Payload::Whole(Bytes::from_static(b"a=1"));
            let mut request = Request { method: Method::POST, payload, ..get(&clients, server.url()) };
            request.headers.insert(CONTENT_TYPE, "text/x-test".parse().unwrap());
            send(&mut clients.client(0), &request).await.unwrap();
            let second = server.seen.borrow().requests[1].clone();
            assert!(second.starts_with(line), "{second}");
            assert_eq!((second.ends_with("a=1"), second.contains("text/x-test")), (has_body, has_body), "{second}");
        }
    });
}

#[test]
fn what_is_meant_for_one_host_is_not_told_to_another() {
    on_each(async |options| {
        let other = Server::start(|_| answer(OK)).await;
        let to = format!("http://localhost:{}/", other.address.port());
        let server = Server::start(move |_| redirect(302, &to)).await;
        let refused = clients(options.clone());
        let request = get(&refused, server.url());
        let failure = send(&mut refused.client(0), &request).await.unwrap_err();
        assert_eq!(failure, Failure::class("redirect_refused"));
        assert_eq!(other.requests(), 0);
        let network = Network { family: AddressFamily::Ipv4, ..Network::default() };
        let allowed = clients(HttpOptions { redirect_hosts: vec!["localhost".into()], network, ..options });
        let mut request = get(&allowed, server.url());
        request.headers.insert(AUTHORIZATION, "Bearer secret".parse().unwrap());
        assert_eq!(send(&mut allowed.client(0), &request).await.unwrap().status, 200);
        assert!(server.seen.borrow().requests[1].contains("Bearer secret"));
        let seen = other.seen.borrow().requests[0].to_lowercase();
        assert!(!seen.contains("secret") && seen.contains(&format!("host: localhost:{}\r\n", other.address.port())));
    });
}

/// The answers are checked by httpbin in the end-to-end tests; this one shows what is asked when.
#[test]
fn a_digest_challenge_is_answered_once_and_used_again() {
    const CHALLENGE: &str = "HTTP/1.1 401 Who\r\nwww-authenticate: Digest realm=\"r\", nonce=\"n\", qop=\"auth\", \
                             algorithm=SHA-256\r\ncontent-length: 0\r\n\r\n";
    on_each(async |options| {
        let server = Server::start(|nth| answer(if nth == 0 { CHALLENGE } else { OK })).await;
        let clients = clients(options);
        let login = Login { user: "me".into(), password: "secret".into() };
        let request = Request { login: Some(Arc::new(login)), ..get(&clients, server.url()) };
        let mut client = clients.client(0);
        for follow_ups in [1, 0] {
            let mut progress = Progress::default();
            assert_eq!(client.send(&request, &mut progress).await.unwrap().status, 200);
            assert_eq!(progress.follow_ups, follow_ups);
        }
        let seen = server.seen.borrow();
        let count = |request: usize| seen.requests[request].to_lowercase().find("nc=0000000");
        assert!(!seen.requests[0].to_lowercase().contains("authorization"));
        assert!(count(1).is_some() && count(2).is_some() && seen.requests[2].contains("nc=00000002"));
    });
}

fn encoded(coding: &str, body: &[u8]) -> Act {
    let mut message =
        format!("HTTP/1.1 200 OK\r\ncontent-encoding: {coding}\r\ncontent-length: {}\r\n\r\n", body.len()).into_bytes();
    message.extend_from_slice(body);
    Act::Answer(message)
}

#[test]
fn codings_are_asked_for_and_undone_only_where_the_plan_wants_them() {
    on_each(async |options| {
        let text = b"groundswell ".repeat(20);
        let mut gzip = GzEncoder::new(Vec::new(), Compression::fast());
        let mut zlib = ZlibEncoder::new(Vec::new(), Compression::fast());
        let mut raw = DeflateEncoder::new(Vec::new(), Compression::fast());
        for writer in [&mut gzip as &mut dyn std::io::Write, &mut zlib, &mut raw] {
            writer.write_all(&text).unwrap();
        }
        // "groundswell " twenty times.
        let brotli = b"\x1b\xef\x00\xf8\xa5A\xca\xd8\xeeT!\xab\xd5\x02\xd6\xe8z\xb6\x00".to_vec();
        let bodies = [
            ("gzip", gzip.finish().unwrap()),
            ("deflate", zlib.finish().unwrap()),
            ("deflate", raw.finish().unwrap()),
            ("br", brotli),
            ("zstd", compress_to_vec(&text[..], CompressionLevel::Fastest)),
        ];
        for (coding, body) in bodies {
            let sent = body.clone();
            let server = Server::start(move |_| encoded(coding, &sent)).await;
            let asks = clients(HttpOptions { compression: vec![Coding::Gzip, Coding::Brotli], ..options.clone() });
            let mut progress = Progress::default();
            let response = asks.client(0).send(&get(&asks, server.url()), &mut progress).await.unwrap();
            assert_eq!((&response.body[..], progress.bytes_received), (&text[..], body.len() as u64));
            let plain = clients(options.clone());
            let response = send(&mut plain.client(0), &get(&plain, server.url())).await.unwrap();
            assert_eq!(response.body, body, "as it came");
            let seen = server.seen.borrow().requests.iter().map(|head| head.to_lowercase()).collect::<Vec<_>>();
            assert!(
                seen[0].contains("accept-encoding: gzip, br\r\n") && !seen[1].contains("accept-encoding"),
                "{seen:?}"
            );
        }
    });
}

#[test]
fn names_may_be_mapped_and_a_host_header_set() {
    on_each(async |options| {
        let server = Server::start(|_| answer(OK)).await;
        let address = SocketAddr::new(server.address.ip(), 0);
        let resolve = vec![Mapping { host: "shop.test".into(), port: None, addresses: vec![address] }];
        let clients = clients(HttpOptions { network: Network { resolve, ..Network::default() }, ..options });
        let url = Url::parse(&format!("http://shop.test:{}/", server.address.port())).unwrap();
        let mut request = get(&clients, url);
        send(&mut clients.client(0), &request).await.unwrap();
        request.headers.insert(HOST, "other.test".parse().unwrap());
        send(&mut clients.client(0), &request).await.unwrap();
        let seen = server.seen.borrow().requests.iter().map(|head| head.to_lowercase()).collect::<Vec<_>>();
        assert!(seen[0].contains("host: shop.test:") && seen[1].contains("host: other.test\r\n"), "{seen:?}");
    });
}

#[test]
fn several_source_addresses_are_used_in_turn() {
    on_each(async |options| {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let seen = Rc::new(RefCell::new(Vec::new()));
        let from = Rc::clone(&seen);
        spawn_local(async move {
            while let Ok((mut stream, peer)) = listener.accept().await {
                from.borrow_mut().push(peer.ip().to_string());
                let mut buffer = Vec::new();
                read_request(&mut stream, &mut buffer).await;
                stream.write_all(OK.as_bytes()).await.unwrap();
            }
        });
        let bind = vec!["127.0.0.2".parse().unwrap(), "127.0.0.3".parse().unwrap()];
        let clients = clients(HttpOptions { network: Network { bind, ..Network::default() }, ..options });
        let request = get(&clients, Url::parse(&format!("http://{address}/")).unwrap());
        for user in 0..4 {
            send(&mut clients.client(user), &request).await.unwrap();
        }
        let mut seen = seen.borrow().clone();
        seen.sort();
        assert_eq!(seen, ["127.0.0.2", "127.0.0.2", "127.0.0.3", "127.0.0.3"]);
    });
}

/// By its address and by a name; WebSockets as well.
#[test]
fn targets_may_be_reached_over_ipv6() {
    on_each(async |options| {
        let Ok(listener) = TcpListener::bind("[::1]:0").await else { return };
        let server = Server::on(listener, |_| answer(OK));
        let resolve =
            vec![Mapping { host: "shop.test".into(), port: None, addresses: vec!["[::1]:0".parse().unwrap()] }];
        let network = Network { resolve, family: AddressFamily::Ipv6, bind: vec!["::1".parse().unwrap()] };
        let clients = clients(HttpOptions { network, ..options });
        let mut client = clients.client(0);
        for url in [server.url(), Url::parse(&format!("http://shop.test:{}/", server.address.port())).unwrap()] {
            assert_eq!(send(&mut client, &get(&clients, url)).await.unwrap().status, 200);
        }
        let host = format!("host: [::1]:{}\r\n", server.address.port());
        assert!(server.seen.borrow().requests[0].to_lowercase().contains(&host), "{:?}", server.seen.borrow().requests);
        let url = Url::parse(&format!("ws://{}/", server.address)).unwrap();
        let handshake = Handshake { url, headers: HeaderMap::new(), timeout: Duration::from_secs(10) };
        let opened = Socket::open(&handshake, &clients, &mut Progress::default()).await;
        assert_eq!(opened.err(), Some(Failure::class("ws_upgrade_refused_200")), "it was asked, and refused");
    });
}

/// A target that takes connections and says nothing in the TLS handshake.
#[test]
fn a_limit_for_connecting_is_its_own_class() {
    on_each(async |options| {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = Url::parse(&format!("https://{}/", listener.local_addr().unwrap())).unwrap();
        let clients = clients(HttpOptions { connect_timeout: Some(Duration::from_millis(200)), ..options });
        let request = Request { timeout: Duration::from_secs(60), ..get(&clients, url) };
        assert_eq!(send(&mut clients.client(0), &request).await.unwrap_err(), Failure::class("connect_timeout"));
    });
}
