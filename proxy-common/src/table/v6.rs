//! The table of IPv6: slots of 32 bytes, four to a bucket of two lines.
//!
//! The front holds codes of the upper 24 bits. Where it says "closer", the filter tells for the
//! source's /32, /48 and /64 whether any entry with a length of that group lies inside; only then
//! are slots asked. A clean source in a /32 full of listed hosts so pays three loads more than in
//! an empty one, and no look-up of slots.
//!
//! A slot is four words: upper half, lower half, length and flags (zero when empty), end.

use super::{
    BUCKET_MASK, FRONT_LINES, Full, HEADER_LINES, LENGTHS, LINE_WORDS, Lines, LinesMut, SEED,
    add_length, buckets_for, code, mix, store_cell, uniform,
};
use crate::cell::Cell;

/// Prefix lengths that slots hold: 24, 28, 32 and so on to 128.
pub const LENGTHS_HELD: u32 = 27;
const SHORTEST: u32 = 24;
const STEP: u32 = 4;

/// Lines of the filter: 2¹⁹ words. A million entries, each in a /64 of its own, fill one bit in
/// eight, and let one clean source in four thousand through to the slots.
pub(super) const FILTER_LINES: u32 = 1 << 16;
const FILTER: u32 = HEADER_LINES + FRONT_LINES;
const BUCKETS: u32 = FILTER + FILTER_LINES;
const SLOTS: usize = 4;
const SLOT_WORDS: usize = 4;
const LINE_SLOTS: usize = LINE_WORDS / SLOT_WORDS;

/// A group of lengths that the filter knows together, by the prefix that they all lie in.
#[derive(Clone, Copy)]
struct Group {
    /// Bits of the prefix.
    level: u32,
    /// The group's lengths as bits of the header's mask.
    lengths: u32,
}

const fn group(level: u32, end: u32) -> Group {
    let first = (level - SHORTEST) / STEP;
    let last = (end - SHORTEST) / STEP;
    Group {
        level,
        lengths: ((1 << last) - 1) & !((1 << first) - 1),
    }
}

const GROUPS: [Group; 3] = [group(32, 48), group(48, 64), group(64, 132)];
/// Lengths 24 and 28, which the filter doesn't know.
const SHORT_LENGTHS: u32 = 0b11;

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
        Some(buckets) => Some((buckets, BUCKETS + 2 * buckets)),
        None => None,
    }
}

/// What all lists add up to for an address given by its halves.
#[inline(always)]
pub fn look_up<L: Lines>(lines: &L, high: u64, low: u64) -> Cell {
    match uniform(code(lines, (high >> 40) as u32)) {
        Some(cell) => cell,
        None => look_closer(lines, high, low),
    }
}

