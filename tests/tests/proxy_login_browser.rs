//! The whole way in a real browser, with a real issuer: Chromium and npm's `oidc-provider`.

use portcullis_tests::{
    browser::{RealIssuer, browse},
    ground::{Ground, free_address},
    login::{LOGOUT, with_login},
    run::{RigError, Rigged},
    scene::HOST,
};
use serde_json::{Value, json};

const COOKIE: &str = "__Host-portcullis.web";

fn says<'v>(shown: &'v Value, name: &str) -> &'v str {
    let text = shown["text"].as_str().unwrap_or_default();
    let begin = format!("{name}=");
    text.lines()
        .find_map(|line| line.strip_prefix(&begin))
        .unwrap_or("(not said)")
}

#[test]
fn a_user_logs_in_is_shown_the_page_is_renewed_and_logs_out() -> Rigged<()> {
    let at = free_address()?;
    let ground = Ground::set()?;
    let issuer = RealIssuer::start(&ground, at, "/public", 5)?;
    let lines = "scopes = [\"openid\", \"orders\"]\nafter_logout = \"/public\"";
    let front = with_login(ground, issuer.url(), lines)?
        .alter("127.0.0.1:0", &at.to_string())?
        .start()?;
    let page = front.url("/pages/1?x=1");
    let elsewhere = format!("{}/.well-known/openid-configuration", issuer.url());
    let posts = |path: &str| {
        format!(
            "(() => {{ const form = document.createElement('form'); form.method = 'post'; \
             form.action = '{path}'; document.body.append(form); form.submit() }})()"
        )
    };
    let asks_who = "document.querySelector('input[name=login]')";
    let consents = "document.querySelector('input[name=prompt][value=consent]')";
    let submits = "document.querySelector('button[type=submit]').click()";
    let is_at =
        |path: &str| format!("location.hostname === '{HOST}' && location.pathname === '{path}'");
    let at_page = is_at("/pages/1");
    let steps = [
        json!({"open": page, "await": asks_who}),
        json!({
            "run": format!("{asks_who}.value = 'alice'; document.querySelector('input[name=password]').value = 'x'; {submits}"),
            "await": consents,
        }),
        json!({"run": submits, "await": at_page}),
        json!({"renewed": COOKIE}),
        json!({"run": posts("/pages/1"), "await": format!("{at_page} && !location.search")}),
        json!({"open": elsewhere, "run": posts(&page), "await": at_page}),
        json!({"open": elsewhere, "run": format!("location.href = '{page}'"), "await": at_page}),
        json!({"open": elsewhere, "run": posts(&front.url(LOGOUT)), "await": is_at(LOGOUT)}),
        json!({
            "open": page, "run": posts(LOGOUT),
            "await": "location.hostname === 'localhost' && document.querySelector('button[name=logout]')",
        }),
        json!({"run": "document.querySelector('button[name=logout]').click()", "await": is_at("/public")}),
        json!({"open": page, "await": asks_who}),
    ];
    let shown = browse(&front.ground.scratch, &front.ground.pki, &steps).map_err(|error| {
        RigError(format!(
            "{error}\n{:?}\n{:#?}",
            issuer.printed(),
            front.audit()
        ))
    })?;
    let [
        _,
        _,
        entered,
        renewed,
        posted,
        forged,
        linked,
        kept,
        _,
        left,
        again,
    ] = shown.as_slice()
    else {
        return Err(RigError(format!("{shown:#?}")));
    };
    assert_eq!(entered["url"], page.as_str());
    assert_eq!(
        (says(entered, "subject"), says(entered, "uri")),
        ("alice", "/pages/1?x=1")
    );
    assert_eq!(
        (says(entered, "proven_by"), says(entered, "cookie")),
        ("session", "")
    );
    let cookie = &entered["cookies"][COOKIE];
    assert_eq!(
        (&cookie["secure"], &cookie["httpOnly"], &cookie["sameSite"]),
        (&json!(true), &json!(true), &json!("Lax"))
    );
    assert_eq!(
        entered["cookies"].as_object().map(|it| it.len()),
        Some(1),
        "{entered}"
    );
    assert_eq!(says(renewed, "subject"), "alice");
    assert_eq!(issuer.granted("authorization_code"), 1);
    assert!(
        issuer.granted("refresh_token") >= 1,
        "{:?}",
        issuer.printed()
    );
    assert_eq!(says(posted, "subject"), "alice", "a form of the site's own");
    let text = forged["text"].as_str().unwrap_or_default();
    assert!(text.starts_with("401 "), "a form of another site: {forged}");
    assert_eq!(says(linked, "subject"), "alice", "a link of another site");
    let text = kept["text"].as_str().unwrap_or_default();
    assert!(
        text.starts_with("403 "),
        "another site logs nobody out: {kept}"
    );
    assert!(left["cookies"].get(COOKIE).is_none(), "{left}");
    assert!(
        again["url"]
            .as_str()
            .is_some_and(|url| url.starts_with(issuer.url())),
        "{again}"
    );
    let refused: Vec<_> = issuer
        .printed()
        .into_iter()
        .filter(|it| it.get("refused").is_some())
        .collect();
    assert!(refused.is_empty(), "{refused:?}");
    Ok(())
}
