//! What a client says of itself, of its tool or of another path opens nothing: the upstream doesn't see the
//! request, or not that.

use std::io::Write as _;

use portcullis_tests::{
    front::{Answer, Front},
    ground::Ground,
    run::Rigged,
    scripted::{Scripted, Seen},
};

const VERSIONS: [&str; 2] = ["--http1.1", "--http2"];

fn ok(_: &Seen, stream: &mut std::net::TcpStream) -> std::io::Result<bool> {
    stream.write_all(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok")?;
    Ok(true)
}

/// `GET path` with these fields over a version.
fn ask(front: &Front, path: &str, version: &str, fields: &[&str]) -> Rigged<Answer> {
    let fields = fields.iter().flat_map(|field| ["-H", field]);
    let args: Vec<&str> = [version].into_iter().chain(fields).collect();
    front.curl(path, &args)
}

fn assert_refused(front: &Front, answer: &Answer, status: u16, reason: &str) -> Rigged<()> {
    assert_eq!(answer.status, status, "{answer:?}");
    let record = front.record_of(answer.field("x-request-id"))?;
    assert_eq!(record["reason"], reason, "{record}");
    assert_eq!(record["verdict"], "deny", "{record}");
    Ok(())
}

#[test]
fn no_tool_is_let_in_by_its_name() -> Rigged<()> {
    let upstream = Scripted::start(ok)?;
    let front = Ground::set()?.with_upstream(upstream.address())?.start()?;
    for agent in [
        "curl/8.0",
        "Mozilla/5.0 (compatible; Googlebot/2.1; +http://www.google.com/bot.html)",
        "kube-probe/1.31",
        "ELB-HealthChecker/2.0",
        "GoogleHC/1.0",
        "Prometheus/2.50",
        "",
    ] {
        for version in VERSIONS {
            // Without a value, curl leaves the field out.
            let field = format!("User-Agent: {agent}");
            let answer = ask(&front, "/orders/1", version, &[&field])?;
            assert_refused(&front, &answer, 401, "token_missing")?;
        }
    }
    assert!(upstream.seen().is_empty(), "{:?}", upstream.seen());
    Ok(())
}

#[test]
fn no_other_path_or_method_is_judged_than_the_one_that_is_asked_for() -> Rigged<()> {
    let upstream = Scripted::start(ok)?;
    let front = Ground::set()?.with_upstream(upstream.address())?.start()?;
    let paths = [
        "X-Forwarded-Uri: /public",
        "X-Forwarded-Prefix: /public",
        "X-Original-URL: /public",
        "X-Rewrite-URL: /public",
        "X-Forwarded-Path: /public",
        "X-Original-URI: /public",
        "X-Envoy-Original-Path: /public",
    ];
    for version in VERSIONS {
        for path in paths {
            let answer = ask(&front, "/orders/1", version, &[path])?;
            assert_refused(&front, &answer, 401, "token_missing")?;
        }
    }
    assert!(upstream.seen().is_empty(), "{:?}", upstream.seen());
    let bearer = format!("Authorization: Bearer {}", front.token("orders:read")?);
    let methods = [
        "X-HTTP-Method-Override: DELETE",
        "X-HTTP-Method: DELETE",
        "X-Method-Override: DELETE",
        "X_HTTP_Method_Override: DELETE",
        "X_HTTP_Method: DELETE",
        "X_Method_Override: DELETE",
    ];
    for version in VERSIONS {
        let answer = ask(
            &front,
            "/orders/1",
            version,
            &[&[&*bearer], &methods[..], &paths[..4]].concat(),
        )?;
        assert_eq!(answer.status, 200, "{answer:?}");
    }
    let seen = upstream.seen();
    assert_eq!(seen.len(), 2);
    for line in seen.iter().flat_map(|seen| &seen.head) {
        let lower = line.to_ascii_lowercase();
        assert!(
            !lower.contains("override") && !lower.contains("delete"),
            "{line}"
        );
        assert!(!lower.contains("/public"), "{line}");
    }
    Ok(())
}

#[test]
fn what_asks_for_another_protocol_stays_here_also_where_a_connection_does_not_name_it() -> Rigged<()>
{
    let upstream = Scripted::start(ok)?;
    let front = Ground::set()?.with_upstream(upstream.address())?.start()?;
    for connection in ["Upgrade, HTTP2-Settings", "Upgrade", "keep-alive"] {
        let fields = [
            &*format!("Connection: {connection}"),
            "Upgrade: h2c",
            "HTTP2-Settings: AAMAAABkAAQAoAAAAAIAAAAA",
        ];
        let answer = ask(&front, "/public", "--http1.1", &fields)?;
        assert_eq!(answer.status, 200, "{answer:?}");
    }
    for line in upstream.seen().iter().flat_map(|seen| &seen.head) {
        let lower = line.to_ascii_lowercase();
        assert!(
            !lower.contains("http2-settings") && !lower.contains("h2c"),
            "{line}"
        );
    }
    Ok(())
}

#[test]
fn nobody_gains_by_what_he_says_of_himself_where_a_token_says_nothing() -> Rigged<()> {
    let upstream = Scripted::start(ok)?;
    let ground = Ground::set()?.with_upstream(upstream.address())?;
    let front = ground
        .alter("scopes = [\"orders:read\"]", "scopes = []")?
        .start()?;
    let bearer = format!("Authorization: Bearer {}", front.token("")?);
    for version in VERSIONS {
        let fields = [
            &*bearer,
            "X-Portcullis-Scopes: admin",
            "X-Portcullis-Issuer: root",
            "X-Portcullis-Subject: root",
            "X_Portcullis_Scopes: admin",
            "X_Portcullis_Subject: root",
            "X-Portcullis-Groups: admins",
        ];
        let answer = ask(&front, "/orders/1", version, &fields)?;
        assert_eq!(answer.status, 200, "{answer:?}");
    }
    let seen = upstream.seen();
    assert_eq!(seen.len(), 2);
    for line in seen.iter().flat_map(|seen| &seen.head) {
        let lower = line.to_ascii_lowercase();
        assert!(
            !lower.contains("root") && !lower.contains("admin"),
            "{line}"
        );
    }
    Ok(())
}

#[test]
fn of_several_lines_of_hops_the_hostile_one_is_judged_wherever_it_stands() -> Rigged<()> {
    let upstream = Scripted::start(ok)?;
    let front = Ground::set()?
        .with_upstream(upstream.address())?
        .add("[[listener]]", "trusted_hops = [\"127.0.0.1\"]")?
        .alter(
            "[admin]",
            "[lists]\nblocked = [\"198.51.100.0/24\"]\n\n[admin]",
        )?
        .start()?;
    for version in VERSIONS {
        // The last one is what the trusted hop saw; what stands before it is the client's word.
        let last = [
            "X-Forwarded-For: 203.0.113.9",
            "X-Forwarded-For: 198.51.100.7",
        ];
        let answer = ask(&front, "/public", version, &last)?;
        assert_refused(&front, &answer, 403, "source_blocked")?;
        let first = [
            "X-Forwarded-For: 198.51.100.7",
            "X-Forwarded-For: 203.0.113.9",
        ];
        let answer = ask(&front, "/public", version, &first)?;
        let record = front.record_of(answer.field("x-request-id"))?;
        assert_eq!(record["client"], "203.0.113.9", "{record}");
    }
    assert_eq!(upstream.seen().len(), 2);
    Ok(())
}

#[test]
fn an_untrusted_peer_is_itself_whatever_it_says() -> Rigged<()> {
    let upstream = Scripted::start(ok)?;
    let front = Ground::set()?.with_upstream(upstream.address())?.start()?;
    front.daemon.ask(&["block", "add", "198.51.100.7"])?;
    for version in VERSIONS {
        let fields = [
            "X-Forwarded-For: 198.51.100.7",
            "Forwarded: for=198.51.100.7",
            "X-Real-IP: 198.51.100.7",
        ];
        let answer = ask(&front, "/public", version, &fields)?;
        assert_eq!(answer.status, 200, "{answer:?}");
        let record = front.record_of(answer.field("x-request-id"))?;
        assert!(record["client"].is_null(), "{record}");
        let peer = record["peer"].as_str().unwrap_or_default();
        assert!(peer.starts_with("127.0.0.1:"), "{record}");
    }
    for line in upstream.seen().iter().flat_map(|seen| &seen.head) {
        assert!(!line.contains("198.51.100.7"), "{line}");
    }
    Ok(())
}

#[test]
fn a_body_of_a_method_that_has_none_is_framed_as_what_it_is() -> Rigged<()> {
    let inner = "GET /orders/smuggled HTTP/1.1\r\nHost: api.example\r\n\r\n";
    for method in ["GET", "HEAD"] {
        let length = format!(
            "{method} /public HTTP/1.1\r\nHost: api.example\r\nContent-Length: {}\r\n\r\n{inner}",
            inner.len()
        );
        let chunked = format!(
            "{method} /public HTTP/1.1\r\nHost: api.example\r\nTransfer-Encoding: chunked\r\n\r\n{:x}\r\n{inner}\r\n0\r\n\r\n",
            inner.len()
        );
        for request in [length, chunked] {
            let upstream = Scripted::start(|seen: &Seen, stream: &mut std::net::TcpStream| {
                let head = seen
                    .head
                    .first()
                    .is_some_and(|line| line.starts_with("HEAD"));
                let body: &[u8] = if head { b"" } else { b"ok" };
                stream.write_all(
                    b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\nConnection: close\r\n\r\n",
                )?;
                stream.write_all(body)?;
                Ok(false)
            })?;
            let front = Ground::set()?.with_upstream(upstream.address())?.start()?;
            let last =
                "GET /public?last HTTP/1.1\r\nHost: api.example\r\nConnection: close\r\n\r\n";
            front.raw((request.clone() + last).as_bytes())?;
            let targets: Vec<String> = upstream
                .seen()
                .iter()
                .filter_map(|seen| seen.head.first().cloned())
                .collect();
            assert!(
                !targets.iter().any(|line| line.contains("smuggled")),
                "{targets:?}"
            );
            assert!(targets.len() <= 2, "{targets:?}");
            let recorded = front.audit();
            let smuggled = recorded
                .iter()
                .any(|line| line["path"] == "/orders/smuggled");
            assert!(!smuggled, "{recorded:?}");
            // Either it was taken as one request with its body, or the connection ended by name.
            let first = front.audited("the first", |line| line["kind"] == "request")?;
            let taken = first["verdict"] == "permit" && targets.len() == 2;
            let ended = first["verdict"] == "deny" && targets.is_empty();
            assert!(taken || ended, "{first} {targets:?} {request}");
        }
    }
    Ok(())
}

#[test]
fn a_target_with_a_fragment_has_no_one_reading() -> Rigged<()> {
    let upstream = Scripted::start(ok)?;
    let front = Ground::set()?.with_upstream(upstream.address())?.start()?;
    for target in [
        "/public#x",
        "/orders/1#/public",
        "/public?q#x",
        "https://api.example/public#x",
    ] {
        let request = format!("GET {target} HTTP/1.1\r\nHost: api.example\r\n\r\n");
        let answer = front.raw(request.as_bytes())?;
        assert_eq!(answer.status(), 400, "{target}");
        let record = front.record_of(answer.decision())?;
        assert_eq!(record["reason"], "request_line_invalid", "{record}");
    }
    assert!(upstream.seen().is_empty(), "{:?}", upstream.seen());
    Ok(())
}

#[test]
fn a_connection_field_names_what_stays_here_whatever_else_it_holds() -> Rigged<()> {
    let upstream = Scripted::start(ok)?;
    let front = Ground::set()?.with_upstream(upstream.address())?.start()?;
    let mut request = b"GET /public HTTP/1.1\r\nHost: api.example\r\nX-Secret: 1\r\nConnection: close, X-Secret, ".to_vec();
    request.extend(b"\xfc\r\n\r\n");
    let answer = front.raw(&request)?;
    assert_eq!(answer.status(), 200);
    for line in upstream.seen().iter().flat_map(|seen| &seen.head) {
        assert!(!line.to_ascii_lowercase().contains("x-secret"), "{line}");
    }
    Ok(())
}
