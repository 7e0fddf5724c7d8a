//! The PROXY protocol, in from load balancers and out to upstreams.

use portcullis_tests::{
    balancer::Balancer,
    front::{Answer, Front},
    ground::{Ground, free_address},
    nginx::Nginx,
    run::Rigged,
};

const V2: [u8; 12] = *b"\r\n\r\n\0\r\nQUIT\n";

/// Version 2, for a TCP connection from 198.51.100.7:4711.
fn version_2() -> Vec<u8> {
    let addresses = [198, 51, 100, 7, 192, 0, 2, 1, 0x12, 0x67, 1, 0xbb];
    [&V2[..], &[0x21, 0x11, 0, 12], &addresses].concat()
}

/// The same with another byte at a place, and so many bytes of addresses.
fn altered(at: usize, byte: u8, length: u8) -> Vec<u8> {
    let mut header = version_2();
    header[at] = byte;
    header[15] = length;
    header.truncate(16 + usize::from(length));
    header
}

fn behind_balancers(ranges: &str) -> Rigged<Front> {
    Ground::set()?
        .add("[[listener]]", &format!("proxy_protocol = [{ranges}]"))?
        .start()
}

/// What comes through a balancer that puts these bytes in front.
fn through(front: &Front, bytes: &[u8]) -> Rigged<Answer> {
    let balancer = Balancer::start(front.address, bytes.to_vec())?;
    let port = balancer.address().port();
    let at = format!("api.example:{port}:127.0.0.1");
    front.curl_at(
        &format!("https://api.example:{port}/public"),
        &["--resolve", &at],
    )
}

#[test]
fn a_balancer_says_whose_connection_it_passes_on() -> Rigged<()> {
    let front = behind_balancers("\"127.0.0.0/8\"")?;
    let version_1 = b"PROXY TCP4 198.51.100.7 192.0.2.1 4711 443\r\n".to_vec();
    let more = [
        &version_2()[..14],
        &[0, 16],
        &version_2()[16..],
        &[4, 0, 1, 0],
    ]
    .concat();
    for header in [version_1, version_2(), more] {
        let answer = through(&front, &header)?;
        assert_eq!(answer.status, 200, "{answer:?}");
        assert_eq!(answer.told("for"), "198.51.100.7");
        let record = front.record_of(answer.field("x-request-id"))?;
        assert_eq!(record["peer"], "198.51.100.7:4711", "{record}");
    }
    // Its own checks are its own.
    for header in [
        &b"PROXY UNKNOWN\r\n"[..],
        &[&V2[..], &[0x20, 0, 0, 0]].concat(),
    ] {
        let answer = through(&front, header)?;
        assert_eq!(answer.told("for"), "127.0.0.1");
    }
    Ok(())
}

#[test]
fn the_lists_judge_whose_connection_it_is() -> Rigged<()> {
    let front = Ground::set()?
        .add("[[listener]]", "proxy_protocol = [\"127.0.0.1\"]")?
        .alter(
            "[admin]",
            "[lists]\nblocked = [\"198.51.100.0/24\"]\n\n[admin]",
        )?
        .start()?;
    assert_eq!(through(&front, &version_2())?.status, 0);
    let record = front.audited("the connection", |line| line["kind"] == "connection")?;
    assert_eq!(record["reason"], "source_blocked", "{record}");
    assert_eq!(record["peer"], "198.51.100.7:4711", "{record}");
    Ok(())
}

