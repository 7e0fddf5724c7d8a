//! How uses are written down: a head, and a record for each.

use crate::replay::Name;

/// Bytes of a record: name, last second, CRC-32 of both.
pub(super) const RECORD: usize = 24;
/// Bytes before the records.
pub(super) const HEAD: usize = 64;
/// What the file begins with.
const MAGIC: &[u8; 8] = b"pcuses\0\x01";
/// Which boot of the machine (`/proc/sys/kernel/random/boot_id`).
pub type BootId = [u8; 16];

/// The beginning of the file.
#[derive(Clone, Copy, Debug)]
pub(super) struct Head {
    pub(super) boot: BootId,
    /// Length of the file when all of it was on the disk, at an orderly stop.
    pub(super) settled: u64,
    /// Uses of what was issued in this second or before may have been lost; 0 where none was.
    pub(super) unknown: u64,
}

impl Head {
    pub(super) fn to_bytes(self) -> [u8; HEAD] {
        let mut bytes = [0; HEAD];
        bytes[..8].copy_from_slice(MAGIC);
        bytes[8..24].copy_from_slice(&self.boot);
        bytes[24..32].copy_from_slice(&self.settled.to_le_bytes());
        bytes[32..40].copy_from_slice(&self.unknown.to_le_bytes());
        let checksum = crc32fast::hash(&bytes[..40]);
        bytes[40..44].copy_from_slice(&checksum.to_le_bytes());
        bytes
    }

    /// `None` where it is damaged.
    pub(super) fn of(bytes: &[u8]) -> Option<Self> {
        let number = |at: usize| {
            let bytes = bytes.get(at..at + 8)?.try_into().ok()?;
            Some(u64::from_le_bytes(bytes))
        };
        let checksum = u32::from_le_bytes(bytes.get(40..44)?.try_into().ok()?);
        let is_whole = bytes.starts_with(MAGIC) && crc32fast::hash(&bytes[..40]) == checksum;
        is_whole.then_some(Self {
            boot: bytes.get(8..24)?.try_into().ok()?,
            settled: number(24)?,
            unknown: number(32)?,
        })
    }
}

/// A record as it is written.
pub(super) fn record(name: &Name, last: u32) -> [u8; RECORD] {
    let mut bytes = [0; RECORD];
    bytes[..16].copy_from_slice(name);
    bytes[16..20].copy_from_slice(&last.to_le_bytes());
    let checksum = crc32fast::hash(&bytes[..20]);
    bytes[20..].copy_from_slice(&checksum.to_le_bytes());
    bytes
}

/// Name and last second of a record; `None` where it is damaged.
pub(super) fn read_record(bytes: &[u8]) -> Option<(Name, u32)> {
    let (name, rest) = bytes.split_first_chunk::<16>()?;
    let (last, checksum) = rest.split_first_chunk::<4>()?;
    let is_whole = checksum == crc32fast::hash(&bytes[..20]).to_le_bytes();
    is_whole.then_some((*name, u32::from_le_bytes(*last)))
}
