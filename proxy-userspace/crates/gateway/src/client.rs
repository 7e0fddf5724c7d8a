//! Who a request is from, where others stand between that and this proxy.

use std::net::{IpAddr, SocketAddr};

use http::{HeaderMap, HeaderName};
use ipnet::IpNet;

pub(crate) const FORWARDED_FOR: HeaderName = HeaderName::from_static("x-forwarded-for");

/// Addresses of a chain that are read: one that is longer is cut where it is too long.
const LONGEST_CHAIN: usize = 32;

/// Where a request comes from.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Client {
    /// Who asks.
    pub(crate) address: IpAddr,
    /// The trusted hops between, the nearest last, without the one that is connected.
    pub(crate) hops: Vec<IpAddr>,
}

impl Client {
    /// What is known of a request that `peer` sent: a trusted hop is believed about who sent it to that, and
    /// nobody else is. Read from the right, where the nearest wrote; what is no address ends it.
    pub(crate) fn of(peer: IpAddr, fields: &HeaderMap, trusted: &[IpNet]) -> Self {
        let mut client = Self {
            address: peer.to_canonical(),
            hops: Vec::new(),
        };
        let is_trusted = |address: &IpAddr| trusted.iter().any(|net| net.contains(address));
        if trusted.is_empty() || !is_trusted(&client.address) {
            return client;
        }
        let written: Vec<&str> = fields
            .get_all(FORWARDED_FOR)
            .iter()
            .flat_map(|value| value.to_str().unwrap_or("?").split(','))
            .collect();
        let mut is_peer = true;
        for text in written.iter().rev().take(LONGEST_CHAIN) {
            let Some(address) = parse(text.trim()) else {
                break;
            };
            if !is_peer {
                client.hops.insert(0, client.address);
            }
            is_peer = false;
            client.address = address.to_canonical();
            if !is_trusted(&client.address) {
                break;
            }
        }
        client
    }
}

/// An address, or one with a port, as some write it.
fn parse(text: &str) -> Option<IpAddr> {
    let with_port = || text.parse::<SocketAddr>().map(|at| at.ip());
    text.parse().or_else(|_| with_port()).ok()
}

#[cfg(test)]
mod tests {
    use http::HeaderValue;

    use super::*;

    fn client(peer: &str, chains: &[&'static str], trusted: &[&str]) -> (String, Vec<String>) {
        let mut fields = HeaderMap::new();
        for chain in chains {
            fields.append(FORWARDED_FOR, HeaderValue::from_static(chain));
        }
        let trusted: Vec<IpNet> = trusted
            .iter()
            .map(|net| net.parse().expect("a range"))
            .collect();
        let client = Client::of(peer.parse().expect("an address"), &fields, &trusted);
        let hops = client.hops.iter().map(ToString::to_string).collect();
        (client.address.to_string(), hops)
    }

    #[test]
    fn a_stranger_is_believed_nothing() {
        let alone = ("192.0.2.7".to_owned(), vec![]);
        assert_eq!(client("192.0.2.7", &["10.0.0.9"], &["10.0.0.0/8"]), alone);
        assert_eq!(client("192.0.2.7", &["10.0.0.9"], &[]), alone);
    }

    #[test]
    fn the_nearest_address_that_is_not_trusted_is_the_client() {
        let trusted = ["10.0.0.0/8"];
        let of = |chains: &[&'static str]| client("10.0.0.1", chains, &trusted);
        for same in ["192.0.2.7", "192.0.2.7:4711", " 192.0.2.7 "] {
            assert_eq!(of(&[same]), ("192.0.2.7".to_owned(), vec![]));
        }
        assert_eq!(
            of(&["[2001:db8::7]:4711"]),
            ("2001:db8::7".to_owned(), vec![])
        );
        assert_eq!(
            of(&["198.51.100.1, 192.0.2.7, 10.0.0.2"]),
            ("192.0.2.7".to_owned(), vec!["10.0.0.2".to_owned()])
        );
        assert_eq!(
            of(&["198.51.100.1", "192.0.2.7"]),
            ("192.0.2.7".to_owned(), vec![])
        );
        assert_eq!(of(&[]), ("10.0.0.1".to_owned(), vec![]));
    }

    #[test]
    fn what_is_no_address_ends_the_chain() {
        assert_eq!(
            client(
                "10.0.0.1",
                &["192.0.2.7, unknown, 10.0.0.2"],
                &["10.0.0.0/8"]
            ),
            ("10.0.0.2".to_owned(), vec![])
        );
    }
}
