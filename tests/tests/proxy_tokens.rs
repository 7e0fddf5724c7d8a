//! Which tokens are believed. Each refused one has a name of its own in the audit trail, and the
//! upstream never hears of it.

use jsonwebtoken::Algorithm;
use portcullis_tests::{
    front::{Answer, Front},
    ground::Ground,
    pki::{TokenIssuer, sign_with_secret, unix_now, unsigned},
    run::Rigged,
};
use serde_json::{Value, json};

const GOOD_HEADER: &str = r#"{"alg":"ES256","typ":"JWT","kid":"key-1"}"#;

/// The claims of a good token.
fn claims(front: &Front) -> Value {
    front.ground.issuer.claims("alice", "orders:read")
}

/// The claims of a good token but for these; `null` leaves one out.
fn claims_with(front: &Front, changes: Value) -> Value {
    let mut claims = claims(front);
    for (name, value) in changes.as_object().into_iter().flatten() {
        if value.is_null() {
            claims.as_object_mut().map(|claims| claims.remove(name));
        } else {
            claims[name] = value.clone();
        }
    }
    claims
}

fn sign_with(front: &Front, changes: Value) -> Rigged<String> {
    front.ground.issuer.sign(&claims_with(front, changes))
}

fn assert_answer_refused(front: &Front, answer: &Answer, reason: &str) -> Rigged<()> {
    assert_eq!(answer.status, 401, "{reason}: {answer:?}");
    let challenge = answer.field("www-authenticate").unwrap_or_default();
    assert!(challenge.starts_with("Bearer"), "{challenge}");
    let record = front.record_of(answer.field("x-request-id"))?;
    assert_eq!(record["reason"], reason, "{record}");
    assert_eq!(record["verdict"], "deny");
    assert_eq!(record["principal"], Value::Null);
    assert_eq!(record["upstream_us"], Value::Null);
    Ok(())
}

fn assert_refused(front: &Front, what: &str, token: &str, reason: &str) -> Rigged<()> {
    let answer = front.get("/orders/1", token)?;
    assert_answer_refused(front, &answer, reason).inspect_err(|_| eprintln!("the case is: {what}"))
}

fn assert_served(front: &Front, what: &str, token: &str) -> Rigged<()> {
    let answer = front.get("/orders/1", token)?;
    assert_eq!(answer.status, 200, "{what}: {answer:?}");
    assert_eq!(answer.told("subject"), "alice", "{what}");
    Ok(())
}

fn assert_nothing_heard(front: &Front) -> Rigged<()> {
    assert_eq!(front.heard()?, [""; 0]);
    Ok(())
}

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

/// Case 46.
#[test]
fn a_token_that_nobody_signed_is_refused() -> Rigged<()> {
    let front = Front::open()?;
    let payload = claims(&front).to_string();
    for algorithm in ["none", "None", "NoNe", "NONE", ""] {
        let header = json!({"alg": algorithm, "kid": "key-1"}).to_string();
        let body = unsigned(&header, &payload);
        assert_refused(
            &front,
            algorithm,
            &format!("{body}."),
            "token_header_refused",
        )?;
        assert_refused(
            &front,
            algorithm,
            &format!("{body}.AAAA"),
            "token_header_refused",
        )?;
    }
    let body = unsigned(GOOD_HEADER, &payload);
    assert_refused(
        &front,
        "empty signature",
        &format!("{body}."),
        "token_signature_invalid",
    )?;
    assert_refused(&front, "no signature", &body, "token_malformed")?;
    let zeros = format!("{body}.{}", "A".repeat(86));
    assert_refused(
        &front,
        "r and s zero (CVE-2022-21449)",
        &zeros,
        "token_signature_invalid",
    )?;
    assert_nothing_heard(&front)
}

