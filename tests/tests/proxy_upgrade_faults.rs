//! What goes wrong when one process hands over to the next changes nothing, and is told.

use std::{fs, net::TcpStream, process::Command, thread, time::Duration};

use portcullis_tests::{
    front::Front,
    ground::Ground,
    heirs::{assert_serves, fail_late, replace, rewrite, steps, with_binary},
    run::{Rigged, eventually, output},
    throng::{Places, Throng},
};
const SOON: Duration = Duration::from_secs(15);

#[test]
fn what_does_not_become_ready_changes_nothing_and_is_told() -> Rigged<()> {
    let ground = Ground::set()?.alter(
        "[shutdown]",
        "[upgrade]\nready_within = \"2s\"\n\n[shutdown]",
    )?;
    let (front, binary) = with_binary(ground)?;
    let pid = front.daemon.pid();
    let throng = Throng::begin(&front, Places::default())?;
    for (at, (script, why)) in [
        (
            "#!/bin/sh\nexit 7\n",
            "ended before it was ready (exit status: 7)",
        ),
        (
            "#!/bin/sh\nkill -SEGV $$\n",
            "ended before it was ready (signal: 11",
        ),
        ("#!/bin/sh\nexec sleep 30\n", "was not ready within 2s"),
        ("#!/nowhere/sh\n", "can't be started: No such file"),
        (
            "neither a script nor a program",
            "can't be started: Exec format error",
        ),
    ]
    .into_iter()
    .enumerate()
    {
        replace(&binary, script)?;
        let said = front.daemon.ask_refused(&["upgrade"])?;
        assert!(said.contains(why), "{said}");
        assert!(said.contains(&binary.display().to_string()), "{said}");
        let failed = steps(&front, "upgrade_failed");
        assert_eq!(failed.len(), at + 1);
        let detail = failed[at]["detail"].as_str().unwrap_or_default();
        assert!(said.contains(detail), "{said} {detail}");
        assert_serves(&front, pid, &format!("198.51.100.{at}"))?;
    }
    fs::remove_file(&binary)?;
    let said = front.daemon.ask_refused(&["upgrade"])?;
    assert!(said.contains("can't be started: No such file"), "{said}");
    assert_serves(&front, pid, "198.51.100.9")?;
    assert_eq!(front.daemon.processes(), [pid]);
    let told = throng.end()?;
    assert_eq!(told["lost"], serde_json::json!([]), "{told}");
    Ok(())
}

#[test]
fn a_configuration_with_mistakes_is_not_taken_over_to() -> Rigged<()> {
    let mut front = Front::open()?;
    let pid = front.daemon.pid();
    rewrite(&mut front, "access = \"public\"", "acces = \"public\"")?;
    let said = front.daemon.ask_refused(&["upgrade"])?;
    assert!(said.contains("unknown key `acces`"), "{said}");
    rewrite(&mut front, "acces = \"public\"", "access = \"public\"")?;
    // A port that somebody has.
    let taken = std::net::TcpListener::bind(("127.0.0.1", 0))?;
    let second = format!(
        "[observe]\naddress = \"{}\"\n\n[admin]",
        taken.local_addr()?
    );
    rewrite(&mut front, "[admin]", &second)?;
    let said = front.daemon.ask_refused(&["upgrade"])?;
    assert!(said.contains("the port is in use"), "{said}");
    rewrite(&mut front, &second, "[admin]")?;
    // Keys that can't be had.
    let line = front.ground.keys_line();
    rewrite(&mut front, &line, "jwks_file = \"/nowhere.json\"")?;
    let said = front.daemon.ask_refused(&["upgrade"])?;
    assert!(said.contains("/nowhere.json"), "{said}");
    rewrite(&mut front, "jwks_file = \"/nowhere.json\"", &line)?;
    assert_serves(&front, pid, "198.51.100.1")?;
    front.daemon.upgrade()?;
    assert_serves(&front, front.daemon.pid(), "198.51.100.2")
}

