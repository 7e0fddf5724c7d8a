//! What is asked of the lists, and what became of it.

use std::time::Duration;

use ipnet::IpNet;
use proxy_common::Mode;

use super::{ListError, change::Edit};
use crate::state::Document;

/// Shortest prefixes that are added without being asked again.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Widest {
    pub(crate) v4: u8,
    pub(crate) v6: u8,
}

impl Widest {
    /// Refuses the first prefix that is wider.
    pub(crate) fn check<'a>(
        self,
        prefixes: impl Iterator<Item = &'a IpNet>,
    ) -> Result<(), ListError> {
        for prefix in prefixes {
            let floor = match prefix {
                IpNet::V4(_) => self.v4,
                IpNet::V6(_) => self.v6,
            };
            if prefix.prefix_len() < floor {
                let prefix = *prefix;
                return Err(ListError::TooWide { prefix, floor });
            }
        }
        Ok(())
    }
}

/// What to put on a list.
#[derive(Debug)]
pub(crate) struct Addition<'a> {
    pub(crate) list: &'a str,
    pub(crate) trusted: bool,
    /// Each prefix once, and for how long; for good where it is `None`.
    pub(crate) entries: &'a [(IpNet, Option<Duration>)],
    pub(crate) reason: Option<String>,
    /// Those that are meant although they cover what keeps the host reachable.
    pub(crate) force: &'a [IpNet],
    /// At least twice as long as the last time, of prefixes that were banned before.
    pub(crate) escalate: bool,
    /// It reverts by itself when nobody confirms it for so long.
    pub(crate) confirm: Option<Duration>,
}

/// What to take off a list.
#[derive(Debug)]
pub(crate) struct Removal<'a> {
    pub(crate) list: &'a str,
    pub(crate) prefixes: &'a [IpNet],
    /// As of an addition.
    pub(crate) confirm: Option<Duration>,
}

/// An entry as a source names it.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Sourced {
    pub(crate) prefix: IpNet,
    /// Where in the source, counted from 1.
    pub(crate) line: u32,
    /// How long the source lets it last; as long as the list says where it says nothing.
    pub(crate) lasts: Option<Duration>,
}

/// What a list's source says now.
#[derive(Debug)]
pub(crate) struct Refresh<'a> {
    pub(crate) list: &'a str,
    pub(crate) entries: &'a [Sourced],
    /// How long an entry stays that the source doesn't name any more; `None` for not at all.
    pub(crate) ttl: Option<Duration>,
    /// Documents that are stored with it.
    pub(crate) documents: Vec<Document>,
    /// As of an addition.
    pub(crate) confirm: Option<Duration>,
}

/// What a change did, or would do.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Outcome {
    pub(crate) added: usize,
    /// There were entries, and they came out different.
    pub(crate) changed: usize,
    pub(crate) removed: usize,
    pub(crate) unchanged: usize,
    /// Under which it can be confirmed.
    pub(crate) pending: Option<u64>,
}

impl Outcome {
    pub(super) fn of(edits: &[Edit], asked: usize) -> Self {
        let mut outcome = Self::default();
        for edit in edits {
            match (edit.before, edit.after) {
                (None, _) => outcome.added += 1,
                (_, None) => outcome.removed += 1,
                _ => outcome.changed += 1,
            }
        }
        outcome.unchanged = asked.saturating_sub(edits.len());
        outcome
    }

    /// Entries that came out different.
    pub(crate) fn touched(&self) -> usize {
        self.added + self.changed + self.removed
    }
}

/// A list as the status shows it.
pub(crate) struct ListSize {
    pub(crate) list: String,
    pub(crate) trusted: bool,
    pub(crate) mode: Mode,
    pub(crate) entries: usize,
}
