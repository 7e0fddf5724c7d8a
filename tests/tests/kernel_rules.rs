//! Limits, scope and watching lists as an operator sets them and senders feel them.

use std::{process::Command, time::Duration};

use portcullis_tests::{
    daemon::{Daemon, portcullis},
    netns::{ALICE, BOB, EDGE},
    privilege::kernel_or_skip,
    reply::can_connect_to,
    run::{eventually, output},
    scene::{Scene, SceneLimits},
    scratch::unique_name,
    volley::{
        Outcome::{Dropped, Passed},
        volley,
    },
};
use serde_json::{Value, json};

const PATIENCE: Duration = Duration::from_secs(5);

fn scene() -> Scene {
    Scene::set(&unique_name(), SceneLimits::NONE).expect("a scene")
}

/// The limits in force, as `limit show` gives them to programs.
fn limits(daemon: &Daemon) -> Vec<Value> {
    let shown = daemon.ask(&["limit", "show"]).expect("limits");
    assert_eq!(shown["reply"], "limits");
    shown["limits"].as_array().cloned().unwrap_or_default()
}

fn limit(daemon: &Daemon, name: &str) -> Value {
    let mut limits = limits(daemon).into_iter();
    limits
        .find(|limit| limit["limit"] == name)
        .unwrap_or_default()
}

/// Datagrams of a flood that were sent, and that a socket got: 2,000 a second for half a second.
fn flood(scene: &Scene, from: &str) -> (u64, u64) {
    let sink = scene.count(Duration::from_millis(1_200)).expect("a sink");
    let sender = scene
        .send(from, 2_000, Duration::from_millis(500))
        .expect("a sender");
    let sent = sender.finish().expect("sent");
    (sent, sink.finish().expect("received").from(from))
}

#[test]
fn a_limit_is_set_at_once_shown_recorded_and_gone_after_a_restart() {
    if !kernel_or_skip("a_limit_is_set_at_once_shown_recorded_and_gone_after_a_restart") {
        return;
    }
    let scene = scene();
    let limits_line = "source_packets = { rate = 0, burst = 0 }";
    scene
        .reconfigure(
            limits_line,
            "aggregate_icmp = { rate = 70, burst = 7, mode = \"monitor\" }",
        )
        .expect("a configuration");
    let daemon = scene.start().expect("a daemon");
    assert_eq!(limits(&daemon).len(), 10);
    let of = |limit, rate, burst, mode| json!({ "limit": limit, "rate": rate, "burst": burst, "mode": mode });
    let by_default = of("source_packets", 20_000, 20_000, "enforce");
    assert_eq!(limit(&daemon, "source_packets"), by_default);
    let configured = of("aggregate_icmp", 70, 7, "monitor");
    assert_eq!(limit(&daemon, "aggregate_icmp"), configured);
    assert_eq!(
        limit(&daemon, "source_udp"),
        of("source_udp", 0, 0, "enforce")
    );
    let (sent, got) = flood(&scene, BOB);
    assert_eq!(got, sent, "before");

    let set = [
        "limit",
        "set",
        "source_udp",
        "--rate",
        "200",
        "--burst",
        "50",
    ];
    let reply = daemon.ask(&set).expect("set");
    assert_eq!(
        reply["limits"],
        json!([of("source_udp", 200, 50, "enforce")])
    );
    assert_eq!(
        limit(&daemon, "source_udp"),
        of("source_udp", 200, 50, "enforce")
    );
    let (sent, got) = flood(&scene, BOB);
    // Half a second's worth and the burst; the pace of a busy machine isn't even.
    assert!((130..=260).contains(&got), "{got} of {sent}");
    assert_eq!(daemon.packets("source_udp").expect("counters"), sent - got);
    assert_eq!(
        limit(&daemon, "aggregate_icmp"),
        configured,
        "the others stay"
    );

    let off = ["limit", "set", "source_udp", "--rate", "0"];
    daemon.ask(&off).expect("set");
    assert_eq!(limit(&daemon, "source_udp")["rate"], 0);
    let (sent, got) = flood(&scene, BOB);
    assert_eq!(got, sent, "off");
    let recorded: Vec<_> = scene
        .audit_lines()
        .expect("the trail")
        .into_iter()
        .filter(|line| line["step"] == "set_limit")
        .filter_map(|line| line["detail"].as_str().map(str::to_owned))
        .collect();
    assert_eq!(
        recorded,
        [
            "source_udp rate 200 burst 50 mode enforce by uid 0",
            "source_udp rate 0 burst 0 mode enforce by uid 0",
        ]
    );
    daemon
        .ask(&["limit", "set", "source_packets", "--rate", "1"])
        .expect("set");
    daemon.kill().expect("killed");
    let daemon = scene.start().expect("a daemon");
    assert_eq!(
        limit(&daemon, "source_packets"),
        by_default,
        "as configured"
    );
}

