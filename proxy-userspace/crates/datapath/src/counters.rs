//! What the program counted, and the samples of its drops.

use std::{
    net::{IpAddr, Ipv6Addr},
    os::fd::{AsFd, BorrowedFd},
};

use aya::maps::{Map, MapData, MapError, PerCpuArray, RingBuf};
use proxy_common::{Counter, DropSample, Reason};

use crate::{
    error::{DatapathError, While as _},
    pins::Pins,
};

/// What one reason added up to over all CPUs since the maps were made.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ReasonCount {
    /// The reason.
    pub reason: Reason,
    /// Its list or limit only watched: the packets passed.
    pub monitored: bool,
    /// Frames.
    pub packets: u64,
    /// Their bytes, from the Ethernet header on.
    pub bytes: u64,
}

/// Sums the per-CPU counters; nothing stops while they are read. First every reason, then every
/// drop that was only watched.
pub(crate) fn read(counters: &PerCpuArray<MapData, Counter>) -> Result<Vec<ReasonCount>, MapError> {
    let enforced = Reason::ALL.into_iter().map(|reason| (reason, false));
    let monitored = Reason::ALL
        .into_iter()
        .filter(|reason| reason.drops())
        .map(|reason| (reason, true));
    enforced
        .chain(monitored)
        .map(|(reason, monitored)| {
            let per_cpu = counters.get(&reason.slot(monitored), 0)?;
            Ok(ReasonCount {
                reason,
                monitored,
                packets: per_cpu.iter().map(|counter| counter.packets).sum(),
                bytes: per_cpu.iter().map(|counter| counter.bytes).sum(),
            })
        })
        .collect()
}

/// The counters of a Portcullis that runs or ran, opened by their pin: for tools that measure
/// without asking the daemon.
pub struct PinnedCounters {
    map: PerCpuArray<MapData, Counter>,
}

impl PinnedCounters {
    /// Opens the pin.
    ///
    /// # Errors
    /// [`DatapathError::Kernel`] when there is none, or of another shape.
    pub fn open(pins: &Pins) -> Result<Self, DatapathError> {
        let map = MapData::from_pin(pins.map("COUNTERS"))
            .and_then(Map::from_map_data)
            .and_then(PerCpuArray::try_from)
            .while_trying_to("open the pinned counters")?;
        Ok(Self { map })
    }

    /// Packets of one reason since the map was made.
    ///
    /// # Errors
    /// [`DatapathError::Kernel`] when it can't be read.
    pub fn packets(&self, reason: Reason) -> Result<u64, DatapathError> {
        let per_cpu = self
            .map
            .get(&(reason as u32), 0)
            .while_trying_to("read a counter")?;
        Ok(per_cpu.iter().map(|counter| counter.packets).sum())
    }
}

/// One dropped packet.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Drop {
    /// `CLOCK_BOOTTIME` of the drop in nanoseconds.
    pub at_ns: u64,
    /// Its source, where that could be read.
    pub source: Option<IpAddr>,
    /// Why.
    pub reason: Reason,
    /// Its list or limit only watches: it would have been dropped, and passed.
    pub monitored: bool,
    /// Index of the interface it came in on.
    pub ifindex: u32,
    /// Length of the frame.
    pub frame_bytes: u32,
    /// Packets against a list or limit that its CPU had since the sample before, with this one.
    pub stands_for: u64,
}

/// The ring buffer of drop samples. Its descriptor polls readable when there are some.
pub struct Samples {
    ring: RingBuf<MapData>,
}

impl Samples {
    pub(crate) fn new(map: Map) -> Result<Self, MapError> {
        Ok(Self {
            ring: map.try_into()?,
        })
    }

    /// Takes the next sample, or `None` when the ring is empty for now.
    ///
    /// What doesn't parse (a program of another version wrote it) is skipped.
    pub fn next_drop(&mut self) -> Option<Drop> {
        loop {
            let item = self.ring.next()?;
            if let Some(sample) = parse(&item) {
                return Some(sample);
            }
        }
    }
}

impl AsFd for Samples {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.ring.as_fd()
    }
}

/// Reads a [`DropSample`] field by field in the order of its `repr(C)` layout.
fn parse(bytes: &[u8]) -> Option<Drop> {
    if bytes.len() < size_of::<DropSample>() {
        return None;
    }
    let source: [u8; 16] = *bytes.get(8..)?.first_chunk()?;
    let word = |offset: usize| -> Option<u32> {
        Some(u32::from_ne_bytes(*bytes.get(offset..)?.first_chunk()?))
    };
    Some(Drop {
        at_ns: u64::from_ne_bytes(*bytes.first_chunk()?),
        source: (source != [0; 16]).then(|| IpAddr::from(Ipv6Addr::from(source)).to_canonical()),
        reason: Reason::from_index(word(24)?)?,
        ifindex: word(28)?,
        frame_bytes: word(32)?,
        monitored: word(36)? != 0,
        stands_for: u64::from_ne_bytes(*bytes.get(40..)?.first_chunk()?),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reads_a_sample_back_field_by_field() {
        let mut bytes = Vec::new();
        bytes.extend(77_u64.to_ne_bytes());
        bytes.extend(
            "::ffff:192.0.2.9"
                .parse::<Ipv6Addr>()
                .expect("an address")
                .octets(),
        );
        for word in [Reason::SourcePackets as u32, 3, 60, 1] {
            bytes.extend(word.to_ne_bytes());
        }
        bytes.extend(9_u64.to_ne_bytes());
        assert_eq!(bytes.len(), size_of::<DropSample>());
        let drop = parse(&bytes).expect("a whole sample");
        assert_eq!(drop.at_ns, 77);
        assert_eq!(drop.source, Some("192.0.2.9".parse().expect("an address")));
        assert_eq!(drop.reason, Reason::SourcePackets);
        assert!(drop.monitored);
        assert_eq!((drop.ifindex, drop.frame_bytes), (3, 60));
        assert_eq!(drop.stands_for, 9);
        assert_eq!(parse(&bytes[..47]), None);
    }
}
