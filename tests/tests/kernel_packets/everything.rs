//! A block of everything.

use datapath::Claim;
use portcullis_tests::{frames::mapped, loaded::Failure};
use proxy_common::Reason::{Blocked, Clean, Trusted};

use crate::{
    Kernel, Scene,
    lists::{
        BAN_ENDED_V4, TRUSTED_V4, TRUSTED_V6, UNLISTED_V4, UNLISTED_V6, datagram_v4, datagram_v6,
    },
    play::{in_turn, scene, while_listed},
};

#[rustfmt::skip]
pub(crate) const SCENES: &[Scene] = &[
    scene("a block of every IPv4 address drops the unlisted, spares the trusted, and ends", default_route_v4),
    scene("a block of every IPv6 address drops the unlisted, spares the trusted, and ends", default_route_v6),
];

fn default_route_v4(kernel: &mut Kernel) -> Result<(), Failure> {
    let unlisted = datagram_v4(UNLISTED_V4);
    let trusted = datagram_v4(TRUSTED_V4);
    let unlisted_v6 = datagram_v6(UNLISTED_V6);
    while_listed(kernel, &[("0.0.0.0/0", 9, Claim::BLOCKED)], |kernel| {
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
    while_listed(kernel, &[("::/0", 9, Claim::BLOCKED)], |kernel| {
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
