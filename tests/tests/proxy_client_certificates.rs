//! Certificates of clients: required or not, by host, revoked, and never by way of another host.

use std::time::Duration;

use portcullis_tests::{
    client_pki::{ClientCertificate, ClientPki},
    front::{Answer, Front},
    ground::Ground,
    pki::Pki,
    run::{Rigged, eventually, output},
};

const SOON: Duration = Duration::from_secs(15);

/// A ground, and whose certificates it believes.
fn ground() -> Rigged<(Ground, ClientPki)> {
    let ground = Ground::set()?;
    let clients = ClientPki::new(&ground.scratch, "clients")?;
    Ok((ground, clients))
}

/// Asks clients for certificates, in this way.
fn asking(ground: Ground, lines: &str) -> Rigged<Ground> {
    let at = ground.scratch.path().display().to_string();
    let rule = format!("[[listener.client_certificates]]\nca = \"{at}/clients.pem\"\n{lines}\n\n");
    ground.alter(
        "[[issuer]]",
        &format!("{}[[issuer]]", rule.replace("{at}", &at)),
    )
}

fn showing(front: &Front, shown: &ClientCertificate) -> Rigged<Answer> {
    let args = shown.curl_args();
    front.curl("/public", &args.each_ref().map(String::as_str))
}

fn assert_no_connection(front: &Front, answer: &Answer) -> Rigged<()> {
    assert_eq!(answer.status, 0, "{answer:?}");
    front.audited("the handshake", |line| {
        line["reason"] == "tls_handshake_failed"
    })?;
    assert_eq!(front.ground.nginx.seen().matches("/public").count(), 0);
    Ok(())
}

#[test]
fn without_a_required_certificate_there_is_no_connection() -> Rigged<()> {
    let (ground, clients) = ground()?;
    let good = clients.issue(&ground.scratch, "alice", 1)?;
    let strangers = ClientPki::new(&ground.scratch, "strangers")?;
    let strange = strangers.issue(&ground.scratch, "mallory", 1)?;
    let front = asking(ground, "mode = \"required\"")?.start()?;
    assert_no_connection(&front, &front.curl("/public", &[])?)?;
    assert_no_connection(&front, &showing(&front, &strange)?)?;
    let answer = showing(&front, &good)?;
    assert_eq!(answer.status, 200, "{answer:?}");
    let record = front.record_of(answer.field("x-request-id"))?;
    let hash = record["client_certificate"].as_str().unwrap_or_default();
    assert_eq!(hash.len(), 64, "{record}");
    let mut openssl = std::process::Command::new("openssl");
    openssl.args(["x509", "-noout", "-fingerprint", "-sha256", "-in"]);
    let said = output(openssl.arg(&good.certificate))?.stdout;
    let said = String::from_utf8_lossy(&said)
        .replace(':', "")
        .to_lowercase();
    assert!(said.contains(hash), "{said} {hash}");
    Ok(())
}

#[test]
fn an_optional_certificate_that_is_shown_has_to_be_good() -> Rigged<()> {
    let (ground, clients) = ground()?;
    let good = clients.issue(&ground.scratch, "alice", 1)?;
    let strangers = ClientPki::new(&ground.scratch, "strangers")?;
    let strange = strangers.issue(&ground.scratch, "mallory", 1)?;
    let front = asking(ground, "mode = \"optional\"")?.start()?;
    assert_no_connection(&front, &showing(&front, &strange)?)?;
    let answer = front.curl("/public", &[])?;
    assert_eq!(answer.status, 200);
    let record = front.record_of(answer.field("x-request-id"))?;
    assert!(record["client_certificate"].is_null(), "{record}");
    assert_eq!(showing(&front, &good)?.status, 200);
    Ok(())
}

