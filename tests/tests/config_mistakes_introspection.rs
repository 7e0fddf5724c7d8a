//! Mistakes in `[issuer.introspection]`, each told with its line and how to mend it.

use std::{
    fs::{self, Permissions},
    os::unix::fs::PermissionsExt as _,
    process::Command,
};

use portcullis_tests::{
    daemon::portcullis,
    ground::Ground,
    opaque_issuer::asking,
    run::{Rigged, output},
};

const URL: &str = "https://127.0.0.1:9/introspect";

fn ground() -> Rigged<Ground> {
    let place = ("https://idp.example", URL);
    asking(Ground::set()?, place, "", "[\"main\", \"opaque\"]")
}

fn assert_told(ground: &Ground, words: &[&str]) -> Rigged<()> {
    let printed = ground.refused_start()?;
    for word in words {
        assert!(printed.contains(word), "{word}: {printed}");
    }
    Ok(())
}

fn assert_good(ground: &Ground) -> Rigged<()> {
    let config = ground.scratch.write("portcullis.toml", &ground.text)?;
    let mut check = Command::new(portcullis());
    let checked = output(check.args(["check", "--config"]).arg(config))?;
    assert!(checked.status.success(), "{checked:?}");
    Ok(())
}

#[test]
fn how_an_issuer_is_asked_is_proven() -> Rigged<()> {
    let audiences = "audiences = [\"api\"]\n\n[issuer.introspection]";
    let of_keys = |line: &str| format!("audiences = [\"api\"]\n{line}\n\n[issuer.introspection]");
    for (from, to, words) in [
        (
            URL,
            "http://idp.example/",
            &["issuer[1].introspection.url", "no https:// URL"][..],
        ),
        (
            "allow_addresses = [\"127.0.0.1/32\"]",
            "",
            &[
                "issuer[1].introspection.url",
                "not a public address",
                "introspection.allow_addresses",
            ],
        ),
        (
            "allow_addresses = [\"127.0.0.1/32\"]",
            "allow_addresses = [\"here\"]",
            &["issuer[1].introspection.allow_addresses", "write ranges"],
        ),
        (
            "client_id = \"proxy:one\"",
            "client_id = \"\"",
            &["issuer[1].introspection.client_id", "is empty"],
        ),
        (
            "/client.secret\"",
            "/none\"",
            &[
                "issuer[1].introspection.client_secret_file",
                "can't be read",
            ],
        ),
        (
            "[issuer.introspection]",
            "[issuer.introspection]\ncache = \"1h\"",
            &["issuer[1].introspection.cache", "is too long", "300s"],
        ),
        (
            "[issuer.introspection]",
            "[issuer.introspection]\ntimeout = \"0s\"",
            &["issuer[1].introspection.timeout", "no duration above zero"],
        ),
        (
            "[issuer.introspection]",
            "[issuer.introspection]\nmax_concurrent = 0",
            &["issuer[1].introspection.max_concurrent", "out of range"],
        ),
        (
            "[issuer.introspection]",
            "[issuer.introspection]\nclient_secret = \"a\"",
            &["unknown key `client_secret`"],
        ),
        (
            audiences,
            &of_keys("algorithms = [\"ES256\"]"),
            &["issuer[1].algorithms", "is about keys"],
        ),
        (
            audiences,
            &of_keys("jwks_url = \"https://idp.example/jwks\""),
            &["issuer[1].jwks_url", "is about keys"],
        ),
        (
            audiences,
            &of_keys("development = true"),
            &["issuer[1].development", "is about keys"],
        ),
        (
            "algorithms = [\"ES256\"]",
            "",
            &[
                "issuer[0].name",
                "by which algorithms its tokens are signed",
                "introspection",
            ],
        ),
    ] {
        assert_told(&ground()?.alter(from, to)?, words)?;
    }
    Ok(())
}

#[test]
fn a_secret_that_others_can_read_is_refused() -> Rigged<()> {
    let ground = ground()?;
    let secret = ground.scratch.join("client.secret");
    fs::set_permissions(&secret, Permissions::from_mode(0o644))?;
    let key = "issuer[1].introspection.client_secret_file";
    assert_told(&ground, &[key, "its mode 0644 lets others", "chmod 600"])?;
    fs::set_permissions(&secret, Permissions::from_mode(0o600))?;
    for text in ["", "\n", "a\nb\n"] {
        fs::write(&secret, text)?;
        assert_told(&ground, &[key, "doesn't hold one line with the secret"])?;
    }
    Ok(())
}

/// A token goes to the one issuer that it may be of.
#[test]
fn two_issuers_are_not_asked_about_the_same_token() -> Rigged<()> {
    let ground = ground()?;
    let begin = ground
        .text
        .find("[[issuer]]\nname = \"opaque\"")
        .unwrap_or_default();
    let end = ground.text[begin..]
        .find("[[upstream]]")
        .unwrap_or_default();
    let other = ground.text[begin..begin + end]
        .replace("\"opaque\"", "\"other\"")
        .replace("https://idp.example", "https://other.example");
    let ground = ground
        .alter("[[upstream]]", &format!("{other}[[upstream]]"))?
        .alter("[\"main\", \"opaque\"]", "[\"opaque\", \"other\"]")?;
    assert_told(
        &ground,
        &[
            "route[0].issuers",
            "both asked about tokens in the same place",
        ],
    )?;
    let apart = "issuer = \"https://other.example\"";
    let ground = ground.alter(apart, &format!("{apart}\ntoken_header = \"x-token\""))?;
    assert_good(&ground)?;
    // One that signs and is asked is two entries, and two that are asked are two issuers.
    let ground = ground.alter("https://idp.example", "https://issuer.example")?;
    assert_good(&ground)?;
    let ground = ground.alter("https://other.example", "https://issuer.example")?;
    let words = ["issuer[2].issuer", "another issuer has this already"];
    assert_told(&ground, &words)
}
