//! From one run to the next: what is taken over, what `detach` takes off, what is made anew.

use std::fs;

use aya::maps::{Array, Map, MapData, MapInfo};
use portcullis_tests::{
    daemon::{Daemon, portcullis},
    loaded::{Loaded, options},
    netns::{ALICE, BOB, EDGE},
    privilege::kernel_or_skip,
    run::succeed,
    scene::{Scene, SceneLimits},
    scratch::unique_name,
    volley::{
        Outcome::{Dropped, Passed},
        volley,
    },
    xdp::{link_id, xdp_on},
};
use proxy_common::Settings;

fn scene() -> Scene {
    Scene::set(&unique_name(), SceneLimits::NONE).expect("a scene")
}

fn link(scene: &Scene) -> u32 {
    link_id(&scene.pins.root().join("links/edge0")).expect("a link")
}

fn hash_key(scene: &Scene) -> [u64; 2] {
    let settings = MapData::from_pin(scene.pins.root().join("maps/SETTINGS"))
        .and_then(Map::from_map_data)
        .and_then(Array::<MapData, Settings>::try_from)
        .and_then(|settings| settings.get(&0, 0));
    settings.expect("the pinned settings").hash_key
}

/// Ids of all pinned maps, by name.
fn maps(scene: &Scene) -> Vec<(String, u32)> {
    let folder = fs::read_dir(scene.pins.root().join("maps")).expect("pinned maps");
    let mut ids: Vec<_> = folder
        .map(|entry| {
            let entry = entry.expect("an entry");
            let info = MapInfo::from_pin(entry.path()).expect("a pinned map");
            (entry.file_name().to_string_lossy().into_owned(), info.id())
        })
        .collect();
    ids.sort();
    ids
}

fn left_ms(daemon: &Daemon, address: &str) -> u64 {
    let tested = daemon.ask(&["block", "test", address]).expect("an answer");
    tested["entries"][0]["left_ms"].as_u64().expect("a rest")
}

fn adopted(daemon: &Daemon) -> bool {
    let status = daemon.status().expect("a status");
    status["interfaces"][0]["adopted"] == true
}

fn program(scene: &Scene) -> Option<u64> {
    let present = xdp_on(&scene.wire.edge, "edge0").expect("an interface");
    present.map(|present| present.program_id)
}

fn detach(scene: &Scene, how: &str) -> String {
    let mut command = scene.wire.edge.command(portcullis());
    command.arg("detach").arg(how);
    match how {
        "--config" => command.arg(&scene.config),
        _ => command.arg(scene.pins.root()),
    };
    succeed(&mut command).expect("detached")
}

#[test]
fn a_restart_takes_over_link_maps_counters_hash_key_and_bans() {
    if !kernel_or_skip("a_restart_takes_over_link_maps_counters_hash_key_and_bans") {
        return;
    }
    let scene = scene();
    let daemon = scene.start().expect("a daemon");
    daemon
        .ask(&["block", "add", BOB, "--ttl", "1h", "--reason", "flood"])
        .expect("added");
    assert_eq!(
        volley(&scene, EDGE, [ALICE, BOB]).expect("traffic"),
        [Passed, Dropped]
    );
    let banned = daemon.packets("banned").expect("counters");
    assert!(banned > 0);
    let left = left_ms(&daemon, BOB);
    let before = (link(&scene), maps(&scene), hash_key(&scene));
    let first_program = program(&scene).expect("a program");
    daemon.stop().expect("stopped");
    assert_eq!(
        volley(&scene, EDGE, [ALICE, BOB]).expect("traffic"),
        [Passed, Dropped],
        "while nobody is at home"
    );

    let daemon = scene.start().expect("a daemon");
    assert!(adopted(&daemon));
    assert_eq!((link(&scene), maps(&scene), hash_key(&scene)), before);
    assert_ne!(
        program(&scene),
        Some(first_program),
        "the program is this run's own"
    );
    let now = daemon.packets("banned").expect("counters");
    assert!(now >= 2 * banned, "{now} banned packets, after {banned}");
    let now = left_ms(&daemon, BOB);
    assert!(now < left && left - now < 60_000, "{now} ms left of {left}");
    assert_eq!(
        volley(&scene, EDGE, [ALICE, BOB]).expect("traffic"),
        [Passed, Dropped],
        "after the restart"
    );
}

