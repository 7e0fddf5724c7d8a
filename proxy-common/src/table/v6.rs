//! The table of IPv6: slots of 32 bytes, four to a bucket of two lines.
//!
//! The front holds codes of the upper 24 bits; it is asked only when some list says anything of a
//! prefix shorter than a /32. Of two filters the coarse one knows the /32 that a cell lies in, the
//! fine one its /48, its /64 and the cell itself. So a clean source ends at its /32 or, with listed
//! hosts inside that, at its /48 or /64; who has listed neighbours that near is looked for under each
//! length that the table holds, in the fine filter first.
//!
//! A slot is four words: upper half, lower half, length and flags (zero when empty), end.

use super::{
    BUCKET_MASK, Code, FRONT_LINES, Full, HEADER_LINES, LENGTHS, LINE_WORDS, Lines, LinesMut, SEED,
    add_length, buckets_for, choose, code,
    filter::{Filter, spread},
    is_zero, mix, store_cell, uniform,
};
use crate::cell::Cell;

/// Prefix lengths that slots hold: 24, 28, 32 and so on to 128.
pub const LENGTHS_HELD: u32 = 27;
const SHORTEST: u32 = 24;
const STEP: u32 = 4;

/// The /32s that anything lies in: 2¹⁷ words, 1 MiB, so that it stays in a core's second-level cache.
/// A million of them fill a third of its bits and let one clean source in thirty through.
const COARSE: Filter = Filter::new(HEADER_LINES + FRONT_LINES, 17);
/// The /48s and /64s, and every cell by its own prefix: 2¹⁹ words, 4 MiB. A million hosts, each in a
/// /48 of its own, fill a quarter of its bits.
const FINE: Filter = Filter::new(COARSE.end(), 19);
pub(super) const BUCKETS: u32 = FINE.end();
const SLOTS: usize = 4;
const SLOT_WORDS: usize = 4;
const LINE_SLOTS: usize = LINE_WORDS / SLOT_WORDS;

/// The lengths of a range as bits of the header's mask.
const fn lengths(from: u32, to: u32) -> u32 {
    (1 << ((to - SHORTEST) / STEP)) - (1 << ((from - SHORTEST) / STEP))
}

/// Shorter than a /32: the front knows where they are.
const SHORT: u32 = lengths(24, 32);
/// Set beside the lengths when the front says of any /24 that it is wholly blocked or trusted.
const UNIFORM: u32 = 1 << UNIFORM_INDEX;
const UNIFORM_INDEX: u32 = LENGTHS_HELD;
/// Prefixes of these lengths are in a filter for whatever lies in them.
const LEVELS: [(u32, Filter); 3] = [(32, COARSE), (48, FINE), (64, FINE)];

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
    if !may_hold(lines, high) {
        return Cell::UNLISTED;
    }
    look_closer(lines, high, low)
}

/// Whether front or slots may say anything of an address with this upper half.
#[inline(always)]
pub fn may_hold<L: Lines>(lines: &L, high: u64) -> bool {
    let Some(header) = lines.line(0) else {
        return false;
    };
    let seed = lines.word(header, SEED);
    let held = lines.word(header, LENGTHS) as u32;
    if held & (SHORT | UNIFORM) != 0 {
        match code(lines, (high >> 40) as u32) {
            Code::Unlisted => return false,
            Code::Blocked | Code::Trusted => return true,
            // The header once more: the first cell of a short length may have come with this code.
            Code::Closer if lines.word(header, LENGTHS) as u32 & SHORT != 0 => return true,
            Code::Closer => {}
        }
    }
    for (level, filter) in LEVELS {
        if !filter.may_hold(lines, level_hash(high, level, seed)) {
            return false;
        }
        // Some cell may be as long as this level or longer, but not as the next.
        if level < 64 && held & lengths(level, level + 16) != 0 {
            return true;
        }
    }
    true
}

/// What all lists add up to for an address that the filter doesn't know to be unlisted. First the
/// slots, then the front, as for IPv4.
#[inline(always)]
pub fn look_closer<L: Lines>(lines: &L, high: u64, low: u64) -> Cell {
    if let Some(cell) = look_into_slots(lines, high, low) {
        return cell;
    }
    match uniform(code(lines, (high >> 40) as u32)) {
        Some(cell) => cell,
        None => look_into_slots(lines, high, low).unwrap_or(Cell::UNLISTED),
    }
}

