//! The kernel's tables: made whole and swapped in, or changed word by word.

use std::{
    collections::{HashMap, hash_map::RandomState},
    hash::{BuildHasher as _, Hasher as _},
};

use aya::maps::{ArrayOfMaps, Map, MapData};
use ipnet::{IpNet, Ipv4Net, Ipv6Net};
use proxy_common::{
    Cell,
    table::{Full, differing_codes},
};

use crate::{
    compile::{count_cells, fill},
    error::{DatapathError, While as _},
    family::{Family, begin},
    mapping::{MappedArray, Template},
    plan::{Change, Plan},
    prefixes::Prefixes,
    truth::Truth,
};

/// Seeds that are tried before a table is doubled. Of the largest tables one in 200 needs a second;
/// see `buckets_for`.
const SEEDS: u32 = 3;

/// The map `LISTS` and the two tables in it.
pub struct Tables {
    lists: ArrayOfMaps<MapData, MapData>,
    template: Template,
    v4: MappedArray,
    v6: MappedArray,
    /// Something was written since the kernel last waited for its packets.
    unsettled: bool,
    /// A change was refused half-way: the tables may not say what the truth does.
    in_doubt: bool,
}

impl Tables {
    /// Makes tables for the truth and puts them in force.
    pub(crate) fn new(
        lists: Map,
        template: Template,
        truth: &Truth,
    ) -> Result<Self, DatapathError> {
        let mut lists: ArrayOfMaps<MapData, MapData> =
            lists.try_into().while_trying_to("open the list tables")?;
        let (v4, v6) = (make(&template, truth.v4())?, make(&template, truth.v6())?);
        put_in_force::<Ipv4Net>(&mut lists, &v4)?;
        put_in_force::<Ipv6Net>(&mut lists, &v6)?;
        Ok(Self {
            lists,
            template,
            v4,
            v6,
            unsettled: false,
            in_doubt: false,
        })
    }

    /// Makes both tables anew from the truth and swaps them in: each packet is judged by the whole
    /// old table or the whole new one. Memory for both is held until the swap.
    ///
    /// # Errors
    /// [`DatapathError::Kernel`] when a table can't be made or swapped in,
    /// [`DatapathError::ListsTooLarge`]. What is in force is then whole, but may be the old; the
    /// next change makes both anew.
    pub fn load(&mut self, truth: &Truth) -> Result<(), DatapathError> {
        self.in_doubt = true;
        let (v4, v6) = (
            make(&self.template, truth.v4())?,
            make(&self.template, truth.v6())?,
        );
        // The kernel waits for the last packet that is judged by the old table (`maybe_wait_bpf_
        // programs`, kernel/bpf/syscall.c), so its memory may go when `self.v4` is replaced.
        put_in_force::<Ipv4Net>(&mut self.lists, &v4)?;
        self.v4 = v4;
        put_in_force::<Ipv6Net>(&mut self.lists, &v6)?;
        self.v6 = v6;
        self.unsettled = false;
        self.in_doubt = false;
        Ok(())
    }

    /// Carries out a plan that came of a change to `truth`.
    ///
    /// # Errors
    /// As [`Self::load`], which is what a plan comes to whose cells don't fit any more.
    pub fn apply(&mut self, plan: &Plan, truth: &Truth) -> Result<(), DatapathError> {
        if plan.is_rebuild() || self.in_doubt {
            return self.load(truth);
        }
        let (taking, giving): (Vec<Change>, Vec<Change>) =
            plan.changes().iter().partition(|change| self.takes(change));
        for change in giving {
            self.unsettled = true;
            if self.write(change).is_err() {
                return self.load(truth);
            }
        }
        // A packet that looks the tables up now may have passed by what was just added, or by what
        // the changes before added: it must be done before the other answer goes.
        if !taking.is_empty() && self.unsettled {
            self.in_doubt = true;
            self.await_packets()?;
            self.in_doubt = false;
            self.unsettled = false;
        }
        for change in taking {
            self.unsettled |= !matches!(change, Change::Remove(_));
            if self.write(change).is_err() {
                return self.load(truth);
            }
        }
        Ok(())
    }

