//! Lists with a source: a file that is watched, an https URL, or what is handed over. What was good
//! last stays until something better has come whole.
//!
//! ```text
//! definition  a feed as written, and as proven
//! obtain      what its source says, as bytes
//! content     what it said, read: its entries, and what is wrong with it
//! judge       may that take the place of what it said before?
//! refresh     read, judged, and put on the list, or held back, or refused
//! record      what is known of it, over restarts
//! keep        when its source is asked
//! stored      feeds as a start finds them
//! ```

mod content;
mod definition;
mod judge;
mod keep;
mod obtain;
mod record;
mod refresh;
mod stored;

use std::{
    collections::BTreeMap,
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
    time::Duration,
};

use audit::Journal;
use proxy_common::Mode;
use tokio::{runtime::Handle, sync::Notify};

use crate::{
    lifeline::{Lifelines, Needed},
    lists::{ListError, Lists, Outcome, REVERTED, Widest},
    state::{Clock, Document},
    task::Task,
    trail::note,
};

pub(crate) use self::{
    content::RefreshError,
    content::hexadecimal,
    definition::{Definition, Feed, Flaw},
    record::{FeedReport, Record},
    refresh::{Manner, Refreshed},
    stored::Known,
};

use self::{
    definition::Source,
    refresh::{HELD, RECORD},
    stored::DEFINITION,
};

/// Why something could not be done with a feed.
#[derive(Debug, thiserror::Error)]
pub(crate) enum FeedsError {
    #[error("there is no feed {name:?}; there are: {}", .there.join(", "))]
    NoSuchFeed { name: String, there: Vec<String> },
    #[error("feed {0:?} is there already; remove it first, or choose another name")]
    Exists(String),
    #[error("feed {0:?} is written in the configuration file; change it there")]
    Configured(String),
    #[error("{}", .0.iter().map(ToString::to_string).collect::<Vec<_>>().join("; "))]
    Flaws(Vec<Flaw>),
    #[error("nothing of {0:?} is held back")]
    NothingHeld(String),
    #[error(
        "{name:?} was asked {ago} s ago, and is left alone for {least} s at least (min_interval); wait {left} s"
    )]
    TooSoon {
        name: String,
        ago: u64,
        least: u64,
        left: u64,
    },
    #[error("{name:?} was not refreshed: {source}; the last good content stays")]
    Refresh {
        name: String,
        source: Box<RefreshError>,
    },
    #[error(transparent)]
    List(#[from] ListError),
}

/// All lists with a source.
pub(crate) struct Feeds {
    lists: Arc<Lists>,
    journal: Arc<Journal>,
    lifelines: Arc<Lifelines>,
    widest: Widest,
    runtime: Handle,
    kept: Mutex<BTreeMap<String, Arc<Kept>>>,
    /// That keep them current.
    tasks: Mutex<Vec<Task>>,
}

/// One of them, while it is kept current.
pub(crate) struct Kept {
    feed: Feed,
    /// Defined at run time, and not in the configuration.
    by_hand: bool,
    record: Mutex<Record>,
    /// Held by whoever refreshes it.
    turn: tokio::sync::Mutex<()>,
    wake: Notify,
    gone: AtomicBool,
    /// When its source will be asked, in milliseconds since the epoch; 0 for not at all.
    next_ms: AtomicU64,
}

impl Kept {
    fn new(feed: Feed, by_hand: bool) -> Self {
        Self {
            feed,
            by_hand,
            record: Mutex::default(),
            turn: tokio::sync::Mutex::new(()),
            wake: Notify::new(),
            gone: AtomicBool::new(false),
            next_ms: AtomicU64::new(0),
        }
    }

    fn record(&self) -> MutexGuard<'_, Record> {
        self.record.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn is_gone(&self) -> bool {
        self.gone.load(Ordering::Acquire)
    }

    fn set_next(&self, wait: Duration) {
        let next = Clock::now().unix_ms.checked_add(millis(wait));
        self.next_ms.store(next.unwrap_or(0), Ordering::Relaxed);
    }
}

/// What the host of a feed's URL is needed for.
pub(crate) fn feed_host(name: &str) -> String {
    format!("the source of feed {name:?}")
}

