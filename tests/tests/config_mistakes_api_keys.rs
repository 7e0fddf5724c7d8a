//! Mistakes in `[[api_keys]]` and in what routes say of them, each told with its line and how to mend it.

use std::{
    fs::{self, Permissions},
    os::unix::fs::PermissionsExt as _,
};

use portcullis_tests::{ground::Ground, run::Rigged};

/// Asserts that this table, and these lines in the first route, are refused with all of `words`.
fn assert_told(table: &str, route: &str, words: &[&str]) -> Rigged<()> {
    let ground = Ground::set()?;
    let at = ground.scratch.path().display().to_string();
    fs::write(ground.scratch.join("keys.toml"), "")?;
    fs::set_permissions(
        ground.scratch.join("keys.toml"),
        Permissions::from_mode(0o600),
    )?;
    ground.scratch.write("open.toml", "")?;
    fs::set_permissions(
        ground.scratch.join("open.toml"),
        Permissions::from_mode(0o644),
    )?;
    let whole = "issuers = [\"main\"]\nscopes = [\"orders:read\"]";
    let table = format!("{}\n\n[[upstream]]", table.replace("AT", &at));
    let ground = ground.alter("[[upstream]]", &table)?.alter(whole, route)?;
    let printed = ground.refused_start()?;
    for word in words {
        assert!(printed.contains(word), "{word}: {printed}");
    }
    Ok(())
}

const TABLE: &str =
    "[[api_keys]]\nname = \"partners\"\nfile = \"AT/keys.toml\"\nheader = \"x-api-key\"";
const ROUTE: &str = "issuers = [\"main\"]";

#[test]
fn a_file_of_keys_is_proven() -> Rigged<()> {
    for (from, to, words) in [
        (
            "keys.toml",
            "none.toml",
            &["api_keys[0].file", "can't be read: No such file"][..],
        ),
        (
            "keys.toml",
            "open.toml",
            &["api_keys[0].file", "its mode 0644 lets others", "chmod 600"],
        ),
        ("keys.toml", "server.key", &["api_keys[0].file"]),
        (
            "partners",
            "main",
            &["api_keys[0].name", "an [[issuer]] of tokens has this name"],
        ),
        (
            "x-api-key",
            "cookie",
            &["api_keys[0].header", "is no field that can carry a key"],
        ),
        (
            "x-api-key",
            "x_api_key",
            &["api_keys[0].header", "with - in place of _"],
        ),
        (
            "x-api-key",
            "X-Portcullis-Subject",
            &["api_keys[0].header", "is no field"],
        ),
        ("name", "named", &["unknown key `named`"]),
    ] {
        assert_told(&TABLE.replacen(from, to, 1), ROUTE, words)?;
    }
    let twice = format!("{TABLE}\n\n{TABLE}");
    assert_told(&twice, ROUTE, &["another api_keys has this already"])
}

#[test]
fn what_a_route_says_of_keys_is_proven() -> Rigged<()> {
    for (table, route, words) in [
        (
            TABLE,
            "access = \"api_key\"\nissuers = [\"main\"]",
            &["route[0].issuers", "issues tokens, which access leaves out"][..],
        ),
        (
            TABLE,
            "issuers = [\"main\", \"partners\"]",
            &[
                "route[0].issuers",
                "is of API keys, which access leaves out",
            ],
        ),
        (
            TABLE,
            "access = [\"token\", \"api_key\"]\nissuers = [\"main\"]",
            &["route[0].issuers", "access takes API keys", "[[api_keys]]"],
        ),
        (
            TABLE,
            "access = \"api_key\"\nissuers = [\"partners\"]\nholder = \"dpop\"",
            &["route[0].holder", "is about tokens"],
        ),
        (
            TABLE,
            "access = [\"token\", \"api_key\"]\nissuers = [\"main\", \"partners\"]\nholder = \"any\"",
            &["route[0].holder", "an API key is bound to nothing"],
        ),
        (
            TABLE,
            "access = [\"token\", \"api_key\"]\nissuers = [\"main\", \"partners\"]\nsingle_use = true",
            &[
                "route[0].single_use",
                "an API key is good as often as it is sent",
            ],
        ),
        (
            "",
            "access = \"api_key\"\nissuers = [\"partners\"]",
            &["route[0].issuers", "no issuer is named \"partners\""],
        ),
        (
            TABLE,
            "access = \"api_keys\"\nissuers = [\"partners\"]",
            &["route[0].access", "\"api_key\""],
        ),
    ] {
        assert_told(table, route, words)?;
    }
    Ok(())
}
