//! Arguments about who gets in: of `serve`, `agent`, `run`, `certs` and `tokens`.

use std::path::PathBuf;
use std::time::Duration;

use clap::builder::{FalseyValueParser, PossibleValuesParser, TypedValueParser as _};
use clap::{Args, Subcommand};
use groundswell_access::{Role, SecretSource};

/// How a coordinator is protected.
#[derive(Debug, Args)]
pub struct DoorArgs {
    /// The CA, certificates and hashes of tokens of this coordinator [default: `access` in the folder of --data-dir]
    ///
    /// On an address that is not a loopback one, a coordinator serves over TLS only, agents need a certificate, and people a
    /// token. What the folder lacks is made at the start. Where it is on a read-only mount, revocations, tokens and the audit
    /// log are kept in `access` in the folder of --data-dir.
    #[arg(long, value_name = "DIR", env = "GROUNDSWELL_ACCESS")]
    pub access: Option<PathBuf>,
    /// DNS name or IP address by which agents and browsers reach this coordinator, for its certificate (repeatable)
    #[arg(long = "name", value_name = "NAME", env = "GROUNDSWELL_NAMES", value_delimiter = ',')]
    pub names: Vec<String>,
    /// Let everybody in who reaches the address, or use a coordinator elsewhere that does, without TLS; reports say so
    #[arg(long, env = "GROUNDSWELL_INSECURE", value_parser = FalseyValueParser::new(), conflicts_with = "access")]
    pub insecure: bool,
}

/// Tokens of a coordinator that its user made.
#[derive(Debug, Args)]
pub struct StaticTokenArgs {
    /// Accept the token in this file, for the role join, view, run or admin, while this coordinator runs (repeatable)
    #[arg(long = "token", value_name = "ROLE=FILE", env = "GROUNDSWELL_TOKENS", value_delimiter = ',', value_parser = role_file)]
    pub tokens: Vec<(Role, PathBuf)>,
}

/// Values that plans name.
#[derive(Debug, Args)]
pub struct SecretArgs {
    /// Value that plans use as {{ secrets.NAME }}, as NAME=env:VARIABLE or NAME=file:PATH (repeatable)
    #[arg(long = "secret", value_name = "NAME=SOURCE", env = "GROUNDSWELL_SECRETS", value_delimiter = ',', value_parser = SecretSource::parse)]
    pub secrets: Vec<(String, SecretSource)>,
}

/// How an agent gets in.
#[derive(Debug, Args)]
pub struct JoinArgs {
    /// Get a certificate with this token (`groundswell tokens create join`)
    #[arg(long, value_name = "TOKEN", env = "GROUNDSWELL_JOIN", hide_env_values = true, conflicts_with = "join_file")]
    pub join: Option<String>,
    /// The same with the token in this file
    #[arg(long, value_name = "FILE", env = "GROUNDSWELL_JOIN_FILE")]
    pub join_file: Option<PathBuf>,
    /// Where the certificate is, or is kept after joining: agent.pem, agent.key, ca.pem (`groundswell certs agent`)
    #[arg(long, value_name = "DIR", env = "GROUNDSWELL_IDENTITY")]
    pub identity: Option<PathBuf>,
    /// The coordinator's CA (ca.pem); a token of `groundswell tokens` knows it
    #[arg(long, value_name = "FILE", env = "GROUNDSWELL_CA")]
    pub ca: Option<PathBuf>,
    /// Use a coordinator without TLS that is not on this machine
    #[arg(long, env = "GROUNDSWELL_INSECURE", value_parser = FalseyValueParser::new())]
    pub insecure: bool,
}

/// How people get in.
#[derive(Debug, Args)]
pub struct ClientArgs {
    /// Token for --coordinator, in a file [env: GROUNDSWELL_TOKEN has the token itself]
    #[arg(long, value_name = "FILE", env = "GROUNDSWELL_TOKEN_FILE")]
    pub token_file: Option<PathBuf>,
    /// The CA of --coordinator (ca.pem); a token of `groundswell tokens` knows it
    #[arg(long, value_name = "FILE", env = "GROUNDSWELL_CA")]
    pub ca: Option<PathBuf>,
}

