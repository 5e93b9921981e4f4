//! How an agent gets in: by a certificate that it has, or gets with a token.

use std::path::Path;
use std::time::Duration;

use anyhow::{Context, anyhow};
use groundswell_access::{Identity, Request, Token, Trust, client_config};
use reqwest::Url;
use rustls::ClientConfig;
use tokio::time::sleep;

use super::access::token;
use crate::args::{AgentArgs, JoinArgs};
use crate::client::{Client, Reach, on_this_machine};
use crate::{Failure, output};

/// Between two tries to find the coordinator.
const RETRY: Duration = Duration::from_secs(1);

/// How an agent gets in.
pub(super) struct Way {
    /// Its name.
    pub(super) name: String,
    /// None where everybody gets in.
    pub(super) tls: Option<ClientConfig>,
}

/// Finds the way, and gets a certificate where one is needed. A coordinator that is not there yet is waited for.
pub(super) async fn way(args: &AgentArgs, default_name: impl FnOnce() -> String) -> Result<Way, Failure> {
    let join = &args.join;
    let url = Url::parse(&args.coordinator)
        .with_context(|| {
            format!("{}: not the URL of a coordinator; write it like http://127.0.0.1:7710", args.coordinator)
        })
        .map_err(Failure::usage)?;
    let given = match &join.join {
        Some(text) => Some(text.trim().to_owned()),
        None => token(join.join_file.as_deref(), "GROUNDSWELL_JOIN")?,
    };
    if url.scheme() != "https" {
        if !join.insecure && !on_this_machine(&url) {
            return Err(Failure::usage(anyhow!(
                "{url}: this connection would not be encrypted, and anybody could be the coordinator; use https and --join, \
                 or say --insecure"
            )));
        }
        if given.is_some() || join.identity.is_some() {
            return Err(Failure::usage(anyhow!("{url}: a certificate is for a coordinator at an https URL")));
        }
        return Ok(Way { name: args.name.clone().unwrap_or_else(default_name), tls: None });
    }
    if let Some(identity) = kept(args)? {
        return of(&identity, &Trust::Ca(identity.chain.get(1..).unwrap_or_default().to_vec()));
    }
    let given = given.ok_or_else(|| {
        Failure::usage(anyhow!(
            "{url}: an agent needs a certificate there; start it with --join TOKEN (groundswell tokens create join), or \
             with --identity DIR (groundswell certs agent)"
        ))
    })?;
    let trust = trust(&url, &given, join)?;
    let name = args.name.clone().unwrap_or_else(default_name);
    let identity = joined(&args.coordinator, &name, &given, &trust).await?;
    if let Some(folder) = &join.identity {
        identity.save(folder).map_err(Failure::usage)?;
    }
    of(&identity, &trust)
}

/// The certificate of `--identity`, if it still counts.
fn kept(args: &AgentArgs) -> Result<Option<Identity>, Failure> {
    let Some(folder) = &args.join.identity else { return Ok(None) };
    let Some(identity) = Identity::load(folder).map_err(Failure::usage)? else {
        return Ok(None);
    };
    let subject = identity.subject().map_err(Failure::usage)?;
    if let Some(name) = args.name.as_ref().filter(|name| **name != subject.name) {
        return Err(Failure::usage(anyhow!(
            "{}: this certificate is that of agent {:?}; leave out --name {name:?}, or use another --identity",
            folder.display(),
            subject.name
        )));
    }
    let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap_or_default().as_secs();
    if now >= subject.expires_s {
        output::note(&format!("{}: this certificate has expired", folder.display()));
        return Ok(None);
    }
    Ok(Some(identity))
}

fn of(identity: &Identity, trust: &Trust) -> Result<Way, Failure> {
    let name = identity.subject().map_err(Failure::usage)?.name;
    let tls = client_config(trust, Some(identity)).map_err(Failure::usage)?;
    Ok(Way { name, tls: Some(tls) })
}

fn trust(url: &Url, token: &str, join: &JoinArgs) -> Result<Trust, Failure> {
    trust_of(join.ca.as_deref(), Some(token))?.ok_or_else(|| {
        Failure::usage(anyhow!("{url}: this token does not say which CA the coordinator has; add --ca ca.pem"))
    })
}

/// By what a coordinator is known: the CA of a file, or that of a token.
pub(super) fn trust_of(ca: Option<&Path>, token: Option<&str>) -> Result<Option<Trust>, Failure> {
    if let Some(path) = ca {
        let text = std::fs::read_to_string(path).with_context(|| format!("can't read {}", path.display()));
        let trust = Trust::from_pem(&text.map_err(Failure::usage)?);
        return trust.with_context(|| path.display().to_string()).map(Some).map_err(Failure::usage);
    }
    Ok(token.and_then(|token| Token::parse(token).ok()).map(|token| Trust::Fingerprint(token.ca)))
}

async fn joined(coordinator: &str, name: &str, token: &str, trust: &Trust) -> Result<Identity, Failure> {
    let reach = Reach { token: Some(token.to_owned()), trust: Some(trust.clone()), ..Reach::at(coordinator) };
    let client = Client::new(&reach)?;
    let request = Request::new().map_err(Failure::usage)?;
    let mut told = false;
    loop {
        match client.join(name, &request.pem).await {
            Ok(issued) => return request.granted(&issued.certificate, &issued.ca).map_err(Failure::usage),
            Err(failure) if failure.unreachable => {
                if !told {
                    output::note(&format!("{:#}; trying again every second", failure.error));
                    told = true;
                }
                sleep(RETRY).await;
            }
            // A refused join is not one that goes better the next time.
            Err(failure) => return Err(Failure::usage(failure.error)),
        }
    }
}
