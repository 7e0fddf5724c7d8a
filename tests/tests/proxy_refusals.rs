//! What is refused of changes to lists, word for word, and that nothing is changed by it.

use std::{io::Read as _, os::unix::net::UnixStream, thread, time::Duration};

use portcullis_tests::{
    front::Front,
    ground::Ground,
    privilege::kernel_or_skip,
    run::{RigError, Rigged},
};
use rustix::{process::Uid, thread::set_thread_uid};

/// Asks what must be refused; the message, as it stands in the answer.
fn refused(front: &Front, words: &[&str]) -> Rigged<String> {
    let answer = front.daemon.ask_refused(words)?;
    let reply: serde_json::Value =
        serde_json::from_str(&answer).map_err(|error| RigError(format!("{answer:?}: {error}")))?;
    Ok(reply["message"].as_str().unwrap_or_default().to_owned())
}

#[test]
fn a_change_that_a_list_does_not_take_is_refused_with_the_way_out() -> Rigged<()> {
    let front = Front::open_secluded()?;
    for words in [
        &["allow", "add", "198.51.100.0/28"][..],
        &["block", "add", "203.0.113.7", "--list", "incident"],
    ] {
        front.daemon.ask(words)?;
    }
    let before = front.daemon.ask(&["status"])?["lists"].clone();
    let handed_over = front.ground.scratch.write("list.txt", "203.0.113.9\n")?;
    let file = handed_over.display().to_string();
    for (words, message) in [
        (
            &["block", "add", "203.0.113.1", "--list", "lifelines"][..],
            r#"list "lifelines" is what keeps this host reachable, and is kept by itself"#,
        ),
        (
            &["block", "add", "203.0.113.1", "--list", "allow"],
            r#"list "allow" holds trusted entries; use another name"#,
        ),
        (
            &["block", "remove", "203.0.113.7", "--list", "incidents"],
            r#"there is no list "incidents""#,
        ),
        (
            &["feed", "add", "incident", "--file", &file],
            r#"list "incident" has 1 entries already; choose another name, or take them off first"#,
        ),
        (&["confirm"], "nothing waits to be confirmed"),
        (&["confirm", "77"], "nothing waits to be confirmed under 77"),
        (
            &["block", "add", "126.0.0.0/7"],
            "126.0.0.0/7 is wider than /8: nothing was changed; block less, or repeat it with \
             --force 126.0.0.0/7",
        ),
        (
            &["block", "add", "0.0.0.0/0"],
            "0.0.0.0/0 is wider than /8: nothing was changed; block less, or repeat it with \
             --force 0.0.0.0/0",
        ),
        (
            &["block", "add", "127.0.0.0/8"],
            "127.0.0.0/8 covers 127.0.0.0/8, loopback, without which this host can't be reached: \
             nothing was changed; block less, or repeat it with --force 127.0.0.0/8",
        ),
    ] {
        assert_eq!(refused(&front, words)?, message, "{words:?}");
    }
    assert_eq!(front.daemon.ask(&["status"])?["lists"], before);
    Ok(())
}

#[test]
fn a_state_folder_that_can_not_be_made_is_refused_by_name() -> Rigged<()> {
    let ground = Ground::set()?;
    let in_the_way = ground.scratch.write("no-folder", "a file")?;
    let directory = in_the_way.join("state");
    let usual = ground.scratch.join("state").display().to_string();
    let ground = ground.alter(&usual, &directory.display().to_string())?;
    let said = ground.refused_start()?;
    let named = format!("can't create the state folder {}: ", directory.display());
    assert!(said.contains(&named), "{said}");
    assert!(
        said.contains("set state.directory to a folder that can be written"),
        "{said}"
    );
    Ok(())
}

#[test]
fn a_peer_that_may_not_ask_is_told_so_and_let_go() -> Rigged<()> {
    // To become another user takes root too.
    if !kernel_or_skip("a_peer_that_may_not_ask_is_told_so_and_let_go") {
        return Ok(());
    }
    let front = Front::open_secluded()?;
    let socket = front.ground.scratch.join("admin.sock");
    // Only of this thread; the kernel tells the daemon who connected.
    let heard = thread::spawn(move || -> Rigged<String> {
        set_thread_uid(Uid::from_raw(65_534)).map_err(std::io::Error::from)?;
        let mut stream = UnixStream::connect(socket)?;
        stream.set_read_timeout(Some(Duration::from_secs(5)))?;
        let mut heard = String::new();
        // To the end: a daemon that holds on to it makes this time out.
        stream.read_to_string(&mut heard)?;
        Ok(heard)
    });
    let heard = heard.join().expect("no panic")?;
    assert!(
        heard.contains("uid 65534 may not use the admin socket"),
        "{heard}"
    );
    Ok(())
}
