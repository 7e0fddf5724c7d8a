//! What all lists together say of every address, and what a change of one entry changes.
//!
//! A table gives the cell of the longest prefix it holds, so each cell must already hold what
//! *all* covering prefixes add up to: trusted if any of them is trusted, else blocked until the
//! last of them ends. This is where that sum is made, and where the smallest set of words to
//! rewrite is found. No sockets, files or clocks.

use std::{
    cmp::Reverse,
    collections::BinaryHeap,
    net::{IpAddr, Ipv4Addr},
};

use ipnet::{IpNet, Ipv4Net, Ipv6Net};
use proxy_common::Listing;

use crate::{
    claim::{Claim, ListId, Standing, insert},
    plan::Plan,
    prefixes::Prefixes,
};

/// Edits from which on making the tables anew is cheaper than finding out what each changes.
pub const MANY_EDITS: usize = 4_096;

/// All entries of all lists.
#[derive(Debug, Default)]
pub struct Truth {
    v4: Prefixes<Ipv4Net>,
    v6: Prefixes<Ipv6Net>,
    endings: BinaryHeap<Reverse<(u64, IpNet, ListId)>>,
}

impl Truth {
    /// Records that `list` claims `claim` about `prefix`, and returns the writes that make the
    /// kernel agree, none of which lets a blocked address through on the way.
    ///
    /// Repeating a claim changes nothing. A block replaces the same list's earlier block only if
    /// it ends later: a second ban extends, it never shortens.
    pub fn put(&mut self, prefix: IpNet, list: ListId, claim: Claim) -> Plan {
        self.await_end(prefix, list, claim);
        self.edit(prefix, |claims| insert(claims, list, claim))
    }

    /// Like [`Self::put`], but the claim replaces the list's earlier one even if it ends sooner.
    pub fn replace(&mut self, prefix: IpNet, list: ListId, claim: Claim) -> Plan {
        self.await_end(prefix, list, claim);
        self.edit(prefix, |claims| {
            claims.retain(|(of, _)| *of != list);
            claims.push((list, claim));
        })
    }

    /// Withdraws what `list` claims about exactly `prefix`.
    pub fn remove(&mut self, prefix: IpNet, list: ListId) -> Plan {
        self.edit(prefix, |claims| claims.retain(|(of, _)| *of != list))
    }

    /// Makes `list` claim just this about `prefix`, or nothing, without finding out what that
    /// changes: for edits so many that the tables are made anew after them.
    pub fn set(&mut self, prefix: IpNet, list: ListId, claim: Option<Claim>) {
        if let Some(claim) = claim {
            self.await_end(prefix, list, claim);
        }
        let edit = |claims: &mut Vec<(ListId, Claim)>| {
            claims.retain(|(of, _)| *of != list);
            claims.extend(claim.map(|claim| (list, claim)));
        };
        match canonical(prefix) {
            IpNet::V4(prefix) => self.v4.edit_quietly(prefix, edit),
            IpNet::V6(prefix) => self.v6.edit_quietly(prefix, edit),
        }
    }

    fn edit(&mut self, prefix: IpNet, edit: impl FnOnce(&mut Vec<(ListId, Claim)>)) -> Plan {
        match canonical(prefix) {
            IpNet::V4(prefix) => self.v4.edit(prefix, edit),
            IpNet::V6(prefix) => self.v6.edit(prefix, edit),
        }
    }

    fn await_end(&mut self, prefix: IpNet, list: ListId, claim: Claim) {
        if let Claim::Blocked {
            until_ns: Some(until_ns),
            ..
        } = claim
        {
            self.endings.push(Reverse((until_ns, prefix, list)));
        }
    }

    /// Withdraws every ban that has ended by `now_ns`; returns what ended and what to write.
    pub fn expire(&mut self, now_ns: u64) -> (Vec<(IpNet, ListId)>, Plan) {
        let mut ended = Vec::new();
        let mut plans = Vec::new();
        while let Some(Reverse((until_ns, prefix, list))) = self.endings.peek().copied() {
            if until_ns > now_ns {
                break;
            }
            self.endings.pop();
            // A ban that was extended or withdrawn since has another ending, or none.
            let claim = self.claim(prefix, list);
            if matches!(claim, Some(Claim::Blocked { until_ns: Some(end), .. }) if end == until_ns)
            {
                if ended.len() < MANY_EDITS {
                    plans.push(self.remove(prefix, list));
                } else {
                    self.set(prefix, list, None);
                }
                ended.push((prefix, list));
            }
        }
        if ended.len() > MANY_EDITS {
            plans.push(Plan::rebuild());
        }
        (ended, Plan::all(plans))
    }

