//! API keys: who has one is who it was made for, as long as it stands in its file, and on routes that say so.

use std::{
    fs::{self, Permissions},
    os::unix::fs::PermissionsExt as _,
    path::{Path, PathBuf},
    process::{Command, Output},
    time::Duration,
};

use portcullis_tests::{
    daemon::portcullis,
    front::{Answer, Front},
    ground::Ground,
    lasting::{Taker, service},
    run::{RigError, Rigged, eventually, output},
};
use serde_json::{Value, json};

const PATH: &str = "/orders/1";
/// A field that the rig's nginx repeats.
const FIELD: &str = "x-secret";
const SOON: Duration = Duration::from_secs(10);

fn apikey_new(args: &[&str]) -> Rigged<Output> {
    output(
        Command::new(portcullis())
            .args(["apikey", "new"])
            .args(args),
    )
}

/// A new key in a file.
fn made(file: &Path, args: &[&str]) -> Rigged<String> {
    let path = file.display().to_string();
    let made = apikey_new(&[&["--file", path.as_str()], args].concat())?;
    let key = String::from_utf8_lossy(&made.stdout).trim().to_owned();
    if !made.status.success() || key.is_empty() {
        return Err(RigError(format!("no key: {made:?}")));
    }
    Ok(key)
}

/// A ground with a file of keys, and a route that takes what `access` says.
fn taking(access: &str) -> Rigged<(Ground, PathBuf)> {
    let ground = Ground::set()?;
    let file = ground.scratch.join("keys.toml");
    made(&file, &["--subject", "nobody in particular"])?;
    let table = format!(
        "[[api_keys]]\nname = \"partners\"\nfile = \"{}\"\nheader = \"X-Secret\"\n\n[[upstream]]",
        file.display()
    );
    let ground = ground
        .alter("[[upstream]]", &table)?
        .alter("issuers = [\"main\"]", access)?;
    Ok((ground, file))
}

const KEY_ALONE: &str = "access = \"api_key\"\nissuers = [\"partners\"]";

fn ask(front: &Front, key: &str) -> Rigged<Answer> {
    front.curl(PATH, &["-H", &format!("X-Secret: {key}")])
}

fn record(front: &Front, answer: &Answer) -> Rigged<Value> {
    front.record_of(answer.field("x-request-id"))
}

fn assert_refused(front: &Front, answer: &Answer, status: u16, reason: &str) -> Rigged<()> {
    assert_eq!(answer.status, status, "{reason}: {answer:?}");
    let record = record(front, answer)?;
    assert_eq!(record["reason"], reason, "{record}");
    assert!(record["upstream_us"].is_null(), "{record}");
    Ok(())
}

/// The whole answer but for what names the decision and the second.
fn without_names(answer: &Answer) -> (String, usize) {
    let named = ["x-request-id:", "date:"];
    let is_named = |line: &&str| {
        let line = line.to_ascii_lowercase();
        !named.iter().any(|name| line.starts_with(name))
    };
    let head: Vec<&str> = answer.head.lines().filter(is_named).collect();
    (head.join("\n"), answer.body.len())
}

#[test]
fn who_has_a_key_is_who_it_was_made_for() -> Rigged<()> {
    let (ground, file) = taking(KEY_ALONE)?;
    let scopes = [
        "--subject",
        "billing",
        "--scopes",
        "orders:read orders:write",
    ];
    let key = made(&file, &scopes)?;
    let narrow = made(&file, &["--subject", "reports", "--scopes", "reports:read"])?;
    let front = ground.start()?;
    for version in ["--http1.1", "--http2"] {
        let answer = front.curl(PATH, &[version, "-H", &format!("X-Secret: {key}")])?;
        assert_eq!(answer.status, 200, "{answer:?}");
        assert_eq!(answer.told("subject"), "billing");
        assert_eq!(answer.told("issuer"), "partners");
        assert_eq!(answer.told("scopes"), "orders:read orders:write");
        assert_eq!(answer.told("proven_by"), "api_key");
        assert_eq!(answer.told("secret"), "", "the key stays here");
        let id = &key[4..20];
        let wanted = json!({
            "issuer": "partners", "subject": "billing", "proven_by": "api_key", "key_id": id,
        });
        assert_eq!(record(&front, &answer)?["principal"], wanted);
    }
    assert_refused(&front, &ask(&front, &narrow)?, 403, "scope_missing")
}

