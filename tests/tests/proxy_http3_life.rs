//! How HTTP/3 begins and ends: with a configuration, a process, and a build.

use std::{process::Command, time::Duration};

use portcullis_tests::{
    client_pki::ClientPki,
    front::Front,
    ground::Ground,
    heirs::{replace, rewrite, with_binary},
    http3::{Http3, answers, field, ground, request},
    run::{Rigged, eventually, output},
    scripted::Scripted,
};

const SOON: Duration = Duration::from_secs(10);

#[test]
fn a_stop_lets_what_has_begun_end_and_says_that_nothing_follows() -> Rigged<()> {
    let slow = Scripted::start(|_, stream| {
        std::thread::sleep(Duration::from_millis(1_500));
        std::io::Write::write_all(stream, b"HTTP/1.1 200 OK\r\ncontent-length: 4\r\n\r\nlate")?;
        Ok(true)
    })?;
    let front = ground()?.with_upstream(slow.address())?.start()?;
    let held = Http3::new(&front, &[request("GET", "/public", None, &[])])
        .with("stay", true)
        .begin()?;
    eventually("the upstream has it", SOON, || {
        (!slow.seen().is_empty()).then_some(())
    })?;
    let (status, ground) = front.stop()?;
    assert!(status.success());
    let told = held.end()?;
    assert_eq!(answers(&told)[0]["body"], "late", "{told}");
    assert_eq!(told["ended"]["code"], 0x100, "{told}");
    drop(ground);
    Ok(())
}

#[test]
fn a_reload_begins_and_ends_it() -> Rigged<()> {
    let mut front = Front::open()?;
    let asked = [request("GET", "/public", None, &[])];
    rewrite(&mut front, "[[listener]]", "[[listener]]\nhttp3 = true")?;
    front.daemon.ask(&["reload"])?;
    eventually("it is served", SOON, || {
        let told = Http3::new(&front, &asked).with("patience", 2).ask().ok()?;
        (told["answers"][0]["status"] == 200).then_some(())
    })?;
    rewrite(&mut front, "http3 = true\n", "")?;
    front.daemon.ask(&["reload"])?;
    let told = Http3::new(&front, &asked).with("patience", 2).ask()?;
    assert!(told["refused"].is_string(), "{told}");
    assert_eq!(front.curl("/public", &[])?.field("alt-svc"), None);
    Ok(())
}

#[test]
fn another_process_takes_it_over() -> Rigged<()> {
    let (mut front, binary) = with_binary(ground()?)?;
    let asked = [request("GET", "/public", None, &[])];
    let told = Http3::new(&front, &asked).ask()?;
    assert_eq!(answers(&told)[0]["status"], 200);
    replace(&binary, "")?;
    let pid = front.daemon.upgrade()?;
    eventually("the heir serves it", SOON, || {
        let told = Http3::new(&front, &asked).with("patience", 2).ask().ok()?;
        let answer = told["answers"].get(0)?.clone();
        let record = front.record_of(field(&answer, "x-request-id")).ok()?;
        (record["pid"] == pid).then_some(())
    })
}

#[test]
fn a_listener_that_cannot_have_it_is_refused() -> Rigged<()> {
    for (lines, complaint) in [
        (
            "http3 = true\nproxy_protocol = [\"192.0.2.0/24\"]",
            "can't introduce its connections",
        ),
        ("http3 = true\nprotocol = \"tcp\"", "carries no requests"),
        (
            "http3 = true\n\n[[listener.client_certificates]]\nmode = \"required\"\nca = \"CLIENTS\"\n\
             hosts = [\"api.example\"]",
            "asked for by host",
        ),
        ("http3 = \"yes\"", "invalid type"),
    ] {
        let ground = Ground::set()?;
        let clients = ClientPki::new(&ground.scratch, "clients")?;
        let lines = lines.replace("CLIENTS", &clients.ca.display().to_string());
        // Behind the listener's own keys.
        let key = format!("server.key\"\n{lines}\n");
        let printed = ground.alter("server.key\"\n", &key)?.refused_start()?;
        assert!(printed.contains(complaint), "{printed}");
    }
    Ok(())
}

#[test]
fn a_program_that_is_built_as_usual_holds_nothing_of_it() -> Rigged<()> {
    let mut tree = Command::new(option_env!("CARGO").unwrap_or("cargo"));
    tree.args([
        "tree",
        "--locked",
        "--offline",
        "-p",
        "proxy-userspace",
        "-e",
        "normal",
        "--prefix",
        "none",
    ]);
    let said = output(&mut tree)?;
    let text = String::from_utf8_lossy(&said.stdout);
    assert!(said.status.success() && text.contains("hyper v"), "{text}");
    assert!(!text.contains("quinn") && !text.contains("h3 v"), "{text}");
    Ok(())
}
