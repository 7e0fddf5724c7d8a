//! Several endpoints of one upstream: how requests are spread, what is tried again, and who is set aside.

use std::{
    io::Write as _,
    net::SocketAddr,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    thread,
    time::Duration,
};

use portcullis_tests::{
    front::Front,
    ground::{Ground, free_address},
    run::{Rigged, eventually},
    scripted::Scripted,
};

const SOON: Duration = Duration::from_secs(10);

/// Answers every request with who it is.
fn named(name: &'static str) -> Rigged<Scripted> {
    Scripted::start(move |_, stream| {
        write!(
            stream,
            "HTTP/1.1 200 OK\r\nContent-Length: {}\r\n\r\n{name}",
            name.len()
        )?;
        Ok(true)
    })
}

/// A proxy with these endpoints, and further lines for their upstream.
fn in_front_of(endpoints: &[SocketAddr], lines: &str) -> Rigged<Front> {
    let urls: Vec<String> = endpoints
        .iter()
        .map(|address| format!("\"http://{address}\""))
        .collect();
    let ground = Ground::set()?;
    let url = format!("url = \"http://{}\"", ground.upstream);
    ground
        .alter(&url, &format!("urls = [{}]\n{lines}", urls.join(", ")))?
        .start()
}

/// The answers to so many requests.
fn answers(front: &Front, count: usize, args: &[&str]) -> Rigged<Vec<String>> {
    (0..count)
        .map(|_| {
            let answer = front.curl("/public", args)?;
            assert_eq!(answer.status, 200, "{answer:?}");
            Ok(String::from_utf8_lossy(&answer.body).into_owned())
        })
        .collect()
}

fn count(answers: &[String], name: &str) -> usize {
    answers.iter().filter(|answer| *answer == name).count()
}

#[test]
fn turns_are_taken_where_that_is_asked_for() -> Rigged<()> {
    let (one, two) = (named("one")?, named("two")?);
    let front = in_front_of(&[one.address(), two.address()], "balance = \"round_robin\"")?;
    let answers = answers(&front, 10, &[])?;
    assert_eq!((count(&answers, "one"), count(&answers, "two")), (5, 5));
    Ok(())
}

/// One endpoint sits on a request; while it does, the other one is less loaded.
#[test]
fn the_endpoint_with_fewer_requests_gets_the_next() -> Rigged<()> {
    let released = Arc::new(AtomicBool::new(false));
    let waits = Arc::clone(&released);
    let slow = Scripted::start(move |_, stream| {
        while !waits.load(Ordering::SeqCst) {
            thread::sleep(Duration::from_millis(10));
        }
        stream.write_all(b"HTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\nslow")?;
        Ok(true)
    })?;
    let quick = named("quick")?;
    let front = in_front_of(&[slow.address(), quick.address()], "")?;
    thread::scope(|scope| -> Rigged<()> {
        // One after the other, until one is stuck.
        let mut asked = Vec::new();
        while slow.seen().is_empty() {
            let one = scope.spawn(|| front.curl("/public", &["--max-time", "60"]));
            eventually("it is answered or stuck", SOON, || {
                (one.is_finished() || !slow.seen().is_empty()).then_some(())
            })?;
            asked.push(one);
        }
        let answers = answers(&front, 20, &[]);
        released.store(true, Ordering::SeqCst);
        let answers = answers?;
        assert_eq!(count(&answers, "quick"), 20, "{answers:?}");
        assert!(asked.into_iter().all(|one| one.join().is_ok()));
        Ok(())
    })
}

#[test]
fn what_is_told_apart_by_a_field_or_a_cookie_stays_with_its_endpoint() -> Rigged<()> {
    let (one, two) = (named("one")?, named("two")?);
    let both = [one.address(), two.address()];
    let by_header = in_front_of(&both, "balance = { header = \"x-tenant\" }")?;
    let mut used = Vec::new();
    for tenant in 0..16 {
        let field = format!("X-Tenant: {tenant}");
        let answers = answers(&by_header, 3, &["-H", &field])?;
        assert_eq!(count(&answers, &answers[0]), 3, "{answers:?}");
        used.push(answers[0].clone());
    }
    let ones = count(&used, "one");
    assert!((1..16).contains(&ones), "{used:?}");

    let by_cookie = in_front_of(&both, "balance = { cookie = \"sid\" }")?;
    let answers = answers(&by_cookie, 6, &["-H", "Cookie: a=1; sid=abc; b=2"])?;
    assert_eq!(count(&answers, &answers[0]), 6, "{answers:?}");
    Ok(())
}

#[test]
fn a_request_that_could_not_be_sent_goes_to_another_endpoint_with_its_body() -> Rigged<()> {
    let alive = named("alive")?;
    let front = in_front_of(&[free_address()?, alive.address()], "eject_after = 0")?;
    let answers = answers(&front, 10, &["--data", "whole body"])?;
    assert_eq!(count(&answers, "alive"), 10);
    for seen in alive.seen() {
        assert_eq!(seen.body, b"whole body");
    }
    Ok(())
}

#[test]
fn a_request_that_was_sent_is_never_sent_again() -> Rigged<()> {
    let breaks = || Scripted::start(|_, _| Ok(false));
    let (one, two) = (breaks()?, breaks()?);
    let front = in_front_of(&[one.address(), two.address()], "retries = 5")?;
    for args in [&["--data", "order"][..], &[]] {
        let answer = front.curl("/public", args)?;
        assert_eq!(answer.status, 502);
        let record = front.record_of(answer.field("x-request-id"))?;
        assert_eq!(record["reason"], "upstream_broken", "{record}");
    }
    assert_eq!(one.seen().len() + two.seen().len(), 2);
    Ok(())
}

