//! Routes where each token is good for one request: exactly one, whatever happens in between.

use std::{
    collections::BTreeMap,
    fs,
    process::Command,
    sync::{
        Mutex, PoisonError,
        atomic::{AtomicBool, Ordering},
    },
    thread,
    time::Duration,
};

use portcullis_tests::{
    front::Front,
    ground::{Ground, free_address},
    heirs::{replace, with_binary},
    pki::unix_now,
    run::{Rigged, eventually, output},
};
use serde_json::{Value, json};

/// `/orders` takes each token once, `/files` as often as it comes.
fn ground() -> Rigged<Ground> {
    Ground::set()?.add("scopes = [\"orders:read\"]", "single_use = true")
}

/// A token of this id, with these claims besides the usual ones and without those that are null.
fn token_with(ground: &Ground, id: &str, more: &Value) -> Rigged<String> {
    let mut claims = ground.issuer.claims("alice", "orders:read files");
    claims["jti"] = json!(id);
    claims["iat"] = json!(unix_now());
    for (name, value) in more.as_object().into_iter().flatten() {
        claims[name] = value.clone();
    }
    if let Some(claims) = claims.as_object_mut() {
        claims.retain(|_, value| !value.is_null());
    }
    ground.issuer.sign(&claims)
}

fn token(ground: &Ground, id: &str) -> Rigged<String> {
    token_with(ground, id, &json!({}))
}

fn assert_good(front: &Front, token: &str) -> Rigged<()> {
    let answer = front.get("/orders/1", token)?;
    assert_eq!(answer.status, 200, "{answer:?}");
    Ok(())
}

/// Elsewhere it is good as often as it comes.
fn assert_good_elsewhere(front: &Front, token: &str) -> Rigged<()> {
    let answer = front.get("/files/1", token)?;
    let record = front.record_of(answer.field("x-request-id"))?;
    assert_eq!(record["verdict"], "permit", "{record}");
    Ok(())
}

fn assert_refused(front: &Front, token: &str, status: u16, reason: &str) -> Rigged<()> {
    let answer = front.get("/orders/1", token)?;
    assert_eq!(answer.status, status, "{answer:?}");
    let challenge = answer.field("www-authenticate");
    assert_eq!(challenge.is_some(), status != 503, "{answer:?}");
    let record = front.record_of(answer.field("x-request-id"))?;
    assert_eq!(record["reason"], reason, "{record}");
    assert_eq!(record["verdict"], "deny", "{record}");
    Ok(())
}

#[test]
fn a_token_is_good_for_one_request_there_and_what_is_refused_does_not_use_it_up() -> Rigged<()> {
    let front = ground()?
        .add("name = \"orders\"", "max_body_bytes = 10")?
        .alter("methods = [\"GET\"]", "methods = [\"GET\", \"POST\"]")?
        .start()?;
    let one = token(&front.ground, "one")?;
    for _ in 0..2 {
        assert_good_elsewhere(&front, &one)?;
    }
    let bearer = format!("Authorization: Bearer {one}");
    for (path, args, status) in [
        ("/orders/%2e%2e/x", &[][..], 400),
        ("/orders/1", &["-d", "longer than ten"], 413),
        ("/orders/1", &["-X", "DELETE"], 405),
    ] {
        let answer = front.curl(path, &[&["-H", &bearer], args].concat())?;
        assert_eq!(answer.status, status, "{path}: {answer:?}");
    }
    let without = token_with(&front.ground, "one", &json!({"scope": "files"}))?;
    assert_refused(&front, &without, 403, "scope_missing")?;
    assert_good(&front, &one)?;
    for _ in 0..2 {
        assert_refused(&front, &one, 401, "token_used")?;
    }
    assert_good_elsewhere(&front, &one)?;
    // Another token of the same id is the same token.
    let later = token_with(&front.ground, "one", &json!({"exp": unix_now() + 9_999}))?;
    assert_refused(&front, &later, 401, "token_used")?;
    assert_good(&front, &token(&front.ground, "two")?)?;
    let heard = front.heard()?;
    let of_orders = heard.iter().filter(|line| line.contains("/orders/"));
    assert_eq!(of_orders.count(), 2, "{heard:?}");
    Ok(())
}

