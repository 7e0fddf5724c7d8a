//! Opaque tokens, which their issuer is asked about: a real one, npm's `oidc-provider`.

use std::time::{Duration, Instant};

use portcullis_tests::{
    front::{Answer, Front},
    ground::{Ground, free_address},
    holder_key::{HolderKey, PATH, reason, send},
    opaque_issuer::{OpaqueIssuer, asking},
    pki::TokenIssuer,
    run::{Rigged, eventually},
};
use serde_json::{Value, json};

const SOON: Duration = Duration::from_secs(10);

/// A front that asks a real issuer; `lines` say how.
fn open(lines: &str, issuers: &str) -> Rigged<(Front, OpaqueIssuer)> {
    let ground = Ground::set()?;
    let issuer = OpaqueIssuer::start(&ground)?;
    let place = (issuer.issuer.clone(), issuer.url());
    let ground = asking(ground, (&place.0, &place.1), lines, issuers)?;
    Ok((ground.start()?, issuer))
}

fn assert_refused(front: &Front, answer: &Answer, status: u16, why: &str) -> Rigged<()> {
    assert_eq!(answer.status, status, "{why}: {answer:?}");
    assert_eq!(reason(front, answer)?, why, "{answer:?}");
    Ok(())
}

/// What comes back as soon as it is something else than 200.
fn ended(front: &Front, token: &str) -> Rigged<Answer> {
    eventually("the token is refused", SOON, || {
        let answer = front.get(PATH, token).ok()?;
        (answer.status != 200).then_some(answer)
    })
}

#[test]
fn a_token_is_good_if_its_issuer_says_so() -> Rigged<()> {
    let (front, issuer) = open("", "[\"opaque\"]")?;
    let token = issuer.mint("orders:read openid", &json!({}))?;
    for version in ["--http1.1", "--http2"] {
        let bearer = format!("Authorization: Bearer {token}");
        let answer = front.curl(PATH, &[version, "-H", &bearer])?;
        assert_eq!(answer.status, 200, "{answer:?}");
        assert_eq!(answer.told("subject"), "alice");
        assert_eq!(answer.told("issuer"), "opaque");
        assert_eq!(answer.told("scopes"), "openid orders:read");
        assert_eq!(answer.told("proven_by"), "token");
        assert_eq!(answer.told("authorization"), "");
        let record = front.record_of(answer.field("x-request-id"))?;
        let principal = &record["principal"];
        assert_eq!(principal["issuer"], "opaque");
        assert_eq!(principal["subject"], "alice");
        // It says no id of them; their hash tells them apart.
        let id = principal["token_id"].as_str().unwrap_or_default();
        assert!(id.starts_with("sha256:") && id.len() == 50, "{record}");
    }
    assert_eq!(issuer.asked()?, 1, "one answer serves for a while");

    let unknown = format!("{token}x");
    for _ in 0..3 {
        let answer = front.get(PATH, &unknown)?;
        assert_refused(&front, &answer, 401, "token_inactive")?;
        let challenge = answer.field("www-authenticate").unwrap_or_default();
        let wanted = "Bearer realm=\"api.example\", error=\"invalid_token\"";
        assert_eq!(challenge, wanted);
    }
    assert_eq!(issuer.asked()?, 2, "so does one that says no");
    let narrow = issuer.mint("openid", &json!({}))?;
    assert_refused(&front, &front.get(PATH, &narrow)?, 403, "scope_missing")?;
    let printed = front.daemon.printed();
    let trail = format!("{:?}", front.audit());
    assert!(!printed.contains(&token) && !trail.contains(&token));
    Ok(())
}

