//! A rule of an allowlist: `HOST`, `*.DOMAIN`, an address or a range of addresses, each with a port or without.

use std::fmt;
use std::net::{IpAddr, Ipv6Addr, SocketAddr};
use std::str::FromStr;

use url::Host;

use super::address::{Kind, plain};

/// One line of an allowlist.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Rule {
    who: Who,
    /// Any where none.
    port: Option<u16>,
}

#[derive(Debug, Clone, PartialEq, Eq)]
enum Who {
    /// A host, in lower case.
    Name(String),
    /// Every name below this one, at any depth.
    Below(String),
    /// The addresses that begin with the first `length` bits of this one; the others are zero.
    Range { first: IpAddr, length: u8 },
}

/// Why a text is no rule.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct InvalidRule(String);

/// Endings of names that only a private network has: RFC 2606, 6761, 6762 with its appendix G, 8375, ICANN's `internal`,
/// and the search domain of Kubernetes.
const PRIVATE_ENDINGS: [&str; 12] = [
    "local",
    "localdomain",
    "internal",
    "intranet",
    "private",
    "corp",
    "home",
    "lan",
    "test",
    "home.arpa",
    "svc",
    "localhost",
];

impl Rule {
    /// Does it cover this address? `host` is what the address was looked up for; none where somebody else said which
    /// address it has.
    pub(super) fn covers(&self, host: Option<&str>, address: SocketAddr) -> bool {
        let ip = plain(address.ip());
        if self.port.is_some_and(|port| port != address.port()) {
            return false;
        }
        match &self.who {
            Who::Range { .. } => self.lists(ip),
            Who::Name(_) | Who::Below(_) => host.is_some_and(|host| self.names(host) && may_stand_for(host, ip)),
        }
    }

    /// Does it allow this name at this port, whatever the address?
    pub(super) fn covers_name(&self, host: &str, port: u16) -> bool {
        self.names(host) && self.port.is_none_or(|own| own == port)
    }

    /// Is it for this name, at whichever port?
    pub(super) fn names(&self, host: &str) -> bool {
        let host = bare(host);
        match &self.who {
            Who::Name(name) => *name == host,
            Who::Below(domain) => host.strip_suffix(domain.as_str()).is_some_and(|rest| {
                // `.example.com` is no name.
                rest.len() > 1 && rest.ends_with('.')
            }),
            Who::Range { .. } => false,
        }
    }

    /// Does it list addresses of this machine, at this port?
    pub(super) fn has_loopback(&self, port: u16) -> bool {
        let loopback = [IpAddr::from([127, 0, 0, 1]), IpAddr::from(Ipv6Addr::LOCALHOST)];
        self.port.is_none_or(|own| own == port) && (self.is_loopback() || loopback.into_iter().any(|ip| self.lists(ip)))
    }

    /// Does it list addresses beyond this machine, at this port?
    pub(super) fn covers_others(&self, port: u16) -> bool {
        let is_range = matches!(self.who, Who::Range { .. });
        is_range && self.port.is_none_or(|own| own == port) && !self.is_loopback()
    }

    fn is_loopback(&self) -> bool {
        matches!(self.who, Who::Range { first, length } if is_within(first, length, Kind::Loopback))
    }

    fn lists(&self, ip: IpAddr) -> bool {
        let Who::Range { first, length } = self.who else { return false };
        let kind = Kind::of(ip);
        let inside = cut(ip, length) == Some(first) && ip.is_ipv4() == first.is_ipv4();
        // A range that is wider than what is special does not mean it.
        inside && (!kind.is_special() || is_within(first, length, kind))
    }
}

