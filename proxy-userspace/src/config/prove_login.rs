//! Logins of browsers as proven.

use std::{path::Path, time::Duration};

use gateway::{ClientSecret, KeyPlace, LoginRules, secret_file};
use policy::{Access, CanonicalHost, HostPattern, RequestPath, Route};
use toml::Spanned;

use super::{
    mistake::Prover,
    prove::STATE_DIRECTORY,
    value::{prove_duration, reject_repeated},
    written::Written,
    written_login::Login,
};

/// Where the issuer sends browsers back to, where nothing else is said.
const REDIRECT_PATH: &str = "/.portcullis/callback";

/// Where users log out, where nothing else is said.
const LOGOUT_PATH: &str = "/.portcullis/logout";

/// Longest name: it stands in cookies.
const LONGEST_NAME: usize = 32;

/// Longest session: nothing but its end takes its cookie back.
const LONGEST_SESSION: Duration = Duration::from_secs(30 * 86_400);

pub(super) fn logins(
    prover: &mut Prover<'_>,
    written: &Written,
    routes: &[Route],
) -> Vec<LoginRules> {
    let names = written.login.iter().map(|login| &login.name);
    reject_repeated(prover, "login", names);
    let folder = written.state.directory.as_deref();
    let folder = folder.unwrap_or_else(|| Path::new(STATE_DIRECTORY));
    let mut proven: Vec<LoginRules> = Vec::new();
    for (index, login) in written.login.iter().enumerate() {
        prove_issuer(prover, index, login, written);
        let hosts = hosts_of(login.name.as_ref(), routes);
        let Some(rules) = prove_login(prover, index, login, folder, hosts) else {
            continue;
        };
        let paths = |it: &LoginRules| [it.callback.clone(), it.logout.clone()];
        let meets = |other: &&LoginRules| {
            let shared = other.hosts.iter().any(|host| rules.hosts.contains(host));
            shared && paths(other).iter().any(|it| paths(&rules).contains(it))
        };
        if let Some(other) = proven.iter().find(meets) {
            let problem = format!(
                "login {:?} has the same redirect_path or logout_path on the same host",
                other.name
            );
            let mend = "give one of the two paths of its own";
            let key = format!("login[{index}].name");
            prover.reject(&key, login.name.span(), problem, mend);
        }
        proven.push(rules);
    }
    proven
}

/// Hosts of the routes that have this login.
fn hosts_of(name: &str, routes: &[Route]) -> Vec<CanonicalHost> {
    let mut hosts = Vec::new();
    for route in routes {
        let has_it = matches!(&route.access, Access::Token { login: Some(own), .. } if own == name);
        if let HostPattern::Exact(host) = &route.host
            && has_it
            && !hosts.contains(host)
        {
            hosts.push(host.clone());
        }
    }
    hosts
}

fn prove_issuer(prover: &mut Prover<'_>, index: usize, login: &Login, written: &Written) {
    let key = format!("login[{index}].issuer");
    let mut named = written.issuer.iter().filter(|it| it.name == login.issuer);
    let Some(issuer) = named.next() else {
        let mend = "name one of [[issuer]]";
        prover.reject(&key, login.issuer.span(), "no issuer has that name", mend);
        return;
    };
    let audiences = issuer.audiences.as_ref().iter();
    if audiences
        .into_iter()
        .any(|it| it == login.client_id.as_ref())
    {
        let problem = "is one of the issuer's audiences, so that what tells of a login would be a token for access";
        let mend = "leave it out of audiences";
        let key = format!("login[{index}].client_id");
        prover.reject(&key, login.client_id.span(), problem, mend);
    }
    let discovers = issuer.discovery.as_ref().is_some_and(|it| *it.as_ref());
    if !discovers {
        let problem = "where browsers log in is in this issuer's metadata, which isn't asked for";
        let mend = "give the issuer discovery = true in place of jwks_file or jwks_url";
        prover.reject(&key, login.issuer.span(), problem, mend);
    }
}

