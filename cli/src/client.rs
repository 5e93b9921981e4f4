//! A client of a coordinator's HTTP API.

use std::time::Duration;

use anyhow::{Context, anyhow};
use groundswell_access::{Trust, client_config};
use groundswell_coordinator::api::{Accepted, Certificate, Finished, Join, PREFIX, Problem, Submission};
use groundswell_coordinator::archive::Archive;
use groundswell_coordinator::report::{Distributions, Report};
use groundswell_coordinator::run::Progress;
use reqwest::{Response, StatusCode, Url};
use serde::de::DeserializeOwned;

use crate::Failure;

/// How long a coordinator may take to accept a connection.
const CONNECT_LIMIT: Duration = Duration::from_secs(5);
/// A stream of events on which nothing comes for so long is dead: the coordinator says something every ten seconds.
const SILENCE: Duration = Duration::from_secs(30);
/// Longest event: all frames of a run of a hundred steps.
const MAX_EVENT_BYTES: usize = 64 << 20;

/// A coordinator.
pub(crate) struct Client {
    http: reqwest::Client,
    base: Url,
    /// As the user wrote it.
    pub(crate) name: String,
    token: Option<String>,
}

/// The URL of a coordinator to which its token, and what it answers, may go.
fn checked(reach: &Reach) -> Result<Url, Failure> {
    let url = &reach.url;
    let example = "write the coordinator's URL like http://127.0.0.1:7710";
    let base = Url::parse(url).with_context(|| format!("{url}: not the URL of a coordinator; {example}"));
    let base = base.map_err(Failure::usage)?;
    let wrong = |why: &str| Err(Failure::usage(anyhow!("{url}: {why}")));
    match base.scheme() {
        _ if base.host().is_none() => wrong(example),
        "https" if reach.trust.is_none() => wrong(
            "by what is this coordinator known? A token of `groundswell tokens create run` says it (GROUNDSWELL_TOKEN or \
             --token-file); or add --ca ca.pem",
        ),
        "https" => Ok(base),
        "http" if on_this_machine(&base) || reach.insecure && reach.token.is_none() => Ok(base),
        "http" if reach.token.is_some() => {
            wrong("the token would be readable on its way; use the coordinator's https URL")
        }
        "http" => wrong("this connection would not be encrypted; use https, or say --insecure"),
        _ => wrong(example),
    }
}

/// What happens in a run.
#[derive(Debug)]
pub(crate) enum Event {
    Progress(Box<Progress>),
    Finished(Finished),
}

/// How a coordinator is reached.
#[derive(Clone, Default)]
pub(crate) struct Reach {
    /// Its URL, as the user wrote it.
    pub(crate) url: String,
    /// A token.
    pub(crate) token: Option<String>,
    /// By what it is known, at an https URL.
    pub(crate) trust: Option<Trust>,
    /// Talk to one without TLS that is elsewhere.
    pub(crate) insecure: bool,
    /// It is in this process. All that is asked goes over one connection then (HTTP/2): while the load has taken every port
    /// or descriptor of the machine, no second one could be opened, and the report would be lost.
    pub(crate) within_process: bool,
}

impl Reach {
    pub(crate) fn at(url: &str) -> Self {
        Reach { url: url.to_owned(), ..Reach::default() }
    }
}

/// Whether a URL leads to this machine.
pub(crate) fn on_this_machine(url: &Url) -> bool {
    match url.host() {
        Some(url::Host::Ipv4(address)) => address.is_loopback(),
        Some(url::Host::Ipv6(address)) => address.to_canonical().is_loopback(),
        Some(url::Host::Domain(name)) => name == "localhost" || name.ends_with(".localhost"),
        None => false,
    }
}

