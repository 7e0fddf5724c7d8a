//! Another configuration while requests go on: put in force whole or not at all, and nobody notices.

use std::{
    io::{Read as _, Write as _},
    net::TcpStream,
    process::{Child, Stdio},
    thread,
    time::Duration,
};

use portcullis_tests::{
    front::Front,
    ground::{Ground, free_address},
    run::{RigError, Rigged, eventually},
    scripted::Scripted,
};

const SOON: Duration = Duration::from_secs(10);

/// Writes the configuration anew with `to` in place of `from`.
fn rewrite(front: &mut Front, from: &str, to: &str) -> Rigged<()> {
    let text = &front.ground.text;
    if !text.contains(from) {
        return Err(RigError(format!("{from:?} is not in {text}")));
    }
    front.ground.text = text.replacen(from, to, 1);
    front
        .ground
        .scratch
        .write("portcullis.toml", &front.ground.text)?;
    Ok(())
}

/// Changes that a reload names.
fn reload(front: &Front) -> Rigged<Vec<String>> {
    let reply = front.daemon.ask(&["reload"])?;
    let changes = reply["changes"].as_array().cloned().unwrap_or_default();
    Ok(changes
        .iter()
        .filter_map(|change| change.as_str().map(str::to_owned))
        .collect())
}

/// A client that asks so often over one connection, and prints a status a line.
fn asking(front: &Front, times: usize, version: &str) -> Rigged<Child> {
    let mut curl = front.curl_command();
    // The time limit holds for all of them.
    curl.args(["--max-time", "60", version, "-w", "%{http_code}\n"]);
    for _ in 0..times {
        curl.args(["-o", "/dev/null"]).arg(front.url("/public"));
    }
    Ok(curl.stdout(Stdio::piped()).spawn()?)
}

fn assert_all_served(mut client: Child, times: usize) -> Rigged<()> {
    let mut said = String::new();
    if let Some(stdout) = &mut client.stdout {
        stdout.read_to_string(&mut said)?;
    }
    client.wait()?;
    let statuses: Vec<&str> = said.lines().collect();
    assert_eq!(statuses.len(), times);
    let lost = statuses.iter().filter(|status| **status != "200").count();
    assert_eq!(lost, 0, "{statuses:?}");
    Ok(())
}

#[test]
fn routes_are_those_of_the_file_as_it_is_now() -> Rigged<()> {
    let mut front = Front::open()?;
    assert_eq!(front.curl("/public", &[])?.status, 200);
    assert_eq!(front.curl("/open", &[])?.status, 404);
    rewrite(&mut front, "path = \"/public\"", "path = \"/open\"")?;
    assert_eq!(reload(&front)?, ["route public has changed"]);
    assert_eq!(front.curl("/public", &[])?.status, 404);
    assert_eq!(front.curl("/open", &[])?.status, 200);
    let told = front.audited("the reload", |line| line["step"] == "reload")?;
    let detail = told["detail"].as_str().unwrap_or_default();
    assert!(detail.starts_with("sha256:"), "{told}");
    assert!(detail.ends_with("route public has changed"), "{told}");
    assert_eq!(reload(&front)?, ["nothing has changed"]);
    Ok(())
}

#[test]
fn whatever_changes_is_named() -> Rigged<()> {
    let mut front = Front::open()?;
    for (from, to, told) in [
        (
            "[admin]",
            "[traces]\nsampled = true\n\n[admin]",
            "[traces] is new",
        ),
        ("sampled = true", "sampled = false", "[traces] has changed"),
        (
            "[admin]",
            "[acme]\ndirectory = \"https://127.0.0.1:1/directory\"\nagree_to_terms = true\n\n[admin]",
            "[acme] is new",
        ),
        (
            "agree_to_terms = true",
            "agree_to_terms = true\ncontacts = [\"mailto:a@example.org\"]",
            "[acme] has changed",
        ),
        ("[traces]\nsampled = false\n", "", "[traces] is gone"),
        (
            "address = \"127.0.0.1:0\"",
            "address = \"127.0.0.1:0\"\nmax_streams = 7",
            "listener 127.0.0.1:0 has changed",
        ),
        (
            "name = \"main\"",
            "name = \"main\"\njwks_refresh = \"7m\"",
            "issuer main has changed",
        ),
    ] {
        rewrite(&mut front, from, to)?;
        assert_eq!(reload(&front)?, [told]);
        assert_eq!(reload(&front)?, ["nothing has changed"], "{told}");
    }
    let redirect = free_address()?;
    let table = format!("[redirect]\naddress = \"{redirect}\"\n\n[admin]");
    rewrite(&mut front, "[admin]", &table)?;
    rewrite(&mut front, "max_streams = 7", "max_streams = 8")?;
    let told = ["[redirect] is new", "listener 127.0.0.1:0 has changed"];
    assert_eq!(reload(&front)?, told);
    Ok(())
}