#[test]
fn what_an_issuer_says_is_judged_as_a_token_is() -> Rigged<()> {
    let (front, issuer) = open("", "[\"opaque\"]")?;
    for (more, why) in [
        (json!({"aud": "other"}), "token_audience_wrong"),
        (json!({ "aud": null }), "token_audience_missing"),
        (json!({ "account": null }), "token_subject_missing"),
    ] {
        let token = issuer.mint("orders:read", &more)?;
        assert_refused(&front, &front.get(PATH, &token)?, 401, why)?;
    }
    let several = issuer.mint("orders:read", &json!({"aud": ["other", "api"]}))?;
    assert_eq!(front.get(PATH, &several)?.status, 200);
    Ok(())
}

/// What was said of a token on one route is not believed on another.
#[test]
fn each_route_asks_for_itself() -> Rigged<()> {
    let ground = Ground::set()?;
    let issuer = OpaqueIssuer::start(&ground)?;
    let place = (issuer.issuer.clone(), issuer.url());
    let ground = asking(ground, (&place.0, &place.1), "", "[\"opaque\"]")?;
    let front = ground
        .alter("issuers = [\"main\"]", "issuers = [\"opaque\"]")?
        .start()?;
    let token = issuer.mint("orders:read files", &json!({}))?;
    for (path, questions) in [(PATH, 1), ("/files/none", 2), (PATH, 2), ("/files/none", 2)] {
        let answer = front.get(path, &token)?;
        assert!([200, 404].contains(&answer.status), "{answer:?}");
        assert_eq!(issuer.asked()?, questions, "{path}");
    }
    Ok(())
}

#[test]
fn a_token_that_is_taken_back_is_good_for_the_time_of_the_answer_at_most() -> Rigged<()> {
    let (front, issuer) = open("cache = \"1s\"", "[\"opaque\"]")?;
    let token = issuer.mint("orders:read", &json!({}))?;
    assert_eq!(front.get(PATH, &token)?.status, 200);
    issuer.revoke(&token)?;
    let began = Instant::now();
    let answer = ended(&front, &token)?;
    assert_refused(&front, &answer, 401, "token_inactive")?;
    assert!(began.elapsed() < Duration::from_secs(3));
    Ok(())
}

/// The proxy needn't wait for the issuer to take it back.
#[test]
fn a_token_that_is_revoked_here_is_refused_though_its_issuer_calls_it_good() -> Rigged<()> {
    let (front, issuer) = open("", "[\"opaque\"]")?;
    let token = issuer.mint("orders:read", &json!({}))?;
    assert_eq!(front.get(PATH, &token)?.status, 200);
    let subject = ["token", "revoke", "--subject", "alice"];
    front.daemon.ask(&subject)?;
    assert_refused(&front, &front.get(PATH, &token)?, 401, "token_revoked")?;
    let bobs = issuer.mint("orders:read", &json!({"account": "bob"}))?;
    assert_eq!(front.get(PATH, &bobs)?.told("subject"), "bob");
    Ok(())
}

#[test]
fn where_each_token_is_good_once_so_is_one_that_its_issuer_is_asked_about() -> Rigged<()> {
    let ground = Ground::set()?;
    let issuer = OpaqueIssuer::start(&ground)?;
    let place = (issuer.issuer.clone(), issuer.url());
    let ground = asking(ground, (&place.0, &place.1), "", "[\"opaque\"]")?;
    let front = ground
        .add("scopes = [\"orders:read\"]", "single_use = true")?
        .start()?;
    let token = issuer.mint("orders:read", &json!({}))?;
    let other = issuer.mint("orders:read", &json!({}))?;
    assert_eq!(front.get(PATH, &token)?.status, 200);
    assert_refused(&front, &front.get(PATH, &token)?, 401, "token_used")?;
    assert_eq!(front.get(PATH, &other)?.status, 200);
    Ok(())
}

#[test]
fn no_answer_is_good_for_longer_than_its_token() -> Rigged<()> {
    let (front, issuer) = open("cache = \"5m\"", "[\"opaque\"]")?;
    let token = issuer.mint("orders:read", &json!({"lasts": 3}))?;
    assert_eq!(front.get(PATH, &token)?.status, 200);
    let answer = ended(&front, &token)?;
    assert_refused(&front, &answer, 401, "token_inactive")
}

