//! IPv6: headers, extension chains to their bound and past it, fragments, neighbour discovery,
//! path-MTU messages.

use portcullis_tests::frames::{
    AUTHENTICATION, DESTINATION_OPTIONS, ESP, FRAGMENT, HIP, HOP_BY_HOP, ICMPV6, IPV6, Ipv6,
    MOBILITY, NO_NEXT_HEADER, ROUTING, SHIM6, TCP, UDP, US_V6, authentication, cut, ethernet,
    extension, fragment, icmp, icmp_error, ipv6, tcp_syn, udp,
};
use proxy_common::Reason::{
    Banned, Blocked, Clean, ExtensionsTooDeep, Malformed, NeighbourDiscovery, PathMtu, Trusted,
};

use crate::{
    Row,
    lists::{BANNED_V6, BLOCKED_V6, TRUSTED_V6, UNLISTED_V6},
    row,
};

const NEIGHBOUR: [u16; 8] = [0xfe80, 0, 0, 0, 0, 0, 0, 9];
const BLOCKED_NEIGHBOUR: [u16; 8] = [0xfe80, 0, 0, 0, 0, 0, 0, 0xbad];

/// A frame whose IPv6 payload begins with what `next_header` names.
fn over_v6(source: [u16; 8], next_header: u8, payload: &[u8]) -> Vec<u8> {
    ethernet(IPV6, &ipv6(source, next_header, payload))
}

/// The same from next door: hop limit 255.
fn on_link(source: [u16; 8], next_header: u8, payload: &[u8]) -> Vec<u8> {
    let header = Ipv6 {
        hop_limit: 255,
        ..source.into()
    };
    ethernet(IPV6, &header.carrying(next_header, payload))
}

/// A message of neighbour discovery with a target of zeroes.
fn discovery(kind: u8) -> Vec<u8> {
    icmp(kind, 0, &[0; 20])
}

const SOLICITATION: u8 = 135;

/// `headers` destination-options headers, then what `next_header` names.
fn chain(headers: usize, next_header: u8, payload: &[u8]) -> (u8, Vec<u8>) {
    let mut next = next_header;
    let mut bytes = payload.to_vec();
    for _ in 0..headers {
        bytes = extension(next, 0, &bytes);
        next = DESTINATION_OPTIONS;
    }
    (next, bytes)
}

fn chained(source: [u16; 8], headers: usize, next_header: u8, payload: &[u8]) -> Vec<u8> {
    let (next, bytes) = chain(headers, next_header, payload);
    on_link(source, next, &bytes)
}

/// Packet too big: the next hop takes 1,280 bytes (RFC 4443, 3.2).
fn too_big(quoted: &[u8]) -> Vec<u8> {
    icmp_error(2, 0, 1280, quoted)
}

fn quote_of(sender: [u16; 8]) -> Vec<u8> {
    ipv6(sender, TCP, &tcp_syn())
}

/// Packet too big in an IPv6 packet of `total_bytes`, quoting us.
fn too_big_of(total_bytes: usize) -> Vec<u8> {
    let mut message = too_big(&quote_of(US_V6));
    message.resize(total_bytes - 40, 0);
    over_v6(BLOCKED_V6, ICMPV6, &message)
}

pub(crate) fn rows() -> Vec<Row> {
    [
        headers(),
        extensions(),
        chains(),
        fragments(),
        neighbour_discovery(),
        path_mtu(),
    ]
    .into_iter()
    .flatten()
    .collect()
}

