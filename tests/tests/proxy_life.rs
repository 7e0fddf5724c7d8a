//! How the daemon starts, stops, and keeps its promises meanwhile.

use std::{
    io::{Read as _, Write as _},
    net::{TcpListener, TcpStream},
    process::Stdio,
    sync::mpsc,
    thread::{self, JoinHandle},
    time::{Duration, Instant},
};

use portcullis_tests::{
    front::{Answer, Front},
    ground::Ground,
    run::{RigError, Rigged, eventually},
};
use serde_json::Value;

const SOON: Duration = Duration::from_secs(10);

/// An upstream that takes one request and answers when it is told to.
struct SlowUpstream {
    asked: mpsc::Receiver<()>,
    answer: mpsc::Sender<()>,
    thread: JoinHandle<std::io::Result<()>>,
}

impl SlowUpstream {
    fn behind(ground: Ground) -> Rigged<(Self, Ground)> {
        let listener = TcpListener::bind(("127.0.0.1", 0))?;
        let ground = ground.with_upstream(listener.local_addr()?)?;
        let (tell_asked, asked) = mpsc::channel();
        let (answer, may_answer) = mpsc::channel::<()>();
        let thread = thread::spawn(move || {
            let (mut stream, _) = listener.accept()?;
            let mut head = Vec::new();
            let mut byte = [0];
            while !head.ends_with(b"\r\n\r\n") && stream.read(&mut byte)? == 1 {
                head.push(byte[0]);
            }
            let _ = tell_asked.send(());
            if may_answer.recv().is_ok() {
                stream.write_all(b"HTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\ndone")?;
            }
            Ok(())
        });
        Ok((
            Self {
                asked,
                answer,
                thread,
            },
            ground,
        ))
    }

    fn wait_until_asked(&self) -> Rigged<()> {
        let asked = self.asked.recv_timeout(SOON);
        asked.map_err(|error| RigError(format!("the upstream was not asked: {error}")))
    }
}

/// Runs curl for `/public` beside the test.
fn curl_beside(front: &Front, version: &str) -> JoinHandle<Rigged<(bool, String)>> {
    let mut curl = front.curl_command();
    curl.args([version, "-S", &front.url("/public")]);
    thread::spawn(move || {
        let output = portcullis_tests::run::output(&mut curl)?;
        let body = String::from_utf8_lossy(&output.stdout).into_owned();
        Ok((output.status.success(), body))
    })
}

fn joined<T>(thread: JoinHandle<T>) -> T {
    thread.join().expect("no panic beside the test")
}

fn steps(front: &Front) -> Vec<String> {
    let trail = front.audit().into_iter();
    let steps = trail.filter(|line| line["kind"] == "lifecycle");
    steps
        .map(|line| line["step"].as_str().unwrap_or_default().to_owned())
        .collect()
}

#[test]
fn sigterm_finishes_what_runs_and_takes_nothing_new() -> Rigged<()> {
    for version in ["--http1.1", "--http2"] {
        let (upstream, ground) = SlowUpstream::behind(Ground::set()?)?;
        let mut front = ground.start()?;
        let request = curl_beside(&front, version);
        upstream.wait_until_asked()?;
        front.daemon.signal("TERM")?;
        front.audited("the drain", |line| line["step"] == "drain")?;
        let address = front.address;
        let closed = || TcpStream::connect(address).is_err().then_some(());
        eventually("new connections are refused", SOON, closed)?;
        let _ = upstream.answer.send(());
        assert_eq!(joined(request)?, (true, "done".to_owned()), "{version}");
        assert!(front.daemon.wait()?.success());
        let record = front.audited("the request", |line| line["kind"] == "request")?;
        assert_eq!(record["complete"], true, "{record}");
        assert_eq!(record["status"], 200, "{record}");
        let stop = front.audited("the stop", |line| line["step"] == "stop")?;
        assert_eq!(stop["detail"], "drained");
        assert_eq!(steps(&front), ["without_kernel", "start", "drain", "stop"]);
        joined(upstream.thread)?;
    }
    Ok(())
}

#[test]
fn the_drain_deadline_cuts_off_what_never_ends() -> Rigged<()> {
    let ground = Ground::set()?.alter("drain = \"5s\"", "drain = \"300ms\"")?;
    let (upstream, ground) = SlowUpstream::behind(ground)?;
    let mut front = ground.start()?;
    let request = curl_beside(&front, "--http1.1");
    upstream.wait_until_asked()?;
    let start = Instant::now();
    front.daemon.signal("TERM")?;
    assert!(front.daemon.wait()?.success());
    assert!(
        start.elapsed() >= Duration::from_millis(300),
        "{:?}",
        start.elapsed()
    );
    assert!(
        start.elapsed() < Duration::from_secs(4),
        "{:?}",
        start.elapsed()
    );
    assert!(!joined(request)?.0, "served after all");
    let stop = front.audited("the stop", |line| line["step"] == "stop")?;
    assert_eq!(stop["detail"], "deadline: open connections were cut off");
    // Also what was cut off has its record.
    let record = front.audited("the request", |line| line["kind"] == "request")?;
    assert_eq!(record["complete"], false, "{record}");
    drop(upstream.answer);
    Ok(())
}

