//! `portcullis trace`: each stage's decision on one source's packets, and the normal program back
//! in its place afterwards.

use std::{
    io::Read as _,
    process::{Child, Stdio},
    time::Duration,
};

use portcullis_tests::{
    daemon::Daemon,
    netns::{ALICE, BOB},
    privilege::kernel_or_skip,
    run::eventually,
    scene::{Scene, SceneLimits},
    scratch::unique_name,
    volley::{
        Outcome::{Dropped, Passed},
        volley,
    },
    xdp::{OnInterface, xdp_on},
};

const INTERFACE: &str = "edge0";
const EDGE: &str = portcullis_tests::netns::EDGE;
const PATIENCE: Duration = Duration::from_secs(20);

fn scene() -> Scene {
    Scene::set(&unique_name(), SceneLimits::NONE).expect("a scene")
}

fn running(scene: &Scene) -> OnInterface {
    xdp_on(&scene.wire.edge, INTERFACE)
        .expect("an interface")
        .expect("a program")
}

/// A trace of `source` that has begun.
fn begun(scene: &Scene, daemon: &Daemon, source: &str, length: &str) -> Child {
    let normal = running(scene).program_id;
    let trace = daemon
        .ask_command(&["trace", source, "--for", length])
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .expect("a trace");
    eventually("the traced program is in its place", PATIENCE, || {
        (running(scene).program_id != normal).then_some(())
    })
    .expect("swapped in");
    trace
}

fn told(trace: Child) -> String {
    let output = trace.wait_with_output().expect("the trace ends");
    let errors = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{errors}");
    String::from_utf8(output.stdout).expect("text")
}

#[test]
fn a_trace_tells_each_stage_of_its_source_alone_and_leaves_no_trace() {
    if !kernel_or_skip("a_trace_tells_each_stage_of_its_source_alone_and_leaves_no_trace") {
        return;
    }
    let scene = scene();
    let daemon = scene.start().expect("a daemon");
    let normal = running(&scene);
    daemon
        .ask(&["block", "add", BOB, "--ttl", "1h"])
        .expect("banned");

    let trace = begun(&scene, &daemon, BOB, "4s");
    let traced = running(&scene);
    assert!(traced.native, "{traced:?}");
    assert_eq!(
        volley(&scene, EDGE, [ALICE, BOB]).expect("traffic"),
        [Passed, Dropped],
        "the traced program guards as the other does"
    );
    let status = daemon.status().expect("a status");
    assert_eq!(status["interfaces"][0]["mode"], "native", "{status}");
    let text = told(trace);

    for line in [
        format!("packet from {BOB}"),
        "  lists: banned".to_owned(),
        "  transport: udp".to_owned(),
        "  verdict: drop (banned)".to_owned(),
    ] {
        assert!(text.lines().any(|told| told.contains(&line)), "{text}");
    }
    assert!(!text.contains(ALICE), "{text}");
    assert_eq!(running(&scene), normal, "the very program that ran before");
    assert_eq!(
        volley(&scene, EDGE, [ALICE, BOB]).expect("traffic"),
        [Passed, Dropped]
    );
}

#[test]
fn a_trace_ends_when_its_watcher_leaves() {
    if !kernel_or_skip("a_trace_ends_when_its_watcher_leaves") {
        return;
    }
    let scene = scene();
    let daemon = scene.start().expect("a daemon");
    let normal = running(&scene);
    let mut trace = begun(&scene, &daemon, BOB, "5min");
    let second = daemon.ask_refused(&["trace", ALICE]).expect("a refusal");
    assert!(second.contains("somebody is tracing already"), "{second}");
    trace.kill().expect("killed");
    trace.wait().expect("gone");
    eventually("the normal program is back", PATIENCE, || {
        (running(&scene) == normal).then_some(())
    })
    .expect("swapped back");
}

#[test]
fn a_daemon_killed_while_it_traces_is_followed_by_one_that_runs_the_normal_program() {
    if !kernel_or_skip(
        "a_daemon_killed_while_it_traces_is_followed_by_one_that_runs_the_normal_program",
    ) {
        return;
    }
    let scene = scene();
    let daemon = scene.start().expect("a daemon");
    daemon.ask(&["block", "add", BOB]).expect("blocked");
    let mut trace = begun(&scene, &daemon, BOB, "5min");
    let traced = running(&scene).program_id;
    daemon.kill().expect("killed");
    let mut rest = String::new();
    if let Some(mut stdout) = trace.stdout.take() {
        stdout.read_to_string(&mut rest).expect("the trace's end");
    }
    trace.wait().expect("the watcher is told");
    let dropped = volley(&scene, EDGE, [ALICE, BOB]).expect("traffic");
    assert_eq!(dropped, [Passed, Dropped], "drops outlive the daemon");

    let _daemon = scene.start().expect("another daemon");
    assert_ne!(running(&scene).program_id, traced);
    let dropped = volley(&scene, EDGE, [ALICE, BOB]).expect("traffic");
    assert_eq!(dropped, [Passed, Dropped]);
}
