//! TCP listeners that end TLS: what was in it goes on to a service over TCP.

use std::{
    io::{Read as _, Write as _},
    net::Shutdown,
    process::Stdio,
    time::{Duration, Instant},
};

use portcullis_tests::{
    client_pki::ClientPki,
    front::Front,
    ground::free_address,
    nginx::Nginx,
    pki::Pki,
    run::{Rigged, eventually},
    scene::HOST,
    tunnels::{PATIENCE, Service, TlsClient, Tunnels, client_config, rest_of, tls_client},
};
use serde_json::Value;

const PUBLIC: &str = "host = \"api.example\"\naccess = \"public\"";

fn url(service: &Service) -> String {
    format!("tcp://{}", service.address())
}

fn client(front: &Front, tunnels: std::net::SocketAddr) -> Rigged<TlsClient> {
    let config = client_config(&front.ground.pki.ca, None)?;
    tls_client(tunnels, HOST, &config)
}

/// The only record of a tunnel.
fn recorded(front: &Front) -> Rigged<Value> {
    let record = front.audited("the tunnel", |line| line["kind"] == "tunnel")?;
    let all = front.audit();
    let count = all.iter().filter(|line| line["kind"] == "tunnel").count();
    assert_eq!(count, 1, "{all:#?}");
    Ok(record)
}

/// Says a word and hears it back.
fn echoed(client: &mut TlsClient, word: &str) -> Rigged<String> {
    client.write_all(word.as_bytes())?;
    let mut heard = vec![0; word.len()];
    client.read_exact(&mut heard)?;
    Ok(String::from_utf8_lossy(&heard).into_owned())
}

#[test]
fn what_was_in_tls_goes_on_and_comes_back_with_one_record() -> Rigged<()> {
    let service = Service::echo()?;
    let Tunnels { ground, address } = Tunnels::ending_tls(&url(&service), "", "", PUBLIC)?;
    let front = ground.start()?;
    let mut openssl = front.s_client(&["-quiet", "-no_ign_eof", "-connect", &address.to_string()]);
    let mut openssl = openssl
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::null())
        .spawn()?;
    let (mut stdin, mut stdout) = (openssl.stdin.take(), openssl.stdout.take());
    let mut heard = [0; 6];
    if let (Some(stdin), Some(stdout)) = (&mut stdin, &mut stdout) {
        stdin.write_all(b"hello\n")?;
        stdout.read_exact(&mut heard)?;
    }
    drop(stdin);
    openssl.wait()?;
    assert_eq!(&heard, b"hello\n");
    assert_eq!(service.heard(), [b"hello\n"]);
    let record = recorded(&front)?;
    assert_eq!(record["verdict"], "permit", "{record}");
    assert_eq!(record["reason"], "permitted");
    assert_eq!(record["ended"], "whole");
    assert_eq!(record["listener"], address.to_string());
    assert_eq!(record["carried"], "tls");
    assert_eq!(record["tls"], "TLSv1_3");
    assert_eq!(record["server_name"], HOST);
    assert_eq!(record["route"], "service");
    assert_eq!(record["upstream"], "service");
    assert_eq!(record["endpoint"], service.address().to_string());
    assert_eq!(
        (&record["client_bytes"], &record["upstream_bytes"]),
        (&6.into(), &6.into())
    );
    assert_eq!(record["decision_id"].as_str().map(str::len), Some(32));
    assert!(
        record["peer"]
            .as_str()
            .is_some_and(|it| it.starts_with("127.0.0.1:"))
    );
    assert!(record["total_us"].as_u64() >= record["decision_us"].as_u64());
    Ok(())
}

#[test]
fn each_half_ends_in_its_time() -> Rigged<()> {
    // The client ends first.
    let service = Service::last_word("goodbye")?;
    let Tunnels { ground, address } = Tunnels::ending_tls(&url(&service), "", "", PUBLIC)?;
    let front = ground.start()?;
    let mut asks = client(&front, address)?;
    asks.write_all(b"all of it")?;
    asks.conn.send_close_notify();
    asks.flush()?;
    let mut answer = String::new();
    asks.read_to_string(&mut answer)?;
    assert_eq!(answer, "goodbye");
    assert_eq!(service.heard(), [b"all of it"]);
    drop(asks);
    assert_eq!(recorded(&front)?["ended"], "whole");
    // The service ends first.
    let service = Service::first_word("welcome")?;
    let Tunnels { ground, address } = Tunnels::ending_tls(&url(&service), "", "", PUBLIC)?;
    let front = ground.start()?;
    let mut hears = client(&front, address)?;
    let mut welcome = String::new();
    hears.read_to_string(&mut welcome)?;
    assert_eq!(welcome, "welcome");
    hears.write_all(b"still here")?;
    hears.conn.send_close_notify();
    hears.flush()?;
    eventually("the service hears on", PATIENCE, || {
        (service.heard() == [b"still here"]).then_some(())
    })?;
    assert_eq!(recorded(&front)?["ended"], "whole");
    Ok(())
}