#[test]
fn idle_connections_do_not_hold_up_a_stop() -> Rigged<()> {
    let mut front = Front::open()?;
    let mut client = front.s_client(&["-quiet", "-alpn", "http/1.1"]);
    let mut idle = client
        .stdin(Stdio::piped())
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .spawn()?;
    if let Some(stdin) = &mut idle.stdin {
        stdin.write_all(b"GET /public HTTP/1.1\r\nHost: api.example\r\n\r\n")?;
    }
    front.audited("the request", |line| line["reason"] == "permitted")?;
    let start = Instant::now();
    front.daemon.signal("TERM")?;
    assert!(front.daemon.wait()?.success());
    assert!(
        start.elapsed() < Duration::from_secs(4),
        "{:?}",
        start.elapsed()
    );
    idle.wait()?;
    Ok(())
}

/// `/dev/full` answers every write with ENOSPC: a full disk without filling one.
#[test]
fn nothing_is_admitted_that_cannot_be_recorded() -> Rigged<()> {
    let ground = Ground::set()?;
    let path = ground.scratch.join("audit.jsonl").display().to_string();
    let front = ground.alter(&path, "/dev/full")?.start()?;
    let answers = ["/public", "/orders/1", "/unknown"].map(|path| front.curl(path, &[]));
    for answer in answers.into_iter().collect::<Rigged<Vec<Answer>>>()? {
        assert_eq!(answer.status, 503, "{answer:?}");
    }
    let status = front.daemon.status()?;
    assert_eq!(status["audit_failing"], true, "{status}");
    let seen = front.ground.nginx.seen();
    assert!(!seen.contains("public"), "{seen}");
    Ok(())
}

#[test]
fn a_second_daemon_with_the_same_state_is_refused() -> Rigged<()> {
    let front = Front::open()?;
    let at = front.ground.scratch.path().display().to_string();
    let text = front.ground.text.replace("admin.sock", "other.sock");
    let second = front.ground.scratch.write("second.toml", text)?;
    let printed = refused(&second)?;
    let why = "is in use: another portcullis is running with this state.directory";
    assert!(printed.contains(why), "{printed}");
    assert!(printed.contains(&at), "{printed}");
    assert_eq!(front.curl("/public", &[])?.status, 200);
    Ok(())
}

#[test]
fn a_second_daemon_with_the_same_admin_socket_is_refused() -> Rigged<()> {
    let front = Front::open()?;
    let text = front.ground.text.replace("/state\"", "/other-state\"");
    let second = front.ground.scratch.write("second.toml", text)?;
    let printed = refused(&second)?;
    let why = format!(
        "another portcullis answers at {}/admin.sock",
        front.ground.scratch.path().display()
    );
    assert!(printed.contains(&why), "{printed}");
    assert_eq!(front.daemon.status()?["pid"], front.daemon.pid());
    Ok(())
}

#[test]
fn a_port_in_use_is_named_with_file_line_and_key() -> Rigged<()> {
    let holder = TcpListener::bind(("127.0.0.1", 0))?;
    let taken = format!("address = \"{}\"", holder.local_addr()?);
    let ground = Ground::set()?.alter("address = \"127.0.0.1:0\"", &taken)?;
    let printed = ground.refused_start()?;
    let place = format!("refused.toml:2: listener[0].{taken}");
    assert!(printed.contains(&place), "{printed}");
    assert!(printed.contains("the port is in use"), "{printed}");
    Ok(())
}

#[test]
fn a_clean_stop_leaves_room_for_the_next_start() -> Rigged<()> {
    let front = Front::open()?;
    let socket = front.ground.scratch.join("admin.sock");
    let (status, ground) = front.stop()?;
    assert!(status.success());
    assert!(!socket.exists());
    let front = ground.start()?;
    assert_eq!(front.curl("/public", &[])?.status, 200);
    let starts = steps(&front).iter().filter(|step| *step == "start").count();
    assert_eq!(starts, 2);
    Ok(())
}

#[test]
fn entries_survive_a_crash_with_their_remaining_time() -> Rigged<()> {
    let front = Front::open()?;
    front.daemon.ask(&[
        "block",
        "add",
        "198.51.100.1",
        "--ttl",
        "1h",
        "--reason",
        "x y",
    ])?;
    front.daemon.ask(&["block", "add", "2001:db8::/32"])?;
    front
        .daemon
        .ask(&["block", "add", "198.51.100.2", "--ttl", "300ms"])?;
    let before = front.daemon.ask(&["block", "test", "198.51.100.1"])?;
    let front = front.crash()?.start()?;
    let after = front.daemon.ask(&["block", "test", "198.51.100.1"])?;
    let left = |tested: &Value| tested["entries"][0]["left_ms"].as_u64().unwrap_or_default();
    assert!(left(&after) < left(&before), "{before} {after}");
    assert!(left(&before) - left(&after) < 30_000, "{before} {after}");
    assert_eq!(
        after["entries"][0]["until_ms"],
        before["entries"][0]["until_ms"]
    );
    assert_eq!(after["entries"][0]["reason"], "x y");
    assert_eq!(after["standing"], "banned");
    let network = front.daemon.ask(&["block", "test", "2001:db8::7"])?;
    assert_eq!(network["standing"], "blocked");
    let ended = || {
        let tested = front.daemon.ask(&["block", "test", "198.51.100.2"]).ok()?;
        (tested["standing"] == "unlisted").then_some(())
    };
    eventually("the short ban has ended", SOON, ended)?;
    Ok(())
}

fn refused(config: &std::path::Path) -> Rigged<String> {
    let mut command = std::process::Command::new("timeout");
    command
        .arg("10")
        .arg(portcullis_tests::daemon::portcullis());
    let ended = portcullis_tests::run::output(command.args(["run", "--config"]).arg(config))?;
    assert_eq!(ended.status.code(), Some(1), "{config:?}");
    Ok(String::from_utf8_lossy(&ended.stderr).into_owned())
}
