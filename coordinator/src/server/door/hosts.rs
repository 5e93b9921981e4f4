//! Under which names a browser may reach a coordinator. A page of elsewhere whose name its owner points at this address
//! would otherwise be of the same origin (DNS rebinding).

use std::collections::BTreeSet;
use std::net::IpAddr;

/// The names.
#[derive(Debug)]
pub(in crate::server) struct Hosts {
    names: BTreeSet<String>,
}

impl Hosts {
    pub(super) fn new(names: &[String]) -> Self {
        Hosts { names: names.iter().map(|name| name.to_ascii_lowercase()).collect() }
    }

    /// Whether this value of a Host header is one of them: an IP address, which nobody can point elsewhere; a name without
    /// a dot, which nobody can register; or a name that the coordinator was given.
    pub(in crate::server) fn knows(&self, host: &str) -> bool {
        let name = without_port(host).trim_end_matches('.').to_ascii_lowercase();
        let is_address = name.parse::<IpAddr>().is_ok()
            || name
                .strip_prefix('[')
                .and_then(|name| name.strip_suffix(']'))
                .is_some_and(|v6| v6.parse::<IpAddr>().is_ok());
        let is_single_label = !name.is_empty() && !name.contains('.');
        is_address || is_single_label || name.ends_with(".localhost") || self.names.contains(&name)
    }
}

fn without_port(host: &str) -> &str {
    match host.rsplit_once(':') {
        Some((name, port)) if port.bytes().all(|byte| byte.is_ascii_digit()) => name,
        _ => host,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_that_nobody_else_can_own() {
        let hosts = Hosts::new(&["load.example.com".to_owned()]);
        for known in
            ["127.0.0.1:7710", "[::1]:7710", "10.0.0.7", "localhost:7710", "coordinator:7710", "Load.Example.com"]
        {
            assert!(hosts.knows(known), "{known}");
        }
        for unknown in ["evil.example.com:7710", "127.0.0.1.evil.example", "", "load.example.com.evil.org", "a.b:80"] {
            assert!(!hosts.knows(unknown), "{unknown}");
        }
    }
}
