//! IPv4: headers that contradict themselves, options, fragments, path-MTU messages.

use portcullis_tests::frames::{
    ESP, ICMP, IPV4, IPV6, Ipv4, MORE_FRAGMENTS, TCP, UDP, US_V4, cut, ethernet, icmp, icmp_error,
    ipv4, padded, tcp_syn, udp,
};
use proxy_common::Reason::{Banned, Blocked, Clean, Malformed, PathMtu, Trusted};

use crate::{
    Row,
    lists::{BANNED_V4, BLOCKED_V4, TRUSTED_V4, UNLISTED_V4},
    row,
};

/// A datagram behind a header that isn't ordinary.
fn datagram(header: &Ipv4) -> Vec<u8> {
    ethernet(IPV4, &header.carrying(UDP, &udp(b"hello")))
}

/// Destination unreachable, fragmentation needed: the next hop takes 1,400 bytes (RFC 1191, 4).
fn fragmentation_needed(quoted: &[u8]) -> Vec<u8> {
    icmp_error(3, 4, 1400, quoted)
}

/// An IPv4 packet of ours, as an error quotes it: its header and eight bytes (RFC 792).
fn quote_of(sender: [u8; 4]) -> Vec<u8> {
    cut(ipv4(sender, TCP, &tcp_syn()), 28)
}

/// Fragmentation needed in an IPv4 packet of `total_bytes`, quoting us.
fn path_mtu_of(total_bytes: usize) -> Vec<u8> {
    let mut message = fragmentation_needed(&quote_of(US_V4));
    message.resize(total_bytes - 20, 0);
    ethernet(IPV4, &ipv4(BLOCKED_V4, ICMP, &message))
}

fn echo_request() -> Vec<u8> {
    icmp(8, 0, &[0, 1, 0, 1])
}

pub(crate) fn rows() -> Vec<Row> {
    [headers(), upper_layers(), path_mtu()]
        .into_iter()
        .flatten()
        .collect()
}

#[rustfmt::skip]
fn headers() -> Vec<Row> {
    let from_unlisted = || Ipv4::from(UNLISTED_V4);
    let from_blocked = || Ipv4::from(BLOCKED_V4);
    let record_route = || vec![7, 7, 4, 0, 0, 0, 0, 0];
    vec![
        row("an ordinary IPv4 datagram passes", datagram(&from_unlisted()), Clean),
        row("an IPv4 packet of a header alone passes", ethernet(IPV4, &ipv4(UNLISTED_V4, UDP, &[])), Clean),
        row("an IPv4 header cut off after its first byte is malformed", cut(datagram(&from_unlisted()), 14 + 1), Malformed),
        row("an IPv4 header cut off before its source address is malformed", cut(datagram(&from_unlisted()), 14 + 12), Malformed),
        row("an IPv4 header cut off inside its source address is malformed", cut(datagram(&from_unlisted()), 14 + 15), Malformed),
        row("an IPv4 header cut off inside its destination address is malformed", cut(datagram(&from_unlisted()), 14 + 19), Malformed),
        row("an IPv4 packet cut off right behind its header is malformed", cut(datagram(&from_unlisted()), 14 + 20), Malformed),
        row("a cut-off IPv4 header is malformed, trusted source or not", cut(datagram(&TRUSTED_V4.into()), 14 + 19), Malformed),
        row("a cut-off IPv4 packet of a blocked source is malformed", cut(datagram(&from_blocked()), 14 + 20), Malformed),

        row("an IPv4 packet whose header length is below five words is malformed", datagram(&Ipv4 { header_words: Some(4), ..from_unlisted() }), Malformed),
        row("an IPv4 packet whose header length is zero is malformed", datagram(&Ipv4 { header_words: Some(0), ..from_unlisted() }), Malformed),
        row("an IPv4 packet whose header length exceeds its total length is malformed", datagram(&Ipv4 { header_words: Some(15), ..from_unlisted() }), Malformed),
        row("an IPv4 packet whose header length exceeds the frame is malformed", datagram(&Ipv4 { header_words: Some(15), total_bytes: Some(60), ..from_unlisted() }), Malformed),
        row("an IPv4 packet whose total length exceeds the frame by a byte is malformed", datagram(&Ipv4 { total_bytes: Some(34), ..from_unlisted() }), Malformed),
        row("an IPv4 packet of the largest total length in a short frame is malformed", datagram(&Ipv4 { total_bytes: Some(0xffff), ..from_unlisted() }), Malformed),
        row("an IPv4 packet whose total length is below its header's is malformed", datagram(&Ipv4 { total_bytes: Some(19), ..from_unlisted() }), Malformed),
        row("an IPv4 packet whose total length is zero is malformed", datagram(&Ipv4 { total_bytes: Some(0), ..from_unlisted() }), Malformed),
        row("a packet of version 6 in a frame of type IPv4 is malformed", datagram(&Ipv4 { version: 6, ..from_unlisted() }), Malformed),
        row("a packet of version 4 in a frame of type IPv6 is malformed", ethernet(IPV6, &ipv4(UNLISTED_V4, UDP, &udp(&[0; 40]))), Malformed),
        row("a packet of version 0 in a frame of type IPv4 is malformed", datagram(&Ipv4 { version: 0, ..from_unlisted() }), Malformed),

        row("an IPv4 packet padded to Ethernet's 60 bytes passes", padded(ethernet(IPV4, &ipv4(UNLISTED_V4, TCP, &tcp_syn()))), Clean),
        row("a blocked IPv4 packet padded to Ethernet's 60 bytes is dropped", padded(ethernet(IPV4, &ipv4(BLOCKED_V4, TCP, &tcp_syn()))), Blocked),
        row("an IPv4 packet with options passes", datagram(&Ipv4 { options: record_route(), ..from_unlisted() }), Clean),
        row("a blocked IPv4 packet with options is dropped", datagram(&Ipv4 { options: record_route(), ..from_blocked() }), Blocked),
        row("a trusted IPv4 packet with options passes", datagram(&Ipv4 { options: record_route(), ..TRUSTED_V4.into() }), Trusted),
        row("an IPv4 packet with all forty bytes of options passes", datagram(&Ipv4 { options: vec![1; 40], ..from_unlisted() }), Clean),
        row("an IPv4 packet cut off inside its options is malformed", cut(datagram(&Ipv4 { options: vec![1; 40], ..from_unlisted() }), 14 + 50), Malformed),
        row("the largest frame that fits one buffer passes", ethernet(IPV4, &ipv4(UNLISTED_V4, UDP, &udp(&[0; LARGEST_PAYLOAD]))), Clean),
        row("the largest frame that fits one buffer is dropped from a blocked source", ethernet(IPV4, &ipv4(BLOCKED_V4, UDP, &udp(&[0; LARGEST_PAYLOAD]))), Blocked),
    ]
}

