//! Not one packet of a listed source passes while the daemon is stopped, killed, replaced by another
//! binary, hands over to the next process, and is given whole new lists.

use std::{fs, time::Duration};

use portcullis_tests::{
    daemon::{Daemon, portcullis},
    netns::{ALICE, BOB},
    privilege::kernel_or_skip,
    run::eventually,
    scene::{Scene, SceneLimits},
    scratch::unique_name,
};

const RESTARTS: usize = 50;
const UPGRADES: usize = 20;
const HAND_OVERS: usize = 10;
const RELOADS: usize = 20;

/// How long drops may take to be seen.
const PATIENCE: Duration = Duration::from_secs(5);

/// Ends a daemon: in order, or as a crash would.
fn end(daemon: Daemon, in_order: bool) {
    if in_order {
        assert!(daemon.stop().expect("stopped").success());
    } else {
        daemon.kill().expect("killed");
    }
}

/// Waits until probes are dropped under this daemon.
fn await_drops(daemon: &Daemon) {
    let now = daemon.packets("blocked").expect("counters");
    eventually("probes are dropped", PATIENCE, || {
        (daemon.packets("blocked").ok()? > now + 10).then_some(())
    })
    .expect("drops");
}

fn program(daemon: &Daemon) -> u64 {
    let status = daemon.status().expect("a status");
    assert_eq!(status["interfaces"][0]["adopted"], true, "{status}");
    status["interfaces"][0]["program_id"]
        .as_u64()
        .expect("an id")
}

#[test]
fn not_one_packet_passes_through_restarts_hand_overs_and_new_lists() {
    if !kernel_or_skip("not_one_packet_passes_through_restarts_hand_overs_and_new_lists") {
        return;
    }
    let scene = Scene::set(&unique_name(), SceneLimits::NONE).expect("a scene");
    let mut daemon = scene.start().expect("a daemon");
    daemon.ask(&["block", "add", BOB]).expect("added");
    let before = daemon.packets("blocked").expect("counters");
    let sink = scene.count_on().expect("a sink");
    let prober = scene.send_on(BOB, 1_000).expect("a prober");
    let calm = scene.send_on(ALICE, 100).expect("a client");

    for restart in 0..RESTARTS {
        await_drops(&daemon);
        end(daemon, restart % 2 == 0);
        daemon = scene.start().expect("a daemon");
        program(&daemon);
    }
    let other = scene.scratch.join("portcullis-next");
    fs::copy(portcullis(), &other).expect("a copy");
    for upgrade in 0..UPGRADES {
        await_drops(&daemon);
        let old = program(&daemon);
        end(daemon, upgrade % 2 == 0);
        let binary = if upgrade % 2 == 0 {
            other.clone()
        } else {
            portcullis()
        };
        daemon = scene.start_binary(binary).expect("a daemon");
        assert_ne!(
            program(&daemon),
            old,
            "upgrade {upgrade} has a program of its own"
        );
    }
    for hand_over in 0..HAND_OVERS {
        await_drops(&daemon);
        let (before, old) = (daemon.pid(), program(&daemon));
        daemon.upgrade().expect("handed over");
        assert_ne!(program(&daemon), old, "hand-over {hand_over}");
        daemon.await_end(before).expect("the one before has ended");
    }
    for reload in 0..RELOADS {
        // So many that the tables are made anew.
        let list: String = (0..5_000_u32)
            .map(|n| format!("100.{}.{}.{}\n", 64 + reload, n / 250, n % 250))
            .collect();
        let file = scene.scratch.write("list.txt", list).expect("a list");
        let imported = daemon.ask(&["block", "import", &file.display().to_string()]);
        assert_eq!(imported.expect("imported")["added"], 5_000);
        await_drops(&daemon);
    }

    let probes = prober.finish().expect("probes");
    let passed = calm.finish().expect("datagrams");
    // What is on its way has arrived.
    await_settled(&daemon);
    let received = sink.finish().expect("datagrams");
    assert_eq!(received.from(BOB), 0, "of {probes} probes");
    assert!(probes > 10_000, "{probes} probes");
    assert_eq!(received.from(ALICE), passed, "the sink was there");
    let dropped = daemon.packets("blocked").expect("counters") - before;
    assert_eq!(dropped, probes, "counted over all of it");
}

/// Waits until the counter stands still.
fn await_settled(daemon: &Daemon) {
    let mut last = None;
    eventually("the last probe is counted", PATIENCE, || {
        let now = daemon.packets("blocked").ok()?;
        let is_same = last == Some(now);
        last = Some(now);
        is_same.then_some(())
    })
    .expect("settled");
}
