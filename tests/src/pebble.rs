//! A real ACME authority, Debian's pebble, with a resolver that leads every name to this host.

use std::{
    fs::File,
    net::SocketAddr,
    path::PathBuf,
    process::{Child, Command, Stdio},
    time::Duration,
};

use serde_json::json;

use crate::{
    ground::free_address,
    pki::Pki,
    run::{RigError, Rigged, eventually, succeed},
    scratch::Scratch,
};

/// How long it may take to answer.
const PATIENCE: Duration = Duration::from_secs(10);

/// Where an authority is, and where it looks for the proxy: made before either runs.
#[derive(Debug)]
pub struct PebblePlace {
    /// Where its directory is.
    pub address: SocketAddr,
    management: SocketAddr,
    resolver: SocketAddr,
    resolver_management: SocketAddr,
    config: PathBuf,
    log: PathBuf,
    /// Its own HTTPS certificate.
    pub pki: Pki,
}

/// The authority, running. What it knows is gone when it ends.
pub struct Pebble {
    children: Vec<Child>,
    management: SocketAddr,
    ca: PathBuf,
}

impl PebblePlace {
    /// One that looks for the proxy at these ports, and whose certificates are good for so long.
    ///
    /// # Errors
    /// When its files can't be written.
    pub fn prepare(
        scratch: &Scratch,
        https: SocketAddr,
        http: SocketAddr,
        life: Duration,
    ) -> Rigged<Self> {
        let files = ["pebble-ca.pem", "pebble.pem", "pebble.key"];
        let pki = Pki::issue_into(scratch, &["localhost", "127.0.0.1"], files)?;
        let (address, management) = (free_address()?, free_address()?);
        let config = json!({ "pebble": {
            "listenAddress": address.to_string(),
            "managementListenAddress": management.to_string(),
            "certificate": pki.certificate,
            "privateKey": pki.key,
            "httpPort": http.port(),
            "tlsPort": https.port(),
            "ocspResponderURL": "",
            "externalAccountBindingRequired": false,
            "certificateValidityPeriod": life.as_secs(),
        }});
        Ok(Self {
            address,
            management,
            resolver: free_address()?,
            resolver_management: free_address()?,
            config: scratch.write("pebble.json", config.to_string())?,
            log: scratch.join("pebble.log"),
            pki,
        })
    }

    /// URL of its directory.
    pub fn directory(&self) -> String {
        format!("https://{}/dir", self.address)
    }

    /// Starts it; again, after it has ended.
    ///
    /// # Errors
    /// When it doesn't answer in time; with what it printed.
    pub fn start(&self) -> Rigged<Pebble> {
        let file = File::options().create(true).append(true).open(&self.log)?;
        let mut pebble = Pebble {
            children: Vec::new(),
            management: self.management,
            ca: self.pki.ca.clone(),
        };
        let resolver = Command::new("pebble-challtestsrv")
            .args(["-defaultIPv4", "127.0.0.1", "-defaultIPv6", ""])
            .args(["-http01", "", "-https01", "", "-tlsalpn01", ""])
            .args(["-dns01", &self.resolver.to_string()])
            .args(["-management", &self.resolver_management.to_string()])
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()?;
        pebble.children.push(resolver);
        let authority = Command::new("pebble")
            .args(["-strict", "-dnsserver", &self.resolver.to_string()])
            .arg("-config")
            .arg(&self.config)
            .env("PEBBLE_VA_NOSLEEP", "1")
            .stdout(file.try_clone()?)
            .stderr(file)
            .spawn()?;
        pebble.children.push(authority);
        eventually("pebble answers", PATIENCE, || pebble.root().ok())
            .map_err(|error| RigError(format!("{error}: {}", self.printed())))?;
        Ok(pebble)
    }

    /// What it has printed.
    pub fn printed(&self) -> String {
        std::fs::read_to_string(&self.log).unwrap_or_default()
    }
}

impl Pebble {
    /// The certificate of its root, as PEM: another one each time that it starts.
    ///
    /// # Errors
    /// When it doesn't answer.
    pub fn root(&self) -> Rigged<String> {
        let url = format!("https://{}/roots/0", self.management);
        let mut curl = Command::new("curl");
        succeed(curl.args(["-sf", "--cacert"]).arg(&self.ca).arg(url))
    }
}

impl Drop for Pebble {
    fn drop(&mut self) {
        for child in &mut self.children {
            let _ = child.kill();
            let _ = child.wait();
        }
    }
}
