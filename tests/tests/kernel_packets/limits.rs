//! Every kind of limit, of sources and of aggregates: what counts for it, whom it counts together,
//! monitor mode, and changes at run time.

use datapath::Rules;
use portcullis_tests::{
    frames::{
        ACK, ICMP, ICMPV6, IPV4, IPV6, SYN, TCP, UDP, US_V4, US_V6, ethernet, icmp, icmp_error,
        ipv4, ipv6, tcp, udp,
    },
    loaded::Failure,
};
use proxy_common::{
    Gcra, KeyLengths, Limit, LimitSetting, Mode,
    Reason::{Clean, PathMtu, SourcePackets, SourceSyn, SourceUdp, Trusted},
};

use crate::{
    Kernel, Scene,
    lists::{TRUSTED_V4, TRUSTED_V6, datagram_v4, datagram_v6},
    play::{hourly, in_turn, ruled, scene},
};

#[rustfmt::skip]
pub(crate) const SCENES: &[Scene] = &[
    scene("each limit drops what goes over it under its own name, over IPv4", each_limit_v4),
    scene("each limit drops what goes over it under its own name, over IPv6", each_limit_v6),
    scene("a limit in monitor mode counts what goes over it as watched, and it passes", each_monitored),
    scene("an aggregate is limited together, whichever of its sources sends, and its neighbour apart", aggregates),
    scene("each limit has a burst of its own", own_bursts),
    scene("an enforced limit drops what a watching one before it lets pass", enforced_behind_monitored),
    scene("a byte limit counts whole frames, and one frame larger than the burst passes once", bytes),
    scene("fragments count as connections that open, and as datagrams", fragments),
    scene("sources and aggregates are told apart by the configured lengths", key_lengths),
    scene("a wider limit set at run time lets a limited source pass with the next packet", widened),
    scene("path-MTU messages are never limited", path_mtu_unlimited),
    scene("a trusted source is exempt from every limit", trusted_exempt),
];

/// What a source sends, by what it is to the limits.
#[derive(Clone, Copy, PartialEq)]
enum Kind {
    Syn,
    Tcp,
    Udp,
    Icmp,
}

const KINDS: [Kind; 4] = [Kind::Syn, Kind::Tcp, Kind::Udp, Kind::Icmp];

impl Kind {
    fn counts_for(self, limit: Limit) -> bool {
        match limit {
            Limit::SourcePackets | Limit::AggregatePackets => true,
            Limit::SourceBytes | Limit::AggregateBytes => true,
            Limit::SourceSyn | Limit::AggregateSyn => self == Self::Syn,
            Limit::SourceUdp | Limit::AggregateUdp => self == Self::Udp,
            Limit::SourceIcmp | Limit::AggregateIcmp => self == Self::Icmp,
        }
    }

    /// All of one length, so that bytes are easily counted.
    fn payload(self, icmp_protocol: u8) -> (u8, Vec<u8>) {
        let (protocol, mut payload) = match self {
            Self::Syn => (TCP, tcp(SYN)),
            Self::Tcp => (TCP, tcp(ACK)),
            Self::Udp => (UDP, udp(&[0; 12])),
            Self::Icmp if icmp_protocol == ICMP => (ICMP, icmp(8, 0, &[0; 16])),
            Self::Icmp => (ICMPV6, icmp(128, 0, &[0; 16])),
        };
        payload.resize(20, 0);
        (protocol, payload)
    }

    fn over_v4(self, source: [u8; 4]) -> Vec<u8> {
        let (protocol, payload) = self.payload(ICMP);
        ethernet(IPV4, &ipv4(source, protocol, &payload))
    }

    fn over_v6(self, source: [u16; 8]) -> Vec<u8> {
        let (protocol, payload) = self.payload(ICMPV6);
        ethernet(IPV6, &ipv6(source, protocol, &payload))
    }
}

/// A limit that takes two of such frames.
fn two_of(limit: Limit, frame: &[u8]) -> Gcra {
    match limit {
        Limit::SourceBytes | Limit::AggregateBytes => hourly(frame.len() as u64 + 1),
        _ => hourly(2),
    }
}

