//! The scope `new-inbound-only`: replies of listed sources to our own connections pass, and nothing
//! else of theirs.

use datapath::Rules;
use portcullis_tests::{
    frames::{
        ACK, DESTINATION_OPTIONS, ESP, FIN, FRAGMENT, ICMP, IPV4, IPV6, Ipv4, MORE_FRAGMENTS, RST,
        SYN, TCP, UDP, ethernet, extension, fragment, icmp, ipv4, ipv6, tcp, udp,
    },
    loaded::Failure,
};
use proxy_common::{
    Limit, LimitSetting, Mode,
    Reason::{self, Banned, Blocked, Clean, Established, SourcePackets, Trusted},
    Scope,
};

use crate::{
    Kernel, Scene,
    lists::{
        BAN_ENDED_V4, BANNED_V4, BLOCKED_V4, BLOCKED_V6, TRUSTED_V4, UNLISTED_V4, datagram_v4,
    },
    play::{WATCHED, hourly, in_turn, ruled, scene, while_listed},
};

#[rustfmt::skip]
pub(crate) const SCENES: &[Scene] = &[
    scene("under new-inbound-only a listed source opens no connection, and its replies pass", segments),
    scene("under new-inbound-only everything but TCP of a listed source is dropped", not_tcp),
    scene("under new-inbound-only any TCP fragment of a listed source is dropped", fragments),
    scene("under new-inbound-only the flags are found behind IPv6 extension headers", behind_extensions),
    scene("under new-inbound-only who isn't listed, or is trusted, passes as ever", others),
    scene("under new-inbound-only replies of a listed source count against its limits", limited),
    scene("under new-inbound-only a list that watches counts only what opens connections", watched),
    scene("under the scope of all traffic replies of a listed source are dropped too", all),
];

const NEW_INBOUND_ONLY: Rules = Rules {
    scope: Scope::NewInboundOnly,
    ..Rules::NONE
};

fn segment(source: [u8; 4], flags: u8) -> Vec<u8> {
    ethernet(IPV4, &ipv4(source, TCP, &tcp(flags)))
}

fn scoped(kernel: &mut Kernel, steps: &[(Vec<u8>, Reason)]) -> Result<(), Failure> {
    let steps: Vec<(&[u8], Reason)> = steps.iter().map(|(frame, to)| (&frame[..], *to)).collect();
    ruled(kernel, NEW_INBOUND_ONLY, |kernel| in_turn(kernel, &steps))
}

fn segments(kernel: &mut Kernel) -> Result<(), Failure> {
    let of_blocked = |flags| segment(BLOCKED_V4, flags);
    scoped(
        kernel,
        &[
            (of_blocked(SYN), Blocked),
            (of_blocked(SYN | FIN), Blocked),
            (of_blocked(SYN | RST), Blocked),
            (of_blocked(SYN | ACK), Established),
            (of_blocked(ACK), Established),
            (of_blocked(FIN | ACK), Established),
            (of_blocked(RST), Established),
            (of_blocked(0), Established),
            (segment(BANNED_V4, SYN), Banned),
            (segment(BANNED_V4, ACK), Established),
        ],
    )
}

fn not_tcp(kernel: &mut Kernel) -> Result<(), Failure> {
    let over = |protocol, payload: &[u8]| ethernet(IPV4, &ipv4(BLOCKED_V4, protocol, payload));
    scoped(
        kernel,
        &[
            (over(UDP, &udp(b"hello")), Blocked),
            (over(ICMP, &icmp(8, 0, &[0; 4])), Blocked),
            (over(ICMP, &[]), Blocked),
            (over(ESP, &[0; 16]), Blocked),
            // Too short for flags, which an honest length says.
            (over(TCP, &tcp(ACK)[..13]), Blocked),
            (over(TCP, &[]), Blocked),
            (over(TCP, &tcp(ACK)[..14]), Established),
        ],
    )
}

