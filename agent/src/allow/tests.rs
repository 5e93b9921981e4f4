//! Rules and addresses: the table of who may go where.
#![allow(clippy::unwrap_used, reason = "tests")]

use std::net::{IpAddr, SocketAddr};

use proptest::prelude::*;
use url::Url;

use super::*;

fn rules(text: &str) -> Allowlist {
    Allowlist::Rules(text.split_whitespace().map(|rule| rule.parse().unwrap()).collect())
}

/// A URL as a plan has it, with the addresses that its name has.
fn may_go(allowlist: &Allowlist, url: &str, address: &str) -> bool {
    let url = Url::parse(url).unwrap();
    let host = url.host_str().unwrap().trim_matches(['[', ']']).to_owned();
    let ip = match url.host().unwrap() {
        url::Host::Ipv4(ip) => IpAddr::V4(ip),
        url::Host::Ipv6(ip) => IpAddr::V6(ip),
        url::Host::Domain(_) => address.parse().unwrap(),
    };
    let address = SocketAddr::new(ip, url.port_or_known_default().unwrap());
    allowlist.decide(Some(&host), address, false).is_ok()
}

/// Rules, a URL, what its name stands for, whether it may go there.
const TABLE: &[(&str, &str, &str, bool)] = &[
    // Addresses and ports.
    ("127.0.0.1", "http://127.0.0.1:8080/", "", true),
    ("127.0.0.1:8080", "http://127.0.0.1:8080/", "", true),
    ("127.0.0.1:8080", "http://127.0.0.1:8081/", "", false),
    ("127.0.0.1:80", "http://127.0.0.1/", "", true),
    ("127.0.0.1:443", "https://127.0.0.1/", "", true),
    ("127.0.0.1", "http://127.0.0.2/", "", false),
    ("[::1]:8080", "http://[::1]:8080/", "", true),
    ("[::1]:8080", "http://[::1]:8081/", "", false),
    ("::1", "http://[::1]:9/", "", true),
    ("::1", "http://[::2]:9/", "", false),
    // Every spelling is the address that it stands for.
    ("127.0.0.1", "http://[::ffff:127.0.0.1]/", "", true),
    ("127.0.0.1", "http://[::ffff:7f00:1]/", "", true),
    ("127.0.0.1", "http://0x7f.1/", "", true),
    ("127.0.0.1", "http://2130706433/", "", true),
    ("127.0.0.1", "http://0177.0.0.1/", "", true),
    ("127.0.0.1", "http://127.1/", "", true),
    ("0x7f.1", "http://127.0.0.1/", "", true),
    ("10.0.0.0/8", "http://0x7f.1/", "", false),
    ("10.0.0.0/8", "http://2130706433/", "", false),
    ("10.0.0.0/8", "http://0177.0.0.1/", "", false),
    ("10.0.0.0/8", "http://[::ffff:7f00:1]/", "", false),
    ("::ffff:127.0.0.1", "http://127.0.0.1/", "", true),
    ("8.8.8.8", "http://x.example.com/", "::ffff:8.8.8.8", true),
    // Ranges, at their edges.
    ("10.1.0.0/16", "http://10.1.0.0/", "", true),
    ("10.1.0.0/16", "http://10.1.255.255/", "", true),
    ("10.1.0.0/16", "http://10.2.0.0/", "", false),
    ("10.1.0.0/16", "http://10.0.255.255/", "", false),
    ("10.1.2.128/25", "http://10.1.2.127/", "", false),
    ("10.1.2.128/25", "http://10.1.2.128/", "", true),
    ("10.1.2.3/32", "http://10.1.2.3/", "", true),
    ("10.1.2.3/32", "http://10.1.2.4/", "", false),
    ("0.0.0.0/0", "http://8.8.8.8/", "", true),
    ("0.0.0.0/0", "http://10.0.0.1/", "", true),
    ("0.0.0.0/0", "http://127.0.0.1/", "", true),
    ("0.0.0.0/0", "http://[2001:db8::1]/", "", false),
    ("::/0", "http://[2001:db8::1]/", "", true),
    ("::/0", "http://8.8.8.8/", "", false),
    ("fd00::/8", "http://[fdff::1]/", "", true),
    ("fd00::/8", "http://[fc00::1]/", "", false),
    ("10.0.0.0/8:8080", "http://10.0.0.1:8080/", "", true),
    ("10.0.0.0/8:8080", "http://10.0.0.1/", "", false),
    ("fd00::/8:8080", "http://[fd00::1]:8080/", "", true),
    // A range is about addresses, whatever they are called.
    ("10.0.0.0/8", "http://api.example.com/", "10.0.0.1", true),
    ("10.0.0.0/8", "http://api.example.com/", "8.8.8.8", false),
    // Names.
    ("api.example.com", "http://api.example.com/", "8.8.8.8", true),
    ("api.example.com", "http://API.Example.COM./", "8.8.8.8", true),
    ("API.Example.com.", "http://api.example.com/", "8.8.8.8", true),
    ("api.example.com:443", "https://api.example.com/", "8.8.8.8", true),
    ("api.example.com:443", "http://api.example.com/", "8.8.8.8", false),
    ("api.example.com", "http://other.example.com/", "8.8.8.8", false),
    ("api.example.com", "http://v2.api.example.com/", "8.8.8.8", false),
    ("*.example.com", "http://api.example.com/", "8.8.8.8", true),
    ("*.example.com", "http://v2.api.example.com/", "8.8.8.8", true),
    ("*.example.com", "http://example.com/", "8.8.8.8", false),
    ("*.example.com", "http://badexample.com/", "8.8.8.8", false),
    ("*.example.com", "http://example.com.evil.net/", "8.8.8.8", false),
    ("*.example.com:8080", "http://a.example.com/", "8.8.8.8", false),
    ("münchen.example", "http://m%C3%BCnchen.example/", "8.8.8.8", true),
    // A name of the internet that suddenly stands for something near.
    ("api.example.com", "http://api.example.com/", "127.0.0.1", false),
    ("api.example.com", "http://api.example.com/", "::ffff:127.0.0.1", false),
    ("api.example.com", "http://api.example.com/", "10.0.0.1", false),
    ("api.example.com", "http://api.example.com/", "172.16.0.1", false),
    ("api.example.com", "http://api.example.com/", "192.168.1.1", false),
    ("api.example.com", "http://api.example.com/", "100.64.0.1", false),
    ("api.example.com", "http://api.example.com/", "fd00::1", false),
    ("api.example.com", "http://api.example.com/", "169.254.169.254", false),
    ("api.example.com", "http://api.example.com/", "0.0.0.0", false),
    ("api.example.com 10.0.0.0/8", "http://api.example.com/", "10.0.0.1", true),
    ("api.example.com 127.0.0.1", "http://api.example.com/", "127.0.0.1", true),
    // Names that only a private network has.
    ("target", "http://target:8080/", "10.0.0.1", true),
    ("target", "http://target:8080/", "127.0.0.1", false),
    ("target", "http://target:8080/", "169.254.169.254", false),
    ("target.default.svc.cluster.local", "http://target.default.svc.cluster.local/", "10.96.0.1", true),
    ("*.internal", "http://api.shop.internal/", "fd00::1", true),
    ("*.internal", "http://metadata.google.internal/", "169.254.169.254", false),
    ("shop.notlocal", "http://shop.notlocal/", "10.0.0.1", false),
    // The one name of this machine.
    ("localhost", "http://localhost/", "127.0.0.1", true),
    ("localhost:80", "http://localhost/", "::1", true),
    ("*.localhost", "http://a.localhost/", "127.0.0.1", true),
    // Metadata and its like: only where they are listed themselves.
    ("169.254.169.254", "http://169.254.169.254/", "", true),
    ("169.254.0.0/16", "http://169.254.169.254/", "", true),
    ("169.254.169.0/24", "http://169.254.169.254/", "", true),
    ("0.0.0.0/0", "http://169.254.169.254/", "", false),
    ("128.0.0.0/1", "http://169.254.169.254/", "", false),
    ("169.0.0.0/8", "http://169.254.169.254/", "", false),
    ("::/0", "http://[fe80::1]/", "", false),
    ("fe80::/10", "http://[fe80::1]/", "", true),
    ("::/0", "http://[fd00:ec2::254]/", "", false),
    ("fd00::/8", "http://[fd00:ec2::254]/", "", false),
    ("fd00:ec2::254", "http://[fd00:ec2::254]/", "", true),
    ("::/0", "http://[::ffff:169.254.169.254]/", "", false),
    ("::/0", "http://[64:ff9b::a9fe:a9fe]/", "", false),
    ("0.0.0.0/0", "http://0.0.0.0/", "", false),
    ("0.0.0.0", "http://0.0.0.0/", "", true),
    ("::/0", "http://[::]/", "", false),
    ("::", "http://[::]/", "", true),
    ("0.0.0.0/0", "http://224.0.0.1/", "", false),
    ("224.0.0.0/4", "http://224.0.0.1/", "", true),
    ("0.0.0.0/0", "http://255.255.255.255/", "", false),
    ("100.64.0.0/10", "http://100.64.0.1/", "", true),
    ("100.64.0.0/10", "http://100.100.100.200/", "", false),
    ("100.100.100.200", "http://100.100.100.200/", "", true),
];

