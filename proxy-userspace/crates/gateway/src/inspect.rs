//! The judgement of a token as a request's, told step by step to whoever asks why.

use std::sync::Arc;

use policy::Principal;

use crate::{
    revocation::Revocations,
    token::{Issuer, Narrator as _, Passed, TokenFault, examine as examine_alone},
};

/// What came of it.
#[derive(Clone, Debug)]
pub struct Examined {
    /// What the token has passed; the step after the last is the one that refused it.
    pub passed: Passed,
    /// Who holds it, or why it is refused.
    pub outcome: Result<Arc<Principal>, TokenFault>,
}

/// Judges a token by the rules of whichever of the issuers it names, by the keys that are loaded, and by what is
/// revoked, where that is known. Nothing is remembered, and no key is fetched.
pub fn examine(token: &str, issuers: &[Arc<Issuer>], revoked: Option<&Revocations>) -> Examined {
    let mut passed = Passed::default();
    let judged = examine_alone(token, issuers, &mut passed).and_then(|verified| {
        if let Some(revoked) = revoked {
            revoked.judge(&verified)?;
            passed.passed("revocation", || {
                "nothing that is revoked covers it".to_owned()
            });
        }
        Ok(verified.principal)
    });
    Examined {
        passed,
        outcome: judged,
    }
}