#[test]
fn a_limit_in_monitor_mode_lets_a_flood_pass_and_counts_what_it_would_drop() {
    if !kernel_or_skip("a_limit_in_monitor_mode_lets_a_flood_pass_and_counts_what_it_would_drop") {
        return;
    }
    let scene = scene();
    let daemon = scene.start().expect("a daemon");
    let set = [
        "limit",
        "set",
        "source_packets",
        "--rate",
        "200",
        "--mode",
        "monitor",
    ];
    daemon.ask(&set).expect("set");
    let (sent, got) = flood(&scene, BOB);
    assert_eq!(got, sent);
    let watched = daemon.watched("source_packets").expect("counters");
    assert!(watched >= sent / 2, "{watched} of {sent} watched");
    assert_eq!(daemon.packets("source_packets").expect("counters"), 0);
    // The mode stays when only the rate is set.
    daemon
        .ask(&["limit", "set", "source_packets", "--rate", "100"])
        .expect("set");
    assert_eq!(limit(&daemon, "source_packets")["mode"], "monitor");
    let drop = |line: &&Value| line["kind"] == "drop" && line["reason"] == "source_packets";
    let sample = eventually("a sample", PATIENCE, || {
        scene.audit_lines().ok()?.iter().find(drop).cloned()
    });
    assert_eq!(sample.expect("a sample")["monitored"], true);
}

#[test]
fn a_limit_that_cannot_be_is_refused_with_what_can() {
    if !kernel_or_skip("a_limit_that_cannot_be_is_refused_with_what_can") {
        return;
    }
    let scene = scene();
    let daemon = scene.start().expect("a daemon");
    let before = limits(&daemon);
    for (words, told) in [
        (
            ["source_packet", "--rate", "1"],
            "there are: source_packets, source_bytes",
        ),
        (
            ["source_udp", "--rate", "1000000000001"],
            "from 0 to 1000000000000",
        ),
        (["source_udp", "--rate", "-1"], "unexpected argument"),
    ] {
        let words = [&["limit", "set"], &words[..]].concat();
        let refused = daemon.ask_refused(&words).expect("refused");
        assert!(refused.contains(told), "{words:?}: {refused}");
    }
    assert_eq!(limits(&daemon), before);
    let mut people = Command::new(portcullis());
    people
        .args(["limit", "show", "--socket"])
        .arg(&scene.socket);
    let printed = output(&mut people).expect("printed").stdout;
    let printed = String::from_utf8_lossy(&printed).into_owned();
    assert!(printed.contains("source_packets     off\n"), "{printed}");
    assert_eq!(printed.lines().count(), 10, "{printed}");
}

