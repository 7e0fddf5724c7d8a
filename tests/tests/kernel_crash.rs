//! `kill -9` at any moment: what was acknowledged holds, and nobody slips through.

use std::{
    collections::BTreeSet,
    fs::{self, File},
    net::Ipv4Addr,
    process::{Child, Stdio},
    sync::Mutex,
    thread,
    time::{Duration, Instant},
};

use portcullis_tests::{
    daemon::{Daemon, portcullis},
    held,
    netns::{ALICE, BOB, EDGE},
    privilege::kernel_or_skip,
    run::{eventually, output},
    scene::{Scene, SceneLimits},
    scratch::unique_name,
    volley::one_from_each,
};
const PATIENCE: Duration = Duration::from_secs(5);

/// A scene whose outside host owns all of 10.9.0.0/16.
fn scene() -> Scene {
    let scene = Scene::set(&unique_name(), SceneLimits::NONE).expect("a scene");
    let outside = &scene.wire.outside;
    outside
        .ip("route add local 10.9.0.0/16 dev lo")
        .expect("addresses");
    scene
}

fn owned(number: u16) -> String {
    let [high, low] = number.to_be_bytes();
    Ipv4Addr::new(10, 9, high, low).to_string()
}

/// What the daemon says it holds.
fn listed(daemon: &Daemon) -> BTreeSet<String> {
    held::listed(daemon)
        .expect("the entries")
        .into_keys()
        .collect()
}

/// What the kernel drops; this suite puts IPv4 on the lists and nothing else.
fn in_kernel(scene: &Scene) -> BTreeSet<String> {
    held::in_kernel(scene).expect("a table")
}

/// Everything that was acknowledged is listed and dropped, and kernel and state agree on the rest.
#[track_caller]
fn assert_whole(scene: &Scene, daemon: &Daemon, acknowledged: &[String], moment: &str) {
    let listed = listed(daemon);
    assert_eq!(in_kernel(scene), listed, "{moment}");
    for address in acknowledged {
        assert!(
            listed.contains(&format!("{address}/32")),
            "{moment}: {address}"
        );
    }
    for address in acknowledged.iter().step_by(acknowledged.len() / 5 + 1) {
        let tested = daemon.ask(&["block", "test", address]).expect("an answer");
        assert_eq!(tested["dropped"], true, "{moment}: {address}");
    }
    let blocked = daemon.packets("blocked").expect("counters");
    one_from_each(scene, EDGE, acknowledged).expect("traffic");
    let due = blocked + acknowledged.len() as u64;
    eventually(&format!("{moment}: {due} drops"), PATIENCE, || {
        (daemon.packets("blocked").ok()? == due).then_some(())
    })
    .expect("a packet of each is dropped");
}

#[test]
fn entries_that_were_acknowledged_survive_a_kill_amid_additions() {
    if !kernel_or_skip("entries_that_were_acknowledged_survive_a_kill_amid_additions") {
        return;
    }
    let scene = scene();
    let acknowledged = Mutex::new(Vec::new());
    let mut next = 0_u16;
    // Moments, not waits: how long additions go on before the kill.
    for after_ms in [3, 17, 60, 140] {
        let daemon = scene.start().expect("a daemon");
        let count = thread::scope(|scope| {
            let adding = scope.spawn(|| {
                let mut number = next;
                loop {
                    let address = owned(number);
                    number += 1;
                    let mut command = daemon.ask_command(&["block", "add", &address]);
                    if !output(&mut command).expect("a command").status.success() {
                        return number;
                    }
                    acknowledged.lock().expect("a list").push(address);
                }
            });
            let before = acknowledged.lock().expect("a list").len();
            let added = || acknowledged.lock().ok().filter(|all| all.len() > before);
            eventually("an addition", PATIENCE, || added().map(drop)).expect("additions");
            thread::sleep(Duration::from_millis(after_ms));
            daemon.signal("KILL").expect("killed");
            adding.join().expect("additions end with the daemon")
        });
        next = count;
        drop(daemon);
        let daemon = scene.start().expect("a daemon");
        let moment = format!("killed {after_ms} ms into additions");
        let acknowledged = acknowledged.lock().expect("a list").clone();
        assert_whole(&scene, &daemon, &acknowledged, &moment);
        daemon.kill().expect("killed");
    }
}

