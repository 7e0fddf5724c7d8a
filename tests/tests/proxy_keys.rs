//! Where an issuer's keys come from: a file that is read again, or an HTTPS URL that may not lead
//! inside the network unasked.

use std::{
    net::{TcpListener, TcpStream},
    time::Duration,
};

use base64::{Engine as _, engine::general_purpose::URL_SAFE_NO_PAD};
use portcullis_tests::{
    front::Front,
    ground::Ground,
    key_server::KeyServer,
    list_server::{Answer, ListServer},
    pki::TokenIssuer,
    run::{Rigged, eventually},
};
use serde_json::{Value, json};

const SOON: Duration = Duration::from_secs(15);

fn assert_no_keys(front: &Front, why: &str) -> Rigged<()> {
    // It answers its operator before it has asked for them.
    let told = || Some(front.daemon.printed()).filter(|it| it.contains("NO KEYS"));
    let printed = eventually("there are no keys", SOON, told)?;
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

/// Case 50.
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

/// Case 50.
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

/// Case 48: what a token's header names is a name and nothing else, where all of it could be asked and read.
#[test]
fn nothing_that_a_header_names_is_asked_or_read() -> Rigged<()> {
    let trap = TcpListener::bind(("127.0.0.1", 0))?;
    let at = trap.local_addr()?;
    let ground = Ground::set()?;
    let stranger = TokenIssuer::new("https://issuer.example", "key-1")?;
    let file = ground.scratch.write("stranger.json", stranger.jwks())?;
    let file = file.display();
    let keys = KeyServer::start(&ground)?;
    let url = keys.url("127.0.0.1", "/jwks.json");
    let front = KeyServer::keys_at(ground, &url, "\"127.0.0.1/32\"")?.start()?;
    let payload = stranger.claims("alice", "orders:read").to_string();
    for place in [
        keys.url("127.0.0.1", "/stranger.json"),
        format!("https://{at}/stranger.json"),
        format!("http://{at}/stranger.json"),
        format!("//{at}/stranger.json"),
        format!("file://{file}"),
        file.to_string(),
        "../stranger.json".to_owned(),
        "' UNION SELECT 'key-1".to_owned(),
    ] {
        for (name, reason) in [
            ("kid", "token_key_unknown"),
            ("jku", "token_header_refused"),
            ("x5u", "token_header_refused"),
        ] {
            let mut header = json!({"alg": "ES256", "kid": "key-1"});
            header[name] = json!(place);
            let token = stranger.sign_text(&header.to_string(), &payload)?;
            let answer = front.get("/orders/1", &token)?;
            assert_eq!(answer.status, 401, "{header}: {answer:?}");
            let record = front.record_of(answer.field("x-request-id"))?;
            assert_eq!(record["reason"], reason, "{header}");
        }
    }
    let asked = keys.asked(&front.ground)?;
    let own = ["/jwks.json", "/jwks.json"];
    assert_eq!(asked, own, "the issuer's own, at the start and once more");
    let us = TcpStream::connect(at)?;
    let (_, first) = trap.accept()?;
    assert_eq!(first, us.local_addr()?, "nobody was there before");
    assert_eq!(front.heard()?, [""; 0]);
    Ok(())
}

/// Cases 50 and 53: whatever the server does once its keys were good.
#[test]
fn the_last_good_keys_stay_whatever_the_server_says_instead() -> Rigged<()> {
    let ground = Ground::set()?;
    let server = ListServer::start(&ground.pki)?;
    let good = Answer::List(ground.issuer.jwks(), "\"one\"".to_owned());
    server.answer("/jwks.json", good.clone());
    let url = server.url("/jwks.json");
    let front = KeyServer::keys_at(ground, &url, "\"127.0.0.1/32\"")?
        .add("name = \"main\"", "jwks_refresh = \"100ms\"")?
        .start()?;
    let token = front.token("orders:read")?;
    let stranger = TokenIssuer::new("https://issuer.example", "key-2")?;
    let new = stranger.token("alice", "orders:read")?;
    let key: Value = serde_json::from_str(&stranger.public_key()).unwrap_or_default();
    let mut named_as_ours = key.clone();
    named_as_ours["kid"] = json!("key-1");
    let short = URL_SAFE_NO_PAD.encode([0xff; 128]);
    let list = |text: String| Answer::List(text, "\"two\"".to_owned());
    let set = |keys: Value| list(json!({ "keys": keys }).to_string());
    let to = |place: &str| Answer::Head(format!("302 Found\r\nLocation: {place}"));
    let instead = [
        (Answer::Slow, "no whole answer within 5 s"),
        (Answer::Endless, "larger than 262144 bytes or broken off"),
        (
            Answer::Truncated(stranger.jwks()),
            "larger than 262144 bytes or broken off",
        ),
        (to(&server.url("/others.json")), "/others.json"),
        (to("http://169.254.169.254/latest"), "169.254.169.254"),
        (
            Answer::Head("304 Not Modified".to_owned()),
            "the server answered 304",
        ),
        (
            Answer::Head("429 Too Many Requests\r\nRetry-After: 600".to_owned()),
            "the server answered 429",
        ),
        (
            Answer::Head("500 Internal Server Error".to_owned()),
            "the server answered 500",
        ),
        (Answer::Page(stranger.jwks()), "the server sent text/html"),
        (list("{\"keys\":".to_owned()), "not a JSON Web Key Set: EOF"),
        (
            list("{\"keys\":[],\"keys\":[]}".to_owned()),
            "a member stands twice",
        ),
        (set(json!([])), "no usable key in it: it is empty"),
        (
            set(json!([key, named_as_ours, named_as_ours])),
            "two keys with the id",
        ),
        (
            set(json!([{"kty": "RSA", "kid": "key-2", "n": short, "e": "AQAB"}])),
            "RSA with 1024 bits",
        ),
    ];
    server.answer("/others.json", list(stranger.jwks()));
    for (answer, why) in instead {
        let said = front.daemon.printed().matches(why).count();
        server.answer("/jwks.json", answer);
        eventually(why, SOON, || {
            let printed = front.daemon.printed();
            (printed.matches(why).count() > said).then_some(())
        })?;
        let served = front.get("/orders/1", &token)?;
        assert_eq!(served.status, 200, "{why}: {served:?}");
        // Whoever names another key waits for a bounded time.
        let refused = front.get("/orders/1", &new)?;
        assert_eq!(refused.status, 401, "{why}: {refused:?}");
    }
    let asked = server.heads();
    let elsewhere = asked
        .iter()
        .find(|head| !head.starts_with("GET /jwks.json "));
    assert_eq!(elsewhere, None, "no redirect is followed");
    server.answer("/jwks.json", good);
    front.audited("the keys are back", |line| line["step"] == "keys_recovered")?;
    let served = front.get("/orders/1", &token)?;
    assert_eq!(served.status, 200, "{served:?}");
    Ok(())
}

/// Case 50.
#[test]
fn a_redirect_is_not_followed() -> Rigged<()> {
    let ground = Ground::set()?;
    let keys = KeyServer::start(&ground)?;
    let url = keys.url("127.0.0.1", "/moved");
    let front = KeyServer::keys_at(ground, &url, "\"127.0.0.1/32\"")?.start()?;
    assert_no_keys(&front, "the server answered 302")
}

/// Case 50.
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
    assert_eq!(front.get("/orders/before", &old)?.status, 200);
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
    assert_eq!(
        heard,
        [
            "GET /orders/before HTTP/1.1",
            "GET /orders/rotated HTTP/1.1"
        ]
    );
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
