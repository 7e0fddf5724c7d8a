//! Clients of HTTP/3 that mean no good, or say what is allowed in ways that nobody expects.

use std::{
    fs,
    io::Write as _,
    thread,
    time::{Duration, Instant},
};

use portcullis_tests::{
    ground::Ground,
    http3::{Http3, answers, ground, request},
    run::Rigged,
    scripted::Scripted,
};
use serde_json::{Value, json};

/// A PUT whose body is these bytes of frames.
fn put(path: &str, token: &str, frames: &[&str]) -> Value {
    let mut put = request("PUT", path, Some(token), &[]);
    put["raw"] = frames.into();
    put
}

#[test]
fn an_empty_frame_is_no_end_and_an_end_is_no_frame() -> Rigged<()> {
    let front = ground()?.start()?;
    let token = front.token("files")?;
    // DATA frames, an empty one of them in more bytes than it takes, and trailers without a field.
    let (hello, empty, long_empty) = ("000568656c6c6f", "0000", "40004000");
    let (more, trailers) = ("00052c20796f75", "01020000");
    let told = Http3::new(
        &front,
        &[put(
            "/files/a",
            &token,
            &[empty, hello, empty, long_empty, more, empty],
        )],
    )
    .ask()?;
    assert_eq!(answers(&told)[0]["status"], 201, "{told}");
    assert_eq!(
        fs::read(front.ground.scratch.join("files/a"))?,
        b"hello, you"
    );
    // The body ends where trailers begin; what follows them is nobody's.
    let told = Http3::new(&front, &[put("/files/b", &token, &[hello, trailers, more])]).ask()?;
    assert_eq!(answers(&told)[0]["status"], 201, "{told}");
    assert_eq!(fs::read(front.ground.scratch.join("files/b"))?, b"hello");
    for (name, frames) in [
        // Ten bytes, of which five come.
        ("cut", &["000a68656c6c6f"][..]),
        ("cut-in-its-head", &[hello, "00"]),
    ] {
        let path = format!("/files/{name}");
        let told = Http3::new(&front, &[put(&path, &token, frames)])
            .with("patience", 3)
            .ask()?;
        let answer = answers(&told)[0];
        assert_ne!(answer["status"], 201, "{name}: {told}");
        assert!(
            !front.ground.scratch.join("files").join(name).exists(),
            "{name}"
        );
        front.audited(name, |line| {
            line["path"] == path.as_str() && line["reason"] == "request_body_broken"
        })?;
    }
    Ok(())
}

#[test]
fn who_lets_nothing_be_said_is_let_go_and_takes_no_place() -> Rigged<()> {
    let front = ground()?
        .add(
            "[[listener]]",
            "handshake_timeout = \"700ms\"\nmax_connections = 2",
        )?
        .start()?;
    let begin = Instant::now();
    let mute = || {
        Http3::new(&front, &[])
            .with("mute", true)
            .with("stay", true)
            .begin()
    };
    let (first, second) = (mute()?, mute()?);
    for held in [first, second] {
        let told = held.end()?;
        assert!(told["ended"].is_object(), "{told}");
    }
    assert!(
        begin.elapsed() < Duration::from_secs(6),
        "{:?}",
        begin.elapsed()
    );
    front.audited("the mute", |line| line["reason"] == "http_timeout")?;
    assert_eq!(front.curl("/public", &[])?.status, 200);
    // One that goes by itself said nothing wrong.
    let malformed = front
        .audit()
        .iter()
        .filter(|line| line["reason"] == "http_malformed")
        .count();
    assert_eq!(malformed, 0);
    Ok(())
}

#[test]
fn a_stop_does_not_wait_for_who_lets_nothing_be_said() -> Rigged<()> {
    let front = ground()?
        .add("[[listener]]", "handshake_timeout = \"60s\"")?
        .start()?;
    let held = Http3::new(&front, &[])
        .with("mute", true)
        .with("stay", true)
        .begin()?;
    thread::sleep(Duration::from_millis(500));
    let begin = Instant::now();
    let (status, _ground) = front.stop()?;
    assert!(status.success());
    assert!(
        begin.elapsed() < Duration::from_secs(4),
        "{:?}",
        begin.elapsed()
    );
    held.end()?;
    Ok(())
}

#[test]
fn a_service_may_be_silent_for_longer_than_a_peer() -> Rigged<()> {
    let slow = Scripted::start(|_, stream| {
        thread::sleep(Duration::from_secs(3));
        stream.write_all(b"HTTP/1.1 200 OK\r\ncontent-length: 4\r\n\r\nlate")?;
        Ok(true)
    })?;
    let front = Ground::set()?
        .with_upstream(slow.address())?
        .add(
            "[[listener]]",
            "http3 = true\nheader_timeout = \"1s\"\nbody_timeout = \"1s\"",
        )?
        .start()?;
    let told = Http3::new(&front, &[request("GET", "/public", None, &[])]).ask()?;
    assert_eq!(answers(&told)[0]["body"], "late", "{told}");
    Ok(())
}

#[test]
fn a_head_that_does_not_end_and_many_that_are_none_are_let_go() -> Rigged<()> {
    let front = ground()?
        .add(
            "[[listener]]",
            "header_timeout = \"700ms\"\nmax_streams = 200",
        )?
        .start()?;
    let begun = json!({ "fields": [], "raw": ["014040000000"], "ends": false });
    let told = Http3::new(&front, &[begun]).with("patience", 3).ask()?;
    assert_eq!(answers(&told)[0]["status"], 0, "{told}");
    front.audited("the head", |line| line["reason"] == "http_timeout")?;
    let odd = request("GET", "/public", None, &[("connection", "close")]);
    let told = Http3::new(&front, &vec![odd; 150])
        .with("patience", 5)
        .with("stay", true)
        .ask()?;
    assert!(told["ended"].is_object(), "{}", told["ended"]);
    front.audited("their number", |line| {
        line["reason"] == "http3_excessive_malformed"
    })?;
    assert_eq!(front.heard()?, [""; 0]);
    Ok(())
}
