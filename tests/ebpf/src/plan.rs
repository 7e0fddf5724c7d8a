//! What the benchmark tells the generator. Both compile this file: the generator as a module, the
//! benchmark by its path, so that the two can't differ.
//!
//! Integers are in the host's byte order, except where network byte order is stated.

/// The address of a list's entry with this index, as a number: distinct for distinct indexes, without
/// a pattern (the 32-bit finaliser "lowbias32" of Wellons, "Prospecting for hash functions", 2018).
///
/// Reckoned and not looked up: a list of the generator's own would take the second-level cache from
/// the program under test, which a network card doesn't.
#[inline(always)]
pub(crate) const fn listed_v4(index: u32) -> u32 {
    let word = index + 1;
    let word = (word ^ word >> 16).wrapping_mul(0x7feb_352d);
    let word = (word ^ word >> 15).wrapping_mul(0x846c_a68b);
    word ^ word >> 16
}

/// The same for IPv6, by its halves, from 2000::/3.
#[inline(always)]
pub(crate) const fn listed_v6(index: u32) -> (u64, u64) {
    // Far from the numbers of `Sources::Spoofed`.
    let number = (1 << 40) + 2 * index as u64;
    (spread(number) >> 3 | 1 << 61, spread(number + 1))
}

/// One step of splitmix64's output function: a bijection that leaves no pattern.
#[inline(always)]
pub(crate) const fn spread(number: u64) -> u64 {
    let word = (number + 1).wrapping_mul(0x9e37_79b9_7f4a_7c15);
    let word = (word ^ word >> 30).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    word ^ word >> 27
}

/// Distinct sources of [`Sources::Spoofed`].
pub(crate) const SPOOFED: u32 = 1_000_000;

/// Where the sources come from; the discriminant is [`Plan::sources`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u32)]
pub(crate) enum Sources {
    /// Uniformly random: all of IPv4, or 2000::/3.
    Random = 0,
    /// Uniformly from the list.
    Listed = 1,
    /// Every other packet from the list, the others random.
    Mixed = 2,
    /// Uniformly from a million spread over the address space.
    Spoofed = 3,
    /// Uniformly random within the /32 of [`Plan::fixed`]: IPv6 only.
    InPrefix = 4,
    /// Only [`Plan::fixed`], a packet every [`Plan::every_ns`], nothing between.
    Fixed = 5,
    /// Innocents in turn, a packet every [`Plan::every_ns`]; between them, half and half, heavy
    /// sources in turn and spoofed ones. IPv4 only.
    Flood = 6,
}

/// The first of the innocent sources in [`Sources::Flood`]: 198.18.0.0 (RFC 2544).
pub(crate) const INNOCENTS_FROM: u32 = 0xc612_0000;
/// How many innocents there are.
pub(crate) const INNOCENTS: u32 = 2_000;
/// The first of the heavy sources in [`Sources::Flood`]: 198.19.0.0 (RFC 2544).
pub(crate) const HEAVY_FROM: u32 = 0xc613_0000;
/// How many heavy sources there are.
pub(crate) const HEAVY: u32 = 1_000;

/// What a source is in [`Sources::Flood`]; index into the generator's and the arrivals' counters.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u32)]
pub(crate) enum Class {
    /// Within its limit.
    Innocent = 0,
    /// Over its limit.
    Heavy = 1,
    /// Everybody else.
    Other = 2,
}

/// The only entry of the generator's map `PLAN`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(C)]
pub(crate) struct Plan {
    /// [`Sources`].
    pub(crate) sources: u32,
    /// 4 or 6.
    pub(crate) version: u32,
    /// Interface to send through.
    pub(crate) ifindex: u32,
    /// How many of the list's entries are sent from, its first.
    pub(crate) listed: u32,
    /// Sum of the IPv4 header's words without source and checksum, folded to 16 bits.
    pub(crate) header_sum: u32,
    /// Always zero; keeps the next field on its natural alignment.
    pub(crate) reserved: u32,
    /// The one source, or the prefix, in network byte order; IPv4 in the first four bytes.
    pub(crate) fixed: [u64; 2],
    /// Gap between two paced packets.
    pub(crate) every_ns: u64,
}

/// 64-bit words that a [`Plan`] takes.
pub(crate) const PLAN_WORDS: usize = 6;

const _: () = assert!(size_of::<Plan>() == PLAN_WORDS * 8);