#[test]
fn a_signal_has_the_same_effect() -> Rigged<()> {
    let mut front = Front::open()?;
    rewrite(&mut front, "path = \"/public\"", "path = \"/open\"")?;
    front.daemon.signal("HUP")?;
    eventually("the new route serves", SOON, || {
        let answer = front.curl("/open", &[]).ok()?;
        (answer.status == 200).then_some(())
    })
}

/// Case 76 of the attacks, and the other half of it: good ones lose no request either.
#[test]
fn no_request_is_lost_to_reloads_good_or_bad() -> Rigged<()> {
    const TIMES: usize = 3000;
    let mut front = Front::open()?;
    let clients = [
        asking(&front, TIMES, "--http1.1")?,
        asking(&front, TIMES, "--http2")?,
    ];
    let mut refused = 0;
    for round in 0..30 {
        let (from, to) = match round % 3 {
            0 => ("path = \"/orders\"", "path = \"orders\""),
            1 => ("path = \"orders\"", "path = \"/orders\""),
            _ => ("name = \"app\"", "name = \"app\" "),
        };
        rewrite(&mut front, from, to)?;
        refused += usize::from(front.daemon.ask(&["reload"]).is_err());
        thread::sleep(Duration::from_millis(50));
    }
    assert_eq!(refused, 10);
    for client in clients {
        assert_all_served(client, TIMES)?;
    }
    Ok(())
}

#[test]
fn a_configuration_with_a_mistake_is_refused_and_the_one_before_serves() -> Rigged<()> {
    let mut front = Front::open()?;
    rewrite(&mut front, "upstream = \"app\"", "upstream = \"ap\"")?;
    let why = front.daemon.ask_refused(&["reload"])?;
    assert!(why.contains("no upstream has that name"), "{why}");
    assert!(why.contains("portcullis.toml:"), "{why}");
    assert_eq!(front.curl("/public", &[])?.status, 200);
    let told = front.audited("the refusal", |line| line["step"] == "reload_refused")?;
    let detail = told["detail"].as_str().unwrap_or_default();
    assert!(detail.contains("no upstream has that name"), "{told}");
    Ok(())
}

#[test]
fn what_is_read_at_the_start_only_is_named() -> Rigged<()> {
    let mut front = Front::open()?;
    rewrite(&mut front, "drain = \"5s\"", "drain = \"6s\"")?;
    rewrite(&mut front, "path = \"/public\"", "path = \"/open\"")?;
    let why = front.daemon.ask_refused(&["reload"])?;
    assert!(
        why.contains("[shutdown] is read at the start only"),
        "{why}"
    );
    assert_eq!(front.curl("/public", &[])?.status, 200);
    Ok(())
}

