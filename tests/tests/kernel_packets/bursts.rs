//! The limit on a source's packets: bursts, neighbours, who shares a bucket and who is exempt.

use datapath::Rules;
use portcullis_tests::{
    frames::{
        ARP, ICMPV6, IPV4, IPV6, Ipv4, Ipv6, UDP, US_V4, arp_request, ethernet, icmp, mapped,
    },
    loaded::Failure,
};
use proxy_common::{
    Gcra, Limit, LimitSetting, Mode,
    Reason::{Blocked, Clean, NeighbourDiscovery, NotIp, SourcePackets, Trusted},
};

use crate::{
    Kernel, Scene,
    lists::{BAN_ENDED_V4, BLOCKED_V4, TRUSTED_V4, TRUSTED_V6, datagram_v4, datagram_v6},
    play::{hourly, in_turn, ruled, scene},
};

#[rustfmt::skip]
pub(crate) const SCENES: &[Scene] = &[
    scene("a source passes within its burst and is limited beyond it", burst),
    scene("a second source is undisturbed by one over its limit", second_source),
    scene("every fragment of a source counts against its limit", fragments_count),
    scene("a trusted source is never limited", trusted_unlimited),
    scene("a blocked source is blocked, not limited", blocked_not_limited),
    scene("a source whose ban has ended is limited like any other", ended_ban_limited),
    scene("the addresses of one IPv6 /64 share a limit", same_64),
    scene("the next IPv6 /64 has a limit of its own", next_64),
    scene("link-local neighbours have a limit each", link_local),
    scene("an IPv4 source and its v4-mapped form share a limit", mapped_shares),
    scene("ARP and neighbour discovery are never limited", discovery_unlimited),
    scene("a limit that is switched off lets everything pass, and begins afresh", switched_off),
];

/// Plays with a limit on the packets of sources in force, and lifts it again.
fn limited(
    kernel: &mut Kernel,
    source_packets: Gcra,
    play: impl FnOnce(&mut Kernel) -> Result<(), Failure>,
) -> Result<(), Failure> {
    let limit = LimitSetting::new(source_packets, Mode::Enforce);
    ruled(kernel, Rules::NONE.with(Limit::SourcePackets, limit), play)
}

fn burst(kernel: &mut Kernel) -> Result<(), Failure> {
    let frame = datagram_v4([100, 64, 10, 1]);
    limited(kernel, hourly(3), |kernel| {
        in_turn(
            kernel,
            &[
                (&frame, Clean),
                (&frame, Clean),
                (&frame, Clean),
                (&frame, SourcePackets),
                (&frame, SourcePackets),
            ],
        )
    })
}

fn second_source(kernel: &mut Kernel) -> Result<(), Failure> {
    let fast = datagram_v4([100, 64, 11, 1]);
    let calm = datagram_v4([100, 64, 11, 2]);
    limited(kernel, hourly(2), |kernel| {
        in_turn(
            kernel,
            &[
                (&fast, Clean),
                (&calm, Clean),
                (&fast, Clean),
                (&fast, SourcePackets),
                (&fast, SourcePackets),
                (&calm, Clean),
                (&calm, SourcePackets),
            ],
        )
    })
}

fn fragments_count(kernel: &mut Kernel) -> Result<(), Failure> {
    let later = Ipv4 {
        fragment: 185,
        ..[100, 64, 12, 1].into()
    };
    let later = ethernet(IPV4, &later.carrying(UDP, &[0; 8]));
    let whole = datagram_v4([100, 64, 12, 1]);
    limited(kernel, hourly(2), |kernel| {
        in_turn(
            kernel,
            &[(&whole, Clean), (&later, Clean), (&later, SourcePackets)],
        )
    })
}

fn trusted_unlimited(kernel: &mut Kernel) -> Result<(), Failure> {
    let v4 = datagram_v4(TRUSTED_V4);
    let v6 = datagram_v6(TRUSTED_V6);
    limited(kernel, hourly(1), |kernel| {
        (0..10).try_for_each(|_| in_turn(kernel, &[(&v4, Trusted), (&v6, Trusted)]))
    })
}

