//! Entries of lists: what is stored, claimed and shown of one, and the lists' names.

use datapath::{Claim, ListId};
use ipnet::IpNet;
use proxy_common::Mode;

use crate::{
    lists::ListError,
    state::{Clock, Ending, Stored},
};

/// One entry as shown to operators.
#[derive(Clone, Debug, serde::Serialize, serde::Deserialize)]
pub(crate) struct Entry {
    pub(crate) list: String,
    pub(crate) prefix: IpNet,
    pub(crate) trusted: bool,
    /// Milliseconds since the epoch; of the configuration's entries, the daemon's start.
    pub(crate) added_ms: u64,
    /// Milliseconds since the epoch; `None` for good.
    pub(crate) until_ms: Option<u64>,
    /// Milliseconds left.
    pub(crate) left_ms: Option<u64>,
    pub(crate) reason: Option<String>,
}

/// Names of lists, whether each is one of trusted prefixes, and which only watch.
#[derive(Default)]
pub(crate) struct Names {
    lists: Vec<(String, bool)>,
    monitored: Vec<String>,
}

impl Names {
    /// No lists yet; those of these names will only watch.
    pub(crate) fn watching(monitored: &[String]) -> Self {
        Self {
            lists: Vec::new(),
            monitored: monitored.to_vec(),
        }
    }

    /// Whether what is on a list is dropped.
    pub(crate) fn mode(&self, id: ListId) -> Mode {
        if self.monitored.iter().any(|name| name == self.name(id)) {
            Mode::Monitor
        } else {
            Mode::Enforce
        }
    }

    /// Names and kinds, in the order of their ids.
    pub(crate) fn iter(&self) -> impl Iterator<Item = &(String, bool)> {
        self.lists.iter()
    }

    pub(crate) fn find(&self, name: &str) -> Option<ListId> {
        let index = self.lists.iter().position(|(known, _)| known == name)?;
        ListId::try_from(index).ok()
    }

    /// The list of this name, if there is one. One of the other kind is an error.
    pub(crate) fn find_kind(&self, name: &str, trusted: bool) -> Result<Option<ListId>, ListError> {
        let found = self.find(name);
        if found.is_some_and(|id| self.lists[usize::from(id)].1 != trusted) {
            return Err(ListError::OtherKind {
                list: name.to_owned(),
                trusted: !trusted,
            });
        }
        Ok(found)
    }

    pub(crate) fn find_or_add(&mut self, name: &str, trusted: bool) -> Result<ListId, ListError> {
        if let Some(id) = self.find_kind(name, trusted)? {
            return Ok(id);
        }
        let id = ListId::try_from(self.lists.len()).map_err(|_| ListError::TooMany)?;
        self.lists.push((name.to_owned(), trusted));
        Ok(id)
    }

    pub(crate) fn name(&self, id: ListId) -> &str {
        &self.lists[usize::from(id)].0
    }
}

/// What an entry becomes when it is added again: it ends later or as before, never sooner, and
/// keeps the words of the first time unless new ones were given.
pub(crate) fn extended(before: Option<&Stored>, fresh: &Stored, clock: &Clock) -> Stored {
    let Some(before) = before else {
        return fresh.clone();
    };
    let ending = match (&before.ending, &fresh.ending) {
        (Some(old), Some(new)) if old.boot_ns(clock) >= new.boot_ns(clock) => Some(old.clone()),
        (Some(_), new) => new.clone(),
        (None, _) => None,
    };
    Stored {
        ending,
        reason: fresh.reason.clone().or_else(|| before.reason.clone()),
        ..before.clone()
    }
}

pub(crate) fn claim(trusted: bool, mode: Mode, ending: Option<&Ending>, clock: &Clock) -> Claim {
    if trusted {
        Claim::Trusted
    } else {
        Claim::Blocked {
            until_ns: ending.map(|ending| ending.boot_ns(clock)),
            mode,
        }
    }
}

pub(crate) fn entry(list: &str, prefix: IpNet, stored: &Stored, clock: &Clock) -> Entry {
    let left_ns = stored
        .ending
        .as_ref()
        .map(|ending| ending.boot_ns(clock).saturating_sub(clock.boot_ns));
    Entry {
        list: list.to_owned(),
        prefix,
        trusted: stored.trusted,
        added_ms: stored.added_ms,
        until_ms: stored.ending.as_ref().map(|ending| ending.unix_ms),
        left_ms: left_ns.map(|left_ns| left_ns / 1_000_000),
        reason: stored.reason.clone(),
    }
}
