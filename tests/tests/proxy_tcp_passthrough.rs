//! TCP listeners that let TLS through: the server name that a client asks for chooses the upstream, and not a
//! byte changes on the way.

use std::{
    io::{Read as _, Write as _},
    net::{Shutdown, SocketAddr},
    sync::Arc,
};

use portcullis_tests::{
    balancer::Balancer,
    front::Front,
    ground::{Ground, free_address},
    nginx::Nginx,
    pki::Pki,
    run::{Rigged, eventually, output},
    tunnels::{PATIENCE, Service, Tunnels, client_config, connected, hello_for, rest_of},
};
use rustls::ClientConfig;
use serde_json::Value;

const PUBLIC: &str = "host = \"*\"\naccess = \"public\"";

fn url(service: &Service) -> String {
    format!("tcp://{}", service.address())
}

fn config_of(front: &Front) -> Rigged<Arc<ClientConfig>> {
    client_config(&front.ground.pki.ca, None)
}

/// nginx with TLS and a certificate for these names, that says who it is.
fn site(ground: &Ground, name: &str, names: &[&str]) -> Rigged<(Nginx, SocketAddr, Pki)> {
    let address = free_address()?;
    let files = [
        format!("{name}-ca.pem"),
        format!("{name}.pem"),
        format!("{name}.key"),
    ];
    let pki = Pki::issue_into(&ground.scratch, names, [&files[0], &files[1], &files[2]])?;
    let server = format!(
        "listen {address} ssl; ssl_certificate {}; ssl_certificate_key {}; return 200 \"{name}\";",
        pki.certificate.display(),
        pki.key.display()
    );
    let probe = ["-k", &format!("https://{address}/")];
    Ok((
        Nginx::serve(&ground.scratch, name, &server, &probe)?,
        address,
        pki,
    ))
}

#[test]
fn the_name_chooses_the_service_whose_certificate_the_client_sees() -> Rigged<()> {
    let Tunnels {
        mut ground,
        address,
    } = Tunnels::passing(
        "tcp://{one}",
        "",
        "host = \"one.example\"\naccess = \"public\"",
    )?;
    let (_one, one, one_pki) = site(&ground, "one", &["one.example"])?;
    let (_deep, deep, deep_pki) = site(&ground, "deep", &["a.deep.example", "b.c.deep.example"])?;
    ground = ground.alter("tcp://{one}", &format!("tcp://{one}"))?;
    ground.text.push_str(&format!(
        r#"
[[upstream]]
name = "deep"
url = "tcp://{deep}"

[[tcp_route]]
name = "deep"
listeners = ["{address}"]
host = "*.deep.example"
upstream = "deep"
access = "sources"
sources = ["127.0.0.0/8"]
"#
    ));
    let front = ground.start()?;
    let ask = |name: &str, pki: &Pki| -> Rigged<String> {
        let at = format!("{name}:{}:127.0.0.1", address.port());
        let ca = pki.ca.display().to_string();
        let url = format!("https://{name}:{}/", address.port());
        let answer = front.curl_at(&url, &["--resolve", &at, "--cacert", &ca, "--http1.1"])?;
        Ok(String::from_utf8_lossy(&answer.body).into_owned())
    };
    assert_eq!(ask("one.example", &one_pki)?, "one");
    assert_eq!(ask("ONE.Example", &one_pki)?, "one");
    assert_eq!(ask("a.deep.example", &deep_pki)?, "deep");
    assert_eq!(ask("b.c.deep.example", &deep_pki)?, "deep");
    for (name, route) in [("one.example", "service"), ("b.c.deep.example", "deep")] {
        let record = front.audited(name, |line| line["server_name"] == name)?;
        assert_eq!(record["route"], route, "{record}");
        assert_eq!(record["carried"], "passthrough", "{record}");
        assert_eq!(record["verdict"], "permit", "{record}");
        assert!(record["client_bytes"].as_u64() > Some(300), "{record}");
        assert!(record["upstream_bytes"].as_u64() > Some(500), "{record}");
    }
    // openssl says whose certificate it is, and why there is none for others.
    let seen = |name: &str| -> Rigged<String> {
        let at = address.to_string();
        let ca = one_pki.ca.display().to_string();
        let to = ["-connect", &at, "-servername", name, "-CAfile", &ca];
        let mut client = front.s_client(&to);
        let printed = output(client.stdin(std::process::Stdio::null()))?;
        let text = [printed.stdout, printed.stderr].concat();
        Ok(String::from_utf8_lossy(&text).into_owned())
    };
    let of_one = std::fs::read_to_string(&one_pki.certificate)?;
    let first = of_one.lines().nth(1).unwrap_or("nothing");
    assert!(seen("one.example")?.contains(first));
    for other in ["deep.example", "other.example", "one.example.evil.example"] {
        let told = seen(other)?;
        assert!(told.contains("unrecognized name"), "{other}: {told}");
        let record = front.audited(other, |line| line["server_name"] == other)?;
        assert_eq!(record["reason"], "no_route", "{record}");
        assert_eq!(record["verdict"], "deny", "{record}");
    }
    Ok(())
}