#[test]
fn what_breaks_off_on_one_side_does_not_look_finished_on_the_other() -> Rigged<()> {
    let service = Service::start(|stream, hear| {
        let mut part = [0; 64];
        let end = loop {
            match stream.read(&mut part) {
                Ok(0) => break " (finished)".to_owned(),
                Ok(read) => hear(&part[..read]),
                Err(error) => break format!(" ({:?})", error.kind()),
            }
        };
        hear(end.as_bytes());
        Ok(())
    })?;
    let Tunnels { ground, address } = Tunnels::ending_tls(&url(&service), "", "", PUBLIC)?;
    let front = ground.start()?;
    let mut breaks = client(&front, address)?;
    breaks.write_all(b"half of it")?;
    breaks.flush()?;
    eventually("half of it", PATIENCE, || {
        (service.heard() == [b"half of it"]).then_some(())
    })?;
    // Without the word that TLS has for an end.
    breaks.sock.shutdown(Shutdown::Both)?;
    let told = eventually("the end", PATIENCE, || {
        let heard = service.heard().concat();
        (heard.len() > 10).then_some(heard)
    })?;
    assert_eq!(
        String::from_utf8_lossy(&told),
        "half of it (ConnectionReset)"
    );
    assert_eq!(recorded(&front)?["ended"], "by_client");
    Ok(())
}

#[test]
fn a_service_that_is_down_is_named_and_another_endpoint_is_tried() -> Rigged<()> {
    let (nobody, service) = (free_address()?, Service::echo()?);
    let Tunnels { ground, address } =
        Tunnels::ending_tls(&format!("tcp://{nobody}"), "", "", PUBLIC)?;
    let front = ground.start()?;
    assert!(rest_of(&mut client(&front, address)?).is_empty());
    let record = recorded(&front)?;
    assert_eq!(record["reason"], "upstream_unreachable", "{record}");
    assert_eq!(record["endpoint"], Value::Null);
    assert!(
        record["detail"]
            .as_str()
            .is_some_and(|it| it.contains("refused")),
        "{record}"
    );
    let Tunnels { ground, address } = Tunnels::ending_tls("{urls}", "", "", PUBLIC)?;
    let both = format!(
        "urls = [\"tcp://{nobody}\", \"tcp://{}\"]",
        service.address()
    );
    let front = ground
        .alter(
            "url = \"{urls}\"",
            &format!("{both}\nbalance = \"round_robin\""),
        )?
        .start()?;
    for _ in 0..4 {
        assert_eq!(echoed(&mut client(&front, address)?, "here")?, "here");
    }
    Ok(())
}

#[test]
fn an_upstream_with_tls_is_verified() -> Rigged<()> {
    let at = free_address()?;
    for (name, good) in [("127.0.0.1", true), ("other.example", false)] {
        let lines = "ca = \"{at}/up-ca.pem\"";
        let url = format!("tls://{at}");
        let Tunnels { ground, address } = Tunnels::ending_tls(&url, "", lines, PUBLIC)?;
        let files = ["up-ca.pem", "up.pem", "up.key"];
        let pki = Pki::issue_into(&ground.scratch, &[name], files)?;
        let server = format!(
            "listen {at} ssl; ssl_certificate {}; ssl_certificate_key {}; return 200 \"over TLS\\n\";",
            pki.certificate.display(),
            pki.key.display()
        );
        let probe = ["-k", &format!("https://{at}/")];
        let _nginx = Nginx::serve(&ground.scratch, "tls", &server, &probe)?;
        let front = ground.start()?;
        let mut asks = client(&front, address)?;
        let _ = asks.write_all(b"GET / HTTP/1.0\r\n\r\n");
        let answer = String::from_utf8_lossy(&rest_of(&mut asks)).into_owned();
        assert_eq!(answer.contains("over TLS"), good, "{name}: {answer}");
        drop(asks);
        let record = recorded(&front)?;
        let reason = if good {
            "permitted"
        } else {
            "upstream_unreachable"
        };
        assert_eq!(record["reason"], reason, "{record}");
        if !good {
            assert!(
                record["detail"]
                    .as_str()
                    .is_some_and(|it| it.contains("TLS: ")),
                "{record}"
            );
        }
    }
    Ok(())
}

