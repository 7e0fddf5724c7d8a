//! Tokens of three libraries that aren't ours, for every algorithm, good and broken in every way that matters:
//! each good one is served, and no other.

use std::{fs, os::unix::fs::PermissionsExt as _, process::Command};

use portcullis_tests::{
    ground::Ground,
    node::program,
    run::{RigError, Rigged, output},
};
use serde_json::Value;

/// Debian's, which has its packages.
const PYTHON: &str = "/usr/bin/python3";
const SCRIPT: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/data/foreign_tokens.py");

fn issued() -> Rigged<Value> {
    let made = output(Command::new(PYTHON).arg(SCRIPT).arg(program("jose.mjs")))?;
    serde_json::from_slice(&made.stdout).map_err(|error| {
        let said = String::from_utf8_lossy(&made.stderr);
        RigError(format!("the libraries made no tokens: {error}; {said}"))
    })
}

#[test]
fn the_verdict_on_tokens_of_other_libraries_is_that_of_the_standards() -> Rigged<()> {
    let issued = issued()?;
    let ground = Ground::set()?;
    ground
        .scratch
        .write("jwks.json", issued["public"].to_string())?;
    let secret = ground
        .scratch
        .write("secret.json", issued["secret"].to_string())?;
    fs::set_permissions(&secret, fs::Permissions::from_mode(0o600))?;
    let shared = format!(
        "[[issuer]]\nname = \"shared\"\nissuer = \"https://shared.example\"\naudiences = [\"api\"]\n\
         algorithms = [\"HS256\"]\njwks_file = \"{}\"\n\n[[upstream]]",
        secret.display()
    );
    let all = "[\"RS256\", \"RS384\", \"RS512\", \"PS256\", \"PS384\", \"PS512\", \"ES256\", \"ES384\", \"EdDSA\"]";
    let front = ground
        .alter("[\"ES256\"]", all)?
        .alter("[[upstream]]", &shared)?
        .alter("issuers = [\"main\"]", "issuers = [\"main\", \"shared\"]")?
        .start()?;
    let tokens: Vec<_> = issued["tokens"].as_array().into_iter().flatten().collect();
    let asked: Vec<_> = tokens
        .iter()
        .enumerate()
        .map(|(at, token)| {
            (
                format!("/orders/{at}"),
                token["token"].as_str().unwrap_or_default(),
            )
        })
        .collect();
    let (mut served, mut refused) = (0, 0);
    for (token, answer) in tokens.iter().zip(front.get_each(&asked)?) {
        let [library, algorithm, case, text] = ["library", "algorithm", "case", "token"]
            .map(|name| token[name].as_str().unwrap_or_default());
        let what = format!("{library}, {algorithm}: {case}: {text}");
        if token["good"] == true {
            assert_eq!(answer.status, 200, "{what}: {answer:?}");
            assert_eq!(answer.told("subject"), "alice", "{what}");
            served += 1;
        } else {
            assert_eq!(answer.status, 401, "{what}: {answer:?}");
            refused += 1;
        }
    }
    assert_eq!(
        served,
        3 * 10 * 5,
        "three libraries, ten algorithms, five good ones"
    );
    assert!(refused >= 3 * 10 * 30, "{refused}");
    assert_eq!(
        front.heard()?.len(),
        served,
        "the upstream hears of no other"
    );
    Ok(())
}
