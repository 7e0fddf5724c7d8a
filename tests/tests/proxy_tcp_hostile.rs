//! What comes to a TCP listener and is no client of anybody's.

use std::{
    io::{Read as _, Write as _},
    net::{Shutdown, SocketAddr, TcpStream},
    process::Stdio,
    thread,
    time::{Duration, Instant},
};

use portcullis_tests::{
    front::Front,
    run::{Rigged, eventually, output},
    scene::HOST,
    tunnels::{
        PATIENCE, Service, Tunnels, client_config, connected, hello_for, in_records_of, rest_of,
        tls_client, with_server_name,
    },
};
use serde_json::Value;

/// Passes TLS for one name on to an echo, within a second.
struct Gate {
    front: Front,
    address: SocketAddr,
    service: Service,
    hello: Vec<u8>,
}

const NAME: &str = "known.example";

impl Gate {
    fn open(host: &str, lines: &str) -> Rigged<Self> {
        let service = Service::echo()?;
        let url = format!("tcp://{}", service.address());
        let listener = format!("handshake_timeout = \"1s\"\n{lines}");
        let route = format!("host = \"{host}\"\naccess = \"public\"");
        let Tunnels { ground, address } = Tunnels::passing(&url, &listener, &route)?;
        let front = ground.start()?;
        let hello = hello_for(NAME, &client_config(&front.ground.pki.ca, None)?)?;
        Ok(Self {
            front,
            address,
            service,
            hello,
        })
    }

    /// What comes back for exactly these bytes, said at once.
    fn say(&self, bytes: &[u8]) -> Rigged<Vec<u8>> {
        let mut client = connected(self.address)?;
        // Whoever says no early is within his rights.
        let _ = client.write_all(bytes);
        Ok(rest_of(&mut client))
    }

    /// All records of tunnels, as soon as there are so many.
    fn records(&self, count: usize) -> Rigged<Vec<Value>> {
        let all = || -> Vec<Value> {
            let lines = self.front.audit().into_iter();
            lines.filter(|line| line["kind"] == "tunnel").collect()
        };
        eventually("the records", PATIENCE, || {
            (all().len() >= count).then_some(())
        })?;
        Ok(all())
    }

    /// Each is refused by this name, with one record, and the service hears of none.
    fn assert_refused(&self, cases: &[(&str, Vec<u8>, &str)]) -> Rigged<()> {
        for (at, (what, bytes, reason)) in cases.iter().enumerate() {
            let answer = self.say(bytes)?;
            assert!(answer.len() <= 7, "{what}: {answer:?}");
            let records = self.records(at + 1)?;
            assert_eq!(records.len(), at + 1, "{what}: {records:#?}");
            let record = &records[at];
            assert_eq!(record["reason"], *reason, "{what}: {record}");
            assert_eq!(record["verdict"], "deny", "{what}: {record}");
            assert_eq!(record["ended"], Value::Null, "{what}: {record}");
            assert_eq!(
                record["decision_id"].as_str().map(str::len),
                Some(32),
                "{what}"
            );
        }
        assert_eq!(self.service.heard(), [[0; 0]; 0]);
        Ok(())
    }
}

fn record(kind: u8, body: &[u8]) -> Vec<u8> {
    let length = u16::try_from(body.len()).unwrap_or(u16::MAX);
    [&[kind, 3, 1][..], &length.to_be_bytes(), body].concat()
}

