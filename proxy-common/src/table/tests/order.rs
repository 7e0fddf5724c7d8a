//! A reader who looks a source up from the filter on, while a whole change is written.

use std::cell::RefCell;

use super::{
    Numbers, table,
    torn::{Changing, Recorder, drops},
};
use crate::{
    cell::Cell,
    table::{Code, v4, v6},
};

/// No reader finds another fate than the one before and after the change, wherever between two of
/// his loads each store of the writer falls.
fn assert_steady(
    lines: u32,
    before: impl Fn(&mut Recorder<'_>),
    change: impl Fn(&mut Recorder<'_>),
    look_up: impl Fn(&Changing) -> Cell,
    dropped: bool,
) {
    let mut memory = table(lines, 1, 7);
    let mut recorder = Recorder::new(&mut memory);
    before(&mut recorder);
    let memory = recorder.memory.to_vec();
    recorder.stores.clear();
    change(&mut recorder);
    let mut reader = Changing {
        before: memory,
        stores: recorder.stores,
        at: Vec::new(),
        state: RefCell::default(),
    };
    let mut numbers = Numbers(3);
    for round in 0..100_000 {
        // First none and all of them, then a burst of stores somewhere.
        let (first, span) = match round {
            0 => (u64::MAX >> 1, 1),
            1 => (0, 1),
            _ => (numbers.next() % 40, 1 + numbers.next() % 8),
        };
        reader.at = reader
            .stores
            .iter()
            .map(|_| (first + numbers.next() % span) as usize)
            .collect();
        reader.at.sort_unstable();
        reader.state.take();
        let found = look_up(&reader);
        assert_eq!(
            drops(found),
            dropped,
            "{found:?}, stores before loads {:?}",
            reader.at
        );
    }
}

const HOST: u32 = 0x0102_0304;
const BLOCK: u32 = HOST >> 8;

fn read_v4(lines: &Changing) -> Cell {
    v4::look_up(lines, HOST)
}

#[test]
fn a_block_of_ipv4_whose_answer_moves_into_slots_keeps_it() {
    for (code, cell, dropped) in [
        (Code::Blocked, Cell::blocked(0), true),
        (Code::Trusted, Cell::trusted(), false),
    ] {
        assert_steady(
            v4::BUCKETS + 1,
            |lines| v4::set_code(lines, BLOCK, code),
            |lines| {
                let other = Cell::blocked(300);
                v4::put(lines, HOST + 1, 32, other).expect("room");
                v4::put(lines, HOST & !0xff, 24, cell).expect("room");
                v4::set_code(lines, BLOCK, Code::Closer);
            },
            read_v4,
            dropped,
        );
    }
}

#[test]
fn a_slot_of_ipv4_that_becomes_anothers_tells_nobody_its_end() {
    assert_steady(
        v4::BUCKETS + 1,
        |lines| {
            v4::put(lines, HOST + 1, 32, Cell::blocked(100)).expect("room");
            v4::put(lines, HOST, 32, Cell::blocked(100)).expect("room");
            v4::remove(lines, HOST, 32);
            v4::put(lines, HOST & !0xff, 24, Cell::blocked(0)).expect("room");
            v4::set_code(lines, BLOCK, Code::Closer);
        },
        |lines| {
            v4::remove(lines, HOST + 1, 32);
            v4::put(lines, HOST, 32, Cell::blocked(300)).expect("room");
        },
        read_v4,
        true,
    );
}

const HIGH: u64 = 0x2001_0db8_0001_0000;
const BLOCK_V6: u32 = (HIGH >> 40) as u32;

fn read_v6(lines: &Changing) -> Cell {
    v6::look_up(lines, HIGH, 5)
}

/// Also when no cell was as short as a /24 before.
#[test]
fn a_block_of_ipv6_whose_answer_moves_into_slots_keeps_it() {
    for (code, cell, dropped) in [
        (Code::Blocked, Cell::blocked(0), true),
        (Code::Trusted, Cell::trusted(), false),
    ] {
        assert_steady(
            v6::BUCKETS + 2,
            |lines| v6::set_code(lines, BLOCK_V6, code),
            |lines| {
                let elsewhere = (HIGH + (1 << 32), 0);
                v6::put(lines, elsewhere, 48, Cell::blocked(300)).expect("room");
                v6::put(lines, (HIGH, 0), 24, cell).expect("room");
                v6::set_code(lines, BLOCK_V6, Code::Closer);
            },
            read_v6,
            dropped,
        );
    }
}

#[test]
fn a_slot_of_ipv6_that_becomes_anothers_tells_nobody_its_flags() {
    assert_steady(
        v6::BUCKETS + 2,
        |lines| {
            v6::put(lines, (HIGH, 6), 128, Cell::trusted()).expect("room");
            v6::put(lines, (HIGH, 5), 128, Cell::blocked(300)).expect("room");
            v6::remove(lines, (HIGH, 5), 128);
            v6::put(lines, (HIGH, 0), 64, Cell::blocked(0)).expect("room");
        },
        |lines| {
            v6::remove(lines, (HIGH, 6), 128);
            v6::put(lines, (HIGH, 5), 128, Cell::blocked(300)).expect("room");
        },
        read_v6,
        true,
    );
}