    /// What `list` claims about exactly `prefix`.
    pub fn claim(&self, prefix: IpNet, list: ListId) -> Option<Claim> {
        let claims = match canonical(prefix) {
            IpNet::V4(prefix) => self.v4.get(prefix),
            IpNet::V6(prefix) => self.v6.get(prefix),
        };
        claims
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
        match cell.listing(|| now_ns) {
            Listing::Unlisted => Standing::Unlisted,
            Listing::Trusted => Standing::Trusted,
            Listing::Blocked => Standing::Blocked,
            Listing::Banned => Standing::Banned {
                until_ns: cell.until_ns,
            },
            Listing::MonitoredBlock | Listing::MonitoredBan => Standing::Monitored,
        }
    }

    /// Every prefix with an entry that covers `address`, shortest first, with its claims.
    pub fn covering(&self, address: IpAddr) -> Vec<(IpNet, ListId, Claim)> {
        match address.to_canonical() {
            IpAddr::V4(address) => self.v4.covering(&Ipv4Net::from(address)),
            IpAddr::V6(address) => self.v6.covering(&Ipv6Net::from(address)),
        }
    }

    /// Prefixes with at least one claim.
    pub fn len(&self) -> usize {
        self.v4.len() + self.v6.len()
    }

    /// Whether no list claims anything.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    pub(crate) fn v4(&self) -> &Prefixes<Ipv4Net> {
        &self.v4
    }

    pub(crate) fn v6(&self) -> &Prefixes<Ipv6Net> {
        &self.v6
    }
}

/// The prefix without host bits; one inside ::ffff:0:0/96 as IPv4, because the kernel judges such
/// sources as IPv4.
fn canonical(prefix: IpNet) -> IpNet {
    match prefix {
        IpNet::V4(prefix) => prefix.trunc().into(),
        IpNet::V6(prefix) => unmapped(prefix).map_or(prefix.trunc().into(), IpNet::from),
    }
}

fn unmapped(prefix: Ipv6Net) -> Option<Ipv4Net> {
    let length = prefix.prefix_len().checked_sub(96)?;
    let address: Ipv4Addr = prefix.addr().to_ipv4_mapped()?;
    Ipv4Net::new(address, length).ok().map(|net| net.trunc())
}

#[cfg(test)]
mod tests {
    use proxy_common::{Cell, Mode, table::Code};

    use super::*;
    use crate::plan::Change;

    const BANS: ListId = 0;
    const FEED: ListId = 1;
    const ALLOW: ListId = 2;

    fn net(text: &str) -> IpNet {
        text.parse().expect("a prefix")
    }

    fn address(text: &str) -> IpAddr {
        text.parse().expect("an address")
    }

    #[test]
    fn a_repeated_claim_changes_nothing() {
        let mut truth = Truth::default();
        let block = net("192.0.2.0/24");
        let put = truth.put(block, FEED, Claim::BLOCKED);
        assert_eq!(put.changes(), [Change::Code(block, Code::Blocked)]);
        assert!(truth.put(block, FEED, Claim::BLOCKED).is_empty());
        let removed = truth.remove(block, FEED);
        assert_eq!(removed.changes(), [Change::Code(block, Code::Unlisted)]);
        assert!(truth.remove(block, FEED).is_empty());
        assert!(truth.is_empty());
    }

    #[test]
    fn trusted_beats_blocked_whichever_is_longer() {
        let mut truth = Truth::default();
        truth.set(net("10.0.0.0/8"), FEED, Some(Claim::BLOCKED));
        truth.set(net("10.1.0.0/16"), ALLOW, Some(Claim::Trusted));
        truth.set(net("10.1.2.3/32"), FEED, Some(Claim::BLOCKED));
        assert_eq!(truth.standing(address("10.1.2.3"), 0), Standing::Trusted);
        assert_eq!(truth.standing(address("10.1.9.9"), 0), Standing::Trusted);
        assert_eq!(truth.standing(address("10.2.0.1"), 0), Standing::Blocked);
    }