/// Kills the daemon so long after the import began, or once that has ended; whether it succeeded.
fn wait_for(import: &mut Child, after_ms: Option<u64>, daemon: &Daemon) -> bool {
    match after_ms {
        Some(after_ms) => thread::sleep(Duration::from_millis(after_ms)),
        None => drop(import.wait().expect("an import")),
    }
    daemon.signal("KILL").expect("killed");
    import.wait().expect("an import").success()
}

#[test]
fn an_import_that_a_kill_cut_short_is_there_whole_or_not_at_all() {
    if !kernel_or_skip("an_import_that_a_kill_cut_short_is_there_whole_or_not_at_all") {
        return;
    }
    let scene = scene();
    // An import takes about 20 ms here. The first is cut short; the last has all the time it takes.
    const AFTER_MS: [Option<u64>; 5] = [Some(0), Some(5), Some(12), Some(18), None];
    let (mut whole, mut acknowledged) = (0, Vec::new());
    for (round, after_ms) in AFTER_MS.into_iter().enumerate() {
        let base = round as u16 * 1_000;
        let addresses: Vec<String> = (base..base + 1_000).map(owned).collect();
        let file = scene.scratch.write("list.txt", addresses.join("\n"));
        let file = file.expect("a list").display().to_string();
        let daemon = scene.start().expect("a daemon");
        let mut import = daemon
            .ask_command(&["block", "import", &file])
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .expect("an import");
        // From when the first entry is in the kernel, or right away: within the change.
        if after_ms != Some(0) {
            let begun = || (in_kernel(&scene).len() > whole * 1_000).then_some(());
            eventually("the import begins", PATIENCE, begun).expect("an entry");
        }
        if wait_for(&mut import, after_ms, &daemon) {
            acknowledged.extend(addresses.clone());
        }
        drop(daemon);

        let daemon = scene.start().expect("a daemon");
        let moment = format!("killed {after_ms:?} ms into an import");
        assert_whole(&scene, &daemon, &acknowledged, &moment);
        let now = listed(&daemon);
        let of_this = addresses
            .iter()
            .filter(|address| now.contains(&format!("{address}/32")))
            .count();
        assert!([0, 1_000].contains(&of_this), "{moment}: {of_this} of 1000");
        whole += of_this / 1_000;
        daemon.kill().expect("killed");
    }
    assert!(
        whole >= 1 && whole < AFTER_MS.len(),
        "{whole} imports were through"
    );
}

/// So many entries that the tables are made anew, while those in force go on.
#[test]
fn a_bulk_change_that_a_kill_cut_short_leaves_tables_that_are_whole() {
    if !kernel_or_skip("a_bulk_change_that_a_kill_cut_short_leaves_tables_that_are_whole") {
        return;
    }
    const ENTRIES: u16 = 8_000;
    let scene = scene();
    for (round, after_ms) in (0..).zip([Some(0), Some(40), Some(120), Some(250), None]) {
        let base = round * ENTRIES;
        let addresses: Vec<String> = (base..base + ENTRIES).map(owned).collect();
        let file = scene.scratch.write("bulk.txt", addresses.join("\n"));
        let file = file.expect("a list").display().to_string();
        let daemon = scene.start().expect("a daemon");
        let before = listed(&daemon);
        let mut import = daemon
            .ask_command(&["block", "import", &file])
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .expect("an import");
        let acknowledged = wait_for(&mut import, after_ms, &daemon);
        drop(daemon);

        let daemon = scene.start().expect("a daemon");
        let moment = format!("killed {after_ms:?} ms into a bulk import");
        let now = listed(&daemon);
        assert_eq!(in_kernel(&scene), now, "{moment}");
        let blocks: BTreeSet<u32> = now
            .iter()
            .filter_map(|prefix| prefix.strip_suffix("/32")?.parse::<Ipv4Addr>().ok())
            .map(|address| address.to_bits() >> 8)
            .collect();
        assert_eq!(
            held::blocks_in_kernel(&scene).expect("a table"),
            blocks,
            "{moment}"
        );
        let added = now.len() - before.len();
        let whole = usize::from(ENTRIES);
        assert!(
            added == whole || added == 0 && !acknowledged,
            "{moment}: {added}"
        );
        assert!(
            acknowledged || after_ms.is_some(),
            "an import that had its time"
        );
        daemon.kill().expect("killed");
    }
}

