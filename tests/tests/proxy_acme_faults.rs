//! Certificates from an authority: what goes wrong is told with what to mend, and what was good stays.

use std::{fs, time::Duration};

use portcullis_tests::{
    ground::{Ground, free_address},
    issuing::{
        ISSUED, Issuing, LONG, SHORT, ask, await_obtained, files_in, handshake, root_of, serial,
        steps,
    },
    nginx::Nginx,
    pebble::PebblePlace,
    run::{Rigged, eventually},
    scene::HOST,
    scripted::Scripted,
};

#[test]
fn before_the_first_certificate_a_handshake_fails_and_the_same_failure_is_told_once() -> Rigged<()>
{
    let mut issuing = Issuing::by_handshake(LONG)?;
    // Not an authority: it hangs up on everybody, and counts them.
    let stranger = Scripted::start(|_, _| Ok(false))?;
    let before = issuing.place.directory();
    let instead = format!("https://{}/dir", stranger.address());
    issuing.ground = issuing.ground.alter(&before, &instead)?;
    let front = issuing.ground.start()?;
    let shown = handshake(&front, &[])?;
    assert!(!shown.contains("BEGIN CERTIFICATE"), "{shown}");
    let told = front.audited("the failure", |line| {
        line["step"] == "certificate_not_obtained"
    })?;
    let detail = told["detail"].as_str().unwrap_or_default();
    assert!(
        detail.starts_with("api.example: the authority can't be asked: "),
        "{detail}"
    );
    eventually("it is asked again", ISSUED, || {
        (stranger.connections() >= 2).then_some(())
    })?;
    assert_eq!(steps(&front, "certificate_not_obtained").len(), 1);
    Ok(())
}

#[test]
fn the_last_good_one_serves_while_the_authority_fails_and_a_lost_account_is_replaced() -> Rigged<()>
{
    let issuing = Issuing::by_handshake(SHORT)?;
    let pebble = issuing.place.start()?;
    let front = issuing.ground.start()?;
    await_obtained(&front, &issuing.place, 1)?;
    let before = serial(&front)?;
    drop(pebble);
    front.audited("the failure", |line| {
        line["step"] == "certificate_not_obtained"
    })?;
    assert_eq!(serial(&front)?, before);

    // Another root, and no account: pebble has forgotten all.
    let pebble = issuing.place.start()?;
    await_obtained(&front, &issuing.place, 2)?;
    let root = root_of(&front, &pebble)?;
    assert_eq!(ask(&front, &root)?.status, 200);
    assert_eq!(steps(&front, "acme_account").len(), 1);
    assert_eq!(steps(&front, "certificate_not_obtained").len(), 1);
    Ok(())
}

#[test]
fn what_is_kept_and_damaged_is_told_and_replaced() -> Rigged<()> {
    let issuing = Issuing::by_handshake(LONG)?;
    let _pebble = issuing.place.start()?;
    let front = issuing.ground.start()?;
    await_obtained(&front, &issuing.place, 1)?;
    for path in files_in(&front.ground.scratch.join("acme"))? {
        if path.is_file() {
            let whole = fs::read_to_string(&path)?;
            fs::write(path, &whole[..whole.len() / 2])?;
        }
    }
    let front = front.crash()?.start()?;
    await_obtained(&front, &issuing.place, 2)?;
    for step in ["certificate_damaged", "acme_account"] {
        let told = steps(&front, step);
        assert_eq!(told.len(), 1, "{step}: {told:?}");
        assert!(told[0].contains(" can't be used: "), "{step}: {told:?}");
    }
    // And what took their place is whole.
    let before = serial(&front)?;
    let front = front.crash()?.start()?;
    assert_eq!(serial(&front)?, before);
    Ok(())
}

#[test]
fn a_certificate_that_is_old_by_this_hosts_clock_is_not_renewed_over_and_over() -> Rigged<()> {
    // As good as a clock that is ahead: two thirds of a second are over before it is here.
    let issuing = Issuing::by_handshake(Duration::from_secs(1))?;
    let _pebble = issuing.place.start()?;
    let front = issuing.ground.start()?;
    let told = front.audited("the failure", |line| {
        line["step"] == "certificate_not_obtained"
    })?;
    let detail = told["detail"].as_str().unwrap_or_default();
    assert!(
        detail.contains("obtained and served, but good from "),
        "{detail}"
    );
    assert!(
        detail.contains("; set the clock; again in 1day"),
        "{detail}"
    );
    serial(&front)?;
    Ok(())
}

