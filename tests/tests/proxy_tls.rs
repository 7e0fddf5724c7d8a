//! TLS as the proxy offers it, and peers that hold a connection without using it.

use std::{
    io::Read as _,
    net::TcpStream,
    process::Stdio,
    time::{Duration, Instant},
};

use portcullis_tests::{
    front::Front,
    ground::Ground,
    run::{Rigged, eventually, output},
};

const REQUEST: &str = "GET /public HTTP/1.1\r\nHost: api.example\r\nConnection: close\r\n\r\n";

/// A client that would like to use anything.
const ANYTHING: [&str; 4] = ["-cipher", "ALL:@SECLEVEL=0", "-alpn", "http/1.1"];

#[test]
fn tls_1_2_and_1_3_are_served() -> Rigged<()> {
    let front = Front::open()?;
    for (version, recorded) in [("-tls1_2", "TLSv1_2"), ("-tls1_3", "TLSv1_3")] {
        let args = ["-quiet", "-alpn", "http/1.1", version];
        let answer = front.raw_with(&args, REQUEST.as_bytes())?;
        assert_eq!(answer.status(), 200, "{answer:?}");
        assert_eq!(front.record_of(answer.decision())?["tls"], recorded);
    }
    Ok(())
}

/// Nothing is said inside a handshake that fails, and the trail says why.
fn assert_handshake_refused(args: &[&str]) -> Rigged<()> {
    let front = Front::open()?;
    let answer = front.raw_with(
        &[&["-quiet"], &ANYTHING[..], args].concat(),
        REQUEST.as_bytes(),
    )?;
    assert_eq!(answer.text, "", "{args:?}");
    let record = front.audited("a refused handshake", |line| line["kind"] == "connection")?;
    assert_eq!(record["reason"], "tls_handshake_failed", "{record}");
    assert_eq!(record["verdict"], "deny", "{record}");
    assert_eq!(front.heard()?, [""; 0]);
    Ok(())
}

#[test]
fn tls_1_0_and_1_1_are_refused() -> Rigged<()> {
    assert_handshake_refused(&["-tls1"])?;
    assert_handshake_refused(&["-tls1_1"])
}

#[test]
fn suites_without_aead_or_forward_secrecy_are_refused() -> Rigged<()> {
    for suite in [
        "ECDHE-ECDSA-AES128-SHA",
        "ECDHE-ECDSA-AES256-SHA384",
        "AES128-GCM-SHA256",
        "ECDHE-ECDSA-NULL-SHA",
        "AECDH-AES128-SHA",
    ] {
        let suite = format!("{suite}:@SECLEVEL=0");
        assert_handshake_refused(&["-tls1_2", "-cipher", &suite])?;
    }
    Ok(())
}

#[test]
fn a_protocol_that_is_not_offered_is_refused() -> Rigged<()> {
    assert_handshake_refused(&["-alpn", "http/1.0"])
}

#[test]
fn renegotiation_is_not_honoured() -> Rigged<()> {
    let front = Front::open()?;
    let mut client = front.s_client(&["-tls1_2", "-alpn", "http/1.1"]);
    let mut child = client
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()?;
    let mut stdin = child.stdin.take();
    if let Some(stdin) = &mut stdin {
        // openssl takes a line that begins with R for the command to renegotiate.
        std::io::Write::write_all(stdin, b"R\n")?;
    }
    let ended = child.wait_with_output()?;
    let said = String::from_utf8_lossy(&[ended.stdout, ended.stderr].concat()).into_owned();
    drop(stdin);
    assert!(said.contains("RENEGOTIATING"), "{said}");
    assert!(said.contains("no renegotiation"), "{said}");
    Ok(())
}

#[test]
fn early_data_is_not_offered() -> Rigged<()> {
    let front = Front::open()?;
    let session = front.ground.scratch.join("session");
    let file = session.display().to_string();
    let kept = front.raw_with(
        &["-quiet", "-tls1_3", "-alpn", "http/1.1", "-sess_out", &file],
        REQUEST.as_bytes(),
    )?;
    assert_eq!(kept.status(), 200);
    let printed = output(
        std::process::Command::new("openssl").args(["sess_id", "-in", &file, "-noout", "-text"]),
    )?;
    let text = String::from_utf8_lossy(&printed.stdout).into_owned();
    assert!(text.contains("TLSv1.3"), "{text}");
    assert!(text.contains("Max Early Data: 0"), "{text}");
    Ok(())
}

