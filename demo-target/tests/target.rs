//! The demo target from outside: every endpoint, every fault, the WebSocket protocol.
#![allow(clippy::unwrap_used, reason = "tests")]

use std::net::SocketAddr;
use std::time::Duration;

use futures_util::{SinkExt, StreamExt};
use groundswell_demo_target::{DemoTargetOptions, serve};
use serde_json::{Value, json};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio_tungstenite::tungstenite::protocol::CloseFrame;
use tokio_tungstenite::tungstenite::protocol::frame::coding::CloseCode;
use tokio_tungstenite::tungstenite::{Error, Message};
use tokio_tungstenite::{WebSocketStream, client_async};
use tokio_util::sync::{CancellationToken, DropGuard};

/// A target that answers at once, on a port of its own; it ends with the guard.
async fn target(options: DemoTargetOptions) -> (SocketAddr, DropGuard) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let shutdown = CancellationToken::new();
    let serving = serve(listener, options, shutdown.clone());
    tokio::task::spawn_local(async move { serving.await.unwrap() });
    (address, shutdown.drop_guard())
}

fn at_once() -> DemoTargetOptions {
    DemoTargetOptions { latency_scale: 0.0, ..DemoTargetOptions::default() }
}

/// Runs a test within a task set, which is what spawns the target.
fn with_target<F: Future<Output = ()>>(options: DemoTargetOptions, test: impl FnOnce(SocketAddr) -> F) {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    tokio::task::LocalSet::new().block_on(&runtime, async {
        let (address, _guard) = target(options).await;
        test(address).await;
    });
}

/// One plain request; status line and headers, then the body. `None` where the connection broke.
async fn get(address: SocketAddr, path: &str) -> Option<(String, String)> {
    request(address, &format!("GET {path} HTTP/1.0\r\nhost: t\r\n\r\n")).await
}

async fn request(address: SocketAddr, text: &str) -> Option<(String, String)> {
    let mut stream = TcpStream::connect(address).await.unwrap();
    stream.write_all(text.as_bytes()).await.unwrap();
    let mut answer = Vec::new();
    stream.read_to_end(&mut answer).await.ok()?;
    let answer = String::from_utf8(answer).unwrap();
    let (head, body) = answer.split_once("\r\n\r\n")?;
    Some((head.to_owned(), body.to_owned()))
}

async fn get_json(address: SocketAddr, path: &str) -> (String, Value) {
    let (head, body) = get(address, path).await.unwrap();
    (head, serde_json::from_str(&body).unwrap())
}

#[test]
fn every_endpoint_answers() {
    with_target(at_once(), |address| async move {
        assert_eq!(get_json(address, "/health").await.1, json!({ "status": "ok" }));
        assert!(get_json(address, "/api/graph/stats").await.1["nodes"].as_u64() > Some(0));
        let (_, found) = get_json(address, "/api/graph/nodes?q=rust&limit=3").await;
        assert_eq!(found["items"].as_array().unwrap().len(), 3);
        assert_eq!(get_json(address, "/api/graph/nodes?q=rust&limit=3").await.1, found, "the same word finds the same");
        let id = found["items"][0]["id"].as_str().unwrap();
        assert_eq!(get_json(address, &format!("/api/graph/traverse/{id}")).await.1["id"], id);
        assert!(get(address, "/api/graph/traverse/nobody").await.unwrap().0.contains(" 404 "));
        assert_eq!(get_json(address, "/api/graph/categories/news").await.1["category"], "news");
        let echo = "POST /api/echo HTTP/1.1\r\nhost: t\r\nconnection: close\r\ncontent-type: text/x\r\ncontent-length: 2\r\n\r\nhi";
        let (head, body) = request(address, echo).await.unwrap();
        assert!(head.to_lowercase().contains("content-type: text/x") && body == "hi", "{head}");
        assert_eq!(get_json(address, "/stats").await.1["requests"], 8, "every request but this one is counted");
    });
}

#[test]
fn a_session_counts_its_visits() {
    with_target(at_once(), |address| async move {
        let (head, first) = get_json(address, "/api/session").await;
        assert_eq!(first["visits"], 1);
        let cookie = head.lines().find_map(|line| line.strip_prefix("set-cookie: ")).unwrap();
        let cookie = cookie.split(';').next().unwrap();
        let again = format!("GET /api/session HTTP/1.1\r\nhost: t\r\nconnection: close\r\ncookie: {cookie}\r\n\r\n");
        let (_, body) = request(address, &again).await.unwrap();
        let second: Value = serde_json::from_str(&body).unwrap();
        assert_eq!((&second["visits"], &second["session"]), (&json!(2), &first["session"]));
    });
}