#[test]
fn without_a_place_to_keep_it_no_certificate_is_asked_for() -> Rigged<()> {
    let mut issuing = Issuing::by_handshake(LONG)?;
    let at = issuing.ground.scratch.path().display().to_string();
    let storage = |folder: &str| format!("storage = \"{at}/{folder}\"");
    // A folder below a file can't be made.
    issuing.ground = issuing
        .ground
        .alter(&storage("acme"), &storage("server.pem/acme"))?;
    let _pebble = issuing.place.start()?;
    let front = issuing.ground.start()?;
    let told = front.audited("the failure", |line| {
        line["step"] == "certificate_not_obtained"
    })?;
    let detail = told["detail"].as_str().unwrap_or_default();
    assert!(detail.contains("acme.storage must be a folder"), "{detail}");
    let log = issuing.place.printed();
    assert!(
        !log.contains("new-order") && !log.contains("order-plz"),
        "{log}"
    );
    Ok(())
}

#[test]
fn a_name_that_does_not_lead_here_is_told_with_what_to_mend() -> Rigged<()> {
    let mut issuing = Issuing::by_handshake(LONG)?;
    let elsewhere = free_address()?;
    issuing.place = PebblePlace::prepare(&issuing.ground.scratch, elsewhere, issuing.http, LONG)?;
    let before = issuing
        .ground
        .text
        .lines()
        .find(|line| line.starts_with("directory = \"https"));
    let before = before.unwrap_or_default().to_owned();
    let now = format!("directory = \"{}\"", issuing.place.directory());
    issuing.ground = issuing.ground.alter(&before, &now)?;
    let _pebble = issuing.place.start()?;
    let front = issuing.ground.start()?;
    let told = front.audited("the failure", |line| {
        line["step"] == "certificate_not_obtained"
    })?;
    let detail = told["detail"].as_str().unwrap_or_default();
    for words in [
        "the authority could not check api.example by tls-alpn-01: ",
        "Failed to connect to 127.0.0.1:",
        "port 443 of it to this proxy",
    ] {
        assert!(detail.contains(words), "{words}: {detail}");
    }
    Ok(())
}

/// A server in the authority's place that says the same whoever asks.
fn instead(issuing: &Issuing, lines: &str) -> Rigged<Nginx> {
    let (address, pki) = (issuing.place.address, &issuing.place.pki);
    let server = format!(
        "listen {address} ssl; ssl_certificate {}; ssl_certificate_key {}; default_type application/json; {}",
        pki.certificate.display(),
        pki.key.display(),
        lines.replace("{own}", &format!("https://{address}"))
    );
    let probe = format!("https://{address}/");
    Nginx::serve(&issuing.ground.scratch, "instead", &server, &["-k", &probe])
}

/// What is told when this server is in the authority's place.
fn told_instead(lines: &str) -> Rigged<String> {
    let issuing = Issuing::by_handshake(LONG)?;
    let _server = instead(&issuing, lines)?;
    let front = issuing.ground.start()?;
    let told = front.audited("the failure", |line| {
        line["step"] == "certificate_not_obtained"
    })?;
    Ok(told["detail"].as_str().unwrap_or_default().to_owned())
}

#[test]
fn an_authority_that_asks_to_be_left_alone_is() -> Rigged<()> {
    let told = told_instead(
        r#"location = /dir { return 200 '{"newNonce":"{own}/nonce","newAccount":"{own}/new","newOrder":"{own}/order"}'; }
        add_header Replay-Nonce abc always;
        location = /nonce { return 200 ''; }
        location = /new { add_header Replay-Nonce abc; add_header Location {own}/account/1; return 201 '{}'; }
        location = /order {
            default_type application/problem+json;
            add_header Retry-After 7200 always;
            return 429 '{"type":"urn:ietf:params:acme:error:rateLimited","detail":"too many"}';
        }"#,
    )?;
    let expected =
        "api.example: the authority refused the order: too many (rateLimited); again in 2h";
    assert!(told.starts_with(expected), "{told}");

    // As a gateway before it would.
    let told = told_instead("location = /dir { add_header Retry-After 7200 always; return 503; }")?;
    let expected = "the authority can't be asked: it answered 503 Service Unavailable; again in 2h";
    assert!(told.contains(expected), "{told}");
    Ok(())
}

#[test]
fn an_authority_is_not_followed_into_the_network() -> Rigged<()> {
    for (lines, words) in [
        (
            "location = /dir { return 302 {own}/elsewhere; }",
            "it answered 302 Found with a redirect, which is not followed",
        ),
        (
            r#"location = /dir { return 200 '{"newNonce":"https://127.0.0.1:1/nonce","newAccount":"{own}/new","newOrder":"{own}/order"}'; }"#,
            "127.0.0.1 is not a public address",
        ),
        (
            r#"location = /dir { return 200 '{"newNonce":"https://localhost:1/nonce","newAccount":"{own}/new","newOrder":"{own}/order"}'; }"#,
            " is not a public address",
        ),
        (
            r#"location = /dir { return 200 '{"newNonce":"http://127.0.0.1:1/nonce","newAccount":"{own}/new","newOrder":"{own}/order"}'; }"#,
            "the authority can't be asked: ",
        ),
        (
            "location = /dir { return 200 'not JSON'; }",
            "the authority can't be asked: ",
        ),
    ] {
        let told = told_instead(lines)?;
        assert!(told.contains(words), "{lines}: {told}");
        assert!(told.contains("; again in "), "{lines}: {told}");
    }
    Ok(())
}

