//! The floor that `bench/sockets.py` compares with, and its server: messages over tokio-tungstenite on one thread.
//!
//! `bare_websocket serve PORT` echoes every message. `bare_websocket echo URL CONNECTIONS SECONDS` sends a message on
//! each connection, waits for its echo, and sends the next, with one histogram of their times and nothing else; it
//! prints how many it made.
#![allow(clippy::print_stdout, reason = "its result")]

use std::cell::RefCell;
use std::error::Error;
use std::rc::Rc;
use std::time::Duration;

use futures_util::{SinkExt, StreamExt};
use groundswell_stats::{Outcome, Phases, Recorder, Sample, StepId};
use tokio::net::{TcpSocket, TcpStream};
use tokio::runtime::{Builder, LocalOptions};
use tokio::task::{JoinSet, spawn_local};
use tokio::time::Instant;
use tokio_tungstenite::tungstenite::Message;
use tokio_tungstenite::tungstenite::protocol::WebSocketConfig;
use tokio_tungstenite::{accept_async_with_config, client_async_with_config};
use url::Url;

type Failed = Box<dyn Error + Send + Sync>;

/// What groundswell sends, so that the work is the same.
const TEXT: &str = "{\"op\":\"echo\",\"data\":\"0123456789\"}";

fn main() -> Result<(), Failed> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let words: Vec<&str> = arguments.iter().map(String::as_str).collect();
    let runtime = Builder::new_current_thread().enable_all().build_local(LocalOptions::default())?;
    match words.as_slice() {
        ["serve", port] => runtime.block_on(serve(port.parse()?)),
        ["echo", url, connections, seconds] => {
            let until = Instant::now() + Duration::from_secs(seconds.parse()?);
            let messages = runtime.block_on(echo(Url::parse(url)?, connections.parse()?, until))?;
            println!("{messages} messages");
            Ok(())
        }
        _ => Err("serve PORT, or echo URL CONNECTIONS SECONDS".into()),
    }
}

/// The buffers that groundswell gives a connection.
fn config() -> WebSocketConfig {
    WebSocketConfig::default().read_buffer_size(4 << 10).write_buffer_size(0)
}

async fn serve(port: u16) -> Result<(), Failed> {
    let socket = TcpSocket::new_v4()?;
    socket.set_reuseaddr(true)?;
    socket.bind(([127, 0, 0, 1], port).into())?;
    let listener = socket.listen(16_384)?;
    loop {
        let (stream, _) = listener.accept().await?;
        // How a connection ends is the client's business.
        spawn_local(async move {
            stream.set_nodelay(true)?;
            let mut socket = accept_async_with_config(stream, Some(config())).await?;
            while let Some(message) = socket.next().await {
                if let message @ (Message::Text(_) | Message::Binary(_)) = message? {
                    socket.send(message).await?;
                }
            }
            Ok::<_, Failed>(())
        });
    }
}

async fn echo(url: Url, connections: usize, until: Instant) -> Result<u64, Failed> {
    let recorder = Rc::new(RefCell::new(Recorder::new(1)));
    let mut users = JoinSet::new();
    for _ in 0..connections {
        users.spawn_local(user(url.clone(), until, Rc::clone(&recorder)));
    }
    while let Some(ended) = users.join_next().await {
        ended??;
    }
    let messages = recorder.borrow_mut().seal().values().map(|step| step.counters.ok).sum();
    Ok(messages)
}

async fn user(url: Url, until: Instant, recorder: Rc<RefCell<Recorder>>) -> Result<(), Failed> {
    let stream = TcpStream::connect((url.host_str().unwrap_or_default(), url.port().unwrap_or(80))).await?;
    stream.set_nodelay(true)?;
    let (mut socket, _) = client_async_with_config(url.as_str(), stream, Some(config())).await?;
    while Instant::now() < until {
        let started = Instant::now();
        socket.send(Message::text(TEXT)).await?;
        socket.next().await.ok_or("closed")??;
        let took_us = u64::try_from(started.elapsed().as_micros())?;
        recorder.borrow_mut().finished(&Sample {
            step: StepId(0),
            response_us: took_us,
            service_us: took_us,
            send_lag_us: 0,
            phases: Phases::default(),
            outcome: Outcome::Ok,
            follow_ups: 0,
            bytes_sent: 0,
            bytes_received: 0,
        });
    }
    socket.close(None).await?;
    Ok(())
}
