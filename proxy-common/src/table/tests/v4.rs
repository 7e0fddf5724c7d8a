//! Slots of IPv4.

use super::{Numbers, cell, table};
use crate::{
    abi::Line,
    cell::Cell,
    table::{
        Full, LENGTHS,
        v4::{BUCKETS, cells, held_length, look_into_slots, put, remove, size_for},
    },
};

const BUCKETS_BEGIN: u32 = BUCKETS;
const HOST: u32 = 0xc633_6407;

fn of_buckets(buckets: u32) -> Vec<Line> {
    table(BUCKETS_BEGIN + buckets, buckets, 7)
}

#[test]
fn what_was_put_is_found_and_nothing_beside_it() {
    let mut memory = of_buckets(16);
    let mut lines = memory.as_mut_slice();
    put(&mut lines, HOST, 32, cell(1)).expect("room");
    put(&mut lines, HOST + 0x100, 28, cell(2)).expect("room");
    for (address, expected) in [
        (HOST - 1, Cell::UNLISTED),
        (HOST, cell(1)),
        (HOST + 1, Cell::UNLISTED),
        (0xc633_6500 - 1, Cell::UNLISTED),
        (0xc633_6500, cell(2)),
        (0xc633_650f, cell(2)),
        (0xc633_6510, Cell::UNLISTED),
    ] {
        assert_eq!(
            look_into_slots(&lines, address).unwrap_or_default(),
            expected,
            "{address:#x}"
        );
    }
}

#[test]
fn the_longest_prefix_answers() {
    let mut memory = of_buckets(16);
    let mut lines = memory.as_mut_slice();
    for length in [24, 26, 28, 30, 32] {
        put(&mut lines, HOST, length, cell(length.into())).expect("room");
    }
    for length in [32, 30, 28, 26, 24] {
        assert_eq!(
            look_into_slots(&lines, HOST).unwrap_or_default(),
            cell(length.into())
        );
        remove(&mut lines, HOST, length);
    }
    assert_eq!(
        look_into_slots(&lines, HOST).unwrap_or_default(),
        Cell::UNLISTED
    );
}

#[test]
fn a_second_put_overwrites_and_takes_no_second_slot() {
    let mut memory = of_buckets(16);
    let mut lines = memory.as_mut_slice();
    for number in 0..10 {
        put(&mut lines, HOST, 32, cell(number)).expect("room");
    }
    put(&mut lines, HOST, 32, Cell::trusted()).expect("room");
    let held: Vec<_> = cells(&lines).collect();
    assert_eq!(held, [((HOST, 32), Cell::trusted())]);
}

#[test]
fn what_was_removed_is_unlisted_and_its_slot_is_free_again() {
    let mut memory = of_buckets(1);
    let mut lines = memory.as_mut_slice();
    for round in 0..100 {
        put(&mut lines, HOST + round, 32, cell(1)).expect("room");
        remove(&mut lines, HOST + round, 32);
        assert_eq!(
            look_into_slots(&lines, HOST + round).unwrap_or_default(),
            Cell::UNLISTED
        );
    }
    remove(&mut lines, HOST, 32);
    assert_eq!(cells(&lines).count(), 0);
}

#[test]
fn a_full_pair_of_buckets_is_told_and_changes_nothing() {
    let mut memory = of_buckets(2);
    let mut lines = memory.as_mut_slice();
    let mut held = Vec::new();
    for host in 0..100 {
        let before = lines.to_vec();
        match put(&mut lines, host, 32, cell(host.into())) {
            Ok(()) => held.push(((host, 32), cell(host.into()))),
            Err(Full) => assert!(lines == before, "{host}"),
        }
    }
    assert_eq!(held.len(), 8, "two buckets of four slots");
    for ((host, length), _) in held {
        put(&mut lines, host, length, Cell::trusted()).expect("what is there has its slot");
    }
}

#[test]
fn lengths_are_held_in_steps_of_two_from_24_on() {
    let held: Vec<u32> = (0..=32).map(held_length).collect();
    assert!(held[..=24].iter().all(|held| *held == 24));
    assert_eq!(held[25..], [26, 26, 28, 28, 30, 30, 32, 32]);
}

#[test]
fn the_header_knows_which_lengths_there_are() {
    let mut memory = of_buckets(16);
    let mut lines = memory.as_mut_slice();
    put(&mut lines, HOST, 24, cell(1)).expect("room");
    put(&mut lines, HOST, 30, cell(1)).expect("room");
    assert_eq!(memory[0].0[LENGTHS], 0b1001);
}

#[test]
fn every_cell_is_told_with_its_prefix() {
    let mut memory = of_buckets(64);
    let mut lines = memory.as_mut_slice();
    let mut expected: Vec<_> = (0..100)
        .map(|number: u32| {
            (
                (number << 12, [24, 26, 28, 30, 32][number as usize % 5]),
                cell(number.into()),
            )
        })
        .collect();
    for ((address, length), cell) in &expected {
        put(&mut lines, *address, *length, *cell).expect("room");
    }
    let mut told: Vec<_> = cells(&lines).collect();
    let by_prefix = |(prefix, _): &((u32, u32), Cell)| *prefix;
    told.sort_by_key(by_prefix);
    expected.sort_by_key(by_prefix);
    assert_eq!(told, expected);
}

#[test]
fn a_million_random_entries_need_no_second_seed() {
    const ENTRIES: u64 = 1_000_000;
    let (buckets, lines) = size_for(ENTRIES).expect("a size");
    let mut memory = table(lines, buckets, 0xfeed_5eed);
    let mut lines = memory.as_mut_slice();
    let mut numbers = Numbers(5);
    let addresses: Vec<u32> = (0..ENTRIES).map(|_| numbers.next() as u32).collect();
    for address in &addresses {
        put(&mut lines, *address, 32, cell(u64::from(*address))).expect("room for all");
    }
    for address in addresses.iter().step_by(101) {
        assert_eq!(
            look_into_slots(&lines, *address).unwrap_or_default(),
            cell(u64::from(*address))
        );
    }
}
