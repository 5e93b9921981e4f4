//! Arguments of `groundswell agent`. The doc comments are the texts of `--help`.

use std::path::PathBuf;
use std::time::Duration;

use clap::Args;

use super::guard::GuardArgs;
use super::{JoinArgs, SecretArgs, key_value};

/// Arguments of `agent`.
#[derive(Debug, Args)]
pub struct AgentArgs {
    /// The coordinator to join
    #[arg(long, value_name = "URL", env = "GROUNDSWELL_COORDINATOR", default_value = "http://127.0.0.1:7710")]
    pub coordinator: String,
    /// How it gets in.
    #[command(flatten)]
    pub join: JoinArgs,
    /// What plans name.
    #[command(flatten)]
    pub secrets: SecretArgs,
    /// Name of this agent in reports, unique at its coordinator [default: that of its certificate, or the host's name and the process id]
    #[arg(long, value_name = "NAME", env = "GROUNDSWELL_NAME")]
    pub name: Option<String>,
    /// Worker threads [default: the cores of this machine]
    #[arg(long, value_name = "N", env = "GROUNDSWELL_WORKERS", value_parser = clap::value_parser!(u32).range(1..=256))]
    pub workers: Option<u32>,
    /// Part of the load in relation to the other agents: one of weight 2 gets twice that of one of weight 1
    #[arg(long, value_name = "N", env = "GROUNDSWELL_WEIGHT", default_value_t = 1, value_parser = clap::value_parser!(u32).range(1..=100))]
    pub weight: u32,
    /// Most operations a second that it begins, of all runs together: closed loads wait for their turn, open loads above it are not taken on [default: no limit]
    #[arg(long, value_name = "N", env = "GROUNDSWELL_MAX_RATE", value_parser = positive)]
    pub max_rate: Option<f64>,
    /// Most users, and operations in flight of open loads, that it takes on [default: no limit]
    #[arg(long, value_name = "N", env = "GROUNDSWELL_MAX_USERS", value_parser = clap::value_parser!(u32).range(1..))]
    pub max_users: Option<u32>,
    /// What it may do.
    #[command(flatten)]
    pub guard: GuardArgs,
    /// Label by which runs choose their agents (`run --on`), as KEY=VALUE (repeatable)
    #[arg(long, value_name = "KEY=VALUE", value_parser = key_value)]
    pub label: Vec<(String, String)>,
    /// Leave after this time, such as 30m, as after SIGTERM: others take its load over [default: stay]
    #[arg(long, value_name = "TIME", env = "GROUNDSWELL_LEAVE_AFTER", value_parser = super::access::time)]
    pub leave_after: Option<Duration>,
    /// Write every sample to a CSV in this directory; for tests of groundswell itself
    #[arg(long, value_name = "DIR", hide = true)]
    pub raw_samples: Option<PathBuf>,
}

fn positive(text: &str) -> Result<f64, String> {
    match text.parse::<f64>() {
        Ok(number) if number.is_finite() && number > 0.0 => Ok(number),
        _ => Err("must be a number above 0".to_owned()),
    }
}