#[test]
fn a_route_that_asks_for_a_certificate_has_one_in_its_record() -> Rigged<()> {
    let service = Service::echo()?;
    let lines = "[[listener.client_certificates]]\nmode = \"required\"\nca = \"{at}/clients.pem\"";
    let route = "host = \"*\"\naccess = \"client_certificate\"";
    let Tunnels { ground, address } = Tunnels::ending_tls(&url(&service), lines, "", route)?;
    let clients = ClientPki::new(&ground.scratch, "clients")?;
    let shown = clients.issue(&ground.scratch, "alice", 1)?;
    let front = ground.start()?;
    let config = client_config(&front.ground.pki.ca, Some(&shown))?;
    assert_eq!(
        echoed(&mut tls_client(address, HOST, &config)?, "me")?,
        "me"
    );
    let record = recorded(&front)?;
    assert_eq!(
        record["client_certificate"].as_str().map(str::len),
        Some(64),
        "{record}"
    );
    let config = client_config(&front.ground.pki.ca, None)?;
    assert!(echoed(&mut tls_client(address, HOST, &config)?, "me").is_err());
    let record = front.audited("the refusal", |line| line["verdict"] == "deny")?;
    assert_eq!(record["kind"], "tunnel", "{record}");
    assert_eq!(record["reason"], "tls_handshake_failed", "{record}");
    assert_eq!(service.heard().len(), 1);
    Ok(())
}

#[test]
fn silence_ends_it_and_a_word_from_either_side_does_not() -> Rigged<()> {
    let service = Service::echo()?;
    let route = format!("{PUBLIC}\nidle_timeout = \"1s\"");
    let Tunnels { ground, address } = Tunnels::ending_tls(&url(&service), "", "", &route)?;
    let front = ground.start()?;
    let mut speaks = client(&front, address)?;
    let began = Instant::now();
    while began.elapsed() < Duration::from_millis(1500) {
        assert_eq!(echoed(&mut speaks, "on")?, "on");
    }
    let silent = Instant::now();
    assert!(rest_of(&mut speaks).is_empty());
    let took = silent.elapsed();
    assert!(
        Duration::from_millis(900) < took && took < Duration::from_secs(4),
        "{took:?}"
    );
    assert_eq!(recorded(&front)?["ended"], "idle_timeout");
    Ok(())
}

#[test]
fn a_reload_keeps_what_is_open_and_serves_others_by_the_new_routes() -> Rigged<()> {
    let (before, after) = (Service::echo()?, Service::first_word("the new one")?);
    let Tunnels { ground, address } = Tunnels::ending_tls(&url(&before), "", "", PUBLIC)?;
    let mut front = ground.start()?;
    let mut open = client(&front, address)?;
    assert_eq!(echoed(&mut open, "one")?, "one");
    front.ground = front.ground.alter(&url(&before), &url(&after))?;
    front.ground = front.ground.alter(
        "name = \"service\"\nlisteners",
        "name = \"fresh\"\nlisteners",
    )?;
    let config = front.ground.scratch.join("portcullis.toml");
    std::fs::write(config, &front.ground.text)?;
    let told = front.daemon.ask(&["reload"])?.to_string();
    for change in [
        "upstream service has changed",
        "tcp_route fresh is new",
        "tcp_route service is gone",
    ] {
        assert!(told.contains(change), "{told}");
    }
    assert_eq!(echoed(&mut open, "two")?, "two");
    assert_eq!(rest_of(&mut client(&front, address)?), b"the new one");
    let fresh = front.audited("the new one", |line| line["route"] == "fresh")?;
    assert_eq!(fresh["endpoint"], after.address().to_string(), "{fresh}");
    drop(open);
    let kept = front.audited("the old one", |line| line["route"] == "service")?;
    assert_eq!(kept["client_bytes"], 6, "{kept}");
    Ok(())
}

#[test]
fn a_stop_gives_what_is_open_its_time_and_then_cuts_it_off() -> Rigged<()> {
    let service = Service::echo()?;
    let Tunnels { ground, address } = Tunnels::ending_tls(&url(&service), "", "", PUBLIC)?;
    let mut front = ground.alter("drain = \"5s\"", "drain = \"2s\"")?.start()?;
    let (mut ends, mut stays) = (client(&front, address)?, client(&front, address)?);
    assert_eq!(echoed(&mut ends, "a")? + &echoed(&mut stays, "b")?, "ab");
    front.daemon.signal("TERM")?;
    eventually("nobody else is let in", PATIENCE, || {
        client(&front, address).err()
    })?;
    assert_eq!(echoed(&mut ends, "c")? + &echoed(&mut stays, "d")?, "cd");
    ends.conn.send_close_notify();
    ends.flush()?;
    assert!(rest_of(&mut ends).is_empty());
    front.daemon.wait()?;
    assert!(rest_of(&mut stays).is_empty());
    for ended in ["whole", "cut_off"] {
        let record = front.audited(ended, |line| line["ended"] == ended)?;
        assert_eq!(record["client_bytes"], 2, "{record}");
    }
    front.audited("the stop", |line| {
        line["detail"] == "deadline: open connections were cut off"
    })?;
    Ok(())
}