/// A page less the headroom (256) and `struct skb_shared_info` (320) is the largest frame the
/// kernel runs a program on in one buffer; 42 bytes of it are headers.
const LARGEST_PAYLOAD: usize = 4096 - 256 - 320 - 42;

#[rustfmt::skip]
fn upper_layers() -> Vec<Row> {
    let first = |source| Ipv4 { fragment: MORE_FRAGMENTS, ..Ipv4::from(source) };
    let middle = |source| Ipv4 { fragment: MORE_FRAGMENTS | 100, ..Ipv4::from(source) };
    let last = |source| Ipv4 { fragment: 185, ..Ipv4::from(source) };
    vec![
        row("a TCP segment over IPv4 passes", ethernet(IPV4, &ipv4(UNLISTED_V4, TCP, &tcp_syn())), Clean),
        row("a TCP segment of a blocked IPv4 source is dropped", ethernet(IPV4, &ipv4(BLOCKED_V4, TCP, &tcp_syn())), Blocked),
        row("a TCP header cut off by an honest total length isn't ours to judge", ethernet(IPV4, &ipv4(UNLISTED_V4, TCP, &tcp_syn()[..5])), Clean),
        row("an ESP packet of a blocked IPv4 source is dropped", ethernet(IPV4, &ipv4(BLOCKED_V4, ESP, &[0; 16])), Blocked),
        row("a ping over IPv4 passes", ethernet(IPV4, &ipv4(UNLISTED_V4, ICMP, &echo_request())), Clean),
        row("a ping of a blocked IPv4 source is dropped", ethernet(IPV4, &ipv4(BLOCKED_V4, ICMP, &echo_request())), Blocked),
        row("an ICMP packet without a message is malformed", ethernet(IPV4, &ipv4(UNLISTED_V4, ICMP, &[])), Malformed),
        row("an ICMP message of one byte is malformed", ethernet(IPV4, &ipv4(UNLISTED_V4, ICMP, &[8])), Malformed),
        row("an ICMP packet without a message is blocked from a blocked source", ethernet(IPV4, &ipv4(BLOCKED_V4, ICMP, &[])), Blocked),
        row("an ICMP packet without a message is banned from a banned source", ethernet(IPV4, &ipv4(BANNED_V4, ICMP, &[])), Banned),
        row("an ICMP packet without a message passes from a trusted source", ethernet(IPV4, &ipv4(TRUSTED_V4, ICMP, &[])), Trusted),

        row("a first IPv4 fragment passes", datagram(&first(UNLISTED_V4)), Clean),
        row("a last IPv4 fragment passes", datagram(&last(UNLISTED_V4)), Clean),
        row("a first IPv4 fragment of a blocked source is dropped", datagram(&first(BLOCKED_V4)), Blocked),
        row("a middle IPv4 fragment of a blocked source is dropped", datagram(&middle(BLOCKED_V4)), Blocked),
        row("a last IPv4 fragment of a blocked source is dropped", datagram(&last(BLOCKED_V4)), Blocked),
        row("a last IPv4 fragment of a trusted source passes", datagram(&last(TRUSTED_V4)), Trusted),
        row("a later ICMP fragment has no message to be malformed", ethernet(IPV4, &last(UNLISTED_V4).carrying(ICMP, &[])), Clean),
        row(
            "a later IPv4 fragment that looks like a path-MTU message is dropped from a blocked source",
            ethernet(IPV4, &last(BLOCKED_V4).carrying(ICMP, &fragmentation_needed(&quote_of(US_V4)))),
            Blocked,
        ),
    ]
}

