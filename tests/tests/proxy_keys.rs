//! Where an issuer's keys come from: a file that is read again, or an HTTPS URL that may not lead
//! inside the network unasked.

use std::time::Duration;

use portcullis_tests::{
    front::Front,
    ground::Ground,
    key_server::KeyServer,
    pki::TokenIssuer,
    run::{Rigged, eventually},
};

fn assert_no_keys(front: &Front, why: &str) -> Rigged<()> {
    let printed = front.daemon.printed();
    assert!(printed.contains("NO KEYS"), "{printed}");
    assert!(printed.contains(why), "{printed}");
    let answer = front.get("/orders/1", &front.token("orders:read")?)?;
    assert_eq!(answer.status, 401, "{answer:?}");
    let record = front.record_of(answer.field("x-request-id"))?;
    assert_eq!(record["reason"], "token_key_unknown");
    assert_eq!(front.heard()?, [""; 0]);
    Ok(())
}

#[test]
fn keys_come_over_https_from_an_address_that_is_listed() -> Rigged<()> {
    let ground = Ground::set()?;
    let keys = KeyServer::start(&ground)?;
    let url = keys.url("127.0.0.1", "/jwks.json");
    let front = KeyServer::keys_at(ground, &url, "\"127.0.0.1/32\"")?.start()?;
    let answer = front.get("/orders/1", &front.token("orders:read")?)?;
    assert_eq!(answer.status, 200, "{answer:?} {}", front.daemon.printed());
    Ok(())
}

#[test]
fn keys_come_over_https_by_a_name_that_leads_to_listed_addresses() -> Rigged<()> {
    let ground = Ground::set()?;
    let keys = KeyServer::start(&ground)?;
    let url = keys.url("localhost", "/jwks.json");
    let front = KeyServer::keys_at(ground, &url, "\"127.0.0.0/8\", \"::1\"")?.start()?;
    let answer = front.get("/orders/1", &front.token("orders:read")?)?;
    assert_eq!(answer.status, 200, "{answer:?} {}", front.daemon.printed());
    Ok(())
}

#[test]
fn a_url_with_an_address_that_is_not_listed_is_no_configuration() -> Rigged<()> {
    for (url, allowed, why) in [
        (
            "https://127.0.0.1:8443/jwks.json",
            "",
            "127.0.0.1 is not a public address",
        ),
        (
            "https://127.0.0.1/jwks.json",
            "\"127.0.0.2/32\"",
            "127.0.0.1 is not a public address",
        ),
        ("https://[::1]/jwks.json", "", "::1 is not a public address"),
        (
            "https://169.254.169.254/latest",
            "",
            "169.254.169.254 is not a public address",
        ),
        ("http://issuer.example/jwks.json", "", "is no https:// URL"),
    ] {
        let refused = KeyServer::keys_at(Ground::set()?, url, allowed)?.refused_start()?;
        assert!(refused.contains(why), "{refused}");
        assert!(refused.contains("issuer[0].jwks_url"), "{refused}");
        assert!(refused.contains("refused.toml:11: "), "{refused}");
        assert!(refused.contains("jwks_allow_addresses"), "{refused}");
    }
    Ok(())
}

#[test]
fn a_name_that_leads_inside_the_network_is_not_asked() -> Rigged<()> {
    let ground = Ground::set()?;
    let keys = KeyServer::start(&ground)?;
    let url = keys.url("localhost", "/jwks.json");
    let front = KeyServer::keys_at(ground, &url, "")?.start()?;
    assert_no_keys(&front, "is not a public address")?;
    assert_eq!(keys.asked(&front.ground)?, [""; 0]);
    Ok(())
}

#[test]
fn a_redirect_is_not_followed() -> Rigged<()> {
    let ground = Ground::set()?;
    let keys = KeyServer::start(&ground)?;
    let url = keys.url("127.0.0.1", "/moved");
    let front = KeyServer::keys_at(ground, &url, "\"127.0.0.1/32\"")?.start()?;
    assert_no_keys(&front, "the server answered 302")
}

#[test]
fn an_oversize_answer_or_an_error_gives_no_keys() -> Rigged<()> {
    for (path, why) in [
        ("/large", "larger than 262144 bytes"),
        ("/nothing", "the server answered 404"),
        ("/server.pem", "not a JSON Web Key Set"),
    ] {
        let ground = Ground::set()?;
        let keys = KeyServer::start(&ground)?;
        let url = keys.url("127.0.0.1", path);
        let front = KeyServer::keys_at(ground, &url, "\"127.0.0.1/32\"")?.start()?;
        assert_no_keys(&front, why)?;
    }
    Ok(())
}

#[test]
fn a_server_that_the_authority_does_not_vouch_for_gives_no_keys() -> Rigged<()> {
    let ground = Ground::set()?;
    let keys = KeyServer::start(&ground)?;
    let url = keys.url("127.0.0.1", "/jwks.json");
    let other = Ground::set()?;
    let ca = ground.pki.ca.display().to_string();
    let others_ca = other.pki.ca.display().to_string();
    let front = KeyServer::keys_at(ground, &url, "\"127.0.0.1/32\"")?
        .alter(&ca, &others_ca)?
        .start()?;
    assert_no_keys(&front, "certificate")
}

#[test]
fn a_rotated_key_is_accepted_after_a_refresh_and_the_old_one_no_more() -> Rigged<()> {
    let front = Ground::set()?
        .add("name = \"main\"", "jwks_refresh = \"1s\"")?
        .start()?;
    let old = front.token("orders:read")?;
    let next = TokenIssuer::new("https://issuer.example", "key-2")?;
    let token = next.token("alice", "orders:read")?;
    let early = front.get("/orders/early", &token)?;
    assert_eq!(early.status, 401);
    let record = front.record_of(early.field("x-request-id"))?;
    assert_eq!(record["reason"], "token_key_unknown");
    front.ground.scratch.write("jwks.json", next.jwks())?;
    eventually("the new key is in force", Duration::from_secs(10), || {
        let answer = front.get("/orders/rotated", &token).ok()?;
        (answer.status == 200).then_some(())
    })?;
    let late = front.get("/orders/late", &old)?;
    assert_eq!(late.status, 401);
    let heard = front.heard()?;
    assert_eq!(heard, ["GET /orders/rotated HTTP/1.1"]);
    Ok(())
}

#[test]
fn the_last_good_keys_stay_when_a_refresh_fails() -> Rigged<()> {
    let front = Ground::set()?
        .add("name = \"main\"", "jwks_refresh = \"100ms\"")?
        .start()?;
    front.ground.scratch.write("jwks.json", "{\"keys\": []}")?;
    let failed = || {
        let printed = front.daemon.printed();
        printed.contains("the last good ones stay").then_some(())
    };
    eventually("a refresh fails", Duration::from_secs(10), failed)?;
    let answer = front.get("/orders/1", &front.token("orders:read")?)?;
    assert_eq!(answer.status, 200, "{answer:?}");
    Ok(())
}
