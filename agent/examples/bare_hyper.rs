//! The floor that `bench/cost.py` compares with: GET requests over hyper's HTTP/1.1 connections on one thread, as many at
//! once as asked, with three histograms of their times and nothing else.
//!
//! `bare_hyper URL CONNECTIONS SECONDS` prints how many requests it made.
#![allow(clippy::print_stdout, reason = "its result")]

use std::cell::RefCell;
use std::error::Error;
use std::rc::Rc;
use std::time::Duration;

use bytes::Bytes;
use groundswell_stats::{Outcome, Phases, Recorder, Sample, StepId};
use http_body_util::{BodyExt, Empty};
use hyper::client::conn::http1;
use hyper_util::rt::TokioIo;
use tokio::net::TcpStream;
use tokio::runtime::{Builder, LocalOptions};
use tokio::task::{JoinSet, spawn_local};
use tokio::time::Instant;
use url::Url;

type Failed = Box<dyn Error + Send + Sync>;

fn main() -> Result<(), Failed> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let [url, connections, seconds] = arguments.as_slice() else { return Err("URL CONNECTIONS SECONDS".into()) };
    let url = Url::parse(url)?;
    let until = Instant::now() + Duration::from_secs(seconds.parse()?);
    let recorder = Rc::new(RefCell::new(Recorder::new(1)));
    let runtime = Builder::new_current_thread().enable_all().build_local(LocalOptions::default())?;
    runtime.block_on(async {
        let mut users = JoinSet::new();
        for _ in 0..connections.parse::<usize>()? {
            users.spawn_local(user(url.clone(), until, Rc::clone(&recorder)));
        }
        while let Some(ended) = users.join_next().await {
            ended??;
        }
        Ok::<_, Failed>(())
    })?;
    let requests: u64 = recorder.borrow_mut().seal().values().map(|step| step.counters.ok).sum();
    println!("{requests} requests");
    Ok(())
}

async fn user(url: Url, until: Instant, recorder: Rc<RefCell<Recorder>>) -> Result<(), Failed> {
    let host = url.host_str().unwrap_or_default();
    let stream = TcpStream::connect((host, url.port_or_known_default().unwrap_or(80))).await?;
    stream.set_nodelay(true)?;
    let (mut sender, connection) = http1::handshake(TokioIo::new(stream)).await?;
    spawn_local(connection);
    while Instant::now() < until {
        let started = Instant::now();
        let request = http::Request::get(url.path()).header(http::header::HOST, host).body(Empty::<Bytes>::new())?;
        let mut body = sender.send_request(request).await?.into_body();
        while let Some(frame) = body.frame().await {
            frame?;
        }
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
    Ok(())
}
