//! Sentences that take several frames, or a change between them.

use datapath::{Claim, Plan, Rules};
use ipnet::IpNet;
use portcullis_tests::{
    frames::{
        ARP, CUSTOMER_TAG, DESTINATION_OPTIONS, ICMPV6, IPV4, IPV6, Ipv4, Ipv6, SERVICE_TAG, TCP,
        UDP, US_V4, arp_request, cut, ethernet, extension, icmp, ipv4, ipv6, mapped, tcp_syn, udp,
        vlan,
    },
    loaded::{Failure, SHORTEST_FRAME_BYTES},
};
use proxy_common::{
    Gcra, Limit, LimitSetting, Mode,
    Reason::{self, Blocked, Clean, Malformed, NeighbourDiscovery, NotIp, SourcePackets, Trusted},
};

use crate::{
    Kernel, Scene,
    lists::{
        BAN_ENDED_V4, BLOCKED_V4, BLOCKED_V6, TRUSTED_V4, TRUSTED_V6, UNLISTED_V4, UNLISTED_V6,
        datagram_v4, datagram_v6,
    },
};

const fn scene(sentence: &'static str, play: fn(&mut Kernel) -> Result<(), Failure>) -> Scene {
    Scene { sentence, play }
}

#[rustfmt::skip]
pub(crate) const SCENES: [Scene; 23] = [
    scene("an IPv4 frame cut off at any byte is malformed", every_cut_of_ipv4),
    scene("an IPv6 frame cut off at any byte is malformed", every_cut_of_ipv6),
    scene("a frame behind two VLAN tags cut off at any byte is malformed", every_cut_behind_tags),
    scene("an extension chain that ends honestly at any byte is malformed until ICMPv6's header is there", every_honest_end),

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
    scene("a limit that is switched off lets everything pass, and remembers", switched_off),
    scene("a flood of two thousand sources leaves 99 of 100 newcomers their burst", flood),

    scene("a block of every IPv4 address drops the unlisted, spares the trusted, and ends", default_route_v4),
    scene("a block of every IPv6 address drops the unlisted, spares the trusted, and ends", default_route_v6),

    scene("a sample of a dropped IPv4 packet says when, whose, why and how long", sample_v4),
    scene("a sample of a dropped IPv6 packet carries its whole source", sample_v6),
    scene("a sample of a frame whose source is out of reach carries none", sample_without_source),
    scene("samples stop at their cap, drops don't", sample_cap),
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

/// One packet an hour after a burst, so that the time a test takes earns nothing back.
fn hourly(burst: u64) -> Gcra {
    const HOUR_NS: u64 = 3_600_000_000_000;
    Gcra {
        emission: HOUR_NS << 10,
        tolerance_ns: HOUR_NS * (burst - 1),
    }
}

/// Plays with a limit on sources in force, and lifts it again.
fn limited(
    kernel: &mut Kernel,
    source_packets: Gcra,
    play: impl FnOnce(&mut Kernel) -> Result<(), Failure>,
) -> Result<(), Failure> {
    let limit = LimitSetting::new(source_packets, Mode::Enforce);
    let rules = Rules::NONE.with(Limit::SourcePackets, limit);
    kernel.loaded.datapath.set_rules(&rules)?;
    let played = play(kernel);
    kernel.loaded.datapath.set_rules(&Rules::NONE)?;
    played
}

/// Runs each frame in turn and wants its reason.
fn in_turn(kernel: &Kernel, steps: &[(&[u8], Reason)]) -> Result<(), Failure> {
    for (number, (frame, expected)) in steps.iter().enumerate() {
        kernel
            .loaded
            .expect(frame, *expected)
            .map_err(|error| format!("frame {}: {error}", number + 1))?;
    }
    Ok(())
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
        in_turn(kernel, &[(&frame, SourcePackets)])
    })
}

/// Both buckets of a source lie in one line of the table, so two sources in one line (1 in 2^15)
/// have both in common once in 28 times: of a thousand newcomers two should meet that here.
fn flood(kernel: &mut Kernel) -> Result<(), Failure> {
    let from = |network: u8, number: u16| {
        let [high, low] = number.to_be_bytes();
        datagram_v4([100, network, high, low])
    };
    limited(kernel, hourly(2), |kernel| {
        for flooder in 0..2_000 {
            for _ in 0..3 {
                kernel.loaded.judge(&from(80, flooder))?;
            }
            kernel.loaded.expect(&from(80, flooder), SourcePackets)?;
        }
        let mut disturbed = 0;
        for newcomer in 0..1_000 {
            let frame = from(81, newcomer);
            let first = kernel.loaded.judge(&frame)?;
            let second = kernel.loaded.judge(&frame)?;
            disturbed += usize::from((first, second) != (Clean, Clean));
            kernel.loaded.expect(&frame, SourcePackets)?;
        }
        if disturbed > 10 {
            return Err(format!("{disturbed} of 1,000 newcomers lost some of their burst").into());
        }
        Ok(())
    })
}