fn millis(duration: Duration) -> u64 {
    u64::try_from(duration.as_millis()).unwrap_or(u64::MAX)
}

impl Feeds {
    /// The feeds that are known; none is kept current yet.
    pub(crate) fn new(
        lists: Arc<Lists>,
        journal: Arc<Journal>,
        lifelines: Arc<Lifelines>,
        widest: Widest,
        runtime: Handle,
        known: Vec<Known>,
    ) -> Result<Arc<Self>, ListError> {
        let feeds = Arc::new(Self {
            lists,
            journal,
            lifelines,
            widest,
            runtime,
            kept: Mutex::default(),
            tasks: Mutex::default(),
        });
        feeds.take_up(known)?;
        Ok(feeds)
    }

    /// Begins to keep all of them current.
    pub(crate) fn start(self: &Arc<Self>) {
        let all: Vec<_> = self.all().values().cloned().collect();
        for kept in all {
            self.begin(kept);
        }
    }

    /// Keeps none current any more, until they are started again.
    pub(crate) fn rest(&self) {
        self.tasks().clear();
    }

    fn begin(self: &Arc<Self>, kept: Arc<Kept>) {
        let kept_current = Arc::clone(self).keep_current(kept);
        let task = Task(self.runtime.spawn(kept_current));
        self.tasks().push(task);
    }

    fn tasks(&self) -> MutexGuard<'_, Vec<Task>> {
        self.tasks.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// How all feeds are, by name.
    pub(crate) fn reports(&self) -> Vec<FeedReport> {
        let all: Vec<_> = self.all().values().cloned().collect();
        all.iter().map(|kept| self.report_of(kept)).collect()
    }

    /// How a feed is.
    pub(crate) fn report(&self, name: &str) -> Result<FeedReport, FeedsError> {
        Ok(self.report_of(&*self.find(name)?))
    }

    /// Asks a feed's source now, or takes what is handed over. For threads that may wait.
    pub(crate) fn refresh(
        self: &Arc<Self>,
        name: &str,
        input: Option<Vec<u8>>,
        manner: Manner,
    ) -> Result<Refreshed, FeedsError> {
        let kept = self.find(name)?;
        if input.is_none() {
            kept.refuse_too_soon()?;
        }
        self.runtime
            .block_on(self.refresh_kept(&kept, input, manner))
            .map_err(|source| FeedsError::Refresh {
                name: name.to_owned(),
                source: Box::new(source),
            })
    }

    /// Lets in what was held back, unless its digest doesn't begin so. For threads that may wait.
    pub(crate) fn accept(
        self: &Arc<Self>,
        name: &str,
        digest: Option<String>,
        manner: Manner,
    ) -> Result<Outcome, FeedsError> {
        let kept = self.find(name)?;
        let manner = Manner {
            accept: true,
            ..manner
        };
        let accepted = self.accept_kept(&kept, digest.as_deref(), manner);
        self.runtime
            .block_on(accepted)
            .map_err(|source| FeedsError::Refresh {
                name: name.to_owned(),
                source: Box::new(source),
            })?
            .ok_or_else(|| FeedsError::NothingHeld(name.to_owned()))
    }

    /// Stops asking a feed's source, or begins again.
    pub(crate) fn pause(&self, name: &str, paused: bool) -> Result<FeedReport, FeedsError> {
        let kept = self.find(name)?;
        self.keep(&kept, None, |record| record.paused = paused)?;
        kept.wake.notify_one();
        let step = if paused { "feed_pause" } else { "feed_resume" };
        note(&self.journal, step, name);
        Ok(self.report_of(&kept))
    }

