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
mod tests;