/// Where the access folder is.
#[derive(Debug, Args)]
pub struct AccessArgs {
    /// The access folder of the coordinator [default: `access` in the folder of --data-dir]
    #[arg(long, value_name = "DIR", env = "GROUNDSWELL_ACCESS")]
    pub access: Option<PathBuf>,
    /// The store of the coordinator, beside whose runs the folder is by default
    #[command(flatten)]
    pub store: super::StoreArgs,
}

/// Arguments of `certs`.
#[derive(Debug, Args)]
pub struct CertsArgs {
    /// What to do
    #[command(subcommand)]
    pub action: CertsAction,
}

/// What `certs` does.
#[derive(Debug, Subcommand)]
pub enum CertsAction {
    /// Make the CA of a coordinator, where there is none, and print its fingerprint
    Init {
        /// Where.
        #[command(flatten)]
        access: AccessArgs,
    },
    /// Make the certificate of an agent: agent.pem, agent.key and ca.pem, for `agent --identity`
    Agent {
        /// The agent's name
        name: String,
        /// Where to write them
        #[arg(short, long, value_name = "DIR")]
        out: PathBuf,
        /// How long it counts
        #[arg(long = "for", value_name = "TIME", default_value = "90d", value_parser = time)]
        lifetime: Duration,
        /// Where.
        #[command(flatten)]
        access: AccessArgs,
    },
    /// Print the certificate of the CA (PEM), by which browsers, curl and Prometheus know the coordinator
    Ca {
        /// Write it to this file instead
        #[arg(short, long, value_name = "FILE")]
        out: Option<PathBuf>,
        /// Where.
        #[command(flatten)]
        access: AccessArgs,
    },
    /// Make every certificate that an agent has by now count no more; a running coordinator ends its session, and no token to
    /// join brings that name back
    Revoke {
        /// The agent's name
        name: String,
        /// Where.
        #[command(flatten)]
        access: AccessArgs,
    },
    /// List the agents whose certificates were revoked
    Revoked {
        /// Where.
        #[command(flatten)]
        access: AccessArgs,
    },
}

/// Arguments of `tokens`.
#[derive(Debug, Args)]
pub struct TokensArgs {
    /// What to do
    #[command(subcommand)]
    pub action: TokensAction,
}

/// What `tokens` does.
#[derive(Debug, Subcommand)]
pub enum TokensAction {
    /// Make a token and print it: the only time that it is seen
    Create {
        /// join: an agent's certificate; view: read; run: submit and cancel too; admin: change the history too
        #[arg(value_parser = role())]
        role: Role,
        /// How long it counts
        #[arg(long = "for", value_name = "TIME", default_value = "1h", value_parser = time)]
        lifetime: Duration,
        /// How many agents may join with it [default: any number]
        #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..))]
        uses: Option<u32>,
        /// Write it to this file, mode 0600, instead of printing it
        #[arg(short, long, value_name = "FILE")]
        out: Option<PathBuf>,
        /// Leave the file as it is where its token counts for half of that time still
        #[arg(long, requires = "out")]
        keep: bool,
        /// Where.
        #[command(flatten)]
        access: AccessArgs,
    },
    /// List the tokens: ids, roles, until when
    List {
        /// Where.
        #[command(flatten)]
        access: AccessArgs,
    },
    /// Make a token count no more
    Revoke {
        /// Its id
        id: String,
        /// Where.
        #[command(flatten)]
        access: AccessArgs,
    },
}

fn role() -> impl clap::builder::TypedValueParser<Value = Role> {
    PossibleValuesParser::new(Role::ALL.map(Role::name))
        .try_map(|name| Role::of_name(&name).ok_or("there is no such role"))
}

fn role_file(text: &str) -> Result<(Role, PathBuf), String> {
    let (role, file) = text.split_once('=').unwrap_or_default();
    match Role::of_name(role) {
        Some(role) if !file.is_empty() => Ok((role, PathBuf::from(file))),
        _ => Err("write it as ROLE=FILE with a role of join, view, run, admin".to_owned()),
    }
}

/// A duration, as people write it.
pub(super) fn time(text: &str) -> Result<Duration, String> {
    humantime::parse_duration(text).map_err(|error| format!("{error}; write it like 90s, 1h or 30d"))
}