/// What a name may stand for, whoever answers for it: a name of the internet for public addresses, a name that only a
/// private network knows for private ones too, and `localhost` for nothing but this machine.
pub(super) fn may_stand_for(host: &str, ip: IpAddr) -> bool {
    let host = bare(host);
    let ends_with = |ending: &str| host == ending || host.strip_suffix(ending).is_some_and(|rest| rest.ends_with('.'));
    match Kind::of(ip) {
        Kind::Public => true,
        Kind::Private => !host.contains('.') || PRIVATE_ENDINGS.into_iter().any(ends_with),
        Kind::Loopback => ends_with("localhost"),
        Kind::LinkLocal | Kind::Unspecified | Kind::Many => false,
    }
}

/// Does every resolver know this name without asking anybody?
pub(super) fn is_localhost(host: &str) -> bool {
    bare(host) == "localhost"
}

/// Names are compared in lower case and without the dot that says that they are complete.
fn bare(host: &str) -> String {
    host.trim_end_matches('.').to_ascii_lowercase()
}

/// The first bits of an address; none where it has not so many.
fn cut(ip: IpAddr, length: u8) -> Option<IpAddr> {
    let length = u32::from(length);
    Some(match ip {
        IpAddr::V4(ip) if length <= 32 => {
            IpAddr::V4((ip.to_bits() & u32::MAX.checked_shl(32 - length).unwrap_or(0)).into())
        }
        IpAddr::V6(ip) if length <= 128 => {
            IpAddr::V6((ip.to_bits() & u128::MAX.checked_shl(128 - length).unwrap_or(0)).into())
        }
        _ => return None,
    })
}

/// Are all addresses of a range of one kind? The kinds that are special are ranges themselves, or single addresses, so the
/// first and the last address say it.
fn is_within(first: IpAddr, length: u8, kind: Kind) -> bool {
    let last = match first {
        IpAddr::V4(first) => {
            IpAddr::V4((first.to_bits() | u32::MAX.checked_shr(u32::from(length)).unwrap_or(0)).into())
        }
        IpAddr::V6(first) => {
            IpAddr::V6((first.to_bits() | u128::MAX.checked_shr(u32::from(length)).unwrap_or(0)).into())
        }
    };
    Kind::of(first) == kind && Kind::of(last) == kind
}

impl FromStr for Rule {
    type Err = InvalidRule;

    fn from_str(text: &str) -> Result<Self, InvalidRule> {
        parse(text.trim()).map_err(InvalidRule)
    }
}

fn parse(text: &str) -> Result<Rule, String> {
    if text.is_empty() {
        return Err("an empty rule; write a host, an address or a range of addresses".to_owned());
    }
    if text.contains("://") {
        return Err(
            "a rule has no scheme and no path; write only host and port, such as shop.example.com:443".to_owned()
        );
    }
    if text == "*" || text.starts_with("*:") {
        return Err("every host is too many for a name; write 0.0.0.0/0 and ::/0 for every address".to_owned());
    }
    if let Some((first, rest)) = text.split_once('/') {
        let (length, port) = match rest.split_once(':') {
            Some((length, port)) => (length, Some(port)),
            None => (rest, None),
        };
        return Ok(Rule { who: range(first, length)?, port: port.map(number_of_port).transpose()? });
    }
    let (host, port) = host_and_port(text)?;
    Ok(Rule { who: who(host)?, port: port.map(number_of_port).transpose()? })
}

/// Parts `HOST:PORT`; an IPv6 address has a port only in brackets.
fn host_and_port(text: &str) -> Result<(&str, Option<&str>), String> {
    if text.parse::<std::net::Ipv6Addr>().is_ok() {
        return Ok((text, None));
    }
    if let Some(rest) = text.strip_prefix('[') {
        let (address, rest) = rest.split_once(']').ok_or("the bracket is not closed; write [::1]:8080")?;
        return match rest.strip_prefix(':') {
            Some(port) => Ok((address, Some(port))),
            None if rest.is_empty() => Ok((address, None)),
            None => Err("after the bracket comes nothing or a port; write [::1]:8080".to_owned()),
        };
    }
    match text.rsplit_once(':') {
        Some((host, _)) if host.contains(':') => {
            Err("an IPv6 address with a port stands in brackets; write [::1]:8080".to_owned())
        }
        Some((host, port)) => Ok((host, Some(port))),
        None => Ok((text, None)),
    }
}

