//! How often an issuer is asked, and how many at a time: whoever sends rubbish floods it no more than that.

use std::{
    sync::{Mutex, PoisonError},
    time::{Duration, Instant},
};

use tokio::sync::{Semaphore, SemaphorePermit};

use super::IntrospectionRules;

/// Questions that are under way or wait for a turn. Each holds a token.
const MOST_UNDER_WAY: usize = 1024;
/// How long answers that a token isn't good are counted together.
const COUNTED: Duration = Duration::from_secs(1);

#[derive(Debug)]
pub(super) struct Bounds {
    deadline: Duration,
    turns: Semaphore,
    max_inactive: u32,
    /// When it began to count, and what it has counted.
    inactive: Mutex<Option<(Instant, u32)>>,
}

impl Bounds {
    pub(super) fn new(rules: &IntrospectionRules) -> Self {
        Self {
            deadline: rules.deadline,
            turns: Semaphore::new(rules.max_concurrent),
            max_inactive: rules.max_inactive,
            inactive: Mutex::default(),
        }
    }

    /// Whether one more may be asked with so many under way. Tokens that were good the last time are asked about
    /// whatever others send.
    pub(super) fn admit(&self, under_way: usize, was_good: bool, now: Instant) -> bool {
        under_way < MOST_UNDER_WAY && (was_good || !self.is_spent(now))
    }

    /// A turn to ask, in the order of coming; `None` where it doesn't come in time.
    pub(super) async fn turn(&self) -> Option<SemaphorePermit<'_>> {
        let turn = tokio::time::timeout(self.deadline, self.turns.acquire()).await;
        turn.ok()?.ok()
    }

    /// A token was no good.
    pub(super) fn spend(&self, now: Instant) {
        let mut counted = self.inactive.lock().unwrap_or_else(PoisonError::into_inner);
        *counted = match *counted {
            Some((since, count)) if now < since + COUNTED => Some((since, count.saturating_add(1))),
            _ => Some((now, 1)),
        };
    }

    fn is_spent(&self, now: Instant) -> bool {
        let counted = self.inactive.lock().unwrap_or_else(PoisonError::into_inner);
        counted.is_some_and(|(since, count)| now < since + COUNTED && count >= self.max_inactive)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rubbish_is_asked_about_so_often_a_second_and_what_was_good_always() {
        let second = Duration::from_secs(1);
        let bounds = Bounds::new(&IntrospectionRules {
            deadline: second,
            cache: second,
            inactive_cache: second,
            max_concurrent: 1,
            max_inactive: 3,
        });
        let now = Instant::now();
        for _ in 0..3 {
            assert!(bounds.admit(0, false, now));
            bounds.spend(now);
        }
        assert!(!bounds.admit(0, false, now));
        assert!(bounds.admit(0, true, now));
        assert!(!bounds.admit(MOST_UNDER_WAY, true, now));
        assert!(bounds.admit(0, false, now + second));
        bounds.spend(now + second);
        assert!(bounds.admit(0, false, now + second));
    }
}
