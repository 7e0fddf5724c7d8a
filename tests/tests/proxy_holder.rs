//! Tokens that are bound to their holder: good with what they are bound to, and with nothing else (RFC 9449,
//! RFC 8705).

use std::{
    fs,
    io::{BufRead as _, BufReader, Write as _},
};

use portcullis_tests::{
    front::{Answer, Front},
    ground::Ground,
    holder_key::{Holder, HolderKey, PATH, assert_refused, reason},
    node::node,
    pki::unix_now,
    run::{RigError, Rigged},
};
use serde_json::{Value, json};

#[test]
fn a_token_that_is_bound_to_a_key_is_good_with_a_proof_by_it() -> Rigged<()> {
    let front = Front::open()?;
    let holder = Holder::of(&front)?;
    for _ in 0..2 {
        let answer = holder.send(&front, &holder.proof(&front)?)?;
        assert_eq!(answer.status, 200, "{answer:?}");
        assert_eq!(answer.told("subject"), "alice");
        assert_eq!(answer.told("proven_by"), "token dpop");
        assert_eq!(answer.told("authorization"), "");
        assert_eq!(answer.told("dpop"), "");
        assert_eq!(answer.field("dpop-nonce"), None, "this one is in force");
        let record = front.record_of(answer.field("x-request-id"))?;
        assert_eq!(record["principal"]["proven_by"], "token dpop");
    }
    Ok(())
}

/// Case 57.
#[test]
fn a_proof_that_is_for_anything_else_is_refused() -> Rigged<()> {
    let front = Front::open()?;
    let holder = Holder::of(&front)?;
    let stranger = HolderKey::new()?;
    let with = |name: &str, value: Value| {
        let mut claims = holder.claims(&front);
        claims[name] = value;
        holder.key.sign(&claims)
    };
    let under = |name: &str, value: Value| {
        let mut header = holder.key.header();
        header[name] = value;
        holder.key.sign_under(&header, &holder.claims(&front))
    };
    let mut private = holder.key.public().clone();
    private["d"] = json!("AA");
    let other_token = HolderKey::claims("GET", &front.url(PATH), "a.b.c")["ath"].clone();
    let url = front.url(PATH);
    let invalid = "invalid_dpop_proof";
    for (proof, told, code) in [
        (with("htm", json!("POST"))?, "dpop_method_wrong", invalid),
        (
            with("htu", json!(front.url("/orders/2")))?,
            "dpop_target_wrong",
            invalid,
        ),
        (
            with("htu", json!(url.replace("https", "http")))?,
            "dpop_target_wrong",
            invalid,
        ),
        (
            with("htu", json!("https://api.example/orders/1"))?,
            "dpop_target_wrong",
            invalid,
        ),
        (with("ath", other_token)?, "dpop_token_wrong", invalid),
        (
            with("iat", json!(unix_now() - 90))?,
            "dpop_time_wrong",
            invalid,
        ),
        (
            with("iat", json!(unix_now() + 90))?,
            "dpop_time_wrong",
            invalid,
        ),
        (with("jti", json!(7))?, "dpop_claims_invalid", invalid),
        (
            with("nonce", json!("x"))?,
            "dpop_nonce_wrong",
            "use_dpop_nonce",
        ),
        (under("typ", json!("JWT"))?, "dpop_proof_malformed", invalid),
        (
            under("alg", json!("none"))?,
            "dpop_algorithm_refused",
            invalid,
        ),
        (
            under("alg", json!("HS256"))?,
            "dpop_algorithm_refused",
            invalid,
        ),
        (under("jwk", private)?, "dpop_key_refused", invalid),
        (
            under("jwk", stranger.public().clone())?,
            "dpop_key_wrong",
            "invalid_token",
        ),
        (
            stranger.sign(&holder.claims(&front))?,
            "dpop_key_wrong",
            "invalid_token",
        ),
        (
            stranger.sign_under(&holder.key.header(), &holder.claims(&front))?,
            "dpop_signature_invalid",
            invalid,
        ),
        ("a.b".to_owned(), "dpop_proof_malformed", invalid),
    ] {
        let answer = holder.send(&front, &proof)?;
        assert_refused(&front, &answer, told, code)?;
        assert_eq!(
            answer.field("dpop-nonce").is_some(),
            code == "use_dpop_nonce"
        );
    }
    let answer = holder.send(&front, &with("htu", Value::Null)?)?;
    let record = front.record_of(answer.field("x-request-id"))?;
    assert_eq!(record["detail"], "its htu is no string", "{record}");
    let good = holder.proof(&front)?;
    let authorization = format!("Authorization: DPoP {}", holder.token);
    let bearer = format!("Authorization: Bearer {}", holder.token);
    let proof = format!("DPoP: {good}");
    let unbound = front.token("orders:read")?;
    let unbound = format!("Authorization: DPoP {unbound}");
    for (fields, told, code) in [
        (vec![&authorization], "dpop_proof_missing", invalid),
        (
            vec![&authorization, &proof, &proof],
            "dpop_proof_repeated",
            invalid,
        ),
        (
            vec![&bearer, &proof],
            "dpop_token_as_bearer",
            "invalid_token",
        ),
        (vec![&bearer], "dpop_token_as_bearer", "invalid_token"),
        (
            vec![&authorization, &bearer, &proof],
            "authorization_repeated",
            "invalid_token",
        ),
        (
            vec![&unbound, &proof],
            "token_not_bound_to_a_key",
            "invalid_token",
        ),
    ] {
        for version in ["--http2", "--http1.1"] {
            let mut args = vec![version];
            args.extend(fields.iter().flat_map(|field| ["-H", field]));
            assert_refused(&front, &front.curl(PATH, &args)?, told, code)?;
        }
    }
    // By HEAD, whose proof would be another.
    let args = ["--head", "-H", &authorization, "-H", &proof];
    assert_eq!(front.curl(PATH, &args)?.status, 405);
    assert_eq!(front.heard()?, [""; 0], "the upstream hears of none");
    assert_eq!(holder.send(&front, &good)?.status, 200);
    Ok(())
}

