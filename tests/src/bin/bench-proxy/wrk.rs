//! HTTP/1.1 with wrk: 64 connections, each with the next request as soon as it has its answer.

use std::{
    path::{Path, PathBuf},
    process::{Command, Stdio},
    thread,
};

use portcullis_tests::{
    run::{RigError, Rigged},
    scene::HOST,
};

use crate::{Load, Scale, spent::Spent, stage::Stage, subject::Subject};

/// Connections.
const CONNECTIONS: u64 = 64;

/// Tokens take turns; what came of it is told in one line.
const SCRIPT: &str = r#"
local requests, turn = {}, 0
function init(arguments)
  for token in io.lines(arguments[1]) do
    local fields = { Host = arguments[2], Authorization = "Bearer " .. token }
    requests[#requests + 1] = wrk.format("GET", arguments[3], fields)
  end
end
function request()
  turn = turn % #requests + 1
  return requests[turn]
end
function done(summary)
  local e = summary.errors
  io.write(string.format("told %d %d\n", summary.requests,
    e.connect + e.read + e.write + e.status + e.timeout))
end
"#;

/// What our own client offers, for OpenSSL.
const TLS: &str = "openssl_conf = all
[all]
ssl_conf = ssl
[ssl]
system_default = client
[client]
MinProtocol = TLSv1.3
Ciphersuites = TLS_AES_128_GCM_SHA256
Groups = X25519
";

/// wrk and what it reads.
pub(crate) struct Wrk {
    script: PathBuf,
    tokens: PathBuf,
    tls: PathBuf,
}

impl Wrk {
    /// Writes what it reads.
    pub(crate) fn new(stage: &Stage) -> Rigged<Self> {
        let scratch = &stage.scratch;
        Ok(Self {
            script: scratch.write("tokens.lua", SCRIPT)?,
            tokens: scratch.write("tokens.txt", stage.tokens.good.join("\n"))?,
            tls: scratch.write("openssl.cnf", TLS)?,
        })
    }

    /// Loads a proxy, and measures it from when the load is steady on.
    pub(crate) fn load(&self, subject: &Subject, stage: &Stage, scale: Scale) -> Rigged<Load> {
        // In whole seconds, which is what it takes.
        let seconds = (scale.warm + scale.h1).as_secs() + 1;
        let mut command = Command::new("wrk");
        command
            .env("OPENSSL_CONF", &self.tls)
            .args(["-t1", &format!("-c{CONNECTIONS}"), &format!("-d{seconds}s")])
            .arg("-s")
            .arg(&self.script)
            // The certificate is good for this name; the API's own doesn't resolve.
            .arg(format!("https://localhost:{}/", subject.address.port()))
            .arg("--")
            .arg(&self.tokens as &Path)
            .args([HOST, "/orders"]);
        let child = command.stdout(Stdio::piped()).spawn()?;
        thread::sleep(scale.warm);
        let spent = Spent::within(subject, &stage.upstream, scale.h1)?;
        let output = child.wait_with_output()?;
        let printed = String::from_utf8_lossy(&output.stdout);
        let (done, failed) =
            told(&printed).ok_or_else(|| RigError(format!("wrk says: {printed}")))?;
        if failed > 0 || done == 0 {
            return Err(RigError(format!("{failed} requests failed: {printed}")));
        }
        // It leaves in the middle of a request on each connection.
        Ok(Load {
            spent,
            requests: done..=done + CONNECTIONS,
        })
    }
}

/// Requests that were answered, and whatever went wrong.
fn told(printed: &str) -> Option<(u64, u64)> {
    let line = printed
        .lines()
        .find_map(|line| line.strip_prefix("told "))?;
    let (done, failed) = line.split_once(' ')?;
    Some((done.parse().ok()?, failed.parse().ok()?))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn finds_what_the_script_tells() {
        let printed = "Running 1s test\n  1 threads\nRequests/sec:  4\ntold 812 3\n";
        assert_eq!(told(printed), Some((812, 3)));
        assert_eq!(told("Requests/sec:  4\n"), None);
    }
}
