//! A real issuer, npm's `oidc-provider`, whose keys change, and which goes away and comes back.

use std::{
    io::{BufRead as _, BufReader, Lines, Read as _, Write as _},
    path::PathBuf,
    process::{Child, ChildStdin, ChildStdout, Command},
};

use serde_json::{Value, json};

use crate::{
    ground::{Ground, free_address},
    node::node,
    run::{RigError, Rigged, output},
};

/// The running issuer.
pub struct RotatingIssuer {
    child: Child,
    stdin: ChildStdin,
    answers: Lines<BufReader<ChildStdout>>,
    counter: Counter,
}

impl Drop for RotatingIssuer {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

impl RotatingIssuer {
    /// An issuer with one key of this name.
    ///
    /// # Errors
    /// When it doesn't start.
    pub fn start(ground: &Ground, key: &str) -> Rigged<Self> {
        let port = free_address()?.port();
        let place = json!({
            "port": port, "certificate": ground.pki.certificate, "key": ground.pki.key,
        });
        let mut child = node("rotating_issuer.mjs").arg(place.to_string()).spawn()?;
        let (Some(stdin), Some(stdout)) = (child.stdin.take(), child.stdout.take()) else {
            return Err(RigError("no pipes".to_owned()));
        };
        let mut issuer = Self {
            child,
            stdin,
            answers: BufReader::new(stdout).lines(),
            counter: Counter {
                url: format!("https://127.0.0.1:{port}"),
                ca: ground.pki.ca.clone(),
            },
        };
        issuer.publish(&[key], key)?;
        Ok(issuer)
    }

    /// Has it publish these keys, new ones where it has none of that name yet, and sign with one of them. Where it
    /// was away it is back.
    ///
    /// # Errors
    /// When it can't.
    pub fn publish(&mut self, keys: &[&str], signs: &str) -> Rigged<()> {
        self.tell(&json!({"keys": keys, "signs": signs}))
    }

    /// Closes its port and every connection to it.
    ///
    /// # Errors
    /// When it can't.
    pub fn go_away(&mut self) -> Rigged<()> {
        self.tell(&json!({"away": true}))
    }

    /// Value of `iss`, and where it is.
    pub fn url(&self) -> &str {
        &self.counter.url
    }

    /// Where its clients get tokens.
    pub fn counter(&self) -> Counter {
        self.counter.clone()
    }

    fn tell(&mut self, what: &Value) -> Rigged<()> {
        writeln!(self.stdin, "{what}")?;
        let answer = self.answers.next().transpose()?;
        if answer.as_deref() == Some("done") {
            return Ok(());
        }
        let _ = self.child.kill();
        let mut said = String::new();
        if let Some(stderr) = &mut self.child.stderr {
            stderr.read_to_string(&mut said)?;
        }
        Err(RigError(format!("{what}: {answer:?}; {said}")))
    }
}

/// Where the issuer's clients get tokens.
#[derive(Clone, Debug)]
pub struct Counter {
    url: String,
    ca: PathBuf,
}

impl Counter {
    /// A token for a client's credentials (RFC 6749, 4.4), good for `/orders`.
    ///
    /// # Errors
    /// When there is none to be had.
    pub fn token(&self) -> Rigged<String> {
        let mut curl = Command::new("curl");
        curl.args(["-sS", "--max-time", "8", "-u", "app:app", "--cacert"])
            .arg(&self.ca)
            .args(["-d", "grant_type=client_credentials"])
            .args(["-d", "scope=orders:read"])
            .arg(format!("{}/token", self.url));
        let answered = output(&mut curl)?;
        let answer: Value = serde_json::from_slice(&answered.stdout).unwrap_or_default();
        let token = answer["access_token"].as_str().map(str::to_owned);
        token.ok_or_else(|| RigError(format!("no token: {answered:?}")))
    }
}
