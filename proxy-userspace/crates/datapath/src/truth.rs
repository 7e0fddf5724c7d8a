//! What all lists together say of every address, and what a change of one entry changes.
//!
//! The kernel looks up one longest prefix and believes its cell, so each cell must already hold
//! what *all* covering prefixes add up to: trusted if any of them is trusted, else blocked until
//! the last of them ends. This is where that sum is made, and where the smallest set of cells to
//! rewrite is found. No sockets, files or clocks.

use std::{
    cmp::Reverse,
    collections::BinaryHeap,
    net::{IpAddr, Ipv4Addr},
};

use ipnet::{IpNet, Ipv4Net, Ipv6Net};
use proxy_common::Cell;

use crate::trie::{Trie, additions_first, insert, last_of_each};

/// What one list claims about a prefix.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Claim {
    /// Passes, whatever other lists say.
    Trusted,
    /// Dropped until `CLOCK_BOOTTIME` reads this many nanoseconds; for good when `None`.
    Blocked {
        /// End of the block.
        until_ns: Option<u64>,
    },
}

/// What all lists together say about an address.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Standing {
    /// No list covers it.
    Unlisted,
    /// A trusted prefix covers it.
    Trusted,
    /// Blocked for good.
    Blocked,
    /// Blocked until `CLOCK_BOOTTIME` reads `until_ns`.
    Banned {
        /// End of the last ban that covers it.
        until_ns: u64,
    },
}

/// One write to the kernel's tables.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Change {
    /// Set the cell of a prefix.
    Put(IpNet, Cell),
    /// Remove the cell of a prefix.
    Remove(IpNet),
}

/// Identifies a list; the caller keeps the names.
pub type ListId = u16;

/// All entries of all lists.
#[derive(Debug, Default)]
pub struct Truth {
    v4: Trie<Ipv4Net>,
    v6: Trie<Ipv6Net>,
    endings: BinaryHeap<Reverse<(u64, IpNet, ListId)>>,
}

impl Truth {
    /// Records that `list` claims `claim` about `prefix`, and returns the writes that make the
    /// kernel agree, none of which lets a blocked address through on the way.
    ///
    /// Repeating a claim changes nothing. A block replaces the same list's earlier block only if
    /// it ends later: a second ban extends, it never shortens.
    pub fn put(&mut self, prefix: IpNet, list: ListId, claim: Claim) -> Vec<Change> {
        if let Claim::Blocked {
            until_ns: Some(until_ns),
        } = claim
        {
            self.endings.push(Reverse((until_ns, prefix, list)));
        }
        match prefix {
            IpNet::V4(prefix) => self
                .v4
                .edit(prefix.trunc(), |claims| insert(claims, list, claim)),
            IpNet::V6(prefix) => match unmapped(prefix) {
                Some(prefix) => self.v4.edit(prefix, |claims| insert(claims, list, claim)),
                None => self
                    .v6
                    .edit(prefix.trunc(), |claims| insert(claims, list, claim)),
            },
        }
    }

    /// Like [`Self::put`], but the claim replaces the list's earlier one even if it ends sooner.
    pub fn replace(&mut self, prefix: IpNet, list: ListId, claim: Claim) -> Vec<Change> {
        let mut changes = self.remove(prefix, list);
        changes.extend(self.put(prefix, list, claim));
        last_of_each(&mut changes);
        additions_first(&mut changes);
        changes
    }

    /// Withdraws what `list` claims about exactly `prefix`.
    pub fn remove(&mut self, prefix: IpNet, list: ListId) -> Vec<Change> {
        let withdraw = |claims: &mut Vec<(ListId, Claim)>| claims.retain(|(of, _)| *of != list);
        match prefix {
            IpNet::V4(prefix) => self.v4.edit(prefix.trunc(), withdraw),
            IpNet::V6(prefix) => match unmapped(prefix) {
                Some(prefix) => self.v4.edit(prefix, withdraw),
                None => self.v6.edit(prefix.trunc(), withdraw),
            },
        }
    }

    /// Withdraws every ban that has ended by `now_ns`; returns what ended and what to write.
    pub fn expire(&mut self, now_ns: u64) -> (Vec<(IpNet, ListId)>, Vec<Change>) {
        let mut ended = Vec::new();
        let mut changes = Vec::new();
        while let Some(Reverse((until_ns, prefix, list))) = self.endings.peek().copied() {
            if until_ns > now_ns {
                break;
            }
            self.endings.pop();
            // A ban that was extended or withdrawn since has another ending, or none.
            let still = Claim::Blocked {
                until_ns: Some(until_ns),
            };
            if self.claim(prefix, list) == Some(still) {
                changes.extend(self.remove(prefix, list));
                ended.push((prefix, list));
            }
        }
        (ended, changes)
    }

