//! Lists with a source: shown, refreshed, let in, paused, defined.

use super::{Admin, Changed, Manner, Reply, Request, changed, confirm};
use crate::source::{self, FeedsError, Refreshed};

impl Admin {
    pub(super) fn act_on_feeds(&self, request: Request) -> Result<Reply, FeedsError> {
        let feeds = &self.feeds;
        match request {
            Request::Feeds => Ok(Reply::Feeds {
                feeds: feeds.reports(),
            }),
            Request::Feed { name } => Ok(Reply::Feed(Box::new(feeds.report(&name)?))),
            Request::RefreshFeed {
                name,
                input,
                manner,
            } => {
                let input = input.map(String::into_bytes);
                let refreshed = feeds.refresh(&name, input, of(manner))?;
                let (state, why, outcome) = match refreshed {
                    Refreshed::Unchanged => ("unchanged", None, None),
                    Refreshed::Held { why } => ("held", Some(why), None),
                    Refreshed::Changed(outcome) => ("refreshed", None, Some(outcome)),
                };
                let changes = outcome.map(|outcome| changed(outcome, manner, Vec::new()));
                Ok(Reply::Refreshed {
                    name,
                    state: state.to_owned(),
                    why,
                    changes: changes.unwrap_or(Changed {
                        dry_run: manner.dry_run,
                        ..Changed::default()
                    }),
                })
            }
            Request::AcceptFeed {
                name,
                digest,
                manner,
            } => {
                let outcome = feeds.accept(&name, digest, of(manner))?;
                Ok(Reply::Changed(changed(outcome, manner, Vec::new())))
            }
            Request::PauseFeed { name, paused } => {
                Ok(Reply::Feed(Box::new(feeds.pause(&name, paused)?)))
            }
            Request::AddFeed { definition } => Ok(Reply::Feed(Box::new(feeds.add(*definition)?))),
            Request::RemoveFeed { name } => {
                let outcome = feeds.remove(&name)?;
                Ok(Reply::Changed(changed(
                    outcome,
                    Manner::default(),
                    Vec::new(),
                )))
            }
            // Answered elsewhere.
            _ => Ok(Reply::Error {
                message: "is no request about feeds".to_owned(),
            }),
        }
    }
}

fn of(manner: Manner) -> source::Manner {
    source::Manner {
        dry_run: manner.dry_run,
        confirm: confirm(manner),
        accept: false,
    }
}
