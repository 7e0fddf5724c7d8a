//! The lists as a start finds them: those of the configuration and those of the state.

use std::{
    collections::{BTreeSet, HashMap},
    sync::{Mutex, RwLock},
};

use datapath::{ListId, Noted, Truth};
use ipnet::IpNet;

use super::{
    ALLOW, CONFIG_BLOCKED, CONFIG_TRUSTED, ListError, Lists, MANUAL, Writer, confirm,
    entry::{Names, Owner, claim},
    escalate::History,
    lines::Lines,
    notes::Notes,
};
use crate::state::{Clock, Found, State, Stored};

/// Lists that the configuration makes.
#[derive(Debug, Default)]
pub(crate) struct Configured<'a> {
    pub(crate) trusted: &'a [IpNet],
    pub(crate) blocked: &'a [IpNet],
    /// Of `blocked`, those that are meant although they cover what keeps the host reachable.
    pub(crate) forced: &'a [IpNet],
    /// Names of lists that only watch.
    pub(crate) monitored: &'a [String],
    /// Names of lists that have a source, and whether they hold trusted prefixes.
    pub(crate) feeds: Vec<(String, bool)>,
}

impl Lists {
    /// The lists of the configuration and of the state, before any kernel side.
    pub(crate) fn load(
        state: State,
        found: Found,
        configured: &Configured<'_>,
    ) -> Result<Self, ListError> {
        let clock = Clock::now();
        let mut writer = Writer {
            names: Names::watching(configured.monitored),
            notes: Notes::default(),
            lines: HashMap::new(),
            rows: HashMap::new(),
            counts: HashMap::new(),
            forced: BTreeSet::new(),
            pending: confirm::load(&state)?,
            history: History::load(&state, &clock)?,
            datapath: None,
            state,
        };
        let mut claims = writer.configure(configured, &clock)?;
        for (name, content) in found.contents {
            // A list of nothing has no kind, and needs none.
            let Some(first) = content.notes.first() else {
                continue;
            };
            let list = writer.names.find_or_add(&name, first.trusted)?;
            let lines = Lines::new(
                content
                    .items
                    .iter()
                    .filter(|item| item.line > 0)
                    .map(|item| (item.prefix, item.line)),
            );
            if !lines.is_empty() {
                writer.lines.insert(list, lines);
            }
            let mode = writer.names.mode(list);
            let noted: Vec<Noted> = content
                .notes
                .into_iter()
                .map(|stored| Noted {
                    claim: claim(&stored, mode, &clock),
                    note: writer.notes.intern(stored),
                })
                .collect();
            let items = content.items.iter();
            claims.extend(items.filter_map(|item| {
                let noted = noted.get(item.note as usize)?;
                Some((item.prefix, list, Some(*noted)))
            }));
        }
        for (name, prefix, stored) in found.entries {
            let list = match &stored {
                Some(stored) => writer.names.find_or_add(&name, stored.trusted)?,
                None => match writer.names.find(&name) {
                    Some(list) => list,
                    None => continue,
                },
            };
            *writer.rows.entry(list).or_default() += 1;
            let note = stored.map(|stored| writer.notes.intern(stored));
            claims.push((prefix, list, writer.noted(list, note, &clock)));
        }
        let truth = Truth::default().with(claims);
        for (prefix, list, noted) in truth.claims() {
            *writer.counts.entry(list).or_default() += 1;
            let stored = writer.notes.get(noted.note);
            if stored.is_some_and(|stored| stored.forced && !stored.trusted) {
                writer.forced.insert((list, prefix));
            }
        }
        Ok(Self {
            truth: RwLock::new(truth),
            writer: Mutex::new(writer),
        })
    }
}

impl Writer {
    /// Makes the configuration's lists; returns what they claim.
    fn configure(
        &mut self,
        configured: &Configured<'_>,
        clock: &Clock,
    ) -> Result<Vec<(IpNet, ListId, Option<Noted>)>, ListError> {
        // `allow add` and `block add` must find their lists to be of their kind.
        self.names.find_or_add(ALLOW, true)?;
        self.names.find_or_add(MANUAL, false)?;
        let mut claims = Vec::new();
        for (name, prefixes, trusted) in [
            (CONFIG_TRUSTED, configured.trusted, true),
            (CONFIG_BLOCKED, configured.blocked, false),
        ] {
            let list = self.names.find_or_add(name, trusted)?;
            self.names.own(list, Owner::Config);
            for prefix in prefixes {
                let note = self.notes.intern(Stored {
                    trusted,
                    added_ms: clock.unix_ms,
                    ending: None,
                    reason: None,
                    forced: configured.forced.contains(prefix),
                });
                claims.push((*prefix, list, self.noted(list, Some(note), clock)));
            }
        }
        for (name, trusted) in &configured.feeds {
            let list = self.names.find_or_add(name, *trusted)?;
            self.names.own(list, Owner::Feed);
        }
        Ok(claims)
    }
}
