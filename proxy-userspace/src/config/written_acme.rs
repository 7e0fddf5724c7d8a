//! `[acme]` and `[[listener.acme]]` as written.

use std::path::PathBuf;

use serde::Deserialize;
use toml::Spanned;

/// `[acme]`
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Acme {
    /// URL of the authority's directory.
    pub(crate) directory: Spanned<String>,
    /// PEM file with the certificates to trust for it; the system's without it.
    pub(crate) ca: Option<Spanned<PathBuf>>,
    /// Where the authority may write to, such as `["mailto:admin@example.org"]`.
    #[serde(default)]
    pub(crate) contacts: Vec<Spanned<String>>,
    /// Whether its terms are agreed to.
    pub(crate) agree_to_terms: Spanned<bool>,
    /// Folder of accounts and certificates; `acme` in that of the state without it.
    pub(crate) storage: Option<PathBuf>,
    /// Where to answer checks over plain HTTP.
    pub(crate) http_address: Option<Spanned<String>>,
}

/// `[[listener.acme]]`
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Automatic {
    /// Names of one certificate.
    pub(crate) names: Spanned<Vec<Spanned<String>>>,
    /// How the authority checks them.
    pub(crate) challenge: Spanned<Challenge>,
}

/// How an authority checks a name.
#[derive(Clone, Copy, Debug, Deserialize)]
pub(crate) enum Challenge {
    #[serde(rename = "tls-alpn-01")]
    TlsAlpn01,
    #[serde(rename = "http-01")]
    Http01,
}
