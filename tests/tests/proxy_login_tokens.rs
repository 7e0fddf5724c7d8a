//! What an issuer gives for a code: only a token that tells of this login lets anybody in.

use portcullis_tests::{login::LoginRig, pki::TokenIssuer, run::Rigged};
use serde_json::json;

#[test]
fn a_token_that_does_not_tell_of_this_login_lets_nobody_in() -> Rigged<()> {
    let rig = LoginRig::open("")?;
    let injected = rig.begin("/pages/1")?;
    for (name, value, reason) in [
        // A code of another login: its token quotes that one's nonce.
        (
            "nonce",
            json!(injected.parameter("nonce")),
            "login_id_token_nonce_wrong",
        ),
        ("nonce", json!(null), "login_id_token_nonce_wrong"),
        ("aud", json!("api"), "login_id_token_audience_wrong"),
        (
            "aud",
            json!(["portcullis web", "api"]),
            "login_id_token_party_wrong",
        ),
        ("azp", json!("api"), "login_id_token_party_wrong"),
        (
            "iss",
            json!("https://evil.example"),
            "login_id_token_issuer_unknown",
        ),
        ("exp", json!(1_000), "login_id_token_expired"),
        ("iat", json!("x"), "login_id_token_time_invalid"),
        ("sub", json!(7), "login_id_token_claim_type"),
        (
            "at_hash",
            json!("77QmUPtjPfzWtF2AnpK9RQ"),
            "login_id_token_access_hash_wrong",
        ),
        (
            "cnf",
            json!({"jkt": "A".repeat(43)}),
            "login_id_token_binding_unknown",
        ),
    ] {
        let begun = rig.begin("/pages/1")?;
        let mut claims = rig.claims(&begun);
        claims[name] = value;
        rig.grant(&claims, &json!({}))?;
        let answer = rig.come_back(&rig.answer_to(&begun), &begun.jar)?;
        assert_eq!(answer.status, 502, "{name}: {answer:?}");
        assert_eq!(rig.reason(&answer)?, reason, "{name}");
        let mut jar = begun.jar.clone();
        jar.take(&answer);
        assert!(jar.0.is_empty(), "{name}: {answer:?}");
    }
    Ok(())
}

#[test]
fn an_issuer_that_gives_no_tokens_lets_nobody_in() -> Rigged<()> {
    let rig = LoginRig::open("")?;
    let stranger = TokenIssuer::new("", "key-1")?;
    let none = json!({"access_token": "a", "token_type": "Bearer"});
    let large = json!({"access_token": "a".repeat(300 * 1024)});
    let refused = json!({"error": "invalid_grant"});
    for (head, body, status, reason) in [
        ("400 Bad Request", &refused, 400, "login_code_refused"),
        ("401 Unauthorized", &refused, 400, "login_code_refused"),
        (
            "500 Internal Server Error",
            &none,
            503,
            "login_issuer_unavailable",
        ),
        (
            "302 Found\r\nLocation: https://169.254.169.254/",
            &none,
            503,
            "login_issuer_unavailable",
        ),
        ("200 OK", &none, 502, "login_answer_invalid"),
        ("200 OK", &json!([]), 502, "login_answer_invalid"),
        ("200 OK", &large, 503, "login_issuer_unavailable"),
        (
            "200 OK",
            &json!({"access_token": "a", "id_token": "a.b"}),
            502,
            "login_id_token_malformed",
        ),
    ] {
        let begun = rig.begin("/pages/1")?;
        rig.reply(head, body);
        let answer = rig.come_back(&rig.answer_to(&begun), &begun.jar)?;
        assert_eq!(answer.status, status, "{head} {reason}: {answer:?}");
        assert_eq!(rig.reason(&answer)?, reason, "{head}");
    }
    let begun = rig.begin("/pages/1")?;
    let token = stranger.sign(&rig.claims(&begun))?;
    rig.reply("200 OK", &json!({"access_token": "a", "id_token": token}));
    let answer = rig.come_back(&rig.answer_to(&begun), &begun.jar)?;
    assert_eq!(rig.reason(&answer)?, "login_id_token_signature_invalid");
    Ok(())
}
