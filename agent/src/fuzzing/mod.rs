//! What has to hold whatever a target sends: the checks of the fuzz targets, on connections within the process and in
//! time that is not real.
//!
//! An input begins with a byte of [`Flags`]; what the target sends stands behind it, in parts with `=====` on a line of its own between them.

mod response;
mod target;
#[cfg(test)]
mod tests;
mod websocket;

use std::collections::BTreeMap;
use std::sync::Arc;

use groundswell_scenario::http::{Coding, HttpOptions, HttpVersion, Mapping, Network};
use groundswell_scenario::{Plan, PlanSource};
use tokio::runtime::{Builder, LocalOptions};

use crate::allow::Allowlist;
use crate::transport::{Budget, Failure, Gate, Setup};

pub use response::response;
use target::Target;
pub(crate) use target::connect;
pub use websocket::websocket;

/// Largest body of a response.
const MAX_BODY_BYTES: usize = 1 << 20;
/// A host beside the target's own that redirects may lead to.
const OTHER_HOST: &str = "other.test";

/// The first byte of an input.
#[derive(Debug, Clone, Copy)]
struct Flags(u8);

impl Flags {
    /// HTTP/2; of a WebSocket: the bytes come in place of the upgrade, not after it.
    fn is_other_protocol(self) -> bool {
        self.0 & 1 != 0
    }

    /// Bodies are kept and decoded; of a WebSocket: each message is answered.
    fn takes_part(self) -> bool {
        self.0 & 2 != 0
    }

    /// Having sent all, the target keeps its connections and says nothing.
    fn hangs(self) -> bool {
        self.0 & 4 != 0
    }

    /// What is sent comes in small pieces.
    fn drips(self) -> bool {
        self.0 & 8 != 0
    }

    /// The last part is sent over and over.
    fn floods(self) -> bool {
        self.0 & 16 != 0
    }

    /// The plan's own limits are at their smallest, and it lets stale connections be tried again; of a WebSocket: the plan
    /// closes it.
    fn is_strict(self) -> bool {
        self.0 & 32 != 0
    }
}

/// Runs a check as a worker runs its users, against a target that sends this; what the check says is left of the target.
fn against(target: Target, check: impl AsyncFnOnce(&Target)) {
    let runtime = Builder::new_current_thread().enable_all().start_paused(true).build_local(LocalOptions::default());
    // The process has file descriptors, or nothing here means anything.
    let Ok(runtime) = runtime else { return };
    let target = std::rc::Rc::new(target);
    let _placed = target::Placed::new(&target);
    runtime.block_on(check(&target));
}

/// What the workers of an agent share, for a plan with these limits.
fn setup(http2: bool, is_strict: bool) -> Setup {
    let text = "target: http://127.0.0.1:1\nscenarios:\n  s: { load: { users: 1, for: 1s }, flow: [ { get: / } ] }\n";
    let source = PlanSource { name: "p.yaml".into(), text: text.into(), files: BTreeMap::new(), search_level: None };
    let mut plan = Plan::compile(&source).unwrap_or_else(|problems| unreachable!("it is a plan: {problems}"));
    let mapped = Mapping { host: OTHER_HOST.into(), port: None, addresses: vec![([127, 0, 0, 2], 0).into()] };
    plan.http = HttpOptions {
        version: if http2 { HttpVersion::Http2 } else { HttpVersion::Http1 },
        compression: vec![Coding::Gzip, Coding::Brotli, Coding::Zstd, Coding::Deflate],
        redirect_hosts: vec![OTHER_HOST.into()],
        max_body: Some(if is_strict { 100 } else { MAX_BODY_BYTES as u64 }),
        retry_stale: is_strict,
        network: Network { resolve: vec![mapped], ..Network::default() },
        ..HttpOptions::default()
    };
    let gate = Gate::new(&plan, Allowlist::default(), Budget::new(None, None));
    Setup::new(&Arc::new(plan), gate, None).unwrap_or_else(|error| unreachable!("it asks for nothing: {error}"))
}

/// A failure is of a class that a report can have: a word, whatever the target said.
fn in_a_report(failure: &Failure) {
    let class = match failure {
        Failure::Timeout => return,
        Failure::Unsent(class) | Failure::Error(class) => class.as_str(),
    };
    let is_word = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '_';
    assert!(!class.is_empty() && class.len() <= 40 && class.chars().all(is_word), "{class:?}");
}
