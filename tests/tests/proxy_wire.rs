//! Exact bytes against the request parser: what has more than one reading is refused, the
//! connection is closed, and the upstream never hears of it.

use portcullis_tests::{
    front::Front,
    ground::Ground,
    run::Rigged,
    wire::{assert_all_refused, assert_refused, get},
};

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
        (&with("X-A : 1\r\n"), 400, "space_before_colon"),
        (&with(" X-A: 1\r\n"), 400, "folded_field"),
        (&with("X-A: 1\r\n folded\r\n"), 400, "folded_field"),
        (&with("X-A: a\0b\r\n"), 400, "control_in_field"),
        (&with("X-A: a\rb\r\n"), 400, "bare_cr"),
        (&with("X A: 1\r\n"), 400, "field_name_invalid"),
        (&with("X(A): 1\r\n"), 400, "field_name_invalid"),
        (&with("X-A\r\n"), 400, "field_name_invalid"),
        (&with(": 1\r\n"), 400, "field_name_invalid"),
        (
            "GET  /public HTTP/1.1\r\nHost: api.example\r\n\r\n",
            400,
            "request_line_invalid",
        ),
        (
            "GET /public HTTP/1.2\r\nHost: api.example\r\n\r\n",
            400,
            "version_refused",
        ),
        (
            "GET /public HTTP/2.0\r\nHost: api.example\r\n\r\n",
            400,
            "version_refused",
        ),
        ("GET /public\r\n\r\n", 400, "request_line_invalid"),
        (
            "GET /public x HTTP/1.1\r\nHost: api.example\r\n\r\n",
            400,
            "request_line_invalid",
        ),
        (
            "G(T /public HTTP/1.1\r\nHost: api.example\r\n\r\n",
            400,
            "request_line_invalid",
        ),
        (
            "GET /public HTTP/1.1\nHost: api.example\n\n",
            400,
            "bare_lf",
        ),
        (&with("X-A: 1\nX-B: 2\r\n"), 400, "bare_lf"),
        (
            "\r\nGET /public HTTP/1.1\r\nHost: api.example\r\n\r\n",
            400,
            "empty_line_before_request",
        ),
        ("\u{16}\u{3}\u{1}\r\n\r\n", 400, "request_line_invalid"),
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
    assert_refused(&front, &over, 431, "head_too_long")?;
    let endless = format!("GET /orders/1 HTTP/1.1\r\nX-A: {}", "a".repeat(9_000));
    assert_refused(&front, &endless, 431, "head_too_long")?;
    let many = format!(
        "GET /orders/1 HTTP/1.1\r\nHost: api.example\r\n{}\r\n",
        "a: b\r\n".repeat(200)
    );
    assert_refused(&front, &many, 431, "too_many_fields")?;
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
