//! HTTP/2 without TLS, against a server of the library below.

use std::cell::Cell;

use bytes::Bytes;
use groundswell_scenario::http::{Connections, HttpVersion};
use h2::server::{Builder as H2, SendResponse};
use h2::{Reason, RecvStream};
use http::header::HOST;

use super::*;

/// What the server does with the nth request.
#[derive(Clone, Copy)]
pub(super) enum Do {
    Answer,
    /// Answers a moment later, while others come.
    AnswerLater,
    /// Answers when it has read the whole body.
    AnswerAfterBody,
    /// Answers and takes no further request on this connection.
    AnswerAndLeave,
    /// Answers when this many are in flight at once.
    AnswerTogether(usize),
    Reset(Reason),
    GoAway,
    /// Promises a body and resets in the middle of it.
    ResetInBody,
    Hang,
}

pub(super) struct Http2Server {
    address: SocketAddr,
    pub(super) seen: Rc<RefCell<Seen>>,
    /// Requests without an answer: now, and at the most.
    pub(super) open: Rc<Cell<(usize, usize)>>,
}

impl Http2Server {
    pub(super) async fn start(builder: H2, act: impl Fn(usize) -> Do + Clone + 'static) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let seen = Rc::new(RefCell::new(Seen::default()));
        let open = Rc::<Cell<(usize, usize)>>::default();
        let (shared, counter) = (Rc::clone(&seen), Rc::clone(&open));
        spawn_local(async move {
            while let Ok((stream, _)) = listener.accept().await {
                shared.borrow_mut().connections += 1;
                spawn_local(serve(stream, builder.clone(), act.clone(), Rc::clone(&shared), Rc::clone(&counter)));
            }
        });
        Http2Server { address, seen, open }
    }

    pub(super) fn url(&self) -> Url {
        Url::parse(&format!("http://{}/path?q=1", self.address)).unwrap()
    }
}

async fn serve(
    stream: TcpStream,
    builder: H2,
    act: impl Fn(usize) -> Do,
    seen: Rc<RefCell<Seen>>,
    open: Rc<Cell<(usize, usize)>>,
) {
    let Ok(mut connection) = builder.handshake::<_, Bytes>(stream).await else { return };
    let mut waiting: Vec<SendResponse<Bytes>> = Vec::new();
    while let Some(Ok((request, mut respond))) = connection.accept().await {
        let nth = seen.borrow().requests.len();
        seen.borrow_mut().requests.push(told(&request));
        match act(nth) {
            Do::Answer => answered(&mut respond),
            Do::AnswerLater => {
                let (now, most) = open.get();
                open.set((now + 1, most.max(now + 1)));
                let open = Rc::clone(&open);
                spawn_local(async move {
                    sleep(Duration::from_millis(20)).await;
                    let (now, most) = open.get();
                    open.set((now - 1, most));
                    answered(&mut respond);
                });
            }
            Do::AnswerAfterBody => {
                spawn_local(async move {
                    let mut body = request.into_body();
                    while let Some(Ok(data)) = body.data().await {
                        body.flow_control().release_capacity(data.len()).unwrap();
                    }
                    answered(&mut respond);
                });
            }
            Do::AnswerAndLeave => {
                answered(&mut respond);
                connection.graceful_shutdown();
            }
            Do::AnswerTogether(all) => {
                waiting.push(respond);
                if waiting.len() == all {
                    waiting.drain(..).for_each(|mut respond| answered(&mut respond));
                }
            }
            Do::Reset(reason) => respond.send_reset(reason),
            Do::GoAway => connection.abrupt_shutdown(Reason::ENHANCE_YOUR_CALM),
            Do::ResetInBody => {
                let mut body = respond.send_response(http::Response::new(()), false).unwrap();
                body.send_data(Bytes::from_static(b"hi"), false).unwrap();
                spawn_local(async move {
                    sleep(Duration::from_millis(50)).await;
                    body.send_reset(Reason::INTERNAL_ERROR);
                });
            }
            Do::Hang => waiting.push(respond),
        }
    }
    // What was said last is to arrive before the connection ends.
    sleep(Duration::from_millis(100)).await;
}

fn told(request: &http::Request<RecvStream>) -> String {
    format!("{} {} host={:?}", request.method(), request.uri(), request.headers().get(HOST))
}

fn answered(respond: &mut SendResponse<Bytes>) {
    let mut body = respond.send_response(http::Response::new(()), false).unwrap();
    body.send_data(Bytes::from_static(b"hi"), true).unwrap();
}

pub(super) fn http2(options: HttpOptions) -> HttpOptions {
    HttpOptions { version: HttpVersion::Http2, ..options }
}