fn only(limit: Limit, gcra: Gcra, mode: Mode) -> Rules {
    Rules::NONE.with(limit, LimitSetting::new(gcra, mode))
}

/// For each limit and each kind of packet a source of its own: the third packet is dropped if it
/// counts, and only then.
fn each_limit(kernel: &mut Kernel, from: impl Fn(Kind, u8, u8) -> Vec<u8>) -> Result<(), Failure> {
    for (row, limit) in (0..).zip(Limit::ALL) {
        for (column, kind) in (0..).zip(KINDS) {
            let frame = from(kind, row, column);
            let third = if kind.counts_for(limit) {
                limit.reason()
            } else {
                Clean
            };
            let rules = only(limit, two_of(limit, &frame), Mode::Enforce);
            ruled(kernel, rules, |kernel| {
                in_turn(kernel, &[(&frame, Clean), (&frame, Clean), (&frame, third)])
            })?;
        }
    }
    Ok(())
}

fn each_limit_v4(kernel: &mut Kernel) -> Result<(), Failure> {
    each_limit(kernel, |kind, row, column| {
        kind.over_v4([100, 70 + row, column, 1])
    })
}

fn each_limit_v6(kernel: &mut Kernel) -> Result<(), Failure> {
    each_limit(kernel, |kind, row, column| {
        let network = u16::from(row) << 8 | u16::from(column);
        kind.over_v6([0x2001, 0xdb8, 0x70, network << 8, 0, 0, 0, 1])
    })
}

fn each_monitored(kernel: &mut Kernel) -> Result<(), Failure> {
    for (row, limit) in (0..).zip(Limit::ALL) {
        for (column, kind) in (0..).zip(KINDS) {
            let frame = kind.over_v4([100, 80 + row, column, 1]);
            let rules = only(limit, two_of(limit, &frame), Mode::Monitor);
            ruled(kernel, rules, |kernel| {
                in_turn(kernel, &[(&frame, Clean), (&frame, Clean)])?;
                if kind.counts_for(limit) {
                    kernel.loaded.expect_watched(&frame, limit.reason())?;
                    return kernel.loaded.expect_watched(&frame, limit.reason());
                }
                in_turn(kernel, &[(&frame, Clean)])
            })?;
        }
    }
    Ok(())
}

fn aggregates(kernel: &mut Kernel) -> Result<(), Failure> {
    for (row, limit) in (0..)
        .zip(Limit::ALL)
        .filter(|(_, limit)| limit.is_aggregate())
    {
        let kind = KINDS
            .into_iter()
            .find(|kind| kind.counts_for(limit))
            .unwrap_or(Kind::Udp);
        let v4 = |network, host| kind.over_v4([100, 90 + row, network, host]);
        let v6 = |network: u16, host| {
            let network = u16::from(row) << 12 | network;
            kind.over_v6([0x2001, 0xdb8, 0x90, network, 0, 0, 0, host])
        };
        let pairs = [
            [v4(1, 1), v4(1, 255), v4(1, 77), v4(2, 1)],
            [v6(0x100, 1), v6(0x1ff, 1), v6(0x177, 9), v6(0x200, 1)],
        ];
        for [first, last, third, beside] in &pairs {
            let rules = only(limit, two_of(limit, first), Mode::Enforce);
            ruled(kernel, rules, |kernel| {
                let over = limit.reason();
                in_turn(
                    kernel,
                    &[
                        (first, Clean),
                        (last, Clean),
                        (third, over),
                        (beside, Clean),
                    ],
                )
            })?;
        }
    }
    Ok(())
}

