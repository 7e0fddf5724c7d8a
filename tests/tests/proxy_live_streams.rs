//! What a token let in goes on for as long as that token is good, and not taken back.

use std::time::{Duration, Instant};

use portcullis_tests::{
    front::Front,
    ground::Ground,
    heirs::{replace, with_binary},
    lasting::{Taker, service},
    pki::unix_now,
    run::Rigged,
    scripted::Scripted,
    websocket::{EchoServer, Stay},
};
use serde_json::json;

/// Within this, whatever is taken back has ended.
const WITHIN: Duration = Duration::from_secs(1);
/// What the tests themselves may add: processes that start and end on a busy machine.
const SLACK: Duration = Duration::from_secs(2);

fn ground(service: &Scripted) -> Rigged<Ground> {
    Ground::set()?
        .with_upstream(service.address())?
        .alter("[\"GET\", \"PUT\"]", "[\"GET\", \"PUT\", \"POST\"]")?
        .add("algorithms = [\"ES256\"]", "leeway = \"1s\"")
}

/// A token of this id, good for so many seconds.
fn token(front: &Front, id: &str, seconds: u64) -> Rigged<String> {
    let mut claims = front.ground.issuer.claims("alice", "orders:read files");
    claims["jti"] = json!(id);
    claims["exp"] = json!(unix_now() + seconds);
    front.ground.issuer.sign(&claims)
}

fn revoke(front: &Front, id: &str) -> Rigged<Instant> {
    front.daemon.ask(&["token", "revoke", "--jti", id])?;
    Ok(Instant::now())
}

/// The record of the request for this path that ended with this reason.
fn assert_recorded(front: &Front, path: &str, reason: &str, status: u16) -> Rigged<()> {
    let what = format!("a record of {path}: {status}, {reason}");
    let fits = |line: &serde_json::Value| {
        line["path"] == path && line["reason"] == reason && line["status"] == status
    };
    let record = front.audited(&what, fits)?;
    assert_eq!(record["complete"], status == 401, "{record}");
    assert_eq!(record["principal"]["subject"], "alice", "{record}");
    Ok(())
}

/// Case 60.
#[test]
fn answers_end_when_their_token_is_revoked_and_others_go_on() -> Rigged<()> {
    let service = service()?;
    let front = ground(&service)?.start()?;
    let (mine, others) = (token(&front, "mine", 600)?, token(&front, "other", 600)?);
    let mut takers = Vec::new();
    for version in ["--http1.1", "--http2"] {
        for path in ["/orders/silent", "/orders/busy"] {
            let begin = |token| Taker::begin(&front, path, token, &[version]);
            takers.push((path, begin(&mine)?, begin(&others)?));
        }
    }
    for (_, mine, others) in &mut takers {
        mine.has_begun()?;
        others.has_begun()?;
    }
    // Long enough for the silent ones to listen.
    std::thread::sleep(WITHIN);
    let revoked = revoke(&front, "mine")?;
    for (path, mine, mut others) in takers {
        let (code, status) = mine.ended()?;
        let took = revoked.elapsed();
        assert!(took < WITHIN + SLACK, "{path}: {took:?}");
        assert_ne!(code, 0, "{path} looks whole");
        assert_eq!(status, 200);
        assert!(others.goes_on()?, "{path} of another token ended");
        assert_recorded(&front, path, "token_revoked", 200)?;
        others.stop()?;
    }
    Ok(())
}

#[test]
fn an_answer_that_has_just_begun_ends_as_well() -> Rigged<()> {
    let service = service()?;
    let front = ground(&service)?.start()?;
    let mine = token(&front, "mine", 600)?;
    let mut taker = Taker::begin(&front, "/orders/silent", &mine, &[])?;
    taker.has_begun()?;
    let revoked = revoke(&front, "mine")?;
    assert_ne!(taker.ended()?.0, 0);
    let took = revoked.elapsed();
    assert!(took < WITHIN + SLACK, "{took:?}");
    assert_recorded(&front, "/orders/silent", "token_revoked", 200)
}

/// Case 60.
#[test]
fn answers_end_with_their_token() -> Rigged<()> {
    let service = service()?;
    let front = ground(&service)?.start()?;
    for path in ["/orders/silent", "/orders/busy"] {
        let began = Instant::now();
        // And a second of leeway.
        let mine = token(&front, path, 2)?;
        let mut taker = Taker::begin(&front, path, &mine, &[])?;
        taker.has_begun()?;
        assert_ne!(taker.ended()?.0, 0, "{path} looks whole");
        let took = began.elapsed();
        assert!(took > Duration::from_millis(1_900), "{path}: {took:?}");
        assert!(
            took < Duration::from_secs(3) + WITHIN + SLACK,
            "{path}: {took:?}"
        );
        assert_recorded(&front, path, "token_expired", 200)?;
    }
    Ok(())
}

