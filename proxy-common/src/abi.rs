//! The layout of what the XDP program and the daemon share through maps.
//!
//! Every integer is in the host's byte order, which both sides share; addresses are in network
//! byte order. A change of any layout or meaning here raises [`ABI_VERSION`].

use crate::gcra::Gcra;

/// Version of everything in this module, [`crate::Reason`] and the map names.
///
/// A daemon adopts pinned maps only when they carry the same version.
pub const ABI_VERSION: u32 = 1;

/// Most prefixes a trie holds, for each of IPv4 and IPv6. Tries grow as they fill (they can't be
/// preallocated), so an unused one costs nothing.
pub const MAX_PREFIXES: u32 = 4_000_000;

/// Lines of the limiter's table: 2¹⁵ lines of eight buckets make 2 MiB. Must be a power of two.
pub const RATE_LINES: u32 = 1 << 15;

/// Buckets in one line: eight times eight bytes fill a cache line, so that both buckets of a
/// source cost one miss.
pub const RATE_LINE_BUCKETS: usize = 8;

/// Bytes of the ring buffer that carries drop samples to the daemon.
pub const SAMPLE_RING_BYTES: u32 = 256 * 1024;

/// What the longest matching prefix says about a source.
///
/// Userspace compiles overlapping lists down to this: a cell already holds what *all* the
/// prefixes that cover its addresses add up to, so one look-up is the whole answer.
/// `until_ns` is split in two because the kernel places a trie's value right behind a four-byte
/// key, where a `u64` would be misaligned.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[repr(C)]
pub struct Cell {
    /// [`Cell::TRUSTED`] or [`Cell::BLOCKED`]; trusted wins when both are set.
    pub flags: u32,
    until_ns_low: u32,
    until_ns_high: u32,
}

impl Cell {
    /// Set on a trusted prefix.
    pub const TRUSTED: u32 = 1;
    /// Set on a blocked or banned prefix.
    pub const BLOCKED: u32 = 2;

    /// A trusted prefix.
    pub const fn trusted() -> Self {
        Self::new(Self::TRUSTED, 0)
    }

    /// A prefix blocked until `CLOCK_BOOTTIME` reads `until_ns`, or for good when that is 0.
    pub const fn blocked(until_ns: u64) -> Self {
        Self::new(Self::BLOCKED, until_ns)
    }

    const fn new(flags: u32, until_ns: u64) -> Self {
        Self {
            flags,
            until_ns_low: until_ns as u32,
            until_ns_high: (until_ns >> 32) as u32,
        }
    }

    /// When the block ends, in nanoseconds of `CLOCK_BOOTTIME`; 0 means never.
    #[inline(always)]
    pub const fn until_ns(&self) -> u64 {
        (self.until_ns_high as u64) << 32 | self.until_ns_low as u64
    }
}

/// What the daemon tells the program; the only entry of the `SETTINGS` map.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(C)]
pub struct Settings {
    /// [`ABI_VERSION`] of the daemon that made the maps.
    pub abi_version: u32,
    /// Always zero; keeps the next field on its natural alignment without hidden padding.
    pub reserved: u32,
    /// Key of the hash that picks rate buckets; drawn when the maps are made, then kept.
    pub hash_key: [u64; 2],
    /// Packets a source (IPv4 /32, IPv6 /64) may send.
    pub source_rate: Gcra,
    /// Drop samples a CPU may put into the ring.
    pub sample_rate: Gcra,
}

/// Packets and bytes of one reason on one CPU.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[repr(C)]
pub struct Counter {
    /// Frames counted.
    pub packets: u64,
    /// Their bytes, from the Ethernet header on.
    pub bytes: u64,
}

/// One line of the limiter's table: the theoretical arrival times of eight buckets.
#[derive(Clone, Copy, Debug)]
#[repr(C, align(8))]
pub struct RateLine {
    /// See [`Gcra::admit`].
    pub tat_ns: [u64; RATE_LINE_BUCKETS],
}

/// One dropped packet, as the ring buffer carries it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(C)]
pub struct DropSample {
    /// `CLOCK_BOOTTIME` of the drop.
    pub at_ns: u64,
    /// Source address in network byte order, upper half first; IPv4 as v4-mapped IPv6 (RFC 4291,
    /// 2.5.5.2). Zero when it was out of reach.
    pub source: [u64; 2],
    /// [`crate::Reason`] as its discriminant.
    pub reason: u32,
    /// Interface the packet came in on.
    pub ifindex: u32,
    /// Length of the frame in bytes.
    pub frame_bytes: u32,
    /// Always zero; fills the struct to a multiple of eight bytes.
    pub reserved: u32,
}

const _: () = assert!(size_of::<Cell>() == 12);
const _: () = assert!(size_of::<Settings>() == 56);
const _: () = assert!(size_of::<Counter>() == 16);
const _: () = assert!(size_of::<RateLine>() == 64);
const _: () = assert!(size_of::<DropSample>() == 40);
const _: () = assert!(RATE_LINES.is_power_of_two());

#[cfg(feature = "aya")]
mod plain_old_data {
    #![expect(
        unsafe_code,
        reason = "aya asks for the promise that a type is plain old data"
    )]
    use super::{Cell, Counter, Settings};

    // SAFETY: `repr(C)`, integers only, no padding (asserted by the sizes above), any bits valid.
    unsafe impl aya::Pod for Cell {}
    // SAFETY: as above.
    unsafe impl aya::Pod for Counter {}
    // SAFETY: as above.
    unsafe impl aya::Pod for Settings {}
}

#[cfg(test)]
mod tests {
    use super::Cell;

    #[test]
    fn a_cell_gives_back_the_expiry_it_was_made_with() {
        for until_ns in [0, 1, u64::from(u32::MAX), 1 << 32, u64::MAX] {
            assert_eq!(Cell::blocked(until_ns).until_ns(), until_ns);
        }
    }
}
