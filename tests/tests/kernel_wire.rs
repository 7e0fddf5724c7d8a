//! The lists as senders feel them: real datagrams, from either family, over a real wire.

use std::time::Duration;

use portcullis_tests::{
    netns::{ALICE, BOB, EDGE},
    privilege::kernel_or_skip,
    run::Rigged,
    scene::{Scene, SceneLimits},
    scratch::unique_name,
    volley::{
        Outcome::{Dropped, Passed},
        volley,
    },
};

const EDGE_V6: &str = "2001:db8::1";
const ALICE_V6: &str = "2001:db8::10";
const BOB_V6: &str = "2001:db8::20";

fn scene() -> Scene {
    Scene::set(&unique_name(), SceneLimits::NONE).expect("a scene")
}

/// Gives both ends IPv6 addresses, without the seconds that duplicate detection takes.
fn add_ipv6(scene: &Scene) -> Rigged<()> {
    let wire = &scene.wire;
    wire.edge
        .ip(&format!("addr add {EDGE_V6}/64 dev edge0 nodad"))?;
    for client in [ALICE_V6, BOB_V6] {
        let add = format!("addr add {client}/64 dev out0 nodad");
        wire.outside.ip(&add)?;
    }
    Ok(())
}

#[test]
fn a_listed_address_of_either_family_is_dropped_and_comes_back() {
    if !kernel_or_skip("a_listed_address_of_either_family_is_dropped_and_comes_back") {
        return;
    }
    let scene = scene();
    add_ipv6(&scene).expect("IPv6");
    let daemon = scene.start().expect("a daemon");
    let over_v4 = || volley(&scene, EDGE, [ALICE, BOB]).expect("traffic");
    let over_v6 = || volley(&scene, EDGE_V6, [ALICE_V6, BOB_V6]).expect("traffic");
    assert_eq!(over_v4(), [Passed, Passed], "before");
    assert_eq!(over_v6(), [Passed, Passed], "before");
    daemon.ask(&["block", "add", BOB, BOB_V6]).expect("added");
    assert_eq!(over_v4(), [Passed, Dropped], "blocked");
    assert_eq!(over_v6(), [Passed, Dropped], "blocked");
    daemon
        .ask(&["block", "remove", BOB, BOB_V6])
        .expect("removed");
    assert_eq!(over_v4(), [Passed, Passed], "after");
    assert_eq!(over_v6(), [Passed, Passed], "after");
}

#[test]
fn a_listed_range_drops_all_in_it_and_none_beside_it() {
    if !kernel_or_skip("a_listed_range_drops_all_in_it_and_none_beside_it") {
        return;
    }
    let scene = scene();
    let daemon = scene.start().expect("a daemon");
    let first = "198.51.100.0";
    let last = "198.51.100.255";
    let beside = "198.51.101.0";
    for client in [first, last, beside] {
        scene.wire.add_client(client).expect("a client");
    }
    daemon
        .ask(&["block", "add", "198.51.100.77/24"])
        .expect("added");
    let got = volley(&scene, EDGE, [first, last, beside]).expect("traffic");
    assert_eq!(got, [Dropped, Dropped, Passed]);
}