/// Blocks a prefix by a list of its own, plays, and withdraws it.
fn while_blocked(
    kernel: &mut Kernel,
    prefix: &str,
    play: impl FnOnce(&Kernel) -> Result<(), Failure>,
) -> Result<(), Failure> {
    const LIST: datapath::ListId = 9;
    let prefix: IpNet = prefix.parse()?;
    let apply = |kernel: &mut Kernel, plan: Plan| {
        let tables = kernel.loaded.datapath.tables();
        tables.apply(&plan, &kernel.truth)
    };
    let plan = kernel.truth.put(prefix, LIST, Claim::BLOCKED);
    apply(kernel, plan)?;
    let played = play(kernel);
    let plan = kernel.truth.remove(prefix, LIST);
    apply(kernel, plan)?;
    played
}

fn default_route_v4(kernel: &mut Kernel) -> Result<(), Failure> {
    let unlisted = datagram_v4(UNLISTED_V4);
    let trusted = datagram_v4(TRUSTED_V4);
    let unlisted_v6 = datagram_v6(UNLISTED_V6);
    while_blocked(kernel, "0.0.0.0/0", |kernel| {
        in_turn(
            kernel,
            &[
                (&unlisted, Blocked),
                (&datagram_v6(mapped(UNLISTED_V4)), Blocked),
                (&datagram_v4(BAN_ENDED_V4), Blocked),
                (&trusted, Trusted),
                (&unlisted_v6, Clean),
            ],
        )
    })?;
    in_turn(kernel, &[(&unlisted, Clean), (&trusted, Trusted)])
}

fn default_route_v6(kernel: &mut Kernel) -> Result<(), Failure> {
    let unlisted = datagram_v6(UNLISTED_V6);
    let trusted = datagram_v6(TRUSTED_V6);
    let unlisted_v4 = datagram_v4(UNLISTED_V4);
    while_blocked(kernel, "::/0", |kernel| {
        in_turn(
            kernel,
            &[
                (&unlisted, Blocked),
                (&trusted, Trusted),
                (&unlisted_v4, Clean),
                (&datagram_v6(mapped(UNLISTED_V4)), Clean),
            ],
        )
    })?;
    in_turn(kernel, &[(&unlisted, Clean), (&trusted, Trusted)])
}

/// Runs frames with samples on and returns those that came.
fn sampled(
    kernel: &mut Kernel,
    sample_rate: Gcra,
    play: impl FnOnce(&Kernel) -> Result<(), Failure>,
) -> Result<Vec<datapath::Drop>, Failure> {
    let rules = Rules {
        sample_rate,
        ..Rules::NONE
    };
    kernel.loaded.datapath.set_rules(&rules)?;
    let played = play(kernel);
    kernel.loaded.datapath.set_rules(&Rules::NONE)?;
    played?;
    Ok(std::iter::from_fn(|| kernel.samples.next_drop()).collect())
}

/// A sample of every drop: one a nanosecond.
const EVERY_DROP: Gcra = Gcra {
    emission: 1 << 10,
    tolerance_ns: 0,
};

/// `BPF_PROG_TEST_RUN` has packets come in on the loopback interface, which has index 1.
const LOOPBACK: u32 = 1;

fn one_sample(
    kernel: &mut Kernel,
    frame: &[u8],
    source: Option<&str>,
    reason: Reason,
) -> Result<(), Failure> {
    let earliest_ns = datapath::boot_ns();
    let samples = sampled(kernel, EVERY_DROP, |kernel| {
        in_turn(
            kernel,
            &[(frame, reason), (&datagram_v4(UNLISTED_V4), Clean)],
        )
    })?;
    let [sample] = samples[..] else {
        return Err(format!("expected one sample: {samples:?}").into());
    };
    let expected = datapath::Drop {
        at_ns: sample.at_ns,
        source: source.map(str::parse).transpose()?,
        reason,
        monitored: false,
        ifindex: LOOPBACK,
        frame_bytes: u32::try_from(frame.len())?,
    };
    if sample != expected || !(earliest_ns..=datapath::boot_ns()).contains(&sample.at_ns) {
        return Err(format!("{sample:?}, expected {expected:?} after {earliest_ns}").into());
    }
    Ok(())
}

fn sample_v4(kernel: &mut Kernel) -> Result<(), Failure> {
    one_sample(
        kernel,
        &datagram_v4(BLOCKED_V4),
        Some("198.51.100.7"),
        Blocked,
    )
}

fn sample_v6(kernel: &mut Kernel) -> Result<(), Failure> {
    one_sample(
        kernel,
        &datagram_v6(BLOCKED_V6),
        Some("2001:db8:1::7"),
        Blocked,
    )
}

fn sample_without_source(kernel: &mut Kernel) -> Result<(), Failure> {
    one_sample(kernel, &cut(datagram_v4(BLOCKED_V4), 20), None, Malformed)
}

fn sample_cap(kernel: &mut Kernel) -> Result<(), Failure> {
    const DROPS: usize = 50;
    let frame = datagram_v4(BLOCKED_V4);
    let samples = sampled(kernel, hourly(2), |kernel| {
        (0..DROPS).try_for_each(|_| in_turn(kernel, &[(&frame, Blocked)]))
    })?;
    // The cap is one CPU's, and the scheduler may move us.
    let cpus = aya::util::nr_cpus().map_err(|(path, error)| format!("{path}: {error}"))?;
    if !(2..=2 * cpus).contains(&samples.len()) || samples.len() >= DROPS {
        return Err(format!("{} samples of {DROPS} drops, {cpus} CPUs", samples.len()).into());
    }
    Ok(())
}
