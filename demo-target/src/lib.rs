//! The built-in target: HTTP and WebSocket endpoints with realistic latencies and faults on demand.
//!
//! It bends under load as a real server does: requests are worked on by a bounded pool, and what comes beyond it
//! waits, then is refused.
//!
//! # Layout
//! - `connection`: accepts, serves, resets
//! - [`profile`]: the latency of each route, a pure function of seed and request number
//! - [`fault`]: what `?fault=` may ask for
//! - `routes`: the HTTP endpoints
//! - `rooms`, `websocket`: `/ws`

mod connection;
pub mod fault;
pub mod profile;
mod rooms;
mod routes;
mod websocket;

use std::io;
use std::sync::Arc;
use std::sync::atomic::AtomicU64;

use tokio::net::TcpListener;
use tokio::sync::Semaphore;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

/// How the demo target behaves.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct DemoTargetOptions {
    /// Seed of its latencies and of the faults that come at random.
    pub seed: u64,
    /// Requests that it works on at the same time.
    pub workers: usize,
    /// Multiplies its latencies; 0 makes it answer at once.
    pub latency_scale: f64,
}

impl Default for DemoTargetOptions {
    fn default() -> Self {
        DemoTargetOptions { seed: 1, workers: 16, latency_scale: 1.0 }
    }
}

/// What all connections share.
struct Target {
    options: DemoTargetOptions,
    pool: Semaphore,
    rooms: rooms::Rooms,
    counts: Counts,
    shutdown: CancellationToken,
    /// Upgraded connections, which outlive the request that made them.
    sockets: TaskTracker,
}

/// What `GET /stats` tells; that request itself is not counted.
#[derive(Debug, Default)]
struct Counts {
    requests: AtomicU64,
    ws_connections: AtomicU64,
    ws_messages_in: AtomicU64,
    ws_messages_out: AtomicU64,
}

impl Target {
    fn new(options: DemoTargetOptions, shutdown: CancellationToken) -> Target {
        Target {
            options,
            pool: Semaphore::new(options.workers.clamp(1, Semaphore::MAX_PERMITS)),
            rooms: rooms::Rooms::default(),
            counts: Counts::default(),
            shutdown,
            sockets: TaskTracker::new(),
        }
    }
}

/// Serves until `shutdown`; connections are closed with it.
///
/// # Errors
/// When the listener fails for good.
pub async fn serve(listener: TcpListener, options: DemoTargetOptions, shutdown: CancellationToken) -> io::Result<()> {
    let target = Target::new(options, shutdown.clone());
    connection::accept(listener, Arc::new(target), shutdown).await
}
