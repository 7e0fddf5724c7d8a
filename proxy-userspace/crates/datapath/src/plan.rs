//! What has to be written to the kernel's tables after a change of the lists.

use std::collections::HashSet;

use ipnet::IpNet;
use proxy_common::{Cell, table::Code};

use crate::truth::canonical;

/// One write to a table.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Change {
    /// Set the cell in the slot of a prefix of a held length.
    Put(IpNet, Cell),
    /// Set the code of a /24 in the front.
    Code(IpNet, Code),
    /// Empty the slot of a prefix.
    Remove(IpNet),
}

/// Address families, of which each has a table.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Families {
    pub(crate) v4: bool,
    pub(crate) v6: bool,
}

impl Families {
    pub(crate) const BOTH: Self = Self { v4: true, v6: true };

    fn or(self, other: Self) -> Self {
        Self {
            v4: self.v4 || other.v4,
            v6: self.v6 || other.v6,
        }
    }
}

impl From<IpNet> for Families {
    fn from(prefix: IpNet) -> Self {
        match canonical(prefix) {
            IpNet::V4(_) => Self {
                v4: true,
                v6: false,
            },
            IpNet::V6(_) => Self {
                v4: false,
                v6: true,
            },
        }
    }
}

/// The writes that make the kernel agree with the truth.
#[must_use = "the kernel's tables disagree with the lists until the plan is carried out"]
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Plan {
    rebuild: Families,
    changes: Vec<Change>,
}

impl Plan {
    /// Nothing to do.
    pub fn none() -> Self {
        Self::default()
    }

    /// Both whole tables, made anew.
    pub fn rebuild() -> Self {
        Self {
            rebuild: Families::BOTH,
            changes: Vec::new(),
        }
    }

    /// The whole tables of these prefixes' families, made anew.
    pub fn rebuild_for(prefixes: impl IntoIterator<Item = IpNet>) -> Self {
        let families = prefixes.into_iter().map(Families::from);
        Self {
            rebuild: families.fold(Families::default(), Families::or),
            changes: Vec::new(),
        }
    }

    /// These changes, in an order that lets nobody through who is blocked before and after: cells
    /// first, then the codes that lead to them, then what nothing leads to any more.
    pub(crate) fn of(mut changes: Vec<Change>) -> Self {
        changes.sort_by_key(rank);
        Self {
            rebuild: Families::default(),
            changes,
        }
    }

    /// Several plans, made one after the other, as one: of two writes to a place only the last
    /// counts, because the first might let somebody through in between.
    pub fn all(plans: Vec<Self>) -> Self {
        if plans.iter().any(Self::is_rebuild) {
            let changed = plans.iter().flat_map(|plan| &plan.changes).map(prefix);
            let whole = plans.iter().map(|plan| plan.rebuild);
            return Self {
                rebuild: whole.fold(Self::rebuild_for(changed).rebuild, Families::or),
                changes: Vec::new(),
            };
        }
        let mut changes: Vec<Change> = plans.into_iter().flat_map(|plan| plan.changes).collect();
        let mut seen = HashSet::new();
        changes.reverse();
        changes.retain(|change| seen.insert(place(change)));
        Self::of(changes)
    }

    /// Whether tables have to be made anew.
    pub fn is_rebuild(&self) -> bool {
        self.rebuild != Families::default()
    }

    /// Which.
    pub(crate) fn to_rebuild(&self) -> Families {
        self.rebuild
    }

    /// The writes, in their order; none where tables are to be made anew.
    pub fn changes(&self) -> &[Change] {
        &self.changes
    }

    /// Whether there is nothing to do.
    pub fn is_empty(&self) -> bool {
        !self.is_rebuild() && self.changes.is_empty()
    }
}

fn prefix(change: &Change) -> IpNet {
    match change {
        Change::Put(prefix, _) | Change::Remove(prefix) | Change::Code(prefix, _) => *prefix,
    }
}

/// A slot, or a place in the front.
fn place(change: &Change) -> (bool, IpNet) {
    (matches!(change, Change::Code(..)), prefix(change))
}

fn rank(change: &Change) -> u8 {
    match change {
        Change::Put(..) => 0,
        Change::Code(..) => 1,
        Change::Remove(..) => 2,
    }
}