/// The cell of the longest prefix in the slots that an address lies in.
#[inline(always)]
pub(super) fn look_into_slots<L: Lines>(lines: &L, high: u64, low: u64) -> Option<Cell> {
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
        let length = SHORTEST + STEP * index;
        let (high, low) = network(high, low, length);
        let hash = cell_hash(high, low, length, seed);
        if !FINE.may_hold(lines, hash) {
            continue;
        }
        for bucket in buckets(hash, mask) {
            for line in [bucket, bucket + 1] {
                let line = lines.line(line)?;
                let (at, is_there) = slot_of(lines, line, (high, low), length);
                let until_ns = lines.word_at(line, at + 3);
                // Once more, and after the end: see `store_cell`.
                let word = lines.word_at(line, at + 2);
                let differs = (lines.word_at(line, at) ^ high)
                    | (lines.word_at(line, at + 1) ^ low)
                    | (word >> 8 ^ u64::from(length));
                if is_there && differs == 0 {
                    return Some(Cell {
                        flags: word as u8,
                        until_ns,
                    });
                }
            }
        }
    }
    None
}

/// The first word of the slot of a line that holds a prefix, and whether there is one.
#[inline(always)]
fn slot_of<L: Lines>(
    lines: &L,
    line: L::Line,
    (high, low): (u64, u64),
    length: u32,
) -> (u64, bool) {
    let holds = |at: usize| {
        is_zero(
            lines,
            (lines.word(line, at) ^ high)
                | (lines.word(line, at + 1) ^ low)
                | (lines.word(line, at + 2) >> 8 ^ u64::from(length)),
        )
    };
    let [first, second] = [0, SLOT_WORDS].map(holds);
    (second * SLOT_WORDS as u64, first | second != 0)
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

/// What places a cell, in the filter and in the slots.
#[inline(always)]
const fn cell_hash(high: u64, low: u64, length: u32, seed: u64) -> u64 {
    mix(high ^ mix(low ^ seed ^ length as u64))
}

#[inline(always)]
const fn buckets(hash: u64, mask: u64) -> [u32; 2] {
    [
        BUCKETS + 2 * (hash & mask) as u32,
        BUCKETS + 2 * (hash >> 32 & mask) as u32,
    ]
}

/// What places in the filter a prefix that longer entries lie in.
#[inline(always)]
const fn level_hash(high: u64, level: u32, seed: u64) -> u64 {
    spread((high >> (64 - level)) ^ (level as u64) << 58 ^ seed)
}

fn find<L: Lines>(lines: &L, high: u64, low: u64, length: u32) -> Option<(u32, usize)> {
    let header = lines.line(0)?;
    let (mask, seed) = (lines.word(header, BUCKET_MASK), lines.word(header, SEED));
    for bucket in buckets(cell_hash(high, low, length, seed), mask) {
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
    let seed = lines.line(0).map_or(0, |header| lines.word(header, SEED));
    FINE.add(lines, cell_hash(high, low, length, seed));
    for (level, filter) in LEVELS {
        if level <= length {
            filter.add(lines, level_hash(high, level, seed));
        }
    }
    add_length(lines, (length - SHORTEST) / STEP);
    Ok(())
}

/// Sets the code of the /24 whose upper 24 bits are `index`.
pub fn set_code<L: LinesMut>(lines: &mut L, index: u32, code: Code) {
    super::set_code(lines, index, code);
    // Of a /24 that differs within itself, the slots know more.
    if matches!(code, Code::Blocked | Code::Trusted) {
        add_length(lines, UNIFORM_INDEX);
    }
}

/// An empty slot in one of the two buckets of a prefix.
fn vacancy<L: Lines>(lines: &L, high: u64, low: u64, length: u32) -> Result<(u32, usize), Full> {
    let header = lines.line(0).ok_or(Full)?;
    let (mask, seed) = (lines.word(header, BUCKET_MASK), lines.word(header, SEED));
    let buckets = buckets(cell_hash(high, low, length, seed), mask);
    let empty = |bucket: u32| {
        let places = (0..SLOTS).map(move |slot| place(bucket, slot));
        places.filter(|(line, at)| {
            let line = lines.line(*line);
            line.is_some_and(|line| lines.word(line, at + 2) == 0)
        })
    };
    let bucket = buckets[choose(buckets.map(|bucket| empty(bucket).count())).ok_or(Full)?];
    empty(bucket).next().ok_or(Full)
}

/// The cell of exactly this prefix.
pub fn cell<L: Lines>(lines: &L, (high, low): (u64, u64), length: u32) -> Option<Cell> {
    let (high, low) = network(high, low, length);
    let (line, at) = find(lines, high, low, length)?;
    let line = lines.line(line)?;
    Some(Cell {
        flags: lines.word(line, at + 2) as u8,
        until_ns: lines.word(line, at + 3),
    })
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
