//! Where an issuer publishes its keys: a second nginx, over HTTPS.

use std::{
    fs,
    net::SocketAddr,
    process::{Child, Command, Stdio},
    time::Duration,
};

use crate::{
    ground::{Ground, free_address},
    nginx::nginx_binary,
    run::{Rigged, eventually, output},
};

/// A second nginx, which serves the keys over HTTPS.
pub struct KeyServer {
    child: Child,
    address: SocketAddr,
}

impl Drop for KeyServer {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

impl KeyServer {
    /// `/jwks.json` has the keys of `ground`, `/moved` redirects there, `/large` is 300 KiB, and
    /// `/.well-known/openid-configuration` is the ground's file `metadata.json`. `/fresh` has the keys for
    /// two seconds by `Cache-Control`.
    ///
    /// # Errors
    /// When it doesn't start.
    pub fn start(ground: &Ground) -> Rigged<Self> {
        Self::start_at(ground, free_address()?)
    }

    /// As [`Self::start`], on this address.
    ///
    /// # Errors
    /// When it doesn't start.
    pub fn start_at(ground: &Ground, address: SocketAddr) -> Rigged<Self> {
        let at = ground.scratch.path().display();
        let port = address.port();
        ground.scratch.write("large", "x".repeat(300 * 1024))?;
        let config = format!(
            r"daemon off; master_process off; pid {at}/keys.pid; error_log {at}/keys.log;
events {{}}
http {{
  access_log {at}/keys-access.log;
  client_body_temp_path {at}/nginx/body; proxy_temp_path {at}/nginx/body;
  fastcgi_temp_path {at}/nginx/body; uwsgi_temp_path {at}/nginx/body;
  scgi_temp_path {at}/nginx/body;
  server {{
    listen {address} ssl;
    ssl_certificate {at}/server.pem; ssl_certificate_key {at}/server.key;
    root {at};
    location = /moved {{ return 302 https://127.0.0.1:{port}/jwks.json; }}
    location = /fresh {{ alias {at}/jwks.json; add_header Cache-Control max-age=2; }}
    location = /.well-known/openid-configuration {{ alias {at}/metadata.json; }}
    location = /there {{ return 200 there; }}
  }}
}}
"
        );
        let config = ground.scratch.write("keys.conf", config)?;
        let child = Command::new(nginx_binary())
            .arg("-p")
            .arg(ground.scratch.path())
            .arg("-c")
            .arg(config)
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()?;
        let server = Self { child, address };
        let url = server.url("127.0.0.1", "/there");
        eventually("the key server answers", Duration::from_secs(10), || {
            let mut curl = Command::new("curl");
            let curl = curl.args(["-sf", "-o", "/dev/null", "--cacert"]);
            let answered = output(curl.arg(&ground.pki.ca).arg(&url)).ok()?;
            answered.status.success().then_some(())
        })?;
        Ok(server)
    }

    /// Where it listens.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// A URL there.
    pub fn url(&self, host: &str, path: &str) -> String {
        format!("https://{host}:{}{path}", self.address.port())
    }

    /// Paths that it was asked for besides the rig's own question.
    ///
    /// # Errors
    /// When its log can't be read.
    pub fn asked(&self, ground: &Ground) -> Rigged<Vec<String>> {
        let log = fs::read_to_string(ground.scratch.join("keys-access.log"))?;
        let paths = log.lines().filter_map(|line| line.split(' ').nth(6));
        let paths = paths.filter(|path| *path != "/there");
        Ok(paths.map(str::to_owned).collect())
    }

    /// A ground that takes its keys from `url`; `allowed` are ranges inside the network.
    ///
    /// # Errors
    /// See [`Ground::alter`].
    pub fn keys_at(ground: Ground, url: &str, allowed: &str) -> Rigged<Ground> {
        let line = ground.keys_line();
        let ca = ground.pki.ca.display().to_string();
        let lines =
            format!("jwks_url = \"{url}\"\njwks_ca = \"{ca}\"\njwks_allow_addresses = [{allowed}]");
        ground.alter(&line, &lines)
    }

    /// A ground whose issuer is this server, and says by its metadata where its keys are; `metadata` is
    /// what it says.
    ///
    /// # Errors
    /// See [`Ground::alter`].
    pub fn discovered(&self, ground: Ground, metadata: &str) -> Rigged<Ground> {
        ground.scratch.write("metadata.json", metadata)?;
        Self::discovered_at(ground, &self.url("127.0.0.1", ""))
    }

    /// A ground whose issuer is at this URL, on this host, and says by its metadata where its keys are.
    ///
    /// # Errors
    /// See [`Ground::alter`].
    pub fn discovered_at(ground: Ground, url: &str) -> Rigged<Ground> {
        let line = ground.keys_line();
        let ca = ground.pki.ca.display().to_string();
        let lines = format!(
            "discovery = true\njwks_ca = \"{ca}\"\njwks_allow_addresses = [\"127.0.0.1/32\"]"
        );
        let issuer = format!("issuer = \"{url}\"");
        ground
            .alter(&line, &lines)?
            .alter("issuer = \"https://issuer.example\"", &issuer)
    }
}
