//! What has to be written to the kernel's tables after a change of the lists.

use std::collections::HashSet;

use ipnet::IpNet;
use proxy_common::{Cell, table::Code};

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

/// The writes that make the kernel agree with the truth.
#[must_use = "the kernel's tables disagree with the lists until the plan is carried out"]
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Plan {
    rebuild: bool,
    changes: Vec<Change>,
}

impl Plan {
    /// Nothing to do.
    pub fn none() -> Self {
        Self::default()
    }

    /// The whole tables, made anew.
    pub fn rebuild() -> Self {
        Self {
            rebuild: true,
            changes: Vec::new(),
        }
    }

    /// These changes, in an order that lets nobody through who is blocked before and after: cells
    /// first, then the codes that lead to them, then what nothing leads to any more.
    pub(crate) fn of(mut changes: Vec<Change>) -> Self {
        changes.sort_by_key(rank);
        Self {
            rebuild: false,
            changes,
        }
    }

    /// Several plans, made one after the other, as one: of two writes to a place only the last
    /// counts, because the first might let somebody through in between.
    pub fn all(plans: Vec<Self>) -> Self {
        if plans.iter().any(Self::is_rebuild) {
            return Self::rebuild();
        }
        let mut changes: Vec<Change> = plans.into_iter().flat_map(|plan| plan.changes).collect();
        let mut seen = HashSet::new();
        changes.reverse();
        changes.retain(|change| seen.insert(place(change)));
        Self::of(changes)
    }

    /// Whether the tables have to be made anew.
    pub fn is_rebuild(&self) -> bool {
        self.rebuild
    }

    /// The writes, in their order; none where the tables are to be made anew.
    pub fn changes(&self) -> &[Change] {
        &self.changes
    }

    /// Whether there is nothing to do.
    pub fn is_empty(&self) -> bool {
        !self.rebuild && self.changes.is_empty()
    }
}

/// A slot, or a place in the front.
fn place(change: &Change) -> (bool, IpNet) {
    match change {
        Change::Put(prefix, _) | Change::Remove(prefix) => (false, *prefix),
        Change::Code(block, _) => (true, *block),
    }
}

fn rank(change: &Change) -> u8 {
    match change {
        Change::Put(..) => 0,
        Change::Code(..) => 1,
        Change::Remove(..) => 2,
    }
}
