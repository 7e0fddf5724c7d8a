//! The tables that say what the lists hold of a source, at a cost that doesn't grow with them.
//!
//! A table is an array of 64-byte lines, the value of one BPF array map:
//!
//! ```text
//! lines 0 and 1      header: how the rest is laid out
//! 65,536 lines       front: two bits for every /24, see `Code`
//! 16,512 or 81,920   filters: what the lists say nothing of mostly ends here
//! the rest           slots: a hash table of cells by prefix; each prefix lies in one of two buckets
//! ```
//!
//! The filters answer for almost every clean source. The slots hold for each of a few prefix lengths
//! what *all* lists add up to, so the longest match is the whole answer; prefixes of other lengths are
//! stored as the two to eight of the next length. A /24 that is wholly blocked or trusted has no slot,
//! only a code in the front; `Code::Closer` there says that the slots have the answer. Two buckets of four slots bound every look-up (Azar,
//! Broder, Karlin, Upfal, "Balanced allocations", 1994); there are no chains and no tombstones.
//!
//! The reading half runs in the XDP program, the writing half in the daemon, on the same memory.
//! Every word is written with one store: first the slot, then the filters that lead to it, then the
//! length in the header, and after all cells of a change the codes of the front, so that whoever sees
//! a code sees what it stands for. A reader who found nothing in the slots and then a code that leads
//! to them asks once more.

mod filter;
pub mod v4;
pub mod v6;

use crate::{abi::Line, cell::Cell};

/// Words of 64 bits in one line: a cache line.
pub const LINE_WORDS: usize = 8;
/// Lines before the front.
pub const HEADER_LINES: u32 = 2;
/// Lines of the front: 2²⁴ codes of two bits.
pub const FRONT_LINES: u32 = 1 << 16;

/// Words of the header.
const BUCKET_MASK: usize = 0;
const SEED: usize = 1;
const LENGTHS: usize = 2;

/// Read access to a table's lines.
pub trait Lines {
    /// A line that was found.
    type Line: Copy;
    /// The line at `index`, or `None` past the end.
    fn line(&self, index: u32) -> Option<Self::Line>;
    /// Word `index` (0 to 7) of a line, read once.
    fn word(&self, line: Self::Line, index: usize) -> u64;
    /// The same for an index that only the packet decides; its lower three bits count.
    #[inline(always)]
    fn word_at(&self, line: Self::Line, index: u64) -> u64 {
        self.word(line, (index & 7) as usize)
    }
    /// The word, of which the compiler shall not know where it came from: what is reckoned from it
    /// stays arithmetic. eBPF has no conditional move, and a branch on what a random line holds is
    /// foretold wrongly every other time.
    #[inline(always)]
    fn opaque(&self, word: u64) -> u64 {
        word
    }
}

/// Write access to a table's lines.
pub trait LinesMut: Lines {
    /// Stores a word in one piece, after everything stored before it.
    fn store(&mut self, line: u32, index: usize, word: u64);
}

/// A table in plain memory, for whoever checks the code without a kernel.
impl Lines for &mut [Line] {
    type Line = u32;

    fn line(&self, index: u32) -> Option<u32> {
        ((index as usize) < self.len()).then_some(index)
    }

    fn word(&self, line: u32, index: usize) -> u64 {
        self[line as usize].0[index]
    }
}

impl LinesMut for &mut [Line] {
    fn store(&mut self, line: u32, index: usize, word: u64) {
        self[line as usize].0[index] = word;
    }
}

/// What the front says of a /24.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Code {
    /// No list says anything of any address in it.
    Unlisted = 0,
    /// All of it is dropped, for good.
    Blocked = 1,
    /// All of it is trusted.
    Trusted = 2,
    /// Its addresses differ, or the answer has an end or is only watched: the slots know.
    Closer = 3,
}

/// A slot was needed and both buckets of its prefix were full: the table has to be made anew,
/// larger or with another seed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Full;

/// Why a table could not be laid out.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TooLarge;

/// The shape of a table and the seed of its hash, as its header holds them.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Header {
    /// Buckets minus one; their number is a power of two.
    pub bucket_mask: u64,
    /// Drawn for each table, so that nobody can aim entries at one bucket.
    pub seed: u64,
}

/// Writes the header of a fresh, zeroed table.
pub fn lay_out<L: LinesMut>(lines: &mut L, header: Header) {
    lines.store(0, BUCKET_MASK, header.bucket_mask);
    lines.store(0, SEED, header.seed);
}

/// Most cells of one table.
pub const MOST_CELLS: u64 = (1 << 26) * 7 / 5;

/// Buckets of four slots for this many cells: at most 35 in 100 slots are in use. In a simulation
/// of 20 tables of a million buckets each, filled as [`choose`] does, two found both buckets of a
/// cell full with 35 in 100 in use, and none with 30.
pub(crate) const fn buckets_for(cells: u64) -> Option<u32> {
    if cells > MOST_CELLS {
        return None;
    }
    let buckets = (cells * 5).div_ceil(7).next_power_of_two();
    Some(if buckets < 16 { 16 } else { buckets as u32 })
}

