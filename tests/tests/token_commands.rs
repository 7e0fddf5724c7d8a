//! `portcullis token`: why a token is accepted or refused, told as the proxy judges it; tokens for development,
//! never with a key that lets people in.

use std::{
    fs,
    os::unix::fs::PermissionsExt as _,
    process::{Command, Output},
};

use portcullis_tests::{
    daemon::portcullis,
    ground::Ground,
    pki::{TokenIssuer, unix_now, unsigned},
    run::{Rigged, output, output_of_line},
};
use serde_json::{Value, json};

/// A ground with its configuration written, and that file.
fn written(ground: Ground) -> Rigged<(Ground, String)> {
    let file = ground.scratch.write("portcullis.toml", &ground.text)?;
    Ok((ground, file.display().to_string()))
}

fn inspect(config: &str, token: &str, args: &[&str]) -> Rigged<Output> {
    let mut command = Command::new(portcullis());
    command.args(["token", "inspect", "-", "--config", config]);
    output_of_line(command.args(args), token)
}

fn text(output: &Output) -> String {
    let both = [output.stdout.as_slice(), output.stderr.as_slice()].concat();
    String::from_utf8_lossy(&both).into_owned()
}

#[test]
fn inspect_says_what_the_proxy_says_and_never_the_signature() -> Rigged<()> {
    let (ground, config) = written(Ground::set()?)?;
    let front = ground.start()?;
    let issuer = &front.ground.issuer;
    let claims = |changes: Value| {
        let mut claims = issuer.claims("alice", "orders:read");
        for (name, value) in changes.as_object().into_iter().flatten() {
            claims[name] = value.clone();
        }
        claims
    };
    let stranger = TokenIssuer::new("https://issuer.example", "key-1")?;
    let header = r#"{"alg":"ES256","kid":"key-1"}"#;
    let crit = r#"{"alg":"ES256","kid":"key-1","crit":["x"]}"#;
    let good = claims(json!({})).to_string();
    let cases = [
        (issuer.sign(&claims(json!({})))?, "", "revocation"),
        (
            issuer.sign(&claims(json!({"exp": unix_now() - 99})))?,
            "token_expired",
            "subject",
        ),
        (
            issuer.sign(&claims(json!({"aud": "other"})))?,
            "token_audience_wrong",
            "claims",
        ),
        (
            issuer.sign(&claims(json!({"exp": "1"})))?,
            "token_time_invalid",
            "signature",
        ),
        (
            issuer.sign(&claims(json!({"iss": "https://x"})))?,
            "token_issuer_unknown",
            "form",
        ),
        (
            stranger.sign(&claims(json!({})))?,
            "token_signature_invalid",
            "key",
        ),
        (
            issuer.sign_text(&header.replace("key-1", "k"), &good)?,
            "token_key_unknown",
            "algorithm",
        ),
        (
            issuer.sign_text(crit, &good)?,
            "token_header_refused",
            "issuer",
        ),
        (
            format!("{}.", unsigned(r#"{"alg":"none"}"#, &good)),
            "token_header_refused",
            "issuer",
        ),
        ("a.b".to_owned(), "token_malformed", ""),
    ];
    for (token, reason, last) in &cases {
        let said = inspect(&config, token, &["--json"])?;
        let told: Value = serde_json::from_slice(&said.stdout).unwrap_or_default();
        assert_eq!(told["accepted"], reason.is_empty(), "{told}");
        assert_eq!(
            told["reason"].as_str().unwrap_or_default(),
            *reason,
            "{told}"
        );
        assert_eq!(said.status.success(), reason.is_empty());
        let passed = told["passed"]
            .as_array()
            .and_then(|it| it.last()?["step"].as_str());
        assert_eq!(passed.unwrap_or_default(), *last, "{told}");
        let answer = front.get("/orders/1", token)?;
        assert_eq!(answer.status == 200, reason.is_empty(), "{token}");
        if !reason.is_empty() {
            let record = front.record_of(answer.field("x-request-id"))?;
            assert_eq!(record["reason"], *reason);
        }
        let plain = text(&inspect(&config, token, &[])?);
        let signature = token.rsplit('.').next().unwrap_or_default();
        for said in [plain, text(&said)] {
            assert!(
                signature.len() < 8 || !said.contains(&signature[..8]),
                "{said}"
            );
        }
    }
    let said = text(&inspect(&config, &cases[0].0, &[])?);
    assert!(said.contains("  orders: let in"), "{said}");
    assert!(
        said.contains("  files: refused, scope_missing: files"),
        "{said}"
    );
    assert!(!said.contains("public"), "{said}");
    // What is revoked is asked of the daemon that runs.
    front
        .daemon
        .ask(&["token", "revoke", "--subject", "alice"])?;
    let said = text(&inspect(&config, &cases[0].0, &[])?);
    assert!(said.contains("token_revoked"), "{said}");
    let (_, ground) = front.stop()?;
    let said = text(&inspect(&config, &cases[0].0, &[])?);
    assert!(said.contains("whether it is revoked isn't known"), "{said}");
    drop(ground);
    Ok(())
}

#[test]
fn inspect_asks_nobody_unless_told_to() -> Rigged<()> {
    let ground = Ground::set()?;
    let line = ground.keys_line();
    let ground = ground.alter(&line, "jwks_url = \"https://issuer.invalid/jwks.json\"")?;
    let (ground, config) = written(ground)?;
    let token = ground.issuer.token("alice", "orders:read")?;
    let said = text(&inspect(&config, &token, &[])?);
    assert!(said.contains("--fetch asks there"), "{said}");
    assert!(said.contains("REFUSED  token_key_unknown"), "{said}");
    Ok(())
}

fn mint(config: &str, key: &str, args: &[&str]) -> Rigged<Output> {
    let who = [
        "--issuer",
        "https://dev.example",
        "--audience",
        "api",
        "--subject",
        "dev",
    ];
    output(
        Command::new(portcullis())
            .args(["token", "mint", "--config", config, "--key", key])
            .args(who)
            .args(["--scope", "orders:read"])
            .args(args),
    )
}

#[test]
fn minted_tokens_are_good_where_development_is_asked_for_and_nowhere_else() -> Rigged<()> {
    let (ground, config) = written(Ground::set()?)?;
    let key = ground.scratch.join("dev.key").display().to_string();
    let missing = mint(&config, &key, &[])?;
    assert!(
        text(&missing).contains("--generate makes one"),
        "{}",
        text(&missing)
    );
    let minted = mint(&config, &key, &["--generate"])?;
    assert!(minted.status.success(), "{}", text(&minted));
    assert!(
        text(&minted).contains("FOR DEVELOPMENT ONLY"),
        "{}",
        text(&minted)
    );
    assert_eq!(fs::metadata(&key)?.permissions().mode() & 0o777, 0o600);
    let again = mint(&config, &key, &["--generate"])?;
    assert!(text(&again).contains("File exists"), "{}", text(&again));

    let dev = |mark: &str| {
        format!(
            "[[issuer]]\nname = \"dev\"\nissuer = \"https://dev.example\"\naudiences = [\"api\"]\n\
             algorithms = [\"ES256\"]\njwks_file = \"{key}.jwks.json\"\n{mark}\n\n[[upstream]]"
        )
    };
    let plain = ground.text.clone();
    let (ground, config) = written(ground.alter("[[upstream]]", &dev(""))?)?;
    let refused = mint(&config, &key, &[])?;
    let told = text(&refused);
    assert!(
        !refused.status.success() && refused.stdout.is_empty(),
        "{told}"
    );
    assert!(
        told.contains("issuer \"dev\" trusts this key and isn't for development"),
        "{told}"
    );

    let ground = Ground {
        text: plain,
        ..ground
    };
    let ground = ground
        .alter("[[upstream]]", &dev("development = true"))?
        .alter("issuers = [\"main\"]", "issuers = [\"main\", \"dev\"]")?;
    let (ground, config) = written(ground)?;
    let minted = mint(&config, &key, &[])?;
    assert!(minted.status.success(), "{}", text(&minted));
    let token = String::from_utf8_lossy(&minted.stdout).trim().to_owned();
    let front = ground.start()?;
    assert!(front.daemon.printed().contains("AN ISSUER FOR DEVELOPMENT"));
    front.audited("it is in the trail", |line| {
        line["step"] == "issuer_for_development"
    })?;
    let answer = front.get("/orders/1", &token)?;
    assert_eq!(
        (answer.status, answer.told("subject").as_str()),
        (200, "dev")
    );
    // With keys that it can't know, it signs nothing.
    let file = front.ground.scratch.join("jwks.json");
    let text_of = fs::read_to_string(&config)?;
    let elsewhere = text_of.replacen(
        &format!("jwks_file = \"{}\"", file.display()),
        "jwks_url = \"https://issuer.invalid/jwks.json\"",
        1,
    );
    fs::write(&config, elsewhere)?;
    let refused = mint(&config, &key, &[])?;
    assert!(
        text(&refused).contains("can't be known"),
        "{}",
        text(&refused)
    );
    Ok(())
}

#[test]
fn a_token_is_minted_for_its_holder_and_inspect_tells_so() -> Rigged<()> {
    let ground = Ground::set()?;
    let key = ground.scratch.join("dev.key").display().to_string();
    let (ground, config) = written(ground)?;
    mint(&config, &key, &["--generate"])?;
    let dev = format!(
        "[[issuer]]\nname = \"dev\"\nissuer = \"https://dev.example\"\naudiences = [\"api\"]\n\
         algorithms = [\"ES256\"]\njwks_file = \"{key}.jwks.json\"\ndevelopment = true\n\n[[upstream]]"
    );
    let ground = ground
        .alter("[[upstream]]", &dev)?
        .alter("issuers = [\"main\"]", "issuers = [\"dev\"]")?
        .add("scopes = [\"orders:read\"]", "holder = \"dpop\"")?;
    let (_ground, config) = written(ground)?;
    let thumbprint = "0ZcOCORZNYy-DWpqq30jZyJGHTN0d2HglBV3uiguA4I";
    let by_key = ", with a DPoP proof by its key; of the routes";
    for (args, proven_by, line, verdict) in [
        (
            vec![],
            "token",
            "ACCEPTED by its issuer; of the routes",
            "refused, token_unbound",
        ),
        (vec!["--jkt", thumbprint], "token dpop", by_key, "let in"),
        (
            vec!["--x5t", thumbprint],
            "token certificate",
            ", over TLS with its certificate; of the routes",
            "refused, token_unbound",
        ),
        (
            vec!["--jkt", thumbprint, "--x5t", thumbprint],
            "token dpop certificate",
            ", with a DPoP proof by its key and over TLS with its certificate; of the routes",
            "let in",
        ),
    ] {
        let minted = mint(&config, &key, &args)?;
        assert!(minted.status.success(), "{}", text(&minted));
        let token = String::from_utf8_lossy(&minted.stdout).trim().to_owned();
        let told = text(&inspect(&config, &token, &[])?);
        assert!(told.contains(line), "{told}");
        assert!(told.contains(&format!("  orders: {verdict}")), "{told}");
        assert_eq!(told.contains(thumbprint), !args.is_empty(), "{told}");
        let said = inspect(&config, &token, &["--json"])?;
        let said: Value = serde_json::from_slice(&said.stdout).unwrap_or_default();
        assert_eq!(said["proven_by"], proven_by, "{said}");
        let unbound = said["unbound_on_routes"].as_array().map_or(0, Vec::len);
        assert_eq!(unbound == 0, verdict == "let in", "{said}");
    }
    for wrong in ["AA", "0ZcOCORZNYy-DWpqq30jZyJGHTN0d2HglBV3uiguA4I=", ""] {
        let refused = mint(&config, &key, &["--jkt", wrong])?;
        assert!(
            text(&refused).contains("no SHA-256 in base64url"),
            "{}",
            text(&refused)
        );
    }
    Ok(())
}

#[test]
fn a_key_that_others_can_read_mints_nothing() -> Rigged<()> {
    let (ground, config) = written(Ground::set()?)?;
    let key = ground.scratch.join("dev.key").display().to_string();
    mint(&config, &key, &["--generate"])?;
    fs::set_permissions(&key, fs::Permissions::from_mode(0o644))?;
    let refused = mint(&config, &key, &[])?;
    assert!(text(&refused).contains("chmod 600"), "{}", text(&refused));
    Ok(())
}