#[test]
fn a_trusted_address_passes_whatever_range_is_blocked() {
    if !kernel_or_skip("a_trusted_address_passes_whatever_range_is_blocked") {
        return;
    }
    let scene = scene();
    add_ipv6(&scene).expect("IPv6");
    let daemon = scene.start().expect("a daemon");
    // The whole network would hold this host's own address.
    let refused = daemon.ask_refused(&["block", "add", "203.0.113.0/24"]);
    let refused = refused.expect("refused");
    let told = "203.0.113.0/24 covers 203.0.113.1, an address of this host";
    assert!(refused.contains(told), "{refused}");
    // ALICE and BOB are in a range each; blocking also what is trusted must not matter.
    let (of_alice, of_bob) = ("203.0.113.8/29", "203.0.113.16/28");
    daemon
        .ask(&["block", "add", of_alice, of_bob, "2001:db8::10/124", ALICE])
        .expect("added");
    let over_v4 = || volley(&scene, EDGE, [ALICE, BOB]).expect("traffic");
    assert_eq!(over_v4(), [Dropped, Dropped]);
    let over_v6 = || volley(&scene, EDGE_V6, [ALICE_V6, BOB_V6]).expect("traffic");
    assert_eq!(over_v6(), [Dropped, Passed]);
    daemon
        .ask(&["allow", "add", ALICE, ALICE_V6])
        .expect("trusted");
    assert_eq!(over_v4(), [Passed, Dropped], "trusted");
    assert_eq!(over_v6(), [Passed, Passed], "trusted");
    daemon
        .ask(&["allow", "remove", ALICE])
        .expect("not any more");
    assert_eq!(over_v4(), [Dropped, Dropped], "trusted no more");
}

#[test]
fn a_source_over_its_rate_loses_the_rest_and_its_neighbour_nothing() {
    if !kernel_or_skip("a_source_over_its_rate_loses_the_rest_and_its_neighbour_nothing") {
        return;
    }
    let limits = SceneLimits {
        source_rate: 500,
        source_burst: 100,
    };
    let scene = Scene::set(&unique_name(), limits).expect("a scene");
    let daemon = scene.start().expect("a daemon");
    let sink = scene.count(Duration::from_millis(1_500)).expect("a sink");
    let second = Duration::from_secs(1);
    let flood = scene.send(BOB, 5_000, second).expect("a flood");
    let calm = scene.send(ALICE, 200, second).expect("a client");
    let (flood, calm) = (flood.finish().expect("sent"), calm.finish().expect("sent"));
    let received = sink.finish().expect("received");
    let got = received.from(BOB);
    assert!((500..=700).contains(&got), "{got} of {flood} passed");
    assert_eq!(received.from(ALICE), calm);
    let limited = daemon.packets("source_packets").expect("counters");
    assert_eq!(limited, flood - got, "all others were counted");
}

#[test]
fn jumbo_datagrams_pass_and_are_dropped_from_a_listed_source() {
    if !kernel_or_skip("jumbo_datagrams_pass_and_are_dropped_from_a_listed_source") {
        return;
    }
    const PAYLOAD: usize = 8_900;
    let scene = scene();
    let wire = &scene.wire;
    wire.edge
        .ip("link set edge0 mtu 9000")
        .expect("a wide wire");
    wire.outside
        .ip("link set out0 mtu 9000")
        .expect("a wide wire");
    let daemon = scene.start().expect("a daemon");
    let status = daemon.status().expect("a status");
    assert_eq!(status["interfaces"][0]["mode"], "native", "{status}");
    daemon.ask(&["block", "add", BOB]).expect("added");
    let sink = scene.count(Duration::from_millis(1_000)).expect("a sink");
    let send = |from| scene.send_sized(EDGE, from, 200, Duration::from_millis(300), PAYLOAD);
    let (alice, bob) = (send(ALICE).expect("a sender"), send(BOB).expect("a sender"));
    let (alice, bob) = (alice.finish().expect("sent"), bob.finish().expect("sent"));
    let received = sink.finish().expect("received");
    assert!(alice > 20 && bob > 20, "{alice}, {bob}");
    assert_eq!((received.from(ALICE), received.from(BOB)), (alice, 0));
    let status = daemon.status().expect("a status");
    let reasons = status["reasons"].as_array().expect("reasons");
    let blocked = reasons
        .iter()
        .find(|count| count["reason"] == "blocked")
        .expect("blocked");
    assert_eq!(blocked["packets"], bob);
    let frame_bytes = (14 + 20 + 8 + PAYLOAD) as u64;
    assert_eq!(blocked["bytes"], bob * frame_bytes, "counted whole");
}
