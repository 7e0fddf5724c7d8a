//! What operators look at.

use std::net::IpAddr;

use datapath::{ListId, Standing};
use ipnet::IpNet;
use proxy_common::Mode;
use serde::{Deserialize, Serialize};

use super::{
    ListSize, Lists,
    entry::{Entry, entry},
};
use crate::state::Clock;

/// Which entries to show.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub(crate) struct Filter {
    /// Only of this list.
    pub(crate) list: Option<String>,
    /// Only of trusted prefixes, or only of blocked ones.
    pub(crate) trusted: Option<bool>,
    /// Only those that lie in it.
    pub(crate) within: Option<IpNet>,
    /// Only those that end, or only those that don't.
    pub(crate) timed: Option<bool>,
    /// Only those whose reason has this text in it.
    pub(crate) reason: Option<String>,
}

impl Filter {
    fn takes(&self, entry: &Entry) -> bool {
        let within = |net: &IpNet| net.contains(&entry.prefix);
        let reasoned = |text: &String| {
            let reason = entry.reason.as_ref();
            reason.is_some_and(|reason| reason.contains(text))
        };
        self.within.as_ref().is_none_or(within)
            && self
                .timed
                .is_none_or(|timed| timed == entry.until_ms.is_some())
            && self.reason.as_ref().is_none_or(reasoned)
    }
}

/// Behind which entry a page begins.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Place {
    pub(crate) list: String,
    pub(crate) prefix: IpNet,
}

/// An entry, its list's mode, and its line in the list's source.
type Covering = (Entry, Mode, Option<u32>);

/// Entries, and where the rest begins.
#[derive(Debug)]
pub(crate) struct Page {
    pub(crate) entries: Vec<Entry>,
    pub(crate) rest: Option<Place>,
}

impl Lists {
    /// Up to `most` entries behind a place, ordered by list, family, address and length.
    pub(crate) fn page(&self, filter: &Filter, after: Option<&Place>, most: usize) -> Page {
        let writer = self.writer();
        let clock = Clock::now();
        let mut lists: Vec<(&str, ListId)> = writer
            .names
            .iter()
            .filter(|(_, name)| filter.trusted.is_none_or(|it| it == name.trusted))
            .map(|(list, name)| (name.name.as_str(), list))
            .filter(|(name, _)| filter.list.as_ref().is_none_or(|it| it == name))
            .filter(|(name, _)| after.is_none_or(|after| *name >= after.list.as_str()))
            .collect();
        lists.sort_unstable();
        let truth = self.truth();
        let mut entries: Vec<Entry> = Vec::new();
        for (name, list) in lists {
            let behind = after.filter(|after| after.list == name);
            for (prefix, noted) in truth.of_list(list, behind.map(|after| after.prefix)) {
                let Some(stored) = writer.notes.get(noted.note) else {
                    continue;
                };
                let entry = entry(name, prefix, stored, &clock);
                if !filter.takes(&entry) {
                    continue;
                }
                if entries.len() == most {
                    let rest = entries.last().map(|last| Place {
                        list: last.list.clone(),
                        prefix: last.prefix,
                    });
                    return Page { entries, rest };
                }
                entries.push(entry);
            }
        }
        let rest = None;
        Page { entries, rest }
    }

    /// What the lists say of an address, and every entry that covers it: its list's mode, and the
    /// line of the list's source.
    pub(crate) fn covering(&self, address: IpAddr) -> (Standing, Vec<Covering>) {
        let writer = self.writer();
        let truth = self.truth();
        let clock = Clock::now();
        let covering = truth
            .covering(address)
            .into_iter()
            .filter_map(|(prefix, list, noted)| {
                let stored = writer.notes.get(noted.note)?;
                let entry = entry(writer.names.name(list), prefix, stored, &clock);
                let lines = writer.lines.get(&list);
                let line = lines.and_then(|lines| lines.of(prefix));
                Some((entry, writer.names.mode(list), line))
            })
            .collect();
        (truth.standing(address, clock.boot_ns), covering)
    }

    /// What the lists say of an address, and every entry that covers it.
    pub(crate) fn test(&self, address: IpAddr) -> (Standing, Vec<Entry>) {
        let (standing, covering) = self.covering(address);
        let entries = covering.into_iter().map(|(entry, ..)| entry);
        (standing, entries.collect())
    }

    /// Names of the lists that cover an address.
    pub(crate) fn names_covering(&self, address: IpAddr) -> Vec<String> {
        let covering = self.truth().covering(address);
        let writer = self.writer();
        let mut names = Vec::new();
        for (_, list, _) in covering {
            let name = writer.names.name(list).to_owned();
            if !names.contains(&name) {
                names.push(name);
            }
        }
        names
    }

    /// Lists: name, whether trusted, mode, number of entries.
    pub(crate) fn sizes(&self) -> Vec<ListSize> {
        let writer = self.writer();
        writer
            .names
            .iter()
            .map(|(list, name)| ListSize {
                list: name.name.clone(),
                trusted: name.trusted,
                mode: name.mode,
                entries: writer.count(list),
            })
            .collect()
    }
}