#[test]
fn faults_come_on_demand() {
    with_target(at_once(), |address| async move {
        assert!(get(address, "/health?fault=status:503").await.unwrap().0.contains(" 503 "));
        assert!(get(address, "/health?fault=nonsense").await.unwrap().0.contains(" 400 "));
        let (_, help) = get_json(address, "/health?fault=nonsense").await;
        assert!(help["error"].as_str().unwrap().contains("status:CODE"), "{help}");
        let asked = tokio::time::Instant::now();
        assert_eq!(get_json(address, "/health?fault=delay:30ms").await.1["status"], "ok");
        assert!(asked.elapsed() >= Duration::from_millis(30), "the answer came at once");
        assert_eq!(get_json(address, "/health?fault=drip:1ms").await.1["status"], "ok");
        assert_eq!(get_json(address, "/health?fault=status:500&rate=0").await.1["status"], "ok");
        assert_eq!(get(address, "/health?fault=reset").await, None, "a reset is no answer");
        let hang = tokio::time::timeout(Duration::from_millis(200), get(address, "/health?fault=hang")).await;
        assert!(hang.is_err(), "it answered");
    });
}

#[test]
fn a_reset_is_a_reset() {
    with_target(at_once(), |address| async move {
        let mut stream = TcpStream::connect(address).await.unwrap();
        stream.write_all(b"GET /health?fault=reset HTTP/1.1\r\nhost: t\r\n\r\n").await.unwrap();
        let error = stream.read_to_end(&mut Vec::new()).await.unwrap_err();
        assert_eq!(error.kind(), std::io::ErrorKind::ConnectionReset);
    });
}

/// With one worker, requests are worked on one after another: the pool is what bends.
#[test]
fn the_pool_is_bounded() {
    let options = DemoTargetOptions { workers: 1, ..DemoTargetOptions::default() };
    with_target(options, |address| async move {
        let started = tokio::time::Instant::now();
        let requests = (0..8).map(|_| get(address, "/api/graph/categories/x"));
        let answers = futures_util::future::join_all(requests).await;
        assert!(answers.iter().all(|answer| answer.as_ref().is_some_and(|(head, _)| head.contains("200 OK"))));
        // Eight service times of which the shortest possible sum is known from the profile.
        let profile = groundswell_demo_target::profile::service_time;
        let least: Duration =
            (0..8).map(|n| profile(1, groundswell_demo_target::profile::Route::Categories, n, 1.0)).sum();
        assert!(started.elapsed() >= least, "{:?} of {least:?}", started.elapsed());
    });
}

type Client = WebSocketStream<TcpStream>;

async fn connect(address: SocketAddr, path: &str) -> Result<Client, Error> {
    let stream = TcpStream::connect(address).await.unwrap();
    Ok(client_async(format!("ws://{address}{path}"), stream).await?.0)
}

async fn say(client: &mut Client, message: &Value) {
    client.send(Message::text(message.to_string())).await.unwrap();
}

async fn hear(client: &mut Client) -> Value {
    let message = client.next().await.unwrap().unwrap();
    serde_json::from_str(message.to_text().unwrap()).unwrap()
}

#[test]
fn pings_and_echoes_are_answered() {
    with_target(at_once(), |address| async move {
        let mut client = connect(address, "/ws").await.unwrap();
        say(&mut client, &json!({ "op": "ping", "id": 7 })).await;
        assert_eq!(hear(&mut client).await, json!({ "op": "pong", "id": 7 }));
        say(&mut client, &json!({ "op": "echo", "data": [1] })).await;
        assert_eq!(hear(&mut client).await, json!({ "op": "echo", "data": [1] }));
        client.send(Message::text("plain")).await.unwrap();
        assert_eq!(client.next().await.unwrap().unwrap(), Message::text("plain"));
        for binary in [&[1, 255][..], br#"{"op":"ping","id":7}"#] {
            client.send(Message::binary(binary)).await.unwrap();
            assert_eq!(client.next().await.unwrap().unwrap(), Message::binary(binary));
        }
        client.send(Message::Ping("beat".into())).await.unwrap();
        assert_eq!(client.next().await.unwrap().unwrap(), Message::Pong("beat".into()));
        let bye = CloseFrame { code: CloseCode::from(3001), reason: "bye".into() };
        client.close(Some(bye.clone())).await.unwrap();
        assert_eq!(client.next().await.unwrap().unwrap(), Message::Close(Some(bye)));
        assert!(client.next().await.is_none(), "the connection went on after both sides closed it");
        let counts = get_json(address, "/stats").await.1;
        let of_messages = [&counts["ws_connections"], &counts["ws_messages_in"], &counts["ws_messages_out"]];
        assert_eq!(of_messages, [1, 5, 5], "{counts}");
    });
}

/// Every member hears every message of its room, in the same order.
#[test]
fn a_broadcast_reaches_the_room_in_order() {
    with_target(at_once(), |address| async move {
        let mut clients = Vec::new();
        for members in 1..=3 {
            let mut client = connect(address, "/ws").await.unwrap();
            say(&mut client, &json!({ "op": "join", "room": "r" })).await;
            assert_eq!(hear(&mut client).await, json!({ "op": "joined", "room": "r", "members": members }));
            clients.push(client);
        }
        let mut outsider = connect(address, "/ws").await.unwrap();
        for n in 0..20 {
            say(&mut outsider, &json!({ "op": "broadcast", "room": "r", "data": n })).await;
        }
        for client in &mut clients {
            for n in 0..20 {
                assert_eq!(hear(client).await, json!({ "op": "message", "room": "r", "data": n, "seq": n + 1 }));
            }
        }
    });
}

