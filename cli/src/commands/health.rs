//! `groundswell health`: what a container's health check or a script asks, in an image that has no other program.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::Duration;

use anyhow::{Context, anyhow};

use super::runtime;
use crate::args::HealthArgs;
use crate::{Exit, Failure, Outcome};

/// A coordinator that takes longer is not well.
const LIMIT: Duration = Duration::from_secs(3);

pub(crate) fn run(args: &HealthArgs) -> Outcome {
    let ca = args.ca.clone().or_else(|| authority_beside(args));
    let url = match &args.url {
        Some(url) => url.clone(),
        None => own_url(args.listen, ca.is_some()),
    };
    let client = client(&url, ca)?;
    let path = if args.ready { "/ready" } else { "/health" };
    let asked = runtime()?.block_on(async { client.get(format!("{}{path}", url.trim_end_matches('/'))).send().await });
    match asked {
        Ok(answer) if answer.status().is_success() => Ok(Exit::Success),
        Ok(answer) => Err(unwell(anyhow!("the coordinator at {url} is not well: it answers {}", answer.status()))),
        Err(error) => {
            Err(unwell(anyhow!(error.without_url()).context(format!("the coordinator at {url} is not well"))))
        }
    }
}

/// Health checks know 0 and 1.
fn unwell(error: anyhow::Error) -> Failure {
    Failure { exit: Exit::Code(1), ..Failure::incomplete(error) }
}

/// The CA that `serve` has made, where it serves with TLS.
fn authority_beside(args: &HealthArgs) -> Option<PathBuf> {
    if args.url.is_some() || args.insecure {
        return None;
    }
    let folder = args.access.clone().or_else(|| {
        let store = args.data_dir.as_deref().filter(|store| !store.contains("://"))?;
        Some(PathBuf::from(store).join("access"))
    });
    Some(folder?.join("ca.pem")).filter(|file| file.exists())
}

/// Where a coordinator of this machine that listens there is asked.
fn own_url(listen: SocketAddr, tls: bool) -> String {
    let scheme = if tls { "https" } else { "http" };
    if listen.ip().is_unspecified() || listen.ip().is_loopback() {
        // The name is in every coordinator's certificate.
        return format!("{scheme}://localhost:{}", listen.port());
    }
    format!("{scheme}://{listen}")
}

fn client(url: &str, ca: Option<PathBuf>) -> Result<reqwest::Client, Failure> {
    let is_one = reqwest::Url::parse(url).is_ok_and(|url| matches!(url.scheme(), "http" | "https") && url.has_host());
    if !is_one {
        return Err(Failure::usage(anyhow!("{url}: write the coordinator's URL like https://localhost:7710")));
    }
    // A second time, in the same process, it is there already.
    let _ = rustls::crypto::ring::default_provider().install_default();
    let mut builder = reqwest::Client::builder().timeout(LIMIT).no_proxy();
    if let Some(file) = ca {
        let name = file.display().to_string();
        let pem = std::fs::read(&file).with_context(|| format!("can't read {name}")).map_err(unwell)?;
        let authorities = reqwest::Certificate::from_pem_bundle(&pem);
        builder = builder
            .tls_certs_only(authorities.with_context(|| format!("{name}: no certificate in it")).map_err(unwell)?);
    } else if url.starts_with("http://") {
        // There may be no certificate authorities in a container, and none are needed.
        builder = builder.tls_certs_only([]);
    }
    builder.build().context("can't set up an HTTP client").map_err(unwell)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "tests")]

    use super::*;

    #[test]
    fn where_the_coordinator_of_this_machine_is_asked() {
        let url = |listen: &str, tls| own_url(listen.parse().unwrap(), tls);
        assert_eq!(url("0.0.0.0:7710", true), "https://localhost:7710");
        assert_eq!(url("[::]:7711", false), "http://localhost:7711");
        assert_eq!(url("127.0.0.1:7710", false), "http://localhost:7710");
        assert_eq!(url("10.1.2.3:7710", true), "https://10.1.2.3:7710");
        assert_eq!(url("[fd00::1]:7710", true), "https://[fd00::1]:7710");
    }
}