#[rustfmt::skip]
fn headers() -> Vec<Row> {
    let datagram = |header: Ipv6| ethernet(IPV6, &header.carrying(UDP, &udp(b"hello")));
    let from_unlisted = || Ipv6::from(UNLISTED_V6);
    vec![
        row("an ordinary IPv6 datagram passes", datagram(from_unlisted()), Clean),
        row("a TCP segment of a blocked IPv6 source is dropped", over_v6(BLOCKED_V6, TCP, &tcp_syn()), Blocked),
        row("an IPv6 packet of a header alone passes", over_v6(UNLISTED_V6, NO_NEXT_HEADER, &[]), Clean),
        row("an IPv6 header cut off after its first byte is malformed", cut(datagram(from_unlisted()), 14 + 1), Malformed),
        row("an IPv6 header cut off inside its source address is malformed", cut(datagram(from_unlisted()), 14 + 20), Malformed),
        row("an IPv6 header cut off inside its destination address is malformed", cut(datagram(from_unlisted()), 14 + 39), Malformed),
        row("an IPv6 packet cut off right behind its header is malformed", cut(datagram(from_unlisted()), 14 + 40), Malformed),
        row("a cut-off IPv6 header is malformed, trusted source or not", cut(datagram(TRUSTED_V6.into()), 14 + 39), Malformed),
        row("an IPv6 packet whose payload exceeds the frame by a byte is malformed", datagram(Ipv6 { payload_bytes: Some(14), ..from_unlisted() }), Malformed),
        row("an IPv6 packet of the largest payload length in a short frame is malformed", datagram(Ipv6 { payload_bytes: Some(0xffff), ..from_unlisted() }), Malformed),
        row("an IPv6 packet with Ethernet padding behind it passes", datagram(Ipv6 { payload_bytes: Some(8), ..from_unlisted() }), Clean),
        row("a packet of version 4 behind an IPv6 header's other fields is malformed", datagram(Ipv6 { version: 4, ..from_unlisted() }), Malformed),
        row("a packet of version 15 in a frame of type IPv6 is malformed", datagram(Ipv6 { version: 15, ..from_unlisted() }), Malformed),
        row("a ping over IPv6 passes", over_v6(UNLISTED_V6, ICMPV6, &icmp(128, 0, &[0, 1, 0, 1])), Clean),
        row("a ping of a blocked IPv6 source is dropped", over_v6(BLOCKED_V6, ICMPV6, &icmp(128, 0, &[0, 1, 0, 1])), Blocked),
        row("an ICMPv6 packet without a message is malformed", over_v6(UNLISTED_V6, ICMPV6, &[]), Malformed),
        row("an ICMPv6 packet without a message is blocked from a blocked source", over_v6(BLOCKED_V6, ICMPV6, &[]), Blocked),
        row("an ESP packet passes: what it hides isn't ours to read", over_v6(UNLISTED_V6, ESP, &[0; 16]), Clean),
        row("a next header that nobody knows passes", over_v6(UNLISTED_V6, 253, &[0; 16]), Clean),
    ]
}

