//! Refusals of requests whose bodies nobody reads (CVE-2025-4366): what was sent of one is never a request, and
//! takes nothing from those that follow.

use portcullis_tests::{
    front::Front,
    ground::Ground,
    h2_peer::{
        Peer, Said,
        frame::{data, headers, headers_only, last_data},
        head_on,
        hpack::request,
    },
    run::Rigged,
    wire::get,
};

/// A body that would be a request by itself.
fn smuggled() -> String {
    get("/public").repeat(40)
}

#[test]
fn over_http1_the_connection_goes_on_behind_the_body_or_ends() -> Rigged<()> {
    let front = Ground::set()?
        .alter(
            "methods = [\"GET\", \"HEAD\", \"POST\"]",
            "methods = [\"GET\", \"HEAD\", \"POST\"]\nmax_body_bytes = 1000",
        )?
        .start()?;
    let smuggled = smuggled();
    let length = smuggled.len();
    let chunked =
        format!("Transfer-Encoding: chunked\r\n\r\n{length:x}\r\n{smuggled}\r\n0\r\n\r\n");
    let sized = format!("Content-Length: {length}\r\n\r\n{smuggled}");
    for (method, path, host, status) in [
        ("GET", "/orders", "api.example", 401),
        ("POST", "/orders", "api.example", 405),
        ("DELETE", "/public", "api.example", 405),
        ("POST", "/public", "api.example", 413),
        ("POST", "/public", "other.example", 421),
    ] {
        for body in [&sized, &chunked] {
            let bytes = format!(
                "{method} {path} HTTP/1.1\r\nHost: {host}\r\n{body}GET /last HTTP/1.1\r\nHost: api.example\r\nConnection: close\r\n\r\n"
            );
            let answer = front.raw(bytes.as_bytes())?;
            let statuses: Vec<&str> = answer
                .text
                .lines()
                .filter_map(|line| line.strip_prefix("HTTP/1.1 "))
                .filter_map(|rest| rest.get(..3))
                .collect();
            let due = status.to_string();
            let allowed = [vec![due.as_str()], vec![due.as_str(), "404"]];
            assert!(
                answer.closed && allowed.contains(&statuses),
                "{method} {path} at {host}: {statuses:?}"
            );
        }
    }
    assert_eq!(front.heard()?, [""; 0]);
    Ok(())
}

#[test]
fn over_http2_the_window_comes_back_for_the_next_stream() -> Rigged<()> {
    let front = Front::open()?;
    let token = format!("Bearer {}", front.token("files")?);
    let mut peer = Peer::greet(&front, &[])?;
    let part = vec![b'x'; 16_000];
    // Together twice the connection's window, none of which is read.
    for at in 0..40 {
        let stream = 1 + 2 * at;
        let (method, path) = if at % 2 == 0 {
            ("PUT", "/files/unwanted")
        } else {
            ("POST", "/nowhere")
        };
        peer.say(&[
            &headers(stream, &request(method, path, &[])),
            &last_data(stream, &part),
        ])?;
        let heard = peer.hear_answer(stream)?;
        let status = head_on(&heard, stream).and_then(|head| head.status);
        let due = if at % 2 == 0 { 401 } else { 404 };
        assert_eq!(status, Some(due), "{heard:?}");
    }
    let stream = 1 + 2 * 40;
    let put = request("PUT", "/files/wanted", &[("authorization", token.as_str())]);
    peer.say(&[
        &headers(stream, &put),
        &data(stream, &part),
        &last_data(stream, &part),
    ])?;
    let heard = peer.hear_answer(stream)?;
    let status = head_on(&heard, stream).and_then(|head| head.status);
    assert_eq!(status, Some(201), "{heard:?}");
    assert!(!heard.contains(&Said::End));
    assert_eq!(front.heard()?, ["PUT /files/wanted HTTP/1.1"]);
    let wanted = front.ground.scratch.join("files/wanted");
    assert_eq!(std::fs::metadata(wanted)?.len(), 32_000);
    Ok(())
}

#[test]
fn a_body_that_is_only_sent_on_request_is_not_waited_for() -> Rigged<()> {
    let front = Front::open()?;
    // Refused before: no 100, and what comes next is no body.
    for expect in [
        "100-continue",
        "100-Continue",
        "100-continue, other",
        "other",
        "",
    ] {
        let bytes = format!(
            "POST /orders/1 HTTP/1.1\r\nHost: api.example\r\nExpect: {expect}\r\nContent-Length: 5\r\n\r\n"
        );
        let answer = front.raw(format!("{bytes}{}", get("/public")).as_bytes())?;
        assert!(
            !answer.text.contains("HTTP/1.1 100"),
            "{expect}: {answer:?}"
        );
        assert!(
            answer.closed && !answer.text.contains("HTTP/1.1 200"),
            "{expect}: {answer:?}"
        );
    }
    assert_eq!(front.heard()?, [""; 0]);
    // And wanted: asked for, and sent on whole.
    let answer = front.raw(
        b"POST /public HTTP/1.1\r\nHost: api.example\r\nExpect: 100-continue\r\nConnection: close\r\nContent-Length: 5\r\n\r\nhello",
    )?;
    assert!(answer.text.contains("HTTP/1.1 200"), "{answer:?}");
    let mut peer = Peer::greet(&front, &[])?;
    peer.say(&[&headers_only(
        1,
        &request("GET", "/orders/1", &[("expect", "100-continue")]),
    )])?;
    let heard = peer.hear_answer(1)?;
    assert_eq!(
        head_on(&heard, 1).and_then(|head| head.status),
        Some(401),
        "{heard:?}"
    );
    Ok(())
}
