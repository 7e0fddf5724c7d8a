//! Where a request ends: lengths, chunks, and what comes behind. Whatever a client writes, what reaches
//! the upstream is one request each, framed anew.

use std::{
    io::{Read as _, Write as _},
    net::TcpListener,
    thread,
};

use portcullis_tests::{
    front::{Front, RawAnswer},
    ground::Ground,
    run::Rigged,
    wire::{assert_all_refused, get, post},
};

#[test]
fn a_plain_request_is_served_on_the_wire() -> Rigged<()> {
    let front = Front::open()?;
    let bytes = post("Content-Length: 5\r\nConnection: close\r\n", "hello");
    let answer = front.raw(bytes.as_bytes())?;
    assert_eq!(answer.status(), 200, "{answer:?}");
    let record = front.record_of(answer.decision())?;
    assert_eq!(record["request_bytes"], 5);
    assert_eq!(front.heard()?, ["POST /public HTTP/1.1"]);
    Ok(())
}

#[test]
fn a_length_that_is_not_one_plain_number_is_refused() -> Rigged<()> {
    let with = |lines: &str| post(lines, "hello");
    assert_all_refused(&[
        (
            &with("Content-Length: 5\r\nContent-Length: 6\r\n"),
            400,
            "content_length_invalid",
        ),
        (
            &with("Content-Length: 5\r\nContent-Length: 5\r\n"),
            400,
            "content_length_invalid",
        ),
        (
            &with("Content-Length: 5, 5\r\n"),
            400,
            "content_length_invalid",
        ),
        (
            &with("Content-Length: 5, 6\r\n"),
            400,
            "content_length_invalid",
        ),
        (&with("Content-Length: \r\n"), 400, "content_length_invalid"),
        (&with("Content-Length:\r\n"), 400, "content_length_invalid"),
        (
            &with("Content-Length: +5\r\n"),
            400,
            "content_length_invalid",
        ),
        (
            &with("Content-Length: -1\r\n"),
            400,
            "content_length_invalid",
        ),
        (
            &with("Content-Length: 0x5\r\n"),
            400,
            "content_length_invalid",
        ),
        (
            &with("Content-Length: 05\r\n"),
            400,
            "content_length_invalid",
        ),
        (
            &with("Content-Length: 5_0\r\n"),
            400,
            "content_length_invalid",
        ),
        (
            &with("Content-Length: 5 5\r\n"),
            400,
            "content_length_invalid",
        ),
        (
            &with("Content-Length: 99999999999999999999\r\n"),
            400,
            "content_length_invalid",
        ),
    ])
}

#[test]
fn an_encoding_that_is_not_exactly_chunked_is_refused() -> Rigged<()> {
    let with = |value: &str| {
        let line = format!("Transfer-Encoding: {value}\r\n");
        post(&line, "0\r\n\r\n")
    };
    let old = with("chunked").replace("HTTP/1.1", "HTTP/1.0");
    assert_all_refused(&[
        (&with("xchunked"), 400, "transfer_encoding_invalid"),
        (&with("identity"), 400, "transfer_encoding_invalid"),
        (&with("chunked, identity"), 400, "transfer_encoding_invalid"),
        (&with("chunkedx"), 400, "transfer_encoding_invalid"),
        (&with("\"chunked\""), 400, "transfer_encoding_invalid"),
        (&with("\u{b}chunked"), 400, "control_in_field"),
        (&with(",chunked"), 400, "transfer_encoding_invalid"),
        (&with("gzip, chunked"), 400, "transfer_encoding_invalid"),
        (
            &with("chunked\r\nTransfer-Encoding: chunked"),
            400,
            "transfer_encoding_invalid",
        ),
        (
            &with("chunked\r\nTransfer-Encoding: identity"),
            400,
            "transfer_encoding_invalid",
        ),
        (&with("\r\n chunked"), 400, "folded_field"),
        (&old, 400, "transfer_encoding_invalid"),
    ])
}

/// What reached the upstream was one request, however the client dressed up a second.
fn assert_one_request(front: &Front, answer: &RawAnswer) -> Rigged<()> {
    assert!(!answer.text.contains("orders"), "{answer:?}");
    let heard = front.heard()?;
    assert!(
        heard.iter().all(|line| line.starts_with("POST /public")),
        "{heard:?}"
    );
    assert!(heard.len() <= 1, "{heard:?}");
    Ok(())
}

#[test]
fn a_broken_chunk_ends_the_connection_and_nothing_after_it_is_a_request() -> Rigged<()> {
    let extension = format!("5;{}", "a".repeat(5_000));
    for (size, reason) in [
        ("0x5", "chunk_size_invalid"),
        ("+5", "chunk_size_invalid"),
        ("5_", "chunk_size_invalid"),
        ("-5", "chunk_size_invalid"),
        (" 5", "chunk_size_invalid"),
        ("5 ", "chunk_size_invalid"),
        ("", "chunk_size_invalid"),
        ("5\u{b}", "chunk_size_invalid"),
        ("fffffffffffffffff", "chunk_size_invalid"),
        ("g", "chunk_size_invalid"),
        ("5\nhello\r\n5", "bare_lf"),
        ("5;a\nb", "bare_lf"),
        ("6", "chunk_end_missing"),
        ("4", "chunk_end_missing"),
        (&extension, "chunk_extension_refused"),
        ("0\r\nX-A\r\n\r\n5", "trailer_invalid"),
    ] {
        let front = Front::open()?;
        let smuggled = get("/orders/smuggled");
        let chunks = format!("{size}\r\nhello\r\n0\r\n\r\n{smuggled}");
        let answer = front.raw(post("Transfer-Encoding: chunked\r\n", &chunks).as_bytes())?;
        assert!(answer.closed, "{size:?}: {answer:?}");
        assert_eq!(answer.status(), 400, "{size:?}: {answer:?}");
        let record = front.record_of(answer.decision())?;
        assert_eq!(record["reason"], reason, "{size:?}: {record}");
        assert_one_request(&front, &answer)?;
    }
    Ok(())
}

