//! A second reading of a frame, and what must hold between it and ours.
//!
//! The fuzz target `packet` and the replay of its corpus both ask it. The second reading walks
//! the same headers with etherparse's slices, which know nothing of our offsets. Nothing past the
//! end that the IP header gives belongs to the packet, for either.

use etherparse::{
    EtherType, Ethernet2Slice, IpAuthHeaderSlice, IpNumber, Ipv4HeaderSlice,
    Ipv6FragmentHeaderSlice, Ipv6HeaderSlice, Ipv6RawExtHeaderSlice, SingleVlanSlice, ether_type,
    ip_number,
};
use proxy_common::{
    Judgement, Packet, Reason, Source,
    packet::{MAX_VLAN_TAGS, parse},
    upper::MAX_EXTENSIONS,
};

/// What [`check`] met; a corpus that doesn't lead to each of these has lost something.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Met {
    /// Neither IPv4 nor IPv6.
    NotIp,
    /// More VLAN tags than are walked.
    TooManyTags,
    /// No IP header, or one that can't be true.
    Malformed,
    /// IPv4 without an exemption.
    V4,
    /// IPv6 without an exemption, its upper layer found or given up.
    V6,
    /// IPv6 written as v4-mapped.
    Mapped,
    /// A path-MTU error about one of our packets.
    PathMtu,
    /// Neighbour discovery.
    NeighbourDiscovery,
    /// More extension headers than are walked.
    TooManyExtensions,
    /// An upper layer that ends too early.
    Unreadable,
}

/// What our walk says of the upper layer.
type Exemption = Result<Option<Reason>, Reason>;

/// Reads a frame both ways, and its variations.
///
/// # Panics
/// When the readings differ, or a variation that should change nothing does.
pub(crate) fn check(frame: &[u8]) -> Met {
    let judged = parse(&frame);
    let reading = Reading::of(frame);
    let ip = match reading {
        Reading::NotIp => {
            assert_eq!(judged, Judgement::Decided(Reason::NotIp));
            return Met::NotIp;
        }
        Reading::TooManyTags => {
            assert_eq!(judged, Judgement::Decided(Reason::VlanTooDeep));
            return Met::TooManyTags;
        }
        Reading::Malformed => {
            assert_eq!(judged, Judgement::Decided(Reason::Malformed));
            return Met::Malformed;
        }
        Reading::Ip(ip) => ip,
    };
    assert!(
        matches!(judged, Judgement::Judge(packet) if packet.source == ip.source()),
        "{judged:?}, but the source is {:?}",
        ip.source()
    );
    let Judgement::Judge(packet) = judged else {
        return Met::Malformed;
    };
    let exemption = exempted(&packet, &frame);
    let opinion = ip.exemption();
    if let Some(opinion) = opinion {
        assert_eq!(exemption, opinion);
    }
    padding_changes_nothing(frame, &packet, opinion.is_some());
    a_cut_packet_is_malformed(frame, &ip);
    a_tag_changes_nothing(frame, &ip, exemption);
    a_mapped_source_is_the_ipv4_address(frame, &ip, exemption);
    match exemption {
        Ok(Some(Reason::PathMtu)) => Met::PathMtu,
        Ok(Some(reason)) => {
            assert_eq!(reason, Reason::NeighbourDiscovery);
            Met::NeighbourDiscovery
        }
        Ok(None) => match (ip.header, packet.source) {
            (Header::V4(_), _) => Met::V4,
            (Header::V6(_), Source::V4(_)) => Met::Mapped,
            (Header::V6(_), Source::V6(..)) => Met::V6,
        },
        Err(Reason::ExtensionsTooDeep) => Met::TooManyExtensions,
        Err(reason) => {
            assert_eq!(reason, Reason::Malformed);
            Met::Unreadable
        }
    }
}

/// Ethernet fills short frames up. `complete` says that the upper layer lies inside the packet.
fn padding_changes_nothing(frame: &[u8], packet: &Packet, complete: bool) {
    for filling in [0x00, 0x86, 0xff] {
        let padded = [frame, &[filling; 64]].concat();
        let padded = padded.as_slice();
        assert_eq!(parse(&padded), Judgement::Judge(*packet), "{filling:#x}");
        if complete {
            assert_eq!(
                exempted(packet, &padded),
                exempted(packet, &frame),
                "{filling:#x}"
            );
        }
    }
}