#[test]
fn who_may_go_where() {
    for (list, url, address, allowed) in TABLE {
        assert_eq!(may_go(&rules(list), url, address), *allowed, "--allow {list}: {url} {address}");
    }
}

#[test]
fn without_a_rule_only_this_machine() {
    let allowlist = Allowlist::default();
    for (url, address, allowed) in [
        ("http://127.0.0.1:1/", "", true),
        ("http://127.255.255.254/", "", true),
        ("http://[::1]/", "", true),
        ("http://localhost/", "127.0.0.1", true),
        ("http://api.example.com/", "127.0.0.1", true),
        ("http://[::ffff:7f00:1]/", "", true),
        ("http://localhost/", "10.0.0.1", false),
        ("http://128.0.0.1/", "", false),
        ("http://0.0.0.0/", "", false),
        ("http://[::]/", "", false),
        ("http://[::2]/", "", false),
        ("http://169.254.169.254/", "", false),
    ] {
        assert_eq!(may_go(&allowlist, url, address), allowed, "{url} {address}");
    }
}

/// A plan says which address a name has; a rule for the name does not mean that one.
#[test]
fn a_plan_does_not_say_what_a_name_stands_for() {
    let elsewhere = "8.8.8.8:80".parse().unwrap();
    assert!(rules("api.example.com").decide(Some("api.example.com"), elsewhere, true).is_ok());
    assert!(rules("api.example.com").decide(None, elsewhere, true).is_err());
    assert!(rules("8.8.8.8").decide(None, elsewhere, true).is_ok());
}

