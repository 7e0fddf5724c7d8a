//! One request gets one verdict: over HTTP/1.1 and HTTP/2, however it is written, and for whichever of many
//! hosts it is.

use std::fmt::Write as _;

use portcullis_tests::{
    front::Front,
    ground::Ground,
    h2_peer::{Peer, frame::headers_only, head_on, hpack::literal},
    pki::Pki,
    run::{RigError, Rigged},
    scene::HOST,
};
use serde_json::Value;

/// What a verdict is.
fn verdict(record: &Value) -> [Value; 5] {
    ["status", "reason", "route", "path", "host"].map(|key| record[key].clone())
}

fn over_http1(front: &Front, host: &str, target: &str, token: &str) -> Rigged<Value> {
    let bytes = format!(
        "GET {target} HTTP/1.1\r\nHost: {host}\r\nAuthorization: Bearer {token}\r\nConnection: close\r\n\r\n"
    );
    let answer = front.raw(bytes.as_bytes())?;
    front.record_of(answer.decision())
}

fn over_http2(front: &Front, host: &str, target: &str, token: &str) -> Rigged<Value> {
    let mut peer = Peer::greet(front, &[])?;
    let bearer = format!("Bearer {token}");
    let fields = literal(&[
        (":method", "GET"),
        (":scheme", "https"),
        (":authority", host),
        (":path", target),
        ("authorization", &bearer),
    ]);
    peer.say(&[&headers_only(1, &fields)])?;
    let heard = peer.hear_answer(1)?;
    let head = head_on(&heard, 1).ok_or_else(|| RigError(format!("{target}: {heard:?}")))?;
    front.record_of(head.decision.as_deref())
}

#[test]
fn a_path_is_read_alike_whatever_carries_it() -> Rigged<()> {
    // Each with what becomes of it: none of them is another way to /orders.
    let targets = [
        ("/orders", 200, "permitted"),
        ("/%6frders/7", 200, "permitted"),
        ("/orders/7?path=/../admin", 200, "permitted"),
        ("/ORDERS", 404, "no_route"),
        ("//orders", 400, "path_empty_segment"),
        ("/orders//7", 400, "path_empty_segment"),
        ("/public/../orders", 400, "path_dot_segment"),
        ("/orders/../public", 400, "path_dot_segment"),
        ("/orders%2e%2e/1", 404, "no_route"),
        ("/orders/%2e%2e/public", 400, "path_dot_segment"),
        ("/orders/.%2E/public", 400, "path_dot_segment"),
        ("/public/..%2forders", 400, "path_dot_segment"),
        ("/public%2f..%2forders", 400, "path_dot_segment"),
        ("/orders/;/../public", 400, "path_dot_segment"),
        ("/orders/..;/public", 400, "path_dot_segment"),
        ("/orders;x=1", 400, "path_parameter"),
        ("/orders%3bx", 400, "path_parameter"),
        ("/orders%2f7", 400, "path_encoded_slash"),
        ("/orders%5c7", 400, "path_backslash"),
        ("/orders%00", 400, "path_encoded_control"),
        ("/orders/%0d%0a", 400, "path_encoded_control"),
        ("/orders/%c0%af", 400, "path_invalid_utf8"),
        ("/orders/%c0%ae%c0%ae/public", 400, "path_invalid_utf8"),
        ("/orders/%252e%252e/public", 400, "path_dot_segment"),
        ("/%256frders", 400, "path_double_encoding"),
        ("/orders/%", 400, "path_broken_encoding"),
        ("/orders/%zz", 400, "path_broken_encoding"),
    ];
    let front = Front::open()?;
    let token = front.token("orders:read")?;
    for (target, status, reason) in targets {
        let first = over_http1(&front, HOST, target, &token)?;
        assert_eq!(
            (&first["status"], &first["reason"]),
            (&status.into(), &reason.into()),
            "{target}: {first}"
        );
        let second = over_http2(&front, HOST, target, &token)?;
        assert_eq!(verdict(&first), verdict(&second), "{target}");
    }
    Ok(())
}

#[test]
fn a_host_has_one_form_whatever_carries_it() -> Rigged<()> {
    let front = Front::open()?;
    let token = front.token("orders:read")?;
    for (host, status, reason) in [
        ("api.example", 200, "permitted"),
        ("API.Example", 200, "permitted"),
        ("api.example.", 200, "permitted"),
        ("api.example:8443", 200, "permitted"),
        ("api.example.:443", 200, "permitted"),
        ("api.example:99999", 400, "host_invalid"),
        ("api.example:4a", 400, "host_invalid"),
        ("127.1", 400, "host_invalid"),
        ("0x7f.0.0.1", 400, "host_invalid"),
        ("user@api.example", 400, "userinfo_in_authority"),
        ("other.example", 421, "host_not_certified"),
        ("xn--pi-sda.example", 421, "host_not_certified"),
    ] {
        let first = over_http1(&front, host, "/orders", &token)?;
        assert_eq!(
            (&first["status"], &first["reason"]),
            (&status.into(), &reason.into()),
            "{host}: {first}"
        );
        let second = over_http2(&front, host, "/orders", &token)?;
        assert_eq!(verdict(&first), verdict(&second), "{host}");
    }
    Ok(())
}

/// CVE-2026-27587: beyond a number of hosts, a peer compared paths in another way.
#[test]
fn among_many_hosts_each_is_decided_like_one() -> Rigged<()> {
    const HOSTS: usize = 150;
    let ground = Ground::set()?;
    let names: Vec<String> = (0..HOSTS).map(|at| format!("h{at}.example")).collect();
    let mut certified: Vec<&str> = names.iter().map(String::as_str).collect();
    certified.push(HOST);
    Pki::issue(&ground.scratch, &certified)?;
    let mut routes = String::new();
    for (at, name) in names.iter().enumerate() {
        // Writing to a string can't fail.
        let _ = write!(
            routes,
            "[[route]]\nname = \"admin-{at}\"\nhost = \"{name}\"\npath = \"/admin/%C3%BC\"\nmethods = [\"GET\"]\n\
             upstream = \"app\"\nissuers = [\"main\"]\nscopes = [\"admin\"]\n\n\
             [[route]]\nname = \"all-{at}\"\nhost = \"{name}\"\npath = \"/\"\nmethods = [\"GET\"]\nupstream = \"app\"\n\
             access = \"public\"\n\n"
        );
    }
    let front = ground
        .alter("[admin]", &format!("{routes}[admin]"))?
        .start()?;
    let token = front.token("orders:read")?;
    for at in [0, 1, 63, 99, 100, 101, 127, 128, HOSTS - 1] {
        let host = names[at].to_ascii_uppercase();
        for (target, status, route) in [
            ("/admin/%c3%bc", 403, "admin"),
            ("/%61dmin/%C3%bc/x", 403, "admin"),
            ("/ADMIN/%C3%BC", 200, "all"),
            ("/admin/%C3%9C", 200, "all"),
            ("/admin", 200, "all"),
        ] {
            let record = over_http1(&front, &host, target, &token)?;
            let due = format!("{route}-{at}");
            assert_eq!(
                (&record["status"], &record["route"]),
                (&status.into(), &due.into()),
                "{host}{target}: {record}"
            );
        }
    }
    Ok(())
}
