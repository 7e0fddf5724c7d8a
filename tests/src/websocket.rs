//! A real WebSocket server and client: Python's `websockets`.

use std::{
    io::{BufRead as _, BufReader},
    net::SocketAddr,
    process::{Child, ChildStdout, Command, Stdio},
};

use crate::{
    front::Front,
    run::{RigError, Rigged, output},
    scene::HOST,
};

/// Debian's, which has its packages.
const PYTHON: &str = "/usr/bin/python3";

/// Answers each message with itself; the first one with who the proxy says is calling.
const ECHO: &str = r#"
import asyncio, logging, websockets
logging.disable()
async def echo(socket, path=None):
    await socket.send(socket.request_headers.get("x-portcullis-subject", "nobody"))
    async for message in socket:
        await socket.send(message)
async def main():
    async with websockets.serve(echo, "127.0.0.1", 0, max_size=None) as server:
        print(server.sockets[0].getsockname()[1], flush=True)
        await asyncio.Future()
asyncio.run(main())
"#;

/// Connects, says a few things and closes; prints what came of it.
const TALK: &str = r#"
import asyncio, ssl, sys, websockets
ca, uri, port, token = sys.argv[1:5]
async def main():
    trust = ssl.create_default_context(cafile=ca)
    fields = {"Authorization": "Bearer " + token} if token else {}
    try:
        async with websockets.connect(uri, ssl=trust, host="127.0.0.1", port=int(port),
                                      extra_headers=fields, max_size=None,
                                      compression=None) as socket:
            print("subject", await socket.recv())
            for message in ["hello", "", bytes(range(256)) * 4096]:
                await socket.send(message)
                assert await socket.recv() == message
            await (await socket.ping())
            await socket.close()
            print("closed", socket.close_code)
    except websockets.InvalidStatusCode as refusal:
        print("status", refusal.status_code)
asyncio.run(main())
"#;

/// Connects and stays; prints when it is connected, and when the other side has ended it.
const STAY: &str = r#"
import asyncio, ssl, sys, websockets
ca, uri, port, token = sys.argv[1:5]
async def main():
    trust = ssl.create_default_context(cafile=ca)
    async with websockets.connect(uri, ssl=trust, host="127.0.0.1", port=int(port), compression=None,
                                  extra_headers={"Authorization": "Bearer " + token}) as socket:
        print("subject", await socket.recv(), flush=True)
        await socket.wait_closed()
        print("ended", flush=True)
asyncio.run(main())
"#;

/// The same over HTTP/2 (RFC 8441), which that library doesn't speak: with `h2`, and two frames by hand.
const TALK_H2: &str = r#"
import socket, ssl, struct, sys
import h2.config, h2.connection, h2.events, h2.settings
ca, path, port, token, version = sys.argv[1:6]
trust = ssl.create_default_context(cafile=ca)
trust.set_alpn_protocols(["h2"])
wire = trust.wrap_socket(socket.create_connection(("127.0.0.1", int(port)), 8),
                         server_hostname="api.example")
connection = h2.connection.H2Connection(h2.config.H2Configuration(validate_outbound_headers=False))
connection.initiate_connection()
wire.sendall(connection.data_to_send())
heard, status, ended = b"", None, False
def listen(until):
    global heard, status, ended
    while not until():
        data = wire.recv(65536)
        if not data:
            sys.exit("the connection ended")
        for event in connection.receive_data(data):
            if isinstance(event, h2.events.DataReceived):
                heard += event.data
                connection.acknowledge_received_data(event.flow_controlled_length, event.stream_id)
            elif isinstance(event, h2.events.ResponseReceived):
                status = dict(event.headers)[b":status"].decode()
            elif isinstance(event, (h2.events.StreamEnded, h2.events.StreamReset)):
                ended = True
        wire.sendall(connection.data_to_send())
extended = lambda: connection.remote_settings.get(h2.settings.SettingCodes.ENABLE_CONNECT_PROTOCOL)
listen(extended)
fields = [(":method", "CONNECT"), (":protocol", "websocket"), (":scheme", "https"),
          (":path", path), (":authority", "api.example"), ("sec-websocket-version", version)]
if token:
    fields.append(("authorization", "Bearer " + token))
connection.send_headers(1, fields)
wire.sendall(connection.data_to_send())
listen(lambda: status)
if status != "200":
    print("status", status)
    sys.exit()
def frame(opcode, payload):
    mask = b"abcd"
    masked = bytes(byte ^ mask[n % 4] for n, byte in enumerate(payload))
    return bytes([0x80 | opcode, 0x80 | len(payload)]) + mask + masked
def hear():
    global heard
    listen(lambda: len(heard) > 1 and len(heard) >= 2 + heard[1])
    payload, heard = heard[2:2 + heard[1]], heard[2 + heard[1]:]
    return payload
