//! `portcullis token`

use std::{path::PathBuf, time::Duration};

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
    /// How long it is good
    #[arg(long, default_value = "10m", value_parser = parse_ttl)]
    pub(crate) ttl: Duration,
}
