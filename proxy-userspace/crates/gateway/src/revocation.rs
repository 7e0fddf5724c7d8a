//! Tokens that are taken back before their time is over: in force for the next request on every worker, and
//! noticed by what goes on meanwhile.

use std::{
    collections::HashMap,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
};

use arc_swap::ArcSwap;
use tokio::sync::Notify;

use crate::token::{TokenFault, Verified};

/// Which tokens are taken back: those that everything holds of that is given here. With nothing given, all.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Revocation {
    /// Exact value of `iss`.
    pub issuer: Option<String>,
    /// Exact value of `jti`.
    pub token_id: Option<String>,
    /// The subject, as the issuer's configuration reads it from the token.
    pub subject: Option<String>,
    /// The id of the key that verifies it.
    pub key_id: Option<String>,
    /// Seconds since the epoch: issued before that, or without a word of when.
    pub issued_before: Option<u64>,
}

impl Revocation {
    fn covers(&self, token: &Verified) -> bool {
        let is = |wanted: &Option<String>, it: Option<&str>| {
            wanted
                .as_deref()
                .is_none_or(|wanted| it.is_some_and(|it| it == wanted))
        };
        is(&self.issuer, Some(&token.issuer))
            && is(&self.token_id, token.claims.token_id.as_deref())
            && is(&self.subject, Some(&token.principal.subject))
            && is(&self.key_id, token.key_id.as_deref())
            && self
                .issued_before
                .is_none_or(|before| token.claims.issued.is_none_or(|issued| issued < before))
    }
}

/// What is revoked, found by the rarest thing that is said of it.
#[derive(Debug, Default)]
struct Revoked {
    generation: u64,
    by_token_id: HashMap<String, Vec<Revocation>>,
    by_subject: HashMap<String, Vec<Revocation>>,
    by_key_id: HashMap<String, Vec<Revocation>>,
    others: Vec<Revocation>,
}

impl Revoked {
    fn of(all: impl IntoIterator<Item = Revocation>, generation: u64) -> Self {
        let mut revoked = Self {
            generation,
            ..Self::default()
        };
        for it in all {
            let place = match (&it.token_id, &it.subject, &it.key_id) {
                (Some(id), ..) => revoked.by_token_id.entry(id.clone()).or_default(),
                (None, Some(subject), _) => revoked.by_subject.entry(subject.clone()).or_default(),
                (None, None, Some(id)) => revoked.by_key_id.entry(id.clone()).or_default(),
                (None, None, None) => &mut revoked.others,
            };
            place.push(it);
        }
        revoked
    }

    fn covers(&self, token: &Verified) -> bool {
        let found = |place: &HashMap<String, Vec<Revocation>>, key: Option<&str>| {
            let those = key.and_then(|key| place.get(key));
            those.is_some_and(|those| those.iter().any(|it| it.covers(token)))
        };
        found(&self.by_token_id, token.claims.token_id.as_deref())
            || found(&self.by_subject, Some(&token.principal.subject))
            || found(&self.by_key_id, token.key_id.as_deref())
            || self.others.iter().any(|it| it.covers(token))
    }
}

/// What is revoked in this process. Each change is a generation of its own: a token that was good in this one
/// is not looked up again.
#[derive(Debug)]
pub struct Revocations {
    revoked: ArcSwap<Revoked>,
    generation: AtomicU64,
    changed: Arc<Notify>,
}

impl Default for Revocations {
    fn default() -> Self {
        // No token has been judged before the first.
        let first = Verified::UNJUDGED + 1;
        Self {
            revoked: ArcSwap::from_pointee(Revoked::of([], first)),
            generation: AtomicU64::new(first),
            changed: Arc::default(),
        }
    }
}

impl Revocations {
    /// Puts these in force in the place of those before. To be called by one thread at a time.
    pub fn exchange(&self, all: impl IntoIterator<Item = Revocation>) {
        let generation = self.generation() + 1;
        self.revoked.store(Arc::new(Revoked::of(all, generation)));
        self.generation.store(generation, Ordering::Release);
        self.changed.notify_waiters();
    }

    /// Another one with each change.
    pub fn generation(&self) -> u64 {
        self.generation.load(Ordering::Acquire)
    }

