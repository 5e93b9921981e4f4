//! Every command and flag. The doc comments are the texts of `--help`.

mod access;
mod agent;
mod guard;

use std::net::SocketAddr;
use std::path::PathBuf;

use clap::builder::{FalseyValueParser, PossibleValuesParser, TypedValueParser as _};
use clap::{Args, Parser, Subcommand};
use groundswell_coordinator::compare::Comparison;
use groundswell_coordinator::report::Format;

pub use agent::AgentArgs;

pub use access::{
    AccessArgs, CertsAction, CertsArgs, ClientArgs, DoorArgs, JoinArgs, SecretArgs, StaticTokenArgs, TokensAction,
    TokensArgs,
};

/// Distributed load generator for HTTP and WebSocket services.
///
/// Latency counts from the intended send time, percentiles are those of one histogram of every sample of every agent,
/// and every scheduled operation ends in exactly one counter.
#[derive(Debug, Parser)]
#[command(name = "groundswell", bin_name = "groundswell", version, arg_required_else_help = true, after_help = EXIT_CODES)]
pub struct Cli {
    /// Log more to stderr; twice for even more
    #[arg(short, long, action = clap::ArgAction::Count, global = true)]
    pub verbose: u8,
    /// What to do
    #[command(subcommand)]
    pub command: Command,
}

const EXIT_CODES: &str = "Exit codes of a run:
  0    passed
  1    a threshold does not hold, or a comparison found a regression
  2    wrong usage, or the plan is invalid; nothing was sent
  3    the run is incomplete or its figures can't be trusted (DEGRADED, INVALID)
  4    the target never became ready; nothing was sent
  130  interrupted; a report is still written";

/// The commands.
#[derive(Debug, Subcommand)]
pub enum Command {
    /// Run a plan and exit with its verdict
    Run(RunArgs),
    /// Find the greatest load that keeps the plan's thresholds
    Search(RunArgs),
    /// Start a coordinator that agents join and runs are submitted to
    Serve(ServeArgs),
    /// Join a coordinator and generate load for it
    Agent(AgentArgs),
    /// Validate a plan and show what it would do; sends nothing
    Check(CheckArgs),
    /// Print the JSON Schema of the plan file, for editors
    Schema,
    /// List the runs of a store, export, import, recover and delete them
    Runs(RunsArgs),
    /// Print the report of a stored run
    Report(ReportArgs),
    /// Say whether a run regressed against one or more baselines, with the noise taken into account
    Compare(CompareArgs),
    /// Ask whether a coordinator is up: exit code 0 if it is, 1 if not
    Health(HealthArgs),
    /// Make the CA of a coordinator and certificates of agents, and revoke them
    Certs(CertsArgs),
    /// Make, list and revoke tokens, by which agents join and people get in
    Tokens(TokensArgs),
    /// Start the built-in target to try groundswell on
    DemoTarget(DemoTargetArgs),
}

/// Arguments of `run` and `search`.
#[derive(Debug, Args)]
pub struct RunArgs {
    /// The plan file (YAML)
    pub plan: PathBuf,
    /// Agents in this process [default: 1, or none with --wait-agents]
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..=64), conflicts_with = "coordinator")]
    pub agents: Option<u32>,
    /// Submit to this coordinator instead of running in this process
    #[arg(long, value_name = "URL", env = "GROUNDSWELL_COORDINATOR", conflicts_with_all = ["listen", "demo_target"])]
    pub coordinator: Option<String>,
    /// Wait until so many agents from elsewhere are there
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..=10_000))]
    pub wait_agents: Option<u32>,
    /// How long to wait for them, in seconds
    #[arg(long, value_name = "SECONDS", default_value_t = 60)]
    pub wait: u32,
    /// Address on which agents from elsewhere can join this run
    #[arg(long, value_name = "ADDR", env = "GROUNDSWELL_LISTEN")]
    pub listen: Option<SocketAddr>,
    /// How agents from elsewhere get in.
    #[command(flatten)]
    pub door: DoorArgs,
    /// What the plan names.
    #[command(flatten)]
    pub secrets: SecretArgs,
    /// How this command gets in.
    #[command(flatten)]
    pub client: ClientArgs,
    /// Start the built-in target at the plan's target address for the time of the run
    #[arg(long)]
    pub demo_target: bool,
    /// Write the report to a file as well; its ending chooses the format: .txt, .md, .json, .html, .xml (JUnit), .csv, .steps.csv, .hlog or .hgrm (repeatable)
    #[arg(short, long, value_name = "FILE")]
    pub out: Vec<PathBuf>,
    /// Keep a label with the run, as KEY=VALUE (repeatable)
    #[arg(long, value_name = "KEY=VALUE", value_parser = key_value)]
    pub label: Vec<(String, String)>,
    /// Only agents that have this label, as KEY=VALUE (repeatable)
    #[arg(long, value_name = "KEY=VALUE", value_parser = key_value)]
    pub on: Vec<(String, String)>,
    /// Keep no labels that the variables of a CI server give: ci, commit, branch, pull_request, build_url
    #[arg(long)]
    pub no_ci_labels: bool,
    /// Leave the header `groundswell-run` away, by which a target knows which run a request is of
    #[arg(long, conflicts_with = "coordinator")]
    pub no_run_header: bool,
    /// Worker threads of each agent in this process [default: the cores divided by the agents, at least 1]
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..=256))]
    pub workers: Option<u32>,
    /// Plain lines instead of the live view
    #[arg(long)]
    pub plain: bool,
    /// Keep the run in this store instead of forgetting it with the report: a folder, or a postgres:// URL
    #[arg(long, value_name = "DIR|URL", conflicts_with = "coordinator")]
    pub data_dir: Option<String>,
    /// Compare with this run afterwards and exit with 1 if it regressed: an id or `last` of the store, an id of --coordinator, or a file of `runs export` (repeatable)
    #[arg(long, value_name = "RUN|FILE")]
    pub baseline: Vec<String>,
    /// Write every sample to a CSV in this directory; for tests of groundswell itself
    #[arg(long, value_name = "DIR", hide = true)]
    pub raw_samples: Option<PathBuf>,
}

