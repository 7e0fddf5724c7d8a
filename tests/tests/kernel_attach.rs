//! The daemon and its interfaces: how it attaches, and what it does when it may not.

use std::fs;

use datapath::Pins;
use portcullis_tests::{
    daemon::{Daemon, Place},
    loaded::{Loaded, options},
    netns::{ALICE, BOB, EDGE},
    privilege::kernel_or_skip,
    run::Rigged,
    scene::{Scene, SceneLimits},
    scratch::unique_name,
    volley::{
        Outcome::{Dropped, Passed},
        volley,
    },
    xdp::{link_id, xdp_on},
};

/// The guarded host on the second wire, and two clients there.
const EDGE_2: &str = "198.51.100.1";
const CAROL: &str = "198.51.100.10";
const DAVE: &str = "198.51.100.20";

fn scene() -> Scene {
    Scene::set(&unique_name(), SceneLimits::NONE).expect("a scene")
}

/// Lays a second wire between the two hosts; its end in the edge gets this name.
fn second_wire(scene: &Scene, edge: &str) -> Rigged<()> {
    let (inside, outside) = (&scene.wire.edge, &scene.wire.outside);
    inside.ip(&format!(
        "link add {edge} type veth peer name out1 netns {}",
        outside.name()
    ))?;
    inside.ip(&format!("addr add {EDGE_2}/24 dev {edge}"))?;
    inside.ip(&format!("link set {edge} up"))?;
    outside.ip(&format!("addr add {CAROL}/24 dev out1"))?;
    outside.ip(&format!("addr add {DAVE}/24 dev out1"))?;
    outside.ip("link set out1 up")?;
    Ok(())
}

/// What a start that is refused prints.
fn refusal(scene: &Scene) -> String {
    scene.start().expect_err("the start is refused").to_string()
}

#[track_caller]
fn assert_nothing_attached(scene: &Scene, interface: &str) {
    let present = xdp_on(&scene.wire.edge, interface).expect("an interface");
    assert_eq!(present, None, "{interface}");
    let links = scene.pins.interfaces().expect("pins");
    assert!(!links.iter().any(|link| link == interface), "{links:?}");
}

fn steps(scene: &Scene) -> Vec<String> {
    let lines = scene.audit_lines().expect("an audit trail");
    lines
        .iter()
        .filter_map(|line| line["step"].as_str().map(str::to_owned))
        .collect()
}

#[test]
fn a_veth_gets_the_program_in_its_driver() {
    if !kernel_or_skip("a_veth_gets_the_program_in_its_driver") {
        return;
    }
    let scene = scene();
    let daemon = scene.start().expect("a daemon");
    let status = daemon.status().expect("a status");
    let told = &status["interfaces"][0];
    assert_eq!(told["interface"], "edge0");
    assert_eq!(told["mode"], "native");
    assert_eq!(told["adopted"], false);
    let present = xdp_on(&scene.wire.edge, "edge0").expect("an interface");
    let present = present.expect("a program");
    assert!(present.native);
    assert_eq!(told["program_id"], present.program_id);
    assert!(
        !daemon.printed().contains("GENERIC"),
        "{}",
        daemon.printed()
    );
    assert!(steps(&scene).contains(&"attach".to_owned()));
}