/// What all lists add up to for an address in a /24 that the front calls [`super::Code::Closer`].
#[inline(always)]
pub fn look_closer<L: Lines>(lines: &L, high: u64, low: u64) -> Cell {
    let Some(header) = lines.line(0) else {
        return Cell::UNLISTED;
    };
    let mask = lines.word(header, BUCKET_MASK);
    let seed = lines.word(header, SEED);
    let held = lines.word(header, LENGTHS) as u32 & ((1 << LENGTHS_HELD) - 1);
    let mut lengths = held & SHORT_LENGTHS;
    for group in GROUPS {
        if held & group.lengths != 0 && may_hold(lines, high, group.level) {
            lengths |= held & group.lengths;
        }
    }
    for _ in 0..LENGTHS_HELD {
        if lengths == 0 {
            break;
        }
        let index = 31 - lengths.leading_zeros();
        lengths &= !(1 << index);
        let length = SHORTEST + STEP * index;
        let (high, low) = network(high, low, length);
        for bucket in buckets(high, low, length, seed, mask) {
            for slot in 0..SLOTS {
                let Some(line) = lines.line(bucket + (slot / LINE_SLOTS) as u32) else {
                    return Cell::UNLISTED;
                };
                let at = slot % LINE_SLOTS * SLOT_WORDS;
                if lines.word(line, at + 2) >> 8 != u64::from(length)
                    || lines.word(line, at) != high
                    || lines.word(line, at + 1) != low
                {
                    continue;
                }
                let until_ns = lines.word(line, at + 3);
                // Once more: the slot may have begun to be another's. See `store_cell`.
                let word = lines.word(line, at + 2);
                if word >> 8 == u64::from(length) {
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

/// The address with all bits after `length` (24 to 128) cleared.
#[inline(always)]
const fn network(high: u64, low: u64, length: u32) -> (u64, u64) {
    if length <= 64 {
        (high >> (64 - length) << (64 - length), 0)
    } else {
        (high, low >> (128 - length) << (128 - length))
    }
}

#[inline(always)]
const fn buckets(high: u64, low: u64, length: u32, seed: u64, mask: u64) -> [u32; 2] {
    let hash = mix(high ^ mix(low ^ seed ^ length as u64));
    [
        BUCKETS + 2 * (hash & mask) as u32,
        BUCKETS + 2 * (hash >> 32 & mask) as u32,
    ]
}

/// Line, word and four bits of the filter for the prefix of `level` bits.
#[inline(always)]
const fn filter_bits(high: u64, level: u32) -> (u32, usize, u64) {
    let hash = mix((high >> (64 - level)) ^ (level as u64) << 58);
    let bits =
        1 << (hash & 63) | 1 << (hash >> 6 & 63) | 1 << (hash >> 12 & 63) | 1 << (hash >> 18 & 63);
    let word = hash >> 45;
    (FILTER + (word >> 3) as u32, (word & 7) as usize, bits)
}

#[inline(always)]
pub(super) fn may_hold<L: Lines>(lines: &L, high: u64, level: u32) -> bool {
    let (line, word, bits) = filter_bits(high, level);
    let Some(line) = lines.line(line) else {
        return false;
    };
    lines.word(line, word) & bits == bits
}

fn find<L: Lines>(lines: &L, high: u64, low: u64, length: u32) -> Option<(u32, usize)> {
    let header = lines.line(0)?;
    let (mask, seed) = (lines.word(header, BUCKET_MASK), lines.word(header, SEED));
    for bucket in buckets(high, low, length, seed, mask) {
        for slot in 0..SLOTS {
            let (line, at) = place(bucket, slot);
            let found = lines.line(line)?;
            if lines.word(found, at + 2) >> 8 == u64::from(length)
                && lines.word(found, at) == high
                && lines.word(found, at + 1) == low
            {
                return Some((line, at));
            }
        }
    }
    None
}

/// Line and first word of a slot.
const fn place(bucket: u32, slot: usize) -> (u32, usize) {
    (
        bucket + (slot / LINE_SLOTS) as u32,
        slot % LINE_SLOTS * SLOT_WORDS,
    )
}

/// Sets the cell of the prefix of an address with a held `length`.
///
/// # Errors
/// [`Full`] when the prefix is new and both of its buckets are full; nothing was changed.
pub fn put<L: LinesMut>(
    lines: &mut L,
    (high, low): (u64, u64),
    length: u32,
    cell: Cell,
) -> Result<(), Full> {
    let (high, low) = network(high, low, length);
    let (line, at) = match find(lines, high, low, length) {
        Some(found) => found,
        None => {
            let (line, at) = vacancy(lines, high, low, length)?;
            lines.store(line, at, high);
            lines.store(line, at + 1, low);
            (line, at)
        }
    };
    let word = u64::from(length) << 8 | u64::from(cell.flags);
    store_cell(lines, line, (at + 2, at + 3), word, cell);
    for group in GROUPS {
        if group.lengths & 1 << ((length - SHORTEST) / STEP) != 0 {
            let (line, word, bits) = filter_bits(high, group.level);
            if let Some(found) = lines.line(line) {
                let before = lines.word(found, word);
                if before & bits != bits {
                    lines.store(line, word, before | bits);
                }
            }
        }
    }
    add_length(lines, (length - SHORTEST) / STEP);
    Ok(())
}

fn vacancy<L: Lines>(lines: &L, high: u64, low: u64, length: u32) -> Result<(u32, usize), Full> {
    let header = lines.line(0).ok_or(Full)?;
    let (mask, seed) = (lines.word(header, BUCKET_MASK), lines.word(header, SEED));
    let mut best: Option<(usize, (u32, usize))> = None;
    for bucket in buckets(high, low, length, seed, mask) {
        let empty = |slot: &usize| {
            let (line, at) = place(bucket, *slot);
            lines
                .line(line)
                .is_some_and(|line| lines.word(line, at + 2) == 0)
        };
        let free = (0..SLOTS).filter(empty).count();
        if let Some(slot) = (0..SLOTS).find(empty)
            && best.is_none_or(|(most, _)| free > most)
        {
            best = Some((free, place(bucket, slot)));
        }
    }
    best.map(|(_, place)| place).ok_or(Full)
}

/// Takes the cell of a prefix away; one that isn't there is no error. The filter keeps its bits,
/// which costs a clean neighbour a look at the slots until the table is made anew.
pub fn remove<L: LinesMut>(lines: &mut L, (high, low): (u64, u64), length: u32) {
    let (high, low) = network(high, low, length);
    if let Some((line, at)) = find(lines, high, low, length) {
        lines.store(line, at + 2, 0);
        lines.store(line, at + 3, 0);
    }
}

/// Every cell that a table holds, with the halves of its prefix and its length.
pub fn cells<L: Lines>(lines: &L) -> impl Iterator<Item = (((u64, u64), u32), Cell)> + '_ {
    (BUCKETS..)
        .map_while(|line| lines.line(line))
        .flat_map(move |line| {
            (0..LINE_SLOTS).filter_map(move |slot| {
                let at = slot * SLOT_WORDS;
                let word = lines.word(line, at + 2);
                let network = (lines.word(line, at), lines.word(line, at + 1));
                let cell = Cell {
                    flags: word as u8,
                    until_ns: lines.word(line, at + 3),
                };
                (word != 0).then_some(((network, (word >> 8) as u32), cell))
            })
        })
}