fn own_bursts(kernel: &mut Kernel) -> Result<(), Failure> {
    let [syn, ack, datagram, _] = KINDS.map(|kind| kind.over_v4([100, 65, 1, 1]));
    let rules = only(Limit::SourcePackets, hourly(6), Mode::Enforce)
        .with(
            Limit::SourceUdp,
            LimitSetting::new(hourly(1), Mode::Enforce),
        )
        .with(
            Limit::SourceSyn,
            LimitSetting::new(hourly(2), Mode::Enforce),
        );
    ruled(kernel, rules, |kernel| {
        in_turn(
            kernel,
            &[
                (&datagram, Clean),
                (&datagram, SourceUdp),
                (&syn, Clean),
                (&syn, Clean),
                (&syn, SourceSyn),
                (&ack, Clean),
                // The limit on packets was asked first each time, and has counted all six.
                (&ack, SourcePackets),
                (&datagram, SourcePackets),
            ],
        )
    })
}

fn enforced_behind_monitored(kernel: &mut Kernel) -> Result<(), Failure> {
    let frame = Kind::Udp.over_v4([100, 65, 2, 1]);
    let rules = only(Limit::SourcePackets, hourly(1), Mode::Monitor).with(
        Limit::SourceUdp,
        LimitSetting::new(hourly(2), Mode::Enforce),
    );
    ruled(kernel, rules, |kernel| {
        in_turn(kernel, &[(&frame, Clean)])?;
        kernel.loaded.expect_watched(&frame, SourcePackets)?;
        in_turn(kernel, &[(&frame, SourceUdp), (&frame, SourceUdp)])
    })
}

fn bytes(kernel: &mut Kernel) -> Result<(), Failure> {
    let sized =
        |source, bytes: usize| ethernet(IPV4, &ipv4(source, UDP, &udp(&vec![0; bytes - 42])));
    let source = [100, 65, 3, 1];
    let rules = only(Limit::SourceBytes, hourly(1_000), Mode::Enforce);
    ruled(kernel, rules, |kernel| {
        in_turn(
            kernel,
            &[
                (&sized(source, 600), Clean),
                (&sized(source, 399), Clean),
                (&sized(source, 100), Clean),
                (&sized(source, 42), Limit::SourceBytes.reason()),
                (&sized([100, 65, 3, 2], 3_000), Clean),
                (&sized([100, 65, 3, 2], 42), Limit::SourceBytes.reason()),
            ],
        )
    })
}

/// A tiny first fragment can hide the flags of its segment (RFC 1858), so any may be a SYN.
fn fragments(kernel: &mut Kernel) -> Result<(), Failure> {
    use portcullis_tests::frames::{Ipv4, MORE_FRAGMENTS};
    let fragment = |host, flags, protocol, payload: &[u8]| {
        let header = Ipv4 {
            fragment: flags,
            ..[100, 65, 4, host].into()
        };
        ethernet(IPV4, &header.carrying(protocol, payload))
    };
    let first = fragment(1, MORE_FRAGMENTS, TCP, &tcp(ACK));
    let tiny = fragment(1, MORE_FRAGMENTS, TCP, &tcp(ACK)[..8]);
    let later = fragment(1, 1, TCP, &[0; 8]);
    let rules = only(Limit::SourceSyn, hourly(2), Mode::Enforce);
    ruled(kernel, rules, |kernel| {
        in_turn(
            kernel,
            &[(&first, Clean), (&tiny, Clean), (&later, SourceSyn)],
        )
    })?;
    let first = fragment(2, MORE_FRAGMENTS, UDP, &udp(b"hello"));
    let later = fragment(2, 185, UDP, &[0; 8]);
    let rules = only(Limit::SourceUdp, hourly(2), Mode::Enforce);
    ruled(kernel, rules, |kernel| {
        in_turn(
            kernel,
            &[(&first, Clean), (&later, Clean), (&later, SourceUdp)],
        )
    })
}

