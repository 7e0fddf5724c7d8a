//! What keeps this host reachable as it stands, read from the kernel and from files.

use std::{
    fs,
    net::{IpAddr, Ipv4Addr, Ipv6Addr},
};

use ipnet::Ipv4Net;

use super::{Lifeline, lifeline};

/// Where resolvers are written down. Where the first names only systemd's own stub, the second
/// has the servers behind it.
const RESOLVERS: [&str; 2] = ["/etc/resolv.conf", "/run/systemd/resolve/resolv.conf"];

/// Who is logged in, from where (utmp(5)).
const LOGINS: &str = "/run/utmp";

/// Loopback, this host's own addresses, default gateways, DNS servers, remote logins.
///
/// What can't be read is logged and left out: an operator must be able to block on a host whose
/// /run/utmp is damaged.
pub(super) fn observe() -> Vec<Lifeline> {
    let mut found = vec![
        Lifeline {
            prefix: Ipv4Net::new_assert(Ipv4Addr::LOCALHOST, 8).trunc().into(),
            what: "loopback".to_owned(),
        },
        lifeline(Ipv6Addr::LOCALHOST.into(), "loopback"),
    ];
    let addresses = told("this host's addresses", datapath::local_addresses());
    found.extend(addresses.map(|address| lifeline(address, "an address of this host")));
    let gateways = told("the default routes", datapath::default_gateways());
    found.extend(gateways.map(|address| lifeline(address, "the default gateway")));
    for path in RESOLVERS {
        let text = fs::read_to_string(path).unwrap_or_default();
        found.extend(resolvers(&text).map(|address| lifeline(address, "a DNS server")));
    }
    let records = fs::read(LOGINS).unwrap_or_default();
    found.extend(logins(&records).map(|address| lifeline(address, "a remote login's address")));
    found
}

fn told(what: &str, found: std::io::Result<Vec<IpAddr>>) -> impl Iterator<Item = IpAddr> {
    found
        .inspect_err(|error| tracing::warn!(%error, "can't read {what}; they aren't protected"))
        .unwrap_or_default()
        .into_iter()
}

/// `nameserver` lines (resolv.conf(5)); a zone behind `%` is left out.
fn resolvers(text: &str) -> impl Iterator<Item = IpAddr> + '_ {
    text.lines().filter_map(|line| {
        let mut words = line.split_whitespace();
        if words.next() != Some("nameserver") {
            return None;
        }
        words.next()?.split('%').next()?.parse().ok()
    })
}

/// Bytes of one record of utmp(5) with 32-bit times, as glibc writes them on every architecture
/// that we run on.
const LOGIN_BYTES: usize = 384;
/// `ut_type` of a session.
const USER_PROCESS: i16 = 7;
/// Where a record has `ut_addr_v6`.
const LOGIN_ADDRESS: usize = 348;

/// Addresses of sessions from elsewhere.
fn logins(records: &[u8]) -> impl Iterator<Item = IpAddr> + '_ {
    records.chunks_exact(LOGIN_BYTES).filter_map(|record| {
        let kind = i16::from_ne_bytes(*record.first_chunk()?);
        let octets: [u8; 16] = *record.get(LOGIN_ADDRESS..)?.first_chunk()?;
        if kind != USER_PROCESS || octets == [0; 16] {
            return None;
        }
        // An IPv4 address is in the first word, the others are zero.
        let (first, rest) = octets.split_first_chunk::<4>()?;
        Some(if rest == [0; 12] {
            Ipv4Addr::from(*first).into()
        } else {
            Ipv6Addr::from(octets).into()
        })
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn resolvers_are_read_as_the_resolver_does() {
        let text = "# nameserver 192.0.2.1\nsearch example.org\nnameserver 192.0.2.53\n\
                    nameserver fe80::1%eth0\nnameserver\nnameserver nonsense\n";
        let found: Vec<String> = resolvers(text).map(|address| address.to_string()).collect();
        assert_eq!(found, ["192.0.2.53", "fe80::1"]);
    }

    #[test]
    fn logins_from_elsewhere_are_found_and_a_torn_record_is_no_error() {
        let record = |kind: i16, address: &[u8]| {
            let mut record = [0; LOGIN_BYTES];
            record[..2].copy_from_slice(&kind.to_ne_bytes());
            record[LOGIN_ADDRESS..LOGIN_ADDRESS + address.len()].copy_from_slice(address);
            record
        };
        let v6: Ipv6Addr = "2001:db8::7".parse().expect("an address");
        let mut file = [
            record(USER_PROCESS, &[192, 0, 2, 7]),
            record(USER_PROCESS, &[]),
            record(8, &[192, 0, 2, 8]),
            record(USER_PROCESS, &v6.octets()),
        ]
        .concat();
        file.extend([7, 0, 1, 2, 3]);
        let found: Vec<String> = logins(&file).map(|address| address.to_string()).collect();
        assert_eq!(found, ["192.0.2.7", "2001:db8::7"]);
    }
}