#[test]
fn one_connection_carries_requests_one_after_another() {
    on_each(async |options| {
        let server = Http2Server::start(H2::new(), |_| Do::Answer).await;
        let clients = clients(http2(options));
        let (mut client, mut request) = (clients.client(0), get(&clients, server.url()));
        for _ in 0..3 {
            assert_eq!(&send(&mut client, &request).await.unwrap().body[..], b"hi");
        }
        assert_eq!((server.seen.borrow().connections, server.seen.borrow().requests.len()), (1, 3));
        assert_eq!(server.seen.borrow().requests[0], format!("GET {} host=None", server.url()));
        request.headers.insert(HOST, "other.test".parse().unwrap());
        send(&mut client, &request).await.unwrap();
        let seen = server.seen.borrow().requests[3].clone();
        assert!(seen.contains("other.test"), "{seen}");
    });
}

/// Sixteen users at once: on one connection, or on three, as the plan says.
#[test]
fn users_share_connections_and_their_streams_run_at_once() {
    on(async {
        for (most, connections) in [(None, 1), (Some(3), 3)] {
            let all = if connections == 1 { Do::AnswerTogether(16) } else { Do::Answer };
            let server = Http2Server::start(H2::new(), move |_| all).await;
            let shared = HttpOptions { connections: Connections::Shared { most }, ..HttpOptions::default() };
            let clients = clients(http2(shared));
            let request = get(&clients, server.url());
            let users = (0..16).map(|number| {
                let (mut client, request) = (clients.client(number), &request);
                async move { send(&mut client, request).await.unwrap().status }
            });
            assert_eq!(futures_util::future::join_all(users).await, [200; 16]);
            assert_eq!(server.seen.borrow().connections, connections);
        }
    });
}

#[test]
fn what_the_target_refuses_or_breaks_off_has_its_class() {
    on_each(async |options| {
        let cases = [
            (Do::Reset(Reason::INTERNAL_ERROR), "http2_reset"),
            (Do::Reset(Reason::REFUSED_STREAM), "http2_refused"),
            (Do::GoAway, "http2_goaway"),
            (Do::ResetInBody, "http2_reset"),
        ];
        for (act, class) in cases {
            let server = Http2Server::start(H2::new(), move |_| act).await;
            let clients = clients(http2(options.clone()));
            let failure = send(&mut clients.client(0), &get(&clients, server.url())).await.unwrap_err();
            let direct = options.transport == TransportKind::Direct;
            // reqwest does not tell how a connection ended.
            let class = if class == "http2_goaway" && !direct { "connection_reset" } else { class };
            assert_eq!(failure, Failure::class(class));
            assert_eq!(server.seen.borrow().requests.len(), 1, "{class}: nothing is sent again");
        }
    });
}

/// A target that is shut down in good order: what it has taken is answered, and the next request goes elsewhere.
#[test]
fn a_connection_that_takes_no_more_is_replaced() {
    on_each(async |options| {
        let act = |nth| if nth == 0 { Do::AnswerAndLeave } else { Do::Answer };
        let server = Http2Server::start(H2::new(), act).await;
        let clients = clients(http2(options));
        let (mut client, request) = (clients.client(0), get(&clients, server.url()));
        for connections in [1, 2] {
            assert_eq!(send(&mut client, &request).await.unwrap().status, 200);
            assert_eq!(server.seen.borrow().connections, connections);
            // Long enough for the end of the connection to arrive.
            sleep(Duration::from_millis(50)).await;
        }
        assert_eq!(server.seen.borrow().requests.len(), 2);
    });
}

#[test]
fn a_target_that_takes_one_stream_at_a_time_gets_one_at_a_time() {
    on_each(async |options| {
        for most in [Some(1), None] {
            let mut builder = H2::new();
            most.map(|most| builder.max_concurrent_streams(most));
            let server = Http2Server::start(builder, |_| Do::AnswerLater).await;
            let shared = Connections::Shared { most: None };
            let clients = clients(http2(HttpOptions { connections: shared, ..options.clone() }));
            let request = get(&clients, server.url());
            // reqwest sends as much as the protocol allows anybody until it knows what the target allows.
            if options.transport == TransportKind::Reqwest {
                send(&mut clients.client(0), &request).await.unwrap();
            }
            let users = (0..8).map(|number| {
                let (mut client, request) = (clients.client(number), &request);
                async move { send(&mut client, request).await.unwrap().status }
            });
            assert_eq!(futures_util::future::join_all(users).await, [200; 8]);
            let (left, most_open) = server.open.get();
            assert_eq!((left, most_open == 1), (0, most.is_some()), "{most_open} at once where it takes {most:?}");
        }
    });
}
