//! WebSockets: judged like any request, then bytes in both directions.

use portcullis_tests::{
    front::Front,
    ground::Ground,
    run::Rigged,
    websocket::{EchoServer, talk, talk_over_http2},
    wire::{assert_refused, get},
};

/// A route that has WebSockets, to this upstream.
fn with_websockets(server: &EchoServer, route: &str) -> Rigged<Front> {
    Ground::set()?
        .with_upstream(server.address())?
        .add(&format!("name = \"{route}\""), "websocket = true")?
        .start()
}

/// An opening handshake with these fields in place of the usual ones.
fn opening(target: &str, fields: &[(&str, &str)]) -> String {
    let usual = [
        ("Connection", "Upgrade"),
        ("Upgrade", "websocket"),
        ("Sec-WebSocket-Version", "13"),
        ("Sec-WebSocket-Key", "dGhlIHNhbXBsZSBub25jZQ=="),
    ];
    let replaced = |name: &str| fields.iter().any(|(other, _)| *other == name);
    let lines: String = usual
        .iter()
        .filter(|(name, _)| !replaced(name))
        .chain(fields)
        .filter(|(_, value)| !value.is_empty())
        .map(|(name, value)| format!("{name}: {value}\r\n"))
        .collect();
    format!("GET {target} HTTP/1.1\r\nHost: api.example\r\n{lines}\r\n")
}

#[test]
fn a_websocket_carries_what_is_said_in_both_directions_and_is_recorded() -> Rigged<()> {
    let server = EchoServer::start()?;
    let front = with_websockets(&server, "public")?;
    let said = talk(&front, "/public", None)?;
    assert_eq!(said, ["subject nobody", "closed 1000"]);
    let record = front.audited("the request", |line| line["kind"] == "request")?;
    assert_eq!(record["status"], 101, "{record}");
    assert_eq!(record["verdict"], "permit", "{record}");
    assert_eq!(record["complete"], true, "{record}");
    for bytes in ["request_bytes", "response_bytes"] {
        let count = record[bytes].as_u64().unwrap_or_default();
        assert!((1_048_576..1_200_000).contains(&count), "{bytes}: {record}");
    }
    Ok(())
}

#[test]
fn a_websocket_needs_the_token_that_its_route_needs() -> Rigged<()> {
    let server = EchoServer::start()?;
    let front = with_websockets(&server, "orders")?;
    assert_eq!(talk(&front, "/orders/1", None)?, ["status 401"]);
    let token = front.token("files")?;
    let said = talk(&front, "/orders/1", Some(&token))?;
    assert_eq!(said, ["status 403"]);
    let token = front.token("orders:read")?;
    let said = talk(&front, "/orders/1", Some(&token))?;
    assert_eq!(said, ["subject alice", "closed 1000"]);
    Ok(())
}

#[test]
fn a_route_without_websockets_has_none() -> Rigged<()> {
    let server = EchoServer::start()?;
    let front = Ground::set()?.with_upstream(server.address())?.start()?;
    // The server says that it wants to be asked for one: the question didn't travel.
    assert_eq!(talk(&front, "/public", None)?, ["status 426"]);
    Ok(())
}

#[test]
fn a_handshake_with_more_than_one_reading_is_refused() -> Rigged<()> {
    let front = Ground::set()?
        .add("name = \"public\"", "websocket = true")?
        .start()?;
    for fields in [
        &[("Sec-WebSocket-Version", "8")][..],
        &[("Sec-WebSocket-Version", "")],
        &[("Sec-WebSocket-Key", "")],
        &[("Sec-WebSocket-Key", "short==")],
        &[("Sec-WebSocket-Key", "dGhlIHNhbXBsZSBub25jZQ=!")],
        &[("Connection", "keep-alive")],
        &[("Upgrade", "websocket"), ("Upgrade", "h2c")],
        &[("Content-Length", "5")],
        &[("Transfer-Encoding", "chunked")],
    ] {
        let bytes = opening("/public", fields);
        assert_refused(&front, &bytes, 400, "websocket_handshake_invalid")?;
    }
    assert_eq!(front.heard()?, [""; 0]);
    Ok(())
}