#[test]
fn listeners_come_and_go_and_what_is_open_stays() -> Rigged<()> {
    let mut front = Front::open()?;
    let more = free_address()?;
    let at = front.ground.scratch.path().display().to_string();
    let listener = format!(
        "[[listener]]\naddress = \"{more}\"\ncertificate = \"{at}/server.pem\"\nkey = \"{at}/server.key\"\n\n"
    );
    rewrite(&mut front, "[[issuer]]", &format!("{listener}[[issuer]]"))?;
    assert_eq!(reload(&front)?, [format!("listener {more} is new")]);
    let named = [
        "--resolve",
        &format!("api.example:{}:127.0.0.1", more.port()),
    ];
    let url = format!("https://api.example:{}/public", more.port());
    assert_eq!(front.curl_at(&url, &named)?.status, 200);

    rewrite(&mut front, &listener, "")?;
    assert_eq!(reload(&front)?, [format!("listener {more} is gone")]);
    eventually("nobody listens there", SOON, || {
        TcpStream::connect(more).is_err().then_some(())
    })?;
    assert_eq!(front.curl("/public", &[])?.status, 200);

    // A port that somebody else has: nothing of the file is put in force.
    let taken = std::net::TcpListener::bind(("127.0.0.1", 0))?;
    let other = listener.replace(&more.to_string(), &taken.local_addr()?.to_string());
    rewrite(&mut front, "[[issuer]]", &format!("{other}[[issuer]]"))?;
    rewrite(&mut front, "path = \"/public\"", "path = \"/open\"")?;
    let why = front.daemon.ask_refused(&["reload"])?;
    assert!(why.contains("the port is in use"), "{why}");
    assert_eq!(front.curl("/public", &[])?.status, 200);
    Ok(())
}

#[test]
fn an_answer_that_has_begun_goes_on_although_its_route_is_gone() -> Rigged<()> {
    let upstream = Scripted::start(|_, stream| {
        stream.write_all(b"HTTP/1.1 200 OK\r\nContent-Length: 20\r\n\r\n")?;
        for _ in 0..20 {
            thread::sleep(Duration::from_millis(100));
            stream.write_all(b".")?;
        }
        Ok(true)
    })?;
    let mut front = Ground::set()?.with_upstream(upstream.address())?.start()?;
    let client = asking(&front, 1, "--http2")?;
    eventually("the answer has begun", SOON, || {
        (!upstream.seen().is_empty()).then_some(())
    })?;
    rewrite(&mut front, "path = \"/public\"", "path = \"/open\"")?;
    reload(&front)?;
    assert_eq!(front.curl("/public", &[])?.status, 404);
    assert_all_served(client, 1)
}

#[test]
fn an_upstream_that_is_as_it_was_keeps_its_connections() -> Rigged<()> {
    let ground = Ground::set()?.alter("[admin]", "[runtime]\nworkers = 1\n\n[admin]")?;
    let mut front = ground.start()?;
    let before = front.curl("/public", &[])?;
    rewrite(&mut front, "path = \"/orders\"", "path = \"/other\"")?;
    reload(&front)?;
    let after = front.curl("/public", &[])?;
    assert_eq!(after.told("connection"), before.told("connection"));

    rewrite(&mut front, "name = \"app\"", "name = \"app\"\nretries = 1")?;
    assert_eq!(reload(&front)?, ["upstream app has changed"]);
    let after = front.curl("/public", &[])?;
    assert_ne!(after.told("connection"), before.told("connection"));
    Ok(())
}

#[test]
fn keys_that_are_elsewhere_have_to_be_there() -> Rigged<()> {
    let mut front = Front::open()?;
    let token = front.token("orders:read")?;
    assert_eq!(front.get("/orders/1", &token)?.status, 200);
    let before = front.ground.keys_line();
    let missing = before.replace("jwks.json", "missing.json");
    rewrite(&mut front, &before, &missing)?;
    let why = front.daemon.ask_refused(&["reload"])?;
    assert!(why.contains("missing.json"), "{why}");
    assert_eq!(front.get("/orders/1", &token)?.status, 200);

    // Another issuer's keys: what was proven by the ones before no longer is.
    let other = portcullis_tests::pki::TokenIssuer::new("https://issuer.example", "key-1")?;
    front.ground.scratch.write("missing.json", other.jwks())?;
    assert_eq!(reload(&front)?, ["issuer main has changed"]);
    assert_eq!(front.get("/orders/1", &token)?.status, 401);
    let token = other.token("alice", "orders:read")?;
    assert_eq!(front.get("/orders/1", &token)?.status, 200);
    Ok(())
}
