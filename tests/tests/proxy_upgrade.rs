//! One process hands over to the next, and nobody who asks notices.

use std::{
    collections::{BTreeMap, BTreeSet},
    fs,
    net::{SocketAddr, TcpStream},
    process::Command,
    thread,
    time::Duration,
};

use portcullis_tests::{
    daemon::portcullis,
    front::Front,
    ground::{Ground, free_address},
    heirs::{assert_serves, replace, rewrite, steps, with_binary},
    run::{Rigged, eventually, output},
    throng::{Places, Throng},
    websocket::EchoServer,
};
use serde_json::Value;

const SOON: Duration = Duration::from_secs(15);
/// The throng is at work for so long before and after each upgrade.
const WHILE: Duration = Duration::from_millis(1_500);
/// Bytes of the download, and of each second of it: it begins under one process and outlasts the others.
const SIZE: u64 = 9 << 20;
const RATE: u64 = 1 << 20;

#[test]
fn nobody_notices_upgrades_one_after_the_other() -> Rigged<()> {
    const UPGRADES: usize = 3;
    let echo = EchoServer::start()?;
    let (plain, observe) = (free_address()?, free_address()?);
    let ground = Ground::set()?
        .alter("drain = \"5s\"", "drain = \"60s\"")?
        .alter(
            "[admin]",
            &format!(
                "[[upstream]]\nname = \"echo\"\nurl = \"http://{}\"\n\n\
                 [[route]]\nname = \"talk\"\nhost = \"api.example\"\npath = \"/talk\"\nmethods = [\"GET\"]\n\
                 upstream = \"echo\"\naccess = \"public\"\nwebsocket = true\n\n\
                 [[route]]\nname = \"big\"\nhost = \"api.example\"\npath = \"/big\"\nmethods = [\"GET\"]\n\
                 upstream = \"big\"\naccess = \"public\"\n\n\
                 [[upstream]]\nname = \"big\"\nurl = \"http://BIG\"\n\n\
                 [redirect]\naddress = \"{plain}\"\n\n[observe]\naddress = \"{observe}\"\n\n[admin]",
                echo.address()
            ),
        )?;
    let big = free_address()?;
    fs::create_dir_all(ground.scratch.join("big"))?;
    fs::write(ground.scratch.join("big/big"), vec![b'x'; SIZE as usize])?;
    let server = format!(
        "listen {big}; location / {{ root {}/big; }}",
        ground.scratch.path().display()
    );
    let probe = format!("http://{big}/big");
    let _nginx =
        portcullis_tests::nginx::Nginx::serve(&ground.scratch, "bigs", &server, &[&probe])?;
    let (mut front, binary) = with_binary(ground.alter("http://BIG", &format!("http://{big}"))?)?;
    let places = Places {
        plain: Some(plain),
        observe: Some(observe),
        size: SIZE,
        rate: RATE,
    };
    front
        .daemon
        .ask(&["block", "add", "198.51.100.1", "--ttl", "1h"])?;
    let throng = Throng::begin(&front, places)?;
    thread::sleep(WHILE);
    let mut pids = vec![front.daemon.pid()];
    for upgrade in 0..UPGRADES {
        replace(&binary, "")?;
        let before = front.daemon.pid();
        if upgrade % 2 == 0 {
            front.daemon.upgrade()?;
        } else {
            front.daemon.signal("USR2")?;
            front.daemon.await_heir(before)?;
        }
        let pid = front.daemon.pid();
        assert!(!pids.contains(&pid), "{pid} of {pids:?}");
        pids.push(pid);
        let tested = front.daemon.ask(&["block", "test", "198.51.100.1"])?;
        assert_eq!(tested["standing"], "banned", "{tested}");
        thread::sleep(WHILE);
    }
    // The WebSocket and the download began under the first.
    assert!(front.daemon.processes().contains(&pids[0]));
    thread::sleep(Duration::from_secs(SIZE / RATE).saturating_sub(WHILE * 4));
    let told = throng.end()?;
    for pid in &pids[..UPGRADES] {
        front.daemon.await_end(*pid)?;
    }
    assert_eq!(told["lost"], serde_json::json!([]), "{told}");
    for kind in ["fresh", "kept", "http2", "plain", "observed", "websocket"] {
        assert!(told[kind].as_u64() > Some(20), "{kind}: {}", told[kind]);
    }
    assert_eq!(told["downloaded"], 1);
    assert!(
        told["closed"].as_u64() >= Some(UPGRADES as u64 * 3),
        "{}",
        told["closed"]
    );
    eprintln!(
        "{UPGRADES} upgrades: {} new connections, {} kept requests, {} over HTTP/2, {} plain, {} observed, {} \
         messages, none lost",
        told["fresh"],
        told["kept"],
        told["http2"],
        told["plain"],
        told["observed"],
        told["websocket"]
    );
    assert_trail(&front, &told, &pids)
}

