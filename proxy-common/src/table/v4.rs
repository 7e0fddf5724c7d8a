//! The table of IPv4: slots of 16 bytes, four to a line.
//!
//! A slot is two words: the prefix (32 bits of address, 8 of length, then 16 unused and 8 of
//! flags; zero when empty) and the end.

use super::{
    BUCKET_MASK, Code, FRONT_LINES, Full, HEADER_LINES, LENGTHS, Lines, LinesMut, SEED, add_length,
    buckets_for, code, mix, store_cell, uniform,
};
use crate::cell::Cell;

/// Prefix lengths that slots hold: 24, 26, 28, 30 and 32.
pub const LENGTHS_HELD: u32 = 5;
const SHORTEST: u32 = 24;
const STEP: u32 = 2;

/// Lines of the filter: 2¹⁷ words, 1 MiB, a quarter of the front, so that it stays in a core's
/// second-level cache where the front doesn't. A million hosts, each in a /24 of its own, fill a
/// third of its bits and let one clean source in thirty through to the front.
const FILTER_LINES: u32 = 1 << 14;
const FILTER: u32 = HEADER_LINES + FRONT_LINES;
pub(super) const BUCKETS: u32 = FILTER + FILTER_LINES;
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
    if !may_hold(lines, address >> 8) {
        return Cell::UNLISTED;
    }
    match uniform(code(lines, address >> 8)) {
        Some(cell) => cell,
        None => look_closer(lines, address),
    }
}

/// Line, word and three bits of the filter for the /24 whose upper 24 bits are `index`.
#[inline(always)]
const fn filter_bits(index: u32) -> (u32, usize, u64) {
    // The upper bits of a product with an odd number (the golden ratio's: Knuth, "The Art of
    // Computer Programming" 3, 6.4) depend on every bit of the index.
    let hash = (index as u64).wrapping_mul(0x9e37_79b9_7f4a_7c15);
    let bits = 1 << (hash >> 28 & 63) | 1 << (hash >> 34 & 63) | 1 << (hash >> 40 & 63);
    let word = hash >> 47;
    (FILTER + (word >> 3) as u32, (word & 7) as usize, bits)
}

/// Whether a /24 may have another code than [`super::Code::Unlisted`].
#[inline(always)]
pub fn may_hold<L: Lines>(lines: &L, index: u32) -> bool {
    let (line, word, bits) = filter_bits(index);
    let Some(line) = lines.line(line) else {
        return false;
    };
    lines.word(line, word) & bits == bits
}

/// Sets the code of the /24 whose upper 24 bits are `index`, and lets the filter pass it on. The
/// filter keeps its bits when the code is taken back, until the table is made anew.
pub fn set_code<L: LinesMut>(lines: &mut L, index: u32, code: Code) {
    if code != Code::Unlisted {
        let (line, word, bits) = filter_bits(index);
        if let Some(found) = lines.line(line) {
            let before = lines.word(found, word);
            if before & bits != bits {
                lines.store(line, word, before | bits);
            }
        }
    }
    super::set_code(lines, index, code);
}

/// What all lists add up to for an address in a /24 that the front calls [`super::Code::Closer`].
#[inline(always)]
pub fn look_closer<L: Lines>(lines: &L, address: u32) -> Cell {
    let Some(header) = lines.line(0) else {
        return Cell::UNLISTED;
    };
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
        for bucket in buckets(key, seed, mask) {
            let Some(line) = lines.line(bucket) else {
                return Cell::UNLISTED;
            };
            for slot in 0..SLOTS {
                if lines.word(line, slot * 2) >> KEY_SHIFT != key {
                    continue;
                }
                let until_ns = lines.word(line, slot * 2 + 1);
                // Once more: the end may be that of the slot's next cell. See `store_cell`.
                let word = lines.word(line, slot * 2);
                if word >> KEY_SHIFT == key {
                    return Cell {
                        flags: word as u8,
                        until_ns,
                    };
                }
            }
        }
    }
    Cell::UNLISTED
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
    add_length(lines, (length - SHORTEST) / STEP);
    Ok(())
}

/// An empty slot in the emptier bucket.
fn vacancy<L: Lines>(lines: &L, key: u64) -> Result<(u32, usize), Full> {
    let header = lines.line(0).ok_or(Full)?;
    let (mask, seed) = (lines.word(header, BUCKET_MASK), lines.word(header, SEED));
    let mut best: Option<(usize, u32, usize)> = None;
    for bucket in buckets(key, seed, mask) {
        let line = lines.line(bucket).ok_or(Full)?;
        let empty = |slot: &usize| lines.word(line, slot * 2) == 0;
        let free = (0..SLOTS).filter(empty).count();
        if let Some(slot) = (0..SLOTS).find(empty)
            && best.is_none_or(|(most, ..)| free > most)
        {
            best = Some((free, bucket, slot));
        }
    }
    best.map(|(_, bucket, slot)| (bucket, slot)).ok_or(Full)
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
