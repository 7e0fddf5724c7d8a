//! Browsers log in at an issuer, and are known by a session after that.

use aws_lc_rs::digest::{SHA256, digest};
use base64::{
    Engine as _,
    engine::general_purpose::{STANDARD, URL_SAFE_NO_PAD},
};
use portcullis_tests::{
    login::{CALLBACK, Jar, LoginRig, set_cookies},
    run::{RigError, Rigged},
};
use serde_json::json;

#[test]
fn a_browser_logs_in_and_sees_the_page_that_it_asked_for() -> Rigged<()> {
    let rig = LoginRig::open("scopes = [\"openid\", \"orders\"]")?;
    let begun = rig.begin("/pages/1?x=1&y=%2F")?;
    assert_eq!(rig.reason(&begun.answer)?, "login_begun");
    assert_eq!(begun.answer.field("cache-control"), Some("no-store"));
    let location = begun.answer.field("location").unwrap_or_default();
    let place = format!("{}/auth?tenant=a&", rig.issuer());
    assert!(location.starts_with(&place), "{location}");
    let port = rig.front.address.port();
    let back = format!("https%3A%2F%2Fapi.example%3A{port}%2F.portcullis%2Fcallback");
    for (name, value) in [
        ("response_type", "code"),
        ("client_id", "portcullis+web"),
        ("redirect_uri", &back),
        ("scope", "openid+orders"),
        ("code_challenge_method", "S256"),
    ] {
        assert_eq!(begun.parameter(name), value, "{location}");
    }
    for secret in ["state", "nonce", "code_challenge"] {
        assert_eq!(begun.parameter(secret).len(), 43, "{location}");
    }
    let kept = set_cookies(&begun.answer);
    assert_eq!(kept.len(), 1, "{kept:?}");
    assert!(
        kept[0].starts_with("__Host-portcullis-login.web."),
        "{kept:?}"
    );
    let attributes = "; Max-Age=600; Path=/; Secure; HttpOnly; SameSite=Lax";
    assert!(kept[0].ends_with(attributes), "{kept:?}");

    rig.grant(&rig.claims(&begun), &json!({"scope": "openid orders more"}))?;
    let answer = rig.come_back(&rig.answer_to(&begun), &begun.jar)?;
    assert_eq!(answer.status, 303, "{answer:?}");
    let target = rig.front.url("/pages/1?x=1&y=%2F");
    assert_eq!(answer.field("location"), Some(target.as_str()));
    let record = rig.front.record_of(answer.field("x-request-id"))?;
    assert_eq!(record["reason"], "login_completed");
    assert_eq!(record["verdict"], "login");
    assert_eq!(record["principal"]["subject"], "alice");
    let session = record["principal"]["token_id"].clone();
    let mut jar = begun.jar.clone();
    jar.take(&answer);
    assert_eq!(
        jar.names(),
        ["__Host-portcullis.web"],
        "the attempt is over"
    );
    let given = set_cookies(&answer);
    let attributes = "; Max-Age=28800; Path=/; Secure; HttpOnly; SameSite=Lax";
    assert!(given.iter().any(|it| it.ends_with(attributes)), "{given:?}");

    let asked = rig.asked();
    assert_eq!(asked.len(), 1);
    let form = String::from_utf8_lossy(&asked[0].body).into_owned();
    let verifier = form
        .split('&')
        .find_map(|it| it.strip_prefix("code_verifier="));
    let challenge = digest(&SHA256, verifier.unwrap_or_default().as_bytes());
    assert_eq!(
        URL_SAFE_NO_PAD.encode(challenge),
        begun.parameter("code_challenge")
    );
    let redirect = format!("redirect_uri={back}");
    for part in ["grant_type=authorization_code", "code=c-1", &redirect] {
        assert!(form.split('&').any(|it| it == part), "{part}: {form}");
    }
    assert!(!form.contains("secret"), "{form}");
    let credentials = STANDARD.encode("portcullis+web:it%27s+a+secret%3A+1%2B1");
    let basic = format!("authorization: basic {credentials}").to_ascii_lowercase();
    let head: Vec<_> = asked[0]
        .head
        .iter()
        .map(|it| it.to_ascii_lowercase())
        .collect();
    assert!(head.contains(&basic), "{head:?}");

    let mut all = jar.clone();
    all.0.insert("theirs".to_owned(), "1".to_owned());
    let shown = rig.navigate("/pages/1", &all)?;
    assert_eq!(shown.status, 200, "{shown:?}");
    assert_eq!(shown.told("subject"), "alice");
    assert_eq!(shown.told("proven_by"), "session");
    assert_eq!(shown.told("scopes"), "more openid orders");
    assert_eq!(shown.told("cookie"), "theirs=1");
    assert_eq!(set_cookies(&shown), Vec::<&str>::new());
    let record = rig.front.record_of(shown.field("x-request-id"))?;
    assert_eq!(record["principal"]["proven_by"], "session");
    assert_eq!(record["principal"]["token_id"], session);
    Ok(())
}

