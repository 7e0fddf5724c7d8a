//! Finds a packet's source address in one bounded walk.
//!
//! The parser is generic over where bytes come from: the XDP program reads a frame through
//! checked pointers, tests and fuzz targets read a slice. It never looks past what it needs, and
//! what it can't read it names.

use crate::{
    abi::KeyLengths,
    table::mix,
    upper::{self, Upper},
    verdict::Reason,
};

/// Bounds-checked access to a frame: big-endian integers, or `None` where the frame ends first.
///
/// Whole words, not byte arrays: on the BPF target an array is loaded, spilled and compared byte
/// by byte.
pub trait Bytes {
    /// The byte at `offset`.
    fn u8(&self, offset: usize) -> Option<u8>;
    /// Two bytes from `offset` on.
    fn u16(&self, offset: usize) -> Option<u16>;
    /// Four bytes from `offset` on.
    fn u32(&self, offset: usize) -> Option<u32>;
    /// Eight bytes from `offset` on.
    fn u64(&self, offset: usize) -> Option<u64>;
    /// Bytes that can be read: the whole frame, or the first buffer of one that came in several.
    fn frame_bytes(&self) -> usize;
    /// Length of the whole frame in bytes, whatever can be read of it.
    fn whole_bytes(&self) -> usize {
        self.frame_bytes()
    }
    /// See [`upper::walk_extensions`]; the kernel walks in a function of its own.
    ///
    /// # Errors
    /// As there.
    fn walk_extensions(&self, next_header: u8, offset: usize, end: usize) -> Result<Upper, Reason>
    where
        Self: Sized,
    {
        upper::walk_extensions(self, next_header, offset, end)
    }
}

impl Bytes for &[u8] {
    fn u8(&self, offset: usize) -> Option<u8> {
        self.get(offset).copied()
    }

    fn u16(&self, offset: usize) -> Option<u16> {
        Some(u16::from_be_bytes(*self.get(offset..)?.first_chunk()?))
    }

    fn u32(&self, offset: usize) -> Option<u32> {
        Some(u32::from_be_bytes(*self.get(offset..)?.first_chunk()?))
    }

    fn u64(&self, offset: usize) -> Option<u64> {
        Some(u64::from_be_bytes(*self.get(offset..)?.first_chunk()?))
    }

    fn frame_bytes(&self) -> usize {
        self.len()
    }
}

/// VLAN tags that are walked: a customer tag inside a service tag (IEEE 802.1ad).
pub const MAX_VLAN_TAGS: usize = 2;

const ETHERNET_BYTES: usize = 14;
const VLAN_TAG_BYTES: usize = 4;
const IPV4_BYTES: usize = 20;
const IPV6_BYTES: usize = 40;

const ETHERTYPE_IPV4: u16 = 0x0800;
const ETHERTYPE_IPV6: u16 = 0x86dd;
const ETHERTYPE_VLAN: [u16; 3] = [0x8100, 0x88a8, 0x9100];

/// A v4-mapped IPv6 address (RFC 4291, 2.5.5.2) has these upper bits in its lower half, and an
/// upper half of zero.
const V4_MAPPED: u64 = 0xffff_0000_0000;

/// Where a packet says it comes from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Source {
    /// An IPv4 address, also one that was written as v4-mapped IPv6: both get one verdict.
    V4(u32),
    /// Any other IPv6 address, as its upper and lower half.
    V6(u64, u64),
}

impl Source {
    /// An IPv6 address by its halves. `::ffff:a.b.c.d` is the IPv4 address: writing a source that
    /// way must not lead around a list.
    #[inline(always)]
    pub const fn from_ipv6(high: u64, low: u64) -> Self {
        if high == 0 && low & !0xffff_ffff == V4_MAPPED {
            Self::V4(low as u32)
        } else {
            Self::V6(high, low)
        }
    }

    /// The address as the halves of an IPv6 address, IPv4 as v4-mapped.
    #[inline(always)]
    pub const fn to_ipv6(self) -> (u64, u64) {
        match self {
            Self::V4(address) => (0, V4_MAPPED | address as u64),
            Self::V6(high, low) => (high, low),
        }
    }

    /// The address under which the limiter counts this source: its first bits.
    ///
    /// One IPv6 customer holds at least a /64, so counting single addresses would hand out 2⁶⁴
    /// limits. Link-local neighbours all share fe80::/64 and are always told apart.
    #[inline(always)]
    pub const fn rate_key(self, lengths: &KeyLengths) -> u64 {
        match self {
            // No unicast prefix begins with ffff, so this never meets an IPv6 one.
            Self::V4(address) => 0xffff_ffff_0000_0000 | (address & lengths.mask_v4) as u64,
            Self::V6(high, low) if high >> 54 == 0xfe80 >> 6 => low,
            Self::V6(high, low) if lengths.mask_v6[1] == 0 => {
                let _ = low;
                high & lengths.mask_v6[0]
            }
            Self::V6(high, low) => mix(high & lengths.mask_v6[0]) ^ low & lengths.mask_v6[1],
        }
    }
}