fn a_cut_packet_is_malformed(frame: &[u8], ip: &Ip<'_>) {
    let end = ip.offset + ip.packet.len();
    for cut in [end - 1, ip.offset + ip.packet.len() / 2, ip.offset] {
        let cut = &frame[..cut];
        assert_eq!(parse(&cut), Judgement::Decided(Reason::Malformed));
    }
}

/// What the program finds out: the upper layer, then the exemption.
fn exempted(packet: &Packet, frame: &&[u8]) -> Exemption {
    let upper = packet.upper(frame)?;
    packet.exemption(frame, &upper)
}

fn a_tag_changes_nothing(frame: &[u8], ip: &Ip<'_>, exemption: Exemption) {
    let (addresses, rest) = frame.split_at(12);
    for tag in [[0x81, 0x00, 0x00, 0x07], [0x88, 0xa8, 0x0f, 0xff]] {
        let tagged = [addresses, &tag, rest].concat();
        let tagged = tagged.as_slice();
        match parse(&tagged) {
            Judgement::Judge(packet) => {
                assert!(ip.tags < MAX_VLAN_TAGS);
                assert_eq!(packet.source, ip.source());
                assert_eq!(exempted(&packet, &tagged), exemption);
            }
            Judgement::Decided(reason) => {
                assert_eq!((reason, ip.tags), (Reason::VlanTooDeep, MAX_VLAN_TAGS));
            }
        }
    }
}

fn a_mapped_source_is_the_ipv4_address(frame: &[u8], ip: &Ip<'_>, exemption: Exemption) {
    let Header::V6(header) = &ip.header else {
        return;
    };
    const MAPPED: [u8; 12] = [0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0xff, 0xff];
    let source = ip.offset + 8..ip.offset + 24;
    // Any address will do; the end of the destination makes it another in every frame.
    let [.., a, b, c, d] = header.destination();
    let mut mapped = frame.to_vec();
    mapped[source].copy_from_slice(&[&MAPPED[..], &[a, b, c, d]].concat());
    let mapped = mapped.as_slice();
    let judged = parse(&mapped);
    let expected = Source::V4(u32::from_be_bytes([a, b, c, d]));
    assert!(
        matches!(judged, Judgement::Judge(packet)
            if packet.source == expected && exempted(&packet, &mapped) == exemption),
        "{judged:?}, but the source is {expected:?}"
    );
}

/// A frame as etherparse's slices make it out.
enum Reading<'a> {
    NotIp,
    TooManyTags,
    Malformed,
    Ip(Ip<'a>),
}

struct Ip<'a> {
    tags: usize,
    /// Where the IP header begins in the frame.
    offset: usize,
    header: Header<'a>,
    /// The packet, to the end that its header gives.
    packet: &'a [u8],
}

enum Header<'a> {
    V4(Ipv4HeaderSlice<'a>),
    V6(Ipv6HeaderSlice<'a>),
}

impl<'a> Reading<'a> {
    fn of(frame: &'a [u8]) -> Self {
        let Ok(ethernet) = Ethernet2Slice::from_slice_without_fcs(frame) else {
            return Self::Malformed;
        };
        let (mut kind, mut rest) = (ethernet.ether_type(), ethernet.payload_slice());
        let mut tags = 0;
        while is_tag(kind) {
            if tags == MAX_VLAN_TAGS {
                return Self::TooManyTags;
            }
            let Ok(tag) = SingleVlanSlice::from_slice(rest) else {
                return Self::Malformed;
            };
            (kind, rest) = (tag.ether_type(), tag.payload_slice());
            tags += 1;
        }
        let told = match kind {
            ether_type::IPV4 => read_v4(rest),
            ether_type::IPV6 => read_v6(rest),
            _ => return Self::NotIp,
        };
        let Some((header, packet)) = told else {
            return Self::Malformed;
        };
        Self::Ip(Ip {
            tags,
            offset: frame.len() - rest.len(),
            header,
            packet,
        })
    }
}

fn is_tag(kind: EtherType) -> bool {
    matches!(
        kind,
        ether_type::VLAN_TAGGED_FRAME
            | ether_type::PROVIDER_BRIDGING
            | ether_type::VLAN_DOUBLE_TAGGED_FRAME
    )
}

fn read_v4(rest: &[u8]) -> Option<(Header<'_>, &[u8])> {
    let header = Ipv4HeaderSlice::from_slice(rest).ok()?;
    let packet = rest.get(..usize::from(header.total_len()))?;
    (packet.len() >= header.slice().len()).then_some((Header::V4(header), packet))
}

fn read_v6(rest: &[u8]) -> Option<(Header<'_>, &[u8])> {
    let header = Ipv6HeaderSlice::from_slice(rest).ok()?;
    let packet = rest.get(..header.slice().len() + usize::from(header.payload_length()))?;
    Some((Header::V6(header), packet))
}

impl Ip<'_> {
    fn source(&self) -> Source {
        match &self.header {
            Header::V4(header) => Source::V4(header.source_addr().to_bits()),
            Header::V6(header) => match header.source_addr().to_ipv4_mapped() {
                Some(mapped) => Source::V4(mapped.to_bits()),
                None => {
                    let bits = header.source_addr().to_bits();
                    Source::V6((bits >> 64) as u64, bits as u64)
                }
            },
        }
    }

    /// What the walk should say; `None` where etherparse can't tell.
    fn exemption(&self) -> Option<Exemption> {
        match &self.header {
            Header::V4(header) => exemption_v4(header, &self.packet[header.slice().len()..]),
            Header::V6(header) => exemption_v6(header, self.packet),
        }
    }
}

