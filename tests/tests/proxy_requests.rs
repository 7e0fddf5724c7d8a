//! What a request that is served meets, and what the audit trail says of it: driven with real
//! curl through the real proxy to a real nginx.

use std::{
    collections::BTreeSet,
    fs,
    io::Read as _,
    net::{TcpListener, TcpStream},
    thread,
    time::Duration,
};

use portcullis_tests::{
    front::{Answer, Front},
    ground::{Ground, free_address},
    run::{Rigged, eventually, output},
    scene::HOST,
    scripted::Scripted,
};
use serde_json::Value;

const MEGABYTE: usize = 1024 * 1024;

/// Bytes that don't repeat, so that a lost or doubled piece shows.
fn bytes(count: usize) -> Vec<u8> {
    let mut state = 0x9e37_79b9_u32;
    let next = |state: &mut u32| {
        *state ^= *state << 13;
        *state ^= *state >> 17;
        *state ^= *state << 5;
        state.to_le_bytes()
    };
    (0..count / 4).flat_map(|_| next(&mut state)).collect()
}

fn record_of(front: &Front, answer: &Answer) -> Rigged<Value> {
    front.record_of(answer.field("x-request-id"))
}

/// Status, the record's reason and verdict.
fn assert_refused(front: &Front, answer: &Answer, status: u16, reason: &str) -> Rigged<()> {
    assert_eq!(answer.status, status, "{reason}: {answer:?}");
    let record = record_of(front, answer)?;
    assert_eq!(record["reason"], reason, "{record}");
    assert_eq!(record["verdict"], "deny", "{record}");
    assert_eq!(record["status"], status, "{record}");
    assert_eq!(record["upstream_us"], Value::Null, "{record}");
    Ok(())
}

#[test]
fn http2_and_http1_are_served_as_alpn_chooses() -> Rigged<()> {
    let front = Front::open()?;
    let token = front.token("orders:read")?;
    let bearer = format!("Authorization: Bearer {token}");
    for (option, version, protocol) in [
        ("--http2", "2", "HTTP/2.0"),
        ("--http1.1", "1.1", "HTTP/1.1"),
        ("--no-alpn", "1.1", "HTTP/1.1"),
    ] {
        let answer = front.curl("/orders/7", &[option, "-H", &bearer])?;
        assert_eq!((answer.status, answer.version.as_str()), (200, version));
        assert_eq!(answer.told("uri"), "/orders/7");
        assert_eq!(answer.told("host"), HOST);
        assert_eq!(answer.told("subject"), "alice");
        assert_eq!(answer.told("issuer"), "main");
        assert_eq!(answer.told("scopes"), "orders:read");
        let record = record_of(&front, &answer)?;
        assert_eq!(record["reason"], "permitted");
        assert_eq!(record["protocol"], protocol);
        assert_eq!(record["tls"], "TLSv1_3");
        assert_eq!(record["route"], "orders");
        assert_eq!(record["principal"]["subject"], "alice");
        assert_eq!(record["complete"], true);
        assert_eq!(record["response_bytes"], answer.body.len());
    }
    Ok(())
}

#[test]
fn twenty_megabytes_arrive_byte_for_byte_in_both_directions() -> Rigged<()> {
    let front = Front::open()?;
    let bearer = format!("Authorization: Bearer {}", front.token("files")?);
    let content = bytes(20 * MEGABYTE);
    let source = front.ground.scratch.write("source", &content)?;
    let source = source.display().to_string();
    for (version, name) in [("--http2", "two"), ("--http1.1", "one")] {
        let path = format!("/files/{name}");
        let put = front.curl(&path, &[version, "-H", &bearer, "-T", &source])?;
        assert_eq!(put.status, 201, "{}", put.head);
        let stored = fs::read(front.ground.scratch.join("files").join(name))?;
        assert!(stored == content, "{name}: {} bytes", stored.len());
        let record = record_of(&front, &put)?;
        assert_eq!(record["request_bytes"], content.len(), "{record}");
        assert_eq!(record["complete"], true, "{record}");

        let got = front.curl(&path, &[version, "-H", &bearer])?;
        assert_eq!(got.status, 200, "{}", got.head);
        assert!(got.body == content, "{name}: {} bytes", got.body.len());
        let record = record_of(&front, &got)?;
        assert_eq!(record["response_bytes"], content.len(), "{record}");
        assert_eq!(record["request_bytes"], 0, "{record}");
        assert_eq!(record["complete"], true, "{record}");
    }
    Ok(())
}