/// Each is walked by its own length: only a walk that lands right finds the solicitation.
#[rustfmt::skip]
fn extensions() -> Vec<Row> {
    let solicitation = discovery(SOLICITATION);
    let found = |next_header, header: Vec<u8>| on_link(BLOCKED_V6, next_header, &header);
    vec![
        row("hop-by-hop options are walked", found(HOP_BY_HOP, extension(ICMPV6, 0, &solicitation)), NeighbourDiscovery),
        row("a routing header is walked", found(ROUTING, extension(ICMPV6, 2, &solicitation)), NeighbourDiscovery),
        row("destination options are walked", found(DESTINATION_OPTIONS, extension(ICMPV6, 1, &solicitation)), NeighbourDiscovery),
        row("the longest destination options are walked", found(DESTINATION_OPTIONS, extension(ICMPV6, 255, &solicitation)), NeighbourDiscovery),
        row("a mobility header is walked", found(MOBILITY, extension(ICMPV6, 1, &solicitation)), NeighbourDiscovery),
        row("a HIP header is walked", found(HIP, extension(ICMPV6, 4, &solicitation)), NeighbourDiscovery),
        row("a shim6 header is walked", found(SHIM6, extension(ICMPV6, 3, &solicitation)), NeighbourDiscovery),
        row("an authentication header is walked by words of four bytes", found(AUTHENTICATION, authentication(ICMPV6, 4, &solicitation)), NeighbourDiscovery),
        row("an odd number of words in an authentication header is walked", found(AUTHENTICATION, authentication(ICMPV6, 5, &solicitation)), NeighbourDiscovery),

        row("hop-by-hop options before UDP pass", over_v6(UNLISTED_V6, HOP_BY_HOP, &extension(UDP, 0, &udp(b"hello"))), Clean),
        row("hop-by-hop options of a blocked source are dropped", over_v6(BLOCKED_V6, HOP_BY_HOP, &extension(UDP, 0, &udp(b"hello"))), Blocked),
        row("a routing header of a blocked source is dropped", over_v6(BLOCKED_V6, ROUTING, &extension(UDP, 2, &udp(b"hello"))), Blocked),
        row("destination options of a blocked source are dropped", over_v6(BLOCKED_V6, DESTINATION_OPTIONS, &extension(UDP, 0, &udp(b"hello"))), Blocked),
        row("a mobility header of a blocked source is dropped", over_v6(BLOCKED_V6, MOBILITY, &extension(NO_NEXT_HEADER, 1, &[])), Blocked),
        row("a HIP header of a blocked source is dropped", over_v6(BLOCKED_V6, HIP, &extension(NO_NEXT_HEADER, 4, &[])), Blocked),
        row("a shim6 header of a blocked source is dropped", over_v6(BLOCKED_V6, SHIM6, &extension(UDP, 0, &udp(b"hello"))), Blocked),
        row("an authentication header of a blocked source is dropped", over_v6(BLOCKED_V6, AUTHENTICATION, &authentication(UDP, 4, &udp(b"hello"))), Blocked),

        row("an extension header that is announced and missing is malformed", over_v6(UNLISTED_V6, HOP_BY_HOP, &[]), Malformed),
        row("an extension header of one byte is malformed", over_v6(UNLISTED_V6, ROUTING, &[UDP]), Malformed),
        row("an authentication header of one byte is malformed", over_v6(UNLISTED_V6, AUTHENTICATION, &[UDP]), Malformed),
        row("a fragment header cut off is malformed", over_v6(UNLISTED_V6, FRAGMENT, &fragment(UDP, 0, true, &[])[..7]), Malformed),
        row("a second extension header that is missing is malformed", over_v6(UNLISTED_V6, HOP_BY_HOP, &extension(ROUTING, 0, &[])), Malformed),
        row("an extension header that leads past the frame to ICMPv6 is malformed", over_v6(UNLISTED_V6, DESTINATION_OPTIONS, &[ICMPV6, 255, 0, 0, 0, 0, 0, 0]), Malformed),
        row("a missing extension header of a blocked source is blocked", over_v6(BLOCKED_V6, HOP_BY_HOP, &[]), Blocked),
        row("a missing extension header of a trusted source passes", over_v6(TRUSTED_V6, HOP_BY_HOP, &[]), Trusted),
    ]
}

#[rustfmt::skip]
fn chains() -> Vec<Row> {
    let solicitation = discovery(SOLICITATION);
    let every_kind = extension(DESTINATION_OPTIONS, 0,
        &extension(ROUTING, 0,
            &extension(FRAGMENT, 1,
                &fragment(AUTHENTICATION, 0, true,
                    &authentication(MOBILITY, 5,
                        &extension(HIP, 0,
                            &extension(SHIM6, 0,
                                &extension(ICMPV6, 0, &too_big(&quote_of(US_V6))))))))));
    vec![
        row("eight extension headers before UDP pass", chained(UNLISTED_V6, 8, UDP, &udp(b"hello")), Clean),
        row("eight extension headers of a blocked source are dropped", chained(BLOCKED_V6, 8, UDP, &udp(b"hello")), Blocked),
        row("a solicitation behind eight extension headers is found", chained(BLOCKED_V6, 8, ICMPV6, &solicitation), NeighbourDiscovery),
        row("one extension header of each of the eight kinds is walked", over_v6(BLOCKED_V6, HOP_BY_HOP, &every_kind), PathMtu),
        row("nine extension headers are too many", chained(UNLISTED_V6, 9, UDP, &udp(b"hello")), ExtensionsTooDeep),
        row("nine extension headers are too many before a solicitation", chained(UNLISTED_V6, 9, ICMPV6, &solicitation), ExtensionsTooDeep),
        row("nine extension headers of a blocked source are blocked", chained(BLOCKED_V6, 9, UDP, &udp(b"hello")), Blocked),
        row("nine extension headers hide no solicitation of a blocked source", chained(BLOCKED_V6, 9, ICMPV6, &solicitation), Blocked),
        row("nine extension headers of a banned source are banned", chained(BANNED_V6, 9, UDP, &udp(b"hello")), Banned),
        row("nine extension headers of a trusted source pass", chained(TRUSTED_V6, 9, UDP, &udp(b"hello")), Trusted),
        row("a hundred extension headers are too many", chained(UNLISTED_V6, 100, UDP, &udp(b"hello")), ExtensionsTooDeep),
    ]
}

