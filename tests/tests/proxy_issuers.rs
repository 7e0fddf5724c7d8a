//! Several issuers: where their tokens are carried, what they must say, and to whom a verdict is known.

use std::{fs, io::Write as _, os::unix::fs::PermissionsExt as _};

use base64::{Engine as _, engine::general_purpose::URL_SAFE_NO_PAD};
use portcullis_tests::{
    front::{Answer, Front},
    ground::Ground,
    heirs::rewrite,
    key_server::KeyServer,
    pki::{TokenIssuer, sign_with_secret, unix_now},
    run::Rigged,
    scripted::Scripted,
};
use serde_json::json;

fn assert_refused(front: &Front, answer: &Answer, reason: &str) -> Rigged<()> {
    assert_eq!(answer.status, 401, "{reason}: {answer:?}");
    let record = front.record_of(answer.field("x-request-id"))?;
    assert_eq!(record["reason"], reason, "{record}");
    Ok(())
}

/// Case 59.
#[test]
fn a_token_anywhere_but_in_the_authorization_field_is_not_seen() -> Rigged<()> {
    let front = Front::open()?;
    let token = front.token("orders:read")?;
    let query = front.curl(&format!("/orders/1?access_token={token}"), &[])?;
    assert_refused(&front, &query, "token_missing")?;
    let proxy = format!("Proxy-Authorization: Bearer {token}");
    let alias = format!("X-Authorization: Bearer {token}");
    let cookie = format!("Cookie: access_token={token}");
    for field in [proxy, alias, cookie] {
        let answer = front.curl("/orders/1", &["-H", &field])?;
        assert_refused(&front, &answer, "token_missing")?;
    }
    assert_eq!(front.heard()?, [""; 0]);
    Ok(())
}

#[test]
fn the_name_of_the_scheme_has_no_case() -> Rigged<()> {
    let front = Front::open()?;
    let bearer = format!("authorization: bEARER {}", front.token("orders:read")?);
    assert_eq!(front.curl("/orders/1", &["-H", &bearer])?.status, 200);
    Ok(())
}

/// A ground with a second issuer, whose tokens are at `location`, accepted on `/files` alone.
fn with_partner(location: &str, orders: &str) -> Rigged<(Ground, TokenIssuer)> {
    let ground = Ground::set()?;
    let partner = TokenIssuer::new("https://partner.example", "key-1")?;
    let file = ground.scratch.write("partner.json", partner.jwks())?;
    let lines = format!(
        "[[issuer]]\nname = \"partner\"\nissuer = \"https://partner.example\"\naudiences = [\"api\"]\n\
         algorithms = [\"ES256\"]\njwks_file = \"{}\"\n{location}\n\n[[upstream]]",
        file.display()
    );
    let files = "issuers = [\"main\"]\nscopes = [\"files\"]";
    let ground = ground
        .alter("[[upstream]]", &lines)?
        .alter(files, &files.replace("main", "partner"))?
        .alter("issuers = [\"main\"]\nscopes = [\"orders:read\"]", orders)?;
    Ok((ground, partner))
}

/// Case 61.
#[test]
fn a_verdict_is_known_to_its_issuer_and_on_its_routes_alone() -> Rigged<()> {
    let orders = "issuers = [\"main\"]\nscopes = [\"orders:read\"]";
    let (ground, partner) = with_partner("", orders)?;
    let front = ground.start()?;
    let scopes = "orders:read files";
    let (ours, theirs) = (front.token(scopes)?, partner.token("alice", scopes)?);
    for _ in 0..3 {
        assert_eq!(front.get("/orders/1", &ours)?.status, 200);
        assert_refused(
            &front,
            &front.get("/files/1", &ours)?,
            "token_issuer_unknown",
        )?;
        // 404 is nginx's: there is no such file.
        assert_eq!(front.get("/files/1", &theirs)?.status, 404);
        assert_refused(
            &front,
            &front.get("/orders/1", &theirs)?,
            "token_issuer_unknown",
        )?;
    }
    // The other's key under the same id.
    let mut forged = partner;
    forged.issuer = "https://issuer.example".to_owned();
    let forged = forged.token("alice", scopes)?;
    for path in ["/orders/1", "/files/1"] {
        let reason = if path == "/orders/1" {
            "token_signature_invalid"
        } else {
            "token_issuer_unknown"
        };
        assert_refused(&front, &front.get(path, &forged)?, reason)?;
    }
    // Known to its issuer, the token is good only where its scopes are.
    let little = front.token("files")?;
    let answer = front.get("/orders/1", &little)?;
    assert_eq!(answer.status, 403);
    assert_eq!(front.get("/orders/1", &little)?.status, 403);
    Ok(())
}