#[test]
fn not_a_byte_changes_on_the_way() -> Rigged<()> {
    let service = Service::echo()?;
    let Tunnels { ground, address } = Tunnels::passing(&url(&service), "", PUBLIC)?;
    let front = ground.start()?;
    let hello = hello_for("any.example", &config_of(&front)?)?;
    // With what a client may send at once, as early data.
    let more: Vec<u8> = (0..100_000_u32).map(|n| (n % 251) as u8).collect();
    let said = [&hello[..], &more].concat();
    let mut client = connected(address)?;
    let mut writes = client.try_clone()?;
    let all = said.clone();
    let writing = std::thread::spawn(move || {
        writes.write_all(&all)?;
        writes.shutdown(Shutdown::Write)
    });
    let heard = rest_of(&mut client);
    assert!(writing.join().is_ok_and(|it| it.is_ok()));
    assert!(
        heard == said,
        "{} of {} bytes came back",
        heard.len(),
        said.len()
    );
    assert!(service.heard().concat() == said);
    let record = front.audited("the tunnel", |line| line["kind"] == "tunnel")?;
    let bytes: Value = said.len().into();
    assert_eq!(
        (&record["client_bytes"], &record["upstream_bytes"]),
        (&bytes, &bytes)
    );
    assert_eq!(record["ended"], "whole");
    Ok(())
}

#[test]
fn each_half_ends_in_its_time() -> Rigged<()> {
    for (service, greets) in [
        (Service::last_word("goodbye")?, false),
        (Service::first_word("welcome")?, true),
    ] {
        let Tunnels { ground, address } = Tunnels::passing(&url(&service), "", PUBLIC)?;
        let front = ground.start()?;
        let hello = hello_for("any.example", &config_of(&front)?)?;
        let mut client = connected(address)?;
        client.write_all(&hello)?;
        if greets {
            assert_eq!(rest_of(&mut client), b"welcome");
            client.write_all(b"still here")?;
            client.shutdown(Shutdown::Write)?;
            let whole = [&hello[..], b"still here"].concat();
            eventually("the service hears on", PATIENCE, || {
                (service.heard() == [whole.clone()]).then_some(())
            })?;
        } else {
            client.shutdown(Shutdown::Write)?;
            assert_eq!(rest_of(&mut client), b"goodbye");
            assert_eq!(service.heard(), [hello]);
        }
        let record = front.audited("the tunnel", |line| line["kind"] == "tunnel")?;
        assert_eq!(record["ended"], "whole", "{record}");
    }
    Ok(())
}

/// Version 2, for a TCP connection from 198.51.100.7:4711.
fn introduced() -> Vec<u8> {
    let addresses = [198, 51, 100, 7, 192, 0, 2, 1, 0x12, 0x67, 1, 0xbb];
    [&b"\r\n\r\n\0\r\nQUIT\n\x21\x11\0\x0c"[..], &addresses].concat()
}

#[test]
fn whose_connection_it_is_comes_in_from_a_balancer_and_goes_out_to_the_service() -> Rigged<()> {
    let service = Service::echo()?;
    let balanced = "proxy_protocol = [\"127.0.0.1\"]";
    let Tunnels { ground, address } = Tunnels::passing(&url(&service), balanced, PUBLIC)?;
    let with_v2 = format!("url = \"{}\"\nproxy_protocol = \"v2\"", url(&service));
    let front = ground
        .alter(&format!("url = \"{}\"", url(&service)), &with_v2)?
        .start()?;
    let balancer = Balancer::start(address, introduced())?;
    let hello = hello_for("any.example", &config_of(&front)?)?;
    let mut client = connected(balancer.address())?;
    client.write_all(&hello)?;
    let heard = eventually("the service hears", PATIENCE, || {
        let heard = service.heard().concat();
        (heard.len() >= 28 + hello.len()).then_some(heard)
    })?;
    assert_eq!(heard[..16], introduced()[..16]);
    assert_eq!(heard[16..20], [198, 51, 100, 7]);
    assert_eq!(heard[24..26], 4711_u16.to_be_bytes());
    assert_eq!(heard[28..], hello);
    // Banned while it lives.
    front
        .daemon
        .ask(&["block", "add", "198.51.100.7", "--ttl", "1h"])?;
    let began = std::time::Instant::now();
    let mut byte = [0; 65536];
    while matches!(client.read(&mut byte), Ok(1..)) {}
    assert!(began.elapsed().as_millis() < 1500, "{:?}", began.elapsed());
    let record = front.audited("the tunnel", |line| line["kind"] == "tunnel")?;
    assert_eq!(record["peer"], "198.51.100.7:4711", "{record}");
    assert_eq!(record["ended"], "source_banned", "{record}");
    assert_eq!(record["verdict"], "permit", "{record}");
    // And refused from then on.
    let mut client = connected(balancer.address())?;
    let _ = client.write_all(&hello);
    let _ = rest_of(&mut client);
    let record = front.audited("the refusal", |line| line["verdict"] == "deny")?;
    assert_eq!(record["kind"], "tunnel", "{record}");
    assert_eq!(record["reason"], "source_banned", "{record}");
    assert_eq!(service.heard().len(), 1);
    Ok(())
}

