//! HTTP/2 messages that have no reading or more than one: refused by name, recorded, and never heard by the
//! upstream. What the HTTP library refuses by itself it answers with an error of the stream or of the
//! connection, and the trail has a record of the connection.

use portcullis_tests::{
    front::Front,
    h2_peer::{
        Peer, Said,
        fate::{
            Fate::{ConnectionError, Refused, StreamError},
            assert_refused,
        },
        frame::{
            HEADERS, PROTOCOL_ERROR, data, frame, headers, headers_only, last_data, ping, window,
        },
        head_on,
        hpack::{indexed, literal, request},
        reset_of,
    },
    run::Rigged,
};

const METHOD: (&str, &str) = (":method", "GET");
const SCHEME: (&str, &str) = (":scheme", "https");
const AUTHORITY: (&str, &str) = (":authority", "api.example");
const PATH: (&str, &str) = (":path", "/public");

/// A request of these fields alone.
fn of(fields: &[(&str, &str)]) -> Vec<u8> {
    headers_only(1, &literal(fields))
}

/// A good request with these fields besides.
fn with(fields: &[(&str, &str)]) -> Vec<u8> {
    headers_only(1, &request("GET", "/public", fields))
}

/// A good request, but for its path.
fn to(path: &str) -> Vec<u8> {
    headers_only(1, &request("GET", path, &[]))
}

/// A POST with these fields besides, and what follows them.
fn post(fields: &[(&str, &str)], rest: &[u8]) -> Vec<u8> {
    [&headers(1, &request("POST", "/public", fields))[..], rest].concat()
}

#[test]
fn fields_about_a_connection_are_refused() -> Rigged<()> {
    assert_refused(&[
        (with(&[("connection", "close")]), StreamError),
        (with(&[("connection", "x-portcullis-subject")]), StreamError),
        (with(&[("transfer-encoding", "chunked")]), StreamError),
        (with(&[("upgrade", "h2c")]), StreamError),
        (with(&[("keep-alive", "timeout=5")]), StreamError),
        (with(&[("proxy-connection", "close")]), StreamError),
        (with(&[("te", "gzip")]), StreamError),
        (with(&[("te", "trailers, gzip")]), StreamError),
        (
            post(
                &[("transfer-encoding", "chunked")],
                &last_data(1, b"0\r\n\r\n"),
            ),
            StreamError,
        ),
    ])
}

#[test]
fn names_and_values_that_no_field_has_are_refused() -> Rigged<()> {
    assert_refused(&[
        (with(&[("X-A", "b")]), ConnectionError),
        (with(&[("x a", "b")]), ConnectionError),
        (with(&[("x:a", "b")]), ConnectionError),
        (with(&[("", "b")]), ConnectionError),
        (with(&[("x-a", "a\rb")]), ConnectionError),
        (with(&[("x-a", "a\nb")]), ConnectionError),
        (with(&[("x-a", "a\0b")]), ConnectionError),
        (with(&[("x-a", "a\x7fb")]), ConnectionError),
        (
            with(&[("x-a", "b\r\nx-portcullis-subject: root")]),
            ConnectionError,
        ),
        (with(&[("x-a", " b")]), Refused(400, "field_value_invalid")),
        (with(&[("x-a", "b\t")]), Refused(400, "field_value_invalid")),
        (with(&[("a", "b"); 101]), Refused(431, "too_many_fields")),
    ])
}

#[test]
fn pseudo_header_fields_stand_once_and_first_and_are_those_of_requests() -> Rigged<()> {
    assert_refused(&[
        (of(&[SCHEME, AUTHORITY, PATH]), StreamError),
        (of(&[METHOD, AUTHORITY, PATH]), StreamError),
        (of(&[METHOD, SCHEME, AUTHORITY]), StreamError),
        (of(&[METHOD, SCHEME, PATH]), Refused(400, "host_missing")),
        (
            of(&[METHOD, SCHEME, ("host", "api.example")]),
            Refused(400, "path_not_absolute"),
        ),
        (of(&[METHOD, METHOD, SCHEME, AUTHORITY, PATH]), StreamError),
        (
            of(&[METHOD, SCHEME, AUTHORITY, AUTHORITY, PATH]),
            StreamError,
        ),
        (
            of(&[METHOD, SCHEME, AUTHORITY, PATH, (":path", "/orders/1")]),
            StreamError,
        ),
        (
            of(&[METHOD, SCHEME, AUTHORITY, ("x-a", "b"), PATH]),
            StreamError,
        ),
        (with(&[(":path", "/orders/1")]), StreamError),
        (with(&[(":status", "200")]), StreamError),
        (with(&[(":protocol", "websocket")]), StreamError),
        (with(&[(":unknown", "b")]), ConnectionError),
        (
            of(&[("", "b"), METHOD, SCHEME, AUTHORITY, PATH]),
            ConnectionError,
        ),
    ])
}