#[test]
fn what_was_let_go_of_is_taken_back_when_the_next_one_fails_late() -> Rigged<()> {
    let mut front = Front::open()?;
    let pid = front.daemon.pid();
    front.daemon.ask(&["block", "add", "198.51.100.1"])?;
    fail_late(&mut front)?;
    let throng = Throng::begin(&front, Places::default())?;
    for times in 1..=3 {
        let said = front.daemon.ask_refused(&["upgrade"])?;
        assert!(said.contains("exists and is no socket"), "{said}");
        assert_serves(&front, pid, &format!("198.51.100.1{times}"))?;
    }
    assert_eq!(throng.end()?["lost"], serde_json::json!([]));
    rewrite(&mut front, "/no-socket", "/admin.sock")?;
    front.daemon.upgrade()?;
    for entry in ["198.51.100.1", "198.51.100.11", "198.51.100.13"] {
        let tested = front.daemon.ask(&["block", "test", entry])?;
        assert_eq!(tested["standing"], "blocked", "{tested}");
    }
    Ok(())
}

#[test]
fn a_second_upgrade_waits_for_nothing_and_is_refused() -> Rigged<()> {
    let ground = Ground::set()?.alter(
        "[shutdown]",
        "[upgrade]\nready_within = \"3s\"\n\n[shutdown]",
    )?;
    let (front, binary) = with_binary(ground)?;
    replace(&binary, "#!/bin/sh\nexec sleep 30\n")?;
    let mut first = front.daemon.ask_command(&["upgrade"]);
    let first = thread::spawn(move || output(&mut first));
    front.audited("the upgrade", |line| line["step"] == "upgrade")?;
    for words in [["upgrade"], ["reload"]] {
        let said = front.daemon.ask_refused(&words)?;
        assert!(said.contains("an upgrade is under way already"), "{said}");
    }
    // A signal's reload is had when the upgrade has come to nothing.
    front.daemon.signal("HUP")?;
    assert!(steps(&front, "reload").is_empty());
    let first = first.join().expect("no panic")?;
    assert!(String::from_utf8_lossy(&first.stdout).contains("not ready within 3s"));
    front.audited("the reload", |line| line["step"] == "reload")?;
    assert_serves(&front, front.daemon.pid(), "198.51.100.1")
}

#[test]
fn sigterm_to_the_old_one_meanwhile_ends_both() -> Rigged<()> {
    let (mut front, binary) = with_binary(Ground::set()?)?;
    replace(&binary, "#!/bin/sh\nexec sleep 30\n")?;
    front.daemon.signal("USR2")?;
    eventually("the next one runs", SOON, || {
        (front.daemon.processes().len() == 2).then_some(())
    })
    .or_else(|_| {
        // `sleep` has other words than the script: it is there all the same.
        front
            .audited("the upgrade", |line| line["step"] == "upgrade")
            .map(drop)
    })?;
    front.daemon.signal("TERM")?;
    assert!(front.daemon.wait()?.success());
    let stop = front.audited("the stop", |line| line["step"] == "stop")?;
    assert_eq!(stop["detail"], "drained");
    let failed = steps(&front, "upgrade_failed");
    assert_eq!(failed.len(), 1);
    assert_eq!(failed[0]["detail"], "SIGTERM came before it was ready");
    assert!(front.daemon.processes().is_empty());
    assert!(TcpStream::connect(front.address).is_err());
    Ok(())
}

#[test]
fn sigterm_to_the_next_one_before_it_serves_leaves_the_old_one_serving() -> Rigged<()> {
    // It takes the keys' server for one that is about to answer.
    let silent = std::net::TcpListener::bind(("127.0.0.1", 0))?;
    let mut front = Front::open()?;
    let pid = front.daemon.pid();
    let line = front.ground.keys_line();
    let slow = format!(
        "jwks_url = \"https://{}/keys\"\njwks_allow_addresses = [\"127.0.0.1/32\"]",
        silent.local_addr()?
    );
    rewrite(&mut front, &line, &slow)?;
    front.daemon.signal("USR2")?;
    silent.set_nonblocking(true)?;
    let _asked = eventually("the next one asks for keys", SOON, || silent.accept().ok())?;
    let next = front.daemon.processes().into_iter().find(|it| *it != pid);
    let next = next.expect("the next one");
    let killed = Command::new("kill")
        .args(["-TERM", &next.to_string()])
        .status()?;
    assert!(killed.success());
    let failed = front.audited("the failure", |line| line["step"] == "upgrade_failed")?;
    let detail = failed["detail"].as_str().unwrap_or_default();
    assert!(
        detail.contains("SIGTERM came before it took over"),
        "{detail}"
    );
    front.daemon.await_end(next)?;
    assert_serves(&front, pid, "198.51.100.1")
}
