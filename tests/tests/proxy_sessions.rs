//! Sessions of browsers that have logged in: what they are good for, how they are renewed, and how they end.

use std::{io::Write as _, thread, time::Duration};

use portcullis_tests::{
    lasting::{Taker, service},
    login::{Jar, LOGOUT, LoginRig, set_cookies},
    run::{RigError, Rigged, eventually},
    scripted::Scripted,
};
use serde_json::{Value, json};

const PATIENCE: Duration = Duration::from_secs(10);

/// Asserts that this is refused with 401 to a program, and sent to the login in a browser, for this reason.
fn assert_over(rig: &LoginRig, jar: &Jar, reason: &str) -> Rigged<()> {
    let answer = rig.send("/pages/1", jar, &[])?;
    assert_eq!(answer.status, 401, "{answer:?}");
    assert_eq!(rig.reason(&answer)?, reason);
    let challenge = answer.field("www-authenticate");
    assert_eq!(challenge, Some("Bearer realm=\"api.example\""));
    let answer = rig.navigate("/pages/1", jar)?;
    assert_eq!(answer.status, 302, "{answer:?}");
    assert_eq!(rig.reason(&answer)?, reason);
    Ok(())
}

#[test]
fn a_session_is_good_whole_and_where_it_was_given() -> Rigged<()> {
    let rig = LoginRig::open("")?;
    let jar = rig.enter(&json!({}))?;
    let value = jar.0.values().next().cloned().unwrap_or_default();
    let with = |value: &str| Jar([("__Host-portcullis.web".to_owned(), value.to_owned())].into());
    assert_eq!(rig.navigate("/pages/1", &with(&value))?.status, 200);
    let middle = value.len() / 2;
    let other = if &value[middle..=middle] == "A" {
        "B"
    } else {
        "A"
    };
    let changed = format!("{}{other}{}", &value[..middle], &value[middle + 1..]);
    let padded = format!("{value}A");
    for damaged in [
        &changed,
        &value[..middle],
        &padded,
        "",
        "1",
        "x",
        "9",
        &value[1..],
    ] {
        assert_over(&rig, &with(damaged), "session_damaged")?;
    }
    // What is kept of an attempt is no session, whoever sealed it.
    let begun = rig.begin("/pages/1")?;
    let attempt = begun.jar.0.values().next().cloned().unwrap_or_default();
    assert_over(&rig, &with(&format!("1{attempt}")), "session_damaged")?;
    let twice = format!("Cookie: __Host-portcullis.web={value}; __Host-portcullis.web={value}");
    let answer = rig.front.curl("/pages/1", &["-H", &twice])?;
    assert_eq!(
        (answer.status, rig.reason(&answer)?.as_str()),
        (401, "session_damaged")
    );
    let elsewhere = format!("https://localhost:{}/pages/1", rig.front.address.port());
    let answer = rig.front.curl_at(&elsewhere, &["-H", &jar.field()])?;
    assert_eq!(
        (answer.status, rig.reason(&answer)?.as_str()),
        (401, "session_damaged")
    );
    Ok(())
}

#[test]
fn a_session_ends_by_itself() -> Rigged<()> {
    let rig = LoginRig::open("lifetime = \"3s\"\nidle = \"3s\"")?;
    let mut jar = rig.enter(&json!({}))?;
    let mut renewed = 0;
    let reason = eventually("the session is over", PATIENCE, || {
        let answer = rig.send("/pages/1", &jar, &[]).ok()?;
        renewed += set_cookies(&answer).len();
        jar.take(&answer);
        let reason = rig.reason(&answer).ok()?;
        // One that is under way when it ends is told so in the words for tokens.
        (answer.status != 200 && reason != "token_expired").then_some(reason)
    })?;
    assert_eq!(reason, "session_expired");
    assert!(renewed > 0, "its use is noted meanwhile");
    assert_over(&rig, &jar, "session_expired")
}

#[test]
fn a_session_that_is_not_used_ends_sooner() -> Rigged<()> {
    let rig = LoginRig::open("idle = \"1s\"")?;
    let jar = rig.enter(&json!({}))?;
    let reason = eventually("the session is over", PATIENCE, || {
        // A browser that keeps nothing of what it is given.
        let answer = rig.send("/pages/1", &jar, &[]).ok()?;
        (answer.status != 200).then(|| rig.reason(&answer).ok())?
    })?;
    assert_eq!(reason, "session_idle");
    assert_over(&rig, &jar, "session_idle")
}

