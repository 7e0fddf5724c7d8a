//! A reader on one CPU while a writer on another changes the slot that it looks at.

use std::cell::RefCell;

use super::{Numbers, table};
use crate::{
    abi::Line,
    cell::{Cell, Listing},
    table::{Lines, LinesMut, v4, v6},
};

/// Makes stores and remembers them.
pub(super) struct Recorder<'a> {
    pub(super) memory: &'a mut [Line],
    pub(super) stores: Vec<(u32, usize, u64)>,
}

impl<'a> Recorder<'a> {
    pub(super) fn new(memory: &'a mut [Line]) -> Self {
        Self {
            memory,
            stores: Vec::new(),
        }
    }
}

impl Lines for Recorder<'_> {
    type Line = u32;

    fn line(&self, index: u32) -> Option<u32> {
        ((index as usize) < self.memory.len()).then_some(index)
    }

    fn word(&self, line: u32, index: usize) -> u64 {
        self.memory[line as usize].0[index]
    }
}

impl LinesMut for Recorder<'_> {
    fn store(&mut self, line: u32, index: usize, word: u64) {
        self.memory[line as usize].0[index] = word;
        self.stores.push((line, index, word));
    }
}

/// Memory of which some words change while it is being read: before load number `at`, as often as
/// `at` is named, the next store is made.
pub(super) struct Changing {
    pub(super) before: Vec<Line>,
    pub(super) stores: Vec<(u32, usize, u64)>,
    pub(super) at: Vec<usize>,
    pub(super) state: RefCell<State>,
}

#[derive(Default)]
pub(super) struct State {
    loads: usize,
    made: usize,
}

impl Lines for Changing {
    type Line = u32;

    fn line(&self, index: u32) -> Option<u32> {
        ((index as usize) < self.before.len()).then_some(index)
    }

    fn word(&self, line: u32, index: usize) -> u64 {
        let mut state = self.state.borrow_mut();
        while self.at.get(state.made).is_some_and(|at| *at <= state.loads) {
            state.made += 1;
        }
        state.loads += 1;
        self.stores[..state.made]
            .iter()
            .rev()
            .find(|(at, place, _)| (*at, *place) == (line, index))
            .map_or(self.before[line as usize].0[index], |(.., word)| *word)
    }
}

const NOW_NS: u64 = 200;

/// Cells as lists leave them; bans have ended or run, those about to be put run.
fn cells(ended: bool) -> Vec<Option<Cell>> {
    let both = |until_ns| Cell {
        flags: Cell::ENFORCED | Cell::MONITORED,
        until_ns,
    };
    let mut cells = vec![
        None,
        Some(Cell::trusted()),
        Some(Cell::blocked(0)),
        Some(Cell::blocked(300)),
        Some(both(300)),
        Some(Cell::monitored(0)),
        Some(Cell::monitored(300)),
    ];
    if ended {
        cells.extend([
            Some(Cell::blocked(100)),
            Some(both(100)),
            Some(Cell::monitored(100)),
        ]);
    }
    cells
}

pub(super) fn drops(cell: Cell) -> bool {
    matches!(cell.listing(|| NOW_NS), Listing::Blocked | Listing::Banned)
}

/// A family's ways to write and to read one prefix.
struct Slot {
    lines: u32,
    write: fn(&mut Recorder<'_>, Option<Cell>),
    read: fn(&Changing) -> Cell,
    neighbour: fn(&mut Recorder<'_>),
}

const V4: Slot = Slot {
    lines: v4::BUCKETS + 1,
    write: |lines, cell| match cell {
        Some(cell) => v4::put(lines, 0x0102_0304, 32, cell).expect("room"),
        None => v4::remove(lines, 0x0102_0304, 32),
    },
    read: |lines| v4::look_into_slots(lines, 0x0102_0304).unwrap_or_default(),
    neighbour: |lines| v4::put(lines, 0x0102_0305, 32, Cell::blocked(0)).expect("room"),
};

const V6: Slot = Slot {
    lines: v6::BUCKETS + 2,
    write: |lines, cell| match cell {
        Some(cell) => v6::put(lines, (1, 2), 128, cell).expect("room"),
        None => v6::remove(lines, (1, 2), 128),
    },
    read: |lines| v6::look_into_slots(lines, 1, 2).unwrap_or_default(),
    neighbour: |lines| v6::put(lines, (1, 3), 128, Cell::blocked(0)).expect("room"),
};

/// Nobody is dropped whom neither the old nor the new cell drops, and nobody passes whom both
/// drop, wherever between two loads of the reader each store of the writer falls.
fn check(slot: &Slot) {
    let mut numbers = Numbers(3);
    let mut read = 0;
    for old in cells(true) {
        for new in cells(false) {
            let mut memory = table(slot.lines, 1, 7);
            let mut recorder = Recorder::new(&mut memory);
            (slot.write)(&mut recorder, old);
            let before = recorder.memory.to_vec();
            recorder.stores.clear();
            (slot.write)(&mut recorder, new);
            // A slot that was left may be another's at once.
            if new.is_none() {
                (slot.neighbour)(&mut recorder);
            }
            let mut lines = Changing {
                before,
                stores: recorder.stores,
                at: Vec::new(),
                state: RefCell::default(),
            };
            let meant = [old, new].map(|cell| drops(cell.unwrap_or(Cell::UNLISTED)));
            for _ in 0..2_000 {
                lines.at = lines
                    .stores
                    .iter()
                    .map(|_| (numbers.next() % 40) as usize)
                    .collect();
                lines.at.sort_unstable();
                lines.state.take();
                let found = (slot.read)(&lines);
                let told = format!(
                    "{old:?} to {new:?}, stores before loads {:?}: {found:?}",
                    lines.at
                );
                assert!(meant.contains(&drops(found)), "{told}");
                read += 1;
            }
        }
    }
    assert!(read > 100_000);
}

#[test]
fn no_verdict_that_neither_cell_means_while_a_slot_of_ipv4_changes() {
    check(&V4);
}

#[test]
fn no_verdict_that_neither_cell_means_while_a_slot_of_ipv6_changes() {
    check(&V6);
}
