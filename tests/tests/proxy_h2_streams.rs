//! Frames that come when nobody expects them, and trailers, with a service that writes down what reaches it.

use std::io::Write as _;

use portcullis_tests::{
    front::Front,
    ground::Ground,
    h2_peer::{
        Peer, Said,
        frame::{
            HEADERS, PRIORITY, PROTOCOL_ERROR, RST_STREAM, data, frame, headers, headers_only,
            last_data, window,
        },
        goaway_of, head_on,
        hpack::{literal, request},
        reset_of,
    },
    run::Rigged,
    scripted::Scripted,
};

/// RFC 9113, 7.
const STREAM_CLOSED: u32 = 0x5;
const FRAME_SIZE_ERROR: u32 = 0x6;

fn recorder() -> Rigged<Scripted> {
    Scripted::start(|_, stream| {
        stream.write_all(b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nok")?;
        Ok(true)
    })
}

#[test]
fn no_trailer_reaches_a_service_whatever_it_is_called() -> Rigged<()> {
    let recorder = recorder()?;
    let front = Ground::set()?.with_upstream(recorder.address())?.start()?;
    let told = [
        ("authorization", "Bearer x"),
        ("host", "other.example"),
        ("content-length", "3"),
        ("x-portcullis-subject", "root"),
        ("x-forwarded-for", "192.0.2.1"),
        ("cookie", "a=b"),
    ];
    for (name, value) in told {
        let mut peer = Peer::greet(&front, &[])?;
        let asked = request("POST", "/public", &[("content-length", "5")]);
        let trailers = literal(&[(name, value)]);
        peer.say(&[
            &headers(1, &asked),
            &data(1, b"hello"),
            &headers_only(1, &trailers),
        ])?;
        let heard = peer.hear_answer(1)?;
        assert_eq!(
            head_on(&heard, 1).and_then(|head| head.status),
            Some(200),
            "{name}: {heard:?}"
        );
    }
    let seen = recorder.seen();
    assert_eq!(seen.len(), told.len());
    for (seen, (name, value)) in seen.iter().zip(told) {
        assert_eq!(seen.body, b"hello", "{name}");
        let head = seen.head.join("\n").to_ascii_lowercase();
        assert!(
            !head.contains(&value.to_ascii_lowercase()) || name == "content-length",
            "{name}: {head}"
        );
        assert_eq!(head.matches("content-length").count(), 1, "{head}");
        assert!(
            head.contains("content-length: 5") && !head.contains("trailer"),
            "{head}"
        );
    }
    // One that says how the body is framed is no trailer at all (RFC 9113, 8.2.2).
    let mut peer = Peer::greet(&front, &[])?;
    let trailers = literal(&[("transfer-encoding", "chunked")]);
    peer.say(&[
        &headers(1, &request("POST", "/public", &[])),
        &data(1, b"hello"),
        &headers_only(1, &trailers),
    ])?;
    let heard = peer.hear_answer(1)?;
    assert_eq!(reset_of(&heard, 1), Some(PROTOCOL_ERROR), "{heard:?}");
    assert_eq!(recorder.seen().len(), told.len());
    Ok(())
}

/// What ends the stream or the connection, with which code.
fn code_of(heard: &[Said]) -> Option<u32> {
    goaway_of(heard).or_else(|| reset_of(heard, 1))
}

#[test]
fn a_frame_out_of_place_ends_the_stream_or_the_connection() -> Rigged<()> {
    let front = Front::open()?;
    let put = headers(1, &request("PUT", "/files/x", &[]));
    let whole = headers_only(1, &request("GET", "/public", &[]));
    let cases: [(&str, Vec<u8>, &[u32]); 6] = [
        // MadeYouReset (CVE-2025-8671) begins with these: the proxy is made to reset what it serves.
        (
            "a window of nothing, of a stream",
            [put.clone(), window(1, 0)].concat(),
            &[PROTOCOL_ERROR],
        ),
        (
            "a window of nothing, of all",
            window(0, 0),
            &[PROTOCOL_ERROR],
        ),
        (
            "a body behind its end",
            [whole.clone(), last_data(1, b"more")].concat(),
            &[STREAM_CLOSED, PROTOCOL_ERROR],
        ),
        (
            "a head behind the end",
            [whole, frame(HEADERS, 5, 1, &literal(&[("x-a", "b")]))].concat(),
            &[STREAM_CLOSED, PROTOCOL_ERROR],
        ),
        (
            "a priority of four bytes",
            frame(PRIORITY, 0, 1, &[0; 4]),
            &[FRAME_SIZE_ERROR, PROTOCOL_ERROR],
        ),
        (
            "a reset of three bytes",
            [put, frame(RST_STREAM, 0, 1, &[0; 3])].concat(),
            &[FRAME_SIZE_ERROR, PROTOCOL_ERROR],
        ),
    ];
    for (what, bytes, codes) in &cases {
        let mut peer = Peer::greet(&front, &[])?;
        peer.say(&[bytes])?;
        let heard = peer.hear_until(|said| {
            matches!(said, Said::End) || code_of(std::slice::from_ref(said)).is_some()
        })?;
        let code = code_of(&heard);
        assert!(
            code.is_some_and(|code| codes.contains(&code)),
            "{what}: {code:?} in {heard:?}"
        );
    }
    let heard = front.heard()?;
    assert!(
        heard.iter().all(|line| line == "GET /public HTTP/1.1"),
        "{heard:?}"
    );
    Ok(())
}
