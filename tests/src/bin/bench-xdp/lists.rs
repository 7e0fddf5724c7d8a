//! Lists without a pattern, the same in every run.

use std::{
    collections::HashSet,
    net::{IpAddr, Ipv4Addr, Ipv6Addr},
};

use ipnet::{IpNet, Ipv6Net};

use crate::plan::{listed_v4, listed_v6};

/// How many of a list's entries are sent from: its first.
pub(crate) const SENT_FROM: u32 = 1 << 16;

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

/// The hosts that the generator sends from, and more like them: spread over all of IPv4.
pub(crate) fn hosts_v4(count: usize) -> Vec<Entry<Ipv4Addr>> {
    let entry = |index| {
        let member = Ipv4Addr::from_bits(listed_v4(index));
        Entry {
            prefix: IpNet::from(IpAddr::from(member)),
            member,
        }
    };
    (0..count as u32).map(entry).collect()
}

/// The same of IPv6: a third each of /128, /64 and /48, from 2000::/3.
pub(crate) fn mixed_v6(count: usize) -> Vec<Entry<Ipv6Addr>> {
    let entry = |index| {
        let (high, low) = listed_v6(index);
        let member = Ipv6Addr::from(u128::from(high) << 64 | u128::from(low));
        let length = [128, 64, 48][index as usize % 3];
        Entry {
            prefix: IpNet::V6(Ipv6Net::new_assert(member, length).trunc()),
            member,
        }
    };
    (0..count as u32).map(entry).collect()
}

/// Half /128, half /64, all within one /32.
pub(crate) fn within_v6(count: usize, prefix: Ipv6Addr) -> Vec<IpNet> {
    let top = u128::from(prefix) >> 96 << 96;
    let mut numbers = Numbers(32);
    let mut drawn = HashSet::with_capacity(count);
    while drawn.len() < count {
        let random = u128::from(numbers.draw()) << 64 | u128::from(numbers.draw());
        let length = [128, 64][drawn.len() % 2];
        let prefix = Ipv6Net::new_assert(Ipv6Addr::from(top | random >> 32), length);
        drawn.insert(IpNet::V6(prefix.trunc()));
    }
    drawn.into_iter().collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_entry_comes_twice() {
        const COUNT: usize = 200_000;
        let v4: HashSet<IpNet> = hosts_v4(COUNT).iter().map(|entry| entry.prefix).collect();
        let v6: HashSet<IpNet> = mixed_v6(COUNT).iter().map(|entry| entry.prefix).collect();
        assert_eq!((v4.len(), v6.len()), (COUNT, COUNT));
    }

    #[test]
    fn every_member_is_covered_by_its_entry() {
        for entry in mixed_v6(300) {
            assert!(entry.prefix.contains(&IpAddr::from(entry.member)));
            assert_eq!(entry.member.octets()[0] >> 5, 1, "{}", entry.member);
        }
        let within = "2001:db8::/32".parse().expect("a prefix");
        let own: IpNet = within;
        let IpNet::V6(base) = own else {
            panic!("{own}")
        };
        assert!(
            within_v6(300, base.network())
                .iter()
                .all(|entry| own.contains(entry))
        );
    }
}
