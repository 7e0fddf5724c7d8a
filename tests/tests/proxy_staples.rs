//! OCSP responses that are stapled to a listener's certificate: made by openssl, seen by openssl, and refused
//! for whatever makes a client refuse them.

use std::{process::Stdio, time::Duration};

use portcullis_tests::{
    front::Front,
    ground::Ground,
    responder::{Question, Responder, Standing},
    run::{Rigged, eventually, output},
    scene::HOST,
};

const SOON: Duration = Duration::from_secs(15);
const SERIAL: u32 = 0x1001;

/// A certificate for the host, with its issuer behind it.
const SERVER: &str = "subjectAltName = DNS:api.example, DNS:localhost, IP:127.0.0.1\n";

/// A ground whose certificate is of an authority that answers; it goes by the name that the rig has for it.
fn ground() -> Rigged<(Ground, Responder)> {
    let ground = Ground::set()?;
    let responder = Responder::new(&ground.scratch, "ca")?;
    responder.issue("server", SERIAL, SERVER, true)?;
    let staple = ground.scratch.join("staple.der").display().to_string();
    let key = format!("key = \"{}\"", ground.pki.key.display());
    let ground = ground.add(&key, &format!("ocsp = \"{staple}\""))?;
    Ok((ground, responder))
}

/// What openssl says of the response that it was shown.
fn shown(front: &Front) -> Rigged<String> {
    let mut client = front.s_client(&["-status"]);
    let said = output(client.stdin(Stdio::null()))?.stdout;
    let said = String::from_utf8_lossy(&said).into_owned();
    assert!(said.contains("Verify return code: 0 (ok)"), "{said}");
    Ok(said)
}

fn is_stapled(front: &Front) -> Rigged<bool> {
    let said = shown(front)?;
    let is_stapled = said.contains("Cert Status: good");
    assert_ne!(is_stapled, said.contains("OCSP response: no response sent"));
    Ok(is_stapled)
}

fn put(front: &Front, response: impl AsRef<[u8]>) -> Rigged<()> {
    front.ground.scratch.write("staple.der", response)?;
    Ok(())
}

#[test]
fn a_good_response_is_shown_and_its_end_is_a_metric() -> Rigged<()> {
    let (ground, responder) = ground()?;
    let good = responder.answer(Question::good(SERIAL))?;
    ground.scratch.write("staple.der", good)?;
    let observe = portcullis_tests::ground::free_address()?;
    let ground = ground.alter(
        "[admin]",
        &format!("[observe]\naddress = \"{observe}\"\n\n[admin]"),
    )?;
    let front = ground.start()?;
    for version in ["-tls1_2", "-tls1_3"] {
        let said = output(front.s_client(&["-status", version]).stdin(Stdio::null()))?.stdout;
        let said = String::from_utf8_lossy(&said);
        assert!(said.contains("Cert Status: good"), "{version}: {said}");
    }
    assert_eq!(front.curl("/public", &["--cert-status"])?.status, 200);
    let seen = front.curl_at(&format!("http://{observe}/metrics"), &[])?;
    let text = String::from_utf8_lossy(&seen.body).into_owned();
    let line = text
        .lines()
        .find(|line| line.starts_with("portcullis_ocsp_end_timestamp_seconds{"));
    let end = line.and_then(|line| line.rsplit(' ').next()?.parse::<u64>().ok());
    let in_an_hour = portcullis_tests::pki::unix_now() + 3_600;
    assert!(
        end.is_some_and(|end| in_an_hour.abs_diff(end) < 60),
        "{text}"
    );
    Ok(())
}

#[test]
fn one_that_another_signs_for_the_issuer_is_good_where_the_issuer_says_so() -> Rigged<()> {
    let (ground, responder) = ground()?;
    let by = |signer| Question {
        signer: Some(signer),
        ..Question::good(SERIAL)
    };
    let usage = "extendedKeyUsage = OCSPSigning\n";
    responder.issue("deputy", 7, usage, false)?;
    responder.issue("nobody", 8, "extendedKeyUsage = serverAuth\n", false)?;
    ground
        .scratch
        .write("staple.der", responder.answer(by("nobody"))?)?;
    let said = ground.refused_start()?;
    assert!(said.contains("listener[0].ocsp"), "{said}");
    assert!(
        said.contains("not signed by the certificate's issuer"),
        "{said}"
    );
    ground
        .scratch
        .write("staple.der", responder.answer(by("deputy"))?)?;
    assert!(is_stapled(&ground.start()?)?);
    Ok(())
}

