//! Tokens on the command line: why one is accepted or refused, those that are taken back, and ones for
//! development.

mod revoke;

use std::{
    error::Error,
    fmt::Write as _,
    fs::{self, File},
    io::{self, Read as _, Write as _},
    os::unix::fs::{OpenOptionsExt as _, PermissionsExt as _},
    path::{Path, PathBuf},
    process::ExitCode,
    sync::Arc,
    time::{SystemTime, UNIX_EPOCH},
};

use aws_lc_rs::{
    rand::SystemRandom,
    signature::{ECDSA_P256_SHA256_FIXED_SIGNING, EcdsaKeyPair, KeyPair as _},
};
use base64::{Engine as _, engine::general_purpose::URL_SAFE_NO_PAD};
use gateway::{Algorithm, Examined, Issuer, KeySet, examine};
use policy::{Access, Binding, Principal, ProvenBy, Route};
use serde_json::{Value, json};

use crate::{
    admin::Request,
    cli::{Mint, Output, Token},
    config::{self, Config},
    tell,
};

/// More than any token that is read further.
const MOST: u64 = 64 * 1024;

pub(crate) fn act(token: Token) -> Result<ExitCode, Box<dyn Error>> {
    match token {
        Token::Inspect {
            token,
            config,
            fetch,
            output,
        } => inspect(&token, &config, fetch, output),
        Token::Revoke(order) => revoke::revoke(order),
        Token::Unrevoke { ids, daemon } => tell(&daemon, &Request::UnrevokeTokens { ids }),
        Token::List { about, jti, daemon } => {
            let about = revoke::which(about, jti, None);
            tell(&daemon, &Request::Revocations { about, known: None })
        }
        Token::Mint(order) => mint(&order),
    }
}

/// A token as it is given; `-` for standard input.
fn read_token(given: &str) -> io::Result<String> {
    let mut text = String::new();
    match given {
        "-" => io::stdin().take(MOST).read_to_string(&mut text).map(drop)?,
        given => given.clone_into(&mut text),
    }
    Ok(text.trim_end_matches(['\n', '\r']).to_owned())
}

fn inspect(
    token: &str,
    config: &Path,
    fetch: bool,
    output: Output,
) -> Result<ExitCode, Box<dyn Error>> {
    let token = read_token(token)?;
    let token = token.as_str();
    let Config {
        service: config,
        admin_socket,
        ..
    } = config::load(config)?;
    let without_keys = load_keys(&config.issuers, fetch)?;
    let revoked = revoke::in_force(&admin_socket);
    let examined = examine(token, &config.issuers, revoked.as_ref().ok());
    if examined.outcome.is_err() {
        for introspector in &config.introspectors {
            let name = &introspector.rules().name;
            eprintln!(
                "portcullis: issuer {name:?} is asked about its tokens, and isn't asked here: this may be one of them"
            );
        }
    }
    let routes = config.routes.routes();
    let text = if output.json {
        format!("{}\n", as_json(&examined, routes))
    } else {
        let mut text = as_text(&examined, routes, &without_keys);
        if let Err(why) = &revoked {
            let _ = writeln!(text, "whether it is revoked isn't known: {why}");
        }
        text
    };
    io::stdout().write_all(text.as_bytes())?;
    Ok(match examined.outcome {
        Ok(_) => ExitCode::SUCCESS,
        Err(_) => ExitCode::FAILURE,
    })
}

/// Loads the keys; names the issuers that have none, and why.
fn load_keys(
    issuers: &[Arc<Issuer>],
    fetch: bool,
) -> Result<Vec<(String, String)>, Box<dyn Error>> {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()?;
    let mut without = Vec::new();
    for issuer in issuers {
        let name = issuer.rules().name.clone();
        if issuer.keys().are_remote() && !fetch {
            without.push((name, "they are at a URL: --fetch asks there".to_owned()));
        } else if let Err(error) = runtime.block_on(issuer.keys().refresh()) {
            without.push((name, error.to_string()));
        }
    }
    Ok(without)
}

/// What keeps a token from a route.
#[derive(Debug, PartialEq, Eq)]
enum Kept {
    /// It isn't bound as the route asks.
    Unbound,
    /// These scopes are missing.
    Scopes(Vec<String>),
}

