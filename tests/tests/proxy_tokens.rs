//! Which tokens are taken for such: how they are sent, what they are made of. Each refused one has a name of its own
//! in the audit trail, and the upstream never hears of it.

use portcullis_tests::{
    front::Front,
    pki::TokenIssuer,
    run::Rigged,
    tokens::{
        GOOD_HEADER, assert_answer_refused, assert_nothing_heard, assert_refused, assert_served,
        claims, sign_with,
    },
};
use serde_json::{Value, json};

/// Cases 55 (five parts) and 59.
#[test]
fn no_token_another_scheme_or_two_tokens_are_refused() -> Rigged<()> {
    let front = Front::open()?;
    let bearer = format!("Authorization: Bearer {}", front.token("orders:read")?);
    let doubled = format!("{bearer}, Bearer x");
    for (fields, reason) in [
        (vec![], "token_missing"),
        (
            vec!["Authorization: Basic eDp5"],
            "authorization_not_bearer",
        ),
        (vec!["Authorization: Bearer"], "authorization_not_bearer"),
        (vec!["Authorization;"], "authorization_not_bearer"),
        (vec!["Authorization: Bearer x"], "token_malformed"),
        (vec!["Authorization: Bearer a.b.c.d.e"], "token_malformed"),
        (
            vec!["Authorization: Bearer a.b.c"],
            "token_claims_malformed",
        ),
        (vec![&doubled], "token_malformed"),
        (vec![&bearer, &bearer], "authorization_repeated"),
        (
            vec![&bearer, "Authorization: Basic eDp5"],
            "authorization_repeated",
        ),
        (
            vec!["Authorization: Basic eDp5", &bearer],
            "authorization_repeated",
        ),
    ] {
        for version in ["--http2", "--http1.1"] {
            let mut args = vec![version];
            args.extend(fields.iter().flat_map(|field| ["-H", field]));
            assert_answer_refused(&front, &front.curl("/orders/1", &args)?, reason)?;
        }
    }
    assert_nothing_heard(&front)
}