#[test]
fn what_another_site_asks_for_is_refused() -> Rigged<()> {
    let rig = LoginRig::open("")?;
    let jar = rig.enter(&json!({}))?;
    let own = format!("Origin: https://api.example:{}", rig.front.address.port());
    let evil = "Origin: https://evil.example";
    for (fields, is_good) in [
        (&["Sec-Fetch-Site: same-origin"][..], true),
        (&["Sec-Fetch-Site: none"], true),
        (&[own.as_str()], true),
        (&["Sec-Fetch-Site: cross-site"], false),
        (&["Sec-Fetch-Site: same-site"], false),
        (&["Sec-Fetch-Site: cross-site", own.as_str()], false),
        (&[evil], false),
        (&["Origin: null"], false),
        (&[], false),
    ] {
        let mut args = vec!["-d", "x=1"];
        args.extend(fields.iter().flat_map(|field| ["-H", field]));
        let answer = rig.send("/pages/1", &jar, &args)?;
        if is_good {
            assert_eq!(answer.status, 200, "{fields:?}: {answer:?}");
        } else {
            assert_eq!(answer.status, 403, "{fields:?}: {answer:?}");
            assert_eq!(rig.reason(&answer)?, "session_cross_site");
        }
    }
    let websocket = [
        "-H",
        "Connection: Upgrade",
        "-H",
        "Upgrade: websocket",
        "-H",
        "Sec-WebSocket-Version: 13",
        "-H",
        "Sec-WebSocket-Key: AAAAAAAAAAAAAAAAAAAAAA==",
        "--http1.1",
        "-H",
    ];
    for (field, reason) in [
        (own.as_str(), "permitted"),
        (evil, "session_cross_site"),
        ("Sec-Fetch-Site: same-origin", "session_cross_site"),
    ] {
        let mut args = websocket.to_vec();
        args.push(field);
        let answer = rig.send("/pages/1", &jar, &args)?;
        assert_eq!(rig.reason(&answer)?, reason, "{field}: {answer:?}");
    }
    // A token isn't sent along by the browser: it needs none of that.
    let token = rig.sign(&json!({
        "iss": rig.issuer(), "aud": "api", "sub": "bob", "exp": portcullis_tests::pki::unix_now() + 60,
    }))?;
    let bearer = format!("Authorization: Bearer {token}");
    let answer = rig.send("/pages/1", &jar, &["-d", "x=1", "-H", &bearer, "-H", evil])?;
    assert_eq!(
        (answer.status, answer.told("subject").as_str()),
        (200, "bob")
    );
    Ok(())
}

#[test]
fn a_user_who_logs_out_is_nobody_and_so_is_a_copy_of_his_session() -> Rigged<()> {
    let rig = LoginRig::open("after_logout = \"/public\"")?;
    let mut jar = rig.enter(&json!({}))?;
    let held = "Sec-Fetch-Dest: image";
    let image = ["-H", "Sec-Fetch-Site: same-origin", "-H", held];
    let fetched = rig.send(LOGOUT, &jar, &image)?;
    assert_eq!(
        rig.reason(&fetched)?,
        "logout_cross_site",
        "an image of a page"
    );
    for fields in [&["-H", "Sec-Fetch-Site: cross-site"][..], &[]] {
        for method in ["GET", "POST"] {
            let mut args = vec!["-X", method];
            args.extend(fields);
            let answer = rig.send(LOGOUT, &jar, &args)?;
            assert_eq!(answer.status, 403, "{answer:?}");
            assert_eq!(rig.reason(&answer)?, "logout_cross_site");
            assert!(set_cookies(&answer).is_empty());
        }
    }
    assert_eq!(rig.navigate("/pages/1", &jar)?.status, 200);
    let copy = jar.clone();
    let here = ["-X", "POST", "-H", "Sec-Fetch-Site: same-origin"];
    let answer = rig.send(LOGOUT, &jar, &here)?;
    assert_eq!(answer.status, 303, "{answer:?}");
    let port = rig.front.address.port();
    let after = format!("https%3A%2F%2Fapi.example%3A{port}%2Fpublic");
    let wanted = format!(
        "{}/end?client_id=portcullis+web&post_logout_redirect_uri={after}",
        rig.issuer()
    );
    assert_eq!(answer.field("location"), Some(wanted.as_str()));
    let record = rig.front.record_of(answer.field("x-request-id"))?;
    assert_eq!(
        (&record["reason"], &record["verdict"]),
        (&json!("logged_out"), &json!("login"))
    );
    assert_eq!(record["principal"]["subject"], "alice");
    jar.take(&answer);
    assert!(jar.0.is_empty(), "{jar:?}");
    assert_over(&rig, &copy, "session_ended")?;
    // Whoever has no session is sent on all the same.
    let follows = [
        "-H",
        "Sec-Fetch-Site: same-origin",
        "-H",
        "Sec-Fetch-Mode: navigate",
        "-H",
        "Sec-Fetch-Dest: document",
    ];
    let answer = rig.send(LOGOUT, &jar, &follows)?;
    assert_eq!(answer.status, 303, "{answer:?}");
    Ok(())
}

