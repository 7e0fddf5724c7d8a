//! The header and the front.

use super::{table, zeroes};
use crate::{
    cell::Cell,
    table::{
        Code, FRONT_LINES, HEADER_LINES, MOST_CELLS, buckets_for, code, code_of, differing_codes,
        set_code, uniform,
    },
};

const CODES: [Code; 4] = [Code::Unlisted, Code::Blocked, Code::Trusted, Code::Closer];

#[test]
fn the_header_holds_mask_and_seed_and_nothing_else() {
    let memory = table(HEADER_LINES, 64, 0x1234_5678_9abc_def0);
    assert_eq!(memory[0].0, [63, 0x1234_5678_9abc_def0, 0, 0, 0, 0, 0, 0]);
    assert_eq!(memory[1].0, [0; 8]);
}

#[test]
fn every_code_is_found_at_its_own_place_and_disturbs_no_neighbour() {
    let mut memory = zeroes(HEADER_LINES + FRONT_LINES);
    let mut lines = memory.as_mut_slice();
    let places = [0, 1, 31, 32, 255, 256, 0x0c_0a80, 0xff_fffe, 0xff_ffff];
    for code_here in CODES {
        for place in places {
            set_code(&mut lines, place, code_here);
            assert_eq!(code(&lines, place), code_here, "{place:#x}");
            let neighbours = [place.wrapping_sub(1), place + 1];
            for beside in neighbours.into_iter().filter(|beside| *beside < 1 << 24) {
                let expected = if places.contains(&beside) {
                    continue;
                } else {
                    Code::Unlisted
                };
                assert_eq!(code(&lines, beside), expected, "{place:#x}");
            }
        }
    }
    for place in places {
        assert_eq!(code(&lines, place), Code::Closer);
        set_code(&mut lines, place, Code::Unlisted);
    }
    assert!(memory.iter().all(|line| line.0 == [0; 8]));
}

#[test]
fn fronts_differ_by_as_many_codes_as_were_changed() {
    let mut one = zeroes(HEADER_LINES + FRONT_LINES);
    let mut other = one.clone();
    for (place, code) in [
        (0, CODES[1]),
        (1, CODES[2]),
        (77, CODES[3]),
        (0xff_ffff, CODES[3]),
    ] {
        set_code(&mut one.as_mut_slice(), place, code);
    }
    set_code(&mut other.as_mut_slice(), 77, Code::Blocked);
    let mut same = one.clone();
    let (one, other) = (one.as_mut_slice(), other.as_mut_slice());
    assert_eq!(differing_codes(&one, &other), 4);
    assert_eq!(differing_codes(&one, &same.as_mut_slice()), 0);
}

#[test]
fn a_code_says_all_that_its_cell_does_or_leads_closer() {
    for (cell, code) in [
        (None, Code::Unlisted),
        (Some(Cell::trusted()), Code::Trusted),
        (Some(Cell::blocked(0)), Code::Blocked),
        (Some(Cell::blocked(1)), Code::Closer),
        (Some(Cell::monitored(0)), Code::Closer),
    ] {
        assert_eq!(code_of(cell), code);
        if code != Code::Closer {
            assert_eq!(uniform(code), Some(cell.unwrap_or(Cell::UNLISTED)));
        }
    }
    assert_eq!(uniform(Code::Closer), None);
}

#[test]
fn buckets_are_a_power_of_two_with_35_in_100_slots_in_use_at_most() {
    assert_eq!(buckets_for(0), Some(16));
    for cells in [1, 22, 23, 1_000, 734_003, 734_004, 1_000_000, MOST_CELLS] {
        let buckets = buckets_for(cells).expect("a size");
        assert!(buckets.is_power_of_two());
        let slots = 4 * u64::from(buckets);
        assert!(cells * 100 <= slots * 35, "{cells} in {slots} slots");
        assert!(
            buckets == 16 || cells * 200 > slots * 35,
            "{cells} in {slots} slots"
        );
    }
    assert_eq!(buckets_for(MOST_CELLS + 1), None);
    assert_eq!(buckets_for(u64::MAX), None);
}
