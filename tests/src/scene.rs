//! The whole stage: two hosts on a wire, an upstream, certificates, tokens, a configuration, and
//! the daemon that runs it.

use std::{
    path::PathBuf,
    process::{Command, Stdio},
    time::Duration,
};

use datapath::Pins;
use serde_json::Value;

use crate::{
    bpffs::Bpffs,
    daemon::{Daemon, Place, portcullis, sibling},
    netns::{EDGE, Namespace, Wire},
    nginx::Nginx,
    pki::{Pki, TokenIssuer},
    run::{RigError, Rigged, output, succeed},
    scratch::Scratch,
    traffic::{Sender, Sink, await_counting},
};

/// The host that the certificate and the routes are for.
pub const HOST: &str = "api.example";
/// The proxy's port.
pub const PORT: u16 = 8443;
/// Where the rig counts datagrams on the guarded host.
pub const SINK_PORT: u16 = 9999;

/// Bounds that a scene puts in its configuration.
#[derive(Clone, Copy, Debug)]
pub struct SceneLimits {
    /// `kernel.limits.source_packets.rate`.
    pub source_rate: u64,
    /// `kernel.limits.source_packets.burst`.
    pub source_burst: u64,
}

impl SceneLimits {
    /// Sources may send as fast as they can.
    pub const NONE: Self = Self {
        source_rate: 0,
        source_burst: 0,
    };
}

/// Everything but a running daemon.
// Fields drop in their order: what runs inside goes before what it runs in.
pub struct Scene {
    /// The upstream.
    pub nginx: Nginx,
    /// Two hosts and the wire.
    pub wire: Wire,
    /// Certificates.
    pub pki: Pki,
    /// The configuration file.
    pub config: PathBuf,
    /// The admin socket.
    pub socket: PathBuf,
    /// The audit trail.
    pub audit: PathBuf,
    /// What is pinned.
    pub pins: Pins,
    /// Issues tokens that the configuration accepts.
    pub issuer: TokenIssuer,
    bpffs: Bpffs,
    /// The scene's folder.
    pub scratch: Scratch,
}

/// What curl got.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Answer {
    /// HTTP status, 0 when there was no answer.
    pub status: u16,
    /// `1.1` or `2`.
    pub version: String,
    /// Body.
    pub body: String,
}

impl Scene {
    /// Sets the stage; names of namespaces and folder begin with `prefix`.
    ///
    /// # Errors
    /// When any part can't be made.
    pub fn set(prefix: &str, limits: SceneLimits) -> Rigged<Self> {
        let scratch = Scratch::named(prefix)?;
        let bpffs = Bpffs::mount_at(scratch.join("bpffs"))?;
        let wire = Wire::new(prefix)?;
        let pki = Pki::issue(&scratch, &[HOST])?;
        let issuer = TokenIssuer::new("https://issuer.example", "key-1")?;
        let jwks = scratch.write("jwks.json", issuer.jwks())?;
        let upstream = ([127, 0, 0, 1], 9000).into();
        let nginx = Nginx::start(&scratch, upstream, Some(&wire.edge))?;
        let SceneLimits {
            source_rate,
            source_burst,
        } = limits;
        let at = scratch.path().display();
        let config = format!(
            r#"[[listener]]
address = "{EDGE}:{PORT}"
certificate = "{at}/server.pem"
key = "{at}/server.key"

[[issuer]]
name = "main"
issuer = "https://issuer.example"
audiences = ["api"]
algorithms = ["ES256"]
jwks_file = "{jwks}"

[[upstream]]
name = "app"
url = "http://{upstream}"

[[route]]
name = "orders"
host = "{HOST}"
path = "/orders"
methods = ["GET"]
upstream = "app"
issuers = ["main"]
scopes = ["orders:read"]

[kernel]
interfaces = ["{interface}"]
bpffs = "{bpffs}"

[kernel.limits]
source_packets = {{ rate = {source_rate}, burst = {source_burst} }}

[admin]
socket = "{at}/admin.sock"

[audit]
path = "{at}/audit.jsonl"
kernel_interval = "1s"

[state]
directory = "{at}/state"

[shutdown]
drain = "2s"
"#,
            jwks = jwks.display(),
            interface = wire.interface,
            bpffs = bpffs.path().display(),
        );
        Ok(Self {
            config: scratch.write("portcullis.toml", config)?,
            socket: scratch.join("admin.sock"),
            audit: scratch.join("audit.jsonl"),
            pins: bpffs.pins(),
            nginx,
            wire,
            pki,
            issuer,
            bpffs,
            scratch,
        })
    }

    /// Starts the daemon on the guarded host.
    ///
    /// # Errors
    /// When it doesn't become ready.
    pub fn start(&self) -> Rigged<Daemon> {
        self.start_binary(portcullis())
    }

    /// Starts another binary in its place.
    ///
    /// # Errors
    /// When it doesn't become ready.
    pub fn start_binary(&self, binary: PathBuf) -> Rigged<Daemon> {
        Daemon::start_binary(
            binary,
            &self.scratch,
            &self.config,
            &self.socket,
            Place::Within(&self.wire.edge),
        )
    }

    /// The BPF filesystem of this scene.
    pub fn bpffs(&self) -> &Bpffs {
        &self.bpffs
    }

