//! What the proxy alone stands on: no `[kernel]`, so neither root nor namespaces; an nginx behind
//! it, certificates, tokens, and a configuration that a test may alter.

use std::{
    net::{SocketAddr, TcpListener},
    ops::Range,
    path::PathBuf,
    process::Command,
    sync::atomic::{AtomicU32, Ordering},
};

use crate::{
    daemon::{Daemon, Place, portcullis},
    front::Front,
    nginx::Nginx,
    pki::{Pki, TokenIssuer},
    run::{RigError, Rigged, output},
    scene::HOST,
    scratch::Scratch,
};

/// Ports that the kernel gives to nobody by itself (it begins at 32768, unless it is told otherwise): one that
/// is free now isn't taken by somebody's connection before it is listened on.
const PORTS: Range<u32> = 15_000..32_000;
/// Makes the ports of one process distinct.
static TAKEN: AtomicU32 = AtomicU32::new(0);

/// An address on the loopback that nobody listens on.
///
/// # Errors
/// When there is none.
pub fn free_address() -> Rigged<SocketAddr> {
    // Processes that run side by side begin far from each other.
    let begin = std::process::id().wrapping_mul(131);
    for _ in PORTS {
        let next = begin.wrapping_add(TAKEN.fetch_add(1, Ordering::Relaxed));
        let port = PORTS.start + next % (PORTS.end - PORTS.start);
        let address = SocketAddr::from(([127, 0, 0, 1], u16::try_from(port).unwrap_or(0)));
        if TcpListener::bind(address).is_ok() {
            return Ok(address);
        }
    }
    Err(RigError("no port is free".to_owned()))
}

/// Everything but a running daemon.
// Fields drop in their order: nginx ends before its folder goes.
pub struct Ground {
    /// The upstream.
    pub nginx: Nginx,
    /// Where it listens.
    pub upstream: SocketAddr,
    /// Certificates.
    pub pki: Pki,
    /// Issues tokens that the configuration accepts.
    pub issuer: TokenIssuer,
    /// The configuration, as it will be written.
    pub text: String,
    /// The ground's folder.
    pub scratch: Scratch,
}

impl Ground {
    /// An upstream, certificates, an issuer, and a configuration with three routes: `/orders`
    /// asks for the scope orders:read, `/files` for the scope files, `/public` for nothing.
    ///
    /// # Errors
    /// When any part can't be made.
    pub fn set() -> Rigged<Self> {
        let scratch = Scratch::new()?;
        let pki = Pki::issue(&scratch, &[HOST, "localhost", "127.0.0.1"])?;
        let issuer = TokenIssuer::new("https://issuer.example", "key-1")?;
        scratch.write("jwks.json", issuer.jwks())?;
        let upstream = free_address()?;
        let nginx = Nginx::start(&scratch, upstream, None)?;
        let at = scratch.path().display();
        let uid = rustix::process::geteuid().as_raw();
        let text = format!(
            r#"[[listener]]
address = "127.0.0.1:0"
certificate = "{at}/server.pem"
key = "{at}/server.key"

[[issuer]]
name = "main"
issuer = "https://issuer.example"
audiences = ["api"]
algorithms = ["ES256"]
jwks_file = "{at}/jwks.json"

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

[[route]]
name = "files"
host = "{HOST}"
path = "/files"
methods = ["GET", "PUT"]
upstream = "app"
issuers = ["main"]
scopes = ["files"]

[[route]]
name = "public"
host = "{HOST}"
path = "/public"
match = "exact"
methods = ["GET", "HEAD", "POST"]
upstream = "app"
access = "public"

[admin]
socket = "{at}/admin.sock"
allowed_uids = [{uid}]

[audit]
path = "{at}/audit.jsonl"

[state]
directory = "{at}/state"

[shutdown]
drain = "5s"
"#
        );
        Ok(Self {
            nginx,
            upstream,
            pki,
            issuer,
            text,
            scratch,
        })
    }

    /// Puts `to` in place of the first `from` in the configuration.
    ///
    /// # Errors
    /// When `from` isn't there: an alteration that alters nothing proves nothing.
    pub fn alter(mut self, from: &str, to: &str) -> Rigged<Self> {
        if !self.text.contains(from) {
            return Err(RigError(format!("{from:?} is not in {}", self.text)));
        }
        self.text = self.text.replacen(from, to, 1);
        Ok(self)
    }

    /// Adds lines after the first `anchor`.
    ///
    /// # Errors
    /// When `anchor` isn't there.
    pub fn add(self, anchor: &str, lines: &str) -> Rigged<Self> {
        self.alter(anchor, &format!("{anchor}\n{lines}"))
    }

    /// Sends all routes to another upstream.
    ///
    /// # Errors
    /// See [`Self::alter`].
    pub fn with_upstream(self, address: SocketAddr) -> Rigged<Self> {
        let before = format!("http://{}", self.upstream);
        self.alter(&before, &format!("http://{address}"))
    }

    /// Sends all routes to the upstream of this URL, with further lines for it.
    ///
    /// # Errors
    /// See [`Self::alter`].
    pub fn with_upstream_at(self, url: &str, lines: &str) -> Rigged<Self> {
        let before = format!("url = \"http://{}\"", self.upstream);
        self.alter(&before, &format!("url = \"{url}\"\n{lines}"))
    }

    /// The line of the configuration that says where the keys are.
    pub fn keys_line(&self) -> String {
        format!(
            "jwks_file = \"{}\"",
            self.scratch.join("jwks.json").display()
        )
    }

    /// Starts the daemon.
    ///
    /// # Errors
    /// When it doesn't become ready.
    pub fn start(self) -> Rigged<Front> {
        self.start_in(portcullis(), Place::Here)
    }

    /// Starts another binary as the daemon.
    ///
    /// # Errors
    /// When it doesn't become ready.
    pub fn start_binary(self, binary: PathBuf) -> Rigged<Front> {
        self.start_in(binary, Place::Here)
    }

    /// Starts the daemon where it can be asked over the admin socket and nothing else.
    ///
    /// # Errors
    /// When it doesn't become ready.
    pub fn start_secluded(self) -> Rigged<Front> {
        self.start_in(portcullis(), Place::Secluded)
    }

    fn start_in(self, binary: PathBuf, place: Place<'_>) -> Rigged<Front> {
        let config = self.scratch.write("portcullis.toml", &self.text)?;
        let socket = self.scratch.join("admin.sock");
        let daemon = Daemon::start_binary(binary, &self.scratch, &config, &socket, place)?;
        let listening = daemon.status()?["listeners"][0].clone();
        let address = listening.as_str().and_then(|text| text.parse().ok());
        let address = address.ok_or_else(|| RigError(format!("no listener: {listening}")))?;
        Ok(Front {
            daemon,
            address,
            ground: self,
        })
    }

    /// What a daemon prints that has to refuse this configuration.
    ///
    /// # Errors
    /// When it starts all the same.
    pub fn refused_start(&self) -> Rigged<String> {
        let config = self.scratch.write("refused.toml", &self.text)?;
        let mut command = Command::new("timeout");
        command.arg("10").arg(portcullis());
        let ended = output(command.args(["run", "--config"]).arg(config))?;
        if ended.status.success() || ended.status.code() == Some(124) {
            return Err(RigError(format!("it started: {}", self.text)));
        }
        Ok(String::from_utf8_lossy(&ended.stderr).into_owned())
    }
}