#[test]
fn a_method_that_is_no_word_in_upper_case_is_refused() -> Rigged<()> {
    let by = |method| headers_only(1, &request(method, "/public", &[]));
    let authority = (":authority", "api.example:443");
    assert_refused(&[
        (by(""), ConnectionError),
        (by("GET /orders/1"), ConnectionError),
        (by("get"), Refused(405, "method_refused")),
        (by("TRACE"), Refused(405, "method_refused")),
        (
            of(&[(":method", "CONNECT"), authority]),
            Refused(405, "method_refused"),
        ),
        // With a scheme and a path it is no CONNECT; the extended one asks for a WebSocket, which this route has none of.
        (by("CONNECT"), StreamError),
        (
            headers_only(
                1,
                &request("CONNECT", "/public", &[(":protocol", "websocket")]),
            ),
            Refused(400, "websocket_not_routed"),
        ),
    ])
}

#[test]
fn a_scheme_that_is_not_of_the_web_is_refused() -> Rigged<()> {
    let scheme = |scheme| of(&[METHOD, (":scheme", scheme), AUTHORITY, PATH]);
    assert_refused(&[
        (scheme("ftp"), Refused(400, "scheme_refused")),
        (scheme(""), Refused(400, "scheme_refused")),
        (scheme("https://api.example/orders/1?"), StreamError),
        (scheme("https "), StreamError),
    ])
}

#[test]
fn one_host_is_asked_for() -> Rigged<()> {
    let authority = |authority| of(&[METHOD, SCHEME, (":authority", authority), PATH]);
    assert_refused(&[
        (
            with(&[("host", "other.example")]),
            Refused(400, "host_conflict"),
        ),
        (
            with(&[("host", "api.example"), ("host", "api.example")]),
            Refused(400, "host_repeated"),
        ),
        (
            with(&[("host", "api.example"), ("host", "other.example")]),
            Refused(400, "host_repeated"),
        ),
        (authority(""), StreamError),
        (authority("api.example/orders/1"), StreamError),
        (authority("api.example other.example"), StreamError),
        (
            authority("other.example@api.example"),
            Refused(400, "userinfo_in_authority"),
        ),
        (
            authority("other.example"),
            Refused(421, "host_not_certified"),
        ),
    ])
}

/// CVE-2026-33186 and its like.
#[test]
fn a_path_that_is_not_absolute_or_is_more_than_a_path_is_refused() -> Rigged<()> {
    assert_refused(&[
        (to(""), StreamError),
        (to("public"), StreamError),
        (to("orders/1"), StreamError),
        (to("https://api.example/public"), StreamError),
        (to("*"), Refused(400, "path_not_absolute")),
        (to("?a"), Refused(404, "no_route")),
        (
            to("//api.example/public"),
            Refused(400, "path_empty_segment"),
        ),
        (to("/public x"), StreamError),
        (to("/public HTTP/1.1"), StreamError),
        (to("/public?a b"), StreamError),
        (to("/public\r\nX-A: b"), StreamError),
        (to("/public\x01"), StreamError),
        (to("/public\t"), StreamError),
        (to("/public\x7f"), StreamError),
        (to("/public?a\x01b"), StreamError),
        (to("/public\\x"), Refused(400, "path_backslash")),
        (to("/public\u{e9}"), Refused(400, "path_illegal_character")),
    ])
}

