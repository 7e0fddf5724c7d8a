//! Clients that never pause: new connections one after the other, kept ones, HTTP/2, plain HTTP, a WebSocket
//! and a slow download, all at once, and what became of every one of their requests.

use std::{
    io::Write as _,
    net::SocketAddr,
    process::{Child, Command, Stdio},
};

use serde_json::Value;

use crate::{
    front::Front,
    run::{RigError, Rigged},
};

/// Debian's, which has its packages.
const PYTHON: &str = "/usr/bin/python3";

const CLIENTS: &str = r#"
import asyncio, http.client, json, socket, ssl, subprocess, sys, threading, time, websockets
place = json.loads(sys.argv[1])
port, host = place["port"], "api.example"
trust = ssl.create_default_context(cafile=place["ca"])
over, lock = threading.Event(), threading.Lock()
told = {"fresh": 0, "kept": 0, "http2": 0, "plain": 0, "observed": 0, "websocket": 0,
        "downloaded": 0, "closed": 0, "lost": [], "ids": []}
def count(what, ids=()):
    with lock:
        told[what] += 1
        told["ids"].extend(ids)
def lost(what, error):
    with lock:
        told["lost"].append(f"{time.time():.3f} {what}: {error!r}")
class Here(http.client.HTTPSConnection):
    def connect(self):
        bare = socket.create_connection(("127.0.0.1", port), 20)
        self.sock = trust.wrap_socket(bare, server_hostname=host)
def ask(connection, what, headers={}):
    connection.request("GET", "/public", headers={"Host": host, **headers})
    answer = connection.getresponse()
    body = answer.read()
    if answer.status != 200 or not body:
        raise RuntimeError(answer.status)
    count(what, [answer.headers["x-request-id"]])
    return answer
def forever(what, act):
    def run():
        while not over.is_set():
            try:
                act()
            except Exception as error:
                lost(what, error)
    return threading.Thread(target=run)
def fresh():
    connection = Here(host, port)
    try:
        ask(connection, "fresh", {"Connection": "close"})
    finally:
        connection.close()
def kept(pause):
    connection = Here(host, port)
    try:
        while not over.is_set():
            if ask(connection, "kept").will_close:
                count("closed")
            time.sleep(pause)
    finally:
        connection.close()
def http2():
    urls = [f"https://{host}:{port}/public"] * 5
    command = ["curl", "-s", "--http2", "--max-time", "20", "--cacert", place["ca"], "--resolve",
               f"{host}:{port}:127.0.0.1", "-w", "%{stderr}%{http_code} %{http_version} %header{x-request-id}\n"]
    done = subprocess.run(command + urls, capture_output=True, text=True)
    lines = done.stderr.split("\n")[:-1]
    good = [line.split(" ") for line in lines if line.startswith("200 2 ")]
    if done.returncode or len(good) != 5:
        raise RuntimeError((done.returncode, done.stderr))
    count("http2", [words[2] for words in good])
def plain(at, target, status, what):
    address, port = at.rsplit(":", 1)
    connection = http.client.HTTPConnection(address, int(port), timeout=20)
    try:
        connection.request("GET", target, headers={"Host": host, "Connection": "close"})
        answer = connection.getresponse()
        answer.read()
        if answer.status != status:
            raise RuntimeError(answer.status)
        count(what)
    finally:
        connection.close()
def download():
    done = subprocess.run(["curl", "-s", "--http1.1", "--limit-rate", place["rate"], "--cacert", place["ca"],
                           "--resolve", f"{host}:{port}:127.0.0.1", "-o", "/dev/null", "-w",
                           "%{http_code} %{size_download}", f"https://{host}:{port}/big"],
                          capture_output=True, text=True)
    if done.returncode or done.stdout != f"200 {place['size']}":
        lost("download", (done.returncode, done.stdout))
    else:
        count("downloaded")
def websocket():
    async def talk():
        async with websockets.connect(f"wss://{host}:{port}/talk", ssl=trust, host="127.0.0.1", port=port,
                                      compression=None) as talk:
            await talk.recv()
            while not over.is_set():
                await talk.send("hello")
                assert await asyncio.wait_for(talk.recv(), 20) == "hello"
                count("websocket")
                await asyncio.sleep(0.01)
    try:
        asyncio.run(talk())
    except Exception as error:
        lost("websocket", error)
threads = [forever("fresh", fresh) for _ in range(3)]
threads += [forever("kept", lambda pause=pause: kept(pause)) for pause in (0, 0.001, 0.01, 0.3)]
threads += [forever("http2", http2)]
if place["plain"]:
    threads += [forever("plain", lambda: plain(place["plain"], "/", 308, "plain"))]
if place["observe"]:
    threads += [forever("observed", lambda: plain(place["observe"], "/readyz", 200, "observed"))]
if place["size"]:
    threads += [threading.Thread(target=download), threading.Thread(target=websocket)]
for thread in threads:
    thread.start()
sys.stdin.read()
over.set()
for thread in threads:
    thread.join()
print(json.dumps(told))
"#;

/// Where they go besides the listener.
#[derive(Clone, Copy, Debug, Default)]
pub struct Places {
    /// The plain listener.
    pub plain: Option<SocketAddr>,
    /// The listener for those who watch.
    pub observe: Option<SocketAddr>,
    /// Bytes of `/big`, which is downloaded at `rate`, beside a WebSocket at `/talk`.
    pub size: u64,
    /// Bytes a second.
    pub rate: u64,
}

/// Clients at work; they go on until they are told to end.
pub struct Throng(Child);

impl Throng {
    /// Lets them loose.
    ///
    /// # Errors
    /// When they can't be started.
    pub fn begin(front: &Front, places: Places) -> Rigged<Self> {
        let told = serde_json::json!({
            "port": front.address.port(),
            "ca": front.ground.pki.ca,
            "plain": places.plain.map(|it| it.to_string()),
            "observe": places.observe.map(|it| it.to_string()),
            "size": places.size,
            "rate": places.rate.to_string(),
        });
        let child = Command::new(PYTHON)
            .args(["-c", CLIENTS, &told.to_string()])
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()?;
        Ok(Self(child))
    }

    /// Waits for their last answers; returns how many requests of each kind were answered, what was `lost`,
    /// and the `ids` of decisions.
    ///
    /// # Errors
    /// When they can't say.
    pub fn end(mut self) -> Rigged<Value> {
        if let Some(mut stdin) = self.0.stdin.take() {
            stdin.flush()?;
        }
        let mut said = String::new();
        if let Some(stdout) = self.0.stdout.as_mut() {
            std::io::Read::read_to_string(stdout, &mut said)?;
        }
        serde_json::from_str(&said).map_err(|error| RigError(format!("{said:?}: {error}")))
    }
}

impl Drop for Throng {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}