    #[test]
    fn trusting_a_range_rewrites_the_blocked_entries_inside_it() {
        let mut truth = Truth::default();
        let (host, block, next) = (net("10.1.2.3/32"), net("10.1.2.0/24"), net("10.1.3.0/24"));
        let blocked = truth.put(host, FEED, Claim::BLOCKED);
        assert_eq!(
            blocked.changes(),
            [
                Change::Put(host, Cell::blocked(0)),
                Change::Code(block, Code::Closer),
            ],
            "the code that leads to a cell comes after it"
        );
        let trusted = truth.put(net("10.1.2.0/23"), ALLOW, Claim::Trusted);
        assert_eq!(
            trusted.changes(),
            [
                Change::Put(host, Cell::trusted()),
                Change::Put(block, Cell::trusted()),
                Change::Code(next, Code::Trusted),
            ]
        );
        let withdrawn = truth.remove(net("10.1.2.0/23"), ALLOW);
        assert_eq!(
            withdrawn.changes(),
            [
                Change::Put(host, Cell::blocked(0)),
                Change::Code(next, Code::Unlisted),
                Change::Remove(block),
            ],
            "additions come before removals"
        );
    }

    #[test]
    fn a_length_that_no_slot_holds_is_written_as_the_next_that_one_does() {
        let mut truth = Truth::default();
        let half = truth.put(net("198.51.100.128/25"), FEED, Claim::BLOCKED);
        let mut slots: Vec<Change> = half.changes().to_vec();
        slots.sort_by_key(|change| format!("{change:?}"));
        assert_eq!(
            slots,
            [
                Change::Code(net("198.51.100.0/24"), Code::Closer),
                Change::Put(net("198.51.100.128/26"), Cell::blocked(0)),
                Change::Put(net("198.51.100.192/26"), Cell::blocked(0)),
            ]
        );
    }

    #[test]
    fn a_change_of_too_much_makes_the_tables_anew() {
        let mut truth = Truth::default();
        assert!(
            truth
                .put(net("10.0.0.0/8"), FEED, Claim::BLOCKED)
                .is_rebuild()
        );
        assert!(
            !truth
                .put(net("10.64.0.0/11"), FEED, Claim::BLOCKED)
                .is_rebuild()
        );
        let all = Plan::all(vec![
            truth.put(net("192.0.2.0/24"), FEED, Claim::BLOCKED),
            truth.remove(net("10.0.0.0/8"), FEED),
        ]);
        assert!(all.is_rebuild(), "one such change among others");
        assert_eq!(truth.standing(address("10.1.2.3"), 0), Standing::Unlisted);
    }

    /// The first write of such a pair would let the source through until the second.
    #[test]
    fn of_two_plans_for_one_place_only_the_last_is_carried_out() {
        let mut truth = Truth::default();
        let host = net("203.0.113.5/32");
        let _ = truth.put(host, FEED, Claim::BLOCKED);
        let swapped = Plan::all(vec![
            truth.remove(host, FEED),
            truth.put(host, BANS, Claim::until(9_000)),
        ]);
        assert_eq!(
            swapped.changes(),
            [
                Change::Put(host, Cell::blocked(9_000)),
                Change::Code(net("203.0.113.0/24"), Code::Closer),
            ]
        );
    }

    #[test]
    fn a_ban_inside_a_blocked_range_never_ends_the_block() {
        let mut truth = Truth::default();
        let _ = truth.put(net("198.51.100.0/24"), FEED, Claim::BLOCKED);
        let _ = truth.put(net("198.51.100.7/32"), BANS, Claim::until(1_000));
        assert_eq!(
            truth.standing(address("198.51.100.7"), 5_000),
            Standing::Blocked
        );
    }

    #[test]
    fn overlapping_bans_end_with_the_last() {
        let mut truth = Truth::default();
        let _ = truth.put(net("198.51.100.0/24"), BANS, Claim::until(2_000));
        let _ = truth.put(net("198.51.100.7/32"), BANS, Claim::until(1_000));
        let standing = |at_ns| truth.standing(address("198.51.100.7"), at_ns);
        assert_eq!(standing(1_500), Standing::Banned { until_ns: 2_000 });
        assert_eq!(standing(2_000), Standing::Unlisted);
    }