    /// A curl command from a client's address, at most two seconds.
    pub fn curl_command(&self, from: &str, path: &str, token: Option<&str>) -> Command {
        let mut curl = self.wire.outside.command("curl");
        curl.args(["-s", "--max-time", "2", "--interface", from])
            .arg("--cacert")
            .arg(&self.pki.ca)
            .arg("--resolve")
            .arg(format!("{HOST}:{PORT}:{EDGE}"))
            .args(["-w", "\n%{http_code} %{http_version}"]);
        if let Some(token) = token {
            curl.arg("-H").arg(format!("Authorization: Bearer {token}"));
        }
        curl.arg(format!("https://{HOST}:{PORT}{path}"));
        curl
    }

    /// What curl gets from a client's address.
    ///
    /// # Errors
    /// When curl can't be run; that nobody answered is status 0.
    pub fn curl(&self, from: &str, path: &str, token: Option<&str>) -> Rigged<Answer> {
        let printed = output(&mut self.curl_command(from, path, token))?.stdout;
        let printed = String::from_utf8_lossy(&printed).into_owned();
        let (body, facts) = printed.rsplit_once('\n').unwrap_or(("", &printed));
        let (status, version) = facts.split_once(' ').unwrap_or((facts, ""));
        Ok(Answer {
            status: status.parse().unwrap_or(0),
            version: version.to_owned(),
            body: body.to_owned(),
        })
    }

    /// Replaces a piece of the configuration file, which has to be there.
    ///
    /// # Errors
    /// When it isn't, or the file can't be read or written.
    pub fn reconfigure(&self, from: &str, to: &str) -> Rigged<()> {
        let text = std::fs::read_to_string(&self.config)?;
        if !text.contains(from) {
            return Err(RigError(format!("the configuration has no {from:?}")));
        }
        std::fs::write(&self.config, text.replace(from, to))?;
        Ok(())
    }

    /// Sends datagrams from a client's address to the sink, evenly, in the background.
    ///
    /// # Errors
    /// When the sender can't be started.
    pub fn send(&self, from: &str, pps: u32, duration: Duration) -> Rigged<Sender> {
        self.send_to(EDGE, from, pps, duration)
    }

    /// [`Self::send`], to another address of the guarded host.
    ///
    /// # Errors
    /// When the sender can't be started.
    pub fn send_to(&self, to: &str, from: &str, pps: u32, duration: Duration) -> Rigged<Sender> {
        // What fills the smallest Ethernet frame.
        self.send_sized(to, from, pps, duration, 18)
    }

    /// [`Self::send_to`], each datagram with a payload of so many bytes.
    ///
    /// # Errors
    /// When the sender can't be started.
    pub fn send_sized(
        &self,
        to: &str,
        from: &str,
        pps: u32,
        duration: Duration,
        bytes: usize,
    ) -> Rigged<Sender> {
        let child = traffic(&self.wire.outside)
            .args(["send", from, &sink_at(to)])
            .args([pps.to_string(), duration.as_secs_f64().to_string()])
            .arg(bytes.to_string())
            .stdout(Stdio::piped())
            .spawn()?;
        Ok(Sender(child))
    }

    /// Counts the datagrams that reach a socket on the guarded host, in the background. Returns
    /// when it counts.
    ///
    /// # Errors
    /// When the counter can't be started.
    pub fn count(&self, duration: Duration) -> Rigged<Sink> {
        self.count_at(EDGE, duration)
    }

    /// [`Self::count`], at another address of the guarded host.
    ///
    /// # Errors
    /// When the counter can't be started.
    pub fn count_at(&self, at: &str, duration: Duration) -> Rigged<Sink> {
        let mut child = traffic(&self.wire.edge)
            .args(["count", &sink_at(at)])
            .arg(duration.as_secs_f64().to_string())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()?;
        await_counting(&mut child)?;
        Ok(Sink(child))
    }

    /// [`Self::send`] until it is finished.
    ///
    /// # Errors
    /// When the sender can't be started.
    pub fn send_on(&self, from: &str, pps: u32) -> Rigged<Sender> {
        let child = traffic(&self.wire.outside)
            .args(["send", from, &sink_at(EDGE), &pps.to_string(), "-", "18"])
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()?;
        Ok(Sender(child))
    }

    /// [`Self::count`] until it is finished.
    ///
    /// # Errors
    /// When the counter can't be started.
    pub fn count_on(&self) -> Rigged<Sink> {
        let mut child = traffic(&self.wire.edge)
            .args(["count", &sink_at(EDGE), "-"])
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()?;
        await_counting(&mut child)?;
        Ok(Sink(child))
    }

    /// The audit trail so far, a JSON object a line.
    ///
    /// # Errors
    /// When it can't be read or a line is no JSON.
    pub fn audit_lines(&self) -> Rigged<Vec<Value>> {
        std::fs::read_to_string(&self.audit)?
            .lines()
            .map(|line| {
                serde_json::from_str(line).map_err(|error| RigError(format!("{line}: {error}")))
            })
            .collect()
    }

    /// Detaches as an operator would.
    ///
    /// # Errors
    /// When the command fails.
    pub fn detach(&self) -> Rigged<String> {
        let mut command = self.wire.edge.command(portcullis());
        succeed(command.args(["detach", "--pins"]).arg(self.pins.root()))
    }
}

fn sink_at(address: &str) -> String {
    if address.contains(':') {
        return format!("[{address}]:{SINK_PORT}");
    }
    format!("{address}:{SINK_PORT}")
}

pub(crate) fn traffic(namespace: &Namespace) -> Command {
    namespace.command(sibling("traffic"))
}
