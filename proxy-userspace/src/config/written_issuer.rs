//! `[[issuer]]` as written.

use std::{collections::BTreeMap, path::PathBuf};

use serde::Deserialize;
use toml::Spanned;

/// `[[issuer]]`
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Issuer {
    /// Name that routes use.
    pub(crate) name: Spanned<String>,
    /// Exact value of `iss`.
    pub(crate) issuer: Spanned<String>,
    /// Values of `aud`, one of which a token must carry.
    pub(crate) audiences: Spanned<Vec<String>>,
    /// Signature algorithms, such as `["ES256"]`.
    pub(crate) algorithms: Option<Spanned<Vec<String>>>,
    /// How it is asked about tokens that only it can read.
    pub(crate) introspection: Option<Introspection>,
    /// JWKS in a file. One of this, `jwks_url`, `discovery` and `introspection`.
    pub(crate) jwks_file: Option<Spanned<PathBuf>>,
    /// JWKS at an https URL.
    pub(crate) jwks_url: Option<Spanned<String>>,
    /// The keys are where `<issuer>/.well-known/openid-configuration` says.
    #[serde(default)]
    pub(crate) discovery: Option<Spanned<bool>>,
    /// PEM file with the certificates to trust for `jwks_url` and `discovery`; the system's without it.
    pub(crate) jwks_ca: Option<Spanned<PathBuf>>,
    /// Ranges that `jwks_url` and `discovery` may lead to although they aren't public.
    pub(crate) jwks_allow_addresses: Option<Spanned<Vec<String>>>,
    /// How often the keys are read again at least.
    pub(crate) jwks_refresh: Option<Spanned<String>>,
    /// Least time between two fetches that tokens with unknown keys ask for.
    pub(crate) jwks_refetch: Option<Spanned<String>>,
    /// How long the last good keys serve on when they can't be read again.
    pub(crate) keys_outlive: Option<Spanned<String>>,
    /// How far clocks may differ when `exp`, `nbf` and `iat` are read.
    pub(crate) leeway: Option<Spanned<String>>,
    /// Claims that a token must carry: `["jti"]`, or with their values `{ tenant = "a" }`.
    pub(crate) required_claims: Option<Spanned<toml::Value>>,
    /// Which claim says what: `subject`, `groups`, `scopes`, and attributes for the policy by any other name.
    #[serde(default)]
    pub(crate) claims: BTreeMap<String, Spanned<String>>,
    /// The cookie that carries the token, in place of `Authorization`.
    pub(crate) token_cookie: Option<Spanned<String>>,
    /// The field that carries the token, in place of `Authorization`.
    pub(crate) token_header: Option<Spanned<String>>,
    /// Whether `portcullis token mint` may sign with its keys.
    #[serde(default)]
    pub(crate) development: bool,
}

/// `[issuer.introspection]`
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Introspection {
    /// Where it is asked, over https.
    pub(crate) url: Spanned<String>,
    /// What the issuer calls this proxy.
    pub(crate) client_id: Spanned<String>,
    /// File with the secret by which the issuer knows this proxy.
    pub(crate) client_secret_file: Spanned<PathBuf>,
    /// PEM file with the certificates to trust for `url`; the system's without it.
    pub(crate) ca: Option<Spanned<PathBuf>>,
    /// Ranges that `url` may lead to although they aren't public.
    pub(crate) allow_addresses: Option<Spanned<Vec<String>>>,
    /// Longest wait for an answer, and for a turn to ask.
    pub(crate) timeout: Option<Spanned<String>>,
    /// How long it is believed that a token is good.
    pub(crate) cache: Option<Spanned<String>>,
    /// How long it is believed that one isn't.
    pub(crate) inactive_cache: Option<Spanned<String>>,
    /// Most questions at a time.
    pub(crate) max_concurrent: Option<Spanned<usize>>,
    /// Most answers a second that a token isn't good.
    pub(crate) max_inactive: Option<Spanned<u32>>,
}
