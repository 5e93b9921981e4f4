//! Where a plan sends to, as far as its text says it: redirects and templates may lead elsewhere.

use url::{Host, Url};

use crate::Plan;
use crate::flow::{Step, Text};

/// A host and port that a plan names.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct Destination {
    /// As it stands in a URL, but without the brackets of an IPv6 address.
    pub host: String,
    /// The port.
    pub port: u16,
    /// Is the host a name, and no address?
    pub is_name: bool,
}

impl Destination {
    /// Where a URL leads to; none where it has no host or port.
    pub fn of(url: &Url) -> Option<Self> {
        let (host, is_name) = match url.host()? {
            Host::Ipv4(address) => (address.to_string(), false),
            Host::Ipv6(address) => (address.to_string(), false),
            Host::Domain(name) => (name.to_owned(), true),
        };
        Some(Destination { host, port: url.port_or_known_default()?, is_name })
    }
}

impl Plan {
    /// Hosts and ports of the target, of the readiness check and of every step whose URL says its host, each once, the
    /// target first.
    pub fn destinations(&self) -> Vec<Destination> {
        let mut urls = vec![self.target.clone()];
        urls.extend(self.ready.iter().filter_map(|ready| self.target.join(&ready.url).ok()));
        for scenario in &self.scenarios {
            collect(&scenario.flow, &self.target, &mut urls);
        }
        let mut found = Vec::new();
        for destination in urls.iter().filter_map(Destination::of) {
            if !found.contains(&destination) {
                found.push(destination);
            }
        }
        found
    }
}

fn collect(flow: &[Step], target: &Url, urls: &mut Vec<Url>) {
    for step in flow {
        match step {
            Step::Http(timed) => urls.extend(known(&timed.spec.url, target)),
            Step::Websocket(timed) => {
                urls.extend(known(&timed.spec.url, target));
                collect(&timed.spec.flow, target, urls);
            }
            Step::Repeat { flow, .. } | Step::Group { flow, .. } => collect(flow, target, urls),
            Step::OnSocket(_) | Step::Listen { .. } | Step::Subscribe(_) | Step::Think(_) => {}
        }
    }
}

/// The URL with its host; none where a template makes that.
fn known(url: &Text, target: &Url) -> Option<Url> {
    match url {
        Text::Literal(url) => target.join(url).ok(),
        Text::Template(template) => {
            let literal = template.split('{').next().unwrap_or_default();
            let (_, after_scheme) = literal.split_once("//")?;
            // The host is whole where something follows it.
            after_scheme.contains(['/', '?', '#']).then(|| target.join(literal).ok())?
        }
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "tests")]

    use std::collections::BTreeMap;

    use crate::{Plan, PlanSource};

    #[test]
    fn every_host_that_the_text_names_is_known() {
        let text = "
target: https://shop.example.com
ready: { get: http://health.example.com/up }
vars: { id: 7, host: h.example.com }
scenarios:
  s:
    load: { users: 1, for: 1s }
    flow:
      - get: /relative
      - get: 'http://[::1]:8080/x'
      - get: 'http://part.example.com/{{ id }}'
      - get: 'http://{{ host }}/x'
      - get: 'http://part.example.com{{ id }}/'
      - get: '/{{ id }}'
      - repeat: 2
        flow:
          - websocket: wss://ws.example.com/room
            flow: [ { get: 'http://0x7f.1/' } ]
";
        let source =
            PlanSource { name: "p.yaml".into(), text: text.into(), files: BTreeMap::new(), search_level: None };
        let plan = Plan::compile(&source).unwrap_or_else(|problems| panic!("{problems}"));
        let found: Vec<String> = plan
            .destinations()
            .into_iter()
            .map(|to| format!("{}{} {}", to.host, if to.is_name { "" } else { " (address)" }, to.port))
            .collect();
        assert_eq!(
            found,
            [
                "shop.example.com 443",
                "health.example.com 80",
                "::1 (address) 8080",
                "part.example.com 80",
                "ws.example.com 443",
                "127.0.0.1 (address) 80",
            ]
        );
    }
}