#[test]
fn a_body_of_unknown_length_is_passed_on_chunked() -> Rigged<()> {
    let front = Front::open()?;
    let bearer = format!("Authorization: Bearer {}", front.token("files")?);
    let content = bytes(MEGABYTE);
    let source = front.ground.scratch.write("source", &content)?;
    let source = source.display().to_string();
    let chunked = [
        "--http1.1",
        "-H",
        "Transfer-Encoding: chunked",
        "-H",
        &bearer,
    ];
    let put = front.curl("/files/c", &[&chunked[..], &["-T", &source]].concat())?;
    assert_eq!(put.status, 201, "{}", put.head);
    assert!(fs::read(front.ground.scratch.join("files/c"))? == content);
    assert_eq!(record_of(&front, &put)?["request_bytes"], content.len());
    Ok(())
}

#[test]
fn an_unknown_path_host_or_method_is_refused_and_never_sent_on() -> Rigged<()> {
    let front = Front::open()?;
    let bearer = format!("Authorization: Bearer {}", front.token("orders:read")?);
    for (path, args, status, reason) in [
        ("/unknown", vec![], 404, "no_route"),
        ("/", vec![], 404, "no_route"),
        ("/ordersx", vec![], 404, "no_route"),
        ("/public/below", vec![], 404, "no_route"),
        ("/PUBLIC", vec![], 404, "no_route"),
        ("/orders/1", vec!["-H", "Host: localhost"], 404, "no_route"),
        ("/orders/1", vec!["-X", "POST"], 405, "method_not_routed"),
        ("/orders/1", vec!["-X", "DELETE"], 405, "method_not_routed"),
        ("/orders/1", vec!["-I"], 405, "method_not_routed"),
        ("/public", vec!["-X", "PUT"], 405, "method_not_routed"),
    ] {
        for version in ["--http2", "--http1.1"] {
            let args = [&args[..], &[version, "-H", &bearer]].concat();
            assert_refused(&front, &front.curl(path, &args)?, status, reason)?;
        }
    }
    let override_method = [
        "-X",
        "POST",
        "-H",
        "X-HTTP-Method-Override: GET",
        "-H",
        &bearer,
    ];
    let answer = front.curl("/orders/1", &override_method)?;
    assert_refused(&front, &answer, 405, "method_not_routed")?;
    assert_eq!(front.heard()?, [""; 0]);
    Ok(())
}

#[test]
fn a_token_without_the_scope_is_refused_and_never_sent_on() -> Rigged<()> {
    let front = Front::open()?;
    for scopes in [
        "",
        "orders",
        "orders:rea",
        "ORDERS:READ",
        "files orders:write",
    ] {
        let answer = front.get("/orders/1", &front.token(scopes)?)?;
        assert_refused(&front, &answer, 403, "scope_missing")?;
        let challenge = answer.field("www-authenticate");
        assert_eq!(
            challenge,
            Some(
                "Bearer realm=\"api.example\", error=\"insufficient_scope\", scope=\"orders:read\""
            )
        );
    }
    assert_eq!(front.heard()?, [""; 0]);
    Ok(())
}

#[test]
fn the_query_travels_untouched_and_is_no_part_of_routing() -> Rigged<()> {
    let front = Front::open()?;
    let token = front.token("orders:read")?;
    let target = "/orders/1?next=/unknown/../%2e%2e//a%2fb&a=%00&&b?c";
    let answer = front.get(target, &token)?;
    assert_eq!(answer.status, 200, "{}", answer.head);
    assert_eq!(answer.told("uri"), target);
    assert_eq!(record_of(&front, &answer)?["path"], "/orders/1");
    let elsewhere = front.get("/unknown?/orders/1", &token)?;
    assert_refused(&front, &elsewhere, 404, "no_route")?;
    assert_eq!(front.heard()?, [format!("GET {target} HTTP/1.1")]);
    Ok(())
}

#[test]
fn the_upstream_gets_the_path_that_was_judged() -> Rigged<()> {
    let front = Front::open()?;
    let token = front.token("orders:read")?;
    let answer = front.get("/%6frders/%7euser/b%c3%bc", &token)?;
    assert_eq!(answer.told("uri"), "/orders/~user/b%C3%BC");
    assert_eq!(record_of(&front, &answer)?["path"], "/orders/~user/b%C3%BC");
    Ok(())
}

#[test]
fn head_is_answered_without_a_body_and_recorded_as_complete() -> Rigged<()> {
    let front = Front::open()?;
    for version in ["--http2", "--http1.1"] {
        let answer = front.curl("/public", &["-I", version])?;
        assert_eq!(answer.status, 200, "{}", answer.head);
        assert!(answer.field("content-length").is_some(), "{}", answer.head);
        let record = record_of(&front, &answer)?;
        assert_eq!(record["method"], "HEAD");
        assert_eq!(record["response_bytes"], 0);
        assert_eq!(record["complete"], true, "{record}");
    }
    let line = "HEAD /public HTTP/1.1";
    assert_eq!(front.heard()?, [line, line]);
    Ok(())
}

