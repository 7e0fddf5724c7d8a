//! Frames cut off at every byte.

use portcullis_tests::{
    frames::{
        CUSTOMER_TAG, DESTINATION_OPTIONS, ICMPV6, IPV4, IPV6, Ipv4, Ipv6, SERVICE_TAG, TCP, UDP,
        cut, ethernet, extension, icmp, ipv4, ipv6, tcp_syn, udp, vlan,
    },
    loaded::{Failure, SHORTEST_FRAME_BYTES},
};
use proxy_common::Reason::{self, Blocked, Clean, Malformed, NeighbourDiscovery};

use crate::{
    Kernel, Scene,
    lists::{BLOCKED_V4, UNLISTED_V4, UNLISTED_V6},
    play::scene,
};

#[rustfmt::skip]
pub(crate) const SCENES: &[Scene] = &[
    scene("an IPv4 frame cut off at any byte is malformed", every_cut_of_ipv4),
    scene("an IPv6 frame cut off at any byte is malformed", every_cut_of_ipv6),
    scene("a frame behind two VLAN tags cut off at any byte is malformed", every_cut_behind_tags),
    scene("an extension chain that ends honestly at any byte is malformed until ICMPv6's header is there", every_honest_end),
];

/// Every shorter frame that the kernel runs a program on.
fn every_cut(kernel: &mut Kernel, whole: &[u8], expected: Reason) -> Result<(), Failure> {
    for bytes in SHORTEST_FRAME_BYTES..whole.len() {
        let frame = cut(whole.to_vec(), bytes);
        kernel.loaded.expect(&frame, Malformed)?;
    }
    kernel.loaded.expect(whole, expected)
}

fn every_cut_of_ipv4(kernel: &mut Kernel) -> Result<(), Failure> {
    let header = Ipv4 {
        options: vec![1; 8],
        ..UNLISTED_V4.into()
    };
    every_cut(
        kernel,
        &ethernet(IPV4, &header.carrying(TCP, &tcp_syn())),
        Clean,
    )
}

fn every_cut_of_ipv6(kernel: &mut Kernel) -> Result<(), Failure> {
    let options = extension(UDP, 1, &udp(b"hello"));
    let frame = ethernet(IPV6, &ipv6(UNLISTED_V6, DESTINATION_OPTIONS, &options));
    every_cut(kernel, &frame, Clean)
}

fn every_cut_behind_tags(kernel: &mut Kernel) -> Result<(), Failure> {
    let packet = ipv4(BLOCKED_V4, UDP, &udp(b"hello"));
    let tags = vlan(7, CUSTOMER_TAG, &vlan(8, IPV4, &packet));
    every_cut(kernel, &ethernet(SERVICE_TAG, &tags), Blocked)
}

/// The IPv6 length is true at every cut, so that only the walk can notice.
fn every_honest_end(kernel: &mut Kernel) -> Result<(), Failure> {
    const MESSAGE_BEGINS: usize = 16;
    const ICMP_HEADER_BYTES: usize = 8;
    let solicitation = icmp(135, 0, &[0; 20]);
    let chain = extension(DESTINATION_OPTIONS, 0, &extension(ICMPV6, 0, &solicitation));
    let header = Ipv6 {
        hop_limit: 255,
        ..UNLISTED_V6.into()
    };
    for bytes in 0..=chain.len() {
        let frame = ethernet(IPV6, &header.carrying(DESTINATION_OPTIONS, &chain[..bytes]));
        let expected = if bytes >= MESSAGE_BEGINS + ICMP_HEADER_BYTES {
            NeighbourDiscovery
        } else {
            Malformed
        };
        kernel.loaded.expect(&frame, expected)?;
    }
    Ok(())
}