#[test]
fn a_token_that_can_not_be_told_from_others_is_not_good_there() -> Rigged<()> {
    let front = ground()?.start()?;
    let without_id = token_with(&front.ground, "", &json!({"jti": null}))?;
    assert_refused(&front, &without_id, 401, "token_id_missing")?;
    let undated = token_with(&front.ground, "undated", &json!({"iat": null}))?;
    assert_refused(&front, &undated, 401, "token_issue_time_missing")?;
    assert_good_elsewhere(&front, &without_id)?;
    Ok(())
}

/// How many of these requests at once were let in; each over a connection of its own.
fn let_in_at_once(front: &Front, token: &str, times: usize) -> Rigged<usize> {
    let mut curl = front.curl_command();
    curl.args([
        "--parallel",
        "--parallel-immediate",
        "--parallel-max",
        "50",
        "--http1.1",
    ])
    .args([
        "-w",
        "%{http_code}\n",
        "-H",
        &format!("Authorization: Bearer {token}"),
    ]);
    for _ in 0..times {
        curl.args(["-o", "/dev/null", &front.url("/orders/1")]);
    }
    let said = output(&mut curl)?;
    let said = String::from_utf8_lossy(&said.stdout).into_owned();
    let codes: Vec<&str> = said.lines().collect();
    assert_eq!(codes.len(), times, "{said}");
    assert!(codes.iter().all(|it| ["200", "401"].contains(it)), "{said}");
    Ok(codes.iter().filter(|it| **it == "200").count())
}

/// Case 56.
#[test]
fn of_many_at_once_on_all_workers_one_is_let_in() -> Rigged<()> {
    let front = ground()?.add("[admin]", "")?.start()?;
    for round in 0..10 {
        let token = token(&front.ground, &format!("round {round}"))?;
        assert_eq!(let_in_at_once(&front, &token, 40)?, 1, "round {round}");
    }
    Ok(())
}

/// Case 56.
#[test]
fn what_was_used_stays_so_through_reloads_and_restarts() -> Rigged<()> {
    let front = ground()?.start()?;
    let mut used = Vec::new();
    let mut use_another = |front: &Front| -> Rigged<()> {
        let next = token(&front.ground, &used.len().to_string())?;
        assert_good(front, &next)?;
        used.push(next);
        for token in &used {
            assert_refused(front, token, 401, "token_used")?;
        }
        Ok(())
    };
    use_another(&front)?;
    front.daemon.ask(&["reload"])?;
    use_another(&front)?;
    let text = front
        .ground
        .text
        .replace("[admin]", "[single_use]\nremembered = 500\n\n[admin]");
    front.ground.scratch.write("portcullis.toml", &text)?;
    front.daemon.ask(&["reload"])?;
    use_another(&front)?;
    let front = front.crash()?.start()?;
    use_another(&front)?;
    let (status, ground) = front.stop()?;
    assert!(status.success());
    let front = ground.start()?;
    use_another(&front)
}

#[test]
fn a_machine_that_went_down_may_have_lost_uses_and_says_so() -> Rigged<()> {
    let front = ground()?
        .add("algorithms = [\"ES256\"]", "leeway = \"5s\"")?
        .start()?;
    let (one, two) = (token(&front.ground, "one")?, token(&front.ground, "two")?);
    assert_good(&front, &one)?;
    let ground = front.crash()?;
    // As after another boot: the name of this one isn't in the file, and nobody had stopped in order.
    let file = ground.scratch.join("state/used-tokens");
    let mut bytes = fs::read(&file)?;
    bytes[8..24].fill(7);
    fs::write(&file, bytes)?;
    let front = ground.start()?;
    let printed = front.daemon.printed();
    assert!(
        printed.contains("went down without an orderly stop"),
        "{printed}"
    );
    for token in [&one, &two] {
        assert_refused(&front, token, 401, "token_use_unknown")?;
    }
    let ahead = |id: u64| {
        let issued = json!({"iat": unix_now() + 4});
        token_with(&front.ground, &format!("ahead {id}"), &issued)
    };
    // By a clock that may be ahead by the leeway.
    assert_refused(&front, &ahead(0)?, 401, "token_use_unknown")?;
    let mut id = 0;
    eventually(
        "tokens that are issued later are good",
        Duration::from_secs(20),
        || {
            id += 1;
            let answer = front.get("/orders/1", &ahead(id).ok()?).ok()?;
            (answer.status == 200).then_some(())
        },
    )?;
    for token in [&one, &two] {
        assert_refused(&front, token, 401, "token_use_unknown")?;
    }
    Ok(())
}