/// What a route says to the holder, where it accepts his issuer at all.
fn verdict(route: &Route, holder: &Principal) -> Option<Result<(), Kept>> {
    let Access::Token {
        issuers,
        scopes,
        holder: asked,
        ..
    } = &route.access
    else {
        return None;
    };
    if !issuers.contains(&holder.issuer) {
        return None;
    }
    if let ProvenBy::Token(binding) = holder.proven_by
        && !asked.is_met_by(binding)
    {
        return Some(Err(Kept::Unbound));
    }
    let missing: Vec<String> = scopes.difference(&holder.scopes).cloned().collect();
    Some(if missing.is_empty() {
        Ok(())
    } else {
        Err(Kept::Scopes(missing))
    })
}

/// What its holder has to prove besides.
fn needed_with(holder: &Principal) -> Option<&'static str> {
    let ProvenBy::Token(Binding { key, certificate }) = holder.proven_by else {
        return None;
    };
    match (key, certificate) {
        (false, false) => None,
        (true, false) => Some(", with a DPoP proof by its key"),
        (false, true) => Some(", over TLS with its certificate"),
        (true, true) => Some(", with a DPoP proof by its key and over TLS with its certificate"),
    }
}

fn as_text(examined: &Examined, routes: &[Route], without_keys: &[(String, String)]) -> String {
    let mut lines: Vec<String> = without_keys
        .iter()
        .map(|(issuer, why)| {
            format!("note     the keys of issuer {issuer:?} are not loaded: {why}")
        })
        .collect();
    for (step, found) in &examined.passed.0 {
        lines.push(format!("ok       {step:<10} {found}"));
    }
    match &examined.outcome {
        Err(fault) => {
            let detail = fault.detail().map(|detail| format!(": {detail}"));
            lines.push(format!("REFUSED  {fault}{}", detail.unwrap_or_default()));
        }
        Ok(holder) => {
            let with = needed_with(holder).unwrap_or_default();
            lines.push(format!(
                "ACCEPTED by its issuer{with}; of the routes that accept that issuer:"
            ));
            for route in routes {
                match verdict(route, holder) {
                    None => {}
                    Some(Ok(())) => lines.push(format!("  {}: let in", route.name)),
                    Some(Err(Kept::Unbound)) => lines.push(format!(
                        "  {}: refused, token_unbound: it asks for tokens that are bound",
                        route.name
                    )),
                    Some(Err(Kept::Scopes(missing))) => {
                        let missing = missing.join(" ");
                        lines.push(format!(
                            "  {}: refused, scope_missing: {missing}",
                            route.name
                        ));
                    }
                }
            }
        }
    }
    lines.join("\n") + "\n"
}

fn as_json(examined: &Examined, routes: &[Route]) -> Value {
    let steps: Vec<_> = examined
        .passed
        .0
        .iter()
        .map(|(step, found)| json!({"step": step, "found": found}))
        .collect();
    match &examined.outcome {
        Err(fault) => json!({
            "accepted": false,
            "reason": fault.to_string(),
            "detail": fault.detail(),
            "passed": steps,
        }),
        Ok(holder) => {
            let (mut missing_by_route, mut unbound_on) = (serde_json::Map::new(), Vec::new());
            for route in routes {
                let missing = match verdict(route, holder) {
                    None => continue,
                    Some(Ok(())) => Vec::new(),
                    Some(Err(Kept::Scopes(missing))) => missing,
                    Some(Err(Kept::Unbound)) => {
                        unbound_on.push(route.name.clone());
                        continue;
                    }
                };
                missing_by_route.insert(route.name.clone(), json!(missing));
            }
            json!({
                "accepted": true,
                "issuer": holder.issuer,
                "subject": holder.subject,
                "proven_by": holder.proven_by.as_str(),
                "missing_scopes_by_route": missing_by_route,
                "unbound_on_routes": unbound_on,
                "passed": steps,
            })
        }
    }
}

