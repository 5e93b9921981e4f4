//! Names to addresses: the plan's own mapping first, then the machine's name service, asked once a minute.

use std::collections::HashMap;
use std::net::{IpAddr, SocketAddr};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use groundswell_scenario::http::{AddressFamily, Mapping, Network};
use reqwest::dns::{Addrs, Name, Resolve, Resolving};
use tokio::net::lookup_host;
use tokio::time::Instant;

use super::gate::{Barred, Gate};
use super::target::Origin;

/// How long the addresses of a name are used, as browsers do.
const KNOWN_FOR: Duration = Duration::from_secs(60);
/// How long a name without addresses is not asked for again.
const UNKNOWN_FOR: Duration = Duration::from_secs(1);

/// Names that are kept, in each of two lots.
const MOST_NAMES: usize = 5_000;

/// Shared by all workers of an agent.
#[derive(Debug, Clone)]
pub(crate) struct Resolver {
    inner: Arc<Inner>,
}

#[derive(Debug)]
struct Inner {
    network: Network,
    gate: Gate,
    known: Mutex<Names>,
    /// Connections so far: each begins at the next address of its target.
    turn: AtomicUsize,
}

/// What is known of a name; who asks for it waits for who was first.
type Entry = Arc<tokio::sync::Mutex<Option<Known>>>;

/// The names that were asked for last. Those that were not while as many others were are forgotten.
#[derive(Debug, Default)]
struct Names {
    recent: HashMap<String, Entry>,
    /// Those before, but for the ones that were asked for again.
    older: HashMap<String, Entry>,
}

impl Names {
    fn entry(&mut self, host: &str) -> Entry {
        if let Some(entry) = self.recent.get(host) {
            return Arc::clone(entry);
        }
        let entry = self.older.remove(host).unwrap_or_default();
        if self.recent.len() >= MOST_NAMES {
            self.older = std::mem::take(&mut self.recent);
        }
        self.recent.insert(host.to_owned(), Arc::clone(&entry));
        entry
    }
}

#[derive(Debug)]
struct Known {
    until: Instant,
    addresses: Arc<[IpAddr]>,
}

/// The addresses of a target, in the order in which to try them.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Resolved {
    pub(super) addresses: Vec<SocketAddr>,
    /// The name service was asked.
    pub(super) looked_up: bool,
    /// They are the plan's own, not those that the name has.
    pub(super) by_plan: bool,
}

impl Resolved {
    /// The host that these are the addresses of; none where that is only the plan's word.
    pub(super) fn asked_for<'a>(&self, origin: &'a Origin) -> Option<&'a str> {
        (!self.by_plan).then_some(origin.host.as_str())
    }
}

impl Resolver {
    pub(crate) fn new(network: Network, gate: Gate) -> Self {
        Resolver { inner: Arc::new(Inner { network, gate, known: Mutex::default(), turn: AtomicUsize::new(0) }) }
    }

    /// The addresses that connections to a host would go to, and whether they are the plan's own.
    pub(crate) async fn addresses(&self, host: &str, port: u16) -> Result<(Vec<SocketAddr>, bool), Barred> {
        let origin = Origin { secure: false, host: host.to_owned(), address: host.parse().ok(), port };
        let Resolved { mut addresses, by_plan, .. } = self.resolve(&origin).await?;
        let bind = &self.inner.network.bind;
        addresses.retain(|address| bind.is_empty() || bind.iter().any(|from| from.is_ipv4() == address.is_ipv4()));
        Ok((addresses, by_plan))
    }

    /// May its address be asked for, where it is a name?
    pub(super) fn may_resolve(&self, origin: &Origin) -> Result<(), Barred> {
        let is_known = origin.address.is_some() || self.inner.mapping(&origin.host, Some(origin.port)).is_some();
        if is_known { Ok(()) } else { self.inner.gate.look_up(&origin.host, origin.port).map(|_| ()) }
    }

    /// The addresses of an origin; empty where it has none of the wanted family. A name that no address could be allowed
    /// of is not looked up.
    pub(super) async fn resolve(&self, origin: &Origin) -> Result<Resolved, Barred> {
        let turn = self.inner.turn.fetch_add(1, Ordering::Relaxed);
        if let Some(mapping) = self.inner.mapping(&origin.host, Some(origin.port)) {
            let port = |mapped: &SocketAddr| if mapped.port() == 0 { origin.port } else { mapped.port() };
            let mut addresses: Vec<_> =
                mapping.addresses.iter().map(|mapped| SocketAddr::new(mapped.ip(), port(mapped))).collect();
            let first = turn % addresses.len().max(1);
            addresses.rotate_left(first);
            return Ok(Resolved { addresses, looked_up: false, by_plan: true });
        }
        let (ips, looked_up) = match origin.address {
            Some(address) => (Arc::from([address]), false),
            None => self.inner.look_up(origin).await?,
        };
        let addresses = in_turn(self.inner.wanted(&ips), turn);
        let addresses = addresses.into_iter().map(|ip| SocketAddr::new(ip, origin.port)).collect();
        Ok(Resolved { addresses, looked_up, by_plan: false })
    }
}

