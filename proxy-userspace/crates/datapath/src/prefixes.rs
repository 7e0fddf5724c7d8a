//! The claims about prefixes of one address family, and what a table must hold for them.

use std::{
    collections::{BTreeMap, HashSet},
    ops::Bound,
};

use ipnet::IpNet;
use proxy_common::{
    Cell,
    table::{Code, code_of},
};

use crate::{
    claim::{ListId, Noted, Sum},
    claims::Claims,
    family::{FRONT_BITS, Family},
    plan::{Change, Plan},
};

/// Most prefixes and /24s whose cells are compared before and after a change of one entry. Where
/// more lie under it, making the whole table anew is cheaper: 0.2 s at a million entries.
const MOST_COMPARED: usize = 1 << 13;

/// Claims by prefix, ordered by address and then by length: what lies in a prefix follows it
/// without a gap. What covers one is looked up by each length that any entry has.
#[derive(Clone, Debug)]
pub(crate) struct Prefixes<P: Family> {
    claims: BTreeMap<P, Claims>,
    /// Prefixes of each length.
    lengths: [usize; 129],
}

impl<P: Family> Default for Prefixes<P> {
    fn default() -> Self {
        Self {
            claims: BTreeMap::new(),
            lengths: [0; 129],
        }
    }
}

/// Places of a table that an edit may change.
struct Scope<P> {
    slots: Vec<P>,
    blocks: Vec<P>,
}

/// Cells of a scope's slots, then codes and cells of its blocks.
type Desired = (Vec<Option<Cell>>, Vec<(Code, Option<Cell>)>);

impl<P: Family> Prefixes<P> {
    /// These claims with others in their place; edits are ordered by prefix, and of two for one
    /// prefix and list the last counts.
    pub(crate) fn with(&self, edits: Vec<(P, ListId, Option<Noted>)>) -> Self {
        let mut lengths = [0; 129];
        let mut edits = edits.into_iter().peekable();
        let mut kept = self.claims.iter().peekable();
        let merged = std::iter::from_fn(|| {
            loop {
                let edited = edits.peek().map(|(prefix, ..)| *prefix);
                let held = kept.next_if(|(held, _)| edited.is_none_or(|edited| **held <= edited));
                let (prefix, mut claims) = match held {
                    Some((prefix, claims)) => (*prefix, Some(claims.clone())),
                    None => (edited?, None),
                };
                while let Some((_, list, noted)) = edits.next_if(|(of, ..)| *of == prefix) {
                    claims = match claims {
                        Some(claims) => claims.with(list, noted),
                        None => noted.map(|noted| Claims::new(list, noted)),
                    };
                }
                if let Some(claims) = claims {
                    lengths[usize::from(prefix.length())] += 1;
                    return Some((prefix, claims));
                }
            }
        });
        let claims = merged.collect();
        Self { claims, lengths }
    }

    /// Makes `list` claim just this about a prefix, or nothing, and tells what a table must change.
    pub(crate) fn edit(&mut self, prefix: P, list: ListId, noted: Option<Noted>) -> Plan {
        let Some(scope) = self.scope(prefix) else {
            self.edit_quietly(prefix, list, noted);
            return Plan::rebuild_for([prefix.into()]);
        };
        let before = self.desired(&scope);
        self.edit_quietly(prefix, list, noted);
        let after = self.desired(&scope);
        Plan::of(difference(&scope, &before, &after))
    }

    /// Makes `list` claim just this about a prefix, or nothing.
    pub(crate) fn edit_quietly(&mut self, prefix: P, list: ListId, noted: Option<Noted>) {
        let before = self.claims.get(&prefix);
        let after = match before {
            Some(before) => before.with(list, noted),
            None => noted.map(|noted| Claims::new(list, noted)),
        };
        let length = &mut self.lengths[usize::from(prefix.length())];
        match (before.is_some(), after) {
            (was_listed, Some(after)) => {
                *length += usize::from(!was_listed);
                self.claims.insert(prefix, after);
            }
            (true, None) => {
                *length -= 1;
                self.claims.remove(&prefix);
            }
            (false, None) => {}
        }
    }

    /// Prefixes with claims, each before those that lie in it.
    pub(crate) fn iter(&self) -> impl Iterator<Item = (P, &Claims)> {
        self.claims.iter().map(|(prefix, claims)| (*prefix, claims))
    }

    /// What `list` claims, in order, behind `after` where it is given.
    pub(crate) fn of_list(
        &self,
        list: ListId,
        after: Option<P>,
    ) -> impl Iterator<Item = (P, Noted)> {
        let from = after.map_or(Bound::Unbounded, Bound::Excluded);
        self.claims
            .range((from, Bound::Unbounded))
            .filter_map(move |(prefix, claims)| Some((*prefix, claims.of(list)?)))
    }

