//! Tokens that are taken back: by what they are, at once, for as long as it is said, whatever becomes of the
//! process.

use std::{
    process::Command,
    time::{Duration, Instant},
};

use portcullis_tests::{
    front::Front,
    pki::unix_now,
    run::{Rigged, eventually, output, output_of_line},
};
use serde_json::{Value, json};

const SOON: Duration = Duration::from_secs(10);

/// A token of alice's with these claims besides the usual ones, and without those that are null.
fn token(front: &Front, more: &Value) -> Rigged<String> {
    let mut claims = front.ground.issuer.claims("alice", "orders:read");
    for (name, value) in more.as_object().into_iter().flatten() {
        claims[name] = value.clone();
    }
    if let Some(claims) = claims.as_object_mut() {
        claims.retain(|_, value| !value.is_null());
    }
    front.ground.issuer.sign(&claims)
}

fn assert_good(front: &Front, token: &str) -> Rigged<()> {
    let answer = front.get("/orders/1", token)?;
    assert_eq!(answer.status, 200, "{answer:?}");
    Ok(())
}

fn assert_revoked(front: &Front, token: &str) -> Rigged<()> {
    let answer = front.get("/orders/1", token)?;
    assert_eq!(answer.status, 401, "{answer:?}");
    let challenge = answer.field("www-authenticate").unwrap_or_default();
    assert_eq!(
        challenge,
        "Bearer realm=\"api.example\", error=\"invalid_token\""
    );
    let record = front.record_of(answer.field("x-request-id"))?;
    assert_eq!(record["reason"], "token_revoked", "{record}");
    Ok(())
}

/// The number of the one revocation that a command made.
fn number(said: &Value) -> String {
    said["revoked"][0]["id"].to_string()
}

#[test]
fn what_is_revoked_is_refused_from_the_next_request_on_and_nothing_else() -> Rigged<()> {
    let front = Front::open()?;
    let now = unix_now();
    let mine = token(&front, &json!({"jti": "mine", "iat": now - 100}))?;
    let other = token(&front, &json!({"jti": "other", "iat": now - 10}))?;
    let undated = token(&front, &json!({"jti": "undated", "iat": null}))?;
    let bobs = token(&front, &json!({"sub": "bob", "iat": now - 10}))?;
    let before = rfc3339(now - 50)?;
    let all = [&mine, &other, &undated, &bobs];
    for (words, good) in [
        (&["--jti", "mine"][..], [false, true, true, true]),
        (
            &["--jti", "mine", "--jti", "other"],
            [false, false, true, true],
        ),
        (&["--subject", "alice"], [false, false, false, true]),
        (&["--issuer", "main"], [false; 4]),
        (&["--issuer", "https://issuer.example"], [false; 4]),
        (&["--key-id", "key-1"], [false; 4]),
        (&["--key-id", "key-2"], [true; 4]),
        (&["--issued-before", &before], [false, true, false, true]),
        (&["--issued-before", &before, "--subject", "bob"], [true; 4]),
        (&["--jti", "mine", "--subject", "bob"], [true; 4]),
    ] {
        for token in all {
            assert_good(&front, token)?;
        }
        let said = front.daemon.ask(&[&["token", "revoke"], words].concat())?;
        for (token, good) in all.into_iter().zip(good) {
            if good {
                assert_good(&front, token)?;
            } else {
                assert_revoked(&front, token)?;
            }
        }
        let revoked = said["revoked"].as_array().cloned().unwrap_or_default();
        assert!(!revoked.is_empty(), "{said}");
        let ids: Vec<String> = revoked.iter().map(|it| it["id"].to_string()).collect();
        let ids: Vec<&str> = ids.iter().map(String::as_str).collect();
        front
            .daemon
            .ask(&[&["token", "unrevoke"], &ids[..]].concat())?;
    }
    let trail = front.audit();
    let steps = |step: &str| trail.iter().filter(|it| it["step"] == step).count();
    assert_eq!((steps("token_revoked"), steps("token_unrevoked")), (11, 11));
    Ok(())
}

/// A second since the epoch as RFC 3339 has it.
fn rfc3339(seconds: u64) -> Rigged<String> {
    let at = format!("@{seconds}");
    let date = output(Command::new("date").args(["-u", "-d", &at, "+%Y-%m-%dT%H:%M:%SZ"]))?;
    Ok(String::from_utf8_lossy(&date.stdout).trim().to_owned())
}

#[test]
fn a_revocation_outlives_a_killed_process_and_ends_by_itself() -> Rigged<()> {
    let front = Front::open()?;
    let short = token(&front, &json!({"jti": "short"}))?;
    let long = token(&front, &json!({"jti": "long"}))?;
    let words = ["token", "revoke", "--jti", "long", "--reason", "stolen"];
    let said = front.daemon.ask(&words)?;
    front
        .daemon
        .ask(&["token", "revoke", "--jti", "short", "--for", "6s"])?;
    let began = Instant::now();
    let front = front.crash()?.start()?;
    assert_revoked(&front, &long)?;
    if began.elapsed() < Duration::from_secs(5) {
        assert_revoked(&front, &short)?;
    }
    eventually("its time is over", SOON, || {
        front
            .get("/orders/1", &short)
            .ok()
            .filter(|it| it.status == 200)
    })?;
    assert_revoked(&front, &long)?;
    front.audited("its end", |line| line["step"] == "revocation_over")?;
    let listed = front.daemon.ask(&["token", "list"])?;
    let listed = listed["revocations"]
        .as_array()
        .cloned()
        .unwrap_or_default();
    assert_eq!(listed.len(), 1, "{listed:?}");
    assert_eq!(listed[0], said["revoked"][0]);
    assert_eq!(listed[0]["reason"], "stolen");
    assert_eq!(listed[0]["until_ms"], Value::Null);
    // Its number is nobody else's after that.
    front.daemon.ask(&["token", "unrevoke", &number(&said)])?;
    let front = front.crash()?.start()?;
    assert_good(&front, &long)?;
    let next = front.daemon.ask(&["token", "revoke", "--jti", "next"])?;
    assert_eq!(next["revoked"][0]["id"], 3, "{next}");
    Ok(())
}