fn fragments(kernel: &mut Kernel) -> Result<(), Failure> {
    let v4 = |flags, payload: &[u8]| {
        let header = Ipv4 {
            fragment: flags,
            ..BLOCKED_V4.into()
        };
        ethernet(IPV4, &header.carrying(TCP, payload))
    };
    let v6 = |offset, more, payload: &[u8]| {
        let payload = fragment(TCP, offset, more, payload);
        ethernet(IPV6, &ipv6(BLOCKED_V6, FRAGMENT, &payload))
    };
    scoped(
        kernel,
        &[
            (v4(MORE_FRAGMENTS, &tcp(ACK)), Blocked),
            (v4(MORE_FRAGMENTS, &tcp(ACK)[..8]), Blocked),
            (v4(MORE_FRAGMENTS | 1, &tcp(ACK)[8..16]), Blocked),
            (v4(1, &tcp(ACK)[8..]), Blocked),
            (v6(0, true, &tcp(ACK)), Blocked),
            (v6(0, true, &tcp(ACK)[..8]), Blocked),
            (v6(1, false, &tcp(ACK)[8..]), Blocked),
        ],
    )
}

fn behind_extensions(kernel: &mut Kernel) -> Result<(), Failure> {
    let behind = |units, flags| {
        let payload = extension(TCP, units, &tcp(flags));
        ethernet(IPV6, &ipv6(BLOCKED_V6, DESTINATION_OPTIONS, &payload))
    };
    let plain = |flags| ethernet(IPV6, &ipv6(BLOCKED_V6, TCP, &tcp(flags)));
    let two = extension(DESTINATION_OPTIONS, 255, &extension(TCP, 255, &tcp(ACK)));
    let far = ethernet(IPV6, &ipv6(BLOCKED_V6, DESTINATION_OPTIONS, &two));
    scoped(
        kernel,
        &[
            (plain(SYN), Blocked),
            (plain(SYN | ACK), Established),
            (behind(0, SYN), Blocked),
            (behind(0, ACK), Established),
            (behind(255, SYN), Blocked),
            (behind(255, SYN | ACK), Established),
            // Flags past the first buffer can't be read, and may be a SYN's.
            (far, Blocked),
        ],
    )
}

fn others(kernel: &mut Kernel) -> Result<(), Failure> {
    scoped(
        kernel,
        &[
            (segment(UNLISTED_V4, SYN), Clean),
            (segment(UNLISTED_V4, ACK), Clean),
            (segment(BAN_ENDED_V4, SYN), Clean),
            (segment(BAN_ENDED_V4, ACK), Clean),
            (segment(TRUSTED_V4, SYN), Trusted),
            (segment(TRUSTED_V4, ACK), Trusted),
            (datagram_v4(UNLISTED_V4), Clean),
        ],
    )
}

fn limited(kernel: &mut Kernel) -> Result<(), Failure> {
    let rules = NEW_INBOUND_ONLY.with(
        Limit::SourcePackets,
        LimitSetting::new(hourly(2), Mode::Enforce),
    );
    let (syn, ack) = (segment(BLOCKED_V4, SYN), segment(BLOCKED_V4, ACK));
    ruled(kernel, rules, |kernel| {
        in_turn(
            kernel,
            &[
                (&ack, Established),
                (&syn, Blocked),
                (&ack, Established),
                (&ack, SourcePackets),
                (&syn, Blocked),
            ],
        )
    })
}

fn watched(kernel: &mut Kernel) -> Result<(), Failure> {
    let source = [100, 64, 17, 1];
    while_listed(kernel, &[("100.64.17.0/24", 9, WATCHED)], |kernel| {
        ruled(kernel, NEW_INBOUND_ONLY, |kernel| {
            kernel
                .loaded
                .expect_watched(&segment(source, SYN), Blocked)?;
            kernel
                .loaded
                .expect_watched(&datagram_v4(source), Blocked)?;
            in_turn(kernel, &[(&segment(source, ACK), Established)])
        })
    })
}

fn all(kernel: &mut Kernel) -> Result<(), Failure> {
    let replies = [SYN | ACK, ACK, RST].map(|flags| segment(BLOCKED_V4, flags));
    replies
        .iter()
        .try_for_each(|reply| in_turn(kernel, &[(reply, Blocked)]))
}
