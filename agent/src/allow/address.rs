//! Kinds of addresses: what a name may stand for, and what has to be listed itself.

use std::fmt;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

/// What an address belongs to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Kind {
    /// Anything else: the public internet.
    Public,
    /// A network of its own: RFC 1918, RFC 4193, RFC 6598 (carriers), RFC 2544 (measurements).
    Private,
    /// This machine.
    Loopback,
    /// The link, and services of a cloud that tell a machine its secrets.
    LinkLocal,
    /// No address: on Linux it stands for this machine.
    Unspecified,
    /// Many machines at once.
    Many,
}

/// Metadata services that are not at a link-local address: of Alibaba, Azure and Oracle.
const METADATA_V4: [Ipv4Addr; 3] =
    [Ipv4Addr::new(100, 100, 100, 200), Ipv4Addr::new(168, 63, 129, 16), Ipv4Addr::new(192, 0, 0, 192)];
/// Those of Amazon and Google.
const METADATA_V6: [Ipv6Addr; 2] =
    [Ipv6Addr::new(0xfd00, 0xec2, 0, 0, 0, 0, 0, 0x254), Ipv6Addr::new(0xfd20, 0xce, 0, 0, 0, 0, 0, 0x254)];

impl Kind {
    /// The kind of an address, in whichever form it is written.
    pub(crate) fn of(address: IpAddr) -> Self {
        match plain(address) {
            IpAddr::V4(address) => of_v4(address),
            IpAddr::V6(address) => of_v6(address),
        }
    }

    /// Must it be listed itself, and not just lie within a wider range?
    pub(crate) fn is_special(self) -> bool {
        matches!(self, Kind::LinkLocal | Kind::Unspecified | Kind::Many)
    }
}

impl fmt::Display for Kind {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(match self {
            Kind::Public => "a public address",
            Kind::Private => "a private address",
            Kind::Loopback => "an address of the agent's own machine",
            Kind::LinkLocal => "a link-local or metadata address",
            Kind::Unspecified => "no address of any machine",
            Kind::Many => "a multicast or broadcast address",
        })
    }
}

/// The address that a connection goes to: an IPv4 address within an IPv6 one is that IPv4 address.
pub(crate) fn plain(address: IpAddr) -> IpAddr {
    address.to_canonical()
}

fn of_v4(address: Ipv4Addr) -> Kind {
    let [a, b, ..] = address.octets();
    if address.is_link_local() || METADATA_V4.contains(&address) {
        Kind::LinkLocal
    } else if a == 0 {
        Kind::Unspecified
    } else if address.is_multicast() || address.is_broadcast() {
        Kind::Many
    } else if address.is_loopback() {
        Kind::Loopback
    } else if address.is_private() || (a == 100 && b & 0xc0 == 64) || (a == 198 && b & 0xfe == 18) {
        Kind::Private
    } else {
        Kind::Public
    }
}

fn of_v6(address: Ipv6Addr) -> Kind {
    if address.is_unicast_link_local() || METADATA_V6.contains(&address) {
        Kind::LinkLocal
    } else if address.is_unspecified() {
        Kind::Unspecified
    } else if address.is_multicast() {
        Kind::Many
    } else if address.is_loopback() {
        Kind::Loopback
    } else if let Some(inner) = translated(address) {
        of_v4(inner)
    } else if address.is_unique_local() || address.segments()[0] & 0xffc0 == 0xfec0 {
        // fec0::/10 was for sites before RFC 3879, and routers still know it.
        Kind::Private
    } else {
        Kind::Public
    }
}

/// The IPv4 address that a gateway makes of an IPv6 one: NAT64 (RFC 6052), 6to4 (RFC 3056), and the compatible form of
/// RFC 4291.
fn translated(address: Ipv6Addr) -> Option<Ipv4Addr> {
    let segments = address.segments();
    let (high, low) = match segments {
        [0x64, 0xff9b, 0, 0, 0, 0, high, low] | [0, 0, 0, 0, 0, 0, high, low] => (high, low),
        [0x2002, high, low, ..] => (high, low),
        _ => return None,
    };
    Some(Ipv4Addr::from_bits(u32::from(high) << 16 | u32::from(low)))
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "tests")]
    use super::*;

    #[test]
    fn every_spelling_of_an_address_has_one_kind() {
        let cases = [
            (Kind::LinkLocal, "169.254.0.0 169.254.169.254 169.254.255.255 ::ffff:169.254.169.254 64:ff9b::a9fe:a9fe"),
            (Kind::LinkLocal, "2002:a9fe:a9fe::1 fe80:: febf:ffff::1 fd00:ec2::254 fd20:ce::254 100.100.100.200"),
            (Kind::LinkLocal, "168.63.129.16 192.0.0.192"),
            (Kind::Unspecified, "0.0.0.0 0.1.2.3 :: ::ffff:0.0.0.0"),
            (Kind::Many, "224.0.0.1 239.255.255.255 255.255.255.255 ff02::1"),
            (Kind::Loopback, "127.0.0.1 127.255.255.255 ::1 ::ffff:127.0.0.1 64:ff9b::7f00:1"),
            (Kind::Private, "10.0.0.0 10.255.255.255 172.16.0.0 172.31.255.255 192.168.0.0 192.168.255.255"),
            (
                Kind::Private,
                "100.64.0.0 100.127.255.255 198.18.0.0 198.19.255.255 fc00:: fdff::1 fd00:ec2::253 fec0::1",
            ),
            (Kind::Private, "::ffff:10.0.0.1"),
            (
                Kind::Public,
                "9.255.255.255 11.0.0.0 172.15.255.255 172.32.0.0 192.167.255.255 192.169.0.0 100.63.255.255",
            ),
            (Kind::Public, "100.128.0.0 126.255.255.255 128.0.0.1 169.253.255.255 169.255.0.0 223.255.255.255 1.0.0.0"),
            (Kind::Public, "2001:db8::1 64:ff9b::808:808 fbff::1 fe00::1 ::ffff:8.8.8.8"),
        ];
        for (kind, addresses) in cases {
            for address in addresses.split_whitespace() {
                assert_eq!(Kind::of(address.parse().unwrap()), kind, "{address}");
            }
        }
    }
}
