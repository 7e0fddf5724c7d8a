//! What a start, a check or a question is refused for, and that the message says how to mend it.

use std::{fs, path::PathBuf, process::Command};

use portcullis_tests::{
    daemon::portcullis,
    netns::{ALICE, BOB},
    privilege::kernel_or_skip,
    run::{Rigged, output, run},
    scene::{Scene, SceneLimits},
    scratch::unique_name,
    xdp::xdp_on,
};

/// Nobody.
const UID: &str = "65534";

fn scene() -> Scene {
    Scene::set(&unique_name(), SceneLimits::NONE).expect("a scene")
}

/// `portcullis` on the guarded host as root.
fn as_root(scene: &Scene) -> Command {
    scene.wire.edge.command(portcullis())
}

/// `portcullis` on the guarded host as nobody, from a place where nobody may run it.
fn as_nobody(scene: &Scene) -> Rigged<Command> {
    let binary: PathBuf = scene.scratch.join("portcullis");
    if !binary.exists() {
        fs::copy(portcullis(), &binary)?;
    }
    let mut command = scene.wire.edge.command("setpriv");
    command
        .args(["--reuid", UID, "--regid", UID, "--clear-groups", "--"])
        .arg(binary);
    Ok(command)
}

/// What a command that fails prints to standard error.
#[track_caller]
fn complaint(command: &mut Command) -> String {
    let printed = output(command).expect("a command");
    let said = String::from_utf8_lossy(&printed.stderr).into_owned();
    assert!(!printed.status.success(), "{command:?} succeeded: {said}");
    said
}

#[track_caller]
fn assert_nothing_is_left(scene: &Scene) {
    assert_eq!(
        xdp_on(&scene.wire.edge, "edge0").expect("an interface"),
        None
    );
    assert!(!scene.pins.root().exists(), "nothing is pinned");
    assert!(!scene.socket.exists(), "no socket that nobody serves");
}

