//! Versions and TLS towards upstreams: what is spoken, who is believed, who is shown which certificate, and
//! where a name may lead.

use std::net::SocketAddr;

use portcullis_tests::{
    front::{Answer, Front},
    ground::{Ground, free_address},
    nginx::Nginx,
    pki::Pki,
    run::Rigged,
};

/// What nginx is told, and how.
const SAYS: &str = r#"location / {
      default_type text/plain;
      return 200 "spoken=$server_protocol\nhost=$host\nuri=$request_uri\nshown=$ssl_client_verify\nte=$http_te\nlength=$content_length\n";
    }"#;

/// An upstream behind a ground, with its configuration.
struct Behind {
    ground: Ground,
    address: SocketAddr,
    _nginx: Nginx,
}

/// Plain nginx that speaks HTTP/2 and nothing else.
fn http2_alone() -> Rigged<Behind> {
    let (ground, address) = (Ground::set()?, free_address()?);
    let server = format!("listen {address} http2; {SAYS}");
    let url = format!("http://{address}/");
    let probe = ["--http2-prior-knowledge", &url];
    let _nginx = Nginx::serve(&ground.scratch, "h2", &server, &probe)?;
    Ok(Behind {
        ground,
        address,
        _nginx,
    })
}

/// nginx with TLS, a certificate from `pki`, and these lines.
fn encrypted(listen: &str, lines: &str, issue: fn(&Ground) -> Rigged<Pki>) -> Rigged<Behind> {
    let (ground, address) = (Ground::set()?, free_address()?);
    let pki = issue(&ground)?;
    let lines = lines.replace("{at}", &ground.scratch.path().display().to_string());
    let server = format!(
        "listen {address} {listen}; ssl_certificate {}; ssl_certificate_key {}; {lines} {SAYS}",
        pki.certificate.display(),
        pki.key.display()
    );
    let url = format!("https://{address}/");
    let _nginx = Nginx::serve(&ground.scratch, "tls", &server, &["-k", &url])?;
    Ok(Behind {
        ground,
        address,
        _nginx,
    })
}

fn for_loopback(ground: &Ground) -> Rigged<Pki> {
    let files = ["up-ca.pem", "up.pem", "up.key"];
    Pki::issue_into(&ground.scratch, &["127.0.0.1", "orders.internal"], files)
}

fn for_spiffe(ground: &Ground) -> Rigged<Pki> {
    let files = ["up-ca.pem", "up.pem", "up.key"];
    Pki::issue_uri(&ground.scratch, "spiffe://example.org/orders", files)
}

impl Behind {
    /// A proxy in front of it, asked once over each version.
    fn ask(self, scheme: &str, lines: &str) -> Rigged<(Front, Kept, [Answer; 2])> {
        let Self {
            ground,
            address,
            _nginx,
        } = self;
        let lines = lines.replace("{at}", &ground.scratch.path().display().to_string());
        let url = format!("{scheme}://{address}");
        let front = ground.with_upstream_at(&url, &lines)?.start()?;
        let path = "/public?a=%2F&b";
        let answers = [
            front.curl(path, &["--http1.1", "--data", "12345"])?,
            front.curl(path, &["--http2", "--data", "12345"])?,
        ];
        Ok((front, Kept(_nginx), answers))
    }
}

