//! A network namespace of a test's own, with two links to the host: as a machine that has one network to its coordinator
//! and another to its target.

use std::process::Command;
use std::sync::atomic::{AtomicU32, Ordering};

use anyhow::{Context, bail};

use super::process::{Daemon, Groundswell, agent_through, target_of};

static NEXT: AtomicU32 = AtomicU32::new(0);

/// Which of the two links.
#[derive(Debug, Clone, Copy)]
pub(crate) enum To {
    Coordinator,
    Target,
}

/// Goes with all in it when dropped.
pub(crate) struct Namespace {
    name: String,
    /// A number that no other namespace of any test has at the time.
    number: u32,
}

impl Namespace {
    /// Makes one.
    ///
    /// # Errors
    /// When this process may not, or no addresses are free.
    pub(crate) fn new() -> anyhow::Result<Self> {
        // Addresses of 198.18.0.0/15, which RFC 2544 keeps for measurements: nobody's network has them.
        for _ in 0..100 {
            let number = (std::process::id() * 32 + NEXT.fetch_add(1, Ordering::Relaxed)) % (1 << 14);
            let name = format!("groundswell-{number}");
            if ip(&["netns", "add", &name]).is_ok() {
                let namespace = Namespace { name, number };
                namespace.link(To::Coordinator)?;
                namespace.link(To::Target)?;
                return Ok(namespace);
            }
        }
        bail!("no namespace could be made")
    }

    /// The host's address on a link: what this namespace calls.
    pub(crate) fn host(&self, to: To) -> String {
        self.address(to, 1)
    }

    /// An agent in it that has joined and may send to a host. Its monotonic clock counts from another day, as that of another machine does.
    ///
    /// # Errors
    /// When it does not join.
    pub(crate) fn agent(&self, coordinator: &str, name: &str, target: &str) -> anyhow::Result<Daemon> {
        let own = format!("--net=/run/netns/{}", self.name);
        let clock = ["unshare", "--time", "--monotonic", "86400", "--fork", "--kill-child"];
        agent_through(coordinator, name, &["--allow", target], "nsenter", &[&[own.as_str()], &clock[..]].concat())
    }

    /// A demo target in it, with its URL.
    ///
    /// # Errors
    /// When it does not come up.
    pub(crate) fn target(&self) -> anyhow::Result<(Daemon, String)> {
        let (own, at) = (format!("--net=/run/netns/{}", self.name), format!("{}:0", self.address(To::Target, 2)));
        let call = Groundswell::new(["-v", "demo-target", "--listen", &at]).through("nsenter", &[&own]);
        target_of(call)
    }

    /// Reaches an address of the host over its link to the target.
    ///
    /// # Errors
    /// When it reaches it already.
    pub(crate) fn reaches(&self, address: &str) -> anyhow::Result<()> {
        let (via, inner) = (self.host(To::Target), inner(To::Target));
        ip(&["-n", &self.name, "route", "add", address, "via", &via, "dev", &inner])
    }

    /// Takes a link down: what is sent is gone, and connections stay open.
    ///
    /// # Errors
    /// When it is not there.
    pub(crate) fn down(&self, to: To) -> anyhow::Result<()> {
        // This end of it: the host would look for another way to a network that it has no link to any more.
        ip(&["-n", &self.name, "link", "set", &inner(to), "down"])
    }

    /// Takes it up again.
    ///
    /// # Errors
    /// When it is not there.
    pub(crate) fn up(&self, to: To) -> anyhow::Result<()> {
        ip(&["-n", &self.name, "link", "set", &inner(to), "up"])
    }

    fn link(&self, to: To) -> anyhow::Result<()> {
        let (outer, inner) = (self.device(to), inner(to));
        ip(&["link", "add", &outer, "type", "veth", "peer", "name", &inner, "netns", &self.name])?;
        ip(&["addr", "add", &format!("{}/30", self.address(to, 1)), "dev", &outer])?;
        ip(&["link", "set", &outer, "up"])?;
        ip(&["-n", &self.name, "addr", "add", &format!("{}/30", self.address(to, 2)), "dev", &inner])?;
        ip(&["-n", &self.name, "link", "set", &inner, "up"])
    }

    fn device(&self, to: To) -> String {
        format!("gsw{}-{}", self.number, to as u32)
    }

    fn address(&self, to: To, end: u32) -> String {
        let block = (self.number * 2 + to as u32) * 4 + end;
        std::net::Ipv4Addr::from_bits((198 << 24 | 18 << 16) + block).to_string()
    }
}

/// The end of a link in the namespace.
fn inner(to: To) -> String {
    format!("own{}", to as u32)
}

impl Drop for Namespace {
    fn drop(&mut self) {
        // The ends of its links go with it.
        let _ = ip(&["netns", "del", &self.name]);
    }
}

fn ip(arguments: &[&str]) -> anyhow::Result<()> {
    let done = Command::new("ip").args(arguments).output().context("there is no ip")?;
    if !done.status.success() {
        bail!("ip {}: {}", arguments.join(" "), String::from_utf8_lossy(&done.stderr));
    }
    Ok(())
}
