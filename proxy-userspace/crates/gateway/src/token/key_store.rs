//! The current keys of one issuer, kept so in the background.

use std::{
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
    time::{Duration, SystemTime},
};

use arc_swap::ArcSwap;
use tokio::{
    sync::{Notify, watch},
    time::{self, Instant},
};

use super::{
    key_source::{Discovery, KeySource},
    keys::{KeyError, KeySet},
    signature::Algorithm,
};

/// How long a request waits for keys that may hold the one that its token names: one fetch of each step
/// takes 5 s at most, and few take one.
const PATIENCE: Duration = Duration::from_secs(3);

/// Requests that wait so at a time; others are refused at once. Each holds a few KiB.
const MOST_WAITING: usize = 1024;

/// After a failure, or without any keys, they are asked for again as soon as this.
const RETRY: Duration = Duration::from_secs(30);

/// When keys are asked for, and how long they serve.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct KeyTimes {
    /// Longest time between two refreshes; what the server says of its answer can make it shorter.
    pub refresh: Duration,
    /// Least time between two refreshes that unknown key ids, or what the server says, ask for.
    pub refetch: Duration,
    /// How long the last good keys serve on when refreshes fail.
    pub outlive: Duration,
}

/// What there is to tell of an issuer's keys.
#[derive(Debug)]
pub enum KeyNews {
    /// Others are in force, so many.
    Loaded(usize),
    /// A refresh failed.
    Failed(KeyError),
    /// A refresh failed, as the one before.
    FailedAgain(KeyError),
    /// A refresh succeeded, after one that failed.
    Recovered(usize),
    /// They were not to be had for too long: none is in force.
    Outlived(KeyError),
}

/// An issuer's keys as those who watch see them.
#[derive(Clone, Copy, Debug)]
pub struct KeyReport {
    /// How many are in force.
    pub count: usize,
    /// Refreshes that succeeded.
    pub fetched: u64,
    /// Refreshes that failed.
    pub failed: u64,
    /// When they were good last.
    pub good: Option<SystemTime>,
    /// Whether they were not to be had for too long.
    pub outlived: bool,
}

/// The current keys of one issuer. The last good ones stay for a while when refreshes fail.
#[derive(Debug)]
pub struct KeyStore {
    source: KeySource,
    algorithms: Vec<Algorithm>,
    times: KeyTimes,
    keys: ArcSwap<KeySet>,
    state: Mutex<State>,
    outlived: AtomicBool,
    fetched: AtomicU64,
    failed: AtomicU64,
    wanted: Notify,
    /// Counts refreshes that have ended.
    tried: watch::Sender<u64>,
}

#[derive(Debug, Default)]
struct State {
    good: Option<(Instant, SystemTime)>,
    /// When a token with an unknown key made us ask.
    asked: Option<Instant>,
    fetching: bool,
    failing: bool,
    waiting: usize,
    fresh: Option<Duration>,
}

impl KeyStore {
    /// A store without keys until the first [`Self::refresh`].
    pub fn new(source: KeySource, algorithms: Vec<Algorithm>, times: KeyTimes) -> Self {
        Self {
            source,
            algorithms,
            times,
            keys: ArcSwap::default(),
            state: Mutex::default(),
            outlived: AtomicBool::new(false),
            fetched: AtomicU64::new(0),
            failed: AtomicU64::new(0),
            wanted: Notify::new(),
            tried: watch::Sender::new(0),
        }
    }

    /// The keys in force.
    pub fn current(&self) -> Arc<KeySet> {
        self.keys.load_full()
    }

    /// Whether they come over the network.
    pub fn are_remote(&self) -> bool {
        matches!(self.source, KeySource::Url(_) | KeySource::Discovery(_))
    }

    /// The issuer's metadata, where the keys are found through it.
    pub(crate) fn discovery(&self) -> Option<&Discovery> {
        match &self.source {
            KeySource::Discovery(discovery) => Some(discovery),
            _ => None,
        }
    }

    /// Whether `keys` are those in force.
    pub(crate) fn are_current(&self, keys: &Arc<KeySet>) -> bool {
        Arc::ptr_eq(&self.keys.load(), keys)
    }

    /// Whether they were not to be had for so long that none is in force.
    pub(crate) fn are_outlived(&self) -> bool {
        self.outlived.load(Ordering::Relaxed)
    }

    /// For those who watch.
    pub fn report(&self) -> KeyReport {
        KeyReport {
            count: self.keys.load().len(),
            fetched: self.fetched.load(Ordering::Relaxed),
            failed: self.failed.load(Ordering::Relaxed),
            good: self.state().good.map(|(_, at)| at),
            outlived: self.are_outlived(),
        }
    }