#[test]
fn a_service_that_is_not_well_gets_nothing_until_it_is() -> Rigged<()> {
    let at = free_address()?;
    let Tunnels { ground, address } = Tunnels::passing(&format!("tcp://{at}"), "", PUBLIC)?;
    let health = "[upstream.health]\ninterval = \"100ms\"\nunhealthy_after = 1\nhealthy_after = 1";
    let front = ground
        .add(&format!("url = \"tcp://{at}\"\n"), health)?
        .start()?;
    front.audited("it is not", |line| line["step"] == "endpoint_unhealthy")?;
    let hello = hello_for("any.example", &config_of(&front)?)?;
    let ask = || -> Rigged<Vec<u8>> {
        let mut client = connected(address)?;
        client.write_all(&hello)?;
        client.shutdown(Shutdown::Write)?;
        Ok(rest_of(&mut client))
    };
    // internal_error, as a fatal alert.
    assert_eq!(ask()?, [21, 3, 3, 0, 2, 2, 80]);
    let record = front.audited("the tunnel", |line| line["kind"] == "tunnel")?;
    assert_eq!(record["reason"], "upstream_unhealthy", "{record}");
    let server = format!("listen {at}; return 200 \"up\";");
    let probe = format!("http://{at}/");
    let _nginx = Nginx::serve(&front.ground.scratch, "late", &server, &[&probe])?;
    front.audited("it is well", |line| line["step"] == "endpoint_healthy")?;
    // It takes what isn't HTTP for a bad request: it was asked.
    let answer = String::from_utf8_lossy(&ask()?).into_owned();
    assert!(answer.contains("400 Bad Request"), "{answer}");
    Ok(())
}

#[test]
fn what_tunnels_do_is_counted_by_route_and_end() -> Rigged<()> {
    let service = Service::echo()?;
    let Tunnels { ground, address } = Tunnels::passing(
        &url(&service),
        "",
        "host = \"a.example\"\naccess = \"public\"",
    )?;
    let observer = free_address()?;
    let observe = format!("[observe]\naddress = \"{observer}\"\n\n[admin]");
    let front = ground.alter("[admin]", &observe)?.start()?;
    let config = config_of(&front)?;
    for name in ["a.example", "b.example"] {
        let mut client = connected(address)?;
        client.write_all(&hello_for(name, &config)?)?;
        client.shutdown(Shutdown::Write)?;
        rest_of(&mut client);
        front.audited(name, |line| line["server_name"] == name)?;
    }
    let metrics = front.curl_at(&format!("http://{observer}/metrics"), &[])?;
    let metrics = String::from_utf8_lossy(&metrics.body).into_owned();
    for line in [
        "portcullis_tunnels_total{route=\"service\",verdict=\"permit\"} 1",
        "portcullis_tunnels_total{route=\"-\",verdict=\"deny\"} 1",
        "portcullis_tunnel_ends_total{ended=\"whole\"} 1",
        "portcullis_refused_connections_total{reason=\"no_route\"} 1",
        "portcullis_tunnel_duration_seconds_count{route=\"service\"} 1",
    ] {
        assert!(metrics.contains(line), "{line}: {metrics}");
    }
    let sent = "portcullis_tunnel_client_bytes_total{route=\"service\"} ";
    let sent = metrics.lines().find_map(|line| line.strip_prefix(sent));
    assert!(
        sent.and_then(|it| it.parse::<u64>().ok()) > Some(200),
        "{metrics}"
    );
    Ok(())
}
