//! What every HTTP transport does alike, against a server that does exactly what a test says.
//!
//! # Layout
//! - this file: the server, and what tests have in common
//! - `basics`: connections, bodies, cookies, phases
//! - `features`: redirects, logins, codings, limits, names
//! - `guarded`: an agent that does not let load go everywhere, and says whose load it is
//! - `hostile`: targets that lie, stall, flood or break off
//! - `http2`: the same over HTTP/2; `http2_hostile`: targets that abuse it
#![allow(clippy::unwrap_used, reason = "tests")]

mod basics;
mod features;
mod guarded;
mod hostile;
mod http2;
mod http2_hostile;

use std::cell::RefCell;
use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use groundswell_scenario::http::{HttpOptions, TransportKind};
use groundswell_scenario::{Plan, PlanSource, Share};
use http::{HeaderMap, HeaderValue, Method};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::runtime::{Builder, LocalOptions};
use tokio::task::spawn_local;
use tokio::time::sleep;
use url::Url;

use super::{Budget, Client, Clients, Failure, Gate, Payload, Progress, Request, Response, Setup, Target};
use crate::allow::Allowlist;

const OK: &str = "HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nhi";

/// What the server does with a request.
#[derive(Clone)]
enum Act {
    /// Answers and keeps the connection.
    Answer(Vec<u8>),
    /// Answers and closes the connection without a word.
    AnswerAndClose(Vec<u8>),
    /// Answers and resets the connection.
    AnswerAndReset(Vec<u8>),
    /// Sends this until nobody reads it any more, so long after each.
    Flood(Vec<u8>, Vec<u8>, Duration),
    /// Says nothing.
    Hang,
}

fn answer(text: impl Into<Vec<u8>>) -> Act {
    Act::Answer(text.into())
}

fn answer_and_close(text: impl Into<Vec<u8>>) -> Act {
    Act::AnswerAndClose(text.into())
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
        Server::on(TcpListener::bind("127.0.0.1:0").await.unwrap(), act)
    }

    fn on(listener: TcpListener, act: impl Fn(usize) -> Act + Clone + 'static) -> Self {
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
    while let Some(request) = read_request(&mut stream, &mut buffer).await {
        let nth = seen.borrow().requests.len();
        seen.borrow_mut().requests.push(request);
        match act(nth) {
            Act::Answer(answer) => stream.write_all(&answer).await.unwrap(),
            Act::AnswerAndClose(answer) => return stream.write_all(&answer).await.unwrap(),
            Act::AnswerAndReset(answer) => {
                stream.write_all(&answer).await.unwrap();
                // What was written is to arrive before the reset does.
                sleep(Duration::from_millis(50)).await;
                return stream.set_zero_linger().unwrap();
            }
            Act::Flood(first, again, pause) => {
                let mut next = &first;
                while stream.write_all(next).await.is_ok() {
                    next = &again;
                    sleep(pause).await;
                }
                return;
            }
            Act::Hang => sleep(Duration::from_secs(60)).await,
        }
    }
}

/// Head and body as they came; none when the client has gone.
async fn read_request(stream: &mut TcpStream, buffer: &mut Vec<u8>) -> Option<String> {
    let end = read_until(stream, buffer, b"\r\n\r\n").await?;
    let mut request = String::from_utf8(buffer.drain(..end).collect()).unwrap();
    let head = request.to_lowercase();
    let length = head.lines().find_map(|line| line.strip_prefix("content-length: ")?.parse::<usize>().ok());
    let end = if head.contains("transfer-encoding: chunked") {
        read_until(stream, buffer, b"0\r\n\r\n").await?
    } else {
        let length = length.unwrap_or(0);
        while buffer.len() < length {
            read_more(stream, buffer).await?;
        }
        length
    };
    request.push_str(&String::from_utf8_lossy(&buffer.drain(..end).collect::<Vec<_>>()));
    Some(request)
}

async fn read_until(stream: &mut TcpStream, buffer: &mut Vec<u8>, end: &[u8]) -> Option<usize> {
    loop {
        if let Some(start) = buffer.windows(end.len()).position(|window| window == end) {
            return Some(start + end.len());
        }
        read_more(stream, buffer).await?;
    }
}

async fn read_more(stream: &mut TcpStream, buffer: &mut Vec<u8>) -> Option<()> {
    (stream.read_buf(buffer).await.unwrap_or(0) > 0).then_some(())
}

/// The clients of a plan whose `http:` this is.
fn clients(options: HttpOptions) -> Clients {
    let text = "target: http://127.0.0.1:1\nscenarios:\n  s: { load: { users: 1, for: 1s }, flow: [ { get: / } ] }\n";
    let source = PlanSource { name: "p.yaml".into(), text: text.into(), files: BTreeMap::new(), search_level: None };
    let mut plan = Plan::compile(&source).unwrap();
    plan.http = options;
    clients_of(plan, Allowlist::Plan { hash: String::new() }, None)
}

/// What transports are made of, for an agent that sends to this machine only.
pub(super) fn setup(options: HttpOptions) -> Setup {
    let url = Url::parse("http://127.0.0.1:1").unwrap();
    let plan = guarded::plan(&url, options);
    let gate = Gate::new(&plan, Allowlist::default(), Budget::new(None, None));
    Setup::new(&Arc::new(plan), gate, None).unwrap()
}

/// Those of an agent with this allowlist, and so many places for connections.
fn clients_of(plan: Plan, allowlist: Allowlist, places: Option<u32>) -> Clients {
    let gate = Gate::new(&plan, allowlist, Budget::new(places, None));
    let run = Some(HeaderValue::from_static("run-7"));
    Clients::new(Setup::new(&Arc::new(plan), gate, run).unwrap(), &Share::whole()).unwrap()
}

fn options(transport: TransportKind) -> HttpOptions {
    HttpOptions { transport, ..HttpOptions::default() }
}

/// Runs a test on each transport.
fn on_each<F: Future<Output = ()>>(test: impl Fn(HttpOptions) -> F) {
    for kind in [TransportKind::Direct, TransportKind::Reqwest] {
        on(test(options(kind)));
    }
}

/// Runs a test as a worker runs its users.
fn on(test: impl Future<Output = ()>) {
    let runtime = Builder::new_current_thread().enable_all().build_local(LocalOptions::default()).unwrap();
    runtime.block_on(test);
}

fn get(clients: &Clients, url: Url) -> Request {
    let target = Target::new(url).unwrap();
    let mut headers = HeaderMap::new();
    clients.complete(&mut headers, &target);
    Request {
        method: Method::GET,
        target,
        headers,
        payload: Payload::Empty,
        timeout: Duration::from_secs(10),
        keep_body: true,
        login: None,
        max_redirects: 10,
    }
}

async fn send(client: &mut Client, request: &Request) -> Result<Response, Failure> {
    client.send(request, &mut Progress::default()).await
}
