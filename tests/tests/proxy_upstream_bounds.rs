//! What an upstream may take: time, connections, requests, and how long a body may be.

use std::{
    io::{Read as _, Write as _},
    net::TcpStream,
    process::{Command, Stdio},
    thread,
    time::{Duration, Instant},
};

use portcullis_tests::{
    front::Front,
    ground::Ground,
    run::{Rigged, eventually},
    scripted::{Scripted, Seen},
    tunnels::Service,
    wire::post,
};

const SOON: Duration = Duration::from_secs(10);

fn in_front_of(upstream: &Scripted, lines: &str) -> Rigged<Front> {
    Ground::set()?
        .with_upstream(upstream.address())?
        .add("name = \"app\"", lines)?
        .start()
}

fn ok(_: &Seen, stream: &mut TcpStream) -> std::io::Result<bool> {
    stream.write_all(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok")?;
    Ok(true)
}

/// Looks for the end of a chunked body, and answers then.
fn after_the_last_chunk(seen: &Seen, stream: &mut TcpStream) -> std::io::Result<bool> {
    let mut all = Vec::new();
    let mut part = [0; 1024];
    let is_chunked = seen.head.iter().any(|line| line.contains("chunked"));
    while is_chunked && !all.ends_with(b"0\r\n\r\n") {
        let read = stream.read(&mut part)?;
        all.extend_from_slice(&part[..read]);
        if read == 0 {
            return Ok(false);
        }
    }
    ok(seen, stream)
}

fn ok_after(pause: Duration) -> Rigged<Scripted> {
    Scripted::start(move |seen, stream| {
        thread::sleep(pause);
        ok(seen, stream)
    })
}

fn reason_of(front: &Front, decision: Option<&str>) -> Rigged<String> {
    let record = front.record_of(decision)?;
    Ok(record["reason"].as_str().unwrap_or_default().to_owned())
}

/// A POST whose body comes in five parts, one each 300 ms.
fn upload_slowly(front: &Front) -> Rigged<String> {
    let mut curl = front
        .curl_command()
        .args([
            "-X",
            "POST",
            "-T",
            "-",
            "-w",
            "%{http_code}",
            "-H",
            "Expect:",
        ])
        .arg(front.url("/public"))
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()?;
    let mut stdin = curl.stdin.take();
    for _ in 0..5 {
        thread::sleep(Duration::from_millis(300));
        if let Some(stdin) = &mut stdin {
            let _ = stdin.write_all(b"part");
        }
    }
    drop(stdin);
    let mut said = String::new();
    if let Some(stdout) = &mut curl.stdout {
        stdout.read_to_string(&mut said)?;
    }
    curl.wait()?;
    Ok(said)
}

#[test]
fn the_wait_for_an_answer_begins_when_the_request_is_sent() -> Rigged<()> {
    let upstream = Scripted::start(after_the_last_chunk)?;
    let front = in_front_of(&upstream, "response_timeout = \"800ms\"")?;
    assert_eq!(upload_slowly(&front)?, "ok200");
    Ok(())
}

#[test]
fn a_client_that_owes_the_rest_of_its_body_is_told_so() -> Rigged<()> {
    let upstream = ok_after(Duration::from_secs(60))?;
    let front = Ground::set()?
        .with_upstream(upstream.address())?
        .add("[[listener]]", "body_timeout = \"500ms\"")?
        .start()?;
    let began = Instant::now();
    let answer = front.raw(post("Content-Length: 10\r\n", "begun").as_bytes())?;
    assert_eq!(answer.status(), 408, "{answer:?}");
    assert!(answer.closed, "{answer:?}");
    assert!(began.elapsed() < Duration::from_secs(5));
    let record = front.audited("the request", |line| line["status"] == 408)?;
    assert_eq!(record["reason"], "request_body_timeout", "{record}");
    Ok(())
}

#[test]
fn an_upstream_that_falls_silent_in_its_answer_is_cut_off() -> Rigged<()> {
    let upstream = Scripted::start(|_, stream| {
        stream.write_all(b"HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\nbegun")?;
        thread::sleep(Duration::from_secs(60));
        Ok(false)
    })?;
    let front = in_front_of(&upstream, "stream_timeout = \"300ms\"")?;
    let began = Instant::now();
    front.curl("/public", &[])?;
    assert!(began.elapsed() < Duration::from_secs(5));
    let record = front.audited("the request", |line| line["kind"] == "request")?;
    assert_eq!(record["reason"], "upstream_silent", "{record}");
    assert_eq!(record["complete"], false, "{record}");
    Ok(())
}

#[test]
fn an_answer_that_takes_too_long_in_all_is_cut_off_although_it_goes_on() -> Rigged<()> {
    let upstream = Scripted::start(|_, stream| {
        stream.write_all(b"HTTP/1.1 200 OK\r\nContent-Length: 100000\r\n\r\n")?;
        for _ in 0..200 {
            stream.write_all(b"drip")?;
            thread::sleep(Duration::from_millis(50));
        }
        Ok(false)
    })?;
    let front = in_front_of(&upstream, "total_timeout = \"1s\"")?;
    let began = Instant::now();
    front.curl("/public", &[])?;
    let took = began.elapsed();
    assert!(
        took > Duration::from_millis(900) && took < Duration::from_secs(5),
        "{took:?}"
    );
    Ok(())
}

#[test]
fn requests_beyond_the_bound_wait_and_those_beyond_the_queue_are_refused() -> Rigged<()> {
    let upstream = ok_after(Duration::from_millis(600))?;
    let lines = "max_requests = 1\nmax_waiting = 1\nqueue_timeout = \"5s\"";
    let front = in_front_of(&upstream, lines)?;
    thread::scope(|scope| -> Rigged<()> {
        let asked: Vec<_> = (0..3)
            .map(|_| scope.spawn(|| front.curl("/public", &[])))
            .collect();
        let mut statuses = Vec::new();
        for one in asked {
            let answer = one.join().map_err(|_| "a client panicked".to_owned());
            let answer = answer.map_err(portcullis_tests::run::RigError)??;
            if answer.status == 503 {
                let reason = reason_of(&front, answer.field("x-request-id"))?;
                assert_eq!(reason, "upstream_overloaded");
            }
            statuses.push(answer.status);
        }
        statuses.sort_unstable();
        assert_eq!(statuses, [200, 200, 503]);
        Ok(())
    })
}

#[test]
fn whoever_waits_too_long_for_a_connection_is_refused() -> Rigged<()> {
    let upstream = ok_after(Duration::from_secs(3))?;
    let lines = "max_connections = 1\nqueue_timeout = \"300ms\"";
    let front = in_front_of(&upstream, lines)?;
    thread::scope(|scope| -> Rigged<()> {
        scope.spawn(|| front.curl("/public", &[]));
        eventually("the first request is there", SOON, || {
            (!upstream.seen().is_empty()).then_some(())
        })?;
        let answer = front.curl("/public", &[])?;
        assert_eq!(answer.status, 503);
        let reason = reason_of(&front, answer.field("x-request-id"))?;
        assert_eq!(reason, "upstream_overloaded");
        Ok(())
    })
}

/// Kept connections belong to a worker each. One that another worker keeps is given up for who waits.
#[test]
fn a_connection_that_another_worker_keeps_is_no_obstacle() -> Rigged<()> {
    let upstream = Scripted::start(ok)?;
    let lines = "max_connections = 1\nqueue_timeout = \"5s\"";
    let ground = Ground::set()?.with_upstream(upstream.address())?;
    let front = ground
        .add("name = \"app\"", lines)?
        .alter("[admin]", "[runtime]\nworkers = 4\n\n[admin]")?
        .start()?;
    for _ in 0..20 {
        let answer = front.curl("/public", &[])?;
        assert_eq!(answer.status, 200, "{answer:?}");
    }
    Ok(())
}

#[test]
fn a_body_longer_than_its_route_takes_is_refused() -> Rigged<()> {
    let upstream = Scripted::start(after_the_last_chunk)?;
    let front = Ground::set()?
        .with_upstream(upstream.address())?
        .add("name = \"public\"", "max_body_bytes = 8")?
        .start()?;
    assert_eq!(front.curl("/public", &["--data", "12345678"])?.status, 200);
    let chunked = ["-H", "Transfer-Encoding: chunked", "--data", "123456789"];
    for args in [
        &["--data", "123456789"][..],
        &chunked,
        &["--http1.1", "--data", "123456789"],
    ] {
        let answer = front.curl("/public", args)?;
        assert_eq!(answer.status, 413, "{args:?} {answer:?}");
        let reason = reason_of(&front, answer.field("x-request-id"))?;
        assert_eq!(reason, "request_body_too_large");
    }
    Ok(())
}

#[test]
fn a_client_that_does_not_read_is_not_written_to_for_ever() -> Rigged<()> {
    let front = Ground::set()?
        .add("[[listener]]", "body_timeout = \"1s\"")?
        .alter("/files\"", "/files/big\"")?
        .alter(
            "issuers = [\"main\"]\nscopes = [\"files\"]",
            "access = \"public\"",
        )?
        .start()?;
    front
        .ground
        .scratch
        .write("files/big", vec![b'x'; 64 * 1024 * 1024])?;
    let request = "GET /files/big HTTP/1.1\r\nHost: api.example\r\n\r\n";
    let mut client = front
        .s_client(&["-quiet", "-alpn", "http/1.1"])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::null())
        .spawn()?;
    if let Some(stdin) = &mut client.stdin {
        stdin.write_all(request.as_bytes())?;
    }
    // Nobody reads what it prints: pipe, client and sockets fill.
    let record = front.audited("the request ends", |line| line["kind"] == "request");
    let _ = Command::new("kill").arg(client.id().to_string()).status();
    client.wait()?;
    let record = record?;
    assert_eq!(record["complete"], false, "{record}");
    Ok(())
}