#[test]
fn a_head_above_the_bound_is_refused_and_recorded() -> Rigged<()> {
    let front = Front::open()?;
    let mut peer = Peer::greet(&front, &[])?;
    peer.say(&[&with(&[("x-a", &"a".repeat(16_200))])])?;
    let heard = peer.hear_answer(1)?;
    let status = head_on(&heard, 1).and_then(|head| head.status);
    assert_eq!(status, Some(431), "{heard:?}");
    // The HTTP library answers this itself: no request was handed over.
    let record = front.audited("a record of it", |line| line["kind"] == "connection")?;
    assert_eq!(record["reason"], "head_too_long", "{record}");
    assert_eq!(front.heard()?, [""; 0]);
    Ok(())
}

/// The HTTP library cuts it off before anybody can see it, so all that is left to ask for is that nobody
/// does: neither a decision nor the upstream.
#[test]
fn a_fragment_is_no_part_of_what_is_judged_and_never_travels() -> Rigged<()> {
    let front = Front::open()?;
    for (path, status) in [
        ("/public#/../orders/1", 200),
        ("/public?a#b", 200),
        ("/orders/1#/public", 401),
        ("#/public", 404),
    ] {
        let mut peer = Peer::greet(&front, &[])?;
        peer.say(&[&to(path)])?;
        let heard = peer.hear_answer(1)?;
        let head = head_on(&heard, 1).cloned().unwrap_or_default();
        assert_eq!(head.status, Some(status), "{path}: {heard:?}");
    }
    assert_eq!(
        front.heard()?,
        ["GET /public HTTP/1.1", "GET /public?a HTTP/1.1"]
    );
    Ok(())
}

/// The library hands it over to nobody, and ends the connection without a word.
#[test]
fn a_connect_with_a_length_ends_the_connection_and_is_recorded() -> Rigged<()> {
    let front = Front::open()?;
    let mut peer = Peer::greet(&front, &[])?;
    let fields = [
        (":method", "CONNECT"),
        (":authority", "api.example:443"),
        ("content-length", "5"),
    ];
    peer.say(&[&headers(1, &literal(&fields)), &last_data(1, b"hello")])?;
    peer.hear_out()?;
    let record = front.audited("a record of it", |line| line["kind"] == "connection")?;
    assert_eq!(record["reason"], "http_malformed", "{record}");
    let detail = record["detail"].as_str().unwrap_or_default();
    assert!(detail.contains("a CONNECT with a length"), "{record}");
    Ok(())
}

#[test]
fn a_length_that_is_not_that_of_the_body_is_refused() -> Rigged<()> {
    let length = |length| ("content-length", length);
    assert_refused(&[
        (with(&[length("5")]), StreamError),
        (post(&[length("+5")], &[]), StreamError),
        (post(&[length("-1")], &[]), StreamError),
        (post(&[length("0x5")], &[]), StreamError),
        (post(&[length("5, 5")], &[]), StreamError),
        (post(&[length("5"), length("6")], &[]), StreamError),
        (post(&[length("99999999999999999999")], &[]), StreamError),
        (
            post(&[length("5"), length("5")], &last_data(1, b"hello")),
            Refused(400, "content_length_invalid"),
        ),
        (
            post(&[length("05")], &last_data(1, b"hello")),
            Refused(400, "content_length_invalid"),
        ),
        (
            post(&[length("")], &last_data(1, b"")),
            Refused(400, "content_length_invalid"),
        ),
    ])
}

