//! How often an issuer is asked, and how many at a time: whoever sends rubbish floods it no more than that.

use std::{
    sync::{Mutex, PoisonError},
    time::{Duration, Instant},
};

use tokio::sync::{Semaphore, SemaphorePermit};

use super::IntrospectionRules;

/// Questions that are under way or wait for a turn. Each holds a token.
const MOST_UNDER_WAY: usize = 1024;
/// Of these, so many at most are about tokens that weren't good the last time.
const MOST_STRANGERS: usize = 768;
/// How long answers that a token isn't good are counted together.
const COUNTED: Duration = Duration::from_secs(1);

#[derive(Debug)]
pub(super) struct Bounds {
    deadline: Duration,
    turns: Semaphore,
    /// What tokens that weren't good the last time may have of the turns: three quarters, so that those that were
    /// never wait for more than other tokens of their kind.
    strangers: Semaphore,
    max_inactive: u32,
    /// When it began to count, and what it has counted.
    inactive: Mutex<Option<(Instant, u32)>>,
}

impl Bounds {
    pub(super) fn new(rules: &IntrospectionRules) -> Self {
        Self {
            deadline: rules.deadline,
            turns: Semaphore::new(rules.max_concurrent),
            strangers: Semaphore::new((rules.max_concurrent * 3 / 4).max(1)),
            max_inactive: rules.max_inactive,
            inactive: Mutex::default(),
        }
    }

    /// Whether one more may be asked with so many under way. Tokens that were good the last time are asked about
    /// whatever others send.
    pub(super) fn admit(&self, under_way: usize, was_good: bool, now: Instant) -> bool {
        if was_good {
            return under_way < MOST_UNDER_WAY;
        }
        under_way < MOST_STRANGERS && !self.is_spent(now)
    }

    /// A turn to ask, in the order of coming; `None` where it doesn't come in time.
    pub(super) async fn turn(&self, was_good: bool) -> Option<Turn<'_>> {
        let turn = async {
            let stranger = match was_good {
                true => None,
                false => Some(self.strangers.acquire().await.ok()?),
            };
            let turn = self.turns.acquire().await.ok()?;
            Some(Turn {
                _turn: turn,
                _stranger: stranger,
            })
        };
        tokio::time::timeout(self.deadline, turn).await.ok()?
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

/// One question; given back when this is dropped.
pub(super) struct Turn<'b> {
    _turn: SemaphorePermit<'b>,
    _stranger: Option<SemaphorePermit<'b>>,
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
        assert!(bounds.admit(MOST_STRANGERS, true, now + second));
        assert!(!bounds.admit(MOST_STRANGERS, false, now + second));
        assert!(bounds.admit(0, false, now + second));
        bounds.spend(now + second);
        assert!(bounds.admit(0, false, now + second));
    }

    #[tokio::test]
    async fn what_was_good_has_turns_that_rubbish_cannot_take() {
        let moment = Duration::from_millis(50);
        let bounds = Bounds::new(&IntrospectionRules {
            deadline: moment,
            cache: moment,
            inactive_cache: moment,
            max_concurrent: 4,
            max_inactive: 100,
        });
        let mut turns = Vec::new();
        for _ in 0..3 {
            turns.push(bounds.turn(false).await.expect("a turn"));
        }
        assert!(
            bounds.turn(false).await.is_none(),
            "the fourth is another's"
        );
        let good = bounds.turn(true).await.expect("a turn");
        assert!(bounds.turn(true).await.is_none(), "all are taken");
        drop(turns.pop());
        assert!(bounds.turn(true).await.is_some());
        drop(good);
        assert!(bounds.turn(false).await.is_some());
    }
}
