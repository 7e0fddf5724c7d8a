//! The proxy alone, running: real curl and openssl in front of it, its answers, its audit trail.

use std::{
    fs,
    io::{Read as _, Write as _},
    net::SocketAddr,
    path::Path,
    process::{Command, ExitStatus, Stdio},
    time::Duration,
};

use serde_json::Value;

use crate::{
    daemon::Daemon,
    ground::Ground,
    nginx::PROBE,
    run::{RigError, Rigged, eventually, output},
    scene::HOST,
    scratch::unique_name,
};

/// How long the audit trail may take to show something.
const PATIENCE: Duration = Duration::from_secs(10);
/// Seconds after which a client that nobody answers gives up.
const CLIENT_GIVES_UP: &str = "8";

/// A running proxy.
// Fields drop in their order: the daemon ends before what it uses.
pub struct Front {
    /// The daemon.
    pub daemon: Daemon,
    /// Where it listens.
    pub address: SocketAddr,
    /// All the rest.
    pub ground: Ground,
}

/// What curl got.
#[derive(Clone, Debug)]
pub struct Answer {
    /// HTTP status, 0 when there was no answer.
    pub status: u16,
    /// `1.1` or `2`.
    pub version: String,
    /// The header section as it came.
    pub head: String,
    /// Body.
    pub body: Vec<u8>,
}

impl Answer {
    /// The first field of this name.
    pub fn field(&self, name: &str) -> Option<&str> {
        field(&self.head, name)
    }

    /// Of curl's words for status and version, and the files that it wrote.
    fn read(facts: &str, head: &Path, body: &Path) -> Self {
        let (status, version) = facts.split_once(' ').unwrap_or((facts, ""));
        Self {
            status: status.parse().unwrap_or(0),
            version: version.to_owned(),
            head: fs::read_to_string(head).unwrap_or_default(),
            body: fs::read(body).unwrap_or_default(),
        }
    }

    /// What nginx says that it was told under this name.
    pub fn told(&self, name: &str) -> String {
        let text = String::from_utf8_lossy(&self.body);
        let begin = format!("{name}=");
        let value = text.lines().find_map(|line| line.strip_prefix(&begin));
        value.unwrap_or("(not said)").to_owned()
    }
}

/// What came back for exact bytes.
#[derive(Clone, Debug)]
pub struct RawAnswer {
    /// Everything that was said before the end.
    pub text: String,
    /// Whether the proxy closed the connection; otherwise the client gave up waiting.
    pub closed: bool,
}

impl RawAnswer {
    /// Status of the first answer, 0 when there was none.
    pub fn status(&self) -> u16 {
        let code = self
            .text
            .split(' ')
            .nth(1)
            .and_then(|code| code.parse().ok());
        code.unwrap_or(0)
    }

    /// The decision id of the first answer.
    pub fn decision(&self) -> Option<&str> {
        field(&self.text, "x-request-id")
    }
}

/// The first field of this name in a header section.
fn field<'h>(head: &'h str, name: &str) -> Option<&'h str> {
    head.lines().find_map(|line| {
        let (found, value) = line.split_once(':')?;
        found.eq_ignore_ascii_case(name).then_some(value.trim())
    })
}

impl Front {
    /// A running proxy as [`Ground::set`] makes it.
    ///
    /// # Errors
    /// When it can't be made or doesn't start.
    pub fn open() -> Rigged<Self> {
        Ground::set()?.start()
    }

    /// One whose lists alone are of interest; see [`Ground::start_secluded`].
    ///
    /// # Errors
    /// As [`Self::open`].
    pub fn open_secluded() -> Rigged<Self> {
        Ground::set()?.start_secluded()
    }

    /// A good token.
    ///
    /// # Errors
    /// When it can't be signed.
    pub fn token(&self, scopes: &str) -> Rigged<String> {
        self.ground.issuer.token("alice", scopes)
    }