    /// Begins to keep a feed that somebody defined at run time.
    pub(crate) fn add(self: &Arc<Self>, definition: Definition) -> Result<FeedReport, FeedsError> {
        let name = definition.name.clone();
        if self.all().contains_key(&name) {
            return Err(FeedsError::Exists(name));
        }
        let feed = Feed::prove(definition).map_err(FeedsError::Flaws)?;
        let value = serde_json::to_vec(&feed.definition).unwrap_or_default();
        let document = Document::put(DEFINITION, name.clone(), value);
        self.lists
            .begin_feed(&name, feed.definition.trusted, feed.mode, vec![document])?;
        note(
            &self.journal,
            "feed_add",
            &format!("{name}: {}", feed.place()),
        );
        let host = feed.definition.url.as_deref();
        if let Some(host) = host.and_then(|url| Needed::of_url(url, feed_host(&name))) {
            self.lifelines.need(host);
        }
        let kept = Arc::new(Kept::new(feed, true));
        self.all().insert(name, Arc::clone(&kept));
        let report = self.report_of(&kept);
        self.begin(kept);
        Ok(report)
    }

    /// Keeps a feed no more that was defined at run time, and takes its entries off.
    pub(crate) fn remove(&self, name: &str) -> Result<Outcome, FeedsError> {
        let kept = self.find(name)?;
        if !kept.by_hand {
            return Err(FeedsError::Configured(name.to_owned()));
        }
        // Whoever refreshes it now is done before its list goes.
        let _turn = self.runtime.block_on(kept.turn.lock());
        let documents =
            [DEFINITION, RECORD, HELD, REVERTED].map(|kind| Document::remove(kind, name.into()));
        let outcome = self.lists.end_feed(name, documents.into())?;
        self.all().remove(name);
        self.lifelines.let_go(&feed_host(name));
        kept.gone.store(true, Ordering::Release);
        kept.wake.notify_one();
        note(&self.journal, "feed_remove", name);
        Ok(outcome)
    }

    /// Notes that a list isn't any more what its source said: a change of it was reverted.
    pub(crate) fn reverted(&self, list: &str) {
        let Ok(kept) = self.find(list) else { return };
        if let Err(error) = self.keep(&kept, None, |record| record.content = None) {
            tracing::error!(feed = list, %error, "what is known of it can't be kept");
        }
    }

    /// Where the entries of a list come from, of a list that has a source.
    pub(crate) fn place_of(&self, list: &str) -> Option<String> {
        Some(self.all().get(list)?.feed.place())
    }

    fn find(&self, name: &str) -> Result<Arc<Kept>, FeedsError> {
        let all = self.all();
        all.get(name)
            .cloned()
            .ok_or_else(|| FeedsError::NoSuchFeed {
                name: name.to_owned(),
                there: all.keys().cloned().collect(),
            })
    }

    fn all(&self) -> MutexGuard<'_, BTreeMap<String, Arc<Kept>>> {
        self.kept.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn report_of(&self, kept: &Kept) -> FeedReport {
        let feed = &kept.feed;
        let (record, entries) = {
            let record = kept.record();
            (record.clone(), self.lists.count(feed.name()))
        };
        let next_ms = kept.next_ms.load(Ordering::Relaxed);
        let defined_in = if kept.by_hand {
            "command line"
        } else {
            "configuration"
        };
        let mode = match feed.mode {
            Mode::Enforce => "enforce",
            Mode::Monitor => "monitor",
        };
        FeedReport {
            name: feed.name().to_owned(),
            source: feed.place(),
            defined_in: defined_in.to_owned(),
            trusted: feed.definition.trusted,
            mode: mode.to_owned(),
            state: record.state().to_owned(),
            entries,
            refresh_ms: millis(feed.refresh),
            ttl_ms: feed.ttl.map(millis),
            min_score: feed.reading.min_score,
            next_ms: (next_ms > 0 && !record.paused).then_some(next_ms),
            record,
        }
    }
}

impl Kept {
    /// Protects a publisher from impatience.
    fn refuse_too_soon(&self) -> Result<(), FeedsError> {
        let Source::Url(_) = self.feed.source else {
            return Ok(());
        };
        let Some(tried_ms) = self.record().tried_ms else {
            return Ok(());
        };
        let ago = Duration::from_millis(Clock::now().unix_ms.saturating_sub(tried_ms));
        match self.feed.min_interval.checked_sub(ago) {
            Some(left) if !left.is_zero() => Err(FeedsError::TooSoon {
                name: self.feed.name().to_owned(),
                ago: ago.as_secs(),
                least: self.feed.min_interval.as_secs(),
                left: left.as_secs() + 1,
            }),
            _ => Ok(()),
        }
    }
}