/// How long the proxy keeps a TCP peer that says `bytes` and then nothing.
fn patience_with(front: &Front, bytes: &[u8]) -> Rigged<Duration> {
    let mut stream = TcpStream::connect(front.address)?;
    stream.set_read_timeout(Some(Duration::from_secs(8)))?;
    std::io::Write::write_all(&mut stream, bytes)?;
    let start = Instant::now();
    // The end of the stream, or a reset: either way the proxy has let go.
    let ended = stream.read_to_end(&mut Vec::new());
    let timed_out = ended.is_err_and(|error| error.kind() == std::io::ErrorKind::WouldBlock);
    assert!(!timed_out, "still connected after {:?}", start.elapsed());
    Ok(start.elapsed())
}

#[test]
fn a_peer_that_does_not_finish_its_handshake_is_let_go() -> Rigged<()> {
    let front = Ground::set()?
        .add("[[listener]]", "handshake_timeout = \"400ms\"")?
        .start()?;
    // Silence, and the first bytes of a record of which the rest never comes.
    for bytes in [&b""[..], b"\x16\x03\x01\x02\x00\x01"] {
        let patience = patience_with(&front, bytes)?;
        assert!(patience >= Duration::from_millis(300), "{patience:?}");
        assert!(patience < Duration::from_secs(4), "{patience:?}");
    }
    let record = front.audited("a timeout", |line| line["kind"] == "connection")?;
    assert_eq!(record["reason"], "tls_handshake_timeout", "{record}");
    Ok(())
}

#[test]
fn a_peer_that_speaks_plain_http_is_let_go() -> Rigged<()> {
    let front = Front::open()?;
    let patience = patience_with(&front, REQUEST.as_bytes())?;
    assert!(patience < Duration::from_secs(4), "{patience:?}");
    let record = front.audited("a refusal", |line| line["kind"] == "connection")?;
    assert_eq!(record["reason"], "tls_handshake_failed", "{record}");
    assert_eq!(front.heard()?, [""; 0]);
    Ok(())
}

#[test]
fn a_peer_that_does_not_finish_its_head_is_let_go() -> Rigged<()> {
    let front = Ground::set()?
        .add("[[listener]]", "header_timeout = \"400ms\"")?
        .start()?;
    let start = Instant::now();
    let answer = front.raw(b"GET /orders/slow HTTP/1.1\r\nHost: api.exam")?;
    assert!(answer.closed, "{answer:?}");
    assert!(
        start.elapsed() < Duration::from_secs(5),
        "{:?}",
        start.elapsed()
    );
    let record = front.audited("a timeout", |line| line["kind"] == "connection")?;
    assert_eq!(record["reason"], "http_timeout", "{record}");
    assert_eq!(front.heard()?, [""; 0]);
    Ok(())
}

#[test]
fn a_peer_that_asks_nothing_after_its_handshake_is_let_go() -> Rigged<()> {
    let front = Ground::set()?
        .add("[[listener]]", "header_timeout = \"400ms\"")?
        .start()?;
    for bytes in ["", "GET /public HTTP/1.1\r\nHost: api.example\r\n\r\n"] {
        let answer = front.raw(bytes.as_bytes())?;
        assert!(answer.closed, "{bytes:?}: {answer:?}");
    }
    Ok(())
}

#[test]
fn connections_above_the_bound_wait_until_one_ends() -> Rigged<()> {
    let front = Ground::set()?
        .add(
            "[[listener]]",
            "max_connections = 1\nhandshake_timeout = \"700ms\"",
        )?
        .start()?;
    let holder = TcpStream::connect(front.address)?;
    let start = Instant::now();
    // Served as soon as the holder's handshake is given up.
    let answer = front.curl("/public", &[])?;
    assert_eq!(answer.status, 200, "{answer:?}");
    assert!(
        start.elapsed() >= Duration::from_millis(500),
        "{:?}",
        start.elapsed()
    );
    drop(holder);
    Ok(())
}

#[test]
fn a_source_with_too_many_connections_gets_no_further_one_until_one_ends() -> Rigged<()> {
    let front = Ground::set()?
        .add("[[listener]]", "max_connections_per_source = 2")?
        .start()?;
    let first = TcpStream::connect(front.address)?;
    let second = TcpStream::connect(front.address)?;
    eventually("a refusal", Duration::from_secs(5), || {
        let answer = front.curl("/public", &[]).ok()?;
        (answer.status == 0).then_some(())
    })?;
    front.audited("its record", |line| line["reason"] == "source_connections")?;
    drop((first, second));
    eventually("a place", Duration::from_secs(5), || {
        let answer = front.curl("/public", &[]).ok()?;
        (answer.status == 200).then_some(())
    })?;
    Ok(())
}
