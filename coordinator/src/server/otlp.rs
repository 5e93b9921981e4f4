//! Figures for OpenTelemetry: sent to a collector every few seconds, and once more at the end.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use opentelemetry_proto::tonic::collector::metrics::v1::metrics_service_client::MetricsServiceClient;
use tokio::time::{MissedTickBehavior, interval};
use tokio_util::sync::CancellationToken;
use tonic::transport::{Channel, Endpoint};

use super::{Services, ShuttingDown};
use crate::export::{families, otlp};

/// A collector that takes longer is slow, and misses what comes meanwhile.
const SEND_LIMIT: Duration = Duration::from_secs(5);

/// A collector that speaks OTLP over gRPC.
#[derive(Debug, Clone)]
pub struct OtlpTarget {
    endpoint: Endpoint,
    every: Duration,
}

/// It is no URL of a collector.
#[derive(Debug, thiserror::Error)]
#[error("{url}: not the URL of a collector ({why}); write it like http://127.0.0.1:4317")]
pub struct OtlpUrlError {
    url: String,
    why: String,
}

impl OtlpTarget {
    /// The collector at a URL, and how often it gets figures.
    ///
    /// # Errors
    /// When the URL is none, or not of http.
    pub fn new(url: &str, every: Duration) -> Result<Self, OtlpUrlError> {
        let wrong = |why: String| OtlpUrlError { url: url.to_owned(), why };
        let endpoint = Endpoint::from_shared(url.to_owned()).map_err(|error| wrong(error.to_string()))?;
        if endpoint.uri().scheme_str() != Some("http") {
            return Err(wrong("only http:// is supported; run a collector beside the coordinator".to_owned()));
        }
        Ok(OtlpTarget { endpoint: endpoint.timeout(SEND_LIMIT).connect_timeout(SEND_LIMIT), every })
    }
}

/// Sends until the shutdown. A collector that is not there is told of once, and tried again.
pub(super) async fn push(services: Services, target: OtlpTarget, shutdown: CancellationToken) {
    let mut client = MetricsServiceClient::new(target.endpoint.connect_lazy());
    let mut tick = interval(target.every);
    tick.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let mut was_there = true;
    loop {
        let is_last = tokio::select! {
            _ = tick.tick() => false,
            () = shutdown.cancelled() => true,
        };
        let Ok(sent) = send(&services, &mut client).await else { return };
        if let (Err(error), true) = (&sent, was_there) {
            tracing::warn!(%error, "the OpenTelemetry collector does not take figures; they are sent again when it does");
        }
        was_there = sent.is_ok();
        if is_last {
            return;
        }
    }
}

async fn send(
    services: &Services,
    client: &mut MetricsServiceClient<Channel>,
) -> Result<Result<(), tonic::Status>, ShuttingDown> {
    let snapshot = services.figures().await?;
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    let request = otlp::request(&families(&snapshot), u64::try_from(now.as_nanos()).unwrap_or(0));
    Ok(client.export(request).await.map(drop))
}
