//! Why there is no answer.

/// Why an issuer didn't say whether a token is good. The token is refused: nobody is let in on a guess.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum IntrospectionFault {
    /// It couldn't be asked, or answered what can't be read; whatever it is, that is told in the log.
    #[error("token_introspection_failed")]
    Failed,
    /// It isn't asked: too many questions are under way, or too many tokens were no good in this second.
    #[error("token_introspection_busy")]
    Busy,
    /// It calls the question itself a bad one, which differs from others by the token alone.
    #[error("token_introspection_refused")]
    Refused,
}

impl IntrospectionFault {
    /// Whether that says something of the token.
    pub(crate) fn is_of_token(self) -> bool {
        self == Self::Refused
    }
}
