//! Clients that say a little again and again: a deadline is for the whole, and not for the next byte.

use std::{
    io::{Read as _, Write as _},
    net::TcpStream,
    process::Stdio,
    thread,
    time::{Duration, Instant},
};

use portcullis_tests::{
    front::Front,
    ground::Ground,
    h2_peer::{
        Peer,
        frame::{data, headers},
        head_on,
        hpack::request,
    },
    run::{RigError, Rigged},
    scripted::Scripted,
};

/// Between two bytes.
const PAUSE: Duration = Duration::from_millis(100);
/// A drip that is let go on for so long has won.
const LOST: Duration = Duration::from_secs(8);

fn front(line: &str) -> Rigged<Front> {
    Ground::set()?.add("[[listener]]", line)?.start()
}

/// How long the proxy takes these bytes of a TLS client, one at a time, after others at once; and what it says.
fn drip(front: &Front, first: &str, rest: &str) -> Rigged<(Duration, String)> {
    let mut client = front
        .s_client(&["-quiet", "-alpn", "http/1.1"])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::null())
        .spawn()?;
    let mut stdin = client
        .stdin
        .take()
        .ok_or_else(|| RigError("no input".to_owned()))?;
    let mut stdout = client
        .stdout
        .take()
        .ok_or_else(|| RigError("no output".to_owned()))?;
    stdin.write_all(first.as_bytes())?;
    let begin = Instant::now();
    let heard = thread::spawn(move || {
        let mut said = String::new();
        let _ = stdout.read_to_string(&mut said);
        said
    });
    for byte in rest.bytes().cycle() {
        if heard.is_finished() || begin.elapsed() > LOST || stdin.write_all(&[byte]).is_err() {
            break;
        }
        thread::sleep(PAUSE);
    }
    let took = begin.elapsed();
    drop(stdin);
    let _ = client.kill();
    client.wait()?;
    let said = heard.join();
    Ok((took, said.map_err(|_| RigError("nobody heard".to_owned()))?))
}

#[test]
fn a_handshake_in_drips_ends_at_its_deadline() -> Rigged<()> {
    let front = front("handshake_timeout = \"700ms\"")?;
    let mut stream = TcpStream::connect(front.address)?;
    stream.set_nodelay(true)?;
    // The head of a record of 512 bytes, which come one by one.
    stream.write_all(b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03")?;
    let begin = Instant::now();
    while stream.write_all(b"\0").is_ok() && begin.elapsed() < LOST {
        thread::sleep(PAUSE);
    }
    assert!(
        begin.elapsed() < Duration::from_secs(4),
        "{:?}",
        begin.elapsed()
    );
    front.audited("the end", |line| line["reason"] == "tls_handshake_timeout")?;
    Ok(())
}

#[test]
fn a_head_in_drips_ends_at_its_deadline() -> Rigged<()> {
    let front = front("header_timeout = \"700ms\"")?;
    let (took, _) = drip(
        &front,
        "GET /public HTTP/1.1\r\nHost: api.example\r\nX-Slow: ",
        "a",
    )?;
    assert!(took < Duration::from_secs(4), "{took:?}");
    front.audited("the end", |line| line["reason"] == "http_timeout")?;
    // The same for a field section over HTTP/2, of which one CONTINUATION after the other comes.
    let mut peer = Peer::greet(&front, &[])?;
    let block = request("GET", "/public", &[]);
    peer.say(&[&portcullis_tests::h2_peer::frame::frame(1, 0, 1, &block)])?;
    let begin = Instant::now();
    let more = |_| portcullis_tests::h2_peer::frame::frame(9, 0, 1, b"\0\x01a\x01b");
    let ended = peer.flood(40, |time| {
        thread::sleep(PAUSE);
        more(time)
    })?;
    assert!(
        ended && begin.elapsed() < Duration::from_secs(4),
        "{:?}",
        begin.elapsed()
    );
    assert_eq!(front.heard()?, [""; 0]);
    Ok(())
}

#[test]
fn a_body_is_given_as_long_as_it_moves_and_no_longer() -> Rigged<()> {
    let front = front("body_timeout = \"700ms\"")?;
    // A byte each 100 ms is slow, and a body all the same: it gets its answer.
    let head = "POST /public HTTP/1.1\r\nHost: api.example\r\nConnection: close\r\nContent-Length: 20\r\n\r\n";
    let (took, said) = drip(&front, head, "x")?;
    assert!(said.starts_with("HTTP/1.1 200"), "{took:?}: {said}");
    assert!(took > Duration::from_secs(1), "{took:?}");
    // Over HTTP/2 one that stops halfway is told so, where the service waits for all of it.
    let waits = Scripted::start(|_, stream| {
        stream.write_all(b"HTTP/1.1 200 OK\r\ncontent-length: 0\r\n\r\n")?;
        Ok(true)
    })?;
    let front = Ground::set()?
        .with_upstream(waits.address())?
        .add("[[listener]]", "body_timeout = \"700ms\"")?
        .start()?;
    let mut peer = Peer::greet(&front, &[])?;
    let asked = request("POST", "/public", &[("content-length", "20")]);
    peer.say(&[&headers(1, &asked), &data(1, b"hello")])?;
    let heard = peer.hear_answer(1)?;
    let status = head_on(&heard, 1).and_then(|head| head.status);
    assert_eq!(status, Some(408), "{heard:?}");
    front.audited("the end", |line| line["reason"] == "request_body_timeout")?;
    Ok(())
}