#[test]
fn what_is_no_client_hello_is_refused_by_name() -> Rigged<()> {
    let gate = Gate::open("*", "")?;
    let malformed = "client_hello_malformed";
    // SSL 2.0's (RFC 6101, E), with a version and three ciphers.
    let ssl2 = [
        &[0x80, 0x1c, 1, 3, 1, 0, 3, 0, 0, 0, 0x10, 0, 0, 0x35][..],
        &[7; 16],
    ]
    .concat();
    let mut cut = gate.hello.clone();
    // The message ends before its parts do.
    cut[8] = cut[8].wrapping_sub(9);
    let server_hello = [&gate.hello[..5], &[2], &gate.hello[6..]].concat();
    let zeros = vec![0; 64];
    gate.assert_refused(&[
        (
            "plain HTTP",
            b"GET / HTTP/1.1\r\nHost: known.example\r\n\r\n".to_vec(),
            malformed,
        ),
        (
            "SSH",
            b"SSH-2.0-OpenSSH_9.2p1 Debian\r\n".to_vec(),
            malformed,
        ),
        ("SSL 2.0", ssl2, malformed),
        ("zeros", zeros, malformed),
        ("an alert", record(21, &[2, 40]), malformed),
        ("application data", record(23, &[1; 100]), malformed),
        ("a ServerHello", server_hello, malformed),
        ("lengths that disagree", cut, malformed),
        (
            "a record longer than any",
            [&[22, 3, 1, 0xff, 0xff][..], &[1; 600]].concat(),
            malformed,
        ),
    ])
}

#[test]
fn a_client_of_old_versions_alone_is_refused() -> Rigged<()> {
    let gate = Gate::open("*", "")?;
    let at = gate.address.to_string();
    let old = ["-connect", &at, "-tls1_1", "-cipher", "DEFAULT:@SECLEVEL=0"];
    let mut openssl = gate.front.s_client(&old);
    output(openssl.stdin(Stdio::null()))?;
    let record = &gate.records(1)?[0];
    assert_eq!(record["reason"], "client_hello_malformed", "{record}");
    assert_eq!(gate.service.heard(), [[0; 0]; 0]);
    Ok(())
}

#[test]
fn a_server_name_that_is_none_is_refused_or_counts_as_none() -> Rigged<()> {
    let gate = Gate::open("known.example", "")?;
    let named = |name: &[u8]| with_server_name(&gate.hello, NAME, name);
    gate.assert_refused(&[
        ("a NUL", named(b"known.exam\0le")?, "server_name_invalid"),
        ("a space", named(b"known example")?, "server_name_invalid"),
        ("a slash", named(b"known/example")?, "server_name_invalid"),
        ("a colon", named(b"known.exa:443")?, "server_name_invalid"),
        (
            "bytes above ASCII",
            named(b"known.ex\xc3\xa4mpl")?,
            "server_name_invalid",
        ),
        (
            "an empty label",
            named(b"known..exampl")?,
            "server_name_invalid",
        ),
        (
            "a wildcard",
            named(b"*.own.example")?,
            "server_name_invalid",
        ),
        ("another name", named(b"other.example")?, "no_route"),
        // RFC 6066, 3: no name at all. No route is for none.
        ("an IPv4 address", named(b"203.0.113.107")?, "no_route"),
    ])
}

#[test]
fn case_and_a_trailing_dot_make_no_other_name() -> Rigged<()> {
    let gate = Gate::open("known.exampl", "")?;
    for name in [&b"known.exampl."[..], b"KNOWN.Exampl."] {
        let said = with_server_name(&gate.hello, NAME, name)?;
        let mut client = connected(gate.address)?;
        client.write_all(&said)?;
        client.shutdown(Shutdown::Write)?;
        // As the client wrote it.
        assert_eq!(rest_of(&mut client), said, "{name:?}");
    }
    for record in gate.records(2)? {
        assert_eq!(record["server_name"], "known.exampl", "{record}");
    }
    Ok(())
}

#[test]
fn a_client_without_a_name_goes_where_any_does_and_nowhere_else() -> Rigged<()> {
    for (host, permitted) in [("*", true), ("*.example", false)] {
        let gate = Gate::open(host, "")?;
        // An address is no server name, and the library sends none.
        let config = client_config(&gate.front.ground.pki.ca, None)?;
        let said = hello_for("127.0.0.1", &config)?;
        let mut client = connected(gate.address)?;
        client.write_all(&said)?;
        client.shutdown(Shutdown::Write)?;
        let answer = rest_of(&mut client);
        // unrecognized_name, as a fatal alert.
        let expected = if permitted {
            said
        } else {
            vec![21, 3, 3, 0, 2, 2, 112]
        };
        assert_eq!(answer, expected, "{host}");
        let record = &gate.records(1)?[0];
        assert_eq!(record["server_name"], Value::Null, "{record}");
        let reason = if permitted { "permitted" } else { "no_route" };
        assert_eq!(record["reason"], reason, "{record}");
    }
    Ok(())
}