    /// Whether a change takes something away: a cell, or what a cell says.
    fn takes(&self, change: &Change) -> bool {
        let (prefix, after) = match change {
            Change::Code(..) => return false,
            Change::Remove(_) => return true,
            Change::Put(prefix, after) => (prefix, after),
        };
        let before = match prefix {
            IpNet::V4(slot) => slot.cell(&self.v4),
            IpNet::V6(slot) => slot.cell(&self.v6),
        };
        before.is_some_and(|before| {
            let ends_sooner = match (before.until_ns, after.until_ns) {
                (_, 0) => false,
                (0, _) => true,
                (before, after) => after < before,
            };
            before.flags & !after.flags != 0 || after.flags & Cell::TRUSTED != 0 || ends_sooner
        })
    }

    /// Returns when every packet that was under judgement has its verdict. A write to a map of maps
    /// waits for a grace period of RCU, under which XDP programs run (`maybe_wait_bpf_programs`,
    /// kernel/bpf/syscall.c), also when it writes what is there.
    fn await_packets(&mut self) -> Result<(), DatapathError> {
        put_in_force::<Ipv4Net>(&mut self.lists, &self.v4)
    }

    /// Memory of both tables.
    pub fn bytes(&self) -> u64 {
        self.v4.bytes() + self.v6.bytes()
    }

    /// How many cells and codes in force aren't those that the truth comes to, or are but can't be
    /// found: 0 unless something else wrote to the tables.
    ///
    /// # Errors
    /// As [`Self::load`].
    pub fn differences(&self, truth: &Truth) -> Result<usize, DatapathError> {
        Ok(differences(&self.v4, &self.template, truth.v4())?
            + differences(&self.v6, &self.template, truth.v6())?)
    }

    fn write(&mut self, change: Change) -> Result<(), Full> {
        match change {
            Change::Put(IpNet::V4(slot), cell) => slot.put(&mut self.v4, cell)?,
            Change::Put(IpNet::V6(slot), cell) => slot.put(&mut self.v6, cell)?,
            Change::Code(IpNet::V4(block), code) => block.set_code(&mut self.v4, code),
            Change::Code(IpNet::V6(block), code) => block.set_code(&mut self.v6, code),
            Change::Remove(IpNet::V4(slot)) => slot.remove(&mut self.v4),
            Change::Remove(IpNet::V6(slot)) => slot.remove(&mut self.v6),
        }
        Ok(())
    }
}

/// A table of one family, not yet in force.
fn make<P: Family>(
    template: &Template,
    prefixes: &Prefixes<P>,
) -> Result<MappedArray, DatapathError> {
    let mut cells = count_cells(prefixes);
    loop {
        let (buckets, lines) = P::size_for(cells).ok_or(DatapathError::ListsTooLarge { cells })?;
        for _ in 0..SEEDS {
            let mut table =
                MappedArray::create(template, lines).while_trying_to("make a list table")?;
            begin(&mut table, buckets, fresh_seed());
            if fill(prefixes, &mut table).is_ok() {
                return Ok(table);
            }
        }
        cells = cells.max(1) * 2;
    }
}

fn differences<P: Family>(
    found: &MappedArray,
    template: &Template,
    prefixes: &Prefixes<P>,
) -> Result<usize, DatapathError> {
    let wanted = &make(template, prefixes)?;
    let mut cells: HashMap<P, Cell> = P::cells(wanted).collect();
    let superfluous = P::cells(found)
        .filter(|(prefix, cell)| cells.remove(prefix).as_ref() != Some(cell))
        .count();
    let wrong = superfluous + cells.len() + differing_codes(found, wanted);
    if wrong > 0 {
        return Ok(wrong);
    }
    // All is there; whether the filter and the header lead to it is seen by asking.
    let lost = |prefix: &P| P::look_up(found, prefix.bits()) != P::look_up(wanted, prefix.bits());
    let listed = prefixes.iter().map(|(prefix, _)| prefix);
    let held = P::cells(wanted).map(|(prefix, _)| prefix);
    Ok(listed.chain(held).filter(lost).count())
}

fn put_in_force<P: Family>(
    lists: &mut ArrayOfMaps<MapData, MapData>,
    table: &MappedArray,
) -> Result<(), DatapathError> {
    lists
        .set(P::PLACE, table.map(), 0)
        .while_trying_to("put a list table in force")
}

/// A word nobody can guess, from the keys that std draws for its hash maps.
fn fresh_seed() -> u64 {
    RandomState::new().build_hasher().finish()
}
