//! What the host can't do without, whatever the lists say of its source: neighbour discovery and
//! path-MTU errors.

use crate::{
    packet::{Bytes, Ip, Packet},
    upper::{Transport, Upper},
    verdict::Reason,
};

/// Largest IPv4 ICMP error a host should send (RFC 1812, 4.3.2.3), and largest ICMPv6 error
/// (RFC 4443, 2.4 c). A larger "error" is somebody's payload and gets no exemption.
const LARGEST_ERROR_V4: u16 = 576;
const LARGEST_ERROR_V6: u16 = 1280;

impl Packet {
    /// Whether the host can't do without this packet, whatever the lists say of its source:
    /// `Ok(Some(reason))` names why.
    ///
    /// # Errors
    /// [`Reason::Malformed`] for an ICMP header that is cut off.
    #[inline(always)]
    pub fn exemption<B: Bytes>(&self, frame: &B, upper: &Upper) -> Result<Option<Reason>, Reason> {
        if self.transport(frame, upper) != Transport::Icmp || !upper.present {
            return Ok(None);
        }
        if upper.offset + 8 > self.end {
            return Err(Reason::Malformed);
        }
        match self.ip {
            Ip::V4 {
                total_bytes,
                destination,
                ..
            } => {
                let kind_and_code = frame.u16(upper.offset).ok_or(Reason::Malformed)?;
                // Destination unreachable, fragmentation needed (RFC 1191, 4).
                let is_error = kind_and_code == 0x0304 && total_bytes <= LARGEST_ERROR_V4;
                let quoted = upper.offset + 8 + 12;
                let quotes_us = quoted + 4 <= self.end && frame.u32(quoted) == Some(destination);
                Ok((is_error && quotes_us).then_some(Reason::PathMtu))
            }
            Ip::V6 {
                hop_limit,
                total_bytes,
                destination,
                ..
            } => {
                let kind = frame.u8(upper.offset).ok_or(Reason::Malformed)?;
                // Packet too big (RFC 8201, 4).
                if kind == 2 {
                    let is_error = total_bytes <= LARGEST_ERROR_V6;
                    let quoted = upper.offset + 8 + 8;
                    let quotes_us = quoted + 16 <= self.end
                        && frame.u64(quoted) == Some(destination.0)
                        && frame.u64(quoted + 8) == Some(destination.1);
                    return Ok((is_error && quotes_us).then_some(Reason::PathMtu));
                }
                // Router and neighbour messages, redirect; hop limit 255 proves that no router
                // forwarded them (RFC 4861, 6.1 and 7.1). Hosts ignore fragmented ones (RFC 6980, 5).
                let is_neighbour =
                    matches!(kind, 133..=137) && hop_limit == 255 && !upper.fragmented;
                Ok(is_neighbour.then_some(Reason::NeighbourDiscovery))
            }
        }
    }
}