/// Where the runs are.
#[derive(Debug, Args)]
pub struct StoreArgs {
    /// The store of runs: a folder (SQLite), or a postgres:// URL [default: groundswell in the user's state folder]
    #[arg(long, value_name = "DIR|URL", env = "GROUNDSWELL_DATA_DIR", hide_env_values = true)]
    pub data_dir: Option<String>,
}

/// Where figures go while runs go on.
#[derive(Debug, Args)]
pub struct OtlpArgs {
    /// Send figures to this OpenTelemetry collector while runs go on (OTLP over gRPC)
    #[arg(long = "otlp", value_name = "URL", env = "OTEL_EXPORTER_OTLP_ENDPOINT")]
    pub url: Option<String>,
    /// So often, in milliseconds
    #[arg(long = "otlp-interval", value_name = "MS", env = "OTEL_METRIC_EXPORT_INTERVAL", default_value_t = 10_000, value_parser = clap::value_parser!(u64).range(100..=3_600_000))]
    pub interval_ms: u64,
}

/// Arguments of `serve`.
#[derive(Debug, Args)]
pub struct ServeArgs {
    /// Address for agents and runs
    #[arg(long, value_name = "ADDR", env = "GROUNDSWELL_LISTEN", default_value = "127.0.0.1:7710")]
    pub listen: SocketAddr,
    /// The store.
    #[command(flatten)]
    pub store: StoreArgs,
    /// Who gets in.
    #[command(flatten)]
    pub door: DoorArgs,
    /// What plans name.
    #[command(flatten)]
    pub secrets: SecretArgs,
    /// Tokens from elsewhere.
    #[command(flatten)]
    pub tokens: StaticTokenArgs,
    /// Where figures go.
    #[command(flatten)]
    pub otlp: OtlpArgs,
    /// Delete runs that ended longer ago than so many days [default: keep all]
    #[arg(long, value_name = "DAYS")]
    pub keep_days: Option<u32>,
    /// Keep only the newest so many runs [default: keep all]
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..))]
    pub keep: Option<u32>,
}

/// Arguments of `runs`.
#[derive(Debug, Args)]
pub struct RunsArgs {
    /// What to do with them [default: list]
    #[command(subcommand)]
    pub action: Option<RunsAction>,
    /// The store.
    #[command(flatten)]
    pub store: StoreArgs,
}

/// What `runs` does.
#[derive(Debug, Subcommand)]
pub enum RunsAction {
    /// Turn a run whose coordinator will not come back into a report of what had arrived
    Recover {
        /// The run's id
        run: String,
        /// Write the report to a file as well; its ending chooses the format: .txt, .md, .json, .html, .xml (JUnit), .csv, .steps.csv, .hlog or .hgrm (repeatable)
        #[arg(short, long, value_name = "FILE")]
        out: Vec<PathBuf>,
        /// The store.
        #[command(flatten)]
        store: StoreArgs,
    },
    /// Write a finished run into a file, for another store: plan, report, histograms, labels, times
    Export {
        /// The run's id, or `last`
        run: String,
        /// The file (JSON, gzipped; usually .run.json.gz)
        file: PathBuf,
        /// The store.
        #[command(flatten)]
        store: StoreArgs,
    },
    /// Take a run from such a file into the store, all of it or nothing
    Import {
        /// The file
        file: PathBuf,
        /// The store.
        #[command(flatten)]
        store: StoreArgs,
    },
    /// Merge the raw deltas of finished runs and delete old runs
    Tidy {
        /// Delete runs that ended longer ago than so many days
        #[arg(long, value_name = "DAYS")]
        older_than: Option<u32>,
        /// Delete all but the so many finished runs that ended last
        #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..))]
        keep: Option<u32>,
        /// The store.
        #[command(flatten)]
        store: StoreArgs,
    },
}

