//! The tables of one family: the one in force, and the one before it, which the next is written over.
//!
//! To make a table of a million entries the kernel clears 70 MiB and maps them one page at a time, in
//! calls of 15 ms, up to 300 where its memory is fresh, in which a kernel that doesn't preempt itself
//! (`CONFIG_PREEMPT_NONE`) gives its core to nobody. Writing over a table that is there happens in this
//! process, which gives way at once.

use std::{
    collections::hash_map::RandomState,
    hash::{BuildHasher as _, Hasher as _},
};

use crate::{
    compile::{count_cells, fill},
    error::{DatapathError, While as _},
    family::{Family, begin},
    mapping::{MappedArray, Template},
    prefixes::Prefixes,
};

/// Seeds that are tried before a table is doubled. Of the largest tables one in 200 needs a second;
/// see `buckets_for`.
const SEEDS: u32 = 3;

/// A table in force and the one before it.
pub(crate) struct Generations {
    in_force: MappedArray,
    /// No packet is judged by it. It is as large as the one in force, or not kept.
    retired: Option<MappedArray>,
}

impl Generations {
    /// With a first table.
    pub(crate) fn of(in_force: MappedArray) -> Self {
        Self {
            in_force,
            retired: None,
        }
    }

    pub(crate) fn in_force(&self) -> &MappedArray {
        &self.in_force
    }

    pub(crate) fn in_force_mut(&mut self) -> &mut MappedArray {
        &mut self.in_force
    }

    /// A table for these prefixes, not yet in force: the retired one where its size is right.
    ///
    /// # Errors
    /// As [`make`].
    pub(crate) fn next<P: Family>(
        &mut self,
        template: &Template,
        prefixes: &Prefixes<P>,
    ) -> Result<MappedArray, DatapathError> {
        make(template, prefixes, &mut self.retired)
    }

    /// Notes that another is in force now, and that the last packet has been judged by this one.
    pub(crate) fn retire_for(&mut self, next: MappedArray) {
        let old = std::mem::replace(&mut self.in_force, next);
        self.retired = (old.lines() == self.in_force.lines()).then_some(old);
    }

    /// Memory of both.
    pub(crate) fn bytes(&self) -> u64 {
        self.in_force.bytes() + self.retired.as_ref().map_or(0, MappedArray::bytes)
    }
}

/// A table for these prefixes, not yet in force. Written over the given one where its size is right;
/// else that goes first, so that there are never more than two.
///
/// # Errors
/// [`DatapathError::Kernel`] when the kernel has no memory for it, [`DatapathError::ListsTooLarge`].
pub(crate) fn make<P: Family>(
    template: &Template,
    prefixes: &Prefixes<P>,
    used: &mut Option<MappedArray>,
) -> Result<MappedArray, DatapathError> {
    let mut cells = count_cells(prefixes);
    loop {
        let (buckets, lines) = P::size_for(cells).ok_or(DatapathError::ListsTooLarge { cells })?;
        let mut table = match used.take().filter(|table| table.lines() == lines) {
            Some(mut used) => {
                used.clear();
                used
            }
            None => MappedArray::create(template, lines).while_trying_to("make a list table")?,
        };
        for _ in 0..SEEDS {
            begin(&mut table, buckets, fresh_seed());
            if fill(prefixes, &mut table).is_ok() {
                return Ok(table);
            }
            table.clear();
        }
        cells = cells.max(1) * 2;
    }
}

/// A word nobody can guess, from the keys that std draws for its hash maps.
fn fresh_seed() -> u64 {
    RandomState::new().build_hasher().finish()
}
