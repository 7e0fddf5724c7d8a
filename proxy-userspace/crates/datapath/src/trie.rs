//! The claims about prefixes of one address family, and the cells they add up to.

use std::collections::HashSet;

use ipnet::IpNet;
use prefix_trie::{Prefix, PrefixMap};
use proxy_common::Cell;

use crate::truth::{Change, Claim, ListId};

/// A second block of a list extends the first and never shortens it.
pub(crate) fn insert(claims: &mut Vec<(ListId, Claim)>, list: ListId, claim: Claim) {
    let Some((_, existing)) = claims.iter_mut().find(|(of, _)| *of == list) else {
        claims.push((list, claim));
        return;
    };
    *existing = match (*existing, claim) {
        (Claim::Blocked { until_ns: old }, Claim::Blocked { until_ns: new }) => Claim::Blocked {
            until_ns: old.zip(new).map(|(old, new)| old.max(new)),
        },
        (_, claim) => claim,
    };
}

#[derive(Debug)]
pub(crate) struct Trie<P: Prefix> {
    pub(crate) claims: PrefixMap<P, Vec<(ListId, Claim)>>,
}

impl<P: Prefix> Default for Trie<P> {
    fn default() -> Self {
        Self {
            claims: PrefixMap::new(),
        }
    }
}

impl<P: Prefix + Copy + PartialEq + Into<IpNet>> Trie<P> {
    /// Edits the claims of one prefix and tells which cells under it came out different.
    pub(crate) fn edit(
        &mut self,
        prefix: P,
        edit: impl FnOnce(&mut Vec<(ListId, Claim)>),
    ) -> Vec<Change> {
        let before: Vec<(P, Option<Cell>)> = std::iter::once(prefix)
            .chain(self.claims.children(&prefix).map(|(child, _)| child))
            .map(|child| (child, self.own_cell(&child)))
            .collect();

        let mut claims = self.claims.remove(&prefix).unwrap_or_default();
        edit(&mut claims);
        if !claims.is_empty() {
            self.claims.insert(prefix, claims);
        }

        let mut changes: Vec<Change> = Vec::new();
        // The prefix itself was named once by hand and, if it had claims, once as its own child.
        let skip = usize::from(before.get(1).is_some_and(|(child, _)| *child == prefix));
        for (child, old) in before.into_iter().skip(skip) {
            match self.own_cell(&child) {
                new if new == old => {}
                Some(new) => changes.push(Change::Put(child.into(), new)),
                None => changes.push(Change::Remove(child.into())),
            }
        }
        additions_first(&mut changes);
        changes
    }

    /// The cell of a prefix that has claims of its own.
    fn own_cell(&self, prefix: &P) -> Option<Cell> {
        self.claims.get(prefix)?;
        self.cell(prefix)
    }

    /// What all prefixes that cover this one add up to.
    pub(crate) fn cell(&self, prefix: &P) -> Option<Cell> {
        let mut blocked: Option<Cell> = None;
        for (_, claim) in self.claims.cover_values(prefix).flatten() {
            match claim {
                Claim::Trusted => return Some(Cell::trusted()),
                Claim::Blocked { until_ns } => {
                    // 0 means "for good" in a cell; a ban that ended at 0 has ended all the same.
                    let until_ns = until_ns.map_or(0, |until_ns| until_ns.max(1));
                    blocked = Some(Cell::blocked(match blocked {
                        None => until_ns,
                        Some(other) if other.until_ns() == 0 || until_ns == 0 => 0,
                        Some(other) => other.until_ns().max(until_ns),
                    }));
                }
            }
        }
        blocked
    }

    pub(crate) fn covering(&self, prefix: &P) -> Vec<(IpNet, ListId, Claim)> {
        let mut found = Vec::new();
        for (cover, claims) in self.claims.cover(prefix) {
            found.extend(
                claims
                    .iter()
                    .map(|(list, claim)| (cover.into(), *list, *claim)),
            );
        }
        found
    }

    pub(crate) fn cells(&self) -> impl Iterator<Item = (IpNet, Cell)> + '_ {
        self.claims
            .keys()
            .filter_map(|prefix| Some((prefix.into(), self.cell(&prefix)?)))
    }
}

/// Keeps the last change of each prefix: what came before it is not worth a write, and might let
/// an address through in between.
pub(crate) fn last_of_each(changes: &mut Vec<Change>) {
    let mut seen = HashSet::new();
    changes.reverse();
    changes.retain(|change| {
        let (Change::Put(prefix, _) | Change::Remove(prefix)) = change;
        seen.insert(*prefix)
    });
    changes.reverse();
}

/// Puts before removals, so that no address that is blocked before and after is let through in
/// between.
pub(crate) fn additions_first(changes: &mut [Change]) {
    changes.sort_by_key(|change| matches!(change, Change::Remove(_)));
}
