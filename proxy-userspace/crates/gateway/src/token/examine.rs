//! The same judgement as a request's, told step by step to whoever asks why.

use std::sync::Arc;

use policy::Principal;

use super::{Header, Issuer, Jws, TokenFault, issuer as issuer_of, verified::unix_now};

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

/// What came of it.
#[derive(Clone, Debug)]
pub struct Examined {
    /// What the token has passed; the step after the last is the one that refused it.
    pub passed: Passed,
    /// Who holds it, or why it is refused.
    pub outcome: Result<Arc<Principal>, TokenFault>,
}

/// Judges a token by the rules of whichever of the issuers it names and by the keys that are loaded, as a
/// request's is. Nothing is remembered, and no key is fetched.
pub fn examine(token: &str, issuers: &[Arc<Issuer>]) -> Examined {
    let mut passed = Passed::default();
    let outcome = walk(token, issuers, &mut passed);
    Examined { passed, outcome }
}

fn walk(
    token: &str,
    issuers: &[Arc<Issuer>],
    passed: &mut Passed,
) -> Result<Arc<Principal>, TokenFault> {
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
    let verified = issuer.judge(&jws, &header, keys, unix_now(), passed)?;
    Ok(verified.principal)
}
