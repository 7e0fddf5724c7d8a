//! Why a token is refused.

use std::borrow::Cow;

use super::proof::ProofFault;
use crate::introspection::IntrospectionFault;
use crate::uses::UseFault;

/// What exactly was wrong, where one name stands for several: the names of members and claims, and never what
/// they say.
pub(crate) type Detail = Cow<'static, str>;

/// The name, for logs, metrics and audit records, is what this displays; the detail is for the last and for
/// `token inspect`.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum TokenFault {
    /// Two `Authorization` fields, or two of whatever carries the token.
    #[error("authorization_repeated")]
    Repeated,
    /// `Authorization` with anything else than one bearer token.
    #[error("authorization_not_bearer")]
    NotBearer,
    /// One token here and one there.
    #[error("token_in_two_places")]
    TwoPlaces,
    /// Longer than 8 KiB.
    #[error("token_too_long")]
    TooLong,
    /// Not three parts in base64url (RFC 7515, 7.1): a JWE has five.
    #[error("token_malformed")]
    Malformed,
    /// The header asks for what is never done, or can't be read in one way only.
    #[error("token_header_refused")]
    Header(Detail),
    /// An algorithm that is known, and not this issuer's.
    #[error("token_algorithm_refused")]
    Algorithm,
    /// No issuer of the route has this `iss`.
    #[error("token_issuer_unknown")]
    UnknownIssuer,
    /// The issuer has no such key.
    #[error("token_key_unknown")]
    UnknownKey,
    /// The issuer's keys could not be fetched for longer than they may serve on.
    #[error("token_keys_outlived")]
    KeysOutlived,
    /// The signature is not the key's.
    #[error("token_signature_invalid")]
    Signature,
    /// The claims can't be read in one way only.
    #[error("token_claims_malformed")]
    Claims(Detail),
    /// It names no issuer (`iss`).
    #[error("token_issuer_missing")]
    NoIssuer,
    /// It is for nobody (`aud`).
    #[error("token_audience_missing")]
    NoAudience,
    /// It has no end (`exp`).
    #[error("token_expiry_missing")]
    NoExpiry,
    /// It is about nobody.
    #[error("token_subject_missing")]
    NoSubject(Detail),
    /// One of its times is none in whole seconds since the epoch.
    #[error("token_time_invalid")]
    Time(Detail),
    /// A claim that is used has another type than it must have.
    #[error("token_claim_type")]
    ClaimType(Detail),
    /// Two claims list its scopes: neither is believed.
    #[error("token_scopes_ambiguous")]
    Scopes,
    /// A claim that the issuer's tokens must carry is not there, or says something else.
    #[error("token_claim_required")]
    Required(Detail),
    /// The token is for others.
    #[error("token_audience_wrong")]
    Audience,
    /// Its time is over.
    #[error("token_expired")]
    Expired,
    /// It was taken back.
    #[error("token_revoked")]
    Revoked,
    /// Its time has not come.
    #[error("token_not_yet_valid")]
    NotYetValid,
    /// It isn't good for what takes each token once.
    #[error(transparent)]
    Use(#[from] UseFault),
    /// Its issuer, which was asked, says that it isn't good.
    #[error("token_inactive")]
    Inactive,
    /// Its issuer didn't say whether it is good.
    #[error(transparent)]
    Introspection(#[from] IntrospectionFault),
    /// It is bound to its holder in a way that isn't known here (RFC 7800).
    #[error("token_binding_unknown")]
    Binding,
    /// It is bound to a certificate, and none was shown.
    #[error("token_certificate_missing")]
    CertificateMissing,
    /// It is bound to another certificate than the one that was shown (RFC 8705, 3).
    #[error("token_certificate_wrong")]
    CertificateWrong,
    /// It came as one that is bound to a key, and isn't (RFC 9449, 7.1).
    #[error("token_not_bound_to_a_key")]
    NotBound,
    /// It is bound to a key, and its sender didn't prove to have that.
    #[error(transparent)]
    Proof(#[from] ProofFault),
}

impl TokenFault {
    /// Whether nothing is known against the token: it may be good the next time.
    pub(crate) fn is_ours(&self) -> bool {
        match self {
            Self::Introspection(fault) => !fault.is_of_token(),
            Self::Proof(fault) => *fault == ProofFault::Full,
            Self::Use(fault) => matches!(fault, UseFault::Full | UseFault::Failing),
            _ => false,
        }
    }

    /// What exactly was wrong, where the name says it for several.
    pub fn detail(&self) -> Option<Cow<'static, str>> {
        match self {
            Self::Header(detail)
            | Self::Claims(detail)
            | Self::NoSubject(detail)
            | Self::Time(detail)
            | Self::ClaimType(detail)
            | Self::Required(detail) => Some(detail.clone()),
            Self::Proof(fault) => fault.detail().map(Cow::Borrowed),
            _ => None,
        }
    }
}