#[test]
fn a_list_that_only_watches_lets_its_entries_pass_and_tells_of_them() {
    if !kernel_or_skip("a_list_that_only_watches_lets_its_entries_pass_and_tells_of_them") {
        return;
    }
    let scene = scene();
    scene
        .reconfigure("[admin]", "[lists]\nmonitor = [\"trial\"]\n\n[admin]")
        .expect("a configuration");
    let daemon = scene.start().expect("a daemon");
    let both = || volley(&scene, EDGE, [ALICE, BOB]).expect("traffic");
    daemon
        .ask(&["block", "add", BOB, "--list", "trial"])
        .expect("added");
    assert_eq!(both(), [Passed, Passed], "only watched");
    assert!(daemon.watched("blocked").expect("counters") > 50);
    assert_eq!(daemon.packets("blocked").expect("counters"), 0);
    let tested = daemon.ask(&["block", "test", BOB]).expect("an answer");
    assert_eq!(
        (&tested["standing"], &tested["dropped"]),
        (&json!("monitored"), &json!(false))
    );
    let status = daemon.status().expect("a status");
    let listed = status["lists"].as_array().cloned().unwrap_or_default();
    let trial = listed.iter().find(|list| list["list"] == "trial");
    assert_eq!(trial.expect("the list")["mode"], "monitor");
    let token = scene.issuer.token("bob", "orders:read").expect("a token");
    let answer = scene.curl(BOB, "/orders/1", Some(&token)).expect("curl");
    assert_eq!(answer.status, 200, "at accept too");
    let sample = eventually("a sample", PATIENCE, || {
        let lines = scene.audit_lines().ok()?;
        lines.into_iter().find(|line| line["kind"] == "drop")
    })
    .expect("a sample");
    assert_eq!(
        (&sample["source"], &sample["monitored"], &sample["lists"]),
        (&json!(BOB), &json!(true), &json!(["trial"]))
    );

    daemon.ask(&["block", "add", BOB]).expect("added");
    assert_eq!(both(), [Passed, Dropped], "another list is enforced");
    daemon.kill().expect("killed");
    let daemon = scene.start().expect("a daemon");
    assert_eq!(both(), [Passed, Dropped], "after a restart");
    daemon.ask(&["block", "remove", BOB]).expect("removed");
    assert_eq!(both(), [Passed, Passed], "only watched again");
}

#[test]
fn under_new_inbound_only_a_listed_host_answers_and_does_not_call() {
    if !kernel_or_skip("under_new_inbound_only_a_listed_host_answers_and_does_not_call") {
        return;
    }
    let scene = scene();
    let daemon = scene.start().expect("a daemon");
    daemon.ask(&["block", "add", BOB]).expect("added");
    let reaches = |outside| can_connect_to(&scene, outside).expect("a try");
    assert!(reaches(ALICE));
    assert!(!reaches(BOB), "all traffic is judged");
    daemon.stop().expect("stopped");
    scene
        .reconfigure("[kernel]\n", "[kernel]\nscope = \"new-inbound-only\"\n")
        .expect("a configuration");
    let daemon = scene.start().expect("a daemon");
    assert!(reaches(BOB), "its replies arrive");
    assert!(daemon.packets("established").expect("counters") > 0);
    let token = scene.issuer.token("bob", "orders:read").expect("a token");
    for (client, status) in [(ALICE, 200), (BOB, 0)] {
        let answer = scene.curl(client, "/orders/1", Some(&token)).expect("curl");
        assert_eq!(answer.status, status, "{client}");
    }
    let got = volley(&scene, EDGE, [ALICE, BOB]).expect("traffic");
    assert_eq!(got, [Passed, Dropped], "UDP");
}

#[test]
fn a_limit_that_nobody_confirms_is_as_before_and_one_that_is_confirmed_stays() {
    let name = "a_limit_that_nobody_confirms_is_as_before_and_one_that_is_confirmed_stays";
    if !kernel_or_skip(name) {
        return;
    }
    let scene = scene();
    let daemon = scene.start().expect("a daemon");
    let before = limit(&daemon, "source_udp");
    let set = |rate: &str, within: &str| {
        let words = [
            "limit",
            "set",
            "source_udp",
            "--rate",
            rate,
            "--confirm",
            within,
        ];
        daemon.ask(&words).expect("set")
    };
    let told = set("1", "1s");
    assert!(told["pending"].is_u64(), "{told}");
    assert_eq!(limit(&daemon, "source_udp")["rate"], 1);
    eventually("it reverts", Duration::from_secs(10), || {
        (limit(&daemon, "source_udp") == before).then_some(())
    })
    .expect("reverted");
    let pending = set("7", "1h")["pending"].to_string();
    daemon.ask(&["confirm", &pending]).expect("confirmed");
    let left = daemon.ask(&["confirm", "--list"]).expect("what waits");
    assert_eq!(left["pending"], serde_json::json!([]));
    assert_eq!(limit(&daemon, "source_udp")["rate"], 7);
}
