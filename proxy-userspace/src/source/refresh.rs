//! One refresh of a feed: what its source says is read, judged, and put on its list, or held back,
//! or refused; what was there before stays until something better has come whole.

use std::{sync::Arc, time::Duration};

use gateway::Validators;
use tokio::task;

use super::{
    Feeds, Kept,
    content::RefreshError,
    judge::suspicion,
    obtain::{Obtained, obtain},
    record::{Held, Identity, Record},
};
use crate::{
    bulk,
    lists::{ListError, Outcome, REVERTED, Refresh},
    state::{Clock, Document},
    trail::note,
};

/// Documents: the record of a feed, and the content that was held back, as it came.
pub(super) const RECORD: &str = "feed-record";
pub(super) const HELD: &str = "feed-held";

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
        if kept.is_gone() {
            return Err(RefreshError::Removed);
        }
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
                let taken = bulk::spawn(move || feeds.take(&task_kept, obtained, &manner));
                match taken {
                    Ok(taken) => taken.await.unwrap_or(Err(RefreshError::CutOff)),
                    Err(error) => Err(RefreshError::NoThread(error)),
                }
            }
        };
        if let Err(error) = &done
            && !manner.dry_run
        {
            // Waits for the lists and for the disk.
            task::block_in_place(|| self.failed(kept, error));
        }
        done
    }

    /// Lets in what was held back, unless its digest doesn't begin so: another content may have
    /// come since somebody looked.
    pub(super) async fn accept_kept(
        self: &Arc<Self>,
        kept: &Arc<Kept>,
        digest: Option<&str>,
        manner: Manner,
    ) -> Result<Option<Outcome>, RefreshError> {
        let _turn = kept.turn.lock().await;
        if kept.is_gone() {
            return Err(RefreshError::Removed);
        }
        let Some(held) = kept.record().held.clone() else {
            return Ok(None);
        };
        if digest.is_some_and(|digest| !held.content.digest.starts_with(digest)) {
            return Err(RefreshError::HeldIsAnother(held.content.shown().to_owned()));
        }
        let (feeds, kept) = (Arc::clone(self), Arc::clone(kept));
        let done = bulk::spawn(move || {
            let stored = feeds.lists.stored_one(HELD, kept.feed.name())?;
            let content = Content {
                bytes: stored.ok_or(RefreshError::HeldIsGone)?,
                identity: held.content,
            };
            feeds.put(&kept, content, &manner)
        });
        let done = done.map_err(RefreshError::NoThread)?;
        match done.await.unwrap_or(Err(RefreshError::CutOff))? {
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
        let held = kept.record().held.clone().filter(|_| is_held);
        let refreshed = match held {
            Some(Held { why, .. }) => Refreshed::Held { why },
            None => Refreshed::Unchanged,
        };
        if manner.dry_run {
            return Ok(refreshed);
        }
        self.keep(kept, None, |record| {
            record.held = record.held.take().filter(|_| is_held);
            record.heard();
        })?;
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
                let held = Held {
                    content: identity,
                    why: why.clone(),
                    since_ms: Clock::now().unix_ms,
                    entries: after,
                };
                let remedy = held.remedy(name);
                note(&self.journal, "feed_held", &format!("{name}: {why}"));
                tracing::error!(
                    feed = name,
                    "HELD BACK: {why}; the last good content stays. Look at it with `portcullis feed show {name}`, {remedy}"
                );
                self.keep(kept, Some(bytes), |record| {
                    record.held = Some(held);
                    record.heard();
                })?;
            }
            return Ok(Refreshed::Held { why });
        }
        record.content = Some(identity);
        record.heard();
        record.changed_ms = record.good_ms;
        let refresh = Refresh {
            list: name,
            entries: &entries,
            ttl: feed.ttl,
            documents: Vec::new(),
            confirm: manner.confirm,
        };
        if manner.dry_run {
            return Ok(Refreshed::Changed(self.lists.preview_refresh(&refresh)?));
        }
        let outcome = {
            // Whoever looks meanwhile sees both as they were, or both as they are then.
            let mut in_force = kept.record();
            // It was read while somebody may have paused the feed.
            record.paused = in_force.paused;
            let outcome = self.lists.refresh(Refresh {
                documents: vec![
                    record_of(name, &record),
                    Document::remove(HELD, name.to_owned()),
                    Document::remove(REVERTED, name.to_owned()),
                ],
                ..refresh
            })?;
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

    fn failed(&self, kept: &Kept, error: &RefreshError) {
        let name = kept.feed.name();
        let problem = error.to_string();
        let is_news = kept.record().problem.as_ref() != Some(&problem);
        if is_news {
            tracing::error!(
                feed = name,
                "NOT REFRESHED: {problem}; the last good content stays"
            );
            note(&self.journal, "feed_failed", &format!("{name}: {problem}"));
        }
        let failed = |record: &mut Record| {
            record.tried_ms = Some(Clock::now().unix_ms);
            record.failures = record.failures.saturating_add(1);
            record.problem = Some(problem);
        };
        if let Err(error) = self.keep(kept, None, failed) {
            tracing::error!(feed = name, %error, "what is known of it can't be kept");
        }
    }

    /// Changes what is known of a feed, and keeps it, with a content that is held back. Of two who do so
    /// at once, neither undoes what the other did.
    pub(super) fn keep(
        &self,
        kept: &Kept,
        held: Option<Vec<u8>>,
        change: impl FnOnce(&mut Record),
    ) -> Result<(), ListError> {
        let name = kept.feed.name();
        let mut known = kept.record();
        let mut record = known.clone();
        change(&mut record);
        let mut documents = vec![record_of(name, &record)];
        if record.content.is_none() {
            documents.push(Document::remove(REVERTED, name.to_owned()));
        }
        match held {
            Some(bytes) => documents.push(Document::put(HELD, name.to_owned(), bytes)),
            None if record.held.is_none() => {
                documents.push(Document::remove(HELD, name.to_owned()));
            }
            None => {}
        }
        self.lists.store(documents)?;
        *known = record;
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
}
