//! The table of IPv4: slots of 16 bytes, four to a line.
//!
//! A slot is two words: the prefix (32 bits of address, 8 of length, then 16 unused and 8 of
//! flags; zero when empty) and the end.

use super::{
    BUCKET_MASK, Code, FRONT_LINES, Full, HEADER_LINES, LENGTHS, Lines, LinesMut, SEED, add_length,
    buckets_for, choose, code,
    filter::{Filter, spread},
    is_zero, mix, store_cell, uniform,
};
use crate::cell::Cell;

/// Prefix lengths that slots hold: 24, 26, 28, 30 and 32.
pub const LENGTHS_HELD: u32 = 5;
const SHORTEST: u32 = 24;
const STEP: u32 = 2;

/// 2¹⁷ words, 1 MiB, so that it stays in a core's second-level cache where front and slots don't. A
/// million hosts fill a third of its bits and let one clean source in thirty through.
const FILTER: Filter = Filter::new(HEADER_LINES + FRONT_LINES, 17);
pub(super) const BUCKETS: u32 = FILTER.end();
const SLOTS: usize = 4;
const KEY_SHIFT: u32 = 24;

/// The shortest held length that isn't shorter than `length`.
pub const fn held_length(length: u32) -> u32 {
    if length <= SHORTEST {
        return SHORTEST;
    }
    SHORTEST + (length - SHORTEST).div_ceil(STEP) * STEP
}

/// Buckets and lines of a table for this many cells; `None` when no table holds so many.
pub const fn size_for(cells: u64) -> Option<(u32, u32)> {
    match buckets_for(cells) {
        Some(buckets) => Some((buckets, BUCKETS + buckets)),
        None => None,
    }
}

/// What all lists add up to for an address.
#[inline(always)]
pub fn look_up<L: Lines>(lines: &L, address: u32) -> Cell {
    if !may_hold(lines, address) {
        return Cell::UNLISTED;
    }
    look_closer(lines, address)
}

/// Whether front or slots may say anything of an address.
#[inline(always)]
pub fn may_hold<L: Lines>(lines: &L, address: u32) -> bool {
    let Some(header) = lines.line(0) else {
        return false;
    };
    let seed = lines.word(header, SEED);
    let asked = |length| FILTER.may_hold(lines, spread(key(address, length) ^ seed));
    if asked(32) {
        return true;
    }
    // Not so for hosts: an empty list costs what a long one does.
    let lengths = lines.word(header, LENGTHS);
    for index in 0..LENGTHS_HELD - 1 {
        if lengths & 1 << index != 0 && asked(SHORTEST + STEP * index) {
            return true;
        }
    }
    false
}

/// Sets the code of the /24 whose upper 24 bits are `index`.
pub fn set_code<L: LinesMut>(lines: &mut L, index: u32, code: Code) {
    super::set_code(lines, index, code);
    // Of a /24 that differs within itself, the slots tell the filter.
    if matches!(code, Code::Blocked | Code::Trusted) {
        announce(lines, key(index << 8, SHORTEST));
    }
}

/// Lets the filter pass on what is asked of a prefix.
fn announce<L: LinesMut>(lines: &mut L, key: u64) {
    let Some(header) = lines.line(0) else {
        return;
    };
    let seed = lines.word(header, SEED);
    FILTER.add(lines, spread(key ^ seed));
    add_length(lines, ((key as u32 & 0xff) - SHORTEST) / STEP);
}

/// What all lists add up to for an address that the filter doesn't know to be unlisted.
#[inline(always)]
pub fn look_closer<L: Lines>(lines: &L, address: u32) -> Cell {
    // Most of whom the filter lets through are hosts of a list: the slots know them, and the front
    // would be one more line from far away.
    if let Some(cell) = look_into_slots(lines, address) {
        return cell;
    }
    match uniform(code(lines, address >> 8)) {
        Some(cell) => cell,
        // Perhaps since a moment ago: what the front said before is in the slots by now.
        None => look_into_slots(lines, address).unwrap_or(Cell::UNLISTED),
    }
}