#[test]
fn a_second_revocation_extends_the_first_and_never_shortens_it() -> Rigged<()> {
    let front = Front::open()?;
    let revoke = |length: &[&str]| {
        let words = ["token", "revoke", "--subject", "alice"];
        front.daemon.ask(&[&words[..], length].concat())
    };
    let first = revoke(&["--for", "1h"])?;
    let until = |said: &Value| said["revoked"][0]["until_ms"].as_u64();
    let shorter = revoke(&["--for", "1m"])?;
    assert_eq!(until(&shorter), until(&first));
    let longer = revoke(&["--for", "2h"])?;
    assert!(until(&longer) > until(&first), "{longer}");
    let for_good = revoke(&[])?;
    assert_eq!(until(&for_good), None);
    assert_eq!(until(&revoke(&["--for", "1h"])?), None);
    assert_eq!(number(&for_good), number(&first));
    let listed = front.daemon.ask(&["token", "list", "--subject", "alice"])?;
    assert_eq!(listed["revocations"].as_array().map(Vec::len), Some(1));
    let listed = front.daemon.ask(&["token", "list", "--subject", "bob"])?;
    assert_eq!(listed["revocations"], json!([]));
    Ok(())
}

#[test]
fn a_token_is_revoked_by_itself_and_never_shown() -> Rigged<()> {
    let front = Front::open()?;
    let revoke = |token: &str| -> Rigged<String> {
        let words = ["token", "revoke", "--token", "-"];
        let said = output_of_line(&mut front.daemon.ask_command(&words), token)?;
        let both = [said.stdout, said.stderr].concat();
        Ok(String::from_utf8_lossy(&both).into_owned())
    };
    let ends = unix_now() + 600;
    let stolen = token(&front, &json!({"jti": "stolen", "exp": ends}))?;
    let other = token(&front, &json!({"jti": "other"}))?;
    let said = revoke(&stolen)?;
    let (_, signature) = stolen.rsplit_once('.').unwrap_or_default();
    assert!(!said.contains(signature), "{said}");
    assert_revoked(&front, &stolen)?;
    assert_good(&front, &other)?;
    let listed = front.daemon.ask(&["token", "list", "--jti", "stolen"])?;
    let until = listed["revocations"][0]["until_ms"].as_u64();
    assert_eq!(until, Some((ends + 3_600) * 1_000));
    for (token, why) in [
        ("a.b", "this is no token"),
        (
            &*token(&front, &json!({"jti": null}))?,
            "lacks iss, jti or exp",
        ),
    ] {
        let said = revoke(token)?;
        assert!(said.contains(why), "{said}");
    }
    Ok(())
}

#[test]
fn what_says_nothing_or_names_nobody_is_refused_with_what_to_do() -> Rigged<()> {
    let front = Front::open()?;
    for (words, why) in [
        (&["revoke"][..], "required"),
        (&["revoke", "--for", "1h"], "required"),
        (
            &["revoke", "--issuer", "mian"],
            "in the configuration, and none has that value of iss; use one of: main",
        ),
        (&["revoke", "--issued-before", "yesterday"], "write it like"),
        (
            &["revoke", "--jti", "x", "--reason", &"long ".repeat(100)],
            "the reason has 500 letters",
        ),
        (&["unrevoke", "7"], "there is no revocation 7"),
        (&["list", "--issuer", "nobody"], "use one of: main"),
    ] {
        let said = front.daemon.ask_refused(&[&["token"], words].concat())?;
        assert!(said.contains(why), "{words:?}: {said}");
    }
    let said = front.daemon.ask(&["token", "list"])?;
    assert_eq!(said["revocations"], json!([]));
    Ok(())
}

#[test]
fn a_reload_changes_nothing_of_what_is_revoked() -> Rigged<()> {
    let front = Front::open()?;
    let mine = token(&front, &json!({"jti": "mine"}))?;
    front.daemon.ask(&["token", "revoke", "--jti", "mine"])?;
    front.daemon.ask(&["reload"])?;
    assert_revoked(&front, &mine)?;
    // A cookie of another issuer's could hold it as well: its name changes, what is revoked doesn't.
    let text = front.ground.text.replace("\"main\"", "\"renamed\"");
    front.ground.scratch.write("portcullis.toml", &text)?;
    front.daemon.ask(&["reload"])?;
    assert_revoked(&front, &mine)?;
    let listed = front
        .daemon
        .ask(&["token", "list", "--issuer", "renamed"])?;
    assert_eq!(listed["revocations"], json!([]), "it names no issuer");
    front
        .daemon
        .ask(&["token", "revoke", "--issuer", "renamed", "--subject", "bob"])?;
    let listed = front
        .daemon
        .ask(&["token", "list", "--issuer", "renamed"])?;
    assert_eq!(listed["revocations"].as_array().map(Vec::len), Some(1));
    Ok(())
}
