//! A file for each command.

mod access;
pub(crate) mod agent;
pub(crate) mod certs;
pub(crate) mod check;
mod company;
pub(crate) mod compare;
pub(crate) mod demo_target;
mod follow;
pub(crate) mod health;
mod joining;
pub(crate) mod report;
pub(crate) mod run;
pub(crate) mod runs;
pub(crate) mod schema;
pub(crate) mod search;
pub(crate) mod serve;
mod store;
mod stored;
pub(crate) mod tokens;

use std::net::SocketAddr;

use anyhow::Context;
use tokio::net::TcpListener;
use tokio_util::sync::CancellationToken;

use crate::Failure;

/// A runtime for one thread.
fn runtime() -> Result<tokio::runtime::Runtime, Failure> {
    tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .context("can't start the runtime")
        .map_err(Failure::incomplete)
}

/// Binds an address, or says what to do when it is taken.
async fn bind(address: SocketAddr, flag: &str) -> Result<TcpListener, Failure> {
    TcpListener::bind(address)
        .await
        .with_context(|| format!("can't listen on {address}; choose another address with {flag}"))
        .map_err(Failure::usage)
}

/// Cancels the token at the first SIGINT or SIGTERM, and ends the process at the second.
async fn shutdown_on_signal(token: CancellationToken) {
    let mut signals = Signals::new();
    signals.next().await;
    token.cancel();
    signals.next().await;
    std::process::exit(EXIT_INTERRUPTED);
}

/// Exit code of a process that was interrupted twice.
const EXIT_INTERRUPTED: i32 = 130;

/// SIGINT and SIGTERM. One value has to live as long as signals matter: those that come while nobody listens are lost.
struct Signals {
    #[cfg(unix)]
    listeners: Vec<tokio::signal::unix::Signal>,
}

#[cfg(unix)]
impl Signals {
    fn new() -> Self {
        use tokio::signal::unix::{SignalKind, signal};
        // Where a handler can't be installed, the signal keeps its default effect, which ends the process.
        let kinds = [SignalKind::interrupt(), SignalKind::terminate()];
        Signals { listeners: kinds.into_iter().filter_map(|kind| signal(kind).ok()).collect() }
    }

    /// Returns at the next signal.
    async fn next(&mut self) {
        std::future::poll_fn(|context| {
            let came = self.listeners.iter_mut().any(|signal| signal.poll_recv(context).is_ready());
            if came { std::task::Poll::Ready(()) } else { std::task::Poll::Pending }
        })
        .await;
    }
}

#[cfg(not(unix))]
impl Signals {
    fn new() -> Self {
        Signals {}
    }

    /// Returns at the next Ctrl-C.
    async fn next(&mut self) {
        if tokio::signal::ctrl_c().await.is_err() {
            std::future::pending::<()>().await;
        }
    }
}

fn cores() -> u32 {
    std::thread::available_parallelism().map_or(1, |cores| u32::try_from(cores.get()).unwrap_or(1))
}
