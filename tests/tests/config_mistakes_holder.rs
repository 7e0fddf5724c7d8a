//! Mistakes about what tokens are held with and about certificates as principals, each told with its line and
//! how to mend it.

use portcullis_tests::{client_pki::ClientPki, ground::Ground, run::Rigged};

const ROUTE: &str = "issuers = [\"main\"]\nscopes = [\"orders:read\"]";

/// A ground with what is said of clients' certificates.
fn ground(lines: &str) -> Rigged<Ground> {
    let ground = Ground::set()?;
    if lines.is_empty() {
        return Ok(ground);
    }
    ClientPki::new(&ground.scratch, "clients")?;
    let at = ground.scratch.path().display().to_string();
    let rule = format!(
        "[[listener.client_certificates]]\nmode = \"optional\"\nca = \"{at}/clients.pem\"\n{lines}\n\n[[issuer]]"
    );
    ground.alter("[[issuer]]", &rule)
}

const MESH: &str = "issuer = \"mesh\"\nsubject = \"spiffe\"";

#[test]
fn each_is_told() -> Rigged<()> {
    for (clients, route, words) in [
        (
            "",
            "access = \"public\"\nsingle_use = true",
            &["route[0].single_use", "a public route asks nobody"][..],
        ),
        (
            MESH,
            "access = \"client_certificate\"\nissuers = [\"mesh\"]\nsingle_use = true",
            &["route[0].single_use", "the route takes none"],
        ),
        (
            "issuer = \"mesh\"",
            ROUTE,
            &["client_certificates[0].issuer", "not for whom"],
        ),
        (
            "subject = \"dns\"",
            ROUTE,
            &["client_certificates[0].subject", "not who vouches"],
        ),
        (
            "issuer = \"main\"\nsubject = \"dns\"",
            ROUTE,
            &["client_certificates[0].issuer", "of tokens has this name"],
        ),
        (
            "issuer = \"mesh\"\nsubject = \"cn\"",
            ROUTE,
            &["unknown variant `cn`"],
        ),
        (
            MESH,
            "access = [\"token\", \"client_certificate\"]\nissuers = [\"main\"]",
            &["route[0].issuers", "access takes client certificates"],
        ),
        (
            MESH,
            "access = [\"token\", \"client_certificate\"]\nissuers = [\"mesh\"]",
            &["route[0].issuers", "access takes tokens"],
        ),
        (
            MESH,
            "access = \"client_certificate\"\nissuers = [\"main\"]",
            &["route[0].issuers", "issues tokens, which access leaves out"],
        ),
        (
            MESH,
            "issuers = [\"main\", \"mesh\"]",
            &[
                "route[0].issuers",
                "client certificates, which access leaves out",
            ],
        ),
        (
            MESH,
            "access = \"client_certificate\"\nissuers = [\"mesh\"]\nscopes = [\"a\"]",
            &["route[0].scopes", "a certificate carries no scopes"],
        ),
        (
            MESH,
            "access = \"client_certificate\"\nissuers = [\"mesh\"]\nholder = \"any\"",
            &["route[0].holder", "is about tokens"],
        ),
        (
            "",
            "access = \"tokens\"",
            &["route[0].access", "use \"token\", \"client_certificate\""],
        ),
        (
            "",
            "access = []",
            &["route[0].access", "no way to prove who is calling"],
        ),
        (
            "",
            "access = [\"public\", \"token\"]",
            &["route[0].access", "no way to prove"],
        ),
        (
            "",
            "access = [\"token\", 7]",
            &["route[0].access", "no way to prove"],
        ),
        (
            "",
            "issuers = [\"main\"]\nholder = \"certificate\"",
            &["route[0].holder", "no listener asks for certificates"],
        ),
        (
            "",
            "issuers = [\"main\"]\nholder = \"both\"",
            &["unknown variant `both`"],
        ),
        (
            "",
            "access = \"public\"\nholder = \"dpop\"",
            &["route[0].holder", "a public route asks nobody for a token"],
        ),
    ] {
        let printed = ground(clients)?.alter(ROUTE, route)?.refused_start()?;
        for word in words {
            assert!(printed.contains(word), "{word}: {printed}");
        }
    }
    Ok(())
}

#[test]
fn certificates_of_one_name_are_of_the_same_authorities() -> Rigged<()> {
    let ground = ground(MESH)?;
    ClientPki::new(&ground.scratch, "others")?;
    let at = ground.scratch.path().display().to_string();
    let other = format!(
        "[[listener.client_certificates]]\nmode = \"required\"\nca = \"{at}/others.pem\"\n\
         hosts = [\"admin.example\"]\n{MESH}\n\n[[issuer]]"
    );
    let printed = ground.alter("[[issuer]]", &other)?.refused_start()?;
    let words = "others have this name, with another ca";
    assert!(printed.contains(words), "{printed}");
    assert!(
        printed.contains("listener[0].client_certificates[1].issuer"),
        "{printed}"
    );
    Ok(())
}

#[test]
fn the_rules_for_proofs_are_proven() -> Rigged<()> {
    for (line, words) in [
        ("window = \"6m\"", ["dpop.window", "is too wide"]),
        ("window = \"0s\"", ["dpop.window", "no duration above zero"]),
        ("leeway = \"1h\"", ["dpop.leeway", "is too wide"]),
        ("algorithms = []", ["dpop.algorithms", "names no algorithm"]),
        (
            "algorithms = [\"HS256\"]",
            ["dpop.algorithms", "HS256 is for secrets"],
        ),
        (
            "algorithms = [\"none\"]",
            ["dpop.algorithms", "is not accepted"],
        ),
        (
            "remembered = 10",
            ["dpop.remembered", "use 1000 to 10000000"],
        ),
        (
            "enforce = false",
            ["unknown key `enforce`", "expected one of"],
        ),
    ] {
        let table = format!("[dpop]\n{line}\n\n[admin]");
        let printed = Ground::set()?.alter("[admin]", &table)?.refused_start()?;
        for word in words {
            assert!(printed.contains(word), "{word}: {printed}");
        }
    }
    Ok(())
}
