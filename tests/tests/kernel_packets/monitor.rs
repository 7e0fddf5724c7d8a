//! Lists that only watch.

use std::time::{Duration, Instant};

use datapath::{Claim, Rules, boot_ns};
use portcullis_tests::loaded::Failure;
use proxy_common::{
    Limit, LimitSetting, Mode,
    Reason::{Banned, Blocked, Clean, SourcePackets, Trusted},
};

use crate::{
    Kernel, Scene,
    lists::{datagram_v4, datagram_v6},
    play::{WATCHED, hourly, in_turn, ruled, scene, while_listed},
};

#[rustfmt::skip]
pub(crate) const SCENES: &[Scene] = &[
    scene("what a list only watches is counted as watched, and passes", counted),
    scene("a list that is enforced beats one that watches, whichever prefix is longer", enforced),
    scene("trust beats a list that watches, whichever prefix is longer", trusted),
    scene("a watched ban is a ban until it ends, and nothing after", ban_ends),
    scene("an enforced ban that ends leaves what a list goes on watching", enforced_ban_ends),
    scene("a watched source is limited like any other", limited),
];

const WATCH: datapath::ListId = 20;
const FEED: datapath::ListId = 21;

fn watched_until(until_ns: u64) -> Claim {
    Claim::Blocked {
        until_ns: Some(until_ns),
        mode: Mode::Monitor,
    }
}

fn counted(kernel: &mut Kernel) -> Result<(), Failure> {
    let lists = [
        ("100.99.0.0/16", WATCH, WATCHED),
        ("100.98.1.128/25", WATCH, WATCHED),
        ("2001:db8:99::/48", WATCH, WATCHED),
        ("2001:db8:98::7/128", WATCH, WATCHED),
    ];
    while_listed(kernel, &lists, |kernel| {
        let v6 = |network, host| datagram_v6([0x2001, 0xdb8, network, 0, 0, 0, 0, host]);
        for frame in [
            datagram_v4([100, 99, 0, 0]),
            datagram_v4([100, 99, 255, 255]),
            datagram_v4([100, 98, 1, 128]),
            v6(0x99, 0),
            v6(0x98, 7),
        ] {
            kernel.loaded.expect_watched(&frame, Blocked)?;
        }
        in_turn(
            kernel,
            &[
                (&datagram_v4([100, 98, 255, 255]), Clean),
                (&datagram_v4([100, 98, 1, 127]), Clean),
                (&v6(0x98, 8), Clean),
            ],
        )
    })
}

fn enforced(kernel: &mut Kernel) -> Result<(), Failure> {
    let lists = [
        ("100.99.1.0/24", FEED, Claim::BLOCKED),
        ("100.99.1.7/32", WATCH, WATCHED),
        ("100.99.2.0/24", WATCH, WATCHED),
        ("100.99.2.7/32", FEED, Claim::BLOCKED),
        ("100.99.3.7/32", WATCH, WATCHED),
        (
            "100.99.3.7/32",
            FEED,
            Claim::until(boot_ns() + 3_600_000_000_000),
        ),
    ];
    while_listed(kernel, &lists, |kernel| {
        in_turn(
            kernel,
            &[
                (&datagram_v4([100, 99, 1, 7]), Blocked),
                (&datagram_v4([100, 99, 2, 7]), Blocked),
                (&datagram_v4([100, 99, 3, 7]), Banned),
            ],
        )?;
        let frame = datagram_v4([100, 99, 2, 8]);
        kernel.loaded.expect_watched(&frame, Blocked)
    })
}

fn trusted(kernel: &mut Kernel) -> Result<(), Failure> {
    let lists = [
        ("100.99.1.0/24", WATCH, WATCHED),
        ("100.99.1.7/32", FEED, Claim::Trusted),
        ("100.99.2.0/24", FEED, Claim::Trusted),
        ("100.99.2.7/32", WATCH, WATCHED),
    ];
    while_listed(kernel, &lists, |kernel| {
        let (one, two) = (datagram_v4([100, 99, 1, 7]), datagram_v4([100, 99, 2, 7]));
        in_turn(kernel, &[(&one, Trusted), (&two, Trusted)])
    })
}

fn ban_ends(kernel: &mut Kernel) -> Result<(), Failure> {
    let now_ns = boot_ns();
    let lists = [
        ("100.99.1.7/32", WATCH, watched_until(now_ns)),
        (
            "100.99.1.8/32",
            WATCH,
            watched_until(now_ns + 3_600_000_000_000),
        ),
    ];
    while_listed(kernel, &lists, |kernel| {
        in_turn(kernel, &[(&datagram_v4([100, 99, 1, 7]), Clean)])?;
        let running = datagram_v4([100, 99, 1, 8]);
        kernel.loaded.expect_watched(&running, Banned)
    })
}

fn enforced_ban_ends(kernel: &mut Kernel) -> Result<(), Failure> {
    let until_ns = boot_ns() + 200_000_000;
    let lists = [
        ("100.99.1.7/32", WATCH, WATCHED),
        ("100.99.1.7/32", FEED, Claim::until(until_ns)),
    ];
    while_listed(kernel, &lists, |kernel| {
        let frame = datagram_v4([100, 99, 1, 7]);
        in_turn(kernel, &[(&frame, Banned)])?;
        let deadline = Instant::now() + Duration::from_secs(10);
        loop {
            match kernel.loaded.judge_all(&frame)? {
                (Banned, false) if Instant::now() < deadline => {}
                (Blocked, true) if boot_ns() >= until_ns => return Ok(()),
                other => return Err(format!("neither banned nor watched: {other:?}").into()),
            }
        }
    })
}

fn limited(kernel: &mut Kernel) -> Result<(), Failure> {
    let limit = LimitSetting::new(hourly(1), Mode::Enforce);
    let rules = Rules::NONE.with(Limit::SourcePackets, limit);
    while_listed(kernel, &[("100.99.1.9/32", WATCH, WATCHED)], |kernel| {
        ruled(kernel, rules, |kernel| {
            let frame = datagram_v4([100, 99, 1, 9]);
            kernel.loaded.expect_watched(&frame, Blocked)?;
            in_turn(kernel, &[(&frame, SourcePackets)])
        })
    })
}