/// CVE-2026-2833: what is pipelined behind a question for an upgrade is no tunnel unless there is a 101.
#[test]
fn bytes_behind_an_upgrade_that_isnt_granted_are_judged_as_requests() -> Rigged<()> {
    let front = Ground::set()?
        .add("name = \"public\"", "websocket = true")?
        .start()?;
    let bytes = [
        opening("/public", &[]),
        get("/orders/smuggled").replace("\r\n\r\n", "\r\nConnection: close\r\n\r\n"),
    ]
    .concat();
    let answer = front.raw(bytes.as_bytes())?;
    assert_eq!(answer.text.matches("HTTP/1.1 200").count(), 1, "{answer:?}");
    assert_eq!(answer.text.matches("HTTP/1.1 401").count(), 1, "{answer:?}");
    assert_eq!(front.heard()?, ["GET /public HTTP/1.1"]);
    Ok(())
}

#[test]
fn a_websocket_over_http2_is_judged_as_the_get_that_it_is_over_http1() -> Rigged<()> {
    let server = EchoServer::start()?;
    let front = with_websockets(&server, "orders")?;
    let over_http2 = |token: Option<&str>| talk_over_http2(&front, "/orders/1", token, "13");
    assert_eq!(over_http2(None)?, ["status 401"]);
    let token = front.token("files")?;
    assert_eq!(over_http2(Some(&token))?, ["status 403"]);
    let token = front.token("orders:read")?;
    assert_eq!(over_http2(Some(&token))?, ["subject alice", "closed 1000"]);
    let record = front.audited("the WebSocket", |line| line["status"] == 200)?;
    assert_eq!(record["protocol"], "HTTP/2.0", "{record}");
    assert_eq!(record["method"], "GET", "{record}");
    assert_eq!(record["complete"], true, "{record}");
    for bytes in ["request_bytes", "response_bytes"] {
        let count = record[bytes].as_u64().unwrap_or_default();
        assert!((10..100).contains(&count), "{bytes}: {record}");
    }
    Ok(())
}

#[test]
fn a_websocket_over_http2_is_refused_where_there_is_none_or_in_no_known_version() -> Rigged<()> {
    let server = EchoServer::start()?;
    let front = with_websockets(&server, "orders")?;
    let said = talk_over_http2(&front, "/public", None, "13")?;
    assert_eq!(said, ["status 400"]);
    front.audited("the refusal", |line| {
        line["reason"] == "websocket_not_routed"
    })?;
    let token = front.token("orders:read")?;
    let said = talk_over_http2(&front, "/orders/1", Some(&token), "8")?;
    assert_eq!(said, ["status 400"]);
    front.audited("the refusal", |line| {
        line["reason"] == "websocket_handshake_invalid"
    })?;
    Ok(())
}

/// Neither end says anything: nobody knows whether they are there.
#[test]
fn a_websocket_on_which_nothing_is_said_ends() -> Rigged<()> {
    let server = EchoServer::start()?;
    let front = Ground::set()?
        .with_upstream(server.address())?
        .add("name = \"app\"", "stream_timeout = \"500ms\"")?
        .add("name = \"public\"", "websocket = true")?
        .start()?;
    let answer = front.raw(opening("/public", &[]).as_bytes())?;
    assert_eq!(answer.status(), 101);
    assert!(answer.closed, "{answer:?}");
    let record = front.audited("the WebSocket", |line| line["status"] == 101)?;
    assert_eq!(record["complete"], false, "{record}");
    // The server says who is calling in a frame of 8 bytes.
    assert_eq!(record["response_bytes"], 8, "{record}");
    Ok(())
}