/// The cell of the longest prefix in the slots that an address lies in.
#[inline(always)]
pub(super) fn look_into_slots<L: Lines>(lines: &L, address: u32) -> Option<Cell> {
    let header = lines.line(0)?;
    let mask = lines.word(header, BUCKET_MASK);
    let seed = lines.word(header, SEED);
    let mut lengths = lines.word(header, LENGTHS) as u32 & ((1 << LENGTHS_HELD) - 1);
    for _ in 0..LENGTHS_HELD {
        if lengths == 0 {
            break;
        }
        let index = 31 - lengths.leading_zeros();
        lengths &= !(1 << index);
        let key = key(address, SHORTEST + STEP * index);
        if !FILTER.may_hold(lines, spread(key ^ seed)) {
            continue;
        }
        for bucket in buckets(key, seed, mask) {
            let line = lines.line(bucket)?;
            let slot = slot_of(lines, line, key);
            let until_ns = lines.word_at(line, slot * 2 + 1);
            // After the end, which may be that of the slot's next cell. See `store_cell`.
            let word = lines.word_at(line, slot * 2);
            if word >> KEY_SHIFT == key {
                return Some(Cell {
                    flags: word as u8,
                    until_ns,
                });
            }
        }
    }
    None
}

/// The slot of a line that holds a key, or any other when none does.
#[inline(always)]
fn slot_of<L: Lines>(lines: &L, line: L::Line, key: u64) -> u64 {
    let holds = |slot: usize| is_zero(lines, lines.word(line, slot * 2) >> KEY_SHIFT ^ key);
    holds(1) + holds(2) * 2 + holds(3) * 3
}

/// The prefix of `address` of a length, and that length.
#[inline(always)]
const fn key(address: u32, length: u32) -> u64 {
    // Lengths are 24 to 32: the shift never reaches the width.
    let network = address as u64 >> (32 - length) << (32 - length);
    network << 8 | length as u64
}

#[inline(always)]
const fn buckets(key: u64, seed: u64, mask: u64) -> [u32; 2] {
    let hash = mix(key ^ seed);
    [
        BUCKETS + (hash & mask) as u32,
        BUCKETS + (hash >> 32 & mask) as u32,
    ]
}

/// Where a prefix lies: its line and slot.
fn find<L: Lines>(lines: &L, key: u64) -> Option<(u32, usize)> {
    let header = lines.line(0)?;
    let (mask, seed) = (lines.word(header, BUCKET_MASK), lines.word(header, SEED));
    for bucket in buckets(key, seed, mask) {
        let line = lines.line(bucket)?;
        for slot in 0..SLOTS {
            if lines.word(line, slot * 2) >> KEY_SHIFT == key {
                return Some((bucket, slot));
            }
        }
    }
    None
}

/// Sets the cell of the prefix of `address` with a held `length`.
///
/// # Errors
/// [`Full`] when the prefix is new and both of its buckets are full; nothing was changed.
pub fn put<L: LinesMut>(lines: &mut L, address: u32, length: u32, cell: Cell) -> Result<(), Full> {
    let key = key(address, length);
    let (line, slot) = match find(lines, key) {
        Some(found) => found,
        None => vacancy(lines, key)?,
    };
    let word = key << KEY_SHIFT | u64::from(cell.flags);
    store_cell(lines, line, (slot * 2, slot * 2 + 1), word, cell);
    announce(lines, key);
    Ok(())
}

/// An empty slot in one of the two buckets of a prefix.
fn vacancy<L: Lines>(lines: &L, key: u64) -> Result<(u32, usize), Full> {
    let header = lines.line(0).ok_or(Full)?;
    let (mask, seed) = (lines.word(header, BUCKET_MASK), lines.word(header, SEED));
    let buckets = buckets(key, seed, mask);
    let empty = |bucket: u32| {
        let line = lines.line(bucket);
        let is_empty = move |slot: &usize| line.is_some_and(|line| lines.word(line, slot * 2) == 0);
        (0..SLOTS).filter(is_empty)
    };
    let bucket = buckets[choose(buckets.map(|bucket| empty(bucket).count())).ok_or(Full)?];
    empty(bucket).next().map(|slot| (bucket, slot)).ok_or(Full)
}

/// Takes the cell of a prefix away; one that isn't there is no error.
pub fn remove<L: LinesMut>(lines: &mut L, address: u32, length: u32) {
    if let Some((line, slot)) = find(lines, key(address, length)) {
        lines.store(line, slot * 2, 0);
        lines.store(line, slot * 2 + 1, 0);
    }
}

/// Every cell that a table holds, with its prefix.
pub fn cells<L: Lines>(lines: &L) -> impl Iterator<Item = ((u32, u32), Cell)> + '_ {
    (BUCKETS..)
        .map_while(|line| lines.line(line))
        .flat_map(move |line| {
            (0..SLOTS).filter_map(move |slot| {
                let key = lines.word(line, slot * 2) >> KEY_SHIFT;
                let cell = Cell {
                    flags: lines.word(line, slot * 2) as u8,
                    until_ns: lines.word(line, slot * 2 + 1),
                };
                (key != 0).then_some((((key >> 8) as u32, key as u32 & 0xff), cell))
            })
        })
}
