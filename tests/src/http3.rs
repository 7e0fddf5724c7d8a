//! A real client of HTTP/3: `aioquic`, which sends what a test says, right or wrong.

use std::{
    path::PathBuf,
    process::{Child, Command, Stdio},
};

use serde_json::{Value, json};

use crate::{
    daemon::sibling,
    front::Front,
    ground::Ground,
    run::{RigError, Rigged, output},
    scene::HOST,
};

/// Debian's, for whose version its packages are.
const PYTHON: &str = "/usr/bin/python3";

/// Sends the requests of one connection, all at once, and prints what came of each: status, fields, body; or the
/// code of a reset; and how the connection ended, if it did. With `hold`, it stays until its input ends.
const CLIENT: &str = r#"
import asyncio, json, ssl, sys
from aioquic.asyncio import connect
from aioquic.asyncio.protocol import QuicConnectionProtocol
from aioquic.h3.connection import H3_ALPN, FrameType, H3Connection, encode_frame
from aioquic.h3.events import DataReceived, HeadersReceived
from aioquic.quic.configuration import QuicConfiguration
from aioquic.quic.events import ConnectionTerminated, StopSendingReceived, StreamReset
told = json.loads(sys.argv[1])
# RFC 9204, 4.5.6: names and values as they are, which no library would send.
def integer(first, bits, value):
    most = (1 << bits) - 1
    if value < most:
        return bytes([first | value])
    rest, value = bytearray([first | most]), value - most
    while value > 127:
        rest.append(value & 127 | 128)
        value >>= 7
    rest.append(value)
    return bytes(rest)
def section(fields):
    block = b"\0\0"
    for name, value in fields:
        name, value = name.encode("latin-1"), value.encode("latin-1")
        block += integer(0x20, 3, len(name)) + name + integer(0, 7, len(value)) + value
    return encode_frame(FrameType.HEADERS, block)
class Client(QuicConnectionProtocol):
    def __init__(self, *args, **kwargs):
        super().__init__(*args, **kwargs)
        self.h3, self.answers, self.ended, self.goaway = None, {}, None, False
        self.moved = asyncio.Event()
        if told.get("mute"):
            # The peer may open no stream of its own, and so can't say what it takes.
            self._quic._local_max_streams_uni.value = 0
    def quic_event_received(self, event):
        if self.h3 is None:
            self.h3 = H3Connection(self._quic)
        if isinstance(event, ConnectionTerminated):
            self.ended = {"code": event.error_code, "reason": event.reason_phrase}
        if isinstance(event, (StreamReset, StopSendingReceived)) and event.stream_id in self.answers:
            answer = self.answers[event.stream_id]
            answer["reset"] = event.error_code
            if isinstance(event, StreamReset):
                answer["over"] = True
        for heard in self.h3.handle_event(event):
            answer = self.answers.get(heard.stream_id)
            if answer is None:
                continue
            if isinstance(heard, HeadersReceived):
                fields = [[name.decode(), value.decode("latin-1")] for name, value in heard.headers]
                if answer["fields"] is None:
                    answer["fields"] = fields
                    answer["status"] = int(dict(fields)[":status"])
                else:
                    answer["trailers"] = fields
            if isinstance(heard, DataReceived):
                answer["body"] += heard.data.decode("latin-1")
            answer["over"] |= heard.stream_ended
        self.moved.set()
    def ask(self, request):
        stream = self._quic.get_next_available_stream_id()
        self.answers[stream] = {"status": 0, "fields": None, "body": "", "trailers": None, "reset": None, "over": False}
        parts, trailers = request.get("parts", []), request.get("trailers")
        sent = [section(request["fields"])] if request["fields"] else []
        sent += [encode_frame(FrameType.DATA, part.encode("latin-1") * request.get("times", 1)) for part in parts]
        sent += [bytes.fromhex(raw) for raw in request.get("raw", [])]
        if trailers is not None:
            sent.append(section(trailers))
        for at, frame in enumerate(sent):
            self._quic.send_stream_data(stream, frame, request.get("ends", True) and at + 1 == len(sent))
        return stream