#[test]
fn a_session_is_taken_back_with_all_that_it_let_in() -> Rigged<()> {
    let service = service()?;
    let rig = LoginRig::open_on("", |ground| ground.with_upstream(service.address()))?;
    let mine = rig.enter(&json!({}))?;
    let (_, bobs) = rig.enter_with(&json!({"sub": "bob"}), &json!({}))?;
    let begin = |jar: &Jar| Taker::begin_as(&rig.front, "/pages/silent", &jar.field(), &[]);
    let (mut taken, mut kept) = (begin(&mine)?, begin(&bobs)?);
    taken.has_begun()?;
    kept.has_begun()?;
    let said = rig
        .front
        .daemon
        .ask(&["token", "revoke", "--subject", "alice"])?;
    assert_over(&rig, &mine, "session_revoked")?;
    let (code, status) = taken.ended()?;
    assert_eq!(status, 200);
    assert_ne!(code, 0, "it looks whole");
    assert!(kept.goes_on()?, "another's has ended");
    kept.stop()?;
    assert_eq!(rig.navigate("/pages/1", &bobs)?.status, 200);
    // Nor does it help to log in again and again.
    let begun = rig.begin("/pages/1")?;
    rig.grant(&rig.claims(&begun), &json!({}))?;
    let answer = rig.come_back(&rig.answer_to(&begun), &begun.jar)?;
    assert_eq!(
        (answer.status, rig.reason(&answer)?.as_str()),
        (403, "login_revoked")
    );
    let number = said["revoked"][0]["id"].to_string();
    rig.front.daemon.ask(&["token", "unrevoke", &number])?;
    assert_eq!(rig.navigate("/pages/1", &mine)?.status, 200);
    Ok(())
}

#[test]
fn what_is_a_users_is_kept_from_caches_and_sessions_from_services() -> Rigged<()> {
    let service = Scripted::start(|seen, stream| {
        let cached = match seen.head[0].contains("/pages/cached") {
            true => "Cache-Control: public, max-age=60\r\n",
            false => "",
        };
        write!(
            stream,
            "HTTP/1.1 200 OK\r\nContent-Length: 2\r\nVary: Accept\r\nSet-Cookie: theirs=1\r\n\
             Set-Cookie: __Host-portcullis.web=1x; Path=/; Secure\r\n{cached}\r\nok"
        )?;
        Ok(true)
    })?;
    let rig = LoginRig::open_on("", |ground| ground.with_upstream(service.address()))?;
    let jar = rig.enter(&json!({}))?;
    for (path, says) in [
        ("/pages/1", "private"),
        ("/pages/cached", "public, max-age=60"),
    ] {
        let answer = rig.send(path, &jar, &[])?;
        assert_eq!(answer.status, 200, "{answer:?}");
        assert_eq!(answer.field("cache-control"), Some(says));
        let vary = |name: &str| answer.head.contains(&format!("vary: {name}\r\n"));
        assert!(vary("Accept") && vary("Cookie"), "{answer:?}");
        assert_eq!(set_cookies(&answer).len(), 1, "{answer:?}");
        assert!(
            answer.head.contains("set-cookie: theirs=1\r\n"),
            "{answer:?}"
        );
    }
    Ok(())
}

