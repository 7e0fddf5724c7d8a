//! A tunnel is opened by an upstream that agrees to one, and by nothing else (CVE-2026-2833): what a client sends
//! behind its question is a request like any other, or nothing.

use std::io::Write as _;

use portcullis_tests::{
    front::Front,
    ground::Ground,
    run::Rigged,
    scripted::{Scripted, Seen},
};

const KEY: &str = "dGhlIHNhbXBsZSBub25jZQ==";
/// What has to come of it (RFC 6455, 1.3).
const ACCEPT: &str = "s3pPLMBiTxaQ9kYGzzhZRbK+xOo=";

/// A proxy whose upstream gives this answer to whoever asks for a WebSocket, and 200 to others.
fn front(answer: &str) -> Rigged<(Scripted, Front)> {
    let answer = answer.to_owned();
    let upstream = Scripted::start(move |seen, stream| {
        let asks = seen
            .head
            .iter()
            .any(|line| line.to_ascii_lowercase().starts_with("upgrade:"));
        let plain = "HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nok";
        stream.write_all(if asks { &answer } else { plain }.as_bytes())?;
        Ok(true)
    })?;
    let front = Ground::set()?
        .with_upstream(upstream.address())?
        .alter("path = \"/public\"", "path = \"/public\"\nwebsocket = true")?
        .start()?;
    Ok((upstream, front))
}

fn asking(more: &str) -> String {
    format!(
        "GET /public HTTP/1.1\r\nHost: api.example\r\nConnection: upgrade\r\nUpgrade: websocket\r\n\
         Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: {KEY}\r\n\r\n{more}"
    )
}

fn targets(seen: &[Seen]) -> Vec<&str> {
    let lines = seen.iter().filter_map(|seen| seen.head.first());
    lines.map(String::as_str).collect()
}

#[test]
fn an_answer_that_is_no_agreement_opens_nothing() -> Rigged<()> {
    for (answer, status) in [
        (
            "HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nno".to_owned(),
            200,
        ),
        (
            "HTTP/1.1 426 Upgrade Required\r\ncontent-length: 0\r\n\r\n".to_owned(),
            426,
        ),
        (
            "HTTP/1.1 101 Switching Protocols\r\nconnection: upgrade\r\nupgrade: websocket\r\n\r\n"
                .to_owned(),
            502,
        ),
        (
            format!(
                "HTTP/1.1 101 Switching Protocols\r\nconnection: upgrade\r\nupgrade: websocket\r\n\
                 sec-websocket-accept: {}\r\n\r\n",
                ACCEPT.to_ascii_lowercase()
            ),
            502,
        ),
        (
            format!(
                "HTTP/1.1 101 Switching Protocols\r\nconnection: upgrade\r\nupgrade: h2c\r\n\
                 sec-websocket-accept: {ACCEPT}\r\n\r\n"
            ),
            502,
        ),
    ] {
        let (upstream, front) = front(&answer)?;
        // It asks for what the client may not have, as if it were in the tunnel already.
        let behind =
            "GET /orders/secret HTTP/1.1\r\nHost: api.example\r\nConnection: close\r\n\r\n";
        let said = front.raw(asking(behind).as_bytes())?;
        assert_eq!(said.status(), status, "{answer}: {said:?}");
        let seen = upstream.seen();
        assert!(
            targets(&seen)
                .iter()
                .all(|line| *line == "GET /public HTTP/1.1"),
            "{seen:?}"
        );
        assert!(!said.text.contains("HTTP/1.1 101"), "{said:?}");
        // And what was sent behind is judged by itself, where it is read at all.
        let others = said.text.matches("HTTP/1.1 401").count();
        assert!(others <= 1, "{said:?}");
    }
    Ok(())
}

#[test]
fn an_agreement_opens_one() -> Rigged<()> {
    let agrees = format!(
        "HTTP/1.1 101 Switching Protocols\r\nconnection: upgrade\r\nupgrade: websocket\r\n\
         sec-websocket-accept: {ACCEPT}\r\n\r\n"
    );
    let (upstream, front) = front(&agrees)?;
    let said = front.raw(asking("").as_bytes())?;
    assert_eq!(said.status(), 101, "{said:?}");
    assert_eq!(targets(&upstream.seen()), ["GET /public HTTP/1.1"]);
    Ok(())
}