#[test]
fn a_reload_does_not_ask_an_authority_again_that_said_no() -> Rigged<()> {
    let issuing = Issuing::by_handshake(LONG)?;
    let server = instead(
        &issuing,
        "location = /dir { add_header Retry-After 7200 always; return 503; }",
    )?;
    let front = issuing.ground.start()?;
    front.audited("the failure", |line| {
        line["step"] == "certificate_not_obtained"
    })?;
    let asked = || server.seen().matches("GET /dir ").count();
    eventually("it was asked", ISSUED, || (asked() == 1).then_some(()))?;
    for _ in 0..3 {
        front.daemon.ask(&["reload"])?;
    }
    // Another authority knows nothing of that, and is asked at once.
    let text = front.ground.text.replacen("/dir\"", "/other\"", 1);
    front.ground.scratch.write("portcullis.toml", text)?;
    front.daemon.ask(&["reload"])?;
    eventually("the other one is asked", ISSUED, || {
        server.seen().contains("GET /other ").then_some(())
    })?;
    assert_eq!(asked(), 1);
    Ok(())
}

#[test]
fn mistakes_are_told_with_what_to_mend() -> Rigged<()> {
    for (from, to, words) in [
        (
            "agree_to_terms = true",
            "agree_to_terms = false",
            &[
                "acme.agree_to_terms = false: ",
                "agree to its terms",
                "write true",
            ][..],
        ),
        (
            "directory = \"https",
            "directory = \"http",
            &["acme.directory", "is no https:// URL"],
        ),
        (
            "mailto:admin@api.example",
            "admin@api.example",
            &["acme.contacts", "is no mailto: URL"],
        ),
        (
            "/pebble-ca.pem",
            "/jwks.json",
            &[
                "acme.ca",
                "no certificate in it",
                "PEM file of certificates",
            ],
        ),
        (
            "\"http-01\"",
            "\"dns-01\"",
            &["unknown variant `dns-01`", "tls-alpn-01"],
        ),
        (
            "names = [\"api.example\"]",
            "names = [\"*.example\"]",
            &["listener[0].acme[0].names", "a wildcard can't be checked"],
        ),
        (
            "names = [\"api.example\"]",
            "names = [\"192.0.2.1\"]",
            &["listener[0].acme[0].names", "is an address"],
        ),
        (
            "names = [\"api.example\"]",
            "names = [\"api.example:443\"]",
            &["listener[0].acme[0].names", "is no DNS name"],
        ),
        (
            "names = [\"api.example\"]",
            "names = []",
            &["listener[0].acme[0].names", "has 0 names"],
        ),
        (
            "names = [\"api.example\"]",
            "names = [\"api.example\", \"API.example.\"]",
            &["listener[0].acme[0].names", "is there twice"],
        ),
        (
            "[[issuer]]",
            "[[listener.acme]]\nnames = [\"x.example\", \"api.example\"]\nchallenge = \"http-01\"\n[[issuer]]",
            &[
                "listener[0].acme[1].names",
                "listener[0].acme[0] has api.example already",
            ],
        ),
        (
            "http_address = ",
            "#",
            &["listener[0].acme[0].challenge", "set acme.http_address"],
        ),
    ] {
        let issuing = Issuing::prepare("http-01", &[HOST], LONG)?;
        let told = issuing.ground.alter(from, to)?.refused_start()?;
        for word in words {
            assert!(told.contains(word), "{to}: {word}: {told}");
        }
    }
    Ok(())
}

#[test]
fn a_listener_without_any_certificate_is_a_mistake() -> Rigged<()> {
    let ground = Ground::set()?;
    let at = ground.scratch.path().display().to_string();
    let certificate = format!("certificate = \"{at}/server.pem\"\n");
    let key = format!("key = \"{at}/server.key\"\n");
    let without_key = Ground::set()?;
    let its = without_key.scratch.path().display().to_string();
    let its = format!("key = \"{its}/server.key\"\n");
    let told = without_key.alter(&its, "")?.refused_start()?;
    assert!(told.contains("listener[0].certificate"), "{told}");
    assert!(told.contains("there is no key for it"), "{told}");

    let ground = ground.alter(&certificate, "")?.alter(&key, "")?;
    let told = ground.refused_start()?;
    assert!(
        told.contains("neither certificate and key nor [[listener.acme]]"),
        "{told}"
    );

    let names =
        "[[listener.acme]]\nnames = [\"a.example\"]\nchallenge = \"tls-alpn-01\"\n[[issuer]]";
    let told = ground.alter("[[issuer]]", names)?.refused_start()?;
    assert!(told.contains("there is no table [acme]"), "{told}");
    assert!(
        told.contains("add it, with directory and agree_to_terms"),
        "{told}"
    );
    Ok(())
}
