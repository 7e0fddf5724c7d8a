//! Who may use a route, and by what they may prove who they are.

use std::collections::BTreeSet;

use crate::authorise::Binding;

/// Who may use a route.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Access {
    /// Everybody, without a token. Has to be asked for by name in the configuration.
    Public,
    /// Whoever proves to be somebody that one of these issuers vouches for, with all of these scopes.
    Token {
        /// Names of the issuers.
        issuers: BTreeSet<String>,
        /// Scopes that the token must carry (RFC 6749, 3.3).
        scopes: BTreeSet<String>,
        /// What a token has to be bound to.
        holder: Holder,
        /// By what it may be proven who is calling.
        credentials: Credentials,
        /// Whether a token is good for one request only.
        single_use: bool,
    },
}

/// What a token has to be bound to. One that is bound is only ever good with what it is bound to.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Holder {
    /// To nothing, or to anything.
    #[default]
    Optional,
    /// To a key (RFC 9449).
    Key,
    /// To a certificate (RFC 8705).
    Certificate,
    /// To one of both.
    Any,
}

impl Holder {
    /// Whether a token that is bound like this will do.
    pub fn is_met_by(self, binding: Binding) -> bool {
        match self {
            Self::Optional => true,
            Self::Key => binding.key,
            Self::Certificate => binding.certificate,
            Self::Any => binding.key || binding.certificate,
        }
    }
}

/// By what it may be proven who is calling. Of two, the first that a request has is the one that counts, also
/// where it turns out to be no good.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Credentials {
    /// A token.
    #[default]
    Token,
    /// A certificate that was shown in TLS.
    Certificate,
    /// A token, or a certificate where there is no token.
    TokenFirst,
    /// A certificate, or a token where there is no certificate.
    CertificateFirst,
}

impl Credentials {
    /// Whether a token may.
    pub fn takes_tokens(self) -> bool {
        self != Self::Certificate
    }

    /// Whether a certificate may.
    pub fn takes_certificates(self) -> bool {
        self != Self::Token
    }
}
