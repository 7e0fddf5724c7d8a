//! A real issuer, npm's `oidc-provider`, whose keys are found by its metadata: through rotation, outage and return.

use std::{
    sync::atomic::{AtomicBool, Ordering},
    thread,
    time::Duration,
};

use portcullis_tests::{
    front::Front,
    ground::Ground,
    holder_key::reason,
    key_server::KeyServer,
    pki::TokenIssuer,
    rotating_issuer::{Counter, RotatingIssuer},
    run::{RigError, Rigged, eventually},
};
use serde_json::Value;

const SOON: Duration = Duration::from_secs(20);

/// Clients that never pause: one keeps its token, the others get a new one for each request, for as long as there
/// are any to be had. What each was answered, once `act` is over.
fn beside_clients(
    front: &Front,
    counter: &Counter,
    act: impl FnOnce() -> Rigged<()>,
) -> Rigged<Vec<Vec<u16>>> {
    let over = AtomicBool::new(false);
    let asking = |keeps_its_token: bool| -> Rigged<Vec<u16>> {
        let mut token = counter.token()?;
        let mut statuses = Vec::new();
        while !over.load(Ordering::Relaxed) {
            statuses.push(front.get("/orders/1", &token)?.status);
            if !keeps_its_token {
                token = counter.token().unwrap_or(token);
            }
        }
        Ok(statuses)
    };
    thread::scope(|scope| {
        let clients = [true, false, false].map(|keeps| scope.spawn(move || asking(keeps)));
        let acted = act();
        over.store(true, Ordering::Relaxed);
        let answered = clients.map(|client| {
            let failed = |_| Err(RigError("a client ended early".to_owned()));
            client.join().unwrap_or_else(failed)
        });
        acted?;
        answered.into_iter().collect()
    })
}

fn steps(front: &Front, step: &str) -> usize {
    front.audit().iter().filter(|it| it["step"] == step).count()
}

fn served_by(key: &'static str) -> impl Fn(&Value) -> bool {
    move |line| line["principal"]["key_id"] == key && line["status"] == 200
}

#[test]
fn a_real_issuer_is_followed_through_rotation_outage_and_return() -> Rigged<()> {
    let ground = Ground::set()?;
    let mut issuer = RotatingIssuer::start(&ground, "one")?;
    let front = KeyServer::discovered_at(ground, issuer.url())?
        .add("name = \"main\"", "jwks_refresh = \"2s\"")?
        .start()?;
    let counter = issuer.counter();
    let first = counter.token()?;
    let answer = front.get("/orders/1", &first)?;
    assert_eq!(answer.status, 200, "{answer:?} {}", front.daemon.printed());
    assert_eq!(answer.told("subject"), "app");

    let answered = beside_clients(&front, &counter, || {
        front.audited("the first key", served_by("one"))?;
        // At once, as after a key was stolen: the next token is by a key that nobody has seen.
        issuer.publish(&["one", "two"], "two")?;
        front.audited("a token by the second key", served_by("two"))?;
        // In good order: published first, and used once all have it.
        let loaded = steps(&front, "keys_loaded");
        issuer.publish(&["one", "two", "three"], "two")?;
        eventually("the third key is there", SOON, || {
            (steps(&front, "keys_loaded") > loaded).then_some(())
        })?;
        issuer.publish(&["one", "two", "three"], "three")?;
        front.audited("a token by the third key", served_by("three"))?;
        issuer.go_away()?;
        front.audited("the outage", |line| line["step"] == "keys_failed")?;
        let served = || {
            let trail = front.audit();
            let after = trail.iter().skip_while(|it| it["step"] != "keys_failed");
            after.filter(|line| line["status"] == 200).count()
        };
        eventually("clients are served through it", SOON, || {
            (served() > 50).then_some(())
        })
    })?;
    for statuses in &answered {
        assert!(statuses.len() > 20, "{answered:?}");
        assert!(statuses.iter().all(|it| *it == 200), "{answered:?}");
    }

    let stranger = TokenIssuer::new(issuer.url(), "four")?;
    let unknown = stranger.token("app", "orders:read")?;
    let refused = front.get("/orders/1", &unknown)?;
    assert_eq!(refused.status, 401, "{refused:?}");
    assert_eq!(reason(&front, &refused)?, "token_key_unknown");

    issuer.publish(&["four"], "four")?;
    front.audited("the return", |line| line["step"] == "keys_recovered")?;
    assert_eq!(front.get("/orders/1", &counter.token()?)?.status, 200);
    let refused = front.get("/orders/1", &first)?;
    assert_eq!(refused.status, 401, "{refused:?}");
    assert_eq!(reason(&front, &refused)?, "token_key_unknown");
    let refused = front.get("/orders/1", &unknown)?;
    assert_eq!(refused.status, 401, "{refused:?}");
    assert_eq!(reason(&front, &refused)?, "token_signature_invalid");
    Ok(())
}