/// Case 47.
#[test]
fn a_public_key_is_no_shared_secret() -> Rigged<()> {
    let front = Front::open()?;
    let payload = claims(&front).to_string();
    let header = r#"{"alg":"HS256","typ":"JWT","kid":"key-1"}"#;
    let key = front.ground.issuer.public_key();
    let set = front.ground.issuer.jwks();
    let pem = front.ground.issuer.public_key_pem();
    for secret in [key.as_str(), set.as_str(), pem, pem.trim_end(), ""] {
        let token = sign_with_secret(header, &payload, secret.as_bytes())?;
        assert_refused(&front, secret, &token, "token_algorithm_refused")?;
        // And with the header of the algorithm that is allowed.
        let token = sign_with_secret(GOOD_HEADER, &payload, secret.as_bytes())?;
        assert_refused(&front, secret, &token, "token_signature_invalid")?;
    }
    for algorithm in [Algorithm::ES384, Algorithm::RS256, Algorithm::EdDSA] {
        let header = json!({"alg": algorithm, "kid": "key-1"}).to_string();
        let token = front.ground.issuer.sign_text(&header, &payload)?;
        assert_refused(&front, "not pinned", &token, "token_algorithm_refused")?;
    }
    assert_nothing_heard(&front)
}

#[test]
fn a_token_that_was_changed_is_refused() -> Rigged<()> {
    let front = Front::open()?;
    let token = sign_with(&front, json!({"scope": "nothing"}))?;
    let signature = token.rsplit('.').next().unwrap_or_default();
    let more = unsigned(GOOD_HEADER, &claims(&front).to_string());
    assert_refused(
        &front,
        "other claims",
        &format!("{more}.{signature}"),
        "token_signature_invalid",
    )?;
    let good = front.token("orders:read")?;
    let cut = &good[..good.len() - 2];
    assert_refused(
        &front,
        "a shorter signature",
        cut,
        "token_signature_invalid",
    )?;
    for ending in ["=", "==", " x", "\tx", "=x", ".", "%3D", "+", "/"] {
        let padded = format!("{good}{ending}");
        assert_refused(&front, ending, &padded, "token_malformed")?;
    }
    // 64 bytes leave four bits of the last letter that say nothing: with others than zeros it is another
    // spelling of the same signature.
    let (begin, last) = good.split_at(good.len() - 1);
    let letters = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_";
    let at = letters.find(last).unwrap_or_default();
    let spelled = format!("{begin}{}", &letters[at + 1..at + 2]);
    assert_refused(&front, "bits that say nothing", &spelled, "token_malformed")?;
    let stranger = TokenIssuer::new("https://issuer.example", "key-1")?;
    let token = stranger.token("alice", "orders:read")?;
    assert_refused(&front, "another's key", &token, "token_signature_invalid")?;
    assert_nothing_heard(&front)
}

/// Case 54.
#[test]
fn issuer_audience_and_subject_are_required_and_exact() -> Rigged<()> {
    let front = Front::open()?;
    for (what, changes, reason) in [
        (
            "another issuer",
            json!({"iss": "https://other.example"}),
            "token_issuer_unknown",
        ),
        (
            "a trailing slash",
            json!({"iss": "https://issuer.example/"}),
            "token_issuer_unknown",
        ),
        (
            "another case",
            json!({"iss": "https://Issuer.example"}),
            "token_issuer_unknown",
        ),
        (
            "issuers",
            json!({"iss": ["https://issuer.example"]}),
            "token_claim_type",
        ),
        ("no issuer", json!({"iss": null}), "token_issuer_missing"),
        (
            "another audience",
            json!({"aud": "other"}),
            "token_audience_wrong",
        ),
        (
            "a part of ours",
            json!({"aud": "ap"}),
            "token_audience_wrong",
        ),
        (
            "ours and more",
            json!({"aud": "api2"}),
            "token_audience_wrong",
        ),
        (
            "another case",
            json!({"aud": "API"}),
            "token_audience_wrong",
        ),
        (
            "others",
            json!({"aud": ["other", "api2"]}),
            "token_audience_wrong",
        ),
        ("nobody", json!({"aud": []}), "token_audience_wrong"),
        (
            "no audience",
            json!({"aud": null}),
            "token_audience_missing",
        ),
        ("a number", json!({"aud": 7}), "token_claim_type"),
        (
            "ours and a number",
            json!({"aud": ["api", 7]}),
            "token_claim_type",
        ),
        ("no subject", json!({"sub": null}), "token_subject_missing"),
        (
            "an empty subject",
            json!({"sub": ""}),
            "token_subject_missing",
        ),
        ("a number", json!({"sub": 7}), "token_claim_type"),
        (
            "two lists of scopes",
            json!({"scp": ["orders:read"]}),
            "token_scopes_ambiguous",
        ),
    ] {
        assert_refused(&front, what, &sign_with(&front, changes)?, reason)?;
    }
    assert_nothing_heard(&front)?;
    for (what, changes) in [
        ("ours among others", json!({"aud": ["other", "api"]})),
        (
            "scopes as a list",
            json!({"scope": null, "scp": ["x", "orders:read"]}),
        ),
    ] {
        assert_served(&front, what, &sign_with(&front, changes)?)?;
    }
    Ok(())
}