#[test]
fn when_no_more_can_be_remembered_or_written_nobody_is_let_in() -> Rigged<()> {
    let observe = free_address()?;
    let front = ground()?
        .alter(
            "[admin]",
            &format!(
                "[single_use]\nremembered = 100\n\n[observe]\naddress = \"{observe}\"\n\n[admin]"
            ),
        )?
        .start()?;
    let first = token(&front.ground, "first")?;
    assert_good(&front, &first)?;
    for id in 1..100 {
        assert_good(&front, &token(&front.ground, &id.to_string())?)?;
    }
    let more = token(&front.ground, "more")?;
    assert_refused(&front, &more, 503, "token_uses_full")?;
    assert_refused(&front, &first, 401, "token_used")?;
    let metrics = output(Command::new("curl").args(["-s", &format!("http://{observe}/metrics")]))?;
    let metrics = String::from_utf8_lossy(&metrics.stdout).into_owned();
    for line in [
        "portcullis_used_tokens 100",
        "portcullis_used_tokens_most 100",
        "portcullis_refusals_total{reason=\"token_uses_full\"} 1",
    ] {
        assert!(metrics.contains(line), "{line}: {metrics}");
    }
    let file = front.ground.scratch.join("state/used-tokens");
    fs::remove_file(&file)?;
    fs::create_dir(&file)?;
    for token in [&first, &more] {
        assert_refused(&front, token, 503, "token_uses_failing")?;
    }
    assert_good_elsewhere(&front, &more)?;
    fs::remove_dir(&file)?;
    assert_refused(&front, &first, 401, "token_used")
}

/// Two callers have each token at the same time, one process hands over to the next, and again.
#[test]
fn a_token_is_good_once_for_both_processes_of_an_upgrade() -> Rigged<()> {
    let (mut front, binary) = with_binary(ground()?.alter("drain = \"5s\"", "drain = \"60s\"")?)?;
    let tokens: Vec<String> = (0..2_000)
        .map(|id| token(&front.ground, &id.to_string()))
        .collect::<Rigged<_>>()?;
    let over = AtomicBool::new(false);
    let let_in: Mutex<BTreeMap<usize, Vec<u16>>> = Mutex::default();
    let callers = [front.curl_command(), front.curl_command()];
    let url = front.url("/orders/1");
    let upgrades = thread::scope(|scope| -> Rigged<u32> {
        for caller in callers {
            let (over, let_in, tokens, url) = (&over, &let_in, &tokens, &url);
            scope.spawn(move || {
                for (number, token) in tokens.iter().enumerate() {
                    if over.load(Ordering::SeqCst) {
                        break;
                    }
                    let mut curl = Command::new("curl");
                    curl.args(caller.get_args())
                        .args(["-o", "/dev/null", "-w", "%{http_code}"])
                        .args(["-H", &format!("Authorization: Bearer {token}"), url]);
                    let code = output(&mut curl).map_or(0, |said| {
                        let said = String::from_utf8_lossy(&said.stdout).into_owned();
                        said.parse().unwrap_or(0)
                    });
                    let mut all = let_in.lock().unwrap_or_else(PoisonError::into_inner);
                    all.entry(number).or_default().push(code);
                }
            });
        }
        let pairs = || {
            let all = let_in.lock().unwrap_or_else(PoisonError::into_inner);
            all.values().filter(|codes| codes.len() == 2).count()
        };
        let ten_more = || {
            let before = pairs();
            let done = || (pairs() >= before + 10).then_some(());
            eventually("ten more tokens are used", Duration::from_secs(60), done)
        };
        let upgraded = (0..2).try_fold(0, |count, _| -> Rigged<u32> {
            ten_more()?;
            replace(&binary, "")?;
            front.daemon.upgrade()?;
            Ok(count + 1)
        });
        let upgraded = ten_more().and(upgraded);
        over.store(true, Ordering::SeqCst);
        upgraded
    })?;
    assert_eq!(upgrades, 2);
    let all = let_in.into_inner().unwrap_or_else(PoisonError::into_inner);
    let both = all.values().filter(|codes| codes.len() == 2);
    for codes in both {
        let mut codes = codes.clone();
        codes.sort_unstable();
        assert_eq!(codes, [200, 401], "{all:?}");
    }
    for token in tokens.iter().take(all.len() - 1) {
        assert_refused(&front, token, 401, "token_used")?;
    }
    Ok(())
}