#[test]
fn lists_hold_on_every_interface_and_one_that_is_dropped_is_released() {
    if !kernel_or_skip("lists_hold_on_every_interface_and_one_that_is_dropped_is_released") {
        return;
    }
    let scene = scene();
    second_wire(&scene, "edge1").expect("a second wire");
    scene
        .reconfigure(r#"["edge0"]"#, r#"["edge0", "edge1"]"#)
        .expect("a configuration");
    let daemon = scene.start().expect("a daemon");
    daemon.ask(&["block", "add", BOB, DAVE]).expect("added");
    let first = |case: &str| {
        let got = volley(&scene, EDGE, [ALICE, BOB]).expect("traffic");
        assert_eq!(got, [Passed, Dropped], "edge0 {case}");
    };
    let second = || volley(&scene, EDGE_2, [CAROL, DAVE]).expect("traffic");
    first("with both guarded");
    assert_eq!(second(), [Passed, Dropped], "edge1 while it is guarded");
    assert_eq!(daemon.packets("banned").expect("counters"), 0);
    assert!(daemon.packets("blocked").expect("counters") > 100);
    let link = link_id(&scene.pins.root().join("links/edge0")).expect("a link");
    daemon.stop().expect("stopped");

    scene
        .reconfigure(r#"["edge0", "edge1"]"#, r#"["edge0"]"#)
        .expect("a configuration");
    let daemon = scene.start().expect("a daemon");
    first("after the other was released");
    assert_eq!(
        link_id(&scene.pins.root().join("links/edge0")).expect("a link"),
        link,
        "edge0 was guarded all along"
    );
    assert_nothing_attached(&scene, "edge1");
    assert_eq!(second(), [Passed, Passed], "edge1 after its release");
    assert!(
        daemon.printed().contains("released"),
        "{}",
        daemon.printed()
    );
    assert!(steps(&scene).contains(&"release".to_owned()));
}

#[test]
fn an_interface_without_native_mode_gets_generic_and_the_log_shouts() {
    if !kernel_or_skip("an_interface_without_native_mode_gets_generic_and_the_log_shouts") {
        return;
    }
    let scene = scene();
    scene
        .reconfigure(r#"["edge0"]"#, r#"["lo"]"#)
        .expect("a configuration");
    let daemon = scene.start().expect("a daemon");
    let status = daemon.status().expect("a status");
    assert_eq!(status["interfaces"][0]["interface"], "lo");
    assert_eq!(status["interfaces"][0]["mode"], "generic");
    let present = xdp_on(&scene.wire.edge, "lo").expect("an interface");
    assert!(!present.expect("a program").native);
    let log = daemon.printed();
    assert!(log.contains("native mode was refused: "), "{log}");
    assert!(log.contains("GENERIC XDP IS SLOW"), "{log}");
}

#[test]
fn an_interface_with_a_dot_in_its_name_is_guarded_like_any_other() {
    if !kernel_or_skip("an_interface_with_a_dot_in_its_name_is_guarded_like_any_other") {
        return;
    }
    // VLAN interfaces are named so, and bpffs takes no dots in names.
    let scene = scene();
    second_wire(&scene, "edge1.100").expect("a second wire");
    scene
        .reconfigure(r#"["edge0"]"#, r#"["edge1.100"]"#)
        .expect("a configuration");
    let daemon = scene.start().expect("a daemon");
    daemon.ask(&["block", "add", DAVE]).expect("added");
    let got = volley(&scene, EDGE_2, [CAROL, DAVE]).expect("traffic");
    assert_eq!(got, [Passed, Dropped]);
    daemon.stop().expect("stopped");
    let daemon = scene.start().expect("a daemon");
    let status = daemon.status().expect("a status");
    assert_eq!(status["interfaces"][0]["interface"], "edge1.100");
    assert_eq!(status["interfaces"][0]["adopted"], true);
    daemon.stop().expect("stopped");
    let said = scene.detach().expect("detached");
    assert_eq!(said, "detached from edge1.100\n");
    assert_nothing_attached(&scene, "edge1.100");
}

#[test]
fn an_interface_that_another_holds_by_a_link_is_refused_by_name() {
    if !kernel_or_skip("an_interface_that_another_holds_by_a_link_is_refused_by_name") {
        return;
    }
    let scene = scene();
    let text = fs::read_to_string(&scene.config).expect("a configuration");
    let mut other = text.replace("[kernel]", "[kernel]\npin_name = \"stranger\"");
    for (ours, theirs) in [
        (":8443", ":8444"),
        ("admin.sock", "stranger.sock"),
        ("audit.jsonl", "stranger.jsonl"),
        ("/state", "/stranger"),
    ] {
        other = other.replace(ours, theirs);
    }
    let other = scene.scratch.write("stranger.toml", other).expect("a file");
    let stranger = Daemon::start(
        &scene.scratch,
        &other,
        &scene.scratch.join("stranger.sock"),
        Place::Within(&scene.wire.edge),
    );
    let stranger = stranger.expect("another portcullis");
    let before = xdp_on(&scene.wire.edge, "edge0").expect("an interface");
    let id = before.clone().expect("a program").program_id;
    let pin = scene.bpffs().path().join("stranger/links/edge0");
    let link = link_id(&pin).expect("a link");

    let said = refusal(&scene);
    let named = format!(
        "edge0 already runs XDP program `portcullis` (id {id}), held by BPF link {link}, pinned as \
         {}; Portcullis never replaces a stranger's program",
        pin.display()
    );
    assert!(said.contains(&named), "{said}");
    assert_eq!(
        xdp_on(&scene.wire.edge, "edge0").expect("an interface"),
        before
    );
    assert_eq!(link_id(&pin).expect("a link"), link);
    assert!(!scene.pins.root().exists(), "nothing of ours is pinned");
    stranger.status().expect("the stranger is well");
}

#[test]
fn an_interface_that_another_holds_over_netlink_is_refused_by_name() {
    if !kernel_or_skip("an_interface_that_another_holds_over_netlink_is_refused_by_name") {
        return;
    }
    for mode in ["xdpdrv", "xdpgeneric"] {
        let scene = scene();
        let stranger = Pins::new(scene.bpffs().path().join("stranger"));
        let _loaded = Loaded::start(options(stranger.clone()), &datapath::Truth::default())
            .expect("a program");
        let program = stranger.root().join("program");
        let program = program.to_str().expect("a path");
        scene
            .wire
            .edge
            .ip(&format!("link set dev edge0 {mode} pinned {program}"))
            .expect("the stranger attaches");
        let before = xdp_on(&scene.wire.edge, "edge0").expect("an interface");
        let present = before.clone().expect("a program");
        assert_eq!(present.native, mode == "xdpdrv");

        let said = refusal(&scene);
        let named = format!(
            "edge0 already runs XDP program `portcullis` (id {}), attached over netlink, owned by ",
            present.program_id
        );
        // The program was loaded by this very test.
        let process = format!("(pid {}); Portcullis never replaces", std::process::id());
        assert!(said.contains(&process), "{mode}: {said}");
        assert!(said.contains(&named), "{mode}: {said}");
        assert_eq!(
            xdp_on(&scene.wire.edge, "edge0").expect("an interface"),
            before,
            "{mode}"
        );
        assert!(
            !scene.pins.root().exists(),
            "{mode}: nothing of ours is pinned"
        );
        let off = format!("link set dev edge0 {mode} off");
        scene.wire.edge.ip(&off).expect("taken off");
        scene.start().expect("the mend that the message names");
    }
}

#[test]
fn a_start_that_fails_on_its_second_interface_leaves_the_first_as_it_was() {
    if !kernel_or_skip("a_start_that_fails_on_its_second_interface_leaves_the_first_as_it_was") {
        return;
    }
    let scene = scene();
    second_wire(&scene, "edge1").expect("a second wire");
    let edge = &scene.wire.edge;
    // Free to look at, but the kernel takes no program on a port whose bridge runs one.
    edge.ip("link add bridge0 type bridge").expect("a bridge");
    edge.ip("link set edge1 master bridge0").expect("a port");
    let stranger = Pins::new(scene.bpffs().path().join("stranger"));
    let _loaded =
        Loaded::start(options(stranger.clone()), &datapath::Truth::default()).expect("a program");
    let program = stranger.root().join("program");
    let attach = format!(
        "link set dev bridge0 xdpgeneric pinned {}",
        program.display()
    );
    edge.ip(&attach).expect("the bridge's program");
    let both = r#"["edge0", "edge1"]"#;
    scene.reconfigure(r#"["edge0"]"#, both).expect("both");
    let refused = || {
        let said = refusal(&scene);
        let named = "edge1 takes no XDP program as a BPF link: an interface above it";
        assert!(said.contains(named), "{said}");
        assert_nothing_attached(&scene, "edge1");
    };
    refused();
    assert_nothing_attached(&scene, "edge0");

    // What was in force before stays in force.
    scene.reconfigure(both, r#"["edge0"]"#).expect("one");
    let daemon = scene.start().expect("a daemon");
    daemon.ask(&["block", "add", BOB]).expect("added");
    daemon.stop().expect("stopped");
    let pin = scene.pins.root().join("links/edge0");
    let link = link_id(&pin).expect("a link");
    scene.reconfigure(r#"["edge0"]"#, both).expect("both");
    refused();
    assert_eq!(link_id(&pin).expect("a link"), link);
    let got = volley(&scene, EDGE, [ALICE, BOB]).expect("traffic");
    assert_eq!(got, [Passed, Dropped]);

    edge.ip("link set dev bridge0 xdpgeneric off").expect("off");
    let daemon = scene.start().expect("nothing is in the way any more");
    let status = daemon.status().expect("a status");
    assert_eq!(status["interfaces"][0]["adopted"], true);
    assert_eq!(status["interfaces"][1]["interface"], "edge1");
    assert_eq!(status["interfaces"][1]["adopted"], false);
}