#[test]
fn a_key_is_seen_in_its_field_and_nowhere_else() -> Rigged<()> {
    let (ground, file) = taking(KEY_ALONE)?;
    let key = made(&file, &["--subject", "billing", "--scopes", "orders:read"])?;
    let front = ground.start()?;
    let query = front.curl(&format!("{PATH}?x-secret={key}"), &[])?;
    assert_refused(&front, &query, 401, "api_key_missing")?;
    for field in [
        format!("Authorization: Bearer {key}"),
        format!("Authorization: ApiKey {key}"),
        format!("X-Api-Key: {key}"),
        format!("X_Secret: {key}"),
        format!("Cookie: x-secret={key}"),
    ] {
        let answer = front.curl(PATH, &["-H", &field])?;
        assert_refused(&front, &answer, 401, "api_key_missing")?;
    }
    // A token is nothing here.
    let answer = front.get(PATH, &front.token("orders:read")?)?;
    assert_refused(&front, &answer, 401, "api_key_missing")?;
    assert_eq!(front.heard()?, [""; 0]);
    Ok(())
}

#[test]
fn whoever_tries_keys_learns_nothing() -> Rigged<()> {
    let (ground, file) = taking(KEY_ALONE)?;
    let args = ["--subject", "billing", "--scopes", "orders:read"];
    let key = made(&file, &args)?;
    let ended = made(&file, &[&args[..], &["--ttl", "1ms"]].concat())?;
    let stranger = made(&ground.scratch.join("others.toml"), &args)?;
    let wrong = format!("{}{}", &key[..21], &stranger[21..]);
    let front = ground.start()?;
    let challenge = "ApiKey realm=\"api.example\"";
    let missing = front.curl(PATH, &[])?;
    assert_refused(&front, &missing, 401, "api_key_missing")?;
    assert_eq!(missing.field("www-authenticate"), Some(challenge));
    for (sent, reason) in [
        (stranger.as_str(), "api_key_unknown"),
        (&wrong, "api_key_wrong"),
        (&ended, "api_key_expired"),
        (&key[..84], "api_key_malformed"),
        (&key.to_uppercase(), "api_key_malformed"),
        ("letmein", "api_key_malformed"),
    ] {
        let answer = ask(&front, sent)?;
        assert_refused(&front, &answer, 401, reason)?;
        assert_eq!(without_names(&answer), without_names(&missing), "{reason}");
        assert!(record(&front, &answer)?["principal"].is_null());
    }
    let field = format!("X-Secret: {key}");
    let twice = front.curl(PATH, &["-H", &field, "-H", &field])?;
    assert_refused(&front, &twice, 401, "api_key_repeated")?;
    assert_eq!(front.heard()?, [""; 0]);
    // What was sent is in no log, and neither is what is kept of it.
    let trail = fs::read_to_string(front.ground.scratch.join("audit.jsonl"))?;
    let printed = front.daemon.printed();
    let kept = fs::read_to_string(&file)?;
    let hashes = kept.split('"').filter(|word| word.len() == 64);
    let secrets = [&key, &ended, &stranger].map(|key| &key[21..]);
    for secret in secrets.into_iter().chain(hashes) {
        assert!(!trail.contains(secret) && !printed.contains(secret));
    }
    Ok(())
}

#[test]
fn a_key_goes_upstream_on_no_route() -> Rigged<()> {
    let (ground, file) = taking(KEY_ALONE)?;
    let key = made(&file, &["--subject", "billing", "--scopes", "orders:read"])?;
    let front = ground.start()?;
    // Whose application takes X_Secret for X-Secret.
    for name in ["X-Secret", "x_secret", "X_SECRET"] {
        let field = format!("{name}: {key}");
        let answer = front.curl("/public", &["-H", &field])?;
        assert_eq!(answer.status, 200, "{answer:?}");
        assert_eq!(answer.told("secret"), "", "{name}");
    }
    Ok(())
}

#[test]
fn a_key_that_is_gone_from_its_file_is_no_good_from_the_reload_on() -> Rigged<()> {
    let (ground, file) = taking(KEY_ALONE)?;
    let args = ["--subject", "billing", "--scopes", "orders:read"];
    let (key, stays) = (made(&file, &args)?, made(&file, &args)?);
    let front = ground.start()?;
    for key in [&key, &stays] {
        assert_eq!(ask(&front, key)?.status, 200);
    }
    let all = fs::read_to_string(&file)?;
    let rest: Vec<&str> = all.lines().filter(|it| !it.contains(&key[4..20])).collect();
    fs::write(&file, rest.join("\n"))?;
    let reply = front.daemon.ask(&["reload"])?;
    assert_eq!(reply["changes"], json!(["api_keys partners has changed"]));
    assert_refused(&front, &ask(&front, &key)?, 401, "api_key_unknown")?;
    assert_eq!(ask(&front, &stays)?.status, 200);
    let reply = front.daemon.ask(&["reload"])?;
    assert_eq!(reply["changes"], json!(["nothing has changed"]));
    Ok(())
}