/// The upstream, for as long as its proxy.
struct Kept(#[expect(dead_code, reason = "ends when dropped")] Nginx);

fn assert_spoken(answers: &[Answer], version: &str) {
    for answer in answers {
        assert_eq!(answer.status, 200, "{answer:?}");
        assert_eq!(answer.told("spoken"), version);
        assert_eq!(answer.told("host"), "api.example");
        assert_eq!(answer.told("uri"), "/public?a=%2F&b");
        assert_eq!(answer.told("length"), "5");
    }
}

fn assert_unreachable(front: &Front, answers: &[Answer]) -> Rigged<()> {
    for answer in answers {
        assert_eq!(answer.status, 502, "{answer:?}");
        let record = front.record_of(answer.field("x-request-id"))?;
        assert_eq!(record["reason"], "upstream_unreachable", "{record}");
    }
    Ok(())
}

const TRUSTED: &str = "ca = \"{at}/up-ca.pem\"";

#[test]
fn an_upstream_is_spoken_to_in_http2_by_prior_knowledge_where_that_is_asked_for() -> Rigged<()> {
    let (_front, _nginx, answers) = http2_alone()?.ask("http", "protocol = \"h2\"")?;
    assert_spoken(&answers, "HTTP/2.0");
    Ok(())
}

#[test]
fn an_encrypted_upstream_is_spoken_to_in_what_both_know_best() -> Rigged<()> {
    let behind = encrypted("ssl http2", "", for_loopback)?;
    let (_front, _nginx, answers) = behind.ask("https", TRUSTED)?;
    assert_spoken(&answers, "HTTP/2.0");
    let behind = encrypted("ssl", "", for_loopback)?;
    let (_front, _nginx, answers) = behind.ask("https", TRUSTED)?;
    assert_spoken(&answers, "HTTP/1.1");
    Ok(())
}

#[test]
fn an_encrypted_upstream_is_spoken_to_in_http1_where_that_is_asked_for() -> Rigged<()> {
    let behind = encrypted("ssl http2", "", for_loopback)?;
    let lines = format!("{TRUSTED}\nprotocol = \"http/1.1\"");
    let (_front, _nginx, answers) = behind.ask("https", &lines)?;
    assert_spoken(&answers, "HTTP/1.1");
    Ok(())
}

#[test]
fn an_upstream_that_does_not_speak_what_is_asked_for_is_not_spoken_to() -> Rigged<()> {
    let behind = encrypted("ssl", "", for_loopback)?;
    let lines = format!("{TRUSTED}\nprotocol = \"h2\"");
    let (front, _nginx, answers) = behind.ask("https", &lines)?;
    assert_unreachable(&front, &answers)
}

#[test]
fn an_upstream_has_to_prove_the_name_that_is_expected() -> Rigged<()> {
    let named = |name: &str| format!("{TRUSTED}\nserver_name = \"{name}\"");
    let behind = encrypted("ssl", "", for_loopback)?;
    let (_front, _nginx, answers) = behind.ask("https", &named("orders.internal"))?;
    assert_spoken(&answers, "HTTP/1.1");
    let behind = encrypted("ssl", "", for_loopback)?;
    let (front, _nginx, answers) = behind.ask("https", &named("other.internal"))?;
    assert_unreachable(&front, &answers)?;
    // By whom the system trusts, nobody vouches for it.
    let behind = encrypted("ssl", "", for_loopback)?;
    let (front, _nginx, answers) = behind.ask("https", "")?;
    assert_unreachable(&front, &answers)
}

#[test]
fn an_upstream_has_to_prove_the_spiffe_id_that_is_expected() -> Rigged<()> {
    let identified = |id: &str| format!("{TRUSTED}\nspiffe_id = \"{id}\"");
    let behind = encrypted("ssl", "", for_spiffe)?;
    let right = identified("spiffe://example.org/orders");
    let (_front, _nginx, answers) = behind.ask("https", &right)?;
    assert_spoken(&answers, "HTTP/1.1");
    for wrong in [
        "spiffe://example.org/order",
        "spiffe://example.org/orders/1",
    ] {
        let behind = encrypted("ssl", "", for_spiffe)?;
        let (front, _nginx, answers) = behind.ask("https", &identified(wrong))?;
        assert_unreachable(&front, &answers)?;
    }
    // A certificate for hosts is nobody's.
    let behind = encrypted("ssl", "", for_loopback)?;
    let (front, _nginx, answers) = behind.ask("https", &right)?;
    assert_unreachable(&front, &answers)
}

#[test]
fn an_upstream_is_shown_the_certificate_that_is_given_for_it() -> Rigged<()> {
    let verifies = "ssl_verify_client optional; ssl_client_certificate {at}/us-ca.pem;";
    let behind = encrypted("ssl", verifies, |ground| {
        let files = ["us-ca.pem", "us.pem", "us.key"];
        Pki::issue_uri(&ground.scratch, "spiffe://example.org/gate", files)?;
        for_loopback(ground)
    })?;
    let lines = format!("{TRUSTED}\ncertificate = \"{{at}}/us.pem\"\nkey = \"{{at}}/us.key\"");
    let (_front, _nginx, answers) = behind.ask("https", &lines)?;
    for answer in &answers {
        assert_eq!(answer.told("shown"), "SUCCESS", "{answer:?}");
    }
    Ok(())
}

/// Case 69: a name that leads to the host itself, or to a cloud's metadata.
#[test]
fn a_name_that_leads_to_this_host_is_refused_unless_listed() -> Rigged<()> {
    let ground = Ground::set()?;
    let port = ground.upstream.port();
    let front = ground
        .with_upstream_at(
            &format!("http://localhost:{port}"),
            "connect_timeout = \"300ms\"",
        )?
        .start()?;
    let told = front.audited("the name is refused", |line| {
        line["step"] == "upstream_refused"
    })?;
    let detail = told["detail"].as_str().unwrap_or_default();
    assert!(detail.contains("allow_addresses"), "{told}");
    let answer = front.curl("/public", &[])?;
    assert_eq!(answer.status, 502);
    let record = front.record_of(answer.field("x-request-id"))?;
    assert_eq!(record["reason"], "upstream_unresolved", "{record}");
    assert_eq!(front.ground.nginx.seen().matches("/public").count(), 0);

    // Spellings of an address that only a resolver takes for one.
    for name in ["2130706433", "0x7f000001", "127.1"] {
        let ground = Ground::set()?;
        let port = ground.upstream.port();
        let url = format!("http://{name}:{port}");
        let Ok(front) = ground
            .with_upstream_at(&url, "connect_timeout = \"300ms\"")?
            .start()
        else {
            continue;
        };
        assert_eq!(front.curl("/public", &[])?.status, 502, "{name}");
        assert_eq!(front.ground.nginx.seen().matches("/public").count(), 0);
    }

    let ground = Ground::set()?;
    let port = ground.upstream.port();
    let listed = "allow_addresses = [\"127.0.0.0/8\", \"::1\"]";
    let front = ground
        .with_upstream_at(&format!("http://localhost:{port}"), listed)?
        .start()?;
    assert_eq!(front.curl("/public", &[])?.status, 200);
    Ok(())
}
