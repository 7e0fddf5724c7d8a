//! Slots of IPv6, and the filter before them.

use super::{Numbers, cell, table};
use crate::{
    abi::Line,
    cell::Cell,
    table::{
        Full, LENGTHS,
        v6::{BUCKETS, cells, held_length, look_into_slots, may_hold, put, remove, size_for},
    },
};

const BUCKETS_BEGIN: u32 = BUCKETS;
const DOCUMENTATION: u64 = 0x2001_0db8_0000_0000;
const HOST: (u64, u64) = (DOCUMENTATION | 0x0001_0002, 7);

fn of_buckets(buckets: u32) -> Vec<Line> {
    table(BUCKETS_BEGIN + 2 * buckets, buckets, 7)
}

fn held_lengths() -> impl DoubleEndedIterator<Item = u32> {
    (6..33_u32).map(|nibbles| 4 * nibbles)
}

#[test]
fn what_was_put_is_found_and_nothing_beside_it() {
    let mut memory = of_buckets(16);
    let mut lines = memory.as_mut_slice();
    let (high, low) = HOST;
    put(&mut lines, HOST, 128, cell(1)).expect("room");
    put(&mut lines, (high + 1, 0x5555), 64, cell(2)).expect("room");
    put(&mut lines, (0x2a00 << 48, u64::MAX), 28, cell(3)).expect("room");
    for (address, expected) in [
        ((high, low - 1), Cell::UNLISTED),
        ((high, low), cell(1)),
        ((high, low + 1), Cell::UNLISTED),
        ((high + 1, 0), cell(2)),
        ((high + 1, u64::MAX), cell(2)),
        ((high + 2, 0), Cell::UNLISTED),
        (((0x2a00 << 48) - 1, u64::MAX), Cell::UNLISTED),
        ((0x2a00 << 48, 0), cell(3)),
        ((0x2a00_000f_ffff_ffff, u64::MAX), cell(3)),
        ((0x2a00_0010_0000_0000, 0), Cell::UNLISTED),
    ] {
        assert_eq!(
            look_into_slots(&lines, address.0, address.1).unwrap_or_default(),
            expected,
            "{address:x?}"
        );
    }
}

#[test]
fn the_longest_prefix_of_27_answers() {
    let mut memory = of_buckets(16);
    let mut lines = memory.as_mut_slice();
    for length in held_lengths() {
        put(&mut lines, HOST, length, cell(length.into())).expect("room");
    }
    assert_eq!(memory[0].0[LENGTHS], (1 << 27) - 1);
    let mut lines = memory.as_mut_slice();
    for length in held_lengths().rev() {
        assert_eq!(
            look_into_slots(&lines, HOST.0, HOST.1).unwrap_or_default(),
            cell(length.into())
        );
        remove(&mut lines, HOST, length);
    }
    assert_eq!(
        look_into_slots(&lines, HOST.0, HOST.1).unwrap_or_default(),
        Cell::UNLISTED
    );
}

#[test]
fn a_second_put_overwrites_and_takes_no_second_slot() {
    let mut memory = of_buckets(16);
    let mut lines = memory.as_mut_slice();
    for number in 0..10 {
        put(&mut lines, (HOST.0, number), 64, cell(number)).expect("room");
    }
    let held: Vec<_> = cells(&lines).collect();
    assert_eq!(held, [(((HOST.0, 0), 64), cell(9))]);
}

#[test]
fn what_was_removed_is_unlisted_and_its_slot_is_free_again() {
    let mut memory = of_buckets(1);
    let mut lines = memory.as_mut_slice();
    for round in 0..100 {
        let host = (HOST.0, round);
        put(&mut lines, host, 128, cell(1)).expect("room");
        remove(&mut lines, host, 128);
        assert_eq!(
            look_into_slots(&lines, host.0, host.1).unwrap_or_default(),
            Cell::UNLISTED
        );
    }
    assert_eq!(cells(&lines).count(), 0);
}

#[test]
fn a_full_pair_of_buckets_is_told_and_changes_nothing() {
    let mut memory = of_buckets(2);
    let mut lines = memory.as_mut_slice();
    let mut held = Vec::new();
    for host in 0..100 {
        let before = lines.to_vec();
        match put(&mut lines, (HOST.0, host), 128, cell(host)) {
            Ok(()) => held.push(host),
            Err(Full) => assert!(lines == before, "{host}"),
        }
    }
    assert_eq!(held.len(), 8, "two buckets of four slots");
    for host in held {
        put(&mut lines, (HOST.0, host), 128, Cell::trusted()).expect("it has its slot");
    }
}

#[test]
fn lengths_are_held_in_steps_of_four_from_24_on() {
    for length in 0..=128 {
        let held = held_length(length);
        assert!(
            held >= length && held >= 24 && held.is_multiple_of(4),
            "{length}"
        );
        assert!(held == 24 || held - length < 4, "{length}");
    }
}

#[test]
fn every_cell_is_told_with_its_prefix() {
    let mut memory = of_buckets(64);
    let mut lines = memory.as_mut_slice();
    let mut expected = Vec::new();
    for (number, length) in held_lengths().enumerate() {
        put(
            &mut lines,
            (u64::MAX, u64::MAX),
            length,
            cell(number as u64),
        )
        .expect("room");
        let ones = u128::MAX << (128 - length);
        expected.push((
            ((((ones >> 64) as u64), ones as u64), length),
            cell(number as u64),
        ));
    }
    let mut told: Vec<_> = cells(&lines).collect();
    told.sort_by_key(|((_, length), _)| *length);
    assert_eq!(told, expected);
}

/// Each in a /64 of its own.
#[test]
fn a_million_random_entries_need_no_second_seed_and_the_filter_stops_99_of_100_strangers() {
    const ENTRIES: u64 = 1_000_000;
    const STRANGERS: u64 = 1_000_000;
    let (buckets, lines) = size_for(ENTRIES).expect("a size");
    let mut memory = table(lines, buckets, 0xfeed_5eed);
    let mut lines = memory.as_mut_slice();
    let mut numbers = Numbers(5);
    let inside = |number: u64| DOCUMENTATION | number >> 32;
    let networks: Vec<u64> = (0..ENTRIES).map(|_| inside(numbers.next())).collect();
    for (host, network) in (0..).zip(&networks) {
        put(&mut lines, (*network, host), 128, cell(host)).expect("room for all");
    }
    for (host, network) in (0..).zip(&networks).step_by(101) {
        assert!(may_hold(&lines, *network));
        assert_eq!(
            look_into_slots(&lines, *network, host).unwrap_or_default(),
            cell(host)
        );
    }
    let listed: std::collections::HashSet<u64> = networks.into_iter().collect();
    let strangers = (0..STRANGERS).map(|_| inside(numbers.next()));
    let (mut met, mut let_through) = (0, 0);
    for stranger in strangers.filter(|network| !listed.contains(network)) {
        met += 1;
        let_through += u64::from(may_hold(&lines, stranger));
    }
    assert!(met > STRANGERS / 2);
    assert!(let_through * 100 < met, "{let_through} of {met}");
}