#[test]
fn a_file_that_changes_is_read_again_and_a_bad_one_changes_nothing() -> Rigged<()> {
    let (ground, file) = taking(KEY_ALONE)?;
    let args = ["--subject", "billing", "--scopes", "orders:read"];
    let key = made(&file, &args)?;
    let front = ground.start()?;
    let told = |step: &str, words: &str| {
        front.audited(&format!("{step} {words}"), |line| {
            let detail = line["detail"].as_str().unwrap_or_default();
            line["step"] == step && detail.contains(words)
        })
    };
    let added = made(&file, &args)?;
    told("api_keys_read", "partners: 3 in force")?;
    assert_eq!(ask(&front, &added)?.status, 200);

    fs::set_permissions(&file, Permissions::from_mode(0o640))?;
    told("api_keys_refused", "its mode 0640 lets others")?;
    assert_eq!(ask(&front, &key)?.status, 200);
    let refused = front.daemon.ask_refused(&["reload"])?;
    assert!(refused.contains("its mode 0640 lets others"), "{refused}");
    fs::set_permissions(&file, Permissions::from_mode(0o600))?;

    // Of somebody who took the key for its line.
    fs::write(&file, format!("{key} = \"{key}\"\n"))?;
    told("api_keys_refused", "partners: line 1: ")?;
    fs::write(
        &file,
        format!("{key} = {{ subject = \"a\", salt = \"\", hash = \"\" }}\n"),
    )?;
    told("api_keys_refused", "its id isn't 16")?;
    assert_eq!(ask(&front, &key)?.status, 200);
    assert!(!front.daemon.printed().contains(&key[21..]));

    fs::write(&file, "")?;
    told("api_keys_read", "partners: 0 in force")?;
    assert_refused(&front, &ask(&front, &key)?, 401, "api_key_unknown")
}

#[test]
fn a_key_ends_when_its_time_is_over() -> Rigged<()> {
    let (ground, file) = taking(KEY_ALONE)?;
    let args = ["--subject", "billing", "--scopes", "orders:read", "--ttl"];
    let front = ground.start()?;
    let key = made(&file, &[&args[..], &["5s"]].concat())?;
    eventually("the key is read", SOON, || {
        let answer = ask(&front, &key).ok()?;
        (answer.status == 200).then_some(())
    })?;
    let answer = eventually("the key ends", SOON, || {
        ask(&front, &key).ok().filter(|answer| answer.status != 200)
    })?;
    assert_refused(&front, &answer, 401, "api_key_expired")
}

#[test]
fn of_a_key_and_a_token_the_first_of_the_route_counts() -> Rigged<()> {
    for (access, of_both) in [
        ("[\"token\", \"api_key\"]", "alice"),
        ("[\"api_key\", \"token\"]", "billing"),
    ] {
        let access = format!("access = {access}\nissuers = [\"main\", \"partners\"]");
        let (ground, file) = taking(&access)?;
        let key = made(&file, &["--subject", "billing", "--scopes", "orders:read"])?;
        let front = ground.start()?;
        let bearer = format!("Authorization: Bearer {}", front.token("orders:read")?);
        let secret = format!("{FIELD}: {key}");
        let broken = format!("{FIELD}: {}", &key[..84]);
        let asked = |fields: &[&str]| {
            let args: Vec<&str> = fields.iter().flat_map(|field| ["-H", *field]).collect();
            front.curl(PATH, &args)
        };
        assert_eq!(asked(&[&bearer])?.told("subject"), "alice");
        assert_eq!(asked(&[&secret])?.told("subject"), "billing");
        let both = asked(&[&bearer, &secret])?;
        assert_eq!(both.told("subject"), of_both, "{access}");
        assert_eq!(both.told("authorization") + &both.told("secret"), "");
        assert_refused(&front, &asked(&[])?, 401, "token_missing")?;
        // One that counts and is no good isn't made up for by the other.
        let other = asked(&[&bearer, &broken])?;
        if of_both == "alice" {
            assert_eq!(other.status, 200, "{other:?}");
        } else {
            assert_refused(&front, &other, 401, "api_key_malformed")?;
        }
    }
    Ok(())
}

