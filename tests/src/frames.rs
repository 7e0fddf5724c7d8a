//! Frames from the outside in: `ethernet(IPV4, &ipv4(source, UDP, &udp(b"…")))`.
//!
//! A function or struct makes one header and takes what lies behind it as bytes, so that a test
//! shows the whole frame in one expression. Length fields tell the truth unless a test sets them.
//! Transport and ICMP checksums stay zero: nothing in these suites reads them.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

/// EtherType of IPv4.
pub const IPV4: u16 = 0x0800;
/// EtherType of IPv6.
pub const IPV6: u16 = 0x86dd;
/// EtherType of ARP.
pub const ARP: u16 = 0x0806;
/// EtherType of LLDP (IEEE 802.1AB).
pub const LLDP: u16 = 0x88cc;
/// Customer VLAN tag (IEEE 802.1Q).
pub const CUSTOMER_TAG: u16 = 0x8100;
/// Service VLAN tag (IEEE 802.1ad).
pub const SERVICE_TAG: u16 = 0x88a8;
/// What stacked tags were called before 802.1ad.
pub const OLD_SERVICE_TAG: u16 = 0x9100;

/// IPv6 hop-by-hop options.
pub const HOP_BY_HOP: u8 = 0;
/// ICMP.
pub const ICMP: u8 = 1;
/// TCP.
pub const TCP: u8 = 6;
/// UDP.
pub const UDP: u8 = 17;
/// IPv6 inside another packet, as 6in4 (RFC 4213) carries it.
pub const IPV6_INSIDE: u8 = 41;
/// IPv6 routing header.
pub const ROUTING: u8 = 43;
/// IPv6 fragment header.
pub const FRAGMENT: u8 = 44;
/// IPsec encapsulating payload.
pub const ESP: u8 = 50;
/// IPsec authentication header.
pub const AUTHENTICATION: u8 = 51;
/// ICMPv6.
pub const ICMPV6: u8 = 58;
/// Nothing follows (RFC 8200, 4.7).
pub const NO_NEXT_HEADER: u8 = 59;
/// IPv6 destination options.
pub const DESTINATION_OPTIONS: u8 = 60;
/// IPv6 mobility header.
pub const MOBILITY: u8 = 135;
/// Host identity protocol.
pub const HIP: u8 = 139;
/// Shim6.
pub const SHIM6: u8 = 140;

/// Our IPv4 address: the destination of every packet that names no other.
pub const US_V4: [u8; 4] = [100, 64, 0, 1];
/// Our IPv6 address: the destination of every packet that names no other.
pub const US_V6: [u16; 8] = [0x2001, 0xdb8, 0xffff, 0, 0, 0, 0, 1];

/// An Ethernet II frame, or an 802.3 one where `ethertype` is a length. No padding, no checksum.
pub fn ethernet(ethertype: u16, payload: &[u8]) -> Vec<u8> {
    let mut frame = vec![0x02, 0, 0, 0, 0, 0x01, 0x02, 0, 0, 0, 0, 0x02];
    frame.extend(ethertype.to_be_bytes());
    frame.extend(payload);
    frame
}

/// Fills a frame with zeroes to the 60 bytes that Ethernet sends at least.
pub fn padded(mut frame: Vec<u8>) -> Vec<u8> {
    frame.resize(frame.len().max(60), 0);
    frame
}

/// The first `bytes` bytes of a frame.
pub fn cut(mut frame: Vec<u8>, bytes: usize) -> Vec<u8> {
    frame.truncate(bytes);
    frame
}

/// What follows a VLAN tag's type: the VLAN's number, then the type of what the tag covers.
pub fn vlan(id: u16, ethertype: u16, payload: &[u8]) -> Vec<u8> {
    let mut tag = id.to_be_bytes().to_vec();
    tag.extend(ethertype.to_be_bytes());
    tag.extend(payload);
    tag
}

/// An ARP request: who has `target`?
pub fn arp_request(sender: [u8; 4], target: [u8; 4]) -> Vec<u8> {
    let mut packet = vec![0, 1, 0x08, 0, 6, 4, 0, 1];
    packet.extend([0x02, 0, 0, 0, 0, 0x02]);
    packet.extend(sender);
    packet.extend([0; 6]);
    packet.extend(target);
    packet
}

