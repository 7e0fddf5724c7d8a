//! Random lists, the same in every run.

use std::{
    collections::HashSet,
    net::{Ipv4Addr, Ipv6Addr},
};

use ipnet::{IpNet, Ipv6Net};

/// A list's entry and an address that it covers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Entry<A> {
    /// The entry.
    pub(crate) prefix: IpNet,
    /// Some address in it.
    pub(crate) member: A,
}

/// Numbers that look random (splitmix64).
pub(crate) struct Numbers(pub(crate) u64);

impl Numbers {
    pub(crate) fn draw(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let word = (self.0 ^ self.0 >> 30).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let word = (word ^ word >> 27).wrapping_mul(0x94d0_49bb_1331_11eb);
        word ^ word >> 31
    }
}

/// Distinct hosts, uniformly from all of IPv4.
pub(crate) fn hosts_v4(count: usize, seed: u64) -> Vec<Entry<Ipv4Addr>> {
    let mut numbers = Numbers(seed);
    let mut drawn = HashSet::with_capacity(count);
    let mut entries = Vec::with_capacity(count);
    while entries.len() < count {
        let member = Ipv4Addr::from_bits(numbers.draw() as u32);
        if drawn.insert(member) {
            let prefix = IpNet::from(std::net::IpAddr::from(member));
            entries.push(Entry { prefix, member });
        }
    }
    entries
}

/// A third each of /128, /64 and /48, from 2000::/3.
pub(crate) fn mixed_v6(count: usize, seed: u64) -> Vec<Entry<Ipv6Addr>> {
    distinct_v6(count, seed, |turn, address| {
        let length = [128, 64, 48][turn % 3];
        (address >> 3 | 1 << 125, length)
    })
}

/// Half /128, half /64, all within one /32.
pub(crate) fn within_v6(count: usize, seed: u64, prefix: Ipv6Addr) -> Vec<Entry<Ipv6Addr>> {
    let top = u128::from(prefix) >> 96 << 96;
    distinct_v6(count, seed, |turn, address| {
        (top | address >> 32, [128, 64][turn % 2])
    })
}

fn distinct_v6(
    count: usize,
    seed: u64,
    shape: impl Fn(usize, u128) -> (u128, u8),
) -> Vec<Entry<Ipv6Addr>> {
    let mut numbers = Numbers(seed);
    let mut drawn = HashSet::with_capacity(count);
    let mut entries = Vec::with_capacity(count);
    while entries.len() < count {
        let random = u128::from(numbers.draw()) << 64 | u128::from(numbers.draw());
        let (address, length) = shape(entries.len(), random);
        let member = Ipv6Addr::from(address);
        let Ok(prefix) = Ipv6Net::new(member, length) else {
            continue;
        };
        let prefix = IpNet::from(prefix.trunc());
        if drawn.insert(prefix) {
            entries.push(Entry { prefix, member });
        }
    }
    entries
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_longer_list_begins_with_the_shorter() {
        assert_eq!(hosts_v4(10, 1), hosts_v4(100, 1)[..10]);
        assert_eq!(mixed_v6(10, 1), mixed_v6(100, 1)[..10]);
    }

    #[test]
    fn every_member_is_covered_by_its_entry() {
        let within = "2001:db8::".parse().expect("an address");
        for entry in [mixed_v6(300, 1), within_v6(300, 1, within)].concat() {
            assert!(entry.prefix.contains(&std::net::IpAddr::from(entry.member)));
        }
        for entry in within_v6(300, 1, within) {
            assert_eq!(entry.member.segments()[..2], [0x2001, 0xdb8]);
        }
    }
}