/// Of RFC 7800's ways to bind a token, those that aren't known here would be left unproven.
#[test]
fn a_binding_that_is_not_known_is_refused() -> Rigged<()> {
    let front = Front::open()?;
    let key = HolderKey::new()?;
    for (cnf, told) in [
        (json!({"jwk": key.public()}), "token_binding_unknown"),
        (json!({"kid": "1"}), "token_binding_unknown"),
        (
            json!({"jkt": key.thumbprint(), "x5t#S512": "AA"}),
            "token_binding_unknown",
        ),
        (json!({}), "token_binding_unknown"),
        (json!({"jkt": "AA"}), "token_claim_type"),
        (json!({"x5t#S256": 7}), "token_claim_type"),
        (json!("x"), "token_claim_type"),
    ] {
        let mut claims = front.ground.issuer.claims("alice", "orders:read");
        claims["cnf"] = cnf.clone();
        let token = front.ground.issuer.sign(&claims)?;
        let answer = front.get(PATH, &token)?;
        assert_eq!(answer.status, 401, "{cnf}: {answer:?}");
        assert_eq!(reason(&front, &answer)?, told, "{cnf}");
    }
    assert_eq!(front.heard()?, [""; 0]);
    Ok(())
}

#[test]
fn a_route_may_ask_for_tokens_that_are_bound() -> Rigged<()> {
    let ground = Ground::set()?.add("scopes = [\"orders:read\"]", "holder = \"dpop\"")?;
    let front = ground
        .alter("scopes = [\"files\"]", "holder = \"any\"")?
        .start()?;
    let challenges = |answer: &Answer| -> Vec<String> {
        let lines = answer.head.lines();
        let field = "www-authenticate: ";
        let found = lines.filter(|line| line.to_ascii_lowercase().starts_with(field));
        found.map(|line| line[field.len()..].to_owned()).collect()
    };
    for (path, schemes) in [(PATH, &["DPoP"][..]), ("/files/1", &["DPoP", "Bearer"][..])] {
        let unbound = front.get(path, &front.token("orders:read files")?)?;
        assert_eq!(unbound.status, 401, "{unbound:?}");
        assert_eq!(reason(&front, &unbound)?, "token_unbound");
        let nobody = front.curl(path, &[])?;
        assert_eq!(nobody.status, 401, "{nobody:?}");
        assert_eq!(reason(&front, &nobody)?, "token_missing");
        for (answer, code) in [(unbound, true), (nobody, false)] {
            let told = challenges(&answer);
            assert_eq!(told.len(), schemes.len(), "{told:?}");
            for (challenge, scheme) in told.iter().zip(schemes) {
                assert!(challenge.starts_with(scheme), "{told:?}");
                assert_eq!(
                    challenge.contains("error=\"invalid_token\""),
                    code,
                    "{told:?}"
                );
            }
        }
    }
    let holder = Holder::of(&front)?;
    assert_eq!(holder.send(&front, &holder.proof(&front)?)?.status, 200);
    Ok(())
}

/// A public route is none of ours: the upstream may know what to do with it.
#[test]
fn on_a_public_route_a_proof_is_passed_on() -> Rigged<()> {
    let front = Front::open()?;
    let answer = front.curl("/public", &["-H", "DPoP: x", "-H", "Authorization: DPoP y"])?;
    assert_eq!(answer.status, 200);
    assert_eq!(
        (answer.told("dpop"), answer.told("authorization")),
        ("x".into(), "DPoP y".into())
    );
    Ok(())
}

