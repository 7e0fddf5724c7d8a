//! The kernel's tables: made whole and swapped in, or changed word by word.

use std::collections::HashMap;

use aya::maps::{ArrayOfMaps, Map, MapData};
use ipnet::{IpNet, Ipv4Net, Ipv6Net};
use proxy_common::{
    Cell,
    table::{Full, differing_codes},
};

use crate::{
    error::{DatapathError, While as _},
    family::Family,
    generations::{Generations, make},
    mapping::{MappedArray, Template},
    plan::{Change, Families, Plan},
    prefixes::Prefixes,
    truth::Truth,
};

/// The map `LISTS` and the two tables in it.
pub struct Tables {
    lists: ArrayOfMaps<MapData, MapData>,
    template: Template,
    v4: Generations,
    v6: Generations,
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
        let v4 = make(&template, truth.v4(), &mut None)?;
        let v6 = make(&template, truth.v6(), &mut None)?;
        put_in_force::<Ipv4Net>(&mut lists, &v4)?;
        put_in_force::<Ipv6Net>(&mut lists, &v6)?;
        Ok(Self {
            lists,
            template,
            v4: Generations::of(v4),
            v6: Generations::of(v6),
            unsettled: false,
            in_doubt: false,
        })
    }

    /// Makes both tables anew from the truth and swaps them in: each packet is judged by the whole
    /// old table or the whole new one. The old ones stay, to be written over by the next load that
    /// needs as much room.
    ///
    /// # Errors
    /// [`DatapathError::Kernel`] when a table can't be made or swapped in,
    /// [`DatapathError::ListsTooLarge`]. What is in force is then whole, but may be the old; the
    /// next change makes both anew.
    pub fn load(&mut self, truth: &Truth) -> Result<(), DatapathError> {
        self.make_anew(Families::BOTH, truth)
    }

    fn make_anew(&mut self, families: Families, truth: &Truth) -> Result<(), DatapathError> {
        self.in_doubt = true;
        let template = &self.template;
        let v4 = families.v4.then(|| self.v4.next(template, truth.v4()));
        let v6 = families.v6.then(|| self.v6.next(template, truth.v6()));
        let (v4, v6) = (v4.transpose()?, v6.transpose()?);
        // The kernel waits for the last packet that is judged by the old table (`maybe_wait_bpf_
        // programs`, kernel/bpf/syscall.c), so that may be written to, or go, when it is retired.
        if let Some(v4) = v4 {
            put_in_force::<Ipv4Net>(&mut self.lists, &v4)?;
            self.v4.retire_for(v4);
        }
        if let Some(v6) = v6 {
            put_in_force::<Ipv6Net>(&mut self.lists, &v6)?;
            self.v6.retire_for(v6);
        }
        self.unsettled = false;
        self.in_doubt = false;
        Ok(())
    }

    /// Carries out a plan that came of a change to `truth`.
    ///
    /// # Errors
    /// As [`Self::load`], which is what a plan comes to whose cells don't fit any more.
    pub fn apply(&mut self, plan: &Plan, truth: &Truth) -> Result<(), DatapathError> {
        if self.in_doubt {
            return self.load(truth);
        }
        if plan.is_rebuild() {
            return self.make_anew(plan.to_rebuild(), truth);
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
            IpNet::V4(slot) => slot.cell(self.v4.in_force()),
            IpNet::V6(slot) => slot.cell(self.v6.in_force()),
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
        put_in_force::<Ipv4Net>(&mut self.lists, self.v4.in_force())
    }

    /// Memory of both tables, and of those that were in force before.
    pub fn bytes(&self) -> u64 {
        self.v4.bytes() + self.v6.bytes()
    }

    /// How many cells and codes in force aren't those that the truth comes to, or are but can't be
    /// found: 0 unless something else wrote to the tables.
    ///
    /// # Errors
    /// As [`Self::load`].
    pub fn differences(&self, truth: &Truth) -> Result<usize, DatapathError> {
        Ok(differences(self.v4.in_force(), &self.template, truth.v4())?
            + differences(self.v6.in_force(), &self.template, truth.v6())?)
    }

    fn write(&mut self, change: Change) -> Result<(), Full> {
        match change {
            Change::Put(IpNet::V4(slot), cell) => slot.put(self.v4.in_force_mut(), cell)?,
            Change::Put(IpNet::V6(slot), cell) => slot.put(self.v6.in_force_mut(), cell)?,
            Change::Code(IpNet::V4(block), code) => block.set_code(self.v4.in_force_mut(), code),
            Change::Code(IpNet::V6(block), code) => block.set_code(self.v6.in_force_mut(), code),
            Change::Remove(IpNet::V4(slot)) => slot.remove(self.v4.in_force_mut()),
            Change::Remove(IpNet::V6(slot)) => slot.remove(self.v6.in_force_mut()),
        }
        Ok(())
    }
}

fn differences<P: Family>(
    found: &MappedArray,
    template: &Template,
    prefixes: &Prefixes<P>,
) -> Result<usize, DatapathError> {
    let wanted = &make(template, prefixes, &mut None)?;
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