#[test]
fn detach_takes_everything_off_and_the_interface_is_free() {
    if !kernel_or_skip("detach_takes_everything_off_and_the_interface_is_free") {
        return;
    }
    let scene = scene();
    for how in ["--config", "--pins"] {
        let daemon = scene.start().expect("a daemon");
        assert!(!adopted(&daemon), "{how}: begins anew");
        daemon.ask(&["block", "add", BOB]).expect("added");
        daemon.stop().expect("stopped");
        assert!(program(&scene).is_some());

        assert_eq!(detach(&scene, how), "detached from edge0\n");
        // At once: whoever detached may start the next at once.
        assert_eq!(program(&scene), None, "{how}");
        assert!(!scene.pins.root().exists(), "{how}");
        let root = scene.pins.root().display();
        assert_eq!(
            detach(&scene, how),
            format!("nothing was attached by the pins in {root}\n")
        );
        let got = volley(&scene, EDGE, [BOB]).expect("traffic");
        assert_eq!(got, [Passed], "{how}: nothing drops any more");
    }
    let pins = datapath::Pins::new(scene.bpffs().path().join("another"));
    let other = Loaded::start(options(pins), &datapath::Truth::default()).expect("a program");
    let pinned = other.datapath.pins().root().join("program");
    let attach = format!("link set dev edge0 xdpdrv pinned {}", pinned.display());
    scene.wire.edge.ip(&attach).expect("another program");
    assert!(program(&scene).is_some());
}

#[test]
fn detach_under_a_running_daemon_leaves_it_serving_and_the_lists_whole() {
    if !kernel_or_skip("detach_under_a_running_daemon_leaves_it_serving_and_the_lists_whole") {
        return;
    }
    let scene = scene();
    let daemon = scene.start().expect("a daemon");
    daemon.ask(&["block", "add", BOB]).expect("added");
    assert_eq!(detach(&scene, "--config"), "detached from edge0\n");
    assert_eq!(program(&scene), None);
    assert!(!scene.pins.root().exists());

    let status = daemon.status().expect("a status");
    assert_eq!(
        status["interfaces"][0]["mode"], "none",
        "status does not claim a guard that is gone: {status}"
    );
    daemon.ask(&["block", "add", "192.0.2.1"]).expect("added");
    let token = scene.issuer.token("alice", "orders:read").expect("a token");
    for (client, expected) in [(ALICE, 200), (BOB, 0)] {
        let answer = scene.curl(client, "/orders/1", Some(&token)).expect("curl");
        assert_eq!(answer.status, expected, "{client}, at accept");
    }
    daemon.stop().expect("stopped");

    let daemon = scene.start().expect("a daemon");
    assert!(!adopted(&daemon));
    let got = volley(&scene, EDGE, [ALICE, BOB]).expect("traffic");
    assert_eq!(got, [Passed, Dropped], "guarded again, with the same lists");
}

#[test]
fn an_interface_that_was_made_anew_is_attached_anew() {
    if !kernel_or_skip("an_interface_that_was_made_anew_is_attached_anew") {
        return;
    }
    let scene = scene();
    let daemon = scene.start().expect("a daemon");
    daemon.ask(&["block", "add", BOB]).expect("added");
    let got = volley(&scene, EDGE, [ALICE, BOB]).expect("traffic");
    assert_eq!(got, [Passed, Dropped]);
    let first_link = link(&scene);
    let first_maps = maps(&scene);
    daemon.stop().expect("stopped");

    let (edge, outside) = (&scene.wire.edge, &scene.wire.outside);
    edge.ip("link delete edge0").expect("gone");
    for words in [
        format!(
            "link add edge0 type veth peer name out0 netns {}",
            outside.name()
        ),
        format!("addr add {EDGE}/24 dev edge0"),
        "link set edge0 up".to_owned(),
        "route add default dev edge0".to_owned(),
    ] {
        edge.ip(&words).expect("an interface of the same name");
    }
    outside
        .ip(&format!("addr add {ALICE}/24 dev out0"))
        .expect("Alice");
    outside.ip("link set out0 up").expect("up");
    scene.wire.add_client(BOB).expect("Bob");
    assert_eq!(program(&scene), None);

    let daemon = scene.start().expect("a daemon");
    assert!(!adopted(&daemon));
    assert_ne!(link(&scene), first_link);
    assert_eq!(maps(&scene), first_maps, "what was counted is kept");
    let got = volley(&scene, EDGE, [ALICE, BOB]).expect("traffic");
    assert_eq!(got, [Passed, Dropped]);
}
