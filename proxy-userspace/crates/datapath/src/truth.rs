//! What all lists together say of every address, and what a change of one entry changes.
//!
//! A table gives the cell of the longest prefix it holds, so each cell must already hold what
//! *all* covering prefixes add up to: trusted if any of them is trusted, else blocked until the
//! last of them ends. This is where that sum is made, and where the smallest set of words to
//! rewrite is found. No sockets, files or clocks.

use std::{
    collections::BTreeSet,
    net::{IpAddr, Ipv4Addr},
};

use ipnet::{IpNet, Ipv4Net, Ipv6Net};
use proxy_common::Listing;

use crate::{
    claim::{ListId, Noted, Standing},
    family::Family,
    plan::Plan,
    prefixes::Prefixes,
};

/// Edits from which on making the tables anew is cheaper than finding out what each changes.
pub const MANY_EDITS: usize = 4_096;

/// All entries of all lists.
#[derive(Clone, Debug, Default)]
pub struct Truth {
    v4: Prefixes<Ipv4Net>,
    v6: Prefixes<Ipv6Net>,
    /// Of every ban: when, and which.
    endings: BTreeSet<(u64, IpNet, ListId)>,
}

impl Truth {
    /// Records that `list` claims `claim` about `prefix`, and returns the writes that make the
    /// kernel agree, none of which lets a blocked address through on the way.
    ///
    /// Repeating a claim changes nothing. A block replaces the same list's earlier block only if
    /// it ends later: a second ban extends, it never shortens.
    pub fn put(&mut self, prefix: IpNet, list: ListId, noted: impl Into<Noted>) -> Plan {
        let noted = noted.into();
        let before = self.claim(prefix, list);
        let after = before.map_or(noted, |before| before.then(noted));
        self.replace(prefix, list, after)
    }

    /// Like [`Self::put`], but the claim replaces the list's earlier one even if it ends sooner.
    pub fn replace(&mut self, prefix: IpNet, list: ListId, noted: impl Into<Noted>) -> Plan {
        let noted = noted.into();
        self.edit(prefix, list, Some(noted))
    }

    /// Withdraws what `list` claims about exactly `prefix`.
    pub fn remove(&mut self, prefix: IpNet, list: ListId) -> Plan {
        self.edit(prefix, list, None)
    }

    /// Makes `list` claim just this about `prefix`, or nothing, without finding out what that
    /// changes: for edits after which the tables are made anew.
    pub fn set(&mut self, prefix: IpNet, list: ListId, noted: Option<impl Into<Noted>>) {
        let noted = noted.map(Into::into);
        self.await_end(prefix, list, noted);
        match canonical(prefix) {
            IpNet::V4(prefix) => self.v4.edit_quietly(prefix, list, noted),
            IpNet::V6(prefix) => self.v6.edit_quietly(prefix, list, noted),
        }
    }

    /// This truth with other claims in place of its own, while this one goes on answering: for edits
    /// so many that the tables are made anew after them. Of two edits of one prefix and list the
    /// last counts.
    #[must_use]
    pub fn with(&self, edits: impl IntoIterator<Item = (IpNet, ListId, Option<Noted>)>) -> Self {
        let (mut v4, mut v6) = (Vec::new(), Vec::new());
        for (prefix, list, noted) in edits {
            match canonical(prefix) {
                IpNet::V4(prefix) => v4.push((prefix, list, noted)),
                IpNet::V6(prefix) => v6.push((prefix, list, noted)),
            }
        }
        v4.sort_by_key(|(prefix, ..)| *prefix);
        v6.sort_by_key(|(prefix, ..)| *prefix);
        let mut truth = Self {
            v4: self.v4.with(v4),
            v6: self.v6.with(v6),
            endings: BTreeSet::new(),
        };
        truth.endings = endings(&truth.v4).chain(endings(&truth.v6)).collect();
        truth
    }

    fn edit(&mut self, prefix: IpNet, list: ListId, noted: Option<Noted>) -> Plan {
        self.await_end(prefix, list, noted);
        match canonical(prefix) {
            IpNet::V4(prefix) => self.v4.edit(prefix, list, noted),
            IpNet::V6(prefix) => self.v6.edit(prefix, list, noted),
        }
    }

    /// Notes when the list's claim will end, and forgets when its present one would.
    fn await_end(&mut self, prefix: IpNet, list: ListId, after: Option<Noted>) {
        let before = self.claim(prefix, list);
        let key = |noted: Noted| Some((noted.claim.until_ns()?, canonical(prefix), list));
        if let Some(ending) = before.and_then(key) {
            self.endings.remove(&ending);
        }
        self.endings.extend(after.and_then(key));
    }

    /// Bans that have ended by `now_ns`, first that ended first. They stay until they are removed.
    pub fn ended(&self, now_ns: u64) -> impl Iterator<Item = (IpNet, ListId)> {
        self.endings
            .iter()
            .take_while(move |(until_ns, ..)| *until_ns <= now_ns)
            .map(|(_, prefix, list)| (*prefix, *list))
    }

    /// What `list` claims about exactly `prefix`.
    pub fn claim(&self, prefix: IpNet, list: ListId) -> Option<Noted> {
        match canonical(prefix) {
            IpNet::V4(prefix) => self.v4.get(prefix, list),
            IpNet::V6(prefix) => self.v6.get(prefix, list),
        }
    }

    /// What `list` claims, IPv4 before IPv6, in order of address and length; behind `after` where it
    /// is given.
    pub fn of_list(
        &self,
        list: ListId,
        after: Option<IpNet>,
    ) -> impl Iterator<Item = (IpNet, Noted)> {
        let (v4_after, v6_after) = match after.map(canonical) {
            None => (Some(None), None),
            Some(IpNet::V4(after)) => (Some(Some(after)), None),
            Some(IpNet::V6(after)) => (None, Some(after)),
        };
        let v4 = v4_after.map(|after| self.v4.of_list(list, after));
        let v4 = v4
            .into_iter()
            .flatten()
            .map(|(prefix, noted)| (prefix.into(), noted));
        let v6 = self.v6.of_list(list, v6_after);
        v4.chain(v6.map(|(prefix, noted)| (prefix.into(), noted)))
    }

    /// Every list's claim about every prefix.
    pub fn claims(&self) -> impl Iterator<Item = (IpNet, ListId, Noted)> {
        all(&self.v4).chain(all(&self.v6))
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
    pub fn covering(&self, address: IpAddr) -> Vec<(IpNet, ListId, Noted)> {
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

fn all<P: Family>(prefixes: &Prefixes<P>) -> impl Iterator<Item = (IpNet, ListId, Noted)> {
    prefixes.iter().flat_map(|(prefix, claims)| {
        claims
            .iter()
            .map(move |(list, noted)| (prefix.into(), list, noted))
    })
}

fn endings<P: Family>(prefixes: &Prefixes<P>) -> impl Iterator<Item = (u64, IpNet, ListId)> {
    all(prefixes).filter_map(|(prefix, list, noted)| Some((noted.claim.until_ns()?, prefix, list)))
}

/// The prefix without host bits; one inside ::ffff:0:0/96 as IPv4, because the kernel judges such
/// sources as IPv4.
pub(crate) fn canonical(prefix: IpNet) -> IpNet {
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
