//! What IPv4 and IPv6 differ in, so that the compiler is written once.

use std::hash::Hash;

use ipnet::{IpNet, Ipv4Net, Ipv6Net};
use proxy_common::{
    Cell,
    table::{Code, Full, Header, LinesMut, lay_out, v4, v6},
};

/// Bits that the front of a table tells apart.
pub(crate) const FRONT_BITS: u8 = 24;

/// A prefix of one address family.
pub(crate) trait Family: Copy + Eq + Ord + Hash + Into<IpNet> {
    /// Place in the `LISTS` map.
    const PLACE: u32;

    /// The address in the upper bits of a word as wide as any.
    fn bits(self) -> u128;
    /// The prefix of an address as [`Family::bits`] gives it.
    fn from_bits(bits: u128, length: u8) -> Self;
    /// Bits of the prefix.
    fn length(self) -> u8;
    /// The shortest length held in slots that isn't shorter.
    fn held_length(length: u8) -> u8;
    /// Buckets and lines of a table for this many cells.
    fn size_for(cells: u64) -> Option<(u32, u32)>;
    /// Sets the cell of a prefix of a held length.
    fn put<L: LinesMut>(self, lines: &mut L, cell: Cell) -> Result<(), Full>;
    /// Takes the cell of a prefix of a held length away.
    fn remove<L: LinesMut>(self, lines: &mut L);

    /// The cell of exactly this prefix, of a held length.
    fn cell<L: LinesMut>(self, lines: &L) -> Option<Cell>;
    /// What a table says of an address as [`Family::bits`] gives it.
    fn look_up<L: LinesMut>(lines: &L, address: u128) -> Cell;

    /// Every cell that a table holds.
    fn cells<L: LinesMut>(lines: &L) -> impl Iterator<Item = (Self, Cell)>;

    /// The prefix of this length that this one lies in, or begins.
    fn resized(self, length: u8) -> Self {
        let kept = match length {
            0 => 0,
            length => self.bits() & u128::MAX << (128 - u32::from(length)),
        };
        Self::from_bits(kept, length)
    }

    /// The /24 that it lies in, or begins.
    fn block(self) -> Self {
        self.resized(FRONT_BITS)
    }

    /// Whether the other lies in it.
    fn covers(self, other: Self) -> bool {
        self.length() <= other.length() && other.resized(self.length()) == self
    }

    /// All prefixes of a length, this one's or longer, that lie in it.
    fn split(self, length: u8) -> impl Iterator<Item = Self> {
        let step = 1_u128 << (128 - u32::from(length));
        let count = 1_u64 << (length - self.length());
        (0..u128::from(count)).map(move |n| Self::from_bits(self.bits() + n * step, length))
    }

    /// The prefixes of held lengths that stand for it; it is longer than a /24.
    fn slots(self) -> impl Iterator<Item = Self> {
        self.split(Self::held_length(self.length()))
    }

    /// Place of a /24 in the front.
    fn front_index(self) -> u32 {
        (self.bits() >> (128 - u32::from(FRONT_BITS))) as u32
    }

    /// Sets the code of a /24.
    fn set_code<L: LinesMut>(self, lines: &mut L, code: Code);
}

/// Writes the header of a fresh table for so many buckets.
pub(crate) fn begin<L: LinesMut>(lines: &mut L, buckets: u32, seed: u64) {
    let header = Header {
        bucket_mask: u64::from(buckets) - 1,
        seed,
    };
    lay_out(lines, header);
}

impl Family for Ipv4Net {
    const PLACE: u32 = proxy_common::abi::LISTS_V4;

    fn bits(self) -> u128 {
        u128::from(u32::from(self.network())) << 96
    }

    fn from_bits(bits: u128, length: u8) -> Self {
        Self::new_assert(((bits >> 96) as u32).into(), length)
    }

    fn length(self) -> u8 {
        self.prefix_len()
    }

    fn held_length(length: u8) -> u8 {
        v4::held_length(u32::from(length)) as u8
    }

    fn size_for(cells: u64) -> Option<(u32, u32)> {
        v4::size_for(cells)
    }

    fn put<L: LinesMut>(self, lines: &mut L, cell: Cell) -> Result<(), Full> {
        v4::put(lines, self.network().into(), u32::from(self.length()), cell)
    }

    fn set_code<L: LinesMut>(self, lines: &mut L, code: Code) {
        v4::set_code(lines, self.front_index(), code);
    }

    fn remove<L: LinesMut>(self, lines: &mut L) {
        v4::remove(lines, self.network().into(), u32::from(self.length()));
    }

    fn cell<L: LinesMut>(self, lines: &L) -> Option<Cell> {
        v4::cell(lines, self.network().into(), u32::from(self.length()))
    }

    fn look_up<L: LinesMut>(lines: &L, address: u128) -> Cell {
        v4::look_up(lines, (address >> 96) as u32)
    }

    fn cells<L: LinesMut>(lines: &L) -> impl Iterator<Item = (Self, Cell)> {
        v4::cells(lines).map(|((address, length), cell)| {
            (
                Self::from_bits(u128::from(address) << 96, length as u8),
                cell,
            )
        })
    }
}

impl Family for Ipv6Net {
    const PLACE: u32 = proxy_common::abi::LISTS_V6;

    fn bits(self) -> u128 {
        self.network().into()
    }

    fn from_bits(bits: u128, length: u8) -> Self {
        Self::new_assert(bits.into(), length)
    }

    fn length(self) -> u8 {
        self.prefix_len()
    }

    fn held_length(length: u8) -> u8 {
        v6::held_length(u32::from(length)) as u8
    }

    fn size_for(cells: u64) -> Option<(u32, u32)> {
        v6::size_for(cells)
    }

    fn put<L: LinesMut>(self, lines: &mut L, cell: Cell) -> Result<(), Full> {
        v6::put(lines, halves(self.bits()), u32::from(self.length()), cell)
    }

    fn set_code<L: LinesMut>(self, lines: &mut L, code: Code) {
        v6::set_code(lines, self.front_index(), code);
    }

    fn remove<L: LinesMut>(self, lines: &mut L) {
        v6::remove(lines, halves(self.bits()), u32::from(self.length()));
    }

    fn cell<L: LinesMut>(self, lines: &L) -> Option<Cell> {
        v6::cell(lines, halves(self.bits()), u32::from(self.length()))
    }

    fn look_up<L: LinesMut>(lines: &L, address: u128) -> Cell {
        let (high, low) = halves(address);
        v6::look_up(lines, high, low)
    }

    fn cells<L: LinesMut>(lines: &L) -> impl Iterator<Item = (Self, Cell)> {
        v6::cells(lines).map(|(((high, low), length), cell)| {
            let bits = u128::from(high) << 64 | u128::from(low);
            (Self::from_bits(bits, length as u8), cell)
        })
    }
}

fn halves(bits: u128) -> (u64, u64) {
    ((bits >> 64) as u64, bits as u64)
}