fn number_of_port(text: &str) -> Result<u16, String> {
    let port = text.parse().ok().filter(|port| *port > 0);
    port.ok_or_else(|| format!("{text} is no port; write a number from 1 to 65535"))
}

fn who(host: &str) -> Result<Who, String> {
    if let Some(domain) = host.strip_prefix("*.") {
        return match name(domain)? {
            Host::Domain(domain) => Ok(Who::Below(bare(&domain))),
            Host::Ipv4(_) | Host::Ipv6(_) => {
                Err("* stands for parts of names only; write a range, such as 10.0.0.0/8".to_owned())
            }
        };
    }
    if let Ok(address) = host.parse() {
        return Ok(single(address));
    }
    match name(host)? {
        Host::Domain(name) => Ok(Who::Name(bare(&name))),
        // Whatever a URL would make an address of: 0x7f.1 is 127.0.0.1.
        Host::Ipv4(address) => Ok(single(address.into())),
        Host::Ipv6(address) => Ok(single(address.into())),
    }
}

/// A host in the form that URLs have it in.
fn name(text: &str) -> Result<Host, String> {
    if text.contains('*') {
        return Err("* can only be the first part of a name, such as *.example.com".to_owned());
    }
    let host = Host::parse(text).map_err(|error| format!("{text:?} is no host: {error}"))?;
    // A URL's host may hold more than a name of a machine does, such as commas.
    let is_name = |part: &str| part.bytes().all(|byte| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_'));
    match &host {
        Host::Domain(name) if bare(name).split('.').any(|part| part.is_empty() || !is_name(part)) => {
            Err(format!("{text:?} is no host"))
        }
        _ => Ok(host),
    }
}

fn single(address: IpAddr) -> Who {
    let first = plain(address);
    Who::Range { first, length: if first.is_ipv4() { 32 } else { 128 } }
}

fn range(first: &str, length: &str) -> Result<Who, String> {
    let bare = first.strip_prefix('[').and_then(|rest| rest.strip_suffix(']')).unwrap_or(first);
    let address: IpAddr =
        bare.parse().map_err(|_| format!("{first} is no address; a range looks like 10.0.0.0/8 or fd00::/8"))?;
    let most = if address.is_ipv4() { 32 } else { 128 };
    let length = length.parse::<u8>().ok().filter(|length| *length <= most);
    let length = length.ok_or_else(|| format!("the length of a range of {first} is a number from 0 to {most}"))?;
    if address.is_ipv6() && plain(address).is_ipv4() {
        return Err("a range of IPv4 addresses is written as such, for example 10.0.0.0/8".to_owned());
    }
    match cut(address, length) {
        Some(first) if first == address => Ok(Who::Range { first, length }),
        Some(begin) => {
            Err(format!("the range begins at {begin}; write {begin}/{length}, or {address} for one address"))
        }
        None => Err(format!("{first} has not so many bits")),
    }
}

impl fmt::Display for Rule {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.who {
            Who::Name(name) => formatter.write_str(name)?,
            Who::Below(domain) => write!(formatter, "*.{domain}")?,
            Who::Range { first: IpAddr::V4(first), length: 32 } => write!(formatter, "{first}")?,
            Who::Range { first: IpAddr::V6(first), length: 128 } if self.port.is_some() => {
                write!(formatter, "[{first}]")?
            }
            Who::Range { first: IpAddr::V6(first), length: 128 } => write!(formatter, "{first}")?,
            Who::Range { first, length } => write!(formatter, "{first}/{length}")?,
        }
        match self.port {
            Some(port) => write!(formatter, ":{port}"),
            None => Ok(()),
        }
    }
}