/// npm's `dpop`, with every algorithm that it has; with nonces and, once nobody else can have used a proof,
/// without.
#[test]
fn a_client_that_is_not_ours_is_served() -> Rigged<()> {
    for (lines, first) in [("nonce = true", 2), ("leeway = \"1s\"", 0)] {
        let ground = Ground::set()?.alter("[admin]", &format!("[dpop]\n{lines}\n\n[admin]"))?;
        let front = ground.start()?;
        for algorithm in ["ES256", "Ed25519", "RS256", "PS256"] {
            let place = json!({
                "url": front.url("/orders/1?x=1"), "ca": front.ground.pki.ca, "algorithm": algorithm,
                "times": 3,
            });
            let mut client = node("dpop.mjs").arg(place.to_string()).spawn()?;
            let (stdin, stdout) = (client.stdin.take(), client.stdout.take());
            let (Some(mut stdin), Some(stdout)) = (stdin, stdout) else {
                return Err(RigError("no pipes".to_owned()));
            };
            let mut lines = BufReader::new(stdout).lines();
            let thumbprint = lines.next().transpose()?.unwrap_or_default();
            let mut claims = front.ground.issuer.claims("alice", "orders:read");
            claims["cnf"] = json!({ "jkt": thumbprint });
            writeln!(stdin, "{}", front.ground.issuer.sign(&claims)?)?;
            let mut told: Vec<Value> = Vec::new();
            for line in lines {
                told.push(serde_json::from_str(&line?).unwrap_or_default());
            }
            let ended = client.wait_with_output()?;
            let said = String::from_utf8_lossy(&ended.stderr);
            assert_eq!(told.len(), 3, "{algorithm}: {told:?} {said}");
            for (at, answer) in told.iter().enumerate() {
                assert_eq!(answer["status"], 200, "{algorithm}: {told:?}");
                let body = answer["body"].as_str().unwrap_or_default();
                assert!(body.contains("proven_by=token dpop"), "{body}");
                let attempts = if at == 0 { first } else { 1 };
                assert!(attempts == 0 || answer["attempts"] == attempts, "{told:?}");
            }
        }
    }
    Ok(())
}

/// The proof of one request is no proof for the question of another worker's cache: what was proven of the token
/// is remembered, what was proven of its sender never.
#[test]
fn a_token_that_was_let_in_before_still_needs_its_proof() -> Rigged<()> {
    let front = Front::open()?;
    let holder = Holder::of(&front)?;
    assert_eq!(holder.send(&front, &holder.proof(&front)?)?.status, 200);
    let answer = front.get(PATH, &holder.token)?;
    assert_refused(&front, &answer, "dpop_token_as_bearer", "invalid_token")
}

/// In a cookie nothing says how a token is meant; its proof is asked for all the same.
#[test]
fn a_bound_token_in_a_cookie_needs_its_proof() -> Rigged<()> {
    let ground = Ground::set()?;
    let line = ground.keys_line();
    let front = ground.add(&line, "token_cookie = \"sid\"")?.start()?;
    let key = HolderKey::new()?;
    let token = key.token(&front, "orders:read")?;
    let cookie = format!("Cookie: sid={token}");
    let answer = front.curl(PATH, &["-H", &cookie])?;
    assert_refused(&front, &answer, "dpop_proof_missing", "invalid_dpop_proof")?;
    let mut claims = HolderKey::claims("GET", &front.url(PATH), &token);
    claims["nonce"] = json!("none");
    let proof = format!("DPoP: {}", key.sign(&claims)?);
    let answer = front.curl(PATH, &["-H", &cookie, "-H", &proof])?;
    claims["nonce"] = json!(answer.field("dpop-nonce"));
    let proof = format!("DPoP: {}", key.sign(&claims)?);
    let answer = front.curl(PATH, &["-H", &cookie, "-H", &proof])?;
    assert_eq!(answer.status, 200, "{answer:?}");
    Ok(())
}

#[test]
fn no_proof_is_kept_in_the_trail() -> Rigged<()> {
    let front = Front::open()?;
    let holder = Holder::of(&front)?;
    let proof = holder.proof(&front)?;
    let answer = holder.send(&front, &proof)?;
    front.record_of(answer.field("x-request-id"))?;
    let trail = fs::read_to_string(front.ground.scratch.join("audit.jsonl"))?;
    let signature = proof.rsplit('.').next().unwrap_or_default();
    assert!(!trail.contains(signature) && !trail.contains(&holder.token));
    Ok(())
}
