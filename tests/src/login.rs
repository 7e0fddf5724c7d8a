//! Browsers that log in: a proxy with a login, an issuer that answers what a test says, and a browser's cookies.

use std::{
    collections::BTreeMap,
    io::Write as _,
    net::SocketAddr,
    sync::{Arc, Mutex, PoisonError},
};

use serde_json::{Value, json};

use crate::{
    front::{Answer, Front},
    ground::{Ground, free_address},
    nginx::Nginx,
    pki::{TokenIssuer, unix_now},
    run::{RigError, Rigged},
    scene::HOST,
    scripted::{Scripted, Seen},
};

/// As what the proxy is registered with the issuer.
pub const CLIENT: &str = "portcullis web";
/// The secret of that registration.
pub const SECRET: &str = "it's a secret: 1+1";
/// Where the issuer sends browsers back to.
pub const CALLBACK: &str = "/.portcullis/callback";
/// Where users log out.
pub const LOGOUT: &str = "/.portcullis/logout";

/// A ground whose issuer `main` is at `url` and has a login `web` with these further lines, for a route `/pages` of
/// both its hosts.
///
/// # Errors
/// See [`Ground::alter`].
pub fn with_login(ground: Ground, url: &str, lines: &str) -> Rigged<Ground> {
    let secret = ground.scratch.write("client.secret", SECRET)?;
    std::fs::set_permissions(&secret, std::os::unix::fs::PermissionsExt::from_mode(0o600))?;
    let (secret, ca) = (secret.display(), ground.pki.ca.display().to_string());
    let keys = ground.keys_line();
    let discovery = format!(
        "discovery = true\njwks_ca = \"{ca}\"\njwks_allow_addresses = [\"127.0.0.1/32\", \"::1/128\"]"
    );
    let login = format!(
        "[[login]]\nname = \"web\"\nissuer = \"main\"\nclient_id = \"{CLIENT}\"\n\
         client_secret_file = \"{secret}\"\n{lines}\n\n"
    );
    let route = |name: &str, host: &str| {
        format!(
            "[[route]]\nname = \"{name}\"\nhost = \"{host}\"\npath = \"/pages\"\n\
             methods = [\"GET\", \"HEAD\", \"POST\"]\nupstream = \"app\"\nissuers = [\"main\"]\n\
             login = \"web\"\nwebsocket = true\n\n"
        )
    };
    let (pages, others) = (route("pages", HOST), route("others", "localhost"));
    ground
        .alter("\"https://issuer.example\"", &format!("\"{url}\""))?
        .alter(&keys, &discovery)?
        .alter("[admin]", &format!("{login}{pages}{others}[admin]"))
}

/// What the issuer answers to the next questions for tokens.
type Reply = Arc<Mutex<(String, String)>>;

/// A running proxy with a login, at an issuer that answers what a test says.
// Fields drop in their order: the proxy ends before its issuer.
pub struct LoginRig {
    /// The proxy.
    pub front: Front,
    tokens: Scripted,
    reply: Reply,
    url: String,
    _issuer: Nginx,
}

/// What a browser keeps.
#[derive(Clone, Debug, Default)]
pub struct Jar(pub BTreeMap<String, String>);

impl Jar {
    /// Keeps and forgets what an answer says.
    pub fn take(&mut self, answer: &Answer) {
        for field in set_cookies(answer) {
            let cookie = field.split(';').next().unwrap_or_default();
            let (name, value) = cookie.split_once('=').unwrap_or((cookie, ""));
            if field.contains("; Max-Age=0;") {
                self.0.remove(name);
            } else {
                self.0.insert(name.to_owned(), value.to_owned());
            }
        }
    }

    /// As a field.
    pub fn field(&self) -> String {
        let cookies = self.0.iter().map(|(name, value)| format!("{name}={value}"));
        format!("Cookie: {}", cookies.collect::<Vec<_>>().join("; "))
    }

    /// The names, in order.
    pub fn names(&self) -> Vec<&str> {
        self.0.keys().map(String::as_str).collect()
    }
}

/// All `Set-Cookie` fields of an answer.
pub fn set_cookies(answer: &Answer) -> Vec<&str> {
    let fields = answer.head.lines().filter_map(|line| line.split_once(':'));
    let cookies = fields.filter(|(name, _)| name.eq_ignore_ascii_case("set-cookie"));
    cookies.map(|(_, value)| value.trim()).collect()
}

