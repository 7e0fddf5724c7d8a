//! The plain HTTP listener: case 70 of the attacks, and its bounds.

use std::{
    io::{Read as _, Write as _},
    net::{SocketAddr, TcpStream},
    time::Instant,
};

use portcullis_tests::{
    front::Front,
    ground::{Ground, free_address},
    issuing::{ISSUED, Issuing, LONG},
    run::{Rigged, eventually},
    scene::HOST,
};

/// What curl gets on the plain listener for this host: status and where it is sent.
fn plain(front: &Front, http: SocketAddr, host: &str, target: &str) -> Rigged<(u16, String)> {
    let port = http.port();
    let resolve = format!("{host}:{port}:127.0.0.1");
    let url = format!("http://{host}:{port}/");
    let answer = front.curl_at(&url, &["--resolve", &resolve, "--request-target", target])?;
    let location = answer.field("location").unwrap_or_default().to_owned();
    Ok((answer.status, location))
}

#[test]
fn plain_http_sends_to_https_on_its_own_hosts_and_nowhere_else() -> Rigged<()> {
    let issuing = Issuing::prepare("http-01", &["named.example"], LONG)?;
    let http = issuing.http;
    let front = issuing.ground.start()?;
    for (host, target, location) in [
        (HOST, "/public?a=b", "https://api.example/public?a=b"),
        ("named.example", "/", "https://named.example/"),
        (HOST, "//evil.example", "https://api.example//evil.example"),
        (
            HOST,
            "/\\evil.example",
            "https://api.example/\\evil.example",
        ),
    ] {
        let got = plain(&front, http, host, target)?;
        assert_eq!(got, (308, location.to_owned()), "{host} {target}");
    }
    for (host, target, status) in [
        ("evil.example", "/", 404),
        ("127.0.0.1", "/", 404),
        (HOST, "/.well-known/acme-challenge/guess", 404),
        (HOST, "http://evil.example/", 400),
        (HOST, "*", 400),
    ] {
        let got = plain(&front, http, host, target)?;
        assert_eq!(got, (status, String::new()), "{host} {target}");
    }
    Ok(())
}

#[test]
fn plain_http_is_bounded() -> Rigged<()> {
    let issuing = Issuing::prepare("http-01", &[HOST], LONG)?;
    let http = issuing.http;
    let front = issuing.ground.start()?;
    let large = format!("X-Large: {}", "a".repeat(16 * 1024));
    let answer = front.curl_at(&format!("http://{http}/"), &["-H", &large])?;
    assert_eq!(answer.status, 431, "{answer:?}");
    // More of one source than it may have: the last is closed at once, and finds a place again later.
    let held: Vec<_> = (0..100)
        .map(|_| TcpStream::connect(http))
        .collect::<Result<_, _>>()?;
    let ask = || {
        front.curl_at(
            &format!("http://{http}/"),
            &["-H", &format!("Host: {HOST}")],
        )
    };
    eventually("one too many", ISSUED, || {
        ask().ok().filter(|answer| answer.status == 0)
    })?;
    drop(held);
    eventually("a place", ISSUED, || {
        ask().ok().filter(|answer| answer.status == 308)
    })?;
    Ok(())
}

#[test]
fn a_head_that_does_not_end_is_cut_off() -> Rigged<()> {
    let issuing = Issuing::prepare("http-01", &[HOST], LONG)?;
    let http = issuing.http;
    let _front = issuing.ground.start()?;
    let mut slow = TcpStream::connect(http)?;
    slow.set_read_timeout(Some(ISSUED))?;
    slow.write_all(b"GET / HTTP/1.1\r\nHost: api.example\r\n")?;
    let begun = Instant::now();
    let mut said = Vec::new();
    // Ended in whatever way: an error that isn't the timeout, or the end.
    let _ = slow.read_to_end(&mut said);
    assert!(begun.elapsed() < ISSUED, "it is still open");
    assert!(!said.starts_with(b"HTTP/1.1 308"), "{said:?}");
    Ok(())
}

#[test]
fn a_connection_gets_one_answer() -> Rigged<()> {
    let issuing = Issuing::prepare("http-01", &[HOST], LONG)?;
    let http = issuing.http;
    let _front = issuing.ground.start()?;
    let mut client = TcpStream::connect(http)?;
    client.set_read_timeout(Some(ISSUED))?;
    let request = format!("GET /a HTTP/1.1\r\nHost: {HOST}\r\n\r\n");
    client.write_all(request.repeat(2).as_bytes())?;
    let mut bytes = Vec::new();
    // Bytes that nobody reads any more may end the connection with a reset, after the answer.
    let _ = client.read_to_end(&mut bytes);
    let said = String::from_utf8_lossy(&bytes);
    assert_eq!(said.matches("HTTP/1.1 308").count(), 1, "{said}");
    assert!(
        said.to_ascii_lowercase().contains("connection: close"),
        "{said}"
    );
    Ok(())
}

#[test]
fn a_reload_moves_it_and_takes_it_away() -> Rigged<()> {
    let issuing = Issuing::by_handshake(LONG)?;
    let (before, now) = (issuing.http, free_address()?);
    let mut front = issuing.ground.start()?;
    assert_eq!(plain(&front, before, HOST, "/")?.0, 308);
    let mut put = |from: &str, to: &str| -> Rigged<()> {
        let ground = &mut front.ground;
        assert!(ground.text.contains(from), "{from}");
        ground.text = ground.text.replacen(from, to, 1);
        ground.scratch.write("portcullis.toml", &ground.text)?;
        front.daemon.ask(&["reload"])?;
        Ok(())
    };
    put(&before.to_string(), &now.to_string())?;
    let line = format!("http_address = \"{now}\"\n");
    let told = (
        TcpStream::connect(before).is_err(),
        TcpStream::connect(now).is_ok(),
    );
    assert_eq!(told, (true, true));
    put(&line, "")?;
    eventually("nobody listens", ISSUED, || {
        TcpStream::connect(now).is_err().then_some(())
    })
}

#[test]
fn plain_http_leads_to_https_without_an_authority_too() -> Rigged<()> {
    let http = free_address()?;
    let front = Ground::set()?
        .alter(
            "[admin]",
            &format!("[redirect]\naddress = \"{http}\"\n\n[admin]"),
        )?
        .start()?;
    let (status, location) = plain(&front, http, HOST, "/public?a=b")?;
    assert_eq!(status, 308);
    assert_eq!(location, "https://api.example/public?a=b");
    let other = plain(&front, http, "other.example", "/")?;
    assert_eq!(other, (404, String::new()));
    let challenge = "/.well-known/acme-challenge/token";
    assert_eq!(plain(&front, http, HOST, challenge)?.0, 404);
    Ok(())
}
