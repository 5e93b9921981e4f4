//! An agent that does not let load go everywhere, and says whose load it is.

use groundswell_scenario::http::{Connections, Mapping, Network};
use groundswell_stats::ErrorClass;

use super::*;
use crate::transport::{Handshake, Socket};

pub(super) fn plan(target: &Url, options: HttpOptions) -> Plan {
    let target = target.join("/").unwrap();
    let text =
        format!("target: {target}\nscenarios:\n  s: {{ load: {{ users: 1, for: 1s }}, flow: [ {{ get: / }} ] }}\n");
    let source = PlanSource { name: "p.yaml".into(), text, files: BTreeMap::new(), search_level: None };
    Plan { http: options, ..Plan::compile(&source).unwrap() }
}

fn allow(rules: &[String]) -> Allowlist {
    Allowlist::Rules(rules.iter().map(|rule| rule.parse().unwrap()).collect())
}

fn unsent(class: &'static str) -> Failure {
    Failure::Unsent(ErrorClass::new(class))
}

/// The server's URL under another name or address.
fn called(server: &Server, host: &str) -> Url {
    let mut url = server.url();
    url.set_host(Some(host)).unwrap();
    url
}

#[test]
fn only_what_is_allowed_is_sent_to() {
    on_each(async |options| {
        let (listed, other) = (Server::start(|_| answer(OK)).await, Server::start(|_| answer(OK)).await);
        let rules = [listed.address.to_string()];
        let clients = clients_of(plan(&listed.url(), options), allow(&rules), None);
        let mut client = clients.client(0);
        assert_eq!(send(&mut client, &get(&clients, listed.url())).await.unwrap().status, 200);
        // Names are decided by what they stand for, and every spelling of an address is that address.
        for host in ["localhost", "[::ffff:7f00:1]"] {
            let sent = send(&mut client, &get(&clients, called(&listed, host))).await;
            assert_eq!(sent.map(|response| response.status), Ok(200), "{host}");
        }
        for host in ["127.0.0.1", "localhost", "2130706433", "127.0.0.2", "[::ffff:7f00:1]"] {
            let sent = send(&mut client, &get(&clients, called(&other, host))).await;
            assert_eq!(sent.map(|response| response.status), Err(unsent("not_allowed")), "{host}");
        }
        assert_eq!(other.seen.borrow().connections, 0);
    });
}

#[test]
fn a_redirect_is_decided_like_any_other_request() {
    on_each(async |options| {
        let other = Server::start(|_| answer(OK)).await;
        let to_other = format!("HTTP/1.1 302 Found\r\nlocation: {}\r\ncontent-length: 0\r\n\r\n", other.url());
        let listed = Server::start(move |_| answer(to_other.clone())).await;
        let options = HttpOptions { redirect_hosts: vec!["*".into()], ..options };
        let clients = clients_of(plan(&listed.url(), options), allow(&[listed.address.to_string()]), None);
        let sent = send(&mut clients.client(0), &get(&clients, listed.url())).await;
        assert_eq!(sent.map(|response| response.status), Err(unsent("not_allowed")));
        assert_eq!((listed.requests(), other.seen.borrow().connections), (1, 0));
    });
}

/// A plan that says which address a name has does not make that address the name's.
#[test]
fn a_plan_can_not_move_a_name_that_is_allowed() {
    on_each(async |options| {
        let server = Server::start(|_| answer(OK)).await;
        let resolve = vec![Mapping { host: "localhost".into(), port: None, addresses: vec![server.address] }];
        let options = HttpOptions { network: Network { resolve, ..Network::default() }, ..options };
        let status = async |rule: String| {
            let plan = plan(&called(&server, "localhost"), options.clone());
            let clients = clients_of(plan, allow(&[rule]), None);
            let sent = send(&mut clients.client(0), &get(&clients, called(&server, "localhost"))).await;
            sent.map(|response| response.status)
        };
        assert_eq!(status("localhost".into()).await, Err(unsent("not_allowed")));
        assert_eq!(status(server.address.to_string()).await, Ok(200));
    });
}

#[test]
fn a_proxy_must_be_allowed_and_so_must_the_name_behind_it() {
    on(async {
        let proxy = Server::start(|_| answer(OK)).await;
        let target = Url::parse("http://shop.example.com/x").unwrap();
        let options = HttpOptions {
            proxy: Some(Url::parse(&format!("http://{}", proxy.address)).unwrap()),
            ..options(TransportKind::Reqwest)
        };
        let status = async |rules: &[String], target: &Url| {
            let clients = clients_of(plan(target, options.clone()), allow(rules), None);
            send(&mut clients.client(0), &get(&clients, target.clone())).await.map(|response| response.status)
        };
        let refused = Err(unsent("not_allowed"));
        let (own, name) = (proxy.address.to_string(), "shop.example.com".to_owned());
        assert_eq!(status(std::slice::from_ref(&own), &target).await, refused);
        assert_eq!(status(std::slice::from_ref(&name), &target).await, refused);
        assert_eq!(status(&[own.clone(), "*.example.org".into(), "0.0.0.0/0:80".into()], &target).await, refused);
        assert_eq!(proxy.seen.borrow().connections, 0);
        assert_eq!(status(&[own.clone(), name], &target).await, Ok(200));
        let address = Url::parse("http://192.0.2.1/x").unwrap();
        assert_eq!(status(std::slice::from_ref(&own), &address).await, refused);
        assert_eq!(status(&[own, "192.0.2.0/24".into()], &address).await, Ok(200));
    });
}

