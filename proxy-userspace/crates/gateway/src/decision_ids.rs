//! Ids of decisions.

use std::sync::atomic::{AtomicU64, Ordering};

use audit::DecisionId;

/// Hands out decision ids: a random half for the process, a counter for the decision.
#[derive(Debug)]
pub(crate) struct DecisionIds {
    process: u64,
    next: AtomicU64,
}

impl DecisionIds {
    pub(crate) fn new() -> Result<Self, getrandom::Error> {
        Ok(Self {
            process: getrandom::u64()?,
            next: AtomicU64::new(0),
        })
    }

    pub(crate) fn draw(&self) -> DecisionId {
        let number = self.next.fetch_add(1, Ordering::Relaxed);
        DecisionId(u128::from(self.process) << 64 | u128::from(number))
    }
}