#[test]
fn a_token_that_is_bound_is_good_with_what_it_is_bound_to() -> Rigged<()> {
    let (front, issuer) = open("", "[\"opaque\"]")?;
    let key = HolderKey::new()?;
    let token = issuer.mint("orders:read", &json!({"jkt": key.thumbprint()}))?;
    let answer = front.get(PATH, &token)?;
    assert_refused(&front, &answer, 401, "dpop_token_as_bearer")?;
    let nonce = key.nonce(&front, PATH, &token)?;
    let mut claims = HolderKey::claims("GET", &front.url(PATH), &token);
    claims["nonce"] = json!(nonce);
    let answer = send(&front, PATH, &token, &key.sign(&claims)?)?;
    assert_eq!(answer.status, 200, "{answer:?}");
    assert_eq!(answer.told("proven_by"), "token dpop");

    let token = issuer.mint("orders:read", &json!({"x5t": key.thumbprint()}))?;
    let answer = front.get(PATH, &token)?;
    assert_refused(&front, &answer, 401, "token_certificate_missing")
}

#[test]
fn who_signs_tokens_and_who_is_asked_about_them_share_a_route() -> Rigged<()> {
    let (front, issuer) = open("", "[\"main\", \"opaque\"]")?;
    let signed = front.token("orders:read")?;
    assert_eq!(front.get(PATH, &signed)?.told("issuer"), "main");
    // Of somebody else, and nobody else's business.
    let stranger = TokenIssuer::new("https://stranger.example", "key-1")?;
    let strange = stranger.token("mallory", "orders:read")?;
    let answer = front.get(PATH, &strange)?;
    assert_refused(&front, &answer, 401, "token_issuer_unknown")?;
    assert_eq!(issuer.asked()?, 0);
    let opaque = issuer.mint("orders:read", &json!({}))?;
    assert_eq!(front.get(PATH, &opaque)?.told("issuer"), "opaque");
    for malformed in ["a b", "\u{e9}", &"x".repeat(8 * 1024 + 1)] {
        let answer = front.get(PATH, malformed)?;
        assert_eq!(answer.status, 401, "{answer:?}");
        assert!(
            [
                "token_malformed",
                "token_too_long",
                "authorization_not_bearer"
            ]
            .contains(&reason(&front, &answer)?.as_str())
        );
    }
    assert_eq!(issuer.asked()?, 1);
    Ok(())
}

/// Nobody is let in on what an issuer might have said.
#[test]
fn while_the_issuer_is_away_nobody_new_is_let_in() -> Rigged<()> {
    let ground = Ground::set()?;
    let address = free_address()?;
    let issuer = OpaqueIssuer::start_at(&ground, address)?;
    let place = (issuer.issuer.clone(), issuer.url());
    let ground = asking(
        ground,
        (&place.0, &place.1),
        "cache = \"2s\"",
        "[\"opaque\"]",
    )?;
    let front = ground.start()?;
    let token = issuer.mint("orders:read", &json!({}))?;
    let other = issuer.mint("orders:read", &json!({}))?;
    assert_eq!(front.get(PATH, &token)?.status, 200);
    drop(issuer);
    assert_eq!(
        front.get(PATH, &token)?.status,
        200,
        "it is known for a while"
    );
    let answer = front.get(PATH, &other)?;
    assert_refused(&front, &answer, 503, "token_introspection_failed")?;
    assert_eq!(answer.field("www-authenticate"), None);
    let told = |step: &str| front.audited(step, |line: &Value| line["step"] == step);
    told("introspection_failed")?;
    let answer = ended(&front, &token)?;
    assert_refused(&front, &answer, 503, "token_introspection_failed")?;

    let issuer = OpaqueIssuer::start_at(&front.ground, address)?;
    let token = issuer.mint("orders:read", &json!({}))?;
    assert_eq!(front.get(PATH, &token)?.status, 200);
    told("introspection_recovered")?;
    Ok(())
}
