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
        /// Name of the login that gives browsers a session here, where there is one. A session counts as a token
        /// that is bound to nothing.
        login: Option<String>,
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

/// A way to prove who is calling.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Credential {
    /// A token.
    Token,
    /// A certificate that was shown in TLS.
    Certificate,
    /// A key that was made for a subject, which whoever has it may use.
    ApiKey,
}

/// By what it may be proven who is calling. Of several, the first that a request has is the one that counts, also
/// where it turns out to be no good.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Credentials(Vec<Credential>);

impl Default for Credentials {
    /// A token alone.
    fn default() -> Self {
        Self(vec![Credential::Token])
    }
}

impl Credentials {
    /// These, the one that counts first in front. `None` where there is none, or one of them twice.
    pub fn new(ways: Vec<Credential>) -> Option<Self> {
        let repeated = |at: usize| ways[..at].contains(&ways[at]);
        let good = !ways.is_empty() && !(0..ways.len()).any(repeated);
        good.then_some(Self(ways))
    }

    /// All of them, in their order.
    pub fn iter(&self) -> impl Iterator<Item = Credential> {
        self.0.iter().copied()
    }

    /// The one that counts first.
    pub fn first(&self) -> Credential {
        self.0.first().copied().unwrap_or(Credential::Token)
    }

    /// Whether it may be proven by this one.
    pub fn take(&self, credential: Credential) -> bool {
        self.0.contains(&credential)
    }
}