/// Arguments of `report`.
#[derive(Debug, Args)]
pub struct ReportArgs {
    /// The run's id, or `last`
    pub run: String,
    /// Print the report in this format
    #[arg(long, value_name = "FORMAT", value_parser = format(&Format::ALL))]
    pub format: Option<Format>,
    /// Write the report to a file instead; its ending chooses the format: .txt, .md, .json, .html, .xml (JUnit), .csv, .steps.csv, .hlog or .hgrm (repeatable)
    #[arg(short, long, value_name = "FILE")]
    pub out: Vec<PathBuf>,
    /// The store.
    #[command(flatten)]
    pub store: StoreArgs,
}

/// Arguments of `compare`.
#[derive(Debug, Args)]
pub struct CompareArgs {
    /// The baselines: ids of runs, `last`, or files of `runs export`; several show what differs from run to run
    #[arg(required = true)]
    pub base: Vec<String>,
    /// The run that is judged: its id, `last`, or a file of `runs export`
    pub run: String,
    /// Print the comparison in this format [default: text]
    #[arg(long, value_name = "FORMAT", value_parser = format(&Comparison::FORMATS))]
    pub format: Option<Format>,
    /// Write it to a file instead; its ending chooses the format: .json, .md, .txt or .xml (JUnit) (repeatable)
    #[arg(short, long, value_name = "FILE")]
    pub out: Vec<PathBuf>,
    /// Compare runs that can't be trusted, or that sent different load, all the same
    #[arg(long)]
    pub force: bool,
    /// Exit with 1 also where it can't be told whether a figure regressed
    #[arg(long)]
    pub strict: bool,
    /// The store.
    #[command(flatten)]
    pub store: StoreArgs,
}

/// Arguments of `check`.
#[derive(Debug, Args)]
pub struct CheckArgs {
    /// The plan file (YAML)
    pub plan: PathBuf,
    /// Show the shares of so many agents
    #[arg(long, value_name = "N", default_value_t = 1, value_parser = clap::value_parser!(u32).range(1..=10_000))]
    pub agents: u32,
}

/// Arguments of `health`.
#[derive(Debug, Args)]
pub struct HealthArgs {
    /// The coordinator [default: that of this machine, where --listen says]
    pub url: Option<String>,
    /// Whether it is ready: up, and able to store what it hears
    #[arg(long)]
    pub ready: bool,
    /// Certificate authority of the coordinator (PEM) [default: ca.pem of --access, or of the folder `access` in --data-dir]
    #[arg(long, value_name = "FILE", env = "GROUNDSWELL_CA")]
    pub ca: Option<PathBuf>,
    /// Where the coordinator of this machine listens, as `serve` was told
    #[arg(long, value_name = "ADDR", env = "GROUNDSWELL_LISTEN", default_value = "127.0.0.1:7710")]
    pub listen: SocketAddr,
    /// Its folder of certificates, as `serve` was told
    #[arg(long, value_name = "DIR", env = "GROUNDSWELL_ACCESS")]
    pub access: Option<PathBuf>,
    /// Its store, as `serve` was told
    #[arg(long, value_name = "DIR|URL", env = "GROUNDSWELL_DATA_DIR", hide_env_values = true)]
    pub data_dir: Option<String>,
    /// It serves without TLS
    #[arg(long, env = "GROUNDSWELL_INSECURE", value_parser = FalseyValueParser::new())]
    pub insecure: bool,
}

/// Arguments of `demo-target`.
#[derive(Debug, Args)]
pub struct DemoTargetArgs {
    /// Address to serve on
    #[arg(long, value_name = "ADDR", default_value = "127.0.0.1:8088")]
    pub listen: SocketAddr,
    /// Seed of its latencies
    #[arg(long, value_name = "N", default_value_t = 1)]
    pub seed: u64,
    /// Requests that it works on at the same time; more have to wait
    #[arg(long, value_name = "N", default_value_t = 16)]
    pub workers: usize,
    /// Multiplies its latencies; 0 makes it answer at once
    #[arg(long, value_name = "FACTOR", default_value_t = 1.0)]
    pub latency_scale: f64,
}

/// Formats by their names.
fn format(formats: &[Format]) -> impl clap::builder::TypedValueParser<Value = Format> {
    PossibleValuesParser::new(formats.iter().map(|format| format.name()))
        .try_map(|name| Format::of_name(&name).ok_or("there is no such format"))
}

fn key_value(text: &str) -> Result<(String, String), String> {
    match text.split_once('=') {
        Some((key, value)) if !key.trim().is_empty() => Ok((key.trim().to_owned(), value.to_owned())),
        _ => Err("write it as KEY=VALUE".to_owned()),
    }
}
