//! The state's disk when it fails: full, and damaged.

use std::{
    fs::{self, File},
    io::Write as _,
    path::{Path, PathBuf},
    process::Command,
    time::Duration,
};

use portcullis_tests::{
    daemon::Daemon,
    feeds::many_hosts,
    held,
    privilege::kernel_or_skip,
    run::succeed,
    scene::{Scene, SceneLimits},
    scratch::unique_name,
};

/// A small file system of its own, unmounted when the test is over.
struct SmallDisk(PathBuf);

impl SmallDisk {
    fn mount(directory: PathBuf) -> Self {
        fs::create_dir(&directory).expect("a folder");
        let mut mount = Command::new("mount");
        mount.args(["-t", "tmpfs", "-o", "size=12m,mode=700", "tmpfs"]);
        succeed(mount.arg(&directory)).expect("mounted");
        Self(directory)
    }

    /// Takes all the room that is left.
    fn fill(&self) -> PathBuf {
        let path = self.0.join("filler");
        let mut file = File::create(&path).expect("a file");
        let block = [1; 4_096];
        while file.write_all(&block).is_ok() {}
        path
    }
}

impl Drop for SmallDisk {
    fn drop(&mut self) {
        if let Err(error) = succeed(Command::new("umount").arg("--lazy").arg(&self.0)) {
            eprintln!("{} stays mounted: {error}", self.0.display());
        }
    }
}

fn list_of(scene: &Scene, hosts: u32) -> String {
    let path = scene.scratch.write("hosts.txt", many_hosts(0, hosts));
    path.expect("a list").display().to_string()
}

/// What the daemon lists is what the kernel drops; returns it.
#[track_caller]
fn held(scene: &Scene, daemon: &Daemon) -> Vec<String> {
    let listed = held::listed(daemon).expect("the entries");
    let kernel = held::in_kernel(scene).expect("a table");
    assert!(kernel.iter().eq(listed.keys()), "the kernel differs");
    listed.into_keys().collect()
}

#[test]
fn a_full_disk_refuses_a_change_by_name_and_leaves_what_was_held() {
    if !kernel_or_skip("a_full_disk_refuses_a_change_by_name_and_leaves_what_was_held") {
        return;
    }
    let scene = Scene::set(&unique_name(), SceneLimits::NONE).expect("a scene");
    let disk = SmallDisk::mount(scene.scratch.join("state"));
    let daemon = scene.start().expect("a daemon");
    daemon
        .ask(&["block", "add", "198.51.100.7"])
        .expect("there is room");
    let before = held(&scene, &daemon);
    assert_eq!(before, ["198.51.100.7/32"]);

    let filler = disk.fill();
    // Many, whose content is one write, and few, each a row: neither finds room.
    let many = list_of(&scene, 120_000);
    let import = ["block", "import", &many, "--list", "many"];
    let refusal = daemon.ask_refused(&import).expect("refused");
    let named = disk.0.join("state.redb").display().to_string();
    for part in [
        "nothing was changed: no room for ",
        &named,
        "free some on its file system",
    ] {
        assert!(refusal.contains(part), "{part:?} isn't in {refusal}");
    }
    assert_eq!(held(&scene, &daemon), before, "after the import");
    let mut refused = 0;
    let mut added = before.clone();
    // The file's own free pages may take some first.
    while refused == 0 {
        let prefixes: Vec<String> = (0..900)
            .map(|host| format!("100.127.{}.{}/32", added.len() / 900, host % 250))
            .collect();
        let mut words = vec!["block", "add"];
        words.extend(prefixes.iter().map(String::as_str));
        match daemon.ask(&words) {
            Ok(_) => added = held(&scene, &daemon),
            Err(_) => refused += 1,
        }
        assert!(added.len() < 50_000, "the disk never got full");
    }
    assert_eq!(held(&scene, &daemon), added, "after the refusal");
    daemon.kill().expect("killed");

    // A start needs no room for what it knows, and room helps at once.
    fs::remove_file(filler).expect("removed");
    let daemon = scene.start().expect("a daemon");
    assert_eq!(held(&scene, &daemon), added, "after a restart");
    let few = list_of(&scene, 5_000);
    daemon
        .ask(&["block", "import", &few, "--list", "many"])
        .expect("there is room again");
    assert_eq!(held(&scene, &daemon).len(), added.len() + 5_000);
    daemon.stop().expect("stopped");
    scene.detach().expect("detached");
}

/// Writes over the head of the state.
fn damage(state: &Path) {
    let mut file = File::options().write(true).open(state).expect("a state");
    file.write_all(&[0x5a; 8_192]).expect("written");
}

#[test]
fn a_damaged_state_is_set_aside_and_what_the_kernel_drops_is_listed_again() {
    if !kernel_or_skip("a_damaged_state_is_set_aside_and_what_the_kernel_drops_is_listed_again") {
        return;
    }
    let scene = Scene::set(&unique_name(), SceneLimits::NONE).expect("a scene");
    let daemon = scene.start().expect("a daemon");
    let many = list_of(&scene, 5_000);
    for words in [
        &["block", "import", &many, "--list", "many"][..],
        &["block", "add", "198.51.100.7", "--ttl", "1h"],
        &["allow", "add", "203.0.113.0/28"],
    ] {
        daemon.ask(words).expect("answered");
    }
    let before = held::listed(&daemon).expect("the entries");
    assert_eq!(before.len(), 5_001);
    daemon.kill().expect("killed");
    let directory = scene.scratch.join("state");
    damage(&directory.join("state.redb"));

    let daemon = scene.start().expect("a daemon");
    let after = held::listed(&daemon).expect("the entries");
    assert!(after.keys().eq(before.keys()), "{} listed", after.len());
    let left_ms = after["198.51.100.7/32"].expect("a ban");
    let hour = Duration::from_secs(3_600).as_millis() as u64;
    assert!(
        (hour - 60_000..=hour).contains(&left_ms),
        "{left_ms} ms left"
    );
    let allowed = daemon.ask(&["allow", "test", "203.0.113.5"]);
    assert_eq!(allowed.expect("an answer")["standing"], "trusted");
    held(&scene, &daemon);

    let aside: Vec<String> = fs::read_dir(&directory)
        .expect("a folder")
        .flatten()
        .map(|entry| entry.file_name().to_string_lossy().into_owned())
        .filter(|name| name.starts_with("state.redb.damaged-"))
        .collect();
    assert_eq!(aside.len(), 1, "{aside:?}");
    let printed = daemon.printed();
    let said = printed.lines().find(|line| line.contains(&aside[0]));
    let said = said.expect("the log names the file");
    assert!(said.contains("THE STATE WAS DAMAGED"), "{said}");
    let lines = scene.audit_lines().expect("an audit trail");
    assert!(
        lines
            .iter()
            .any(|line| line.to_string().contains("state_damaged")),
        "the audit trail doesn't tell"
    );
    // And it is a state like any other.
    daemon.kill().expect("killed");
    let daemon = scene.start().expect("a daemon");
    assert!(held(&scene, &daemon).iter().eq(before.keys()));
    daemon.stop().expect("stopped");
    scene.detach().expect("detached");
}