/// Case 48.
#[test]
fn a_key_id_is_a_name_and_nothing_else() -> Rigged<()> {
    let front = Front::open()?;
    let payload = claims(&front).to_string();
    for kid in [
        "key-2",
        "",
        "KEY-1",
        "../../../../dev/null",
        "../jwks.json",
        "x' UNION SELECT 'secret",
        "https://evil.example/jwks.json",
        "key-1\u{0}",
    ] {
        let header = json!({"alg": "ES256", "kid": kid}).to_string();
        let token = front.ground.issuer.sign_text(&header, &payload)?;
        assert_refused(&front, kid, &token, "token_key_unknown")?;
    }
    let header = r#"{"alg":"ES256","kid":7}"#;
    let token = front.ground.issuer.sign_text(header, &payload)?;
    assert_refused(&front, "a number", &token, "token_header_refused")?;
    assert_nothing_heard(&front)?;
    let token = front
        .ground
        .issuer
        .sign_text(r#"{"alg":"ES256"}"#, &payload)?;
    assert_served(&front, "no id, where there is one key", &token)
}

/// Cases 48 and 55.
#[test]
fn a_header_that_points_at_keys_or_asks_for_extensions_is_refused() -> Rigged<()> {
    let front = Front::open()?;
    let stranger = TokenIssuer::new("https://issuer.example", "key-1")?;
    let key: Value = serde_json::from_str(&stranger.public_key()).unwrap_or_default();
    let payload = claims(&front).to_string();
    for (name, value) in [
        ("jku", json!("https://evil.example/jwks.json")),
        ("jwk", key),
        ("x5u", json!("https://evil.example/cert.pem")),
        ("x5c", json!(["MIIB"])),
        ("crit", json!(["exp"])),
        ("crit", json!([])),
        ("b64", json!(false)),
        ("b64", json!(true)),
        ("zip", json!("DEF")),
        ("enc", json!("A128GCM")),
    ] {
        let mut header = json!({"alg": "ES256", "kid": "key-1"});
        header[name] = value;
        let header = header.to_string();
        let good = front.ground.issuer.sign_text(&header, &payload)?;
        assert_refused(&front, &header, &good, "token_header_refused")?;
        let forged = stranger.sign_text(&header, &payload)?;
        assert_refused(&front, &header, &forged, "token_header_refused")?;
    }
    assert_nothing_heard(&front)
}

/// Case 52.
#[test]
fn a_member_that_stands_twice_is_refused() -> Rigged<()> {
    let front = Front::open()?;
    let good = claims(&front).to_string();
    let begin = good.trim_end_matches('}');
    for (twice, reason) in [
        (r#""sub":"root""#, "token_claims_malformed"),
        (r#""sub":"alice""#, "token_claims_malformed"),
        (
            r#""iss":"https://issuer.example""#,
            "token_claims_malformed",
        ),
        (r#""aud":"api""#, "token_claims_malformed"),
        (r#""exp":99999999999"#, "token_claims_malformed"),
        (r#""scope":"orders:read admin""#, "token_claims_malformed"),
        (r#""s\u0075b":"root""#, "token_claims_malformed"),
    ] {
        let payload = format!("{begin},{twice}}}");
        let token = front.ground.issuer.sign_text(GOOD_HEADER, &payload)?;
        assert_refused(&front, &payload, &token, reason)?;
    }
    for nested in [r#""act":{"sub":"a","sub":"b"}"#, r#""a":[{"b":1,"b":1}]"#] {
        let payload = format!("{begin},{nested}}}");
        let token = front.ground.issuer.sign_text(GOOD_HEADER, &payload)?;
        assert_refused(&front, &payload, &token, "token_claims_malformed")?;
    }
    for header in [
        r#"{"alg":"ES256","kid":"key-1","x":{"a":1,"a":1}}"#,
        r#"{"alg":"ES256","kid":"key-1","kid":"key-1"}"#,
        r#"{"alg":"none","alg":"ES256","kid":"key-1"}"#,
        r#"{"alg":"ES256","alg":"none","kid":"key-1"}"#,
    ] {
        let token = front.ground.issuer.sign_text(header, &good)?;
        assert_refused(&front, header, &token, "token_header_refused")?;
    }
    assert_nothing_heard(&front)
}

/// Case 52.
#[test]
fn a_token_has_a_bounded_size_and_depth() -> Rigged<()> {
    let front = Front::open()?;
    let long = sign_with(&front, json!({"more": "x".repeat(6_200)}))?;
    assert!((8_193..9_000).contains(&long.len()), "{}", long.len());
    assert_refused(&front, "above 8 KiB", &long, "token_too_long")?;
    let good = claims(&front).to_string();
    let begin = good.trim_end_matches('}');
    let deep = |name: &str| {
        let nest = format!("{}{}", "[".repeat(2_000), "]".repeat(2_000));
        let payload = format!("{begin},\"{name}\":{nest}}}");
        front.ground.issuer.sign_text(GOOD_HEADER, &payload)
    };
    assert_refused(&front, "deep", &deep("scp")?, "token_claims_malformed")?;
    assert_refused(&front, "deep", &deep("nbf")?, "token_claims_malformed")?;
    let dots = ".".repeat(8_000);
    assert_refused(&front, "8,000 dots", &dots, "token_malformed")?;
    // Also where nobody reads it: somebody behind us may.
    assert_refused(&front, "deep", &deep("more")?, "token_claims_malformed")?;
    assert_nothing_heard(&front)?;
    let fits = sign_with(&front, json!({"more": "x".repeat(5_000)}))?;
    assert_served(&front, "below 8 KiB", &fits)?;
    let levels = json!({"more": {"a": [{"b": [[[{"c": ["d"]}]]]}]}});
    assert_served(&front, "a few levels", &sign_with(&front, levels)?)
}

#[test]
fn the_record_says_what_exactly_was_wrong_and_nobody_else_does() -> Rigged<()> {
    let front = Front::open()?;
    let good = claims(&front).to_string();
    let twice = good.replacen('{', "{\"sub\":\"sesame\",", 1);
    let under = |header: &str| front.ground.issuer.sign_text(header, &good);
    for (token, reason, detail) in [
        (
            front.ground.issuer.sign_text(GOOD_HEADER, &twice)?,
            "token_claims_malformed",
            "no JSON with one reading: a member stands twice at line 1 column ",
        ),
        (
            format!("{}.=.AA", "e30"),
            "token_claims_malformed",
            "no base64url: ",
        ),
        (
            under(r#"{"alg":"ES256","kid":"key-1","crit":["sesame"]}"#)?,
            "token_header_refused",
            "it asks for extensions (crit)",
        ),
        (
            under(r#"{"alg":"sesame"}"#)?,
            "token_header_refused",
            "its alg is none that is known",
        ),
        (
            sign_with(&front, json!({"nbf": "sesame"}))?,
            "token_time_invalid",
            "nbf",
        ),
        (
            sign_with(&front, json!({"jti": ["sesame"]}))?,
            "token_claim_type",
            "jti is no string",
        ),
        (
            sign_with(&front, json!({"sub": null}))?,
            "token_subject_missing",
            "sub",
        ),
        (
            sign_with(&front, json!({"scope": {"sesame": 1}}))?,
            "token_claim_type",
            "scope is no string or list of strings",
        ),
        (
            sign_with(&front, json!({"aud": null}))?,
            "token_audience_missing",
            "",
        ),
    ] {
        let answer = front.get("/orders/1", &token)?;
        assert_answer_refused(&front, &answer, reason)?;
        let record = front.record_of(answer.field("x-request-id"))?;
        let told = record["detail"].as_str().unwrap_or_default();
        assert!(told.starts_with(detail), "{reason}: {record}");
        assert_eq!(told.is_empty(), detail.is_empty(), "{reason}: {record}");
        assert!(!record.to_string().contains("sesame"), "{record}");
        let said = format!("{} {}", answer.head, String::from_utf8_lossy(&answer.body));
        assert!(!said.contains(reason), "{said}");
        assert!(told.is_empty() || !said.contains(told), "{said}");
    }
    Ok(())
}