#[rustfmt::skip]
fn fragments() -> Vec<Row> {
    let first = fragment(UDP, 0, true, &udp(&[0; 32]));
    let later = fragment(UDP, 5, true, &[0; 32]);
    let last = fragment(UDP, 100, false, &[0; 32]);
    let posing = fragment(ICMPV6, 5, false, &discovery(SOLICITATION));
    vec![
        row("a first IPv6 fragment passes", over_v6(UNLISTED_V6, FRAGMENT, &first), Clean),
        row("a later IPv6 fragment passes", over_v6(UNLISTED_V6, FRAGMENT, &later), Clean),
        row("a first IPv6 fragment of a blocked source is dropped", over_v6(BLOCKED_V6, FRAGMENT, &first), Blocked),
        row("a later IPv6 fragment of a blocked source is dropped", over_v6(BLOCKED_V6, FRAGMENT, &later), Blocked),
        row("a last IPv6 fragment of a blocked source is dropped", over_v6(BLOCKED_V6, FRAGMENT, &last), Blocked),
        row("a later IPv6 fragment of a trusted source passes", over_v6(TRUSTED_V6, FRAGMENT, &later), Trusted),
        row("a later IPv6 fragment behind a routing header is dropped from a blocked source", over_v6(BLOCKED_V6, ROUTING, &extension(FRAGMENT, 0, &later)), Blocked),
        row("a later IPv6 fragment that looks like a solicitation is dropped from a blocked source", on_link(BLOCKED_V6, FRAGMENT, &posing), Blocked),
        row("a later IPv6 fragment without a byte has nothing to be malformed", over_v6(UNLISTED_V6, FRAGMENT, &fragment(ICMPV6, 5, false, &[])), Clean),
    ]
}

