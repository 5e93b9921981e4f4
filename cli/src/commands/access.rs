//! Who gets in: the door of a coordinator, and the keys of those who come.

use std::collections::BTreeSet;
use std::net::{IpAddr, SocketAddr, UdpSocket};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, UNIX_EPOCH};

use anyhow::{Context, anyhow};
use groundswell_access::{AccessFolder, Authority, Gate, NewToken, Role, StaticToken};
use groundswell_coordinator::server::Door;
use groundswell_coordinator::store::Location;

use super::store;
use crate::args::{AccessArgs, DoorArgs};
use crate::{Failure, output};

/// A token that a coordinator prints at its first start, for the agents that join then.
const JOIN_LIFETIME: Duration = Duration::from_secs(3_600);
/// A token that it prints at its first start for whoever started it.
const ADMIN_LIFETIME: Duration = Duration::from_secs(365 * 24 * 3_600);

/// The folder that the arguments say.
pub(super) fn folder(args: &AccessArgs) -> Result<AccessFolder, Failure> {
    let beside = || beside(&store::location(&args.store)?);
    let folder = match &args.access {
        Some(at) => AccessFolder::open_or(at, || beside().ok()),
        None => AccessFolder::open(&beside()?),
    };
    folder.map_err(Failure::usage)
}

/// Where a change was kept, if not in the access folder: a coordinator with other data does not see it.
pub(super) fn kept(folder: &AccessFolder) -> String {
    if folder.changes() == folder.at() {
        return String::new();
    }
    format!(" (kept in {}, because {} is read-only)", folder.changes().display(), folder.at().display())
}

/// The access folder beside the runs of a store.
pub(super) fn beside(location: &Location) -> Result<PathBuf, Failure> {
    match location {
        Location::Folder(folder) => Ok(folder.join("access")),
        _ => Err(Failure::usage(anyhow!(
            "the store is a database, so say where the CA and the hashes of tokens are kept: --access DIR"
        ))),
    }
}

/// The door of a coordinator on that address.
pub(super) fn door(
    args: &DoorArgs,
    listen: SocketAddr,
    statics: Vec<StaticToken>,
    default_folder: impl FnOnce() -> Result<PathBuf, Failure>,
) -> Result<Door, Failure> {
    let on_this_machine = listen.ip().to_canonical().is_loopback();
    if args.insecure {
        return Ok(if on_this_machine { Door::Local } else { Door::Open });
    }
    if on_this_machine && args.access.is_none() && statics.is_empty() {
        return Ok(Door::Local);
    }
    let folder = match &args.access {
        Some(at) => AccessFolder::open_or(at, || default_folder().ok()),
        None => AccessFolder::open(&default_folder()?),
    };
    let gate = Gate::of(folder.map_err(Failure::usage)?, &names(args, listen.ip()), statics).map_err(Failure::usage)?;
    Ok(Door::Gate(Arc::new(gate)))
}

/// The tokens of `--token ROLE=FILE`.
pub(super) fn statics(files: &[(Role, PathBuf)]) -> Result<Vec<StaticToken>, Failure> {
    files.iter().map(|(role, path)| StaticToken::read(*role, path)).collect::<Result<_, _>>().map_err(Failure::usage)
}

/// Everything by which a coordinator may be reached.
fn names(args: &DoorArgs, listen: IpAddr) -> BTreeSet<String> {
    let mut names: BTreeSet<String> = args.names.iter().cloned().collect();
    names.extend(["localhost".to_owned(), "127.0.0.1".to_owned(), "::1".to_owned()]);
    if listen.is_unspecified() {
        names.extend(own_addresses().map(|address| address.to_string()));
        names.extend(hostname());
    } else {
        names.insert(listen.to_string());
    }
    names
}

/// The name or address that others are told.
pub(super) fn shown(args: &DoorArgs, listen: SocketAddr) -> String {
    let name = match args.names.first() {
        Some(name) => name.clone(),
        None if listen.ip().is_unspecified() => own_addresses().next().unwrap_or(listen.ip()).to_string(),
        None => listen.ip().to_string(),
    };
    let is_v6 = name.parse::<std::net::Ipv6Addr>().is_ok();
    if is_v6 { format!("[{name}]:{}", listen.port()) } else { format!("{name}:{}", listen.port()) }
}

/// The addresses from which this machine reaches others. A UDP socket is "connected" without anything being sent; the
/// addresses are of the ranges for documentation (RFC 5737, RFC 3849), behind every default route.
fn own_addresses() -> impl Iterator<Item = IpAddr> {
    let outwards = [("0.0.0.0:0", "192.0.2.1:9"), ("[::]:0", "[2001:db8::1]:9")];
    outwards.into_iter().filter_map(|(from, to)| {
        let socket = UdpSocket::bind(from).ok()?;
        socket.connect(to).ok()?;
        Some(socket.local_addr().ok()?.ip())
    })
}

/// The host's name, if it may stand in a certificate.
fn hostname() -> Option<String> {
    let name = std::fs::read_to_string("/proc/sys/kernel/hostname").ok()?.trim().to_ascii_lowercase();
    let is_one = name.bytes().all(|byte| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'.'));
    (is_one && !name.is_empty() && name != "(none)").then_some(name)
}

/// The tokens of a coordinator's first start: to join, and for whoever started it. None at a later one, also where no token
/// counts any more: that may be what somebody wants.
pub(super) fn first_tokens(gate: &Gate) -> Result<Option<(String, String)>, Failure> {
    if gate.had_tokens() {
        if !gate.has_tokens() {
            output::note("no token counts any more; make one: groundswell tokens create admin");
        }
        return Ok(None);
    }
    let make = |role, lifetime| gate.create_token(NewToken { role, lifetime, uses: None }).map_err(Failure::usage);
    Ok(Some((make(Role::Join, JOIN_LIFETIME)?.text(), make(Role::Admin, ADMIN_LIFETIME)?.text())))
}

/// A token of a user, from a file or the environment.
pub(super) fn token(file: Option<&Path>, variable: &str) -> Result<Option<String>, Failure> {
    match file {
        Some(path) => {
            let text = std::fs::read_to_string(path).with_context(|| format!("can't read {}", path.display()));
            Ok(Some(text.map_err(Failure::usage)?.trim().to_owned()))
        }
        None => Ok(std::env::var(variable).ok().filter(|token| !token.trim().is_empty())),
    }
}

/// In hexadecimal digits.
pub(super) fn fingerprint(authority: &Authority) -> String {
    authority.fingerprint().iter().map(|byte| format!("{byte:02x}")).collect()
}

/// A moment, in seconds since 1970 (UTC), for people.
pub(super) fn moment(at_s: u64) -> String {
    // The calendar of humantime ends with the year 9999.
    let at = UNIX_EPOCH + Duration::from_secs(at_s.min(253_402_300_799));
    humantime::format_rfc3339_seconds(at).to_string()
}
