//! Jumbo frames, which reach the program in several buffers.

use portcullis_tests::frames::{
    CUSTOMER_TAG, DESTINATION_OPTIONS, ICMPV6, IPV4, IPV6, Ipv4, Ipv6, SERVICE_TAG, TCP, UDP,
    ethernet, extension, icmp, ipv4, ipv6, tcp_syn, udp, vlan,
};
use proxy_common::Reason::{Blocked, Clean, Malformed, NotIp, Trusted, VlanTooDeep};

use crate::{
    Row,
    lists::{BLOCKED_V4, BLOCKED_V6, TRUSTED_V4, UNLISTED_V4, UNLISTED_V6},
    row,
};

/// What the kernel puts into the first buffer: a page less the headroom (256) and `struct
/// skb_shared_info` (320); see `bpf_prog_test_run_xdp` in net/bpf/test_run.c.
const FIRST_BUFFER: usize = 4096 - 256 - 320;
const JUMBO: usize = 9_000;

/// A datagram in a frame of so many bytes.
fn over_v4(source: [u8; 4], frame_bytes: usize) -> Vec<u8> {
    ethernet(IPV4, &ipv4(source, UDP, &udp(&vec![0; frame_bytes - 42])))
}

fn over_v6(source: [u16; 8], frame_bytes: usize) -> Vec<u8> {
    ethernet(IPV6, &ipv6(source, UDP, &udp(&vec![0; frame_bytes - 62])))
}

#[rustfmt::skip]
pub(crate) fn rows() -> Vec<Row> {
    let payload = || udp(&[0; JUMBO]);
    let from_unlisted = || Ipv4::from(UNLISTED_V4);
    let tagged = ipv4(BLOCKED_V4, UDP, &payload());
    let options = extension(UDP, 255, &payload());
    // Two headers of 2,048 bytes lead past the first buffer.
    let far_from = |source, next_header, payload: &[u8]| {
        let far = extension(DESTINATION_OPTIONS, 255, &extension(next_header, 255, payload));
        ethernet(IPV6, &ipv6(source, DESTINATION_OPTIONS, &far))
    };
    let one_more = extension(TCP, 0, &tcp_syn());
    vec![
        row("a jumbo frame passes and counts with its whole length", over_v4(UNLISTED_V4, JUMBO), Clean),
        row("a jumbo frame of a blocked source is dropped", over_v4(BLOCKED_V4, JUMBO), Blocked),
        row("a jumbo frame of a trusted source passes", over_v4(TRUSTED_V4, JUMBO), Trusted),
        row("a jumbo frame over IPv6 passes", over_v6(UNLISTED_V6, JUMBO), Clean),
        row("a jumbo frame of a blocked IPv6 source is dropped", over_v6(BLOCKED_V6, JUMBO), Blocked),
        row("a frame that fills the first buffer passes", over_v4(UNLISTED_V4, FIRST_BUFFER), Clean),
        row("a frame of one byte in its second buffer passes", over_v4(UNLISTED_V4, FIRST_BUFFER + 1), Clean),
        row("a frame of one byte in its second buffer is dropped from a blocked source", over_v4(BLOCKED_V4, FIRST_BUFFER + 1), Blocked),
        row("the largest IPv4 packet passes", over_v4(UNLISTED_V4, 14 + 65_535), Clean),
        row("the largest IPv6 packet of a blocked source is dropped", over_v6(BLOCKED_V6, 14 + 40 + 65_535), Blocked),
        row("a blocked source behind two VLAN tags in a jumbo frame is dropped", ethernet(SERVICE_TAG, &vlan(7, CUSTOMER_TAG, &vlan(8, IPV4, &tagged))), Blocked),
        row("a jumbo frame behind an IPv6 extension header passes", ethernet(IPV6, &ipv6(UNLISTED_V6, DESTINATION_OPTIONS, &options)), Clean),

        row("a jumbo IPv4 packet that claims a byte more than all buffers hold is malformed", ethernet(IPV4, &Ipv4 { total_bytes: Some(28 + JUMBO as u16 + 1), ..from_unlisted() }.carrying(UDP, &payload())), Malformed),
        row("a jumbo IPv6 packet that claims a byte more than all buffers hold is malformed", ethernet(IPV6, &Ipv6 { payload_bytes: Some(8 + JUMBO as u16 + 1), ..UNLISTED_V6.into() }.carrying(UDP, &payload())), Malformed),
        row("a jumbo IPv4 packet with a header of zero words is malformed", ethernet(IPV4, &Ipv4 { header_words: Some(0), ..from_unlisted() }.carrying(UDP, &payload())), Malformed),
        row("a TCP header past the first buffer passes", far_from(UNLISTED_V6, TCP, &tcp_syn()), Clean),
        row("an extension header past the first buffer is malformed", far_from(UNLISTED_V6, DESTINATION_OPTIONS, &one_more), Malformed),
        row("an ICMPv6 message past the first buffer is malformed", far_from(UNLISTED_V6, ICMPV6, &icmp(128, 0, &[0; 4])), Malformed),
        row("an extension header of a blocked source past the first buffer is blocked", far_from(BLOCKED_V6, DESTINATION_OPTIONS, &one_more), Blocked),
        row("a jumbo frame of no IP passes and counts with its whole length", ethernet(0x88b5, &[0; JUMBO]), NotIp),
        row("a jumbo frame behind three VLAN tags is dropped and counts with its whole length", ethernet(SERVICE_TAG, &vlan(7, CUSTOMER_TAG, &vlan(8, CUSTOMER_TAG, &vlan(9, IPV4, &tagged)))), VlanTooDeep),
    ]
}
