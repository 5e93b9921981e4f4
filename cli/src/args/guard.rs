//! What the operator of an agent lets it do. The doc comments are the texts of `--help`.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use clap::Args;
use groundswell_agent::{Allowlist, Audit, Guard, Rule};

/// What the operator of an agent lets it do, whatever a coordinator asks of it.
#[derive(Debug, Args)]
pub struct GuardArgs {
    /// Target that this agent may send load to: HOST, *.DOMAIN, an address or a range such as 10.0.0.0/8, each with :PORT or without (repeatable, or with commas) [default: this machine only]
    #[arg(long, value_name = "RULE", env = "GROUNDSWELL_ALLOW", value_delimiter = ',')]
    pub allow: Vec<Rule>,
    /// Most connections for load that it has open at the same time; what would need another one is not sent [default: no limit]
    #[arg(long, value_name = "N", env = "GROUNDSWELL_MAX_CONNECTIONS", value_parser = clap::value_parser!(u32).range(1..=1_000_000))]
    pub max_connections: Option<u32>,
    /// Longest load, such as 10m: a longer one is refused, and none goes on for longer [default: no limit]
    #[arg(long, value_name = "TIME", env = "GROUNDSWELL_MAX_DURATION", value_parser = duration)]
    pub max_duration: Option<Duration>,
    /// Leave the header `groundswell-run` away, by which a target knows which run a request is of
    #[arg(long, env = "GROUNDSWELL_NO_RUN_HEADER")]
    pub no_run_header: bool,
    /// Append to this file what it was asked to do and what it did, one JSON object a line; where that fails no run is taken on
    #[arg(long, value_name = "FILE", env = "GROUNDSWELL_AUDIT")]
    pub audit: Option<PathBuf>,
}

impl GuardArgs {
    /// Opens what is to be open.
    ///
    /// # Errors
    /// When the audit log can't be written.
    pub(crate) fn guard(&self) -> anyhow::Result<Guard> {
        let audit = self.audit.as_deref().map(|path| {
            Audit::open(path).map_err(|error| anyhow::anyhow!("--audit: {} can't be written: {error}", path.display()))
        });
        Ok(Guard {
            allow: if self.allow.is_empty() { Allowlist::default() } else { Allowlist::Rules(self.allow.clone()) },
            max_connections: self.max_connections,
            max_duration: self.max_duration,
            run_header: !self.no_run_header,
            audit: audit.transpose()?.map(Arc::new),
        })
    }
}

fn duration(text: &str) -> Result<Duration, String> {
    match humantime::parse_duration(text) {
        Ok(length) if !length.is_zero() => Ok(length),
        _ => Err("write a time such as 90s, 10m or 1h 30m".to_owned()),
    }
}