fn blocked_not_limited(kernel: &mut Kernel) -> Result<(), Failure> {
    let frame = datagram_v4(BLOCKED_V4);
    limited(kernel, hourly(1), |kernel| {
        (0..10).try_for_each(|_| in_turn(kernel, &[(&frame, Blocked)]))
    })
}

fn ended_ban_limited(kernel: &mut Kernel) -> Result<(), Failure> {
    let frame = datagram_v4(BAN_ENDED_V4);
    limited(kernel, hourly(1), |kernel| {
        in_turn(kernel, &[(&frame, Clean), (&frame, SourcePackets)])
    })
}

fn same_64(kernel: &mut Kernel) -> Result<(), Failure> {
    let first = datagram_v6([0x2001, 0xdb8, 0xa, 1, 0, 0, 0, 1]);
    let last = datagram_v6([0x2001, 0xdb8, 0xa, 1, 0xffff, 0xffff, 0xffff, 0xffff]);
    limited(kernel, hourly(2), |kernel| {
        in_turn(
            kernel,
            &[
                (&first, Clean),
                (&last, Clean),
                (&first, SourcePackets),
                (&last, SourcePackets),
            ],
        )
    })
}

fn next_64(kernel: &mut Kernel) -> Result<(), Failure> {
    let one = datagram_v6([0x2001, 0xdb8, 0xa, 2, 0, 0, 0, 1]);
    let next = datagram_v6([0x2001, 0xdb8, 0xa, 3, 0, 0, 0, 1]);
    limited(kernel, hourly(1), |kernel| {
        in_turn(
            kernel,
            &[(&one, Clean), (&one, SourcePackets), (&next, Clean)],
        )
    })
}

fn link_local(kernel: &mut Kernel) -> Result<(), Failure> {
    let one = datagram_v6([0xfe80, 0, 0, 0, 0, 0, 0, 1]);
    let other = datagram_v6([0xfe80, 0, 0, 0, 0, 0, 0, 2]);
    limited(kernel, hourly(1), |kernel| {
        in_turn(
            kernel,
            &[
                (&one, Clean),
                (&one, SourcePackets),
                (&other, Clean),
                (&other, SourcePackets),
            ],
        )
    })
}

fn mapped_shares(kernel: &mut Kernel) -> Result<(), Failure> {
    const SOURCE: [u8; 4] = [100, 64, 13, 1];
    let plain = datagram_v4(SOURCE);
    let mapped = datagram_v6(mapped(SOURCE));
    limited(kernel, hourly(2), |kernel| {
        in_turn(
            kernel,
            &[
                (&plain, Clean),
                (&mapped, Clean),
                (&plain, SourcePackets),
                (&mapped, SourcePackets),
            ],
        )
    })
}

fn discovery_unlimited(kernel: &mut Kernel) -> Result<(), Failure> {
    let arp = ethernet(ARP, &arp_request([100, 64, 14, 1], US_V4));
    let header = Ipv6 {
        hop_limit: 255,
        ..[0xfe80, 0, 0, 0, 0, 0, 0, 3].into()
    };
    let solicitation = ethernet(IPV6, &header.carrying(ICMPV6, &icmp(135, 0, &[0; 20])));
    limited(kernel, hourly(1), |kernel| {
        (0..10).try_for_each(|_| {
            in_turn(
                kernel,
                &[(&arp, NotIp), (&solicitation, NeighbourDiscovery)],
            )
        })
    })
}

fn switched_off(kernel: &mut Kernel) -> Result<(), Failure> {
    let frame = datagram_v4([100, 64, 15, 1]);
    limited(kernel, hourly(1), |kernel| {
        in_turn(kernel, &[(&frame, Clean), (&frame, SourcePackets)])
    })?;
    limited(kernel, Gcra::UNLIMITED, |kernel| {
        in_turn(kernel, &[(&frame, Clean), (&frame, Clean)])
    })?;
    limited(kernel, hourly(1), |kernel| {
        in_turn(kernel, &[(&frame, Clean), (&frame, SourcePackets)])
    })
}