fn prove_login(
    prover: &mut Prover<'_>,
    index: usize,
    login: &Login,
    folder: &Path,
    hosts: Vec<CanonicalHost>,
) -> Option<LoginRules> {
    let key = |name: &str| format!("login[{index}].{name}");
    let name = login.name.as_ref();
    let legal = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'-';
    if name.is_empty() || name.len() > LONGEST_NAME || !name.bytes().all(legal) {
        let problem = "can't stand in the name of a cookie";
        let mend = format!("use up to {LONGEST_NAME} of a to z, 0 to 9 and -");
        prover.reject(&key("name"), login.name.span(), problem, mend);
    }
    if login.client_id.as_ref().is_empty() {
        let mend = "give the name by which the issuer knows the proxy";
        prover.reject(&key("client_id"), login.client_id.span(), "is empty", mend);
    }
    let callback = path(prover, &key("redirect_path"), login.redirect_path.as_ref());
    let logout = path(prover, &key("logout_path"), login.logout_path.as_ref());
    let after_logout = path(prover, &key("after_logout"), login.after_logout.as_ref());
    let (callback, logout) = (
        callback.or_else(|| RequestPath::parse(REDIRECT_PATH).ok())?,
        logout.or_else(|| RequestPath::parse(LOGOUT_PATH).ok())?,
    );
    if callback == logout {
        let problem = "redirect_path is the same";
        let mend = "give each a path of its own";
        let span = login.logout_path.as_ref().unwrap_or(&login.name).span();
        prover.reject(&key("logout_path"), span, problem, mend);
    }
    if let Some(after) = &after_logout
        && (*after == logout || *after == callback)
    {
        let problem = "is where users log in or out";
        let mend = "name a page that is neither";
        let span = login.after_logout.as_ref().unwrap_or(&login.name).span();
        prover.reject(&key("after_logout"), span, problem, mend);
    }
    let (attempt, lifetime, idle) = prove_times(prover, &key, login);
    Some(LoginRules {
        name: name.clone(),
        issuer: login.issuer.as_ref().clone(),
        client_id: login.client_id.as_ref().clone(),
        secret: prove_secret(prover, &key("client_secret_file"), login),
        scopes: prove_scopes(prover, &key("scopes"), login),
        callback,
        logout,
        after_logout,
        attempt,
        lifetime,
        idle,
        key: prove_key(prover, &key("key_file"), login, folder),
        hosts,
    })
}

/// How long an attempt may take, a session last, and go unused.
fn prove_times(
    prover: &mut Prover<'_>,
    key: &dyn Fn(&str) -> String,
    login: &Login,
) -> (Duration, Duration, Duration) {
    let mut prove = |name: &str, written: Option<&Spanned<String>>, default, most| {
        let proven = prove_duration(prover, &key(name), written, default);
        if let Some(written) = written
            && proven > most
        {
            let mend = format!("use at most \"{}\"", humantime::format_duration(most));
            prover.reject(&key(name), written.span(), "is too long", mend);
        }
        proven
    };
    let minutes = |count: u64| Duration::from_secs(count * 60);
    let attempt = prove("attempt", login.attempt.as_ref(), minutes(10), minutes(60));
    let lifetime = login.lifetime.as_ref();
    let lifetime = prove("lifetime", lifetime, minutes(8 * 60), LONGEST_SESSION);
    let idle = minutes(30).min(lifetime);
    let idle = prove("idle", login.idle.as_ref(), idle, lifetime);
    (attempt, lifetime, idle)
}

fn path(
    prover: &mut Prover<'_>,
    key: &str,
    written: Option<&Spanned<String>>,
) -> Option<RequestPath> {
    let written = written?;
    RequestPath::parse(written.as_ref())
        .map_err(|error| {
            let mend = "write it like \"/login/done\": absolute, without dot segments or query";
            prover.reject(key, written.span(), error, mend);
        })
        .ok()
}

fn prove_secret(prover: &mut Prover<'_>, key: &str, login: &Login) -> Option<ClientSecret> {
    let path = login.client_secret_file.as_ref()?;
    let secret = match secret_file::read(path.as_ref()) {
        Ok(secret) => secret,
        Err(error) => {
            let mend = error.mend();
            prover.reject(key, path.span(), error, mend);
            return None;
        }
    };
    // RFC 6749, A.2.
    let is_one =
        |text: &String| !text.is_empty() && text.bytes().all(|it| (b' '..=b'~').contains(&it));
    let secret = Some(secret.trim().to_owned()).filter(is_one);
    if secret.is_none() {
        let problem = "holds no secret";
        let mend = "write the secret that the issuer gave into it, in one line";
        prover.reject(key, path.span(), problem, mend);
    }
    secret.map(ClientSecret)
}

/// Letters of a scope (RFC 6749, 3.3).
fn is_scope(text: &str) -> bool {
    let legal = |byte: u8| matches!(byte, 0x21 | 0x23..=0x5b | 0x5d..=0x7e);
    !text.is_empty() && text.bytes().all(legal)
}

fn prove_scopes(prover: &mut Prover<'_>, key: &str, login: &Login) -> Vec<String> {
    let Some(scopes) = &login.scopes else {
        return vec!["openid".to_owned()];
    };
    for scope in scopes.as_ref().iter().filter(|it| !is_scope(it)) {
        let problem = format!("{scope:?} is no scope");
        let mend = "use letters without spaces, quotes or backslashes";
        prover.reject(key, scopes.span(), problem, mend);
    }
    if !scopes.as_ref().iter().any(|it| it == "openid") {
        let problem = "without openid the issuer doesn't say who has logged in";
        prover.reject(key, scopes.span(), problem, "add \"openid\"");
    }
    scopes.as_ref().clone()
}

fn prove_key(prover: &mut Prover<'_>, key: &str, login: &Login, folder: &Path) -> KeyPlace {
    let Some(path) = &login.key_file else {
        return KeyPlace::Kept(folder.join("login.key"));
    };
    let place = KeyPlace::Given(path.as_ref().clone());
    if let Err(error) = place.judge() {
        let mend = "make it with `openssl rand -base64 32`, and chmod 600";
        prover.reject(key, path.span(), error, mend);
    }
    place
}