#[test]
fn an_unread_body_after_a_refusal_is_never_a_request() -> Rigged<()> {
    let front = Front::open()?;
    let smuggled = get("/public");
    for expect in ["", "Expect: 100-continue\r\n"] {
        let last = "GET /unknown HTTP/1.1\r\nHost: api.example\r\nConnection: close\r\n\r\n";
        let length = smuggled.len();
        let bytes = format!(
            "POST /unknown HTTP/1.1\r\nHost: api.example\r\n{expect}Content-Length: {length}\r\n\r\n{smuggled}{last}"
        );
        let answer = front.raw(bytes.as_bytes())?;
        assert!(answer.closed, "{answer:?}");
        assert!(answer.text.contains("HTTP/1.1 404"), "{answer:?}");
        assert!(!answer.text.contains("HTTP/1.1 200"), "{answer:?}");
    }
    assert_eq!(front.heard()?, [""; 0]);
    Ok(())
}

#[test]
fn pipelined_requests_are_judged_one_by_one() -> Rigged<()> {
    let front = Front::open()?;
    let last = "GET /public HTTP/1.1\r\nHost: api.example\r\nConnection: close\r\n\r\n";
    let bytes = [&get("/public"), &get("/orders/1"), last].concat();
    let answer = front.raw(bytes.as_bytes())?;
    assert_eq!(answer.text.matches("HTTP/1.1 200").count(), 2, "{answer:?}");
    assert_eq!(answer.text.matches("HTTP/1.1 401").count(), 1, "{answer:?}");
    let line = "GET /public HTTP/1.1";
    assert_eq!(front.heard()?, [line, line]);
    Ok(())
}

#[test]
fn a_length_beside_an_encoding_is_refused_and_ends_the_connection() -> Rigged<()> {
    let smuggled = get("/orders/smuggled");
    let with = |lines: &str| post(lines, &format!("5\r\nhello\r\n0\r\n\r\n{smuggled}"));
    let reason = "length_and_transfer_encoding";
    assert_all_refused(&[
        (
            &with("Content-Length: 5\r\nTransfer-Encoding: chunked\r\n"),
            400,
            reason,
        ),
        (
            &with("Transfer-Encoding: chunked\r\nContent-Length: 5\r\n"),
            400,
            reason,
        ),
    ])
}

#[test]
fn a_request_before_one_that_is_refused_is_served() -> Rigged<()> {
    let front = Front::open()?;
    let bytes = [&get("/public"), "GET /orders HTTP/1.1\nHost: a\n\n"].concat();
    let answer = front.raw(bytes.as_bytes())?;
    assert!(answer.closed, "{answer:?}");
    assert_eq!(answer.text.matches("HTTP/1.1 200").count(), 1, "{answer:?}");
    assert_eq!(answer.text.matches("HTTP/1.1 400").count(), 1, "{answer:?}");
    assert_eq!(front.heard()?, ["GET /public HTTP/1.1"]);
    Ok(())
}

#[test]
fn what_stands_for_a_refused_head_is_no_way_in_for_a_client() -> Rigged<()> {
    let bytes = "- / HTTP/1.1\r\nHost: api.example\r\n\r\n";
    let front = Front::open()?;
    let answer = front.raw(
        bytes
            .replace("\r\n\r\n", "\r\nConnection: close\r\n\r\n")
            .as_bytes(),
    )?;
    assert_eq!(answer.status(), 404, "{answer:?}");
    assert_eq!(front.heard()?, [""; 0]);
    Ok(())
}

/// What stands in trailers was judged by nobody, so none of it travels.
#[test]
fn trailers_never_reach_the_upstream() -> Rigged<()> {
    let listener = TcpListener::bind(("127.0.0.1", 0))?;
    let front = Ground::set()?
        .with_upstream(listener.local_addr()?)?
        .start()?;
    let upstream = thread::spawn(move || -> std::io::Result<String> {
        let (mut stream, _) = listener.accept()?;
        let mut heard = Vec::new();
        let mut piece = [0; 1_024];
        while !heard.ends_with(b"\r\n0\r\n\r\n") {
            let length = stream.read(&mut piece)?;
            if length == 0 {
                break;
            }
            heard.extend_from_slice(&piece[..length]);
        }
        stream.write_all(b"HTTP/1.1 204 No Content\r\nConnection: close\r\n\r\n")?;
        Ok(String::from_utf8_lossy(&heard).into_owned())
    });
    let lines = "Transfer-Encoding: chunked\r\nTrailer: Authorization\r\nConnection: close\r\n";
    let trailers = "Authorization: Bearer x\r\nHost: admin.example\r\nContent-Length: 99\r\n\
        Transfer-Encoding: gzip\r\nX-Portcullis-Subject: root\r\n";
    let body = format!("5\r\nhello\r\n0\r\n{trailers}\r\n");
    let answer = front.raw(post(lines, &body).as_bytes())?;
    assert_eq!(answer.status(), 204, "{answer:?}");
    let heard = upstream.join().expect("no panic")?.to_lowercase();
    assert!(heard.contains("hello"), "{heard}");
    for odd in [
        "bearer",
        "admin.example",
        "content-length",
        "gzip",
        "root",
        "trailer",
    ] {
        assert!(!heard.contains(odd), "{odd}: {heard}");
    }
    Ok(())
}
