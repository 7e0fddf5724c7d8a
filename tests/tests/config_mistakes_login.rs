//! Mistakes in `[[login]]` and in `login` of a route, each told with its key and how to mend it.

use std::{fs, os::unix::fs::PermissionsExt as _, path::Path};

use portcullis_tests::{ground::Ground, login::with_login, run::Rigged};

const URL: &str = "https://idp.example";

fn ground(lines: &str) -> Rigged<Ground> {
    with_login(Ground::set()?, URL, lines)
}

/// Asserts that a configuration is refused with all of these words.
fn assert_refused(ground: &Ground, words: &[&str]) -> Rigged<()> {
    let printed = ground.refused_start()?;
    for word in words {
        assert!(printed.contains(word), "{word}: {printed}");
    }
    Ok(())
}

#[test]
fn what_a_login_says_of_itself_is_proven() -> Rigged<()> {
    for (lines, words) in [
        (
            "scopes = [\"orders\"]",
            &["login[0].scopes", "without openid", "add \"openid\""][..],
        ),
        (
            "scopes = [\"openid\", \"a b\"]",
            &["login[0].scopes", "\"a b\" is no scope"],
        ),
        (
            "redirect_path = \"back\"",
            &["login[0].redirect_path", "path_not_absolute"],
        ),
        (
            "redirect_path = \"/a/../b\"",
            &["login[0].redirect_path", "path_dot_segment"],
        ),
        (
            "after_logout = \"https://evil.example\"",
            &["login[0].after_logout", "path_not_absolute"],
        ),
        (
            "after_logout = \"/.portcullis/logout\"",
            &["login[0].after_logout", "where users log in or out"],
        ),
        (
            "redirect_path = \"/in\"\nlogout_path = \"/in\"",
            &["login[0].logout_path", "redirect_path is the same"],
        ),
        (
            "attempt = \"2h\"",
            &["login[0].attempt", "is too long", "use at most \"1h\""],
        ),
        (
            "lifetime = \"31d\"",
            &["login[0].lifetime", "use at most \"30days\""],
        ),
        (
            "lifetime = \"1h\"\nidle = \"2h\"",
            &["login[0].idle", "use at most \"1h\""],
        ),
        (
            "idle = \"0s\"",
            &["login[0].idle", "is no duration above zero"],
        ),
        (
            "key_file = \"/none\"",
            &["login[0].key_file", "No such file", "openssl rand"],
        ),
        ("secret = \"x\"", &["unknown key `secret`"]),
    ] {
        assert_refused(&ground(lines)?, words)?;
    }
    let name = ground("")?.alter("name = \"web\"", "name = \"Web.1\"")?;
    assert_refused(
        &name,
        &["login[0].name", "can't stand in the name of a cookie"],
    )
}

#[test]
fn secrets_are_files_that_nobody_else_reads() -> Rigged<()> {
    let expose = |path: &Path| fs::set_permissions(path, fs::Permissions::from_mode(0o644));
    let ground = ground("")?;
    let secret = ground.scratch.join("client.secret");
    expose(&secret)?;
    assert_refused(
        &ground,
        &["login[0].client_secret_file", "its mode 0644", "chmod 600"],
    )?;
    fs::set_permissions(&secret, fs::Permissions::from_mode(0o600))?;
    fs::write(&secret, "\n")?;
    assert_refused(&ground, &["login[0].client_secret_file", "holds no secret"])?;
    fs::write(&secret, "x")?;
    let key = ground.scratch.write("session.key", "A".repeat(43))?;
    let given = format!("name = \"web\"\nkey_file = \"{}\"", key.display());
    let ground = ground.alter("name = \"web\"", &given)?;
    expose(&key)?;
    assert_refused(&ground, &["login[0].key_file", "its mode 0644"])?;
    fs::set_permissions(&key, fs::Permissions::from_mode(0o600))?;
    fs::write(&key, "too short")?;
    assert_refused(
        &ground,
        &[
            "login[0].key_file",
            "holds no key",
            "openssl rand -base64 32",
        ],
    )
}

#[test]
fn a_login_has_an_issuer_that_says_where_it_is() -> Rigged<()> {
    let other = ground("")?.alter("issuer = \"main\"\nclient", "issuer = \"other\"\nclient")?;
    assert_refused(&other, &["login[0].issuer", "no issuer has that name"])?;
    let ground = Ground::set()?;
    let keys = ground.keys_line();
    let ground = with_login(ground, URL, "")?.alter("discovery = true", &keys)?;
    assert_refused(
        &ground,
        &["login[0].issuer", "metadata", "discovery = true"],
    )
}

#[test]
fn a_route_has_a_login_that_can_let_somebody_in() -> Rigged<()> {
    let route = "login = \"web\"\nwebsocket = true";
    for (to, words) in [
        (
            "login = \"none\"",
            &[
                "route[3].login",
                "no login has that name",
                "use one of: web",
            ][..],
        ),
        (
            "login = \"web\"\nholder = \"dpop\"",
            &["route[3].login", "bound to nothing"],
        ),
        (
            "login = \"web\"\nsingle_use = true",
            &["route[3].login", "used again and again"],
        ),
    ] {
        assert_refused(&ground("")?.alter(route, to)?, words)?;
    }
    let public = "issuers = [\"main\"]\nlogin = \"web\"";
    let public = ground("")?.alter(public, "access = \"public\"\nlogin = \"web\"")?;
    assert_refused(&public, &["route[3].login", "a public route asks nobody"])?;
    let any = ground("")?.alter("host = \"localhost\"", "host = \"*\"")?;
    assert_refused(&any, &["route[4].login", "needs a host"])?;
    let issuer = format!(
        "[[issuer]]\nname = \"other\"\nissuer = \"{URL}/b\"\naudiences = [\"api\"]\n\
         algorithms = [\"ES256\"]\ndiscovery = true\n\n[[login]]"
    );
    let issuers = "issuers = [\"main\"]\nlogin = \"web\"";
    let other = ground("")?
        .alter("[[login]]", &issuer)?
        .alter(issuers, "issuers = [\"other\"]\nlogin = \"web\"")?;
    assert_refused(&other, &["route[3].login", "add \"main\" to issuers"])
}

#[test]
fn two_logins_on_one_host_have_paths_of_their_own() -> Rigged<()> {
    let second = "[[login]]\nname = \"second\"\nissuer = \"main\"\nclient_id = \"x\"\n\n[admin]";
    let route = "[[route]]\nname = \"second\"\nhost = \"localhost\"\npath = \"/second\"\n\
                 methods = [\"GET\"]\nupstream = \"app\"\nissuers = [\"main\"]\nlogin = \"second\"\n\n[[login]]";
    let both = ground("")?
        .alter("[admin]", second)?
        .alter("[[login]]", route)?;
    let words = [
        "login[1].name",
        "login \"web\" has the same redirect_path or logout_path",
    ];
    assert_refused(&both, &words)?;
    let twice = second.replace("second", "web");
    let twice = ground("")?.alter("[admin]", &twice)?;
    assert_refused(&twice, &["another login has this already"])
}
