//! What this process remembers of logins, so that nothing is used twice or after its end.

use std::{
    collections::HashMap,
    sync::{PoisonError, RwLock},
};

use aws_lc_rs::digest::{SHA256, digest};

use super::renewal::Renewals;
use crate::replay::{self, Name, ReplaySet};

/// Attempts that were answered, and sessions that were ended, at a time: some 3 MiB of each.
const MOST: usize = 64 * 1024;

/// What is kept through a reload. It is empty at the start: the issuer takes no code twice, and a session that
/// was ended before can be used by whoever had a copy of its cookie.
#[derive(Debug)]
pub struct LoginMemory {
    /// Attempts that had their answer.
    pub(super) answered: ReplaySet,
    /// Sessions that were ended, with the second in which they would end by themselves.
    ended: RwLock<HashMap<Name, u64>>,
    pub(super) renewals: Renewals,
}

impl Default for LoginMemory {
    fn default() -> Self {
        Self {
            answered: ReplaySet::new(MOST),
            ended: RwLock::default(),
            renewals: Renewals::default(),
        }
    }
}

impl LoginMemory {
    /// Remembers that a session is over, until it would be; `false` where there is no room for it.
    pub(super) fn end(&self, session: &str, until: u64, now: u64) -> bool {
        let mut ended = self.ended.write().unwrap_or_else(PoisonError::into_inner);
        if ended.len() >= MOST {
            ended.retain(|_, until| *until > now);
        }
        if ended.len() >= MOST {
            return false;
        }
        ended.insert(name_of(&[session]), until);
        true
    }

    pub(crate) fn has_ended(&self, session: &str) -> bool {
        let ended = self.ended.read().unwrap_or_else(PoisonError::into_inner);
        !ended.is_empty() && ended.contains_key(&name_of(&[session]))
    }
}

/// Half of the SHA-256 of parts that hold no zero byte.
pub(super) fn name_of(parts: &[&str]) -> Name {
    replay::name_of(&digest(&SHA256, parts.join("\0").as_bytes()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_session_that_was_ended_stays_so_and_its_room_is_given_back() {
        let memory = LoginMemory::default();
        assert!(memory.end("one", 100, 50));
        assert!(memory.has_ended("one") && !memory.has_ended("other"));
        for number in 1..MOST {
            assert!(memory.end(&number.to_string(), 200, 50));
        }
        assert!(!memory.end("last", 200, 50), "there is no room");
        assert!(
            memory.end("last", 200, 100),
            "the first would be over by itself"
        );
        assert!(memory.has_ended("last") && !memory.has_ended("one"));
    }
}
