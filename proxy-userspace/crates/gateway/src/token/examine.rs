//! The same judgement as a request's, told step by step to whoever asks why.

use std::sync::Arc;

use super::{
    Header, Issuer, Jws, TokenFault, issuer as issuer_of,
    verified::{Verified, unix_now},
};

/// Hears what a token has passed.
pub(crate) trait Narrator {
    /// The step and, where somebody listens, what was found.
    fn passed(&mut self, step: &'static str, found: impl FnOnce() -> String);
}

/// Nobody listens.
pub(crate) struct Silent;

impl Narrator for Silent {
    fn passed(&mut self, _step: &'static str, _found: impl FnOnce() -> String) {}
}

/// What a token has passed, in order: the step, and what was found.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Passed(pub Vec<(&'static str, String)>);

impl Narrator for Passed {
    fn passed(&mut self, step: &'static str, found: impl FnOnce() -> String) {
        self.0.push((step, found()));
    }
}

/// Judges a token by the rules of whichever of the issuers it names and by the keys that are loaded, as a
/// request's is. Nothing is remembered, and no key is fetched.
///
/// # Errors
/// Why it is refused; `passed` ends with the step before.
pub(crate) fn examine(
    token: &str,
    issuers: &[Arc<Issuer>],
    passed: &mut Passed,
) -> Result<Verified, TokenFault> {
    let jws = Jws::parse(token)?;
    passed.passed("form", || {
        format!(
            "{} bytes in three parts, each with one reading",
            token.len()
        )
    });
    let claimed = issuer_of(&jws.claims)?;
    let issuer = issuers
        .iter()
        .find(|issuer| issuer.rules().issuer == claimed)
        .ok_or(TokenFault::UnknownIssuer)?;
    let name = &issuer.rules().name;
    passed.passed("issuer", || format!("{claimed:?} is issuer {name:?}"));
    let header = Header::of(&jws.header)?;
    let keys = issuer.keys().current();
    issuer.judge(&jws, &header, keys, unix_now(), passed)
}
