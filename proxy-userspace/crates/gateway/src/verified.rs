//! Tokens that were proven already: a signature costs 55 µs to check, and callers send the same token with
//! each request.

use std::{
    sync::Arc,
    time::{SystemTime, UNIX_EPOCH},
};

use aws_lc_rs::digest::{SHA256, digest};
use policy::Principal;
use quick_cache::sync::Cache;

use crate::{keys::KeySet, token::TokenFault};

/// Tokens of one issuer that are remembered; the ones that were not used for longest go first. At some 400
/// bytes each that is 6 MiB.
const MOST: usize = 16 * 1024;

/// What was proven of a token.
#[derive(Clone, Debug)]
pub(crate) struct Verified {
    pub(crate) principal: Arc<Principal>,
    /// Seconds since the epoch: not good before, and after, leeway included.
    pub(crate) from: u64,
    pub(crate) until: u64,
    /// By these keys: when others are in force, it has to be proven again.
    pub(crate) keys: Arc<KeySet>,
}

/// Proven tokens of one issuer, by their hash: what isn't the same to the last byte isn't found.
#[derive(Debug)]
pub(crate) struct VerifiedTokens(Cache<[u8; 32], Arc<Verified>>);

impl Default for VerifiedTokens {
    fn default() -> Self {
        Self(Cache::new(MOST))
    }
}

/// A token's hash.
#[derive(Clone, Copy, Debug)]
pub(crate) struct TokenHash([u8; 32]);

impl TokenHash {
    pub(crate) fn of(token: &str) -> Self {
        let mut hash = [0; 32];
        hash.copy_from_slice(digest(&SHA256, token.as_bytes()).as_ref());
        Self(hash)
    }
}

impl VerifiedTokens {
    /// Who a token was proven to belong to, if it was and would be now.
    ///
    /// # Errors
    /// When it has ended since.
    pub(crate) fn find(
        &self,
        hash: TokenHash,
        keys: &Arc<KeySet>,
    ) -> Result<Option<Arc<Principal>>, TokenFault> {
        let Some(known) = self.0.get(&hash.0) else {
            return Ok(None);
        };
        if !Arc::ptr_eq(&known.keys, keys) {
            self.0.remove(&hash.0);
            return Ok(None);
        }
        let now = now();
        if now > known.until {
            return Err(TokenFault::Expired);
        }
        if now < known.from {
            return Err(TokenFault::NotYetValid);
        }
        Ok(Some(Arc::clone(&known.principal)))
    }

    pub(crate) fn remember(&self, hash: TokenHash, verified: Verified) {
        self.0.insert(hash.0, Arc::new(verified));
    }
}

fn now() -> u64 {
    SystemTime::now()
        .duration_since(UNIX_EPOCH)
        .map_or(0, |since| since.as_secs())
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    fn verified(from: u64, until: u64, keys: &Arc<KeySet>) -> Verified {
        Verified {
            principal: Arc::new(Principal {
                issuer: "main".to_owned(),
                subject: "alice".to_owned(),
                scopes: BTreeSet::new(),
            }),
            from,
            until,
            keys: Arc::clone(keys),
        }
    }

    #[test]
    fn a_token_is_known_while_it_lasts_and_its_keys_are_in_force() {
        let (tokens, keys) = (VerifiedTokens::default(), Arc::new(KeySet::default()));
        let others = Arc::new(KeySet::default());
        let found = |token: &str, keys: &Arc<KeySet>| {
            let found = tokens.find(TokenHash::of(token), keys);
            found.map(|principal| principal.map(|it| it.subject.clone()))
        };
        let remember = |token: &str, from, until| {
            tokens.remember(TokenHash::of(token), verified(from, until, &keys));
        };
        remember("good", 0, now() + 60);
        remember("ended", 0, now() - 1);
        remember("early", now() + 60, now() + 120);
        assert_eq!(found("good", &keys), Ok(Some("alice".to_owned())));
        assert_eq!(found("goo", &keys), Ok(None));
        assert_eq!(found("ended", &keys), Err(TokenFault::Expired));
        assert_eq!(found("early", &keys), Err(TokenFault::NotYetValid));
        assert_eq!(found("good", &others), Ok(None));
        assert_eq!(found("good", &keys), Ok(None), "it was forgotten");
    }
}
