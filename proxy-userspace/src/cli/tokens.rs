//! `portcullis token`

use std::{
    path::PathBuf,
    time::{Duration, SystemTime, UNIX_EPOCH},
};

use base64::{Engine as _, engine::general_purpose::URL_SAFE_NO_PAD};
use clap::{ArgGroup, Args, Subcommand};

use super::{Daemon, Output, parse_ttl};

#[derive(Debug, Subcommand)]
pub(crate) enum Token {
    /// Why a token would be accepted or refused, step by step; its signature is never printed
    Inspect {
        /// The token, or - to read it from standard input, where no list of processes shows it
        token: String,
        /// Configuration file
        #[arg(long)]
        config: PathBuf,
        /// Fetch keys that are at a URL; without it they are unknown
        #[arg(long)]
        fetch: bool,
        #[command(flatten)]
        output: Output,
    },
    /// Take tokens back before their time is over: at once, on every worker, and in what goes on
    Revoke(Revoke),
    /// Give tokens back that were revoked by mistake
    Unrevoke {
        /// Numbers of revocations, as `token list` shows them
        #[arg(required = true)]
        ids: Vec<u64>,
        #[command(flatten)]
        daemon: Daemon,
    },
    /// Show what is revoked
    List {
        #[command(flatten)]
        about: About,
        /// Only of this id
        #[arg(long, value_name = "ID")]
        jti: Option<String>,
        #[command(flatten)]
        daemon: Daemon,
    },
    /// Sign a token with a key for DEVELOPMENT; refuses keys of an issuer that isn't marked so
    Mint(Mint),
}

/// Which tokens: those of which all holds that is given.
#[derive(Debug, Args)]
pub(crate) struct About {
    /// Of this issuer: its name in the configuration, or its value of iss
    #[arg(long)]
    pub(crate) issuer: Option<String>,
    /// Of this subject
    #[arg(long)]
    pub(crate) subject: Option<String>,
    /// Verified by the key of this id
    #[arg(long, value_name = "ID")]
    pub(crate) key_id: Option<String>,
}

#[derive(Debug, Args)]
#[command(group(ArgGroup::new("which").required(true).multiple(true)
    .args(["issuer", "subject", "key_id", "jti", "issued_before", "token"])))]
pub(crate) struct Revoke {
    #[command(flatten)]
    pub(crate) about: About,
    /// The token of this id; several times for several
    #[arg(long, value_name = "ID")]
    pub(crate) jti: Vec<String>,
    /// Issued before this time, such as 2026-01-31T12:00:00Z, or now; also those that don't say when
    #[arg(long, value_name = "TIME", value_parser = parse_time)]
    pub(crate) issued_before: Option<u64>,
    /// This token, read from standard input, where no list of processes shows it: until it would have ended
    #[arg(long, value_name = "-", value_parser = ["-"],
        conflicts_with_all = ["issuer", "subject", "key_id", "jti", "issued_before", "length"])]
    pub(crate) token: Option<String>,
    /// For how long, such as 24h: longer than the tokens would be good; for good without it
    #[arg(long = "for", value_name = "TIME", value_parser = parse_ttl)]
    pub(crate) length: Option<Duration>,
    /// Why, for whoever looks later
    #[arg(long)]
    pub(crate) reason: Option<String>,
    #[command(flatten)]
    pub(crate) daemon: Daemon,
}

/// Seconds since the epoch. What was issued in the very second that is given was issued before it.
fn parse_time(text: &str) -> Result<u64, String> {
    let time = match text {
        "now" => SystemTime::now(),
        text => humantime::parse_rfc3339_weak(text)
            .map_err(|error| format!("{error}; write it like 2026-01-31T12:00:00Z, or now"))?,
    };
    let since = time.duration_since(UNIX_EPOCH);
    let whole = since.map_err(|_| "is before 1970".to_owned())?;
    Ok(whole.as_secs() + u64::from(whole.subsec_nanos() > 0))
}

/// A SHA-256 in base64url, as tokens have it.
fn parse_thumbprint(text: &str) -> Result<String, String> {
    let bytes = URL_SAFE_NO_PAD.decode(text).ok();
    bytes
        .filter(|bytes| bytes.len() == 32)
        .map(|_| text.to_owned())
        .ok_or_else(|| "no SHA-256 in base64url: 43 letters without padding".to_owned())
}

#[derive(Debug, Args)]
pub(crate) struct Mint {
    /// Private key for ES256: PKCS #8, DER, mode 600
    #[arg(long)]
    pub(crate) key: PathBuf,
    /// Make the key, and its JWKS beside it as KEY.jwks.json; refuses to overwrite either
    #[arg(long)]
    pub(crate) generate: bool,
    /// Configuration file, to know the keys of its issuers
    #[arg(long)]
    pub(crate) config: PathBuf,
    /// Value of iss
    #[arg(long)]
    pub(crate) issuer: String,
    /// Value of aud
    #[arg(long)]
    pub(crate) audience: String,
    /// Value of sub
    #[arg(long)]
    pub(crate) subject: String,
    /// Scopes, with spaces between
    #[arg(long, default_value = "")]
    pub(crate) scope: String,
    /// Bind it to a key, by that key's thumbprint (RFC 7638): it is good with DPoP proofs only
    #[arg(long, value_parser = parse_thumbprint)]
    pub(crate) jkt: Option<String>,
    /// Bind it to a client certificate, by the SHA-256 of that in base64url
    #[arg(long, value_parser = parse_thumbprint)]
    pub(crate) x5t: Option<String>,
    /// How long it is good
    #[arg(long, default_value = "10m", value_parser = parse_ttl)]
    pub(crate) ttl: Duration,
}