    /// Takes over the keys in force of another store with the same source, none where it had none yet, and
    /// when they were good and asked for.
    pub fn take_over(&self, other: &Self) -> bool {
        let same = self.source.origin() == other.source.origin()
            && self.algorithms == other.algorithms
            && matches!(self.source, KeySource::Discovery(_))
                == matches!(other.source, KeySource::Discovery(_));
        if same {
            if let (Some(own), Some(theirs)) = (self.discovery(), other.discovery()) {
                own.take_over(theirs);
            }
            self.keys.store(other.current());
            let (mut own, theirs) = (self.state(), other.state());
            own.good = theirs.good;
            own.asked = theirs.asked;
            own.failing = theirs.failing;
            own.fresh = theirs.fresh;
            for (own, theirs) in [
                (&self.fetched, &other.fetched),
                (&self.failed, &other.failed),
            ] {
                own.store(theirs.load(Ordering::Relaxed), Ordering::Relaxed);
            }
            let outlived = other.are_outlived();
            self.outlived.store(outlived, Ordering::Relaxed);
        }
        same
    }

    /// Reads the source and puts its keys in force.
    ///
    /// # Errors
    /// See [`KeyError`]; the keys in force stay.
    pub async fn refresh(&self) -> Result<usize, KeyError> {
        let fetching = Fetching::begin(self);
        let outcome = self.obtain().await;
        let count = match &outcome {
            Ok(_) => &self.fetched,
            Err(_) => &self.failed,
        };
        count.fetch_add(1, Ordering::Relaxed);
        drop(fetching);
        outcome
    }

    async fn obtain(&self) -> Result<usize, KeyError> {
        let document = self.source.obtain().await?;
        let before = self.keys.load();
        // What was proven by the same ones stays proven.
        if before.is_empty() || !before.is_of(&document.bytes) {
            let keys = KeySet::parse(&document.bytes, &self.algorithms)?;
            self.keys.store(Arc::new(keys));
        }
        let mut state = self.state();
        state.good = Some((Instant::now(), SystemTime::now()));
        state.fresh = document.fresh;
        self.outlived.store(false, Ordering::Relaxed);
        Ok(self.keys.load().len())
    }

    /// Refreshes before the keys' time is over, and when a token names one that isn't there. Never ends.
    pub async fn keep_current(&self, tell: impl Fn(KeyNews)) {
        loop {
            tokio::select! {
                () = time::sleep(self.pause()) => {}
                () = self.wanted.notified() => {}
            }
            let before = self.current();
            let outcome = self.refresh().await;
            let failed_before = std::mem::replace(&mut self.state().failing, outcome.is_err());
            match outcome {
                Ok(count) if failed_before => tell(KeyNews::Recovered(count)),
                Ok(count) if !self.are_current(&before) => tell(KeyNews::Loaded(count)),
                Ok(_) => {}
                Err(error) if self.outlive() => tell(KeyNews::Outlived(error)),
                Err(error) if failed_before => tell(KeyNews::FailedAgain(error)),
                Err(error) => tell(KeyNews::Failed(error)),
            }
        }
    }

    /// Takes keys out of force that were not to be had for too long; whether it did.
    fn outlive(&self) -> bool {
        let good = self.state().good;
        let over = good.is_some_and(|(at, _)| at.elapsed() >= self.times.outlive);
        if !over || self.keys.load().is_empty() {
            return false;
        }
        self.outlived.store(true, Ordering::Relaxed);
        self.keys.store(Arc::default());
        true
    }

    fn pause(&self) -> Duration {
        let times = &self.times;
        let state = self.state();
        if state.failing || self.keys.load().is_empty() {
            let retry = RETRY.min(times.refresh);
            let left = state
                .good
                .map(|(at, _)| times.outlive.saturating_sub(at.elapsed()));
            // Never at once: a server that is down is asked again and again for as long.
            let left = left.filter(|left| !left.is_zero());
            return left.map_or(retry, |left| retry.min(left));
        }
        // Somewhat before the time is over that the server gave.
        let fresh = state.fresh.map(|fresh| fresh * 9 / 10);
        let fresh = fresh.map(|fresh| fresh.max(times.refetch));
        fresh.map_or(times.refresh, |fresh| fresh.min(times.refresh))
    }

    /// Has the keys fetched for a token that names one which isn't there: once an interval, however many
    /// ask, and all of them wait for that one. Whether there was one to wait for that has ended.
    pub(crate) async fn refetch(&self) -> bool {
        let mut tried = self.tried.subscribe();
        let Some(_waiting) = Waiting::begin(self) else {
            return false;
        };
        let ended = time::timeout(PATIENCE, tried.changed()).await;
        ended.is_ok_and(|ended| ended.is_ok())
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// A refresh that is going on; those who wait for it hear when this is dropped.
struct Fetching<'s>(&'s KeyStore);

impl<'s> Fetching<'s> {
    fn begin(store: &'s KeyStore) -> Self {
        store.state().fetching = true;
        Self(store)
    }
}

impl Drop for Fetching<'_> {
    fn drop(&mut self) {
        self.0.state().fetching = false;
        self.0.tried.send_modify(|count| *count += 1);
    }
}

/// A request that waits for a refresh.
struct Waiting<'s>(&'s KeyStore);

