//! Several issuers: where their keys are found, how they are exchanged under load and outlive an outage,
//! where their tokens are carried, what they must say.

use std::{
    fs,
    io::Write as _,
    os::unix::fs::PermissionsExt as _,
    thread,
    time::{Duration, Instant},
};

use base64::{Engine as _, engine::general_purpose::URL_SAFE_NO_PAD};
use portcullis_tests::{
    front::{Answer, Front},
    ground::Ground,
    key_server::KeyServer,
    pki::{TokenIssuer, sign_with_secret, unix_now},
    run::{Rigged, eventually},
    scripted::Scripted,
};
use serde_json::json;

fn assert_refused(front: &Front, answer: &Answer, reason: &str) -> Rigged<()> {
    assert_eq!(answer.status, 401, "{reason}: {answer:?}");
    let record = front.record_of(answer.field("x-request-id"))?;
    assert_eq!(record["reason"], reason, "{record}");
    Ok(())
}

/// A ground whose issuer is discovered at `keys`; `metadata` is made of the server's URL.
fn discovered(metadata: impl Fn(&str) -> String) -> Rigged<(Front, KeyServer)> {
    let mut ground = Ground::set()?;
    let keys = KeyServer::start(&ground)?;
    let url = keys.url("127.0.0.1", "");
    ground.issuer = TokenIssuer::new(&url, "key-1")?;
    ground.scratch.write("jwks.json", ground.issuer.jwks())?;
    let front = keys.discovered(ground, &metadata(&url))?.start()?;
    Ok((front, keys))
}

#[test]
fn keys_are_where_the_metadata_of_the_issuer_says() -> Rigged<()> {
    let says = |url: &str| json!({"issuer": url, "jwks_uri": format!("{url}/jwks.json")});
    let (front, keys) = discovered(|url| says(url).to_string())?;
    let answer = front.get("/orders/1", &front.token("orders:read")?)?;
    assert_eq!(answer.status, 200, "{answer:?} {}", front.daemon.printed());
    let asked = keys.asked(&front.ground)?;
    assert_eq!(asked, ["/.well-known/openid-configuration", "/jwks.json"]);
    Ok(())
}