/// A packet whose addresses have been read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Packet {
    /// Its source address.
    pub source: Source,
    pub(crate) ip: Ip,
    /// Offset behind the IP packet's last byte; padding may follow.
    pub(crate) end: usize,
}

impl Packet {
    /// Length of the frame up to the packet's end: Ethernet header, tags and packet, no padding.
    #[inline(always)]
    pub const fn end(&self) -> usize {
        self.end
    }
}

/// What the rest of the walk needs of the IP header.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Ip {
    V4 {
        protocol: u8,
        fragment: u16,
        total_bytes: u16,
        destination: u32,
        upper_offset: usize,
    },
    V6 {
        next_header: u8,
        hop_limit: u8,
        total_bytes: u16,
        destination: (u64, u64),
        upper_offset: usize,
    },
}

/// What a frame turned out to be before any list was asked.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Judgement {
    /// Nothing to judge, or nothing that could be: the reason says whether it passes.
    Decided(Reason),
    /// It has a source address.
    Judge(Packet),
}

/// Reads a frame from its Ethernet header to its IP addresses.
#[inline(always)]
pub fn parse<B: Bytes>(frame: &B) -> Judgement {
    match locate_ip(frame) {
        Ok(Some((ETHERTYPE_IPV4, offset))) => match parse_ipv4(frame, offset) {
            Some(packet) => Judgement::Judge(packet),
            None => Judgement::Decided(Reason::Malformed),
        },
        Ok(Some((_, offset))) => match parse_ipv6(frame, offset) {
            Some(packet) => Judgement::Judge(packet),
            None => Judgement::Decided(Reason::Malformed),
        },
        Ok(None) => Judgement::Decided(Reason::NotIp),
        Err(reason) => Judgement::Decided(reason),
    }
}

/// The EtherType (IPv4 or IPv6) and the offset of the IP header; `Ok(None)` when it is neither.
#[inline(always)]
fn locate_ip<B: Bytes>(frame: &B) -> Result<Option<(u16, usize)>, Reason> {
    let mut type_offset = ETHERNET_BYTES - 2;
    for _ in 0..=MAX_VLAN_TAGS {
        let ethertype = frame.u16(type_offset).ok_or(Reason::Malformed)?;
        if ethertype == ETHERTYPE_IPV4 || ethertype == ETHERTYPE_IPV6 {
            return Ok(Some((ethertype, type_offset + 2)));
        }
        if !is_vlan(ethertype) {
            return Ok(None);
        }
        type_offset += VLAN_TAG_BYTES;
    }
    Err(Reason::VlanTooDeep)
}

#[inline(always)]
const fn is_vlan(ethertype: u16) -> bool {
    ethertype == ETHERTYPE_VLAN[0]
        || ethertype == ETHERTYPE_VLAN[1]
        || ethertype == ETHERTYPE_VLAN[2]
}

/// `None` for a header that is cut off or contradicts itself or the frame (RFC 1122, 3.2.1).
#[inline(always)]
fn parse_ipv4<B: Bytes>(frame: &B, offset: usize) -> Option<Packet> {
    // Whole words: each load is checked against the frame's end.
    let destination = frame.u32(offset + 16)?;
    let first = frame.u64(offset)?;
    let second = frame.u64(offset + 8)?;
    let version_and_words = (first >> 56) as u8;
    let total_bytes = (first >> 32) as u16;
    let fragment = first as u16;
    let protocol = (second >> 48) as u8;
    let source = second as u32;
    let header_bytes = usize::from(version_and_words & 0x0f) * 4;
    let end = offset + usize::from(total_bytes);
    if version_and_words >> 4 != 4
        || header_bytes < IPV4_BYTES
        || usize::from(total_bytes) < header_bytes
        || is_past(frame, end)
    {
        return None;
    }
    Some(Packet {
        source: Source::V4(source),
        ip: Ip::V4 {
            protocol,
            fragment,
            total_bytes,
            destination,
            upper_offset: offset + header_bytes,
        },
        end,
    })
}

/// `None` for a header that is cut off or contradicts itself or the frame.
#[inline(always)]
fn parse_ipv6<B: Bytes>(frame: &B, offset: usize) -> Option<Packet> {
    let destination = (frame.u64(offset + 24)?, frame.u64(offset + 32)?);
    let source = Source::from_ipv6(frame.u64(offset + 8)?, frame.u64(offset + 16)?);
    let first = frame.u64(offset)?;
    let version = first >> 60;
    let payload_bytes = (first >> 16) as u16;
    let next_header = (first >> 8) as u8;
    let hop_limit = first as u8;
    let end = offset + IPV6_BYTES + usize::from(payload_bytes);
    if version != 6 || is_past(frame, end) {
        return None;
    }
    Some(Packet {
        source,
        ip: Ip::V6 {
            next_header,
            hop_limit,
            total_bytes: payload_bytes.saturating_add(IPV6_BYTES as u16),
            destination,
            upper_offset: offset + IPV6_BYTES,
        },
        end,
    })
}

