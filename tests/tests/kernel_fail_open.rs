//! Where drops are to stop when the daemon has been gone for long: they do, not sooner, and begin again
//! with it; where nothing is said they never stop.

use std::{
    thread,
    time::{Duration, Instant},
};

use datapath::{Claim, Rules, Truth};
use portcullis_tests::{
    bpffs::Bpffs,
    frames::datagram,
    loaded::{Loaded, options},
    netns::{BOB, EDGE},
    privilege::kernel_or_skip,
    run::eventually,
    scene::{Scene, SceneLimits},
    scratch::unique_name,
    volley::{
        Outcome::{Dropped, Passed},
        volley,
    },
};
use proxy_common::Reason::{Blocked, FailOpen};

#[test]
fn the_program_lets_everything_pass_without_a_sign_of_life_and_judges_again_with_one() {
    let name = "the_program_lets_everything_pass_without_a_sign_of_life_and_judges_again_with_one";
    if !kernel_or_skip(name) {
        return;
    }
    const AFTER: Duration = Duration::from_millis(300);
    let bpffs = Bpffs::mount().expect("a BPF filesystem");
    let mut truth = Truth::default();
    let source = "198.51.100.7/32".parse().expect("a prefix");
    truth.set(source, 0, Some(Claim::BLOCKED));
    let rules = Rules {
        fail_open_after: Some(AFTER),
        ..Rules::NONE
    };
    let wanted = datapath::Options {
        rules,
        ..options(bpffs.pins())
    };
    let mut loaded = Loaded::start(wanted, &truth).expect("a start");
    let frame = datagram([198, 51, 100, 7].into());
    let started = Instant::now();
    loaded.expect(&frame, Blocked).expect("judged");
    assert!(started.elapsed() < AFTER, "the premise");
    thread::sleep(AFTER + Duration::from_millis(50));
    loaded.expect(&frame, FailOpen).expect("not judged");
    // Also what can't even be read.
    loaded.expect(&frame[..20], FailOpen).expect("not judged");
    let mut heartbeat = loaded.datapath.take_heartbeat().expect("a heartbeat");
    heartbeat.beat().expect("a beat");
    loaded.expect(&frame, Blocked).expect("judged again");
    loaded.datapath.set_rules(&Rules::NONE).expect("set");
    thread::sleep(AFTER + Duration::from_millis(50));
    loaded.expect(&frame, Blocked).expect("judged for ever");
}

#[test]
fn drops_end_when_the_daemon_has_been_gone_for_so_long_and_begin_again_with_it() {
    let name = "drops_end_when_the_daemon_has_been_gone_for_so_long_and_begin_again_with_it";
    if !kernel_or_skip(name) {
        return;
    }
    let scene = Scene::set(&unique_name(), SceneLimits::NONE).expect("a scene");
    scene
        .reconfigure("[kernel]\n", "[kernel]\nfail_open_after = \"5s\"\n")
        .expect("a longest absence");
    let daemon = scene.start().expect("a daemon");
    daemon.ask(&["block", "add", BOB]).expect("a block");
    let got = || volley(&scene, EDGE, [BOB]).expect("traffic");
    // Longer than the absence that is allowed: the daemon is there.
    thread::sleep(Duration::from_secs(6));
    assert_eq!(got(), [Dropped]);
    daemon.kill().expect("killed");
    let gone = Instant::now();
    assert_eq!(got(), [Dropped]);
    assert!(gone.elapsed() < Duration::from_secs(4), "the premise");
    eventually("packets pass", Duration::from_secs(15), || {
        (got() == [Passed]).then_some(())
    })
    .expect("open");
    assert!(gone.elapsed() > Duration::from_secs(4), "not sooner");
    let daemon = scene.start().expect("a daemon");
    assert_eq!(got(), [Dropped]);
    assert!(daemon.packets("fail_open").expect("counters") > 0);
}

#[test]
fn drops_go_on_for_ever_where_nothing_is_said() {
    if !kernel_or_skip("drops_go_on_for_ever_where_nothing_is_said") {
        return;
    }
    let scene = Scene::set(&unique_name(), SceneLimits::NONE).expect("a scene");
    let daemon = scene.start().expect("a daemon");
    daemon.ask(&["block", "add", BOB]).expect("a block");
    daemon.kill().expect("killed");
    thread::sleep(Duration::from_secs(7));
    assert_eq!(volley(&scene, EDGE, [BOB]).expect("traffic"), [Dropped]);
}