#[rustfmt::skip]
fn path_mtu() -> Vec<Row> {
    const STRANGER: [u8; 4] = [100, 64, 0, 2];
    let over_v4 = |source, message: &[u8]| ethernet(IPV4, &ipv4(source, ICMP, message));
    let quoting_us = || fragmentation_needed(&quote_of(US_V4));
    vec![
        row("a path-MTU message that quotes us passes", over_v4(UNLISTED_V4, &quoting_us()), PathMtu),
        row("a path-MTU message that quotes us passes from a blocked source", over_v4(BLOCKED_V4, &quoting_us()), PathMtu),
        row("a path-MTU message that quotes us passes from a banned source", over_v4(BANNED_V4, &quoting_us()), PathMtu),
        row("a path-MTU message of a trusted source passes as trusted", over_v4(TRUSTED_V4, &quoting_us()), Trusted),
        row("a path-MTU message behind IPv4 options is found", ethernet(IPV4, &Ipv4 { options: vec![1; 12], ..BLOCKED_V4.into() }.carrying(ICMP, &quoting_us())), PathMtu),
        row("a path-MTU message in a first fragment is found", ethernet(IPV4, &Ipv4 { fragment: MORE_FRAGMENTS, ..BLOCKED_V4.into() }.carrying(ICMP, &quoting_us())), PathMtu),
        row("a path-MTU message that quotes a stranger is dropped from a blocked source", over_v4(BLOCKED_V4, &fragmentation_needed(&quote_of(STRANGER))), Blocked),
        row("a path-MTU message that quotes a stranger is nothing special", over_v4(UNLISTED_V4, &fragmentation_needed(&quote_of(STRANGER))), Clean),
        row("a path-MTU message cut off inside the address it quotes is dropped from a blocked source", over_v4(BLOCKED_V4, &fragmentation_needed(&quote_of(US_V4)[..15])), Blocked),
        row("a path-MTU message without a quote is dropped from a blocked source", over_v4(BLOCKED_V4, &fragmentation_needed(&[])), Blocked),
        row("a path-MTU message of 576 bytes passes from a blocked source", path_mtu_of(576), PathMtu),
        row("a path-MTU message of 577 bytes is dropped from a blocked source", path_mtu_of(577), Blocked),
        row("a port-unreachable message that quotes us is dropped from a blocked source", over_v4(BLOCKED_V4, &icmp_error(3, 3, 0, &quote_of(US_V4))), Blocked),
        row("a redirect that quotes us is dropped from a blocked source", over_v4(BLOCKED_V4, &icmp_error(5, 4, 0, &quote_of(US_V4))), Blocked),
        row("a UDP datagram with the bytes of a path-MTU message is dropped from a blocked source", ethernet(IPV4, &ipv4(BLOCKED_V4, UDP, &quoting_us())), Blocked),
    ]
}