/// Case 61: with other rules in force than those that it was reached by.
#[test]
fn a_verdict_is_not_known_any_more_once_the_rules_are_others() -> Rigged<()> {
    let orders = "issuers = [\"main\"]\nscopes = [\"orders:read\"]";
    let (ground, partner) = with_partner("", orders)?;
    let ground = ground.add("name = \"main\"", "leeway = \"5m\"")?;
    let mut front = ground.start()?;
    let claims = front.ground.issuer.claims("alice", "orders:read files");
    let mut late = claims.clone();
    late["exp"] = json!(unix_now() - 100);
    let [whole, late] = [claims, late].map(|claims| front.ground.issuer.sign(&claims));
    let (whole, late) = (whole?, late?);
    let theirs = partner.token("alice", "orders:read files")?;
    for (from, to, token, reason) in [
        (
            "audiences = [\"api\"]",
            "audiences = [\"other\"]",
            &whole,
            "token_audience_wrong",
        ),
        (
            "name = \"main\"",
            "name = \"main\"\nrequired_claims = { tenant = \"a\" }",
            &whole,
            "token_claim_required",
        ),
        (
            "name = \"main\"",
            "name = \"main\"\nclaims = { subject = \"email\" }",
            &whole,
            "token_subject_missing",
        ),
        ("leeway = \"5m\"", "leeway = \"1s\"", &late, "token_expired"),
        (
            "issuers = [\"main\"]",
            "issuers = [\"partner\"]",
            &whole,
            "token_issuer_unknown",
        ),
        (
            "issuers = [\"main\"]",
            "issuers = [\"partner\", \"main\"]",
            &whole,
            "",
        ),
        (
            "name = \"main\"",
            "name = \"main\"\ntoken_cookie = \"sid\"",
            &whole,
            "token_missing",
        ),
    ] {
        for _ in 0..2 {
            assert_eq!(front.get("/orders/1", token)?.status, 200, "{to}");
        }
        rewrite(&mut front, from, to)?;
        front.daemon.ask(&["reload"])?;
        for _ in 0..2 {
            let answer = front.get("/orders/1", token)?;
            if reason.is_empty() {
                assert_eq!(answer.status, 200, "{to}: {answer:?}");
            } else {
                assert_refused(&front, &answer, reason)?;
            }
        }
        // What is known of one issuer says nothing of the other.
        let answer = front.get("/files/1", &theirs)?;
        assert_eq!(answer.status, 404, "{to}: {answer:?}");
        rewrite(&mut front, to, from)?;
        front.daemon.ask(&["reload"])?;
    }
    Ok(())
}