#[test]
fn what_a_session_let_in_ends_when_its_user_logs_out() -> Rigged<()> {
    let service = service()?;
    let rig = LoginRig::open_on("", |ground| ground.with_upstream(service.address()))?;
    let (mine, other) = (rig.enter(&json!({}))?, rig.enter(&json!({}))?);
    let begin = |jar: &Jar| Taker::begin_as(&rig.front, "/pages/silent", &jar.field(), &[]);
    let (mut ended, mut kept) = (begin(&mine)?, begin(&other)?);
    ended.has_begun()?;
    kept.has_begun()?;
    let here = ["-X", "POST", "-H", "Sec-Fetch-Site: same-origin"];
    assert_eq!(rig.send(LOGOUT, &mine, &here)?.status, 303);
    assert_ne!(ended.ended()?.0, 0, "it looks whole");
    assert!(kept.goes_on()?, "another session of the user's has ended");
    kept.stop()?;
    let of_it = |line: &Value| line["path"] == "/pages/silent" && line["reason"] == "session_ended";
    rig.front.audited("its record", of_it)?;
    Ok(())
}

#[test]
fn a_session_that_was_ended_stays_so_through_a_reload_and_others_go_on() -> Rigged<()> {
    let rig = LoginRig::open("")?;
    let (over, jar) = (rig.enter(&json!({}))?, rig.enter(&json!({}))?);
    let here = ["-X", "POST", "-H", "Sec-Fetch-Site: same-origin"];
    assert_eq!(rig.send(LOGOUT, &over, &here)?.status, 303);
    let config = rig.front.ground.scratch.join("portcullis.toml");
    let text = std::fs::read_to_string(&config)?;
    std::fs::write(
        &config,
        text.replace("name = \"web\"", "name = \"web\"\nidle = \"20m\""),
    )?;
    let told = rig.front.daemon.ask(&["reload"])?;
    assert!(told.to_string().contains("login web has changed"), "{told}");
    assert_over(&rig, &over, "session_ended")?;
    assert_eq!(rig.navigate("/pages/1", &jar)?.status, 200);
    rig.enter(&json!({}))?;
    Ok(())
}

/// The last two members of the issuer's answer that make a session fall due at once, and be good for so long.
fn due(token: &str, seconds: u64) -> Value {
    json!({"refresh_token": token, "expires_in": seconds})
}

#[test]
fn a_session_is_renewed_once_however_many_ask_for_it() -> Rigged<()> {
    let rig = LoginRig::open("")?;
    let fresh = rig.enter(&due("fresh", 3_600))?;
    assert_eq!(rig.navigate("/pages/1", &fresh)?.status, 200);
    assert_eq!(rig.asked().len(), 1, "it is not due");
    let (begun, jar) = rig.enter_with(&json!({}), &due("first", 1))?;
    let mut claims = rig.claims(&begun);
    if let Some(claims) = claims.as_object_mut() {
        claims.remove("nonce");
    }
    rig.grant(&claims, &due("second", 3_600))?;
    eventually("the session falls due", PATIENCE, || {
        let all: Rigged<Vec<_>> = thread::scope(|scope| {
            let ask = || rig.navigate("/pages/1", &jar);
            let asking: Vec<_> = (0..16).map(|_| scope.spawn(ask)).collect();
            asking
                .into_iter()
                .map(|it| it.join().map_err(|_| RigError("a panic".to_owned()))?)
                .collect()
        });
        let all = all.ok()?;
        assert!(all.iter().all(|it| it.status == 200), "{all:?}");
        (rig.asked().len() > 2).then_some(())
    })?;
    let mut renewed = jar.clone();
    // A request that comes late with the old cookie gets the new one all the same.
    renewed.take(&rig.navigate("/pages/1", &jar)?);
    assert_ne!(renewed.field(), jar.field());
    let given = rig.navigate("/pages/1", &jar)?;
    assert_eq!(given.field("cache-control"), Some("no-store"));
    let asked = rig.asked();
    assert_eq!(asked.len(), 3, "once at each login, once since");
    let form = String::from_utf8_lossy(&asked[2].body).into_owned();
    assert_eq!(form, "grant_type=refresh_token&refresh_token=first");
    let shown = rig.navigate("/pages/1", &renewed)?;
    assert_eq!((shown.status, set_cookies(&shown).len()), (200, 0));
    assert_eq!(rig.asked().len(), 3);
    Ok(())
}