/// Fragmentation needed, in at most 576 bytes, about a packet that the destination sent.
fn exemption_v4(header: &Ipv4HeaderSlice<'_>, payload: &[u8]) -> Option<Exemption> {
    if header.protocol() != ip_number::ICMP || header.fragments_offset().value() != 0 {
        return Some(Ok(None));
    }
    if payload.len() < 8 {
        return Some(Err(Reason::Malformed));
    }
    let [3, 4, ..] = payload else {
        return Some(Ok(None));
    };
    let quotes_us = payload
        .get(8 + 12..8 + 16)
        .is_some_and(|source| source == header.destination());
    let ours = quotes_us && header.total_len() <= 576;
    Some(Ok(ours.then_some(Reason::PathMtu)))
}

fn exemption_v6(header: &Ipv6HeaderSlice<'_>, packet: &[u8]) -> Option<Exemption> {
    let mut next = header.next_header();
    let mut rest = &packet[header.slice().len()..];
    let mut fragmented = false;
    let mut walked = 0;
    while is_extension(next) {
        let bytes;
        if next == ip_number::IPV6_FRAGMENTATION_HEADER {
            let Ok(extension) = Ipv6FragmentHeaderSlice::from_slice(rest) else {
                return Some(Err(Reason::Malformed));
            };
            if extension.fragment_offset().value() != 0 {
                return Some(Ok(None));
            }
            fragmented = true;
            (next, bytes) = (extension.next_header(), extension.slice().len());
        } else if next == ip_number::AUTHENTICATION_HEADER {
            // etherparse also refuses a length of zero, which we walk.
            let extension = IpAuthHeaderSlice::from_slice(rest).ok()?;
            (next, bytes) = (extension.next_header(), extension.slice().len());
        } else {
            let Ok(extension) = Ipv6RawExtHeaderSlice::from_slice(rest) else {
                return Some(Err(Reason::Malformed));
            };
            (next, bytes) = (extension.next_header(), extension.slice().len());
        }
        if walked == MAX_EXTENSIONS {
            return Some(Err(Reason::ExtensionsTooDeep));
        }
        rest = &rest[bytes..];
        walked += 1;
    }
    if next != ip_number::IPV6_ICMP {
        return Some(Ok(None));
    }
    if rest.len() < 8 {
        return Some(Err(Reason::Malformed));
    }
    Some(Ok(match rest[0] {
        // Too big, in at most 1,280 bytes, about a packet that the destination sent.
        2 => {
            let quotes_us = rest
                .get(8 + 8..8 + 24)
                .is_some_and(|source| source == header.destination());
            let ours = quotes_us && packet.len() <= 1_280;
            ours.then_some(Reason::PathMtu)
        }
        133..=137 if header.hop_limit() == 255 && !fragmented => Some(Reason::NeighbourDiscovery),
        _ => None,
    }))
}

fn is_extension(next: IpNumber) -> bool {
    Ipv6RawExtHeaderSlice::header_type_supported(next)
        || next == ip_number::IPV6_FRAGMENTATION_HEADER
        || next == ip_number::AUTHENTICATION_HEADER
}