/// What is wrong with a response, and what is said of it.
fn bad_responses(responder: &Responder, ground: &Ground) -> Rigged<Vec<(Vec<u8>, &'static str)>> {
    let good = Question::good(SERIAL);
    let of = |question| responder.answer(question);
    let whole = of(good)?;
    let mut altered = whole.clone();
    // Within the time at which it was made, which is signed.
    let digits = altered
        .windows(3)
        .position(|bytes| bytes == [0x18, 0x0f, b'2']);
    altered[digits.expect("a time") + 6] ^= 1;
    let stranger = Responder::new(&ground.scratch, "stranger")?;
    Ok(vec![
        (Vec::new(), "it is empty"),
        (b"-----BEGIN OCSP".to_vec(), "no OCSP response in DER"),
        (whole[..whole.len() - 9].to_vec(), "no OCSP response in DER"),
        ([&whole[..], b"\0\0"].concat(), "no OCSP response in DER"),
        // unauthorized (RFC 6960, 4.2.1)
        (vec![0x30, 3, 10, 1, 6], "an error (status 6)"),
        (altered, "not signed by the certificate's issuer"),
        (of(Question::good(SERIAL + 1))?, "for another certificate"),
        (stranger.answer(good)?, "for another certificate"),
        (
            of(Question {
                standing: Standing::Revoked,
                ..good
            })?,
            "that the certificate is revoked",
        ),
        (
            of(Question {
                standing: Standing::Unknown,
                ..good
            })?,
            "that the certificate is unknown",
        ),
        (
            of(Question {
                at: Some("+2h"),
                ..good
            })?,
            "not good yet",
        ),
        (
            of(Question {
                at: Some("-2h"),
                ..good
            })?,
            "it has run out",
        ),
        (
            of(Question {
                minutes: None,
                ..good
            })?,
            "doesn't say when it runs out",
        ),
    ])
}

#[test]
fn one_that_a_client_would_refuse_is_a_mistake_at_start() -> Rigged<()> {
    let (ground, responder) = ground()?;
    let said = ground.refused_start()?;
    assert!(said.contains("listener[0].ocsp"), "{said}");
    for (response, why) in bad_responses(&responder, &ground)? {
        ground.scratch.write("staple.der", response)?;
        let said = ground.refused_start()?;
        assert!(said.contains("listener[0].ocsp"), "{why}: {said}");
        assert!(said.contains(why), "{why}: {said}");
    }
    let good = responder.answer(Question::good(SERIAL))?;
    ground.scratch.write("staple.der", good)?;
    responder.issue("server", SERIAL, SERVER, false)?;
    let said = ground.refused_start()?;
    assert!(said.contains("lacks the issuer's certificate"), "{said}");
    Ok(())
}

#[test]
fn one_that_is_bad_is_held_back_while_the_last_good_one_is_shown() -> Rigged<()> {
    let (ground, responder) = ground()?;
    let good = Question::good(SERIAL);
    ground
        .scratch
        .write("staple.der", responder.answer(good)?)?;
    let front = ground.start()?;
    for (response, why) in bad_responses(&responder, &front.ground)? {
        put(&front, response)?;
        front.audited(why, |line| {
            let detail = line["detail"].as_str().unwrap_or_default();
            line["step"] == "ocsp_refused" && detail.contains(why)
        })?;
        assert!(is_stapled(&front)?, "{why}");
    }
    let refused = front.daemon.ask_refused(&["reload"])?;
    assert!(refused.contains("listener[0].ocsp"), "{refused}");
    assert!(is_stapled(&front)?);

    // The next good one, with an end of its own.
    let longer = Question {
        minutes: Some(60 * 24),
        ..good
    };
    let before = ended(&shown(&front)?);
    put(&front, responder.answer(longer)?)?;
    eventually("the fresh response", SOON, || {
        (ended(&shown(&front).ok()?) != before).then_some(())
    })
}

