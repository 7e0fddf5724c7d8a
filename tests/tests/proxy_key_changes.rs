//! How an issuer's keys change: they are found where its metadata says, exchanged under load, and outlive an
//! outage for a stated time.

use std::{
    thread,
    time::{Duration, Instant},
};

use portcullis_tests::{
    front::{Answer, Front},
    ground::Ground,
    key_server::KeyServer,
    pki::TokenIssuer,
    run::{Rigged, eventually},
};
use serde_json::json;

fn assert_refused(front: &Front, answer: &Answer, reason: &str) -> Rigged<()> {
    assert_eq!(answer.status, 401, "{reason}: {answer:?}");
    let record = front.record_of(answer.field("x-request-id"))?;
    assert_eq!(record["reason"], reason, "{record}");
    Ok(())
}

/// A ground whose issuer is discovered at `keys`; `metadata` is made of the server's URL.
fn discovered(metadata: impl Fn(&str) -> String) -> Rigged<(Front, KeyServer)> {
    let mut ground = Ground::set()?;
    let keys = KeyServer::start(&ground)?;
    let url = keys.url("127.0.0.1", "");
    ground.issuer = TokenIssuer::new(&url, "key-1")?;
    ground.scratch.write("jwks.json", ground.issuer.jwks())?;
    let front = keys.discovered(ground, &metadata(&url))?.start()?;
    Ok((front, keys))
}

#[test]
fn keys_are_where_the_metadata_of_the_issuer_says() -> Rigged<()> {
    let says = |url: &str| json!({"issuer": url, "jwks_uri": format!("{url}/jwks.json")});
    let (front, keys) = discovered(|url| says(url).to_string())?;
    let answer = front.get("/orders/1", &front.token("orders:read")?)?;
    assert_eq!(answer.status, 200, "{answer:?} {}", front.daemon.printed());
    let asked = keys.asked(&front.ground)?;
    assert_eq!(asked, ["/.well-known/openid-configuration", "/jwks.json"]);
    Ok(())
}

