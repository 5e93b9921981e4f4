//! Who looks at the run while it goes on, on a thread of its own: one that asks for everything again and again, and one
//! that asks once and never reads on.

use std::io::{Read, Write};
use std::net::TcpStream;
use std::thread::{self, JoinHandle};
use std::time::Duration;

use anyhow::{Context, anyhow};
use groundswell_coordinator::api::PREFIX;
use tokio::time::{Instant, interval, timeout};
use tokio_util::sync::CancellationToken;

use crate::api;

/// Not quite a second, so that the questions fall into every part of one.
const ASK_EVERY: Duration = Duration::from_millis(970);
/// Nothing takes so long.
const PATIENCE: Duration = Duration::from_secs(30);

/// Somebody who asks where a run stands.
pub(crate) struct Follower {
    thread: JoinHandle<anyhow::Result<Vec<Duration>>>,
    enough: CancellationToken,
}

impl Follower {
    /// Asks for where the run stands, its merged figures by step and agent and those over time, until it is told that it
    /// is enough.
    pub(crate) fn start(address: &str, run: &str) -> Self {
        let enough = CancellationToken::new();
        let (address, path, until) = (address.to_owned(), format!("/runs/{run}/events"), enough.clone());
        let thread = thread::spawn(move || {
            let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
            runtime.block_on(ask_again(&address, &path, until))
        });
        Follower { thread, enough }
    }

    /// How long each answer took, from before the connection to its last byte.
    ///
    /// # Errors
    /// When one was none.
    pub(crate) fn stop(self) -> anyhow::Result<Vec<Duration>> {
        self.enough.cancel();
        self.thread.join().map_err(|_| anyhow!("the follower panicked"))?
    }
}

async fn ask_again(address: &str, path: &str, enough: CancellationToken) -> anyhow::Result<Vec<Duration>> {
    let mut times = Vec::new();
    let mut tick = interval(ASK_EVERY);
    loop {
        tokio::select! {
            () = enough.cancelled() => return Ok(times),
            _ = tick.tick() => {}
        }
        let asked = Instant::now();
        let answer = async {
            // The event after the merged figures: when its name is there, they are.
            api::first_event(tokio::net::TcpStream::connect(address).await?, path, "frames").await
        };
        timeout(PATIENCE, answer).await.context("no answer")??;
        times.push(asked.elapsed());
    }
}

/// Follows a run and never reads on. It does so for as long as the connection is kept.
///
/// # Errors
/// When it is not answered at all.
pub(crate) fn who_does_not_read(address: &str, run: &str) -> anyhow::Result<TcpStream> {
    let mut connection = TcpStream::connect(address)?;
    connection.set_read_timeout(Some(PATIENCE))?;
    write!(connection, "GET {PREFIX}/runs/{run}/events HTTP/1.1\r\nhost: coordinator\r\n\r\n")?;
    connection.read_exact(&mut [0; 12]).context("no answer")?;
    Ok(connection)
}
