//! Certificates of clients: what tokens are bound to (RFC 8705), and as principals of their own.

use std::process::Stdio;

use portcullis_tests::{
    client_pki::{ClientCertificate, ClientPki},
    front::{Answer, Front},
    ground::Ground,
    run::{Rigged, output},
};
use rcgen::{SanType, string::Ia5String};
use serde_json::json;

const PATH: &str = "/orders/1";
const SPIFFE_ID: &str = "spiffe://example.org/ns/shop/sa/orders";

fn ia5(text: &str) -> Ia5String {
    Ia5String::try_from(text).unwrap_or_else(|_| unreachable!("ASCII"))
}

/// A listener that asks clients for certificates; `lines` say more about them.
fn asking(mode: &str, lines: &str) -> Rigged<(Ground, ClientPki)> {
    let ground = Ground::set()?;
    let clients = ClientPki::new(&ground.scratch, "clients")?;
    let at = ground.scratch.path().display().to_string();
    let rule = format!(
        "[[listener.client_certificates]]\nmode = \"{mode}\"\nca = \"{at}/clients.pem\"\n{lines}\n\n[[issuer]]"
    );
    Ok((ground.alter("[[issuer]]", &rule)?, clients))
}

/// The same, with certificates that make somebody, and a route that takes them.
fn identifying(subject: &str, access: &str, issuers: &str) -> Rigged<(Ground, ClientPki)> {
    let lines = format!("issuer = \"mesh\"\nsubject = \"{subject}\"");
    let (ground, clients) = asking("optional", &lines)?;
    let route = format!("access = {access}\nissuers = {issuers}");
    let whole = "issuers = [\"main\"]\nscopes = [\"orders:read\"]";
    Ok((ground.alter(whole, &route)?, clients))
}

fn ask(front: &Front, shown: Option<&ClientCertificate>, token: Option<&str>) -> Rigged<Answer> {
    let mut args: Vec<String> = Vec::new();
    args.extend(shown.into_iter().flat_map(ClientCertificate::curl_args));
    if let Some(token) = token {
        args.extend(["-H".to_owned(), format!("Authorization: Bearer {token}")]);
    }
    let args: Vec<&str> = args.iter().map(String::as_str).collect();
    front.curl(PATH, &args)
}

fn assert_refused(front: &Front, answer: &Answer, status: u16, reason: &str) -> Rigged<()> {
    assert_eq!(answer.status, status, "{reason}: {answer:?}");
    let record = front.record_of(answer.field("x-request-id"))?;
    assert_eq!(record["reason"], reason, "{record}");
    assert!(record["upstream_us"].is_null(), "{record}");
    Ok(())
}

fn bound_to(front: &Front, certificate: &ClientCertificate) -> Rigged<String> {
    let mut claims = front.ground.issuer.claims("alice", "orders:read");
    claims["cnf"] = json!({"x5t#S256": certificate.thumbprint});
    front.ground.issuer.sign(&claims)
}

/// Case 58.
#[test]
fn a_token_that_is_bound_to_a_certificate_is_good_with_that_one() -> Rigged<()> {
    let (ground, clients) = asking("optional", "")?;
    let alice = clients.issue(&ground.scratch, "alice", 1)?;
    let mallory = clients.issue(&ground.scratch, "mallory", 2)?;
    let strangers = ClientPki::new(&ground.scratch, "strangers")?;
    let strange = strangers.issue(&ground.scratch, "stranger", 1)?;
    let front = ground.start()?;
    let token = bound_to(&front, &alice)?;
    let answer = ask(&front, Some(&alice), Some(&token))?;
    assert_eq!(answer.status, 200, "{answer:?}");
    assert_eq!(answer.told("subject"), "alice");
    assert_eq!(answer.told("proven_by"), "token certificate");
    let record = front.record_of(answer.field("x-request-id"))?;
    assert_eq!(record["principal"]["proven_by"], "token certificate");

    let answer = ask(&front, Some(&mallory), Some(&token))?;
    assert_refused(&front, &answer, 401, "token_certificate_wrong")?;
    let challenge = answer.field("www-authenticate").unwrap_or_default();
    assert_eq!(
        challenge,
        "Bearer realm=\"api.example\", error=\"invalid_token\""
    );
    let answer = ask(&front, None, Some(&token))?;
    assert_refused(&front, &answer, 401, "token_certificate_missing")?;
    // One that nobody vouches for makes no connection, whatever its thumbprint is.
    let stolen = bound_to(&front, &strange)?;
    assert_eq!(ask(&front, Some(&strange), Some(&stolen))?.status, 0);
    let unbound = front.token("orders:read")?;
    for shown in [None, Some(&alice), Some(&mallory)] {
        let answer = ask(&front, shown, Some(&unbound))?;
        assert_eq!(answer.status, 200, "{answer:?}");
        assert_eq!(answer.told("proven_by"), "token");
    }
    Ok(())
}