/// A login that has begun.
#[derive(Clone, Debug)]
pub struct Begun {
    /// The answer that sends the browser to the issuer.
    pub answer: Answer,
    /// What the browser keeps.
    pub jar: Jar,
}

impl Begun {
    /// A parameter of the question to the issuer, as it is written.
    pub fn parameter(&self, name: &str) -> &str {
        let location = self.answer.field("location").unwrap_or_default();
        let query = location.split_once('?').map_or("", |(_, query)| query);
        let mut pairs = query.split('&').filter_map(|pair| pair.split_once('='));
        pairs
            .find(|(it, _)| *it == name)
            .map_or("", |(_, value)| value)
    }
}

impl LoginRig {
    /// With these further lines of the login.
    ///
    /// # Errors
    /// When any part doesn't start.
    pub fn open(lines: &str) -> Rigged<Self> {
        Self::open_on(lines, Ok)
    }

    /// As [`Self::open`], on a ground that is altered further.
    ///
    /// # Errors
    /// When any part doesn't start.
    pub fn open_on(lines: &str, alter: impl FnOnce(Ground) -> Rigged<Ground>) -> Rigged<Self> {
        let ground = Ground::set()?;
        let reply = Reply::default();
        let said = Arc::clone(&reply);
        let tokens = Scripted::start(move |_, stream| {
            let (head, body) = said.lock().unwrap_or_else(PoisonError::into_inner).clone();
            let length = body.len();
            write!(
                stream,
                "HTTP/1.1 {head}\r\nContent-Length: {length}\r\nConnection: close\r\n\r\n{body}"
            )?;
            Ok(false)
        })?;
        let address = free_address()?;
        let url = format!("https://127.0.0.1:{}", address.port());
        let issuer = issuer(&ground, address, &url, tokens.address())?;
        let front = alter(with_login(ground, &url, lines)?)?.start()?;
        Ok(Self {
            front,
            tokens,
            reply,
            url,
            _issuer: issuer,
        })
    }

    /// The issuer.
    pub fn issuer(&self) -> &str {
        &self.url
    }

    /// The issuer as it is written in a query.
    pub fn issuer_in_query(&self) -> String {
        self.url.replace(':', "%3A").replace('/', "%2F")
    }

    /// What the issuer was asked for tokens.
    pub fn asked(&self) -> Vec<Seen> {
        self.tokens.seen()
    }

    /// From now on the issuer answers this: status, perhaps with fields, and body.
    pub fn reply(&self, head: &str, body: &Value) {
        let fields = format!("{head}\r\nContent-Type: application/json");
        let mut reply = self.reply.lock().unwrap_or_else(PoisonError::into_inner);
        *reply = (fields, body.to_string());
    }

    /// What a browser gets that navigates to a path.
    ///
    /// # Errors
    /// When curl can't be run.
    pub fn navigate(&self, path: &str, jar: &Jar) -> Rigged<Answer> {
        self.send(path, jar, &["-H", "Accept: text/html"])
    }

    /// What is got with these cookies and arguments.
    ///
    /// # Errors
    /// When curl can't be run.
    pub fn send(&self, path: &str, jar: &Jar, args: &[&str]) -> Rigged<Answer> {
        let cookies = jar.field();
        let mut all = vec!["-H", cookies.as_str()];
        all.extend(args);
        self.front.curl(path, &all)
    }

    /// A browser is sent to the issuer.
    ///
    /// # Errors
    /// When it isn't.
    pub fn begin(&self, path: &str) -> Rigged<Begun> {
        let mut jar = Jar::default();
        let answer = self.navigate(path, &jar)?;
        if answer.status != 302 {
            let reason = self.reason(&answer)?;
            return Err(RigError(format!("no login begins, {reason}: {answer:?}")));
        }
        jar.take(&answer);
        Ok(Begun { answer, jar })
    }

    /// The claims of a good ID token for a login that has begun.
    pub fn claims(&self, begun: &Begun) -> Value {
        json!({
            "iss": self.url, "aud": CLIENT, "sub": "alice", "nonce": begun.parameter("nonce"),
            "iat": unix_now(), "exp": unix_now() + 600,
        })
    }

