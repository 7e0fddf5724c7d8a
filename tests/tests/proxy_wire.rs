//! Exact bytes against the request parser: what has more than one reading is refused, the
//! connection is closed, and the upstream never hears of it.

use std::time::Duration;

use portcullis_tests::{
    front::{Front, RawAnswer},
    ground::Ground,
    run::{Rigged, eventually},
};

/// What the audit trail calls a head that the HTTP library could not read.
const MALFORMED: &str = "http_malformed";

fn malformed_connections(front: &Front) -> usize {
    let trail = front.audit();
    trail
        .iter()
        .filter(|line| line["reason"] == MALFORMED)
        .count()
}

/// Refused with this status, closed, and recorded with this reason.
fn assert_refused(front: &Front, bytes: &str, status: u16, reason: &str) -> Rigged<()> {
    let malformed = malformed_connections(front);
    let answer = front.raw(bytes.as_bytes())?;
    assert_eq!(answer.status(), status, "{bytes:?}: {answer:?}");
    assert!(answer.closed, "{bytes:?}: {answer:?}");
    if reason == MALFORMED {
        eventually("a record of the connection", Duration::from_secs(5), || {
            (malformed_connections(front) == malformed + 1).then_some(())
        })?;
        return Ok(());
    }
    let record = front.record_of(answer.decision())?;
    assert_eq!(record["reason"], reason, "{bytes:?}: {record}");
    assert_eq!(record["verdict"], "deny", "{bytes:?}: {record}");
    assert_eq!(record["status"], status, "{bytes:?}: {record}");
    Ok(())
}

fn assert_all_refused(cases: &[(&str, u16, &str)]) -> Rigged<()> {
    let front = Front::open()?;
    for (bytes, status, reason) in cases {
        assert_refused(&front, bytes, *status, reason)?;
    }
    assert_eq!(front.heard()?, [""; 0]);
    Ok(())
}

/// A POST to the public route with these lines after Host, and this body.
fn post(lines: &str, body: &str) -> String {
    format!("POST /public HTTP/1.1\r\nHost: api.example\r\n{lines}\r\n{body}")
}

/// A GET of this target.
fn get(target: &str) -> String {
    format!("GET {target} HTTP/1.1\r\nHost: api.example\r\n\r\n")
}

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
            MALFORMED,
        ),
        (&with("Content-Length: 5, 5\r\n"), 400, MALFORMED),
        (&with("Content-Length: 5, 6\r\n"), 400, MALFORMED),
        (&with("Content-Length: \r\n"), 400, MALFORMED),
        (&with("Content-Length:\r\n"), 400, MALFORMED),
        (&with("Content-Length: +5\r\n"), 400, MALFORMED),
        (&with("Content-Length: -1\r\n"), 400, MALFORMED),
        (&with("Content-Length: 0x5\r\n"), 400, MALFORMED),
        (&with("Content-Length: 5_0\r\n"), 400, MALFORMED),
        (&with("Content-Length: 5 5\r\n"), 400, MALFORMED),
        (
            &with("Content-Length: 99999999999999999999\r\n"),
            400,
            MALFORMED,
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
        (&with("xchunked"), 400, MALFORMED),
        (&with("identity"), 400, MALFORMED),
        (&with("chunked, identity"), 400, MALFORMED),
        (&with("chunkedx"), 400, MALFORMED),
        (&with("\"chunked\""), 400, MALFORMED),
        (&with("\u{b}chunked"), 400, MALFORMED),
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
            MALFORMED,
        ),
        (&with("\r\n chunked"), 400, MALFORMED),
        (&old, 400, MALFORMED),
    ])
}