impl Client {
    pub(crate) fn new(reach: &Reach) -> Result<Self, Failure> {
        let base = checked(reach)?;
        // A second time, in the same process, it is there already.
        let _ = rustls::crypto::ring::default_provider().install_default();
        let mut builder = reqwest::Client::builder()
            .connect_timeout(CONNECT_LIMIT)
            .read_timeout(SILENCE)
            // A proxy for the web is none for a coordinator.
            .no_proxy();
        if let Some(trust) = reach.trust.as_ref().filter(|_| base.scheme() == "https") {
            let mut config = client_config(trust, None).map_err(Failure::usage)?;
            config.alpn_protocols = vec![b"h2".to_vec(), b"http/1.1".to_vec()];
            builder = builder.tls_backend_preconfigured(config);
        }
        if base.scheme() == "http" {
            // No certificate authorities are needed, and a bare container has none.
            builder = builder.tls_certs_only([]);
        }
        if reach.within_process {
            builder = builder.pool_idle_timeout(None);
            // With TLS, both sides agree on HTTP/2 by themselves.
            builder = if base.scheme() == "http" { builder.http2_prior_knowledge() } else { builder };
        }
        let http = builder.build().context("can't set up an HTTP client").map_err(Failure::incomplete)?;
        Ok(Client { http, base, name: reach.url.clone(), token: reach.token.clone() })
    }

    /// Asks for the certificate of an agent.
    pub(crate) async fn join(&self, name: &str, request: &str) -> Result<Certificate, Failure> {
        let join = Join { name: name.to_owned(), request: request.to_owned() };
        self.answer(self.http.post(self.url("/join")).json(&join)).await
    }

    /// Submits a plan.
    pub(crate) async fn submit(&self, submission: &Submission) -> Result<Accepted, Failure> {
        self.answer(self.http.post(self.url("/runs")).json(submission)).await
    }

    /// Stops the load of a run.
    pub(crate) async fn cancel(&self, run: &str) -> Result<(), Failure> {
        self.send(self.http.post(self.url(&format!("/runs/{run}/cancel")))).await.map(drop)
    }

    /// The report of a run that is over.
    pub(crate) async fn report(&self, run: &str) -> Result<Report, Failure> {
        self.answer(self.http.get(self.url(&format!("/runs/{run}/report")))).await
    }

    /// The histograms behind the report of a run that is over, if there are some.
    pub(crate) async fn distributions(&self, run: &str) -> Result<Option<Distributions>, Failure> {
        let response = self.send(self.http.get(self.url(&format!("/runs/{run}/export")))).await?;
        let file = response.bytes().await.map_err(|error| {
            Failure::incomplete(anyhow!("lost the coordinator at {}: {}", self.name, error.without_url()))
        })?;
        let archive = Archive::read(file.as_ref()).map_err(Failure::incomplete)?;
        archive.distributions().map_err(Failure::incomplete)
    }

    /// Follows a run.
    pub(crate) async fn events(&self, run: &str) -> Result<Events, Failure> {
        let response = self.send(self.http.get(self.url(&format!("/runs/{run}/events")))).await?;
        Ok(Events { response, buffer: Vec::new(), name: self.name.clone() })
    }

    fn url(&self, path: &str) -> Url {
        let mut url = self.base.clone();
        url.set_path(&format!("{}{PREFIX}{path}", self.base.path().trim_end_matches('/')));
        url
    }

    async fn answer<T: DeserializeOwned>(&self, request: reqwest::RequestBuilder) -> Result<T, Failure> {
        let response = self.send(request).await?;
        let answer = response.json().await;
        answer
            .with_context(|| {
                format!("can't read what {} answered; use the same version of groundswell on both sides", self.name)
            })
            .map_err(Failure::incomplete)
    }

    async fn send(&self, mut request: reqwest::RequestBuilder) -> Result<Response, Failure> {
        if let Some(token) = &self.token {
            request = request.bearer_auth(token);
        }
        let response = request.send().await.map_err(|error| {
            // A certificate that is none does not become one.
            let unreachable = !is_about_certificates(&error);
            let error = anyhow!(error.without_url());
            let error = error.context(format!(
                "can't reach the coordinator at {}; is `groundswell serve` running there?",
                self.name
            ));
            Failure { unreachable, ..Failure::incomplete(error) }
        })?;
        if response.status().is_success() {
            return Ok(response);
        }
        Err(self.refused(response).await)
    }