#[test]
fn a_certificate_that_is_revoked_meanwhile_is_refused_from_then_on() -> Rigged<()> {
    let (ground, clients) = ground()?;
    let alice = clients.issue(&ground.scratch, "alice", 1)?;
    let bob = clients.issue(&ground.scratch, "bob", 2)?;
    let list = |revoked: &[&ClientCertificate]| clients.revocation_list(revoked, 2100);
    ground.scratch.write("clients.crl", list(&[])?)?;
    let ground = asking(ground, "mode = \"required\"\ncrls = [\"{at}/clients.crl\"]")?;
    let front = ground.start()?;
    for client in [&alice, &bob] {
        assert_eq!(showing(&front, client)?.status, 200);
    }
    front.ground.scratch.write("clients.crl", list(&[&bob])?)?;
    eventually("bob is refused", SOON, || {
        let answer = showing(&front, &bob).ok()?;
        (answer.status == 0).then_some(())
    })?;
    assert_eq!(showing(&front, &alice)?.status, 200);
    front.audited("the new list", |line| {
        line["step"] == "client_certificates_reloaded"
    })?;
    // Half a list is none: what was read last stands.
    front.ground.scratch.write("clients.crl", "-----BEGIN")?;
    front.audited("the broken list", |line| {
        line["step"] == "client_certificates_refused"
    })?;
    assert_eq!(showing(&front, &alice)?.status, 200);
    assert_eq!(showing(&front, &bob)?.status, 0);
    Ok(())
}

#[test]
fn once_a_revocation_list_has_run_out_nobody_gets_in() -> Rigged<()> {
    let (ground, clients) = ground()?;
    let alice = clients.issue(&ground.scratch, "alice", 1)?;
    ground
        .scratch
        .write("clients.crl", clients.revocation_list(&[], 2024)?)?;
    let ground = asking(ground, "mode = \"required\"\ncrls = [\"{at}/clients.crl\"]")?;
    let front = ground.start()?;
    let answer = showing(&front, &alice)?;
    assert_no_connection(&front, &answer)
}

/// A proxy that asks for certificates at `admin.example` alone, and one that is good there.
fn asking_at_admin() -> Rigged<(Front, ClientCertificate)> {
    let (ground, clients) = ground()?;
    let names = ["api.example", "admin.example", "localhost", "127.0.0.1"];
    Pki::issue(&ground.scratch, &names)?;
    let alice = clients.issue(&ground.scratch, "alice", 1)?;
    let rule = "mode = \"required\"\nhosts = [\"admin.example\"]";
    let ground = asking(ground, rule)?.alter(
        "[admin]",
        "[[route]]\nname = \"secret\"\nhost = \"admin.example\"\npath = \"/\"\nmethods = [\"GET\"]\n\
         upstream = \"app\"\naccess = \"public\"\n\n[admin]",
    )?;
    Ok((ground.start()?, alice))
}

/// Case 62 (CVE-2025-23419), by the name in TLS: who was not asked for one gets nothing of a host that asks.
#[test]
fn a_host_that_asks_for_one_is_not_to_be_had_by_way_of_another() -> Rigged<()> {
    let (front, alice) = asking_at_admin()?;
    let port = front.address.port();
    let at = format!("admin.example:{port}:127.0.0.1");
    let admin = format!("https://admin.example:{port}/secret");
    assert_eq!(front.curl("/public", &[])?.status, 200);
    assert_eq!(front.curl_at(&admin, &["--resolve", &at])?.status, 0);
    let shown = alice.curl_args();
    let args = [
        &["--resolve", &at][..],
        &shown.each_ref().map(String::as_str),
    ]
    .concat();
    assert_eq!(front.curl_at(&admin, &args)?.status, 200);

    // Over a connection for the host that asks for nothing; and the other way round.
    for version in ["--http1.1", "--http2"] {
        let args = [version, "-H", "Host: admin.example"];
        let answer = front.curl("/secret", &args)?;
        assert_eq!(answer.status, 421, "{answer:?}");
        let record = front.record_of(answer.field("x-request-id"))?;
        assert_eq!(
            record["reason"], "host_of_other_client_certificates",
            "{record}"
        );
    }
    assert_eq!(front.ground.nginx.seen().matches("/secret").count(), 1);
    Ok(())
}