#[test]
fn one_decision_id_names_the_request_to_client_upstream_and_audit() -> Rigged<()> {
    let front = Front::open()?;
    let answer = front.curl("/public", &["-H", "X-Request-Id: mine"])?;
    let id = answer.field("x-request-id").unwrap_or_default();
    assert_eq!(id.len(), 32, "{id}");
    assert_eq!(answer.told("request_id"), id);
    assert_eq!(record_of(&front, &answer)?["reason"], "permitted");
    Ok(())
}

#[test]
fn every_request_has_exactly_one_record() -> Rigged<()> {
    let front = Front::open()?;
    let urls: Vec<String> = (0..20)
        .map(|n| front.url(if n % 2 == 0 { "/public" } else { "/orders/1" }))
        .collect();
    for version in ["--http2", "--http1.1"] {
        let mut curl = front.curl_command();
        curl.args([version, "--parallel"]).args(&urls);
        output(&mut curl)?;
    }
    let requests = || {
        let records = front.audit().into_iter();
        records
            .filter(|r| r["kind"] == "request")
            .collect::<Vec<_>>()
    };
    let enough = || (requests().len() >= 40).then_some(());
    eventually("forty records", Duration::from_secs(5), enough)?;
    // A request more, so that a late double of the forty would be there before its record.
    let last = front.curl("/public", &[])?;
    record_of(&front, &last)?;
    let records = requests();
    let ids: BTreeSet<String> = records
        .iter()
        .map(|r| r["decision_id"].to_string())
        .collect();
    assert_eq!((records.len(), ids.len()), (41, 41));
    let count = |reason: &str| records.iter().filter(|r| r["reason"] == reason).count();
    assert_eq!((count("permitted"), count("token_missing")), (21, 20));
    Ok(())
}

#[test]
fn two_requests_use_one_connection_to_the_upstream() -> Rigged<()> {
    // Each worker keeps its own.
    let front = Ground::set()?
        .alter("[admin]", "[runtime]\nworkers = 1\n\n[admin]")?
        .start()?;
    let first = front.curl("/public", &[])?;
    let second = front.curl("/public", &[])?;
    assert_eq!(first.status, 200);
    assert_eq!(first.told("connection"), second.told("connection"));
    Ok(())
}

#[test]
fn an_upstream_that_is_down_is_502() -> Rigged<()> {
    let nobody = free_address()?;
    let front = Ground::set()?.with_upstream(nobody)?.start()?;
    let answer = front.curl("/public", &[])?;
    assert_refused_by_upstream(&front, &answer, 502, "upstream_unreachable")
}

#[test]
fn an_upstream_that_does_not_answer_in_time_is_504() -> Rigged<()> {
    let silent = TcpListener::bind(("127.0.0.1", 0))?;
    let front = Ground::set()?
        .with_upstream(silent.local_addr()?)?
        .add("name = \"app\"", "response_timeout = \"300ms\"")?
        .start()?;
    let answer = front.curl("/public", &[])?;
    assert_refused_by_upstream(&front, &answer, 504, "upstream_timeout")
}

#[test]
fn an_upstream_that_talks_nonsense_or_hangs_up_is_502() -> Rigged<()> {
    for nonsense in [&b"220 mail.example ESMTP\r\n\r\n"[..], b""] {
        let listener = TcpListener::bind(("127.0.0.1", 0))?;
        let front = Ground::set()?
            .with_upstream(listener.local_addr()?)?
            .start()?;
        let upstream = thread::spawn(move || answer_one(&listener, nonsense));
        let answer = front.curl("/public", &[])?;
        assert_refused_by_upstream(&front, &answer, 502, "upstream_broken")?;
        assert!(upstream.join().is_ok_and(|answered| answered.is_ok()));
    }
    Ok(())
}

#[test]
fn an_upgrade_that_nobody_asked_for_is_no_tunnel() -> Rigged<()> {
    let listener = TcpListener::bind(("127.0.0.1", 0))?;
    let front = Ground::set()?
        .with_upstream(listener.local_addr()?)?
        .start()?;
    let switching =
        b"HTTP/1.1 101 Switching Protocols\r\nConnection: upgrade\r\nUpgrade: x\r\n\r\n";
    let upstream = thread::spawn(move || answer_one(&listener, switching));
    let answer = front.curl(
        "/public",
        &["--http1.1", "-H", "Connection: upgrade", "-H", "Upgrade: x"],
    )?;
    assert_eq!(answer.status, 502, "{}", answer.head);
    assert_eq!(record_of(&front, &answer)?["status"], 502);
    let heard = upstream.join().expect("no panic")?;
    assert!(!heard.to_lowercase().contains("upgrade"), "{heard}");
    Ok(())
}

