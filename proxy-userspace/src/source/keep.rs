//! When a feed's source is asked: as often as it says, less often while it fails, at once when its
//! file was written anew.

use std::{
    sync::Arc,
    time::{Duration, Instant},
};

use gateway::FileStamp;
use tokio::time;

use super::{
    Feeds, Kept, content::RefreshError, definition::Source, obtain::ObtainError, refresh::Manner,
};

/// How often it is looked whether a file was written anew.
const LOOK_INTERVAL: Duration = Duration::from_secs(1);

/// The wait after the first failure; it doubles with every other one.
const FIRST_WAIT: Duration = Duration::from_secs(5);

/// The longest that a server may ask to be left alone for.
const LONGEST_WAIT: Duration = Duration::from_secs(24 * 3_600);

/// Shares by which a wait is shortened and lengthened at random, so that the many who follow a list
/// don't all ask at the same moment.
const JITTER: f64 = 0.1;

impl Feeds {
    /// Keeps one feed current until it is removed.
    pub(super) async fn keep_current(self: Arc<Self>, kept: Arc<Kept>) {
        if let Source::Input = kept.feed.source {
            return;
        }
        let mut watched = match &kept.feed.source {
            Source::File(path) => Some(Watched::new(path)),
            _ => None,
        };
        // What a stop and a start lie between may have changed.
        let mut wait = Duration::ZERO;
        loop {
            kept.set_next(wait);
            if let Some(watched) = &mut watched {
                watched.wait(wait, &kept).await;
            } else {
                tokio::select! {
                    () = time::sleep(wait) => {}
                    () = kept.wake.notified() => {}
                }
            }
            if kept.is_gone() {
                return;
            }
            if kept.record().paused {
                kept.set_next(Duration::MAX);
                kept.wake.notified().await;
                wait = Duration::ZERO;
                continue;
            }
            let done = self.refresh_kept(&kept, None, Manner::default()).await;
            let asked_to_wait = match &done {
                Err(RefreshError::Obtain(ObtainError::Fetch(error))) => error.asks_to_wait(),
                _ => None,
            };
            let failures = kept.record().failures;
            wait = kept.next_wait(failures, asked_to_wait, random_share());
        }
    }
}

impl Kept {
    /// How long to wait after a refresh; `share` is drawn from 0 to 1.
    fn next_wait(&self, failures: u32, asked: Option<Duration>, share: f64) -> Duration {
        let feed = &self.feed;
        let wait = match failures.checked_sub(1) {
            None => feed.refresh,
            Some(doublings) => {
                let backoff = FIRST_WAIT.saturating_mul(1 << doublings.min(16));
                backoff.min(feed.refresh)
            }
        };
        let wait = wait.mul_f64(1.0 - JITTER + 2.0 * JITTER * share);
        let least = match feed.source {
            Source::Url(_) => feed.min_interval,
            Source::File(_) | Source::Input => Duration::ZERO,
        };
        let asked = asked.unwrap_or_default().min(LONGEST_WAIT);
        wait.max(least).max(asked)
    }
}

/// From 0 to 1.
fn random_share() -> f64 {
    // Without randomness everybody waits equally long, which is no worse than a clock.
    f64::from(getrandom::u32().unwrap_or(u32::MAX / 2)) / f64::from(u32::MAX)
}

/// A file that is looked at again and again. Directories can be watched, but not over a network.
struct Watched<'a> {
    path: &'a std::path::Path,
    read: Option<FileStamp>,
}

impl<'a> Watched<'a> {
    fn new(path: &'a std::path::Path) -> Self {
        Self { path, read: None }
    }

    /// Waits until it was written anew and is written no more, or so long, or until it is woken.
    async fn wait(&mut self, longest: Duration, kept: &Kept) {
        let end = Instant::now() + longest;
        let mut last_seen = self.read.clone();
        loop {
            let left = end.saturating_duration_since(Instant::now());
            tokio::select! {
                () = time::sleep(left.min(LOOK_INTERVAL)) => {}
                () = kept.wake.notified() => break,
            }
            let seen = FileStamp::of(self.path);
            let is_new = seen.is_some() && seen != self.read;
            // Whoever writes it in place is waited for.
            if is_new && seen == last_seen || left.is_zero() {
                break;
            }
            last_seen = seen;
        }
        self.read = FileStamp::of(self.path);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::source::definition::{Definition, Feed};

    fn kept(definition: Definition) -> Kept {
        let feed = Feed::prove(Definition {
            name: "drop".to_owned(),
            refresh: Some("1h".to_owned()),
            ..definition
        });
        Kept::new(feed.expect("a good definition"), false)
    }

    fn url() -> Kept {
        kept(Definition {
            url: Some("https://lists.example/drop.txt".to_owned()),
            ..Definition::default()
        })
    }

    #[test]
    fn waits_double_while_a_source_fails_and_never_exceed_its_interval() {
        let file = kept(Definition {
            file: Some("/lists/drop.txt".into()),
            ..Definition::default()
        });
        let seconds = |failures| file.next_wait(failures, None, 0.5).as_secs_f64().round();
        let waits: Vec<f64> = [0, 1, 2, 3, 10, 99].map(seconds).to_vec();
        assert_eq!(waits, [3_600.0, 5.0, 10.0, 20.0, 2_560.0, 3_600.0]);
    }

    #[test]
    fn waits_differ_by_a_tenth_to_each_side() {
        let wait = |share| url().next_wait(0, None, share).as_secs_f64();
        assert_eq!((wait(0.0).round(), wait(1.0).round()), (3_240.0, 3_960.0));
    }

    #[test]
    fn a_publisher_is_left_alone_for_the_least_interval_and_as_long_as_he_asks() {
        let failing = |asked| url().next_wait(1, asked, 0.0);
        assert_eq!(failing(None), Duration::from_secs(60));
        let asked = Duration::from_secs(900);
        assert_eq!(failing(Some(asked)), asked);
        assert_eq!(failing(Some(Duration::MAX)), LONGEST_WAIT);
    }
}
