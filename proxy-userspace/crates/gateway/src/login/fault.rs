//! Why a login fails, or a session isn't one.

use std::borrow::Cow;

use http::StatusCode;

use crate::token::IdTokenFault;

/// The name, for logs, metrics and audit records, is what this displays; the browser is told none of it.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub(crate) enum LoginFault {
    /// The session's cookie was changed, is cut, or was made for another host, login or key.
    #[error("session_damaged")]
    SessionDamaged,
    /// It has lasted as long as sessions may.
    #[error("session_expired")]
    SessionExpired,
    /// It was not used for too long.
    #[error("session_idle")]
    SessionIdle,
    /// Its user has logged out.
    #[error("session_ended")]
    SessionEnded,
    /// It was taken back, as tokens are.
    #[error("session_revoked")]
    SessionRevoked,
    /// The issuer renews it no more.
    #[error("session_refresh_refused")]
    RefreshRefused,
    /// It ought to be renewed, and the issuer doesn't answer.
    #[error("session_refresh_failed")]
    RefreshFailed,
    /// Another site makes the browser ask for something that may change things.
    #[error("session_cross_site")]
    CrossSite,
    /// What is asked for as the end of a login isn't one.
    #[error("login_callback_malformed")]
    Malformed,
    /// The browser has begun no such login, or has forgotten it.
    #[error("login_attempt_missing")]
    AttemptMissing,
    /// What it kept of it was changed, or made for another host, login or key.
    #[error("login_attempt_damaged")]
    AttemptDamaged,
    /// It was begun too long ago.
    #[error("login_attempt_expired")]
    AttemptExpired,
    /// The answer is to another attempt.
    #[error("login_state_wrong")]
    StateWrong,
    /// This attempt has had its answer.
    #[error("login_replayed")]
    Replayed,
    /// No more can be remembered.
    #[error("login_memory_full")]
    MemoryFull,
    /// The issuer names itself in its answers, and this one names none (RFC 9207, 2.4).
    #[error("login_issuer_missing")]
    IssuerMissing,
    /// The answer is another issuer's.
    #[error("login_issuer_wrong")]
    IssuerWrong,
    /// The issuer lets nobody in this time: its user has declined, or it is set up otherwise.
    #[error("login_refused_by_issuer")]
    RefusedByIssuer,
    /// The issuer has not issued this code to us, for this attempt, or has taken it back.
    #[error("login_code_refused")]
    CodeRefused,
    /// The issuer doesn't answer, or has not said where to ask it.
    #[error("login_issuer_unavailable")]
    IssuerUnavailable,
    /// Too many ask the issuer at a time.
    #[error("login_overloaded")]
    Overloaded,
    /// The issuer's answer isn't one (RFC 6749, 5.1).
    #[error("login_answer_invalid")]
    AnswerInvalid,
    /// The issuer's token doesn't tell of this login.
    #[error("login_id_{0}")]
    IdToken(#[from] IdTokenFault),
    /// The user's tokens are taken back, also those that he gets now.
    #[error("login_revoked")]
    Revoked,
    /// What is to be kept of the user fits in no cookies.
    #[error("login_session_too_large")]
    TooLarge,
    /// The system gives no randomness.
    #[error("login_randomness_missing")]
    NoRandomness,
    /// Another site makes the browser log out.
    #[error("logout_cross_site")]
    LogoutCrossSite,
}

impl LoginFault {
    /// Whether whoever sent it is nobody for now, and may log in.
    pub(crate) fn is_of_session(&self) -> bool {
        matches!(
            self,
            Self::SessionDamaged
                | Self::SessionExpired
                | Self::SessionIdle
                | Self::SessionEnded
                | Self::SessionRevoked
                | Self::RefreshRefused
        )
    }

    /// What exactly was wrong, where the name says it for several.
    pub(crate) fn detail(&self) -> Option<Cow<'static, str>> {
        match self {
            Self::IdToken(IdTokenFault::Token(fault)) => fault.detail(),
            _ => None,
        }
    }

    pub(crate) fn status(&self) -> StatusCode {
        match self {
            fault if fault.is_of_session() => StatusCode::UNAUTHORIZED,
            Self::CrossSite | Self::LogoutCrossSite | Self::RefusedByIssuer | Self::Revoked => {
                StatusCode::FORBIDDEN
            }
            Self::RefreshFailed
            | Self::MemoryFull
            | Self::IssuerUnavailable
            | Self::Overloaded
            | Self::NoRandomness => StatusCode::SERVICE_UNAVAILABLE,
            Self::AnswerInvalid | Self::IdToken(_) | Self::TooLarge => StatusCode::BAD_GATEWAY,
            _ => StatusCode::BAD_REQUEST,
        }
    }
}
