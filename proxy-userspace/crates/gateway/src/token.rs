//! Is this token current, meant for us, and signed by an issuer we trust?
//!
//! The signature is checked by jsonwebtoken; what that library lets through is refused here:
//! headers that point at keys, unknown critical extensions, repeated members.

use std::{
    collections::{BTreeSet, HashSet},
    sync::Arc,
    time::Duration,
};

use base64::{Engine as _, engine::general_purpose::URL_SAFE_NO_PAD};
pub use jsonwebtoken::Algorithm;
use jsonwebtoken::{Validation, errors::ErrorKind};
use policy::Principal;
use serde::{Deserialize, de::IgnoredAny};

use crate::{
    keys::KeyStore,
    verified::{TokenHash, Verified, VerifiedTokens},
};

/// Longest token in bytes; longer ones are refused before they are decoded.
const LONGEST_TOKEN: usize = 8 * 1024;

/// Why a token was refused. The name is [`TokenFault::name`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub(crate) enum TokenFault {
    #[error("authorization_repeated")]
    Repeated,
    #[error("authorization_not_bearer")]
    NotBearer,
    #[error("token_too_long")]
    TooLong,
    #[error("token_malformed")]
    Malformed,
    #[error("token_header_refused")]
    Header,
    #[error("token_algorithm_refused")]
    Algorithm,
    #[error("token_issuer_unknown")]
    UnknownIssuer,
    #[error("token_key_unknown")]
    UnknownKey,
    #[error("token_signature_invalid")]
    Signature,
    #[error("token_claims_invalid")]
    Claims,
    #[error("token_audience_wrong")]
    Audience,
    #[error("token_expired")]
    Expired,
    #[error("token_not_yet_valid")]
    NotYetValid,
}

/// What tokens of one issuer must satisfy.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct IssuerRules {
    /// Name in configuration, logs and policy.
    pub name: String,
    /// Exact value of `iss`.
    pub issuer: String,
    /// Values of `aud`, one of which the token must carry.
    pub audiences: BTreeSet<String>,
    /// Signature algorithms; asymmetric ones only.
    pub algorithms: Vec<Algorithm>,
    /// How far clocks may differ when `exp` and `nbf` are read.
    pub leeway: Duration,
}

/// A trusted issuer with its keys.
#[derive(Debug)]
pub struct Issuer {
    rules: IssuerRules,
    keys: KeyStore,
    verified: VerifiedTokens,
}

/// A JOSE header (RFC 7515, 4). What may redirect verification is looked at only to refuse it;
/// a repeated member is an error of serde's.
#[derive(Deserialize)]
struct Header {
    alg: Algorithm,
    kid: Option<String>,
    crit: Option<IgnoredAny>,
    b64: Option<IgnoredAny>,
    jku: Option<IgnoredAny>,
    jwk: Option<IgnoredAny>,
    x5u: Option<IgnoredAny>,
    x5c: Option<IgnoredAny>,
    enc: Option<IgnoredAny>,
    zip: Option<IgnoredAny>,
}

/// Claims (RFC 7519, 4.1). Times are whole seconds: a string, a fraction or a negative number is
/// an error of serde's.
#[derive(Deserialize)]
struct Claims {
    sub: String,
    #[serde(rename = "exp")]
    expires: u64,
    #[serde(rename = "nbf")]
    not_before: Option<u64>,
    #[serde(rename = "iat")]
    _issued: Option<u64>,
    /// RFC 8693, 4.2: a list in one string.
    scope: Option<String>,
    /// What some issuers send in place of `scope`.
    scp: Option<Vec<String>>,
}

#[derive(Deserialize)]
struct UnverifiedIssuer {
    iss: String,
}

impl Issuer {
    /// An issuer with these rules and keys.
    pub fn new(rules: IssuerRules, keys: KeyStore) -> Self {
        Self {
            rules,
            keys,
            verified: VerifiedTokens::default(),
        }
    }

    /// Its rules.
    pub fn rules(&self) -> &IssuerRules {
        &self.rules
    }

    /// Its keys.
    pub fn keys(&self) -> &KeyStore {
        &self.keys
    }

    /// Who holds a token, where this issuer's was proven before.
    pub(crate) fn recognise(&self, hash: TokenHash) -> Result<Option<Arc<Principal>>, TokenFault> {
        self.verified.find(hash, &self.keys.current())
    }