    /// An ID token of these claims, signed well.
    ///
    /// # Errors
    /// When it can't be signed.
    pub fn sign(&self, claims: &Value) -> Rigged<String> {
        self.signer().sign(claims)
    }

    fn signer(&self) -> &TokenIssuer {
        &self.front.ground.issuer
    }

    /// The issuer gives tokens from now on, with an ID token of these claims and these further members.
    ///
    /// # Errors
    /// When it can't be signed.
    pub fn grant(&self, claims: &Value, more: &Value) -> Rigged<()> {
        let mut body = json!({
            "access_token": "an access token", "token_type": "Bearer", "id_token": self.sign(claims)?,
        });
        for (name, value) in more.as_object().into_iter().flatten() {
            body[name] = value.clone();
        }
        self.reply("200 OK", &body);
        Ok(())
    }

    /// The query of a good answer to a login that has begun.
    pub fn answer_to(&self, begun: &Begun) -> String {
        let (state, issuer) = (begun.parameter("state"), self.issuer_in_query());
        format!("code=c-1&state={state}&iss={issuer}")
    }

    /// What a browser gets that comes back from the issuer.
    ///
    /// # Errors
    /// When curl can't be run.
    pub fn come_back(&self, query: &str, jar: &Jar) -> Rigged<Answer> {
        self.navigate(&format!("{CALLBACK}?{query}"), jar)
    }

    /// What a browser keeps that has logged in, with these further members of the issuer's answer.
    ///
    /// # Errors
    /// When it isn't let in.
    pub fn enter(&self, more: &Value) -> Rigged<Jar> {
        self.enter_with(&json!({}), more).map(|(_, jar)| jar)
    }

    /// As [`Self::enter`], with further claims; and how it began.
    ///
    /// # Errors
    /// When it isn't let in.
    pub fn enter_with(&self, claims: &Value, more: &Value) -> Rigged<(Begun, Jar)> {
        let begun = self.begin("/pages/1")?;
        let mut all = self.claims(&begun);
        for (name, value) in claims.as_object().into_iter().flatten() {
            all[name] = value.clone();
        }
        self.grant(&all, more)?;
        let mut jar = begun.jar.clone();
        let answer = self.come_back(&self.answer_to(&begun), &jar)?;
        if answer.status != 303 {
            return Err(RigError(format!("not let in: {answer:?}")));
        }
        jar.take(&answer);
        Ok((begun, jar))
    }

    /// The same with another daemon, after a crash of this one.
    ///
    /// # Errors
    /// When it doesn't start.
    pub fn restarted(self) -> Rigged<Self> {
        let front = self.front.crash()?.start()?;
        Ok(Self { front, ..self })
    }

    /// Why an answer is as it is, by the audit trail.
    ///
    /// # Errors
    /// When it isn't there in time.
    pub fn reason(&self, answer: &Answer) -> Rigged<String> {
        let record = self.front.record_of(answer.field("x-request-id"))?;
        Ok(record["reason"].as_str().unwrap_or_default().to_owned())
    }
}

/// Over HTTPS: its metadata, its keys, and what the test says of tokens.
fn issuer(ground: &Ground, address: SocketAddr, url: &str, tokens: SocketAddr) -> Rigged<Nginx> {
    let metadata = json!({
        "issuer": url, "jwks_uri": format!("{url}/jwks.json"),
        "authorization_endpoint": format!("{url}/auth?tenant=a"), "token_endpoint": format!("{url}/token"),
        "end_session_endpoint": format!("{url}/end"),
        "authorization_response_iss_parameter_supported": true,
    });
    ground
        .scratch
        .write("metadata.json", metadata.to_string())?;
    let at = ground.scratch.path().display();
    let server = format!(
        "listen {address} ssl; ssl_certificate {at}/server.pem; ssl_certificate_key {at}/server.key; root {at};
    location = /.well-known/openid-configuration {{ alias {at}/metadata.json; }}
    location = /token {{ proxy_pass http://{tokens}; }}"
    );
    let probe = format!("{url}/jwks.json");
    Nginx::serve(&ground.scratch, "issuer", &server, &["-k", &probe])
}