/// When openssl says that a response ends.
fn ended(said: &str) -> String {
    let line = said.lines().find(|line| line.contains("Next Update"));
    line.unwrap_or_default().to_owned()
}

#[test]
fn one_that_runs_out_is_shown_no_more_and_the_trail_says_so() -> Rigged<()> {
    let (ground, responder) = ground()?;
    let short = Question {
        minutes: Some(1),
        at: Some("-48s"),
        ..Question::good(SERIAL)
    };
    ground
        .scratch
        .write("staple.der", responder.answer(short)?)?;
    let front = ground.start()?;
    assert!(is_stapled(&front)?);
    eventually("it runs out", Duration::from_secs(30), || {
        (!is_stapled(&front).ok()?).then_some(())
    })?;
    front.audited("its end", |line| line["step"] == "ocsp_ended")?;
    assert_eq!(front.curl("/public", &[])?.status, 200);
    put(&front, responder.answer(Question::good(SERIAL))?)?;
    eventually("a fresh one", SOON, || {
        is_stapled(&front).ok()?.then_some(())
    })
}

#[test]
fn a_renewed_certificate_does_not_wait_for_its_response_unless_its_clients_do() -> Rigged<()> {
    let (ground, responder) = ground()?;
    let good = responder.answer(Question::good(SERIAL))?;
    ground.scratch.write("staple.der", good)?;
    let front = ground.start()?;
    let serial = |front: &Front| -> Rigged<String> {
        let said = output(front.s_client(&["-showcerts"]).stdin(Stdio::null()))?.stdout;
        let said = String::from_utf8_lossy(&said).into_owned();
        let begin = said.find("-----BEGIN").unwrap_or(0);
        Ok(said[begin..].chars().take(1_000).collect())
    };
    let before = serial(&front)?;
    responder.issue("server", SERIAL + 1, SERVER, true)?;
    eventually("the renewed certificate", SOON, || {
        (serial(&front).ok()? != before).then_some(())
    })?;
    assert!(!is_stapled(&front)?);
    put(&front, responder.answer(Question::good(SERIAL + 1))?)?;
    eventually("its response", SOON, || {
        is_stapled(&front).ok()?.then_some(())
    })?;

    // RFC 7633: without a response its clients would refuse it.
    let before = serial(&front)?;
    let must = format!("{SERVER}tlsfeature = status_request\n");
    responder.issue("server", SERIAL + 2, &must, true)?;
    front.audited("it waits", |line| {
        let detail = line["detail"].as_str().unwrap_or_default();
        line["step"] == "ocsp_refused" && detail.contains("another certificate")
    })?;
    std::thread::sleep(Duration::from_secs(3));
    assert_eq!(serial(&front)?, before);
    put(&front, responder.answer(Question::good(SERIAL + 2))?)?;
    eventually("both together", SOON, || {
        (serial(&front).ok()? != before).then_some(())
    })?;
    assert!(is_stapled(&front)?);
    assert_eq!(
        front
            .curl("/public", &["-H", &format!("Host: {HOST}")])?
            .status,
        200
    );
    Ok(())
}

#[test]
fn one_without_a_certificate_of_the_listeners_own_is_a_mistake() -> Rigged<()> {
    let (ground, _) = ground()?;
    let certificate = format!("certificate = \"{}\"", ground.pki.certificate.display());
    let key = format!("key = \"{}\"", ground.pki.key.display());
    let ground = ground.alter(&certificate, "")?.alter(&key, "")?;
    let said = ground.refused_start()?;
    assert!(said.contains("listener[0].ocsp"), "{said}");
    assert!(said.contains("there is no certificate for it"), "{said}");
    let ground = ground.add("[[listener]]", "protocol = \"tls-passthrough\"")?;
    let said = ground.refused_start()?;
    assert!(said.contains("listener[0].ocsp"), "{said}");
    Ok(())
}