/// An IPv4 header; start from [`Ipv4::from`] and change what the test is about.
#[derive(Clone, Debug)]
pub struct Ipv4 {
    /// Source address.
    pub source: [u8; 4],
    /// Destination address.
    pub destination: [u8; 4],
    /// Version; honest when 4.
    pub version: u8,
    /// Header length in words of four bytes; the truth when `None`.
    pub header_words: Option<u8>,
    /// Length of the whole packet; the truth when `None`.
    pub total_bytes: Option<u16>,
    /// Flags and offset: see [`MORE_FRAGMENTS`]; the offset counts units of eight bytes.
    pub fragment: u16,
    /// Options, a multiple of four bytes long.
    pub options: Vec<u8>,
}

/// Set in a packet that isn't the last fragment (RFC 791, 3.1).
pub const MORE_FRAGMENTS: u16 = 0x2000;

impl From<[u8; 4]> for Ipv4 {
    fn from(source: [u8; 4]) -> Self {
        Self {
            source,
            destination: US_V4,
            version: 4,
            header_words: None,
            total_bytes: None,
            fragment: 0,
            options: Vec::new(),
        }
    }
}

impl Ipv4 {
    /// The packet: this header, then `payload`.
    pub fn carrying(&self, protocol: u8, payload: &[u8]) -> Vec<u8> {
        let header_bytes = 20 + self.options.len();
        let header_words = self.header_words.unwrap_or((header_bytes / 4) as u8);
        let total_bytes = self
            .total_bytes
            .unwrap_or((header_bytes + payload.len()) as u16);
        let mut packet = vec![self.version << 4 | header_words & 0x0f, 0];
        packet.extend(total_bytes.to_be_bytes());
        packet.extend([0x12, 0x34]);
        packet.extend(self.fragment.to_be_bytes());
        packet.extend([64, protocol, 0, 0]);
        packet.extend(self.source);
        packet.extend(self.destination);
        packet.extend(&self.options);
        packet.extend(payload);
        packet
    }
}

/// An ordinary IPv4 packet to [`US_V4`].
pub fn ipv4(source: [u8; 4], protocol: u8, payload: &[u8]) -> Vec<u8> {
    Ipv4::from(source).carrying(protocol, payload)
}

/// An IPv6 header; start from [`Ipv6::from`] and change what the test is about.
#[derive(Clone, Debug)]
pub struct Ipv6 {
    /// Source address.
    pub source: Ipv6Addr,
    /// Destination address.
    pub destination: Ipv6Addr,
    /// Version; honest when 6.
    pub version: u8,
    /// Length of what follows the header; the truth when `None`.
    pub payload_bytes: Option<u16>,
    /// Hop limit.
    pub hop_limit: u8,
}

impl From<[u16; 8]> for Ipv6 {
    fn from(source: [u16; 8]) -> Self {
        Self {
            source: source.into(),
            destination: US_V6.into(),
            version: 6,
            payload_bytes: None,
            hop_limit: 64,
        }
    }
}

impl Ipv6 {
    /// The packet: this header, then `payload`, which begins with what `next_header` names.
    pub fn carrying(&self, next_header: u8, payload: &[u8]) -> Vec<u8> {
        let payload_bytes = self.payload_bytes.unwrap_or(payload.len() as u16);
        let mut packet = vec![self.version << 4, 0, 0, 0];
        packet.extend(payload_bytes.to_be_bytes());
        packet.extend([next_header, self.hop_limit]);
        packet.extend(self.source.octets());
        packet.extend(self.destination.octets());
        packet.extend(payload);
        packet
    }
}

/// An ordinary IPv6 packet to [`US_V6`].
pub fn ipv6(source: [u16; 8], next_header: u8, payload: &[u8]) -> Vec<u8> {
    Ipv6::from(source).carrying(next_header, payload)
}

/// The v4-mapped form of an IPv4 address, `::ffff:a.b.c.d`.
pub fn mapped([a, b, c, d]: [u8; 4]) -> [u16; 8] {
    Ipv4Addr::new(a, b, c, d).to_ipv6_mapped().segments()
}

/// An IPv6 extension header of `8 + 8 * units` bytes (RFC 8200, 4.3 to 4.6), zeroes inside.
pub fn extension(next_header: u8, units: u8, payload: &[u8]) -> Vec<u8> {
    let mut header = vec![next_header, units];
    header.resize(8 + 8 * usize::from(units), 0);
    header.extend(payload);
    header
}

/// An authentication header of `8 + 4 * words` bytes (RFC 4302, 2.2).
pub fn authentication(next_header: u8, words: u8, payload: &[u8]) -> Vec<u8> {
    let mut header = vec![next_header, words];
    header.resize(8 + 4 * usize::from(words), 0);
    header.extend(payload);
    header
}