#[test]
fn only_a_page_is_sent_to_a_login_and_only_where_its_route_has_one() -> Rigged<()> {
    let rig = LoginRig::open("")?;
    let none = Jar::default();
    for args in [
        &[][..],
        &["-H", "Accept: application/json"],
        &["-H", "Accept: text/html", "-H", "Sec-Fetch-Mode: cors"],
        &[
            "-H",
            "Accept: text/html",
            "-H",
            "Sec-Fetch-Mode: navigate",
            "-H",
            "Sec-Fetch-Dest: iframe",
        ],
        &["-H", "Accept: text/html", "-d", "x=1"],
    ] {
        let answer = rig.send("/pages/1", &none, args)?;
        assert_eq!(answer.status, 401, "{args:?}: {answer:?}");
        assert_eq!(rig.reason(&answer)?, "token_missing");
        let challenge = answer.field("www-authenticate");
        assert_eq!(challenge, Some("Bearer realm=\"api.example\""));
        assert!(set_cookies(&answer).is_empty());
    }
    let answer = rig.navigate("/orders/1", &none)?;
    assert_eq!(answer.status, 401, "{answer:?}");
    // Whoever sends a token means to be known by it.
    let html = [
        "-H",
        "Accept: text/html",
        "-H",
        "Authorization: Bearer a.b.c",
    ];
    let answer = rig.send("/pages/1", &none, &html)?;
    assert_eq!(
        (answer.status, rig.reason(&answer)?.as_str()),
        (401, "token_claims_malformed")
    );
    let jar = rig.enter(&json!({}))?;
    let answer = rig.navigate("/orders/1", &jar)?;
    assert_eq!(
        (answer.status, rig.reason(&answer)?.as_str()),
        (401, "token_missing")
    );
    let answer = rig.navigate("/public", &jar)?;
    assert_eq!((answer.status, answer.told("cookie")), (200, String::new()));
    Ok(())
}

#[test]
fn an_answer_that_is_not_to_the_attempt_of_this_browser_is_refused() -> Rigged<()> {
    let rig = LoginRig::open("")?;
    let (begun, other) = (rig.begin("/pages/1")?, rig.begin("/pages/2")?);
    rig.grant(&rig.claims(&begun), &json!({}))?;
    let good = rig.answer_to(&begun);
    let state = begun.parameter("state").to_owned();
    let changed = |jar: &Jar, change: &dyn Fn(&str) -> String| {
        let cookies = jar
            .0
            .iter()
            .map(|(name, value)| (name.clone(), change(value)));
        Jar(cookies.collect())
    };
    let under_state_of = |name: &Jar, value: &Jar| {
        let value = value.0.values().next().cloned().unwrap_or_default();
        changed(name, &|_| value.clone())
    };
    let tampered = changed(&begun.jar, &|value| {
        let last = if value.ends_with('A') { "B" } else { "A" };
        format!("{}{last}", &value[..value.len() - 1])
    });
    let twice = format!("{good}&state={state}");
    let (issuer, evil) = (rig.issuer_in_query(), "https%3A%2F%2Fevil.example");
    let no_code = format!("state={state}&iss={issuer}");
    let both = format!("{good}&error=access_denied");
    let nobody_said = format!("code=c-1&state={state}");
    let mixed_up = format!("code=c-1&state={state}&iss={evil}");
    for (query, jar, reason) in [
        // An attacker's link, with a code of his own.
        (good.as_str(), &Jar::default(), "login_attempt_missing"),
        (
            &good,
            &under_state_of(&begun.jar, &other.jar),
            "login_state_wrong",
        ),
        (&good, &tampered, "login_attempt_damaged"),
        (
            &good,
            &changed(&begun.jar, &|it| it[..40].to_owned()),
            "login_attempt_damaged",
        ),
        (
            &good,
            &changed(&begun.jar, &|_| String::new()),
            "login_attempt_damaged",
        ),
        (&twice, &begun.jar, "login_callback_malformed"),
        (&no_code, &begun.jar, "login_callback_malformed"),
        (&both, &begun.jar, "login_callback_malformed"),
        ("code=c-1", &begun.jar, "login_callback_malformed"),
        ("", &begun.jar, "login_callback_malformed"),
        (&nobody_said, &begun.jar, "login_issuer_missing"),
        (&mixed_up, &begun.jar, "login_issuer_wrong"),
    ] {
        let answer = rig.come_back(query, jar)?;
        assert_eq!(answer.status, 400, "{query}: {answer:?}");
        assert_eq!(rig.reason(&answer)?, reason, "{query}");
        let told = String::from_utf8_lossy(&answer.body).into_owned();
        assert!(!told.contains("login"), "{told}");
        assert!(set_cookies(&answer).is_empty(), "{answer:?}");
    }
    // The same cookie at another host of the same login.
    let elsewhere = format!(
        "https://localhost:{}{CALLBACK}?{good}",
        rig.front.address.port()
    );
    let answer = rig.front.curl_at(&elsewhere, &["-H", &begun.jar.field()])?;
    assert_eq!(rig.reason(&answer)?, "login_attempt_damaged");
    let answer = rig.send(&format!("{CALLBACK}?{good}"), &begun.jar, &["-d", "x=1"])?;
    assert_eq!(
        (answer.status, rig.reason(&answer)?.as_str()),
        (405, "method_not_routed")
    );
    assert!(rig.asked().is_empty(), "the issuer was asked");

    let answer = rig.come_back(&good, &begun.jar)?;
    assert_eq!(answer.status, 303, "{answer:?}");
    let again = rig.come_back(&good, &begun.jar)?;
    assert_eq!(
        (again.status, rig.reason(&again)?.as_str()),
        (400, "login_replayed")
    );
    assert_eq!(rig.asked().len(), 1);

    let declined = format!(
        "error=access_denied&state={}&iss={issuer}",
        other.parameter("state")
    );
    let answer = rig.come_back(&declined, &other.jar)?;
    assert_eq!(
        (answer.status, rig.reason(&answer)?.as_str()),
        (403, "login_refused_by_issuer")
    );
    assert_eq!(rig.asked().len(), 1);
    Ok(())
}

