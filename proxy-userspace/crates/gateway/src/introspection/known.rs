//! What an issuer answered about tokens, for a short while, and of so many at most.

use std::{
    sync::Arc,
    time::{Duration, Instant},
};

use quick_cache::sync::Cache;

use super::AskedFor;
use crate::token::{TokenFault, Verified};

/// Tokens that are known to be good; the ones that were not used for longest go first. At some 500 bytes each that
/// is 8 MiB.
const MOST_ACTIVE: usize = 16 * 1024;
/// Tokens that are known not to be. They have a place of their own: whoever sends rubbish has nobody forgotten.
const MOST_INACTIVE: usize = 4 * 1024;

/// What is known of a token.
#[derive(Debug)]
pub(super) enum Known {
    /// It is good.
    Active(Arc<Verified>),
    /// It isn't.
    Inactive(TokenFault),
    /// It was the last time, and has to be asked about again.
    WasActive,
    Nothing,
}

#[derive(Debug)]
pub(super) struct KnownTokens {
    active: Cache<AskedFor, (Arc<Verified>, Instant)>,
    inactive: Cache<AskedFor, (TokenFault, Instant)>,
    active_for: Duration,
    inactive_for: Duration,
}

impl KnownTokens {
    pub(super) fn new(active_for: Duration, inactive_for: Duration) -> Self {
        Self {
            active: Cache::new(MOST_ACTIVE),
            inactive: Cache::new(MOST_INACTIVE),
            active_for,
            inactive_for,
        }
    }

    pub(super) fn find(&self, asked: &AskedFor, now: Instant) -> Known {
        match self.active.get(asked) {
            Some((verified, until)) if now < until => return Known::Active(verified),
            Some(_) => return Known::WasActive,
            None => {}
        }
        match self.inactive.get(asked) {
            Some((fault, until)) if now < until => Known::Inactive(fault),
            _ => Known::Nothing,
        }
    }

    /// Until the time of the answer is over, or the token's, without leeway: from then on its issuer is asked.
    pub(super) fn remember(
        &self,
        asked: AskedFor,
        verified: &Arc<Verified>,
        now: Instant,
        seconds: u64,
    ) {
        let left = verified.claims.expires.saturating_sub(seconds);
        let until = now + self.active_for.min(Duration::from_secs(left));
        self.inactive.remove(&asked);
        self.active.insert(asked, (Arc::clone(verified), until));
    }

    pub(super) fn remember_inactive(&self, asked: AskedFor, fault: TokenFault, now: Instant) {
        self.active.remove(&asked);
        self.inactive
            .insert(asked, (fault, now + self.inactive_for));
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::token::{TokenHasher, sample};

    const SECOND: Duration = Duration::from_secs(1);

    fn asked(token: &str, route: &str) -> AskedFor {
        // One key for all.
        static HASHER: std::sync::OnceLock<TokenHasher> = std::sync::OnceLock::new();
        let hasher = HASHER.get_or_init(|| TokenHasher::new().expect("randomness"));
        let hash = |text| hasher.hash(text).expect("a hash");
        AskedFor {
            token: hash(token),
            route: hash(route),
        }
    }

    fn told(known: &Known) -> &'static str {
        match known {
            Known::Active(_) => "active",
            Known::Inactive(_) => "inactive",
            Known::WasActive => "was active",
            Known::Nothing => "nothing",
        }
    }

    #[test]
    fn what_was_answered_is_known_for_its_time_and_on_its_route() {
        let tokens = KnownTokens::new(30 * SECOND, 2 * SECOND);
        let now = Instant::now();
        let good = Arc::new(sample(0, 1_000));
        tokens.remember(asked("a", "orders"), &good, now, 100);
        tokens.remember_inactive(asked("b", "orders"), TokenFault::Inactive, now);
        let at =
            |token, route, later: Duration| told(&tokens.find(&asked(token, route), now + later));
        assert_eq!(at("a", "orders", 29 * SECOND), "active");
        assert_eq!(at("a", "orders", 30 * SECOND), "was active");
        assert_eq!(at("a", "files", SECOND), "nothing");
        assert_eq!(at("b", "orders", SECOND), "inactive");
        assert_eq!(at("b", "orders", 2 * SECOND), "nothing");
        assert_eq!(at("c", "orders", SECOND), "nothing");
        tokens.remember_inactive(asked("a", "orders"), TokenFault::Inactive, now);
        assert_eq!(at("a", "orders", SECOND), "inactive");
        tokens.remember(asked("a", "orders"), &good, now, 100);
        assert_eq!(at("a", "orders", SECOND), "active");
    }

    #[test]
    fn nothing_is_known_beyond_the_end_of_the_token() {
        let tokens = KnownTokens::new(30 * SECOND, SECOND);
        let now = Instant::now();
        let good = sample(0, 1_000);
        let expires = good.claims.expires;
        let good = Arc::new(good);
        tokens.remember(asked("a", "orders"), &good, now, expires - 5);
        tokens.remember(asked("b", "orders"), &good, now, expires);
        let at = |token, later: Duration| told(&tokens.find(&asked(token, "orders"), now + later));
        assert_eq!(at("a", 4 * SECOND), "active");
        assert_eq!(at("a", 5 * SECOND), "was active");
        assert_eq!(at("b", Duration::ZERO), "was active");
    }

    #[test]
    fn rubbish_pushes_out_nobody_who_was_let_in() {
        let tokens = KnownTokens::new(30 * SECOND, 30 * SECOND);
        let now = Instant::now();
        tokens.remember(asked("a", "orders"), &Arc::new(sample(0, 1_000)), now, 100);
        for number in 0..MOST_INACTIVE * 4 {
            let rubbish = asked(&number.to_string(), "orders");
            tokens.remember_inactive(rubbish, TokenFault::Inactive, now);
        }
        assert!(tokens.inactive.len() <= MOST_INACTIVE);
        assert_eq!(told(&tokens.find(&asked("a", "orders"), now)), "active");
    }
}
