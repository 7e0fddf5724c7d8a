//! Interfaces that are added and given up while the daemon runs, and those that go away and return.

use std::time::Duration;

use datapath::{Pins, Truth};
use portcullis_tests::{
    daemon::Daemon,
    loaded::{Loaded, options},
    netns::{ALICE, BOB, EDGE},
    privilege::kernel_or_skip,
    run::{Rigged, eventually, output},
    scene::{Scene, SceneLimits},
    scratch::unique_name,
    volley::{
        Outcome::{Dropped, Passed},
        volley,
    },
    xdp::xdp_on,
};
use serde_json::Value;

const PATIENCE: Duration = Duration::from_secs(10);
const EDGE_2: &str = "198.51.100.1";
const CAROL: &str = "198.51.100.10";
const DAVE: &str = "198.51.100.20";

fn scene() -> Scene {
    Scene::set(&unique_name(), SceneLimits::NONE).expect("a scene")
}

/// A wire like the first one.
fn second_wire(scene: &Scene) -> Rigged<()> {
    let (edge, outside) = (&scene.wire.edge, &scene.wire.outside);
    let peer = outside.name();
    edge.ip(&format!(
        "link add edge1 type veth peer name out1 netns {peer}"
    ))?;
    edge.ip(&format!("addr add {EDGE_2}/24 dev edge1"))?;
    edge.ip("link set edge1 up")?;
    for client in [CAROL, DAVE] {
        outside.ip(&format!("addr add {client}/24 dev out1"))?;
    }
    outside.ip("link set out1 up")?;
    Ok(())
}

fn listed(daemon: &Daemon) -> Vec<(String, String)> {
    let told = daemon.ask(&["interface", "list"]).expect("interfaces");
    let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
    told["interfaces"]
        .as_array()
        .into_iter()
        .flatten()
        .map(|it| (text(&it["interface"]), text(&it["mode"])))
        .collect()
}

fn is(pairs: &[(String, String)], expected: &[(&str, &str)]) -> bool {
    pairs.len() == expected.len()
        && pairs
            .iter()
            .zip(expected)
            .all(|(found, wanted)| (found.0.as_str(), found.1.as_str()) == *wanted)
}

#[test]
fn an_interface_is_guarded_at_run_time_stays_over_a_restart_and_is_given_up() {
    let name = "an_interface_is_guarded_at_run_time_stays_over_a_restart_and_is_given_up";
    if !kernel_or_skip(name) {
        return;
    }
    let scene = scene();
    second_wire(&scene).expect("a second wire");
    let daemon = scene.start().expect("a daemon");
    daemon.ask(&["block", "add", BOB, DAVE]).expect("blocks");
    let second = || volley(&scene, EDGE_2, [CAROL, DAVE]).expect("traffic");
    assert_eq!(second(), [Passed, Passed]);
    daemon.ask(&["interface", "add", "edge1"]).expect("added");
    assert_eq!(second(), [Passed, Dropped]);
    let both = [("edge0", "native"), ("edge1", "native")];
    assert!(is(&listed(&daemon), &both), "{:?}", listed(&daemon));
    daemon
        .ask(&["interface", "add", "edge1"])
        .expect("again is no error");
    daemon.kill().expect("killed");
    assert_eq!(second(), [Passed, Dropped]);

    let daemon = scene.start().expect("a daemon");
    assert!(is(&listed(&daemon), &both), "{:?}", listed(&daemon));
    assert_eq!(second(), [Passed, Dropped]);
    daemon
        .ask(&["interface", "remove", "edge1"])
        .expect("removed");
    assert_eq!(
        xdp_on(&scene.wire.edge, "edge1").expect("an interface"),
        None
    );
    assert_eq!(second(), [Passed, Passed]);
    let got = volley(&scene, EDGE, [ALICE, BOB]).expect("traffic");
    assert_eq!(got, [Passed, Dropped], "the other is guarded all along");

    for (words, told) in [
        (["remove", "edge0"], "edge0 is written in kernel.interfaces"),
        (["remove", "edge1"], "edge1 isn't guarded"),
        (["add", "edge7"], "no network interface named \\\"edge7\\\""),
    ] {
        let refused = daemon
            .ask_refused(&["interface", words[0], words[1]])
            .expect("a refusal");
        assert!(refused.contains(told), "{refused}");
    }
    daemon.kill().expect("killed");
    let daemon = scene.start().expect("a daemon");
    assert!(is(&listed(&daemon), &[("edge0", "native")]));
}