    /// A curl command that trusts the proxy, with the URL of `path` still missing.
    pub fn curl_command(&self) -> Command {
        let port = self.address.port();
        let mut curl = Command::new("curl");
        curl.args(["-s", "--max-time", CLIENT_GIVES_UP, "--path-as-is"])
            .arg("--cacert")
            .arg(&self.ground.pki.ca)
            .arg("--resolve")
            .arg(format!("{HOST}:{port}:127.0.0.1"));
        curl
    }

    /// The URL of a path.
    pub fn url(&self, path: &str) -> String {
        format!("https://{HOST}:{}{path}", self.address.port())
    }

    /// What curl gets with these further arguments.
    ///
    /// # Errors
    /// When curl can't be run; that nobody answered is status 0.
    pub fn curl(&self, path: &str, args: &[&str]) -> Rigged<Answer> {
        self.curl_at(&self.url(path), args)
    }

    /// What curl gets at any URL.
    ///
    /// # Errors
    /// See [`Self::curl`].
    pub fn curl_at(&self, url: &str, args: &[&str]) -> Rigged<Answer> {
        let name = unique_name();
        let head = self.ground.scratch.join(&format!("{name}.head"));
        let body = self.ground.scratch.join(&format!("{name}.body"));
        let mut curl = self.curl_command();
        curl.arg("-D").arg(&head).arg("-o").arg(&body);
        curl.args(["-w", "%{http_code} %{http_version}"]).args(args);
        let printed = output(curl.arg(url))?.stdout;
        let facts = String::from_utf8_lossy(&printed).into_owned();
        Ok(Answer::read(&facts, &head, &body))
    }

    /// What curl gets with a token.
    ///
    /// # Errors
    /// See [`Self::curl`].
    pub fn get(&self, path: &str, token: &str) -> Rigged<Answer> {
        self.curl(path, &["-H", &format!("Authorization: Bearer {token}")])
    }

    /// What curl gets for each path with its token, one after the other over one connection.
    ///
    /// # Errors
    /// When curl can't be run, or ends before the last.
    pub fn get_each(&self, asked: &[(String, &str)]) -> Rigged<Vec<Answer>> {
        let name = unique_name();
        let [head, body] = ["head", "body"].map(|part| {
            let name = format!("{name}.{part}");
            move |at: usize| self.ground.scratch.join(&format!("{name}.{at}"))
        });
        let port = self.address.port();
        // What one transfer is told isn't known to the next.
        let told = asked.iter().enumerate().map(|(at, (path, token))| {
            format!(
                "url = \"{}\"\nheader = \"Authorization: Bearer {token}\"\ndump-header = \"{}\"\noutput = \"{}\"\n\
                 cacert = \"{}\"\nresolve = \"{HOST}:{port}:127.0.0.1\"\nmax-time = {CLIENT_GIVES_UP}\nsilent\n\
                 write-out = \"%{{http_code}} %{{http_version}}\\n\"\n",
                self.url(path),
                head(at).display(),
                body(at).display(),
                self.ground.pki.ca.display(),
            )
        });
        let told = told.collect::<Vec<_>>().join("next\n");
        let config = self.ground.scratch.write(&format!("{name}.curl"), told)?;
        let printed = output(Command::new("curl").arg("--config").arg(config))?.stdout;
        let facts = String::from_utf8_lossy(&printed).into_owned();
        let answers: Vec<Answer> = facts
            .lines()
            .enumerate()
            .map(|(at, facts)| Answer::read(facts, &head(at), &body(at)))
            .collect();
        if answers.len() != asked.len() {
            let (so_many, of) = (answers.len(), asked.len());
            return Err(RigError(format!("curl asked {so_many} of {of} times")));
        }
        Ok(answers)
    }