/// The head was permitted, so the upstream may have heard the beginning of such a request, but it never
/// hears a whole one.
#[test]
fn a_body_that_breaks_its_length_or_its_trailers_breaks_the_request() -> Rigged<()> {
    let front = Front::open()?;
    let hello = data(1, b"hello");
    let trailers = headers_only(1, &literal(&[("x-a", "b")]));
    for bytes in [
        post(&[("content-length", "3")], &last_data(1, b"hello")),
        post(&[("content-length", "9")], &last_data(1, b"hello")),
        post(
            &[("content-length", "9")],
            &[&hello[..], &trailers].concat(),
        ),
        post(
            &[],
            &[
                &hello[..],
                &headers_only(1, &literal(&[("connection", "a")])),
            ]
            .concat(),
        ),
        // Trailers that don't end the stream.
        post(
            &[],
            &[&hello[..], &headers(1, &literal(&[("x-a", "b")]))].concat(),
        ),
    ] {
        let text = String::from_utf8_lossy(&bytes).into_owned();
        let requests = |front: &Front| {
            let trail = front.audit();
            let broken = |line: &&serde_json::Value| line["reason"] == "request_body_broken";
            trail.iter().filter(broken).count()
        };
        let before = requests(&front);
        let mut peer = Peer::greet(&front, &[])?;
        peer.say(&[&bytes])?;
        let heard = peer.hear_answer(1)?;
        assert_eq!(
            reset_of(&heard, 1),
            Some(PROTOCOL_ERROR),
            "{text:?}: {heard:?}"
        );
        front.audited("the request that broke", |_| requests(&front) > before)?;
    }
    front.audited("the stream's end", |line| {
        line["reason"] == "http_malformed"
    })?;
    assert_eq!(front.heard()?, [""; 0]);
    Ok(())
}

#[test]
fn pseudo_header_fields_in_trailers_never_travel() -> Rigged<()> {
    let front = Front::open()?;
    let token = front.token("orders:read")?;
    let trailers = literal(&[
        (":path", "/orders/1"),
        ("authorization", &format!("Bearer {token}")),
        ("x-portcullis-subject", "root"),
    ]);
    let mut peer = Peer::greet(&front, &[])?;
    let rest = [data(1, b"hello"), headers_only(1, &trailers)].concat();
    peer.say(&[&post(&[], &rest)])?;
    let heard = peer.hear_answer(1)?;
    let said: String = heard
        .iter()
        .filter_map(|said| match said {
            Said::Data { bytes, .. } => Some(String::from_utf8_lossy(bytes)),
            _ => None,
        })
        .collect();
    assert!(
        said.contains(
            "uri=/public
"
        ),
        "{said}"
    );
    assert!(!said.contains("root"), "{said}");
    assert_eq!(front.heard()?, ["POST /public HTTP/1.1"]);
    Ok(())
}

#[test]
fn frames_where_they_have_no_place_end_the_connection() -> Rigged<()> {
    const PUSH_PROMISE: u8 = 0x5;
    let good = request("GET", "/public", &[]);
    assert_refused(&[
        (data(1, b"a"), ConnectionError),
        (headers_only(0, &good), ConnectionError),
        (headers_only(2, &good), ConnectionError),
        (frame(PUSH_PROMISE, 4, 1, &[0, 0, 0, 2]), ConnectionError),
        (window(0, 0), ConnectionError),
        (headers_only(1, &indexed(0)), ConnectionError),
        (headers_only(1, &indexed(100)), ConnectionError),
        // Anything between the parts of a field section.
        (
            [frame(HEADERS, 1, 1, &good), ping()].concat(),
            ConnectionError,
        ),
    ])
}

#[test]
fn a_request_as_it_should_be_is_served() -> Rigged<()> {
    let front = Front::open()?;
    let http = [METHOD, (":scheme", "http"), AUTHORITY, PATH];
    let host = [METHOD, SCHEME, PATH, ("host", "api.example")];
    let requests = [
        with(&[]),
        with(&[("te", "trailers")]),
        with(&[("host", "API.example.:8443")]),
        with(&[("x-a", ""), ("x-b", "a b\tc")]),
        of(&http),
        of(&host),
        post(&[("content-length", "5")], &last_data(1, b"hello")),
        post(&[], &[data(1, b"hel"), last_data(1, b"lo")].concat()),
    ];
    for bytes in &requests {
        let mut peer = Peer::greet(&front, &[])?;
        peer.say(&[bytes])?;
        let heard = peer.hear_answer(1)?;
        let head = head_on(&heard, 1).cloned().unwrap_or_default();
        assert_eq!(head.status, Some(200), "{bytes:?}: {heard:?}");
        let record = front.record_of(head.decision.as_deref())?;
        assert_eq!(record["verdict"], "permit", "{record}");
    }
    assert_eq!(front.heard()?.len(), requests.len());
    Ok(())
}
