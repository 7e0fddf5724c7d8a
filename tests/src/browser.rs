//! A real browser and a real issuer: Debian's Chromium, and npm's `oidc-provider`.

use std::{
    io::{BufRead as _, BufReader},
    net::SocketAddr,
    process::Child,
    sync::{Arc, Mutex, PoisonError},
    thread,
    time::Duration,
};

use serde_json::{Value, json};

use crate::{
    ground::{Ground, free_address},
    login::{CALLBACK, CLIENT, SECRET},
    node::node,
    pki::Pki,
    run::{RigError, Rigged, eventually},
    scene::HOST,
    scratch::Scratch,
};

/// Where Debian has it.
const CHROMIUM: &str = "/usr/bin/chromium";

/// A running issuer; ends when dropped.
pub struct RealIssuer {
    child: Child,
    printed: Arc<Mutex<Vec<Value>>>,
    url: String,
}

impl Drop for RealIssuer {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

impl RealIssuer {
    /// One that knows a proxy at this address, whose users come to `after` when they have logged out. Its access
    /// tokens last so many seconds.
    ///
    /// # Errors
    /// When it doesn't start.
    pub fn start(ground: &Ground, proxy: SocketAddr, after: &str, lasts: u64) -> Rigged<Self> {
        let port = free_address()?.port();
        let url = format!("https://localhost:{port}");
        let own = format!("https://{HOST}:{}", proxy.port());
        let place = json!({
            "issuer": url, "port": port, "certificate": ground.pki.certificate, "key": ground.pki.key,
            "lasts": lasts,
            "client": {
                "client_id": CLIENT, "client_secret": SECRET,
                "redirect_uris": [format!("{own}{CALLBACK}")],
                "post_logout_redirect_uris": [format!("{own}{after}")],
                "grant_types": ["authorization_code", "refresh_token"], "response_types": ["code"],
                "id_token_signed_response_alg": "ES256",
            },
        });
        let mut child = node("issuer.mjs").arg(place.to_string()).spawn()?;
        let printed: Arc<Mutex<Vec<Value>>> = Arc::default();
        let all = Arc::clone(&printed);
        let stdout = child.stdout.take();
        let stdout = stdout.ok_or_else(|| RigError("no pipe".to_owned()))?;
        thread::spawn(move || {
            let lines = BufReader::new(stdout).lines().map_while(Result::ok);
            for line in lines.filter_map(|line| serde_json::from_str(&line).ok()) {
                all.lock()
                    .unwrap_or_else(PoisonError::into_inner)
                    .push(line);
            }
        });
        let issuer = Self {
            child,
            printed,
            url,
        };
        eventually("the issuer is there", Duration::from_secs(20), || {
            issuer
                .printed()
                .contains(&json!({"ready": true}))
                .then_some(())
        })?;
        Ok(issuer)
    }

    /// Its URL.
    pub fn url(&self) -> &str {
        &self.url
    }

    /// What it has printed.
    pub fn printed(&self) -> Vec<Value> {
        self.printed
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .clone()
    }

    /// How many grants of this type it has given.
    pub fn granted(&self, kind: &str) -> usize {
        let grant = json!({"grant": kind});
        self.printed().iter().filter(|it| **it == grant).count()
    }
}

/// What a browser shows after each of these steps, as `tests/node/browser.mjs` has them.
///
/// # Errors
/// When a step isn't done; with what was shown until then.
pub fn browse(scratch: &Scratch, pki: &Pki, steps: &[Value]) -> Rigged<Vec<Value>> {
    let place = json!({
        "program": CHROMIUM, "profile": scratch.join("profile"),
        "hosts": format!("MAP {HOST} 127.0.0.1"), "key": pki.key_hash()?, "steps": steps,
    });
    let ended = node("browser.mjs").arg(place.to_string()).output()?;
    let printed = String::from_utf8_lossy(&ended.stdout).into_owned();
    let lines = printed.lines().map(serde_json::from_str);
    let shown: Vec<Value> = lines.filter_map(Result::ok).collect();
    if shown.len() < steps.len() {
        let said = String::from_utf8_lossy(&ended.stderr);
        return Err(RigError(format!("{shown:#?}\n{said}")));
    }
    Ok(shown)
}