#[test]
fn an_attempt_that_took_too_long_is_over() -> Rigged<()> {
    let rig = LoginRig::open("attempt = \"1s\"")?;
    let begun = rig.begin("/pages/1")?;
    // The clock counts whole seconds.
    let over = portcullis_tests::run::eventually(
        "the attempt is over",
        std::time::Duration::from_secs(10),
        || {
            // Nobody's answer: it is refused before the attempt is used up.
            let query = format!("code=c&state={}", begun.parameter("state"));
            let answer = rig.come_back(&query, &begun.jar).ok()?;
            let reason = rig.reason(&answer).ok()?;
            (reason != "login_issuer_missing").then_some(reason)
        },
    )?;
    assert_eq!(over, "login_attempt_expired");
    assert!(rig.asked().is_empty());
    Ok(())
}

#[test]
fn a_login_comes_back_to_its_own_host_whatever_was_asked_for() -> Rigged<()> {
    let open = "[[route]]\nname = \"rest\"\nhost = \"api.example\"\npath = \"/\"\nmethods = [\"GET\"]\n\
                upstream = \"app\"\nissuers = [\"main\"]\nlogin = \"web\"\nallow_empty_segments = true\n\n[admin]";
    let rig = LoginRig::open_on("", |ground| ground.alter("[admin]", open))?;
    let long = format!("/pages/1?{}", "x".repeat(3_000));
    for (path, target) in [
        ("/x//evil.example/", "/x//evil.example/"),
        (
            "/pages/1?next=https://evil.example/",
            "/pages/1?next=https://evil.example/",
        ),
        (
            "/pages/1?%0d%0aSet-Cookie:x=1",
            "/pages/1?%0d%0aSet-Cookie:x=1",
        ),
        (&long, "/"),
    ] {
        let begun = rig
            .begin(path)
            .map_err(|error| RigError(format!("{path}: {error}")))?;
        rig.grant(&rig.claims(&begun), &json!({}))?;
        let answer = rig.come_back(&rig.answer_to(&begun), &begun.jar)?;
        let wanted = rig.front.url(target);
        assert_eq!(
            answer.field("location"),
            Some(wanted.as_str()),
            "{answer:?}"
        );
    }
    for path in [
        "//evil.example/x",
        "/\\evil.example",
        "/pages/..%2f..%2fevil",
    ] {
        let answer = rig.navigate(path, &Jar::default())?;
        assert_eq!(answer.status, 400, "{path}: {answer:?}");
    }
    Ok(())
}

#[test]
fn tabs_that_are_opened_together_all_come_back() -> Rigged<()> {
    let rig = LoginRig::open("")?;
    let mut jar = Jar::default();
    let mut begun = Vec::new();
    // One cookie for each attempt, until there are as many as a browser is to keep.
    while jar.0.len() < 4 && begun.len() < 100 {
        let known = jar.0.len();
        let next = rig.begin(&format!("/pages/{}", begun.len()))?;
        jar.take(&next.answer);
        if jar.0.len() > known {
            begun.push(next);
        } else {
            // It took the place of an earlier one, whose tab has to begin again.
            let slot = next.jar.names().concat();
            begun.retain(|earlier: &portcullis_tests::login::Begun| {
                !earlier.jar.names().contains(&slot.as_str())
            });
            begun.push(next);
        }
    }
    assert_eq!((jar.0.len(), begun.len()), (4, 4));
    for attempt in &begun {
        rig.grant(&rig.claims(attempt), &json!({}))?;
        let answer = rig.come_back(&rig.answer_to(attempt), &jar)?;
        assert_eq!(answer.status, 303, "{answer:?}");
        jar.take(&answer);
    }
    assert_eq!(jar.names(), ["__Host-portcullis.web"]);
    Ok(())
}