#[test]
fn a_hello_in_many_records_and_segments_goes_on_as_it_came() -> Rigged<()> {
    let gate = Gate::open(NAME, "")?;
    for size in [1, 7, 100] {
        let said = in_records_of(&gate.hello, size);
        let mut client = connected(gate.address)?;
        client.set_nodelay(true)?;
        for part in said.chunks(100) {
            client.write_all(part)?;
            thread::yield_now();
        }
        client.shutdown(Shutdown::Write)?;
        let answer = rest_of(&mut client);
        assert!(
            answer == said,
            "{size}: {} of {} bytes",
            answer.len(),
            said.len()
        );
    }
    for record in gate.records(3)? {
        assert_eq!(record["server_name"], NAME, "{record}");
        assert_eq!(record["reason"], "permitted", "{record}");
    }
    Ok(())
}

#[test]
fn a_hello_that_never_ends_is_refused_at_16_kib() -> Rigged<()> {
    let gate = Gate::open("*", "")?;
    // A message of 60,000 bytes, in records that are each as they should be.
    let mut message = vec![1, 0, 0xea, 0x60];
    message.resize(40_000, 0);
    let whole = record(22, &message);
    let parts = in_records_of(&[&whole[..5], &message].concat(), 1000);
    let tiny = in_records_of(&[&whole[..5], &message].concat(), 1);
    gate.assert_refused(&[
        ("in records of 1000", parts, "client_hello_too_large"),
        (
            "in records of 1",
            tiny[..30_000].to_vec(),
            "client_hello_too_large",
        ),
    ])
}

#[test]
fn a_hello_that_comes_too_slowly_or_not_at_all_is_refused_in_time() -> Rigged<()> {
    let gate = Gate::open("*", "")?;
    let began = Instant::now();
    let silent = connected(gate.address)?;
    let trickles = connected(gate.address)?;
    let (mut writes, hello) = (trickles.try_clone()?, gate.hello.clone());
    thread::spawn(move || {
        for byte in hello {
            if writes.write_all(&[byte]).is_err() {
                return;
            }
            thread::sleep(Duration::from_millis(50));
        }
    });
    for mut client in [silent, trickles.try_clone()?] {
        assert!(rest_of(&mut client).is_empty());
    }
    let took = began.elapsed();
    assert!(
        Duration::from_millis(900) < took && took < Duration::from_secs(4),
        "{took:?}"
    );
    for record in gate.records(2)? {
        assert_eq!(record["reason"], "client_hello_timeout", "{record}");
    }
    let _ = trickles.shutdown(Shutdown::Both);
    // Gone in the middle, and at once.
    for said in [&gate.hello[..50], &[]] {
        let mut client = connected(gate.address)?;
        client.write_all(said)?;
        client.shutdown(Shutdown::Write)?;
        assert!(rest_of(&mut client).is_empty());
    }
    for record in &gate.records(4)?[2..] {
        assert_eq!(record["reason"], "client_hello_incomplete", "{record}");
    }
    assert_eq!(gate.service.heard(), [[0; 0]; 0]);
    Ok(())
}