#[test]
fn an_interface_that_goes_away_is_told_of_and_guarded_again_when_it_returns() {
    let name = "an_interface_that_goes_away_is_told_of_and_guarded_again_when_it_returns";
    if !kernel_or_skip(name) {
        return;
    }
    let scene = scene();
    let daemon = scene.start().expect("a daemon");
    daemon.ask(&["block", "add", BOB]).expect("a block");
    let (edge, outside) = (&scene.wire.edge, &scene.wire.outside);
    edge.ip("link delete edge0").expect("gone");
    eventually("its absence is told", PATIENCE, || {
        is(&listed(&daemon), &[("edge0", "absent")]).then_some(())
    })
    .expect("absent");
    assert!(daemon.printed().contains("the interface is gone"));
    for words in [
        format!(
            "link add edge0 type veth peer name out0 netns {}",
            outside.name()
        ),
        format!("addr add {EDGE}/24 dev edge0"),
        "link set edge0 up".to_owned(),
    ] {
        edge.ip(&words).expect("an interface of the same name");
    }
    outside
        .ip(&format!("addr add {ALICE}/24 dev out0"))
        .expect("Alice");
    outside.ip("link set out0 up").expect("up");
    scene.wire.add_client(BOB).expect("Bob");
    eventually("it is guarded again", PATIENCE, || {
        is(&listed(&daemon), &[("edge0", "native")]).then_some(())
    })
    .expect("guarded");
    let got = volley(&scene, EDGE, [ALICE, BOB]).expect("traffic");
    assert_eq!(got, [Passed, Dropped], "by the same lists");
    let steps = scene.audit_lines().expect("the trail");
    for step in ["interface_gone", "interface_returned"] {
        assert!(steps.iter().any(|line| line["step"] == step), "{step}");
    }
}

#[test]
fn what_an_operator_detached_is_not_attached_again_behind_his_back() {
    if !kernel_or_skip("what_an_operator_detached_is_not_attached_again_behind_his_back") {
        return;
    }
    let scene = scene();
    let daemon = scene.start().expect("a daemon");
    scene.detach().expect("detached");
    std::thread::sleep(Duration::from_secs(2));
    assert_eq!(
        xdp_on(&scene.wire.edge, "edge0").expect("an interface"),
        None
    );
    assert!(
        is(&listed(&daemon), &[("edge0", "none")]),
        "{:?}",
        listed(&daemon)
    );
    let refused = daemon.ask_refused(&["interface", "add", "edge0"]);
    let refused = refused.expect("a refusal");
    assert!(
        refused.contains("start portcullis again to guard"),
        "{refused}"
    );
}

#[test]
fn an_added_interface_that_is_not_there_at_the_start_is_waited_for() {
    if !kernel_or_skip("an_added_interface_that_is_not_there_at_the_start_is_waited_for") {
        return;
    }
    let scene = scene();
    second_wire(&scene).expect("a second wire");
    let daemon = scene.start().expect("a daemon");
    daemon.ask(&["interface", "add", "edge1"]).expect("added");
    daemon.kill().expect("killed");
    scene.wire.edge.ip("link delete edge1").expect("gone");
    // What was added at run time must not keep the rest from starting.
    let daemon = scene.start().expect("a daemon");
    assert!(
        daemon
            .printed()
            .contains("NOT GUARDED: it will be when it can")
    );
    let absent = [("edge0", "native"), ("edge1", "absent")];
    assert!(is(&listed(&daemon), &absent), "{:?}", listed(&daemon));
    second_wire(&scene).expect("a second wire");
    eventually("it is guarded", PATIENCE, || {
        is(
            &listed(&daemon),
            &[("edge0", "native"), ("edge1", "native")],
        )
        .then_some(())
    })
    .expect("guarded");
}

#[test]
fn people_are_told_how_each_interface_is_guarded() {
    if !kernel_or_skip("people_are_told_how_each_interface_is_guarded") {
        return;
    }
    let scene = scene();
    scene
        .wire
        .edge
        .ip("link add bridge0 type bridge")
        .expect("a bridge");
    let daemon = scene.start().expect("a daemon");
    daemon.ask(&["interface", "add", "bridge0"]).expect("added");
    let mut command = daemon.ask_command(&["interface", "list"]);
    // Without `--json`.
    let args: Vec<_> = command
        .get_args()
        .filter(|it| *it != "--json")
        .map(ToOwned::to_owned)
        .collect();
    command = std::process::Command::new(command.get_program());
    let printed = output(command.args(args)).expect("a list");
    let printed = String::from_utf8_lossy(&printed.stdout).into_owned();
    assert!(
        printed.contains("guarding edge0 (native XDP, program "),
        "{printed}"
    );
    assert!(
        printed.contains("guarding bridge0 (generic XDP, program "),
        "{printed}"
    );
}

