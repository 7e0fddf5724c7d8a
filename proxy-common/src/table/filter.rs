//! A Bloom filter of words: what isn't in a table mostly ends here, in one load.
//!
//! Each key sets three bits of one 64-bit word (Putze, Sanders, Singler, "Cache-, hash- and
//! space-efficient Bloom filters", 2007). Bits stay when a key goes, until the table is made anew.

use super::{Lines, LinesMut};

/// Where a filter lies in its table, and how large it is.
#[derive(Clone, Copy, Debug)]
pub(super) struct Filter {
    first_line: u32,
    word_bits: u32,
}

impl Filter {
    /// 2^`word_bits` words from a line on.
    pub(super) const fn new(first_line: u32, word_bits: u32) -> Self {
        Self {
            first_line,
            word_bits,
        }
    }

    /// The line behind its last.
    pub(super) const fn end(self) -> u32 {
        self.first_line + (1 << (self.word_bits - 3))
    }

    /// Line, word and bits of a key, from the upper bits of its hash.
    #[inline(always)]
    const fn place(self, hash: u64) -> (u32, usize, u64) {
        let bits = 1 << (hash >> 26 & 63) | 1 << (hash >> 32 & 63) | 1 << (hash >> 38 & 63);
        let word = hash >> (64 - self.word_bits);
        (
            self.first_line + (word >> 3) as u32,
            (word & 7) as usize,
            bits,
        )
    }

    /// Whether a key with this hash may have been added.
    #[inline(always)]
    pub(super) fn may_hold<L: Lines>(self, lines: &L, hash: u64) -> bool {
        let (line, word, bits) = self.place(hash);
        let Some(line) = lines.line(line) else {
            return false;
        };
        lines.word_at(line, word as u64) & bits == bits
    }

    /// Adds a key by its hash.
    pub(super) fn add<L: LinesMut>(self, lines: &mut L, hash: u64) {
        let (line, word, bits) = self.place(hash);
        let Some(found) = lines.line(line) else {
            return;
        };
        let before = lines.word(found, word);
        if before & bits != bits {
            lines.store(line, word, before | bits);
        }
    }
}

/// The upper bits of a product with an odd number depend on every bit of the key (multiplicative
/// hashing: Knuth, "The Art of Computer Programming" 3, 6.4; the number is the golden ratio's).
#[inline(always)]
pub(super) const fn spread(key: u64) -> u64 {
    key.wrapping_mul(0x9e37_79b9_7f4a_7c15)
}