/// One record for each request, whole lines, and an order for each process.
fn assert_trail(front: &Front, told: &Value, pids: &[u32]) -> Rigged<()> {
    let text = fs::read_to_string(front.ground.scratch.join("audit.jsonl"))?;
    let lines: Vec<Value> = text
        .lines()
        .map(|line| serde_json::from_str(line).expect("a whole record"))
        .collect();
    let mut records: BTreeMap<&str, usize> = BTreeMap::new();
    for line in lines.iter().filter(|line| line["kind"] == "request") {
        assert_eq!(line["complete"], true, "{line}");
        *records
            .entry(line["decision_id"].as_str().unwrap_or_default())
            .or_default() += 1;
    }
    let ids: Vec<&str> = told["ids"]
        .as_array()
        .into_iter()
        .flatten()
        .filter_map(Value::as_str)
        .collect();
    assert!(!ids.is_empty());
    for id in &ids {
        assert_eq!(records.get(id), Some(&1), "{id}");
    }
    for pid in pids {
        let of = lines.iter().filter(|line| line["pid"] == *pid);
        let sequence: Vec<u64> = of.filter_map(|line| line["sequence"].as_u64()).collect();
        let whole: Vec<u64> = (0..sequence.len() as u64).collect();
        assert_eq!(sequence, whole, "process {pid}");
    }
    let seen: BTreeSet<u64> = lines
        .iter()
        .filter_map(|line| line["pid"].as_u64())
        .collect();
    assert_eq!(seen.len(), pids.len());
    for pid in &pids[1..] {
        let to = format!("to process {pid};");
        let told = steps(front, "handed_over");
        assert!(told.iter().any(|line| {
            line["detail"]
                .as_str()
                .is_some_and(|it| it.starts_with(&to))
        }));
    }
    Ok(())
}

#[test]
fn a_reload_that_is_asked_meanwhile_is_done_by_the_next_one() -> Rigged<()> {
    let ground = Ground::set()?;
    let (mut front, binary) = with_binary(ground)?;
    let before = front.daemon.pid();
    replace(
        &binary,
        &format!(
            "#!/bin/sh\nsleep 1\nexec {} \"$@\"\n",
            portcullis().display()
        ),
    )?;
    front.daemon.signal("USR2")?;
    front.audited("the upgrade", |line| line["step"] == "upgrade")?;
    front.daemon.signal("HUP")?;
    let pid = front.daemon.await_heir(before)?;
    let reload = front.audited("the reload", |line| line["step"] == "reload")?;
    assert_eq!(reload["pid"], pid);
    Ok(())
}

#[test]
fn sigterm_after_the_hand_over_ends_kept_connections_of_the_old_one_and_nothing_else() -> Rigged<()>
{
    let mut front = Front::open()?;
    let before = front.daemon.pid();
    let mut client = front.s_client(&["-quiet", "-alpn", "http/1.1"]);
    let mut idle = client
        .stdin(std::process::Stdio::piped())
        .stdout(std::process::Stdio::null())
        .stderr(std::process::Stdio::null())
        .spawn()?;
    if let Some(stdin) = &mut idle.stdin {
        std::io::Write::write_all(stdin, b"GET /public HTTP/1.1\r\nHost: api.example\r\n\r\n")?;
    }
    front.audited("the request", |line| line["reason"] == "permitted")?;
    let pid = front.daemon.upgrade()?;
    assert!(front.daemon.processes().contains(&before));
    let killed = Command::new("kill")
        .args(["-TERM", &before.to_string()])
        .status()?;
    assert!(killed.success());
    front.daemon.await_end(before)?;
    idle.wait()?;
    let stop = front.audited("the stop", |line| line["step"] == "stop")?;
    assert_eq!(
        (&stop["detail"], &stop["pid"]),
        (&"drained".into(), &before.into())
    );
    assert_serves(&front, pid, "198.51.100.1")
}

#[test]
fn listeners_come_and_go_and_workers_are_more_or_fewer() -> Rigged<()> {
    let (first, second) = (free_address()?, free_address()?);
    let listener = |address: SocketAddr| format!("address = \"{address}\"");
    let ground = Ground::set()?
        .alter("address = \"127.0.0.1:0\"", &listener(first))?
        .alter("[shutdown]", "[runtime]\nworkers = 3\n\n[shutdown]")?;
    let mut front = ground.start()?;
    let throng = Throng::begin(&front, Places::default())?;
    for (from, to) in [(3, 1), (1, 4), (4, 2)] {
        rewrite(
            &mut front,
            &format!("workers = {from}"),
            &format!("workers = {to}"),
        )?;
        front.daemon.upgrade()?;
        thread::sleep(Duration::from_millis(300));
    }
    let told = throng.end()?;
    assert_eq!(told["lost"], serde_json::json!([]), "{told}");
    rewrite(&mut front, &listener(first), &listener(second))?;
    front.daemon.upgrade()?;
    assert!(TcpStream::connect(second).is_ok());
    let closed = || TcpStream::connect(first).is_err().then_some(());
    eventually("nobody listens where nobody should", SOON, closed)?;
    assert_eq!(
        front.daemon.status()?["listeners"],
        serde_json::json!([second.to_string()])
    );
    Ok(())
}

#[test]
fn changes_that_are_asked_meanwhile_are_done_or_refused_and_never_lost() -> Rigged<()> {
    const CHANGES: usize = 120;
    let mut front = Front::open()?;
    let asked: Vec<Command> = (0..CHANGES)
        .map(|at| {
            front
                .daemon
                .ask_command(&["block", "add", &format!("203.0.113.{at}")])
        })
        .collect();
    let changes = thread::spawn(move || -> Rigged<Vec<bool>> {
        let done = asked.into_iter().map(|mut command| {
            let said = output(&mut command)?;
            let text =
                String::from_utf8_lossy(&said.stdout) + String::from_utf8_lossy(&said.stderr);
            let refused = text.contains("ask again") || text.contains("stopping");
            assert!(said.status.success() || refused, "{text}");
            Ok(said.status.success())
        });
        done.collect()
    });
    for _ in 0..3 {
        front.daemon.upgrade()?;
    }
    let done = changes.join().expect("no panic")?;
    assert!(done.iter().filter(|it| **it).count() > CHANGES / 2);
    let front = front.crash()?.start()?;
    for (at, done) in done.iter().enumerate() {
        let tested = front
            .daemon
            .ask(&["block", "test", &format!("203.0.113.{at}")])?;
        assert_eq!(tested["standing"] == "blocked", *done, "{tested}");
    }
    Ok(())
}