#[test]
fn an_answer_has_a_hundred_fields_and_no_more() -> Rigged<()> {
    let upstream = Scripted::start(|seen, stream| {
        let asks_for_more = |line: &String| line.contains("?more");
        let more = usize::from(seen.head.first().is_some_and(asks_for_more));
        stream.write_all(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n")?;
        for at in 0..99 + more {
            stream.write_all(format!("X-Field-{at}: 1\r\n").as_bytes())?;
        }
        stream.write_all(b"\r\nok")?;
        Ok(true)
    })?;
    let front = in_front_of(&upstream, "")?;
    let fits = front.curl("/public", &[])?;
    assert_eq!(fits.status, 200, "{fits:?}");
    assert_eq!(fits.field("x-field-98"), Some("1"), "{fits:?}");
    let answer = front.curl("/public?more", &[])?;
    assert_eq!(answer.status, 502, "{answer:?}");
    let decision = answer.field("x-request-id");
    assert_eq!(reason_of(&front, decision)?, "upstream_broken");
    Ok(())
}

#[test]
fn a_connection_that_nobody_uses_is_closed_in_its_time() -> Rigged<()> {
    let upstream = Service::start(|stream, hear| {
        let (mut head, mut byte) = (Vec::new(), [0]);
        while !head.ends_with(b"\r\n\r\n") && stream.read(&mut byte)? > 0 {
            head.extend(byte);
        }
        let answered = Instant::now();
        stream.write_all(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok")?;
        if stream.read(&mut byte)? == 0 && answered.elapsed() >= Duration::from_secs(1) {
            hear(b"closed in its time");
        }
        Ok(())
    })?;
    let front = Ground::set()?
        .with_upstream(upstream.address())?
        .add("name = \"app\"", "idle_timeout = \"1s\"")?
        .start()?;
    assert_eq!(front.curl("/public", &[])?.status, 200);
    eventually("the connection is closed", SOON, || {
        let heard = upstream.heard().concat();
        (heard == b"closed in its time").then_some(())
    })
}
