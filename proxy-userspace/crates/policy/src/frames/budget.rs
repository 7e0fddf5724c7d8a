//! So many at once, so many a second, and more for work that was done.

use std::time::Duration;

/// A store of tokens that fills with time.
#[derive(Clone, Copy, Debug)]
pub(super) struct Budget {
    /// Thousandths of a token.
    left: u64,
    most: u64,
    per_second: u64,
    at: Duration,
}

impl Budget {
    /// Full, with room for `most` tokens.
    pub(super) const fn new(most: u64, per_second: u64) -> Self {
        Self {
            left: most * 1_000,
            most: most * 1_000,
            per_second,
            at: Duration::ZERO,
        }
    }

    /// Takes tokens; whether there were as many.
    pub(super) fn spend(&mut self, tokens: u64, now: Duration) -> bool {
        let since = now.saturating_sub(self.at).as_millis();
        let filled = u64::try_from(since)
            .unwrap_or(u64::MAX)
            .saturating_mul(self.per_second);
        if filled > 0 {
            self.at = now;
            self.left = self.left.saturating_add(filled).min(self.most);
        }
        match self.left.checked_sub(tokens * 1_000) {
            Some(left) => {
                self.left = left;
                true
            }
            None => false,
        }
    }

    /// Gives tokens back, never more than there is room for.
    pub(super) fn earn(&mut self, tokens: u64) {
        self.left = self
            .left
            .saturating_add(tokens.saturating_mul(1_000))
            .min(self.most);
    }
}
