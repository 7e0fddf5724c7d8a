//! What a token has to say: of whom, for whom, and when.

use portcullis_tests::{
    front::Front,
    ground::Ground,
    pki::unix_now,
    run::Rigged,
    tokens::{
        assert_answer_refused, assert_nothing_heard, assert_refused, assert_served, sign_with,
    },
};
use serde_json::json;

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

#[test]
fn claims_are_required_and_read_where_the_issuer_has_them() -> Rigged<()> {
    let lines = "required_claims = { tenant = \"a\", email_verified = true, \"org.level\" = 3 }\n\
                 claims = { subject = \"preferred_username\", groups = \"realm_access.roles\", scopes = \"/https:~1~1x.example~1perms\", tier = \"tier\" }";
    let front = Ground::set()?.add("name = \"main\"", lines)?.start()?;
    let good = json!({
        "iss": "https://issuer.example", "aud": "api", "exp": unix_now() + 600, "sub": "7f3a",
        "tenant": ["b", "a"], "email_verified": true, "org": {"level": 3},
        "preferred_username": "carol", "realm_access": {"roles": ["admin"]},
        "https://x.example/perms": ["orders:read"], "tier": "gold", "scope": "nothing",
    });
    let answer = front.get("/orders/1", &front.ground.issuer.sign(&good)?)?;
    assert_eq!(answer.status, 200, "{answer:?}");
    assert_eq!(answer.told("subject"), "carol");
    assert_eq!(answer.told("scopes"), "orders:read");
    let scopes = "https://x.example/perms";
    for (name, value, reason, detail) in [
        ("tenant", json!("ab"), "token_claim_required", "tenant"),
        ("tenant", json!(["A"]), "token_claim_required", "tenant"),
        (
            "tenant",
            json!({"a": "a"}),
            "token_claim_required",
            "tenant",
        ),
        ("tenant", json!(null), "token_claim_required", "tenant"),
        (
            "email_verified",
            json!("true"),
            "token_claim_required",
            "email_verified",
        ),
        (
            "email_verified",
            json!(false),
            "token_claim_required",
            "email_verified",
        ),
        (
            "org",
            json!({"level": "3"}),
            "token_claim_required",
            "org.level",
        ),
        (
            "org",
            json!({"level": 3.0}),
            "token_claim_required",
            "org.level",
        ),
        ("org", json!(3), "token_claim_required", "org.level"),
        (
            "preferred_username",
            json!(null),
            "token_subject_missing",
            "preferred_username",
        ),
        (
            "preferred_username",
            json!(["carol"]),
            "token_claim_type",
            "preferred_username is no string",
        ),
        (
            "realm_access",
            json!({"roles": [1]}),
            "token_claim_type",
            "realm_access.roles is no string or list of strings",
        ),
        (
            "tier",
            json!(7),
            "token_claim_type",
            "tier is no string or list of strings",
        ),
        (
            scopes,
            json!({"a": 1}),
            "token_claim_type",
            "/https:~1~1x.example~1perms is no string or list of strings",
        ),
    ] {
        let mut claims = good.clone();
        claims[name] = value.clone();
        let answer = front.get("/orders/1", &front.ground.issuer.sign(&claims)?)?;
        assert_answer_refused(&front, &answer, reason)
            .inspect_err(|_| eprintln!("{name} is {value}"))?;
        let record = front.record_of(answer.field("x-request-id"))?;
        assert_eq!(record["detail"], detail, "{name} is {value}");
    }
    Ok(())
}
