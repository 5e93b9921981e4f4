//! Heartbeats, which are clock probes too: on a connection of their own, so that a link full of deltas delays none.

use std::sync::Arc;
use std::time::Duration;

use groundswell_proto::limits::{HEARTBEAT, SESSION_QUEUE};
use groundswell_proto::v1::agent_service_client::AgentServiceClient;
use groundswell_proto::v1::{Probe, ProbeReply};
use rand::RngExt;
use tokio::sync::{Notify, mpsc};
use tokio::time::{MissedTickBehavior, interval, sleep};
use tokio_stream::wrappers::ReceiverStream;
use tonic::Status;

use super::Dialler;
use crate::clock::AgentClock;

/// Longest pause before a lost connection is dialled again: three fit into the shortest lease.
const RETRY_LIMIT: Duration = Duration::from_secs(1);

/// An answered heartbeat: a grant that counts from `t1`. All in microseconds, each on the clock of who read it.
#[derive(Debug, Clone, Copy)]
pub(super) struct Answered {
    pub(super) t1_us: u64,
    pub(super) t2_us: u64,
    pub(super) t3_us: u64,
    pub(super) t4_us: u64,
}

/// Sends heartbeats as this incarnation until it is dropped.
pub(super) async fn beat(
    dialler: Dialler,
    incarnation: u64,
    clock: AgentClock,
    hurry: Arc<Notify>,
    answers: mpsc::Sender<Answered>,
) {
    loop {
        if let Err(status) = connection(&dialler, incarnation, clock, &hurry, &answers).await {
            tracing::debug!(why = status.message(), "no connection for heartbeats; trying again");
        }
        let pause = rand::rng().random_range(RETRY_LIMIT / 10..=RETRY_LIMIT);
        sleep(pause).await;
    }
}

async fn connection(
    dialler: &Dialler,
    incarnation: u64,
    clock: AgentClock,
    hurry: &Notify,
    answers: &mpsc::Sender<Answered>,
) -> Result<(), Status> {
    let (probes, outbound) = mpsc::channel(SESSION_QUEUE);
    let probe = || {
        // A full queue means a link that carries nothing; the next probe will do.
        let _ = probes.try_send(Probe { t1_us: clock.now_us(), incarnation });
    };
    probe();
    let mut inbound =
        AgentServiceClient::new(dialler.dial().await?).beat(ReceiverStream::new(outbound)).await?.into_inner();
    let mut tick = interval(HEARTBEAT);
    tick.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        tokio::select! {
            _ = tick.tick() => probe(),
            () = hurry.notified() => probe(),
            reply = inbound.message() => match reply? {
                Some(ProbeReply { t1_us, t2_us, t3_us }) => {
                    let answered = Answered { t1_us, t2_us, t3_us, t4_us: clock.now_us() };
                    if answers.send(answered).await.is_err() {
                        return Ok(());
                    }
                }
                None => return Err(Status::unavailable("the coordinator ended the stream")),
            }
        }
    }
}