#[test]
fn a_kill_amid_a_start_loses_no_entry() {
    if !kernel_or_skip("a_kill_amid_a_start_loses_no_entry") {
        return;
    }
    let scene = scene();
    let daemon = scene.start().expect("a daemon");
    let addresses: Vec<String> = (0..50).map(owned).collect();
    let mut words = vec!["block", "add"];
    words.extend(addresses.iter().map(String::as_str));
    daemon.ask(&words).expect("added");
    daemon.kill().expect("killed");
    for (round, after_ms) in [0, 10, 25, 50, 100, 300].into_iter().enumerate() {
        // Also a first start, which has everything still to make.
        if round % 2 == 1 {
            scene.detach().expect("detached");
        }
        let log = scene.scratch.join("killed.log");
        let mut child = scene
            .wire
            .edge
            .command(portcullis())
            .args(["run", "--config"])
            .arg(&scene.config)
            .stderr(File::create(&log).expect("a log"))
            .spawn()
            .expect("a start");
        thread::sleep(Duration::from_millis(after_ms));
        let early = child.try_wait().expect("a state");
        let said = fs::read_to_string(&log).unwrap_or_default();
        assert!(early.is_none(), "ended by itself: {said}");
        child.kill().expect("killed");
        child.wait().expect("ended");

        let daemon = scene.start().expect("a daemon");
        let moment = format!("killed {after_ms} ms into start {round}");
        assert_whole(&scene, &daemon, &addresses, &moment);
        daemon.kill().expect("killed");
    }
}

#[test]
fn no_packet_of_a_listed_source_slips_through_five_restarts() {
    if !kernel_or_skip("no_packet_of_a_listed_source_slips_through_five_restarts") {
        return;
    }
    // Long enough for five restarts on a busy machine: it is a premise, not a measurement.
    const PROBED: Duration = Duration::from_secs(20);
    let scene = scene();
    let mut daemon = scene.start().expect("a daemon");
    daemon.ask(&["block", "add", BOB]).expect("added");
    let before = daemon.packets("blocked").expect("counters");
    let sink = scene
        .count(PROBED + Duration::from_secs(1))
        .expect("a sink");
    let start = Instant::now();
    let prober = scene.send(BOB, 1_000, PROBED).expect("a prober");
    let calm = scene.send(ALICE, 100, PROBED).expect("a client");
    for restart in 0..5 {
        let now = daemon.packets("blocked").expect("counters");
        eventually("probes are dropped", PATIENCE, || {
            (daemon.packets("blocked").ok()? > now + 50).then_some(())
        })
        .expect("drops");
        if restart % 2 == 0 {
            daemon.kill().expect("killed");
        } else {
            assert!(daemon.stop().expect("stopped").success());
        }
        daemon = scene.start().expect("a daemon");
        let status = daemon.status().expect("a status");
        assert_eq!(
            status["interfaces"][0]["adopted"], true,
            "restart {restart}"
        );
    }
    let took = start.elapsed();
    assert!(
        took < PROBED,
        "the restarts took {took:?}, longer than the probes"
    );
    let probes = prober.finish().expect("probes");
    let passed = calm.finish().expect("datagrams");
    let received = sink.finish().expect("datagrams");
    assert_eq!(received.from(BOB), 0, "of {probes} probes");
    assert_eq!(received.from(ALICE), passed, "the sink was there");
    let dropped = daemon.packets("blocked").expect("counters") - before;
    assert_eq!(dropped, probes, "counted over all restarts");
}

#[test]
fn a_ban_ends_in_the_kernel_while_the_daemon_is_dead() {
    if !kernel_or_skip("a_ban_ends_in_the_kernel_while_the_daemon_is_dead") {
        return;
    }
    let scene = scene();
    let daemon = scene.start().expect("a daemon");
    let sink = scene.count(Duration::from_secs(4)).expect("a sink");
    daemon
        .ask(&["block", "add", ALICE, "--ttl", "1s"])
        .expect("added");
    daemon.kill().expect("killed");
    let sent = scene
        .send(ALICE, 1_000, Duration::from_millis(2_500))
        .expect("a sender")
        .finish()
        .expect("datagrams");
    let received = sink.finish().expect("datagrams").from(ALICE);
    let dropped = sent - received;
    assert!(
        (300..=1_100).contains(&dropped),
        "{dropped} of {sent} dropped"
    );
    assert!(received >= 1_000, "{received} of {sent} received");

    let daemon = scene.start().expect("a daemon");
    assert_eq!(daemon.packets("banned").expect("counters"), dropped);
    let tested = daemon.ask(&["block", "test", ALICE]).expect("an answer");
    assert_eq!(tested["standing"], "unlisted");
}