/// Case 58: a session of somebody with a certificate, carried on by somebody without.
#[test]
fn a_session_that_is_carried_on_brings_no_certificate_along() -> Rigged<()> {
    let (ground, clients) = asking("optional", "")?;
    let alice = clients.issue(&ground.scratch, "alice", 1)?;
    let front = ground.start()?;
    let token = bound_to(&front, &alice)?;
    let kept = front.ground.scratch.join("session").display().to_string();
    let request = format!(
        "GET {PATH} HTTP/1.1\r\nHost: api.example\r\nAuthorization: Bearer {token}\r\nConnection: close\r\n\r\n"
    );
    let [_, certificate, _, key] = alice.curl_args();
    let alpn = ["-quiet", "-alpn", "http/1.1"];
    for version in ["-tls1_2", "-tls1_3"] {
        let own = [
            "-cert",
            &certificate,
            "-key",
            &key,
            "-sess_out",
            &kept,
            version,
        ];
        let answer = front.raw_with(&[&alpn[..], &own].concat(), request.as_bytes())?;
        assert_eq!(answer.status(), 200, "{version}: {answer:?}");
        if std::fs::exists(&kept)? {
            let carried = [&alpn[..], &["-sess_in", &kept, version]].concat();
            let answer = front.raw_with(&carried, request.as_bytes())?;
            assert_eq!(answer.status(), 401, "{version}: {answer:?}");
            let record = front.record_of(answer.decision())?;
            assert_eq!(record["reason"], "token_certificate_missing", "{record}");
            std::fs::remove_file(&kept)?;
        }
        let args = [version, "-reconnect", "-cert", &certificate, "-key", &key];
        let said = output(front.s_client(&args).stdin(Stdio::null()))?.stdout;
        assert!(!String::from_utf8_lossy(&said).contains("Reused"));
    }
    Ok(())
}

/// Where certificates aren't asked for any more, one that was shown before proves nothing.
#[test]
fn where_nobody_is_asked_for_a_certificate_none_counts() -> Rigged<()> {
    let (ground, clients) = asking("optional", "")?;
    let alice = clients.issue(&ground.scratch, "alice", 1)?;
    let front = ground.start()?;
    let token = bound_to(&front, &alice)?;
    assert_eq!(ask(&front, Some(&alice), Some(&token))?.status, 200);
    let text = &front.ground.text;
    let begin = text.find("[[listener.client_certificates]]").unwrap_or(0);
    let end = text.find("[[issuer]]").unwrap_or(0);
    let without = format!("{}{}", &text[..begin], &text[end..]);
    front.ground.scratch.write("portcullis.toml", without)?;
    front.daemon.ask(&["reload"])?;
    let answer = ask(&front, Some(&alice), Some(&token))?;
    assert_refused(&front, &answer, 401, "token_certificate_missing")
}

#[test]
fn a_route_may_ask_for_tokens_that_are_bound_to_a_certificate() -> Rigged<()> {
    let (ground, clients) = asking("optional", "")?;
    let ground = ground.add("scopes = [\"orders:read\"]", "holder = \"certificate\"")?;
    let alice = clients.issue(&ground.scratch, "alice", 1)?;
    let front = ground.start()?;
    let unbound = front.token("orders:read")?;
    let answer = ask(&front, Some(&alice), Some(&unbound))?;
    assert_refused(&front, &answer, 401, "token_unbound")?;
    let bound = bound_to(&front, &alice)?;
    assert_eq!(ask(&front, Some(&alice), Some(&bound))?.status, 200);
    Ok(())
}

