//! Entries of lists: what is claimed and shown of one, and the lists' names.

use datapath::{Claim, ListId};
use ipnet::IpNet;
use proxy_common::Mode;

use super::ListError;
use crate::state::{Clock, Ending, Stored};

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

/// A list: its name, whether it is one of trusted prefixes, and what becomes of what it blocks.
#[derive(Clone, Debug)]
pub(super) struct Name {
    pub(super) name: String,
    pub(super) trusted: bool,
    pub(super) mode: Mode,
    pub(super) owner: Owner,
}

/// Who says what is on a list.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Owner {
    /// Whoever uses the admin socket.
    Operator,
    /// The configuration file.
    Config,
    /// A source that is read again and again.
    Feed,
    /// This host as it stands.
    Host,
}

/// Names of lists, by their number.
#[derive(Default)]
pub(super) struct Names {
    lists: Vec<Name>,
    monitored: Vec<String>,
}

impl Names {
    /// No lists yet; those of these names will only watch.
    pub(super) fn watching(monitored: &[String]) -> Self {
        Self {
            lists: Vec::new(),
            monitored: monitored.to_vec(),
        }
    }

    /// Whether what is on a list is dropped.
    pub(super) fn mode(&self, id: ListId) -> Mode {
        self.lists[usize::from(id)].mode
    }

    pub(super) fn owner(&self, id: ListId) -> Owner {
        self.lists[usize::from(id)].owner
    }

    pub(super) fn own(&mut self, id: ListId, owner: Owner) {
        self.lists[usize::from(id)].owner = owner;
    }

    /// For a list without entries: theirs would keep the mode they came with.
    pub(super) fn set_mode(&mut self, id: ListId, mode: Mode) {
        self.lists[usize::from(id)].mode = mode;
    }

    pub(super) fn trusted(&self, id: ListId) -> bool {
        self.lists[usize::from(id)].trusted
    }

    /// In the order of their numbers.
    pub(super) fn iter(&self) -> impl Iterator<Item = (ListId, &Name)> {
        (0..).zip(&self.lists)
    }

    pub(super) fn find(&self, name: &str) -> Option<ListId> {
        let index = self.lists.iter().position(|known| known.name == name)?;
        ListId::try_from(index).ok()
    }

    /// The list of this name, if there is one. One of the other kind is an error.
    pub(super) fn find_kind(&self, name: &str, trusted: bool) -> Result<Option<ListId>, ListError> {
        let found = self.find(name);
        if found.is_some_and(|id| self.trusted(id) != trusted) {
            return Err(ListError::OtherKind {
                list: name.to_owned(),
                trusted: !trusted,
            });
        }
        Ok(found)
    }

    pub(super) fn find_or_add(&mut self, name: &str, trusted: bool) -> Result<ListId, ListError> {
        if let Some(id) = self.find_kind(name, trusted)? {
            return Ok(id);
        }
        let id = ListId::try_from(self.lists.len()).map_err(|_| ListError::TooMany)?;
        let watches = self.monitored.iter().any(|monitored| monitored == name);
        self.lists.push(Name {
            name: name.to_owned(),
            trusted,
            mode: if watches {
                Mode::Monitor
            } else {
                Mode::Enforce
            },
            owner: Owner::Operator,
        });
        Ok(id)
    }

    pub(super) fn name(&self, id: ListId) -> &str {
        &self.lists[usize::from(id)].name
    }
}

/// What an entry becomes when it is added again: it ends later or as before, never sooner, and
/// keeps the words of the first time unless new ones were given.
pub(super) fn extended(before: Option<&Stored>, fresh: &Stored, clock: &Clock) -> Stored {
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
        forced: fresh.forced || before.forced,
        ..before.clone()
    }
}

pub(super) fn claim(stored: &Stored, mode: Mode, clock: &Clock) -> Claim {
    if stored.trusted {
        return Claim::Trusted;
    }
    let ending = stored.ending.as_ref();
    Claim::Blocked {
        until_ns: ending.map(|ending| ending.boot_ns(clock)),
        mode,
    }
}

pub(super) fn entry(list: &str, prefix: IpNet, stored: &Stored, clock: &Clock) -> Entry {
    let ending = stored.ending.as_ref();
    Entry {
        list: list.to_owned(),
        prefix,
        trusted: stored.trusted,
        added_ms: stored.added_ms,
        until_ms: ending.map(|ending: &Ending| ending.unix_ms),
        left_ms: ending.map(|ending| ending.left_ms(clock)),
        reason: stored.reason.clone(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_list_too_many_is_refused_with_how_many_there_can_be() {
        let mut names = Names::default();
        for number in 0..=ListId::MAX {
            names.lists.push(Name {
                name: format!("list-{number}"),
                trusted: false,
                mode: Mode::Enforce,
                owner: Owner::Operator,
            });
        }
        let last = names.find_or_add("list-65535", false);
        assert_eq!(last.expect("one of those"), ListId::MAX);
        let refused = names.find_or_add("one more", false).expect_err("refused");
        assert_eq!(
            refused.to_string(),
            "there are too many lists; at most 65536 can exist"
        );
    }
}
