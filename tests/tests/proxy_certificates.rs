//! A listener's certificates: chosen by name, read again when they change, and asked what hosts they are
//! good for.

use std::{path::Path, time::Duration};

use portcullis_tests::{
    front::{Answer, Front},
    ground::Ground,
    pki::{Pki, stray_key},
    run::{Rigged, eventually},
    scene::HOST,
};

/// Longer than it takes until a changed file is noticed.
const NOTICED: Duration = Duration::from_secs(10);

/// A name that the first certificate isn't good for.
const OTHER: &str = "other.example";

/// A proxy with a second certificate, for `other.example` and all below it.
fn with_two() -> Rigged<(Front, Pki)> {
    let ground = Ground::set()?;
    let other = issue_other(&ground)?;
    let key = other.key.clone();
    Ok((with_second(ground, &other, &key)?.start()?, other))
}

fn issue_other(ground: &Ground) -> Rigged<Pki> {
    let files = ["other-ca.pem", "other.pem", "other.key"];
    Pki::issue_into(&ground.scratch, &[OTHER, "*.other.example"], files)
}

/// A second certificate, with this key.
fn with_second(ground: Ground, other: &Pki, key: &Path) -> Rigged<Ground> {
    let lines = format!(
        "[[listener.certificates]]\ncertificate = {:?}\nkey = {key:?}\n\n[[issuer]]",
        other.certificate
    );
    ground.alter("[[issuer]]", &lines)
}

/// What a client gets that asks for this host and trusts this authority.
fn ask(front: &Front, host: &str, ca: &Path) -> Rigged<Answer> {
    let port = front.address.port();
    let resolve = format!("{host}:{port}:127.0.0.1");
    let url = format!("https://{host}:{port}/public");
    let ca = ca.display().to_string();
    front.curl_at(&url, &["--cacert", &ca, "--resolve", &resolve])
}

#[test]
fn each_name_is_shown_its_own_certificate() -> Rigged<()> {
    let (front, other) = with_two()?;
    // No route has these hosts, which is known only once the handshake is done.
    for host in [OTHER, "www.other.example"] {
        let answer = ask(&front, host, &other.ca)?;
        assert_eq!(answer.status, 404, "{host}: {answer:?}");
        let stranger = ask(&front, host, &front.ground.pki.ca)?;
        assert_eq!(stranger.status, 0, "{host}: {stranger:?}");
    }
    assert_eq!(front.curl("/public", &[])?.status, 200);
    Ok(())
}

#[test]
fn a_host_that_the_shown_certificate_is_not_good_for_is_421() -> Rigged<()> {
    let (front, _) = with_two()?;
    for version in ["--http2", "--http1.1"] {
        for host in [OTHER, "api.example.other", "192.0.2.1", "[::1]"] {
            let field = format!("Host: {host}");
            let answer = front.curl("/public", &[version, "-H", &field])?;
            assert_eq!(answer.status, 421, "{version} {host}: {answer:?}");
            let record = front.record_of(answer.field("x-request-id"))?;
            assert_eq!(record["reason"], "host_not_certified", "{record}");
        }
        for host in [HOST, "API.example.", "localhost", "127.0.0.1"] {
            let field = format!("Host: {host}");
            let answer = front.curl("/public", &[version, "-H", &field])?;
            assert_ne!(answer.status, 421, "{version} {host}: {answer:?}");
        }
    }
    Ok(())
}

#[test]
fn a_renewed_certificate_is_shown_without_a_restart_and_a_bad_one_is_not() -> Rigged<()> {
    let front = Front::open()?;
    let scratch = &front.ground.scratch;
    let names = [HOST, "localhost", "127.0.0.1"];
    let good = std::fs::read(&front.ground.pki.key)?;

    // Key and certificate don't fit: the old ones serve.
    scratch.write("server.key", stray_key()?)?;
    front.audited("the failure", |line| line["step"] == "certificate_failed")?;
    assert_eq!(front.curl("/public", &[])?.status, 200);
    scratch.write("server.key", good)?;
    front.audited("the old pair", |line| line["step"] == "certificate")?;
    assert_eq!(front.curl("/public", &[])?.status, 200);

    // Another authority, which the client trusts from now on and no other.
    Pki::issue(scratch, &names)?;
    eventually("the new certificate", NOTICED, || {
        front
            .curl("/public", &[])
            .is_ok_and(|answer| answer.status == 200)
            .then_some(())
    })?;
    Ok(())
}

#[test]
fn a_certificate_for_another_name_with_the_wrong_key_is_named_with_its_place() -> Rigged<()> {
    let ground = Ground::set()?;
    let other = issue_other(&ground)?;
    let wrong = ground.pki.key.clone();
    let told = with_second(ground, &other, &wrong)?.refused_start()?;
    assert!(told.contains("listener[0].certificates[0].key"), "{told}");
    assert!(
        told.contains("the private key doesn't belong to the certificate"),
        "{told}"
    );
    Ok(())
}