#[test]
fn a_certificate_is_a_principal_by_the_name_that_is_asked_for() -> Rigged<()> {
    for (source, subject) in [
        ("spiffe", SPIFFE_ID),
        ("dns", "orders.shop.example"),
        ("email", "orders@shop.example"),
        ("dn", "CN=orders\\,O=admins"),
    ] {
        let (ground, clients) = identifying(source, "\"client_certificate\"", "[\"mesh\"]")?;
        let names = vec![
            SanType::URI(ia5(SPIFFE_ID)),
            SanType::DnsName(ia5("Orders.Shop.example")),
            SanType::Rfc822Name(ia5("orders@shop.example")),
        ];
        let shown = clients.issue_named(&ground.scratch, "orders,O=admins", 1, names)?;
        let front = ground.start()?;
        for version in ["--http1.1", "--http2"] {
            let args = shown.curl_args();
            let args = [&[version][..], &args.each_ref().map(String::as_str)].concat();
            let answer = front.curl(PATH, &args)?;
            assert_eq!(answer.status, 200, "{source}: {answer:?}");
            assert_eq!(answer.told("subject"), subject);
            assert_eq!(answer.told("issuer"), "mesh");
            assert_eq!(answer.told("scopes"), "");
            assert_eq!(answer.told("proven_by"), "certificate");
            let record = front.record_of(answer.field("x-request-id"))?;
            let principal = &record["principal"];
            let wanted = json!({"issuer": "mesh", "subject": subject, "proven_by": "certificate"});
            assert_eq!(*principal, wanted);
        }
        let answer = ask(&front, None, None)?;
        assert_refused(&front, &answer, 401, "certificate_missing")?;
        let challenge = answer.field("www-authenticate").unwrap_or_default();
        assert_eq!(challenge, "ClientCertificate realm=\"api.example\"");
        // A token is nothing here.
        let answer = ask(&front, None, Some(&front.token("orders:read")?))?;
        assert_refused(&front, &answer, 401, "certificate_missing")?;
    }
    Ok(())
}

#[test]
fn a_certificate_that_is_nobody_or_several_is_refused() -> Rigged<()> {
    let (ground, clients) = identifying("spiffe", "\"client_certificate\"", "[\"mesh\"]")?;
    let uri = |text: &str| SanType::URI(ia5(text));
    let issue = |name: &str, names| clients.issue_named(&ground.scratch, name, 1, names);
    let cases = [
        (issue("none", Vec::new())?, "certificate_subject_missing"),
        (
            issue(
                "two",
                vec![uri(SPIFFE_ID), uri("spiffe://example.org/admin")],
            )?,
            "certificate_subject_ambiguous",
        ),
        (
            issue("other", vec![uri("https://example.org/orders")])?,
            "certificate_subject_invalid",
        ),
        (
            issue("dotted", vec![uri("spiffe://example.org/a/../admin")])?,
            "certificate_subject_invalid",
        ),
    ];
    let front = ground.start()?;
    for (shown, reason) in &cases {
        let answer = ask(&front, Some(shown), None)?;
        assert_refused(&front, &answer, 403, reason)?;
    }
    assert_eq!(front.heard()?, [""; 0]);
    Ok(())
}

#[test]
fn of_a_token_and_a_certificate_the_first_of_the_route_counts() -> Rigged<()> {
    for (access, with_both, of_both) in [
        ("[\"token\", \"client_certificate\"]", "token", "alice"),
        (
            "[\"client_certificate\", \"token\"]",
            "certificate",
            SPIFFE_ID,
        ),
    ] {
        let (ground, clients) = identifying("spiffe", access, "[\"main\", \"mesh\"]")?;
        let names = vec![SanType::URI(ia5(SPIFFE_ID))];
        let shown = clients.issue_named(&ground.scratch, "orders", 1, names)?;
        let front = ground.start()?;
        let token = front.token("orders:read")?;
        for (shown, token, by, subject) in [
            (Some(&shown), Some(token.as_str()), with_both, of_both),
            (Some(&shown), None, "certificate", SPIFFE_ID),
            (None, Some(token.as_str()), "token", "alice"),
        ] {
            let answer = ask(&front, shown, token)?;
            assert_eq!(answer.status, 200, "{access}: {answer:?}");
            assert_eq!(answer.told("proven_by"), by, "{access}");
            assert_eq!(answer.told("subject"), subject, "{access}");
            assert_eq!(answer.told("authorization"), "", "{access}");
        }
        let answer = ask(&front, None, None)?;
        assert_refused(&front, &answer, 401, "token_missing")?;
        // One that counts and is no good isn't made up for by the other.
        let answer = ask(&front, Some(&shown), Some("a.b.c"))?;
        if with_both == "token" {
            assert_refused(&front, &answer, 401, "token_claims_malformed")?;
        } else {
            assert_eq!(answer.status, 200, "{answer:?}");
        }
    }
    Ok(())
}

/// A certificate is somebody only where that is said, and for routes that say so.
#[test]
fn a_certificate_is_nobody_on_a_route_of_tokens() -> Rigged<()> {
    let (ground, clients) = asking("required", "issuer = \"mesh\"\nsubject = \"dn\"")?;
    let shown = clients.issue(&ground.scratch, "orders", 1)?;
    let front = ground.start()?;
    let answer = ask(&front, Some(&shown), None)?;
    assert_refused(&front, &answer, 401, "token_missing")?;
    let answer = ask(&front, Some(&shown), Some(&front.token("orders:read")?))?;
    assert_eq!(answer.told("proven_by"), "token");
    Ok(())
}