/// Case 50.
#[test]
fn metadata_of_another_issuer_or_that_leads_elsewhere_gives_no_keys() -> Rigged<()> {
    type Metadata = fn(&str) -> String;
    let cases: [(Metadata, &str); 11] = [
        (
            |url| {
                json!({"issuer": format!("{url}/"), "jwks_uri": format!("{url}/jwks.json")})
                    .to_string()
            },
            "is of issuer",
        ),
        (
            |url| {
                json!({"issuer": "https://issuer.example", "jwks_uri": format!("{url}/jwks.json")})
                    .to_string()
            },
            "is of issuer \\\"https://issuer.example\\\"",
        ),
        (
            |url| json!({"jwks_uri": format!("{url}/jwks.json")}).to_string(),
            "names no issuer",
        ),
        (
            |url| json!({"issuer": url}).to_string(),
            "names no jwks_uri",
        ),
        (
            |url| {
                format!(r#"{{"issuer":"https://x","issuer":"{url}","jwks_uri":"{url}/jwks.json"}}"#)
            },
            "stands twice",
        ),
        (
            |url| json!({"issuer": url, "jwks_uri": "https://169.254.169.254/keys"}).to_string(),
            "169.254.169.254 is not a public address",
        ),
        (
            |url| json!({"issuer": url, "jwks_uri": "https://127.0.0.2/keys"}).to_string(),
            "127.0.0.2 is not a public address",
        ),
        (
            |url| {
                json!({"issuer": url, "jwks_uri": format!("http{}/jwks.json", url.trim_start_matches("https"))}).to_string()
            },
            "is no https:// URL",
        ),
        (
            |url| json!({"issuer": url, "jwks_uri": "file:///etc/passwd"}).to_string(),
            "is no https:// URL",
        ),
        (
            |url| json!({"issuer": url, "jwks_uri": format!("{url}/moved")}).to_string(),
            "the server answered 302",
        ),
        (
            |url| json!({"issuer": url, "jwks_uri": format!("{url}/large")}).to_string(),
            "larger than 262144 bytes",
        ),
    ];
    for (metadata, why) in cases {
        let (front, _keys) = discovered(metadata)?;
        let plain = why.replace('\\', "");
        eventually(why, Duration::from_secs(10), || {
            let printed = front.daemon.printed();
            let told = printed.contains(why) || printed.contains(&plain);
            (told && printed.contains("NO KEYS")).then_some(())
        })?;
        let answer = front.get("/orders/1", &front.token("orders:read")?)?;
        assert_refused(&front, &answer, "token_key_unknown")?;
        assert_eq!(front.heard()?, [""; 0]);
    }
    Ok(())
}

#[test]
fn keys_that_are_exchanged_under_load_lose_no_request() -> Rigged<()> {
    let ground = Ground::set()?;
    let keys = KeyServer::start(&ground)?;
    let url = keys.url("127.0.0.1", "/jwks.json");
    let front = KeyServer::keys_at(ground, &url, "\"127.0.0.1/32\"")?.start()?;
    let next = TokenIssuer::new("https://issuer.example", "key-2")?;
    let both: Vec<serde_json::Value> = [front.ground.issuer.public_key(), next.public_key()]
        .iter()
        .filter_map(|key| serde_json::from_str(key).ok())
        .collect();
    let (old, new) = (
        front.token("orders:read")?,
        next.token("alice", "orders:read")?,
    );
    let end = Instant::now() + Duration::from_secs(4);
    let statuses = |token: &str| -> Rigged<Vec<u16>> {
        let mut statuses = Vec::new();
        while Instant::now() < end {
            statuses.push(front.get("/orders/1", token)?.status);
        }
        Ok(statuses)
    };
    let (old, new) = thread::scope(|scope| -> Rigged<(Vec<u16>, Vec<u16>)> {
        let with_old = scope.spawn(|| statuses(&old));
        let with_new: Vec<_> = (0..3)
            .map(|_| {
                scope.spawn(|| {
                    thread::sleep(Duration::from_secs(1));
                    statuses(&new)
                })
            })
            .collect();
        thread::sleep(Duration::from_millis(500));
        let jwks = json!({ "keys": both }).to_string();
        let written = front.ground.scratch.write("jwks.json", jwks);
        let old = with_old.join().unwrap_or_else(|_| Ok(vec![0]));
        let new = with_new
            .into_iter()
            .map(|it| it.join().unwrap_or_else(|_| Ok(vec![0])));
        let new: Rigged<Vec<Vec<u16>>> = new.collect();
        written?;
        Ok((old?, new?.concat()))
    })?;
    assert!(
        old.len() > 20 && new.len() > 20,
        "{} and {}",
        old.len(),
        new.len()
    );
    assert!(
        old.iter().chain(&new).all(|status| *status == 200),
        "{old:?} {new:?}"
    );
    assert_eq!(
        keys.asked(&front.ground)?.len(),
        2,
        "at the start, and once more"
    );
    Ok(())
}

/// Case 49.
#[test]
fn unknown_keys_have_the_keys_fetched_once_an_interval() -> Rigged<()> {
    let ground = Ground::set()?;
    let keys = KeyServer::start(&ground)?;
    let url = keys.url("127.0.0.1", "/jwks.json");
    let front = KeyServer::keys_at(ground, &url, "\"127.0.0.1/32\"")?.start()?;
    let payload = front
        .ground
        .issuer
        .claims("alice", "orders:read")
        .to_string();
    for kid in 0..60 {
        let header = json!({"alg": "ES256", "kid": format!("k{kid}")}).to_string();
        let token = front.ground.issuer.sign_text(&header, &payload)?;
        let answer = front.get("/orders/1", &token)?;
        assert_refused(&front, &answer, "token_key_unknown")?;
    }
    let good = front.get("/orders/1", &front.token("orders:read")?)?;
    assert_eq!(good.status, 200);
    assert_eq!(
        keys.asked(&front.ground)?.len(),
        2,
        "at the start, and once for all"
    );
    Ok(())
}

#[test]
fn what_the_server_says_of_its_keys_has_them_fetched_again() -> Rigged<()> {
    let ground = Ground::set()?;
    let keys = KeyServer::start(&ground)?;
    let url = keys.url("127.0.0.1", "/fresh");
    let front = KeyServer::keys_at(ground, &url, "\"127.0.0.1/32\"")?
        .add("name = \"main\"", "jwks_refetch = \"1s\"")?
        .start()?;
    let again = || {
        let asked = keys.asked(&front.ground).ok()?;
        (asked.len() >= 3).then_some(())
    };
    eventually(
        "they are fetched twice more, not in 5 minutes",
        Duration::from_secs(10),
        again,
    )
}

#[test]
fn the_last_good_keys_outlive_an_outage_for_so_long_and_come_back() -> Rigged<()> {
    let ground = Ground::set()?;
    let keys = KeyServer::start(&ground)?;
    let url = keys.url("127.0.0.1", "/jwks.json");
    let observe = portcullis_tests::ground::free_address()?;
    let front = KeyServer::keys_at(ground, &url, "\"127.0.0.1/32\"")?
        .add(
            "name = \"main\"",
            "jwks_refresh = \"300ms\"\nkeys_outlive = \"4s\"",
        )?
        .add(
            "drain = \"5s\"",
            &format!("[observe]\naddress = \"{observe}\""),
        )?
        .start()?;
    let token = front.token("orders:read")?;
    let metric = |name: &str| -> Rigged<String> {
        let url = format!("http://{observe}/metrics");
        let text = front.curl_at(&url, &[])?.body;
        let text = String::from_utf8_lossy(&text).into_owned();
        let begin = format!("portcullis_{name}{{issuer=\"main\"}} ");
        let value = text.lines().find_map(|line| line.strip_prefix(&begin));
        Ok(value.unwrap_or("(none)").to_owned())
    };
    let address = keys.address();
    let step = |step: &'static str| front.audited(step, |line| line["step"] == step);
    drop(keys);
    step("keys_failed")?;
    assert_eq!(
        front.get("/orders/1", &token)?.status,
        200,
        "the last good ones stay"
    );
    assert_eq!(metric("issuer_keys_outlived")?, "0");
    step("keys_outlived")?;
    assert_refused(
        &front,
        &front.get("/orders/1", &token)?,
        "token_keys_outlived",
    )?;
    assert_eq!(metric("issuer_keys_outlived")?, "1");
    assert_eq!(metric("issuer_keys")?, "0");
    let _keys = KeyServer::start_at(&front.ground, address)?;
    step("keys_recovered")?;
    assert_eq!(front.get("/orders/1", &token)?.status, 200);
    assert_eq!(metric("issuer_keys_outlived")?, "0");
    let failures = front.audit();
    let failures = failures.iter().filter(|line| line["step"] == "keys_failed");
    assert_eq!(failures.count(), 1, "told once, not at every try");
    Ok(())
}
