//! One canonical path: what is decided on, what is recorded, and what the upstream receives are the same
//! bytes; what others might read otherwise is refused by name, or let in by name.

use std::{
    collections::HashMap,
    io::{self, BufRead as _, BufReader, Write as _},
    net::{SocketAddr, TcpListener, TcpStream},
    sync::{Arc, Mutex},
    thread,
};

use portcullis_tests::{
    front::Front,
    ground::Ground,
    run::{RigError, Rigged},
    wire::{assert_refused, get},
};

/// Connections, and requests on each.
const CONNECTIONS: u32 = 100;
const REQUESTS: u32 = 150;

/// Every rule that a route may relax.
const RELAXED: &str = "allow_encoded_slash = true\nallow_encoded_backslash = true\n\
    allow_path_parameters = true\nallow_empty_segments = true\nallow_double_encoding = true";

/// An upstream that notes the target of each request by its id.
#[derive(Clone, Default)]
struct Recorder(Arc<Mutex<HashMap<String, String>>>);

impl Recorder {
    fn listen(&self) -> Rigged<SocketAddr> {
        let listener = TcpListener::bind(("127.0.0.1", 0))?;
        let address = listener.local_addr()?;
        let recorder = self.clone();
        thread::spawn(move || {
            for stream in listener.incoming().flatten() {
                let recorder = recorder.clone();
                thread::spawn(move || recorder.answer(&stream));
            }
        });
        Ok(address)
    }

    fn answer(&self, stream: &TcpStream) -> io::Result<()> {
        let (mut reader, mut writer) = (BufReader::new(stream), stream);
        loop {
            let (mut target, mut id) = (String::new(), String::new());
            loop {
                let mut line = String::new();
                if reader.read_line(&mut line)? == 0 {
                    return Ok(());
                }
                match line.trim_end() {
                    "" => break,
                    line if target.is_empty() => {
                        target = line.split(' ').nth(1).unwrap_or_default().to_owned();
                    }
                    line => {
                        if let Some(value) = line.strip_prefix("x-request-id: ") {
                            value.clone_into(&mut id);
                        }
                    }
                }
            }
            self.heard().insert(id, target);
            writer.write_all(b"HTTP/1.1 204 No Content\r\n\r\n")?;
        }
    }

    fn heard(&self) -> std::sync::MutexGuard<'_, HashMap<String, String>> {
        self.0.lock().expect("nobody panics with it")
    }
}

/// Targets below `/public`, spelled in every way that is let in.
struct Targets(u64);

impl Targets {
    fn draw(&mut self, below: u64) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0 % below
    }

    fn next(&mut self) -> String {
        const PARTS: [&str; 28] = [
            "a",
            "Z",
            "7",
            "-",
            "~",
            "%61",
            "%7e",
            "%7E",
            "%2f",
            "%2F",
            "%5c",
            ";x=1",
            "%3b",
            "/",
            "/b",
            "//",
            "%20",
            "%c3%bc",
            "%E2%82%AC",
            "!$&'()*+,=:@",
            "%3A",
            "%40",
            "%25-",
            "%2541",
            "%252f",
            "%253bq",
            "/c;d",
            "%2c",
        ];
        let mut target = String::from("/public/");
        for _ in 0..self.draw(9) {
            let part = self.draw(PARTS.len() as u64);
            target.push_str(PARTS[part as usize]);
        }
        if self.draw(3) == 0 {
            target.push_str("?q=%2e%2e//;%zz&r");
        }
        target
    }
}