    /// How many prefixes have claims.
    pub(crate) fn len(&self) -> usize {
        self.claims.len()
    }

    /// What `list` claims about exactly this prefix.
    pub(crate) fn get(&self, prefix: P, list: ListId) -> Option<Noted> {
        self.claims.get(&prefix)?.of(list)
    }

    /// A prefix with claims and those that lie in it, in order.
    fn within(&self, prefix: P) -> impl Iterator<Item = P> {
        self.claims
            .range(prefix..)
            .map(|(inside, _)| *inside)
            .take_while(move |inside| prefix.covers(*inside))
    }

    /// The prefixes with claims that a prefix lies in, and itself, shortest first.
    fn covers(&self, prefix: P) -> impl Iterator<Item = (P, &Claims)> {
        (0..=prefix.length())
            .filter(|length| self.lengths[usize::from(*length)] > 0)
            .filter_map(move |length| {
                let cover = prefix.resized(length);
                Some((cover, self.claims.get(&cover)?))
            })
    }

    /// What changes with a prefix's claims: itself and all that lies in it. `None` when that is
    /// too much to compare.
    fn scope(&self, prefix: P) -> Option<Scope<P>> {
        let mut slots = HashSet::new();
        let mut blocks = Vec::new();
        if prefix.length() <= FRONT_BITS {
            if 1_usize << (FRONT_BITS - prefix.length()) > MOST_COMPARED {
                return None;
            }
            blocks.extend(prefix.split(FRONT_BITS));
        } else {
            blocks.push(prefix.block());
            slots.extend(prefix.slots());
        }
        for inside in self.within(prefix) {
            if inside.length() > FRONT_BITS {
                slots.extend(inside.slots());
            }
            if slots.len() > MOST_COMPARED {
                return None;
            }
        }
        let slots = slots.into_iter().collect();
        Some(Scope { slots, blocks })
    }

    /// Cells of the scope's slots, then codes and cells of its blocks.
    fn desired(&self, scope: &Scope<P>) -> Desired {
        (
            scope
                .slots
                .iter()
                .map(|slot| self.slot_cell(*slot))
                .collect(),
            scope
                .blocks
                .iter()
                .map(|block| self.block(*block))
                .collect(),
        )
    }

    /// The cell that the slot of a prefix longer than a /24 must hold: there is one where an entry
    /// has this length, or one of those that this length stands for.
    fn slot_cell(&self, slot: P) -> Option<Cell> {
        let held = slot.length();
        let named = (FRONT_BITS + 1..=held)
            .rev()
            .take_while(|length| P::held_length(*length) == held)
            .any(|length| self.claims.contains_key(&slot.resized(length)));
        if named { self.cell(&slot) } else { None }
    }

    /// The code of a /24, and the cell that its own slot must hold.
    fn block(&self, block: P) -> (Code, Option<Cell>) {
        let cover = self.cell(&block);
        let differs = self
            .within(block)
            .any(|inside| inside.length() > FRONT_BITS);
        if differs {
            return (Code::Closer, cover);
        }
        match code_of(cover) {
            Code::Closer => (Code::Closer, cover),
            uniform => (uniform, None),
        }
    }

    /// What all prefixes that cover this one add up to.
    pub(crate) fn cell(&self, prefix: &P) -> Option<Cell> {
        self.covers(*prefix)
            .flat_map(|(_, claims)| claims.iter())
            .fold(Sum::default(), |sum, (_, noted)| sum.add(noted.claim))
            .cell()
    }

    /// Every claim about a prefix that covers this one, shortest first.
    pub(crate) fn covering(&self, prefix: &P) -> Vec<(IpNet, ListId, Noted)> {
        self.covers(*prefix)
            .flat_map(|(cover, claims)| {
                claims
                    .iter()
                    .map(move |(list, noted)| (cover.into(), list, noted))
            })
            .collect()
    }
}

fn difference<P: Family>(
    scope: &Scope<P>,
    (slots_before, blocks_before): &Desired,
    (slots_after, blocks_after): &Desired,
) -> Vec<Change> {
    let mut changes = Vec::new();
    let mut cell = |place: P, before: Option<Cell>, after: Option<Cell>| match after {
        _ if before == after => {}
        Some(cell) => changes.push(Change::Put(place.into(), cell)),
        None => changes.push(Change::Remove(place.into())),
    };
    for ((slot, before), after) in scope.slots.iter().zip(slots_before).zip(slots_after) {
        cell(*slot, *before, *after);
    }
    for ((block, (_, before)), (_, after)) in
        scope.blocks.iter().zip(blocks_before).zip(blocks_after)
    {
        cell(*block, *before, *after);
    }
    for ((block, (before, _)), (after, _)) in
        scope.blocks.iter().zip(blocks_before).zip(blocks_after)
    {
        if before != after {
            changes.push(Change::Code((*block).into(), *after));
        }
    }
    changes
}
