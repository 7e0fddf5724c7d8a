//! What a client without a good credential is told of those that are taken (RFC 9110, 11.6.1).

use std::fmt::Write as _;

use http::HeaderValue;
use policy::{Access, Credential, Denial, Holder, Route};

use super::Refusal;
use crate::token::{ProofFault, ProofRules, TokenFault};

/// What a token would have been good for.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Realm<'r> {
    /// In canonical form, so nothing in it has to be escaped.
    pub(crate) host: Option<&'r str>,
    pub(crate) route: Option<&'r Route>,
    /// What proofs must satisfy.
    pub(crate) proofs: Option<&'r ProofRules>,
    /// Whether the client sent a proof.
    pub(crate) with_proof: bool,
}

/// As what something may be sent that proves who is calling.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Challenge {
    Bearer,
    Dpop,
    /// There is no registered scheme for what is shown in TLS, and a challenge has to be there (RFC 9110, 11.6.1).
    Certificate,
    /// Nor for a field of one's own.
    ApiKey,
}

impl Challenge {
    fn name(self) -> &'static str {
        match self {
            Self::Bearer => "Bearer",
            Self::Dpop => "DPoP",
            Self::Certificate => "ClientCertificate",
            Self::ApiKey => "ApiKey",
        }
    }
}

impl<'r> Realm<'r> {
    /// Whether a refusal asks for a proof.
    pub(crate) fn asks_for_proof(&self, refusal: &Refusal) -> bool {
        refusal.schemes(self).contains(&Challenge::Dpop)
    }

    fn holder(&self) -> Holder {
        match self.route.map(|route| &route.access) {
            Some(Access::Token { holder, .. }) => *holder,
            _ => Holder::Optional,
        }
    }

    /// Whether scopes come with tokens there; a certificate has none.
    fn takes_tokens(&self) -> bool {
        match self.route.map(|route| &route.access) {
            Some(Access::Token { credentials, .. }) => credentials.take(Credential::Token),
            _ => true,
        }
    }

    /// Those that the route asks for, and that can stand in a field (RFC 6749, 3.3).
    fn scopes(&self) -> impl Iterator<Item = &'r str> {
        let scopes = match self.route.map(|route| &route.access) {
            Some(Access::Token { scopes, .. }) => Some(scopes),
            _ => None,
        };
        let legal = |byte: u8| matches!(byte, 0x21 | 0x23..=0x5b | 0x5d..=0x7e);
        let scopes = scopes.into_iter().flatten().map(String::as_str);
        scopes.filter(move |scope| scope.bytes().all(legal))
    }
}

impl Refusal {
    /// As what a client without a good credential may send the next.
    fn schemes(&self, realm: &Realm<'_>) -> &'static [Challenge] {
        use Challenge::{ApiKey, Bearer, Certificate, Dpop};
        match self {
            // The same for all of them: whoever tries keys learns nothing.
            Self::ApiKey(_) | Self::Denied(Denial::NoApiKey) => &[ApiKey],
            Self::Denied(Denial::Scope) if !realm.takes_tokens() => &[ApiKey],
            Self::Denied(Denial::NoCertificate) => &[Certificate],
            Self::Denied(Denial::NoPrincipal | Denial::Unbound) => match realm.holder() {
                Holder::Key => &[Dpop],
                Holder::Any => &[Dpop, Bearer],
                Holder::Optional | Holder::Certificate => &[Bearer],
            },
            Self::Login(fault) if fault.is_of_session() => &[Bearer],
            Self::Token(fault) if fault.is_ours() => &[],
            Self::Token(TokenFault::Proof(_) | TokenFault::NotBound) => &[Dpop],
            Self::Token(_) | Self::Denied(Denial::Scope) if realm.with_proof => &[Dpop],
            Self::Token(_) | Self::Denied(Denial::Scope) => &[Bearer],
            _ => &[],
        }
    }

    /// The code for what was wrong (RFC 6750, 3.1; RFC 9449, 7.1); none where nothing was sent.
    fn code(&self) -> Option<&'static str> {
        match self {
            Self::Denied(Denial::Scope) => Some("insufficient_scope"),
            Self::Denied(Denial::Unbound) => Some("invalid_token"),
            Self::Token(TokenFault::Proof(fault)) if fault.asks_for_nonce() => {
                Some("use_dpop_nonce")
            }
            // Of a token that is good for somebody else's key.
            Self::Token(TokenFault::Proof(ProofFault::AsBearer | ProofFault::KeyWrong)) => {
                Some("invalid_token")
            }
            Self::Token(TokenFault::Proof(_)) => Some("invalid_dpop_proof"),
            Self::Token(_) => Some("invalid_token"),
            _ => None,
        }
    }

    /// RFC 6750, 3; RFC 9449, 7.1: what a client without a good credential is told, and no more than that.
    pub(super) fn challenges(&self, realm: &Realm<'_>) -> Vec<HeaderValue> {
        let host = realm.host.unwrap_or("-");
        let scopes: Vec<&str> = realm.scopes().collect();
        let told = |scheme: &Challenge| {
            let mut text = format!("{} realm=\"{host}\"", scheme.name());
            if let Some(code) = self.code() {
                let _ = write!(text, ", error=\"{code}\"");
            }
            if matches!(self, Self::Denied(Denial::Scope)) {
                let _ = write!(text, ", scope=\"{}\"", scopes.join(" "));
            }
            if *scheme == Challenge::Dpop {
                let algorithms = realm.proofs.map(ProofRules::algorithm_names);
                let algorithms = algorithms.unwrap_or_default().join(" ");
                let _ = write!(text, ", algs=\"{algorithms}\"");
            }
            HeaderValue::try_from(text).ok()
        };
        self.schemes(realm).iter().filter_map(told).collect()
    }
}
