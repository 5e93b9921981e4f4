//! Requests to a coordinator.

mod archive;
mod coordinator;
mod input;

use std::cell::RefCell;

use coordinator::{Coordinator, DoorKind, Role};
use input::{Input, Sent};

/// After so many requests that may have changed something, a new coordinator takes over: what earlier ones left must not
/// make the next slow.
const CHANGES: u32 = 300;
/// What is asked about a run that a request made.
const ABOUT_A_RUN: [&str; 13] = [
    "",
    "/report",
    "/report?format=text",
    "/report?format=html",
    "/report?format=md",
    "/report?format=junit",
    "/report?format=csv",
    "/report?format=csv-intervals",
    "/report?format=hdr",
    "/frames",
    "/percentiles",
    "/plan",
    "/export",
];

thread_local! {
    static COORDINATOR: RefCell<Option<Coordinator>> = const { RefCell::new(None) };
}

/// Whatever a client asks of a coordinator gets one answer; where it is the client's mistake, a problem as RFC 9457 has it;
/// and it is never the coordinator's own failure, nor is anything that is asked about a run that the request made.
///
/// # Panics
/// When that does not hold.
pub fn api(bytes: &[u8]) {
    let Some(Input { door, role, sent }) = Input::of(bytes) else { return };
    COORDINATOR.with_borrow_mut(|kept| {
        let coordinator = kept.get_or_insert_with(Coordinator::start);
        match sent {
            Sent::Raw(bytes) => {
                let answer = coordinator.told(door, bytes, true);
                assert!(!answer.starts_with(b"HTTP/1.1 5"), "{}", String::from_utf8_lossy(&answer));
            }
            Sent::Request { method, path, fields, body } => {
                let answer = coordinator.asked(door, role, &method, &path, &fields, &body);
                // What agents call is gRPC, which has errors of its own.
                if !path.starts_with("/groundswell.") {
                    answer.is_fit(&format!("{method} {path}"));
                }
                if let Some(id) = answer.made() {
                    looked_at(coordinator, door, role, &id);
                }
            }
        }
        if coordinator.changes > CHANGES || coordinator.is_tired {
            kept.take().into_iter().for_each(Coordinator::end);
        }
    });
}

fn looked_at(coordinator: &mut Coordinator, door: DoorKind, role: Role, id: &str) {
    let prefix = format!("/api/v1/runs/{id}");
    let mut ask = |method: &str, path: &str| {
        coordinator.asked(door, role, method, path, &[], &[]).is_fit(&format!("{method} {path}"));
    };
    for about in ABOUT_A_RUN {
        ask("GET", &format!("{prefix}{about}"));
    }
    ask("GET", &format!("/api/v1/compare?base={id}&run={id}&format=text&force=true"));
    ask("GET", "/api/v1/runs");
    ask("GET", "/metrics");
    // It waits for agents that never come.
    ask("POST", &format!("{prefix}/cancel"));
}