    /// Proves who holds a token that names this issuer.
    pub(crate) fn verify(
        &self,
        token: &str,
        hash: TokenHash,
    ) -> Result<Arc<Principal>, TokenFault> {
        let header = parse_header(token)?;
        if !self.rules.algorithms.contains(&header.alg) {
            return Err(TokenFault::Algorithm);
        }
        let keys = self.keys.current();
        let Some(key) = keys.find(header.kid.as_deref(), header.alg) else {
            self.keys.ask_for_refresh();
            return Err(TokenFault::UnknownKey);
        };
        let claims = jsonwebtoken::decode::<Claims>(token, key, &self.validation(header.alg))
            .map_err(|error| fault_of(error.kind()))?
            .claims;
        if claims.sub.is_empty() {
            return Err(TokenFault::Claims);
        }
        let scopes = match (claims.scope, claims.scp) {
            (Some(scope), None) => scope.split(' ').map(str::to_owned).collect(),
            (None, Some(scopes)) => scopes.into_iter().collect(),
            (None, None) => BTreeSet::new(),
            // Two lists can disagree; neither is believed.
            (Some(_), Some(_)) => return Err(TokenFault::Claims),
        };
        let principal = Arc::new(Principal {
            issuer: self.rules.name.clone(),
            subject: claims.sub,
            scopes,
        });
        let leeway = self.rules.leeway.as_secs();
        let verified = Verified {
            principal: Arc::clone(&principal),
            from: claims.not_before.unwrap_or(0).saturating_sub(leeway),
            until: claims.expires.saturating_add(leeway),
            keys,
        };
        self.verified.remember(hash, verified);
        Ok(principal)
    }

    fn validation(&self, algorithm: Algorithm) -> Validation {
        let mut validation = Validation::new(algorithm);
        validation.leeway = self.rules.leeway.as_secs();
        validation.validate_nbf = true;
        validation.aud = Some(self.rules.audiences.iter().cloned().collect());
        validation.iss = Some(HashSet::from([self.rules.issuer.clone()]));
        // Without this a token that lacks `aud` or `iss` would pass whatever is set above.
        validation.set_required_spec_claims(&["exp", "iss", "aud", "sub"]);
        validation
    }
}

/// The `iss` a token claims, to find whose keys to check it with; believed only after that.
pub(crate) fn claimed_issuer(token: &str) -> Result<String, TokenFault> {
    if token.len() > LONGEST_TOKEN {
        return Err(TokenFault::TooLong);
    }
    let mut parts = token.split('.');
    let (Some(_), Some(claims), Some(_), None) =
        (parts.next(), parts.next(), parts.next(), parts.next())
    else {
        return Err(TokenFault::Malformed);
    };
    let claims: UnverifiedIssuer = parse_part(claims).ok_or(TokenFault::Claims)?;
    Ok(claims.iss)
}

fn parse_header(token: &str) -> Result<Header, TokenFault> {
    let part = token.split('.').next().ok_or(TokenFault::Malformed)?;
    let header: Header = parse_part(part).ok_or(TokenFault::Header)?;
    let redirects = [
        &header.crit,
        &header.b64,
        &header.jku,
        &header.jwk,
        &header.x5u,
        &header.x5c,
        &header.enc,
        &header.zip,
    ];
    if redirects.into_iter().any(Option::is_some) {
        return Err(TokenFault::Header);
    }
    Ok(header)
}

fn parse_part<T: for<'de> Deserialize<'de>>(part: &str) -> Option<T> {
    let bytes = URL_SAFE_NO_PAD.decode(part).ok()?;
    serde_json::from_slice(&bytes).ok()
}

fn fault_of(kind: &ErrorKind) -> TokenFault {
    match kind {
        ErrorKind::InvalidSignature => TokenFault::Signature,
        ErrorKind::ExpiredSignature => TokenFault::Expired,
        ErrorKind::ImmatureSignature => TokenFault::NotYetValid,
        ErrorKind::InvalidAudience => TokenFault::Audience,
        ErrorKind::InvalidIssuer => TokenFault::UnknownIssuer,
        ErrorKind::InvalidAlgorithm | ErrorKind::UnsupportedAlgorithm => TokenFault::Algorithm,
        ErrorKind::MissingRequiredClaim(_)
        | ErrorKind::InvalidClaimFormat(_)
        | ErrorKind::Json(_) => TokenFault::Claims,
        _ => TokenFault::Malformed,
    }
}