/// The code of the /24 whose upper 24 bits are `index`.
#[inline(always)]
pub fn code<L: Lines>(lines: &L, index: u32) -> Code {
    let Some(line) = lines.line(HEADER_LINES + (index >> 8)) else {
        return Code::Unlisted;
    };
    let word = lines.word_at(line, u64::from(index >> 5));
    match word >> ((index & 31) * 2) & 3 {
        0 => Code::Unlisted,
        1 => Code::Blocked,
        2 => Code::Trusted,
        _ => Code::Closer,
    }
}

/// Sets the code of a /24.
pub fn set_code<L: LinesMut>(lines: &mut L, index: u32, code: Code) {
    let (line, at) = (HEADER_LINES + (index >> 8), (index >> 5 & 7) as usize);
    let Some(found) = lines.line(line) else {
        return;
    };
    let shift = (index & 31) * 2;
    let word = lines.word(found, at) & !(3 << shift) | (code as u64) << shift;
    lines.store(line, at, word);
}

/// How many /24s have another code in the one table than in the other.
pub fn differing_codes<A: Lines, B: Lines>(one: &A, other: &B) -> usize {
    let mut differing = 0;
    for index in HEADER_LINES..HEADER_LINES + FRONT_LINES {
        let (Some(line), Some(other_line)) = (one.line(index), other.line(index)) else {
            continue;
        };
        for at in 0..LINE_WORDS {
            let bits = one.word(line, at) ^ other.word(other_line, at);
            // Two bits a code, of which one is enough to differ.
            differing += ((bits | bits >> 1) & 0x5555_5555_5555_5555).count_ones() as usize;
        }
    }
    differing
}

/// What a uniform /24 adds up to; `None` where the slots have to be asked.
#[inline(always)]
pub const fn uniform(code: Code) -> Option<Cell> {
    match code {
        Code::Unlisted => Some(Cell::UNLISTED),
        Code::Blocked => Some(Cell::blocked(0)),
        Code::Trusted => Some(Cell::trusted()),
        Code::Closer => None,
    }
}

/// The code that says all a cell says, or [`Code::Closer`].
pub fn code_of(cell: Option<Cell>) -> Code {
    match cell {
        None => Code::Unlisted,
        Some(cell) if cell.flags & Cell::TRUSTED != 0 => Code::Trusted,
        Some(cell) if cell == Cell::blocked(0) => Code::Blocked,
        Some(_) => Code::Closer,
    }
}

/// A bijection on words in which every input bit reaches every output bit: the finaliser of
/// splitmix64 (Steele, Lea, Flood, "Fast splittable pseudorandom number generators", 2014).
#[inline(always)]
pub const fn mix(word: u64) -> u64 {
    let word = (word ^ word >> 30).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    let word = (word ^ word >> 27).wrapping_mul(0x94d0_49bb_1331_11eb);
    word ^ word >> 31
}

/// The first of two buckets as long as half of it is free, else the emptier, given their free slots.
/// That leaves one cell in ten in its second bucket at most, so that a reader who asks the first
/// seldom has to ask again.
fn choose(free: [usize; 2]) -> Option<usize> {
    if free[0] > 2 || free[0] > 0 && free[0] >= free[1] {
        return Some(0);
    }
    (free[1] > 0).then_some(1)
}

/// 1 for zero, 0 for any other word.
#[inline(always)]
fn is_zero<L: Lines>(lines: &L, word: u64) -> u64 {
    // The sign of `word | -word` is that of any word but zero.
    (lines.opaque(word | word.wrapping_neg()) >> 63) ^ 1
}

/// Marks a prefix length as one that front or slots hold.
fn add_length<L: LinesMut>(lines: &mut L, index: u32) {
    let Some(header) = lines.line(0) else {
        return;
    };
    let lengths = lines.word(header, LENGTHS);
    if lengths & 1 << index == 0 {
        lines.store(0, LENGTHS, lengths | 1 << index);
    }
}

/// Stores flags and end of a cell so that no reader sees a drop or a pass that neither the old nor
/// the new cell means: an end before the flag that makes it end a drop, and after one that is
/// taken away. A reader loads the flags after the end, so that it never puts a new end to old
/// flags: an end of 0 would make a block of a ban that has ended. It has found the key in the slot
/// before that, so that the end isn't that of another prefix, whose slot it was.
fn store_cell<L: LinesMut>(
    lines: &mut L,
    line: u32,
    (word_at, until_at): (usize, usize),
    word: u64,
    cell: Cell,
) {
    if cell.flags & Cell::ENFORCED != 0 {
        lines.store(line, until_at, cell.until_ns);
        lines.store(line, word_at, word);
    } else {
        lines.store(line, word_at, word);
        lines.store(line, until_at, cell.until_ns);
    }
}

#[cfg(test)]
mod tests;