async def main():
    settings = QuicConfiguration(is_client=True, alpn_protocols=told.get("alpn", H3_ALPN), server_name=told["name"])
    settings.load_verify_locations(told["ca"])
    if told.get("certificate"):
        settings.load_cert_chain(*told["certificate"])
    begun = connect(told["address"], told["port"], configuration=settings, create_protocol=Client)
    try:
        async with asyncio.timeout(told["patience"]):
            client = await begun.__aenter__()
    except (ConnectionError, TimeoutError) as error:
        print(json.dumps({"answers": [], "refused": type(error).__name__, "ended": None}))
        return
    while client.h3 is None:
        client.h3 = H3Connection(client._quic)
    streams = [client.ask(request) for request in told["requests"]]
    client.transmit()
    if told.get("hold"):
        print("asked", flush=True)
    async def keep_alive():
        while client.ended is None:
            await client.ping()
            await asyncio.sleep(0.2)
    alive = asyncio.create_task(keep_alive()) if told.get("mute") else None
    try:
        async with asyncio.timeout(told["patience"]):
            while client.ended is None and (told.get("stay") or not all(client.answers[it]["over"] for it in streams)):
                client.moved.clear()
                await client.moved.wait()
    except TimeoutError:
        pass
    print(json.dumps({"answers": [client.answers[it] for it in streams], "refused": None, "ended": client.ended}))
    if alive:
        alive.cancel()
    client.close()
asyncio.run(main())
"#;

/// Where Python finds the library, if it was brought.
fn library() -> PathBuf {
    std::env::var_os("PORTCULLIS_AIOQUIC").map_or_else(|| sibling("tools/aioquic"), PathBuf::from)
}

/// A ground whose listener has HTTP/3.
///
/// # Errors
/// See [`Ground::set`].
pub fn ground() -> Rigged<Ground> {
    Ground::set()?.add("[[listener]]", "http3 = true")
}

/// A request of this method and path, with a token and further fields.
pub fn request(method: &str, path: &str, token: Option<&str>, more: &[(&str, &str)]) -> Value {
    let mut fields = vec![
        (":method", method.to_owned()),
        (":scheme", "https".to_owned()),
        (":authority", HOST.to_owned()),
        (":path", path.to_owned()),
    ];
    if let Some(token) = token {
        fields.push(("authorization", format!("Bearer {token}")));
    }
    fields.extend(
        more.iter()
            .map(|(name, value)| (*name, (*value).to_owned())),
    );
    json!({ "fields": fields })
}

/// A connection that is to be made.
pub struct Http3 {
    told: Value,
}

impl Http3 {
    /// To the front's listener, with all of these requests at once.
    pub fn new(front: &Front, requests: &[Value]) -> Self {
        let told = json!({
            "address": front.address.ip().to_string(),
            "port": front.address.port(),
            "name": HOST,
            "ca": front.ground.pki.ca,
            "requests": requests,
            "patience": 8,
        });
        Self { told }
    }

    /// With something else said to the client.
    #[must_use]
    pub fn with(mut self, key: &str, value: impl Into<Value>) -> Self {
        self.told[key] = value.into();
        self
    }

    fn command(&self) -> Command {
        let mut client = Command::new("timeout");
        client
            .args(["30", PYTHON, "-c", CLIENT])
            .arg(self.told.to_string())
            .env("PYTHONPATH", library());
        client
    }

    /// Makes it; `answers` in the order of the requests, `refused`, and how it `ended`.
    ///
    /// # Errors
    /// When the client can't be run.
    pub fn ask(&self) -> Rigged<Value> {
        let said = output(&mut self.command())?;
        read(&said.stdout, &said.stderr)
    }

    /// Begins it, and returns when the requests are under way.
    ///
    /// # Errors
    /// When the client can't be run.
    pub fn begin(self) -> Rigged<Begun> {
        let mut child = self
            .with("hold", true)
            .command()
            .stdout(Stdio::piped())
            .spawn()?;
        let mut told = [0; 6];
        if let Some(stdout) = &mut child.stdout {
            std::io::Read::read_exact(stdout, &mut told)?;
        }
        Ok(Begun(child))
    }
}

/// A client at work.
pub struct Begun(Child);

impl Begun {
    /// What it says once all is answered, or the connection over.
    ///
    /// # Errors
    /// When it doesn't say.
    pub fn end(mut self) -> Rigged<Value> {
        let mut text = Vec::new();
        if let Some(stdout) = &mut self.0.stdout {
            std::io::Read::read_to_end(stdout, &mut text)?;
        }
        self.0.wait()?;
        read(&text, b"")
    }
}

fn read(said: &[u8], complaint: &[u8]) -> Rigged<Value> {
    serde_json::from_slice(said).map_err(|error| {
        let (said, complaint) = (
            String::from_utf8_lossy(said),
            String::from_utf8_lossy(complaint),
        );
        RigError(format!("the client of HTTP/3: {error}: {said}{complaint}"))
    })
}

/// Each answer that is told of.
pub fn answers(told: &Value) -> Vec<&Value> {
    told["answers"].as_array().into_iter().flatten().collect()
}

/// The first field of this name in an answer.
pub fn field<'a>(answer: &'a Value, name: &str) -> Option<&'a str> {
    let fields = answer["fields"].as_array()?;
    let found = fields.iter().find(|field| field[0] == name)?;
    found[1].as_str()
}