    /// What `list` claims about exactly `prefix`.
    pub fn claim(&self, prefix: IpNet, list: ListId) -> Option<Claim> {
        let claims = match prefix {
            IpNet::V4(prefix) => self.v4.claims.get(&prefix.trunc()),
            IpNet::V6(prefix) => match unmapped(prefix) {
                Some(prefix) => self.v4.claims.get(&prefix),
                None => self.v6.claims.get(&prefix.trunc()),
            },
        };
        claims?
            .iter()
            .find(|(of, _)| *of == list)
            .map(|(_, claim)| *claim)
    }

    /// What all lists together say of `address`; v4-mapped IPv6 is the IPv4 address.
    pub fn standing(&self, address: IpAddr, now_ns: u64) -> Standing {
        let cell = match address.to_canonical() {
            IpAddr::V4(address) => self.v4.cell(&Ipv4Net::from(address)),
            IpAddr::V6(address) => self.v6.cell(&Ipv6Net::from(address)),
        };
        let Some(cell) = cell else {
            return Standing::Unlisted;
        };
        if cell.flags & Cell::TRUSTED != 0 {
            return Standing::Trusted;
        }
        match cell.until_ns() {
            0 => Standing::Blocked,
            until_ns if now_ns < until_ns => Standing::Banned { until_ns },
            _ => Standing::Unlisted,
        }
    }

    /// Every prefix with an entry that covers `address`, shortest first, with its claims.
    pub fn covering(&self, address: IpAddr) -> Vec<(IpNet, ListId, Claim)> {
        match address.to_canonical() {
            IpAddr::V4(address) => self.v4.covering(&Ipv4Net::from(address)),
            IpAddr::V6(address) => self.v6.covering(&Ipv6Net::from(address)),
        }
    }

    /// Every cell that the kernel's tables must hold.
    pub fn cells(&self) -> impl Iterator<Item = (IpNet, Cell)> + '_ {
        self.v4.cells().chain(self.v6.cells())
    }

    /// Prefixes with at least one claim.
    pub fn len(&self) -> usize {
        self.v4.claims.len() + self.v6.claims.len()
    }

    /// Whether no list claims anything.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }
}

/// An IPv6 prefix inside ::ffff:0:0/96 is the IPv4 prefix: the kernel judges such sources as IPv4.
fn unmapped(prefix: Ipv6Net) -> Option<Ipv4Net> {
    let length = prefix.prefix_len().checked_sub(96)?;
    let address: Ipv4Addr = prefix.addr().to_ipv4_mapped()?;
    Ipv4Net::new(address, length).ok().map(|net| net.trunc())
}

#[cfg(test)]
mod tests {
    use super::*;

    const BANS: ListId = 0;
    const FEED: ListId = 1;
    const ALLOW: ListId = 2;
    const FOREVER: Claim = Claim::Blocked { until_ns: None };

    fn net(text: &str) -> IpNet {
        text.parse().expect("a prefix")
    }

    fn address(text: &str) -> IpAddr {
        text.parse().expect("an address")
    }

    fn until(until_ns: u64) -> Claim {
        Claim::Blocked {
            until_ns: Some(until_ns),
        }
    }

    #[test]
    fn a_repeated_claim_changes_nothing() {
        let mut truth = Truth::default();
        assert_eq!(truth.put(net("192.0.2.0/24"), FEED, FOREVER).len(), 1);
        assert_eq!(truth.put(net("192.0.2.0/24"), FEED, FOREVER), []);
        assert_eq!(truth.remove(net("192.0.2.0/24"), FEED).len(), 1);
        assert_eq!(truth.remove(net("192.0.2.0/24"), FEED), []);
        assert!(truth.is_empty());
    }

    #[test]
    fn trusted_beats_blocked_whichever_is_longer() {
        let mut truth = Truth::default();
        truth.put(net("10.0.0.0/8"), FEED, FOREVER);
        truth.put(net("10.1.0.0/16"), ALLOW, Claim::Trusted);
        truth.put(net("10.1.2.3/32"), FEED, FOREVER);
        assert_eq!(truth.standing(address("10.1.2.3"), 0), Standing::Trusted);
        assert_eq!(truth.standing(address("10.1.9.9"), 0), Standing::Trusted);
        assert_eq!(truth.standing(address("10.2.0.1"), 0), Standing::Blocked);
    }

    #[test]
    fn trusting_a_range_rewrites_the_blocked_entries_inside_it() {
        let mut truth = Truth::default();
        truth.put(net("10.1.2.3/32"), FEED, FOREVER);
        let changes = truth.put(net("10.0.0.0/8"), ALLOW, Claim::Trusted);
        assert!(changes.contains(&Change::Put(net("10.1.2.3/32"), Cell::trusted())));
        assert!(changes.contains(&Change::Put(net("10.0.0.0/8"), Cell::trusted())));
        let changes = truth.remove(net("10.0.0.0/8"), ALLOW);
        assert_eq!(
            changes,
            [
                Change::Put(net("10.1.2.3/32"), Cell::blocked(0)),
                Change::Remove(net("10.0.0.0/8")),
            ],
            "additions come before removals"
        );
    }