/// Case 45: spoofed, truncated, or from outside the ranges.
#[test]
fn whoever_is_no_balancer_or_says_it_wrongly_is_dropped() -> Rigged<()> {
    let front = behind_balancers("\"10.0.0.0/8\"")?;
    assert_eq!(through(&front, &version_2())?.status, 0);
    assert_eq!(front.curl("/public", &[])?.status, 0);
    let untrusted = |line: &serde_json::Value| line["reason"] == "proxy_protocol_untrusted";
    let record = front.audited("the connection", untrusted)?;
    assert!(
        record["peer"]
            .as_str()
            .is_some_and(|it| it.starts_with("127.0.0.1:"))
    );

    let front = Ground::set()?
        .add(
            "[[listener]]",
            "proxy_protocol = [\"127.0.0.1\"]\nhandshake_timeout = \"500ms\"",
        )?
        .start()?;
    for (bytes, reason) in [
        (&b""[..], "proxy_protocol_malformed"),
        (b"PROXY TCP4 198.51.100.7\r\n", "proxy_protocol_malformed"),
        (
            b"PROXY TCP4 1.1.1.1.1 192.0.2.1 1 2\r\n",
            "proxy_protocol_malformed",
        ),
        (
            &[&V2[..], &[0x21, 0x11, 0xff, 0xff]].concat(),
            "proxy_protocol_malformed",
        ),
        (
            b"PROXY TCP4 198.51.100.7 192.0.2.1 4711 0443\r\n",
            "proxy_protocol_malformed",
        ),
        (
            b"PROXY UNKNOWNTCP4 198.51.100.7 192.0.2.1 4711 443\r\n",
            "proxy_protocol_malformed",
        ),
        // A block too short for its family, another version, another command.
        (&altered(12, 0x21, 4), "proxy_protocol_malformed"),
        (&altered(12, 0x11, 12), "proxy_protocol_malformed"),
        (&altered(12, 0x22, 12), "proxy_protocol_malformed"),
        // A second header, which would be another's word: it is no TLS.
        (&version_2().repeat(2), "tls_handshake_failed"),
    ] {
        let before = front.audit().len();
        assert_eq!(through(&front, bytes)?.status, 0, "{bytes:?}");
        front.audited(reason, |line| {
            line["sequence"]
                .as_u64()
                .is_some_and(|it| it >= before as u64)
                && line["reason"] == reason
        })?;
    }
    let unasked = Front::open()?;
    assert_eq!(through(&unasked, &version_2())?.status, 0);
    let record = unasked.audited("one where none is asked for", |line| {
        line["kind"] == "connection"
    })?;
    assert_eq!(record["reason"], "tls_handshake_failed", "{record}");
    // Begun, and not gone on with.
    let mut silent = std::net::TcpStream::connect(front.address)?;
    std::io::Write::write_all(&mut silent, &version_2()[..20])?;
    front.audited("the silent one", |line| {
        line["reason"] == "proxy_protocol_timeout"
    })?;
    assert_eq!(front.ground.nginx.seen().matches("/public").count(), 0);
    Ok(())
}

#[test]
fn an_upstream_is_told_whose_connection_it_is() -> Rigged<()> {
    let (ground, address) = (Ground::set()?, free_address()?);
    let server = format!(
        "listen {address} proxy_protocol; location / {{ default_type text/plain; \
         return 200 \"from=$proxy_protocol_addr\\nconnection=$connection\\n\"; }}"
    );
    let url = format!("http://{address}/");
    let _nginx = Nginx::serve(
        &ground.scratch,
        "proxied",
        &server,
        &["--haproxy-protocol", &url],
    )?;
    let front = ground
        .with_upstream_at(&format!("http://{address}"), "proxy_protocol = \"v2\"")?
        .add("[[listener]]", "trusted_hops = [\"127.0.0.1\"]")?
        .start()?;
    let mut connections = Vec::new();
    for client in ["198.51.100.7", "203.0.113.9", "2001:db8::7"] {
        let hop = format!("X-Forwarded-For: {client}");
        let answer = front.curl("/public", &["-H", &hop])?;
        assert_eq!(answer.status, 200, "{answer:?}");
        assert_eq!(answer.told("from"), client);
        connections.push(answer.told("connection"));
    }
    connections.dedup();
    assert_eq!(
        connections.len(),
        3,
        "one client's connection is no other's"
    );
    Ok(())
}