    /// # Errors
    /// When a token is revoked.
    pub(crate) fn judge(&self, token: &Verified) -> Result<(), TokenFault> {
        if token.judged.load(Ordering::Relaxed) == self.generation() {
            return Ok(());
        }
        let revoked = self.revoked.load();
        if revoked.covers(token) {
            return Err(TokenFault::Revoked);
        }
        token.judged.store(revoked.generation, Ordering::Relaxed);
        Ok(())
    }

    /// Has those who wait look again: something else than a token may have been taken back.
    pub(crate) fn tell(&self) {
        self.changed.notify_waiters();
    }

    /// Tells of changes, whoever waited before one.
    pub(crate) fn changed(&self) -> Arc<Notify> {
        Arc::clone(&self.changed)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::token::sample;

    /// Of alice, by the issuer `https://one`, with id `1`, verified by key `k`, issued at 1,000.
    fn token() -> Verified {
        let mut token = sample(0, u64::MAX);
        token.issuer = "https://one".into();
        token.claims.token_id = Some("1".to_owned());
        token.claims.issued = Some(1_000);
        token.key_id = Some("k".to_owned());
        token
    }

    fn revoking(issuer: &str, [token_id, subject, key_id]: [&str; 3], before: u64) -> Revocation {
        let given = |text: &str| (!text.is_empty()).then(|| text.to_owned());
        Revocation {
            issuer: given(issuer),
            token_id: given(token_id),
            subject: given(subject),
            key_id: given(key_id),
            issued_before: (before > 0).then_some(before),
        }
    }

    #[test]
    fn what_all_holds_of_that_is_given_is_revoked() {
        for (issuer, words, before, is_revoked) in [
            ("https://one", ["", "", ""], 0, true),
            ("https://two", ["", "", ""], 0, false),
            ("one", ["", "", ""], 0, false),
            ("", ["1", "", ""], 0, true),
            ("", ["2", "", ""], 0, false),
            ("https://one", ["1", "", ""], 0, true),
            ("https://two", ["1", "", ""], 0, false),
            ("", ["", "alice", ""], 0, true),
            ("", ["", "Alice", ""], 0, false),
            ("", ["", "alice", "k"], 0, true),
            ("", ["", "alice", "l"], 0, false),
            ("", ["", "", "k"], 0, true),
            ("", ["", "", "kk"], 0, false),
            ("", ["1", "bob", ""], 0, false),
            ("", ["", "", ""], 1_001, true),
            ("", ["", "", ""], 1_000, false),
            ("", ["", "alice", ""], 1_001, true),
            ("", ["", "bob", ""], 1_001, false),
        ] {
            let revocations = Revocations::default();
            let token = token();
            assert_eq!(revocations.judge(&token), Ok(()));
            let one = revoking(issuer, words, before);
            revocations.exchange([revoking("https://other", ["9", "", ""], 0), one.clone()]);
            let judged = revocations.judge(&token);
            let expected = if is_revoked {
                Err(TokenFault::Revoked)
            } else {
                Ok(())
            };
            assert_eq!(judged, expected, "{one:?}");
            assert_eq!(revocations.judge(&token), expected, "once more: {one:?}");
            revocations.exchange([]);
            assert_eq!(revocations.judge(&token), Ok(()), "taken back: {one:?}");
        }
    }

    #[test]
    fn a_token_that_does_not_say_what_it_is_asked_for_is_the_safe_way_round() {
        let revocations = Revocations::default();
        let mut token = token();
        token.claims.issued = None;
        revocations.exchange([revoking("", ["", "", ""], 1)]);
        assert_eq!(revocations.judge(&token), Err(TokenFault::Revoked));
        (token.claims.token_id, token.key_id) = (None, None);
        revocations.exchange([
            revoking("", ["1", "", ""], 0),
            revoking("", ["", "", "k"], 0),
        ]);
        assert_eq!(revocations.judge(&token), Ok(()));
    }

    #[test]
    fn of_many_each_is_found() {
        let revocations = Revocations::default();
        let ids = || (0..50_000).map(|id| id.to_string());
        revocations.exchange(ids().map(|id| revoking("", [&id, "", ""], 0)));
        let mut token = token();
        for (number, id) in ids().enumerate().step_by(997) {
            token.claims.token_id = Some(id);
            assert_eq!(
                revocations.judge(&token),
                Err(TokenFault::Revoked),
                "{number}"
            );
        }
        token.claims.token_id = Some("50000".to_owned());
        assert_eq!(revocations.judge(&token), Ok(()));
    }
}
