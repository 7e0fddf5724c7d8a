//! The tables against a model too simple to be wrong: a scan of all entries. Compiled in one pass
//! and grown by plans, they agree with it and with each other.

mod model;

use std::collections::HashMap;

use ipnet::{Ipv4Net, Ipv6Net};
use proxy_common::{
    Cell,
    abi::Line,
    table::{Full, differing_codes},
};

use self::model::{Entry, Fate, Numbers, Side, fate, ones, random_entries, scan, truth_of, unit};
use crate::{
    claim::Claim,
    compile::{count_cells, fill},
    family::begin,
    plan::{Change, Plan},
    truth::Truth,
};

/// A table in plain memory.
struct Table(Vec<Line>);

impl Table {
    fn of<P: Side>(truth: &Truth) -> Self {
        let trie = P::prefixes(truth);
        let (buckets, lines) = P::size_for(count_cells(trie)).expect("a size");
        let mut memory = vec![Line([0; 8]); lines as usize];
        let mut lines = memory.as_mut_slice();
        begin(&mut lines, buckets, 0x5eed);
        fill(trie, &mut lines).expect("room for all");
        Self(memory)
    }

    fn apply<P: Side>(&mut self, plan: &Plan, truth: &Truth) {
        let carried_out = plan.changes().iter().try_for_each(|change| {
            let lines = &mut self.0.as_mut_slice();
            match *change {
                Change::Put(slot, cell) => P::of(slot).put(lines, cell)?,
                Change::Code(block, code) => P::of(block).set_code(lines, code),
                Change::Remove(slot) => P::of(slot).remove(lines),
            }
            Ok::<(), Full>(())
        });
        if plan.is_rebuild() || carried_out.is_err() {
            *self = Self::of::<P>(truth);
        }
    }

    fn cells<P: Side>(&mut self) -> HashMap<P, Cell> {
        P::cells(&self.0.as_mut_slice()).collect()
    }
}

/// How often each fate was met.
#[derive(Debug, Default)]
struct Met(HashMap<Fate, usize>);

impl Met {
    #[track_caller]
    fn probe<P: Side>(&mut self, table: &mut Table, entries: &[Entry<P>], address: u128) {
        let address = address & ones::<P>();
        let expected = scan(entries, address);
        let found = fate(P::look_up(&table.0.as_mut_slice(), address));
        assert_eq!(
            found,
            expected,
            "{}",
            P::from_bits(address, P::WIDTH).into()
        );
        *self.0.entry(expected).or_default() += 1;
    }

    /// First and last address of every entry, and those before and after.
    fn probe_edges<P: Side>(&mut self, table: &mut Table, entries: &[Entry<P>]) {
        for Entry { first, last, .. } in entries {
            let (before, after) = (
                first.wrapping_sub(unit::<P>()),
                last.wrapping_add(unit::<P>()),
            );
            for address in [before, *first, *last, after] {
                self.probe(table, entries, address);
            }
        }
    }

    fn probe_at_random<P: Side>(
        &mut self,
        table: &mut Table,
        entries: &[Entry<P>],
        numbers: &mut Numbers,
        probes: usize,
    ) {
        for _ in 0..probes {
            let mut address = numbers.address::<P>();
            // Half of them within an entry.
            if !entries.is_empty() && numbers.below(2) == 0 {
                let entry = &entries[numbers.below(entries.len())];
                address = entry.first | address & (entry.last ^ entry.first);
            }
            self.probe(table, entries, address);
        }
    }

    fn total(&self) -> usize {
        self.0.values().sum()
    }

    /// A fate that was hardly met was hardly tested.
    fn assert_all_met(&self) {
        for fate in [
            Fate::Trusted,
            Fate::Blocked,
            Fate::Banned,
            Fate::Watched,
            Fate::Unlisted,
        ] {
            let times = self.0.get(&fate).copied().unwrap_or_default();
            assert!(
                times * 100 > self.total(),
                "{fate:?} was met too rarely: {self:?}"
            );
        }
    }
}

