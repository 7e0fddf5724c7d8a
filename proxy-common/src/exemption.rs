//! What the host can't do without, whatever the lists say of its source: neighbour discovery and
//! path-MTU errors, found behind IPv6 extension headers in one bounded walk.

use crate::{
    packet::{Bytes, Ip, Packet},
    verdict::Reason,
};

/// IPv6 extension headers that are walked. RFC 8504, 5.3 lets a host limit them; eight is more
/// than any of the orders that RFC 8200, 4.1 recommends.
pub const MAX_EXTENSIONS: usize = 8;

const PROTOCOL_ICMP: u8 = 1;
const PROTOCOL_ICMPV6: u8 = 58;

/// Largest IPv4 ICMP error a host should send (RFC 1812, 4.3.2.3), and largest ICMPv6 error
/// (RFC 4443, 2.4 c). A larger "error" is somebody's payload and gets no exemption.
const LARGEST_ERROR_V4: u16 = 576;
const LARGEST_ERROR_V6: u16 = 1280;

impl Packet {
    /// Whether the host can't do without this packet, whatever the lists say of its source:
    /// `Ok(Some(reason))` names why.
    ///
    /// # Errors
    /// The reason for which what lies above the IP header could not be walked.
    #[inline(always)]
    pub fn exemption<B: Bytes>(&self, frame: &B) -> Result<Option<Reason>, Reason> {
        match self.ip {
            Ip::V4 {
                protocol,
                first_fragment,
                total_bytes,
                destination,
                upper_offset,
            } => {
                if protocol != PROTOCOL_ICMP || !first_fragment {
                    return Ok(None);
                }
                let kind_and_code = frame.u16(upper_offset).ok_or(Reason::Malformed)?;
                // Destination unreachable, fragmentation needed (RFC 1191, 4).
                let is_error = kind_and_code == 0x0304 && total_bytes <= LARGEST_ERROR_V4;
                let quotes_us = frame.u32(upper_offset + 8 + 12) == Some(destination);
                Ok((is_error && quotes_us).then_some(Reason::PathMtu))
            }
            Ip::V6 {
                next_header,
                hop_limit,
                total_bytes,
                destination,
                upper_offset,
            } => {
                let Some((icmp_offset, fragmented)) =
                    find_icmpv6(frame, next_header, upper_offset)?
                else {
                    return Ok(None);
                };
                let kind = frame.u8(icmp_offset).ok_or(Reason::Malformed)?;
                // Packet too big (RFC 8201, 4).
                if kind == 2 {
                    let is_error = total_bytes <= LARGEST_ERROR_V6;
                    let quoted = icmp_offset + 8 + 8;
                    let quotes_us = frame.u64(quoted) == Some(destination.0)
                        && frame.u64(quoted + 8) == Some(destination.1);
                    return Ok((is_error && quotes_us).then_some(Reason::PathMtu));
                }
                // Router and neighbour messages, redirect; hop limit 255 proves that no router
                // forwarded them (RFC 4861, 6.1 and 7.1). Hosts ignore fragmented ones (RFC 6980, 5).
                let is_neighbour = matches!(kind, 133..=137) && hop_limit == 255 && !fragmented;
                Ok(is_neighbour.then_some(Reason::NeighbourDiscovery))
            }
        }
    }
}

/// Walks extension headers to an ICMPv6 header, and says whether a fragment header was among
/// them; `Ok(None)` when something else comes first, or when this is a later fragment, which has
/// no upper-layer header.
#[inline(always)]
fn find_icmpv6<B: Bytes>(
    frame: &B,
    mut next_header: u8,
    mut offset: usize,
) -> Result<Option<(usize, bool)>, Reason> {
    let mut fragmented = false;
    for _ in 0..=MAX_EXTENSIONS {
        match next_header {
            PROTOCOL_ICMPV6 => return Ok(Some((offset, fragmented))),
            // Hop-by-hop, routing, destination options, mobility, HIP, shim6 (RFC 7045, 4).
            0 | 43 | 60 | 135 | 139 | 140 => {
                let units = frame.u8(offset + 1).ok_or(Reason::Malformed)?;
                next_header = frame.u8(offset).ok_or(Reason::Malformed)?;
                offset += (usize::from(units) + 1) * 8;
            }
            // Fragment (RFC 8200, 4.5).
            44 => {
                frame.u32(offset + 4).ok_or(Reason::Malformed)?;
                if frame.u16(offset + 2).ok_or(Reason::Malformed)? & 0xfff8 != 0 {
                    return Ok(None);
                }
                next_header = frame.u8(offset).ok_or(Reason::Malformed)?;
                offset += 8;
                fragmented = true;
            }
            // Authentication (RFC 4302, 2.2: length in 32-bit words, minus 2).
            51 => {
                let words = frame.u8(offset + 1).ok_or(Reason::Malformed)?;
                next_header = frame.u8(offset).ok_or(Reason::Malformed)?;
                offset += (usize::from(words) + 2) * 4;
            }
            _ => return Ok(None),
        }
    }
    Err(Reason::ExtensionsTooDeep)
}
