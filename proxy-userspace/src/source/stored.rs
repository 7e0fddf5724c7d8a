//! Feeds as a start finds them: those of the configuration, those that were defined at run time, and
//! what is left of those that are gone.

use std::{collections::HashSet, sync::Arc};

use proxy_common::Mode;

use super::{
    Feeds, Kept,
    definition::{Definition, Feed},
    feed_host,
    record::Record,
    refresh::{HELD, RECORD},
};
use crate::{
    lifeline::Needed,
    lists::{ListError, REVERTED},
    state::{Document, State, StateError},
};

/// Documents: JSON of a [`Definition`] that was made at run time.
pub(super) const DEFINITION: &str = "feed";

/// A feed that will be kept.
#[derive(Debug)]
pub(crate) struct Known {
    pub(crate) feed: Feed,
    by_hand: bool,
}

impl Known {
    /// The feeds of the configuration, and those of the state that aren't there. Beside them the names
    /// of those that can't be kept current and whose lists only watch: they must not begin to drop.
    pub(crate) fn all(
        configured: Vec<Feed>,
        state: &State,
    ) -> Result<(Vec<Self>, Vec<String>), StateError> {
        let mut watching = Vec::new();
        let mut all: Vec<Self> = configured
            .into_iter()
            .map(|feed| Self {
                feed,
                by_hand: false,
            })
            .collect();
        for (name, value) in state.documents(DEFINITION)? {
            if all.iter().any(|known| known.feed.name() == name) {
                tracing::warn!(
                    feed = name,
                    "defined in the configuration and at run time: the configuration counts"
                );
                continue;
            }
            let definition: Result<Definition, _> = serde_json::from_slice(&value);
            let only_watches = definition
                .as_ref()
                .is_ok_and(|it| it.mode.as_deref() == Some("monitor"));
            let proven = definition
                .map_err(|error| error.to_string())
                .and_then(|definition| {
                    Feed::prove(definition).map_err(|flaws| {
                        let flaws: Vec<_> = flaws.iter().map(ToString::to_string).collect();
                        flaws.join("; ")
                    })
                });
            match proven {
                Ok(feed) => all.push(Self {
                    feed,
                    by_hand: true,
                }),
                Err(why) => {
                    tracing::error!(feed = name, "NOT KEPT CURRENT: {why}; its entries stay");
                    watching.extend(only_watches.then_some(name));
                }
            }
        }
        Ok((all, watching))
    }

    /// Its name, and whether it holds trusted prefixes.
    pub(crate) fn list(&self) -> (String, bool) {
        (self.feed.name().to_owned(), self.feed.definition.trusted)
    }

    /// The host of its source, where it was defined at run time: the configuration knows its own.
    pub(crate) fn host(&self) -> Option<Needed> {
        let url = self
            .feed
            .definition
            .url
            .as_deref()
            .filter(|_| self.by_hand)?;
        Needed::of_url(url, feed_host(self.feed.name()))
    }

    /// Whether its list only watches.
    pub(crate) fn only_watches(&self) -> bool {
        self.feed.mode == Mode::Monitor
    }
}

impl Feeds {
    pub(super) fn take_up(self: &Arc<Self>, known: Vec<Known>) -> Result<(), ListError> {
        let records = self.lists.stored(RECORD)?;
        // A daemon that was killed between a revert and what it means for the feed.
        let reverted = self.lists.stored(REVERTED)?;
        let defined: HashSet<String> = self
            .lists
            .stored(DEFINITION)?
            .into_iter()
            .map(|(name, _)| name)
            .collect();
        for Known { feed, by_hand } in known {
            let kept = Kept::new(feed, by_hand);
            let stored = records.iter().find(|(name, _)| name == kept.feed.name());
            if let Some((name, value)) = stored {
                let mut record: Record = serde_json::from_slice(value)
                    .inspect_err(|error| tracing::warn!(feed = name, %error, "begun anew"))
                    .unwrap_or_default();
                kept.forget_if_read_otherwise(&mut record);
                if reverted.iter().any(|(list, _)| list == name) {
                    record.content = None;
                }
                *kept.record() = record;
            }
            let name = kept.feed.name().to_owned();
            self.all().insert(name, Arc::new(kept));
        }
        // A feed that was taken out of the configuration takes its entries with it.
        for (name, _) in records {
            if self.all().contains_key(&name) || defined.contains(&name) {
                continue;
            }
            let documents =
                [RECORD, HELD, REVERTED].map(|kind| Document::remove(kind, name.clone()));
            let gone = self.lists.end_feed(&name, documents.into())?;
            tracing::warn!(
                feed = name,
                entries = gone.removed,
                "no longer defined: its entries are taken off"
            );
        }
        Ok(())
    }
}