fn key_lengths(kernel: &mut Kernel) -> Result<(), Failure> {
    let v4 = |third, host| datagram_v4([100, 66, third, host]);
    let v6 = |network, host| datagram_v6([0x2001, 0xdb8, 0x66, network, 0, 0, 0, host]);
    let packets = LimitSetting::new(hourly(1), Mode::Enforce);
    let wide = Rules {
        source_key: KeyLengths::new(24, 48),
        ..Rules::NONE.with(Limit::SourcePackets, packets)
    };
    ruled(kernel, wide, |kernel| {
        in_turn(
            kernel,
            &[
                (&v4(1, 1), Clean),
                (&v4(1, 2), SourcePackets),
                (&v4(2, 1), Clean),
                (&v6(1, 1), Clean),
                (&v6(2, 1), SourcePackets),
            ],
        )
    })?;
    let narrow = Rules {
        source_key: KeyLengths::new(32, 128),
        ..wide
    };
    ruled(kernel, narrow, |kernel| {
        let beside = [
            (v6(9, 1), Clean),
            (v6(9, 2), Clean),
            (v6(9, 1), SourcePackets),
        ];
        in_turn(
            kernel,
            &beside
                .each_ref()
                .map(|(frame, reason)| (&frame[..], *reason)),
        )
    })?;
    let aggregate = Limit::AggregatePackets;
    let wider = Rules {
        aggregate_key: KeyLengths::new(16, 32),
        ..only(aggregate, hourly(1), Mode::Enforce)
    };
    ruled(kernel, wider, |kernel| {
        let over = aggregate.reason();
        let (first, beyond) = (datagram_v4([100, 67, 1, 1]), datagram_v4([100, 68, 1, 1]));
        in_turn(
            kernel,
            &[
                (&first, Clean),
                (&datagram_v4([100, 67, 200, 1]), over),
                (&beyond, Clean),
                (&v6(1, 1), Clean),
                (&datagram_v6([0x2001, 0xdb8, 0x6666, 0, 0, 0, 0, 1]), over),
            ],
        )
    })
}

fn widened(kernel: &mut Kernel) -> Result<(), Failure> {
    let frame = datagram_v4([100, 65, 5, 1]);
    let narrow = only(Limit::SourcePackets, hourly(1), Mode::Enforce);
    ruled(kernel, narrow, |kernel| {
        in_turn(kernel, &[(&frame, Clean), (&frame, SourcePackets)])?;
        let wide = only(Limit::SourcePackets, hourly(3), Mode::Enforce);
        kernel.loaded.datapath.set_rules(&wide)?;
        in_turn(
            kernel,
            &[
                (&frame, Clean),
                (&frame, Clean),
                (&frame, Clean),
                (&frame, SourcePackets),
            ],
        )?;
        // Another mode forgets nothing.
        let watching = only(Limit::SourcePackets, hourly(3), Mode::Monitor);
        kernel.loaded.datapath.set_rules(&watching)?;
        kernel.loaded.expect_watched(&frame, SourcePackets)
    })
}

/// Every limit at once, each used up by one packet.
fn tightest() -> Rules {
    let tight = LimitSetting::new(hourly(1), Mode::Enforce);
    Limit::ALL
        .into_iter()
        .fold(Rules::NONE, |rules, limit| rules.with(limit, tight))
}

fn path_mtu_unlimited(kernel: &mut Kernel) -> Result<(), Failure> {
    let quoted = ipv4(US_V4, UDP, &udp(b"hello"));
    let needed = ethernet(
        IPV4,
        &ipv4([100, 65, 6, 1], ICMP, &icmp_error(3, 4, 1400, &quoted)),
    );
    let quoted = ipv6(US_V6, UDP, &udp(b"hello"));
    let source = [0x2001, 0xdb8, 0x65, 6, 0, 0, 0, 1];
    let too_big = ethernet(
        IPV6,
        &ipv6(source, ICMPV6, &icmp_error(2, 0, 1280, &quoted)),
    );
    ruled(kernel, tightest(), |kernel| {
        (0..20).try_for_each(|_| in_turn(kernel, &[(&needed, PathMtu), (&too_big, PathMtu)]))
    })
}

fn trusted_exempt(kernel: &mut Kernel) -> Result<(), Failure> {
    ruled(kernel, tightest(), |kernel| {
        for kind in KINDS.into_iter().cycle().take(40) {
            let (v4, v6) = (kind.over_v4(TRUSTED_V4), kind.over_v6(TRUSTED_V6));
            in_turn(kernel, &[(&v4, Trusted), (&v6, Trusted)])?;
        }
        Ok(())
    })
}
