//! A service that isn't nginx: Python's http.server, in HTTP/1.0 (a connection a request) and in HTTP/1.1.

use std::{
    io::{BufRead as _, BufReader},
    net::SocketAddr,
    process::{Child, Command, Stdio},
};

use portcullis_tests::{
    front::Front,
    ground::Ground,
    run::{RigError, Rigged},
};

const SERVER: &str = r#"
import http.server, sys
class Service(http.server.BaseHTTPRequestHandler):
    protocol_version = sys.argv[1]
    def say(self, status, body):
        self.send_response(status)
        self.send_header("Content-Type", "text/plain")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(body)
    def do_GET(self):
        told = [f"line={self.requestline}", f"subject={self.headers.get('x-portcullis-subject', '')}",
                f"authorization={self.headers.get('authorization', '')}", f"client={self.client_address[1]}"]
        self.say(200, "\n".join(told).encode())
    do_HEAD = do_GET
    def do_POST(self):
        body = self.rfile.read(int(self.headers.get("content-length", 0)))
        self.say(200, body[::-1])
    def log_message(self, *words):
        pass
server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Service)
print(server.server_address[1], flush=True)
server.serve_forever()
"#;

struct Service {
    child: Child,
    address: SocketAddr,
}

impl Service {
    fn start(version: &str) -> Rigged<Self> {
        let mut child = Command::new("python3")
            .args(["-c", SERVER, version])
            .stdout(Stdio::piped())
            .spawn()?;
        let mut port = String::new();
        if let Some(stdout) = child.stdout.as_mut() {
            BufReader::new(stdout).read_line(&mut port)?;
        }
        let port: Result<u16, _> = port.trim().parse();
        let port = port.map_err(|_| RigError("the service didn't start".to_owned()))?;
        let address = ([127, 0, 0, 1], port).into();
        Ok(Self { child, address })
    }
}

impl Drop for Service {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// The line of what was said that begins so.
fn told<'b>(body: &'b str, name: &str) -> &'b str {
    let line = body.lines().find_map(|line| line.strip_prefix(name));
    line.unwrap_or("(not said)")
}

fn assert_serves(front: &Front) -> Rigged<Vec<String>> {
    let token = front.token("orders:read")?;
    let bearer = format!("Authorization: Bearer {token}");
    let mut clients = Vec::new();
    for version in ["--http1.1", "--http2"] {
        let answer = front.curl("/orders/%61?q=%2e%2e", &[version, "-H", &bearer])?;
        let body = String::from_utf8_lossy(&answer.body).into_owned();
        assert_eq!(answer.status, 200, "{body}");
        assert_eq!(told(&body, "line="), "GET /orders/a?q=%2e%2e HTTP/1.1");
        assert_eq!(
            (told(&body, "subject="), told(&body, "authorization=")),
            ("alice", "")
        );
        clients.push(told(&body, "client=").to_owned());
        let answer = front.curl("/public", &[version, "--data-binary", "hello"])?;
        assert_eq!(
            (answer.status, answer.body.as_slice()),
            (200, &b"olleh"[..])
        );
        let answer = front.curl("/public", &[version, "--head"])?;
        assert_eq!(answer.status, 200);
        let record = front.record_of(answer.field("x-request-id"))?;
        assert_eq!(record["response_bytes"], 0, "{record}");
        assert!(
            answer
                .field("content-length")
                .is_some_and(|length| length != "0")
        );
    }
    let records = front.audit();
    let permitted = records.iter().filter(|line| line["verdict"] == "permit");
    assert!(
        permitted.into_iter().all(|line| line["complete"] == true),
        "{records:?}"
    );
    Ok(clients)
}

#[test]
fn one_that_ends_each_connection_serves_all_the_same() -> Rigged<()> {
    let service = Service::start("HTTP/1.0")?;
    let front = Ground::set()?.with_upstream(service.address)?.start()?;
    let clients = assert_serves(&front)?;
    assert_ne!(clients[0], clients[1], "a connection each");
    Ok(())
}

#[test]
fn one_that_keeps_connections_serves_over_kept_ones() -> Rigged<()> {
    let service = Service::start("HTTP/1.1")?;
    let front = Ground::set()?
        .with_upstream(service.address)?
        .alter("[shutdown]", "[runtime]\nworkers = 1\n\n[shutdown]")?
        .start()?;
    let clients = assert_serves(&front)?;
    assert_eq!(clients[0], clients[1], "one connection for all");
    Ok(())
}