#[test]
fn metadata_of_another_issuer_or_that_leads_elsewhere_gives_no_keys() -> Rigged<()> {
    type Metadata = fn(&str) -> String;
    let cases: [(Metadata, &str); 11] = [
        (
            |url| {
                json!({"issuer": format!("{url}/"), "jwks_uri": format!("{url}/jwks.json")})
                    .to_string()
            },
            "is of issuer",
        ),
        (
            |url| {
                json!({"issuer": "https://issuer.example", "jwks_uri": format!("{url}/jwks.json")})
                    .to_string()
            },
            "is of issuer \\\"https://issuer.example\\\"",
        ),
        (
            |url| json!({"jwks_uri": format!("{url}/jwks.json")}).to_string(),
            "names no issuer",
        ),
        (
            |url| json!({"issuer": url}).to_string(),
            "names no jwks_uri",
        ),
        (
            |url| {
                format!(r#"{{"issuer":"https://x","issuer":"{url}","jwks_uri":"{url}/jwks.json"}}"#)
            },
            "stands twice",
        ),
        (
            |url| json!({"issuer": url, "jwks_uri": "https://169.254.169.254/keys"}).to_string(),
            "169.254.169.254 is not a public address",
        ),
        (
            |url| json!({"issuer": url, "jwks_uri": "https://127.0.0.2/keys"}).to_string(),
            "127.0.0.2 is not a public address",
        ),
        (
            |url| {
                json!({"issuer": url, "jwks_uri": format!("http{}/jwks.json", url.trim_start_matches("https"))}).to_string()
            },
            "is no https:// URL",
        ),
        (
            |url| json!({"issuer": url, "jwks_uri": "file:///etc/passwd"}).to_string(),
            "is no https:// URL",
        ),
        (
            |url| json!({"issuer": url, "jwks_uri": format!("{url}/moved")}).to_string(),
            "the server answered 302",
        ),
        (
            |url| json!({"issuer": url, "jwks_uri": format!("{url}/large")}).to_string(),
            "larger than 262144 bytes",
        ),
    ];
    for (metadata, why) in cases {
        let (front, _keys) = discovered(metadata)?;
        let plain = why.replace('\\', "");
        eventually(why, Duration::from_secs(10), || {
            let printed = front.daemon.printed();
            let told = printed.contains(why) || printed.contains(&plain);
            (told && printed.contains("NO KEYS")).then_some(())
        })?;
        let answer = front.get("/orders/1", &front.token("orders:read")?)?;
        assert_refused(&front, &answer, "token_key_unknown")?;
        assert_eq!(front.heard()?, [""; 0]);
    }
    Ok(())
}

#[test]
fn keys_that_are_exchanged_under_load_lose_no_request() -> Rigged<()> {
    let ground = Ground::set()?;
    let keys = KeyServer::start(&ground)?;
    let url = keys.url("127.0.0.1", "/jwks.json");
    let front = KeyServer::keys_at(ground, &url, "\"127.0.0.1/32\"")?.start()?;
    let next = TokenIssuer::new("https://issuer.example", "key-2")?;
    let both: Vec<serde_json::Value> = [front.ground.issuer.public_key(), next.public_key()]
        .iter()
        .filter_map(|key| serde_json::from_str(key).ok())
        .collect();
    let (old, new) = (
        front.token("orders:read")?,
        next.token("alice", "orders:read")?,
    );
    let end = Instant::now() + Duration::from_secs(4);
    let statuses = |token: &str| -> Rigged<Vec<u16>> {
        let mut statuses = Vec::new();
        while Instant::now() < end {
            statuses.push(front.get("/orders/1", token)?.status);
        }
        Ok(statuses)
    };
    let (old, new) = thread::scope(|scope| -> Rigged<(Vec<u16>, Vec<u16>)> {
        let with_old = scope.spawn(|| statuses(&old));
        let with_new: Vec<_> = (0..3)
            .map(|_| {
                scope.spawn(|| {
                    thread::sleep(Duration::from_secs(1));
                    statuses(&new)
                })
            })
            .collect();
        thread::sleep(Duration::from_millis(500));
        let jwks = json!({ "keys": both }).to_string();
        let written = front.ground.scratch.write("jwks.json", jwks);
        let old = with_old.join().unwrap_or_else(|_| Ok(vec![0]));
        let new = with_new
            .into_iter()
            .map(|it| it.join().unwrap_or_else(|_| Ok(vec![0])));
        let new: Rigged<Vec<Vec<u16>>> = new.collect();
        written?;
        Ok((old?, new?.concat()))
    })?;
    assert!(
        old.len() > 20 && new.len() > 20,
        "{} and {}",
        old.len(),
        new.len()
    );
    assert!(
        old.iter().chain(&new).all(|status| *status == 200),
        "{old:?} {new:?}"
    );
    assert_eq!(
        keys.asked(&front.ground)?.len(),
        2,
        "at the start, and once more"
    );
    Ok(())
}

#[test]
fn unknown_keys_have_the_keys_fetched_once_an_interval() -> Rigged<()> {
    let ground = Ground::set()?;
    let keys = KeyServer::start(&ground)?;
    let url = keys.url("127.0.0.1", "/jwks.json");
    let front = KeyServer::keys_at(ground, &url, "\"127.0.0.1/32\"")?.start()?;
    let payload = front
        .ground
        .issuer
        .claims("alice", "orders:read")
        .to_string();
    for kid in 0..60 {
        let header = json!({"alg": "ES256", "kid": format!("k{kid}")}).to_string();
        let token = front.ground.issuer.sign_text(&header, &payload)?;
        let answer = front.get("/orders/1", &token)?;
        assert_refused(&front, &answer, "token_key_unknown")?;
    }
    let good = front.get("/orders/1", &front.token("orders:read")?)?;
    assert_eq!(good.status, 200);
    assert_eq!(
        keys.asked(&front.ground)?.len(),
        2,
        "at the start, and once for all"
    );
    Ok(())
}

#[test]
fn what_the_server_says_of_its_keys_has_them_fetched_again() -> Rigged<()> {
    let ground = Ground::set()?;
    let keys = KeyServer::start(&ground)?;
    let url = keys.url("127.0.0.1", "/fresh");
    let front = KeyServer::keys_at(ground, &url, "\"127.0.0.1/32\"")?
        .add("name = \"main\"", "jwks_refetch = \"1s\"")?
        .start()?;
    let again = || {
        let asked = keys.asked(&front.ground).ok()?;
        (asked.len() >= 3).then_some(())
    };
    eventually(
        "they are fetched twice more, not in 5 minutes",
        Duration::from_secs(10),
        again,
    )
}

#[test]
fn the_last_good_keys_outlive_an_outage_for_so_long_and_come_back() -> Rigged<()> {
    let ground = Ground::set()?;
    let keys = KeyServer::start(&ground)?;
    let url = keys.url("127.0.0.1", "/jwks.json");
    let observe = portcullis_tests::ground::free_address()?;
    let front = KeyServer::keys_at(ground, &url, "\"127.0.0.1/32\"")?
        .add(
            "name = \"main\"",
            "jwks_refresh = \"300ms\"\nkeys_outlive = \"4s\"",
        )?
        .add(
            "drain = \"5s\"",
            &format!("[observe]\naddress = \"{observe}\""),
        )?
        .start()?;
    let token = front.token("orders:read")?;
    let metric = |name: &str| -> Rigged<String> {
        let url = format!("http://{observe}/metrics");
        let text = front.curl_at(&url, &[])?.body;
        let text = String::from_utf8_lossy(&text).into_owned();
        let begin = format!("portcullis_{name}{{issuer=\"main\"}} ");
        let value = text.lines().find_map(|line| line.strip_prefix(&begin));
        Ok(value.unwrap_or("(none)").to_owned())
    };
    let address = keys.address();
    let step = |step: &'static str| front.audited(step, |line| line["step"] == step);
    drop(keys);
    step("keys_failed")?;
    assert_eq!(
        front.get("/orders/1", &token)?.status,
        200,
        "the last good ones stay"
    );
    assert_eq!(metric("issuer_keys_outlived")?, "0");
    step("keys_outlived")?;
    assert_refused(
        &front,
        &front.get("/orders/1", &token)?,
        "token_keys_outlived",
    )?;
    assert_eq!(metric("issuer_keys_outlived")?, "1");
    assert_eq!(metric("issuer_keys")?, "0");
    let _keys = KeyServer::start_at(&front.ground, address)?;
    step("keys_recovered")?;
    assert_eq!(front.get("/orders/1", &token)?.status, 200);
    assert_eq!(metric("issuer_keys_outlived")?, "0");
    let failures = front.audit();
    let failures = failures.iter().filter(|line| line["step"] == "keys_failed");
    assert_eq!(failures.count(), 1, "told once, not at every try");
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
    for (name, value, reason) in [
        ("tenant", json!("ab"), "token_claim_required"),
        ("tenant", json!(["A"]), "token_claim_required"),
        ("tenant", json!({"a": "a"}), "token_claim_required"),
        ("tenant", json!(null), "token_claim_required"),
        ("email_verified", json!("true"), "token_claim_required"),
        ("email_verified", json!(false), "token_claim_required"),
        ("org", json!({"level": "3"}), "token_claim_required"),
        ("org", json!({"level": 3.0}), "token_claim_required"),
        ("org", json!(3), "token_claim_required"),
        ("preferred_username", json!(null), "token_claims_invalid"),
        (
            "preferred_username",
            json!(["carol"]),
            "token_claims_invalid",
        ),
        (
            "realm_access",
            json!({"roles": [1]}),
            "token_claims_invalid",
        ),
        ("tier", json!(7), "token_claims_invalid"),
        (
            "https://x.example/perms",
            json!({"a": 1}),
            "token_claims_invalid",
        ),
    ] {
        let mut claims = good.clone();
        claims[name] = value.clone();
        let answer = front.get("/orders/1", &front.ground.issuer.sign(&claims)?)?;
        assert_refused(&front, &answer, reason).inspect_err(|_| eprintln!("{name} is {value}"))?;
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