#[test]
fn the_path_that_is_recorded_is_what_the_upstream_received() -> Rigged<()> {
    let recorder = Recorder::default();
    let front = Ground::set()?
        .with_upstream(recorder.listen()?)?
        .alter("match = \"exact\"", RELAXED)?
        .start()?;
    let mut targets = Targets(0x9e37_79b9_7f4a_7c15);
    for _ in 0..CONNECTIONS {
        let mut bytes: String = (1..REQUESTS).map(|_| get(&targets.next())).collect();
        bytes += &get("/public").replace("\r\n\r\n", "\r\nConnection: close\r\n\r\n");
        let answer = front.raw(bytes.as_bytes())?;
        let served = answer.text.matches("HTTP/1.1 204").count();
        if served != REQUESTS as usize {
            return Err(RigError(format!("{served} served: {bytes}\n{answer:?}")));
        }
    }
    let heard = recorder.heard();
    let mut recorded = 0;
    for line in front.audit() {
        if line["kind"] != "request" {
            continue;
        }
        recorded += 1;
        let target = heard.get(line["decision_id"].as_str().unwrap_or_default());
        let path = target.and_then(|target| target.split('?').next());
        assert_eq!(line["path"].as_str(), path, "{line}");
    }
    assert_eq!(recorded, CONNECTIONS * REQUESTS);
    assert_eq!(heard.len() as u32, recorded);
    // Spelled in one way: hexadecimal digits in upper case, nothing encoded that needn't be.
    let is_odd = |target: &String| {
        let path = target.split('?').next().unwrap_or_default();
        ["%61", "%7e", "%2f", "%5c", "%c3", "%3A", "%40", "%2c"]
            .iter()
            .any(|odd| path.contains(odd))
    };
    let odd: Vec<&String> = heard.values().filter(|target| is_odd(target)).collect();
    assert!(odd.iter().all(|target| target.contains("%252f")), "{odd:?}");
    Ok(())
}

#[test]
fn what_a_route_lets_in_leads_nowhere_else() -> Rigged<()> {
    let recorder = Recorder::default();
    let front = Ground::set()?
        .with_upstream(recorder.listen()?)?
        .alter("match = \"exact\"", RELAXED)?
        .start()?;
    for (target, reason) in [
        ("/orders%2f1", "path_encoded_slash"),
        ("/public/../orders", "path_dot_segment"),
        ("/public/..%2forders", "path_dot_segment"),
        ("/public/..%5corders", "path_dot_segment"),
        ("/public/..;x/orders", "path_dot_segment"),
        ("/public/%252e%252e/orders", "path_dot_segment"),
        ("/public/%2e%2e%252forders", "path_dot_segment"),
        ("/public%2500", "path_encoded_control"),
        ("//public", "path_empty_segment"),
    ] {
        assert_refused(&front, &get(target), 400, reason)?;
    }
    assert!(recorder.heard().is_empty());
    Ok(())
}

#[test]
fn a_path_with_two_readings_is_refused() -> Rigged<()> {
    let cases = [
        ("//public", "path_empty_segment"),
        ("//admin", "path_empty_segment"),
        ("/public//", "path_empty_segment"),
        ("/orders%2fpublic", "path_encoded_slash"),
        ("/orders/..%2Fpublic", "path_dot_segment"),
        ("/orders%5cpublic", "path_backslash"),
        ("/orders\\..\\public", "path_backslash"),
        ("/public%00", "path_encoded_control"),
        ("/public%0d%0aX:1", "path_encoded_control"),
        ("/orders/../public", "path_dot_segment"),
        ("/./public", "path_dot_segment"),
        ("/orders/%2e%2e/public", "path_dot_segment"),
        ("/orders/..;/public", "path_dot_segment"),
        ("/..;/public", "path_dot_segment"),
        ("/orders/.;x/public", "path_dot_segment"),
        ("/orders;x/public", "path_parameter"),
        ("/orders%3bx", "path_parameter"),
        ("/%252e%252e/public", "path_dot_segment"),
        ("/%2570ublic", "path_double_encoding"),
        ("/%25%32%65/public", "path_dot_segment"),
        ("/%c0%ae%c0%ae/public", "path_invalid_utf8"),
        ("/public%", "path_broken_encoding"),
        ("/public%zz", "path_broken_encoding"),
        ("*", "path_not_absolute"),
    ];
    let front = Front::open()?;
    for (target, reason) in cases {
        assert_refused(&front, &get(target), 400, reason)?;
    }
    assert_eq!(front.heard()?, [""; 0]);
    Ok(())
}
