//! What was dropped lately, by source: an estimate from the kernel's samples.

use std::{
    collections::{HashMap, VecDeque},
    net::IpAddr,
    sync::{Mutex, PoisonError},
    time::{SystemTime, UNIX_EPOCH},
};

use serde::{Deserialize, Serialize};

/// Sources that are remembered. Those that were seen last stay, some 6 MiB of them.
const MOST_SOURCES: usize = 16_384;

/// Samples of a source that are remembered in full.
const LAST: usize = 5;

/// One sample.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Sample {
    /// Milliseconds since the epoch.
    pub(crate) at_ms: u64,
    pub(crate) reason: String,
    /// Its list or limit only watches: it passed.
    pub(crate) monitored: bool,
    pub(crate) interface: String,
    pub(crate) bytes: u32,
}

/// What is known of one source.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Seen {
    /// Packets that the samples stand for: exact while all of them are sampled.
    pub(crate) packets: u64,
    pub(crate) samples: u64,
    /// The last of them, newest first.
    pub(crate) last: VecDeque<Sample>,
}

/// What was dropped since the daemon started.
#[derive(Debug)]
pub(crate) struct Drops {
    pub(crate) since_ms: u64,
    by_source: Mutex<HashMap<IpAddr, Seen>>,
}

impl Drops {
    pub(crate) fn new() -> Self {
        let since = SystemTime::now().duration_since(UNIX_EPOCH);
        Self {
            since_ms: since.map_or(0, |since| since.as_millis() as u64),
            by_source: Mutex::default(),
        }
    }

    /// Notes a sample and how many packets it stands for.
    pub(crate) fn note(&self, source: IpAddr, packets: u64, sample: Sample) {
        let mut by_source = self.lock();
        if by_source.len() >= MOST_SOURCES && !by_source.contains_key(&source) {
            forget_half(&mut by_source);
        }
        let seen = by_source.entry(source).or_default();
        seen.packets = seen.packets.saturating_add(packets);
        seen.samples += 1;
        seen.last.push_front(sample);
        seen.last.truncate(LAST);
    }

    /// What is known of a source.
    pub(crate) fn of(&self, source: IpAddr) -> Seen {
        self.lock().get(&source).cloned().unwrap_or_default()
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, HashMap<IpAddr, Seen>> {
        self.by_source
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
    }
}

fn last_ms(seen: &Seen) -> u64 {
    seen.last.front().map_or(0, |sample| sample.at_ms)
}

/// Forgets the half that was seen the longest ago.
fn forget_half(by_source: &mut HashMap<IpAddr, Seen>) {
    let mut times: Vec<u64> = by_source.values().map(last_ms).collect();
    let half = times.len() / 2;
    let (_, middle, _) = times.select_nth_unstable(half);
    let middle = *middle;
    let mut surplus = by_source.len() - half;
    by_source.retain(|_, seen| {
        let goes = surplus > 0 && last_ms(seen) <= middle;
        surplus -= usize::from(goes);
        !goes
    });
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sample(at_ms: u64) -> Sample {
        Sample {
            at_ms,
            reason: "blocked".to_owned(),
            monitored: false,
            interface: "eth0".to_owned(),
            bytes: 60,
        }
    }

    #[test]
    fn the_last_samples_of_a_source_are_kept_and_all_are_counted() {
        let drops = Drops::new();
        let source = IpAddr::from([192, 0, 2, 7]);
        for at_ms in 1..=9 {
            drops.note(source, 10, sample(at_ms));
        }
        let seen = drops.of(source);
        assert_eq!((seen.packets, seen.samples), (90, 9));
        let times: Vec<u64> = seen.last.iter().map(|sample| sample.at_ms).collect();
        assert_eq!(times, [9, 8, 7, 6, 5]);
        assert_eq!(drops.of(IpAddr::from([192, 0, 2, 8])), Seen::default());
    }

    #[test]
    fn many_sources_push_out_those_that_were_seen_the_longest_ago() {
        let drops = Drops::new();
        let source = |n: u32| IpAddr::from(n.to_be_bytes());
        for n in 0..=MOST_SOURCES as u32 {
            drops.note(source(n), 1, sample(u64::from(n)));
        }
        assert_eq!(drops.lock().len(), MOST_SOURCES / 2 + 1);
        assert_eq!(drops.of(source(0)).packets, 0);
        assert_eq!(drops.of(source(MOST_SOURCES as u32)).packets, 1);
        // Also when all of them were seen at the same moment.
        let drops = Drops::new();
        for n in 0..=MOST_SOURCES as u32 {
            drops.note(source(n), 1, sample(0));
        }
        assert_eq!(drops.lock().len(), MOST_SOURCES / 2 + 1);
    }
}
