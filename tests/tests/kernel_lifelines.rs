//! What keeps the host reachable gets through whatever is listed: refused as an entry, cut out of a
//! list, and trusted when it becomes a lifeline after it was listed.

use std::time::Duration;

use portcullis_tests::{
    netns::{ALICE, BOB, EDGE},
    privilege::kernel_or_skip,
    run::{eventually, output},
    scene::{Scene, SceneLimits},
    scratch::unique_name,
    volley::{
        Outcome::{Dropped, Passed},
        volley,
    },
};

/// How long the daemon may take to see that the network has changed.
const PATIENCE: Duration = Duration::from_secs(10);

fn scene() -> Scene {
    Scene::set(&unique_name(), SceneLimits::NONE).expect("a scene")
}

#[test]
fn the_gateway_the_operator_loopback_and_everything_are_refused_as_entries_by_name() {
    let name = "the_gateway_the_operator_loopback_and_everything_are_refused_as_entries_by_name";
    if !kernel_or_skip(name) {
        return;
    }
    let scene = scene();
    let route = format!("route replace default via {BOB} dev edge0");
    scene.wire.edge.ip(&route).expect("a route");
    let daemon = scene.start().expect("a daemon");
    for (entry, told) in [
        (BOB, format!("{BOB}/32 covers {BOB}, the default gateway")),
        (
            EDGE,
            format!("{EDGE}/32 covers {EDGE}, an address of this host"),
        ),
        ("203.0.113.0/24", "203.0.113.0/24 covers ".to_owned()),
        (
            "127.0.0.1",
            "127.0.0.1/32 covers 127.0.0.0/8, loopback".to_owned(),
        ),
        ("::1", "::1/128 covers ::1, loopback".to_owned()),
        (
            "198.51.100.9",
            "198.51.100.9, where you are logged in from".to_owned(),
        ),
        ("0.0.0.0/0", "0.0.0.0/0 is wider than /8".to_owned()),
        ("::/0", "::/0 is wider than /16".to_owned()),
    ] {
        let mut command = daemon.ask_command(&["block", "add", entry]);
        command.env("SSH_CONNECTION", "198.51.100.9 50222 203.0.113.1 22");
        let printed = output(&mut command).expect("an answer");
        let said = String::from_utf8_lossy(&printed.stdout);
        assert!(!printed.status.success(), "{entry}: {said}");
        assert!(said.contains(&told), "{entry}: {said}");
        assert!(said.contains("nothing was changed"), "{entry}: {said}");
    }
    assert_eq!(
        volley(&scene, EDGE, [ALICE, BOB]).expect("traffic"),
        [Passed, Passed]
    );
}

#[test]
fn a_gateway_that_comes_after_its_range_was_blocked_gets_through_and_its_neighbours_do_not() {
    let name =
        "a_gateway_that_comes_after_its_range_was_blocked_gets_through_and_its_neighbours_do_not";
    if !kernel_or_skip(name) {
        return;
    }
    let scene = scene();
    let daemon = scene.start().expect("a daemon");
    daemon
        .ask(&["block", "add", ALICE, BOB])
        .expect("two blocks");
    let got = || volley(&scene, EDGE, [ALICE, BOB]).expect("traffic");
    assert_eq!(got(), [Dropped, Dropped]);
    let route = format!("route replace default via {BOB} dev edge0");
    scene.wire.edge.ip(&route).expect("a route");
    let standing = |address: &str| {
        let tested = daemon.ask(&["block", "test", address]).ok()?;
        Some(tested["standing"].as_str()?.to_owned())
    };
    eventually("the gateway is trusted", PATIENCE, || {
        (standing(BOB)? == "trusted").then_some(())
    })
    .expect("trusted");
    assert_eq!(got(), [Dropped, Passed]);
    let why = daemon.ask(&["why", BOB]).expect("why");
    let verdict = why["verdict"].as_str().unwrap_or_default();
    let told = format!("not dropped: {BOB}/32 on \"lifelines\" is trusted");
    assert!(verdict.starts_with(&told), "{why}");
    scene
        .wire
        .edge
        .ip("route replace default dev edge0")
        .expect("a route");
    eventually("it is a gateway no more", PATIENCE, || {
        (standing(BOB)? == "blocked").then_some(())
    })
    .expect("blocked again");
    assert_eq!(got(), [Dropped, Dropped]);
}

#[test]
fn why_tells_the_drops_of_a_source_and_the_limits_of_one_that_passes() {
    if !kernel_or_skip("why_tells_the_drops_of_a_source_and_the_limits_of_one_that_passes") {
        return;
    }
    let scene = scene();
    scene
        .reconfigure(
            "[admin]",
            "source_udp = { rate = 5000 }\naggregate_syn = { rate = 9, mode = \"monitor\" }\n\n[admin]",
        )
        .expect("limits");
    let daemon = scene.start().expect("a daemon");
    daemon.ask(&["block", "add", BOB]).expect("a block");
    assert_eq!(
        volley(&scene, EDGE, [ALICE, BOB]).expect("traffic"),
        [Passed, Dropped]
    );
    let why = eventually("the drops are told", PATIENCE, || {
        let why = daemon.ask(&["why", BOB]).ok()?;
        (why["drops"]["packets"].as_u64()? > 0).then_some(why)
    })
    .expect("drops");
    assert_eq!(why["dropped"], true);
    assert_eq!(why["drops"]["last"][0]["reason"], "blocked", "{why}");
    assert_eq!(why["drops"]["last"][0]["interface"], "edge0", "{why}");
    let why = daemon.ask(&["why", ALICE]).expect("why");
    assert_eq!(why["dropped"], false);
    assert_eq!(why["drops"]["packets"], 0);
    let limits: Vec<_> = why["limits"]
        .as_array()
        .into_iter()
        .flatten()
        .map(|limit| (limit["limit"].clone(), limit["counted_as"].clone()))
        .collect();
    assert_eq!(
        limits,
        [
            ("source_udp".into(), format!("{ALICE}/32").into()),
            ("aggregate_syn".into(), "203.0.113.0/24".into())
        ],
        "{why}"
    );
}
