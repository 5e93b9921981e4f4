//! Responses to HTTP requests: heads, framing, codings, redirects, cookies, challenges.

use std::cell::RefCell;
use std::collections::HashMap;

use groundswell_scenario::Share;
use http::{HeaderMap, Method};
use std::sync::Arc;
use std::time::Duration;
use tokio::time::Instant;
use url::Url;

use super::target::{Kind, Target as Sender};
use super::{Flags, MAX_BODY_BYTES, against, in_a_report, setup};
use crate::transport::{Client, Clients, Failure, Login, Payload, Progress, Request, Response, Setup, Target};

/// Limit of a request.
const LIMIT: Duration = Duration::from_secs(2);
/// What the clock may add to it.
const TICK: Duration = Duration::from_millis(2);
/// Redirects that a request follows.
const MAX_REDIRECTS: u32 = 3;
/// Requests of one user, so that a connection is used again.
const REQUESTS: usize = 2;

thread_local! {
    /// Reading the machine's certificate authorities takes longer than a request.
    static SETUPS: RefCell<HashMap<(bool, bool), Setup>> = RefCell::default();
}

/// Whatever a target sends: each request ends once, within its limit, as something that a report can count; no body is
/// larger than the plan allows; nothing is sent twice, or to anybody else.
///
/// # Panics
/// When that does not hold.
pub fn response(bytes: &[u8]) {
    let Some((flags, sent)) = bytes.split_first() else { return };
    let flags = Flags(*flags);
    let kind = if flags.is_other_protocol() { Kind::Http2 } else { Kind::Http1 };
    let of = (flags.is_other_protocol(), flags.is_strict());
    let setup = SETUPS.with_borrow_mut(|setups| setups.entry(of).or_insert_with(|| setup(of.0, of.1)).clone());
    against(Sender::new(flags, kind, sent), async |target| {
        let Ok(clients) = Clients::new(setup, &Share::whole()) else { return };
        let mut client = clients.client(0);
        let request = request(&clients, flags);
        let mut most_requests = 0;
        for _ in 0..REQUESTS {
            let mut progress = Progress::default();
            let ended = ends_in_time(&mut client, &request, &mut progress).await;
            if let Ok(response) = ended {
                assert!(response.body.len() <= MAX_BODY_BYTES, "a body of {} bytes", response.body.len());
                client.take_back(response);
            }
            most_requests += 1 + progress.follow_ups;
            // A redirect, a challenge and a stale connection for each request that there may be.
            assert!(progress.follow_ups <= u64::from(MAX_REDIRECTS + 1) * 4, "{} follow-ups", progress.follow_ups);
            assert!(progress.bytes_received <= target.sent_bytes.get(), "more received than sent");
        }
        if kind == Kind::Http1 {
            assert!(target.requests.get() <= most_requests, "{} of {most_requests} requests", target.requests.get());
        }
        let asked_for = target.asked_for.borrow();
        assert!(asked_for.iter().all(|address| address.ip().is_loopback()), "{asked_for:?}");
    });
}

fn request(clients: &Clients, flags: Flags) -> Request {
    let target = Url::parse("http://127.0.0.1:1/path?q=1").ok().and_then(|url| Target::new(url).ok());
    let target = target.unwrap_or_else(|| unreachable!("it is a URL"));
    let mut headers = HeaderMap::new();
    clients.complete(&mut headers, &target);
    Request {
        method: Method::GET,
        target,
        headers,
        payload: Payload::Empty,
        timeout: LIMIT,
        keep_body: flags.takes_part(),
        login: Some(Arc::new(Login { user: "user".to_owned(), password: "password".to_owned() })),
        max_redirects: MAX_REDIRECTS,
    }
}

async fn ends_in_time(client: &mut Client, request: &Request, progress: &mut Progress) -> Result<Response, Failure> {
    let begun = Instant::now();
    let ended = client.send(request, progress).await;
    let took = begun.elapsed();
    assert!(took <= LIMIT + TICK, "it took {took:?}");
    match &ended {
        Ok(response) => assert!((100..1_000).contains(&response.status), "status {}", response.status),
        Err(failure) => in_a_report(failure),
    }
    ended
}