#[test]
fn an_unknown_interface_is_refused_with_those_that_exist() {
    if !kernel_or_skip("an_unknown_interface_is_refused_with_those_that_exist") {
        return;
    }
    let scene = scene();
    scene
        .reconfigure(r#"["edge0"]"#, r#"["edge0", "egde1"]"#)
        .expect("a configuration");
    let text = fs::read_to_string(&scene.config).expect("a configuration");
    let line = text.lines().position(|line| line.contains("egde1"));
    let line = line.expect("a line") + 1;
    for words in ["check", "run"] {
        let said = complaint(as_root(&scene).args([words, "--config"]).arg(&scene.config));
        let place = format!("portcullis.toml:{line}: kernel.interfaces = \"egde1\"");
        assert!(said.contains(&place), "{words}: {said}");
        assert!(
            said.contains("no such network interface"),
            "{words}: {said}"
        );
        assert!(said.contains("this host has: lo, edge0"), "{words}: {said}");
        assert_nothing_is_left(&scene);
    }
}

#[test]
fn a_folder_that_is_no_bpffs_is_refused_with_the_mount_command() {
    if !kernel_or_skip("a_folder_that_is_no_bpffs_is_refused_with_the_mount_command") {
        return;
    }
    let scene = scene();
    let plain = scene.scratch.join("plain");
    fs::create_dir(&plain).expect("a folder");
    let mounted = scene.bpffs().path().display().to_string();
    let plain = plain.display().to_string();
    scene
        .reconfigure(&mounted, &plain)
        .expect("a configuration");
    let said = scene.start().expect_err("refused").to_string();
    let named = format!("no BPF filesystem at {plain}");
    assert!(said.contains(&named), "{said}");
    let mend = format!("`mount -t bpf bpf {plain}`");
    assert!(said.contains(&mend), "{said}");
    assert_nothing_is_left(&scene);
    let inside = fs::read_dir(&plain).expect("a folder").count();
    assert_eq!(inside, 0, "files in {plain}");
}

#[test]
fn where_the_kernel_is_not_required_lists_are_enforced_at_accept() {
    if !kernel_or_skip("where_the_kernel_is_not_required_lists_are_enforced_at_accept") {
        return;
    }
    let scene = scene();
    let plain = scene.scratch.join("plain");
    fs::create_dir(&plain).expect("a folder");
    let mounted = scene.bpffs().path().display().to_string();
    scene
        .reconfigure(&mounted, &plain.display().to_string())
        .expect("a configuration");
    scene
        .reconfigure("[kernel]", "[kernel]\nrequired = false")
        .expect("a configuration");
    let daemon = scene.start().expect("a daemon");
    let status = daemon.status().expect("a status");
    assert_eq!(status["interfaces"].as_array().map(Vec::len), Some(0));
    let why = status["without_kernel"].as_str().expect("a reason");
    assert!(why.contains("no BPF filesystem at"), "{why}");
    let log = daemon.printed();
    assert!(log.contains("WORKING WITHOUT THE KERNEL SIDE"), "{log}");
    assert!(log.contains("mount -t bpf bpf"), "{log}");
    assert_nothing_attached(&scene);

    daemon.ask(&["block", "add", BOB]).expect("added");
    let token = scene.issuer.token("alice", "orders:read").expect("a token");
    for (client, expected) in [(ALICE, 200), (BOB, 0)] {
        let answer = scene.curl(client, "/orders/1", Some(&token)).expect("curl");
        assert_eq!(answer.status, expected, "{client}");
    }
}

#[track_caller]
fn assert_nothing_attached(scene: &Scene) {
    assert_eq!(
        xdp_on(&scene.wire.edge, "edge0").expect("an interface"),
        None
    );
}

#[test]
fn whoever_is_not_root_is_told_so_first() {
    if !kernel_or_skip("whoever_is_not_root_is_told_so_first") {
        return;
    }
    let scene = scene();
    for file in ["portcullis.toml", "server.pem", "server.key", "jwks.json"] {
        let path = scene.scratch.join(file).display().to_string();
        run("chmod", ["a+r", path.as_str()]).expect("readable by all");
    }
    let mut command = as_nobody(&scene).expect("a command");
    let said = complaint(command.args(["run", "--config"]).arg(&scene.config));
    assert!(said.contains(&format!("not root (uid {UID})")), "{said}");
    assert!(said.contains("sudo"), "{said}");
    assert_nothing_is_left(&scene);
}

#[test]
fn a_user_who_may_not_ask_is_told_how_he_may() {
    if !kernel_or_skip("a_user_who_may_not_ask_is_told_how_he_may") {
        return;
    }
    let scene = scene();
    let ask = || {
        let mut command = as_nobody(&scene).expect("a command");
        command
            .args(["block", "add", BOB, "--socket"])
            .arg(&scene.socket);
        complaint(&mut command)
    };
    let daemon = scene.start().expect("a daemon");
    let said = ask();
    let socket = scene.socket.display();
    assert!(said.contains(&format!("may not use {socket}")), "{said}");
    assert!(said.contains("run this as root"), "{said}");
    assert!(said.contains("admin.allowed_uids"), "{said}");
    daemon.stop().expect("stopped");

    // Now the socket lets him connect; his credentials don't.
    scene
        .reconfigure("[admin]", "[admin]\nallowed_uids = [12345]")
        .expect("a configuration");
    let daemon = scene.start().expect("a daemon");
    // Every time, whether the refusal is there before the question was put or after.
    for _ in 0..30 {
        let said = ask();
        let named = format!("uid {UID} may not use the admin socket");
        assert!(said.contains(&named), "{said}");
        assert!(
            said.contains("list the uid in admin.allowed_uids"),
            "{said}"
        );
    }
    let tested = daemon.ask(&["block", "test", BOB]).expect("an answer");
    assert_eq!(tested["standing"], "unlisted");
    daemon.stop().expect("stopped");

    scene
        .reconfigure("[12345]", &format!("[12345, {UID}]"))
        .expect("a configuration");
    let daemon = scene.start().expect("a daemon");
    let mut command = as_nobody(&scene).expect("a command");
    command
        .args(["block", "add", BOB, "--socket"])
        .arg(&scene.socket);
    let printed = output(&mut command).expect("a command");
    assert!(printed.status.success(), "one who is listed may");
    let tested = daemon.ask(&["block", "test", BOB]).expect("an answer");
    assert_eq!(tested["dropped"], true);
}

#[test]
fn a_question_that_nobody_answers_says_how_to_start_the_daemon() {
    if !kernel_or_skip("a_question_that_nobody_answers_says_how_to_start_the_daemon") {
        return;
    }
    let scene = scene();
    let status = || {
        complaint(
            as_root(&scene)
                .args(["status", "--socket"])
                .arg(&scene.socket),
        )
    };
    let expected = |said: &str| {
        let socket = scene.socket.display();
        let nobody = format!("no portcullis answers at {socket}");
        assert!(said.contains(&nobody), "{said}");
        assert!(said.contains("start it with `portcullis run`"), "{said}");
    };
    expected(&status());
    // The socket of one that crashed is still there, and nobody listens.
    scene.start().expect("a daemon").kill().expect("killed");
    assert!(scene.socket.exists());
    expected(&status());
}
