//! How long each prefix was banned the last time, so that the next ban can be twice as long.

use std::{collections::HashMap, time::Duration};

use ipnet::IpNet;
use serde::{Deserialize, Serialize};

use crate::state::{Clock, Document, State, StateError};

/// Documents: the prefix, and JSON of [`Last`].
const KIND: &str = "last-ban";

/// A ban is forgotten this long after it ended.
const REMEMBERED_MS: u64 = 30 * 24 * 3_600 * 1_000;

/// Most bans that are remembered; those that ended first go first.
const MOST: usize = 100_000;

/// The last ban of a prefix.
#[derive(Clone, Copy, Debug, Serialize, Deserialize)]
struct Last {
    lasts_ms: u64,
    /// Milliseconds since the epoch.
    until_ms: u64,
}

/// Last bans.
#[derive(Debug, Default)]
pub(super) struct History {
    last: HashMap<IpNet, Last>,
}

impl History {
    /// What an earlier run remembered.
    pub(super) fn load(state: &State, clock: &Clock) -> Result<Self, StateError> {
        let documents = state.documents(KIND)?;
        let parsed = documents.iter().filter_map(|(prefix, bytes)| {
            let last: Last = serde_json::from_slice(bytes).ok()?;
            Some((prefix.parse().ok()?, last))
        });
        let is_fresh = |last: &Last| last.until_ms.saturating_add(REMEMBERED_MS) > clock.unix_ms;
        Ok(Self {
            last: parsed.filter(|(_, last)| is_fresh(last)).collect(),
        })
    }

    /// Twice as long as the last ban, where that is longer.
    pub(super) fn escalated(&self, prefix: IpNet, asked: Duration) -> Duration {
        let twice = |last: &Last| Duration::from_millis(last.lasts_ms.saturating_mul(2));
        self.last.get(&prefix).map_or(asked, twice).max(asked)
    }

    /// Remembers a ban; returns what is to be stored of that.
    pub(super) fn note(&mut self, prefix: IpNet, lasts: Duration, clock: &Clock) -> Vec<Document> {
        let lasts_ms = u64::try_from(lasts.as_millis()).unwrap_or(u64::MAX);
        let last = Last {
            lasts_ms,
            until_ms: clock.unix_ms.saturating_add(lasts_ms),
        };
        self.last.insert(prefix, last);
        let value = serde_json::to_vec(&last).unwrap_or_default();
        let mut documents = vec![Document::put(KIND, prefix.to_string(), value)];
        if self.last.len() > MOST {
            documents.extend(self.forget());
        }
        documents
    }

    /// Forgets the half that ended first.
    fn forget(&mut self) -> Vec<Document> {
        let mut ends: Vec<u64> = self.last.values().map(|last| last.until_ms).collect();
        let middle = ends.len() / 2;
        let (_, middle, _) = ends.select_nth_unstable(middle);
        let middle = *middle;
        let gone = self.last.extract_if(|_, last| last.until_ms < middle);
        gone.map(|(prefix, _)| Document::remove(KIND, prefix.to_string()))
            .collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn host(n: u32) -> IpNet {
        IpNet::from(std::net::IpAddr::from(n.to_be_bytes()))
    }

    #[test]
    fn a_ban_lasts_twice_as_long_as_the_one_before_it_or_as_asked() {
        let (clock, mut history) = (Clock::now(), History::default());
        let minute = Duration::from_secs(60);
        assert_eq!(history.escalated(host(1), minute), minute);
        let _ = history.note(host(1), minute, &clock);
        assert_eq!(history.escalated(host(1), minute), 2 * minute);
        assert_eq!(history.escalated(host(1), 5 * minute), 5 * minute);
        assert_eq!(history.escalated(host(2), minute), minute);
        let _ = history.note(host(1), Duration::MAX, &clock);
        assert!(history.escalated(host(1), minute) > 1_000_000 * minute);
    }

    #[test]
    fn a_history_too_long_forgets_those_that_ended_first() {
        let (clock, mut history) = (Clock::now(), History::default());
        let mut stored = 0;
        for n in 0..=MOST as u32 {
            let documents = history.note(host(n), Duration::from_secs(u64::from(n) + 1), &clock);
            stored += documents.len();
        }
        assert!(stored > MOST && history.last.len() <= MOST / 2 + 1);
        let second = Duration::from_secs(1);
        assert_eq!(history.escalated(host(0), second), second);
        assert!(history.escalated(host(MOST as u32), second) > 100_000 * second);
    }
}
