//! What lies above the IP header, found behind IPv6 extension headers in one bounded walk.

use crate::{
    packet::{Bytes, Ip, Packet},
    verdict::Reason,
};

/// IPv6 extension headers that are walked. RFC 8504, 5.3 lets a host limit them; eight is more
/// than any of the orders that RFC 8200, 4.1 recommends.
pub const MAX_EXTENSIONS: usize = 8;

const PROTOCOL_ICMP: u8 = 1;
const PROTOCOL_TCP: u8 = 6;
const PROTOCOL_UDP: u8 = 17;
const PROTOCOL_ICMPV6: u8 = 58;

const TCP_FLAGS_OFFSET: usize = 13;
const TCP_SYN: u8 = 0x02;
const TCP_ACK: u8 = 0x10;

/// The first header that is no IPv6 extension header.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Upper {
    pub(crate) protocol: u8,
    /// Where it begins; meaningless in a later fragment.
    pub(crate) offset: usize,
    /// Not in a later fragment, which has no such header, only its protocol number.
    pub(crate) present: bool,
    /// Whether this is a fragment at all.
    pub(crate) fragmented: bool,
}

/// What limits and scope want to know of the upper layer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u32)]
pub enum Transport {
    /// A TCP segment that would open a connection: SYN without ACK. So is any fragment, because a
    /// tiny first one can hide its flags (RFC 1858).
    TcpOpening,
    /// Any other TCP segment.
    Tcp,
    /// A UDP datagram, or a fragment of one.
    Udp,
    /// ICMP or ICMPv6, or a fragment of such.
    Icmp,
    /// Anything else.
    Other,
}

impl Transport {
    /// The kind with this discriminant, if there is one.
    #[inline(always)]
    pub const fn from_index(index: u32) -> Option<Self> {
        Some(match index {
            0 => Self::TcpOpening,
            1 => Self::Tcp,
            2 => Self::Udp,
            3 => Self::Icmp,
            4 => Self::Other,
            _ => return None,
        })
    }
}

impl Packet {
    /// Finds the upper-layer header.
    ///
    /// # Errors
    /// The reason for which the extension headers could not be walked.
    #[inline(always)]
    pub fn upper<B: Bytes>(&self, frame: &B) -> Result<Upper, Reason> {
        match self.ip {
            Ip::V4 {
                protocol,
                fragment,
                upper_offset,
                ..
            } => Ok(Upper {
                protocol,
                offset: upper_offset,
                present: fragment & 0x1fff == 0,
                // More fragments follow, or this isn't the first (RFC 791, 3.1).
                fragmented: fragment & 0x3fff != 0,
            }),
            Ip::V6 {
                next_header,
                upper_offset,
                ..
            } => {
                if is_extension(next_header) {
                    return frame.walk_extensions(next_header, upper_offset, self.end);
                }
                Ok(Upper {
                    protocol: next_header,
                    offset: upper_offset,
                    present: true,
                    fragmented: false,
                })
            }
        }
    }

    /// What kind of packet this is to limits and scope.
    #[inline(always)]
    pub fn transport<B: Bytes>(&self, frame: &B, upper: &Upper) -> Transport {
        match (upper.protocol, self.ip) {
            (PROTOCOL_TCP, _) => {
                let opening = upper.fragmented
                    || self
                        .u8_within(frame, upper.offset + TCP_FLAGS_OFFSET)
                        .is_none_or(|flags| flags & (TCP_SYN | TCP_ACK) == TCP_SYN);
                if opening {
                    Transport::TcpOpening
                } else {
                    Transport::Tcp
                }
            }
            (PROTOCOL_UDP, _) => Transport::Udp,
            (PROTOCOL_ICMP, Ip::V4 { .. }) | (PROTOCOL_ICMPV6, Ip::V6 { .. }) => Transport::Icmp,
            _ => Transport::Other,
        }
    }

    /// A byte that belongs to the IP packet, not to padding behind it.
    #[inline(always)]
    fn u8_within<B: Bytes>(&self, frame: &B, offset: usize) -> Option<u8> {
        if offset >= self.end {
            return None;
        }
        frame.u8(offset)
    }
}

impl Upper {
    /// All of it in one word, for a function that can return no more.
    #[inline(always)]
    pub const fn pack(found: Result<Self, Reason>) -> u64 {
        match found {
            Ok(upper) => {
                (upper.offset as u64) << 32
                    | (upper.protocol as u64) << 8
                    | (upper.present as u64) << 1
                    | upper.fragmented as u64
            }
            Err(Reason::ExtensionsTooDeep) => ERROR | 1,
            Err(_) => ERROR,
        }
    }

    /// The inverse of [`Upper::pack`].
    ///
    /// # Errors
    /// Those that were packed.
    #[inline(always)]
    pub const fn unpack(word: u64) -> Result<Self, Reason> {
        if word & ERROR != 0 {
            return Err(if word & 1 != 0 {
                Reason::ExtensionsTooDeep
            } else {
                Reason::Malformed
            });
        }
        Ok(Self {
            protocol: (word >> 8) as u8,
            offset: (word >> 32) as usize,
            present: word & 2 != 0,
            fragmented: word & 1 != 0,
        })
    }
}

/// Set in a packed word that holds no [`Upper`]; no offset reaches it.
const ERROR: u64 = 1 << 63;

/// Walks IPv6 extension headers from `offset` on, none of them behind `end`.
///
/// # Errors
/// [`Reason::Malformed`] for a header that is cut off, [`Reason::ExtensionsTooDeep`] for more than
/// [`MAX_EXTENSIONS`].
#[inline(always)]
pub fn walk_extensions<B: Bytes>(
    frame: &B,
    mut next_header: u8,
    mut offset: usize,
    end: usize,
) -> Result<Upper, Reason> {
    let mut fragmented = false;
    for _ in 0..=MAX_EXTENSIONS {
        if !is_extension(next_header) {
            return Ok(Upper {
                protocol: next_header,
                offset,
                present: true,
                fragmented,
            });
        }
        // Every one of them is at least eight bytes long.
        if offset + 8 > end {
            return Err(Reason::Malformed);
        }
        let following = frame.u8(offset).ok_or(Reason::Malformed)?;
        let length = usize::from(frame.u8(offset + 1).ok_or(Reason::Malformed)?);
        match next_header {
            // Fragment (RFC 8200, 4.5).
            44 => {
                frame.u32(offset + 4).ok_or(Reason::Malformed)?;
                fragmented = true;
                if frame.u16(offset + 2).ok_or(Reason::Malformed)? & 0xfff8 != 0 {
                    return Ok(Upper {
                        protocol: following,
                        offset,
                        present: false,
                        fragmented,
                    });
                }
                offset += 8;
            }
            // Authentication (RFC 4302, 2.2: length in 32-bit words, minus 2).
            51 => offset += (length + 2) * 4,
            _ => offset += (length + 1) * 8,
        }
        if offset > end {
            return Err(Reason::Malformed);
        }
        next_header = following;
    }
    Err(Reason::ExtensionsTooDeep)
}

/// Hop-by-hop, routing, fragment, authentication, destination options, mobility, HIP, shim6
/// (RFC 7045, 4).
#[inline(always)]
const fn is_extension(header: u8) -> bool {
    matches!(header, 0 | 43 | 44 | 51 | 60 | 135 | 139 | 140)
}