    /// `openssl s_client` towards the proxy, at most eight seconds.
    pub fn s_client(&self, args: &[&str]) -> Command {
        let mut client = Command::new("timeout");
        client
            .args([CLIENT_GIVES_UP, "openssl", "s_client", "-connect"])
            .arg(self.address.to_string())
            .args(["-servername", HOST, "-verify_return_error", "-CAfile"])
            .arg(&self.ground.pki.ca)
            .args(args);
        client
    }

    /// What comes back for exactly these bytes over TLS.
    ///
    /// # Errors
    /// When openssl can't be run.
    pub fn raw(&self, bytes: &[u8]) -> Rigged<RawAnswer> {
        self.raw_with(&["-quiet", "-alpn", "http/1.1"], bytes)
    }

    /// [`Self::raw`] with `s_client` arguments of one's own.
    ///
    /// # Errors
    /// When openssl can't be run.
    pub fn raw_with(&self, args: &[&str], bytes: &[u8]) -> Rigged<RawAnswer> {
        let mut child = self
            .s_client(args)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .spawn()?;
        // Held open until the end: its end would be the client's.
        let mut stdin = child.stdin.take();
        if let Some(stdin) = &mut stdin {
            // A proxy that hangs up on the first bytes of many is within its rights.
            let _ = stdin.write_all(bytes);
        }
        let mut said = Vec::new();
        if let Some(stdout) = &mut child.stdout {
            stdout.read_to_end(&mut said)?;
        }
        let status = child.wait()?;
        Ok(RawAnswer {
            text: String::from_utf8_lossy(&said).into_owned(),
            closed: status.code() != Some(124),
        })
    }

    /// The audit trail so far, a JSON object a line.
    pub fn audit(&self) -> Vec<Value> {
        let text = fs::read_to_string(self.ground.scratch.join("audit.jsonl")).unwrap_or_default();
        let lines = text.lines();
        lines.filter_map(|l| serde_json::from_str(l).ok()).collect()
    }

    /// The first record that `fits`, as soon as it is there.
    ///
    /// # Errors
    /// When it isn't in time; with the whole trail.
    pub fn audited(&self, what: &str, fits: impl Fn(&Value) -> bool) -> Rigged<Value> {
        eventually(what, PATIENCE, || self.audit().into_iter().find(&fits))
            .map_err(|error| RigError(format!("{error}; the trail: {:#?}", self.audit())))
    }

    /// The record of the decision that an answer names.
    ///
    /// # Errors
    /// When it isn't there in time, or the answer names none.
    pub fn record_of(&self, decision: Option<&str>) -> Rigged<Value> {
        let id = decision.ok_or_else(|| RigError("the answer has no x-request-id".to_owned()))?;
        self.audited(&format!("a record of {id}"), |line| {
            line["decision_id"] == id
        })
    }

    /// Request lines that nginx has logged, up to this moment and in order.
    ///
    /// # Errors
    /// When the proxy serves no more.
    pub fn heard(&self) -> Rigged<Vec<String>> {
        // nginx logs a request when it is over: what came before this one is in the log with it.
        let last = format!("/public?{}", unique_name());
        self.curl(&last, &[])?;
        let log = eventually("nginx logs the last request", PATIENCE, || {
            Some(self.ground.nginx.seen()).filter(|log| log.contains(&last))
        })?;
        let lines = log.lines().filter_map(|line| line.split('"').nth(1));
        let own = |line: &&str| line.contains(PROBE) || line.contains("/public?pc");
        Ok(lines.filter(|line| !own(line)).map(str::to_owned).collect())
    }

    /// Ends the daemon as a crash would, and leaves the rest.
    ///
    /// # Errors
    /// When it can't be killed.
    pub fn crash(self) -> Rigged<Ground> {
        self.daemon.kill()?;
        Ok(self.ground)
    }

    /// Ends the daemon with SIGTERM, and leaves the rest.
    ///
    /// # Errors
    /// When it doesn't end in time.
    pub fn stop(self) -> Rigged<(ExitStatus, Ground)> {
        Ok((self.daemon.stop()?, self.ground))
    }
}
