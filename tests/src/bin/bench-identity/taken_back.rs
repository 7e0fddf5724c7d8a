//! Tokens that are taken back by the command: how long until the next request is refused, and until what they let
//! in has ended. All of it on a real proxy, with what an operator types.

use std::{
    io::{self, Read as _, Write as _},
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    thread,
    time::{Duration, Instant},
};

use portcullis_tests::{
    figures::{Figure, Required, quantile},
    front::Front,
    ground::Ground,
    lasting::service,
    run::{RigError, Rigged},
    scene::HOST,
    tunnels::{TlsClient, client_config, tls_client},
};
use rustls::ClientConfig;
use serde_json::json;

use crate::verify::premise;

/// Tokens that are taken back, one after the other.
const ROUNDS: usize = 200;
/// Connections that have asked with each of them: the workers share them.
const CONNECTIONS: usize = 8;
/// Answers that go on, of a subject whose tokens are taken back, and as many of another one.
const STREAMS: usize = 100;
/// What hasn't ended by then goes on.
const GOES_ON: Duration = Duration::from_millis(2);

pub(crate) fn figures() -> Rigged<Vec<Figure>> {
    let service = service()?;
    let front = Ground::set()?.with_upstream(service.address())?.start()?;
    let config = client_config(&front.ground.pki.ca, None)?;
    let mut took = Vec::new();
    let connect = || tls_client(front.address, HOST, &config);
    let mut connections: Vec<TlsClient> =
        (0..CONNECTIONS).map(|_| connect()).collect::<Rigged<_>>()?;
    for round in 0..ROUNDS {
        let id = format!("round-{round}");
        let token = token(&front, "alice", &id)?;
        for connection in &mut connections {
            let status = ask(connection, &token)?;
            premise("a good token is let in", status == 200)?;
        }
        let refused = until_refused(&front, &config, &token)?;
        let began = Instant::now();
        front.daemon.ask(&["token", "revoke", "--jti", &id])?;
        // Answered means in force.
        for connection in &mut connections {
            let status = ask(connection, &token)?;
            premise("a revoked token is refused on every worker", status == 401)?;
        }
        let refused = refused.join();
        let refused = refused.map_err(|_| RigError("a caller panicked".to_owned()))??;
        took.push((refused - began).as_secs_f64() * 1e3);
    }
    let cut = cut(&front, &config)?;
    Ok(vec![
        Figure::new("revoke_p50_ms", quantile(&took, 0.5), Required::Nothing),
        Figure::new(
            "revoke_p99_ms",
            quantile(&took, 0.99),
            Required::AtMost(50.0),
        ),
        Figure::new("streams", STREAMS as f64, Required::Nothing),
        Figure::new(
            "streams_cut_ms",
            cut.as_secs_f64() * 1e3,
            Required::AtMost(1_000.0),
        ),
    ])
}

fn token(front: &Front, subject: &str, id: &str) -> Rigged<String> {
    let mut claims = front.ground.issuer.claims(subject, "orders:read");
    claims["jti"] = json!(id);
    front.ground.issuer.sign(&claims)
}

/// Asks on and on, and says when that was refused first.
fn until_refused(
    front: &Front,
    config: &Arc<ClientConfig>,
    token: &str,
) -> Rigged<thread::JoinHandle<Rigged<Instant>>> {
    let mut connection = tls_client(front.address, HOST, config)?;
    premise(
        "a good token is let in",
        ask(&mut connection, token)? == 200,
    )?;
    let token = token.to_owned();
    let begun = Arc::new(AtomicBool::new(false));
    let asks = Arc::clone(&begun);
    let asking = thread::spawn(move || {
        loop {
            let status = match ask(&mut connection, &token) {
                // Its answer was under way.
                Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => {
                    return Ok(Instant::now());
                }
                asked => asked?,
            };
            asks.store(true, Ordering::SeqCst);
            match status {
                200 => thread::sleep(Duration::from_micros(200)),
                401 => return Ok(Instant::now()),
                other => return Err(RigError(format!("status {other}"))),
            }
        }
    });
    while !begun.load(Ordering::SeqCst) {
        thread::yield_now();
    }
    Ok(asking)
}

/// The status of an answer, which is read whole.
fn ask(connection: &mut TlsClient, token: &str) -> io::Result<u16> {
    let head = request(connection, "/orders/1", token)?;
    let length = head.lines().find_map(|line| {
        let (name, value) = line.split_once(':')?;
        let is_length = name.eq_ignore_ascii_case("content-length");
        is_length.then(|| value.trim().parse::<usize>().ok())?
    });
    let length = length.ok_or_else(|| io::Error::other(format!("no length: {head}")))?;
    connection.read_exact(&mut vec![0; length])?;
    let status = head.split(' ').nth(1).and_then(|it| it.parse().ok());
    status.ok_or_else(|| io::Error::other(format!("no answer: {head}")))
}

/// Sends a request; the head of its answer.
fn request(connection: &mut TlsClient, path: &str, token: &str) -> io::Result<String> {
    // In one piece: of several, the kernel would keep the second back until the first is acknowledged.
    let text =
        format!("GET {path} HTTP/1.1\r\nHost: {HOST}\r\nAuthorization: Bearer {token}\r\n\r\n");
    connection.write_all(text.as_bytes())?;
    let mut head = Vec::new();
    while !head.ends_with(b"\r\n\r\n") {
        let mut byte = [0];
        connection.read_exact(&mut byte)?;
        head.extend(byte);
    }
    Ok(String::from_utf8_lossy(&head).into_owned())
}

/// From the command to the end of the last answer that goes on.
fn cut(front: &Front, config: &Arc<ClientConfig>) -> Rigged<Duration> {
    let open = |subject: &str| -> Rigged<Vec<TlsClient>> {
        let each = (0..STREAMS).map(|number| {
            let token = token(front, subject, &format!("{subject}-{number}"))?;
            let mut connection = tls_client(front.address, HOST, config)?;
            let head = request(&mut connection, "/orders/silent", &token)?;
            premise("an answer has begun", head.starts_with("HTTP/1.1 200"))?;
            Ok(connection)
        });
        each.collect()
    };
    let (mut mine, mut others) = (open("mallory")?, open("bob")?);
    // Long enough for them to be what goes on for long.
    thread::sleep(Duration::from_secs(1));
    let began = Instant::now();
    front
        .daemon
        .ask(&["token", "revoke", "--subject", "mallory"])?;
    for connection in &mut mine {
        let mut rest = Vec::new();
        // Its end is an error where the answer isn't whole.
        let _ = connection.read_to_end(&mut rest);
        let is_end = connection.sock.peek(&mut [0]).is_ok_and(|read| read == 0);
        premise("it ended, and wasn't waited for in vain", is_end)?;
    }
    let took = began.elapsed();
    for connection in &mut others {
        connection.sock.set_read_timeout(Some(GOES_ON))?;
        let mut part = [0; 1_024];
        let goes_on = loop {
            match connection.read(&mut part) {
                Ok(1..) => {}
                Ok(0) => break false,
                Err(error) => break error.kind() == io::ErrorKind::WouldBlock,
            }
        };
        premise("another subject's goes on", goes_on)?;
    }
    Ok(took)
}