#[test]
fn what_a_key_let_in_ends_with_it() -> Rigged<()> {
    let service = service()?;
    let (ground, file) = taking(KEY_ALONE)?;
    let ground = ground.with_upstream(service.address())?;
    let scopes = ["--scopes", "orders:read"];
    let make = |subject: &str, more: &[&str]| {
        let args = [&["--subject", subject], &scopes[..], more].concat();
        made(&file, &args)
    };
    let (kept, taken) = (make("kept", &[])?, make("taken", &[])?);
    let (later, last) = (make("later", &[])?, make("last", &[])?);
    let brief = make("brief", &["--ttl", "9s"])?;
    let front = ground.start()?;
    let begin = |key: &str| -> Rigged<Taker> {
        let mut taker =
            Taker::begin_as(&front, "/orders/silent", &format!("X-Secret: {key}"), &[])?;
        taker.has_begun()?;
        Ok(taker)
    };
    let mut kept = begin(&kept)?;
    let (brief, removed) = (begin(&brief)?, begin(&taken)?);
    let (later_removed, last_removed) = (begin(&later)?, begin(&last)?);
    let without = |id: &str| -> Rigged<()> {
        let text = fs::read_to_string(&file)?;
        let lines = text.lines().filter(|line| !line.starts_with(id));
        fs::write(
            &file,
            lines.map(|line| format!("{line}\n")).collect::<String>(),
        )?;
        Ok(())
    };
    let ended = |taker: Taker, subject: &str, reason: &str| -> Rigged<()> {
        assert_ne!(taker.ended()?.0, 0, "{subject}: it looks whole");
        front.audited(&format!("{subject}: {reason}"), |line| {
            line["principal"]["subject"] == subject && line["reason"] == reason
        })?;
        Ok(())
    };
    // As soon as the file is read again, and at once where that is asked for.
    without(&taken[4..20])?;
    ended(removed, "taken", "api_key_unknown")?;
    // Also after reloads, one of which changed nothing.
    front.daemon.ask(&["reload"])?;
    front.daemon.ask(&["reload"])?;
    without(&later[4..20])?;
    ended(later_removed, "later", "api_key_unknown")?;
    without(&last[4..20])?;
    front.daemon.ask(&["reload"])?;
    ended(last_removed, "last", "api_key_unknown")?;
    ended(brief, "brief", "api_key_expired")?;
    assert!(kept.goes_on()?, "another key's has ended");
    kept.stop()
}

#[test]
fn a_key_is_made_for_a_line_of_a_file() -> Rigged<()> {
    let ground = Ground::set()?;
    let file = ground.scratch.join("keys.toml");
    let path = file.display().to_string();
    let args = [
        "--subject",
        "billing",
        "--group",
        "machines",
        "--attribute",
        "tenant=acme",
        "--ttl",
        "1day",
    ];
    let said = apikey_new(&args)?;
    let text = String::from_utf8_lossy(&said.stdout).into_owned();
    let (key, line) = text.split_once('\n').unwrap_or_default();
    assert_eq!((key.len(), &key[..4]), (85, "pck_"), "{text}");
    assert!(
        line.starts_with(&format!("{} = {{ ", &key[4..20])),
        "{line}"
    );
    assert!(!line.contains(&key[21..]), "{line}");
    for word in [
        "subject = \"billing\"",
        "groups = [\"machines\"]",
        "tenant = [\"acme\"]",
        "expires = 2",
    ] {
        assert!(line.contains(word), "{line}");
    }
    assert!(String::from_utf8_lossy(&said.stderr).contains("shown this once"));

    let said = apikey_new(&["--subject", "a", "--file", &path, "--json"])?;
    let said: Value = serde_json::from_slice(&said.stdout)
        .map_err(|error| RigError(format!("no JSON: {error}")))?;
    let kept = fs::read_to_string(&file)?;
    assert_eq!(
        kept,
        format!("{}\n", said["line"].as_str().unwrap_or_default())
    );
    assert_eq!(fs::metadata(&file)?.permissions().mode() & 0o7777, 0o600);

    let refused = |args: &[&str], words: &str| -> Rigged<()> {
        let said = apikey_new(&[args, &["--file", path.as_str()]].concat())?;
        let why = String::from_utf8_lossy(&said.stderr).into_owned();
        assert!(!said.status.success() && said.stdout.is_empty(), "{said:?}");
        assert!(why.contains(words), "{why}");
        Ok(())
    };
    refused(&["--subject", ""], "its subject is empty")?;
    refused(&["--subject", "a", "--scopes", "a\"b"], "a scope of it")?;
    refused(&["--subject", "a", "--attribute", "tenant"], "tenant=acme")?;
    fs::set_permissions(&file, Permissions::from_mode(0o604))?;
    refused(&["--subject", "a"], "its mode 0604 lets others")?;
    fs::set_permissions(&file, Permissions::from_mode(0o600))?;
    assert_eq!(fs::read_to_string(&file)?, kept);
    fs::write(&file, "x")?;
    refused(&["--subject", "a"], "line 1: ")?;
    Ok(())
}