#[test]
fn a_local_run_goes_where_its_plan_says_but_not_to_metadata_by_chance() {
    let plan = Allowlist::Plan { hash: "h".into() };
    let decide = |address: &str, named| plan.decide(Some("x"), address.parse().unwrap(), named).is_ok();
    assert!(decide("8.8.8.8:80", false) && decide("127.0.0.1:80", false) && decide("0.0.0.0:80", false));
    assert!(!decide("169.254.169.254:80", false) && !decide("[fd00:ec2::254]:80", false));
    assert!(decide("169.254.169.254:80", true));
    assert!(plan.decide_unseen("x", 1).is_ok());
}

#[test]
fn through_a_proxy_only_a_name_counts() {
    let list = rules("api.example.com:443 *.internal 0.0.0.0/0 ::/0");
    let may = |host, port| list.decide_unseen(host, port).is_ok();
    assert!(may("api.example.com", 443) && may("a.internal", 1));
    assert!(!may("api.example.com", 80) && !may("other.example.com", 443) && !may("internal", 1));
}

#[test]
fn only_names_that_some_rule_could_cover_are_looked_up() {
    use LookUp::{Listed, Unlisted};
    let table = [
        ("api.example.com:443 *.internal", "api.example.com", 443, Some(Listed)),
        ("api.example.com:443 *.internal", "a.internal", 1, Some(Listed)),
        ("api.example.com:443 *.internal", "api.example.com", 80, None),
        ("api.example.com:443 *.internal", "x.example.com", 443, None),
        ("api.example.com:443 *.internal", "localhost", 443, None),
        // Internal names for addresses that are allowed.
        ("10.0.0.5", "db.corp.example.com", 1, Some(Unlisted)),
        ("10.0.0.0/8:80", "db.corp.example.com", 80, Some(Unlisted)),
        ("10.0.0.0/8:80", "db.corp.example.com", 81, None),
        ("10.0.0.0/8 db.corp.example.com", "db.corp.example.com", 80, Some(Listed)),
        // For this machine there is one name.
        ("127.0.0.0/8 ::1", "localhost", 80, Some(Listed)),
        ("127.0.0.0/8 ::1", "LOCALHOST.", 80, Some(Listed)),
        ("127.0.0.0/8 ::1", "x.localhost", 80, None),
        ("127.0.0.0/8 ::1", "x.example.com", 80, None),
        ("127.0.0.1:80", "localhost", 80, Some(Listed)),
        ("127.0.0.1:80", "localhost", 81, None),
        ("0.0.0.0/0", "localhost", 80, Some(Listed)),
    ];
    for (list, host, port, wanted) in table {
        assert_eq!(rules(list).look_up(host, port).ok(), wanted, "{list}: {host}:{port}");
    }
    assert_eq!(Allowlist::default().look_up("localhost", 7), Ok(Listed));
    assert!(Allowlist::default().look_up("x.example.com", 7).is_err());
    assert_eq!(Allowlist::Plan { hash: "h".into() }.look_up("x.example.com", 7), Ok(Listed));
}