#[test]
fn what_keeps_an_interface_from_being_guarded_well_is_told_and_its_command_mends_it() {
    let name = "what_keeps_an_interface_from_being_guarded_well_is_told_and_its_command_mends_it";
    if !kernel_or_skip(name) {
        return;
    }
    let cores = std::thread::available_parallelism().expect("cores").get();
    let scene = scene();
    let daemon = scene.start().expect("a daemon");
    let obstacles = |daemon: &Daemon| {
        let told = daemon.ask(&["interface", "list"]).expect("interfaces");
        told["interfaces"][0]["obstacles"].clone()
    };
    if cores == 1 {
        // One queue is enough for one core.
        assert_eq!(obstacles(&daemon), serde_json::json!([]));
        return;
    }
    // A veth begins with one queue of as many as there are cores.
    let mend = format!("ethtool -L edge0 rx {cores}");
    let problem = format!("one queue feeds {cores} cores, so one core judges all packets");
    let told = format!("{problem}: `{mend}`");
    assert_eq!(obstacles(&daemon), serde_json::json!([told]));
    assert!(daemon.printed().contains(&problem), "{}", daemon.printed());
    let trail = scene.audit_lines().expect("the trail");
    let detail = format!("edge0: {told}");
    let is_told = |line: &Value| line["step"] == "obstacle" && line["detail"] == detail;
    assert!(trail.iter().any(is_told), "{trail:?}");
    daemon.stop().expect("stopped");

    let mut words = mend.split(' ');
    let mut command = scene.wire.edge.command(words.next().unwrap_or_default());
    let mended = output(command.args(words)).expect("ethtool");
    let said = String::from_utf8_lossy(&mended.stderr);
    assert!(mended.status.success(), "{said}");
    let daemon = scene.start().expect("a daemon");
    assert_eq!(obstacles(&daemon), serde_json::json!([]));
}

#[test]
fn a_strangers_program_on_an_added_interface_does_not_keep_the_rest_from_being_guarded() {
    let name =
        "a_strangers_program_on_an_added_interface_does_not_keep_the_rest_from_being_guarded";
    if !kernel_or_skip(name) {
        return;
    }
    let scene = scene();
    second_wire(&scene).expect("a second wire");
    let daemon = scene.start().expect("a daemon");
    daemon.ask(&["interface", "add", "edge1"]).expect("added");
    daemon.ask(&["block", "add", BOB, DAVE]).expect("blocks");
    daemon.kill().expect("killed");
    let edge = &scene.wire.edge;
    edge.ip("link delete edge1").expect("gone");
    second_wire(&scene).expect("a second wire");
    let stranger = Pins::new(scene.bpffs().path().join("stranger"));
    let _loaded = Loaded::start(options(stranger.clone()), &Truth::default()).expect("a program");
    let program = stranger.root().join("program");
    edge.ip(&format!(
        "link set dev edge1 xdpdrv pinned {}",
        program.display()
    ))
    .expect("the stranger attaches");

    let daemon = scene.start().expect("a daemon");
    let waiting = [("edge0", "native"), ("edge1", "absent")];
    assert!(is(&listed(&daemon), &waiting), "{:?}", listed(&daemon));
    assert!(daemon.printed().contains("edge1 already runs XDP program"));
    let got = volley(&scene, EDGE, [ALICE, BOB]).expect("traffic");
    assert_eq!(got, [Passed, Dropped]);
    edge.ip("link set dev edge1 xdpdrv off").expect("off");
    let both = [("edge0", "native"), ("edge1", "native")];
    eventually("the other is guarded too", PATIENCE, || {
        is(&listed(&daemon), &both).then_some(())
    })
    .expect("guarded");
    let got = volley(&scene, EDGE_2, [CAROL, DAVE]).expect("traffic");
    assert_eq!(got, [Passed, Dropped]);
}

#[test]
fn only_an_interface_that_is_guarded_can_be_released_whatever_its_name_is_as_a_path() {
    let name = "only_an_interface_that_is_guarded_can_be_released_whatever_its_name_is_as_a_path";
    if !kernel_or_skip(name) {
        return;
    }
    let scene = scene();
    let daemon = scene.start().expect("a daemon");
    let bystander = scene.scratch.write("bystander", "left alone");
    let bystander = bystander.expect("a file").display().to_string();
    let pin = scene.pins.root().join("links/edge0").display().to_string();
    for odd in [&bystander, &pin, "../links/edge0", "./edge0", "links", ""] {
        let refused = daemon.ask_refused(&["interface", "remove", odd]);
        refused.unwrap_or_else(|error| panic!("{odd:?}: {error}"));
    }
    let left = std::fs::read_to_string(&bystander).expect("still there");
    assert_eq!(left, "left alone");
    assert!(is(&listed(&daemon), &[("edge0", "native")]));
    assert!(scene.pins.root().join("links/edge0").exists());
}
