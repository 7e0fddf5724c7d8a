//! An issuer of opaque tokens, npm's `oidc-provider`, and a configuration that asks it about them.

use std::{
    fs::{self, Permissions},
    io::{BufRead, BufReader, Write as _},
    net::SocketAddr,
    os::unix::fs::PermissionsExt as _,
    process::{Child, ChildStdin, ChildStdout},
    sync::{Mutex, MutexGuard, PoisonError},
};

use serde_json::{Value, json};

use crate::{
    ground::{Ground, free_address},
    node::node,
    run::{RigError, Rigged},
};

/// Whom the issuer knows the proxy as; both have what a form has to encode.
const CLIENT: (&str, &str) = ("proxy:one", "s3cret +%&=: of the proxy");

/// It runs; ends when dropped.
pub struct OpaqueIssuer {
    child: Child,
    pipes: Mutex<(ChildStdin, BufReader<ChildStdout>)>,
    /// Value of `iss`.
    pub issuer: String,
}

impl Drop for OpaqueIssuer {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

impl OpaqueIssuer {
    /// One with the ground's certificate.
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
        let issuer = format!("https://127.0.0.1:{}", address.port());
        let place = json!({
            "issuer": issuer, "port": address.port(),
            "certificate": ground.pki.certificate, "key": ground.pki.key,
            "client": {"id": CLIENT.0, "secret": CLIENT.1},
        });
        let mut child = node("introspection.mjs").arg(place.to_string()).spawn()?;
        let (Some(stdin), Some(stdout)) = (child.stdin.take(), child.stdout.take()) else {
            return Err(RigError("no pipes".to_owned()));
        };
        let started = Self {
            child,
            pipes: Mutex::new((stdin, BufReader::new(stdout))),
            issuer,
        };
        let ready = heard(&mut started.pipes().1)?;
        if ready["ready"] == true {
            return Ok(started);
        }
        Err(RigError(format!("the issuer says {ready}")))
    }

    /// Where it is asked about tokens.
    pub fn url(&self) -> String {
        format!("{}/token/introspection", self.issuer)
    }

    /// A token of `alice` for the ground's audience that lasts for a minute, or as `more` says.
    ///
    /// # Errors
    /// When it makes none.
    pub fn mint(&self, scope: &str, more: &Value) -> Rigged<String> {
        let mut wanted = json!({"account": "alice", "scope": scope, "aud": "api", "lasts": 60});
        for (name, value) in more.as_object().into_iter().flatten() {
            wanted[name] = value.clone();
        }
        let said = self.tell(&json!({ "mint": wanted }))?;
        let token = said["token"].as_str().map(str::to_owned);
        token.ok_or_else(|| RigError(format!("no token: {said}")))
    }

    /// Ends a token.
    ///
    /// # Errors
    /// When it can't be told.
    pub fn revoke(&self, token: &str) -> Rigged<()> {
        self.tell(&json!({ "revoke": token })).map(drop)
    }

    /// Questions so far.
    ///
    /// # Errors
    /// When it can't be told.
    pub fn asked(&self) -> Rigged<u64> {
        let said = self.tell(&json!({"asked": true}))?;
        Ok(said["asked"].as_u64().unwrap_or_default())
    }

    fn tell(&self, command: &Value) -> Rigged<Value> {
        // Held until the answer is there: the next one is somebody else's.
        let mut pipes = self.pipes();
        writeln!(pipes.0, "{command}")?;
        heard(&mut pipes.1)
    }

    fn pipes(&self) -> MutexGuard<'_, (ChildStdin, BufReader<ChildStdout>)> {
        self.pipes.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn heard(said: &mut impl BufRead) -> Rigged<Value> {
    let mut line = String::new();
    said.read_line(&mut line)?;
    serde_json::from_str(&line)
        .map_err(|error| RigError(format!("the issuer says {line:?}: {error}")))
}

/// A ground whose second issuer, "opaque", is asked at `url`, with these lines in its `[issuer.introspection]`; the
/// route of orders accepts `issuers`.
///
/// # Errors
/// When the ground can't be altered.
pub fn asking(
    ground: Ground,
    (issuer, url): (&str, &str),
    lines: &str,
    issuers: &str,
) -> Rigged<Ground> {
    let secret = ground
        .scratch
        .write("client.secret", format!("{}\n", CLIENT.1))?;
    fs::set_permissions(&secret, Permissions::from_mode(0o600))?;
    let table = format!(
        "[[issuer]]\nname = \"opaque\"\nissuer = \"{issuer}\"\naudiences = [\"api\"]\n\n[issuer.introspection]\n\
         url = \"{url}\"\nclient_id = \"{}\"\nclient_secret_file = \"{}\"\nca = \"{}\"\n\
         allow_addresses = [\"127.0.0.1/32\"]\n{lines}\n\n[[upstream]]",
        CLIENT.0,
        secret.display(),
        ground.pki.ca.display(),
    );
    ground
        .alter("[[upstream]]", &table)?
        .alter("issuers = [\"main\"]", &format!("issuers = {issuers}"))
}
