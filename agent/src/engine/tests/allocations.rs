//! What a request without templates allocates: what the HTTP library makes of it, and nothing else.

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpListener};
use std::thread;

use bytes::Bytes;
use http::HeaderMap;
use http_body_util::{BodyExt, Empty};
use hyper::client::conn::http1;
use hyper_util::rt::TokioIo;
use tokio::net::TcpStream;
use tokio::runtime::{Builder, LocalOptions};

use super::*;

/// So many requests that what a single one allocates by chance, such as room for more of something, does not show.
const ENOUGH: u64 = 1_000;

/// Answers each request alike, on threads of its own, whose allocations are not counted.
fn target() -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    thread::spawn(move || {
        while let Ok((mut stream, _)) = listener.accept() {
            thread::spawn(move || {
                let mut read = [0; 4096];
                // The whole of a request comes at once, because it was written at once.
                while stream.read(&mut read).is_ok_and(|length| length > 0) {
                    stream.write_all(b"HTTP/1.1 200 OK\r\nserver: s\r\ncontent-length: 2\r\n\r\nhi").unwrap();
                }
            });
        }
    });
    address
}

/// What this thread allocates in a run, and how many requests that run made.
fn counted<F: Future<Output = u64>>(run: F) -> (u64, u64) {
    let runtime = Builder::new_current_thread().enable_all().build_local(LocalOptions::default()).unwrap();
    let mut requests = 0;
    let allocated = allocation_counter::measure(|| requests = runtime.block_on(run));
    (allocated.count_total, requests)
}

/// Allocations for each request, without what a run allocates once. A run is told how much to do; where that is a time it is
/// as long as it takes for enough requests, however slow the machine.
fn of_a_request<F: Future<Output = u64>>(run: impl Fn(u64) -> F) -> f64 {
    for scale in [1, 4, 16, 64] {
        let ((few_allocated, few), (many_allocated, many)) = (counted(run(200 * scale)), counted(run(1_200 * scale)));
        if many >= few + ENOUGH {
            return (many_allocated - few_allocated) as f64 / (many - few) as f64;
        }
    }
    panic!("no run made {ENOUGH} requests");
}

/// Requests of the library alone, whose head has the map of the response before.
async fn library(address: SocketAddr, requests: u64) -> u64 {
    let stream = TcpStream::connect(address).await.unwrap();
    let (mut sender, connection) = http1::handshake(TokioIo::new(stream)).await.unwrap();
    let driver = spawn_local(connection);
    let mut headers = HeaderMap::new();
    for _ in 0..requests {
        let mut request: http::Request<Empty<Bytes>> = http::Request::new(Empty::new());
        *request.headers_mut() = headers;
        let (head, mut body) = sender.send_request(request).await.unwrap().into_parts();
        while let Some(frame) = body.frame().await {
            frame.unwrap();
        }
        headers = head.headers;
        headers.clear();
    }
    driver.abort();
    requests
}

/// A whole run of one worker.
async fn engine(plan: Arc<Plan>) -> u64 {
    let mut worker = Worker::start_at(&plan, Assignment::whole_run(0, Share::whole()), Instant::now()).await;
    worker.ended().await;
    let counters = &worker.seal().await.counters;
    assert_eq!((counters.ok, counters.failed()), (counters.issued, 0));
    counters.issued
}

/// Closed loads and open ones, and flows with parts.
#[test]
fn a_request_allocates_what_the_library_does() {
    let address = target();
    let library = of_a_request(|requests| library(address, requests));
    for scenario in [
        "load: { users: 4, for: {n}ms }, flow: [ { get: / } ]",
        "load: { iterations: {n}, users: 4 }, flow: [ { get: / } ]",
        "load: { rate: 2000/s, for: {n}ms, max_in_flight: 4 }, flow: [ { get: / } ]",
        "load: { iterations: {n}, users: 4 }, flow: [ { group: a, flow: [ { repeat: 2, flow: [ { get: / } ] } ] } ]",
    ] {
        let own = of_a_request(|n| {
            let scenario = format!("  a: {{ {} }}", scenario.replace("{n}", &n.to_string()));
            engine(plan(&format!("http://{address}"), &scenario))
        });
        assert!(own < library + 0.5, "{scenario}: {own} allocations for each request, the library alone {library}");
    }
}