/// An upstream closes what it has kept too long: no client has to notice.
#[test]
fn a_kept_connection_that_was_closed_meanwhile_costs_no_request() -> Rigged<()> {
    let closing = Scripted::start(|_, stream| {
        stream.write_all(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok")?;
        Ok(false)
    })?;
    let front = in_front_of(&[closing.address()], "retries = 0")?;
    let answers = answers(&front, 10, &["--data", "order"])?;
    assert_eq!(count(&answers, "ok"), 10);
    Ok(())
}

#[test]
fn an_endpoint_that_fails_its_health_check_gets_nothing_until_it_passes_again() -> Rigged<()> {
    let well = Arc::new(AtomicBool::new(true));
    let says = Arc::clone(&well);
    let sick = Scripted::start(move |seen, stream| {
        let is_check = seen.head[0].starts_with("GET /health?deep=1 ");
        let status = if is_check && !says.load(Ordering::SeqCst) {
            "500 Sick"
        } else {
            "200 OK"
        };
        write!(stream, "HTTP/1.1 {status}\r\nContent-Length: 4\r\n\r\nsick")?;
        Ok(true)
    })?;
    let sound = named("sound")?;
    let health = "[upstream.health]\npath = \"/health?deep=1\"\ninterval = \"50ms\"";
    let front = in_front_of(
        &[sick.address(), sound.address()],
        &format!("balance = \"round_robin\"\n{health}"),
    )?;
    assert_eq!(count(&answers(&front, 10, &[])?, "sick"), 5);

    well.store(false, Ordering::SeqCst);
    let told = front.audited("the endpoint is unhealthy", |line| {
        line["step"] == "endpoint_unhealthy"
    })?;
    let detail = told["detail"].as_str().unwrap_or_default();
    assert!(detail.contains("it answered 500"), "{told}");
    assert_eq!(count(&answers(&front, 10, &[])?, "sick"), 0);

    well.store(true, Ordering::SeqCst);
    front.audited("the endpoint is healthy", |line| {
        line["step"] == "endpoint_healthy"
    })?;
    assert_eq!(count(&answers(&front, 10, &[])?, "sick"), 5);
    Ok(())
}

#[test]
fn when_no_endpoint_is_healthy_requests_are_refused_at_once() -> Rigged<()> {
    let health = "[upstream.health]\npath = \"/\"\ninterval = \"50ms\"";
    let front = in_front_of(&[free_address()?], health)?;
    front.audited("the endpoint is unhealthy", |line| {
        line["step"] == "endpoint_unhealthy"
    })?;
    let answer = front.curl("/public", &[])?;
    assert_eq!(answer.status, 503);
    let record = front.record_of(answer.field("x-request-id"))?;
    assert_eq!(record["reason"], "upstream_unhealthy", "{record}");
    Ok(())
}

#[test]
fn an_endpoint_whose_requests_fail_is_set_aside_and_never_more_than_half_are() -> Rigged<()> {
    let failing = || {
        Scripted::start(|_, stream| {
            stream.write_all(b"HTTP/1.1 503 Busy\r\nContent-Length: 0\r\n\r\n")?;
            Ok(true)
        })
    };
    let (one, two) = (failing()?, failing()?);
    let lines = "balance = \"round_robin\"\neject_after = 3\neject_for = \"1h\"";
    let front = in_front_of(&[one.address(), two.address()], lines)?;
    for _ in 0..20 {
        assert_eq!(front.curl("/public", &[])?.status, 503);
    }
    let mut seen = [one.seen().len(), two.seen().len()];
    seen.sort_unstable();
    assert_eq!(seen, [3, 17]);
    Ok(())
}

/// Whoever breaks his own request off must not get an endpoint set aside for it.
#[test]
fn what_clients_break_off_is_not_held_against_an_endpoint() -> Rigged<()> {
    let reads = |name: &'static str| {
        Scripted::start(move |seen, stream| {
            if seen.head[0].starts_with("POST") {
                // Until the proxy gives up on the rest of it.
                let mut rest = Vec::new();
                let _ = std::io::Read::read_to_end(stream, &mut rest);
                return Ok(false);
            }
            let length = name.len();
            write!(
                stream,
                "HTTP/1.1 200 OK\r\nContent-Length: {length}\r\n\r\n{name}"
            )?;
            Ok(true)
        })
    };
    let (one, two) = (reads("one")?, reads("two")?);
    let urls = format!(
        "urls = [\"http://{}\", \"http://{}\"]",
        one.address(),
        two.address()
    );
    let ground = Ground::set()?;
    let url = format!("url = \"http://{}\"", ground.upstream);
    let lines = format!("{urls}\nbalance = \"round_robin\"\neject_after = 2\neject_for = \"1h\"");
    let front = ground
        .alter(&url, &lines)?
        .add("name = \"public\"", "max_body_bytes = 8")?
        .start()?;
    let chunked = [
        "--http1.1",
        "-H",
        "Transfer-Encoding: chunked",
        "--data",
        "123456789",
    ];
    for _ in 0..8 {
        assert_eq!(front.curl("/public", &chunked)?.status, 413);
    }
    let answers = answers(&front, 10, &[])?;
    assert_eq!((count(&answers, "one"), count(&answers, "two")), (5, 5));
    Ok(())
}