/// Case 51.
#[test]
fn times_are_whole_seconds_and_kept_with_a_leeway_of_thirty() -> Rigged<()> {
    let front = Front::open()?;
    let now = unix_now();
    for (what, changes, reason) in [
        ("no exp", json!({"exp": null}), "token_expiry_missing"),
        (
            "a string",
            json!({"exp": (now + 600).to_string()}),
            "token_time_invalid",
        ),
        (
            "a fraction",
            json!({"exp": now as f64 + 600.5}),
            "token_time_invalid",
        ),
        ("negative", json!({"exp": -1}), "token_time_invalid"),
        ("huge", json!({"exp": u64::MAX}), "token_time_invalid"),
        (
            "after the year 9999",
            json!({"exp": 253_402_300_800_u64}),
            "token_time_invalid",
        ),
        ("an exponent", json!({"exp": 1e12}), "token_time_invalid"),
        ("a list", json!({"nbf": [0]}), "token_time_invalid"),
        ("true", json!({"exp": true}), "token_time_invalid"),
        ("zero", json!({"exp": 0}), "token_expired"),
        ("a minute ago", json!({"exp": now - 60}), "token_expired"),
        (
            "in a minute",
            json!({"nbf": now + 60}),
            "token_not_yet_valid",
        ),
        ("nbf as a string", json!({"nbf": "0"}), "token_time_invalid"),
        (
            "nbf as a fraction",
            json!({"nbf": 0.5}),
            "token_time_invalid",
        ),
        ("nbf negative", json!({"nbf": -1}), "token_time_invalid"),
        ("iat as a string", json!({"iat": "0"}), "token_time_invalid"),
        (
            "issued in a minute",
            json!({"iat": now + 60}),
            "token_not_yet_valid",
        ),
    ] {
        assert_refused(&front, what, &sign_with(&front, changes)?, reason)?;
    }
    assert_nothing_heard(&front)?;
    for (what, changes) in [
        ("expired within the leeway", json!({"exp": now - 10})),
        ("valid within the leeway", json!({"nbf": now + 10})),
        (
            "until the end of the year 9999",
            json!({"exp": 253_402_300_799_u64}),
        ),
    ] {
        assert_served(&front, what, &sign_with(&front, changes)?)?;
    }
    Ok(())
}

#[test]
fn a_configured_leeway_is_kept() -> Rigged<()> {
    let front = Ground::set()?
        .add("name = \"main\"", "leeway = \"2s\"")?
        .start()?;
    let now = unix_now();
    let token = sign_with(&front, json!({"exp": now - 10}))?;
    assert_refused(&front, "ten seconds ago", &token, "token_expired")?;
    let token = sign_with(&front, json!({"nbf": now + 10}))?;
    assert_refused(&front, "in ten seconds", &token, "token_not_yet_valid")?;
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