print("subject", hear().decode(), flush=True)
if len(sys.argv) > 6:
    listen(lambda: ended)
    print("ended", flush=True)
    sys.exit()
connection.send_data(1, frame(1, b"hello"))
wire.sendall(connection.data_to_send())
assert hear() == b"hello"
connection.send_data(1, frame(8, struct.pack("!H", 1000)))
wire.sendall(connection.data_to_send())
print("closed", struct.unpack("!H", hear())[0])
listen(lambda: ended)
connection.end_stream(1)
wire.sendall(connection.data_to_send())
wire.unwrap()
"#;

/// An echo server, until it is dropped.
pub struct EchoServer {
    child: Child,
    address: SocketAddr,
}

impl EchoServer {
    /// Starts one on a free port.
    ///
    /// # Errors
    /// When it doesn't start.
    pub fn start() -> Rigged<Self> {
        let mut child = Command::new(PYTHON)
            .args(["-c", ECHO])
            .stdout(Stdio::piped())
            .spawn()?;
        let mut port = String::new();
        if let Some(stdout) = child.stdout.as_mut() {
            BufReader::new(stdout).read_line(&mut port)?;
        }
        let port: u16 = port
            .trim()
            .parse()
            .map_err(|_| RigError("the WebSocket server didn't start".to_owned()))?;
        Ok(Self {
            child,
            address: ([127, 0, 0, 1], port).into(),
        })
    }

    /// Where it listens.
    pub fn address(&self) -> SocketAddr {
        self.address
    }
}

impl Drop for EchoServer {
    fn drop(&mut self) {
        // It may be gone already.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// What a client says of a WebSocket at this path: `subject …` and `closed 1000`, or `status …`.
///
/// # Errors
/// When it can't be run, or what it sent didn't come back.
pub fn talk(front: &Front, path: &str, token: Option<&str>) -> Rigged<Vec<String>> {
    let uri = format!("wss://{HOST}{path}");
    run(front, TALK, &uri, token, &[])
}

/// The same over HTTP/2, with this version of the protocol (13 is the only one there is).
///
/// # Errors
/// When it can't be run, or what it sent didn't come back.
pub fn talk_over_http2(
    front: &Front,
    path: &str,
    token: Option<&str>,
    version: &str,
) -> Rigged<Vec<String>> {
    run(front, TALK_H2, path, token, &[version])
}

/// A WebSocket that stays until the proxy ends it.
pub struct Stay {
    client: Child,
    said: BufReader<ChildStdout>,
}

impl Stay {
    /// Opens one at this path and waits until it is there; over HTTP/2 or HTTP/1.1.
    ///
    /// # Errors
    /// When it can't be had.
    pub fn open(front: &Front, path: &str, token: &str, http2: bool) -> Rigged<Self> {
        let uri = format!("wss://{HOST}{path}");
        let (script, target) = if http2 {
            (TALK_H2, path)
        } else {
            (STAY, &*uri)
        };
        let mut client = client(front, script, target, token)
            .args(if http2 { &["13", "stay"][..] } else { &[] })
            .stdout(Stdio::piped())
            .spawn()?;
        let out = client.stdout.take();
        let out = out.ok_or_else(|| RigError("the client has no output".to_owned()))?;
        let mut said = BufReader::new(out);
        let mut line = String::new();
        said.read_line(&mut line)?;
        if !line.starts_with("subject ") {
            return Err(RigError(format!("the WebSocket client said {line:?}")));
        }
        Ok(Self { client, said })
    }

    /// Waits until the proxy has ended it.
    ///
    /// # Errors
    /// When it ended otherwise.
    pub fn ended(mut self) -> Rigged<()> {
        let mut line = String::new();
        self.said.read_line(&mut line)?;
        self.client.wait()?;
        if line.trim() == "ended" {
            return Ok(());
        }
        Err(RigError(format!("the WebSocket client said {line:?}")))
    }

    /// Whether it is still there.
    ///
    /// # Errors
    /// When the client can't be asked.
    pub fn goes_on(&mut self) -> Rigged<bool> {
        Ok(self.client.try_wait()?.is_none())
    }
}

fn client(front: &Front, script: &str, target: &str, token: &str) -> Command {
    let port = front.address.port().to_string();
    let mut command = Command::new("timeout");
    command
        .args(["20", PYTHON, "-c", script])
        .arg(&front.ground.pki.ca)
        .args([target, &port, token]);
    command
}

fn run(
    front: &Front,
    script: &str,
    target: &str,
    token: Option<&str>,
    more: &[&str],
) -> Rigged<Vec<String>> {
    let token = token.unwrap_or_default();
    let said = output(client(front, script, target, token).args(more))?;
    let text = String::from_utf8_lossy(&said.stdout);
    if !said.status.success() {
        let why = String::from_utf8_lossy(&said.stderr);
        return Err(RigError(format!("the WebSocket client: {text}{why}")));
    }
    Ok(text.lines().map(str::to_owned).collect())
}