    #[test]
    fn a_ban_inside_a_blocked_range_never_ends_the_block() {
        let mut truth = Truth::default();
        truth.put(net("198.51.100.0/24"), FEED, FOREVER);
        truth.put(net("198.51.100.7/32"), BANS, until(1_000));
        assert_eq!(
            truth.standing(address("198.51.100.7"), 5_000),
            Standing::Blocked
        );
    }

    #[test]
    fn overlapping_bans_end_with_the_last() {
        let mut truth = Truth::default();
        truth.put(net("198.51.100.0/24"), BANS, until(2_000));
        truth.put(net("198.51.100.7/32"), BANS, until(1_000));
        let standing = |at_ns| truth.standing(address("198.51.100.7"), at_ns);
        assert_eq!(standing(1_500), Standing::Banned { until_ns: 2_000 });
        assert_eq!(standing(2_000), Standing::Unlisted);
    }

    #[test]
    fn a_second_ban_extends_and_never_shortens() {
        let mut truth = Truth::default();
        truth.put(net("203.0.113.5/32"), BANS, until(5_000));
        assert_eq!(truth.put(net("203.0.113.5/32"), BANS, until(1_000)), []);
        truth.put(net("203.0.113.5/32"), BANS, until(9_000));
        assert_eq!(truth.claim(net("203.0.113.5/32"), BANS), Some(until(9_000)));
        let (ended, changes) = truth.expire(8_999);
        assert_eq!((ended.len(), changes.len()), (0, 0));
        let (ended, changes) = truth.expire(9_000);
        assert_eq!(ended, [(net("203.0.113.5/32"), BANS)]);
        assert_eq!(changes, [Change::Remove(net("203.0.113.5/32"))]);
    }

    #[test]
    fn replacing_a_claim_is_one_write_that_never_unblocks() {
        let mut truth = Truth::default();
        truth.put(net("203.0.113.5/32"), BANS, until(9_000));
        assert_eq!(
            truth.replace(net("203.0.113.5/32"), BANS, until(2_000)),
            [Change::Put(net("203.0.113.5/32"), Cell::blocked(2_000))]
        );
    }

    #[test]
    fn host_bits_and_mapped_addresses_are_brought_to_one_form() {
        let mut truth = Truth::default();
        truth.put(net("192.0.2.77/24"), FEED, FOREVER);
        assert_eq!(truth.standing(address("192.0.2.1"), 0), Standing::Blocked);
        assert_eq!(
            truth.standing(address("::ffff:192.0.2.1"), 0),
            Standing::Blocked
        );
        truth.put(net("::ffff:203.0.113.0/120"), FEED, FOREVER);
        assert_eq!(
            truth.standing(address("203.0.113.200"), 0),
            Standing::Blocked
        );
    }

    #[test]
    fn agrees_with_a_naive_model_through_random_changes() {
        let mut state = 7_u64;
        let mut next = |bound: u64| {
            state = state
                .wrapping_mul(6_364_136_223_846_793_005)
                .wrapping_add(1);
            (state >> 33) % bound
        };
        let mut truth = Truth::default();
        let mut entries: Vec<(IpNet, ListId, Claim)> = Vec::new();
        let mut kernel = std::collections::HashMap::new();
        for _ in 0..3_000 {
            let length = 4 + next(29) as u8;
            let bits = (next(16) << 28 | next(4) << 16 | next(4)) as u32;
            let prefix = IpNet::from(Ipv4Net::new(bits.into(), length).expect("a prefix").trunc());
            let list = next(3) as ListId;
            let claim = if list == ALLOW {
                Claim::Trusted
            } else {
                FOREVER
            };
            entries.retain(|(of, from, _)| (*of, *from) != (prefix, list));
            let changes = if next(3) == 0 {
                truth.remove(prefix, list)
            } else {
                entries.push((prefix, list, claim));
                truth.put(prefix, list, claim)
            };
            for change in changes {
                match change {
                    Change::Put(prefix, cell) => kernel.insert(prefix, cell),
                    Change::Remove(prefix) => kernel.remove(&prefix),
                };
            }
            for _ in 0..20 {
                let probe = IpAddr::from(Ipv4Addr::from(
                    (next(16) << 28 | next(4) << 16 | next(8)) as u32,
                ));
                let covers: Vec<_> = entries
                    .iter()
                    .filter(|(of, ..)| of.contains(&probe))
                    .collect();
                let expected = if covers.iter().any(|(_, _, claim)| *claim == Claim::Trusted) {
                    Standing::Trusted
                } else if covers.is_empty() {
                    Standing::Unlisted
                } else {
                    Standing::Blocked
                };
                assert_eq!(truth.standing(probe, 0), expected, "{probe}");
                let longest = kernel
                    .iter()
                    .filter(|(prefix, _)| prefix.contains(&probe))
                    .max_by_key(|(prefix, _)| prefix.prefix_len());
                let in_kernel = match longest {
                    None => Standing::Unlisted,
                    Some((_, cell)) if cell.flags == Cell::TRUSTED => Standing::Trusted,
                    Some(_) => Standing::Blocked,
                };
                assert_eq!(in_kernel, expected, "kernel tables, {probe}");
            }
        }
    }
}
