//! What a token has to be held with, as written.

use serde::Deserialize;
use toml::Spanned;

/// `[dpop]`
#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Dpop {
    /// Signature algorithms of proofs; all of key pairs without it.
    pub(crate) algorithms: Option<Spanned<Vec<String>>>,
    /// How old a proof may be.
    pub(crate) window: Option<Spanned<String>>,
    /// How far a client's clock may be ahead.
    pub(crate) leeway: Option<Spanned<String>>,
    /// Whether each proof has to quote a nonce of the proxy's.
    #[serde(default)]
    pub(crate) nonce: bool,
    /// Most proofs that are remembered at a time.
    pub(crate) remembered: Option<Spanned<usize>>,
}

/// `[single_use]`
#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct SingleUse {
    /// Most tokens that are remembered at a time.
    pub(crate) remembered: Option<Spanned<usize>>,
}

/// What a token has to be bound to.
#[derive(Clone, Copy, Debug, Default, Deserialize, PartialEq, Eq)]
#[serde(rename_all = "lowercase")]
pub(crate) enum Holder {
    #[default]
    Optional,
    Dpop,
    Certificate,
    Any,
}

/// What of a client's certificate is the subject.
#[derive(Clone, Copy, Debug, Deserialize)]
#[serde(rename_all = "lowercase")]
pub(crate) enum CertificateSubject {
    Spiffe,
    Dns,
    Email,
    Dn,
}
