//! Which targets an agent may send to: a list that belongs to the agent, and that nobody else can widen.
//!
//! The decision is about the address that a connection is about to go to, whatever it was called before; a name counts
//! only where it was the machine's own name service that said which address it has.
//!
//! # Layout
//! - `rule`: one rule, and what it covers
//! - `address`: kinds of addresses

mod address;
mod rule;
#[cfg(test)]
mod tests;

use std::fmt;
use std::net::SocketAddr;

pub(crate) use address::Kind;
pub use rule::{InvalidRule, Rule};

/// Which targets an agent may send to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Allowlist {
    /// What these rules cover.
    Rules(Vec<Rule>),
    /// Whatever this one plan asks for: it is run by the user who wrote it, in the user's own process. No link-local or
    /// metadata address but the plan's own.
    Plan {
        /// The plan's hash, without a search level.
        hash: String,
    },
}

impl Default for Allowlist {
    /// This machine only.
    fn default() -> Self {
        let loopback = ["127.0.0.0/8", "::1"];
        Allowlist::Rules(loopback.iter().filter_map(|rule| rule.parse().ok()).collect())
    }
}

/// Whether a name may be looked up. A look-up tells name servers elsewhere what was asked, so it is a message of its own.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum LookUp {
    /// The list has the name, or there is none.
    Listed,
    /// The list has addresses that it may stand for.
    Unlisted,
}

/// Why an address may not be sent to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Refused {
    /// No rule is about it.
    NotListed,
    /// Its name or range is listed, but an address of this kind has to be listed itself.
    Kind(Kind),
}

impl Allowlist {
    /// Whether a connection may go to this address. `host` is the name or address that was asked for; none where the plan
    /// itself said which address it has. `named` says whether the plan has this host in its text.
    pub(crate) fn decide(&self, host: Option<&str>, address: SocketAddr, named: bool) -> Result<(), Refused> {
        let kind = Kind::of(address.ip());
        match self {
            Allowlist::Rules(rules) if rules.iter().any(|rule| rule.covers(host, address)) => Ok(()),
            Allowlist::Rules(rules) => {
                let is_listed =
                    host.is_some_and(|host| rules.iter().any(|rule| rule.covers_name(host, address.port())));
                Err(if is_listed || kind.is_special() { Refused::Kind(kind) } else { Refused::NotListed })
            }
            Allowlist::Plan { .. } if named || kind != Kind::LinkLocal => Ok(()),
            Allowlist::Plan { .. } => Err(Refused::Kind(kind)),
        }
    }

    /// Whether the addresses of this name may be asked for: where no rule could cover any of them, nobody is asked.
    pub(crate) fn look_up(&self, host: &str, port: u16) -> Result<LookUp, Refused> {
        let Allowlist::Rules(rules) = self else { return Ok(LookUp::Listed) };
        let is_local = rule::is_localhost(host) && rules.iter().any(|rule| rule.has_loopback(port));
        if is_local || rules.iter().any(|rule| rule.covers_name(host, port)) {
            return Ok(LookUp::Listed);
        }
        let may_be_covered = rules.iter().any(|rule| rule.covers_others(port));
        if may_be_covered { Ok(LookUp::Unlisted) } else { Err(Refused::NotListed) }
    }

    /// Whether a connection may go to this name where a proxy looks up its address.
    pub(crate) fn decide_unseen(&self, host: &str, port: u16) -> Result<(), Refused> {
        match self {
            Allowlist::Rules(rules) if !rules.iter().any(|rule| rule.covers_name(host, port)) => {
                Err(Refused::NotListed)
            }
            Allowlist::Rules(_) | Allowlist::Plan { .. } => Ok(()),
        }
    }

    /// The rule that would allow this address, for people.
    pub(crate) fn remedy(host: &str, address: SocketAddr) -> String {
        let is_name = host.parse::<std::net::IpAddr>().is_err();
        if is_name && rule::may_stand_for(host, address.ip()) {
            return format!("{host}:{}", address.port());
        }
        SocketAddr::new(address::plain(address.ip()), address.port()).to_string()
    }
}

impl fmt::Display for Allowlist {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Allowlist::Rules(rules) if *self == Allowlist::default() => {
                debug_assert!(!rules.is_empty());
                formatter.write_str("this machine only (127.0.0.0/8, ::1)")
            }
            Allowlist::Rules(rules) => {
                let rules: Vec<String> = rules.iter().map(Rule::to_string).collect();
                formatter.write_str(&rules.join(", "))
            }
            Allowlist::Plan { hash } => write!(formatter, "what the plan {hash} asks for"),
        }
    }
}

impl fmt::Display for Refused {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Refused::NotListed => formatter.write_str("its allowlist does not have that"),
            Refused::Kind(kind) => write!(formatter, "that is {kind}, which its allowlist would have to list itself"),
        }
    }
}
