//! Mistakes in `[[issuer]]`, each told with its line and how to mend it.

use portcullis_tests::{ground::Ground, run::Rigged};

/// What is printed for a configuration with `from` written as `to`, and where `to` stands.
fn printed(from: &str, to: &str) -> Rigged<(String, usize)> {
    let ground = Ground::set()?.alter(from, to)?;
    let printed = ground.refused_start()?;
    let at = ground.text.find(to).unwrap_or_default();
    Ok((printed, ground.text[..at].matches('\n').count() + 1))
}

/// Asserts that writing `to` for `from` is refused at `to`'s line with all of `words`.
fn assert_told(from: &str, to: &str, words: &[&str]) -> Rigged<()> {
    let (printed, line) = printed(from, to)?;
    let place = format!("refused.toml:{line}: ");
    assert!(printed.contains(&place), "{place}: {printed}");
    for word in words {
        assert!(printed.contains(word), "{word}: {printed}");
    }
    Ok(())
}

#[test]
fn an_unreadable_jwks_is_told() -> Rigged<()> {
    assert_told(
        "/jwks.json\"",
        "/none.json\"",
        &["issuer[0].jwks_file", "can't be read: No such file"],
    )?;
    assert_told(
        "/jwks.json\"",
        "/ca.pem\"",
        &["issuer[0].jwks_file", "not a JSON Web Key Set", "{\"keys\""],
    )
}

#[test]
fn a_jwks_without_a_fitting_key_is_told_with_why() -> Rigged<()> {
    let ground = Ground::set()?.alter("[\"ES256\"]", "[\"RS256\"]")?;
    let printed = ground.refused_start()?;
    let words = "no usable key in it: key key-1: its algorithm ES256 isn't one of the configured";
    assert!(printed.contains(words), "{printed}");
    Ok(())
}

#[test]
fn an_algorithm_that_is_not_known_is_refused() -> Rigged<()> {
    for name in ["HS512", "none", "es256", "ES512", ""] {
        let written = format!("[\"{name}\"]");
        let told = format!("issuer[0].algorithms = {written}");
        assert_told("[\"ES256\"]", &written, &[&told, "use some of RS256"])?;
    }
    Ok(())
}

#[test]
fn what_tokens_are_read_for_is_proven() -> Rigged<()> {
    for (lines, told) in [
        (
            "claims = { subject = \"a..b\" }",
            ["issuer[0].claims.subject = \"a..b\"", "names no claim"],
        ),
        (
            "claims = { groups = \"\" }",
            ["issuer[0].claims.groups", "names no claim"],
        ),
        (
            "required_claims = 7",
            [
                "issuer[0].required_claims = 7",
                "neither a list nor a table",
            ],
        ),
        (
            "required_claims = [7]",
            ["issuer[0].required_claims", "a name is no string"],
        ),
        (
            "required_claims = [\"\"]",
            ["issuer[0].required_claims", "names no claim"],
        ),
        (
            "required_claims = { a = -1 }",
            ["issuer[0].required_claims", "has a value that no claim"],
        ),
        (
            "required_claims = { a = 1.5 }",
            ["issuer[0].required_claims", "has a value that no claim"],
        ),
        (
            "token_cookie = \"a b\"",
            ["issuer[0].token_cookie = \"a b\"", "is no name of a cookie"],
        ),
        (
            "token_header = \"cookie\"",
            [
                "issuer[0].token_header",
                "is no field that can carry a token",
            ],
        ),
        (
            "token_header = \"x_token\"",
            ["issuer[0].token_header", "with - in place of _"],
        ),
        (
            "token_header = \"x-t\"\ntoken_cookie = \"a\"",
            ["issuer[0].token_header", "remove one of the two"],
        ),
        (
            "jwks_url = \"https://a.example/\"",
            ["issuer[0].name", "give one of jwks_file, jwks_url"],
        ),
        (
            "discovery = true",
            ["issuer[0].name", "give one of jwks_file, jwks_url"],
        ),
        (
            "keys_outlive = \"soon\"",
            ["issuer[0].keys_outlive", "is no duration"],
        ),
    ] {
        // What is wrong with the place of the keys is told at the name, which stands first there.
        let at_name = told[0] == "issuer[0].name";
        let with = if at_name {
            format!("name = \"main\"\n{lines}")
        } else {
            format!("{lines}\nname = \"main\"")
        };
        assert_told("name = \"main\"", &with, &told)?;
    }
    Ok(())
}