#[test]
fn a_request_that_waits_for_its_answer_is_refused_when_its_token_ends() -> Rigged<()> {
    let service = service()?;
    let front = ground(&service)?.start()?;
    let mine = token(&front, "mine", 600)?;
    for (path, args) in [
        ("/orders/late", &[][..]),
        ("/files/late", &["-X", "POST", "-d", "x"]),
    ] {
        let mut taker = Taker::begin(&front, path, &mine, args)?;
        std::thread::sleep(WITHIN);
        assert!(taker.goes_on()?, "{path}");
        let revoked = revoke(&front, "mine")?;
        assert_eq!(taker.ended()?, (0, 401), "{path}");
        let took = revoked.elapsed();
        assert!(took < WITHIN + SLACK, "{path}: {took:?}");
        assert_recorded(&front, path, "token_revoked", 401)?;
        let listed = front.daemon.ask(&["token", "list"])?;
        let id = listed["revocations"][0]["id"].to_string();
        front.daemon.ask(&["token", "unrevoke", &id])?;
    }
    let brief = token(&front, "brief", 1)?;
    let taker = Taker::begin(&front, "/orders/late", &brief, &[])?;
    assert_eq!(taker.ended()?, (0, 401));
    assert_recorded(&front, "/orders/late", "token_expired", 401)
}

/// Case 60.
#[test]
fn websockets_end_when_their_token_is_revoked_or_over() -> Rigged<()> {
    let server = EchoServer::start()?;
    let front = Ground::set()?
        .with_upstream(server.address())?
        .add("name = \"orders\"", "websocket = true")?
        .add("algorithms = [\"ES256\"]", "leeway = \"1s\"")?
        .start()?;
    let (mine, others) = (token(&front, "mine", 600)?, token(&front, "other", 600)?);
    let brief = token(&front, "brief", 4)?;
    for http2 in [false, true] {
        let mut other = Stay::open(&front, "/orders/other", &others, http2)?;
        let stay = Stay::open(&front, "/orders/mine", &mine, http2)?;
        let revoked = revoke(&front, "mine")?;
        stay.ended()?;
        let took = revoked.elapsed();
        assert!(took < WITHIN + SLACK, "{took:?}");
        assert!(other.goes_on()?, "the other one");
        front.daemon.ask(&["token", "revoke", "--jti", "other"])?;
        other.ended()?;
        for id in front.daemon.ask(&["token", "list"])?["revocations"]
            .as_array()
            .into_iter()
            .flatten()
        {
            let id = id["id"].to_string();
            front.daemon.ask(&["token", "unrevoke", &id])?;
        }
        let opened = if http2 { 200 } else { 101 };
        assert_recorded(&front, "/orders/mine", "token_revoked", opened)?;
    }
    Stay::open(&front, "/orders/brief", &brief, false)?.ended()?;
    assert_recorded(&front, "/orders/brief", "token_expired", 101)
}

#[test]
fn what_a_process_that_handed_over_still_serves_ends_as_well() -> Rigged<()> {
    let service = service()?;
    let ground = ground(&service)?.alter("drain = \"5s\"", "drain = \"60s\"")?;
    let (mut front, binary) = with_binary(ground)?;
    let (mine, others) = (token(&front, "mine", 600)?, token(&front, "other", 600)?);
    front.daemon.ask(&["token", "revoke", "--jti", "before"])?;
    let mut taker = Taker::begin(&front, "/orders/silent", &mine, &[])?;
    let mut other = Taker::begin(&front, "/orders/silent", &others, &[])?;
    taker.has_begun()?;
    other.has_begun()?;
    replace(&binary, "")?;
    front.daemon.upgrade()?;
    assert!(taker.goes_on()?);
    let before = token(&front, "before", 600)?;
    assert_eq!(front.get("/orders/1", &before)?.status, 401);
    let revoked = revoke(&front, "mine")?;
    assert_ne!(taker.ended()?.0, 0);
    let took = revoked.elapsed();
    assert!(took < WITHIN + SLACK, "{took:?}");
    assert!(other.goes_on()?, "the other one");
    other.stop()?;
    assert_recorded(&front, "/orders/silent", "token_revoked", 200)
}