#[test]
fn what_is_no_rule_is_refused_with_what_to_write() {
    let cases = [
        ("", "empty"),
        ("http://a.example.com", "no scheme"),
        ("a.example.com/path", "is no address"),
        ("*", "0.0.0.0/0"),
        ("*:80", "0.0.0.0/0"),
        ("a.*.com", "first part"),
        ("*.10.0.0.1", "range"),
        ("a.example.com:0", "1 to 65535"),
        ("a.example.com:http", "1 to 65535"),
        ("10.0.0.1/8", "10.0.0.0/8"),
        ("10.0.0.0/33", "0 to 32"),
        ("fd00::/129", "0 to 128"),
        ("10.0.0.0/x", "0 to 32"),
        ("::ffff:10.0.0.0/104", "10.0.0.0/8"),
        ("::1:8080x", "brackets"),
        ("[::1", "not closed"),
        ("[::1]8080", "[::1]:8080"),
        ("a b", "no host"),
        ("a..b", "no host"),
        ("a,b", "no host"),
        ("user@host", "no host"),
        (":80", "no host"),
    ];
    for (rule, says) in cases {
        let error = rule.parse::<Rule>().unwrap_err().to_string();
        assert!(error.contains(says), "{rule}: {error}");
    }
}

#[test]
fn a_refusal_says_what_to_allow() {
    for (host, address, rule) in [
        ("api.example.com", "8.8.8.8:443", "api.example.com:443"),
        ("api.example.com", "10.0.0.1:443", "10.0.0.1:443"),
        ("target", "10.0.0.1:80", "target:80"),
        ("target", "127.0.0.1:80", "127.0.0.1:80"),
        ("::1", "[::1]:80", "[::1]:80"),
        ("::ffff:127.0.0.1", "[::ffff:127.0.0.1]:80", "127.0.0.1:80"),
    ] {
        let address = address.parse().unwrap();
        assert_eq!(Allowlist::remedy(host, address), rule);
        let allows = rules(rule).decide(Some(host), address, false);
        assert!(allows.is_ok(), "{rule} does not allow {host} {address}");
    }
}

fn ips() -> impl Strategy<Value = IpAddr> {
    prop_oneof![
        any::<u32>().prop_map(|bits| IpAddr::V4(bits.into())),
        any::<u128>().prop_map(|bits| IpAddr::V6(bits.into())),
        // Where it matters: IPv4 within IPv6, and the kinds that have ranges of their own.
        any::<u32>().prop_map(|bits| IpAddr::V6(std::net::Ipv4Addr::from(bits).to_ipv6_mapped())),
        (0u32..0x1_0000).prop_map(|low| IpAddr::V4((0xa9fe_0000 | low).into())),
    ]
}

proptest! {
    /// What is written is what is read again.
    #[test]
    fn a_rule_is_read_as_it_is_shown(ip in ips(), length in 0u8..=128, port in proptest::option::of(1u16..)) {
        let most = if ip.to_canonical().is_ipv4() { 32 } else { 128 };
        let (ip, length) = (ip.to_canonical(), length.min(most));
        let bits = match ip {
            IpAddr::V4(ip) => IpAddr::V4((ip.to_bits() & u32::MAX.checked_shl(32 - u32::from(length)).unwrap_or(0)).into()),
            IpAddr::V6(ip) => IpAddr::V6((ip.to_bits() & u128::MAX.checked_shl(128 - u32::from(length)).unwrap_or(0)).into()),
        };
        prop_assume!(bits.to_canonical() == bits);
        let suffix = port.map_or_else(String::new, |port| format!(":{port}"));
        let rule: Rule = format!("{bits}/{length}{suffix}").parse().unwrap();
        prop_assert_eq!(rule.to_string().parse::<Rule>().unwrap(), rule);
    }

    /// An address within an IPv6 address is decided as the address itself.
    #[test]
    fn the_form_of_an_address_decides_nothing(bits in any::<u32>(), ip in ips(), port in 1u16..) {
        let v4 = std::net::Ipv4Addr::from(bits);
        let both = [IpAddr::V4(v4), IpAddr::V6(v4.to_ipv6_mapped())].map(|ip| SocketAddr::new(ip, port));
        for list in [rules(&ip.to_canonical().to_string()), rules("0.0.0.0/0"), rules("x.example.com"), rules("x")] {
            let [plain, mapped] = both.map(|address| list.decide(Some("x.example.com"), address, false));
            prop_assert_eq!(plain, mapped);
        }
    }

    /// Whatever names resolve to, no name rule and no wide range leads to a machine's own surroundings.
    #[test]
    fn no_name_and_no_wide_range_reaches_what_is_special(ip in ips(), port in 1u16..) {
        prop_assume!(Kind::of(ip).is_special());
        let list = rules("x.example.com x *.internal 0.0.0.0/0 ::/0 128.0.0.0/1 8000::/1 0.0.0.0/1 ::/1");
        for host in ["x.example.com", "x", "a.internal"] {
            prop_assert!(list.decide(Some(host), SocketAddr::new(ip, port), true).is_err());
        }
    }
}
