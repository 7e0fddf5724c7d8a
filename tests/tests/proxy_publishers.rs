//! Lists that follow a server: one that knows what hasn't changed, and those that misbehave.

use portcullis_tests::{
    feeds::{await_entries, await_problem, hosts, of_url, shown, standing, with},
    ground::Ground,
    list_server::{Answer, ListServer},
    pki::Pki,
    run::Rigged,
};

#[test]
fn a_list_follows_a_server_that_knows_what_has_not_changed() -> Rigged<()> {
    let ground = Ground::set()?;
    let server = ListServer::start(&ground.pki)?;
    server.answer(
        "/v2/drop.txt",
        Answer::List(hosts(0, 5), "\"one\"".to_owned()),
    );
    let moved = format!("302 Found\r\nLocation: {}", server.url("/v2/drop.txt"));
    server.answer("/drop.txt", Answer::Head(moved));
    let lines = of_url(&ground, &server.url("/drop.txt"), "");
    let front = with(ground, &lines)?.start()?;
    await_entries(&front, 5)?;
    let refreshed = front.daemon.ask(&["feed", "refresh", "drop"])?;
    assert_eq!(refreshed["state"], "unchanged", "{refreshed}");
    let heads = server.heads();
    let last = heads.last().map(|head| head.to_ascii_lowercase());
    let last = last.unwrap_or_default();
    assert!(last.contains("if-none-match: \"one\""), "{last}");
    server.answer(
        "/v2/drop.txt",
        Answer::List(hosts(1, 5), "\"two\"".to_owned()),
    );
    let planned = front
        .daemon
        .ask(&["feed", "refresh", "drop", "--dry-run"])?;
    assert_eq!(
        (&planned["added"], &planned["removed"]),
        (&1.into(), &1.into()),
        "{planned}"
    );
    let refreshed = front.daemon.ask(&["feed", "refresh", "drop"])?;
    assert_eq!(refreshed["state"], "refreshed", "{refreshed}");
    assert_eq!(
        (&refreshed["added"], &refreshed["removed"]),
        (&1.into(), &1.into())
    );
    assert_eq!(standing(&front, "198.51.100.0")?, "unlisted");
    assert_eq!(standing(&front, "198.51.100.5")?, "blocked");
    Ok(())
}

#[test]
fn a_server_that_misbehaves_is_told_of_and_changes_nothing() -> Rigged<()> {
    let ground = Ground::set()?;
    let server = ListServer::start(&ground.pki)?;
    server.answer("/drop.txt", Answer::List(hosts(0, 5), "\"one\"".to_owned()));
    let bounds = "max_bytes = 100000\ndeadline = \"2s\"";
    let lines = of_url(&ground, &server.url("/drop.txt"), bounds);
    let front = with(ground, &lines)?.start()?;
    await_entries(&front, 5)?;
    let page = "<html><body>198.51.100.77</body></html>".to_owned();
    for (answer, told) in [
        (Answer::Slow, "no whole answer within 2 s"),
        (Answer::Endless, "larger than 100000 bytes or broken off"),
        (
            Answer::Truncated(hosts(0, 2)),
            "larger than 100000 bytes or broken off",
        ),
        (
            Answer::Page(page),
            "the server sent text/html; charset=utf-8, which is no list",
        ),
        (
            Answer::Head("302 Found\r\nLocation: https://198.51.100.200/drop.txt".to_owned()),
            "with a redirect to \\\"https://198.51.100.200/drop.txt\\\", which is not followed",
        ),
        (
            Answer::Head("301 Moved\r\nLocation: /drop.txt".to_owned()),
            "with a redirect to \\\"/drop.txt\\\", which is not followed",
        ),
        (
            Answer::Head("429 Too Many Requests\r\nRetry-After: 120".to_owned()),
            "the server answered 429 Too Many Requests and asks to wait 120 s",
        ),
        (
            Answer::Head("500 Internal Server Error".to_owned()),
            "the server answered 500 Internal Server Error",
        ),
        (
            Answer::List("nonsense\n".repeat(9), "\"x\"".to_owned()),
            "no known format",
        ),
        (
            Answer::List("\u{fffd}\0".to_owned(), "\"y\"".to_owned()),
            "no known format",
        ),
    ] {
        server.answer("/drop.txt", answer.clone());
        let refused = front.daemon.ask_refused(&["feed", "refresh", "drop"])?;
        assert!(refused.contains(told), "{answer:?}: {refused}");
        let feed = shown(&front)?;
        assert_eq!(
            (&feed["state"], &feed["entries"]),
            (&"failing".into(), &5.into())
        );
    }
    let failures = shown(&front)?["failures"].as_u64().unwrap_or_default();
    assert!(failures >= 10, "{failures}");
    server.answer("/drop.txt", Answer::List(hosts(0, 6), "\"two\"".to_owned()));
    front.daemon.ask(&["feed", "refresh", "drop"])?;
    let feed = shown(&front)?;
    assert_eq!(
        (&feed["state"], &feed["failures"]),
        (&"good".into(), &0.into()),
        "{feed}"
    );
    Ok(())
}

#[test]
fn a_server_whose_certificate_has_ended_is_not_believed() -> Rigged<()> {
    let ground = Ground::set()?;
    let files = ["old-ca.pem", "old.pem", "old.key"];
    let old = Pki::issue_ended(&ground.scratch, &["127.0.0.1"], files, 2020)?;
    let server = ListServer::start(&old)?;
    server.answer("/drop.txt", Answer::List(hosts(0, 5), "\"one\"".to_owned()));
    let lines = of_url(&ground, &server.url("/drop.txt"), "");
    let lines = lines.replace(
        &ground.pki.ca.display().to_string(),
        &old.ca.display().to_string(),
    );
    let front = with(ground, &lines)?.start()?;
    await_problem(&front, "certificate expired")?;
    assert_eq!(shown(&front)?["entries"], 0);
    assert!(server.heads().is_empty(), "nothing was asked");
    Ok(())
}

#[test]
fn a_publisher_is_left_alone_for_the_least_interval() -> Rigged<()> {
    let ground = Ground::set()?;
    let server = ListServer::start(&ground.pki)?;
    server.answer("/drop.txt", Answer::List(hosts(0, 5), "\"one\"".to_owned()));
    let lines = of_url(&ground, &server.url("/drop.txt"), "").replace("\"1ms\"", "\"1h\"");
    let front = with(ground, &lines)?.start()?;
    await_entries(&front, 5)?;
    let refused = front.daemon.ask_refused(&["feed", "refresh", "drop"])?;
    assert!(
        refused.contains("is left alone for 3600 s at least (min_interval)"),
        "{refused}"
    );
    assert_eq!(server.heads().len(), 1);
    Ok(())
}