#[test]
fn a_cookie_or_a_field_carries_the_token_where_that_is_configured_and_goes_no_further() -> Rigged<()>
{
    let upstream = Scripted::start(|_, stream| {
        stream.write_all(b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nok")?;
        Ok(true)
    })?;
    let both = "issuers = [\"main\", \"partner\"]\nscopes = [\"orders:read\"]";
    for (location, of) in [
        (
            "token_cookie = \"__Host-sid\"",
            "Cookie: a=b; __Host-sid=TOKEN; c=d",
        ),
        ("token_header = \"X-Access-Token\"", "X-Access-Token: TOKEN"),
    ] {
        let (ground, partner) = with_partner(location, both)?;
        let front = ground.with_upstream(upstream.address())?.start()?;
        let token = partner.token("bob", "orders:read")?;
        let field = of.replace("TOKEN", &token);
        let alias = format!("X_Access_Token: {token}");
        let served = front.curl("/orders/1", &["-H", &field, "-H", "Accept: */*"])?;
        assert_eq!(served.status, 200, "{served:?}");
        let seen = upstream.seen().pop().map(|seen| seen.head.join("\n"));
        let seen = seen.unwrap_or_default();
        assert!(!seen.contains(&token), "{seen}");
        assert!(seen.contains("x-portcullis-subject: bob"), "{seen}");
        assert_eq!(
            seen.contains("cookie: a=b; c=d"),
            location.contains("cookie"),
            "{seen}"
        );
        // Nor on a public route, where nobody asks for it.
        let public = front.curl("/public", &["-H", &field, "-H", &alias])?;
        assert_eq!(public.status, 200, "{public:?}");
        let seen = upstream.seen().pop().map(|seen| seen.head.join("\n"));
        let seen = seen.unwrap_or_default();
        assert!(
            location.contains("cookie") || !seen.contains(&token),
            "{seen}"
        );
        // Its own place only: not in Authorization, where the other issuer's are.
        let answer = front.get("/orders/1", &token)?;
        assert_refused(&front, &answer, "token_issuer_unknown")?;
        let bearer = format!("Authorization: Bearer {}", front.token("orders:read")?);
        let twice = front.curl("/orders/1", &["-H", &bearer, "-H", &field])?;
        assert_refused(&front, &twice, "token_in_two_places")?;
        let again = front.curl("/orders/1", &["-H", &field, "-H", &field])?;
        assert_refused(&front, &again, "authorization_repeated")?;
        let query = format!("/orders/1?__Host-sid={token}&x-access-token={token}");
        assert_refused(&front, &front.curl(&query, &[])?, "token_missing")?;
        assert_eq!(front.curl("/orders/1", &["-H", &bearer])?.status, 200);
    }
    Ok(())
}

#[test]
fn a_shared_secret_is_long_alone_and_kept_as_one() -> Rigged<()> {
    let jwks = |secret: &[u8]| {
        let k = URL_SAFE_NO_PAD.encode(secret);
        json!({"keys": [{"kty": "oct", "kid": "s", "k": k}]}).to_string()
    };
    let set = |secret: &[u8], mode: u32, algorithms: &str| -> Rigged<Ground> {
        let ground = Ground::set()?;
        let file = ground.scratch.write("jwks.json", jwks(secret))?;
        fs::set_permissions(&file, fs::Permissions::from_mode(mode))?;
        ground.alter("[\"ES256\"]", algorithms)
    };
    let secret = [7; 32];
    let front = set(&secret, 0o600, "[\"HS256\"]")?.start()?;
    let payload = front
        .ground
        .issuer
        .claims("alice", "orders:read")
        .to_string();
    let header = r#"{"alg":"HS256","kid":"s"}"#;
    let good = sign_with_secret(header, &payload, &secret)?;
    assert_eq!(front.get("/orders/1", &good)?.status, 200);
    let forged = sign_with_secret(header, &payload, &[8; 32])?;
    assert_refused(
        &front,
        &front.get("/orders/1", &forged)?,
        "token_signature_invalid",
    )?;
    for (secret, mode, algorithms, why) in [
        (&secret[..], 0o640, "[\"HS256\"]", "lets others read it"),
        (&secret[..], 0o604, "[\"HS256\"]", "lets others read it"),
        (
            &secret[..31],
            0o600,
            "[\"HS256\"]",
            "a secret of 248 bits, 256 are needed",
        ),
        (
            &secret[..],
            0o600,
            "[\"HS256\", \"ES256\"]",
            "HS256 has to be alone",
        ),
        (
            &secret[..],
            0o600,
            "[\"ES256\"]",
            "no configured algorithm fits its type",
        ),
    ] {
        let refused = set(secret, mode, algorithms)?.refused_start()?;
        assert!(refused.contains(why), "{why}: {refused}");
    }
    let ground = Ground::set()?;
    let url = "https://issuer.example/jwks.json";
    let refused = KeyServer::keys_at(ground, url, "")?
        .alter("[\"ES256\"]", "[\"HS256\"]")?
        .refused_start()?;
    assert!(refused.contains("no place for public keys"), "{refused}");
    Ok(())
}

#[test]
fn a_challenge_says_what_is_missing_and_nothing_more() -> Rigged<()> {
    let front = Front::open()?;
    let host = portcullis_tests::scene::HOST;
    let challenge = |answer: &Answer| answer.field("www-authenticate").map(str::to_owned);
    let none = front.curl("/orders/1", &[])?;
    assert_eq!(challenge(&none), Some(format!("Bearer realm=\"{host}\"")));
    let invalid = Some(format!("Bearer realm=\"{host}\", error=\"invalid_token\""));
    let expired = json!({"iss": "https://issuer.example", "aud": "api", "sub": "a", "exp": 1});
    let expired = front.get("/orders/1", &front.ground.issuer.sign(&expired)?)?;
    let unknown = front.get("/orders/1", "a.b.c")?;
    assert_eq!(challenge(&expired), invalid);
    assert_eq!(challenge(&unknown), invalid);
    for answer in [&expired, &unknown] {
        let body = String::from_utf8_lossy(&answer.body);
        let id = answer.field("x-request-id").unwrap_or_default();
        assert_eq!(body, format!("401 Unauthorized\ndecision {id}\n"));
    }
    let little = front.get("/orders/1", &front.token("files")?)?;
    assert_eq!(little.status, 403);
    let wanted = "error=\"insufficient_scope\", scope=\"orders:read\"";
    assert_eq!(
        challenge(&little),
        Some(format!("Bearer realm=\"{host}\", {wanted}"))
    );
    assert_eq!(front.heard()?, [""; 0]);
    Ok(())
}