/// A million probes of tables that were compiled in one pass.
fn compiled_agrees<P: Side>() {
    let mut numbers = Numbers(u64::from(P::WIDTH));
    let mut met = Met::default();
    for (rounds, count, probes) in [(50, 150, 20_000), (3, 3_000, 5_000)] {
        for _ in 0..rounds {
            let entries = random_entries::<P>(&mut numbers, count);
            let mut table = Table::of::<P>(&truth_of(&entries));
            met.probe_edges(&mut table, &entries);
            met.probe_at_random(&mut table, &entries, &mut numbers, probes);
        }
    }
    assert!(met.total() > 1_000_000);
    met.assert_all_met();
}

#[test]
fn a_table_of_ipv4_compiled_in_one_pass_says_what_a_scan_of_the_lists_says() {
    compiled_agrees::<Ipv4Net>();
}

#[test]
fn a_table_of_ipv6_compiled_in_one_pass_says_what_a_scan_of_the_lists_says() {
    compiled_agrees::<Ipv6Net>();
}

/// Additions, replacements and removals in random order, probed on the way.
fn planned_agrees<P: Side>() {
    let mut numbers = Numbers(u64::from(P::WIDTH) + 1);
    let mut met = Met::default();
    for _ in 0..6 {
        let mut truth = Truth::default();
        let mut table = Table::of::<P>(&truth);
        let mut entries: Vec<Entry<P>> = Vec::new();
        for change in 0..600 {
            let known = entries.len();
            let plan = if known > 0 && numbers.below(5) < 2 {
                let entry = entries.swap_remove(numbers.below(known));
                truth.remove(entry.prefix.into(), entry.list)
            } else {
                let prefix = numbers.prefix(&entries);
                let entry = Entry::new(prefix, numbers.claim(prefix));
                entries.retain(|known| !known.is(&entry));
                entries.push(entry.clone());
                truth.replace(entry.prefix.into(), entry.list, entry.claim)
            };
            table.apply::<P>(&plan, &truth);
            if change % 50 == 0 {
                met.probe_edges(&mut table, &entries);
            }
            met.probe_at_random(&mut table, &entries, &mut numbers, 30);
        }
        met.probe_edges(&mut table, &entries);
        assert_same::<P>(&mut table, &mut Table::of::<P>(&truth));
        // And all of it away again, as one plan.
        let mut plans = Vec::new();
        while !entries.is_empty() {
            let entry = entries.swap_remove(numbers.below(entries.len()));
            plans.push(truth.remove(entry.prefix.into(), entry.list));
        }
        table.apply::<P>(&Plan::all(plans), &truth);
        assert_same::<P>(&mut table, &mut Table::of::<P>(&Truth::default()));
    }
    assert!(met.total() > 100_000);
    met.assert_all_met();
}

#[track_caller]
fn assert_same<P: Side>(grown: &mut Table, compiled: &mut Table) {
    assert!(grown.cells::<P>() == compiled.cells::<P>());
    let grown = grown.0.as_mut_slice();
    assert_eq!(differing_codes(&grown, &compiled.0.as_mut_slice()), 0);
}

#[test]
fn a_table_of_ipv4_grown_by_plans_is_the_compiled_one_and_says_what_a_scan_says() {
    planned_agrees::<Ipv4Net>();
}

#[test]
fn a_table_of_ipv6_grown_by_plans_is_the_compiled_one_and_says_what_a_scan_says() {
    planned_agrees::<Ipv6Net>();
}

/// Everything on one list, and holes in it.
fn full_range_agrees<P: Side>() {
    let mut numbers = Numbers(9);
    let mut met = Met::default();
    for whole in [(1, Claim::BLOCKED), (0, Claim::Trusted)] {
        let mut entries = random_entries::<P>(&mut numbers, 200);
        entries.push(Entry::new(P::from_bits(0, 0), whole));
        let mut table = Table::of::<P>(&truth_of(&entries));
        met.probe_edges(&mut table, &entries);
        met.probe_at_random(&mut table, &entries, &mut numbers, 5_000);
    }
    assert!(met.0.len() == 2, "{met:?}");
}

#[test]
fn a_list_of_every_address_leaves_none_out() {
    full_range_agrees::<Ipv4Net>();
    full_range_agrees::<Ipv6Net>();
}