/// Case 62, by a ticket: where certificates are asked for, there are none to carry on with.
#[test]
fn a_session_with_a_certificate_is_not_resumed() -> Rigged<()> {
    let (ground, clients) = ground()?;
    let alice = clients.issue(&ground.scratch, "alice", 1)?;
    let front = asking(ground, "mode = \"required\"")?.start()?;
    let [_, certificate, _, key] = alice.curl_args();
    for version in ["-tls1_3", "-tls1_2"] {
        let args = [version, "-reconnect", "-cert", &certificate, "-key", &key];
        let said = output(front.s_client(&args).stdin(std::process::Stdio::null()))?.stdout;
        let said = String::from_utf8_lossy(&said);
        assert!(said.contains("New, TLS"), "{said}");
        assert!(!said.contains("Reused"), "{said}");
    }
    Ok(())
}

/// Case 62, by a ticket of a host that asks for nothing.
#[test]
fn a_session_of_another_host_opens_none_that_asks() -> Rigged<()> {
    let (front, alice) = asking_at_admin()?;
    let [_, certificate, _, key] = alice.curl_args();
    let kept = front.ground.scratch.join("session").display().to_string();
    let alpn = ["-quiet", "-alpn", "http/1.1"];
    let ask = |host: &str, args: &[&str]| {
        let path = if host == "admin.example" {
            "/secret"
        } else {
            "/public"
        };
        let request = format!("GET {path} HTTP/1.1\r\nHost: {host}\r\nConnection: close\r\n\r\n");
        let args = [&alpn[..], &["-servername", host], args].concat();
        front.raw_with(&args, request.as_bytes())
    };
    let own = ["-tls1_3", "-cert", &certificate, "-key", &key];
    assert_eq!(ask("admin.example", &own)?.status(), 200);
    let kept_there = ["-tls1_3", "-sess_out", &kept];
    assert_eq!(ask("api.example", &kept_there)?.status(), 200);
    assert!(std::fs::exists(&kept)?, "no session is kept");

    let carried = ["-tls1_3", "-sess_in", &kept];
    assert_eq!(ask("api.example", &carried)?.status(), 200);
    let answer = ask("admin.example", &carried)?;
    assert_eq!(answer.text, "", "{answer:?}");
    let record = front.audited("the handshake", |line| line["kind"] == "connection")?;
    assert_eq!(record["reason"], "tls_handshake_failed", "{record}");
    assert_eq!(front.ground.nginx.seen().matches("/secret").count(), 1);
    Ok(())
}

/// Case 63.
#[test]
fn a_file_that_is_missing_or_empty_is_a_mistake_at_start_and_at_a_reload() -> Rigged<()> {
    let (ground, _clients) = ground()?;
    let ground = asking(ground, "mode = \"required\"\ncrls = [\"{at}/clients.crl\"]")?;
    let said = ground.refused_start()?;
    assert!(said.contains("client_certificates[0].crls"), "{said}");
    ground.scratch.write("clients.crl", "")?;
    let said = ground.refused_start()?;
    assert!(said.contains("no revocation list in it"), "{said}");
    ground.scratch.write("clients.pem", "")?;
    let said = ground.refused_start()?;
    assert!(said.contains("client_certificates[0].ca"), "{said}");
    assert!(said.contains("no certificate in it"), "{said}");

    let (ground, _clients) = self::ground()?;
    let said = asking(ground, "mode = \"required\"\nhosts = []")?.refused_start()?;
    assert!(said.contains("names no host"), "{said}");

    let (ground, clients) = self::ground()?;
    let alice = clients.issue(&ground.scratch, "alice", 1)?;
    let front = asking(ground, "mode = \"required\"")?.start()?;
    front.ground.scratch.write("clients.pem", "")?;
    let said = front.daemon.ask_refused(&["reload"])?;
    assert!(said.contains("no certificate in it"), "{said}");
    assert_eq!(showing(&front, &alice)?.status, 200);
    assert_eq!(front.curl("/public", &[])?.status, 0);
    Ok(())
}