impl Inner {
    /// The plan's addresses of a host; `None` for a port that is not known yet.
    fn mapping(&self, host: &str, port: Option<u16>) -> Option<&Mapping> {
        let host = host.trim_end_matches('.');
        let bare = |mapped: &str| mapped.trim_start_matches('[').trim_end_matches(']') == host;
        let fits = |mapping: &&Mapping| bare(&mapping.host) && mapping.port.is_none_or(|own| Some(own) == port);
        // The one for this port goes before the one for any.
        let mappings = || self.network.resolve.iter().filter(fits);
        mappings().find(|mapping| mapping.port.is_some()).or_else(|| mappings().next())
    }

    /// What the name service says; all who ask at once wait for one answer.
    async fn look_up(&self, Origin { host, port, .. }: &Origin) -> Result<(Arc<[IpAddr]>, bool), Barred> {
        let allowed = self.gate.look_up(host, *port)?;
        let entry = self.known.lock().unwrap_or_else(PoisonError::into_inner).entry(host);
        let mut looked_up = entry.try_lock().is_err();
        let mut entry = entry.lock().await;
        if let Some(Known { until, addresses }) = &*entry
            && *until > Instant::now()
        {
            return Ok((Arc::clone(addresses), looked_up));
        }
        self.gate.take_look_up(allowed)?;
        looked_up = true;
        let found = lookup_host((host.as_str(), 0)).await;
        let addresses: Arc<[IpAddr]> =
            found.map(|found| found.map(|address| address.ip()).collect()).unwrap_or_else(|_| Arc::from([]));
        let valid = if addresses.is_empty() { UNKNOWN_FOR } else { KNOWN_FOR };
        *entry = Some(Known { until: Instant::now() + valid, addresses: Arc::clone(&addresses) });
        Ok((addresses, looked_up))
    }

    /// The addresses that the plan wants used, in the order of its preference.
    fn wanted(&self, addresses: &[IpAddr]) -> Vec<IpAddr> {
        let mut wanted = addresses.to_vec();
        match self.network.family {
            AddressFamily::Any => {}
            AddressFamily::Ipv4 => wanted.retain(IpAddr::is_ipv4),
            AddressFamily::Ipv6 => wanted.retain(IpAddr::is_ipv6),
            AddressFamily::Ipv4First => wanted.sort_by_key(IpAddr::is_ipv6),
            AddressFamily::Ipv6First => wanted.sort_by_key(IpAddr::is_ipv4),
        }
        wanted
    }
}

/// The addresses of the first one's family in turn, so that connections spread over them; the others after.
fn in_turn(addresses: Vec<IpAddr>, turn: usize) -> Vec<IpAddr> {
    let Some(first) = addresses.first().copied() else { return addresses };
    let (mut same, other): (Vec<_>, Vec<_>) =
        addresses.into_iter().partition(|address| address.is_ipv4() == first.is_ipv4());
    let first = turn % same.len();
    same.rotate_left(first);
    same.extend(other);
    same
}

/// For reqwest, which asks for names without their ports: of one origin, and of the proxy on the way to it.
pub(super) struct OfOrigin {
    pub(super) resolver: Resolver,
    pub(super) gate: Gate,
    pub(super) origin: Origin,
    pub(super) proxy: Option<Origin>,
}

