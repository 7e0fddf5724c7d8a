//! The plain HTTP listener: case 70 of the attacks, and its bounds.

use std::net::{SocketAddr, TcpStream};

use portcullis_tests::{
    front::Front,
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
