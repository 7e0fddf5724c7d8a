//! Tokens that are taken back.

use std::{
    error::Error,
    path::Path,
    process::ExitCode,
    time::{SystemTime, UNIX_EPOCH},
};

use base64::{Engine as _, engine::general_purpose::URL_SAFE_NO_PAD};
use gateway::Revocations;
use serde_json::Value;

use super::read_token;
use crate::{
    admin::{Reply, Request, ask},
    cli::{About, Revoke},
    millis,
    revocations::Which,
    tell,
};

/// Clocks and leeways are left this many seconds after a token's end.
const AFTER_END: u64 = 3_600;

pub(super) fn which(about: About, token_id: Option<String>, issued_before: Option<u64>) -> Which {
    Which {
        issuer: about.issuer,
        token_id,
        subject: about.subject,
        key_id: about.key_id,
        issued_before,
    }
}

pub(super) fn revoke(order: Revoke) -> Result<ExitCode, Box<dyn Error>> {
    let Revoke {
        about,
        jti,
        issued_before,
        token,
        length,
        reason,
        daemon,
    } = order;
    let ending = length.and_then(|length| SystemTime::now().checked_add(length));
    let until_ms = ending.and_then(|it| it.duration_since(UNIX_EPOCH).ok().map(millis));
    let (which, until_ms) = match token {
        Some(given) => {
            let (which, until_ms) = meant_by(&read_token(&given)?)?;
            (vec![which], Some(until_ms))
        }
        None if jti.is_empty() => (vec![which(about, None, issued_before)], until_ms),
        None => {
            let each = which(about, None, issued_before);
            let of = |id| Which {
                token_id: Some(id),
                ..each.clone()
            };
            (jti.into_iter().map(of).collect(), until_ms)
        }
    };
    let request = Request::RevokeTokens {
        which,
        until_ms,
        reason,
    };
    tell(&daemon, &request)
}

/// What is revoked in the daemon that runs.
pub(super) fn in_force(socket: &Path) -> Result<Revocations, Box<dyn Error>> {
    let about = Which::default();
    let all = match ask(socket, &Request::Revocations { about, known: None })? {
        Reply::Revocations { revocations, .. } => revocations.unwrap_or_default(),
        Reply::Error { message } => return Err(message.into()),
        _ => return Err("the daemon answers something else".into()),
    };
    let in_force = Revocations::default();
    in_force.exchange(all.iter().map(|it| it.which.in_force()));
    Ok(in_force)
}

/// What a token says of itself, unproven: a forged one takes back what it names, which is for whoever may
/// revoke anything to judge. Its end is in milliseconds since the epoch.
fn meant_by(token: &str) -> Result<(Which, u64), Box<dyn Error>> {
    let claims = token.split('.').nth(1).unwrap_or_default();
    let claims = URL_SAFE_NO_PAD.decode(claims);
    let claims: Option<Value> = claims.ok().and_then(|it| serde_json::from_slice(&it).ok());
    let claims = claims.ok_or("this is no token: no three parts, or no JSON in the second")?;
    let text = |name: &str| claims.get(name).and_then(Value::as_str).map(str::to_owned);
    let (issuer, token_id) = (text("iss"), text("jti"));
    let ends = claims.get("exp").and_then(Value::as_u64);
    let (Some(issuer), Some(token_id), Some(ends)) = (issuer, token_id, ends) else {
        let why = "the token lacks iss, jti or exp, so it can't be told from others; revoke by \
                   --subject, --key-id or --issued-before";
        return Err(why.into());
    };
    let which = Which {
        issuer: Some(issuer),
        token_id: Some(token_id),
        ..Which::default()
    };
    Ok((which, ends.saturating_add(AFTER_END).saturating_mul(1_000)))
}
