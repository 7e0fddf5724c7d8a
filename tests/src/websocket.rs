//! A real WebSocket server and client: Python's `websockets`.

use std::{
    io::{BufRead as _, BufReader},
    net::SocketAddr,
    process::{Child, Command, Stdio},
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
import asyncio, websockets
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
    let port = front.address.port().to_string();
    let uri = format!("wss://{HOST}{path}");
    let said = output(
        Command::new(PYTHON)
            .args(["-c", TALK])
            .arg(&front.ground.pki.ca)
            .args([&uri, &port, token.unwrap_or_default()]),
    )?;
    let text = String::from_utf8_lossy(&said.stdout);
    if !said.status.success() {
        let why = String::from_utf8_lossy(&said.stderr);
        return Err(RigError(format!("the WebSocket client: {text}{why}")));
    }
    Ok(text.lines().map(str::to_owned).collect())
}