/// A session that is good for so long and is due before that, at an issuer that answers this from now on.
fn falling_due(rig: &LoginRig, seconds: u64, head: &str, change: &Value) -> Rigged<Jar> {
    let (begun, jar) = rig.enter_with(&json!({}), &due("first", seconds))?;
    let mut claims = rig.claims(&begun);
    for (name, value) in change.as_object().into_iter().flatten() {
        claims[name] = value.clone();
    }
    rig.grant(&claims, &json!({}))?;
    if head != "200 OK" {
        rig.reply(head, &json!({"error": "invalid_grant"}));
    }
    Ok(jar)
}

#[test]
fn a_session_that_the_issuer_renews_no_more_is_over() -> Rigged<()> {
    let rig = LoginRig::open("")?;
    let refused = "session_refresh_refused";
    for (head, change, reason) in [
        ("400 Bad Request", json!({}), refused),
        ("200 OK", json!({"sub": "bob"}), refused),
        ("200 OK", json!({"nonce": "another"}), refused),
        ("200 OK", json!({"aud": "api"}), refused),
        ("200 OK", json!({}), "permitted"),
    ] {
        let jar = falling_due(&rig, 1, head, &change)?;
        let before = rig.asked().len();
        let told = eventually("the session falls due", PATIENCE, || {
            let answer = rig.send("/pages/1", &jar, &[]).ok()?;
            (rig.asked().len() > before).then(|| rig.reason(&answer).ok())?
        })?;
        assert_eq!(told, reason, "{head} {change}");
        if reason == refused {
            assert_over(&rig, &jar, refused)?;
        }
    }
    Ok(())
}

#[test]
fn an_outage_of_the_issuer_is_outlived_as_long_as_its_word_is_good() -> Rigged<()> {
    let rig = LoginRig::open("")?;
    let jar = falling_due(&rig, 5, "500 Internal Server Error", &json!({}))?;
    let before = rig.asked().len();
    let mut outlived = 0;
    let over = eventually("the session can't be renewed", PATIENCE, || {
        let answer = rig.send("/pages/1", &jar, &[]).ok()?;
        outlived += usize::from(answer.status == 200 && rig.asked().len() > before);
        (answer.status != 200).then(|| rig.reason(&answer).ok().map(|it| (answer.status, it)))?
    })?;
    assert_eq!(over, (503, "session_refresh_failed".to_owned()));
    assert!(outlived > 0, "it is good until the issuer's word is over");
    assert_eq!(
        rig.asked().len(),
        before + 1,
        "the issuer is asked again after a while only"
    );
    Ok(())
}

#[test]
fn a_session_outlives_the_daemon() -> Rigged<()> {
    let rig = LoginRig::open("")?;
    let jar = rig.enter(&json!({}))?;
    let state = rig.front.ground.scratch.join("state/login.key");
    let mode = std::os::unix::fs::PermissionsExt::mode(&std::fs::metadata(&state)?.permissions());
    assert_eq!(mode & 0o777, 0o600);
    let rig = rig.restarted()?;
    assert_eq!(rig.navigate("/pages/1", &jar)?.status, 200);
    std::fs::remove_file(&state)?;
    let rig = rig.restarted()?;
    assert_over(&rig, &jar, "session_damaged")
}

#[test]
fn a_session_takes_more_cookies_than_one_where_it_has_to() -> Rigged<()> {
    let map = "audiences = [\"api\"]\nclaims = { groups = \"groups\" }";
    let rig = LoginRig::open_on("", |ground| ground.alter("audiences = [\"api\"]", map))?;
    let groups =
        |count: usize| -> Vec<String> { (0..count).map(|it| format!("group-{it:04}")).collect() };
    let (_, jar) = rig.enter_with(&json!({"groups": groups(380)}), &json!({}))?;
    assert_eq!(
        jar.names(),
        ["__Host-portcullis.web", "__Host-portcullis.web.1"]
    );
    let shown = rig.navigate("/pages/1", &jar)?;
    assert_eq!((shown.status, shown.told("cookie").as_str()), (200, ""));
    let mut half = jar.clone();
    half.0.remove("__Host-portcullis.web.1");
    assert_over(&rig, &half, "session_damaged")?;
    let here = ["-X", "POST", "-H", "Sec-Fetch-Site: same-origin"];
    let answer = rig.send(LOGOUT, &jar, &here)?;
    assert_eq!(set_cookies(&answer).len(), 2, "{answer:?}");
    Ok(())
}
