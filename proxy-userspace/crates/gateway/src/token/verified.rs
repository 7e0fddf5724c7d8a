//! Tokens that were proven already: a signature costs 55 µs to check, and callers send the same token with
//! each request.

use std::{
    sync::Arc,
    time::{SystemTime, UNIX_EPOCH},
};

use aws_lc_rs::digest::{SHA256, digest};
use policy::Principal;
use quick_cache::sync::Cache;

use super::{claims::Claims, fault::TokenFault, keys::KeySet};

/// Tokens of one issuer that are remembered; the ones that were not used for longest go first. At some 400
/// bytes each that is 6 MiB.
const MOST: usize = 16 * 1024;

/// What was proven of a token.
#[derive(Clone, Debug)]
pub(crate) struct Verified {
    pub(crate) principal: Arc<Principal>,
    pub(crate) claims: Claims,
    /// The id of the key that verified it.
    pub(crate) key_id: Option<String>,
    /// Seconds since the epoch, leeway included: not good before the one, nor from the other on.
    pub(crate) from: u64,
    pub(crate) until: u64,
    /// By these keys: when others are in force, it has to be proven again.
    pub(crate) keys: Arc<KeySet>,
}

impl Verified {
    /// # Errors
    /// When it isn't good yet, or no more.
    pub(crate) fn is_current(&self, now: u64) -> Result<(), TokenFault> {
        if now >= self.until {
            return Err(TokenFault::Expired);
        }
        if now < self.from {
            return Err(TokenFault::NotYetValid);
        }
        Ok(())
    }
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
    /// What was proven of a token, if it was and holds now.
    ///
    /// # Errors
    /// When its time has ended since.
    pub(crate) fn find(
        &self,
        hash: TokenHash,
        keys: &Arc<KeySet>,
    ) -> Result<Option<Arc<Verified>>, TokenFault> {
        let Some(known) = self.0.get(&hash.0) else {
            return Ok(None);
        };
        if !Arc::ptr_eq(&known.keys, keys) {
            self.0.remove(&hash.0);
            return Ok(None);
        }
        known.is_current(unix_now())?;
        Ok(Some(known))
    }

    pub(crate) fn remember(&self, hash: TokenHash, verified: &Arc<Verified>) {
        self.0.insert(hash.0, Arc::clone(verified));
    }
}

/// Seconds since the epoch.
pub(crate) fn unix_now() -> u64 {
    SystemTime::now()
        .duration_since(UNIX_EPOCH)
        .map_or(0, |since| since.as_secs())
}

#[cfg(test)]
mod tests {
    use std::collections::{BTreeMap, BTreeSet};

    use super::{super::claims::Confirmation, *};

    fn verified(from: u64, until: u64, keys: &Arc<KeySet>) -> Verified {
        Verified {
            principal: Arc::new(Principal {
                issuer: "main".to_owned(),
                subject: "alice".to_owned(),
                scopes: BTreeSet::new(),
                groups: BTreeSet::new(),
                attributes: BTreeMap::new(),
            }),
            claims: Claims {
                token_id: None,
                issued: None,
                expires: until,
                not_before: None,
                confirmation: Confirmation::default(),
            },
            key_id: None,
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
            found.map(|known| known.map(|it| it.principal.subject.clone()))
        };
        let remember = |token: &str, from, until| {
            tokens.remember(
                TokenHash::of(token),
                &Arc::new(verified(from, until, &keys)),
            );
        };
        remember("good", 0, unix_now() + 60);
        remember("ended", 0, unix_now());
        remember("early", unix_now() + 60, unix_now() + 120);
        assert_eq!(found("good", &keys), Ok(Some("alice".to_owned())));
        assert_eq!(found("goo", &keys), Ok(None));
        assert_eq!(found("ended", &keys), Err(TokenFault::Expired));
        assert_eq!(found("early", &keys), Err(TokenFault::NotYetValid));
        assert_eq!(found("good", &others), Ok(None));
        assert_eq!(found("good", &keys), Ok(None), "it was forgotten");
    }
}
