//! How much may be tried again: when everything fails, tries would only double the load.

use std::sync::atomic::{AtomicU32, Ordering};

/// What a request brings in, and a try takes out: one try for each five requests in the long run.
const A_REQUEST: u32 = 1;
const A_TRY: u32 = 5;

/// Most that is saved up: a hundred tries at once.
const MOST: u32 = 100 * A_TRY;

/// An upstream's tries. Starts full.
#[derive(Debug)]
pub(super) struct RetryBudget(AtomicU32);

impl Default for RetryBudget {
    fn default() -> Self {
        Self(AtomicU32::new(MOST))
    }
}

impl RetryBudget {
    /// A request has come.
    pub(super) fn earn(&self) {
        // Full nearly always: then nothing is written.
        let left = self.0.load(Ordering::Relaxed);
        if left < MOST {
            self.0.fetch_add(A_REQUEST, Ordering::Relaxed);
        }
    }

    /// Whether one may be tried again.
    pub(super) fn spend(&self) -> bool {
        let take = |left: u32| left.checked_sub(A_TRY);
        self.0
            .fetch_update(Ordering::Relaxed, Ordering::Relaxed, take)
            .is_ok()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_try_for_five_requests_once_what_was_saved_is_gone() {
        let budget = RetryBudget::default();
        assert_eq!((0..1000).filter(|_| budget.spend()).count(), 100);
        let tried = (0..1000)
            .filter(|_| {
                budget.earn();
                budget.spend()
            })
            .count();
        assert_eq!(tried, 200);
    }
}