    async fn refused(&self, response: Response) -> Failure {
        let status = response.status();
        let why = match response.json::<Problem>().await {
            Ok(problem) => problem.detail,
            Err(_) => format!("it answers {status}, which is not what a coordinator of this release says"),
        };
        let error = anyhow!("the coordinator at {} refused: {why}", self.name);
        match status {
            StatusCode::NOT_FOUND => Failure { not_found: true, ..Failure::incomplete(error) },
            StatusCode::BAD_REQUEST
            | StatusCode::UNPROCESSABLE_ENTITY
            | StatusCode::UNAUTHORIZED
            | StatusCode::FORBIDDEN => Failure::usage(error),
            _ => Failure::incomplete(error),
        }
    }
}

/// Whether a connection failed because the other side is not who it should be.
fn is_about_certificates(error: &(dyn std::error::Error + 'static)) -> bool {
    if let Some(rustls::Error::InvalidCertificate(_)) = error.downcast_ref() {
        return true;
    }
    // An I/O error hides the one that it was made of from `source`.
    let hidden = error.downcast_ref::<std::io::Error>().and_then(|error| error.get_ref());
    match hidden {
        Some(hidden) => is_about_certificates(hidden),
        None => error.source().is_some_and(is_about_certificates),
    }
}

/// Server-sent events (HTML Living Standard, 9.2.6), as far as a coordinator uses them.
pub(crate) struct Events {
    response: Response,
    buffer: Vec<u8>,
    name: String,
}

impl Events {
    /// The next event that matters to whoever runs a plan. Dropped in the middle, nothing is lost.
    pub(crate) async fn next(&mut self) -> Result<Event, Failure> {
        loop {
            while let Some(block) = self.take_block() {
                if let Some(event) = parse(&block).map_err(Failure::incomplete)? {
                    return Ok(event);
                }
            }
            let chunk = self.response.chunk().await;
            match chunk.map_err(|error| self.lost(error.without_url()))? {
                Some(chunk) if self.buffer.len() + chunk.len() <= MAX_EVENT_BYTES => {
                    self.buffer.extend_from_slice(&chunk)
                }
                Some(_) => return Err(self.lost("an event that is too long")),
                None => return Err(self.lost("it ended the stream of events")),
            }
        }
    }

    fn take_block(&mut self) -> Option<Vec<u8>> {
        let end = self.buffer.windows(2).position(|pair| pair == b"\n\n")?;
        let rest = self.buffer.split_off(end + 2);
        Some(std::mem::replace(&mut self.buffer, rest))
    }

    fn lost(&self, why: impl std::fmt::Display) -> Failure {
        Failure::incomplete(anyhow!("lost the coordinator at {}: {why}", self.name))
    }
}

/// None for comments, and for events that are for charts.
fn parse(block: &[u8]) -> anyhow::Result<Option<Event>> {
    let block = std::str::from_utf8(block).context("an event that is no text")?;
    let field = |name: &str| {
        let values = block.lines().filter_map(|line| line.strip_prefix(name)?.strip_prefix(':'));
        values.map(|value| value.strip_prefix(' ').unwrap_or(value)).next()
    };
    let data = field("data").unwrap_or_default();
    let unreadable = "an event that can't be read; use the same version of groundswell on both sides";
    Ok(match field("event") {
        Some("progress") => Some(Event::Progress(serde_json::from_str(data).context(unreadable)?)),
        Some("finished") => Some(Event::Finished(serde_json::from_str(data).context(unreadable)?)),
        _ => None,
    })
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "tests")]

    use super::*;

    #[test]
    fn only_what_matters_is_an_event() {
        assert!(parse(b":\n\n").unwrap().is_none());
        assert!(parse(b"event: frames\ndata: [\n\n").unwrap().is_none());
        assert!(parse(b"event: progress\ndata: [\n\n").is_err());
        let event = parse(b"event: finished\ndata: {\"exit_code\":3,\"problem\":\"why\"}\n\n").unwrap();
        let Some(Event::Finished(finished)) = event else { panic!("{event:?}") };
        assert_eq!((finished.exit_code, finished.problem.as_deref()), (3, Some("why")));
    }
}