#[test]
fn where_tls_ends_what_is_no_handshake_is_refused_with_one_record_each() -> Rigged<()> {
    let service = Service::echo()?;
    let url = format!("tcp://{}", service.address());
    let route = "host = \"api.example\"\naccess = \"public\"";
    let timeout = "handshake_timeout = \"1s\"";
    let Tunnels { ground, address } = Tunnels::ending_tls(&url, timeout, "", route)?;
    let front = ground.start()?;
    let config = client_config(&front.ground.pki.ca, None)?;
    let hello = hello_for(HOST, &config)?;
    let said: [(&[u8], &str); 4] = [
        (b"GET / HTTP/1.1\r\n\r\n", "tls_handshake_failed"),
        (&hello[..40], "tls_handshake_timeout"),
        (b"", "tls_handshake_timeout"),
        (&hello, "tls_handshake_timeout"),
    ];
    for (bytes, _) in &said {
        let mut client = connected(address)?;
        client.write_all(bytes)?;
        let _ = rest_of(&mut client);
    }
    // Another name than the route's, good as the certificate may be.
    let mut other = tls_client(address, "localhost", &config)?;
    let _ = other.write_all(b"hello");
    assert!(rest_of(&mut other).is_empty());
    front.audited("the last", |line| line["reason"] == "no_route")?;
    let all: Vec<_> = front
        .audit()
        .into_iter()
        .filter(|line| line["kind"] == "tunnel")
        .collect();
    let reasons: Vec<_> = all
        .iter()
        .filter_map(|line| line["reason"].as_str())
        .collect();
    let expected: Vec<_> = said
        .iter()
        .map(|(_, reason)| *reason)
        .chain(["no_route"])
        .collect();
    assert_eq!(reasons, expected);
    assert_eq!(service.heard(), [[0; 0]; 0]);
    Ok(())
}

#[test]
fn a_source_has_as_many_as_it_may_and_others_wait_for_the_listener() -> Rigged<()> {
    let gate = Gate::open("*", "max_connections_per_source = 2")?;
    let begin = || -> Rigged<TcpStream> {
        let mut client = connected(gate.address)?;
        client.write_all(&gate.hello)?;
        Ok(client)
    };
    let comes_back = |client: &mut TcpStream| {
        let mut heard = vec![0; gate.hello.len()];
        client.read_exact(&mut heard).is_ok()
    };
    let (mut first, mut second) = (begin()?, begin()?);
    assert!(comes_back(&mut first) && comes_back(&mut second));
    let mut third = connected(gate.address)?;
    let _ = third.write_all(&gate.hello);
    assert!(rest_of(&mut third).is_empty());
    let record = &gate.records(1)?[0];
    assert_eq!(record["reason"], "source_connections", "{record}");
    drop(first);
    gate.records(2)?;
    assert!(comes_back(&mut begin()?));
    // Those of the whole listener.
    let gate = Gate::open("*", "max_connections = 1")?;
    let mut first = connected(gate.address)?;
    first.write_all(&gate.hello)?;
    let mut heard = vec![0; gate.hello.len()];
    first.read_exact(&mut heard)?;
    let mut waits = connected(gate.address)?;
    waits.write_all(&gate.hello)?;
    waits.set_read_timeout(Some(Duration::from_millis(300)))?;
    assert!(waits.read_exact(&mut heard).is_err());
    drop(first);
    waits.set_read_timeout(Some(PATIENCE))?;
    waits.read_exact(&mut heard)?;
    Ok(())
}

#[test]
fn a_source_that_is_not_named_is_told_that_it_may_not() -> Rigged<()> {
    let service = Service::echo()?;
    let url = format!("tcp://{}", service.address());
    let route =
        "host = \"*\"\naccess = \"sources\"\nsources = [\"192.0.2.0/24\", \"2001:db8::/32\"]";
    let Tunnels { ground, address } = Tunnels::passing(&url, "", route)?;
    let front = ground.start()?;
    let hello = hello_for(NAME, &client_config(&front.ground.pki.ca, None)?)?;
    let mut client = connected(address)?;
    client.write_all(&hello)?;
    // access_denied, as a fatal alert.
    assert_eq!(rest_of(&mut client), [21, 3, 3, 0, 2, 2, 49]);
    let record = front.audited("the refusal", |line| line["kind"] == "tunnel")?;
    assert_eq!(record["reason"], "source_not_accepted", "{record}");
    assert_eq!(record["route"], "service", "{record}");
    assert_eq!(service.heard(), [[0; 0]; 0]);
    Ok(())
}
