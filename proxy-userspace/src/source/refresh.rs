//! One refresh of a feed: what its source says is read, judged, and put on its list, or held back,
//! or refused; what was there before stays until something better has come whole.

use std::{collections::HashSet, fmt::Write as _, sync::Arc, time::Duration};

use aws_lc_rs::digest::{SHA256, digest};
use gateway::Validators;
use ipnet::IpNet;
use tokio::task;

use super::{
    Feeds, Kept,
    definition::Feed,
    judge::suspicion,
    obtain::{ObtainError, Obtained, obtain},
    record::{Held, Identity, Record, SHOWN},
};
use crate::{
    feed::{BadLine, FeedError, UnpackError, read, unpack},
    lifeline::{Cut, cut_around},
    lists::{ListError, Outcome, Refresh, Sourced},
    state::{Clock, Document},
    trail::note,
};

/// Documents: the record of a feed, and the content that was held back, as it came.
pub(super) const RECORD: &str = "feed-record";
pub(super) const HELD: &str = "feed-held";

/// Bad lines that an error tells.
const TOLD: usize = 3;

/// Why a refresh came to nothing.
#[derive(Debug, thiserror::Error)]
pub(crate) enum RefreshError {
    #[error(transparent)]
    Obtain(#[from] ObtainError),
    #[error("it {0}")]
    Unpack(#[from] UnpackError),
    #[error("it is no text (UTF-8): byte {0}")]
    NotText(usize),
    #[error("{0}")]
    Unreadable(#[from] FeedError),
    #[error("{} lines can't be read, and max_bad_lines is {most}: {}", bad.len(), told(bad))]
    BadLines { bad: Vec<BadLine>, most: usize },
    #[error("it holds no entries")]
    Nothing,
    #[error(transparent)]
    List(#[from] ListError),
    #[error("it was cut off: {0}")]
    Task(#[from] task::JoinError),
}

fn told(bad: &[BadLine]) -> String {
    let mut text = String::new();
    for BadLine {
        number,
        text: line,
        problem,
    } in bad.iter().take(TOLD)
    {
        let _ = write!(text, "line {number} ({}) {problem}; ", line.escape_debug());
    }
    match bad.len().checked_sub(TOLD) {
        Some(more) if more > 0 => text.push_str(&format!("and {more} more")),
        _ => text.truncate(text.len().saturating_sub(2)),
    }
    text
}

/// How a refresh is made.
#[derive(Clone, Debug, Default)]
pub(crate) struct Manner {
    /// Say what would come of it, and change nothing.
    pub(crate) dry_run: bool,
    /// It reverts by itself when nobody confirms it for so long.
    pub(crate) confirm: Option<Duration>,
    /// Somebody has looked at it and lets it in, however it looks.
    pub(crate) accept: bool,
}

/// What came of a refresh.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Refreshed {
    /// The source says what it said before.
    Unchanged,
    /// The list is what the source says.
    Changed(Outcome),
    /// What the source says is held back.
    Held { why: String },
}

/// A content that came, and by what it is known again.
struct Content {
    bytes: Vec<u8>,
    identity: Identity,
}

impl Feeds {
    /// Asks the source, or takes what was handed over, and does what follows from it.
    pub(super) async fn refresh_kept(
        self: &Arc<Self>,
        kept: &Arc<Kept>,
        input: Option<Vec<u8>>,
        manner: Manner,
    ) -> Result<Refreshed, RefreshError> {
        // One refresh of a feed at a time.
        let _turn = kept.turn.lock().await;
        let known = kept.known();
        let obtained = match input {
            Some(bytes) => Ok(Obtained::Content {
                bytes,
                validators: Validators::default(),
            }),
            None => obtain(&kept.feed, &known).await,
        };
        let (feeds, task_kept) = (Arc::clone(self), Arc::clone(kept));
        let done = match obtained {
            Err(error) => Err(error.into()),
            // Reading, lists and disk: nothing for a thread that serves requests.
            Ok(obtained) => {
                let manner = manner.clone();
                task::spawn_blocking(move || feeds.take(&task_kept, obtained, &manner))
                    .await
                    .map_err(RefreshError::from)
                    .flatten()
            }
        };
        if let Err(error) = &done
            && !manner.dry_run
        {
            self.failed(kept, error);
        }
        done
    }

    /// Lets in what was held back.
    pub(super) async fn accept_kept(
        self: &Arc<Self>,
        kept: &Arc<Kept>,
        manner: Manner,
    ) -> Result<Option<Outcome>, RefreshError> {
        let _turn = kept.turn.lock().await;
        let Some(held) = kept.record().held.clone() else {
            return Ok(None);
        };
        let (feeds, kept) = (Arc::clone(self), Arc::clone(kept));
        let done = task::spawn_blocking(move || {
            let stored = feeds.lists.stored_one(HELD, kept.feed.name())?;
            let content = Content {
                bytes: stored.unwrap_or_default(),
                identity: held.content,
            };
            feeds.put(&kept, content, &manner)
        });
        match done.await?? {
            Refreshed::Changed(outcome) => Ok(Some(outcome)),
            Refreshed::Unchanged | Refreshed::Held { .. } => Ok(None),
        }
    }

    fn take(
        &self,
        kept: &Kept,
        obtained: Obtained,
        manner: &Manner,
    ) -> Result<Refreshed, RefreshError> {
        let (bytes, validators) = match obtained {
            Obtained::Content { bytes, validators } => (bytes, validators),
            Obtained::Unchanged => {
                let is_held = kept.record().held.is_some();
                return self.same(kept, manner, is_held);
            }
        };
        let identity = Identity {
            digest: kept.digest(&bytes),
            etag: validators.etag,
            last_modified: validators.last_modified,
        };
        let is = |known: Option<&Identity>| known.is_some_and(|it| it.digest == identity.digest);
        let (is_held, is_in_force) = {
            let record = kept.record();
            let held = record.held.as_ref().map(|held| &held.content);
            (is(held), is(record.content.as_ref()))
        };
        // Where entries have a time, it counts from when the source named them last.
        if is_held || is_in_force && kept.feed.ttl.is_none() {
            return self.same(kept, manner, is_held);
        }
        self.put(kept, Content { bytes, identity }, manner)
    }

    /// The source says what it said before: what is in force, or what is held back.
    fn same(&self, kept: &Kept, manner: &Manner, is_held: bool) -> Result<Refreshed, RefreshError> {
        let before = kept.record().clone();
        let why = before.held.as_ref().filter(|_| is_held).map(|it| &it.why);
        let refreshed = match why {
            Some(why) => Refreshed::Held { why: why.clone() },
            None => Refreshed::Unchanged,
        };
        if manner.dry_run {
            return Ok(refreshed);
        }
        let mut after = Record {
            held: before.held.clone().filter(|_| is_held),
            ..before
        };
        after.heard();
        self.keep(kept, after, None)?;
        Ok(refreshed)
    }

    fn put(
        &self,
        kept: &Kept,
        content: Content,
        manner: &Manner,
    ) -> Result<Refreshed, RefreshError> {
        let feed = &kept.feed;
        let name = feed.name();
        let Content { bytes, identity } = content;
        let (mut record, entries) = self.read(kept, &bytes)?;
        let before = self.lists.count(name);
        let after = entries.len();
        let held = suspicion(before, after, feed.ratios)
            .filter(|_| !manner.accept)
            .map(|why| why.to_string());
        if held.is_none() && after == 0 && before == 0 {
            return Err(RefreshError::Nothing);
        }
        if let Some(why) = held {
            if !manner.dry_run {
                let (since_ms, content) = (Clock::now().unix_ms, identity);
                let entries = after;
                let (why, of_record) = (why.clone(), kept.record().clone());
                note(&self.journal, "feed_held", &format!("{name}: {why}"));
                tracing::error!(
                    feed = name,
                    "HELD BACK: {why}; the last good content stays. Look at it with `portcullis feed show {name}`, let it in with `portcullis feed accept {name}`"
                );
                let mut after = Record {
                    held: Some(Held {
                        content,
                        why,
                        since_ms,
                        entries,
                    }),
                    ..of_record
                };
                after.heard();
                self.keep(kept, after, Some(bytes))?;
            }
            return Ok(Refreshed::Held { why });
        }
        record.content = Some(identity);
        record.heard();
        record.changed_ms = record.good_ms;
        let mut documents = vec![record_of(name, &record)];
        documents.push(Document::remove(HELD, name.to_owned()));
        let refresh = Refresh {
            list: name,
            entries: &entries,
            ttl: feed.ttl,
            documents,
            confirm: manner.confirm,
        };
        if manner.dry_run {
            return Ok(Refreshed::Changed(self.lists.preview_refresh(&refresh)?));
        }
        let outcome = {
            // Whoever looks meanwhile sees both as they were, or both as they are then.
            let mut in_force = kept.record();
            let outcome = self.lists.refresh(refresh)?;
            in_force.clone_from(&record);
            outcome
        };
        let (added, removed) = (outcome.added, outcome.removed);
        if record.cuts > 0 {
            note(
                &self.journal,
                "cut_entry",
                &format!("{} of {name}: {}", record.cuts, record.cut.join(", ")),
            );
        }
        note(
            &self.journal,
            "feed_refresh",
            &format!("{name}: {added} added, {removed} removed, {after} entries"),
        );
        tracing::info!(feed = name, added, removed, entries = after, "refreshed");
        Ok(Refreshed::Changed(outcome))
    }

    /// The entries of a content, cut around what keeps this host reachable.
    fn read(&self, kept: &Kept, bytes: &[u8]) -> Result<(Record, Vec<Sourced>), RefreshError> {
        let feed = &kept.feed;
        let text = unpack(bytes, feed.largest)?;
        let text = std::str::from_utf8(&text)
            .map_err(|error| RefreshError::NotText(error.valid_up_to()))?;
        let most = feed.reading.max_bad_lines;
        let mut found = match read(text, &feed.reading) {
            Err(FeedError::BadLines(bad)) => return Err(RefreshError::BadLines { bad, most }),
            found => found?,
        };
        let is_wide = |prefix: &IpNet| self.widest.check([prefix].into_iter()).is_err();
        for entry in found.entries.extract_if(.., |entry| is_wide(&entry.prefix)) {
            found.bad.push(BadLine {
                number: entry.line,
                text: entry.prefix.to_string(),
                problem: "is wider than lists.widest allows".to_owned(),
            });
        }
        if found.bad.len() > most {
            let bad = found.bad;
            return Err(RefreshError::BadLines { bad, most });
        }
        let entries = found.entries.iter();
        let entries = entries.map(|it| (it.prefix, (it.line as u32, it.left)));
        let mut entries: Vec<_> = entries.collect();
        let mut cuts = Vec::new();
        if !feed.definition.trusted {
            (entries, cuts) = cut_around(entries, &self.lifelines.observe(None));
        }
        let mut named = HashSet::with_capacity(entries.len());
        entries.retain(|(prefix, _)| named.insert(*prefix));
        let cut = |Cut { entry, around }: &Cut| format!("{entry} around {around}");
        let record = Record {
            format: Some(found.format.name().to_owned()),
            bad_lines: found.bad.len(),
            bad: found.bad.into_iter().take(SHOWN).collect(),
            below_score: found.below_score,
            cuts: cuts.len(),
            cut: cuts.iter().take(SHOWN).map(cut).collect(),
            paused: kept.record().paused,
            ..Record::default()
        };
        let sourced = entries.into_iter().map(|(prefix, (line, lasts))| Sourced {
            prefix,
            line,
            lasts,
        });
        Ok((record, sourced.collect()))
    }

    fn failed(&self, kept: &Kept, error: &RefreshError) {
        let name = kept.feed.name();
        let problem = error.to_string();
        let mut record = kept.record().clone();
        record.tried_ms = Some(Clock::now().unix_ms);
        record.failures = record.failures.saturating_add(1);
        let is_news = record.problem.as_ref() != Some(&problem);
        record.problem = Some(problem.clone());
        if is_news {
            tracing::error!(
                feed = name,
                "NOT REFRESHED: {problem}; the last good content stays"
            );
            note(&self.journal, "feed_failed", &format!("{name}: {problem}"));
        }
        if let Err(error) = self.keep(kept, record, None) {
            tracing::error!(feed = name, %error, "what is known of it can't be kept");
        }
    }

    /// Keeps a record, and a content that is held back.
    pub(super) fn keep(
        &self,
        kept: &Kept,
        record: Record,
        held: Option<Vec<u8>>,
    ) -> Result<(), ListError> {
        let name = kept.feed.name();
        let mut documents = vec![record_of(name, &record)];
        match held {
            Some(bytes) => documents.push(Document::put(HELD, name.to_owned(), bytes)),
            None if record.held.is_none() => {
                documents.push(Document::remove(HELD, name.to_owned()));
            }
            None => {}
        }
        self.lists.store(documents)?;
        *kept.record() = record;
        Ok(())
    }
}

fn record_of(name: &str, record: &Record) -> Document {
    let value = serde_json::to_vec(record).unwrap_or_default();
    Document::put(RECORD, name.to_owned(), value)
}

impl Record {
    /// Notes that the source gave a good answer.
    fn heard(&mut self) {
        let now_ms = Clock::now().unix_ms;
        self.tried_ms = Some(now_ms);
        self.good_ms = Some(now_ms);
        self.failures = 0;
        self.problem = None;
    }
}

impl Kept {
    /// By what the source can say that it says what it said before.
    fn known(&self) -> Validators {
        if self.feed.ttl.is_some() {
            return Validators::default();
        }
        let record = self.record();
        let held = record.held.as_ref().map(|held| &held.content);
        held.or(record.content.as_ref())
            .map(Identity::validators)
            .unwrap_or_default()
    }

    /// What a content is known by: its bytes, and what decides which entries come of them.
    fn digest(&self, bytes: &[u8]) -> String {
        format!("{}/{}", hex(bytes), self.reading_digest())
    }

    fn reading_digest(&self) -> String {
        let Feed {
            reading,
            definition,
            ..
        } = &self.feed;
        hex(format!("{reading:?} {}", definition.trusted).as_bytes())
    }

    /// A server that is asked by the validators of a content that was read in another way would only
    /// say that it hasn't changed.
    pub(super) fn forget_if_read_otherwise(&self, record: &mut Record) {
        let now = self.reading_digest();
        let is_other = |it: &Identity| !it.digest.ends_with(&now);
        record.content = record.content.take().filter(|it| !is_other(it));
        record.held = record.held.take().filter(|it| !is_other(&it.content));
    }
}

/// The first half of a SHA-256, which nobody finds another content for.
fn hex(bytes: &[u8]) -> String {
    let sum = digest(&SHA256, bytes);
    sum.as_ref()[..16]
        .iter()
        .fold(String::new(), |mut text, byte| {
            let _ = write!(text, "{byte:02x}");
            text
        })
}