#[test]
fn upgrades_and_closes_fail_on_demand() {
    with_target(at_once(), |address| async move {
        let refused = connect(address, "/ws?fault=upgrade:404").await.unwrap_err();
        assert!(matches!(&refused, Error::Http(response) if response.status() == 404), "{refused}");
        assert!(get(address, "/ws").await.unwrap().0.contains(" 426 "), "no upgrade was asked for");
        let mut client = connect(address, "/ws?fault=close:1011").await.unwrap();
        client.send(Message::text("one")).await.unwrap();
        let Message::Close(Some(frame)) = client.next().await.unwrap().unwrap() else { panic!("no close frame") };
        assert_eq!(frame.code, CloseCode::Error);
        for fault in ["upgrade:404&rate=0", "close:1011&rate=0", "delay:5ms", "drip:1ms"] {
            let mut client = connect(address, &format!("/ws?fault={fault}")).await.unwrap();
            say(&mut client, &json!({ "op": "ping", "id": 1 })).await;
            assert_eq!(hear(&mut client).await["op"], "pong", "{fault}");
        }
    });
}

/// The close frame arrives although the client had more to say: unread bytes must not turn the end into a reset.
#[test]
fn a_close_code_reaches_a_busy_client() {
    with_target(at_once(), |address| async move {
        for _ in 0..20 {
            let mut client = connect(address, "/ws?fault=close:1011").await.unwrap();
            for _ in 0..50 {
                client.feed(Message::text("more")).await.unwrap();
            }
            client.flush().await.unwrap();
            // Time for a reset to overtake the frame, if there is one.
            tokio::time::sleep(Duration::from_millis(5)).await;
            let first = client.next().await.unwrap();
            assert!(matches!(&first, Ok(Message::Close(Some(frame))) if frame.code == CloseCode::Error), "{first:?}");
        }
    });
}

/// A member that does not read is closed with 1008 instead of filling the memory.
#[test]
fn a_slow_member_is_closed() {
    with_target(at_once(), |address| async move {
        let mut slow = connect(address, "/ws").await.unwrap();
        say(&mut slow, &json!({ "op": "join", "room": "r" })).await;
        assert_eq!(hear(&mut slow).await["members"], 1);
        let mut publisher = connect(address, "/ws").await.unwrap();
        let data = "x".repeat(16 << 10);
        for _ in 0..2_000 {
            say(&mut publisher, &json!({ "op": "broadcast", "room": "r", "data": data })).await;
        }
        loop {
            match slow.next().await {
                Some(Ok(Message::Close(Some(frame)))) => {
                    assert_eq!(frame.code, CloseCode::Policy);
                    return;
                }
                Some(Ok(_)) => {}
                other => panic!("the connection ended without a close frame: {other:?}"),
            }
        }
    });
}

/// A member that never reads again leaves its rooms all the same.
#[test]
fn a_stuck_member_leaves_its_rooms() {
    with_target(at_once(), |address| async move {
        let mut stuck = connect(address, "/ws").await.unwrap();
        say(&mut stuck, &json!({ "op": "join", "room": "r" })).await;
        let mut publisher = connect(address, "/ws").await.unwrap();
        let data = "x".repeat(16 << 10);
        let left = async {
            loop {
                for _ in 0..100 {
                    say(&mut publisher, &json!({ "op": "broadcast", "room": "r", "data": data })).await;
                }
                let mut visitor = connect(address, "/ws").await.unwrap();
                say(&mut visitor, &json!({ "op": "join", "room": "r" })).await;
                if hear(&mut visitor).await["members"] == 1 {
                    return;
                }
            }
        };
        tokio::time::timeout(Duration::from_secs(60), left).await.expect("the stuck member is still in the room");
    });
}

/// At shutdown a request that is worked on is answered; one that hangs does not hold the shutdown up.
#[test]
fn a_shutdown_answers_first() {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    runtime.block_on(async {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let shutdown = CancellationToken::new();
        let client = async {
            let ask = async {
                while get_json(address, "/stats").await.1["requests"] != 2 {
                    tokio::time::sleep(Duration::from_millis(1)).await;
                }
                shutdown.cancel();
            };
            tokio::join!(get(address, "/health?fault=delay:100ms"), get(address, "/health?fault=hang"), ask)
        };
        let both = futures_util::future::join(serve(listener, at_once(), shutdown.clone()), client);
        let (served, (slow, hung, ())) = tokio::time::timeout(Duration::from_secs(30), both).await.unwrap();
        served.unwrap();
        assert!(slow.is_some_and(|(head, _)| head.contains("200 OK")), "the request was cut off");
        assert_eq!(hung, None, "it answered");
    });
}