    #[test]
    fn a_second_ban_extends_and_never_shortens() {
        let mut truth = Truth::default();
        let host = net("203.0.113.5/32");
        let _ = truth.put(host, BANS, Claim::until(5_000));
        assert!(truth.put(host, BANS, Claim::until(1_000)).is_empty());
        let _ = truth.put(host, BANS, Claim::until(9_000));
        assert_eq!(truth.claim(host, BANS), Some(Claim::until(9_000)));
        let (ended, plan) = truth.expire(8_999);
        assert!(ended.is_empty() && plan.is_empty(), "{ended:?} {plan:?}");
        let (ended, plan) = truth.expire(9_000);
        assert_eq!(ended, [(host, BANS)]);
        assert_eq!(
            plan.changes(),
            [
                Change::Code(net("203.0.113.0/24"), Code::Unlisted),
                Change::Remove(host),
            ]
        );
    }

    #[test]
    fn more_bans_that_end_at_once_than_are_worth_it_make_the_tables_anew() {
        let mut truth = Truth::default();
        let ban = |number: usize| net(&format!("10.0.{}.{}/32", number >> 8, number & 255));
        for number in 0..MANY_EDITS {
            truth.set(ban(number), BANS, Some(Claim::until(1_000)));
        }
        truth.set(ban(MANY_EDITS), BANS, Some(Claim::until(1_001)));
        let (ended, plan) = truth.expire(1_000);
        assert_eq!((ended.len(), plan.is_rebuild()), (MANY_EDITS, false));
        assert_eq!(truth.len(), 1);
        for number in 0..=MANY_EDITS {
            truth.set(ban(number), BANS, Some(Claim::until(2_000)));
        }
        let (ended, plan) = truth.expire(2_000);
        assert_eq!((ended.len(), plan.is_rebuild()), (MANY_EDITS + 1, true));
        assert!(truth.is_empty());
    }

    #[test]
    fn replacing_a_claim_is_one_write_that_never_unblocks() {
        let mut truth = Truth::default();
        let host = net("203.0.113.5/32");
        let _ = truth.put(host, BANS, Claim::until(9_000));
        assert_eq!(
            truth.replace(host, BANS, Claim::until(2_000)).changes(),
            [Change::Put(host, Cell::blocked(2_000))]
        );
    }

    #[test]
    fn a_list_that_watches_never_lifts_a_drop_and_outlives_a_ban() {
        const WATCHED: Claim = Claim::Blocked {
            until_ns: None,
            mode: Mode::Monitor,
        };
        let mut truth = Truth::default();
        let host = net("203.0.113.5/32");
        let standing = |truth: &Truth, at_ns| truth.standing(address("203.0.113.5"), at_ns);
        let _ = truth.put(host, FEED, WATCHED);
        assert_eq!(standing(&truth, 0), Standing::Monitored);
        let _ = truth.put(net("203.0.113.0/24"), BANS, Claim::until(1_000));
        assert_eq!(standing(&truth, 999), Standing::Banned { until_ns: 1_000 });
        assert_eq!(standing(&truth, 1_000), Standing::Monitored);
        let _ = truth.put(net("203.0.112.0/23"), ALLOW, Claim::Trusted);
        assert_eq!(standing(&truth, 0), Standing::Trusted);
    }

    #[test]
    fn host_bits_and_mapped_addresses_are_brought_to_one_form() {
        let mut truth = Truth::default();
        let _ = truth.put(net("192.0.2.77/24"), FEED, Claim::BLOCKED);
        assert_eq!(truth.standing(address("192.0.2.1"), 0), Standing::Blocked);
        assert_eq!(
            truth.standing(address("::ffff:192.0.2.1"), 0),
            Standing::Blocked
        );
        let _ = truth.put(net("::ffff:203.0.113.0/120"), FEED, Claim::BLOCKED);
        assert_eq!(
            truth.standing(address("203.0.113.200"), 0),
            Standing::Blocked
        );
    }
}