#[test]
fn exactly_one_host_is_asked_for() -> Rigged<()> {
    let with = |lines: &str| format!("GET /public HTTP/1.1\r\n{lines}\r\n");
    assert_all_refused(&[
        (&with(""), 400, "host_missing"),
        (
            &with("Host: api.example\r\nHost: api.example\r\n"),
            400,
            "host_repeated",
        ),
        (
            &with("Host: api.example\r\nhost: other.example\r\n"),
            400,
            "host_repeated",
        ),
        (
            &with("Host: api.example, api.example\r\n"),
            400,
            "host_invalid",
        ),
        (&with("Host: \r\n"), 400, "host_invalid"),
        (&with("Host: api.example:\r\n"), 400, "host_invalid"),
        (&with("Host: api.example:x\r\n"), 400, "host_invalid"),
        (&with("Host: api.example/public\r\n"), 400, "host_invalid"),
        (
            &with("Host: x@api.example\r\n"),
            400,
            "userinfo_in_authority",
        ),
        ("GET /public HTTP/1.0\r\n\r\n", 400, "host_missing"),
        (
            "GET https://other.example/public HTTP/1.1\r\nHost: api.example\r\n\r\n",
            400,
            "host_conflict",
        ),
        (
            "GET https://api.example/public HTTP/1.1\r\nHost: other.example\r\n\r\n",
            400,
            "host_conflict",
        ),
        (
            "GET https://api.example/public HTTP/1.1\r\n\r\n",
            400,
            "host_missing",
        ),
    ])
}

#[test]
fn one_host_in_other_spellings_is_served() -> Rigged<()> {
    let front = Front::open()?;
    for (target, host) in [
        ("/public", "API.Example"),
        ("/public", "api.example."),
        ("/public", "api.example:8443"),
        ("https://api.example/public", "api.example"),
        ("https://API.example:8443/public", "api.example"),
    ] {
        let bytes = format!("GET {target} HTTP/1.1\r\nHost: {host}\r\nConnection: close\r\n\r\n");
        let answer = front.raw(bytes.as_bytes())?;
        assert_eq!(answer.status(), 200, "{bytes:?}: {answer:?}");
        assert!(answer.text.contains("\nhost=api.example\n"), "{answer:?}");
        assert!(answer.text.contains("uri=/public\n"), "{answer:?}");
    }
    Ok(())
}

#[test]
fn a_head_that_breaks_the_grammar_is_refused() -> Rigged<()> {
    let with = |lines: &str| format!("GET /public HTTP/1.1\r\nHost: api.example\r\n{lines}\r\n");
    assert_all_refused(&[
        (&with("X-A : 1\r\n"), 400, MALFORMED),
        (&with(" X-A: 1\r\n"), 400, MALFORMED),
        (&with("X-A: 1\r\n folded\r\n"), 400, MALFORMED),
        (&with("X-A: a\0b\r\n"), 400, MALFORMED),
        (&with("X-A: a\rb\r\n"), 400, MALFORMED),
        (&with("X A: 1\r\n"), 400, MALFORMED),
        (&with("X(A): 1\r\n"), 400, MALFORMED),
        (&with("X-A\r\n"), 400, MALFORMED),
        (&with(": 1\r\n"), 400, MALFORMED),
        (
            "GET  /public HTTP/1.1\r\nHost: api.example\r\n\r\n",
            400,
            MALFORMED,
        ),
        (
            "GET /public HTTP/1.2\r\nHost: api.example\r\n\r\n",
            400,
            MALFORMED,
        ),
        (
            "GET /public HTTP/2.0\r\nHost: api.example\r\n\r\n",
            400,
            MALFORMED,
        ),
        ("GET /public\r\n\r\n", 400, MALFORMED),
        (
            "GET /public x HTTP/1.1\r\nHost: api.example\r\n\r\n",
            400,
            MALFORMED,
        ),
        (
            "G(T /public HTTP/1.1\r\nHost: api.example\r\n\r\n",
            400,
            MALFORMED,
        ),
        ("\u{16}\u{3}\u{1}\r\n\r\n", 400, MALFORMED),
    ])
}

#[test]
fn methods_that_are_never_routed_are_405() -> Rigged<()> {
    let with = |line: &str| format!("{line} HTTP/1.1\r\nHost: api.example\r\n\r\n");
    assert_all_refused(&[
        (&with("CONNECT api.example:443"), 405, "method_refused"),
        (&with("TRACE /public"), 405, "method_refused"),
        (&with("get /public"), 405, "method_refused"),
        (&with("Get /public"), 405, "method_refused"),
    ])
}

