//! `portcullis token`

use std::{path::PathBuf, time::Duration};

use base64::{Engine as _, engine::general_purpose::URL_SAFE_NO_PAD};
use clap::{Args, Subcommand};

use super::{Output, parse_ttl};

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
    /// Sign a token with a key for DEVELOPMENT; refuses keys of an issuer that isn't marked so
    Mint(Mint),
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