fn mint(order: &Mint) -> Result<ExitCode, Box<dyn Error>> {
    let config = config::load(&order.config)?.service;
    if order.generate {
        generate(&order.key)?;
    }
    let key = read_key(&order.key)?;
    let jwks = jwks_of(&key);
    refuse_trusted(&jwks, &config.issuers)?;
    let now = SystemTime::now().duration_since(UNIX_EPOCH)?.as_secs();
    let header = json!({"alg": "ES256", "typ": "JWT", "kid": KEY_ID});
    let mut claims = json!({
        "iss": order.issuer, "aud": order.audience, "sub": order.subject, "scope": order.scope,
        "iat": now, "exp": now + order.ttl.as_secs(),
    });
    for (name, thumbprint) in [("jkt", &order.jkt), ("x5t#S256", &order.x5t)] {
        if let Some(thumbprint) = thumbprint {
            claims["cnf"][name] = json!(thumbprint);
        }
    }
    let part = |value: &Value| URL_SAFE_NO_PAD.encode(value.to_string());
    let message = format!("{}.{}", part(&header), part(&claims));
    let signature = key.sign(&SystemRandom::new(), message.as_bytes())?;
    eprintln!(
        "portcullis: FOR DEVELOPMENT ONLY: whoever can read {} issues such tokens",
        order.key.display()
    );
    println!("{message}.{}", URL_SAFE_NO_PAD.encode(signature.as_ref()));
    Ok(ExitCode::SUCCESS)
}

/// Says in every token what it is.
const KEY_ID: &str = "development";

fn jwks_path(key: &Path) -> PathBuf {
    let mut name = key.as_os_str().to_owned();
    name.push(".jwks.json");
    name.into()
}

fn generate(path: &Path) -> Result<(), Box<dyn Error>> {
    let pkcs8 =
        EcdsaKeyPair::generate_pkcs8(&ECDSA_P256_SHA256_FIXED_SIGNING, &SystemRandom::new())?;
    let create = |path: &Path, mode: u32, bytes: &[u8]| -> io::Result<()> {
        let named =
            |error: io::Error| io::Error::new(error.kind(), format!("{}: {error}", path.display()));
        let mut file = fs::OpenOptions::new()
            .write(true)
            .create_new(true)
            .mode(mode)
            .open(path)
            .map_err(named)?;
        file.write_all(bytes).map_err(named)
    };
    create(path, 0o600, pkcs8.as_ref())?;
    let key = read_key(path)?;
    create(&jwks_path(path), 0o644, jwks_of(&key).as_bytes())?;
    Ok(())
}

fn read_key(path: &Path) -> Result<EcdsaKeyPair, Box<dyn Error>> {
    let named = |error: io::Error| format!("{}: {error}; --generate makes one", path.display());
    let mut file = File::open(path).map_err(named)?;
    let mode = file.metadata()?.permissions().mode() & 0o777;
    if mode & 0o077 != 0 {
        let path = path.display();
        return Err(
            format!("{path}: its mode {mode:03o} lets others read it; chmod 600 it").into(),
        );
    }
    let mut bytes = Vec::new();
    file.read_to_end(&mut bytes)?;
    EcdsaKeyPair::from_pkcs8(&ECDSA_P256_SHA256_FIXED_SIGNING, &bytes).map_err(|_| {
        let path = path.display();
        format!("{path}: no P-256 key in PKCS #8 (DER); --generate makes one").into()
    })
}

fn jwks_of(key: &EcdsaKeyPair) -> String {
    let point = key.public_key().as_ref();
    // Uncompressed: 4, then both coordinates.
    let (x, y) = point.get(1..).unwrap_or_default().split_at(point.len() / 2);
    let [x, y] = [x, y].map(|it| URL_SAFE_NO_PAD.encode(it));
    let key = json!({"kty": "EC", "crv": "P-256", "kid": KEY_ID, "alg": "ES256", "use": "sig", "x": x, "y": y});
    json!({ "keys": [key] }).to_string()
}

/// A key that lets people in must not sign whatever is typed, unless it is there for that. Keys that can't be
/// had may be this one.
fn refuse_trusted(jwks: &str, issuers: &[Arc<Issuer>]) -> Result<(), Box<dyn Error>> {
    let own = KeySet::parse(jwks.as_bytes(), &[Algorithm::ES256])?;
    let guarded: Vec<_> = issuers
        .iter()
        .filter(|issuer| !issuer.rules().development)
        .cloned()
        .collect();
    if let Some((issuer, why)) = load_keys(&guarded, true)?.first() {
        return Err(format!(
            "whether issuer {issuer:?} trusts this key can't be known: {why}; mend that, or mark it \
             development = true"
        )
        .into());
    }
    let trusts = |issuer: &&Arc<Issuer>| issuer.keys().current().shares_a_key_with(&own);
    if let Some(issuer) = guarded.iter().find(trusts) {
        let name = &issuer.rules().name;
        return Err(format!(
            "issuer {name:?} trusts this key and isn't for development; use another key, or mark it \
             development = true"
        )
        .into());
    }
    Ok(())
}