#[test]
fn an_answer_that_breaks_off_is_recorded_as_incomplete() -> Rigged<()> {
    let listener = TcpListener::bind(("127.0.0.1", 0))?;
    let front = Ground::set()?
        .with_upstream(listener.local_addr()?)?
        .start()?;
    let short = b"HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\nhalf";
    let upstream = thread::spawn(move || answer_one(&listener, short));
    front.curl("/public", &[])?;
    let record = front.audited("the request", |line| line["kind"] == "request")?;
    assert_eq!(record["complete"], false, "{record}");
    assert_eq!(record["response_bytes"], 4, "{record}");
    assert!(upstream.join().is_ok());
    Ok(())
}

#[test]
fn a_client_that_goes_away_in_mid_answer_is_recorded_as_incomplete() -> Rigged<()> {
    let front = Front::open()?;
    fs::write(
        front.ground.scratch.join("files/large"),
        bytes(40 * MEGABYTE),
    )?;
    let bearer = format!("Authorization: Bearer {}", front.token("files")?);
    for (version, protocol) in [("--http2", "HTTP/2.0"), ("--http1.1", "HTTP/1.1")] {
        let slow = ["--limit-rate", "100k", "--max-time", "0.5", version];
        front.curl("/files/large", &[&slow[..], &["-H", &bearer]].concat())?;
        let record = front.audited("the request", |line| line["protocol"] == protocol)?;
        assert_eq!(record["reason"], "permitted", "{record}");
        assert_eq!(record["complete"], false, "{record}");
        let sent = record["response_bytes"].as_u64().unwrap_or(u64::MAX);
        assert!(sent < 40 * MEGABYTE as u64, "{record}");
    }
    Ok(())
}

fn assert_refused_by_upstream(
    front: &Front,
    answer: &Answer,
    status: u16,
    reason: &str,
) -> Rigged<()> {
    assert_eq!(answer.status, status, "{}", answer.head);
    let record = record_of(front, answer)?;
    assert_eq!(record["reason"], reason, "{record}");
    // It was permitted; that nobody was at home is another matter.
    assert_eq!(record["verdict"], "permit", "{record}");
    assert_eq!(record["status"], status, "{record}");
    assert_eq!(record["complete"], true, "{record}");
    Ok(())
}

/// Takes one connection, reads a request head, says `answer` and hangs up; returns the head.
fn answer_one(listener: &TcpListener, answer: &[u8]) -> std::io::Result<String> {
    let (mut stream, _) = listener.accept()?;
    let head = read_head(&mut stream)?;
    std::io::Write::write_all(&mut stream, answer)?;
    Ok(head)
}

fn read_head(stream: &mut TcpStream) -> std::io::Result<String> {
    let mut head = Vec::new();
    let mut byte = [0];
    while !head.ends_with(b"\r\n\r\n") && stream.read(&mut byte)? == 1 {
        head.push(byte[0]);
    }
    Ok(String::from_utf8_lossy(&head).into_owned())
}

/// Over HTTP/1.1, where the end of the connection is the end of the body, and where nobody waits for the answer.
#[test]
fn a_client_that_leaves_before_its_answer_is_recorded_as_gone() -> Rigged<()> {
    let upstream = Scripted::start(|_, _| {
        thread::sleep(Duration::from_secs(5));
        Ok(false)
    })?;
    let front = Ground::set()?.with_upstream(upstream.address())?.start()?;
    for (args, reason) in [
        (&["--max-time", "1"][..], "client_gone"),
        (
            &[
                "--max-time",
                "1",
                "-H",
                "Content-Length: 9",
                "--data",
                "hello",
            ],
            "request_body_broken",
        ),
    ] {
        for version in ["--http1.1", "--http2"] {
            let before = front.audit().len();
            front.curl("/public", &[&[version], args].concat())?;
            // The connection may have a record of its own, before or behind.
            let record = front.audited(reason, |line| {
                let sequence = line["sequence"].as_u64();
                line["kind"] == "request" && sequence >= Some(before as u64)
            })?;
            assert_eq!(record["reason"], reason, "{version}: {record}");
            assert_eq!(record["verdict"], "permit", "{version}: {record}");
        }
    }
    Ok(())
}