/// Whether a packet claims more bytes than the frame has. The whole length is asked only of
/// frames whose first buffer is too short, because in the kernel it costs a call.
#[inline(always)]
fn is_past<B: Bytes>(frame: &B, end: usize) -> bool {
    end > frame.frame_bytes() && end > frame.whole_bytes()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::upper::Transport;

    fn ipv4_frame(source: [u8; 4], payload: &[u8]) -> Vec<u8> {
        let total = (IPV4_BYTES + payload.len()) as u16;
        let mut frame = vec![0; 12];
        frame.extend([0x08, 0x00, 0x45, 0]);
        frame.extend(total.to_be_bytes());
        frame.extend([0, 0, 0, 0, 64, 17, 0, 0]);
        frame.extend(source);
        frame.extend([192, 0, 2, 1]);
        frame.extend(payload);
        frame
    }

    #[test]
    fn finds_the_source_of_an_ipv4_packet() {
        let frame = ipv4_frame([203, 0, 113, 9], b"payload");
        let Judgement::Judge(packet) = parse(&frame.as_slice()) else {
            panic!("{:?}", parse(&frame.as_slice()));
        };
        assert_eq!(packet.source, Source::V4(0xcb00_7109));
        let upper = packet.upper(&frame.as_slice()).expect("an upper layer");
        assert_eq!(packet.exemption(&frame.as_slice(), &upper), Ok(None));
        assert_eq!(packet.transport(&frame.as_slice(), &upper), Transport::Udp);
    }

    #[test]
    fn every_truncation_of_a_packet_is_malformed() {
        let frame = ipv4_frame([203, 0, 113, 9], b"payload");
        for cut in 0..frame.len() {
            assert_eq!(
                parse(&&frame[..cut]),
                Judgement::Decided(Reason::Malformed),
                "cut at {cut}"
            );
        }
    }

    #[test]
    fn ethernet_padding_is_no_contradiction() {
        let mut frame = ipv4_frame([203, 0, 113, 9], b"");
        frame.resize(60, 0);
        assert!(matches!(parse(&frame.as_slice()), Judgement::Judge(_)));
    }

    #[test]
    fn a_v4_mapped_source_is_the_ipv4_address() {
        let (high, low) = Source::V4(0x0102_0304).to_ipv6();
        assert_eq!(Source::from_ipv6(high, low), Source::V4(0x0102_0304));
        assert_eq!(Source::from_ipv6(1, low), Source::V6(1, low));
    }

    #[test]
    fn one_rate_key_for_a_64_and_one_for_each_link_local_neighbour() {
        let lengths = KeyLengths::new(32, 64);
        let key = |high, low| Source::V6(high, low).rate_key(&lengths);
        let documentation = 0x2001_0db8_0000_0000;
        assert_eq!(key(documentation, 1), key(documentation, 2));
        assert_ne!(key(documentation, 1), key(documentation + 1, 1));
        let link_local = 0xfe80_0000_0000_0000;
        assert_ne!(key(link_local, 1), key(link_local, 2));
    }

    #[test]
    fn rate_keys_follow_the_configured_lengths() {
        let wide = KeyLengths::new(24, 56);
        let v4 = |address| Source::V4(address).rate_key(&wide);
        assert_eq!(v4(0x0102_0304), v4(0x0102_03ff));
        assert_ne!(v4(0x0102_0304), v4(0x0102_0404));
        let v6 = |high| Source::V6(high, 7).rate_key(&wide);
        assert_eq!(v6(0x2001_0db8_0000_0001), v6(0x2001_0db8_0000_00ff));
        assert_ne!(v6(0x2001_0db8_0000_0001), v6(0x2001_0db8_0000_0101));
        let exact = KeyLengths::new(32, 128);
        let host = |low| Source::V6(0x2001_0db8_0000_0001, low).rate_key(&exact);
        assert_ne!(host(1), host(2));
    }

    /// Every byte string is judged without a panic, and no reading goes past its end: the slice
    /// implementation would panic or the walk would not end.
    #[test]
    fn any_bytes_are_judged() {
        let mut state = 0x1234_5678_9abc_def0_u64;
        let mut next = || {
            state ^= state << 13;
            state ^= state >> 7;
            state ^= state << 17;
            state
        };
        for _ in 0..200_000 {
            let length = (next() % 128) as usize;
            let mut frame: Vec<u8> = (0..length).map(|_| next() as u8).collect();
            // Half of them get a header that leads further in.
            if length > 20 && next() % 2 == 0 {
                let (ethertype, version) =
                    [(0x0800_u16, 0x45), (0x86dd, 0x60)][next() as usize % 2];
                frame[12..14].copy_from_slice(&ethertype.to_be_bytes());
                frame[14] = version;
                frame[18] = 0;
            }
            if let Judgement::Judge(packet) = parse(&frame.as_slice()) {
                let frame = frame.as_slice();
                if let Ok(upper) = packet.upper(&frame) {
                    let _ = packet.exemption(&frame, &upper);
                    let _ = packet.transport(&frame, &upper);
                }
            }
        }
    }
}