/// `.invalid` has no addresses, so a transport that asks for them says `dns`.
#[test]
fn a_name_that_no_rule_could_cover_is_not_looked_up() {
    on_each(async |options| {
        let server = Server::start(|_| answer(OK)).await;
        let proxy = Url::parse(&format!("socks5://{}", server.address)).unwrap();
        let elsewhere = called(&server, "x.invalid");
        for (proxy, is_direct) in [(None, true), (Some(proxy), false)] {
            if options.transport == TransportKind::Direct && !is_direct {
                continue;
            }
            let options = HttpOptions { proxy, ..options.clone() };
            let rules = [server.address.to_string(), "shop.example.com".to_owned()];
            let clients = clients_of(plan(&server.url(), options), allow(&rules), None);
            let sent = send(&mut clients.client(0), &get(&clients, elsewhere.clone())).await;
            assert_eq!(sent.map(|response| response.status), Err(unsent("not_allowed")), "{is_direct}");
            let mut url = elsewhere.clone();
            url.set_scheme("ws").unwrap();
            let handshake = Handshake { url, headers: HeaderMap::new(), timeout: Duration::from_secs(10) };
            let opened = Socket::open(&handshake, &clients, &mut Progress::default()).await;
            assert_eq!(opened.err(), Some(unsent("not_allowed")));
        }
        assert_eq!(server.seen.borrow().connections, 0);
    });
}

#[test]
fn names_that_are_not_listed_are_looked_up_only_so_often() {
    on_each(async |options| {
        let server = Server::start(|_| answer(OK)).await;
        // Nobody answers for these addresses, but a name may stand for them.
        let rules = [server.address.to_string(), format!("192.0.2.0/24:{}", server.address.port())];
        let plan = plan(&server.url(), options);
        let budget = Budget::new(None, None);
        let gate = Gate::new(&plan, allow(&rules), budget);
        while gate.take_look_up(crate::allow::LookUp::Unlisted).is_ok() {}
        let clients = Clients::new(Setup::new(&Arc::new(plan), gate, None).unwrap(), &Share::whole()).unwrap();
        let mut client = clients.client(0);
        let sent = send(&mut client, &get(&clients, called(&server, "x.invalid"))).await;
        assert_eq!(sent.map(|response| response.status), Err(unsent("too_many_look_ups")));
        for host in ["localhost", "127.0.0.1"] {
            let sent = send(&mut client, &get(&clients, called(&server, host))).await;
            assert_eq!(sent.map(|response| response.status), Ok(200), "{host}");
        }
    });
}

#[test]
fn sockets_are_decided_too() {
    on(async {
        let server = Server::start(|_| answer(OK)).await;
        let open = async |rule: &str| {
            let plan = plan(&server.url(), options(TransportKind::Direct));
            let clients = clients_of(plan, allow(&[rule.to_owned()]), None);
            let mut url = server.url();
            url.set_scheme("ws").unwrap();
            let handshake = Handshake { url, headers: HeaderMap::new(), timeout: Duration::from_secs(10) };
            Socket::open(&handshake, &clients, &mut Progress::default()).await.err()
        };
        assert_eq!(open("127.0.0.1:1").await, Some(unsent("not_allowed")));
        assert_eq!(server.seen.borrow().connections, 0);
        // The server speaks no WebSocket, but it was asked, and told by whom.
        assert_eq!(open("127.0.0.1").await, Some(Failure::class("ws_upgrade_refused_200")));
        let asked = server.seen.borrow().requests[0].to_lowercase();
        assert!(asked.contains("groundswell-run: run-7\r\n") && asked.contains("user-agent: groundswell/"), "{asked}");
    });
}

#[test]
fn requests_say_whose_load_they_are() {
    on_each(async |options| {
        let server = Server::start(|_| answer(OK)).await;
        let clients = clients(options);
        let mut client = clients.client(0);
        send(&mut client, &get(&clients, server.url())).await.unwrap();
        let mut named = get(&clients, server.url());
        named.headers.clear();
        named.headers.insert("user-agent", HeaderValue::from_static("shopper"));
        named.headers.insert("groundswell-run", HeaderValue::from_static("another"));
        clients.complete(&mut named.headers, &named.target);
        send(&mut client, &named).await.unwrap();
        let seen = server.seen.borrow();
        let [first, second] = [0, 1].map(|nth: usize| seen.requests[nth].to_lowercase());
        let agent = concat!("user-agent: groundswell/", env!("CARGO_PKG_VERSION"), " (+https://");
        assert!(first.contains(agent) && first.contains("groundswell-run: run-7\r\n"), "{first}");
        assert!(
            second.contains("user-agent: shopper\r\n") && second.contains("groundswell-run: run-7\r\n"),
            "{second}"
        );
        assert!(!second.contains("another"), "{second}");
    });
}

#[test]
fn an_agent_opens_no_more_connections_than_it_may() {
    on_each(async |options| {
        let server = Server::start(|_| answer(OK)).await;
        let clients = clients_of(plan(&server.url(), options.clone()), Allowlist::default(), Some(2));
        let request = get(&clients, server.url());
        let mut users: Vec<Client> = (0..3).map(|number| clients.client(number)).collect();
        for round in 0..2 {
            let mut statuses = Vec::new();
            for user in &mut users {
                statuses.push(send(user, &request).await.map(|response| response.status));
            }
            assert_eq!(statuses, [Ok(200), Ok(200), Err(unsent("max_connections"))], "{round}");
        }
        // A place that a user gives up is the next one's.
        users.remove(0);
        assert_eq!(send(&mut users[1], &request).await.map(|response| response.status), Ok(200));
        // Connections that end with their request give their place back with it.
        let once = HttpOptions { connections: Connections::PerRequest, ..options };
        let clients = clients_of(plan(&server.url(), once), Allowlist::default(), Some(1));
        let mut client = clients.client(0);
        for _ in 0..3 {
            assert_eq!(send(&mut client, &request).await.map(|response| response.status), Ok(200));
        }
    });
}
