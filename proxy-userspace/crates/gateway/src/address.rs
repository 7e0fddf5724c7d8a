//! Which addresses this host may ask for documents: a name from a configuration, or what it resolves
//! to today, must not lead into the network that the proxy guards.

use std::{
    future::Future,
    io,
    net::{IpAddr, Ipv6Addr, SocketAddr, ToSocketAddrs as _},
    pin::Pin,
    task::{Context, Poll},
};

use hyper_util::client::legacy::connect::dns::Name;
use ipnet::IpNet;

/// An address that is neither public nor listed.
#[derive(Clone, Copy, Debug, thiserror::Error)]
#[error("{0} is not a public address; list it to allow it")]
pub struct NotPublic(pub IpAddr);

/// Which addresses may be asked.
#[derive(Clone, Debug, Default)]
pub struct AddressRule {
    /// Ranges allowed although they aren't public.
    pub allowed: Vec<IpNet>,
}

impl AddressRule {
    /// Whether `address` is public, or listed.
    pub fn permits(&self, address: IpAddr) -> bool {
        let address = address.to_canonical();
        is_public(address) || self.allowed.iter().any(|net| net.contains(&address))
    }
}

/// Neither private, shared, loopback, link-local (cloud metadata is there), multicast nor
/// reserved: the registries of RFC 6890.
fn is_public(address: IpAddr) -> bool {
    match address {
        IpAddr::V4(v4) => {
            let [a, b, c, _] = v4.octets();
            !(v4.is_private()
                || v4.is_loopback()
                || v4.is_link_local()
                || v4.is_documentation()
                || a == 0
                || a >= 224
                || (a == 100 && b & 0xc0 == 64)
                || (a == 192 && b == 0 && c == 0)
                || (a == 198 && b & 0xfe == 18))
        }
        IpAddr::V6(v6) => {
            let global_unicast = v6.segments()[0] & 0xe000 == 0x2000;
            let documentation = v6.segments()[0] == 0x2001 && v6.segments()[1] == 0x0db8;
            global_unicast && !documentation && !carries_ipv4(v6)
        }
    }
}

/// Whether an address leads to an IPv4 one, which would escape a rule about those: 6to4, Teredo, NAT64, and the
/// long deprecated compatible ones.
pub(crate) fn carries_ipv4(address: Ipv6Addr) -> bool {
    let segments = address.segments();
    segments[0] == 0x2002
        || segments[..2] == [0x2001, 0]
        || segments[..2] == [0x64, 0xff9b]
        || segments[..6] == [0; 6]
}

/// Resolves names as the system does, and refuses a name when any of its addresses may not be
/// asked: the check and the connection use the same answer, so a second answer can't slip in
/// between (DNS rebinding).
#[derive(Clone, Debug)]
pub(crate) struct GuardedResolver {
    rule: AddressRule,
}

impl GuardedResolver {
    pub(crate) fn new(rule: AddressRule) -> Self {
        Self { rule }
    }
}

impl tower_service::Service<Name> for GuardedResolver {
    type Response = std::vec::IntoIter<SocketAddr>;
    type Error = io::Error;
    type Future = Pin<Box<dyn Future<Output = io::Result<Self::Response>> + Send>>;

    fn poll_ready(&mut self, _context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, name: Name) -> Self::Future {
        let rule = self.rule.clone();
        Box::pin(async move {
            let resolved = tokio::task::spawn_blocking(move || {
                (name.as_str(), 0)
                    .to_socket_addrs()
                    .map(Iterator::collect::<Vec<_>>)
            });
            let addresses = resolved.await.map_err(io::Error::other)??;
            match addresses.iter().find(|a| !rule.permits(a.ip())) {
                Some(refused) => Err(io::Error::other(NotPublic(refused.ip()))),
                None => Ok(addresses.into_iter()),
            }
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn permits(rule: &AddressRule, address: &str) -> bool {
        rule.permits(address.parse().expect("an address"))
    }

    #[test]
    fn only_public_addresses_unless_listed() {
        let rule = AddressRule::default();
        for inside in [
            "127.0.0.1",
            "10.0.0.1",
            "172.16.0.1",
            "192.168.1.1",
            "169.254.169.254",
            "100.64.0.1",
            "0.0.0.0",
            "192.0.0.1",
            "198.18.0.1",
            "224.0.0.1",
            "255.255.255.255",
            "::1",
            "::",
            "fe80::1",
            "fd00::1",
            "ff02::1",
            "::ffff:127.0.0.1",
            "2002:7f00:1::",
            "64:ff9b::7f00:1",
        ] {
            assert!(!permits(&rule, inside), "{inside}");
        }
        for outside in ["1.1.1.1", "172.32.0.1", "100.128.0.1", "2606:4700::1111"] {
            assert!(permits(&rule, outside), "{outside}");
        }
        let listed = AddressRule {
            allowed: vec!["127.0.0.1/32".parse().expect("a range")],
        };
        assert!(permits(&listed, "127.0.0.1"));
        assert!(permits(&listed, "::ffff:127.0.0.1"));
        assert!(!permits(&listed, "127.0.0.2"));
    }
}