impl<'s> Waiting<'s> {
    /// `None` where it would wait in vain, or too many do.
    fn begin(store: &'s KeyStore) -> Option<Self> {
        let mut state = store.state();
        if state.waiting >= MOST_WAITING {
            return None;
        }
        if !state.fetching {
            let asked = state.asked.map(|at| at.elapsed());
            if asked.is_some_and(|ago| ago < store.times.refetch) {
                return None;
            }
            state.asked = Some(Instant::now());
            state.fetching = true;
            store.wanted.notify_one();
        }
        state.waiting += 1;
        Some(Self(store))
    }
}

impl Drop for Waiting<'_> {
    fn drop(&mut self) {
        self.0.state().waiting -= 1;
    }
}

#[cfg(test)]
mod tests {
    use std::{path::PathBuf, process};

    use super::*;

    const KEY: &str = r#"{"kty":"OKP","crv":"Ed25519","kid":"KID","x":"11qYAYKxCrfVS_7TyWQHOg7hcvPapiMlrwIaaPcHURo"}"#;

    /// A JWKS in a file of its own.
    struct Written(PathBuf);

    impl Written {
        fn new(name: &str) -> Self {
            let name = format!("portcullis-keys-{}-{name}", process::id());
            let written = Self(std::env::temp_dir().join(name));
            written.keys(&["a"]);
            written
        }

        fn keys(&self, ids: &[&str]) {
            let keys: Vec<String> = ids.iter().map(|id| KEY.replace("KID", id)).collect();
            let text = format!("{{\"keys\":[{}]}}", keys.join(","));
            std::fs::write(&self.0, text).expect("a file");
        }

        fn store(&self, times: KeyTimes) -> Arc<KeyStore> {
            let source = KeySource::File(self.0.clone());
            Arc::new(KeyStore::new(source, vec![Algorithm::EdDSA], times))
        }
    }

    impl Drop for Written {
        fn drop(&mut self) {
            let _ = std::fs::remove_file(&self.0);
        }
    }

    const TIMES: KeyTimes = KeyTimes {
        refresh: Duration::from_secs(300),
        refetch: Duration::from_secs(30),
        outlive: Duration::from_secs(3_600),
    };

    fn keep(store: &Arc<KeyStore>) -> tokio::task::JoinHandle<()> {
        let store = Arc::clone(store);
        tokio::spawn(async move { store.keep_current(|_| {}).await })
    }

    fn knows(store: &KeyStore, id: &str) -> bool {
        store.current().knows(id)
    }

    #[tokio::test(start_paused = true)]
    async fn all_who_ask_for_an_unknown_key_wait_for_one_fetch_an_interval() {
        let written = Written::new("storm");
        let store = written.store(TIMES);
        store.refresh().await.expect("keys");
        let kept = keep(&store);
        written.keys(&["a", "b"]);
        let asking: Vec<_> = (0..500)
            .map(|_| {
                let store = Arc::clone(&store);
                tokio::spawn(async move { store.refetch().await && knows(&store, "b") })
            })
            .collect();
        for asked in asking {
            assert!(asked.await.expect("no panic"), "it waited for the new key");
        }
        assert_eq!(store.report().fetched, 2, "one at the start, one for all");
        for _ in 0..10_000 {
            assert!(!store.refetch().await, "within the interval nobody waits");
        }
        assert_eq!(store.report().fetched, 2);
        time::sleep(TIMES.refetch).await;
        assert!(store.refetch().await);
        assert_eq!(store.report().fetched, 3);
        kept.abort();
    }

    #[tokio::test(start_paused = true)]
    async fn the_last_good_keys_serve_on_for_a_while_and_come_back() {
        let written = Written::new("outage");
        let times = KeyTimes {
            outlive: Duration::from_secs(1_000),
            ..TIMES
        };
        let store = written.store(times);
        store.refresh().await.expect("keys");
        let kept = keep(&store);
        std::fs::write(&written.0, "{\"keys\":[]}").expect("a file");
        time::sleep(Duration::from_secs(990)).await;
        assert!(knows(&store, "a") && !store.are_outlived());
        assert!(store.report().failed > 10, "it goes on asking");
        time::sleep(Duration::from_secs(40)).await;
        assert!(!knows(&store, "a") && store.are_outlived());
        written.keys(&["a"]);
        time::sleep(Duration::from_secs(31)).await;
        assert!(knows(&store, "a") && !store.are_outlived());
        kept.abort();
    }

    #[tokio::test(start_paused = true)]
    async fn what_the_server_says_shortens_the_pause_within_bounds() {
        let written = Written::new("fresh");
        let store = written.store(TIMES);
        store.refresh().await.expect("keys");
        for (fresh, pause) in [
            (None, 300),
            (Some(100), 90),
            (Some(1), 30),
            (Some(86_400), 300),
        ] {
            store.state().fresh = fresh.map(Duration::from_secs);
            assert_eq!(store.pause(), Duration::from_secs(pause), "{fresh:?}");
        }
    }

    #[tokio::test(start_paused = true)]
    async fn who_waits_for_a_fetch_that_does_not_end_waits_for_a_bounded_time() {
        let written = Written::new("stuck");
        let store = written.store(TIMES);
        store.refresh().await.expect("keys");
        let began = Instant::now();
        // Nobody keeps it current.
        assert!(!store.refetch().await);
        assert_eq!(began.elapsed(), PATIENCE);
    }
}