#[rustfmt::skip]
fn neighbour_discovery() -> Vec<Row> {
    let near = |source, kind| on_link(source, ICMPV6, &discovery(kind));
    let routed = |source, kind| {
        let header = Ipv6 { hop_limit: 254, ..source };
        ethernet(IPV6, &header.carrying(ICMPV6, &discovery(kind)))
    };
    vec![
        row("a router solicitation passes", near(NEIGHBOUR, 133), NeighbourDiscovery),
        row("a router advertisement passes", near(NEIGHBOUR, 134), NeighbourDiscovery),
        row("a neighbour solicitation passes", near(NEIGHBOUR, 135), NeighbourDiscovery),
        row("a neighbour advertisement passes", near(NEIGHBOUR, 136), NeighbourDiscovery),
        row("a redirect passes", near(NEIGHBOUR, 137), NeighbourDiscovery),
        row("a solicitation for duplicate addresses, which has no source, passes", near([0; 8], 135), NeighbourDiscovery),
        row("a router solicitation of a blocked source passes", near(BLOCKED_V6, 133), NeighbourDiscovery),
        row("a router advertisement of a blocked source passes", near(BLOCKED_NEIGHBOUR, 134), NeighbourDiscovery),
        row("a neighbour solicitation of a blocked source passes", near(BLOCKED_NEIGHBOUR, 135), NeighbourDiscovery),
        row("a neighbour advertisement of a blocked source passes", near(BLOCKED_NEIGHBOUR, 136), NeighbourDiscovery),
        row("a redirect of a blocked source passes", near(BLOCKED_NEIGHBOUR, 137), NeighbourDiscovery),
        row("a neighbour solicitation of a banned source passes", near(BANNED_V6, 135), NeighbourDiscovery),
        row("a neighbour solicitation of a trusted source passes as trusted", near(TRUSTED_V6, 135), Trusted),
        row("the message type below neighbour discovery is dropped from a blocked source", near(BLOCKED_V6, 132), Blocked),
        row("the message type above neighbour discovery is dropped from a blocked source", near(BLOCKED_V6, 138), Blocked),
        row("a listener report passes as any packet does", near(NEIGHBOUR, 143), Clean),
        row("a router advertisement that was forwarded is nothing special", routed(UNLISTED_V6.into(), 134), Clean),
        row("a router solicitation that was forwarded is dropped from a blocked source", routed(BLOCKED_V6.into(), 133), Blocked),
        row("a router advertisement that was forwarded is dropped from a blocked source", routed(BLOCKED_V6.into(), 134), Blocked),
        row("a neighbour solicitation that was forwarded is dropped from a blocked source", routed(BLOCKED_V6.into(), 135), Blocked),
        row("a neighbour advertisement that was forwarded is dropped from a blocked source", routed(BLOCKED_V6.into(), 136), Blocked),
        row("a redirect that was forwarded is dropped from a blocked source", routed(BLOCKED_V6.into(), 137), Blocked),
        row("other packets of a blocked neighbour are dropped", on_link(BLOCKED_NEIGHBOUR, UDP, &udp(b"hello")), Blocked),
    ]
}

#[rustfmt::skip]
fn path_mtu() -> Vec<Row> {
    const STRANGER: [u16; 8] = [0x2001, 0xdb8, 0xffff, 0, 0, 0, 0, 2];
    const OTHER_NETWORK: [u16; 8] = [0x2001, 0xdb8, 0xfffe, 0, 0, 0, 0, 1];
    let quoting = |sender| too_big(&quote_of(sender));
    vec![
        row("a packet-too-big message that quotes us passes", over_v6(UNLISTED_V6, ICMPV6, &quoting(US_V6)), PathMtu),
        row("a packet-too-big message that quotes us passes from a blocked source", over_v6(BLOCKED_V6, ICMPV6, &quoting(US_V6)), PathMtu),
        row("a packet-too-big message that quotes us passes from a banned source", over_v6(BANNED_V6, ICMPV6, &quoting(US_V6)), PathMtu),
        row("a packet-too-big message of a trusted source passes as trusted", over_v6(TRUSTED_V6, ICMPV6, &quoting(US_V6)), Trusted),
        row("a packet-too-big message behind hop-by-hop options is found", over_v6(BLOCKED_V6, HOP_BY_HOP, &extension(ICMPV6, 0, &quoting(US_V6))), PathMtu),
        row("a packet-too-big message that quotes a stranger is dropped from a blocked source", over_v6(BLOCKED_V6, ICMPV6, &quoting(STRANGER)), Blocked),
        row("a packet-too-big message that quotes another network is dropped from a blocked source", over_v6(BLOCKED_V6, ICMPV6, &quoting(OTHER_NETWORK)), Blocked),
        row("a packet-too-big message that quotes a stranger is nothing special", over_v6(UNLISTED_V6, ICMPV6, &quoting(STRANGER)), Clean),
        row("a packet-too-big message cut off inside the address it quotes is dropped from a blocked source", over_v6(BLOCKED_V6, ICMPV6, &too_big(&quote_of(US_V6)[..23])), Blocked),
        row("a packet-too-big message of 1,280 bytes passes from a blocked source", too_big_of(1280), PathMtu),
        row("a packet-too-big message of 1,281 bytes is dropped from a blocked source", too_big_of(1281), Blocked),
        row("a port-unreachable message over IPv6 is dropped from a blocked source", over_v6(BLOCKED_V6, ICMPV6, &icmp_error(1, 4, 0, &quote_of(US_V6))), Blocked),
    ]
}
