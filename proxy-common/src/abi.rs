//! The layout of what the XDP program and the daemon share through maps.
//!
//! Every integer is in the host's byte order, which both sides share; addresses are in network
//! byte order. A change of any layout or meaning here raises [`ABI_VERSION`].

use crate::{
    gcra::Gcra,
    limit::{Limit, LimitSetting},
    table::LINE_WORDS,
};

/// Version of everything in this module, of [`crate::table`], [`crate::Reason`] and the map names.
///
/// A daemon adopts pinned maps only when they carry the same version.
pub const ABI_VERSION: u32 = 4;

/// Places of the `LISTS` map, an array of tables (see [`crate::table`]).
pub const LISTS_V4: u32 = 0;
/// See [`LISTS_V4`].
pub const LISTS_V6: u32 = 1;
/// Tables that `LISTS` holds.
pub const LISTS_LEN: usize = 2;

/// Flags of each table: `BPF_F_MMAPABLE` (Linux 5.5), because the daemon writes a million cells
/// through a mapping, and `BPF_F_INNER_MAP` (Linux 5.10), because tables differ in size.
pub const TABLE_FLAGS: u32 = 1 << 10 | 1 << 12;

/// Sets of buckets of each limit (see [`crate::bucket`]): 512 KiB, so that the usual limit's stay in
/// a core's second-level cache beside the filter of IPv4. With a thousand sources over their limits
/// a newcomer shares one's bucket when it has its tag, one time in 4,200, or when all four buckets of
/// its set are theirs, one time in two million. Must be a power of two.
pub const RATE_SETS: u32 = 1 << 14;

/// Bytes of the ring buffer that carries drop samples to the daemon.
pub const SAMPLE_RING_BYTES: u32 = 256 * 1024;

/// One line of a table.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(C, align(8))]
pub struct Line(pub [u64; LINE_WORDS]);

/// By which of its first bits a source is counted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(C)]
pub struct KeyLengths {
    /// Ones where an IPv6 address counts, upper half first.
    pub mask_v6: [u64; 2],
    /// Ones where an IPv4 address counts.
    pub mask_v4: u32,
    /// Always zero; fills the struct to a multiple of eight bytes.
    pub reserved: u32,
}

impl KeyLengths {
    /// Counts by the first `v4` (0 to 32) and `v6` (0 to 128) bits.
    pub const fn new(v4: u32, v6: u32) -> Self {
        let v6 = match v6 {
            0 => 0,
            v6 => u128::MAX << (128 - v6),
        };
        Self {
            mask_v6: [(v6 >> 64) as u64, v6 as u64],
            mask_v4: match v4 {
                0 => 0,
                v4 => u32::MAX << (32 - v4),
            },
            reserved: 0,
        }
    }
}

/// Which packets the lists judge.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[repr(u32)]
pub enum Scope {
    /// All that come in.
    #[default]
    All = 0,
    /// TCP only by the segment that opens a connection, so that replies from a listed address to
    /// the host's own connections still arrive; everything else as under [`Scope::All`].
    NewInboundOnly = 1,
}

/// What the daemon tells the program; the only entry of the `SETTINGS` map.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(C)]
pub struct Settings {
    /// [`ABI_VERSION`] of the daemon that made the maps.
    pub abi_version: u32,
    /// [`Scope`] as its discriminant.
    pub scope: u32,
    /// Key of the hash that places sources among rate buckets; drawn when the maps are made, then kept.
    pub hash_key: [u64; 2],
    /// How sources are told apart.
    pub source_key: KeyLengths,
    /// How aggregates are told apart.
    pub aggregate_key: KeyLengths,
    /// Drop samples a CPU may put into the ring.
    pub sample_rate: Gcra,
    /// Bit `n` says that the limit with discriminant `n` is on.
    pub limits_on: u32,
    /// Length of a tick of the kernel's timer, by which limits are timed.
    pub tick_ns: u32,
    /// How old the daemon's last sign of life may be before everything passes; 0 for as old as you
    /// like.
    pub fail_open_after_ns: u64,
    /// By discriminant of [`Limit`].
    pub limits: [LimitSetting; Limit::COUNT],
}

/// Whose packets the traced program tells of; the only entry of the `TRACE_TARGET` map.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(C)]
pub struct TraceTarget {
    /// Halves of an IPv6 address, IPv4 as v4-mapped.
    pub address: [u64; 2],
    /// Ones where the address counts.
    pub mask: [u64; 2],
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
    /// 1 when its list or limit only watches: the packet passed.
    pub monitored: u32,
    /// Packets against a list or limit that this CPU had since its sample before, with this one.
    pub stands_for: u64,
}

/// Which samples a CPU has sent; the only entry of the `SAMPLING` map.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[repr(C)]
pub struct Sampling {
    /// When it may send the next one: a GCRA bucket, see [`Settings::sample_rate`].
    pub tat_ns: u64,
    /// Packets that no sample has stood for yet.
    pub untold: u64,
}

const _: () = assert!(size_of::<Line>() == 64);
const _: () = assert!(size_of::<KeyLengths>() == 24);
const _: () = assert!(size_of::<LimitSetting>() == 24);
const _: () = assert!(size_of::<Settings>() == 104 + 24 * Limit::COUNT);
const _: () = assert!(size_of::<TraceTarget>() == 32);
const _: () = assert!(size_of::<Counter>() == 16);
const _: () = assert!(size_of::<Sampling>() == 16);
const _: () = assert!(size_of::<DropSample>() == 48);
const _: () = assert!(RATE_SETS.is_power_of_two());

#[cfg(feature = "aya")]
mod plain_old_data {
    #![expect(
        unsafe_code,
        reason = "aya asks for the promise that a type is plain old data"
    )]
    use super::{Counter, Line, Settings, TraceTarget};

    // SAFETY: `repr(C)`, integers only, no padding (asserted by the sizes above), any bits valid.
    unsafe impl aya::Pod for Line {}
    // SAFETY: as above.
    unsafe impl aya::Pod for Counter {}
    // SAFETY: as above.
    unsafe impl aya::Pod for Settings {}
    // SAFETY: as above.
    unsafe impl aya::Pod for TraceTarget {}
}
