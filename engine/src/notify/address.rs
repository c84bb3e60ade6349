//! Which addresses a notification may be sent to.
//!
//! Whoever may configure a receiver must not be able to make this machine call its own services,
//! its neighbours or a cloud's metadata service. So a name is resolved once for each connection,
//! every address is judged, and the connection goes to an address that was judged: a name that
//! resolves to another address a moment later gains nothing. What is internal on purpose (an
//! Alertmanager beside us) is allowed by network.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

use ipnet::IpNet;

/// What a receiver may be.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct AddressRule {
    /// Networks that may be called although they are internal; also without TLS.
    pub allow: Vec<IpNet>,
}

impl AddressRule {
    /// The addresses of `found` that may be called; with TLS any public one, without it only
    /// those that were allowed by name of their network.
    ///
    /// ```
    /// use ninefold_engine::notify::address::AddressRule;
    /// let (public, metadata) = ("198.41.0.4:443", "169.254.169.254:443");
    /// let found = [public, metadata].map(|address| address.parse().unwrap());
    /// assert_eq!(AddressRule::default().judge(found, true), vec![found[0]]);
    /// ```
    pub fn judge(&self, found: impl IntoIterator<Item = SocketAddr>, tls: bool) -> Vec<SocketAddr> {
        let allowed = |address: &SocketAddr| {
            let ip = address.ip().to_canonical();
            self.allow.iter().any(|network| network.contains(&ip)) || (tls && is_public(ip))
        };
        found.into_iter().filter(allowed).collect()
    }
}

/// Whether an address belongs to the public internet, by the registries of special-purpose
/// addresses (RFC 6890 and its updates). In doubt it does not.
pub fn is_public(ip: IpAddr) -> bool {
    match ip {
        IpAddr::V4(ip) => is_public_v4(ip),
        IpAddr::V6(ip) => is_public_v6(ip),
    }
}

fn is_public_v4(ip: Ipv4Addr) -> bool {
    let [a, b, c, _] = ip.octets();
    let special = ip.is_loopback()
        || ip.is_private()
        || ip.is_link_local()
        || ip.is_documentation()
        || a == 0
        || a >= 224
        || (a == 100 && (64..128).contains(&b))
        || (a == 192 && b == 0 && c == 0)
        || (a == 192 && b == 88 && c == 99)
        || (a == 198 && (b == 18 || b == 19));
    !special
}

/// Global unicast is 2000::/3; of it, what wraps an IPv4 address or documents is left out.
fn is_public_v6(ip: Ipv6Addr) -> bool {
    let [a, b, ..] = ip.segments();
    let global = a & 0xe000 == 0x2000;
    let teredo_and_protocols = a == 0x2001 && b < 0x0200;
    let documentation = (a == 0x2001 && b == 0x0db8) || (a == 0x3fff && b < 0x1000);
    let six_to_four = a == 0x2002;
    global && !teredo_and_protocols && !documentation && !six_to_four
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_not_the_public_internet_is_refused() {
        let internal = [
            "0.0.0.0",
            "10.1.2.3",
            "100.64.0.1",
            "127.0.0.1",
            "127.255.255.254",
            "169.254.169.254",
            "172.16.0.1",
            "172.31.255.255",
            "192.0.0.1",
            "192.168.1.1",
            "198.18.0.1",
            "224.0.0.1",
            "240.0.0.1",
            "255.255.255.255",
            "::",
            "::1",
            "::ffff:127.0.0.1",
            "::ffff:10.0.0.1",
            "::127.0.0.1",
            "64:ff9b::7f00:1",
            "64:ff9b:1::1",
            "100::1",
            "2001::1",
            "2001:db8::1",
            "2002:7f00:1::",
            "fc00::1",
            "fd12:3456::1",
            "fe80::1",
            "fec0::1",
            "ff02::1",
        ];
        for ip in internal {
            assert!(!is_public(ip.parse().unwrap()), "{ip}");
        }
        for ip in ["1.1.1.1", "198.41.0.4", "172.32.0.1", "100.128.0.1", "2606:4700::1111"] {
            assert!(is_public(ip.parse().unwrap()), "{ip}");
        }
    }

    #[test]
    fn an_allowed_network_may_be_internal_and_plain() {
        let rule = AddressRule { allow: vec!["127.0.0.0/8".parse().unwrap()] };
        let here: SocketAddr = "127.0.0.1:9093".parse().unwrap();
        let mapped: SocketAddr = "[::ffff:127.0.0.1]:9093".parse().unwrap();
        let public: SocketAddr = "1.1.1.1:80".parse().unwrap();
        assert_eq!(rule.judge([here, mapped, public], false), vec![here, mapped]);
        assert_eq!(rule.judge([here, public], true), vec![here, public]);
        assert!(AddressRule::default().judge([here, public], false).is_empty());
    }
}