#[test]
fn a_path_with_two_readings_is_refused() -> Rigged<()> {
    let cases = [
        ("//public", "path_empty_segment"),
        ("//admin", "path_empty_segment"),
        ("/public//", "path_empty_segment"),
        ("/orders%2fpublic", "path_encoded_slash"),
        ("/orders/..%2Fpublic", "path_encoded_slash"),
        ("/orders%5cpublic", "path_backslash"),
        ("/orders\\..\\public", "path_backslash"),
        ("/public%00", "path_encoded_control"),
        ("/public%0d%0aX:1", "path_encoded_control"),
        ("/orders/../public", "path_dot_segment"),
        ("/./public", "path_dot_segment"),
        ("/orders/%2e%2e/public", "path_dot_segment"),
        ("/orders/..;/public", "path_parameter"),
        ("/..;/public", "path_parameter"),
        ("/orders/.;x/public", "path_parameter"),
        ("/%252e%252e/public", "path_double_encoding"),
        ("/%25%32%65/public", "path_double_encoding"),
        ("/%c0%ae%c0%ae/public", "path_invalid_utf8"),
        ("/public%", "path_broken_encoding"),
        ("/public%zz", "path_broken_encoding"),
        ("*", "path_not_absolute"),
    ];
    let front = Front::open()?;
    for (target, reason) in cases {
        assert_refused(&front, &get(target), 400, reason)?;
    }
    assert_eq!(front.heard()?, [""; 0]);
    Ok(())
}

#[test]
fn a_head_above_the_bound_is_refused() -> Rigged<()> {
    let front = Ground::set()?
        .add("[[listener]]", "max_header_bytes = 8192")?
        .start()?;
    let field = format!("X-A: {}\r\n", "a".repeat(1_000));
    let under = format!(
        "GET /public HTTP/1.1\r\nHost: api.example\r\nConnection: close\r\n{}\r\n",
        field.repeat(7)
    );
    assert_eq!(front.raw(under.as_bytes())?.status(), 200);
    let over = format!(
        "GET /orders/1 HTTP/1.1\r\nHost: api.example\r\n{}\r\n",
        field.repeat(9)
    );
    assert_refused(&front, &over, 431, MALFORMED)?;
    let endless = format!("GET /orders/1 HTTP/1.1\r\nX-A: {}", "a".repeat(9_000));
    assert_refused(&front, &endless, 431, MALFORMED)?;
    let many = format!(
        "GET /orders/1 HTTP/1.1\r\nHost: api.example\r\n{}\r\n",
        "a: b\r\n".repeat(200)
    );
    assert_refused(&front, &many, 431, MALFORMED)?;
    assert_eq!(front.heard()?, ["GET /public HTTP/1.1"]);
    Ok(())
}

#[test]
fn a_long_target_is_refused() -> Rigged<()> {
    let front = Front::open()?;
    let path = format!("/orders/{}", "a".repeat(9_000));
    assert_refused(&front, &get(&path), 400, "path_too_long")?;
    let query = format!("/public?{}", "a".repeat(9_000));
    assert_refused(&front, &get(&query), 400, "query_invalid")?;
    assert_eq!(front.heard()?, [""; 0]);
    Ok(())
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
    for size in [
        "0x5",
        "+5",
        "5_",
        "-5",
        " 5",
        "",
        "5\u{b}",
        "fffffffffffffffff",
        "g",
    ] {
        let front = Front::open()?;
        let smuggled = get("/orders/smuggled");
        let chunks = format!("{size}\r\nhello\r\n0\r\n\r\n{smuggled}");
        let answer = front.raw(post("Transfer-Encoding: chunked\r\n", &chunks).as_bytes())?;
        assert!(answer.closed, "{size:?}: {answer:?}");
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

/// RFC 9112, 6.3: what is not refused is read by its chunks, sent on with one framing, and the
/// connection ends with it.
#[test]
fn a_length_beside_an_encoding_does_not_travel_and_ends_the_connection() -> Rigged<()> {
    let smuggled = get("/orders/smuggled");
    for lines in [
        "Content-Length: 5\r\nTransfer-Encoding: chunked\r\n",
        "Transfer-Encoding: chunked\r\nContent-Length: 5\r\n",
    ] {
        let front = Front::open()?;
        let bytes = post(lines, &format!("5\r\nhello\r\n0\r\n\r\n{smuggled}"));
        let answer = front.raw(bytes.as_bytes())?;
        assert!(answer.closed, "{lines:?}: {answer:?}");
        assert_eq!(answer.text.matches("HTTP/1.1 ").count(), 1, "{answer:?}");
        assert!(!answer.text.contains("\nlength=5\n"), "{answer:?}");
        assert_one_request(&front, &answer)?;
        let record = front.record_of(answer.decision())?;
        assert_eq!(record["request_bytes"], 5, "{record}");
    }
    Ok(())
}