impl Resolve for OfOrigin {
    fn resolve(&self, name: Name) -> Resolving {
        let (resolver, gate) = (self.resolver.clone(), self.gate.clone());
        let host = name.as_str().trim_start_matches('[').trim_end_matches(']');
        let is_asked = |origin: &&Origin| origin.host == host;
        let asked: Vec<Origin> = self.proxy.iter().chain([&self.origin]).filter(is_asked).cloned().collect();
        Box::pin(async move {
            let mut addresses: Option<Vec<SocketAddr>> = None;
            // A proxy on the target's own host is asked for by the same name: an address has to be good for both.
            for origin in &asked {
                let mut resolved = resolver.resolve(origin).await?;
                if origin.port != origin.default_port() {
                    // A port that the URL says is the one that is connected to.
                    resolved.addresses.iter_mut().for_each(|address| address.set_port(origin.port));
                }
                let mut admitted = gate.admitted(resolved.asked_for(origin), resolved.addresses)?;
                if let Some(others) = addresses {
                    admitted.retain(|address| others.iter().any(|other| other.ip() == address.ip()));
                }
                addresses = Some(admitted);
            }
            match addresses {
                Some(addresses) if !addresses.is_empty() => Ok(Box::new(addresses.into_iter()) as Addrs),
                _ => Err("no address".into()),
            }
        })
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "tests")]
    use std::collections::BTreeMap;

    use groundswell_scenario::{Plan, PlanSource};
    use url::Url;

    use super::*;
    use crate::allow::Allowlist;
    use crate::transport::Budget;

    fn origin(url: &str) -> Origin {
        Origin::of(&Url::parse(url).unwrap()).unwrap()
    }

    fn resolver(network: Network) -> Resolver {
        resolver_of(network, Allowlist::default())
    }

    fn resolver_of(network: Network, allowlist: Allowlist) -> Resolver {
        let text = "target: http://localhost\nscenarios:\n  s: { load: { users: 1, for: 1s }, flow: [ { get: / } ] }\n";
        let source = PlanSource { name: "p".into(), text: text.into(), files: BTreeMap::new(), search_level: None };
        let gate = Gate::new(&Plan::compile(&source).unwrap(), allowlist, Budget::new(None, None));
        Resolver::new(network, gate)
    }

    fn mapping(host: &str, port: Option<u16>, addresses: &[&str]) -> Mapping {
        let addresses = addresses.iter().map(|address| address.parse().unwrap()).collect();
        Mapping { host: host.into(), port, addresses }
    }

    #[tokio::test]
    async fn the_plan_knows_better_than_the_name_service() {
        let resolve = vec![
            mapping("shop.test", None, &["127.0.0.2:0", "127.0.0.3:0"]),
            mapping("shop.test", Some(81), &["127.0.0.4:8081"]),
            mapping("[::1]", None, &["127.0.0.5:0"]),
        ];
        let resolver = resolver(Network { resolve, ..Network::default() });
        let mut firsts = Vec::new();
        for url in ["http://shop.test/", "http://shop.test/", "http://shop.test:81/", "http://[::1]:7/"] {
            let resolved = resolver.resolve(&origin(url)).await.unwrap();
            assert!(!resolved.looked_up);
            firsts.push(resolved.addresses[0].to_string());
        }
        assert_eq!(firsts, ["127.0.0.2:80", "127.0.0.3:80", "127.0.0.4:8081", "127.0.0.5:7"]);
    }

    #[tokio::test]
    async fn an_address_needs_no_look_up_and_a_name_only_one() {
        let resolver = resolver(Network { family: AddressFamily::Ipv4, ..Network::default() });
        let literal = resolver.resolve(&origin("http://127.0.0.1:9/")).await.unwrap();
        assert_eq!(
            literal,
            Resolved { addresses: vec!["127.0.0.1:9".parse().unwrap()], looked_up: false, by_plan: false }
        );
        let named = origin("http://localhost:9/");
        assert!(resolver.resolve(&named).await.unwrap().looked_up);
        assert!(!resolver.resolve(&named).await.unwrap().looked_up);
    }

    /// A look-up is a message to name servers elsewhere: only for names that could be allowed, and not for ever new ones.
    #[tokio::test]
    async fn names_that_can_not_be_allowed_are_not_looked_up() {
        let names = Allowlist::Rules(vec!["shop.test".parse().unwrap()]);
        let resolver = resolver_of(Network::default(), names);
        for url in ["http://a.victim.test/", "http://127.0.0.1.victim.test:9/"] {
            assert_eq!(resolver.resolve(&origin(url)).await, Err(Barred::NotAllowed), "{url}");
        }
        let ranges = resolver_of(Network::default(), Allowlist::Rules(vec!["10.0.0.5".parse().unwrap()]));
        while ranges.inner.gate.take_look_up(crate::allow::LookUp::Unlisted).is_ok() {}
        assert_eq!(ranges.resolve(&origin("http://b.victim.test/")).await, Err(Barred::TooManyLookUps));
        for asked in [resolver, ranges] {
            let known = asked.inner.known.lock().unwrap();
            assert!(known.recent.values().all(|known| known.try_lock().unwrap().is_none()), "somebody was asked");
        }
    }

    #[test]
    fn only_so_many_names_are_kept_and_those_in_use_among_them() {
        let mut names = Names::default();
        let first = names.entry("first");
        for number in 0..5 * MOST_NAMES {
            names.entry(&number.to_string());
            assert!(number % 1_000 > 0 || Arc::ptr_eq(&first, &names.entry("first")), "{number}");
        }
        assert!(names.recent.len() + names.older.len() <= 2 * MOST_NAMES);
        assert!(!names.recent.contains_key("0") && !names.older.contains_key("0"));
    }

    #[test]
    fn families_are_chosen_and_addresses_used_in_turn() {
        let all: Vec<IpAddr> = ["::1", "10.0.0.1", "10.0.0.2"].map(|text| text.parse().unwrap()).into();
        let ordered = |family, turn| {
            let resolver = resolver(Network { family, ..Network::default() });
            in_turn(resolver.inner.wanted(&all), turn).iter().map(IpAddr::to_string).collect::<Vec<_>>()
        };
        assert_eq!(ordered(AddressFamily::Any, 1), ["::1", "10.0.0.1", "10.0.0.2"]);
        assert_eq!(ordered(AddressFamily::Ipv4First, 1), ["10.0.0.2", "10.0.0.1", "::1"]);
        assert_eq!(ordered(AddressFamily::Ipv4, 0), ["10.0.0.1", "10.0.0.2"]);
        assert_eq!(ordered(AddressFamily::Ipv6, 5), ["::1"]);
    }
}
