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

/// Knows hosts by themselves and longer prefixes than a /24 by that. 2¹⁷ words, 1 MiB, so that it
/// stays in a core's second-level cache where front and slots don't. A million hosts fill a third of
/// its bits and let one clean source in thirty through.
const FILTER: Filter = Filter::new(HEADER_LINES + FRONT_LINES, 17);
/// A bit for every /16 in which some /24 is wholly blocked or trusted: 8 KiB. A list of large networks
/// would fill the filter.
const NETWORKS: u32 = FILTER.end();
const NETWORK_LINES: u32 = 1 << 7;
pub(super) const BUCKETS: u32 = NETWORKS + NETWORK_LINES;
/// The lengths below 32, as bits of the header's mask.
const SHORTER: u64 = (1 << (LENGTHS_HELD - 1)) - 1;
/// Set beside the lengths when any bit of the networks is.
const UNIFORM_INDEX: u32 = LENGTHS_HELD;
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
    let lengths = lines.word(header, LENGTHS);
    // Hosts always, so that an empty list costs what a long one does.
    if knows(lines, address, 32, seed) {
        return true;
    }
    if lengths & SHORTER != 0 && knows(lines, address, SHORTEST, seed) {
        return true;
    }
    lengths & 1 << UNIFORM_INDEX != 0 && is_in_network(lines, address)
}

/// Whether the filter knows of cells of this length, or, of all below 32, of any in the /24.
#[inline(always)]
fn knows<L: Lines>(lines: &L, address: u32, length: u32, seed: u64) -> bool {
    FILTER.may_hold(lines, filter_hash(address, length, seed))
}

#[inline(always)]
const fn filter_hash(address: u32, length: u32, seed: u64) -> u64 {
    let length = if length == 32 { 32 } else { SHORTEST };
    spread(key(address, length) ^ seed)
}

#[inline(always)]
fn is_in_network<L: Lines>(lines: &L, address: u32) -> bool {
    let network = address >> 16;
    let Some(line) = lines.line(NETWORKS + (network >> 9)) else {
        return false;
    };
    lines.word_at(line, u64::from(network >> 6)) >> (network & 63) & 1 != 0
}

/// Sets the code of the /24 whose upper 24 bits are `index`.
pub fn set_code<L: LinesMut>(lines: &mut L, index: u32, code: Code) {
    super::set_code(lines, index, code);
    // Of a /24 that differs within itself, the slots tell the filter.
    if matches!(code, Code::Blocked | Code::Trusted) {
        let network = index >> 8;
        let (line, word) = (NETWORKS + (network >> 9), (network >> 6 & 7) as usize);
        if let Some(found) = lines.line(line) {
            let bits = lines.word(found, word);
            lines.store(line, word, bits | 1 << (network & 63));
        }
        add_length(lines, UNIFORM_INDEX);
    }
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
        if !knows(lines, address, SHORTEST + STEP * index, seed) {
            continue;
        }
        for bucket in buckets(key, seed, mask) {
            let line = lines.line(bucket)?;
            let (slot, is_there) = slot_of(lines, line, key);
            let until_ns = lines.word_at(line, slot * 2 + 1);
            // Once more, and after the end: see `store_cell`.
            let word = lines.word_at(line, slot * 2);
            if is_there && word >> KEY_SHIFT == key {
                return Some(Cell {
                    flags: word as u8,
                    until_ns,
                });
            }
        }
    }
    None
}

/// The slot of a line that holds a key, and whether there is one.
#[inline(always)]
fn slot_of<L: Lines>(lines: &L, line: L::Line, key: u64) -> (u64, bool) {
    let holds = |slot: usize| is_zero(lines, lines.word(line, slot * 2) >> KEY_SHIFT ^ key);
    let [first, second, third, fourth] = [0, 1, 2, 3].map(holds);
    (
        second + third * 2 + fourth * 3,
        first | second | third | fourth != 0,
    )
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
    let seed = lines.line(0).map_or(0, |header| lines.word(header, SEED));
    FILTER.add(lines, filter_hash(address, length, seed));
    add_length(lines, (length - SHORTEST) / STEP);
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

/// The cell of exactly this prefix.
pub fn cell<L: Lines>(lines: &L, address: u32, length: u32) -> Option<Cell> {
    let (line, slot) = find(lines, key(address, length))?;
    let line = lines.line(line)?;
    Some(Cell {
        flags: lines.word(line, slot * 2) as u8,
        until_ns: lines.word(line, slot * 2 + 1),
    })
}

/// Takes the cell of a prefix away; one that isn't there is no error. The filter keeps its bits,
/// which costs whoever shares them a look at the slots until the table is made anew.
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