/// An IPv6 fragment header; the offset counts units of eight bytes (RFC 8200, 4.5).
pub fn fragment(next_header: u8, offset_units: u16, more: bool, payload: &[u8]) -> Vec<u8> {
    let mut header = vec![next_header, 0];
    header.extend((offset_units << 3 | u16::from(more)).to_be_bytes());
    header.extend([0, 0, 0x12, 0x34]);
    header.extend(payload);
    header
}

/// A UDP datagram to port 443.
pub fn udp(payload: &[u8]) -> Vec<u8> {
    let mut datagram = vec![0xc0, 0x00, 0x01, 0xbb];
    datagram.extend((8_u16.wrapping_add(payload.len() as u16)).to_be_bytes());
    datagram.extend([0, 0]);
    datagram.extend(payload);
    datagram
}

/// Flags of a TCP segment (RFC 9293, 3.1).
pub const FIN: u8 = 0x01;
/// Opens a connection.
pub const SYN: u8 = 0x02;
/// Ends one at once.
pub const RST: u8 = 0x04;
/// Set in all segments of a connection but the first.
pub const ACK: u8 = 0x10;

/// The whole frame of a small UDP datagram from either family.
pub fn datagram(source: IpAddr) -> Vec<u8> {
    match source {
        IpAddr::V4(source) => ethernet(IPV4, &ipv4(source.octets(), UDP, &udp(b"hello"))),
        IpAddr::V6(source) => ethernet(IPV6, &ipv6(source.segments(), UDP, &udp(b"hello"))),
    }
}

/// A TCP segment of a header alone to port 443.
pub fn tcp(flags: u8) -> Vec<u8> {
    let mut segment = vec![0xc0, 0x00, 0x01, 0xbb];
    segment.extend([0, 0, 0, 1, 0, 0, 0, 0]);
    segment.extend([0x50, flags, 0xff, 0xff, 0, 0, 0, 0]);
    segment
}

/// A TCP SYN to port 443.
pub fn tcp_syn() -> Vec<u8> {
    tcp(SYN)
}

/// An ICMP or ICMPv6 message.
pub fn icmp(kind: u8, code: u8, body: &[u8]) -> Vec<u8> {
    let mut message = vec![kind, code, 0, 0];
    message.extend(body);
    message
}

/// An ICMP error that quotes the packet it is about. `word` is unused in most, and the MTU of the
/// next hop in "fragmentation needed" (RFC 1191, 4) and "packet too big" (RFC 4443, 3.2).
pub fn icmp_error(kind: u8, code: u8, word: u32, quoted: &[u8]) -> Vec<u8> {
    icmp(kind, code, &[&word.to_be_bytes(), quoted].concat())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_ipv4_frame_is_the_bytes_a_host_would_send() {
        let frame = ethernet(IPV4, &ipv4([198, 51, 100, 7], UDP, &udp(b"hi")));
        assert_eq!(frame[12..16], [0x08, 0x00, 0x45, 0x00]);
        assert_eq!(frame[16..18], [0, 30], "total length");
        assert_eq!(frame[23], 17, "protocol");
        assert_eq!(frame[26..30], [198, 51, 100, 7]);
        assert_eq!(frame[30..34], US_V4);
        assert_eq!(frame[38..40], [0, 10], "UDP length");
        assert_eq!(frame.len(), 44);
    }

    #[test]
    fn options_lengthen_the_header() {
        let options = vec![1; 8];
        let packet = Ipv4 {
            options,
            ..Ipv4::from([198, 51, 100, 7])
        }
        .carrying(UDP, &[]);
        assert_eq!(packet[0], 0x47);
        assert_eq!(packet[2..4], [0, 28]);
    }

    #[test]
    fn an_ipv6_frame_is_the_bytes_a_host_would_send() {
        let source = [0x2001, 0xdb8, 0, 0, 0, 0, 0, 9];
        let inner = extension(UDP, 1, &udp(b"hi"));
        let frame = ethernet(IPV6, &ipv6(source, DESTINATION_OPTIONS, &inner));
        assert_eq!(frame[12..15], [0x86, 0xdd, 0x60]);
        assert_eq!(frame[18..22], [0, 26, 60, 64], "length, next header, hops");
        assert_eq!(frame[22..26], [0x20, 0x01, 0x0d, 0xb8]);
        assert_eq!(frame[54..56], [17, 1]);
        assert_eq!(frame.len(), 14 + 40 + 16 + 10);
    }

    #[test]
    fn a_fragment_offset_counts_units_of_eight_bytes() {
        assert_eq!(fragment(UDP, 3, true, &[])[..4], [17, 0, 0, 0b11001]);
        assert_eq!(authentication(UDP, 4, &[]).len(), 24);
    }
}
